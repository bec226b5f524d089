package replication

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// A desk is a partition with what its leader keeps beside the data: the clock and the dice, and who waits for keys or
// watches them (waiting.go). Local and Group are both built on one.
//
//	L1: the times given to the engine never run backwards, be it for writes or for queries
//	L2: after a panic the partition is touched no more: its state may be half changed
type desk struct {
	clock Clock
	log   *slog.Logger

	mu     sync.Mutex
	queued atomic.Int32 // callers with tasks that wait for mu: see enter
	p      *engine.Partition
	seed   engine.Seed // its hash table's
	last   int64
	dice   *rand.ChaCha8
	broken bool
	moved  bool // another has taken the partition over

	loading bool // somebody fills the partition, and nobody else touches it

	listener  Listener // nil for none
	listened  map[engine.CacheID]bool
	interests map[spot]*interest
	counts    map[engine.CacheID]int    // of interests
	parked    map[engine.CacheID]*crowd // of callers that wait
	waits     atomic.Int64              // all of them; read without the lock
	ready     []spot                    // keys that were touched and that somebody waits for
	served    []*engine.Waiter          // have their answers, and are told when the lock is released
	origin    any                       // of the task that runs
	told      bool                      // the listener was told of a key, and not yet that the task is over
	release   func(*engine.Waiter)      // ends a wait whose time is up
	busy      func(*engine.Waiter) bool // its answer is on the way; nil for never
	leads     func() bool               // what is exported is up to date
	rests     engine.Rests              // of long calls; none where there is a log
	exports   map[*Export]bool
	cuts      map[*CacheCut]bool // that are being read
	feeds     map[*CacheFeed]bool
}

// init makes an empty partition. seed keys its hash table, dice are the leader's.
func (l *desk) init(seed engine.Seed, clock Clock, dice [32]byte, log *slog.Logger) {
	l.clock, l.log, l.seed, l.dice = clock, log, seed, rand.NewChaCha8(dice)
	l.listened, l.interests = map[engine.CacheID]bool{}, map[spot]*interest{}
	l.exports = map[*Export]bool{}
	l.counts, l.parked = map[engine.CacheID]int{}, map[engine.CacheID]*crowd{}
	l.install(engine.New(seed))
}

// enter takes the lock for a task. Background work that takes the lock again and again looks at who waits: a mutex lets whoever runs take it before one that was
// asleep, for a millisecond at a time.
func (l *desk) enter() {
	if !l.mu.TryLock() {
		l.queued.Add(1)
		l.mu.Lock()
		l.queued.Add(-1)
	}
}

// awaited reports whether a task waits for the lock.
func (l *desk) awaited() bool { return l.queued.Load() > 0 }

// maxYields bounds how often background work lets others go first before it goes on itself.
const maxYields = 64

// yield lets those go first who wait for the lock, which the caller has just released.
func (l *desk) yield() {
	for range maxYields {
		if !l.awaited() {
			return
		}
		runtime.Gosched()
	}
}

// install puts a partition in the place of the one before. The caller holds the lock.
func (l *desk) install(p *engine.Partition) {
	l.endCuts()
	l.endFeeds()
	l.endExports()
	l.p = p
	p.SetObserver(observer{l})
	p.SetRests(l.rests)
}

// guard turns a broken invariant into the end of this partition, not of the process (L2).
func (l *desk) guard(err *error) {
	if r := recover(); r != nil {
		l.broken = true
		l.log.Error("a partition stopped after an internal error", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
		*err = fault.Wrap(fault.Internal, "replication.execute", fmt.Errorf("%v", r), "internal error")
	}
}

// now is the partition's time (L1). The caller holds the lock.
func (l *desk) now() int64 {
	l.last = max(l.last, l.clock.Now())
	return l.last
}

// Stats returns the live numbers of a cache, and false when this partition does not hold it or has stopped.
func (l *desk) Stats(id engine.CacheID) (engine.Stats, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken || l.loading {
		return engine.Stats{}, false
	}
	return l.p.Stats(id)
}

// memory tells what the partition takes of the machine's memory beside Go's heap.
func (l *desk) memory() dense.Usage {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.loading {
		return dense.Usage{}
	}
	return l.p.Memory()
}
