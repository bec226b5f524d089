package peerlink

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// System calls that do not wait need not be announced to Go's scheduler. Each that is wakes up its monitor in a process that has just
// been idle, which then looks around every twenty microseconds: with one small message after another, a fifth of the process's time.

// tryWrite writes as much as a socket takes at once.
func tryWrite(raw syscall.RawConn, b []byte) (n int, err error) {
	if raw == nil || len(b) == 0 {
		return 0, nil
	}
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		for n < len(b) {
			m, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&b[n])), uintptr(len(b)-n))
			switch {
			case errno == syscall.EINTR:
				continue
			case errno == syscall.EAGAIN:
				return true
			case errno != 0:
				failed = errno
				return true
			}
			n += int(m)
		}
		return true
	})
	if failed != nil {
		err = failed
	}
	return n, err
}

// An inlet reads from a socket.
type inlet struct {
	net.Conn
	raw   syscall.RawConn
	try   func(fd uintptr) bool
	room  []byte // of try, as what follows
	n     int
	errno syscall.Errno
}

// newInlet returns a connection that is read from by one goroutine at a time.
func newInlet(conn net.Conn) net.Conn {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return conn
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return conn // it has ended, as whoever reads will find
	}
	i := &inlet{Conn: conn, raw: raw}
	i.try = func(fd uintptr) bool {
		for {
			n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&i.room[0])), uintptr(len(i.room)))
			if errno == syscall.EINTR {
				continue
			}
			i.n, i.errno = int(n), errno
			return errno != syscall.EAGAIN
		}
	}
	return i
}

// Read implements net.Conn.
func (i *inlet) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	i.room = b
	err := i.raw.Read(i.try)
	i.room = nil
	switch {
	case err != nil:
		return 0, err
	case i.errno != 0:
		return 0, i.errno
	case i.n == 0:
		return 0, io.EOF
	}
	return i.n, nil
}
