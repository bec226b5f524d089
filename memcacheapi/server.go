// Package memcacheapi speaks the memcached protocols in front of the gateway: the text protocol with its meta commands,
// and the binary protocol with SASL. The first byte of a connection decides.
//
// A Session is a connection without its socket: bytes in, replies out. Server accepts connections and has package wire feed
// the session of each. What a client sees is one cache, as if it were a memcached of its own; the items are
// the strings that HTTP and Redis see too. Start with Session.Feed.
package memcacheapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
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
	Gateway   *gateway.Gateway
	Identity  Identity
	Endpoints Endpoints                                 // nil: none
	Keys      Keys                                      // of endpoints
	Stats     func(*tenants.Cache) (engine.Stats, bool) // a cache's live numbers
	TLS       *tls.Config                               // nil: no TLS on this port
	Trusted   []netip.Prefix                            // who may say on whose behalf it connects, by PROXY protocol v2
	Plain     bool                                      // let clients log in without TLS from beyond this machine
	Clients   int                                       // connections at a time; 0 for as many as the process may have files, and some to spare
	Unread    int64                                     // bytes that all clients together may let wait; 0 for a twentieth of the memory
	Waits     bool                                      // commands may have to wait for other nodes: each connection gets a goroutine, there are no event loops
	Log       *slog.Logger
}

// An Implied login is what an endpoint grants to all who reach it.
type Implied struct {
	Cache string
	Login func(source netip.Addr, secure bool) (*auth.Principal, error) // as whom; asked for each connection
	Holds func() bool                                                   // whether its connections may go on
}

// A Server serves connections of the memcached protocols.
type Server struct {
	Config
	front  *wire.Server
	lastID atomic.Int64
	doors  doors

	waiting atomic.Int64  // bytes that clients let wait
	relief  chan struct{} // has Run see to it that these are not too many

	mu       sync.Mutex
	sessions map[*Session]bool
	states   map[engine.CacheID]*cacheState
	closed   bool
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
	if c.Unread == 0 {
		c.Unread = wire.Memory() / 20
	}
	srv := &Server{Config: c, sessions: map[*Session]bool{}, states: map[engine.CacheID]*cacheState{}, relief: make(chan struct{}, 1)}
	srv.front = wire.New(wire.Config{
		Protocol: "memcached", TLS: c.TLS, Trusted: c.Trusted, Clients: c.Clients, Waits: c.Waits, Patience: wire.Usual, Log: c.Log,
		Full:    "SERVER_ERROR max number of clients reached\r\n",
		Crowded: "SERVER_ERROR too many connections from this address have not logged in: at most " + strconv.Itoa(wire.MaxStrangers) + "\r\n",
		Begin:   srv.begin,
	})
	return srv
}

// begin makes the session of a connection. as is the *Implied of its listener, nil for none: then a TLS server name may imply
// one.
func (srv *Server) begin(h wire.Hello, as any) (wire.Session, string) {
	version := uint16(0)
	implied, _ := as.(*Implied)
	if h.TLS != nil {
		version = h.TLS.Version
		if implied == nil {
			implied = srv.byName(h.TLS.ServerName)
		}
	}
	s := srv.newSession(h.Source, h.TLS != nil, version, h.Wake)
	if implied != nil {
		if err := s.enter(implied); err != nil {
			srv.Log.Info("an endpoint's login was refused", "protocol", "memcached", "peer", h.Source, "error", err)
			s.Close()
			return nil, notLoggedIn + "\r\n"
		}
	} else if leaf := auth.ClientCertificate(h.TLS); leaf != nil {
		s.present(leaf)
	}
	return s, ""
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

// Run ends connections whose credential has been revoked, and those that let too much wait, until ctx ends.
func (srv *Server) Run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-srv.relief:
			srv.relieve()
		case <-tick.C:
			srv.endRevoked()
		}
	}
}

// everybody lists all sessions.
func (srv *Server) everybody() []*Session {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return slices.Collect(maps.Keys(srv.sessions))
}

// endRevoked ends the connections of those who may not go on, idle ones too.
func (srv *Server) endRevoked() {
	for _, s := range srv.everybody() {
		if !srv.holds(s) {
			s.kill("its credential does not hold any more", false)
		}
	}
}

// outstanding counts what clients let wait.
func (srv *Server) outstanding(more int64) {
	if now := srv.waiting.Add(more); more > 0 && now > srv.Unread {
		select {
		case srv.relief <- struct{}{}:
		default: // it has been asked for
		}
	}
}

// relieve cuts off those who let most wait, until what the others do is within the bound (specification T22).
func (srv *Server) relieve() {
	over := srv.waiting.Load() - srv.Unread
	all := srv.everybody()
	slices.SortFunc(all, func(a, b *Session) int { return cmp.Compare(b.unsent.Load(), a.unsent.Load()) })
	for _, s := range all {
		if over <= 0 {
			return
		}
		over -= s.unsent.Load()
		s.kill("all clients together let too much wait, and it the most", true)
	}
}

// holds reports whether a session may go on as who it is.
func (srv *Server) holds(s *Session) bool {
	p := s.principal.Load()
	if p == nil {
		return true
	}
	if as := s.implied.Load(); as != nil && !as.Holds() {
		return false
	}
	_, err := srv.Identity.Recheck(p, auth.UseData, s.caller.Source)
	return err == nil
}

// Serve accepts connections until l is closed. They have to log in, unless the server name of their TLS is an endpoint's.
func (srv *Server) Serve(l net.Listener) error { return srv.front.Serve(l, nil) }

// Shutdown ends all connections, which get the replies to what they have sent, and waits for them until ctx ends.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.mu.Lock()
	srv.closed = true
	srv.mu.Unlock()
	for _, s := range srv.everybody() {
		s.kill("the server stops", false)
	}
	return srv.front.Shutdown(ctx)
}
