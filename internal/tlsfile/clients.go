package tlsfile

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
)

// Clients holds the authorities whose certificates clients may show.
type Clients struct {
	file    string
	text    []byte // as last read; only poll uses it after OpenClients
	base    *tls.Config
	current atomic.Pointer[tls.Config]
	log     *slog.Logger
}

// OpenClients reads the authorities for the first time. base is the server's side of TLS without them.
func OpenClients(file string, base *tls.Config, log *slog.Logger) (*Clients, error) {
	c := &Clients{file: file, base: base, log: log}
	if _, err := c.poll(); err != nil {
		return nil, err
	}
	return c, nil
}

// poll reads the file and takes it into use if it is another than before.
func (c *Clients) poll() (changed bool, err error) {
	text, err := os.ReadFile(c.file)
	if err != nil {
		return false, err
	}
	if bytes.Equal(text, c.text) {
		return false, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return false, fmt.Errorf("%s holds no certificate", c.file)
	}
	config := c.base.Clone()
	config.ClientAuth, config.ClientCAs = tls.VerifyClientCertIfGiven, pool
	config.SessionTicketsDisabled = true // a session that is resumed would pass by an authority that is gone
	c.text = text
	c.current.Store(config)
	return true, nil
}

// Run follows the file until ctx ends.
func (c *Clients) Run(ctx context.Context) {
	follow(ctx, c.poll, func(err error) {
		c.log.Error("the new certificate authorities of clients cannot be used; the old ones stay", "error", err)
	}, func() { c.log.Info("new certificate authorities of clients are in use") })
}

// Config is the server's side of TLS: a client may show a certificate, and one that is not of the newest authorities, or not
// for clients, ends the handshake.
func (c *Clients) Config() *tls.Config {
	config := c.base.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil }
	return config
}
