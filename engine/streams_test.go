package engine

import (
	"cmp"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A naiveEntry is an entry of a naiveStream, its names and values as a reader writes them.
type naiveEntry struct {
	ms, seq int
	fields  string
}

func (e naiveEntry) id() string   { return fmt.Sprintf("%d-%d", e.ms, e.seq) }
func (e naiveEntry) show() string { return fmt.Sprintf("[%q %s]", e.id(), e.fields) }

func byID(a, b naiveEntry) int { return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(a.seq, b.seq)) }

// A naiveDelivery is what is pending in a naiveGroup.
type naiveDelivery struct {
	entry    naiveEntry
	consumer string
	at       int64
	times    int
}

// A naiveStream is what a stream with one group ought to be: slices that are searched from the beginning.
type naiveStream struct {
	entries []naiveEntry
	last    naiveEntry // of the stream
	read    naiveEntry // by the group
	pending []naiveDelivery
}

func (n *naiveStream) find(id naiveEntry) int {
	return slices.IndexFunc(n.entries, func(e naiveEntry) bool { return byID(e, id) == 0 })
}

func (n *naiveStream) owed(id naiveEntry) int {
	return slices.IndexFunc(n.pending, func(d naiveDelivery) bool { return byID(d.entry, id) == 0 })
}

// between returns the entries from one id to another.
func (n *naiveStream) between(from, to naiveEntry) (list []naiveEntry) {
	for _, e := range n.entries {
		if byID(e, from) >= 0 && byID(e, to) <= 0 {
			list = append(list, e)
		}
	}
	return list
}

// deliver makes an entry pending, in order.
func (n *naiveStream) deliver(d naiveDelivery) {
	if i := n.owed(d.entry); i >= 0 {
		n.pending[i] = d
		return
	}
	n.pending = append(n.pending, d)
	slices.SortFunc(n.pending, func(a, b naiveDelivery) int { return byID(a.entry, b.entry) })
}

func shown(list []naiveEntry) string {
	var all []string
	for _, e := range list {
		all = append(all, e.show())
	}
	return "[" + strings.Join(all, " ") + "]"
}

