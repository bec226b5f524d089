package replication

import (
	"fmt"
	"sync/atomic"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
)

// LogStorage keeps a group's log, its vote and its members. What raft reads comes from raft.Storage; the group writes. The
// one here is memory; one that is synced to disk has the same shape.
type LogStorage interface {
	raft.Storage
	// Append adds entries, in the place of those that stand at their indexes and behind.
	Append(entries []*raftpb.Entry) error
	// SetHardState keeps the term, the vote and the commit index.
	SetHardState(hs *raftpb.HardState) error
	// Applied notes how far the partition has come, and which members the group has there: snapshots begin there.
	Applied(index, term uint64, cs *raftpb.ConfState)
	// Restart empties the log behind a snapshot.
	Restart(s *raftpb.Snapshot) error
	// Trim drops the oldest entries up to an index that has been applied, as long as the log takes more than so many bytes.
	Trim(upTo uint64, bytes int64) error
	// Bytes is what the log takes.
	Bytes() int64
	// Close gives the log back.
	Close()
}

// A logBudget counts the bytes of all logs of a process.
type logBudget struct{ bytes, logs atomic.Int64 }

// logOverhead is what an entry takes beside its data, in bytes.
const logOverhead = 160

// A memoryLog is a log that ends with the process: a replica that restarts has forgotten it, its vote included, and must
// come back under a new id.
//
//	G1: entries[i] has the index first+i
//	G2: bytes is the sum of what the entries take, and is counted in budget
//	G3: base < first is the index before the first entry; its term is known
type memoryLog struct {
	budget   *logBudget
	hard     *raftpb.HardState
	members  *raftpb.ConfState // at the start, and at applied
	entries  []*raftpb.Entry
	base     uint64
	baseTerm uint64
	applied  uint64
	term     uint64 // of applied
	bytes    int64
}

// The log of a group's founders begins behind an entry that nobody has written, at index 1: a log that began at 0 would
// have a new replica replay it without knowing the first members.
const (
	foundingIndex = 1
	foundingTerm  = 1
)

// newMemoryLog makes the log of a founder, or with no founders that of a replica that joins and knows nothing yet.
func newMemoryLog(founders []uint64, budget *logBudget) *memoryLog {
	l := &memoryLog{budget: budget, hard: &raftpb.HardState{}, members: &raftpb.ConfState{}}
	budget.logs.Add(1)
	if len(founders) > 0 {
		l.members.Voters = founders
		l.base, l.baseTerm, l.applied, l.term = foundingIndex, foundingTerm, foundingIndex, foundingTerm
		l.hard = &raftpb.HardState{Term: new(uint64(foundingTerm)), Commit: new(uint64(foundingIndex))}
	}
	return l
}

// InitialState implements raft.Storage.
func (l *memoryLog) InitialState() (*raftpb.HardState, *raftpb.ConfState, error) {
	return l.hard, l.members, nil
}

func (l *memoryLog) first() uint64 { return l.base + 1 }
func (l *memoryLog) last() uint64  { return l.base + uint64(len(l.entries)) }

// FirstIndex implements raft.Storage.
func (l *memoryLog) FirstIndex() (uint64, error) { return l.first(), nil }

// LastIndex implements raft.Storage.
func (l *memoryLog) LastIndex() (uint64, error) { return l.last(), nil }

// Term implements raft.Storage.
func (l *memoryLog) Term(i uint64) (uint64, error) {
	switch {
	case i < l.base:
		return 0, raft.ErrCompacted
	case i == l.base:
		return l.baseTerm, nil
	case i > l.last():
		return 0, raft.ErrUnavailable
	}
	return l.entries[i-l.first()].GetTerm(), nil
}

// Entries implements raft.Storage.
func (l *memoryLog) Entries(lo, hi, maxSize uint64) ([]*raftpb.Entry, error) {
	switch {
	case lo <= l.base:
		return nil, raft.ErrCompacted
	case hi > l.last()+1:
		return nil, raft.ErrUnavailable
	}
	list := l.entries[lo-l.first() : hi-l.first()]
	size := uint64(0)
	for i, e := range list {
		if size += uint64(len(e.GetData())) + 16; size > maxSize && i > 0 {
			list = list[:i]
			break
		}
	}
	return list[:len(list):len(list)], nil
}

// Snapshot implements raft.Storage. It is only a token: the state is read from the partition and travels on a stream of its
// own.
func (l *memoryLog) Snapshot() (*raftpb.Snapshot, error) {
	if l.applied == 0 {
		return nil, raft.ErrSnapshotTemporarilyUnavailable
	}
	return &raftpb.Snapshot{Metadata: &raftpb.SnapshotMetadata{ConfState: l.members, Index: new(l.applied), Term: new(l.term)}}, nil
}

// Append implements LogStorage.
func (l *memoryLog) Append(entries []*raftpb.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	at := entries[0].GetIndex()
	if at <= l.base || at > l.last()+1 {
		return fmt.Errorf("replication: G1: an entry %d is appended to a log of %d to %d", at, l.first(), l.last())
	}
	keep := at - l.first()
	before := l.bytes
	for _, e := range l.entries[keep:] {
		l.bytes -= entryBytes(e)
	}
	if keep < uint64(len(l.entries)) {
		l.entries = l.entries[:keep:keep] // raft may hold what it was given of those that go
	}
	l.entries = append(l.entries, entries...)
	for _, e := range entries {
		l.bytes += entryBytes(e)
	}
	l.budget.bytes.Add(l.bytes - before)
	return nil
}

func entryBytes(e *raftpb.Entry) int64 { return int64(len(e.GetData())) + logOverhead }

// SetHardState implements LogStorage.
func (l *memoryLog) SetHardState(hs *raftpb.HardState) error {
	l.hard = hs
	return nil
}

// Applied implements LogStorage.
func (l *memoryLog) Applied(index, term uint64, cs *raftpb.ConfState) {
	l.applied, l.term, l.members = index, term, cs
}

// Restart implements LogStorage.
func (l *memoryLog) Restart(s *raftpb.Snapshot) error {
	m := s.GetMetadata()
	l.budget.bytes.Add(-l.bytes)
	l.entries, l.bytes = nil, 0
	l.base, l.baseTerm = m.GetIndex(), m.GetTerm()
	l.Applied(m.GetIndex(), m.GetTerm(), m.GetConfState())
	return nil
}

// Trim implements LogStorage.
func (l *memoryLog) Trim(upTo uint64, bytes int64) error {
	if upTo > l.applied || upTo > l.last() {
		return fmt.Errorf("replication: a log is to be cut at %d, applied is %d, the last is %d", upTo, l.applied, l.last())
	}
	n, gone := uint64(0), int64(0)
	for l.base+n < upTo && l.bytes-gone > bytes {
		gone += entryBytes(l.entries[n])
		n++
	}
	if n == 0 {
		return nil
	}
	l.base, l.baseTerm = l.base+n, l.entries[n-1].GetTerm()
	l.entries = append(make([]*raftpb.Entry, 0, len(l.entries)), l.entries[n:]...) // lets go of what went
	l.bytes -= gone
	l.budget.bytes.Add(-gone)
	return nil
}

// Bytes implements LogStorage.
func (l *memoryLog) Bytes() int64 { return l.bytes }

// Close implements LogStorage.
func (l *memoryLog) Close() {
	l.budget.bytes.Add(-l.bytes)
	l.budget.logs.Add(-1)
	l.entries, l.bytes = nil, 0
}
