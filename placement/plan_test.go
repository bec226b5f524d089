package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A simCluster is a cluster in which the replicas that are wanted come to vote after a while.
type simCluster struct {
	t       *testing.T
	dice    *rand.Rand
	picture picture
	starts  int
	now     time.Time
	missed  missing
}

// look is what the controller does before it plans.
func (c *simCluster) look() (waits bool) {
	c.now = c.now.Add(lostTime)
	c.picture.lostFor = c.missed.since(&c.picture, c.now)
	for _, d := range c.picture.lostFor {
		waits = waits || d < lostTime
	}
	return waits
}

func (c *simCluster) join(name, zone string) {
	c.starts++
	node := &Node{Name: name, Zone: zone, Number: uint8(len(c.picture.members) + 1), Incarnation: fmt.Sprint("life ", c.starts)}
	c.picture.members = append(c.picture.members, Member{Name: name, Zone: zone, node: node})
}

// leave takes a node away, for longer than the grace or not.
func (c *simCluster) leave(i int, gone time.Duration) {
	m := &c.picture.members[i]
	m.node, m.gone = nil, gone
}

// restart gives a node another life, as its process does for itself.
func (c *simCluster) restart(i int) {
	c.starts++
	m := &c.picture.members[i]
	m.node, m.gone = &Node{Name: m.Name, Zone: m.Zone, Number: uint8(i + 1), Incarnation: fmt.Sprint("life ", c.starts)}, 0
	for _, p := range c.picture.partitions {
		if p.On(m.Name) != nil {
			p.Settle(m.node, nil)
		}
	}
}

// alive reports whether a replica of a voter's id is there, wanted or leaving.
func (c *simCluster) alive(p *Partition, id uint64) bool {
	for _, r := range append(slices.Clone(p.Replicas), p.Leaving...) {
		if r.ID != id {
			continue
		}
		for _, m := range c.picture.members {
			if m.Name == r.Node && m.node != nil && m.node.Incarnation == r.Life {
				return true
			}
		}
	}
	return false
}

// catchUp has a group follow its record, as its leader would: only while a quorum of its voters is alive.
func (c *simCluster) catchUp(p *Partition) {
	s := c.picture.statuses[p.ID]
	voters := p.Founders
	if s.Generation == p.Generation {
		voters = s.Members
	}
	alive := 0
	for _, id := range voters {
		if c.alive(p, id) {
			alive++
		}
	}
	if len(voters) == 0 || alive <= len(voters)/2 {
		return
	}
	wanted := []uint64{}
	for _, r := range p.Replicas {
		if !slices.Contains(voters, r.ID) && !c.alive(p, r.ID) {
			return // it cannot catch up
		}
		wanted = append(wanted, r.ID)
	}
	c.picture.statuses[p.ID] = Status{Partition: p.ID, Generation: p.Generation, Members: wanted, Bytes: s.Bytes}
}

// settle lets the controller and the groups work until neither has anything to do, and counts steps.
func (c *simCluster) settle() (steps int) {
	c.t.Helper()
	for round := 0; ; round++ {
		if round > 2000 {
			c.t.Fatalf("after %d rounds and %d steps there is still something to do: %+v", round, steps, plan(&c.picture))
		}
		waits := c.look()
		todo := plan(&c.picture)
		busy := map[PartitionID]bool{}
		for _, s := range todo {
			if busy[s.Partition] {
				c.t.Fatalf("two steps for partition %d (%+v)", s.Partition, todo)
			}
			busy[s.Partition] = true
			part := c.picture.partitions[s.Partition]
			generation, lost := part.Generation, c.lost(part)
			if !s.apply(part) {
				c.t.Fatalf("%+v does nothing to %+v", s, part)
			}
			if part.Generation != generation && !lost {
				c.t.Fatalf("%+v gave up data of %+v", s, part)
			}
			again := *part
			again.Replicas = slices.Clone(part.Replicas)
			if s.Kind != StepPrefer && s.Kind != StepFound && s.apply(&again) {
				c.t.Fatalf("%+v can be done twice", s)
			}
			steps++
			c.unique(part)
		}
		quiet := len(todo) == 0 && !waits
		for _, p := range c.picture.partitions {
			before := c.picture.statuses[p.ID]
			if len(todo) == 0 || c.dice.IntN(3) > 0 {
				c.catchUp(p)
			}
			now := c.picture.statuses[p.ID]
			quiet = quiet && before.Generation == now.Generation && slices.Equal(before.Members, now.Members)
		}
		if quiet {
			return steps
		}
	}
}

