package httpapi

import (
	"bytes"
	"context"
	stdjson "encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/snapshots"
	"github.com/larder-cache/larder/tenants"
	"github.com/larder-cache/larder/transfer"
)

// A harness is a whole node in this process, as cmd/larder puts it together, behind a real HTTP server. All
// tests of the binary share one, and each makes tenants of its own, so none sees another's data.
//
// Its clock stands still until a test turns it forwards: what a test says of a deadline is exact, and nothing
// expires under a test that does not wait for it. The clock is shared as well, so tests do not run in
// parallel.
type harness struct {
	dumps       string // a directory that files are imported from, with a folder for each tenant
	api         *API
	url         string
	clock       *testClock
	accounts    *tenants.Store
	credentials *auth.Store
	meters      *tenants.Meters
	place       *placement.Map
	host        *replication.Host
	gateway     *gateway.Gateway
	snapshots   *snapshots.Service
	etcd        *clientv3.Client
	ready       atomic.Pointer[error] // what readiness answers; nil for ready

	names   atomic.Int64
	closers []func()
}

// A testClock is everybody's time: the engine's, the gateway's and that of credentials.
type testClock struct{ ms atomic.Int64 }

// Now implements replication.Clock.
func (c *testClock) Now() int64 { return c.ms.Load() }

func (c *testClock) time() time.Time { return time.UnixMilli(c.ms.Load()) }

// advance lets time pass.
func (c *testClock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// after is the time so far from now, as the API writes it.
func (c *testClock) after(d time.Duration) string { return formatTime(c.Now() + d.Milliseconds()) }

var shared struct {
	once sync.Once
	h    *harness
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.h != nil {
		shared.h.close()
	}
	os.Exit(code)
}

// newHarness returns the harness of this binary.
func newHarness(t testing.TB) *harness {
	t.Helper()
	shared.once.Do(func() {
		shared.h = &harness{clock: &testClock{}}
		shared.h.clock.ms.Store(time.Now().UnixMilli())
		shared.err = shared.h.start()
	})
	if shared.err != nil {
		t.Fatalf("no harness: %v", shared.err)
	}
	return shared.h
}

func (h *harness) later(fn func()) { h.closers = append(h.closers, fn) }

func (h *harness) close() {
	for i := len(h.closers) - 1; i >= 0; i-- {
		h.closers[i]()
	}
}

func (h *harness) start() error {
	ctx := context.Background()
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	dir, err := os.MkdirTemp("", "httpapi")
	if err != nil {
		return err
	}
	h.later(func() { _ = os.RemoveAll(dir) })
	server, err := etcdembed.Start(ctx, etcdembed.Config{Dir: filepath.Join(dir, "etcd"), Logger: log, UnsafeNoFsync: true})
	if err != nil {
		return err
	}
	h.later(server.Close)
	client, err := etcdembed.NewClient(server.Endpoints(), nil)
	if err != nil {
		return err
	}
	h.later(func() { _ = client.Close() })
	h.etcd = client
	m, err := mirror.Open(ctx, mirror.Config{Client: client, Prefix: records.Root, Logger: log})
	if err != nil {
		return err
	}
	h.later(func() { _ = m.Close() })
	self := placement.Node{Name: "node-1", Zone: "zone-1", Roles: []string{"gateway", "engine"}, Version: "test"}
	if h.place, err = placement.Open(ctx, m, placement.Config{Self: self, Partitions: 4, Hosts: true}, log); err != nil {
		return err
	}
	h.accounts = tenants.Open(m, h.place, log)
	h.accounts.OfferEndpoints(tenants.EndpointSpace{From: 61_000, To: 61_999, Domain: "mc.example.com"}) // nobody opens them
	if h.credentials, err = auth.Open(auth.Config{
		Mirror: m, Tenants: h.accounts, Now: h.clock.time, Log: log, Issuer: "larder:" + h.place.Cluster.ID, Audience: "larder",
	}); err != nil {
		return err
	}
	if _, err := h.accounts.Create(ctx, tenants.Tenant{Name: tenants.System}); err != nil {
		return err
	}
	authenticator, err := auth.NewAuthenticator(h.credentials)
	if err != nil {
		return err
	}
	h.startEngine(log)
	h.meters = tenants.OpenMeters(m, self.Name, log)
	h.accounts.OnCacheChange(func(old, new *tenants.Cache) {
		if old != nil && (new == nil || new.ID != old.ID) {
			h.meters.Forget(old.ID)
		}
	})
	h.gateway = gateway.New(h.accounts, h.meters, h.executor, "local", h.clock.time)

	h.host.Listen(h.gateway.Hub())

	if err := h.openSnapshots(ctx, m, dir, log); err != nil {
		return err
	}
	background, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { h.host.Run(background) })
	h.later(func() { stop(); running.Wait() })

	h.dumps = filepath.Join(dir, "dumps")
	if err := os.Mkdir(h.dumps, 0o700); err != nil {
		return err
	}
	stores, err := transfer.OpenStores([]string{"file://" + h.dumps + "?prefix={tenant}/"})
	if err != nil {
		return err
	}
	h.later(func() { _ = stores.Close() })
	h.api = New(Config{
		Stores:  stores,
		Gateway: h.gateway, Accounts: h.accounts, Meters: h.meters, Credentials: h.credentials, Place: h.place, Snapshots: h.snapshots, RotateMaster: h.snapshots.RewrapTenants,
		Answers:  OpenAnswers(m, h.clock.time, log),
		Identity: authenticator,
		Stats:    h.stats,
		Endpoint: func(*tenants.Endpoint) error { return nil },
		Metrics: func(tenant string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "larder_test{tenant=%q} 1\n", tenant) })
		},
		Ready:   h.readiness,
		Version: "test", Log: log,
	})
	web := httptest.NewUnstartedServer(h.api)
	web.Config = h.api.Server()
	web.Start()
	h.later(web.Close)
	h.url = web.URL
	return nil
}

