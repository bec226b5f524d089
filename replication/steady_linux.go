package replication

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// steadyTime counts while the machine sleeps, too: see lease.go.
func steadyTime() time.Duration {
	var t unix.Timespec
	// It does not wait, so the scheduler need not know of it.
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		panic(errno) // every Linux since 2.6.39 has it
	}
	return time.Duration(t.Nano())
}
