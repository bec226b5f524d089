package dense

import (
	"bytes"
	"encoding/binary"
	"slices"
	"unsafe"

	"github.com/dchest/siphash"

	"github.com/larder-cache/larder/engine/memory"
)

// A Table finds records by key. It is a directory of small open tables, the segments: the first bits of a key's hash
// say which segment, the next ones where in it. A slot holds the hash's first 27 bits, the tag, and the record's Ref.
//
// A segment keeps its slots in the order of their tags, with empty slots spread between them: a slot lies at or after
// the place that its tag would have if tags were spread evenly (its home), and there is no empty slot between the two. So a
// search goes from the home until it meets the tag, a higher one, or an empty slot; and to go through a table is to go through
// the order of the hashes, whatever sizes the segments have. A segment grows by an eighth at a time, from tags alone; one that
// would grow beyond maxSlots becomes two. None of this looks at a record.
//
//	T1: dir[i] is the segment of the hashes whose first bits are i: each segment stands in 2^(depth-its own depth) places beside each other
//	T2: a segment's slots ascend by tag; n counts those that are not empty
//	T3: a slot lies at or after its home, with no empty slot between
//	T4: count is the number of records, timed how many of them have a deadline
//	T5: a table has at most 4 slots for each record, and a few; and those of one segment beside, while records go in the
//	    order of their hashes
type Table struct {
	store *Store
	dir   []*segment // one segment for a small table
	one   [1]*segment
	depth uint8
	notes bool
	count int
	timed int
	size  int64 // bytes of records in blocks and of long values
	owner Mover
	group *Group
	epoch uint32 // see Group
	cut   *cut

	prev, next *Table // among all tables of the store
}

// A Mover learns when a record of its table has moved, because it holds Refs itself.
type Mover interface{ Moved(from, to Ref) }

// A segment is a part of a table. One that has grown to maxSlots keeps the addresses for so many when it becomes two, and so
// do both halves: they grow a page at a time from where they stand, and nothing is given back on the way.
type segment struct { // 64 bytes: a line of the processor's cache
	slots []uint64
	depth uint8
	piece uint32 // what slots are in their shelf, 0 if they are in none
	n     int
	pages []byte // what slots lie in, if they have pages to themselves; those behind slots are not touched
}

const (
	tagBits    = 64 - refBits
	maxSlots   = 4096
	spareSlots = 4 // at the end of a segment with gaps, at least
	slotsIn    = memory.PageSize / 8
)

// sizes are the numbers of slots that a segment may have; from a page on they are whole pages.
var sizes = [...]int{4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, 1536, 2048, 2560, 3072, 3584, 4096}

// A segment of up to packedSlots has no gaps and is filled to the last slot: its slots are few enough to be looked at one
// by one.
const packedSlots = 16

// most is how many records a segment of so many slots holds before it grows.
func most(slots int) int {
	if slots <= packedSlots {
		return slots
	}
	return slots * 15 / 16
}

// NewTable makes an empty table. notes says whether its records have notes; owner, if there is one, learns of moves; group,
// if there is one, is with which tables it is cut.
func (s *Store) NewTable(notes bool, owner Mover, group *Group) *Table {
	t := &Table{store: s, notes: notes, owner: owner, group: group}
	if group != nil {
		t.epoch = group.epoch
	}
	t.one[0] = &segment{}
	t.dir = t.one[:]
	t.next = s.tables
	if t.next != nil {
		t.next.prev = t
	}
	s.tables = t
	return t
}

// Len is the number of records.
func (t *Table) Len() int { return t.count }

// Timed is the number of records that have a deadline.
func (t *Table) Timed() int { return t.timed }

// Bytes is what the records take, in their blocks and apart.
func (t *Table) Bytes() int64 { return t.size }

// Hash is a key's hash under the store's seed.
func (s *Store) Hash(key []byte) uint64 { return siphash.Hash(s.seed[0], s.seed[1], key) }

func tagOf(hash uint64) uint64   { return hash >> refBits }
func slotTag(slot uint64) uint64 { return slot >> refBits }
func slotRef(slot uint64) Ref    { return Ref(slot & (1<<refBits - 1)) }

func (t *Table) segment(hash uint64) *segment {
	if t.depth == 0 {
		return t.one[0]
	}
	return t.dir[hash>>(64-t.depth)]
}

