package memcacheapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/internal/wire"
	"github.com/larder-cache/larder/tenants"
)

// patience is for what happens soon, and is waited for.
const patience = 30 * time.Second

// certificate makes a certificate for names.
func certificate(t testing.TB, names ...string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// doorsOpen gives a server of its own, over the same world, endpoints and TLS, and returns the shared port's address.
func doorsOpen(t *testing.T, change func(*Config, *wire.Patience)) (srv *Server, shared string) {
	t.Helper()
	c, p := theWorld.Config, wire.Usual
	c.Endpoints, c.Keys, c.TLS = theWorld.store, theWorld.credentials, certificate(t, "*.mc.example.com")
	if change != nil {
		change(&c, &p)
	}
	srv = New(c)
	srv.front.Patience = p
	changed := make(chan struct{}, 1)
	theWorld.endpointsChanged.Store(&changed)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { srv.ServeEndpoints(ctx, "127.0.0.1", changed) })
	running.Go(func() { srv.Run(ctx) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	running.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		stop()
		_ = l.Close()
		_ = srv.Shutdown(ctx) // cut off
		running.Wait()
	})
	return srv, l.Addr().String()
}

// endpoint makes an endpoint for a key of a role, and returns it with the key's id.
func (s someone) endpoint(t *testing.T, role string, e tenants.Endpoint, named bool) *tenants.Endpoint {
	t.Helper()
	key, err := auth.ParseAPIKey(s.withRole(t, role).key)
	if err != nil {
		t.Fatal(err)
	}
	e.Key = key.ID
	made, err := s.store.CreateEndpoint(t.Context(), s.tenant, "main", e, named)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func eventually(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for began := time.Now(); !seen(); time.Sleep(time.Millisecond) {
		if time.Since(began) > patience {
			t.Fatalf("%s: it does not come to pass", what)
		}
	}
}

// reach connects to an endpoint's port, once that is open.
func reach(t *testing.T, srv *Server, e *tenants.Endpoint) net.Conn {
	t.Helper()
	eventually(t, "the port opens", func() bool { return srv.EndpointProblem(e) == nil })
	return dial(t, net.JoinHostPort("127.0.0.1", strconv.Itoa(e.Port)))
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// says sends a text and expects another.
func says(t *testing.T, c net.Conn, send, want string) {
	t.Helper()
	if _, err := io.WriteString(c, send); err != nil {
		t.Fatalf("%q: %v", send, err)
	}
	b := make([]byte, len(want))
	if n, err := io.ReadFull(c, b); string(b) != want {
		t.Fatalf("%q: %q %v, want %q", send, b[:n], err, want)
	}
}

// ends expects that the server ends the connection, and returns what it says before.
func ends(t *testing.T, c net.Conn) string {
	t.Helper()
	text, err := io.ReadAll(c)
	if err, ok := err.(net.Error); ok && err.Timeout() {
		t.Fatal("the connection goes on")
	}
	return string(text)
}

// asks sends a command, and returns what the server says until it ends the connection.
func asks(t *testing.T, c net.Conn) string {
	t.Helper()
	if _, err := io.WriteString(c, "mn\r\n"); err != nil {
		t.Fatal(err)
	}
	return ends(t, c)
}

// TestEndpointIsItsKey: whoever connects may do what the key may, in its tenant's cache and nowhere else (T5).
func TestEndpointIsItsKey(t *testing.T) {
	srv, _ := doorsOpen(t, nil)
	a, b := newTenant(t, tenants.Cache{}), newTenant(t, tenants.Cache{})
	send(a.session(t), []byte("set k 0 0 1\r\na\r\n"))
	send(b.session(t), []byte("set k 0 0 1\r\nb\r\n"))
	atA, atB := reach(t, srv, a.endpoint(t, "read-only", tenants.Endpoint{}, false)), reach(t, srv, b.endpoint(t, "read-write", tenants.Endpoint{}, false))
	says(t, atA, "get k\r\n", "VALUE k 0 1\r\na\r\nEND\r\n")
	says(t, atB, "get k\r\n", "VALUE k 0 1\r\nb\r\nEND\r\n")
	says(t, atA, "set k 0 0 1\r\nx\r\n", "CLIENT_ERROR this credential may not")
	says(t, atB, "flush_all\r\nget k\r\n", "OK\r\nEND\r\n")
	if got := send(a.session(t), []byte("get k\r\n")); got != "VALUE k 0 1\r\na\r\nEND\r\n" {
		t.Errorf("one tenant's endpoint has changed another's cache: %q", got)
	}
}

// TestRevokedEndpoint: within two seconds its port is closed and its connections are cut, and who gets the port next is
// nobody's but its own.
func TestRevokedEndpoint(t *testing.T) {
	srv, _ := doorsOpen(t, nil)
	who, other := newTenant(t, tenants.Cache{}), newTenant(t, tenants.Cache{})
	e := who.endpoint(t, "owner", tenants.Endpoint{}, false)
	idle := reach(t, srv, e)
	says(t, idle, "set k 0 0 1\r\n1\r\n", "STORED\r\n")
	if err := who.store.DeleteEndpoint(t.Context(), who.tenant, "main", e.ID); err != nil {
		t.Fatal(err)
	}
	next := other.endpoint(t, "owner", tenants.Endpoint{Port: e.Port}, false)
	if text := ends(t, idle); text != "" {
		t.Errorf("%q", text)
	}
	says(t, reach(t, srv, next), "get k\r\n", "END\r\n")

	port := who.endpoint(t, "owner", tenants.Endpoint{}, false)
	held := reach(t, srv, port)
	says(t, held, "get k\r\n", "VALUE k 0 1\r\n1\r\nEND\r\n")
	if err := who.credentials.RevokeKey(t.Context(), who.tenant, port.Key); err != nil {
		t.Fatal(err)
	}
	ends(t, held)
	if text := asks(t, reach(t, srv, port)); text != "CLIENT_ERROR unauthenticated\r\n" {
		t.Errorf("with its key revoked it says %q", text)
	}
	if err := who.store.DeleteEndpoint(t.Context(), who.tenant, "main", port.ID); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the port closes", func() bool {
		c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port.Port))
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
}

