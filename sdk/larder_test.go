package larder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/sdk/api"
)

// A script is a server that answers as it is told, one answer for each request; the last one stays.
type script struct {
	t       *testing.T
	url     string
	mu      sync.Mutex
	answers []http.HandlerFunc
	seen    []*http.Request
	bodies  []string
}

func newScript(t *testing.T, answers ...http.HandlerFunc) *script {
	s := &script{t: t, answers: answers}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	n := len(s.seen)
	s.seen, s.bodies = append(s.seen, r), append(s.bodies, string(body))
	s.mu.Unlock()
	s.answers[min(n, len(s.answers)-1)](w, r)
}

// client is a client of the script that notes its waits and does not wait.
func (s *script) client(options ...Option) (*Client, *[]time.Duration) {
	s.t.Helper()
	c, err := New(s.url, append([]Option{WithAPIKey("lk_test_key")}, options...)...)
	if err != nil {
		s.t.Fatal(err)
	}
	var waits []time.Duration
	settings := settings{credential: "lk_test_key", userAgent: "larder-go/test", client: newHTTPClient(), attempts: 4}
	for _, o := range options {
		if err := o(&settings); err != nil {
			s.t.Fatal(err)
		}
	}
	sender := newSender(settings)
	sender.sleep = func(ctx context.Context, d time.Duration) error {
		waits = append(waits, d)
		return ctx.Err()
	}
	c.api.Do = sender.do
	return c, &waits
}

func problem(status int, code string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		for i := 0; i < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type":"about:blank","title":"T","status":%d,"code":%q,"detail":"what and which limit","argument":"limit","request_id":"r-1"}`, status, code)
	}
}

func body(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, text)
	}
}

func noContent(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }

// hangUp closes the connection without an answer.
func hangUp(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err == nil {
		_ = conn.Close()
	}
}

// What is sent again, and what is not.
func TestRepeats(t *testing.T) {
	counter := body(`{"name":"n","value":1,"ttl_ms":null}`)
	read := func(c *Client) error { _, err := c.Cache("main").Counter("n").Get(t.Context()); return err }
	write := func(c *Client) error { _, err := c.Cache("main").Counter("n").Add(t.Context(), 1); return err }
	manage := func(c *Client) error { return c.API().DeleteCache(t.Context(), "main") }
	for _, tt := range []struct {
		name    string
		call    func(*Client) error
		answers []http.HandlerFunc
		options []Option
		sent    int
		fails   error // the code that the call ends with; nil if it succeeds
	}{
		{"a read that works", read, []http.HandlerFunc{counter}, nil, 1, nil},
		{"a read that works the third time", read, []http.HandlerFunc{problem(503, "unavailable"), problem(429, "throttled"), counter}, nil, 3, nil},
		{"a write that works the second time", write, []http.HandlerFunc{problem(504, "outcome_unknown"), counter}, nil, 2, nil},
		{"a write after a proxy's error", write, []http.HandlerFunc{func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, counter}, nil, 2, nil},
		{"a server that stays away", read, []http.HandlerFunc{problem(503, "unavailable")}, nil, 4, ErrUnavailable},
		{"fewer attempts", read, []http.HandlerFunc{problem(503, "unavailable")}, []Option{WithAttempts(2)}, 2, ErrUnavailable},
		{"one attempt", read, []http.HandlerFunc{problem(503, "unavailable")}, []Option{WithAttempts(1)}, 1, ErrUnavailable},
		{"a write without a key", write, []http.HandlerFunc{problem(503, "unavailable"), counter}, []Option{WithoutIdempotency()}, 1, ErrUnavailable},
		{"a read without keys", read, []http.HandlerFunc{problem(503, "unavailable"), counter}, []Option{WithoutIdempotency()}, 2, nil},
		{"management", manage, []http.HandlerFunc{problem(503, "unavailable"), noContent}, nil, 1, ErrUnavailable},
		{"a bad request", read, []http.HandlerFunc{problem(400, "out_of_range"), counter}, nil, 1, ErrOutOfRange},
		{"a conflict", write, []http.HandlerFunc{problem(409, "overflow"), counter}, nil, 1, ErrOverflow},
		{"a bug of the server", read, []http.HandlerFunc{problem(500, "internal"), counter}, nil, 1, ErrInternal},
		{"a wait beyond patience", read, []http.HandlerFunc{problem(429, "throttled", "Retry-After", "3600"), counter}, nil, 1, ErrThrottled},
		{"a read on a broken connection", read, []http.HandlerFunc{hangUp, counter}, nil, 2, nil},
		{"a write on a broken connection", write, []http.HandlerFunc{hangUp, counter}, nil, 2, nil},
		{"a redirect", read, []http.HandlerFunc{func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }}, nil, 1, &Error{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newScript(t, tt.answers...)
			c, waits := s.client(tt.options...)
			if tt.options == nil || tt.name != "a write without a key" && tt.name != "a read without keys" {
				c.api.NewKey = func() string { return "one-key" }
			}
			err := tt.call(c)
			if len(s.seen) != tt.sent {
				t.Errorf("sent %d times, want %d: %v", len(s.seen), tt.sent, err)
			}
			var refused *Error
			switch {
			case tt.fails == nil && err != nil:
				t.Errorf("got %v", err)
			case tt.fails != nil && !errors.As(err, &refused):
				t.Errorf("got %v, want an *Error", err)
			case tt.fails != nil && refused.Code != "" && !errors.Is(err, tt.fails):
				t.Errorf("got %v, want %v", err, tt.fails)
			}
			if len(*waits) != tt.sent-1 {
				t.Errorf("%d waits for %d attempts", len(*waits), tt.sent)
			}
			for i, r := range s.seen {
				if s.bodies[i] != s.bodies[0] || r.Header.Get("Idempotency-Key") != s.seen[0].Header.Get("Idempotency-Key") {
					t.Errorf("attempt %d is another request than the first", i+1)
				}
				if r.Header.Get("Authorization") != "Bearer lk_test_key" || !strings.HasPrefix(r.Header.Get("User-Agent"), "larder-go/") {
					t.Errorf("attempt %d: headers %v", i+1, r.Header)
				}
			}
		})
	}
}

