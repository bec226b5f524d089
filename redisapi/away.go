package redisapi

import (
	"slices"
	"sync/atomic"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
)

// A session that an event loop serves must not wait, or all the others on its loop would. In a cluster most commands may have to:
// for the replicas of their partition, or for another node; and anywhere a command may take long, or come behind one that does. So the
// session goes away with them: it is given to whoever carries the commands out, and its owner finds it blocked, without output, until
// it is told that it is back and takes it again with Attend.
//
//	A1: while it is away only Blocked, Held, Output, Closing, Known, Summoned, Unsent, Lend, TakeOutput, Attend and Close are called by
//	    the owner, and find out that it is; nobody else touches it but the mail, the facts and what is atomic
//	A2: who has it calls told once; an orphan is closed there
//	A3: what its commands point to is the session's own while it is away: see keep

// An absence says where a session is.
type absence struct {
	at    atomic.Int32
	quick bool // it goes away at all
	far   bool // what is not known to be quick does
	asker gateway.Asker

	err   error // that told was told
	aside bool  // a goroutine carries out a command that is not a request; else a request is under way
	full  bool  // it is here, but long replies have to be sent before it goes on with the rest of its calls
	fed   int   // bytes of input that are counted when it is back
}

// Where a session is.
const (
	here   int32 = iota
	gone         // with those who carry its commands out
	back         // they are done, and the owner has not noticed yet
	orphan       // they are not, and the connection has ended
)

// is reports whether the owner must leave the session alone.
func (a *absence) is() bool { return a.quick && a.at.Load() != here }

// orphan notes that the connection has ended, and reports whether the session is away, so that others have to close it.
func (a *absence) orphan() bool { return a.quick && a.at.CompareAndSwap(gone, orphan) }

// hurry has the session go away rather than wait, and with far before it is known whether it would.
func (s *Session) hurry(far bool) {
	s.away.quick, s.away.far = true, far
	s.away.asker = gateway.Asker{Keep: s.keep, Told: s.told, Panicked: s.panicked}
}

// begin asks the gateway, and reports whether the session has gone away for that.
func (s *Session) begin(r *gateway.Request) (under bool, err error) {
	if !s.away.quick {
		return false, s.do(r)
	}
	return s.depart(func() (bool, error) { return s.server.Gateway.Begin(r, &s.away.asker) })
}

// depart does what may have the session go away.
func (s *Session) depart(do func() (under bool, err error)) (under bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.away.at.Store(here)
			under, err = false, s.panicked(p)
		}
	}()
	s.away.at.Store(gone) // before somebody says that it is back
	if under, err = do(); under {
		return true, nil
	}
	s.away.at.Store(here)
	s.answeredBy(&s.request)
	return false, err
}

// keep copies what the arguments point to, which is a buffer that is used again.
func (s *Session) keep() {
	if s.keeps {
		return
	}
	size := 0
	for i := range s.calls {
		for _, a := range s.calls[i].Args {
			size += len(a)
		}
	}
	b := s.kept[:0]
	if cap(b) < size {
		b = make([]byte, 0, size)
	}
	for i := range s.calls {
		b = keep(b, s.calls[i].Args)
	}
	s.kept, s.keeps = b, true
}

// keep copies what arguments point to behind b, and has them point there.
func keep(b []byte, args [][]byte) []byte {
	size := 0
	for _, a := range args {
		size += len(a)
	}
	b = slices.Grow(b, size)
	for i, a := range args {
		at := len(b)
		b = append(b, a...)
		args[i] = b[at:len(b):len(b)]
	}
	return b
}

// told takes notice, from any goroutine, that the session may come back.
func (s *Session) told(err error) {
	s.away.err = err
	if s.away.at.CompareAndSwap(gone, back) {
		s.wake()
		return
	}
	s.away.at.Store(here)
	go s.close() // whoever told this may hold what others wait for
}

// inTurn are commands of the connection that never wait.
var inTurn = set("PING", "ECHO", "SELECT", "QUIT", "RESET", "MULTI", "DISCARD", "READONLY", "READWRITE", "ASKING",
	"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE",
	"CLIENT|ID", "CLIENT|GETNAME", "CLIENT|SETNAME", "CLIENT|SETINFO", "CLIENT|REPLY", "CLIENT|NO-EVICT", "CLIENT|NO-TOUCH", "CLIENT|TRACKING", "CLIENT|CACHING")

// steps reports whether a command that is carried out alone may have to wait, or may take long.
func (s *Session) steps(cmd *engine.Command, args [][]byte) bool {
	switch {
	case !s.away.quick || cmd == nil || !s.Known() && !beforeLogin[cmd.Name] || cmd.CheckArity(len(args)) != nil:
		return false
	case len(args) > manyArguments:
		return true
	case s.multi != nil && !atOnce[cmd.Name] || inTurn[cmd.Name]:
		return false
	case s.away.far || handlers[cmd.Name] != nil && !atOnce[cmd.Name] && !beforeLogin[cmd.Name] && cmd.Name != "UNWATCH": // which may write control data, or list much
		return true
	case cmd.Name == "EXEC" && s.multi != nil && s.multi.lasts:
		return true
	case handlers[cmd.Name] == nil && !cmd.Brief(args) && !(cmd.Flags&engine.Blocks != 0 && cmd.FactsOf(args, 0).MaxItems <= manyArguments):
		return true
	}
	return s.Known() && s.server.Gateway.Busy(&s.caller, s.cache)
}

// manyArguments is from how many on a command takes long that is quick otherwise.
const manyArguments = 256

// stepAside has a goroutine carry out a command that may wait.
func (s *Session) stepAside(cmd *engine.Command, args [][]byte) {
	s.kept = keep(s.kept[:0], args)
	s.away.aside = true
	s.away.at.Store(gone)
	go func() {
		s.alone(cmd, args)
		s.told(nil)
	}()
}

// comeBack takes the session again, or goes on with its calls when the replies before were sent. It reports whether the session
// is here, and nothing of what it was fed is left.
func (s *Session) comeBack() bool {
	a := &s.away
	switch {
	case a.full && s.out.Len() >= softOutput:
		return false
	case a.full:
		a.full = false
	case a.at.Load() != back:
		return false
	default:
		a.at.Store(here)
		s.received(a.fed)
		a.fed = 0
		if a.aside {
			a.aside = false
			break
		}
		under, err := s.depart(func() (bool, error) { return s.server.Gateway.Finish(&s.request, &a.asker, a.err) })
		if under {
			return false
		}
		s.took(err)
	}
	for s.done < len(s.calls) {
		if s.out.Len() >= softOutput {
			a.full = true
			return false
		}
		if s.goOn() {
			return false
		}
	}
	s.forget()
	s.bound()
	s.room.give(s.scratch)
	s.scratch = nil
	return true
}

// abort ends the wait of a blocked command with an error.
func (s *Session) abort(e *fault.Error) {
	if at := s.parked; s.away.far {
		go at.Release(e) // its partition may be led elsewhere
	} else {
		at.Release(e)
	}
}
