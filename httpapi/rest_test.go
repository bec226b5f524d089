package httpapi

import (
	"bytes"
	"encoding/base64"
	stdjson "encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

// The bodies in this file are compared byte by byte: other people's clients read them.

func TestRestForms(t *testing.T) {
	c := newTenant(t)
	b64 := []string{"Upstash-Encoding", "base64"}
	for _, tt := range []struct {
		name, method, path, body string
		headers                  []string
		status                   int
		want                     string
	}{
		// A path.
		{name: "path", method: "GET", path: "/set/foo/bar", want: `{"result":"OK"}`},
		{name: "path with options", method: "POST", path: "/SET/foo/bar/EX/100", want: `{"result":"OK"}`},
		{name: "path with PUT", method: "PUT", path: "/ttl/foo", want: `{"result":100}`},
		{name: "an absent key", method: "GET", path: "/get/none", want: `{"result":null}`},
		{name: "percent-encoded", method: "GET", path: "/set/a%2Fb%20c%25/%00%22%5c%C3%A9%2B+", want: `{"result":"OK"}`},
		{name: "and read", method: "GET", path: "/get/a%2Fb%20c%25", want: `{"result":"\u0000\"\\é++"}`},
		{name: "encoded without need", method: "GET", path: "/%67et/f%6fo", want: `{"result":"bar"}`},
		{name: "an empty argument", method: "GET", path: "/set/foo/", want: `{"result":"OK"}`},
		{name: "reads as an empty string", method: "GET", path: "/get/foo", want: `{"result":""}`},
		{name: "without a key", method: "GET", path: "/get", status: 400, want: `{"error":"ERR wrong number of arguments for 'get' command"}`},
		{name: "an unknown command", method: "GET", path: "/nope/x", status: 400, want: `{"error":"ERR unknown command 'nope'"}`},
		{name: "nothing", method: "GET", path: "/", status: 400, want: `{"error":"ERR empty command: send an array of a command's name and its arguments"}`},

		// A path and a body.
		{name: "body", method: "POST", path: "/set/foo", body: "any \"bytes\"\n", want: `{"result":"OK"}`},
		{name: "body as it is", method: "GET", path: "/get/foo", want: `{"result":"any \"bytes\"\n"}`},
		{name: "body, then the query", method: "POST", path: "/set/foo?EX=100", body: "V", want: `{"result":"OK"}`},
		{name: "with its TTL", method: "GET", path: "/ttl/foo", want: `{"result":100}`},
		{name: "a flag in the query", method: "POST", path: "/set/foo?NX", body: "W", want: `{"result":null}`},
		{name: "the query in its order", method: "POST", path: "/set/foo?XX=&GET&PX=5000", body: "W", want: `{"result":"V"}`},
		{name: "encoded in the query", method: "GET", path: "/echo?a%26b+c", want: `{"result":"a&b c"}`},
		{name: "no body of a GET", method: "GET", path: "/get/foo", body: "extra", want: `{"result":"W"}`},
		{name: "badly encoded", method: "GET", path: "/echo?%zz", status: 400, want: `{"error":"ERR the query is not percent-encoded properly"}`},

		// JSON.
		{name: "JSON", method: "POST", body: `["SET","foo","bar","EX",100]`, want: `{"result":"OK"}`},
		{name: "with a slash", method: "POST", path: "/", body: ` [ "GET" , "foo" ] `, want: `{"result":"bar"}`},
		{name: "with PUT", method: "PUT", body: `["GET","foo"]`, want: `{"result":"bar"}`},
		{name: "numbers as they are written", method: "POST", body: `["ECHO",1e+21]`, want: `{"result":"1e+21"}`},
		{name: "beyond 2^53", method: "POST", body: `["SET","n",9007199254740993]`, want: `{"result":"OK"}`},
		{name: "and back", method: "POST", body: `["INCR","n"]`, want: `{"result":9007199254740994}`},
		{name: "truth", method: "POST", body: `["SET",true,false]`, want: `{"result":"OK"}`},
		{name: "is a word", method: "POST", body: `["GET","true"]`, want: `{"result":"false"}`},
		{name: "escapes", method: "POST", body: `["ECHO","\u00e9\ud83d\ude00\n\/\"\\"]`, want: `{"result":"é😀\n/\"\\"}`},
		{name: "half a pair", method: "POST", body: `["ECHO","a\ud83dz"]`, want: `{"result":"a` + "\uFFFD" + `z"}`},
		{name: "null", method: "POST", body: `["SET","k",null]`, status: 400, want: `{"error":"ERR null args are not supported"}`},
		{name: "an object", method: "POST", body: `["SET","k",{}]`, status: 400, want: `{"error":"ERR failed to parse the request: an argument is a string, a number, true or false, not an array or an object at byte 11"}`},
		{name: "no array", method: "POST", body: `{"a":1}`, status: 400, want: `{"error":"ERR failed to parse the request: expected an array at byte 0"}`},
		{name: "an empty array", method: "POST", body: `[]`, status: 400, want: `{"error":"ERR empty command: send an array of a command's name and its arguments"}`},
		{name: "two values", method: "POST", body: `["PING"]["PING"]`, status: 400, want: `{"error":"ERR failed to parse the request: more than one value at byte 8"}`},
		{name: "whatever the content type", method: "POST", body: `["PING"]`, headers: []string{"Content-Type", "text/plain"}, want: `{"result":"PONG"}`},

		// Shapes of RESP2.
		{name: "a hash is made", method: "POST", body: `["HSET","h","f","v","g",1.5]`, want: `{"result":2}`},
		{name: "a map is a flat list", method: "POST", body: `["HGETALL","h"]`, want: `{"result":["f","v","g","1.5"]}`},
		{name: "an empty list", method: "POST", body: `["HGETALL","none"]`, want: `{"result":[]}`},
		{name: "scores are made", method: "POST", body: `["ZADD","z",1,"a","2.5","b","inf","c",0.1,"d"]`, want: `{"result":4}`},
		{name: "scores are strings", method: "POST", body: `["ZRANGE","z",0,-1,"WITHSCORES"]`, want: `{"result":["d","0.1","a","1","b","2.5","c","inf"]}`},
		{name: "a double is a string", method: "POST", body: `["ZSCORE","z","b"]`, want: `{"result":"2.5"}`},
		{name: "nested lists", method: "POST", body: `["HRANDFIELD","one",1,"WITHVALUES"]`, want: `{"result":[]}`},
		{name: "the wrong type", method: "POST", body: `["GET","h"]`, status: 400, want: `{"error":"WRONGTYPE Operation against a key holding the wrong kind of value"}`},
		{name: "bytes", method: "POST", path: "/set/bytes", body: "a\xff\xfe\xe2\x82z", want: `{"result":"OK"}`},
		{name: "that are no UTF-8", method: "POST", body: `["GET","bytes"]`, want: `{"result":"a` + strings.Repeat("\uFFFD", 4) + `z"}`},

		// Base64.
		{name: "OK alone stays", method: "POST", body: `["SET","foo","bar"]`, headers: b64, want: `{"result":"OK"}`},
		{name: "a string", method: "POST", body: `["GET","foo"]`, headers: b64, want: `{"result":"YmFy"}`},
		{name: "bytes in base64", method: "POST", body: `["GET","bytes"]`, headers: b64, want: `{"result":"Yf/+4oJ6"}`},
		{name: "another word", method: "POST", body: `["PING"]`, headers: b64, want: `{"result":"UE9ORw=="}`},
		{name: "an integer", method: "POST", body: `["DBSIZE"]`, headers: b64, want: `{"result":7}`},
		{name: "null in base64", method: "POST", body: `["GET","none"]`, headers: b64, want: `{"result":null}`},
		{name: "a list", method: "POST", body: `["MGET","foo","none"]`, headers: b64, want: `{"result":["YmFy",null]}`},
		{name: "an error", method: "POST", body: `["GET","h"]`, headers: b64, status: 400, want: `{"error":"WRONGTYPE Operation against a key holding the wrong kind of value"}`},

		// RESP2.
		{name: "resp2", method: "POST", body: `["HGETALL","h"]`, headers: []string{"Upstash-Response-Format", "resp2"}, want: "*4\r\n$1\r\nf\r\n$1\r\nv\r\n$1\r\ng\r\n$3\r\n1.5\r\n"},
		{name: "resp2 as the manual spells it", method: "POST", body: `["PING"]`, headers: []string{"Upstash-Reponse-Format", "resp2"}, want: "+PONG\r\n"},
		{name: "an error in resp2", method: "POST", body: `["GET","h"]`, headers: []string{"Upstash-Response-Format", "resp2"}, status: 400, want: "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"},
		{name: "resp2 pipeline", method: "POST", path: "/pipeline", body: `[["PING"],["GET","none"],["INCR","i"],["ZSCORE","z","a"]]`, headers: []string{"Upstash-Response-Format", "resp2"}, want: "+PONG\r\n$-1\r\n:1\r\n$1\r\n1\r\n"},
		{name: "json by name", method: "POST", body: `["PING"]`, headers: []string{"Upstash-Response-Format", "json"}, want: `{"result":"PONG"}`},
		{name: "another format", method: "POST", body: `["PING"]`, headers: []string{"Upstash-Response-Format", "xml"}, status: 400, want: `{"error":"ERR Upstash-Response-Format is json or resp2, not \"xml\""}`},
		{name: "resp2 and base64", method: "POST", body: `["PING"]`, headers: append([]string{"Upstash-Response-Format", "resp2"}, b64...), status: 400, want: `{"error":"ERR Upstash-Response-Format: resp2 cannot be combined with Upstash-Encoding: base64"}`},
		{name: "resp2 transaction", method: "POST", path: "/multi-exec", body: `[["PING"]]`, headers: []string{"Upstash-Response-Format", "resp2"}, status: 400, want: `{"error":"ERR Upstash-Response-Format: resp2 is not available for transactions"}`},

		// Pipelines.
		{name: "pipeline", method: "POST", path: "/pipeline", body: `[["SET","k","v"],["INCR","k"],["GET"],["NOPE"],["GET","k"]]`,
			want: `[{"result":"OK"},{"error":"ERR value is not an integer or out of range"},{"error":"ERR wrong number of arguments for 'get' command"},{"error":"ERR unknown command 'NOPE'"},{"result":"v"}]`},
		{name: "pipeline in base64", method: "POST", path: "/pipeline", body: `[["SET","k","v"],["GET","k"],["INCR","k"],["MGET","k"]]`, headers: b64,
			want: `[{"result":"OK"},{"result":"dg=="},{"error":"ERR value is not an integer or out of range"},{"result":["dg=="]}]`},
		{name: "pipeline of one", method: "PUT", path: "/pipeline", body: `[["GET","k"]]`, want: `[{"result":"v"}]`},
		{name: "pipeline with GET", method: "GET", path: "/pipeline", status: 405, want: `{"error":"ERR pipeline is sent with POST, not with GET"}`},
		{name: "empty pipeline", method: "POST", path: "/pipeline", body: `[]`, status: 400, want: `{"error":"ERR empty pipeline: send an array of commands, each an array of its name and its arguments"}`},
		{name: "no pipeline", method: "POST", path: "/pipeline", body: `["GET","k"]`, status: 400, want: `{"error":"ERR failed to parse the request: expected an array at byte 1"}`},

		// Transactions.
		{name: "transaction", method: "POST", path: "/multi-exec", body: `[["SET","k","v"],["INCR","k"],["GET","k"]]`,
			want: `[{"result":"OK"},{"error":"ERR value is not an integer or out of range"},{"result":"v"}]`},
		{name: "discarded for arity", method: "POST", path: "/multi-exec", body: `[["SET","k","w"],["GET"]]`, status: 400, want: `{"error":"ERR wrong number of arguments for 'get' command (command 2; nothing was done)"}`},
		{name: "discarded for a name", method: "POST", path: "/multi-exec", body: `[["SET","k","w"],["NOPE"]]`, status: 400, want: `{"error":"ERR unknown command 'NOPE' (command 2; nothing was done)"}`},
		{name: "discarded for waiting", method: "POST", path: "/multi-exec", body: `[["SET","k","w"],["BLPOP","l",0]]`, status: 400, want: `{"error":"ERR BLPOP is not available over REST: it would wait. Ask again later, or use the Redis protocol (command 2; nothing was done)"}`},
		{name: "nothing was done", method: "GET", path: "/get/k", want: `{"result":"v"}`},

		// What Upstash takes and Redis refuses, and the reverse.
		{name: "UNLINK nothing", method: "POST", body: `["UNLINK"]`, want: `{"result":0}`},
		{name: "UNLINK something", method: "POST", body: `["UNLINK","k","none"]`, want: `{"result":1}`},
		{name: "a page of ranks", method: "POST", body: `["ZRANGE","z",0,-1,"LIMIT",1,2]`, want: `{"result":["a","b"]}`},
		{name: "a page of a range", method: "POST", body: `["ZRANGE","z",-3,-1,"REV","LIMIT",1,9,"WITHSCORES"]`, want: `{"result":["a","1","d","0.1"]}`},
		{name: "a blocking command", method: "POST", body: `["BLPOP","l",0]`, status: 400, want: `{"error":"ERR BLPOP is not available over REST: it would wait. Ask again later, or use the Redis protocol"}`},
		{name: "a blocking read", method: "POST", body: `["XREAD","COUNT",1,"BLOCK",0,"STREAMS","BLOCK","$"]`, status: 400, want: `{"error":"ERR XREAD is not available over REST: it would wait. Ask again later, or use the Redis protocol"}`},
		{name: "a read of a stream of that name", method: "POST", body: `["XREAD","STREAMS","BLOCK",0]`, want: `{"result":null}`},
		{name: "of a connection", method: "POST", body: `["watch","k"]`, status: 400, want: `{"error":"ERR WATCH is not available over REST: it is about a connection, and here there is none"}`},
		{name: "PING", method: "POST", body: `["PING","hello"]`, want: `{"result":"hello"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var body any
			if tt.body != "" {
				body = tt.body
			}
			if tt.status == 0 {
				tt.status = 200
			}
			a := c.do(t, tt.method, "/redis"+tt.path, body, tt.headers...)
			a.exactly(t, tt.status, tt.want)
			if resp2 := strings.HasPrefix(a.header.Get("Content-Type"), "application/octet-stream"); !resp2 && a.header.Get("Content-Type") != "application/json" {
				t.Errorf("content type %q", a.header.Get("Content-Type"))
			}
			if a.header.Get("Upstash-Sync-Token") == "" {
				t.Error("no sync token")
			}
		})
	}
}

// HEAD does the command and answers without a body.
func TestRestHead(t *testing.T) {
	c := newTenant(t)
	c.do(t, "HEAD", "/redis/set/k/v", nil).exactly(t, 200, "")
	c.do(t, "HEAD", "/redis/nope", nil).exactly(t, 400, "")
	c.do(t, "GET", "/redis/get/k", nil).exactly(t, 200, `{"result":"v"}`)
}

// Which cache is meant, and what is said where nobody may know.
func TestRestCaches(t *testing.T) {
	c := newTenant(t)
	other := c.newCache(t, tenants.Cache{})
	c.do(t, "POST", "/v1/caches/"+other+"/redis", `["SET","where","other"]`).exactly(t, 200, `{"result":"OK"}`)
	c.do(t, "POST", "/v1/caches/main/redis/", `["SET","where","main"]`).exactly(t, 200, `{"result":"OK"}`)
	c.do(t, "POST", "/redis", `["GET","where"]`).exactly(t, 200, `{"result":"main"}`)
	c.do(t, "GET", "/v1/caches/"+other+"/redis/get/where", nil).exactly(t, 200, `{"result":"other"}`)
	c.do(t, "POST", "/v1/caches/"+other+"/redis/pipeline", `[["GET","where"]]`).exactly(t, 200, `[{"result":"other"}]`)
	c.do(t, "POST", "/v1/caches/"+other+"/redis/multi-exec", `[["GET","where"]]`).exactly(t, 200, `[{"result":"other"}]`)
	key := c.do(t, "POST", "/v1/keys", `{"name":"app","role":"read-write","default_cache":"`+other+`"}`).want(t, 201).text(t, "api_key")
	c.with(key).do(t, "POST", "/redis", `["GET","where"]`).exactly(t, 200, `{"result":"other"}`)
	c.do(t, "POST", "/v1/caches/none/redis", `["GET","where"]`).exactly(t, 404, `{"error":"ERR no cache \"none\""}`)
}

func TestRestCredentials(t *testing.T) {
	c := newTenant(t)
	const refused = `{"error":"WRONGPASS invalid or missing auth token"}`
	nobody := c.with("")
	for _, path := range []string{"", "/get/k", "/pipeline", "/multi-exec", "/nope", "/subscribe/c"} {
		nobody.do(t, "POST", "/redis"+path, `[]`).exactly(t, 401, refused)
		c.with(c.credential+"x").straight(t, "POST", "/redis"+path, `[]`).exactly(t, 401, refused)
	}
	nobody.straight(t, "POST", "/redis?_token=wrong", `["PING"]`).exactly(t, 401, refused)
	nobody.straight(t, "GET", "/redis/ping", nil, "Authorization", "Basic eDp5").exactly(t, 401, refused)
	nobody.do(t, "POST", "/redis?_token="+c.credential, `["PING"]`).exactly(t, 200, `{"result":"PONG"}`)
	nobody.do(t, "GET", "/redis/set/k/v?_token="+c.credential+"&EX=10", nil).exactly(t, 200, `{"result":"OK"}`)
	nobody.do(t, "GET", "/redis/ttl/k?_token="+c.credential, nil).exactly(t, 200, `{"result":10}`)
	c.do(t, "GET", "/v1/caches/main/kv/k?_token="+c.credential, nil).problem(t, 400, "invalid_argument", "_token") // nowhere else
	nobody.do(t, "GET", "/v1/caches/main/kv/k?_token="+c.credential, nil).problem(t, 401, "unauthenticated", "")

	reader := c.withRole(t, "read-only")
	reader.do(t, "POST", "/redis", `["GET","k"]`).exactly(t, 200, `{"result":"v"}`)
	noperm := `NOPERM this credential may not cache:Set on arn:cache:cache:local:` + c.tenant + `:cache/main/key/k`
	reader.do(t, "POST", "/redis", `["SET","k","w"]`).exactly(t, 400, `{"error":"`+noperm+`"}`)
	reader.do(t, "POST", "/redis/pipeline", `[["GET","k"],["SET","k","w"]]`).exactly(t, 200, `[{"result":"v"},{"error":"`+noperm+`"}]`)
	reader.do(t, "POST", "/redis/multi-exec", `[["GET","k"],["SET","k","w"]]`).exactly(t, 400, `{"error":"`+noperm+` (command 2; nothing was done)"}`)
	manage := c.do(t, "POST", "/v1/tokens", `{"use":"manage"}`).want(t, 201).text(t, "token")
	c.with(manage).do(t, "POST", "/redis", `["GET","k"]`).want(t, 401)
}

// Whatever goes wrong is JSON.
func TestRestFailures(t *testing.T) {
	c := newTenant(t)
	for _, m := range []string{"DELETE", "PATCH"} {
		c.do(t, m, "/redis/get/k", nil).exactly(t, 405, `{"error":"ERR this route has no such method; see the Allow header"}`)
	}
	c.do(t, "GET", "/redis", nil).exactly(t, 405, `{"error":"ERR this route has no such method; see the Allow header"}`)
	c.newCache(t, tenants.Cache{Name: "slow", Limits: tenants.Limits{UnitsPerSecond: 1}})
	for range 3 {
		c.do(t, "POST", "/v1/caches/slow/redis", `["PING"]`)
	}
	a := c.do(t, "POST", "/v1/caches/slow/redis/pipeline", `[["PING"]]`)
	if a.want(t, 429); !strings.HasPrefix(string(a.body), `{"error":"ERR max requests limit exceeded. Retry in `) || a.header.Get("Retry-After") == "" {
		t.Errorf("throttled: %s %v", a.body, a.header)
	}
	c.do(t, "POST", "/redis", `["SET","`+strings.Repeat("k", engine.MaxKey+1)+`","v"]`).
		exactly(t, 400, `{"error":"ERR max key size exceeded. Limit: 32768 bytes, Actual: 32769 bytes"}`)
	c.newCache(t, tenants.Cache{Name: "narrow", MaxValue: 10})
	long := c.do(t, "POST", "/v1/caches/narrow/redis", `["SET","k","12345678901"]`).want(t, 400)
	if !strings.Contains(string(long.body), `"ERR `) {
		t.Errorf("a long value: %s", long.body)
	}
	huge := c.do(t, "POST", "/v1/caches/narrow/redis/set/k", strings.Repeat("x", maxJSONBody+maxKept+1)).want(t, 413)
	if !strings.HasPrefix(string(huge.body), `{"error":"ERR max request size exceeded`) {
		t.Errorf("a huge request: %s", huge.body)
	}
	c.do(t, "POST", "/redis", `["PING"]`, "Content-Encoding", "gzip").exactly(t, 415, `{"error":"ERR bodies are taken as they are, not compressed"}`)
	many := "[" + strings.Repeat(`["PING"],`, maxBatch) + `["PING"]]`
	c.do(t, "POST", "/redis/pipeline", many).exactly(t, 400, `{"error":"ERR a request has at most 10000 commands"}`)
}

// A value of the largest size that the cache allows goes in and comes out.
func TestRestLargeValues(t *testing.T) {
	c := newTenant(t)
	value := strings.Repeat("0123456789abcde\n", engine.DefaultMaxValue/16)
	c.do(t, "POST", "/redis/set/large", value).exactly(t, 200, `{"result":"OK"}`)
	a := c.do(t, "POST", "/redis", `["GET","large"]`, "Upstash-Encoding", "base64").want(t, 200)
	if want := `{"result":"` + base64.StdEncoding.EncodeToString([]byte(value)) + `"}`; string(a.body) != want {
		t.Errorf("%d bytes in base64, want %d", len(a.body), len(want))
	}
	a = c.do(t, "POST", "/redis", `["GET","large"]`).want(t, 200)
	if want := `{"result":"` + strings.ReplaceAll(value, "\n", `\n`) + `"}`; string(a.body) != want {
		t.Errorf("%d bytes as text, want %d", len(a.body), len(want))
	}
	two := c.do(t, "POST", "/redis/pipeline", `[["GET","large"],["GET","large"],["PING"]]`, "Upstash-Encoding", "base64").want(t, 200)
	var got []RestResult
	two.decode(t, &got)
	if len(got) != 3 || got[0].Error != "" || !strings.HasPrefix(got[1].Error, "ERR the answers of one request have at most ") || got[2].Result != "UE9ORw==" {
		t.Errorf("two at once: %d results, %d bytes", len(got), len(two.body))
	}
}

// Clients send thousands of commands at once; each is charged.
func TestRestPipelinesAreCharged(t *testing.T) {
	c := newTenant(t)
	body, want := &strings.Builder{}, &strings.Builder{}
	const n = 5008
	for i := range n {
		fmt.Fprintf(body, `,["ECHO",%d]`, i)
		fmt.Fprintf(want, `,{"result":"%d"}`, i)
	}
	a := c.do(t, "POST", "/redis/pipeline", "["+body.String()[1:]+"]").exactly(t, 200, "["+want.String()[1:]+"]")
	if units, _ := strconv.Atoi(a.header.Get("X-Larder-Units")); units < n || units > n+100 {
		t.Errorf("charged %d", units)
	}
}

// Nothing of others comes between the commands of a transaction, and errors do not let it in.
func TestRestTransactionsAreOneStep(t *testing.T) {
	c := newTenant(t)
	const workers, rounds = 4, 50
	c.do(t, "POST", "/redis", `["SET","text","x"]`).want(t, 200)
	var running sync.WaitGroup
	for range workers {
		running.Go(func() {
			for range rounds {
				var got []RestResult
				c.do(t, "POST", "/redis/multi-exec", `[["INCR","n"],["INCR","text"],["INCR","n"],["INCR","n"]]`).want(t, 200).decode(t, &got)
				if got[1].Error == "" || got[2].Result != got[0].Result.(float64)+1 || got[3].Result != got[0].Result.(float64)+2 {
					t.Errorf("not one step: %v", got)
				}
			}
		})
	}
	running.Wait()
	c.do(t, "POST", "/redis", `["GET","n"]`).exactly(t, 200, fmt.Sprintf(`{"result":"%d"}`, 3*workers*rounds))
}

// The sync token is new with each answer, of failures too.
func TestRestSyncToken(t *testing.T) {
	c := newTenant(t)
	seen := map[string]bool{}
	for _, path := range []string{"/redis/ping", "/redis/ping", "/redis/nope", "/redis/get", "/v1/caches/none/redis/ping"} {
		token := c.do(t, "GET", path, nil, "Upstash-Sync-Token", "whatever").header.Get("upstash-sync-token")
		if token == "" || seen[token] {
			t.Errorf("%s: token %q after %v", path, token, seen)
		}
		seen[token] = true
	}
}

// An idempotency key works here as elsewhere; what it was used for is the body as it was sent.
func TestRestOnce(t *testing.T) {
	c := newTenant(t)
	for range 3 {
		c.do(t, "POST", "/redis/pipeline", `[["INCR","\u006e"],["GET","\u006e"]]`, "Idempotency-Key", "one").exactly(t, 200, `[{"result":1},{"result":"1"}]`)
	}
	used := c.do(t, "POST", "/redis/pipeline", `[["INCR","n"],["GET","n"]]`, "Idempotency-Key", "one")
	if used.status != 200 || strings.Count(string(used.body), "this idempotency key was used for another request") != 2 {
		t.Errorf("another request: %d %s", used.status, used.body)
	}
	c.do(t, "POST", "/redis", `["GET","n"]`).exactly(t, 200, `{"result":"1"}`)
}

// replies draws a sequence of random replies and plays it.
type replies struct{ pieces []func(engine.Reply) }

func (r *replies) add(piece func(engine.Reply)) { r.pieces = append(r.pieces, piece) }

func (r *replies) play(out engine.Reply) {
	for _, piece := range r.pieces {
		piece(out)
	}
}

// value draws a value, and returns what JSON should have for it.
func (r *replies) value(t *rapid.T, depth int, in64 bool) any {
	text := func(b []byte) any {
		if in64 {
			return base64.StdEncoding.EncodeToString(b)
		}
		fixed := strings.Builder{}
		for _, c := range string(b) {
			fixed.WriteRune(c) // each byte that is no UTF-8 is a U+FFFD
		}
		return fixed.String()
	}
	list := func(n int) []any {
		all := []any{}
		for range n {
			all = append(all, r.value(t, depth+1, in64))
		}
		return all
	}
	kinds := 13
	if depth > 3 {
		kinds = 8
	}
	n := rapid.IntRange(0, 3).Draw(t, "n")
	switch rapid.IntRange(0, kinds-1).Draw(t, "kind") {
	case 0:
		r.add(engine.Reply.Null)
		return nil
	case 1:
		r.add(engine.Reply.NullArray)
		return nil
	case 2:
		v := rapid.Bool().Draw(t, "bool")
		r.add(func(out engine.Reply) { out.Bool(v) })
		if v {
			return 1.0
		}
		return 0.0
	case 3:
		v := rapid.Int64Range(-1<<53, 1<<53).Draw(t, "int")
		r.add(func(out engine.Reply) { out.Int(v) })
		return float64(v)
	case 4:
		v := rapid.SampledFrom([]float64{0, 1.5, -3, 1e300, 1e-9, 3.141592653589793, math.Inf(1), math.Inf(-1)}).Draw(t, "double")
		r.add(func(out engine.Reply) { out.Double(v) })
		return text(engine.AppendDouble(nil, v))
	case 5:
		v := rapid.SampledFrom([]string{"OK", "PONG", "QUEUED"}).Draw(t, "status")
		r.add(func(out engine.Reply) { out.Status(v) })
		if v == "OK" && depth == 0 {
			return v
		}
		return text([]byte(v))
	case 6:
		v := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })).Draw(t, "bulk")
		r.add(func(out engine.Reply) { out.Bulk(v) })
		return text(v)
	case 7:
		v := rapid.String().Draw(t, "text")
		r.add(func(out engine.Reply) { out.Text(v) })
		return text([]byte(v))
	case 8:
		r.add(func(out engine.Reply) { out.Array(n) })
		return list(n)
	case 9:
		r.add(func(out engine.Reply) { out.Set(n) })
		return list(n)
	case 10:
		r.add(func(out engine.Reply) { out.Map(n) })
		return list(2 * n)
	case 11:
		r.add(func(out engine.Reply) { out.Pairs(n) })
		return list(2 * n)
	default:
		r.add(func(out engine.Reply) { out.Keyed(n) })
		all := []any{}
		for range n {
			all = append(all, list(2))
		}
		return all
	}
}

