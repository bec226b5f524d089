package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/larder-cache/larder/internal/fault"
)

// A listValue is a sequence of elements, cheap to change at both of its ends. It is a chain of blocks of packed
// elements, as Redis's quicklist is: a push or a pop touches the block at its end, and a place in the middle is
// found by counting blocks from the nearer end.
//
//	L1: first and last are the ends of the chain, whose links agree both ways
//	L2: n is the number of elements in all blocks, text the sum of their lengths
//	L3: a block holds 1 to blockElements elements, in no more than blockBytes unless it holds only one
//	L4: no two neighbours fit into half a block together
//	L5: a block's elements are whole, read forwards and backwards
//
// Which block an element is in depends on how the list came about and is no part of the state: replicas agree on
// the elements. Every method that changes the list takes the journal (nil outside an atomic task) and leaves in
// it how to take the change back.
type listValue struct {
	first, last *block
	n           int
	text        int64
}

// A block holds elements one after the other in buf[from:]: an element's length as a uvarint, its bytes, and the
// uvarint again with its bytes reversed, by which a reader comes from behind. There may be room before from.
type block struct {
	prev, next *block
	buf        []byte
	from       int
	n          int
}

// Bounds of a block. L4 makes a list of n elements have at most n/32 blocks or so, unless its elements are large.
const (
	blockElements = 128
	blockBytes    = 8 << 10
)

// What a list costs beside its text, in bytes: itself with its first block, and for an element its two lengths
// and its share of a block's own size. A growing block is on average an eighth larger than what is in it.
const (
	listOverhead    = 128
	elementOverhead = 4
)

// An end of a list.
type end bool

const (
	head end = false
	tail end = true
)

func (l *listValue) kind() string { return "list" }
func (l *listValue) empty() bool  { return l.n == 0 }
func (l *listValue) len() int     { return l.n }

func (l *listValue) bytes() int64 {
	return listOverhead + int64(l.n)*elementOverhead + l.text + l.text/8
}

func (l *listValue) encode(dst []byte) []byte {
	for b, pos := l.seek(0); b != nil; b, pos = b.after(pos) {
		element, _ := b.read(pos)
		dst = binary.AppendUvarint(dst, uint64(len(element)))
		dst = append(dst, element...)
	}
	return dst
}

func (l *listValue) clone() largeValue {
	twin := &listValue{n: l.n, text: l.text}
	for b := l.first; b != nil; b = b.next {
		twin.link(twin.last, &block{buf: slices.Clone(b.buf[b.from:]), n: b.n})
	}
	return twin
}

func (l *listValue) check() error {
	n, text := 0, int64(0)
	var prev *block
	for b := l.first; b != nil; prev, b = b, b.next {
		switch {
		case b.prev != prev:
			return fmt.Errorf("L1: a link back leads elsewhere after %d elements", n)
		case b.n < 1 || b.n > blockElements || (b.n > 1 && b.size() > blockBytes):
			return fmt.Errorf("L3: %d elements of %d bytes in a block", b.n, b.size())
		case prev != nil && prev.fits(b):
			return fmt.Errorf("L4: blocks of %d and %d elements are neighbours", prev.n, b.n)
		}
		var starts []int
		for pos := b.from; pos < len(b.buf); {
			element, end := b.read(pos)
			if end > len(b.buf) {
				return fmt.Errorf("L5: element %d ends outside of its block", n+len(starts))
			}
			starts = append(starts, pos)
			text += int64(len(element))
			pos = end
		}
		for pos, i := len(b.buf), len(starts)-1; i >= 0; i-- {
			if pos = b.back(pos); pos != starts[i] {
				return fmt.Errorf("L5: element %d begins at %d, read backwards at %d", n+i, starts[i], pos)
			}
		}
		if len(starts) != b.n {
			return fmt.Errorf("L5: a block of %d elements counts %d", len(starts), b.n)
		}
		n += b.n
	}
	switch {
	case l.last != prev:
		return fmt.Errorf("L1: last is not the last block")
	case n != l.n || text != l.text:
		return fmt.Errorf("L2: %d elements of %d bytes, counted as %d of %d", n, text, l.n, l.text)
	}
	return nil
}

// size is how many bytes the packed elements take.
func (b *block) size() int { return len(b.buf) - b.from }

