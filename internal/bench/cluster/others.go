package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/larder-cache/larder/internal/rig"
)

// atLeaders is a target that speaks of each cache to the node that leads it.
func atLeaders(r *rig.Rig, caches int) (*target, error) {
	t := &target{users: users(caches), key: r.Key, used: func() (time.Duration, error) { return cpu(r.Nodes...) }}
	for _, cache := range t.users {
		n, err := leading(r, cache)
		if err != nil {
			return nil, err
		}
		t.addrs = append(t.addrs, n.Redis)
	}
	return t, nil
}

// leading finds the node that leads a cache's partition, by who answers soonest.
func leading(r *rig.Rig, cache string) (*rig.Node, error) {
	var best *rig.Node
	least := time.Hour
	for _, n := range r.Nodes {
		c, err := dial(n.Redis, cache, r.Key)
		if err != nil {
			return nil, err
		}
		took := make([]time.Duration, 100)
		b := make([]byte, 5)
		for i := range took {
			began := time.Now()
			if _, err := io.WriteString(c, "*2\r\n$3\r\nGET\r\n$4\r\nnone\r\n"); err != nil {
				return nil, err
			}
			if _, err := io.ReadFull(c, b); err != nil {
				return nil, err
			}
			took[i] = time.Since(began)
		}
		_ = c.Close()
		slices.Sort(took)
		if m := took[0]; m < least { // on a busy machine the quickest says most
			best, least = n, m
		}
	}
	if best == nil {
		return nil, errNone
	}
	return best, nil
}

// hop measures what the way from a gateway process to an engine process costs.
func hop(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := rig.Start(ctx, rig.Config{Larder: *binary, Dir: dir, Nodes: 1, Partitions: 1, Caches: 1})
	if err != nil {
		return err
	}
	defer r.Close()
	gateway, err := r.Add(ctx, "--roles", "gateway")
	if err != nil {
		return err
	}
	engine := r.Nodes[0]
	var local, far []float64
	t := &target{users: users(1), key: r.Key}
	for range *rounds {
		for _, n := range []*rig.Node{engine, gateway} {
			used, err := cpu(engine, gateway)
			if err != nil {
				return err
			}
			t.addrs = []string{n.Redis}
			began := time.Now()
			rate, err := t.sets(16, 16, *each)
			if err != nil {
				return err
			}
			took := time.Since(began)
			now, err := cpu(engine, gateway)
			if err != nil {
				return err
			}
			cost := (now - used).Seconds() / (rate * took.Seconds()) * 1e6
			if n == engine {
				local = append(local, cost)
			} else {
				far = append(far, cost)
			}
		}
	}
	say("CPU of a SET through a gateway process, pipeline 16, beside the engine's own", fmt.Sprintf("%+.2f µs (%.2f : %.2f)", median(far)-median(local), median(far), median(local)), "≤ 4 µs")
	return nil
}

// idle measures what partitions cost in which nothing happens.
func idle(dir string) error {
	r, err := startCluster(dir, 256, 1)
	if err != nil {
		return err
	}
	defer r.Close()
	time.Sleep(10 * time.Second) // they fall asleep
	began := time.Now()
	used, err := cpu(r.Nodes...)
	if err != nil {
		return err
	}
	time.Sleep(max(5*time.Second, *each*4))
	now, err := cpu(r.Nodes...)
	if err != nil {
		return err
	}
	share := 100 * (now - used).Seconds() / time.Since(began).Seconds()
	say("256 idle partitions of 3 replicas, three processes together", fmt.Sprintf("%.1f %% of a core", share), "≤ 3 %")
	return nil
}

// single compares a node that is alone with one of another commit.
func single(dir string) error {
	if *before == "" {
		say("a single node beside one of before the cluster", "not measured", "give -before")
		return nil
	}
	old, err := filepath.Abs(*before)
	if err != nil {
		return err
	}
	var targets []*target
	for i, program := range []string{old, *binary} {
		t, stop, err := startDev(filepath.Join(dir, fmt.Sprint(i)), program)
		if err != nil {
			return err
		}
		defer stop()
		targets = append(targets, t)
	}
	for _, pipeline := range []int{1, 16} {
		rates, err := compare(50, pipeline, targets...)
		if err != nil {
			return err
		}
		against(fmt.Sprintf("a single node's SETs, 50 connections, pipeline %d, beside -before", pipeline), rates[1], rates[0], "≥ 0.97 ×")
	}
	return nil
}

