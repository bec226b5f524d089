package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
)

// etcd is one for all tests of the package, started by the first that needs it.
var etcd struct {
	once   sync.Once
	server *etcdembed.Server
	client *clientv3.Client
	dir    string
	err    error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if etcd.client != nil {
		etcd.client.Close()
	}
	if etcd.server != nil {
		etcd.server.Close()
	}
	os.RemoveAll(etcd.dir)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func startEtcd() {
	if etcd.dir, etcd.err = os.MkdirTemp("", "larder-auth-"); etcd.err != nil {
		return
	}
	etcd.server, etcd.err = etcdembed.Start(context.Background(), etcdembed.Config{Dir: etcd.dir, UnsafeNoFsync: true, Logger: slog.New(slog.DiscardHandler)})
	if etcd.err == nil {
		etcd.client, etcd.err = etcdembed.NewClient(etcd.server.Endpoints(), nil)
	}
}

// A node is what one process of a cluster has of this package.
type node struct {
	*Store
	*Authenticator
	t       testing.TB
	clock   *clock
	tenants *someTenants
	log     *syncBuffer
}

// newNode starts the first node of an empty cluster with the tenants acme, globex and system.
func newNode(t testing.TB) *node {
	t.Helper()
	etcd.once.Do(startEtcd)
	if etcd.err != nil {
		t.Fatal(etcd.err)
	}
	if _, err := etcd.client.Delete(t.Context(), records.Root, clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, clock: &clock{}, tenants: &someTenants{states: map[string]TenantState{}}, log: &syncBuffer{}}
	n.clock.at.Store(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC).UnixNano())
	for i, name := range []string{"acme", "globex", policy.SystemTenant} {
		n.tenants.set(name, TenantState{ID: TenantID(fmt.Sprintf("%032x", i+1)), Active: true})
	}
	return n.another()
}

// another starts one more node of the cluster, or the same one again after a restart.
func (n *node) another() *node {
	n.t.Helper()
	log := slog.New(slog.NewTextHandler(n.log, nil))
	m, err := mirror.Open(n.t.Context(), mirror.Config{Client: etcd.client, Prefix: records.Root, Logger: log})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { m.Close() })
	s, err := Open(Config{Mirror: m, Tenants: n.tenants, Now: n.clock.now, Log: log, Issuer: "https://larder.test", Audience: "larder"})
	if err != nil {
		n.t.Fatal(err)
	}
	a, err := NewAuthenticator(s)
	if err != nil {
		n.t.Fatal(err)
	}
	return &node{s, a, n.t, n.clock, n.tenants, n.log}
}

// sync waits until the node has seen what is in etcd.
func (n *node) sync() {
	n.t.Helper()
	if err := n.m.Sync(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
}

// valid reports whether a principal is still who it was.
func (n *node) valid(p *Principal) bool { return p.current() && !p.expired(n.clock.now()) }

// put writes a record past the store, as damage or another version would.
func (n *node) put(path, value string) {
	n.t.Helper()
	if _, err := n.m.Put(n.t.Context(), records.Root+path, []byte(value)); err != nil {
		n.t.Fatal(err)
	}
}

// newKey makes a key of acme.
func (n *node) newKey(role string) (KeyInfo, string) {
	n.t.Helper()
	return n.newKeyOf("acme", KeySpec{Name: "a key", Role: role})
}

func (n *node) newKeyOf(tenant string, spec KeySpec) (KeyInfo, string) {
	n.t.Helper()
	info, secret, err := n.CreateKey(n.t.Context(), tenant, spec)
	if err != nil {
		n.t.Fatal(err)
	}
	return info, secret
}

// mint makes a token with a key's text.
func (n *node) mint(key string, spec TokenSpec) (TokenInfo, string) {
	n.t.Helper()
	if spec.TTL == 0 {
		spec.TTL = time.Hour
	}
	info, text, err := n.Mint(n.t.Context(), n.enter(key), spec)
	if err != nil {
		n.t.Fatal(err)
	}
	return info, text
}

var somewhere = netip.MustParseAddr("192.0.2.1")

// enter authenticates at the door of the data plane, and must succeed.
func (n *node) enter(credential string) *Principal {
	n.t.Helper()
	p, err := n.Authenticate(UseData, credential, somewhere)
	if err != nil {
		n.t.Fatalf("refused: %v", err)
	}
	return p
}

// refuses checks that a credential is refused for a reason, in the words that all refusals share.
func (n *node) refuses(credential string, why Reason) {
	n.t.Helper()
	n.clock.add(failureWindow) // so that refusals of one test do not add up
	_, err := n.Authenticate(UseData, credential, somewhere)
	var refusal *Refusal
	if !errors.As(err, &refusal) {
		n.t.Fatalf("got %v, want a refusal for %s", err, why)
	}
	if refusal.Reason != why {
		n.t.Fatalf("refused for %v, want %s", refusal.LogValue(), why)
	}
	if f := fault.From(err); f.Kind != fault.Unauthenticated || f.Message != "credential refused" || f.Argument != "" {
		n.t.Fatalf("the client hears %+v", f)
	}
}

func (n *node) policy(name, text string) {
	n.t.Helper()
	if _, _, err := n.PutPolicy(n.t.Context(), "acme", name, []byte(text)); err != nil {
		n.t.Fatal(err)
	}
}

func (n *node) role(name string, policies ...string) {
	n.t.Helper()
	if _, err := n.CreateRole(n.t.Context(), "acme", Role{Name: name, Policies: policies}); err != nil {
		n.t.Fatal(err)
	}
}

// may asks for one action on a key of a cache of the principal's tenant.
func (n *node) may(p *Principal, action policy.Action, key string) bool {
	return n.verdict(p, action, policy.NewItem("local", p.Tenant, "main", "key", []byte(key))).Decision == policy.Allow
}

func (n *node) verdict(p *Principal, action policy.Action, on policy.Resource) policy.Verdict {
	return p.Decide(&policy.Request{Action: action, Resource: on}, &Context{Now: n.clock.now()})
}

func wantKind(t *testing.T, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got %v, want %v", err, kind)
	}
	for _, w := range words {
		if !strings.Contains(fault.From(err).Message, w) {
			t.Fatalf("%q does not say %q", fault.From(err).Message, w)
		}
	}
}

