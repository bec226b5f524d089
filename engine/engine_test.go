package engine

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/larder-cache/larder/internal/fault"
)

// start is when every test begins: late enough that nothing is negative, round enough to read.
const start = int64(1_800_000_000_000)

var testCache = CacheID{1}

// tester is what a world needs of *testing.T and *rapid.T.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

// A world is a partition with a clock turned by hand, and one cache without limits.
type world struct {
	t    tester
	p    *Partition
	now  int64
	seed uint64
	db   int

	checkEvery uint64 // after how many entries all invariants are checked; 0 is after each
}

func newWorld(t tester) *world {
	w := &world{t: t, p: New(Seed{1, 2}), now: start}
	w.configure(Settings{})
	return w
}

func (w *world) configure(s Settings) { w.apply(ConfigureTask(testCache, s)) }

// apply gives tasks to the partition as one entry and checks every invariant afterwards.
func (w *world) apply(tasks ...*Task) {
	w.t.Helper()
	w.seed++
	w.p.Apply(&Entry{Now: w.now, Seed: w.seed, Tasks: tasks})
	if w.seed%max(w.checkEvery, 1) == 0 {
		w.check()
	}
}

func (w *world) check() {
	w.t.Helper()
	if err := w.p.check(); err != nil {
		w.t.Fatal(err)
	}
}

// sweep removes what has expired, at most so many items, and says how many.
func (w *world) sweep(atMost int) string {
	w.t.Helper()
	task := w.p.Sweep(w.now, atMost)
	if task == nil {
		return "0"
	}
	task.Reply = &Recording{}
	w.apply(task)
	return show(task.Reply.(*Recording))
}

// task makes a task of commands given as arguments.
func (w *world) task(commands ...[]string) *Task {
	w.t.Helper()
	t := &Task{Cache: testCache, DB: w.db, Reply: &Recording{}}
	for _, args := range commands {
		c := Lookup([]byte(args[0]))
		if c == nil {
			w.t.Fatalf("no command %q", args[0])
		}
		call := Call{Command: c}
		for _, a := range args {
			call.Args = append(call.Args, []byte(a))
		}
		t.Calls = append(t.Calls, call)
	}
	return t
}

// do runs one command, as a query when it writes nothing, and returns its reply as a person would write it.
func (w *world) do(args ...string) string {
	w.t.Helper()
	t := w.task(args)
	if t.Writes() {
		w.apply(t)
	} else {
		w.seed++
		w.p.Query(w.now, w.seed, t)
	}
	return show(t.Reply.(*Recording))
}

// show writes a recording in one line for each reply: (nil), integers, "bulk", OK, [a b], {k: v}, (error) …
func show(r *Recording) string {
	var lines []string
	for c := r.Cursor(); ; {
		s, ok := showValue(&c)
		if !ok {
			return strings.Join(lines, "\n")
		}
		lines = append(lines, s)
	}
}

func showValue(c *Cursor) (string, bool) {
	list := func(n int64) string {
		var parts []string
		for range n {
			s, _ := showValue(c)
			parts = append(parts, s)
		}
		return strings.Join(parts, " ")
	}
	switch t := c.Next(); t.Kind {
	case ReplyEnd:
		return "", false
	case ReplyNull, ReplyNullArray:
		return "(nil)", true
	case ReplyTrue:
		return "true", true
	case ReplyFalse:
		return "false", true
	case ReplyInt:
		return strconv.FormatInt(t.Int, 10), true
	case ReplyDouble:
		return "(double) " + string(appendFloat(nil, t.Float)), true
	case ReplyStatus:
		return string(t.Bytes), true
	case ReplyBulk:
		return strconv.Quote(string(t.Bytes)), true
	case ReplyArray:
		return "[" + list(t.Int) + "]", true
	case ReplySet:
		return "set[" + list(t.Int) + "]", true
	case ReplyMap:
		return "{" + list(2*t.Int) + "}", true
	case ReplyKeyed:
		return "keyed{" + list(2*t.Int) + "}", true
	case ReplyPairs:
		return "pairs[" + list(2*t.Int) + "]", true
	case ReplyError:
		return "(error) " + t.Err.Redis(), true
	default:
		panic(fmt.Sprintf("piece %q in a recording", t.Kind))
	}
}

