package replication

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/placement"
)

// How elections go, counted over many seeds: who stands, how often, and how long nobody serves.

// stands is how often any replica has stood for election, and terms how many terms have had a leader.
func (w *world) stands() int { return strings.Count(w.logs.String(), "stands for election") }

// outage crashes the node that leads a partition, and returns how long it takes until another serves, and how many candidates
// there were until then and for a second after.
func (w *world) outage(p placement.PartitionID) (took time.Duration, candidates int) {
	w.t.Helper()
	gone := w.node(w.waitLeader(p).c.cfg.Node)
	before, at := w.stands(), w.now
	w.crash(gone)
	w.waitLeader(p)
	took = w.now - at
	w.run(time.Second, nil)
	return took, w.stands() - before
}

// names are those of the first nodes of a world.
func names(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprint("n", i+1))
	}
	return all
}

// TestALostLeaderIsReplacedInOneRound: where messages arrive, one candidate stands and is elected, whichever replica led and
// whenever each node ticks. So a partition is without a leader for grace+1 ticks, until the next tick, and for the first turn.
func TestALostLeaderIsReplacedInOneRound(t *testing.T) {
	var all []time.Duration
	simSeeds(t, 60, func(t *testing.T, seed uint64) {
		nodes := 3 + 2*int(seed%2)
		p := placement.PartitionID(1 + seed%7) // the order differs from group to group
		w := newWorld(t, seed, nodes)
		w.found(p, names(nodes)...)
		w.waitLeader(p)
		w.clients(4, 1000, p)
		w.run(time.Duration(1000+w.rng.IntN(1000))*time.Millisecond, nil)
		took, candidates := w.outage(p)
		if most := (DefaultGrace+1+1+firstTurn)*(DefaultTick+3*time.Millisecond) + 20*time.Millisecond; took > most {
			w.fail("another leads after %v, want at most %v", took, most)
		}
		if candidates != 1 {
			w.fail("%d candidates stood", candidates)
		}
		all = append(all, took)
	})
	slices.Sort(all)
	t.Logf("another leads after %v, at the most %v", all[len(all)/2], all[len(all)-1])
}

// TestElectionsOnABusyMachine: nodes that tick late and messages that lie about elect nobody for nothing, and a leader that is
// lost is replaced soon all the same: votes that were split once are not split again.
func TestElectionsOnABusyMachine(t *testing.T) {
	var all []time.Duration
	rounds := map[int]int{}
	simSeeds(t, 60, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, 3)
		w.late, w.faults = 100*time.Millisecond, faults{slow: 200}
		p := placement.PartitionID(1 + seed%3)
		w.found(p, names(3)...)
		w.waitLeader(p)
		w.clients(4, 1000, p)
		before := w.stands()
		w.run(10*time.Second, nil)
		if n := w.stands() - before; n > 0 {
			w.fail("%d elections for nothing", n)
		}
		took, candidates := w.outage(p)
		if took > 2500*time.Millisecond { // messages of an election alone may take a second
			w.fail("another leads after %v", took)
		}
		rounds[candidates]++
		all = append(all, took)
	})
	slices.Sort(all)
	t.Logf("another leads after %v, at the most %v; candidates: %v", all[len(all)/2], all[len(all)-1], rounds)
}

// TestSplitVotesAreNotSplitAgain: two who stand at the same moment, and ask for votes before either hears of the other, elect
// nobody. The next round elects one of them.
func TestSplitVotesAreNotSplitAgain(t *testing.T) {
	split := 0
	simSeeds(t, 20, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, 3)
		p := placement.PartitionID(1 + seed%3)
		w.found(p, names(3)...)
		leader := w.waitLeader(p)
		w.run(time.Second, nil)
		w.crash(w.node(leader.c.cfg.Node))
		var left []*Group
		for _, n := range w.nodes {
			if n.up {
				left = append(left, n.cluster.Group(p))
			}
		}
		w.run(5*time.Second, func() bool { return left[0].leader.Load() == 0 && left[1].leader.Load() == 0 })
		for _, g := range left {
			g.inside(func() { g.members.stand(g) })
		}
		terms, at := left[0].term, w.now
		w.waitLeader(p)
		switch by := left[0].term - terms; by {
		case 1:
		case 2:
			split++
		default:
			w.fail("it took %d terms, want two at the most: of a split vote and of the next", by)
		}
		if took := w.now - at; took > 600*time.Millisecond {
			w.fail("another leads %v after the votes were split", took)
		}
	})
	if split == 0 {
		t.Error("no votes were split")
	}
}

// TestNobodyHandsOverToTheDead: where a leader was lost, the one after it is asked to hand over to it, since it is still taken for
// alive. It goes on serving.
func TestNobodyHandsOverToTheDead(t *testing.T) {
	w := newWorld(t, 3, 3)
	w.found(1, names(3)...)
	lost := w.waitLeader(1)
	w.run(time.Second, nil)
	w.crash(w.node(lost.c.cfg.Node))
	g := w.waitLeader(1)
	g.Transfer(lost.self)
	at := w.now
	w.mustDo(g, "SET k v")
	if took := w.now - at; took > 100*time.Millisecond {
		t.Errorf("a write takes %v, for the leader waits for a replica that is gone", took)
	}
	w.asleep()
	for _, n := range w.nodes { // one that is there takes over, also out of its sleep
		if other := n.cluster.Group(1); n.up && other != g {
			g.Transfer(other.self)
			w.run(5*time.Second, func() bool { return w.leader(1) == other })
			if w.leader(1) != other {
				t.Error("a replica that is there does not take over")
			}
		}
	}
}
