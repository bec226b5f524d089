package wire

import (
	"net/netip"
	"testing"
)

const signature = "\r\n\r\n\x00\r\nQUIT\n"

// visitor is a server's view of somebody from a trusted proxy's address.
func trustedVisit() *visit {
	srv := New(Config{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	return srv.visitor(netip.MustParseAddrPort("10.0.0.1:5000"))
}

// TestProxyHeaders: what a trusted proxy may say first. An error ends the connection.
func TestProxyHeaders(t *testing.T) {
	for _, c := range []struct {
		name, in string
		source   string
		rest     string // what is left for the session
		refused  bool
	}{
		{"none", "get a\r\n", "10.0.0.1:5000", "get a\r\n", false},
		{"a line that begins like one", "\r\nget a\r\n", "10.0.0.1:5000", "\r\nget a\r\n", false},
		{"version 4", signature + "\x21\x11\x00\x0c\xc6\x33\x64\x07\x7f\x00\x00\x01\x12\x67\x2b\xcb" + "x", "198.51.100.7:4711", "x", false},
		{"version 6", signature + "\x21\x21\x00\x24" + "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" + "\x12\x67\x2b\xcb" + "x", "[2001:db8::1]:4711", "x", false},
		{"more than the addresses", signature + "\x21\x11\x00\x0e\xc6\x33\x64\x07\x7f\x00\x00\x01\x12\x67\x2b\xcb\x04\x00" + "x", "198.51.100.7:4711", "x", false},
		{"the proxy itself", signature + "\x20\x00\x00\x00x", "10.0.0.1:5000", "x", false},
		{"a family that says nothing", signature + "\x21\x00\x00\x00x", "10.0.0.1:5000", "x", false},
		{"too short for its addresses", signature + "\x21\x11\x00\x04\xc6\x33\x64\x07x", "10.0.0.1:5000", "x", false},
		{"another version", signature + "\x11\x11\x00\x00", "", "", true},
		{"too long", signature + "\x21\x11\x08\x01", "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := trustedVisit()
			skip, known, err := v.look([]byte(c.in))
			if c.refused {
				if err == nil {
					t.Error("it is let in")
				}
				return
			}
			if err != nil || !known || c.in[skip:] != c.rest || v.source.String() != c.source {
				t.Errorf("%v %v, from %v, left %q", known, err, v.source, c.in[skip:])
			}
		})
	}
	v := New(Config{}).visitor(netip.MustParseAddrPort("10.0.0.1:5000"))
	if skip, known, err := v.look([]byte(signature + "\x20\x00\x00\x00x")); skip != 0 || !known || err != nil || v.source.Port() != 5000 {
		t.Errorf("of who is not trusted %d bytes are taken for a header: %v %v", skip, known, err)
	}
}

// FuzzOpening: the beginning of a connection says the same however it comes in pieces.
func FuzzOpening(f *testing.F) {
	f.Add([]byte(signature + "\x21\x11\x00\x0c\xc6\x33\x64\x07\x7f\x00\x00\x01\x12\x67\x2b\xcb" + "x"))
	f.Add([]byte(signature + "\x20\x00\x00\x00"))
	f.Add([]byte("\r\n\r\nget"))
	f.Add([]byte("\x16\x03\x01"))
	f.Fuzz(func(t *testing.T, in []byte) {
		whole, pieces := trustedVisit(), trustedVisit()
		skip, known, err := whole.look(in)
		for n := range len(in) + 1 {
			s, k, e := pieces.look(in[:n])
			if (e != nil) != (err != nil) && n == len(in) {
				t.Fatalf("in pieces %v, whole %v", e, err)
			}
			if e != nil {
				return
			}
			if in = in[s:]; k {
				if !known || s > 0 && len(in) == 0 || pieces.source != whole.source {
					t.Fatalf("in pieces known after %d bytes, from %v; whole %v, %v", n, pieces.source, known, whole.source)
				}
				return
			}
			if s > 0 {
				break // the header is done with, and nothing is behind it
			}
		}
		if known && len(in) > 0 && skip == 0 {
			t.Fatal("known whole, and not in pieces")
		}
	})
}
