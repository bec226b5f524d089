package engine

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"slices"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/eviction"
	"github.com/larder-cache/larder/engine/ranked"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
)

// Settings are what a cache's owner chose for it.
type Settings struct {
	MemoryLimit int64          // bytes, as accounted here; 0 for no limit
	Eviction    EvictionPolicy // what to do at the limit
	MaxValue    int64          // bytes in one value; 0 means DefaultMaxValue
	DefaultTTL  int64          // milliseconds given to a new KV value that names no TTL; 0 for none
	Notify      EventClass     // which keyspace notifications are sent
	Split       bool           // the cache has several slot ranges: nothing that is done as one piece may reach beyond a slot
	Holdings    string         // a tenure, as tenure.Append writes it: which slots a partition holds that has not heard of the cache; "" for all
}

// splitBit stands beside the events' classes where settings are written as numbers, so that those who know of no split
// caches read what they always did.
const splitBit = 1 << 32

// notes are Notify and Split as one number.
func (s *Settings) notes() int64 {
	n := int64(s.Notify)
	if s.Split {
		n |= splitBit
	}
	return n
}

// note reads what notes wrote.
func (s *Settings) note(n int64) { s.Notify, s.Split = EventClass(n), n&splitBit != 0 }

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
	group    dense.Group          // of all tables
	cut      *Cut                 // that is running, nil for none
	tenure   *tenure.Tenure       // which slots are held; nil for all of them: see holdings.go
	export   *Export              // that is running here, where the partition is led; nil for none
	feeds    *feeds               // of those who follow it; nil for none
	observed bool                 // see Partition.Observe; and while it is followed
	used     int64                // bytes: the items of all databases and the remembered idempotency keys
	counts   Stats                // what has happened so far; Items and Bytes are filled in by Stats

	unfinished map[uint64]place // by their numbers: see unfinishedValue; nil for none

	once      map[[16]byte]*remembered // tasks with idempotency keys; see once.go
	asked     list.List                // the same, of *remembered, the oldest first
	remembers int64                    // bytes: what they take of used

	scripts   *scripts                          // nil for none
	libraries *libraries                        // nil for none
	shown     *simplelru.LRU[scriptSHA, string] // see show
}

// Stats are live numbers of a cache on one partition.
type Stats struct {
	Items   int64 // items, including those expired but not yet removed
	Bytes   int64 // bytes accounted to the cache
	Hits    int64 // reads that found their key
	Misses  int64
	Expired int64 // items removed because their time had come
	Evicted int64 // items removed because the cache was full

	ExpiredFields int64 // of hashes, removed because their time had come
	Calls         int64 // commands that were carried out here, as the leader or for it

	Scripts        int64 // that the cache knows by their SHA1
	EvictedScripts int64 // forgotten because others came

	Databases [Databases]DatabaseStats
}

// DatabaseStats are the live numbers of one database.
type DatabaseStats struct {
	Items int64
	Timed int64 // items that have a deadline
	Inner int64 // hashes of which a field has one
	TTL   int64 // how long these still live on average, in milliseconds, estimated from a few
}

// ttlSample is how many items are looked at to estimate how long those live that have a deadline.
const ttlSample = 256

// stats counts a database.
func (k *keyspace) stats() (s DatabaseStats) {
	s.Items, s.Timed, s.Inner = int64(k.size()), int64(k.table.Timed()), int64(k.waiting)
	if s.Timed == 0 {
		return s
	}
	looked, timed, sum := 0, int64(0), int64(0)
	k.table.Each(0, func(_ uint64, r dense.Ref) bool {
		if at := k.p.store.ExpireAt(r); at != 0 {
			timed++
			sum += max(at-k.p.now, 0)
		}
		looked++
		return looked < ttlSample
	})
	if timed > 0 {
		s.TTL = sum / timed
	}
	return s
}

