package dense

import (
	"fmt"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/larder-cache/larder/engine/memory"
)

// An Agenda holds the deadlines of a table's records in their order, each with the first bits of its record's position.
// Where a Calendar finds what is due at next to no cost, an Agenda also counts it: how many deadlines have passed
// at any time that somebody names, exactly and without a look at a record. That costs 8 to 12 bytes for each deadline
// in the place of 3.
//
// What it holds is a function of the deadlines alone, not of how they came about: replicas agree on it.
//
//	D1: entries ascend within blocks and from one block to the next
//	D2: no block is empty, and count is the number of entries in all blocks
//	D3: a block of agendaBlock entries, or one of several blocks, lies on a page; one that is alone and smaller on Go's heap
type Agenda struct {
	store  *Store
	blocks []agendaPart
	count  int
}

type agendaPart struct {
	entries []uint64
	page    []byte // what entries lie on, nil for Go's heap
}

// An entry of an Agenda is a deadline and the first agendaBits of a position, backwards: records of one deadline come
// up from all over the table, so that those that are left of them stay spread over its slots.
const (
	agendaBits  = 18
	agendaDrop  = tagBits - agendaBits
	agendaBlock = memory.PageSize / 8
)

// MaxDeadline bounds the deadlines of an Agenda, in milliseconds since 1970.
const MaxDeadline = 1<<(64-agendaBits) - 1

// NewAgenda makes an empty agenda.
func (s *Store) NewAgenda() *Agenda { return &Agenda{store: s} }

func agendaEntry(position uint64, at int64) uint64 {
	if at < 0 || at > MaxDeadline {
		panic("dense: a deadline out of bounds")
	}
	return uint64(at)<<agendaBits | backwards(position>>agendaDrop)
}

func backwards(prefix uint64) uint64 { return bits.Reverse64(prefix) >> (64 - agendaBits) }

// Len is the number of deadlines.
func (a *Agenda) Len() int { return a.count }

// First returns the earliest deadline with what its record's position begins with, for AgendaUnder; 0 for none.
func (a *Agenda) First() (at int64, prefix uint64) {
	if a.count == 0 {
		return 0, 0
	}
	e := a.blocks[0].entries[0]
	return int64(e >> agendaBits), backwards(e & (1<<agendaBits - 1))
}

// Passed counts the deadlines that have come at time now. O(log n) and the number of blocks of those that have.
func (a *Agenda) Passed(now int64) (n int) {
	if at, _ := a.First(); at == 0 || at > now {
		return 0
	}
	if now >= MaxDeadline {
		return a.count
	}
	limit := uint64(now+1) << agendaBits
	last := a.block(limit)
	for _, b := range a.blocks[:last] {
		n += len(b.entries)
	}
	i, _ := slices.BinarySearch(a.blocks[last].entries, limit)
	return n + i
}

