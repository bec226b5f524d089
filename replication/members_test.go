package replication

import (
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/placement"
)

// TestAReplicaThatForgotDoesNotVote: a write is acknowledged by two of three, one of these restarts and has forgotten it, the
// other dies. Under a new id the first is nobody, so that no leader can be elected who lacks the write; when the survivor
// is back, the write is there.
func TestAReplicaThatForgotDoesNotVote(t *testing.T) {
	w := newWorld(t, 1, 3)
	w.found(1, "n1", "n2", "n3")
	first := w.waitLeader(1)
	w.run(time.Second, nil)
	leader := w.node(first.c.cfg.Node)
	others := []*simNode{}
	for _, n := range w.nodes {
		if n != leader {
			others = append(others, n)
		}
	}
	forgets, behind := others[0], others[1]
	w.isolate(behind, true, true)
	set := task(testCache, "SET k v")
	var acked bool
	begin(first, set, func(err error) { acked = err == nil })
	w.run(time.Second, nil)
	if !acked {
		t.Fatal("two of three do not take a write")
	}
	// The leader is cut off, and does not learn of the new replica; who forgot and who never knew are alone.
	w.heal()
	w.isolate(leader, true, true)
	w.crash(forgets)
	forgets.start()
	w.place(forgets, 1) // under its old id, as a founder: it has used that up, but this process does not know
	again := forgets.cluster.Group(1)
	if again != nil {
		t.Fatalf("a process hosts replica %x, which is not its own", again.self)
	}
	wanted := w.wanted[1]
	for i, m := range wanted.Members {
		if m.Node == forgets.name {
			wanted.Members[i] = forgets.member()
		}
	}
	w.want(1, wanted)
	w.run(30*time.Second, nil)
	if g := w.leader(1); g != nil && g != first {
		t.Fatalf("replica %x leads without the write", g.self)
	}
	w.heal()
	w.run(10*time.Second, nil)
	w.waitLeader(1)
	w.checkReplicas(1)
	if g := w.leader(1); g.p.Has(testCache, 0, []byte("k"), g.now()) == "" {
		t.Fatal("the acknowledged write is lost")
	}
}

// TestAnIDIsUsedOnce: C1.
func TestAnIDIsUsedOnce(t *testing.T) {
	w := newWorld(t, 2, 3)
	w.found(1, "n1", "n2", "n3")
	n := w.nodes[0]
	n.cluster.Stop(1)
	if err := n.cluster.Place(1, [2]uint64{}, w.wanted[1]); err == nil {
		t.Error("a replica that was stopped was started again, empty, under its id")
	}
}

// TestMembersMove: a partition moves from three nodes to three others while it is written, one member at a time, and the
// leader goes with it.
func TestMembersMove(t *testing.T) {
	w := newWorld(t, 3, 6)
	w.found(1, "n1", "n2", "n3")
	w.waitLeader(1)
	history, done := w.clients(4, 60, 1)
	w.run(time.Second, nil)
	wanted := w.wanted[1]
	for i, name := range []string{"n4", "n5", "n6"} {
		wanted.Members[i] = w.node(name).member()
		w.want(1, Wanted{Generation: 1, Founders: wanted.Founders, Members: append([]Member(nil), wanted.Members...)})
		w.run(5*time.Second, nil)
	}
	w.run(time.Minute, done)
	w.run(3*time.Second, nil)
	g := w.waitLeader(1)
	if got := g.Status().Voters; len(got) != 3 || got[0]&0xff < 4 {
		t.Errorf("the voters are %x", got)
	}
	ended := 0
	for _, n := range w.nodes[:3] {
		if n.cluster.Group(1) == nil {
			ended++
		}
		n.up = false
	}
	if ended == 0 {
		t.Error("no replica that was removed has ended")
	}
	w.checkReplicas(1)
	w.checkHistory(*history)
}

// asleep waits until all replicas of partition 1 sleep.
func (w *world) asleep() {
	w.t.Helper()
	all := func() bool {
		for _, n := range w.nodes {
			if g := n.cluster.Group(1); n.up && (g == nil || !g.asleep.Load()) {
				return false
			}
		}
		return true
	}
	w.run(10*time.Second, all)
	if !all() {
		w.fail("the group does not sleep")
	}
}

func (w *world) mustDo(g *Group, words string) {
	w.t.Helper()
	done := false
	begin(g, task(testCache, words), func(err error) {
		if err != nil {
			w.fail("%s: %v", words, err)
		}
		done = true
	})
	w.settle()
	w.run(5*time.Second, func() bool { return done })
	if !done {
		w.fail("%s is not done", words)
	}
}

