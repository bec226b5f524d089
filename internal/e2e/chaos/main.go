// Command chaos runs a real cluster, an etcd and processes of `larder serve`, under faults, and judges what its clients saw.
//
// Clients work on keys of several kinds over both protocols through any node; each key's history is checked with porcupine
// against a model, queues by what went in and came out, and every write that was acknowledged once and for all is looked for
// in the end. Meanwhile processes are killed, stopped, moved and restarted, and the network is cut and spoiled; each node
// stands in a network namespace where that is permitted. The faults and their order depend on the seed alone; what the
// clients do between them depends on time.
//
// After each fault the cluster has to become healthy. At most one node at a time loses its memory, since data is in memory.
// Start with run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/larder-cache/larder/internal/rig"
)

var (
	binary     = flag.String("larder", "bin/larder", "the program to test")
	before     = flag.String("before", "", "an earlier version of the program, for the scenario upgrade")
	seed       = flag.Uint64("seed", uint64(time.Now().Unix()), "decides on the faults")
	count      = flag.Int("faults", 20, "how many faults")
	nodes      = flag.Int("nodes", 3, "nodes of the cluster, in three zones")
	partitions = flag.Int("partitions", 4, "partitions of the cluster")
	caches     = flag.Int("caches", 4, "caches")
	durability = flag.String("durability", "memory", "of the caches; when they are durable, all nodes are killed at once, too")
	clients    = flag.Int("clients", 16, "clients at work")
	pause      = flag.Duration("pause", 15*time.Millisecond, "of a client between operations, on average")
	only       = flag.String("only", "", "kinds of faults, with commas between; all if empty")
	out        = flag.String("out", "chaos", "folder for logs, and for histories that are wrong")
	scenario   = flag.String("scenario", "", "instead of faults: rolling, etcd, join, grow, upgrade or storm")
	requests   = flag.Int64("requests", 100_000, "how many requests a rolling restart goes on for")
	during     = flag.Duration("during", 2*time.Minute, "how long etcd is stopped, or nodes are restarted at the most")
	items      = flag.Int64("items", 1_000_000, "how many items there are when a node joins")
	brief      = flag.Bool("brief", false, "faults are short")
	recovery   = flag.Duration("recovery", time.Minute, "how long the cluster may take until it is healthy after a fault")
)

func main() {
	rig.Relay()
	flag.Parse()
	if *scenario == "" { // a scenario has no faults of the network, and measures: packets take the short way
		if err := rig.Isolate(); err != nil {
			fmt.Printf("NO NETWORK NAMESPACES, SO NO FAULTS OF THE NETWORK: %v\n", err)
		}
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A tally is what is known of a kind of fault.
type tally struct {
	times     int
	recovered time.Duration // longest
	gap       time.Duration // longest without an acknowledged write
}

func run() error {
	larder, err := filepath.Abs(*binary)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(*out)
	if err != nil {
		return err
	}
	zones := min(*nodes, 3)
	if *scenario != "" {
		zones = 0 // one for each
	}
	if *scenario == "upgrade" {
		if larder, err = filepath.Abs(*before); err != nil {
			return err
		}
	}
	start, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	r, err := rig.Start(start, rig.Config{Larder: larder, Dir: filepath.Join(dir, "cluster"), Nodes: *nodes, Zones: zones, Partitions: *partitions, Caches: *caches, Durability: *durability, Seed: *seed})
	if err != nil {
		return err
	}
	defer r.Close()
	if *scenario != "" {
		do := scenarios[*scenario]
		if do == nil {
			return fmt.Errorf("there is no scenario %q", *scenario)
		}
		return do(r)
	}
	fmt.Printf("seed %d: %d faults for %d nodes, %d partitions, %d clients; logs in %s\n", *seed, *count, *nodes, *partitions, *clients, dir)
	l := newLoad(r, *caches, dir, *pause)
	l.start(*clients, *seed)
	n := &nemesis{r, rand.New(rand.NewPCG(*seed, 1)), *brief}
	tallies := map[string]*tally{}
	for i := range *count {
		if err := harm(n, l, i, tallies); err != nil {
			l.anomaly("%v", err)
			break
		}
	}
	l.finish()
	l.verify()
	for _, name := range slices.Sorted(maps.Keys(tallies)) {
		t := tallies[name]
		fmt.Printf("%-18s %3d times, healthy again after at most %5.1f s, at most %5.1f s without an acknowledged write to some cache\n", name, t.times, t.recovered.Seconds(), t.gap.Seconds())
	}
	fmt.Printf("%d operations answered, %d of unknown outcome, %d refused; %d histories checked, %d undecided; %d anomalies\n",
		l.done.Load(), l.unknown.Load(), l.refused.Load(), l.checked.Load(), l.undecided.Load(), len(l.bad))
	for _, text := range slices.Sorted(maps.Keys(l.refusal)) {
		fmt.Printf("  %d times %s\n", l.refusal[text], text)
	}
	for _, text := range slices.Sorted(maps.Keys(l.odd)) {
		fmt.Printf("nobody expected (%d times): %s\n", l.odd[text], text)
	}
	if len(l.bad)+len(l.odd) > 0 {
		return errors.New("there are anomalies")
	}
	return nil
}

// harm does one fault, undoes it, and waits until the cluster is healthy.
func harm(n *nemesis, l *load, i int, tallies map[string]*tally) error {
	f := n.pick(*only)
	if f == nil {
		return errors.New("no such fault is possible here")
	}
	time.Sleep(n.some(100*time.Millisecond, time.Second))
	l.widest()
	began := time.Now()
	what, heal := f.begin(n)
	fmt.Printf("%s %3d: %s\n", began.Format("15:04:05.000"), i+1, what)
	if heal != nil {
		if err := heal(); err != nil {
			return fmt.Errorf("fault %d, %s: %w", i+1, f.name, err)
		}
	}
	for _, v := range n.rig.Nodes {
		if v.Runs() {
			continue
		}
		l.anomaly("fault %d, %s: %s ended by itself", i+1, what, v.Name)
		v.Kill()
		if err := v.Again(); err != nil {
			return err
		}
	}
	healed := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), *recovery)
	defer cancel()
	if err := n.rig.Healthy(ctx); err != nil {
		return fmt.Errorf("fault %d, %s, %v after its end: %w", i+1, what, *recovery, err)
	}
	t := tallies[f.name]
	if t == nil {
		t = &tally{}
		tallies[f.name] = t
	}
	t.times++
	t.recovered = max(t.recovered, time.Since(healed))
	t.gap = max(t.gap, l.widest())
	return nil
}
