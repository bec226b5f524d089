package memcacheapi

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/internal/wire"
	"github.com/larder-cache/larder/tenants"
)

// The tests in this file are of connections over sockets, and of what a client can make the server keep or wait for.

// asciiLogin is the text protocol's login.
func (s someone) asciiLogin() string {
	return fmt.Sprintf("set any 0 0 %d\r\nmain %s\r\n", len("main ")+len(s.key), s.key)
}

// dialFrom connects from an address of this machine.
func dialFrom(t *testing.T, from, address string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return c
}

// proxied is a header of the PROXY protocol, version 2.
func proxied(client string) string {
	at := netip.MustParseAddrPort(client)
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, 0x11, 0, 12)
	from := at.Addr().As4()
	b = append(append(b, from[:]...), 127, 0, 0, 1)
	return string(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(b, at.Port()), 11211))
}

// One port serves clients with TLS and without, each perhaps behind a proxy; what a proxy says is believed of a trusted one.
func TestOpenings(t *testing.T) {
	srv, shared := doorsOpen(t, func(c *Config, _ *wire.Patience) {
		c.Plain, c.Trusted = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	})
	who := newTenant(t, tenants.Cache{})
	for _, c := range []struct {
		name, from, header string
		secure             bool
		source             string
	}{
		{"plain", "127.0.0.1", "", false, "127.0.0.1"},
		{"TLS", "127.0.0.1", "", true, "127.0.0.1"},
		{"trusted, plain", "127.0.0.2", proxied("198.51.100.7:4711"), false, "198.51.100.7"},
		{"trusted, TLS", "127.0.0.2", proxied("198.51.100.7:4711"), true, "198.51.100.7"},
		{"trusted, but it does not say", "127.0.0.2", "", false, "127.0.0.2"},
		{"trusted, for itself", "127.0.0.2", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", true, "127.0.0.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := dialFrom(t, c.from, shared)
			if _, err := io.WriteString(conn, c.header); err != nil {
				t.Fatal(err)
			}
			if c.secure {
				conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // it signs itself
			}
			says(t, conn, who.asciiLogin(), "STORED\r\n")
			var seen []string
			for _, s := range srv.everybody() {
				if s.principal.Load() != nil && s.caller.Source.String() == c.source && s.caller.Secure == c.secure {
					seen = append(seen, s.caller.Peer)
				}
			}
			if len(seen) != 1 {
				t.Errorf("sessions of that kind: %q", seen)
			}
			_ = conn.Close()
			eventually(t, "it is gone", func() bool { return len(srv.everybody()) == 0 })
		})
	}
	untrusted := dialFrom(t, "127.0.0.1", shared)
	says(t, untrusted, proxied("198.51.100.7:4711")+"\r\n", "CLIENT_ERROR unauthenticated\r\n")
	for _, s := range srv.everybody() {
		if s.caller.Source.String() != "127.0.0.1" {
			t.Errorf("an untrusted proxy was believed: %v", s.caller.Source)
		}
	}
}

// TestSecretsInClear: beyond this machine a login needs TLS, unless the operator allows it without (A46).
func TestSecretsInClear(t *testing.T) {
	who := newTenant(t, tenants.Cache{})
	afar := netip.MustParseAddrPort("192.0.2.1:4711")
	for _, c := range []struct {
		name          string
		plain, secure bool
		want          string
	}{
		{"without TLS", false, false, "CLIENT_ERROR log in over TLS: this would send the secret in clear text\r\n"},
		{"over TLS", false, true, "STORED\r\n"},
		{"allowed", true, false, "STORED\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := theWorld.Config
			config.Plain = c.plain
			s := New(config).newSession(afar, c.secure, 0, func() {})
			defer s.Close()
			if got := send(s, []byte(who.asciiLogin())); got != c.want {
				t.Errorf("%q", got)
			}
			sasl := New(config).newSession(afar, c.secure, 0, func() {})
			defer sasl.Close()
			got := send(sasl, packet(opSASLAuth, "PLAIN", nil, "\x00main\x00"+who.key, 0))
			if ok := len(got) > 8 && got[7] == 0; ok != (c.want == "STORED\r\n") {
				t.Errorf("SASL: %q", got)
			}
		})
	}
}

