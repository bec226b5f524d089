package peerlink

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Versions of the protocol that this program speaks. Both sides use the newest that both know.
const (
	newestVersion = 1
	oldestVersion = 1
)

// Bounds of the first words.
const (
	maxHello    = 2 << 10 // bytes
	helloWithin = 5 * time.Second
	maxGreeting = 256 // connections that have not said who they are
)

// A hello is what each side says first; who dialled says it before the other.
type hello struct {
	Cluster     string `json:"cluster"`
	From        string `json:"from"`
	To          string `json:"to"`
	Incarnation string `json:"incarnation"`
	Address     string `json:"address,omitempty"` // where From listens
	Newest      int    `json:"newest"`
	Oldest      int    `json:"oldest"`
	Stream      byte   `json:"stream,omitempty"`  // the kind of a stream; 0 for frames
	Refused     string `json:"refused,omitempty"` // why the connection ends here
}

func (l *Links) hello(to string, kind byte) hello {
	return hello{
		Cluster: l.cfg.Cluster, From: l.cfg.Self, To: to, Incarnation: l.cfg.Incarnation, Address: l.cfg.Advertise,
		Newest: newestVersion, Oldest: oldestVersion, Stream: kind,
	}
}

// dial connects to a node and proves who both are. kind is that of a stream, or control for frames.
func (l *Links) dial(ctx context.Context, to string, kind byte) (net.Conn, hello, error) {
	if l.ctx.Err() != nil {
		return nil, hello{}, errClosed
	}
	ctx, cancel := context.WithTimeout(ctx, helloWithin)
	defer cancel()
	address := l.address(to)
	if address == "" {
		return nil, hello{}, fmt.Errorf("peerlink: the address of node %q is not known", to)
	}
	var d net.Dialer
	plain, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, hello{}, fmt.Errorf("peerlink: %w", err)
	}
	if kind == control {
		plain = newOutlet(plain)
	}
	conn, theirs, err := l.introduce(ctx, plain, to, kind)
	if err == nil && !l.keep(conn) {
		err = errClosed
	}
	if err != nil {
		return nil, hello{}, errors.Join(err, plain.Close())
	}
	return conn, theirs, nil
}

// introduce is the first exchange on a connection that this node has opened.
func (l *Links) introduce(ctx context.Context, conn net.Conn, to string, kind byte) (net.Conn, hello, error) {
	if err := l.local(conn.RemoteAddr()); err != nil {
		return nil, hello{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if l.cfg.TLS != nil {
		config := l.cfg.TLS.Clone()
		config.ServerName, config.MinVersion, config.NextProtos = to, tls.VersionTLS13, nil
		sealed := tls.Client(conn, config)
		if err := sealed.HandshakeContext(ctx); err != nil {
			return nil, hello{}, fmt.Errorf("peerlink: node %q: %w", to, err)
		}
		conn = sealed
	}
	if err := writeHello(conn, l.hello(to, kind)); err != nil {
		return nil, hello{}, fmt.Errorf("peerlink: node %q: %w", to, err)
	}
	theirs, err := readHello(conn)
	if err == nil && theirs.Refused != "" {
		err = fmt.Errorf("it refuses: %s", theirs.Refused)
	}
	if err == nil {
		err = l.fits(theirs)
	}
	if err == nil && theirs.From != to {
		err = fmt.Errorf("node %q answers there", theirs.From)
	}
	if err != nil {
		return nil, hello{}, fmt.Errorf("peerlink: node %q at %s: %w", to, conn.RemoteAddr(), err)
	}
	if !stop() {
		return nil, hello{}, ctx.Err()
	}
	return conn, theirs, nil
}

// welcome is the first exchange on a connection that another node has opened.
func (l *Links) welcome(conn net.Conn) (net.Conn, hello, error) {
	if err := l.local(conn.RemoteAddr()); err != nil {
		return nil, hello{}, err
	}
	if err := conn.SetDeadline(time.Now().Add(helloWithin)); err != nil {
		return nil, hello{}, err
	}
	conn = newBrisk(conn)
	var sealed *tls.Conn
	if l.cfg.TLS != nil {
		config := l.cfg.TLS.Clone()
		config.ClientAuth, config.MinVersion, config.NextProtos = tls.RequireAndVerifyClientCert, tls.VersionTLS13, nil
		sealed = tls.Server(conn, config)
		if err := sealed.HandshakeContext(l.ctx); err != nil {
			return nil, hello{}, fmt.Errorf("peerlink: %w", err)
		}
		conn = sealed
	}
	theirs, err := readHello(conn)
	if err != nil {
		return nil, hello{}, fmt.Errorf("peerlink: %w", err)
	}
	err = l.fits(theirs)
	if err == nil && theirs.To != l.cfg.Self {
		err = fmt.Errorf("this is node %q, not %q", l.cfg.Self, theirs.To)
	}
	if err == nil && (theirs.From == "" || theirs.From == l.cfg.Self) {
		err = fmt.Errorf("no node can be called %q here", theirs.From)
	}
	if err == nil && sealed != nil {
		err = proves(sealed.ConnectionState().PeerCertificates, theirs.From)
	}
	ours := l.hello(theirs.From, theirs.Stream)
	if err != nil {
		ours.Refused = err.Error()
	}
	if sent := writeHello(conn, ours); sent != nil || err != nil {
		return nil, hello{}, fmt.Errorf("peerlink: node %q: %w", theirs.From, errors.Join(err, sent))
	}
	return conn, theirs, conn.SetDeadline(time.Time{})
}

// proves reports whether a certificate, which has been verified, is that of a node.
func proves(chain []*x509.Certificate, node string) error {
	if len(chain) == 0 {
		return errors.New("no certificate was shown")
	}
	if err := chain[0].VerifyHostname(node); err != nil {
		return fmt.Errorf("the certificate is not for node %q", node)
	}
	return nil
}

// fits refuses a node of another cluster, and one whose versions of the protocol are all too old or too new.
func (l *Links) fits(theirs hello) error {
	if theirs.Cluster != l.cfg.Cluster {
		return fmt.Errorf("node %q belongs to another cluster", theirs.From)
	}
	if theirs.Newest < oldestVersion || theirs.Oldest > newestVersion {
		return fmt.Errorf("versions %d to %d of the protocol are spoken there, %d to %d here", theirs.Oldest, theirs.Newest, oldestVersion, newestVersion)
	}
	return nil
}

func writeHello(conn net.Conn, h hello) error {
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if len(text) > maxHello {
		return fmt.Errorf("the first words have %d bytes: at most %d are read", len(text), maxHello)
	}
	_, err = conn.Write(appendFrame(nil, control, text))
	return err
}

// readHello reads not a byte beyond the hello: what follows belongs to others.
func readHello(from io.Reader) (h hello, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return h, err
	}
	size := binary.BigEndian.Uint32(head[:])
	if size < 1 || size > maxHello+1 || head[4] != control {
		return h, errors.New("the first words cannot be read: another protocol, perhaps")
	}
	text := make([]byte, size-1)
	if _, err := io.ReadFull(from, text); err != nil {
		return h, err
	}
	if err := json.Unmarshal(text, &h); err != nil {
		return h, errors.New("the first words cannot be read")
	}
	if int(h.Stream) >= maxKinds {
		return h, fmt.Errorf("streams of kind %d are not known", h.Stream)
	}
	return h, nil
}
