package replication

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// Listener passes on what happens in partitions to those who listen: to channels, to keyspace notifications, and to
// clients that keep copies of what they have read. Its methods are called under a partition's lock and must be quick.
//
// Every replica does what a task does, and one tells of it: the one that leads, and has led when the task was carried out (tells).
// So what happens while one leader follows another may be told by nobody. Messages and notifications are promised to nobody; a
// leader that begins has all keys taken for changed that somebody keeps copies of (tellAnew).
type Listener interface {
	Published(cache engine.CacheID, sharded bool, channel, message []byte) int
	Notified(cache engine.CacheID, db int, class engine.EventClass, event string, key []byte)
	Touched(cache engine.CacheID, db int, key []byte, origin any) // origin is the task's, nil for what the leader does by itself
	Flushed(cache engine.CacheID, db int)
	Settled() // after Touched or Flushed: the task is over. No lock is held.
}

// A spot is a key of one database of one cache.
type spot struct {
	cache engine.CacheID
	db    int
	key   string
}

// interest is why a desk looks at a key: who waits for it, first come first, and who watches it.
type interest struct {
	waiting  []*engine.Waiter
	watching []*Watch
	gone     int  // of those who wait, how many also want to hear that the key is gone
	ready    bool // it stands in desk.ready
}

// crowd is how many callers wait in a cache, for how many keys, and of how many of these somebody wants to hear that they are gone.
type crowd struct{ callers, keys, gone int }

// A Watch is a key that a transaction depends on.
type Watch struct {
	l       *desk
	at      spot
	existed bool
	dirty   atomic.Bool
}

// observer is what the partition tells a desk, under its lock.
type observer struct{ *desk }

// Touched marks watches and remembers which keys may have something for those who wait.
func (o observer) Touched(cache engine.CacheID, db int, key []byte) {
	l := o.desk
	if in := l.interests[spot{cache, db, string(key)}]; in != nil {
		for _, w := range in.watching {
			w.dirty.Store(true)
		}
		if len(in.waiting) > 0 && !in.ready {
			in.ready = true
			l.ready = append(l.ready, spot{cache, db, string(key)})
		}
	}
	if l.tells() {
		l.told = true
		l.listener.Touched(cache, db, key, l.origin)
	}
}

// tells reports whether the listener is to hear of what happens here: another replica tells of it otherwise.
func (l *desk) tells() bool { return l.listener != nil && l.leads() }

// tellAnew has those who keep copies take all that is here for changed. The caller holds the lock.
func (l *desk) tellAnew() {
	if !l.tells() {
		return
	}
	for cache, on := range l.listened {
		if on {
			l.told = true
			l.listener.Flushed(cache, 0) // it is the same for all databases
		}
	}
}

// Withdrawn sends those away who wait for keys of a span, and has no watch of one stand any more.
func (o observer) Withdrawn(cache engine.CacheID, s tenure.Span) {
	l := o.desk
	var all []*engine.Waiter
	for _, at := range l.spots(func(at spot) bool { return at.cache == cache && s.Has(placement.Slot([]byte(at.key))) }) {
		for _, w := range l.interests[at].watching {
			w.dirty.Store(true)
		}
		all = append(all, l.interests[at].waiting...)
	}
	for _, w := range all {
		if w.Over || l.busy != nil && l.busy(w) { // one that is asked again will hear it
			continue
		}
		w.Refuse((&engine.Moved{}).Fault())
		l.leave(w)
		l.served = append(l.served, w)
	}
}

// spots lists the keys that anybody is interested in, of those that count, in order.
func (l *desk) spots(counts func(spot) bool) (list []spot) {
	for at := range l.interests {
		if counts(at) {
			list = append(list, at)
		}
	}
	slices.SortFunc(list, spot.compare)
	return list
}

// Flushed touches every key of a database that anybody is interested in.
func (o observer) Flushed(cache engine.CacheID, db int) {
	l := o.desk
	for _, at := range l.spots(func(at spot) bool { return at.cache == cache && at.db == db }) {
		in := l.interests[at]
		for _, w := range in.watching {
			if w.existed {
				w.dirty.Store(true)
			}
		}
		if len(in.waiting) > 0 && !in.ready {
			in.ready = true
			l.ready = append(l.ready, at)
		}
	}
	if l.tells() {
		l.told = true
		l.listener.Flushed(cache, db)
	}
}

// Published implements engine.Observer.
func (o observer) Published(cache engine.CacheID, sharded bool, channel, message []byte) int {
	if !o.tells() {
		return 0
	}
	return o.listener.Published(cache, sharded, channel, message)
}

// Notified implements engine.Observer.
func (o observer) Notified(cache engine.CacheID, db int, class engine.EventClass, event string, key []byte) {
	if o.tells() {
		o.listener.Notified(cache, db, class, event, key)
	}
}

