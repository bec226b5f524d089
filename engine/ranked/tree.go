// Package ranked keeps entries sorted and counted: it is what a sorted set and a leaderboard use to
// answer "who is third?", "how many scored better?" and "give me the page after this one".
//
// A Tree is a B+ tree. The entries live in wide leaves, in order (score, tie, member); a leaf knows
// the leaves beside it, so a scan never climbs. Above the leaves, an inner node keeps one record for
// each child:
//
//	first   the first entry below that child, exactly: the key to search by
//	last    the last score below it
//	count   how many entries lie below it
//	runs    how many different scores lie below it
//
// A run is a stretch of entries with equal scores. Counts add up, so the rank of an entry is the sum
// of the counts to the left of the way down to it, and the way to the entry at an index follows the
// same sums. Runs add up too, less one wherever a run goes on from one child into the next, and that
// shows from last of the one and the score of first of the other. Hence rank, dense rank and both
// score bounds each cost one way down, O(log n), however many scores are equal.
//
// A record depends on what lies below a child but not on how it is spread over nodes. An insertion or
// deletion therefore mends records upwards along one path, and moving entries between two children
// of one node disturbs nothing above that node.
//
// Nothing here is seen by the garbage collector. Nodes are pieces of package memory and name each other by
// number; members are stored elsewhere, once, and an entry holds a Ref to its member's record. The tree asks for
// a name (Names) only where score and tie leave the order open, which in most sets is seldom.
//
// The package draws no random numbers, reads no clock and starts no goroutine: the same calls build
// the same tree, node for node. A Tree belongs to one partition, whose lock its caller holds, so it
// has none of its own. The caller also sees to it that a member has one entry only.
//
// Start with Tree and Insert, then read node.go for the layout and place.go for walks that know their ranks.
package ranked

import (
	"fmt"
	"iter"
	"math"
)

// A Ref says where a member is stored: whatever Names makes of it. Only its low 40 bits may be used.
type Ref uint64

const maxRef = Ref(1)<<40 - 1

// Names knows the members. Name returns the bytes of a member whose entry is in the tree, or whose entry the
// call at hand is about; the tree does not change them and keeps them no longer than the call.
type Names interface{ Name(Ref) []byte }

// An Entry is a member and its place in the order.
//
// Entries sort by Score, then Tie, then the bytes of Member's name, all ascending. Scores compare as Go
// compares floats: -0 equals +0 (the sign is kept and handed back), ±Inf are scores like any other.
// NaN has no place in the order: the parsers at the edge turn it away. Tie is 0 in a plain sorted
// set; a board whose ties go to the first or the last scorer puts a sequence number there.
type Entry struct {
	Score  float64
	Tie    uint64
	Member Ref
}

// A Key is a place in the order where there need not be an entry: its member is given by name.
type Key struct {
	Score  float64
	Tie    uint64
	Member []byte
}

// A Tree is a sorted set of entries with ranks. Make one with New or Build.
//
// Indexes count from 0. A call with an index outside the tree is a bug of the caller, and panics, as
// it would with a slice. Between two calls these hold, and Check reports the first that does not:
//
//	T1 order:   entries ascend strictly, from the first leaf to the last, and no score is NaN
//	T2 records: each record says of its child what the entries below that child say, and an inner
//	            node's own totals are those of its records
//	T3 fill:    a node holds at most what its arrays take, and, unless it is the root, at least half
//	            as much; an inner root has two children or more
//	T4 depth:   every leaf lies the same number of inner nodes below the root, and each of these knows its level
//	T5 chain:   next and prev visit exactly the tree's leaves, in order
//	T6 numbers: a node knows the number by which it is reached
//	T7 bytes:   bytes is the sum of what the nodes take
type Tree struct {
	nodes *Nodes
	names Names
	root  uint32
	depth int // inner nodes on the way to any leaf
	count int
	bytes int64
}