// What is written while the replies come is what a tree of them would be in JSON, whatever their shapes.
func TestRestRepliesAreJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in64 := rapid.Bool().Draw(t, "base64")
		var played replies
		want := []any{}
		for range rapid.IntRange(0, 4).Draw(t, "replies") {
			if rapid.IntRange(0, 5).Draw(t, "error") == 0 {
				e := fault.New(fault.InvalidArgument, "test", "%s", rapid.String().Draw(t, "message"))
				played.add(func(out engine.Reply) { out.Error(e) })
				want = append(want, map[string]any{"error": "ERR " + e.Message})
				continue
			}
			want = append(want, map[string]any{"result": played.value(t, 0, in64)})
		}
		var j restReply
		j.reset(in64, true, 1<<20)
		played.play(&j)
		if j.Len() < len(played.pieces) {
			t.Fatalf("%d pieces count as %d bytes", len(played.pieces), j.Len())
		}
		whole := string(j.done())
		var got any
		if err := stdjson.Unmarshal([]byte(whole), &got); err != nil {
			t.Fatalf("%v: %s", err, whole)
		}
		if g, w := fmt.Sprintf("%#v", got), fmt.Sprintf("%#v", want); g != w {
			t.Fatalf("got %s\nwant %s", g, w)
		}
		// With less room each reply is what it was or an error, and no more is written than fits.
		max := rapid.IntRange(0, len(whole)).Draw(t, "max")
		j.reset(in64, true, max)
		played.play(&j)
		var some []map[string]any
		if err := stdjson.Unmarshal(j.done(), &some); err != nil || len(some) != len(want) {
			t.Fatalf("at most %d bytes: %v: %s", max, err, j.out)
		}
		errors := 0
		for i, r := range some {
			if text, ok := r["error"].(string); ok && strings.HasPrefix(text, "ERR the answers of one request have at most ") {
				errors++
			} else if g, w := fmt.Sprintf("%#v", any(r)), fmt.Sprintf("%#v", want[i]); g != w {
				t.Fatalf("at most %d bytes: got %s want %s", max, g, w)
			}
		}
		if len(j.out) > max+250*len(want)+64 {
			t.Fatalf("%d bytes with room for %d", len(j.out), max)
		}
		if errors == 0 && len(j.out) != len(whole) {
			t.Fatalf("%s, and without a limit %s", j.out, whole)
		}
	})
}

