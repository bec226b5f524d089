package courtesy

import (
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// idle carries out steps on an idle thread until there are no more, or it starves. A thread that has become idle stays so, and
// ends with its goroutine.
func idle(step func() bool) (more bool) {
	done := make(chan bool, 1)
	go func() {
		runtime.LockOSThread() // and never unlocks it: no other goroutine gets the thread
		done <- idly(step)
	}()
	return <-done
}

func idly(step func() bool) (more bool) {
	stat, err := os.Open("/proc/thread-self/schedstat")
	if err != nil { // nobody would notice that it starves
		return true
	}
	defer func() { _ = stat.Close() }() // it was read
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_IDLE}
	if err := unix.SchedSetAttr(0, &attr, 0); err != nil {
		return true
	}
	var h hunger
	b := make([]byte, 128)
	for step() {
		if now := time.Now(); now.Sub(h.looked) >= lookEvery {
			h.looked = now
			if n, _ := stat.ReadAt(b, 0); h.grows(string(b[:n])) {
				return true
			}
		}
	}
	return false
}
