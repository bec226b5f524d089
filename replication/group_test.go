package replication

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// begin begins a task, and has done told when it is over.
func begin(g *Group, t *engine.Task, done func(error)) {
	if under, err := g.Begin(t, func() {}, done); !under {
		done(err)
	}
}

// ask runs a task to its end and returns its answers.
func (w *world) ask(g *Group, t *engine.Task) (*engine.Recording, error) {
	w.t.Helper()
	reply := &engine.Recording{}
	t.Reply = reply
	var failed error
	done := false
	begin(g, t, func(err error) { failed, done = err, true })
	w.settle()
	w.run(10*time.Second, func() bool { return done })
	if !done {
		w.fail("a task is not done")
	}
	return reply, failed
}

// say is ask for commands, whose answers it returns in words.
func (w *world) say(g *Group, commands ...string) string {
	w.t.Helper()
	reply, err := w.ask(g, task(testCache, commands...))
	if err != nil {
		w.fail("%q: %v", commands, err)
	}
	return words(reply)
}

func words(r *engine.Recording) string {
	var out []string
	for c := r.Cursor(); ; {
		switch t := c.Next(); t.Kind {
		case engine.ReplyEnd:
			return strings.Join(out, " ")
		case engine.ReplyInt:
			out = append(out, fmt.Sprint(t.Int))
		case engine.ReplyNull, engine.ReplyNullArray:
			out = append(out, "nil")
		case engine.ReplyError:
			out = append(out, "error:"+t.Err.Message)
		case engine.ReplyBulk, engine.ReplyStatus:
			out = append(out, string(t.Bytes))
		}
	}
}

// three makes a world of three nodes with one group.
func three(t *testing.T, seed uint64) (*world, *Group) {
	w := newWorld(t, seed, 3)
	w.found(1, "n1", "n2", "n3")
	g := w.waitLeader(1)
	w.run(time.Second, nil)
	return w, g
}

// block has somebody wait for a command.
func (w *world) block(g *Group, command string) (waiter *engine.Waiter, answer func() string) {
	w.t.Helper()
	reply := &engine.Recording{}
	over := false
	waiter = &engine.Waiter{Reply: reply, Done: func(*engine.Waiter) { over = true }}
	t := task(testCache, command)
	t.Waiter, t.Waits = waiter, true
	if _, err := w.ask(g, t); err != nil {
		w.fail("%s: %v", command, err)
	}
	if t.Parked == nil {
		w.fail("%s does not wait", command)
	}
	return waiter, func() string {
		w.settle()
		w.run(time.Second, func() bool { return over })
		if !over {
			return "waits"
		}
		return words(reply)
	}
}

func TestWaitersAreServedInTheirOrder(t *testing.T) {
	w, g := three(t, 1)
	_, first := w.block(g, "BLPOP l 0")
	_, second := w.block(g, "BLPOP l 0")
	reader, third := w.block(g, "XREAD BLOCK 0 STREAMS x $")
	if got := w.say(g, "RPUSH l a b c", "LLEN l"); got != "3 1" { // those who wait come before the next call
		t.Errorf("a push and a look: %s", got)
	}
	if a, b := first(), second(); a != "l a" || b != "l b" {
		t.Errorf("they got %q and %q", a, b)
	}
	w.say(g, "XADD x 1-1 f v")
	if got := third(); got != "x 1-1 f v" {
		t.Errorf("the reader got %q", got)
	}
	if g.Release(reader, nil) {
		t.Error("one who was answered still waits")
	}
	w.run(time.Second, nil)
	w.checkReplicas(1)
}

func TestWaitersEnd(t *testing.T) {
	w, g := three(t, 2)
	late, lateAnswer := w.block(g, "BLPOP l 0")
	refused, refusedAnswer := w.block(g, "BLPOP l 0")
	gone, goneAnswer := w.block(g, "BLPOP l 0")
	_, left := w.block(g, "BLPOP l 0")
	if callers, keys, _ := g.Waiting(testCache); callers != 4 || keys != 1 {
		t.Errorf("%d wait for %d keys", callers, keys)
	}
	g.Abandon(gone)
	if !g.Release(late, nil) || !g.Release(refused, fault.New(fault.Conflict, "test", "no")) {
		t.Error("they did not wait")
	}
	if a, b, c := lateAnswer(), refusedAnswer(), goneAnswer(); a != "nil" || b != "error:no" || c != "waits" {
		t.Errorf("they got %q, %q and %q", a, b, c)
	}
	w.isolate(w.node(g.c.cfg.Node), true, true) // the last one hears that its leader is none any more
	w.run(10*time.Second, nil)
	if got := left(); !strings.HasPrefix(got, "error:") {
		t.Errorf("who waits at a leader that is cut off gets %q", got)
	}
}

