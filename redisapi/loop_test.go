package redisapi

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larder-cache/larder/internal/wire"
)

// A pipeline that no socket buffer holds, nor its replies, is carried out while it comes.
func TestLongPipeline(t *testing.T) {
	s := newService(t, nil)
	p := s.login(t, newTenant(t))
	value := strings.Repeat("v", 10_000)
	const n = 1000
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		for i := range n {
			key := fmt.Sprintf("k%d", i%10)
			if _, err := io.WriteString(p.Conn, command("SET", key, value)+command("GET", key)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	want := fmt.Sprintf("+OK\r\n$%d\r\n%s\r\n", len(value), value)
	for range n {
		p.expect(want)
	}
}

// So is one whose client reads nothing until it has sent all that we take.
func TestPipelineReadLate(t *testing.T) {
	s := newService(t, nil)
	p := s.login(t, newTenant(t))
	value := strings.Repeat("v", 100_000)
	p.do("+OK\r\n", "SET", "k", value)
	const n = 200
	p.send(strings.Repeat(command("GET", "k"), n) + command("PING"))
	time.Sleep(20 * time.Millisecond) // it gets stuck
	want := fmt.Sprintf("$%d\r\n%s\r\n", len(value), value)
	for range n {
		p.expect(want)
	}
	p.expect("+PONG\r\n")
}

func TestByteByByte(t *testing.T) {
	s := newService(t, nil)
	p := s.login(t, newTenant(t))
	_ = p.Conn.(*net.TCPConn).SetNoDelay(true)
	for _, c := range []byte(command("SET", "a", "1") + "\r\nGET a\r\n") {
		p.send(string(c))
	}
	p.expect("+OK\r\n$1\r\n1\r\n")
}

// Half a connection is enough to get what was asked for before it was closed.
func TestHalfClosed(t *testing.T) {
	s := newService(t, nil)
	who := newTenant(t)
	p := s.login(t, who)
	value := strings.Repeat("v", 1<<20)
	p.do("+OK\r\n", "SET", "k", value)
	p.send(strings.Repeat(command("GET", "k"), 20))
	_ = p.Conn.(*net.TCPConn).CloseWrite()
	if got := len(p.rest()); got != 20*(len(value)+len("$1048576\r\n\r\n")) {
		t.Errorf("%d bytes of replies", got)
	}
}

// A client that waits for a list, and is gone, gets nothing that is pushed afterwards.
func TestBlockedAndGone(t *testing.T) {
	s := newService(t, func(c *Config, _ *wire.Patience) { c.TLS = certificate(t) })
	who := newTenant(t)
	other := s.login(t, who)
	for name, leave := range map[string]func(*net.TCPConn) error{
		"closed":      (*net.TCPConn).Close,
		"half-closed": (*net.TCPConn).CloseWrite,
		"reset":       func(c *net.TCPConn) error { return firstError(c.SetLinger(0), c.Close()) },
	} {
		// What lies behind the command is more than is read meanwhile, but not more than the socket takes then: who closes
		// with bytes on its side sends no FIN before they are read.
		for _, unread := range []int{0, 1<<20 + 28_000} {
			for _, secure := range []bool{false, true} {
				if secure && unread > 0 {
					continue // it takes a second: see TestABlockedTLSClientThatGoesIsNoticed
				}
				t.Run(fmt.Sprintf("%s, %d unread, TLS %v", name, unread, secure), func(t *testing.T) {
					before := s.connections()
					p := s.dial(t, "")
					raw := p.Conn.(*net.TCPConn)
					if secure {
						p = newPeer(t, tls.Client(raw, &tls.Config{InsecureSkipVerify: true}))
					}
					p.authenticate(who)
					p.send(command("BLPOP", "list", "0"))
					eventually(t, "it waits", func() bool { return s.blocked() == 1 })
					if unread > 0 {
						p.send(strings.Repeat(command("PING"), unread/len(command("PING"))))
					}
					if err := leave(raw); err != nil {
						t.Fatal(err)
					}
					eventually(t, "it is forgotten", func() bool { return s.connections() == before && s.blocked() == 0 })
					other.do(":1\r\n", "RPUSH", "list", "x")
					other.do("+OK\r\n", "RENAME", "list", "gone")
				})
			}
		}
	}
}

func firstError(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

// blocked is how many sessions wait.
func (s *service) blocked() (n int) {
	for _, each := range s.everybody() {
		if each.facts.blocked.Load() {
			n++
		}
	}
	return n
}

// certificate makes one for this machine, that nobody has signed.
func certificate(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// proxied is a header of the PROXY protocol, version 2.
func proxied(client string) string {
	at := netip.MustParseAddrPort(client)
	b := append([]byte("\r\n\r\n\x00\r\nQUIT\n"), 0x21, 0x11, 0, 12)
	from := at.Addr().As4()
	b = append(append(b, from[:]...), 127, 0, 0, 1)
	b = binary.BigEndian.AppendUint16(b, at.Port())
	return string(binary.BigEndian.AppendUint16(b, 6379))
}

// One port serves clients with TLS and without, each perhaps behind a proxy; what a proxy says is believed of a trusted one.
func TestOpenings(t *testing.T) {
	s := newService(t, func(c *Config, _ *wire.Patience) {
		c.TLS, c.Plain, c.Trusted = certificate(t), true, []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	})
	who := newTenant(t)
	for _, c := range []struct {
		name, from, header string
		secure             bool
		addr               string // how its address begins in CLIENT INFO
	}{
		{"plain", "", "", false, "127.0.0.1:"},
		{"TLS", "", "", true, "127.0.0.1:"},
		{"trusted, plain", "127.0.0.2", proxied("198.51.100.7:4711"), false, "198.51.100.7:4711 "},
		{"trusted, TLS", "127.0.0.2", proxied("198.51.100.7:4711"), true, "198.51.100.7:4711 "},
		{"trusted, but it does not say", "127.0.0.2", "", false, "127.0.0.2:"},
		{"trusted, but it does not say, TLS", "127.0.0.2", "", true, "127.0.0.2:"},
		{"trusted, for itself", "127.0.0.2", "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00", false, "127.0.0.2:"},
	} {
		for _, pieces := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, pieces %v", c.name, pieces), func(t *testing.T) {
				p := s.dial(t, c.from)
				if pieces {
					for i := range c.header {
						p.send(c.header[i : i+1])
						time.Sleep(100 * time.Microsecond)
					}
				} else if !c.secure {
					p.send(c.header + command("AUTH", who.key))
					p.expect("+OK\r\n")
				} else {
					p.send(c.header)
				}
				if c.secure {
					p = newPeer(t, tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true}))
				}
				p.authenticate(who)
				p.send(command("CLIENT", "INFO"))
				var length int
				if _, err := fmt.Fscanf(p.Conn, "$%d\r\n", &length); err != nil {
					t.Fatal(err)
				}
				info := make([]byte, length+2)
				if _, err := io.ReadFull(p.Conn, info); err != nil || !strings.Contains(string(info), " addr="+c.addr) {
					t.Errorf("%v: %s", err, info)
				}
			})
		}
	}
	for name, header := range map[string]string{
		"version 1": "\r\n\r\n\x00\r\nQUIT\n\x11\x11\x00\x0c", "too long": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff",
	} {
		p := s.dial(t, "127.0.0.2")
		p.send(header)
		if got := p.rest(); got != "" {
			t.Errorf("%s: %q", name, got)
		}
	}
	p := s.dial(t, "127.0.0.3") // not trusted: this is an inline command with a byte 0, and QUIT
	p.send(proxied("198.51.100.7:4711") + command("PING"))
	if got := p.rest(); strings.Contains(got, "PONG") {
		t.Errorf("untrusted: %q", got)
	}
	eventually(t, "nobody counts as a stranger", func() bool {
		for _, each := range s.everybody() {
			each.kill("the test is over")
		}
		present, strangers := s.front.Census()
		return present == 0 && strangers == 0
	})
}