// fits reports whether two blocks fit into half of one.
func (b *block) fits(other *block) bool {
	return b.n+other.n <= blockElements/2 && b.size()+other.size() <= blockBytes/2
}

// packed is how many bytes an element of n bytes takes in a block.
func packed(n int) int { return n + 2*uvarintLen(n) }

func uvarintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// pack writes an element to dst, which has room for exactly that.
func pack(dst, element []byte) {
	width := binary.PutUvarint(dst, uint64(len(element)))
	copy(dst[width:], element)
	for i := range width {
		dst[len(dst)-1-i] = dst[i]
	}
}

// read returns the element at pos, which is good until the list changes, and where it ends.
func (b *block) read(pos int) (element []byte, end int) {
	n, width := binary.Uvarint(b.buf[pos:])
	from := pos + width
	to := from + int(n)
	return b.buf[from:to:to], to + width
}

// back returns where the element that ends at end begins.
func (b *block) back(end int) int {
	n, width := 0, 0
	for {
		c := b.buf[end-1-width]
		n |= int(c&0x7f) << (7 * width)
		width++
		if c < 0x80 {
			return end - n - 2*width
		}
	}
}

// after returns the place after pos, a nil block after the last.
func (b *block) after(pos int) (*block, int) {
	if _, pos = b.read(pos); pos < len(b.buf) {
		return b, pos
	}
	if b.next == nil {
		return nil, 0
	}
	return b.next, b.next.from
}

// before returns the place before pos, a nil block before the first.
func (b *block) before(pos int) (*block, int) {
	if pos == b.from {
		if b = b.prev; b == nil {
			return nil, 0
		}
		pos = len(b.buf)
	}
	return b, b.back(pos)
}

// seek returns the place of element i, a nil block when there is no such element.
func (l *listValue) seek(i int) (b *block, pos int) {
	if i < 0 || i >= l.n {
		return nil, 0
	}
	if i < l.n/2 {
		for b = l.first; i >= b.n; b = b.next {
			i -= b.n
		}
	} else {
		left := l.n - i // elements from i to the end
		for b = l.last; left > b.n; b = b.prev {
			left -= b.n
		}
		i = b.n - left
	}
	if i <= b.n/2 {
		for pos = b.from; i > 0; i-- {
			_, pos = b.read(pos)
		}
		return b, pos
	}
	for pos = len(b.buf); i < b.n; i++ {
		pos = b.back(pos)
	}
	return b, pos
}

// room lets size more bytes stand at one end of the block. It moves what is there to the other end when that frees
// half as much again: at most blockBytes, and for pushes to one end a constant on average.
func (b *block) room(at end, size int) {
	used := b.size()
	if at == tail && cap(b.buf)-len(b.buf) >= size || at == head && b.from >= size {
		return
	}
	old, buf := b.buf[b.from:], b.buf[:0]
	if cap(buf) < used+size+used/2 {
		want := max(used+size, min(2*(used+size), blockBytes))
		buf = slices.Grow([]byte(nil), want)
	}
	to := 0
	if at == head {
		to = cap(buf) - used
	}
	buf = buf[:to+used]
	copy(buf[to:], old)
	b.buf, b.from = buf, to
}

// shrink gives back the room around a block that has more than most bytes in all.
func (b *block) shrink(most int) {
	if cap(b.buf) > max(most, 64) {
		b.buf, b.from = slices.Clone(b.buf[b.from:]), 0
	}
}

// link puts b behind at, or first when at is nil.
func (l *listValue) link(at, b *block) {
	b.prev = at
	if at == nil {
		b.next, l.first = l.first, b
	} else {
		b.next, at.next = at.next, b
	}
	if b.next == nil {
		l.last = b
	} else {
		b.next.prev = b
	}
}

func (l *listValue) unlink(b *block) {
	if b.prev == nil {
		l.first = b.next
	} else {
		b.prev.next = b.next
	}
	if b.next == nil {
		l.last = b.prev
	} else {
		b.next.prev = b.prev
	}
}

// settle restores L3 and L4 after a change inside of b.
func (l *listValue) settle(b *block) {
	switch {
	case b.n == 0:
		l.unlink(b)
		l.join(b.prev)
	case b.n > blockElements || (b.n > 1 && b.size() > blockBytes):
		second := l.split(b)
		l.settle(second)
		l.settle(b)
	default:
		b.shrink(4 * b.size())
		l.join(b)
		l.join(b.prev)
	}
}

