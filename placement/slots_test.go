package placement

import (
	"testing"

	"pgregory.net/rapid"
)

func TestRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Cut all slots at random places: what comes out covers every slot once, and Find agrees with a plain search.
		var ranges []Range
		for from := 0; from < Slots; {
			to := min(Slots-1, from+rapid.IntRange(0, 5000).Draw(t, "length"))
			ranges = append(ranges, Range{uint16(from), uint16(to), PartitionID(len(ranges) % 7)})
			from = to + 1
		}
		if err := CheckRanges(ranges); err != nil {
			t.Fatal(err)
		}
		slot := uint16(rapid.IntRange(0, Slots-1).Draw(t, "slot"))
		for _, r := range ranges {
			if r.From <= slot && slot <= r.To && Find(ranges, slot) != r.Partition {
				t.Fatalf("slot %d is in %v, found in %d", slot, r, Find(ranges, slot))
			}
		}
	})
}

func TestEvenRanges(t *testing.T) {
	for n := 1; n <= MaxRanges; n++ {
		ranges := Even(n)
		if err := CheckRanges(ranges); err != nil || len(ranges) != n {
			t.Fatalf("%d ranges: %v, %v", n, ranges, err)
		}
		for _, r := range ranges {
			if size := int(r.To-r.From) + 1; size < Slots/n-rangeStep || size > Slots/n+rangeStep {
				t.Errorf("one of %d ranges has %d slots", n, size)
			}
		}
	}
}

func TestBrokenRangesAreRefused(t *testing.T) {
	tests := []struct {
		name   string
		ranges []Range
	}{
		{"none", nil},
		{"not from the first slot", []Range{{1, Slots - 1, 0}}},
		{"not to the last slot", []Range{{0, Slots - 2, 0}}},
		{"a gap", []Range{{0, 10, 0}, {12, Slots - 1, 0}}},
		{"an overlap", []Range{{0, 10, 0}, {10, Slots - 1, 0}}},
		{"backwards", []Range{{0, 10, 0}, {11, 5, 0}}},
		{"beyond the last slot", []Range{{0, Slots, 0}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if CheckRanges(tt.ranges) == nil {
				t.Error("accepted")
			}
		})
	}
}
