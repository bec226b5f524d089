package replication

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A task in segments is in bytes what it is in one piece, wherever it is cut.
func TestSegmentsAreTheTask(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 7))
	for range 200 {
		x := randomTask(rng)
		for i := range x.Calls {
			for j := 1; j < len(x.Calls[i].Args); j++ {
				if rng.IntN(3) == 0 {
					x.Calls[i].Args[j] = bytes.Repeat([]byte{byte(i), byte(j)}, leastApart/4*(1+rng.IntN(4)))
				}
			}
		}
		want, s := appendTask(nil, x), *segment(x)
		if s.size != len(want) {
			t.Fatalf("%d bytes, %d in one piece", s.size, len(want))
		}
		var got []byte
		for left := s.size; left > 0; {
			n := 1 + rng.IntN(left)
			got, s = s.read(got, n)
			left -= n
		}
		if !bytes.Equal(got, want) {
			t.Fatal("the bytes differ")
		}
	}
}

// apart makes a world in which little fits into an entry.
func apart(t *testing.T, seed uint64) (*world, *Group) {
	w := newWorld(t, seed, 3, func(cfg *Config) { cfg.whole, cfg.part = 256, 128 })
	w.found(1, "n1", "n2", "n3")
	g := w.waitLeader(1)
	w.run(time.Second, nil)
	return w, g
}

// gathered is how many replicas have parts of a task.
func (w *world) gathered() (n int) {
	for _, node := range w.nodes {
		if g := node.cluster.Group(1); node.up && g != nil && g.gathering.size > 0 {
			n++
		}
	}
	return n
}

// TestOthersGoBetweenParts: a large write does not hold up the small ones of others, and both are carried out.
func TestOthersGoBetweenParts(t *testing.T) {
	w, g := apart(t, 5)
	over, value := false, strings.Repeat("v", 100_000)
	large := task(testCache, "SET large "+value)
	large.Reply = &engine.Recording{}
	begin(g, large, func(err error) {
		if over = true; err != nil {
			t.Error(err)
		}
	})
	for i := range 20 {
		w.say(g, fmt.Sprintf("SET small-%d 1", i))
		if over {
			t.Fatalf("after %d small writes the large one was over", i)
		}
		if got := w.say(g, "EXISTS large"); got != "0" {
			t.Fatal("the large write shows before it is whole")
		}
	}
	w.run(10*time.Second, func() bool { return over })
	if got := w.say(g, "GET large"); got != value {
		t.Errorf("%d bytes came out", len(got))
	}
	w.run(time.Second, nil)
	if n := w.gathered(); n > 0 {
		t.Errorf("%d replicas keep parts of a task that is over", n)
	}
	w.checkReplicas(1)
}

// TestALargeTaskGivenUp: before its last part has come nothing has happened, its caller knows that, and nobody keeps the parts.
func TestALargeTaskGivenUp(t *testing.T) {
	w, g := apart(t, 6)
	x := &execution{ready: make(chan error, 1)}
	large := task(testCache, "SET large "+strings.Repeat("v", 100_000))
	large.Reply = &engine.Recording{}
	x.begin(g, large, func(_ *execution, err error) { x.ready <- err })
	w.run(10*time.Second, func() bool { return w.gathered() == 3 })
	if err := x.abandon(context.DeadlineExceeded); !fault.Is(err, fault.Timeout) {
		t.Fatalf("%v", err)
	}
	large.Calls[0].Args[2] = nil // it is the caller's again
	w.run(time.Second, nil)
	if got := w.say(g, "EXISTS large"); got != "0" || w.gathered() > 0 {
		t.Errorf("the key is there %s times, %d replicas have parts", got, w.gathered())
	}
	if got := w.say(g, "SET large "+strings.Repeat("w", 1000)); got != "OK" {
		t.Error(got)
	}
	w.run(time.Second, nil)
	w.checkReplicas(1)
}

// TestALeaderLostBetweenParts: another leader does not go on with what it has of a task, and says nothing of it either.
func TestALeaderLostBetweenParts(t *testing.T) {
	w, g := apart(t, 7)
	var told []error
	large := task(testCache, "SET large "+strings.Repeat("v", 100_000))
	large.Reply = &engine.Recording{}
	begin(g, large, func(err error) { told = append(told, err) })
	w.run(10*time.Second, func() bool { return w.gathered() == 3 })
	lost := w.node(g.c.cfg.Node)
	w.isolate(lost, true, true)
	w.run(20*time.Second, func() bool { return len(told) > 0 })
	if len(told) != 1 || !fault.Is(told[0], fault.Unavailable) {
		t.Errorf("%v", told)
	}
	w.heal()
	w.run(5*time.Second, nil)
	g = w.waitLeader(1)
	if got := w.say(g, "EXISTS large", "SET large "+strings.Repeat("w", 1000), "STRLEN large"); got != "0 OK 1000" {
		t.Error(got)
	}
	w.run(time.Second, nil)
	if n := w.gathered(); n > 0 {
		t.Errorf("%d replicas have parts", n)
	}
	w.checkReplicas(1)
}

