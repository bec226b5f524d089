package memcacheapi

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/certs"
	"github.com/larder-cache/larder/placement"
	larder "github.com/larder-cache/larder/sdk"
	"github.com/larder-cache/larder/tenants"
)

// TestConversations: what a client says, and what it hears.
func TestConversations(t *testing.T) {
	for _, c := range []struct{ name, say, hear string }{
		{"flags come back", "set a 7 0 2\r\nhi\r\nget a\r\n", "STORED\r\nVALUE a 7 2\r\nhi\r\nEND\r\n"},
		{"several keys", "set a 0 0 1\r\n1\r\nset b 0 0 1\r\n2\r\nget a x b\r\n", "STORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n2\r\nEND\r\n"},
		{"noreply says nothing", "set a 0 0 1 noreply\r\n1\r\nincr a 5 noreply\r\nget a\r\n", "VALUE a 0 1\r\n6\r\nEND\r\n"},
		{"up it wraps around", "set n 0 0 20\r\n18446744073709551615\r\nincr n 2\r\n", "STORED\r\n1\r\n"},
		{"down it stops", "set n 0 0 1\r\n5\r\ndecr n 9\r\n", "STORED\r\n0\r\n"},
		{"a shorter number keeps its width", "set n 0 0 3\r\n100\r\ndecr n 1\r\nget n\r\n", "STORED\r\n99\r\nVALUE n 0 3\r\n99 \r\nEND\r\n"},
		{"a past time stores nothing to be seen", "set a 0 -1 1\r\n1\r\nget a\r\n", "STORED\r\nEND\r\n"},
		{"a key too long", "get " + strings.Repeat("k", 251) + "\r\n", "CLIENT_ERROR bad command line format\r\n"},
		{"a block too long for its length", "set a 0 0 1\r\nabc\r\n", "CLIENT_ERROR bad data chunk\r\nERROR\r\n"},
		{"a value too large takes the old one", "set a 0 0 1\r\n1\r\nset a 0 0 2000000\r\n" + strings.Repeat("x", 2000000) + "\r\nget a\r\n", "STORED\r\nSERVER_ERROR object too large for cache\r\nEND\r\n"},
		{"HTTP is hung up on", "POST / HTTP/1.1\r\nget a\r\n", ""},
		{"quit", "set a 0 0 1\r\n1\r\nquit\r\nget a\r\n", "STORED\r\n"},

		{"one of those who ask for what is stale wins", "set a 0 0 1\r\n1\r\nmd a I T30\r\nmg a s v\r\nmg a s v\r\n", "STORED\r\nHD\r\nVA 1 s1 X W\r\n1\r\nVA 1 s1 Z X\r\n1\r\n"},
		{"whatever follows at once", "set a 0 0 1\r\n1\r\nmd a I\r\nmg a v\r\nmg b\r\nmg c\r\nmg d\r\nmg e\r\nms a 1\r\n2\r\nmg a v\r\n", "STORED\r\nHD\r\nVA 1 X W\r\n1\r\nEN\r\nEN\r\nEN\r\nEN\r\nHD\r\nVA 1\r\n2\r\n"},
		{"and if all goes", "set a 0 0 1\r\n1\r\nmd a I\r\nmg a\r\nmg b\r\nmg c\r\nmg d\r\nflush_all\r\nmg a\r\n", "STORED\r\nHD\r\nHD X W\r\nEN\r\nEN\r\nEN\r\nOK\r\nEN\r\n"},
		{"so does one who asks in vain", "mg a N30 s v\r\nmg a N30 s v\r\n", "VA 0 s0 W\r\n\r\nVA 0 s0 Z\r\n\r\n"},
		{"and one who comes when little time is left", "set a 0 20 1\r\n1\r\nmg a R30 t\r\nmg a R30 t\r\n", "STORED\r\nHD t20 W\r\nHD t20 Z\r\n"},
		{"hit before, and last access", "set a 0 0 1\r\n1\r\nmg a h l\r\nmg a h l\r\n", "STORED\r\nHD h0 l0\r\nHD h1 l0\r\n"},
		{"a key in base64", "ms YSBi 2 b\r\nhi\r\nmg YSBi b k v\r\n", "HD\r\nVA 2 kYSBi b\r\nhi\r\n"},
		{"quiet", "mg a q\r\nms a 1 q\r\n1\r\nmd a q\r\nmn\r\n", "MN\r\n"},
		{"arithmetic makes what is not there", "ma a N0 J13 v\r\nma a D5 v\r\nma a MD D20 v\r\nma b\r\n", "VA 2\r\n13\r\nVA 2\r\n18\r\nVA 1\r\n0\r\nNF\r\n"},
		{"a token of the client's own", "ms a 1 E900\r\n1\r\nmg a c\r\nms a 1 C900 E901 c\r\n2\r\nms a 1 C900\r\n3\r\n", "HD\r\nHD c900\r\nHD c901\r\nEX\r\n"},
		{"a value only if it is another", "ms a 1 E900\r\n1\r\nmg a C900 v\r\nmg a C899 v\r\n", "HD\r\nHD\r\nVA 1\r\n1\r\n"},
		{"only the value goes", "set a 5 0 1\r\n1\r\nmd a x\r\nmg a s f v\r\n", "STORED\r\nHD\r\nVA 0 s0 f0\r\n\r\n"},
		{"an append that may make it", "ms a 1 MA\r\n1\r\nms a 1 MA N0 s\r\n1\r\nms a 2 MA N0 s\r\n23\r\n", "NS\r\nHD s1\r\nHD s3\r\n"},
		{"what the opaque says comes back", "mg a Oabc k\r\nms a 1 Ox q\r\n1\r\nmd a Oy k\r\n", "EN Oabc ka\r\nHD Oy ka\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			who := newTenant(t, tenants.Cache{MaxValue: 1 << 20})
			if got := send(who.session(t), []byte(c.say)); got != c.hear {
				t.Errorf("%.300q\nwant %.300q", got, c.hear)
			}
			if got := sendSplit(who.session(t), []byte("flush_all noreply\r\n"+c.say), max(1, len(c.say)/5000)); got != c.hear {
				t.Errorf("in pieces: %.300q\nwant %.300q", got, c.hear)
			}
			over := newTenant(t, tenants.Cache{MaxValue: 1 << 20, Ranges: placement.Even(4)})
			if got := send(over.session(t), []byte(c.say)); got != c.hear {
				t.Errorf("over four ranges: %.300q\nwant %.300q", got, c.hear)
			}
		})
	}
}

