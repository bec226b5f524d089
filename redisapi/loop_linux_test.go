package redisapi

import (
	"crypto/tls"
	"strings"
	"syscall"
	"testing"
)

// A client over TLS that waits, with more behind it than is read meanwhile, is noticed when it goes away.
func TestABlockedTLSClientThatGoesIsNoticed(t *testing.T) {
	config := certificate(t)
	s := newService(t, func(c *Config, _ *patience) { c.TLS = config })
	who := newTenant(t)
	p := newPeer(t, tls.Client(s.dial(t, ""), &tls.Config{InsecureSkipVerify: true}))
	p.authenticate(who)
	p.send(command("BLPOP", "none", "0"))
	eventually(t, "it waits", func() bool {
		for _, c := range s.everybody() {
			if c.facts.blocked.Load() {
				return true
			}
		}
		return false
	})
	p.send(strings.Repeat(command("PING"), maxUnread/len(command("PING"))+2000))
	if err := p.Conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone", func() bool { return s.connections() == 0 })
}

// Who is about to ring when the loop ends does not write to another file that got the bell's number.
func TestTheBellOfALoopThatEndedIsSilent(t *testing.T) {
	l, err := newLoop(New(theWorld.config))
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