// TestModelStream compares the commands on a stream and one group with slices: entries of many blocks, time that
// passes, atomic tasks that are taken back, and two replicas.
func TestModelStream(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, m := newPair(t), &naiveStream{}
		p.do("XGROUP", "CREATE", "k", "g", "0", "MKSTREAM")
		p.do("XGROUP", "CREATE", "k", "other", "0")
		num := strconv.Itoa
		id := func() naiveEntry {
			if len(m.entries) > 0 && rapid.Bool().Draw(t, "known") {
				return m.entries[rapid.IntRange(0, len(m.entries)-1).Draw(t, "which")]
			}
			return naiveEntry{ms: rapid.IntRange(0, m.last.ms+1).Draw(t, "ms"), seq: rapid.IntRange(0, 3).Draw(t, "seq")}
		}
		consumer := rapid.SampledFrom([]string{"ann", "bob", "cid", "dot"})
		fields := func() (args []string) {
			switch rapid.IntRange(0, 5).Draw(t, "fields") {
			case 0:
				return []string{"other", strings.Repeat("v", rapid.SampledFrom([]int{0, 1, 200, 5000}).Draw(t, "size"))}
			case 1:
				return []string{"name", "x", "temp", "1", "name", ""}
			default:
				return []string{"name", rapid.SampledFrom([]string{"x", "y", "\x00\xff"}).Draw(t, "name"), "temp", num(rapid.IntRange(0, 99).Draw(t, "temp"))}
			}
		}
		same := func(want string, args ...string) {
			t.Helper()
			if got := p.do(args...); got != want {
				t.Fatalf("%.300q\n got %.700s\nwant %.700s", args, got, want)
			}
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch op := rapid.SampledFrom([]string{"add", "add", "add", "range", "del", "del", "trim", "read", "read", "history", "ack", "ack",
				"claim", "pending", "autoclaim", "delconsumer", "undone", "undone", "wait"}).Draw(t, "op"); op {
			case "add":
				var commands [][]string
				for range rapid.SampledFrom([]int{1, 3, 150}).Draw(t, "many") {
					e, args := m.last, fields()
					if e.seq++; rapid.IntRange(0, 3).Draw(t, "new") == 0 {
						e = naiveEntry{ms: e.ms + rapid.SampledFrom([]int{1, 5, 100_000}).Draw(t, "by")}
					}
					e.fields = quoted(args)
					m.last, m.entries = e, append(m.entries, e)
					commands = append(commands, append([]string{"XADD", "k", e.id()}, args...))
				}
				p.a.apply(p.a.task(commands...))
				p.b.apply(p.b.task(commands...))
				same(fmt.Sprintf("[%s]", m.last.show()), "XREVRANGE", "k", "+", "-", "COUNT", "1")
			case "range":
				from, to, n := id(), id(), rapid.IntRange(1, 300).Draw(t, "count")
				list := m.between(from, to)
				same(shown(list[:min(n, len(list))]), "XRANGE", "k", from.id(), to.id(), "COUNT", num(n))
				slices.Reverse(list)
				same(shown(list[:min(n, len(list))]), "XREVRANGE", "k", to.id(), from.id(), "COUNT", num(n))
				same(num(len(m.entries)), "XLEN", "k")
			case "del":
				e := id()
				i, n := m.find(e), 0
				if i >= 0 {
					m.entries, n = slices.Delete(m.entries, i, i+1), 1
				}
				same(num(n), "XDEL", "k", e.id())
			case "trim":
				gone, args := 0, []string(nil)
				if rapid.Bool().Draw(t, "by id") {
					e := id()
					args = []string{"MINID", e.id()}
					for gone < len(m.entries) && byID(m.entries[gone], e) < 0 {
						gone++
					}
				} else {
					n := rapid.IntRange(0, 300).Draw(t, "length")
					args = []string{"MAXLEN", "=", num(n)}
					gone = max(len(m.entries)-n, 0)
				}
				m.entries = m.entries[gone:]
				same(num(gone), append([]string{"XTRIM", "k"}, args...)...)
			case "read":
				who, n := consumer.Draw(t, "consumer"), rapid.IntRange(1, 200).Draw(t, "count")
				list := m.between(naiveEntry{ms: m.read.ms, seq: m.read.seq + 1}, naiveEntry{ms: math.MaxInt})
				list = list[:min(n, len(list))]
				want := "(nil)"
				if len(list) > 0 {
					want = fmt.Sprintf("keyed{%q %s}", "k", shown(list))
					m.read = list[len(list)-1]
				}
				for _, e := range list {
					m.deliver(naiveDelivery{m.entries[m.find(e)], who, p.a.now, 1}) // with its fields, which e may lack
				}
				same(want, "XREADGROUP", "GROUP", "g", who, "COUNT", num(n), "STREAMS", "k", ">")
			case "history":
				who, n, after := consumer.Draw(t, "consumer"), rapid.IntRange(1, 200).Draw(t, "count"), id()
				var all []string
				for i := range m.pending {
					d := &m.pending[i]
					switch {
					case d.consumer != who || byID(d.entry, after) <= 0 || len(all) == n:
						continue
					case m.find(d.entry) >= 0:
						all = append(all, d.entry.show())
						d.at, d.times = p.a.now, d.times+1
					default:
						all = append(all, fmt.Sprintf("[%q (nil)]", d.entry.id()))
					}
				}
				same(fmt.Sprintf("keyed{%q [%s]}", "k", strings.Join(all, " ")), "XREADGROUP", "GROUP", "g", who, "COUNT", num(n), "STREAMS", "k", after.id())
			case "ack":
				args, n := []string{"XACK", "k", "g"}, 0
				for range rapid.IntRange(1, 60).Draw(t, "ids") {
					e := id()
					if len(m.pending) > 0 && rapid.Bool().Draw(t, "owed") {
						e = m.pending[rapid.IntRange(0, len(m.pending)-1).Draw(t, "which")].entry
					}
					if i := m.owed(e); i >= 0 {
						m.pending = slices.Delete(m.pending, i, i+1)
						n++
					}
					args = append(args, e.id())
				}
				same(num(n), args...)
			case "claim":
				who, e, force := consumer.Draw(t, "consumer"), id(), rapid.Bool().Draw(t, "force")
				args := []string{"XCLAIM", "k", "g", who, "0", e.id(), "JUSTID"}
				if force {
					args = append(args, "FORCE")
				}
				i, found := m.owed(e), m.find(e) >= 0
				switch {
				case !found && i >= 0:
					m.pending = slices.Delete(m.pending, i, i+1)
					same("[]", args...)
				case found && i >= 0:
					m.pending[i].consumer, m.pending[i].at = who, p.a.now
					same(fmt.Sprintf("[%q]", e.id()), args...)
				case found && force:
					m.deliver(naiveDelivery{m.entries[m.find(e)], who, p.a.now, 1}) // with its fields, which e may lack
					same(fmt.Sprintf("[%q]", e.id()), args...)
				default:
					same("[]", args...)
				}
			case "pending":
				who, idle := consumer.Draw(t, "consumer"), rapid.Int64Range(0, 10).Draw(t, "idle")
				var all, own []string
				for _, d := range m.pending {
					if p.a.now-d.at < idle {
						continue
					}
					s := fmt.Sprintf("[%q %q %d %d]", d.entry.id(), d.consumer, p.a.now-d.at, d.times)
					if all = append(all, s); d.consumer == who {
						own = append(own, s)
					}
				}
				same("["+strings.Join(all, " ")+"]", "XPENDING", "k", "g", "IDLE", strconv.FormatInt(idle, 10), "-", "+", "10000")
				same("["+strings.Join(own, " ")+"]", "XPENDING", "k", "g", "IDLE", strconv.FormatInt(idle, 10), "-", "+", "10000", who)
			case "autoclaim":
				who, idle := consumer.Draw(t, "consumer"), rapid.Int64Range(0, 10).Draw(t, "idle")
				var claimed, gone []string
				var left []naiveDelivery
				for _, d := range m.pending {
					switch {
					case m.find(d.entry) < 0:
						gone = append(gone, strconv.Quote(d.entry.id()))
						continue
					case p.a.now-d.at >= idle:
						claimed = append(claimed, d.entry.show())
						d = naiveDelivery{d.entry, who, p.a.now, d.times + 1}
					}
					left = append(left, d)
				}
				m.pending = left
				same(fmt.Sprintf("[%q [%s] [%s]]", "0-0", strings.Join(claimed, " "), strings.Join(gone, " ")), "XAUTOCLAIM", "k", "g", who, strconv.FormatInt(idle, 10), "0", "COUNT", "10000")
			case "delconsumer":
				who := consumer.Draw(t, "consumer")
				before := len(m.pending)
				m.pending = slices.DeleteFunc(m.pending, func(d naiveDelivery) bool { return d.consumer == who })
				same(num(before-len(m.pending)), "XGROUP", "DELCONSUMER", "k", "g", who)
			case "undone":
				var commands [][]string
				for range rapid.IntRange(1, 8).Draw(t, "commands") {
					e, who := id().id(), consumer.Draw(t, "consumer")
					commands = append(commands, rapid.SampledFrom([][]string{
						append([]string{"XADD", "k", "*"}, fields()...), append([]string{"XADD", "k", "MAXLEN", "~", "90", "*"}, fields()...),
						append([]string{"XADD", "k2", "*"}, fields()...), {"XDEL", "k", e}, {"XDEL", "k", e, id().id(), id().id()},
						{"XTRIM", "k", "MAXLEN", "70"}, {"XTRIM", "k", "MINID", "~", e}, {"XTRIM", "k", "MINID", e}, {"XTRIM", "k", "MAXLEN", "0"},
						{"XSETID", "k", "999999999-1", "MAXDELETEDID", e}, {"XGROUP", "CREATE", "k", "new", e}, {"XGROUP", "DESTROY", "k", "g"},
						{"XGROUP", "SETID", "k", "g", "$"}, {"XGROUP", "CREATECONSUMER", "k", "g", "eve"}, {"XGROUP", "DELCONSUMER", "k", "g", who},
						{"XREADGROUP", "GROUP", "g", who, "COUNT", "70", "STREAMS", "k", ">"}, {"XREADGROUP", "GROUP", "other", who, "NOACK", "STREAMS", "k", ">"},
						{"XREADGROUP", "GROUP", "g", who, "STREAMS", "k", "0"}, {"XACK", "k", "g", e, id().id()},
						{"XCLAIM", "k", "g", who, "0", e, "FORCE", "RETRYCOUNT", "9"}, {"XAUTOCLAIM", "k", "g", who, "0", "0", "COUNT", "50"},
						{"DEL", "k"}, {"COPY", "k", "k2", "REPLACE"}, {"RENAME", "k", "k2"}, {"PEXPIRE", "k", "7"},
					}).Draw(t, "command"))
				}
				p.undone(commands...)
			case "wait":
				p.wait(rapid.Int64Range(1, 10).Draw(t, "ms"))
			}
		}
		same(shown(m.entries), "XRANGE", "k", "-", "+")
		same("1", "COPY", "k", "twin")
		same(shown(m.entries), "XRANGE", "twin", "-", "+")
		last := naiveEntry{m.last.ms, m.last.seq + 1, `["more" "1"]`}
		same(strconv.Quote(last.id()), "XADD", "k", last.id(), "more", "1")
		same(strconv.Quote(last.id()), "XADD", "twin", last.id(), "less", "2")
		same(shown(append(m.entries, last)), "XRANGE", "k", "-", "+")
		for _, who := range []string{"ann", "bob", "cid", "dot"} {
			p.do("XGROUP", "DELCONSUMER", "twin", "g", who)
		}
		var owed []string
		for _, d := range m.pending {
			owed = append(owed, fmt.Sprintf("[%q %q %d %d]", d.entry.id(), d.consumer, p.a.now-d.at, d.times))
		}
		same("["+strings.Join(owed, " ")+"]", "XPENDING", "k", "g", "-", "+", "100000")
	})
}

