//go:build !linux

package courtesy

import "time"

// pause waits.
func pause(d time.Duration) { time.Sleep(d) }

// giveWay does nothing: there is no cheap way.
func giveWay() {}
