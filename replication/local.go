// Package replication carries commands to the replicas of a partition and brings their answers back.
//
// A partition with one replica needs no log: Local applies a task at once, in the caller's goroutine, under the partition's
// lock. One with several is a Group, of raft: group.go. What a leader decides (the time, the dice, what is evicted, when
// expired items are removed) is decided here, because the engine has neither clock nor dice.
//
// Start with Host, then Local; for groups with Cluster (worker.go) and Group.drive.
package replication

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/memory"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// Local is a partition whose only replica is in this process.
type Local struct {
	desk

	id      placement.PartitionID
	replica uint64       // its id; 0 in a process by itself
	entry   engine.Entry // reused
	enough  func() bool  // see Execute
	ends    func() bool  // the Enough of the task that runs

	keeper   *Keeper                             // of durable caches; nil where there can be none
	kept     map[engine.CacheID]*kept            // those that are here; nil while there never was one
	wanted   map[engine.CacheID]Class            // what caches have to be, without those of Memory
	record   []byte                              // reused
	state    *engine.CutStream                   // of the state file that is being written
	settings map[engine.CacheID]*engine.Settings // that came while the partition was being loaded
	before   map[engine.CacheID]bool             // caches that were here before it was loaded
	damage   error                               // why the partition could not be loaded
	holds    map[engine.CacheID]*localHold

	resting map[engine.CacheID]int  // how many long calls of a cache rest: see breathe
	closing map[engine.CacheID]bool // in which of these a write waits for the readings to end: see alone
	rested  sync.Cond               // on the lock: one of them has ended its rest, or all of its work
	reads   bool                    // the task that runs has rested
	reading atomic.Int32            // how many tasks there are that have
	writing atomic.Int32            // how many that hold the lock for long, or are about to
}

// NewLocal makes an empty partition. seed keys its hash table, dice are the leader's.
func NewLocal(seed engine.Seed, clock Clock, dice [32]byte, log *slog.Logger) *Local {
	l := &Local{resting: map[engine.CacheID]int{}, closing: map[engine.CacheID]bool{}}
	l.rested.L = &l.mu
	l.rests = engine.Rests{In: l.breathe, Writes: l.forgets, Alone: l.alone}
	l.desk.init(seed, clock, dice, log)
	l.release = func(w *engine.Waiter) { l.Release(w, nil) }
	l.leads = func() bool { return !l.broken && !l.loading }
	l.enough = func() bool { return len(l.ready) > 0 || (l.ends != nil && l.ends()) }
	return l
}

// Execute carries out a task and returns when its replies are written. An error means that the task was not
// begun, except for fault.OutcomeUnknown. It holds the partition's lock for as long as the task runs, but for the rests of long
// readings.
func (l *Local) Execute(ctx context.Context, t *engine.Task) (err error) {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Timeout, "replication.execute", err, "the request's deadline passed before it was begun")
	}
	l.enter()
	for t.Writes() {
		if len(l.holds) > 0 {
			if err := l.rest(ctx, t); err != nil {
				l.mu.Unlock()
				return err
			}
		}
		if l.resting[t.Cache] == 0 {
			break
		}
		l.outlast(t.Cache)
	}
	if !l.broken && !l.loading && t.Writes() && l.p.Lasts(t) {
		l.writing.Add(1)
		defer l.writing.Add(-1)
	}
	if err := l.locked(t); err != nil || t.Held.Log == nil || t.Holds {
		return err
	}
	return l.await(ctx, t)
}

// Busy reports whether a task is under way that lasts, so that the next may have to wait for it. See Begin.
func (l *Local) Busy() bool { return l.reading.Load() > 0 || l.writing.Load() > 0 }

// ErrRests is the error of a task that would have to wait, until a part of a cache has moved on or a long reading is over, or that
// itself lasts. Nothing was done.
var ErrRests = fault.New(fault.Unavailable, "replication.begin", "this part of the cache is about to move, or is read, or this would take long")

// Ready reports whether a task may be begun: see gateway.Beginner.
func (l *Local) Ready(t *engine.Task) bool { return true }

// Elsewhere reports whether a task that was begun has to be executed after all.
func (l *Local) Elsewhere(_ *engine.Task, err error) bool { return errors.Is(err, ErrRests) }

