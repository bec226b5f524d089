package redisapi

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/wire"
)

// A Session is one connection without its socket: bytes in, commands done, replies out in order.
//
// Its transport owns it: only one goroutine at a time calls Feed, Attend, Output, Sent and Close. Others, who answer a
// blocked command, publish a message or kill the client, leave word in the session's mail and have the transport wake up.
type Session struct {
	server *Server
	id     int64
	wake   func() // has the transport call Attend soon; safe from any goroutine
	away   absence

	in     parser
	out    Encoder
	caller gateway.Caller
	local  string // the address that the client connected to
	cache  string
	state  *cacheState // of the cache; nil before login
	db     int
	born   time.Time

	room     *room
	*scratch                // nil while nothing is under way
	heard    int            // bytes that came before login
	alone1   [1]engine.Call // the command that is carried out alone
	record   engine.Recording

	multi   *transaction // nil outside of MULTI
	watches []gateway.Watch
	watched map[watchedKey]bool // their keys; nil without any

	watchedBytes int // of these
	parked       gateway.Place
	waiter       *engine.Waiter
	answer       engine.Recording   // of the blocked command
	waits        waiting            // the blocked command
	channels     [3]map[string]bool // by gateway.ChannelKind: what it listens to
	names        int                // bytes of their names
	monitors     bool
	tracking     *tracking // nil when off
	replica      *follower // what it has said of itself as one of Redis's; nil for nothing
	silence      silence
	untouching   bool               // CLIENT NO-TOUCH
	level        engine.Consistency // of reads; the default is the cache's
	was          engine.Consistency // what the last answer was
	age          int64              // and how old, in milliseconds
	failing      bool               // see sawError
	heldBy       *pause
	held         bool           // by a pause
	turn         int64          // when the session has been fed for long enough
	tired        bool           // it has, and waits to be fed again
	sealed       engine.Receipt // the output shows what has to be on disk first; zero for nothing
	closing      bool           // when the output has been sent
	cut          bool           // now, and the output is lost
	enough       func() bool

	mail struct {
		mu       sync.Mutex
		items    []letter
		bytes    int
		answered bool      // the blocked command has its answer
		renewed  bool      // what the client may do has changed; see recheck
		killed   string    // why the connection ends; "" while it does not
		cut      bool      // it ends at once, whatever waits to be sent
		since    time.Time // when bytes passed softMail; zero while they have not
	}

	certificate *x509.Certificate // that the client has shown; nil for none

	unsent    atomic.Int64                   // bytes of output that the client did not take when it could; see Unsent
	principal atomic.Pointer[auth.Principal] // caller.Principal, for others than the owner
	facts     facts
}

// A scratch is what Feed needs while it runs, or a command is under way, and nothing remembers afterwards.
type scratch struct {
	request gateway.Request
	arena   [][]byte // arguments of the calls under way
	calls   []engine.Call
	ends    []int // where each of the calls ends in the input

	done  int    // of the calls
	mark  int    // where in the output the replies to the others begin
	began int64  // when they were begun
	kept  []byte // what the arguments point to, when that is not the input; see keep
	keeps bool
}

// A room holds the scratches of sessions that are never fed at the same time.
type room struct{ spare []*scratch }

// maxSpare is how many scratches are kept that nobody uses.
const maxSpare = 64

func (r *room) take() *scratch {
	n := len(r.spare)
	if n == 0 {
		return &scratch{}
	}
	s := r.spare[n-1]
	r.spare = r.spare[:n-1]
	return s
}

func (r *room) give(s *scratch) {
	if len(r.spare) < maxSpare {
		r.spare = append(r.spare, s)
	}
}

// A letter is something that a client did not ask for at this moment.
type letter struct {
	message    *gateway.Message
	line       []byte // of a monitor
	key        []byte // that has changed, for a tracking client
	flushed    bool   // all keys have
	prefix     string // with all: the prefix that asked
	broadcast  bool
	redirected bool  // to this client, by another that tracks
	own        bool  // the client has changed the key itself
	id         int64 // of a client whose redirection has gone
}

