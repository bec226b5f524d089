package httpapi

import (
	"bufio"
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

func decodeJSON(body []byte, v any) error { return decodeBounded(body, v, maxJSONItems) }

func TestJSONIsReadStrictly(t *testing.T) {
	c := newTenant(t)
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	wide := func(n int) string { return `[` + strings.Repeat("0,", n-1) + `0]` }
	tests := []struct {
		name, path, body string
		status           int
		argument         string
	}{
		{"an empty body is an empty object", "counters/n", "", 200, ""},
		{"spaces around", "counters/n", " \t\r\n{} \n", 200, ""},
		{"a number as a string", "counters/n", `{"by":"1"}`, 200, ""},
		{"an escaped name", "counters/n", `{"\u0062y":1}`, 200, ""},

		{"cut off", "counters/n", `{"by":1`, 400, "body"},
		{"spaces alone", "counters/n", "  ", 400, "body"},
		{"text behind", "counters/n", `{"by":1} x`, 400, "body"},
		{"a second value", "counters/n", `{"by":1}{"by":1}`, 400, "body"},
		{"a byte order mark", "counters/n", "\xef\xbb\xbf{}", 400, "body"},
		{"a comment", "counters/n", `{"by":1/* one */}`, 400, "body"},
		{"a comma at the end", "counters/n", `{"by":1,}`, 400, "body"},
		{"single quotes", "counters/n", `{'by':1}`, 400, "body"},
		{"a name without quotes", "counters/n", `{by:1}`, 400, "body"},
		{"a leading zero", "counters/n", `{"by":01}`, 400, "body"},
		{"a plus sign", "counters/n", `{"by":+1}`, 400, "body"},
		{"hexadecimal", "counters/n", `{"by":0x10}`, 400, "body"},
		{"NaN", "counters/n", `{"by":NaN}`, 400, "body"},
		{"a control character", "counters/n", "{\"overflow\":\"a\x01\"}", 400, "body"},
		{"an unknown escape", "counters/n", `{"overflow":"\x41"}`, 400, "body"},
		{"half a surrogate", "counters/n", `{"overflow":"\ud800"}`, 400, "body"},
		{"bytes that are not UTF-8", "counters/n", "{\"overflow\":\"\xff\"}", 400, "body"},
		{"an overlong slash", "counters/n", "{\"overflow\":\"\xc0\xaf\"}", 400, "body"},
		{"NUL", "counters/n", "\x00", 400, "body"},
		{"a member twice", "counters/n", `{"by":1,"by":2}`, 400, "body"},
		{"a member twice by an escape", "counters/n", `{"by":1,"b\u0079":2}`, 400, "body"},
		{"a member twice, deep inside", "sessions", `{"data":{"a":[{"b":1,"b":2}]}}`, 400, "body"},
		{"another letter case", "counters/n", `{"By":1}`, 400, "By"},
		{"an unknown member", "counters/n", `{"by":1,"step":2}`, 400, "step"},
		{"an unknown member inside", "counters", `{"counters":[{"name":"n"},{"name":"n","bye":2}]}`, 400, "counters[1].bye"},
		{"an array for an object", "counters/n", `[]`, 400, "body"},
		{"null for an object", "counters/n", ` null `, 400, "body"},
		{"a string for an object", "counters/n", `"by"`, 400, "body"},
		{"an object for a number", "counters/n", `{"by":{}}`, 400, "by"},
		{"a boolean for a number", "counters/n", `{"by":true}`, 400, "by"},
		{"words for a number", "counters/n", `{"by":"five"}`, 400, "by"},
		{"an empty string for a number", "counters/n", `{"by":""}`, 400, "by"},
		{"spaces in a number", "counters/n", `{"by":" 1"}`, 400, "by"},
		{"an integer beyond 64 bits", "counters/n", `{"by":9223372036854775808}`, 400, "by"},
		{"a number beyond a float", "counters/n", `{"by":1e309}`, 400, "by"},
		{"a number of a million digits", "counters/n", `{"by":` + strings.Repeat("9", 1_000_000) + `}`, 400, "by"},
		{"infinity", "counters/n", `{"by":"inf"}`, 400, "by"},
		{"a number for a duration is seconds", "counters/d", `{"ttl":1.5}`, 200, ""},
		{"an exponent for a duration", "counters/n", `{"ttl":1e3}`, 400, "ttl"},
		{"a list for a duration", "counters/n", `{"ttl":[1]}`, 400, "ttl"},
		{"a number for a word", "counters/n", `{"overflow":1}`, 400, "overflow"},
		{"a word for a boolean", "counters", `{"counters":[{"name":"n"}],"atomic":"true"}`, 400, "atomic"},
		{"a fraction for a whole number", "sessions", `{"user":"u","max_per_user":1.5}`, 400, "max_per_user"},
		{"a string for a whole number", "sessions", `{"user":"u","max_per_user":"5"}`, 400, "max_per_user"},
		{"a huge whole number", "sessions", `{"user":"u","max_per_user":1e99}`, 400, "max_per_user"},
		{"no name", "counters", `{"counters":[{"by":1}]}`, 400, "counters[0].name"},
		{"no counters", "counters", `{"counters":[]}`, 400, "counters"},

		{"as deep as may be", "sessions", `{"data":` + deep(maxJSONDepth-1) + `}`, 201, ""},
		{"a level too deep", "sessions", `{"data":` + deep(maxJSONDepth) + `}`, 400, "body"},
		{"a million levels", "sessions", strings.Repeat("[", 1_000_000), 400, "body"},
		{"objects too deep", "sessions", strings.Repeat(`{"data":`, maxJSONDepth+1) + "0" + strings.Repeat("}", maxJSONDepth+1), 400, "body"},
		{"brackets in strings are no levels", "sessions", `{"data":"` + strings.Repeat(`[{\"`, 100) + `"}`, 201, ""},
		{"as wide as may be", "sessions", `{"data":` + wide(maxJSONItems-3) + `}`, 201, ""},
		{"an element too many", "sessions", `{"data":` + wide(maxJSONItems) + `}`, 400, "body"},
		{"a million elements", "sessions", `{"data":` + wide(1_000_000) + `}`, 400, "body"},
		{"ten million brackets", "commands", `[` + strings.Repeat("[],", 3_000_000) + `[]]`, 400, "body"},
		{"a byte more than a body may have", "sessions", `{"data":"` + strings.Repeat("a", maxJSONBody) + `"}`, 413, "body"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := c.do(t, "POST", "/v1/caches/main/"+tt.path, tt.body).want(t, tt.status)
			if tt.status >= 400 {
				code := map[int]string{400: "invalid_argument", 413: "too_large"}[tt.status]
				if strings.Contains(string(a.body), "out_of_range") {
					code = "out_of_range"
				}
				a.problem(t, tt.status, code, tt.argument)
				if len(a.body) > 1000 {
					t.Errorf("a problem of %d bytes", len(a.body))
				}
			}
		})
	}
	for text, limit := range map[string]string{`{"data":` + deep(65) + `}`: "64", `{"data":` + wide(100_001) + `}`: "100000", `{"data":"` + strings.Repeat("a", maxJSONBody) + `"}`: "10485760"} {
		c.do(t, "POST", "/v1/caches/main/sessions", text).detail(t, limit)
	}
	for media, status := range map[string]int{
		"application/json": 200, "application/json; charset=utf-8": 200, "APPLICATION/JSON": 200, "application/problem+json": 200, "application/x-www-form-urlencoded": 200,
		"text/plain": 415, "application/xml": 415, "multipart/form-data; boundary=x": 415, "json": 415, "application/json; charset": 415, ";": 415,
	} {
		if a := c.do(t, "POST", "/v1/caches/main/counters/media", `{}`, "Content-Type", media).want(t, status); status == 415 {
			a.problem(t, 415, "unsupported_media_type", "Content-Type")
		}
	}
	c.do(t, "POST", "/v1/caches/main/counters/media", `{}`, "Content-Type", "").want(t, 200)
	c.do(t, "POST", "/v1/caches/main/counters/media", `{}`, "Content-Encoding", "gzip").problem(t, 415, "unsupported_media_type", "Content-Encoding")
	c.do(t, "POST", "/v1/caches/main/counters/media?by=1", nil).problem(t, 400, "invalid_argument", "by")
}

