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

// A durable cache of three nodes has every write that was acknowledged after all of them were killed at once.
// LARDER_DURABILITY_ROUNDS says how often. Before that it is a memory cache for a while, and has data on both ways. In the end the
// log of a node is damaged in the middle: it says so, and gets what it had from the others.
func TestDurabilityOfACluster(t *testing.T) {
	t.Parallel()
	c := newTrio(t, "--redis-addr", "127.0.0.1:0", "--wal-size", "8MiB")
	c.nodes[1].do(t, http.MethodPost, "/v1/caches", `{"name":"durable","durability":"durable"}`).want(t, http.StatusCreated).says(t, "durability", "durable")
	c.served(t)
	c.put(t, 2, "early")
	c.class(t, "async")
	c.put(t, 1, "soon")
	c.class(t, "memory")
	c.put(t, 0, "between")
	c.class(t, "durable")
	c.there(t, 0, "soon")
	c.there(t, 1, "early")
	c.there(t, 2, "between")

	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	var workers []*worker
	for i := range 6 {
		workers = append(workers, &worker{id: i, patient: true, dice: rand.New(rand.NewPCG(seed, uint64(10+i)))})
	}
	look := func(round int, but int) {
		t.Helper()
		for i, w := range workers {
			at := i % 3
			if at == but {
				at = (at + 1) % 3
			}
			n := c.nodes[at]
			if err := w.look(n, n.logged("larder serves", "redis")); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
	}
	last := max(rounds(t)/2, 2)
	for round := range last {
		look(round, -1)
		var all sync.WaitGroup
		for i, w := range workers {
			n := c.nodes[i%3]
			all.Go(func() {
				if err := w.work(n, n.logged("larder serves", "redis")); err != nil {
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
		damaged := ""
		if round == last-1 {
			damaged = damage(t, filepath.Join(c.dirs[2], "groups"))
		}
		for i := range c.nodes {
			all.Go(func() { c.start(t, i) })
		}
		if all.Wait(); t.Failed() {
			return
		}
		if damaged != "" {
			until(t, "the damage is found", func() bool {
				log := c.nodes[2].stderr.String()
				return strings.Contains(log, damaged) && strings.Contains(log, "a durable replica does not come back")
			})
		}
		c.served(t)
	}
	acked := 0
	for _, w := range workers {
		acked += w.single.acked + w.pair.acked + w.script.acked + w.list.acked + w.web.acked + w.once.acked
	}
	if acked < 50 {
		t.Errorf("only %d writes were acknowledged: the test does not try what it should", acked)
	}
	t.Logf("%d writes were acknowledged", acked)
	for _, dir := range c.dirs {
		noFileShows(t, dir)
	}
	until(t, "the damaged replica has been replaced", func() bool {
		body := c.nodes[0].asOperator(t, http.MethodGet, "/v1/cluster", "").want(t, http.StatusOK).body
		return strings.Count(body, `"voters":3`) >= 4 && strings.Contains(c.nodes[2].stderr.String(), "has taken a snapshot")
	})
	c.nodes[0].kill() // the one that was damaged and another are a quorum now
	look(last, 0)
	c.put(t, 1, "late")
	c.nodes[2].kill()
	c.start(t, 2)
	c.start(t, 0)
	c.there(t, 2, "late")
	if log := c.nodes[2].stderr.String(); strings.Contains(log, "does not come back") {
		t.Errorf("damage that was made good is found again: %s", log)
	}
}

// An async cache of three nodes loses nothing when one of them is killed, and nothing but what was acknowledged within a second when all of
// them are at once; what it has left is on all of them then, and no transaction in part.
func TestAsyncOfACluster(t *testing.T) {
	t.Parallel()
	c := newTrio(t, "--redis-addr", "127.0.0.1:0", "--wal-size", "8MiB")
	c.nodes[1].do(t, http.MethodPost, "/v1/caches", `{"name":"durable","durability":"async"}`).want(t, http.StatusCreated).says(t, "durability", "async")
	c.served(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 1))
	var workers []*worker
	for i := range 6 {
		workers = append(workers, &worker{id: i, patient: true, dice: rand.New(rand.NewPCG(seed, uint64(10+i)))})
	}
	promises := func() (all []*promise) {
		for _, w := range workers {
			all = append(all, &w.single, &w.pair, &w.script, &w.list, &w.web, &w.once)
		}
		return all
	}
	acked, lost := 0, 0
	for round := range max(rounds(t)/2, 2) {
		var all sync.WaitGroup
		for i, w := range workers {
			n := c.nodes[i%3]
			w.until = time.Now().Add(2 * time.Second)
			all.Go(func() {
				if err := w.work(n, n.logged("larder serves", "redis")); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Duration(300+dice.IntN(700)) * time.Millisecond)
		killed := dice.Perm(3)
		if round%2 == 0 {
			killed = killed[:1]
		}
		for _, i := range killed {
			_ = c.nodes[i].cmd.Process.Kill() // fails if it has ended
		}
		for _, i := range killed {
			c.nodes[i].kill()
		}
		all.Wait()
		var last time.Time
		before := map[*promise]int{}
		for _, p := range promises() {
			before[p] = p.acked
			if n := len(p.acks); n > 0 && p.acks[n-1].at.After(last) {
				last = p.acks[n-1].at
			}
			acked += len(p.acks)
		}
		for _, w := range workers {
			if w.since = (time.Time{}); len(killed) == 3 {
				w.since = last.Add(-time.Second)
			}
		}
		for _, i := range killed {
			all.Go(func() { c.start(t, i) })
		}
		if all.Wait(); t.Failed() {
			return
		}
		c.served(t)
		for i, w := range workers {
			n := c.nodes[i%3]
			until(t, "the cache takes writes", func() bool {
				a, err := n.try(http.DefaultClient, http.MethodPut, "/v1/caches/durable/kv/any", "v")
				return err == nil && a.status/100 == 2
			})
			if err := w.look(n, n.logged("larder serves", "redis")); err != nil {
				t.Fatalf("round %d, %d killed: %v", round, len(killed), err)
			}
		}
		for p, was := range before {
			lost += max(was-p.acked, 0)
		}
		until(t, "all replicas vote", func() bool {
			body := c.nodes[0].asOperator(t, http.MethodGet, "/v1/cluster", "").want(t, http.StatusOK).body
			return strings.Count(body, `"voters":3,"durability":"async"`) == 4
		})
	}
	if acked < 50 {
		t.Errorf("only %d writes were acknowledged: the test does not try what it should", acked)
	}
	t.Logf("%d writes were acknowledged, %d of them lost", acked, lost)
	for _, dir := range c.dirs {
		noFileShows(t, dir)
	}
}

// served waits until every node has the cache's keys read.
func (c *trio) served(t *testing.T) {
	t.Helper()
	for i, n := range c.nodes {
		until(t, fmt.Sprintf("node %d serves the cache", i+1), func() bool {
			a, err := n.try(http.DefaultClient, http.MethodGet, "/v1/caches/durable/kv/none", "")
			return err == nil && a.status == http.StatusNotFound
		})
	}
}

// put writes a key, as soon as that can be done.
func (c *trio) put(t *testing.T, i int, key string) {
	t.Helper()
	until(t, key+" is written", func() bool {
		a, err := c.nodes[i].try(http.DefaultClient, http.MethodPut, "/v1/caches/durable/kv/"+key, "v")
		return err == nil && a.status/100 == 2
	})
}

// there waits until a node answers, and fails the test if the key is not there.
func (c *trio) there(t *testing.T, i int, key string) {
	t.Helper()
	until(t, key+" is read", func() bool {
		a := c.nodes[i].do(t, http.MethodGet, "/v1/caches/durable/kv/"+key, "")
		if a.status == http.StatusNotFound {
			t.Fatalf("%s was acknowledged and is lost", key)
		}
		return a.status == http.StatusOK
	})
}

// class changes of which class the cache is, and waits until it is.
func (c *trio) class(t *testing.T, want string) {
	t.Helper()
	c.nodes[1].do(t, http.MethodPatch, "/v1/caches/durable", `{"durability":"`+want+`"}`).want(t, http.StatusOK).says(t, "durability", want)
	until(t, "the cache is "+want, func() bool {
		return c.nodes[1].do(t, http.MethodGet, "/v1/caches/durable", "").want(t, http.StatusOK).get(t, "live.durability") == want
	})
}

// damage changes a log in the middle, in front of what was synced, and returns which file.
func damage(t *testing.T, dir string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	name, most := "", 0
	var whole []byte
	for _, f := range files { // the one with most in it
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b, []byte("LWB1")); n > most {
			name, most, whole = f, n, b
		}
	}
	if most < 10 {
		t.Fatalf("the log has only %d blocks", most)
	}
	for range most / 2 {
		whole = whole[:bytes.LastIndex(whole, []byte("LWB1"))]
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("not what was written"), int64(len(whole)-40)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return filepath.Base(name)
}
