package engine

import (
	"testing"

	"pgregory.net/rapid"
)

// TestUndoneTasksNeverHappened: after an atomic task that failed at its last call, the partition answers
// everything, for good, as one does that never saw the task; and so do its books.
func TestUndoneTasksNeverHappened(t *testing.T) {
	commands := Commands()
	rapid.Check(t, func(t *rapid.T) {
		w, choose := newWorld(t), chance(t)
		plain := newWorld(t)
		for range 30 {
			w.now += int64(choose(20))
			plain.now = w.now
			task := someTask(choose, commands, 5)
			twin := &Task{Cache: task.Cache, DB: task.DB, Calls: task.Calls, Reply: &Recording{}}
			w.apply(task)
			plain.apply(twin)
			if a, b := show(task.Reply.(*Recording)), show(twin.Reply.(*Recording)); a != b && !layoutShows(task) {
				t.Fatalf("answers differ: %s, not %s\n%s", a, b, describe(task))
			}
			if w.p.Digest() != plain.p.Digest() {
				t.Fatalf("states differ after\n%s", describe(task))
			}

			undone := someTask(choose, commands, 8)
			failing := Call{Command: MustLookup("GET"), Args: [][]byte{[]byte("GET")}}
			undone.Calls, undone.Atomic = append(undone.Calls, failing), true
			before, digest := w.p.caches[testCache].used, w.p.Digest()
			w.apply(undone)
			if undone.Failed < 0 {
				t.Fatal("the task did not fail")
			}
			if err := wellFormed(undone.Reply.(*Recording), undone.Failed+1); err != nil {
				t.Fatalf("%v\n%s", err, describe(undone))
			}
			if w.p.Digest() != digest {
				t.Fatalf("undone, but the state is another:\n%s", describe(undone))
			}
			if after := w.p.caches[testCache].used; after != before {
				t.Fatalf("%d bytes are accounted, not %d:\n%s", after, before, describe(undone))
			}
			plain.seed = w.seed
		}
	})
}

// layoutShows reports whether a task has a command whose answer depends on the layout of a table or on notes
// of use, which are no part of the state.
func layoutShows(t *Task) bool {
	for _, c := range t.Calls {
		if c.Command.Name == "RANDOMKEY" || c.Command.Name == "OBJECT" {
			return true
		}
	}
	return false
}

// TestUndoneTasksGiveTheirVersionsBack: an ETag that nobody saw is free again.
func TestUndoneTasksGiveTheirVersionsBack(t *testing.T) {
	w := newWorld(t)
	before := w.p.version
	task := w.task([]string{"SET", "k", "v"}, []string{"GET"})
	task.Atomic = true
	w.apply(task)
	if w.p.version != before {
		t.Errorf("version %d, want %d", w.p.version, before)
	}
}
