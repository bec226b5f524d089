package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// A listValue is a sequence of elements, cheap to change at both of its ends. A small list is a block in its item's record, of
// which the listValue is a view; one that does not fit into a block is a deque, until little of it is left. Which of the
// two it is depends on how it came about, so it is a part of the state, and so is a small list's room: memory is accounted
// by them.
type listValue struct {
	small block  // nil in a large list
	large *deque // nil in a small list
}

// An end of a list.
type end bool

const (
	head end = false
	tail end = true
)

func (l *listValue) kind() string { return "list" }

// encoding is Redis's name for the list's form.
func (l *listValue) encoding() string {
	if l.large == nil {
		return "listpack"
	}
	return "quicklist"
}

func (l *listValue) empty() bool { return l.len() == 0 }

// len is the number of elements, 0 of no list.
func (l *listValue) len() int {
	switch {
	case l == nil:
		return 0
	case l.large != nil:
		return l.large.n
	}
	return l.small.n()
}

// bytes is what a large list costs.
func (l *listValue) bytes() int64 { return l.large.bytes() }

// parts and header are for a cut: which pages there are, in order, stands nowhere else.
func (l *listValue) parts() []*dense.Table { return []*dense.Table{l.large.table} }

func (l *listValue) header(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, l.large.next)
	for _, pg := range l.large.pages {
		dst = binary.AppendUvarint(binary.AppendUvarint(dst, pg.number), uint64(pg.blocks))
	}
	return dst
}

func (l *listValue) destroy() { l.large.destroy() }

func (l *listValue) pack(dst []byte) ([]byte, dense.Kind) {
	if l.large != nil {
		return dst, kindObject
	}
	return append(dst, l.small...), kindList
}

// clone returns a list for another key: a small one is copied as it is stored.
func (l *listValue) clone(step func()) largeValue {
	if l.large == nil {
		return l
	}
	return &listValue{large: l.large.clone(step)}
}

// encode leaves out what lies in the room of a small list, which may be anything.
func (l *listValue) encode(dst []byte) []byte {
	if l.large == nil {
		return append(append(dst, l.small[:blockHead]...), l.small.elements()...)
	}
	dst = append(dst, 0, 0) // no small list has no elements
	for cur := l.seek(0); cur.ok(); cur.after() {
		element, _ := cur.element()
		dst = binary.AppendUvarint(dst, uint64(len(element)))
		dst = append(dst, element...)
	}
	return dst
}

func (l *listValue) check() error {
	if l.large != nil {
		return l.large.check()
	}
	if len(l.small) > blockBytes {
		return fmt.Errorf("B1: a small list of %d bytes", len(l.small))
	}
	if room := len(l.small) - blockHead - l.small.used(); room > maxRoom {
		return fmt.Errorf("B2: a small list has room for %d bytes", room)
	}
	return validBlock(l.small)
}

// seek returns the place of element i, none when there is no such element.
func (l *listValue) seek(i int) cursor {
	if l.large != nil {
		return l.large.seek(i)
	}
	if i < 0 || i >= l.small.n() {
		return cursor{}
	}
	return cursor{b: l.small, pos: l.small.seek(i)}
}

// peek returns the element at an end of a list that is not empty.
func (l *listValue) peek(at end) []byte {
	b := l.small
	if l.large != nil {
		b = l.large.outer(at).b
	}
	pos := b.from()
	if at == tail {
		pos = b.start(b.to())
	}
	element, _ := b.read(pos)
	return element
}

// What changes a list has its item, not the listValue: it becomes another when a list becomes large. changing comes first,
// changed last.

func (it *item) asList() *listValue { return it.value.(*listValue) }

// changingList notes what a list is before it changes, for a cut and in the journal. A large one takes each of its changes
// back itself.
func (c *call) changingList(it *item) {
	it.home.table.Touch(it.hash, it.key, it.ref)
	j := c.p.journal
	switch {
	case j == nil:
	case it.kind == kindObject:
		j.changed = append(j.changed, place{it.home, string(it.key)})
	default:
		j.remember(place{it.home, string(it.key)}, it)
	}
}

