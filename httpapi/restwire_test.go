package httpapi

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/internal/deadline"
	"github.com/larder-cache/larder/tenants"
)

// front serves the API behind a front, and counts the connections that reach the HTTP server.
type front struct {
	address string
	passed  chan struct{}
	server  *http.Server
}

func (c caller) front(t testing.TB) *front {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{address: l.Addr().String(), passed: make(chan struct{}, 1000), server: c.api.Server()}
	inner := c.api.Front(deadline.Listener{Listener: l})
	go func() { _ = f.server.Serve(counting{inner, f.passed}) }()
	t.Cleanup(func() { _ = f.server.Close() })
	return f
}

type counting struct {
	net.Listener
	passed chan struct{}
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.passed <- struct{}{}
	}
	return c, err
}

// ask sends bytes in pieces and reads so many answers. A server that has refused a request and closes while more of it comes
// resets the connection, and what it said may be lost: then it is asked again.
func ask(t testing.TB, address string, n int, pieces ...string) []answer {
	t.Helper()
	for left := 20; ; left-- {
		answers, err := askOnce(t, address, n, pieces...)
		if err == nil {
			return answers
		}
		if !errors.Is(err, syscall.ECONNRESET) || left == 0 {
			t.Fatalf("answer %d to %.300q: %v", len(answers), pieces, err)
		}
	}
}

func askOnce(t testing.TB, address string, n int, pieces ...string) (answers []answer, err error) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	go func() {
		for i, p := range pieces {
			if i > 0 {
				time.Sleep(time.Millisecond)
			}
			_, _ = io.WriteString(conn, p)
		}
	}()
	r := bufio.NewReader(conn)
	for range n {
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			return answers, err
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return answers, err
		}
		answers = append(answers, answer{status: response.StatusCode, header: response.Header, body: body})
	}
	return answers, nil
}

// compare fails the test where two answers differ in more than changes with each.
func compare(t testing.TB, request string, got, want answer) {
	t.Helper()
	tell := func(a answer) string {
		h := a.header.Clone()
		for _, name := range []string{"Date", "Server-Timing", "Upstash-Sync-Token", "X-Request-Id"} {
			if h.Get(name) != "" {
				h.Set(name, "…")
			}
		}
		if a.status >= 400 && h.Get("Content-Length") == fmt.Sprint(len(a.body)) {
			h.Del("Content-Length") // the server counts what is short by itself
		}
		return fmt.Sprint(a.status, h, string(a.body))
	}
	if g, w := tell(got), tell(want); g != w {
		t.Errorf("%.500q:\n got %s\nwant %s", request, g, w)
	}
}

