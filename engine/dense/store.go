// Package dense keeps keys with their values in large blocks of memory that hold no pointer.
//
// A record is a key, a value, a kind and, where it has them, a deadline and a note about its use, one after the other
// in a block of 256 KiB; see record.go. Long values are kept apart, on pages of their own. A Table finds records by key; it
// is an index of 8 bytes a slot, about 9.3 bytes a record, and grows and shrinks a few KiB at a time; see table.go. A
// Calendar finds records by deadline, in 3.2 bytes for each; see calendar.go. All tables of a partition share
// one Store, and so its blocks.
//
// What is freed leaves a hole, and holes are filled by records of their size. Where holes stay empty, Store.Compact moves the
// records of sparse blocks together, a bounded number of steps at a time, and gives the blocks back; see compact.go.
//
// Who holds a Ref or a slice of a record may go on reading it until the next call of Settle or Compact, even if the
// record is removed meanwhile: a freed record is reused only after Settle. Writing over a record in place (Value,
// SetExpire) shows in slices that were taken before.
//
// The package draws no random numbers, reads no clock and starts no goroutine. A Store belongs to one partition,
// whose lock its caller holds, so it has none of its own. Start with Table.Find and Store.Open.
package dense

import (
	"fmt"

	"github.com/larder-cache/larder/engine/memory"
)

// A Ref says where a record lies: a block and an offset in it. 0 is no record.
type Ref uint64

// How a Ref is made up. 37 bits allow for 128 GiB of records in a partition; long values, kept apart, do not count.
const (
	blockBits = 18
	blockSize = 1 << blockBits
	refBits   = 37
	maxBlocks = 1 << (refBits - blockBits)
)

func (r Ref) block() uint32 { return uint32(r >> blockBits) }
func (r Ref) offset() int   { return int(r & (blockSize - 1)) }

func refOf(block uint32, offset int) Ref { return Ref(block)<<blockBits | Ref(offset) }

// A block is 256 KiB of records and holes, one after the other up to end.
type block struct {
	mem    *[blockSize]byte // nil where there is no block
	end    int32
	live   int32 // bytes of its records
	victim bool  // its records are being moved away, and nothing new comes in
}

// A Store holds the records of many tables.
//
//	R1: a block is records and holes without a gap, up to its end
//	R2: a block's live is the sum of the sizes of its records; total and live are the sums over all blocks
//	R3: a hole of at least minHole bytes, but in a victim, is in the list of its size, and no other list holds anything
//	R4: a bit of filled is set exactly when the list has a hole
//	R5: every record belongs to one table's slot, or to dying
//	R6: a block without records is the open one, or it is given back
//	R7: sparse is the number of sparse blocks, see isSparse, and sparseLive the sum of their live
type Store struct {
	pages  *memory.Pages
	ground *memory.Pages // of the blocks
	seed   Seed
	blocks []block            // of room for all that there may be, of which only what is used takes memory: it never moves
	mems   []*[blockSize]byte // the mem of each of blocks, close together
	vacant []uint32           // block numbers without a block
	open   uint32             // the block that new records are appended to, 0 for none

	live       int64 // bytes of records
	total      int64 // bytes of blocks up to their ends
	made       int64 // bytes of values of all records that were ever made; see Made
	owed       int64 // bytes appended since a sweep began, and not paid for; see Owed
	churned    int64 // bytes appended and freed, ever
	notBefore  int64 // what churned has to come to before the next sweep
	sparse     int64 // blocks
	sparseLive int64 // bytes of their records

	holes  [classes]Ref
	filled [(classes + 63) / 64]uint64
	dying  []Ref

	apart     []apart
	apartFree []uint32
	apartSize int64

	entries *memory.Pool[chunk] // of calendars
	shelves [len(sizes)]shelf   // of small segments' slots
	reached byte                // keeps the compiler from leaving reach's reads out
	laying  []uint64            // slots on their way from a segment to itself; reused

	tables *Table // the first of all tables, linked
	dead   *Table // tables whose records are being freed
	sweep  sweep
}

// Seed keys the hash of every table against flooding.
type Seed [2]uint64

// An apart is a long value: the pages that it has to itself, some of which may be room to grow.
type apart struct{ mem []byte }

// NewStore makes an empty store.
func NewStore(seed Seed) *Store {
	s := &Store{pages: memory.New(), ground: memory.New(), seed: seed}
	s.entries = memory.NewPool[chunk](s.pages)
	s.blocks = memory.Reserve[block](s.pages, maxBlocks)[:1] // block 0 does not exist, so that no record is at Ref 0
	s.mems = memory.Reserve[*[blockSize]byte](s.pages, maxBlocks)[:1]
	return s
}

// Pages is where the store's memory comes from, but for its blocks, for what else a partition keeps without pointers.
func (s *Store) Pages() *memory.Pages { return s.pages }

// Seed is what keys the hash of every table.
func (s *Store) Seed() Seed { return s.seed }

// Close gives all memory back at once. Nothing of the store may be used any more.
func (s *Store) Close() {
	s.pages.Close()
	s.ground.Close()
}

// Ahead is memory.Pages.Ahead of the blocks.
func (s *Store) Ahead() []byte { return s.ground.Ahead() }

// A Usage tells how the store's memory is spent, in bytes.
type Usage struct {
	Live   int64 // records
	Blocks int64 // what the blocks take, with their holes
	Apart  int64 // long values
	All    int64 // everything: blocks, long values, indexes, calendars, whatever else came from Pages
}

// Usage tells how the store's memory is spent. O(1).
func (s *Store) Usage() Usage {
	return Usage{Live: s.live, Blocks: s.total, Apart: s.apartSize, All: s.pages.Used() + s.ground.Used()}
}

