package httpapi

import (
	"crypto/md5"
	"fmt"
	"testing"
)

func TestWebdis(t *testing.T) {
	c := newTenant(t)
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		want, content            string
	}{
		{name: "a status word", method: "GET", path: "/SET/hello/world", want: `{"SET":[true,"OK"]}`},
		{name: "a string", method: "GET", path: "/GET/hello", want: `{"GET":"world"}`},
		{name: "an ending", method: "GET", path: "/GET/hello.json", want: `{"GET":"world"}`},
		{name: "the name as it was written", method: "GET", path: "/get/hello", want: `{"get":"world"}`},
		{name: "null", method: "GET", path: "/GET/none", want: `{"GET":null}`},
		{name: "an integer", method: "GET", path: "/INCR/n", want: `{"INCR":1}`},
		{name: "an error", method: "GET", path: "/INCR/hello", want: `{"INCR":[false,"ERR value is not an integer or out of range"]}`},
		{name: "an unknown command", method: "GET", path: "/NOPE", want: `{"NOPE":[false,"ERR unknown command 'NOPE'"]}`},
		{name: "a list", method: "GET", path: "/RPUSH/l/a/b.b/c%2Ed", want: `{"RPUSH":3}`},
		{name: "is a list", method: "GET", path: "/LRANGE/l/0/-1", want: `{"LRANGE":["a","b.b","c.d"]}`},
		{name: "a hash", method: "GET", path: "/HSET/h/f/v/g/%22", want: `{"HSET":2}`},
		{name: "is an object", method: "GET", path: "/HGETALL/h", want: `{"HGETALL":{"f":"v","g":"\""}}`},
		{name: "an empty one", method: "GET", path: "/HGETALL/none", want: `{"HGETALL":{}}`},
		{name: "a sorted set", method: "GET", path: "/ZADD/z/1.5/a", want: `{"ZADD":1}`},
		{name: "is a flat list", method: "GET", path: "/ZRANGE/z/0/-1/WITHSCORES", want: `{"ZRANGE":["a","1.5"]}`},
		{name: "a plus sign is a space", method: "GET", path: "/ECHO/a+b%2B", want: `{"ECHO":"a b+"}`},
		{name: "a dot that is no ending", method: "GET", path: "/ECHO/a.png2", want: `{"ECHO":"a.png2"}`},
		{name: "an encoded dot", method: "GET", path: "/ECHO/a%2Ejson", want: `{"ECHO":"a.json"}`},
		{name: "another database", method: "GET", path: "/7/SET/hello/seven", want: `{"SET":[true,"OK"]}`},
		{name: "is another", method: "GET", path: "/7/GET/hello", want: `{"GET":"seven"}`},
		{name: "but not this", method: "GET", path: "/GET/hello", want: `{"GET":"world"}`},
		{name: "too many databases", method: "GET", path: "/16/GET/hello", status: 400, want: `{"error":"ERR DB index is out of range"}`},
		{name: "a body with PUT", method: "PUT", path: "/SET/hello", body: "any\nbody", want: `{"SET":[true,"OK"]}`},
		{name: "a command with POST", method: "POST", body: "GET/hello", want: `{"GET":"any\nbody"}`},
		{name: "and an ending", method: "POST", body: "GET/hello.txt", want: "any\nbody", content: "text/plain"},
		{name: "text", method: "GET", path: "/GET/hello.txt", want: "any\nbody", content: "text/plain"},
		{name: "a picture", method: "GET", path: "/GET/hello.png", want: "any\nbody", content: "image/png"},
		{name: "an absent text", method: "GET", path: "/GET/none.txt", status: 404, want: `{"error":"ERR no such key"}`},
		{name: "a status word as text", method: "GET", path: "/SET/k/v.txt", want: "+OK", content: "text/plain"},
		{name: "an integer as text", method: "GET", path: "/INCR/n.txt", want: "2", content: "text/plain"},
		{name: "an error as text", method: "GET", path: "/INCR/hello.txt", want: "-ERR value is not an integer or out of range", content: "text/plain"},
		{name: "a list as text", method: "GET", path: "/LRANGE/l/0/-1.txt", want: "ab.bc.d", content: "text/plain"},
		{name: "raw", method: "GET", path: "/LRANGE/l/0/0.raw", want: "*1\r\n$1\r\na\r\n", content: "binary/octet-stream"},
		{name: "raw null", method: "GET", path: "/GET/none.raw", want: "$-1\r\n", content: "binary/octet-stream"},
		{name: "what a browser would run", method: "GET", path: "/ECHO/a.html", want: `{"ECHO":"a.html"}`},
		{name: "no command", method: "GET", path: "/.json", status: 403, want: `{"error":"NOPERM there is no command in the path"}`},
		{name: "a command that waits", method: "GET", path: "/BLPOP/l/0", want: `{"BLPOP":[false,"ERR BLPOP is not available over REST: it would wait. Ask again later, or use the Redis protocol"]}`},
		{name: "another method", method: "DELETE", path: "/GET/hello", status: 405, want: `{"error":"ERR this route has no such method; see the Allow header"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var body any
			if tt.body != "" {
				body = tt.body
			}
			if tt.status == 0 {
				tt.status = 200
			}
			if tt.content == "" {
				tt.content = "application/json"
			}
			a := c.do(t, tt.method, "/v1/caches/main/webdis"+tt.path, body).exactly(t, tt.status, tt.want)
			if got := a.header.Get("Content-Type"); got != tt.content {
				t.Errorf("content type %q, want %q", got, tt.content)
			}
			etag := fmt.Sprintf("%q", fmt.Sprintf("%x", md5.Sum(a.body))) // as Webdis makes it
			if got := a.header.Get("Etag"); a.status == 200 && got != etag {
				t.Errorf("ETag %s, want %s", got, etag)
			}
		})
	}
	etag := c.do(t, "GET", "/v1/caches/main/webdis/GET/hello", nil).header.Get("Etag")
	c.do(t, "GET", "/v1/caches/main/webdis/GET/hello", nil, "If-None-Match", etag).exactly(t, 304, "")
	c.do(t, "PUT", "/v1/caches/main/webdis/SET/hello", "other").want(t, 200)
	c.do(t, "GET", "/v1/caches/main/webdis/GET/hello", nil, "If-None-Match", etag).exactly(t, 200, `{"GET":"other"}`)

	c.with("").do(t, "GET", "/v1/caches/main/webdis/GET/hello", nil).exactly(t, 401, `{"error":"WRONGPASS invalid or missing auth token"}`)
	c.withRole(t, "read-only").do(t, "GET", "/v1/caches/main/webdis/SET/hello/x", nil).want(t, 403)
}
