package replication

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/memory"
	"github.com/larder-cache/larder/internal/fault"
)

// What callers see of a Group: the same as of a Local, but that a group serves where it leads only.

// NotLeader is the cause of the error of a replica that does not lead. Nothing was done: the task may be given to Node.
type NotLeader struct {
	Node string // where the leader is, "" when that is not known
}

func (e *NotLeader) Error() string {
	if e.Node == "" {
		return "no leader is known"
	}
	return "the leader is on " + e.Node
}

// Leader is Node.
func (e *NotLeader) Leader() string { return e.Node }

func (g *Group) notLeader() error {
	hint := &NotLeader{}
	if lead := g.leader.Load(); lead != g.self {
		hint.Node = g.members.nodes[lead]
	}
	e := fault.Wrap(fault.Unavailable, "replication.execute", hint, "this partition has no leader here at the moment")
	e.RetryAfter = g.c.cfg.Tick
	return e
}

var (
	errUnknown = fault.New(fault.OutcomeUnknown, "replication.execute", "the outcome is unknown: the partition's leader was lost while the write was under way")
	errSlow    = fault.New(fault.Unavailable, "replication.execute", "the partition's replicas do not answer; nothing was done")
	errFull    = fault.New(fault.Unavailable, "replication.execute", "more waits for this partition's replicas than they take; nothing was done")
)

// An execution is a task on its way, in pieces: see pieces.
type execution struct {
	g     *Group
	task  *engine.Task
	calls []engine.Call // of the task
	done  func(*execution, error)
	ready chan error  // of Execute
	told  func(error) // of Begin

	mu    sync.Mutex
	gone  bool // the caller has given up: its task is touched no more
	begun int  // how many calls are done
	piece engine.Task
	p     proposal
	read  reading
}

var executions = sync.Pool{New: func() any { return &execution{ready: make(chan error, 1)} }}

// Execute carries out a task and returns when its replies are written. An error means that nothing was done, except for
// fault.OutcomeUnknown.
func (g *Group) Execute(ctx context.Context, t *engine.Task) error {
	if err := ctx.Err(); err != nil {
		return fault.Wrap(fault.Timeout, "replication.execute", err, "the request's deadline passed before it was begun")
	}
	read := false
	if !t.Writes() {
		var over bool
		var err error
		if over, read, err = g.readNow(t); over {
			return err
		}
	}
	x := executions.Get().(*execution)
	x.read.read = read
	x.begin(g, t, func(x *execution, err error) { x.ready <- err })
	select {
	case err := <-x.ready:
		x.recycle()
		return err
	case <-ctx.Done():
		return x.abandon(ctx.Err())
	}
}

// Begin is Execute that does not wait. When under is false the task is over, with this error. Else told is called with it, on
// whatever goroutine brings the answer, and perhaps before Begin returns; until then nobody else touches the task or what it points
// to. keep is called before a task gets under way: what lies in buffers that are used again has to be copied.
func (g *Group) Begin(t *engine.Task, keep func(), told func(error)) (under bool, err error) {
	read := false
	if !t.Writes() {
		var over bool
		if over, read, err = g.readNow(t); over {
			return false, err
		}
	}
	keep()
	x := executions.Get().(*execution)
	x.read.read, x.told = read, told
	x.begin(g, t, tell)
	return true, nil
}

// tell tells who began a task that it is over.
func tell(x *execution, err error) {
	told := x.told
	x.recycle()
	told(err)
}

func (x *execution) recycle() {
	*x = execution{ready: x.ready, p: proposal{bytes: x.p.bytes[:0]}}
	if cap(x.p.bytes) > 4*maxJoined {
		x.p.bytes = nil
	}
	executions.Put(x)
}

func (x *execution) begin(g *Group, t *engine.Task, done func(*execution, error)) {
	x.g, x.task, x.calls, x.done = g, t, t.Calls, done
	if !t.Writes() {
		x.read = reading{task: t, read: x.read.read, done: func(err error) { done(x, err) }}
		g.read(&x.read)
		return
	}
	if err := x.propose(); err != nil {
		done(x, err)
	}
}

