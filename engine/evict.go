package engine

import (
	"fmt"
	"math"

	"github.com/larder-cache/larder/engine/dense"
)

// EvictionPolicy says what a cache does when a write finds it at its memory limit.
type EvictionPolicy uint8

// The policies: Redis's, and our own default.
const (
	AllKeysAdaptive EvictionPolicy = iota // the default: fewest uses for its age goes first, so a scan does not sweep out what is in use
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
	evictionBatch  = 1024
)

// Relieve returns the task that evicts what t's cache has to lose before t may run, or nil when nothing has
// to go. The leader applies it before t, in the same entry or an earlier one: which items go depends on how
// they were used, so it is decided once and written to the log.
func (p *Partition) Relieve(now int64, seed uint64, t *Task) *Task {
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
		if call.Command.Flags&Grows == 0 {
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
	p.dice.Seed(seed, uint64(now))
	relief, evict := &Task{Cache: t.Cache}, MustLookup("LARDER.EVICT")
	for excess > 0 && len(relief.Calls) < evictionBatch {
		p.viewed = 0
		victim := c.victim(p, now, chosen)
		if victim == nil && spared == nil {
			break
		}
		if victim == nil {
			for _, ref := range spared { // each will be made anew
				delete(chosen, ref)
				excess += newItem
			}
			spared = nil
			continue
		}
		chosen[victim.ref] = true
		excess -= victim.cost()
		relief.Calls = append(relief.Calls, Call{Command: evict, Args: [][]byte{[]byte(evict.Name), {byte(victim.home.db)}, append([]byte(nil), victim.key...)}})
	}
	if len(relief.Calls) == 0 {
		return nil
	}
	return relief
}

// cost is what an item takes of its cache's memory, in bytes.
func (it *item) cost() int64 {
	p := it.home.p
	n := int64(p.store.Size(it.ref)) + indexShare
	if it.expireAt != 0 {
		n += calendarShare
	}
	switch {
	case it.kind == kindObject:
		n += p.objects[it.object()].size
	case len(it.str.data) >= dense.Apart && it.value == &it.str:
		n += int64(it.str.room)
	}
	return n
}

// victim draws a few items and returns the one that the policy would miss least, nil when it finds none.
func (c *cache) victim(p *Partition, now int64, chosen map[dense.Ref]bool) (least *item) {
	var lowest float64
	for _, it := range c.draw(p, chosen) {
		if w := c.settings.Eviction.worth(it, now); least == nil || w < lowest {
			least, lowest = it, w
		}
	}
	return least
}

// draw returns some of the items that may be evicted: a few at random from each database, or, if chance finds
// none, the first on a walk of bounded length.
func (c *cache) draw(p *Partition, chosen map[dense.Ref]bool) (drawn []*item) {
	volatile := c.settings.Eviction.volatile()
	for _, k := range c.dbs {
		if k == nil || k.table.Len() == 0 {
			continue
		}
		consider := func(ref dense.Ref) {
			if !chosen[ref] && (!volatile || p.store.ExpireAt(ref) != 0) {
				drawn = append(drawn, k.view(0, ref))
			}
		}
		for range evictionSample {
			consider(k.table.Sample(p.dice.Uint64()))
		}
		if len(drawn) == 0 {
			looked := 0
			k.table.Each(0, func(_ uint64, ref dense.Ref) bool {
				consider(ref)
				looked++
				return len(drawn) == 0 && looked < 100*evictionSample
			})
		}
	}
	return drawn
}

func (c *call) touch(it *item) {
	hits := min(it.note>>24+1, 255)
	it.note = hits<<24 | uint32(c.now/64)&(1<<24-1)
	c.p.store.SetNote(it.ref, it.note)
}

func (it *item) frequency() uint32 { return it.note >> 24 }

// idle is how many milliseconds an item has not been used.
func (it *item) idle(now int64) int64 {
	return int64((uint32(now/64)-it.note)&(1<<24-1)) * 64
}

// worth ranks items: the lowest is evicted first.
func (p EvictionPolicy) worth(it *item, now int64) float64 {
	if it.expiredAt(now) {
		return math.Inf(-1)
	}
	switch p {
	case AllKeysRandom, VolatileRandom:
		return 0
	case VolatileTTL:
		return float64(it.expireAt)
	case AllKeysLFU, VolatileLFU:
		return float64(it.frequency())
	default:
		return -float64(it.idle(now))
	}
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
