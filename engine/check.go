package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
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
	timed, stored := 0, 0
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
		remembers, err := c.checkOnce()
		if err != nil {
			return fmt.Errorf("cache %s: %w", id, err)
		}
		used += remembers
		stored += c.asked.Len()
		if used != c.used {
			return fmt.Errorf("K3: cache %s accounts %d bytes, its items have %d", id, c.used, used)
		}
	}
	if timed != len(p.due) {
		return fmt.Errorf("K2: %d items have deadlines, the heap holds %d", timed, len(p.due))
	}
	last := int64(0)
	for e := p.once.Front(); e != nil; e = e.Next() {
		d := e.Value.(*remembered)
		if d.expireAt < last {
			return errors.New("O1: a task is forgotten before an earlier one")
		}
		if last = d.expireAt; d.queued != e || d.home.once[d.key] != d {
			return errors.New("O2: a task stands in the queue that its cache does not remember")
		}
	}
	if stored != p.once.Len() {
		return fmt.Errorf("O2: %d tasks are remembered, %d queued", stored, p.once.Len())
	}
	return nil
}

// checkOnce returns what the remembered tasks cost.
func (c *cache) checkOnce() (bytes int64, err error) {
	last := int64(0)
	for e := c.asked.Front(); e != nil; e = e.Next() {
		d := e.Value.(*remembered)
		if d.expireAt < last {
			return 0, errors.New("O1: a task is forgotten before an earlier one")
		}
		if last = d.expireAt; d.home != c || d.place != e || c.once[d.key] != d {
			return 0, errors.New("O2: a task stands in the cache's queue, but not in its table")
		}
		bytes += d.bytes()
	}
	switch {
	case len(c.once) != c.asked.Len():
		return 0, fmt.Errorf("O2: the table holds %d tasks, the queue %d", len(c.once), c.asked.Len())
	case bytes != c.remembers:
		return 0, fmt.Errorf("O3: %d bytes are accounted for remembered tasks, they take %d", c.remembers, bytes)
	}
	return bytes, nil
}

// A checker is a value with invariants of its own.
type checker interface{ check() error }

func (k *keyspace) check(used *int64) (timed int, err error) {
	count, listed := 0, 0
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
		if s, ok := it.value.(*sessionValue); ok && err == nil {
			if it.expireAt != s.expiry() {
				err = fmt.Errorf("S1: session %q expires at %d, its item at %d", it.key, s.expiry(), it.expireAt)
			}
			if s.user != "" {
				listed++
				if k.sessions == nil {
					err = errors.New("K4: no session is listed")
				} else if _, found := k.sessions.Rank(k.entry(s.user, s.created, it.key)); !found {
					err = fmt.Errorf("K4: session %q is not listed", it.key)
				}
			}
		}
		if it.expireAt != 0 {
			timed++
		}
		return err == nil
	})
	if err == nil && k.sessions != nil {
		err = k.sessions.Check()
	}
	if err == nil && ((listed == 0) != (k.sessions == nil) || (k.sessions != nil && k.sessions.Len() != listed)) {
		err = fmt.Errorf("K4: %d sessions have users, another number is listed", listed)
	}
	if buckets := len(k.table.cur) + len(k.table.old); err == nil && buckets > 32*count+4*minBuckets {
		err = fmt.Errorf("T4: %d items in %d buckets", count, buckets)
	}
	if err == nil && count != k.table.count {
		err = fmt.Errorf("T3: the table counts %d items and holds %d", k.table.count, count)
	}
	if err == nil {
		err = k.table.check()
	}
	return timed, err
}

// Digest is a fingerprint of everything that replicas must agree on: the items with their deadlines, the
// caches with their settings, the remembered idempotency keys and the last version given out. It visits all
// of them: O(N).
func (p *Partition) Digest() (sum [sha256.Size]byte) {
	h := sha256.New()
	var scratch []byte
	// add mixes in one thing. The order of things is no part of the state.
	add := func(what string, id CacheID, text []byte, numbers ...int64) {
		h.Reset()
		h.Write([]byte(what))
		h.Write(id[:])
		for _, n := range numbers {
			scratch = binary.BigEndian.AppendUint64(scratch[:0], uint64(n))
			h.Write(scratch)
		}
		h.Write(text)
		for i, b := range h.Sum(nil) {
			sum[i] ^= b
		}
	}
	var text []byte
	for id, c := range p.caches {
		s := c.settings
		add("cache", id, nil, s.MemoryLimit, int64(s.Eviction), s.MaxValue, s.DefaultTTL)
		for _, d := range c.once {
			text = append(append(append(text[:0], d.key[:]...), d.fingerprint[:]...), d.reply.b...)
			add("once", id, text, d.expireAt)
		}
		for db, k := range c.dbs {
			if k == nil {
				continue
			}
			k.table.each(func(it *item) bool {
				text = it.value.encode(append(append(text[:0], it.key...), it.value.kind()...))
				add("item", id, text, int64(db), int64(len(it.key)), it.expireAt)
				return true
			})
		}
	}
	add("version", CacheID{}, nil, int64(p.version))
	return sum
}

// check returns the first broken invariant of T1 and T2.
func (t *table) check() error {
	for _, buckets := range [2][]*item{t.cur, t.old} {
		if len(buckets)&(len(buckets)-1) != 0 {
			return fmt.Errorf("T1: %d buckets are no power of two", len(buckets))
		}
		for b, it := range buckets {
			for ; it != nil; it = it.next {
				if it.hash&uint64(len(buckets)-1) != uint64(b) {
					return fmt.Errorf("T1: %q stands in bucket %d of %d", it.key, b, len(buckets))
				}
			}
		}
	}
	for b := range min(t.moved, len(t.old)) {
		if t.old[b] != nil {
			return fmt.Errorf("T2: bucket %d is not empty, though %d have been moved", b, t.moved)
		}
	}
	return nil
}
