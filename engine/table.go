package engine

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"

	"github.com/dchest/siphash"
)

// A table finds items by key. It is a chained hash table with a secret seed, whose number of buckets is a
// power of two, and which grows and shrinks a few buckets at a time, so that no single operation moves the
// items of a large table.
//
//	T1: an item stands in old's or cur's bucket hash&mask, and in only one of the two
//	T2: while old exists, its buckets below moved are empty
//	T3: count is the number of items
//	T4: there are at most 32 buckets for each item, and a few, so a walk over buckets is one over items
type table struct {
	seed  Seed
	cur   []*item
	old   []*item // being emptied into cur; nil when at rest
	moved int
	count int
}

const minBuckets = 8

func newTable(seed Seed) table { return table{seed: seed} }

func (t *table) len() int { return t.count }

func (t *table) hash(key []byte) uint64 { return siphash.Hash(t.seed[0], t.seed[1], key) }

// find returns the item under key, or nil. It changes nothing.
func (t *table) find(key []byte) *item {
	if t.count == 0 {
		return nil
	}
	h := t.hash(key)
	for it := t.cur[h&uint64(len(t.cur)-1)]; it != nil; it = it.next {
		if it.hash == h && it.key == string(key) {
			return it
		}
	}
	if t.old != nil {
		for it := t.old[h&uint64(len(t.old)-1)]; it != nil; it = it.next {
			if it.hash == h && it.key == string(key) {
				return it
			}
		}
	}
	return nil
}

// insert adds an item whose key is not in the table.
func (t *table) insert(it *item) {
	t.step(4)
	if t.old == nil && t.count >= len(t.cur) {
		t.resize(max(minBuckets, 2*len(t.cur)))
	}
	it.hash = t.hash([]byte(it.key))
	t.push(it)
	t.count++
}

func (t *table) push(it *item) {
	b := it.hash & uint64(len(t.cur)-1)
	it.next = t.cur[b]
	t.cur[b] = it
}

// remove takes out an item that is in the table.
func (t *table) remove(it *item) {
	if !unlink(t.cur, it) && !unlink(t.old, it) {
		panic("engine: T1: item is not where its hash says")
	}
	t.count--
	t.step(16)
	if t.old == nil && len(t.cur) > minBuckets && t.count < len(t.cur)/8 {
		t.resize(len(t.cur) / 2)
	}
}

func unlink(buckets []*item, it *item) bool {
	if len(buckets) == 0 {
		return false
	}
	for at := &buckets[it.hash&uint64(len(buckets)-1)]; *at != nil; at = &(*at).next {
		if *at == it {
			*at, it.next = it.next, nil
			return true
		}
	}
	return false
}

func (t *table) resize(buckets int) {
	if t.count == 0 {
		t.cur = make([]*item, buckets)
		return
	}
	t.old, t.cur, t.moved = t.cur, make([]*item, buckets), 0
}

// step moves a few buckets from old to cur, so many that a resize is over before the next one is due: 4 for
// an insertion, of which as many follow as there are buckets; 16 for a removal, because a table with one item
// in 8 buckets must have shrunk before it has lost half of those (T4).
func (t *table) step(buckets int) {
	if t.old == nil {
		return
	}
	for range buckets {
		for it := t.old[t.moved]; it != nil; {
			next := it.next
			t.push(it)
			it = next
		}
		t.old[t.moved] = nil
		if t.moved++; t.moved == len(t.old) {
			t.old = nil
			return
		}
	}
}

// positionBits keeps positions, which clients see as cursors, exact in a float64.
const positionBits = 48

// positionOf is where something with this hash stands on the way of a scan: the first positionBits bits of the
// hash read backwards. A bucket holds one run of positions, however many buckets there are, so the way is the
// same in a table of any size and in the middle of a resize.
func positionOf(hash uint64) uint64 { return bits.Reverse64(hash) >> (64 - positionBits) }

// bucketOf is the bucket with a position, among mask+1 of them.
func bucketOf(position, mask uint64) uint64 {
	return bits.Reverse64(position<<(64-positionBits)) & mask
}

// nextBucket is the first position after the bucket with this one, 0 after the last.
func nextBucket(position, mask uint64) uint64 {
	run := uint64(1) << (positionBits - bits.Len64(mask)) // positions in a bucket
	return (position&^(run-1) + run) & (1<<positionBits - 1)
}

// position is where an item stands on the way of a scan.
func (it *item) position() uint64 { return positionOf(it.hash) }

// scan visits the items of the bucket at position from, beginning there, in the order of their positions, and
// returns the position after the bucket, 0 at the end. An item that is in the table from the scan's first
// call to its last is visited exactly once, whatever else comes and goes; and since the order is no matter of
// the table's size, replicas that grew in different ways scan alike. visit must not change the table.
func (t *table) scan(from uint64, visit func(*item)) uint64 {
	if t.count == 0 || from >= 1<<positionBits {
		return 0
	}
	small, large := t.cur, t.old
	if large != nil && len(small) > len(large) {
		small, large = large, small
	}
	mask := uint64(len(small) - 1)
	bucket := bucketOf(from, mask)
	var few [32]*item // more than a bucket has at any likely time
	found := few[:0]
	for it := small[bucket]; it != nil; it = it.next {
		found = append(found, it)
	}
	for b := bucket; b < uint64(len(large)); b += mask + 1 {
		for it := large[b]; it != nil; it = it.next {
			found = append(found, it)
		}
	}
	slices.SortFunc(found, func(a, b *item) int {
		if c := cmp.Compare(a.position(), b.position()); c != 0 {
			return c
		}
		return strings.Compare(a.key, b.key)
	})
	for _, it := range found {
		if it.position() >= from {
			visit(it)
		}
	}
	return nextBucket(from, mask)
}

// each visits every item until visit returns false. visit must not change the table.
func (t *table) each(visit func(*item) bool) {
	for _, buckets := range [2][]*item{t.cur, t.old} {
		for _, it := range buckets {
			for ; it != nil; it = it.next {
				if !visit(it) {
					return
				}
			}
		}
	}
}

// pick returns the first item at or after the bucket that draw names, nil from an empty table. Long chains
// and runs of empty buckets make it only roughly fair.
func (t *table) pick(draw uint64) *item {
	if t.count == 0 {
		return nil
	}
	size := uint64(len(t.cur) + len(t.old))
	for i := uint64(0); ; i++ {
		b := (draw + i) % size
		if b < uint64(len(t.cur)) {
			if it := t.cur[b]; it != nil {
				return it
			}
		} else if it := t.old[b-uint64(len(t.cur))]; it != nil {
			return it
		}
	}
}
