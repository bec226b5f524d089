// Package redisapi speaks the Redis protocol, RESP2 and RESP3, in front of the gateway.
//
// A Session is a connection without its socket: bytes in, replies out. Server accepts connections and gives each a
// transport that feeds its session. To a client, a cache looks like one standalone Redis server of its own. Start with
// Session.Feed.
package redisapi

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

// Identity turns credentials into principals; *auth.Authenticator is one.
type Identity interface {
	Authenticate(door auth.Use, credential string, source netip.Addr) (*auth.Principal, error)
	Recheck(p *auth.Principal, door auth.Use, source netip.Addr) (*auth.Principal, error)
}

// Config is what a Server needs. Gateway, Identity and Log are required.
type Config struct {
	Gateway  *gateway.Gateway
	Identity Identity
	Stats    func(*tenants.Cache) (engine.Stats, bool) // a cache's live numbers
	TLS      *tls.Config                               // nil: no TLS on this port
	Trusted  []netip.Prefix                            // who may say on whose behalf it connects, by PROXY protocol v2
	Plain    bool                                      // let clients log in without TLS from beyond this machine
	Version  string                                    // of Larder
	Log      *slog.Logger
}

// A Server serves connections of the Redis protocol.
type Server struct {
	Config
	lastID atomic.Int64

	mu        sync.Mutex
	sessions  map[int64]*Session
	states    map[engine.CacheID]*cacheState
	strangers map[netip.Addr]int // connections that have not logged in, by where they come from
	conns     map[net.Conn]bool
	closed    bool
	all       sync.WaitGroup // of connections
}

// A cacheState is what this node knows of a cache that clients are logged in to.
type cacheState struct {
	id       engine.CacheID
	name     string
	began    time.Time
	sessions map[int64]*Session // under the server's lock
	commands atomic.Int64
	errors   atomic.Int64
	pause    atomic.Pointer[pause]
	observed observations
}

// New makes a server.
func New(c Config) *Server {
	return &Server{
		Config: c, sessions: map[int64]*Session{}, states: map[engine.CacheID]*cacheState{}, strangers: map[netip.Addr]int{}, conns: map[net.Conn]bool{},
	}
}

func (srv *Server) now() time.Time { return time.Now() }

// tick is a time in nanoseconds, to measure with.
func (srv *Server) tick() int64 { return time.Now().UnixNano() }

// enoughOf says when a session's replies have to be sent before more commands are done.
func (srv *Server) enoughOf(s *Session) func() bool {
	if s.enough == nil {
		s.enough = func() bool { return len(s.out.b) >= softOutput }
	}
	return s.enough
}

// add makes a new session known.
func (srv *Server) add(s *Session) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.sessions[s.id] = s
	s.facts.multi, s.facts.proto, s.facts.flags.redirect = -1, 2, -1
}

func (srv *Server) remove(s *Session) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	delete(srv.sessions, s.id)
}

// enter notes that a session has logged in to a cache.
func (srv *Server) enter(s *Session, c *tenants.Cache) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	st := srv.states[c.ID]
	if st == nil {
		st = &cacheState{id: c.ID, name: c.Name, began: srv.now(), sessions: map[int64]*Session{}}
		st.observed.init()
		srv.states[c.ID] = st
	}
	st.sessions[s.id] = s
	st.observed.connections.Add(1)
	s.state = st
}

// leave notes that it has logged out. What is known of the cache stays: INFO counts from the first login.
func (srv *Server) leave(s *Session) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	delete(s.state.sessions, s.id)
}

// clear refuses a login that would send a secret in clear text over a network (specification A46).
func (srv *Server) clear(s *Session) error {
	if s.caller.Secure || srv.Plain || s.caller.Source.IsLoopback() {
		return nil
	}
	return fault.New(fault.Denied, "redisapi.login", "log in over TLS: this would send the secret in clear text")
}

// clients lists the sessions of a cache.
func (srv *Server) clients(st *cacheState) []*Session {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	list := make([]*Session, 0, len(st.sessions))
	for _, s := range st.sessions {
		list = append(list, s)
	}
	return list
}

// watchEvery is how often the logins of idle connections are looked at: what was revoked ends within twice that.
const watchEvery = time.Second

// Run ends connections whose credential has been revoked, until ctx ends.
func (srv *Server) Run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		srv.mu.Lock()
		all := make([]*Session, 0, len(srv.sessions))
		for _, s := range srv.sessions {
			all = append(all, s)
		}
		srv.mu.Unlock()
		for _, s := range all {
			if p := s.principal.Load(); p != nil {
				if _, err := srv.Identity.Recheck(p, auth.UseData, s.caller.Source); err != nil {
					s.kill("its credential does not hold any more")
				}
			}
		}
	}
}

// Serve accepts connections until l is closed.
func (srv *Server) Serve(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			var temporary interface{ Temporary() bool }
			if errors.As(err, &temporary) && temporary.Temporary() {
				time.Sleep(10 * time.Millisecond)
				continue
			}
			return err
		}
		srv.mu.Lock()
		if srv.closed {
			srv.mu.Unlock()
			_ = c.Close() // nobody serves it
			continue
		}
		srv.conns[c] = true
		srv.all.Add(1)
		srv.mu.Unlock()
		go func() {
			defer srv.all.Done()
			srv.handle(c)
			srv.mu.Lock()
			delete(srv.conns, c)
			srv.mu.Unlock()
		}()
	}
}

// Shutdown ends all connections, which get the replies to what they have sent, and waits for them until ctx ends.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.mu.Lock()
	srv.closed = true
	for _, s := range srv.sessions {
		s.kill("the server stops")
	}
	srv.mu.Unlock()
	done := make(chan struct{})
	go func() { srv.all.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		srv.mu.Lock()
		for c := range srv.conns {
			_ = c.Close() // it is cut off
		}
		srv.mu.Unlock()
		<-done
		return ctx.Err()
	}
}
