package memcacheapi

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

// Endpoints knows the endpoints that imply a credential; *tenants.Store is one.
type Endpoints interface {
	EndpointPorts() []*tenants.Endpoint
	Endpoint(id string) (*tenants.Endpoint, bool)
	EndpointOf(serverName string) (e *tenants.Endpoint, ours bool)
}

// Keys knows the keys that endpoints stand for; *auth.Store is one.
type Keys interface {
	PrincipalOf(tenant, id string) (*auth.Principal, error)
}

// A door is an endpoint with a port, on this node.
//
//	D1: exactly one of listener and problem is set
type door struct {
	endpoint *tenants.Endpoint
	listener net.Listener
	problem  error // why the port is not open; it is tried again
}

// doors are the open ports of endpoints, by port.
type doors struct {
	mu     sync.Mutex
	open   map[int]*door
	served sync.WaitGroup
}

// openEvery is how often ports that could not be opened are tried again, and at the latest those of new endpoints opened.
const openEvery = time.Second

// ServeEndpoints keeps the ports of endpoints open on host until ctx ends. changed says that endpoints have come or gone.
func (srv *Server) ServeEndpoints(ctx context.Context, host string, changed <-chan struct{}) {
	tick := time.NewTicker(openEvery)
	defer tick.Stop()
	for {
		srv.followEndpoints(host)
		select {
		case <-ctx.Done():
			srv.doors.keep(nil)
			srv.doors.served.Wait()
			return
		case <-changed:
		case <-tick.C:
		}
	}
}

// followEndpoints opens and closes ports as there are endpoints.
func (srv *Server) followEndpoints(host string) {
	wanted := srv.Endpoints.EndpointPorts()
	srv.doors.keep(wanted)
	for _, e := range wanted {
		if srv.doors.has(e.Port) {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(e.Port)))
		if srv.doors.put(e, l, err) {
			srv.Log.Error("an endpoint's port cannot be opened", "port", e.Port, "tenant", e.Tenant, "cache", e.Cache, "error", err)
		}
		if err != nil {
			continue
		}
		srv.doors.served.Go(func() {
			if err := srv.front.Serve(l, srv.implied(e)); err != nil {
				srv.Log.Error("an endpoint's port is not served any more", "port", e.Port, "error", err)
			}
		})
	}
}

// keep closes the ports of endpoints that are not wanted any more.
func (d *doors) keep(wanted []*tenants.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stays := map[int]string{}
	for _, e := range wanted {
		stays[e.Port] = e.Serial
	}
	for port, open := range d.open {
		if stays[port] != open.endpoint.Serial {
			if open.listener != nil {
				_ = open.listener.Close() // nothing is lost with it
			}
			delete(d.open, port)
		}
	}
}

// has reports whether a port is open.
func (d *doors) has(port int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	open := d.open[port]
	return open != nil && open.listener != nil
}

// put notes an open port, or why it is not. It reports whether that is news for the log.
func (d *doors) put(e *tenants.Endpoint, l net.Listener, err error) (news bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = map[int]*door{}
	}
	was := d.open[e.Port]
	d.open[e.Port] = &door{e, l, err}
	return err != nil && (was == nil || was.problem == nil)
}

// ErrNotOpenYet is the problem of an endpoint that is new.
var ErrNotOpenYet = errors.New("this node has not opened the port yet")

// EndpointProblem says why an endpoint does not serve on this node, nil if it does.
func (srv *Server) EndpointProblem(e *tenants.Endpoint) error {
	if srv.TLS == nil && (e.TLS || e.Port == 0) {
		return errors.New("this node has no certificate")
	}
	if e.Port == 0 {
		return nil
	}
	srv.doors.mu.Lock()
	defer srv.doors.mu.Unlock()
	switch open := srv.doors.open[e.Port]; {
	case open == nil || open.endpoint.Serial != e.Serial:
		return ErrNotOpenYet
	default:
		return open.problem
	}
}

// errNoEndpoint is for who reaches none, or one that is gone.
var errNoEndpoint = fault.New(fault.Unauthenticated, "memcacheapi.endpoint", "no such endpoint")

// implied is the login that an endpoint stands for. Its key is asked for with each connection, and looked at like that of
// any other afterwards.
func (srv *Server) implied(e *tenants.Endpoint) *Implied {
	return &Implied{
		Cache: e.Cache,
		Login: func(source netip.Addr, secure bool) (*auth.Principal, error) {
			if now, ok := srv.Endpoints.Endpoint(e.ID); !ok || now.Serial != e.Serial {
				return nil, errNoEndpoint
			}
			if err := e.Admits(source, secure); err != nil {
				return nil, err
			}
			p, err := srv.Keys.PrincipalOf(e.Tenant, e.Key)
			if err != nil {
				return nil, err
			}
			if p.TenantID != e.TenantID {
				return nil, errNoEndpoint
			}
			return srv.Identity.Recheck(p, auth.UseData, source)
		},
		Holds: func() bool {
			now, ok := srv.Endpoints.Endpoint(e.ID)
			return ok && now.Serial == e.Serial
		},
	}
}

// byName is the login that the server name of a TLS connection stands for, nil if for none.
func (srv *Server) byName(serverName string) *Implied {
	if srv.Endpoints == nil {
		return nil
	}
	switch e, ours := srv.Endpoints.EndpointOf(serverName); {
	case e != nil:
		return srv.implied(e)
	case ours:
		return &Implied{Login: func(netip.Addr, bool) (*auth.Principal, error) { return nil, errNoEndpoint }}
	}
	return nil
}
