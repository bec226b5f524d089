package httpapi

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/tenants"
)

const kv = "/v1/caches/main/kv/"

// escaped writes any bytes as a segment of a path.
func escaped(key string) string {
	var b strings.Builder
	for i := range len(key) {
		fmt.Fprintf(&b, "%%%02X", key[i])
	}
	return b.String()
}

func TestAValueComesBackAsItWasPut(t *testing.T) {
	c := newTenant(t)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	tests := []struct {
		name, contentType string
		value             []byte
	}{
		{"text", "text/plain; charset=utf-8", []byte("hello")},
		{"every byte", "application/x-thing", every},
		{"empty", "text/plain", nil},
		{"JSON that is none", "application/json", []byte(`{"a":1,"a":2`)},
		{"without a type", "", []byte("plain")},
		{"a type in odd spelling", `Text/PLAIN;  charset="UTF-8" ; x=";,"`, []byte("odd")},
		{"the longest type", "a/" + strings.Repeat("b", engine.MaxContentType-2), []byte("long")},
		{"a megabyte", "application/octet-stream", bytes.Repeat([]byte("0123456789abcdef"), 1<<16)},
		{"the largest by default", "application/octet-stream", bytes.Repeat(every, tenants.DefaultMaxValue/256)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := kv + escaped(tt.name)
			put := c.do(t, "PUT", path, tt.value, "Content-Type", tt.contentType).want(t, 201)
			if len(put.body) != 0 {
				t.Errorf("PUT answers with a body: %q", put.body)
			}
			get := c.do(t, "GET", path, nil).want(t, 200)
			if !bytes.Equal(get.body, tt.value) {
				t.Errorf("got %d bytes, want %d", len(get.body), len(tt.value))
			}
			wantType := tt.contentType
			if wantType == "" {
				wantType = "application/octet-stream"
			}
			head := c.do(t, "HEAD", path, nil).want(t, 200)
			for _, a := range []answer{get, head} {
				for name, want := range map[string]string{
					"Content-Type": wantType, "Content-Length": strconv.Itoa(len(tt.value)), "Etag": put.header.Get("Etag"),
					"X-Larder-Ttl-Ms": "", "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
				} {
					if got := a.header.Get(name); got != want {
						t.Errorf("%s: %s: got %q, want %q", a.request, name, got, want)
					}
				}
				if u, err := strconv.Atoi(a.header.Get("X-Larder-Units")); err != nil || u < 1 {
					t.Errorf("%s: units %q", a.request, a.header.Get("X-Larder-Units"))
				}
				if !strings.HasPrefix(a.header.Get("Server-Timing"), "total;dur=") {
					t.Errorf("%s: timing %q", a.request, a.header.Get("Server-Timing"))
				}
			}
			if len(head.body) != 0 || head.header.Get("Accept-Ranges") != "bytes" {
				t.Errorf("HEAD answers with a body or without Accept-Ranges")
			}
			again := c.do(t, "PUT", path, tt.value, "Content-Type", tt.contentType).want(t, 204)
			if again.header.Get("Etag") == put.header.Get("Etag") {
				t.Error("another write has the same tag")
			}
			c.do(t, "DELETE", path, nil).want(t, 204)
			c.do(t, "DELETE", path, nil).problem(t, 404, "not_found", "")
			c.do(t, "GET", path, nil).problem(t, 404, "not_found", "")
			c.do(t, "HEAD", path, nil).want(t, 404)
		})
	}
}

