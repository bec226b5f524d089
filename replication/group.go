package replication

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A Group is this process's replica of a partition that has several: a raft group's member with the partition behind it.
//
// All that happens to it goes through drive: messages, ticks and proposals wait in the inbox until a worker, or the caller
// that brought them, takes them from there. Files: group.go drives raft and applies the log; executor.go is what callers
// see; gather.go has groups share their way; large.go is for tasks of many entries; lease.go reads; members.go elects, and changes who belongs to the group;
// snapshot.go brings a replica up that is too far behind.
//
//	R1: rn, and everything below mu, is touched under mu alone
//	R2: flights are in the order of their indexes; each has been proposed by this replica and not been applied here
//	R3: a caller that has given up is written to no more: its proposal has no task
//	R4: a lease is used only in the term and in the leadership that it was confirmed in
//	R5: no flight holds a proposal that is over: its memory is another request's by then
type Group struct {
	desk
	c     *Cluster
	id    groupID
	self  uint64 // the replica's id
	seed  engine.Seed
	w     *worker
	inbox inbox

	scheduled atomic.Bool
	driven    turn
	asleep    atomic.Bool
	restful   atomic.Bool   // asleep, and has nothing to do by itself
	leader    atomic.Uint64 // the replica that leads, 0 for none known
	leadsOn   atomic.Value  // the node that it is on, a string
	waiting   atomic.Int64  // bytes of proposals that are not over
	bulk      bulk          // the same of large ones
	far       atomic.Bool   // the way to the others is long
	heavy     atomic.Int32  // for how many messages more a worker drives it: see Cluster.received
	known     atomic.Uint64 // up to where acknowledgements change nothing: see calm

	held  bool   // it stands in turns.groups, under whose lock this is
	later bool   // it stands in worker.later; under the worker's lock, as what follows
	wave  uint64 // that aloft is of
	aloft int    // tasks under way that count in the wave

	rn         *raft.RawNode
	store      LogStorage
	term       uint64
	state      raft.StateType
	settled    bool // leads, and has applied all that leaders before have committed
	moving     bool // leads, and is handing that over
	applied    uint64
	committed  uint64
	fresh      freshness
	conf       *raftpb.ConfState
	dec        decoder
	entry      []byte // reused, as the next
	submission *raftpb.Message
	relieved   []*engine.Task
	told       map[uint64]uint64 // of a leader: how far each replica has been told that the log is committed, or would have been

	queue     []*proposal // not proposed yet
	larges    []*proposal // wait for sending to be over
	sending   *sending    // nil for none
	litter    bool        // replicas have gathered parts of a task that was given up
	gathering gathering   // a part of the state
	proposed  []*flight   // handed to raft, and not seen in its log yet
	flights   []*flight
	growing   map[engine.CacheID]int64 // what flights may add to caches that evict
	finished  []*proposal              // have their answers, and are told when the lock is released
	pace      pace
	asks      map[*engine.Waiter]*ask
	wants     map[engine.CacheID]*engine.Settings // of caches; nil for one that has to go
	unsettled bool                                // wants may differ from what the partition has
	sweeping  bool
	holds     map[engine.CacheID]*groupHold

	lease   lease
	members members
	ship    shipping
	ledger  *ledger // of a durable group; nil for one in memory
}

// An inbox holds what a group has to deal with.
type inbox struct {
	mu sync.Mutex
	news
	bytes  int // of messages
	closed bool
}

// news is what an inbox holds.
type news struct {
	messages  []delivery
	telling   bool // some of them may be what something waits for
	proposals []*proposal
	tick      bool
	calls     []func() // on the group, under its lock
}

// A delivery is a message, and the node that it came from: who is about to leave is not among the members that a newcomer
// was told of, and has to be answered.
type delivery struct {
	node string
	m    *raftpb.Message
}

// inboxBytes bounds what waits for a group. What does not fit is dropped, as on a network.
const inboxBytes = 32 << 20

