package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/larder-cache/larder/internal/rig"
)

// Scenarios are what operators do with a cluster that is in use, where no client may see an error.
var scenarios = map[string]func(*rig.Rig) error{"rolling": rollingRestart, "etcd": withoutEtcd, "join": join, "grow": grow, "upgrade": upgrade, "storm": storm}

// rollingRestart restarts all nodes, one after another, as an upgrade does, until there were enough requests.
func rollingRestart(r *rig.Rig) error {
	s := begin(r, *clients, *caches, *pause)
	rounds := 0
	for began := time.Now(); rounds == 0 || s.requests.Load() < *requests && time.Since(began) < *during; rounds++ {
		for _, n := range r.Nodes {
			if err := restart(r, n); err != nil {
				_ = s.end("a rolling restart") // the error says more
				return err
			}
			time.Sleep(500 * time.Millisecond)
		}
	}
	return s.end(fmt.Sprintf("a rolling restart of %d nodes, %d times", len(r.Nodes), rounds))
}

// withoutEtcd stops etcd for a while, and restarts a node meanwhile.
func withoutEtcd(r *rig.Rig) error {
	s := begin(r, *clients, *caches, *pause)
	time.Sleep(2 * time.Second)
	r.Etcd.Kill()
	time.Sleep(*during / 2)
	n := r.Nodes[0]
	err := n.Stop(time.Minute)
	if err == nil {
		err = n.Again()
	}
	if err == nil {
		err = ready(n)
	}
	if err != nil {
		_ = s.end("etcd is stopped") // the error says more
		return err
	}
	time.Sleep(*during / 2)
	if err := r.RestartEtcd(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), *recovery)
	defer cancel()
	healthy := r.Healthy(ctx)
	if err := s.end(fmt.Sprintf("etcd stopped for %v, and %s restarted meanwhile", *during, n.Name)); err != nil {
		return err
	}
	return healthy
}

// join fills the caches, adds a node, and waits until the load is even.
func join(r *rig.Rig) error {
	if err := fill(r, int(*items)); err != nil {
		return err
	}
	s := begin(r, *clients, *caches, *pause)
	time.Sleep(3 * time.Second)
	s.quantiles()
	time.Sleep(15 * time.Second)
	p50, before, most := s.quantiles()
	fmt.Printf("before: p50 %v, p99 %v, at most %v\n", p50, before, most)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	began := time.Now()
	if _, err := r.Add(ctx); err != nil {
		return err
	}
	for {
		v, err := r.View()
		if err != nil {
			return err
		}
		replicas, leads, whole := map[string]int{}, map[string]int{}, true
		for _, p := range v.Partitions {
			for _, n := range p.Replicas {
				replicas[n]++
			}
			leads[p.Leader]++
			whole = whole && p.Voters == 3
		}
		even := whole
		for _, n := range r.Nodes {
			even = even && replicas[n.Name] >= len(v.Partitions)*3/len(r.Nodes)-1 && leads[n.Name] >= len(v.Partitions)/len(r.Nodes)-1
		}
		if even {
			fmt.Printf("after %.1f s the replicas are %v, and the leaders %v\n", time.Since(began).Seconds(), replicas, leads)
			break
		}
		if ctx.Err() != nil {
			return fmt.Errorf("the load does not become even: replicas %v, leaders %v", replicas, leads)
		}
		time.Sleep(200 * time.Millisecond)
	}
	p50, meanwhile, most := s.quantiles()
	fmt.Printf("meanwhile: p50 %v, p99 %v, at most %v: %.2f × the p99 before\n", p50, meanwhile, most, float64(meanwhile)/float64(before))
	return s.end("a fourth node joins")
}

