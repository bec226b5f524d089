package gateway

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// A request's level, or else its cache's, reaches every partition that answers; one that writes anything is linearizable as a
// whole; and of several answers the loosest and the oldest counts.
func TestLevelsReachEveryPartition(t *testing.T) {
	s := newSplit(t)
	s.cache(t, tenants.Cache{Name: "loose", Consistency: "eventual"})
	one, other := s.keyAt(t, 0), s.keyAt(t, 2)
	var mu sync.Mutex
	var seen []string
	s.hurting(t, func(at placement.PartitionID, x *engine.Task) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, x.Consistency.String())
		if x.Consistency > engine.Linearizable {
			x.Answered(x.Consistency, 100*int64(len(seen)))
		}
		return nil
	})
	for _, tt := range []struct {
		cache, commands string
		level           engine.Consistency
		want            string // the levels of the tasks, and what the answer was
	}{
		{"main", "GET " + one, engine.DefaultConsistency, "[] 0"},
		{"main", "GET " + one, engine.Leader, "[leader] leader 100"},
		{"main", "MGET " + one + " " + other, engine.Eventual, "[eventual eventual] eventual 200"},
		{"main", "GET " + one + ";SET " + other + " v", engine.Eventual, "[linearizable linearizable] 0"},
		{"main", "SCAN 0", engine.Eventual, "[eventual eventual eventual eventual] eventual 400"},
		{"loose", "GET k", engine.DefaultConsistency, "[eventual] eventual 100"},
		{"loose", "GET k", engine.Linearizable, "[linearizable] 0"},
		{"loose", "SET k v", engine.DefaultConsistency, "[linearizable] 0"},
	} {
		seen = nil
		r, _ := s.request(tt.cache, strings.Split(tt.commands, ";")...)
		r.Consistency = tt.level
		if err := s.Do(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		got := strings.TrimSpace(fmt.Sprint(seen, " ", r.Was)) + fmt.Sprint(" ", r.AgeMs)
		if got != tt.want {
			t.Errorf("%s in %s, asked for %q: %s, want %s", tt.commands, tt.cache, tt.level, got, tt.want)
		}
	}
}
