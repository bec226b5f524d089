package gateway

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// newSplit is a tenant whose cache main has one range on each of the world's four partitions.
func newSplit(t testing.TB) someone {
	t.Helper()
	s := newTenant(t, tenants.Limits{})
	if err := s.store.DeleteCache(t.Context(), s.tenant, "main"); err != nil {
		t.Fatal(err)
	}
	s.cache(t, tenants.Cache{Name: "main", Ranges: placement.Even(4)})
	return s
}

// keyAt is a key of a range of a cache, by its number.
func (s *someone) keyAt(t testing.TB, number int) string {
	t.Helper()
	c, ok := s.store.Cache(s.tenant, "main")
	if !ok {
		t.Fatal("no cache")
	}
	for i := range 1000 {
		key := fmt.Sprint("k", i)
		if slot := placement.Slot([]byte(key)); c.Ranges[number].From <= slot && slot <= c.Ranges[number].To {
			return key
		}
	}
	t.Fatal("no key")
	return ""
}

// A hurt partition does what a test wants before it does its work, if at all.
type hurt struct {
	Executor
	at placement.PartitionID
	do func(at placement.PartitionID, t *engine.Task) error
}

func (h *hurt) Execute(ctx context.Context, t *engine.Task) error {
	if err := h.do(h.at, t); err != nil {
		return err
	}
	return h.Executor.Execute(ctx, t)
}

// hurting has all partitions do something before their work.
func (s *someone) hurting(t testing.TB, do func(at placement.PartitionID, t *engine.Task) error) {
	t.Helper()
	g := New(s.store, s.meters, func(id placement.PartitionID) Executor { return &hurt{s.host.Local(id), id, do} }, "local", s.clock)
	s.world = &world{Gateway: g, store: s.store, credentials: s.credentials, identify: s.identify, host: s.host}
}

// place is the partition of a key.
func (s *someone) place(t testing.TB, key string) placement.PartitionID {
	t.Helper()
	c, _ := s.store.Cache(s.tenant, "main")
	return placement.Find(c.Ranges, placement.Slot([]byte(key)))
}

func TestOnePieceHasOneSlot(t *testing.T) {
	s := newSplit(t)
	for _, tt := range []struct {
		name  string
		calls string // separated by ;
		whole error  // when all is one piece
		each  string // the answers when each is by itself
	}{
		{"one key", "SET a 1", nil, "OK"},
		{"one slot", "SET {t}a 1;SET {t}b 2;MGET {t}a {t}b", nil, "OK OK [1 2]"},
		{"no keys", "TIME", nil, ""},
		{"several slots in a command", "RENAME a b", errCrossSlot, "cross_slot"},
		{"in a script's keys", "EVAL return{} 2 a b", errCrossSlot, "cross_slot"},
		{"in STORE", "SORT a STORE b", errCrossSlot, "cross_slot"},
		{"in streams", "XREAD STREAMS a b 0 0", errCrossSlot, "cross_slot"},
		{"in two commands", "SET a 1;SET b 2", errCrossSlot, "OK OK"},
		{"in one that is divided", "MSET a 1 b 2", errCrossSlot, "OK"},
		{"all slots", "SET a 1;DBSIZE", errEverywhere(engine.MustLookup("DBSIZE")), "OK 4"},
		{"a walk", "SCAN 0", errEverywhere(engine.MustLookup("SCAN")), ""},
		{"where only a part is known", "FUNCTION FLUSH", errEverywhere(engine.MustLookup("FUNCTION")), "OK"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, how := range []func(*Request){func(r *Request) { r.Atomic = true }, func(r *Request) { r.Whole = true }} {
				r, reply := s.request("main", strings.Split(tt.calls, ";")...)
				how(r)
				err := s.Do(t.Context(), r)
				if fmt.Sprint(err) != fmt.Sprint(tt.whole) || (err == nil) != (len(answers(reply)) == len(r.Calls)) {
					t.Errorf("as one piece: %v %v", answers(reply), err)
				}
			}
			got, err := s.do(t, strings.Split(tt.calls, ";")...)
			if err != nil || (tt.each != "" && strings.Join(got, " ") != tt.each) {
				t.Errorf("each by itself: %v %v", got, err)
			}
		})
	}
}

