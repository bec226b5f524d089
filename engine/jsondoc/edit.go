package jsondoc

import "errors"

// Op is what an Edit does.
type Op uint8

// What an edit does to the value at its place.
const (
	Replace Op = iota // Value takes its place
	Delete            // it goes, with its name; never the whole document
	Splice            // of an array: elements From up to but not To go, and the N elements of Value come before From
	Trim              // of an array: only the elements From up to but not To stay
	Add               // of an object: a member Name with Value comes last; there is none of that name
	Merge             // Value is applied to it as a merge patch of RFC 7396
)

// An Edit is one change of a value in a document.
type Edit struct {
	At       int
	Op       Op
	Value    []byte // a value; of Splice N values one after the other, which may be none
	Name     []byte
	From, To int
	N        int

	// Took is, after a Splice with Take, a copy of the element at From as it went: after the edits within it.
	Take bool
	Took Doc
}

// ErrSize is the error of a document that would become larger than it may.
var ErrSize = errors.New("the document would be too large")

// Edit appends to dst the document as edits leave it, in one pass. They are ordered by place, and no two have the same
// one. Those within a value that is replaced, deleted or cut out have no effect; those within a value that is merged,
// spliced or trimmed come before.
//
// It answers ErrSize when the document would have more than most bytes, and ErrDepth.
func (d Doc) Edit(dst []byte, edits []Edit, most int) (Doc, error) {
	e := editor{d: d, edits: edits, dst: dst, most: len(dst) + most}
	if err := e.value(0, 0); err != nil {
		return nil, err
	}
	if len(e.dst) > e.most {
		return nil, ErrSize
	}
	return e.dst, nil
}

// An editor writes a document anew. edits are those to come.
type editor struct {
	d     Doc
	edits []Edit
	dst   []byte
	most  int
	extra int // bytes that are written twice, since what they are in is merged
}

// extraMost is how many times the most bytes of a document may be written twice: a document may lie so deep that each
// of its levels is merged.
const extraMost = 4

// next returns the edit of the value at a place, if it has one.
func (e *editor) next(at int) *Edit {
	if len(e.edits) == 0 || e.edits[0].At != at {
		return nil
	}
	own := &e.edits[0]
	e.edits = e.edits[1:]
	return own
}

// skip passes over the edits before end.
func (e *editor) skip(end int) {
	for len(e.edits) > 0 && e.edits[0].At < end {
		e.edits = e.edits[1:]
	}
}

// keep appends a value of the document where it was.
func (e *editor) keep(b Doc) error {
	if len(e.dst)+len(b) > e.most {
		return ErrSize
	}
	e.dst = append(e.dst, b...)
	return nil
}

// put appends n new values, one after the other in b, which are to lie in depth containers.
func (e *editor) put(b Doc, n, depth int) error {
	for at := 0; n > 0; n-- {
		if depth+b.Depth(at) > MaxDepth {
			return ErrDepth
		}
		at = b.End(at)
	}
	return e.keep(b)
}

// finish ends a container that was begun at a place.
func (e *editor) finish(began int, kind Kind, n int) error {
	if e.dst = finish(e.dst, began, kind, n); len(e.dst) > e.most {
		return ErrSize
	}
	return nil
}

// value writes the value at a place, which lies in depth containers.
func (e *editor) value(at, depth int) error {
	h := e.d.head(at)
	own := e.next(at)
	switch {
	case own != nil && own.Op == Replace:
		e.skip(h.end)
		return e.put(own.Value, 1, depth)
	case own != nil && own.Op == Merge:
		return e.merge(own, at, depth)
	case own == nil && (len(e.edits) == 0 || e.edits[0].At >= h.end):
		return e.keep(e.d[at:h.end])
	}
	return e.container(own, at, h, depth)
}

