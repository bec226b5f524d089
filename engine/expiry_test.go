package engine

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestModelDeadlines compares the heap with a map: the top is always one of the earliest.
func TestModelDeadlines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var d deadlines
		items, model := make([]*item, 12), map[*item]int64{}
		for i := range items {
			items[i] = &item{key: fmt.Sprint(i), due: -1}
		}
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			it := items[rapid.IntRange(0, len(items)-1).Draw(t, "item")]
			at := rapid.Int64Range(0, 8).Draw(t, "at")
			d.set(it, at)
			model[it] = at
			if at == 0 {
				delete(model, it)
			}
			if len(d) != len(model) {
				t.Fatalf("%d items, want %d", len(d), len(model))
			}
			for i, it := range d {
				if it.due != i {
					t.Fatalf("D1: %s thinks it is at %d, stands at %d", it.key, it.due, i)
				}
				if it.expireAt != model[it] {
					t.Fatalf("%s expires at %d, want %d", it.key, it.expireAt, model[it])
				}
				if it.expireAt < d[0].expireAt || it.expireAt < d[max(0, i-1)/2].expireAt {
					t.Fatalf("D2: %s at %d expires before its parent", it.key, i)
				}
			}
		}
	})
}

// TestSweepStaysInItsBudget and takes the oldest first.
func TestSweepStaysInItsBudget(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.do("SET", fmt.Sprint(i), "v", "PX", fmt.Sprint(200-i))
	}
	if w.p.Due(w.now + 100) {
		t.Error("something is due too early")
	}
	w.now += 200
	if !w.p.Due(w.now) {
		t.Error("nothing is due")
	}
	for left := 100; left > 0; left -= 30 {
		task := SweepTask(30)
		task.Reply = &Recording{}
		w.apply(task)
		if got, want := show(task.Reply.(*Recording)), fmt.Sprint(min(30, left)); got != want {
			t.Fatalf("swept %s, want %s", got, want)
		}
		k := w.p.caches[testCache].dbs[0]
		if k.table.len() != max(0, left-30) || (left > 30 && k.find([]byte("0")) == nil) {
			t.Fatal("the oldest deadlines should go first")
		}
	}
	if w.p.Due(w.now) {
		t.Error("something is still due")
	}
}
