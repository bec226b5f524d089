package auth

import (
	"crypto/x509"
	"net/netip"
	"net/url"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/certs"
	"github.com/larder-cache/larder/internal/fault"
)

func TestLoginByCertificate(t *testing.T) {
	n := newNode(t)
	ca := certs.New(t)
	yes := true
	mine, _ := n.newKeyOf("acme", KeySpec{Name: "k", Role: "owner", DefaultCache: "main2", ClientCertificate: true, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}})
	shy, _ := n.newKey("owner")
	theirs, _ := n.newKeyOf("globex", KeySpec{Name: "k", Role: "owner", ClientCertificate: true})
	uri := func(texts ...string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			for _, text := range texts {
				u, err := url.Parse(text)
				if err != nil {
					t.Fatal(err)
				}
				c.URIs = append(c.URIs, u)
			}
			c.NotAfter = n.clock.now().Add(time.Hour)
		}
	}
	for _, tt := range []struct {
		name  string
		leaf  *x509.Certificate
		user  string
		who   string // the key's id, empty for nobody
		cache string
	}{
		{"the common name", ca.Client(mine.ID, uri()).Leaf, "", mine.ID, "main2"},
		{"another cache", ca.Client(mine.ID, uri()).Leaf, "sessions", mine.ID, "sessions"},
		{"a URI", ca.Client("a web server", uri("spiffe://x/y", "cache://key/"+mine.ID)).Leaf, "default", mine.ID, "main2"},
		{"a URI outweighs the common name", ca.Client(theirs.ID, uri("cache://key/"+mine.ID)).Leaf, "", mine.ID, "main2"},
		{"of another tenant", ca.Client(theirs.ID, uri()).Leaf, "", theirs.ID, MainCache},
		{"two URIs", ca.Client(mine.ID, uri("cache://key/"+mine.ID, "cache://key/"+theirs.ID)).Leaf, "", "", ""},
		{"a malformed URI beside a good name", ca.Client(mine.ID, uri("cache://key/"+mine.ID+"/x")).Leaf, "", "", ""},
		{"a URI with a query", ca.Client("", uri("cache://key/"+mine.ID+"?x")).Leaf, "", "", ""},
		{"a node's URI", ca.Client("", uri("cache://node/"+mine.ID)).Leaf, "", "", ""},
		{"a key that is not for certificates", ca.Client(shy.ID, uri()).Leaf, "", "", ""},
		{"no such key", ca.Client("000000000000", uri()).Leaf, "", "", ""},
		{"no name at all", ca.Client("", uri()).Leaf, "", "", ""},
		{"expired", ca.Client(mine.ID, func(c *x509.Certificate) { c.NotAfter = n.clock.now() }).Leaf, "", "", ""},
	} {
		p, cache, err := n.LoginCertificate(tt.user, tt.leaf, here)
		if tt.who == "" {
			if !fault.Is(err, fault.Unauthenticated) {
				t.Errorf("%s: %+v, %v", tt.name, p, err)
			}
			continue
		}
		if err != nil || p.ID != tt.who || cache != tt.cache || p.AuthMethod != MethodCertificate || p.Opens(UseManage) || !p.Opens(UseData) {
			t.Errorf("%s: %+v, cache %q, %v", tt.name, p, cache, err)
		}
	}
	leaf := ca.Client(mine.ID, func(c *x509.Certificate) { c.NotAfter = n.clock.now().Add(time.Hour) }).Leaf
	if _, _, err := n.LoginCertificate("", leaf, netip.MustParseAddr("198.51.100.1")); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("from another network: %v", err)
	}
	enter := func() *Principal {
		p, _, err := n.LoginCertificate("", leaf, here)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	ended := func(what string, p *Principal, want bool) {
		if _, err := n.Recheck(p, UseData, here); (err != nil) != want {
			t.Errorf("%s: %v", what, err)
		}
	}
	p := enter()
	n.policy("other", mayGet)
	ended("after a change of something else", p, false)
	if !n.may(p, policy.CacheGet, "k") {
		t.Error("it may not do what its key may")
	}
	no := false
	change := func(to *bool) {
		if _, err := n.UpdateKey(t.Context(), "acme", mine.ID, KeyUpdate{ClientCertificate: to}); err != nil {
			t.Fatal(err)
		}
	}
	change(&no)
	ended("when the key is no more for certificates", p, true)
	change(&yes)
	p = enter()
	n.clock.add(time.Hour - time.Nanosecond)
	ended("a moment before the certificate's end", p, false)
	n.clock.add(time.Nanosecond)
	ended("at the certificate's end", p, true)
	leaf = ca.Client(mine.ID, func(c *x509.Certificate) { c.NotAfter = n.clock.now().Add(time.Hour) }).Leaf
	p = enter()
	if err := n.RevokeKey(t.Context(), "acme", mine.ID); err != nil {
		t.Fatal(err)
	}
	ended("when the key is revoked", p, true)
}
