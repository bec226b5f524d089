package placement

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"
)

func TestSlotIsThatOfRedisCluster(t *testing.T) {
	// The slots are what CLUSTER KEYSLOT of redis-server 7.0 answers.
	tests := []struct {
		name, key string
		want      uint16
	}{
		{"a plain key", "foo", 12182},
		{"another", "bar", 5061},
		{"the check value of CRC-16/XMODEM", "123456789", 0x31c3},
		{"the empty key", "", 0},
		{"a hash tag", "{user1000}.following", 3443},
		{"the same tag elsewhere", "a{user1000}b", 3443},
		{"the tag alone", "user1000", 3443},
		{"an empty tag counts as none", "foo{}{bar}", 8363},
		{"the first tag counts", "foo{bar}{zap}", 5061},
		{"a tag that begins with a brace", "foo{{bar}}zap", 4015},
		{"a tag that is not closed", "foo{bar", 15278},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Slot([]byte(tt.key)); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestATagDecidesTheSlot(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tag := rapid.SliceOfN(rapid.Byte().Filter(func(b byte) bool { return b != '}' }), 1, 20).Draw(t, "tag")
		before := rapid.SliceOf(rapid.Byte().Filter(func(b byte) bool { return b != '{' })).Draw(t, "before")
		after := rapid.SliceOf(rapid.Byte()).Draw(t, "after")
		key := bytes.Join([][]byte{before, {'{'}, tag, {'}'}, after}, nil)
		if want := crc16(tag) % Slots; Slot(key) != want {
			t.Fatalf("slot of %q is %d, its tag's is %d", key, Slot(key), want)
		}
	})
}

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
