package memcacheapi

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/tenants"
)

// A world is a server over everything that is below it. Its clock runs, and can be turned forward.
type world struct {
	*Server
	ahead       atomic.Int64 // milliseconds that the clock was turned forward
	store       *tenants.Store
	credentials *auth.Store
	host        *replication.Host
	drawn       atomic.Int64

	endpointsChanged atomic.Pointer[chan struct{}] // told when endpoints come or go
	anyPort          atomic.Bool                   // ports count as free although they are not
}

// space is what this world has for endpoints. Each process of these tests has ports of its own.
func (w *world) space() tenants.EndpointSpace {
	from := 22_000 + os.Getpid()%100*100
	return tenants.EndpointSpace{From: from, To: from + 99, Domain: "mc.example.com", Free: func(port int) error {
		if w.anyPort.Load() {
			return nil
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			return err
		}
		return l.Close()
	}}
}

func networks(list ...string) (all []netip.Prefix) {
	for _, n := range list {
		all = append(all, netip.MustParsePrefix(n))
	}
	return all
}

// Now implements replication.Clock.
func (w *world) Now() int64 { return time.Now().UnixMilli() + w.ahead.Load() }

var theWorld *world

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "memcacheapi")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	closeAll, err := start(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	closeAll()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

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
	clock := func() time.Time { return time.UnixMilli(w.Now()) }
	w.store = tenants.Open(m, place, log)
	w.store.OfferEndpoints(w.space())
	w.store.OnEndpointChange(func() {
		if c := w.endpointsChanged.Load(); c != nil {
			select {
			case *c <- struct{}{}:
			default:
			}
		}
	})
	if w.credentials, err = auth.Open(auth.Config{Mirror: m, Tenants: w.store, Now: clock, Log: log, Issuer: "i", Audience: "a"}); err != nil {
		return nil, err
	}
	identity, err := auth.NewAuthenticator(w.credentials)
	if err != nil {
		return nil, err
	}
	w.host = replication.NewHost(w, log)
	for _, p := range place.Hosted() {
		w.host.Start(p)
	}
	w.store.OnCacheChange(func(old, new *tenants.Cache) {
		if new != nil {
			for _, p := range new.Partitions() {
				if err := w.host.Local(p).Execute(ctx, engine.ConfigureTask(new.ID, new.SettingsAt(p))); err != nil {
					panic(err)
				}
			}
		}
	})
	g := gateway.New(w.store, tenants.OpenMeters(m, "n", log), func(id placement.PartitionID) gateway.Executor { return w.host.Local(id) }, "local", clock)
	w.Server = New(Config{Gateway: g, Identity: identity, Log: log, Stats: func(c *tenants.Cache) (engine.Stats, bool) {
		return w.host.Local(c.Ranges[0].Partition).Stats(c.ID)
	}})
	running, stop := context.WithCancel(ctx)
	go w.host.Run(running)
	theWorld = w
	return func() { stop(); _ = m.Close(); _ = client.Close(); server.Close() }, nil
}

// A someone is a tenant with a cache, and a key.
type someone struct {
	*world
	tenant, key string
}

func newTenant(t testing.TB, spec tenants.Cache) someone {
	t.Helper()
	w := theWorld
	made, err := w.store.Create(t.Context(), tenants.Tenant{Name: fmt.Sprintf("tenant-%d", w.drawn.Add(1))})
	if err != nil {
		t.Fatal(err)
	}
	spec.Name = "main"
	if _, err := w.store.CreateCache(t.Context(), made.Name, spec); err != nil {
		t.Fatal(err)
	}
	return someone{w, made.Name, ""}.withRole(t, "owner")
}

// withRole is the tenant with a key of a role.
func (s someone) withRole(t testing.TB, role string) someone {
	t.Helper()
	_, key, err := s.credentials.CreateKey(t.Context(), s.tenant, auth.KeySpec{Name: role, Kind: auth.LiveKey, Role: role, DefaultCache: "main"})
	if err != nil {
		t.Fatal(err)
	}
	s.key = key
	return s
}

var here = netip.MustParseAddrPort("127.0.0.1:4711")

// stranger is a session that has not logged in.
func (s someone) stranger(t testing.TB) *Session {
	c := s.newSession(here, false, 0, func() {})
	t.Cleanup(c.Close)
	return c
}

// session is one that is logged in by its endpoint.
func (s someone) session(t testing.TB) *Session {
	t.Helper()
	c := s.stranger(t)
	err := c.enter(s.implied())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (s someone) implied() *Implied {
	return &Implied{Cache: "main", Holds: func() bool { return true }, Login: func(source netip.Addr, _ bool) (*auth.Principal, error) {
		p, _, err := s.Identity.Login("", s.key, source)
		return p, err
	}}
}

// listen serves the tenant's open endpoint on a socket.
func (s someone) listen(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.front.Serve(l, s.implied()) }()
	t.Cleanup(func() {
		_ = l.Close()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// send feeds a session and takes what it says.
func send(s *Session, in []byte) string {
	var out []byte
	for {
		in = in[s.Feed(in):]
		out = append(out, s.Output()...)
		s.Sent(len(s.Output()))
		if !s.More() {
			return string(out)
		}
	}
}

// sendSplit feeds a session in pieces of n bytes.
func sendSplit(s *Session, in []byte, n int) string {
	var out, held []byte
	for len(in) > 0 && !s.Closing() {
		m := min(n, len(in))
		held, in = append(held, in[:m]...), in[m:]
		for again := true; again; again = s.More() {
			held = held[s.Feed(held):]
			out = append(out, s.Output()...)
			s.Sent(len(s.Output()))
		}
	}
	return string(out)
}

// tokens makes CAS tokens, of which each server has its own, comparable: by the order in which they were first seen.
type tokens struct {
	seen  map[string]string
	alike bool // all tokens are shown alike
}

var (
	casInValue = regexp.MustCompile(`(?m)^(VALUE \S+ \d+ \d+ )(\d+)`)
	casInMeta  = regexp.MustCompile(`(?m)^((?:HD|VA|EX|NF|NS)(?: .*)? c)(\d+)`)
	casInDebug = regexp.MustCompile(`(?m)^(ME .* cas=)(\d+)`)
)

func (k *tokens) hide(out string) string {
	if k.seen == nil {
		k.seen = map[string]string{}
	}
	for _, pattern := range []*regexp.Regexp{casInValue, casInMeta, casInDebug} {
		out = pattern.ReplaceAllStringFunc(out, func(match string) string {
			parts := pattern.FindStringSubmatch(match)
			name, ok := k.seen[parts[2]]
			if !ok {
				name = fmt.Sprintf("cas%d", len(k.seen))
				if k.alike {
					name = "cas"
				}
				if parts[2] == "0" {
					name = "0"
				}
				k.seen[parts[2]] = name
			}
			return parts[1] + name
		})
	}
	return out
}

// lines shows replies one per line.
func lines(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }
