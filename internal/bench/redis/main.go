// Command redis measures the Redis endpoint beside redis-server, in one run on one machine: the server's CPU time for
// a GET and a SET, alone and in pipelines of 16, over 50 connections; latency at half of the peak load; and what an idle
// connection takes of memory.
//
// Larder runs as it does for users: with login, policies and metering. Both servers are asked by the same programs,
// in turn, round by round, so that the noise of a busy machine falls on both; what counts are the ratios. Start with run.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"slices"
)

var (
	rounds      = flag.Int("rounds", 7, "how often each server is measured, in turn")
	requests    = flag.Int("requests", 300_000, "requests of a measurement without pipelines; with them four times as many")
	connections = flag.Int("connections", 50, "concurrent connections")
	idle        = flag.Int("idle", 10_000, "idle connections; 0 leaves them out")
	seconds     = flag.Int("seconds", 5, "how long a measurement of latency takes; 0 leaves them out")
	quick       = flag.Bool("quick", false, "a short look")
	binary      = flag.String("larder", "bin/larder", "the server to measure")
	page        = flag.String("page", "", "write the results into this file as well")
)

// What is asked for.
const (
	keys      = 100_000
	valueSize = 64
)

func main() {
	flag.Parse()
	log.SetFlags(0)
	if *quick {
		*rounds, *requests, *seconds, *idle = min(*rounds, 3), min(*requests, 100_000), min(*seconds, 2), min(*idle, 1000)
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// A load is one kind of request.
type load struct {
	command  string
	pipeline int
}

var loads = []load{{"get", 1}, {"set", 1}, {"get", 16}, {"set", 16}}

func (l load) String() string {
	if l.pipeline == 1 {
		return l.command
	}
	return fmt.Sprintf("%s, pipeline %d", l.command, l.pipeline)
}

// A result is what one server showed, one figure for each round.
type result struct {
	cost map[load][]float64 // CPU microseconds per request
	rate map[load][]float64 // requests a second
	p50  []float64          // microseconds
	p999 []float64
	idle float64 // bytes of RSS for each idle connection
}

func run() error {
	if _, err := exec.LookPath("redis-benchmark"); err != nil {
		return errors.New("redis-benchmark is needed (Debian: redis-tools), and redis-server")
	}
	dir, err := os.MkdirTemp("", "larder-bench-redis-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	theirs, err := startRedis(dir)
	if err != nil {
		return err
	}
	defer theirs.stop()
	ours, err := startLarder(dir)
	if err != nil {
		return err
	}
	defer ours.stop()
	both := []*server{theirs, ours}
	if *idle > 0 { // first, while no memory is left over from requests
		for _, s := range both {
			if s.idle, err = s.measureIdle(*idle); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	for _, s := range both {
		if err := s.fill(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	for range *rounds {
		for _, l := range loads {
			for _, s := range both {
				if err := s.measure(l); err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
			}
		}
	}
	if err := latencies(both); err != nil {
		return err
	}
	text := report(theirs, ours)
	fmt.Print(text)
	if *page == "" {
		return nil
	}
	return os.WriteFile(*page, []byte(head+text), 0o644)
}

// latencies has both servers asked at half of the load that both can bear.
func latencies(both []*server) error {
	if *seconds == 0 {
		return nil
	}
	peak := min(median(both[0].rate[loads[0]]), median(both[1].rate[loads[0]]))
	for range *rounds {
		for _, s := range both {
			if err := s.measureLatency(peak / 2); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// ratio is the median of the rounds' ratios.
func ratio(a, b []float64) float64 {
	list := make([]float64, min(len(a), len(b)))
	for i := range list {
		list[i] = a[i] / b[i]
	}
	return median(list)
}
