// Command layouts compares ways to lay records out in memory, on the same requests: the engine's own (package dense),
// size classes, and a log that only appends and cleans. `make bench-layouts` runs it; what came out of it, and what we made
// of that, is docs/decisions/0013-where-records-lie.md.
//
// It is a module of its own, as nothing under internal in the main one may import the engine. The rivals are small, but meant to be as good as their idea: see slabs.go and log.go. Start with Layout.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

var layouts = []struct {
	name string
	make func(records int) Layout
}{
	{"dense", newDense},
	{"classes, 1.125", newSlabs(1.125)},
	{"classes, 1.25", newSlabs(1.25)},
	{"log", newLog},
}

// mostRecords is more than any workload holds at once.
const mostRecords = 400_000

func main() {
	log.SetFlags(0)
	only := flag.String("only", "", "play only workloads whose name begins so")
	rounds := flag.Int("rounds", 3, "how often each is played; the least time counts")
	flag.Parse()
	run(os.Stdout, *only, *rounds)
}

func run(out io.Writer, only string, rounds int) {
	runtime.LockOSThread()
	debug.SetGCPercent(-1) // a collection between rounds is enough, and none shows in a time
	fmt.Fprintln(out, "| workload | layout | memory / live, peak | memory / live, end | ns an operation | worst, µs | moved / written |")
	fmt.Fprintln(out, "|---|---|---|---|---|---|---|")
	for _, w := range workloads {
		if !strings.HasPrefix(w.name, only) {
			continue
		}
		for _, l := range layouts {
			var best result
			for i := range rounds {
				r := play(w, l.make, false)
				r.worst = play(w, l.make, true).worst
				if i == 0 {
					best = r
				}
				best.each, best.worst = min(best.each, r.each), min(best.worst, r.worst)
			}
			fmt.Fprintf(out, "| %s | %s | %.3f | %.3f | %d | %d | %.2f |\n", w.name, l.name, best.peak, best.end,
				best.each.Nanoseconds(), best.worst.Microseconds(), best.moved)
		}
	}
	fmt.Fprintln(out)
	for _, w := range workloads {
		fmt.Fprintf(out, "%s: %s.\n", w.name, w.what)
	}
}

type result struct {
	peak, end   float64 // memory per live byte
	each, worst time.Duration
	moved       float64
}

// play runs a workload, and times each request apart only if asked to, since that costs as much as the request.
func play(w workload, make func(int) Layout, apart bool) (res result) {
	c := newClient(make(mostRecords))
	defer c.layout.(interface{ Close() }).Close()
	runtime.GC()
	var began, worst time.Duration
	var live, memory int64
	c.before, c.after = func() {}, func() {
		if c.ops%64 == 0 {
			u := c.layout.Usage()
			live, memory = max(live, u.Live), max(memory, u.Memory)
		}
	}
	if apart {
		c.before, c.after = func() { began = cpuTime() }, func() { worst = max(worst, cpuTime()-began) }
	}
	from := cpuTime()
	w.run(c)
	res.each, res.worst = (cpuTime()-from)/time.Duration(c.ops), worst
	for c.layout.Maintain(1000) {
	}
	u := c.layout.Usage()
	res.peak, res.end = float64(memory)/float64(live), float64(u.Memory)/float64(u.Live)
	res.moved = float64(u.Moved) / float64(u.Written)
	return res
}

func newClient(layout Layout) *client {
	c := &client{rng: rand.New(rand.NewPCG(1, 13)), layout: layout, now: start, noise: make([]byte, 64<<10)}
	for i := range c.noise {
		c.noise[i] = byte(c.rng.Uint32())
	}
	c.before, c.after = func() {}, func() {}
	return c
}