// failover kills nodes that lead, and measures how long each cache goes without an acknowledged write.
func failover(dir string) error {
	const caches = 8
	r, err := startCluster(dir, caches, caches)
	if err != nil {
		return err
	}
	defer r.Close()
	var all []float64
	for i := range *kills {
		victim := r.Nodes[i%len(r.Nodes)]
		gaps, err := outage(r, victim, caches)
		if err != nil {
			return err
		}
		if longest := slices.Max(append(gaps, 0)); longest > bearable.Seconds() {
			fmt.Printf("kill %d, of %s before %s: %.2f s\n", i+1, victim.Name, time.Now().Format(time.TimeOnly), longest)
		}
		all = append(all, gaps...)
		if err := victim.Again(); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err = r.Healthy(ctx)
		cancel()
		if err != nil {
			return err
		}
		time.Sleep(2 * time.Second) // leaders spread again
	}
	slices.Sort(all)
	if len(all) == 0 {
		return errNone
	}
	at := func(q float64) float64 { return all[min(len(all)-1, int(q*float64(len(all))))] }
	say(fmt.Sprintf("kill -9, %d times: until the next acknowledged write of %d caches that the node led", *kills, len(all)),
		fmt.Sprintf("p50 %.2f, p99 %.2f, max %.2f s", at(0.5), at(0.99), all[len(all)-1]), "p99 ≤ 1.5 s")
	return nil
}

// bearable is the bar of failover.
const bearable = 1500 * time.Millisecond

// outage kills a node, and returns for each cache that it led how many seconds passed from then to the next write that was
// acknowledged.
func outage(r *rig.Rig, victim *rig.Node, caches int) (gaps []float64, err error) {
	var led []string
	for _, cache := range users(caches) {
		n, err := leading(r, cache)
		if err != nil {
			return nil, err
		}
		if n == victim {
			led = append(led, cache)
		}
	}
	var others []*rig.Node
	for _, n := range r.Nodes {
		if n != victim {
			others = append(others, n)
		}
	}
	var mu sync.Mutex
	var writers sync.WaitGroup
	killed := make(chan struct{})
	var at time.Time
	for i, cache := range led {
		writers.Go(func() {
			addr := others[i%len(others)].Redis
			first := time.Time{}
			for limit := time.Now().Add(30 * time.Second); first.IsZero() && time.Now().Before(limit); {
				began := time.Now()
				if write(addr, cache, r.Key) {
					select {
					case <-killed:
						if began.After(at) { // not one that was on its way
							first = time.Now()
						}
					default:
					}
				}
				time.Sleep(5 * time.Millisecond)
			}
			mu.Lock()
			defer mu.Unlock()
			if first.IsZero() {
				err = fmt.Errorf("no write to %s is acknowledged", cache)
				return
			}
			gaps = append(gaps, first.Sub(at).Seconds())
		})
	}
	time.Sleep(300 * time.Millisecond)
	at = time.Now()
	close(killed)
	victim.Kill()
	writers.Wait()
	return gaps, err
}

// write makes one write over a connection of its own, and reports whether it was acknowledged.
func write(addr, cache, key string) bool {
	c, err := dial(addr, cache, key)
	if err != nil {
		return false
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return false
	}
	b := make([]byte, 5)
	if _, err := io.WriteString(c, "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"); err != nil {
		return false
	}
	_, err = io.ReadFull(c, b)
	return err == nil && string(b) == "+OK\r\n"
}

// busy counts elections while every core of the machine is kept busy, and SETs are written.
func busy(dir string) error {
	r, err := startCluster(dir, 16, 16)
	if err != nil {
		return err
	}
	defer r.Close()
	before, err := elections(dir)
	if err != nil {
		return err
	}
	end := time.Now().Add(*hog)
	var hogs sync.WaitGroup
	for range 2 * runtime.NumCPU() {
		hogs.Go(func() {
			for x := 1; time.Now().Before(end); {
				for range 1_000_000 {
					x = x*1103515245 + 12345
				}
			}
		})
	}
	rate, err := anyNode(r, 16).sets(16, 1, *hog)
	hogs.Wait()
	if err != nil {
		return err
	}
	after, err := elections(dir)
	if err != nil {
		return err
	}
	say(fmt.Sprintf("elections in %v with %d busy threads beside, and %.0f SETs a second", *hog, 2*runtime.NumCPU(), rate), fmt.Sprint(after-before), "0")
	return nil
}

// elections counts how often any replica has come to stand for election.
func elections(dir string) (n int, err error) {
	logs, err := filepath.Glob(filepath.Join(dir, "n*.log"))
	if err != nil {
		return 0, err
	}
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err != nil {
			return 0, err
		}
		n += strings.Count(string(text), `"stands for election"`)
	}
	return n, nil
}
