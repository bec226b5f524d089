package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// lead applies a task as a leader does: what Relieve asks for first, in the same entry.
func (w *world) lead(t *Task) *Recording {
	w.t.Helper()
	w.seed++
	if relief := w.p.Relieve(w.now, w.seed, t); relief != nil {
		w.apply(relief, t)
	} else {
		w.apply(t)
	}
	return t.Reply.(*Recording)
}

func (w *world) put(args ...string) string {
	w.t.Helper()
	return show(w.lead(w.task(args)))
}

func (w *world) used() int64 { return w.p.caches[testCache].used }

func TestNoEvictionAnswersOOM(t *testing.T) {
	w := newWorld(t)
	w.configure(Settings{MemoryLimit: 4 << 10, Eviction: NoEviction})
	w.put("SET", "k", strings.Repeat("v", 2<<10))
	w.put("HSET", "h", "n", "1")
	const full = "(error) OOM command not allowed when used memory > 'maxmemory'."
	for _, c := range []struct {
		want string
		args []string
	}{
		{full, []string{"SET", "other", strings.Repeat("v", 2<<10)}},
		{full, []string{"HSET", "h", "f", strings.Repeat("v", 2<<10)}},
		{full, []string{"SESSION.CREATE", "s", `"` + strings.Repeat("v", 2<<10) + `"`}},
		{"1", []string{"HLEN", "h"}},
		{"2", []string{"DBSIZE"}},
		{"1", []string{"DEL", "k"}},
		{"OK", []string{"SET", "other", strings.Repeat("v", 2<<10)}},
	} {
		if got := w.put(c.args...); got != c.want {
			t.Errorf("%.40q: %s, want %s", c.args, got, c.want)
		}
	}
	if s, _ := w.p.Stats(testCache); s.Evicted != 0 {
		t.Errorf("%d items were evicted", s.Evicted)
	}
}

// TestLimitIsKept: whatever is stored, a cache that evicts stays within its limit and refuses nothing that
// could fit; its neighbours lose nothing.
func TestLimitIsKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, choose := newWorld(t), chance(t)
		neighbour := CacheID{2}
		w.apply(ConfigureTask(neighbour, Settings{MemoryLimit: 8 << 10}))
		for i := range 20 {
			task := w.task([]string{"SET", fmt.Sprint(i), "v", "PX", "100000"})
			task.Cache = neighbour
			w.lead(task)
		}
		policies := []EvictionPolicy{AllKeysAdaptive, AllKeysLRU, AllKeysLFU, AllKeysRandom, VolatileLRU, VolatileTTL}
		s := Settings{MemoryLimit: 8 << 10, Eviction: pick(choose, policies)}
		w.configure(s)
		kept := 0 // bytes without a deadline
		for i := range 150 {
			w.now += int64(choose(5))
			size := 1 + choose(800)
			value, key := strings.Repeat("v", size), fmt.Sprint("k", choose(60))
			timed := func(args ...string) []string { return append(args, "PX", "100000") }
			task := w.task(pick(choose, [][]string{
				timed("SET", key, value), timed("SET", fmt.Sprint("new", i), value),
				{"HSET", "h" + key, "a", value, "b", value, "c", "d"}, {"ZADD", "z" + key, "1", value, "2", "b"},
				{"SESSION.CREATE", "s" + key, `"` + value + `"`, "USER", "u", "IDLE", "100000"},
			}))
			task.DB = choose(2)
			got := show(w.lead(task))
			if used := w.used(); used > s.MemoryLimit {
				t.Fatalf("%d bytes after %.30q, the limit is %d", used, task.Calls[0].Args, s.MemoryLimit)
			}
			if strings.Contains(got, "OOM") && !s.Eviction.volatile() {
				t.Fatalf("%.30q was refused", task.Calls[0].Args)
			}
			if s.Eviction.volatile() {
				n := 0
				for _, k := range w.p.caches[testCache].dbs {
					if k != nil {
						n += k.table.Len() - k.table.Timed()
					}
				}
				if n < kept {
					t.Fatalf("%s touched an item without a deadline", s.Eviction)
				}
				kept = n
			}
		}
		if s, _ := w.p.Stats(neighbour); s.Items != 20 || s.Evicted != 0 {
			t.Fatalf("a neighbour suffered: %+v", s)
		}
	})
}

