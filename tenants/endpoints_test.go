package tenants_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

func networks(list ...string) (all []netip.Prefix) {
	for _, n := range list {
		all = append(all, netip.MustParsePrefix(n))
	}
	return all
}

// wantRefused checks an error and the words that are to be in it.
func wantRefused(t *testing.T, err error, kind fault.Kind, says string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(err.Error(), says) {
		t.Errorf("%v, want kind %v with %q", err, kind, says)
	}
}

func TestEndpointsHavePortsOfTheRange(t *testing.T) {
	a, b := open(t, "a"), open(t, "b")
	from := 20_000 + 10*int(drawn.Add(1)) // tests share an etcd
	for _, w := range []*world{a, b} {
		w.store.OfferEndpoints(tenants.EndpointSpace{From: from, To: from + 3, Free: func(port int) error {
			if port == from+1 {
				return errors.New("another program")
			}
			return nil
		}})
	}
	one, other := a.tenant(t, tenants.Limits{}).Name, a.tenant(t, tenants.Limits{}).Name
	a.cache(t, one, "main")
	a.cache(t, other, "main")
	create := func(w *world, tenant string, port int) (*tenants.Endpoint, error) {
		return w.store.CreateEndpoint(t.Context(), tenant, "main", tenants.Endpoint{Key: "k", Port: port}, false)
	}
	_, err := create(a, one, from+1)
	wantRefused(t, err, fault.Conflict, "cannot be had on this node")
	_, err = create(a, one, from-1)
	wantRefused(t, err, fault.OutOfRange, fmt.Sprintf("%d to %d", from, from+3))
	first, err := create(a, one, 0)
	if err != nil || first.Port != from || first.ID != fmt.Sprint(from) {
		t.Fatalf("%+v %v", first, err)
	}
	eventually(t, "the other node sees it", func() bool { _, ok := b.store.Endpoint(first.ID); return ok })
	_, err = create(b, other, from)
	wantRefused(t, err, fault.Conflict, "is another endpoint's")
	for _, want := range []int{from + 2, from + 3} {
		if e, err := create(b, other, 0); err != nil || e.Port != want {
			t.Errorf("%+v %v, want port %d", e, err, want)
		}
	}
	_, err = create(b, other, 0)
	wantRefused(t, err, fault.Conflict, fmt.Sprintf("none of the ports %d to %d is free", from, from+3))

	if _, err := b.store.EndpointIn(other, "main", first.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another tenant finds an endpoint: %v", err)
	}
	if err := b.store.DeleteEndpoint(t.Context(), other, "main", first.ID); !fault.Is(err, fault.NotFound) {
		t.Errorf("another tenant revokes an endpoint: %v", err)
	}
	if err := a.store.DeleteEndpoint(t.Context(), one, "main", first.ID); err != nil {
		t.Fatal(err)
	}
	again, err := create(a, one, 0)
	if err != nil || again.Port != from || again.Serial == first.Serial {
		t.Errorf("the same port again: %+v %v", again, err)
	}
	list, _ := b.store.Endpoints(other, "main", "", 0)
	page, next := b.store.Endpoints(other, "main", "", 1)
	rest, end := b.store.Endpoints(other, "main", next, 1)
	if len(list) != 2 || len(page) != 1 || len(rest) != 1 || page[0] == rest[0] || end != "" {
		t.Errorf("%v; %v %q; %v %q", list, page, next, rest, end)
	}
}

