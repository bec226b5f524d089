package engine

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/usage"
)

// The properties in this file hold for every command there is. They draw calls from the command table itself:
// a row's Usage says what arguments look like, so a new row is under test from its first day.

type choice = usage.Choice

func pick[T any](choose choice, from []T) T { return from[choose(len(from))] }

// sketchDumps are the heads of a Bloom and of a cuckoo filter, and a part of one.
func sketchDumps() []string {
	s := bloomShape{errorRate: 0.1, capacity: 4, expansion: 2}
	l := s.first()
	head := make([]byte, bloomHead+bloomLinkHead)
	binary.LittleEndian.PutUint32(head[9:], 1)
	binary.LittleEndian.PutUint32(head[13:], bloomNoRound|bloomHash64)
	binary.LittleEndian.PutUint32(head[17:], 2)
	l.write(head[bloomHead:])
	f := make(cuckoo, cuckooHead)
	c := defaultCuckoo(8)
	f.write(&c)
	return []string{string(head[1:]), string(f.dumpHead()), "\x10\x20\x30\x40\x50\x60\x70\x80"}
}

func init() {
	usage.More["chunk"] = append(sketchDumps(), "", "x", "\x00\xff")
	usage.More["serialized-value"] = someDumps()
}

// someDumps are what DUMP answers for a value of each type.
var someDumps = sync.OnceValue(func() (dumps []string) {
	w := &world{t: noTester{}, p: New(Seed{}), now: start}
	w.configure(Settings{})
	for _, line := range []string{"SET k 5", "RPUSH k a b", "SADD k 1 2", "SADD k f g", "ZADD k 1 f 2 g", "HSET k f v g w", "HSETEX k PX 20 FIELDS 1 f v", "XADD k 5-1 f v"} {
		w.do("DEL", "k")
		w.do(strings.Fields(line)...)
		task := w.task([]string{"DUMP", "k"})
		w.p.Query(w.now, 0, task)
		c := task.Reply.(*Recording).Cursor()
		dumps = append(dumps, string(c.Next().Bytes))
	}
	return append(dumps, "no dump")
})

// noTester is for a world outside of any test.
type noTester struct{}

func (noTester) Helper()                   {}
func (noTester) Fatal(args ...any)         { panic(fmt.Sprint(args...)) }
func (noTester) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }

// someCall makes up a call of one of commands: mostly a well-formed one, now and then one with something wrong.
func someCall(choose choice, commands []*Command) Call {
	c := pick(choose, commands)
	args := usage.Make(c.Name, c.Usage, start, choose)
	switch spoilt := choose(40); {
	case spoilt == 0:
		args = append(args, usage.Argument("", start, choose))
	case spoilt == 1 && len(args) > 1:
		args = args[:len(args)-1]
	case spoilt == 2 && len(args) > 1:
		args[1+choose(len(args)-1)] = usage.Argument("", start, choose)
	}
	call := Call{Command: c}
	for _, a := range args {
		call.Args = append(call.Args, []byte(a))
	}
	return call
}

// someTask makes up a task of at most so many calls.
func someTask(choose choice, commands []*Command, most int) *Task {
	t := &Task{Cache: testCache, DB: choose(2), Reply: &Recording{}}
	for range 1 + choose(most) {
		t.Calls = append(t.Calls, someCall(choose, commands))
	}
	return t
}

// commandsThat lists the clients' commands of which keep is true.
func commandsThat(keep func(c *Command) bool) []*Command {
	return slices.DeleteFunc(Commands(), func(c *Command) bool { return !keep(c) })
}

// chance is a choice by a seed that rapid draws and prints.
func chance(t *rapid.T) choice {
	return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)).IntN
}

// wellFormed reports whether r holds exactly n replies.
func wellFormed(r *Recording, n int) error {
	c := r.Cursor()
	for range n {
		if len(c.b) == 0 {
			return fmt.Errorf("fewer than %d replies", n)
		}
		for left := int64(1); left > 0; left-- {
			switch t := c.Next(); t.Kind {
			case ReplyArray, ReplySet:
				left += t.Int
			case ReplyMap, ReplyPairs, ReplyKeyed:
				left += 2 * t.Int
			case ReplyEnd:
				return fmt.Errorf("a list that is shorter than announced: %s", t.Bytes)
			}
		}
	}
	if len(c.b) > 0 {
		return fmt.Errorf("more than %d replies", n)
	}
	return nil
}

func describe(t *Task) string {
	var b strings.Builder
	for _, c := range t.Calls {
		fmt.Fprintf(&b, "  %q\n", c.Args)
	}
	return b.String()
}