// split moves the second half of b's bytes, at least one element and not all, to a new block behind it.
func (l *listValue) split(b *block) (second *block) {
	pos, n := b.from, 0
	for middle := b.from + b.size()/2; n == 0 || (pos < middle && n < b.n-1); n++ {
		_, pos = b.read(pos)
	}
	second = &block{buf: slices.Clone(b.buf[pos:]), n: b.n - n}
	b.buf, b.n = b.buf[:pos], n
	l.link(b, second)
	return second
}

// join moves into b what stands in the block behind it if both fit into half a block.
func (l *listValue) join(b *block) {
	if b == nil || b.next == nil || !b.fits(b.next) {
		return
	}
	next := b.next
	b.room(tail, next.size())
	b.buf = append(b.buf, next.buf[next.from:]...)
	b.n += next.n
	l.unlink(next)
}

// push adds an element at an end.
func (l *listValue) push(j *journal, at end, element []byte) {
	size, b := packed(len(element)), l.first
	if at == tail {
		b = l.last
	}
	if b == nil || b.n == blockElements || b.size()+size > blockBytes {
		if b != nil {
			b.shrink(b.size() * 5 / 4) // it may stay as it is for long
		}
		b = &block{}
		if at == tail {
			l.link(l.last, b)
		} else {
			l.link(nil, b)
		}
	}
	b.room(at, size)
	if at == tail {
		pos := len(b.buf)
		b.buf = b.buf[:pos+size]
		pack(b.buf[pos:], element)
	} else {
		b.from -= size
		pack(b.buf[b.from:][:size], element)
	}
	b.n++
	l.n++
	l.text += int64(len(element))
	if j != nil {
		j.add(func() { l.drop(nil, at, 1) })
	}
}

// peek returns the element at an end of a list that is not empty.
func (l *listValue) peek(at end) []byte {
	b, pos := l.first, 0
	if at == head {
		pos = b.from
	} else {
		b = l.last
		pos = b.back(len(b.buf))
	}
	element, _ := b.read(pos)
	return element
}

// drop removes n elements, which there are, from an end: O(1) for each of them.
func (l *listValue) drop(j *journal, at end, n int) {
	if j != nil && n > 0 {
		gone := &listValue{} // in the order in which an undo pushes them
		from, step := l.n-n, (*block).after
		if at == head {
			from, step = n-1, (*block).before
		}
		for b, pos := l.seek(from); gone.n < n; b, pos = step(b, pos) {
			element, _ := b.read(pos)
			gone.push(nil, tail, element)
		}
		j.add(func() {
			for b, pos := gone.seek(0); b != nil; b, pos = b.after(pos) {
				element, _ := b.read(pos)
				l.push(nil, at, element)
			}
		})
	}
	for n > 0 {
		b := l.first
		if at == tail {
			b = l.last
		}
		whole := n >= b.n
		for n > 0 && b.n > 0 {
			var element []byte
			if at == head {
				element, b.from = b.read(b.from)
			} else {
				pos := b.back(len(b.buf))
				element, _ = b.read(pos)
				b.buf = b.buf[:pos]
			}
			b.n--
			l.n--
			l.text -= int64(len(element))
			n--
		}
		if whole {
			l.unlink(b)
		} else {
			l.settle(b)
		}
	}
}

// replace puts an element, or nothing when it is nil, in the place of the bytes from pos to end in b.
func (l *listValue) replace(b *block, pos, end int, element []byte) {
	if end > pos {
		old, _ := b.read(pos)
		l.text -= int64(len(old))
		l.n--
		b.n--
	}
	size := 0
	if element != nil {
		size = packed(len(element))
		l.text += int64(len(element))
		l.n++
		b.n++
	}
	if grown := size - (end - pos); grown > 0 {
		at := pos - b.from
		b.room(tail, grown)
		pos, end = b.from+at, b.from+at+end-pos
		b.buf = b.buf[:len(b.buf)+grown]
		copy(b.buf[pos+size:], b.buf[end:len(b.buf)-grown])
	} else if grown < 0 {
		copy(b.buf[pos+size:], b.buf[end:])
		b.buf = b.buf[:len(b.buf)+grown]
	}
	if element != nil {
		pack(b.buf[pos:pos+size], element)
	}
	l.settle(b)
}