// What a cache had goes with it, and a cache of the same name has none of it.
func TestEndpointsGoWithTheirCache(t *testing.T) {
	w := open(t, "n")
	from := 20_000 + 10*int(drawn.Add(1))
	w.store.OfferEndpoints(tenants.EndpointSpace{From: from, To: from + 3, Domain: "mc.example.com"})
	tenant := w.tenant(t, tenants.Limits{}).Name
	w.cache(t, tenant, "main")
	w.cache(t, tenant, "stays")
	create := func(cache string, named bool) *tenants.Endpoint {
		e, err := w.store.CreateEndpoint(t.Context(), tenant, cache, tenants.Endpoint{Key: "k"}, named)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	port, name, other := create("main", false), create("main", true), create("stays", false)
	if e, ours := w.store.EndpointOf(strings.ToUpper(name.ServerName) + "."); e == nil || e.Serial != name.Serial || !ours {
		t.Errorf("by its name: %v %v", e, ours)
	}
	if e, ours := w.store.EndpointOf("nobody.mc.example.com"); e != nil || !ours {
		t.Errorf("another label: %v %v", e, ours)
	}
	if e, ours := w.store.EndpointOf("cache.example.com"); e != nil || ours {
		t.Errorf("the server's own name: %v %v", e, ours)
	}
	if err := w.store.DeleteCache(t.Context(), tenant, "main"); err != nil {
		t.Fatal(err)
	}
	w.cache(t, tenant, "main")
	for _, id := range []string{port.ID, name.ID} {
		if e, ok := w.store.Endpoint(id); ok {
			t.Errorf("%+v is still there", e)
		}
	}
	if list := w.store.EndpointPorts(); !containsSerial(list, other.Serial) || containsSerial(list, port.Serial) {
		t.Errorf("ports: %+v", list)
	}
	if err := w.store.Delete(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	if _, ok := w.store.Endpoint(other.ID); ok {
		t.Error("an endpoint outlives its tenant")
	}
}

// eventually waits until another node has seen what it is about to see.
func eventually(t *testing.T, what string, seen func() bool) {
	t.Helper()
	for began := time.Now(); !seen(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("%s: it does not", what)
		}
	}
}

func containsSerial(list []*tenants.Endpoint, serial string) bool {
	for _, e := range list {
		if e.Serial == serial {
			return true
		}
	}
	return false
}

func TestEndpointsRefused(t *testing.T) {
	w := open(t, "n")
	tenant := w.tenant(t, tenants.Limits{}).Name
	w.cache(t, tenant, "main")
	create := func(e tenants.Endpoint, named bool) error {
		e.Key = "k"
		_, err := w.store.CreateEndpoint(t.Context(), tenant, "main", e, named)
		return err
	}
	wantRefused(t, create(tenants.Endpoint{}, false), fault.NotSupported, "--memcache-endpoint-ports")
	wantRefused(t, create(tenants.Endpoint{}, true), fault.NotSupported, "--memcache-endpoint-domain")
	from := 30_000 + 100*int(drawn.Add(1))
	w.store.OfferEndpoints(tenants.EndpointSpace{From: from, To: from + 99, Domain: "mc.example.com"})
	wantRefused(t, create(tenants.Endpoint{Port: from}, true), fault.InvalidArgument, "not both")
	wantRefused(t, create(tenants.Endpoint{Networks: networks("0.0.0.0/0")}, false), fault.OutOfRange, "too wide without TLS")
	wantRefused(t, create(tenants.Endpoint{Networks: networks("2000::/8")}, false), fault.OutOfRange, "at least 16 bits")
	wantRefused(t, create(tenants.Endpoint{Networks: make([]netip.Prefix, 65)}, false), fault.InvalidArgument, "at most 64")
	wantRefused(t, create(tenants.Endpoint{Networks: make([]netip.Prefix, 1)}, false), fault.InvalidArgument, "address/bits")
	for range tenants.MaxEndpoints {
		if err := create(tenants.Endpoint{Networks: networks("0.0.0.0/0"), TLS: true}, false); err != nil {
			t.Fatal(err)
		}
	}
	wantRefused(t, create(tenants.Endpoint{}, true), fault.Conflict, "has 32 endpoints")
	_, err := w.store.CreateEndpoint(t.Context(), tenant, "gone", tenants.Endpoint{Key: "k"}, false)
	wantRefused(t, err, fault.NotFound, `no cache "gone"`)
}

// TestEndpointAdmits: without TLS only on loopback or behind an allow list.
func TestEndpointAdmits(t *testing.T) {
	port := tenants.Endpoint{Port: 1}
	behind := tenants.Endpoint{Port: 1, Networks: networks("10.0.0.0/8", "2001:db8::/32")}
	sealed := tenants.Endpoint{Port: 1, Networks: networks("0.0.0.0/0"), TLS: true}
	name := tenants.Endpoint{ServerName: "x"}
	nameBehind := tenants.Endpoint{ServerName: "x", Networks: networks("10.0.0.0/8")}
	for _, c := range []struct {
		name   string
		e      tenants.Endpoint
		source string
		secure bool
		want   bool
	}{
		{"loopback", port, "127.0.0.1", false, true},
		{"loopback of version 6", port, "::1", false, true},
		{"loopback, mapped", port, "::ffff:127.0.0.1", false, true},
		{"beyond loopback", port, "10.0.0.1", false, false},
		{"beyond loopback, over TLS", port, "10.0.0.1", true, false},
		{"in the list", behind, "10.1.2.3", false, true},
		{"in the list, mapped", behind, "::ffff:10.1.2.3", false, true},
		{"in the list, version 6", behind, "2001:db8::1", false, true},
		{"not in the list", behind, "11.0.0.1", false, false},
		{"a list is all there is: not even loopback", behind, "127.0.0.1", false, false},
		{"TLS is needed", sealed, "127.0.0.1", false, false},
		{"TLS is there", sealed, "192.0.2.1", true, true},
		{"by name", name, "192.0.2.1", true, true},
		{"by name without TLS", name, "127.0.0.1", false, false},
		{"by name, not in the list", nameBehind, "192.0.2.1", true, false},
		{"by name, in the list", nameBehind, "10.0.0.9", true, true},
	} {
		if err := c.e.Admits(netip.MustParseAddr(c.source), c.secure); (err == nil) != c.want {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