// RESP2 has the shapes of the JSON.
func TestRestRESP2(t *testing.T) {
	var r engine.Recording
	r.Array(9)
	r.Null()
	r.NullArray()
	r.Bool(true)
	r.Bool(false)
	r.Int(-7)
	r.Double(0.1)
	r.Status("OK")
	r.Keyed(2)
	r.Text("a")
	r.Map(1)
	r.Text("b")
	r.Array(0)
	r.Text("c")
	r.Pairs(1)
	r.Text("d")
	r.Set(1)
	r.Bulk([]byte{0xff})
	r.Error(fault.New(fault.InvalidArgument, "test", "two\r\nlines"))
	c := r.Cursor()
	const want = "*9\r\n$-1\r\n*-1\r\n:1\r\n:0\r\n:-7\r\n$3\r\n0.1\r\n+OK\r\n" +
		"*2\r\n*2\r\n$1\r\na\r\n*2\r\n$1\r\nb\r\n*0\r\n*2\r\n$1\r\nc\r\n*2\r\n$1\r\nd\r\n*1\r\n$1\r\n\xff\r\n" + "-ERR two  lines\r\n"
	if got := string(appendRESP2(nil, &c)); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

// The parser takes what encoding/json takes, if it is of the right shape, and reads the same; and it writes nowhere but
// in the text.
func FuzzRestCommands(f *testing.F) {
	for _, s := range []string{
		`["SET","k","v",1.5e3,true,false]`, `[["GET","k"],["MGET","a","b"]]`, `[]`, `[[]]`, `["a\u00e9\ud83d\ude00\ud83d\n"]`, ` [ "x" , -0.0e-7 ] `,
		`["a" "b"]`, `["a",]`, `[,]`, `["\x"]`, `["\u12"]`, "[\"\x01\"]", `[01]`, `[-]`, `[1.]`, `[1e]`, `[tru]`, `[null]`, `[{}]`, `["`, `["\`, `["a"]x`, "[\"\xff\"]", `["\uDC00\uD800"]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, many := range []bool{false, true} {
			room := append(append([]byte("guard"), text...), "guard"...)
			body := room[5 : 5+len(text) : 5+len(text)]
			var got [][][]byte
			var err error
			if many {
				err = parseCommands(body, func(p *commandParser) error {
					args, err := p.command(nil)
					got = append(got, args)
					return err
				})
			} else {
				var args [][]byte
				args, err = parseCommand(nil, body)
				got = append(got, args)
			}
			if string(room[:5]) != "guard" || string(room[len(room)-5:]) != "guard" {
				t.Fatal("it wrote beside the text")
			}
			want, ok := naiveCommands(text, many)
			if ok != (err == nil) {
				t.Fatalf("%q: %v, but it is good: %v", text, err, ok)
			}
			if g, w := marked([]byte(fmt.Sprintf("%s", got))), []byte(fmt.Sprintf("%s", want)); ok && !bytes.Equal(g, w) {
				t.Fatalf("%q: got %q want %q", text, got, want)
			}
		}
	})
}

