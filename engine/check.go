package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
)

// check returns the first broken invariant by its name. Tests call it after every step.
func (p *Partition) check() error {
	for i, it := range p.due {
		if it.due != i {
			return fmt.Errorf("D1: item %q thinks it is at %d, stands at %d", it.key, it.due, i)
		}
		if i > 0 && p.due[(i-1)/2].expireAt > it.expireAt {
			return fmt.Errorf("D2: item %q expires before its parent", it.key)
		}
	}
	timed := 0
	for id, c := range p.caches {
		var used int64
		for _, k := range c.dbs {
			if k == nil {
				continue
			}
			n, err := k.check(&used)
			if err != nil {
				return fmt.Errorf("cache %s: %w", id, err)
			}
			timed += n
		}
		for _, d := range c.once.done {
			used += d.bytes()
		}
		if used != c.used {
			return fmt.Errorf("K3: cache %s accounts %d bytes, its items have %d", id, c.used, used)
		}
	}
	if timed != len(p.due) {
		return fmt.Errorf("K2: %d items have deadlines, the heap holds %d", timed, len(p.due))
	}
	return nil
}

// A checker is a value with invariants of its own.
type checker interface{ check() error }

func (k *keyspace) check(used *int64) (timed int, err error) {
	count := 0
	k.table.each(func(it *item) bool {
		count++
		*used += it.size
		switch {
		case it.home != k:
			err = fmt.Errorf("K1: %q lives elsewhere", it.key)
		case (it.expireAt != 0) != (it.due >= 0):
			err = fmt.Errorf("K2: %q expires at %d and stands at %d in the heap", it.key, it.expireAt, it.due)
		case it.size != itemOverhead+int64(len(it.key))+it.value.bytes():
			err = fmt.Errorf("K3: %q is accounted with %d bytes", it.key, it.size)
		case k.find([]byte(it.key)) != it:
			err = fmt.Errorf("T1: %q cannot be found", it.key)
		case it.value.empty():
			err = fmt.Errorf("V1: %q is an empty collection", it.key)
		}
		if v, ok := it.value.(checker); ok && err == nil {
			if e := v.check(); e != nil {
				err = fmt.Errorf("%s %q: %w", it.value.kind(), it.key, e)
			}
		}
		if it.expireAt != 0 {
			timed++
		}
		return err == nil
	})
	if err == nil && count != k.table.count {
		err = fmt.Errorf("T3: the table counts %d items and holds %d", k.table.count, count)
	}
	return timed, err
}

// Digest is a fingerprint of everything that replicas must agree on. It visits every item: O(N).
func (p *Partition) Digest() (sum [sha256.Size]byte) {
	h := sha256.New()
	add := func(id CacheID, db int, it *item) {
		h.Reset()
		h.Write(id[:])
		writeInts(h, int64(db), int64(len(it.key)), it.expireAt)
		h.Write([]byte(it.key))
		h.Write([]byte(it.value.kind()))
		h.Write(it.value.encode(nil))
		for i, b := range h.Sum(nil) {
			sum[i] ^= b // the order of items is no part of the state
		}
	}
	for id, c := range p.caches {
		for db, k := range c.dbs {
			if k == nil {
				continue
			}
			k.table.each(func(it *item) bool { add(id, db, it); return true })
		}
	}
	return sum
}

func writeInts(h hash.Hash, ns ...int64) {
	for _, n := range ns {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(n)))
	}
}
