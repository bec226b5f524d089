package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"

	"github.com/larder-cache/larder/internal/fault"
)

// A visit is a connection before anybody has logged in: from where it comes, and whether it counts against that
// address's bound.
//
//	V1: counted says whether srv.strangers has the visit under source's address
type visit struct {
	srv     *Server
	source  netip.AddrPort
	trusted bool // a proxy that may say on whose behalf it connects, and has not said yet
	counted bool
}

func (srv *Server) visitor(source netip.AddrPort) *visit {
	v := &visit{srv: srv, source: netip.AddrPortFrom(source.Addr().Unmap(), source.Port())}
	for _, n := range srv.Trusted {
		v.trusted = v.trusted || n.Contains(v.source.Addr())
	}
	return v
}

var errStrangers = errors.New("too many connections from this address have not logged in")

// enter counts the visit, if there may be one more. A trusted proxy's is counted when it is known whose it is.
func (v *visit) enter() error {
	if v.counted || v.trusted {
		return nil
	}
	if !v.srv.strangers.enter(v.source.Addr()) {
		return errStrangers
	}
	v.counted = true
	return nil
}

// over ends the visit: somebody has logged in, or the connection has ended.
func (v *visit) over() {
	if !v.counted {
		return
	}
	v.counted = false
	v.srv.strangers.leave(v.source.Addr())
}

// handshake is the first byte of a connection with TLS. No protocol served beside TLS begins with it.
const handshake = 0x16

// proxySignature begins a header of the PROXY protocol, version 2.
var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// maxProxyHeader bounds what follows the first 16 bytes of such a header.
const maxProxyHeader = 2048

// look reads the beginning of a connection, as far as it has come, and says how many bytes of b are not for the session
// and whether what comes after them is there already, so that its first byte tells what it is.
func (v *visit) look(b []byte) (skip int, known bool, err error) {
	if v.trusted {
		if skip, known, err = v.header(b); err != nil || !known {
			return 0, false, err
		}
		v.trusted = false
	}
	if err := v.enter(); err != nil {
		return 0, false, err
	}
	return skip, len(b) > skip, nil
}

// header reads what a trusted proxy says first, and reports whether that is all there.
func (v *visit) header(b []byte) (size int, known bool, err error) {
	n := min(len(b), len(proxySignature))
	if !bytes.Equal(b[:n], proxySignature[:n]) {
		return 0, true, nil
	}
	if len(b) < 16 {
		return 0, false, nil
	}
	size = int(binary.BigEndian.Uint16(b[14:]))
	if size > maxProxyHeader || b[12]>>4 != 2 {
		return 0, false, fault.New(fault.InvalidArgument, "wire.proxy", "a PROXY header of version %d with %d bytes", b[12]>>4, size)
	}
	if len(b) < 16+size {
		return 0, false, nil
	}
	if body := b[16 : 16+size]; b[12]&15 == 1 { // PROXY, not LOCAL
		switch {
		case b[13] == 0x11 && size >= 12:
			v.source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:]))
		case b[13] == 0x21 && size >= 36:
			v.source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[:16])).Unmap(), binary.BigEndian.Uint16(body[32:]))
		}
	}
	return 16 + size, true, nil
}

// opening reads from a connection until the first byte for the session is there, and returns that and what came with it.
func (v *visit) opening(c net.Conn, b []byte) ([]byte, error) {
	if err := v.enter(); err != nil {
		return nil, err
	}
	for {
		skip, known, err := v.look(b)
		if err != nil {
			return nil, err
		}
		b = b[skip:]
		if known {
			return b, nil
		}
		piece := make([]byte, 512)
		n, err := c.Read(piece)
		if err != nil {
			return nil, err
		}
		b = append(b, piece[:n]...)
	}
}

// refuse tells a connection why it ends before it has begun, and our log when that is not the client's business.
func (srv *Server) refuse(err error, v *visit, write func([]byte)) {
	if err == errStrangers {
		write([]byte(srv.Crowded))
		return
	}
	srv.Log.Debug("a connection ended before it spoke", "peer", v.source, "error", err)
}
