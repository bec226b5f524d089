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
	"bytes"
	"container/list"
	"encoding/binary"
	"encoding/hex"
	"math"
	"math/rand/v2"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/ranked"
	"github.com/larder-cache/larder/engine/script"
	"github.com/larder-cache/larder/engine/tenure"
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

	Before func(i int) // told before Tasks[i] is carried out; nil for nobody. Not a part of the log.
}

// A Task is what one caller asks for in one piece: a command, a pipeline or a batch, on one cache.
//
// Apply answers each call with one reply, in order. With Atomic the first call that fails undoes the calls
// before it and ends the task: Failed is its index, Reply has received Failed+1 answers, and of these only
// the last, the error, still holds.
type Task struct {
	Cache   CacheID
	DB      int // 0 to Databases-1
	Calls   []Call
	Atomic  bool
	Whole   bool                                  // a transaction: nothing of others comes in between, but a call that fails does not undo the others
	Once    *Once                                 // nil unless the caller sent an idempotency key
	Waits   bool                                  // the only call may wait: see Parked
	Again   bool                                  // it has waited, and is asked again
	Quiet   bool                                  // what it looks at does not count as used
	Reply   Reply                                 // where answers go; nil on a replica that owes nobody one
	Allowed func(c *Command, args [][]byte) error // asked for each command of a script; nil allows all
	Surely  func() *CommandSet                    // the commands to which Allowed says yes whatever their arguments are, for who would have to ask from afar; nil for none
	Rights  func() *Rights                        // Allowed as data, for a task that goes through a log; nil with a nil Allowed
	Late    func() bool                           // asked now and then while a script runs: true stops it; nil never does

	// Slots, nil for unsaid, are what whoever routes a task that concerns every slot takes this partition to hold: at least these, or
	// with Exactly nothing else. Where it is not so the task is not begun, and Moved says what is different.
	Slots   []tenure.Span
	Exactly bool

	Origin any         // who asks, for the leader's listener; nil for nobody in particular
	Waiter *Waiter     // who waits, for the leader; nil unless Waits
	Guard  func() bool // asked by the leader right before the task, which is not done when it says no; nil for always
	Stale  bool        // set by the leader: Guard said no

	Watches []Watch // what Guard asks, for a leader elsewhere that has made them

	// How current the answer of a task that only reads has to be, and what it was; see Consistency.
	Consistency Consistency
	Floor       int64       // milliseconds: a replica that does not lead reads at this time at the earliest, and sets it to the time at which it did
	Was         Consistency // set by who answers
	AgeMs       int64       // set with Was: how long ago the replica had, for sure, all that its leader had
	Holds       bool        // the caller lets nobody see the replies before Held says so; without it the leader does not return before
	Held        Receipt     // set by the leader: zero when the replies may be seen

	// Brief is set for who serves others and must not be held up. A call that only reads and goes over much then ends the task instead
	// of resting; where it was the first, Lasts is set, nothing was done, and the task has to be given to somebody who can wait.
	Brief bool
	Lasts bool

	// Enough, nil for never, is asked after each call unless the task is Atomic or Whole: when it says so, the task ends
	// early, and Done tells where to go on. That is how a leader serves those who wait between two calls of a pipeline,
	// and how replies do not pile up. Such a task also ends when its calls have taken long, so that others come in between.
	Enough func() bool

	Done     int     // set by Apply and Query: how many of the calls have been carried out
	Failed   int     // set by Apply and Query: the call that ended an atomic task, or -1
	Parked   *Parked // set by Apply and Query: what the call waits for, nil unless it does
	Moved    *Moved  // set by Apply and Query: nothing was done, because a key is served elsewhere; nil when all are served here
	Replayed bool    // set by Apply: the replies are those of an earlier task with the same Once.Key
}

// whole reports whether the task is carried out in one go.
func (t *Task) whole() bool { return t.Whole || t.Atomic || t.Once != nil }

// A Call is one command with its arguments; Args[0] is the name as the client wrote it. Arguments may point
// into a buffer that the caller reuses: the engine copies what it keeps.
type Call struct {
	Command *Command
	Args    [][]byte
}

