package hop

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

// A client has asked other nodes, and waits for what they say.
//
//	C1: a request stands in asked from before its message is sent until its caller has its answer, and on while its
//	    caller waits in a blocking command; waiters holds exactly the latter
//	C2: the encoder of a request's caller is written to by one goroutine at a time: the one that took the request from
//	    state open to state taken, or the caller itself
type client struct {
	*Hop

	mu      sync.Mutex
	last    uint64 // number that was given to a request or a watch
	asked   map[uint64]*asked
	waiters map[*engine.Waiter]*asked
	watches map[uint64]*Watch
	hints   map[placement.PartitionID]string // who leads, as far as somebody said
	left    map[string]bool                  // nodes that are about to end, and are asked for nothing more
	seen    map[engine.CacheID]bool          // caches whose keys are observed

	seed   maphash.Seed // of the order in which equally near nodes are asked
	clock  atomic.Int64 // milliseconds: eventual reads are at this time at the earliest
	alone  sync.Map     // of placement.PartitionID: when no leader could be had
	delays delays
}

// state is how far a request has come.
type state uint8

const (
	open  state = iota // its answer is waited for
	taken              // its answer is being handed over
	over               // its caller has its answer, or has given up
)

// asked is a request on its way. Its fields are client.mu's, but for what is read after done.
type asked struct {
	id     uint64
	to     string
	task   *engine.Task // nil for a small question
	waiter *engine.Waiter
	origin any // the task's: who waits outlives the task
	state  state
	parked bool // its caller waits in a blocking command
	served bool // and has been served

	done   chan struct{} // one signal when the answer is there
	told   func(error)   // is told then instead, of a request that was begun; nil otherwise
	part   placement.PartitionID
	err    error
	broke  bool // the link broke: what became of the request is not known
	leader string
	not    bool   // the node asked does not lead
	said   []byte // what a small question, or one that is kept, was answered with

	kept   bool // its answer is kept, for a caller who asks others as well
	answer answer
	sent   time.Time
}

var askedPool = sync.Pool{New: func() any { return &asked{done: make(chan struct{}, 1)} }}