// TestConditions holds every method to RFC 9110. In the tags, A stands for the value's own and B for that of
// an earlier value.
func TestConditions(t *testing.T) {
	c := newTenant(t)
	tests := []struct {
		name, method, path string
		exists             bool
		headers            []string
		status             int
		argument           string
	}{
		{"create where nothing is", "PUT", "", false, []string{"If-None-Match", "*"}, 201, ""},
		{"create where something is", "PUT", "", true, []string{"If-None-Match", "*"}, 412, ""},
		{"replace what is", "PUT", "", true, []string{"If-Match", "*"}, 204, ""},
		{"replace what is not", "PUT", "", false, []string{"If-Match", "*"}, 412, ""},
		{"compare and set", "PUT", "", true, []string{"If-Match", "A"}, 204, ""},
		{"compare with an old tag", "PUT", "", true, []string{"If-Match", "B"}, 412, ""},
		{"compare what is not", "PUT", "", false, []string{"If-Match", "A"}, 412, ""},
		{"one of a list", "PUT", "", true, []string{"If-Match", `"other", B ,A`}, 204, ""},
		{"one of two headers", "PUT", "", true, []string{"If-Match", "B", "If-Match", "A"}, 204, ""},
		{"a weak tag never matches a write", "PUT", "", true, []string{"If-Match", "W/A"}, 412, ""},
		{"a tag without quotes", "PUT", "", true, []string{"If-Match", "abc"}, 412, ""},
		{"an empty tag", "PUT", "", true, []string{"If-Match", ` , `}, 412, ""},
		{"a star in a list", "PUT", "", true, []string{"If-Match", `*, A`}, 400, "If-Match"},
		{"64 tags", "PUT", "", true, []string{"If-Match", strings.Repeat(`"x",`, 63) + "A"}, 204, ""},
		{"65 tags", "PUT", "", true, []string{"If-Match", strings.Repeat(`"x",`, 64) + "A"}, 400, "If-Match"},
		{"a tag in If-None-Match of a write", "PUT", "", true, []string{"If-None-Match", "A"}, 400, "If-None-Match"},
		{"both conditions", "PUT", "", true, []string{"If-None-Match", "*", "If-Match", "A"}, 400, "If-None-Match"},

		{"append to this version", "POST", "/append", true, []string{"If-Match", "A"}, 200, ""},
		{"append to an old version", "POST", "/append", true, []string{"If-Match", "B"}, 412, ""},
		{"append to what is not", "POST", "/append", false, []string{"If-Match", "A"}, 412, ""},
		{"append with a star", "POST", "/append", true, []string{"If-Match", "*"}, 400, "If-Match"},
		{"append with If-None-Match", "POST", "/append", false, []string{"If-None-Match", "*"}, 400, "If-None-Match"},

		{"delete this version", "DELETE", "", true, []string{"If-Match", "A"}, 204, ""},
		{"delete an old version", "DELETE", "", true, []string{"If-Match", "B"}, 412, ""},
		{"delete with a star", "DELETE", "", true, []string{"If-Match", "*"}, 204, ""},
		{"delete what is not", "DELETE", "", false, []string{"If-Match", "A"}, 404, ""},
		{"delete with If-None-Match", "DELETE", "", true, []string{"If-None-Match", "*"}, 400, "If-None-Match"},

		{"read unless this version", "GET", "", true, []string{"If-None-Match", "A"}, 304, ""},
		{"read unless this version, weakly", "GET", "", true, []string{"If-None-Match", "W/A"}, 304, ""},
		{"read unless one of a list", "GET", "", true, []string{"If-None-Match", `"x", A`}, 304, ""},
		{"read unless there is any", "GET", "", true, []string{"If-None-Match", "*"}, 304, ""},
		{"read unless an old version", "GET", "", true, []string{"If-None-Match", "B"}, 200, ""},
		{"read what is not", "GET", "", false, []string{"If-None-Match", "*"}, 404, ""},
		{"read if this version", "GET", "", true, []string{"If-Match", "A"}, 200, ""},
		{"read if an old version", "GET", "", true, []string{"If-Match", "B"}, 412, "If-Match"},
		{"read if a weak tag", "GET", "", true, []string{"If-Match", "W/A"}, 412, "If-Match"},
		{"head unless this version", "HEAD", "", true, []string{"If-None-Match", "A"}, 304, ""},
		{"head if an old version", "HEAD", "", true, []string{"If-Match", "B"}, 412, ""},
		{"304 comes before the range", "GET", "", true, []string{"If-None-Match", "A", "Range", "bytes=90-"}, 304, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := kv + escaped(tt.name)
			old := c.do(t, "PUT", path, "before").want(t, 201).header.Get("Etag")
			now := c.do(t, "PUT", path, "value").want(t, 204).header.Get("Etag")
			if !tt.exists {
				c.do(t, "DELETE", path, nil).want(t, 204)
			}
			headers := append([]string(nil), tt.headers...)
			for i := 1; i < len(headers); i += 2 {
				headers[i] = strings.NewReplacer("A", now, "B", old).Replace(headers[i])
			}
			var body any
			if tt.method == "PUT" || tt.method == "POST" {
				body = "!"
			}
			a := c.do(t, tt.method, path+tt.path, body, headers...).want(t, tt.status)
			if tt.method != "HEAD" && tt.status >= 400 {
				a.problem(t, tt.status, map[int]string{400: "invalid_argument", 404: "not_found", 412: "precondition_failed"}[tt.status], tt.argument)
			}
			if tt.status == 304 && (a.header.Get("Etag") != now || len(a.body) > 0) {
				t.Errorf("a 304 with tag %q and body %q", a.header.Get("Etag"), a.body)
			}
			if tt.status >= 400 { // nothing has changed
				if after := c.do(t, "GET", path, nil); tt.exists && (string(after.body) != "value" || after.header.Get("Etag") != now) {
					t.Errorf("a refused request changed the value to %q", after.body)
				} else if !tt.exists && after.status != 404 {
					t.Errorf("a refused request made a value: %q", after.body)
				}
			}
		})
	}
}

func TestRanges(t *testing.T) {
	c := newTenant(t)
	etag := c.do(t, "PUT", kv+"ten", "0123456789", "Content-Type", "text/plain").want(t, 201).header.Get("Etag")
	c.do(t, "PUT", kv+"none", "").want(t, 201)
	tests := []struct {
		key, header  string
		status       int
		body, ranges string
	}{
		{"ten", "bytes=0-3", 206, "0123", "bytes 0-3/10"},
		{"ten", "bytes=3-3", 206, "3", "bytes 3-3/10"},
		{"ten", "bytes=7-", 206, "789", "bytes 7-9/10"},
		{"ten", "bytes=7-99", 206, "789", "bytes 7-9/10"},
		{"ten", "bytes=-5", 206, "56789", "bytes 5-9/10"},
		{"ten", "bytes=-10", 206, "0123456789", "bytes 0-9/10"},
		{"ten", "bytes=-11", 206, "0123456789", "bytes 0-9/10"},
		{"ten", "bytes=0-99999999999999999999999", 206, "0123456789", "bytes 0-9/10"},
		{"ten", "bytes=-99999999999999999999999", 206, "0123456789", "bytes 0-9/10"},
		{"ten", "BYTES=0-0", 206, "0", "bytes 0-0/10"},
		{"ten", "bytes=-0", 416, "", "bytes */10"},
		{"ten", "bytes=10-", 416, "", "bytes */10"},
		{"ten", "bytes=10-20", 416, "", "bytes */10"},
		{"ten", "bytes=99999999999999999999999-", 416, "", "bytes */10"},
		{"none", "bytes=0-", 416, "", "bytes */0"},
		{"none", "bytes=-5", 416, "", "bytes */0"},
		// What is several ranges, or none that we understand, is answered whole.
		{"ten", "bytes=0-1,3-4", 200, "0123456789", ""},
		{"ten", "bytes=0-1, -1", 200, "0123456789", ""},
		{"ten", "bytes=5-3", 200, "0123456789", ""},
		{"ten", "bytes=a-3", 200, "0123456789", ""},
		{"ten", "bytes=+1-3", 200, "0123456789", ""},
		{"ten", "bytes=1-+3", 200, "0123456789", ""},
		{"ten", "bytes=-", 200, "0123456789", ""},
		{"ten", "bytes=", 200, "0123456789", ""},
		{"ten", "bytes=--5", 200, "0123456789", ""},
		{"ten", "lines=0-1", 200, "0123456789", ""},
		{"ten", "0-1", 200, "0123456789", ""},
	}
	for _, tt := range tests {
		t.Run(tt.key+" "+tt.header, func(t *testing.T) {
			// Under If-Range with the value's tag the same, with any other the whole.
			for _, condition := range []string{"", etag} {
				if condition != "" && tt.key != "ten" {
					continue
				}
				a := c.do(t, "GET", kv+tt.key, nil, "Range", tt.header, "If-Range", condition).want(t, tt.status)
				if a.header.Get("Content-Range") != tt.ranges {
					t.Errorf("Content-Range %q, want %q", a.header.Get("Content-Range"), tt.ranges)
				}
				if tt.status == 416 {
					a.problem(t, 416, "range_not_satisfiable", "Range")
				} else if string(a.body) != tt.body || a.header.Get("Content-Length") != strconv.Itoa(len(tt.body)) {
					t.Errorf("got %q of length %s, want %q", a.body, a.header.Get("Content-Length"), tt.body)
				} else if tt.key == "ten" && a.header.Get("Content-Type") != "text/plain" {
					t.Errorf("type %q", a.header.Get("Content-Type"))
				}
			}
			for _, condition := range []string{`"other"`, "W/" + etag, "Mon, 23 Nov 2026 17:00:00 GMT"} {
				a := c.do(t, "GET", kv+"ten", nil, "Range", tt.header, "If-Range", condition).want(t, 200)
				if string(a.body) != "0123456789" || a.header.Get("Content-Range") != "" {
					t.Errorf("If-Range: %s: got %q", condition, a.body)
				}
			}
			if a := c.do(t, "HEAD", kv+tt.key, nil, "Range", tt.header).want(t, 200); a.header.Get("Content-Range") != "" {
				t.Error("HEAD answers a range")
			}
		})
	}
	if a := c.do(t, "GET", kv+"ten", nil, "Range", "bytes=0-1", "Range", "bytes=2-3").want(t, 200); string(a.body) != "0123456789" {
		t.Errorf("two headers: got %q", a.body)
	}
}