// TestRoomForAWholeTask: a batch that Relieve made room for is not refused half way.
func TestRoomForAWholeTask(t *testing.T) {
	w := newWorld(t)
	w.configure(Settings{MemoryLimit: 64 << 10})
	for i := range 500 {
		w.put("SET", fmt.Sprint("old", i), strings.Repeat("v", 100))
	}
	var batch [][]string
	for i := range 50 {
		batch = append(batch, []string{"SET", fmt.Sprint("new", i), strings.Repeat("v", i)}, []string{"HSET", fmt.Sprint("h", i), "", ""},
			[]string{"SESSION.CREATE", fmt.Sprint("s", i), "1", "USER", fmt.Sprint("u", i)})
	}
	for i := range 5 {
		batch = append(batch, []string{"ZADD", fmt.Sprint("z", i), "1", ""})
	}
	task := w.task(batch...)
	task.Atomic = true
	if got := show(w.lead(task)); strings.Contains(got, "error") {
		t.Errorf("refused: %s", got[strings.Index(got, "(error"):])
	}
}

// TestPoliciesChooseTheirVictim from so few items that the draw sees all of them.
// TestNothingGoesForWhatNeverFits: a write that the whole cache has no room for costs nobody their place.
func TestNothingGoesForWhatNeverFits(t *testing.T) {
	w := newWorld(t)
	w.configure(Settings{MemoryLimit: 64 << 10})
	for i := range 20 {
		w.put("SET", fmt.Sprint("k", i), strings.Repeat("v", 1000))
	}
	huge := []string{"SET", "huge", strings.Repeat("v", 60<<10)}
	const full = "(error) OOM command not allowed when used memory > 'maxmemory'."
	if got := w.put(huge...); got != full {
		t.Errorf("a value of nearly the limit: %s", got)
	}
	if got := w.put("SET", "k3", huge[2]); got != full {
		t.Errorf("the same under a key that exists: %s", got)
	}
	w.now++
	task := w.task([]string{"SET", "small", "v"}, huge)
	task.Atomic = true
	w.lead(task)
	if s, _ := w.p.Stats(testCache); s.Items != 20 || s.Evicted != 0 {
		t.Errorf("%d items are left, %d were evicted", s.Items, s.Evicted)
	}
	task = w.task([]string{"SET", "small", "v"}, huge)
	if got := show(w.lead(task)); got != "OK\n"+full {
		t.Errorf("beside one that fits: %s", got)
	}
	if s, _ := w.p.Stats(testCache); s.Items != 21 || s.Evicted != 0 {
		t.Errorf("%d items are left, %d were evicted", s.Items, s.Evicted)
	}
}

func TestPoliciesChooseTheirVictim(t *testing.T) {
	for _, c := range []struct {
		policy EvictionPolicy
		victim string
	}{
		{AllKeysLRU, "often"},
		{AllKeysLFU, "last"},
		{VolatileLRU, "soon"},
		{VolatileLFU, "last"},
		{VolatileTTL, "soon"},
	} {
		w := newWorld(t)
		value := strings.Repeat("v", 300)
		w.put("SET", "often", value)
		w.put("SET", "soon", value, "PX", "50000")
		w.put("SET", "last", value, "PX", "90000")
		for range 9 {
			w.do("GET", "often")
		}
		w.now += 10
		for range 5 {
			w.do("GET", "soon")
		}
		w.now += 10
		w.do("GET", "last")
		w.now += 10
		w.configure(Settings{MemoryLimit: w.used(), Eviction: c.policy})
		relief := w.p.Relieve(w.now, 1, w.task([]string{"SET", "new", ""}))
		if relief == nil || len(relief.Calls) != 1 || string(relief.Calls[0].Args[2]) != c.victim {
			t.Errorf("%s: %v, want %s", c.policy, relief, c.victim)
		}
	}
	// Whatever the policy, what has expired goes first.
	w := newWorld(t)
	w.put("SET", "used", strings.Repeat("v", 300))
	w.put("SET", "over", strings.Repeat("v", 300), "PX", "1")
	w.now++
	w.configure(Settings{MemoryLimit: w.used(), Eviction: AllKeysLRU})
	if relief := w.p.Relieve(w.now, 1, w.task([]string{"SET", "new", ""})); len(relief.Calls) != 1 || string(relief.Calls[0].Args[2]) != "over" {
		t.Error("a live item was chosen before an expired one")
	}
}

