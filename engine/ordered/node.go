package ordered

import "unsafe"

// How wide nodes are. A million random scores took 33.8 bytes an entry with leaves of 30, 31.3 with 62
// and 30.1 with 126; changing a score took about 2 µs with any of them. So the middle one: nearly the
// memory of the widest, at half its price for a small set and half the entries moved in the worst case.
// A leaf's width is two less than a power of two because 24 bytes for each entry and the leaf's other
// fields then fit one of the allocator's size classes (768, 1536 and 3072 bytes), with the 8 bytes
// that the allocator puts before an object of over 512 bytes with pointers.
const (
	leafCap  = 62
	innerCap = 64
)

const (
	leafBytes  = int64(unsafe.Sizeof(leaf{})) + 8
	tiesBytes  = int64(unsafe.Sizeof([leafCap]uint64{}))
	innerBytes = int64(unsafe.Sizeof(inner{})) + 8
)

// A node is a leaf or an inner node. A tree's nodes at one distance from the root are of one kind, so
// the nodes handed to the methods below are of the receiver's kind.
type node interface {
	fill() int      // entries of a leaf, children of an inner node
	record() record // what the node above notes of this one

	newNext(t *Tree) node            // puts an empty node after this one
	takeNext(t *Tree, r node, k int) // moves the first k of r, the next node, to the end of this one
	giveNext(t *Tree, r node, k int) // moves the last k of this one to the front of r, the next node
	drop(t *Tree)                    // takes this node, which is empty, out of the tree
}

// A record is what an inner node keeps of a child. An empty node has none, and nobody asks it for one.
type record struct {
	first Entry
	last  float64
	count int
	runs  int
}

// A leaf keeps its entries by column, in slots [0, n). Most searches are settled by scores, which then
// lie in few cache lines; and ties stays nil until an entry comes with one, so that a plain sorted set
// pays 24 bytes for a slot, not 32.
type leaf struct {
	n          int
	prev, next *leaf
	ties       *[leafCap]uint64
	scores     [leafCap]float64
	members    [leafCap]string
}

func (l *leaf) tie(i int) uint64 {
	if l.ties == nil {
		return 0
	}
	return l.ties[i]
}

func (l *leaf) entry(i int) Entry { return Entry{l.scores[i], l.tie(i), l.members[i]} }

// less reports whether entry i comes before e.
func (l *leaf) less(i int, e *Entry) bool {
	if s := l.scores[i]; s != e.Score {
		return s < e.Score
	}
	if tie := l.tie(i); tie != e.Tie {
		return tie < e.Tie
	}
	return l.members[i] < e.Member
}

// holds reports whether entry i exists and is e.
func (l *leaf) holds(i int, e *Entry) bool {
	return i < l.n && l.scores[i] == e.Score && l.tie(i) == e.Tie && l.members[i] == e.Member
}

// lower returns the first slot whose entry is not less than e, or n.
func (l *leaf) lower(e *Entry) int {
	lo, hi := 0, l.n
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); l.less(mid, e) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

func (l *leaf) insert(t *Tree, at int, e *Entry) {
	if e.Tie != 0 {
		l.wantTies(t)
	}
	l.move(l, at+1, at, l.n-at)
	l.n++
	l.scores[at], l.members[at] = e.Score, e.Member
	if l.ties != nil {
		l.ties[at] = e.Tie
	}
}

func (l *leaf) remove(from, to int) {
	l.move(l, from, to, l.n-to)
	l.clear(l.n - (to - from))
}

// move copies k entries from slot i of src to slot at. Where src has ties, so has l.
func (l *leaf) move(src *leaf, at, i, k int) {
	copy(l.scores[at:at+k], src.scores[i:i+k])
	copy(l.members[at:at+k], src.members[i:i+k])
	if src.ties != nil {
		copy(l.ties[at:at+k], src.ties[i:i+k])
	} else if l.ties != nil {
		clear(l.ties[at : at+k])
	}
}

// clear gives up the slots from n on, and the members in them.
func (l *leaf) clear(n int) {
	clear(l.members[n:l.n])
	l.n = n
}

func (l *leaf) wantTies(t *Tree) {
	if l.ties == nil {
		l.ties = new([leafCap]uint64)
		t.bytes += tiesBytes
	}
}

func (l *leaf) fill() int { return l.n }

func (l *leaf) record() record {
	return record{l.entry(0), l.scores[l.n-1], l.n, countRuns(l.scores[:l.n])}
}

func (l *leaf) newNext(t *Tree) node {
	r := &leaf{prev: l, next: l.next}
	if r.next != nil {
		r.next.prev = r
	}
	l.next = r
	t.bytes += leafBytes
	return r
}

func (l *leaf) takeNext(t *Tree, next node, k int) {
	r := next.(*leaf)
	if r.ties != nil {
		l.wantTies(t)
	}
	l.move(r, l.n, 0, k)
	l.n += k
	r.remove(0, k)
}

