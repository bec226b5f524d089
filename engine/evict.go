package engine

import (
	"fmt"
	"math"
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
	c := p.caches[t.Cache]
	if c == nil || c.settings.MemoryLimit == 0 || c.settings.Eviction == NoEviction || t.DB < 0 || t.DB >= Databases {
		return nil
	}
	var grows int64
	var spared []*item // what the task writes to, which goes last
	chosen := map[*item]bool{}
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
		if it := c.under(t.DB, call.Command, call.Args); it != nil && !chosen[it] {
			chosen[it], spared = true, append(spared, it)
		}
	}
	excess := c.used + grows - c.settings.MemoryLimit
	if grows == 0 || excess <= 0 {
		return nil
	}
	p.dice.Seed(seed, uint64(now))
	relief, evict := &Task{Cache: t.Cache}, MustLookup("LARDER.EVICT")
	for excess > 0 && len(relief.Calls) < evictionBatch {
		victim := c.victim(p, now, chosen)
		if victim == nil && spared == nil {
			break
		}
		if victim == nil {
			for _, it := range spared { // each will be made anew
				delete(chosen, it)
				excess += newItem + sortedSetOverhead
			}
			spared = nil
			continue
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
func (c *cache) victim(p *Partition, now int64, chosen map[*item]bool) (least *item) {
	drawn := c.draw(p, chosen)
	var uses, ages float64
	for _, it := range drawn {
		uses += float64(it.hits)
		ages += it.age(now)
	}
	interval := ages / (uses + 1)
	var lowest float64
	for _, it := range drawn {
		if w := c.settings.Eviction.worth(it, now, interval); least == nil || w < lowest {
			least, lowest = it, w
		}
	}
	return least
}

// draw returns some of the items that may be evicted: a few at random from each database, or, if chance finds
// none, the first on a walk of bounded length.
func (c *cache) draw(p *Partition, chosen map[*item]bool) (drawn []*item) {
	volatile := c.settings.Eviction.volatile()
	consider := func(it *item) {
		if it != nil && !chosen[it] && (!volatile || it.expireAt != 0) {
			drawn = append(drawn, it)
		}
	}
	if volatile { // they may be few among many, but the deadlines know them all
		for range min(len(p.due), 10*evictionSample) {
			if it := p.due[p.dice.Uint64()%uint64(len(p.due))]; it.home.owner == c {
				consider(it)
			}
		}
	}
	for _, k := range c.dbs {
		if k == nil || k.table.count == 0 {
			continue
		}
		if !volatile {
			for range evictionSample {
				consider(k.table.pick(p.dice.Uint64()))
			}
		}
		if len(drawn) == 0 {
			looked := 0
			k.table.each(func(it *item) bool {
				consider(it)
				looked++
				return len(drawn) == 0 && looked < 100*evictionSample
			})
		}
	}
	return drawn
}

// age is how many milliseconds an item has been in the cache, idle how many it has not been used; at least 1.
func (it *item) age(now int64) float64  { return float64(max(now-it.born, 0) + 1) }
func (it *item) idle(now int64) float64 { return float64(max(now-it.used, 0) + 1) }

// Constants of worth.
const (
	newFrequency = 5      // uses that LFU gives a new item on credit, as Redis does
	decayTime    = 60_000 // milliseconds without use in which LFU forgets half of the uses

	// The adaptive policy's: on small traces of scans, shifts, loops and Zipf's law, more credit loses to scans
	// and more patience to shifts, while less of either gains next to nothing.
	newCredit = 0.25 // uses that a new item gets on credit
	patience  = 4    // an item idle for n milliseconds is used no more than so many times in n
)

// worth ranks items: the lowest is evicted first. interval is about how many milliseconds pass between two
// uses of an item of this cache, as the items drawn with it tell.
func (p EvictionPolicy) worth(it *item, now int64, interval float64) float64 {
	if it.expiredAt(now) {
		return math.Inf(-1)
	}
	switch p {
	case AllKeysLRU, VolatileLRU:
		return float64(it.used)
	case AllKeysLFU, VolatileLFU:
		return (newFrequency + float64(it.hits)) * math.Exp2(-it.idle(now)/decayTime)
	case AllKeysRandom, VolatileRandom:
		return 0
	case VolatileTTL:
		return float64(it.expireAt)
	default:
		// The rate of use that we expect: a new item starts with a fraction of the average, so those of a scan
		// fall behind what is in use; and no rate of the past outlives a long silence.
		return min((float64(it.hits)+newCredit)/(it.age(now)+interval), patience/it.idle(now))
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