// Two keys of one partition, but of different slots, are refused like others: they may be parted any time.
func TestOnePartitionIsNotOneSlot(t *testing.T) {
	s := newSplit(t)
	first := s.keyAt(t, 0)
	for i := range 1000 {
		other := fmt.Sprint("o", i)
		if s.place(t, other) == s.place(t, first) && placement.Slot([]byte(other)) != placement.Slot([]byte(first)) {
			if got, err := s.do(t, "RENAME "+first+" "+other); err != nil || got[0] != "cross_slot" {
				t.Errorf("%v %v", got, err)
			}
			if got, err := s.do(t, "MSET "+first+" 1 "+other+" 2", "MGET "+first+" "+other); err != nil || fmt.Sprint(got) != "[OK [1 2]]" {
				t.Errorf("%v %v", got, err)
			}
			return
		}
	}
	t.Fatal("no other key")
}

// A transaction depends on what it watches, so that has to be in its slot as well.
func TestWatchesOfOtherSlots(t *testing.T) {
	s := newSplit(t)
	for key, want := range map[string]string{"{t}x": "<nil>", "other": errCrossSlot.Error()} {
		w, err := s.Watch(&s.Caller, "main", 0, []byte(key))
		if err != nil {
			t.Fatal(err)
		}
		r, _ := s.request("main", "SET {t}a 1")
		r.Whole, r.Watches = true, []Watch{w}
		if err := s.Do(t.Context(), r); fmt.Sprint(err) != want || r.Stale {
			t.Errorf("watching %s: %v", key, err)
		}
		if want == "<nil>" {
			if _, err := s.do(t, "SET "+key+" changed"); err != nil {
				t.Fatal(err)
			}
			r, reply := s.request("main", "SET {t}a 2")
			r.Whole, r.Watches = true, []Watch{w}
			if err := s.Do(t.Context(), r); err != nil || !r.Stale || reply.Len() > 0 {
				t.Errorf("after a change: %v, stale %v", err, r.Stale)
			}
		}
		w.Unwatch()
	}
}

func TestIdempotencyKeysOverPartitions(t *testing.T) {
	s := newSplit(t)
	do := func(key byte, commands ...string) (string, bool) {
		r, reply := s.request("main", commands...)
		r.Once = &engine.Once{Key: [16]byte{key}, Fingerprint: [16]byte{key}}
		if err := s.Do(t.Context(), r); err != nil {
			return fault.From(err).Kind.String(), r.Replayed
		}
		return strings.Join(answers(reply), " "), r.Replayed
	}
	for i, tt := range []struct {
		commands []string
		want     string
		between  []string // before it is asked again
	}{
		{[]string{"INCR a"}, "1", nil},
		{[]string{"INCR {t}a", "INCR {t}b"}, "1 1", nil},
		{[]string{"INCR a", "INCR b"}, "cross_slot", nil},
		{[]string{"MSET a 1 b 2"}, "cross_slot", nil},
		{[]string{"FLUSHALL"}, "OK", []string{"MSET a 1 b 2 c 3 d 4 e 5"}},
		{[]string{"KV.DELPREFIX 0 x COUNT 1000"}, "[0 3]", []string{"MSET x1 1 x2 2 x3 3"}},
	} {
		if i == 5 {
			if _, err := s.do(t, "MSET x1 1 x2 2 x3 3"); err != nil {
				t.Fatal(err)
			}
		}
		got, again := do(byte(i), tt.commands...)
		if got != tt.want || again {
			t.Errorf("%v: %s, replayed %v", tt.commands, got, again)
		}
		var before []string
		if tt.between != nil {
			if _, err := s.do(t, tt.between...); err != nil {
				t.Fatal(err)
			}
			before, _ = s.do(t, "DBSIZE")
		}
		if got, again := do(byte(i), tt.commands...); got != tt.want || again != (got != "cross_slot") {
			t.Errorf("%v again: %s, replayed %v", tt.commands, got, again)
		}
		if after, _ := s.do(t, "DBSIZE"); before != nil && after[0] != before[0] {
			t.Errorf("%v was done twice: %s keys, %s before", tt.commands, after, before)
		}
	}
}

