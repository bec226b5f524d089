package engine

import (
	"bytes"
	"cmp"
	"math"
	"slices"
	"strconv"

	"github.com/larder-cache/larder/internal/fault"
)

// SORT orders the elements of a list, a set or a sorted set by number or by bytes: by themselves, or by what lies under keys
// that are made of them. It is bounded, since one call may look up a key for each element: by maxSorted elements, as many
// values in the answer, and sortedBytes bytes of them, for GET may name the same long value for every element.
const (
	maxSorted   = 1_000_000
	sortedBytes = HardMaxValue
)

var (
	sortKeys   = Keys{First: 1, Last: 1, Step: 1, Store: 2}
	sortKinds  = []string{"@set", "@sortedset", "@list", "@slow", "@dangerous"}
	errSortNaN = fault.New(fault.InvalidArgument, "engine.sort", "One or more scores can't be converted into double")
)

var sortCommands = []Command{
	{Name: "SORT", Arity: -2, Keys: sortKeys, Flags: Writes | Grows | Dangerous, Group: GroupKey, Categorized: append([]string{"@write"}, sortKinds...),
		Action: "cache:ListRead", Rights: func(dst []Right, args [][]byte) []Right { return sortRights(dst, args, true) }, Facts: sortFacts, run: func(c *call) error { return sorted(c, true) },
		Usage:   "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]",
		Summary: "Returns or stores the elements of a list, a set or a sorted set in order, or what lies under keys made of them", Complexity: "O(N + M log M) for N elements and an answer of M", Since: "1.0.0"},
	{Name: "SORT_RO", Arity: -2, Keys: oneKey, Flags: Dangerous, Group: GroupKey, Categorized: append([]string{"@read"}, sortKinds...),
		Action: "cache:ListRead", Rights: func(dst []Right, args [][]byte) []Right { return sortRights(dst, args, false) }, Facts: sortFacts, run: func(c *call) error { return sorted(c, false) },
		Usage:   "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]",
		Summary: "Returns the elements of a list, a set or a sorted set in order, or what lies under keys made of them", Complexity: "O(N + M log M) for N elements and an answer of M", Since: "7.0.0"},
}

// sortRights: what the key holds is known only when the command runs, so it takes the right to read each of the types that
// can be sorted. Patterns of BY and GET read keys that the data name, so they take the right to read any key of the cache.
func sortRights(dst []Right, args [][]byte, stores bool) []Right {
	for _, action := range []string{"cache:ListRead", "cache:SetRead", "cache:SortedSetRead"} {
		dst = append(dst, Right{Action: action, On: OnKey, Name: args[1]})
	}
	if stores {
		for _, key := range sortKeys.stored(nil, args) {
			dst = append(dst, Right{Action: "cache:ListWrite", On: OnKey, Name: key})
		}
	}
	for i := 2; i+1 < len(args); i++ {
		if (is(args[i], "BY") || is(args[i], "GET")) && bytes.IndexByte(args[i+1], '*') >= 0 {
			return append(dst, Right{Action: "cache:Get", On: OnKeys}, Right{Action: "cache:HashRead", On: OnKeys})
		}
	}
	return dst
}

func sortFacts(args [][]byte, _ int64) Facts {
	o, err := parseSort(args[2:], true)
	if err != nil || o.limit < 0 || o.limit > math.MaxInt64/o.each() {
		return listing(math.MaxInt64)
	}
	return listing(o.limit * o.each())
}

// sortOptions are what stands after the key.
type sortOptions struct {
	by          []byte // nil: the elements themselves
	unsorted    bool   // BY names no key
	gets        [][]byte
	from, limit int64 // a negative limit is all
	desc, alpha bool
	store       []byte // nil: the answer goes to the client
}

// each is how many values the answer has for each element.
func (o *sortOptions) each() int64 { return int64(max(len(o.gets), 1)) }

func parseSort(args [][]byte, stores bool) (o sortOptions, err error) {
	o.limit = -1
	for ; len(args) > 0; args = args[1:] {
		a, more := args[0], len(args)-1
		switch {
		case is(a, "ASC"):
			o.desc = false
		case is(a, "DESC"):
			o.desc = true
		case is(a, "ALPHA"):
			o.alpha = true
		case is(a, "LIMIT") && more >= 2:
			var ok1, ok2 bool
			o.from, ok1 = parseInt(args[1])
			if o.limit, ok2 = parseInt(args[2]); !ok1 || !ok2 {
				return o, errNotInteger
			}
			args = args[2:]
		case is(a, "STORE") && more >= 1 && stores:
			o.store, args = args[1], args[1:]
		case is(a, "BY") && more >= 1:
			o.by, args = args[1], args[1:]
			o.unsorted = o.unsorted || bytes.IndexByte(o.by, '*') < 0
		case is(a, "GET") && more >= 1:
			o.gets, args = append(o.gets, args[1]), args[1:]
		default:
			return o, errSyntax
		}
	}
	return o, nil
}