// TestLogin: A43.
func TestLogin(t *testing.T) {
	who := newTenant(t, tenants.Cache{})
	login := func(user, secret string) string {
		return fmt.Sprintf("set any 0 0 %d\r\n%s %s\r\n", len(user)+1+len(secret), user, secret)
	}
	presigned, err := larder.PresignPassword(who.key, "main", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, say, hear string }{
		{"presigned", login("main", presigned), "STORED\r\n"},
		{"presigned for another cache", login("other", presigned), "CLIENT_ERROR authentication failure\r\n"},
		{"a write before it", "set foo 0 0 2\r\nhi\r\n", "CLIENT_ERROR bad authentication token format\r\n"},
		{"a read before it", "get foo\r\n", "CLIENT_ERROR unauthenticated\r\n"},
		{"a wrong secret", login("main", "lk_live_0_0"), "CLIENT_ERROR authentication failure\r\n"},
		{"another's cache", login("other", who.key), "CLIENT_ERROR authentication failure\r\n"},
		{"far too long", "set foo 0 0 2147483646\r\n", "CLIENT_ERROR unauthenticated\r\n"},
		{"once logged in, the same line stores", login("main", who.key) + login("main", who.key) + "get nothing\r\n", "STORED\r\nSTORED\r\nEND\r\n"},
		{"a second try", login("main", "x") + login("main", who.key), "CLIENT_ERROR authentication failure\r\nSTORED\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := send(who.stranger(t), []byte(c.say)); got != c.hear {
				t.Errorf("%q, want %q", got, c.hear)
			}
		})
	}
	s := who.stranger(t)
	if send(s, bytes.Repeat([]byte("x"), 3000)); !s.Closing() {
		t.Error("a stranger may go on for ever without the end of a line")
	}
}

