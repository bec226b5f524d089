// Package deadline makes connections on which setting a deadline costs next to nothing.
//
// An HTTP server with every timeout set gives each request five deadlines, and moves a timer of the runtime
// for each. Here a timer is armed a few seconds ahead at most and left alone while the deadlines set are later
// than that: when it fires early, the connection looks at the deadline that holds by then and goes on. What a
// caller sees is the same: no read or write outlives its deadline, none ends before it.
package deadline

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// ahead is how far ahead a timer is armed: a busy connection moves it that often, an idle one wakes that often.
const ahead = 4 * time.Second

// A Listener accepts connections of this kind.
type Listener struct{ net.Listener }

// Accept implements net.Listener.
func (l Listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newConn(c), nil
}

type conn struct {
	net.Conn
	read, write timer
}

func newConn(c net.Conn) *conn {
	return &conn{Conn: c, read: timer{arm: c.SetReadDeadline}, write: timer{arm: c.SetWriteDeadline}}
}

// A timer is one direction's deadline.
//
//	T1: the connection's own deadline is armed, zero meaning that it has none
//	T2: armed is not later than want, unless want is zero: then armed may be anything
type timer struct {
	arm   func(time.Time) error
	mu    sync.Mutex
	want  time.Time // the deadline that was set; zero for none
	armed time.Time
	kept  time.Time // while a deadline long past is armed, which net/http does to wake a reader: what was before
	woken bool      // that is so
}

// set notes a deadline, and arms the connection's only if it could fire too late or has to fire at once. It
// reads no clock: net/http calls it several times for each request.
func (t *timer) set(want time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.want = want
	switch {
	case want.IsZero() && !t.woken, !want.IsZero() && !t.armed.IsZero() && !want.Before(t.armed) && !t.woken:
		return nil // what is armed fires in time; if it fires early, early sees to that
	case !want.IsZero() && want.Unix() <= 1:
		if !t.woken {
			t.kept, t.woken = t.armed, true
		}
		t.armed = want
	case t.woken: // back to what was armed before, which may have passed meanwhile: then it fires early
		t.woken = false
		t.armed = t.kept
		if !want.IsZero() && (t.armed.IsZero() || want.Before(t.armed)) {
			t.armed = want
		}
	default:
		return t.rearm(time.Now())
	}
	return t.arm(t.armed)
}

// rearm arms the connection's deadline for want, or for a moment before it. The caller holds mu.
func (t *timer) rearm(now time.Time) error {
	t.armed = t.want
	if soon := now.Add(ahead); t.want.IsZero() || t.want.After(soon) {
		t.armed = soon
	}
	return t.arm(t.armed)
}

// early reports whether a timeout came before the deadline that holds now, and if so arms the next.
func (t *timer) early(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.woken {
		return false
	}
	now := time.Now()
	if !t.want.IsZero() && !now.Before(t.want) {
		return false
	}
	return t.rearm(now) == nil
}

func (c *conn) SetReadDeadline(t time.Time) error  { return c.read.set(t) }
func (c *conn) SetWriteDeadline(t time.Time) error { return c.write.set(t) }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.read.set(t), c.write.set(t))
}

func (c *conn) Read(b []byte) (int, error) {
	for {
		n, err := c.Conn.Read(b)
		if err == nil || n > 0 || !c.read.early(err) {
			return n, err
		}
	}
}

func (c *conn) Write(b []byte) (written int, err error) {
	for {
		n, err := c.Conn.Write(b[written:])
		written += n
		if err == nil || !c.write.early(err) {
			return written, err
		}
	}
}
