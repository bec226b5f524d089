package main

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/larder-cache/larder/engine"
)

var emptySettings engine.Settings

// A Moment is the RSS at a time, and what it is made up of where that was asked for.
type Moment struct {
	Seconds float64
	RSS     int64

	Accounted, Live, Blocks, Apart, All, Heap int64 // the account; dense.Usage; what Go has of the system
}

// look fills in what a moment's RSS is made up of.
func (at *Moment) look(s *store) {
	u := s.p.Memory()
	at.Accounted, at.Live, at.Blocks, at.Apart, at.All, at.Heap = s.stats().Bytes, u.Live, u.Blocks, u.Apart, u.All, goMemory()
}

// Deleted tells how memory falls after most items were deleted.
type Deleted struct {
	Empty, Before, After int64
	Waiting              []Moment // nothing is written any more; maintenance goes on
	Forced               int64    // in the end, after runtime.GC and debug.FreeOSMemory
	Delete               Latency
}

// deleteChild deletes nine tenths of its items and then only does maintenance.
func deleteChild(j job, _ io.Reader, out *json.Encoder) {
	b := &storeBench{job: job{Name: "Larder", N: j.N}, keys: make([]byte, batch*keySize), ticked: time.Now()}
	answer := Deleted{Empty: settledRSS()}
	b.load(&histogram{}, &histogram{})
	l := b.c.(*larder)
	answer.Before = ownRSS()
	del := l.command("DEL", 1)
	order := newWalk(j.N, 4000)
	var h histogram
	for left := j.N / 10 * 9; left > 0; {
		n := min(batch, left)
		order.fill(b.keys[:n*keySize])
		b.tick(nil)
		b.watch.start()
		for i := range n {
			del.args[0] = b.keys[i*keySize:][:keySize]
			l.do(&del.task)
			b.watch.lap(&h)
		}
		b.watch.stop()
		left -= n
	}
	answer.After, answer.Delete = ownRSS(), h.latency()
	from := time.Now()
	for next := 5.; next <= j.Seconds; next += 5 {
		for time.Since(from).Seconds() < next {
			l.tick()
			time.Sleep(maintenance)
		}
		answer.Waiting = append(answer.Waiting, Moment{Seconds: next, RSS: ownRSS()})
	}
	answer.Forced = settledRSS()
	if got := l.stats().Items; got != int64(j.N-j.N/10*9) {
		panic("the wrong items were deleted: " + strconv.Itoa(int(got)) + " are left")
	}
	must(out.Encode(answer))
}

// Caches is what many nearly empty caches take.
type Caches struct{ Empty, Full int64 }

// cachesChild makes N caches of one small item in 16 partitions.
func cachesChild(j job, _ io.Reader, out *json.Encoder) {
	answer := Caches{Empty: settledRSS()}
	var partitions [16]*engine.Partition
	for i := range partitions {
		partitions[i] = engine.New(engine.Seed{uint64(i), 1})
	}
	entry := &engine.Entry{Now: time.Now().UnixMilli()}
	set := engine.Call{Command: engine.MustLookup("SET"), Args: [][]byte{[]byte("SET"), []byte("key"), []byte("value")}}
	for i := range j.N {
		var id engine.CacheID
		binary.LittleEndian.PutUint64(id[:], uint64(i+1))
		entry.Tasks = []*engine.Task{engine.ConfigureTask(id, engine.Settings{MemoryLimit: 64 << 20}), {Cache: id, Calls: []engine.Call{set}}}
		partitions[i%len(partitions)].Apply(entry)
	}
	entry.Tasks = nil
	for range 100 {
		for _, p := range partitions {
			maintain(p, entry.Now)
		}
	}
	answer.Full = settledRSS()
	var id engine.CacheID
	binary.LittleEndian.PutUint64(id[:], uint64(j.N))
	if s, ok := partitions[(j.N-1)%len(partitions)].Stats(id); !ok || s.Items != 1 {
		panic("a cache has lost its item")
	}
	must(out.Encode(answer))
}

// Mixed compares the account with the memory.
type Mixed struct{ Items, Accounted, Grown int64 }

// mixedTypes are the names of what mixedChild fills a store with.
var mixedTypes = []string{"strings", "hashes", "lists", "sets", "sorted sets", "all of them"}

// A mixer writes values of all types and sizes.
type mixer struct {
	s     *store
	r     *rand.Rand
	bytes []byte // random; values are pieces of it
	name  [keySize]byte
	text  [32]byte
	most  float64 // how long a string is at most, how many elements a collection has at most
	count float64
}

func newMixer(s *store) *mixer {
	m := &mixer{s: s, r: rand.New(rand.NewPCG(31, 32)), bytes: make([]byte, 1<<20), most: 100_000, count: 1000}
	for i := range m.bytes {
		m.bytes[i] = byte(m.r.Uint32())
	}
	return m
}

// between draws a number whose logarithm is evenly spread.
func (m *mixer) between(least, most float64) int {
	return int(least * math.Pow(most/least, m.r.Float64()))
}

func (m *mixer) value(size int) []byte { return m.bytes[m.r.IntN(len(m.bytes)-size):][:size] }

func (m *mixer) member() []byte {
	putKey(m.name[:], m.r.Uint64())
	return m.name[:]
}

