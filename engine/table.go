package engine

import (
	"math/bits"

	"github.com/dchest/siphash"
)

// A table finds items by key. It is a chained hash table with a secret seed, whose number of buckets is a
// power of two, and which grows and shrinks a few buckets at a time, so that no single operation pays for a
// large table.
//
//	T1: an item stands in old's or cur's bucket hash&mask, and in only one of the two
//	T2: while old exists, its buckets below moved are empty
//	T3: count is the number of items
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
	t.step()
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
	t.step()
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

// step moves a few buckets from old to cur: more per step than an insertion can fill, so a resize is over
// before the next one is due.
func (t *table) step() {
	if t.old == nil {
		return
	}
	for range 4 {
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

// scan visits one bucket and returns the next cursor, 0 when it has been all around. An item that is in the
// table from the first call with cursor 0 to the last is visited at least once, whatever else comes and goes
// and however the table is resized meanwhile: the cursor counts in reverse binary, so that the buckets
// visited stay visited under any larger or smaller mask (the scheme of Redis's SCAN).
// visit must not change the table.
func (t *table) scan(cursor uint64, visit func(*item)) uint64 {
	if t.count == 0 {
		return 0
	}
	small, large := t.cur, t.old
	if large == nil {
		visitBucket(small, cursor, visit)
		return advance(cursor, uint64(len(small)-1))
	}
	if len(small) > len(large) {
		small, large = large, small
	}
	smallMask, largeMask := uint64(len(small)-1), uint64(len(large)-1)
	visitBucket(small, cursor, visit)
	for {
		visitBucket(large, cursor, visit)
		cursor = advance(cursor, largeMask)
		if cursor&(smallMask^largeMask) == 0 {
			return cursor
		}
	}
}

func visitBucket(buckets []*item, cursor uint64, visit func(*item)) {
	for it := buckets[cursor&uint64(len(buckets)-1)]; it != nil; it = it.next {
		visit(it)
	}
}

func advance(cursor, mask uint64) uint64 {
	return bits.Reverse64(bits.Reverse64(cursor|^mask) + 1)
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
