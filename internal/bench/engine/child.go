package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"time"
)

// A job says what a child process is. Each contender of each size is a process of its own, this binary again.
type job struct {
	Kind     string // a key of children
	Name     string // the contender, or the type of mixed
	N        int    // items
	Lifetime bool
	Seconds  float64 // how long it waits or churns
	Bytes    int64   // accounted bytes to fill, or the memory limit
}

// children are the kinds of child processes: each measures, and writes its results to stdout as JSON.
var children = map[string]func(job, io.Reader, *json.Encoder){
	"store": storeChild, "zset": zsetChild, "delete": deleteChild, "caches": cachesChild, "mixed": mixedChild, "soak": soakChild,
}

// beChild runs a job in this process, on one processor of Go's.
func beChild(text string) {
	var j job
	must(json.Unmarshal([]byte(text), &j))
	runtime.GOMAXPROCS(1)
	_, _ = mallocs(), readGC() // what these need, they need before we begin
	children[j.Kind](j, os.Stdin, json.NewEncoder(os.Stdout))
}

// A child is a job's process as its parent sees it.
type child struct {
	cmd *exec.Cmd
	in  *json.Encoder
	end io.Closer
	out *json.Decoder
}

func startChild(j job) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, "-child", string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &child{cmd: cmd, in: json.NewEncoder(in), end: in, out: json.NewDecoder(bufio.NewReader(out))}, cmd.Start()
}

// ask sends a store child a request and reads the answer.
func (c *child) ask(r request, answer any) error {
	if err := c.in.Encode(r); err != nil {
		return err
	}
	return c.read(answer)
}

func (c *child) read(answer any) error {
	if err := c.out.Decode(answer); err != nil {
		return fmt.Errorf("a child process said nothing: %w", err)
	}
	return nil
}

func (c *child) stop() error {
	_ = c.end.Close() // it ends at the end of its input
	return c.cmd.Wait()
}

// once runs a job that answers once.
func once[T any](j job) (answer T, err error) {
	c, err := startChild(j)
	if err != nil {
		return answer, err
	}
	if err := c.read(&answer); err != nil {
		_ = c.stop()
		return answer, err
	}
	return answer, c.stop()
}

// A request tells a store child what to do next.
type request struct {
	Do      string // load, get, set, latency or gc
	Ops     int
	Many    bool // manyCalls to a task
	Seconds float64
}

// Loaded is the answer to load.
type Loaded struct {
	PerItem   float64 // bytes of RSS
	Accounted float64 // bytes for each item as Larder accounts them
	Insert    Latency
}

// Speed is the answer to get and set.
type Speed struct {
	Nanoseconds float64 // of processor time, for each operation
	Allocations float64 // for each operation
	Found       float64 // share of the keys that were there
}

// Tails is the answer to latency.
type Tails struct{ Get, Set, Tick Latency }

// Collector is the answer to gc.
type Collector struct {
	Pause    float64 // seconds, the longest stop of the world, bounded from above
	CycleCPU float64 // seconds of processor time that one cycle takes
	CPU      float64 // share of the processor's time
	Derived  bool    // CPU was not measured but computed from CycleCPU and how often a cycle would come
}

type storeBench struct {
	job
	c          contender
	many       batcher
	ticker     maintained
	ticked     time.Time
	keys       []byte
	gets, sets *walk
	watch      stopwatch
	garbage    []byte
}

func storeChild(j job, in io.Reader, out *json.Encoder) {
	b := &storeBench{job: j, keys: make([]byte, batch*keySize), gets: newWalk(j.N, 1000), sets: newWalk(j.N, 2000), ticked: time.Now()}
	for i := range b.keys {
		b.keys[i] = 'k'
	}
	h := [3]*histogram{{}, {}, {}}
	for _, h := range h { // touched before the first look at our memory
		for i := range h.counts {
			h.counts[i] = 1
		}
	}
	requests := json.NewDecoder(in)
	for {
		var r request
		if err := requests.Decode(&r); err == io.EOF {
			return
		} else if err != nil {
			panic(err)
		}
		for _, h := range h {
			*h = histogram{}
		}
		var answer any
		switch r.Do {
		case "load":
			answer = b.load(h[0], h[1])
		case "get", "set":
			answer = b.speed(r.Do == "get", r.Ops, r.Many)
		case "latency":
			answer = b.latency(r.Ops, h)
		case "gc":
			answer = b.collector(r.Seconds)
		}
		must(out.Encode(answer))
	}
}

// load puts in the items in the order of their numbers, each timed.
func (b *storeBench) load(h, ticks *histogram) Loaded {
	empty := settledRSS()
	c, err := newContender(b.Name, b.N, b.Lifetime)
	must(err)
	b.c = c
	b.many, _ = c.(batcher)
	b.ticker, _ = c.(maintained)
	for done := 0; done < b.N; done += batch {
		n := min(batch, b.N-done)
		for i := range n {
			putKey(b.keys[i*keySize:][:keySize], uint64(done+i))
		}
		b.tick(ticks)
		b.watch.start()
		for i := range n {
			key := b.keys[i*keySize:][:keySize]
			c.set(key, valueFor(key))
			b.watch.lap(h)
		}
		b.watch.stop()
	}
	for range 100 { // a second's worth
		if b.ticker != nil {
			b.ticker.tick()
		}
	}
	answer := Loaded{PerItem: float64(settledRSS()-empty) / float64(b.N), Insert: h.latency()}
	if l, ok := c.(*larder); ok {
		answer.Accounted = float64(l.stats().Bytes) / float64(b.N)
	}
	return answer
}

