//go:build !linux

package main

import "time"

var born = time.Now()

// cpuTime is the time that passes, with what others have of it.
func cpuTime() time.Duration { return time.Since(born) }
