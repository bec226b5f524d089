package engine

import (
	"fmt"
	"strings"
	"testing"
)

func once(t *Task, key, print byte) *Task {
	t.Once = &Once{Key: [16]byte{key}, Fingerprint: [16]byte{print}}
	return t
}

func answer(t *Task) string { return show(t.Reply.(*Recording)) }

func TestOnceForADay(t *testing.T) {
	w := newWorld(t)
	add := []string{"HINCRBY", "h", "n", "1"}
	ask := func() string {
		task := once(w.task(add), 1, 1)
		w.apply(task)
		if task.Replayed {
			return answer(task) + " again"
		}
		return answer(task)
	}
	for _, step := range []struct {
		name string
		wait int64
		want string
	}{
		{"the first time", 0, "1"},
		{"a retry", 1, "1 again"},
		{"the last millisecond of the window", OnceWindow.Milliseconds() - 2, "1 again"},
		{"the window is over, though nothing was swept", 1, "2"},
		{"a new window has begun", OnceWindow.Milliseconds() - 1, "2 again"},
		{"and is over as well", 1, "3"},
	} {
		w.now += step.wait
		if got := ask(); got != step.want {
			t.Errorf("%s: %s, want %s", step.name, got, step.want)
		}
	}
}

func TestOnceRefusesAnotherRequest(t *testing.T) {
	w := newWorld(t)
	w.apply(once(w.task([]string{"HINCRBY", "h", "n", "1"}), 1, 1))
	two := [][]string{{"HINCRBY", "h", "n", "2"}, {"HGET", "h", "n"}}
	reused := "(error) ERR this idempotency key was used for another request within the last 24 hours"

	task := once(w.task(two...), 1, 2)
	w.apply(task)
	if got := answer(task); got != reused+"\n"+reused || task.Failed != -1 || task.Replayed {
		t.Errorf("%s, failed %d", got, task.Failed)
	}
	task = once(w.task(two...), 1, 2)
	task.Atomic = true
	w.apply(task)
	if got := answer(task); got != reused || task.Failed != 0 || task.Replayed {
		t.Errorf("atomic: %s, failed %d", got, task.Failed)
	}
	if got := w.do("HGET", "h", "n"); got != `"1"` {
		t.Errorf("n is %s", got)
	}
	other := once(w.task(two...), 1, 2)
	other.Cache = CacheID{7}
	w.p.Apply(&Entry{Now: w.now, Tasks: []*Task{ConfigureTask(CacheID{7}, Settings{}), other}})
	if got := answer(other); got != "2\n\"2\"" {
		t.Errorf("another cache has its own keys: %s", got)
	}
}

// TestOnceRemembersOnlyChanges: what failed may be tried again, with other arguments too.
func TestOnceRemembersOnlyChanges(t *testing.T) {
	w := newWorld(t)
	for _, commands := range [][][]string{
		{{"HINCRBY", "h", "n", "x"}},
		{{"GET", "k"}},
		{{"HSET", "h", "n", "7"}, {"HINCRBY", "h", "n", "x"}}, // atomic
	} {
		task := once(w.task(commands...), 1, byte(len(commands)))
		task.Atomic = len(commands) > 1
		w.apply(task)
	}
	if w.p.once.Len() != 0 {
		t.Fatal("a task that changed nothing is remembered")
	}
	// Of a batch in which only some failed, all is remembered: a retry must not repeat the rest.
	batch := [][]string{{"HINCRBY", "h", "n", "1"}, {"HINCRBY", "h", "n", "x"}}
	first, second := once(w.task(batch...), 1, 9), once(w.task(batch...), 1, 9)
	w.apply(first)
	w.apply(second)
	if answer(first) != answer(second) || !second.Replayed || w.do("HGET", "h", "n") != `"1"` {
		t.Errorf("%s, then %s", answer(first), answer(second))
	}
}