// silence says which replies a client does not want: see CLIENT REPLY.
type silence uint8

const (
	speak    silence = iota
	skipNext         // set by CLIENT REPLY SKIP: the next command is not answered
	skipThis         // that is the command under way
	off
)

// Bounds of what waits to be sent.
const (
	softOutput  = wire.SoftOutput // replies that wait while no further command is done
	softMail    = 8 << 20         // messages that may wait for softMailFor
	hardMail    = 32 << 20        // messages that may wait at all
	softMailFor = 60 * time.Second
	maxBatch    = 256      // commands that are carried out as one task
	maxHeard    = 64 << 10 // input, and output that waits, before login
)

// newSession makes the session of a connection that has just been accepted. wake may be called from any goroutine at any
// time after that.
func (srv *Server) newSession(source netip.AddrPort, secure bool, tlsVersion uint16, in *room, wake func()) *Session {
	s := &Session{server: srv, id: srv.lastID.Add(1), room: in, wake: wake, born: srv.now()}
	s.caller = gateway.Caller{Source: source.Addr().Unmap(), Secure: secure, TLSVersion: tlsVersion, Protocol: "redis", Peer: source.String(), Stays: true}
	s.out.proto, s.out.max, s.out.errors = 2, maxOutput, s.erred
	s.in.limits(maxArgumentsIn, maxBulkIn)
	s.facts.lastActive.Store(s.born.UnixNano())
	srv.add(s)
	return s
}

// ID is the number that CLIENT ID tells.
func (s *Session) ID() int64 { return s.id }

// Known reports whether somebody has logged in.
func (s *Session) Known() bool { return s.principal.Load() != nil }

// Blocked reports whether a command waits, so that what follows it has to wait too.
func (s *Session) Blocked() bool { return s.Held() || s.held || s.parked.Waits() || s.away.full }

// Held reports whether the output waits for a command that is carried out elsewhere, or for what it shows to be on disk.
func (s *Session) Held() bool { return s.away.is() || s.sealed.Log != nil }

// withhold keeps the output back. What follows waits too: a batch of a pipeline waits for the disk once.
func (s *Session) withhold(by engine.Receipt) {
	if by.Pending() {
		s.sealed.Join(by)
		by.Log.Tell(by.At, s)
	}
}

// Synced is told, on any goroutine, when what was held back may be seen.
func (s *Session) Synced() { s.wake() }

// Closing reports whether the connection has to end once the output is sent.
func (s *Session) Closing() bool { return !s.away.is() && s.closing }

// Cut reports whether it has to end at once.
func (s *Session) Cut() bool { return s.cut }

// Summoned reports whether the connection is to end, before Attend takes notice of it.
func (s *Session) Summoned() bool {
	s.mail.mu.Lock()
	defer s.mail.mu.Unlock()
	return s.mail.killed != ""
}

// Output is what waits to be sent. It is good until the next call of any method but Sent.
func (s *Session) Output() []byte {
	if s.Held() {
		return nil
	}
	return s.out.b[s.out.sent:]
}

// Sent forgets the first n bytes of the output, which have been sent.
func (s *Session) Sent(n int) {
	s.sent(n)
	e := &s.out
	e.sent += n
	switch {
	case e.sent == len(e.b):
		e.b, e.sent = e.b[:0], 0
		if cap(e.b) > maxKept {
			e.b = nil
		}
	case e.sent > len(e.b)/2 && e.sent > maxKept: // what is moved is less than what was sent since it was moved last
		e.b, e.sent = append(e.b[:0], e.b[e.sent:]...), 0
	}
	if s.away.full && e.Len() < softOutput {
		s.wake()
	}
}

// Lend gives a session without output room to write it in; TakeOutput takes it back, when all is sent. So idle
// connections have none.
func (s *Session) Lend(room []byte) {
	if !s.away.is() && s.out.b == nil {
		s.out.b = room[:0]
	}
}

