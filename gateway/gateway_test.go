package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/tenants"
)

// A world is a gateway over everything that is below it, with a clock turned by hand.
type world struct {
	*Gateway
	now         atomic.Int64 // milliseconds
	store       *tenants.Store
	credentials *auth.Store
	identify    *auth.Authenticator
	host        *replication.Host
	drawn       atomic.Int64
}

// Now implements replication.Clock.
func (w *world) Now() int64 { return w.now.Load() }

var theWorld *world

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gateway")
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
	w.now.Store(time.Now().UnixMilli())
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
	if w.credentials, err = auth.Open(auth.Config{Mirror: m, Tenants: w.store, Now: clock, Log: log, Issuer: "i", Audience: "a"}); err != nil {
		return nil, err
	}
	if w.identify, err = auth.NewAuthenticator(w.credentials); err != nil {
		return nil, err
	}
	w.host = replication.NewHost(w, log)
	for _, p := range place.Hosted() {
		w.host.Start(p)
	}
	w.store.OnCacheChange(func(old, new *tenants.Cache) {
		task := func(c *tenants.Cache, t func(placement.PartitionID) *engine.Task) {
			for _, p := range c.Partitions() {
				if err := w.host.Local(p).Execute(ctx, t(p)); err != nil {
					panic(err)
				}
			}
		}
		if old != nil && (new == nil || new.ID != old.ID) {
			task(old, func(placement.PartitionID) *engine.Task { return engine.DropTask(old.ID) })
		}
		if new != nil {
			task(new, func(p placement.PartitionID) *engine.Task { return engine.ConfigureTask(new.ID, new.SettingsAt(p)) })
		}
	})
	w.Gateway = New(w.store, tenants.OpenMeters(m, "n", log), func(id placement.PartitionID) Executor { return w.host.Local(id) }, "local", clock)
	theWorld = w
	return func() { _ = m.Close(); _ = client.Close(); server.Close() }, nil
}

// A someone is a tenant's caller.
type someone struct {
	*world
	tenant string
	Caller
}