func (l *desk) listen(to Listener) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listener = to
}

// Observe says whether the listener wants to hear of a cache's keys.
func (l *desk) Observe(cache engine.CacheID, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listened[cache] = on; !l.loading {
		l.observe(cache)
	}
}

// observe asks the partition for what is needed of a cache's keys. The caller holds the lock.
func (l *desk) observe(cache engine.CacheID) {
	l.p.Observe(cache, l.listened[cache] || l.counts[cache] > 0)
}

// at returns the interest in a key, and makes it if need be.
func (l *desk) at(s spot) *interest {
	in := l.interests[s]
	if in == nil {
		in = &interest{}
		l.interests[s] = in
		l.counts[s.cache]++
		l.observe(s.cache)
	}
	return in
}

// settle forgets a key that nobody is interested in any more.
func (l *desk) settle(s spot, in *interest) {
	if len(in.waiting) > 0 || len(in.watching) > 0 {
		return
	}
	delete(l.interests, s)
	if l.counts[s.cache]--; l.counts[s.cache] == 0 {
		delete(l.counts, s.cache)
		l.observe(s.cache)
	}
}

// Watch begins to watch a key. Unwatch has to be called once.
func (l *desk) Watch(cache engine.CacheID, db int, key []byte) engine.Watch {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &Watch{l: l, at: spot{cache, db, string(key)}}
	if l.broken || l.loading || !l.p.Serves(cache, key) {
		w.dirty.Store(true)
		return w
	}
	w.existed = l.p.Has(cache, db, key, l.now()) != ""
	in := l.at(w.at)
	in.watching = append(in.watching, w)
	return w
}

// Unwatch ends it.
func (w *Watch) Unwatch() {
	w.l.mu.Lock()
	defer w.l.mu.Unlock()
	if in := w.l.interests[w.at]; in != nil {
		in.watching = slices.DeleteFunc(in.watching, func(other *Watch) bool { return other == w })
		w.l.settle(w.at, in)
	}
}

// Stands reports whether the key is as it was. It is asked while the partition's lock is held: see engine.Task.Guard.
func (w *Watch) Stands() bool {
	if w.dirty.Load() {
		return false
	}
	return !w.existed || w.l.p.Has(w.at.cache, w.at.db, []byte(w.at.key), w.l.now()) != ""
}

// waits reports whether a waiter stands in queues. One whose task is under way, or has not been begun, does not yet.
func waits(w *engine.Waiter) bool { return !w.Over && w.Task.Calls != nil }

// park puts the caller of a task in the queues of the keys that its command waits for.
func (l *desk) park(t *engine.Task, now int64) {
	w := t.Waiter
	if w.Gone { // or what comes would be taken for nobody
		w.Over = true
		return
	}
	args := t.Calls[0].Args
	w.Task = engine.Task{Cache: t.Cache, DB: t.DB, Waits: true, Again: true, Reply: w.Reply, Origin: t.Origin}
	w.Wait = *t.Parked
	w.Wait.Keys = copied(w.Wait.Keys)
	if w.Wait.Args != nil {
		args = w.Wait.Args
	}
	w.Wait.Args = nil
	w.Task.Calls = []engine.Call{{Command: t.Calls[0].Command, Args: copied(args)}}
	w.Over, w.Moved = false, nil
	if w.Left > 0 {
		w.Wait.For = w.Left
	}
	c := l.parked[t.Cache]
	if c == nil {
		c = &crowd{}
		l.parked[t.Cache] = c
	}
	c.callers++
	for _, key := range w.Wait.Keys {
		in := l.at(spot{t.Cache, t.DB, string(key)})
		if n := len(in.waiting); n > 0 && in.waiting[n-1] == w {
			continue // the key was named twice
		}
		if in.waiting = append(in.waiting, w); len(in.waiting) == 1 {
			c.keys++
		}
		if w.Wait.Gone {
			if in.gone++; in.gone == 1 {
				c.gone++
			}
		}
	}
	l.waits.Add(1)
	if w.Wait.For > 0 {
		timer := time.AfterFunc(time.Duration(min(w.Wait.For, maxWaitMs))*time.Millisecond, func() { l.release(w) })
		w.Stop = func() { timer.Stop() }
	}
}

// maxWaitMs keeps a timeout within what a timer can hold.
const maxWaitMs = int64(1) << 42

// copied copies arguments that lie in a caller's buffer.
func copied(args [][]byte) [][]byte {
	out := make([][]byte, len(args))
	for i, a := range args {
		out[i] = bytes.Clone(a)
	}
	return out
}

