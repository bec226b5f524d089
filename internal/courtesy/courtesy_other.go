//go:build !linux

package courtesy

import "runtime"

// giveWay lets goroutines that are ready go first.
func giveWay() { runtime.Gosched() }
