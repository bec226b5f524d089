package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// conn is the transport for TLS, and for systems without an event loop: it reads from a
// socket into a buffer, feeds its session, and writes what that has to say.
//
// One goroutine reads. Whoever has word for the session, from any goroutine, calls wake, which has another goroutine attend to it if
// the reader waits for input. mu is the session's owner.
type conn struct {
	net.Conn
	raw net.Conn // Conn, or what is under its TLS
	srv *Server
	s   Session

	mu     sync.Mutex
	in     []byte // what was read and not yet fed
	dead   bool
	begun  atomic.Bool   // s is set
	due    atomic.Bool   // a goroutine is about to attend
	resume chan struct{} // closed when there is room for input again; nil while there is
}

// handle serves a connection that was admitted, of which some has been read perhaps, until it ends.
func (srv *Server) handle(c net.Conn, read []byte, tag any) {
	defer srv.dismiss()
	srv.mu.Lock()
	srv.conns[c] = true
	closed := srv.closed
	srv.mu.Unlock()
	defer func() {
		srv.mu.Lock()
		delete(srv.conns, c)
		srv.mu.Unlock()
		_ = c.Close() // the transport may have closed it
	}()
	source, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil || closed {
		return
	}
	visit := srv.visitor(source)
	defer visit.over()
	if err := c.SetDeadline(time.Now().Add(srv.Patience.Login)); err != nil {
		return
	}
	read, err = visit.opening(c, read)
	if err != nil {
		srv.refuse(err, visit, func(b []byte) { _, _ = c.Write(b) }) // it is closed anyway
		return
	}
	t := &conn{Conn: c, raw: c, srv: srv, in: read}
	hello := Hello{Source: visit.source, Local: c.LocalAddr().String(), Room: srv.Room(), Wake: t.wake}
	if read[0] == handshake {
		if srv.TLS == nil {
			return
		}
		sealed := tls.Server(&replayed{c, read}, srv.TLS)
		if err := sealed.Handshake(); err != nil {
			srv.Log.Debug("a TLS handshake failed", "protocol", srv.Protocol, "peer", visit.source, "error", err)
			return
		}
		t.Conn, t.in = sealed, nil
		state := sealed.ConnectionState()
		hello.TLS = &state
	}
	t.mu.Lock() // who wakes the session meanwhile has to wait
	var refusal string
	t.s, refusal = srv.Begin(hello, tag)
	t.mu.Unlock()
	if t.s == nil {
		_, _ = io.WriteString(t.Conn, refusal) // it is closed anyway
		_ = t.Conn.Close()
		return
	}
	t.begun.Store(true)
	defer t.close()
	t.attend(len(t.in) > 0)
	t.read(visit)
}

// read feeds the session until the connection ends.
func (t *conn) read(visit *visit) {
	buf := make([]byte, readChunk)
	for {
		t.mu.Lock()
		if t.s.Known() && visit.counted {
			visit.over()
			_ = t.SetReadDeadline(time.Time{}) // a connection that is gone says so when it is read
		}
		wait := t.resume
		over := t.dead
		t.mu.Unlock()
		if over {
			return
		}
		if wait != nil {
			if !t.pause(wait) {
				return
			}
			continue
		}
		n, err := t.Read(buf)
		if n > 0 {
			t.mu.Lock()
			t.in = append(t.in, buf[:n]...)
			t.mu.Unlock()
			t.attend(true)
		}
		if err != nil {
			return
		}
		if n == len(buf) && len(buf) < 1<<20 {
			buf = make([]byte, 4*len(buf))
		} else if n < len(buf)/8 && len(buf) > readChunk {
			buf = make([]byte, len(buf)/4)
		}
	}
}

// goneEvery is how often a client that is not read is looked at.
const goneEvery = time.Second

// pause waits until there is room for input again, or the client is gone, which nobody would notice who does not read. It
// reports whether the connection goes on.
func (t *conn) pause(room <-chan struct{}) bool {
	tick := time.NewTicker(goneEvery)
	defer tick.Stop()
	for {
		select {
		case <-room:
			return true
		case <-tick.C:
			if hungUp(t.raw) {
				return false
			}
		}
	}
}

// wake has the session attended to, soon. A writer that waits for a client who is to be cut off is woken too.
func (t *conn) wake() {
	if t.begun.Load() && t.s.Summoned() {
		_ = t.SetWriteDeadline(time.Now().Add(t.srv.Patience.Linger)) // it fails when the connection has ended
	}
	if t.due.CompareAndSwap(false, true) {
		go t.attend(false)
	}
}

// attend feeds the session what there is, and writes what it has to say.
func (t *conn) attend(fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.dead {
		return
	}
	t.due.Store(false)
	again := t.s.Attend() || fresh
	for {
		if again && len(t.in) > 0 {
			used := t.s.Feed(t.in)
			t.in = append(t.in[:0], t.in[used:]...)
			if len(t.in) == 0 && cap(t.in) > maxKept {
				t.in = nil
			}
			if t.s.Attend() {
				used = 1
			}
			again = used > 0 && !t.s.Blocked()
		} else {
			again = false
		}
		if !t.flush() {
			t.end()
			return
		}
		if t.s.Closing() {
			t.end()
			return
		}
		if !again {
			break
		}
	}
	full := t.s.Blocked() && len(t.in) > maxUnread
	switch {
	case full && t.resume == nil:
		t.resume = make(chan struct{})
	case !full && t.resume != nil:
		close(t.resume)
		t.resume = nil
	}
}

// flush writes the output.
func (t *conn) flush() bool {
	b := t.s.Output()
	if len(b) == 0 {
		return true
	}
	if err := t.SetWriteDeadline(time.Now().Add(t.srv.Patience.Write)); err != nil {
		return false
	}
	if t.s.Summoned() { // asked after the deadline was set: wake may have set its own before
		_ = t.SetWriteDeadline(time.Now().Add(t.srv.Patience.Linger))
	}
	t.s.Unsent(len(b))
	n, err := t.Write(b)
	t.s.Sent(n)
	t.s.Unsent(0)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.srv.Log.Warn("a client is cut off", "protocol", t.srv.Protocol, "client", t.s.ID(), "peer", t.RemoteAddr(), "reason", "it does not read its replies", "unsent", len(b)-n)
	}
	if err != nil {
		_ = t.raw.Close() // else TLS would take five more seconds to say goodbye
	}
	return err == nil
}

// end closes the connection, which ends the reader. The caller holds mu.
func (t *conn) end() {
	t.dead = true
	_ = t.Conn.Close() // what was to be sent has been
	if t.resume != nil {
		close(t.resume)
		t.resume = nil
	}
}

func (t *conn) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.dead {
		t.end()
	}
	t.s.Close()
}

// replayed is a connection of which some has been read already.
type replayed struct {
	net.Conn
	before []byte
}

func (r *replayed) Read(b []byte) (int, error) {
	if len(r.before) > 0 {
		n := copy(b, r.before)
		r.before = r.before[n:]
		return n, nil
	}
	return r.Conn.Read(b)
}
