package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/larder-cache/larder/engine/dense"
)

// EvictionPolicy says what a cache does when a write finds it at its memory limit.
type EvictionPolicy uint8

// The policies: Redis's, and our own default.
const (
	AllKeysAdaptive EvictionPolicy = iota // the default: see package eviction
	NoEviction                            // refuse commands that need memory
	AllKeysLRU
	VolatileLRU
	AllKeysLFU
	VolatileLFU
	AllKeysRandom
	VolatileRandom
	VolatileTTL
	numPolicies
)

var policyNames = [numPolicies]string{"allkeys-adaptive", "noeviction", "allkeys-lru", "volatile-lru", "allkeys-lfu",
	"volatile-lfu", "allkeys-random", "volatile-random", "volatile-ttl"}

func (p EvictionPolicy) String() string { return policyNames[p] }

// EvictionPolicies lists the policies' names, the default first.
func EvictionPolicies() []string { return policyNames[:] }

// ParseEvictionPolicy finds a policy by name; the empty name is the default.
func ParseEvictionPolicy(name string) (EvictionPolicy, error) {
	if name == "" {
		return AllKeysAdaptive, nil
	}
	for i, n := range policyNames {
		if n == name {
			return EvictionPolicy(i), nil
		}
	}
	return 0, fmt.Errorf("no eviction policy %q; there are %v", name, policyNames)
}

// volatile reports whether the policy touches only items that have a deadline.
func (p EvictionPolicy) volatile() bool {
	return p == VolatileLRU || p == VolatileLFU || p == VolatileRandom || p == VolatileTTL
}

// Eviction looks at evictionSample items to find one victim, and takes at most evictionBatch victims before
// one task: a task that needs more room than they make is refused.
const (
	evictionSample = 24
	evictionBatch  = 16 << 10
)

// Relieve returns the task that evicts what t's cache has to lose before t may run, or nil when nothing has
// to go. The leader applies it before t, in the same entry or an earlier one: which items go depends on how
// they were used, so it is decided once and written to the log.
func (p *Partition) Relieve(now int64, seed uint64, t *Task) *Task {
	return p.RelieveAhead(now, seed, t, 0)
}

// RelieveAhead is Relieve that makes room for so many bytes more, for tasks that will be decided on before t is carried out.
func (p *Partition) RelieveAhead(now int64, seed uint64, t *Task, ahead int64) *Task {
	c := p.cache(t.Cache)
	if c == nil || c.settings.MemoryLimit == 0 || c.settings.Eviction == NoEviction || t.DB < 0 || t.DB >= Databases {
		return nil
	}
	p.store.Settle()
	p.viewed, p.looked = 0, look{}
	var grows int64
	var spared []dense.Ref // what the task writes to, which goes last
	chosen := map[dense.Ref]bool{}
	for i := range t.Calls {
		call := &t.Calls[i]
		if call.Command.Flags&(Grows|relieved) == 0 {
			continue
		}
		need := c.need(t.DB, call.Command, call.Args)
		if need > c.settings.MemoryLimit { // refused whatever goes, so nothing goes for it
			if t.Atomic {
				return nil
			}
			continue
		}
		grows += need
		if k, key := c.dbs[t.DB], call.Command.FirstKey(call.Args); k != nil && key != nil {
			if ref := k.table.Find(p.store.Hash(key), key); ref != 0 && !chosen[ref] {
				chosen[ref], spared = true, append(spared, ref)
			}
		}
	}
	excess := c.used + grows - c.settings.MemoryLimit
	if grows == 0 || excess <= 0 {
		return nil
	}
	excess += ahead
	p.dice.Seed(seed, uint64(now))
	relief, evict := &Task{Cache: t.Cache}, MustLookup("LARDER.EVICT")
	for tries := 0; excess > 0 && len(relief.Calls) < evictionBatch && tries < 2*evictionBatch; tries++ {
		p.viewed = 0
		k, ref := c.victim(p, now, chosen)
		if ref == 0 && spared == nil {
			break
		}
		if ref == 0 {
			for _, ref := range spared { // each will be made anew
				delete(chosen, ref)
				excess += newItem
			}
			spared = nil
			continue
		}
		if chosen[ref] { // the policy may not know that it has been chosen
			continue
		}
		chosen[ref] = true
		excess -= k.costOf(ref)
		relief.Calls = append(relief.Calls, Call{Command: evict, Args: [][]byte{evict.name, {byte(k.db)}, bytes.Clone(p.store.Key(ref))}})
	}
	if len(relief.Calls) == 0 {
		return nil
	}
	return relief
}

// costOf is what an item takes of its cache's memory, in bytes.
func (k *keyspace) costOf(ref dense.Ref) int64 {
	rec := k.p.store.Open(ref)
	n := int64(k.p.store.Size(ref)) + indexShare
	if rec.ExpireAt != 0 {
		n += calendarShare
	}
	switch {
	case rec.Kind == kindObject:
		n += k.p.objects[binary.LittleEndian.Uint32(rec.Value)].size
	case dense.IsApart(len(rec.Key), len(rec.Value)):
		n += int64(rec.Room)
	}
	return n
}

