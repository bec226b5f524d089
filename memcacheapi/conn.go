package memcacheapi

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/internal/wire"
)

// Bounds of a connection (specification T21 and T22).
const (
	loginTime    = 10 * time.Second // to log in
	maxStrangers = 100              // connections from one address that have not logged in
	writeTime    = 60 * time.Second // in which a client takes what is sent to it
	readChunk    = 16 << 10
	maxKept      = 64 << 10 // a buffer that an idle connection keeps
)

// handle serves a connection until it ends: it reads into a buffer, feeds the session, and writes what that has to say.
func (srv *Server) handle(c net.Conn, as *Implied) {
	defer c.Close()
	o, err := wire.Open(c, srv.Trusted, srv.TLS, loginTime)
	if err != nil {
		srv.Log.Debug("a memcached connection ended before it spoke", "peer", o.Source, "error", err)
		return
	}
	from := o.Source.Addr()
	if !srv.strangers.Enter(from, maxStrangers) {
		_, _ = c.Write([]byte("SERVER_ERROR too many connections from this address have not logged in: at most " + strconv.Itoa(maxStrangers) + "\r\n")) // it is closed anyway
		return
	}
	known := false
	defer func() {
		if !known {
			srv.strangers.Leave(from)
		}
	}()
	s := srv.newSession(o.Source, o.TLS != nil, tlsVersion(o), o.Conn)
	defer s.Close()
	if as != nil {
		if err := s.enter(as, from); err != nil {
			srv.Log.Info("an endpoint's login was refused", "protocol", "memcached", "peer", o.Source, "error", err)
			_, _ = o.Conn.Write([]byte("CLIENT_ERROR unauthenticated\r\n")) // it is closed anyway
			return
		}
	}
	if leaf := auth.ClientCertificate(o.TLS); leaf != nil && as == nil {
		s.present(leaf)
	}
	in := append(make([]byte, 0, readChunk), o.Read...)
	for full := false; ; {
		if len(in) > 0 {
			rest, ok := serve(o.Conn, s, in)
			if !ok {
				return
			}
			in = in[:copy(in, rest)]
		}
		if !known && s.loggedIn() {
			known = true
			srv.strangers.Leave(from)
			if err := o.Conn.SetReadDeadline(time.Time{}); err != nil {
				return
			}
		}
		in = srv.room(in, s.Needs(), full)
		for whole := false; !whole; { // until there is something new to do
			n, err := o.Conn.Read(in[len(in):cap(in)])
			in = in[:len(in)+n]
			full = len(in) == cap(in)
			if whole = len(in) >= s.Needs() || full; err != nil {
				if n > 0 && whole {
					_, _ = serve(o.Conn, s, in) // the last replies; the connection ends
				}
				return
			}
		}
	}
}

// room makes room for more input behind in. It grows with what has come, not with what a client says is to come. full says
// that the last read could have brought more.
func (srv *Server) room(in []byte, needs int, full bool) []byte {
	size := cap(in)
	switch {
	case len(in) == 0 && size > maxKept && !full:
		size = readChunk
	case len(in) == size || (full && size < 1<<20):
		size *= 2
	case needs > size && len(in) > size/2:
		size = min(needs, 2*size)
	}
	if size == cap(in) {
		return in
	}
	return append(make([]byte, 0, size), in...)
}

// serve feeds a session and writes its output. It returns what has to be fed again when more has arrived, and false when
// the connection is over.
func serve(c net.Conn, s *Session, in []byte) (rest []byte, ok bool) {
	for {
		in = in[s.Feed(in):]
		if b := s.Output(); len(b) > 0 {
			if err := c.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
				return nil, false
			}
			n, err := c.Write(b)
			s.Sent(n)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				s.server.Log.Warn("a memcached client does not read its replies, and is cut off", "client", s.id, "peer", s.caller.Peer)
			}
			if err != nil {
				return nil, false
			}
		}
		if s.Closing() {
			return nil, false
		}
		if !s.More() {
			return in, true
		}
	}
}

func tlsVersion(o wire.Opening) uint16 {
	if o.TLS == nil {
		return 0
	}
	return o.TLS.Version
}

// enter logs a session in as its endpoint says.
func (s *Session) enter(as *Implied, from netip.Addr) error {
	p, err := as.Login(from)
	if err != nil {
		return err
	}
	return s.admit(p, as.Cache)
}
