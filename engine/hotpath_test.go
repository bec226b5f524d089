package engine

import (
	"encoding/binary"
	"testing"
)

// null is a Reply that takes an answer as a protocol's encoder does, and forgets it.
type null struct {
	discard
	buf []byte
}

func (n *null) Bulk(b []byte)   { n.buf = append(n.buf[:0], b...) }
func (n *null) Status(s string) { n.buf = append(n.buf[:0], s...) }

// A runner gives a partition one command at a time, without an allocation of its own.
type runner struct {
	p     *Partition
	entry Entry
	task  Task
	now   int64
}

func newRunner() *runner {
	r := &runner{p: New(Seed{1, 2}), now: start}
	r.p.Apply(&Entry{Now: start, Tasks: []*Task{ConfigureTask(testCache, Settings{})}})
	r.task = Task{Cache: testCache, Calls: make([]Call, 1), Reply: &null{}}
	r.entry = Entry{Now: start, Tasks: []*Task{&r.task}}
	return r
}

func (r *runner) do(cmd *Command, args ...[]byte) {
	r.task.Calls[0].Command = cmd
	r.task.Calls[0].Args = args
	if r.task.Writes() {
		r.p.Apply(&r.entry)
	} else {
		r.p.Query(r.now, 1, &r.task)
	}
}

// TestHotCommandsAllocateNothing: point operations on what is there.
func TestHotCommandsAllocateNothing(t *testing.T) {
	r := newRunner()
	key, value := []byte("a key of sixteen"), make([]byte, 64)
	do := func(args ...string) {
		var list [][]byte
		for _, a := range args {
			list = append(list, []byte(a))
		}
		r.do(MustLookup(args[0]), list...)
	}
	do("SET", string(key), string(value))
	do("SET", "n", "1000000")
	for _, c := range []struct {
		name string
		args [][]byte
	}{
		{"GET", [][]byte{nil, key}},
		{"SET", [][]byte{nil, key, value}},
		{"SET", [][]byte{nil, key, value, []byte("PX"), []byte("100000")}},
		{"INCR", [][]byte{nil, []byte("n")}},
		{"PEXPIRE", [][]byte{nil, key, []byte("500000")}},
		{"EXISTS", [][]byte{nil, key}},
		{"TTL", [][]byte{nil, key}},
		{"GET", [][]byte{nil, []byte("nothing")}},
	} {
		cmd := MustLookup(c.name)
		if n := testing.AllocsPerRun(200, func() { r.do(cmd, c.args...) }); n != 0 {
			t.Errorf("%s: %v allocations", c.name, n)
		}
	}
}

// TestRoomCostsNothing: a cache with a limit that is not full is asked before each write whether there is room.
func TestRoomCostsNothing(t *testing.T) {
	r := newRunner()
	r.p.Apply(&Entry{Now: start, Tasks: []*Task{ConfigureTask(testCache, Settings{MemoryLimit: 1 << 30})}})
	set, args := MustLookup("SET"), [][]byte{nil, []byte("a key of sixteen"), make([]byte, 64)}
	write := func() {
		if r.p.Relieve(r.now, 1, &r.task) != nil {
			t.Fatal("a cache that is nearly empty has to evict")
		}
		r.do(set, args...)
	}
	r.do(set, args...)
	if n := testing.AllocsPerRun(200, write); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

const benchItems = 1_000_000

func benchKey(key []byte, i int) { binary.BigEndian.PutUint64(key[8:], uint64(i)*0x9E3779B97F4A7C15) }

func benchRunner(b *testing.B) (*runner, [][]byte) {
	r := newRunner()
	b.Cleanup(r.p.Close)
	key, value := make([]byte, 16), make([]byte, 64)
	args := [][]byte{[]byte("SET"), key, value}
	set := MustLookup("SET")
	for i := range benchItems {
		benchKey(key, i)
		r.do(set, args...)
	}
	return r, args
}

func BenchmarkGetOfAMillion(b *testing.B) {
	r, args := benchRunner(b)
	get := MustLookup("GET")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		benchKey(args[1], i*7919%benchItems)
		r.do(get, args[:2]...)
	}
	b.ReportMetric(float64(r.p.Memory().All)/benchItems, "bytes/item")
}

func BenchmarkSetOfAMillion(b *testing.B) {
	r, args := benchRunner(b)
	set := MustLookup("SET")
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		benchKey(args[1], i*7919%benchItems)
		r.do(set, args...)
	}
}

func BenchmarkPipelineOfAMillion(b *testing.B) {
	r, _ := benchRunner(b)
	get := MustLookup("GET")
	const n = 16
	r.task.Calls = make([]Call, n)
	for i := range n {
		r.task.Calls[i] = Call{Command: get, Args: [][]byte{[]byte("GET"), make([]byte, 16)}}
	}
	at := 0
	for b.Loop() {
		for i := range n {
			benchKey(r.task.Calls[i].Args[1], at*7919%benchItems)
			at++
		}
		r.p.Query(r.now, 1, &r.task)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/GET")
}

// openBlock is what a partition takes, whatever is in it: the store's open block, and some pools' chunks.
const openBlock = 320 << 10

// accountsFor reports whether an account is within 5 % of what was taken.
func accountsFor(accounted, took int64) bool {
	return 20*max(accounted-took, took-accounted) <= took+20*openBlock
}
