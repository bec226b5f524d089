package redisapi

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
)

// A waiting is a blocked command that has not been counted yet.
type waiting struct {
	cmd   *engine.Command
	began int64
}

// A tally counts what the clients of a cache did on this node.
//
// Commands are counted where they are known to be done: once for each run of equal commands in a pipeline, so that counting
// costs little; a command that a script calls counts as its script. Errors are counted as they are written.
type tally struct {
	commands atomic.Int64
	in, out  atomic.Int64 // bytes
	logins   atomic.Int64
	errors   atomic.Int64

	mu       sync.Mutex
	byName   map[*engine.Command]*commandTally
	byPrefix map[string]int64 // errors
}

// A commandTally counts one command. Its durations are in micros: how many took less than 2^i microseconds.
type commandTally struct {
	calls, micros, rejected, failed int64
	times                           [32]int64
}

// maxErrorKinds is how many kinds of errors are counted by themselves, as in Redis; scripts can make any number of them.
const maxErrorKinds = 128

func (t *tally) init() {
	t.byName, t.byPrefix = map[*engine.Command]*commandTally{}, map[string]int64{}
}

// reset sets back to zero what CONFIG RESETSTAT does.
func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.init()
	t.commands.Store(0)
	t.in.Store(0)
	t.out.Store(0)
	t.logins.Store(0)
	t.errors.Store(0)
}

// add counts n calls of a command, which took so many nanoseconds altogether.
func (t *tally) add(cmd *engine.Command, n, rejected, failed, nanos int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byName[cmd]
	if c == nil {
		c = &commandTally{}
		t.byName[cmd] = c
	}
	c.calls += n
	c.rejected += rejected
	c.failed += failed
	if n == 0 {
		return
	}
	micros := nanos / 1000
	c.micros += micros
	at, each := 0, micros/n
	for each > 0 && at < len(c.times)-1 {
		each >>= 1
		at++
	}
	c.times[at] += n
}

// each lists the commands that were counted, by name.
func (t *tally) each() (names []string, counts map[string]commandTally) {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts = make(map[string]commandTally, len(t.byName))
	for cmd, c := range t.byName {
		counts[strings.ToLower(cmd.Name)] = *c
	}
	return slices.Sorted(maps.Keys(counts)), counts
}

// kinds lists the errors that were counted, by their first word.
func (t *tally) kinds() (names []string, counts map[string]int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	counts = maps.Clone(t.byPrefix)
	return slices.Sorted(maps.Keys(counts)), counts
}

