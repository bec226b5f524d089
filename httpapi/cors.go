package httpapi

import (
	"net/http"
	"slices"
	"sync"

	"github.com/larder-cache/larder/tenants"
)

// Browsers let a page use this API only where the page's origin stands in the record of the tenant whose
// credential it presents; a tenant has none to begin with. The question that a browser asks before (the
// preflight) carries no credential, so it is answered for every origin that some tenant has. Cookies mean
// nothing here, and so credentials are never allowed: a page sends its key or token itself.

// origins counts the active tenants that have an origin.
type origins struct {
	mu    sync.RWMutex
	count map[string]int
}

// follow keeps the counts up to date.
func (o *origins) follow(old, new *tenants.Tenant) {
	o.mu.Lock()
	defer o.mu.Unlock()
	add := func(t *tenants.Tenant, n int) {
		if t == nil || t.Status != tenants.Active {
			return
		}
		for _, origin := range t.CORSOrigins {
			if o.count[origin] += n; o.count[origin] == 0 {
				delete(o.count, origin)
			}
		}
	}
	add(new, 1)
	add(old, -1)
}

// known reports whether some tenant lets pages of an origin in.
func (o *origins) known(origin string) bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return o.count[origin] > 0 || o.count["*"] > 0
}

const (
	corsMethods = "GET, HEAD, POST, PUT, PATCH, DELETE"
	corsHeaders = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, If-Range, Range, Upstash-Encoding, Upstash-Response-Format, Upstash-Sync-Token, Upstash-Telemetry-Platform, Upstash-Telemetry-Runtime, Upstash-Telemetry-Sdk, X-Larder-Consistency"
	corsExposed = "Accept-Ranges, Content-Range, ETag, Idempotency-Replayed, Location, Retry-After, Server-Timing, Upstash-Sync-Token, X-Larder-Consistency, X-Larder-Flags, X-Larder-TTL-Ms, X-Larder-Units, X-Request-Id"
	corsMaxAge  = "600" // seconds that a browser remembers the answer
)

// preflight answers a browser that asks whether it may send a request, and reports whether it did. To an
// unknown origin the answer is that of any other OPTIONS request, which a browser takes as a no.
func (a *API) preflight(w http.ResponseWriter, r *http.Request) bool {
	if r.Method != http.MethodOptions {
		return false
	}
	origin, h := r.Header["Origin"], w.Header()
	h["X-Request-Id"] = []string{newRequestID()}
	h["Vary"] = []string{"Origin"}
	if len(origin) != 1 || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	if !a.origins.known(origin[0]) {
		return false
	}
	h["Access-Control-Allow-Origin"] = origin
	h["Access-Control-Allow-Methods"] = []string{corsMethods}
	h["Access-Control-Allow-Headers"] = []string{corsHeaders}
	h["Access-Control-Max-Age"] = []string{corsMaxAge}
	w.WriteHeader(http.StatusNoContent)
	return true
}

// allowOrigin lets a browser show the answer to the page that asked, if the caller's tenant has its origin.
func (x *exchange) allowOrigin() {
	origin := x.Request().Header["Origin"]
	if len(origin) != 1 || x.who() == nil {
		return
	}
	h := x.Response().Header()
	h["Vary"] = []string{"Origin"}
	t, ok := x.api.Accounts.Get(x.who().Tenant)
	if !ok || !slices.Contains(t.CORSOrigins, origin[0]) && !slices.Contains(t.CORSOrigins, "*") {
		return
	}
	h["Access-Control-Allow-Origin"] = origin
	h["Access-Control-Expose-Headers"] = []string{corsExposed}
}
