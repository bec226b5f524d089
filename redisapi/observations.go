package redisapi

import (
	"bytes"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/larder-cache/larder/engine"
)

// observations are what this node has seen of a cache, for INFO and SLOWLOG.
type observations struct {
	connections atomic.Int64 // logins so far
	threshold   atomic.Int64 // microseconds from which a command is slow, negative for never
	keep        atomic.Int64 // entries of the slow log

	mu      sync.Mutex
	slowest []slowEntry // the newest last
	lastID  int64
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
}

// slow notes a command that took so many nanoseconds, if that was long.
func (st *cacheState) slow(s *Session, args [][]byte, nanos int64) {
	o := &st.observed
	limit := o.threshold.Load()
	if limit < 0 || nanos/1000 < limit || len(args) == 0 {
		return
	}
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

// secret are commands whose arguments nobody may see.
var secret = set("AUTH", "HELLO", "ACL|SETUSER")

func (s *Session) noteSlow(cmd *engine.Command, args [][]byte, nanos int64) {
	if !secret[cmd.Name] {
		s.state.slow(s, args, nanos)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }
