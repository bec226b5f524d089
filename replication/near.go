package replication

import (
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// Reads of any replica.
//
// A follower answers from what it has applied. How far that may be behind it knows from its leader, whose every append and
// heartbeat says how far the log was committed when it was sent: once the follower has applied that much, it had at that
// time all there was. A leader that has not committed anything in its own term does not know, and says nothing. While a
// group sleeps nothing happens in it, and whoever had everything then goes on having it for as long as the leader's node is heard:
// a leader that wakes says so at once, and again with each heartbeat.
//
//	F1: freshness.at is a time at which this replica had applied all that its leader had committed, but for what a message
//	    takes on its way, and for leaders that had been replaced and had not noticed, which takes them a few graces at most

// A freshness is when a replica was up to date.
type freshness struct {
	at      time.Duration // on the steady clock; 0 for never
	pending mark          // index 0 for none
	latest  mark          // that came while one was pending; index 0 for none
}

// A mark is what a leader said: so much was committed at that time.
type mark struct {
	index uint64
	at    time.Duration
}

// heard takes what a leader said.
func (f *freshness) heard(m mark, applied uint64) {
	switch {
	case m.index <= applied:
		*f = freshness{at: m.at}
	case f.pending.index == 0:
		f.pending = m
	default:
		f.latest = m
	}
}

// applied notes that the log has been applied up to an index.
func (f *freshness) applied(index uint64) {
	for f.pending.index != 0 && f.pending.index <= index {
		f.at, f.pending, f.latest = f.pending.at, f.latest, mark{}
	}
}

// wakeTicks is how long ago, in ticks, a leader may have woken of which a replica that sleeps has not heard: a heartbeat and the
// next one.
const wakeTicks = 2

// upToDate is the time at which this replica was up to date, as far as it knows.
func (g *Group) upToDate() time.Duration {
	lead := g.leader.Load()
	if !g.asleep.Load() || lead == 0 || lead == g.self {
		return g.fresh.at
	}
	heard := g.c.cfg.Steady() - g.c.silence(g.members.nodes[lead])
	return max(g.fresh.at, heard-wakeTicks*g.c.cfg.Tick)
}

// stamp has a leader's message say how far the log is committed, in a field that raft leaves empty in messages of that kind.
func (g *Group) stamp(m *raftpb.Message) {
	if g.settled && (m.GetType() == raftpb.MsgApp || m.GetType() == raftpb.MsgHeartbeat) {
		m.RejectHint = &g.committed // it is written before that changes
	}
}

// stamped takes what messages say of how current this replica is: a leader's stamp, and to a leader, that a follower follows it.
func (g *Group) stamped(m *raftpb.Message) {
	if m.GetTerm() < g.term {
		return
	}
	now := time.Duration(g.c.now.Load()) // of the last tick: cheap, and never too late
	switch m.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat:
		if index := m.GetRejectHint(); index > 0 {
			g.fresh.heard(mark{index, now}, g.applied)
		}
	case raftpb.MsgAppResp, raftpb.MsgHeartbeatResp:
		if g.state == raft.StateLeader {
			g.members.followed[m.GetFrom()] = now
		}
	}
}

// abdicated is told before a replica leads no more: until a quorum followed it last, it had all there was.
func (g *Group) abdicated() {
	if !g.settled {
		return
	}
	at := time.Duration(g.c.now.Load())
	for _, voters := range [...][]uint64{g.conf.GetVoters(), g.conf.GetVotersOutgoing()} {
		times := make([]time.Duration, 0, len(voters))
		for _, id := range voters {
			switch {
			case id == g.self:
				times = append(times, at)
			case g.asleep.Load(): // nobody says anything then, but their nodes do
				times = append(times, g.c.cfg.Steady()-g.c.silence(g.members.nodes[id]))
			default:
				times = append(times, g.members.followed[id])
			}
		}
		if slices.Sort(times); len(times) > 0 {
			at = min(at, times[(len(times)-1)/2])
		}
	}
	g.fresh = freshness{at: max(g.fresh.at, at)}
}

// maxSkew bounds how far a reader's clock may run ahead of this machine's and still count.
const maxSkew = time.Minute

var (
	errLagging = fault.Wrap(fault.Unavailable, "replication.read", &NotLeader{}, "this replica may be too far behind")
	errEmpty   = fault.Wrap(fault.Unavailable, "replication.read", &NotLeader{}, "this replica does not have the data yet")
)

// ReadNear answers a task that only reads from what this replica has, whoever leads, unless it may be further behind than
// atMost; 0 is for any age. One that never had all that its leader had does not answer: to it, nothing exists yet.
func (g *Group) ReadNear(t *engine.Task, atMost time.Duration) error {
	g.mu.Lock()
	defer g.unlock()
	age, was := g.c.cfg.Steady()-g.upToDate(), engine.Eventual
	if g.state == raft.StateLeader && g.settled {
		age, was = 0, engine.Leader
	}
	switch _, known := g.p.SettingsOf(t.Cache); {
	case g.broken:
		return errBroken
	case was == engine.Eventual && g.fresh.at == 0, !known:
		return errEmpty
	case atMost > 0 && age > atMost:
		return errLagging
	}
	t.Waits = false
	t.Floor = max(g.now(), min(t.Floor, g.now()+maxSkew.Milliseconds()))
	t.Answered(was, age.Milliseconds())
	return g.inquire(t)
}
