package wire

import (
	"syscall"
	"testing"
)

// Who is about to ring when the loop ends does not write to another file that got the bell's number.
func TestTheBellOfALoopThatEndedIsSilent(t *testing.T) {
	l, err := newLoop(New(Config{}))
	if err != nil {
		t.Fatal(err)
	}
	bell := l.bell
	l.asleep.Store(true)
	l.close()
	var ends [2]int
	if err := syscall.Pipe2(ends[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	if ends[1] != bell { // the number is given to the pipe, whatever took it meanwhile
		if _, _, errno := syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(bell), syscall.F_GETFD, 0); errno == 0 {
			t.Skip("another file has got the number already")
		}
		if err := syscall.Dup3(ends[1], bell, syscall.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(bell)
	}
	defer syscall.Close(ends[0])
	defer syscall.Close(ends[1])
	l.ring()
	b := make([]byte, 8)
	if n, err := syscall.Read(ends[0], b); err != syscall.EAGAIN {
		t.Errorf("the bell wrote %d bytes into another file, %v", n, err)
	}
}
