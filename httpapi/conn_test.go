package httpapi

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/larder-cache/larder/auth"
)

// A door remembers how often it was asked, and can be told to turn people away.
type door struct {
	proved, rechecked int
	gone, unknown     error
	now               *auth.Principal // what a principal has become; nil: itself
}

func (d *door) Authenticate(_ auth.Use, credential string, _ netip.Addr) (*auth.Principal, error) {
	d.proved++
	return &auth.Principal{ID: credential}, d.unknown
}

func (d *door) Recheck(p *auth.Principal, _ auth.Use, _ netip.Addr) (*auth.Principal, error) {
	d.rechecked++
	if d.now != nil {
		p = d.now
	}
	return p, d.gone
}

func TestAConnectionKnowsWhoIsOnIt(t *testing.T) {
	here, _ := net.Pipe()
	ctx := withConn(t.Context(), here)
	c, _ := ctx.Value(connKey{}).(*conn)
	if c == nil || c.peer.IsValid() {
		t.Fatalf("a pipe is %+v", c)
	}
	d := &door{}
	ask := func(credential string) string {
		t.Helper()
		p, err := c.admit(d, auth.UseData, "Bearer "+credential, credential, netip.Addr{})
		if err != nil {
			return err.Error()
		}
		return p.ID
	}
	for range 3 {
		if got := ask("ann"); got != "ann" {
			t.Fatalf("got %s", got)
		}
	}
	if d.proved != 1 || d.rechecked != 2 {
		t.Errorf("proved %d times and rechecked %d times", d.proved, d.rechecked)
	}
	if got := ask("bob"); got != "bob" || d.proved != 2 { // through a proxy, say
		t.Errorf("another credential is %s", got)
	}
	if got := ask("bo"); got != "bo" {
		t.Errorf("the beginning of a credential is %s", got)
	}
	d.now = &auth.Principal{ID: "bo, changed"}
	if got := ask("bo"); got != "bo, changed" {
		t.Errorf("a principal that has changed is still %s", got)
	}
	d.gone, d.unknown = errors.New("revoked"), errors.New("refused")
	if got := ask("bo"); got != "refused" {
		t.Errorf("a principal that was revoked: %s", got)
	}
}

func TestSame(t *testing.T) {
	tests := []struct {
		name, a, b string
		want       bool
	}{
		{"equal", "abc", "abc", true},
		{"empty", "", "", true},
		{"shorter", "abc", "ab", false},
		{"another first byte", "abc", "xbc", false},
		{"another last byte", "abc", "abx", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if same(tt.a, tt.b) != tt.want {
				t.Errorf("%q and %q", tt.a, tt.b)
			}
		})
	}
}