// TestEndpointPortTaken: the port of an endpoint that another program has is told of, and opened once it is free.
func TestEndpointPortTaken(t *testing.T) {
	srv, _ := doorsOpen(t, nil)
	who := newTenant(t, tenants.Cache{})
	first := who.endpoint(t, "owner", tenants.Endpoint{}, false) // a port that can be had
	port := first.Port
	if err := who.store.DeleteEndpoint(t.Context(), who.tenant, "main", first.ID); err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	eventually(t, "the port is free", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", port))
		return err == nil
	})
	theWorld.anyPort.Store(true)
	defer theWorld.anyPort.Store(false)
	e := who.endpoint(t, "owner", tenants.Endpoint{Port: port}, false)
	eventually(t, "the problem shows", func() bool {
		err := srv.EndpointProblem(e)
		return err != nil && strings.Contains(err.Error(), "address already in use")
	})
	_ = l.Close()
	says(t, reach(t, srv, e), "mn\r\n", "MN\r\n")
	if err := who.store.DeleteEndpoint(t.Context(), who.tenant, "main", e.ID); err != nil {
		t.Fatal(err)
	}
}

// TestEndpointByName: a TLS server name implies a login on the port that all share; without it, or under another name, one has to
// log in, and under a name that is revoked nobody gets in.
func TestEndpointByName(t *testing.T) {
	_, shared := doorsOpen(t, nil)
	who := newTenant(t, tenants.Cache{})
	e := who.endpoint(t, "owner", tenants.Endpoint{}, true)
	as := func(name string) net.Conn {
		c := tls.Client(dial(t, shared), &tls.Config{ServerName: name, InsecureSkipVerify: true}) // it signs itself
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	c := as(e.ServerName)
	says(t, c, "set k 0 0 1\r\n1\r\nget k\r\n", "STORED\r\nVALUE k 0 1\r\n1\r\nEND\r\n")
	says(t, as("cache.example.com"), "get k\r\n", "CLIENT_ERROR unauthenticated\r\n")
	says(t, dial(t, shared), "get k\r\n", "CLIENT_ERROR unauthenticated\r\n")
	if text := asks(t, as("nobody.mc.example.com")); text != "CLIENT_ERROR unauthenticated\r\n" {
		t.Errorf("under a name that nobody has: %q", text)
	}
	if err := who.store.DeleteEndpoint(t.Context(), who.tenant, "main", e.ID); err != nil {
		t.Fatal(err)
	}
	ends(t, c)
	if text := asks(t, as(e.ServerName)); text != "CLIENT_ERROR unauthenticated\r\n" {
		t.Errorf("under a name that is revoked: %q", text)
	}
}

// TestEndpointsAllowList: beyond the list, and without TLS where that is needed, nobody gets in.
func TestEndpointsAllowList(t *testing.T) {
	srv, _ := doorsOpen(t, nil)
	who := newTenant(t, tenants.Cache{})
	behind := who.endpoint(t, "owner", tenants.Endpoint{Networks: networks("192.0.2.0/24")}, false)
	if text := asks(t, reach(t, srv, behind)); text != "CLIENT_ERROR unauthenticated\r\n" {
		t.Errorf("from beyond its list: %q", text)
	}
	sealed := who.endpoint(t, "owner", tenants.Endpoint{TLS: true}, false)
	if text := asks(t, reach(t, srv, sealed)); text != "CLIENT_ERROR unauthenticated\r\n" {
		t.Errorf("without TLS: %q", text)
	}
	c := tls.Client(reach(t, srv, sealed), &tls.Config{InsecureSkipVerify: true}) // it signs itself
	says(t, c, "mn\r\n", "MN\r\n")
}

// TestEveryNodeServesEndpoints: a second node opens and closes the same ports, on its own address.
func TestEveryNodeServesEndpoints(t *testing.T) {
	one, _ := doorsOpen(t, nil)
	other := New(one.Config)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { other.ServeEndpoints(ctx, "127.0.0.3", make(chan struct{})) })
	running.Go(func() { other.Run(ctx) })
	t.Cleanup(func() { stop(); _ = other.Shutdown(ctx); running.Wait() })
	who := newTenant(t, tenants.Cache{})
	e := who.endpoint(t, "owner", tenants.Endpoint{}, false)
	here := reach(t, one, e)
	eventually(t, "the other node opens it", func() bool { return other.EndpointProblem(e) == nil })
	there := dial(t, net.JoinHostPort("127.0.0.3", e.ID))
	says(t, here, "set k 0 0 1\r\n1\r\n", "STORED\r\n")
	says(t, there, "get k\r\n", "VALUE k 0 1\r\n1\r\nEND\r\n")
	if err := who.store.DeleteEndpoint(t.Context(), who.tenant, "main", e.ID); err != nil {
		t.Fatal(err)
	}
	ends(t, here)
	ends(t, there)
}