// changedList accounts a list that was changed, makes it small again when little is left, and removes it when nothing is.
func (c *call) changedList(it *item) {
	k, l := it.home, it.asList()
	switch {
	case l.empty():
		c.dropItem(it)
	case l.large == nil:
		k.account()
		k.touched(it.key)
	case l.large.n <= maxElements && l.large.alone == 0 && l.large.size <= smallAgain:
		c.shrinkList(it)
	default:
		k.resized(it.object())
		k.account()
		k.touched(it.key)
	}
}

// smallAgain is at how many bytes of elements a large list becomes small: so few that it takes many commands to become large.
const smallAgain = blockFull / 4

// growList makes a small list large.
func (c *call) growList(it *item) *deque {
	b := it.asList().small
	d := newDeque(c.p.store)
	if b.n() > 0 {
		d.append(b.elements(), b.n())
		d.n, d.size = b.n(), int64(b.used())
	}
	it.home.put(it, it.key, &listValue{large: d}, it.expireAt)
	return d
}

// shrinkList makes a large list small.
func (c *call) shrinkList(it *item) {
	if j := c.p.journal; j != nil {
		j.remember(place{it.home, string(it.key)}, it)
	}
	p, d := c.p, it.asList().large
	b := append(p.scratch[:0], make([]byte, blockHead)...)
	for cur := d.seek(0); cur.ok(); cur.skip() {
		b = append(b, cur.b.elements()...)
	}
	block(b).count(d.n)
	_, dst := it.home.hold(it, it.key, kindList, len(b), 0, it.expireAt)
	copy(dst, b)
	p.scratch = keep(b)
	it.home.loaded(it)
}

// spliceList is home.splice in a small list, whose bounds the caller keeps.
func (it *item) spliceList(pos, end, size, dn int) (hole []byte) {
	b, pos := home{it: it}.splice(it.asList().small, pos, end, size, dn)
	it.load()
	return b[pos : pos+size]
}

// pushList adds elements at an end of the list in it.
func (c *call) pushList(it *item, at end, elements ...[]byte) {
	l, size := it.asList(), 0
	for _, e := range elements {
		size += packed(len(e))
	}
	d := l.large
	if d == nil && !l.small.fits(size) {
		d = c.growList(it)
	}
	if d != nil {
		for _, e := range elements {
			d.push(c.p.journal, at, e)
		}
		return
	}
	pos := l.small.from()
	if at == tail {
		pos = l.small.to()
	}
	hole := it.spliceList(pos, pos, size, len(elements))
	if at == head { // the last of them is the first of the list
		for _, e := range elements {
			n := packed(len(e))
			pack(hole[len(hole)-n:], e)
			hole = hole[:len(hole)-n]
		}
		return
	}
	for _, e := range elements {
		n := packed(len(e))
		pack(hole[:n], e)
		hole = hole[n:]
	}
}

// dropElements removes n elements, which there are, from an end.
func (c *call) dropElements(it *item, at end, n int) {
	l := it.asList()
	switch {
	case n == 0:
	case l.large != nil:
		l.large.drop(c.p.journal, at, n)
	case at == head:
		it.spliceList(l.small.from(), l.small.seek(n), 0, -n)
	default:
		it.spliceList(l.small.seek(l.small.n()-n), l.small.to(), 0, -n)
	}
}

// setElement replaces element i, which there is.
func (c *call) setElement(it *item, i int, element []byte) {
	l := it.asList()
	if l.large == nil {
		b := l.small
		pos := b.seek(i)
		_, end := b.read(pos)
		if size := packed(len(element)); b.fits(size - (end - pos)) {
			pack(it.spliceList(pos, end, size, 0), element)
			return
		}
		c.growList(it)
	}
	it.asList().large.set(c.p.journal, i, element)
}

// insertElement puts an element before element i, or at the end when i is the length.
func (c *call) insertElement(it *item, i int, element []byte) {
	l := it.asList()
	if l.large == nil {
		if size := packed(len(element)); l.small.fits(size) {
			pos := l.small.seek(i)
			pack(it.spliceList(pos, pos, size, 1), element)
			return
		}
		c.growList(it)
	}
	it.asList().large.insert(c.p.journal, i, element)
}

