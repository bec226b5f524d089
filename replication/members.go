package replication

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"go.etcd.io/raft/v3/tracker"

	"github.com/larder-cache/larder/placement"
)

// Who belongs to a group, and who leads it.
//
// A follower never ticks raft: its timers are here, where they follow the rules that leases lean on. It forgets its leader
// when nothing has come from the leader's node for grace+1 ticks, or nothing of the leader itself for twice as long, and only
// then helps another, also when it is asked before its own next tick. Candidates go one after another, in the order of rank,
// in the first round and in every other, so that votes are not split, or not again:
//
//	E1: a replica that has forgotten its leader stands firstTurn ticks later, and eachTurn ticks for each that goes before it
//	E2: while an election is on that raft counts votes of, its own or another's, nobody stands for decided ticks, and as
//	    many more for each that goes before it
//	E3: who asks whether it would be elected, and is not answered, asks again after askAgain ticks: that is no election
//
// A memory replica that restarts has forgotten its log and its vote. It comes back under another id, which the others take
// for a stranger until the leader has made it a member: a learner first, which has no vote, and a voter when it has caught
// up, in one step with the removal of whom it replaces.

// Wanted is who has to belong to a partition's group: what the placement records say.
type Wanted struct {
	Durable    bool     // what it acknowledges is on the disks of a quorum, and its replicas keep their ids over a restart
	Async      bool     // Durable, too; and what it acknowledges comes to the disks of a quorum within maxAge, and its replicas do not come back
	Origin     uint64   // of an async one: the replica of the generation before with whose data this one begins; 0 for none
	Generation uint32   // moves when a group is given up for lost, and founded anew
	Founders   []uint64 // who founded this generation's group: exactly these began it, with a vote each
	Members    []Member
	Leaving    []Member // whose place others take, and who may lead until these have caught up
}

// A Member is a replica and the node that it is on. An id is made for one process of the node, its Life, and never used again:
// not when the node comes back, either.
type Member struct {
	ID   uint64
	Node string
	Life string
	Gone bool // it is a member still, and takes part no more
}

// Status is what a replica knows of its group.
type Status struct {
	Partition  uint16
	Generation uint32
	Self       uint64
	Leader     uint64
	Node       string // the leader's, "" when it is not known
	Term       uint64
	Applied    uint64
	Voters     []uint64
	Learners   []uint64
	Broken     bool // it has stopped: it has to be replaced by one with another id
	LogBytes   int64
}

// members are what a replica knows of the others.
type members struct {
	wanted    Wanted
	nodes     map[uint64]string        // of replicas that are, were or are to be members
	silent    int                      // ticks without a word from the leader
	candidacy int                      // ticks until it stands for election, while there is no leader
	lost      uint64                   // the leader that was forgotten last: it is not waited for
	stood     int                      // how often this replica has stood since there was a leader
	idle      int                      // ticks since anything happened
	changing  uint64                   // the index at which a change of members was proposed; 0 for none
	transfer  int                      // ticks since a transfer began
	followed  map[uint64]time.Duration // when a leader heard last of each replica that it follows
}

// rank is the place in which a replica stands for election, from 0.
func (g *Group) rank(without uint64) int {
	voters := slices.Sorted(slices.Values(append(slices.Clone(g.conf.GetVoters()), g.conf.GetVotersOutgoing()...)))
	voters = slices.DeleteFunc(slices.Compact(voters), func(id uint64) bool { return id == without })
	at := slices.Index(voters, g.self)
	if at < 0 {
		return len(voters)
	}
	// The order differs from group to group, so that one node does not come to lead all.
	return (at + int(g.id.partition)) % len(voters)
}

// How long candidates wait, in ticks.
const (
	firstTurn = 5  // the others have forgotten the leader by then as well; and a machine that is far too busy gets another chance
	eachTurn  = 3  // an election over a link of 50 ms each way is over by then
	askAgain  = 3  // answers to the question before count as well
	decided   = 5  // an election that is not decided after that is split, or its messages are lost
	lastTurns = 10 // by how much that grows at the most, where messages take longer
)