// TestRangesAgainstANaiveTwin compares the arithmetic of ranges with the definition of RFC 9110, byte by byte.
func TestRangesAgainstANaiveTwin(t *testing.T) {
	for size := int64(0); size <= 6; size++ {
		for first := int64(-1); first <= 8; first++ {
			for last := int64(-1); last <= 8; last++ {
				header := "bytes="
				var inside func(int64) bool
				switch {
				case first < 0 && last < 0:
					continue
				case first < 0:
					header += fmt.Sprintf("-%d", last)
					inside = func(i int64) bool { return i >= size-last }
				case last < 0:
					header += fmt.Sprintf("%d-", first)
					inside = func(i int64) bool { return i >= first }
				case last < first:
					continue
				default:
					header += fmt.Sprintf("%d-%d", first, last)
					inside = func(i int64) bool { return first <= i && i <= last }
				}
				from, to := int64(math.MaxInt64), int64(-1)
				for i := range size {
					if inside(i) {
						from, to = min(from, i), max(to, i)
					}
				}
				r, understood := parseRange(header)
				gotFrom, gotTo, ok := r.in(size)
				if !understood || ok != (to >= 0) || (ok && (gotFrom != from || gotTo != to)) {
					t.Errorf("%s of %d bytes: got %d-%d %v, want %d-%d", header, size, gotFrom, gotTo, ok, from, to)
				}
			}
		}
	}
}

