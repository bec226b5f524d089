package replication

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/wal"
)

// How a durable group writes down what it must not forget.
//
// What raft wants to be kept (entries, the term, the vote) is appended to the node's log, and what it wants to say about it, to
// others and to itself, waits in line until the log has synced that: an entry counts nowhere before it is on disk there, so a
// write is acknowledged when a quorum has it on disk. Nobody waits on a lock meanwhile: the group goes on, and is woken. All
// groups of a node share the syncs.
//
//	J1: what a replica says stands behind all that it says it has in the log, or is said when that is synced
//	J2: what is applied is synced here
//	J3: a record that begins at an index stands for all before it only when a state file at that index, or a later one, is here
type ledger struct {
	v        *Vault
	last     uint64            // the replica's last record in the log
	hard     *raftpb.HardState // as it has been written, but for the commit index
	pending  []unsaid
	asked    bool // the log tells this group
	buf      []byte
	state    *engine.CutStream // of the state file that is being written
	abstains time.Duration     // until then, on the steady clock, this replica helps nobody to be elected
	lag      *lag              // of an async group; nil for one that waits for the disk
}

// Unsaid is what waits for a record.
type unsaid struct {
	behind   uint64
	messages []*raftpb.Message
}

// Kinds of records of groups. Each begins with the replica that it is of: its generation and its id, uvarints.
const (
	recordReplica  = 'r' // it begins: who founded its group, their number and ids; none for one that joins it
	recordAppended = 'a' // term, vote and commit index, and entries: each takes the place of what stood at its index and behind
	recordFrom     = 'f' // an index and its term, and the same: what came before lies in a state file
	recordGone     = 'g' // it is not here any more
)

func appendRecordHead(b []byte, id groupID, self uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(id.generation)), self)
}

// appendHard appends what raft has to remember, and entries.
func appendHard(b []byte, hs *raftpb.HardState, entries []*raftpb.Entry) []byte {
	for _, n := range [...]uint64{hs.GetTerm(), hs.GetVote(), hs.GetCommit()} {
		b = binary.AppendUvarint(b, n)
	}
	for _, e := range entries {
		b = append(b, byte(e.GetType()))
		b = binary.AppendUvarint(b, e.GetTerm())
		b = binary.AppendUvarint(b, e.GetIndex())
		b = appendText(b, e.GetData())
	}
	return b
}

// persist writes down what a Ready asks to be kept, and puts in line what is to be said then.
func (g *Group) persist(rd *raft.Ready, m *raftpb.Message) {
	l := g.ledger
	hs, _, err := g.store.InitialState()
	if err != nil {
		panic(err)
	}
	// The commit index goes along, and is not worth a record: whoever leads next finds it out.
	news := hs.GetTerm() != l.hard.GetTerm() || hs.GetVote() != l.hard.GetVote()
	switch {
	case !raft.IsEmptySnap(rd.Snapshot):
		meta := rd.Snapshot.GetMetadata()
		g.record(recordFrom, func(b []byte) []byte {
			return appendHard(binary.AppendUvarint(binary.AppendUvarint(b, meta.GetIndex()), meta.GetTerm()), hs, rd.Entries)
		})
	case len(rd.Entries) > 0 || news:
		g.record(recordAppended, func(b []byte) []byte { return appendHard(b, hs, rd.Entries) })
	}
	l.hard = hs
	if messages := m.GetResponses(); len(messages) > 0 {
		l.pending = append(l.pending, unsaid{l.last, messages})
	}
}

// record appends a record.
func (g *Group) record(kind byte, fill func([]byte) []byte) {
	l := g.ledger
	b := fill(appendRecordHead(l.buf[:0], g.id, g.self))
	l.last = l.v.log.Append(uint32(g.id.partition), kind, b, l.lag == nil)
	if cap(b) <= 4*maxJoined {
		l.buf = b
	}
}

// say says what is due: to itself, and to others. It reports whether there was any.
func (g *Group) say(out *outbox) (some bool) {
	l := g.ledger
	if len(l.pending) == 0 {
		return false
	}
	synced := l.v.log.Synced()
	for len(l.pending) > 0 && l.pending[0].behind <= synced {
		for _, m := range l.pending[0].messages {
			if m.GetTo() == g.self {
				_ = g.rn.Step(m) // as RawNode.Advance has it: one that comes too late is dropped
			} else {
				g.send(m, out)
			}
		}
		l.pending[0] = unsaid{}
		l.pending = l.pending[1:]
		some = true
	}
	if len(l.pending) == 0 {
		l.pending = nil
	}
	return some
}

// listenForSync has the log wake the group when it may say more.
func (g *Group) listenForSync() {
	l := g.ledger
	if len(l.pending) == 0 || l.asked {
		return
	}
	l.asked = true
	l.v.log.Tell(l.pending[0].behind, synced{g})
}

// A synced is a group that is told by the log.
type synced struct{ g *Group }

func (s synced) Synced() { s.g.inside(func() { s.g.ledger.asked = false }) }

var _ wal.Waiter = synced{}

// abstain reports whether a message has to be ignored for the time being. A leader may hold a lease that this replica has
// helped it to, in the process before: it is no help to another until that has surely ended.
func (g *Group) abstain(m *raftpb.Message) bool {
	if g.ledger == nil || g.c.cfg.Steady() >= g.ledger.abstains {
		return false
	}
	switch m.GetType() {
	case raftpb.MsgVote, raftpb.MsgPreVote, raftpb.MsgTimeoutNow:
		return true
	}
	return false
}

