// Command layouts compares ways to lay records out in memory: the engine's own (package dense: compacting blocks whose
// holes are filled), size classes, and a log that only appends and cleans its emptiest blocks. All keep the same records
// with the same header, and the two prototypes share one index, a Go map that is not counted; of dense what is counted is its
// blocks. So the figures are about blocks alone.
//
// Run it with make bench-layouts. It prints a table in Markdown.
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"syscall"
	"time"
)

// A layout keeps values of given sizes under numbers.
type layout interface {
	put(key uint64, size int)
	remove(key uint64)
	maintain(steps int) (more bool)
	bytes() (live, taken int64) // of records, and of the blocks that hold them
	moved() int64               // bytes copied by maintenance
}

var layouts = []struct {
	name string
	make func() layout
}{
	{"holes filled, sparse blocks compacted (dense)", newDense},
	{"size classes, factor 1.125", func() layout { return newClasses(1.125) }},
	{"size classes, factor 1.25", func() layout { return newClasses(1.25) }},
	{"log, emptiest blocks cleaned", newLog},
}

// A workload is a sequence of writes and removals; step is called after each.
type workload struct {
	name string
	run  func(r *rand.Rand, n int, l layout, step func())
}

func between(r *rand.Rand, least, most float64) int {
	return int(least * math.Pow(most/least, r.Float64()))
}

var workloads = []workload{
	{"uniform 64 bytes", func(r *rand.Rand, n int, l layout, step func()) {
		for k := range n {
			l.put(uint64(k), 64)
			step()
		}
	}},
	{"mixed, 16 bytes to 16 KiB", func(r *rand.Rand, n int, l layout, step func()) {
		for k := range n / 20 {
			l.put(uint64(k), between(r, 16, 16<<10))
			step()
		}
	}},
	{"overwritten with growing values", func(r *rand.Rand, n int, l layout, step func()) {
		for round := range 10 {
			for range n / 5 {
				l.put(r.Uint64N(uint64(n/5)), int(64*math.Pow(1.1, float64(round))))
				step()
			}
		}
	}},
	{"overwritten, sizes vary by half", func(r *rand.Rand, n int, l layout, step func()) {
		for range 3 * n {
			l.put(r.Uint64N(uint64(n/2)), 64+r.IntN(128))
			step()
		}
	}},
	{"time to live: the oldest go, others come", func(r *rand.Rand, n int, l layout, step func()) {
		for k := range 3 * n {
			l.put(uint64(k), between(r, 32, 512))
			if k >= n/2 {
				l.remove(uint64(k - n/2))
			}
			step()
		}
	}},
	{"half deleted at random", func(r *rand.Rand, n int, l layout, step func()) {
		for k := range n {
			l.put(uint64(k), between(r, 32, 512))
			step()
		}
		for _, k := range r.Perm(n)[:n/2] {
			l.remove(uint64(k))
			step()
		}
	}},
	{"half deleted, and larger values come", func(r *rand.Rand, n int, l layout, step func()) {
		for k := range n {
			l.put(uint64(k), between(r, 32, 256))
			step()
		}
		for i, k := range r.Perm(n)[:n/2] {
			l.remove(uint64(k))
			l.put(uint64(n+i), between(r, 64, 512))
			step()
		}
	}},
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func main() {
	n := flag.Int("n", 200_000, "records of the largest workload")
	flag.Parse()
	fmt.Println("| workload | layout | peak bytes ÷ live | end bytes ÷ live | moved ÷ written | CPU ns a step |")
	fmt.Println("|---|---|--:|--:|--:|--:|")
	for _, w := range workloads {
		for _, kind := range layouts {
			l := kind.make()
			var peak float64
			steps := 0
			began := cpu()
			w.run(rand.New(rand.NewPCG(1, 2)), *n, l, func() {
				if steps++; steps%16 == 0 {
					l.maintain(256)
				}
				if live, taken := l.bytes(); taken > 16<<20 || steps > *n/4 {
					peak = max(peak, float64(taken)/float64(max(live, 1)))
				}
			})
			took := cpu() - began
			for l.maintain(4096) {
			}
			live, taken := l.bytes()
			fmt.Printf("| %s | %s | %.2f | %.2f | %.2f | %d |\n", w.name, kind.name, peak, float64(taken)/float64(live),
				float64(l.moved())/float64(written(l)), took.Nanoseconds()/int64(steps))
		}
	}
}

// header is what a record has beside key and value, as dense's have it.
const (
	header  = 4
	keySize = 8
)

func recordOf(buf []byte, key uint64, size int) []byte {
	n := header + keySize + size
	binary.LittleEndian.PutUint32(buf, uint32(n))
	binary.LittleEndian.PutUint64(buf[header:], key)
	return buf[:n]
}
