package replication

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// A registry is what etcd and the controller are to an async partition: the one record, which nodes see a moment later, the leases of the
// nodes, which outlast their processes, and what the leader has said of who votes.
type registry struct {
	w        *world
	part     *placement.Partition
	revision int
	lives    map[string]string
	voters   []uint64
	of       uint32 // the generation of voters
}

func newAsyncWorld(t testing.TB, seed uint64, wide bool) *world {
	w := newDurableWorld(t, seed, 3, wide)
	r := &registry{w: w, part: &placement.Partition{ID: 1, Durable: true, Async: true, Seed: [2]uint64{1, 2}}, lives: map[string]string{}}
	w.async = r
	var founders []*placement.Node
	for _, n := range w.nodes {
		r.lives[n.name] = n.life()
		founders = append(founders, n.node())
	}
	r.change(func(p *placement.Partition) bool { p.Found(founders...); return true })
	for _, n := range w.nodes {
		r.attend(n, n.cluster)
	}
	r.control()
	return w
}

func (n *simNode) life() string { return fmt.Sprint(n.boots) }

func (n *simNode) node() *placement.Node {
	return &placement.Node{Name: n.name, Number: uint8(n.number), Incarnation: n.life()}
}

// change is a compare-and-swap of the record.
func (r *registry) change(do func(*placement.Partition) bool) {
	next := &placement.Partition{}
	text, err := json.Marshal(r.part)
	if err == nil {
		err = json.Unmarshal(text, next)
	}
	if err != nil {
		r.w.fail("%v", err)
	}
	if !do(next) {
		return
	}
	r.part = next
	r.revision++
	revision := r.revision
	for _, n := range r.w.nodes {
		c := n.cluster
		r.w.after(time.Duration(r.w.rng.IntN(60))*time.Millisecond, func() {
			if n.up && n.cluster == c && revision == r.revision { // else it sees a later one
				r.see(n)
			}
		})
	}
}

// see has a node take the record.
func (r *registry) see(n *simNode) {
	n.record = r.part
	if err := n.cluster.Place(1, engine.Seed(r.part.Seed), wantedBy(r.part)); err != nil {
		r.w.fail("%v", err)
	}
	if g := n.cluster.Group(1); g != nil {
		g.Configure(testCache, &engine.Settings{MemoryLimit: 1 << 20})
	}
}

func (r *registry) known() []uint64 {
	if r.of == r.part.Generation {
		return r.voters
	}
	return r.part.Founders
}

func (r *registry) there(node, life string) bool { return r.lives[node] == life }

// attend is what a node does now and then.
func (r *registry) attend(n *simNode, c *Cluster) {
	r.w.after(time.Duration(100+r.w.rng.IntN(200))*time.Millisecond, func() {
		if !n.up || n.cluster != c {
			return
		}
		defer r.attend(n, c)
		part := n.record
		if part == nil {
			return
		}
		over := part.Over(r.known(), func(m placement.Replica) bool { return r.lives[m.Node] != "" && r.lives[m.Node] != m.Life })
		voting := 0
		for _, m := range part.Replicas {
			if m.Trail == nil && r.there(m.Node, m.Life) && slices.Contains(r.known(), m.ID) {
				voting++
			}
		}
		replica, trail := c.Attend(part, over, 2*voting > len(r.known()))
		switch {
		case trail != nil:
			trail.Life = n.life()
			r.change(func(p *placement.Partition) bool {
				return p.Generation == part.Generation && p.Offer(n.name, replica, *trail)
			})
		case replica != 0 && 2*voting > len(r.known()):
			r.change(func(p *placement.Partition) bool {
				if own := p.On(n.name); own == nil || own.ID != replica || p.Generation != part.Generation {
					return false
				}
				p.Renew(n.node())
				return true
			})
		}
		if g := c.Group(1); g != nil && g.Leads() && g.id.generation == r.part.Generation {
			r.voters, r.of = slices.Clone(g.conf.GetVoters()), g.id.generation
			for _, m := range r.part.Replicas {
				if m.Trail != nil {
					r.change(func(p *placement.Partition) bool { return p.Readmit(m.ID, r.node) })
				}
			}
		}
		for _, k := range n.vault.Idle(c) { // placement.Map.Dismissed
			settled := len(r.known()) == len(r.part.Replicas) && r.of == r.part.Generation
			for _, m := range r.part.Replicas {
				settled = settled && m.ID != k.Replica && slices.Contains(r.known(), m.ID)
			}
			if settled {
				if err := c.Forget(k); err != nil {
					r.w.fail("%v", err)
				}
			}
		}
	})
}

func (r *registry) node(name string) *placement.Node {
	if n := r.w.node(name); r.lives[name] == n.life() {
		return n.node()
	}
	return nil
}

