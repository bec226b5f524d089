package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// A shell is where somebody calls larder: a home, a directory, an environment.
type shell struct {
	dir string
	env []string
}

// newShell returns a shell whose commands speak to s, as told by the environment.
func newShell(t *testing.T, s *server) *shell {
	t.Helper()
	return emptyShell(t).with("LARDER_URL="+s.url, "LARDER_API_KEY="+s.key)
}

// emptyShell returns a shell that knows no server.
func emptyShell(t *testing.T) *shell {
	t.Helper()
	home := t.TempDir()
	return &shell{dir: t.TempDir(), env: environment("HOME="+home, "XDG_CONFIG_HOME="+filepath.Join(home, ".config"))}
}

// with returns the shell with more variables.
func (sh *shell) with(variables ...string) *shell {
	return &shell{sh.dir, append(sh.env[:len(sh.env):len(sh.env)], variables...)}
}

// A result is what became of a command.
type result struct {
	command   string
	status    int
	out, errs string
}

// run calls larder with an input.
func (sh *shell) run(t *testing.T, in string, args ...string) result {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir, cmd.Env, cmd.Stdin = sh.dir, sh.env, strings.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return result{strings.Join(args, " "), cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// do calls larder, fails the test unless it succeeds, and returns what it printed.
func (sh *shell) do(t *testing.T, args ...string) string {
	t.Helper()
	return sh.run(t, "", args...).want(t, 0).out
}

// json calls larder with --json and returns what it printed, to look into with answer's says and get.
func (sh *shell) json(t *testing.T, args ...string) answer {
	t.Helper()
	return answer{body: sh.do(t, append(args, "--json")...), request: "larder " + strings.Join(args, " ")}
}

// want fails the test unless the command ended with this status.
func (r result) want(t *testing.T, status int) result {
	t.Helper()
	if r.status != status {
		t.Fatalf("larder %s: exit status %d, want %d: %s%s", r.command, r.status, status, r.out, r.errs)
	}
	return r
}

// fails fails the test unless the command ended with this status and said why in one line that has these parts.
func (r result) fails(t *testing.T, status int, parts ...string) {
	t.Helper()
	r.want(t, status)
	if !strings.HasPrefix(r.errs, "larder: ") || strings.Count(r.errs, "\n") != 1 || r.out != "" {
		t.Errorf("larder %s: printed %q and said %q, want one line of complaint", r.command, r.out, r.errs)
	}
	for _, part := range parts {
		if !strings.Contains(r.errs, part) {
			t.Errorf("larder %s: %q does not say %q", r.command, r.errs, part)
		}
	}
}

// length is how many items a JSON array has.
func (a answer) length(t *testing.T) int {
	t.Helper()
	var list []json.RawMessage
	if err := json.Unmarshal([]byte(a.body), &list); err != nil {
		t.Fatalf("%s: %v: %s", a.request, err, a.body)
	}
	return len(list)
}

func TestVerbs(t *testing.T) {
	t.Parallel()
	s := dev(t, filepath.Join(t.TempDir(), "data"))
	sh := newShell(t, s)
	operator := sh.with("LARDER_API_KEY=" + s.operator)

	t.Run("kv", func(t *testing.T) {
		etag := sh.json(t, "kv", "set", "a", "one", "--ttl", "1h").get(t, "etag").(string)
		if got := sh.do(t, "kv", "get", "a"); got != "one" {
			t.Errorf("got %q", got)
		}
		sh.json(t, "kv", "get", "a").says(t, "key", "a", "value", "one", "etag", etag, "content_type", "application/octet-stream")
		sh.run(t, "", "kv", "set", "a", "two", "--if-none-match", "*").fails(t, 5, "precondition_failed")
		sh.do(t, "kv", "set", "a", "two", "--if-match", etag)
		sh.run(t, "", "kv", "set", "a", "three", "--if-match", etag).fails(t, 5, "precondition_failed")
		sh.run(t, "", "kv", "del", "a", "--if-match", etag).fails(t, 5, "precondition_failed")

		binary := "zero \x00, not UTF-8 \xff, and no line end"
		sh.run(t, binary, "kv", "set", "b/ä \x01", "--content-type", "image/png").want(t, 0)
		if got := sh.do(t, "kv", "get", "b/ä \x01"); got != binary {
			t.Errorf("got %q", got)
		}
		file := filepath.Join(t.TempDir(), "value")
		if err := os.WriteFile(file, []byte(binary), 0o600); err != nil {
			t.Fatal(err)
		}
		sh.do(t, "kv", "set", "c", "--file", file)
		if got := sh.do(t, "kv", "get", "c"); got != binary {
			t.Errorf("got %q", got)
		}
		sh.run(t, "", "kv", "set", "empty").want(t, 0)
		if got := sh.do(t, "kv", "get", "empty"); got != "" {
			t.Errorf("got %q", got)
		}
		if got := sh.do(t, "kv", "ls", "--prefix", "b/"); !strings.HasPrefix(got, "KEY") || !strings.Contains(got, `"b/ä \x01"  string`) {
			t.Errorf("got %q", got)
		}
		sh.do(t, "kv", "del", "a")
		sh.run(t, "", "kv", "get", "a").fails(t, 3, "not_found")
		sh.run(t, "", "kv", "del", "a").fails(t, 3, "not_found")
		sh.run(t, "", "kv", "get", "a", "--cache", "nowhere").fails(t, 3, "not_found")
		sh.run(t, "", "kv", "del").fails(t, 2, "--prefix")
		sh.run(t, "", "kv", "del", "a", "--prefix", "a").fails(t, 2, "--prefix")
		sh.run(t, "", "kv", "set", "a", "v", "--ttl", "soon").fails(t, 2, "ttl")
		sh.run(t, "", "kv", "set", "a", "v", "--file", file).fails(t, 2, "--file")
	})

	// Lists follow their cursors, beyond what a page holds.
	t.Run("lists", func(t *testing.T) {
		const many = 2300
		var b strings.Builder
		b.WriteString(`{"commands":[["MSET"`)
		for i := range many {
			fmt.Fprintf(&b, `,"many:%d","v"`, i)
		}
		s.do(t, http.MethodPost, "/v1/caches/main/commands", b.String()+`]]}`).want(t, http.StatusOK).says(t, "results.0.result", "OK")
		for _, c := range []struct {
			args []string
			want int
			more bool
		}{{args: nil, want: 100, more: true}, {args: []string{"--limit", "1"}, want: 1, more: true}, {args: []string{"--limit", "2299"}, want: 2299, more: true}, {args: []string{"--all"}, want: many}, {args: []string{"--limit", "100000"}, want: many}} {
			for _, asJSON := range []bool{true, false} {
				args := append([]string{"kv", "ls", "--prefix", "many:"}, c.args...)
				if asJSON {
					args = append(args, "--json")
				}
				r := sh.run(t, "", args...).want(t, 0)
				got := strings.Count(r.out, "\n") - 1 // the header
				if asJSON {
					got = answer{body: r.out, request: r.command}.length(t)
				}
				if got != c.want || strings.Contains(r.errs, "--all") != c.more {
					t.Errorf("larder %s: got %d keys and %q, want %d, more: %v", r.command, got, r.errs, c.want, c.more)
				}
			}
		}
		sh.json(t, "kv", "del", "--prefix", "many:").says(t, "deleted", fmt.Sprint(many))
		if got := sh.json(t, "kv", "ls", "--prefix", "many:").body; got != "[]\n" {
			t.Errorf("an empty list is %q", got)
		}
		sh.run(t, "", "kv", "ls", "--limit", "0").fails(t, 2, "--limit")
	})

	t.Run("cache", func(t *testing.T) {
		sh.json(t, "cache", "create", "mine", "--memory", "64MiB", "--default-ttl", "90s", "--tag", "team=web").
			says(t, "name", "mine", "memory_limit_bytes", "67108864", "tags.team", "web")
		sh.run(t, "", "cache", "create", "mine").fails(t, 5, "conflict")
		sh.run(t, "", "cache", "create", "Mine").fails(t, 2, "invalid_argument")
		sh.run(t, "", "cache", "create", "other", "--memory", "64MB").fails(t, 2, "--memory")
		sh.do(t, "cache", "update", "mine", "--units-per-second", "500")
		sh.do(t, "cache", "update", "mine", "--bytes-per-second", "7000000", "--default-ttl", "")
		sh.json(t, "cache", "show", "mine").says(t, "limits.units_per_second", "500", "limits.bytes_per_second", "7000000", "default_ttl", "<nil>", "memory_limit_bytes", "67108864")
		if got := sh.do(t, "cache", "list"); !strings.HasPrefix(got, "NAME") || !strings.Contains(got, "mine  64 MiB") {
			t.Errorf("got %s", got)
		}
		sh.do(t, "kv", "set", "k", "v", "--cache", "mine")
		sh.json(t, "cache", "show", "mine").says(t, "live.items", "1")
		if got := sh.do(t, "cache", "show", "mine"); !strings.Contains(got, "memory limit      64 MiB\n") {
			t.Errorf("got %s", got)
		}
		sh.do(t, "cache", "flush", "mine")
		sh.run(t, "", "kv", "get", "k", "--cache", "mine").fails(t, 3)
		sh.json(t, "usage", "mine").says(t, "cache", "mine")
		if got := sh.do(t, "usage"); !strings.HasPrefix(got, "CACHE") || !strings.Contains(got, "\nmine ") {
			t.Errorf("got %s", got)
		}
		sh.do(t, "cache", "delete", "mine", "--yes")
		sh.run(t, "", "cache", "show", "mine").fails(t, 3, "not_found")
	})

	t.Run("access", func(t *testing.T) {
		reads := `{"Version":"2012-10-17","Statement":[{"Sid":"Read","Effect":"Allow","Action":"cache:Get","Resource":"*"}]}`
		sh.run(t, reads, "policy", "put", "reads", "-").want(t, 0)
		sh.json(t, "policy", "show", "reads").says(t, "name", "reads", "version", "1", "document.Statement.0.Sid", "Read")
		sh.run(t, `{"Statement":`, "policy", "put", "broken", "-").fails(t, 2, "JSON")
		sh.run(t, `{"Statement":[]}`, "policy", "put", "broken", "-").fails(t, 2, "invalid_argument")
		sh.json(t, "role", "create", "reader", "--policy", "reads").says(t, "policies.0", "reads")
		sh.json(t, "policy", "simulate", "--role", "reader", "--action", "cache:Get", "--resource", "cache/main/key/a").says(t, "decision", "Allow", "policy", "reads", "sid", "Read")
		sh.json(t, "policy", "simulate", "--role", "reader", "--action", "cache:Set", "--resource", "cache/main/key/a").says(t, "decision", "Deny", "reason", "implicit_deny")
		sh.run(t, "", "policy", "delete", "reads").fails(t, 5, "conflict")

		made := sh.json(t, "key", "create", "--name", "web", "--role", "reader", "--expires-in", "90d", "--test").says(t, "kind", "test", "role", "reader")
		id := made.get(t, "id").(string)
		reader := sh.with("LARDER_API_KEY=" + made.get(t, "api_key").(string))
		sh.do(t, "kv", "set", "k", "v")
		if got := reader.do(t, "kv", "get", "k"); got != "v" {
			t.Errorf("got %q", got)
		}
		reader.run(t, "", "kv", "set", "k", "w").fails(t, 4, "denied")
		reader.json(t, "whoami").says(t, "tenant", "demo", "role", "reader", "id", id)
		if got := sh.do(t, "key", "show", id); strings.Contains(got, "lk_") || !strings.Contains(got, "web") {
			t.Errorf("got %s", got)
		}
		rotated := sh.json(t, "key", "rotate", id, "--grace", "0s").get(t, "api_key").(string)
		until(t, "the old key is dead", func() bool { return reader.run(t, "", "kv", "get", "k").status == 4 })
		sh.with("LARDER_API_KEY="+rotated).do(t, "kv", "get", "k")
		sh.run(t, "", "key", "create", "--name", "web").fails(t, 2, "--role")
		if got := sh.json(t, "key", "list").length(t); got < 2 {
			t.Errorf("got %d keys", got)
		}

		narrow := filepath.Join(t.TempDir(), "narrow.json")
		if err := os.WriteFile(narrow, []byte(reads), 0o600); err != nil {
			t.Fatal(err)
		}
		token := sh.json(t, "token", "create", "--subject", "user-4", "--ttl", "5m", "--policy", narrow).says(t, "subject", "user-4")
		bearer := sh.with("LARDER_API_KEY=" + token.get(t, "token").(string))
		bearer.do(t, "kv", "get", "k")
		bearer.run(t, "", "kv", "set", "k", "w").fails(t, 4, "denied")
		sh.json(t, "token", "show", token.get(t, "id").(string)).says(t, "subject", "user-4")
		sh.do(t, "token", "delete", token.get(t, "id").(string))
		until(t, "the token is dead", func() bool { return bearer.run(t, "", "kv", "get", "k").status == 4 })
	})

	t.Run("tenant", func(t *testing.T) {
		sh.run(t, "", "tenant", "list").fails(t, 4, "denied")
		made := operator.json(t, "tenant", "create", "acme", "--caches", "2", "--memory", "1GiB").says(t, "tenant.name", "acme", "tenant.limits.caches", "2")
		owner := sh.with("LARDER_API_KEY=" + made.get(t, "api_key").(string))
		owner.json(t, "whoami").says(t, "tenant", "acme", "role", "owner")
		operator.do(t, "tenant", "update", "acme", "--units-per-second", "1000")
		operator.json(t, "tenant", "show", "acme").says(t, "limits.caches", "2", "limits.memory_bytes", "1073741824", "limits.units_per_second", "1000")
		if got := operator.do(t, "tenant", "list"); !strings.Contains(got, "acme") || !strings.Contains(got, "demo") {
			t.Errorf("got %s", got)
		}
		operator.do(t, "tenant", "update", "acme", "--status", "suspended")
		until(t, "a suspended tenant is refused", func() bool { return owner.run(t, "", "whoami").status == 4 })
		operator.do(t, "tenant", "delete", "acme", "--yes")
		operator.run(t, "", "tenant", "show", "acme").fails(t, 3, "not_found")
	})

	t.Run("cluster", func(t *testing.T) {
		sh.run(t, "", "cluster", "status").fails(t, 4, "denied")
		operator.json(t, "cluster", "status").says(t, "nodes.0.name", "dev", "nodes.0.state", "up", "partitions.0.replicas.0", "dev")
		for verb, says := range map[string]string{"status": "1 up", "nodes": "zone-1", "partitions": "REPLICAS", "events": "WHAT"} {
			if got := operator.do(t, "cluster", verb); !strings.Contains(got, says) {
				t.Errorf("%s: got %s", verb, got)
			}
		}
		operator.do(t, "cluster", "failover", "3", "--to", "dev")
		operator.run(t, "", "cluster", "failover", "3").fails(t, 5, "no other replica")
		operator.run(t, "", "cluster", "move", "3", "dev", "n9").fails(t, 3, "n9")
		operator.run(t, "", "cluster", "abandon", "3", "dev", "--yes").fails(t, 5, "quorum")
		operator.run(t, "", "cluster", "drain", "n9").fails(t, 3, "n9")
		operator.run(t, "", "cluster", "drain", "n9", "--undo").fails(t, 3, "n9")
		operator.run(t, "", "cluster", "forget", "dev").fails(t, 5, "is there")
	})

	t.Run("refused", func(t *testing.T) {
		sh.with("LARDER_API_KEY=nonsense").run(t, "", "whoami").fails(t, 4, "unauthenticated")
		sh.with("LARDER_API_KEY=").run(t, "", "whoami").fails(t, 4, "unauthenticated")
		sh.with("LARDER_URL=ftp://x").run(t, "", "whoami").fails(t, 2, "ftp://x")
		sh.with("LARDER_URL=http://127.0.0.1:1").run(t, "", "cache", "create", "x").fails(t, 1, "127.0.0.1:1") // nobody listens there
	})
	s.stop(t)
}

// Where the verbs find their server: flags, then the environment, then the login, then a dev.json here.
func TestContexts(t *testing.T) {
	t.Parallel()
	sh := emptyShell(t)
	sh.run(t, "", "whoami").fails(t, 2, "larder login")
	here, there := dev(t, filepath.Join(sh.dir, "larder-data")), dev(t, filepath.Join(t.TempDir(), "data"))
	server := func(sh *shell, args ...string) string {
		t.Helper()
		for line := range strings.Lines(sh.do(t, append([]string{"whoami"}, args...)...)) {
			if url, ok := strings.CutPrefix(line, "server"); ok {
				return strings.TrimSpace(url)
			}
		}
		t.Fatal("whoami does not name the server")
		return ""
	}

	if got := server(sh); got != here.url {
		t.Errorf("with a dev.json here: got %s", got)
	}
	sh.do(t, "tenant", "list") // a dev.json holds the operator's key as well

	sh.run(t, there.key+"\n", "login", "--url", there.url, "--name", "there").want(t, 0)
	sh.do(t, "login", "--url", here.url, "--api-key", here.key)
	name := "demo@" + strings.TrimPrefix(here.url, "http://")
	if got := sh.json(t, "context", "list"); got.length(t) != 2 || strings.Contains(got.body, "lk_") {
		t.Errorf("got %s", got.body)
	}
	sh.do(t, "context", "use", "there")
	if got := server(sh); got != there.url {
		t.Errorf("with a login: got %s", got)
	}
	stored := 0
	err := filepath.WalkDir(homeOf(sh), func(path string, _ fs.DirEntry, err error) error { // where it is depends on the system
		if filepath.Base(path) == "contexts.json" {
			stored++
			mode(t, path, 0o600)
			mode(t, filepath.Dir(path), 0o700)
		}
		return err
	})
	if err != nil || stored != 1 {
		t.Errorf("%d files of logins: %v", stored, err)
	}
	if got := server(sh.with("LARDER_URL="+here.url, "LARDER_API_KEY="+here.key)); got != here.url {
		t.Errorf("with the environment: got %s", got)
	}
	if got := server(sh.with("LARDER_URL=http://127.0.0.1:1", "LARDER_API_KEY=x"), "--url", here.url, "--api-key", here.key); got != here.url {
		t.Errorf("with flags: got %s", got)
	}
	// A stored key goes to its own server alone.
	sh.run(t, "", "whoami", "--url", there.url).fails(t, 4, "unauthenticated")

	sh.run(t, "", "login", "--url", there.url).fails(t, 2, "no API key")
	sh.run(t, "lk_live_wrong", "login", "--url", there.url).fails(t, 4, "unauthenticated")
	sh.run(t, "", "context", "use", "elsewhere").fails(t, 3, "elsewhere")
	sh.do(t, "context", "delete", "there")
	sh.do(t, "context", "delete", name)
	if got := sh.json(t, "context", "list").body; got != "[]\n" {
		t.Errorf("got %s", got)
	}
	if got := server(sh); got != here.url {
		t.Errorf("after the logins are forgotten: got %s", got)
	}
	here.stop(t)
	sh.run(t, "", "whoami").fails(t, 2, "larder login")
}

// homeOf is the home of a shell's user.
func homeOf(sh *shell) (home string) {
	for _, pair := range sh.env {
		if value, ok := strings.CutPrefix(pair, "HOME="); ok {
			home = value
		}
	}
	return home
}

// The verbs trust the certificate they are told to, and no other.
func TestVerbsOverTLS(t *testing.T) {
	t.Parallel()
	c := newCertificate(t, t.TempDir(), 1)
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--tls-cert", c.certFile, "--tls-key", c.keyFile)
	sh := emptyShell(t).with("LARDER_URL="+s.url, "LARDER_API_KEY="+s.operator)
	sh.run(t, "", "whoami").fails(t, 1, "certificate")
	sh.with("LARDER_CA="+c.certFile).json(t, "whoami").says(t, "tenant", "system")
	sh.json(t, "whoami", "--ca", c.certFile).says(t, "tenant", "system")
	sh.run(t, "", "whoami", "--ca", c.keyFile).fails(t, 2, "ca: ")
	s.stop(t)
}
