// Package hitratio plays the requests of a trace to caches and tells which share of them hit: to the engine, with
// each of its eviction policies, and to the textbook policies that it is held against.
//
// A cache holds so many items, all of one size: a request is a GET, and a SET if that misses, as replication.Local
// carries them out. Start with Run.
package hitratio

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/eviction"
	"github.com/larder-cache/larder/internal/textbook"
	"github.com/larder-cache/larder/internal/traces"
)

// Direct is the engine's default policy without the engine, in a cache that knows nothing but keys: what the policy
// itself is worth, and how much memory it takes.
const Direct = "adaptive"

// Policies lists the names that Run knows: the engine's policies, its default alone, and those of the textbooks.
func Policies() []string {
	var all []string
	for _, name := range engine.EvictionPolicies() {
		if name != engine.NoEviction.String() && !strings.HasPrefix(name, "volatile-") {
			all = append(all, name)
		}
	}
	for _, name := range engine.EvictionPolicies() {
		if strings.HasPrefix(name, "volatile-") {
			all = append(all, name)
		}
	}
	all = append(all, Direct)
	return append(all, textbook.Names()...)
}

// A Result is what a policy made of a trace.
type Result struct {
	Ratio    float64 // hits by requests
	Metadata float64 // bytes of its own for each item, of Direct only; see textbook.MetadataBytes for the others
}

// Run plays a trace to a cache with room for capacity items under a policy.
func Run(t *traces.Trace, policy string, capacity int) (Result, error) {
	if capacity < 1 {
		return Result{}, fmt.Errorf("a cache for %d items", capacity)
	}
	if policy == Direct {
		c := newDirect(t.Distinct, capacity)
		ratio, err := textbook.Replay(t, c, capacity)
		return Result{ratio, float64(c.policy.Bytes()) / float64(capacity)}, err
	}
	if make := textbook.Makers[policy]; make != nil {
		ratio, err := textbook.Replay(t, make(t, capacity), capacity)
		return Result{Ratio: ratio}, err
	}
	if !slices.Contains(Policies(), policy) {
		return Result{}, fmt.Errorf("no policy %q; there are %s", policy, strings.Join(Policies(), ", "))
	}
	p, _ := engine.ParseEvictionPolicy(policy)
	ratio, err := replay(t, p, capacity)
	return Result{Ratio: ratio}, err
}

// A server is an engine with one cache, led as replication.Local leads one.
type server struct {
	p     *engine.Partition
	now   int64
	seed  uint64
	key   [8]byte
	set   engine.Task
	get   engine.Task
	reply engine.Recording
	hits  int64
	entry engine.Entry
}

var cacheID = engine.CacheID{1}

func newServer(settings engine.Settings, timed bool) *server {
	s := &server{p: engine.New(engine.Seed{1, 2}), now: 1_700_000_000_000}
	set := [][]byte{[]byte("SET"), s.key[:], []byte("v")}
	if timed { // far away, but the policies that evict only what has a deadline need one
		set = append(set, []byte("PX"), []byte("100000000000"))
	}
	s.set = engine.Task{Cache: cacheID, Calls: []engine.Call{{Command: engine.MustLookup("SET"), Args: set}}}
	s.get = engine.Task{Cache: cacheID, Calls: []engine.Call{{Command: engine.MustLookup("GET"), Args: [][]byte{[]byte("GET"), s.key[:]}}}}
	s.configure(settings)
	return s
}

func (s *server) configure(settings engine.Settings) {
	s.apply(engine.ConfigureTask(cacheID, settings))
}

func (s *server) apply(tasks ...*engine.Task) {
	s.seed++
	s.entry = engine.Entry{Now: s.now, Seed: s.seed, Tasks: tasks}
	s.p.Apply(&s.entry)
}

func (s *server) name(key uint32) {
	const digits = "0123456789abcdef"
	for i := range s.key {
		s.key[i] = digits[key>>(28-4*i)&15]
	}
}

// load asks for a key and reports whether it was there.
func (s *server) load(key uint32) bool {
	s.now++
	s.seed++
	s.name(key)
	s.reply.Reset()
	s.get.Reply = &s.reply
	s.p.Query(s.now, s.seed, &s.get)
	before := s.hits
	s.hits = s.stats().Hits
	return s.hits > before
}

// store sets a key.
func (s *server) store(key uint32) {
	s.name(key)
	s.seed++
	if relief := s.p.Relieve(s.now, s.seed, &s.set); relief != nil {
		s.apply(relief, &s.set)
	} else {
		s.apply(&s.set)
	}
	for s.p.Maintain(16) {
	}
}