// TestBadJSONTakesLittleMemory bounds what the worst bodies of the largest size allocate.
func TestBadJSONTakesLittleMemory(t *testing.T) {
	worst := map[string][]byte{
		"brackets":   bytes.Repeat([]byte("["), maxJSONBody),
		"elements":   append(append([]byte("["), bytes.Repeat([]byte("0,"), maxJSONBody/2-1)...), "0]"...),
		"one string": append(append([]byte(`"`), bytes.Repeat([]byte("a"), maxJSONBody-2)...), '"'),
		"many":       append(append([]byte(`{"operations":[`), bytes.Repeat([]byte(`0,`), maxManyItems-10)...), "0]}"...),
		"many lists": append(append([]byte(`[`), bytes.Repeat([]byte(`[],`), maxManyItems/2-10)...), "[]]"...),
		"members":    append(append([]byte(`{"a":[`), bytes.Repeat([]byte(`{},`), maxJSONBody/4)...), "{}]}"...),
	}
	for name, text := range worst {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for v, items := range map[any]int{&BatchRequest{}: maxManyItems, &CommandsRequest{}: maxManyItems, &AddCountersRequest{}: maxJSONItems} {
				if err := decodeBounded(text, v, items); err == nil {
					t.Error("accepted")
				}
			}
			runtime.ReadMemStats(&after)
			if grew := after.TotalAlloc - before.TotalAlloc; grew > maxJSONBody {
				t.Errorf("%d bytes were allocated for %d", grew, len(text))
			}
		})
	}
}

