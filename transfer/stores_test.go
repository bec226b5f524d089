package transfer

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	_ "gocloud.dev/blob/s3blob" // s3://

	"github.com/larder-cache/larder/internal/fault"
)

func TestStoresAreWhatTheOperatorSays(t *testing.T) {
	for _, good := range []string{"file:///srv/dumps", "file:///srv/dumps/?prefix={tenant}/", "s3://dumps?region=eu-central-1&prefix=a/b/", "gs://dumps", "azblob://dumps/"} {
		if _, err := OpenStores([]string{good}); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "dumps", "file://host/dumps", "file:dumps", "file:///dumps?metadata=skip", "http://dumps", "s3://", "s3://dumps/folder", "s3://user@dumps", "gs://dumps#x", "mem://",
		"s3://dumps?prefix=acme", "file:///dumps?prefix={tenant}",
	} {
		if _, err := OpenStores([]string{bad}); err == nil {
			t.Errorf("%q is allowed", bad)
		}
	}
}

func TestNothingElseIsOpened(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"open/a.rdb": "open", "by-tenant/acme/in/a.rdb": "acme's", "by-tenant/other/a.rdb": "other's", "secret.rdb": "secret", "open-not/a.rdb": "secret", "by-tenant/acme-2/a.rdb": "acme-2's",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := OpenStores([]string{"file://" + dir + "/open", "file://" + dir + "/by-tenant?prefix={tenant}/"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := "file://" + dir
	for _, c := range []struct {
		name, from, want string
		kind             fault.Kind
	}{
		{name: "a file", from: at + "/open/a.rdb", want: "open"},
		{name: "a file of the tenant's own", from: at + "/by-tenant/acme/in/a.rdb", want: "acme's"},
		{name: "one that is not there", from: at + "/open/b.rdb", kind: fault.NotFound},
		{name: "another tenant's", from: at + "/by-tenant/other/a.rdb", kind: fault.Denied},
		{name: "of a tenant whose name begins so", from: at + "/by-tenant/acme-2/a.rdb", kind: fault.Denied},
		{name: "beside the store", from: at + "/secret.rdb", kind: fault.Denied},
		{name: "beside the store, and not there", from: at + "/none.rdb", kind: fault.Denied},
		{name: "a folder whose name begins so", from: at + "/open-not/a.rdb", kind: fault.Denied},
		{name: "upwards", from: at + "/open/../secret.rdb", kind: fault.Denied},
		{name: "upwards from the tenant's", from: at + "/by-tenant/acme/../other/a.rdb", kind: fault.Denied},
		{name: "upwards, encoded", from: at + "/open/%2e%2e/secret.rdb", kind: fault.Denied},
		{name: "upwards, with a backslash", from: at + "/open/..%5csecret.rdb", kind: fault.Denied},
		{name: "an empty part", from: at + "/open//a.rdb", kind: fault.Denied},
		{name: "the folder", from: at + "/open/", kind: fault.Denied},
		{name: "another host", from: "file://host" + dir + "/open/a.rdb", kind: fault.Denied},
		{name: "another scheme", from: "http://169.254.169.254/latest/meta-data", kind: fault.Denied},
		{name: "a bucket that is not allowed", from: "s3://dumps/a.rdb", kind: fault.Denied},
		{name: "another endpoint", from: "s3://dumps/a.rdb?endpoint=http://10.0.0.1", kind: fault.InvalidArgument},
		{name: "with a password", from: "s3://user:password@dumps/a.rdb", kind: fault.InvalidArgument},
		{name: "a path", from: "/etc/passwd", kind: fault.InvalidArgument},
		{name: "an opaque one", from: "file:etc/passwd", kind: fault.InvalidArgument},
		{name: "a name that is too long", from: at + "/open/" + strings.Repeat("x", 2000), kind: fault.Denied},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := s.Open(t.Context(), "acme", c.from)
			if c.want == "" {
				if err == nil || fault.From(err).Kind != c.kind {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if b, err := io.ReadAll(r); err != nil || string(b) != c.want {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// TestAStoreThatBreaksOff: what is left is asked for, as often as need be, and a file that has become another is refused.
func TestAStoreThatBreaksOff(t *testing.T) {
	backend := s3mem.New()
	if err := backend.CreateBucket("dumps"); err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	put := func(b []byte) {
		if _, err := backend.PutObject("dumps", "acme/dump.rdb", nil, bytes.NewReader(b), int64(len(b)), nil); err != nil {
			t.Fatal(err)
		}
	}
	put(want)
	serve := gofakes3.New(backend).Server()
	asked := []string{}
	most := 300 << 10
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			asked = append(asked, r.Header.Get("Range"))
			w = &breakingOff{w, most}
		}
		serve.ServeHTTP(w, r)
	}))
	defer web.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "id")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	s, err := OpenStores([]string{"s3://dumps?region=us-east-1&use_path_style=true&endpoint=" + web.URL + "&prefix={tenant}/"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	r, err := s.Open(t.Context(), "acme", "s3://dumps/acme/dump.rdb")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || !bytes.Equal(b, want) {
		t.Errorf("%d bytes of %d, %v", len(b), len(want), err)
	}
	if len(asked) != 4 || asked[0] == asked[3] {
		t.Errorf("%q", asked)
	}
	r, err = s.Open(t.Context(), "acme", "s3://dumps/acme/dump.rdb")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	put(want[:len(want)-1])
	if _, err := io.ReadAll(r); !fault.Is(err, fault.Conflict) {
		t.Error(err)
	}
	if _, err := s.Open(t.Context(), "other", "s3://dumps/acme/dump.rdb"); !fault.Is(err, fault.Denied) {
		t.Error(err)
	}
	web.Close()
	if _, err := s.Open(t.Context(), "acme", "s3://dumps/acme/dump.rdb"); !fault.Is(err, fault.Unavailable) || strings.Contains(fmt.Sprint(fault.From(err).Message), web.URL) {
		t.Error(err)
	}
}

// breakingOff ends an answer in the middle.
type breakingOff struct {
	http.ResponseWriter
	left int
}

func (w *breakingOff) Write(p []byte) (int, error) {
	if len(p) > w.left {
		_, _ = w.ResponseWriter.Write(p[:w.left]) // it breaks off anyway
		w.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}
