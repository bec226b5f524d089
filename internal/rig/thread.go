package rig

import "runtime"

// lockThread keeps this goroutine's thread for itself until the goroutine ends.
func lockThread() { runtime.LockOSThread() }
