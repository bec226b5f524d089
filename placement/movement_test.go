package placement

import (
	"testing"

	"pgregory.net/rapid"
)

// TestRangesComeToWhatIsWanted: whatever ranges a cache has, and however the loads change meanwhile, a bounded number of moves
// makes them n even ones on n partitions.
func TestRangesComeToWhatIsWanted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := make([]PartitionID, rapid.IntRange(1, 16).Draw(t, "partitions"))
		for i := range all {
			all[i] = PartitionID(i)
		}
		now := Even(rapid.IntRange(1, 20).Draw(t, "before"))
		for i := range now {
			now[i].Partition = PartitionID(rapid.IntRange(0, len(all)-1).Draw(t, "on"))
		}
		now = Reassign(now, 0, 0, now[0].Partition) // neighbours are joined
		n := rapid.IntRange(1, len(all)).Draw(t, "wanted")
		most := len(now) + 2*n
		for moves := 0; ; moves++ {
			loads := rapid.SliceOfN(rapid.Int64Range(0, 9), len(all), len(all)).Draw(t, "loads")
			m, more := NextMove(now, Layout(now, n, all, func(id PartitionID) int64 { return loads[id] }))
			if !more {
				break
			}
			if moves > most {
				t.Fatalf("%d moves and no end: %v", moves, now)
			}
			for slot := m.From; slot < m.To; slot++ {
				if Find(now, slot) != m.Source {
					t.Fatalf("slot %d of %v is not at its source: %v", slot, m, now)
				}
			}
			now = Reassign(now, m.From, m.To, m.Target)
			if err := CheckRanges(now); err != nil {
				t.Fatal(err)
			}
		}
		if len(now) != n {
			t.Fatalf("wanted %d ranges, has %v", n, now)
		}
	})
}
