package redisapi

import (
	"io"
	"maps"
	"net"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

// A server of Redis may be a replica of a cache: REPLCONF, PSYNC, and from there on nothing but what the source of replicas writes goes
// to the client, which says how far it has come.

// A Source sends caches to replicas of Redis; *transfer.Outflows is behind it.
type Source interface {
	// Follow begins to send a cache: what comes after an offset of a stream, if that is still known, or else all of it. What it
	// sends it writes to to, from a goroutine of its own, until that fails; to is closed at the end.
	Follow(c *tenants.Cache, stream string, offset int64, to io.WriteCloser) (Following, error)
}

// A Following is a replica's way through a stream.
type Following interface {
	// Acked is told how far the replica has come.
	Acked(offset int64)
	// Close is told that the connection is gone: what is written to it fails from now on.
	Close()
}

func init() {
	maps.Copy(handlers, map[string]handler{"REPLCONF": replconf, "PSYNC": psync})
}

// A follower is what a client has said of itself that is about to be one, or is.
type follower struct {
	host, port string // that it says it listens on
	eof        bool   // it takes a file whose length nobody knows before
	out        *outlet
	following  Following
	acked      atomic.Int64
}

// psyncCommand is asked for again whenever a replica's rights may have changed.
var psyncCommand = engine.Call{Command: engine.MustLookup("PSYNC"), Args: [][]byte{[]byte("PSYNC"), []byte("?"), []byte("-1")}}

// follows reports whether the client is a replica, which gets nothing but the stream.
func (s *Session) follows() bool { return s.replica != nil && s.replica.out != nil }

// maxHost is how many bytes the host has that a replica names.
const maxHost = 255

// replconf serves REPLCONF, which a replica says before PSYNC, and with ACK all the time afterwards.
func replconf(s *Session, _ *engine.Command, args [][]byte) {
	if len(args)%2 == 0 {
		s.out.ErrorText(syntaxError)
		return
	}
	if s.replica == nil {
		s.replica = &follower{}
	}
	r := s.replica
	for i := 1; i < len(args); i += 2 {
		switch value := args[i+1]; {
		case equalFold(args[i], "ACK"):
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil && r.following != nil {
				r.acked.Store(n)
				r.following.Acked(n)
			}
			return // nobody waits for an answer
		case equalFold(args[i], "GETACK"):
			return
		case equalFold(args[i], "LISTENING-PORT"):
			if _, err := strconv.ParseUint(string(value), 10, 16); err != nil {
				s.out.ErrorText(notInteger)
				return
			}
			r.port = string(value)
		case equalFold(args[i], "IP-ADDRESS"):
			if len(value) > maxHost || !printableName(value) {
				s.out.ErrorText("ERR REPLCONF ip-address provided by replica instance is too long: " + clip(value))
				return
			}
			r.host = string(value)
		case equalFold(args[i], "CAPA"):
			r.eof = r.eof || equalFold(value, "EOF")
		case equalFold(args[i], "VERSION"):
		default:
			s.out.ErrorText("ERR Unrecognized REPLCONF option: " + clip(args[i]))
			return
		}
	}
	s.out.Status("OK")
}

// psync serves PSYNC. The answer comes by the outlet.
func psync(s *Session, cmd *engine.Command, args [][]byte) {
	source := s.server.Source
	switch {
	case source == nil:
		refuse("this node sends no caches to replicas")(s, cmd, args)
		return
	case s.replica == nil || !s.replica.eof:
		s.out.ErrorText("ERR PSYNC needs a replica that takes a file of unknown length: it says REPLCONF capa eof before")
		return
	case s.out.proto != 2 || s.silence != speak || s.subscriptions() > 0 || s.monitors || s.tracking != nil:
		s.out.ErrorText("ERR PSYNC is for a connection of RESP2 that does nothing else")
		return
	}
	cache := s.server.Gateway.Cache(&s.caller, s.cache)
	if cache == nil {
		s.out.Error(wrongPass().(*fault.Error))
		return
	}
	offset, _ := strconv.ParseInt(string(args[2]), 10, 64) // whatever is no offset is not one of ours
	r, out := s.replica, &outlet{s: s}
	out.room.L = &out.mu
	following, err := source.Follow(cache, string(args[1]), offset-1, out)
	if err != nil {
		s.out.ErrorText("ERR " + fault.From(err).Message)
		return
	}
	r.out, r.following = out, following
	if r.host == "" {
		r.host, _, _ = net.SplitHostPort(s.caller.Peer)
	}
	s.facts.replica.Store(r)
}

// stopFollowing ends the stream, if there is one.
func (s *Session) stopFollowing() {
	if s.follows() {
		s.replica.out.abandon()
		s.replica.following.Close()
	}
	s.replica = nil
	s.facts.replica.Store(nil)
}

// An outlet carries what the source of replicas writes to the session. The source waits while the client does not take it.
type outlet struct {
	s    *Session
	mu   sync.Mutex
	room sync.Cond
	b    []byte
	over bool // nothing more is taken
}

// maxOutlet is how much waits for the session.
const maxOutlet = 256 << 10

// Write implements io.Writer, on the source's goroutine.
func (o *outlet) Write(p []byte) (n int, err error) {
	for n < len(p) {
		o.mu.Lock()
		for len(o.b) >= maxOutlet && !o.over {
			o.room.Wait()
		}
		if o.over {
			o.mu.Unlock()
			return n, net.ErrClosed
		}
		first, piece := len(o.b) == 0, p[n:min(len(p), n+maxOutlet-len(o.b))]
		o.b = append(o.b, piece...)
		n += len(piece)
		o.mu.Unlock()
		if first {
			o.s.wake()
		}
	}
	return n, nil
}

// Close implements io.Closer: what was written goes out, and the connection ends.
func (o *outlet) Close() error {
	o.mu.Lock()
	was := o.over
	o.over = true
	o.room.Broadcast()
	o.mu.Unlock()
	if !was {
		o.s.kill("it cannot follow the cache on")
	}
	return nil
}

// abandon has the source notice that the client is gone.
func (o *outlet) abandon() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over, o.b = true, nil
	o.room.Broadcast()
}

// drain moves what waits to the end of dst.
func (o *outlet) drain(dst []byte) []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	dst = append(dst, o.b...)
	if o.b = o.b[:0]; cap(o.b) > maxOutlet {
		o.b = nil
	}
	o.room.Broadcast()
	return dst
}

// replicas lists those among some clients.
func replicas(list []*Session) (found []*follower) {
	for _, s := range list {
		if r := s.facts.replica.Load(); r != nil {
			found = append(found, r)
		}
	}
	return found
}