// Clone copies a call with its arguments, for who keeps it.
func (c *Call) Clone() Call {
	args := make([][]byte, len(c.Args))
	for i, a := range c.Args {
		args[i] = bytes.Clone(a)
	}
	return Call{c.Command, args}
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
	seed     Seed
	store    *dense.Store
	caches   map[CacheID]*cache
	wanted   map[CacheID]bool // caches that the observer wants to hear of: see Observe
	latest   *cache           // see Partition.cache
	observer Observer         // nil for none
	now      int64            // the time of the last entry; Queries may see a later one
	version  uint64           // the last version given out; see nextVersion

	objects []objectSlot // values that are kept as Go has them
	spare   []uint32     // free places among them
	graves  []grave      // what is given back bit by bit

	timed   []*keyspace // those with a calendar
	delayed []*keyspace // those with a flushAt
	due     int64       // nothing expires before, in milliseconds since 1970
	ended   []expired   // what the last Sweep listed

	once     list.List // of *remembered: tasks with idempotency keys, the oldest first
	lastOnce uint64    // serial of the last one
	journal  *journal  // not nil while an atomic task runs
	record   Recording
	dice     *rand.PCG
	workspace
	way      way // of the task that runs
	foreseen foresight

	longhand bool // takes no short ways: the twin that tests compare with

	rests   Rests
	resting int // how many calls rest

	machine         *script.Machine // that runs scripts, nil until there is one
	compiledScripts compiledScripts
	effort          int64       // of the running command, in a script's steps: what it cannot tell before it runs; see call.effort
	scriptUsed      script.Cost // by the last script

	treeNodes *ranked.Nodes // see nodes
}

// A workspace is what the call that runs now uses, kept in the partition so that a task costs no allocation.
type workspace struct {
	running  call
	patience int      // how many elements it may still go over before it rests; 0 for any number
	unrested int      // how many a transaction may, which rests between its calls as well
	rested   int      // how often the call that runs has rested
	begins   int      // how long the answers were before it, for takeBack
	changes  []change // what it has touched, while somebody wants notifications

	views   []*item // of the command that runs: viewed of them are in use
	viewed  int
	looked  look
	next    [ahead]look // of the calls to come
	sink    uint64      // keeps the compiler from leaving lookAhead's reads out
	scratch []byte
	slotted [][]byte  // the keys of the call that is looked at: see elsewhere
	edit    hashEdit  // the hash that a command changes
	setEdit setEdit   // the set that it changes
	member  setMember // the member of a set that it is at
	element []byte    // of a list, on its way to another
	ranks   rankEdit
}

// Seed keys the partition's hash table against flooding. It is chosen at random when the partition is
// created, is the same on each of its replicas, and never leaves the servers.
type Seed [2]uint64

// New makes an empty partition.
func New(seed Seed) *Partition {
	return &Partition{seed: seed, store: dense.NewStore(dense.Seed(seed)), caches: map[CacheID]*cache{}, due: math.MaxInt64, dice: rand.NewPCG(0, 0)}
}

// Close gives back all memory at once. The partition must not be used any more. Without it that happens when the
// garbage collector finds the partition.
func (p *Partition) Close() { p.store.Close() }

// Apply carries out an entry. Time never runs backwards: an entry older than the last counts as just as late.
func (p *Partition) Apply(e *Entry) {
	if len(e.Tasks) > 0 {
		p.foresee(e.Tasks[0])
	}
	if e.Now > p.now {
		p.now = e.Now
	}
	p.dice.Seed(e.Seed, uint64(e.Now))
	for i, t := range e.Tasks {
		if e.Before != nil {
			e.Before(i)
		}
		p.settle()
		p.apply(t)
	}
	if p.store.Busy() {
		p.Maintain(stepsPerEntry + p.store.Owed(mostOwed))
	}
}

// stepsPerEntry is how much of giving memory back each entry pays for, so that a partition that nobody maintains
// stays within bounds too.
const stepsPerEntry = 32

// mostOwed bounds what an entry pays for beside that, by how much it has written: a fraction of a millisecond.
const mostOwed = 2048

// A grave is memory that is given back bit by bit: Drop does up to so many steps, and reports whether there is more.
type grave interface{ Drop(steps int) (more bool) }

// Maintain does up to about steps of work at giving memory back, and reports whether there is more to do. It changes
// nothing that replicas have to agree on, so it needs no entry in the log. A step takes a fraction of a microsecond.
func (p *Partition) Maintain(steps int) (more bool) {
	if p.resting > 0 {
		return false
	}
	for len(p.graves) > 0 {
		last := len(p.graves) - 1
		if p.graves[last].Drop(steps) {
			return true
		}
		p.graves[last] = nil
		p.graves = p.graves[:last]
		steps /= 2
	}
	return p.store.Compact(steps, p.buried)
}

// Idle reports whether Maintain has nothing to do. O(1).
func (p *Partition) Idle() bool { return len(p.graves) == 0 && !p.store.Busy() }

// buried is told of each record of a table that was dropped, before it is freed.
func (p *Partition) buried(_ *dense.Table, r dense.Ref) {
	if p.store.Kind(r) == kindObject {
		p.dropObject(binary.LittleEndian.Uint32(p.store.Value(r)))
	}
}

// Ahead returns memory that the partition will soon need, for memory.Prepare, which is called without the partition's lock; nil
// for none. Ask again until there is none.
func (p *Partition) Ahead() []byte { return p.store.Ahead() }