// A client whose certificate names a key is logged in from the beginning.
func TestLoginByCertificate(t *testing.T) {
	ca := certs.New(t)
	who := newTenant(t, tenants.Cache{})
	info, _, err := who.credentials.CreateKey(t.Context(), who.tenant, auth.KeySpec{Name: "k", Role: "owner", ClientCertificate: true})
	if err != nil {
		t.Fatal(err)
	}
	c := who.Config
	c.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Server()}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool()}
	srv := New(c)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	defer func() {
		_ = l.Close()
		if err := errors.Join(<-done, srv.Shutdown(t.Context())); err != nil {
			t.Error(err)
		}
	}()
	for name, want := range map[string]string{info.ID: "STORED\r\n", "web": "CLIENT_ERROR bad authentication token format\r\n"} {
		conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", Certificates: []tls.Certificate{ca.Client(name, nil)}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("set k 0 0 1\r\nv\r\n")); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
			t.Errorf("%s: %q %v, want %q", name, got, err, want)
		}
	}
}

// A reader may read, and that is all it may.
func TestPolicies(t *testing.T) {
	who := newTenant(t, tenants.Cache{})
	send(who.session(t), []byte("set a 0 0 1\r\n1\r\n"))
	s := who.withRole(t, "read-only").session(t)
	if got := send(s, []byte("get a\r\nmg a v\r\n")); got != "VALUE a 0 1\r\n1\r\nEND\r\nVA 1\r\n1\r\n" {
		t.Errorf("%q", got)
	}
	for _, line := range []string{"set a 0 0 1\r\n2\r\n", "delete a\r\n", "incr a 1\r\n", "touch a 5\r\n", "gat 5 a\r\n", "flush_all\r\n", "ms a 1\r\n2\r\n", "md a I\r\n", "ma a\r\n", "mg a T5\r\n", "mg b N5\r\n", "append a 0 0 1\r\n2\r\n", "cas a 0 0 1 1\r\n2\r\n"} {
		if got := send(s, []byte(line)); !strings.HasPrefix(got, "CLIENT_ERROR this credential may not") || strings.Count(got, "\r\n") != 1 {
			t.Errorf("%q: %q", line, got)
		}
	}
}

// packet makes a request of the binary protocol.
func packet(op byte, key string, extras []byte, value string, cas uint64) []byte {
	b := []byte{magicRequest, op, byte(len(key) >> 8), byte(len(key)), byte(len(extras)), 0, 0, 0}
	b = binary.BigEndian.AppendUint32(b, uint32(len(key)+len(extras)+len(value)))
	b = binary.BigEndian.AppendUint32(b, 0xfeed)
	b = binary.BigEndian.AppendUint64(b, cas)
	return append(append(append(b, extras...), key...), value...)
}

// packets shows responses: opcode, status and what follows.
func packets(t *testing.T, b string) (list []string) {
	t.Helper()
	for len(b) >= headerBytes {
		n := int(binary.BigEndian.Uint32([]byte(b[8:])))
		if b[0] != magicResponse || b[12:16] != "\x00\x00\xfe\xed" || len(b) < headerBytes+n {
			t.Fatalf("no response: %q", b)
		}
		list = append(list, fmt.Sprintf("%#x %d %q", b[1], binary.BigEndian.Uint16([]byte(b[6:])), b[headerBytes:headerBytes+n]))
		b = b[headerBytes+n:]
	}
	if b != "" {
		t.Fatalf("%q is left", b)
	}
	return list
}