// TestAWriteGivenUpIsForgotten: whoever wrote through a leader that is cut off for long hears that nobody knows what came of
// it, once. Its memory may be another request's when the entry comes out of the log after all (R5).
func TestAWriteGivenUpIsForgotten(t *testing.T) {
	w, g := three(t, 4)
	w.say(g, "SET k 1")
	w.isolate(w.node(g.c.cfg.Node), true, false) // it is heard: its entry is carried out, and it does not learn of that
	told := 0
	var err error
	lost := task(testCache, "INCR k")
	lost.Reply = &engine.Recording{}
	begin(g, lost, func(e error) { told, err = told+1, e })
	w.run(20*time.Second, nil)
	if told != 1 || !fault.Is(err, fault.OutcomeUnknown) {
		t.Fatalf("it was told %d times, the last time %v", told, err)
	}
	w.heal()
	w.run(5*time.Second, nil)
	if told != 1 {
		t.Errorf("it was told %d times", told)
	}
	if got := w.say(w.waitLeader(1), "GET k"); got != "2" {
		t.Errorf("the entry was carried out %s times in the end", got)
	}
	w.checkReplicas(1)
}

// TestWatchedKeysHoldOverEntriesInFlight: a transaction comes behind writes that are under way already, and sees them.
func TestWatchedKeysHoldOverEntriesInFlight(t *testing.T) {
	w, g := three(t, 3)
	w.say(g, "SET k 1")
	exec := func(watch engine.Watch) *engine.Task {
		t := task(testCache, "INCR k", "GET k")
		t.Whole, t.Guard = true, watch.Stands
		return t
	}
	watch := g.Watch(testCache, 0, []byte("k"))
	calm := exec(watch)
	if reply, err := w.ask(g, calm); err != nil || calm.Stale || words(reply) != "2 2" {
		t.Errorf("%v, stale %v: %s", err, calm.Stale, words(reply))
	}
	watch.Unwatch()

	watch = g.Watch(testCache, 0, []byte("k"))
	written := false
	begin(g, task(testCache, "SET k 5"), func(error) { written = true })
	w.settle() // it is in flight, and not applied
	if written {
		t.Fatal("a write was acknowledged at once")
	}
	torn := exec(watch)
	if _, err := w.ask(g, torn); err != nil || !torn.Stale {
		t.Errorf("%v: a transaction was carried out although its key changed", err)
	}
	watch.Unwatch()
	follower := w.nodes[0].cluster.Group(1)
	if follower == g {
		follower = w.nodes[1].cluster.Group(1)
	}
	if follower.Watch(testCache, 0, []byte("k")).Stands() {
		t.Error("a watch at a follower stands")
	}
}

// TestAFullCacheOfAGroupMakesRoom: eviction is decided by the leader, for entries that are in flight at once, too; no write is
// refused, the limit holds, and the replicas agree.
func TestAFullCacheOfAGroupMakesRoom(t *testing.T) {
	w, g := three(t, 4)
	g.pace.before = time.Second // many in flight
	busy, failed := 0, ""
	for i := range 6000 {
		reply := &engine.Recording{}
		set := task(testCache, fmt.Sprintf("SET key-%d %0400d", i, i))
		set.Reply = reply
		busy++
		begin(g, set, func(err error) {
			busy--
			if err != nil {
				failed = err.Error()
			} else if got := words(reply); got != "OK" {
				failed = got
			}
		})
		if i%40 == 0 {
			g.pace.before = time.Second
			w.settle()
			w.run(100*time.Microsecond, nil)
		}
	}
	w.run(time.Minute, func() bool { return busy == 0 })
	if failed != "" || busy > 0 {
		t.Fatalf("a write came to %q, %d are not done", failed, busy)
	}
	w.run(time.Second, nil)
	s, _ := g.Stats(testCache)
	if s.Bytes > 1<<20 || s.Evicted == 0 || s.Items < 500 {
		t.Errorf("%+v under a limit of 1 MiB", s)
	}
	w.checkReplicas(1)
}

