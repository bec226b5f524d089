package replication

import (
	"testing"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/larder-cache/larder/placement"
)

// leaderOfTwo is a node that leads two groups or more, in a world with the seed, and these.
func leaderOfTwo(t *testing.T, seed uint64) (w *world, n *simNode, groups []*Group) {
	t.Helper()
	w = newWorld(t, seed, 3)
	byNode := map[string][]*Group{}
	for p := range placement.PartitionID(6) {
		w.found(p+1, "n1", "n2", "n3")
	}
	for p := range placement.PartitionID(6) {
		g := w.waitLeader(p + 1)
		byNode[g.c.cfg.Node] = append(byNode[g.c.cfg.Node], g)
	}
	w.run(time.Second, nil)
	for _, node := range w.nodes {
		if len(byNode[node.name]) > len(groups) {
			n, groups = node, byNode[node.name]
		}
	}
	if len(groups) < 2 {
		t.Fatalf("nobody leads two groups")
	}
	return w, n, groups
}

// What an event loop brings in one turn goes to each of the others in one frame, whatever groups it is for, and not before the turn
// is over.
func TestGroupsShareAFrame(t *testing.T) {
	w, n, groups := leaderOfTwo(t, 1)
	before, left := w.messages, len(groups)
	n.cluster.Hold()
	for _, g := range groups {
		begin(g, task(testCache, "SET k v"), func(err error) {
			if err != nil {
				t.Error(err)
			}
			left--
		})
		w.settle()
	}
	if sent := w.messages - before; sent != 0 {
		t.Errorf("%d frames were sent in the middle of a turn", sent)
	}
	n.cluster.Release()
	if sent := w.messages - before; sent != 2 {
		t.Errorf("the entries of %d groups went in %d frames to two nodes", len(groups), sent)
	}
	w.run(time.Second, func() bool { return left == 0 })
	if left > 0 {
		t.Errorf("%d tasks are not over", left)
	}
}

// While as many tasks are under way as make a wave, the proposals of other groups wait until they have landed, but not for longer than
// a tick.
func TestAWaveIsWaitedFor(t *testing.T) {
	for name, lost := range map[string]bool{"that lands": false, "that does not": true} {
		t.Run(name, func(t *testing.T) {
			w, n, groups := leaderOfTwo(t, 4) // a wave is one task
			if got := n.cluster.workers[0].crowd; got != 1 {
				t.Fatalf("a wave has %d tasks", got)
			}
			a, b := groups[0], groups[1]
			if lost {
				for _, other := range w.nodes {
					w.cut[[2]string{n.name, other.name}] = true
				}
			}
			done := map[*Group]bool{}
			write := func(g *Group) {
				begin(g, task(testCache, "SET k v"), func(err error) {
					if err != nil {
						t.Error(err)
					}
					done[g] = true
				})
				w.settle()
			}
			write(a)
			write(b)
			if a.flying(false) != 1 || b.flying(false) != 0 {
				t.Fatalf("%d entries of the first group are under way, %d of the second", a.flying(false), b.flying(false))
			}
			began := w.now
			w.run(time.Second, func() bool { return b.flying(false) > 0 })
			switch {
			case b.flying(false) == 0:
				t.Error("the second group was forgotten")
			case lost && w.now-began > 2*DefaultTick:
				t.Errorf("it waited %v for a wave that does not land", w.now-began)
			case !lost && !done[a]:
				t.Error("it has not waited")
			}
			w.heal()
			w.run(5*time.Second, func() bool { return done[a] && done[b] })
			if !done[a] || !done[b] {
				t.Errorf("what is over: %v", done)
			}
			for _, g := range n.cluster.Groups() {
				if g.aloft != 0 || n.cluster.workers[0].aloft != 0 {
					t.Errorf("W1: %d tasks count as under way, %d of partition %d", n.cluster.workers[0].aloft, g.aloft, g.id.partition)
				}
			}
		})
	}
}

// An acknowledgement that comes when the entry is committed wakes nobody up, and is not forgotten.
func TestALateAcknowledgement(t *testing.T) {
	w, g := three(t, 3)
	w.say(g, "SET k v")
	w.run(2*time.Millisecond, nil)
	if n := len(g.inbox.messages); n != 1 {
		t.Fatalf("%d messages wait for something to happen", n)
	}
	w.run(2*DefaultTick, nil)
	last, err := g.store.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if got := g.members.slowest(g); got != last || len(g.inbox.messages) > 0 {
		t.Errorf("after two ticks %d messages wait, and the slowest replica is at %d of %d", len(g.inbox.messages), got, last)
	}
}

// A group that has held up what comes from a node is a worker's for a while.
func TestAGroupThatTakesLongIsAWorkers(t *testing.T) {
	w, g := three(t, 3)
	var follower *Group
	for _, n := range w.nodes {
		if other := n.cluster.Group(1); other != g {
			follower = other
		}
	}
	clock := time.Duration(0)
	follower.c.cfg.brisk = func() time.Duration { // everything takes long
		clock += longRound
		return clock + 1
	}
	w.say(g, "SET k v")
	w.run(time.Second, nil)
	if follower.heavy.Load() != 0 {
		t.Error("a round that took no longer than it may counts")
	}
	follower.c.cfg.brisk = func() time.Duration {
		clock += 2 * longRound
		return clock
	}
	w.say(g, "SET k v")
	w.run(time.Second, nil)
	if n := follower.heavy.Load(); n == 0 || n > heavyFor {
		t.Errorf("a worker drives it for %d messages more", n)
	}
	beat := &raftpb.Message{Type: raftpb.MsgHeartbeat.Enum(), From: new(g.self), To: new(follower.self), Term: new(g.term)}
	for follower.heavy.Load() > 0 {
		if follower.deliver("n1", beat, 1) {
			t.Fatal("it is not a worker's")
		}
	}
	follower.c.workers[0].once(nil)
	if !follower.deliver("n1", beat, 1) {
		t.Error("it stays a worker's")
	}
}