// leave takes a waiter out of all queues. The caller holds the lock, and answers it.
func (l *desk) leave(w *engine.Waiter) {
	w.Over = true
	c := l.parked[w.Task.Cache]
	for _, key := range w.Wait.Keys {
		at := spot{w.Task.Cache, w.Task.DB, string(key)}
		in := l.interests[at]
		if in == nil {
			continue
		}
		i := slices.Index(in.waiting, w)
		if i < 0 {
			continue // the key was named twice
		}
		if in.waiting = slices.Delete(in.waiting, i, i+1); len(in.waiting) == 0 {
			c.keys--
		}
		if w.Wait.Gone {
			if in.gone--; in.gone == 0 {
				c.gone--
			}
		}
		l.settle(at, in)
	}
	l.waits.Add(-1)
	if c.callers--; c.callers == 0 {
		delete(l.parked, w.Task.Cache)
	}
	if w.Stop != nil {
		w.Stop()
	}
}

// Release ends a wait before anything was found: with an error, or, when that is nil, with the answer of a command that
// nobody waits for. It reports whether the waiter was still waiting.
func (l *Local) Release(w *engine.Waiter, e *fault.Error) bool {
	l.mu.Lock()
	l.outlast(w.Task.Cache)
	if !waits(w) {
		l.mu.Unlock()
		return false
	}
	l.leave(w)
	switch {
	case e != nil:
		w.Refuse(e)
	case l.broken:
		w.Refuse(errBroken)
	default:
		w.Task.Waits = false
		if err := l.carryOut(&w.Task); err != nil {
			w.Refuse(fault.From(err))
		}
	}
	l.served = append(l.served, w)
	l.unlock()
	return true
}

// Abandon forgets a waiter that is gone, also one that is about to wait. Nobody hears of it.
func (l *Local) Abandon(w *engine.Waiter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.Gone = true; waits(w) {
		l.leave(w)
	}
}

// refuse ends all waits with an error, but those that skip names. The caller holds the lock.
func (l *desk) refuse(e *fault.Error, skip func(*engine.Waiter) bool) {
	var all []*engine.Waiter
	met := map[*engine.Waiter]bool{}
	for _, at := range l.spots(func(spot) bool { return true }) {
		for _, w := range l.interests[at].waiting {
			if !w.Over && !skip(w) && !met[w] {
				all, met[w] = append(all, w), true
			}
		}
	}
	for _, w := range all {
		w.Refuse(e)
		l.leave(w)
		l.served = append(l.served, w)
	}
}

// soil has no watch stand any more. The caller holds the lock.
func (l *desk) soil() {
	for _, in := range l.interests {
		for _, w := range in.watching {
			w.dirty.Store(true)
		}
	}
}

func (s spot) compare(o spot) int {
	return cmp.Or(bytes.Compare(s.cache[:], o.cache[:]), cmp.Compare(s.db, o.db), strings.Compare(s.key, o.key))
}

// Waiting tells how many callers wait in a cache, and how many keys they wait for.
func (l *desk) Waiting(cache engine.CacheID) (callers, keys, gone int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.parked[cache]; c != nil {
		return c.callers, c.keys, c.gone
	}
	return 0, 0, 0
}

// serve answers those who wait for keys that were touched, key by key, in the order in which they came. What that touches
// is served too. The caller holds the lock and finishes l.served after it has released it.
func (l *Local) serve() {
	for len(l.ready) > 0 && !l.broken {
		at := l.ready[0]
		l.ready = l.ready[1:]
		in := l.interests[at]
		if in == nil {
			continue
		}
		in.ready = false
		for _, w := range slices.Clone(in.waiting) {
			if l.broken {
				break
			}
			if w.Over {
				continue
			}
			kind := l.p.Has(at.cache, at.db, []byte(at.key), l.now())
			if kind == "" && in.gone == 0 {
				break // what the key had is gone, and nobody behind wants to hear of that
			}
			if kind != w.Wait.Kind && !w.Wait.Gone {
				continue
			}
			if err := l.carryOut(&w.Task); err != nil {
				w.Refuse(fault.From(err))
			} else if w.Task.Parked != nil {
				continue
			}
			l.leave(w)
			l.served = append(l.served, w)
		}
	}
	l.ready = nil
}

// unlock releases the lock, and then tells waiters that they have their answers, and the listener that a task is over.
func (l *desk) unlock() {
	served, told, listener := l.served, l.told, l.listener
	l.served, l.told = nil, false
	l.mu.Unlock()
	for _, w := range served {
		if held := w.Task.Held; held.Log != nil {
			held.Log.Tell(held.At, heldWaiter{w})
		} else {
			w.Tell()
		}
	}
	if told {
		listener.Settled()
	}
}

// SetListener has to told of what happens in a partition that stands by itself, outside of a Host.
func (l *Local) SetListener(to Listener) { l.listen(to) }