// marked is a text with U+FFFD for each byte that is no UTF-8.
func marked(text []byte) []byte { return bytes.Map(func(r rune) rune { return r }, text) }

// naiveCommands reads commands with encoding/json, which knows no bytes that are no UTF-8: they are marked.
func naiveCommands(text []byte, many bool) (commands [][]string, ok bool) {
	text = marked(text)
	var all [][]stdjson.RawMessage
	if many {
		ok = stdjson.Unmarshal(text, &all) == nil
	} else {
		var one []stdjson.RawMessage
		ok = stdjson.Unmarshal(text, &one) == nil
		all = append(all, one)
	}
	if !ok || len(all) == 0 {
		return nil, false
	}
	for _, one := range all {
		var args []string
		for _, raw := range one {
			var s string
			switch c := raw[0]; {
			case c == '"':
				if stdjson.Unmarshal(raw, &s) != nil {
					return nil, false
				}
			case c == '[' || c == '{' || c == 'n':
				return nil, false
			default:
				s = string(raw)
			}
			args = append(args, s)
		}
		if len(args) == 0 {
			return nil, false
		}
		commands = append(commands, args)
	}
	return commands, true
}

// FuzzRestPaths sends any path and query: the answer is always JSON with a result or an error, and never a fault of ours.
func FuzzRestPaths(f *testing.F) {
	for _, s := range [][2]string{{"get/k", ""}, {"set/k/v", "EX=10&NX"}, {"a%2Fb//c", "%zz"}, {"multi-exec/", "="}, {"pipeline", "_token=x&&"}, {"%", "+"}} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, path, query string) {
		c := newTenantOnce(t)
		for _, base := range []string{"/redis/", "/v1/caches/main/webdis/"} {
			r, err := http.NewRequest("GET", "http://larder"+base+path+"?"+query, nil)
			if err != nil {
				return
			}
			r.Header.Set("Authorization", "Bearer "+c.credential)
			r.RemoteAddr = "10.0.0.1:1"
			w := httptest.NewRecorder()
			c.api.ServeHTTP(w, r)
			if !inRest(r.URL.Path) || strings.HasPrefix(w.Header().Get("Content-Type"), "application/problem") {
				continue
			}
			if w.Code >= 500 && w.Code != 501 || base == "/redis/" && !stdjson.Valid(w.Body.Bytes()) {
				t.Fatalf("%s: %d %s", r.URL, w.Code, w.Body)
			}
		}
	})
}

