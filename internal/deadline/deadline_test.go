package deadline

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

// pair is a connection of ours and its other end, in memory.
func pair() (ours *conn, theirs net.Conn) {
	a, b := net.Pipe()
	return newConn(a), b
}

func TestDeadlinesAreKeptToTheMoment(t *testing.T) {
	for _, after := range []time.Duration{time.Millisecond, ahead - 1, ahead, ahead + 1, 10*ahead + 7} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := pair()
			defer ours.Close()
			defer theirs.Close()
			// Later deadlines first, as a server sets them, so that the one that holds is not the one armed.
			began := time.Now()
			for _, d := range []time.Duration{2 * after, 100 * after, after} {
				ours.SetReadDeadline(began.Add(d))
				ours.SetWriteDeadline(began.Add(d))
			}
			var both sync.WaitGroup
			for name, wait := range map[string]func([]byte) (int, error){"read": ours.Read, "write": ours.Write} {
				both.Go(func() {
					if _, err := wait(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Errorf("%s ended with %v", name, err)
					}
					if took := time.Since(began); took != after {
						t.Errorf("%s ended after %v, want %v", name, took, after)
					}
				})
			}
			both.Wait()
		})
	}
}

func TestNoDeadlineWaitsForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := pair()
		defer ours.Close()
		ours.SetReadDeadline(time.Now().Add(time.Second))
		ours.SetReadDeadline(time.Time{})
		go func() {
			time.Sleep(100 * ahead)
			theirs.Write([]byte("x"))
			theirs.Close()
		}()
		if n, err := ours.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("read %d bytes, %v", n, err)
		}
	})
}

func TestAPastDeadlineWakesAReaderAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := pair()
		defer ours.Close()
		defer theirs.Close()
		began := time.Now()
		woken := make(chan error)
		for range 3 { // as net/http does between requests
			ours.SetReadDeadline(began.Add(time.Hour))
			go func() {
				_, err := ours.Read(make([]byte, 1))
				woken <- err
			}()
			synctest.Wait()
			ours.SetReadDeadline(time.Unix(1, 0))
			if err := <-woken; !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 0 {
				t.Fatalf("woken after %v with %v", time.Since(began), err)
			}
			ours.SetReadDeadline(time.Time{})
		}
		go theirs.Write([]byte("x"))
		if n, err := ours.Read(make([]byte, 1)); n != 1 || err != nil {
			t.Errorf("after all that it read %d bytes, %v", n, err)
		}
	})
}

// TestConn runs the standard tests for network connections.
func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, nil, nil, err
		}
		accepted := make(chan net.Conn, 1)
		go func() {
			c, _ := Listener{l}.Accept()
			accepted <- c
		}()
		c2, err = net.Dial("tcp", l.Addr().String())
		if err != nil {
			return nil, nil, nil, err
		}
		c1 = <-accepted
		return c1, c2, func() { c1.Close(); c2.Close(); l.Close() }, nil
	})
}
