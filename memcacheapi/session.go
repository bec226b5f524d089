package memcacheapi

import (
	"context"
	"fmt"
	"hash/maphash"
	"net/netip"
	"runtime/debug"
	"sync/atomic"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/wire"
)

// A Session is one connection without its socket: bytes in, commands done, replies out in order.
//
// Its transport owns it: only one goroutine at a time calls its methods.
type Session struct {
	server *Server
	id     int64
	caller gateway.Caller
	cache  string
	state  *cacheState   // of the cache; nil before login
	limit  int64         // of a value in the cache, in bytes
	text   bool          // the protocol, once it is known
	binary bool          //
	words  [][]byte      // of the line under way
	arena  [][]byte      // arguments of the calls under way
	spare  []byte        // where arguments are written that stand nowhere in the input
	calls  []engine.Call // under way: see together
	lured  bool          // one of them is an mg that may have to be asked again
	out    replies

	scanned int            // of a line, how much is known to have no end in it
	needs   int            // bytes that the command under way has at least
	resume  int            // where in its line a command goes on of which a part has been done; 0 for none
	swallow int            // bytes still to be thrown away
	used    int            // of what is being fed, how much is done with
	alone   bool           // the command under way is not put together with others
	more    bool           // Feed stopped although it could go on
	closing bool           // when the output has been sent
	cut     bool           // at once
	sealed  engine.Receipt // the output shows what has to be on disk first; zero for nothing
	enough  func() bool
	wake    func() // has the transport call Attend soon; safe from any goroutine
	request gateway.Request

	principal atomic.Pointer[auth.Principal] // caller.Principal, for others than the owner
	implied   atomic.Pointer[Implied]        // what it came in by; nil when it has logged in itself
	unsent    atomic.Int64                   // bytes of output that the client did not take when it could; see Unsent
	summons   atomic.Pointer[summons]        // nil unless the connection is to end
}

// summons say that a connection is to end, and why.
type summons struct {
	why    string
	atOnce bool // what it was sent and has not taken is lost
}

// Bounds of what a client may send and of what waits for it.
const (
	maxKey     = 250
	maxLine    = 1 << 20         // of keys to get
	maxWords   = 2048            // of any other line: without its end after so many bytes it is none
	maxLogin   = 8 << 10         // what a login has at most (specification A43)
	softOutput = wire.SoftOutput // replies that wait while no further command is done
	maxBatch   = 256             // calls that are carried out as one task
	maxKept    = 64 << 10        // a buffer that an idle connection keeps
)

// newSession makes the session of a connection that has just been accepted.
func (srv *Server) newSession(source netip.AddrPort, secure bool, tlsVersion uint16, wake func()) *Session {
	s := &Session{server: srv, id: srv.lastID.Add(1), wake: wake}
	s.caller = gateway.Caller{Source: source.Addr().Unmap(), Secure: secure, TLSVersion: tlsVersion, Protocol: "memcached", Peer: source.String()}
	s.enough = func() bool { return len(s.out.b) >= softOutput }
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.sessions[s] = true
	if srv.closed {
		s.summons.Store(&summons{why: "the server stops"})
	}
	return s
}

// kill has the connection end, from any goroutine.
func (s *Session) kill(why string, atOnce bool) {
	s.summons.Store(&summons{why, atOnce})
	s.wake()
}

// Summoned reports whether the connection is to end, before Attend takes notice of it.
func (s *Session) Summoned() bool { return s.summons.Load() != nil }

// Attend ends the connection of who was summoned, when nothing is held back any more.
func (s *Session) Attend() (unblocked bool) {
	if s.Held() && !s.sealed.Pending() {
		s.sealed, unblocked = engine.Receipt{}, true
	}
	if m := s.summons.Load(); m != nil {
		if !s.Held() {
			s.end(m.why, nil)
		}
		s.cut = m.atOnce
	}
	return unblocked
}

// ID is the connection's number.
func (s *Session) ID() int64 { return s.id }

// Blocked implements wire.Session. No command waits but for what is held.
func (s *Session) Blocked() bool { return s.Held() }

// Held reports whether the output waits for what it shows to be on disk.
func (s *Session) Held() bool { return s.sealed.Log != nil }

// withhold keeps the output back, and what follows.
func (s *Session) withhold(by engine.Receipt) {
	if by.Pending() {
		s.sealed.Join(by)
		by.Log.Tell(by.At, s)
	}
}

// Synced is told, on any goroutine, when what was held back may be seen.
func (s *Session) Synced() { s.wake() }

// Cut reports whether the connection has to end at once.
func (s *Session) Cut() bool { return s.cut }

// Unsent notes how much the client has left lying, so that all clients together are kept within bounds: see Server.relieve.
func (s *Session) Unsent(n int) {
	if old := s.unsent.Swap(int64(n)); old != int64(n) {
		s.server.outstanding(int64(n) - old)
	}
}