// A proposal is a task on its way through the log.
type proposal struct {
	task    *engine.Task // nil when the caller has given up
	bytes   []byte       // as the log has it
	large   *segmented   // of one that goes in parts; bytes says then that it has been gathered
	done    func(*proposal)
	at      time.Duration // when it came
	err     error
	over    bool
	flying  bool
	growth  int64 // what it may add to a cache that evicts
	counted int64 // of its bytes in Group.waiting, or in Group.bulk
	kept    bool  // as Group.growing has it
}

// A flight is an entry that this replica has proposed.
type flight struct {
	index, term uint64
	at          time.Duration // of the last tick
	began       time.Duration // by Config.brisk
	tasks       []*proposal   // as the entry has them; nil for those that nobody waits for
	part        bool          // it is a part of a large task
	wave        uint64        // that it belongs to; 0 for none yet
}

// Bounds of an entry and of what is under way.
const (
	maxJoined   = 64 << 10 // bytes of tasks that share an entry
	maxQueued   = 64 << 20 // bytes that wait for their turn
	maxInFlight = 8        // entries
)

// drive deals with what is in the inbox. It may be called by anybody, and does not wait for another who does so: then what has come
// meanwhile is a worker's. Only workers wait for who holds the lock for other reasons.
func (g *Group) drive(d *driver) {
	if !g.driven.claim() {
		return
	}
	if d.waits {
		g.enter()
	} else if !g.mu.TryLock() {
		g.driven.release()
		g.wakeAgain()
		return
	}
	rest := d.light && g.hasty()
	if !rest {
		g.scheduled.Store(false)
		rest = g.take(d)
	}
	g.weigh()
	d.finished = append(d.finished, g.finished...)
	clear(g.finished)
	g.finished = g.finished[:0]
	g.unlock()
	if g.driven.release() || rest {
		g.wakeAgain()
	}
}

// wakeAgain has a worker look at a group that may be scheduled already, for somebody else.
func (g *Group) wakeAgain() {
	g.scheduled.Store(true)
	g.w.push(g)
}

// hasty reports whether entries may be applied when nothing has come but proposals. The caller holds the lock.
func (g *Group) hasty() bool { return g.ledger != nil || len(g.conf.GetVoters()) < 2 }

// A turn says who may do something: one at a time, and those who come meanwhile are noted.
type turn struct{ state atomic.Int32 }

// The states of a turn.
const (
	turnFree int32 = iota
	turnTaken
	turnWanted // by others meanwhile
)

// claim takes the turn, or notes that it is wanted.
func (t *turn) claim() bool {
	for {
		switch s := t.state.Load(); {
		case s == turnFree && t.state.CompareAndSwap(turnFree, turnTaken):
			return true
		case s == turnTaken && t.state.CompareAndSwap(turnTaken, turnWanted), s == turnWanted && t.state.CompareAndSwap(turnWanted, turnWanted):
			return false
		}
	}
}

// release gives the turn back, and reports whether others wanted it.
func (t *turn) release() bool { return t.state.Swap(turnFree) == turnWanted }

// tellAll releases the lock, and then tells those who have their answers.
func (g *Group) tellAll() {
	finished := g.finished
	g.finished = nil
	g.unlock()
	for _, p := range finished {
		p.done(p)
	}
}

// empty takes what is in the inbox. Of one who drives lightly, rest says that there is more than that.
func (in *inbox) empty(light bool) (all news, rest bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if light && (in.telling || in.tick || len(in.calls) > 0) {
		all.proposals, in.proposals = in.proposals, nil
		return all, true
	}
	all, in.news, in.bytes = in.news, news{}, 0
	return all, false
}