func (s *Store) at(r Ref) []byte { return s.mems[r>>blockBits][r&(blockSize-1):] }

// reach asks for what lies behind the beginning of a record, so that its value is on its way from memory while its lengths
// and key are.
func (s *Store) reach(r Ref) {
	const line = 64
	b := s.mems[r>>blockBits]
	s.reached = b[(r+line)&(blockSize-1)] + b[(r+2*line-16)&(blockSize-1)]
}

// place finds room for a record of n bytes.
func (s *Store) place(n int) Ref {
	if r := s.fill(n); r != 0 {
		return r
	}
	if s.open == 0 || int(s.blocks[s.open].end)+n > blockSize {
		s.openBlock()
	}
	b := &s.blocks[s.open]
	r := refOf(s.open, int(b.end))
	b.end += int32(n)
	b.live += int32(n)
	s.total += int64(n)
	s.live += int64(n)
	s.owed += int64(n)
	s.churned += int64(n)
	return r
}

func (s *Store) openBlock() {
	if old := s.open; old != 0 {
		if b := &s.blocks[old]; b.end < blockSize { // what is left over becomes a hole
			r, n := refOf(old, int(b.end)), blockSize-int(b.end)
			b.end = blockSize
			s.total += int64(n)
			s.dig(r, n)
		}
		s.open = 0
		s.tallySparse(old, 1)
		s.giveBack(old)
	}
	at := uint32(len(s.blocks))
	if n := len(s.vacant); n > 0 {
		at, s.vacant = s.vacant[n-1], s.vacant[:n-1]
	} else if at == maxBlocks {
		panic(fmt.Sprintf("dense: %d bytes of records, more than a partition can hold", s.live))
	} else {
		s.blocks, s.mems = append(s.blocks, block{}), append(s.mems, nil)
	}
	s.mems[at] = (*[blockSize]byte)(s.ground.Alloc(blockSize))
	s.blocks[at] = block{mem: s.mems[at]}
	s.open = at
}

// isSparse reports whether a block has so few records that to move them away is worth it, and may be.
func (s *Store) isSparse(at uint32) bool {
	b := &s.blocks[at]
	return b.mem != nil && at != s.open && !b.victim && b.live < full
}

// tallySparse adds a block to the sums of the sparse ones, or takes it out of them, if it is one.
func (s *Store) tallySparse(at uint32, sign int64) {
	if s.isSparse(at) {
		s.sparse += sign
		s.sparseLive += sign * int64(s.blocks[at].live)
	}
}

// count adds to the live bytes of a block, or takes some away.
func (s *Store) count(at uint32, by int) {
	s.tallySparse(at, -1)
	s.blocks[at].live += int32(by)
	s.live += int64(by)
	s.tallySparse(at, 1)
}

// giveBack gives a block back if it holds no record (R6).
func (s *Store) giveBack(at uint32) {
	b := &s.blocks[at]
	if b.live != 0 || at == s.open || b.mem == nil {
		return
	}
	if !b.victim {
		for off := 0; off < int(b.end); {
			r := refOf(at, off)
			n := holeSize(s.at(r))
			s.unlink(r, n)
			off += n
		}
	}
	s.tallySparse(at, -1)
	s.total -= int64(b.end)
	s.ground.Free(b.mem[:])
	*b, s.mems[at] = block{}, nil
	s.vacant = append(s.vacant, at)
}

// keepPages marks a dying record whose long value belongs to another record now.
const keepPages Ref = 1 << refBits

// release frees a record's room, and at once the pages of a long value, unless they are to be kept.
func (s *Store) release(r Ref) {
	keep := r&keepPages != 0
	r &^= keepPages
	h := s.at(r)
	n := sizeOf(h)
	if h[0]&flagApart != 0 && !keep {
		s.freeApart(apartOf(h))
	}
	at := r.block()
	b := &s.blocks[at]
	s.churned += int64(n)
	s.count(at, -n)
	if at == s.open && r.offset()+n == int(b.end) { // the last one: as if it had not been
		b.end -= int32(n)
		s.total -= int64(n)
		return
	}
	if next := r.offset() + n; !b.victim && next < int(b.end) {
		if r := refOf(at, next); s.at(r)[0]&kindMask == 0 {
			more := holeSize(s.at(r))
			s.unlink(r, more)
			n += more
		}
	}
	s.dig(r, n)
	s.giveBack(at)
}

// Free frees the record at r, which no table holds any more. Its bytes stay until Settle; the pages of a long
// value too.
func (s *Store) Free(r Ref) { s.dying = append(s.dying, r) }

// Settle makes room of what was freed since the last Settle. Refs and slices of records that are gone must not be
// used any more.
func (s *Store) Settle() {
	if len(s.dying) == 0 {
		return
	}
	for _, r := range s.dying {
		s.release(r)
	}
	s.dying = s.dying[:0]
	if cap(s.dying) > 4096 {
		s.dying = nil
	}
}

func (s *Store) newApart(n int) uint32 {
	a := apart{mem: s.pages.Alloc(n)}
	s.apartSize += int64(len(a.mem))
	if k := len(s.apartFree); k > 0 {
		at := s.apartFree[k-1]
		s.apartFree = s.apartFree[:k-1]
		s.apart[at] = a
		return at
	}
	s.apart = append(s.apart, a)
	return uint32(len(s.apart) - 1)
}

func (s *Store) freeApart(at uint32) {
	a := &s.apart[at]
	s.apartSize -= int64(len(a.mem))
	s.pages.Free(a.mem)
	*a = apart{}
	s.apartFree = append(s.apartFree, at)
}
