//go:build !linux

package wal

import "os"

// allocate makes a file as long as that. There may be no room for it yet.
func allocate(f *os.File, room int64) error { return f.Truncate(room) }
