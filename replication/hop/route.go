package hop

import (
	"context"
	"encoding/binary"
	"errors"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

// A Route leads to a partition, wherever it is led now: here, which costs nothing, or on another node. It is a gateway's
// Executor, and serves for as long as the process runs.
type Route struct {
	h    *Hop
	part placement.PartitionID
}

// Execute has the leader carry out a task: see gateway.Executor.
func (r *Route) Execute(ctx context.Context, t *engine.Task) error {
	if eventual(t) {
		return r.rounds(ctx, t, r.near)
	}
	if l := r.h.locals(r.part); leads(l) {
		err := l.Execute(ctx, t)
		leader, elsewhere := hintOf(err)
		if !elsewhere {
			return err
		}
		r.h.client.hint(r.part, leader)
	}
	return r.rounds(ctx, t, r.find)
}

// A beginner is an Executor in this process that need not be waited for: see replication.Group.Begin.
type beginner interface {
	Begin(t *engine.Task, keep func(), told func(error)) (under bool, err error)
}

// Ready reports whether a task may be begun: any replica may answer it, and one is here, or it is known who leads. See
// gateway.Beginner.
func (r *Route) Ready(t *engine.Task) bool {
	l := r.h.locals(r.part)
	if eventual(t) {
		_, ok := l.(Near)
		return ok && !r.h.client.leaderless(r.part)
	}
	return t.Waiter == nil && t.Guard == nil
}

// Begin begins a task for which Ready was true a moment ago.
func (r *Route) Begin(t *engine.Task, keep func(), told func(error)) (under bool, err error) {
	l := r.h.locals(r.part)
	if eventual(t) {
		near, ok := l.(Near)
		if !ok {
			return false, errElsewhere
		}
		t.Floor = max(r.h.client.clock.Load(), time.Now().UnixMilli())
		err := near.ReadNear(t, MaxBehind)
		r.h.client.advance(t.Floor)
		return false, err
	}
	if b, ok := l.(beginner); ok && leads(l) {
		return b.Begin(t, keep, told)
	}
	to := r.h.client.target(r.part, 0)
	if to == "" || !r.h.client.start(to, r.part, t, keep, told) {
		return false, errElsewhere
	}
	return true, nil
}

// Elsewhere reports whether a task that was begun has to be executed after all.
func (r *Route) Elsewhere(t *engine.Task, err error) bool {
	if leader, elsewhere := hintOf(err); elsewhere {
		r.h.client.hint(r.part, leader)
		return true
	}
	var again *retried
	return errors.As(err, &again) || errors.Is(err, replication.ErrRests) || eventual(t) && fault.Is(err, fault.Unavailable)
}

// rounds carries out a task that is not led here, or was not a moment ago, in as many requests as it takes: who answers ends
// a task early when the replies become long.
func (r *Route) rounds(ctx context.Context, t *engine.Task, find func(context.Context, *engine.Task) error) error {
	calls, done := t.Calls, 0
	defer func() { t.Calls = calls }()
	for {
		err := find(ctx, t)
		if err != nil && done > 0 { // the replies to what was done are written
			for range len(calls) - done {
				t.Reply.Error(fault.From(err))
			}
			t.Done, t.Failed = len(calls), -1
			return nil
		}
		if err != nil {
			return err
		}
		done += t.Done
		if t.Stale || t.Failed >= 0 || t.Replayed || t.Parked != nil || done >= len(calls) || t.Done == 0 || t.Enough == nil || t.Enough() {
			t.Done = done
			return nil
		}
		t.Calls = calls[done:]
	}
}

// find carries out a task at the leader, and looks for it as long as the request may take.
func (r *Route) find(ctx context.Context, t *engine.Task) error {
	began := time.Now()
	for attempt := 0; ; attempt++ {
		var err error
		if l := r.h.locals(r.part); attempt > 0 && leads(l) {
			err = l.Execute(ctx, t)
			leader, elsewhere := hintOf(err)
			if !elsewhere {
				return err
			}
			r.h.client.hint(r.part, leader)
		} else if to := r.h.client.target(r.part, attempt); to == "" {
			if err = errNobody; l == nil {
				return err
			}
		} else {
			again := false
			if again, err = r.h.client.ask(ctx, to, r.part, t); !again {
				return err
			}
			if next := r.h.client.target(r.part, attempt+1); next != to && attempt < 3 {
				continue // somebody else may lead
			}
		}
		if time.Since(began) > patience || !pause(ctx, attempt) {
			return err
		}
	}
}

// Watch begins to watch a key at the leader. When that cannot be reached the watch does not stand from the beginning.
func (r *Route) Watch(cache engine.CacheID, db int, key []byte) engine.Watch {
	if l := r.h.locals(r.part); leads(l) {
		return l.Watch(cache, db, key)
	}
	return r.h.client.watch(r.part, cache, db, key)
}

// Release ends a wait: see gateway.Executor.
func (r *Route) Release(w *engine.Waiter, e *fault.Error) bool {
	if known, waited := r.h.client.release(w, e); known {
		return waited
	}
	if l := r.h.locals(r.part); l != nil {
		return l.Release(w, e)
	}
	return false
}

// Abandon forgets a waiter that is gone.
func (r *Route) Abandon(w *engine.Waiter) {
	if r.h.client.abandon(w) {
		return
	}
	if l := r.h.locals(r.part); l != nil {
		l.Abandon(w)
	}
}

// Waiting tells how many callers wait in a cache.
func (r *Route) Waiting(cache engine.CacheID) (callers, keys, gone int) {
	if l := r.h.locals(r.part); leads(l) {
		return l.Waiting(cache)
	}
	return r.h.client.waiting(r.part, cache)
}

// Observe does nothing: all nodes are told at once, by Hop.Observe.
func (r *Route) Observe(engine.CacheID, bool) {}

// Stats are the live numbers of a cache; false when the leader does not hold it or cannot be reached.
func (r *Route) Stats(cache engine.CacheID) (engine.Stats, bool) {
	if l := r.h.locals(r.part); leads(l) {
		return l.Stats(cache)
	}
	return r.h.client.stats(r.part, cache)
}

// A Watch is a key that a transaction depends on and that another node watches.
type Watch struct {
	h     *Hop
	to    string
	id    uint64
	dirty atomic.Bool
}

// Stands is asked where the task is carried out here after all: then nobody knows.
func (w *Watch) Stands() bool { return false }

// Unwatch ends the watch.
func (w *Watch) Unwatch() {
	c := w.h.client
	c.mu.Lock()
	delete(c.watches, w.id)
	c.mu.Unlock()
	if w.to != "" {
		w.h.links.Send(w.to, kind, head(nil, mUnwatch, w.id))
	}
}

// watch has the leader watch a key.
func (c *client) watch(part placement.PartitionID, cache engine.CacheID, db int, key []byte) *Watch {
	w := &Watch{h: c.Hop}
	c.mu.Lock()
	c.last++
	w.id = c.last
	c.watches[w.id] = w
	c.mu.Unlock()
	_, to, err := c.question(part, func(id uint64) []byte {
		m := binary.AppendUvarint(head(nil, mWatch, id), w.id)
		m = append(binary.AppendUvarint(m, uint64(part)), cache[:]...)
		return append(append(m, byte(db)), key...)
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if w.to = to; err != nil {
		w.dirty.Store(true)
	}
	return w
}

// numbersOf are the numbers under which a node knows a task's watches; false when one of them does not stand any more, or is
// another node's.
func (c *client) numbersOf(t *engine.Task, at string) (numbers []uint64, stands bool) {
	if t.Guard == nil {
		return nil, true
	}
	if len(t.Watches) == 0 {
		return nil, false // a guard that cannot be carried
	}
	for _, w := range t.Watches {
		far, ok := w.(*Watch)
		if !ok || far.to != at || far.dirty.Load() {
			return nil, false
		}
		numbers = append(numbers, far.id)
	}
	return numbers, true
}
