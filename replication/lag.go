package replication

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/larder-cache/larder/placement"
)

// How an async group's log comes to disk behind what it acknowledges.
//
// Replicas acknowledge from memory, and append what they have to their node's log, which syncs it when it syncs next. Each tells the
// leader how far it has come. The leader takes no more writes while what a majority has on disk is more than maxAge behind: so when all
// nodes end at the same moment, a majority of their disks has every write but those of the last maxAge in which any were taken.
//
//	A1: own is at most what this replica has on disk of the log that it has now
//	A2: what a replica tells is committed: no other entry can stand at its index
//	A3: what is said of a step of slots that move is on the disks of a majority (D4)
//	A4: the stretches cover all that may not be on the disks of a majority, each from the time of its first entry on
type lag struct {
	own       uint64            // up to there this replica's log is on disk
	others    map[uint64]uint64 // a leader's: the same of the others, as they have told in its term
	stretches []stretch
	late      atomic.Bool // no writes are taken
	said      uint64      // what the leader was told last
	rests     int         // ticks since then

	steps  []stepTaken   // whose answers wait
	lonely time.Duration // since when there is no leader; 0 while there is one
}

// A stretch is some entries up to an index, which are on disk with a record of the node's log.
type stretch struct {
	record, index uint64
	at            time.Duration // of the first of them
}

// Bounds of stretches.
const (
	stretchTime   = 20 * time.Millisecond
	maxStretches  = 512
	keepStretches = 2 * maxAge // after they are on disk here: who comes to lead does not know yet what the others have
	sayKept       = 4          // ticks until the leader is told again
	stepBytes     = 1 << 10    // at the most, of an entry that is a step of slots that move
)

// lags reports whether the group acknowledges before its log is on disk.
func (g *Group) lags() bool { return g.ledger != nil && g.ledger.lag != nil }

// waitsForDisk reports whether what it says waits for the disk.
func (g *Group) waitsForDisk() bool { return g.ledger != nil && g.ledger.lag == nil }

// jot appends to the node's log what has come into the group's.
func (g *Group) jot(rd *raft.Ready) {
	l := g.ledger
	hs, _, err := g.store.InitialState()
	if err != nil {
		panic(err)
	}
	l.hard = hs
	urgent := slices.ContainsFunc(rd.Entries, func(e *raftpb.Entry) bool { // its answer waits: see stepTaken
		return len(e.GetData()) < stepBytes && bytes.Contains(e.GetData(), []byte(moveCommand))
	})
	fill := func(b []byte) []byte { return appendHard(b, hs, rd.Entries) }
	switch {
	case !raft.IsEmptySnap(rd.Snapshot): // its data is on disk: see arrival.keep
		meta := rd.Snapshot.GetMetadata()
		g.record(recordFrom, func(b []byte) []byte {
			return fill(binary.AppendUvarint(binary.AppendUvarint(b, meta.GetIndex()), meta.GetTerm()))
		})
		l.lag.own, l.lag.stretches = meta.GetIndex(), nil
	case len(rd.Entries) > 0:
		g.record(recordAppended, fill)
	}
	if urgent {
		l.v.log.Hurry()
	}
	if n := len(rd.Entries); n > 0 {
		l.lag.noted(rd.Entries[0].GetIndex(), rd.Entries[n-1].GetIndex(), l.last, g.c.cfg.Steady())
	}
}

// noted takes entries that have come into the log, in the place of those that stood at their indexes and behind.
func (l *lag) noted(first, last, record uint64, now time.Duration) {
	l.own = min(l.own, first-1)
	for i := len(l.stretches) - 1; i >= 0 && l.stretches[i].index >= first; i-- {
		l.stretches[i].index = first - 1
	}
	if n := len(l.stretches); n > 0 && (now-l.stretches[n-1].at < stretchTime || n >= maxStretches) {
		l.stretches[n-1].record, l.stretches[n-1].index = record, last
		return
	}
	l.stretches = append(l.stretches, stretch{record, last, now})
}