// TestOnceKeysAreAccounted, swept in a budget, and gone with their cache.
func TestOnceKeysAreAccounted(t *testing.T) {
	w := newWorld(t)
	value := strings.Repeat("v", 1000)
	w.do("SET", "k", value)
	before := w.p.caches[testCache].used
	remember := func(n byte) { w.apply(once(w.task([]string{"SET", "k", value, "GET"}), n, 0)) }
	for i := range byte(10) {
		remember(i)
		w.now++
	}
	if grown := w.p.caches[testCache].used - before; grown < 10*1000 {
		t.Errorf("10 answers of 1000 bytes take %d bytes", grown)
	}
	w.now += OnceWindow.Milliseconds()
	if !w.p.Due(w.now) || !w.p.Timed() {
		t.Error("nothing is due")
	}
	remember(3) // before its old self was swept
	w.sweep(4)
	if n := len(w.p.caches[testCache].once); n != 6 { // 0, 1, 2 and 4 went, 3 is new
		t.Errorf("%d keys are left, want 6", n)
	}
	w.sweep(100)
	if n := len(w.p.caches[testCache].once); n != 1 || w.p.Due(w.now) {
		t.Errorf("%d keys are left, want the new one", n)
	}
	w.now += OnceWindow.Milliseconds()
	w.sweep(100)
	if used := w.p.caches[testCache].used; used != before {
		t.Errorf("%d bytes are accounted, want %d", used, before)
	}

	remember(1)
	w.apply(DropTask(testCache))
	w.configure(Settings{})
	task := once(w.task([]string{"SET", "k", "v", "GET"}), 1, 1)
	w.apply(task)
	if got := answer(task); got != "(nil)" || task.Replayed {
		t.Errorf("a dropped cache remembers: %s", got)
	}
	w.now += 2 * OnceWindow.Milliseconds()
	w.sweep(100)
	if w.p.once.Len() != 0 {
		t.Error("the queue still holds tasks")
	}
}

// TestOnceLeavesRoomForTheData: idempotency keys take a part of a cache and no more, whatever its policy, and
// the oldest go first. The last one stays, however long its answer is.
func TestOnceLeavesRoomForTheData(t *testing.T) {
	for _, policy := range []EvictionPolicy{AllKeysAdaptive, NoEviction, VolatileTTL} {
		const limit = 256 << 10
		w := newWorld(t)
		w.configure(Settings{MemoryLimit: limit, Eviction: policy})
		for i := range 50 {
			w.put("SET", fmt.Sprint("k", i), strings.Repeat("v", 1000))
		}
		key := func(i int) *Once { return &Once{Key: [16]byte{byte(i >> 8), byte(i)}} }
		ask := func(i int) *Task {
			task := w.task([]string{"HINCRBY", "h", "n", "1"})
			task.Once = key(i)
			w.lead(task)
			w.now++
			return task
		}
		for i := range 2000 {
			if got := answer(ask(i)); got != fmt.Sprint(i+1) {
				t.Fatalf("%v: request %d answers %s", policy, i, got)
			}
		}
		if c := w.p.caches[testCache]; c.remembers > limit/onceShare || c.remembers < limit/onceShare/2 {
			t.Errorf("%v: %d bytes are remembered, want at most %d", policy, c.remembers, limit/onceShare)
		}
		if s, _ := w.p.Stats(testCache); s.Items != 51 || s.Evicted != 0 {
			t.Errorf("%v: %d items are left, %d were evicted", policy, s.Items, s.Evicted)
		}
		if again := ask(1900); !again.Replayed || answer(again) != "1901" {
			t.Errorf("%v: a young key was forgotten: %s", policy, answer(again))
		}
		if old := ask(0); old.Replayed {
			t.Errorf("%v: the oldest key is still remembered", policy)
		}
		long := func() *Task {
			task := w.task([]string{"SETRANGE", "long", "0", strings.Repeat("l", limit/onceShare+1000)}, []string{"GETRANGE", "long", "0", "-1"})
			task.Once, task.Atomic = key(5000), true
			w.lead(task)
			return task
		}
		long()
		if again := long(); !again.Replayed {
			t.Errorf("%v: an answer longer than the share was forgotten at once", policy)
		}
		if err := w.p.check(); err != nil {
			t.Error(err)
		}
	}
}

// TestOnceTellsDigestsApart: replicas must agree on what they remember.
func TestOnceTellsDigestsApart(t *testing.T) {
	seen := map[string]string{}
	for name, tasks := range map[string]func(w *world) []*Task{
		"nothing remembered": func(w *world) []*Task { return []*Task{w.task([]string{"HSET", "h", "a", "1"})} },
		"key 1":              func(w *world) []*Task { return []*Task{once(w.task([]string{"HSET", "h", "a", "1"}), 1, 0)} },
		"key 2":              func(w *world) []*Task { return []*Task{once(w.task([]string{"HSET", "h", "a", "1"}), 2, 0)} },
		"key 1, other print": func(w *world) []*Task { return []*Task{once(w.task([]string{"HSET", "h", "a", "1"}), 1, 1)} },
		"other settings": func(w *world) []*Task {
			return []*Task{w.task([]string{"HSET", "h", "a", "1"}), ConfigureTask(testCache, Settings{DefaultTTL: 5})}
		},
	} {
		w := newWorld(t)
		w.apply(tasks(w)...)
		digest := fmt.Sprintf("%x", w.p.Digest())
		if other, ok := seen[digest]; ok {
			t.Errorf("%q and %q have the same digest", name, other)
		}
		seen[digest] = name
	}
}
