package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// tenant makes a tenant as the operator, takes its owner's key, and makes the cache main.
func (s *server) tenant(t *testing.T, name string) *server {
	t.Helper()
	s.key = s.asOperator(t, http.MethodPost, "/v1/tenants", `{"name":"`+name+`"}`).want(t, http.StatusCreated).get(t, "api_key").(string)
	s.do(t, http.MethodPost, "/v1/caches", `{"name":"main"}`).want(t, http.StatusCreated)
	return s
}

// An operator starts a cluster of one with nothing but the binary, and finds the first key in a file.
func TestServe(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := serve(t, dir).tenant(t, "acme")
	mode(t, filepath.Join(dir, "operator-token"), 0o600)
	s.do(t, http.MethodPut, "/v1/caches/main/kv/k", "v").want(t, http.StatusCreated)
	s.do(t, http.MethodGet, "/v1/tenants", "").code(t, http.StatusForbidden, "denied") // an owner is no operator
	s.do(t, http.MethodGet, "/metrics", "", "Authorization", "").code(t, http.StatusUnauthorized, "unauthenticated")
	mine := s.do(t, http.MethodGet, "/metrics", "").want(t, http.StatusOK).body
	all := s.asOperator(t, http.MethodGet, "/metrics", "").want(t, http.StatusOK).body
	if strings.Contains(mine, "go_goroutines") || !strings.Contains(mine, `larder_cache_items{cache="main",tenant="acme"} 1`) {
		t.Errorf("a tenant's metrics are:\n%s", mine)
	}
	if !strings.Contains(all, "go_goroutines") || !strings.Contains(all, `tenant="acme"`) {
		t.Errorf("an operator's metrics are:\n%s", all)
	}
	s.stop(t)

	again := serve(t, dir)
	if again.operator != s.operator {
		t.Error("the operator's key is another after the restart")
	}
	again.asOperator(t, http.MethodGet, "/v1/tenants/acme", "").want(t, http.StatusOK)
	again.stop(t)
}

// An operator's key that cannot be written is not made: the next start makes it.
func TestOperatorTokenFile(t *testing.T) {
	t.Parallel()
	dir, file := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "missing", "token")
	p := start(t, binary, []string{"serve", "--data-dir", dir, "--http-addr", "127.0.0.1:0", "--operator-token-file", file}, nil)
	if status := p.wait(t); status != 1 || !strings.Contains(p.stderr.String(), "operator-token-file: ") {
		t.Fatalf("exit status %d: %s", status, p.stderr)
	}
	s := serve(t, dir)
	s.asOperator(t, http.MethodGet, "/v1/tenants", "").want(t, http.StatusOK)
	s.stop(t)
}

// Settings come from flags, the environment and a file, and what is wrong is refused by its name.
func TestServeSettings(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "larder.yaml")
	if err := os.WriteFile(file, []byte("http-addr: 127.0.0.1:0\nzone: from-file\nlog-format: json\nlog-level: info\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, binary, []string{"serve", "--config", file, "--name", "from-flag"}, []string{"LARDER_ZONE=from-environment", "LARDER_URL=http://not.a.setting"})
	until(t, "the node serves", func() bool { p.mustRun(t); return p.logged("larder serves", "url") != "" })
	if name, zone := p.logged("larder serves", "node"), p.logged("larder serves", "zone"); name != "from-flag" || zone != "from-environment" {
		t.Errorf("node %s in zone %s", name, zone)
	}
	p.stop(t)
	for variable, says := range map[string]string{"LARDER_ZOME=x": "LARDER_ZOME: there is no such setting", "LARDER_TLS_CERT=x": "tls-cert: ", "LARDER_HTTP_ADDR=:0": "http-addr: "} {
		p := start(t, binary, []string{"serve", "--log-format", "json"}, []string{variable})
		if status := p.wait(t); status != 2 || !strings.HasPrefix(p.stderr.String(), "larder: "+says) {
			t.Errorf("%s: exit status %d: %s", variable, status, p.stderr)
		}
	}
}

// A certificate is what a server shows: two files and who trusts them.
type certificate struct {
	certFile, keyFile string
	serial            int64
	roots             *x509.CertPool
}

// newCertificate writes a certificate for 127.0.0.1, over the one that is there.
func newCertificate(t *testing.T, dir string, serial int64) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "larder e2e"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{certFile: filepath.Join(dir, "tls.crt"), keyFile: filepath.Join(dir, "tls.key"), serial: serial, roots: x509.NewCertPool()}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c.roots.AddCert(parsed)
	for name, block := range map[string]*pem.Block{c.certFile: {Type: "CERTIFICATE", Bytes: der}, c.keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// client trusts the certificate and speaks the protocols it is told to.
func (c certificate) client(t *testing.T, protocols func(*http.Protocols), versions ...uint16) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.roots}, Protocols: &http.Protocols{}}
	if len(versions) > 0 {
		transport.TLSClientConfig.MaxVersion = versions[0]
	}
	protocols(transport.Protocols)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func http1(p *http.Protocols) { p.SetHTTP1(true) }
func http2(p *http.Protocols) { p.SetHTTP2(true) }
func h2c(p *http.Protocols)   { p.SetUnencryptedHTTP2(true) }