// What a front answers is what the server would, and what it does not know it passes on untouched (F1, F2).
func TestFrontAnswersAsTheServer(t *testing.T) {
	c := newTenant(t)
	c.newCache(t, tenants.Cache{Name: "other"})
	c.newCache(t, tenants.Cache{Name: "loose", Consistency: "eventual"})
	f := c.front(t)
	reader := c.withRole(t, "read-only")
	auth := "Authorization: Bearer " + c.credential + "\r\n"
	post := func(path, headers, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: larder\r\n%sContent-Length: %d\r\n\r\n%s", path, headers, len(body), body)
	}
	for _, tt := range []struct {
		name, request string
		here          bool // answered by the front
	}{
		{"a command", post("/redis", auth, `["SET","k","v"]`), true},
		{"with a slash", post("/redis/", auth, `["GET","k"]`), true},
		{"in another cache", post("/v1/caches/other/redis", auth, `["GET","k"]`), true},
		{"in one that any replica may read", post("/v1/caches/loose/redis", auth, `["GET","k"]`), true},
		{"with a level", post("/redis", auth+"X-Larder-Consistency: leader\r\n", `["GET","k"]`), false},
		{"in none", post("/v1/caches/none/redis", auth, `["GET","k"]`), true},
		{"a pipeline", post("/redis/pipeline", auth, `[["SET","k","v"],["INCR","k"],["UNLINK"],["GET","k"]]`), true},
		{"a pipeline of a cache", post("/v1/caches/other/redis/pipeline", auth, `[["GET","k"]]`), true},
		{"in base64", post("/redis", auth+"Upstash-Encoding: base64\r\n", `["GET","k"]`), true},
		{"as the official client", post("/redis", auth+"Content-Type: application/json\r\nUpstash-Encoding: base64\r\nUpstash-Telemetry-Runtime: node@v22\r\nupstash-sync-token: x\r\nConnection: keep-alive\r\nUser-Agent: node\r\nAccept: */*\r\n", `["GET","k"]`), true},
		{"an error", post("/redis", auth, `["INCR","k"]`), true},
		{"an unknown command", post("/redis", auth, `["NOPE"]`), true},
		{"no JSON", post("/redis", auth, `["GET"`), true},
		{"not allowed", post("/redis", "Authorization: Bearer "+reader.credential+"\r\n", `["SET","k","w"]`), true},
		{"a wrong credential", post("/redis", "Authorization: Bearer x\r\n", `["GET","k"]`), false},
		{"no credential", post("/redis", "", `["GET","k"]`), false},
		{"two credentials", post("/redis", auth+auth, `["GET","k"]`), false},
		{"a token in the query", post("/redis?_token="+c.credential, "", `["GET","k"]`), false},
		{"a transaction", post("/redis/multi-exec", auth, `[["GET","k"]]`), false},
		{"a path", post("/redis/set/k", auth, `v`), false},
		{"another method", "GET /redis/get/k HTTP/1.1\r\nHost: larder\r\n" + auth + "\r\n", false},
		{"another route", "GET /livez HTTP/1.1\r\nHost: larder\r\n\r\n", false},
		{"an idempotency key", post("/redis", auth+"Idempotency-Key: 1\r\n", `["INCR","n"]`), false},
		{"another encoding", post("/redis", auth+"Content-Encoding: gzip\r\n", `["GET","k"]`), false},
		{"RESP2", post("/redis", auth+"Upstash-Response-Format: resp2\r\n", `["GET","k"]`), false},
		{"HTTP/1.0", "POST /redis HTTP/1.0\r\nHost: larder\r\n" + auth + "Content-Length: 8\r\n\r\n[\"PING\"]", false},
		{"no host", "POST /redis HTTP/1.1\r\n" + auth + "Content-Length: 8\r\n\r\n[\"PING\"]", false},
		{"chunks", "POST /redis HTTP/1.1\r\nHost: larder\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\n8\r\n[\"PING\"]\r\n0\r\n\r\n", false},
		{"two lengths", "POST /redis HTTP/1.1\r\nHost: larder\r\n" + auth + "Content-Length: 8\r\nContent-Length: 9\r\n\r\n[\"PING\"] ", false},
		{"a length and chunks", "POST /redis HTTP/1.1\r\nHost: larder\r\n" + auth + "Content-Length: 8\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n[\"PING\"]\r\n0\r\n\r\n", false},
		{"a negative length", "POST /redis HTTP/1.1\r\nHost: larder\r\n" + auth + "Content-Length: -8\r\n\r\n", false},
		{"a signed length", "POST /redis HTTP/1.1\r\nHost: larder\r\n" + auth + "Content-Length: +8\r\n\r\n[\"PING\"]", false},
		{"a space before the colon", "POST /redis HTTP/1.1\r\nHost: larder\r\n" + auth + "Content-Length : 8\r\n\r\n[\"PING\"]", false},
		{"a folded line", "POST /redis HTTP/1.1\r\nHost: larder\r\n" + auth + "Accept: a\r\n b\r\nContent-Length: 8\r\n\r\n[\"PING\"]", false},
		{"a bare line feed", "POST /redis HTTP/1.1\r\nHost: larder\r\n" + auth + "Accept: a\nContent-Length: 9\r\nContent-Length: 8\r\n\r\n[\"PING\"]", false},
		{"no body", "POST /redis HTTP/1.1\r\nHost: larder\r\n" + auth + "\r\n", false},
		{"an empty body", post("/redis", auth, ""), false},
		{"a large body", post("/redis", auth, `["ECHO","`+strings.Repeat("x", maxKept)+`"]`), false},
		{"a large head", post("/redis", auth+"Accept: "+strings.Repeat("x", maxWireHead)+"\r\n", `["PING"]`), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			want := ask(t, strings.TrimPrefix(c.url, "http://"), 1, tt.request)[0]
			half := len(tt.request) / 2
			for _, pieces := range [][]string{{tt.request}, {tt.request[:half], tt.request[half:]}, {tt.request[:3], tt.request[3:20], tt.request[20 : len(tt.request)-1], tt.request[len(tt.request)-1:]}} {
				if strings.Contains(tt.request, "Idempotency-Key") {
					want.header.Set("Idempotency-Replayed", "true") // the server was asked first
				}
				compare(t, tt.request, ask(t, f.address, 1, pieces...)[0], want)
				here := len(f.passed) == 0
				for len(f.passed) > 0 {
					<-f.passed
				}
				if here != tt.here {
					t.Errorf("answered by the front: %v", here)
				}
			}
		})
	}
}