// take deals with what is in the inbox, and reports whether it has left some. Messages go before ticks: what has come must not count
// as silence.
func (g *Group) take(d *driver) (rest bool) {
	out := &d.out
	in, rest := g.inbox.empty(d.light)
	for _, p := range in.proposals {
		g.enqueue(p)
	}
	if g.broken {
		g.refuseAll(errBroken)
		return rest
	}
	defer g.fence()
	for _, m := range in.messages {
		if g.abstain(m.m) {
			continue
		}
		if g.members.nodes[m.m.GetFrom()] != m.node {
			g.members.nodes[m.m.GetFrom()] = m.node
		}
		g.step(m.m)
	}
	for _, call := range in.calls {
		call()
	}
	if in.tick {
		g.tick()
	}
	for {
		g.ask()
		g.form()
		said := g.waitsForDisk() && g.say(out)
		ready := g.rn.HasReady() // which is not for nothing: once a turn
		if !ready && !said {
			break
		}
		if !ready {
			continue
		}
		rd := g.rn.Ready()
		g.handle(&rd, out)
		if !g.waitsForDisk() {
			g.rn.Advance(rd)
		}
	}
	if g.waitsForDisk() {
		g.listenForSync()
	}
	g.tellHolds()
	if g.state != raft.StateLeader && len(g.queue)+len(g.larges) > 0 {
		g.refuseQueue(g.notLeader())
	}
	g.ship.forget()
	g.trim()
	return rest
}

// refuseQueue answers those whose tasks have not been proposed.
func (g *Group) refuseQueue(err error) {
	for _, p := range g.queue {
		g.finish(p, err)
	}
	g.queue = nil
	g.refuseLarges(err)
}

