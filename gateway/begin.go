package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/larder-cache/larder/engine"
)

// Requests of those who cannot wait: sessions that an event loop serves. What comes at once is carried out at once, as by Do. A
// write that goes through the log of a partition led here is begun, and a message tells when it is over. Everything else that may
// take a while (another node, several partitions, a part of a cache that moves) is done by a goroutine, which waits as Do does.
//
//	B1: from when Begin or Finish says that a request is under way until Told, it belongs to others, with its Reply and all that it
//	    points to
//	B2: of each request that is under way its Asker is told once
//	B3: what lies in a buffer that is used again has been copied before the request is under way

// A Beginner is an Executor of a partition that may have to wait for other nodes.
type Beginner interface {
	Executor
	// Ready reports whether a task may be begun here. If not, Execute has to be called, which may wait.
	Ready(t *engine.Task) bool
	// Begin is Execute that does not wait. It returns the error of a task that is over; one that is under way after it is told when
	// it is over, on any goroutine, perhaps before Begin returns. keep is called before a task gets under way.
	Begin(t *engine.Task, keep func(), told func(error)) (under bool, err error)
	// Elsewhere reports whether a task that ended so was not done, and has to be given to Execute.
	Elsewhere(t *engine.Task, err error) bool
}

// An Asker is who begins requests, one after another.
type Asker struct {
	Keep func()      // copies what the request points to out of buffers that are used again
	Told func(error) // takes notice that it is over, from any goroutine; Finish has to be called with the error

	Panicked func(p any) error // notes a panic of a goroutine, which is a bug of ours, and says what the request is told
}

// A way is how far a request has come that was begun.
type way struct {
	rt     *route
	to     Beginner // who was given the task; nil when a goroutine has done all of it
	before int      // bytes of Reply
	now    time.Time
}

// Begin is Do that does not wait, for a request without Waiter and Watches. When under is false the request is over; else it is
// under way, and by.Told is called.
func (g *Gateway) Begin(r *Request, by *Asker) (under bool, err error) {
	rt, all, now, err := g.admit(r)
	if err != nil {
		return false, err
	}
	to, waits := rt.begins(r.Calls)
	switch {
	case !waits && all:
		return false, g.run(context.Background(), r, rt, r.Calls, now)
	case !waits:
		return false, g.runAllowed(context.Background(), r, rt, now)
	case !all:
		g.aside(r, by, func(ctx context.Context) error { return g.runAllowed(ctx, r, rt, now) })
		return true, nil
	}
	if g.hub.monitored.Load() > 0 {
		g.hub.show(r, rt.cache.ID, r.Calls, now)
	}
	if to != nil {
		r.way = way{rt: rt, to: to, before: r.Reply.Len(), now: now}
		if g.prepare(r, rt, r.Calls, now); to.Ready(&r.task) {
			if under, err = to.Begin(&r.task, by.Keep, by.Told); under {
				return true, nil
			}
			return g.Finish(r, by, err)
		}
	}
	g.aside(r, by, func(ctx context.Context) error { return g.carry(ctx, r, rt, r.Calls, now) })
	return true, nil
}

// begins is the partition of calls that all concern one, nil when they do not, or it is not known; and whether it may have to be
// waited for at all.
func (rt *route) begins(calls []engine.Call) (to Beginner, waits bool) {
	if len(rt.homes) == 0 {
		to, waits = rt.only.(Beginner)
		return to, waits
	}
	if _, waits = rt.homes[0].to.(Beginner); !waits {
		return nil, false
	}
	if home, n := rt.stretch(calls); n == len(calls) {
		to, _ = rt.homes[home].to.(Beginner)
	}
	return to, true
}

// Finish takes the error that by was told, and says as Begin does whether the request is over: one whose partition turned out to be
// elsewhere goes on.
func (g *Gateway) Finish(r *Request, by *Asker, err error) (under bool, _ error) {
	w := &r.way
	if w.to == nil {
		return false, err
	}
	to := w.to
	if err == nil {
		g.conclude(r, w.rt, r.Calls, w.before, w.now)
		return false, nil
	}
	moved := movedBy(err)
	if moved == nil && !to.Elsewhere(&r.task, err) {
		w.rt.failed(err)
		return false, err
	}
	rt, now := w.rt, w.now
	g.aside(r, by, func(ctx context.Context) error {
		if moved != nil {
			return g.again(ctx, r, rt, r.Calls, now, moved)
		}
		return g.direct(ctx, r, rt, to, r.Calls, now)
	})
	return true, nil
}

// aside has a goroutine do what may wait.
func (g *Gateway) aside(r *Request, by *Asker, do func(context.Context) error) {
	r.way = way{}
	by.Keep()
	go func() {
		var err error
		defer func() {
			if p := recover(); p != nil {
				err = by.Panicked(p)
			}
			by.Told(err)
		}()
		err = do(context.Background())
	}()
}

// Busy reports whether a request of the caller may have to wait for another that lasts, as far as that can be told without waiting.
func (g *Gateway) Busy(by *Caller, cache string) bool {
	rt, err := g.standingOf(by, cache)
	if err != nil || rt.cache == nil {
		return false
	}
	if len(rt.homes) == 0 {
		return busy(rt.only)
	}
	return slices.ContainsFunc(rt.homes, func(h home) bool { return busy(h.to) })
}

func busy(to Executor) bool {
	b, ok := to.(interface{ Busy() bool })
	return ok && b.Busy()
}
