package wire

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// A bed is where a loop sleeps. It has the loop's epoll from when it is made, and closes it, also when that fails.
type bed interface {
	// sleep returns how many events there are once there are some, or 0 when it was rung for.
	sleep() (n int, err error)
	// ring ends a sleep, from any goroutine: the one under way, or else the next.
	ring()
	close()
}

// An ownBed is the kernel's: the loop's thread sleeps with it, which takes one system call. Nothing else has to run on it before
// Go's scheduler notices, so it is for processes where loops do nearly all of the work.
type ownBed struct {
	l    *loop
	mu   sync.Mutex // held while it rings, so that bell is not closed, and its number another file's, at that moment
	bell int        // eventfd; -1 when there is none any more
}

const edgeTriggered = 1 << 31 // EPOLLET, which package syscall has as a negative number

// bellSlot is what epoll knows the bell by: no connection has that number.
const bellSlot = -1

func newOwnBed(l *loop) (bed, error) {
	bell, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return nil, errors.Join(os.NewSyscallError("eventfd2", errno), syscall.Close(l.poll))
	}
	b := &ownBed{l: l, bell: int(bell)}
	// Edge-triggered, it need not be read: each ring is an event.
	if err := syscall.EpollCtl(l.poll, syscall.EPOLL_CTL_ADD, b.bell, &syscall.EpollEvent{Events: syscall.EPOLLIN | edgeTriggered, Fd: bellSlot}); err != nil {
		return nil, errors.Join(os.NewSyscallError("epoll_ctl", err), syscall.Close(b.bell), syscall.Close(l.poll))
	}
	return b, nil
}

func (b *ownBed) sleep() (n int, err error) {
	n, err = syscall.EpollWait(b.l.poll, b.l.event, -1)
	if err == syscall.EINTR {
		return 0, nil
	}
	return max(n, 0), err
}

func (b *ownBed) ring() {
	b.mu.Lock() // hardly anybody else is here: the first to ring wakes the loop up
	defer b.mu.Unlock()
	if b.bell >= 0 {
		one := uint64(1)
		_, _, _ = syscall.RawSyscall(syscall.SYS_WRITE, uintptr(b.bell), uintptr(unsafe.Pointer(&one)), 8) // a full counter rings as well
	}
}

func (b *ownBed) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	_ = syscall.Close(b.l.poll)
	_ = syscall.Close(b.bell)
	b.bell = -1
}

// A sharedBed is Go's own poller, which watches over the loop's: while the loop sleeps its thread serves other goroutines at once,
// and to ring takes no system call. To fall asleep and to wake up takes three instead of one.
type sharedBed struct {
	l     *loop
	file  *os.File // epoll
	wait  func(func(fd uintptr) bool) error
	look  func(fd uintptr) bool // finds events for wait, without waiting
	found int                   // events that it found
}

func newSharedBed(l *loop) (bed, error) {
	if err := syscall.SetNonblock(l.poll, true); err != nil { // says that Go may wait for it
		return nil, errors.Join(os.NewSyscallError("fcntl", err), syscall.Close(l.poll))
	}
	b := &sharedBed{l: l, file: os.NewFile(uintptr(l.poll), "epoll")}
	raw, err := b.file.SyscallConn()
	if err == nil {
		err = b.file.SetReadDeadline(time.Time{}) // an error when it cannot be waited for
	}
	if err != nil {
		return nil, errors.Join(err, b.file.Close())
	}
	b.wait = raw.Read
	b.look = func(uintptr) bool {
		b.found = l.glance()
		return b.found != 0
	}
	return b, nil
}

// past is a time that is over.
var past = time.Unix(1, 0)

func (b *sharedBed) sleep() (n int, err error) {
	b.found = 0
	err = b.wait(b.look)
	if errors.Is(err, os.ErrDeadlineExceeded) { // it has rung
		return 0, b.file.SetReadDeadline(time.Time{})
	}
	return max(b.found, 0), err
}

func (b *sharedBed) ring() { _ = b.file.SetReadDeadline(past) } // an error when the loop has ended

func (b *sharedBed) close() { _ = b.file.Close() } // and with it epoll