func (s *Session) TakeOutput() []byte {
	if s.away.is() || len(s.out.b) > 0 {
		return nil
	}
	room := s.out.b
	s.out.b = nil
	return room
}

// Unsent notes how much the client has left lying, so that all clients together are kept within bounds: see relieve.
func (s *Session) Unsent(n int) {
	if old := s.unsent.Swap(int64(n)); old != int64(n) {
		s.server.outstanding(int64(n) - old)
	}
}

// maxKept is how large a buffer may be that an idle connection keeps.
const maxKept = 64 << 10

// Feed carries out the commands at the beginning of b, as far as they have arrived, and returns how many bytes of b it is
// done with. The rest has to be fed again, with what follows it; when a command waits or much output does, that is all
// the rest. What Feed keeps of b it copies.
func (s *Session) Feed(b []byte) (used int) {
	if s.scratch == nil {
		s.scratch = s.room.take()
	}
	used = s.feed(b)
	if s.away.is() {
		s.away.fed = used
		return used
	}
	s.received(used)
	s.room.give(s.scratch)
	s.scratch = nil
	return used
}

func (s *Session) feed(b []byte) (used int) {
	if !s.recheck() {
		return len(b)
	}
	s.arena, s.calls, s.ends = s.arena[:0], s.calls[:0], s.ends[:0]
	at := 0
	s.turn, s.tired = s.server.tick()+turnTime, false
	for !s.closing && !s.Blocked() && s.out.Len() < softOutput && !s.tired {
		before := len(s.arena)
		arena, n, err := s.in.next(b[at:], s.arena)
		if err != nil {
			if !s.run(&used) {
				return used
			}
			s.out.ErrorText("ERR " + err.Error())
			s.end("protocol error", err)
			return len(b)
		}
		if n == 0 {
			break
		}
		at += n
		if !s.Known() && s.talkative(n) {
			return len(b)
		}
		if arena == nil || len(arena) == before {
			if len(s.calls) == 0 {
				used = at
			}
			continue
		}
		s.arena = arena
		args := arena[before:len(arena):len(arena)]
		cmd := engine.LookupCall(args)
		if cmd != nil && s.state != nil && (s.multi == nil || cmd.Name == "EXEC") && cmd.CheckArity(len(args)) == nil && s.state.holds(s, cmd) {
			s.arena = arena[:before]
			if s.run(&used) {
				s.in.restart()
				s.hold()
			}
			return used
		}
		if s.joins(cmd, args) {
			s.calls, s.ends = append(s.calls, engine.Call{Command: cmd, Args: args}), append(s.ends, at)
			if len(s.calls) >= maxBatch && !s.run(&used) {
				return used
			}
			continue
		}
		if !s.run(&used) {
			return used
		}
		used = at
		if s.steps(cmd, args) {
			s.stepAside(cmd, args)
			return used
		}
		s.alone(cmd, args)
		s.rest()
		s.arena = s.arena[:0]
	}
	if s.run(&used) {
		used = at // empty commands after the last one are done with as well: the parser's place counts from here
	} else if s.away.is() {
		return used
	}
	if !s.Known() && s.heard+len(b)-used > maxHeard && s.talkative(len(b)-used) {
		return len(b)
	}
	s.bound()
	return used
}

// bound ends the connection whose output is more than may be, and keeps the scratch small.
func (s *Session) bound() {
	if s.out.over {
		s.end("output limit", errors.New("a reply is too long"))
	}
	if cap(s.arena) > 4096 {
		s.arena, s.calls, s.ends = nil, nil, nil
	}
	if cap(s.kept) > maxKept {
		s.kept = nil
	}
}

// talkative counts what came before login, and ends the connection when that is more than any login takes.
func (s *Session) talkative(n int) bool {
	s.heard += n
	if s.heard <= maxHeard && s.out.Len() <= maxHeard {
		return false
	}
	s.out.ErrorText("ERR Protocol error: too much before login")
	s.end("too much before login", nil)
	return true
}