func TestBinary(t *testing.T) {
	who := newTenant(t, tenants.Cache{MaxValue: 1 << 20})
	s := who.stranger(t)
	plain := "\x00main\x00" + who.key
	set := []byte{0, 0, 0, 5, 0, 0, 0, 0}
	incr := make([]byte, 20)
	incr[7], incr[15] = 2, 9
	var say []byte
	for _, p := range [][]byte{
		packet(opSASLList, "", nil, "", 0), packet(opSASLAuth, "PLAIN", nil, "\x00main\x00no", 0), packet(opSASLAuth, "PLAIN", nil, plain, 0),
		packet(opSet, "a", set, "hi", 0), packet(0x11, "b", set, "quiet", 0), packet(opGet, "a", nil, "", 0), packet(opGetK, "b", nil, "", 0),
		packet(0x09, "none", nil, "", 0), packet(opGet, "none", nil, "", 0), packet(opAdd, "a", set, "x", 0), packet(opReplace, "none", set, "x", 0), packet(opSet, "a", set, "x", 77),
		packet(opAppend, "a", nil, "!", 0), packet(opPrepend, "none", nil, "!", 0), packet(opIncrement, "n", incr, "", 0), packet(opIncrement, "n", incr, "", 0), packet(opDecrement, "a", incr, "", 0),
		packet(opTouch, "a", []byte{0, 0, 1, 0}, "", 0), packet(opGATK, "a", []byte{0, 0, 1, 0}, "", 0), packet(opDelete, "b", nil, "", 0), packet(opSet, "a", set, strings.Repeat("x", 2<<20), 0),
		packet(opGet, "a", nil, "", 0), packet(0x55, "k", nil, "v", 0), packet(opNoop, "", nil, "", 0), packet(opVersion, "", nil, "", 0), packet(0x17, "", nil, "", 0),
	} {
		say = append(say, p...)
	}
	want := []string{
		`0x20 0 "PLAIN"`, `0x21 32 "Auth failure."`, `0x21 0 "Authenticated"`,
		`0x1 0 ""`, `0x0 0 "\x00\x00\x00\x05hi"`, `0xc 0 "\x00\x00\x00\x05bquiet"`,
		`0x0 1 "Not found"`, `0x2 2 "Data exists for key."`, `0x3 1 "Not found"`, `0x1 2 "Data exists for key."`,
		`0xe 0 ""`, `0xf 5 "Not stored."`, `0x5 0 "\x00\x00\x00\x00\x00\x00\x00\t"`, `0x5 0 "\x00\x00\x00\x00\x00\x00\x00\v"`, `0x6 6 "Non-numeric server-side value for incr or decr"`,
		`0x1c 0 "\x00\x00\x00\x05"`, `0x23 0 "\x00\x00\x00\x05ahi!"`, `0x4 0 ""`, `0x1 3 "Too large."`,
		`0x0 1 "Not found"`, `0x55 129 "Unknown command"`, `0xa 0 ""`, fmt.Sprintf("0xb 0 %q", MemcachedVersion),
	}
	got := packets(t, send(s, say))
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("%d: %q\nwant %q", i, got, want)
		}
	}
	if !s.Closing() {
		t.Error("quitq does not quit")
	}
	if got := packets(t, send(who.stranger(t), packet(opGet, "a", nil, "", 0))); len(got) != 1 || got[0] != `0x0 32 "Auth failure."` {
		t.Errorf("a stranger hears %q", got)
	}
}

