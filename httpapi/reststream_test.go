package httpapi

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/tenants"
)

// A listener is a client that reads a stream.
type listener struct {
	t     *testing.T
	lines chan string // closed when the stream ends
	close func()
}

// listens opens a stream with a method and a body as the official client sends them.
func (c caller) listens(t *testing.T, path string, headers ...string) *listener {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "POST", c.url+path, strings.NewReader("[]"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.credential)
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != 200 || response.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(response.Body)
		t.Fatalf("%s: %d %v %s", path, response.StatusCode, response.Header, body)
	}
	l := &listener{t: t, lines: make(chan string, 1000), close: cancel}
	go func() {
		defer response.Body.Close()
		defer close(l.lines)
		for b := bufio.NewReader(response.Body); ; {
			line, err := b.ReadString('\n')
			if err != nil {
				return
			}
			if line != "\n" {
				l.lines <- strings.TrimSuffix(line, "\n")
			}
		}
	}()
	t.Cleanup(cancel)
	return l
}

// next returns the next line that is not empty, and "end" at the end.
func (l *listener) next() string {
	l.t.Helper()
	select {
	case line, ok := <-l.lines:
		if !ok {
			return "end"
		}
		return line
	case <-time.After(10 * time.Second):
		l.t.Fatal("nothing came")
		return ""
	}
}

// want fails the test unless these are the next lines.
func (l *listener) want(lines ...string) {
	l.t.Helper()
	for _, line := range lines {
		if got := l.next(); got != line {
			l.t.Errorf("got %q, want %q", got, line)
		}
	}
}

// eventually fails the test unless something becomes true.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

func (c caller) cacheID(t *testing.T, name string) engine.CacheID {
	t.Helper()
	record, ok := c.accounts.Cache(c.tenant, name)
	if !ok {
		t.Fatalf("no cache %s", name)
	}
	return record.ID
}

func TestRestSubscribe(t *testing.T) {
	c := newTenant(t)
	id, hub := c.cacheID(t, "main"), c.gateway.Hub()
	one := c.listens(t, "/redis/subscribe/chat")
	one.want("data: subscribe,chat,1")
	many := c.listens(t, "/v1/caches/main/redis/SUBSCRIBE/chat/a%2Fb/chat", "Upstash-Encoding", "base64")
	many.want("data: subscribe,chat,1", "data: subscribe,a/b,2", "data: subscribe,chat,2")
	pattern := c.listens(t, "/redis/psubscribe/user:*/d%3Ft")
	pattern.want("data: psubscribe,user:*,1", "data: psubscribe,d?t,2")
	newTenant(t).do(t, "GET", "/redis/publish/chat/other", nil).exactly(t, 200, `{"result":0}`)

	c.do(t, "GET", "/redis/publish/chat/hello", nil).exactly(t, 200, `{"result":2}`)
	c.do(t, "POST", "/redis", `["PUBLISH","user:42","{\"a\":1}"]`).exactly(t, 200, `{"result":1}`)
	c.do(t, "POST", "/redis/publish/a%2Fb", "two\nlines\r\nor three").exactly(t, 200, `{"result":1}`)
	one.want("data: message,chat,hello")
	many.want("data: message,chat,hello", "data: message,a/b,two", "data: lines", "data: or three")
	pattern.want(`data: pmessage,user:*,user:42,{"a":1}`)

	one.close()
	eventually(t, "one has left", func() bool { return hub.Listeners(id, gateway.Channel, "chat") == 1 })
	c.do(t, "GET", "/redis/publish/chat/still", nil).exactly(t, 200, `{"result":1}`)
	many.want("data: message,chat,still")
	many.close()
	pattern.close()
	eventually(t, "all have left", func() bool {
		return hub.Listeners(id, gateway.Channel, "chat")+hub.Listeners(id, gateway.Channel, "a/b")+hub.Patterns(id) == 0
	})
	eventually(t, "they are not counted any more", func() bool {
		c.api.streams.mu.Lock()
		defer c.api.streams.mu.Unlock()
		return c.api.streams.count[c.tenant] == 0
	})
}

// A pattern tells of no channel that the listener may not subscribe to by its name, as policies are at that moment.
func TestRestPatternsDoNotTellOfDeniedChannels(t *testing.T) {
	c := newTenant(t)
	const all = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	some := c.withPolicy(t, `{"Version":"2012-10-17","Statement":[`+all+`,{"Effect":"Deny","Action":"topic:Subscribe","Resource":"arn:cache:cache:*:`+c.tenant+`:cache/main/channel/foo.secret"}]}`)
	l := some.listens(t, "/redis/psubscribe/foo*")
	l.want("data: psubscribe,foo*,1")
	for _, channel := range []string{"foo.secret", "foo.open", "foo.secret", "foo.end"} {
		c.do(t, "GET", "/redis/publish/"+channel+"/m", nil).want(t, 200)
	}
	l.want("data: pmessage,foo*,foo.open,m", "data: pmessage,foo*,foo.end,m")
}

