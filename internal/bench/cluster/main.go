// Command cluster measures a cluster of three processes on this machine beside redis-server with two replicas and a WAIT 2
// behind each pipeline: throughput of SETs that are acknowledged by a quorum, what the way through a gateway costs, what
// idle partitions cost, how long a partition goes without a leader that was killed, whether a machine under load elects
// leaders for nothing, and what an overload leaves.
//
// All compete for the same cores, as do the clients, which are this process. Rounds alternate between the contenders, so
// that the noise of a busy machine falls on all; ratios of the same round count. Start with run.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	binary = flag.String("larder", "bin/larder", "the server to measure")
	before = flag.String("before", "", "a larder of another commit, to compare a single node with")
	quick  = flag.Bool("quick", false, "a short look")
	only   = flag.String("only", "", "which measurements, with commas between: one, many, hop, idle, single, failover, hog, overload; all if empty")
	rounds = flag.Int("rounds", 5, "how often each contender is measured, in turn")
	each   = flag.Duration("each", 3*time.Second, "how long a measurement of throughput takes")
	logs   = flag.String("logs", "", "where the logs of all processes are left; nowhere if empty")
	kills  = flag.Int("kills", 50, "how often a leader is killed")
	loads  = flag.String("connections", "64,256", "how many connections many caches are measured with")
	depths = flag.String("pipelines", "1,16", "and how deep their pipelines are")
	hog    = flag.Duration("hog", time.Minute, "how long the machine is kept busy while elections are counted")
)

func main() {
	flag.Parse()
	log.SetFlags(0)
	if *quick {
		*rounds, *each, *kills, *hog = min(*rounds, 3), min(*each, time.Second), min(*kills, 5), min(*hog, 10*time.Second)
	}
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	path, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	*binary = path
	dir, err := os.MkdirTemp("", "larder-bench-cluster-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if *logs != "" {
		defer keep(dir)
	}
	for _, m := range []struct {
		name string
		do   func(dir string) error
	}{{"one", one}, {"many", many}, {"hop", hop}, {"idle", idle}, {"single", single}, {"failover", failover}, {"hog", busy}, {"overload", overload}} {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), m.name) {
			continue
		}
		sub := filepath.Join(dir, m.name)
		if err := os.Mkdir(sub, 0o755); err != nil {
			return err
		}
		if err := m.do(sub); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// keep copies the logs out of a folder that is about to be removed.
func keep(dir string) {
	all, err := filepath.Glob(filepath.Join(dir, "*", "*.log"))
	for _, path := range all {
		text, failed := os.ReadFile(path)
		name := filepath.Base(filepath.Dir(path)) + "-" + filepath.Base(path)
		err = errors.Join(err, failed, os.MkdirAll(*logs, 0o755), os.WriteFile(filepath.Join(*logs, name), text, 0o644))
	}
	if err != nil {
		log.Print(err)
	}
}

// say prints a figure beside its bar.
func say(what, figure, bar string) { fmt.Printf("%-72s %-28s %s\n", what, figure, bar) }

func median(list []float64) float64 {
	sorted := slices.Sorted(slices.Values(list))
	return sorted[len(sorted)/2]
}

// A measure is what a target showed, one figure for each round.
type measure struct {
	rate []float64 // SETs a second
	cost []float64 // CPU microseconds a SET, of all its processes
}

// compare measures targets in turn, round by round.
func compare(connections, pipeline int, targets ...*target) ([]measure, error) {
	all := make([]measure, len(targets))
	for range *rounds {
		for i, t := range targets {
			var before, after time.Duration
			var err error
			if t.used != nil {
				if before, err = t.used(); err != nil {
					return nil, err
				}
			}
			began := time.Now()
			rate, err := t.sets(connections, pipeline, *each)
			if err != nil {
				return nil, err
			}
			took := time.Since(began)
			if t.used != nil {
				if after, err = t.used(); err != nil {
					return nil, err
				}
			}
			all[i].rate = append(all[i].rate, rate)
			all[i].cost = append(all[i].cost, (after-before).Seconds()*1e6/(rate*took.Seconds()))
		}
	}
	return all, nil
}

// ratio is the median of the rounds' ratios.
func ratio(a, b []float64) float64 {
	list := make([]float64, len(a))
	for i := range a {
		list[i] = a[i] / b[i]
	}
	return median(list)
}

// against prints how ours does beside theirs.
func against(what string, ours, theirs measure, bar string) {
	figure := fmt.Sprintf("%.2f × (%.0f : %.0f /s)", ratio(ours.rate, theirs.rate), median(ours.rate), median(theirs.rate))
	if median(ours.cost) > 0 {
		figure += fmt.Sprintf(", CPU %.1f : %.1f µs", median(ours.cost), median(theirs.cost))
	}
	say(what, figure, bar)
}

// one compares replicated SETs into one cache.
func one(dir string) error {
	redis, stop, err := startRedis(dir)
	defer stop()
	if err != nil {
		return err
	}
	r, err := startCluster(filepath.Join(dir, "larder"), 1, 1)
	if err != nil {
		return err
	}
	defer r.Close()
	leader, err := leaderOf(r)
	if err != nil {
		return err
	}
	direct, spread := anyNode(r, 1), anyNode(r, 1)
	direct.addrs = []string{leader.Redis}
	for _, pipeline := range []int{1, 16} {
		rates, err := compare(64, pipeline, redis, direct, spread)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("SETs into one cache, 64 connections, pipeline %d", pipeline)
		against(name+", to its leader", rates[1], rates[0], "≥ 1.0 ×")
		against(name+", to any node", rates[2], rates[0], "")
	}
	return nil
}

// many compares SETs into 16 caches, a partition each.
func many(dir string) error {
	redis, stop, err := startRedis(dir)
	defer stop()
	if err != nil {
		return err
	}
	r, err := startCluster(filepath.Join(dir, "larder"), 16, 16)
	if err != nil {
		return err
	}
	defer r.Close()
	spread := anyNode(r, 16)
	direct, err := atLeaders(r, 16)
	if err != nil {
		return err
	}
	connectionsOf, err := numbers(*loads)
	if err != nil {
		return fmt.Errorf("-connections: %w", err)
	}
	pipelines, err := numbers(*depths)
	if err != nil {
		return fmt.Errorf("-pipelines: %w", err)
	}
	for _, connections := range connectionsOf {
		bar := "≥ 0.9 ×"
		if connections >= 256 {
			bar = "≥ 1.2 ×"
		}
		for _, pipeline := range pipelines {
			rates, err := compare(connections, pipeline, redis, direct, spread)
			if err != nil {
				return err
			}
			name := fmt.Sprintf("SETs into 16 caches of 16 partitions, %d connections, pipeline %d", connections, pipeline)
			against(name+", to their leaders", rates[1], rates[0], bar)
			against(name+", to any node", rates[2], rates[0], "")
		}
	}
	return nil
}

// numbers reads a list with commas between.
func numbers(list string) (all []int, err error) {
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

var errNone = errors.New("no partition has a leader that is known")