func newTenant(t testing.TB, limits tenants.Limits) someone {
	t.Helper()
	w := theWorld
	made, err := w.store.Create(t.Context(), tenants.Tenant{Name: fmt.Sprintf("tenant-%d", w.drawn.Add(1)), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	s := someone{world: w, tenant: made.Name}.withRole(t, policy.RoleOwner)
	s.cache(t, tenants.Cache{Name: "main"})
	return s
}

func (s someone) cache(t testing.TB, spec tenants.Cache) {
	t.Helper()
	if _, err := s.store.CreateCache(t.Context(), s.tenant, spec); err != nil {
		t.Fatal(err)
	}
}

func (s someone) withRole(t testing.TB, role string) someone {
	t.Helper()
	_, text, err := s.credentials.CreateKey(t.Context(), s.tenant, auth.KeySpec{Name: "k", Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return s.with(t, text)
}

func (s someone) with(t testing.TB, credential string) someone {
	t.Helper()
	p, err := s.identify.Authenticate(auth.AnyUse, credential, netip.MustParseAddr("192.0.2.1"))
	if err != nil {
		t.Fatal(err)
	}
	s.Caller = Caller{Principal: p, Source: netip.MustParseAddr("192.0.2.1"), Protocol: "redis"}
	return s
}

// withStatements returns a caller of the same tenant whose policy has these statements; TENANT stands for it.
func (s someone) withStatements(t testing.TB, statements string) someone {
	t.Helper()
	name := fmt.Sprintf("p-%d", s.drawn.Add(1))
	text := `{"Version":"2012-10-17","Statement":[` + strings.ReplaceAll(statements, "TENANT", s.tenant) + `]}`
	if _, _, err := s.credentials.PutPolicy(t.Context(), s.tenant, name, []byte(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.credentials.CreateRole(t.Context(), s.tenant, auth.Role{Name: name, Policies: []string{name}}); err != nil {
		t.Fatal(err)
	}
	return s.withRole(t, name)
}

// request makes a request of commands, written with spaces between their words.
func (s *someone) request(cache string, commands ...string) (*Request, *engine.Recording) {
	reply := &engine.Recording{}
	r := &Request{Caller: &s.Caller, Cache: cache, Reply: reply}
	for _, c := range commands {
		call := engine.Call{}
		for _, word := range strings.Fields(c) {
			call.Args = append(call.Args, []byte(word))
		}
		call.Command = engine.Lookup(call.Args[0])
		r.Calls = append(r.Calls, call)
	}
	return r, reply
}

// do asks for commands on the cache main and returns the answers in short, and the error about all of them.
func (s *someone) do(t testing.TB, commands ...string) ([]string, error) {
	t.Helper()
	r, reply := s.request("main", commands...)
	err := s.Do(t.Context(), r)
	return answers(reply), err
}

// answers are the top-level replies in short.
func answers(reply *engine.Recording) (all []string) {
	c := reply.Cursor()
	var one func() (string, bool)
	one = func() (string, bool) {
		switch next := c.Next(); next.Kind {
		case engine.ReplyError:
			return next.Err.Kind.String(), true
		case engine.ReplyInt:
			return fmt.Sprint(next.Int), true
		case engine.ReplyDouble:
			return fmt.Sprint(next.Float), true
		case engine.ReplyNull:
			return "null", true
		case engine.ReplyArray:
			parts := make([]string, next.Int)
			for i := range parts {
				parts[i], _ = one()
			}
			return "[" + strings.Join(parts, " ") + "]", true
		case engine.ReplyEnd:
			return "", false
		default:
			return string(next.Bytes), true
		}
	}
	for {
		a, ok := one()
		if !ok {
			return all
		}
		all = append(all, a)
	}
}

// Whatever the arguments of a command are, it asks for at least one right, only for actions that policies can
// speak of, and for one on each of its keys.
func TestEveryCommandAsksForRights(t *testing.T) {
	for _, c := range engine.Commands() {
		if _, known := actions[c.Action]; !known {
			t.Errorf("%s: there is no action %q", c.Name, c.Action)
		}
		words := strings.FieldsFunc(c.Usage, func(r rune) bool { return strings.ContainsRune(" []|<>=.\"", r) })
		words = append(words, "0", "1", "2", "3", "-1", "a", "b", "c", "")
		rapid.Check(t, func(t *rapid.T) {
			n := max(c.Arity, -c.Arity)
			if c.Arity < 0 {
				n += rapid.IntRange(0, 8).Draw(t, "more")
			}
			args := [][]byte{[]byte(c.Name)}
			for len(args) < n {
				args = append(args, []byte(rapid.SampledFrom(words).Draw(t, "argument")))
			}
			rights := c.AppendRights(nil, args)
			if len(rights) == 0 {
				t.Fatalf("%q asks for no right", args)
			}
			named := map[string]bool{}
			for _, r := range rights {
				if _, known := actions[r.Action]; !known {
					t.Fatalf("%q asks for %q, which is no action", args, r.Action)
				}
				if r.On != engine.OnCache {
					named[string(r.Name)] = true
				}
			}
			for _, key := range c.AppendKeys(nil, args) {
				if !named[string(key)] {
					t.Fatalf("%q touches %q and asks for no right on it: %+v", args, key, rights)
				}
			}
		})
	}
}

// A call on several keys is done only if it may touch each of them, with the right that it needs there. What is
// refused reads and changes nothing.
func TestRightsOnEachKey(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	if _, err := owner.do(t, "MSET a 1 b 2", "ZADD za 1 m", "ZADD zb 2 m", "LEADERBOARD.PUT board SET 1 m"); err != nil {
		t.Fatal(err)
	}
	const read, write = `{"Effect":"Allow","Action":["cache:Get","cache:Exists","cache:TTL","cache:SortedSetRead"],"Resource":"arn:cache:cache:*:TENANT:cache/main/key/`,
		`{"Effect":"Allow","Action":["cache:Set","cache:SortedSetWrite","cache:Rename","cache:Copy","cache:Delete"],"Resource":"arn:cache:cache:*:TENANT:cache/main/key/`
	readsA := owner.withStatements(t, read+`*a"}`)
	readsAll := owner.withStatements(t, read+`*"}`)
	writesA := owner.withStatements(t, read+`*"},`+write+`*a"}`)
	for _, tt := range []struct {
		name    string
		who     someone
		command string
		want    string
	}{
		{"one's own key", readsA, "MGET a", "[1]"},
		{"one foreign key", readsA, "MGET a b", "denied"},
		{"the foreign key first", readsA, "MGET b a", "denied"},
		{"a foreign key that is not there", readsA, "MGET a none", "denied"},
		{"a foreign key to count", readsA, "EXISTS a b", "denied"},
		{"reading all", readsAll, "MGET a b none", "[1 2 null]"},
		{"writing where one reads", readsAll, "MSET a 9", "denied"},
		{"writing one's own", writesA, "SET a 1", "OK"},
		{"writing one foreign key", writesA, "MSET a 9 b 9", "denied"},
		{"a counted foreign key", readsA, "ZUNION 2 za zb", "denied"},
		{"storing into a foreign key", writesA, "ZUNIONSTORE zb 1 za", "denied"},
		{"storing what one may not read", owner.withStatements(t, write+`*a"}`), "ZUNIONSTORE za 1 zb", "denied"},
		{"storing into one's own", writesA, "ZUNIONSTORE za 2 za zb", "1"},
		{"renaming onto a foreign key", writesA, "RENAME a b", "denied"},
		{"renaming a foreign key", writesA, "RENAME b a", "denied"},
		{"copying onto a foreign key", writesA, "COPY a c", "denied"},
		{"copying a foreign key", owner.withStatements(t, write+`*a"}`), "COPY b a", "denied"},
		{"a set read as a leaderboard", readsAll, "LEADERBOARD.GET za DESC m", "denied"},
		{"keyspace-wide with a right on a key", readsA, "SCAN 0", "denied"},
		{"counting all", readsAll, "DBSIZE", "denied"},
		{"flushing", writesA, "FLUSHALL", "denied"},
		{"flushing a database", writesA, "FLUSHDB", "denied"},
		{"deleting by a prefix", writesA, "KV.DELPREFIX 0 a", "denied"},
		{"in another letter case", readsA, "mget a b", "denied"},
		{"an unknown command", readsA, "EVIL a", "invalid_argument"},
		{"the engine's own command", owner, "LARDER.DROP x", "invalid_argument"},
		{"a wrong number of arguments", readsA, "GET", "invalid_argument"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.who.do(t, tt.command)
			if err != nil || len(got) != 1 || got[0] != tt.want {
				t.Errorf("%s: %v %v, want %s", tt.command, got, err, tt.want)
			}
		})
	}
	if got, err := owner.do(t, "MGET a b c", "ZSCORE zb m", "DBSIZE"); err != nil || fmt.Sprint(got) != "[[1 2 null] 2 5]" {
		t.Errorf("afterwards: %v %v", got, err)
	}
}

// Of several commands each is answered for itself: what is refused costs nothing, and what is done is charged once.
func TestSomeRefused(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	owner.cache(t, tenants.Cache{Name: "limited", Limits: tenants.Limits{UnitsPerSecond: 10}})
	who := owner.withStatements(t, `{"Effect":"Allow","Action":"*","Resource":"arn:cache:cache:*:TENANT:cache/*/key/a*"}`)
	r, reply := who.request("limited", "SET a1 1", "SET b 1", "GET a1", "NOPE", "GET", "SET a2 2", "INCR a2")
	if err := who.Do(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(answers(reply)); got != "[OK denied 1 invalid_argument invalid_argument OK 3]" {
		t.Errorf("answers: %s", got)
	}
	if r.Units != 4 {
		t.Errorf("%d units were charged, want 4", r.Units)
	}
	c, _ := owner.store.Cache(owner.tenant, "limited")
	usage := owner.meters.Usage(c)
	if usage.Operations != 4 || usage.Units != 4 || usage.Denied != 1 {
		t.Errorf("usage: %+v", usage)
	}
	// Four of ten units are used: six more pass, and the one that goes into debt.
	passed := 0
	for range 20 {
		r, _ := who.request("limited", "GET a1")
		if err := who.Do(t.Context(), r); fault.Is(err, fault.Throttled) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		passed++
	}
	if passed != 7 {
		t.Errorf("%d more requests passed, want 7", passed)
	}
	// Over the limit, whoever may do nothing is told just that.
	r, reply = who.request("limited", "GET b")
	if err := who.Do(t.Context(), r); err != nil || fmt.Sprint(answers(reply)) != "[denied]" {
		t.Errorf("denied beyond the limit: %v %v", answers(reply), err)
	}
	r, _ = who.request("limited", "GET b", "GET a1")
	if err := who.Do(t.Context(), r); !fault.Is(err, fault.Throttled) || fault.From(err).RetryAfter <= 0 {
		t.Errorf("beyond the limit: %v", err)
	}
}

// An atomic request, or one to be done once, is done as a whole or not at all, and says which call stands in the
// way.
func TestRefusedAsAWhole(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	who := owner.withStatements(t, `{"Effect":"Allow","Action":"*","Resource":"arn:cache:cache:*:TENANT:cache/*/key/a*"}`)
	for _, once := range []*engine.Once{nil, {Key: [16]byte{1}, Fingerprint: [16]byte{2}}} {
		r, reply := who.request("main", "SET a1 1", "SET b 1", "SET a2 2")
		r.Atomic, r.Once = once == nil, once
		if err := who.Do(t.Context(), r); !fault.Is(err, fault.Denied) || r.Failed != 1 || reply.Len() != 0 || r.Units != 0 {
			t.Errorf("once %v: %v, failed %d, %d units, %v", once, err, r.Failed, r.Units, answers(reply))
		}
		if got, _ := owner.do(t, "DBSIZE"); got[0] != "0" {
			t.Errorf("once %v: %s keys were written", once, got[0])
		}
	}
	// Refused, a key of idempotency was not used.
	once := &engine.Once{Key: [16]byte{1}, Fingerprint: [16]byte{3}}
	for i, want := range []bool{false, true} {
		r, reply := who.request("main", "INCR a1", "INCR a2")
		r.Once = once
		if err := who.Do(t.Context(), r); err != nil || r.Replayed != want || fmt.Sprint(answers(reply)) != "[1 1]" {
			t.Errorf("try %d: replayed %v, %v %v", i, r.Replayed, answers(reply), err)
		}
	}
	r, reply := who.request("main", "INCR a1")
	r.Once = &engine.Once{Key: once.Key, Fingerprint: [16]byte{4}}
	err := who.Do(t.Context(), r)
	if got := answers(reply); !fault.Is(err, fault.KeyReused) && fmt.Sprint(got) != "[idempotency_key_reused]" {
		t.Errorf("another request under the key: %v %v", got, err)
	}
	// The key belongs to this cache: elsewhere it is another.
	owner.cache(t, tenants.Cache{Name: "other"})
	r, reply = who.request("other", "INCR a1", "INCR a2")
	r.Once = once
	if err := who.Do(t.Context(), r); err != nil || r.Replayed || fmt.Sprint(answers(reply)) != "[1 1]" {
		t.Errorf("in another cache: replayed %v, %v %v", r.Replayed, answers(reply), err)
	}
	// An atomic request that fails when it runs is undone.
	r, _ = owner.request("main", "SET a1 x", "INCR a1", "SET a3 1")
	r.Atomic = true
	if err := owner.Do(t.Context(), r); err != nil || r.Failed != 1 {
		t.Errorf("an atomic request: %v, failed %d", err, r.Failed)
	}
	if got, _ := owner.do(t, "MGET a1 a3"); got[0] != "[1 null]" {
		t.Errorf("after it failed: %v", got)
	}
}

func TestUnits(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	for _, tt := range []struct {
		name     string
		commands []string
		units    int64
	}{
		{"a small value", []string{"SET k v"}, 1},
		{"reading it", []string{"GET k"}, 1},
		{"a KiB with its command and answer", []string{"SET k " + strings.Repeat("x", 1024-8)}, 1},
		{"a byte more", []string{"SET k " + strings.Repeat("x", 1024-7)}, 2},
		{"three KiB", []string{"SET k " + strings.Repeat("x", 3000)}, 3},
		{"reading them", []string{"GET k"}, 3},
		{"reading them among others", []string{"PING", "GET k", "PING"}, 5}, // the answers are charged together
		{"an absent key", []string{"GET none"}, 1},
		{"a failure", []string{"INCR k"}, 1},
		{"three at once", []string{"PING", "PING", "PING"}, 3},
		{"many in one command", []string{"MSET" + strings.Repeat(" k v", 100)}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := owner.store.Cache(owner.tenant, "main")
			before := owner.meters.Usage(c)
			r, reply := owner.request("main", tt.commands...)
			if err := owner.Do(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			used := owner.meters.Usage(c)
			if r.Units != tt.units || used.Units-before.Units != tt.units || used.Operations-before.Operations != int64(len(tt.commands)) {
				t.Errorf("charged %d, metered %d for %d operations, want %d", r.Units, used.Units-before.Units, used.Operations-before.Operations, tt.units)
			}
			if used.BytesOut-before.BytesOut != int64(reply.Len()) || used.BytesIn == before.BytesIn {
				t.Errorf("%d bytes in, %d out", used.BytesIn-before.BytesIn, used.BytesOut-before.BytesOut)
			}
		})
	}
}

// A cache that is not there answers whoever may not use it like one that is.
func TestNowhere(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	who := owner.withStatements(t, `{"Effect":"Allow","Action":"cache:Get","Resource":"arn:cache:cache:*:TENANT:cache/*/key/a"}`)
	tell := func(cache string, atomic bool, commands ...string) string {
		r, reply := who.request(cache, commands...)
		r.Atomic = atomic
		err := who.Do(t.Context(), r)
		text := fmt.Sprint(err, r.Failed, r.Units, answers(reply))
		return strings.ReplaceAll(text, cache, "…")
	}
	for _, commands := range [][]string{{"GET b"}, {"SET b 1", "GET b"}, {"FLUSHALL"}, {"NOPE"}, {"GET"}, {"SCAN 0", "NOPE"}} {
		for _, atomic := range []bool{false, true} {
			if there, gone := tell("main", atomic, commands...), tell("none", atomic, commands...); there != gone {
				t.Errorf("%v atomic %v: %s there, %s gone", commands, atomic, there, gone)
			}
		}
	}
	// Who may use it hears that it is not there.
	r, _ := who.request("none", "GET a")
	if err := who.Do(t.Context(), r); !fault.Is(err, fault.NotFound) || fault.From(err).Argument != "cache" {
		t.Errorf("an allowed call: %v", err)
	}
	if got := tell("none", false, "GET a", "GET b"); !strings.HasSuffix(got, "[not_found denied]") {
		t.Errorf("an allowed call and one that is not: %s", got)
	}
	if n := who.MaxValue(&who.Caller, "none"); n != tenants.DefaultMaxValue {
		t.Errorf("values of a cache that is not there have at most %d bytes", n)
	}
}

// A token opens the door that it was made for, and no other.
func TestDoors(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	mint := func(use auth.Use) someone {
		_, text, err := owner.credentials.Mint(t.Context(), owner.Principal, auth.TokenSpec{TTL: time.Hour, Use: use})
		if err != nil {
			t.Fatal(err)
		}
		return owner.with(t, text)
	}
	for _, tt := range []struct {
		name         string
		who          someone
		data, manage bool
	}{{"a key", owner, true, true}, {"a token for data", mint(auth.UseData), true, false}, {"a token for management", mint(auth.UseManage), false, true}} {
		_, err := tt.who.do(t, "PING")
		if (err == nil) != tt.data || err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("%s does: %v", tt.name, err)
		}
		err = tt.who.AuthorizeCache(&tt.who.Caller, policy.CacheDescribeCache, "main", nil)
		if (err == nil) != tt.manage || err != nil && !fault.Is(err, fault.Denied) {
			t.Errorf("%s manages: %v", tt.name, err)
		}
	}
}

// What conditions ask about a request.
func TestFacts(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	owner.cache(t, tenants.Cache{Name: "lasting", DefaultTTLMs: 60_000, Tags: map[string]string{"Env": "prod", "two": "a", "TWO": "b"}})
	for _, tt := range []struct {
		condition string
		yes, no   string // commands that it allows, and denies
	}{
		{`"IpAddress":{"cache:SourceIp":"192.0.2.0/24"}`, "GET k", ""},
		{`"NotIpAddress":{"cache:SourceIp":"192.0.2.0/24"}`, "", "GET k"},
		{`"StringEquals":{"cache:Protocol":"redis"}`, "GET k", ""},
		{`"StringEquals":{"cache:Protocol":"http"}`, "", "GET k"},
		{`"Bool":{"cache:SecureTransport":"true"}`, "", "GET k"},
		{`"Null":{"cache:TlsVersion":"true"}`, "GET k", ""},
		{`"Null":{"cache:UserAgent":"true"}`, "GET k", ""},
		{`"StringEquals":{"cache:Command":"GETDEL"}`, "GETDEL k", "GET k"},
		{`"NumericEquals":{"cache:KeyCount":"2"}`, "MGET a b", "MGET a b c"},
		{`"ForAllValues:StringLike":{"cache:Keys":"a*"},"Null":{"cache:Keys":"false"}`, "MGET a ab", "MGET a b"},
		{`"NumericLessThanEquals":{"cache:ValueSize":"3"}`, "SET k 123", "SET k 1234"},
		{`"NumericLessThanEquals":{"cache:ValueSize":"3"}`, "APPEND k 123", "GET k"},
		{`"NumericEquals":{"cache:TTLSeconds":"10"}`, "SET k v EX 10", "SET k v EX 11"},
		{`"NumericEquals":{"cache:TTLSeconds":"60"}`, "SET k v", "GET k"}, // the cache's own TTL is that of a write that names none
		{`"StringLike":{"cache:KeyPrefix":"a*"}`, "KV.SCAN 0 PREFIX ab", "KV.SCAN 0 PREFIX b"},
		{`"StringLike":{"cache:KeyPrefix":"*"}`, "KV.SCAN 0 PREFIX b", "KV.SCAN 0"},
		{`"NumericLessThanEquals":{"cache:MaxItems":"5"}`, "KV.SCAN 0 COUNT 5", "KV.SCAN 0 COUNT 6"},
		{`"StringEquals":{"cache:ResourceTag/env":"prod"}`, "GET k", ""},
		{`"StringEquals":{"cache:ResourceTag/env":"dev"}`, "", "GET k"},
		{`"StringNotEquals":{"cache:ResourceTag/two":"z"}`, "", "GET k"}, // two tags that differ in letter case: neither is meant for certain
		{`"StringEquals":{"cache:ResourceTenant":"TENANT"}`, "GET k", ""},
		{`"StringEquals":{"cache:AuthMethod":"api_key"}`, "GET k", ""},
	} {
		t.Run(tt.condition, func(t *testing.T) {
			who := owner.withStatements(t, `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{`+tt.condition+`}}`)
			for command, want := range map[string]bool{tt.yes: true, tt.no: false} {
				if command == "" {
					continue
				}
				r, reply := who.request("lasting", command)
				if err := who.Do(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				if got := answers(reply)[0] != "denied"; got != want {
					t.Errorf("%s: %v, want allowed %v", command, answers(reply), want)
				}
			}
		})
	}
}

// A change of a record holds from the next request on, whatever requests were under way.
func TestRoutesAreNotOlderThanRecords(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for ctx.Err() == nil {
				r, _ := owner.request("fleeting", "GET k")
				_ = owner.Do(ctx, r)
			}
		})
	}
	for i := range 30 {
		owner.cache(t, tenants.Cache{Name: "fleeting"})
		r, reply := owner.request("fleeting", "GET k", "SET k v")
		if err := owner.Do(t.Context(), r); err != nil || answers(reply)[0] != "null" {
			t.Fatalf("round %d: made anew: %v %v", i, answers(reply), err)
		}
		if _, err := owner.store.UpdateCache(t.Context(), owner.tenant, "fleeting", func(c *tenants.Cache) error { c.MaxValue = int64(i + 1); return nil }); err != nil {
			t.Fatal(err)
		}
		if n := owner.MaxValue(&owner.Caller, "fleeting"); n != int64(i+1) {
			t.Fatalf("round %d: values have at most %d bytes", i, n)
		}
		if err := owner.store.DeleteCache(t.Context(), owner.tenant, "fleeting"); err != nil {
			t.Fatal(err)
		}
		r, _ = owner.request("fleeting", "GET k")
		if err := owner.Do(t.Context(), r); !fault.Is(err, fault.NotFound) {
			t.Fatalf("round %d: deleted: %v", i, err)
		}
	}
	stop()
	running.Wait()
}

// The tenant's limit holds for all of its caches, and for nobody else; other limits begin anew.
func TestLimitsOfTenants(t *testing.T) {
	owner := newTenant(t, tenants.Limits{UnitsPerSecond: 2})
	other := newTenant(t, tenants.Limits{})
	owner.cache(t, tenants.Cache{Name: "second"})
	do := func(who someone, cache string) error {
		r, _ := who.request(cache, "PING")
		return who.Do(t.Context(), r)
	}
	for i := range 3 {
		if err := do(owner, []string{"main", "second"}[i%2]); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
	}
	for _, cache := range []string{"main", "second", "none"} {
		if err := do(owner, cache); !fault.Is(err, fault.Throttled) || fault.From(err).RetryAfter != 500*time.Millisecond {
			t.Errorf("%s: %v", cache, err)
		}
	}
	if err := owner.Admit(&owner.Caller); !fault.Is(err, fault.Throttled) {
		t.Errorf("before a body is read: %v", err)
	}
	if err := do(other, "main"); err != nil {
		t.Errorf("another tenant: %v", err)
	}
	owner.now.Add(500)
	if err := do(owner, "main"); err != nil {
		t.Errorf("after the time that was said: %v", err)
	}
	if _, err := owner.store.Update(t.Context(), owner.tenant, func(t *tenants.Tenant) error { t.Limits.UnitsPerSecond = 1000; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := do(owner, "main"); err != nil {
		t.Errorf("under a higher limit: %v", err)
	}
	if err := owner.Admit(&owner.Caller); err != nil {
		t.Errorf("under a higher limit: %v", err)
	}
}

// A bucket agrees with one that counts tokens, whatever is taken from it and when.
func TestBuckets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Int64Range(1, 1_000_000).Draw(t, "rate")
		var b bucket
		tokens, now := float64(rate), int64(0)
		for range rapid.IntRange(1, 50).Draw(t, "steps") {
			if pass := rapid.Int64Range(0, 3_000_000_000).Draw(t, "pass"); pass > 0 {
				now += pass
				tokens = min(float64(rate), tokens+float64(rate)*float64(pass)/1e9)
			}
			wait := b.wait(now, rate)
			owed := -tokens / float64(rate) * 1e9 // in nanoseconds
			if math.Abs(float64(wait)-max(0, owed)) > 1e3 {
				t.Fatalf("wait %v, want %v", wait, time.Duration(max(0, owed)))
			}
			if wait > 0 {
				continue
			}
			n := rapid.Int64Range(0, 3*rate).Draw(t, "take")
			b.charge(now, n, rate)
			tokens -= float64(n)
		}
	})
}

func TestBucketsDoNotOverflow(t *testing.T) {
	var b bucket
	for range 10 {
		b.charge(0, math.MaxInt64, 1)
		if wait := b.wait(0, 1); wait <= 0 || wait > maxDebt {
			t.Fatalf("wait %v", wait)
		}
	}
	if wait := b.wait(int64(maxDebt), 1); wait != 0 {
		t.Errorf("after the longest debt: wait %v", wait)
	}
	b.charge(0, 5, 0)
	if wait := b.wait(0, 0); wait != 0 {
		t.Errorf("without a limit: wait %v", wait)
	}
}

// TestRightsInsideScriptsAsData: where replicas carry a script out, it may do what its credential may do on every key, and no
// more.
func TestRightsInsideScriptsAsData(t *testing.T) {
	owner := newTenant(t, tenants.Limits{})
	reader := owner.withRole(t, policy.RoleReadOnly)
	for words, want := range map[string][2]bool{"SET k v": {true, false}, "GET k": {true, true}, "FLUSHALL": {true, false}, "DBSIZE": {true, true}} {
		args := bytes.Fields([]byte(words))
		for i, who := range []someone{owner, reader} {
			rights := who.rightsInside(&Request{Caller: &who.Caller, Cache: "main"})()
			if got := rights.Allowed(engine.LookupCall(args), args) == nil; got != want[i] {
				t.Errorf("%s, owner and reader %v: %v", words, want, got)
			}
		}
	}
}