// container writes an array or object some of whose children change, or which itself does by own.
func (e *editor) container(own *Edit, at int, h head, depth int) error {
	if own == nil {
		own = &Edit{From: -1}
	}
	began, n, i := len(e.dst), 0, 0
	e.dst = begin(e.dst)
	for c := e.d.Children(at); ; i++ {
		if own.Op == Splice && i == own.From {
			if err := e.put(own.Value, own.N, depth+1); err != nil {
				return err
			}
			n += own.N
		}
		name, child, ok := c.Next()
		if !ok {
			break
		}
		if own.Op == Splice && own.From <= i && i < own.To {
			if err := e.cut(own, child, i, depth+1); err != nil {
				return err
			}
			continue
		}
		if own.Op == Trim && (i < own.From || own.To <= i) || len(e.edits) > 0 && e.edits[0].At == child && e.edits[0].Op == Delete {
			e.skip(c.next)
			continue
		}
		if h.kind == Object {
			e.dst = appendName(e.dst, name)
		}
		if err := e.value(child, depth+1); err != nil {
			return err
		}
		n++
	}
	if own.Op == Add {
		e.dst = appendName(e.dst, own.Name)
		if err := e.put(own.Value, 1, depth+1); err != nil {
			return err
		}
		n++
	}
	return e.finish(began, h.kind, n)
}

// cut passes over an element, and keeps it where own says so.
func (e *editor) cut(own *Edit, child, i, depth int) error {
	if !own.Take || i != own.From {
		e.skip(e.d.End(child))
		return nil
	}
	before := len(e.dst)
	if err := e.value(child, depth); err != nil {
		return err
	}
	own.Took = append(Doc(nil), e.dst[before:]...)
	e.dst = e.dst[:before]
	return nil
}

// merge writes what own's patch makes of the value at a place, after the edits within it.
func (e *editor) merge(own *Edit, at, depth int) error {
	target, from := e.d, at
	end := e.d.End(at)
	if len(e.edits) > 0 && e.edits[0].At < end {
		before := len(e.dst)
		if err := e.container(nil, at, e.d.head(at), depth); err != nil {
			return err
		}
		if e.extra += len(e.dst) - before; e.extra/extraMost > e.most {
			return ErrSize
		}
		target, from = append(Doc(nil), e.dst[before:]...), 0
		e.dst = e.dst[:before]
	}
	return e.patch(target, from, own.Value, 0, depth)
}

// patch writes what the patch at p of by makes of the value at a place of target; a place of -1 is no value.
func (e *editor) patch(target Doc, at int, by Doc, p, depth int) error {
	if by.Kind(p) != Object {
		return e.put(by.Value(p), 1, depth)
	}
	if depth >= MaxDepth {
		return ErrDepth
	}
	began, n := len(e.dst), 0
	e.dst = begin(e.dst)
	lookup := by.index(p)
	done := make([]bool, by.Len(p))
	if at >= 0 && target.Kind(at) == Object {
		for c := target.Children(at); ; {
			name, child, ok := c.Next()
			if !ok {
				break
			}
			i, value, patched := lookup.find(name)
			if patched {
				done[i] = true
			}
			if patched && by.Kind(value) == Null {
				continue
			}
			e.dst = appendName(e.dst, name)
			n++
			var err error
			if patched {
				err = e.patch(target, child, by, value, depth+1)
			} else {
				err = e.keep(target.Value(child))
			}
			if err != nil {
				return err
			}
		}
	}
	i := 0
	for c := by.Children(p); ; i++ {
		name, value, ok := c.Next()
		if !ok {
			break
		}
		if done[i] || by.Kind(value) == Null {
			continue
		}
		e.dst = appendName(e.dst, name)
		n++
		if err := e.patch(nil, -1, by, value, depth+1); err != nil {
			return err
		}
	}
	return e.finish(began, Object, n)
}

// An index finds members by name: a few one by one, many with a map, of which nothing but look-ups shows.
type index struct {
	d      Doc
	at     int
	places map[string]indexed
}

type indexed struct{ i, value int }

func (d Doc) index(at int) index {
	x := index{d: d, at: at}
	if d.Len(at) <= fewNames {
		return x
	}
	x.places = make(map[string]indexed, d.Len(at))
	i := 0
	for c := d.Children(at); ; i++ {
		name, value, ok := c.Next()
		if !ok {
			return x
		}
		x.places[string(name)] = indexed{i, value}
	}
}

func (x *index) find(name []byte) (i, value int, ok bool) {
	if x.places != nil {
		found, ok := x.places[string(name)]
		return found.i, found.value, ok
	}
	for c := x.d.Children(x.at); ; i++ {
		have, value, more := c.Next()
		if !more {
			return 0, 0, false
		}
		if string(have) == string(name) {
			return i, value, true
		}
	}
}
