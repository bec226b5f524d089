package courtesy

import (
	"fmt"
	"time"
)

// Background carries out steps until one says that there are no more, on a thread that runs only when nothing else on the machine
// wants to: a request's thread that wakes up there need not wait for the end of a slice, nor of a step. Where the machine is so
// busy that the thread gets next to nothing, the work takes its fair share every other second.
//
// It is for processes that only work. In one that serves, the garbage collector would have to wait for such a thread now and then,
// and so would everybody. A step is milliseconds at the most, but may wait for others for as long as it likes. Where the system has no such threads, steps are as
// any other work.
func Background(step func() (more bool)) {
	for more := true; more; {
		if more = idle(step); more {
			more = fairly(step)
		}
	}
}

// turn is for how long the work is fair, and how long it may get nothing before.
const turn = time.Second

// fairly carries out steps for a turn on any thread.
func fairly(step func() bool) (more bool) {
	for began := time.Now(); time.Since(began) < turn; {
		if !step() {
			return false
		}
	}
	return true
}

// hunger tells whether a thread gets next to nothing of the processors. The zero value knows nothing yet.
type hunger struct {
	looked      time.Time
	ran, waited time.Duration
}

// lookEvery is how often it is looked at the most.
const lookEvery = turn / 4

// A thread starves that waited for half a turn at least, and hungry times as long as it ran.
const hungry = 8

// grows is told what the kernel says of the thread: for how long it ran so far, and waited for a processor.
func (h *hunger) grows(schedstat string) (starves bool) {
	var ran, waited time.Duration
	if _, err := fmt.Sscan(schedstat, &ran, &waited); err != nil {
		return false
	}
	if h.ran == 0 && h.waited == 0 {
		h.ran, h.waited = ran, waited
		return false
	}
	if waited-h.waited < turn/2 {
		return false
	}
	starves = waited-h.waited > hungry*(ran-h.ran)
	h.ran, h.waited = ran, waited
	return starves
}