// tick does background work when its time has come.
func (b *storeBench) tick(h *histogram) {
	if b.ticker == nil || time.Since(b.ticked) < maintenance {
		return
	}
	if h == nil {
		b.ticker.tick()
	} else {
		b.watch.start()
		b.ticker.tick()
		b.watch.lap(h)
		b.watch.stop()
	}
	b.ticked = time.Now()
}

// speed does ops operations and measures, a batch of keys at a time, the processor time of the whole process: the
// collector and other goroutines count, other processes on a busy machine do not.
func (b *storeBench) speed(get bool, ops int, many bool) Speed {
	found, spent, done := 0, int64(0), 0
	before := mallocs()
	for ; done < ops; done += batch {
		if get {
			b.gets.fill(b.keys)
		} else {
			b.sets.fill(b.keys)
		}
		from := cpuTime()
		found += b.some(get, many)
		b.tick(nil)
		spent += cpuTime() - from
	}
	return Speed{Nanoseconds: float64(spent) / float64(done), Allocations: float64(mallocs()-before) / float64(done), Found: float64(found) / float64(done)}
}

// some does one operation on each of the keys at hand and reports how many were found.
func (b *storeBench) some(get, many bool) (found int) {
	keys := b.keys
	switch {
	case get && many:
		for ; len(keys) > 0; keys = keys[manyCalls*keySize:] {
			found += b.many.getMany(keys)
		}
	case get:
		for ; len(keys) > 0; keys = keys[keySize:] {
			if b.c.get(keys[:keySize]) {
				found++
			}
		}
	case many:
		for ; len(keys) > 0; keys = keys[manyCalls*keySize:] {
			b.many.setMany(keys)
		}
		found = batch
	default:
		for ; len(keys) > 0; keys = keys[keySize:] {
			b.c.set(keys[:keySize], valueFor(keys))
		}
		found = batch
	}
	return found
}

// latency times single operations: GETs and SETs in turn, of other keys.
func (b *storeBench) latency(ops int, h [3]*histogram) Tails {
	get, set, ticks := h[0], h[1], h[2]
	for done := 0; done < ops; done += batch {
		b.gets.fill(b.keys[:batch/2*keySize])
		b.sets.fill(b.keys[batch/2*keySize:])
		b.tick(ticks)
		b.watch.start()
		for i := range batch {
			at := i / 2 * keySize
			h := get
			if i%2 == 0 {
				b.c.get(b.keys[at:][:keySize])
			} else {
				h = set
				key := b.keys[batch/2*keySize+at:][:keySize]
				b.c.set(key, valueFor(key))
			}
			b.watch.lap(h)
		}
		b.watch.stop()
	}
	return Tails{Get: get.latency(), Set: set.latency(), Tick: ticks.latency()}
}

// garbageRate is how many bytes a second of short-lived garbage the process makes while we watch the collector:
// as the protocols around a cache do, and the same for each contender whatever its speed.
const garbageRate = 100 << 20

// load80 does GETs and SETs, four to one, and makes garbage, until the deadline has passed and enough reports true.
func (b *storeBench) load80(least time.Duration, enough func() bool) {
	from := time.Now()
	made := 0
	for round := 0; ; round++ {
		passed := time.Since(from)
		if passed >= least && enough() {
			return
		}
		for made < int(passed.Seconds()*garbageRate) {
			b.garbage = make([]byte, 256)
			made += 256
		}
		if round%5 == 0 {
			b.sets.fill(b.keys)
		} else {
			b.gets.fill(b.keys)
		}
		b.some(round%5 != 0, false)
		b.tick(nil)
		runtime.Gosched() // as a server would: it waits for its clients now and then
	}
}

// collector watches the collector under load: first a cycle that we ask for, to see what one costs, then those
// that come by themselves within some seconds.
func (b *storeBench) collector(seconds float64) Collector {
	runtime.GC()
	start := readGC()
	done := make(chan struct{})
	go func() { runtime.GC(); close(done) }()
	b.load80(100*time.Millisecond, func() bool {
		select {
		case <-done:
			return true
		default:
			return false
		}
	})
	forced := readGC()
	answer := Collector{CycleCPU: (forced.gcCPU - start.gcCPU) / float64(max(1, forced.cycles-start.cycles))}
	from := time.Now()
	b.load80(time.Duration(seconds*float64(time.Second)), func() bool { return true })
	passed := time.Since(from).Seconds()
	end := readGC()
	answer.Pause = longestPause(start, end)
	if cycles := end.cycles - forced.cycles; cycles >= 5 {
		answer.CPU = (end.gcCPU - forced.gcCPU) / (end.allCPU - forced.allCPU)
		return answer
	}
	rate := float64(end.allocated-forced.allocated) / passed
	answer.Derived = true
	answer.CPU = answer.CycleCPU * rate / math.Max(float64(forced.goal-min(forced.live, forced.goal)), 2<<20)
	answer.CPU = math.Min(answer.CPU, 1)
	return answer
}