// stats are the cache's.
func (s *server) stats() engine.Stats {
	stats, _ := s.p.Stats(cacheID)
	return stats
}

// limitFor finds the memory limit under which exactly so many items fit: what all but one of them take, and as much as
// the engine wants to see free before it stores one more, which it overestimates.
func limitFor(policy engine.EvictionPolicy, capacity int, timed bool) (int64, error) {
	s := newServer(engine.Settings{}, timed)
	defer s.p.Close()
	before := s.stats().Bytes
	s.store(0)
	item := s.stats().Bytes - before
	s.store(1)
	if again := s.stats().Bytes - before; item <= 0 || again != 2*item {
		return 0, fmt.Errorf("two items take %d bytes and one takes %d: no limit fits an exact number of items", again, item)
	}
	s.name(2)
	used := s.stats().Bytes
	for free := int64(64 << 10); free > 0; free-- {
		s.configure(engine.Settings{MemoryLimit: used + free - 1, Eviction: policy})
		if s.p.Relieve(s.now, 1, &s.set) != nil {
			return before + int64(capacity-1)*item + free, nil
		}
	}
	return 0, errors.New("the engine evicts nothing, however little is free")
}

// replay plays a trace to the engine.
func replay(t *traces.Trace, policy engine.EvictionPolicy, capacity int) (float64, error) {
	timed := strings.HasPrefix(policy.String(), "volatile-")
	limit, err := limitFor(policy, capacity, timed)
	if err != nil {
		return 0, err
	}
	s := newServer(engine.Settings{MemoryLimit: limit, Eviction: policy}, timed)
	defer s.p.Close()
	hits, most := 0, int64(0)
	for i, key := range t.Requests {
		if s.load(key) {
			hits++
			continue
		}
		s.store(key)
		if items := s.stats().Items; items > most {
			if most = items; most > int64(capacity) {
				return 0, fmt.Errorf("%s holds %d items of %d after request %d", policy, most, capacity, i)
			}
		} else if items < most-1 && most == int64(capacity) {
			return 0, fmt.Errorf("%s holds only %d items of %d after request %d", policy, items, capacity, i)
		}
	}
	if full := int64(min(capacity, t.Distinct)); most < full {
		return 0, fmt.Errorf("%s held %d items at most, there is room for %d", policy, most, full)
	}
	return float64(hits) / float64(len(t.Requests)), nil
}

// direct is a cache of keys that evicts as the engine's default does.
type direct struct {
	policy   eviction.Policy
	notes    []uint32
	at       []int32 // place in items plus one
	items    []uint32
	tags     map[uint32]uint32
	capacity int
	draws    uint64
}

func newDirect(keys, capacity int) *direct {
	return &direct{notes: make([]uint32, keys), at: make([]int32, keys), tags: map[uint32]uint32{}, capacity: capacity}
}

// hash spreads keys over 64 bits; it can be undone, so no two have one.
func hash(key uint64) uint64 {
	x := key + 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func tag(key uint32) uint32 { return uint32(hash(uint64(key)) >> 32) }

func (c *direct) Len() int { return len(c.items) }

func (c *direct) Sample(draw uint64) (uint64, uint32, bool) {
	key := c.items[draw%uint64(len(c.items))]
	return hash(uint64(key)), c.notes[key], true
}

func (c *direct) Find(tag uint32) (uint64, uint32, bool) {
	key, ok := c.tags[tag]
	return hash(uint64(key)), c.notes[key], ok
}

func (c *direct) SetNote(hash uint64, note uint32) {
	if key, ok := c.tags[uint32(hash>>32)]; ok {
		c.notes[key] = note
	}
}

func (c *direct) Request(key uint32) bool {
	if c.at[key] != 0 {
		c.notes[key] = c.policy.Hit(hash(uint64(key)), c.notes[key], 0)
		return true
	}
	if len(c.items) >= c.capacity/2 {
		c.policy.Arm(c.capacity)
	}
	if len(c.items) == c.capacity {
		c.evict()
	}
	c.items = append(c.items, key)
	c.at[key] = int32(len(c.items))
	c.tags[tag(key)] = key
	c.notes[key] = c.policy.Insert(hash(uint64(key)), 0)
	return false
}

func (c *direct) evict() {
	c.draws++
	h, ok := c.policy.Victim(c, hash(c.draws))
	if !ok {
		return // Replay will notice
	}
	victim := c.tags[uint32(h>>32)]
	delete(c.tags, uint32(h>>32))
	last := c.items[len(c.items)-1]
	c.items[c.at[victim]-1], c.at[last] = last, c.at[victim]
	c.at[victim] = 0
	c.items = c.items[:len(c.items)-1]
}
