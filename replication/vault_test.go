package replication

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/placement"
)

// newDurableWorld is newWorld with disks, and with values that are too large for one entry if they are to be wide.
func newDurableWorld(t testing.TB, seed uint64, nodes int, wide bool) *world {
	w := newWorld(t, seed, nodes, func(cfg *Config) {
		if wide { // and goes in parts
			cfg.whole, cfg.part = 300, 150
		}
	})
	w.durable, w.wide = true, wide
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
	simSeeds(t, 14, func(t *testing.T, seed uint64) {
		w := newDurableWorld(t, seed, 3, seed%2 == 0)
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

// TestAReplicaThatComesBackHonoursALease: one that answered its leader's question and restarts at once helps nobody to lead before
// the lease is over that leans on it.
func TestAReplicaThatComesBackHonoursALease(t *testing.T) {
	w := newDurableWorld(t, 4, 3, false)
	w.found(1, "n1", "n2", "n3")
	g := w.waitLeader(1)
	w.run(time.Second, nil)
	leader := w.node(g.c.cfg.Node)
	others := slices.DeleteFunc(slices.Clone(w.nodes), func(n *simNode) bool { return n == leader })
	follower, rival := others[0], others[1]
	w.cut[[2]string{leader.name, rival.name}], w.cut[[2]string{rival.name, leader.name}] = true, true
	for range 20 { // the rival stands for election again and again
		w.mustDo(g, "GET k")
		w.run(100*time.Millisecond, nil)
	}
	w.run(5*time.Second, func() bool { return g.lease.until > g.c.cfg.Steady()+g.c.leaseTime()*9/10 })
	if g.lease.until <= g.c.cfg.Steady() {
		t.Fatal("there is no lease")
	}
	w.isolate(leader, true, true)
	w.crash(follower)
	w.restart(follower)
	w.run(10*time.Second, func() bool {
		for _, n := range others {
			if other := n.cluster.Group(1); other != nil && other.state == raft.StateLeader {
				return true
			}
		}
		return false
	})
	if now := g.c.cfg.Steady(); now < g.lease.until {
		t.Errorf("another leads %v before the lease is over", g.lease.until-now)
	}
	w.heal()
	w.waitLeader(1)
}

// A notebook is a vault whose log is written by hand.
type notebook struct {
	t    *testing.T
	disk *simDisk
	v    *Vault
	id   groupID
}

const notebookSelf = 0x101

func newNotebook(t *testing.T, founders ...uint64) *notebook {
	b := &notebook{t: t, disk: newSimDisk(rand.New(rand.NewPCG(1, 1))), id: groupID{3, 1}}
	b.open()
	if err := b.v.begin(b.id, notebookSelf, founders, false, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *notebook) open() {
	b.t.Helper()
	v, err := NewVault(VaultConfig{Keys: simKey, Cluster: "c", Node: "n", Log: slog.New(slog.DiscardHandler), files: b.disk, shelf: b.disk, byHand: true, segment: 64 << 10})
	if err == nil {
		err = v.Load()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	b.v = v
}

// note writes a record with entries, each by its index and its term.
func (b *notebook) note(kind byte, at, atTerm, term, commit uint64, entries ...[2]uint64) {
	b.t.Helper()
	record := appendRecordHead(nil, b.id, notebookSelf)
	if kind == recordFrom {
		record = binary.AppendUvarint(binary.AppendUvarint(record, at), atTerm)
	}
	var list []*raftpb.Entry
	for _, e := range entries {
		list = append(list, &raftpb.Entry{Type: raftpb.EntryNormal.Enum(), Index: new(e[0]), Term: new(e[1]), Data: []byte{byte(e[0])}})
	}
	record = appendHard(record, &raftpb.HardState{Term: new(term), Vote: new(uint64(7)), Commit: new(commit)}, list)
	if err := b.v.sync(b.v.log.Append(uint32(b.id.partition), kind, record, true)); err != nil {
		b.t.Fatal(err)
	}
}

// state writes a state file.
func (b *notebook) state(index, term uint64) {
	b.t.Helper()
	p := engine.New(engine.Seed{})
	defer p.Close()
	cut, ok := p.CutPartition()
	if !ok {
		b.t.Fatal("an empty partition cannot be cut")
	}
	s := &groupState{vaultFile: vaultFile{b.id.partition, b.id.generation, notebookSelf, index}, term: term, conf: &raftpb.ConfState{Voters: []uint64{1, 2, notebookSelf}}}
	err := b.v.writeState(s, func(dst []byte) ([]byte, bool, error) {
		dst, more := cut.Read(dst, cutBytes)
		return dst, more, nil
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestWhatAReplicaRemembers(t *testing.T) {
	for _, tt := range []struct {
		name    string
		write   func(b *notebook)
		want    string // base, entries with their terms, term, vote, commit
		refused bool
	}{
		{name: "nothing but that it began", write: func(*notebook) {}, want: "1.1 [] 1 0 1"},
		{name: "entries, and a commit index that goes along", write: func(b *notebook) {
			b.note(recordAppended, 0, 0, 2, 1, [2]uint64{2, 2}, [2]uint64{3, 2})
			b.note(recordAppended, 0, 0, 3, 3)
		}, want: "1.1 [2.2 3.2] 3 7 3"},
		{name: "entries that took the place of others", write: func(b *notebook) {
			b.note(recordAppended, 0, 0, 2, 1, [2]uint64{2, 2}, [2]uint64{3, 2}, [2]uint64{4, 2})
			b.note(recordAppended, 0, 0, 3, 2, [2]uint64{3, 3})
		}, want: "1.1 [2.2 3.3] 3 7 2"},
		{name: "a state file, and what came behind it", write: func(b *notebook) {
			b.note(recordAppended, 0, 0, 2, 1, [2]uint64{2, 2}, [2]uint64{3, 2}, [2]uint64{4, 2})
			b.state(3, 2)
			b.note(recordFrom, 3, 2, 2, 3, [2]uint64{4, 2})
			b.note(recordAppended, 0, 0, 2, 4, [2]uint64{5, 2})
		}, want: "3.2 [4.2 5.2] 2 7 4"},
		{name: "a state file that was not finished", write: func(b *notebook) {
			b.note(recordAppended, 0, 0, 2, 1, [2]uint64{2, 2}, [2]uint64{3, 2}, [2]uint64{4, 2})
			b.note(recordFrom, 3, 2, 2, 3, [2]uint64{4, 2})
		}, want: "1.1 [2.2 3.2 4.2] 2 7 3"},
		{name: "a snapshot in the place of a log that had gone another way", write: func(b *notebook) {
			b.note(recordAppended, 0, 0, 2, 1, [2]uint64{2, 2}, [2]uint64{3, 2}, [2]uint64{4, 2}, [2]uint64{5, 2})
			b.state(3, 3)
			b.note(recordFrom, 3, 3, 3, 3)
			b.note(recordAppended, 0, 0, 3, 3, [2]uint64{4, 3})
		}, want: "3.3 [4.3] 3 7 3"},
		{name: "a snapshot that had arrived, and that the log does not know of", write: func(b *notebook) {
			b.note(recordAppended, 0, 0, 2, 1, [2]uint64{2, 2}, [2]uint64{3, 2})
			b.state(9, 4)
		}, want: "9.4 [] 4 0 9"},
		{name: "records that are missing", write: func(b *notebook) {
			b.note(recordAppended, 0, 0, 2, 1, [2]uint64{2, 2})
			b.note(recordAppended, 0, 0, 2, 1, [2]uint64{4, 2})
		}, refused: true},
		{name: "a marker without a log", write: func(b *notebook) { clear(b.disk.files) }, refused: true},
		{name: "one that was forgotten, and another that began", write: func(b *notebook) {
			b.note(recordAppended, 0, 0, 5, 1, [2]uint64{2, 5})
			b.v.log.Append(uint32(b.id.partition), recordReplica, append(appendRecordHead(nil, b.id, notebookSelf), 3, 1, 2, 9), true)
			b.note(recordAppended, 0, 0, 2, 1, [2]uint64{2, 2})
		}, want: "1.1 [2.2] 2 7 1"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newNotebook(t, 1, 2, notebookSelf)
			tt.write(b)
			b.disk.crash()
			b.open()
			if !b.v.keeps(b.id, notebookSelf) {
				t.Fatal("its marker is gone")
			}
			log, _, p, err := b.v.recall(b.id, notebookSelf, engine.Seed{}, &logBudget{})
			if tt.refused {
				if err == nil {
					t.Error("it comes back although something is missing")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p != nil {
				defer p.Close()
			}
			entries := []string{}
			for i, e := range log.entries {
				if entries = append(entries, fmt.Sprintf("%d.%d", e.GetIndex(), e.GetTerm())); e.GetIndex() != log.first()+uint64(i) {
					t.Errorf("G1: entry %d is at %d", e.GetIndex(), log.first()+uint64(i))
				}
			}
			if got := fmt.Sprintf("%d.%d %v %d %d %d", log.base, log.baseTerm, entries, log.hard.GetTerm(), log.hard.GetVote(), log.hard.GetCommit()); got != tt.want {
				t.Errorf("it remembers %s, want %s", got, tt.want)
			}
			if len(log.members.GetVoters()) != 3 {
				t.Errorf("its members are %v", log.members)
			}
		})
	}
}

// What is forgotten leaves nothing behind, and lets the log go.
func TestAForgottenReplicaLeavesNothing(t *testing.T) {
	b := newNotebook(t, notebookSelf)
	b.note(recordAppended, 0, 0, 2, 1, [2]uint64{2, 2})
	b.state(2, 2)
	if err := b.v.forget(b.id, notebookSelf); err != nil {
		t.Fatal(err)
	}
	if len(b.disk.shelf) > 0 {
		t.Errorf("there is still %v", sortedNames(b.disk.shelf))
	}
	if err := b.v.sync(0); err != nil {
		t.Fatal(err)
	}
	b.disk.crash()
	b.open()
	if b.v.keeps(b.id, notebookSelf) {
		t.Error("it is back")
	}
}

// TestRealNodesComeBack: three nodes over loopback with disks, under load from many clients while state files are written, all
// stopped and started again.
func TestRealNodesComeBack(t *testing.T) {
	const partitions, writers, each = 2, 12, 60
	dir := t.TempDir()
	value := strings.Repeat("v", 4<<10)
	for round := range 2 {
		nodes := startNodes(t, 3, partitions, Config{}, dir)
		if round > 0 {
			for p := range partitions {
				g := leaderOf(t, nodes, placement.PartitionID(p))
				var reply engine.Recording
				size := &engine.Task{Cache: testCache, Calls: task(testCache, "DBSIZE").Calls, Reply: &reply}
				if err := g.Execute(t.Context(), size); err != nil {
					t.Fatal(err)
				}
				cursor := reply.Cursor()
				if got := cursor.Next().Int; got != writers/partitions*each {
					t.Errorf("partition %d has %d keys, want %d", p, got, writers/partitions*each)
				}
			}
		}
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for i := range each {
					for {
						g := leaderOf(t, nodes, placement.PartitionID(w%partitions))
						if err := g.Execute(t.Context(), task(testCache, fmt.Sprintf("SET w%d-%d %s", w, i, value))); err == nil {
							break
						}
					}
				}
			})
		}
		all.Wait()
		states := func() int {
			files, err := filepath.Glob(filepath.Join(dir, "*", "*"+stateSuffix))
			if err != nil {
				t.Fatal(err)
			}
			return len(files)
		}
		for end := time.Now().Add(30 * time.Second); states() == 0 && time.Now().Before(end); {
			time.Sleep(10 * time.Millisecond) // the writers may be done before the first one is
		}
		for _, n := range nodes {
			n.stop()
		}
		if states() == 0 {
			t.Error("no state file was written: the test does not try what it should")
		}
	}
}
