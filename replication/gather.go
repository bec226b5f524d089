package replication

import (
	"sync"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"
)

// Entries of many groups that share their way.
//
// What an entry costs is mostly what carries it: a frame to each of the others and one back, and whoever wakes up for each of
// these. So groups that have something to propose at about the same time should do so in one round of their worker: all of that
// goes in one frame, and is acknowledged in one. While few tasks are under way everything is proposed at once. From waveFrom on they
// make a wave, and groups that have nothing under way themselves wait with what comes next until it has landed. Acknowledgements
// that come in one frame have all their groups propose in the same round, so that what has been gathered once stays together.
//
// Where the way is long, waiting would cost more than it saves, and nobody waits: see pace.
//
//	W1: worker.aloft is the sum of Group.aloft over its groups of this wave
//	W2: a group stands in worker.later once, and not for longer than until the wave has landed or time has passed

// waveFrom is from how many tasks under way on others wait for them.
const waveFrom = 4

// seek has the group looked at because of a proposal: now, or together with others.
func (g *Group) seek() {
	if g.scheduled.Load() {
		return // and then it is found
	}
	if g.far.Load() || !g.w.gathers(g) {
		g.call()
	}
}

// call is wake for a proposal, which may wait while somebody brings more.
func (g *Group) call() {
	t := &g.c.turns
	t.mu.Lock()
	held := t.holds > 0
	if held && !g.held {
		g.held = true
		t.groups = append(t.groups, g)
	}
	t.mu.Unlock()
	if !held {
		g.wake()
	}
}

// turns are those of event loops, which bring many tasks in a row.
type turns struct {
	mu     sync.Mutex
	holds  int      // loops that are in the middle of one
	groups []*Group // that they have brought something for; each has Group.held
	spare  sync.Pool
}

// A loopDriver is what a loop drives groups with.
type loopDriver struct {
	driver
	groups []*Group
}

// Hold has what is proposed wait for Release: who brings several tasks in a row has them share their way. Between the two nothing
// may wait.
func (c *Cluster) Hold() {
	c.turns.mu.Lock()
	c.turns.holds++
	c.turns.mu.Unlock()
}

// Release ends Hold, and sends out what has been proposed meanwhile. That changes no data, so it is done here and wakes up nobody.
func (c *Cluster) Release() {
	t := &c.turns
	t.mu.Lock()
	t.holds--
	if len(t.groups) == 0 {
		t.mu.Unlock()
		return
	}
	d, _ := t.spare.Get().(*loopDriver)
	if d == nil {
		d = &loopDriver{driver: driver{light: true, out: outbox{links: c.links, kind: c.cfg.Kind}}}
	}
	d.groups, t.groups = t.groups, d.groups
	for _, g := range d.groups {
		g.held = false
	}
	t.mu.Unlock()
	d.round(d.groups)
	clear(d.groups)
	d.groups = d.groups[:0]
	t.spare.Put(d)
}

// gathers puts a group aside until the wave under way has landed, and reports whether there is one.
func (w *worker) gathers(g *Group) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lands(time.Duration(g.c.now.Load())) {
		return false
	}
	if !g.later {
		g.later = true
		w.later = append(w.later, g)
	}
	return true
}

// lands reports whether the wave has landed, but for a few; one that takes longer than a tick is not waited for. The caller
// holds the lock.
func (w *worker) lands(now time.Duration) bool {
	if w.aloft >= w.crowd && w.since != now {
		w.wave++
		w.aloft = 0
	}
	return w.aloft < w.crowd
}

// gathered returns the groups that have waited, when they may go on.
func (w *worker) gathered(now time.Duration) []*Group {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.later) == 0 || !w.lands(now) {
		return nil
	}
	list := w.later
	w.later = nil
	for _, g := range list {
		g.later = false
	}
	return list
}

// weigh counts what the group has under way (W1). The caller holds the group's lock.
func (g *Group) weigh() {
	g.far.Store(g.pace.limit() > 1)
	g.calm()
	w := g.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if g.wave != w.wave {
		g.wave, g.aloft = w.wave, 0
	}
	n := 0
	for _, list := range [...][]*flight{g.flights, g.proposed} {
		for _, f := range list {
			if f.wave == 0 {
				f.wave = w.wave
			}
			if f.wave == w.wave {
				n += len(f.tasks)
			}
		}
	}
	before := w.aloft
	w.aloft += n - g.aloft
	g.aloft = n
	if before < w.crowd && w.aloft >= w.crowd {
		w.since = time.Duration(g.c.now.Load())
	}
}

// Acknowledgements that change nothing.
//
// An entry is committed when the first of two followers has acknowledged it. What the second says only tells how far it has come,
// and waits for the next thing to happen to the group, or its next tick: nobody wakes up for it. That holds only while each
// follower has been sent all there is, since an acknowledgement may else be what the next message waits for.

// calm notes up to where acknowledgements change nothing. The caller holds the lock.
func (g *Group) calm() {
	upTo := uint64(0)
	if !g.broken && g.state == raft.StateLeader && g.settled && !g.moving && g.members.changing == 0 && g.ship.current == nil {
		upTo = g.committed
	}
	if upTo == g.known.Load() {
		return
	}
	if upTo > 0 && !g.sentAll() {
		upTo = 0
	}
	g.known.Store(upTo)
}

// sentAll reports whether each follower has been sent all entries, as far as the leader knows.
func (g *Group) sentAll() bool {
	last, err := g.store.LastIndex()
	if err != nil {
		panic(err)
	}
	all := true
	g.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		all = all && (id == g.self || pr.State == tracker.StateReplicate && pr.Next == last+1)
	})
	return all
}

// tells reports whether a message from another replica may be what something waits for. One without an index says that there is
// another term.
func (g *Group) tells(m *raftpb.Message) bool {
	return m.GetType() != raftpb.MsgAppResp || m.GetReject() || m.GetIndex() == 0 || m.GetIndex() > g.known.Load()
}