// Waits are random up to a bound that doubles, on top of what the server asks for.
func TestWaits(t *testing.T) {
	var longest [3]time.Duration
	for range 200 {
		s := newScript(t, problem(503, "unavailable"))
		c, waits := s.client()
		_, _ = c.Cache("main").KV().Get(t.Context(), "k")
		for i, w := range *waits {
			if bound := firstWait << i; w < 0 || w > bound {
				t.Fatalf("wait %d is %v, beyond %v", i, w, bound)
			}
			longest[i] = max(longest[i], w)
		}
	}
	for i, w := range longest {
		if w < (firstWait<<i)/2 {
			t.Errorf("of 200 waits %d the longest was %v: not spread to %v", i, w, firstWait<<i)
		}
	}
	s := newScript(t, problem(503, "unavailable", "Retry-After", "2"), noContent)
	c, waits := s.client()
	if err := c.Cache("main").KV().Persist(t.Context(), "k"); err == nil {
		if len(*waits) != 1 || (*waits)[0] < 2*time.Second || (*waits)[0] > 2*time.Second+firstWait {
			t.Errorf("waited %v after Retry-After: 2", *waits)
		}
	} else {
		t.Error(err)
	}
}

// However bad the server is, repetitions stay a tenth of the requests, beyond what a quiet time saved up.
func TestBudget(t *testing.T) {
	s := newScript(t, problem(503, "unavailable"))
	c, _ := s.client()
	const calls = 300
	for range calls {
		_, _ = c.Cache("main").KV().Get(t.Context(), "k")
	}
	if most := calls + retrySaved + calls/10 + 1; len(s.seen) > most {
		t.Errorf("%d calls sent %d requests, want at most %d", calls, len(s.seen), most)
	}
	if len(s.seen) < calls+calls/20 {
		t.Errorf("%d calls sent %d requests: hardly a repetition", calls, len(s.seen))
	}
}

