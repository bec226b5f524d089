//go:build !linux

package aside

import "os"

func self() (string, error) { return os.Executable() }

func pipe() (r, w *os.File, err error) { return os.Pipe() }
