package courtesy

import (
	"runtime"
	"syscall"
)

// giveWay lets goroutines and threads that are ready go first: a goroutine that has no P, and a thread of this or another
// process on this processor.
func giveWay() {
	runtime.Gosched()
	_, _, _ = syscall.Syscall(syscall.SYS_SCHED_YIELD, 0, 0, 0)
}