// TestRefusalsReachWhoSendsFirst: a client that writes all it has before it reads gets the answer, and not a
// connection that was broken under it, and may go on using the connection.
func TestRefusalsReachWhoSendsFirst(t *testing.T) {
	c := newTenant(t)
	small := c.newCache(t, tenants.Cache{MaxValue: 1 << 20})
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	body := strings.Repeat("x", 20<<20)
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	length := fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	for _, tt := range []struct {
		line, rest string
		status     int
	}{
		{"PUT /v1/caches/" + small + "/kv/k", length, 413},
		{"PUT /v1/caches/" + small + "/kv/k", "Transfer-Encoding: chunked\r\n\r\n" + chunk, 413},
		{"POST /v1/caches/main/counters/n", "Content-Type: application/json\r\n" + length, 413},
		{"POST /v1/caches/main/counters/n", "Content-Type: text/plain\r\n" + length, 415},
		{"PUT /v1/caches/main/kv/k?tttl=1", length, 400},
		{"PUT /v1/caches/main/kv/k", "Content-Length: 1\r\n\r\nx", 201},
	} {
		if _, err := io.WriteString(conn, tt.line+" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+c.credential+"\r\n"+tt.rest); err != nil {
			t.Fatalf("%s: %v", tt.line, err)
		}
		response, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.line, err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != tt.status || response.Close {
			t.Errorf("%s: %d, closes %v, %v; want %d", tt.line, response.StatusCode, response.Close, err, tt.status)
		}
	}
}

// A trickle is a body that comes a byte at a time and is then gone.
type trickle struct{ left int }

func (r *trickle) Read(b []byte) (int, error) {
	if r.left == 0 {
		return 0, io.ErrUnexpectedEOF
	}
	r.left--
	b[0] = 'x'
	return 1, nil
}

