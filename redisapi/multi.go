package redisapi

import (
	"bytes"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A transaction is what MULTI has queued. Its commands are checked when they are queued, and carried out by EXEC as one
// task, which nothing of others comes into.
type transaction struct {
	calls  []engine.Call
	bytes  int
	words  int
	spoilt bool // a command was refused, so EXEC refuses all
	lasts  bool // it may take long
}

// nothing is what is carried out when only the watches are asked.
var nothing = engine.Call{Command: engine.MustLookup("PING"), Args: [][]byte{[]byte("PING")}}

// Bounds of a transaction, and of the keys that it depends on.
const (
	maxQueued       = 100_000
	maxQueuedBytes  = 64 << 20
	maxWatchedBytes = 16 << 20
	manyQueued      = 4096 // words of commands that are quick each
)

// A watchedKey is one that a connection watches: once, however often it says so.
type watchedKey struct {
	db  int
	key string
}

func beginMulti(s *Session, _ *engine.Command, _ [][]byte) {
	if s.multi != nil {
		s.fail("ERR MULTI calls can not be nested")
		return
	}
	s.multi = &transaction{}
	s.noteMulti()
	s.out.Status("OK")
}

func (s *Session) noteMulti() {
	n, size := -1, 0
	if s.multi != nil {
		n, size = len(s.multi.calls), s.multi.bytes
	}
	s.facts.mu.Lock()
	s.facts.multi, s.facts.queued, s.facts.watch = n, size, len(s.watches)
	s.facts.mu.Unlock()
}

// queue adds a command to the transaction.
func (s *Session) queue(cmd *engine.Command, args [][]byte) {
	t := s.multi
	if noMulti[cmd.Name] {
		s.fail("ERR Command not allowed inside a transaction")
		return
	}
	if err := s.permit(cmd, args); err != nil {
		s.fail(fault.From(err).Redis())
		return
	}
	if handlers[cmd.Name] == nil {
		if err := s.server.Gateway.InOneStep(&s.caller, s.cache, engine.Call{Command: cmd, Args: args}); err != nil {
			s.fail(fault.From(err).Redis())
			return
		}
	}
	size := 0
	for _, a := range args {
		size += len(a) + 24
	}
	if len(t.calls) >= maxQueued || t.bytes+size > maxQueuedBytes {
		s.fail("ERR transaction is too large: it may have 100000 commands and 64 MiB")
		return
	}
	t.bytes += size
	own := make([][]byte, len(args))
	for i, a := range args {
		own[i] = bytes.Clone(a)
	}
	t.calls = append(t.calls, engine.Call{Command: cmd, Args: own})
	t.words += len(args)
	t.lasts = t.lasts || t.words > manyQueued || !cmd.Brief(args) || cmd.Group == engine.GroupScripting && len(t.calls) > 1
	s.noteMulti()
	s.out.Status("QUEUED")
}

func discard(s *Session, _ *engine.Command, _ [][]byte) {
	if s.multi == nil {
		s.out.ErrorText("ERR DISCARD without MULTI")
		return
	}
	s.multi = nil
	s.unwatch()
	s.noteMulti()
	s.out.Status("OK")
}

// aborted is how EXEC says that a transaction was not carried out, or that nobody knows.
func aborted(err error) string {
	text := fault.From(err).Redis()
	if fault.Is(err, fault.OutcomeUnknown) {
		return text
	}
	return "EXECABORT Transaction discarded because of: " + text
}

func exec(s *Session, _ *engine.Command, _ [][]byte) {
	t := s.multi
	if t == nil {
		s.out.ErrorText("ERR EXEC without MULTI")
		return
	}
	s.multi = nil
	defer s.noteMulti()
	defer s.unwatch()
	if t.spoilt {
		s.out.ErrorText("EXECABORT Transaction discarded because of previous errors.")
		return
	}
	mark, began := len(s.out.b), s.server.tick()
	var data []engine.Call
	for _, c := range t.calls {
		if handlers[c.Command.Name] == nil || c.Command.Name == "SELECT" {
			data = append(data, c)
		}
	}
	for _, c := range data {
		s.track(c.Command, c.Args)
	}
	mixed := len(data) < len(t.calls)
	r := s.newRequest(data)
	r.Whole, r.Watches = true, s.watches
	if mixed {
		s.record.Reset()
		r.Reply = &s.record
	} else {
		s.out.Array(len(t.calls))
	}
	var err error
	if len(data) > 0 || len(s.watches) > 0 {
		if len(data) == 0 { // the watches are asked all the same
			r.Calls = []engine.Call{nothing}
		}
		err = s.do(r)
	}
	switch {
	case fault.Is(err, fault.CrossSlot): // as a node of Redis Cluster says it
		s.out.b = s.out.b[:mark]
		s.out.Error(fault.From(err))
		return
	case err != nil:
		s.out.b = s.out.b[:mark]
		s.out.ErrorText(aborted(err))
		return
	case r.Stale:
		s.out.b = s.out.b[:mark]
		s.out.NullArray()
		return
	}
	s.state.tally.queued(t.calls)
	s.noteSlow(t.calls, (s.server.tick()-began)/int64(max(len(t.calls), 1)))
	for _, c := range t.calls {
		if c.Command.Name == "SELECT" {
			if n := engine.ParseDB(c.Args[1]); n >= 0 {
				s.setDB(n)
			}
		}
	}
	if !mixed {
		return
	}
	s.out.Array(len(t.calls))
	cursor := s.record.Cursor()
	for _, c := range t.calls {
		if h := handlers[c.Command.Name]; h != nil && c.Command.Name != "SELECT" {
			if err := s.permit(c.Command, c.Args); err != nil { // rights may have changed since it was queued
				s.out.Error(fault.From(err))
				continue
			}
			h(s, c.Command, c.Args)
		} else {
			cursor.Copy(&s.out)
		}
	}
}

func watch(s *Session, _ *engine.Command, args [][]byte) {
	if s.multi != nil {
		s.out.ErrorText("ERR WATCH inside MULTI is not allowed")
		return
	}
	if len(s.watches)+len(args) > maxQueued {
		s.out.ErrorText("ERR a connection watches at most 100000 keys")
		return
	}
	if s.watched == nil {
		s.watched = map[watchedKey]bool{}
	}
	for _, key := range args[1:] {
		at := watchedKey{s.db, string(key)}
		if s.watched[at] {
			continue
		}
		if s.watchedBytes+len(key) > maxWatchedBytes {
			s.out.ErrorText("ERR the keys that a connection watches have at most 16 MiB")
			return
		}
		w, err := s.server.Gateway.Watch(&s.caller, s.cache, s.db, key)
		if err != nil {
			s.out.Error(fault.From(err))
			return
		}
		s.watches = append(s.watches, w)
		s.watched[at] = true
		s.watchedBytes += len(key)
	}
	s.noteMulti()
	s.out.Status("OK")
}

func unwatch(s *Session, _ *engine.Command, _ [][]byte) {
	s.unwatch()
	s.noteMulti()
	s.out.Status("OK")
}

func (s *Session) unwatch() {
	for _, w := range s.watches {
		w.Unwatch()
	}
	s.watches, s.watched, s.watchedBytes = nil, nil, 0
}
