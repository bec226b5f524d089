package engine

import "fmt"

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
	c := p.caches[t.Cache]
	if c == nil || c.settings.MemoryLimit == 0 || c.settings.Eviction == NoEviction {
		return nil
	}
	var grows int64
	for i := range t.Calls {
		if t.Calls[i].Command.Flags&Grows != 0 {
			grows += need(t.Calls[i].Args)
		}
	}
	excess := c.used + grows - c.settings.MemoryLimit
	if grows == 0 || excess <= 0 {
		return nil
	}
	p.dice.Seed(seed, uint64(now))
	relief, evict := &Task{Cache: t.Cache}, MustLookup("LARDER.EVICT")
	chosen := map[*item]bool{}
	for excess > 0 && len(chosen) < evictionBatch {
		victim := c.victim(p, now, chosen)
		if victim == nil {
			break
		}
		chosen[victim] = true
		excess -= victim.size
		relief.Calls = append(relief.Calls, Call{Command: evict, Args: [][]byte{[]byte(evict.Name), {byte(victim.home.db)}, []byte(victim.key)}})
	}
	if len(relief.Calls) == 0 {
		return nil
	}
	return relief
}

// victim draws a few items and returns the one that the policy would miss least, nil when it finds none.
func (c *cache) victim(p *Partition, now int64, chosen map[*item]bool) *item {
	var worst *item
	var least float64
	consider := func(it *item) {
		if it == nil || chosen[it] || (c.settings.Eviction.volatile() && it.expireAt == 0) {
			return
		}
		if w := c.settings.Eviction.worth(it, now); worst == nil || w < least {
			worst, least = it, w
		}
	}
	for db := range c.dbs {
		k := c.dbs[db]
		if k == nil || k.table.count == 0 {
			continue
		}
		for range evictionSample {
			consider(k.table.pick(p.dice.Uint64()))
		}
		if worst == nil { // a bad draw in a small or mostly chosen keyspace: look at all of a bounded stretch
			looked := 0
			k.table.each(func(it *item) bool {
				consider(it)
				looked++
				return worst == nil && looked < 100*evictionSample
			})
		}
	}
	return worst
}

// worth ranks items: the lowest is evicted first.
func (p EvictionPolicy) worth(it *item, now int64) float64 {
	switch p {
	case AllKeysLRU, VolatileLRU:
		return float64(it.used)
	case AllKeysLFU, VolatileLFU:
		return float64(it.hits)
	case AllKeysRandom, VolatileRandom:
		return 0
	case VolatileTTL:
		return float64(it.expireAt)
	default: // hyperbolic: uses per time in the cache
		return float64(it.hits) / float64(now-it.born+1)
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
	k.remove(c.p, it)
	c.cache.counts.Evicted++
	c.out.Int(1)
	return nil
}