// Who does not log in in time is gone, whether it has spoken or not; who has, or came by an endpoint, may stay.
func TestLoginTime(t *testing.T) {
	srv, shared := doorsOpen(t, func(_ *Config, p *wire.Patience) { p.Login = 300 * time.Millisecond })
	who := newTenant(t, tenants.Cache{})
	in := dial(t, shared)
	says(t, in, who.asciiLogin(), "STORED\r\n")
	open := reach(t, srv, who.endpoint(t, "owner", tenants.Endpoint{}, false))
	says(t, open, "mn\r\n", "MN\r\n")
	silent, half := dial(t, shared), dial(t, shared)
	sealed := tls.Client(dial(t, shared), &tls.Config{InsecureSkipVerify: true})
	says(t, sealed, "get a\r\n", "CLIENT_ERROR unauthenticated\r\n")
	says(t, half, "get a\r\nset any 0 0 100\r\nma", "CLIENT_ERROR unauthenticated\r\n")
	for _, c := range []net.Conn{silent, half, sealed} {
		ends(t, c)
	}
	says(t, in, "mn\r\n", "MN\r\n")
	says(t, open, "mn\r\n", "MN\r\n")
}

// One address has so many connections that have not logged in, and others have theirs.
func TestManyStrangers(t *testing.T) {
	srv, shared := doorsOpen(t, nil)
	who := newTenant(t, tenants.Cache{})
	var all []net.Conn
	for range wire.MaxStrangers {
		all = append(all, dial(t, shared))
	}
	eventually(t, "all are there", func() bool { present, _ := srv.front.Census(); return present == wire.MaxStrangers })
	if text := ends(t, dial(t, shared)); text != "SERVER_ERROR too many connections from this address have not logged in: at most 100\r\n" {
		t.Errorf("%q", text)
	}
	says(t, dialFrom(t, "127.0.0.2", shared), "get a\r\n", "CLIENT_ERROR unauthenticated\r\n")
	says(t, all[0], who.asciiLogin(), "STORED\r\n")
	says(t, dial(t, shared), who.asciiLogin(), "STORED\r\n")
}

// A stranger that asks and never reads is cut off long before its replies are many.
func TestStrangerThatDoesNotRead(t *testing.T) {
	srv, shared := doorsOpen(t, nil)
	c := dial(t, shared)
	block := strings.Repeat("x\r\n", 100_000)
	for range 100 {
		if _, err := io.WriteString(c, block); err != nil {
			break // it is cut off
		}
	}
	eventually(t, "it is cut off", func() bool { present, _ := srv.front.Census(); return present == 0 })
}

// Who does not read is cut off when its time is over.
func TestSlowReader(t *testing.T) {
	srv, shared := doorsOpen(t, func(_ *Config, p *wire.Patience) { p.Write = 300 * time.Millisecond })
	who := newTenant(t, tenants.Cache{})
	send(who.session(t), []byte("set k 0 0 1000000\r\n"+strings.Repeat("v", 1_000_000)+"\r\n"))
	good, slow, sealed := dial(t, shared), dial(t, shared), tls.Client(dial(t, shared), &tls.Config{InsecureSkipVerify: true})
	for _, c := range []net.Conn{good, slow, sealed} {
		says(t, c, who.asciiLogin(), "STORED\r\n")
	}
	for _, c := range []net.Conn{slow, sealed} {
		if _, err := io.WriteString(c, strings.Repeat("get k\r\n", 30)); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "they are cut off", func() bool { present, _ := srv.front.Census(); return present == 1 })
	says(t, good, "mn\r\n", "MN\r\n")
	if n := srv.waiting.Load(); n != 0 {
		t.Errorf("%d bytes wait for nobody", n)
	}
}