// TestASnapshotBetweenParts: a replica that comes in the middle of a large task gets the parts that have come, and the rest from
// the log.
func TestASnapshotBetweenParts(t *testing.T) {
	w, g := apart(t, 8)
	follower := w.nodes[0]
	if w.node(g.c.cfg.Node) == follower {
		follower = w.nodes[1]
	}
	value := strings.Repeat("v", 900_000)
	over := false
	large := task(testCache, "SET large "+value)
	large.Reply = &engine.Recording{}
	w.crash(follower)
	w.run(time.Second, nil)
	begin(g, large, func(err error) {
		if over = true; err != nil {
			t.Error(err)
		}
	})
	w.restart(follower)
	w.run(time.Minute, func() bool { return over })
	w.run(2*time.Second, nil)
	if w.halfway == 0 || w.snapshots == 0 {
		t.Fatalf("of %d snapshots %d were made between parts", w.snapshots, w.halfway)
	}
	if got := w.say(g, "GET large"); got != value {
		t.Errorf("%d bytes came out", len(got))
	}
	w.checkReplicas(1)
}

// TestWhatNoLogTakes: one large task may wait whatever its size, more do not add up without end, and what is beyond every limit
// is refused with that limit.
func TestWhatNoLogTakes(t *testing.T) {
	var b bulk
	if !b.add(maxTask+5) || b.add(1) {
		t.Error("one may wait alone")
	}
	b.Add(-(maxTask + 5))
	for range 2 {
		if !b.add(maxTask / 2) {
			t.Error("several may wait")
		}
	}
	if b.add(1000) {
		t.Error("several wait beyond the bound")
	}
	w, g := three(t, 9)
	half := make([]byte, engine.HardMaxValue/2+1<<20) // touched by nobody, so it costs nothing
	x := task(testCache, "MSET a b c d")
	x.Calls[0].Args[2], x.Calls[0].Args[4] = half, half
	if _, err := w.ask(g, x); !fault.Is(err, fault.TooLarge) || !strings.Contains(err.Error(), fmt.Sprint(maxTask)) {
		t.Errorf("%v", err)
	}
	w, g = three(t, 9)
	g.c.cfg.Format = func() int { return FormatTasks } // a node of a former version is there
	x = task(testCache, "SET a b")
	x.Calls[0].Args[2] = make([]byte, maxTaskOld)
	if _, err := w.ask(g, x); !fault.Is(err, fault.TooLarge) || !strings.Contains(err.Error(), fmt.Sprint(maxTaskOld)) {
		t.Errorf("%v", err)
	}
	x.Calls[0].Args[2] = make([]byte, 2*maxWhole)
	if _, err := w.ask(g, x); err != nil {
		t.Error(err)
	}
}

// TestPipelinesFitIntoEntries: what need not be one piece is proposed in pieces that are entries, so that no limit is met.
func TestPipelinesFitIntoEntries(t *testing.T) {
	w, g := apart(t, 10)
	var commands []string
	for i := range 200 {
		commands = append(commands, fmt.Sprintf("SET k%d %0100d", i, i))
	}
	before := g.applied
	all := task(testCache, commands...)
	all.Enough = func() bool { return false }
	reply, err := w.ask(g, all)
	if got := words(reply); err != nil || got != strings.TrimSpace(strings.Repeat("OK ", 200)) {
		t.Error(got, err)
	}
	if entries := g.applied - before; entries < 50 {
		t.Errorf("200 calls of 100 bytes were %d entries of at most 256 bytes", entries)
	}
}

// TestALargeValueOverLinks: three nodes over loopback take a value that is larger than all their budgets for frames, and nobody
// is elected meanwhile.
func TestALargeValueOverLinks(t *testing.T) {
	nodes := realNodes(t, 3, 1, Config{})
	g := leaderOf(t, nodes, 0)
	for _, n := range nodes { // whichever leads, should another come to do so
		n.cluster.Group(0).Configure(testCache, &engine.Settings{MaxValue: 64 << 20})
	}
	term := g.Status().Term
	value := bytes.Repeat([]byte("larder!!"), 40<<20/8)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for ctx.Err() == nil { // until the settings are there
		reply := &engine.Recording{}
		set := task(testCache, "SET large v", "STRLEN large")
		set.Calls[0].Args[2], set.Atomic, set.Reply = value, true, reply
		if err := g.Execute(ctx, set); err != nil {
			t.Fatal(err)
		}
		if got := words(reply); got == fmt.Sprint("OK ", len(value)) {
			break
		} else if !strings.Contains(got, "error:") {
			t.Fatal(got)
		}
	}
	last := g.Status()
	for _, n := range nodes {
		other := n.cluster.Group(0)
		at := func(g *Group) (applied uint64, digest [32]byte, bytes int64) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.applied, g.p.Digest(), g.store.Bytes()
		}
		for {
			applied, digest, _ := at(g)
			if has, theirs, bytes := at(other); has == applied && has >= last.Applied {
				if _, hard := n.cluster.logShare(); theirs != digest || bytes > hard+maxWhole {
					t.Errorf("a replica differs: %v, its log has %d bytes", theirs != digest, bytes)
				}
				break
			}
			if time.Sleep(5 * time.Millisecond); ctx.Err() != nil {
				t.Fatal("a replica lags behind")
			}
		}
	}
	if last.Term != term {
		t.Logf("the term went from %d to %d: a slow machine", term, last.Term)
	}
}