// New returns an empty tree with nodes from nodes. It holds one leaf from the start, about 1 KiB: a set of a few
// dozen members is better kept in a compact encoding. Free it with FreeSome.
func New(nodes *Nodes, names Names) *Tree {
	t := &Tree{nodes: nodes, names: names}
	t.reset()
	return t
}

func (t *Tree) reset() {
	t.depth, t.count, t.bytes = 0, 0, 0
	t.root = t.newLeaf().id
}

// Build returns a tree of entries that come strictly ascending, in O(n) and with full leaves. It
// fails at the first entry that is out of order or has NaN for its score, so it may be fed from a
// snapshot that nobody has checked.
func Build(nodes *Nodes, names Names, entries iter.Seq[Entry]) (*Tree, error) {
	t := New(nodes, names)
	l := t.leaf(t.root)
	level := []uint32{l.id}
	for e := range entries {
		if err := t.follows(l, e); err != nil {
			for id := level[0]; id != 0; {
				l := t.leaf(id)
				id = l.next
				t.freeLeaf(l)
			}
			return nil, err
		}
		if l.n == nodes.leafMost {
			l = l.newNext(t).(*leaf)
			level = append(level, l.id)
		}
		l.insert(t, l.n, e)
		t.count++
	}
	if many := len(level); many > 1 && l.n < nodes.leafMost/2 {
		before := t.leaf(level[many-2])
		before.giveNext(t, l, (before.n-l.n)/2)
	}
	for len(level) > 1 {
		// An even spread over the fewest nodes leaves each more than half full.
		many := (len(level) + nodes.innerMost - 1) / nodes.innerMost
		above := make([]uint32, many)
		t.depth++
		for i := range above {
			above[i] = t.parent(uint32(t.depth), level[i*len(level)/many:(i+1)*len(level)/many]...).id
		}
		level = above
	}
	t.root = level[0]
	return t, nil
}

// follows says why e cannot come after the last entry of l, the last leaf.
func (t *Tree) follows(l *leaf, e Entry) error {
	if math.IsNaN(e.Score) {
		return fmt.Errorf("ranked: entry %d has NaN for its score", t.count)
	}
	if l.n == 0 || l.scores[l.n-1] < e.Score {
		return nil
	}
	q := t.probe(e)
	if last := l.n - 1; l.scores[last] > e.Score || q.compare(l.tie(t, last), l.refs[last].ref()) >= 0 {
		return fmt.Errorf("ranked: entry %d does not come after entry %d", t.count, t.count-1)
	}
	return nil
}

// FreeSome frees at most atMost nodes of a tree that is no longer in use, and reports whether there are more.
// A node is at most 80 entries and costs less than a microsecond, now and then 20 when a chunk goes back to the
// operating system. Nothing else may be done with the tree from the first call on.
func (t *Tree) FreeSome(atMost int) (more bool) {
	if t.root != 0 && t.free(t.node(t.root), &atMost) {
		t.root, t.depth, t.count = 0, 0, 0
	}
	return t.root != 0
}

// free frees what lies below x, from its end, and then x, until atMost is used up; it reports whether x is gone.
func (t *Tree) free(x node, atMost *int) (gone bool) {
	if n, ok := x.(*inner); ok {
		for ; n.n > 0; n.n-- {
			if !t.free(n.kid(t, n.n-1), atMost) {
				return false
			}
		}
	}
	if *atMost <= 0 {
		return false
	}
	*atMost--
	switch x := x.(type) {
	case *leaf:
		t.freeLeaf(x)
	case *inner:
		x.drop(t)
	}
	return true
}

// Detach empties the tree in O(1): what was in it is in the tree returned, to be freed in steps.
func (t *Tree) Detach() *Tree {
	old := *t
	t.reset()
	return &old
}

func (t *Tree) leaf(id uint32) *leaf   { return t.nodes.leaves.Get(id) }
func (t *Tree) inner(id uint32) *inner { return t.nodes.inners.Get(id) }

// node returns the root by its number.
func (t *Tree) node(root uint32) node {
	if t.depth == 0 {
		return t.leaf(root)
	}
	return t.inner(root)
}

