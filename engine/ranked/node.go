package ranked

import (
	"bytes"
	"encoding/binary"
	"unsafe"

	"github.com/larder-cache/larder/engine/memory"
)

// How wide nodes are. A leaf is 24 bytes and 13 for each slot, and 78 slots make 1040 bytes, of which 63 fill a
// pool's chunk of 64 KiB to the last 16 bytes. That is narrow enough for a set of 130 members: two leaves and a
// root are 3.4 KiB. decision 0008 has the measurements.
const (
	leafCap  = 78
	innerCap = 32
)

const (
	leafBytes  = int64(unsafe.Sizeof(leaf{}))
	tiesBytes  = int64(unsafe.Sizeof(tieColumn{}))
	innerBytes = int64(unsafe.Sizeof(inner{}))
)

// Nodes is where the trees of a partition keep their nodes. Its pools grow by 64 KiB at a time, which only many
// trees together are worth.
type Nodes struct {
	leaves *memory.Pool[leaf]
	ties   *memory.Pool[tieColumn]
	inners *memory.Pool[inner]

	// The most a node may hold: leafCap and innerCap, but for tests, which want deep trees of few entries.
	leafMost, innerMost int
}

// NewNodes returns Nodes that take their memory from pages.
func NewNodes(pages *memory.Pages) *Nodes { return sized(pages, leafCap, innerCap) }

func sized(pages *memory.Pages, leafMost, innerMost int) *Nodes {
	return &Nodes{memory.NewPool[leaf](pages), memory.NewPool[tieColumn](pages), memory.NewPool[inner](pages), leafMost, innerMost}
}

// Close gives all nodes back at once. No tree of theirs may be used any more.
func (s *Nodes) Close() {
	s.leaves.Close()
	s.ties.Close()
	s.inners.Close()
}

// A node is a leaf or an inner node. A tree's nodes at one distance from the root are of one kind, so
// the nodes handed to the methods below are of the receiver's kind.
type node interface {
	number() uint32
	fill() int             // entries of a leaf, children of an inner node
	record(t *Tree) record // what the node above notes of this one

	newNext(t *Tree) node            // puts an empty node after this one
	takeNext(t *Tree, r node, k int) // moves the first k of r, the next node, to the end of this one
	giveNext(t *Tree, r node, k int) // moves the last k of this one to the front of r, the next node
	drop(t *Tree)                    // takes this node out of the tree and frees it
}

// A record is what an inner node keeps of a child. An empty node has none, and nobody asks it for one.
type record struct {
	first Entry
	last  float64
	count int
	runs  int
}

// packed is a Ref in 5 bytes.
type packed [5]byte

func pack(r Ref) (p packed) {
	binary.LittleEndian.PutUint32(p[:4], uint32(r))
	p[4] = byte(r >> 32)
	return p
}

func (p *packed) ref() Ref { return Ref(binary.LittleEndian.Uint32(p[:4])) | Ref(p[4])<<32 }

// A probe is what a search compares entries with.
type probe struct {
	score float64
	tie   uint64
	ref   Ref    // noRef when the member is given by name alone
	from  Ref    // whose name is the member's
	name  []byte // nil until it is asked for
	names Names
	bare  bool // the place before all entries with the score
}

const noRef = ^Ref(0)

func (t *Tree) probe(e Entry) probe {
	return probe{score: e.Score, tie: e.Tie, ref: e.Member, from: e.Member, names: t.names}
}

func (t *Tree) probeKey(k Key) probe {
	q := probe{score: k.Score, tie: k.Tie, ref: noRef, name: k.Member, names: t.names}
	if q.name == nil {
		q.name = []byte{}
	}
	return q
}

// compare tells how an entry with the probe's score, and with tie and ref, stands to the probe: a name is
// fetched, from wherever it lies, only when nothing else settles it.
func (q *probe) compare(tie uint64, ref Ref) int {
	switch {
	case tie < q.tie:
		return -1
	case tie > q.tie:
		return 1
	case ref == q.ref:
		return 0
	}
	if q.name == nil {
		if q.name = q.names.Name(q.from); q.name == nil {
			q.name = []byte{}
		}
	}
	return bytes.Compare(q.names.Name(ref), q.name)
}

