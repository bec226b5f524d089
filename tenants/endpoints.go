package tenants

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/internal/fault"
)

// An Endpoint is a door to one cache that implies a credential, for clients that cannot log in: whoever connects to it from
// where it may be used is the key that it names. It is a port of its own, or a TLS server name on the shared port.
//
// Its record lies under its id, so that no two have the same port or the same name, whoever owns them. It never changes: one
// that is to be another is deleted and made again.
//
//	E1: exactly one of Port and ServerName is set, and the id is that
//	E2: it stands for Key of the tenant and for the cache with CacheID; without either nobody gets in
//	E3: without networks a port is for this machine alone
type Endpoint struct {
	ID         string         `json:"id"`
	Serial     string         `json:"serial"` // of this endpoint alone, whatever had its id before
	Tenant     string         `json:"tenant"`
	TenantID   ID             `json:"tenant_id"`
	Cache      string         `json:"cache"`
	CacheID    string         `json:"cache_id"`
	Key        string         `json:"key"` // the id of an API key
	Port       int            `json:"port,omitempty"`
	ServerName string         `json:"server_name,omitempty"`
	Networks   []netip.Prefix `json:"networks,omitempty"` // from where it may be used
	TLS        bool           `json:"tls,omitempty"`      // no connection without
	CreatedAt  time.Time      `json:"created_at"`
	CreatedBy  string         `json:"created_by,omitempty"` // the ARN of who made it
}

// Bounds of endpoints. Every node holds all of them in memory, and has a port open for each that has one.
const (
	MaxEndpoints        = 32 // of a tenant
	MaxEndpointNetworks = 64
	widestPlain4        = 8 // bits of the widest network that may come without TLS: a list of everybody is none
	widestPlain6        = 16
)

// An EndpointSpace is what an installation has for endpoints. All of its nodes are told the same.
type EndpointSpace struct {
	From, To int                  // ports, both included; 0 for none
	Domain   string               // server names are a label in front of it; empty for none
	Free     func(port int) error // whether a port can be had on this node; may be nil
}

// OfferEndpoints says what there is for endpoints. Call it before the store is used.
func (s *Store) OfferEndpoints(space EndpointSpace) { s.space = space }

// OnEndpointChange calls fn whenever an endpoint comes or goes; see records.Table.OnChange.
func (s *Store) OnEndpointChange(fn func()) {
	s.endpoints.OnChange(func(string, *Endpoint, *Endpoint) { fn() })
}

// Admits returns an error unless a client at source may use the endpoint, over TLS or not.
func (e *Endpoint) Admits(source netip.Addr, secure bool) error {
	source = source.Unmap().WithZone("")
	switch {
	case !secure && (e.TLS || e.ServerName != ""):
		return fault.New(fault.Denied, "endpoint", "this endpoint is for TLS")
	case len(e.Networks) == 0 && e.Port != 0 && !source.IsLoopback():
		return fault.New(fault.Denied, "endpoint", "this endpoint is for its own machine")
	case len(e.Networks) > 0 && !slices.ContainsFunc(e.Networks, func(n netip.Prefix) bool { return n.Contains(source) }):
		return fault.New(fault.Denied, "endpoint", "this endpoint is not for your address")
	}
	return nil
}

// Endpoint finds an endpoint of which the cache is still there.
func (s *Store) Endpoint(id string) (*Endpoint, bool) {
	e, ok := s.endpoints.Get(id)
	if !ok || !s.stands(e) {
		return nil, false
	}
	return e, true
}

// EndpointPorts lists the endpoints that have a port of those that this installation has.
func (s *Store) EndpointPorts() (list []*Endpoint) {
	all, _ := s.endpoints.List("", "", 0)
	for _, e := range all {
		if e.Port != 0 && e.Port >= s.space.From && e.Port <= s.space.To && e.ID == strconv.Itoa(e.Port) && s.stands(e) {
			list = append(list, e)
		}
	}
	return list
}

// EndpointOf finds the endpoint that a TLS server name stands for. ours says that no other use is made of the name.
func (s *Store) EndpointOf(serverName string) (e *Endpoint, ours bool) {
	name := strings.ToLower(strings.TrimSuffix(serverName, "."))
	if s.space.Domain == "" || !strings.HasSuffix(name, "."+s.space.Domain) {
		return nil, false
	}
	if e, ok := s.Endpoint(name); ok && e.ServerName == name {
		return e, true
	}
	return nil, true
}

// stands reports whether the cache is the one that the endpoint was made for.
func (s *Store) stands(e *Endpoint) bool {
	c, ok := s.Cache(e.Tenant, e.Cache)
	return ok && c.HexID == e.CacheID && c.TenantID == e.TenantID
}

// Endpoints lists a cache's endpoints in order of their ids, up to limit of those after one, and after which the next come.
func (s *Store) Endpoints(tenant, cache, after string, limit int) (list []*Endpoint, next string) {
	all, _ := s.endpoints.List("", after, 0)
	for _, e := range all {
		if e.Tenant != tenant || e.Cache != cache || !s.stands(e) {
			continue
		}
		if limit > 0 && len(list) == limit {
			return list, list[limit-1].ID
		}
		list = append(list, e)
	}
	return list, ""
}

