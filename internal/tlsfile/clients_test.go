package tlsfile

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/certs"
)

// A client may show a certificate of an authority in the file as it is now, and one for clients, or none.
func TestClientsShowCertificates(t *testing.T) {
	old, new, server := certs.New(t), certs.New(t), certs.New(t)
	file := filepath.Join(t.TempDir(), "ca.pem")
	write(t, file, old.PEM())
	c, err := OpenClients(file, &tls.Config{Certificates: []tls.Certificate{server.Server()}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	config := c.Config()
	sessions := tls.NewLRUClientSessionCache(8) // what a client remembers must not pass by the authorities
	shown := func(leaf *tls.Certificate) string {
		t.Helper()
		ours, theirs := net.Pipe()
		defer ours.Close()
		defer theirs.Close()
		for _, c := range []net.Conn{ours, theirs} {
			if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
				t.Fatal(err)
			}
		}
		go func() {
			client := tls.Client(theirs, &tls.Config{RootCAs: server.Pool(), ServerName: "localhost", ClientSessionCache: sessions, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				if leaf == nil {
					return &tls.Certificate{}, nil
				}
				return leaf, nil
			}})
			_ = client.Handshake() // the server tells how it went
			_, _ = client.Read(make([]byte, 1))
		}()
		s := tls.Server(ours, config)
		if err := s.Handshake(); err != nil {
			return "refused"
		}
		if chains := s.ConnectionState().VerifiedChains; len(chains) > 0 {
			return chains[0][0].Subject.CommonName
		}
		return ""
	}
	one, other := old.Client("one", nil), new.Client("other", nil)
	expired := old.Client("late", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	aServer := old.Server()
	for name, got := range map[string]string{"one": shown(&one), "": shown(nil)} {
		if got != name {
			t.Errorf("shown %q, taken for %q", name, got)
		}
	}
	for name, leaf := range map[string]*tls.Certificate{"of an unknown authority": &other, "expired": &expired, "a server's": &aServer} {
		if got := shown(leaf); got != "refused" {
			t.Errorf("%s: %q", name, got)
		}
	}
	write(t, file, new.PEM())
	if changed, err := c.poll(); !changed || err != nil {
		t.Fatal(changed, err)
	}
	if got := shown(&one); got != "refused" {
		t.Errorf("of an authority that is gone: %q", got)
	}
	if got := shown(&other); got != "other" {
		t.Errorf("of the new authority: %q", got)
	}
	write(t, file, append(old.PEM(), new.PEM()...))
	if _, err := c.poll(); err != nil {
		t.Fatal(err)
	}
	if a, b := shown(&one), shown(&other); a != "one" || b != "other" {
		t.Errorf("of two authorities: %q, %q", a, b)
	}
	write(t, file, []byte("broken"))
	if _, err := c.poll(); err == nil {
		t.Error("a file without certificates is taken")
	}
	if got := shown(&one); got != "one" {
		t.Errorf("while the file is broken: %q", got)
	}
}