// reaches reports whether keys are read that the elements name.
func (o *sortOptions) reaches() bool {
	named := func(pattern []byte) bool { return bytes.IndexByte(pattern, '*') >= 0 }
	return named(o.by) || slices.ContainsFunc(o.gets, named)
}

// span is which of n elements in order the answer has: from <= index < to.
func (o *sortOptions) span(n int) (from, to int) {
	from = int(min(max(o.from, 0), int64(n)))
	if o.limit < 0 {
		return from, n
	}
	return from, from + int(min(o.limit, int64(n-from)))
}

// A sortElement is an element with what it is ordered by.
type sortElement struct {
	text  []byte
	score float64
	by    []byte // with ALPHA
	found bool   // by was found
	at    int32  // where it stood: equals stay in their order
}

func (o *sortOptions) compare(a, b sortElement) (n int) {
	switch {
	case !o.alpha:
		if n = cmp.Compare(a.score, b.score); n == 0 {
			n = bytes.Compare(a.text, b.text)
		}
	case a.found && b.found:
		n = bytes.Compare(a.by, b.by)
	case a.found:
		n = 1
	case b.found:
		n = -1
	}
	if o.desc {
		return -n
	}
	return n
}

// A sorting is a SORT while it runs. Texts are the records' own bytes or lie in arena.
type sorting struct {
	*call
	sortOptions
	elements []sortElement
	arena    []byte
	key      []byte // made of a pattern and an element
}

func sorted(c *call, stores bool) error {
	o, err := parseSort(c.args[2:], stores)
	if err != nil {
		return err
	}
	if c.cache.settings.Split && o.reaches() {
		return errBeyond
	}
	s := &sorting{call: c, sortOptions: o}
	from, to, err := s.load()
	if err != nil {
		return err
	}
	if n := int64(to-from) * s.each(); n > maxSorted {
		return fault.About(fault.TooLarge, c.cmd.Name, "GET", "%s returns at most %d values, these are %d: use LIMIT", c.cmd.Name, maxSorted, n)
	}
	if !s.unsorted {
		if err := s.weigh(); err != nil {
			return err
		}
		for i := range s.elements {
			s.elements[i].at = int32(i)
		}
		slices.SortFunc(s.elements, func(a, b sortElement) int { // a stable sort would move very many at a time, without a rest
			s.step()
			return cmp.Or(s.compare(a, b), int(a.at-b.at))
		})
	}
	values, err := s.values(s.elements[from:to])
	if err != nil {
		return err
	}
	if s.store != nil {
		return s.keepList(values)
	}
	c.out.Array(len(values))
	for _, v := range values {
		c.step()
		if v == nil {
			c.out.Null()
		} else {
			c.out.Bulk(v)
		}
	}
	return nil
}

// load reads the elements of the key, in their own order and as few as it can, and returns which of them the answer has once
// they are sorted.
func (s *sorting) load() (from, to int, err error) {
	it := s.get(s.args[1])
	s.count(it != nil)
	if it == nil {
		return 0, 0, nil
	}
	n := 0
	switch v := it.value.(type) {
	case *listValue:
		n = v.len()
	case *setValue:
		n = v.len()
	case *sortedSet:
		n = v.len()
	default:
		return 0, 0, errWrongType
	}
	from, to = s.span(n)
	first, last := 0, n
	_, set := it.value.(*setValue)
	if s.unsorted && !set { // only the answer is read
		first, last, from, to = from, to, 0, to-from
	}
	if last-first > maxSorted {
		return 0, 0, fault.About(fault.TooLarge, s.cmd.Name, "key", "%s goes over at most %d elements, these are %d", s.cmd.Name, maxSorted, last-first)
	}
	s.elements = make([]sortElement, 0, last-first)
	backwards := s.unsorted && s.desc
	switch v := it.value.(type) {
	case *listValue:
		s.loadList(v, first, last, backwards)
	case *setValue:
		if _, inScript := s.out.(scriptReply); s.unsorted && (s.store != nil || inScript) { // it must not depend on where members lie
			s.unsorted, s.alpha, s.by = false, true, nil
		}
		v.each(&s.p.member, func(m *setMember) bool {
			s.step()
			text := m.bytes()
			if m.whole {
				text = s.own(text)
			}
			s.elements = append(s.elements, sortElement{text: text})
			return true
		})
	case *sortedSet:
		s.loadRanks(v, first, last, backwards)
	}
	return from, to, nil
}

