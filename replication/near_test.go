package replication

import (
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

func TestFreshness(t *testing.T) {
	f := freshness{}
	for _, step := range []struct {
		name string
		do   func()
		want time.Duration
	}{
		{"nothing was heard", func() { f.applied(5) }, 0},
		{"what it has is what there is", func() { f.heard(mark{5, 10}, 5) }, 10},
		{"it lacks something", func() { f.heard(mark{7, 20}, 5) }, 10},
		{"it lacks more", func() { f.heard(mark{8, 30}, 5) }, 10},
		{"and more: the first one stays, the last one comes after it", func() { f.heard(mark{9, 40}, 6) }, 10},
		{"not enough was applied", func() { f.applied(6) }, 10},
		{"the first is reached", func() { f.applied(7) }, 20},
		{"then the last", func() { f.applied(12) }, 40},
		{"what comes late is of an older time, and is all there is again", func() { f.heard(mark{12, 50}, 12) }, 50},
	} {
		if step.do(); f.at != step.want {
			t.Errorf("%s: fresh at %d, want %d", step.name, f.at, step.want)
		}
	}
}

// Followers answer from what they have, and know how far behind that may be: also while the group sleeps, and when the leader
// is gone for good. One that never had anything does not answer.
func TestReadNear(t *testing.T) {
	const part = 0
	nodes := realNodes(t, 3, 1, Config{Tick: 5 * time.Millisecond})
	leader := leaderOf(t, nodes, part)
	if err := leader.Execute(t.Context(), task(testCache, "SET k one")); err != nil {
		t.Fatal(err)
	}
	read := func(g *Group, atMost time.Duration) (string, *engine.Task, error) {
		x := task(testCache, "GET k")
		reply := &engine.Recording{}
		x.Reply, x.Consistency = reply, engine.Eventual
		err := g.ReadNear(x, atMost)
		c := reply.Cursor()
		return string(c.Next().Bytes), x, err
	}
	follower := func() *Group {
		for _, n := range nodes {
			if g := n.cluster.Group(part); g != nil && !g.Leads() && g != leader {
				return g
			}
		}
		t.Fatal("nobody follows")
		return nil
	}()
	within := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	within("the follower answers", func() bool { v, _, err := read(follower, time.Second); return err == nil && v == "one" })
	if _, x, err := read(leader, time.Nanosecond); err != nil || x.Was != engine.Leader {
		t.Errorf("the leader answers as %q: %v", x.Was, err)
	}
	within("the group sleeps", func() bool { return follower.asleep.Load() && leader.asleep.Load() })
	follower.mu.Lock()
	at := follower.fresh.at
	follower.mu.Unlock()
	within("while it sleeps it goes on being up to date", func() bool {
		_, x, err := read(follower, 0)
		return err == nil && steadyTime()-time.Duration(x.AgeMs)*time.Millisecond > at+time.Second
	})
	for _, n := range nodes { // all but the follower: there is no quorum any more
		if n.cluster != follower.c {
			n.stop()
		}
	}
	within("its age grows", func() bool { _, x, err := read(follower, 0); return err == nil && x.AgeMs > 100 })
	if v, x, err := read(follower, 0); err != nil || v != "one" || x.Was != engine.Eventual {
		t.Errorf("without a quorum it answers %q, as %q: %v", v, x.Was, err)
	}
	if _, _, err := read(follower, 100*time.Millisecond); !fault.Is(err, fault.Unavailable) {
		t.Errorf("it answers although it is too far behind: %v", err)
	}
	follower.mu.Lock()
	follower.fresh = freshness{} // as one that has just been founded or has restarted
	follower.mu.Unlock()
	if _, _, err := read(follower, 0); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a replica that never had anything answers: %v", err)
	}
}

// A leader that loses its followers goes on answering as a replica, and knows from when its data is.
func TestALeaderThatIsLeftAlone(t *testing.T) {
	const part = 0
	nodes := realNodes(t, 3, 1, Config{Tick: 5 * time.Millisecond})
	leader := leaderOf(t, nodes, part)
	for _, n := range nodes {
		if n.cluster != leader.c {
			n.stop()
		}
	}
	for end := time.Now().Add(20 * time.Second); leader.Leads(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it leads on")
		}
	}
	left := steadyTime()
	leader.mu.Lock()
	at := leader.fresh.at
	leader.mu.Unlock()
	// It does so after it has not heard of a quorum for at least twice the grace.
	if at == 0 || left-at < time.Duration(leader.c.cfg.Grace)*leader.c.cfg.Tick {
		t.Errorf("at %s it takes its data for that of %s", left, at)
	}
	x := task(testCache, "DBSIZE")
	if err := leader.ReadNear(x, 0); err != nil || x.Was != engine.Eventual {
		t.Errorf("answers as %q: %v", x.Was, err)
	}
	if err := leader.Execute(t.Context(), task(testCache, "DBSIZE")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a linearizable read is answered: %v", err)
	}
}

// The leader's level is answered without a lease, and says so.
func TestReadsOfTheLeader(t *testing.T) {
	nodes := realNodes(t, 3, 1, Config{Tick: 5 * time.Millisecond})
	leader := leaderOf(t, nodes, 0)
	leader.mu.Lock()
	leader.lease.until, leader.lease.barred = 0, true // it gets no other in this term
	leader.mu.Unlock()
	x := task(testCache, "DBSIZE")
	x.Consistency = engine.Leader
	if err := leader.Execute(t.Context(), x); err != nil || x.Was != engine.Leader {
		t.Errorf("answered as %q: %v", x.Was, err)
	}
	x = task(testCache, "DBSIZE")
	if err := leader.Execute(t.Context(), x); err != nil || x.Was != engine.DefaultConsistency {
		t.Errorf("a linearizable read is answered as %q: %v", x.Was, err)
	}
}

// What does not fit into an entry is refused before anything is done, and the error says what and how long it may be.
func TestWhatIsTooLargeForTheLog(t *testing.T) {
	nodes := realNodes(t, 3, 1, Config{Tick: 5 * time.Millisecond})
	leader := leaderOf(t, nodes, 0)
	x := task(testCache, "SET k v")
	x.Calls[0].Args[2] = make([]byte, maxTask)
	err := leader.Execute(t.Context(), x)
	if e := fault.From(err); e == nil || e.Kind != fault.TooLarge || e.Argument != "value" || !strings.Contains(e.Message, "Limit: 537919488 bytes, Actual: 537919") {
		t.Errorf("refused with %v", err)
	}
	x = task(testCache, "SET k v", "SET l w")
	x.Calls[1].Args[2] = make([]byte, maxTask)
	if e := fault.From(leader.Execute(t.Context(), x)); e == nil || e.Kind != fault.TooLarge || e.Argument != "commands" {
		t.Errorf("two commands are refused with %v", e)
	}
	if value := engine.HardMaxValue; value >= maxTask {
		t.Errorf("a value of %d bytes, which a cache may be made to take, does not fit", value)
	}
}