// home is where a tag would lie in a segment if tags were spread evenly.
func (g *segment) home(tag uint64) int {
	if len(g.slots) <= packedSlots {
		return 0
	}
	// A few slots at the end have no homes: there is room for what is pushed along, or two neighbours there would make a
	// small segment grow and grow.
	return int(((tag << refBits << g.depth) >> 32) * uint64(len(g.slots)-max(len(g.slots)/64, spareSlots)) >> 32)
}

// lower is the first slot, from the tag's home on, that is empty or has this tag or a higher one.
func (g *segment) lower(tag uint64) int {
	i := g.home(tag)
	for i < len(g.slots) && g.slots[i] != 0 && slotTag(g.slots[i]) < tag {
		i++
	}
	return i
}

// Find returns the record under key, whose hash it is, or 0.
func (t *Table) Find(hash uint64, key []byte) Ref {
	g, tag := t.segment(hash), tagOf(hash)
	for i := g.lower(tag); i < len(g.slots) && g.slots[i] != 0 && slotTag(g.slots[i]) == tag; i++ {
		r := slotRef(g.slots[i])
		t.store.reach(r)
		if bytes.Equal(t.store.Key(r), key) {
			return r
		}
	}
	return 0
}

// A Sight is what Look sees of a record: what a Record tells, but for the key.
type Sight struct {
	Ref      Ref // 0 where there is none
	Kind     Kind
	Apart    bool // the value is kept apart
	Note     uint32
	ExpireAt int64
	Value    []byte
}

// Look is Find and Open in one: the record's header is read once.
func (t *Table) Look(hash uint64, key []byte) (seen Sight) {
	g, tag := t.segment(hash), tagOf(hash)
	home := g.home(tag)
	if home+nearSlots <= len(g.slots) {
		if slot := near((*[nearSlots]uint64)(g.slots[home:]), tag); slot != 0 && t.sees(slotRef(slot), key, &seen) {
			return seen
		}
	}
	for i := g.lower(tag); i < len(g.slots) && g.slots[i] != 0 && slotTag(g.slots[i]) == tag; i++ {
		if t.sees(slotRef(g.slots[i]), key, &seen) {
			return seen
		}
	}
	return Sight{}
}

// nearSlots are so many from its home on that most slots lie there.
const nearSlots = 8

// near returns the slot with a tag, one of them if there are several, 0 if there is none. It goes without a branch, of which the
// processor would guess half wrong, and begin to read another record meanwhile.
func near(s *[nearSlots]uint64, tag uint64) (found uint64) {
	if slotTag(s[0]) == tag {
		found = s[0]
	}
	if slotTag(s[1]) == tag {
		found = s[1]
	}
	if slotTag(s[2]) == tag {
		found = s[2]
	}
	if slotTag(s[3]) == tag {
		found = s[3]
	}
	if slotTag(s[4]) == tag {
		found = s[4]
	}
	if slotTag(s[5]) == tag {
		found = s[5]
	}
	if slotTag(s[6]) == tag {
		found = s[6]
	}
	if slotTag(s[7]) == tag {
		found = s[7]
	}
	return found
}

// sees fills in what the record at r says, and reports whether its key is this one.
func (t *Table) sees(r Ref, key []byte, seen *Sight) bool {
	s := t.store
	s.reach(r)
	h := s.at(r)
	at := 1 + int(h[0]&flagNote)>>2 + expBytes(h[0])
	n, w := readUvarint(h[at:])
	at += w
	value, w := readUvarint(h[at:])
	at += w
	if n != len(key) || !bytes.Equal(h[at:at+n], key) {
		return false
	}
	at += n
	*seen = Sight{Ref: r, Kind: Kind(h[0] & kindMask), Apart: h[0]&flagApart != 0}
	if h[0]&flagNote != 0 {
		seen.Note = binary.LittleEndian.Uint32(h[1:])
	}
	if h[0]&expMask != expNone {
		seen.ExpireAt = s.ExpireAt(r)
	}
	if seen.Apart {
		seen.Value = s.apart[binary.LittleEndian.Uint32(h[at:])].mem[:value:value]
	} else {
		seen.Value = h[at : at+value : at+value]
	}
	return true
}

