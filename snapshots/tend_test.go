package snapshots_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/snapshots"
)

// accounts are the caches that a test has, as snapshots.Caches.
type accounts struct {
	mu     sync.Mutex
	caches map[string]*snapshots.Cache // by tenant and name
}

func (a *accounts) add(c *snapshots.Cache) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.caches == nil {
		a.caches = map[string]*snapshots.Cache{}
	}
	a.caches[c.Tenant+"/"+c.Name] = c
}

func (a *accounts) Find(tenant, tenantID, name string) (*snapshots.Cache, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.caches[tenant+"/"+name]
	return c, ok && c.TenantID == tenantID
}

func (a *accounts) Stands(tenant, name string, id engine.CacheID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, ok := a.caches[tenant+"/"+name]
	return ok && c.ID == id
}

func (a *accounts) Owners() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	ids := map[string]bool{}
	for _, c := range a.caches {
		ids[c.TenantID] = true
	}
	return ids
}

// A testKMS has one key, and is down when a test says so.
type testKMS struct {
	seal.Key
	mu   sync.Mutex
	down bool
}

var errDown = errors.New("the service is down")

func (k *testKMS) set(down bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.down = down
}

func (k *testKMS) Wrap(ctx context.Context, key, to []byte) (seal.Wrapped, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down {
		return seal.Wrapped{}, errDown
	}
	return k.Key.Wrap(ctx, key, to)
}

func (k *testKMS) Unwrap(ctx context.Context, w seal.Wrapped, to []byte) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.down {
		return nil, errDown
	}
	return k.Key.Unwrap(ctx, w, to)
}

// newTended is a world with accounts, one cache with data, and a KMS that may be down.
func newTended(t *testing.T) (*world, *accounts, *testKMS, *snapshots.Cache) {
	w := newWorld(t)
	a, kms := &accounts{}, &testKMS{Key: seal.NewKey()}
	w.cfg.Caches, w.cfg.KMS = a, kms
	w.open()
	c := w.cache("main", 1)
	w.fill(c)
	a.add(c)
	return w, a, kms, c
}