// TestMemoryFollowsWhatArrives announces much and sends little.
func TestMemoryFollowsWhatArrives(t *testing.T) {
	c := newTenant(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		r := httptest.NewRequest("PUT", kv+"k", &trickle{10})
		r.ContentLength = 32 << 20
		r.Header.Set("Authorization", "Bearer "+c.credential)
		w := httptest.NewRecorder()
		c.api.ServeHTTP(w, r)
		if w.Code != 400 {
			t.Fatalf("got %d: %s", w.Code, w.Body)
		}
	}
	runtime.ReadMemStats(&after)
	if grew := after.TotalAlloc - before.TotalAlloc; grew > 100*(4*maxKept) { // announced: 3,200 MiB. The race detector empties pools, so each body may need its own room.
		t.Errorf("%d bytes were allocated for 100 bodies of ten bytes each", grew)
	}
}

func TestDurations(t *testing.T) {
	for ms, want := range map[int64]string{
		0: "0s", 1: "1ms", 999: "999ms", 1000: "1s", 1500: "1500ms", 60_000: "1m", 90_000: "90s", 3_600_000: "1h", 5_400_000: "90m", 86_400_000: "24h", 604_800_000: "7d", 100 * 365 * 86_400_000: "36500d",
	} {
		if got := formatDuration(ms); got != want {
			t.Errorf("%d ms: got %s, want %s", ms, got, want)
		}
		if ms > 0 {
			if back, err := parseDuration("ttl", want); err != nil || back != ms {
				t.Errorf("%s: read back as %d, %v", want, back, err)
			}
		}
	}
}

func TestNumbers(t *testing.T) {
	tests := []struct{ in, out, text string }{ // out is the JSON written, text the command's argument; empty for refused
		{"0", "0", "0"},
		{"-0", "0", "0"},
		{"42", "42", "42"},
		{`"42"`, "42", "42"},
		{"9007199254740992", "9007199254740992", "9007199254740992"},
		{"9007199254740993", `"9007199254740993"`, "9007199254740993"},
		{"-9007199254740993", `"-9007199254740993"`, "-9007199254740993"},
		{"9223372036854775807", `"9223372036854775807"`, "9223372036854775807"},
		{`"-9223372036854775808"`, `"-9223372036854775808"`, "-9223372036854775808"},
		{"0.1", "0.1", "0.1"},
		{"1.0", "1", "1"},
		{"1e3", "1000", "1000"},
		{"-2.5E-3", "-0.0025", "-0.0025"},
		{"1e21", "1e+21", "1e+21"},
		{"9223372036854775808", "", ""},
		{"1e309", "", ""},
		{`""`, "", ""},
		{`"+1"`, "", ""},
		{`" 1"`, "", ""},
		{`"1 "`, "", ""},
		{`"0x1"`, "", ""},
		{`"1_0"`, "", ""},
		{`"inf"`, "", ""},
		{`"NaN"`, "", ""},
		{`"1e"`, "", ""},
		{`"."`, "", ""},
		{"null", "", ""},
		{"true", "", ""},
		{"[]", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			var n Number
			err := decodeJSON([]byte(tt.in), &n)
			if (err != nil) != (tt.out == "") {
				t.Fatalf("got %v, %v", n, err)
			}
			if err != nil {
				if e := fault.From(err); e.Kind != fault.InvalidArgument || e.Argument == "" {
					t.Errorf("an error of kind %s about %q", e.Kind, e.Argument)
				}
				return
			}
			out, err := json.Marshal(n)
			if err != nil || string(out) != tt.out || string(n.text()) != tt.text {
				t.Errorf("got %s and %s, want %s and %s", out, n.text(), tt.out, tt.text)
			}
		})
	}
	for f, want := range map[float64]string{math.Inf(1): `"+Inf"`, math.Inf(-1): `"-Inf"`, math.MaxFloat64: "1.7976931348623157e+308", 5e-324: "5e-324"} {
		if out, err := json.Marshal(Number{Float: f, IsFloat: true}); err != nil || string(out) != want {
			t.Errorf("%g: got %s, %v", f, out, err)
		}
	}
}