// Close ends everything that the session began. The transport has closed the connection, or is about to.
func (s *Session) Close() {
	s.leave()
	s.Unsent(0)
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	delete(s.server.sessions, s)
}

func (s *Session) leave() {
	if s.state != nil {
		s.state.current.Add(-1)
		s.state = nil
	}
	s.caller.Principal = nil
	s.principal.Store(nil)
	s.implied.Store(nil)
}

// Known reports whether somebody has logged in.
func (s *Session) Known() bool { return s.caller.Principal != nil }

// Closing reports whether the connection has to end once the output is sent.
func (s *Session) Closing() bool { return s.closing }

// More reports whether Feed stopped because much output waits, not because input is missing.
func (s *Session) More() bool { return s.more && !s.closing }

// Pending is how many bytes have to be fed, with what was not used, before anything new can be done; 0 for unknown.
func (s *Session) Pending() int { return s.needs }

// Output is what waits to be sent. It is good until the next call of any method but Sent.
func (s *Session) Output() []byte {
	if s.Held() {
		return nil
	}
	return s.out.b[s.out.sent:]
}

// Sent forgets the first n bytes of the output, which have been sent.
func (s *Session) Sent(n int) {
	if s.state != nil {
		s.out.tally[bytesWritten] += int64(n)
	}
	s.out.sent += n
	if s.out.sent == len(s.out.b) {
		s.out.b, s.out.sent = s.out.b[:0], 0
		if cap(s.out.b) > maxKept {
			s.out.b = nil
		}
	}
}

// Lend gives a session without output room to write it in; TakeOutput takes it back, when all is sent. So idle connections have
// none.
func (s *Session) Lend(room []byte) {
	if s.out.b == nil {
		s.out.b = room[:0]
	}
}

// TakeOutput implements wire.Session.
func (s *Session) TakeOutput() []byte {
	if len(s.out.b) > 0 {
		return nil
	}
	room := s.out.b
	s.out.b = nil
	return room
}

// Feed carries out the commands at the beginning of b, as far as they have arrived, and returns how many bytes of b it is
// done with. The rest has to be fed again, with what follows it. What Feed keeps of b it copies.
func (s *Session) Feed(b []byte) (used int) {
	s.more, s.used = false, 0
	if s.out.sent > 0 { // what is left is less than softOutput, or it would not be fed
		s.out.b, s.out.sent = append(s.out.b[:0], s.out.b[s.out.sent:]...), 0
	}
	if s.state != nil {
		s.out.detail = s.state.detail.Load()
	}
	if !s.recheck() {
		return len(b)
	}
	if len(b) < s.needs {
		return 0
	}
	if len(b) > 0 && !s.text && !s.binary {
		s.binary = b[0] == magicRequest
		s.text = !s.binary
	}
	for at := 0; at < len(b) && !s.closing && !s.Held(); {
		if len(s.out.b) >= softOutput {
			s.more = true
			break
		}
		n := 0
		switch {
		case s.swallow > 0:
			n = min(s.swallow, len(b)-at)
			s.swallow -= n
		case s.binary:
			n = s.packet(b[at:])
		case !s.Known():
			n = s.asciiLogin(b[at:])
		default:
			n = s.line(b[at:], at)
		}
		if n <= 0 {
			break
		}
		at += n
		s.needs, s.scanned = 0, 0
		if last := len(s.out.queue) - 1; last >= 0 {
			s.out.queue[last].used = at
		} else {
			s.used = at
		}
		if (s.alone || len(s.calls) >= maxBatch) && !s.run() {
			break
		}
		s.alone = false
	}
	s.run()
	if s.closing {
		s.used = len(b)
	}
	s.out.tally[bytesRead] += int64(s.used)
	s.out.count(s.state)
	return s.used
}

// settle carries out what was put together, before a command that has to be done by itself. When it reports false, that
// command is fed again later.
func (s *Session) settle() bool {
	if !s.run() {
		return false
	}
	s.alone = true
	return true
}

// recheck asks whether the login still stands, and ends the connection when it does not.
func (s *Session) recheck() bool {
	p := s.caller.Principal
	if p == nil {
		return true
	}
	now, err := s.server.Identity.Recheck(p, auth.UseData, s.caller.Source)
	if err != nil {
		if s.text {
			s.out.b = append(appendFault(s.out.b, fault.From(err)), "\r\n"...)
		}
		s.end("credential", err)
		return false
	}
	if now != p {
		s.caller.Principal = now
		s.principal.Store(now)
	}
	return true
}

// end has the connection closed when the output has been sent.
func (s *Session) end(reason string, err error) {
	if !s.closing {
		s.closing = true
		s.server.Log.Debug("a memcached connection ends", "client", s.id, "peer", s.caller.Peer, "reason", reason, "error", err)
	}
}

