package etcdembed

import (
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, cfg Config) *Server {
	t.Helper()
	cfg.UnsafeNoFsync = true
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	s, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func client(t *testing.T, s *Server) *clientv3.Client {
	t.Helper()
	c, err := NewClient(s.Endpoints(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func put(t *testing.T, c *clientv3.Client, key, value string) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := c.Put(ctx, key, value)
	if err != nil {
		t.Fatal(err)
	}
	return resp.Header.ClusterId
}

func get(t *testing.T, c *clientv3.Client, key string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	resp, err := c.Get(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Kvs) == 0 {
		return ""
	}
	return string(resp.Kvs[0].Value)
}

func TestServes(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("d", maxSocketPath))
	for _, tc := range []struct {
		name, dir, listen, scheme string
	}{
		{name: "a socket in the directory", dir: filepath.Join(t.TempDir(), "etcd"), scheme: "unix://"},
		{name: "a directory too long for a socket", dir: long, scheme: "unix://"},
		{name: "a directory with a space and signs", dir: filepath.Join(t.TempDir(), "my data#1%20?"), scheme: "unix://"},
		{name: "a free port", dir: t.TempDir(), listen: "127.0.0.1:0", scheme: "http://127.0.0.1:"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := start(t, Config{Dir: tc.dir, ListenClient: tc.listen})
			if e := s.Endpoints(); len(e) != 1 || !strings.HasPrefix(e[0], tc.scheme) || strings.HasSuffix(e[0], ":0") {
				t.Fatalf("Endpoints() = %q, want one that begins with %s", e, tc.scheme)
			}
			c := client(t, s)
			put(t, c, "k", "v")
			if got := get(t, c, "k"); got != "v" {
				t.Fatalf("got %q", got)
			}
		})
	}
}

// The data must survive whatever changes about the addresses, and keep its cluster id; new data has a new one.
func TestRestart(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a")
	s := start(t, Config{Dir: dir})
	id := put(t, client(t, s), "k", "v")
	s.Close()

	s = start(t, Config{Dir: dir, ListenClient: "127.0.0.1:0"})
	c := client(t, s)
	if got := get(t, c, "k"); got != "v" {
		t.Fatalf("on a port: got %q", got)
	}
	s.Close()

	moved := filepath.Join(root, "b")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	s = start(t, Config{Dir: moved})
	c = client(t, s)
	if got := get(t, c, "k"); got != "v" {
		t.Fatalf("in another directory: got %q", got)
	}
	if again := put(t, c, "k", "w"); again != id {
		t.Fatalf("cluster id was %x, is %x", id, again)
	}
	if fresh := put(t, client(t, start(t, Config{Dir: dir})), "k", "w"); fresh == id {
		t.Fatal("a new directory has the cluster id of another")
	}
}

// One client sees the server go and come back on the same socket.
func TestClientReconnects(t *testing.T) {
	dir := t.TempDir()
	s := start(t, Config{Dir: dir})
	c := client(t, s)
	put(t, c, "k", "v")
	s.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Get(ctx, "k"); err == nil {
		t.Fatal("a closed server answered")
	}
	start(t, Config{Dir: dir})
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := c.Get(ctx, "k")
		cancel()
		if err == nil {
			return
		}
	}
}

func TestPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{Dir: dir})
	put(t, client(t, s), "k", "v")
	info, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o700 {
		t.Fatalf("mode of Dir is %v", info.Mode())
	}
	if _, err := os.Stat(filepath.Join(dir, "client.sock")); err != nil {
		t.Fatal(err)
	}
	if len(s.etcd.Peers) != 0 {
		t.Fatalf("%d peer listeners", len(s.etcd.Peers))
	}
	for _, l := range s.etcd.Clients {
		if _, ok := l.Addr().(*net.UnixAddr); !ok {
			t.Fatalf("listens on %v", l.Addr())
		}
	}
	var size int64
	filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if info, err := e.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	if size > 64<<20 {
		t.Fatalf("a nearly empty directory takes %d MiB", size>>20)
	}
}

func TestRefuses(t *testing.T) {
	used := t.TempDir()
	start(t, Config{Dir: used})
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tc := range []struct {
		name string
		cfg  Config
		want string
	}{
		{name: "no directory", want: "Dir is empty"},
		{name: "a file for a directory", cfg: Config{Dir: file}, want: "Dir"},
		{name: "a directory in use", cfg: Config{Dir: used}, want: "in use by another process"},
		{name: "every interface", cfg: Config{Dir: t.TempDir(), ListenClient: "0.0.0.0:0"}, want: "not a loopback"},
		{name: "no host", cfg: Config{Dir: t.TempDir(), ListenClient: ":2379"}, want: "not a loopback"},
		{name: "a foreign name", cfg: Config{Dir: t.TempDir(), ListenClient: "example.org:1"}, want: "not a loopback"},
		{name: "no port", cfg: Config{Dir: t.TempDir(), ListenClient: "127.0.0.1"}, want: "host:port"},
		{name: "a port in use", cfg: Config{Dir: t.TempDir(), ListenClient: taken.Addr().String()}, want: "address already in use"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.cfg.Logger = slog.New(slog.DiscardHandler)
			s, err := Start(t.Context(), tc.cfg)
			if err == nil {
				s.Close()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("%q does not contain %q", err, tc.want)
			}
		})
	}
}

func TestLog(t *testing.T) {
	var out bytes.Buffer
	quiet := start(t, Config{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&out, nil))})
	put(t, client(t, quiet), "k", "v")
	quiet.Close()
	if out.Len() > 0 {
		t.Errorf("an undisturbed life logged:\n%s", out.String())
	}

	out.Reset()
	lg := zap.New(&slogCore{log: slog.New(slog.NewTextHandler(&out, nil)), closing: new(atomic.Bool)}).With(zap.Int("member", 7))
	lg.Info("chatter")
	lg.Warn("slow", zap.String("took", "1s"), zap.String("request", "secret"))
	lg.Error("broken")
	got := out.String()
	for _, want := range []string{"level=WARN msg=slow member=7 took=1s\n", "level=ERROR msg=broken member=7\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
	if strings.Contains(got, "chatter") || strings.Contains(got, "secret") {
		t.Errorf("says too much:\n%s", got)
	}
}