// set replaces element i, which there is.
func (l *listValue) set(j *journal, i int, element []byte) {
	b, pos := l.seek(i)
	old, end := b.read(pos)
	if j != nil {
		was := bytes.Clone(old)
		j.add(func() { l.set(nil, i, was) })
	}
	l.replace(b, pos, end, notNil(element))
}

// insert puts an element before element i, or at the end when i is the length.
func (l *listValue) insert(j *journal, i int, element []byte) {
	if i == l.n {
		l.push(j, tail, element)
		return
	}
	b, pos := l.seek(i)
	l.replace(b, pos, pos, notNil(element))
	if j != nil {
		j.add(func() {
			b, pos := l.seek(i)
			_, end := b.read(pos)
			l.replace(b, pos, end, nil)
		})
	}
}

// notNil keeps an empty element apart from none.
func notNil(element []byte) []byte {
	if element == nil {
		return []byte{}
	}
	return element
}

// remove removes the elements that are equal to element, but the first few of them and not more than atMost, and
// returns how many. It takes one pass, and so does its undo.
func (l *listValue) remove(j *journal, element []byte, skip, atMost int) (removed int) {
	var gone []int // where they were
	i := 0
	for b := l.first; b != nil && removed < atMost; b = b.next {
		to := b.from
		for pos := b.from; pos < len(b.buf); i++ {
			found, end := b.read(pos)
			match := removed < atMost && bytes.Equal(found, element)
			if match && skip > 0 {
				match = false
				skip--
			}
			if match {
				removed++
				b.n--
				if j != nil {
					gone = append(gone, i)
				}
			} else {
				to += copy(b.buf[to:], b.buf[pos:end])
			}
			pos = end
		}
		b.buf = b.buf[:to]
	}
	if removed == 0 {
		return 0
	}
	l.n -= removed
	l.text -= int64(removed) * int64(len(element))
	l.settleAll()
	if j != nil {
		element = bytes.Clone(element)
		j.add(func() { l.restore(gone, element) })
	}
	return removed
}

// settleAll restores L3 and L4 everywhere, after elements have gone.
func (l *listValue) settleAll() {
	for b := l.first; b != nil; b = b.next {
		if b.n == 0 {
			l.unlink(b)
		}
	}
	for b := l.first; b != nil; {
		if next := b.next; next != nil && b.fits(next) {
			l.join(b)
		} else {
			b.shrink(4 * b.size())
			b = b.next
		}
	}
}

// restore is the inverse of remove: element stands at each of the places again.
func (l *listValue) restore(places []int, element []byte) {
	whole := &listValue{}
	b, pos := l.seek(0)
	for i := 0; b != nil || len(places) > 0; i++ {
		if len(places) > 0 && places[0] == i {
			whole.push(nil, tail, element)
			places = places[1:]
			continue
		}
		kept, _ := b.read(pos)
		whole.push(nil, tail, kept)
		b, pos = b.after(pos)
	}
	*l = *whole
}

