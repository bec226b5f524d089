package heap

import (
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestPercent(t *testing.T) {
	tests := []struct {
		name        string
		bytes, live uint64
		want        int
	}{
		{"an empty heap", 64 << 20, 0, 5000},
		{"a small heap", 64 << 20, 16 << 20, 400},
		{"as much live as headroom", 64 << 20, 64 << 20, 100},
		{"more live than headroom", 64 << 20, 1 << 40, 100},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := percent(tt.bytes, tt.live); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestHeadroomFollowsTheHeapAndEnds(t *testing.T) {
	current := func() int { // SetGCPercent is the only way to ask
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	stop := Headroom(32 << 20)
	if p := current(); p <= usual {
		t.Errorf("a small heap is collected at %d%%", p)
	}
	ballast := make([]byte, 256<<20)
	for tries := 0; current() != usual; tries++ {
		if tries == 1000 {
			t.Fatalf("with 256 MiB live the heap is collected at %d%%", current())
		}
		runtime.GC()
		time.Sleep(time.Millisecond) // finalizers run on a goroutine of their own
	}
	runtime.KeepAlive(ballast)
	stop()
	if p := current(); p != usual {
		t.Errorf("after stop %d%%", p)
	}
}