// lost reports whether a partition has no data any more, or never had any.
func (c *simCluster) lost(p *Partition) bool {
	voters := p.Founders
	if s := c.picture.statuses[p.ID]; s.Generation == p.Generation {
		voters = s.Members
	}
	for _, id := range voters {
		if c.alive(p, id) {
			return false
		}
	}
	return true
}

// unique checks R1.
func (c *simCluster) unique(p *Partition) {
	c.t.Helper()
	ids, nodes := map[uint64]bool{}, map[string]bool{}
	for _, r := range p.Replicas {
		if ids[r.ID] || nodes[r.Node] || r.ID>>8 > p.Issued || r.ID>>8 == 0 {
			c.t.Fatalf("R1: %+v", p)
		}
		ids[r.ID], nodes[r.Node] = true, true
	}
}

// check holds what plan has left against what is wanted.
func (c *simCluster) check() {
	c.t.Helper()
	usable, zones := 0, map[string]int{}
	for i := range c.picture.members {
		if m := &c.picture.members[i]; m.usable() {
			usable++
			zones[m.Zone]++
		}
	}
	if usable == 0 {
		return
	}
	want := min(c.picture.want, usable)
	if want%2 == 0 {
		want--
	}
	replicas, stuck := map[string]int{}, false
	for _, p := range c.picture.partitions {
		if c.lost(p) {
			c.t.Fatalf("partition %d has no data and stays so: %+v", p.ID, p)
		}
		b := newBoard(&c.picture)
		if !b.settled(p) {
			stuck = true
			continue // its quorum is lost, which is an operator's business
		}
		if len(p.Replicas) < want || len(p.Replicas) > c.picture.want {
			c.t.Fatalf("partition %d has %d replicas, want %d: %+v", p.ID, len(p.Replicas), want, p)
		}
		in := map[string]int{}
		for _, r := range p.Replicas {
			m := b.byName[r.Node]
			if !m.usable() && usable > len(p.Replicas) {
				c.t.Fatalf("partition %d stays on %s: %+v", p.ID, r.Node, m)
			}
			in[m.Zone]++
			replicas[r.Node]++
		}
		if len(in) < min(len(zones), len(p.Replicas)) && usable > len(p.Replicas) {
			c.t.Fatalf("partition %d is in %d zones of %d: %+v", p.ID, len(in), len(zones), p)
		}
	}
	if stuck {
		return
	}
	// Nodes of one zone are alike to every partition, so they have about as many replicas each.
	for _, x := range c.picture.members {
		for _, y := range c.picture.members {
			if x.usable() && y.usable() && x.Zone == y.Zone && replicas[x.Name] > replicas[y.Name]+1 {
				c.t.Fatalf("%s has %d replicas and %s has %d", x.Name, replicas[x.Name], y.Name, replicas[y.Name])
			}
		}
	}
}

// Whatever the cluster and whatever becomes of its nodes: the controller comes to rest, and then every partition has its
// replicas where they should be, and no data was given up that somebody still had.
func TestTheControllerComesToRest(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			dice := rand.New(rand.NewPCG(seed, 1))
			c := &simCluster{t: t, dice: dice, picture: picture{want: []int{1, 3, 3, 3, 5}[dice.IntN(5)], grace: time.Minute, statuses: map[PartitionID]Status{}}}
			zones := 1 + dice.IntN(4)
			for i := range 1 + dice.IntN(7) {
				c.join(fmt.Sprint("n", i), fmt.Sprint("z", i%zones))
			}
			for id := range PartitionID(1 + dice.IntN(24)) {
				p := &Partition{ID: id}
				if dice.IntN(2) == 0 {
					p.Settle(c.picture.members[0].node, nil)
				}
				c.picture.partitions = append(c.picture.partitions, p)
			}
			c.settle()
			c.check()
			for range 6 {
				i := dice.IntN(len(c.picture.members))
				switch dice.IntN(6) {
				case 0:
					c.leave(i, 2*time.Minute)
				case 1:
					c.leave(i, time.Second)
				case 2:
					c.restart(i)
				case 3:
					c.picture.members[i].Draining = !c.picture.members[i].Draining
				case 4:
					c.join(fmt.Sprint("n", len(c.picture.members)), fmt.Sprint("z", dice.IntN(4)))
				case 5:
					for i := range c.picture.members {
						if c.picture.members[i].node != nil {
							c.restart(i)
						}
					}
				}
				c.settle()
			}
			for i := range c.picture.members {
				if m := &c.picture.members[i]; m.node == nil {
					c.restart(i)
				}
				c.picture.members[i].Draining = false
			}
			c.settle()
			c.check()
			if steps := c.settle(); steps > 0 {
				t.Fatalf("at rest it took %d more steps", steps)
			}
		})
	}
}