// TestDelayedFlush: everything goes when its time has come, with what was written until then.
func TestDelayedFlush(t *testing.T) {
	s := newTenant(t, tenants.Cache{}).session(t)
	send(s, []byte("set a 0 0 1\r\n1\r\n"))
	if got := send(s, []byte("flush_all 100\r\nset b 0 0 1\r\n2\r\nget a b\r\n")); !strings.Contains(got, "VALUE a") || !strings.Contains(got, "VALUE b") {
		t.Fatalf("%q", got)
	}
	theWorld.ahead.Add(101_000)
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if got := send(s, []byte("get a b\r\n")); got == "END\r\n" {
			break
		} else if time.Since(began) > 10*time.Second {
			t.Fatalf("%q", got)
		}
	}
	if got := send(s, []byte("set a 0 0 1\r\n1\r\nget a\r\n")); !strings.Contains(got, "VALUE a") {
		t.Fatalf("%q", got)
	}
}

// TestManyKeys: a line with more than fits into the output is done in parts.
func TestManyKeys(t *testing.T) {
	s := newTenant(t, tenants.Cache{}).session(t)
	value := strings.Repeat("v", 100_000)
	want, line := "", "get"
	for i := range 100 {
		send(s, fmt.Appendf(nil, "set k%d 0 0 %d\r\n%s\r\n", i, len(value), value))
		line += " k" + strconv.Itoa(i)
		want += fmt.Sprintf("VALUE k%d 0 %d\r\n%s\r\n", i, len(value), value)
	}
	most, out, in := 0, "", []byte(line+"\r\nmn\r\n")
	for {
		in = in[s.Feed(in):]
		most = max(most, len(s.Output()))
		out += string(s.Output())
		s.Sent(len(s.Output()))
		if !s.More() {
			break
		}
	}
	if out != want+"END\r\nMN\r\n" {
		t.Errorf("%d bytes, want %d", len(out), len(want)+9)
	}
	if most > softOutput+2*len(value) {
		t.Errorf("%d bytes waited to be sent", most)
	}
}

// TestOneKeyspace: flags, token and bytes are one item for all protocols.
func TestOneKeyspace(t *testing.T) {
	who := newTenant(t, tenants.Cache{})
	s := who.session(t)
	send(s, []byte("set a 7 0 2\r\nhi\r\n"))
	cache, _ := who.store.Cache(who.tenant, "main")
	out := &engine.Recording{}
	args := [][]byte{[]byte("GET"), []byte("a")}
	task := &engine.Task{Cache: cache.ID, Calls: []engine.Call{{Command: engine.MustLookup("GET"), Args: args}, {Command: engine.MustLookup("KV.GET"), Args: args}}, Reply: out}
	if err := who.host.Local(cache.Ranges[0].Partition).Execute(t.Context(), task); err != nil {
		t.Fatal(err)
	}
	c := out.Cursor()
	if got := c.Next(); string(got.Bytes) != "hi" {
		t.Errorf("Redis sees %q", got.Bytes)
	}
	c.Next()
	etag := c.Next().Int
	for range 4 {
		c.Next() // TTL, content type, size and bytes
	}
	if flags := c.Next().Int; flags != 7 {
		t.Errorf("HTTP sees flags %d", flags)
	}
	if got := send(s, []byte("gets a\r\n")); got != fmt.Sprintf("VALUE a 7 2 %d\r\nhi\r\nEND\r\n", etag) {
		t.Errorf("%q, and HTTP's version is %d", got, etag)
	}
}