// Memory tells what the partition takes of the machine's memory beside Go's heap.
func (p *Partition) Memory() dense.Usage { return p.store.Usage() }

func (p *Partition) apply(t *Task) {
	c := p.cache(t.Cache)
	if (c == nil || c.tenure != nil) && p.refuses(c, t) {
		return
	}
	if t.Once != nil && c != nil {
		if done := c.find(t.Once.Key, p.now); done != nil {
			p.again(t, done)
			return
		}
	}
	if len(t.Calls) > 1 && t.whole() {
		if e := p.tooLong(t); e != nil {
			t.decline(e)
			return
		}
	}
	if t.Once == nil || c == nil {
		p.run(t, t.Reply, p.now, true)
		return
	}
	p.record.Reset()
	if p.run(t, &Bounded{Recording: &p.record, Max: maxRemembered}, p.now, true) {
		p.remember(c, t, p.record.Clone())
	}
	if t.Reply != nil {
		p.record.Replay(t.Reply)
	}
}

// refuses reports whether a task is not begun, because a key of it is served elsewhere.
func (p *Partition) refuses(c *cache, t *Task) bool {
	t.Moved = p.elsewhere(c, t)
	if t.Moved != nil {
		t.Done, t.Failed, t.Replayed, t.Parked = 0, -1, false, nil
	}
	return t.Moved != nil
}

// again answers a task whose idempotency key has been used.
func (p *Partition) again(t *Task, done *remembered) {
	t.Failed, t.Replayed, t.Done, t.Parked = -1, done.fingerprint == t.Once.Fingerprint, len(t.Calls), nil
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
	p.foresee(t)
	if c := p.cache(t.Cache); (c == nil || c.tenure != nil) && p.refuses(c, t) {
		return
	}
	p.dice.Seed(seed, uint64(now))
	p.run(t, t.Reply, max(now, p.now), false)
}

// run executes the calls of t in order, and reports whether any writing call succeeded.
func (p *Partition) run(t *Task, out Reply, now int64, writing bool) (changed bool) {
	t.Failed, t.Replayed, t.Done, t.Parked, t.Moved = -1, false, 0, nil, nil
	if out == nil {
		out = discard{}
	}
	if t.Atomic {
		p.journal = &journal{version: p.version}
		defer p.endJournal()
	}
	c, home, w := &p.running, p.cache(t.Cache), &p.way
	begun := false // c is this task's
	short := false // w is, as things stand
	many := p.many(home, t)
	worked := int64(0)
	for i := range t.Calls {
		call, cmd := &t.Calls[i], t.Calls[i].Command
		seen := look{}
		if many {
			seen = p.lookAhead(home.keyspace(p, t.DB), t.Calls, i)
		}
		if cmd.short != nil && len(call.Args) > 1 && (short || p.shortWay(w, home, t, out, now, writing)) {
			short = true
			if !seen.hashed {
				seen = p.hashOf(call)
			}
			if cmd.short(w, call, seen.hash) {
				t.Done = i + 1
				changed = changed || cmd.Flags&Writes != 0
				if t.Enough != nil && !t.whole() && (worked > turnSteps || t.Enough()) {
					break
				}
				continue
			}
		}
		if short = false; !begun {
			begun = true
			c.begin(p, t, home, out, now, writing)
		}
		p.viewed, p.looked = 0, seen
		c.cmd, c.args = cmd, call.Args
		err := c.inTurn(t, &worked)
		if err == errLasts {
			c.takeBack(i)
			break
		}
		if len(p.changes) > 0 {
			c.tell()
		}
		t.Done = i + 1
		if err == errParked {
			t.Parked = c.waits
			break
		}
		if err != nil {
			out.Error(fault.From(err))
			if t.Atomic {
				p.journal.undo(p)
				if home != nil && home.feeds != nil {
					home.feeds.back(feedUnit{})
				}
				t.Failed = i
				return false
			}
		} else {
			changed = changed || cmd.Flags&Writes != 0
		}
		if home != nil && home.feeds != nil && !t.whole() {
			home.feeds.close()
		}
		if t.Enough != nil && !t.whole() && (worked > turnSteps || t.Enough()) {
			break
		}
	}
	if home != nil {
		home.counts.Calls += int64(t.Done)
		if home.feeds != nil {
			home.feeds.close()
		}
	}
	if begun {
		c.out, c.args, c.task, c.waits = nil, nil, nil, nil // they are the caller's
	}
	w.out = nil
	return changed
}

// A foresight is the hash of the first argument of a call that is about to be carried out.
type foresight struct {
	call *Call
	hash uint64
}