// Begin is Execute that neither waits nor lasts, for tasks with Holds: it is over when it returns. See Group.Begin.
func (l *Local) Begin(t *engine.Task, _ func(), _ func(error)) (under bool, err error) {
	if l.writing.Load() > 0 {
		return false, ErrRests
	}
	l.enter()
	if t.Writes() && (len(l.holds) > 0 || l.resting[t.Cache] > 0 || !l.broken && !l.loading && l.p.Lasts(t)) {
		l.mu.Unlock()
		return false, ErrRests
	}
	_, revocable := t.Reply.(engine.Revocable)
	t.Brief, t.Lasts = revocable && !t.OneGo(), false
	err = l.locked(t)
	if t.Brief = false; err == nil && t.Lasts && t.Done == 0 {
		return false, ErrRests
	}
	return false, err
}

// locked carries out a task, and releases the lock, which the caller holds.
func (l *Local) locked(t *engine.Task) (err error) {
	if l.broken || l.loading {
		err := l.why()
		l.mu.Unlock()
		return err
	}
	if t.Held = (engine.Receipt{}); l.kept != nil && t.Writes() {
		if err := l.admit(t); err != nil {
			l.mu.Unlock()
			return err
		}
	}
	if t.Stale = t.Guard != nil && !t.Guard(); !t.Stale {
		err = l.execute(t)
	} else if l.kept != nil {
		l.hold(t)
	}
	if l.reads {
		l.reads = false
		l.reading.Add(-1)
	}
	l.unlock()
	return err
}

// breathe lets others in while a long call of a cache rests: whoever has waited for the lock for a millisecond gets it. Until
// it ends its rest, who writes to that cache waits: see engine.Partition.SetRests.
func (l *Local) breathe(cache engine.CacheID) {
	if l.closing[cache] {
		return
	}
	l.restFor(cache, func() {
		l.mu.Unlock()
		runtime.Gosched()
		l.mu.Lock()
	})
}

// alone waits until no other call of a cache rests. Those that do go on without a rest from now on.
func (l *Local) alone(cache engine.CacheID) {
	if l.resting[cache] == 0 {
		return
	}
	l.closing[cache] = true
	l.restFor(cache, func() {
		for l.resting[cache] > 1 {
			l.rested.Wait()
		}
	})
	delete(l.closing, cache)
}

// restFor counts a call of a cache as one that rests while wait gives up the lock, and keeps what is at hand for it.
func (l *Local) restFor(cache engine.CacheID, wait func()) {
	if !l.reads {
		l.reading.Add(1)
	}
	ends, origin, entry := l.ends, l.origin, l.entry
	l.entry.Tasks = nil // those of the entry are being carried out
	l.reads = false
	l.resting[cache]++
	wait()
	if l.resting[cache]--; l.resting[cache] == 0 {
		delete(l.resting, cache)
	}
	l.ends, l.origin, l.entry, l.reads = ends, origin, entry, true
	l.rested.Broadcast()
	if l.broken {
		panic("the partition stopped while a call rested")
	}
}

// forgets reports whether nothing of a cache is written down: what is has to be written in the order in which it was done.
func (l *Local) forgets(cache engine.CacheID) bool { return l.kept == nil || l.kept[cache] == nil }

// outlast waits until no reading of a cache rests. The caller holds the lock, and may find all that it guards changed.
func (l *Local) outlast(cache engine.CacheID) {
	for l.resting[cache] > 0 {
		l.rested.Wait()
	}
}

// why says why the partition cannot be asked. The caller holds the lock.
func (l *Local) why() error {
	switch {
	case l.moved:
		return errGone
	case l.loading:
		return errLoading
	case l.damage != nil:
		return l.damage
	}
	return errBroken
}

// handOver gives the partition to somebody else, and sends those away who wait.
func (l *Local) handOver() *engine.Partition {
	l.mu.Lock()
	for len(l.resting) > 0 {
		l.rested.Wait()
	}
	l.refuse(fault.From(errGone), func(*engine.Waiter) bool { return false })
	l.soil()
	l.endCuts()
	l.endFeeds()
	l.endExports()
	l.broken, l.moved = true, true
	p := l.p
	l.unlock()
	return p
}

// Partition is which one it is.
func (l *Local) Partition() placement.PartitionID { return l.id }

