package peerlink

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A network is a cluster of links on loopback sockets.
type network struct {
	t         *testing.T
	mu        sync.Mutex
	addresses map[string]string
	tls       func(node string) *tls.Config
}

func newNet(t *testing.T) *network {
	return &network{t: t, addresses: map[string]string{}, tls: func(string) *tls.Config { return nil }}
}

// address is where a node listens, as far as the others know.
func (n *network) address(node string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.addresses[node]
}

// move has the others find a node elsewhere.
func (n *network) move(node, address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.addresses[node] = address
}

// start starts a node that listens, and returns its links.
func (n *network) start(node string, change ...func(*Config)) *Links {
	n.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.move(node, listener.Addr().String())
	cfg := Config{Cluster: "c1", Self: node, Incarnation: "i", Advertise: listener.Addr().String(), Address: n.address, TLS: n.tls(node), Ping: 5 * time.Millisecond}
	for _, fn := range change {
		fn(&cfg)
	}
	l := New(cfg)
	served := make(chan error, 1)
	go func() { served <- l.Serve(listener) }()
	n.t.Cleanup(func() {
		l.Close()
		if err := <-served; err != nil {
			n.t.Error(err)
		}
	})
	return l
}

// within fails the test when something does not come about: a bound on how long it may hang, not a speed.
func within(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !fn(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come about", what)
		}
	}
}

func send(t *testing.T, l *Links, to string, kind byte, frame []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := l.SendWait(ctx, to, kind, frame); err != nil {
		t.Fatal(err)
	}
}

// collect gathers what a node gets.
type collect struct {
	mu  sync.Mutex
	got []string
}

func (c *collect) take(from string, frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, from+":"+string(frame))
}

func (c *collect) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

// authority is a CA for tests, which makes the configuration of a node.
func authority(t *testing.T) func(node string) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial := int64(1)
	issue := func(template, parent *x509.Certificate, public any) *x509.Certificate {
		serial++
		template.SerialNumber = big.NewInt(serial)
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		if parent == nil {
			parent = template
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ca := issue(&x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, nil, &key.PublicKey)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return func(node string) *tls.Config {
		own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		leaf := issue(&x509.Certificate{Subject: pkix.Name{CommonName: node}, DNSNames: []string{node}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}}, ca, &own.PublicKey)
		return &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: own}},
			RootCAs:      pool, ClientCAs: pool,
		}
	}
}

func TestFramesArriveOnceAndInOrder(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%t", sealed), func(t *testing.T) {
			n := newNet(t)
			if sealed {
				n.tls = authority(t)
			}
			a, b := n.start("a"), n.start("b")
			var raft, hop, back collect
			b.Handle(KindRaft, raft.take)
			b.Handle(KindHop, hop.take)
			a.Handle(KindRaft, back.take)
			const count = 500
			for i := range count {
				send(t, a, "b", KindRaft, fmt.Appendf(nil, "%d", i))
				send(t, a, "b", KindHop, bytes.Repeat([]byte{byte(i)}, i*100))
				send(t, b, "a", KindRaft, nil)
			}
			within(t, "the last frame", func() bool { return raft.len() == count && hop.len() == count && back.len() == count })
			for i := range count {
				if want := fmt.Sprintf("a:%d", i); raft.got[i] != want {
					t.Fatalf("frame %d is %q", i, raft.got[i])
				}
				if want := "a:" + strings.Repeat(string([]byte{byte(i)}), i*100); hop.got[i] != want {
					t.Fatalf("large frame %d differs", i)
				}
			}
			within(t, "a round trip", func() bool { return a.Stats()[0].RoundTrip > 0 })
			if s := a.Stats()[0]; s.Peer != "b" || !s.Connected || s.Sent < 2*count {
				t.Errorf("stats are %+v", s)
			}
			if !a.Connected("b") || a.Connected("nobody") {
				t.Error("Connected says otherwise")
			}
		})
	}
}

