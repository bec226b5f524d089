package replication

import (
	"testing"

	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"
)

func message() *raftpb.Message {
	return &raftpb.Message{
		Type: raftpb.MsgApp.Enum(), To: new(uint64(258)), From: new(uint64(257)), Term: new(uint64(7)), LogTerm: new(uint64(6)), Index: new(uint64(99)),
		Commit: new(uint64(98)), RejectHint: new(uint64(1)), Reject: new(true), Context: []byte("why"),
		Entries: []*raftpb.Entry{
			{Type: raftpb.EntryNormal.Enum(), Term: new(uint64(7)), Index: new(uint64(100)), Data: []byte("some")},
			{Type: raftpb.EntryConfChangeV2.Enum(), Term: new(uint64(7)), Index: new(uint64(101)), Data: []byte("more")},
		},
	}
}

func TestMessagesComeBackAsTheyWere(t *testing.T) {
	want := message()
	frame := appendMessage(nil, groupID{3, 4}, want)
	id, got, err := readMessage(&reader{b: frame})
	if err != nil || id != (groupID{3, 4}) || !proto.Equal(got, want) {
		t.Fatalf("%v, %v: %v", err, id, got)
	}
	clear(frame)
	if string(got.GetEntries()[1].GetData()) != "more" {
		t.Error("a message holds on to its frame")
	}
	local := message()
	local.Type = raftpb.MsgHup.Enum()
	if _, _, err := readMessage(&reader{b: appendMessage(nil, groupID{}, local)}); err == nil {
		t.Error("a node can have another stand for election")
	}
}

func FuzzMessage(f *testing.F) {
	f.Add(appendMessage(nil, groupID{3, 4}, message()))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &reader{b: b}
		id, m, err := readMessage(r)
		if err != nil {
			return
		}
		again, other, err := readMessage(&reader{b: appendMessage(nil, id, m)})
		if err != nil || again != id || !proto.Equal(m, other) {
			t.Fatalf("%v: %v, then %v", err, m, other)
		}
	})
}
