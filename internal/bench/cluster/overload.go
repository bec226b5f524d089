package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/internal/rig"
)

// overload measures what is left of a cluster's throughput when it is asked for three times as much as it can do, most of it of one
// key, and while clients connect, log in and go as fast as they can; whether health checks are answered meanwhile, and whether any
// replica takes its leader for lost (specification R23).
func overload(dir string) error {
	r, err := startCluster(dir, 4, 4)
	if err != nil {
		return err
	}
	defer r.Close()
	t := anyNode(r, 4)
	if _, err := hot(t, 32, 16, *each); err != nil { // it is warm
		return err
	}
	before, err := elections(dir)
	if err != nil {
		return err
	}
	var peak, triple, beside, shook []float64
	for range *rounds {
		one, err := hot(t, 32, 16, *each)
		if err != nil {
			return err
		}
		end := watchHealth(r)
		three, err := hot(t, 96, 48, *each)
		if err != nil {
			return err
		}
		end("three times the load")
		storm := comeAndGo(t, 64)
		end = watchHealth(r)
		four, err := hot(t, 32, 16, *each)
		done := storm()
		if err != nil {
			return err
		}
		end("clients that come and go beside")
		peak, triple, beside, shook = append(peak, one), append(triple, three), append(beside, four), append(shook, float64(done)/each.Seconds())
	}
	after, err := elections(dir)
	if err != nil {
		return err
	}
	say("three times the load, most of it on one key, beside the peak", fmt.Sprintf("%.2f × (%.0f : %.0f /s)", ratio(triple, peak), median(triple), median(peak)), "≥ 0.9 ×")
	say(fmt.Sprintf("clients that come, log in and go beside, %.0f a second", median(shook)), fmt.Sprintf("%.2f × (%.0f : %.0f /s)", ratio(beside, peak), median(beside), median(peak)), "")
	say("elections meanwhile", fmt.Sprint(after-before), "0")
	return nil
}

// hot has connections send pipelines of GETs and SETs, nine of ten for one key, and returns how many are answered a second.
func hot(t *target, connections, depth int, d time.Duration) (float64, error) {
	var all sync.WaitGroup
	var done atomic.Int64
	var mu sync.Mutex
	var failure error
	end := time.Now().Add(d)
	for i := range connections {
		c, err := dial(t.addrs[i%len(t.addrs)], t.users[i%len(t.users)], t.key)
		if err != nil {
			return 0, err
		}
		all.Go(func() {
			defer c.Close()
			n, err := hotPipelines(c, depth, end, rand.New(rand.NewPCG(uint64(i), 23)))
			done.Add(n)
			if err != nil {
				mu.Lock()
				failure = err
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / d.Seconds(), failure
}

func hotPipelines(c net.Conn, depth int, end time.Time, rng *rand.Rand) (n int64, err error) {
	value := strings.Repeat("v", valueSize)
	const reply = "+OK\r\n"
	var b []byte
	got := make([]byte, depth*len(reply))
	for time.Now().Before(end) {
		b = b[:0]
		for range depth {
			key := 0
			if rng.IntN(10) == 0 {
				key = rng.IntN(keySpace)
			}
			b = fmt.Appendf(b, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n", key, valueSize, value)
		}
		if _, err := c.Write(b); err != nil {
			return n, err
		}
		if _, err := io.ReadFull(c, got); err != nil {
			return n, err
		}
		if string(got) != strings.Repeat(reply, depth) {
			return n, fmt.Errorf("answered with %.100q", got)
		}
		n += int64(depth)
	}
	return n, nil
}

// watchHealth asks every node how it is, twenty times a second, until end, which prints how long the answers took.
func watchHealth(r *rig.Rig) (end func(when string)) {
	var mu sync.Mutex
	var took []time.Duration
	failed := 0
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	client := &http.Client{Timeout: 2 * time.Second}
	for _, n := range r.Nodes {
		all.Go(func() {
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
				began := time.Now()
				answer, err := client.Get("http://" + n.HTTP + "/readyz")
				if err == nil {
					_ = answer.Body.Close()
				}
				mu.Lock()
				if took = append(took, time.Since(began)); err != nil || answer.StatusCode != http.StatusOK {
					failed++
				}
				mu.Unlock()
			}
		})
	}
	return func(when string) {
		cancel()
		all.Wait()
		client.CloseIdleConnections()
		slices.Sort(took)
		say("health checks, "+when, fmt.Sprintf("%d of %d failed; p50 %v, p99 %v", failed, len(took), took[len(took)/2].Round(100*time.Microsecond), took[len(took)*99/100].Round(100*time.Microsecond)), "0")
	}
}

// comeAndGo has clients connect, log in and go, one after another in each of so many lines, until stop, which says how often it came to
// that.
func comeAndGo(t *target, lines int) (stop func() int64) {
	var over atomic.Bool
	var all sync.WaitGroup
	var done atomic.Int64
	for i := range lines {
		all.Go(func() {
			for !over.Load() {
				c, err := dial(t.addrs[i%len(t.addrs)], t.users[i%len(t.users)], t.key)
				if err != nil {
					continue
				}
				done.Add(1)
				_ = c.Close()
			}
		})
	}
	return func() int64 {
		over.Store(true)
		all.Wait()
		return done.Load()
	}
}