// TestASleepingGroupWakes: it sends nothing and is told of no tick, answers as ever, and notices that its leader is gone: the
// node, or its process that was there again at once.
func TestASleepingGroupWakes(t *testing.T) {
	w := newWorld(t, 5, 3)
	w.found(1, "n1", "n2", "n3")
	g := w.waitLeader(1)
	w.asleep()
	before := w.messages
	w.run(10*time.Second, func() bool {
		for _, n := range w.nodes {
			if n.cluster.Group(1).inbox.tick {
				w.fail("a group that sleeps is told of a tick")
			}
		}
		return false
	})
	if n := w.messages - before; n > 0 {
		t.Errorf("%d messages of a group that sleeps", n)
	}
	w.mustDo(g, "SET k v")
	w.asleep()
	w.mustDo(g, "GET k")
	w.asleep()

	gone := w.node(g.c.cfg.Node)
	w.crash(gone)
	at := w.now
	w.waitLeader(1)
	if took := w.now - at; took > 1500*time.Millisecond {
		t.Errorf("a sleeping group has another leader after %v", took)
	}
	w.run(5*time.Second, nil)
	w.restart(gone)
	w.asleep()

	again := w.node(w.leader(1).c.cfg.Node)
	w.crash(again)
	w.restart(again) // as if it had never been away
	g = w.waitLeader(1)
	w.mustDo(g, "SET k w")
	w.asleep()
	w.checkReplicas(1)
}

// TestALocalFoundsAGroup: the only replica of a partition goes on with its data when others join it.
func TestALocalFoundsAGroup(t *testing.T) {
	w := newWorld(t, 6, 3)
	n := w.nodes[0]
	local := NewLocal([2]uint64{1, 2}, n, [32]byte{1}, w.log)
	if err := local.Execute(t.Context(), engine.ConfigureTask(testCache, engine.Settings{MemoryLimit: 1 << 20})); err != nil {
		t.Fatal(err)
	}
	if err := local.Execute(t.Context(), task(testCache, "SET k v")); err != nil {
		t.Fatal(err)
	}
	wanted := Wanted{Generation: 1, Founders: []uint64{n.member().ID}}
	for _, node := range w.nodes {
		wanted.Members = append(wanted.Members, node.member())
	}
	if err := n.cluster.place(1, [2]uint64{1, 2}, wanted, n.member().ID, local.handOver); err != nil {
		t.Fatal(err)
	}
	if _, elsewhere := leaderHint(local.Execute(t.Context(), task(testCache, "SET k late"))); !elsewhere {
		t.Error("who still holds the Local is not told to look elsewhere")
	}
	w.want(1, wanted)
	g := w.waitLeader(1)
	w.run(10*time.Second, func() bool { return len(g.conf.GetVoters()) == 3 && len(g.conf.GetVotersOutgoing()) == 0 })
	w.mustDo(g, "SET l v")
	w.run(time.Second, nil)
	w.checkReplicas(1)
	if g.p.Has(testCache, 0, []byte("k"), g.now()) == "" {
		t.Error("the data is gone")
	}
}

// TestALocalMoves: the only replica of a partition gives its data to the one that takes its place, also while nobody else has it.
func TestALocalMoves(t *testing.T) {
	w := newWorld(t, 9, 2)
	from, to := w.nodes[0], w.nodes[1]
	old, next := from.member(), to.member()
	hosts := map[*simNode]*Host{}
	for _, n := range w.nodes {
		hosts[n] = NewHost(n, w.log)
		hosts[n].Join(n.cluster)
		n.cluster.cfg.Life = n.member().Life
	}
	record := placement.Partition{ID: 1, Generation: 1, Founders: []uint64{old.ID}, Replicas: []placement.Replica{{ID: old.ID, Node: old.Node, Life: old.Life}}}
	place := func() {
		for _, n := range w.nodes {
			if err := hosts[n].Place(&record); err != nil {
				t.Fatal(err)
			}
		}
		w.settle()
	}
	place()
	if hosts[to].Replica(1) != nil {
		t.Fatal("another node has it as well")
	}
	local := hosts[from].Local(1)
	for _, do := range []*engine.Task{engine.ConfigureTask(testCache, engine.Settings{MemoryLimit: 1 << 20}), task(testCache, "SET k v")} {
		if err := local.Execute(t.Context(), do); err != nil {
			t.Fatal(err)
		}
	}
	record.Leaving, record.Replicas = record.Replicas, []placement.Replica{{ID: next.ID, Node: next.Node, Life: next.Life}}
	place()
	if hosts[to].Local(1) != nil || hosts[from].Local(1) != nil {
		t.Fatal("who takes its place begins by itself")
	}
	done := func() bool {
		g := w.leader(1)
		return g != nil && g.self == next.ID && g.settled && len(g.conf.GetVoters()) == 1
	}
	w.run(20*time.Second, done)
	if !done() {
		w.fail("it does not move")
	}
	if g := w.leader(1); g.p.Has(testCache, 0, []byte("k"), g.now()) == "" {
		t.Error("the data is gone")
	}

	again := placement.Partition{ID: 2, Generation: 1, Founders: []uint64{old.ID}, Replicas: []placement.Replica{{ID: old.ID, Node: old.Node, Life: old.Life}}}
	if err := hosts[from].Place(&again); err != nil {
		t.Fatal(err)
	}
	stale := hosts[from].Local(2)
	again.Generation, again.Founders, again.Replicas = 2, []uint64{next.ID}, []placement.Replica{{ID: next.ID, Node: next.Node, Life: next.Life}}
	if err := hosts[from].Place(&again); err != nil {
		t.Fatal(err)
	}
	if _, elsewhere := leaderHint(stale.Execute(t.Context(), task(testCache, "GET k"))); !elsewhere || hosts[from].Replica(2) != nil {
		t.Error("H1: a replica whose data was given up goes on answering")
	}
}
