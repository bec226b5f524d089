package main

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/memory"
	"github.com/larder-cache/larder/internal/fault"
)

// maintain does what replication.Local does in the background, with the partition's lock held: it removes expired items
// and gives memory back, a batch of each. It is called every 10 ms. Without the lock, tick has memory made ready.
func maintain(p *engine.Partition, now int64) {
	if p.Due(now) {
		if task := p.Sweep(now, 200); task != nil {
			p.Apply(&engine.Entry{Now: now, Tasks: []*engine.Task{task}})
		}
	}
	if !p.Idle() {
		p.Maintain(500)
	}
}

// maintenance is how often maintain is called.
const maintenance = 10 * time.Millisecond

// manyCalls is how many calls stand in a task of the second way to ask Larder: a pipeline.
const manyCalls = 16

// store is a partition with one cache, asked as replication.Local asks it: under a lock, and before a write
// there is Relieve. The caller's clock is read once for each batch of keys.
type store struct {
	mu    sync.Mutex
	p     *engine.Partition
	cache engine.CacheID
	now   int64
	dice  *rand.PCG
	entry engine.Entry
	out   encoder
}

func newStore(s engine.Settings) *store {
	st := &store{p: engine.New(engine.Seed{11, 12}), cache: engine.CacheID{1}, dice: rand.NewPCG(13, 14)}
	st.clock()
	st.do(engine.ConfigureTask(st.cache, s))
	return st
}

func (s *store) clock() { s.now = max(s.now, time.Now().UnixMilli()) }

// do carries out a task; its replies stand in s.out until the next.
func (s *store) do(t *engine.Task) {
	s.mu.Lock()
	s.out.b, s.out.nulls = s.out.b[:0], 0
	t.Reply = &s.out
	if !t.Writes() {
		s.p.Query(s.now, s.dice.Uint64(), t)
		s.mu.Unlock()
		return
	}
	s.entry.Now, s.entry.Seed, s.entry.Tasks = s.now, s.dice.Uint64(), s.entry.Tasks[:0]
	if relief := s.p.Relieve(s.now, s.entry.Seed, t); relief != nil {
		s.entry.Tasks = append(s.entry.Tasks, relief)
	}
	s.entry.Tasks = append(s.entry.Tasks, t)
	s.p.Apply(&s.entry)
	s.mu.Unlock()
}

func (s *store) tick() {
	s.clock()
	s.mu.Lock()
	maintain(s.p, s.now)
	s.mu.Unlock()
	for {
		s.mu.Lock()
		ahead := s.p.Ahead()
		s.mu.Unlock()
		if ahead == nil {
			return
		}
		memory.Prepare(ahead)
	}
}

func (s *store) stats() engine.Stats {
	stats, _ := s.p.Stats(s.cache)
	return stats
}

// A command is a task of one call whose arguments are put in before each use.
type command struct {
	task engine.Task
	args [][]byte // without the name
}

func (s *store) command(name string, args int) *command {
	all := make([][]byte, 1+args)
	all[0] = []byte(name)
	return &command{task: engine.Task{Cache: s.cache, Calls: []engine.Call{{Command: engine.MustLookup(name), Args: all}}}, args: all[1:]}
}

// run is do for a command written out; it allocates, so it is for what is not timed.
func (s *store) run(name string, args ...[]byte) {
	all := append([][]byte{[]byte(name)}, args...)
	s.do(&engine.Task{Cache: s.cache, Calls: []engine.Call{{Command: engine.MustLookup(name), Args: all}}})
}

// larder is the contender.
type larder struct {
	*store
	lifetime           bool
	getOne, setOne     *command
	getCalls, setCalls engine.Task
}

func newLarder(lifetime bool) *larder {
	l := &larder{store: newStore(engine.Settings{}), lifetime: lifetime}
	setArgs := 2
	if lifetime {
		setArgs = 4
	}
	l.getOne, l.setOne = l.command("GET", 1), l.command("SET", setArgs)
	l.getCalls, l.setCalls = engine.Task{Cache: l.cache}, engine.Task{Cache: l.cache}
	for range manyCalls {
		l.getCalls.Calls = append(l.getCalls.Calls, l.command("GET", 1).task.Calls[0])
		l.setCalls.Calls = append(l.setCalls.Calls, l.command("SET", setArgs).task.Calls[0])
	}
	return l
}

func (l *larder) get(key []byte) bool {
	l.getOne.args[0] = key
	l.do(&l.getOne.task)
	return l.out.nulls == 0
}

func (l *larder) set(key, value []byte) {
	l.fill(l.setOne.args, key, value)
	l.do(&l.setOne.task)
}

var px = []byte("PX")

func (l *larder) fill(args [][]byte, key, value []byte) {
	args[0], args[1] = key, value
	if l.lifetime {
		args[2], args[3] = px, lifetimeOf(key).text
	}
}

func (l *larder) getMany(keys []byte) int {
	for i := range l.getCalls.Calls {
		l.getCalls.Calls[i].Args[1] = keys[i*keySize:][:keySize]
	}
	l.do(&l.getCalls)
	return manyCalls - l.out.nulls
}

func (l *larder) setMany(keys []byte) {
	for i := range l.setCalls.Calls {
		key := keys[i*keySize:][:keySize]
		l.fill(l.setCalls.Calls[i].Args[1:], key, valueFor(key))
	}
	l.do(&l.setCalls)
}

// valueFor chooses a value by two of the key's digits.
func valueFor(key []byte) []byte { return values[key[0]&15<<4|key[1]&15] }

// An encoder is a Reply that writes RESP3 behind one another into a buffer that is used again, as a protocol's
// encoder does.
type encoder struct {
	b      []byte
	nulls  int // how many Null there were: missing keys
	errors int // how many errors there were since the encoder was made
}

func (e *encoder) length(kind byte, n int) {
	e.b = append(e.b, kind)
	e.b = strconv.AppendInt(e.b, int64(n), 10)
	e.b = append(e.b, '\r', '\n')
}

func (e *encoder) Null()       { e.nulls++; e.b = append(e.b, "_\r\n"...) }
func (e *encoder) NullArray()  { e.Null() }
func (e *encoder) Int(n int64) { e.length(':', int(n)) }
func (e *encoder) Array(n int) { e.length('*', n) }
func (e *encoder) Map(n int)   { e.length('%', n) }
func (e *encoder) Pairs(n int) { e.length('*', 2*n) }

func (e *encoder) Keyed(n int)     { e.Pairs(n) }
func (e *encoder) Set(n int)       { e.length('~', n) }
func (e *encoder) Status(s string) { e.b = append(append(append(e.b, '+'), s...), '\r', '\n') }

func (e *encoder) Bool(v bool) {
	if v {
		e.b = append(e.b, "#t\r\n"...)
	} else {
		e.b = append(e.b, "#f\r\n"...)
	}
}

func (e *encoder) Double(f float64) {
	e.b = strconv.AppendFloat(append(e.b, ','), f, 'g', -1, 64)
	e.b = append(e.b, '\r', '\n')
}

func (e *encoder) Bulk(b []byte) {
	e.length('$', len(b))
	e.b = append(append(e.b, b...), '\r', '\n')
}

func (e *encoder) Text(s string) {
	e.length('$', len(s))
	e.b = append(append(e.b, s...), '\r', '\n')
}

func (e *encoder) Error(err *fault.Error) {
	e.errors++
	e.b = append(append(append(e.b, '-'), err.Message...), '\r', '\n')
}