// call adds a call to those that are put together. Its arguments are the last n of the arena. p says how to answer.
func (s *Session) call(cmd *engine.Command, n int, p pending) {
	args := s.arena[len(s.arena)-n : len(s.arena) : len(s.arena)]
	s.calls = append(s.calls, engine.Call{Command: cmd, Args: args})
	s.out.queue = append(s.out.queue, p)
}

// say adds an answer that needs no call.
func (s *Session) say(text string) {
	s.out.queue = append(s.out.queue, pending{render: renderText, text: text})
}

// run carries out the calls that were put together. It reports whether all of them were done; the others are fed again.
func (s *Session) run() bool {
	o := &s.out
	o.at = 0
	o.texts()
	for done := 0; done < len(s.calls); {
		calls := s.together(s.calls[done:])
		r := s.newRequest(calls)
		err := s.do(r)
		if err != nil && r.Done == 0 {
			e := fault.From(err)
			for range calls {
				o.Error(e)
			}
			r.Done = len(calls)
		}
		done += max(r.Done, 1)
		s.fetchAgain()
		if len(o.b) >= softOutput && done < len(s.calls) {
			s.used, s.resume, s.more = o.queue[o.at-1].used, o.queue[o.at-1].resume, true
			s.forget()
			return false
		}
	}
	if n := len(o.queue); n > 0 {
		s.used, s.resume = o.queue[n-1].used, o.queue[n-1].resume
	}
	s.forget()
	return !s.Held()
}

// together is the first of some calls: those that are carried out as one request. Of an item that an mg finds stale there is
// another question (fetchAgain), and until then nothing may change it: so what writes a key that an mg of a request may have read
// begins the next one. That cannot be left to Enough, of which those hear late who carry out a part elsewhere.
func (s *Session) together(calls []engine.Call) []engine.Call {
	if !s.lured {
		return calls
	}
	var read [64]uint64 // a filter of the keys that have been read: what is not in it has not
	reads := false
	for i := range calls {
		c := &calls[i]
		if c.Command == flushCommand {
			if reads {
				return calls[:i]
			}
			continue
		}
		at := maphash.Bytes(filterSeed, c.Args[1]) % (64 * uint64(len(read)))
		word, bit := &read[at/64], uint64(1)<<(at%64)
		switch {
		case c.Command.Flags&engine.Writes == 0:
			*word |= bit
			reads = true
		case *word&bit != 0:
			return calls[:i]
		}
	}
	return calls
}

var filterSeed = maphash.MakeSeed()

// forget gives up what was put together.
func (s *Session) forget() {
	s.lured = false
	s.arena, s.spare, s.calls, s.out.queue = s.arena[:0], s.spare[:0], s.calls[:0], s.out.queue[:0]
	if cap(s.arena) > 8*maxBatch {
		s.arena = nil
	}
}

// fetchAgain asks for the items once more that turned out to be stale: whoever fetches such a one may win the task of
// making it anew, which has to be noted. Their answers go where they belong.
func (s *Session) fetchAgain() {
	o := &s.out
	if len(o.again) == 0 {
		return
	}
	again, queue, at, after := o.again, o.queue, o.at, o.b
	o.again = nil
	var whole []byte
	from := 0
	for _, a := range again {
		whole = append(whole, after[from:a.at]...)
		from = a.at
		args := [][]byte{fetchCommand.NameArg(), a.pending.key, metaWord}
		if a.pending.meta.value {
			args = args[:2]
		}
		a.pending.won = true
		o.b, o.queue, o.at = whole, []pending{a.pending}, 0
		if err := s.do(s.newRequest([]engine.Call{{Command: fetchCommand, Args: args}})); err != nil && o.at == 0 {
			o.Error(fault.From(err))
		}
		whole = o.b
	}
	o.b = append(whole, after[from:]...)
	o.queue, o.at, o.again = queue, at, again[:0]
}

// newRequest makes the request for calls. Its reply goes to the output.
func (s *Session) newRequest(calls []engine.Call) *gateway.Request {
	s.request.Reset()
	r := &s.request
	r.Caller, r.Cache, r.Calls, r.Reply, r.Origin, r.Enough = &s.caller, s.cache, calls, &s.out, s, s.enough
	r.Holds = true
	return r
}

// do asks the gateway. A panic is our bug: the client hears of an internal error, and our log where.
func (s *Session) do(r *gateway.Request) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.server.Log.Error("a command panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "memcacheapi.do", "panic")
			s.closing = true
		}
	}()
	err = s.server.Gateway.Do(context.Background(), r)
	s.withhold(r.Held)
	return err
}

// permit asks for a right outside of a call.
func (s *Session) permit(call engine.Call) error {
	return s.server.Gateway.Refusal(&s.caller, s.cache, call)
}
