package engine

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/ranked"
)

// A sortedSet ranks members by score.
//
// A small set is packed: the bytes of its record hold the members in their order. A large one holds them twice: table
// answers "what does ann have?", tree "who is third?", and an entry of the tree names a member by its record. A set becomes
// large when it gets more than packedMembers members or one of more than packedMember bytes, and small again when removals
// leave it packedScoresAgain members, all of them short. Looked at in an item, a small set is a view of the record's
// bytes, a large one an object of the partition. Every method leaves these true:
//
//	Z1: the tree of a large set holds an entry with the score and tie of each record of table, and no other
//	Z2: no score is NaN or -0
//	Z3: a packed set is written as packedScores says, and no member stands twice
//	Z4: under TIES MEMBER every tie is 0; under FIRST and LAST the ties are those of different sequence
//	    numbers, none above board.seq
//	Z5: a board that keeps the best n holds no more than n members
//	Z6: only a configured board has settings, and only with no member in it may its ties change
//
// A leaderboard is a sorted set with settings, which leaderboards.go explains.
type sortedSet struct {
	p      *Partition
	board  board // the zero board for a plain sorted set
	packed packedScores
	table  *dense.Table // nil in a small set
	tree   *ranked.Tree // of a large set
}

// kindMember is the kind of all records in the table of a large set. Their values are the score, 8 bytes, and on a board
// with ties by sequence the tie, 8 bytes.
const kindMember dense.Kind = 1

// What a large sorted set costs beside its records and their share of the index, in bytes: itself with its table and
// an entry in the tree, without ties and with them. It goes by the number of members, not by the tree's own books: replicas whose
// trees came to the same members on different ways have to agree on when the cache is full.
const (
	sortedSetOverhead = 1900
	entryShare        = 17
	tiedEntryShare    = 25
)

// A scored is a member with its place in the order: ascending by score, then tie, then name.
type scored struct {
	score  float64
	tie    uint64
	member []byte // good until the task ends, or the set changes
}

func (e scored) compare(other scored) int {
	switch {
	case e.score < other.score:
		return -1
	case e.score > other.score:
		return 1
	case e.tie != other.tie:
		return cmp.Compare(e.tie, other.tie)
	}
	return bytes.Compare(e.member, other.member)
}

// nodes is where the partition's trees keep theirs.
func (p *Partition) nodes() *ranked.Nodes {
	if p.treeNodes == nil {
		p.treeNodes = ranked.NewNodes(p.store.Pages())
	}
	return p.treeNodes
}

// A felled is a tree that is given back bit by bit.
type felled struct{ tree *ranked.Tree }

func (f felled) Drop(steps int) (more bool) { return f.tree.FreeSome(steps) }

// unpackRanks makes the item's own sortedSet a view of the record's bytes.
func unpackRanks(it *item, b []byte) value {
	it.ranks = sortedSet{p: it.home.p}
	it.ranks.unpack(b)
	return &it.ranks
}

// newRanking makes a large set without members.
func newRanking(p *Partition, b board) *sortedSet {
	z := &sortedSet{p: p, board: b}
	z.table = p.store.NewTable(false, z, nil)
	z.tree = ranked.New(p.nodes(), z)
	return z
}

func (z *sortedSet) kind() string { return "zset" }
func (z *sortedSet) empty() bool  { return z.len() == 0 && !z.board.configured }

// encoding is Redis's name for the form.
func (z *sortedSet) encoding() string {
	if z.table != nil {
		return "skiplist"
	}
	return "listpack"
}

func (z *sortedSet) len() int {
	if z.table == nil {
		return z.packed.n
	}
	return z.tree.Len()
}

func (z *sortedSet) bytes() int64 {
	each := int64(entryShare)
	if z.board.ties != tiesMember {
		each = tiedEntryShare
	}
	return sortedSetOverhead + z.table.Bytes() + dense.IndexBytes(z.table.Len()) + each*int64(z.table.Len())
}

func (z *sortedSet) destroy() {
	z.table.Drop()
	z.p.graves = append(z.p.graves, felled{z.tree})
}

// parts and header are for a cut: the tree can be made anew from the members.
func (z *sortedSet) parts() []*dense.Table    { return []*dense.Table{z.table} }
func (z *sortedSet) header(dst []byte) []byte { return z.board.encode(dst) }

