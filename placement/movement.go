package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// A Movement is a span of a cache's slots on its way from one partition to another, as the cache's record has it. There is one
// at a time for each cache. Who drives it is whoever leads the source: see package replication/move. What the partitions have
// done so far they know themselves; the record only says what is wanted, and when the routing table has been changed.
type Movement struct {
	Epoch     uint64      `json:"epoch"` // counts a cache's movements from 1
	From      uint16      `json:"from"`
	To        uint16      `json:"to"` // the last slot, inclusive
	Source    PartitionID `json:"source"`
	Target    PartitionID `json:"target"`
	Committed bool        `json:"committed,omitempty"` // the ranges say that the target has it
	Abort     bool        `json:"abort,omitempty"`     // it is to be given up, unless it has come too far
	StartedAt time.Time   `json:"started_at"`
}

func (m *Movement) String() string {
	return fmt.Sprintf("slots %d-%d from partition %d to %d", m.From, m.To, m.Source, m.Target)
}

// Reassign gives a span of slots to a partition, and joins neighbours that are on one.
func Reassign(ranges []Range, from, to uint16, partition PartitionID) []Range {
	var out []Range
	add := func(r Range) {
		if n := len(out); n > 0 && out[n-1].Partition == r.Partition {
			out[n-1].To = r.To
			return
		}
		out = append(out, r)
	}
	for _, r := range ranges {
		if r.To < from || r.From > to {
			add(r)
			continue
		}
		if r.From < from {
			add(Range{r.From, from - 1, r.Partition})
		}
		add(Range{max(r.From, from), min(r.To, to), partition})
		if r.To > to {
			add(Range{to + 1, r.To, r.Partition})
		}
	}
	return out
}

// Layout says where the ranges of a cache should lie that is to have n of them, of about the same length, each on a partition of
// its own: where most of it is already, or else where load is least. all are the partitions that there are, at least n. Whoever
// decides while the ranges move there decides the same.
//
//	Y1: a span that was moved to where Layout wants it stays there
func Layout(now []Range, n int, all []PartitionID, load func(PartitionID) int64) []Range {
	want := Even(n)
	type claim struct {
		slots, at int
		on        PartitionID
	}
	var claims []claim
	for at, w := range want {
		overlap := map[PartitionID]int{}
		for _, r := range now {
			if length := int(min(r.To, w.To)) - int(max(r.From, w.From)) + 1; length > 0 {
				overlap[r.Partition] += length
			}
		}
		for on, slots := range overlap {
			claims = append(claims, claim{slots, at, on})
		}
	}
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(b.slots, a.slots), cmp.Compare(a.at, b.at), cmp.Compare(a.on, b.on))
	})
	taken, placed := map[PartitionID]bool{}, make([]bool, n)
	for _, c := range claims {
		if !taken[c.on] && !placed[c.at] && slices.Contains(all, c.on) {
			taken[c.on], placed[c.at], want[c.at].Partition = true, true, c.on
		}
	}
	for at := range want {
		if placed[at] {
			continue
		}
		free := slices.DeleteFunc(slices.Clone(all), func(p PartitionID) bool { return taken[p] })
		best := slices.MinFunc(free, func(a, b PartitionID) int { return cmp.Or(cmp.Compare(load(a), load(b)), cmp.Compare(a, b)) })
		taken[best], want[at].Partition = true, best
	}
	return want
}

// NextMove is the first span that has to move for ranges to become as they are wanted; ok is false when they are.
func NextMove(now, want []Range) (m Movement, ok bool) {
	for _, r := range now {
		for _, w := range want {
			from, to := max(r.From, w.From), min(r.To, w.To)
			if from > to || r.Partition == w.Partition {
				continue
			}
			return Movement{From: from, To: to, Source: r.Partition, Target: w.Partition}, true
		}
	}
	return m, false
}
