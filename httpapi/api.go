// Package httpapi is Larder over HTTP and JSON.
//
// A handler decodes, asks the gateway for a command, and encodes the answer; what it needs that no command
// does becomes a command, not code here. One table, routes, says which method and path is whose; the router,
// the OpenAPI document and the tests read it. One function, writeError, turns any error into an
// application/problem+json answer, or into that of a dialect.
//
// Start with API and exchange, then read the file named after the resource you care about.
package httpapi

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/snapshots"
	"github.com/larder-cache/larder/tenants"
	"github.com/larder-cache/larder/transfer"
)

// Config is what the API is made of.
type Config struct {
	Gateway      *gateway.Gateway
	Accounts     *tenants.Store
	Meters       *tenants.Meters
	Credentials  *auth.Store
	Answers      *Answers
	Place        *placement.Map
	Snapshots    *snapshots.Service
	RotateMaster func(context.Context) (rewrapped int, err error) // has the newest master key wrap the keys of all tenants
	Identity     Authenticator
	Stats        func(*tenants.Cache) (engine.Stats, bool) // live numbers of a cache; false when its partition is out of reach
	Durability   func(*tenants.Cache) string               // of which class it is at this moment
	Endpoint     func(*tenants.Endpoint) error             // why an endpoint does not serve on this node; nil when it does
	Metrics      func(tenant string) http.Handler          // what /metrics serves: one tenant's numbers, or all with the process's own
	OpenMetrics  bool                                      // /metrics needs no credential: for loopback and for private networks
	Ready        func() error                              // nil when requests can be served
	Trusted      []netip.Prefix                            // proxies whose X-Forwarded-For is believed
	Version      string
	Stores       *transfer.Stores // that files are imported from; nil for none
	Scratch      string           // a directory for what an export keeps for a moment, encrypted with a key that nobody keeps
	Log          *slog.Logger
}

// An Authenticator says who presents a credential. auth.Authenticator is one.
type Authenticator interface {
	Authenticate(door auth.Use, credential string, from netip.Addr) (*auth.Principal, error)
	// Recheck returns a principal as it is now, or why it no longer is.
	Recheck(p *auth.Principal, door auth.Use, from netip.Addr) (*auth.Principal, error)
}

// API serves version 1 of the HTTP API.
type API struct {
	Config
	echo    *echo.Echo
	origins origins
	streams *streams
	imports imports
}

// New makes the API with all of its routes.
func New(cfg Config) *API {
	if cfg.Stores == nil {
		cfg.Stores = &transfer.Stores{}
	}
	a := &API{Config: cfg, echo: echo.New(), origins: origins{count: map[string]int{}}, streams: newStreams()}
	a.echo.HideBanner, a.echo.HidePort = true, true
	a.echo.HTTPErrorHandler = func(err error, c echo.Context) { a.writeError(c, err) }
	a.echo.IPExtractor = extractor(cfg.Trusted)
	cfg.Accounts.OnTenantChange(a.origins.follow)
	for _, r := range a.routes() {
		a.echo.Add(r.method, r.path, a.handle(r))
	}
	return a
}

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !a.preflight(w, r) {
		a.echo.ServeHTTP(w, r)
	}
}

// A route is one row of the table of routes.
type route struct {
	method string
	path   string // as echo writes it: "/v1/caches/:cache"
	open   bool   // needs no credential
	manage bool   // is management: tokens for data do not open it, and the reverse
	any    bool   // is neither: every credential opens it
	reads  bool   // changes nothing, whatever its method
	long   bool   // takes a body of any length, and so no Idempotency-Key
	rest   bool   // speaks the REST dialect: see rest.go
	serve  func(*exchange) error
}

// routes is the table of routes. Its rows stand beside their handlers.
func (a *API) routes() (all []route) {
	for _, rows := range [][]route{a.systemRoutes(), a.cacheRoutes(), a.snapshotRoutes(), a.scheduleRoutes(), a.encryptionRoutes(), a.transferRoutes(), a.endpointRoutes(), a.kvRoutes(), a.counterRoutes(), a.sessionRoutes(), a.leaderboardRoutes(), a.batchRoutes(),
		a.keyRoutes(), a.roleRoutes(), a.policyRoutes(), a.tokenRoutes(), a.whoamiRoutes(), a.tenantRoutes(), a.clusterRoutes(), a.restRoutes(), a.webdisRoutes()} {
		all = append(all, rows...)
	}
	return all
}

// Limits of the server itself: see Server.
const (
	headerTimeout  = 5 * time.Second
	requestTimeout = 30 * time.Second // to read a request without a large body, and to write its answer
	idleTimeout    = 120 * time.Second
	maxHeaderBytes = 16<<10 + 3*engine.MaxKey // headers, and a key in the path with every byte written as %XX
	maxStreams     = 250                      // concurrent requests on one HTTP/2 connection
)

// Server makes the HTTP server for the API, with every limit set: slow, endless and oversized requests end,
// and HTTP/1.1 and HTTP/2, with TLS or without, are spoken on one port.
func (a *API) Server() *http.Server {
	s := &http.Server{
		Handler:           a,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		WriteTimeout:      requestTimeout,
		IdleTimeout:       idleTimeout,
		ConnContext:       withConn,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		Protocols:         &http.Protocols{},
		ErrorLog:          slog.NewLogLogger(a.Log.Handler(), slog.LevelDebug),
	}
	s.RegisterOnShutdown(a.streams.close)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// extractor finds the client's address: the peer's, unless that is a proxy we trust; then the rightmost
// address of X-Forwarded-For that is no such proxy. The leftmost, which anybody may write, is never believed.
func extractor(trusted []netip.Prefix) echo.IPExtractor {
	if len(trusted) == 0 {
		return echo.ExtractIPDirect()
	}
	options := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
	for _, p := range trusted {
		options = append(options, echo.TrustIPRange(ipNet(p)))
	}
	return echo.ExtractIPFromXFFHeader(options...)
}

var errNoCredential = fault.New(fault.NoCredentials, "httpapi", "this needs a credential: send Authorization: Bearer <API key or token>")
