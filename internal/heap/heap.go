// Package heap keeps the garbage collector of a small process from running all the time.
//
// Go collects when the heap has grown by as much as was live after the last collection. A server that holds
// little and answers much then collects many times a second, for nothing. Headroom sets a floor: between two
// collections the heap may always grow by a fixed number of bytes. Once more than that is live, Go's own rule
// holds again, so a full process does not take more memory than it would anyway.
package heap

import (
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// usual is Go's own setting: collect when the heap has doubled.
const usual = 100

// A sentinel is garbage from the moment it is made: its finalizer runs after each collection.
type sentinel struct{ h *headroom }

type headroom struct {
	bytes   uint64
	percent int
	stopped atomic.Bool
}

// Headroom lets the heap grow by at least bytes between collections, until stop is called. One call serves a
// process.
func Headroom(bytes uint64) (stop func()) {
	h := &headroom{bytes: bytes, percent: usual}
	h.adjust(live())
	h.watch()
	return func() {
		h.stopped.Store(true)
		debug.SetGCPercent(usual)
	}
}

func (h *headroom) watch() {
	runtime.SetFinalizer(&sentinel{h}, func(s *sentinel) {
		if s.h.stopped.Load() {
			return
		}
		s.h.adjust(live())
		s.h.watch()
	})
}

// adjust sets the percentage anew where it is off by more than a quarter: each setting stops the world for a
// moment.
func (h *headroom) adjust(live uint64) {
	want := percent(h.bytes, live)
	if want == h.percent || (want > usual && math.Abs(float64(want-h.percent)) < float64(h.percent)/4) {
		return
	}
	h.percent = want
	debug.SetGCPercent(want)
}

// percent is by how much the heap may grow, in percent of what is live.
func percent(bytes, live uint64) int {
	const most = 5000 // a heap that is almost empty now may fill at once
	return int(min(max(bytes*100/max(live, 1), usual), most))
}

// live is what the last collection found alive, in bytes.
func live() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