// Len returns the number of entries.
func (t *Tree) Len() int { return t.count }

// Runs returns the number of different scores.
func (t *Tree) Runs() int {
	if t.count == 0 {
		return 0
	}
	return t.node(t.root).record(t).runs
}

// Bytes returns what the tree's nodes take. The members are not in it: they are stored elsewhere.
func (t *Tree) Bytes() int64 { return t.bytes }

// Insert adds e and reports whether it was absent. It panics when the score is NaN, which would
// spoil the order without a sign.
func (t *Tree) Insert(e Entry) (added bool) {
	if math.IsNaN(e.Score) || e.Member > maxRef {
		panic("ranked: Insert of a NaN score or of a ref that is too large")
	}
	q := t.probe(e)
	for {
		var p path
		l, at := t.find(&q, &p)
		if l.holds(t, at, &q) {
			return false
		}
		if l.n < t.nodes.leafMost {
			l.insert(t, at, e)
			t.count++
			t.settle(&p)
			return true
		}
		// Making room moves entries about, so look for the place again. One call in dozens gets here.
		t.makeRoom(&p, at)
	}
}

// Delete removes e, which has to match in score, tie and member, and reports whether it was there.
func (t *Tree) Delete(e Entry) (deleted bool) {
	var p path
	q := t.probe(e)
	l, at := t.find(&q, &p)
	if !l.holds(t, at, &q) {
		return false
	}
	t.cut(&p, l, at, at+1)
	return true
}

// Move gives the member of e another score and tie, and reports whether e was there. It is Delete and Insert, in
// one way down when the entry stays in its leaf.
func (t *Tree) Move(e Entry, score float64, tie uint64) (moved bool) {
	if math.IsNaN(score) {
		panic("ranked: Move to a NaN score")
	}
	var p path
	q := t.probe(e)
	l, at := t.find(&q, &p)
	if !l.holds(t, at, &q) {
		return false
	}
	q.score, q.tie, e = score, tie, Entry{score, tie, e.Member}
	to := l.lower(t, &q)
	up := to > at // the entry itself was counted among those before its new place
	if up {
		to--
	}
	// At an end of the leaf, the new place is sure to be in it only when there is no leaf beyond or when the
	// entry was at that end and moves inwards.
	if to == 0 && l.prev != 0 && !(at == 0 && up) || to == l.n-1 && l.next != 0 && !(at == l.n-1 && !up) {
		t.cut(&p, l, at, at+1)
		return t.Insert(e)
	}
	if to > at {
		l.move(t, l, at, at+1, to-at)
	} else {
		l.move(t, l, to+1, to, at-to)
	}
	l.put(t, to, e)
	t.settle(&p)
	return true
}

// Relocate tells the tree that the member of e is now stored at to, and reports whether e was there. The
// tree asks for the name under to, no longer under e.Member; every other member it may ask for as ever.
func (t *Tree) Relocate(e Entry, to Ref) (found bool) {
	if to > maxRef {
		panic("ranked: Relocate to a ref that is too large")
	}
	var p path
	q := t.probe(e)
	q.from = to
	l, at := t.find(&q, &p)
	if !l.holds(t, at, &q) {
		return false
	}
	l.refs[at] = pack(to)
	for d := t.depth - 1; d >= 0 && at == 0; d-- {
		at = p[d].i
		p[d].ref[at] = pack(to)
	}
	return true
}

// DeleteRange removes the entries with from <= index < to. It takes out a leaf's share at a time: the
// cost is O(log n) for each leaf touched, not for each entry. It asks for no names.
func (t *Tree) DeleteRange(from, to int) {
	if from < 0 || from > to || to > t.count {
		panic(fmt.Sprintf("ranked: DeleteRange(%d, %d) of %d entries", from, to, t.count))
	}
	if to-from == t.count {
		t.FreeSome(math.MaxInt)
		t.reset()
		return
	}
	for left := to - from; left > 0; {
		var p path
		l, at := t.seek(from, &p)
		end := min(l.n, at+left)
		t.cut(&p, l, at, end)
		left -= end - at
	}
}

