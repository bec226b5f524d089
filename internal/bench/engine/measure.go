package main

import (
	"bytes"
	"fmt"
	"math"
	"math/bits"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"syscall"
	"time"
)

// rss is a process's resident memory in bytes, as /proc/PID/status gives it.
func rss(pid string) int64 {
	text, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		panic(err)
	}
	_, rest, found := bytes.Cut(text, []byte("VmRSS:"))
	if !found {
		panic("no VmRSS of process " + pid)
	}
	fields := bytes.Fields(rest[:bytes.IndexByte(rest, '\n')])
	kib, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		panic(err)
	}
	return kib << 10
}

func ownRSS() int64 { return rss("self") }

// settledRSS is our RSS once the collector has given back all it can. It is measured alike for every contender.
func settledRSS() int64 {
	runtime.GC()
	debug.FreeOSMemory()
	return ownRSS()
}

// began is where our clock starts; nanoseconds reads it.
var began = time.Now()

func nanoseconds() int64 { return int64(time.Since(began)) }

// preemptions counts how often the kernel took a processor from this process for another's sake.
func preemptions() int64 {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Nivcsw
}

// cpuTime is the processor time in nanoseconds that this process has used, in user and kernel, whatever in it used it.
func cpuTime() int64 {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}

// A histogram counts durations in buckets that are 1/32 wide.
type histogram struct {
	counts [64 * 32]int64
	total  int64
	sum    int64
	any    int64 // the longest
	worst  int64 // the longest during which the kernel took the processor from us for nobody
	robbed int64 // how many long ones the kernel interrupted for another process
	before int64 // preemptions so far
}

// slow is the duration in nanoseconds from which on the kernel is asked whether it interrupted us.
const slow = 10_000

// begin notes where a run of measured operations begins.
func (h *histogram) begin() { h.before = preemptions() }

// add counts an operation of d nanoseconds, and reports whether it took long: the caller then reads its clock again.
func (h *histogram) add(d int64) (long bool) {
	h.counts[bucket(d)]++
	h.total++
	h.sum += d
	h.any = max(h.any, d)
	if d < slow {
		h.worst = max(h.worst, d)
		return false
	}
	now := preemptions()
	if now == h.before {
		h.worst = max(h.worst, d)
	} else {
		h.robbed++
	}
	h.before = now
	return true
}

func bucket(d int64) int {
	u := uint64(max(d, 0))
	if u < 32 {
		return int(u)
	}
	shift := bits.Len64(u) - 6
	return shift*32 + int(u>>shift)
}

// bound is the upper bound of a bucket.
func bound(bucket int) int64 {
	if bucket < 64 {
		return int64(bucket)
	}
	shift := bucket/32 - 1
	return int64(bucket%32+33) << shift
}

// quantile is the duration that a share q of all is no longer than.
func (h *histogram) quantile(q float64) int64 {
	left := int64(math.Ceil(q * float64(h.total)))
	for b, n := range h.counts {
		if left -= n; left <= 0 {
			return min(bound(b), h.any)
		}
	}
	return h.any
}

// Latency is what is told of a histogram, in nanoseconds.
type Latency struct {
	Mean, P50, P999, Worst, Any float64
	Robbed, Ops                 int64
}

func (h *histogram) latency() Latency {
	if h.total == 0 {
		return Latency{}
	}
	return Latency{Mean: float64(h.sum) / float64(h.total), P50: float64(h.quantile(.5)), P999: float64(h.quantile(.999)),
		Worst: float64(h.worst), Any: float64(h.any), Robbed: h.robbed, Ops: h.total}
}

// gcNumbers are the collector's accounts at one moment.
type gcNumbers struct {
	pauses        *metrics.Float64Histogram
	gcCPU, allCPU float64 // seconds; up to date as of the last cycle
	cycles        uint64
	allocated     uint64 // bytes, ever
	live, goal    uint64 // bytes
}

func readGC() (n gcNumbers) {
	s := []metrics.Sample{
		{Name: "/sched/pauses/total/gc:seconds"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"},
		{Name: "/cpu/classes/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}, {Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/goal:bytes"},
	}
	metrics.Read(s)
	h := s[0].Value.Float64Histogram()
	return gcNumbers{
		pauses: &metrics.Float64Histogram{Counts: append([]uint64(nil), h.Counts...), Buckets: h.Buckets},
		gcCPU:  s[1].Value.Float64() - s[2].Value.Float64(), allCPU: s[3].Value.Float64() - s[4].Value.Float64(),
		cycles: s[5].Value.Uint64(), allocated: s[6].Value.Uint64(), live: s[7].Value.Uint64(), goal: s[8].Value.Uint64(),
	}
}

// longestPause bounds the longest stop-the-world pause between two readings from above, in seconds.
func longestPause(from, to gcNumbers) (longest float64) {
	for i, n := range to.pauses.Counts {
		if n > from.pauses.Counts[i] {
			longest = to.pauses.Buckets[i+1]
		}
	}
	return longest
}

func mallocs() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func note(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}