type clock struct{ at atomic.Int64 }

func (c *clock) now() time.Time      { return time.Unix(0, c.at.Load()) }
func (c *clock) add(d time.Duration) { c.at.Add(int64(d)) }

type someTenants struct {
	mu     sync.Mutex
	states map[string]TenantState
	fns    []func(TenantID)
}

func (s *someTenants) Tenant(name string) (TenantState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.states[name]
	return t, ok
}

func (s *someTenants) OnChange(fn func(TenantID)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fns = append(s.fns, fn)
}

// set makes or changes a tenant; one without an id is gone.
func (s *someTenants) set(name string, state TenantState) {
	s.mu.Lock()
	old := s.states[name]
	if s.states[name] = state; state.ID == "" {
		delete(s.states, name)
	}
	fns := slices.Clone(s.fns)
	s.mu.Unlock()
	for _, fn := range fns {
		fn(old.ID)
		fn(state.ID)
	}
}

func (s *someTenants) change(name string, change func(*TenantState)) {
	state, _ := s.Tenant(name)
	change(&state)
	s.set(name, state)
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func statement(effect, actions, resource string) string {
	return fmt.Sprintf(`{"Effect":%q,"Action":%s,"Resource":%q}`, effect, actions, resource)
}

func documentOf(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

const (
	mayGet    = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"cache:Get","Resource":"*"}}`
	maySet    = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"cache:Set","Resource":"*"}}`
	mayDo     = `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`
	mayNotGet = `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"cache:Get","Resource":"*"}}`
)

func TestKeyLives(t *testing.T) {
	n := newNode(t)
	by := "arn:cache:iam::acme:key/another"
	info, secret := n.newKeyOf("acme", KeySpec{Name: "web", Role: "read-write", DefaultCache: "main", CreatedBy: by, ExpiresAt: n.clock.now().Add(time.Hour)})
	if parsed := must(ParseAPIKey(secret)); parsed.ID != info.ID || parsed.Kind != LiveKey {
		t.Fatalf("the text is of key %q, kind %s", parsed.ID, parsed.Kind)
	}

	p := n.enter(secret)
	if p.Kind != KindAPIKey || p.Tenant != "acme" || p.ID != info.ID || p.Role != "read-write" || p.DefaultCache != "main" ||
		p.Name != "web" || p.Identity.ARN != "arn:cache:iam::acme:key/"+info.ID || !p.Expires.Equal(info.ExpiresAt) || p.Claims != nil {
		t.Fatalf("principal %+v", p)
	}
	if !n.may(p, policy.CacheSet, "k") || n.may(p, policy.IAMCreateKey, "k") {
		t.Fatal("the rights are not those of the role")
	}
	if n.enter(secret) != p {
		t.Fatal("a verified key was verified again")
	}
	if got := must(n.GetKey("acme", info.ID)); got.CreatedBy != by || got.LastUsed.IsZero() {
		t.Fatalf("described as %+v", got)
	}
	_, err := n.GetKey("globex", info.ID)
	wantKind(t, err, fault.NotFound)
	wantKind(t, n.RevokeKey(t.Context(), "globex", info.ID), fault.NotFound)

	n.clock.add(time.Hour - time.Nanosecond)
	n.enter(secret)
	n.clock.add(time.Nanosecond)
	if n.valid(p) {
		t.Fatal("valid after its end")
	}
	n.refuses(secret, Expired)
	n.refuses(secret, Expired) // not remembered any more

	info, secret = n.newKey("owner")
	p = n.enter(secret)
	if err := n.RevokeKey(t.Context(), "acme", info.ID); err != nil {
		t.Fatal(err)
	}
	if n.valid(p) {
		t.Fatal("valid after it was revoked")
	}
	n.refuses(secret, UnknownKey)
	wantKind(t, n.RevokeKey(t.Context(), "acme", info.ID), fault.NotFound)
}

