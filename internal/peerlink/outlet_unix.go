//go:build unix

package peerlink

import "syscall"

// tryWrite writes as much as a socket takes at once.
func tryWrite(raw syscall.RawConn, b []byte) (n int, err error) {
	if raw == nil || len(b) == 0 {
		return 0, nil
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for n < len(b) {
			m, err := syscall.Write(int(fd), b[n:])
			switch {
			case err == syscall.EINTR:
				continue
			case err == syscall.EAGAIN:
				return true
			case err != nil:
				failed = err
				return true
			}
			n += m
		}
		return true
	})
	if failed != nil {
		err = failed
	}
	return n, err
}
