//go:build unix

package main

import (
	"os"
	"syscall"
)

// flock locks f for this process until it is closed, or fails at once when another has it.
func flock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