func TestEveryRowIsComplete(t *testing.T) {
	for _, c := range byName {
		switch {
		case c.Name != strings.ToUpper(c.Name), c.Arity == 0, c.Group >= NumGroups:
			t.Errorf("%s: a name in upper case, an arity and a group are needed", c.Name)
		case c.Summary == "" || strings.HasSuffix(c.Summary, ".") || !unicode.IsUpper(rune(c.Summary[0])):
			t.Errorf("%s: the summary is one sentence without a full stop, not %q", c.Name, c.Summary)
		case c.Flags&Grows != 0 && c.Flags&Writes == 0:
			t.Errorf("%s needs memory but does not write", c.Name)
		}
		least := len(usage.Make(c.Name, c.Usage, start, nil)) + strings.Count(c.Name, "|")
		if least != max(c.Arity, -c.Arity) && !slices.Contains([]string{"OBJECT", "XGROUP", "XINFO", "JSON.DEBUG", "MEMORY", "SCRIPT", "FUNCTION"}, c.Name) && c.Flags&Session == 0 { // whose HELP is short
			t.Errorf("%s: arity %d, but %q needs %d words", c.Name, c.Arity, c.Usage, least)
		}
		if c.Flags&internal != 0 {
			continue
		}
		if c.Action == "" || c.Complexity == "" || c.Since == "" {
			t.Errorf("%s: action %q, complexity %q, since %q", c.Name, c.Action, c.Complexity, c.Since)
		}
	}
}

// TestRightsAndFactsOfAnyCall: they are asked before the command has looked at its arguments.
func TestRightsAndFactsOfAnyCall(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		call := someCall(chance(t), Commands())
		for n := 1; n <= len(call.Args); n++ {
			args := call.Args[:n]
			rights := call.Command.AppendRights(nil, args)
			if len(rights) == 0 {
				t.Fatalf("%q needs no right", args)
			}
			for _, r := range rights {
				if r.Action == "" {
					t.Fatalf("%q needs a right without an action", args)
				}
			}
			if f := call.Command.FactsOf(args, start); f.ValueSize < -1 || f.MaxItems < -1 {
				t.Fatalf("%q: %+v", args, f)
			}
			call.Command.AppendKeys(nil, args)
			call.Command.FirstKey(args)
		}
	})
}

// TestFailedCallsChangeNothing: a command that answers an error has done nothing else.
func TestFailedCallsChangeNothing(t *testing.T) {
	failed, answered := map[string]int{}, map[string]int{}
	property := func(t *rapid.T) {
		w, choose := newWorld(t), chance(t)
		commands := Commands()
		if choose(2) == 0 { // or a command that needs a value of its group would seldom find one
			var g Group
			for g = Group(choose(int(NumGroups))); isSketch(g); { // which have a test of their own
				g = Group(choose(int(NumGroups)))
			}
			commands = commandsThat(func(c *Command) bool { return c.Group == g || c.Group == GroupKey })
		} else if choose(4) == 0 { // or a command that needs a group of consumers, which is seldom made and often removed
			commands = commandsThat(func(c *Command) bool { return c.Group == GroupStream })
			for _, key := range []string{"a", "b", "c", "d"} {
				w.do("XGROUP", "CREATE", key, "g", "0", "MKSTREAM")
			}
		} else if choose(4) == 0 { // or one that needs a script or a function, which are seldom known
			commands = commandsThat(func(c *Command) bool { return c.Group == GroupScripting })
			for _, script := range usage.Scripts {
				w.do("SCRIPT", "LOAD", script)
			}
			for _, library := range usage.Libraries {
				w.do("FUNCTION", "LOAD", library)
			}
		} else if choose(4) == 0 { // or one that needs something in a document
			commands = commandsThat(func(c *Command) bool { return c.Group == GroupJSON })
			for _, key := range []string{"a", "b", "c", "d"} {
				w.do("JSON.SET", key, "$", `{"a":{"b":1.50},"f":true,"s":"x","l":[1,[2],{"a":3}]}`)
			}
		}
		failsCleanly(t, w, choose, 1000, commands, failed, answered)
	}
	missing := func() (names []string) {
		for _, c := range Commands() {
			if answered[c.Name] == 0 && c.Flags&Session == 0 && !isSketch(c.Group) { // for which see TestFailedSketchCallsChangeNothing
				names = append(names, c.Name)
			}
		}
		return names
	}
	for round := 0; round == 0 || (round < 10 && !testing.Short() && len(missing()) > 0); round++ { // some seldom succeed
		rapid.Check(t, property)
	}
	if names := missing(); !testing.Short() && len(names) > 0 {
		t.Errorf("%q never succeeded, so this test shows little", names)
	}
}

