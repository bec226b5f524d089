package placement

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// etcd starts a real etcd for one test.
func etcd(t *testing.T) *clientv3.Client {
	t.Helper()
	server, err := etcdembed.Start(t.Context(), etcdembed.Config{Dir: t.TempDir(), UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	client, err := etcdembed.NewClient(server.Endpoints(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// follow opens a mirror whose disk copy lies in dir.
func follow(t *testing.T, client *clientv3.Client, dir string) *mirror.Mirror {
	t.Helper()
	return followWithin(t, client, dir, 5*time.Second)
}

// followWithin is follow for an etcd that is waited for no longer than so.
func followWithin(t *testing.T, client *clientv3.Client, dir string, wait time.Duration) *mirror.Mirror {
	t.Helper()
	m, err := mirror.Open(t.Context(), mirror.Config{Client: client, Prefix: records.Root, Path: filepath.Join(dir, "copy"), OpenTimeout: wait})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

func join(t *testing.T, m *mirror.Mirror, name string, hosts bool) *Map {
	t.Helper()
	p, err := Open(t.Context(), m, Config{Self: Node{Name: name, Zone: "z"}, Partitions: 4, Hosts: hosts}, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

func TestSeveralNodesFoundOneCluster(t *testing.T) {
	client := etcd(t)
	maps := make([]*Map, 5)
	var all sync.WaitGroup
	for i := range maps {
		m := follow(t, client, t.TempDir())
		all.Go(func() {
			var err error
			maps[i], err = Open(t.Context(), m, Config{Self: Node{Name: string(rune('a' + i))}, Partitions: 4, Hosts: true}, slog.Default())
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	hosted := 0
	for _, p := range maps {
		if p == nil {
			t.FailNow()
		}
		defer p.Close(context.Background())
		if p.Cluster.ID != maps[0].Cluster.ID || p.Cluster.Partitions != 4 {
			t.Errorf("cluster %+v beside %+v", p.Cluster, maps[0].Cluster)
		}
		if err := p.m.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		hosted += len(p.Hosted())
		if n := len(p.Partitions()); n != 4 {
			t.Errorf("%d partitions, want 4", n)
		}
		if n := len(p.Nodes()); n != len(maps) {
			t.Errorf("%s sees %d nodes, want %d", p.self.Name, n, len(maps))
		}
	}
	if hosted != 4 {
		t.Errorf("4 partitions are hosted %d times", hosted)
	}
	seeds := map[[2]uint64]bool{}
	for _, part := range maps[0].Partitions() {
		seeds[part.Seed] = true
	}
	if len(seeds) != 4 || seeds[[2]uint64{}] {
		t.Error("partitions share a seed or have none")
	}
}

func TestANodeComesBackToItsPartitions(t *testing.T) {
	client, dir := etcd(t), t.TempDir()
	first := join(t, follow(t, client, dir), "one", true)
	id, seed := first.Cluster.ID, first.Hosted()[0].Seed
	if err := first.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	other := join(t, follow(t, client, t.TempDir()), "two", true)
	if n := len(other.Hosted()); n != 0 {
		t.Errorf("another node took %d partitions that have a replica", n)
	}
	if n := len(other.Nodes()); n != 1 {
		t.Errorf("%d nodes, want the living one", n)
	}
	again := join(t, follow(t, client, dir), "one", true)
	if again.Cluster.ID != id || len(again.Hosted()) != 4 || again.Hosted()[0].Seed != seed {
		t.Errorf("the node came back to %+v", again.Hosted())
	}
	if again.self.Incarnation == first.self.Incarnation {
		t.Error("two starts have the same incarnation")
	}
}

// A node that starts while etcd is down gets its new replicas when etcd is back, and not only the next time that it starts.
func TestANodeThatStartsWithoutEtcdIsKnownLater(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	const addr = "127.0.0.1:0"
	server, err := etcdembed.Start(t.Context(), etcdembed.Config{Dir: data, ListenClient: addr, UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	at := server.Endpoints()[0]
	client, err := etcdembed.NewClient(server.Endpoints(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	m := follow(t, client, dir)
	first := join(t, m, "one", true)
	other := join(t, follow(t, client, t.TempDir()), "two", true)
	if _, err := first.partitions.Update(t.Context(), PartitionID(0).name(), func(p *Partition) error { // one of several replicas
		p.Replicas = append(p.Replicas, p.issue(&other.self))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	until(t, "the disk copy has it", func() bool { p, _ := first.Partition(0); return len(p.Replicas) == 2 })
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	server.Close()
	again := join(t, followWithin(t, client, dir, 50*time.Millisecond), "one", true)
	ctx, cancel := context.WithCancel(t.Context())
	settled := make(chan struct{})
	go func() { defer close(settled); again.Settle(ctx) }()
	defer func() { cancel(); <-settled }()
	if server, err = etcdembed.Start(t.Context(), etcdembed.Config{Dir: data, ListenClient: strings.TrimPrefix(at, "http://"), UnsafeNoFsync: true}); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	until(t, "the others know the process that came back", func() bool {
		for _, p := range other.Partitions() {
			if r := p.On("one"); r == nil || r.Life != again.self.Incarnation {
				return false
			}
		}
		return true
	})
	<-settled
}

func TestPlacesAreKnownWithoutEtcd(t *testing.T) {
	dir := t.TempDir()
	server, err := etcdembed.Start(t.Context(), etcdembed.Config{Dir: t.TempDir(), UnsafeNoFsync: true})
	if err != nil {
		t.Fatal(err)
	}
	client, err := etcdembed.NewClient(server.Endpoints(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	m := follow(t, client, dir)
	p := join(t, m, "one", true)
	server.Close()
	if _, err := p.Choose(Memory, func(PartitionID) int64 { return 0 }); err != nil {
		t.Errorf("with etcd down: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Close(ended); err == nil {
		t.Error("the node's record was taken out of an etcd that is down")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	again := join(t, followWithin(t, client, dir, 50*time.Millisecond), "one", true)
	if again.Cluster.ID != p.Cluster.ID || len(again.Hosted()) != 4 {
		t.Errorf("from the disk copy: %+v with %d partitions", again.Cluster, len(again.Hosted()))
	}
}

func TestChooseTakesTheLeastLoadedThatIsHosted(t *testing.T) {
	client := etcd(t)
	gateway := join(t, follow(t, client, t.TempDir()), "gateway", false)
	if _, err := gateway.Choose(Memory, func(PartitionID) int64 { return 0 }); !fault.Is(err, fault.Unavailable) {
		t.Errorf("with no engine node: %v", err)
	}
	engine := join(t, follow(t, client, t.TempDir()), "engine", true)
	load := map[PartitionID]int64{0: 3, 1: 1, 2: 0, 3: 2}
	got, err := engine.Choose(Memory, func(id PartitionID) int64 { return load[id] })
	if err != nil || got != 2 {
		t.Errorf("chose %d, %v", got, err)
	}
}