// propose sets out with the next piece of the task. After an error it did not.
func (x *execution) propose() error {
	t := x.task
	if t.Allowed != nil && t.Rights == nil {
		return fault.New(fault.NotSupported, "replication.execute", "what this script may do is not known as data, and replicas have nobody to ask")
	}
	if err := x.g.roomFor(t); err != nil {
		return err
	}
	x.piece = *t
	x.piece.Enough = nil
	if !(t.Atomic || t.Whole || t.Once != nil || len(x.calls) == 1) {
		x.piece.Calls = x.calls[x.begun : x.begun+x.g.pieces(t, x.calls[x.begun:])]
	}
	x.p = proposal{task: &x.piece, bytes: x.p.bytes[:0], done: x.landed}
	if err := x.g.encode(&x.p); err != nil {
		return err
	}
	return x.g.propose(&x.p)
}

// encode writes a proposal's task as the log is to have it.
func (g *Group) encode(p *proposal) error {
	if p.task.Slots != nil && g.c.format() < FormatParts {
		p.task.Slots, p.task.Exactly = nil, false // as before there were any
	}
	size := sizeOf(p.task.Calls)
	if size <= g.c.cfg.whole {
		p.bytes = appendTask(p.bytes, p.task)
		return nil
	}
	if g.c.format() < FormatParts {
		if p.bytes = appendTask(p.bytes, p.task); len(p.bytes) > maxTaskOld {
			return tooLarge(p.task, len(p.bytes), maxTaskOld)
		}
		return nil
	}
	p.large, p.bytes = segment(p.task), appendGathered(p.bytes, p.task)
	if p.large.size > maxTask {
		return tooLarge(p.task, p.large.size, maxTask)
	}
	return nil
}

// landed goes on behind a piece.
func (x *execution) landed(p *proposal) {
	x.mu.Lock()
	done := x.done
	over, err := x.next(p.err)
	x.mu.Unlock()
	if over {
		done(x, err)
	}
}

// next takes what came of a piece, and reports whether the task is over.
func (x *execution) next(err error) (over bool, _ error) {
	if x.gone {
		return false, nil
	}
	t := x.task
	if err == nil {
		t.Stale = x.piece.Stale
		x.begun += x.piece.Done
		t.Done, t.Failed, t.Replayed, t.Parked = x.begun, x.piece.Failed, x.piece.Replayed, x.piece.Parked
		if t.Stale || t.Failed >= 0 || t.Replayed || t.Parked != nil || x.begun >= len(x.calls) || (t.Enough != nil && t.Enough()) {
			return true, nil
		}
		if err = x.propose(); err == nil {
			return false, nil
		}
	}
	if x.begun > 0 && !fault.Is(err, fault.OutcomeUnknown) { // what is done stays done, and has its answers
		return true, nil
	}
	return true, err
}

// abandon gives a task up, unless its answer has just come.
func (x *execution) abandon(cause error) error {
	x.mu.Lock()
	x.gone = true
	x.mu.Unlock()
	g := x.g
	g.mu.Lock()
	x.p.task, x.read.task = nil, nil
	begun := x.p.flying || x.begun > 0
	g.mu.Unlock()
	select {
	case err := <-x.ready:
		x.recycle()
		return err
	default:
	}
	if !begun {
		return fault.Wrap(fault.Timeout, "replication.execute", cause, "the request's deadline passed before it was begun")
	}
	return fault.Wrap(fault.OutcomeUnknown, "replication.execute", cause, "the outcome is unknown: the request's deadline passed while it was under way")
}

// maxCalls is how many calls are proposed together, for callers that want to be asked whether it is enough.
const maxCalls = 64