// Pending reports whether a part of a command has arrived, and how many bytes that command has at least.
func (s *Session) Pending() int {
	if s.away.is() || !s.in.begun() {
		return 0
	}
	return s.in.needs()
}

// recheck asks whether the login still stands, and ends the connection when it does not.
func (s *Session) recheck() bool {
	p := s.caller.Principal
	if p == nil {
		return true
	}
	now, err := s.server.Identity.Recheck(p, auth.UseData, s.caller.Source)
	if err != nil {
		s.out.Error(fault.From(err))
		s.end("credential", err)
		return false
	}
	if now == p {
		return true
	}
	s.caller.Principal = now
	s.principal.Store(now)
	switch {
	case s.monitors && s.permit(monitorCommand, [][]byte{[]byte("MONITOR")}) != nil:
		s.end("it may not watch commands any more", nil)
		return false
	case s.follows() && s.permit(psyncCommand.Command, psyncCommand.Args) != nil:
		s.end("it may not follow the cache any more", nil)
		return false
	case s.tracking != nil && s.tracking.bcast && s.permit(scanAll.Command, scanAll.Args) != nil:
		s.end("it may not hear of every key any more", nil)
		return false
	}
	if s.parked.Waits() && s.waits.cmd != nil {
		if err := s.permit(s.waits.cmd, s.waiter.Task.Calls[0].Args); err != nil {
			s.abort(fault.From(err))
		}
	}
	return true
}

// renew has the session look at what it may do, from any goroutine: the client may say nothing for long, and yet be told
// of things or wait for one.
func (s *Session) renew() {
	s.mail.mu.Lock()
	s.mail.renewed = true
	s.mail.mu.Unlock()
	s.wake()
}

var monitorCommand = engine.MustLookup("MONITOR")

// joins reports whether a command can be carried out together with those around it.
func (s *Session) joins(cmd *engine.Command, args [][]byte) bool {
	return cmd != nil && cmd.Flags&(engine.Session|engine.Blocks|engine.Connection) == 0 && s.multi == nil && s.Known() &&
		s.silence == speak && !s.listens() && s.tracking == nil && !s.follows() && (len(args) <= manyArguments || !s.away.quick)
}

// listens reports whether the client is one of RESP2 that has turned into a listener, which may not do much else.
func (s *Session) listens() bool { return s.out.proto == 2 && s.subscriptions() > 0 }

func (s *Session) subscriptions() int {
	return len(s.channels[0]) + len(s.channels[1]) + len(s.channels[2])
}

// run carries out the calls that were put together. It reports whether all of them were done; used is where the last one
// ends that was, or is under way. The others are fed again.
func (s *Session) run(used *int) bool {
	for s.done = 0; s.done < len(s.calls); {
		if s.goOn() {
			*used = s.ends[len(s.calls)-1]
			s.in.restart()
			return false
		}
		*used = s.ends[s.done-1]
		if s.done < len(s.calls) && (s.out.Len() >= softOutput || s.rest()) {
			s.forget()
			s.in.restart()
			return false
		}
	}
	s.forget()
	if s.Held() {
		s.in.restart()
	}
	return !s.Held()
}

// turnTime is for how long a session is fed at once, in nanoseconds, before others that share its loop have their turn.
const turnTime = 5_000_000

// rest reports whether the session has had its turn. It is fed again when others have had theirs.
func (s *Session) rest() bool {
	if !s.tired && s.server.tick() > s.turn {
		s.tired = true
		s.wake()
	}
	return s.tired
}

// goOn has the calls carried out that are left, as many as it takes until the replies are long. It reports whether they are under
// way; then it goes on in resume.
func (s *Session) goOn() (under bool) {
	r := s.newRequest(s.calls[s.done:])
	r.Enough = s.server.enoughOf(s)
	s.began, s.mark = s.server.tick(), len(s.out.b)
	under, err := s.begin(r)
	if !under {
		s.took(err)
	}
	return under
}