// The budget bounds what waits for a peer that does not read; another kind still has its own.
func TestASlowPeerCostsItsBudget(t *testing.T) {
	n := newNet(t)
	a, b := n.start("a", func(c *Config) { c.Budget, c.DeadAfter = 64<<10, time.Minute }), n.start("b")
	hold, stuck := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.Handle(KindHop, func(string, []byte) {
		once.Do(func() { close(stuck) })
		<-hold
	})
	var raft collect
	b.Handle(KindRaft, raft.take)
	frame := make([]byte, 8<<10)
	send(t, a, "b", KindHop, frame)
	<-stuck
	within(t, "a full budget", func() bool { return !a.Send("b", KindHop, frame) })
	p := a.peer("b")
	p.mu.Lock()
	held, capacity := p.held[KindHop], cap(p.queue)
	p.mu.Unlock()
	if held > 64<<10 || capacity > 1<<20 {
		t.Errorf("%d bytes are held in %d for a budget of %d", held, capacity, 64<<10)
	}
	if !a.Send("b", KindRaft, []byte("through")) {
		t.Error("one kind's budget is taken by another")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := a.SendWait(ctx, "b", KindHop, frame); err == nil {
		t.Error("a frame beyond the budget was taken")
	}
	close(hold)
	send(t, a, "b", KindHop, frame)
	within(t, "the other kind's frame", func() bool { return raft.len() == 1 })
	if a.Stats()[0].Dropped == 0 {
		t.Error("no drop was counted")
	}
}

func TestAFrameBeyondTheLimitIsRefused(t *testing.T) {
	n := newNet(t)
	a, b := n.start("a", func(c *Config) { c.MaxFrame = 1 << 10 }), n.start("b")
	var got collect
	b.Handle(KindRaft, got.take)
	send(t, a, "b", KindRaft, make([]byte, 1<<10))
	if a.Send("b", KindRaft, make([]byte, 1<<10+1)) {
		t.Error("a frame beyond MaxFrame was sent")
	}
	within(t, "the frame", func() bool { return got.len() == 1 })
}

// A proxy passes bytes on between two nodes, until it is told to hold them back or to cut.
type proxy struct {
	l     net.Listener
	to    string
	mu    sync.Mutex
	held  bool
	conns []net.Conn
	work  sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, to: to}
	p.work.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			p.mu.Lock()
			p.conns = append(p.conns, in, out)
			p.mu.Unlock()
			p.work.Go(func() { p.pass(in, out) })
			p.work.Go(func() { p.pass(out, in) })
		}
	})
	t.Cleanup(func() { l.Close(); p.cut(); p.work.Wait() })
	return p
}

func (p *proxy) pass(from, to net.Conn) {
	defer to.Close()
	b := make([]byte, 4<<10)
	for {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		for p.holds() {
			time.Sleep(time.Millisecond)
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) holds() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.held }

func (p *proxy) hold(on bool) { p.mu.Lock(); defer p.mu.Unlock(); p.held = on }

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = false
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}

func TestACutLinkComesBack(t *testing.T) {
	n := newNet(t)
	a, b := n.start("a"), n.start("b")
	between := newProxy(t, n.address("b"))
	n.move("b", between.l.Addr().String())
	var got, broke collect
	b.Handle(KindRaft, got.take)
	a.OnBreak(func(peer string, _ bool) { broke.take(peer, nil) })
	send(t, a, "b", KindRaft, []byte("1"))
	within(t, "the first frame", func() bool { return got.len() == 1 })
	between.cut()
	within(t, "word of the break", func() bool { return broke.len() > 0 })
	send(t, a, "b", KindRaft, []byte("2"))
	within(t, "a frame after the break", func() bool { return got.len() == 2 })
}

// A network that swallows everything, without a word, is found out by silence.
func TestASilentLinkIsGivenUp(t *testing.T) {
	n := newNet(t)
	quick := func(c *Config) { c.DeadAfter = 100 * time.Millisecond }
	a, b := n.start("a", quick), n.start("b", quick)
	between := newProxy(t, n.address("b"))
	n.move("b", between.l.Addr().String())
	var broke collect
	a.OnBreak(func(peer string, _ bool) { broke.take(peer, nil) })
	b.Handle(KindRaft, func(string, []byte) {})
	send(t, a, "b", KindRaft, nil)
	within(t, "an answer", func() bool { return a.LastHeard("b") < 50*time.Millisecond })
	between.hold(true)
	within(t, "the end of the connection", func() bool { return broke.len() > 0 })
	between.cut()
	send(t, a, "b", KindRaft, nil)
}

