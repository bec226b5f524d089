package tenants_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/tenants"
)

// use counts some of everything once.
func use(m *tenants.Meter) {
	m.Add(engine.GroupString, 2, 3)
	m.Add(engine.GroupSession, 1, 10)
	m.AddBytes(100, 1000)
	m.Denied()
	m.Throttled()
	m.Failed()
}

// times is n times what use counts.
func times(n int64) tenants.Usage {
	if n == 0 {
		return tenants.Usage{}
	}
	return tenants.Usage{
		Operations: 3 * n, Units: 13 * n, BytesIn: 100 * n, BytesOut: 1000 * n, Denied: n, Throttled: n, Failed: n,
		Classes: map[string]tenants.ClassUsage{"string": {Operations: 2 * n, Units: 3 * n}, "session": {Operations: n, Units: 10 * n}},
	}
}

func wants(t *testing.T, what string, got, want tenants.Usage) {
	t.Helper()
	if len(got.Classes) != len(want.Classes) {
		t.Errorf("%s: classes %v, want %v", what, got.Classes, want.Classes)
	}
	for name, c := range want.Classes {
		if got.Classes[name] != c {
			t.Errorf("%s: %s is %v, want %v", what, name, got.Classes[name], c)
		}
	}
	got.Classes, want.Classes = nil, nil
	if got.Operations != want.Operations || got.Units != want.Units || got.BytesIn != want.BytesIn || got.BytesOut != want.BytesOut ||
		got.Denied != want.Denied || got.Throttled != want.Throttled || got.Failed != want.Failed {
		t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

// What was used survives a restart, adds up over nodes and runs, and is not counted twice.
func TestUsageSurvives(t *testing.T) {
	first := open(t, "usage-1")
	owner := first.tenant(t, tenants.Limits{})
	c := first.cache(t, owner.Name, "main")
	wants(t, "a new cache", first.meters.Usage(c), times(0))
	use(first.meters.Of(c))
	use(first.meters.Of(c))
	wants(t, "before it is written", first.meters.Usage(c), times(2))
	for range 2 { // writing twice changes nothing
		if err := first.meters.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	wants(t, "after it was written", first.meters.Usage(c), times(2))
	use(first.meters.Of(c)) // lost, as the process ends before the next flush

	restarted := open(t, "usage-1")
	wants(t, "after a restart", restarted.meters.Usage(c), times(2))
	use(restarted.meters.Of(c))
	wants(t, "and on", restarted.meters.Usage(c), times(3))

	other := open(t, "usage-2")
	use(other.meters.Of(c))
	wants(t, "on another node", other.meters.Usage(c), times(3)) // its own, and what the first has written
	for _, w := range []*world{restarted, other} {
		if err := w.meters.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range []*world{restarted, other, open(t, "usage-3")} {
		if err := w.m.Sync(t.Context()); err != nil {
			t.Fatal(err)
		}
		wants(t, "everywhere", w.meters.Usage(c), times(4))
	}

	// A cache made anew under the old name has used nothing, and the old one's counts are removed.
	if err := restarted.store.DeleteCache(t.Context(), owner.Name, "main"); err != nil {
		t.Fatal(err)
	}
	anew := restarted.cache(t, owner.Name, "main")
	wants(t, "made anew", restarted.meters.Usage(anew), times(0))
	if err := restarted.meters.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, r := range restarted.m.List(records.Root+"usage/", "", 0) {
		if strings.Contains(r.Key, c.HexID) {
			t.Errorf("the roll-up %s is still there", r.Key)
		}
	}
	use(restarted.meters.Of(anew))
	wants(t, "made anew, and used", restarted.meters.Usage(anew), times(1))
}

// Nothing is lost of what many count at the same time, while it is written and read.
func TestUsageOfMany(t *testing.T) {
	w := open(t, "usage-many")
	owner := w.tenant(t, tenants.Limits{})
	c := w.cache(t, owner.Name, "main")
	var running sync.WaitGroup
	for range 8 {
		running.Go(func() {
			for range 1000 {
				use(w.meters.Of(c))
			}
		})
	}
	running.Go(func() {
		for range 3 {
			if err := w.meters.Flush(t.Context()); err != nil {
				t.Error(err)
			}
			w.meters.Usage(c)
		}
	})
	running.Wait()
	wants(t, "in the end", w.meters.Usage(c), times(8000))
	if err := w.meters.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	wants(t, "after a restart", open(t, "usage-many").meters.Usage(c), times(8000))
}