// TestStories runs testdata/stories: commands in order, with a clock turned by hand. A directive is one of
//
//	run [db=N]                                  one command a line, replies below; quotes and \xNN as in Go
//	atomic                                      the lines as one atomic task
//	once key=K [print=P]                        the lines as one task with an idempotency key
//	wait D                                      turns the clock on by a duration
//	cache [memory=N] [eviction=P] [value=N] [ttl=D]   changes the cache's settings
//	sweep [N]                                   removes what has expired, and says how many
//
// Refresh with -rewrite, then read the diff.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		w := newWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			w.t = t
			return w.story(t, d)
		})
	})
}

func (w *world) story(t *testing.T, d *datadriven.TestData) string {
	t.Helper()
	w.db = 0
	d.MaybeScanArgs(t, "db", &w.db)
	switch d.Cmd {
	case "run":
		var b strings.Builder
		for _, line := range strings.Split(d.Input, "\n") {
			b.WriteString(w.do(words(t, line)...) + "\n")
		}
		return b.String()
	case "atomic", "once":
		var commands [][]string
		for _, line := range strings.Split(d.Input, "\n") {
			commands = append(commands, words(t, line))
		}
		task := w.task(commands...)
		task.Atomic = d.Cmd == "atomic"
		if d.Cmd == "once" {
			var key, print string
			d.ScanArgs(t, "key", &key)
			d.MaybeScanArgs(t, "print", &print)
			task.Once = &Once{}
			copy(task.Once.Key[:], key)
			copy(task.Once.Fingerprint[:], print)
		}
		before := w.p.Digest()
		w.apply(task)
		out := show(task.Reply.(*Recording)) + "\n"
		if task.Replayed {
			out += "replayed\n"
		}
		if task.Failed >= 0 && task.Atomic {
			if w.p.Digest() != before {
				t.Fatalf("%s: a failed atomic task changed something", d.Pos)
			}
			out += fmt.Sprintf("undone: call %d failed\n", task.Failed)
		}
		return out
	case "wait":
		by, err := time.ParseDuration(d.CmdArgs[0].Key)
		if err != nil {
			t.Fatalf("%s: %v", d.Pos, err)
		}
		w.now += by.Milliseconds()
		return ""
	case "cache":
		var s Settings
		var eviction, ttl string
		d.MaybeScanArgs(t, "memory", &s.MemoryLimit)
		d.MaybeScanArgs(t, "value", &s.MaxValue)
		if d.MaybeScanArgs(t, "eviction", &eviction) {
			p, err := ParseEvictionPolicy(eviction)
			if err != nil {
				t.Fatal(err)
			}
			s.Eviction = p
		}
		if d.MaybeScanArgs(t, "ttl", &ttl) {
			by, err := time.ParseDuration(ttl)
			if err != nil {
				t.Fatal(err)
			}
			s.DefaultTTL = by.Milliseconds()
		}
		w.configure(s)
		return ""
	case "sweep":
		atMost := 1000
		if len(d.CmdArgs) > 0 {
			atMost, _ = strconv.Atoi(d.CmdArgs[0].Key)
		}
		return w.sweep(atMost) + "\n"
	default:
		t.Fatalf("%s: no directive %q", d.Pos, d.Cmd)
		return ""
	}
}

// words splits a line as a shell would: quoted words follow Go's rules for string literals.
func words(t testing.TB, line string) (list []string) {
	t.Helper()
	for line = strings.TrimSpace(line); line != ""; line = strings.TrimSpace(line) {
		if line[0] == '"' {
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				t.Fatalf("bad quotes in %q", line)
			}
			word, _ := strconv.Unquote(quoted)
			list, line = append(list, word), line[len(quoted):]
			continue
		}
		word, rest, _ := strings.Cut(line, " ")
		list, line = append(list, word), rest
	}
	return list
}

func TestRecordingReplaysWhatItHeard(t *testing.T) {
	var a, b Recording
	a.Array(11)
	a.Null()
	a.NullArray()
	a.Bool(true)
	a.Int(-1 << 63)
	a.Double(0.1)
	a.Status("OK")
	a.Bulk([]byte("x\x00y"))
	a.Map(1)
	a.Text("k")
	a.Pairs(1)
	a.Text("m")
	a.Double(-1.5)
	a.Keyed(1)
	a.Text("k")
	a.Array(0)
	a.Set(0)
	a.Error(&fault.Error{Kind: fault.Throttled, Message: "slow down", Argument: "a", Prefix: "BUSY", RetryAfter: time.Second})
	a.Replay(&b)
	if !bytes.Equal(a.b, b.b) {
		t.Errorf("replayed %q, recorded %q", show(&b), show(&a))
	}
	c := a.Cursor()
	c.Skip()
	if next := c.Next(); next.Kind != ReplyEnd {
		t.Errorf("Skip left %q", next.Kind)
	}
}
