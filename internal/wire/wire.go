// Package wire is what the servers of socket protocols have in common before a protocol speaks: who connects, behind which
// proxy, over TLS or not, and how many strangers one address may have.
package wire

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// handshake is the first byte of a TLS connection. No protocol served beside TLS begins with it.
const handshake = 0x16

// proxySignature begins a header of the PROXY protocol, version 2.
var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// Bounds of what is read before a protocol speaks, in bytes.
const (
	openingBytes = 512
	maxProxy     = 2048 // of a PROXY header
)

// An Opening is the beginning of a connection.
type Opening struct {
	Conn   net.Conn       // to go on with: sealed, if it is over TLS
	Read   []byte         // what has been read of it
	Source netip.AddrPort // who is at the other end, as a trusted proxy says if there is one
	TLS    *tls.ConnectionState
}

// Open reads the first bytes of a connection, within a time. A trusted proxy says first on whose behalf it connects. A
// connection that begins with a TLS handshake is sealed with config; without one it is refused.
func Open(c net.Conn, trusted []netip.Prefix, config *tls.Config, within time.Duration) (o Opening, err error) {
	o.Conn = c
	if o.Source, err = netip.ParseAddrPort(c.RemoteAddr().String()); err != nil {
		return o, err // no TCP
	}
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return o, err
	}
	if err := o.header(trusted); err != nil {
		return o, err
	}
	if len(o.Read) == 0 || o.Read[0] != handshake {
		return o, nil
	}
	if config == nil {
		return o, fmt.Errorf("a TLS handshake on a port without TLS")
	}
	sealed := tls.Server(&replayed{c, o.Read}, config)
	if err := sealed.Handshake(); err != nil {
		return o, fmt.Errorf("a TLS handshake: %w", err)
	}
	state := sealed.ConnectionState()
	o.Conn, o.Read, o.TLS = sealed, nil, &state
	return o, nil
}

// header reads the first bytes, and whom a trusted proxy connects.
func (o *Opening) header(trusted []netip.Prefix) error {
	b := make([]byte, openingBytes)
	n, err := o.Conn.Read(b)
	if err != nil {
		return err
	}
	o.Read = b[:n]
	trusts := false
	for _, network := range trusted {
		trusts = trusts || network.Contains(o.Source.Addr().Unmap())
	}
	if !trusts || b[0] != proxySignature[0] {
		return nil
	}
	if err := o.need(16); err != nil {
		return err
	}
	if !bytes.Equal(o.Read[:12], proxySignature) {
		return nil
	}
	size, version, command, family := int(binary.BigEndian.Uint16(o.Read[14:])), o.Read[12]>>4, o.Read[12]&15, o.Read[13]
	if size > maxProxy || version != 2 {
		return fmt.Errorf("a PROXY header of version %d with %d bytes: version 2 and at most %d bytes are read", version, size, maxProxy)
	}
	if err := o.need(16 + size); err != nil {
		return err
	}
	body := o.Read[16 : 16+size]
	o.Read = o.Read[16+size:]
	if command != 1 { // LOCAL: the proxy itself
		return nil
	}
	switch {
	case family == 0x11 && size >= 12:
		o.Source = netip.AddrPortFrom(netip.AddrFrom4([4]byte(body[:4])), binary.BigEndian.Uint16(body[8:]))
	case family == 0x21 && size >= 36:
		o.Source = netip.AddrPortFrom(netip.AddrFrom16([16]byte(body[:16])), binary.BigEndian.Uint16(body[32:]))
	}
	return nil
}

// need reads on until there are so many bytes.
func (o *Opening) need(size int) error {
	if len(o.Read) >= size {
		return nil
	}
	more := make([]byte, size-len(o.Read))
	n, err := io.ReadAtLeast(o.Conn, more, len(more))
	o.Read = append(o.Read, more[:n]...)
	return err
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

// Strangers counts the connections that have not logged in, by where they come from. Its zero value is ready.
type Strangers struct {
	mu    sync.Mutex
	count map[netip.Addr]int
}

// Enter notes one more of an address, of which there may be so many, and reports whether it may come in.
func (s *Strangers) Enter(from netip.Addr, most int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count == nil {
		s.count = map[netip.Addr]int{}
	}
	from = from.Unmap()
	if s.count[from] >= most {
		return false
	}
	s.count[from]++
	return true
}

// Leave notes that one of them has gone, or has logged in.
func (s *Strangers) Leave(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from = from.Unmap()
	if s.count[from]--; s.count[from] <= 0 {
		delete(s.count, from)
	}
}
