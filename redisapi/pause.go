package redisapi

import (
	"time"

	"github.com/larder-cache/larder/engine"
)

// A pause is what CLIENT PAUSE asked for.
type pause struct {
	until time.Time
	all   bool // not only commands that write
}

// holds reports whether a command has to wait for the end of a pause.
func (st *cacheState) holds(cmd *engine.Command) bool {
	p := st.pause.Load()
	if p == nil {
		return false
	}
	if !time.Now().Before(p.until) {
		st.pause.CompareAndSwap(p, nil)
		return false
	}
	if exempt[cmd.Name] {
		return false
	}
	return p.all || cmd.Flags&engine.Writes != 0 || cmd.Name == "EXEC" || cmd.Name == "PUBLISH" || cmd.Name == "SPUBLISH"
}

// exempt are commands that no pause holds: with them it is ended.
var exempt = set("CLIENT", "CLIENT|UNPAUSE", "CLIENT|PAUSE", "CLIENT|ID", "CLIENT|KILL", "CLIENT|LIST", "CLIENT|INFO", "AUTH", "HELLO", "QUIT", "RESET", "PING", "INFO", "MULTI", "DISCARD")

// hold has the session wait for the end of a pause, before the command that comes next.
func (s *Session) hold() {
	s.held = true
	s.facts.blocked.Store(true)
	if p := s.state.pause.Load(); p != nil {
		time.AfterFunc(time.Until(p.until)+time.Millisecond, s.wake)
	}
}

// unpause ends a pause, or sets another one.
func (srv *Server) setPause(st *cacheState, p *pause) {
	st.pause.Store(p)
	for _, s := range srv.clients(st) {
		s.wake()
	}
}