// turned notes a new term, or another who leads, or that this replica has become something else than it was.
func (m *members) turned(g *Group, was raft.StateType, newTerm bool) {
	m.silent = 0
	switch {
	case g.leader.Load() != 0:
		m.lost, m.stood = 0, 0
	case g.state == raft.StatePreCandidate:
		m.candidacy = askAgain
	case was == raft.StateFollower && g.state == raft.StateFollower && !newTerm: // it has forgotten its leader
		m.candidacy = firstTurn + eachTurn*g.rank(m.lost)
	default:
		m.candidacy = decided + eachTurn*g.rank(m.lost) + min(2*m.stood, lastTurns)
	}
	if was == raft.StateLeader && g.state != raft.StateLeader {
		m.transfer = 0
	}
}

// overdue reports whether this replica is free to help another than the leader that it knows.
func (m *members) overdue(g *Group) bool {
	c := g.c
	return c.silence(m.nodes[g.leader.Load()]) > time.Duration(c.cfg.Grace+1)*c.cfg.Tick || m.silent > 2*c.cfg.Grace+2
}

// forget has the replica follow nobody. What follows from that, turned sees to.
func (m *members) forget(g *Group) {
	if err := g.rn.ForgetLeader(); err != nil {
		panic(err)
	}
	g.rouse()
	m.lost = g.leader.Load()
	g.log.Info("forgets its leader", "leader", fmt.Sprintf("%x", m.lost), "node", m.nodes[m.lost])
}

// asked has a replica that is asked for its vote forget a leader that it would forget at its next tick: nobody need ask twice.
func (m *members) asked(g *Group, msg *raftpb.Message) {
	switch msg.GetType() {
	case raftpb.MsgPreVote, raftpb.MsgVote:
		if g.state == raft.StateFollower && !g.leaderless() && m.overdue(g) {
			m.forget(g)
		}
	}
}

// leaderless reports whether raft knows no leader: leader says so once a Ready has been handled.
func (g *Group) leaderless() bool { return g.rn.BasicStatus().Lead == raft.None }

// heard notes a word from the leader.
func (m *members) heard(g *Group, msg *raftpb.Message) {
	switch msg.GetType() {
	case raftpb.MsgApp, raftpb.MsgHeartbeat:
		if msg.GetTerm() >= g.term {
			m.silent = 0
		}
	}
	switch msg.GetType() {
	case raftpb.MsgHeartbeatResp: // of before it fell asleep
	case raftpb.MsgHeartbeat:
		g.rouse()
	default:
		m.awake(g)
	}
}

// outruns has a replica stand for election at once when one asks for its vote that cannot have it, because its log is behind.
func (m *members) outruns(g *Group, msg *raftpb.Message) {
	if msg.GetType() != raftpb.MsgPreVote || g.state != raft.StateFollower && g.state != raft.StatePreCandidate || !g.leaderless() {
		return
	}
	last, err := g.store.LastIndex()
	if err != nil {
		panic(err)
	}
	term, err := g.store.Term(last)
	if err == nil && (term > msg.GetLogTerm() || term == msg.GetLogTerm() && last > msg.GetIndex()) {
		m.stand(g)
	}
}

// awake ends a group's sleep, since something is to happen.
func (m *members) awake(g *Group) {
	m.idle = 0
	g.rouse()
}

// tick is called once each Config.Tick, or less often while much is going on.
func (g *Group) tick() {
	g.expire()
	g.tend()
	g.settle()
	if g.lags() {
		g.age()
	}
	if g.state == raft.StateLeader {
		g.lead()
	} else {
		g.follow()
	}
	g.restful.Store(g.asleep.Load() && g.p.Idle() && (g.state != raft.StateLeader || !g.p.Timed() && !g.unsettled))
}

// lead is a leader's tick.
func (g *Group) lead() {
	m := &g.members
	if g.asleep.Load() && !g.lonely() {
		return
	}
	g.rouse()
	if m.idle++; m.idle > sleepAfter*g.c.cfg.Grace && g.quiet() {
		g.sleep() // behind the last heartbeat, which would wake the others
		return
	}
	g.rn.Tick()
	if g.moving {
		if m.transfer++; m.transfer > 2*g.c.cfg.Grace { // raft has given it up as well
			g.moving, m.transfer = false, 0
		}
		return
	}
	if (g.c.resigns.Load() || g.stalls()) && g.handOver() {
		return
	}
	g.reconcile()
}