// firstNotLess returns the first of scores, which ascend, that is not less than score, or their number.
func firstNotLess(scores []float64, score float64) int {
	lo, hi := 0, len(scores)
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); scores[mid] < score {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// A leaf keeps its entries by column, in slots [0, n). Most searches are settled by scores, which then
// lie in few cache lines; and there is no column of ties until an entry comes with one, so that a plain
// sorted set pays 13 bytes for a slot, not 21.
type leaf struct {
	n          int
	id         uint32
	prev, next uint32 // 0 for none
	ties       uint32 // 0 while all ties are 0
	scores     [leafCap]float64
	refs       [leafCap]packed
}

type tieColumn [leafCap]uint64

func (l *leaf) tie(t *Tree, i int) uint64 {
	if l.ties == 0 {
		return 0
	}
	return t.nodes.ties.Get(l.ties)[i]
}

func (l *leaf) entry(t *Tree, i int) Entry { return Entry{l.scores[i], l.tie(t, i), l.refs[i].ref()} }

// holds reports whether entry i exists and is the probe's.
func (l *leaf) holds(t *Tree, i int, q *probe) bool {
	return i < l.n && l.scores[i] == q.score && q.compare(l.tie(t, i), l.refs[i].ref()) == 0
}

// lower returns the first slot whose entry is not less than the probe, or n.
func (l *leaf) lower(t *Tree, q *probe) int {
	lo, hi := firstNotLess(l.scores[:l.n], q.score), l.n
	if q.bare {
		return lo
	}
	for lo < hi && l.scores[lo] == q.score {
		mid := int(uint(lo+hi) >> 1)
		if l.scores[mid] == q.score && q.compare(l.tie(t, mid), l.refs[mid].ref()) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

func (l *leaf) insert(t *Tree, at int, e Entry) {
	l.move(t, l, at+1, at, l.n-at)
	l.n++
	l.put(t, at, e)
}

func (l *leaf) put(t *Tree, at int, e Entry) {
	if e.Tie != 0 {
		l.wantTies(t)
	}
	l.scores[at], l.refs[at] = e.Score, pack(e.Member)
	if l.ties != 0 {
		t.nodes.ties.Get(l.ties)[at] = e.Tie
	}
}

func (l *leaf) remove(t *Tree, from, to int) {
	l.move(t, l, from, to, l.n-to)
	l.n -= to - from
}

// move copies k entries from slot i of src to slot at. Where src has ties, so has l.
func (l *leaf) move(t *Tree, src *leaf, at, i, k int) {
	copy(l.scores[at:at+k], src.scores[i:i+k])
	copy(l.refs[at:at+k], src.refs[i:i+k])
	if l.ties == 0 {
		return
	}
	if ties := t.nodes.ties.Get(l.ties); src.ties != 0 {
		copy(ties[at:at+k], t.nodes.ties.Get(src.ties)[i:i+k])
	} else {
		clear(ties[at : at+k])
	}
}

func (l *leaf) wantTies(t *Tree) {
	if l.ties == 0 {
		l.ties, _ = t.nodes.ties.Alloc()
		t.bytes += tiesBytes
	}
}

func (l *leaf) number() uint32 { return l.id }
func (l *leaf) fill() int      { return l.n }

func (l *leaf) record(t *Tree) record {
	return record{l.entry(t, 0), l.scores[l.n-1], l.n, countRuns(l.scores[:l.n])}
}

func (t *Tree) newLeaf() *leaf {
	id, l := t.nodes.leaves.Alloc()
	l.id = id
	t.bytes += leafBytes
	return l
}

func (l *leaf) newNext(t *Tree) node {
	r := t.newLeaf()
	r.prev, r.next = l.id, l.next
	if r.next != 0 {
		t.leaf(r.next).prev = r.id
	}
	l.next = r.id
	return r
}

func (l *leaf) takeNext(t *Tree, next node, k int) {
	r := next.(*leaf)
	if r.ties != 0 {
		l.wantTies(t)
	}
	l.move(t, r, l.n, 0, k)
	l.n += k
	r.remove(t, 0, k)
}

func (l *leaf) giveNext(t *Tree, next node, k int) {
	r := next.(*leaf)
	if l.ties != 0 {
		r.wantTies(t)
	}
	r.move(t, r, k, 0, r.n)
	r.move(t, l, 0, l.n-k, k)
	r.n += k
	l.n -= k
}

func (l *leaf) drop(t *Tree) {
	if l.prev != 0 {
		t.leaf(l.prev).next = l.next
	}
	if l.next != 0 {
		t.leaf(l.next).prev = l.prev
	}
	t.freeLeaf(l)
}

func (t *Tree) freeLeaf(l *leaf) {
	if l.ties != 0 {
		t.nodes.ties.Free(l.ties)
		t.bytes -= tiesBytes
	}
	t.nodes.leaves.Free(l.id)
	t.bytes -= leafBytes
}

// An inner node keeps the records of its children by column too, in slots [0, n), and their totals.
type inner struct {
	n        int
	id       uint32
	level    uint32 // how many levels above the leaves, from 1 on
	allCount uint32
	allRuns  uint32
	score    [innerCap]float64 // score, tie and ref are the first entry below the child
	tie      [innerCap]uint64
	last     [innerCap]float64
	count    [innerCap]uint32
	runs     [innerCap]uint32
	kids     [innerCap]uint32
	ref      [innerCap]packed
}

func (t *Tree) newInner(level uint32) *inner {
	id, n := t.nodes.inners.Alloc()
	n.id, n.level = id, level
	t.bytes += innerBytes
	return n
}

func (n *inner) kid(t *Tree, i int) node {
	if n.level == 1 {
		return t.leaf(n.kids[i])
	}
	return t.inner(n.kids[i])
}

func (n *inner) first(i int) Entry { return Entry{n.score[i], n.tie[i], n.ref[i].ref()} }

// find returns the child that holds the probe or would: the last whose first entry is not after it.
func (n *inner) find(q *probe) int {
	lo, hi := 1+firstNotLess(n.score[1:n.n], q.score), n.n
	if q.bare {
		return lo - 1
	}
	for lo < hi && n.score[lo] == q.score {
		mid := int(uint(lo+hi) >> 1)
		if n.score[mid] == q.score && q.compare(n.tie[mid], n.ref[mid].ref()) <= 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// before adds up what lies below the children before child i: how many entries, and how many different scores
// that do not go on in child i.
func (n *inner) before(i int) (count, runs int) {
	for k := range i {
		count += int(n.count[k])
		runs += int(n.runs[k]) - n.joint(k+1)
	}
	return count, runs
}

// countBefore is the first half of before.
func (n *inner) countBefore(i int) int {
	all := 0
	for _, c := range n.count[:i] {
		all += int(c)
	}
	return all
}

// holding returns the child that holds the entry at index, counted from the start of the node, and the index
// counted from the start of that child.
func (n *inner) holding(index int) (i, rest int) {
	for ; index >= int(n.count[i]); i++ {
		index -= int(n.count[i])
	}
	return i, index
}

// joint returns 1 if a run goes on from child i-1 into child i, and 0 if not.
func (n *inner) joint(i int) int {
	if i > 0 && i < n.n && n.last[i-1] == n.score[i] {
		return 1
	}
	return 0
}

func (n *inner) noted(i int) record {
	return record{n.first(i), n.last[i], int(n.count[i]), int(n.runs[i])}
}

func (n *inner) set(i int, r record) {
	n.score[i], n.tie[i], n.ref[i] = r.first.Score, r.first.Tie, pack(r.first.Member)
	n.last[i], n.count[i], n.runs[i] = r.last, uint32(r.count), uint32(r.runs)
}

// replace sets the record of child i and brings the totals along in constant time.
func (n *inner) replace(i int, r record) {
	count, runs := int(n.allCount), int(n.allRuns)
	count -= int(n.count[i])
	runs -= int(n.runs[i]) - n.joint(i) - n.joint(i+1)
	n.set(i, r)
	count += int(n.count[i])
	runs += int(n.runs[i]) - n.joint(i) - n.joint(i+1)
	n.allCount, n.allRuns = uint32(count), uint32(runs)
}

func (n *inner) retotal() {
	count, runs := n.before(n.n)
	n.allCount, n.allRuns = uint32(count), uint32(runs)
}

// move copies k children and their records from slot i of src to slot at.
func (n *inner) move(src *inner, at, i, k int) {
	copy(n.score[at:at+k], src.score[i:i+k])
	copy(n.tie[at:at+k], src.tie[i:i+k])
	copy(n.last[at:at+k], src.last[i:i+k])
	copy(n.count[at:at+k], src.count[i:i+k])
	copy(n.runs[at:at+k], src.runs[i:i+k])
	copy(n.kids[at:at+k], src.kids[i:i+k])
	copy(n.ref[at:at+k], src.ref[i:i+k])
}

func (n *inner) number() uint32 { return n.id }
func (n *inner) fill() int      { return n.n }

func (n *inner) record(*Tree) record {
	return record{n.first(0), n.last[n.n-1], int(n.allCount), int(n.allRuns)}
}

func (n *inner) newNext(t *Tree) node { return t.newInner(n.level) }

func (n *inner) takeNext(_ *Tree, next node, k int) {
	r := next.(*inner)
	n.move(r, n.n, 0, k)
	n.n += k
	r.move(r, 0, k, r.n-k)
	r.n -= k
	n.retotal()
	r.retotal()
}

func (n *inner) giveNext(_ *Tree, next node, k int) {
	r := next.(*inner)
	r.move(r, k, 0, r.n)
	r.move(n, 0, n.n-k, k)
	r.n += k
	n.n -= k
	n.retotal()
	r.retotal()
}

func (n *inner) drop(t *Tree) {
	t.nodes.inners.Free(n.id)
	t.bytes -= innerBytes
}

// countRuns returns how many different scores there are in scores, which ascend.
func countRuns(scores []float64) int {
	if len(scores) == 0 {
		return 0
	}
	runs := 1
	last := scores[0]
	for _, s := range scores[1:] {
		if s != last {
			runs++
		}
		last = s
	}
	return runs
}
