package replication

import "time"

// A Clock tells the time of day in milliseconds since 1970.
type Clock interface{ Now() int64 }

// SteadyClock starts at the system's time and then runs on by itself: setting the system's clock forwards or
// back neither kills what lives nor keeps what should die.
type SteadyClock struct{ start time.Time }

// NewSteadyClock starts a clock.
func NewSteadyClock() SteadyClock { return SteadyClock{time.Now()} }

// Now implements Clock.
func (c SteadyClock) Now() int64 { return c.start.Add(time.Since(c.start)).UnixMilli() }