// startEngine brings up the partitions and tells them of their caches as these come, change and go.
func (h *harness) startEngine(log *slog.Logger) {
	h.host = replication.NewHost(h.clock, log)
	for _, p := range h.place.Hosted() {
		h.host.Start(p)
	}
	tell := func(c *tenants.Cache, task func(placement.PartitionID) *engine.Task) {
		for _, p := range c.Partitions() {
			if err := h.host.Local(p).Execute(context.Background(), task(p)); err != nil {
				panic(err)
			}
		}
	}
	h.accounts.OnCacheChange(func(old, new *tenants.Cache) {
		if old != nil && (new == nil || new.ID != old.ID) {
			tell(old, func(placement.PartitionID) *engine.Task { return engine.DropTask(old.ID) })
		}
		if new != nil {
			tell(new, func(p placement.PartitionID) *engine.Task { return engine.ConfigureTask(new.ID, new.SettingsAt(p)) })
		}
	})
}

func (h *harness) executor(id placement.PartitionID) gateway.Executor {
	if local := h.host.Local(id); local != nil {
		return replica{local}
	}
	return nil
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

func (h *harness) stats(c *tenants.Cache) (sum engine.Stats, ok bool) {
	for _, p := range c.Partitions() {
		s, known := h.host.Local(p).Stats(c.ID)
		if !known {
			return sum, false
		}
		sum.Add(s)
	}
	return sum, true
}

func (h *harness) readiness() error {
	if err := h.ready.Load(); err != nil {
		return *err
	}
	return nil
}

// fresh makes a name that no other test has.
func (h *harness) fresh(prefix string) string {
	return fmt.Sprintf("%s-%d", prefix, h.names.Add(1))
}

// A caller is a credential of a tenant, and how tests speak to the API: it makes requests with it.
type caller struct {
	*harness
	tenant     string
	credential string // empty for none
}

// newTenant makes a tenant with the cache "main", and returns a caller with the role owner.
func newTenant(t testing.TB) caller {
	t.Helper()
	h := newHarness(t)
	tenant, err := h.accounts.Create(t.Context(), tenants.Tenant{Name: h.fresh("tenant")})
	if err != nil {
		t.Fatal(err)
	}
	c := caller{harness: h, tenant: tenant.Name}.withRole(t, "owner")
	c.newCache(t, tenants.Cache{Name: "main"})
	return c
}

// newOperator returns a caller of the operators' tenant.
func newOperator(t testing.TB) caller {
	t.Helper()
	return caller{harness: newHarness(t), tenant: tenants.System}.withRole(t, auth.RoleOperator)
}

// newCache makes a cache of the caller's tenant and returns its name.
func (c caller) newCache(t testing.TB, spec tenants.Cache) string {
	t.Helper()
	if spec.Name == "" {
		spec.Name = c.fresh("cache")
	}
	if _, err := c.accounts.CreateCache(t.Context(), c.tenant, spec); err != nil {
		t.Fatal(err)
	}
	return spec.Name
}

// withRole returns a caller of the same tenant with a new API key of a role.
func (c caller) withRole(t testing.TB, role string) caller {
	t.Helper()
	_, text, err := c.credentials.CreateKey(t.Context(), c.tenant, auth.KeySpec{Name: "test", Kind: auth.LiveKey, Role: role})
	if err != nil {
		t.Fatal(err)
	}
	c.credential = text
	return c
}

// withPolicy returns a caller of the same tenant with a new API key that may do what a policy document says.
func (c caller) withPolicy(t testing.TB, document string) caller {
	t.Helper()
	name := c.fresh("policy")
	if _, _, err := c.credentials.PutPolicy(t.Context(), c.tenant, name, []byte(document)); err != nil {
		t.Fatal(err)
	}
	role, err := c.credentials.CreateRole(t.Context(), c.tenant, auth.Role{Name: c.fresh("role"), Policies: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	return c.withRole(t, role.Name)
}

// allowing returns a caller of the same tenant that may do these actions on everything, and nothing else.
func (c caller) allowing(t testing.TB, actions ...string) caller {
	t.Helper()
	list, err := stdjson.Marshal(actions)
	if err != nil {
		t.Fatal(err)
	}
	return c.withPolicy(t, `{"Version":"2012-10-17","Statement":[{"Sid":"Test","Effect":"Allow","Action":`+string(list)+`,"Resource":"*"}]}`)
}

// with returns a caller that presents this credential, or none.
func (c caller) with(credential string) caller {
	c.credential = credential
	return c
}

// An answer is a response, read whole.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	request string // method and path, for messages
}

// do makes a request. A body that is a string or bytes is sent as it is, any other is sent as JSON, nil is
// none; headers are names and values in turn. Every answer is held to what all answers promise.
func (c caller) do(t testing.TB, method, path string, body any, headers ...string) answer {
	t.Helper()
	var content []byte
	switch b := body.(type) {
	case nil:
	case string:
		content = []byte(b)
	case []byte:
		content = b
	default:
		var err error
		if content, err = stdjson.Marshal(b); err != nil {
			t.Fatal(err)
		}
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(content)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, c.url+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	if c.credential != "" {
		r.Header.Set("Authorization", "Bearer "+c.credential)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		} else if headers[i] == "Content-Type" {
			r.Header.Set(headers[i], headers[i+1])
		} else {
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	response, err := http.DefaultTransport.RoundTrip(r) // follows no redirect
	if err != nil {
		t.Fatalf("%s %.200s: %v", method, path, err)
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header, request: method + " " + path}
	if len(a.request) > 200 {
		a.request = a.request[:200] + "…"
	}
	if a.body, err = io.ReadAll(response.Body); err != nil {
		t.Fatalf("%s: %v", a.request, err)
	}
	a.check(t)
	return a
}

// check holds an answer to what all answers promise.
func (a answer) check(t testing.TB) {
	t.Helper()
	switch {
	case a.status >= 500 && a.status != http.StatusServiceUnavailable && a.status != http.StatusInsufficientStorage && a.status != http.StatusNotImplemented:
		t.Fatalf("%s: %d %s", a.request, a.status, a.body)
	case a.header.Get("X-Request-Id") == "":
		t.Errorf("%s: %d without a request id", a.request, a.status)
	case a.status == http.StatusNoContent && len(a.body) > 0:
		t.Errorf("%s: 204 with a body", a.request)
	}
	_, path, _ := strings.Cut(a.request, " ")
	path, _, _ = strings.Cut(path, "?")
	resp2 := inRest(path) && a.header.Get("Content-Type") == "application/octet-stream" // what a Redis server would send, which the client asked for
	if want := contentOfErrors(path); a.status >= 400 && len(a.body) > 0 && !resp2 && (a.header.Get("Content-Type") != want || !stdjson.Valid(a.body)) {
		t.Errorf("%s: %d is not %s: %s", a.request, a.status, want, a.body)
	}
}

// exactly fails the test unless the answer has this status and these bytes.
func (a answer) exactly(t testing.TB, status int, body string) answer {
	t.Helper()
	if a.status != status || string(a.body) != body {
		t.Errorf("%s:\n got %d %s\nwant %d %s", a.request, a.status, a.body, status, body)
	}
	return a
}

// want fails the test unless the answer has this status.
func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("%s: got %d, want %d: %s", a.request, a.status, status, a.body)
	}
	return a
}

// problem fails the test unless the answer is a problem with this status, code and argument at fault.
func (a answer) problem(t testing.TB, status int, code, argument string) answer {
	t.Helper()
	a.want(t, status)
	var p Problem
	a.decode(t, &p)
	if p.Code != code || p.Argument != argument || p.Status != status {
		t.Errorf("%s: got code %q about %q, want %q about %q: %s", a.request, p.Code, p.Argument, code, argument, a.body)
	}
	if p.Detail == "" || p.Title == "" || p.RequestID != a.header.Get("X-Request-Id") {
		t.Errorf("%s: an incomplete problem: %s", a.request, a.body)
	}
	return a
}

// detail fails the test unless the problem's text has all of these parts.
func (a answer) detail(t testing.TB, parts ...string) answer {
	t.Helper()
	var p Problem
	a.decode(t, &p)
	for _, part := range parts {
		if !strings.Contains(p.Detail, part) {
			t.Errorf("%s: %q does not say %q", a.request, p.Detail, part)
		}
	}
	return a
}

// decode reads the body into v.
func (a answer) decode(t testing.TB, v any) {
	t.Helper()
	if err := stdjson.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s: %v: %s", a.request, err, a.body)
	}
}

// object is the body as a JSON object.
func (a answer) object(t testing.TB) (o map[string]any) {
	t.Helper()
	a.decode(t, &o)
	return o
}

// text is a member of the body that is a string.
func (a answer) text(t testing.TB, member string) string {
	t.Helper()
	var o map[string]stdjson.RawMessage
	a.decode(t, &o)
	var s *string
	if err := stdjson.Unmarshal(o[member], &s); err != nil || s == nil {
		t.Fatalf("%s: no string %s: %s", a.request, member, a.body)
	}
	return *s
}

// json fails the test unless the body is this JSON, whatever its spaces and the order of its members.
func (a answer) json(t testing.TB, want string) answer {
	t.Helper()
	var got, wanted any
	a.decode(t, &got)
	if err := stdjson.Unmarshal([]byte(want), &wanted); err != nil {
		t.Fatalf("the test wants no JSON: %v: %s", err, want)
	}
	if !reflect.DeepEqual(got, wanted) {
		t.Errorf("%s:\n got %s\nwant %s", a.request, a.body, want)
	}
	return a
}
