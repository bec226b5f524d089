package e2e

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// A snapshot outlives the data, a restart and a killed process; no file shows what is in it, and one that was changed in the
// store is not restored.
func TestSnapshots(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := dev(t, dir)
	sh := newShell(t, s)
	const main = "/v1/caches/main"
	s.do(t, http.MethodPut, main+"/kv/k?ttl=1h", canary).want(t, http.StatusCreated)
	s.do(t, http.MethodPost, main+"/commands", `{"commands":[["RPUSH","list","a","`+canary+`"],["HSET","h","f","`+canary+`"],["XADD","x","*","f","`+canary+`"]]}`).want(t, http.StatusOK)
	id := sh.json(t, "snapshot", "create", "main").says(t, "state", "available", "keys", "4").get(t, "id").(string)
	sh.json(t, "snapshot", "show", "main", id).says(t, "state", "available")
	file := filepath.Join(t.TempDir(), "file")
	sh.do(t, "snapshot", "download", "main", id, "--file", file)
	mode(t, file, 0o600)
	noFileShows(t, dir)
	noFileShows(t, filepath.Dir(file))

	s.kill()
	if err := os.Remove(filepath.Join(dir, "dev.json")); err != nil {
		t.Fatal(err)
	}
	again := dev(t, dir)
	sh = newShell(t, again)
	again.do(t, http.MethodGet, main+"/kv/k", "").code(t, http.StatusNotFound, "not_found")
	sh.run(t, "", "snapshot", "restore", "main", id, "main").fails(t, 5, "exists already")
	sh.do(t, "snapshot", "restore", "main", id, "main", "--overwrite", "main", "--yes")
	if got := again.do(t, http.MethodGet, main+"/kv/k", "").want(t, http.StatusOK); got.body != canary {
		t.Errorf("got %q", got.body)
	}
	again.do(t, http.MethodPost, main+"/commands", `{"commands":[["LRANGE","list",0,-1],["HGET","h","f"],["XLEN","x"]]}`).want(t, http.StatusOK).
		says(t, "results.0.result.1", canary, "results.1.result", canary, "results.2.result", "1")
	sh.json(t, "snapshot", "restore", "main", id, "copy", "--prefix", "l", "--freeze-ttl").says(t, "state", "done")
	again.do(t, http.MethodPost, "/v1/caches/copy/commands", `{"commands":[["DBSIZE"]]}`).want(t, http.StatusOK).says(t, "results.0.result", "1")

	stored, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "*", id+"*"))
	if err != nil || len(stored) != 1 {
		t.Fatal(stored, err)
	}
	content, err := os.ReadFile(stored[0])
	if err != nil {
		t.Fatal(err)
	}
	content = bytes.Clone(content)
	content[len(content)-30] ^= 1
	if err := os.WriteFile(stored[0], content, 0o600); err != nil {
		t.Fatal(err)
	}
	again.do(t, http.MethodPut, main+"/kv/k", "as it was").want(t, http.StatusNoContent)
	sh.run(t, "", "snapshot", "restore", "main", id, "main", "--overwrite", "main", "--yes").fails(t, 1, "nothing was restored")
	if got := again.do(t, http.MethodGet, main+"/kv/k", "").want(t, http.StatusOK); got.body != "as it was" {
		t.Errorf("got %q", got.body)
	}
	sh.do(t, "snapshot", "delete", "main", id, "--yes")
	sh.run(t, "", "snapshot", "show", "main", id).fails(t, 3, "no snapshot")
	again.stop(t)
	noFileShows(t, dir)
}