// removeElements removes the elements that are equal to element, but the first few of them and not more than atMost, and
// returns how many. It takes one pass, and so does its undo.
func (c *call) removeElements(it *item, element []byte, skip, atMost int) (removed int) {
	l, j := it.asList(), c.p.journal
	if l.large == nil {
		removed = home{it: it}.filter(l.small, element, &skip, &atMost, func(int) {})
		it.load()
		return removed
	}
	var gone []int // where they were
	d := l.large
	removed = d.filter(element, skip, atMost, func(i int) {
		if j != nil {
			gone = append(gone, i)
		}
	})
	if j != nil && removed > 0 {
		element = bytes.Clone(element)
		j.add(func() { d.restore(gone, element) })
	}
	return removed
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
	{Name: "LMOVEM", Arity: -5, Keys: twoKeys, Flags: Writes | Grows, Group: GroupList, Action: "cache:ListWrite", Also: listReadRight, Facts: lmovemFacts(5), run: lmovem,
		Usage: "source destination <LEFT | RIGHT> <LEFT | RIGHT> [<COUNT | EXACTLY> count <OBO | BULK>]", Summary: "Moves elements from one end of a list to one of another: one by one, or in the order in which they stand", Complexity: "O(N) for N elements", Since: "8.10.0"},
	{Name: "RPOPLPUSH", Arity: 3, Keys: twoKeys, Flags: Writes | Grows, Group: GroupList, Action: "cache:ListWrite", Also: listReadRight, run: func(c *call) error { return move(c, tail, head) },
		Usage: "source destination", Summary: "Moves the last element of a list before the first of another, or of the same", Complexity: "O(1)", Since: "1.2.0"},

	{Name: "LLEN", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupList, Action: "cache:ListRead", run: llen,
		Usage: "key", Summary: "Counts the elements", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "LINDEX", Arity: 3, Keys: oneKey, Group: GroupList, Action: "cache:ListRead", run: lindex,
		Usage: "key index", Summary: "Returns the element at an index", Complexity: "O(1) at the ends, O(N/50000) in the middle", Since: "1.0.0"},
	{Name: "LRANGE", Arity: 4, Keys: oneKey, Group: GroupList, Action: "cache:ListRead", Facts: zrangeFacts, run: lrange,
		Usage: "key start stop", Summary: "Returns the elements in a range of indexes", Complexity: "O(M) for M elements", Since: "1.0.0"},
	{Name: "LPOS", Arity: -3, Keys: oneKey, Group: GroupList, Action: "cache:ListRead", Facts: lposFacts, run: lpos,
		Usage: "key element [RANK rank] [COUNT num-matches] [MAXLEN len]", Summary: "Returns the indexes at which an element stands", Complexity: "O(N)", Since: "6.0.6"},

	{Name: "LSET", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupList, Action: "cache:ListWrite", Facts: lsetFacts, run: lset,
		Usage: "key index element", Summary: "Replaces the element at an index", Complexity: "O(1) at the ends, O(N/50000) in the middle", Since: "1.0.0"},
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
	it = c.listFor(it, key)
	c.pushList(it, at, elements...)
	c.out.Int(int64(it.asList().len()))
	c.changedList(it)
	return nil
}

// listFor returns the item of a list that is going to change, and makes one where there is none (nil). All that can fail has
// been checked by then, and something will be pushed to it.
func (c *call) listFor(it *item, key []byte) *item {
	if it != nil {
		c.changingList(it)
		return it
	}
	return c.put(key, noElements, c.defaultDeadline())
}

// A listBuilder makes a list that nobody knows yet, element by element.
type listBuilder struct {
	small block
	large *deque
}

func (b *listBuilder) add(c *call, element []byte) {
	if b.small == nil {
		b.small = slices.Clone(noElements.small)
	}
	switch {
	case b.large != nil:
		b.large.push(nil, tail, element)
	case b.small.fits(packed(len(element))):
		b.small = appendPacked(b.small, element)
		b.small.count(b.small.n() + 1)
	default:
		b.large = newDeque(c.p.store)
		if n := b.small.n(); n > 0 {
			b.large.append(b.small.elements(), n)
			b.large.n, b.large.size = n, int64(b.small.used())
		}
		b.large.push(nil, tail, element)
	}
}