// block is the block that e belongs to: the last one that begins no later, or the first.
func (a *Agenda) block(e uint64) int {
	low, high := 1, len(a.blocks)
	for low < high {
		if mid := (low + high) / 2; a.blocks[mid].entries[0] <= e {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low - 1
}

// Add notes the deadline of a record at that position.
func (a *Agenda) Add(position uint64, at int64) {
	e := agendaEntry(position, at)
	if len(a.blocks) == 0 {
		a.blocks = append(a.blocks, agendaPart{})
	}
	i := a.block(e)
	if len(a.blocks[i].entries) == cap(a.blocks[i].entries) {
		i = a.grow(i, e)
	}
	b := &a.blocks[i]
	j, _ := slices.BinarySearch(b.entries, e)
	n := len(b.entries)
	b.entries = b.entries[:n+1]
	copy(b.entries[j+1:], b.entries[j:n])
	b.entries[j] = e
	a.count++
}

// grow makes room for e in the full block i, and returns the block that e is to go into. A full page becomes two; at
// the very end the second one begins empty, for deadlines mostly come in their order.
func (a *Agenda) grow(i int, e uint64) int {
	b := &a.blocks[i]
	if n := len(b.entries); n < agendaBlock {
		a.resize(b, max(8, 2*n))
		return i
	}
	next := agendaPart{}
	a.resize(&next, agendaBlock)
	cut := agendaBlock / 2
	if i == len(a.blocks)-1 && e >= b.entries[agendaBlock-1] {
		cut = agendaBlock
	}
	next.entries = append(next.entries, b.entries[cut:]...)
	b.entries = b.entries[:cut]
	a.blocks = slices.Insert(a.blocks, i+1, next)
	if cut == agendaBlock || e >= next.entries[0] {
		return i + 1
	}
	return i
}

// resize gives a block room for so many entries, up to a page.
func (a *Agenda) resize(b *agendaPart, room int) {
	next := agendaPart{}
	if room >= agendaBlock {
		next.page = a.store.pages.Alloc(memory.PageSize)
		next.entries = unsafe.Slice((*uint64)(unsafe.Pointer(unsafe.SliceData(next.page))), agendaBlock)[:0]
	} else {
		next.entries = make([]uint64, 0, room)
	}
	next.entries = append(next.entries, b.entries...)
	a.give(b)
	*b = next
}

func (a *Agenda) give(b *agendaPart) {
	if b.page != nil {
		a.store.pages.Free(b.page)
	}
	*b = agendaPart{}
}

// Remove takes out the deadline of a record at that position, which was added.
func (a *Agenda) Remove(position uint64, at int64) {
	e := agendaEntry(position, at)
	i := a.block(e)
	b := &a.blocks[i]
	j, found := slices.BinarySearch(b.entries, e)
	if !found {
		panic("dense: a deadline that was never added")
	}
	b.entries = slices.Delete(b.entries, j, j+1)
	a.count--
	a.shrink(i)
}

// shrink joins block i with a neighbour when the two have little, and gives up what is empty.
func (a *Agenda) shrink(i int) {
	b := &a.blocks[i]
	n := len(b.entries)
	switch {
	case n == 0:
		a.drop(i)
	case n < agendaBlock/4 && i > 0 && n+len(a.blocks[i-1].entries) <= agendaBlock/2:
		a.blocks[i-1].entries = append(a.blocks[i-1].entries, b.entries...)
		a.drop(i)
	case n < agendaBlock/4 && i+1 < len(a.blocks) && n+len(a.blocks[i+1].entries) <= agendaBlock/2:
		b.entries = append(b.entries, a.blocks[i+1].entries...)
		a.drop(i + 1)
	}
	if len(a.blocks) == 1 {
		if b := &a.blocks[0]; cap(b.entries) > 8 && len(b.entries) < cap(b.entries)/4 {
			a.resize(b, cap(b.entries)/2)
		}
	}
}

func (a *Agenda) drop(i int) {
	a.give(&a.blocks[i])
	a.blocks = slices.Delete(a.blocks, i, i+1)
}

// AgendaUnder visits the records whose positions begin with prefix, which First returned, until visit returns false.
func (t *Table) AgendaUnder(prefix uint64, visit func(position uint64, r Ref) bool) {
	t.Each(prefix<<agendaDrop, func(position uint64, r Ref) bool {
		return position>>agendaDrop == prefix && visit(position, r)
	})
}

// Drop gives up all entries, at most so many blocks of them, and reports whether there are more.
func (a *Agenda) Drop(blocks int) (more bool) {
	a.count = 0
	for ; blocks > 0 && len(a.blocks) > 0; blocks-- {
		last := len(a.blocks) - 1
		a.give(&a.blocks[last])
		a.blocks = a.blocks[:last]
	}
	return len(a.blocks) > 0
}

// Check returns the first broken invariant by its name. deadlines are all that the agenda should hold, by position.
func (a *Agenda) Check(deadlines func(each func(position uint64, at int64))) error {
	want := map[uint64]int{}
	deadlines(func(position uint64, at int64) { want[agendaEntry(position, at)]++ })
	last, n := uint64(0), 0
	for i, b := range a.blocks {
		if len(b.entries) == 0 {
			return fmt.Errorf("D2: block %d is empty", i)
		}
		if (len(a.blocks) > 1 || cap(b.entries) >= agendaBlock) != (b.page != nil) {
			return fmt.Errorf("D3: block %d of %d lies in the wrong place", i, len(a.blocks))
		}
		for _, e := range b.entries {
			if e < last {
				return fmt.Errorf("D1: an entry of block %d is lower than the one before", i)
			}
			last = e
			n++
			if want[e]--; want[e] < 0 {
				return fmt.Errorf("D1: deadline %d belongs to no record", e>>agendaBits)
			}
		}
	}
	for e, missing := range want {
		if missing > 0 {
			return fmt.Errorf("D1: deadline %d is missing", e>>agendaBits)
		}
	}
	if n != a.count {
		return fmt.Errorf("D2: %d deadlines are counted, there are %d", a.count, n)
	}
	return nil
}
