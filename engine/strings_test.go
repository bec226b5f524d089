package engine

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/memory"
)

var modelKeys = []string{"a", "b", "c", ""}

// from draws one of list; an empty string among options stands for leaving it out.
func from(t *rapid.T, what string, list ...string) string {
	return rapid.SampledFrom(list).Draw(t, what)
}

// line splits a command and leaves out what is empty, but for arguments written as "".
func line(format string, args ...any) []string {
	words := strings.Fields(fmt.Sprintf(format, args...))
	for i, w := range words {
		if w == `""` {
			words[i] = ""
		}
	}
	return words
}

// drawKey draws a key; the empty one is written as line needs it.
func drawKey(t *rapid.T) string {
	key := from(t, "key", modelKeys...)
	if key == "" {
		return `""`
	}
	return key
}

func drawStringCommand(t *rapid.T, m *naive) []string {
	key, value := drawKey(t), from(t, "value", "x", `""`, "hello", "12", "-7", "0.5")
	small := func() string {
		return from(t, "index", "0", "1", "2", "-1", "-2", "-9", "9", "-9223372036854775808", "9223372036854775807")
	}
	ttl := func() string { return from(t, "ttl", "", "PX 100", "PX 1000", "KEEPTTL") }
	switch name := from(t, "command", "GET", "MGET", "STRLEN", "GETRANGE", "SET", "SET", "SETNX", "PSETEX", "MSET", "MSETNX", "GETSET", "GETDEL", "GETEX",
		"APPEND", "SETRANGE", "DEL", "HSET", "KV.GET", "KV.SET", "KV.SET", "KV.APPEND", "KV.DEL", "COPY"); name {
	case "MGET":
		return line("MGET %s %s %s", key, drawKey(t), drawKey(t))
	case "GETRANGE":
		return line("GETRANGE %s %s %s", key, small(), small())
	case "SET":
		past := fmt.Sprintf("PXAT %d", m.now+int64(rapid.IntRange(-1, 1).Draw(t, "past")))
		return line("SET %s %s %s %s %s", key, value, from(t, "if", "", "NX", "XX"), from(t, "get", "", "GET"), from(t, "pxat", ttl(), past))
	case "SETNX", "GETSET":
		return line("%s %s %s", name, key, value)
	case "PSETEX":
		return line("PSETEX %s 500 %s", key, value)
	case "MSET", "MSETNX":
		return line("%s %s %s %s %s", name, key, value, drawKey(t), value)
	case "GETEX":
		return line("GETEX %s %s", key, from(t, "deadline", "", "PX 300", "PERSIST"))
	case "APPEND", "KV.APPEND":
		return line("%s %s %s", name, key, from(t, "more", "x", `""`, strings.Repeat("long", 30)))
	case "SETRANGE":
		return line("SETRANGE %s %d %s", key, rapid.IntRange(0, 9).Draw(t, "offset"), from(t, "patch", "x", `""`, "xyz"))
	case "HSET":
		return line("HSET %s f v", key)
	case "KV.GET":
		return line("KV.GET %s %s", key, from(t, "part", "", "META", "RANGE "+small()+" "+small()))
	case "KV.SET", "KV.DEL":
		version := m.version
		if it := m.get(strings.Trim(key, `"`)); it != nil && rapid.Bool().Draw(t, "right version") {
			version = it.version
		}
		match := fmt.Sprintf("IFMATCH 1 IFMATCH %d", version)
		if name == "KV.DEL" {
			return line("KV.DEL %s %s", key, from(t, "if", "", match[len("IFMATCH 1 "):]))
		}
		return line("KV.SET %s %s %s %s %s", key, value, from(t, "type", "", "TYPE text/plain", "FLAGS 4294967295", "FLAGS 7 TYPE text/plain"), ttl(), from(t, "if", "", "IFNONE", "IFANY", match[len("IFMATCH 1 "):]))
	case "COPY":
		return line("COPY %s %s REPLACE", key, drawKey(t))
	default: // GET STRLEN GETDEL DEL
		return line("%s %s", name, key)
	}
}

func TestModelStrings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { modelRun(t, drawStringCommand) })
}

// TestAppendSharesNoRoom: copies of an appended string, and versions that an undone task left behind, must not
// write into each other's bytes.
func TestAppendSharesNoRoom(t *testing.T) {
	w := newWorld(t)
	for range 10 {
		w.do("APPEND", "a", "0123456789")
	}
	w.do("COPY", "a", "b")
	w.do("APPEND", "a", "A")
	w.do("APPEND", "b", "B")
	undone := w.task([]string{"APPEND", "a", "?????"}, []string{"COPY", "a", "c"}, []string{"APPEND", "c", "!"}, []string{"INCR", "a"})
	undone.Atomic = true
	w.apply(undone)
	w.do("COPY", "a", "c")
	w.do("APPEND", "a", "D")
	w.do("APPEND", "c", "E")
	for key, end := range map[string]string{"a": "9AD", "b": "9B", "c": "9AE"} {
		if got := unquote(w.do("GET", key)); !strings.HasSuffix(got, end) || len(got) != 99+len(end) {
			t.Errorf("%s ends with %q, want %q", key, got[max(0, len(got)-5):], end)
		}
	}
}