// TestDataIsNotGivenUpAtFirstSight: the last report of who votes may be older than who votes now.
func TestDataIsNotGivenUpAtFirstSight(t *testing.T) {
	c := &simCluster{t: t, dice: rand.New(rand.NewPCG(1, 1)), picture: picture{want: 3, grace: time.Minute, statuses: map[PartitionID]Status{}}}
	p := &Partition{}
	c.picture.partitions = append(c.picture.partitions, p)
	for i := range 3 {
		c.join(fmt.Sprint("n", i), fmt.Sprint("z", i))
	}
	c.settle()
	for i := range 3 { // one after another, and their group takes each of them in, but nobody has said so
		c.restart(i)
	}
	generation := p.Generation
	if c.look(); len(plan(&c.picture)) > 0 {
		t.Errorf("it plans %+v", plan(&c.picture))
	}
	c.picture.statuses[0] = Status{Generation: generation, Members: []uint64{p.Replicas[0].ID, p.Replicas[1].ID, p.Replicas[2].ID}}
	c.settle()
	if p.Generation != generation {
		t.Error("its data was given up")
	}
	for i := range 3 {
		c.restart(i)
	}
	c.settle()
	if p.Generation != generation+1 {
		t.Errorf("without data it is of generation %d, before %d", p.Generation, generation)
	}
}

// TestAReplicaIsDismissed once its leader has said that it does not vote any more, and not before.
func TestAReplicaIsDismissed(t *testing.T) {
	p := join(t, follow(t, etcd(t), t.TempDir()), "one", true)
	part, _ := p.Partition(0)
	old := part.Replicas[0].ID
	if p.Dismissed(0, part.Generation, old) {
		t.Error("who is wanted is dismissed")
	}
	if _, err := p.partitions.Update(t.Context(), PartitionID(0).name(), func(now *Partition) error {
		now.Leaving, now.Replicas = now.Replicas, []Replica{now.issue(&Node{Name: "two", Number: 2})}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	until(t, "it is leaving", func() bool { part, _ = p.Partition(0); return len(part.Leaving) == 1 })
	if p.Dismissed(0, part.Generation, old) {
		t.Error("who may have the only data is dismissed")
	}
	report := func(voters ...uint64) {
		if err := p.Report(t.Context(), Status{Partition: 0, Generation: part.Generation, Leader: "two", Members: voters}); err != nil {
			t.Fatal(err)
		}
		until(t, "it is known", func() bool { s, _ := p.Status(0); return slices.Equal(s.Members, voters) })
	}
	report(old, part.Replicas[0].ID)
	if p.Dismissed(0, part.Generation, old) {
		t.Error("who votes is dismissed")
	}
	report(part.Replicas[0].ID)
	if !p.Dismissed(0, part.Generation, old) || p.Dismissed(0, part.Generation, part.Replicas[0].ID) || p.Dismissed(0, part.Generation+1, old) {
		t.Error("who votes no more stays")
	}
}

func TestThreeZonesOfTwo(t *testing.T) {
	c := &simCluster{t: t, dice: rand.New(rand.NewPCG(1, 1)), picture: picture{want: 3, grace: time.Minute, statuses: map[PartitionID]Status{}}}
	for i := range 6 {
		c.join(fmt.Sprint("n", i), fmt.Sprint("z", i/2))
	}
	for id := range PartitionID(16) {
		p := &Partition{ID: id}
		p.Settle(c.picture.members[0].node, nil) // the first node took all of them
		c.picture.partitions = append(c.picture.partitions, p)
		c.picture.statuses[id] = Status{Partition: id, Generation: 1, Members: p.Founders, Bytes: 1 << 20}
	}
	c.settle()
	c.check()
	leaders, replicas := map[string]int{}, map[string]int{}
	for _, p := range c.picture.partitions {
		leaders[p.Replicas[0].Node]++
		for _, r := range p.Replicas {
			replicas[r.Node]++
		}
	}
	for i := range 6 {
		name := fmt.Sprint("n", i)
		if leaders[name] < 2 || leaders[name] > 4 || replicas[name] != 8 {
			t.Errorf("%s leads %d and has %d replicas", name, leaders[name], replicas[name])
		}
	}
}
