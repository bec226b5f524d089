package peerlink

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// A brisk is a TCP connection whose system calls are not announced to Go's scheduler. They do not wait, so it need not know; and each
// that is announced wakes up its monitor in a process that has just been idle, which then looks around every twenty microseconds for
// a while: with one small message after another, a fifth of the process's time.
type brisk struct {
	net.Conn
	raw      syscall.RawConn
	get, put func(fd uintptr) bool // read and write for raw, without an allocation each

	reads sync.Mutex // held by who reads
	in    transfer

	writes sync.Mutex // held by who writes
	out    transfer
	once   bool // put does not wait for room
}

// passed orders memory as the bytes do that go from one end of a connection to the other: both may be in this process. Package
// syscall does the same for its calls when races are looked for.
var passed atomic.Uint32

// A transfer is what a system call is to do, and has done.
type transfer struct {
	b     []byte
	n     int
	errno syscall.Errno
}

// newBrisk returns a connection that is brisk if it can be.
func newBrisk(conn net.Conn) net.Conn {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return conn
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return conn // it has ended, as whoever uses it will find
	}
	c := &brisk{Conn: conn, raw: raw}
	c.get, c.put = c.getSome, c.putAll
	return c
}

// getSome reads once, and reports whether there was something.
func (c *brisk) getSome(fd uintptr) bool {
	t := &c.in
	for {
		n, _, errno := syscall.RawSyscall(syscall.SYS_READ, fd, uintptr(unsafe.Pointer(&t.b[0])), uintptr(len(t.b)))
		if errno == syscall.EINTR {
			continue
		}
		t.n, t.errno = int(n), errno
		return errno != syscall.EAGAIN
	}
}

// putAll writes what the socket takes, and reports whether that is all there is to do.
func (c *brisk) putAll(fd uintptr) bool {
	t := &c.out
	for t.n < len(t.b) {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, fd, uintptr(unsafe.Pointer(&t.b[t.n])), uintptr(len(t.b)-t.n))
		switch errno {
		case 0:
			t.n += int(n)
		case syscall.EINTR:
		case syscall.EAGAIN:
			return c.once
		default:
			t.errno = errno
			return true
		}
	}
	return true
}

// Read implements net.Conn.
func (c *brisk) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.reads.Lock()
	defer c.reads.Unlock()
	c.in = transfer{b: b}
	err := c.raw.Read(c.get)
	passed.Load()
	t := c.in
	c.in.b = nil
	switch {
	case err != nil:
		return 0, err
	case t.errno != 0:
		return 0, t.errno
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write implements net.Conn.
func (c *brisk) Write(b []byte) (int, error) { return c.write(b, false) }

// tryWrite writes as much as the socket takes at once.
func (c *brisk) tryWrite(b []byte) (int, error) { return c.write(b, true) }

func (c *brisk) write(b []byte, once bool) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.writes.Lock()
	defer c.writes.Unlock()
	c.out, c.once = transfer{b: b}, once
	passed.Add(1)
	err := c.raw.Write(c.put)
	t := c.out
	c.out.b = nil
	if err == nil && t.errno != 0 {
		err = t.errno
	}
	return t.n, err
}