var onceTenant struct {
	once sync.Once
	caller
}

// newTenantOnce is the same tenant for every call, for those who call often.
func newTenantOnce(t testing.TB) caller {
	onceTenant.once.Do(func() { onceTenant.caller = newTenant(t) })
	return onceTenant.caller
}

// An absentClient is a client that is not there.
type absentClient struct{ h http.Header }

func (w *absentClient) Header() http.Header         { return w.h }
func (w *absentClient) Write(b []byte) (int, error) { return len(b), nil }
func (w *absentClient) WriteHeader(int)             {}

// restRequest makes a request that can be served again and again.
func restRequest(t testing.TB, c caller, body string) func() {
	t.Helper()
	r := httptest.NewRequest("POST", "/redis", nil)
	r.Header.Set("Authorization", "Bearer "+c.credential)
	k := &conn{}
	k.peer = parsePrefixes(t, "10.0.0.1/32")[0].Addr()
	r = r.WithContext(contextWithConn(r.Context(), k))
	r.ContentLength = int64(len(body))
	w := &absentClient{h: http.Header{}}
	reader := &again{text: body}
	r.Body = reader
	return func() {
		reader.at = 0
		clear(w.h)
		c.api.ServeHTTP(w, r)
	}
}

// again is a body that can be read again.
type again struct {
	text string
	at   int
}