// Nothing is sent after the context has ended, and no wait outlives it.
func TestContextEnds(t *testing.T) {
	t.Run("between attempts", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := newScript(t, func(w http.ResponseWriter, r *http.Request) { cancel(); problem(503, "unavailable")(w, r) })
		c, waits := s.client()
		_, err := c.Cache("main").KV().Get(ctx, "k")
		if err == nil || len(s.seen) != 1 || len(*waits) != 0 {
			t.Errorf("%d requests, waits %v, %v", len(s.seen), *waits, err)
		}
	})
	t.Run("before the wait would", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		s := newScript(t, problem(503, "unavailable", "Retry-After", "6"))
		c, waits := s.client()
		_, err := c.Cache("main").KV().Get(ctx, "k")
		if !errors.Is(err, ErrUnavailable) || len(*waits) != 0 || len(s.seen) != 1 {
			t.Errorf("%d requests, waits %v, %v", len(s.seen), *waits, err)
		}
	})
	t.Run("during the wait", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	t.Run("before the first attempt", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := newScript(t, noContent)
		c, _ := s.client()
		if err := c.Cache("main").KV().Delete(ctx, "k"); !errors.Is(err, context.Canceled) || len(s.seen) != 0 {
			t.Errorf("%d requests, %v", len(s.seen), err)
		}
	})
}

// A server that is not there is an error of the network, and the call is repeated.
func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + l.Addr().String()
	_ = l.Close()
	s := &script{t: t, url: address}
	c, waits := s.client()
	var refused *Error
	if _, err := c.Cache("main").KV().Get(t.Context(), "k"); err == nil || errors.As(err, &refused) || len(*waits) != 3 {
		t.Errorf("%v after waits %v", err, *waits)
	}
}

func TestErrors(t *testing.T) {
	s := newScript(t, problem(429, "throttled", "Retry-After", "3600", "X-Request-Id", "r-1"))
	c, _ := s.client()
	_, err := c.Cache("main").KV().Get(t.Context(), "k")
	var e *Error
	if !errors.As(err, &e) || !errors.Is(err, ErrThrottled) || errors.Is(err, ErrNotFound) {
		t.Fatalf("got %#v", err)
	}
	want := Error{Status: 429, Code: ErrThrottled, Detail: "what and which limit", Argument: "limit", RequestID: "r-1", RetryAfter: time.Hour}
	if fmt.Sprint(*e) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", *e, want)
	}
	if e.Error() != "larder: throttled: what and which limit" {
		t.Errorf("it reads %q", e)
	}
	if wrapped := fmt.Errorf("saving: %w", err); !errors.Is(wrapped, ErrThrottled) {
		t.Error("a wrapped error has lost its code")
	}

	// HEAD has no body, so its status alone tells; the same goes for what a proxy says.
	for status, code := range map[int]error{404: ErrNotFound, 401: ErrUnauthenticated, 403: ErrDenied, 412: ErrPreconditionFailed, 413: ErrTooLarge} {
		s := newScript(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		c, _ := s.client()
		if _, err := c.Cache("main").KV().Stat(t.Context(), "k"); !errors.Is(err, code) {
			t.Errorf("status %d: %v, want %v", status, err, code)
		}
	}

	// An atomic batch that was aborted says which operation it was.
	s = newScript(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(409)
		_, _ = io.WriteString(w, `{"type":"about:blank","title":"Aborted","status":409,"code":"aborted","detail":"d","request_id":"r","results":[{"error":{"code":"overflow","message":"m"}}]}`)
	})
	c, _ = s.client()
	if _, err = c.Cache("main").Batch().Add("n", 1).DoAtomic(t.Context()); !errors.As(err, &e) || len(e.Results) != 1 || e.Results[0].Error.Code != "overflow" {
		t.Errorf("got %+v", err)
	}
}

