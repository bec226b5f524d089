package tlsfile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// pair makes a self-signed certificate with a serial number.
func pair(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestANewPairIsUsedHoweverItCame(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	cert, key := pair(t, 1)
	write(t, certFile, cert)
	write(t, keyFile, key)
	s, err := Open(certFile, keyFile, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 { return s.current.Load().Leaf.SerialNumber.Int64() }
	place := map[string]func(path string, b []byte){
		"written": func(path string, b []byte) { write(t, path, b) },
		"renamed": func(path string, b []byte) {
			write(t, path+".new", b)
			if err := os.Rename(path+".new", path); err != nil {
				t.Fatal(err)
			}
		},
		"linked": func(path string, b []byte) {
			write(t, path+".target", b)
			os.Remove(path)
			if err := os.Symlink(path+".target", path); err != nil {
				t.Fatal(err)
			}
		},
	}
	next := int64(2)
	for name, put := range place {
		cert, key := pair(t, next)
		put(certFile, cert)
		if _, err := s.poll(); err == nil {
			t.Errorf("%s: half a pair was taken", name)
		}
		if serial() != next-1 {
			t.Errorf("%s: half a pair is in use", name)
		}
		put(keyFile, key)
		if changed, err := s.poll(); !changed || err != nil || serial() != next {
			t.Errorf("%s: changed %v, error %v, serial %d, want %d", name, changed, err, serial(), next)
		}
		next++
	}
	write(t, certFile, []byte("nonsense"))
	if _, err := s.poll(); err == nil || serial() != next-1 {
		t.Errorf("a broken file: error %v, serial %d", err, serial())
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	dir := t.TempDir()
	cert, key := pair(t, 1)
	write(t, filepath.Join(dir, "c"), cert)
	write(t, filepath.Join(dir, "k"), key)
	s, err := Open(filepath.Join(dir, "c"), filepath.Join(dir, "k"), slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name           string
		lowest, client uint16
		ok             bool
	}{
		{"1.3 where 1.3 is asked", tls.VersionTLS13, tls.VersionTLS13, true},
		{"1.2 where 1.3 is asked", tls.VersionTLS13, tls.VersionTLS12, false},
		{"1.2 where 1.2 is asked", tls.VersionTLS12, tls.VersionTLS12, true},
		{"1.1 where 1.2 is asked", tls.VersionTLS12, tls.VersionTLS11, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			server, client := tls.Server(ours, s.Config(tt.lowest)), tls.Client(theirs, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tt.client})
			result := make(chan error, 1)
			go func() { result <- server.Handshake(); ours.Close() }()
			clientErr := client.Handshake()
			theirs.Close()
			if serverErr := <-result; (clientErr == nil && serverErr == nil) != tt.ok {
				t.Errorf("client %v, server %v", clientErr, serverErr)
			}
		})
	}
}
