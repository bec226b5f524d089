package redisapi

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/internal/fault"
)

// Bounds of a connection (specification T20 to T22).
const (
	loginTime    = 10 * time.Second // to log in
	maxStrangers = 100              // connections from one address that have not logged in
	writeTime    = 60 * time.Second // in which a client takes what is sent to it
	readChunk    = 16 << 10
	maxUnread    = 1 << 20 // input that is read while a command waits
)

// conn is a transport: it reads from a socket into a buffer, feeds its session, and writes what that has to say.
//
// One goroutine reads. Whoever has word for the session, from any goroutine, calls wake, which has another goroutine attend to it if
// the reader waits for input. mu is the session's owner.
type conn struct {
	net.Conn
	s *Session

	mu     sync.Mutex
	in     []byte // what was read and not yet fed
	dead   bool
	due    atomic.Bool   // a goroutine is about to attend
	resume chan struct{} // closed when there is room for input again; nil while there is
}

// handle serves a connection until it ends.
func (srv *Server) handle(c net.Conn) {
	defer c.Close()
	source, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return // no TCP
	}
	opening, source, err := srv.opening(c, source)
	if err != nil {
		srv.Log.Debug("a connection ended before it spoke", "peer", source, "error", err)
		return
	}
	if !srv.stranger(source.Addr(), 1) {
		_, _ = c.Write([]byte("-ERR max number of clients reached before login from this address: at most " + strconv.Itoa(maxStrangers) + "\r\n")) // it is closed anyway
		return
	}
	t := &conn{Conn: c, in: opening}
	known := false
	defer func() {
		if !known {
			srv.stranger(source.Addr(), -1)
		}
	}()
	secure, version := false, uint16(0)
	if len(opening) > 0 && opening[0] == 0x16 {
		if srv.TLS == nil {
			return
		}
		sealed := tls.Server(&replayed{c, opening}, srv.TLS)
		if err := sealed.SetDeadline(time.Now().Add(loginTime)); err != nil {
			return
		}
		if err := sealed.Handshake(); err != nil {
			srv.Log.Debug("a TLS handshake failed", "peer", source, "error", err)
			return
		}
		t.Conn, t.in = sealed, nil
		secure, version = true, sealed.ConnectionState().Version
	}
	t.s = srv.newSession(source, secure, version, t.wake)
	defer t.close()
	if err := t.SetReadDeadline(time.Now().Add(loginTime)); err != nil {
		return
	}
	t.attend(len(t.in) > 0)
	buf := make([]byte, readChunk)
	for {
		t.mu.Lock()
		if !known && t.s.loggedIn() {
			known = true
			srv.stranger(source.Addr(), -1)
			_ = t.SetReadDeadline(time.Time{}) // a connection that is gone says so when it is read
		}
		wait := t.resume
		over := t.dead
		t.mu.Unlock()
		if over {
			return
		}
		if wait != nil {
			<-wait
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

// wake has the session attended to, soon.
func (t *conn) wake() {
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
	if err := t.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return false
	}
	n, err := t.Write(b)
	t.s.Sent(n)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.s.server.Log.Warn("a Redis client does not read its replies, and is cut off", "client", t.s.id, "peer", t.s.caller.Peer)
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

// stranger counts the connections of an address that have not logged in. It reports whether one more may be.
func (srv *Server) stranger(from netip.Addr, more int) bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	from = from.Unmap()
	if more > 0 && srv.strangers[from] >= maxStrangers {
		return false
	}
	if srv.strangers[from] += more; srv.strangers[from] == 0 {
		delete(srv.strangers, from)
	}
	return true
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

// proxySignature begins a header of the PROXY protocol, version 2.
var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// opening reads the first bytes of a connection. A trusted proxy says first on whose behalf it connects.
func (srv *Server) opening(c net.Conn, source netip.AddrPort) ([]byte, netip.AddrPort, error) {
	trusted := false
	for _, n := range srv.Trusted {
		trusted = trusted || n.Contains(source.Addr().Unmap())
	}
	if err := c.SetReadDeadline(time.Now().Add(loginTime)); err != nil {
		return nil, source, err
	}
	b := make([]byte, 512)
	n, err := c.Read(b)
	if err != nil {
		return nil, source, err
	}
	b = b[:n]
	if !trusted || b[0] != proxySignature[0] {
		return b, source, nil
	}
	need := func(size int) error {
		for len(b) < size {
			more := make([]byte, size-len(b))
			n, err := io.ReadAtLeast(c, more, len(more))
			if err != nil {
				return err
			}
			b = append(b, more[:n]...)
		}
		return nil
	}
	if err := need(16); err != nil {
		return nil, source, err
	}
	if !bytes.Equal(b[:12], proxySignature) {
		return b, source, nil
	}
	size := int(binary.BigEndian.Uint16(b[14:]))
	if size > 2048 || b[12]>>4 != 2 {
		return nil, source, fault.New(fault.InvalidArgument, "redisapi.proxy", "a PROXY header of version %d with %d bytes", b[12]>>4, size)
	}
	if err := need(16 + size); err != nil {
		return nil, source, err
	}
	body, rest := b[16:16+size], b[16+size:]
	if b[12]&15 == 1 { // PROXY, not LOCAL
		switch b[13] {
		case 0x11:
			if size >= 12 {
				source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:]))
			}
		case 0x21:
			if size >= 36 {
				source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[:16])), binary.BigEndian.Uint16(body[32:]))
			}
		}
	}
	return rest, source, nil
}