// control is what the controller does.
func (r *registry) control() {
	r.w.after(time.Duration(300+r.w.rng.IntN(700))*time.Millisecond, func() {
		defer r.control()
		r.change(func(p *placement.Partition) bool {
			heir := p.Heir(r.known(), r.there)
			if heir == nil {
				return r.add(p)
			}
			for _, n := range r.w.nodes { // T1
				if g := n.cluster.Group(1); n.up && g != nil && p.On(n.name) != nil && p.On(n.name).Trail != nil && p.On(n.name).Trail.Life == n.life() && g.id.generation == p.Generation {
					r.w.fail("T1: %s offers a trail, and has a replica", n.name)
				}
			}
			p.Recover(heir, r.node)
			return true
		})
	})
}

// add gives a partition that has lost replicas another, once those that it has vote.
func (r *registry) add(p *placement.Partition) bool {
	if len(p.Replicas) == 3 || p.Waits() || r.of != p.Generation || len(r.voters) != len(p.Replicas) {
		return false
	}
	for _, n := range r.w.nodes {
		if n.up && r.there(n.name, n.life()) && p.On(n.name) == nil {
			p.Issued++
			p.Replicas = append(p.Replicas, placement.Replica{ID: p.Issued<<8 | n.number, Node: n.name, Life: n.life()})
			return true
		}
	}
	return false
}

// crash ends a process; its lease ends later, or when another takes its place.
func (r *registry) crash(n *simNode) {
	r.w.crash(n)
	life := n.life()
	r.w.after(time.Duration(r.w.rng.IntN(10))*time.Second, func() {
		if !n.up && r.lives[n.name] == life {
			delete(r.lives, n.name)
		}
	})
}

func (r *registry) restart(n *simNode) {
	n.start()
	n.record = nil
	r.lives[n.name] = n.life()
	kept := map[vaultFile]bool{}
	for name := range n.disk.shelf {
		if f, kind, ok := parseVaultFile(name); ok && kind != stateOf {
			kept[f] = true
		}
	}
	r.change(func(p *placement.Partition) bool {
		return p.Settle(n.node(), func(id placement.PartitionID, generation uint32, self uint64) bool {
			return kept[vaultFile{partition: id, generation: generation, self: self}]
		})
	})
	r.w.after(time.Duration(r.w.rng.IntN(60))*time.Millisecond, func() {
		if n.up {
			r.see(n)
		}
	})
	r.attend(n, n.cluster)
}

// A ledgered write is one that was acknowledged.
type ackedWrite struct {
	at         time.Duration
	generation uint32
	writer, n  int
}

// A pen appends numbers to two lists at once, one after another.
type pen struct {
	w     *world
	id, n int
	acks  *[]ackedWrite
	busy  *int // refused because the disks are behind
	stops *bool
	node  *simNode
}

func (p *pen) write() {
	w := p.w
	if *p.stops {
		return
	}
	p.n++
	n, over := p.n, false
	again := func(d time.Duration) {
		if !over {
			over = true
			w.after(d, p.write)
		}
	}
	if p.node == nil || !p.node.up || w.rng.IntN(8) == 0 {
		p.node = w.nodes[w.rng.IntN(len(w.nodes))]
	}
	on := p.node.cluster
	if !p.node.up || on.Group(1) == nil {
		p.node = nil
		again(20 * time.Millisecond)
		return
	}
	w.after(time.Second, func() { again(0) })
	t := task(testCache, fmt.Sprintf("RPUSH l%d %d", p.id, n), fmt.Sprintf("RPUSH m%d %d", p.id, n))
	var reply engine.Recording
	t.Reply, t.Atomic = &reply, true
	g := on.Group(1)
	begin(g, t, func(err error) {
		switch {
		case err == nil && p.node != nil && p.node.up && p.node.cluster == on && !strings.Contains(words(&reply), "error"):
			*p.acks = append(*p.acks, ackedWrite{w.now, g.id.generation, p.id, n})
			again(time.Duration(w.rng.IntN(60)) * time.Millisecond)
		case err != nil:
			if fault.From(err) == errBehind {
				*p.busy++
			}
			if hint, ok := leaderHint(err); ok {
				p.node = w.node(hint)
			}
			again(time.Duration(1+w.rng.IntN(20)) * time.Millisecond)
		default:
			again(10 * time.Millisecond)
		}
	})
}

