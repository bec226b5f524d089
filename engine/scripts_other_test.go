//go:build !linux

package engine

import "time"

var began = time.Now()

// threadTime is about how long this thread has had a processor.
func threadTime() time.Duration { return time.Since(began) }