// erred counts an error that a client is told.
func (s *Session) erred(text string) {
	s.failing = true
	if s.state == nil {
		return
	}
	t := &s.state.tally
	t.errors.Add(1)
	prefix, _, _ := strings.Cut(text, " ")
	if len(prefix) > 64 {
		prefix = prefix[:64]
	}
	if prefix == "NOPERM" {
		s.noteRefusal(text)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.byPrefix[prefix]; !known && len(t.byPrefix) >= maxErrorKinds {
		return
	}
	t.byPrefix[prefix]++
}

// received and sent count bytes.
func (s *Session) received(n int) {
	s.facts.in.Add(int64(n))
	if s.state != nil {
		s.state.tally.in.Add(int64(n))
	}
}

func (s *Session) sent(n int) {
	s.facts.out.Add(int64(n))
	if s.state != nil {
		s.state.tally.out.Add(int64(n))
	}
}

// park notes where the client waits, and with a zero place that it does so no more. Whoever ends the wait from elsewhere
// does so under the lock of the facts, so that it is this wait and not the next that ends.
func (s *Session) park(at gateway.Place) {
	s.parked = at
	s.facts.blocked.Store(at.Waits())
	s.facts.mu.Lock()
	s.facts.place = at
	s.facts.mu.Unlock()
}

// unparked counts a blocked command whose answer begins at mark.
func (s *Session) unparked(mark int) {
	s.park(gateway.Place{})
	if s.state != nil && s.waits.cmd != nil {
		call := [1]engine.Call{{Command: s.waits.cmd, Args: s.waiter.Task.Calls[0].Args}}
		s.note(call[:], mark, s.server.tick()) // it waited, but did not work
	}
	s.waits = waiting{}
}

// note counts calls that were done, for INFO, CLIENT LIST and SLOWLOG. Their replies stand in the output from mark on.
func (s *Session) note(calls []engine.Call, mark int, began int64) {
	s.facts.lastCommand.Store(calls[len(calls)-1].Command)
	if s.state == nil {
		return
	}
	n := int64(len(calls))
	s.facts.commands.Add(n)
	t := &s.state.tally
	t.commands.Add(n)
	now := s.server.tick()
	s.facts.lastActive.Store(now)
	took := now - began
	s.noteSlow(calls, took/n)
	if s.sawError() {
		s.noteEach(calls, mark, took/n)
		return
	}
	for i := 0; i < len(calls); {
		same := 1
		for i+same < len(calls) && calls[i+same].Command == calls[i].Command {
			same++
		}
		t.add(calls[i].Command, int64(same), 0, 0, took*int64(same)/n)
		i += same
	}
}

// noteSlow enters calls in the slow log that took this long each, if that is long.
func (s *Session) noteSlow(calls []engine.Call, nanos int64) {
	if limit := s.state.observed.threshold.Load(); limit < 0 || nanos/1000 < limit {
		return
	}
	for i := range calls {
		if !unlogged[calls[i].Command.Name] {
			s.state.slow(s, calls[i].Args, nanos)
		}
	}
}

// show shows a command that the connection carries out to the monitors of the cache, but for those that are about keys,
// rights and the server.
func (s *Session) show(cmd *engine.Command, args [][]byte) {
	if s.state == nil || unlogged[cmd.Name] && cmd.Name != "EXEC" {
		return
	}
	if p := profiles[strings.ToLower(cmd.Name)]; p != nil && slices.Contains(p.cats, "admin") {
		return
	}
	s.server.Gateway.Hub().Show(s.state.id, s.server.now(), s.db, s.caller.Peer, args)
}

// sawError reports whether an error was written since it was asked last.
func (s *Session) sawError() bool {
	saw := s.failing
	s.failing = false
	return saw
}

// queued counts the calls of a transaction that was carried out. Their time is that of EXEC.
func (t *tally) queued(calls []engine.Call) {
	for i := range calls {
		t.add(calls[i].Command, 1, 0, 0, 0)
	}
	t.commands.Add(int64(len(calls)))
}

// noteEach counts calls of which some may have failed.
func (s *Session) noteEach(calls []engine.Call, mark int, nanos int64) {
	b := s.out.b[min(mark, len(s.out.b)):]
	for i := range calls {
		rejected, failed := int64(0), int64(0)
		if len(b) > 0 && b[0] == '-' {
			if isRejection(b) {
				rejected = 1
			} else {
				failed = 1
			}
		}
		b = b[replySize(b):]
		s.state.tally.add(calls[i].Command, 1-rejected, rejected, failed, nanos)
	}
}

// isRejection reports whether an error says that a command was not begun, as Redis tells it apart from one that failed.
func isRejection(line []byte) bool {
	for _, begin := range []string{"-NOPERM", "-NOAUTH", "-OOM", "-READONLY", "-TRYAGAIN", "-ERR wrong number of arguments", "-ERR max requests"} {
		if bytes.HasPrefix(line, []byte(begin)) {
			return true
		}
	}
	return false
}

// replySize is how many bytes the first reply in b has.
func replySize(b []byte) int {
	at := 0
	for left := 1; left > 0 && at < len(b); left-- {
		end := bytes.IndexByte(b[at:], '\n')
		if end < 2 {
			return len(b)
		}
		line := b[at : at+end-1]
		at += end + 1
		n := 0
		for _, c := range line[1:] {
			if c < '0' || c > '9' {
				n = 0
				break
			}
			n = 10*n + int(c-'0')
		}
		switch line[0] {
		case '$', '=':
			if len(line) > 1 && line[1] != '-' {
				at += n + 2
			}
		case '*', '~', '>':
			left += n
		case '%':
			left += 2 * n
		}
	}
	return min(at, len(b))
}

// userOf is the name by which ACL WHOAMI and its like know a principal: with it, its owner can log in.
func userOf(p *auth.Principal) string { return p.ID }