// When a partition cannot be reached, what the others have done is answered, and who gets the error hears whether a part of
// the change was made.
func TestAPartitionOutOfReach(t *testing.T) {
	s := newSplit(t)
	good, bad := s.keyAt(t, 0), s.keyAt(t, 2)
	dead := s.place(t, bad)
	kind := fault.Unavailable
	s.hurting(t, func(at placement.PartitionID, _ *engine.Task) error {
		if at == dead {
			return fault.New(kind, "test", "gone")
		}
		return nil
	})
	for _, tt := range []struct{ commands, want string }{
		{"SET + 1;SET - 2;GET +", "OK unavailable 1"},
		{"MGET + -;GET +", "unavailable 1"},
		{"MSET + 2 - 2;GET +", "outcome_unknown 2"},
		{"DEL - +;GET +", "outcome_unknown null"},
		{"DBSIZE;SET + 3", "unavailable OK"},
		{"FLUSHALL;GET +", "outcome_unknown null"},
		{"RENAME + -;SET - 1;SET + 4", "cross_slot unavailable OK"},
		{"SET - 1;SET - 2", "unavailable"},
		{"GET -;GET -;GET +", "unavailable unavailable 4"},
	} {
		got, err := s.do(t, strings.Split(strings.NewReplacer("+", good, "-", bad).Replace(tt.commands), ";")...)
		if err != nil {
			got = append(got, fault.From(err).Kind.String())
		}
		if strings.Join(got, " ") != tt.want {
			t.Errorf("%s: %v, want %s", tt.commands, got, tt.want)
		}
	}
	kind = fault.OutOfMemory // a refusal stays one
	r, reply := s.request("main", "MSET "+good+" 1 "+bad+" 2")
	if err := s.Do(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	c := reply.Cursor()
	if e := c.Next().Err; e == nil || e.Kind != fault.OutOfMemory || !strings.Contains(e.Message, "a part of MSET has been done") {
		t.Errorf("%+v", e)
	}
}

// A task that ends before its last call is gone on with, in order.
func TestTasksThatEndEarly(t *testing.T) {
	s := newSplit(t)
	s.hurting(t, func(_ placement.PartitionID, t *engine.Task) error {
		if !t.Atomic && len(t.Calls) > 2 {
			t.Calls = t.Calls[:2]
		}
		return nil
	})
	var commands, want []string
	for i := range 60 {
		key := s.keyAt(t, i%4)
		commands, want = append(commands, "APPEND "+key+" x", "STRLEN "+key), append(want, fmt.Sprint(i/4+1), fmt.Sprint(i/4+1))
	}
	if got, err := s.do(t, commands...); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
}

// Partitions work at the same time; and whoever hears a message finds what was written before it.
func TestPartitionsWorkTogether(t *testing.T) {
	s := newSplit(t)
	var meet, written sync.WaitGroup
	meet.Add(4)
	s.hurting(t, func(_ placement.PartitionID, t *engine.Task) error {
		if t.Calls[0].Command.Name == "STRLEN" {
			meet.Done()
			meet.Wait() // for all four: one after the other they would never get on
		}
		return nil
	})
	var commands []string
	for i := range 4 {
		commands = append(commands, "STRLEN "+s.keyAt(t, i))
	}
	if got, err := s.do(t, commands...); err != nil || len(got) != 4 {
		t.Fatalf("%v %v", got, err)
	}
	written.Add(1)
	s.hurting(t, func(_ placement.PartitionID, t *engine.Task) error {
		switch t.Calls[0].Command.Name {
		case "SET":
			time.Sleep(20 * time.Millisecond)
			written.Done()
		case "PUBLISH":
			written.Wait()
		}
		return nil
	})
	published := make(chan []string, 1)
	go func() {
		got, _ := s.do(t, "SET "+s.keyAt(t, 3)+" 1", "PUBLISH news x")
		published <- got
	}()
	if got := <-published; fmt.Sprint(got) != "[OK 0]" {
		t.Errorf("%v", got)
	}
}

// A panic on the way to one of several partitions comes to whoever asked, when the others are done.
func TestAPanicInALeg(t *testing.T) {
	s := newSplit(t)
	broken := s.place(t, s.keyAt(t, 1))
	s.hurting(t, func(at placement.PartitionID, _ *engine.Task) error {
		if at == broken {
			panic("a test")
		}
		return nil
	})
	defer func() {
		if p := recover(); p != "a test" {
			t.Errorf("%v", p)
		}
	}()
	_, _ = s.do(t, "DBSIZE")
	t.Error("no panic")
}

// Who may not touch one key of a command is refused it whole, on whatever partitions the keys are; and scripts on several
// partitions may do no more than their caller, who is asked by all of them at the same time.
func TestRightsOverPartitions(t *testing.T) {
	owner := newSplit(t)
	if _, err := owner.do(t, "MSET a1 1 a2 2 a3 3 b1 9"); err != nil {
		t.Fatal(err)
	}
	allow := `{"Effect":"Allow","Action":["cache:Get","cache:Set","cache:Delete","cache:EvalScript"],"Resource":"arn:cache:cache:*:TENANT:cache/main/key/a*"}`
	who := owner.withStatements(t, allow).stay()
	for commands, want := range map[string]string{
		"MGET a1 a2 a3":         "[1 2 3]",
		"MGET a1 b1 a2":         "denied",
		"MSET a1 0 b1 0":        "denied",
		"DEL a1 b1":             "denied",
		"DBSIZE":                "denied",
		"MGET a1 b1;MGET a1 a2": "denied [1 2]",
	} {
		if got, err := who.do(t, strings.Split(commands, ";")...); err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v %v, want %s", commands, got, err, want)
		}
	}
	const script = "return{redis.call('GET',KEYS[1])}"
	var commands []string
	for i := range 12 {
		commands = append(commands, fmt.Sprintf("EVAL %s 1 a%d", script, i%3+1))
	}
	if got, err := who.do(t, commands...); err != nil || strings.Join(got, " ") != strings.Repeat("[1] [2] [3] ", 4)[:47] {
		t.Errorf("%v %v", got, err)
	}
	other := newSplit(t)
	if got, err := other.do(t, "MGET a1 a2 a3", "DBSIZE"); err != nil || fmt.Sprint(got) != "[[null null null] 0]" {
		t.Errorf("another tenant finds %v %v", got, err)
	}
}