var errBroken = fault.New(fault.Unavailable, "replication.execute", "this partition has stopped after an internal error")

// execute carries a task out, up to where it says that it is enough. Those who wait for what a call brought are served
// before the next call.
func (l *Local) execute(t *engine.Task) error {
	if len(l.counts) == 0 { // nobody waits or watches, which is nearly always
		err := l.carryOut(t)
		if err == nil && t.Parked != nil {
			l.park(t, l.last)
		}
		return err
	}
	calls := t.Calls
	l.ends, t.Enough = t.Enough, l.enough
	defer func() { t.Calls, t.Enough, l.ends = calls, l.ends, nil }()
	done := 0
	for {
		err := l.carryOut(t)
		if err != nil && t.Moved != nil && done > 0 { // what is done stays done, and the caller goes on behind it
			t.Done = done
			return nil
		}
		if err != nil {
			return err
		}
		done += t.Done
		if t.Parked != nil {
			l.park(t, l.last)
		}
		if t.Lasts {
			t.Done, t.Lasts = done, done == 0
			return nil
		}
		ask, rests := l.ends, len(l.ready) == 0 // it has taken long enough, and others may come in between
		l.serve()
		l.ends = ask
		if t.Failed >= 0 || done >= len(calls) || t.Replayed || (ask != nil && (rests || ask())) {
			t.Done = done
			return nil
		}
		t.Calls = calls[done:]
	}
}

// carryOut has the partition do a task. The caller holds the lock.
func (l *Local) carryOut(t *engine.Task) (err error) {
	defer l.guard(&err)
	l.origin = t.Origin
	now := l.now()
	if !t.Writes() {
		l.p.Query(now, l.dice.Uint64(), t)
		if l.kept != nil {
			l.hold(t)
		}
		return elsewhere(t)
	}
	var k *kept
	if l.kept != nil {
		if k = l.kept[t.Cache]; k != nil && k.stage != waiting {
			asData(t)
		}
	}
	l.entry.Now, l.entry.Seed, l.entry.Tasks = now, l.dice.Uint64(), l.entry.Tasks[:0]
	if relief := l.p.Relieve(now, l.dice.Uint64(), t); relief != nil {
		l.entry.Tasks = append(l.entry.Tasks, relief)
	}
	l.entry.Tasks = append(l.entry.Tasks, t)
	l.apply(k, true)
	clear(l.entry.Tasks)
	if l.kept != nil {
		l.hold(t)
	}
	return elsewhere(t)
}

// elsewhere is the error of a task whose keys are served by another partition, nil when it was carried out.
func elsewhere(t *engine.Task) error {
	if t.Moved == nil {
		return nil
	}
	return t.Moved.Fault()
}

// How much background work is done while the lock is held once: so little that a request waits for a fraction of a
// millisecond at the most.
const (
	sweepBatch    = 200 // expired items removed
	maintainSteps = 500 // of Partition.Maintain
)

// tend removes items that have expired, gives memory back, and has some made ready, a batch at a time, and reports whether there
// is more to do.
func (l *Local) tend() (more bool) {
	more = l.tidy()
	return l.prepare() || more
}

// prepare has memory made ready that will soon be needed, while others use the partition, and reports whether it did.
func (l *Local) prepare() bool {
	l.mu.Lock()
	var ahead []byte
	if !l.broken && !l.loading {
		ahead = l.p.Ahead()
	}
	l.mu.Unlock()
	if ahead != nil {
		memory.Prepare(ahead)
	}
	return ahead != nil
}

func (l *Local) tidy() (more bool) {
	l.mu.Lock()
	defer l.unlock()
	if l.broken || l.loading {
		return false
	}
	var err error
	defer l.guard(&err)
	l.origin = nil
	now := l.now()
	if len(l.resting) == 0 && l.p.Due(now) {
		if task := l.p.Sweep(now, sweepBatch); task != nil {
			l.entry.Now, l.entry.Seed, l.entry.Tasks = now, l.dice.Uint64(), append(l.entry.Tasks[:0], task)
			l.apply(l.kept[task.Cache], false)
			clear(l.entry.Tasks)
		}
		l.serve()
		more = l.p.Due(now)
	}
	return (len(l.resting) == 0 && !l.p.Idle() && l.p.Maintain(maintainSteps)) || more
}
