package jsonpath

import (
	"errors"
	"unicode/utf8"

	"github.com/larder-cache/larder/engine/jsondoc"
)

// ErrSteps is the error of a path that would take more steps than it may.
var ErrSteps = errors.New("too many steps")

// Find appends to dst the places of the values that the path selects in a document, in the order of RFC 9535; a place
// may come more than once. It takes from steps one for each value that is looked at, and more where looking takes
// longer; with none left, or with more than MaxPlaces, it gives up with ErrSteps.
func (p *Path) Find(dst []uint32, d jsondoc.Doc, steps *int) ([]uint32, error) {
	return p.FindSlowly(dst, d, steps, nil)
}

// FindSlowly is Find that tells taken of each few steps, for who wants to let others in meanwhile; nil for nobody.
func (p *Path) FindSlowly(dst []uint32, d jsondoc.Doc, steps *int, taken func(steps int)) ([]uint32, error) {
	f := finder{d: d, left: *steps, taken: taken}
	f.walk(p.segments, 0, func(at int) bool {
		if len(dst) == MaxPlaces {
			f.left = -1
			return false
		}
		dst = append(dst, uint32(at))
		return true
	})
	if *steps = f.left; f.left < 0 {
		return nil, ErrSteps
	}
	return dst, nil
}

// First is Find for the first place alone.
func (p *Path) First(d jsondoc.Doc, steps *int) (at int, ok bool, err error) {
	return p.FirstSlowly(d, steps, nil)
}

// FirstSlowly is to First what FindSlowly is to Find.
func (p *Path) FirstSlowly(d jsondoc.Doc, steps *int, taken func(steps int)) (at int, ok bool, err error) {
	f := finder{d: d, left: *steps, taken: taken}
	f.walk(p.segments, 0, func(found int) bool {
		at, ok = found, true
		return false
	})
	if *steps = f.left; f.left < 0 {
		return 0, false, ErrSteps
	}
	return at, ok, nil
}

// A finder walks one document. left is how many steps it may still take; below 0 it stops.
type finder struct {
	d        jsondoc.Doc
	left     int
	taken    func(steps int)
	patterns map[string]program // by how they match and their text
}

// step counts n steps and says whether to go on.
func (f *finder) step(n int) bool {
	f.left -= n
	if f.taken != nil {
		f.taken(n)
	}
	return f.left >= 0
}

// walk calls found with each value that segments select beginning at a place, for as long as it says so, and says
// whether it always did. It calls itself no deeper than the document is, and once more for each segment.
func (f *finder) walk(segments []segment, at int, found func(at int) bool) bool {
	if len(segments) == 0 {
		return f.step(1) && found(at)
	}
	next := func(at int) bool { return f.walk(segments[1:], at, found) }
	if segments[0].deep {
		return f.descend(segments[0].selectors, at, next)
	}
	return f.selected(segments[0].selectors, at, next)
}

// descend selects from a value and then from each of its descendants.
func (f *finder) descend(selectors []selector, at int, found func(at int) bool) bool {
	if f.d.Kind(at) < jsondoc.Array {
		return f.step(1)
	}
	if !f.selected(selectors, at, found) {
		return false
	}
	for c := f.d.Children(at); ; {
		_, child, ok := c.Next()
		if !ok {
			return true
		}
		if !f.descend(selectors, child, found) {
			return false
		}
	}
}

// looks is how many values the document can be looked through for in the time of one step.
const looks = 8

func (f *finder) selected(selectors []selector, at int, found func(at int) bool) bool {
	for i := range selectors {
		s := &selectors[i]
		more := f.step(1)
		switch kind := f.d.Kind(at); {
		case !more || kind < jsondoc.Array:
		case s.kind == byName:
			if kind != jsondoc.Object {
				continue
			}
			more = f.step(f.d.Len(at) / looks)
			if child, ok := f.d.Member(at, s.name); ok && more {
				more = found(child)
			}
		case s.kind == byIndex:
			more = f.step(f.d.Len(at) / looks)
			if child, ok := f.d.Element(at, s.index); ok && more {
				more = found(child)
			}
		case s.kind == bySlice:
			more = kind != jsondoc.Array || f.sliced(s.slice, at, found)
		default:
			more = f.children(s, at, found)
		}
		if !more {
			return false
		}
	}
	return true
}

// children selects those of a container that a wildcard or a filter lets through.
func (f *finder) children(s *selector, at int, found func(at int) bool) bool {
	for c := f.d.Children(at); ; {
		_, child, ok := c.Next()
		if !ok {
			return true
		}
		if !f.step(1) {
			return false
		}
		if (s.kind == byWildcard || f.holds(s.filter, child)) && (f.left < 0 || !found(child)) {
			return false
		}
	}
}

