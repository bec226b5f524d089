package redisapi

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	process "os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/internal/wire"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/tenants"
)

// A world is everything that is below a server of the Redis protocol, on the real clock. All tests share one, and each
// makes a tenant of its own, and a server of its own when it needs sockets.
type world struct {
	config Config // for servers
	store  *tenants.Store
	keys   *auth.Store
	host   *replication.Host
	drawn  atomic.Int64
}

// Now implements replication.Clock.
func (w *world) Now() int64 { return time.Now().UnixMilli() }

var theWorld *world

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "redisapi")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	closeAll, err := start(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	other := again()
	code := m.Run()
	closeAll()
	if err := other(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, "with distant partitions:", err)
		code = 1
	}
	_ = os.RemoveAll(dir)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// farAway, when it is set, has all partitions be distant: see again.
const farAway = "LARDER_TEST_DISTANT"

// again runs the tests once more, beside the others, with partitions that have to be waited for. It returns what tells how that
// went.
func again() (wait func() error) {
	flag.Parse()
	for _, other := range []string{"test.fuzz", "test.bench", "test.list"} {
		if f := flag.Lookup(other); os.Getenv(farAway) != "" || f != nil && f.Value.String() != "" {
			return func() error { return nil }
		}
	}
	self := process.Command(os.Args[0], os.Args[1:]...)
	self.Env = append(os.Environ(), farAway+"=1")
	var out bytes.Buffer
	self.Stdout, self.Stderr = &out, &out
	err := self.Start()
	return func() error {
		if err == nil {
			err = self.Wait()
		}
		if err != nil {
			_, _ = out.WriteTo(os.Stderr) // it fails anyway
		}
		return err
	}
}

// A replica answers reads as it is asked to, as if there were others: an eventual one is 1.5 s old.
type replica struct{ *replication.Local }

func (r replica) Execute(ctx context.Context, t *engine.Task) error {
	if age := int64(0); t.Consistency > engine.Linearizable && !t.Writes() {
		if t.Consistency == engine.Eventual {
			age = 1500
		}
		t.Answered(t.Consistency, age)
	}
	return r.Local.Execute(ctx, t)
}

// Ready implements gateway.Beginner: what is not asked of the leader is for Execute.
func (r replica) Ready(t *engine.Task) bool { return t.Consistency <= engine.Linearizable }

func start(dir string) (func(), error) {
	ctx, log := context.Background(), slog.New(slog.NewTextHandler(io.Discard, nil))
	w := &world{}
	server, err := etcdembed.Start(ctx, etcdembed.Config{Dir: filepath.Join(dir, "etcd"), Logger: log, UnsafeNoFsync: true})
	if err != nil {
		return nil, err
	}
	client, err := etcdembed.NewClient(server.Endpoints(), nil)
	if err != nil {
		return nil, err
	}
	m, err := mirror.Open(ctx, mirror.Config{Client: client, Prefix: records.Root, Logger: log})
	if err != nil {
		return nil, err
	}
	place, err := placement.Open(ctx, m, placement.Config{Self: placement.Node{Name: "n", Zone: "z"}, Partitions: 4, Hosts: true}, log)
	if err != nil {
		return nil, err
	}
	w.store = tenants.Open(m, place, log)
	if w.keys, err = auth.Open(auth.Config{Mirror: m, Tenants: w.store, Now: time.Now, Log: log, Issuer: "i", Audience: "a"}); err != nil {
		return nil, err
	}
	identity, err := auth.NewAuthenticator(w.keys)
	if err != nil {
		return nil, err
	}
	w.host = replication.NewHost(w, log)
	for _, p := range place.Hosted() {
		w.host.Start(p)
	}
	w.store.OnCacheChange(func(_, c *tenants.Cache) {
		if c == nil {
			return
		}
		for _, p := range c.Partitions() {
			if err := w.host.Local(p).Execute(ctx, engine.ConfigureTask(c.ID, c.SettingsAt(p))); err != nil {
				panic(err)
			}
		}
	})
	far, turn := os.Getenv(farAway) != "", &atomic.Int64{}
	g := gateway.New(w.store, tenants.OpenMeters(m, "n", log), func(id placement.PartitionID) gateway.Executor {
		if far {
			return distant{replica{w.host.Local(id)}, turn}
		}
		return replica{w.host.Local(id)}
	}, "local", time.Now)
	g.Hub().OnObserve(func(id engine.CacheID, on bool) {
		for _, p := range place.Hosted() {
			w.host.Local(p.ID).Observe(id, on)
		}
	})
	w.host.Listen(g.Hub())
	w.config = Config{
		Gateway: g, Identity: identity, Accounts: w.store, Access: w.keys, Version: "test", Log: log, Waits: far,
		Stats: func(c *tenants.Cache) (sum engine.Stats, ok bool) {
			for _, p := range c.Partitions() {
				s, known := w.host.Local(p).Stats(c.ID)
				if !known {
					return sum, false
				}
				sum.Add(s)
			}
			return sum, true
		},
	}
	background, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { w.host.Run(background) })
	theWorld = w
	return func() {
		stop()
		running.Wait()
		_ = m.Close()
		_ = client.Close()
		server.Close()
	}, nil
}