// TestModelRun compares a run with a sorted slice.
func TestModelRun(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r run[streamID]
		var model []streamID
		key := func(list []streamID, id streamID) (int, bool) {
			return slices.BinarySearchFunc(list, id, func(a, b streamID) int { return cmp.Compare(a.seq, b.seq) })
		}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			op := rapid.SampledFrom([]string{"append", "insert", "remove", "first", "last"}).Draw(t, "op")
			for range rapid.SampledFrom([]int{1, 20, 400}).Draw(t, "many") {
				id := streamID{0, rapid.Uint64Range(0, 3000).Draw(t, "id")}
				if op == "append" {
					if id.seq = 0; len(model) > 0 {
						id.seq = model[len(model)-1].seq + 1
					}
				}
				i, found := key(model, id)
				switch {
				case (op == "append" || op == "insert") && !found:
					model = slices.Insert(model, i, id)
					r.insert(id)
				case op == "remove" && found:
					model = slices.Delete(model, i, i+1)
					at, _ := r.find(id)
					r.remove(at)
				case op == "first" && len(model) > 0:
					model = model[1:]
					r.remove(r.first())
				case op == "last" && len(model) > 0:
					model = model[:len(model)-1]
					r.remove(r.last())
				}
				i, found = key(model, id)
				if _, has := r.find(id); has != found {
					t.Fatalf("%v is there: %v", id, has)
				}
				if at := r.from(id); r.valid(at) != (i < len(model)) || (i < len(model) && *r.at(at) != model[i]) {
					t.Fatalf("from %v", id)
				}
				if !found {
					i--
				}
				if at := r.upTo(id); r.valid(at) != (i >= 0) || (i >= 0 && *r.at(at) != model[i]) {
					t.Fatalf("up to %v", id)
				}
			}
			if err := r.check(); err != nil {
				t.Fatal(err)
			}
			var forth, back []streamID
			for at := r.first(); r.valid(at); at = r.next(at) {
				forth = append(forth, *r.at(at))
			}
			for at := r.last(); r.valid(at); at = r.prev(at) {
				back = append(back, *r.at(at))
			}
			slices.Reverse(back)
			if !slices.Equal(forth, model) || !slices.Equal(back, model) {
				t.Fatalf("%d, forwards %d, backwards %d", len(model), len(forth), len(back))
			}
		}
	})
}