func TestNoTLSHere(t *testing.T) {
	s := newService(t, nil)
	p := s.dial(t, "")
	p.send("\x16\x03\x01")
	if got := p.rest(); got != "" {
		t.Errorf("got %q", got)
	}
}

// Who does not log in in time is gone, whether it has spoken or not; who has may stay.
func TestLoginTime(t *testing.T) {
	s := newService(t, func(c *Config, p *wire.Patience) { c.TLS, p.Login = certificate(t), 200*time.Millisecond })
	who := newTenant(t)
	in := s.login(t, who)
	secure := newPeer(t, tls.Client(s.dial(t, ""), &tls.Config{InsecureSkipVerify: true}))
	secure.authenticate(who)
	silent, speaks, shakes, half := s.dial(t, ""), s.dial(t, ""), s.dial(t, ""), s.dial(t, "")
	speaks.do("-NOAUTH Authentication required.\r\n", "PING")
	shakes.send("\x16\x03\x01")
	half.send("*2\r\n$4\r\nAU")
	for _, p := range []*peer{silent, speaks, shakes, half} {
		if got := p.rest(); got != "" {
			t.Errorf("got %q", got)
		}
	}
	in.do("+PONG\r\n", "PING")
	secure.do("+PONG\r\n", "PING")
	if n := s.connections(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// An address has so many connections that have not logged in, whoever else has.
func TestManyStrangers(t *testing.T) {
	s := newService(t, nil)
	who := newTenant(t)
	var all []*peer
	for range wire.MaxStrangers {
		all = append(all, s.dial(t, ""))
	}
	eventually(t, "all are there", func() bool { return s.connections() == wire.MaxStrangers })
	if got := s.dial(t, "").rest(); got != "-ERR max number of clients reached before login from this address: at most 100\r\n" {
		t.Errorf("got %q", got)
	}
	s.dial(t, "127.0.0.2").do("-NOAUTH Authentication required.\r\n", "PING")
	for _, p := range all[:10] {
		p.authenticate(who)
	}
	_ = all[50].Close()
	eventually(t, "one has left", func() bool { return s.connections() == wire.MaxStrangers })
	for range 11 {
		s.dial(t, "").do("-NOAUTH Authentication required.\r\n", "PING")
	}
	if got := s.dial(t, "").rest(); !strings.HasPrefix(got, "-ERR max number of clients") {
		t.Errorf("got %q", got)
	}
}

func TestTooManyClients(t *testing.T) {
	s := newService(t, func(c *Config, _ *wire.Patience) { c.Clients = 1 })
	p := s.login(t, newTenant(t))
	if got := s.dial(t, "").rest(); got != errFull {
		t.Errorf("got %q", got)
	}
	p.do("+PONG\r\n", "PING")
}

// Garbage ends a connection and no other.
func TestGarbage(t *testing.T) {
	s := newService(t, nil)
	who := newTenant(t)
	p := s.login(t, who)
	for _, stream := range streams {
		if !strings.Contains(stream.out, "Protocol error") || len(stream.in) > maxInline {
			continue
		}
		q := s.login(t, who)
		q.send(stream.in)
		if got := q.rest(); got != stream.out {
			t.Errorf("%s: got %q, want %q", stream.name, got, stream.out)
		}
	}
	p.do("+PONG\r\n", "PING")
	eventually(t, "the others are gone", func() bool { return s.connections() == 1 })
}

// heap is how much memory is in use.
func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Connections that promise much and send nothing cost little.
func TestPromisingClients(t *testing.T) {
	s := newService(t, nil)
	who := newTenant(t)
	const n = 50
	var all []*peer
	for range n {
		all = append(all, s.login(t, who))
	}
	before := heap()
	for _, p := range all {
		p.send("*1000000\r\n$1000000\r\nx")
	}
	eventually(t, "all is read", func() bool {
		s.stillness()
		return true
	})
	if grown := heap() - before; grown > n*64<<10 {
		t.Errorf("%d bytes for each", grown/n)
	}
	runtime.KeepAlive(all)
}

// stillness waits until nothing has been read for a moment.
func (s *service) stillness() { time.Sleep(50 * time.Millisecond) }

// Who does not read is cut off when its time is over.
func TestSlowReader(t *testing.T) {
	s := newService(t, func(c *Config, p *wire.Patience) { c.TLS, p.Write = certificate(t), 300*time.Millisecond })
	who := newTenant(t)
	value := strings.Repeat("v", 1<<20)
	s.login(t, who).do("+OK\r\n", "SET", "k", value)
	slow := s.login(t, who)
	sealed := newPeer(t, tls.Client(s.dial(t, ""), &tls.Config{InsecureSkipVerify: true}))
	sealed.authenticate(who)
	good := s.login(t, who)
	for _, p := range []*peer{slow, sealed} {
		p.send(strings.Repeat(command("GET", "k"), 30))
	}
	eventually(t, "it is cut off", func() bool { return s.connections() == 2 })
	good.do("+PONG\r\n", "PING")
	if n := s.waiting.Load(); n != 0 {
		t.Errorf("%d bytes wait for nobody", n)
	}
}

// When all together let too much wait, the one who lets most wait is cut off at once.
func TestTooMuchUnread(t *testing.T) {
	s := newService(t, func(c *Config, _ *wire.Patience) { c.Unread = 3 << 20 })
	who := newTenant(t)
	p := s.login(t, who)
	p.do("+OK\r\n", "SET", "small", strings.Repeat("v", 1<<20))
	p.do("+OK\r\n", "SET", "large", strings.Repeat("v", 1<<20))
	p.do(":8388608\r\n", "SETRANGE", "large", fmt.Sprint(8<<20-1), "x")
	slow := s.login(t, who)
	slow.send(strings.Repeat(command("GET", "large"), 4))
	eventually(t, "it is cut off", func() bool { return s.connections() == 1 })
	p.do("+PONG\r\n", "PING")
	eventually(t, "nothing waits", func() bool { return s.waiting.Load() == 0 })
}

// A thousand strangers that ask and never read: each costs little, and goes.
func TestStrangersThatDoNotRead(t *testing.T) {
	s := newService(t, func(_ *Config, p *wire.Patience) { p.Login = 500 * time.Millisecond })
	ping := strings.Repeat(command("PING"), 1000)
	before := heap()
	var all []net.Conn
	defer func() {
		for _, c := range all {
			_ = c.Close()
		}
	}()
	for i := range 1000 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i/wire.MaxStrangers))}}
		c, err := d.Dial("tcp", s.at)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		if _, err := io.WriteString(c, ping); err != nil && i == 0 {
			t.Fatal(err)
		}
	}
	if grown := heap() - before; grown > 1000*(maxHeard+wire.ReadChunk) {
		t.Errorf("%d bytes for each", grown/1000)
	}
	eventually(t, "they are gone", func() bool { return s.connections() == 0 })
	s.login(t, newTenant(t)).do("+PONG\r\n", "PING")
}

