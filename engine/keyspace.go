package engine

import (
	"container/list"
	"math"

	"github.com/larder-cache/larder/engine/ordered"
	"github.com/larder-cache/larder/internal/fault"
)

// Settings are what a cache's owner chose for it.
type Settings struct {
	MemoryLimit int64          // bytes, as accounted here; 0 for no limit
	Eviction    EvictionPolicy // what to do at the limit
	MaxValue    int64          // bytes in one value; 0 means DefaultMaxValue
	DefaultTTL  int64          // milliseconds given to a new KV value that names no TTL; 0 for none
}

// Bounds of what a cache holds.
const (
	MaxKey          = 32 << 10  // bytes in a key
	DefaultMaxValue = 32 << 20  // bytes in a value, unless the cache allows more
	HardMaxValue    = 512 << 20 // bytes in a value, at the very most
)

// A cache is what one partition holds of one cache: its databases, its settings and its account.
type cache struct {
	id       CacheID
	settings Settings
	dbs      [Databases]*keyspace // made when first used
	used     int64                // bytes: the items of all databases and the remembered idempotency keys
	counts   Stats                // what has happened so far; Items and Bytes are filled in by Stats

	once      map[[16]byte]*remembered // tasks with idempotency keys; see once.go
	asked     list.List                // the same, of *remembered, the oldest first
	remembers int64                    // bytes: what they take of used
}

// Stats are live numbers of a cache on one partition.
type Stats struct {
	Items   int64 // items, including those expired but not yet removed
	Bytes   int64 // bytes accounted to the cache
	Hits    int64 // reads that found their key
	Misses  int64
	Expired int64 // items removed because their time had come
	Evicted int64 // items removed because the cache was full
}

// Stats returns the live numbers of a cache, and false when the partition does not hold it.
func (p *Partition) Stats(id CacheID) (Stats, bool) {
	c := p.caches[id]
	if c == nil {
		return Stats{}, false
	}
	s := c.counts
	s.Bytes = c.used
	for _, k := range c.dbs {
		if k != nil {
			s.Items += int64(k.table.len())
		}
	}
	return s, true
}

// maxValue is the cache's bound on one value, in bytes.
func (c *cache) maxValue() int64 {
	if c.settings.MaxValue > 0 {
		return c.settings.MaxValue
	}
	return DefaultMaxValue
}

// admit refuses a command that needs memory when the cache has no room for it. Eviction, if the cache's
// policy has any, has already happened: see Relieve.
//
// A command whose result is not built from its arguments alone (SETRANGE far beyond the end, COPY, a union of
// sorted sets) may pass the limit by that one value; the next command that needs memory then waits for room.
func (c *cache) admit(db int, cmd *Command, args [][]byte) error {
	if c.settings.MemoryLimit > 0 && c.used+c.need(db, cmd, args) > c.settings.MemoryLimit {
		return fault.About(fault.OutOfMemory, "cache.admit", "memory_limit_bytes", "command not allowed when used memory > 'maxmemory'.")
	}
	return nil
}

// need bounds what storing the arguments of a command adds to the account: an item where there is none under
// its key, and for each argument the allocator's rounding and its share of an entry in a collection.
func (c *cache) need(db int, cmd *Command, args [][]byte) (n int64) {
	for _, a := range args {
		n += int64(len(a)) + int64(len(a))/4 + 64
	}
	if c.under(db, cmd, args) == nil {
		n += newItem
		if cmd.Group == GroupSortedSet || cmd.Group == GroupGeo || cmd.Group == GroupLeaderboard {
			n += sortedSetOverhead
		}
	}
	return n
}

// newItem is what a new item with the smallest value costs, but for sorted sets.
const newItem = 2 * itemOverhead

// under returns the item under a command's first key, or nil.
func (c *cache) under(db int, cmd *Command, args [][]byte) *item {
	if k := c.dbs[db]; k != nil {
		return k.find(cmd.FirstKey(args))
	}
	return nil
}

