package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// A pair is a gateway without data and an engine node, two processes with an etcd outside, that know each other by
// certificates of their own authority.
type pair struct {
	engine, gateway *server
	redis, memcache string // the gateway's
}

func startPair(t *testing.T) *pair {
	t.Helper()
	_, endpoint := etcd(t, filepath.Join(t.TempDir(), "etcd"), "127.0.0.1:0")
	certs := filepath.Join(t.TempDir(), "certs")
	if out, err := exec.Command(binary, "cluster", "certs", "--dir", certs, "e1", "g1").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	node := func(dir, name, role string, more ...string) *server {
		return serve(t, dir, append([]string{
			"--name", name, "--roles", role, "--etcd", endpoint, "--peer-addr", "127.0.0.1:0", "--peer-ca", filepath.Join(certs, "ca.crt"),
			"--peer-cert", filepath.Join(certs, name+".crt"), "--peer-key", filepath.Join(certs, name+".key"),
		}, more...)...)
	}
	dir := t.TempDir()
	p := &pair{engine: node(filepath.Join(dir, "e1"), "e1", "engine")}
	p.gateway = node(filepath.Join(dir, "g1"), "g1", "gateway", "--redis-addr", "127.0.0.1:0", "--memcache-addr", "127.0.0.1:0")
	operator, err := os.ReadFile(filepath.Join(dir, "e1", "operator-token"))
	if err != nil {
		t.Fatal(err)
	}
	p.gateway.operator = string(operator)
	p.redis, p.memcache = p.gateway.logged("larder serves", "redis"), p.gateway.logged("larder serves", "memcached")
	return p
}

// A lineConn is a connection to a server whose lines are read one by one.
type lineConn struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *lineConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &lineConn{t, c, bufio.NewReader(c)}
}

func (w *lineConn) send(text string) {
	w.t.Helper()
	if _, err := io.WriteString(w.c, text); err != nil {
		w.t.Fatal(err)
	}
}

// line reads a line without its end.
func (w *lineConn) line() string {
	w.t.Helper()
	if err := w.c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		w.t.Fatal(err)
	}
	text, err := w.r.ReadString('\n')
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.TrimRight(text, "\r\n")
}

// want sends a line and reads the lines of the answer.
func (w *lineConn) want(send string, lines ...string) {
	w.t.Helper()
	w.send(send + "\r\n")
	w.lines(send, lines...)
}

func (w *lineConn) lines(what string, lines ...string) {
	w.t.Helper()
	var got []string
	for range lines {
		got = append(got, w.line())
	}
	if !slices.Equal(got, lines) {
		w.t.Errorf("%s: the answer is %q, want %q", what, got, lines)
	}
}

// login is a connection of the Redis protocol that is logged in to the cache main.
func (p *pair) login(t *testing.T, key string) *lineConn {
	t.Helper()
	w := dial(t, p.redis)
	w.want("AUTH main "+key, "+OK")
	return w
}