// Fetch has the processor bring in where the index would name a record with that hash, and does not wait for it.
func (t *Table) Fetch(hash uint64) {
	if g := t.segment(hash); len(g.slots) > 0 {
		prefetch(unsafe.Pointer(&g.slots[g.home(tagOf(hash))]))
	}
}

// WarmIndex reads the index where a record with that hash would stand, and WarmRecord the record itself, for who is about
// to look up many and wants them to wait for memory at the same time. What they return means nothing.
func (t *Table) WarmIndex(hash uint64) uint64 {
	g := t.segment(hash)
	if len(g.slots) == 0 {
		return 0
	}
	return g.slots[g.home(tagOf(hash))]
}

// WarmRecord see WarmIndex.
func (t *Table) WarmRecord(hash uint64) uint64 {
	g, tag := t.segment(hash), tagOf(hash)
	i := g.lower(tag)
	if i == len(g.slots) || g.slots[i] == 0 || slotTag(g.slots[i]) != tag {
		return 0
	}
	r := slotRef(g.slots[i])
	t.store.reach(r)
	return uint64(t.store.at(r)[0])
}

// Insert makes a record under key, which has none, with a value of so many bytes for the caller to write. room is how
// many bytes a value that is kept apart gets at least.
func (t *Table) Insert(hash uint64, kind Kind, key []byte, value, room int, expireAt int64) Ref {
	t.Touch(hash, key, 0)
	r := t.store.make(kind, key, value, room, expireAt, t.notes)
	t.enter(tagOf(hash), r)
	t.count++
	t.tally(r, 1)
	return r
}

// tally adds a record to the sums, or takes it out of them.
func (t *Table) tally(r Ref, sign int64) {
	h := t.store.at(r)
	size := int64(sizeOf(h))
	if h[0]&flagApart != 0 {
		size += int64(len(t.store.apart[apartOf(h)].mem))
	}
	t.size += sign * size
	if h[0]&expMask != 0 {
		t.timed += int(sign)
	}
}

// enter puts a slot in.
func (t *Table) enter(tag uint64, r Ref) {
	for {
		g := t.segment(tag << refBits)
		if g.n < most(len(g.slots)) && g.put(tag<<refBits|uint64(r)) {
			return
		}
		t.grow(g, tag<<refBits)
	}
}

// put finds a slot its place, and reports false when there is no room behind its home.
func (g *segment) put(slot uint64) bool {
	tag := slotTag(slot)
	at := g.lower(tag)
	for at < len(g.slots) && g.slots[at] != 0 && slotTag(g.slots[at]) == tag {
		at++
	}
	empty := at
	for empty < len(g.slots) && g.slots[empty] != 0 {
		empty++
	}
	if empty == len(g.slots) {
		return false
	}
	copy(g.slots[at+1:empty+1], g.slots[at:empty])
	g.slots[at] = slot
	g.n++
	return true
}

// find returns the place of the slot of r, which is there.
func (g *segment) find(tag uint64, r Ref) int {
	i := g.lower(tag)
	for g.slots[i] != tag<<refBits|uint64(r) {
		if slotTag(g.slots[i]) != tag {
			panic("dense: T2: a record is not where its hash says")
		}
		i++
	}
	return i
}

// Remove takes out the record r with that hash, and frees it.
func (t *Table) Remove(hash uint64, r Ref) {
	if t.group != nil {
		t.Touch(hash, t.store.Key(r), r)
	}
	t.tally(r, -1)
	g := t.segment(hash)
	g.cut(g.find(tagOf(hash), r))
	t.count--
	t.store.Free(r)
	t.shrink(g, hash)
}

// cut empties slot i: those behind it that were pushed along move back.
func (g *segment) cut(i int) {
	g.n--
	end := i + 1
	for end < len(g.slots) && g.slots[end] != 0 && g.home(slotTag(g.slots[end])) < end {
		end++
	}
	copy(g.slots[i:end-1], g.slots[i+1:end])
	g.slots[end-1] = 0
}

// replace lets to stand in the slot of from.
func (t *Table) replace(hash uint64, from, to Ref) {
	g, tag := t.segment(hash), tagOf(hash)
	g.slots[g.find(tag, from)] = tag<<refBits | uint64(to)
}

