package httpapi

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"

	"github.com/larder-cache/larder/auth"
)

// A conn is what is known of a connection beyond its requests: where it comes from, and who was last let in on
// it. Clients keep connections and send the same credential with every request, so most requests only ask
// whether that principal still stands.
//
// A proxy may send many clients' requests over one connection: a credential is compared in constant time.
type conn struct {
	peer netip.Addr // not valid when it is no TCP connection
	last atomic.Pointer[admitted]
}

// admitted is a credential that was proved, as the Authorization header has it, with its principal.
type admitted struct {
	header    string
	principal *auth.Principal
}

type connKey struct{}

// withConn is the server's ConnContext.
func withConn(ctx context.Context, c net.Conn) context.Context {
	k := &conn{}
	if peer, err := netip.ParseAddrPort(c.RemoteAddr().String()); err == nil {
		k.peer = peer.Addr().Unmap()
	}
	return contextWithConn(ctx, k)
}

func contextWithConn(ctx context.Context, k *conn) context.Context {
	return context.WithValue(ctx, connKey{}, k)
}

// connOf is the connection of a request; nil when the server was not made by API.Server.
func connOf(r *http.Request) *conn {
	c, _ := r.Context().Value(connKey{}).(*conn)
	return c
}

// admit returns the principal of an Authorization header, which holds credential: the one that this connection
// knows, if it still stands, else the one that the authenticator finds.
func (c *conn) admit(a Authenticator, door auth.Use, header, credential string, from netip.Addr) (*auth.Principal, error) {
	if c == nil {
		return a.Authenticate(door, credential, from)
	}
	if known := c.last.Load(); known != nil && same(known.header, header) {
		if p, err := a.Recheck(known.principal, door, from); err == nil {
			if p != known.principal {
				c.last.Store(&admitted{known.header, p})
			}
			return p, nil
		}
	}
	p, err := a.Authenticate(door, credential, from)
	if err == nil {
		c.last.Store(&admitted{header, p})
	}
	return p, err
}

// same compares two texts in a time that depends on their lengths alone. It is subtle.ConstantTimeCompare for
// strings, which that would have copied, and eight bytes at a time.
func same[A, B string | []byte](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	var differ uint64
	i := 0
	for ; i+8 <= len(a); i += 8 {
		differ |= word(a, i) ^ word(b, i)
	}
	for ; i < len(a); i++ {
		differ |= uint64(a[i] ^ b[i])
	}
	return differ == 0
}

// word is the eight bytes at i.
func word[T string | []byte](t T, i int) uint64 {
	_ = t[i+7]
	return uint64(t[i]) | uint64(t[i+1])<<8 | uint64(t[i+2])<<16 | uint64(t[i+3])<<24 |
		uint64(t[i+4])<<32 | uint64(t[i+5])<<40 | uint64(t[i+6])<<48 | uint64(t[i+7])<<56
}