// pieces returns how many calls of a task are proposed together: all of them, but that the caller is asked now and then
// whether it is enough, which those are in between that fit into an entry, and that who waits for what a call brings is served
// before the next.
func (g *Group) pieces(t *engine.Task, calls []engine.Call) int {
	n := len(calls)
	if t.Enough != nil {
		n = g.fit(calls[:min(n, maxCalls)])
	}
	if g.waits.Load() == 0 {
		return n
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.parked[t.Cache] == nil {
		return n
	}
	for i := range calls[:n] {
		if calls[i].Command.Flags&engine.Writes != 0 {
			return i + 1
		}
	}
	return n
}

// fit is how many of the first calls go into one entry, one at least.
func (g *Group) fit(calls []engine.Call) int {
	size := 0
	for i := range calls {
		if size += callSize(&calls[i]); size > g.c.cfg.whole {
			return max(i, 1)
		}
	}
	return len(calls)
}

// propose puts a task in line for the log. After an error it does not stand there.
func (g *Group) propose(p *proposal) error {
	p.at, p.counted = time.Duration(g.c.now.Load()), int64(len(p.bytes))
	if p.large != nil {
		p.counted = int64(p.large.size)
		if !g.bulk.add(p.counted) {
			return errFull
		}
	} else if g.waiting.Add(p.counted) > maxQueued {
		g.waiting.Add(-p.counted)
		return errFull
	}
	in := &g.inbox
	in.mu.Lock()
	closed := in.closed
	if !closed {
		in.proposals = append(in.proposals, p)
	}
	in.mu.Unlock()
	if closed {
		g.uncount(p)
		return errGone
	}
	g.seek()
	return nil
}

var errGone = fault.Wrap(fault.Unavailable, "replication.execute", &NotLeader{}, "this replica is not here any more")

// own proposes a task of the leader's. The caller holds the lock; done is told without it.
func (g *Group) own(t *engine.Task, done func(*proposal)) {
	p := &proposal{task: t, done: done, at: g.c.cfg.Steady()}
	if err := g.encode(p); err != nil { // it was not larger when it came
		g.finish(p, err)
		return
	}
	g.enqueue(p)
}

// An ask is a waiter whose command is being tried again.
type ask struct {
	task   *engine.Task
	ending bool         // its time was up meanwhile
	refuse *fault.Error // it is to hear this, if it still waits
	gone   bool         // nobody is there any more
}

// askAtOnce is how many of those who wait for one key are asked together.
const askAtOnce = 16

// serve answers those who wait for keys that were touched, in the order in which they came: readers at once, the others
// through the log. The caller holds the lock.
func (g *Group) serve() {
	if !g.settled {
		g.ready = nil
		for _, in := range g.interests {
			in.ready = false
		}
		return
	}
	for len(g.ready) > 0 {
		at := g.ready[0]
		g.ready = g.ready[1:]
		in := g.interests[at]
		if in == nil {
			continue
		}
		in.ready = false
		g.serveKey(at, in)
	}
	g.ready = nil
}

func (g *Group) serveKey(at spot, in *interest) {
	asked := 0
	for _, w := range slices.Clone(in.waiting) {
		if w.Over || g.asks[w] != nil {
			continue
		}
		kind := g.p.Has(at.cache, at.db, []byte(at.key), g.now())
		if kind == "" && in.gone == 0 {
			return
		}
		if kind != w.Wait.Kind && !w.Wait.Gone {
			continue
		}
		if !w.Task.Writes() {
			err := g.inquire(&w.Task)
			if err != nil {
				w.Refuse(fault.From(err))
			}
			if w.Task.Parked == nil {
				g.leave(w)
				g.served = append(g.served, w)
			}
			continue
		}
		if asked++; asked > askAtOnce {
			return // serveAgain goes on
		}
		g.askWaiter(at, w, true)
	}
}

// askWaiter proposes the command of a waiter once more; with waits it may go on waiting.
func (g *Group) askWaiter(at spot, w *engine.Waiter, waits bool) {
	a := &ask{}
	g.asks[w] = a
	t := w.Task
	t.Waits, a.task = waits, &t
	g.own(&t, func(p *proposal) { g.inside(func() { g.asked(at, w, a, p) }) })
}

// asked takes what came of asking a waiter. The caller holds the lock.
func (g *Group) asked(at spot, w *engine.Waiter, a *ask, p *proposal) {
	delete(g.asks, w)
	if a.gone || w.Over {
		return
	}
	switch {
	case p.err != nil:
		w.Refuse(fault.From(p.err))
	case p.task.Parked != nil && a.refuse != nil:
		w.Refuse(a.refuse)
	case p.task.Parked != nil && a.ending:
		g.askWaiter(at, w, false)
		return
	case p.task.Parked != nil:
		if in := g.interests[at]; in != nil && g.p.Has(at.cache, at.db, []byte(at.key), g.now()) == w.Wait.Kind {
			g.serveLater(at, in, w)
		}
		return
	}
	g.leave(w)
	g.served = append(g.served, w)
}

// serveLater goes on with those behind a waiter that has to wait on.
func (g *Group) serveLater(at spot, in *interest, behind *engine.Waiter) {
	i := slices.Index(in.waiting, behind)
	if i < 0 {
		return
	}
	for _, w := range in.waiting[i+1:] {
		if !w.Over && g.asks[w] == nil && w.Task.Writes() {
			g.askWaiter(at, w, true)
			return
		}
	}
}

// inside has fn done under the lock, by a worker, before anything that comes later.
func (g *Group) inside(fn func()) {
	g.inbox.mu.Lock()
	g.inbox.calls = append(g.inbox.calls, fn)
	g.inbox.mu.Unlock()
	g.wake()
}

// refuseWaiters ends all waits but those whose answer is on the way. The caller holds the lock.
func (g *Group) refuseWaiters(e *fault.Error) {
	g.refuse(e, func(w *engine.Waiter) bool { return g.asks[w] != nil })
}

// Release ends a wait before anything was found: with an error, or, when that is nil, with the answer of a command that
// nobody waits for. It reports whether the waiter was still waiting.
func (g *Group) Release(w *engine.Waiter, e *fault.Error) bool {
	g.mu.Lock()
	defer g.tellAll()
	if !waits(w) {
		return false
	}
	if a := g.asks[w]; a != nil {
		a.ending, a.refuse = e == nil, e
		return true
	}
	switch {
	case e != nil:
		w.Refuse(e)
	case g.broken:
		w.Refuse(errBroken)
	case w.Task.Writes():
		g.askWaiter(spot{}, w, false)
		g.wake()
		return true
	default:
		w.Task.Waits = false
		if err := g.inquire(&w.Task); err != nil {
			w.Refuse(fault.From(err))
		}
	}
	g.leave(w)
	g.served = append(g.served, w)
	return true
}

// Abandon forgets a waiter that is gone, also one that is about to wait. Nobody hears of it.
func (g *Group) Abandon(w *engine.Waiter) {
	g.mu.Lock()
	defer g.mu.Unlock()
	w.Gone = true
	if a := g.asks[w]; a != nil {
		a.gone, a.task.Reply = true, nil
	}
	if waits(w) {
		g.leave(w)
	}
}

// Watch begins to watch a key. Unwatch has to be called once. Where this replica does not lead, no transaction will come
// about.
func (g *Group) Watch(cache engine.CacheID, db int, key []byte) engine.Watch {
	w := g.desk.Watch(cache, db, key).(*Watch)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.settled {
		w.dirty.Store(true)
	}
	return w
}

// expire answers those who have waited for too long. The caller holds the lock.
func (g *Group) expire() {
	now := g.c.cfg.Steady()
	patience := time.Duration(patienceTicks*g.c.cfg.Grace) * g.c.cfg.Tick
	for len(g.queue) > 0 && now-g.queue[0].at > patience {
		g.finish(g.queue[0], errSlow)
		g.queue = g.queue[1:]
	}
	for _, f := range g.flights {
		if now-f.at > patience {
			for i, p := range f.tasks {
				if p != nil {
					p.task, f.tasks[i] = nil, nil // R5
					g.finish(p, errUnknown)
				}
			}
		}
	}
	g.expireLarges(now - patience)
	g.lease.expire(g, now-patience)
}

// patienceTicks, in graces, is how long a task waits for the other replicas: long enough for a failover, and for an answer
// from the leader after.
const patienceTicks = 5

// Configure says what a cache's settings have to be here, nil for a cache that has to go. The leader sees to it, now or when
// it has become one.
func (g *Group) Configure(id engine.CacheID, s *engine.Settings) {
	g.inside(func() {
		g.wants[id], g.unsettled = s, true
		g.settle()
	})
}

// settle proposes what wants asks for. The caller holds the lock.
func (g *Group) settle() {
	if !g.settled || !g.unsettled {
		return
	}
	g.unsettled = false
	ids := make([]engine.CacheID, 0, len(g.wants))
	for id := range g.wants {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b engine.CacheID) int { return bytes.Compare(a[:], b[:]) })
	again := func(p *proposal) {
		if p.err != nil {
			g.inside(func() { g.unsettled = true })
		}
	}
	for _, id := range ids {
		want := g.wants[id]
		has, ok := g.p.SettingsOf(id)
		switch {
		case want == nil && ok:
			g.own(engine.DropTask(id), again)
		case want == nil:
			delete(g.wants, id)
		case !ok || has != *want:
			g.own(engine.ConfigureTask(id, *want), again)
		}
	}
}

// tend removes items that have expired, through the log, gives memory back, and has some made ready. The caller holds the lock.
func (g *Group) tend() {
	if ahead := g.p.Ahead(); ahead != nil {
		go memory.Prepare(ahead) // beside whatever goes on; it ends in a fraction of a millisecond
	}
	if !g.p.Idle() {
		g.p.Maintain(maintainSteps)
	}
	if !g.settled || g.sweeping {
		return
	}
	now := g.now()
	if !g.p.Due(now) {
		return
	}
	if t := g.p.Sweep(now, sweepBatch); t != nil {
		g.sweeping = true
		g.own(t, func(*proposal) { g.inside(func() { g.sweeping = false; g.tend() }) })
	}
}
