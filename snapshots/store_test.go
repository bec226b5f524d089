package snapshots_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	_ "gocloud.dev/blob/s3blob" // s3://

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/snapshots"
)

// An s3 is a server that speaks S3's protocol, and that is down when a test says so.
type s3 struct {
	*httptest.Server
	down     atomic.Bool
	refused  atomic.Int64
	uploads  atomic.Int64 // parts
	multiple atomic.Int64 // uploads in parts that were begun
}

func newS3(t *testing.T) (*s3, string) {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("larder"); err != nil {
		t.Fatal(err)
	}
	s := &s3{}
	serve := gofakes3.New(backend).Server()
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case s.down.Load():
			s.refused.Add(1)
			http.Error(w, "down", http.StatusNotImplemented) // what the driver itself tries again takes it seconds
			return
		case r.Method == http.MethodPut && r.URL.Query().Has("partNumber"):
			s.uploads.Add(1)
		case r.Method == http.MethodPost && r.URL.Query().Has("uploads"):
			s.multiple.Add(1)
		}
		serve.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	return s, "s3://larder?region=us-east-1&use_path_style=true&endpoint=" + s.URL
}

// TestStores is the contract of stores: the same for a directory and for a bucket that speaks S3.
func TestStores(t *testing.T) {
	stores := map[string]func(t *testing.T) string{
		"directory": func(t *testing.T) string { return "file://" + t.TempDir() },
		"shared":    func(t *testing.T) string { return "file://" + t.TempDir() + "?shared=true" },
		"s3":        func(t *testing.T) string { _, at := newS3(t); return at },
	}
	for name, at := range stores {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			spool := t.TempDir()
			store, err := snapshots.OpenStore(t.Context(), at(t), spool)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = store.Close() })
			w.cfg.Store = store
			w.open()
			c := w.cache("main", 2)
			w.fill(c)
			snap := w.snapshot(c)
			r, size, err := w.Download(t.Context(), snap)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil || int64(len(b)) != size || size != snap.Size || strings.Contains(string(b), canary) {
				t.Errorf("%d bytes of %d and %d: %v", len(b), size, snap.Size, err)
			}
			if !w.readable(c, snap) {
				t.Error("it cannot be restored")
			}
			left, err := os.ReadDir(spool)
			if err != nil || len(left) > 0 {
				t.Errorf("%v, %v is left on the way", left, err)
			}
			if err := w.Delete(t.Context(), snap); err != nil {
				t.Fatal(err)
			}
			if _, err := store.Open(t.Context(), "never/was/there.larder"); !fault.Is(err, fault.NotFound) {
				t.Error(err)
			}
			if err := store.Drop(t.Context(), "never/was/there.larder"); err != nil {
				t.Error(err)
			}
			if _, _, err := w.Download(t.Context(), snap); !fault.Is(err, fault.NotFound) {
				t.Error("what was deleted is there:", err)
			}
		})
	}
	for _, bad := range []string{"", "snapshots", "file://host/path", "file:///path?x=y", "ftp://x"} {
		if s, err := snapshots.OpenStore(t.Context(), bad, t.TempDir()); err == nil {
			t.Errorf("%q was opened", bad)
			_ = s.Close()
		}
	}
}

// TestAStoreThatIsDownDelays: the cut is over and writes go on unhindered, the snapshot waits on this machine's disk, encrypted, and
// it is there when the store is.
func TestAStoreThatIsDownDelays(t *testing.T) {
	w := newWorld(t)
	server, at := newS3(t)
	spool := t.TempDir()
	store, err := snapshots.OpenStore(t.Context(), at, spool)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	snapshots.Hurry(store)
	w.cfg.Store = store
	w.open()
	c := w.cache("main", 1)
	w.fill(c)
	for i := range 40 { // more than two parts of the store's
		w.do(c, "SET", fmt.Sprint("large", i), strings.Repeat(fmt.Sprint(i), 1<<19))
	}
	server.down.Store(true)
	snap, err := w.Create(t.Context(), c, snapshots.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var p snapshots.Progress
	for range 2000 {
		if _, p, err = w.Get(t.Context(), c.Tenant, c.TenantID, c.Name, snap.ID); err != nil || p.Retries > 1 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err != nil || p.Phase != snapshots.Uploading || p.Retries < 2 || server.refused.Load() == 0 {
		t.Fatalf("%+v, %v", p, err)
	}
	w.do(c, "SET", "meanwhile", "v")
	spooled, err := filepath.Glob(filepath.Join(spool, "*"))
	if err != nil || len(spooled) != 1 {
		t.Fatal(spooled, err)
	}
	if b, err := os.ReadFile(spooled[0]); err != nil || strings.Contains(string(b), canary) {
		t.Errorf("what waits can be read: %v", err)
	}
	twig := w.cache("twig", 1) // the cut is over: another one can begin
	twig.Tenant, twig.TenantID = c.Tenant, c.TenantID
	if err := w.Branch(t.Context(), c, twig, nil, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	server.down.Store(false)
	if snap = w.made(c, snap); snap.State != snapshots.Available || server.multiple.Load() == 0 || server.uploads.Load() < 2 {
		t.Errorf("%+v; %d uploads, %d parts", snap, server.multiple.Load(), server.uploads.Load())
	}
	if left, _ := filepath.Glob(filepath.Join(spool, "*")); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
	server.down.Store(true)
	if err := w.Delete(t.Context(), snap); !fault.Is(err, fault.Unavailable) {
		t.Errorf("deleted from a store that is down: %v", err)
	}
	if w.readable(c, snap) {
		t.Error("restored from a store that is down")
	}
	second, err := w.Create(t.Context(), c, snapshots.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.Close() // the node stops before the store is there again
	if left, _ := filepath.Glob(filepath.Join(spool, "*")); len(left) > 0 {
		t.Errorf("%q is left of %s", left, second.ID)
	}
}