// A peer that has moved is found where it says it is, even if nobody else knows.
func TestAPeerIsAnsweredWhereItCameFrom(t *testing.T) {
	n := newNet(t)
	a, b := n.start("a"), n.start("b")
	n.move("a", "")
	var got collect
	a.Handle(KindHop, got.take)
	b.Handle(KindHop, func(from string, frame []byte) {
		if !b.Send(from, KindHop, frame) {
			go func() { _ = b.SendWait(b.ctx, from, KindHop, frame) }()
		}
	})
	send(t, a, "b", KindHop, []byte("x"))
	within(t, "the answer", func() bool { return got.len() == 1 })
}

func TestWhoIsTurnedAway(t *testing.T) {
	issue, foreign := authority(t), authority(t)
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{name: "a node of another cluster", change: func(c *Config) { c.Cluster = "c2" }, want: "another cluster"},
		{name: "a certificate of another node", change: func(c *Config) { c.TLS = issue("z") }, want: `not for node "a"`},
		{name: "a certificate of another authority", change: func(c *Config) { c.TLS = foreign("a") }, want: "certificate"},
		{name: "no certificate", change: func(c *Config) { c.TLS = nil }, want: "EOF"},
		{name: "the same name", change: func(c *Config) { c.Self = "b"; c.TLS = issue("b") }, want: "this node"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := newNet(t)
			n.tls = issue
			b := n.start("b")
			b.HandleStream(KindRaft, func(string, io.ReadWriteCloser) { t.Error("it was let in") })
			a := n.start("a", test.change)
			n.move("b", n.address("b"))
			var err error
			if a.cfg.Self == "b" {
				err = a.SendWait(t.Context(), "b", KindRaft, nil)
			} else {
				var s io.ReadWriteCloser
				if s, err = a.Open(t.Context(), "b", KindRaft); err == nil {
					_, err = s.Read(make([]byte, 1)) // TLS 1.3 tells a client of its certificate late
					s.Close()
				}
			}
			if err == nil || !(strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "reset")) {
				t.Errorf("the error is %v, want %q in it", err, test.want)
			}
		})
	}
}

// The node that answers has to be the one that was asked for.
func TestTheWrongNodeIsNotSpokenTo(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		n := newNet(t)
		if sealed {
			n.tls = authority(t)
		}
		a := n.start("a")
		n.start("c")
		n.move("b", n.address("c"))
		if _, err := a.Open(t.Context(), "b", KindRaft); err == nil {
			t.Errorf("tls=%t: node c was taken for b", sealed)
		}
	}
}

func TestPlaintextStaysOnThisMachine(t *testing.T) {
	l := New(Config{Self: "a", Address: func(string) string { return "192.0.2.1:1" }})
	defer l.Close()
	listener, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := l.Serve(listener); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("listening everywhere without TLS: %v", err)
	}
	if err := l.local(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}); err == nil {
		t.Error("another machine is spoken to without TLS")
	}
	if err := l.local(&net.TCPAddr{IP: net.IPv6loopback}); err != nil {
		t.Error(err)
	}
}

