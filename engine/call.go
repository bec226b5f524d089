package engine

import "github.com/larder-cache/larder/internal/fault"

// A call is one command while it runs: what a row's function sees of the world.
//
// A function reads its arguments, checks everything that can fail, changes the data and writes one reply, in
// that order. When it returns an error it has changed nothing and replied nothing; the error is the reply.
type call struct {
	p       *Partition
	cache   *cache // nil when the partition does not hold the cache
	db      int
	cmd     *Command
	args    [][]byte
	now     int64 // milliseconds since 1970; the same on every replica
	writing bool  // false in a Query: nothing may change, expired items are passed over but stay
	out     Reply
	task    *Task    // of which it is a call
	roomy   bool     // needs no room under the memory limit
	trimmed bool     // an XADD has trimmed, of which it notifies
	waits   *Parked  // nil when the call cannot wait
	retried bool     // it has waited, and is asked again
	quiet   bool     // see Task.Quiet
	digits  [20]byte // where numbers are written for out
}

func (c *call) execute() error {
	if err := c.cmd.CheckArity(len(c.args)); err != nil {
		return err
	}
	if c.cmd.Flags&internal == 0 {
		if c.cache == nil {
			return fault.New(fault.Unavailable, "engine.execute", "this cache is not served here at the moment")
		}
		if c.db < 0 || c.db >= Databases {
			return fault.New(fault.OutOfRange, "engine.execute", "DB index is out of range")
		}
		if c.cmd.Flags&Writes != 0 && !c.writing {
			panic("engine: " + c.cmd.Name + " in a query") // a caller that bypassed Task.Writes
		}
		if c.cmd.Flags&Grows != 0 && !c.roomy {
			if err := c.cache.admit(c.db, c.cmd, c.args); err != nil {
				return err
			}
		}
	}
	return c.cmd.run(c)
}

// keys returns the keyspace of the selected database.
func (c *call) keys() *keyspace { return c.cache.keyspace(c.p, c.db) }

// get returns the live item under key, or nil, and notes that it was used.
func (c *call) get(key []byte) *item {
	it := c.peek(key)
	if it != nil {
		c.touch(it)
	} else if c.cmd.Flags&Writes == 0 {
		c.notify(EventKeyMiss, "keymiss", key)
	}
	return it
}

// peek is get without the note of use.
func (c *call) peek(key []byte) *item {
	k := c.keys()
	it := k.find(key)
	if it == nil || !it.expiredAt(c.now) {
		return it
	}
	if c.writing {
		before := len(c.p.changes)
		c.dropItem(it)
		if all := c.cache.feeds; all != nil {
			all.expired(k, key)
		}
		c.cache.counts.Expired++
		c.p.changes = c.p.changes[:before]
		c.notify(EventExpired, "expired", key)
	}
	return nil
}

// lookup returns the live value of type T under key; nil when there is none, WRONGTYPE when it is another type.
func lookup[T value](c *call, key []byte) (v T, it *item, err error) {
	it = c.get(key)
	if it == nil {
		return v, nil, nil
	}
	v, ok := it.value.(T)
	if !ok {
		return v, nil, errWrongType
	}
	return v, it, nil
}

// A selfTimed value sets its item's deadline itself, so no command that knows only keys may set it.
type selfTimed interface {
	// expiry is the item's deadline in milliseconds since 1970, 0 for none.
	expiry() int64
}

// put stores value under key, in the place of whatever was there, with a deadline (0 for none; for a selfTimed
// value its expiry).
func (c *call) put(key []byte, v value, expireAt int64) *item {
	k := c.keys()
	return k.put(c.replacing(k, key), key, v, expireAt)
}

// replacing returns the view of what is under key, nil for nothing, which is about to be replaced.
func (c *call) replacing(k *keyspace, key []byte) *item {
	it := k.find(key)
	if j := c.p.journal; j != nil {
		j.remember(place{k, string(key)}, it)
	}
	if it != nil {
		k.unindex(it)
		c.touch(it)
	}
	return it
}

// changed stores a value that was changed, accounts it anew, and removes it when that left it empty.
func (c *call) changed(it *item) {
	k := it.home
	if j := c.p.journal; j != nil && it.kind == kindObject {
		j.changed = append(j.changed, place{k, string(it.key)})
	}
	if it.value.empty() {
		c.dropItem(it)
		return
	}
	if v, ok := it.value.(packedValue); ok {
		k.repack(it, v)
		return
	}
	k.resized(it.object())
	k.account()
	k.touched(it.key)
}

// remove deletes key and reports whether it was there.
func (c *call) remove(key []byte) bool {
	it := c.peek(key)
	if it == nil {
		return false
	}
	c.dropItem(it)
	return true
}

func (c *call) dropItem(it *item) {
	if j := c.p.journal; j != nil {
		j.remember(place{it.home, string(it.key)}, it)
	}
	it.home.remove(it)
}

// expire sets an item's deadline in milliseconds since 1970, 0 for none. A deadline that has come removes it.
// The only error is WRONGTYPE, for a value that sets its own deadline.
func (c *call) expire(it *item, at int64) error {
	if _, ok := it.value.(selfTimed); ok {
		return fault.New(fault.WrongType, c.cmd.Name, "the key holds a %s, which keeps its own deadlines", it.value.kind())
	}
	if at != 0 && at <= c.now {
		c.dropItem(it)
		return nil
	}
	if j := c.p.journal; j != nil {
		j.remember(place{it.home, string(it.key)}, it)
	}
	it.home.setDeadline(it, at)
	return nil
}

// defaultDeadline is the deadline of a new value that names none: the cache's default TTL from now, or 0.
func (c *call) defaultDeadline() int64 {
	if ttl := c.cache.settings.DefaultTTL; ttl > 0 {
		return c.now + ttl
	}
	return 0
}

// count notes whether a read found its key.
func (c *call) count(hit bool) {
	if hit {
		c.cache.counts.Hits++
	} else {
		c.cache.counts.Misses++
	}
}
