package replication

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/peerlink"
	"github.com/larder-cache/larder/placement"
)

// A realNode is one of several in this process that speak to each other over loopback.
type realNode struct {
	name    string
	links   *peerlink.Links
	cluster *Cluster
	vault   *Vault // of durable nodes
	stop    func()
}

// realNodes starts nodes and founds partitions with a replica on each.
func realNodes(t testing.TB, n, partitions int, cfg Config) []*realNode {
	t.Helper()
	return startNodes(t, n, partitions, cfg, "")
}

// startNodes is realNodes, of durable partitions if there is a folder for what they keep: they come back as what they were in it.
func startNodes(t testing.TB, n, partitions int, cfg Config, dir string) []*realNode {
	t.Helper()
	addresses := map[string]string{}
	listeners := map[string]net.Listener{}
	var names []string
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		names, listeners[name], addresses[name] = append(names, name), l, l.Addr().String()
	}
	var nodes []*realNode
	wanted := Wanted{Generation: 1, Durable: dir != ""}
	for i, name := range names {
		m := Member{ID: 1<<8 | uint64(i+1), Node: name, Life: name}
		wanted.Members, wanted.Founders = append(wanted.Members, m), append(wanted.Founders, m.ID)
	}
	for _, name := range names {
		links := peerlink.New(peerlink.Config{Cluster: "test", Self: name, Incarnation: rand.Text(), Advertise: addresses[name], Address: func(of string) string { return addresses[of] }})
		cfg := cfg
		cfg.Node, cfg.Life, cfg.Kind, cfg.Boot, cfg.Log = name, name, peerlink.KindRaft, 1, slog.New(slog.DiscardHandler)
		if os.Getenv("LARDER_TEST_LOG") != "" {
			cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("node", name)
		}
		if dir != "" {
			v, err := NewVault(VaultConfig{Dir: filepath.Join(dir, name), Keys: simKey, Cluster: "test", Node: name, Log: cfg.Log, LogSize: 1 << 20, segment: 256 << 10, Fail: func(err error) { t.Error(err) }})
			if err == nil {
				err = v.Load()
			}
			if err != nil {
				t.Fatal(err)
			}
			cfg.Vault = v
		}
		node := &realNode{name: name, links: links, cluster: NewCluster(cfg, NewSteadyClock(), links), vault: cfg.Vault}
		ctx, cancel := context.WithCancel(context.Background())
		var work sync.WaitGroup
		if cfg.Vault != nil {
			work.Go(func() { cfg.Vault.Run(ctx, node.cluster) })
		}
		work.Go(func() { _ = links.Serve(listeners[name]) })
		work.Go(func() { node.cluster.Run(ctx) })
		node.stop = sync.OnceFunc(func() {
			_ = listeners[name].Close()
			links.Close()
			cancel()
			work.Wait()
			if node.vault != nil {
				if err := node.vault.Close(); err != nil {
					t.Error(err)
				}
			}
		})
		t.Cleanup(node.stop)
		nodes = append(nodes, node)
	}
	for _, node := range nodes {
		for p := range partitions {
			if err := node.cluster.Place(placement.PartitionID(p), engine.Seed{1, uint64(p)}, wanted); err != nil {
				t.Fatal(err)
			}
			node.cluster.Group(placement.PartitionID(p)).Configure(testCache, &engine.Settings{})
		}
	}
	for p := range partitions {
		leaderOf(t, nodes, placement.PartitionID(p))
	}
	return nodes
}