func (l *leaf) giveNext(t *Tree, next node, k int) {
	r := next.(*leaf)
	if l.ties != nil {
		r.wantTies(t)
	}
	r.move(r, k, 0, r.n)
	r.move(l, 0, l.n-k, k)
	r.n += k
	l.clear(l.n - k)
}

func (l *leaf) drop(t *Tree) {
	if l.prev != nil {
		l.prev.next = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	}
	t.bytes -= leafBytes
	if l.ties != nil {
		t.bytes -= tiesBytes
	}
}

// An inner node keeps the records of its children by column too, in slots [0, n), and their totals.
type inner struct {
	n        int
	allCount int
	allRuns  int
	score    [innerCap]float64 // score, tie and member are the first entry below the child
	tie      [innerCap]uint64
	member   [innerCap]string
	last     [innerCap]float64
	count    [innerCap]int
	runs     [innerCap]int
	kids     [innerCap]node
}

func (n *inner) first(i int) Entry { return Entry{n.score[i], n.tie[i], n.member[i]} }

// find returns the child that holds e or would: the last whose first entry is not after e.
func (n *inner) find(e *Entry) int {
	lo, hi := 1, n.n
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); n.after(mid, e) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	return lo - 1
}

// after reports whether the first entry below child i comes after e.
func (n *inner) after(i int, e *Entry) bool {
	if s := n.score[i]; s != e.Score {
		return s > e.Score
	}
	if tie := n.tie[i]; tie != e.Tie {
		return tie > e.Tie
	}
	return n.member[i] > e.Member
}

// joint returns 1 if a run goes on from child i-1 into child i, and 0 if not.
func (n *inner) joint(i int) int {
	if i > 0 && i < n.n && n.last[i-1] == n.score[i] {
		return 1
	}
	return 0
}

func (n *inner) set(i int, r record) {
	n.score[i], n.tie[i], n.member[i] = r.first.Score, r.first.Tie, r.first.Member
	n.last[i], n.count[i], n.runs[i] = r.last, r.count, r.runs
}

// replace sets the record of child i and brings the totals along in constant time.
func (n *inner) replace(i int, r record) {
	n.allCount -= n.count[i]
	n.allRuns -= n.runs[i] - n.joint(i) - n.joint(i+1)
	n.set(i, r)
	n.allCount += n.count[i]
	n.allRuns += n.runs[i] - n.joint(i) - n.joint(i+1)
}

func (n *inner) retotal() {
	n.allCount, n.allRuns = sum(n.count[:n.n]), 0
	for i := range n.n {
		n.allRuns += n.runs[i] - n.joint(i)
	}
}

// move copies k children and their records from slot i of src to slot at.
func (n *inner) move(src *inner, at, i, k int) {
	copy(n.score[at:at+k], src.score[i:i+k])
	copy(n.tie[at:at+k], src.tie[i:i+k])
	copy(n.member[at:at+k], src.member[i:i+k])
	copy(n.last[at:at+k], src.last[i:i+k])
	copy(n.count[at:at+k], src.count[i:i+k])
	copy(n.runs[at:at+k], src.runs[i:i+k])
	copy(n.kids[at:at+k], src.kids[i:i+k])
}

// clear gives up the slots from k on, and what they point to.
func (n *inner) clear(k int) {
	clear(n.member[k:n.n])
	clear(n.kids[k:n.n])
	n.n = k
}

func (n *inner) fill() int { return n.n }

func (n *inner) record() record {
	return record{n.first(0), n.last[n.n-1], n.allCount, n.allRuns}
}

func (n *inner) newNext(t *Tree) node {
	t.bytes += innerBytes
	return &inner{}
}

func (n *inner) takeNext(_ *Tree, next node, k int) {
	r := next.(*inner)
	n.move(r, n.n, 0, k)
	n.n += k
	r.move(r, 0, k, r.n-k)
	r.clear(r.n - k)
	n.retotal()
	r.retotal()
}

func (n *inner) giveNext(_ *Tree, next node, k int) {
	r := next.(*inner)
	r.move(r, k, 0, r.n)
	r.move(n, 0, n.n-k, k)
	r.n += k
	n.clear(n.n - k)
	n.retotal()
	r.retotal()
}

func (n *inner) drop(t *Tree) { t.bytes -= innerBytes }

// countRuns returns how many different scores there are in scores, which ascend.
func countRuns(scores []float64) int {
	if len(scores) == 0 {
		return 0
	}
	runs := 1
	for i := 1; i < len(scores); i++ {
		if scores[i] != scores[i-1] {
			runs++
		}
	}
	return runs
}

func sum(counts []int) int {
	all := 0
	for _, c := range counts {
		all += c
	}
	return all
}
