package redisapi

import (
	"slices"
	"time"

	"github.com/larder-cache/larder/engine"
)

// A pause is what CLIENT PAUSE asked for.
type pause struct {
	until time.Time
	all   bool // not only commands that write
}

// holds reports whether a session's command has to wait for the end of a pause.
func (st *cacheState) holds(s *Session, cmd *engine.Command) bool {
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
	return p.all || changes(cmd) || cmd.Name == "EXEC" && s.multi != nil && slices.ContainsFunc(s.multi.calls, func(c engine.Call) bool { return changes(c.Command) })
}

// changes reports whether a pause of writes holds a command: it writes, or others hear of it, or, like PFCOUNT, it does in
// Redis.
func changes(cmd *engine.Command) bool {
	return cmd.Flags&engine.Writes != 0 || cmd.Name == "PUBLISH" || cmd.Name == "SPUBLISH" || cmd.Name == "PFCOUNT"
}

// exempt are commands that no pause holds: with them it is ended.
var exempt = set("CLIENT|UNPAUSE", "CLIENT|ID", "CLIENT|KILL", "CLIENT|LIST", "CLIENT|INFO", "AUTH", "HELLO", "QUIT", "RESET", "INFO", "MULTI", "DISCARD")

// hold has the session wait for the end of a pause, before the command that comes next.
func (s *Session) hold() {
	s.held, s.heldBy = true, s.state.pause.Load()
	s.facts.blocked.Store(true)
	s.facts.held.Store(true)
	if p := s.heldBy; p != nil {
		time.AfterFunc(time.Until(p.until)+time.Millisecond, s.wake)
	} else {
		s.wake() // it has ended meanwhile
	}
}

// pauseIsOver reports whether the pause that holds the session has ended or has become another one. A session that is
// attended to for another reason stays held.
func (s *Session) pauseIsOver() bool {
	return s.state == nil || s.heldBy == nil || s.state.pause.Load() != s.heldBy || !time.Now().Before(s.heldBy.until)
}

// setPause ends a pause, or sets another one.
func (srv *Server) setPause(st *cacheState, p *pause) {
	st.pause.Store(p)
	for _, s := range srv.clients(st) {
		s.wake()
	}
}