// led begins to lead: the others have the time of a stretch to tell how far they are with what is on disk here.
func (l *lag) led(now time.Duration) {
	clear(l.others)
	for i := range l.stretches {
		if l.stretches[i].index <= l.own {
			l.stretches[i].at = now
		}
	}
}

// onDisk finds out how far this replica's log is on disk.
func (g *Group) onDisk() uint64 {
	l, synced := g.ledger.lag, g.ledger.v.log.Synced()
	for _, m := range l.stretches {
		if m.record <= synced {
			l.own = max(l.own, m.index)
		}
	}
	return l.own
}

// onDisks is how far a majority has the log on disk, as far as is known to the leader.
func (g *Group) onDisks() uint64 {
	own, least := g.onDisk(), uint64(math.MaxUint64)
	for _, voters := range [...][]uint64{g.conf.GetVoters(), g.conf.GetVotersOutgoing()} {
		if len(voters) == 0 {
			continue
		}
		far := make([]uint64, 0, len(voters))
		for _, id := range voters {
			if id == g.self {
				far = append(far, own)
			} else {
				far = append(far, g.ledger.lag.others[id])
			}
		}
		slices.Sort(far)
		least = min(least, far[(len(far)-1)/2])
	}
	return least
}

// age finds out whether too much is not on disk, on each tick.
func (g *Group) age() {
	l, now := g.ledger.lag, g.c.cfg.Steady()
	safe := g.onDisk()
	if g.state == raft.StateLeader {
		safe = g.onDisks()
		g.tellSteps(safe)
		at := slices.IndexFunc(l.stretches, func(m stretch) bool { return m.index > safe })
		l.late.Store(at >= 0 && now-l.stretches[at].at > maxAge || g.recovers())
	}
	n := 0
	for n < len(l.stretches) && l.stretches[n].index <= safe && now-l.stretches[n].at > keepStretches {
		n++
	}
	l.stretches = slices.Delete(l.stretches, 0, n)
}

// A stepTaken is a step of slots that move, at its index in the log.
type stepTaken struct {
	index uint64
	p     *proposal
}

// tellSteps answers those steps that are on the disks of a majority (A3).
func (g *Group) tellSteps(safe uint64) {
	l := g.ledger.lag
	for len(l.steps) > 0 && l.steps[0].index <= safe {
		g.finish(l.steps[0].p, nil)
		l.steps = l.steps[1:]
	}
}

// loseSteps answers steps that may get lost yet.
func (g *Group) loseSteps() {
	if !g.lags() {
		return
	}
	for _, s := range g.ledger.lag.steps {
		g.finish(s.p, errUnknown)
	}
	g.ledger.lag.steps = nil
}

// recovers reports whether a group that began with what one disk had is not whole yet: before others have the data, that disk is the only one.
func (g *Group) recovers() bool {
	w := &g.members.wanted
	return w.Origin != 0 && 2*len(g.conf.GetVoters()) <= len(w.Members)
}

// tellKept tells the leader how far this replica's log is on disk (A2), when that is news, and now and then.
func (g *Group) tellKept(lead uint64) {
	l := g.ledger.lag
	far := min(g.onDisk(), g.committed)
	node := g.members.nodes[lead]
	if l.rests++; far == l.said && l.rests < sayKept || node == "" {
		return
	}
	l.said, l.rests = far, 0
	b := []byte{frameKept}
	for _, n := range [...]uint64{uint64(g.id.partition), uint64(g.id.generation), lead, g.self, g.term, far} {
		b = binary.AppendUvarint(b, n)
	}
	g.c.links.SendFirst(node, g.c.cfg.Kind, b)
}

// isKept takes what tellKept says.
func (c *Cluster) isKept(r *reader) {
	partition, generation, to, from, term, index := r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	if r.bad || partition > math.MaxUint16 {
		return
	}
	g := c.Group(placement.PartitionID(partition))
	if g == nil || uint64(g.id.generation) != generation || g.self != to || !g.lags() {
		return
	}
	g.inside(func() {
		l := g.ledger.lag
		if g.state == raft.StateLeader && g.term == term && (len(l.others) < manyNodes || l.others[from] > 0) {
			l.others[from] = max(l.others[from], index)
			g.tellSteps(g.onDisks())
		}
	})
}