// TestVolatileItemsAreFoundAmongMany that may not be touched.
func TestVolatileItemsAreFoundAmongMany(t *testing.T) {
	w := newWorld(t)
	var tasks []*Task
	for i := range 20_000 {
		tasks = append(tasks, w.task([]string{"SET", fmt.Sprint("fixed", i), "v"}))
	}
	tasks = append(tasks, w.task([]string{"SET", "timed", "v", "PX", "1000"}))
	w.apply(tasks...)
	w.configure(Settings{MemoryLimit: w.used(), Eviction: VolatileRandom})
	relief := w.p.Relieve(w.now, 1, w.task([]string{"SET", "k", ""}))
	if relief == nil || string(relief.Calls[0].Args[2]) != "timed" {
		t.Errorf("%v", relief)
	}
}

// hitRatio plays a trace against a cache with room for about so many small items.
func hitRatio(t *testing.T, policy EvictionPolicy, room int, trace []string) float64 {
	w := newWorld(t)
	w.configure(Settings{MemoryLimit: int64(room) * 230, Eviction: policy})
	hits := 0
	for _, key := range trace {
		w.now++
		get := w.task([]string{"GET", key})
		w.p.Query(w.now, 0, get)
		if show(get.Reply.(*Recording)) != "(nil)" {
			hits++
			continue
		}
		set := w.task([]string{"SET", key, "v"})
		w.seed++
		e := &Entry{Now: w.now, Seed: w.seed, Tasks: []*Task{set}}
		if relief := w.p.Relieve(w.now, w.seed, set); relief != nil {
			e.Tasks = []*Task{relief, set}
		}
		w.p.Apply(e)
	}
	if err := w.p.check(); err != nil {
		t.Fatal(err)
	}
	return float64(hits) / float64(len(trace))
}

// TestAdaptivePolicyResistsScans on small traces: it keeps a working set through scans that sweep LRU clean,
// and lets go of one that is out of use.
func TestAdaptivePolicyResistsScans(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 2))
	hot := func(trace []string, set string, n int) []string {
		for range n {
			trace = append(trace, fmt.Sprint(set, int(50*dice.Float64()*dice.Float64())))
		}
		return trace
	}
	var scans []string // a working set of 50, and scans of 200 that pass through once
	for round := range 40 {
		scans = hot(scans, "hot", 100)
		for i := range 200 {
			scans = append(scans, fmt.Sprintf("cold%d.%d", round, i))
		}
	}
	best := 100.0 / 300 * (1 - 50.0/4000)
	lru, adaptive := hitRatio(t, AllKeysLRU, 100, scans), hitRatio(t, AllKeysAdaptive, 100, scans)
	t.Logf("scans: LRU %.3f, adaptive %.3f, at best about %.3f", lru, adaptive, best)
	if adaptive < 0.9*best || adaptive < lru {
		t.Errorf("scans: adaptive %.3f, LRU %.3f, at best about %.3f", adaptive, lru, best)
	}

	var shift []string // what is hot changes for good
	for _, set := range []string{"a", "b", "c", "d"} {
		shift = hot(shift, set, 3000)
	}
	lru, adaptive = hitRatio(t, AllKeysLRU, 60, shift), hitRatio(t, AllKeysAdaptive, 60, shift)
	t.Logf("shifts: LRU %.3f, adaptive %.3f", lru, adaptive)
	if adaptive < 0.95*lru {
		t.Errorf("shifts: adaptive %.3f, LRU %.3f", adaptive, lru)
	}
}

// TestVolatileEvictionTakesTheOldest where all have deadlines: least recently used under volatile-lru, soonest due under
// volatile-ttl.
func TestVolatileEvictionTakesTheOldest(t *testing.T) {
	for _, policy := range []EvictionPolicy{VolatileLRU, VolatileTTL} {
		w := newWorld(t)
		w.configure(Settings{MemoryLimit: 200_000, Eviction: policy})
		const n = 8000
		for i := range n {
			w.now++
			set := w.task([]string{"SET", fmt.Sprint("k", i), "v", "PX", fmt.Sprint(100_000_000 + 1000*i)})
			e := &Entry{Now: w.now, Seed: uint64(i), Tasks: []*Task{set}}
			if relief := w.p.Relieve(w.now, uint64(i), set); relief != nil {
				e.Tasks = []*Task{relief, set}
			}
			w.p.Apply(e)
		}
		var old, late int
		for i := range n {
			if w.do("EXISTS", fmt.Sprint("k", i)) == "1" {
				if i < n/4 {
					old++
				} else if i >= n*3/4 {
					late++
				}
			}
		}
		if old > n/40 || late < n/4*9/10 {
			t.Errorf("%s: of the first %d are left %d, of the last %d", policy, n/4, old, late)
		}
	}
}
