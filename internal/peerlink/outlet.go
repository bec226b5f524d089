package peerlink

import (
	"crypto/tls"
	"net"
	"sync"
)

// A pipe is a connection on which frames are sent. Whoever writes on it has claimed it: the peer's own goroutine, which may wait
// for the other side, or a caller of SendNow, which may not.
type pipe struct {
	conn    net.Conn
	out     *outlet // below conn
	writing bool    // somebody has claimed it; under the peer's lock, as what follows
	behind  bool    // out holds something back
	spare   []byte  // room for what comes while a caller writes
}

func newPipe(conn net.Conn) *pipe {
	below := conn
	if sealed, ok := conn.(*tls.Conn); ok {
		below = sealed.NetConn()
	}
	return &pipe{conn: conn, out: below.(*outlet)}
}

// try writes as much as the other side takes at once, and reports whether that was all. The rest is the outlet's.
func (t *pipe) try(b []byte) (all bool, err error) {
	t.out.keep()
	if _, err = t.conn.Write(b); err != nil {
		return false, err
	}
	return t.out.pass()
}

// An outlet lies between TLS, whose Write must not fail halfway, and a socket that may not take everything at once.
//
//	O1: what was written goes to the socket in that order: rest before all that comes later
type outlet struct {
	net.Conn
	mu    sync.Mutex
	keeps bool   // what is written is kept
	rest  []byte // was written, and not yet given to the socket
}

func newOutlet(conn net.Conn) *outlet { return &outlet{Conn: newBrisk(conn)} }

// A trier is a connection that can be given what it takes at once.
type trier interface {
	tryWrite(b []byte) (n int, err error)
}

// keep has the outlet keep what is written, until pass.
func (o *outlet) keep() {
	o.mu.Lock()
	o.keeps = true
	o.mu.Unlock()
}

// pass gives the socket as much as it takes at once, and reports whether that was all.
func (o *outlet) pass() (all bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.keeps = false
	if t, ok := o.Conn.(trier); ok {
		var n int
		n, err = t.tryWrite(o.rest)
		o.gone(n)
	}
	return len(o.rest) == 0, err
}

// gone forgets the first n bytes of rest. The caller holds the lock.
func (o *outlet) gone(n int) {
	o.rest = o.rest[:copy(o.rest, o.rest[n:])]
	if len(o.rest) == 0 && cap(o.rest) > maxIdleBuffer {
		o.rest = nil
	}
}

// Write implements net.Conn. It waits for the socket, unless the outlet keeps.
func (o *outlet) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.keeps {
		o.rest = append(o.rest, b...)
		return len(b), nil
	}
	if err := o.empty(); err != nil {
		return 0, err
	}
	return o.Conn.Write(b)
}

// drain has the socket take all that is kept.
func (o *outlet) drain() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.empty()
}

// empty is drain for who holds the lock.
func (o *outlet) empty() error {
	if len(o.rest) == 0 {
		return nil
	}
	n, err := o.Conn.Write(o.rest)
	o.gone(n)
	return err
}