// TestAccountOfAStream holds the account against the heap, and tells what an entry takes.
func TestAccountOfAStream(t *testing.T) {
	if testing.Short() {
		t.Skip("fills the heap")
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	hold := func(what string, n int, fill func() []*streamValue) {
		before := heap()
		streams := fill()
		took, accounted := heap()-before, int64(0)
		for _, s := range streams {
			accounted += s.bytes()
		}
		t.Logf("%s: %.1f bytes each, accounted %.1f", what, float64(took)/float64(n), float64(accounted)/float64(n))
		if ratio := float64(accounted) / float64(took); ratio < 0.75 || ratio > 1.3 {
			t.Errorf("%s: %d bytes are accounted, %d taken", what, accounted, took)
		}
		runtime.KeepAlive(streams)
	}
	texts := func(list ...string) (out [][]byte) {
		for _, s := range list {
			out = append(out, []byte(s))
		}
		return out
	}
	for _, tt := range []struct{ streams, entries, size int }{{20_000, 1, 8}, {2_000, 10, 8}, {200, 500, 8}, {1, 200_000, 8}, {1, 20_000, 300}, {1, 2_000, 5_000}} {
		hold(fmt.Sprintf("entry of %d streams of %d with %d bytes", tt.streams, tt.entries, tt.size), tt.streams*tt.entries, func() (list []*streamValue) {
			fields := texts("name", strings.Repeat("x", tt.size))
			for range tt.streams {
				s := &streamValue{}
				for i := range tt.entries {
					s.add(nil, streamID{uint64(start + int64(i)), 0}, fields)
				}
				list = append(list, s)
			}
			return list
		})
	}
	const million = 1_000_000
	var s *streamValue
	hold("entry of a million with two small fields", million, func() []*streamValue {
		s = &streamValue{}
		for i := range uint64(million) {
			s.add(nil, streamID{uint64(start) + i/10, i % 10}, texts("name", "sensor-"+strconv.Itoa(int(i%10)), "temp", strconv.FormatUint(20+i%10, 10)+".5"))
		}
		return []*streamValue{s}
	})
	g := &streamGroup{name: "g"}
	s.addGroup(nil, g)
	bare := s.bytes()
	before := heap()
	o := s.see(nil, g, []byte("c"), start)
	s.walk(streamSpan{noID, maxID, million}, func(e streamEntry) { s.deliver(nil, g, delivery{e.id, start, 1, o.number}) })
	took, accounted := heap()-before, s.bytes()-bare
	t.Logf("pending entry of a million: %.1f bytes each, accounted %.1f", float64(took)/million, float64(accounted)/million)
	if ratio := float64(accounted) / float64(took); ratio < 0.75 || ratio > 1.35 {
		t.Errorf("a million pending entries: %d bytes are accounted, %d taken", accounted, took)
	}
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

// TestStreamsForgetWhatIsGone: what passes through a stream and a group leaves nothing behind.
func TestStreamsForgetWhatIsGone(t *testing.T) {
	s, g := &streamValue{}, &streamGroup{name: "g"}
	s.addGroup(nil, g)
	o := s.see(nil, g, []byte("c"), start)
	empty := s.bytes()
	for i := range uint64(50_000) {
		id := streamID{uint64(start), i}
		s.add(nil, id, [][]byte{[]byte("name"), []byte("an entry of some length")})
		s.deliver(nil, g, delivery{id, start, 1, o.number})
		if i >= 10 {
			old := streamID{uint64(start), i - 10}
			s.settle(nil, g, old)
			if i%2 == 0 {
				s.remove(nil, old)
			} else {
				s.trim(nil, &trimming{byLength: true, maxLen: 10})
			}
		}
		if len(s.blocks.chunks) > 1 || cap(s.blocks.chunks[0]) > 8 || len(g.pending.chunks) > 2 || len(o.pending.chunks) > 2 || s.bytes() > empty+4096 {
			t.Fatalf("after %d entries, %d of them take %d bytes in %d blocks", i, s.n, s.bytes(), s.blocks.n)
		}
	}
	if err := s.check(); err != nil {
		t.Error(err)
	}
}

// TestReadsOfStreamsAllocateLittle: one buffer for ids, whatever is read.
func TestReadsOfStreamsAllocateLittle(t *testing.T) {
	w := newWorld(t)
	for i := range 1000 {
		w.do("XADD", "k", "*", "name", "x", "number", strconv.Itoa(i))
	}
	w.do("XGROUP", "CREATE", "k", "g", "0")
	w.do("XREADGROUP", "GROUP", "g", "c", "STREAMS", "k", ">")
	for _, args := range [][]string{{"XLEN", "k"}, {"XRANGE", "k", "-", "+"}, {"XREVRANGE", "k", "+", "-", "COUNT", "500"}, {"XREAD", "STREAMS", "k", "0"}, {"XINFO", "STREAM", "k", "FULL"}, {"XPENDING", "k", "g"}} {
		task := w.task(args)
		r := task.Reply.(*Recording)
		w.p.Query(w.now, 0, task)
		if n := testing.AllocsPerRun(100, func() {
			r.Reset()
			w.p.Query(w.now, 0, task)
		}); n > 4 {
			t.Errorf("%s: %v allocations", args[0], n)
		}
	}
}

// TestConsumersAreSeenAndActive: a consumer is seen when it asks, and active when it gets something.
func TestConsumersAreSeenAndActive(t *testing.T) {
	w := newWorld(t)
	w.do("XGROUP", "CREATE", "k", "g", "0", "MKSTREAM")
	for _, step := range []struct{ call, idle, inactive string }{
		{"XREADGROUP GROUP g c STREAMS k >", "0", "-1"}, // finds nothing, and makes it
		{"XLEN k", "100", "-1"},
		{"XREADGROUP GROUP g c STREAMS k 0", "0", "-1"}, // its history is empty
		{"XADD k 1-1 a b", "100", "-1"},
		{"XREADGROUP GROUP g c STREAMS k >", "0", "0"},
		{"XREADGROUP GROUP g c STREAMS k 0", "0", "100"}, // what it has already
		{"XREADGROUP GROUP g c STREAMS k >", "0", "200"},
		{"XCLAIM k g c 10000 1-1", "0", "300"}, // which is not idle for as long
		{"XCLAIM k g c 0 1-1", "0", "0"},
		{"XAUTOCLAIM k g c 10000 0", "0", "100"},
		{"XAUTOCLAIM k g c 0 0", "0", "0"},
		{"XADD k 2-1 a b", "100", "100"},
		{"XREADGROUP GROUP g c NOACK STREAMS k >", "0", "200"}, // nothing is pending by it
	} {
		w.do(strings.Fields(step.call)...)
		got := w.do("XINFO", "CONSUMERS", "k", "g")
		if !strings.Contains(got, `"idle" `+step.idle+` "inactive" `+step.inactive) {
			t.Errorf("after %s: %s, want idle %s, inactive %s", step.call, got, step.idle, step.inactive)
		}
		w.now += 100
	}
}

// TestXsetidKeepsWhatWasDeleted: an id that was deleted is never given again.
func TestXsetidKeepsWhatWasDeleted(t *testing.T) {
	w := newWorld(t)
	w.do("XADD", "k", "5-1", "a", "b")
	w.do("XADD", "k", "6-1", "a", "b")
	w.do("XDEL", "k", "6-1")
	for id, want := range map[string]string{"5-9": "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id", "6-1": "OK"} {
		if got := w.do("XSETID", "k", id); !strings.Contains(got, want) {
			t.Errorf("XSETID k %s: %s, want %s", id, got, want)
		}
	}
}

func TestRightsAndKeysOfStreams(t *testing.T) {
	tests := []struct{ call, want, keys string }{
		{"XADD k * a b", "cache:StreamWrite k", "k"},
		{"XLEN k", "cache:StreamRead k", "k"},
		{"XREAD STREAMS a b 0 0", "cache:StreamRead a, cache:StreamRead b", "a b"},
		{"XREAD COUNT 1 BLOCK 0 streams a b 0 0", "cache:StreamRead a, cache:StreamRead b", "a b"},
		{"XREAD COUNT STREAMS STREAMS a 0", "cache:StreamRead a", "a"}, // and will fail
		{"XREAD STREAMS a b 0", "cache:StreamRead ", ""},               // as will these
		{"XREAD FOO STREAMS a 0", "cache:StreamRead ", ""},
		{"XREAD STREAMS STREAMS STREAMS 0", "cache:StreamRead ", ""},
		{"XREAD STREAMS STREAMS a 0 0", "cache:StreamRead STREAMS, cache:StreamRead a", "STREAMS a"},
		{"XREADGROUP GROUP STREAMS c NOACK STREAMS a b > >", "cache:StreamWrite a, cache:StreamWrite b, cache:StreamRead a, cache:StreamRead b", "a b"},
		{"XREADGROUP GROUP g STREAMS STREAMS a 0", "cache:StreamWrite a, cache:StreamRead a", "a"},
		{"XGROUP CREATE k g 0", "cache:StreamWrite k", "k"},
		{"XGROUP HELP", "cache:StreamWrite ", ""},
		{"XINFO STREAM k", "cache:StreamRead k", "k"},
		{"XACK k g 1", "cache:StreamWrite k", "k"},
		{"XPENDING k g", "cache:StreamRead k", "k"},
		{"XCLAIM k g c 0 1", "cache:StreamWrite k, cache:StreamRead k", "k"},
		{"XAUTOCLAIM k g c 0 1", "cache:StreamWrite k, cache:StreamRead k", "k"},
	}
	for _, tt := range tests {
		call := newWorld(t).task(strings.Fields(tt.call)).Calls[0]
		var got, keys []string
		for _, r := range call.Command.AppendRights(nil, call.Args) {
			got = append(got, r.Action+" "+string(r.Name))
		}
		for _, k := range call.Command.AppendKeys(nil, call.Args) {
			keys = append(keys, string(k))
		}
		if list := strings.Join(got, ", "); list != tt.want {
			t.Errorf("%s needs %s, want %s", tt.call, list, tt.want)
		}
		if list := strings.Join(keys, " "); list != tt.keys || !strings.HasPrefix(tt.keys, string(call.Command.FirstKey(call.Args))) {
			t.Errorf("%s has keys %s, want %s", tt.call, list, tt.keys)
		}
	}
}

// TestNoStreamIsReadUnseen: whatever XREAD and XREADGROUP read, its right was asked for.
func TestNoStreamIsReadUnseen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SampledFrom([]string{"STREAMS", "streams", "GROUP", "NOACK", "COUNT", "BLOCK", "1", "a", "b", "0", ">"}), 3, 12).Draw(t, "words")
		for _, name := range []string{"XREAD", "XREADGROUP"} {
			call := newWorld(t).task(append([]string{name}, words...)).Calls[0]
			o, err := parseXread(name, call.Args, start)
			if keys := call.Command.AppendKeys(nil, call.Args); err == nil && !slices.EqualFunc(keys, o.keys, func(a, b []byte) bool { return string(a) == string(b) }) {
				t.Fatalf("%s %q reads %q, shows %q", name, words, o.keys, keys)
			}
		}
	})
}

