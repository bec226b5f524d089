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
	"unsafe"
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

// cpuTime is the processor time in nanoseconds that this process has used, in user and kernel, whatever in it used it.
func cpuTime() int64 {
	var u syscall.Rusage
	must(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return u.Utime.Nano() + u.Stime.Nano()
}

// processTime is cpuTime to the nanosecond.
func processTime() int64 {
	const clockProcess = 2 // CLOCK_PROCESS_CPUTIME_ID
	var t syscall.Timespec
	if _, _, err := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockProcess, uintptr(unsafe.Pointer(&t)), 0); err != 0 {
		panic(err)
	}
	return t.Nano()
}

// A histogram counts durations in buckets that are 1/32 wide.
type histogram struct {
	counts [64 * 32]int64
	total  int64
	sum    int64
	any    int64 // the longest
	worst  int64 // the longest, of each what the process was at work for: see stopwatch
	robbed int64 // how many took longer than what the process was at work for
}

// add counts an operation of d nanoseconds.
func (h *histogram) add(d int64) {
	h.counts[bucket(d)]++
	h.total++
	h.sum += d
	h.any = max(h.any, d)
	if d < slow {
		h.worst = max(h.worst, d)
	}
}

// work tells of a long operation of d nanoseconds that the process was at work for so many, at most.
func (h *histogram) work(d, spent int64) {
	h.worst = max(h.worst, min(d, spent))
	if spent < d {
		h.robbed++
	}
}

// slow is the duration in nanoseconds from which on a stopwatch asks what the process was at work for.
const slow = 10_000

// A stopwatch times operations that come right after one another. What others did with our processor while one ran is no fault of
// its: of one that took long, what counts as the worst is at most the processor time of the whole process for it and the few
// beside it, between two readings of that clock, which is too slow to be read for each.
type stopwatch struct {
	last, spent int64 // the clocks, when the last operation ended and when the group began
	n           int
	long        []lap // of this group
}

// group is how many operations come between two readings of the processor's clock.
const group = 16

type lap struct {
	h *histogram
	d int64
}

func (w *stopwatch) start() {
	w.n, w.long = 0, w.long[:0]
	w.spent = processTime()
	w.last = nanoseconds()
}

// lap ends an operation, and begins the next.
func (w *stopwatch) lap(h *histogram) {
	now := nanoseconds()
	d := now - w.last
	h.add(d)
	if d >= slow {
		w.long = append(w.long, lap{h, d})
	}
	if w.n++; w.n == group {
		w.stop()
		w.n, now = 0, nanoseconds()
	}
	w.last = now
}

// stop ends a group, and has to be called after the last operation.
func (w *stopwatch) stop() {
	spent := processTime()
	for _, l := range w.long {
		l.h.work(l.d, spent-w.spent)
	}
	w.spent, w.long = spent, w.long[:0]
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

// goMemory is what Go's runtime has from the system and has not given back, in bytes.
func goMemory() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(s)
	return int64(s[0].Value.Uint64() - s[1].Value.Uint64())
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