// Rewrite gives the record r with that hash another kind, a value of so many bytes for the caller to write, and another
// deadline, and returns where it is now. With fresh it is another record, even where it could stay.
func (t *Table) Rewrite(hash uint64, r Ref, kind Kind, value, room int, expireAt int64, fresh bool) Ref {
	s := t.store
	h := s.at(r)
	at, key, old := lengths(h)
	t.Touch(hash, h[at:at+key], r)
	apartNow, apartThen := h[0]&flagApart != 0, IsApart(key, value)
	if !fresh && apartNow == apartThen && sizeOf(h) == RecordSize(key, value, expireAt, t.notes) && h[0]&expMask == expFlag(expireAt) {
		if !apartNow { // the lengths are as they were, or as wide
			t.setHeader(h, kind, key, value, expireAt)
			return r
		}
		if a := &s.apart[apartOf(h)]; value <= len(a.mem) && len(a.mem) <= pageRound(max(value, room)+value/2) {
			t.setHeader(h, kind, key, value, expireAt)
			return r
		}
	}
	t.tally(r, -1)
	to := s.make(kind, h[at:at+key], value, room, expireAt, t.notes)
	if t.notes {
		s.SetNote(to, s.Note(r))
	}
	copy(s.Value(to), s.Value(r)[:min(old, value)])
	t.replace(hash, r, to)
	s.Free(r)
	t.tally(to, 1)
	return to
}

func pageRound(n int) int { return (n + memory.PageSize - 1) / memory.PageSize * memory.PageSize }

// setHeader writes what may change of a record whose size stays.
func (t *Table) setHeader(h []byte, kind Kind, key, value int, expireAt int64) {
	h[0] = h[0]&^kindMask | byte(kind)
	at := 1
	if t.notes {
		at = 5
	}
	at += putExpire(h[at:], expireAt)
	at += uvarintLen(key)
	for n := value; ; n >>= 7 {
		if n < 0x80 {
			h[at] = byte(n)
			return
		}
		h[at] = byte(n) | 0x80
		at++
	}
}

// SetExpire gives the record r with that hash another deadline, 0 for none, and returns where it is now.
func (t *Table) SetExpire(hash uint64, r Ref, at int64) Ref {
	s := t.store
	rec := s.Open(r)
	t.Touch(hash, rec.Key, r)
	if h := s.at(r); h[0]&expMask == expFlag(at) {
		off := 1
		if t.notes {
			off = 5
		}
		putExpire(h[off:], at)
		return r
	}
	if h := s.at(r); h[0]&flagApart == 0 {
		return t.Rewrite(hash, r, rec.Kind, len(rec.Value), rec.Room, at, false)
	}
	// A long value's pages go along as they are.
	t.tally(r, -1)
	h := s.at(r)
	n := RecordSize(len(rec.Key), len(rec.Value), at, t.notes)
	to := s.place(n)
	w := s.at(to)
	w[0] = h[0]&^expMask | expFlag(at)
	off := 1
	if t.notes {
		off += copy(w[1:], h[1:5])
	}
	off += putExpire(w[off:], at)
	key, _, _ := lengths(h)
	copy(w[off:n], h[key-uvarintLen(len(rec.Key))-uvarintLen(len(rec.Value)):])
	s.dying = append(s.dying, r|keepPages)
	t.replace(hash, r, to)
	t.tally(to, 1)
	return to
}

// IndexBytes is about what the index of a table of n records takes, in bytes: of a small one exactly, if it has only
// grown; of a large one within a few percent. It depends on nothing else, so that replicas agree on it.
func IndexBytes(n int) int64 {
	if n > most(maxSlots) {
		return int64(n) * 28 / 3
	}
	i, _ := slices.BinarySearchFunc(sizes[:], n, func(slots, n int) int { return most(slots) - n })
	if n == 0 {
		return 0
	}
	return 8 * int64(sizes[min(i, len(sizes)-1)])
}

// sizeFor is the least size of at least so many slots.
func sizeFor(slots int) int {
	i, _ := slices.BinarySearch(sizes[:], slots)
	return sizes[min(i, len(sizes)-1)]
}