// fence turns a broken invariant, raft's included, into the end of this replica, not of the process: its neighbours and its
// peers go on (L2).
func (g *Group) fence() {
	r := recover()
	if r == nil {
		return
	}
	g.broken = true
	g.log.Error("a replica stopped after an internal error", "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
	g.refuseAll(errBroken)
	g.follows(0)
	g.c.fenced(g)
}

// refuseAll answers everybody who waits for this replica.
func (g *Group) refuseAll(err error) {
	g.endHolds()
	g.refuseQueue(err)
	for _, f := range append(g.flights, g.proposed...) {
		g.loseFlight(f, errUnknown)
	}
	g.loseSteps()
	g.flights, g.proposed = nil, nil
	g.refuseReaders(err)
	g.refuseWaiters(fault.From(err))
}

// step hands raft a message.
func (g *Group) step(m *raftpb.Message) {
	g.members.heard(g, m)
	g.members.asked(g, m)
	g.stamped(m)
	if err := g.rn.Step(m); err != nil && g.c.cfg.Log != nil {
		g.log.Debug("a message was ignored", "type", m.GetType(), "from", m.GetFrom(), "error", err)
	}
	g.members.outruns(g, m)
}

// handle does what raft asks for: keep, send, apply, in this order.
func (g *Group) handle(rd *raft.Ready, out *outbox) {
	if !raft.IsEmptySnap(rd.Snapshot) {
		g.install(rd.Snapshot)
	}
	if err := g.store.Append(rd.Entries); err != nil {
		panic(err)
	}
	was, newTerm := g.state, false
	if !raft.IsEmptyHardState(rd.HardState) {
		if err := g.store.SetHardState(rd.HardState); err != nil {
			panic(err)
		}
		g.committed = rd.HardState.GetCommit()
		if t := rd.HardState.GetTerm(); t != g.term {
			g.term, newTerm = t, true
			if g.state == raft.StateLeader {
				g.descend()
				g.state = raft.StateFollower
			}
		}
	}
	if g.lags() {
		g.jot(rd)
	}
	if rd.SoftState != nil {
		g.turn(rd.SoftState)
	}
	if newTerm || rd.SoftState != nil {
		g.members.turned(g, was, newTerm)
	}
	g.see(rd.Entries)
	var applied []*raftpb.Message
	for _, m := range rd.Messages {
		switch m.GetTo() {
		case raft.LocalAppendThread:
			g.persist(rd, m)
		case raft.LocalApplyThread:
			applied = m.GetResponses()
		default:
			g.send(m, out)
		}
	}
	for _, e := range rd.CommittedEntries {
		g.apply(e)
	}
	for _, m := range applied {
		_ = g.rn.Step(m) // as RawNode.Advance has it
	}
	g.confirm(rd.ReadStates)
	g.serve()
}

// follows notes which replica leads, 0 for none.
func (g *Group) follows(lead uint64) {
	g.leader.Store(lead)
	g.leadsOn.Store(g.members.nodes[lead])
}

// turn notes who leads.
func (g *Group) turn(ss *raft.SoftState) {
	was := g.state == raft.StateLeader
	g.state = ss.RaftState
	g.follows(ss.Lead)
	switch is := g.state == raft.StateLeader; {
	case is && !was:
		g.ascend()
	case was && !is:
		g.descend()
	}
}

// ascend begins to lead. Before the first entry of its term has been applied the leader does not know what is committed.
func (g *Group) ascend() {
	g.members.followed = map[uint64]time.Duration{}
	g.settled, g.moving, g.sweeping, g.unsettled = false, false, false, true
	g.lease.reset()
	clear(g.told) // and nobody has been told anything in this term
	if g.lags() {
		g.ledger.lag.led(g.c.cfg.Steady())
	}
	g.log.Info("leads", "term", g.term)
}

// descend ends leading. What was not proposed has not happened; what is in flight may have, and is answered when this replica
// learns what came of it.
func (g *Group) descend() {
	g.abdicated()
	g.settled, g.moving, g.sweeping = false, false, false
	g.lease.reset()
	g.endHolds()
	err := g.notLeader()
	g.refuseQueue(err)
	for _, f := range g.proposed { // they never came into the log
		g.loseFlight(f, err)
	}
	g.proposed = nil
	g.loseSteps()
	g.refuseReaders(err)
	g.refuseWaiters(fault.From(err))
	g.soil()
	g.endExports()
	g.ship.stop(g)
	g.log.Info("leads no more", "term", g.term)
}

// see finds out which indexes the entries have got that were proposed.
func (g *Group) see(entries []*raftpb.Entry) {
	for _, e := range entries {
		if len(g.proposed) == 0 {
			return
		}
		if g.state == raft.StateLeader && e.GetTerm() == g.term && e.GetType() == raftpb.EntryNormal && len(e.GetData()) > 0 {
			f := g.proposed[0]
			g.proposed = g.proposed[1:]
			f.index, f.term = e.GetIndex(), e.GetTerm()
			g.flights = append(g.flights, f)
		}
	}
}

func (g *Group) send(m *raftpb.Message, out *outbox) {
	if m.GetType() == raftpb.MsgSnap {
		g.ship.begin(g, m)
		return
	}
	node := g.members.nodes[m.GetTo()]
	if node == "" || !travels(m.GetType()) || g.onlyTells(m) {
		return
	}
	g.stamp(m)
	out.add(node, g.id, m)
}

// onlyTells reports whether a message says no more than how far the log is committed. It is left out: the next entry says
// that too, or at the latest the next heartbeat, and a message, its answer and what they wake cost as much as an entry. A
// message without entries that says nothing new is another matter: it finds out what a follower lacks.
func (g *Group) onlyTells(m *raftpb.Message) bool {
	if m.GetType() != raftpb.MsgApp || g.members.changing != 0 || !g.complete() { // who is removed gets no heartbeat
		return false
	}
	told := g.told[m.GetTo()]
	g.told[m.GetTo()] = m.GetCommit()
	return len(m.GetEntries()) == 0 && told != 0 && m.GetCommit() > told
}

// apply carries out one committed entry.
func (g *Group) apply(e *raftpb.Entry) {
	f := g.landing(e)
	g.gathering.until(e.GetTerm())
	switch e.GetType() {
	case raftpb.EntryConfChangeV2:
		var cc raftpb.ConfChangeV2
		if err := proto.Unmarshal(e.GetData(), &cc); err != nil {
			panic(err)
		}
		g.conf = g.rn.ApplyConfChange(&cc)
		g.members.changed(g)
	case raftpb.EntryConfChange:
		panic("replication: a change of members in a form that nobody proposes")
	case raftpb.EntryNormal:
		if len(e.GetData()) == 0 {
			if !g.settled && g.state == raft.StateLeader && e.GetTerm() == g.term {
				g.settled = true
				g.tellAnew()
			}
			break
		}
		if e.GetData()[0] == entryPart {
			g.gather(e.GetTerm(), e.GetData(), f)
			break
		}
		g.carryOut(e, f)
	}
	g.applied = e.GetIndex()
	g.fresh.applied(g.applied)
	g.store.Applied(e.GetIndex(), e.GetTerm(), g.conf)
}

// landing returns the flight that an entry is, nil for another's. A flight whose index another entry has got is lost for
// certain.
func (g *Group) landing(e *raftpb.Entry) *flight {
	for len(g.flights) > 0 && g.flights[0].index <= e.GetIndex() {
		f := g.flights[0]
		g.flights[0] = nil
		g.flights = g.flights[1:]
		if f.index == e.GetIndex() && f.term == e.GetTerm() {
			return f
		}
		g.loseFlight(f, g.notLeader())
	}
	return nil
}

func (g *Group) carryOut(e *raftpb.Entry, f *flight) {
	g.dec.gathered = g.gathering.whole()
	entry, err := g.dec.decode(e.GetData())
	if err != nil {
		panic(err)
	}
	g.origin = nil
	entry.Before = nil
	if f != nil {
		for i, p := range f.tasks {
			if p == nil || p.task == nil {
				continue
			}
			t := entry.Tasks[i]
			t.Reply = p.task.Reply
			if reader, ok := p.task.Origin.(interface {
				Reads(c *engine.Command, args [][]byte)
			}); ok && p.task.Rights != nil {
				t.Allowed = reads(t.Allowed, reader.Reads)
			}
		}
		entry.Before = func(i int) {
			if g.origin = nil; f.tasks[i] != nil && f.tasks[i].task != nil {
				g.origin = f.tasks[i].task.Origin
			}
		}
	}
	g.p.Apply(entry)
	entry.Before, g.origin = nil, nil
	if g.dec.gathered = nil; g.dec.used {
		clear(g.dec.args) // they point into it
		g.gathering = gathering{}
	}
	if f == nil {
		return
	}
	g.pace.landed(g.c.cfg.brisk() - f.began)
	for i, p := range f.tasks {
		if p == nil {
			continue
		}
		if p.task != nil {
			g.answered(p, entry.Tasks[i])
		}
		if g.lags() && steps(entry.Tasks[i:i+1]) {
			g.ledger.lag.steps = append(g.ledger.lag.steps, stepTaken{e.GetIndex(), p})
			continue
		}
		g.finish(p, nil)
	}
}

// reads has a task's origin told what its scripts read, beside whether they may.
func reads(allowed func(*engine.Command, [][]byte) error, tell func(*engine.Command, [][]byte)) func(*engine.Command, [][]byte) error {
	return func(c *engine.Command, args [][]byte) error {
		if allowed != nil {
			if err := allowed(c, args); err != nil {
				return err
			}
		}
		tell(c, args)
		return nil
	}
}

// answered brings a caller what came of its task.
func (g *Group) answered(p *proposal, t *engine.Task) {
	to := p.task
	to.Failed, to.Done, to.Replayed, to.Parked, to.Moved = t.Failed, t.Done, t.Replayed, t.Parked, t.Moved
	if t.Moved != nil {
		p.err = t.Moved.Fault()
	}
	if t.Parked == nil || to.Waiter == nil {
		return
	}
	if !g.settled {
		to.Parked = nil
		p.err = g.notLeader() // to wait changes nothing, so it may be tried again elsewhere
		return
	}
	g.park(to, g.last)
	to.Parked = &to.Waiter.Wait
}

// finish ends a proposal. Whoever waits hears of it when the lock is released.
func (g *Group) finish(p *proposal, err error) {
	if p.over {
		return
	}
	p.over = true
	if s := g.sending; s != nil && s.p == p {
		g.litter, g.sending = g.litter || s.sent > 0, nil
	}
	if p.kept {
		p.kept = false
		if g.growing[p.cache()] -= p.growth; g.growing[p.cache()] <= 0 {
			delete(g.growing, p.cache())
		}
	}
	g.uncount(p)
	if err != nil {
		p.err = err
	}
	g.finished = append(g.finished, p)
}

// uncount has a proposal's bytes wait no more.
func (g *Group) uncount(p *proposal) {
	if p.large != nil {
		g.bulk.Add(-p.counted)
		return
	}
	g.waiting.Add(-p.counted)
}

func (p *proposal) cache() (id engine.CacheID) {
	copy(id[:], p.bytes)
	return id
}

func (g *Group) loseFlight(f *flight, err error) {
	for _, p := range f.tasks {
		if p != nil {
			g.finish(p, err)
		}
	}
}

// form makes entries of what waits, as many as may be in flight. Everything that waits shares an entry, up to maxJoined; what is
// larger than maxWhole goes in parts, each between two entries of others.
func (g *Group) form() {
	for more := g.settled && !g.moving; more; {
		more = g.formPart()
		g.keepBack()
		if len(g.queue) > 0 && g.flying(false) < g.pace.limit() && g.formOne() {
			more = true
		}
	}
}

// formOne proposes one entry, and returns false when that has to wait.
//
// What depends on the state in which its task will be carried out is decided when nothing is in flight: then this state is
// that one. So a transaction that watches keys comes first in its entry and waits for all entries before, and so do tasks
// of a cache that has to evict for them.
func (g *Group) formOne() bool {
	alone := g.flying(false) == 0 // parts change nothing
	size, n, tight := 0, 0, false
	for n < len(g.queue) {
		p := g.queue[n]
		if p.over || p.task == nil {
			g.finish(p, nil)
			g.queue = append(g.queue[:n], g.queue[n+1:]...)
			continue
		}
		if size += len(p.bytes); n > 0 && size > maxJoined {
			break
		}
		if p.task.Guard != nil && (n > 0 || !alone) {
			break
		}
		if p.task.Guard != nil && !p.task.Guard() {
			p.task.Stale = true
			g.finish(p, nil)
			g.queue, size = g.queue[1:], 0
			continue
		}
		full := g.grows(p)
		if full && !alone {
			break
		}
		tight = tight || full
		n++
	}
	if n == 0 {
		return false
	}
	now, seed := g.now(), g.dice.Uint64()
	b := appendEntry(g.entry[:0], now, seed)
	f := &flight{at: time.Duration(g.c.now.Load()), began: g.c.cfg.brisk()}
	if tight {
		for _, relief := range g.relief(now, g.queue[:n]) {
			b = appendTask(b, relief)
			f.tasks = append(f.tasks, nil)
		}
	}
	for _, p := range g.queue[:n] {
		b = append(b, p.bytes...)
		f.tasks = append(f.tasks, p)
	}
	if cap(b) <= 4*maxJoined {
		g.entry = b
	}
	if err := g.submit(b); err != nil {
		return false // a transfer is under way: they wait for what comes of it
	}
	for _, p := range g.queue[:n] {
		p.flying = true
		if p.large != nil {
			g.sending = nil
		}
	}
	g.proposed = append(g.proposed, f)
	clear(g.queue[:n])
	if g.queue = g.queue[n:]; len(g.queue) == 0 {
		g.queue = nil
	}
	g.members.awake(g)
	return true
}

// submit proposes an entry, which is copied.
func (g *Group) submit(b []byte) error {
	if g.submission == nil {
		g.submission = &raftpb.Message{Type: raftpb.MsgProp.Enum(), From: new(g.self), Entries: []*raftpb.Entry{{}}}
	}
	g.submission.Entries[0].Data = b
	return g.rn.Step(g.submission)
}

// grows counts what a task may add to a cache that evicts, and reports whether that takes it over its limit.
func (g *Group) grows(p *proposal) bool {
	id := p.cache()
	room, bounded := g.p.Room(id)
	if !bounded || p.kept {
		return bounded && room < g.growing[id]
	}
	if p.growth = g.p.Growth(p.task, room-g.growing[id]); p.growth == 0 {
		return false
	}
	p.kept = true
	g.growing[id] += p.growth
	return room < g.growing[id]
}

// ahead is how much more room than it needs a cache makes at once, so that the entries after need not wait.
const ahead = maxInFlight * maxJoined

// relief returns the tasks that make room for those that come next, one for each database of a cache: they are looked at
// together, so that no item counts twice.
func (g *Group) relief(now int64, next []*proposal) []*engine.Task {
	g.relieved = g.relieved[:0]
	var all []engine.Task
	for _, p := range next {
		at := -1
		for i := range all {
			if all[i].Cache == p.task.Cache && all[i].DB == p.task.DB {
				at = i
			}
		}
		if at < 0 {
			at, all = len(all), append(all, engine.Task{Cache: p.task.Cache, DB: p.task.DB})
		}
		all[at].Calls = append(all[at].Calls, p.task.Calls...)
	}
	for i := range all {
		s, ok := g.p.SettingsOf(all[i].Cache)
		if !ok {
			continue
		}
		if relief := g.p.RelieveAhead(now, g.dice.Uint64(), &all[i], min(ahead, s.MemoryLimit/64)); relief != nil {
			g.relieved = append(g.relieved, relief)
		}
	}
	return g.relieved
}

// A pace is how many entries may be in flight. Where the way to the others and back is short, one: what comes meanwhile
// shares the next entry, which costs less than one entry each. Where it is long, more.
type pace struct {
	quickest time.Duration // of the last flights
	landings int
	before   time.Duration
}

// paceWindow is over how many flights the quickest is looked for, paceStep how long one takes for each that may be under way.
const (
	paceWindow = 64
	paceStep   = 700 * time.Microsecond
)

func (p *pace) landed(took time.Duration) {
	if p.landings == 0 || took < p.quickest {
		p.quickest = took
	}
	if p.landings++; p.landings == paceWindow {
		p.before, p.landings = p.quickest, 0
	}
}

func (p *pace) limit() int { return 1 + int(min(p.before/paceStep, maxInFlight-1)) }

// trim drops what the log need not hold: it keeps about a fair share of the process's budget, as long as every replica that
// is alive has the rest, or more than it may have to.
func (g *Group) trim() {
	soft, hard := g.c.logShare()
	bytes := g.store.Bytes()
	if bytes <= soft {
		return
	}
	upTo := g.applied
	if g.state == raft.StateLeader && bytes <= hard {
		upTo = min(upTo, g.members.slowest(g), g.ship.holds())
	}
	if err := g.store.Trim(upTo, soft*3/4); err != nil {
		panic(err)
	}
}

// logger is what raft may say: its panics are broken invariants, the rest is of no interest beside our own log.
type logger struct{ log *slog.Logger }

func (logger) Debug(...any)            {}
func (logger) Debugf(string, ...any)   {}
func (logger) Info(...any)             {}
func (logger) Infof(string, ...any)    {}
func (logger) Warning(...any)          {}
func (logger) Warningf(string, ...any) {}
func (l logger) Error(v ...any)        { l.log.Error("raft", "error", fmt.Sprint(v...)) }
func (l logger) Errorf(format string, v ...any) {
	l.log.Error("raft", "error", fmt.Sprintf(format, v...))
}
func (logger) Fatal(v ...any)                 { panic(fmt.Sprint(v...)) }
func (logger) Fatalf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
func (logger) Panic(v ...any)                 { panic(fmt.Sprint(v...)) }
func (logger) Panicf(format string, v ...any) { panic(fmt.Sprintf(format, v...)) }