// All that a client does through a gateway without data is done by the engine node, and looks as if it were one process.
func TestAGatewayBeforeAnEngine(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	g := p.gateway.tenant(t, "acme")
	other := *p.gateway
	other.tenant(t, "rival")

	t.Run("HTTP", func(t *testing.T) {
		g.do(t, http.MethodPut, "/v1/caches/main/kv/k", "v").want(t, http.StatusCreated)
		if got := g.do(t, http.MethodGet, "/v1/caches/main/kv/k", "").want(t, http.StatusOK).body; got != "v" {
			t.Errorf("it reads %q", got)
		}
		g.do(t, http.MethodPost, "/v1/caches/main/counters/hits", `{"by":3}`).want(t, http.StatusOK).says(t, "value", "3")
		once := []string{"Idempotency-Key", "a-key-that-is-used-twice"}
		for range 2 {
			g.do(t, http.MethodPost, "/v1/caches/main/counters/once", `{"by":1}`, once...).want(t, http.StatusOK).says(t, "value", "1")
		}
		g.do(t, http.MethodPut, "/v1/caches/main/leaderboards/scores/members/ann", `{"score":1}`).want(t, http.StatusOK).says(t, "rank", "1")
		id := g.do(t, http.MethodPost, "/v1/caches/main/sessions", `{"data":{"n":1}}`).want(t, http.StatusCreated).get(t, "id").(string)
		g.do(t, http.MethodGet, "/v1/caches/main/sessions/"+id, "").want(t, http.StatusOK).says(t, "data.n", "1")
		g.do(t, http.MethodPost, "/v1/caches/main/kv/hits/x", "").want(t, http.StatusNotFound)
		if body := g.do(t, http.MethodGet, "/metrics", "").want(t, http.StatusOK).body; !strings.Contains(body, `larder_cache_items{cache="main",tenant="acme"}`) {
			t.Errorf("the numbers of the cache are missing:\n%s", body)
		}
	})
	t.Run("one engine, one keyspace", func(t *testing.T) {
		e := *p.engine
		e.key = g.key
		if got := e.do(t, http.MethodGet, "/v1/caches/main/kv/k", "").want(t, http.StatusOK).body; got != "v" {
			t.Errorf("at the engine it reads %q", got)
		}
	})
	t.Run("pipelines and large values", func(t *testing.T) {
		w := p.login(t, g.key)
		w.want("SET a 1\r\nINCR a\r\nGET a\r\nLPUSH a x", "+OK", ":2", "$1", "2", "-WRONGTYPE Operation against a key holding the wrong kind of value")
		big := strings.Repeat("x", 3<<20)
		w.send(fmt.Sprintf("*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n%s\r\n", len(big), big))
		w.lines("SET big", "+OK")
		w.want("STRLEN big", fmt.Sprintf(":%d", len(big)))
		w.want("GET big", fmt.Sprintf("$%d", len(big)), big)
	})
	t.Run("transactions", func(t *testing.T) {
		one, two := p.login(t, g.key), p.login(t, g.key)
		one.want("WATCH w", "+OK")
		one.want("MULTI\r\nSET w 1\r\nEXEC", "+OK", "+QUEUED", "*1", "+OK")
		one.want("WATCH w", "+OK")
		two.want("SET w 2", "+OK")
		one.want("MULTI\r\nSET w 3\r\nEXEC", "+OK", "+QUEUED", "*-1")
		one.want("GET w", "$1", "2")
	})
	t.Run("blocking", func(t *testing.T) {
		one, two := p.login(t, g.key), p.login(t, g.key)
		one.want("CLIENT ID", one.id())
		one.send("BLPOP queue 0\r\n")
		until(t, "it waits", func() bool {
			two.want("PING", "+PONG")
			two.send("INFO clients\r\n")
			return strings.Contains(two.bulk(), "blocked_clients:1")
		})
		two.want("RPUSH queue job", ":1")
		one.lines("BLPOP", "*2", "$5", "queue", "$3", "job")
		one.want("BLPOP queue 0.01", "*-1")
	})
	t.Run("channels", func(t *testing.T) {
		one, two := p.login(t, g.key), p.login(t, g.key)
		one.want("SUBSCRIBE news", "*3", "$9", "subscribe", "$4", "news", ":1")
		two.want("PUBLISH news hello", ":1")
		one.lines("the message", "*3", "$7", "message", "$4", "news", "$5", "hello")
	})
	t.Run("scripts", func(t *testing.T) {
		w := p.login(t, g.key)
		w.want(`EVAL "redis.call('set',KEYS[1],'s') return redis.call('get',KEYS[1])" 1 script`, "$1", "s")
	})
	t.Run("client-side caching", func(t *testing.T) {
		one, two := p.login(t, g.key), p.login(t, g.key)
		one.send("HELLO 3\r\nCLIENT TRACKING ON\r\nGET copy\r\n")
		for one.line() != "_" { // the answer to GET, after much else
		}
		two.want("SET copy 1", "+OK")
		one.lines("the invalidation", ">2", "$10", "invalidate", "*1", "$4", "copy")
	})
	t.Run("memcached", func(t *testing.T) {
		w := dial(t, p.memcache)
		login := "main " + g.key
		w.want(fmt.Sprintf("set login 0 0 %d\r\n%s", len(login), login), "STORED")
		w.want("set mc 0 0 2\r\nhi", "STORED")
		w.want("get mc", "VALUE mc 0 2", "hi", "END")
		w.want("incr a 1", "3")
	})
	t.Run("another tenant", func(t *testing.T) {
		for _, key := range []string{"k", "mc", "big"} {
			other.do(t, http.MethodGet, "/v1/caches/main/kv/"+key, "").code(t, http.StatusNotFound, "not_found")
		}
		w := p.login(t, other.key)
		w.want("DBSIZE", ":0")
		w.want("PUBLISH news secret", ":0")
		listener := p.login(t, g.key)
		listener.want("SUBSCRIBE news", "*3", "$9", "subscribe", "$4", "news", ":1")
		w.want("PUBLISH news secret", ":0")
	})
	t.Run("the engine is gone", func(t *testing.T) {
		w := p.login(t, g.key)
		w.send("BLPOP never 0\r\n")
		p.engine.kill()
		if got := w.line(); !strings.HasPrefix(got, "-UNKNOWN") {
			t.Errorf("who waited is told %q", got)
		}
		if got := g.do(t, http.MethodGet, "/v1/caches/main/kv/k", "").status; got != http.StatusServiceUnavailable {
			t.Errorf("without an engine the answer is %d", got)
		}
	})
	p.gateway.stop(t)
}

// id is the connection's number, as a line.
func (w *lineConn) id() string {
	w.t.Helper()
	w.send("CLIENT ID\r\n")
	return w.line()
}

// bulk reads a bulk string.
func (w *lineConn) bulk() string {
	w.t.Helper()
	size := 0
	if _, err := fmt.Sscanf(w.line(), "$%d", &size); err != nil {
		w.t.Fatal(err)
	}
	text := make([]byte, size+2)
	if _, err := io.ReadFull(w.r, text); err != nil {
		w.t.Fatal(err)
	}
	return string(text[:size])
}