// serve has the API answer without a connection. It returns nil for a path that no server would let through.
func (c caller) serve(method, path string, body []byte, headers ...string) *httptest.ResponseRecorder {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return nil
	}
	r := &http.Request{Method: method, URL: u, Host: "larder", RemoteAddr: "127.0.0.1:1", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Authorization": {"Bearer " + c.credential}}, Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body))}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	c.api.ServeHTTP(w, r)
	return w
}

// FuzzKeyPath puts a value under a key in the path. The key that is asked about and the key that is stored
// must both be the bytes that the segment stands for when it is decoded once. The caller may touch every key
// but those that begin with "secret", so the answer tells which key was asked about.
func FuzzKeyPath(f *testing.F) {
	for _, seed := range []string{
		"k", "secret", "%73ecret", "%2573ecret", "secre%74s", "SECRET", "a%2Fsecret", "secret%2F..", "..%2Fsecret", "%2e%2e%2fsecret", "%2E", "..", "%252F", "%2F%2F", "%00", "a%00b",
		"secret%00", "%C0%AF", "%FF", "a;b", "a%3Bb", ";secret", "a+b", "%2B", "%20", "%E2%82%AC", "%7B%7D", ":key", "*", "%2A", "a,b", "ttl", "a%2Fttl", "%3F", "%23", "%25", "%", "%zz", "%2", "€", "a b", "\x7f", "%0d%0a",
	} {
		f.Add(seed)
	}
	owner := newTenant(f)
	some := owner.withPolicy(f, `{"Version":"2012-10-17","Statement":[
		{"Sid":"All","Effect":"Allow","Action":"cache:*","Resource":"*"},
		{"Sid":"But","Effect":"Deny","Action":"cache:*","Resource":"arn:cache:cache:local:`+owner.tenant+`:cache/main/key/secret*"}]}`)
	f.Fuzz(func(t *testing.T, segment string) {
		if strings.ContainsAny(segment, "/?#") { // not one segment
			return
		}
		w := some.serve("PUT", kv+segment, []byte("v"))
		if w == nil {
			return
		}
		key, err := url.PathUnescape(segment)
		if err != nil {
			t.Fatalf("%q was let through: %v", segment, err)
		}
		page := KeyPage{}
		if err := decodeJSON(owner.serve("GET", "/v1/caches/main/kv", nil).Body.Bytes(), &page); err != nil {
			t.Fatal(err)
		}
		owner.serve("POST", commands, []byte(`[["FLUSHDB"]]`))
		want := 201
		switch {
		case key == "":
			if w.Code < 400 || w.Code >= 500 {
				t.Errorf("no key: got %d", w.Code)
			}
			want = w.Code
		case len(key) > engine.MaxKey:
			want = 413
		case strings.HasPrefix(key, "secret"):
			want = 403
		}
		if w.Code != want {
			t.Fatalf("%q: got %d, want %d: %s", key, w.Code, want, w.Body)
		}
		if stored := want == 201; len(page.Keys) > 1 || stored != (len(page.Keys) == 1) || (stored && string(page.Keys[0].Key) != key) {
			t.Errorf("%q: stored under %v", key, page.Keys)
		}
	})
}

// jsonRoutes are routes on a cache that take a body of JSON.
var jsonRoutes = []struct{ method, path string }{
	{"POST", "batch"}, {"POST", "commands"}, {"POST", "counters"}, {"POST", "counters/n"}, {"PUT", "counters/n"}, {"PUT", "kv/k/ttl"},
	{"POST", "sessions"}, {"PUT", "sessions/" + strings.Repeat("a", tagLength+secretLength)}, {"PATCH", "sessions/" + strings.Repeat("a", tagLength+secretLength)},
	{"PUT", "leaderboards/b"}, {"PUT", "leaderboards/b/ttl"}, {"POST", "leaderboards/b/members"}, {"PUT", "leaderboards/b/members/m"},
	{"POST", "leaderboards/b/members/remove"}, {"POST", "leaderboards/b/among"}, {"POST", "leaderboards/b/trim"},
}