// sleepAfter is for how many graces nothing may have happened in a group that falls asleep.
const sleepAfter = 2

// A group in which nothing happens sleeps: its leader stops its heartbeats, and its followers do not miss them. That the
// leader's node is gone they notice all the same, by what nodes hear of each other. Whatever comes for a group wakes it. While it
// sleeps it is told of no tick, unless it holds what will expire or has memory to give back.

// quiet reports whether every replica has everything, but for those on nodes that are gone.
func (g *Group) quiet() bool {
	if !g.settled || g.moving || g.lonely() || len(g.queue)+len(g.larges)+len(g.flights)+len(g.proposed)+len(g.lease.waiting) > 0 || g.sending != nil || g.lease.asked != nil ||
		g.ship.current != nil || g.members.changing != 0 || !g.complete() {
		return false
	}
	last, err := g.store.LastIndex()
	if err != nil {
		panic(err)
	}
	equal := last == g.applied && (!g.lags() || g.onDisks() >= last)
	g.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		equal = equal && (pr.Match == last || g.c.away(g.members.nodes[id]))
	})
	return equal
}

// lonely reports whether the nodes of too many voters are gone for a leader to be one any more: it must not sleep then.
func (g *Group) lonely() bool {
	for _, voters := range [...][]uint64{g.conf.GetVoters(), g.conf.GetVotersOutgoing()} {
		gone := 0
		for _, id := range voters {
			if id != g.self && g.c.away(g.members.nodes[id]) {
				gone++
			}
		}
		if 2*gone >= len(voters) && gone > 0 {
			return true
		}
	}
	return false
}

// complete reports whether the members are those that are wanted.
func (g *Group) complete() bool {
	voters := g.conf.GetVoters()
	return len(voters) == len(g.members.wanted.Members) && len(g.conf.GetLearners())+len(g.conf.GetVotersOutgoing()) == 0 &&
		!slices.ContainsFunc(voters, func(id uint64) bool { return !g.wanted(id) })
}

// sleep has the group sleep. A follower that does not hear of it, or lacks something, misses its leader, and so wakes it.
func (g *Group) sleep() {
	g.asleep.Store(true)
	for _, id := range g.conf.GetVoters() {
		if node := g.members.nodes[id]; id != g.self && node != "" {
			b := []byte{frameSleep}
			for _, n := range [...]uint64{uint64(g.id.partition), uint64(g.id.generation), id, g.self, g.term, g.applied} {
				b = binary.AppendUvarint(b, n)
			}
			g.c.links.SendFirst(node, g.c.cfg.Kind, b) // behind the heartbeats, which go this way too
		}
	}
}

// rouse ends the sleep of a replica. What it knew by it of how current it is it goes on knowing.
func (g *Group) rouse() {
	if g.asleep.Load() {
		g.fresh.at = g.upToDate()
		g.asleep.Store(false)
	}
}

// toSleep takes a leader's word that the group sleeps.
func (c *Cluster) toSleep(r *reader) {
	partition, generation, to, from, term, index := r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	if r.bad || partition > math.MaxUint16 {
		return
	}
	g := c.Group(placement.PartitionID(partition))
	if g == nil || uint64(g.id.generation) != generation || g.self != to {
		return
	}
	g.inside(func() {
		if g.leader.Load() == from && g.term == term && g.applied == index {
			g.members.silent = 0
			g.asleep.Store(true)
			g.fresh.heard(mark{index, time.Duration(g.c.now.Load())}, g.applied)
		}
	})
}

// follow is a tick of a replica that does not lead.
func (g *Group) follow() {
	m := &g.members
	if lead := g.leader.Load(); lead != 0 {
		if !g.asleep.Load() {
			m.silent++
		}
		if g.lags() && !g.asleep.Load() {
			g.tellKept(lead)
		}
		if m.overdue(g) {
			m.forget(g)
		}
		return
	}
	if m.candidacy--; m.candidacy <= 0 && g.leaderless() {
		m.stand(g)
	}
}

