package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A newcomer's first minutes: what `larder dev` prints works, for each kind of thing that a cache holds.
func TestDev(t *testing.T) {
	t.Parallel()
	s := dev(t, filepath.Join(t.TempDir(), "data"))
	const main = "/v1/caches/main"

	t.Run("greeting", func(t *testing.T) {
		until(t, "the greeting is printed", func() bool { return strings.Contains(s.stdout.String(), "Ctrl-C") })
		for _, part := range []string{s.url + "/v1", s.url + "/docs", s.key, "curl", "UPSTASH_REDIS_REST_URL=" + s.url + "/redis", "UPSTASH_REDIS_REST_TOKEN=" + s.key} {
			if !strings.Contains(s.stdout.String(), part) {
				t.Errorf("the greeting does not say %q: %s", part, s.stdout)
			}
		}
	})
	t.Run("open routes", func(t *testing.T) {
		for _, path := range []string{"/livez", "/readyz", "/metrics", "/openapi.json", "/docs/", "/.well-known/jwks.json"} {
			s.do(t, http.MethodGet, path, "", "Authorization", "").want(t, http.StatusOK)
		}
	})
	t.Run("values", func(t *testing.T) {
		path := main + "/kv/" + "a%2Fb%00%FF" // any bytes
		value := "one\x00two\xff"
		made := s.do(t, http.MethodPut, path+"?ttl=1h", value, "Content-Type", "application/x-thing").want(t, http.StatusCreated)
		got := s.do(t, http.MethodGet, path, "").want(t, http.StatusOK)
		if got.body != value || got.header.Get("Content-Type") != "application/x-thing" || got.header.Get("ETag") != made.header.Get("ETag") {
			t.Errorf("got %q, %v", got.body, got.header)
		}
		if ttl, err := strconv.Atoi(got.header.Get("X-Larder-TTL-Ms")); err != nil || ttl < 1 || ttl > 3600e3 {
			t.Errorf("got a TTL of %q", got.header.Get("X-Larder-TTL-Ms"))
		}
		s.do(t, http.MethodPut, path, "new", "If-None-Match", "*").code(t, http.StatusPreconditionFailed, "precondition_failed")
		s.do(t, http.MethodPut, path, "new", "If-Match", made.header.Get("ETag")).want(t, http.StatusNoContent)
		s.do(t, http.MethodPut, path, "newer", "If-Match", made.header.Get("ETag")).code(t, http.StatusPreconditionFailed, "precondition_failed")
		s.do(t, http.MethodGet, main+"/kv?prefix=a%2F", "").want(t, http.StatusOK).says(t, "keys.0.key.base64", "YS9iAP8=", "keys.0.type", "string", "next_cursor", "")
		s.do(t, http.MethodDelete, path, "").want(t, http.StatusNoContent)
		s.do(t, http.MethodGet, path, "").code(t, http.StatusNotFound, "not_found")
	})
	t.Run("sessions", func(t *testing.T) {
		const all = main + "/sessions"
		made := s.do(t, http.MethodPost, all, `{"data":{"cart":[1]},"user":"ann","idle_ttl":"30m","absolute_ttl":"24h"}`).want(t, http.StatusCreated)
		id := made.get(t, "id").(string)
		s.do(t, http.MethodGet, all+"/"+id, "").want(t, http.StatusOK).says(t, "data.cart.0", "1", "user", "ann", "expires_at", made.get(t, "expires_at").(string))
		s.do(t, http.MethodPatch, all+"/"+id, `{"cart":null,"theme":"dark"}`, "Content-Type", "application/merge-patch+json").want(t, http.StatusOK).says(t, "data", "map[theme:dark]")
		rotated := s.do(t, http.MethodPost, all+"/"+id+"/rotate", "").want(t, http.StatusOK).says(t, "data.theme", "dark").get(t, "id").(string)
		s.do(t, http.MethodGet, all+"/"+id, "").code(t, http.StatusNotFound, "not_found")
		s.do(t, http.MethodGet, all+"?user=ann", "").want(t, http.StatusOK).says(t, "sessions.0.id", rotated)
		s.do(t, http.MethodDelete, all+"?user=ann", "").want(t, http.StatusOK).says(t, "revoked", "1")
		s.do(t, http.MethodGet, all+"/"+rotated, "").code(t, http.StatusNotFound, "not_found")
	})
	t.Run("leaderboards", func(t *testing.T) {
		const board = main + "/leaderboards/scores"
		s.do(t, http.MethodPost, board+"/members", `{"members":[{"member":"ann","score":30},{"member":"bob","score":10},{"member":"cy","score":30}]}`).want(t, http.StatusOK).says(t, "added", "3", "total", "3")
		s.do(t, http.MethodPut, board+"/members/bob", `{"score":10,"mode":"increment"}`).want(t, http.StatusOK).says(t, "score", "20", "rank", "3", "competition_rank", "3", "dense_rank", "2")
		s.do(t, http.MethodGet, board+"/members?limit=2", "").want(t, http.StatusOK).says(t, "members.0.member", "ann", "members.1.member", "cy", "members.1.competition_rank", "1", "total", "3")
		s.do(t, http.MethodGet, board+"/members/bob/around?above=1&below=1", "").want(t, http.StatusOK).says(t, "members.0.member", "cy", "members.1.member", "bob")
	})
	t.Run("counters", func(t *testing.T) {
		const counter = main + "/counters/views"
		s.do(t, http.MethodPost, counter, `{"by":5,"ttl":"1h","min":0,"max":100,"overflow":"reject"}`).want(t, http.StatusOK).says(t, "name", "views", "value", "5")
		s.do(t, http.MethodPost, counter, `{"by":96,"max":100}`).code(t, http.StatusConflict, "overflow")
		for range 3 { // one request and two retries of it
			s.do(t, http.MethodPost, counter, `{"by":2}`, "Idempotency-Key", "k-1").want(t, http.StatusOK).says(t, "value", "7")
		}
		s.do(t, http.MethodPost, counter, `{"by":3}`, "Idempotency-Key", "k-1").code(t, http.StatusUnprocessableEntity, "idempotency_key_reused")
		s.do(t, http.MethodPost, counter+"/reset", "").want(t, http.StatusOK).says(t, "value", "7")
		s.do(t, http.MethodGet, counter, "").want(t, http.StatusOK).says(t, "value", "0")
	})
	t.Run("batch", func(t *testing.T) {
		s.do(t, http.MethodPost, main+"/commands", `{"commands":[["SET","k","v","EX",60],["GET","k"],["INCR","k"]]}`).want(t, http.StatusOK).
			says(t, "results.1.result", "v", "results.2.error.code", "invalid_argument")
	})
	t.Run("no credential", func(t *testing.T) {
		for _, credential := range []string{"", "Bearer nonsense", "Bearer " + s.key[:len(s.key)-1] + "-"} { // no key ends so
			s.do(t, http.MethodGet, main+"/kv/k", "", "Authorization", credential).code(t, http.StatusUnauthorized, "unauthenticated")
		}
	})
	s.stop(t)
}

