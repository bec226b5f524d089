package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A wire speaks a protocol of lines with a server.
type wire struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func dialWire(t *testing.T, address string) *wire {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	return &wire{t, c, bufio.NewReader(c)}
}

// ask sends a text and returns so many lines of what comes back.
func (w *wire) ask(text string, lines int) string {
	w.t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		w.t.Fatal(err)
	}
	var answer strings.Builder
	for range lines {
		line, err := w.in.ReadString('\n')
		if answer.WriteString(line); err != nil {
			w.t.Fatalf("%q: %q, then %v", text, answer.String(), err)
		}
	}
	return answer.String()
}

func (w *wire) want(text, want string) {
	w.t.Helper()
	if got := w.ask(text, strings.Count(want, "\n")); got != want {
		w.t.Errorf("%q: got %q, want %q", text, got, want)
	}
}

// TestOneKeyThreeProtocols: HTTP, Redis and memcached work on one key in turn, and each sees what the others did: the bytes, the
// flags, the version, the deadline.
func TestOneKeyThreeProtocols(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := dev(t, dir, "--redis-addr", "127.0.0.1:0", "--memcache-addr", "127.0.0.1:0")
	content, err := os.ReadFile(filepath.Join(dir, "dev.json"))
	if err != nil {
		t.Fatal(err)
	}
	var facts struct {
		Redis        string `json:"redis"`
		MemcacheOpen string `json:"memcache_open"`
	}
	if err := json.Unmarshal(content, &facts); err != nil || facts.MemcacheOpen == "" {
		t.Fatalf("%v: %s", err, content)
	}
	const path = "/v1/caches/main/kv/k"
	mc, redis := dialWire(t, facts.MemcacheOpen), dialWire(t, facts.Redis)
	redis.want("AUTH main "+s.key+"\r\n", "+OK\r\n")
	token := func() uint64 { // gets's
		line := strings.Fields(mc.ask("gets k\r\n", 3))
		n, err := strconv.ParseUint(line[4], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}

	mc.want("set k 7 100 2\r\n41\r\n", "STORED\r\n")
	redis.want("INCR k\r\n", ":42\r\n")
	got := s.do(t, http.MethodGet, path, "").want(t, http.StatusOK)
	if ttl, _ := strconv.Atoi(got.header.Get("X-Larder-TTL-Ms")); got.body != "42" || got.header.Get("X-Larder-Flags") != "7" || ttl < 1 || ttl > 100_000 {
		t.Errorf("HTTP sees %q, %v", got.body, got.header)
	}
	cas := token()
	if etag := `"` + strconv.FormatUint(cas, 36) + `"`; got.header.Get("ETag") != etag {
		t.Errorf("the ETag is %s, the CAS token %s", got.header.Get("ETag"), etag)
	}

	put := s.do(t, http.MethodPut, path+"?flags=9", "from HTTP", "If-Match", got.header.Get("ETag")).want(t, http.StatusNoContent)
	mc.want(fmt.Sprintf("cas k 0 0 1 %d\r\nx\r\n", cas), "EXISTS\r\n")
	mc.want("get k\r\n", "VALUE k 9 9\r\nfrom HTTP\r\nEND\r\n")
	redis.want("APPEND k !\r\n", ":10\r\n")
	s.do(t, http.MethodPut, path, "x", "If-Match", put.header.Get("ETag")).want(t, http.StatusPreconditionFailed)
	mc.want(fmt.Sprintf("cas k 5 0 4 %d\r\nmine\r\n", token()), "STORED\r\n")
	redis.want("GET k\r\n", "$4\r\nmine\r\n")

	mc.want("ms lease 2 T0\r\nhi\r\nmd lease I T30\r\nmg lease v\r\n", "HD\r\nHD\r\nVA 2 X W\r\nhi\r\n")
	redis.want("GET lease\r\n", "$2\r\nhi\r\n")
	redis.want("RPUSH list a\r\n", ":1\r\n")
	mc.want("get list\r\nset list 0 0 1\r\n1\r\n", "END\r\nSTORED\r\n")
	s.do(t, http.MethodDelete, path, "").want(t, http.StatusNoContent)
	mc.want("get k\r\n", "END\r\n")
}

// TestEndpointVerbs: an endpoint is made, used and revoked from the command line, and stays over a restart.
func TestEndpointVerbs(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := dev(t, dir, "--redis-addr", "", "--memcache-addr", "127.0.0.1:0", "--memcache-endpoint-ports", "11400-11449")
	sh := newShell(t, s)
	key := sh.json(t, "key", "create", "--name", "reader", "--role", "read-only").get(t, "id").(string)
	id := sh.json(t, "endpoint", "create", "main", "--key", key).get(t, "id").(string)
	address := net.JoinHostPort("127.0.0.1", id)
	open := func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	until(t, "the port opens", open)
	c := dialWire(t, address)
	c.want("get a\r\n", "END\r\n")
	if got := c.ask("set a 0 0 1\r\n1\r\n", 1); !strings.HasPrefix(got, "CLIENT_ERROR this credential may not") {
		t.Errorf("a reader's endpoint says %q to a write", got)
	}
	if list := sh.do(t, "endpoint", "list", "main"); !strings.Contains(list, id) || !strings.Contains(list, key) {
		t.Errorf("the list is %s", list)
	}
	if shown := sh.do(t, "endpoint", "show", "main", id); !strings.Contains(shown, key) {
		t.Errorf("it is shown as %s", shown)
	}
	sh.run(t, "", "endpoint", "create", "main", "--key", key, "--port", id).fails(t, 5, "is another endpoint's")
	sh.run(t, "", "endpoint", "create", "main", "--key", key, "--port", "1").fails(t, 2, "not one of the ports for endpoints")
	sh.run(t, "", "endpoint", "create", "main").fails(t, 2, "--key is needed")
	sh.do(t, "endpoint", "delete", "main", id)
	if _, err := c.in.ReadByte(); err != io.EOF {
		t.Errorf("after it was revoked a connection says %v", err)
	}
	until(t, "the port closes", func() bool { return !open() })
}