func (s *sorting) loadList(l *listValue, first, last int, backwards bool) {
	if first == last {
		return
	}
	cur := l.seek(first)
	if backwards {
		cur = l.seek(l.len() - 1 - first)
	}
	for range last - first {
		element, _ := cur.element()
		s.step()
		s.elements = append(s.elements, sortElement{text: element})
		if backwards {
			cur.before()
		} else {
			cur.after()
		}
	}
}

func (s *sorting) loadRanks(z *sortedSet, first, last int, backwards bool) {
	if first == last {
		return
	}
	cur := z.seek(first)
	if backwards {
		cur = z.seek(z.len() - 1 - first)
	}
	for range last - first {
		s.step()
		s.elements = append(s.elements, sortElement{text: cur.entry().member})
		if backwards {
			cur.prev()
		} else {
			cur.next()
		}
	}
}

// own copies text to where it stays until the command ends.
func (s *sorting) own(text []byte) []byte {
	if len(s.arena)+len(text) > cap(s.arena) {
		s.arena = make([]byte, 0, max(len(text), 4<<10)) // what lies in the one before stays there
	}
	s.arena = append(s.arena, text...)
	return s.arena[len(s.arena)-len(text) : len(s.arena) : len(s.arena)]
}

// weigh finds out what each element is ordered by.
func (s *sorting) weigh() error {
	broken := false
	for i := range s.elements {
		s.step()
		e := &s.elements[i]
		by, found := e.text, true
		if s.by != nil {
			by, found = s.follow(s.by, e.text)
		}
		if s.alpha {
			e.by, e.found = by, found
		} else if found {
			var ok bool
			e.score, ok = parseWeight(by)
			broken = broken || !ok
		}
	}
	if broken {
		return errSortNaN
	}
	return nil
}

// follow returns what a pattern names for an element: the string under the key in which * stands for it, or with -> behind
// that a field of the hash there, or with # the element itself.
func (s *sorting) follow(pattern, element []byte) (value []byte, found bool) {
	if string(pattern) == "#" {
		return element, true
	}
	head, tail, ok := bytes.Cut(pattern, []byte("*"))
	if !ok {
		return nil, false
	}
	var field []byte
	if before, after, ok := bytes.Cut(tail, []byte("->")); ok && len(after) > 0 {
		tail, field = before, after
	}
	s.key = append(append(append(s.key[:0], head...), element...), tail...)
	views := s.p.viewed
	it := s.get(s.key)
	if it == nil {
		return nil, false
	}
	switch v := it.value.(type) {
	case *stringValue:
		value, found = v.data, field == nil
	case *hashValue:
		var f hashField
		if field != nil {
			f, found = v.get(s.now, field)
		}
		if value = f.value.text; found && value == nil {
			value = s.own(f.value.append(nil))
		}
	}
	if s.p.viewed > views { // there may be very many
		s.p.unview(it)
	}
	return value, found
}

// parseWeight reads a number as C's strtod does, in which Redis trusts here: with spaces before it, and hexadecimal.
func parseWeight(b []byte) (float64, bool) {
	b, _, _ = bytes.Cut(b, []byte{0})
	if len(b) == 0 {
		return 0, true
	}
	b = bytes.TrimLeft(b, " \t\n\v\f\r")
	if n, ok := parseInt(b); ok {
		return float64(n), true
	}
	if bytes.ContainsAny(b, "xX") && !bytes.ContainsAny(b, "pP") {
		f, err := strconv.ParseFloat(string(b)+"p0", 64)
		return f, err == nil && bytes.IndexByte(b, '_') < 0
	}
	return parseFloat(b)
}

// values are what the answer holds; nil for a key or field that is not there.
func (s *sorting) values(elements []sortElement) ([][]byte, error) {
	values := make([][]byte, 0, len(elements)*int(s.each()))
	size := int64(0)
	for _, e := range elements {
		if len(s.gets) == 0 {
			values = append(values, e.text)
			size += int64(len(e.text))
		}
		for _, pattern := range s.gets {
			v, found := s.follow(pattern, e.text)
			if !found {
				v = nil
			}
			values = append(values, v)
			size += int64(len(v))
		}
		if size > sortedBytes && s.gets != nil {
			return nil, fault.About(fault.TooLarge, s.cmd.Name, "GET", "the answer would have more than %d bytes: use LIMIT", int64(sortedBytes))
		}
	}
	return values, nil
}

// keepList stores the answer as a list, in which what was not found is empty.
func (s *sorting) keepList(values [][]byte) error {
	for _, v := range values {
		if err := s.checkSizes(s.store, int64(len(v))); err != nil {
			return err
		}
	}
	s.out.Int(int64(len(values)))
	if len(values) == 0 {
		s.remove(s.store)
		return nil
	}
	var list listBuilder
	for _, v := range values {
		list.add(s.call, v)
	}
	s.put(s.store, list.value(), s.defaultDeadline())
	return nil
}