// What belongs to the control plane survives a restart, and so does the key; what is in the cache, see TestHandOver.
// dev.json is there, for its owner alone, exactly while the server serves.
func TestDevRestart(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	file := filepath.Join(dir, "dev.json")

	first := dev(t, dir)
	mode(t, dir, 0o700)
	mode(t, file, 0o600)
	first.do(t, http.MethodPost, "/v1/caches", `{"name":"mine","memory_limit_bytes":2097152}`).want(t, http.StatusCreated)
	first.do(t, http.MethodPut, "/v1/policies/reads", `{"document":{"Version":"2012-10-17","Statement":[{"Sid":"Read","Effect":"Allow","Action":"cache:Get","Resource":"*"}]}}`).want(t, http.StatusCreated)
	first.do(t, http.MethodPut, "/v1/caches/mine/kv/k", "v").want(t, http.StatusCreated)
	first.stop(t)
	if _, err := os.Stat(file); !os.IsNotExist(err) {
		t.Errorf("dev.json is there although nothing serves: %v", err)
	}
	for _, name := range []string{"demo-key", "operator-token", "control.copy"} {
		mode(t, filepath.Join(dir, name), 0o600)
	}

	second := dev(t, dir)
	if second.key != first.key || second.operator != first.operator {
		t.Error("the keys are others after the restart")
	}
	second.do(t, http.MethodGet, "/v1/caches/mine", "").want(t, http.StatusOK).says(t, "memory_limit_bytes", "2097152")
	second.do(t, http.MethodGet, "/v1/policies/reads", "").want(t, http.StatusOK)
	second.do(t, http.MethodGet, "/v1/caches/mine/kv/k", "").want(t, http.StatusOK)

	// A process that is killed leaves a dev.json behind. The next one replaces it.
	second.kill()
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	third := start(t, binary, []string{"dev", "--data-dir", dir, "--http-addr", "127.0.0.1:0"}, nil)
	until(t, "dev.json is another one", func() bool {
		third.mustRun(t)
		content, err := os.ReadFile(file)
		return err == nil && !strings.Contains(string(content), `"`+second.url+`"`)
	})
	third.stop(t)
}

// mode fails the test unless a file has this mode.
func mode(t *testing.T, name string, want os.FileMode) {
	t.Helper()
	if info, err := os.Stat(name); err != nil {
		t.Error(err)
	} else if info.Mode().Perm() != want {
		t.Errorf("%s has mode %v, want %v", name, info.Mode().Perm(), want)
	}
}