// took takes what came of the request for calls.
func (s *Session) took(err error) {
	r := &s.request
	if err != nil && r.Done == 0 {
		e := fault.From(err)
		for range r.Calls {
			s.out.Error(e)
		}
		r.Done = len(r.Calls)
	}
	r.Done = max(r.Done, 1)
	s.note(r.Calls[:r.Done], s.mark, s.began)
	s.done += r.Done
}

// forget gives up what was put together.
func (s *Session) forget() {
	s.calls, s.ends, s.arena, s.keeps = s.calls[:0], s.ends[:0], s.arena[:0], false
}

// newRequest makes the request for calls. Its reply goes to the output.
func (s *Session) newRequest(calls []engine.Call) *gateway.Request {
	s.request.Reset()
	r := &s.request
	r.Caller, r.Cache, r.DB, r.Calls, r.Reply, r.Origin = &s.caller, s.cache, s.db, calls, &s.out, s
	r.Quiet, r.Consistency, r.Holds = s.untouching, s.level, true
	if s.tracking != nil || len(s.watches) > 0 { // what is read has to be as new as what the leader will tell of it
		r.Consistency = engine.Linearizable
	}
	return r
}

// do asks the gateway, and may wait. A panic is our bug: the client hears of an internal error, and our log where.
func (s *Session) do(r *gateway.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(p)
		}
	}()
	err = s.server.Gateway.Do(context.Background(), r)
	s.answeredBy(r)
	return err
}

// answeredBy notes what the answers to a request are, and when they may be seen.
func (s *Session) answeredBy(r *gateway.Request) {
	s.was, s.age = r.Was, r.AgeMs
	s.withhold(r.Held)
}