// Name is what the tree asks for where scores and ties are equal.
func (z *sortedSet) Name(r ranked.Ref) []byte { return z.p.store.Key(dense.Ref(r)) }

// Moved tells the tree where a member's record is now.
func (z *sortedSet) Moved(from, to dense.Ref) {
	e := z.open(to).entry()
	e.Member = ranked.Ref(from)
	if !z.tree.Relocate(e, ranked.Ref(to)) {
		panic("engine: Z1: a member is not in the tree")
	}
}

// encode includes the form, which decides about accounts and the order of scans.
func (z *sortedSet) encode(dst []byte) []byte {
	dst = append(z.board.encode(dst), z.encoding()...)
	dst = binary.AppendUvarint(dst, uint64(z.len()))
	for c := z.seek(0); c.valid(); c.next() {
		e := c.entry()
		dst = binary.BigEndian.AppendUint64(dst, math.Float64bits(e.score))
		dst = binary.AppendUvarint(dst, e.tie)
		dst = binary.AppendUvarint(dst, uint64(len(e.member)))
		dst = append(dst, e.member...)
	}
	return dst
}

func (z *sortedSet) check() error {
	if z.table == nil {
		b, _ := z.pack(nil)
		if err := validRanks(b); err != nil {
			return err
		}
	} else if err := z.checkLarge(); err != nil {
		return err
	}
	seen := map[uint64]bool{}
	for c, i := z.seek(0), 0; c.valid(); c.next() {
		e := c.entry()
		s, ok := z.find(e.member)
		if !ok || s.compare(e) != 0 || e.score == 0 && math.Signbit(e.score) {
			return fmt.Errorf("Z2: entry %d is not what is found under its name", i)
		}
		seq := z.board.sequence(e.tie)
		if plain := z.board.ties == tiesMember; plain && e.tie != 0 || !plain && (seq > z.board.seq || seen[seq]) {
			return fmt.Errorf("Z4: entry %d has tie %d under %s, sequence %d", i, e.tie, z.board.ties, z.board.seq)
		}
		seen[seq] = true
		i++
	}
	switch {
	case z.board.keep > 0 && z.len() > z.board.keep:
		return fmt.Errorf("Z5: %d members, %d to keep", z.len(), z.board.keep)
	case !z.board.configured && z.board != board{}:
		return fmt.Errorf("Z6: a board that nobody configured has settings")
	}
	return nil
}

func (z *sortedSet) checkLarge() error {
	if err := z.tree.Check(); err != nil {
		return err
	}
	if z.table.Len() != z.tree.Len() || z.table.Len() <= packedScoresAgain && z.packable() {
		return fmt.Errorf("Z1: %d records, %d entries", z.table.Len(), z.tree.Len())
	}
	for c := z.tree.Seek(0); c.Valid(); c.Next() {
		if e := c.Entry(); z.open(dense.Ref(e.Member)).entry() != e {
			return fmt.Errorf("Z1: a record does not say what its entry says")
		}
	}
	return nil
}

// clone returns a set of its own with the same members in the same form.
func (z *sortedSet) clone(step func()) largeValue {
	if z.table == nil {
		return z // whoever stores it copies its bytes
	}
	twin := newRanking(z.p, z.board)
	twin.tree.FreeSome(math.MaxInt)
	tree, err := ranked.Build(z.p.nodes(), twin, func(yield func(ranked.Entry) bool) {
		for c := z.seek(0); c.valid(); c.next() {
			step()
			e := c.entry()
			if s := twin.record(z.p.store.Hash(e.member), e); !yield(s.entry()) {
				return
			}
		}
	})
	if err != nil {
		panic("engine: " + err.Error()) // they were in order
	}
	twin.tree = tree
	return twin
}

// A spot is where a member stands.
type spot struct {
	scored
	hash  uint64     // of a large set's member, also of one that is not there
	ref   dense.Ref  // of a large set's member
	at    packedSpot // of a small set's member
	index int        // of a small set's member
}

// entry is the tree's, of a member of a large set.
func (s spot) entry() ranked.Entry {
	return ranked.Entry{Score: s.score, Tie: s.tie, Member: ranked.Ref(s.ref)}
}

