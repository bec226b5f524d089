// Package ordered keeps entries sorted and counted: it is what a sorted set and a leaderboard use to
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
// The package draws no random numbers, reads no clock and starts no goroutine: the same calls build
// the same tree, node for node. A Tree belongs to one partition, whose lock its caller holds, so it
// has none of its own. It holds Go strings and shares their bytes with the dictionary from member to
// score that stands beside it; that dictionary also sees to it that a member has one entry only.
//
// Start with Tree and Insert, then read node.go for the layout.
package ordered

import (
	"fmt"
	"iter"
	"math"
)

// An Entry is a member and its place in the order.
//
// Entries sort by Score, then Tie, then the bytes of Member, all ascending. Scores compare as Go
// compares floats: -0 equals +0 (the sign is kept and handed back), ±Inf are scores like any other.
// NaN has no place in the order: the parsers at the edge turn it away. Tie is 0 in a plain sorted
// set; a board whose ties go to the first or the last scorer puts a sequence number there.
type Entry struct {
	Score  float64
	Tie    uint64
	Member string
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
//	T4 depth:   every leaf lies the same number of inner nodes below the root
//	T5 chain:   next and prev visit exactly the tree's leaves, in order
//	T6 slack:   slots beyond the fill hold no string and no child, so what was deleted can be freed
//	T7 bytes:   bytes is the sum of what the nodes take
type Tree struct {
	root  node
	depth int // inner nodes on the way to any leaf
	count int
	bytes int64

	// The most a node may hold: leafCap and innerCap, but for tests, which want deep trees of few entries.
	leafMost, innerMost int
}

// New returns an empty tree. It holds one leaf from the start, about 1.5 KiB: a set of a few dozen
// members is better kept in a compact encoding.
func New() *Tree { return sized(leafCap, innerCap) }

func sized(leafMost, innerMost int) *Tree {
	t := &Tree{leafMost: leafMost, innerMost: innerMost}
	t.reset()
	return t
}

func (t *Tree) reset() {
	t.root, t.depth, t.count, t.bytes = &leaf{}, 0, 0, leafBytes
}

// Build returns a tree of entries that come strictly ascending, in O(n) and with full leaves. It
// fails at the first entry that is out of order or has NaN for its score, so it may be fed from a
// snapshot that nobody has checked.
func Build(entries iter.Seq[Entry]) (*Tree, error) { return build(New(), entries) }

func build(t *Tree, entries iter.Seq[Entry]) (*Tree, error) {
	l := t.root.(*leaf)
	level := []node{l}
	for e := range entries {
		if math.IsNaN(e.Score) {
			return nil, fmt.Errorf("ordered: entry %d has NaN for its score", t.count)
		}
		if l.n > 0 && !l.less(l.n-1, &e) {
			return nil, fmt.Errorf("ordered: entry %d does not come after entry %d", t.count, t.count-1)
		}
		if l.n == t.leafMost {
			l = l.newNext(t).(*leaf)
			level = append(level, l)
		}
		l.insert(t, l.n, &e)
		t.count++
	}
	if many := len(level); many > 1 && l.n < t.leafMost/2 {
		before := level[many-2]
		before.giveNext(t, l, (before.fill()-l.n)/2)
	}
	for len(level) > 1 {
		// An even spread over the fewest nodes leaves each more than half full.
		nodes := (len(level) + t.innerMost - 1) / t.innerMost
		above := make([]node, nodes)
		for i := range above {
			above[i] = t.parent(level[i*len(level)/nodes : (i+1)*len(level)/nodes]...)
		}
		level = above
		t.depth++
	}
	t.root = level[0]
	return t, nil
}

// Len returns the number of entries.
func (t *Tree) Len() int { return t.count }

// Runs returns the number of different scores.
func (t *Tree) Runs() int {
	if t.count == 0 {
		return 0
	}
	return t.root.record().runs
}

// Bytes returns what the tree's nodes take of the heap. The bytes of the members are not in it: they
// are shared with the caller.
func (t *Tree) Bytes() int64 { return t.bytes }

// Insert adds e and reports whether it was absent. It panics when the score is NaN, which would
// spoil the order without a sign.
func (t *Tree) Insert(e Entry) (added bool) {
	if math.IsNaN(e.Score) {
		panic("ordered: Insert of a NaN score")
	}
	for {
		var p path
		l, at := t.find(&e, &p)
		if l.holds(at, &e) {
			return false
		}
		if l.n < t.leafMost {
			l.insert(t, at, &e)
			t.count++
			t.settle(&p)
			return true
		}
		// Making room moves entries about, so look for the place again. One call in dozens gets here.
		t.makeRoom(&p)
	}
}

// Delete removes e, which has to match in score, tie and member, and reports whether it was there.
func (t *Tree) Delete(e Entry) (deleted bool) {
	var p path
	l, at := t.find(&e, &p)
	if !l.holds(at, &e) {
		return false
	}
	t.cut(&p, l, at, at+1)
	return true
}

// DeleteRange removes the entries with from <= index < to. It takes out a leaf's share at a time: the
// cost is O(log n) for each leaf touched, not for each entry.
func (t *Tree) DeleteRange(from, to int) {
	if from < 0 || from > to || to > t.count {
		panic(fmt.Sprintf("ordered: DeleteRange(%d, %d) of %d entries", from, to, t.count))
	}
	if to-from == t.count {
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
	index, c := t.lower(&e)
	return index, c.leaf.holds(c.at, &e)
}

// DescRank returns the index of e in descending order: highest score first, but equal scores in
// ascending order of tie and member, so that equal scores rank by name. It equals the number of
// entries with a greater score, plus the place of e inside its run. If e is absent, found is false
// and index is where it would be.
func (t *Tree) DescRank(e Entry) (index int, found bool) {
	at, c := t.lower(&e)
	if !c.leaf.holds(c.at, &e) {
		return t.count - t.UpperBound(e.Score) + at - t.LowerBound(e.Score), false
	}
	from, to := t.run(at, c)
	return t.count - to + at - from, true
}

// DenseRank returns how many different scores are less than score.
func (t *Tree) DenseRank(score float64) int {
	runs, x := 0, t.root
	for range t.depth {
		n := x.(*inner)
		i := 0
		for i+1 < n.n && n.score[i+1] < score {
			runs += n.runs[i] - n.joint(i+1)
			i++
		}
		x = n.kids[i]
	}
	l := x.(*leaf)
	end := 0
	for end < l.n && l.scores[end] < score {
		end++
	}
	return runs + countRuns(l.scores[:end])
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
	index, _ := t.lower(&Entry{Score: score})
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
		panic(fmt.Sprintf("ordered: At(%d) of %d entries", index, t.count))
	}
	return t.Seek(index).Entry()
}

// DescPage visits up to limit entries in descending order (see DescRank), from the one at offset on,
// until visit returns false. The cost is O(log n) and a constant for each entry visited, whether
// the runs are long or short. The tree must not change meanwhile.
func (t *Tree) DescPage(offset, limit int, visit func(Entry) bool) {
	if offset < 0 {
		panic(fmt.Sprintf("ordered: DescPage from offset %d", offset))
	}
	limit = min(limit, t.count-offset)
	if limit <= 0 {
		return
	}
	// Descending order turns the order of the runs about but not the runs, so the entry at offset lies
	// in the same run as the entry that is as far from the end of the ascending order.
	mirror := t.count - 1 - offset
	from, to := t.run(mirror, t.Seek(mirror))
	start := from + offset - (t.count - to)
	end := min(to, start+limit)
	for c, i := t.Seek(start), start; i < end; i++ {
		if !visit(c.Entry()) {
			return
		}
		c.Next()
	}
	limit -= end - start
	if limit == 0 {
		return
	}
	// From here on each run is visited whole, but for the last one, which may be longer than the page.
	// So a walk back to a run's start takes no more steps than visits are left, each step is followed
	// by a visit, and only that last run costs one more way down.
	last := t.Seek(from - 1)
	for limit > 0 {
		score := last.score()
		first, size := last, 1
		before := first
		for before.Prev(); size < limit && before.Valid() && before.score() == score; before.Prev() {
			first = before
			size++
		}
		last = before
		if before.Valid() && before.score() == score {
			first = t.Seek(t.LowerBound(score))
		}
		for range size {
			if !visit(first.Entry()) {
				return
			}
			first.Next()
		}
		limit -= size
	}
}

// run returns the bounds of the run of the entry at index, where c stands. Most boards have few equal
// scores, so it looks at the neighbours before it goes down for a bound.
func (t *Tree) run(index int, c Cursor) (from, to int) {
	score := c.score()
	from, to = index, index+1
	prev, next := c, c
	if prev.Prev(); prev.Valid() && prev.score() == score {
		from = t.LowerBound(score)
	}
	if next.Next(); next.Valid() && next.score() == score {
		to = t.UpperBound(score)
	}
	return from, to
}

// A Cursor stands on an entry and moves to its neighbours in ascending order; descending order with
// ties reversed, as in ZREVRANGE, is the same walk backwards. It is a small value and costs no
// allocation. A change to the tree makes its cursors meaningless.
type Cursor struct {
	leaf *leaf // nil beside the entries
	at   int
}

// Seek returns a cursor on the entry at index, or one that is not valid if there is none.
func (t *Tree) Seek(index int) Cursor {
	if index < 0 || index >= t.count {
		return Cursor{}
	}
	x := t.root
	for range t.depth {
		n := x.(*inner)
		i := 0
		for ; index >= n.count[i]; i++ {
			index -= n.count[i]
		}
		x = n.kids[i]
	}
	return Cursor{x.(*leaf), index}
}

// Valid reports whether the cursor stands on an entry. It no longer does after a step off either end.
func (c Cursor) Valid() bool { return c.leaf != nil }

// Entry returns the entry under a valid cursor.
func (c Cursor) Entry() Entry { return c.leaf.entry(c.at) }

func (c Cursor) score() float64 { return c.leaf.scores[c.at] }

// Next moves a valid cursor to the following entry.
func (c *Cursor) Next() {
	if c.at++; c.at == c.leaf.n {
		c.leaf, c.at = c.leaf.next, 0
	}
}

// Prev moves a valid cursor to the preceding entry.
func (c *Cursor) Prev() {
	if c.at > 0 {
		c.at--
		return
	}
	if c.leaf = c.leaf.prev; c.leaf != nil {
		c.at = c.leaf.n - 1
	}
}

// maxDepth bounds the inner nodes of a path. With half-full nodes, twelve levels of them would take
// over 2^60 entries.
const maxDepth = 12

// A path is the way from the root to a leaf: at each inner node, the child that was taken.
type path [maxDepth]struct {
	*inner
	i int
}

// find goes down to where e is or belongs, and notes the way in p.
func (t *Tree) find(e *Entry, p *path) (l *leaf, at int) {
	x := t.root
	for d := range t.depth {
		n := x.(*inner)
		i := n.find(e)
		p[d].inner, p[d].i = n, i
		x = n.kids[i]
	}
	l = x.(*leaf)
	return l, l.lower(e)
}

// lower returns the index of the first entry that is not less than e, or Len, and its place, which
// may be one past the end of a leaf.
func (t *Tree) lower(e *Entry) (index int, c Cursor) {
	x := t.root
	for range t.depth {
		n := x.(*inner)
		i := n.find(e)
		index += sum(n.count[:i])
		x = n.kids[i]
	}
	l := x.(*leaf)
	at := l.lower(e)
	return index + at, Cursor{l, at}
}

// seek goes down to the entry at index, which exists, and notes the way in p.
func (t *Tree) seek(index int, p *path) (l *leaf, at int) {
	x := t.root
	for d := range t.depth {
		n := x.(*inner)
		i := 0
		for ; index >= n.count[i]; i++ {
			index -= n.count[i]
		}
		p[d].inner, p[d].i = n, i
		x = n.kids[i]
	}
	return x.(*leaf), index
}

// cut removes the entries [from, to) of the leaf at the end of p.
func (t *Tree) cut(p *path, l *leaf, from, to int) {
	l.remove(from, to)
	t.count -= to - from
	t.settle(p)
}

// settle goes up p after its leaf has changed, and makes T2 and T3 true again.
func (t *Tree) settle(p *path) {
	for d := t.depth - 1; d >= 0; d-- {
		n, i := p[d].inner, p[d].i
		if kid := n.kids[i]; kid.fill() < t.most(kid)/2 {
			t.mend(n, i)
		} else {
			n.replace(i, kid.record())
		}
	}
	for t.depth > 0 && t.root.fill() == 1 {
		t.root = t.root.(*inner).kids[0]
		t.depth--
		t.bytes -= innerBytes
	}
}

// mend fills child i of n, which has too little in it, from the child beside it: the two become one
// if that holds them both, or else share evenly.
func (t *Tree) mend(n *inner, i int) {
	i = max(i, 1)
	l, r := n.kids[i-1], n.kids[i]
	if l.fill()+r.fill() <= t.most(l) {
		gone := i
		if l.fill() == 0 {
			gone = i - 1 // DeleteRange empties leaf after leaf: let it not copy the next one each time
		} else {
			l.takeNext(t, r, r.fill())
		}
		n.kids[gone].drop(t)
		n.move(n, gone, gone+1, n.n-gone-1)
		n.clear(n.n - 1)
	} else {
		t.even(l, r)
		n.set(i, r.record())
	}
	n.set(i-1, n.kids[i-1].record())
	n.retotal()
}

// makeRoom relieves the leaf at the end of p, which is full, or, if that takes a slot that the inner
// node above does not have, that node, and so on upwards. The tree stays whole at each step, so the
// caller looks for its place again and asks again, at most once for each level.
func (t *Tree) makeRoom(p *path) {
	for d := t.depth - 1; d >= 0; d-- {
		if n, i := p[d].inner, p[d].i; t.share(n, i) {
			return
		} else if n.n < t.innerMost {
			t.split(n, i)
			return
		}
	}
	root := t.parent(t.root)
	t.split(root, 0)
	t.root = root
	t.depth++
}

// share evens child i of n out with the emptier of the children beside it, and reports whether there
// was room worth the move. Without it, ascending insertions would leave a trail of half-full nodes.
func (t *Tree) share(n *inner, i int) bool {
	most := t.most(n.kids[i])
	left, right := most, most
	if i > 0 {
		left = n.kids[i-1].fill()
	}
	if i+1 < n.n {
		right = n.kids[i+1].fill()
	}
	if most-min(left, right) < max(2, most/8) {
		return false
	}
	if left > right {
		i++
	}
	t.even(n.kids[i-1], n.kids[i])
	n.set(i-1, n.kids[i-1].record())
	n.set(i, n.kids[i].record())
	n.retotal()
	return true
}

// split moves the upper half of child i of n, which has a slot free, to a new child i+1.
func (t *Tree) split(n *inner, i int) {
	l := n.kids[i]
	r := l.newNext(t)
	t.even(l, r)
	n.move(n, i+2, i+1, n.n-i-1)
	n.n++
	n.kids[i+1] = r
	n.set(i, l.record())
	n.set(i+1, r.record())
	n.retotal()
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
func (t *Tree) parent(kids ...node) *inner {
	n := &inner{n: len(kids)}
	t.bytes += innerBytes
	for i, kid := range kids {
		n.kids[i] = kid
		n.set(i, kid.record())
	}
	n.retotal()
	return n
}

func (t *Tree) most(x node) int {
	if _, ok := x.(*leaf); ok {
		return t.leafMost
	}
	return t.innerMost
}
