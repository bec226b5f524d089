package e2e

import (
	"bytes"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// canary is what no file may show.
const canary = "canary-93b1f6d2e0c74a58-in-plain-text"

// noFileShows fails the test if a file in a directory has the canary in it.
func noFileShows(t *testing.T, dir string) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			return nil
		}
		if files++; bytes.Contains(content, []byte(canary)) {
			t.Errorf("%s shows what is in a cache", path)
		}
		return err
	})
	if err != nil || files == 0 {
		t.Errorf("%d files: %v", files, err)
	}
}

// What is in the caches is there after an orderly restart, with what remains of its time. A process that is killed leaves nothing
// that would come back later, and what cannot be read is not read half.
func TestHandOver(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	const main = "/v1/caches/main"
	file := filepath.Join(dir, "hand-over.larder")

	first := dev(t, dir)
	first.do(t, http.MethodPut, main+"/kv/k?ttl=1h", canary, "Content-Type", "text/x-thing").want(t, http.StatusCreated)
	made := first.do(t, http.MethodGet, main+"/kv/k", "").want(t, http.StatusOK)
	first.do(t, http.MethodPost, main+"/commands", `{"commands":[["RPUSH","list","a","b"],["HSET","h","f","`+canary+`"],["ZADD","z",1,"m"],["XADD","x","*","f","v"]]}`).want(t, http.StatusOK)
	session := first.do(t, http.MethodPost, main+"/sessions", `{"data":{"a":1},"user":"ann"}`).want(t, http.StatusCreated).get(t, "id").(string)
	first.do(t, http.MethodPost, main+"/counters/n", `{"by":5}`, "Idempotency-Key", "once").want(t, http.StatusOK)
	first.stop(t)
	mode(t, file, 0o600)
	mode(t, filepath.Join(dir, "master-keys.json"), 0o600)
	noFileShows(t, dir)
	left, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}

	second := dev(t, dir)
	gone := func() {
		t.Helper()
		if _, err := os.Stat(file); !os.IsNotExist(err) {
			t.Errorf("the hand-over is there while it serves: %v", err)
		}
	}
	gone()
	got := second.do(t, http.MethodGet, main+"/kv/k", "").want(t, http.StatusOK)
	if got.body != canary || got.header.Get("ETag") != made.header.Get("ETag") || got.header.Get("Content-Type") != "text/x-thing" || got.header.Get("X-Larder-TTL-Ms") == "" {
		t.Errorf("got %q, %v", got.body, got.header)
	}
	second.do(t, http.MethodPost, main+"/commands", `{"commands":[["LRANGE","list",0,-1],["HGET","h","f"],["ZSCORE","z","m"],["XLEN","x"]]}`).want(t, http.StatusOK).
		says(t, "results.0.result.1", "b", "results.1.result", canary, "results.3.result", "1")
	second.do(t, http.MethodGet, main+"/sessions?user=ann", "").want(t, http.StatusOK).says(t, "sessions.0.id", session)
	second.do(t, http.MethodPost, main+"/counters/n", `{"by":5}`, "Idempotency-Key", "once").want(t, http.StatusOK).says(t, "value", "5")
	second.do(t, http.MethodPut, main+"/kv/k", "newer").want(t, http.StatusNoContent)
	killed := func(s *server) {
		s.kill()
		if err := os.Remove(filepath.Join(dir, "dev.json")); err != nil { // or the next one would seem to serve already
			t.Error(err)
		}
	}
	killed(second) // nothing of before may come back

	third := dev(t, dir)
	third.do(t, http.MethodGet, main+"/kv/k", "").code(t, http.StatusNotFound, "not_found")
	third.do(t, http.MethodPut, main+"/kv/k", "v").want(t, http.StatusCreated)
	third.stop(t)

	// One that is damaged, or of another node, is put aside.
	for what, content := range map[string][]byte{"cut off": left[:len(left)-1], "damaged": append(append(bytes.Clone(left[:len(left)/2]), left[len(left)/2]^1), left[len(left)/2+1:]...), "empty": nil} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s := dev(t, dir)
		gone()
		s.do(t, http.MethodGet, main+"/kv/k", "").code(t, http.StatusNotFound, "not_found")
		s.do(t, http.MethodPost, main+"/commands", `{"commands":[["DBSIZE"]]}`).want(t, http.StatusOK).says(t, "results.0.result", "0")
		if !bytes.Contains([]byte(s.stderr.String()), []byte("the caches start empty")) {
			t.Errorf("%s: the log does not say so: %s", what, s.stderr)
		}
		if _, err := os.Stat(filepath.Join(dir, "hand-over.refused")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		killed(s)
	}
	noFileShows(t, dir)
}