// A distant is a partition that may have to be waited for. It answers on another goroutine, later, and refuses now and then, as if
// it were led elsewhere by then; what it was begun with has to be the task's own until that.
type distant struct {
	replica
	turn *atomic.Int64
}

var errLedElsewhere = fault.New(fault.Unavailable, "redisapi.distant", "this partition is led elsewhere")

func (d distant) Execute(ctx context.Context, t *engine.Task) error {
	time.Sleep(time.Duration(d.turn.Add(1)%3) * 50 * time.Microsecond)
	return d.replica.Execute(ctx, t)
}

func (d distant) Ready(*engine.Task) bool { return d.turn.Add(1)%7 != 0 }

func (d distant) Begin(t *engine.Task, keep func(), told func(error)) (under bool, err error) {
	n := d.turn.Add(1)
	switch {
	case n%11 == 0:
		return false, errLedElsewhere
	case n%5 == 0 && !t.Writes():
		return false, d.replica.Execute(context.Background(), t)
	}
	keep()
	go func() {
		if n%3 != 0 {
			time.Sleep(time.Duration(n%3) * 50 * time.Microsecond)
		}
		if n%13 == 0 {
			told(errLedElsewhere)
			return
		}
		told(d.replica.Execute(context.Background(), t))
	}()
	return true, nil
}

func (d distant) Elsewhere(_ *engine.Task, err error) bool { return errors.Is(err, errLedElsewhere) }

// A someone is a tenant with the cache "main", and an API key that may do everything with it.
type someone struct{ tenant, key string }

func newTenant(t testing.TB) someone {
	t.Helper()
	w := theWorld
	made, err := w.store.Create(t.Context(), tenants.Tenant{Name: fmt.Sprintf("tenant-%d", w.drawn.Add(1))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.CreateCache(t.Context(), made.Name, tenants.Cache{Name: "main"}); err != nil {
		t.Fatal(err)
	}
	_, key, err := w.keys.CreateKey(t.Context(), made.Name, auth.KeySpec{Name: "k", Role: "owner"})
	if err != nil {
		t.Fatal(err)
	}
	return someone{made.Name, key}
}

// A service is a server that listens.
type service struct {
	*Server
	at   string // its address
	stop func() // ends it, and fails the test unless that is done in time; once
}

// newService starts a server. configure changes what it is made of, and how patient it is; it may be nil.
func newService(t testing.TB, configure func(*Config, *wire.Patience)) *service {
	t.Helper()
	c, p := theWorld.config, wire.Usual
	if configure != nil {
		configure(&c, &p)
	}
	s := &service{Server: New(c)}
	s.front.Patience = p
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.at = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	running.Go(func() {
		if err := s.Serve(l); err != nil {
			t.Error(err)
		}
	})
	s.stop = sync.OnceFunc(func() {
		_ = l.Close()
		within, done := context.WithTimeout(context.Background(), patienceOfTests)
		defer done()
		if err := s.Shutdown(within); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		cancel()
		running.Wait()
	})
	t.Cleanup(s.stop)
	return s
}

// patienceOfTests is how long a test waits for what has to happen: long, because machines are slow, but less than
// patience.write, so that who waits for that is found out.
const patienceOfTests = 30 * time.Second

// A peer is a client, with a deadline for all that it does.
type peer struct {
	net.Conn
	t testing.TB
}

// dial connects from an address of this machine, or from the usual one when that is empty.
func (s *service) dial(t testing.TB, from string) *peer {
	t.Helper()
	d := net.Dialer{}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", s.at)
	if err != nil {
		t.Fatal(err)
	}
	return newPeer(t, c)
}

func newPeer(t testing.TB, c net.Conn) *peer {
	t.Helper()
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(2 * patienceOfTests)); err != nil {
		t.Fatal(err)
	}
	return &peer{c, t}
}

// login is a client of a tenant.
func (s *service) login(t testing.TB, who someone) *peer {
	t.Helper()
	p := s.dial(t, "")
	p.authenticate(who)
	return p
}

func (p *peer) authenticate(who someone) {
	p.t.Helper()
	p.do("+OK\r\n", "AUTH", who.key)
}

// command is a request as clients send it.
func command(words ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b.String()
}

func (p *peer) send(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.Conn, text); err != nil {
		p.t.Fatal(err)
	}
}