func (w *world) tend() {
	w.t.Helper()
	if err := w.Tend(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// of lists the snapshots of a cache that a schedule has made, as their states.
func (w *world) of(c *snapshots.Cache, schedule string) (states []snapshots.State) {
	list, _ := w.List(c.Tenant, c.TenantID, c.Name, "", 0)
	for _, s := range list {
		if s.Schedule == schedule {
			states = append(states, s.State)
		}
	}
	return states
}

// settle waits until no snapshot of a cache is being made.
func (w *world) settle(c *snapshots.Cache) {
	w.t.Helper()
	list, _ := w.List(c.Tenant, c.TenantID, c.Name, "", 0)
	for _, s := range list {
		w.made(c, s)
	}
}

func TestWhen(t *testing.T) {
	at := func(text string) time.Time {
		v, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct{ when, after, next string }{
		{"daily at 03:30", "2026-11-27 03:29", "2026-11-27 03:30"},
		{"daily at 03:30", "2026-11-27 03:30", "2026-11-28 03:30"}, // never the same again
		{"0 * * * *", "2026-11-27 03:30", "2026-11-27 04:00"},
		{"@weekly", "2026-11-27 03:30", "2026-11-29 00:00"},
		{"30 3 29 2 *", "2026-11-27 03:30", "2028-02-29 03:30"},
	} {
		next, err := snapshots.ParseWhen(c.when)
		if err != nil {
			t.Errorf("%q: %v", c.when, err)
		} else if got := next(at(c.after)); !got.Equal(at(c.next)) {
			t.Errorf("%q after %s: %v, want %s", c.when, c.after, got, c.next)
		}
	}
	for _, when := range []string{"", " ", "daily", "daily at 24:00", "daily at 3:30", "* * * *", "* * * * * *", "61 * * * *", "0 0 30 2 *", "TZ=UTC 0 0 * * *", "CRON_TZ=", "@every 1s", "@reboot", strings.Repeat("1,", 90) + "1 * * * *"} {
		if _, err := snapshots.ParseWhen(when); !fault.Is(err, fault.InvalidArgument) {
			t.Errorf("%q: %v", when, err)
		}
	}
}

func FuzzWhen(f *testing.F) {
	f.Add("30 3 * * 1-5")
	f.Add("TZ=")
	f.Fuzz(func(t *testing.T, when string) {
		if next, err := snapshots.ParseWhen(when); err == nil && next(time.Unix(1_800_000_000, 0)).IsZero() {
			t.Errorf("%q was taken, and has no time", when)
		}
	})
}

// TestSchedule: what is due is made once, whoever decides; what was missed is made once as well; and only so many are kept.
func TestSchedule(t *testing.T) {
	w, _, _, c := newTended(t)
	now := w.clock.time().UTC().Truncate(time.Hour)
	w.clock.ms.Store(now.UnixMilli())
	put := func(keep int, keepFor time.Duration) {
		t.Helper()
		if _, _, err := w.PutSchedule(t.Context(), snapshots.Schedule{Tenant: c.Tenant, TenantID: c.TenantID, Cache: c.Name, Name: "hourly", When: "@hourly", Keep: keep, KeepFor: keepFor}); err != nil {
			t.Fatal(err)
		}
	}
	put(2, 0)
	w.tend()
	if got := w.of(c, "hourly"); len(got) != 0 {
		t.Fatalf("%v before it is due", got)
	}
	w.clock.ms.Add(5 * time.Hour.Milliseconds()) // nobody decided for a while
	second, err := snapshots.Open(t.Context(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Close)
	w.tend()
	if err := second.Tend(t.Context()); err != nil { // a controller that does not know yet that it is none
		t.Fatal(err)
	}
	w.settle(c)
	w.tend()
	if got := fmt.Sprint(w.of(c, "hourly")); got != "[available]" {
		t.Errorf("%v, one was due", got)
	}
	s, err := w.Schedule(c.Tenant, c.TenantID, c.Name, "hourly")
	if err != nil || !s.Pending.IsZero() || s.Trouble != "" || !s.Next().Equal(now.Add(6*time.Hour)) {
		t.Errorf("%+v, %v", s, err)
	}
	manual := w.snapshot(c)
	for range 3 {
		w.clock.ms.Add(time.Hour.Milliseconds())
		w.tend()
		w.settle(c)
		w.tend()
	}
	if got := fmt.Sprint(w.of(c, "hourly")); got != "[available available]" {
		t.Errorf("%v, two are kept", got)
	}
	put(2, time.Minute)
	w.clock.ms.Add(30 * time.Minute.Milliseconds())
	w.tend()
	if got := fmt.Sprint(w.of(c, "hourly")); got != "[available]" {
		t.Errorf("%v: all but the newest are too old", got)
	}
	if _, _, err := w.Get(t.Context(), c.Tenant, c.TenantID, c.Name, manual.ID); err != nil {
		t.Error("a snapshot that somebody made was not kept:", err)
	}
	if len(w.files()) != 2 {
		t.Errorf("%q", w.files())
	}
}

// TestScheduleOutlastsAnOutage: with the KMS down for a whole hour a snapshot is late, and made afterwards; who has the key
// unwrapped already does not notice.
func TestScheduleOutlastsAnOutage(t *testing.T) {
	w, _, kms, c := newTended(t)
	kms.set(true)
	if _, _, err := w.PutSchedule(t.Context(), snapshots.Schedule{Tenant: c.Tenant, TenantID: c.TenantID, Cache: c.Name, Name: "s", When: "@hourly"}); err != nil {
		t.Fatal(err)
	}
	w.clock.ms.Add(time.Hour.Milliseconds())
	w.tend()
	w.clock.ms.Add(10 * time.Minute.Milliseconds())
	w.tend()
	if s, _ := w.Schedule(c.Tenant, c.TenantID, c.Name, "s"); s.Pending.IsZero() || s.Trouble == "" || w.Lag() < 10*time.Minute || len(w.of(c, "s")) != 0 {
		t.Errorf("%+v, lag %v, %v", s, w.Lag(), w.of(c, "s"))
	}
	if _, err := w.Create(t.Context(), c, snapshots.CreateOptions{}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a snapshot without a key: %v", err)
	}
	kms.set(false)
	w.tend()
	w.settle(c)
	w.tend()
	if s, _ := w.Schedule(c.Tenant, c.TenantID, c.Name, "s"); !s.Pending.IsZero() || s.Trouble != "" || w.Lag() != 0 || len(w.of(c, "s")) != 1 {
		t.Errorf("%+v, lag %v, %v", s, w.Lag(), w.of(c, "s"))
	}
	kms.set(true)
	w.snapshot(c)
}

// TestQuotas: a tenant has so many snapshots, and so many bytes of them.
func TestQuotas(t *testing.T) {
	w, _, _, c := newTended(t)
	limits := snapshots.Limits{Snapshots: 2}
	w.cfg.Limits = func(string) snapshots.Limits { return limits }
	w.open()
	first := w.snapshot(c)
	w.snapshot(c)
	if _, err := w.Create(t.Context(), c, snapshots.CreateOptions{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("a third one of two: %v", err)
	}
	limits = snapshots.Limits{Bytes: 2*first.Size + 100}
	snap, err := w.Create(t.Context(), c, snapshots.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if snap = w.made(c, snap); snap.State != snapshots.Failed || !strings.Contains(snap.Problem, "bytes") || len(w.files()) != 2 {
		t.Errorf("%+v, %q", snap, w.files())
	}
	limits.Bytes = first.Size
	if _, err := w.Create(t.Context(), c, snapshots.CreateOptions{}); !fault.Is(err, fault.Conflict) {
		t.Errorf("more bytes than allowed: %v", err)
	}
}

// TestBranch: a copy that goes on by itself, on as many partitions as it likes, with all types; a failing publish leaves nothing.
func TestBranch(t *testing.T) {
	w := newWorld(t)
	c := w.cache("main", 2)
	w.fill(c)
	w.do(c, "ZADD", "zset1", "9", "before")
	to := w.cache("twig", 3)
	to.Tenant, to.TenantID = c.Tenant, c.TenantID
	done := func(publish error) snapshots.Progress {
		t.Helper()
		if err := w.Branch(t.Context(), c, to, nil, func(context.Context) error { return publish }); err != nil {
			t.Fatal(err)
		}
		for range 2000 {
			if p, _ := w.Restoring(t.Context(), to.TenantID, to.Name); !p.Ended.IsZero() {
				return p
			}
			time.Sleep(5 * time.Millisecond)
		}
		t.Fatal("the branch does not come to its end")
		return snapshots.Progress{}
	}
	refused := fault.New(fault.Conflict, "test", "somebody else has the name")
	if p := done(refused); p.Problem != refused.Message {
		t.Errorf("%+v", p)
	}
	for _, l := range w.locals {
		if l.Holds(to.ID) {
			t.Error("something is left")
		}
	}
	if p := done(nil); p.Problem != "" || p.Keys != 300 {
		t.Fatalf("%+v", p)
	}
	w.do(c, "ZADD", "zset1", "10", "after")
	w.do(to, "DEL", "list7")
	for _, q := range []struct {
		of   *snapshots.Cache
		want int64
		args []string
	}{
		{to, 3, []string{"ZCARD", "zset1"}}, {c, 4, []string{"ZCARD", "zset1"}}, {to, 0, []string{"LLEN", "list7"}}, {c, 5, []string{"LLEN", "list7"}},
		{to, 5, []string{"XLEN", "stream9"}}, {to, 1, []string{"FCALL", "one", "0"}}, {to, 1000, []string{"PTTL", "string0"}},
	} {
		if got := w.do(q.of, q.args...); got.Int != q.want {
			t.Errorf("%s %q: %d, want %d", q.of.Name, q.args, got.Int, q.want)
		}
	}
	if len(w.files()) > 0 {
		t.Errorf("a branch has written %q", w.files())
	}
}

// TestADeadNodeLeavesNothing: what another node was making, or was filling, when it died has failed, and nothing of it is left. One
// that was taken for dead too early cannot make its work visible any more.
func TestADeadNodeLeavesNothing(t *testing.T) {
	w, a, _, c := newTended(t)
	store, err := snapshots.OpenStore(t.Context(), "file://"+w.dir+"?shared=true", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	w.cfg.Store = store
	w.open()
	good := w.snapshot(c)
	dead := map[string]bool{}
	var mu sync.Mutex
	cfg := w.cfg
	cfg.Node, cfg.Life = "other", "first"
	cfg.Engine = &stuck{world: w, wait: make(chan struct{})}
	other, err := snapshots.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Close)
	w.cfg.Alive = func(node, life string) bool {
		mu.Lock()
		defer mu.Unlock()
		return !dead[node+life]
	}
	w.open()
	snap, err := other.Create(t.Context(), c, snapshots.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	to := w.cache("copy", 1)
	to.Tenant, to.TenantID = c.Tenant, c.TenantID
	published := false
	if err := other.Restore(t.Context(), good, to, snapshots.RestoreOptions{}, func(context.Context) error { published = true; return nil }); err != nil {
		t.Fatal(err)
	}
	w.tend()
	if s, _, err := w.Get(t.Context(), c.Tenant, c.TenantID, c.Name, snap.ID); err != nil || s.State != snapshots.Creating {
		t.Errorf("%+v, %v: its node is there", s, err)
	}
	mu.Lock()
	dead["otherfirst"] = true
	mu.Unlock()
	w.tend()
	if s, _, err := w.Get(t.Context(), c.Tenant, c.TenantID, c.Name, snap.ID); err != nil || s.State != snapshots.Failed || !strings.Contains(s.Problem, "other") {
		t.Errorf("%+v, %v", s, err)
	}
	if p, ok := w.Restoring(t.Context(), to.TenantID, to.Name); !ok || !strings.Contains(p.Problem, "other") || w.locals[0].Holds(to.ID) {
		t.Errorf("%+v, %v", p, ok)
	}
	close(cfg.Engine.(*stuck).wait) // it was paused, and goes on
	other.Close()
	if s, _, err := w.Get(t.Context(), c.Tenant, c.TenantID, c.Name, snap.ID); err == nil && s.State == snapshots.Available {
		t.Errorf("%+v", s)
	}
	if published || a.Stands(to.Tenant, to.Name, to.ID) {
		t.Error("what was dropped has got the name")
	}
}

// A stuck engine is one whose node is paused: what it reads and does waits.
type stuck struct {
	*world
	wait chan struct{}
}

func (e *stuck) Cut(ctx context.Context, c *snapshots.Cache, o engine.CutOptions) ([]snapshots.Cut, error) {
	cuts, err := e.world.Cut(ctx, c, o)
	for i, cut := range cuts {
		cuts[i] = stuckCut{cut, e.wait}
	}
	return cuts, err
}

func (e *stuck) Execute(ctx context.Context, c *snapshots.Cache, target int, t *engine.Task) error {
	if t.Calls[0].Command.Name == "LARDER.RESTORE" {
		<-e.wait
	}
	return e.world.Execute(ctx, c, target, t)
}

type stuckCut struct {
	snapshots.Cut
	wait chan struct{}
}

func (c stuckCut) Read(p []byte) (int, error) {
	<-c.wait
	return c.Cut.Read(p)
}
