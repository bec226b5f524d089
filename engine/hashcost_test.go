package engine

import (
	"fmt"
	"strconv"
	"testing"
)

// hashWorld has a small hash "s" and a large one "l", each with fields f0, f1, …
func hashWorld(t testing.TB, small, large int) *Partition {
	p := New(Seed{1, 2})
	t.Cleanup(p.Close)
	p.Apply(&Entry{Now: start, Tasks: []*Task{ConfigureTask(testCache, Settings{})}})
	for _, h := range []struct {
		key string
		n   int
	}{{"s", small}, {"l", large}} {
		for i := range h.n {
			p.Apply(&Entry{Now: start, Tasks: []*Task{hashTask("HSET", h.key, fmt.Sprint("f", i), "value"+strconv.Itoa(i))}})
		}
	}
	return p
}

func hashTask(args ...string) *Task {
	t := &Task{Cache: testCache, Calls: []Call{{Command: MustLookup(args[0])}}}
	for _, a := range args {
		t.Calls[0].Args = append(t.Calls[0].Args, []byte(a))
	}
	return t
}

var hashPoints = [][]string{
	{"HGET", "s", "f7"}, {"HEXISTS", "s", "none"}, {"HLEN", "s"}, {"HMGET", "s", "f1", "f2"}, {"HGETALL", "s"}, {"HSTRLEN", "s", "f7"}, {"HTTL", "s", "FIELDS", "1", "f3"},
	{"HSET", "s", "f7", "another"}, {"HINCRBY", "s", "n", "1"}, {"HSET", "s", "f7", "1"}, {"HPEXPIRE", "s", "90000", "FIELDS", "1", "f3"},
	{"HGET", "l", "f7"}, {"HEXISTS", "l", "none"}, {"HLEN", "l"}, {"HSET", "l", "f7", "another"}, {"HINCRBY", "l", "n", "1"}, {"HGETALL", "l"},
}

func TestHashPointsAllocateNothing(t *testing.T) {
	p := hashWorld(t, 20, 300)
	for _, args := range hashPoints {
		task := hashTask(args...)
		entry := &Entry{Now: start, Tasks: []*Task{task}}
		p.Apply(entry)
		allocs := testing.AllocsPerRun(200, func() {
			if task.Writes() {
				p.Apply(entry)
			} else {
				p.Query(start, 1, task)
			}
		})
		if allocs != 0 {
			t.Errorf("%q allocates %v times", args, allocs)
		}
	}
	add, remove := hashTask("HSET", "s", "new", "field"), hashTask("HDEL", "s", "new")
	entry := &Entry{Now: start, Tasks: []*Task{add, remove}}
	p.Apply(entry)
	if allocs := testing.AllocsPerRun(200, func() { p.Apply(entry) }); allocs != 0 {
		t.Errorf("a field that comes and goes allocates %v times", allocs)
	}
}

// TestHashesAreAccounted compares what is accounted with what the store takes.
func TestHashesAreAccounted(t *testing.T) {
	for _, of := range []struct {
		name         string
		keys, fields int
		timed        bool
	}{{"many small ones", 30000, 10, false}, {"many small ones with deadlines", 30000, 10, true}, {"a large one", 1, 200_000, false}, {"a large one with deadlines", 1, 200_000, true}} {
		p := hashWorld(t, 0, 0)
		for key := range of.keys {
			for i := range of.fields {
				task := hashTask("HSET", fmt.Sprint("key:", key), fmt.Sprint("field", i), "value"+strconv.Itoa(i))
				if of.timed {
					task = hashTask("HSETEX", fmt.Sprint("key:", key), "PX", strconv.Itoa(10000+(i*7919)%100000), "FIELDS", "1", fmt.Sprint("field", i), "value"+strconv.Itoa(i))
				}
				p.Apply(&Entry{Now: start, Tasks: []*Task{task}})
			}
		}
		for p.Maintain(1000) {
		}
		used, all := p.caches[testCache].used, p.Memory().All
		n := int64(of.keys * of.fields)
		t.Logf("%s: %d bytes accounted, %d taken: %.1f for each field", of.name, used, all, float64(all)/float64(n))
		if !accountsFor(used, all) {
			t.Errorf("%s: %d bytes are accounted, %d taken", of.name, used, all)
		}
		p.Apply(&Entry{Now: start, Tasks: []*Task{hashTask("UNLINK", "key:0")}}) // O(1): the rest is Maintain's
		if of.keys > 1 {
			continue
		}
		if left := p.Memory().All; left < all/2 {
			t.Errorf("%s: a removal gave back %d of %d bytes at once", of.name, all-left, all)
		}
		for p.Maintain(1000) {
		}
		if left := p.Memory().All; left > 1<<20 {
			t.Errorf("%s: removed, it still takes %d bytes", of.name, left)
		}
	}
}

