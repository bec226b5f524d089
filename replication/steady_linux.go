package replication

import (
	"time"

	"golang.org/x/sys/unix"
)

// steadyTime counts while the machine sleeps, too: see lease.go.
func steadyTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		panic(err) // every Linux since 2.6.39 has it
	}
	return time.Duration(t.Nano())
}