func (f *finder) sliced(s slice, at int, found func(at int) bool) bool {
	n := int64(f.d.Len(at))
	lower, upper := s.bounds(n)
	if s.step == 0 || lower >= upper {
		return true
	}
	if s.step < 0 {
		return f.backwards(s.step, lower, upper, at, found)
	}
	i := int64(0)
	for c := f.d.Children(at); i < upper; i++ {
		_, child, ok := c.Next()
		if !ok {
			break
		}
		if i < lower || (i-lower)%s.step != 0 {
			if i%looks == 0 && !f.step(1) {
				return false
			}
			continue
		}
		if !f.step(1) || !found(child) {
			return false
		}
	}
	return true
}

// backwards selects upper, upper+step, … down to but not lower. An array is read forwards only, so its places are
// noted first: four bytes each, which its elements have taken at least one of each.
func (f *finder) backwards(step, lower, upper int64, at int, found func(at int) bool) bool {
	if !f.step(int(upper)/looks + 1) {
		return false
	}
	places := make([]uint32, 0, upper-max(lower, -1))
	i := int64(0)
	for c := f.d.Children(at); i <= upper; i++ {
		_, child, ok := c.Next()
		if !ok {
			break
		}
		if i > lower {
			places = append(places, uint32(child))
		}
	}
	for i := upper; i > lower; i += step {
		if !f.step(1) || !found(int(places[i-lower-1])) {
			return false
		}
	}
	return true
}

// holds says whether a condition holds for the value at a place.
func (f *finder) holds(l logical, at int) bool {
	if !f.step(1) {
		return false
	}
	switch l := l.(type) {
	case or:
		for _, x := range l {
			if f.holds(x, at) {
				return true
			}
		}
		return false
	case and:
		for _, x := range l {
			if !f.holds(x, at) {
				return false
			}
		}
		return true
	case not:
		return !f.holds(l.what, at)
	case exists:
		_, ok := f.first(l.query, at)
		return ok
	case matching:
		return f.matches(l, at)
	}
	return f.compares(l.(comparison), at)
}

func (f *finder) first(q *query, at int) (found int, ok bool) {
	if q.absolute {
		at = 0
	}
	f.walk(q.segments, at, func(at int) bool {
		found, ok = at, true
		return false
	})
	return found, ok
}

// A value is one in a document; a document of nil is no value.
type value struct {
	d  jsondoc.Doc
	at int
}

func (f *finder) value(t term, at int) value {
	switch t := t.(type) {
	case literal:
		return value{t.d, 0}
	case *query:
		if found, ok := f.first(t, at); ok {
			return value{f.d, found}
		}
		return value{}
	}
	return f.call(t.(*function), at)
}

func (f *finder) call(fn *function, at int) value {
	if fn.name == "length" {
		return f.length(f.value(fn.term, at))
	}
	begin := at
	if fn.query.absolute {
		begin = 0
	}
	n, last := 0, 0
	f.walk(fn.query.segments, begin, func(at int) bool {
		n, last = n+1, at
		return fn.name == "count" || n < 2
	})
	switch {
	case fn.name == "count":
		return value{jsondoc.AppendInt(nil, int64(n)), 0}
	case n == 1:
		return value{f.d, last}
	}
	return value{}
}

// length counts the characters of a string, elements of an array or members of an object.
func (f *finder) length(v value) value {
	if v.d == nil {
		return value{}
	}
	n := v.d.Len(v.at)
	switch v.d.Kind(v.at) {
	case jsondoc.String:
		f.step(n / (8 * looks))
		n = utf8.RuneCount(v.d.Text(v.at))
	case jsondoc.Array, jsondoc.Object:
	default:
		return value{}
	}
	return value{jsondoc.AppendInt(nil, int64(n)), 0}
}

func (f *finder) compares(c comparison, at int) bool {
	left, right := f.value(c.left, at), f.value(c.right, at)
	switch c.op {
	case "==":
		return f.equal(left, right)
	case "!=":
		return !f.equal(left, right)
	case "<":
		return f.less(left, right)
	case ">":
		return f.less(right, left)
	case "<=":
		return f.less(left, right) || f.equal(left, right)
	}
	return f.less(right, left) || f.equal(left, right)
}

func (f *finder) equal(a, b value) bool {
	if a.d == nil || b.d == nil {
		return a.d == nil && b.d == nil
	}
	x, y := a.d.Kind(a.at), b.d.Kind(b.at)
	if x >= jsondoc.String && x == y && !f.step(min(a.d.End(a.at)-a.at, b.d.End(b.at)-b.at)/looks) {
		return false
	}
	return jsondoc.Equal(a.d, a.at, b.d, b.at)
}

func (f *finder) less(a, b value) bool {
	if a.d == nil || b.d == nil {
		return false
	}
	switch x, y := a.d.Kind(a.at), b.d.Kind(b.at); {
	case x == jsondoc.String && y == jsondoc.String:
		s, t := a.d.Text(a.at), b.d.Text(b.at)
		return f.step(min(len(s), len(t))/(8*looks)) && string(s) < string(t)
	case (x == jsondoc.Integer || x == jsondoc.Number) && (y == jsondoc.Integer || y == jsondoc.Number):
		return jsondoc.CompareNumbers(a.d, a.at, b.d, b.at) < 0
	}
	return false
}
