package dense

import (
	"math/bits"
	"slices"
)

// A Calendar says where records with deadlines may be found when their time comes. It holds the first 24 bits of
// their hashes, in buckets by time, and nothing else: whoever takes an entry out looks what is there, in the table,
// and decides. So an entry may be stale, because its record was removed or given another deadline, and costs only that look.
//
// What the owner has to see to is this:
//
//	C1: a record with a deadline has an entry in a bucket that begins no later than the deadline
//
// Hence a record that gets a deadline, or an earlier one, is added; one whose deadline moves on is not: its entry comes up
// early and is added again, by Next's caller. Buckets are those of a radix heap: a millisecond each for times near
// the calendar's own, 128 times as long for each digit that a time is farther away.
//
//	C2: buckets are disjoint and ascend; none but draining is empty
//	C3: entries is the number of entries in all buckets and in draining
type Calendar struct {
	store    *Store
	now      int64 // milliseconds since 1970: where the buckets are counted from
	buckets  []bucket
	draining bucket
	seen     []byte // a bit for each possible entry while a bucket of many is drained, else nil
	entries  int
}

// A bucket is a list of chunks of entries for times from start on, in milliseconds since 1970.
type bucket struct {
	start int64
	head  uint32 // the chunk that is filled, 0 for none
	fill  uint8  // entries in the head; the others are full
	level uint8
	n     int32
}

const (
	digitBits = 7
	entryBits = 24
	entryDrop = tagBits - entryBits // bits of a position that an entry does not hold
)

// A chunk holds entries of a calendar.
type chunk struct {
	next uint32
	tags [20][3]byte
}

// NewCalendar makes an empty calendar of records of s, whose finest buckets are those of times near now.
func (s *Store) NewCalendar(now int64) *Calendar { return &Calendar{store: s, now: now} }

// Len is the number of entries.
func (c *Calendar) Len() int { return c.entries }

func (c *Calendar) bucketOf(at int64) (start int64, level uint8) {
	if d := uint64(at ^ c.now); d != 0 {
		level = uint8((bits.Len64(d) - 1) / digitBits)
	}
	return at >> (level * digitBits) << (level * digitBits), level
}

// Add notes that a record at that position has a deadline, in milliseconds since 1970. O(log buckets), of which there
// are a few hundred at most.
func (c *Calendar) Add(position uint64, at int64) {
	start, level := c.bucketOf(max(at, c.now))
	i, found := slices.BinarySearchFunc(c.buckets, start, func(b bucket, start int64) int {
		switch {
		case b.start < start:
			return -1
		case b.start > start:
			return 1
		}
		return 0
	})
	if !found {
		c.buckets = slices.Insert(c.buckets, i, bucket{start: start, level: level})
	}
	c.put(&c.buckets[i], uint32(position>>entryDrop))
}

// Same reports whether two deadlines belong into one bucket, so that a record need not be added when it gets the one
// in the place of the other.
func (c *Calendar) Same(a, b int64) bool {
	startA, levelA := c.bucketOf(max(a, c.now))
	startB, levelB := c.bucketOf(max(b, c.now))
	return startA == startB && levelA == levelB
}

func (c *Calendar) put(b *bucket, entry uint32) {
	var k *chunk
	if b.head != 0 {
		k = c.store.entries.Get(b.head)
	}
	if k == nil || int(b.fill) == len(k.tags) {
		id, fresh := c.store.entries.Alloc()
		fresh.next, b.head, b.fill, k = b.head, id, 0, fresh
	}
	k.tags[b.fill] = [3]byte{byte(entry), byte(entry >> 8), byte(entry >> 16)}
	b.fill++
	b.n++
	c.entries++
}

func (c *Calendar) pull(b *bucket) (entry uint32) {
	k := c.store.entries.Get(b.head)
	b.fill--
	tag := k.tags[b.fill]
	if b.fill == 0 {
		next := k.next
		c.store.entries.Free(b.head)
		b.head, b.fill = next, uint8(len(k.tags))
		if next == 0 {
			b.fill = 0
		}
	}
	b.n--
	c.entries--
	return uint32(tag[0]) | uint32(tag[1])<<8 | uint32(tag[2])<<16
}

// repeats is how many entries there may be for each record with a deadline, and a few, before repetitions are looked
// for: a key that is deleted and set again, over and over, leaves one each time.
const (
	repeats    = 2
	repeatsMin = 4096
)

// crowd is from how many entries on a bucket is cleared of repetitions when its time comes. A look adds all records under
// its entry again, also those that have entries in other buckets: without that, a record's entries would double with each
// look at a neighbour, as soon as records share entries more than now and then.
const crowd = 1024

// Due reports whether Next has something to look at, where timed is the number of records with deadlines. O(1).
func (c *Calendar) Due(now int64, timed int) bool {
	return c.draining.head != 0 || c.ripe(now) || c.crowded(timed)
}

// Begins is when the first bucket begins, in milliseconds since 1970: nothing comes up before.
func (c *Calendar) Begins() int64 {
	if len(c.buckets) == 0 {
		return 1<<63 - 1
	}
	return c.buckets[0].start
}

