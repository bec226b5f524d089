package engine

import (
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
// may simply be tried again. It stands in its cache's once table and in the partition's queue, and is
// forgotten when its time is over, oldest first.
//
//	O1: the queue is in the order of expireAt
//	O2: what a cache's once table holds stands in the queue exactly once
//
// The queue may also hold tasks that no table has any more: their cache was dropped, or their key was used
// again after its window but before a sweep.
type remembered struct {
	home        *cache
	key         [16]byte
	fingerprint [16]byte
	expireAt    int64
	reply       *Recording
}

// maxRemembered bounds the replies of a task that is remembered, in bytes: see Bounded.
const maxRemembered = 8 << 20

// onceOverhead is what a remembered task costs beside its reply, in bytes.
const onceOverhead = 192

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

// remember keeps the answer to a task of c for OnceWindow.
func (p *Partition) remember(c *cache, once *Once, reply *Recording) {
	if old := c.once[once.Key]; old != nil {
		c.used -= old.bytes()
	}
	if c.once == nil {
		c.once = map[[16]byte]*remembered{}
	}
	d := &remembered{home: c, key: once.Key, fingerprint: once.Fingerprint, expireAt: p.now + OnceWindow.Milliseconds(), reply: reply}
	c.once[once.Key] = d
	c.used += d.bytes()
	p.once = append(p.once, d)
}

// forget drops at most atMost tasks whose window is over.
func (p *Partition) forget(atMost int) {
	for ; atMost > 0 && len(p.once) > 0 && p.once[0].expireAt <= p.now; atMost-- {
		d := p.once[0]
		p.once[0] = nil
		p.once = p.once[1:]
		if c := d.home; c.once[d.key] == d {
			delete(c.once, d.key)
			c.used -= d.bytes()
		}
	}
}