func TestFactsOfStreams(t *testing.T) {
	const unbounded = 1<<63 - 1
	tests := []struct {
		call string
		want Facts
	}{
		{"XADD k MAXLEN ~ 5 * ab c d ef", Facts{ValueSize: 6, TTL: -1, MaxItems: -1}},
		{"XADD k FOO 1 2 3", Facts{ValueSize: 0, TTL: -1, MaxItems: -1}},
		{"XRANGE k - +", Facts{ValueSize: -1, TTL: -1, MaxItems: unbounded}},
		{"XRANGE k - + COUNT 7", Facts{ValueSize: -1, TTL: -1, MaxItems: 7}},
		{"XREAD COUNT 7 STREAMS a b 0 0", Facts{ValueSize: -1, TTL: -1, MaxItems: 14}},
		{"XREAD STREAMS a b 0 0", Facts{ValueSize: -1, TTL: -1, MaxItems: unbounded}},
		{"XREADGROUP GROUP g c COUNT 7 STREAMS a >", Facts{ValueSize: -1, TTL: -1, MaxItems: 7}},
		{"XREADGROUP GROUP g c STREAMS a b >", Facts{ValueSize: -1, TTL: -1, MaxItems: unbounded}},
		{"XPENDING k g - + 9", Facts{ValueSize: -1, TTL: -1, MaxItems: 9}},
		{"XPENDING k g", Facts{ValueSize: -1, TTL: -1, MaxItems: unbounded}},
		{"XAUTOCLAIM k g c 0 0 COUNT 9", Facts{ValueSize: -1, TTL: -1, MaxItems: 9}},
		{"XAUTOCLAIM k g c 0 0", Facts{ValueSize: -1, TTL: -1, MaxItems: 100}},
	}
	for _, tt := range tests {
		call := newWorld(t).task(strings.Fields(tt.call)).Calls[0]
		got := call.Command.FactsOf(call.Args, start)
		if got.ValueSize != tt.want.ValueSize || got.TTL != tt.want.TTL || got.MaxItems != tt.want.MaxItems {
			t.Errorf("%s: %+v, want %+v", tt.call, got, tt.want)
		}
	}
}