// Rank returns the index of e, and whether e is there; if not, the index that it would have.
func (t *Tree) Rank(e Entry) (index int, found bool) {
	q := t.probe(e)
	return t.rank(&q)
}

// RankKey is Rank for a member given by name.
func (t *Tree) RankKey(k Key) (index int, found bool) {
	q := t.probeKey(k)
	return t.rank(&q)
}

func (t *Tree) rank(q *probe) (index int, found bool) {
	index, c := t.lower(q)
	return index, c.leaf.holds(t, c.at, q)
}

// DescRank returns the index of e in descending order: highest score first, but equal scores in
// ascending order of tie and member, so that equal scores rank by name. It equals the number of
// entries with a greater score, plus the place of e inside its run. If e is absent, found is false
// and index is where it would be.
func (t *Tree) DescRank(e Entry) (index int, found bool) {
	q := t.probe(e)
	return t.descRank(&q)
}

// DescRankKey is DescRank for a member given by name.
func (t *Tree) DescRankKey(k Key) (index int, found bool) {
	q := t.probeKey(k)
	return t.descRank(&q)
}

func (t *Tree) descRank(q *probe) (index int, found bool) {
	at, c := t.lower(q)
	if !c.leaf.holds(t, c.at, q) {
		return t.count - t.UpperBound(q.score) + at - t.LowerBound(q.score), false
	}
	return t.count - c.runEnd(at) + at - c.runStart(at), true
}

// DenseRank returns how many different scores are less than score.
func (t *Tree) DenseRank(score float64) int {
	q := probe{score: score, bare: true}
	dense, id := 0, t.root
	for range t.depth {
		n := t.inner(id)
		i := n.find(&q)
		_, runs := n.before(i)
		dense += runs
		id = n.kids[i]
	}
	l := t.leaf(id)
	return dense + countRuns(l.scores[:l.lower(t, &q)])
}

// DescDenseRank returns how many different scores are greater than score.
func (t *Tree) DescDenseRank(score float64) int {
	if math.IsInf(score, 1) {
		return 0
	}
	return t.Runs() - t.DenseRank(above(score))
}

// LowerBound returns the index of the first entry with a score of at least score, or Len.
func (t *Tree) LowerBound(score float64) int {
	index, _ := t.lower(&probe{score: score, bare: true})
	return index
}

// UpperBound returns the index of the first entry with a score greater than score, or Len.
func (t *Tree) UpperBound(score float64) int {
	if math.IsInf(score, 1) {
		return t.count
	}
	return t.LowerBound(above(score))
}

// above returns the least score that is greater than score, which is not +Inf. No score lies between
// the two, so "greater than score" and "at least above(score)" are the same question.
func above(score float64) float64 { return math.Nextafter(score, math.Inf(1)) }

// At returns the entry at index.
func (t *Tree) At(index int) Entry {
	if index < 0 || index >= t.count {
		panic(fmt.Sprintf("ranked: At(%d) of %d entries", index, t.count))
	}
	return t.Seek(index).Entry()
}

// A Cursor stands on an entry and moves to its neighbours in ascending order; descending order with
// ties reversed, as in ZREVRANGE, is the same walk backwards. It is a small value and costs no
// allocation. A change to the tree makes its cursors meaningless.
type Cursor struct {
	tree *Tree
	leaf *leaf // nil beside the entries
	at   int
}

// Seek returns a cursor on the entry at index, or one that is not valid if there is none.
func (t *Tree) Seek(index int) Cursor {
	if index < 0 || index >= t.count {
		return Cursor{tree: t}
	}
	id := t.root
	for range t.depth {
		n := t.inner(id)
		i, rest := n.holding(index)
		id, index = n.kids[i], rest
	}
	return Cursor{t, t.leaf(id), index}
}

// Valid reports whether the cursor stands on an entry. It no longer does after a step off either end.
func (c Cursor) Valid() bool { return c.leaf != nil }

