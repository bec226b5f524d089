package engine

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/larder-cache/larder/engine/dense"
)

// check returns the first broken invariant by its name. Tests call it after every step.
func (p *Partition) check() error {
	p.store.Settle()
	if err := p.store.Check(); err != nil {
		return err
	}
	stored, named := 0, map[uint32]bool{}
	for id, c := range p.caches {
		var used int64
		for _, k := range c.dbs {
			if k == nil {
				continue
			}
			if err := k.check(named); err != nil {
				return fmt.Errorf("cache %s: %w", id, err)
			}
			used += k.cost
		}
		remembers, err := c.checkOnce()
		if err != nil {
			return fmt.Errorf("cache %s: %w", id, err)
		}
		used += remembers
		scripted, err := c.checkScripts()
		if err != nil {
			return fmt.Errorf("cache %s: %w", id, err)
		}
		used += scripted
		stored += c.asked.Len()
		if used != c.used {
			return fmt.Errorf("K3: cache %s accounts %d bytes, its items have %d", id, c.used, used)
		}
	}
	for at, o := range p.objects {
		if (o.value != nil) != named[uint32(at)] && p.store.Usage().Live == 0 {
			return fmt.Errorf("K1: object %d is named by nobody", at)
		}
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

// checkScripts returns what the cache's scripts and libraries cost.
func (c *cache) checkScripts() (bytes int64, err error) {
	var libraryBytes int64
	if c.libraries != nil {
		for _, l := range c.libraries.list {
			libraryBytes += l.bytes()
		}
		if libraryBytes != c.libraries.bytes {
			return 0, fmt.Errorf("U2: libraries of %d bytes are accounted with %d", libraryBytes, c.libraries.bytes)
		}
	}
	s := c.scripts
	if s == nil {
		return libraryBytes, nil
	}
	evals, last := 0, uint64(0)
	for _, k := range s.bySHA {
		bytes += k.bytes()
		if k.place != nil {
			evals++
		}
	}
	for e := s.byUse.Front(); e != nil; e = e.Next() {
		k := e.Value.(*knownScript)
		if k.used <= last || k.place != e || s.bySHA[k.sha] != k {
			return 0, errors.New("U1: a script is out of the order of use, or not known")
		}
		last = k.used
	}
	switch {
	case evals != s.byUse.Len():
		return 0, fmt.Errorf("U1: %d scripts came by EVAL, %d stand in the order of use", evals, s.byUse.Len())
	case bytes != s.bytes:
		return 0, fmt.Errorf("U2: scripts of %d bytes are accounted with %d", bytes, s.bytes)
	}
	return bytes + libraryBytes, nil
}

// A checker is a value with invariants of its own.
type checker interface{ check() error }

func (k *keyspace) check(named map[uint32]bool) (err error) {
	listed := 0
	waiting := 0
	var objects int64
	promised := map[uint64]int64{} // the earliest entry in the calendar, by what it tells of a position
	if k.calendar != nil {
		k.calendar.EachEntry(func(prefix uint64, begins int64) {
			if at, ok := promised[prefix]; !ok || begins < at {
				promised[prefix] = begins
			}
		})
	}
	k.table.Each(0, func(position uint64, ref dense.Ref) bool {
		it := &item{home: k, ref: ref}
		it.load()
		if it.kind == kindObject {
			at := it.object()
			switch o := k.p.objects[at]; {
			case named[at]:
				err = fmt.Errorf("K1: %q shares its object", it.key)
			case o.size != o.value.bytes():
				err = fmt.Errorf("K3: %q is accounted with %d bytes, has %d", it.key, o.size, o.value.bytes())
			default:
				objects += o.size
			}
			named[at] = true
		}
		if at := k.wakes(ref); err == nil && at != 0 {
			if begins, ok := promised[dense.PrefixOf(position)]; (!ok || begins > at) && len(k.p.ended) == 0 && at > k.p.now {
				err = fmt.Errorf("K2: %q expires at %d and is not in the calendar", it.key, at)
			}
		}
		if h, ok := it.value.(*hashValue); ok && h.wakes() != 0 {
			waiting++
		}
		if it.value.empty() {
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
				} else if _, found := k.sessions.Rank(k.entry([]byte(s.user), s.created, ref)); !found {
					err = fmt.Errorf("K4: session %q is not listed", it.key)
				}
			}
		}
		return err == nil
	})
	if err == nil && waiting != k.waiting {
		err = fmt.Errorf("K5: %d hashes wait for a field, %d are counted", waiting, k.waiting)
	}
	if err == nil && k.sessions != nil {
		err = k.sessions.Check()
	}
	if err == nil && ((listed == 0) != (k.sessions == nil) || (k.sessions != nil && k.sessions.Len() != listed)) {
		err = fmt.Errorf("K4: %d sessions have users, another number is listed", listed)
	}
	if cost := k.table.Bytes() + indexShare*int64(k.table.Len()) + calendarShare*int64(k.timed()) + objects; err == nil && cost != k.cost {
		err = fmt.Errorf("K3: a keyspace of %d bytes is accounted with %d", cost, k.cost)
	}
	return err
}

// Digest is a fingerprint of everything that replicas must agree on: the items with their deadlines, the
// caches with their settings, the remembered idempotency keys, the scripts and libraries, and the last version given out. It visits all
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
		if c.tenure != nil {
			add("tenure", id, c.tenure.Append(text[:0]))
		}
		for _, d := range c.once {
			text = append(append(append(text[:0], d.key[:]...), d.fingerprint[:]...), d.reply.b...)
			add("once", id, text, d.expireAt)
		}
		if s := c.scripts; s != nil {
			for sha, k := range s.bySHA {
				loaded := int64(0)
				if k.place == nil {
					loaded = 1
				}
				add("script", id, append(append(text[:0], sha[:]...), k.text...), loaded, int64(k.used))
			}
		}
		if l := c.libraries; l != nil {
			for _, lib := range l.list {
				add("library", id, append(append(text[:0], lib.name...), lib.code...), int64(len(lib.name)))
			}
		}
		for db, k := range c.dbs {
			if k == nil {
				continue
			}
			if k.flushAt != 0 {
				add("flush", id, nil, int64(db), k.flushAt)
			}
			k.table.Each(0, func(_ uint64, ref dense.Ref) bool {
				it := &item{home: k, ref: ref}
				it.load()
				text = it.value.encode(append(append(text[:0], it.key...), it.value.kind()...))
				add("item", id, text, int64(db), int64(len(it.key)), it.expireAt)
				return true
			})
		}
	}
	add("version", CacheID{}, nil, int64(p.version))
	return sum
}
