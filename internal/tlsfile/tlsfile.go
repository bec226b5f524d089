// Package tlsfile serves TLS from certificate files that may be replaced while the process runs.
//
// Files are compared by content every few seconds, so it makes no difference whether they were written,
// renamed into place or switched by a symbolic link as Kubernetes does. A new pair is used for connections
// that begin after it was read; a broken one is logged and the old stays in use.
package tlsfile

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// pollEvery is how often the files are read again.
const pollEvery = 10 * time.Second

// A Source holds the certificate that is in use.
type Source struct {
	certFile, keyFile string
	cert, key         []byte // as last read; only poll uses them after Open
	current           atomic.Pointer[tls.Certificate]
	log               *slog.Logger
}

// Open reads the pair for the first time.
func Open(certFile, keyFile string, log *slog.Logger) (*Source, error) {
	s := &Source{certFile: certFile, keyFile: keyFile, log: log}
	if _, err := s.poll(); err != nil {
		return nil, err
	}
	return s, nil
}

// poll reads the files and takes the pair into use if it is another than before.
func (s *Source) poll() (changed bool, err error) {
	cert, err := os.ReadFile(s.certFile)
	if err != nil {
		return false, err
	}
	key, err := os.ReadFile(s.keyFile)
	if err != nil {
		return false, err
	}
	if bytes.Equal(cert, s.cert) && bytes.Equal(key, s.key) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("%s and %s: %w", s.certFile, s.keyFile, err)
	}
	s.cert, s.key = cert, key
	s.current.Store(&pair)
	return true, nil
}

// Run follows the files until ctx ends.
func (s *Source) Run(ctx context.Context) {
	follow(ctx, s.poll, func(err error) {
		s.log.Error("the new TLS certificate cannot be used; the old one stays", "error", err)
	}, func() {
		s.log.Info("a new TLS certificate is in use", "serial", s.current.Load().Leaf.SerialNumber.String(), "not_after", s.current.Load().Leaf.NotAfter)
	})
}

// follow polls until ctx ends, and tells of what is new, and of an error once until it is over.
func follow(ctx context.Context, poll func() (changed bool, err error), failed func(error), renewed func()) {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		changed, err := poll()
		switch {
		case err != nil && !failing:
			failed(err)
		case changed:
			renewed()
		}
		failing = err != nil
	}
}

// Config is the server's side of TLS: the newest certificate for each new connection, no version below
// lowest, and for TLS 1.2 only suites with forward secrecy and authenticated encryption.
func (s *Source) Config(lowest uint16) *tls.Config {
	return &tls.Config{
		MinVersion: lowest,
		NextProtos: []string{"h2", "http/1.1"},
		CipherSuites: []uint16{ // of TLS 1.2; those of 1.3 cannot be chosen and are all good
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.current.Load(), nil },
	}
}