// TestConnections: over a socket.
func TestConnections(t *testing.T) {
	who := newTenant(t, tenants.Cache{})
	c, err := net.Dial("tcp", who.listen(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	value := bytes.Repeat([]byte("x"), 3<<20)
	go func() {
		_, _ = c.Write(fmt.Appendf(nil, "set a 0 0 %d\r\n%s\r\nget a\r\nquit\r\n", len(value), value)) // the reader hears of what is wrong
	}()
	var got bytes.Buffer
	if _, err := got.ReadFrom(c); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("STORED\r\nVALUE a 0 %d\r\n%s\r\nEND\r\n", len(value), value); got.String() != want {
		t.Errorf("%d bytes, want %d", got.Len(), len(want))
	}
}

// FuzzText: any input, fed in pieces of any size, gets the same replies as in one.
func FuzzText(f *testing.F) {
	c := &chooser{Rand: rand.New(rand.NewPCG(1, 0))}
	for range 50 {
		f.Add([]byte(placeholder.ReplaceAllString(c.batch(), "1")), uint8(c.IntN(20)))
	}
	fuzzPieces(f)
}

// FuzzMeta is the same for the meta commands.
func FuzzMeta(f *testing.F) {
	for _, flags := range []string{"", " b", " c f h k l O9 q s t v", " E9 v", " N30 R30 T90 v", " I T30", " C1 E2", " MA N0", " MD D3 J7 N0 v", " x", " M+ D1 q k"} {
		f.Add([]byte("ms a 2"+flags+"\r\nhi\r\nmg a"+flags+"\r\nma n"+flags+"\r\nmd a"+flags+"\r\nmg YQ== b"+flags+"\r\nme a\r\nmn\r\n"), uint8(7))
	}
	fuzzPieces(f)
}

// FuzzBinary is the same for the binary protocol.
func FuzzBinary(f *testing.F) {
	set := []byte{0, 0, 0, 5, 0, 0, 0, 0}
	for op := range byte(0x26) {
		f.Add(append(packet(opSet, "a", set, "hi", 0), packet(op, "a", nil, "", 0)...), op)
		f.Add(packet(op, "a", set, "hi", 1), op)
		f.Add(packet(op, "", nil, "", 0), op)
	}
	fuzzPieces(f)
}

// FuzzLogin is the same for who has not logged in.
func FuzzLogin(f *testing.F) {
	f.Add([]byte("set foo 0 0 7\r\nfoo bar\r\nget a\r\n"), uint8(3))
	f.Add(packet(opSASLAuth, "PLAIN", nil, "\x00main\x00no", 0), uint8(3))
	who := someone{}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		if who.world == nil {
			who = newTenant(t, tenants.Cache{})
		}
		whole, pieces := send(who.stranger(t), in), sendSplit(who.stranger(t), in, int(size)+1)
		if len(in) > 0 && in[0] != magicRequest && len(in) < maxWords && whole != pieces {
			t.Errorf("%q\nin one piece: %q\nin pieces: %q", in, whole, pieces)
		}
	})
}

func fuzzPieces(f *testing.F) {
	who := someone{}
	f.Fuzz(func(t *testing.T, in []byte, size uint8) {
		if bytes.Contains(in, []byte("stats")) || bytes.Contains(in, []byte{magicRequest, opStat}) || len(in) >= maxWords {
			return // numbers that go on
		}
		if who.world == nil {
			who = newTenant(t, tenants.Cache{MaxValue: 1 << 20})
		}
		said := [2]string{}
		before := allocated()
		for i := range said {
			send(who.session(t), []byte("flush_all\r\n"))
			s := who.session(t)
			if i == 0 {
				said[i] = send(s, in)
			} else {
				said[i] = sendSplit(s, in, int(size)+1)
			}
			if len(in) > 0 && in[0] == magicRequest {
				said[i] = withoutTokens(said[i])
			} else {
				said[i] = (&tokens{}).hide(said[i])
			}
		}
		if grown := allocated() - before; grown > 64<<20 {
			t.Errorf("%q\ntakes %d bytes of memory", in, grown)
		}
		if said[0] != said[1] {
			t.Errorf("%q\nin one piece: %q\nin pieces of %d: %q", in, said[0], int(size)+1, said[1])
		}
	})
}

// allocated is how much memory this process has ever asked for.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// withoutTokens is responses of the binary protocol without what differs from time to time.
func withoutTokens(out string) string {
	b := []byte(out)
	for at := 0; at+headerBytes <= len(b); {
		clear(b[at+16 : at+24])
		at += headerBytes + int(binary.BigEndian.Uint32(b[at+8:]))
	}
	return string(b)
}