func TestTTL(t *testing.T) {
	c := newTenant(t)
	ttlOf := func(t *testing.T, key string) string {
		t.Helper()
		return c.do(t, "GET", kv+key, nil).want(t, 200).header.Get("X-Larder-Ttl-Ms")
	}
	t.Run("every way to write it", func(t *testing.T) {
		for text, ms := range map[string]string{
			"1500ms": "1500", "90s": "90000", "15m": "900000", "24h": "86400000", "7d": "604800000", "2w": "1209600000",
			"60": "60000", "1.5s": "1500", "0.001": "1", "36500d": "3153600000000",
		} {
			c.do(t, "PUT", kv+"ways?ttl="+text, "v")
			if got := ttlOf(t, "ways"); got != ms {
				t.Errorf("ttl=%s: got %s ms, want %s", text, got, ms)
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		for text, code := range map[string]string{
			"": "invalid_argument", "0": "out_of_range", "0.0001": "out_of_range", "-1s": "invalid_argument", "s": "invalid_argument", "1y": "invalid_argument",
			"1e3": "invalid_argument", "0x10": "invalid_argument", "inf": "invalid_argument", "NaN": "invalid_argument", "1s2": "invalid_argument", "%201s": "invalid_argument",
			"36501d": "out_of_range", "9999999999999999999999": "out_of_range", "1.2.3": "invalid_argument", "1_000": "invalid_argument",
		} {
			c.do(t, "PUT", kv+"never?ttl="+text, "v").problem(t, 400, code, "ttl")
			c.do(t, "PUT", kv+"never/ttl?ttl="+text, nil).problem(t, 400, code, "ttl")
		}
		c.do(t, "PUT", kv+"never?ttl=1s&ttl=2s", "v").problem(t, 400, "invalid_argument", "ttl")
		c.do(t, "GET", kv+"never", nil).want(t, 404)
	})
	t.Run("a value ends on the millisecond", func(t *testing.T) {
		c.do(t, "PUT", kv+"ends?ttl=30s", "v").want(t, 201)
		c.clock.advance(29_999 * time.Millisecond)
		if got := ttlOf(t, "ends"); got != "1" {
			t.Errorf("got %s ms left, want 1", got)
		}
		c.clock.advance(time.Millisecond)
		c.do(t, "GET", kv+"ends", nil).want(t, 404)
		c.do(t, "GET", kv+"ends/ttl", nil).problem(t, 404, "not_found", "")
	})
	t.Run("a put without a TTL lets it live for ever", func(t *testing.T) {
		c.do(t, "PUT", kv+"anew?ttl=30s", "v").want(t, 201)
		c.do(t, "PUT", kv+"anew", "v").want(t, 204)
		if got := ttlOf(t, "anew"); got != "" {
			t.Errorf("got %s ms left, want none", got)
		}
	})
	t.Run("the cache's default", func(t *testing.T) {
		cache := c.newCache(t, tenants.Cache{DefaultTTLMs: 5000})
		c.do(t, "PUT", "/v1/caches/"+cache+"/kv/k", "v").want(t, 201)
		c.do(t, "GET", "/v1/caches/"+cache+"/kv/k/ttl", nil).want(t, 200).json(t, `{"ttl_ms":5000,"ttl":"5s"}`)
	})
	t.Run("read, set and persist", func(t *testing.T) {
		path := kv + "key/ttl"
		c.do(t, "GET", path, nil).problem(t, 404, "not_found", "")
		c.do(t, "PUT", path, `{"ttl":"30s"}`).problem(t, 404, "not_found", "")
		c.do(t, "DELETE", path, nil).problem(t, 404, "not_found", "")
		c.do(t, "PUT", kv+"key", "v").want(t, 201)
		c.do(t, "GET", path, nil).want(t, 200).json(t, `{"ttl_ms":null,"ttl":null}`)
		c.do(t, "DELETE", path, nil).want(t, 204)
		c.do(t, "PUT", path, `{"ttl":"30s"}`).want(t, 200).json(t, `{"ttl_ms":30000,"ttl":"30s"}`)
		c.do(t, "PUT", path, `{"ttl":90}`).want(t, 200).json(t, `{"ttl_ms":90000,"ttl":"90s"}`)
		c.do(t, "PUT", path+"?ttl=1500ms", nil).want(t, 200).json(t, `{"ttl_ms":1500,"ttl":"1500ms"}`)
		c.clock.advance(500 * time.Millisecond)
		c.do(t, "GET", path, nil).want(t, 200).json(t, `{"ttl_ms":1000,"ttl":"1s"}`)
		c.do(t, "DELETE", path, nil).want(t, 204)
		c.do(t, "GET", path, nil).want(t, 200).json(t, `{"ttl_ms":null,"ttl":null}`)
	})
	t.Run("conditions", func(t *testing.T) {
		tests := []struct {
			has, want, condition string
			status               int
		}{
			{"", "10s", "nx", 200}, {"10s", "20s", "nx", 412},
			{"", "10s", "xx", 412}, {"10s", "5s", "xx", 200},
			{"", "10s", "gt", 412}, {"10s", "20s", "gt", 200}, {"10s", "10s", "gt", 412}, {"10s", "5s", "gt", 412},
			{"", "10s", "lt", 200}, {"10s", "5s", "lt", 200}, {"10s", "10s", "lt", 412}, {"10s", "20s", "lt", 412},
		}
		for i, tt := range tests {
			key := kv + "cond" + strconv.Itoa(i)
			put := key
			if tt.has != "" {
				put += "?ttl=" + tt.has
			}
			c.do(t, "PUT", put, "v").want(t, 201)
			a := c.do(t, "PUT", key+"/ttl?if="+tt.condition+"&ttl="+tt.want, nil).want(t, tt.status)
			left := tt.has
			if tt.status == 412 {
				a.problem(t, 412, "precondition_failed", "if").detail(t, tt.condition)
			} else {
				left = tt.want
			}
			want := any(nil)
			if left != "" {
				want = left
			}
			if got := c.do(t, "GET", key+"/ttl", nil).object(t)["ttl"]; got != want {
				t.Errorf("%q if %s, then %q: got %v, want %v", tt.has, tt.condition, tt.want, got, want)
			}
			c.do(t, "PUT", kv+"absent/ttl", `{"ttl":"1s","if":"`+tt.condition+`"}`).problem(t, 404, "not_found", "")
		}
	})
	t.Run("bad requests", func(t *testing.T) {
		c.do(t, "PUT", kv+"key", "v").want(t, 204)
		path := kv + "key/ttl"
		for _, tt := range []struct{ query, body, argument string }{
			{"", "", "ttl"}, {"", "{}", "ttl"}, {"?ttl=1s", `{"ttl":"1s"}`, "ttl"}, {"?if=nx", `{"ttl":"1s","if":"nx"}`, "if"},
			{"?ttl=1s&if=never", "", "if"}, {"?ttl=1s&if=", "", "if"}, {"?ttl=1s&IF=nx", "", "IF"}, {"", `{"TTL":"1s"}`, "TTL"},
			{"", `{"ttl":"1s","if":"NX"}`, "if"}, {"", `{"ttl":null}`, "ttl"}, {"", `{"ttl":true}`, "ttl"}, {"", `{"ttl":["1s"]}`, "ttl"}, {"", `{"ttl":"1s"`, "body"}, {"", `"1s"`, "body"},
		} {
			var body any
			if tt.body != "" {
				body = tt.body
			}
			c.do(t, "PUT", path+tt.query, body).problem(t, 400, "invalid_argument", tt.argument)
		}
		c.do(t, "GET", path+"?x=1", nil).problem(t, 400, "invalid_argument", "x")
		c.do(t, "GET", path, nil).want(t, 200).json(t, `{"ttl_ms":null,"ttl":null}`)
	})
	t.Run("a session keeps its own deadlines", func(t *testing.T) {
		c.do(t, "POST", "/v1/caches/main/commands", `[["SESSION.CREATE","s","{}","IDLE",5000]]`).want(t, 200)
		c.do(t, "PUT", kv+"s/ttl?ttl=1s", nil).problem(t, 409, "wrong_type", "")
		c.do(t, "DELETE", kv+"s/ttl", nil).problem(t, 409, "wrong_type", "")
		c.do(t, "GET", kv+"s/ttl", nil).want(t, 200).json(t, `{"ttl_ms":5000,"ttl":"5s"}`)
		c.do(t, "GET", kv+"s", nil).problem(t, 409, "wrong_type", "")
	})
	t.Run("who may set but not read", func(t *testing.T) {
		w := c.allowing(t, "cache:Expire", "cache:Persist")
		c.do(t, "PUT", kv+"blind", "v").want(t, 201)
		w.do(t, "PUT", kv+"blind/ttl?ttl=1h&if=nx", nil).want(t, 200)
		w.do(t, "PUT", kv+"blind/ttl?ttl=1h&if=nx", nil).problem(t, 412, "precondition_failed", "if")
		w.do(t, "PUT", kv+"nothing/ttl?ttl=1h&if=nx", nil).problem(t, 412, "precondition_failed", "if")
		w.do(t, "GET", kv+"blind/ttl", nil).problem(t, 403, "denied", "")
		w.do(t, "DELETE", kv+"blind/ttl", nil).want(t, 204)
	})
}

func TestAppend(t *testing.T) {
	c := newTenant(t)
	first := c.do(t, "POST", kv+"log/append", "one\n").want(t, 201)
	if o := first.object(t); o["size"] != 4.0 || o["created"] != true || o["etag"] != first.header.Get("Etag") {
		t.Errorf("got %s with tag %s", first.body, first.header.Get("Etag"))
	}
	second := c.do(t, "POST", kv+"log/append", "\x00\xff").want(t, 200)
	if o := second.object(t); o["size"] != 6.0 || o["created"] != false || second.header.Get("Etag") == first.header.Get("Etag") {
		t.Errorf("got %s with tag %s", second.body, second.header.Get("Etag"))
	}
	if got := c.do(t, "GET", kv+"log", nil).want(t, 200); string(got.body) != "one\n\x00\xff" || got.header.Get("Etag") != second.header.Get("Etag") {
		t.Errorf("got %q with tag %s", got.body, got.header.Get("Etag"))
	}
	c.do(t, "PUT", kv+"typed?ttl=1h", "a", "Content-Type", "text/csv").want(t, 201)
	c.do(t, "POST", kv+"typed/append", "b", "Content-Type", "image/png").want(t, 200)
	if got := c.do(t, "GET", kv+"typed", nil); got.header.Get("Content-Type") != "text/csv" || got.header.Get("X-Larder-Ttl-Ms") != "3600000" {
		t.Errorf("an append changed the type to %q or the TTL to %q", got.header.Get("Content-Type"), got.header.Get("X-Larder-Ttl-Ms"))
	}
	small := c.newCache(t, tenants.Cache{MaxValue: 10})
	c.do(t, "POST", "/v1/caches/"+small+"/kv/k/append", "12345678").want(t, 201)
	c.do(t, "POST", "/v1/caches/"+small+"/kv/k/append", "12").want(t, 200)
	c.do(t, "POST", "/v1/caches/"+small+"/kv/k/append", "1").problem(t, 413, "too_large", "value").detail(t, "10")
}

// TestKeysAreAnyBytes puts under keys that paths, proxies and file systems trip over, and sees that the key
// that is stored is the one that was meant, by asking for it in JSON.
func TestKeysAreAnyBytes(t *testing.T) {
	c := newTenant(t)
	tests := []struct{ segment, key string }{
		{"plain", "plain"},
		{"ttl", "ttl"},
		{"append", "append"},
		{"a%2Fttl", "a/ttl"},
		{"%2F", "/"},
		{"%2f%2F", "//"},
		{"a%2Fb%2Fc", "a/b/c"},
		{"%00", "\x00"},
		{"%25", "%"},
		{"%252F", "%2F"},
		{"%2525", "%25"},
		{"..", ".."},
		{".", "."},
		{"%2e%2e", ".."},
		{"%2E%2E%2F", "../"},
		{"a;b", "a;b"},
		{"a%3Bb", "a;b"},
		{"a%3Fb", "a?b"},
		{"a%23b", "a#b"},
		{"a+b", "a+b"},
		{"a%20b", "a b"},
		{"a%2Bb", "a+b"},
		{"%FF%FE", "\xff\xfe"},
		{"%C0%AF", "\xc0\xaf"}, // an overlong slash stays what it is
		{"%ED%A0%80", "\xed\xa0\x80"},
		{"%E2%82%AC", "€"},
		{"CaSe", "CaSe"},
		{":key", ":key"},
		{"*", "*"},
		{"user:42@x!$&'()*,=~-_", "user:42@x!$&'()*,=~-_"},
		{"%7B%22base64%22%7D", `{"base64"}`},
		{"%0D%0A", "\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.segment, func(t *testing.T) {
			cache := "/v1/caches/" + c.newCache(t, tenants.Cache{})
			raw := cache + "/kv/" + tt.segment
			if a := c.raw(t, "PUT", raw, tt.segment); a.status != 201 {
				t.Fatalf("got %d: %s", a.status, a.body)
			}
			var page KeyPage
			if err := decodeJSON(c.do(t, "GET", cache+"/kv", nil).want(t, 200).body, &page); err != nil {
				t.Fatal(err)
			}
			if len(page.Keys) != 1 || string(page.Keys[0].Key) != tt.key {
				t.Fatalf("stored under %v, want %q", page.Keys, tt.key)
			}
			if a := c.do(t, "GET", cache+"/kv/"+escaped(tt.key), nil).want(t, 200); string(a.body) != tt.segment {
				t.Errorf("got %q", a.body)
			}
			c.do(t, "GET", cache+"/kv/"+escaped(tt.key)+"/ttl", nil).want(t, 200)
			c.do(t, "DELETE", cache+"/kv/"+escaped(tt.key), nil).want(t, 204)
		})
	}
	for _, path := range []string{"/v1/caches/main/kv/a/b", "/v1/caches/main/kv//x", "/v1/caches/main/kv/a//ttl", "/v1/caches//kv/a", "//v1/caches/main/kv/a"} {
		if a := c.raw(t, "PUT", path, "v"); a.status < 400 || a.status > 499 {
			t.Errorf("%s: got %d", path, a.status)
		}
	}
	c.do(t, "GET", "/v1/caches/m%61in/kv/absent", nil).problem(t, 404, "not_found", "")
	c.do(t, "PUT", "/v1/caches/m%61in/kv/there", "v").want(t, 201)
	c.do(t, "GET", "/v1/caches/nowhere/kv/there", nil).problem(t, 404, "not_found", "cache")
}

// raw makes a request whose path goes over the wire exactly as it is.
func (c caller) raw(t testing.TB, method, path, body string) answer {
	t.Helper()
	u, err := url.Parse(c.url)
	if err != nil {
		t.Fatal(err)
	}
	u.Opaque = path
	if strings.HasPrefix(path, "//") {
		u.Opaque = c.url + path
	}
	r := &http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{"Authorization": {"Bearer " + c.credential}},
		Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	a := answer{status: response.StatusCode, header: response.Header, request: method + " " + path}
	if a.body, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	a.check(t)
	return a
}

func TestBoundsOfKeys(t *testing.T) {
	c := newTenant(t)
	longest := strings.Repeat("k", engine.MaxKey)
	tooLong := fmt.Sprint(engine.MaxKey + 1)
	for name, write := range map[string]func(string) string{"as it is": url.PathEscape, "each byte escaped": escaped} {
		t.Run(name, func(t *testing.T) {
			c.do(t, "PUT", kv+write(longest), name)
			if a := c.do(t, "GET", kv+write(longest), nil).want(t, 200); string(a.body) != name {
				t.Errorf("got %q", a.body)
			}
			c.do(t, "PUT", kv+write(longest+"k"), "v").problem(t, 413, "too_large", "key").detail(t, fmt.Sprint(engine.MaxKey), tooLong)
			c.do(t, "GET", kv+write(longest+"k"), nil).problem(t, 413, "too_large", "key").detail(t, fmt.Sprint(engine.MaxKey), tooLong)
			c.do(t, "DELETE", kv+write(longest+"k")+"/ttl", nil).problem(t, 413, "too_large", "key")
		})
	}
}

func TestBadRequestsOnValues(t *testing.T) {
	c := newTenant(t)
	tests := []struct {
		name, method, path string
		headers            []string
		status             int
		code, argument     string
	}{
		{"an unknown parameter", "PUT", "k?tl=1s", nil, 400, "invalid_argument", "tl"},
		{"a parameter of another route", "GET", "k?ttl=1s", nil, 400, "invalid_argument", "ttl"},
		{"a parameter on HEAD's twin", "DELETE", "k?prefix=a", nil, 400, "invalid_argument", "prefix"},
		{"a semicolon in the query", "PUT", "k?ttl=1s;x=2", nil, 400, "invalid_argument", "query"},
		{"a broken escape in the query", "PUT", "k?ttl=%zz", nil, 400, "invalid_argument", "query"},
		{"a content type that is too long", "PUT", "k", []string{"Content-Type", strings.Repeat("a", engine.MaxContentType+1)}, 413, "too_large", "Content-Type"},
		{"a content type that is not ASCII", "PUT", "k", []string{"Content-Type", "text/\xe4"}, 400, "invalid_argument", "Content-Type"},
		{"a compressed body", "PUT", "k", []string{"Content-Encoding", "gzip"}, 415, "unsupported_media_type", "Content-Encoding"},
		{"an idempotency key that is too long", "PUT", "k", []string{"Idempotency-Key", strings.Repeat("a", 256)}, 400, "invalid_argument", "Idempotency-Key"},
		{"two idempotency keys", "PUT", "k", []string{"Idempotency-Key", "a", "Idempotency-Key", "b"}, 400, "invalid_argument", "Idempotency-Key"},
		{"a method that is none", "PATCH", "k", nil, 405, "method_not_allowed", ""},
		{"a method on a part", "PATCH", "k/ttl", nil, 405, "method_not_allowed", ""},
		{"no such part", "GET", "k/version", nil, 404, "not_found", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c.do(t, tt.method, kv+tt.path, "v", tt.headers...).problem(t, tt.status, tt.code, tt.argument)
			c.do(t, "GET", kv+"k", nil).want(t, 404)
		})
	}
}

