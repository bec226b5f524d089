package engine

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strings"

	"github.com/dchest/siphash"
)

// A dict finds the members of a sorted set by name.
//
// It is to a collection what table is to a keyspace: chained buckets under the partition's secret seed, a few
// of them moved at a time, and scanned by a cursor that survives a resize and, since every replica has the
// same seed, a change of leader. A table's items are the links of its own chains; a dict makes slots for what
// it holds. The two share the arithmetic of a scan and nothing else: one type for both would have every look-up
// of a key go through another link, or items in the clothes of slots.
//
//	N1: a slot stands in old's or cur's bucket hash&mask, and in only one of the two
//	N2: while old exists, its buckets below moved are empty
//	N3: count is the number of slots
type dict[V any] struct {
	seed  Seed
	cur   []*slot[V]
	old   []*slot[V] // being emptied into cur; nil when at rest
	moved int
	count int
}

// A slot is a named element of a dict. Its name shares its bytes with whatever else holds the name.
type slot[V any] struct {
	name  string
	hash  uint64
	next  *slot[V]
	value V
}

func newDict[V any](seed Seed) dict[V] { return dict[V]{seed: seed} }

func (d *dict[V]) len() int { return d.count }

// find returns the slot called name, or nil.
func (d *dict[V]) find(name []byte) *slot[V] {
	if d.count == 0 {
		return nil
	}
	hash := siphash.Hash(d.seed[0], d.seed[1], name)
	for s := d.cur[hash&uint64(len(d.cur)-1)]; s != nil; s = s.next {
		if s.hash == hash && s.name == string(name) {
			return s
		}
	}
	if d.old != nil {
		for s := d.old[hash&uint64(len(d.old)-1)]; s != nil; s = s.next {
			if s.hash == hash && s.name == string(name) {
				return s
			}
		}
	}
	return nil
}

// insert adds a slot called name, which is not there yet.
func (d *dict[V]) insert(name string, value V) *slot[V] {
	d.step(4)
	if d.old == nil && d.count >= len(d.cur) {
		d.resize(max(minBuckets, 2*len(d.cur)))
	}
	s := &slot[V]{name: name, hash: siphash.Hash(d.seed[0], d.seed[1], []byte(name)), value: value}
	d.push(s)
	d.count++
	return s
}

func (d *dict[V]) push(s *slot[V]) {
	b := s.hash & uint64(len(d.cur)-1)
	s.next = d.cur[b]
	d.cur[b] = s
}

// remove takes out a slot that is there.
func (d *dict[V]) remove(s *slot[V]) {
	if !d.unlink(d.cur, s) && !d.unlink(d.old, s) {
		panic("engine: N1: slot is not where its hash says")
	}
	d.count--
	d.step(16)
	if d.old == nil && len(d.cur) > minBuckets && d.count < len(d.cur)/8 {
		d.resize(len(d.cur) / 2)
	}
}

func (d *dict[V]) unlink(buckets []*slot[V], s *slot[V]) bool {
	if len(buckets) == 0 {
		return false
	}
	for at := &buckets[s.hash&uint64(len(buckets)-1)]; *at != nil; at = &(*at).next {
		if *at == s {
			*at, s.next = s.next, nil
			return true
		}
	}
	return false
}

func (d *dict[V]) resize(buckets int) {
	if d.count == 0 {
		d.cur = make([]*slot[V], buckets)
		return
	}
	d.old, d.cur, d.moved = d.cur, make([]*slot[V], buckets), 0
}

// step moves a few buckets from old to cur, so many that a resize is over before the next one is due: 4 for
// an insertion, 16 for a removal; see table.step.
func (d *dict[V]) step(buckets int) {
	if d.old == nil {
		return
	}
	for range buckets {
		for s := d.old[d.moved]; s != nil; {
			next := s.next
			d.push(s)
			s = next
		}
		d.old[d.moved] = nil
		if d.moved++; d.moved == len(d.old) {
			d.old = nil
			return
		}
	}
}

// position is where a slot stands on the way of a scan.
func (s *slot[V]) position() uint64 { return positionOf(s.hash) }

// scan visits the slots of the bucket at position from, beginning there, in the order of their positions, and
// returns the position after the bucket, 0 at the end; see table.scan for what that guarantees. visit must
// not change the dict.
func (d *dict[V]) scan(from uint64, visit func(*slot[V])) uint64 {
	if d.count == 0 || from >= 1<<positionBits {
		return 0
	}
	small, large := d.cur, d.old
	if large != nil && len(small) > len(large) {
		small, large = large, small
	}
	mask := uint64(len(small) - 1)
	bucket := bucketOf(from, mask)
	var found []*slot[V]
	for s := small[bucket]; s != nil; s = s.next {
		found = append(found, s)
	}
	for b := bucket; b < uint64(len(large)); b += mask + 1 {
		for s := large[b]; s != nil; s = s.next {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b *slot[V]) int {
		return cmp.Or(cmp.Compare(a.position(), b.position()), strings.Compare(a.name, b.name))
	})
	for _, s := range found {
		if s.position() >= from {
			visit(s)
		}
	}
	return nextBucket(from, mask)
}

// check returns the first broken invariant by its name. It visits every slot.
func (d *dict[V]) check() error {
	count := 0
	for i, buckets := range [2][]*slot[V]{d.cur, d.old} {
		for b, s := range buckets {
			if i == 1 && b < d.moved && s != nil {
				return fmt.Errorf("N2: bucket %d was moved and holds a slot", b)
			}
			for ; s != nil; s = s.next {
				count++
				if s.hash&uint64(len(buckets)-1) != uint64(b) || d.find([]byte(s.name)) != s {
					return fmt.Errorf("N1: a slot of bucket %d cannot be found", b)
				}
			}
		}
	}
	if count != d.count {
		return fmt.Errorf("N3: %d slots are counted, there are %d", d.count, count)
	}
	return nil
}

const minBuckets = 8

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