// victim returns the item that the policy would miss least, 0 when it finds none but those that are chosen already.
func (c *cache) victim(p *Partition, now int64, chosen map[dense.Ref]bool) (*keyspace, dense.Ref) {
	k := c.heaviest(p.dice.Uint64())
	if k == nil {
		return nil, 0
	}
	if c.settings.Eviction == AllKeysAdaptive {
		for range 8 {
			hash, ok := k.policy.Victim(resident{k}, p.dice.Uint64())
			if !ok {
				break
			}
			if ref := k.byHash(hash); ref != 0 && !chosen[ref] {
				return k, ref
			}
		}
	}
	for range 2 { // another database may hold what this one lacks
		if ref := k.least(now, chosen); ref != 0 {
			return k, ref
		}
		for _, other := range c.dbs {
			if other != nil && other != k && other.table.Len() > 0 {
				if ref := other.least(now, chosen); ref != 0 {
					return other, ref
				}
			}
		}
	}
	return nil, 0
}

// heaviest draws a database, each as likely as it takes memory; nil when there is nothing.
func (c *cache) heaviest(draw uint64) *keyspace {
	var all int64
	for _, k := range c.dbs {
		if k != nil {
			all += k.cost
		}
	}
	if all == 0 {
		return nil
	}
	at := int64(draw % uint64(all))
	for _, k := range c.dbs {
		if k != nil {
			if at -= k.cost; at < 0 {
				return k
			}
		}
	}
	return nil
}

// least draws a few items and returns the one that the policy would miss least. If chance finds none that may go, it
// takes the first on a walk of bounded length.
func (k *keyspace) least(now int64, chosen map[dense.Ref]bool) (least dense.Ref) {
	p, policy := k.p, k.owner.settings.Eviction
	if k.table.Len() == 0 || policy.volatile() && k.table.Timed() == 0 {
		return 0
	}
	var lowest float64
	consider := func(ref dense.Ref) {
		at := p.store.ExpireAt(ref)
		if chosen[ref] || policy.volatile() && at == 0 {
			return
		}
		w := math.Inf(-1)
		if at == 0 || at > now {
			w = policy.worth(k, p.store.Note(ref), at)
		}
		if least == 0 || w < lowest {
			least, lowest = ref, w
		}
	}
	// Where many have deadlines, chance finds them. Where they are few among many the calendar knows them all, and it always
	// knows which come soon.
	common := k.table.Timed() >= k.table.Len()/8
	for i := range evictionSample {
		if !policy.volatile() {
			consider(k.table.Sample(p.dice.Uint64()))
			continue
		}
		if common && (policy != VolatileTTL || i%2 == 0) {
			for range 8 {
				if ref := k.table.Sample(p.dice.Uint64()); p.store.ExpireAt(ref) != 0 {
					consider(ref)
					break
				}
			}
			continue
		}
		prefix, ok := k.calendar.Sample(p.dice.Uint64(), policy == VolatileTTL)
		if !ok {
			break
		}
		k.table.Under(prefix, func(_ uint64, ref dense.Ref) { consider(ref) })
	}
	if least == 0 {
		looked := 0
		k.table.Each(0, func(_ uint64, ref dense.Ref) bool {
			consider(ref)
			looked++
			return least == 0 && looked < 100*evictionSample
		})
	}
	return least
}

// worth ranks items by their notes: the lowest is evicted first.
func (p EvictionPolicy) worth(k *keyspace, note uint32, expireAt int64) float64 {
	switch p {
	case AllKeysRandom, VolatileRandom:
		return 0
	case VolatileTTL:
		return float64(expireAt)
	case AllKeysLFU, VolatileLFU: // among those used as often, the one used longest ago
		return float64(k.policy.Freq(note))*(1<<32) - float64(k.policy.Age(note))
	default:
		return -float64(k.policy.Age(note))
	}
}

// A resident is a keyspace as its policy sees it.
type resident struct{ *keyspace }

func (r resident) Len() int { return r.table.Len() }

func (r resident) Sample(draw uint64) (hash uint64, note uint32, ok bool) {
	ref := r.table.Sample(draw)
	if ref == 0 {
		return 0, 0, false
	}
	return r.p.store.Hash(r.p.store.Key(ref)), r.p.store.Note(ref), true
}

func (r resident) Find(tag uint32) (hash uint64, note uint32, ok bool) {
	r.table.At(dense.Position(uint64(tag)<<32), func(ref dense.Ref) bool {
		if h := r.p.store.Hash(r.p.store.Key(ref)); uint32(h>>32) == tag {
			hash, note, ok = h, r.p.store.Note(ref), true
		}
		return !ok
	})
	return hash, note, ok
}

func (r resident) SetNote(hash uint64, note uint32) {
	if ref := r.byHash(hash); ref != 0 {
		r.p.store.SetNote(ref, note)
	}
}

// byHash returns the record with a hash, 0 for none.
func (k *keyspace) byHash(hash uint64) (found dense.Ref) {
	k.table.At(dense.Position(hash), func(ref dense.Ref) bool {
		if k.p.store.Hash(k.p.store.Key(ref)) == hash {
			found = ref
		}
		return found == 0
	})
	return found
}

// touch notes that an item was used: once for a command, however often it looks at it.
func (c *call) touch(it *item) {
	if c.quiet || it.used {
		return
	}
	it.used = true
	it.note = it.home.policy.Hit(it.hash, it.note, c.now)
	c.p.store.SetNote(it.ref, it.note)
}

func (c *call) evict() error {
	db := int(c.args[1][0])
	if c.cache == nil || db >= Databases || c.cache.dbs[db] == nil {
		c.out.Int(0)
		return nil
	}
	k := c.cache.dbs[db]
	it := k.find(c.args[2])
	if it == nil {
		c.out.Int(0)
		return nil
	}
	k.remove(it)
	c.cache.counts.Evicted++
	c.out.Int(1)
	return nil
}
