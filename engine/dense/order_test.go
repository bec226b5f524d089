package dense

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

// TestRecordsGoInTheOrderOfTheirHashes: what is left then lies close together, at one end of the segments.
func TestRecordsGoInTheOrderOfTheirHashes(t *testing.T) {
	for _, n := range []int{3000, 8000, 20_000} {
		for _, backwards := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d backwards=%v", n, backwards), func(t *testing.T) {
				s := NewStore(Seed{1, 2})
				defer s.Close()
				table := s.NewTable(false, nil, nil)
				for i := range n {
					key := binary.BigEndian.AppendUint32(nil, uint32(i))
					table.Insert(s.Hash(key), 1, key, 1, 0, 0)
				}
				type record struct {
					hash uint64
					ref  Ref
				}
				var all []record
				table.Each(0, func(_ uint64, r Ref) bool {
					all = append(all, record{s.Hash(s.Key(r)), r})
					return true
				})
				if backwards {
					slices.Reverse(all)
				}
				for i, r := range all {
					table.Remove(r.hash, r.ref)
					if i%1999 == 0 || i > n-70 {
						if err := s.Check(); err != nil {
							t.Fatalf("after %d: %v", i+1, err)
						}
					}
				}
				if table.Len() != 0 || table.depth != 0 {
					t.Errorf("%d records and a directory of 2^%d are left", table.Len(), table.depth)
				}
			})
		}
	}
}

// TestIndexGivesBackWhatItTakes: segments that grow and shrink where they stand count their pages right.
func TestIndexGivesBackWhatItTakes(t *testing.T) {
	s := NewStore(Seed{1, 2})
	defer s.Close()
	table := s.NewTable(false, nil, nil)
	key := func(i uint32) []byte { return binary.BigEndian.AppendUint32(nil, i) }
	var before int64
	for round := range 3 {
		for i := range uint32(40_000) {
			k := key(i)
			table.Insert(s.Hash(k), 1, k, 0, 0, 0)
		}
		slots := 0
		for i, g := range table.dir {
			if i == 0 || g != table.dir[i-1] {
				slots += len(g.slots)
			}
		}
		if index := s.pages.Used() - before; round > 0 && index != int64(8*slots) {
			t.Errorf("%d slots are counted as %d bytes", slots, index)
		}
		for i := range uint32(40_000) {
			k := key(i)
			hash := s.Hash(k)
			table.Remove(hash, table.Find(hash, k))
			s.Settle()
		}
		if left := s.pages.Used(); round > 0 && left != before {
			t.Errorf("%d bytes of index are left, and %d were in the round before", left, before)
		} else {
			before = left
		}
	}
}
