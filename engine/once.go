package engine

import (
	"container/list"
	"time"

	"github.com/larder-cache/larder/internal/fault"
)

// OnceWindow is how long a task with an idempotency key is remembered.
const OnceWindow = 24 * time.Hour

// Once makes a task with the same Key take effect once within OnceWindow: a repetition gets the first
// answer again, and one with another Fingerprint is refused.
type Once struct {
	Key         [16]byte // a digest of the principal and the client's idempotency key
	Fingerprint [16]byte // a digest of the request: method, path, body
}

// A remembered task is one that carried an idempotency key and changed something; one that changed nothing
// may simply be tried again. It stands in its cache's once table, in its cache's queue and in the partition's,
// and is forgotten, oldest first, when its time is over or when the cache remembers too much: what is
// remembered must not crowd out what the cache is for, nor fill it for a day.
//
//	O1: both queues are in the order of expireAt
//	O2: the partition's queue, and all queues and all once tables of its caches, hold the same tasks
//	O3: remembers is the sum of what the tasks in a cache's queue cost
type remembered struct {
	home        *cache
	key         [16]byte
	fingerprint [16]byte
	expireAt    int64
	serial      uint64 // counts up in the partition's queue
	reply       *Recording

	queued *list.Element // in the partition's queue
	place  *list.Element // in the cache's
}

// maxRemembered bounds the replies of a task that is remembered, in bytes: see Bounded.
const maxRemembered = 8 << 20

// onceOverhead is what a remembered task costs beside its reply, in bytes.
const onceOverhead = 320

// What a cache remembers takes at most one part in onceShare of its memory limit, but always the task that came
// last. A task forgets at most onceForgets others, so that none pays for a limit that was lowered by much.
const (
	onceShare   = 4
	onceForgets = 64
)

func (d *remembered) bytes() int64 { return onceOverhead + int64(d.reply.Cap()) }

var errKeyReused = fault.New(fault.KeyReused, "once", "this idempotency key was used for another request within the last %d hours", int(OnceWindow.Hours()))

// find returns the task that c remembers under key at time now, or nil.
func (c *cache) find(key [16]byte, now int64) *remembered {
	d := c.once[key]
	if d == nil || d.expireAt <= now {
		return nil
	}
	return d
}

// remember keeps the answer to a task of c for OnceWindow, or until younger ones need its room.
func (p *Partition) remember(c *cache, once *Once, reply *Recording) {
	if old := c.once[once.Key]; old != nil {
		p.forget(old)
	}
	d := &remembered{home: c, key: once.Key, fingerprint: once.Fingerprint, expireAt: p.now + OnceWindow.Milliseconds(), reply: reply}
	p.enqueue(d)
	share := c.settings.MemoryLimit / onceShare
	for range onceForgets {
		if share == 0 || c.remembers <= share || c.asked.Len() == 1 {
			return
		}
		p.forget(c.asked.Front().Value.(*remembered))
	}
}

// enqueue makes a task known to its cache, under a key that no other has there, as the last to be forgotten.
func (p *Partition) enqueue(d *remembered) {
	c := d.home
	if c.once == nil {
		c.once = map[[16]byte]*remembered{}
	}
	p.lastOnce++
	d.serial = p.lastOnce
	d.queued, d.place = p.once.PushBack(d), c.asked.PushBack(d)
	c.once[d.key] = d
	c.used += d.bytes()
	c.remembers += d.bytes()
}

// forget drops a remembered task.
func (p *Partition) forget(d *remembered) {
	c := d.home
	if c.cut != nil {
		c.cut.forgets(d)
	}
	p.once.Remove(d.queued)
	c.asked.Remove(d.place)
	delete(c.once, d.key)
	c.used -= d.bytes()
	c.remembers -= d.bytes()
}

// forgetDue drops at most atMost tasks of c whose window is over.
func (p *Partition) forgetDue(c *cache, atMost int) {
	for ; atMost > 0 && c.asked.Len() > 0; atMost-- {
		d := c.asked.Front().Value.(*remembered)
		if d.expireAt > p.now {
			return
		}
		p.forget(d)
	}
}

// remembersDue reports whether the window of some remembered task is over at time now.
func (p *Partition) remembersDue(now int64) bool {
	oldest := p.once.Front()
	return oldest != nil && oldest.Value.(*remembered).expireAt <= now
}