// grow gives a segment more slots, or makes two of it. hash is one that belongs to it.
func (t *Table) grow(g *segment, hash uint64) {
	if len(g.slots) < maxSlots {
		t.rebuild(g, g.slots, sizeFor(len(g.slots)+1))
		return
	}
	if g.depth == t.depth {
		t.double()
	}
	bit := uint64(1) << (63 - g.depth)
	cut := 0
	for i, slot := range g.slots {
		if slot != 0 && slot&bit == 0 {
			cut = i + 1
		}
	}
	from, places := t.span(hash, g.depth)
	g.depth++
	high := &segment{depth: g.depth, pages: t.store.pages.Alloc(maxSlots * 8)}
	t.store.pages.Untouched(maxSlots / slotsIn)
	t.rebuild(high, g.slots[cut:], 0)
	t.rebuild(g, g.slots[:cut], 0)
	for i := from + places/2; i < from+places; i++ {
		t.dir[i] = high
	}
}

// span is where the segment of hash stands in the directory, if its depth is so.
func (t *Table) span(hash uint64, depth uint8) (from, places int) {
	places = 1 << (t.depth - depth)
	if depth > 0 {
		from = int(hash>>(64-depth)) * places
	}
	return from, places
}

func (t *Table) double() {
	if t.depth == tagBits-1 {
		panic("dense: a table of more records than tags can tell apart")
	}
	dir := make([]*segment, 2*len(t.dir))
	for i, g := range t.dir {
		dir[2*i], dir[2*i+1] = g, g
	}
	t.dir = dir
	t.depth++
}

// rebuild gives g as many slots as size says, or as a size chosen for what is in it when that is 0 or turns out too
// small, and puts in what stands in from. What it had before goes back, unless it has pages for so many.
func (t *Table) rebuild(g *segment, from []uint64, size int) {
	from = t.store.copied(from)
	n := len(from)
	if size == 0 {
		size = sizeFor(n + n/7)
	}
	for ; ; size = sizeFor(size + 1) {
		if size >= slotsIn && size*8 <= len(g.pages) {
			t.extend(g, size)
			if g.lay(from, nil) {
				g.n = n
				return
			}
		} else {
			next := segment{depth: g.depth, n: n}
			t.take(&next, size)
			if next.lay(from, nil) {
				t.give(g)
				*g = next
				return
			}
			t.give(&next)
		}
		if size == maxSlots {
			panic("dense: a segment holds more than it has room for")
		}
	}
}

// copied returns the slots that are not empty, in memory that is used again by the next call.
func (s *Store) copied(slots []uint64) []uint64 {
	if s.laying == nil && len(slots) > packedSlots {
		s.laying = make([]uint64, 0, maxSlots)
	}
	s.laying = s.laying[:0]
	for _, slot := range slots {
		if slot != 0 {
			s.laying = append(s.laying, slot)
		}
	}
	return s.laying
}

// extend gives a segment so many empty slots on the pages that it has.
func (t *Table) extend(g *segment, size int) {
	had := len(g.slots)
	g.slots = unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(g.pages))), size)
	clear(g.slots[:min(had, size)])
	if size < had {
		memory.Discard(g.pages[size*8 : had*8])
	}
	t.store.pages.Untouched((had - size) / slotsIn)
}

// lay puts slots that ascend into an empty segment, and reports false when they do not fit.
func (g *segment) lay(first, second []uint64) bool {
	at := -1
	for _, part := range [2][]uint64{first, second} {
		for _, slot := range part {
			if slot == 0 {
				continue
			}
			if at = max(at+1, g.home(slotTag(slot))); at >= len(g.slots) {
				return false
			}
			g.slots[at] = slot
		}
	}
	return true
}

// take gives a segment slots: whole pages, or a piece of a pool, or for a few slots Go's heap.
func (t *Table) take(g *segment, size int) {
	switch {
	case size >= slotsIn:
		g.pages = t.store.pages.Alloc(size * 8)
		g.slots = unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(g.pages))), size)
	case size >= pooledSlots:
		g.piece, g.slots = t.store.slotsOf(size).take()
	default:
		g.slots = make([]uint64, size)
	}
}

func (t *Table) give(g *segment) {
	switch {
	case g.pages != nil:
		t.store.pages.Untouched(len(g.slots)/slotsIn - len(g.pages)/memory.PageSize)
		t.store.pages.Free(g.pages)
	case g.piece != 0:
		t.store.slotsOf(len(g.slots)).give(g.piece)
	}
	g.slots, g.pages, g.piece = nil, nil, 0
}