// foresee begins to look up what a task of a single call is about: while the processor waits for the index, the rest is made ready.
func (p *Partition) foresee(t *Task) {
	p.foreseen.call = nil
	if len(t.Calls) != 1 || t.DB < 0 || t.DB >= Databases {
		return
	}
	c, call := p.cache(t.Cache), &t.Calls[0]
	if c == nil || call.Command.short == nil || len(call.Args) < 2 {
		return
	}
	if k := c.dbs[t.DB]; k != nil {
		p.foreseen = foresight{call, p.store.Hash(call.Args[1])}
		k.table.Fetch(p.foreseen.hash)
	}
}

// hashOf is the hash of a call's first argument.
func (p *Partition) hashOf(call *Call) look {
	if p.foreseen.call == call {
		p.foreseen.call = nil
		return look{hashed: true, hash: p.foreseen.hash}
	}
	return look{hashed: true, hash: p.store.Hash(call.Args[1])}
}

// begin makes c the surroundings of a task's calls.
func (c *call) begin(p *Partition, t *Task, home *cache, out Reply, now int64, writing bool) {
	c.p, c.cache, c.db, c.now, c.writing, c.out, c.task, c.roomy = p, home, t.DB, now, writing, out, t, false
	c.waits, c.retried, c.quiet = nil, t.Again, t.Quiet
	if t.Waits {
		c.waits = &Parked{}
	}
}

func (p *Partition) endJournal() {
	p.journal.settle()
	p.journal = nil
}

// ahead is how many calls of a task are looked at together before they run. In a large cache a look-up waits for memory
// twice, for the index and for the record; those of several calls wait at the same time.
const ahead = 16

// many reports whether it is worth it to look up together what a task's calls are about.
func (p *Partition) many(c *cache, t *Task) bool {
	return len(t.Calls) > 1 && c != nil && t.DB >= 0 && t.DB < Databases && c.dbs[t.DB] != nil && c.dbs[t.DB].table.Len() >= manyKeys
}

// lookAhead returns what is known of the first argument of call i, which is a key in most. Now and then it hashes those of the
// next calls, and brings what they will look up into the processor's cache.
func (p *Partition) lookAhead(k *keyspace, calls []Call, i int) look {
	if i%ahead != 0 {
		return p.next[i%ahead]
	}
	calls = calls[i:min(len(calls), i+ahead)]
	for i := range calls {
		p.next[i] = look{}
		if args := calls[i].Args; len(args) > 1 {
			p.next[i] = look{hashed: true, hash: p.store.Hash(args[1])}
			p.sink += k.table.WarmIndex(p.next[i].hash)
		}
	}
	for i := range calls {
		if p.next[i].hashed {
			p.sink += k.table.WarmRecord(p.next[i].hash)
		}
	}
	return p.next[0]
}

// manyKeys is how many keys a database has whose index does not fit into the processor's own cache.
const manyKeys = 16 << 10

// cache returns what the partition holds of a cache, nil for nothing. Most callers ask for the one that was asked for
// last.
func (p *Partition) cache(id CacheID) *cache {
	if p.latest == nil || p.latest.id != id {
		p.latest = p.caches[id]
	}
	return p.latest
}

// configure makes a cache known to the partition, or changes its settings.
func (p *Partition) configure(id CacheID, s Settings) error {
	c := p.caches[id]
	if c == nil {
		c = &cache{id: id, settings: s, observed: p.wanted[id]}
		if err := c.settle(); err != nil {
			return err
		}
		p.caches[id] = c
		p.latest = nil
		return nil
	}
	c.settings = s // its holdings are what it has come to since
	return nil
}

// drop forgets a cache and all that is in it. A cut of it that runs goes on.
func (p *Partition) drop(id CacheID) {
	c := p.caches[id]
	if c == nil {
		return
	}
	c.flush()
	for _, k := range c.dbs {
		if k != nil {
			k.table.Drop()
		}
	}
	for c.asked.Len() > 0 {
		p.forget(c.asked.Front().Value.(*remembered))
	}
	if c.export != nil {
		c.export.lost = true
	}
	if c.feeds != nil {
		c.feeds.lose(errFeedGone)
	}
	delete(p.caches, id)
	p.latest = nil
}

// nextVersion gives out versions: ETags over HTTP, CAS tokens over memcached. They rise with every call and
// begin at the entry's time, so that a version handed out before a restart never means other bytes after it.
func (p *Partition) nextVersion() uint64 {
	p.version = max(p.version+1, uint64(max(p.now-versionEpoch, 0))<<16)
	return p.version
}

// versionEpoch is 2020-01-01, in milliseconds since 1970. Counted from there, versions have 56 bits until 2054.
const versionEpoch = 1_577_836_800_000

// random returns the entry's dice as a source for rand/v2's helpers.
func (p *Partition) random() *rand.Rand { return rand.New(p.dice) }