// A client cannot tell a key that is unknown from one whose secret it got wrong.
func TestRefusalsLookAlike(t *testing.T) {
	n := newNode(t)
	_, known := n.newKey("owner")
	wrong := known[:keySecretAt] + strings.Repeat("x", keySecretLen)
	sum := keyChecksum(wrong)
	wrong += string(sum[:])
	_, unknown, err := NewAPIKey(LiveKey, randomForTest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err1 := n.Authenticate(UseData, wrong, somewhere)
	_, err2 := n.Authenticate(UseData, unknown, somewhere)
	if err1.Error() != err2.Error() || *fault.From(err1).Err.(*Refusal) != *fault.From(err2).Err.(*Refusal) {
		t.Fatalf("%v differs from %v", err1, err2)
	}
	_, err = n.Authenticate(UseData, "", somewhere)
	wantKind(t, err, fault.NoCredentials)
}

type randomForTest struct{}

func (randomForTest) Read(p []byte) (int, error) {
	return copy(p, bytes.Repeat([]byte{7}, len(p))), nil
}

func TestKeyArguments(t *testing.T) {
	n := newNode(t)
	good := KeySpec{Name: "k", Role: "owner"}
	many := make([]netip.Prefix, MaxNetworks+1)
	for i := range many {
		many[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32)
	}
	for _, tc := range []struct {
		name   string
		change func(*KeySpec)
		kind   fault.Kind
		arg    string
	}{
		{"no name", func(s *KeySpec) { s.Name = "" }, fault.InvalidArgument, "name"},
		{"the longest name", func(s *KeySpec) { s.Name = repeat("n", MaxKeyName) }, 0, ""},
		{"a longer name", func(s *KeySpec) { s.Name = repeat("n", MaxKeyName+1) }, fault.InvalidArgument, "name"},
		{"a name of two lines", func(s *KeySpec) { s.Name = "a\nb" }, fault.InvalidArgument, "name"},
		{"no role", func(s *KeySpec) { s.Role = "" }, fault.InvalidArgument, "role"},
		{"an unknown role", func(s *KeySpec) { s.Role = "ghost" }, fault.InvalidArgument, "role"},
		{"the operators' role", func(s *KeySpec) { s.Role = RoleOperator }, fault.InvalidArgument, "role"},
		{"a role of another tenant", func(s *KeySpec) { s.Role = "../" + "owner" }, fault.InvalidArgument, "role"},
		{"an unknown kind", func(s *KeySpec) { s.Kind = "prod" }, fault.InvalidArgument, "kind"},
		{"a test key", func(s *KeySpec) { s.Kind = TestKey }, 0, ""},
		{"expired when made", func(s *KeySpec) { s.ExpiresAt = n.clock.now() }, fault.OutOfRange, "expires_at"},
		{"beyond RFC 3339", func(s *KeySpec) { s.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, fault.OutOfRange, "expires_at"},
		{"the most networks", func(s *KeySpec) { s.Networks = many[1:] }, 0, ""},
		{"one network more", func(s *KeySpec) { s.Networks = many }, fault.InvalidArgument, "networks"},
		{"a network that is none", func(s *KeySpec) { s.Networks = []netip.Prefix{{}} }, fault.InvalidArgument, "networks"},
		{"a network of some IPv4 and some IPv6", func(s *KeySpec) { s.Networks = []netip.Prefix{netip.MustParsePrefix("::ffff:0:0/90")} }, fault.InvalidArgument, "networks"},
		{"a cache that cannot be", func(s *KeySpec) { s.DefaultCache = "Main" }, fault.InvalidArgument, "default_cache"},
	} {
		spec := good
		tc.change(&spec)
		_, _, err := n.CreateKey(t.Context(), "acme", spec)
		if tc.kind == 0 && err != nil || tc.kind != 0 && (!fault.Is(err, tc.kind) || fault.From(err).Argument != tc.arg) {
			t.Errorf("%s: got %v", tc.name, err)
		}
	}
	_, _, err := n.CreateKey(t.Context(), "nobody", good)
	wantKind(t, err, fault.NotFound, `"nobody"`)
}

// A8.
func TestKeyFollowsRole(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	n.policy("reading", mayGet)
	n.policy("writing", maySet)
	n.role("app", "reading")
	info, secret := n.newKey("app")
	rights := func() (got string) {
		p := n.enter(secret)
		for _, a := range []policy.Action{policy.CacheGet, policy.CacheSet, policy.CacheDelete} {
			if n.may(p, a, "k") {
				got += a.String() + " "
			}
		}
		return strings.TrimSpace(got)
	}
	step := func(what, want string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if got := rights(); got != want {
			t.Fatalf("%s: may %q, want %q", what, got, want)
		}
	}
	step("made", "cache:Get", nil)
	first := n.enter(secret)
	_, err := n.UpdateRole(ctx, "acme", "app", RoleUpdate{Policies: &[]string{"reading", "writing"}})
	step("a policy more", "cache:Get cache:Set", err)
	if n.valid(first) {
		t.Fatal("the principal from before the change is still valid")
	}
	if p, err := n.Recheck(first, UseData, somewhere); err != nil || !n.may(p, policy.CacheSet, "k") {
		t.Fatalf("an open connection does not see the change: %v", err)
	}
	_, err = n.UpdateRole(ctx, "acme", "app", RoleUpdate{Boundary: new("reading")})
	step("a boundary", "cache:Get", err)
	_, _, err = n.PutPolicy(ctx, "acme", "reading", []byte(documentOf(statement("Allow", `["cache:Get","cache:Delete"]`, "*"))))
	step("another text", "cache:Get cache:Delete", err)
	_, err = n.UpdateRole(ctx, "acme", "app", RoleUpdate{Boundary: new("")})
	step("the boundary away", "cache:Get cache:Set cache:Delete", err)
	_, err = n.UpdateKey(ctx, "acme", info.ID, KeyUpdate{Role: new("metrics")})
	step("another role", "", err)
	n.tenants.change("acme", func(t *TenantState) { t.Guardrails = []json.RawMessage{json.RawMessage(mayGet)} })
	_, err = n.UpdateKey(ctx, "acme", info.ID, KeyUpdate{Role: new("owner"), Name: new("the boss")})
	step("a guardrail", "cache:Get", err)
	if p := n.enter(secret); p.Name != "the boss" {
		t.Fatalf("the name is %q", p.Name)
	}
}

// A6.
func TestRotateOverlap(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	networks := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	old, oldText := n.newKeyOf("acme", KeySpec{Name: "web", Role: "read-only", Kind: TestKey, Networks: networks, DefaultCache: "main", ExpiresAt: n.clock.now().Add(30 * 24 * time.Hour)})
	n.clock.add(10 * 24 * time.Hour)

	for _, grace := range []time.Duration{-1, MaxGrace + 1} {
		_, _, err := n.RotateKey(ctx, "acme", old.ID, grace, "")
		wantKind(t, err, fault.OutOfRange, "168h")
	}
	_, _, err := n.RotateKey(ctx, "globex", old.ID, 0, "")
	wantKind(t, err, fault.NotFound)

	// Clients use the old key, switch when they have the new one, and none is ever refused.
	var text atomic.Pointer[string]
	text.Store(&oldText)
	stop, failed := make(chan struct{}), atomic.Int64{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for mine := oldText; ; mine = *text.Load() {
				if _, err := n.Authenticate(UseData, mine, somewhere); err != nil {
					failed.Add(1)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
	}
	fresh, freshText, err := n.RotateKey(ctx, "acme", old.ID, time.Hour, "arn:by")
	if err != nil {
		t.Fatal(err)
	}
	text.Store(&freshText)
	close(stop)
	wg.Wait()
	if failed.Load() != 0 {
		t.Fatalf("%d requests were refused during the rotation", failed.Load())
	}

	if fresh.Name != "web" || fresh.Role != "read-only" || fresh.Kind != TestKey || !slices.Equal(fresh.Networks, networks) ||
		fresh.DefaultCache != "main" || fresh.CreatedBy != "arn:by" || fresh.ExpiresAt.Sub(fresh.CreatedAt) != 30*24*time.Hour {
		t.Fatalf("the new key is %+v", fresh)
	}
	if was := must(n.GetKey("acme", old.ID)); was.RotatedTo != fresh.ID || !was.ExpiresAt.Equal(fresh.CreatedAt.Add(time.Hour)) {
		t.Fatalf("the old key is %+v", was)
	}
	_, _, err = n.RotateKey(ctx, "acme", old.ID, 0, "")
	wantKind(t, err, fault.Conflict, fresh.ID)
	n.enter(freshText)
	p := n.enter(oldText)
	n.clock.add(time.Hour - time.Nanosecond)
	n.enter(oldText)
	n.clock.add(time.Nanosecond)
	if n.valid(p) {
		t.Fatal("the old key is valid after the grace")
	}
	n.refuses(oldText, Expired)
	n.enter(freshText)

	// Without grace the old key ends at once, and one that ends before its grace is not prolonged.
	last, lastText, err := n.RotateKey(ctx, "acme", fresh.ID, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	n.refuses(freshText, Expired)
	n.clock.add(last.ExpiresAt.Sub(n.clock.now()) - time.Minute)
	n.enter(lastText)
	if _, _, err := n.RotateKey(ctx, "acme", last.ID, MaxGrace, ""); err != nil {
		t.Fatal(err)
	}
	n.clock.add(time.Minute)
	n.refuses(lastText, Expired)
}

// A3 and A5: what is stored, described or logged holds no credential.
func TestNoSecretKept(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	info, text := n.newKey("owner")
	fresh, freshText, err := n.RotateKey(ctx, "acme", info.ID, time.Hour, "")
	if err != nil {
		t.Fatal(err)
	}
	token, tokenText := n.mint(text, TokenSpec{Policy: []byte(mayGet)})
	n.enter(tokenText)
	n.refuses(text[:len(text)-1]+"!", Malformed)
	if err := n.FlushUse(ctx); err != nil {
		t.Fatal(err)
	}
	var kept bytes.Buffer
	for _, r := range n.m.List(records.Root, "", 0) {
		fmt.Fprintf(&kept, "%s %s\n", r.Key, r.Value)
	}
	keys, _, err := n.ListKeys("acme", "", 0)
	tokens, _, err2 := n.ListTokens("acme", "", 0)
	if err := errors.Join(err, err2); err != nil || len(keys) != 2 || len(tokens) != 1 {
		t.Fatalf("%d keys, %d tokens, %v", len(keys), len(tokens), err)
	}
	fmt.Fprintf(&kept, "%+v %+v %+v %+v %s\n", keys, tokens, fresh, token, n.log)
	fmt.Fprintf(&kept, "%+v\n", n.enter(text))
	if !strings.Contains(kept.String(), info.ID) || !strings.Contains(kept.String(), token.ID) {
		t.Fatal("the dump does not even hold the ids")
	}
	signature := tokenText[strings.LastIndexByte(tokenText, '.')+1:]
	for _, secret := range []string{
		text[keySecretAt:keyChecksumAt], freshText[keySecretAt:keyChecksumAt], signature, signature[:40],
	} {
		if strings.Contains(kept.String(), secret) {
			t.Fatalf("a secret was kept:\n%s", kept.String())
		}
	}
}

// A7: last used costs no write for each request, and survives a restart.
func TestLastUsed(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	info, text := n.newKey("owner")
	idle, _ := n.newKey("owner")
	before := n.m.Revision()
	for range 1000 {
		n.enter(text)
	}
	n.sync()
	if n.m.Revision() != before {
		t.Fatalf("%d writes for 1000 requests", n.m.Revision()-before)
	}
	minute := n.clock.now().UTC().Truncate(time.Minute)
	flush := func(writes int64) {
		t.Helper()
		before := n.m.Revision()
		if err := n.FlushUse(ctx); err != nil {
			t.Fatal(err)
		}
		if got := n.m.Revision() - before; got != writes {
			t.Fatalf("%d writes, want %d", got, writes)
		}
	}
	flush(1)
	n.clock.add(59 * time.Second)
	p := n.enter(text)
	flush(0)
	if !n.valid(p) {
		t.Fatal("being used ended a principal")
	}
	n.clock.add(time.Second)
	n.mint(text, TokenSpec{}) // to use a key for anything is to use it
	flush(1)

	restarted := n.another()
	if got := must(restarted.GetKey("acme", info.ID)).LastUsed; !got.Equal(minute.Add(time.Minute)) {
		t.Fatalf("last used %v, want %v", got, minute.Add(time.Minute))
	}
	if got := must(restarted.GetKey("acme", idle.ID)).LastUsed; !got.IsZero() {
		t.Fatalf("a key that was never used was last used %v", got)
	}
	n.clock.add(time.Hour)
	restarted.enter(text)
	if err := restarted.FlushUse(ctx); err != nil {
		t.Fatal(err)
	}
	n.sync()
	if got := must(n.GetKey("acme", info.ID)).LastUsed; !got.Equal(minute.Add(time.Hour + time.Minute)) {
		t.Fatalf("the first node says %v", got)
	}
	if err := n.RevokeKey(ctx, "acme", info.ID); err != nil {
		t.Fatal(err)
	}
}

func TestNetworks(t *testing.T) {
	n := newNode(t)
	prefixes := func(texts ...string) (list []netip.Prefix) {
		for _, text := range texts {
			list = append(list, netip.MustParsePrefix(text))
		}
		return list
	}
	info, text := n.newKeyOf("acme", KeySpec{Name: "k", Role: "owner", Networks: prefixes("192.0.2.7/24", "2001:db8::/32", "::ffff:198.51.100.0/120")})
	if want := prefixes("192.0.2.0/24", "2001:db8::/32", "198.51.100.0/24"); !slices.Equal(info.Networks, want) {
		t.Fatalf("networks %v, want %v", info.Networks, want)
	}
	_, token := n.mint(text, TokenSpec{})
	for from, want := range map[string]bool{
		"192.0.2.255":        true,
		"192.0.3.0":          false,
		"::ffff:192.0.2.1":   true, // a v4 client on a socket of both families
		"198.51.100.9":       true,
		"2001:db8:ffff::1":   true,
		"2001:db8:ffff::1%e": true,
		"2001:db9::1":        false,
		"127.0.0.1":          false,
		"":                   false, // an unknown address is in no network
	} {
		n.clock.add(failureWindow)
		var source netip.Addr
		if from != "" {
			source = netip.MustParseAddr(from)
		}
		for _, credential := range []string{text, token} {
			if _, err := n.Authenticate(UseData, credential, source); (err == nil) != want {
				t.Errorf("from %q: %v", from, err)
			}
		}
	}

	// A change reaches what is remembered and what is open.
	p := n.enter(text)
	if _, err := n.UpdateKey(t.Context(), "acme", info.ID, KeyUpdate{Networks: new(prefixes("10.0.0.0/8"))}); err != nil {
		t.Fatal(err)
	}
	n.refuses(text, WrongNetwork)
	n.refuses(token, WrongNetwork)
	_, err := n.Recheck(p, UseData, somewhere)
	wantKind(t, err, fault.Unauthenticated)
	if _, err := n.UpdateKey(t.Context(), "acme", info.ID, KeyUpdate{Networks: &[]netip.Prefix{}}); err != nil {
		t.Fatal(err)
	}
	n.enter(text)
}

func TestSuspendedTenant(t *testing.T) {
	n := newNode(t)
	_, text := n.newKey("owner")
	_, token := n.mint(text, TokenSpec{})
	_, other := n.newKeyOf("globex", KeySpec{Name: "k", Role: "owner"})
	p := n.enter(text)
	n.tenants.change("acme", func(t *TenantState) { t.Active = false })
	for _, credential := range []string{text, token} {
		for range 2 * maxFailures { // it is no guessing, so it is never throttled
			_, err := n.Authenticate(UseData, credential, somewhere)
			wantKind(t, err, fault.Denied, "suspended")
		}
	}
	_, err := n.Recheck(p, UseData, somewhere)
	wantKind(t, err, fault.Denied, "suspended")
	n.enter(other)
	n.tenants.change("acme", func(t *TenantState) { t.Active = true })
	n.enter(text)
	n.enter(token)
}

// J33: whoever is made again under the same name is somebody else.
func TestMadeAgain(t *testing.T) {
	n, ctx := newNode(t), t.Context()
	n.policy("reading", mayGet)
	n.role("app", "reading")
	info, text := n.newKey("app")
	_, token := n.mint(text, TokenSpec{})
	p := n.enter(text)

	old, _ := n.tenants.Tenant("acme")
	n.tenants.set("acme", TenantState{})
	n.refuses(text, UnknownTenant)
	n.refuses(token, UnknownTenant)
	n.tenants.set("acme", TenantState{ID: "00000000000000000000000000000099", Active: true})
	n.refuses(text, UnknownTenant)
	n.refuses(token, UnknownTenant)
	if _, err := n.Recheck(p, UseData, somewhere); !fault.Is(err, fault.Unauthenticated) {
		t.Fatalf("an open connection goes on: %v", err)
	}
	keys, _, _ := n.ListKeys("acme", "", 0)
	tokens, _, _ := n.ListTokens("acme", "", 0)
	_, err := n.GetRole("acme", "app")
	if len(keys)+len(tokens) != 0 || !fault.Is(err, fault.NotFound) {
		t.Fatalf("the new tenant has %v, %v, %v", keys, tokens, err)
	}
	// The same role of another tenant says nothing about the old key.
	n.policy("reading", mayDo)
	n.role("app", "reading")
	n.refuses(text, UnknownTenant)

	if err := n.DropTenant(ctx, old.ID); err != nil {
		t.Fatal(err)
	}
	n.refuses(text, UnknownKey)
	n.refuses(token, Revoked)
	for _, r := range n.m.List(records.Root, "", 0) {
		if strings.Contains(r.Key, string(old.ID)) {
			t.Errorf("left behind: %s", r.Key)
		}
	}
	if _, err := n.GetRole("acme", "app"); err != nil {
		t.Fatalf("the new tenant lost its role: %v", err)
	}

	// A role that is deleted and made again: its old holders are gone with their keys.
	again, text2 := n.newKey("app")
	_, token2 := n.mint(text2, TokenSpec{})
	wantKind(t, n.DeleteRole(ctx, "acme", "app"), fault.Conflict, again.ID)
	if err := n.RevokeKey(ctx, "acme", again.ID); err != nil {
		t.Fatal(err)
	}
	if err := n.DeleteRole(ctx, "acme", "app"); err != nil {
		t.Fatal(err)
	}
	n.role("app", "reading")
	n.newKey("app")
	n.refuses(text2, UnknownKey)
	n.refuses(token2, Revoked)
	if info.ID == again.ID {
		t.Fatal("an id was used twice")
	}
}

func TestOperators(t *testing.T) {
	n := newNode(t)
	_, text := n.newKeyOf(policy.SystemTenant, KeySpec{Name: "ops", Role: RoleOperator})
	p := n.enter(text)
	if p.Kind != KindOperator || p.Identity.Tenant != policy.SystemTenant {
		t.Fatalf("principal %+v", p)
	}
	for _, tc := range []struct {
		action policy.Action
		on     policy.Resource
		want   policy.Decision
	}{
		{policy.AdminCreateTenant, policy.NewResource("admin", "local", "system", "tenant", "acme"), policy.Allow},
		{policy.IAMCreateKey, policy.NewResource("iam", "", "system", "key", "x"), policy.Allow},
		{policy.IAMCreateKey, policy.NewResource("iam", "", "acme", "key", "x"), policy.Deny},
		{policy.CacheGet, policy.NewItem("local", "acme", "main", "key", []byte("k")), policy.Deny},
		{policy.CacheGet, policy.NewItem("local", "system", "main", "key", []byte("k")), policy.Deny},
	} {
		if v := n.verdict(p, tc.action, tc.on); v.Decision != tc.want {
			t.Errorf("%v on %s: %v", tc.action, tc.on.String(), v)
		}
	}
	_, _, err := n.Mint(t.Context(), p, TokenSpec{TTL: time.Hour})
	wantKind(t, err, fault.Denied, "operator")
	_, owner := n.newKey("owner")
	if v := n.verdict(n.enter(owner), policy.AdminCreateTenant, policy.NewResource("admin", "local", "system", "tenant", "acme")); v.Decision == policy.Allow {
		t.Fatal("an owner runs the cluster")
	}
	if _, err := n.GetRole("acme", RoleOperator); !fault.Is(err, fault.NotFound) {
		t.Fatalf("acme has the role operator: %v", err)
	}
}

func TestTwoNodes(t *testing.T) {
	a, ctx := newNode(t), t.Context()
	b := a.another()
	_, jwks := must(a.JWKS(ctx)), must(b.JWKS(ctx)) // both may make the first keys; one set remains
	if got := must(a.JWKS(ctx)); !bytes.Equal(got, jwks) {
		t.Fatalf("two sets of signing keys:\n%s\n%s", got, jwks)
	}
	a.policy("reading", mayGet)
	a.role("app", "reading")
	info, text := a.newKey("app")
	token, tokenText := a.mint(text, TokenSpec{})
	b.sync()
	p, q := b.enter(text), b.enter(tokenText)
	if !b.may(p, policy.CacheGet, "k") || !b.may(q, policy.CacheGet, "k") {
		t.Fatal("b does not know the rights")
	}
	if err := a.RevokeToken(ctx, "acme", token.ID); err != nil {
		t.Fatal(err)
	}
	b.sync()
	b.refuses(tokenText, Revoked)
	a.policy("reading", maySet)
	b.sync()
	if b.valid(p) {
		t.Fatal("b has not noticed the new text")
	}
	if b.may(b.enter(text), policy.CacheGet, "k") {
		t.Fatal("b goes by the old text")
	}
	if err := b.RevokeKey(ctx, "acme", info.ID); err != nil {
		t.Fatal(err)
	}
	a.sync()
	a.refuses(text, UnknownKey)
}

// I32 and T4: what cannot be read takes rights away.
func TestStoredInvalidPolicy(t *testing.T) {
	acme := string(must2(newNode(t).tenants.Tenant("acme")).ID)
	for _, tc := range []struct {
		name, path, value string
		logged            string
	}{
		{"not JSON", "policies/" + acme + "/writing", "{", "a control record cannot be read"},
		{"not a policy", "policies/" + acme + "/writing", `{"name":"writing","document":{"Statement":[]},"version":2}`, "MalformedPolicy"},
		{"an action that is not known any more", "policies/" + acme + "/writing", `{"name":"writing","document":{"Statement":{"Effect":"Deny","Action":"cache:Gone","Resource":"*"}}}`, "cache:Gone"},
		{"a role that cannot be read", "roles/" + acme + "/app", `[]`, "role app"},
		{"a role with a policy that is not there", "roles/" + acme + "/app", `{"name":"app","policies":["reading","gone"]}`, "gone"},
		{"a role with a boundary that is not there", "roles/" + acme + "/app", `{"name":"app","policies":["reading"],"boundary":"gone"}`, "gone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n := newNode(t)
			n.policy("reading", mayGet)
			n.policy("writing", maySet)
			n.role("app", "reading", "writing")
			_, text := n.newKey("app")
			_, token := n.mint(text, TokenSpec{})
			if !n.may(n.enter(text), policy.CacheGet, "k") {
				t.Fatal("not even while all is well")
			}
			n.put(tc.path, tc.value)
			for range 3 {
				for _, credential := range []string{text, token} {
					p := n.enter(credential)
					if p.rules.Err() == nil || n.may(p, policy.CacheGet, "k") || n.may(p, policy.CacheSet, "k") {
						t.Fatal("allowed")
					}
				}
				n.newKey("owner") // so that nothing is said again for a change elsewhere
				n.bump(TenantID(acme))
			}
			if got := strings.Count(n.log.String(), tc.logged); got != 1 {
				t.Errorf("%q was logged %d times, want once:\n%s", tc.logged, got, n.log)
			}
		})
	}

	t.Run("a guardrail", func(t *testing.T) {
		n := newNode(t)
		_, text := n.newKey("owner")
		n.tenants.change("acme", func(t *TenantState) { t.Guardrails = []json.RawMessage{json.RawMessage(`{}`)} })
		if n.may(n.enter(text), policy.CacheGet, "k") {
			t.Fatal("allowed")
		}
	})
	t.Run("a key", func(t *testing.T) {
		n := newNode(t)
		info, text := n.newKey("owner")
		_, token := n.mint(text, TokenSpec{})
		p := n.enter(text)
		for _, value := range []string{`{`, `{"id":"` + info.ID + `"}`, `{"id":"` + info.ID + `","digest":"AAAA"}`} {
			n.put("keys/"+acme+"/"+info.ID, value)
			n.refuses(text, UnknownKey)
			n.refuses(token, Revoked)
			if n.valid(p) {
				t.Fatal("still valid")
			}
		}
	})
	t.Run("revocations", func(t *testing.T) {
		n := newNode(t)
		_, text := n.newKey("owner")
		info, token := n.mint(text, TokenSpec{})
		n.enter(token)
		good, _ := n.m.Get(records.Root + "tokens/" + acme + "/" + info.ID)
		n.put("tokens/"+acme+"/"+info.ID, "{")
		n.refuses(token, Revoked)
		n.another().refuses(token, Revoked) // also when it was unreadable from the start
		n.put("tokens/"+acme+"/"+info.ID, string(good.Value))
		n.enter(token)
		n.put("cutoffs/"+acme+"/all", `{"before":"yesterday"}`)
		n.refuses(token, Revoked)
		n.another().refuses(token, Revoked)
		if _, err := n.m.Delete(t.Context(), records.Root+"cutoffs/"+acme+"/all", 0); err != nil {
			t.Fatal(err)
		}
		n.enter(token)
	})
	t.Run("the signing keys", func(t *testing.T) {
		n := newNode(t)
		_, text := n.newKey("owner")
		_, token := n.mint(text, TokenSpec{})
		n.put("signing/current", `{"rotated_at":"2026-11-23T12:00:00Z","keys":{}}`)
		n.enter(token)
		n.mint(text, TokenSpec{})
		late := n.another() // knows no keys at all, and does not write over those it cannot read
		_, err := late.JWKS(t.Context())
		wantKind(t, err, fault.Internal)
		late.refuses(token, UnknownKey)
	})
}

func must2[T any](v T, ok bool) T {
	if !ok {
		panic("not there")
	}
	return v
}
