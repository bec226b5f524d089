package aside

import (
	"os"

	"golang.org/x/sys/unix"
)

// self is this program, also when its file has been replaced since.
func self() (string, error) { return "/proc/self/exe", nil }

// pipeBytes is how much lies in a pipe, where that may be asked for: so much that the two processes wake each other seldom.
const pipeBytes = 1 << 20

func pipe() (r, w *os.File, err error) {
	if r, w, err = os.Pipe(); err == nil {
		if c, err := w.SyscallConn(); err == nil {
			_ = c.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) }) // it works with less
		}
	}
	return r, w, err
}