// When all together let too much wait, the one who lets most wait is cut off at once.
func TestTooMuchUnread(t *testing.T) {
	srv, shared := doorsOpen(t, func(c *Config, _ *wire.Patience) { c.Unread = 3 << 20 })
	who := newTenant(t, tenants.Cache{})
	send(who.session(t), []byte("set k 0 0 8000000\r\n"+strings.Repeat("v", 8_000_000)+"\r\n"))
	good, slow := dial(t, shared), dial(t, shared)
	for _, c := range []net.Conn{good, slow} {
		says(t, c, who.asciiLogin(), "STORED\r\n")
	}
	if _, err := io.WriteString(slow, strings.Repeat("get k\r\n", 4)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is cut off", func() bool { present, _ := srv.front.Census(); return present == 1 })
	says(t, good, "mn\r\n", "MN\r\n")
	eventually(t, "nothing waits", func() bool { return srv.waiting.Load() == 0 })
}

// A pipeline that no socket buffer holds, nor its replies, is carried out while it comes, and one whose client sends no more
// gets its replies.
func TestLongPipeline(t *testing.T) {
	_, shared := doorsOpen(t, nil)
	who := newTenant(t, tenants.Cache{})
	value := strings.Repeat("v", 100_000)
	send(who.session(t), []byte("set k 0 0 100000\r\n"+value+"\r\n"))
	for _, secure := range []bool{false, true} {
		raw := dial(t, shared)
		c := net.Conn(raw)
		if secure {
			c = tls.Client(raw, &tls.Config{InsecureSkipVerify: true})
		}
		says(t, c, who.asciiLogin(), "STORED\r\n")
		if _, err := io.WriteString(c, strings.Repeat("get k\r\n", 200)); err != nil {
			t.Fatal(err)
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		want := 200 * len("VALUE k 0 100000\r\n"+value+"\r\nEND\r\n")
		if got := len(ends(t, c)); got != want {
			t.Errorf("TLS %v: %d bytes of replies, want %d", secure, got, want)
		}
	}
}

// TestRevokedLogin: an idle connection ends when its key does.
func TestRevokedLogin(t *testing.T) {
	_, shared := doorsOpen(t, nil)
	who := newTenant(t, tenants.Cache{})
	c := dial(t, shared)
	says(t, c, who.asciiLogin(), "STORED\r\n")
	key, err := auth.ParseAPIKey(who.key)
	if err != nil {
		t.Fatal(err)
	}
	if err := who.credentials.RevokeKey(t.Context(), who.tenant, key.ID); err != nil {
		t.Fatal(err)
	}
	if text := ends(t, c); text != "" {
		t.Errorf("%q", text)
	}
}

// A server that stops sends the replies to what it was sent, and leaves nothing behind.
func TestShutdown(t *testing.T) {
	srv, shared := doorsOpen(t, nil)
	who := newTenant(t, tenants.Cache{})
	idle, half := dial(t, shared), dial(t, shared)
	sealed := tls.Client(dial(t, shared), &tls.Config{InsecureSkipVerify: true})
	for _, c := range []net.Conn{idle, half, sealed} {
		says(t, c, who.asciiLogin(), "STORED\r\n")
	}
	says(t, half, "get a\r\nset b 0 0 10\r\nhal", "END\r\n")
	silent := dial(t, shared)
	eventually(t, "all are there", func() bool { present, _ := srv.front.Census(); return present == 4 })
	ctx, done := context.WithTimeout(t.Context(), patience)
	defer done()
	if err := srv.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	for _, c := range []net.Conn{idle, half, sealed, silent} {
		ends(t, c)
	}
	if present, strangers := srv.front.Census(); present+strangers != 0 || len(srv.everybody()) != 0 {
		t.Errorf("left: %d connections, %d strangers, %d sessions", present, strangers, len(srv.everybody()))
	}
}

// TestByteByByte: random commands fed byte by byte get the replies that they get in one piece.
func TestByteByByte(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	c := &chooser{Rand: rand.New(rand.NewPCG(seed, 0))}
	who := newTenant(t, tenants.Cache{MaxValue: 1 << 20})
	for c.made < 3000 {
		script := []byte(placeholder.ReplaceAllString(c.batch(), "1"))
		var said [2]string
		for i := range said {
			send(who.session(t), []byte("flush_all\r\n"))
			s := who.session(t)
			if i == 0 {
				said[i] = send(s, script)
			} else {
				said[i] = sendSplit(s, script, 1)
			}
			s.Close()
			said[i] = ttlFlag.ReplaceAllString(ageFlag.ReplaceAllString((&tokens{}).hide(said[i]), "${1}#"), "${1}#") // a second may pass
			said[i] = debugLine.ReplaceAllString(said[i], "$1")
		}
		if said[0] != said[1] {
			t.Fatalf("%q\nin one piece: %q\nbyte by byte: %q", script, said[0], said[1])
		}
	}
}

// Those who come when there are as many as may be are told so.
func TestTooManyClients(t *testing.T) {
	_, shared := doorsOpen(t, func(c *Config, _ *wire.Patience) { c.Clients = 1 })
	who := newTenant(t, tenants.Cache{})
	c := dial(t, shared)
	says(t, c, who.asciiLogin(), "STORED\r\n")
	if text := ends(t, dial(t, shared)); text != "SERVER_ERROR max number of clients reached\r\n" {
		t.Errorf("%q", text)
	}
	says(t, c, "mn\r\n", "MN\r\n")
}