// files counts what this process has open.
func files(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return len(list)
}

// A server that stops ends what its clients do, whatever that is, and leaves nothing behind.
func TestShutdown(t *testing.T) {
	who := newTenant(t)
	goroutines, before := goleak.IgnoreCurrent(), files(t)
	s := newService(t, func(c *Config, _ *wire.Patience) { c.TLS = certificate(t) })
	var all []*peer
	join := func(secure bool, commands ...string) *peer {
		p := s.dial(t, "")
		if secure {
			p = newPeer(t, tls.Client(p.Conn, &tls.Config{InsecureSkipVerify: true}))
		}
		p.authenticate(who)
		for _, c := range commands {
			p.send(c)
		}
		all = append(all, p)
		return p
	}
	value := strings.Repeat("v", 1<<20)
	join(false).do("+OK\r\n", "SET", "k", value)
	for _, secure := range []bool{false, true} {
		join(secure)                                                    // idle
		join(secure, command("BLPOP", "none", "0")+command("PING"))     // blocked
		join(secure, command("SUBSCRIBE", "c"))                         // listens
		join(secure, command("MULTI")+command("GET", "k"))              // amid a transaction
		join(secure, "*2\r\n$3\r\nGET\r\n$10\r\nhal")                   // amid a command
		join(secure, strings.Repeat(command("GET", "k"), 30))           // does not read
		join(secure, command("CLIENT", "REPLY", "OFF")+command("PING")) // says nothing
	}
	all = append(all, s.dial(t, ""), s.dial(t, "")) // they have not spoken
	all[len(all)-1].send("*1\r\n")
	eventually(t, "all are there", func() bool { return s.connections() == len(all) && s.blocked() == 2 })
	s.stop()
	for i, p := range all {
		_ = p.SetDeadline(time.Now().Add(patienceOfTests))
		p.rest()
		if err := p.Close(); err != nil {
			t.Logf("%d: %v", i, err) // a TLS connection that was cut
		}
	}
	all = nil
	if err := goleak.Find(goroutines); err != nil {
		t.Error(err)
	}
	eventually(t, fmt.Sprintf("%d files are open again", before), func() bool { return files(t) <= before })
	present, strangers := s.front.Census()
	if n := s.waiting.Load(); n != 0 || len(s.everybody()) != 0 || strangers != 0 || present != 0 {
		t.Errorf("left: %d bytes that wait, %d sessions, %d strangers, %d connections", n, len(s.everybody()), strangers, present)
	}
}

