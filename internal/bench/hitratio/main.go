// Command hitratio compares what the engine's eviction policies keep with what the textbook policies, otter's
// W-TinyLFU and Belady's optimum keep, on recorded and on made-up traces, at equal numbers of items.
//
// It is a module of its own, because otter is needed for nothing else. `make bench-hitratio` runs it.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/hitratio"
	"github.com/larder-cache/larder/internal/textbook"
	"github.com/larder-cache/larder/internal/traces"
)

const wTinyLFU = "w-tinylfu"

// bar is by how many points of hit ratio the default may stay below the best of the others.
const bar = 0.5

var rivals = []string{"lru", "s3fifo", "sieve", "arc", wTinyLFU}

// A recorded trace, and the capacities in common use for it.
type recorded struct {
	file       string
	format     traces.Format
	capacities []int
}

var eighths = []int{250, 500, 750, 1000, 1250, 1500, 1750, 2000}

var files = []recorded{
	{"oltp.gz", traces.ARC, eighths},
	{"loop.gz", traces.Keys, []int{256, 512, 768, 1024}},
	{"gli.gz", traces.Keys, eighths},
}

func main() {
	dir := flag.String("traces", "", "folder of oltp.gz, loop.gz and gli.gz; without it, only made-up traces are played")
	only := flag.String("only", "", "play only traces whose name begins so")
	policies := flag.String("policies", strings.Join(engineAllKeys(), ","), "the engine's policies to show, its default first")
	flag.Parse()
	if err := run(os.Stdout, *dir, *only, strings.Split(*policies, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "hitratio:", err)
		os.Exit(1)
	}
}

// engineAllKeys lists the engine's policies that evict any key; the others do the same to those with a deadline.
func engineAllKeys() []string {
	return slices.DeleteFunc(slices.Clone(engine.EvictionPolicies()), func(name string) bool { return !strings.HasPrefix(name, "allkeys-") })
}

// A job is a trace at one capacity.
type job struct {
	trace    func() (*traces.Trace, error)
	name     string
	capacity int
	ratios   map[string]float64
	metadata float64
	err      error
}

func run(out io.Writer, dir, only string, ours []string) error {
	var jobs []*job
	add := func(name string, capacities []int, load func() (*traces.Trace, error)) {
		if strings.HasPrefix(name, only) {
			load = sync.OnceValues(load)
			for _, c := range capacities {
				jobs = append(jobs, &job{trace: load, name: name, capacity: c})
			}
		}
	}
	if dir != "" {
		for _, f := range files {
			add(strings.TrimSuffix(f.file, ".gz"), f.capacities, func() (*traces.Trace, error) {
				return traces.Open(filepath.Join(dir, f.file), nil, f.format)
			})
		}
	}
	for _, s := range traces.Patterns() {
		add(s.Name, s.Capacities, func() (*traces.Trace, error) { return s.Trace(), nil })
	}

	fmt.Fprintf(out, "Hit ratio in per cent. The bar: %s at most %.1f below the best of %s.\n\n", ours[0], bar, strings.Join(rivals, ", "))
	fmt.Fprintf(out, "%-14s %8s ", "trace", "items")
	for _, name := range append(slices.Clone(rivals), "best") {
		fmt.Fprintf(out, " %9s", name)
	}
	for _, name := range ours {
		fmt.Fprintf(out, " %9s", strings.TrimPrefix(name, "allkeys-"))
	}
	fmt.Fprintf(out, " %9s %9s %9s\n", "− best", "belady", "bytes")

	queue, wait := make(chan *job), sync.WaitGroup{}
	done := make([]chan struct{}, len(jobs))
	for i := range done {
		done[i] = make(chan struct{})
	}
	for range 2 {
		wait.Go(func() {
			for j := range queue {
				j.err = j.play(ours)
				close(done[slices.Index(jobs, j)])
			}
		})
	}
	go func() {
		for _, j := range jobs {
			queue <- j
		}
		close(queue)
	}()
	below, worst := 0, 0.0
	for i, j := range jobs {
		<-done[i]
		if j.err != nil {
			return fmt.Errorf("%s, %d items: %w", j.name, j.capacity, j.err)
		}
		if d := j.print(out, ours); d < -bar {
			below, worst = below+1, min(worst, d)
		}
		*j = job{}
	}
	wait.Wait()
	fmt.Fprintf(out, "\nBelow the bar: %d of %d, at worst by %.2f points.\n", below, len(jobs), -worst)
	fmt.Fprintf(out, "Bytes of metadata for each item: the last column for %s beside the item's 4; ", ours[0])
	for _, name := range rivals[:4] {
		fmt.Fprintf(out, "%s %s, ", name, textbook.MetadataBytes(name))
	}
	fmt.Fprintf(out, "%s about 8 of sketch and 26 in its nodes; with + for what they remember of evicted items.\n", wTinyLFU)
	return nil
}

// play plays the trace with every policy.
func (j *job) play(ours []string) error {
	t, err := j.trace()
	if err != nil {
		return err
	}
	j.ratios = map[string]float64{}
	for _, name := range slices.Concat(rivals, ours, []string{"belady", hitratio.Direct}) {
		var r hitratio.Result
		if name == wTinyLFU {
			r.Ratio, err = textbook.Replay(t, newTinyLFU(j.capacity), j.capacity)
		} else {
			r, err = hitratio.Run(t, name, j.capacity)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		j.ratios[name] = 100 * r.Ratio
		j.metadata = r.Metadata
	}
	return nil
}

// print prints the job's row and returns how far the first of ours is above the best.
func (j *job) print(out io.Writer, ours []string) float64 {
	fmt.Fprintf(out, "%-14s %8d ", j.name, j.capacity)
	best := 0.0
	for _, name := range rivals {
		best = max(best, j.ratios[name])
		fmt.Fprintf(out, " %9.2f", j.ratios[name])
	}
	fmt.Fprintf(out, " %9.2f", best)
	for _, name := range ours {
		fmt.Fprintf(out, " %9.2f", j.ratios[name])
	}
	d, mark := j.ratios[ours[0]]-best, ' '
	if d < -bar {
		mark = '*'
	}
	fmt.Fprintf(out, " %+8.2f%c %9.2f %9.1f\n", d, mark, j.ratios["belady"], j.metadata)
	return d
}