func TestStreamIDs(t *testing.T) {
	const most = "18446744073709551615"
	tests := []struct{ text, want string }{
		{"0", "0-7"}, {"5", "5-7"}, {"5-0", "5-0"}, {"05-01", "5-1"}, {" 5-+1", "5-1"}, {most + "-" + most, most + "-" + most},
		{"", ""}, {"-", ""}, {"5-", ""}, {"-5", ""}, {"5-1-2", ""}, {"x", ""}, {"5-x", ""}, {"5 ", ""}, {"5-*", ""},
		{"18446744073709551616", ""}, {"99999999999999999999", ""}, {strings.Repeat("0", 128), ""}, {strings.Repeat("0", 127), "0-7"},
	}
	for _, tt := range tests {
		got := ""
		if id, err := parseID([]byte(tt.text), 7); err == nil {
			got = id.String()
		}
		if got != tt.want {
			t.Errorf("%q is %q, want %q", tt.text, got, tt.want)
		}
	}
}

func BenchmarkStream(b *testing.B) {
	fields := [][]byte{[]byte("name"), []byte("sensor-7"), []byte("temp"), []byte("21.5")}
	filled := func() *streamValue {
		s := &streamValue{}
		for i := range uint64(1_000_000) {
			s.add(nil, streamID{i, 0}, fields)
		}
		return s
	}
	b.Run("add", func(b *testing.B) {
		b.ReportAllocs()
		s := &streamValue{}
		for i := range b.N {
			s.add(nil, streamID{uint64(i), 1}, fields)
		}
	})
	b.Run("add and trim to 1000", func(b *testing.B) {
		b.ReportAllocs()
		s := &streamValue{}
		for i := range b.N {
			s.add(nil, streamID{uint64(i), 1}, fields)
			s.trim(nil, &trimming{byLength: true, maxLen: 1000})
		}
	})
	b.Run("find in a million", func(b *testing.B) {
		s := filled()
		b.ResetTimer()
		for i := range b.N {
			s.find(streamID{uint64(i*7919) % 1_000_000, 0})
		}
	})
	b.Run("deliver and settle beside a million", func(b *testing.B) {
		s, g := filled(), &streamGroup{name: "g"}
		s.addGroup(nil, g)
		o := s.see(nil, g, []byte("c"), start)
		for i := range uint64(1_000_000) {
			s.deliver(nil, g, delivery{streamID{i, 0}, start, 1, o.number})
		}
		b.ResetTimer()
		for i := range b.N {
			id := streamID{uint64(i*7919) % 1_000_000, 0}
			s.settle(nil, g, id)
			s.deliver(nil, g, delivery{id, start, 1, o.number})
		}
	})
}