func TestStreams(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		n := newNet(t)
		if sealed {
			n.tls = authority(t)
		}
		a, b := n.start("a"), n.start("b")
		b.HandleStream(KindRaft, func(from string, s io.ReadWriteCloser) {
			if from != "a" {
				t.Errorf("the stream is from %q", from)
			}
			if _, err := io.CopyN(s, s, 1<<20); err != nil {
				t.Error(err)
			}
		})
		s, err := a.Open(t.Context(), "b", KindRaft)
		if err != nil {
			t.Fatal(err)
		}
		sent := bytes.Repeat([]byte("larder"), 1<<20/6+1)[:1<<20]
		go func() { _, _ = s.Write(sent) }()
		got, err := io.ReadAll(s)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("tls=%t: %d bytes came back, error %v", sealed, len(got), err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Close cuts streams that nobody has closed, on both sides.
func TestCloseEndsStreams(t *testing.T) {
	n := newNet(t)
	a, b := n.start("a"), n.start("b")
	ended := make(chan struct{})
	b.HandleStream(KindRaft, func(_ string, s io.ReadWriteCloser) {
		defer close(ended)
		_, _ = io.Copy(io.Discard, s)
	})
	if _, err := a.Open(t.Context(), "b", KindRaft); err != nil {
		t.Fatal(err)
	}
	a.Close()
	<-ended
	if a.Send("b", KindRaft, nil) || a.SendWait(t.Context(), "b", KindRaft, nil) == nil {
		t.Error("a closed node sends")
	}
	if _, err := a.Open(t.Context(), "b", KindRaft); err == nil {
		t.Error("a closed node opens a stream")
	}
}

// A stranger who says nothing right is gone, and was never owed more than the first words.
func TestNoiseInsteadOfAHello(t *testing.T) {
	n := newNet(t)
	n.start("b", func(c *Config) { c.Log = slog.New(slog.DiscardHandler) })
	for _, noise := range []string{"GET / HTTP/1.1\r\n\r\n", "\xff\xff\xff\xff\x00", "\x00\x00\x00\x01\x00", "\x00\x00\x00\x03\x00{}", "\x00\x00\x00\x03\x01{}"} {
		c, err := net.Dial("tcp", n.address("b"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte(noise)); err != nil {
			t.Fatal(err)
		}
		if answer, _ := io.ReadAll(c); len(answer) > 0 && !strings.Contains(string(answer), "refused") {
			t.Errorf("%q was answered with %q", noise, answer)
		}
		c.Close()
	}
}

// Whatever length a frame claims, the buffer follows what has come (F2).
func TestAReaderKeepsLittleForAClaim(t *testing.T) {
	claim := binary.BigEndian.AppendUint32(nil, 64<<20)
	r := reader{from: bytes.NewReader(append(claim, KindRaft, 'x')), most: 64 << 20, heard: func() {}}
	if _, _, err := r.next(); err != io.ErrUnexpectedEOF {
		t.Errorf("half a frame: %v", err)
	}
	if len(r.buf) > readStep+readBuffer {
		t.Errorf("%d bytes were kept for a claim", len(r.buf))
	}
}

// dribble gives its bytes in pieces of sizes that a seed chooses.
type dribble struct {
	b    []byte
	step int
}

func (d *dribble) Read(b []byte) (int, error) {
	if len(d.b) == 0 {
		return 0, io.EOF
	}
	d.step = d.step*5 + 1
	n := copy(b[:min(len(b), 1+d.step&0xfff)], d.b)
	d.b = d.b[n:]
	return n, nil
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02\x01x\x00\x00\x00\x01\x02"), 3)
	f.Add(appendFrame(appendFrame(nil, 3, make([]byte, 70<<10)), 2, []byte("x")), 99)
	f.Add([]byte("\xff\xff\xff\xff\x01"), 1)
	f.Fuzz(func(t *testing.T, in []byte, step int) {
		const most = 80 << 10
		r := reader{from: &dribble{in, step & 0xffff}, most: most, heard: func() {}}
		var again []byte
		for {
			kind, frame, err := r.next()
			if err != nil {
				if err == io.EOF && !bytes.Equal(again, in) {
					t.Fatalf("%d bytes became %d", len(in), len(again))
				}
				break
			}
			if len(frame) > most {
				t.Fatalf("a frame of %d bytes", len(frame))
			}
			again = appendFrame(again, kind, frame)
		}
		if !bytes.HasPrefix(in, again) {
			t.Fatal("frames that nobody sent")
		}
		_, _ = readHello(bytes.NewReader(in))
	})
}

func BenchmarkSend(b *testing.B) {
	n := &network{addresses: map[string]string{}}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	n.move("b", listener.Addr().String())
	to := New(Config{Self: "b", Address: n.address})
	defer to.Close()
	go func() { _ = to.Serve(listener) }()
	from := New(Config{Self: "a", Address: n.address})
	defer from.Close()
	frame := make([]byte, 100)
	b.ReportAllocs()
	for b.Loop() {
		if err := from.SendWait(b.Context(), "b", KindHop, frame); err != nil {
			b.Fatal(err)
		}
	}
}

// What goes first waits for what is being written, and for nothing else, however much stands in line; and the other frames stay
// in their order. A pipe takes nothing that is not read, so it is known what has been written.
func TestWhatGoesFirst(t *testing.T) {
	l := New(Config{Self: "a", Budget: 8 << 20})
	defer l.Close()
	p := &peer{l: l, name: "b", wake: make(chan struct{}, 1), kick: make(chan struct{}, 1), done: make(chan struct{}), up: true}
	here, there := net.Pipe()
	broken := make(chan error, 1)
	var work sync.WaitGroup
	bulk := func(i byte) []byte { return bytes.Repeat([]byte{i}, writeStep-100) }
	for i := range byte(3) {
		if err := p.offer(KindHop, bulk(i)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range byte(3) {
		if err := p.offer(KindRaft, []byte{3 + i}); err != nil {
			t.Fatal(err)
		}
	}
	work.Go(func() { _ = p.write(newPipe(newOutlet(here)), broken) })
	r := reader{from: there, most: 1 << 20, heard: func() {}, buf: make([]byte, 512)} // it reads little ahead
	var got []byte
	next := func() {
		t.Helper()
		_, frame, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, frame[0])
	}
	next()
	if err := p.offerFirst(KindRaft, []byte{'!'}); err != nil {
		t.Fatal(err)
	}
	for range 6 {
		next()
	}
	if at := bytes.IndexByte(got, '!'); at < 1 || at > 2 || !bytes.Equal(slices.Delete(slices.Clone(got), at, at+1), []byte{0, 1, 2, 3, 4, 5}) {
		t.Errorf("the frames came in the order %q", got)
	}
	for p.offerFirst(KindRaft, make([]byte, 1<<10)) == nil { // nobody reads any more
		if p.mu.Lock(); p.ahead > maxAhead {
			t.Errorf("%d bytes wait to go first", p.ahead)
		}
		p.mu.Unlock()
	}
	if err := p.offer(KindRaft, []byte("x")); err != nil {
		t.Errorf("what goes first takes the room of others: %v", err)
	}
	broken <- nil
	_ = there.Close()
	work.Wait()
	_ = here.Close()
}

// What is sent at once arrives whole and in order with what is not, also when the other side reads slowly and its socket takes only a
// part: over TLS what it does not take has been sealed already.
func TestWhatIsSentAtOnce(t *testing.T) {
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			n := newNet(t)
			if secure {
				n.tls = authority(t)
			}
			a, b := n.start("a", func(c *Config) { c.DeadAfter, c.Ping = time.Hour, time.Hour }), n.start("b")
			frame := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 10_000+i%7) }
			hold, all, at := make(chan struct{}), make(chan int, 1), 0
			b.Handle(KindRaft, func(_ string, got []byte) {
				<-hold
				switch {
				case len(got) == 0:
					all <- at
				case bytes.Equal(got, frame(at)):
					at++
				}
			})
			send(t, a, "b", KindRaft, frame(0))
			p, count := a.peer("b"), 1
			now := func(send func(string, byte, []byte) bool) (behind bool) {
				t.Helper()
				if !send("b", KindRaft, frame(count)) {
					t.Fatalf("frame %d was dropped", count)
				}
				count++
				p.mu.Lock()
				defer p.mu.Unlock()
				return p.out.behind
			}
			for !now(a.SendNow) { // until the socket is full
				if count > 10_000 {
					t.Fatal("the socket takes everything")
				}
			}
			for i := range 100 {
				if i%3 == 0 {
					now(a.Send)
				} else {
					now(a.SendNow)
				}
			}
			close(hold)
			for i := range 100 {
				if i%3 == 0 {
					send(t, a, "b", KindRaft, frame(count))
					count++
				} else {
					now(a.SendNow)
				}
			}
			send(t, a, "b", KindRaft, nil)
			select {
			case got := <-all:
				if got != count {
					t.Errorf("%d of %d frames arrived whole and in order", got, count)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("not all frames have arrived")
			}
			within(t, "nothing held any more", func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				return p.held == [maxKinds]int{} && !p.out.behind
			})
		})
	}
}

// A peer is asked whether it is there also while something else goes first, as on a busy link there always is.
func TestABusyLinkIsAskedToo(t *testing.T) {
	l := New(Config{Cluster: "c", Self: "a"})
	defer l.Close()
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	p := &peer{l: l, name: "b", up: true, out: newPipe(newOutlet(near)), wake: make(chan struct{}, 1)}
	p.outHeard.Store(int64(l.elapsed()))
	if err := p.offerFirst(KindRaft, []byte("here")); err != nil {
		t.Fatal(err)
	}
	before := len(p.first)
	p.tend()
	if len(p.first) == before {
		t.Error("it is not asked")
	}
}
