// Package memcacheapi speaks the memcached protocols in front of the gateway: the text protocol with its meta commands,
// and the binary protocol with SASL. The first byte of a connection decides.
//
// A Session is a connection without its socket: bytes in, replies out. Server accepts connections and gives each a
// transport that feeds its session. What a client sees is one cache, as if it were a memcached of its own; the items are
// the strings that HTTP and Redis see too. Start with Session.Feed.
package memcacheapi

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	"github.com/larder-cache/larder/internal/wire"
	"github.com/larder-cache/larder/tenants"
)

// MemcachedVersion is the version of memcached whose commands and replies clients may count on.
const MemcachedVersion = "1.6.18"

// Identity turns credentials into principals; *auth.Authenticator is one.
type Identity interface {
	// Login says who a client is, and which cache it asks for.
	Login(user, password string, source netip.Addr) (p *auth.Principal, cache string, err error)
	// LoginCertificate says it of one that has shown a certificate, which was verified.
	LoginCertificate(user string, leaf *x509.Certificate, source netip.Addr) (p *auth.Principal, cache string, err error)
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
	Log      *slog.Logger
}

// An Implied login is what an endpoint grants to all who reach it: see Server.ServeOpen.
type Implied struct {
	Cache string
	Login func(source netip.Addr) (*auth.Principal, error) // as whom; asked for each connection
}

// A Server serves connections of the memcached protocols.
type Server struct {
	Config
	lastID    atomic.Int64
	strangers wire.Strangers

	mu       sync.Mutex
	sessions map[*Session]net.Conn // nil where there is no socket
	states   map[engine.CacheID]*cacheState
	closed   bool
	all      sync.WaitGroup // of connections
}

// A cacheState is what this node knows of a cache that clients are logged in to.
type cacheState struct {
	began   time.Time
	current atomic.Int64 // connections
	tally   [numCounters]atomic.Int64
	detail  atomic.Pointer[prefixes] // nil until somebody wants it
}

// New makes a server.
func New(c Config) *Server {
	return &Server{Config: c, sessions: map[*Session]net.Conn{}, states: map[engine.CacheID]*cacheState{}}
}

// state finds what is known of a cache. It stays when clients leave: stats count from the first login.
func (srv *Server) state(c *tenants.Cache) *cacheState {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	st := srv.states[c.ID]
	if st == nil {
		st = &cacheState{began: time.Now()}
		srv.states[c.ID] = st
	}
	return st
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
		all := make(map[*Session]net.Conn, len(srv.sessions))
		for s, c := range srv.sessions {
			all[s] = c
		}
		srv.mu.Unlock()
		for s, c := range all {
			if p := s.principal.Load(); p != nil && c != nil {
				if _, err := srv.Identity.Recheck(p, auth.UseData, s.caller.Source); err != nil {
					srv.Log.Debug("a memcached connection ends: its credential does not hold any more", "client", s.id, "peer", s.caller.Peer)
					_ = c.Close() // its reader notices
				}
			}
		}
	}
}

// Serve accepts connections until l is closed. They have to log in.
func (srv *Server) Serve(l net.Listener) error { return srv.serve(l, nil) }

// ServeOpen accepts connections until l is closed. Whoever reaches it is logged in: hardly any client library can send
// the text protocol's login, so a cache may have a port that stands for one.
func (srv *Server) ServeOpen(l net.Listener, as Implied) error { return srv.serve(l, &as) }

func (srv *Server) serve(l net.Listener, as *Implied) error {
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
		srv.all.Add(1)
		srv.mu.Unlock()
		go func() {
			defer srv.all.Done()
			srv.handle(c, as)
		}()
	}
}

// Shutdown ends all connections, which get the replies to what they have sent, and waits for them until ctx ends.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.mu.Lock()
	srv.closed = true
	for _, c := range srv.sessions {
		if c != nil {
			_ = c.SetReadDeadline(time.Now()) // it is closed when what it was sent is done
		}
	}
	srv.mu.Unlock()
	done := make(chan struct{})
	go func() { srv.all.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		srv.mu.Lock()
		for _, c := range srv.sessions {
			if c != nil {
				_ = c.Close() // it is cut off
			}
		}
		srv.mu.Unlock()
		<-done
		return ctx.Err()
	}
}