func (c *cache) keyspace(db int, seed Seed) *keyspace {
	k := c.dbs[db]
	if k == nil {
		k = &keyspace{owner: c, db: db, table: newTable(seed)}
		c.dbs[db] = k
	}
	return k
}

// flush empties every database of the cache and reports how many items that removed.
func (c *cache) flush(p *Partition) (removed int) {
	for _, k := range c.dbs {
		if k != nil {
			removed += k.flush(p)
		}
	}
	return removed
}

// A keyspace is one database of a cache.
//
//	K1: every item in the table has home == this keyspace
//	K2: an item is in the partition's deadlines exactly when its expireAt is not 0
//	K3: the owner's used is the sum of its items' sizes and of its remembered idempotency keys
//	K4: sessions holds an entry for each session that has a user, and no other; it is nil when there is none
type keyspace struct {
	owner    *cache
	db       int
	table    table
	sessions *ordered.Tree // see keyspace.entry
}

// An item is a key with its value.
type item struct {
	key      string
	hash     uint64
	next     *item // the next of the same bucket
	home     *keyspace
	value    value
	expireAt int64 // milliseconds since 1970, 0 for never
	due      int   // place in the partition's deadlines, -1 outside
	size     int64 // bytes as accounted last

	// Notes about use, for eviction; no part of the state.
	born int64
	used int64
	hits uint32
}

// A value is what an item holds. Every type of value is one of these.
type value interface {
	// kind is the type's name as the TYPE command gives it.
	kind() string
	// bytes is what the value costs in memory beyond its item, in O(1).
	bytes() int64
	// empty reports whether nothing is left in a collection, so that its key has to go.
	empty() bool
	// encode appends everything that replicas must agree on, in one canonical form.
	encode(dst []byte) []byte
}

// Types lists the names of all types of value, as the TYPE command gives them.
func Types() []string { return []string{"string", "hash", "list", "set", "zset", "stream", "session"} }

// itemOverhead is what an item costs beside its key and value: the struct, its place in the table and the
// allocator's rounding, in bytes.
const itemOverhead = 136

func (it *item) expiredAt(now int64) bool { return it.expireAt != 0 && it.expireAt <= now }

func (it *item) touch(now int64) {
	it.used = now
	if it.hits < math.MaxUint32 {
		it.hits++
	}
}

func (k *keyspace) find(key []byte) *item { return k.table.find(key) }

func (k *keyspace) insert(it *item) { k.table.insert(it) }

// An indexed value is one that its keyspace can also find by something else than its key.
type indexed interface {
	index(k *keyspace, key string)
	unindex(k *keyspace, key string)
}

func (k *keyspace) index(it *item) {
	if v, ok := it.value.(indexed); ok {
		v.index(k, it.key)
	}
}

func (k *keyspace) unindex(it *item) {
	if v, ok := it.value.(indexed); ok {
		v.unindex(k, it.key)
	}
}

// account brings the books up to date after it changed.
func (k *keyspace) account(it *item) {
	size := itemOverhead + int64(len(it.key)) + it.value.bytes()
	k.owner.used += size - it.size
	it.size = size
}

// remove takes an item out of everything that knows it.
func (k *keyspace) remove(p *Partition, it *item) {
	k.unindex(it)
	k.table.remove(it)
	p.due.set(it, 0)
	k.owner.used -= it.size
	it.size = 0
}

// expired removes an item whose time has come.
func (k *keyspace) expired(p *Partition, it *item) {
	k.remove(p, it)
	k.owner.counts.Expired++
}

// flush empties the keyspace and reports how many items it held.
func (k *keyspace) flush(p *Partition) int {
	n := k.table.len()
	k.table.each(func(it *item) bool {
		k.unindex(it)
		if it.expireAt != 0 {
			p.due.set(it, 0)
		}
		k.owner.used -= it.size
		return true
	})
	k.table = newTable(p.seed)
	return n
}

// Add sums live numbers of several partitions.
func (s *Stats) Add(t Stats) {
	s.Items += t.Items
	s.Bytes += t.Bytes
	s.Hits += t.Hits
	s.Misses += t.Misses
	s.Expired += t.Expired
	s.Evicted += t.Evicted
}