// expect reads exactly this.
func (p *peer) expect(want string) {
	p.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(p.Conn, got)
	if err != nil || string(got) != want {
		p.t.Fatalf("got %.300q, %v\nwant %.300q", got[:n], err, want)
	}
}

// until reads up to what is wanted.
func (p *peer) until(want string) {
	p.t.Helper()
	var got []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(got), want); got = append(got, b[0]) {
		if _, err := p.Read(b); err != nil {
			p.t.Fatalf("%v before %q, after %q", err, want, got)
		}
	}
}

func (p *peer) do(want string, words ...string) {
	p.t.Helper()
	p.send(command(words...))
	p.expect(want)
}

// rest reads to the end of the connection. One that was reset has ended as well.
func (p *peer) rest() string {
	p.t.Helper()
	b, err := io.ReadAll(p.Conn)
	if e, ok := err.(net.Error); ok && e.Timeout() {
		p.t.Fatalf("the connection goes on after %.300q", b)
	}
	return string(b)
}

// eventually fails the test unless something becomes true.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patienceOfTests); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

// connections is how many there are.
func (s *service) connections() int {
	present, _ := s.front.Census()
	return present
}

// A bare is a session without a transport.
type bare struct {
	*Session
	in    []byte
	woken chan struct{}
}

// newBare makes a session of a server that has no sockets.
func newBare(t testing.TB, srv *Server) *bare {
	b := &bare{woken: make(chan struct{}, 1)}
	wake := func() {
		select {
		case b.woken <- struct{}{}:
		default:
		}
	}
	b.Session = srv.newSession(netip.MustParseAddrPort("127.0.0.1:1"), false, 0, &room{}, wake)
	b.hurry(srv.Waits)
	t.Cleanup(b.Close)
	return b
}

// settle waits until the session is here and has done all that it was fed, and returns the replies.
func (b *bare) settle() (out []byte) {
	for {
		if replies := b.Output(); len(replies) > 0 {
			out = append(out, replies...)
			b.Sent(len(replies))
		}
		if !b.away.is() && !b.away.full {
			return out
		}
		<-b.woken
		b.Attend()
	}
}

// feed does what a transport does with input: what the session leaves comes again. It returns the replies.
func (b *bare) feed(piece []byte) (out []byte) {
	b.in = append(b.in, piece...)
	for {
		lent := bytes.Clone(b.in)
		used := b.Feed(lent)
		for i := range lent {
			lent[i] = '#' // whoever keeps a part of it is found out
		}
		b.in = b.in[used:]
		replies := b.settle()
		out = append(out, replies...)
		if len(b.in) == 0 || b.Closing() || b.Blocked() || used == 0 && len(replies) == 0 {
			return out
		}
	}
}