// fill writes items of 100 bytes into all caches.
func fill(r *rig.Rig, n int) error {
	began := time.Now()
	for c := range *caches {
		s, err := dialRedis(r.Nodes[c%len(r.Nodes)].Redis, fmt.Sprint("c", c+1), r.Key)
		if err != nil {
			return err
		}
		w := bufio.NewWriterSize(s.c, 1<<20)
		value, each := strings.Repeat("v", 100), n / *caches
		for done := 0; done < each; {
			batch := min(1000, each-done)
			if err := s.c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
				return err
			}
			for i := range batch {
				fmt.Fprintf(w, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$100\r\n%s\r\n", done+i, value)
			}
			if err := w.Flush(); err != nil {
				return err
			}
			b := make([]byte, 5*batch)
			if _, err := io.ReadFull(s.r, b); err != nil {
				return err
			}
			if string(b) != strings.Repeat("+OK\r\n", batch) {
				return fmt.Errorf("filling was answered with %.100q", b)
			}
			done += batch
		}
		s.close()
	}
	fmt.Printf("%d items in %.1f s\n", n, time.Since(began).Seconds())
	return nil
}

// grow begins with as many nodes as -nodes says, one perhaps, and adds one after another.
func grow(r *rig.Rig) error {
	s := begin(r, *clients, *caches, *pause)
	time.Sleep(2 * time.Second)
	for len(r.Nodes) < 4 {
		ctx, cancel := context.WithTimeout(context.Background(), *recovery)
		_, err := r.Add(ctx)
		if err == nil {
			time.Sleep(5 * time.Second)
			err = r.Healthy(ctx)
		}
		cancel()
		if err != nil {
			_ = s.end("nodes join") // the error says more
			return err
		}
		fmt.Printf("%d nodes\n", len(r.Nodes))
	}
	return s.end("nodes join, one after another")
}

// upgrade replaces an earlier version by this one, node by node, and goes back to it, while caches are used and scaled. Between
// the nodes of two versions everything has to work that the earlier one has.
func upgrade(r *rig.Rig) error {
	program, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	earlier, err := filepath.Abs(*before)
	if err != nil {
		return err
	}
	s := begin(r, *clients, *caches, *pause)
	err = everyKind(r)
	for _, to := range []string{program, earlier, program} {
		for _, n := range r.Nodes {
			if err != nil {
				break
			}
			n.Use(to)
			if err = restart(r, n); err == nil {
				err = everyKind(r)
			}
			fmt.Printf("%s is %s\n", n.Name, to)
		}
	}
	if err != nil {
		_ = s.end("an upgrade") // the error says more
		return err
	}
	return s.end("an upgrade, back, and again")
}

// storm kills all nodes and starts them at the same time, again and again: data in memory is gone each time, and what counts is how
// soon everything is served again.
func storm(r *rig.Rig) error {
	for round := range 3 {
		for _, n := range r.Nodes {
			n.Kill()
		}
		began := time.Now()
		for _, n := range r.Nodes {
			if err := n.Again(); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), *recovery)
		err := r.Healthy(ctx)
		cancel()
		if err != nil {
			return fmt.Errorf("storm %d: %w", round+1, err)
		}
		fmt.Printf("storm %d: all %d nodes and %d caches serve after %.1f s\n", round+1, len(r.Nodes), *caches, time.Since(began).Seconds())
	}
	return nil
}

// everyKind does through every node what is written to the log in several forms: large values, and what concerns all slots, in a
// cache whose slots move.
func everyKind(r *rig.Rig) error {
	cache := fmt.Sprint("c", *caches)
	if _, err := r.Own(http.MethodPost, "/v1/caches/"+cache+"/scale", fmt.Sprintf(`{"ranges":%d}`, *partitions)); err != nil {
		return err
	}
	large := strings.Repeat("v", 4<<20)
	for _, n := range r.Nodes {
		s, err := dialRedis(n.Redis, cache, r.Key)
		if err != nil {
			return err
		}
		defer s.close()
		for _, command := range [][]string{{"SELECT", "1"}, {"SET", "large", large}, {"DBSIZE"}, {"FLUSHDB"}, {"EXISTS", "large"}} {
			got, err := s.within(patience, command...)
			if err != nil {
				return fmt.Errorf("%s through %s: %w", command[0], n.Name, err)
			}
			if want := map[string]string{"DBSIZE": "1", "EXISTS": "0"}[command[0]]; want != "" && fmt.Sprint(got) != want {
				return fmt.Errorf("%s through %s is answered with %v, want %s", command[0], n.Name, got, want)
			}
		}
	}
	_, err := r.Own(http.MethodPost, "/v1/caches/"+cache+"/scale", `{"ranges":1}`)
	return err
}