var listCommands = []Command{
	{Name: "LPUSH", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupList, Action: "cache:ListWrite", Facts: pushFacts, run: func(c *call) error { return push(c, head, true) },
		Usage: "key element [element ...]", Summary: "Adds elements before the first of a list and returns its length", Complexity: "O(1) for each element", Since: "1.0.0"},
	{Name: "RPUSH", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupList, Action: "cache:ListWrite", Facts: pushFacts, run: func(c *call) error { return push(c, tail, true) },
		Usage: "key element [element ...]", Summary: "Adds elements after the last of a list and returns its length", Complexity: "O(1) for each element", Since: "1.0.0"},
	{Name: "LPUSHX", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupList, Action: "cache:ListWrite", Facts: pushFacts, run: func(c *call) error { return push(c, head, false) },
		Usage: "key element [element ...]", Summary: "Adds elements before the first of a list that exists", Complexity: "O(1) for each element", Since: "2.2.0"},
	{Name: "RPUSHX", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupList, Action: "cache:ListWrite", Facts: pushFacts, run: func(c *call) error { return push(c, tail, false) },
		Usage: "key element [element ...]", Summary: "Adds elements after the last of a list that exists", Complexity: "O(1) for each element", Since: "2.2.0"},
	{Name: "LPOP", Arity: -2, Keys: oneKey, Flags: Writes | Fast, Group: GroupList, Action: "cache:ListWrite", Also: listReadRight, Facts: zpopFacts, run: func(c *call) error { return lpop(c, head) },
		Usage: "key [count]", Summary: "Removes and returns the first elements", Complexity: "O(M) for M elements", Since: "1.0.0"},
	{Name: "RPOP", Arity: -2, Keys: oneKey, Flags: Writes | Fast, Group: GroupList, Action: "cache:ListWrite", Also: listReadRight, Facts: zpopFacts, run: func(c *call) error { return lpop(c, tail) },
		Usage: "key [count]", Summary: "Removes and returns the last elements, the very last first", Complexity: "O(M) for M elements", Since: "1.0.0"},
	{Name: "LMPOP", Arity: -4, Keys: countedKeys, Flags: Writes, Group: GroupList, Action: "cache:ListWrite", Also: lmpopRights, Facts: zmpopFacts, run: lmpop,
		Usage: "numkeys key [key ...] <LEFT | RIGHT> [COUNT count]", Summary: "Removes and returns the outermost elements of the first list that has any", Complexity: "O(K + M) for K keys and M elements", Since: "7.0.0"},
	{Name: "LMOVE", Arity: 5, Keys: twoKeys, Flags: Writes | Grows, Group: GroupList, Action: "cache:ListWrite", Also: listReadRight, run: lmove,
		Usage: "source destination <LEFT | RIGHT> <LEFT | RIGHT>", Summary: "Moves an element from one end of a list to one of another, or of the same", Complexity: "O(1)", Since: "6.2.0"},
	{Name: "RPOPLPUSH", Arity: 3, Keys: twoKeys, Flags: Writes | Grows, Group: GroupList, Action: "cache:ListWrite", Also: listReadRight, run: func(c *call) error { return move(c, tail, head) },
		Usage: "source destination", Summary: "Moves the last element of a list before the first of another, or of the same", Complexity: "O(1)", Since: "1.2.0"},

	{Name: "LLEN", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupList, Action: "cache:ListRead", run: llen,
		Usage: "key", Summary: "Counts the elements", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "LINDEX", Arity: 3, Keys: oneKey, Group: GroupList, Action: "cache:ListRead", run: lindex,
		Usage: "key index", Summary: "Returns the element at an index", Complexity: "O(1) at the ends, O(N/64) in the middle", Since: "1.0.0"},
	{Name: "LRANGE", Arity: 4, Keys: oneKey, Group: GroupList, Action: "cache:ListRead", Facts: zrangeFacts, run: lrange,
		Usage: "key start stop", Summary: "Returns the elements in a range of indexes", Complexity: "O(S/64 + M) for M elements beginning S from the nearer end", Since: "1.0.0"},
	{Name: "LPOS", Arity: -3, Keys: oneKey, Group: GroupList, Action: "cache:ListRead", Facts: lposFacts, run: lpos,
		Usage: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]", Summary: "Returns the indexes at which an element stands", Complexity: "O(N)", Since: "6.0.6"},

	{Name: "LSET", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupList, Action: "cache:ListWrite", Facts: lsetFacts, run: lset,
		Usage: "key index element", Summary: "Replaces the element at an index", Complexity: "O(1) at the ends, O(N/64) in the middle", Since: "1.0.0"},
	{Name: "LINSERT", Arity: 5, Keys: oneKey, Flags: Writes | Grows, Group: GroupList, Action: "cache:ListWrite", Facts: linsertFacts, run: linsert,
		Usage: "key <BEFORE | AFTER> pivot element", Summary: "Adds an element beside the first that equals another", Complexity: "O(N)", Since: "2.2.0"},
	{Name: "LREM", Arity: 4, Keys: oneKey, Flags: Writes, Group: GroupList, Action: "cache:ListWrite", run: lrem,
		Usage: "key count element", Summary: "Removes the first elements that equal one, with a negative count the last, with 0 all", Complexity: "O(N)", Since: "1.0.0"},
	{Name: "LTRIM", Arity: 4, Keys: oneKey, Flags: Writes, Group: GroupList, Action: "cache:ListWrite", run: ltrim,
		Usage: "key start stop", Summary: "Removes the elements outside of a range of indexes", Complexity: "O(M) for M removed elements", Since: "1.0.0"},
}