// ripe reports whether the first bucket's time has come.
func (c *Calendar) ripe(now int64) bool { return len(c.buckets) > 0 && c.buckets[0].start <= now }

func (c *Calendar) crowded(timed int) bool { return c.entries > repeats*timed+repeatsMin }

// Next takes an entry out: every record whose position begins with prefix is to be looked at, and if it has a
// deadline that has not come, to be added again. ok is false when there is nothing to do. O(1), but now and then the
// number of buckets.
func (c *Calendar) Next(now int64, timed int) (prefix uint64, ok bool) {
	for {
		for c.draining.head != 0 {
			entry := c.pull(&c.draining)
			if c.first(entry) {
				return uint64(entry), true
			}
		}
		switch {
		case c.ripe(now):
			c.now = max(c.now, c.buckets[0].start)
			c.detach(0)
			if c.draining.n >= crowd {
				c.seen = c.store.pages.Alloc(1 << (entryBits - 3))
			}
		case c.crowded(timed):
			most := 0
			for i := range c.buckets {
				if c.buckets[i].n > c.buckets[most].n {
					most = i
				}
			}
			c.detach(most)
			c.seen = c.store.pages.Alloc(1 << (entryBits - 3))
		default:
			if len(c.buckets) == 0 {
				c.now = max(c.now, now)
			}
			return 0, false
		}
	}
}

// first reports whether an entry that was pulled from draining is no repetition, and forgets what was seen with the last.
func (c *Calendar) first(entry uint32) bool {
	if c.seen == nil {
		return true
	}
	bit := byte(1) << (entry % 8)
	fresh := c.seen[entry/8]&bit == 0
	c.seen[entry/8] |= bit
	if c.draining.head == 0 {
		c.store.pages.Free(c.seen)
		c.seen = nil
	}
	return fresh
}

func (c *Calendar) detach(i int) {
	c.draining = c.buckets[i]
	c.buckets = slices.Delete(c.buckets, i, i+1)
}

// Under visits the records whose positions begin with prefix, which Next returned.
func (t *Table) Under(prefix uint64, visit func(position uint64, r Ref)) {
	t.Each(prefix<<entryDrop, func(position uint64, r Ref) bool {
		if position>>entryDrop != prefix {
			return false
		}
		visit(position, r)
		return true
	})
}

// Drop gives up all entries, at most so many chunks of them, and reports whether there are more.
func (c *Calendar) Drop(chunks int) (more bool) {
	if c.seen != nil {
		c.store.pages.Free(c.seen)
		c.seen = nil
	}
	if c.draining.head != 0 {
		c.buckets = append(c.buckets, c.draining)
		c.draining = bucket{}
	}
	for ; chunks > 0 && len(c.buckets) > 0; chunks-- {
		last := &c.buckets[len(c.buckets)-1]
		if last.head == 0 {
			c.buckets = c.buckets[:len(c.buckets)-1]
			continue
		}
		next := c.store.entries.Get(last.head).next
		c.store.entries.Free(last.head)
		last.head = next
	}
	c.entries = 0
	return len(c.buckets) > 0
}

// Sample returns an entry by chance, each about equally likely, or with soon one of the first to come up. It may be
// stale. ok is false when there is none.
func (c *Calendar) Sample(draw uint64, soon bool) (prefix uint64, ok bool) {
	b := &c.draining
	if b.head == 0 || !soon {
		n := c.entries - int(c.draining.n)
		if n == 0 && c.draining.head == 0 {
			return 0, false
		}
		at := 0
		if !soon {
			at = int(draw % uint64(c.entries))
		}
		if at -= int(c.draining.n); at >= 0 || soon {
			for i := range c.buckets {
				b = &c.buckets[i]
				if at -= int(b.n); at < 0 {
					break
				}
			}
		}
	}
	draw = draw>>32 | draw<<32
	id, fill := b.head, int(b.fill)
	for steps := draw % 64; steps > 0; steps-- { // some chunks down the list
		next := c.store.entries.Get(id).next
		if next == 0 {
			break
		}
		id, fill = next, len(chunk{}.tags)
	}
	tag := c.store.entries.Get(id).tags[draw>>8%uint64(fill)]
	return uint64(tag[0]) | uint64(tag[1])<<8 | uint64(tag[2])<<16, true
}

// EachEntry visits all entries with the time from which on they come up, in milliseconds since 1970: for tests.
func (c *Calendar) EachEntry(visit func(prefix uint64, begins int64)) {
	for _, b := range append(c.buckets[:len(c.buckets):len(c.buckets)], c.draining) {
		for id, fill := b.head, int(b.fill); id != 0; {
			k := c.store.entries.Get(id)
			for _, tag := range k.tags[:fill] {
				visit(uint64(tag[0])|uint64(tag[1])<<8|uint64(tag[2])<<16, b.start)
			}
			id, fill = k.next, len(k.tags)
		}
	}
}

// PrefixOf is what an entry tells of a position.
func PrefixOf(position uint64) uint64 { return position >> entryDrop }