// Any bytes may be a key: the path that goes over the wire has one part for it, from which they come back.
func TestKeysInPaths(t *testing.T) {
	s := newScript(t, noContent)
	c, _ := s.client()
	for _, key := range []string{"a", "a b", "a/b", "//", "a?b#c", "100%", "%2F", ".", "..", "...", "../../x", "é", "\x00", "\xff\xfe", "{key}", "a;b&c=d+e", strings.Repeat("\n", 100)} {
		if err := c.Cache("main").KV().Delete(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		r := s.seen[len(s.seen)-1]
		parts := strings.Split(r.URL.EscapedPath(), "/")
		if len(parts) != 6 || parts[5] == "." || parts[5] == ".." || r.URL.Path != "/v1/caches/main/kv/"+key || r.URL.RawQuery != "" {
			t.Errorf("%q went as %q", key, r.RequestURI)
		}
	}
	seen := len(s.seen)
	if err := c.Cache("main").KV().Delete(t.Context(), ""); err == nil || len(s.seen) != seen {
		t.Errorf("an empty key was sent: %v", err)
	}
	if err := c.Cache("").KV().Delete(t.Context(), "k"); err == nil || len(s.seen) != seen {
		t.Errorf("an empty cache was sent: %v", err)
	}
}

func TestValues(t *testing.T) {
	s := newScript(t, func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("ETag", `"v1"`)
		switch r.Method {
		case http.MethodPut:
			w.WriteHeader(http.StatusCreated)
			return
		case http.MethodHead:
			h.Set("Content-Length", "5")
		}
		h.Set("Content-Type", "text/plain")
		h.Set("X-Larder-TTL-Ms", "90000")
		h.Set("X-Larder-Flags", "4294967295")
		if span := r.Header.Get("Range"); span != "" {
			h.Set("Content-Range", "bytes 1-2/5")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = io.WriteString(w, "el")
			return
		}
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, "hello")
		}
	})
	c, _ := s.client()
	kv := c.Cache("main").KV()
	last := func() (*http.Request, string) { return s.seen[len(s.seen)-1], s.bodies[len(s.bodies)-1] }

	var h http.Header
	etag, err := kv.Set(t.Context(), "k", []byte("hello"), TTL(90*time.Second), Flags(7), ContentType("text/plain"), Call(IdempotencyKey("mine"), Header(&h)))
	r, sent := last()
	if err != nil || etag != `"v1"` || sent != "hello" || r.URL.RawQuery != "ttl=90000ms&flags=7" || r.Header.Get("Content-Type") != "text/plain" ||
		r.Header.Get("Idempotency-Key") != "mine" || h.Get("ETag") != `"v1"` {
		t.Errorf("set: %q, %v: %s %v %q", etag, err, r.RequestURI, r.Header, sent)
	}
	if _, err := kv.Set(t.Context(), "k", nil); err != nil {
		t.Error(err)
	}
	if r, sent := last(); sent != "" || r.Header.Get("Idempotency-Key") == "" || r.Header.Get("Content-Type") != "application/octet-stream" {
		t.Errorf("an empty value: %v %q", r.Header, sent)
	}
	if _, err := kv.SetIfAbsent(t.Context(), "k", []byte("x")); err != nil {
		t.Error(err)
	}
	if r, _ := last(); r.Header.Get("If-None-Match") != "*" {
		t.Errorf("set if absent: %v", r.Header)
	}
	if _, err := kv.CompareAndSwap(t.Context(), "k", etag, []byte("x")); err != nil {
		t.Error(err)
	}
	if r, _ := last(); r.Header.Get("If-Match") != etag {
		t.Errorf("compare and swap: %v", r.Header)
	}

	want := Value{Data: []byte("hello"), Size: 5, ContentType: "text/plain", ETag: `"v1"`, TTL: 90 * time.Second, Flags: 4294967295}
	if v, err := kv.Get(t.Context(), "k"); err != nil || fmt.Sprint(v) != fmt.Sprint(want) {
		t.Errorf("get: %+v, %v", v, err)
	}
	want.Data = nil
	if v, err := kv.Stat(t.Context(), "k"); err != nil || fmt.Sprint(v) != fmt.Sprint(want) {
		t.Errorf("stat: %+v, %v", v, err)
	}
	want.Data = []byte("el")
	v, err := kv.GetRange(t.Context(), "k", 1, 2)
	if r, _ := last(); err != nil || fmt.Sprint(v) != fmt.Sprint(want) || r.Header.Get("Range") != "bytes=1-2" {
		t.Errorf("range: %+v, %v", v, err)
	}
	if r, _ := last(); r.Header.Get("Idempotency-Key") != "" {
		t.Error("a read has an idempotency key")
	}
}

// What is about to expire is not taken for what lives for ever.
func TestNoTimeLeft(t *testing.T) {
	s := newScript(t, body(`{"ttl_ms":0,"ttl":"0s"}`), body(`{"ttl_ms":null,"ttl":null}`))
	c, _ := s.client()
	kv := c.Cache("main").KV()
	if ttl, err := kv.TTL(t.Context(), "k"); err != nil || ttl <= 0 {
		t.Errorf("%v, %v", ttl, err)
	}
	if ttl, err := kv.TTL(t.Context(), "k"); err != nil || ttl != 0 {
		t.Errorf("%v, %v", ttl, err)
	}
}