// listReadRight: the answer of a pop or a move tells what its first key held.
func listReadRight(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:ListRead", On: OnKey, Name: nth(args, 1)})
}

func lmpopRights(dst []Right, args [][]byte) []Right {
	for _, key := range countedKeys.counted(args) {
		dst = append(dst, Right{Action: "cache:ListRead", On: OnKey, Name: key})
	}
	return dst
}

func elementFacts(elements ...[]byte) Facts {
	f := Facts{TTL: -1, MaxItems: -1}
	for _, e := range elements {
		f.ValueSize += int64(len(e))
	}
	return f
}

func pushFacts(args [][]byte, _ int64) Facts    { return elementFacts(args[2:]...) }
func lsetFacts(args [][]byte, _ int64) Facts    { return elementFacts(args[3]) }
func linsertFacts(args [][]byte, _ int64) Facts { return elementFacts(args[4]) }

func lposFacts(args [][]byte, _ int64) Facts {
	o, err := parseLposOptions("", args[3:])
	if err != nil || o.count == 0 {
		return listing(math.MaxInt64)
	}
	return listing(o.count)
}

var errIndexRange = fault.About(fault.OutOfRange, "engine", "index", "index out of range")

// listAt returns the list under key for reading, nil when there is none.
func (c *call) listAt(key []byte) (*listValue, error) {
	l, _, err := lookup[*listValue](c, key)
	if err == nil {
		c.count(l != nil)
	}
	return l, err
}

// size is the length of a list, 0 of none.
func (l *listValue) size() int {
	if l == nil {
		return 0
	}
	return l.n
}

func push(c *call, at end, create bool) error {
	key, elements := c.args[1], c.args[2:]
	l, it, err := lookup[*listValue](c, key)
	if err != nil {
		return err
	}
	if l == nil && !create {
		c.out.Int(0)
		return nil
	}
	for _, e := range elements {
		if err := c.checkSizes(key, int64(len(e))); err != nil {
			return err
		}
	}
	l, it = c.listFor(l, it, key)
	for _, e := range elements {
		l.push(c.p.journal, at, e)
	}
	c.changed(it)
	c.out.Int(int64(l.n))
	return nil
}

// listFor returns the list under key with its item, and makes one where there is none. All that can fail has
// been checked by then.
func (c *call) listFor(l *listValue, it *item, key []byte) (*listValue, *item) {
	if l != nil {
		return l, it
	}
	l = &listValue{}
	return l, c.put(key, l, c.defaultDeadline())
}

func lpop(c *call, at end) error {
	if len(c.args) > 3 {
		return errArity(c)
	}
	count, listed := int64(1), len(c.args) == 3
	if listed {
		var ok bool
		if count, ok = parseInt(c.args[2]); !ok || count < 0 {
			return fault.New(fault.OutOfRange, c.cmd.Name, "value is out of range, must be positive")
		}
	}
	l, it, err := lookup[*listValue](c, c.args[1])
	if err != nil {
		return err
	}
	switch {
	case l == nil && listed:
		c.out.NullArray()
	case l == nil:
		c.out.Null()
	case listed:
		c.popElements(l, it, at, count)
	default:
		c.out.Bulk(l.peek(at))
		l.drop(c.p.journal, at, 1)
		c.changed(it)
	}
	return nil
}

// popElements replies with the outermost elements of an end, at most so many, and removes them.
func (c *call) popElements(l *listValue, it *item, at end, atMost int64) {
	n := int(min(atMost, int64(l.n)))
	c.out.Array(n)
	if n == 0 {
		return
	}
	i := 0
	if at == tail {
		i = l.n - 1
	}
	b, pos := l.seek(i)
	for range n {
		element, _ := b.read(pos)
		c.out.Bulk(element)
		if at == head {
			b, pos = b.after(pos)
		} else {
			b, pos = b.before(pos)
		}
	}
	l.drop(c.p.journal, at, n)
	c.changed(it)
}