// value is the list, which has an element at least.
func (b *listBuilder) value() *listValue {
	if b.large != nil {
		return &listValue{large: b.large}
	}
	return &listValue{small: b.small}
}

// noElements is what a new list is until its first element comes.
var noElements = &listValue{small: make(block, blockHead)}

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
		c.dropOuter(it, at, 1)
	}
	return nil
}

// popElements replies with the outermost elements of an end, at most so many, and removes them.
func (c *call) popElements(l *listValue, it *item, at end, atMost int64) {
	n := int(min(atMost, int64(l.len())))
	c.out.Array(n)
	if n == 0 {
		return
	}
	i := 0
	if at == tail {
		i = l.len() - 1
	}
	cur := l.seek(i)
	for range n {
		element, _ := cur.element()
		c.out.Bulk(element)
		if at == head {
			cur.after()
		} else {
			cur.before()
		}
	}
	c.dropOuter(it, at, n)
}

// dropOuter removes n elements from an end, and the list with its last one.
func (c *call) dropOuter(it *item, at end, n int) {
	if n == it.asList().len() {
		c.dropItem(it)
		return
	}
	c.changingList(it)
	c.dropElements(it, at, n)
	c.changedList(it)
}

func lmpop(c *call) error {
	keys, right, count, err := c.parsePops(c.args, "LEFT", "RIGHT")
	if err != nil {
		return err
	}
	done, err := c.popFirst(keys, end(right), count)
	if err == nil && !done {
		c.out.NullArray()
	}
	return err
}

// popFirst pops elements of the first list among keys, and reports whether there is any.
func (c *call) popFirst(keys [][]byte, at end, count int64) (done bool, err error) {
	for _, key := range keys {
		l, it, err := wanted[*listValue](c, key)
		if err != nil {
			return false, err
		}
		if l == nil {
			continue
		}
		c.out.Array(2)
		c.out.Bulk(key)
		c.popElements(l, it, at, count)
		return true, nil
	}
	return false, nil
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
	element := append(c.p.element[:0], source.peek(from)...)
	c.p.element = keep(element)
	switch {
	case target != source:
		c.dropOuter(it, from, 1)
		other = c.listFor(other, c.args[2])
	case from == to || source.len() == 1: // it stays where it is
		c.out.Bulk(element)
		c.tellMove(from, to)
		return nil
	default:
		c.changingList(it)
		c.dropElements(it, from, 1)
		other = it
	}
	c.pushList(other, to, element)
	c.changedList(other)
	c.out.Bulk(element)
	c.tellMove(from, to)
	return nil
}

// A moveOrder says how LMOVEM moves several elements.
type moveOrder struct {
	from, to end
	count    int64
	exactly  bool // all of them or none
	oneByOne bool // or else in the order in which they stand
}

// parseMoves reads the ends, and from argument i on how many elements are moved.
func parseMoves(args [][]byte, i int) (o moveOrder, err error) {
	if o.from, err = parseEnd(args[3]); err != nil {
		return o, err
	}
	if o.to, err = parseEnd(args[4]); err != nil {
		return o, err
	}
	o.count = 1
	options := args[i:]
	if len(options) == 0 {
		return o, nil
	}
	if len(options) != 3 {
		return o, errSyntax
	}
	var ok bool
	o.exactly, o.oneByOne = is(options[0], "EXACTLY"), is(options[2], "OBO")
	o.count, ok = parseInt(options[1])
	switch {
	case !o.exactly && !is(options[0], "COUNT"), !o.oneByOne && !is(options[2], "BULK"):
		return o, errSyntax
	case !ok || o.count < 1:
		return o, fault.About(fault.OutOfRange, "engine", "count", "count should be greater than 0")
	}
	return o, nil
}

func lmovemFacts(i int) facts {
	return func(args [][]byte, _ int64) Facts {
		o, err := parseMoves(args, min(i, len(args)))
		if err != nil {
			return listing(1)
		}
		return listing(o.count)
	}
}

func lmovem(c *call) error {
	o, err := parseMoves(c.args, 5)
	if err != nil {
		return err
	}
	l, it, err := lookup[*listValue](c, c.args[1])
	if err != nil {
		return err
	}
	if o.count > int64(l.len()) && (o.exactly || l == nil) {
		c.out.NullArray()
		return nil
	}
	return c.moveElements(l, it, o)
}

