package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/tenants"
)

func TestCounters(t *testing.T) {
	c := newTenant(t)
	path := "/v1/caches/main/counters/n"
	// Each step begins where the one before ended.
	steps := []struct {
		name, method, path, body string
		status                   int
		want                     string // the value after it as JSON, or the problem's code and argument
	}{
		{"nothing yet", "GET", "", "", 404, "not_found"},
		{"nothing to reset", "POST", "/reset", "", 404, "not_found"},
		{"nothing to delete", "DELETE", "", "", 404, "not_found"},
		{"one by default", "POST", "", "", 200, `1`},
		{"more", "POST", "", `{"by":41}`, 200, `42`},
		{"less", "POST", "", `{"by":-50}`, 200, `-8`},
		{"nothing", "POST", "", `{"by":0}`, 200, `-8`},
		{"up to the maximum", "POST", "", `{"by":18,"max":10}`, 200, `10`},
		{"past the maximum", "POST", "", `{"by":1,"max":10}`, 409, "overflow by"},
		{"past the maximum, saturated", "POST", "", `{"by":100,"max":12,"overflow":"saturate"}`, 200, `12`},
		{"past the minimum", "POST", "", `{"by":-13,"min":0,"overflow":"reject"}`, 409, "overflow by"},
		{"past the minimum, saturated", "POST", "", `{"by":-13,"min":0,"overflow":"saturate"}`, 200, `0`},
		{"bounds in the wrong order", "POST", "", `{"min":5,"max":4}`, 400, "invalid_argument min"},
		{"set", "PUT", "", `{"value":9007199254740992}`, 200, `9007199254740992`},
		{"beyond what JavaScript counts", "POST", "", `{}`, 200, `"9007199254740993"`},
		{"to the end of 64 bits", "PUT", "", `{"value":"9223372036854775807"}`, 200, `"9223372036854775807"`},
		{"past the end", "POST", "", `{}`, 409, "overflow by"},
		{"past the end, saturated", "POST", "", `{"by":5,"overflow":"saturate"}`, 200, `"9223372036854775807"`},
		{"to the other end", "PUT", "", `{"value":"-9223372036854775808"}`, 200, `"-9223372036854775808"`},
		{"past the other end", "POST", "", `{"by":-1}`, 409, "overflow by"},
		{"a fraction", "PUT", "", `{"value":0.1}`, 200, `0.1`},
		{"and another, as decimals add", "POST", "", `{"by":0.2}`, 200, `0.3`},
		{"get and reset", "POST", "/reset", "", 200, `0.3`},
		{"which left", "GET", "", "", 200, `0`},
		{"no value", "PUT", "", `{}`, 400, "invalid_argument value"},
		{"a null", "PUT", "", `{"value":null}`, 400, "invalid_argument value"},
		{"a word", "PUT", "", `{"value":"x"}`, 400, "invalid_argument value"},
		{"a list", "PUT", "", `{"value":[1]}`, 400, "invalid_argument value"},
		{"an addend for a value", "PUT", "", `{"by":1}`, 400, "invalid_argument by"},
		{"a TTL that is none", "POST", "", `{"ttl":"soon"}`, 400, "invalid_argument ttl"},
		{"a TTL of nothing", "POST", "", `{"ttl":"0s"}`, 400, "out_of_range ttl"},
		{"an overflow that is none", "POST", "", `{"overflow":"WRAP"}`, 400, "invalid_argument overflow"},
		{"a bound that is none", "POST", "", `{"min":"low"}`, 400, "invalid_argument min"},
		{"a parameter", "GET", "?x=1", "", 400, "invalid_argument x"},
		{"a parameter of a reset", "POST", "/reset?x=1", "", 400, "invalid_argument x"},
		{"still", "GET", "", "", 200, `0`},
		{"delete", "DELETE", "", "", 204, ""},
		{"gone", "GET", "", "", 404, "not_found"},
	}
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			var body any
			if s.body != "" {
				body = s.body
			}
			a := c.do(t, s.method, path+s.path, body).want(t, s.status)
			switch {
			case s.status >= 400:
				code, argument, _ := strings.Cut(s.want, " ")
				a.problem(t, s.status, code, argument)
			case s.status == 200:
				a.json(t, `{"name":"n","value":`+s.want+`,"ttl_ms":null}`)
			}
		})
	}
	c.do(t, "PUT", path, `{"value":7}`).want(t, 200)
	c.do(t, "POST", path, `{"by":5,"max":10}`).problem(t, 409, "overflow", "by").detail(t, "7", "5", "10")

	// A counter is the string that Redis would keep.
	c.do(t, "PUT", kv+"text", "many").want(t, 201)
	c.do(t, "POST", "/v1/caches/main/counters/text", "{}").problem(t, 409, "wrong_type", "")
	c.do(t, "PUT", kv+"digits", "41").want(t, 201)
	c.do(t, "POST", "/v1/caches/main/counters/digits", "{}").want(t, 200).json(t, `{"name":"digits","value":42,"ttl_ms":null}`)
	if got := c.do(t, "GET", kv+"digits", nil).want(t, 200); string(got.body) != "42" {
		t.Errorf("got %q", got.body)
	}
	c.do(t, "POST", "/v1/caches/main/counters/%FF%2F", `{}`).want(t, 200).json(t, `{"name":{"base64":"/y8="},"value":1,"ttl_ms":null}`)
	c.do(t, "POST", "/v1/caches/main/counters/"+strings.Repeat("n", engine.MaxKey+1), `{}`).problem(t, 413, "too_large", "name")
}

