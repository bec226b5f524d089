package e2e

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// served waits until every node has a cache's keys read.
func (c *trio) served(t *testing.T, cache string) {
	t.Helper()
	for i, n := range c.nodes {
		until(t, fmt.Sprintf("node %d serves %s", i+1, cache), func() bool {
			a, err := n.try(http.DefaultClient, http.MethodGet, "/v1/caches/"+cache+"/kv/none", "")
			return err == nil && a.status == http.StatusNotFound
		})
	}
}

// A durable cache of three nodes has every write that was acknowledged after all of them were killed at once.
// LARDER_DURABILITY_ROUNDS says how often.
func TestDurabilityOfACluster(t *testing.T) {
	t.Parallel()
	c := newTrio(t, "--redis-addr", "127.0.0.1:0", "--wal-size", "8MiB")
	c.nodes[1].do(t, http.MethodPost, "/v1/caches", `{"name":"durable","durability":"durable"}`).want(t, http.StatusCreated).says(t, "durability", "durable")
	c.served(t, "durable")
	if got := c.nodes[0].do(t, http.MethodGet, "/v1/caches/durable", "").want(t, http.StatusOK).get(t, "live.durability"); got != "durable" {
		t.Errorf("it is %v", got)
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	var workers []*worker
	for i := range 6 {
		workers = append(workers, &worker{id: i, patient: true, dice: rand.New(rand.NewPCG(seed, uint64(10+i)))})
	}
	acked := 0
	for round := range max(rounds(t)/2, 2) + 1 {
		if round > 0 {
			var all sync.WaitGroup
			for i := range c.nodes {
				all.Go(func() { c.start(t, i) })
			}
			if all.Wait(); t.Failed() {
				return
			}
			c.served(t, "durable")
		}
		redis := func(i int) (*server, string) {
			n := c.nodes[i%3]
			return n, n.logged("larder serves", "redis")
		}
		for i, w := range workers {
			if err := w.look(redis(i)); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		var all sync.WaitGroup
		for i, w := range workers {
			s, at := redis(i)
			all.Go(func() {
				if err := w.work(s, at); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Duration(100+dice.IntN(500)) * time.Millisecond)
		for _, i := range dice.Perm(3) {
			_ = c.nodes[i].cmd.Process.Kill() // fails if it has ended
		}
		for _, n := range c.nodes {
			n.kill()
		}
		all.Wait()
		acked = 0
		for _, w := range workers {
			acked += w.single.acked + w.pair.acked + w.script.acked + w.list.acked + w.web.acked + w.once.acked
		}
	}
	if acked < 50 {
		t.Errorf("only %d writes were acknowledged: the test does not try what it should", acked)
	}
	t.Logf("%d writes were acknowledged", acked)
	for _, dir := range c.dirs {
		noFileShows(t, dir)
	}
}

// A node whose log is damaged in the middle says so, and gets what it had from the others.
func TestADamagedReplicaIsFetchedFromTheLeader(t *testing.T) {
	t.Parallel()
	c := newTrio(t)
	c.nodes[0].do(t, http.MethodPost, "/v1/caches", `{"name":"durable","durability":"durable"}`).want(t, http.StatusCreated)
	c.served(t, "durable")
	votes := func(when string) {
		t.Helper()
		until(t, "all replicas vote "+when, func() bool {
			return strings.Count(c.nodes[0].asOperator(t, http.MethodGet, "/v1/cluster", "").want(t, http.StatusOK).body, `"voters":3`) == 8
		})
	}
	votes("at first")
	put := func(i int, key string) {
		t.Helper()
		until(t, key+" is written", func() bool {
			a, err := c.nodes[i].try(http.DefaultClient, http.MethodPut, "/v1/caches/durable/kv/"+key, strings.Repeat("v", 1000))
			return err == nil && a.status/100 == 2
		})
	}
	for i := range 40 {
		put(i%3, fmt.Sprint("k", i))
	}
	c.nodes[2].kill()
	for i := range 20 { // without it
		put(i%2, fmt.Sprint("l", i))
	}
	files, err := filepath.Glob(filepath.Join(c.dirs[2], "groups", "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	blocks := bytes.Count(b, []byte("LWB1"))
	for range blocks / 2 {
		b = b[:bytes.LastIndex(b, []byte("LWB1"))]
	}
	f, err := os.OpenFile(files[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("not what was written"), int64(len(b)-60)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	c.start(t, 2)
	until(t, "the damage is found", func() bool {
		log := c.nodes[2].stderr.String()
		return strings.Contains(log, filepath.Base(files[0])) && strings.Contains(log, "a durable replica does not come back")
	})
	votes("again")
	// The one that was damaged and another are a quorum, with all that was acknowledged.
	c.nodes[0].kill()
	for i := range 40 {
		there(t, c.nodes[2], fmt.Sprint("k", i))
	}
	for i := range 20 {
		there(t, c.nodes[2], fmt.Sprint("l", i))
	}
	put(2, "after")
	c.nodes[2].kill() // and it comes back from disk
	c.start(t, 2)
	there(t, c.nodes[2], "after")
	if log := c.nodes[2].stderr.String(); strings.Contains(log, "does not come back") {
		t.Errorf("damage that was made good is found again: %s", log)
	}
}

// there waits until a node answers, and fails the test if the key is not there.
func there(t *testing.T, n *server, key string) {
	t.Helper()
	until(t, key+" is read", func() bool {
		a := n.do(t, http.MethodGet, "/v1/caches/durable/kv/"+key, "")
		if a.status == http.StatusNotFound {
			t.Fatalf("%s was acknowledged and is lost", key)
		}
		return a.status == http.StatusOK
	})
}