func lmpop(c *call) error {
	keys, right, count, err := c.parsePops("LEFT", "RIGHT")
	if err != nil {
		return err
	}
	for _, key := range keys {
		l, it, err := lookup[*listValue](c, key)
		if err != nil {
			return err
		}
		if l == nil {
			continue
		}
		c.out.Array(2)
		c.out.Bulk(key)
		c.popElements(l, it, end(right), count)
		return nil
	}
	c.out.NullArray()
	return nil
}

// parseEnd reads LEFT or RIGHT.
func parseEnd(arg []byte) (at end, err error) {
	if at = end(is(arg, "RIGHT")); at == head && !is(arg, "LEFT") {
		return at, errSyntax
	}
	return at, nil
}

func lmove(c *call) error {
	from, err := parseEnd(c.args[3])
	if err != nil {
		return err
	}
	to, err := parseEnd(c.args[4])
	if err != nil {
		return err
	}
	return move(c, from, to)
}

// move looks at the destination only when there is something to move, as Redis does.
func move(c *call, from, to end) error {
	source, it, err := lookup[*listValue](c, c.args[1])
	if err != nil {
		return err
	}
	if source == nil {
		c.out.Null()
		return nil
	}
	target, other, err := lookup[*listValue](c, c.args[2])
	if err != nil {
		return err
	}
	if err := c.checkSizes(c.args[2], 0); err != nil {
		return err
	}
	element := bytes.Clone(source.peek(from))
	source.drop(c.p.journal, from, 1)
	if target != source { // or its item would go with its only element
		c.changed(it)
	}
	target, other = c.listFor(target, other, c.args[2])
	target.push(c.p.journal, to, element)
	c.changed(other)
	c.out.Bulk(element)
	return nil
}

func llen(c *call) error {
	l, err := c.listAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Int(int64(l.size()))
	return nil
}

// place turns an index, which counts from the end when negative, into a place that seek understands.
func (l *listValue) place(index int64) int {
	if index < 0 {
		index += int64(l.n)
	}
	if index < 0 || index >= int64(l.n) {
		return -1
	}
	return int(index)
}

func lindex(c *call) error {
	l, err := c.listAt(c.args[1])
	if err != nil {
		return err
	}
	if l == nil { // as Redis, which reads the index only after it found the key
		c.out.Null()
		return nil
	}
	index, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	b, pos := l.seek(l.place(index))
	if b == nil {
		c.out.Null()
		return nil
	}
	element, _ := b.read(pos)
	c.out.Bulk(element)
	return nil
}

func lrange(c *call) error {
	start, ok1 := parseInt(c.args[2])
	stop, ok2 := parseInt(c.args[3])
	if !ok1 || !ok2 {
		return errNotInteger
	}
	l, err := c.listAt(c.args[1])
	if err != nil {
		return err
	}
	from, to := indexRange(start, stop, l.size())
	c.out.Array(to - from)
	if from == to {
		return nil
	}
	b, pos := l.seek(from)
	for range to - from {
		element, _ := b.read(pos)
		c.out.Bulk(element)
		b, pos = b.after(pos)
	}
	return nil
}

// lposOptions say which of the matches LPOS returns.
type lposOptions struct {
	rank   int64 // begins with this match, counted from the end when negative
	count  int64 // at most so many, 0 for all
	listed bool  // COUNT was given: the answer is a list
	maxLen int64 // compares at most so many elements, 0 for all
}

func parseLposOptions(op string, args [][]byte) (o lposOptions, err error) {
	o.rank, o.count = 1, 1
	for ; len(args) > 0; args = args[2:] {
		if len(args) == 1 {
			return o, errSyntax
		}
		n, ok := parseInt(args[1])
		switch a := args[0]; {
		case is(a, "RANK") && !ok:
			return o, errNotInteger
		case is(a, "RANK") && n == 0:
			return o, fault.About(fault.OutOfRange, op, "RANK", "RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list")
		case is(a, "RANK") && n == math.MinInt64:
			return o, fault.About(fault.OutOfRange, op, "RANK", "value is out of range, value must between -9223372036854775807 and 9223372036854775807")
		case is(a, "RANK"):
			o.rank = n
		case is(a, "COUNT"):
			if !ok || n < 0 {
				return o, fault.About(fault.OutOfRange, op, "COUNT", "COUNT can't be negative")
			}
			o.count, o.listed = n, true
		case is(a, "MAXLEN"):
			if !ok || n < 0 {
				return o, fault.About(fault.OutOfRange, op, "MAXLEN", "MAXLEN can't be negative")
			}
			o.maxLen = n
		default:
			return o, errSyntax
		}
	}
	return o, nil
}

