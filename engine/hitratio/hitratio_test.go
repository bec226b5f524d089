package hitratio

import (
	"math"
	"slices"
	"testing"

	"github.com/larder-cache/larder/internal/textbook"
	"github.com/larder-cache/larder/internal/traces"
)

// pattern is the beginning of a made-up trace.
func pattern(t *testing.T, name string, requests int) *traces.Trace {
	for _, s := range traces.Patterns() {
		if s.Name == name {
			tr := s.Trace()
			tr.Requests = tr.Requests[:requests]
			return tr
		}
	}
	t.Fatalf("no pattern %q", name)
	return nil
}

func ratio(t *testing.T, tr *traces.Trace, policy string, capacity int) float64 {
	t.Helper()
	r, err := Run(tr, policy, capacity)
	if err != nil {
		t.Fatal(err)
	}
	return 100 * r.Ratio
}

// TestEveryPolicyKeepsTheCapacity: Run fails if a cache holds more items than it may, or never so many. None is better
// than the optimum.
func TestEveryPolicyKeepsTheCapacity(t *testing.T) {
	tr := pattern(t, "database", 20_000)
	best := ratio(t, tr, "belady", 300)
	for _, policy := range Policies() {
		if got := ratio(t, tr, policy, 300); got > best || got < 5 {
			t.Errorf("%s: %.2f%%, the optimum has %.2f%%", policy, got, best)
		}
	}
}

// TestTheEngineDoesWhatItsPolicyDoes: with and without the engine around it, the default is worth the same but for
// chance, and so is LRU.
func TestTheEngineDoesWhatItsPolicyDoes(t *testing.T) {
	for _, name := range []string{"zipf-scan", "shift-sudden"} {
		tr := pattern(t, name, 60_000)
		for engines, twin := range map[string]string{"allkeys-adaptive": Direct, "allkeys-lru": "lru"} {
			if a, b := ratio(t, tr, engines, 500), ratio(t, tr, twin, 500); math.Abs(a-b) > 1.5 {
				t.Errorf("%s: %s has %.2f%%, %s %.2f%%", name, engines, a, twin, b)
			}
		}
	}
}

// TestNearTheBest: on patterns that each suit another textbook policy, the default is nearly as good as the best.
func TestNearTheBest(t *testing.T) {
	for _, c := range []struct {
		pattern  string
		requests int
		capacity int
	}{
		{"zipf-0.8", 150_000, 500},
		{"loop-zipf", 150_000, 2500},
		{"shift-drift", 150_000, 1000},
		{"bursts", 150_000, 1000},
		{"web-one-hit", 150_000, 2000},
	} {
		tr, best, whose := pattern(t, c.pattern, c.requests), 0.0, ""
		for _, policy := range textbook.Names() {
			if r := ratio(t, tr, policy, c.capacity); policy != "belady" && r > best {
				best, whose = r, policy
			}
		}
		got := ratio(t, tr, Direct, c.capacity)
		t.Logf("%s/%d: %.2f%%, %s has %.2f%%", c.pattern, c.capacity, got, whose, best)
		if got < best-1 {
			t.Errorf("%s/%d: %.2f%%, %s has %.2f%%", c.pattern, c.capacity, got, whose, best)
		}
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	tr := &traces.Trace{Requests: []uint32{0}, Distinct: 1}
	for _, policy := range []string{"noeviction", "clock", ""} {
		if _, err := Run(tr, policy, 1); err == nil {
			t.Errorf("%q was accepted", policy)
		}
	}
	if _, err := Run(tr, "lru", 0); err == nil {
		t.Error("a cache without room was accepted")
	}
	if !slices.Contains(Policies(), "allkeys-adaptive") {
		t.Error("the default is missing")
	}
}