// Stats returns the live numbers of a cache, and false when the partition does not hold it.
func (p *Partition) Stats(id CacheID) (Stats, bool) {
	c := p.caches[id]
	if c == nil {
		return Stats{}, false
	}
	s := c.counts
	s.Bytes = c.used
	if c.scripts != nil {
		s.Scripts = int64(len(c.scripts.bySHA))
	}
	for _, k := range c.dbs {
		if k != nil {
			s.Databases[k.db] = k.stats()
			s.Items += s.Databases[k.db].Items
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

// need bounds what storing the arguments of a command adds to the account: a record where there is none under its key, for
// each argument its lengths and its share of an entry in a collection, what a collection costs itself that a long
// argument keeps from being packed, and what a sketch that is not there yet takes. That a collection grows out of its packed form because it has many elements is not
// foreseen: once in its life it may pass the limit by a few KiB, for which the next command makes room.
func (c *cache) need(db int, cmd *Command, args [][]byte) (n int64) {
	long := false
	for _, a := range args {
		n += int64(len(a)) + int64(len(a))/8 + 16
		long = long || len(a) > packedElement
	}
	if cmd.Group == GroupJSON {
		n += n + n/4 // 0.5 and its comma take nine bytes
	}
	if !c.has(db, cmd, args) {
		n += newItem
		if cmd.room != nil && cmd.CheckArity(len(args)) == nil {
			n += cmd.room(c, args)
		}
	}
	if long {
		switch cmd.Group {
		case GroupSortedSet, GroupGeo, GroupLeaderboard:
			n += sortedSetOverhead
		case GroupHash, GroupSet, GroupList:
			n += looseOverhead
		}
	}
	return n
}

// packedElement is the most bytes that an element of any packed collection has, looseOverhead the most that a hash, a set or
// a list costs itself that is not packed.
const (
	packedElement = 64
	looseOverhead = 640
)

// newItem is what a new item costs beside its key and value, at most.
const newItem = 48

// has reports whether something is under a command's first key.
func (c *cache) has(db int, cmd *Command, args [][]byte) bool {
	k, key := c.dbs[db], cmd.FirstKey(args)
	return k != nil && key != nil && k.table.Find(k.p.store.Hash(key), key) != 0
}

func (c *cache) keyspace(p *Partition, db int) *keyspace {
	k := c.dbs[db]
	if k == nil {
		k = &keyspace{p: p, owner: c, db: db}
		k.table = p.store.NewTable(true, k, &k.owner.group)
		c.dbs[db] = k
	}
	return k
}

// flush empties every database of the cache and reports how many items that removed.
func (c *cache) flush() (removed int) {
	for _, k := range c.dbs {
		if k != nil {
			removed += k.flush()
		}
	}
	return removed
}

// A keyspace is one database of a cache.
//
//	K1: every key has one record in table; a record of kindObject names an object that no other record names
//	K2: calendar, nil until a key has a deadline, keeps C1: see dense.Calendar
//	K3: cost is what the records and objects take, and the owner's used the sum of its keyspaces' costs, of its
//	    remembered idempotency keys, and of its scripts and libraries
//	K4: sessions holds an entry for each session that has a user, and no other; it is nil when there is none
//	K5: waiting counts the hashes with a field that has a deadline; each has an entry in calendar for the earliest, as C1 says
type keyspace struct {
	p        *Partition
	owner    *cache
	db       int
	table    *dense.Table
	calendar *dense.Calendar
	policy   eviction.Policy // what its items' notes mean, whatever the cache's eviction policy is
	cost     int64           // bytes, as accounted last
	objects  int64           // bytes of the objects
	waiting  int             // see awaits
	sessions *ranked.Tree    // see keyspace.entry
	flushAt  int64           // when all of it goes, in milliseconds since 1970; 0 for never: see flushLater
	hidden   int             // items of slots that are not held; about, while they are purged
}

// What a key costs beside its record, in bytes: its share of the index, and of the calendar if it has a deadline. Both
// are measured by dense's benchmarks.
const (
	indexShare    = 10
	calendarShare = 3
)

// find returns the item under key, or nil.
func (k *keyspace) find(key []byte) *item {
	p := k.p
	hash := p.hash(key)
	if m := &p.looked; m.it != nil && m.hash == hash && m.it.home == k && m.it.ref != 0 && bytes.Equal(m.it.key, key) {
		return m.it
	}
	if x := k.owner.export; x != nil {
		x.note(k, hash, key)
	}
	ref := k.table.Find(hash, key)
	if ref == 0 {
		return nil
	}
	it := k.view(hash, ref)
	p.looked.it = it
	if cut := k.owner.cut; cut != nil && p.running.writing {
		cut.touches(it)
	}
	return it
}

// A look is what a command knows of its first argument, which is the key of most: its hash, and the item that was
// looked up last, which is mostly the one under it. A second look costs next to nothing.
type look struct {
	hashed bool
	hash   uint64
	it     *item
}

// hash is a key's hash.
func (p *Partition) hash(key []byte) uint64 {
	args := p.running.args
	if len(args) < 2 || len(key) == 0 || len(args[1]) != len(key) || &args[1][0] != &key[0] {
		return p.store.Hash(key)
	}
	if m := &p.looked; !m.hashed {
		m.hashed, m.hash = true, p.store.Hash(key)
	}
	return p.looked.hash
}

// An indexed value is one that its keyspace can also find by something else than its key.
type indexed interface {
	index(it *item)
	unindex(it *item)
}

func (k *keyspace) index(it *item) {
	switch v := it.value.(type) {
	case indexed:
		v.index(it)
	case *hashValue:
		v.told = 0
		k.awaits(it)
	}
}

func (k *keyspace) unindex(it *item) {
	switch v := it.value.(type) {
	case indexed:
		v.unindex(it)
	case *hashValue:
		if v.told != 0 {
			k.waiting--
		}
		v.told = 0
	}
}

// awaits sees to it that a hash comes up when the first of its fields expires, after it was told another time or none.
func (k *keyspace) awaits(it *item) {
	h, ok := it.value.(*hashValue)
	if !ok {
		return
	}
	before, at := h.told, h.wakes()
	if h.told = at; before != 0 {
		k.waiting--
	}
	if at == 0 {
		return
	}
	k.waiting++
	k.scheduled(it.hash, before, at)
	k.p.due = min(k.p.due, at) // a Sweep may have the entry: see relist
}

// timed is the number of records that have an entry in the calendar, if each had but one.
func (k *keyspace) timed() int { return k.table.Timed() + k.waiting }

// wakes is when there is something to do about a record: its deadline or the earliest of its fields', 0 for never.
func (k *keyspace) wakes(r dense.Ref) int64 {
	at, inner := k.p.store.ExpireAt(r), int64(0)
	switch k.p.store.Kind(r) {
	case kindHash:
		inner = packedHash(k.p.store.Value(r)).wakes()
	case kindObject:
		if h, ok := k.p.objects[binary.LittleEndian.Uint32(k.p.store.Value(r))].value.(*hashValue); ok {
			inner = h.wakes()
		}
	}
	if at == 0 || (inner != 0 && inner < at) {
		return inner
	}
	return at
}

// hold makes it the view of a record under key with a value of so many bytes, which the caller writes: it is the view of
// what was there, nil for nothing. room is how many bytes a long value gets at least. The item's value is not loaded.
func (k *keyspace) hold(it *item, key []byte, kind dense.Kind, value, room int, expireAt int64) (*item, []byte) {
	p := k.p
	if it == nil {
		hash := p.hash(key)
		it = p.freshView()
		*it = item{home: k, hash: hash, ref: k.table.Insert(hash, kind, key, value, room, expireAt)}
		if o := k.owner; o.settings.MemoryLimit > 0 && o.used > o.settings.MemoryLimit/2 {
			k.policy.Arm(int(float64(k.table.Len()) * float64(o.settings.MemoryLimit) / float64(o.used)))
		}
		p.store.SetNote(it.ref, k.policy.Insert(hash, p.running.now))
		if k.owner.settings.Notify&EventNew != 0 {
			k.owner.notify(p, k.db, "new", key)
		}
		k.scheduled(hash, 0, expireAt)
		if k.owner.tenure != nil {
			k.entered(key)
		}
	} else {
		k.vacate(it)
		before := it.expireAt
		it.ref = k.table.Rewrite(it.hash, it.ref, kind, value, room, expireAt, false)
		k.scheduled(it.hash, before, expireAt)
	}
	k.touched(key)
	return it, p.store.Value(it.ref)
}

// vacate forgets the object that it names, if its value is one.
func (k *keyspace) vacate(it *item) {
	if it.kind == kindObject {
		k.table.Touch(it.hash, it.key, it.ref)
		at := it.object()
		k.objects -= k.p.objects[at].size
		k.p.dropObject(at)
	}
}

// object is the place of the item's object.
func (it *item) object() uint32 {
	return binary.LittleEndian.Uint32(it.home.p.store.Value(it.ref))
}

// scheduled tells the calendar that a key's deadline was one and is another; 0 is none.
func (k *keyspace) scheduled(hash uint64, before, at int64) {
	if at == 0 || (before != 0 && at >= before) {
		return
	}
	if k.calendar == nil {
		k.calendar = k.p.store.NewCalendar(k.p.now)
		k.p.timed = append(k.p.timed, k)
	} else if before != 0 && k.calendar.Same(before, at) {
		return
	}
	k.calendar.Add(dense.Position(hash), at)
	k.p.due = min(k.p.due, k.calendar.Begins())
}

// put stores v in it, the view of what is under key, nil for nothing.
func (k *keyspace) put(it *item, key []byte, v value, expireAt int64) *item {
	switch v := v.(type) {
	case *stringValue:
		return k.putString(it, key, *v, expireAt)
	case packedValue:
		p := k.p
		b, kind := v.pack(p.scratch[:0])
		p.scratch = keep(b)
		if kind != kindObject {
			held, dst := k.hold(it, key, kind, len(b), 0, expireAt)
			copy(dst, b)
			return k.loaded(held)
		}
	}
	o := v.(largeValue)
	held, b := k.hold(it, key, kindObject, 4, 0, expireAt)
	if d, ok := o.(divided); ok {
		for _, t := range d.parts() {
			t.Join(&k.owner.group)
		}
	}
	at := k.p.addObject(o)
	binary.LittleEndian.PutUint32(b, at)
	k.resized(at)
	return k.loaded(held)
}

// repack stores a packed value that was changed.
func (k *keyspace) repack(it *item, v packedValue) {
	p := k.p
	b, kind := v.pack(p.scratch[:0])
	p.scratch = keep(b)
	if kind == kindObject {
		k.unindex(it)
		k.put(it, it.key, v.(largeValue), it.expireAt)
		return
	}
	k.unindex(it)
	_, dst := k.hold(it, it.key, kind, len(b), 0, it.expireAt)
	copy(dst, b)
	k.loaded(it)
}

// keep returns a scratch buffer for the next use, unless it has grown too large to keep.
func keep(b []byte) []byte {
	if cap(b) > 1<<20 {
		return nil
	}
	return b[:0]
}

// loaded brings the view, the indexes and the account up to date after a record was written.
func (k *keyspace) loaded(it *item) *item {
	it.load()
	k.index(it)
	k.account()
	return it
}

// resized accounts an object anew.
func (k *keyspace) resized(at uint32) {
	o := &k.p.objects[at]
	size := o.value.bytes()
	k.objects += size - o.size
	o.size = size
}

// indexes is what the keyspace costs beside its records and objects.
func (k *keyspace) indexes() int64 {
	return indexShare*int64(k.table.Len()) + calendarShare*int64(k.timed())
}

// account brings the books up to date.
func (k *keyspace) account() {
	cost := k.table.Bytes() + k.indexes() + k.objects
	k.owner.used += cost - k.cost
	k.cost = cost
}

// setDeadline gives an item a deadline, 0 for none.
func (k *keyspace) setDeadline(it *item, at int64) {
	before := it.expireAt
	v, found := it.value.(indexed)
	if found {
		v.unindex(it) // by its ref, which may change
	}
	it.ref = k.table.SetExpire(it.hash, it.ref, at)
	k.scheduled(it.hash, before, at)
	it.load()
	if found {
		v.index(it)
	}
	k.account()
	k.touched(it.key)
}

// take removes an item and keeps its value, to be put under another key before the task ends.
func (k *keyspace) take(it *item) value {
	v := it.value
	if it.kind == kindObject {
		k.table.Touch(it.hash, it.key, it.ref)
		at := it.object()
		k.objects -= k.p.objects[at].size
		k.p.takeObject(at)
		it.kind = kindTaken
	}
	k.remove(it)
	return v
}

// remove takes an item out of everything that knows it. The view's key and value stay as they are until the task ends.
func (k *keyspace) remove(it *item) {
	k.unindex(it)
	k.vacate(it)
	k.policy.Removed(k.p.store.Note(it.ref))
	k.table.Remove(it.hash, it.ref)
	it.ref = 0
	if k.owner.tenure != nil {
		k.left(it.key)
	}
	k.account()
	k.touched(it.key)
}

// Contents are all that a keyspace holds.
type contents struct {
	k        *keyspace
	table    *dense.Table
	calendar *dense.Calendar
	policy   eviction.Policy
	objects  int64
	waiting  int
	sessions *ranked.Tree
	hidden   int
}

// flush empties the keyspace and reports how many items it held. What they took is given back by Maintain. In a task that
// may be undone they are kept until that is over. O(1).
func (k *keyspace) flush() int {
	was := &contents{k, k.table, k.calendar, k.policy, k.objects, k.waiting, k.sessions, k.hidden}
	k.owner.emptied()
	n := k.table.Len()
	k.flushLater(0)
	k.replace(&contents{k: k, table: k.p.store.NewTable(true, k, &k.owner.group)})
	if k.owner.observed && k.p.observer != nil {
		k.p.observer.Flushed(k.owner.id, k.db)
	}
	if all := k.owner.feeds; all != nil {
		all.flushed(k)
	}
	j := k.p.journal
	if j == nil {
		was.drop()
		return n
	}
	j.emptied = append(j.emptied, was)
	j.add(func() {
		j := k.p.journal // that of the task, where a script began this one
		j.emptied[slices.Index(j.emptied, was)] = &contents{k, k.table, k.calendar, eviction.Policy{}, 0, 0, k.sessions, 0}
		k.replace(was)
	})
	return n
}

// replace gives the keyspace other contents.
func (k *keyspace) replace(with *contents) {
	p := k.p
	if (k.calendar == nil) != (with.calendar == nil) {
		if with.calendar != nil {
			p.timed = append(p.timed, k)
			p.due = min(p.due, with.calendar.Begins())
		} else {
			p.timed = slices.DeleteFunc(p.timed, func(other *keyspace) bool { return other == k })
		}
	}
	k.table, k.calendar, k.policy, k.objects, k.waiting, k.sessions, k.hidden = with.table, with.calendar, with.policy, with.objects, with.waiting, with.sessions, with.hidden
	k.account()
}

// drop gives back what a keyspace held.
func (c *contents) drop() {
	p := c.k.p
	c.table.Drop()
	if c.calendar != nil {
		p.graves = append(p.graves, c.calendar)
	}
	if c.sessions != nil {
		p.graves = append(p.graves, felled{c.sessions})
	}
}

// Add sums live numbers of several partitions.
func (s *Stats) Add(t Stats) {
	s.Items += t.Items
	s.Bytes += t.Bytes
	s.Hits += t.Hits
	s.Misses += t.Misses
	s.Expired += t.Expired
	s.ExpiredFields += t.ExpiredFields
	s.Evicted += t.Evicted
	s.Calls += t.Calls
	s.Scripts += t.Scripts
	s.EvictedScripts += t.EvictedScripts
	for i := range s.Databases {
		a, b := &s.Databases[i], &t.Databases[i]
		if timed := a.Timed + b.Timed; timed > 0 {
			a.TTL = int64((float64(a.TTL)*float64(a.Timed) + float64(b.TTL)*float64(b.Timed)) / float64(timed))
		}
		a.Items += b.Items
		a.Timed += b.Timed
		a.Inner += b.Inner
	}
}
