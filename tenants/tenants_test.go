package tenants_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/etcdembed"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

var (
	quiet  = slog.New(slog.NewTextHandler(io.Discard, nil))
	server *etcdembed.Server
	drawn  atomic.Int64
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "tenants")
	if err == nil {
		server, err = etcdembed.Start(context.Background(), etcdembed.Config{Dir: filepath.Join(dir, "etcd"), Logger: quiet, UnsafeNoFsync: true})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	server.Close()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// A world is what one process knows; several share the control data of one etcd.
type world struct {
	m      *mirror.Mirror
	place  *placement.Map
	store  *tenants.Store
	meters *tenants.Meters
}

func open(t *testing.T, node string) *world {
	t.Helper()
	client, err := etcdembed.NewClient(server.Endpoints(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	w := &world{}
	if w.m, err = mirror.Open(t.Context(), mirror.Config{Client: client, Prefix: records.Root, Logger: quiet}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.m.Close() })
	if w.place, err = placement.Open(t.Context(), w.m, placement.Config{Self: placement.Node{Name: node, Zone: "z"}, Partitions: 4, Hosts: true}, quiet); err != nil {
		t.Fatal(err)
	}
	w.store = tenants.Open(w.m, w.place, quiet)
	w.meters = tenants.OpenMeters(w.m, node, quiet)
	w.store.OnCacheChange(func(old, new *tenants.Cache) {
		if old != nil && (new == nil || new.ID != old.ID) {
			w.meters.Forget(old.ID)
		}
	})
	return w
}

// tenant makes a tenant with a name of its own.
func (w *world) tenant(t *testing.T, limits tenants.Limits) *tenants.Tenant {
	t.Helper()
	made, err := w.store.Create(t.Context(), tenants.Tenant{Name: fmt.Sprintf("tenant-%d", drawn.Add(1)), Limits: limits})
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (w *world) cache(t *testing.T, tenant, name string) *tenants.Cache {
	t.Helper()
	c, err := w.store.CreateCache(t.Context(), tenant, tenants.Cache{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// refused fails the test unless err has this kind, argument and words.
func refused(t *testing.T, what string, err error, kind fault.Kind, argument string, says ...string) {
	t.Helper()
	e := fault.From(err)
	if e == nil || e.Kind != kind || e.Argument != argument {
		t.Errorf("%s: got %v (about %q), want %v about %q", what, err, argumentOf(e), kind, argument)
		return
	}
	for _, s := range says {
		if !strings.Contains(e.Message, s) {
			t.Errorf("%s: %q does not say %q", what, e.Message, s)
		}
	}
}

func argumentOf(e *fault.Error) string {
	if e == nil {
		return ""
	}
	return e.Argument
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name          string
		tenant, cache bool
	}{
		{"", false, false}, {"a", false, true}, {"ab", false, true}, {"abc", true, true}, {"0-9", true, true}, {"a_b", false, true},
		{"-ab", false, false}, {"_ab", false, false}, {"ab-", true, true}, {"Abc", false, false}, {"a.b", false, false}, {"a/b", false, false},
		{"a b", false, false}, {"äbc", false, false}, {"abc\n", false, false}, {"a\x00b", false, false}, {"..", false, false},
		{strings.Repeat("a", 63), true, true}, {strings.Repeat("a", 64), false, false},
	} {
		if got := tenants.CheckName(tt.name) == nil; got != tt.tenant {
			t.Errorf("a tenant called %q: %v", tt.name, got)
		}
		if got := tenants.CheckCacheName(tt.name) == nil; got != tt.cache {
			t.Errorf("a cache called %q: %v", tt.name, got)
		}
	}
}

func TestOrigins(t *testing.T) {
	w := open(t, "node-1")
	name := w.tenant(t, tenants.Limits{}).Name
	for origin, good := range map[string]bool{
		"*": true, "https://a.example": true, "http://localhost:3000": true, "https://a.example:8443": true, "http://[::1]:8080": true,
		"capacitor://localhost": true, "https://my_host": true,
		"": false, "null": false, "a.example": false, "https://": false, "https://a.example/": false, "https://a.example/x": false, "https://A.example": false,
		"https://*.example": false, "https://a.example:443": false, "http://a.example:80": false, "https://a..example": false, "https://user@a.example": false,
		"https://a.example?x": false, "https://a.example#x": false, "https://a.example, https://b.example": false, "https://a.example:999999": false,
		"https://" + strings.Repeat("a", 250): false, "https://a.example\n": false,
	} {
		_, err := w.store.Update(t.Context(), name, func(t *tenants.Tenant) error { t.CORSOrigins = []string{origin}; return nil })
		if (err == nil) != good {
			t.Errorf("origin %q: %v", origin, err)
		}
		if err != nil {
			refused(t, origin, err, fault.InvalidArgument, "cors_origins[0]")
		}
	}
}

func TestBadTenants(t *testing.T) {
	w := open(t, "node-1")
	made := w.tenant(t, tenants.Limits{})
	_, err := w.store.Create(t.Context(), tenants.Tenant{Name: made.Name})
	refused(t, "a name twice", err, fault.Conflict, "", made.Name)
	_, err = w.store.Update(t.Context(), "nobody", func(*tenants.Tenant) error { return nil })
	refused(t, "nobody", err, fault.NotFound, "", "nobody")
	refused(t, "deleting nobody", w.store.Delete(t.Context(), "nobody"), fault.NotFound, "", "nobody")
	for _, tt := range []struct {
		name, argument string
		kind           fault.Kind
		change         func(*tenants.Tenant)
	}{
		{"no status", "status", fault.InvalidArgument, func(t *tenants.Tenant) { t.Status = "" }},
		{"a long description", "description", fault.InvalidArgument, func(t *tenants.Tenant) { t.Description = strings.Repeat("x", 1025) }},
		{"101 origins", "cors_origins", fault.InvalidArgument, func(t *tenants.Tenant) { t.CORSOrigins = make([]string, 101) }},
		{"17 guardrails", "guardrails", fault.InvalidArgument, func(t *tenants.Tenant) { t.Guardrails = make([]json.RawMessage, 17) }},
		{"a guardrail that is none", "guardrails[0]", fault.InvalidArgument, func(t *tenants.Tenant) { t.Guardrails = []json.RawMessage{[]byte(`{}`)} }},
		{"a negative limit", "limits.units_per_second", fault.OutOfRange, func(t *tenants.Tenant) { t.Limits.UnitsPerSecond = -1 }},
		{"a limit beyond all", "limits.bytes_per_second", fault.OutOfRange, func(t *tenants.Tenant) { t.Limits.BytesPerSecond = 1<<44 + 1 }},
	} {
		_, err := w.store.Update(t.Context(), made.Name, func(t *tenants.Tenant) error { tt.change(t); return nil })
		refused(t, tt.name, err, tt.kind, tt.argument)
	}
	if now, _ := w.store.Get(made.Name); !reflect.DeepEqual(now, made) {
		t.Errorf("refused changes left %+v, was %+v", now, made)
	}
	// Whatever a change does to a tenant's identity is undone.
	changed, err := w.store.Update(t.Context(), made.Name, func(t *tenants.Tenant) error { t.ID, t.Name, t.Description = "x", "y", "d"; return nil })
	if err != nil || changed.ID != made.ID || changed.Name != made.Name || changed.Description != "d" {
		t.Errorf("changed: %+v %v", changed, err)
	}
}

func TestTheOperatorsTenant(t *testing.T) {
	w := open(t, "node-1")
	if _, err := w.store.Create(t.Context(), tenants.Tenant{Name: tenants.System}); err != nil && !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	refused(t, "deleting it", w.store.Delete(t.Context(), tenants.System), fault.Conflict, "")
	_, err := w.store.CreateCache(t.Context(), tenants.System, tenants.Cache{Name: "main"})
	refused(t, "a cache of it", err, fault.Denied, "")
	_, err = w.store.Update(t.Context(), tenants.System, func(t *tenants.Tenant) error { t.Status = tenants.Suspended; return nil })
	refused(t, "suspending it", err, fault.Conflict, "")
	_, err = w.store.Update(t.Context(), tenants.System, func(t *tenants.Tenant) error { t.Guardrails = make([]json.RawMessage, 1); return nil })
	refused(t, "binding it", err, fault.Conflict, "")
}

// A deleted tenant leaves nothing to the next of its name, even if the deletion broke off.
func TestATenantMadeAgain(t *testing.T) {
	w := open(t, "node-1")
	first := w.tenant(t, tenants.Limits{})
	old := w.cache(t, first.Name, "main")
	w.cache(t, first.Name, "other")
	neighbour := w.tenant(t, tenants.Limits{})
	kept := w.cache(t, neighbour.Name, "main")
	if err := w.store.Delete(t.Context(), first.Name); err != nil {
		t.Fatal(err)
	}
	w.store.EachCache(first.Name, func(c *tenants.Cache) { t.Errorf("a deleted tenant has the cache %s", c.Name) })
	if c, ok := w.store.Cache(neighbour.Name, "main"); !ok || c.ID != kept.ID {
		t.Error("another tenant's cache is gone")
	}

	// What an old version or a dying process could leave behind.
	orphan, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.m.Put(t.Context(), records.Root+"caches/"+first.Name+"/main", orphan); err != nil {
		t.Fatal(err)
	}
	second, err := w.store.Create(t.Context(), tenants.Tenant{Name: first.Name})
	if err != nil {
		t.Fatal(err)
	}
	if second.ID == first.ID || len(second.ID) != 32 {
		t.Errorf("the ids are %s and %s", first.ID, second.ID)
	}
	if list, _ := w.store.Caches(second.Name, "", 0); len(list) != 0 {
		t.Errorf("the new tenant has %d caches of the old one", len(list))
	}
	again := w.cache(t, second.Name, "main")
	if again.ID == old.ID || again.TenantID != second.ID {
		t.Errorf("the cache made anew is %s of %s, the old one was %s", again.HexID, again.TenantID, old.HexID)
	}
}

func TestCachesOfATenant(t *testing.T) {
	w := open(t, "node-1")
	owner := w.tenant(t, tenants.Limits{})
	c := w.cache(t, owner.Name, "main")
	want := engine.Settings{MemoryLimit: tenants.DefaultMemoryLimit, Eviction: engine.AllKeysAdaptive, MaxValue: tenants.DefaultMaxValue}
	if c.Settings() != want || c.TenantID != owner.ID || placement.CheckRanges(c.Ranges) != nil || c.HexID != c.ID.String() {
		t.Errorf("made: %+v", c)
	}
	small, err := w.store.CreateCache(t.Context(), owner.Name, tenants.Cache{Name: "small", MemoryLimit: tenants.MinMemoryLimit})
	if err != nil || small.MaxValue != tenants.MinMemoryLimit {
		t.Errorf("a small cache: %+v %v", small, err)
	}
	if _, err := w.store.CreateCache(t.Context(), owner.Name, tenants.Cache{Name: "main"}); !fault.Is(err, fault.Conflict) {
		t.Errorf("made twice: %v", err)
	}
	if _, err := w.store.CreateCache(t.Context(), "nobody", tenants.Cache{Name: "main"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("of nobody: %v", err)
	}
	changed, err := w.store.UpdateCache(t.Context(), owner.Name, "main", func(c *tenants.Cache) error {
		c.HexID, c.TenantID, c.Name, c.Ranges, c.Tenant = small.HexID, "x", "y", nil, "z"
		c.Eviction = "noeviction"
		return nil
	})
	if err != nil || changed.ID != c.ID || changed.HexID != c.HexID || changed.Name != "main" || changed.Tenant != owner.Name || changed.Settings().Eviction != engine.NoEviction || len(changed.Ranges) != 1 {
		t.Errorf("changed: %+v %v", changed, err)
	}
	for _, tt := range []struct {
		name, argument string
		kind           fault.Kind
		change         func(*tenants.Cache)
	}{
		{"no eviction", "eviction_policy", fault.InvalidArgument, func(c *tenants.Cache) { c.Eviction = "fifo" }},
		{"too little memory", "memory_limit_bytes", fault.OutOfRange, func(c *tenants.Cache) { c.MemoryLimit = tenants.MinMemoryLimit - 1 }},
		{"too much memory", "memory_limit_bytes", fault.OutOfRange, func(c *tenants.Cache) { c.MemoryLimit = tenants.MaxMemoryLimit + 1 }},
		{"no values", "max_value_bytes", fault.OutOfRange, func(c *tenants.Cache) { c.MaxValue = 0 }},
		{"values that do not fit", "max_value_bytes", fault.OutOfRange, func(c *tenants.Cache) { c.MemoryLimit, c.MaxValue = 2<<20, 2<<20+1 }},
		{"values too large", "max_value_bytes", fault.OutOfRange, func(c *tenants.Cache) { c.MaxValue = tenants.MaxMaxValue + 1 }},
		{"a negative TTL", "default_ttl", fault.OutOfRange, func(c *tenants.Cache) { c.DefaultTTLMs = -1 }},
		{"a TTL too long", "default_ttl", fault.OutOfRange, func(c *tenants.Cache) { c.DefaultTTLMs = tenants.MaxTTLMs + 1 }},
		{"a long description", "description", fault.InvalidArgument, func(c *tenants.Cache) { c.Description = strings.Repeat("x", 1025) }},
		{"an empty tag", "tags", fault.InvalidArgument, func(c *tenants.Cache) { c.Tags = map[string]string{"": "x"} }},
		{"a long tag", "tags", fault.InvalidArgument, func(c *tenants.Cache) { c.Tags = map[string]string{"x": strings.Repeat("x", 257)} }},
		{"a durability that nobody knows", "durability", fault.InvalidArgument, func(c *tenants.Cache) { c.Durability = "eternal" }},
		{"a negative limit", "limits.units_per_second", fault.OutOfRange, func(c *tenants.Cache) { c.Limits.UnitsPerSecond = -1 }},
	} {
		_, err := w.store.UpdateCache(t.Context(), owner.Name, "main", func(c *tenants.Cache) error { tt.change(c); return nil })
		refused(t, tt.name, err, tt.kind, tt.argument)
	}
	durable := func(c *tenants.Cache) error { c.Durability = "durable"; return nil }
	if c, err := w.store.UpdateCache(t.Context(), owner.Name, "main", durable); err != nil || c.Durability != "durable" {
		t.Errorf("a durable cache: %v", err)
	}
	if c, err := w.store.UpdateCache(t.Context(), owner.Name, "main", func(c *tenants.Cache) error { c.Durability = "memory"; return nil }); err != nil || c.Durability != "" {
		t.Errorf("a memory cache: %v", err)
	}
}

// The tenant's limits hold also when many make caches at once, and a lowered limit freezes nothing.
func TestLimitsOfATenant(t *testing.T) {
	w := open(t, "node-1")
	const gib = int64(1 << 30)
	owner := w.tenant(t, tenants.Limits{Caches: 5, MemoryBytes: 6 * gib})
	var running sync.WaitGroup
	var made, refusedCount atomic.Int64
	for i := range 12 {
		running.Go(func() {
			_, err := w.store.CreateCache(t.Context(), owner.Name, tenants.Cache{Name: fmt.Sprintf("c%d", i)})
			switch {
			case err == nil:
				made.Add(1)
			case fault.Is(err, fault.Conflict):
				refusedCount.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	running.Wait()
	if made.Load() != 5 || refusedCount.Load() != 7 {
		t.Errorf("%d caches were made and %d refused, the limit is 5", made.Load(), refusedCount.Load())
	}
	list, _ := w.store.Caches(owner.Name, "", 0)
	grow := func(name string, to int64) error {
		_, err := w.store.UpdateCache(t.Context(), owner.Name, name, func(c *tenants.Cache) error { c.MemoryLimit = to; return nil })
		return err
	}
	if err := grow(list[0].Name, 2*gib); err != nil {
		t.Errorf("up to the limit: %v", err)
	}
	refused(t, "one byte more", grow(list[0].Name, 2*gib+1), fault.OutOfRange, "memory_limit_bytes", "6442450944", "6442450945")
	if _, err := w.store.Update(t.Context(), owner.Name, func(t *tenants.Tenant) error { t.Limits.MemoryBytes, t.Limits.Caches = gib, 1; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := grow(list[0].Name, gib); err != nil {
		t.Errorf("shrinking below a lowered limit: %v", err)
	}
	refused(t, "growing again", grow(list[0].Name, 2*gib), fault.OutOfRange, "memory_limit_bytes")
}

// New caches go to the partitions that have the fewest.
// Whoever waits for another change to be counted waits no longer than its own deadline.
func TestWaitingToBeCountedEnds(t *testing.T) {
	w := open(t, "n")
	acme := w.tenant(t, tenants.Limits{})
	w.cache(t, acme.Name, "a")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var made, changed error
	_, err := w.store.UpdateCache(t.Context(), acme.Name, "a", func(*tenants.Cache) error { // it is being counted
		_, made = w.store.CreateCache(ended, acme.Name, tenants.Cache{Name: "b"})
		_, changed = w.store.UpdateCache(ended, acme.Name, "a", func(*tenants.Cache) error { return nil })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	refused(t, "making", made, fault.Timeout, "")
	refused(t, "changing", changed, fault.Timeout, "")
	w.cache(t, acme.Name, "b")
}

func TestCachesSpread(t *testing.T) {
	w := open(t, "node-1")
	owner := w.tenant(t, tenants.Limits{})
	for i := range 16 {
		load := map[placement.PartitionID]int{}
		w.store.EachCache("", func(c *tenants.Cache) { load[c.Ranges[0].Partition]++ })
		least := load[0]
		for id := range placement.PartitionID(4) {
			least = min(least, load[id])
		}
		if at := w.cache(t, owner.Name, fmt.Sprintf("c%d", i)).Ranges[0].Partition; load[at] != least {
			t.Errorf("a cache went to partition %d, the partitions hold %v", at, load)
		}
	}
}

// A cache with several ranges goes to as many partitions, each of which has a share of its limits.
func TestRangesOfACache(t *testing.T) {
	w := open(t, "node-1")
	owner := w.tenant(t, tenants.Limits{})
	taken := w.cache(t, owner.Name, "small").Ranges[0].Partition
	for _, n := range []int{1, 3, 4, 8, 64} {
		made, err := w.store.CreateCache(t.Context(), owner.Name, tenants.Cache{Name: fmt.Sprint("n", n), MemoryLimit: 100 << 20, MaxValue: 20 << 20, Ranges: placement.Even(n)})
		if err != nil {
			t.Fatal(err)
		}
		at := made.Partitions()
		if len(made.Ranges) != n || len(at) != min(n, 4) || placement.CheckRanges(made.Ranges) != nil || (n == 3 && slices.Contains(at, taken)) {
			t.Errorf("%d ranges: %v on %v", n, made.Ranges, at)
		}
		sum, largest := int64(0), made.MaxValue
		for _, p := range at {
			s := made.SettingsAt(p)
			sum, largest = sum+s.MemoryLimit, min(largest, s.MaxValue)
			if s.Split != (n > 1) || s.MaxValue > s.MemoryLimit || s.MemoryLimit > made.MemoryLimit*3/int64(2*min(n, 4)) && n > 1 {
				t.Errorf("%d ranges: %+v", n, s)
			}
		}
		if sum > made.MemoryLimit || sum < made.MemoryLimit-64 || largest != made.LargestValue() {
			t.Errorf("%d ranges: the shares are %d of %d, values have %d and %d bytes", n, sum, made.MemoryLimit, largest, made.LargestValue())
		}
		if err := w.store.DeleteCache(t.Context(), owner.Name, made.Name); err != nil {
			t.Fatal(err)
		}
	}
	for argument, c := range map[string]tenants.Cache{
		"ranges":             {Name: "x", Ranges: make([]placement.Range, 65), MemoryLimit: 1 << 30},
		"memory_limit_bytes": {Name: "x", Ranges: placement.Even(8), MemoryLimit: 4 << 20},
	} {
		_, err := w.store.CreateCache(t.Context(), owner.Name, c)
		refused(t, argument, err, fault.OutOfRange, argument)
	}
}

func TestPagesOfCaches(t *testing.T) {
	w := open(t, "node-1")
	owner := w.tenant(t, tenants.Limits{})
	next, err := w.store.Create(t.Context(), tenants.Tenant{Name: owner.Name + "0"}) // its records follow at once
	if err != nil {
		t.Fatal(err)
	}
	w.cache(t, next.Name, "aaa")
	for _, name := range []string{"b", "a", "a-b", "a_b", "c", "aa"} {
		w.cache(t, owner.Name, name)
	}
	for limit := 1; limit < 8; limit++ {
		var got []string
		for after := ""; ; {
			list, next := w.store.Caches(owner.Name, after, limit)
			for _, c := range list {
				got = append(got, c.Name)
			}
			if after = next; after == "" {
				break
			}
		}
		if want := "[a a-b a_b aa b c]"; fmt.Sprint(got) != want {
			t.Errorf("limit %d: %v, want %s", limit, got, want)
		}
	}
	for _, after := range []string{"/../" + next.Name + "/", "\xff", "c", "z/0", "0/"} {
		list, _ := w.store.Caches(owner.Name, after, 100)
		for _, c := range list {
			if c.Tenant != owner.Name {
				t.Errorf("after %q comes a cache of %s", after, c.Tenant)
			}
		}
	}
}

// Everybody who follows the records hears the same, in another process too.
func TestOthersFollow(t *testing.T) {
	here, there := open(t, "node-1"), open(t, "node-2")
	owner := here.tenant(t, tenants.Limits{})
	c := here.cache(t, owner.Name, "main")
	if err := there.m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, ok := there.store.Cache(owner.Name, "main"); !ok || !reflect.DeepEqual(got, c) {
		t.Errorf("there it is %+v, here %+v", got, c)
	}
	state, ok := there.store.Tenant(owner.Name)
	if !ok || state.ID != owner.ID || !state.Active {
		t.Errorf("there the tenant is %+v", state)
	}
	if _, err := there.store.Update(t.Context(), owner.Name, func(t *tenants.Tenant) error {
		t.Status, t.Guardrails = tenants.Suspended, []json.RawMessage{[]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := here.m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	if state, _ := here.store.Tenant(owner.Name); state.Active || len(state.Guardrails) != 1 {
		t.Errorf("here the tenant is %+v", state)
	}
	if _, ok := here.store.Tenant("nobody"); ok {
		t.Error("nobody is a tenant")
	}
}

// Where durable caches have partitions of their own, a class changes only when there are some.
func TestDurableCachesLieApart(t *testing.T) {
	w := open(t, "apart")
	owner := w.tenant(t, tenants.Limits{})
	w.cache(t, owner.Name, "main")
	w.store.KeepApart(0, 0)
	become := func(class string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // nobody founds partitions here
		defer cancel()
		_, err := w.store.UpdateCache(ctx, owner.Name, "main", func(c *tenants.Cache) error { c.Durability = class; return nil })
		return err
	}
	refused(t, "durable, without partitions for it", become("durable"), fault.Unavailable, "")
	refused(t, "eternal", become("eternal"), fault.InvalidArgument, "durability")
	if c, _ := w.store.Cache(owner.Name, "main"); c.Keeps() || c.WantedRanges != 0 {
		t.Errorf("it changed all the same: %+v", c)
	}
	refused(t, "async, without partitions for it", become("async"), fault.Unavailable, "")
	w.store.KeepApart(0, 1<<30)
	refused(t, "async, where a node knows no such partitions", become("async"), fault.Unavailable, "durability")
}