// write gives a key a value of a type: a string, or a collection that gets up to most elements more.
func (m *mixer) write(kind int, key []byte, lifetime []byte) {
	switch kind {
	case 0:
		if lifetime != nil {
			m.s.run("SET", key, m.value(m.between(10, m.most)), px, lifetime)
		} else {
			m.s.run("SET", key, m.value(m.between(10, m.most)))
		}
		return
	default:
		for range m.between(1, m.count) {
			switch kind {
			case 1:
				m.s.run("HSET", key, m.member(), m.value(m.between(4, 200)))
			case 2:
				m.s.run("RPUSH", key, m.value(m.between(4, 200)))
			case 3:
				m.s.run("SADD", key, m.member())
			case 4:
				m.s.run("ZADD", key, appendScore(m.text[:0], m.r), m.member())
			}
		}
	}
	if lifetime != nil {
		m.s.run("PEXPIRE", key, lifetime)
	}
}

// mixedChild fills a store with values of one type, or all, up to a number of accounted bytes.
func mixedChild(j job, _ io.Reader, out *json.Encoder) {
	warm := make([]byte, 1<<20)
	for i := range warm {
		warm[i] = 1
	}
	kind := 0
	for i, name := range mixedTypes {
		if name == j.Name {
			kind = i
		}
	}
	m := newMixer(nil)
	empty := settledRSS()
	m.s = newStore(emptySettings)
	key := make([]byte, keySize)
	for i := 0; m.s.stats().Bytes < j.Bytes; i++ {
		putKey(key, uint64(i))
		if kind < 5 {
			m.write(kind, key, nil)
		} else {
			m.write(i%5, key, nil)
		}
		if i%64 == 0 {
			m.s.tick()
		}
	}
	for range 100 {
		m.s.tick()
	}
	if m.s.out.errors > 0 {
		panic(string(m.s.out.b))
	}
	grown := settledRSS() - empty
	stats := m.s.stats() // after the look at our memory, so that the store is still there
	must(out.Encode(Mixed{Items: stats.Items, Accounted: stats.Bytes, Grown: grown}))
}

// Soaked tells how memory went while a full cache churned.
type Soaked struct {
	Limit, Empty       int64
	Ops, Refused       int64
	Evicted, Expired   int64
	Items, Accounted   int64
	Samples            []Moment
	Least, Most        int64   // after the first tenth
	Peak               Moment  // of the most
	Flat               float64 // Most/Least
	Worst              Latency
	MostOverAccountRSS float64 // Most-Empty to the limit
}

// soakChild churns at a memory limit: values of all types, sizes that grow and shrink five times over the run,
// deadlines of a second to a minute on a third of the keys, deletions and reads.
func soakChild(j job, _ io.Reader, out *json.Encoder) {
	m := newMixer(nil)
	m.count = 100
	answer := Soaked{Limit: j.Bytes, Empty: settledRSS()}
	s := newStore(engine.Settings{MemoryLimit: j.Bytes})
	m.s = s
	key := make([]byte, keySize)
	var h histogram
	var watch stopwatch
	duration := time.Duration(j.Seconds * float64(time.Second))
	var from time.Time // once the cache is full
	started, ticked, next := time.Now(), time.Now(), 0.
	for i := 0; ; i++ {
		if i%16 == 0 {
			if time.Since(ticked) >= maintenance {
				s.tick()
				for tries := 0; tries < 50 && s.p.Due(s.now); tries++ {
					s.tick()
				}
				ticked = time.Now()
			}
			if from.IsZero() {
				if s.stats().Evicted > 0 || time.Since(started) > time.Minute {
					from = time.Now()
				}
			} else if passed := time.Since(from); passed >= duration {
				break
			} else if passed.Seconds() >= next {
				at := Moment{Seconds: passed.Seconds(), RSS: ownRSS()}
				at.look(s)
				answer.Samples = append(answer.Samples, at)
				next += max(duration.Seconds()/1000, 0.1)
				phase := 2 * math.Pi * 5 * passed.Seconds() / duration.Seconds()
				m.most = 3000 * math.Pow(30, -math.Cos(phase)) // 100 bytes to 90 kB
			}
		}
		n := m.r.Uint64N(1 << 20)
		putKey(key, n)
		kind := int(n % 10)
		if kind > 4 {
			kind = 0
		}
		var lifetime []byte
		if n%3 == 0 {
			lifetime = []byte(strconv.Itoa(m.between(1000, 60_000)))
		}
		watch.start()
		switch m.r.IntN(20) {
		case 0:
			s.run("DEL", key)
		case 1, 2, 3, 4, 5, 6, 7, 8:
			s.run("EXISTS", key)
		default:
			m.write(kind, key, lifetime)
		}
		watch.lap(&h)
		watch.stop()
		answer.Ops++
	}
	stats := s.stats()
	answer.Refused, answer.Evicted, answer.Expired = int64(s.out.errors), stats.Evicted, stats.Expired
	answer.Items, answer.Accounted, answer.Worst = stats.Items, stats.Bytes, h.latency()
	for _, at := range answer.Samples {
		if at.Seconds < duration.Seconds()/10 {
			continue
		}
		if answer.Least == 0 {
			answer.Least = at.RSS
		}
		if at.RSS > answer.Most {
			answer.Most, answer.Peak = at.RSS, at
		}
		answer.Least = min(answer.Least, at.RSS)
	}
	answer.Flat = float64(answer.Most) / float64(max(answer.Least, 1))
	answer.MostOverAccountRSS = float64(answer.Most-answer.Empty) / float64(j.Bytes)
	must(out.Encode(answer))
}