// stand has a replica stand for election, if it has a vote itself: it asks first whether it would be elected.
func (m *members) stand(g *Group) {
	m.candidacy = askAgain
	if g.ledger != nil && g.c.cfg.Steady() < g.ledger.abstains {
		return
	}
	if slices.Contains(g.conf.GetVoters(), g.self) || slices.Contains(g.conf.GetVotersOutgoing(), g.self) {
		m.stood++
		g.log.Info("stands for election", "term", g.term)
		if err := g.rn.Campaign(); err != nil {
			panic(err)
		}
	}
}

// changed notes that a change of members was applied. A replica that is none any more ends; one that does not hear of that
// stays, without a say, until Cluster.Stop: by itself it cannot tell it from a network that is cut.
func (m *members) changed(g *Group) {
	m.changing = 0
	m.idle = 0
	if !slices.Contains(slices.Concat(g.conf.GetVoters(), g.conf.GetLearners(), g.conf.GetVotersOutgoing(), g.conf.GetLearnersNext()), g.self) {
		g.finished = append(g.finished, &proposal{done: func(*proposal) { g.c.retire(g) }})
	}
	g.log.Info("members", "voters", g.conf.GetVoters(), "learners", g.conf.GetLearners(), "leaving", g.conf.GetVotersOutgoing())
}

// manyNodes bounds what is remembered of former members.
const manyNodes = 64

// want takes what the placement records say.
func (m *members) want(w Wanted) {
	m.wanted = w
	m.wanted.Members, m.wanted.Leaving = slices.Clone(w.Members), slices.Clone(w.Leaving)
	if m.nodes == nil {
		m.nodes = map[uint64]string{}
	}
	if len(m.nodes) > manyNodes { // those who are members and are not wanted will be heard of again
		clear(m.nodes)
	}
	for _, r := range slices.Concat(w.Members, w.Leaving) {
		m.nodes[r.ID] = r.Node
	}
}

// slowest is the index that every replica has that is alive.
func (m *members) slowest(g *Group) uint64 {
	least := uint64(math.MaxUint64)
	g.rn.WithProgress(func(id uint64, _ raft.ProgressType, pr tracker.Progress) {
		if pr.RecentActive && pr.State != tracker.StateSnapshot {
			least = min(least, pr.Match)
		}
	})
	return least
}

// closeEnough is how many entries a learner may be behind that becomes a voter.
const closeEnough = 64

// reconcile takes the next step from the members that the group has to those that it is to have: one change at a time, and the
// next when the one before has been applied. It waits while nothing needs it.
func (g *Group) reconcile() {
	m := &g.members
	if !g.settled || m.changing != 0 || len(g.conf.GetVotersOutgoing()) > 0 || len(m.wanted.Members) == 0 {
		if m.changing != 0 && m.changing <= g.applied {
			m.changing = 0 // raft has dropped it
		}
		return
	}
	wanted := map[uint64]bool{}
	for _, r := range m.wanted.Members {
		wanted[r.ID] = true
	}
	voters, learners := g.conf.GetVoters(), g.conf.GetLearners()
	gone := slices.DeleteFunc(slices.Clone(voters), func(id uint64) bool { return wanted[id] })
	if len(gone) == 0 && len(voters) == len(wanted) && len(learners) == 0 {
		return
	}
	for _, id := range learners {
		if !wanted[id] {
			g.change(remove(id))
			return
		}
	}
	for _, r := range m.wanted.Members {
		switch {
		case slices.Contains(voters, r.ID):
		case !slices.Contains(learners, r.ID):
			g.change(change(raftpb.ConfChangeAddLearnerNode, r.ID))
			return
		case g.caughtUp(r.ID):
			steps := []*raftpb.ConfChangeSingle{change(raftpb.ConfChangeAddNode, r.ID)}
			if out := g.leaving(gone); out != 0 && len(voters) >= len(wanted) {
				steps = append(steps, remove(out))
			}
			g.change(steps...)
			return
		}
	}
	if len(learners) > 0 { // they come first
		return
	}
	if out := g.leaving(gone); out != 0 {
		g.change(remove(out))
	} else if len(gone) > 0 {
		g.handOver()
	}
}

