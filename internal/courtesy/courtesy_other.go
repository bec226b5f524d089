//go:build !linux

package courtesy

import (
	"runtime"
	"time"
)

// pause waits.
func pause(d time.Duration) { time.Sleep(d) }

// giveWay lets goroutines that are ready go first.
func giveWay() { runtime.Gosched() }