// leaderOf waits for a leader that serves.
func leaderOf(t testing.TB, nodes []*realNode, p placement.PartitionID) *Group {
	t.Helper()
	for range 2000 {
		for _, n := range nodes {
			g := n.cluster.Group(p)
			if g == nil || !g.Leads() {
				continue
			}
			if err := g.Execute(t.Context(), &engine.Task{Cache: testCache, Calls: task(testCache, "DBSIZE").Calls}); err == nil {
				if _, known := g.Stats(testCache); known {
					return g
				}
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("nobody leads partition %d", p)
	return nil
}

// TestRealFailover: three nodes over loopback under load; the one that leads most is cut off. Every acknowledged write is there
// afterwards. How long it took is printed, and judged by nobody.
func TestRealFailover(t *testing.T) {
	const partitions, writers = 6, 6
	nodes := realNodes(t, 3, partitions, Config{})
	led := map[*realNode]int{}
	for p := range partitions {
		g := leaderOf(t, nodes, placement.PartitionID(p))
		for _, n := range nodes {
			if n.cluster == g.c {
				led[n]++
			}
		}
	}
	victim := nodes[0]
	for n, count := range led {
		if count > led[victim] {
			victim = n
		}
	}
	var cut atomic.Bool
	var mu sync.Mutex
	acked := map[placement.PartitionID][]string{}
	recovered := map[placement.PartitionID]time.Duration{}
	var began time.Time
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			p := placement.PartitionID(i % partitions)
			at := i % 3
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("w%d-%d", i, n)
				for ctx.Err() == nil {
					g := nodes[at].cluster.Group(p)
					var reply engine.Recording
					w := task(testCache, "SET "+key+" "+strconv.Itoa(n))
					w.Reply = &reply
					short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
					err := errGone
					if g != nil {
						err2 := g.Execute(short, w)
						if err2 == nil {
							err = nil
						} else {
							err = fault.From(err2)
						}
					}
					stop()
					if err == nil {
						break
					}
					if at = (at + 1) % 3; cut.Load() && nodes[at] == victim {
						at = (at + 1) % 3
					}
					time.Sleep(time.Millisecond)
				}
				if ctx.Err() != nil {
					return
				}
				mu.Lock()
				acked[p] = append(acked[p], key)
				if cut.Load() && nodes[at] != victim && recovered[p] == 0 {
					recovered[p] = time.Since(began)
				}
				mu.Unlock()
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	mu.Lock()
	began = time.Now()
	cut.Store(true)
	mu.Unlock()
	t.Logf("cut %s at %v", victim.name, began.Format(time.RFC3339Nano))
	victim.links.Close()
	for tries := 0; tries < 1000; tries++ {
		mu.Lock()
		n := len(recovered)
		mu.Unlock()
		if n == partitions {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	all.Wait()
	var took []time.Duration
	for _, d := range recovered {
		took = append(took, d)
	}
	slices.Sort(took)
	total := 0
	rest := slices.DeleteFunc(slices.Clone(nodes), func(n *realNode) bool { return n == victim })
	for p, list := range acked {
		g := leaderOf(t, rest, p)
		for _, key := range list {
			total++
			var reply engine.Recording
			read := task(testCache, "EXISTS "+key)
			read.Reply = &reply
			if err := g.Execute(t.Context(), read); err != nil {
				t.Fatal(err)
			}
			if c := reply.Cursor(); c.Next().Int != 1 {
				t.Fatalf("partition %d lost %q", p, key)
			}
		}
	}
	if len(recovered) < partitions {
		t.Fatalf("of %d partitions %d are served again", partitions, len(recovered))
	}
	t.Logf("%d acknowledged writes, none lost; %s led %d of %d partitions; served again after %v", total, victim.name, led[victim], partitions, took)
}

// TestRealSnapshot: a node's replica is replaced by an empty one while it is written; the state comes over a stream, and in
// the end all have the same.
func TestRealSnapshot(t *testing.T) {
	nodes := realNodes(t, 3, 1, Config{LogSize: 16 << 10, LogsMax: 256 << 10})
	g := leaderOf(t, nodes, 0)
	fill := func(from, to int) {
		for i := from; i < to; i += 50 {
			var commands []string
			for j := range 50 {
				commands = append(commands, fmt.Sprintf("SET key-%d %0100d", i+j, i))
			}
			if err := g.Execute(t.Context(), task(testCache, commands...)); err != nil {
				t.Fatal(err)
			}
		}
	}
	fill(0, 10_000)
	replaced := nodes[0]
	if replaced.cluster == g.c {
		replaced = nodes[1]
	}
	status := g.Status()
	wanted := Wanted{Generation: 1, Founders: status.Voters}
	for i, n := range nodes {
		m := Member{ID: 1<<8 | uint64(i+1), Node: n.name, Life: n.name}
		if n == replaced {
			m.ID += 1 << 8
		}
		wanted.Members = append(wanted.Members, m)
	}
	for _, n := range nodes {
		if err := n.cluster.Place(0, engine.Seed{1, 0}, wanted); err != nil {
			t.Fatal(err)
		}
	}
	fill(10_000, 12_000)
	for tries := 0; ; tries++ {
		s := replaced.cluster.Group(0).Status()
		if slices.Contains(s.Voters, s.Self) && len(s.Voters) == 3 && s.Applied == g.Status().Applied {
			break
		}
		if tries > 2000 {
			t.Fatalf("%v after %v", s, g.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
	digest := func(g *Group) [32]byte {
		g.mu.Lock()
		defer g.mu.Unlock()
		return g.p.Digest()
	}
	if digest(g) != digest(replaced.cluster.Group(0)) {
		t.Error("the new replica has another state")
	}
}

// BenchmarkIdle is what 256 groups with three replicas each take, all in this process, while nothing happens.
func BenchmarkIdle(b *testing.B) {
	const partitions = 256
	nodes := realNodes(b, 3, partitions, Config{})
	asleep := func() (n int) {
		for _, node := range nodes {
			for _, g := range node.cluster.Groups() {
				if g.asleep.Load() {
					n++
				}
			}
		}
		return n
	}
	for tries := 0; asleep() < 3*partitions && tries < 600; tries++ {
		time.Sleep(50 * time.Millisecond)
	}
	cpu := func() time.Duration {
		var r syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
			b.Fatal(err)
		}
		return time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	for b.Loop() {
		before, began := cpu(), time.Now()
		time.Sleep(3 * time.Second)
		b.ReportMetric(100*float64(cpu()-before)/float64(time.Since(began)), "%cpu")
		b.ReportMetric(float64(asleep()), "asleep")
	}
}

// BenchmarkReplicated is a SET through the log of three replicas, all in this process, over loopback.
func BenchmarkReplicated(b *testing.B) {
	for _, partitions := range []int{1, 16} {
		for _, clients := range []int{1, 64, 256} {
			for _, depth := range []int{1, 16} {
				b.Run(fmt.Sprintf("partitions=%d/clients=%d/depth=%d", partitions, clients, depth), func(b *testing.B) {
					benchReplicated(b, partitions, clients, depth)
				})
			}
		}
	}
}

func benchReplicated(b *testing.B, partitions, clients, depth int) {
	nodes := realNodes(b, 3, partitions, Config{})
	leaders := make([]*Group, partitions)
	for p := range partitions {
		leaders[p] = leaderOf(b, nodes, placement.PartitionID(p))
	}
	value := make([]byte, 100)
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for c := range clients {
		all.Go(func() {
			var reply engine.Recording
			set := engine.MustLookup("SET")
			for n := c; left.Add(int64(-depth)) > int64(-depth); n++ {
				t := &engine.Task{Cache: testCache, Reply: &reply}
				reply.Reset()
				for i := range depth {
					t.Calls = append(t.Calls, engine.Call{Command: set, Args: [][]byte{set.NameArg(), strconv.AppendInt(nil, int64((n*31+i)%100_000), 10), value}})
				}
				if err := leaders[n%partitions].Execute(context.Background(), t); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

// BenchmarkReadUnderLease is a GET at the leader.
func BenchmarkReadUnderLease(b *testing.B) {
	nodes := realNodes(b, 3, 1, Config{})
	g := leaderOf(b, nodes, 0)
	var reply engine.Recording
	get := task(testCache, "GET k")
	get.Reply = &reply
	b.ReportAllocs()
	for b.Loop() {
		reply.Reset()
		if err := g.Execute(context.Background(), get); err != nil {
			b.Fatal(err)
		}
	}
}
