package gateway

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// A partition that does not serve a key, because its slot has moved or is about to, says so before anything is done, and often
// where the slot is. Then the request is sent on, with the routing table as it must be by now, or as it is a moment later: the
// client sees that it took a little longer. See package replication/move.

// Bounds of following what moves.
const (
	followTime = 5 * time.Second        // a request without a deadline
	followStep = 200 * time.Microsecond // before the second try, and more each time
	followMost = 8 * time.Millisecond
)

// movedBy is what an error says of keys that are served elsewhere, nil when it is about something else.
func movedBy(err error) *engine.Moved {
	var f *fault.Error
	if errors.As(err, &f) {
		if m, ok := f.Err.(*engine.Moved); ok {
			return m
		}
	}
	return nil
}

// follow is the route on which to try again: what the records say now, and what the partition has said that refused. The first
// time that it knows better it is asked at once.
func (g *Gateway) follow(ctx context.Context, from *route, m *engine.Moved) (*route, error) {
	began, followed := from.began, from.followed
	if followed == 0 {
		began = time.Now()
	}
	if wait := min(followStep*time.Duration(followed), followMost); wait > 0 || !m.Known {
		if time.Since(began) > followTime {
			from.meter.Failed()
			given := *m.Fault()
			given.Err = nil // nobody is to follow it any more
			return nil, &given
		}
		select {
		case <-time.After(max(wait, followStep)):
		case <-ctx.Done():
			return nil, fault.Wrap(fault.Timeout, "gateway.follow", ctx.Err(), "the request's deadline passed while this part of the cache moved; nothing was done")
		}
	}
	now, err := g.route(from.cache.Tenant, from.cache.Name)
	if err != nil {
		return nil, err
	}
	if now.cache == nil || now.cache.ID != from.cache.ID {
		return nil, missing(&Request{Cache: from.cache.Name})
	}
	rt := *now
	rt.followed, rt.began, rt.record = followed+1, began, now.cache
	ranges := now.cache.Ranges
	if from.record == now.cache { // what was heard before is still news
		ranges = from.cache.Ranges
	}
	if m.Known {
		ranges = placement.Reassign(ranges, m.Span.From, m.Span.To, placement.PartitionID(m.To))
	}
	if m.Known || from.record == now.cache {
		cache := *now.cache
		cache.Ranges = ranges
		rt.cache, rt.only, rt.homes, rt.byRange = &cache, nil, nil, nil
		g.settle(&rt)
	}
	return &rt, nil
}

// again has calls carried out that a partition has refused as a whole.
func (g *Gateway) again(ctx context.Context, r *Request, rt *route, calls []engine.Call, now time.Time, m *engine.Moved) error {
	if len(r.Watches) > 0 { // whoever watches a key that moves is told that it has changed
		r.Stale = true
		return nil
	}
	rt, err := g.follow(ctx, rt, m)
	if err != nil {
		return err
	}
	return g.carry(ctx, r, rt, calls, now)
}

// again does what a leg was to do, with the routing table as it is now: what was for one partition may be for two.
func (l *leg) again(ctx context.Context, d *division, m *engine.Moved) {
	rt, err := d.g.follow(ctx, d.rt, m)
	if err != nil {
		l.err = err
		return
	}
	if len(rt.homes) == 0 {
		d.g.settle(rt)
	}
	l.err = nil
	for done := 0; done < len(l.calls); {
		next := divisions.Get().(*division)
		next.g, next.r, next.rt, next.now, next.parent = d.g, d.r, rt, d.now, d
		n := next.plan(l.calls[done:], mostCalls)
		err := next.carryOut(ctx)
		switch {
		case err != nil && done == 0 && n == len(l.calls):
			l.err = err
		case err != nil:
			for range n {
				l.out.Error(fault.From(err))
			}
		default:
			for i := range next.portions {
				next.answer(&next.portions[i], &l.out)
			}
		}
		next.release()
		done += n
	}
	l.task.Done, l.task.Failed = len(l.calls), -1
}