func TestRestMonitor(t *testing.T) {
	c := newTenant(t)
	m := c.listens(t, "/redis/monitor")
	m.want(`data: "OK"`)
	c.do(t, "POST", "/redis", `["SET","k","a\nb\""]`).want(t, 200)
	if got := m.next(); !strings.HasPrefix(got, "data: ") || !strings.HasSuffix(got, ` [0 127.0.0.1:0] "SET" "k" "a\nb\""`) {
		t.Errorf("shown: %s", got)
	}
}

// What may not be listened to is refused before the stream begins, and what ends while one listens ends the stream.
func TestRestStreamsEnd(t *testing.T) {
	c := newTenant(t)
	c.with("").do(t, "GET", "/redis/subscribe/chat", nil).exactly(t, 401, `{"error":"WRONGPASS invalid or missing auth token"}`)
	c.do(t, "GET", "/redis/subscribe", nil).exactly(t, 400, `{"error":"ERR wrong number of arguments for 'subscribe' command"}`)
	c.do(t, "HEAD", "/redis/subscribe/chat", nil).want(t, 405)
	c.do(t, "GET", "/v1/caches/none/redis/subscribe/chat", nil).exactly(t, 404, `{"error":"ERR no cache \"none\""}`)
	c.do(t, "POST", "/redis", `["SUBSCRIBE","chat"]`).exactly(t, 400, `{"error":"ERR SUBSCRIBE is not available over REST: it is about a connection, and here there is none"}`)
	some := c.withPolicy(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"topic:Subscribe","Resource":"arn:cache:cache:*:`+c.tenant+`:cache/main/channel/a*"}]}`)
	if a := some.do(t, "GET", "/redis/subscribe/a/b", nil).want(t, 403); !strings.HasPrefix(string(a.body), `{"error":"NOPERM `) {
		t.Errorf("not allowed: %s", a.body)
	}
	some.listens(t, "/redis/subscribe/a1").want("data: subscribe,a1,1")
	if a := c.do(t, "GET", "/redis/subscribe"+strings.Repeat("/c", maxStreamNames+1), nil); a.status != 400 {
		t.Errorf("too many channels: %d %s", a.status, a.body)
	}

	made := c.do(t, "POST", "/v1/keys", `{"name":"passing","role":"read-write"}`).want(t, 201)
	revoked := c.with(made.text(t, "api_key")).listens(t, "/redis/subscribe/chat")
	other := c.newCache(t, tenants.Cache{})
	gone := c.listens(t, "/v1/caches/"+other+"/redis/subscribe/chat")
	stays := c.listens(t, "/redis/subscribe/chat")
	for _, l := range []*listener{revoked, gone, stays} {
		l.want("data: subscribe,chat,1")
	}
	c.do(t, "DELETE", "/v1/keys/"+made.text(t, "id"), nil).want(t, 204)
	c.do(t, "DELETE", "/v1/caches/"+other, nil).want(t, 204)
	began := time.Now()
	revoked.want("end")
	gone.want("end")
	if took := time.Since(began); took > 2*streamTick+time.Second {
		t.Errorf("they ended after %v", took)
	}
	c.do(t, "GET", "/redis/publish/chat/hello", nil).exactly(t, 200, `{"result":1}`)
	stays.want("data: message,chat,hello")
}

// A quiet stream says now and then that it is there.
func TestRestHeartbeats(t *testing.T) {
	c := newTenant(t)
	before := c.api.streams
	c.api.streams = newStreams()
	c.api.streams.beat = streamTick
	l := c.listens(t, "/redis/subscribe/chat")
	l.want("data: subscribe,chat,1", ": ping", ": ping")
	c.api.streams.close() // as the server does when it goes
	l.want("end")
	eventually(t, "the stream has ended", func() bool { return c.gateway.Hub().Listeners(c.cacheID(t, "main"), gateway.Channel, "chat") == 0 })
	c.api.streams = before
}

// Who does not read is cut off, and what waits for it is bounded.
func TestRestSlowReaders(t *testing.T) {
	e := newEvents(func() {})
	piece := strings.Repeat("x", 1<<20)
	for range 7 {
		e.add(piece)
	}
	if pending, lost := e.take(nil), e.cutOff(); lost || len(pending) != 7*(1<<20+8) {
		t.Errorf("%d bytes wait, lost %v", len(pending), lost)
	}
	for range 10 {
		e.add(piece)
	}
	if pending, lost := e.take(nil), e.cutOff(); !lost || len(pending) > maxPending+8 {
		t.Errorf("%d bytes wait, lost %v", len(pending), lost)
	}
	e = newEvents(func() {})
	e.add(strings.Repeat(piece, 9)) // a single one may be longer
	if pending, lost := e.take(nil), e.cutOff(); lost || len(pending) != 9<<20+8 {
		t.Errorf("%d bytes wait, lost %v", len(pending), lost)
	}

	c := newTenant(t)
	id := c.cacheID(t, "main")
	r, err := http.NewRequestWithContext(t.Context(), "GET", c.url+"/redis/subscribe/chat", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.credential)
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close() // and nobody reads it
	began := time.Now()
	for c.gateway.Hub().Listeners(id, gateway.Channel, "chat") > 0 {
		c.do(t, "POST", "/redis/publish/chat", piece).want(t, 200)
		if time.Since(began) > requestTimeout/2 {
			t.Fatal("it is still there")
		}
	}
}
