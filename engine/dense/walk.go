package dense

import (
	"bytes"
	"math/bits"
	"slices"
)

// Positions are how many places a record can have on a walk through a table: what its hash begins with.
const Positions = 1 << tagBits

// Position is where a record with that hash stands on a walk.
func Position(hash uint64) uint64 { return tagOf(hash) }

// Each visits the records from a position on until visit returns false: in the order of their positions, and of
// their keys where records share one, so on every replica in the same order. A record that is there from the first
// step of a walk in steps to the last is met exactly once, whatever else comes and goes. visit must not change the
// table.
func (t *Table) Each(from uint64, visit func(position uint64, r Ref) bool) {
	if from >= Positions {
		return
	}
	for at := from; ; {
		g := t.segment(at << refBits)
		for i := g.lower(at); i < len(g.slots); i++ {
			slot := g.slots[i]
			if slot == 0 || slotTag(slot) < at {
				continue
			}
			tag, end := slotTag(slot), i+1
			for end < len(g.slots) && g.slots[end] != 0 && slotTag(g.slots[end]) == tag {
				end++
			}
			if end == i+1 {
				if !visit(tag, slotRef(slot)) {
					return
				}
				continue
			}
			var few [8]Ref
			same := few[:0]
			for _, slot := range g.slots[i:end] {
				same = append(same, slotRef(slot))
			}
			slices.SortFunc(same, func(a, b Ref) int { return bytes.Compare(t.store.Key(a), t.store.Key(b)) })
			for _, r := range same {
				if !visit(tag, r) {
					return
				}
			}
			i = end - 1
		}
		if g.depth == 0 {
			return
		}
		at = (at>>(tagBits-g.depth) + 1) << (tagBits - g.depth)
		if at == Positions {
			return
		}
	}
}

// At visits the records at a position until visit returns false.
func (t *Table) At(position uint64, visit func(r Ref) bool) {
	g := t.segment(position << refBits)
	for i := g.lower(position); i < len(g.slots) && g.slots[i] != 0 && slotTag(g.slots[i]) == position; i++ {
		if !visit(slotRef(g.slots[i])) {
			return
		}
	}
}

// Draw returns one of the records by chance, each as likely as any other, 0 from an empty table. Which one depends
// only on the dice and on what is in the table, not on how it came about. O(1) on average.
func (t *Table) Draw(dice func() uint64) Ref {
	if t.count == 0 {
		return 0
	}
	// Windows of 4 to 8 records on average; one in a million times a million has over 64.
	const bound = 64
	k := min(max(bits.Len(uint(t.count))-3, 0), tagBits)
	for {
		window := dice() >> (64 - k) // a shift by 64 gives 0
		want, n := int(dice()%bound), 0
		var drawn Ref
		t.Each(window<<(tagBits-k), func(position uint64, r Ref) bool {
			if position>>(tagBits-k) != window {
				return false
			}
			if n == want {
				drawn = r
			}
			n++
			return n <= want
		})
		if drawn != 0 {
			return drawn
		}
	}
}

// Sample returns a record by chance for who does not mind a small bias and that it depends on how the table came
// about, 0 from an empty table. It is the cheapest way to some record.
func (t *Table) Sample(draw uint64) Ref {
	if t.count == 0 {
		return 0
	}
	for {
		g := t.segment(draw)
		if g.n > 0 {
			at := int((draw & 0xffffffff) * uint64(len(g.slots)) >> 32)
			for i := range g.slots {
				if at+i >= len(g.slots) {
					at -= len(g.slots)
				}
				if slot := g.slots[at+i]; slot != 0 {
					return slotRef(slot)
				}
			}
		}
		draw = draw*6364136223846793005 + 1442695040888963407 // the next of a linear congruential generator
	}
}