// A transfer is a caller that waits in a blocking command, wherever that is: when its keys move, it is sent after them.
type transfer struct {
	g    *Gateway
	rt   *route
	w    *engine.Waiter
	mu   sync.Mutex
	at   Executor  // where it waits; nil while it is on its way
	ends time.Time // when its time is up; zero for never, or when that is not known here

	ending  bool         // it was released while it was on its way
	refusal *fault.Error // with this
	gone    bool         // nobody is there any more
}

// transferOf follows the waiter of a request that is about to be carried out.
func (g *Gateway) transferOf(r *Request, rt *route, to Executor) *transfer {
	t := &transfer{g: g, rt: rt, w: r.Waiter, at: to}
	r.Waiter.Left, r.Waiter.Moved, r.Waiter.Elsewhere = 0, nil, t.elsewhere
	return t
}

// parked notes for how many milliseconds the caller waits, 0 for ever.
func (t *transfer) parked(ms int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if ms > 0 && ms < int64(time.Hour*24*365/time.Millisecond) {
		t.ends = time.Now().Add(time.Duration(ms) * time.Millisecond)
	}
}

// Release ends the wait: see Executor.
func (t *transfer) Release(w *engine.Waiter, e *fault.Error) bool {
	t.mu.Lock()
	at := t.at
	if at == nil {
		t.ending, t.refusal = true, e
	}
	t.mu.Unlock()
	return at == nil || at.Release(w, e)
}

// Abandon forgets the caller.
func (t *transfer) Abandon(w *engine.Waiter) {
	t.mu.Lock()
	at := t.at
	t.gone = true
	t.mu.Unlock()
	if at != nil {
		at.Abandon(w)
	}
}

// elsewhere is told that the keys are served by another partition now.
func (t *transfer) elsewhere(w *engine.Waiter) {
	t.mu.Lock()
	t.at = nil
	t.mu.Unlock()
	go t.resume(w.Moved)
}

// resume asks for the caller again, where its keys are now.
func (t *transfer) resume(m *engine.Moved) {
	w := t.w
	ctx, cancel := context.WithTimeout(context.Background(), followTime)
	defer cancel()
	calls := w.Task.Calls
	for {
		rt, err := t.g.follow(ctx, t.rt, m)
		home := 0
		if err == nil {
			if t.rt = rt; len(rt.homes) == 0 {
				t.g.settle(rt)
			}
			home, err = rt.onePiece(calls, nil)
		}
		var to Executor
		if err == nil {
			to, err = t.g.reach(rt, home)
		}
		t.mu.Lock()
		gone := t.gone
		if !t.ends.IsZero() {
			w.Left = max(time.Until(t.ends).Milliseconds(), 1)
		}
		t.mu.Unlock()
		if gone {
			return
		}
		task := engine.Task{Cache: w.Task.Cache, DB: w.Task.DB, Calls: calls, Waits: true, Again: true, Reply: w.Reply, Origin: w.Task.Origin, Waiter: w}
		w.Moved = nil
		if err == nil {
			err = to.Execute(ctx, &task)
		}
		if m = movedBy(err); m != nil {
			continue
		}
		if err != nil {
			w.Refuse(fault.From(err))
		}
		if task.Parked == nil {
			w.Done(w)
			return
		}
		t.settled(to)
		return
	}
}

// settled notes that the caller waits at a partition, and does what came meanwhile.
func (t *transfer) settled(to Executor) {
	t.mu.Lock()
	t.at = to
	t.rt = &route{cache: t.rt.cache, meter: t.rt.meter} // another movement is followed as patiently
	ending, refusal, gone := t.ending, t.refusal, t.gone
	t.ending = false
	t.mu.Unlock()
	switch {
	case gone:
		to.Abandon(t.w)
	case ending:
		to.Release(t.w, refusal)
	}
}