// pooledSlots is from how many slots on a segment lies outside of Go's heap.
const pooledSlots = 64

// A shelf hands out the slots of small segments, of one size.
type shelf interface {
	take() (piece uint32, slots []uint64)
	give(piece uint32)
}

type slotPool[T any] struct{ pool *memory.Pool[T] }

func (p slotPool[T]) take() (uint32, []uint64) {
	id, t := p.pool.Alloc()
	return id, unsafe.Slice((*uint64)(unsafe.Pointer(t)), unsafe.Sizeof(*t)/8)
}

func (p slotPool[T]) give(id uint32) { p.pool.Free(id) }

// slotsOf returns the shelf for a size below a page.
func (s *Store) slotsOf(size int) shelf {
	i, _ := slices.BinarySearch(sizes[:], size)
	if s.shelves[i] == nil {
		s.shelves[i] = newShelf(s.pages, size)
	}
	return s.shelves[i]
}

func newShelf(pages *memory.Pages, size int) shelf {
	switch size {
	case 64:
		return slotPool[[64]uint64]{memory.NewSmallPool[[64]uint64](pages)}
	case 96:
		return slotPool[[96]uint64]{memory.NewSmallPool[[96]uint64](pages)}
	case 128:
		return slotPool[[128]uint64]{memory.NewSmallPool[[128]uint64](pages)}
	case 192:
		return slotPool[[192]uint64]{memory.NewSmallPool[[192]uint64](pages)}
	case 256:
		return slotPool[[256]uint64]{memory.NewSmallPool[[256]uint64](pages)}
	case 384:
		return slotPool[[384]uint64]{memory.NewSmallPool[[384]uint64](pages)}
	}
	panic("dense: no segment has so many slots")
}

// shrink takes slots from a segment that has many more than it needs, and makes one of two that have little.
func (t *Table) shrink(g *segment, hash uint64) {
	if g.depth > 0 && g.n < maxSlots*3/10 {
		from, places := t.span(hash, g.depth)
		at, _ := t.span(hash^1<<(64-g.depth), g.depth)
		if buddy := t.dir[at]; buddy.depth == g.depth && g.n+buddy.n <= maxSlots*2/5 && mayJoin(g.n+buddy.n) {
			low, high := g, buddy
			if at < from {
				low, high = buddy, g
			}
			one := t.join(low, high)
			if one == nil {
				return
			}
			t.give(low)
			t.give(high)
			for i := min(at, from); i < min(at, from)+2*places; i++ {
				t.dir[i] = one
			}
			t.halve()
			t.shrink(one, hash)
			return
		}
	}
	if size := len(g.slots); g.n == 0 && size > 0 {
		t.give(g)
	} else if g.n%(size/64+1) != 0 {
		return
	} else if smaller := sizeFor(g.n + g.n/7); size > packedSlots && g.n < size*11/20 && smaller < size {
		t.rebuild(g, g.slots, smaller)
	}
}

// mayJoin says whether it is worth trying to join segments of so many records: not each time that one goes, because it may
// be in vain.
func mayJoin(n int) bool { return n <= packedSlots || n%64 == 0 }

// join makes one of two segments, nil if it would need many more slots than it has records. Where records go in the order
// of their hashes (what a scan shows is deleted, what has one deadline is evicted), those that are left lie close together
// and may not fit in any number of slots.
func (t *Table) join(low, high *segment) *segment {
	n := low.n + high.n
	size := sizeFor(n + n/7)
	for range 3 {
		one := &segment{depth: low.depth - 1, n: n}
		t.take(one, size)
		if one.lay(low.slots, high.slots) {
			return one
		}
		t.give(one)
		size = sizeFor(size + 1)
	}
	return nil
}

// halve makes the directory as small as its deepest segment allows.
func (t *Table) halve() {
	for t.depth > 0 && !slices.ContainsFunc(t.dir, func(g *segment) bool { return g.depth == t.depth }) {
		t.depth--
		if t.depth == 0 {
			t.one[0] = t.dir[0]
			t.dir = t.one[:]
			return
		}
		half := make([]*segment, len(t.dir)/2)
		for i := range half {
			half[i] = t.dir[2*i]
		}
		t.dir = half
	}
}
