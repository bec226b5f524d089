package dense

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// checkWaste holds a store that Compact has no more to do for to its bound. It stops for one of two reasons:
//
//	all waste is at most an eighth of the blocks, and 512 KiB; or
//	sparse blocks waste at most a 64th of the blocks, the open one at most itself, and the others are full: 13 % of theirs
//
// Both are at most 15 % of the blocks, and 512 KiB.
func checkWaste(t *testing.T, s *Store) {
	t.Helper()
	if waste := s.total - s.live; waste > s.total*15/100+wasteFloor {
		t.Errorf("%d of %d bytes are wasted, %.1f %%", waste, s.total, 100*float64(waste)/float64(s.total))
	}
	blocks := int64(0)
	for _, b := range s.blocks {
		if b.mem != nil {
			blocks += blockSize
		}
	}
	if blocks > s.total+blockSize {
		t.Errorf("blocks take %d bytes for %d", blocks, s.total)
	}
}

// A waster puts records into a store so as to leave holes that later ones do not fit into.
type waster struct {
	t     *testing.T
	s     *Store
	table *Table
	next  uint64
	keys  [][8]byte
}

// put makes a record that takes so many bytes in its block.
func (w *waster) put(size int) {
	var key [8]byte
	binary.BigEndian.PutUint64(key[:], w.next)
	w.next++
	value := max(size-11, 0)
	for RecordSize(len(key), value, 0, false) > size && value > 0 {
		value--
	}
	w.table.Insert(w.s.Hash(key[:]), 1, key[:], value, 0, 0)
	w.keys = append(w.keys, key)
}

// keep removes all records but those that it says.
func (w *waster) keep(which func(i int) bool) {
	kept := w.keys[:0]
	for i, key := range w.keys {
		if which(i) {
			kept = append(kept, key)
			continue
		}
		hash := w.s.Hash(key[:])
		w.table.Remove(hash, w.table.Find(hash, key[:]))
		w.s.Settle()
	}
	w.keys = kept
}

// rest compacts until nothing is left to do, and holds the store to its bounds.
func (w *waster) rest() {
	w.t.Helper()
	s := w.s
	// Every sweep moves sparse blocks into full ones, and leaves one sparse block more at most: the open one.
	work, bound := 0, 20*int(s.live/512+s.total/64+1000)
	for steps := 1 << 10; s.Compact(steps, nil); work += steps {
		if work > bound {
			w.t.Fatalf("after %d steps Compact has more to do: %+v, %d sparse blocks", work, s.Usage(), s.sparse)
		}
	}
	if s.Busy() {
		w.t.Fatal("Compact has nothing to do, and the store is busy")
	}
	if err := s.Check(); err != nil {
		w.t.Fatal(err)
	}
	checkWaste(w.t, s)
}

func TestWasteIsBounded(t *testing.T) {
	const most = 6 << 20 // bytes of records
	edges := []int{11, minHole - 1, minHole, minHole + 1, 2*minHole - 1, 2 * minHole, 90, exactSizes - 1, exactSizes, exactSizes + 1,
		2047, 4096, blockSize/8 - 11, Apart, Apart + 1, blockSize / 16}
	each := func(name string, run func(w *waster, size int)) {
		t.Run(name, func(t *testing.T) {
			for _, size := range edges {
				s := NewStore(Seed{1, 2})
				w := &waster{t: t, s: s, table: s.NewTable(false, nil, nil)}
				run(w, size)
				w.rest()
				w.keep(func(int) bool { return false })
				w.rest()
				if u := s.Usage(); u.Live != 0 || u.Blocks > blockSize {
					t.Errorf("emptied, it uses %+v", u)
				}
				s.Close()
			}
		})
	}
	fill := func(w *waster, size int) {
		for range min(most/size, 40_000) {
			w.put(size)
		}
	}
	for _, k := range []int{2, 3, 10, 100} {
		kth := func(i int) bool { return i%k == 0 }
		each("a few left, then a byte more", func(w *waster, size int) {
			fill(w, size)
			w.keep(kth)
			w.rest()
			fill(w, size+1)
		})
		each("a few left, then just larger than the holes", func(w *waster, size int) {
			fill(w, size)
			w.keep(kth)
			fill(w, min(size*(k-1)+1, Apart))
		})
		each("all but a few left", func(w *waster, size int) {
			fill(w, size)
			w.keep(func(i int) bool { return i%k != 0 })
			fill(w, size+minHole-1)
		})
	}
	each("up and down", func(w *waster, size int) {
		for round := range 6 {
			for i := range min(most/size, 40_000) / 4 {
				step := i % (size/4 + 1)
				if round%2 == 1 {
					step = size/4 - step
				}
				w.put(size + step)
			}
			w.keep(func(i int) bool { return (i/7+round)%3 != 0 })
			if round%3 == 0 {
				w.rest()
			}
		}
	})
	each("ends of blocks", func(w *waster, size int) {
		for range most / blockSize { // as large as leaves the most at the end
			for range 7 {
				w.put(Apart + 5)
			}
			w.put(size)
		}
		w.keep(func(i int) bool { return i%8 != 7 })
		fill(w, size+1)
	})
	each("by chance", func(w *waster, size int) {
		rng := rand.New(rand.NewPCG(uint64(size), 1))
		for range 4 {
			for range min(most/size, 20_000) / 2 {
				w.put(size/2 + 6 + rng.IntN(size))
			}
			w.keep(func(int) bool { return rng.IntN(3) > 0 })
			w.s.Compact(500, nil)
		}
	})
}

// TestCompactKeepsToItsSteps: one call moves no more than its steps allow, however many records a segment has in victims,
// and a victim that is emptied by deletions is given back at once.
func TestCompactKeepsToItsSteps(t *testing.T) {
	s := NewStore(Seed{1, 2})
	defer s.Close()
	owner := &moves{t: t, store: s}
	w := &waster{t: t, s: s, table: s.NewTable(false, owner, nil)}
	for range 30_000 {
		w.put(1000)
	}
	w.keep(func(i int) bool { return i%10 == 0 })
	for i := 0; s.Compact(100, nil); i++ {
		if owner.heard > 100/8+1 {
			t.Fatalf("%d records moved in 100 steps", owner.heard)
		}
		owner.heard = 0
		if i%50 == 0 {
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 30_000 {
		w.put(1000)
	}
	w.keep(func(i int) bool { return i%3 == 0 })
	for !s.sweep.running || s.sweep.table == nil {
		s.Compact(100, nil)
	}
	w.keep(func(i int) bool { return false })
	if u := s.Usage(); u.Blocks > blockSize {
		t.Errorf("emptied while it compacts, it uses %+v", u)
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}
