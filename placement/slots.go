package placement

import (
	"fmt"

	"github.com/larder-cache/larder/internal/keyslot"
)

// Slots is how many slots a cache's keys fall into, as in Redis Cluster.
const Slots = keyslot.Count

// Slot returns the slot of a key: see keyslot.Of.
func Slot(key []byte) uint16 { return keyslot.Of(key) }

// A Range is a run of slots of one cache that lives on one partition. A new cache is one range with all slots.
type Range struct {
	From      uint16      `json:"from"`
	To        uint16      `json:"to"` // the last slot, inclusive
	Partition PartitionID `json:"partition"`
}

// CheckRanges returns an error unless ranges cover every slot once, in order.
func CheckRanges(ranges []Range) error {
	next := 0
	for _, r := range ranges {
		if int(r.From) != next || r.To < r.From || r.To >= Slots {
			return fmt.Errorf("slot range %d-%d does not continue at slot %d", r.From, r.To, next)
		}
		next = int(r.To) + 1
	}
	if next != Slots {
		return fmt.Errorf("slots %d-%d are in no range", next, Slots-1)
	}
	return nil
}

// Find returns the partition of a slot. ranges are as CheckRanges wants them.
func Find(ranges []Range, slot uint16) PartitionID {
	for i := range ranges {
		if slot <= ranges[i].To {
			return ranges[i].Partition
		}
	}
	panic("placement: ranges do not cover every slot")
}

// MaxRanges is how many ranges a new cache may have: more than a cluster has partitions to spread them over, and few enough
// that who walks over all of them is soon done.
const MaxRanges = 64

// rangeStep is what the borders of even ranges are multiples of: see gateway.scanCursor.
const rangeStep = 64

// Even cuts all slots into n ranges of about the same length, 1 to MaxRanges, on no partition in particular.
func Even(n int) []Range {
	const steps = Slots / rangeStep
	ranges := make([]Range, n)
	for i := range ranges {
		ranges[i].From, ranges[i].To = uint16(i*steps/n*rangeStep), uint16((i+1)*steps/n*rangeStep-1)
	}
	return ranges
}