// TLS serves HTTP/2 and HTTP/1.1, refuses old versions and plain text, and takes a new certificate into use
// without a restart.
func TestTLS(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	old := newCertificate(t, files, 1)
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--tls-cert", old.certFile, "--tls-key", old.keyFile)
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatalf("it serves at %s", s.url)
	}
	for want, protocols := range map[string]func(*http.Protocols){"HTTP/2.0": http2, "HTTP/1.1": http1} {
		response, err := old.client(t, protocols).Get(s.url + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.Proto != want || response.StatusCode != http.StatusOK || response.TLS.Version != tls.VersionTLS13 {
			t.Errorf("got %s %d over TLS %x, want %s", response.Proto, response.StatusCode, response.TLS.Version, want)
		}
	}
	if response, err := old.client(t, http1, tls.VersionTLS12).Get(s.url + "/readyz"); err == nil {
		response.Body.Close()
		t.Error("TLS 1.2 is served although --tls-min is 1.3")
	}
	if response, err := http.Get("http://" + strings.TrimPrefix(s.url, "https://") + "/readyz"); err == nil {
		if response.Body.Close(); response.StatusCode < 400 {
			t.Errorf("plain text is answered with %d", response.StatusCode)
		}
	}

	renewed := newCertificate(t, files, 2)
	until(t, "the new certificate is shown", func() bool {
		response, err := renewed.client(t, http1).Get(s.url + "/readyz") // each client has connections of its own
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.TLS.PeerCertificates[0].SerialNumber.Int64() == renewed.serial
	})
	s.stop(t)
}

// Without TLS, HTTP/2 is spoken with those who know that it is.
func TestH2C(t *testing.T) {
	t.Parallel()
	s := serve(t, filepath.Join(t.TempDir(), "data"))
	response, err := certificate{}.client(t, h2c).Get(s.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.Proto != "HTTP/2.0" || response.StatusCode != http.StatusOK {
		t.Errorf("got %s %d", response.Proto, response.StatusCode)
	}
	s.stop(t)
}

// Draining tells load balancers first, then lets requests under way end, and then exits with 0.
func TestDrain(t *testing.T) {
	t.Parallel()
	for name, protocols := range map[string]func(*http.Protocols){"http1": http1, "h2c": h2c} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, filepath.Join(t.TempDir(), "data"), "--drain-delay", "5s", "--drain-timeout", "1h").tenant(t, "acme")
			finish, outcome := s.slowPut(t, protocols)
			s.signal(t, syscall.SIGTERM)
			until(t, "readyz says no", func() bool {
				a, err := s.try(http.DefaultClient, http.MethodGet, "/readyz", "")
				if err != nil {
					t.Fatalf("readyz is to answer before the port is closed: %v", err)
				}
				return a.status == http.StatusServiceUnavailable
			})
			s.do(t, http.MethodGet, "/livez", "").want(t, http.StatusOK) // it is no reason to kill it
			until(t, "the port is closed", func() bool {
				conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
				if err == nil {
					conn.Close()
				}
				return err != nil
			})
			s.mustRun(t)
			finish()
			if err := <-outcome; err != nil {
				t.Errorf("a request under way: %v", err)
			}
			if status := s.wait(t); status != 0 {
				t.Errorf("exit status %d", status)
			}
		})
	}
}

// A second signal ends the process at once, whatever is under way.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--drain-delay", "0", "--drain-timeout", "1h").tenant(t, "acme")
	finish, outcome := s.slowPut(t, http1)
	s.signal(t, syscall.SIGTERM)
	until(t, "it drains", func() bool { return s.logged("draining", "timeout") != "" })
	s.mustRun(t)
	until(t, "it ends", func() bool {
		_ = s.cmd.Process.Signal(syscall.SIGTERM) // fails once it has ended
		select {
		case <-s.exited:
			return true
		default:
			return false
		}
	})
	if !s.endedBySignal(syscall.SIGTERM) {
		t.Errorf("it ended with %v", s.err)
	}
	finish()
	if err := <-outcome; err == nil {
		t.Error("the request was answered")
	}
}

// What exceeds the drain's timeout is cut off, and that is no failure of the process.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--drain-delay", "0", "--drain-timeout", "1ms").tenant(t, "acme")
	finish, outcome := s.slowPut(t, http1)
	s.stop(t)
	if s.logged("requests were cut off", "error") == "" {
		t.Error("nobody is told that requests were cut off")
	}
	finish()
	if err := <-outcome; err == nil {
		t.Error("the request was answered")
	}
}

// slowPut begins to write a value and returns when the server is reading it. finish lets it write the rest;
// outcome then tells whether it was answered as it should.
func (s *server) slowPut(t *testing.T, protocols func(*http.Protocols)) (finish func(), outcome <-chan error) {
	t.Helper()
	const begin, end = "half a value, ", "and the other half"
	read, write := io.Pipe()
	r, err := http.NewRequest(http.MethodPut, s.url+"/v1/caches/main/kv/slow", read)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.key)
	r.Header.Set("Expect", "100-continue") // the server asks for the body once its handler reads it
	r.ContentLength = int64(len(begin + end))
	client := certificate{}.client(t, protocols)
	client.Transport.(*http.Transport).ExpectContinueTimeout = 2 * patience
	done := make(chan error, 1)
	go func() {
		response, err := client.Do(r)
		if err == nil {
			answer, _ := io.ReadAll(bufio.NewReader(response.Body))
			response.Body.Close()
			if response.StatusCode != http.StatusCreated {
				err = fmt.Errorf("%s: %s", response.Status, answer)
			}
		}
		read.CloseWithError(io.ErrClosedPipe)
		done <- err
	}()
	if _, err := io.WriteString(write, begin); err != nil {
		t.Fatal(err)
	}
	return func() {
		_, _ = io.WriteString(write, end) // fails when the request has failed, which outcome tells
		_ = write.Close()
	}, done
}