// What is done in several places is metered like what is done in one.
func TestUnitsOverPartitions(t *testing.T) {
	one, four := newTenant(t, tenants.Limits{}), newSplit(t)
	for _, commands := range []string{"MSET a 1 b 2 c 3 d 4", "MGET a b c d", "DEL a b;GET a;DBSIZE", "SCAN 0 COUNT 100", "SET a " + strings.Repeat("x", 3000) + ";GET a"} {
		var units [2]int64
		for i, s := range []*someone{&one, &four} {
			r, _ := s.request("main", strings.Split(commands, ";")...)
			if err := s.Do(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			units[i] = r.Units
		}
		if units[0] != units[1] {
			t.Errorf("%.30s costs %d, and %d over partitions", commands, units[0], units[1])
		}
	}
}

// Answers do not pile up without end: a pipeline of large ones is stopped where the caller has enough, and gone on with.
func TestEnoughOfAPipeline(t *testing.T) {
	s := newSplit(t)
	big := strings.Repeat("x", 300_000)
	var commands []string
	for i := range 4 {
		if _, err := s.do(t, "SET "+s.keyAt(t, i)+" "+big); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 200 {
		commands = append(commands, "GET "+s.keyAt(t, i%4))
	}
	done := 0
	for most := 0; done < len(commands); {
		r, reply := s.request("main", commands[done:]...)
		r.Enough = func() bool { return reply.Len() >= 1<<20 }
		if err := s.Do(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		if most = max(most, r.Done); r.Done == 0 || most > 2*firstReads {
			t.Fatalf("%d done at once, %d bytes", r.Done, reply.Len())
		}
		if got := answers(reply); len(got) != r.Done || got[0] != big {
			t.Fatalf("%d answers to %d", len(got), r.Done)
		}
		done += r.Done
	}
}

// A scan finds every key that is there all the time, whatever becomes of the ranges meanwhile: they are cut, joined and moved
// to partitions where the places of keys are other ones. Keys that stay behind where a range was are not found.
func TestAScanOverRangesThatMove(t *testing.T) {
	s := newSplit(t)
	kept, ok := s.store.Cache(s.tenant, "main")
	if !ok {
		t.Fatal("no cache")
	}
	at := kept.Partitions()
	on := func(p placement.PartitionID, words ...string) {
		call := engine.Call{Command: engine.MustLookup(words[0])}
		for _, w := range words {
			call.Args = append(call.Args, []byte(w))
		}
		if err := s.host.Local(p).Execute(context.Background(), &engine.Task{Cache: kept.ID, Calls: []engine.Call{call}}); err != nil {
			panic(err)
		}
	}
	for _, p := range at { // anything may be anywhere
		for _, task := range []*engine.Task{engine.DropTask(kept.ID), engine.ConfigureTask(kept.ID, engine.Settings{Split: true})} {
			if err := s.host.Local(p).Execute(context.Background(), task); err != nil {
				t.Fatal(err)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		for _, p := range at {
			on(p, "FLUSHALL")
		}
		cache := *kept
		if cache.Ranges = placement.Even(rapid.IntRange(1, 6).Draw(t, "ranges")); len(cache.Ranges) == 1 {
			cache.Ranges = placement.Even(2)
		}
		for i := range cache.Ranges {
			cache.Ranges[i].Partition = rapid.SampledFrom(at).Draw(t, "partition")
		}
		keys := map[string]bool{}
		for i := range rapid.IntRange(0, 60).Draw(t, "keys") {
			key := fmt.Sprint("key", i)
			keys[key] = true
			on(placement.Find(cache.Ranges, placement.Slot([]byte(key))), "SET", key, "v")
		}
		move := func(i int, to placement.PartitionID) {
			r := &cache.Ranges[i]
			for key := range keys {
				if slot := placement.Slot([]byte(key)); r.From <= slot && slot <= r.To && r.Partition != to {
					on(to, "SET", key, "v")
					if rapid.Bool().Draw(t, "gone") { // otherwise it is still there for a while
						on(r.Partition, "DEL", key)
					}
				}
			}
			r.Partition = to
		}
		found := map[string]bool{}
		cursor, count := "0", strconv.Itoa(rapid.IntRange(1, 20).Draw(t, "count"))
		for steps := 0; ; steps++ {
			rt := &route{cache: &cache, meter: &s.nowhere}
			s.settle(rt)
			reply := &engine.Recording{}
			r := &Request{Caller: &s.Caller, Reply: reply}
			call := engine.Call{Command: engine.MustLookup("SCAN"), Args: [][]byte{[]byte("SCAN"), []byte(cursor), []byte("COUNT"), []byte(count)}}
			if err := s.walk(context.Background(), r, rt, &call); err != nil {
				t.Fatal(err)
			}
			c := reply.Cursor()
			c.Next()
			cursor = string(c.Next().Bytes)
			for range c.Next().Int {
				found[string(c.Next().Bytes)] = true
			}
			if n, err := strconv.ParseUint(cursor, 10, 64); err != nil || n >= 1<<53 {
				t.Fatalf("a cursor is %q", cursor)
			}
			if cursor == "0" {
				break
			}
			if steps > 40 { // who moves a range all the time keeps a scan from getting on
				if steps > 10_000 {
					t.Fatal("the scan does not end")
				}
				continue
			}
			cache.Ranges = slices.Clone(cache.Ranges)
			i := rapid.IntRange(0, len(cache.Ranges)-1).Draw(t, "range")
			switch rapid.SampledFrom([]string{"nothing", "nothing", "cut", "join", "move"}).Draw(t, "then") {
			case "move":
				move(i, rapid.SampledFrom(at).Draw(t, "to"))
			case "cut":
				if r := cache.Ranges[i]; r.To-r.From >= 128 {
					half := (r.From+r.To)/2&^63 - 1
					cache.Ranges = slices.Insert(cache.Ranges, i+1, placement.Range{From: half + 1, To: r.To, Partition: r.Partition})
					cache.Ranges[i].To = half
				}
			case "join":
				if i+1 < len(cache.Ranges) && len(cache.Ranges) > 2 {
					move(i+1, cache.Ranges[i].Partition)
					cache.Ranges[i].To = cache.Ranges[i+1].To
					cache.Ranges = slices.Delete(cache.Ranges, i+1, i+2)
				}
			}
			if err := placement.CheckRanges(cache.Ranges); err != nil {
				t.Fatal(err)
			}
		}
		for key := range keys {
			if !found[key] {
				t.Fatalf("%s was there all the time and was not found", key)
			}
		}
		if len(found) != len(keys) {
			t.Fatalf("%d keys were found, and there are %d", len(found), len(keys))
		}
	})
}

// Marks tell ranges apart that end at a multiple of 64 slots on up to 16 partitions, and none is that of a cursor from before
// the cache was cut.
func TestMarksOfRanges(t *testing.T) {
	seen := map[uint64]placement.Range{}
	for p := range placement.PartitionID(16) {
		for end := 63; end < placement.Slots; end += 64 {
			r := placement.Range{To: uint16(end), Partition: p}
			m := markOf(r)
			if old, ok := seen[m]; (ok && (old.To != 63 || end != placement.Slots-1)) || m == 0 || m >= 1<<markBits {
				t.Fatalf("%+v has the mark %d, as %+v", r, m, old)
			}
			seen[m] = r
		}
	}
}

func TestCursors(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := scanCursor{slot: uint16(rapid.IntRange(0, placement.Slots-1).Draw(t, "slot")), place: uint64(rapid.IntRange(1, engine.ScanPlaces-1).Draw(t, "place")), mark: uint64(rapid.IntRange(1, 1<<markBits-1).Draw(t, "mark"))}
		if got, ok := readCursor(strconv.AppendUint(nil, c.number(), 10)); !ok || got != c {
			t.Fatalf("%+v became %+v", c, got)
		}
	})
	if 1<<placeBits != engine.ScanPlaces || 1<<slotBits != placement.Slots {
		t.Error("a cursor has not the room that it needs")
	}
}

// A request for one key takes no memory of its own, also where there are several partitions.
func TestOneKeyAllocatesNothing(t *testing.T) {
	one, four := newTenant(t, tenants.Limits{}), newSplit(t)
	for name, s := range map[string]*someone{"one range": one.stay(), "four": four.stay()} {
		r, reply := s.request("main", "GET k")
		allocated := testing.AllocsPerRun(100, func() {
			reply.Reset()
			if err := s.Do(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		})
		if allocated > 0 {
			t.Errorf("%s: %v allocations", name, allocated)
		}
	}
}

// Every partition hears how consistent an answer has to be, and the answer is as its weakest part.
func TestConsistencyOverPartitions(t *testing.T) {
	s := newSplit(t)
	weak := s.place(t, s.keyAt(t, 2))
	var mu sync.Mutex
	asked := map[engine.Consistency]int{}
	s.hurting(t, func(at placement.PartitionID, t *engine.Task) error {
		mu.Lock()
		defer mu.Unlock()
		asked[t.Consistency]++
		if t.Consistency == engine.Eventual && at == weak {
			t.Was, t.AgeMs = engine.Eventual, 7
		}
		return nil
	})
	for _, command := range []string{"GET " + s.keyAt(t, 2), "MGET " + s.keyAt(t, 0) + " " + s.keyAt(t, 2), "DBSIZE", "SCAN 0 COUNT 1000"} {
		clear(asked)
		r, _ := s.request("main", command)
		r.Consistency = engine.Eventual
		if err := s.Do(t.Context(), r); err != nil || r.Was != engine.Eventual || r.AgeMs != 7 || len(asked) != 1 || asked[engine.Eventual] == 0 {
			t.Errorf("%s: %v, was %v, %d ms old, asked %v", command, err, r.Was, r.AgeMs, asked)
		}
	}
}