// TestExpiredItemsGoThroughTheLog: what time removes, the leader removes on every replica.
func TestExpiredItemsGoThroughTheLog(t *testing.T) {
	w, g := three(t, 5)
	for i := range 50 {
		w.say(g, fmt.Sprintf("SET k%d v PX %d", i, 200+i))
	}
	w.say(g, "SET stays v")
	w.run(5*time.Second, nil)
	if s, _ := g.Stats(testCache); s.Items != 1 || s.Expired != 50 {
		t.Errorf("%+v", s)
	}
	w.checkReplicas(1)
}

// TestScriptsHaveTheirRightsAsData: every replica comes to the same answer.
func TestScriptsHaveTheirRightsAsData(t *testing.T) {
	w, g := three(t, 6)
	rights := &engine.Rights{Named: []engine.NamedRights{{On: engine.OnKey, Name: []byte("mine"), Actions: []string{"cache:Set"}}}}
	for key, want := range map[string]string{"mine": "OK", "other": "error:"} {
		script := task(testCache, "EVAL return(redis.call('set',KEYS[1],'v')) 1 "+key)
		script.Rights = func() *engine.Rights { return rights }
		reply, err := w.ask(g, script)
		if err != nil || !strings.HasPrefix(words(reply), want) {
			t.Errorf("%s: %v, %s", key, err, words(reply))
		}
	}
	w.run(time.Second, nil)
	w.checkReplicas(1)
}

// TestARepeatedTaskCountsOnce: with an idempotency key, also at another leader.
func TestARepeatedTaskCountsOnce(t *testing.T) {
	w, g := three(t, 7)
	incr := func() *engine.Task {
		t := task(testCache, "INCR n")
		t.Once = &engine.Once{Key: [16]byte{1}}
		return t
	}
	first, err := w.ask(g, incr())
	if err != nil {
		t.Fatal(err)
	}
	old := g
	g.Transfer(0)
	w.settle()
	w.run(5*time.Second, func() bool { return w.leader(1) != nil && w.leader(1) != old })
	g = w.waitLeader(1)
	if g == old {
		t.Fatal("the leadership stayed")
	}
	again := incr()
	second, err := w.ask(g, again)
	if err != nil || !again.Replayed || words(second) != words(first) {
		t.Errorf("%v, replayed %v: %s, then %s", err, again.Replayed, words(first), words(second))
	}
	w.run(time.Second, nil)
	w.checkReplicas(1)
}

// TestAReplicaThatBreaksStopsAlone: an entry that cannot be read fences one replica; the others, and its own neighbours, go on.
func TestAReplicaThatBreaksStopsAlone(t *testing.T) {
	w, g := three(t, 8)
	w.found(2, "n1", "n2", "n3")
	w.waitLeader(2)
	n := w.node(g.c.cfg.Node)
	g.inside(func() { panic("broken invariant") })
	for len(n.cluster.workers[0].queue) > 0 {
		n.cluster.workers[0].once(nil)
	}
	if err := func() (err error) {
		begin(g, task(testCache, "SET k v"), func(e error) { err = e })
		n.cluster.workers[0].once(nil)
		return err
	}(); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a broken replica answers %v", err)
	}
	if !g.Status().Broken {
		t.Error("its status does not say so")
	}
	n.cluster.Stop(1)
	w.run(5*time.Second, nil)
	w.say(w.waitLeader(1), "SET k v")
	w.say(w.waitLeader(2), "SET k v")
}

// TestALeaseThatRunsOutDuringARead: the value that was read is taken back, and read again when a quorum has confirmed; of a reply
// that takes nothing back it stands, and is confirmed afterwards.
func TestALeaseThatRunsOutDuringARead(t *testing.T) {
	w, g := three(t, 9)
	w.say(g, "SET k v")
	w.say(g, "GET k") // there is a lease now
	for _, plain := range []bool{false, true} {
		w.say(g, "GET k")
		g.lease.until = g.c.cfg.Steady() // it ends at this moment, which the last tick did not know
		reply := &engine.Recording{}
		read := task(testCache, "GET k")
		read.Reply = reply
		if plain {
			read.Reply = struct{ engine.Reply }{reply}
		}
		done := false
		g.c.now.Store(int64(g.lease.until) - 1)
		begin(g, read, func(err error) { done = err == nil })
		if wrote := reply.Len() > 0; done || wrote != plain {
			t.Errorf("plain %v: at once it is done %v, with %d bytes", plain, done, reply.Len())
		}
		w.settle()
		w.run(time.Second, func() bool { return done })
		if got := words(reply); !done || got != "v" {
			t.Errorf("plain %v: done %v, %q", plain, done, got)
		}
	}
}