// keep takes a partition piece by piece as it comes from the leader, until next returns none, and writes it to disk on the way:
// it is there, whole, before raft hears of it.
func (a *arrival) keep(next func(dst []byte) ([]byte, error)) error {
	take := func(dst []byte) ([]byte, bool, error) {
		dst, err := next(dst)
		if err == nil && len(dst) > 0 {
			err = a.write(dst)
		} else if err == nil {
			err = a.Done()
		}
		return dst, len(dst) > 0, err
	}
	g := a.g
	if g.ledger != nil {
		s := &groupState{
			vaultFile: vaultFile{g.id.partition, g.id.generation, g.self, a.meta.GetIndex()},
			seed:      g.seed, term: a.meta.GetTerm(), conf: a.meta.GetConfState(), gathering: a.gathering, left: a.left,
		}
		return g.ledger.v.writeState(s, take)
	}
	for b, more := []byte(nil), true; more; {
		var err error
		if b, more, err = take(b[:0]); err != nil {
			return err
		}
	}
	return nil
}

// Write takes the next piece of a state file, and Done says that it was the last.
func (a *arrival) Write(piece []byte) (int, error) { return len(piece), a.write(piece) }

// Done implements what Write says.
func (a *arrival) Done() error {
	if a.left > 0 {
		return errWire
	}
	return a.restorer.Done()
}

// giveWay ends the state file that is being written: a cache is cut once at a time. The caller holds the lock.
func (g *Group) giveWay() {
	if l := g.ledger; l != nil && l.state != nil {
		l.state.Close()
		l.state = nil
	}
}

// stallTime is how long a disk may take to sync before another leads, whose disk may be quicker.
const stallTime = 2 * time.Second

// stalls reports whether the disk is what a leader's group waits for.
func (g *Group) stalls() bool {
	return g.ledger != nil && len(g.ledger.pending) > 0 && g.ledger.v.log.Age() > stallTime
}

// roomFor says why a task should not be written to the log now, nil for no reason.
func (g *Group) roomFor(t *engine.Task) error {
	if g.ledger == nil {
		return nil
	}
	grows := false
	for i := range t.Calls {
		grows = grows || t.Calls[i].Command.Flags&engine.Grows != 0
	}
	if err := g.ledger.v.log.Admit(grows); err != nil || g.ledger.lag == nil {
		return err
	}
	if g.ledger.lag.late.Load() {
		return errBehind
	}
	return g.ledger.v.log.Backlog()
}

// writeState writes a state file of the partition, and lets go of what it stands for.
func (g *Group) writeState(ctx context.Context) error {
	began := time.Now()
	v := g.ledger.v
	s, cut, at, err := g.cutState()
	if err != nil {
		return err
	}
	f, parts := s.vaultFile, s.gathering.b
	err = v.writeState(s, func(dst []byte) ([]byte, bool, error) {
		if err := ctx.Err(); err != nil {
			return dst, false, err
		}
		if n := min(len(parts), cutBytes); n > 0 {
			dst, parts = append(dst, parts[:n]...), parts[n:]
			return dst, true, nil
		}
		return g.readState(cut, dst)
	})
	g.mu.Lock()
	if g.ledger.state == cut {
		g.giveWay()
	}
	g.mu.Unlock()
	if err != nil {
		return err
	}
	if err := v.sync(at); err != nil {
		return err
	}
	if err := v.tidy(f.partition, f); err != nil {
		return err
	}
	if err := v.log.Release(uint32(f.partition), at-1); err != nil {
		return err
	}
	v.cfg.Log.Info("a state file is written", "partition", f.partition, "index", f.index, "log", v.log.Size(), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// cutState begins to cut the partition, and returns the record that is the first one needed behind the cut.
func (g *Group) cutState() (s *groupState, cut *engine.CutStream, at uint64, err error) {
	g.mu.Lock()
	defer g.unlock()
	if g.broken {
		return nil, nil, 0, errBroken
	}
	defer g.guard(&err)
	if g.applied == 0 { // one that has joined, and has nothing yet
		return nil, nil, 0, errGaveWay
	}
	term, err := g.store.Term(g.applied)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("the term of %d: %w", g.applied, err)
	}
	last, err := g.store.LastIndex()
	if err != nil {
		return nil, nil, 0, err
	}
	var rest []*raftpb.Entry
	if last > g.applied {
		if rest, err = g.store.Entries(g.applied+1, last+1, 1<<62); err != nil {
			return nil, nil, 0, err
		}
	}
	cut, ok := g.p.CutPartition()
	if !ok {
		return nil, nil, 0, errGaveWay
	}
	g.ledger.state = cut
	g.record(recordFrom, func(b []byte) []byte {
		return appendHard(binary.AppendUvarint(binary.AppendUvarint(b, g.applied), term), g.ledger.hard, rest)
	})
	s = &groupState{vaultFile: vaultFile{g.id.partition, g.id.generation, g.self, g.applied}, seed: g.seed, term: term, conf: g.conf, gathering: g.gathering}
	s.left = len(s.gathering.b)
	s.gathering.b = s.gathering.b[:s.left:s.left] // what comes behind them later is not in it
	return s, cut, g.ledger.last, nil
}

// readState reads the next piece of the cut.
func (g *Group) readState(cut *engine.CutStream, dst []byte) (_ []byte, more bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ledger.state != cut || g.broken {
		return dst, false, errGaveWay
	}
	defer g.guard(&err)
	dst, more = cut.Read(dst, cacheBytes)
	return dst, more, nil
}
