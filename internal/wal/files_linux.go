package wal

import (
	"errors"
	"os"
	"syscall"
)

// allocate gives a file room on the disk, so that what is written later finds it and changes no more than the contents.
func allocate(f *os.File, room int64) error {
	err := ignoringEINTR(func() error { return syscall.Fallocate(int(f.Fd()), 0, 0, room) })
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return f.Truncate(room)
	}
	return err
}

// Sync implements File: the data, and what is needed to find it again.
func (f osFile) Sync() error {
	return ignoringEINTR(func() error { return syscall.Fdatasync(int(f.Fd())) })
}

func ignoringEINTR(fn func() error) error {
	for {
		if err := fn(); err != syscall.EINTR {
			return err
		}
	}
}