func TestWindowsOfCounters(t *testing.T) {
	c := newTenant(t)
	path := "/v1/caches/main/counters/window"
	add := `{"ttl":"1m","max":3}`
	for i := range 3 {
		c.do(t, "POST", path, add).want(t, 200).json(t, fmt.Sprintf(`{"name":"window","value":%d,"ttl_ms":%d}`, i+1, 60_000-10_000*i))
		c.clock.advance(10 * time.Second)
	}
	c.do(t, "POST", path, add).problem(t, 409, "overflow", "by")
	c.do(t, "POST", path+"/reset", nil).want(t, 200).json(t, `{"name":"window","value":3,"ttl_ms":30000}`)
	c.do(t, "PUT", path, `{"value":2}`).want(t, 200).json(t, `{"name":"window","value":2,"ttl_ms":30000}`)
	c.clock.advance(30*time.Second - time.Millisecond)
	c.do(t, "POST", path, add).want(t, 200).json(t, `{"name":"window","value":3,"ttl_ms":1}`)
	c.clock.advance(time.Millisecond)
	c.do(t, "GET", path, nil).want(t, 404)
	c.do(t, "POST", path, add).want(t, 200).json(t, `{"name":"window","value":1,"ttl_ms":60000}`)
	c.do(t, "PUT", path, `{"value":5,"ttl":"2h"}`).want(t, 200).json(t, `{"name":"window","value":5,"ttl_ms":7200000}`)

	cache := c.newCache(t, tenants.Cache{DefaultTTLMs: 5000})
	c.do(t, "POST", "/v1/caches/"+cache+"/counters/n", nil).want(t, 200).json(t, `{"name":"n","value":1,"ttl_ms":5000}`)
}

func TestManyCounters(t *testing.T) {
	c := newTenant(t)
	all := "/v1/caches/main/counters"
	c.do(t, "PUT", kv+"text", "many").want(t, 201)
	c.do(t, "POST", all, `{"counters":[{"name":"a"},{"name":"text"},{"name":"a","by":4,"max":4},{"name":{"base64":"/w=="},"by":0.5}]}`).want(t, 200).json(t, `{"results":[
		{"result":{"name":"a","value":1,"ttl_ms":null}},
		{"error":{"code":"wrong_type","message":"the key holds a string that is not a number"}},
		{"error":{"code":"overflow","message":"the counter is 1: adding 4 would pass the maximum of 4","argument":"by"}},
		{"result":{"name":{"base64":"/w=="},"value":0.5,"ttl_ms":null}}]}`)
	c.do(t, "POST", all, `{"counters":[{"name":"text"}]}`).want(t, 200)
	c.do(t, "POST", all, `{"atomic":true,"counters":[{"name":"a"},{"name":"b"},{"name":"text"}]}`).problem(t, 409, "aborted", "").detail(t, "operation 2")
	c.do(t, "GET", all+"/a", nil).json(t, `{"name":"a","value":1,"ttl_ms":null}`)
	c.do(t, "GET", all+"/b", nil).want(t, 404)
	c.do(t, "POST", all, `{"counters":[`+strings.Repeat(`{"name":"a"},`, maxBatch)+`{"name":"a"}]}`).problem(t, 400, "out_of_range", "counters").detail(t, "10000")
	c.do(t, "POST", all, `{"counters":[{"name":"a"},{"name":""}]}`).problem(t, 400, "invalid_argument", "counters[1].name")
	c.do(t, "POST", all, `{"counters":[{"name":"`+strings.Repeat("n", engine.MaxKey+1)+`"}]}`).problem(t, 413, "too_large", "counters[0].name")
	c.do(t, "POST", all, `{"counters":[{"name":"a","ttl":"0"}]}`).problem(t, 400, "out_of_range", "counters[0].ttl")
	c.do(t, "POST", all+"?atomic=true", `{"counters":[{"name":"a"}]}`).problem(t, 400, "invalid_argument", "atomic")
	c.do(t, "GET", all+"/a", nil).json(t, `{"name":"a","value":1,"ttl_ms":null}`)
}

