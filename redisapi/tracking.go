package redisapi

import (
	"github.com/larder-cache/larder/engine"
)

// tracking is client-side caching: what a client wants to be told of the keys that it has read. It implements
// gateway.Tracker.
type tracking struct {
	s        *Session
	to       *Session // who is told: s, or the client that CLIENT TRACKING redirects to
	prefixes []string // in broadcast mode; "" for all keys
	bcast    bool
	optIn    bool
	optOut   bool
	noLoop   bool
	caching  bool // CLIENT CACHING was said for the next command
}

// Invalidate implements gateway.Tracker.
func (t *tracking) Invalidate(key []byte, origin any) {
	if t.noLoop && origin == any(t.s) {
		return
	}
	l := letter{redirected: t.to != t.s, flushed: key == nil}
	if key != nil {
		l.key = append([]byte{}, key...)
	}
	t.to.post(l, len(key))
}

// track remembers the keys that a command is about to read, for a client that keeps copies.
func (s *Session) track(cmd *engine.Command, args [][]byte) {
	t := s.tracking
	if t == nil || t.bcast {
		return
	}
	said := t.caching
	t.caching = false
	if cmd.Flags&engine.Writes != 0 || (t.optIn && !said) || (t.optOut && said) {
		return
	}
	for _, key := range cmd.AppendKeys(nil, args) {
		s.server.Gateway.Hub().Track(s.state.id, key, t)
	}
}

// startTracking has the client told of changes.
func (s *Session) startTracking(t *tracking) {
	s.stopTracking()
	s.tracking = t
	s.server.Gateway.Hub().BeginTracking(s.state.id, t, t.prefixes)
}

func (s *Session) stopTracking() {
	if t := s.tracking; t != nil {
		s.server.Gateway.Hub().EndTracking(s.state.id, t, t.prefixes)
		s.tracking = nil
	}
}

// deliverInvalidation writes which keys have changed.
func (s *Session) deliverInvalidation(l *letter) {
	switch {
	case s.out.proto == 3:
		s.out.Push(2)
		s.out.Text("invalidate")
	case l.redirected && s.channels[0]["__redis__:invalidate"]:
		s.out.Push(3)
		s.out.Text("message")
		s.out.Text("__redis__:invalidate")
	default:
		return // a client of RESP2 cannot be told
	}
	if l.flushed {
		s.out.Null()
		return
	}
	s.out.Array(1)
	s.out.Bulk(l.key)
}