// find says where member stands; nowhere in no set.
func (z *sortedSet) find(member []byte) (s spot, ok bool) {
	switch {
	case z == nil:
		return s, false
	case z.table == nil:
		if s.at, s.index, ok = z.packed.find(member); ok {
			s.scored = z.packed.entry(s.at)
		}
		return s, ok
	}
	hash := z.p.store.Hash(member)
	r := z.table.Find(hash, member)
	if r != 0 {
		s = z.open(r)
	}
	s.hash = hash
	return s, r != 0
}

// open reads the record of a large set's member.
func (z *sortedSet) open(r dense.Ref) (s spot) {
	rec := z.p.store.Open(r)
	s.ref, s.member = r, rec.Key
	s.score = math.Float64frombits(binary.LittleEndian.Uint64(rec.Value))
	if len(rec.Value) > 8 {
		s.tie = binary.LittleEndian.Uint64(rec.Value[8:])
	}
	return s
}

// write writes a score and a tie into a record.
func (z *sortedSet) write(r dense.Ref, score float64, tie uint64) {
	b := z.p.store.Value(r)
	binary.LittleEndian.PutUint64(b, math.Float64bits(score))
	if len(b) > 8 {
		binary.LittleEndian.PutUint64(b[8:], tie)
	}
}

// record makes the record of a new member of a large set.
func (z *sortedSet) record(hash uint64, e scored) spot {
	size := 8
	if z.board.ties != tiesMember {
		size = 16
	}
	r := z.table.Insert(hash, kindMember, e.member, size, 0, 0)
	z.write(r, e.score, e.tie)
	return spot{scored: e, hash: hash, ref: r}
}

// enter, move and leave change a large set, without a thought of taking it back.

func (z *sortedSet) enter(hash uint64, e scored) {
	s := z.record(hash, e)
	z.tree.Insert(s.entry())
}

func (z *sortedSet) move(s spot, score float64, tie uint64) {
	z.tree.Move(s.entry(), score, tie)
	z.table.Touch(s.hash, s.member, s.ref)
	z.write(s.ref, score, tie)
}

func (z *sortedSet) leave(s spot) {
	z.tree.Delete(s.entry())
	z.table.Remove(s.hash, s.ref)
}

// remember notes in j how to bring member of a large set back to where it stands, and the board's sequence.
func (z *sortedSet) remember(j *journal, member []byte, s spot, found bool) {
	if j == nil {
		return
	}
	name, seq, before := exactly(member), z.board.seq, s.scored
	j.add(func() {
		now, there := z.find(name)
		switch {
		case !found:
			z.leave(now)
		case there:
			z.move(now, before.score, before.tie)
		default:
			z.enter(now.hash, scored{before.score, before.tie, name})
		}
		z.board.seq = seq
	})
}

// A rankCursor stands on an entry and moves to its neighbours. A change of the set makes it meaningless.
type rankCursor struct {
	z       *sortedSet
	tree    ranked.Cursor
	at      int // in a small set
	offsets offsets
}

// seek returns a cursor on the entry at index, one that is not valid if there is none.
func (z *sortedSet) seek(index int) (c rankCursor) {
	c.z = z
	if z.table == nil {
		c.at = index
		z.packed.offsets(&c.offsets)
	} else {
		c.tree = z.tree.Seek(index)
	}
	return c
}

func (c *rankCursor) valid() bool {
	if c.z.table == nil {
		return c.at >= 0 && c.at < c.z.packed.n
	}
	return c.tree.Valid()
}

func (c *rankCursor) entry() scored {
	if p := &c.z.packed; c.z.table == nil {
		return p.entry(p.spot(int(c.offsets[c.at])))
	}
	e := c.tree.Entry()
	return scored{e.Score, e.Tie, c.z.Name(e.Member)}
}

func (c *rankCursor) next() {
	if c.at++; c.z.table != nil {
		c.tree.Next()
	}
}

func (c *rankCursor) prev() {
	if c.at--; c.z.table != nil {
		c.tree.Prev()
	}
}

// at returns the entry at index.
func (z *sortedSet) at(index int) scored {
	c := z.seek(index)
	return c.entry()
}

// lowerBound returns the index of the first entry with a score of at least score, upperBound with one of more, or len.

func (z *sortedSet) lowerBound(score float64) int {
	if z.table == nil {
		return z.packed.lower(score, false)
	}
	return z.tree.LowerBound(score)
}

func (z *sortedSet) upperBound(score float64) int {
	if z.table == nil {
		return z.packed.lower(score, true)
	}
	return z.tree.UpperBound(score)
}

// rank returns the index of a member.
func (z *sortedSet) rank(s spot) int {
	if z.table == nil {
		return s.index
	}
	rank, _ := z.tree.Rank(s.entry())
	return rank
}

// search returns the index of the first member that is not before the point sought.
func (z *sortedSet) search(before func(member []byte) bool) int {
	lo, hi := 0, z.len()
	for lo < hi {
		if mid := int(uint(lo+hi) >> 1); before(z.at(mid).member) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// packable reports whether all members of a large set are short enough for the small form.
func (z *sortedSet) packable() bool {
	for c := z.seek(0); c.valid(); c.next() {
		if len(c.entry().member) > packedMember {
			return false
		}
	}
	return true
}

// A rankEdit changes a sorted set: a copy of a small one, a large one where it is. done stores what came of it. A command
// has one at a time, begins it when nothing can fail any more, and ends it with done or forget. A large set that
// changes in an atomic task notes how to take each change back; a small one is remembered as a whole.
type rankEdit struct {
	c   *call
	it  *item // nil while there is no set
	key []byte
	z   *sortedSet
	own sortedSet // what z points to unless it is large
	new bool      // z is large and nobody else knows it

	buf []byte // what the copy is made in
}

// rerank begins to change the set z in it, under key; both are nil where there is none.
func (c *call) rerank(z *sortedSet, it *item, key []byte) *rankEdit {
	e := &c.p.ranks
	*e = rankEdit{c: c, it: it, key: key, z: z, buf: e.buf}
	if z == nil || z.table == nil {
		e.own = sortedSet{p: c.p}
		if z != nil {
			e.own = *z
		}
		e.own.packed.b = append(e.buf[:0], e.own.packed.b...)
		e.z = &e.own
	}
	return e
}

// journal is where changes of members are noted: nowhere for a set that an undo takes away as a whole.
func (e *rankEdit) journal() *journal {
	if e.z == &e.own || e.new {
		return nil
	}
	return e.c.p.journal
}

// configure gives the board other settings.
func (e *rankEdit) configure(b board) {
	if j := e.journal(); j != nil {
		z, before := e.z, e.z.board
		j.add(func() { z.board = before })
	}
	if e.z == &e.own {
		e.z.packed.ties = b.ties != tiesMember
	}
	e.z.board = b
}

// set gives a member, which s is about, a score and says whether the member is new, or else whether its score is. A
// score that stays the same changes nothing, so the member keeps its place among its equals.
func (e *rankEdit) set(member []byte, s spot, found bool, score float64) (added, changed bool) {
	score = unsigned0(score)
	if found && s.score == score {
		return false, false
	}
	z := e.z
	if z.table == nil {
		if found || z.packed.n < packedMembers && len(member) <= packedMember {
			if found {
				z.packed.cut(s.at.begin, s.at.end, 1)
			}
			z.packed.insert(scored{score, z.board.nextTie(), member})
			return !found, found
		}
		e.expand()
		z = e.z
		s.hash = z.p.store.Hash(member)
	}
	z.remember(e.journal(), member, s, found)
	tie := z.board.nextTie()
	if found {
		z.move(s, score, tie)
	} else {
		z.enter(s.hash, scored{score, tie, member})
	}
	return !found, found
}

// put is set for a member that was not looked up yet.
func (e *rankEdit) put(member []byte, score float64) (added, changed bool) {
	s, found := e.z.find(member)
	return e.set(member, s, found, score)
}

// unsigned0 takes the sign off a zero, which no order and no reader can use. Redis does so in a small set.
func unsigned0(score float64) float64 {
	if score == 0 {
		return 0
	}
	return score
}

// drop removes member and reports whether it was there.
func (e *rankEdit) drop(member []byte) bool {
	z := e.z
	s, found := z.find(member)
	switch {
	case !found:
	case z.table == nil:
		z.packed.cut(s.at.begin, s.at.end, 1)
	default:
		z.remember(e.journal(), member, s, true)
		z.leave(s)
	}
	return found
}

// cut removes the entries with from <= index < to: O(log n) and a constant for each of them, or O(1) for all.
func (e *rankEdit) cut(from, to int) {
	z := e.z
	switch {
	case from >= to:
	case to-from == z.len():
		e.become(sortedSet{p: z.p, board: z.board, packed: packedScores{b: e.buf[:0], ties: z.board.ties != tiesMember}})
	case z.table == nil:
		var at offsets
		z.packed.offsets(&at)
		z.packed.cut(int(at[from]), int(at[to]), to-from)
	default:
		j := e.journal()
		for c, i := z.tree.Seek(from), from; i < to; i++ {
			s := z.open(dense.Ref(c.Entry().Member))
			s.hash = z.p.store.Hash(s.member)
			z.remember(j, s.member, s, true)
			z.table.Remove(s.hash, s.ref)
			c.Next()
		}
		z.tree.DeleteRange(from, to)
	}
}

// become makes a small set what is edited. A large one is given up when the small one is stored.
func (e *rankEdit) become(small sortedSet) {
	if e.new {
		e.z.destroy()
	}
	e.own, e.new = small, false
	e.z = &e.own
}

// expand makes the set large.
func (e *rankEdit) expand() {
	small := e.z
	e.z, e.new = newRanking(e.c.p, small.board), true
	for c := small.seek(0); c.valid(); c.next() {
		m := c.entry()
		e.z.enter(e.z.p.store.Hash(m.member), m)
	}
	e.buf = keep(small.packed.b)
}

// shrink makes a large set small, if its members allow that.
func (e *rankEdit) shrink() {
	z := e.z
	if !z.packable() {
		return
	}
	small := sortedSet{p: z.p, board: z.board, packed: packedScores{b: e.buf[:0], ties: z.board.ties != tiesMember}}
	for c := z.seek(0); c.valid(); c.next() {
		small.packed.insert(c.entry())
	}
	e.become(small)
}

// forget ends an edit that has changed nothing, or whose result nobody keeps.
func (e *rankEdit) forget() {
	if e.new {
		e.z.destroy()
	} else if e.z == &e.own {
		e.buf = keep(e.own.packed.b)
	}
	*e = rankEdit{buf: e.buf}
}

// done stores the set in the form that it has now, with a deadline if it is new, and removes it when it is empty. A
// board that keeps the best n lets the others go. It reports how many members there are.
func (e *rankEdit) done(expireAt int64) (members int) {
	if b := e.z.board; b.keep > 0 {
		e.trim(b.keepOrder, b.keep)
	}
	if e.z.table != nil && e.z.len() <= packedScoresAgain {
		e.shrink()
	}
	c, z, it := e.c, e.z, e.it
	members = z.len()
	j, wasLarge := c.p.journal, it != nil && it.kind == kindObject
	if j != nil && wasLarge {
		j.changed = append(j.changed, place{it.home, string(it.key)})
	}
	switch {
	case z.empty() && it != nil:
		c.dropItem(it)
	case z.empty():
	case it == nil:
		c.put(e.key, z, expireAt)
		e.new = false
	case wasLarge && z.table != nil:
		it.home.resized(it.object())
		it.home.account()
		it.home.touched(it.key)
	default:
		if j != nil {
			j.remember(place{it.home, string(it.key)}, it)
		}
		it.home.repack(it, z)
		e.new = false
	}
	e.forget()
	return members
}

// replace stores the set, a plain one, in the place of whatever is under key; nothing when it is empty. It reports how
// many members it has.
func (e *rankEdit) replace(key []byte) (members int64) {
	e.c.alone()
	if e.z.table != nil && e.z.len() <= packedScoresAgain {
		e.shrink()
	}
	members = int64(e.z.len())
	if members == 0 {
		e.c.remove(key)
	} else {
		e.c.put(key, e.z, e.c.defaultDeadline())
		e.new = false
	}
	e.forget()
	return members
}