func (b *again) Read(p []byte) (int, error) {
	n := copy(p, b.text[b.at:])
	b.at += n
	return n, nil
}

func (b *again) Close() error { return nil }

func TestRestAllocates(t *testing.T) {
	c := newTenant(t)
	c.do(t, "POST", "/redis", `["SET","k","`+strings.Repeat("v", 64)+`"]`).want(t, 200)
	serve := restRequest(t, c, `["GET","k"]`)
	if n := testing.AllocsPerRun(200, serve); n > 10 {
		t.Errorf("%.0f allocations for a GET", n)
	}
}

func BenchmarkRest(b *testing.B) {
	c := newTenant(b)
	c.do(b, "POST", "/redis", `["SET","k","`+strings.Repeat("v", 64)+`"]`).want(b, 200)
	for _, bb := range []struct{ name, body string }{
		{"GET", `["GET","k"]`},
		{"SET", `["SET","k","` + strings.Repeat("v", 64) + `"]`},
	} {
		b.Run(bb.name, func(b *testing.B) {
			serve := restRequest(b, c, bb.body)
			b.ReportAllocs()
			for b.Loop() {
				serve()
			}
		})
	}
}

func BenchmarkRestParse(b *testing.B) {
	body := []byte(`["SET","user:1000:profile","` + strings.Repeat("v", 64) + `","EX",100]`)
	args := make([][]byte, 0, 8)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parseCommand(args, body); err != nil {
			b.Fatal(err)
		}
	}
}
