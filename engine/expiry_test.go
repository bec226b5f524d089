package engine

import (
	"fmt"
	"testing"
)

// TestSweepStaysInItsBudget and takes the oldest first.
func TestSweepStaysInItsBudget(t *testing.T) {
	w := newWorld(t)
	if w.do("SET", "stays", "v"); w.p.Timed() {
		t.Error("nothing will expire, and it has to be looked at")
	}
	w.do("DEL", "stays")
	for i := range 100 {
		w.do("SET", fmt.Sprint(i), "v", "PX", fmt.Sprint(200-i))
	}
	if !w.p.Timed() {
		t.Error("what will expire is not to be looked at")
	}
	if w.p.Due(w.now) || w.p.Sweep(w.now+100, 1000) != nil {
		t.Error("something is due too early")
	}
	w.now += 200
	if !w.p.Due(w.now) {
		t.Error("nothing is due")
	}
	for left := 100; left > 0; left -= 30 {
		if got, want := w.sweep(30), fmt.Sprint(min(30, left)); got != want {
			t.Fatalf("swept %s, want %s", got, want)
		}
		k := w.p.caches[testCache].dbs[0]
		if k.table.Len() != max(0, left-30) || (left > 30 && k.find([]byte("0")) == nil) {
			t.Fatal("the oldest deadlines should go first")
		}
	}
	if w.p.Due(w.now) || w.p.Timed() {
		t.Error("something is still due")
	}
}