// TestSimulatedAsyncDisasters: an async partition loses nothing while a majority lives; when it does not, what is lost was acknowledged
// within a second; no transaction is there in part, and in the end all replicas are equal.
func TestSimulatedAsyncDisasters(t *testing.T) {
	recovered, lostWrites, refused, all := 0, 0, 0, 0
	simSeeds(t, 8, func(t *testing.T, seed uint64) {
		w := newAsyncWorld(t, seed, seed%2 == 0)
		r := w.async
		w.waitLeader(1)
		var acks []ackedWrite
		stops := false
		for id := range 4 {
			(&pen{w: w, id: id, acks: &acks, busy: &refused, stops: &stops}).write()
		}
		whole := func() bool {
			g := w.leader(1)
			return g != nil && g.id.generation == r.part.Generation && len(r.part.Replicas) == 3 && !r.part.Waits() && len(g.conf.GetVoters()) == 3 && g.complete()
		}
		for range 6 {
			generation := r.part.Generation
			w.run(time.Duration(300+w.rng.IntN(2000))*time.Millisecond, nil)
			some := []*simNode{w.nodes[w.rng.IntN(3)]}
			if g := w.leader(1); g != nil && w.rng.IntN(2) == 0 {
				some = []*simNode{w.node(g.c.cfg.Node)}
			}
			switch w.rng.IntN(7) {
			case 0:
				w.isolate(some[0], true, true)
				some = nil
			case 1:
				w.faults = faults{drop: w.rng.IntN(200), repeat: w.rng.IntN(200), slow: w.rng.IntN(200)}
			case 2, 3:
				some = w.nodes
			case 4:
				some = append(some, w.nodes[w.rng.IntN(3)])
			case 5: // disks that stand still before
				for _, n := range w.nodes {
					n.stalled = w.now + time.Duration(w.rng.IntN(5000))*time.Millisecond
				}
				w.run(time.Duration(w.rng.IntN(4000))*time.Millisecond, nil)
				some = w.nodes
			}
			for _, n := range some {
				if n.up {
					r.crash(n)
				}
			}
			for _, n := range some {
				w.after(time.Duration(w.rng.IntN(3)*w.rng.IntN(1500))*time.Millisecond, func() {
					if !n.up {
						r.restart(n)
					}
				})
			}
			w.run(time.Duration(500+w.rng.IntN(2500))*time.Millisecond, nil)
			w.heal()
			w.run(time.Minute, whole)
			if !whole() {
				w.fail("it does not become whole again: %+v", r.part)
			}
			if r.part.Generation != generation {
				recovered++
			}
			lostWrites += w.checkLoss(&acks)
		}
		stops = true
		w.run(3*time.Second, nil)
		w.checkReplicas(1)
		all += len(acks)
	})
	t.Logf("%d recoveries, %d writes lost and %d kept, %d refused because disks were behind", recovered, lostWrites, all, refused)
	if recovered == 0 || lostWrites == 0 || refused == 0 {
		t.Error("the test does not try what it should")
	}
}

// checkLoss compares what is there with what was acknowledged, takes out of that what is lost, and returns how much that is.
func (w *world) checkLoss(acks *[]ackedWrite) (lost int) {
	w.t.Helper()
	before := slices.Clone(*acks)
	generation := w.async.part.Generation
	say := func(commands ...string) string { // whoever leads may have to make sure that it still does
		for range 100 {
			reply, err := w.ask(w.waitLeader(1), task(testCache, commands...))
			if err == nil {
				return words(reply)
			}
			w.run(50*time.Millisecond, nil)
		}
		w.fail("nobody answers %q", commands)
		return ""
	}
	there := map[[2]int]bool{}
	for id := range 4 {
		left := say(fmt.Sprintf("LRANGE l%d 0 -1", id))
		for _, n := range strings.Fields(left) {
			v, err := strconv.Atoi(n)
			if err != nil {
				w.fail("a list has %q", n)
			}
			there[[2]int{id, v}] = true
		}
	}
	for id := range 4 {
		reply := strings.Fields(say(fmt.Sprintf("LLEN l%d", id), fmt.Sprintf("LLEN m%d", id)))
		if reply[0] != reply[1] {
			w.fail("a transaction is there in part: %v", reply)
		}
	}
	ends, first := map[uint32]time.Duration{}, map[uint32]time.Duration{}
	gone := func(a ackedWrite) bool { return !there[[2]int{a.writer, a.n}] }
	for _, a := range before {
		ends[a.generation] = max(ends[a.generation], a.at)
		if gone(a) {
			if lost++; first[a.generation] == 0 {
				first[a.generation] = a.at
			}
		}
	}
	for of, at := range first {
		if of == generation {
			w.fail("generation %d lives, and has lost what it acknowledged at %v", of, at)
		}
		if span := ends[of] - at; span > maxAge+3*DefaultTick {
			w.fail("generation %d has lost writes of %v", of, span)
		}
	}
	*acks = slices.DeleteFunc(*acks, func(a ackedWrite) bool { return slices.Contains(before, a) && gone(a) })
	return lost
}