// Entry returns the entry under a valid cursor.
func (c Cursor) Entry() Entry { return c.leaf.entry(c.tree, c.at) }

func (c Cursor) score() float64 { return c.leaf.scores[c.at] }

// Next moves a valid cursor to the following entry.
func (c *Cursor) Next() {
	if c.at++; c.at == c.leaf.n {
		c.leaf, c.at = c.tree.beside(c.leaf.next), 0
	}
}

// Prev moves a valid cursor to the preceding entry.
func (c *Cursor) Prev() {
	if c.at > 0 {
		c.at--
		return
	}
	if c.leaf = c.tree.beside(c.leaf.prev); c.leaf != nil {
		c.at = c.leaf.n - 1
	}
}

func (t *Tree) beside(id uint32) *leaf {
	if id == 0 {
		return nil
	}
	return t.leaf(id)
}

// maxDepth bounds the inner nodes of a path. With half-full nodes, ten levels of them would take
// over 2^40 entries, which is all the refs there are; tests, with smaller nodes, have fewer.
const maxDepth = 10

// A path is the way from the root to a leaf: at each inner node, the child that was taken.
type path [maxDepth]struct {
	*inner
	i int
}

// find goes down to where the probe is or belongs, and notes the way in p.
func (t *Tree) find(q *probe, p *path) (l *leaf, at int) {
	id := t.root
	for d := range t.depth {
		n := t.inner(id)
		i := n.find(q)
		p[d].inner, p[d].i = n, i
		id = n.kids[i]
	}
	l = t.leaf(id)
	return l, l.lower(t, q)
}

// lower returns the index of the first entry that is not less than the probe, or Len, and its place, which
// may be one past the end of a leaf.
func (t *Tree) lower(q *probe) (index int, c Cursor) {
	id := t.root
	for range t.depth {
		n := t.inner(id)
		i := n.find(q)
		index += n.countBefore(i)
		id = n.kids[i]
	}
	l := t.leaf(id)
	at := l.lower(t, q)
	return index + at, Cursor{t, l, at}
}

// seek goes down to the entry at index, which exists, and notes the way in p.
func (t *Tree) seek(index int, p *path) (l *leaf, at int) {
	id := t.root
	for d := range t.depth {
		n := t.inner(id)
		i, rest := n.holding(index)
		p[d].inner, p[d].i = n, i
		id, index = n.kids[i], rest
	}
	return t.leaf(id), index
}

// cut removes the entries [from, to) of the leaf at the end of p.
func (t *Tree) cut(p *path, l *leaf, from, to int) {
	l.remove(t, from, to)
	t.count -= to - from
	t.settle(p)
}

// settle goes up p after its leaf has changed, and makes T2 and T3 true again. It stops where nothing changes.
func (t *Tree) settle(p *path) {
	for d := t.depth - 1; d >= 0; d-- {
		n, i := p[d].inner, p[d].i
		kid := n.kid(t, i)
		if kid.fill() < t.most(kid)/2 {
			t.mend(n, i)
			continue
		}
		now := kid.record(t)
		if n.noted(i) == now {
			return
		}
		n.replace(i, now)
	}
	for t.depth > 0 {
		root := t.inner(t.root)
		if root.n > 1 {
			return
		}
		t.root = root.kids[0]
		t.depth--
		root.drop(t)
	}
}

// mend fills child i of n, which has too little in it, from the child beside it: the two become one
// if that holds them both, or else share evenly.
func (t *Tree) mend(n *inner, i int) {
	i = max(i, 1)
	l, r := n.kid(t, i-1), n.kid(t, i)
	if l.fill()+r.fill() <= t.most(l) {
		gone := r
		if l.fill() == 0 {
			gone, i = l, i-1 // DeleteRange empties leaf after leaf: let it not copy the next one each time
		} else {
			l.takeNext(t, r, r.fill())
			n.set(i-1, l.record(t))
		}
		gone.drop(t)
		n.move(n, i, i+1, n.n-i-1)
		n.n--
	} else {
		t.even(l, r)
		n.set(i-1, l.record(t))
		n.set(i, r.record(t))
	}
	n.retotal()
}