// Requests that come together are answered in their order, on both sides of a change to the server.
func TestFrontPipelining(t *testing.T) {
	c := newTenant(t)
	f := c.front(t)
	rapid.Check(t, func(rt *rapid.T) {
		var all strings.Builder
		var want []string
		for i := range rapid.IntRange(1, 8).Draw(rt, "requests") {
			text := fmt.Sprint("r", i, strings.Repeat("x", rapid.SampledFrom([]int{0, 10, 3000, 40_000}).Draw(rt, "size")))
			body := `["ECHO","` + text + `"]`
			want = append(want, `{"result":"`+text+`"}`)
			if rapid.IntRange(0, 9).Draw(rt, "kind") == 0 {
				fmt.Fprintf(&all, "GET /redis/echo/%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", text, c.credential)
				continue
			}
			header := rapid.SampledFrom([]string{"", "", "Accept-Encoding:  base64\r\n", "Upstash-Encoding: base64\r\n"}).Draw(rt, "header") // heads that come again, and others as long
			if strings.HasPrefix(header, "Upstash") {
				want[i] = `{"result":"` + base64.StdEncoding.EncodeToString([]byte(text)) + `"}`
			}
			fmt.Fprintf(&all, "POST /redis HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%sContent-Length: %d\r\n\r\n%s", c.credential, header, len(body), body)
		}
		text := all.String()
		cuts := rapid.SliceOfN(rapid.IntRange(0, len(text)), 0, 5).Draw(rt, "cuts")
		slices.Sort(cuts)
		var pieces []string
		from := 0
		for _, at := range append(cuts, len(text)) {
			pieces = append(pieces, text[from:at])
			from = at
		}
		for i, a := range ask(t, f.address, len(want), pieces...) {
			if a.status != 200 || string(a.body) != want[i] {
				rt.Fatalf("answer %d: %d %.200s, want %.200s", i, a.status, a.body, want[i])
			}
		}
	})
}

// A front closes with its server: no wait for another request, none that was begun is lost (F3).
func TestFrontCloses(t *testing.T) {
	c := newTenant(t)
	f := c.front(t)
	conn, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `["PING"]`
	fmt.Fprintf(conn, "POST /redis HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", c.credential, len(body), body)
	r := bufio.NewReader(conn)
	if response, err := http.ReadResponse(r, nil); err != nil || response.StatusCode != 200 {
		t.Fatal(response, err)
	} else if body, err := io.ReadAll(response.Body); err != nil || !bytes.Contains(body, []byte("PONG")) {
		t.Fatalf("%s %v", body, err)
	}
	began := time.Now()
	if err := f.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > closeTimeout {
		t.Errorf("closing took %v", took)
	}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := r.ReadByte(); err != io.EOF {
		t.Errorf("the connection is still there: %v", err)
	}
	if _, err := net.Dial("tcp", f.address); err == nil {
		t.Error("another is accepted")
	}
}

// A credential that is revoked ends between two requests of a connection.
func TestFrontRevokes(t *testing.T) {
	c := newTenant(t)
	f := c.front(t)
	made := c.do(t, "POST", "/v1/keys", `{"name":"passing","role":"read-write"}`).want(t, 201)
	conn, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	r := bufio.NewReader(conn)
	for _, want := range []int{200, 401} {
		fmt.Fprintf(conn, "POST /redis HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 8\r\n\r\n[\"PING\"]", made.text(t, "api_key"))
		response, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		if response.StatusCode != want {
			t.Errorf("got %d, want %d", response.StatusCode, want)
		}
		if want == 200 {
			c.do(t, "DELETE", "/v1/keys/"+made.text(t, "id"), nil).want(t, 204)
		}
	}
}

// A head is read without a panic, and what is taken for whole is what net/http reads.
func FuzzFrontHead(f *testing.F) {
	for _, s := range []string{
		"POST /redis HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nContent-Length: 8\r\n\r\n[\"PING\"]",
		"POST /v1/caches/main/redis/pipeline HTTP/1.1\r\nhost: x\r\nauthorization:Bearer k\r\ncontent-length: 2\r\nUser-Agent: a\r\n\r\n[]GET",
		"POST /redis/ HTTP/1.1\r\nHost:x\r\nConnection: keep-alive\r\nUpstash-Encoding: base64\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var h wireHead
		if h.parse(text) != wireWhole {
			return
		}
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
		if err != nil {
			t.Fatalf("the server refuses it: %v", err)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(body, text[h.size:h.size+h.body]) {
			t.Fatalf("the server reads the body %q, %v", body, err)
		}
		path := "/redis"
		if len(h.cache) > 0 {
			path = "/v1/caches/" + string(h.cache) + path
		}
		if h.many {
			path += "/pipeline"
		}
		if got := strings.TrimSuffix(r.URL.Path, "/"); got != path || r.URL.RawQuery != "" || r.Method != "POST" {
			t.Fatalf("the server reads %s %s", r.Method, r.URL)
		}
		if a := r.Header["Authorization"]; len(a) != 1 || a[0] != string(h.authorization) || r.UserAgent() != string(h.agent) {
			t.Fatalf("the server reads %v", r.Header)
		}
		if (r.Header.Get("Upstash-Encoding") != "") != h.base64 || r.Close || len(r.TransferEncoding) > 0 {
			t.Fatalf("the server reads %v, closes %v", r.Header, r.Close)
		}
	})
}