// moveElements moves elements of a list that has enough of them, and answers with them in the order that they have then.
func (c *call) moveElements(source *listValue, it *item, o moveOrder) error {
	target, other, err := lookup[*listValue](c, c.args[2])
	if err != nil {
		return err
	}
	if err := c.checkSizes(c.args[2], 0); err != nil {
		return err
	}
	n := int(min(o.count, int64(source.len())))
	elements := source.outer(o.from, n)
	if o.oneByOne && o.from == o.to {
		slices.Reverse(elements)
	}
	switch all := n == source.len(); {
	case target != source:
		c.dropOuter(it, o.from, n)
		other = c.listFor(other, c.args[2])
	case all:
		other = c.put(c.args[2], noElements, it.expireAt)
	default:
		c.changingList(it)
		c.dropElements(it, o.from, n)
		other = it
	}
	if o.to == head { // the last that is pushed is the first then
		slices.Reverse(elements)
	}
	c.pushList(other, o.to, elements...)
	c.changedList(other)
	if o.to == head {
		slices.Reverse(elements)
	}
	c.out.Array(n)
	for _, e := range elements {
		c.out.Bulk(e)
	}
	c.tellMove(o.from, o.to)
	return nil
}

// outer copies n elements at an end, in the order in which they stand.
func (l *listValue) outer(at end, n int) [][]byte {
	i := 0
	if at == tail {
		i = l.len() - n
	}
	var text []byte
	ends := make([]int, n)
	cur := l.seek(i)
	for i := range ends {
		element, _ := cur.element()
		text = append(text, element...)
		ends[i] = len(text)
		cur.after()
	}
	elements, began := make([][]byte, n), 0
	for i, end := range ends {
		elements[i], began = text[began:end:end], end
	}
	return elements
}

func llen(c *call) error {
	l, err := c.listAt(c.args[1])
	if err != nil {
		return err
	}
	c.out.Int(int64(l.len()))
	return nil
}

// place turns an index, which counts from the end when negative, into a place that seek understands.
func (l *listValue) place(index int64) int {
	if index < 0 {
		index += int64(l.len())
	}
	if index < 0 || index >= int64(l.len()) {
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
	cur := l.seek(l.place(index))
	if !cur.ok() {
		c.out.Null()
		return nil
	}
	element, _ := cur.element()
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
	from, to := indexRange(start, stop, l.len())
	c.out.Array(to - from)
	if from == to {
		return nil
	}
	cur := l.seek(from)
	for range to - from {
		c.step()
		element, _ := cur.element()
		c.out.Bulk(element)
		cur.after()
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
	if l.len() == 0 {
		return nil
	}
	i, step, skip := 0, 1, o.rank-1
	if o.rank < 0 {
		i, step, skip = l.len()-1, -1, -o.rank-1
	}
	left := int64(l.len())
	if o.maxLen > 0 {
		left = min(left, o.maxLen)
	}
	for cur := l.seek(i); left > 0; left-- {
		if e, _ := cur.element(); bytes.Equal(e, element) {
			if skip--; skip < 0 {
				found = append(found, i)
				if int64(len(found)) == o.count {
					break
				}
			}
		}
		if step > 0 {
			cur.after()
		} else {
			cur.before()
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
	c.changingList(it)
	c.setElement(it, i, element)
	c.changedList(it)
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
	c.changingList(it)
	c.insertElement(it, i, element)
	c.out.Int(int64(it.asList().len()))
	c.changedList(it)
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
	c.changingList(it)
	removed := c.removeElements(it, c.args[3], skip, atMost)
	if removed > 0 {
		c.changedList(it)
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
		n := l.len()
		if from, to := indexRange(start, stop, n); from == to {
			c.dropItem(it)
		} else if to-from < n {
			c.changingList(it)
			if l.large != nil {
				l.large.keep(c.p.journal, from, to)
			} else {
				c.dropElements(it, tail, n-to)
				c.dropElements(it, head, from)
			}
			c.changedList(it)
		}
	}
	c.out.Status("OK")
	return nil
}
