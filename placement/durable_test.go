package placement

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/fault"
)

func TestADurableReplicaPassesFromProcessToProcess(t *testing.T) {
	node := func(name string, number uint8, life string) *Node {
		return &Node{Name: name, Number: number, Incarnation: life}
	}
	p := Partition{ID: 7, Durable: true}
	if p.Settle(node("n1", 1, "a"), nil) || len(p.Replicas) > 0 {
		t.Fatalf("a process founds it: %+v", p)
	}
	p.Found(node("n1", 1, "a"), node("n2", 2, "b"), node("n3", 3, "c"))
	p.Leaving = []Replica{p.issue(node("n4", 4, "d"))}
	first := p.Replicas[0].ID
	keeps := func(id PartitionID, generation uint32, replica uint64) bool {
		return id == 7 && generation == 1 && replica != 2<<8|2
	}
	if !p.Settle(node("n1", 1, "e"), keeps) || p.Replicas[0] != (Replica{ID: first, Node: "n1", Life: "e"}) {
		t.Errorf("with its disk it is %+v", p.Replicas[0])
	}
	if p.Settle(node("n1", 1, "e"), keeps) {
		t.Error("it changes although all is as it should be")
	}
	leaving := p.Leaving[0].ID
	if !p.Settle(node("n4", 4, "f"), keeps) || p.Leaving[0] != (Replica{ID: leaving, Node: "n4", Life: "f"}) {
		t.Errorf("one that leaves, and may be needed for a quorum, is %+v", p.Leaving[0])
	}
	before := p.Replicas[1].ID
	if !p.Settle(node("n2", 2, "g"), keeps) || p.Replicas[1].ID == before || p.Replicas[1].Life != "g" || p.Generation != 1 {
		t.Errorf("without its disk it is %+v", p.Replicas[1])
	}
	alone := Partition{ID: 8, Durable: true}
	alone.Found(node("n1", 1, "a"))
	if alone.Settle(node("n1", 1, "b"), nil) || alone.Generation != 1 {
		t.Errorf("the only one lost its disk, and its data is given up: %+v", alone)
	}
}

// TestADurablePartitionIsNeverGivenUp: it is founded on as many disks as are wanted, and stays what it is when all of them are away.
func TestADurablePartitionIsNeverGivenUp(t *testing.T) {
	c := &simCluster{t: t, dice: rand.New(rand.NewPCG(1, 1))}
	c.picture = picture{want: 3, grace: gracePeriod, statuses: map[PartitionID]Status{}}
	for _, name := range []string{"n1", "n2", "n3"} {
		c.join(name, "zone of "+name)
	}
	p := &Partition{Durable: true}
	c.picture.partitions = []*Partition{p}
	if steps := c.settle(); steps == 0 || len(p.Founders) != 3 || p.Generation != 1 {
		t.Fatalf("after %d steps it is founded as %+v", steps, p)
	}
	for i := range c.picture.members {
		c.leave(i, 2*gracePeriod)
	}
	c.settle()
	for i, m := range c.picture.members {
		c.starts++
		node := &Node{Name: m.Name, Zone: m.Zone, Number: uint8(i + 1), Incarnation: "again " + m.Name}
		c.picture.members[i].node, c.picture.members[i].gone = node, 0
		p.Settle(node, func(PartitionID, uint32, uint64) bool { return true })
		c.settle()
	}
	if p.Generation != 1 || len(p.Replicas) != 3 {
		t.Errorf("afterwards it is %+v", p)
	}
	for i, r := range p.Replicas {
		if r.ID != p.Founders[i] {
			t.Errorf("replica %x is in the place of %x", r.ID, p.Founders[i])
		}
	}
}

func TestDurablePartitionsComeWhenTheyAreWanted(t *testing.T) {
	p := join(t, follow(t, etcd(t), t.TempDir()), "one", true)
	none := func(PartitionID) int64 { return 0 }
	if _, err := p.Choose(Durable, none); !fault.Is(err, fault.Unavailable) {
		t.Errorf("nobody wanted one yet: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := p.Want(short, Durable); !fault.Is(err, fault.Unavailable) {
		t.Errorf("without a controller: %v", err)
	}
	if err := p.control(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if err := p.Want(t.Context(), Durable); err != nil {
		t.Fatal(err)
	}
	at, err := p.Choose(Durable, none)
	part, _ := p.Partition(at)
	if err != nil || !part.Durable || int(at) < p.Cluster.Partitions {
		t.Errorf("chose %d, %v", at, err)
	}
	if at, err := p.Choose(Memory, none); err != nil || int(at) >= p.Cluster.Partitions {
		t.Errorf("for a memory cache it chose %d, %v", at, err)
	}
	// Nobody else has the data: the replica stays who it is.
	if err := p.Renew(t.Context(), at, part.Replicas[0].ID); !fault.Is(err, fault.Unavailable) {
		t.Errorf("the only replica is given up: %v", err)
	}
}