// failsCleanly runs so many calls of commands, and counts by name those that failed and those that did not.
func failsCleanly(t *rapid.T, w *world, choose choice, calls int, commands []*Command, failed, answered map[string]int) {
	for range calls {
		w.now += int64(choose(10))
		for range Databases { // an expired item goes when a command meets it, even one that then fails
			w.sweep(1000)
		}
		task := someTask(choose, commands, 1)
		before := w.p.Digest()
		w.apply(task)
		r := task.Reply.(*Recording)
		if err := wellFormed(r, 1); err != nil {
			t.Fatalf("%v\n%s", err, describe(task))
		}
		name, c := task.Calls[0].Command.Name, r.Cursor()
		if n := c.Next(); n.Kind != ReplyError {
			answered[name]++
			continue
		} else if n.Err.Kind == fault.Internal || n.Err.Message == "" {
			t.Fatalf("an error that nobody classified: %v\n%s", n.Err, describe(task))
		}
		failed[name]++
		if w.p.Digest() != before && task.Calls[0].Command.Group != GroupScripting { // what a script did before it failed stays
			t.Fatalf("it answered %s and changed something:\n%s", show(r), describe(task))
		}
	}
}

// TestQueriesChangeNothing, at whatever time they are asked.
func TestQueriesChangeNothing(t *testing.T) {
	reads := commandsThat(func(c *Command) bool { return c.Flags&Writes == 0 })
	rapid.Check(t, func(t *rapid.T) {
		w, choose := newWorld(t), chance(t)
		for range 40 {
			w.now += int64(choose(10))
			w.apply(someTask(choose, Commands(), 3))
			before := w.p.Digest()
			task := someTask(choose, reads, 3)
			w.p.Query(w.now+int64(choose(100))-50, w.seed, task)
			if err := wellFormed(task.Reply.(*Recording), len(task.Calls)); err != nil {
				t.Fatalf("%v\n%s", err, describe(task))
			}
			if err := w.p.check(); err != nil {
				t.Fatal(err)
			}
			if w.p.Digest() != before {
				t.Fatalf("a query changed something:\n%s", describe(task))
			}
		}
	})
}

// someEntry makes up an entry as a leader may write it: tasks of every kind, eviction and sweeps.
func someEntry(choose choice, leader *Partition, now int64, seed uint64) *Entry {
	e := &Entry{Now: now, Seed: seed}
	for range 1 + choose(3) {
		t := someTask(choose, Commands(), 4)
		t.Atomic = choose(2) == 0
		if choose(4) == 0 {
			t.Once = &Once{Key: [16]byte{byte(choose(4))}, Fingerprint: [16]byte{byte(choose(2))}}
		}
		if relief := leader.Relieve(now, seed, t); relief != nil {
			e.Tasks = append(e.Tasks, relief)
		}
		e.Tasks = append(e.Tasks, t)
	}
	switch choose(8) {
	case 0:
		if sweep := leader.Sweep(now, choose(5)); sweep != nil {
			e.Tasks = append(e.Tasks, sweep)
		}
	case 1:
		e.Tasks = append(e.Tasks, ConfigureTask(testCache, Settings{MemoryLimit: int64(choose(8)) << 10, Eviction: EvictionPolicy(choose(int(numPolicies))), DefaultTTL: int64(choose(2)) * 30}))
	case 2:
		if choose(4) == 0 {
			e.Tasks = append(e.Tasks, DropTask(testCache), ConfigureTask(testCache, Settings{}))
		}
	}
	return e
}

// deaf returns the entry as a replica gets it that owes nobody an answer.
func deaf(e *Entry) *Entry {
	twin := &Entry{Now: e.Now, Seed: e.Seed}
	for _, t := range e.Tasks {
		copy := *t
		copy.Reply = nil
		twin.Tasks = append(twin.Tasks, &copy)
	}
	return twin
}

