package dense

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// TestFragmentationIsBounded tries what hurts an allocator: holes that are all a little too small for what comes next. After
// maintenance at most an eighth of the blocks and wasteFloor are holes, or else all blocks but the open one are fuller than
// sparse.
func TestFragmentationIsBounded(t *testing.T) {
	for _, sizes := range [][]int{
		{10, 11, 12, 13, 14, 15}, {64, 65, 66, 67, 68}, {100, 90, 80, 70, 60}, {1, 2, 3, 1, 2}, {minHole, minHole + 1, minHole - 1},
		{exactSizes - 8, exactSizes - 7, exactSizes, exactSizes + 100}, {2000, 2100, 2200, 2300}, {Apart - 1, Apart - 500, Apart - 1},
		{blockSize / 9, blockSize/9 + 1, blockSize/9 + 2}, {20, 5000, 21, 5100},
	} {
		for _, keep := range []uint64{2, 7, 50} {
			s := NewStore(Seed{1, 2})
			table := s.NewTable(false, nil, nil)
			next, key := uint64(0), make([]byte, 8)
			of := func(i uint64) (uint64, []byte) {
				binary.LittleEndian.PutUint64(key, i)
				return s.Hash(key), key
			}
			for round, size := range sizes {
				first := next
				for range max(200, 1<<20/(size+16)) {
					hash, k := of(next)
					table.Insert(hash, 1, k, size, 0, 0)
					next++
				}
				if round == len(sizes)-1 {
					break
				}
				for i := first; i < next; i++ {
					if hash, k := of(i); i%keep != 0 {
						table.Remove(hash, table.Find(hash, k))
					}
				}
				s.Settle()
			}
			work := 0
			for s.Compact(1000, nil) {
				if work++; work > 20_000 {
					t.Fatalf("sizes %v, every %d kept: maintenance never ends", sizes, keep)
				}
			}
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
			u := s.Usage()
			holes := (u.Live+wasteFloor)*wasteShare/(wasteShare-1) + blockSize
			full := u.Live*blockSize/sparse + blockSize
			if u.Blocks > max(holes, full) {
				t.Errorf("%s: %d bytes in blocks of %d", fmt.Sprint(sizes, keep), u.Live, u.Blocks)
			}
			s.Close()
		}
	}
}
