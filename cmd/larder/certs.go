package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
)

// How long certificates hold. A node reads its certificate again when the file changes, so it can be renewed in place.
const (
	authorityYears = 10
	nodeYears      = 2
)

func certsCommand() *cobra.Command {
	dir := ""
	cmd := &cobra.Command{
		Use:   "certs NODE...",
		Short: "Make certificates with which nodes know each other",
		Long: trimLines(`
Make certificates with which nodes know each other, for installations that have no authority of their own.

The first time an authority is made: DIR/ca.crt, which every node gets (--peer-ca), and DIR/ca.key, which no node
needs: whoever has it can join the cluster. For each NODE, the --name of a node, DIR/NODE.crt and DIR/NODE.key are
made (--peer-cert, --peer-key); a node that has them already gets new ones, and takes them up while it runs.`),
		Example: `  larder cluster certs --dir certs n1 n2 n3
  larder serve --name n1 --peer-addr 10.0.0.7:7946 --peer-ca certs/ca.crt --peer-cert certs/n1.crt --peer-key certs/n1.key`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().StringVar(&dir, "dir", "certs", "directory of the files; made if missing")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		for _, name := range names {
			if !nodeName.MatchString(name) || name == "ca" {
				return misuse("%q: a node's name has 1 to 63 letters, digits, dots, dashes and underscores, and is not ca", name)
			}
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		ca, err := openAuthority(dir)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := ca.issue(dir, name); err != nil {
				return err
			}
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), filepath.Join(dir, name+".crt")); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// An authority says who is a node of a cluster.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// openAuthority reads the authority in a directory, or makes it there.
func openAuthority(dir string) (*authority, error) {
	keyFile, certFile := filepath.Join(dir, "ca.key"), filepath.Join(dir, "ca.crt")
	text, err := os.ReadFile(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return makeAuthority(keyFile, certFile)
	}
	if err != nil {
		return nil, err
	}
	key, err := decodePEM(keyFile, text, x509.ParsePKCS8PrivateKey)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%s holds no key that signs", keyFile)
	}
	if text, err = os.ReadFile(certFile); err != nil {
		return nil, err
	}
	certificate, err := decodePEM(certFile, text, x509.ParseCertificate)
	if err != nil {
		return nil, err
	}
	return &authority{certificate, signer}, nil
}

func decodePEM[T any](file string, text []byte, parse func([]byte) (T, error)) (v T, err error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return v, fmt.Errorf("%s is no PEM file", file)
	}
	if v, err = parse(block.Bytes); err != nil {
		return v, fmt.Errorf("%s: %w", file, err)
	}
	return v, nil
}

func makeAuthority(keyFile, certFile string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key}
	a.certificate, err = a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "Larder cluster"}, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}, authorityYears, key.Public())
	if err != nil {
		return nil, err
	}
	// The key comes last: where there is one, there is a certificate.
	if err := writePEM(certFile, "CERTIFICATE", a.certificate.Raw); err != nil {
		return nil, err
	}
	return a, writeKey(keyFile, key)
}

// sign fills in and signs a certificate; the authority's own as long as it has none.
func (a *authority) sign(c *x509.Certificate, years int, public any) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	c.SerialNumber, c.NotBefore, c.NotAfter = serial, now.Add(-time.Hour), now.AddDate(years, 0, 0) // clocks differ
	parent := a.certificate
	if parent == nil {
		parent = c
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, public, a.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// issue makes a node's key and certificate.
func (a *authority) issue(dir, node string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	c, err := a.sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: node}, DNSNames: []string{node}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, nodeYears, key.Public())
	if err != nil {
		return err
	}
	if err := c.VerifyHostname(node); err != nil {
		return misuse("%q cannot stand in a certificate: %v", node, err)
	}
	// A running node that reads between the two finds that they do not match, and reads again.
	if err := writeKey(filepath.Join(dir, node+".key"), key); err != nil {
		return err
	}
	return writePEM(filepath.Join(dir, node+".crt"), "CERTIFICATE", c.Raw)
}

func writeKey(file string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return writePEM(file, "PRIVATE KEY", der)
}

func writePEM(file, kind string, der []byte) error {
	return writeSecret(file, func() ([]byte, error) { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), nil })
}