// A scan goes through all pages, stops when its reader does, and ends with an error.
func TestPages(t *testing.T) {
	s := newScript(t,
		body(`{"keys":[{"key":"a","type":"string","ttl_ms":null,"size":1},{"key":{"base64":"/wA="},"type":"string","ttl_ms":5,"size":1}],"next_cursor":"c1"}`),
		body(`{"keys":[],"next_cursor":"c2"}`),
		body(`{"keys":[{"key":"b","type":"zset","ttl_ms":null,"size":1}],"next_cursor":""}`),
		problem(403, "denied"))
	c, _ := s.client()
	scan := c.Cache("main").KV().Scan(t.Context(), Filter{Prefix: "p", PageSize: 2})
	var keys []string
	for k, err := range scan {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, string(k.Key))
	}
	if !slices.Equal(keys, []string{"a", "\xff\x00", "b"}) {
		t.Errorf("got %q", keys)
	}
	for i, want := range []string{"prefix=p&limit=2", "prefix=p&cursor=c1&limit=2", "prefix=p&cursor=c2&limit=2"} {
		if got := s.seen[i].URL.Query().Encode(); got != query(want) {
			t.Errorf("page %d asked %s, want %s", i, got, query(want))
		}
	}
	for _, err := range scan {
		if !errors.Is(err, ErrDenied) {
			t.Errorf("got %v", err)
		}
	}
	s = newScript(t, body(`{"keys":[{"key":"a","type":"string","ttl_ms":null,"size":1}],"next_cursor":"more"}`))
	c, _ = s.client()
	for range c.Cache("main").KV().Scan(t.Context(), Filter{}) {
		break
	}
	if len(s.seen) != 1 {
		t.Errorf("a scan that nobody reads on asked for %d pages", len(s.seen))
	}
}

func query(s string) string {
	r, _ := http.NewRequest(http.MethodGet, "http://x/?"+s, nil)
	return r.URL.Query().Encode()
}

func TestNew(t *testing.T) {
	for _, bad := range []string{"", "larder.example.com", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x#y", "://"} {
		if _, err := New(bad); err == nil {
			t.Errorf("%q is taken for an address", bad)
		}
	}
	for name, o := range map[string]Option{"no attempts": WithAttempts(0), "many": WithAttempts(11), "an empty key": WithAPIKey(""), "a key with a space": WithAPIKey("a b")} {
		if _, err := New("http://x", o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	s := newScript(t, noContent)
	c, _ := s.client()
	c.api.Server += "/behind/a/proxy"
	if err := c.Cache("main").Flush(t.Context()); err != nil || s.seen[0].URL.Path != "/behind/a/proxy/v1/caches/main/flush" {
		t.Errorf("%v: %s", err, s.seen[0].URL.Path)
	}
}

func TestCommandsAndBatches(t *testing.T) {
	s := newScript(t, body(`{"results":[{"result":[1,"9007199254740993"]}]}`))
	c, _ := s.client()
	got, err := c.Cache("main").Do(t.Context(), "SET", "k", []byte("\xff"), "EX", 60)
	if err != nil || string(got) != `[1,"9007199254740993"]` || s.bodies[0] != `{"atomic":false,"commands":[["SET","k",{"base64":"/w=="},"EX",60]]}` {
		t.Errorf("%s, %v: %s", got, err, s.bodies[0])
	}

	s = newScript(t, body(`{"results":[{"result":{"created":true,"etag":"\"1\""}},{"error":{"code":"overflow","message":"m","argument":"by"}},{"result":null}]}`))
	c, _ = s.client()
	results, err := c.Cache("main").Batch().Set("k", "v", time.Minute).Add("n", -1).Operation("kv.ttl", map[string]any{"key": "k"}).Do(t.Context())
	want := `{"atomic":false,"operations":[{"key":"k","op":"kv.put","ttl":"60000ms","value":"v"},{"by":"-1","name":"n","op":"counters.add"},{"key":"k","op":"kv.ttl"}]}`
	if err != nil || s.bodies[0] != want || len(results) != 3 {
		t.Fatalf("%v, %v: %s", results, err, s.bodies[0])
	}
	var put api.PutResult
	if err := results[0].Decode(&put); err != nil || !put.Created || put.ETag != `"1"` {
		t.Errorf("%+v, %v", put, err)
	}
	if !errors.Is(results[1].Err, ErrOverflow) || results[2].Err != nil || string(results[2].Data) != "null" {
		t.Errorf("%+v", results)
	}
}
