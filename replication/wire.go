package replication

import (
	"encoding/binary"
	"errors"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/larder-cache/larder/placement"
)

// Raft's messages between nodes, in bytes. One frame carries those of many groups. Reading a message costs three
// allocations however many entries it has, and copies their data out of the frame, so that the log never holds on to the
// buffers of a connection.

// A groupID names one generation of a partition's group.
type groupID struct {
	partition  placement.PartitionID
	generation uint32
}

// appendMessage appends a message of a group. Snapshots travel on streams of their own, see snapshot.go.
func appendMessage(dst []byte, id groupID, m *raftpb.Message) []byte {
	dst = binary.AppendUvarint(dst, uint64(id.partition))
	dst = binary.AppendUvarint(dst, uint64(id.generation))
	kind := byte(m.GetType()) << 1
	if m.GetReject() {
		kind |= 1
	}
	dst = append(dst, kind)
	for _, n := range [...]uint64{m.GetTo(), m.GetFrom(), m.GetTerm(), m.GetLogTerm(), m.GetIndex(), m.GetCommit(), m.GetRejectHint()} {
		dst = binary.AppendUvarint(dst, n)
	}
	dst = appendText(dst, m.GetContext())
	dst = binary.AppendUvarint(dst, uint64(len(m.GetEntries())))
	for _, e := range m.GetEntries() {
		dst = append(dst, byte(e.GetType()))
		dst = binary.AppendUvarint(dst, e.GetTerm())
		dst = binary.AppendUvarint(dst, e.GetIndex())
		dst = appendText(dst, e.GetData())
	}
	return dst
}

// A wireMessage is a message with the room that its fields point to.
type wireMessage struct {
	m                                            raftpb.Message
	kind                                         raftpb.MessageType
	to, from, term, logTerm, index, commit, hint uint64
	reject                                       bool
}

// A wireEntry is an entry with the room that its fields point to.
type wireEntry struct {
	e           raftpb.Entry
	kind        raftpb.EntryType
	term, index uint64
}

// travels reports whether replicas send each other messages of a kind in frames. The others are a replica's own, or are not
// used.
func travels(kind raftpb.MessageType) bool {
	switch kind {
	case raftpb.MsgApp, raftpb.MsgAppResp, raftpb.MsgVote, raftpb.MsgVoteResp, raftpb.MsgPreVote, raftpb.MsgPreVoteResp,
		raftpb.MsgHeartbeat, raftpb.MsgHeartbeatResp, raftpb.MsgTimeoutNow:
		return true
	}
	return false
}

var errWire = errors.New("replication: a message between replicas is malformed")

// readMessage takes the next message from a frame. Counts are checked against the bytes that are left.
func readMessage(r *reader) (id groupID, m *raftpb.Message, err error) {
	partition, generation := r.uvarint(), r.uvarint()
	w := &wireMessage{}
	kind := r.byte()
	w.kind, w.reject = raftpb.MessageType(kind>>1), kind&1 != 0
	for _, n := range [...]*uint64{&w.to, &w.from, &w.term, &w.logTerm, &w.index, &w.commit, &w.hint} {
		*n = r.uvarint()
	}
	context := r.text()
	const leastEntry = 4
	n := r.count(leastEntry)
	if r.bad || partition > 1<<16-1 || generation > 1<<32-1 || !travels(w.kind) {
		return id, nil, errWire
	}
	id = groupID{placement.PartitionID(partition), uint32(generation)}
	m = &w.m
	m.Type, m.To, m.From, m.Term, m.LogTerm, m.Index, m.Commit, m.RejectHint, m.Reject = &w.kind, &w.to, &w.from, &w.term, &w.logTerm, &w.index, &w.commit, &w.hint, &w.reject
	if len(context) > 0 {
		m.Context = append([]byte(nil), context...)
	}
	if n == 0 {
		return id, m, nil
	}
	entries, size := make([]wireEntry, n), 0
	m.Entries = make([]*raftpb.Entry, n)
	for i := range entries {
		e := &entries[i]
		e.kind, e.term, e.index = raftpb.EntryType(r.byte()), r.uvarint(), r.uvarint()
		e.e.Type, e.e.Term, e.e.Index, e.e.Data = &e.kind, &e.term, &e.index, r.text()
		if raftpb.EntryType_name[int32(e.kind)] == "" {
			r.bad = true
		}
		size += len(e.e.Data)
		m.Entries[i] = &e.e
	}
	if r.bad {
		return id, nil, errWire
	}
	segment := make([]byte, 0, size)
	for i := range entries {
		at := len(segment)
		segment = append(segment, entries[i].e.Data...)
		entries[i].e.Data = segment[at:len(segment):len(segment)]
	}
	return id, m, nil
}

// appendConfState appends who a group's members are.
func appendConfState(dst []byte, cs *raftpb.ConfState) []byte {
	leave := byte(0)
	if cs.GetAutoLeave() {
		leave = 1
	}
	dst = append(dst, leave)
	for _, list := range [...][]uint64{cs.GetVoters(), cs.GetLearners(), cs.GetVotersOutgoing(), cs.GetLearnersNext()} {
		dst = binary.AppendUvarint(dst, uint64(len(list)))
		for _, id := range list {
			dst = binary.AppendUvarint(dst, id)
		}
	}
	return dst
}

func readConfState(r *reader) *raftpb.ConfState {
	cs := &raftpb.ConfState{AutoLeave: new(r.byte() == 1)}
	for _, list := range [...]*[]uint64{&cs.Voters, &cs.Learners, &cs.VotersOutgoing, &cs.LearnersNext} {
		for n := r.count(1); n > 0 && !r.bad; n-- {
			*list = append(*list, r.uvarint())
		}
	}
	return cs
}