// CreateEndpoint makes an endpoint of a cache: with e.Port, with any free port when that is 0, or, if named, with a server
// name that nobody can guess. The caller has made sure that the key is the tenant's.
func (s *Store) CreateEndpoint(ctx context.Context, tenant, cache string, e Endpoint, named bool) (*Endpoint, error) {
	const op = "endpoint.create"
	c, ok := s.Cache(tenant, cache)
	if !ok {
		return nil, fault.About(fault.NotFound, op, "cache", "no cache %q", cache)
	}
	if err := e.check(named); err != nil {
		return nil, err
	}
	if n := s.endpointsOf(tenant); n >= MaxEndpoints {
		return nil, fault.New(fault.Conflict, op, "the tenant has %d endpoints, which is the limit; delete some first", n)
	}
	e.Serial, e.Tenant, e.TenantID, e.Cache, e.CacheID, e.CreatedAt = randomID(), tenant, c.TenantID, cache, c.HexID, now()
	switch {
	case named:
		if s.space.Domain == "" {
			return nil, fault.About(fault.NotSupported, op, "server_name", "this installation has no server names for endpoints: its operator sets --memcache-endpoint-domain")
		}
		e.ServerName = randomID() + "." + s.space.Domain
		return s.addEndpoint(ctx, e.ServerName, e)
	case s.space.From == 0:
		return nil, fault.About(fault.NotSupported, op, "port", "this installation has no ports for endpoints: its operator sets --memcache-endpoint-ports")
	case e.Port != 0:
		return s.openEndpoint(ctx, e)
	}
	for e.Port = s.space.From; e.Port <= s.space.To; e.Port++ {
		if _, taken := s.endpoints.Get(strconv.Itoa(e.Port)); taken {
			continue
		}
		made, err := s.openEndpoint(ctx, e)
		if !fault.Is(err, fault.Conflict) {
			return made, err
		}
	}
	return nil, fault.About(fault.Conflict, op, "port", "none of the ports %d to %d is free; delete an endpoint, or have the operator widen --memcache-endpoint-ports", s.space.From, s.space.To)
}

// check refuses what an endpoint may not be, and brings its networks to one form.
func (e *Endpoint) check(named bool) error {
	const op = "endpoint.create"
	if named && e.Port != 0 {
		return fault.About(fault.InvalidArgument, op, "port", "an endpoint has a port or a server name, not both")
	}
	if len(e.Networks) > MaxEndpointNetworks {
		return fault.About(fault.InvalidArgument, op, "networks", "%d networks, at most %d are allowed", len(e.Networks), MaxEndpointNetworks)
	}
	var networks []netip.Prefix
	for _, n := range e.Networks {
		if n.IsValid() && n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		if !n.IsValid() || n.Addr().Is4In6() || n.Addr().Zone() != "" {
			return fault.About(fault.InvalidArgument, op, "networks", "a network is not of the form address/bits, such as 192.0.2.0/24 or 2001:db8::/32")
		}
		widest := widestPlain4
		if n.Addr().Is6() {
			widest = widestPlain6
		}
		if !named && !e.TLS && n.Bits() < widest {
			return fault.About(fault.OutOfRange, op, "networks", "%s is too wide without TLS: give at least %d bits, or tls", n, widest)
		}
		if n = n.Masked(); !slices.Contains(networks, n) {
			networks = append(networks, n)
		}
	}
	e.Networks = networks
	return nil
}

func (s *Store) endpointsOf(tenant string) (n int) {
	all, _ := s.endpoints.List("", "", 0)
	for _, e := range all {
		if e.Tenant == tenant {
			n++
		}
	}
	return n
}

// openEndpoint makes an endpoint with a port, if that can be had.
func (s *Store) openEndpoint(ctx context.Context, e Endpoint) (*Endpoint, error) {
	const op = "endpoint.create"
	id := strconv.Itoa(e.Port)
	if e.Port < s.space.From || e.Port > s.space.To {
		return nil, fault.About(fault.OutOfRange, op, "port", "port %d is not one of the ports for endpoints, %d to %d", e.Port, s.space.From, s.space.To)
	}
	if _, taken := s.endpoints.Get(id); !taken && s.space.Free != nil {
		if err := s.space.Free(e.Port); err != nil {
			return nil, fault.Wrap(fault.Conflict, op, err, "port %d cannot be had on this node: another program has it, perhaps", e.Port)
		}
	}
	made, err := s.addEndpoint(ctx, id, e)
	if fault.Is(err, fault.Conflict) {
		return nil, fault.About(fault.Conflict, op, "port", "port %d is another endpoint's", e.Port)
	}
	return made, err
}

func (s *Store) addEndpoint(ctx context.Context, id string, e Endpoint) (*Endpoint, error) {
	e.ID = id
	if err := s.endpoints.Create(ctx, id, &e); err != nil {
		return nil, err
	}
	return &e, nil
}

// EndpointIn finds an endpoint of a cache.
func (s *Store) EndpointIn(tenant, cache, id string) (*Endpoint, error) {
	e, ok := s.Endpoint(id)
	if !ok || e.Tenant != tenant || e.Cache != cache {
		return nil, fault.About(fault.NotFound, "endpoint", "endpoint", "no endpoint %.100q", id)
	}
	return e, nil
}

// DeleteEndpoint revokes an endpoint. Every node closes its port and cuts its connections.
func (s *Store) DeleteEndpoint(ctx context.Context, tenant, cache, id string) error {
	if _, err := s.EndpointIn(tenant, cache, id); err != nil {
		return err
	}
	return s.endpoints.Delete(ctx, id)
}

// dropEndpoints removes the endpoints that fit.
func (s *Store) dropEndpoints(ctx context.Context, fits func(*Endpoint) bool) error {
	all, _ := s.endpoints.List("", "", 0)
	for _, e := range all {
		if !fits(e) {
			continue
		}
		if err := s.endpoints.Delete(ctx, e.ID); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return nil
}
