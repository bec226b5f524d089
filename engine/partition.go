// Package engine holds one partition's data in memory: strings, hashes, lists, sets, sorted sets, streams and
// sessions, and what lives in them: counters, bitmaps, HyperLogLogs, leaderboards, places.
//
// A Partition is a state machine. Apply takes an entry of the log, which already carries its time and its
// dice, changes the data and writes replies; it starts no goroutine, reads no clock and touches no network.
// Two partitions given the same entries therefore end in the same state, with the same Digest, which is what
// lets package replication copy commands instead of data.
//
// The command table (command.go) says what operations there are; each row stands beside its function, in the
// file named after its type. Start with Partition.Apply, then read the file of the type you care about.
package engine

import (
	"container/list"
	"encoding/hex"
	"math/rand/v2"

	"github.com/larder-cache/larder/internal/fault"
)

// CacheID names a cache for ever: 128 random bits, never reused, so that a cache made anew under an old name
// starts empty.
type CacheID [16]byte

func (id CacheID) String() string { return hex.EncodeToString(id[:]) }

// Databases is how many databases a cache has, as in Redis's default configuration.
const Databases = 16

// An Entry is one step of the partition's log.
type Entry struct {
	Now   int64  // milliseconds since 1970, read by the leader; Apply never lets it run backwards
	Seed  uint64 // the entry's dice
	Tasks []*Task
}

// A Task is what one caller asks for in one piece: a command, a pipeline or a batch, on one cache.
//
// Apply answers each call with one reply, in order. With Atomic the first call that fails undoes the calls
// before it and ends the task: Failed is its index, Reply has received Failed+1 answers, and of these only
// the last, the error, still holds.
type Task struct {
	Cache  CacheID
	DB     int // 0 to Databases-1
	Calls  []Call
	Atomic bool
	Once   *Once // nil unless the caller sent an idempotency key
	Reply  Reply // where answers go; nil on a replica that owes nobody one

	Failed   int  // set by Apply and Query: the call that ended an atomic task, or -1
	Replayed bool // set by Apply: the replies are those of an earlier task with the same Once.Key
}

// A Call is one command with its arguments; Args[0] is the name as the client wrote it. Arguments may point
// into a buffer that the caller reuses: the engine copies what it keeps.
type Call struct {
	Command *Command
	Args    [][]byte
}

// Writes reports whether the task has to go through the log.
func (t *Task) Writes() bool {
	for i := range t.Calls {
		if t.Calls[i].Command.Flags&Writes != 0 {
			return true
		}
	}
	return false
}

// A Partition is one replicated state machine holding slot ranges of many caches. It has no lock: its
// caller, package replication, lets in one goroutine at a time.
type Partition struct {
	seed    Seed
	caches  map[CacheID]*cache
	now     int64  // the time of the last entry; Queries may see a later one
	version uint64 // the last version given out; see nextVersion
	due     deadlines
	once    list.List // of *remembered: tasks with idempotency keys, the oldest first
	journal *journal  // not nil while an atomic task runs
	record  Recording
	dice    *rand.PCG
	running call // the call that runs now, kept here so that a task costs no allocation
}

// Seed keys the partition's hash table against flooding. It is chosen at random when the partition is
// created, is the same on each of its replicas, and never leaves the servers.
type Seed [2]uint64

// New makes an empty partition.
func New(seed Seed) *Partition {
	return &Partition{seed: seed, caches: map[CacheID]*cache{}, dice: rand.NewPCG(0, 0)}
}

// Apply carries out an entry. Time never runs backwards: an entry older than the last counts as just as late.
func (p *Partition) Apply(e *Entry) {
	if e.Now > p.now {
		p.now = e.Now
	}
	p.dice.Seed(e.Seed, uint64(e.Now))
	for _, t := range e.Tasks {
		p.apply(t)
	}
}