// One whose time is over before the clients have gone cuts them off.
func TestShutdownCuts(t *testing.T) {
	s := newService(t, func(_ *Config, p *wire.Patience) { p.Linger = time.Hour })
	p := s.login(t, newTenant(t))
	p.do("+OK\r\n", "SET", "k", strings.Repeat("v", 1<<20))
	p.send(strings.Repeat(command("GET", "k"), 30))
	eventually(t, "it does not read", func() bool { // and what the sockets take has gone into them
		before := s.waiting.Load()
		s.stillness()
		return before > 0 && s.waiting.Load() == before
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	if n := s.connections(); n != 0 {
		t.Errorf("%d connections", n)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("again: %v", err)
	}
}

// Connections come and go while the server stops.
func TestShutdownAmidArrivals(t *testing.T) {
	who := newTenant(t)
	for range 10 {
		s := newService(t, nil)
		var clients sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			clients.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					c, err := net.Dial("tcp", s.at)
					if err != nil {
						return
					}
					_ = c.SetDeadline(time.Now().Add(patienceOfTests))
					_, _ = io.WriteString(c, command("AUTH", who.key)+command("PING")+command("QUIT"))
					if _, err := io.Copy(io.Discard, c); err != nil {
						if e, ok := err.(net.Error); ok && e.Timeout() {
							t.Error("a connection does not end")
						}
					}
					_ = c.Close()
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		s.stop()
		close(stop)
		clients.Wait()
		if n := s.connections(); n != 0 {
			t.Errorf("%d connections", n)
		}
	}
}