func change(kind raftpb.ConfChangeType, id uint64) *raftpb.ConfChangeSingle {
	return &raftpb.ConfChangeSingle{Type: kind.Enum(), NodeId: new(id)}
}

func remove(id uint64) *raftpb.ConfChangeSingle { return change(raftpb.ConfChangeRemoveNode, id) }

// leaving returns which of the voters that nobody wants goes first: one that does not lead, 0 for none.
func (g *Group) leaving(gone []uint64) uint64 {
	for _, id := range gone {
		if id != g.self {
			return id
		}
	}
	return 0
}

func (g *Group) caughtUp(id uint64) (yes bool) {
	g.rn.WithProgress(func(of uint64, _ raft.ProgressType, pr tracker.Progress) {
		if of == id && pr.State == tracker.StateReplicate && pr.RecentActive {
			yes = pr.Match+closeEnough >= g.applied
		}
	})
	return yes
}

// change proposes a change of members; two at once go through a joint configuration.
func (g *Group) change(steps ...*raftpb.ConfChangeSingle) {
	if err := g.rn.ProposeConfChange(&raftpb.ConfChangeV2{Changes: steps}); err != nil {
		return // the next tick tries again
	}
	last, err := g.store.LastIndex()
	if err != nil {
		panic(err)
	}
	g.members.changing = last + 1 + uint64(len(g.proposed)) // at the least
}

// handOver begins to hand the leadership to another voter, the one that has most of the log. It reports whether there is one.
func (g *Group) handOver() bool {
	to, most := uint64(0), uint64(0)
	g.rn.WithProgress(func(id uint64, kind raft.ProgressType, pr tracker.Progress) {
		if id != g.self && kind == raft.ProgressTypePeer && pr.RecentActive && pr.Match >= most && g.wanted(id) {
			to, most = id, pr.Match
		}
	})
	if to == 0 {
		return false
	}
	g.moveTo(to)
	return true
}

func (g *Group) wanted(id uint64) bool {
	return slices.ContainsFunc(g.members.wanted.Members, func(m Member) bool { return m.ID == id })
}

func (g *Group) moveTo(id uint64) {
	if id == g.self || g.state != raft.StateLeader || g.moving {
		return
	}
	g.lease.bar()
	g.moving, g.members.transfer = true, 0
	g.members.awake(g)
	g.rn.TransferLeader(id)
}

// Transfer has the leader hand over to a replica, 0 for whichever is ready. What is proposed meanwhile waits, so nothing happens
// where the replica does not answer: etcd takes a node that was killed for alive until its lease ends.
func (g *Group) Transfer(to uint64) {
	g.inside(func() {
		switch {
		case g.state != raft.StateLeader || g.moving:
		case to == 0:
			g.handOver()
		case g.answers(to):
			g.moveTo(to)
		}
	})
}

// answers reports whether a leader has heard of another replica since it leads, and now.
func (g *Group) answers(id uint64) (yes bool) {
	g.rn.WithProgress(func(of uint64, _ raft.ProgressType, pr tracker.Progress) {
		yes = yes || of == id && pr.RecentActive
	})
	return yes && !g.c.away(g.members.nodes[id])
}

// Status returns what this replica knows of its group.
func (g *Group) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	lead := g.leader.Load()
	return Status{
		Partition: uint16(g.id.partition), Generation: g.id.generation, Self: g.self, Leader: lead, Node: g.members.nodes[lead], Term: g.term,
		Applied: g.applied, Voters: slices.Clone(g.conf.GetVoters()), Learners: slices.Clone(g.conf.GetLearners()), Broken: g.broken, LogBytes: g.store.Bytes(),
	}
}

func (s Status) String() string {
	return fmt.Sprintf("%d/%d: %x of term %d led by %x at %d, %x voters %x learners", s.Partition, s.Generation, s.Self, s.Term, s.Leader, s.Applied, s.Voters, s.Learners)
}