// FuzzHTTPJSON gives any bytes to every route that reads JSON: the answer is JSON, and never an error of ours.
func FuzzHTTPJSON(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `null`, `{"by":5,"ttl":"1h","min":0,"max":100,"overflow":"reject"}`, `{"counters":[{"name":"n","by":"1.5"}],"atomic":true}`, `{"value":1e20}`, `{"ttl":"30s","if":"nx"}`,
		`{"data":{"a":[1,{"b":null}]},"user":"ann","idle_ttl":"30m","absolute_ttl":60,"max_per_user":5}`, `{"data":{"a":{"b":null}}}`,
		`{"operations":[{"op":"kv.put","key":"k","value":{"base64":"AA=="},"if_match":"\"x\", *"},{"op":"kv.expire","key":"k","ttl":1,"if":"gt"},{"op":"kv.get","key":"k"},{"op":"kv.persist","key":"k"}],"atomic":false}`,
		`{"operations":[{"op":"leaderboards.put","name":"b","mode":"max","members":[{"member":"m","score":"1e3"}]},{"op":"leaderboards.around","name":"b","member":"m"},{"op":"sessions.create"},{"op":"sessions.get","id":"x"}]}`,
		`{"commands":[["SET","k","v","EX",60],["HGETALL",{"base64":"/w=="}],["ZADD","z",1.5,"m"],["ZRANGE","z",0,-1,"WITHSCORES"]],"db":3,"atomic":true}`, `[["GET",1e400],[true,false]]`,
		`{"ties":"first","keep":10,"keep_order":"asc","ttl":"7d"}`, `{"mode":"increment","score":-0.5}`, `{"members":["m",{"base64":"/w=="}],"order":"asc"}`, `{"keep":0}`, `{"a":1,"a":2}`, "\xff", `{"by":"\ud800"}`, `[[[[[[[[[[[[`,
	} {
		for i := range jsonRoutes {
			f.Add(uint8(i), []byte(seed))
		}
	}
	c := newTenant(f)
	f.Fuzz(func(t *testing.T, route uint8, body []byte) {
		r := jsonRoutes[int(route)%len(jsonRoutes)]
		w := c.serve(r.method, "/v1/caches/main/"+r.path, body, "Content-Type", map[bool]string{true: mergePatch, false: "application/json"}[r.method == "PATCH"])
		if w.Code >= 500 && w.Code != http.StatusInsufficientStorage && w.Code != http.StatusNotImplemented {
			t.Fatalf("%s %s %q: got %d: %s", r.method, r.path, body, w.Code, w.Body)
		}
		if w.Code >= 400 {
			var p Problem
			if err := stdjson.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Code == "" || p.Detail == "" {
				t.Errorf("%s %s %q: no proper problem: %s", r.method, r.path, body, w.Body)
			}
		} else if w.Body.Len() > 0 && !stdjson.Valid(w.Body.Bytes()) {
			t.Errorf("%s %s %q: no JSON: %s", r.method, r.path, body, w.Body)
		}
	})
}

// BenchmarkGetKV is a GET of 64 bytes through all of the API, without the network; make bench-http weighs the
// same with the network against a bare echo handler.
func BenchmarkGetKV(b *testing.B) {
	c := newTenant(b)
	c.serve("PUT", kv+"k", bytes.Repeat([]byte("v"), 64))
	r := httptest.NewRequest("GET", kv+"k", nil)
	r.Header.Set("Authorization", "Bearer "+c.credential)
	w := &discardWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		c.api.ServeHTTP(w, r)
	}
	if w.status != 200 || w.n != 64*b.N {
		b.Fatalf("got %d with %d bytes in %d answers", w.status, w.n, b.N)
	}
}

// A discardWriter is a response that goes nowhere.
type discardWriter struct {
	header http.Header
	status int
	n      int
}

func (w *discardWriter) Header() http.Header { return w.header }
func (w *discardWriter) WriteHeader(s int)   { w.status = s }
func (w *discardWriter) Write(b []byte) (int, error) {
	w.n += len(b)
	return len(b), nil
}
