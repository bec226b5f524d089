package placement

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/larder-cache/larder/internal/fault"
)

// Three nodes over a real etcd: one of them is elected, places three replicas of each partition, takes those of a drained
// node elsewhere, and tells of it.
func TestTheControllerPlaces(t *testing.T) {
	client := etcd(t)
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	maps := map[string]*Map{}
	start := func(name, zone string) {
		m := follow(t, client, t.TempDir())
		p, err := Open(t.Context(), m, Config{Self: Node{Name: name, Zone: zone}, Partitions: 4, Hosts: true}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		maps[name] = p
		t.Cleanup(func() { p.Close(context.Background()) })
		work.Go(func() { p.Control(ctx, client, DefaultReplicas) })
		work.Go(func() { lead(ctx, p) })
	}
	t.Cleanup(work.Wait)
	t.Cleanup(cancel)
	start("n1", "a")
	start("n2", "b")
	start("n3", "c")
	p := maps["n1"]
	until(t, "three replicas of each", func() bool {
		for _, part := range p.Partitions() {
			if s, _ := p.Status(part.ID); len(part.Replicas) != 3 || len(s.Members) != 3 {
				return false
			}
		}
		return true
	})
	part := p.Partitions()[0]
	if n := p.Voting(part); n != 3 {
		t.Errorf("%d replicas vote", n)
	}
	fewer := *part
	fewer.Replicas = part.Replicas[:1]
	if more, less := p.Copies(part), p.Copies(&fewer); more != 1 || less != 0 {
		t.Errorf("what is acknowledged is on %d other nodes, and %d where one replica is to be left; want 1 and 0", more, less)
	}
	if !p.Spares(part) {
		t.Error("a node cannot go although two others have everything")
	}
	restarted := *part
	restarted.Replicas = slices.Clone(part.Replicas)
	for i := range restarted.Replicas {
		if r := &restarted.Replicas[i]; r.Node == "n2" {
			r.ID, r.Life = r.ID+256, "another" // it has restarted, and its group has not taken it in
		}
	}
	if p.Spares(&restarted) {
		t.Error("a node can go although only one other has everything")
	}
	if alone := (&Partition{ID: 99, Replicas: []Replica{{ID: 1, Node: "n1"}}, Founders: []uint64{1}}); !p.Spares(alone) {
		t.Error("a node waits for others that are not wanted")
	}
	controllers := 0
	for _, m := range maps {
		if m.Controls() {
			controllers++
		}
	}
	if controllers != 1 {
		t.Errorf("%d nodes control", controllers)
	}
	if err := p.Move(ctx, 0, "n1", "n9"); !fault.Is(err, fault.NotFound) {
		t.Errorf("to a node that is not there: %v", err)
	}
	if err := p.Move(ctx, 0, "n1", "n2"); !fault.Is(err, fault.Conflict) {
		t.Errorf("to a node that has a replica: %v", err)
	}
	if err := p.Prefer(ctx, 0, "n3"); err != nil {
		t.Error(err)
	}
	if err := p.Prefer(ctx, 99, ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("a leader of no partition: %v", err)
	}
	if err := p.Prefer(ctx, 1, ""); err != nil {
		t.Error(err)
	}
	if err := p.Abandon(ctx, 2, "n1"); !fault.Is(err, fault.Conflict) {
		t.Errorf("data that is there was given up: %v", err)
	}
	start("n4", "c")
	if err := p.Drain(ctx, "n3", true); err != nil {
		t.Fatal(err)
	}
	until(t, "an empty node", func() bool {
		for _, part := range p.Partitions() {
			if s, _ := p.Status(part.ID); part.On("n3") != nil || len(part.Replicas) != 3 || len(s.Members) != 3 {
				return false
			}
		}
		return true
	})
	if err := p.Forget(ctx, "n3"); !fault.Is(err, fault.Conflict) {
		t.Errorf("a node that is there was forgotten: %v", err)
	}
	if n := len(p.Events()); n < 4+8+4 { // nodes that join, replicas that are added, replicas that move
		t.Errorf("there are %d events", n)
	}
	for i, e := range p.Events()[1:] {
		if e.At.After(p.Events()[i].At) {
			t.Error("the events are not in order")
		}
	}
}

// The log keeps the newest events and no more than it may.
func TestTheLogIsBounded(t *testing.T) {
	p := join(t, follow(t, etcd(t), t.TempDir()), "n1", true)
	for i := range maxEvents + 2*trimEvents {
		if err := p.Record(t.Context(), nil, "n1", fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
	}
	all := p.Events()
	if len(all) > maxEvents+trimEvents || len(all) < maxEvents || all[0].What != fmt.Sprint(maxEvents+2*trimEvents-1) {
		t.Errorf("%d events, the newest is %+v", len(all), all[0])
	}
}

// lead says what the leaders on a node would say whose groups follow at once.
func lead(ctx context.Context, p *Map) {
	for ctx.Err() == nil {
		for _, part := range p.Partitions() {
			if len(part.Replicas) > 0 && part.Replicas[0].Node == p.self.Name {
				s := Status{Partition: part.ID, Generation: part.Generation, Leader: p.self.Name}
				for _, r := range part.Replicas {
					s.Members = append(s.Members, r.ID)
				}
				_ = p.Report(ctx, s) // ctx may end
			}
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("this does not happen: %s", what)
		}
	}
}

// A controller that is killed and comes back is elected at once, and so is another when it stood behind processes that have been
// killed: nobody waits for their leases.
func TestAKilledControllerIsNotWaitedFor(t *testing.T) {
	client := etcd(t)
	for _, name := range []string{"n1", "n2"} { // their former processes, the controller first, whose leases go on
		lease, err := client.Grant(t.Context(), 3600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Put(t.Context(), fmt.Sprintf("%s/%x", electionKey, lease.ID), name, clientv3.WithLease(lease.ID)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var maps []*Map
	for _, name := range []string{"n1", "n2"} {
		m := follow(t, client, t.TempDir())
		p, err := Open(t.Context(), m, Config{Self: Node{Name: name, Zone: name}, Partitions: 1, Hosts: true}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		maps = append(maps, p)
		t.Cleanup(func() { p.Close(context.Background()) })
		work.Go(func() { p.Control(ctx, client, DefaultReplicas) })
	}
	t.Cleanup(work.Wait)
	t.Cleanup(cancel)
	until(t, "one of them controls", func() bool { return maps[0].Controls() || maps[1].Controls() })
}