func lpos(c *call) error {
	o, err := parseLposOptions(c.cmd.Name, c.args[3:])
	if err != nil {
		return err
	}
	l, err := c.listAt(c.args[1])
	if err != nil {
		return err
	}
	found := l.find(c.args[2], o)
	switch {
	case o.listed:
		c.out.Array(len(found))
		for _, i := range found {
			c.out.Int(int64(i))
		}
	case len(found) == 0:
		c.out.Null()
	default:
		c.out.Int(int64(found[0]))
	}
	return nil
}

// find returns the indexes at which element stands, those nearer to the end where the search begins first.
func (l *listValue) find(element []byte, o lposOptions) (found []int) {
	if l.size() == 0 {
		return nil
	}
	i, step, skip := 0, 1, o.rank-1
	if o.rank < 0 {
		i, step, skip = l.n-1, -1, -o.rank-1
	}
	left := int64(l.n)
	if o.maxLen > 0 {
		left = min(left, o.maxLen)
	}
	for b, pos := l.seek(i); left > 0; left-- {
		if e, _ := b.read(pos); bytes.Equal(e, element) {
			if skip--; skip < 0 {
				found = append(found, i)
				if int64(len(found)) == o.count {
					break
				}
			}
		}
		if step > 0 {
			b, pos = b.after(pos)
		} else {
			b, pos = b.before(pos)
		}
		i += step
	}
	return found
}

func lset(c *call) error {
	key, element := c.args[1], c.args[3]
	l, it, err := lookup[*listValue](c, key)
	if err != nil {
		return err
	}
	if l == nil {
		return errNoSuchKey
	}
	index, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	i := l.place(index)
	if i < 0 {
		return errIndexRange
	}
	if err := c.checkSizes(key, int64(len(element))); err != nil {
		return err
	}
	l.set(c.p.journal, i, element)
	c.changed(it)
	c.out.Status("OK")
	return nil
}

func linsert(c *call) error {
	key, where, pivot, element := c.args[1], c.args[2], c.args[3], c.args[4]
	after := is(where, "AFTER")
	if !after && !is(where, "BEFORE") {
		return errSyntax
	}
	l, it, err := lookup[*listValue](c, key)
	if err != nil {
		return err
	}
	if l == nil {
		c.out.Int(0)
		return nil
	}
	if err := c.checkSizes(key, int64(len(element))); err != nil {
		return err
	}
	found := l.find(pivot, lposOptions{rank: 1, count: 1})
	if len(found) == 0 {
		c.out.Int(-1)
		return nil
	}
	i := found[0]
	if after {
		i++
	}
	l.insert(c.p.journal, i, element)
	c.changed(it)
	c.out.Int(int64(l.n))
	return nil
}

func lrem(c *call) error {
	count, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	l, it, err := lookup[*listValue](c, c.args[1])
	if err != nil {
		return err
	}
	if l == nil {
		c.out.Int(0)
		return nil
	}
	skip, atMost := 0, math.MaxInt
	switch {
	case count > 0:
		atMost = int(count)
	case count < 0: // all but the first of them
		matches := int64(len(l.find(c.args[3], lposOptions{rank: 1})))
		skip = int(max(matches+count, 0))
	}
	removed := l.remove(c.p.journal, c.args[3], skip, atMost)
	if removed > 0 {
		c.changed(it)
	}
	c.out.Int(int64(removed))
	return nil
}

func ltrim(c *call) error {
	start, ok1 := parseInt(c.args[2])
	stop, ok2 := parseInt(c.args[3])
	if !ok1 || !ok2 {
		return errNotInteger
	}
	l, it, err := lookup[*listValue](c, c.args[1])
	if err != nil {
		return err
	}
	if l != nil {
		if from, to := indexRange(start, stop, l.n); from == to {
			c.dropItem(it)
		} else {
			n := l.n
			l.drop(c.p.journal, tail, n-to)
			l.drop(c.p.journal, head, from)
			c.changed(it)
		}
	}
	c.out.Status("OK")
	return nil
}
