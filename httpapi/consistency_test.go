package httpapi

import (
	"testing"

	"github.com/larder-cache/larder/tenants"
)

// How current a read is, is said by the query, else by a header, else by the cache; and the answer says what it was.
func TestConsistency(t *testing.T) {
	c := newTenant(t)
	c.newCache(t, tenants.Cache{Name: "loose", Consistency: "eventual"})
	const main, loose = kv + "k", "/v1/caches/loose/kv/k"
	c.do(t, "PUT", main, []byte("v")).want(t, 201)
	c.do(t, "PUT", loose, []byte("v")).want(t, 201)
	for _, tt := range []struct {
		name, method, path, header string
		want                       string // of the answer's header
	}{
		{"nobody says anything", "GET", main, "", ""},
		{"a header", "GET", main, "eventual", "eventual; age=1.500"},
		{"a query", "GET", main + "?consistency=leader", "", "leader"},
		{"a query outweighs a header", "GET", main + "?consistency=linearizable", "eventual", "linearizable"},
		{"the default of the cache", "GET", loose, "", "eventual; age=1.500"},
		{"a header outweighs the cache", "GET", loose, "linearizable", "linearizable"},
		{"HEAD", "HEAD", loose, "", "eventual; age=1.500"},
		{"what is not there", "GET", loose + "none", "leader", "leader"},
		{"a write, of a cache that any replica may read", "PUT", loose, "", ""},
		{"a write that says a level", "PUT", loose, "eventual", "linearizable"},
		{"a list", "GET", "/v1/caches/loose/kv?limit=10", "", "eventual; age=1.500"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var body []byte
			if tt.method == "PUT" {
				body = []byte("v")
			}
			headers := []string{"X-Larder-Consistency", tt.header}
			if tt.header == "" {
				headers = nil
			}
			if got := c.do(t, tt.method, tt.path, body, headers...).header.Get("X-Larder-Consistency"); got != tt.want {
				t.Errorf("the answer is %q, want %q", got, tt.want)
			}
		})
	}
	c.do(t, "GET", main, nil, "X-Larder-Consistency", "strong").problem(t, 400, "invalid_argument", "X-Larder-Consistency")
	c.do(t, "GET", main+"?consistency=strong", nil).problem(t, 400, "invalid_argument", "consistency")
	c.do(t, "GET", main+"?consistency=leader&consistency=leader", nil).problem(t, 400, "invalid_argument", "consistency")
	c.do(t, "GET", "/v1/caches?consistency=leader", nil).problem(t, 400, "invalid_argument", "consistency") // management has no levels
}

// The default is a setting of the cache.
func TestConsistencyOfACache(t *testing.T) {
	c := newTenant(t)
	is := func(a answer, want string) {
		t.Helper()
		if got := a.text(t, "consistency"); got != want {
			t.Errorf("the cache says %q, want %q", got, want)
		}
	}
	is(c.do(t, "GET", "/v1/caches/main", nil).want(t, 200), "linearizable")
	is(c.do(t, "PATCH", "/v1/caches/main", `{"consistency":"eventual"}`).want(t, 200), "eventual")
	c.do(t, "GET", kv+"k", nil).want(t, 404)
	if got := c.do(t, "GET", kv+"k", nil).header.Get("X-Larder-Consistency"); got != "eventual; age=1.500" {
		t.Errorf("a read is %q", got)
	}
	is(c.do(t, "PATCH", "/v1/caches/main", `{"description":"x"}`).want(t, 200), "eventual")
	c.do(t, "PATCH", "/v1/caches/main", `{"consistency":"strong"}`).problem(t, 400, "invalid_argument", "consistency")
	c.do(t, "PATCH", "/v1/caches/main", `{"consistency":""}`).problem(t, 400, "invalid_argument", "consistency")
	is(c.do(t, "POST", "/v1/caches", `{"name":"led","consistency":"leader"}`).want(t, 201), "leader")
}
