// Package redisapi speaks the Redis protocol, RESP2 and RESP3, in front of the gateway.
//
// A Session is a connection without its socket: bytes in, replies out. Server accepts connections and gives each a
// transport that feeds its session. To a client, a cache looks like one standalone Redis server of its own. Start with
// Session.Feed.
package redisapi

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
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
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/wire"
	"github.com/larder-cache/larder/tenants"
)

// Identity turns credentials into principals; *auth.Authenticator is one.
type Identity interface {
	// Login says who a client is, and which cache it asks for.
	Login(user, password string, source netip.Addr) (p *auth.Principal, cache string, err error)
	// LoginCertificate says it of one that has shown a certificate, which was verified.
	LoginCertificate(user string, leaf *x509.Certificate, source netip.Addr) (p *auth.Principal, cache string, err error)
	Recheck(p *auth.Principal, door auth.Use, source netip.Addr) (*auth.Principal, error)
}

// Accounts changes the records of caches; *tenants.Store is one.
type Accounts interface {
	UpdateCache(ctx context.Context, tenant, name string, change func(*tenants.Cache) error) (*tenants.Cache, error)
}

// Access knows who may use a tenant's caches; *auth.Store is one.
type Access interface {
	ListKeys(tenant, after string, limit int) ([]auth.KeyInfo, string, error)
	PrincipalOf(tenant, id string) (*auth.Principal, error)
	Uniform(tenant, role string) bool

	GetKey(tenant, id string) (auth.KeyInfo, error)
	UpdateKey(ctx context.Context, tenant, id string, change auth.KeyUpdate) (auth.KeyInfo, error)
	RevokeKey(ctx context.Context, tenant, id string) error
	GetRole(tenant, name string) (auth.Role, error)
	CreateRole(ctx context.Context, tenant string, spec auth.Role) (auth.Role, error)
	UpdateRole(ctx context.Context, tenant, name string, change auth.RoleUpdate) (auth.Role, error)
	DeleteRole(ctx context.Context, tenant, name string) error
	GetPolicy(tenant, name string) (auth.Policy, error)
	PutPolicy(ctx context.Context, tenant, name string, document []byte) (p auth.Policy, created bool, err error)
	DeletePolicy(ctx context.Context, tenant, name string) error
}

// Config is what a Server needs. Trusted and TLS may be left out.
type Config struct {
	Gateway  *gateway.Gateway
	Identity Identity
	Accounts Accounts
	Access   Access
	Stats    func(*tenants.Cache) (engine.Stats, bool) // a cache's live numbers
	Copies   func(*tenants.Cache) int                  // how many replicas beside the leader have what was acknowledged; nil for none
	Source   Source                                    // sends caches to replicas of Redis; nil for none
	TLS      *tls.Config                               // nil: no TLS on this port
	Trusted  []netip.Prefix                            // who may say on whose behalf it connects, by PROXY protocol v2
	Plain    bool                                      // let clients log in without TLS from beyond this machine
	Version  string                                    // of Larder
	Clients  int                                       // connections at a time; 0 for as many as the process may have files, and some to spare
	Unread   int64                                     // bytes that all clients together may let wait; 0 for a twentieth of the memory
	Loops    int                                       // event loops; 0 for one for every two processors
	Waits    bool                                      // commands may have to wait for other nodes
	Turns    wire.Turns                                // is told of the turns of event loops; nil for nobody
	Log      *slog.Logger
}

// A Server serves connections of the Redis protocol.
type Server struct {
	Config
	front  *wire.Server
	began  time.Time
	lastID atomic.Int64

	waiting atomic.Int64  // bytes that clients let wait
	relief  chan struct{} // has Run see to it that these are not too many

	mu       sync.Mutex
	sessions map[int64]*Session
	states   map[engine.CacheID]*cacheState
	closed   bool
}

// A cacheState is what this node knows of a cache that clients are logged in to.
type cacheState struct {
	id       engine.CacheID
	name     string
	began    time.Time          // when this node did, or the cache was made if that was later
	sessions map[int64]*Session // under the server's lock
	pause    atomic.Pointer[pause]
	tally    tally
	observed observations
}