// TestBoundsOfValues sends bodies at the limit and beyond it, in every way that a length can be told.
func TestBoundsOfValues(t *testing.T) {
	c := newTenant(t)
	cache := c.newCache(t, tenants.Cache{MaxValue: 100_000})
	path := "/v1/caches/" + cache + "/kv/k"
	fits, over := bytes.Repeat([]byte("x"), 100_000), bytes.Repeat([]byte("x"), 100_001)
	chunked := func(b []byte) answer { // a reader of unknown length
		r, err := http.NewRequestWithContext(t.Context(), "PUT", c.url+path, io.MultiReader(bytes.NewReader(b)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+c.credential)
		response, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		a := answer{status: response.StatusCode, header: response.Header, request: "PUT " + path}
		a.body, _ = io.ReadAll(response.Body)
		return a
	}
	c.do(t, "PUT", path, over).problem(t, 413, "too_large", "body").detail(t, "100000")
	chunked(over).problem(t, 413, "too_large", "body").detail(t, "100000")
	c.do(t, "GET", path, nil).want(t, 404)
	c.do(t, "PUT", path, fits).want(t, 201)
	chunked(fits).want(t, 204)

	head := "PUT " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + c.credential + "\r\n"
	t.Run("refused before the body", func(t *testing.T) {
		status, _ := c.wire(t, head+"Content-Length: 100001\r\nExpect: 100-continue\r\n\r\n", false)
		if status != 413 {
			t.Errorf("got %d, want 413 and no 100", status)
		}
	})
	t.Run("asked for the body when it may come", func(t *testing.T) {
		status, _ := c.wire(t, head+"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", false)
		if status != 100 {
			t.Errorf("got %d, want 100", status)
		}
	})
	t.Run("conditions are read before the body", func(t *testing.T) {
		status, _ := c.wire(t, head+"Content-Length: 3\r\nExpect: 100-continue\r\nIf-None-Match: \"x\"\r\n\r\n", false)
		if status != 400 {
			t.Errorf("got %d, want 400", status)
		}
	})
	t.Run("a stranger is refused before the body", func(t *testing.T) {
		status, _ := c.wire(t, "PUT "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n", false)
		if status != 401 {
			t.Errorf("got %d, want 401", status)
		}
	})
	t.Run("announced and not sent", func(t *testing.T) {
		status, body := c.wire(t, head+"Content-Length: 50000\r\n\r\nfew", true)
		if status != 400 || !strings.Contains(body, "broke off") {
			t.Errorf("got %d: %s", status, body)
		}
		if got := c.do(t, "GET", path, nil).want(t, 200); len(got.body) != 100_000 {
			t.Errorf("a part of a body was stored: %d bytes", len(got.body))
		}
	})
	t.Run("a broken chunk", func(t *testing.T) {
		status, body := c.wire(t, head+"Transfer-Encoding: chunked\r\n\r\nzz\r\n", true)
		if status != 400 || !strings.Contains(body, "broke off") {
			t.Errorf("got %d: %s", status, body)
		}
	})
	t.Run("two lengths", func(t *testing.T) {
		if status, _ := c.wire(t, head+"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", true); status != 400 {
			t.Errorf("got %d, want 400", status)
		}
	})
}

// wire sends text as it is and returns the status of the first answer, with its body if it is final. half
// closes the connection's sending side after the text.
func (c caller) wire(t testing.TB, text string, half bool) (status int, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(c.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	if half {
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode >= 200 {
		content, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		body = string(content)
	}
	return response.StatusCode, body
}

func TestListKeys(t *testing.T) {
	c := newTenant(t)
	all := "/v1/caches/main/kv"
	c.do(t, "GET", all, nil).want(t, 200).json(t, `{"keys":[],"next_cursor":""}`)
	c.do(t, "POST", "/v1/caches/main/commands", `[["SET","s","hello","PX",5000],["HSET","h","a",1,"b",2],["ZADD","z",1,"a",2,"b",3,"c"],["SESSION.CREATE","x","{\"a\":1}","TTL",9000],["SET",{"base64":"/w=="},""]]`).want(t, 200)
	for kind, want := range map[string]string{
		"string":  `{"keys":[{"key":"s","type":"string","ttl_ms":5000,"size":5}],"next_cursor":""}`,
		"hash":    `{"keys":[{"key":"h","type":"hash","ttl_ms":null,"size":2}],"next_cursor":""}`,
		"zset":    `{"keys":[{"key":"z","type":"zset","ttl_ms":null,"size":3}],"next_cursor":""}`,
		"session": `{"keys":[{"key":"x","type":"session","ttl_ms":9000,"size":7}],"next_cursor":""}`,
	} {
		match := ""
		if kind == "string" {
			match = "&match=[a-z]"
		}
		c.do(t, "GET", all+"?type="+kind+match, nil).want(t, 200).json(t, want)
	}
	c.do(t, "GET", all+"?prefix=%FF", nil).want(t, 200).json(t, `{"keys":[{"key":{"base64":"/w=="},"type":"string","ttl_ms":null,"size":0}],"next_cursor":""}`)
	c.do(t, "GET", all+"?prefix=none", nil).want(t, 200).json(t, `{"keys":[],"next_cursor":""}`)

	for _, tt := range []struct{ query, code, argument string }{
		{"limit=0", "out_of_range", "limit"}, {"limit=1001", "out_of_range", "limit"}, {"limit=x", "invalid_argument", "limit"}, {"limit=", "invalid_argument", "limit"}, {"limit=-1", "out_of_range", "limit"},
		{"type=json", "invalid_argument", "type"}, {"cursor=0", "invalid_argument", "cursor"}, {"cursor=!", "invalid_argument", "cursor"}, {"cursor=ABC", "invalid_argument", "cursor"},
		{"cursor=zzzzzzzzzzzzzzzzzzzz", "invalid_argument", "cursor"}, {"count=5", "invalid_argument", "count"}, {"prefix=a&prefix=b", "invalid_argument", "prefix"},
	} {
		c.do(t, "GET", all+"?"+tt.query, nil).problem(t, 400, tt.code, tt.argument)
	}
	c.do(t, "GET", all+"?type=json", nil).detail(t, "one of string, hash, list, set, zset, stream, session, MBbloom--, ")
}

// TestListKeysAndDeleteThem walks a keyspace page by page while it changes, and removes a part of it.
func TestListKeysAndDeleteThem(t *testing.T) {
	c := newTenant(t)
	all := "/v1/caches/main/kv"
	const n = 2500
	var ops []any
	for i := range n {
		ops = append(ops, []any{"SET", fmt.Sprintf("old:%d", i), i}, []any{"SET", fmt.Sprintf("keep:%d", i), i})
	}
	c.do(t, "POST", "/v1/caches/main/commands", ops).want(t, 200)
	seen, pages := map[string]int{}, 0
	for cursor := ""; ; pages++ {
		var page KeyPage
		if err := decodeJSON(c.do(t, "GET", all+"?prefix=keep:&limit=100&cursor="+cursor, nil).want(t, 200).body, &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Keys) > 101 {
			t.Fatalf("a page of %d", len(page.Keys))
		}
		for _, k := range page.Keys {
			seen[string(k.Key)]++
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
		c.do(t, "PUT", fmt.Sprintf("%s/new:%d", all, pages), "v").want(t, 201)
		c.do(t, "DELETE", fmt.Sprintf("%s/new:%d", all, pages/2), nil)
	}
	if len(seen) != n || pages < n/101 {
		t.Errorf("%d pages with %d keys, want %d", pages, len(seen), n)
	}

	for _, query := range []string{"", "?prefix="} {
		c.do(t, "DELETE", all+query, nil).problem(t, 400, "invalid_argument", "prefix")
	}
	c.do(t, "DELETE", all+"?prefix="+strings.Repeat("a", engine.MaxKey+1), nil).problem(t, 413, "too_large", "prefix")
	c.do(t, "DELETE", all+"?prefix=old:&cursor=-", nil).problem(t, 400, "invalid_argument", "cursor")
	c.do(t, "DELETE", all+"?prefix=old:&limit=5", nil).problem(t, 400, "invalid_argument", "limit")

	// The answer is remembered step by step.
	for range 2 {
		c.do(t, "DELETE", all+"?prefix=old:", nil, "Idempotency-Key", "sweep").want(t, 200).json(t, `{"deleted":2500}`)
	}
	c.do(t, "DELETE", all+"?prefix=old:", nil).want(t, 200).json(t, `{"deleted":0}`)
	c.do(t, "GET", all+"/keep:7", nil).want(t, 200)
	c.do(t, "GET", all+"/old:7", nil).want(t, 404)
}

// TestManyAtOnceOverBothProtocols has many clients read and write values of their own over HTTP/1.1 and over
// one HTTP/2 connection without TLS. Exchanges and their buffers are used again, so a value, a header or a key
// that strays into another answer shows here, and under the race detector.
func TestManyAtOnceOverBothProtocols(t *testing.T) {
	c := newTenant(t)
	for name, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2.0": func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		t.Run(name, func(t *testing.T) {
			transport := &http.Transport{Protocols: &http.Protocols{}, MaxIdleConnsPerHost: 16}
			set(transport.Protocols)
			defer transport.CloseIdleConnections()
			ask := func(method, key string, body []byte, headers ...string) (*http.Response, []byte, error) {
				r, err := http.NewRequestWithContext(t.Context(), method, c.url+kv+key, bytes.NewReader(body))
				if err != nil {
					return nil, nil, err
				}
				r.Header.Set("Authorization", "Bearer "+c.credential)
				for i := 0; i < len(headers); i += 2 {
					r.Header.Set(headers[i], headers[i+1])
				}
				response, err := transport.RoundTrip(r)
				if err != nil {
					return nil, nil, err
				}
				defer response.Body.Close()
				content, err := io.ReadAll(response.Body)
				return response, content, err
			}
			var wg sync.WaitGroup
			for client := range 16 {
				wg.Go(func() {
					key := fmt.Sprintf("%s%%2F%d", name[:4], client)
					for round := range 20 {
						value := bytes.Repeat([]byte{byte('a' + client)}, 1+client*1000+round)
						media := fmt.Sprintf("x/%d-%d", client, round)
						put, _, err := ask("PUT", key, value, "Content-Type", media)
						if err != nil || put.Proto != name || put.StatusCode/100 != 2 {
							t.Errorf("PUT: %v %v", put, err)
							return
						}
						etag := put.Header.Get("Etag")
						get, got, err := ask("GET", key, nil)
						if err != nil || get.StatusCode != 200 || !bytes.Equal(got, value) || get.Header.Get("Etag") != etag || get.Header.Get("Content-Type") != media || get.ContentLength != int64(len(value)) {
							t.Errorf("GET: %v %v", get, err)
							return
						}
						head, got, err := ask("HEAD", key, nil)
						if err != nil || head.StatusCode != 200 || len(got) > 0 || head.ContentLength != int64(len(value)) || head.Header.Get("Etag") != etag {
							t.Errorf("HEAD: %v %v", head, err)
							return
						}
						if part, got, err := ask("GET", key, nil, "Range", "bytes=-1"); err != nil || part.StatusCode != 206 || !bytes.Equal(got, value[:1]) {
							t.Errorf("GET of a part: %v %v", part, err)
							return
						}
						if same, got, err := ask("GET", key, nil, "If-None-Match", etag); err != nil || same.StatusCode != 304 || len(got) > 0 || same.Header.Get("Etag") != etag {
							t.Errorf("GET if changed: %v %v", same, err)
							return
						}
						if none, got, err := ask("GET", key+"x", nil); err != nil || none.StatusCode != 404 || !bytes.Contains(got, []byte(none.Header.Get("X-Request-Id"))) {
							t.Errorf("GET of nothing: %v %s %v", none, got, err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
}

// Memcached's flags stay with a value, and come back with it.
func TestFlags(t *testing.T) {
	c := newTenant(t)
	c.do(t, "PUT", "/v1/caches/main/kv/k?flags=4294967295", "v").want(t, 201)
	for _, method := range []string{"GET", "HEAD"} {
		if got := c.do(t, method, "/v1/caches/main/kv/k", nil).want(t, 200).header.Get("X-Larder-Flags"); got != "4294967295" {
			t.Errorf("%s: flags are %q", method, got)
		}
	}
	batch := c.do(t, "POST", "/v1/caches/main/batch", `{"operations":[{"op":"kv.put","key":"b","value":"x","flags":7},{"op":"kv.get","key":"b"}]}`).want(t, 200)
	if !strings.Contains(string(batch.body), `"flags":7`) {
		t.Errorf("a batch answers %s", batch.body)
	}
	c.do(t, "POST", "/v1/caches/main/kv/k/append", "w").want(t, 200)
	if got := c.do(t, "GET", "/v1/caches/main/kv/k", nil).header.Get("X-Larder-Flags"); got != "4294967295" {
		t.Errorf("after an append flags are %q", got)
	}
	c.do(t, "PUT", "/v1/caches/main/kv/k", "v").want(t, 204)
	if got, has := c.do(t, "GET", "/v1/caches/main/kv/k", nil).header["X-Larder-Flags"]; has {
		t.Errorf("after a put without flags they are %q", got)
	}
	for _, bad := range []string{"-1", "4294967296", "x"} {
		c.do(t, "PUT", "/v1/caches/main/kv/k?flags="+bad, "v").want(t, 400)
	}
	c.do(t, "POST", "/v1/caches/main/batch", `{"operations":[{"op":"kv.put","key":"b","value":"x","flags":-1}]}`).want(t, 400)
}
