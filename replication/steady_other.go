//go:build !linux

package replication

import "time"

var steadyStart = time.Now()

// steadyTime is the runtime's monotonic clock: where that stands still while the machine sleeps, a leader that wakes up may
// answer reads for what was left of its lease.
func steadyTime() time.Duration { return time.Since(steadyStart) }