// begin makes a request known. The caller sends it.
func (c *client) begin(to string, t *engine.Task) *asked {
	a := askedPool.Get().(*asked)
	a.to, a.task = to, t
	if t != nil {
		a.waiter, a.origin = t.Waiter, t.Origin
	}
	if a.waiter != nil {
		a.waiter.Task = engine.Task{Cache: t.Cache, DB: t.DB, Origin: t.Origin, Reply: a.waiter.Reply, Calls: []engine.Call{t.Calls[0].Clone()}}
		a.waiter.Over = true // for a Local: it does not wait there
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	a.id = c.last
	c.asked[a.id] = a
	if a.waiter != nil {
		c.waiters[a.waiter] = a
	}
	return a
}

// drop forgets a request that is over and whose caller does not wait. The caller holds the lock.
func (c *client) drop(a *asked) {
	if a.state == over && (!a.parked || a.served) {
		delete(c.asked, a.id)
	}
	if a.waiter != nil && (a.served || (a.state == over && !a.parked)) && c.waiters[a.waiter] == a {
		delete(c.waiters, a.waiter)
	}
}

// give returns a request's memory, once nobody can know of it any more.
func (a *asked) give() {
	if a.waiter != nil {
		return // the leader may still have something to say to it
	}
	*a = asked{done: a.done}
	askedPool.Put(a)
}

// wait returns when the answer is there. It reports false, and the request is over, when ctx ends before.
func (c *client) wait(ctx context.Context, a *asked) bool {
	select {
	case <-a.done:
		return true
	case <-ctx.Done():
	}
	c.mu.Lock()
	if a.state != open {
		c.mu.Unlock()
		<-a.done // the answer is being handed over
		return true
	}
	a.state = over
	c.drop(a)
	c.mu.Unlock()
	if a.waiter != nil {
		c.links.Send(a.to, kind, head(nil, mAbandon, a.id))
	}
	return false
}

// finish ends a request in state taken.
func (c *client) finish(a *asked) {
	c.mu.Lock()
	a.state = over
	c.drop(a)
	c.mu.Unlock()
	if a.told != nil {
		c.tell(a)
		return
	}
	a.done <- struct{}{}
}

// take takes a request, of which the answer has come, for handing it over; nil when nobody waits for it.
func (c *client) take(from string, id uint64) *asked {
	c.mu.Lock()
	defer c.mu.Unlock()
	a := c.asked[id]
	if a == nil || a.to != from || a.state != open {
		return nil
	}
	a.state = taken
	return a
}

// answered hands over an answer.
func (c *client) answered(from string, id uint64, p *parser) {
	a := c.take(from, id)
	if a == nil {
		return
	}
	var said answer
	switch {
	case !said.read(p):
		a.err = fault.Wrap(fault.OutcomeUnknown, "hop.answer", errMalformed, "the answer of the node that leads this part of the cache was lost")
	case said.says&saysElsewhere != 0:
		a.not, a.leader = true, string(said.rest)
	case said.says&saysMoved != 0:
		rest := parser{b: said.rest}
		a.err = rest.moved().Fault()
	case said.says&saysError != 0:
		rest := parser{b: said.rest}
		a.err = rest.fault()
	case a.task == nil || a.kept:
		a.said = slices.Clone(said.rest)
		a.answer = said
	default:
		t := a.task
		t.Done, t.Failed = said.done, said.failed
		t.Answered(said.was, said.age)
		t.Replayed, t.Stale = said.says&saysReplayed != 0, said.says&saysStale != 0
		if said.says&saysParked != 0 {
			c.mu.Lock()
			a.parked = true
			c.mu.Unlock()
			t.Parked = &engine.Parked{}
		}
		if err := engine.ReplayBytes(said.rest, t.Reply); err != nil {
			a.err = fault.Wrap(fault.Internal, "hop.answer", err, "")
		}
	}
	c.finish(a)
}

// served hands its answer to a caller that waited.
func (c *client) served(from string, id uint64, p *parser, moved bool) {
	c.mu.Lock()
	a := c.asked[id]
	if a == nil || a.to != from || a.waiter == nil || a.served {
		c.mu.Unlock()
		return
	}
	a.parked, a.served = true, true
	c.drop(a)
	c.mu.Unlock()
	if moved {
		a.waiter.Refuse(p.moved().Fault())
		a.waiter.Tell()
		return
	}
	if err := engine.ReplayBytes(p.b, a.waiter.Reply); err != nil {
		a.waiter.Refuse(fault.Wrap(fault.Internal, "hop.served", err, ""))
	}
	a.waiter.Done(a.waiter)
}

// asks answers what a script at the leader wants to know: may it carry out a command?
func (c *client) asks(from string, id uint64, p *parser) {
	question, count := p.uvarint(), p.count()
	args := make([][]byte, 0, count)
	for range count {
		args = append(args, p.bytes())
	}
	cmd := engine.Named(p.bytes())
	verdict := binary.AppendUvarint(head(nil, mVerdict, id), question)
	a := c.take(from, id)
	if a == nil {
		return
	}
	switch {
	case p.bad || cmd == nil || a.task == nil || a.task.Allowed == nil:
		verdict = appendFault(append(verdict, 1), fault.New(fault.NotSupported, "hop.asks", "the gateway does not know this command yet"))
	default:
		if err := a.task.Allowed(cmd, args); err != nil {
			verdict = appendFault(append(verdict, 1), fault.From(err))
		} else {
			verdict = append(verdict, 0)
		}
	}
	c.mu.Lock()
	a.state = open
	broke := a.broke
	if broke {
		c.fail(a)
	}
	c.mu.Unlock()
	if !broke {
		c.links.Send(from, kind, verdict)
	}
}

// fail ends a request whose link broke. The caller holds the lock.
func (c *client) fail(a *asked) {
	a.broke = true
	if a.state == open { // whoever has taken it sees that it broke, or has its answer
		a.state = over
		c.drop(a)
		if a.told != nil {
			go c.tell(a) // without the lock
			return
		}
		a.done <- struct{}{}
	}
}

// brokeOff ends what depends on a link that broke.
func (c *client) brokeOff(peer string, incoming bool) {
	var waiting []*asked
	c.mu.Lock()
	for _, a := range c.asked {
		switch {
		case a.to != peer:
		case a.parked && !a.served:
			a.served = true
			c.drop(a)
			waiting = append(waiting, a)
		default:
			c.fail(a)
		}
	}
	if !incoming { // the node has forgotten what it was told to watch
		for _, w := range c.watches {
			if w.to == peer {
				w.dirty.Store(true)
			}
		}
	}
	for part, leader := range c.hints {
		if leader == peer {
			delete(c.hints, part)
		}
	}
	c.mu.Unlock()
	for _, a := range waiting {
		c.links.Send(peer, kind, head(nil, mAbandon, a.id))
		a.waiter.Refuse(fault.New(fault.OutcomeUnknown, "hop.wait", "the link to the node where this command waited broke"))
		a.waiter.Done(a.waiter)
	}
	c.lost() // of what it tells something may be missing, or it has forgotten whom to tell
}

// lost takes all keys that are observed for changed.
func (c *client) lost() {
	if c.listener == nil {
		return
	}
	c.mu.Lock()
	caches := make([]engine.CacheID, 0, len(c.seen))
	for id := range c.seen {
		caches = append(caches, id)
	}
	c.mu.Unlock()
	for _, id := range caches {
		c.listener.Flushed(id, 0)
	}
	if len(caches) > 0 {
		c.listener.Settled()
	}
}

// originOf is who asked for what an event tells of, nil for nobody of this gateway.
func (c *client) originOf(from string, id uint64) any {
	if id == 0 {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.asked[id]; a != nil && a.to == from {
		return a.origin
	}
	return nil
}

// hint remembers who leads a partition; "" forgets it.
func (c *client) hint(part placement.PartitionID, leader string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if leader == "" {
		delete(c.hints, part)
		return
	}
	c.hints[part] = leader
}

// unhint forgets that a node leads a partition, which cannot be reached: others, who have not heard of its end yet, may have
// named it after the link broke.
func (c *client) unhint(part placement.PartitionID, node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hints[part] == node {
		delete(c.hints, part)
	}
}

// target is the node to ask, "" when no other hosts the partition. A replica here knows best: it hears of a new leader while
// the old one has only fallen silent.
func (c *client) target(part placement.PartitionID, attempt int) string {
	near := ""
	if attempt%2 == 0 {
		near = known(c.locals(part))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, leader := range [...]string{near, c.hints[part]} {
		if leader != "" && leader != c.self && !c.left[leader] {
			return leader
		}
	}
	record, ok := c.place.Partition(part)
	if !ok {
		return ""
	}
	some, last := slices.Concat(record.Replicas, record.Leaving), "" // who is leaving may still lead
	for i := range some {
		switch r := some[(i+attempt)%len(some)]; {
		case r.Node == c.self:
		case c.left[r.Node]:
			last = r.Node // it may come back
		default:
			return r.Node
		}
	}
	return last
}

// leaves notes that a node is about to end, or is here again.
func (c *client) leaves(node string, gone bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left[node] = true; !gone {
		delete(c.left, node)
	}
}

// reach is how long a request waits for a link before another node is tried.
const reach = 50 * time.Millisecond

// ask has a node carry out a task. again says that the task may be tried again: it was not carried out, or it does no harm
// when it is carried out twice. found says that the node is one to ask again.
func (c *client) ask(ctx context.Context, to string, part placement.PartitionID, t *engine.Task) (again bool, err error) {
	watches, stands := c.numbersOf(t, to)
	if !stands {
		t.Stale, t.Done, t.Failed = true, 0, -1
		return false, nil
	}
	within := time.Duration(0)
	if end, ok := ctx.Deadline(); ok {
		if within = time.Until(end); within < time.Millisecond {
			return false, fault.Wrap(fault.Timeout, "hop.ask", context.DeadlineExceeded, "the request's deadline passed before it was begun")
		}
	}
	c.plainly(t)
	a := c.begin(to, t)
	buf := buffers.Get().(*[]byte)
	message := appendRequest((*buf)[:0], a.id, part, c.revision(), within, t, watches)
	err = c.post(ctx, to, message, reach)
	if cap(message) <= maxPooled {
		*buf = message
		buffers.Put(buf)
	}
	if err != nil {
		c.mu.Lock()
		sure := a.state == open
		a.state = over
		c.drop(a)
		c.mu.Unlock()
		if !sure {
			<-a.done
		}
		c.unhint(part, to)
		return true, fault.Wrap(fault.Unavailable, "hop.ask", err, "the node that leads this part of the cache cannot be reached")
	}
	if !c.wait(ctx, a) {
		if t.Writes() {
			return false, unknown(t, ctx.Err())
		}
		return false, fault.Wrap(fault.Timeout, "hop.ask", ctx.Err(), "the request's deadline passed before it was answered")
	}
	again, err = c.outcome(a, part, t)
	a.give()
	return again, err
}

// outcome is what came of a request that is over, and whether it may be tried again.
func (c *client) outcome(a *asked, part placement.PartitionID, t *engine.Task) (again bool, err error) {
	switch {
	case a.not:
		c.hint(part, a.leader)
		return true, errNoLeader
	case a.broke:
		c.hint(part, "")
		return !t.Writes() || t.Once != nil, unknown(t, errBroke)
	}
	return false, a.err
}

var errNoLeader = fault.New(fault.Unavailable, "hop.ask", "no node leads this part of the cache at the moment")

// start is ask that does not wait: told is told what came of it. It reports false, and has done nothing, when the message cannot be
// sent at once.
func (c *client) start(to string, part placement.PartitionID, t *engine.Task, keep func(), told func(error)) bool {
	c.plainly(t)
	keep()
	a := c.begin(to, t)
	a.told, a.part = told, part
	id := a.id
	buf := buffers.Get().(*[]byte)
	message := appendRequest((*buf)[:0], a.id, part, c.revision(), 0, t, nil)
	sent := len(message) <= pieceBytes && c.links.Send(to, kind, message)
	if cap(message) <= maxPooled {
		*buf = message
		buffers.Put(buf)
	}
	if sent {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked[id] != a {
		return true // the link broke: told hears of it, and the memory is another's
	}
	a.state = over
	c.drop(a)
	return false
}

// tell tells who began a request that it is over.
func (c *client) tell(a *asked) {
	again, err := c.outcome(a, a.part, a.task)
	told := a.told
	a.give()
	if again {
		err = &retried{err}
	}
	told(err)
}

// A retried error is one of a task that was begun at another node, and may be given to Execute.
type retried struct{ error }

func (e *retried) Unwrap() error { return e.error }

// plainly takes out of a task what some node does not read yet.
func (c *client) plainly(t *engine.Task) {
	if t.Slots != nil && c.format() < replication.FormatParts {
		t.Slots, t.Exactly = nil, false
	}
}

var errBroke = errors.New("hop: the link broke")

// unknown is the error of a task of which nobody knows what has become.
func unknown(t *engine.Task, cause error) error {
	if !t.Writes() {
		return fault.Wrap(fault.Unavailable, "hop.ask", cause, "the link to the node that leads this part of the cache broke")
	}
	return fault.Wrap(fault.OutcomeUnknown, "hop.ask", cause, "the node that leads this part of the cache did not answer: the write may or may not have been done")
}

// question asks a node something small about a partition, whoever leads it, and returns what it says.
func (c *client) question(part placement.PartitionID, message func(id uint64) []byte) (said []byte, from string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	for attempt := 0; ; attempt++ {
		to := c.target(part, attempt)
		if to == "" {
			return nil, "", errNobody
		}
		a := c.begin(to, nil)
		if err = c.post(ctx, to, message(a.id), reach); err != nil {
			c.mu.Lock()
			a.state = over
			c.drop(a)
			c.mu.Unlock()
			c.unhint(part, to)
		} else if !c.wait(ctx, a) {
			return nil, "", ctx.Err()
		} else if a.not {
			c.hint(part, a.leader)
			err = errNobody
		} else if a.broke {
			err = errBroke
		} else {
			return a.said, to, a.err
		}
		if !pause(ctx, attempt) {
			return nil, "", err
		}
	}
}

var errNobody = fault.New(fault.Unavailable, "hop.target", "no node in reach holds this part of the cache")

// pause waits before another try, longer each time; false when ctx ends before.
func pause(ctx context.Context, attempt int) bool {
	wait := min(time.Millisecond<<min(attempt, 10), 50*time.Millisecond)
	timer := time.NewTimer(wait/2 + rand.N(wait/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// waiting asks how many callers wait in a cache at a leader.
func (c *client) waiting(part placement.PartitionID, cache engine.CacheID) (callers, keys, gone int) {
	said, _, err := c.question(part, func(id uint64) []byte {
		return append(binary.AppendUvarint(head(nil, mWaiting, id), uint64(part)), cache[:]...)
	})
	if err != nil {
		return 0, 0, 0
	}
	p := parser{b: said}
	return int(p.uvarint()), int(p.uvarint()), int(p.uvarint())
}

// stats asks for the numbers of a cache.
func (c *client) stats(part placement.PartitionID, cache engine.CacheID) (s engine.Stats, ok bool) {
	said, _, err := c.question(part, func(id uint64) []byte {
		return append(binary.AppendUvarint(head(nil, mStats, id), uint64(part)), cache[:]...)
	})
	if err != nil || len(said) == 0 {
		return s, false
	}
	return s, json.Unmarshal(said, &s) == nil
}

// release ends a wait at another node. It reports whether this client knows the waiter, and whether it was still waiting.
func (c *client) release(w *engine.Waiter, e *fault.Error) (known, waited bool) {
	c.mu.Lock()
	a := c.waiters[w]
	c.mu.Unlock()
	if a == nil {
		return false, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	q := c.begin(a.to, nil)
	message := binary.AppendUvarint(head(nil, mRelease, q.id), a.id)
	if e != nil {
		message = appendFault(message, e)
	}
	if c.post(ctx, a.to, message, reach) != nil || !c.wait(ctx, q) || q.err != nil {
		return true, false
	}
	return true, len(q.said) == 1 && q.said[0] == 1
}

// abandon forgets a waiter at another node. It reports whether this client knew it.
func (c *client) abandon(w *engine.Waiter) bool {
	c.mu.Lock()
	a := c.waiters[w]
	if a != nil {
		a.parked, a.served = true, true
		c.drop(a)
	}
	c.mu.Unlock()
	if a != nil {
		c.links.Send(a.to, kind, head(nil, mAbandon, a.id))
	}
	return a != nil
}

var _ replication.Listener = (*server)(nil)