// A second process on the same directory is refused, and the first goes on undisturbed.
func TestDevTwice(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := dev(t, dir)
	for _, verb := range []string{"dev", "serve"} {
		p := start(t, binary, []string{verb, "--data-dir", dir, "--http-addr", "127.0.0.1:0"}, nil)
		if status := p.wait(t); status != 1 || !strings.Contains(p.stderr.String(), "data-dir: another larder uses "+dir) {
			t.Errorf("%s: exit status %d: %s", verb, status, p.stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "dev.json")); err != nil {
		t.Error(err)
	}
	s.do(t, http.MethodGet, "/readyz", "").want(t, http.StatusOK)
	s.stop(t)
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	s := dev(t, filepath.Join(t.TempDir(), "data"))
	dir := filepath.Join(t.TempDir(), "data")
	address := strings.TrimPrefix(s.url, "http://")
	p := start(t, binary, []string{"dev", "--data-dir", dir, "--http-addr", address}, nil)
	if status := p.wait(t); status != 2 || !strings.Contains(p.stderr.String(), "http-addr:") || !strings.Contains(p.stderr.String(), "address already in use") {
		t.Errorf("exit status %d: %s", status, p.stderr)
	}
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(p.stderr.String())), func(line string) bool {
		return strings.Contains(line, `"part":"etcd"`) // which complains of a slow disk
	})
	if len(lines) != 1 {
		t.Errorf("want one line: %s", p.stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "dev.json")); !os.IsNotExist(err) {
		t.Errorf("dev.json is there although nothing serves: %v", err)
	}
}

// Ctrl-C before it serves is no failure either.
func TestStopWhileStarting(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := start(t, binary, []string{"dev", "--data-dir", dir, "--http-addr", "127.0.0.1:0"}, nil)
	until(t, "it has begun", func() bool { _, err := os.Stat(filepath.Join(dir, "lock")); return err == nil })
	p.signal(t, syscall.SIGTERM)
	if status := p.wait(t); status != 0 {
		t.Errorf("exit status %d: %s", status, p.stderr)
	}
	dev(t, dir).stop(t) // and nothing is in the way of the next
}

// Three nodes in one process are a cluster: what one has acknowledged the others answer, also when one is killed, and tenants and
// keys survive a restart of all.
func TestDevNodes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	first := dev(t, dir, "--nodes", "3", "--redis-addr", "127.0.0.1:0", "--memcache-addr", "")
	var facts struct {
		Nodes []struct{ Name, Zone, HTTP, Redis string }
	}
	text, err := os.ReadFile(filepath.Join(dir, "dev.json"))
	if err == nil {
		err = json.Unmarshal(text, &facts)
	}
	if err != nil || len(facts.Nodes) != 3 || facts.Nodes[0].HTTP != first.url || facts.Nodes[2].Zone != "zone-3" || facts.Nodes[1].Redis == "" {
		t.Fatalf("dev.json tells of %+v: %v", facts.Nodes, err)
	}
	node := func(i int) *server { return &server{first.process, facts.Nodes[i].HTTP, first.key, first.operator} }
	tell := func(line, answer string) {
		before := strings.Count(first.stdout.String(), answer)
		if _, err := io.WriteString(first.stdin, line+"\n"); err != nil {
			t.Fatal(err)
		}
		until(t, answer, func() bool { return strings.Count(first.stdout.String(), answer) > before })
	}
	if body := first.asOperator(t, http.MethodGet, "/v1/cluster", "").want(t, http.StatusOK).body; strings.Count(body, `"voters":3`) != 8 || strings.Count(body, `"state":"up"`) != 3 {
		t.Errorf("the cluster is not whole when it greets: %s", body)
	}
	first.do(t, http.MethodPut, "/v1/caches/main/kv/k", "v").want(t, http.StatusCreated)
	tell("kill n1", "n1 has ended")
	if got := node(1).do(t, http.MethodGet, "/v1/caches/main/kv/k", "").want(t, http.StatusOK).body; got != "v" {
		t.Errorf("after the loss of a node the value is %q", got)
	}
	node(2).do(t, http.MethodPut, "/v1/caches/main/kv/k", "w").want(t, http.StatusNoContent)
	tell("start n1", "n1 serves again")
	if got := first.do(t, http.MethodGet, "/v1/caches/main/kv/k", "").want(t, http.StatusOK).body; got != "w" {
		t.Errorf("the node that came back answers with %q", got)
	}
	tell("stop n1", "n1 has ended")
	tell("kill n3", "n3 has ended") // without a quorum one that is left still reads
	eventual := node(1).do(t, http.MethodGet, "/v1/caches/main/kv/k?consistency=eventual", "").want(t, http.StatusOK)
	if was := eventual.header.Get("X-Larder-Consistency"); eventual.body == "" || !strings.HasPrefix(was, "eventual; age=") && was != "leader" {
		t.Errorf("without a quorum a read is %q: %s", was, eventual.body)
	}
	tell("stop n4", "Want stop, kill or start, and a node from n1 to n3")
	first.stop(t)
	if _, err := os.Stat(filepath.Join(dir, "dev.json")); !os.IsNotExist(err) {
		t.Errorf("dev.json is there although nothing serves: %v", err)
	}
	second := dev(t, dir, "--nodes", "3", "--redis-addr", "", "--memcache-addr", "")
	if second.key != first.key {
		t.Error("the key is another one after the restart")
	}
	second.do(t, http.MethodPut, "/v1/caches/main/kv/k", "v").want(t, http.StatusCreated)
	second.stop(t)
}