// makeRoom relieves the leaf at the end of p, which is full, or, if that takes a slot that the inner
// node above does not have, that node, and so on upwards. The tree stays whole at each step, so the
// caller looks for its place again and asks again, at most once for each level. at is the slot of the leaf
// where the entry belongs.
func (t *Tree) makeRoom(p *path, at int) {
	for d := t.depth - 1; d >= 0; d-- {
		n, i := p[d].inner, p[d].i
		if t.share(n, i) {
			return
		}
		if n.n < t.nodes.innerMost {
			t.split(n, i, at)
			return
		}
		if at = i; i == n.n-1 {
			at = n.n
		}
	}
	root := t.parent(uint32(t.depth+1), t.root)
	t.depth++
	t.root = root.id
	t.split(root, 0, at)
}

// share evens child i of n out with the emptier of the children beside it, and reports whether there
// was room worth the move. Without it, ascending insertions would leave a trail of half-full nodes.
func (t *Tree) share(n *inner, i int) bool {
	most := t.most(n.kid(t, i))
	left, right := most, most
	if i > 0 {
		left = n.kid(t, i-1).fill()
	}
	if i+1 < n.n {
		right = n.kid(t, i+1).fill()
	}
	if most-min(left, right) < 2 {
		return false
	}
	if left > right {
		i++
	}
	l, r := n.kid(t, i-1), n.kid(t, i)
	t.even(l, r)
	n.set(i-1, l.record(t))
	n.set(i, r.record(t))
	n.retotal()
	return true
}

// split gives child i of n, which has a slot free, a new neighbour. The child and the one beside it, which is
// full as well or nearly so, become three that are two thirds full: that is what keeps a tree of random scores over
// 80 % full. at is the slot of the child where something is to come in, and likely to be followed by more, as when
// scores ascend or members of one score do. What such insertions leave behind is filled up by share, as long as
// it stays beside them: so the child beside is the one on their far side, and when they come at an end, the
// child is halved alone.
func (t *Tree) split(n *inner, i, at int) {
	if l := n.kid(t, i); n.n == 1 || at == 0 || at == l.fill() {
		t.even(l, t.newKid(n, i+1, l))
		n.set(i, l.record(t))
		n.set(i+1, n.kid(t, i+1).record(t))
		n.retotal()
		return
	} else if at <= l.fill()/2 {
		i--
	}
	i = min(max(i, 0), n.n-2)
	l, r := n.kid(t, i), n.kid(t, i+1)
	m := t.newKid(n, i+1, l)
	both := l.fill() + r.fill()
	l.giveNext(t, m, l.fill()-both/3)
	m.takeNext(t, r, r.fill()-(both+1)/3)
	n.set(i, l.record(t))
	n.set(i+1, m.record(t))
	n.set(i+2, r.record(t))
	n.retotal()
}

// newKid puts an empty node after l, as child at of n; its record is yet to be set.
func (t *Tree) newKid(n *inner, at int, l node) node {
	r := l.newNext(t)
	n.move(n, at+1, at, n.n-at)
	n.n++
	n.kids[at] = r.number()
	return r
}

// even spreads what two neighbours hold so that they hold the same, or l one less.
func (t *Tree) even(l, r node) {
	if half := (l.fill() + r.fill()) / 2; l.fill() < half {
		l.takeNext(t, r, half-l.fill())
	} else {
		l.giveNext(t, r, l.fill()-half)
	}
}

// parent returns a new inner node above kids.
func (t *Tree) parent(level uint32, kids ...uint32) *inner {
	n := t.newInner(level)
	n.n = copy(n.kids[:], kids)
	for i := range kids {
		n.set(i, n.kid(t, i).record(t))
	}
	n.retotal()
	return n
}

func (t *Tree) most(x node) int {
	if _, ok := x.(*leaf); ok {
		return t.nodes.leafMost
	}
	return t.nodes.innerMost
}