// panicked notes a panic, and has the connection end.
func (s *Session) panicked(p any) error {
	s.server.Log.Error("a command panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
	s.closing = true
	return fault.New(fault.Internal, "redisapi.do", "panic")
}

// alone carries out a command that concerns the connection, may wait, or has to be looked at for another reason.
func (s *Session) alone(cmd *engine.Command, args [][]byte) {
	mark := len(s.out.b)
	began := s.server.tick()
	switch s.silence {
	case skipNext:
		s.silence = skipThis
	case skipThis:
		s.silence = speak
	}
	s.facts.lastCommand.Store(cmd)
	queued := s.multi != nil && cmd != nil && !atOnce[cmd.Name]
	s.dispatch(cmd, args)
	if t := s.tracking; t != nil && s.multi == nil && (cmd == nil || cmd.Name != "CLIENT|CACHING") {
		t.caching = false
	}
	switch {
	case cmd == nil || s.state == nil || queued && !s.failing: // EXEC will count it
	case s.parked.Waits():
		s.waits = waiting{cmd: cmd, began: began}
	default:
		s.alone1[0] = engine.Call{Command: cmd, Args: args}
		s.note(s.alone1[:], mark, began)
		s.alone1[0] = engine.Call{}
	}
	if s.silence == skipThis || s.silence == off {
		if cmd == nil || !pushes[cmd.Name] {
			s.out.b = s.out.b[:mark]
		}
		if s.silence == skipThis {
			s.silence = speak
		}
	}
}

func (s *Session) dispatch(cmd *engine.Command, args [][]byte) {
	if cmd == nil && (equalFold(args[0], "POST") || equalFold(args[0], "HOST:")) {
		s.end("it speaks HTTP", nil) // a browser, perhaps, that somebody has send commands to where he cannot reach: as Redis does
		return
	}
	if !s.Known() && !(cmd != nil && beforeLogin[cmd.Name]) {
		s.out.ErrorText("NOAUTH Authentication required.")
		return
	}
	if s.follows() && (cmd == nil || cmd.Name != "REPLCONF") { // an answer would stand in the stream
		s.end("a replica asks for something else", nil)
		return
	}
	if cmd == nil {
		s.fail(unknownCommand(args))
		return
	}
	if err := cmd.CheckArity(len(args)); err != nil {
		s.fail(arityError(cmd))
		return
	}
	if s.multi != nil && !atOnce[cmd.Name] {
		s.queue(cmd, args)
		return
	}
	if s.listens() && !whileListening[cmd.Name] {
		s.out.ErrorText(fmt.Sprintf("ERR Can't execute '%s': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context", strings.ToLower(cmd.Name)))
		return
	}
	if h := handlers[cmd.Name]; h != nil {
		if err := s.permit(cmd, args); err != nil {
			s.out.Error(fault.From(err))
			return
		}
		if cmd.Name == "EXEC" { // after what it carries out
			h(s, cmd, args)
			s.show(cmd, args)
			return
		}
		s.show(cmd, args)
		h(s, cmd, args)
		return
	}
	s.execute(cmd, args)
}

// permit asks for the rights that a command of the connection needs.
func (s *Session) permit(cmd *engine.Command, args [][]byte) error {
	if !s.Known() {
		return nil
	}
	return s.server.Gateway.Refusal(&s.caller, s.cache, engine.Call{Command: cmd, Args: args})
}

// execute carries out one command on the data. One that blocks may park.
func (s *Session) execute(cmd *engine.Command, args [][]byte) {
	s.track(cmd, args)
	call := [1]engine.Call{{Command: cmd, Args: args}}
	r := s.newRequest(call[:])
	if cmd.Flags&engine.Blocks != 0 {
		if s.waiter == nil || s.away.far {
			s.waiter = &engine.Waiter{Reply: &s.answer, Done: s.answered}
		}
		s.answer.Reset()
		r.Waiter = s.waiter
	}
	if err := s.do(r); err != nil {
		s.out.Error(fault.From(err))
		return
	}
	if r.Parked.Waits() {
		s.park(r.Parked)
	}
}

// fail answers with an error, which spoils a transaction that is being put together.
func (s *Session) fail(text string) {
	if s.multi != nil {
		s.multi.spoilt = true
	}
	s.out.ErrorText(text)
}

// unknownCommand is Redis's error, which quotes the beginning of what was sent.
func unknownCommand(args [][]byte) string {
	if c := engine.Lookup(args[0]); c != nil && len(args) > 1 {
		return fmt.Sprintf("ERR unknown subcommand '%.128s'. Try %s HELP.", args[1], c.Name)
	}
	quoted := ""
	for _, a := range args[1:] {
		if len(quoted) >= 128 {
			break
		}
		quoted += fmt.Sprintf("'%.*s' ", 128-len(quoted), a)
	}
	return fmt.Sprintf("ERR unknown command '%.128s', with args beginning with: %s", args[0], quoted)
}

func arityError(cmd *engine.Command) string {
	return "ERR wrong number of arguments for '" + strings.ToLower(cmd.Name) + "' command"
}

// end has the connection closed when the output has been sent.
func (s *Session) end(reason string, err error) {
	if !s.closing {
		s.closing = true
		s.facts.gone.Store(true)
		s.server.Log.Debug("a Redis connection ends", "client", s.id, "peer", s.caller.Peer, "reason", reason, "error", err)
	}
}

// Attend reads the mail: it finishes a blocked command and writes what has come from others. It reports whether a blocked
// command was finished, so that what follows it can be fed.
func (s *Session) Attend() (unblocked bool) {
	if s.away.is() || s.away.full {
		unblocked = s.comeBack()
		if s.away.is() {
			return false
		}
	}
	m := &s.mail
	m.mu.Lock()
	items, answered, renewed, killed, cut := m.items, m.answered, m.renewed, m.killed, m.cut
	if m.bytes > 0 {
		s.server.outstanding(-int64(m.bytes))
	}
	m.items, m.bytes, m.answered, m.renewed, m.since = nil, 0, false, false, time.Time{}
	if s.parked.Waits() && !answered { // what a blocked command has changed is told after its answer
		var later []letter
		items = slices.DeleteFunc(items, func(l letter) bool {
			if l.own {
				later = append(later, l)
			}
			return l.own
		})
		m.items = later
	}
	m.mu.Unlock()
	if s.Held() && !s.sealed.Pending() {
		s.sealed, unblocked = engine.Receipt{}, true
	}
	if s.tired {
		s.tired, unblocked = false, true
	}
	if s.held && s.pauseIsOver() {
		s.held, unblocked = false, true
		s.facts.blocked.Store(false)
		s.facts.held.Store(false)
	}
	if answered && s.parked.Waits() {
		mark := len(s.out.b)
		s.answer.Replay(&s.out)
		s.unparked(mark)
		if s.silence == off {
			s.out.b = s.out.b[:mark]
		}
		if s.answer.Cap() > maxKept {
			s.answer = engine.Recording{}
		}
		unblocked = true
	}
	if (renewed || len(items) > 0) && !s.closing && !s.recheck() {
		items = nil
	}
	for i := 0; i < len(items); {
		i += s.deliver(items[i:])
	}
	if s.follows() && !s.closing {
		s.out.b = s.replica.out.drain(s.out.b)
	}
	if cut && !s.cut {
		s.cut = true
		s.server.Log.Warn("a Redis client is cut off", "client", s.id, "peer", s.caller.Peer, "reason", killed, "unsent", s.unsent.Load())
	}
	if killed != "" && !s.Held() { // it gets the replies that it has coming
		s.end("killed", errors.New(killed))
	}
	return unblocked
}

// answered is told that the blocked command has its answer.
func (s *Session) answered(*engine.Waiter) {
	s.mail.mu.Lock()
	s.mail.answered = true
	s.mail.mu.Unlock()
	s.wake()
}

// post leaves a letter of about n bytes. A client that does not take its mail is cut off.
func (s *Session) post(l letter, n int) {
	if s.put(l, n) {
		s.wake()
	}
}

// put leaves a letter, and reports whether the transport has to be woken up.
func (s *Session) put(l letter, n int) bool {
	m := &s.mail
	m.mu.Lock()
	first := len(m.items) == 0
	if m.cut {
		m.mu.Unlock()
		return false
	}
	m.items = append(m.items, l)
	m.bytes += n + letterSize
	s.server.outstanding(int64(n + letterSize))
	switch {
	case m.bytes > hardMail:
		s.cutOff("it does not read its messages")
	case m.bytes <= softMail:
	case m.since.IsZero():
		m.since = s.server.now()
	case s.server.now().Sub(m.since) > softMailFor:
		s.cutOff("it reads its messages too slowly")
	}
	first = first || m.cut
	m.mu.Unlock()
	return first
}

// letterSize is what a letter takes beside its text.
const letterSize = 64

// cutOff ends the connection of a client that lets too much wait, with all that waits. The caller holds the mail's lock.
func (s *Session) cutOff(why string) {
	m := &s.mail
	if m.cut {
		return
	}
	s.server.outstanding(-int64(m.bytes))
	m.killed, m.cut, m.items, m.bytes = "output limit: "+why, true, nil, 0
}

// waiting is how much the client lets wait, for others than the owner.
func (s *Session) waiting() int64 {
	s.mail.mu.Lock()
	defer s.mail.mu.Unlock()
	return int64(s.mail.bytes) + s.unsent.Load()
}

// kill ends the connection, from any goroutine.
func (s *Session) kill(why string) {
	s.mail.mu.Lock()
	s.mail.killed = why
	s.mail.mu.Unlock()
	s.facts.gone.Store(true)
	s.wake()
}

// deliver writes the first of some letters, and those after it that belong to the same message. It returns how many.
func (s *Session) deliver(letters []letter) int {
	l := &letters[0]
	switch m := l.message; {
	case m != nil && !s.server.Gateway.Hears(&s.caller, s.cache, m):
	case m != nil && m.Kind == gateway.Pattern:
		s.out.Push(4)
		s.out.Text("pmessage")
		s.out.Text(m.Pattern)
		s.out.Text(m.Channel)
		s.out.Bulk(m.Payload)
	case m != nil:
		s.out.Push(3)
		if m.Kind == gateway.ShardChannel {
			s.out.Text("smessage")
		} else {
			s.out.Text("message")
		}
		s.out.Text(m.Channel)
		s.out.Bulk(m.Payload)
	case l.line != nil:
		s.out.b = append(append(append(s.out.b, '+'), l.line...), '\r', '\n')
	case l.id != 0:
		s.deliverBroken(l.id)
	default:
		return s.deliverInvalidation(letters)
	}
	return 1
}

// Close ends everything that the session began. The transport has closed the connection, or is about to.
func (s *Session) Close() {
	if s.away.orphan() {
		s.facts.gone.Store(true)
		return // told closes it
	}
	s.close()
}

func (s *Session) close() {
	if s.parked.Waits() {
		s.parked.Abandon()
		s.park(gateway.Place{})
	}
	s.facts.gone.Store(true)
	s.logout()
	s.server.remove(s)
	s.Unsent(0)
	s.mail.mu.Lock()
	defer s.mail.mu.Unlock()
	s.server.outstanding(-int64(s.mail.bytes))
	s.mail.items, s.mail.bytes, s.mail.cut = nil, 0, true // nobody reads it any more
}

// logout gives up what belongs to the cache that the session is logged in to.
func (s *Session) logout() {
	s.unwatch()
	s.stopListening()
	s.stopTracking()
	s.stopFollowing()
	if s.monitors {
		s.server.Gateway.Hub().Unmonitor(s.state.id, s)
		s.monitors = false
		s.facts.mu.Lock()
		s.facts.flags.monitor = false
		s.facts.mu.Unlock()
	}
	s.multi = nil
	if s.state != nil {
		s.server.leave(s)
	}
	s.caller.Principal, s.state, s.cache, s.db = nil, nil, "", 0
	s.principal.Store(nil)
	s.in.limits(maxArgumentsIn, maxBulkIn)
}

// Show implements gateway.Monitor.
func (s *Session) Show(line []byte) { s.post(letter{line: line}, len(line)) }

// Receive implements gateway.Receiver.
func (s *Session) Receive(m *gateway.Message) {
	s.post(letter{message: m}, len(m.Channel)+len(m.Payload))
}

// facts are what others may ask about a session.
type facts struct {
	lastActive  atomic.Int64 // in nanoseconds since 1970
	lastCommand atomic.Pointer[engine.Command]
	blocked     atomic.Bool
	held        atomic.Bool // by a pause
	broken      atomic.Bool // the client is gone that was to hear of this one's keys
	gone        atomic.Bool // it has ended, or is about to
	commands    atomic.Int64
	in, out     atomic.Int64 // bytes
	replica     atomic.Pointer[follower]

	mu      sync.Mutex
	name    string
	libName string
	libVer  string
	db      int
	proto   int
	user    string
	place   gateway.Place // where it waits; zero unless it does
	multi   int           // commands queued, -1 outside of MULTI
	queued  int           // bytes of them
	watch   int
	subs    [3]int
	flags   clientFlags
}

// clientFlags are what CLIENT LIST says of a client.
type clientFlags struct {
	noEvict, noTouch, monitor, tracking, broadcasting, readOnly bool
	redirect                                                    int64 // client id; 0 for none, -1 without tracking
}

// selectDB chooses a database, for a client that asked in order.
func selectDB(s *Session, _ *engine.Command, args [][]byte) {
	n, err := strconv.Atoi(string(args[1]))
	switch {
	case err != nil:
		s.out.ErrorText(notInteger)
	case n < 0 || n >= engine.Databases:
		s.out.ErrorText("ERR DB index is out of range")
	default:
		s.setDB(n)
		s.out.Status("OK")
	}
}

func (s *Session) setDB(n int) {
	s.db = n
	s.facts.mu.Lock()
	s.facts.db = n
	s.facts.mu.Unlock()
}
