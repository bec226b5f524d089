package courtesy

import (
	"os"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// timers are files that can be read when their time has come. Go's own timers are no use: when nothing else is to be done, a
// wait for one takes a millisecond.
var timers = sync.Pool{New: func() any {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return (*os.File)(nil) // no more files: time.Sleep will do
	}
	return os.NewFile(uintptr(fd), "timer") // closed when it is collected
}}

// pause waits, in the way that has Go look at the network and the kernel run another thread.
func pause(d time.Duration) {
	f := timers.Get().(*os.File)
	if f == nil {
		time.Sleep(d)
		return
	}
	defer timers.Put(f)
	c, err := f.SyscallConn()
	if err == nil {
		at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
		var rang [8]byte
		set := false
		err = c.Read(func(fd uintptr) bool {
			if !set {
				set = true
				err = unix.TimerfdSettime(int(fd), 0, &at, nil)
				return err != nil
			}
			_, err = unix.Read(int(fd), rang[:])
			return err != unix.EAGAIN
		})
	}
	if err != nil {
		time.Sleep(d)
	}
}

// giveWay lets goroutines and threads that are ready go first.
func giveWay() {
	runtime.Gosched()
	_, _, _ = unix.Syscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
}