// TestNoAdditionIsLost has clients add to the same counters at once, one by one and in batches, and repeats
// every request under its idempotency key.
func TestNoAdditionIsLost(t *testing.T) {
	c := newTenant(t)
	const clients, rounds = 8, 25
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for round := range rounds {
				for again := range 2 {
					key := fmt.Sprintf("%d-%d", client, round)
					one := c.serve("POST", "/v1/caches/main/counters/sum", []byte(`{"by":3}`), "Idempotency-Key", key)
					many := c.serve("POST", batch, []byte(`{"operations":[{"op":"counters.add","name":"sum","by":-1},{"op":"counters.add","name":"other","by":2}],"atomic":true}`), "Idempotency-Key", key+"b")
					if one.Code != http.StatusOK || many.Code != http.StatusOK || (one.Result().Header.Get("Idempotency-Replayed") == "true") != (again == 1) {
						t.Errorf("got %d and %d: %s", one.Code, many.Code, one.Body)
					}
				}
			}
		})
	}
	wg.Wait()
	c.do(t, "GET", "/v1/caches/main/counters/sum", nil).json(t, fmt.Sprintf(`{"name":"sum","value":%d,"ttl_ms":null}`, clients*rounds*2))
	c.do(t, "GET", "/v1/caches/main/counters/other", nil).json(t, fmt.Sprintf(`{"name":"other","value":%d,"ttl_ms":null}`, clients*rounds*2))
}

// TestValuesAgainstAMap plays random requests on a few keys against a map.
func TestValuesAgainstAMap(t *testing.T) {
	c := newTenant(t)
	rapid.Check(t, func(t *rapid.T) {
		cache := "/v1/caches/main/kv/" + c.fresh("model")
		type entry struct{ value, etag string }
		model := map[string]entry{}
		keys := rapid.SampledFrom([]string{"a", "b", "%2F", "%00"})
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				key, value := keys.Draw(t, "key"), rapid.StringN(0, 20, 40).Draw(t, "value")
				old, had := model[key]
				var headers []string
				allowed := true
				switch rapid.IntRange(0, 4).Draw(t, "condition") {
				case 0:
					headers, allowed = []string{"If-None-Match", "*"}, !had
				case 1:
					headers, allowed = []string{"If-Match", "*"}, had
				case 2:
					headers, allowed = []string{"If-Match", `"stale", ` + old.etag}, had
				}
				w := c.serve("PUT", cache+key, []byte(value), headers...)
				want := map[bool]int{true: 204, false: 201}[had]
				if !allowed {
					want = 412
				}
				if w.Code != want {
					t.Fatalf("got %d, want %d: %s", w.Code, want, w.Body)
				}
				if allowed {
					model[key] = entry{value, w.Result().Header.Get("Etag")}
				}
			},
			"append": func(t *rapid.T) {
				key, value := keys.Draw(t, "key"), rapid.StringN(0, 5, 10).Draw(t, "value")
				old, had := model[key]
				w := c.serve("POST", cache+key+"/append", []byte(value))
				if want := map[bool]int{true: 200, false: 201}[had]; w.Code != want {
					t.Fatalf("got %d, want %d: %s", w.Code, want, w.Body)
				}
				model[key] = entry{old.value + value, w.Result().Header.Get("Etag")}
			},
			"delete": func(t *rapid.T) {
				key := keys.Draw(t, "key")
				_, had := model[key]
				if w, want := c.serve("DELETE", cache+key, nil), map[bool]int{true: 204, false: 404}[had]; w.Code != want {
					t.Fatalf("got %d, want %d: %s", w.Code, want, w.Body)
				}
				delete(model, key)
			},
			"": func(t *rapid.T) {
				for _, key := range []string{"a", "b", "%2F", "%00"} {
					w := c.serve("GET", cache+key, nil)
					e, has := model[key]
					switch {
					case !has && w.Code != 404:
						t.Fatalf("%s: got %d, want 404", key, w.Code)
					case has && (w.Code != 200 || w.Body.String() != e.value || w.Result().Header.Get("Etag") != e.etag):
						t.Fatalf("%s: got %d %q %s, want %q %s", key, w.Code, w.Body, w.Result().Header.Get("Etag"), e.value, e.etag)
					}
				}
			},
		})
	})
}
