package replication

import (
	"math/rand/v2"
	"testing"
	"time"
)

// newDurableWorld is newWorld with disks.
func newDurableWorld(t testing.TB, seed uint64, nodes int) *world {
	w := newWorld(t, seed, nodes)
	w.durable = true
	for _, n := range w.nodes {
		n.up = false
	}
	w.rng = rand.New(rand.NewPCG(seed, 0x2b))
	for _, n := range w.nodes {
		n.start()
	}
	return w
}

// disaster has nodes crash, one or all at once, and come back, while the network is as bad as in trouble.
func (w *world) disaster() (stop func()) {
	stopped := false
	var next func()
	next = func() {
		w.after(time.Duration(50+w.rng.IntN(700))*time.Millisecond, func() {
			if stopped {
				return
			}
			some := []*simNode{w.nodes[w.rng.IntN(len(w.nodes))]}
			if g := w.leader(1); g != nil && w.rng.IntN(2) == 0 {
				some = []*simNode{w.node(g.c.cfg.Node)}
			}
			switch w.rng.IntN(6) {
			case 0:
				w.isolate(some[0], true, true)
				some = nil
			case 1:
				w.faults = faults{drop: w.rng.IntN(200), repeat: w.rng.IntN(200), slow: w.rng.IntN(200)}
			case 2, 3:
				some = w.nodes
			case 4:
				some = append(some, w.nodes[w.rng.IntN(len(w.nodes))])
			}
			for _, n := range some {
				if n.up {
					w.crash(n)
				}
			}
			for _, n := range some { // each after a time of its own, some at once
				w.after(time.Duration(w.rng.IntN(3)*w.rng.IntN(1500))*time.Millisecond, func() {
					if !n.up {
						w.restart(n)
					}
				})
			}
			w.after(time.Duration(1000+w.rng.IntN(3000))*time.Millisecond, func() {
				w.heal()
				w.whole(1, next)
			})
		})
	}
	next()
	w.crashes = true
	return func() { stopped, w.crashes = true, false }
}

// TestSimulatedDisasters: whichever nodes crash, all of them at once too, and whatever their disks lose that was not synced: the
// history of what clients saw is linearizable, which it is not when an acknowledged write is lost, and in the end all replicas
// are equal, under the ids that they began with.
func TestSimulatedDisasters(t *testing.T) {
	states, snapshots, disasters := 0, 0, 0
	simSeeds(t, 30, func(t *testing.T, seed uint64) {
		w := newDurableWorld(t, seed, 3)
		w.found(1, "n1", "n2", "n3")
		w.waitLeader(1)
		history, done := w.clients(6, 60, 1)
		stop := w.disaster()
		w.run(10*time.Minute, done)
		stop()
		w.heal()
		for _, n := range w.nodes {
			if !n.up {
				w.restart(n)
			}
		}
		if !done() {
			w.fail("the clients are not done")
		}
		w.run(10*time.Second, nil)
		w.waitLeader(1)
		w.run(2*time.Second, nil)
		w.checkReplicas(1)
		w.checkHistory(*history)
		for i, m := range w.wanted[1].Members {
			if want := w.wanted[1].Founders[i]; m.ID != want {
				w.fail("replica %x has come in the place of %x", m.ID, want)
			}
		}
		states, snapshots = states+w.states, snapshots+w.snapshots
		for _, n := range w.nodes {
			disasters += int(n.boots) - 2
		}
	})
	t.Logf("%d crashes, %d state files, %d snapshots", disasters, states, snapshots)
	if disasters == 0 || states == 0 {
		t.Error("the test does not try what it should")
	}
}
