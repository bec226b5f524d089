package replication

import (
	"encoding/binary"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// Reads at the leader.
//
// A value that a leader reads is current if nobody else has led by then. It asks a quorum (raft's ReadIndex, one question for
// all who read at that time), and whoever answered will not help another to be elected for a while: a follower forgets its
// leader after grace+1 ticks without a word from the leader's node (members.go). So for grace-2 ticks from when the question
// was asked the leader need not ask again: that is its lease. A read takes the value first and looks at the clock then, on a
// clock that counts while the machine or the process sleeps: a lease that ran out in between is noticed. The lease ends
// when a transfer begins, since who is told to take over does not wait; it is asked for only while somebody reads.

// A lease is a leader's right to answer alone.
type lease struct {
	until   time.Duration // on Cluster's steady clock
	waiting []*reading    // for a question to be asked
	asked   *question
	heard   []*question // that were confirmed, and wait for the entries before them to be applied
	seq     uint64
	wanted  bool // somebody has read: worth renewing
	barred  bool // for the rest of the term: a transfer was begun, and who was told to take over may do so at any time
}

// A reading is a task that only reads.
type reading struct {
	task *engine.Task // nil when the caller has given up
	read bool         // the value is there; it waits to hear that it was current
	done func(error)
	at   time.Duration
}

// A question is one that a quorum has to confirm.
type question struct {
	seq     uint64
	at      time.Duration
	index   uint64
	readers []*reading
}

func (l *lease) reset() { l.until, l.wanted, l.barred = 0, false, false }

// bar ends the lease for the rest of the term.
func (l *lease) bar() { l.until, l.barred = 0, true }

// readNow answers a task that only reads under the lease, or says why it will not be. Over is false when a quorum has to be
// asked first, and read true when the value has been written already, and only that it was current is to be confirmed.
func (g *Group) readNow(t *engine.Task) (over, read bool, err error) {
	g.mu.Lock()
	defer g.unlock()
	switch {
	case g.broken:
		return true, false, errBroken
	case g.state != raft.StateLeader || g.moving:
		return true, false, g.notLeader()
	case !g.settled:
		return false, false, nil
	}
	if t.Consistency == engine.Leader {
		err = g.inquire(t)
		if now := time.Duration(g.c.now.Load()); now >= g.lease.until {
			t.Answered(engine.Leader, 0)
		}
		return true, false, err
	}
	g.lease.wanted = true
	now := time.Duration(g.c.now.Load()) // of the last tick: the exact time, which takes a system call, counts behind the read
	if now >= g.lease.until {
		return false, false, nil
	}
	if now > g.lease.until-g.c.leaseTime()/2 && g.lease.asked == nil {
		g.wake() // to renew it
	}
	reply, again := t.Reply.(retracting)
	mark := 0
	if again {
		mark = reply.Len()
	}
	if err := g.inquire(t); err != nil {
		return true, false, err
	}
	if t.Parked != nil || g.c.cfg.Steady() < g.lease.until {
		return true, false, nil
	}
	if again {
		reply.Truncate(mark)
	}
	return false, !again, nil
}

// read puts a task that only reads in line for the next question to a quorum.
func (g *Group) read(r *reading) {
	g.mu.Lock()
	defer g.tellAll()
	switch {
	case g.broken:
		g.tellReader(r, errBroken)
	case g.state != raft.StateLeader || g.moving:
		g.tellReader(r, g.notLeader())
	default:
		r.at = g.c.cfg.Steady()
		g.lease.waiting = append(g.lease.waiting, r)
		g.wake()
	}
}

// A retracting Reply takes back what was written after it had n bytes.
type retracting interface {
	Len() int
	Truncate(n int)
}

// inquire has the partition answer. The caller holds the lock.
func (g *Group) inquire(t *engine.Task) (err error) {
	defer g.guard(&err)
	if t.Stale = t.Guard != nil && !t.Guard(); t.Stale {
		return nil
	}
	g.origin = t.Origin
	g.p.Query(max(g.now(), t.Floor), g.dice.Uint64(), t)
	g.origin = nil
	if t.Parked != nil && t.Waiter != nil {
		g.park(t, g.last)
	}
	return nil
}

// tellReader has a reader told when the lock is released.
func (g *Group) tellReader(r *reading, err error) {
	done := r.done
	g.finished = append(g.finished, &proposal{err: err, done: func(p *proposal) { done(p.err) }})
}

// ask asks a quorum whether this replica leads, for all who wait to hear it, and to renew the lease.
func (g *Group) ask() {
	l := &g.lease
	if g.state != raft.StateLeader {
		if len(l.waiting) > 0 {
			g.refuseReaders(g.notLeader())
		}
		return
	}
	if !g.settled || l.asked != nil || g.moving && len(l.waiting) == 0 {
		return
	}
	if len(l.waiting) == 0 && !(l.wanted && !l.barred && g.c.cfg.Steady() > l.until-g.c.leaseTime()/2) {
		return
	}
	l.wanted = false
	l.seq++
	l.asked = &question{seq: l.seq, at: g.c.cfg.Steady(), readers: l.waiting}
	l.waiting = nil
	g.members.awake(g)
	g.rn.ReadIndex(binary.BigEndian.AppendUint64(nil, l.seq))
}

// leaseTime is how long a lease is.
func (c *Cluster) leaseTime() time.Duration { return time.Duration(c.cfg.Grace-2) * c.cfg.Tick }

// confirm takes what a quorum has confirmed.
func (g *Group) confirm(states []raft.ReadState) {
	l := &g.lease
	for _, s := range states {
		q := l.asked
		if q == nil || len(s.RequestCtx) != 8 || binary.BigEndian.Uint64(s.RequestCtx) != q.seq {
			continue
		}
		l.asked = nil
		if g.state == raft.StateLeader && !l.barred {
			l.until = max(l.until, q.at+g.c.leaseTime())
		}
		q.index = s.Index
		l.heard = append(l.heard, q)
	}
	for len(l.heard) > 0 && l.heard[0].index <= g.applied {
		for _, r := range l.heard[0].readers {
			g.answer(r)
		}
		l.heard = l.heard[1:]
	}
}

func (g *Group) answer(r *reading) {
	switch {
	case r.task == nil:
		g.tellReader(r, errSlow)
	case r.read:
		g.tellReader(r, nil)
	default:
		g.tellReader(r, g.inquire(r.task))
	}
}

// refuseReaders answers everybody who waits to hear that this replica leads. One whose value is there already has to be told
// that nobody knows whether it was current.
func (g *Group) refuseReaders(err error) {
	l := &g.lease
	refuse := func(list []*reading) {
		for _, r := range list {
			if r.read {
				g.tellReader(r, errStale)
			} else {
				g.tellReader(r, err)
			}
		}
	}
	refuse(l.waiting)
	if l.asked != nil {
		refuse(l.asked.readers)
	}
	for _, q := range l.heard {
		refuse(q.readers)
	}
	l.waiting, l.asked, l.heard = nil, nil, nil
}

// errStale is for a read that may have been too old. Its value has been written, so it cannot be tried again.
var errStale = fault.New(fault.OutcomeUnknown, "replication.read", "the partition's leader was lost while it answered: the value may be old")

// expire answers readers who came before a time.
func (l *lease) expire(g *Group, before time.Duration) {
	old := func(list []*reading) bool { return len(list) > 0 && list[0].at < before }
	if old(l.waiting) || l.asked != nil && l.asked.at < before || len(l.heard) > 0 && l.heard[0].at < before {
		g.refuseReaders(errSlow)
	}
}

// Leads reports whether this replica leads and may answer.
func (g *Group) Leads() bool { return g.leader.Load() == g.self }