// TestSweepRemovesFieldsWithinItsBudget from a large hash, of which all but one field expire at once.
func TestSweepRemovesFieldsWithinItsBudget(t *testing.T) {
	w := newWorld(t)
	w.do("HSET", "h", "stays", "1")
	for i := range 500 {
		w.do("HSETEX", "h", "PX", "100", "FIELDS", "1", fmt.Sprint("f", i), "1")
	}
	w.now += 100
	if got := w.do("HLEN", "h"); got != "1" {
		t.Fatalf("%s fields are counted", got)
	}
	var removed int64
	for rounds := 0; w.p.Due(w.now); rounds++ {
		n := number64(w.sweep(50))
		if removed += n; n > 50 || rounds > 40 {
			t.Fatalf("round %d removed %d", rounds, n)
		}
	}
	if removed != 500 || w.do("HGETALL", "h") != `{"stays" "1"}` || w.do("OBJECT", "ENCODING", "h") != `"listpack"` {
		t.Errorf("%d were removed, %s is left", removed, w.do("HGETALL", "h"))
	}
}

// FuzzPackedHash: bytes from anywhere are refused, or a hash that can be read and changed.
func FuzzPackedHash(f *testing.F) {
	var b packedHash
	for i, v := range []string{"", "7", "-300", "text", "99999999999"} {
		b = b.with(packedField{}, false, appendElement(nil, []byte(v)), []byte(v), int64(i)*1000)
	}
	f.Add([]byte(b))
	f.Add([]byte{0x80, 1, 0, 0, 0, 0, 0, 255, 1, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		b := packedHash(data)
		if b.valid() != nil {
			return
		}
		h := &hashValue{packed: append(packedHash(nil), b...)}
		n := 0
		h.each(0, func(hashField) bool { n++; return true })
		if n != h.size() {
			t.Fatalf("%d fields, counted %d", n, h.size())
		}
		for h.size() > 0 {
			h.packed = h.packed.without(h.packed.at(h.packed.body()))
			if err := h.packed.valid(); err != nil && h.size() > 0 {
				t.Fatal(err)
			}
		}
	})
}

// BenchmarkHash measures point operations on hashes of so many fields.
func BenchmarkHash(b *testing.B) {
	for _, n := range []int{10, 64, 128, 129, 10000} {
		key := "s"
		p := hashWorld(b, n, 0)
		for _, args := range [][]string{{"HGET", key, fmt.Sprint("f", n/2)}, {"HSET", key, fmt.Sprint("f", n/2), "another"}} {
			task := hashTask(args...)
			entry := &Entry{Now: start, Tasks: []*Task{task}}
			b.Run(fmt.Sprintf("%s/%d", args[0], n), func(b *testing.B) {
				b.ReportAllocs()
				for range b.N {
					if task.Writes() {
						p.Apply(entry)
					} else {
						p.Query(start, 1, task)
					}
				}
			})
		}
	}
}

// TestFlushedLargeHashesAreFreed: giving up a keyspace's table drops the tables of its hashes on the way.
func TestFlushedLargeHashesAreFreed(t *testing.T) {
	w := newWorld(t)
	for i := range 2000 {
		w.p.Apply(&Entry{Now: w.now, Tasks: []*Task{hashTask("HSETEX", fmt.Sprint("h", i%5), "PX", "1000", "FIELDS", "1", fmt.Sprint("f", i), "1")}})
	}
	w.do("FLUSHALL")
	for w.p.Maintain(10) {
		if err := w.p.check(); err != nil {
			t.Fatal(err)
		}
	}
	if u := w.p.Memory(); u.Live != 0 {
		t.Errorf("%d bytes of records are left", u.Live)
	}
}