// New makes a server.
func New(c Config) *Server {
	if c.Unread == 0 {
		c.Unread = wire.Memory() / 20
	}
	srv := &Server{Config: c, began: time.Now(), sessions: map[int64]*Session{}, states: map[engine.CacheID]*cacheState{}, relief: make(chan struct{}, 1)}
	srv.front = wire.New(wire.Config{
		Protocol: "redis", TLS: c.TLS, Trusted: c.Trusted, Clients: c.Clients, Loops: c.Loops, Shared: c.Waits, Turns: c.Turns, Patience: wire.Usual, Log: c.Log,
		Full: errFull, Crowded: "-ERR max number of clients reached before login from this address: at most " + strconv.Itoa(wire.MaxStrangers) + "\r\n",
		Room: func() any { return &room{} }, Begin: srv.begin,
	})
	srv.Clients = srv.front.Clients
	return srv
}

// errFull is what a connection is told that is one too many.
const errFull = "-ERR max number of clients reached\r\n"

// begin makes the session of a connection.
func (srv *Server) begin(h wire.Hello, _ any) (wire.Session, string) {
	version := uint16(0)
	if h.TLS != nil {
		version = h.TLS.Version
	}
	s := srv.newSession(h.Source, h.TLS != nil, version, h.Room.(*room), h.Wake)
	if h.Loop {
		s.hurry(srv.Waits)
	}
	s.local = h.Local
	s.present(auth.ClientCertificate(h.TLS))
	return s, ""
}

func (srv *Server) now() time.Time { return time.Now() }

// tick is a time in nanoseconds, to measure with.
func (srv *Server) tick() int64 { return time.Now().UnixNano() }

// enoughOf says when a session's replies have to be sent before more commands are done.
func (srv *Server) enoughOf(s *Session) func() bool {
	if s.enough == nil {
		s.enough = func() bool { return s.out.Len() >= softOutput }
	}
	return s.enough
}

// add makes a new session known.
func (srv *Server) add(s *Session) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.sessions[s.id] = s
	if srv.closed {
		s.mail.killed = "the server stops"
	}
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
		st = &cacheState{id: c.ID, name: c.Name, began: srv.began, sessions: map[int64]*Session{}}
		if c.CreatedAt.After(st.began) {
			st.began = c.CreatedAt
		}
		st.observed.init()
		st.tally.init()
		srv.states[c.ID] = st
	}
	st.sessions[s.id] = s
	st.tally.logins.Add(1)
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

// watchEvery is how often the logins of idle connections are looked at: what was revoked ends within twice that, and what
// a role does not allow any more.
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
			continue
		case <-tick.C:
		}
		for _, s := range srv.everybody() {
			p := s.principal.Load()
			if p == nil {
				continue
			}
			switch now, err := srv.Identity.Recheck(p, auth.UseData, s.caller.Source); {
			case err != nil:
				s.kill("its credential does not hold any more")
			case now != p:
				s.renew()
			}
		}
	}
}

// everybody lists all sessions.
func (srv *Server) everybody() []*Session {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	all := make([]*Session, 0, len(srv.sessions))
	for _, s := range srv.sessions {
		all = append(all, s)
	}
	return all
}

// outstanding counts what clients let wait. It is quick, and safe under any lock.
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
	if over <= 0 {
		return
	}
	type debtor struct {
		s *Session
		n int64
	}
	var all []debtor
	for _, s := range srv.everybody() {
		if n := s.waiting(); n > 0 {
			all = append(all, debtor{s, n})
		}
	}
	slices.SortFunc(all, func(a, b debtor) int { return cmp.Compare(b.n, a.n) })
	for _, d := range all {
		if over <= 0 {
			return
		}
		over -= d.n
		d.s.mail.mu.Lock()
		d.s.cutOff("all clients together let too much wait, and it the most")
		d.s.mail.mu.Unlock()
		d.s.wake()
	}
}

// Serve accepts connections until l is closed.
func (srv *Server) Serve(l net.Listener) error { return srv.front.Serve(l, nil) }

// Shutdown ends all connections, which get the replies to what they have sent, and waits for them until ctx ends.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.mu.Lock()
	srv.closed = true
	srv.mu.Unlock()
	for _, s := range srv.everybody() {
		s.kill("the server stops")
	}
	return srv.front.Shutdown(ctx)
}