// TestReplicasAgree: the leader, which also answers queries and is asked for evictions, a follower, and a
// replica that reads the whole log later end in the same state.
func TestReplicasAgree(t *testing.T) {
	reads := commandsThat(func(c *Command) bool { return c.Flags&Writes == 0 })
	rapid.Check(t, func(t *rapid.T) {
		w, choose := newWorld(t), chance(t)
		follower, late := New(Seed{1, 2}), New(Seed{1, 2})
		log := []*Entry{{Now: start, Seed: 1, Tasks: []*Task{ConfigureTask(testCache, Settings{})}}}
		follower.Apply(deaf(log[0]))
		for range 40 {
			w.now += int64(choose(20)) - 3
			w.seed++
			e := someEntry(choose, w.p, w.now, w.seed)
			w.p.Apply(e)
			if err := w.p.check(); err != nil {
				t.Fatal(err)
			}
			log = append(log, e)
			follower.Apply(deaf(e))
			if w.p.Digest() != follower.Digest() {
				for _, task := range e.Tasks {
					t.Logf("atomic %v:\n%s", task.Atomic, describe(task))
				}
				t.Fatal("a follower strayed")
			}
			for range choose(3) {
				w.p.Query(w.now+int64(choose(9)), w.seed, someTask(choose, reads, 2))
			}
		}
		for _, e := range log {
			late.Apply(deaf(e))
		}
		if w.p.Digest() != late.Digest() {
			t.Fatal("the log, read again, ended elsewhere")
		}
	})
}

// TestTimeNeverRunsBackwards: an entry of a leader whose clock is behind counts as just as late as the last.
func TestTimeNeverRunsBackwards(t *testing.T) {
	w := newWorld(t)
	w.do("SET", "k", "v", "PX", "100")
	w.now += 100
	w.do("SET", "other", "v")
	w.now -= 1000
	if got := w.do("GET", "k"); got != "(nil)" {
		t.Errorf("a query in the past found %s", got)
	}
	if got := w.do("SET", "k", "w", "XX"); got != "(nil)" {
		t.Errorf("an entry from the past found the key: %s", got)
	}
	if w.p.now != start+100 {
		t.Errorf("time went back to %d", w.p.now)
	}
	last := w.p.version
	for range 1000 {
		w.do("SET", "k", "v")
		if w.p.version <= last {
			t.Fatalf("version %d follows %d", w.p.version, last)
		}
		last = w.p.version
	}
}

func TestStatsCountWhatHappened(t *testing.T) {
	w := newWorld(t)
	w.do("SET", "k", "v", "PX", "1")
	w.do("GET", "k")
	w.do("GET", "nothing")
	w.do("HGET", "nothing", "f")
	w.now++
	w.do("SET", "k", "v", "XX") // meets an expired item
	w.do("SET", "k", "v", "PX", "1")
	w.now++
	w.sweep(10)
	if s, _ := w.p.Stats(testCache); s != (Stats{Hits: 1, Misses: 2, Expired: 2, Calls: 7}) {
		t.Errorf("%+v", s)
	}
	if _, ok := w.p.Stats(CacheID{9}); ok {
		t.Error("stats of an unknown cache")
	}
	w.do("SET", "k", "v")
	w.apply(DropTask(testCache))
	for _, args := range [][]string{{"GET", "k"}, {"SET", "k", "v"}} { // its part of the cache may be elsewhere: see TestACacheIsScaledInACluster
		task := w.task(args)
		if w.apply(task); task.Moved == nil || task.Moved.Known || task.Done != 0 {
			t.Errorf("%s of a dropped cache: %+v, %d done", args, task.Moved, task.Done)
		}
		if task = w.task(args); args[0] == "GET" {
			if w.p.Query(w.now, 1, task); task.Moved == nil {
				t.Error("a query of a dropped cache is answered")
			}
		}
	}
	if w.p.Due(w.now + 1<<40) {
		t.Error("a dropped cache has something due")
	}
}

// FuzzCommand runs any row with any arguments: nothing panics, and there is one reply for each call.
func FuzzCommand(f *testing.F) {
	for i := range Commands() {
		f.Add([]byte{byte(i), 0, 0, 0, 0, 0, 0, 0, 0}, []byte("k"), []byte("1"), []byte("-9223372036854775808"))
	}
	f.Fuzz(func(t *testing.T, dice, a, b, c []byte) {
		w, at := newWorld(t), 0
		choose := func(n int) int {
			if at >= len(dice) {
				return 0
			}
			at++
			return int(dice[at-1]) % n
		}
		foreign := [][]byte{a, b, c}
		for range 6 {
			task := someTask(choose, Commands(), 3)
			for i := range task.Calls {
				args := task.Calls[i].Args
				for j := 1; j < len(args); j++ {
					if choose(4) == 1 {
						args[j] = foreign[choose(3)]
					}
				}
				task.Calls[i].Command.AppendRights(nil, args)
				task.Calls[i].Command.FactsOf(args, w.now)
			}
			task.Atomic = choose(2) == 1
			w.now += int64(choose(5))
			w.apply(task)
			want := len(task.Calls)
			if task.Failed >= 0 {
				want = task.Failed + 1
			}
			if err := wellFormed(task.Reply.(*Recording), want); err != nil {
				t.Fatalf("%v\n%s", err, describe(task))
			}
		}
	})
}