func (p *Partition) apply(t *Task) {
	c := p.caches[t.Cache]
	if t.Once == nil || c == nil {
		p.run(t, t.Reply, p.now, true)
		return
	}
	if done := c.find(t.Once.Key, p.now); done != nil {
		p.again(t, done)
		return
	}
	p.record.Reset()
	if p.run(t, &Bounded{Recording: &p.record, Max: maxRemembered}, p.now, true) {
		p.remember(c, t.Once, p.record.Clone())
	}
	if t.Reply != nil {
		p.record.Replay(t.Reply)
	}
}

// again answers a task whose idempotency key has been used.
func (p *Partition) again(t *Task, done *remembered) {
	t.Failed, t.Replayed = -1, done.fingerprint == t.Once.Fingerprint
	out := t.Reply
	if out == nil {
		return
	}
	if t.Replayed {
		done.reply.Replay(out)
		return
	}
	for range t.Calls {
		out.Error(errKeyReused)
		if t.Atomic {
			t.Failed = 0
			return
		}
	}
}

// Query answers a task that writes nothing, at time now. It leaves the partition's state as it was; only the
// notes about which items are in use, which guide eviction and are no part of the state, may change.
func (p *Partition) Query(now int64, seed uint64, t *Task) {
	p.dice.Seed(seed, uint64(now))
	p.run(t, t.Reply, max(now, p.now), false)
}

// run executes the calls of t in order, and reports whether any writing call succeeded.
func (p *Partition) run(t *Task, out Reply, now int64, writing bool) (changed bool) {
	t.Failed, t.Replayed = -1, false
	if out == nil {
		out = discard{}
	}
	if t.Atomic {
		p.journal = &journal{version: p.version}
		defer func() { p.journal = nil }()
	}
	c := &p.running
	*c = call{p: p, cache: p.caches[t.Cache], db: t.DB, now: now, writing: writing, out: out}
	defer func() { *c = call{} }()
	for i := range t.Calls {
		c.cmd, c.args = t.Calls[i].Command, t.Calls[i].Args
		err := c.execute()
		if err != nil {
			out.Error(fault.From(err))
			if t.Atomic {
				p.journal.undo(p)
				t.Failed = i
				return false
			}
			continue
		}
		changed = changed || c.cmd.Flags&Writes != 0
	}
	return changed
}

// configure makes a cache known to the partition, or changes its settings.
func (p *Partition) configure(id CacheID, s Settings) {
	if c := p.caches[id]; c != nil {
		c.settings = s
		return
	}
	p.caches[id] = &cache{id: id, settings: s}
}

// drop forgets a cache and all that is in it.
func (p *Partition) drop(id CacheID) {
	c := p.caches[id]
	if c == nil {
		return
	}
	c.flush(p)
	for c.asked.Len() > 0 {
		p.forget(c.asked.Front().Value.(*remembered))
	}
	delete(p.caches, id)
}

// Due reports whether a Sweep at time now would find something to remove. It is O(1).
func (p *Partition) Due(now int64) bool {
	return (len(p.due) > 0 && p.due[0].expireAt <= now) || p.remembersDue(now)
}

// sweep removes at most atMost expired items, oldest deadline first, and reports how many. Of the remembered
// idempotency keys whose window is over it forgets as many.
func (p *Partition) sweep(atMost int) (removed int) {
	for removed < atMost && len(p.due) > 0 && p.due[0].expireAt <= p.now {
		it := p.due[0]
		it.home.expired(p, it)
		removed++
	}
	p.forgetDue(atMost)
	return removed
}

// nextVersion gives out versions: ETags over HTTP, CAS tokens over memcached. They rise with every call and
// begin at the entry's time, so that a version handed out before a restart never means other bytes after it.
func (p *Partition) nextVersion() uint64 {
	p.version = max(p.version+1, uint64(p.now)<<16)
	return p.version
}

// random returns the entry's dice as a source for rand/v2's helpers.
func (p *Partition) random() *rand.Rand { return rand.New(p.dice) }
