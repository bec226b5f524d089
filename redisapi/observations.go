package redisapi

import (
	"bytes"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
)

// observations are what this node has seen of a cache, for INFO and SLOWLOG.
type observations struct {
	threshold atomic.Int64 // microseconds from which a command is slow, negative for never
	keep      atomic.Int64 // entries of the slow log

	mu      sync.Mutex
	slowest []slowEntry // the newest last
	lastID  int64
	pace    pace
	since   engine.Stats // the cache's numbers when CONFIG RESETSTAT was sent last

	refusals atomic.Int64 // entries of the log of refusals
	refused  []*refusal   // the newest last
	lastNo   int64
}

// A pace is how fast commands come, as it was measured last.
type pace struct {
	at       time.Time
	commands int64
	rate     int64 // a second
}

type slowEntry struct {
	id     int64
	at     int64 // seconds since 1970
	micros int64
	args   [][]byte
	peer   string
	name   string
}

// Bounds of the slow log, as Redis has them.
const (
	slowArguments = 32
	slowBytes     = 128
)

func (o *observations) init() {
	o.threshold.Store(10_000)
	o.keep.Store(128)
	o.refusals.Store(128)
}

// slow notes a command that took so many nanoseconds.
func (st *cacheState) slow(s *Session, args [][]byte, nanos int64) {
	o := &st.observed
	e := slowEntry{at: s.server.now().Unix(), micros: nanos / 1000, peer: s.caller.Peer}
	for i, a := range args {
		if i == slowArguments-1 && len(args) > slowArguments {
			e.args = append(e.args, []byte("... ("+itoa(len(args)-slowArguments+1)+" more arguments)"))
			break
		}
		if len(a) > slowBytes {
			a = append(bytes.Clone(a[:slowBytes]), "... ("+itoa(len(a)-slowBytes)+" more bytes)"...)
		}
		e.args = append(e.args, bytes.Clone(a))
	}
	s.facts.mu.Lock()
	e.name = s.facts.name
	s.facts.mu.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	e.id = o.lastID
	o.lastID++
	o.slowest = append(o.slowest, e)
	if over := len(o.slowest) - int(o.keep.Load()); over > 0 {
		o.slowest = append(o.slowest[:0], o.slowest[over:]...)
	}
}

// unlogged are commands whose arguments nobody may see, and EXEC, whose commands are logged in its place.
var unlogged = set("AUTH", "HELLO", "ACL|SETUSER", "EXEC")

func itoa(n int) string { return strconv.Itoa(n) }