// TestAppendCopiesLittle: a string built byte by byte is copied a number of times that grows like the logarithm
// of its length once it is kept apart, and never has more than a quarter of its length to spare.
func TestAppendCopiesLittle(t *testing.T) {
	w := newWorld(t)
	const n = 1 << 18
	w.do("SET", "k", strings.Repeat("x", dense.Apart))
	moves := 0
	var last *byte
	task := w.task([]string{"APPEND", "k", "x"})
	for range n {
		w.p.Apply(&Entry{Now: start, Tasks: []*Task{task}})
		s := w.p.caches[testCache].dbs[0].find([]byte("k")).value.(*stringValue)
		if &s.data[0] != last {
			last, moves = &s.data[0], moves+1
		}
		if spare := s.room - len(s.data); spare > max(memory.PageSize, len(s.data)/4) {
			t.Fatalf("%d bytes to spare behind %d", spare, len(s.data))
		}
	}
	if moves > 100 {
		t.Errorf("%d bytes were moved %d times", n, moves)
	}
	if err := w.p.check(); err != nil {
		t.Error(err)
	}
}

// TestSetrangeRefusesBeforeItAllocates: the limit is on where the value would end.
func TestSetrangeRefusesBeforeItAllocates(t *testing.T) {
	w := newWorld(t)
	for _, offset := range []string{"536870911", "33554432", "9223372036854775807"} {
		task := w.task([]string{"SETRANGE", "k", offset, "x"})
		allocated := testing.AllocsPerRun(1, func() { w.p.Apply(&Entry{Now: start, Tasks: []*Task{task}}) })
		if got := show(task.Reply.(*Recording)); !strings.HasPrefix(got, "(error) ERR string exceeds maximum allowed size (proto-max-bulk-len): max value size exceeded. Limit: 33554432 bytes") {
			t.Errorf("offset %s: %s", offset, got)
		}
		if allocated > 50 {
			t.Errorf("offset %s: %v allocations", offset, allocated)
		}
	}
	if got := w.do("SETRANGE", "k", "33554431", "x"); got != "33554432" {
		t.Errorf("up to the limit: %s", got)
	}
}

// TestGetAllocatesNothing: the hottest path there is.
func TestGetAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	w.do("SET", "key", strings.Repeat("v", 64))
	w.do("SET", "timed", "v", "EX", "100")
	for _, command := range [][]string{{"GET", "key"}, {"get", "timed"}, {"GET", "missing"}, {"STRLEN", "key"}, {"EXISTS", "key"}, {"PTTL", "timed"}, {"KV.GET", "key"}} {
		task := w.task(command)
		r := task.Reply.(*Recording)
		w.p.Query(w.now, 1, task)
		if n := testing.AllocsPerRun(100, func() { r.Reset(); w.p.Query(w.now, 1, task) }); n != 0 {
			t.Errorf("%q takes %v allocations", command, n)
		}
	}
}

func benchmark(b *testing.B, setup []string, command ...string) {
	w := newWorld(b)
	if setup != nil {
		w.do(setup...)
	}
	task := w.task(command)
	r, entry := task.Reply.(*Recording), &Entry{Now: start, Tasks: []*Task{task}}
	b.ReportAllocs()
	for b.Loop() {
		if r.Reset(); task.Writes() {
			w.p.Apply(entry)
		} else {
			w.p.Query(start, 1, task)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	benchmark(b, []string{"SET", "key", strings.Repeat("v", 64)}, "GET", "key")
}

func BenchmarkKVGet(b *testing.B) {
	benchmark(b, []string{"KV.SET", "key", strings.Repeat("v", 64), "TYPE", "text/plain"}, "KV.GET", "key")
}

func BenchmarkSet(b *testing.B) { benchmark(b, nil, "SET", "key", strings.Repeat("v", 64)) }

func BenchmarkSetEx(b *testing.B) {
	benchmark(b, nil, "SET", "key", strings.Repeat("v", 64), "EX", "60")
}

func BenchmarkIncr(b *testing.B) { benchmark(b, nil, "INCR", "key") }

func BenchmarkIncrByFloat(b *testing.B) { benchmark(b, nil, "INCRBYFLOAT", "key", "0.25") }

func BenchmarkCounterAdd(b *testing.B) {
	benchmark(b, nil, "COUNTER.ADD", "key", "1", "MAX", "9000000000000000000")
}
