package httpapi

import (
	"bytes"
	stdjson "encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

// The tests in this file go over the table of routes: what they say holds of every route there is, and a new
// one without a sample request fails them.

// objects are the names and ids that a request can speak of.
type objects struct {
	Cache, Key, Session, User, Board, Member, Counter string
	APIKey, Role, Policy, Token, Tenant               string
	Snapshot, Endpoint, Portable                      string
}

// samples are what a well-formed request to a route has beside its path: a query, and a body in which <…> stands
// for one of objects. Routes without an entry take neither.
var samples = map[string]struct{ query, body string }{
	"POST /v1/caches":                 {body: `{"name":"<Cache>"}`},
	"PATCH /v1/caches/:cache":         {body: `{"description":"changed"}`},
	"POST /v1/caches/:cache/flush":    {},
	"POST /v1/caches/:cache/scale":    {body: `{"ranges":1}`},
	"POST /v1/caches/:cache/batch":    {body: `{"operations":[{"op":"kv.get","key":"<Key>"}]}`},
	"POST /v1/caches/:cache/commands": {body: `{"commands":[["GET","<Key>"]]}`},

	"POST /v1/caches/:cache/import":                {query: "mode=replace", body: `{"key":"imported","type":"string","value":"x"}`},
	"POST /v1/caches/:cache/snapshots":             {body: `{}`},
	"POST /v1/caches/:cache/snapshots/:id/restore": {body: `{"into":"<Cache>","overwrite":"<Cache>"}`},
	"POST /v1/caches/:cache/branches":              {body: `{"name":"made-<User>"}`},
	"PUT /v1/caches/:cache/snapshots":              {body: `<Portable>`},

	"PUT /v1/caches/:cache/snapshot-schedules/:name": {body: `{"when":"daily at 03:30"}`},

	"POST /v1/encryption-key/rotate":     {},
	"POST /v1/encryption-key/rewrap":     {body: `{}`},
	"POST /v1/encryption-key/shred":      {body: `{"confirm":"<Tenant>"}`},
	"POST /v1/cluster/master-key/rotate": {},

	"GET /v1/caches/:cache/kv":              {query: "prefix=<Key>"},
	"DELETE /v1/caches/:cache/kv":           {query: "prefix=<Key>"},
	"PUT /v1/caches/:cache/kv/:key":         {body: `value`},
	"POST /v1/caches/:cache/kv/:key/append": {body: `value`},
	"PUT /v1/caches/:cache/kv/:key/ttl":     {body: `{"ttl":"1h"}`},

	"POST /v1/caches/:cache/counters":             {body: `{"counters":[{"name":"<Counter>","by":1}]}`},
	"POST /v1/caches/:cache/counters/:name":       {body: `{"by":1}`},
	"PUT /v1/caches/:cache/counters/:name":        {body: `{"value":1}`},
	"POST /v1/caches/:cache/counters/:name/reset": {},

	"POST /v1/caches/:cache/sessions":            {body: `{"data":{},"user":"<User>"}`},
	"GET /v1/caches/:cache/sessions":             {query: "user=<User>"},
	"DELETE /v1/caches/:cache/sessions":          {query: "user=<User>"},
	"PUT /v1/caches/:cache/sessions/:id":         {body: `{"data":{}}`},
	"PATCH /v1/caches/:cache/sessions/:id":       {body: `{"a":1}`},
	"POST /v1/caches/:cache/sessions/:id/rotate": {},

	"PUT /v1/caches/:cache/leaderboards/:name":                 {body: `{"ties":"member"}`},
	"PUT /v1/caches/:cache/leaderboards/:name/ttl":             {body: `{"ttl":"1h"}`},
	"POST /v1/caches/:cache/leaderboards/:name/members":        {body: `{"members":[{"member":"<Member>","score":1}]}`},
	"POST /v1/caches/:cache/leaderboards/:name/members/remove": {body: `{"members":["<Member>"]}`},
	"PUT /v1/caches/:cache/leaderboards/:name/members/:member": {body: `{"score":1}`},
	"POST /v1/caches/:cache/leaderboards/:name/among":          {body: `{"members":["<Member>"]}`},
	"POST /v1/caches/:cache/leaderboards/:name/trim":           {body: `{"keep":10}`},

	"POST /v1/caches/:cache/endpoints": {body: `{"key":"<APIKey>"}`},

	"POST /v1/keys":                 {body: `{"name":"made by a sample","role":"<Role>"}`},
	"PATCH /v1/keys/:id":            {body: `{"name":"changed"}`},
	"POST /v1/keys/:id/rotate":      {body: `{"grace":"1h"}`},
	"POST /v1/roles":                {body: `{"name":"made-<Role>","policies":["<Policy>"]}`},
	"PUT /v1/roles/:name":           {body: `{"policies":["<Policy>"]}`},
	"PUT /v1/policies/:name":        {body: `{"document":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cache:Get","Resource":"*"}]}}`},
	"POST /v1/policies/simulate":    {body: `{"principal":{"key":"<APIKey>"},"action":"cache:Get","resource":"arn:cache:cache:local:<Tenant>:cache/<Cache>/key/<Key>"}`},
	"POST /v1/tokens":               {body: `{"ttl":"5m","subject":"<User>"}`},
	"POST /v1/tokens/revoke":        {body: `{"maker":"<APIKey>"}`},
	"POST /v1/tenants":              {body: `{"name":"<Tenant>"}`},
	"PATCH /v1/tenants/:tenant":     {body: `{"status":"suspended","description":"changed"}`},
	"POST /v1/tenants/:tenant/keys": {body: `{"name":"stolen"}`},
	"POST /v1/signing-keys/rotate":  {},

	"POST /v1/cluster/nodes/:node/drain":              {},
	"POST /v1/cluster/partitions/:partition/move":     {body: `{"from":"phantom-node","to":"phantom-node"}`},
	"POST /v1/cluster/partitions/:partition/failover": {body: `{"to":"phantom-node"}`},
	"POST /v1/cluster/partitions/:partition/abandon":  {body: `{"to":"phantom-node"}`},

	"GET /v1/caches/:cache/leaderboards/:name/members/:member/around": {query: "above=2&below=2"},

	"POST /redis":                             {body: `["GET","<Key>"]`},
	"PUT /redis":                              {body: `["GET","<Key>"]`},
	"POST /redis/pipeline":                    {body: `[["GET","<Key>"]]`},
	"POST /redis/multi-exec":                  {body: `[["GET","<Key>"]]`},
	"POST /redis/*":                           {},
	"PUT /redis/*":                            {},
	"POST /v1/caches/:cache/redis":            {body: `["GET","<Key>"]`},
	"PUT /v1/caches/:cache/redis":             {body: `["GET","<Key>"]`},
	"POST /v1/caches/:cache/redis/pipeline":   {body: `[["GET","<Key>"]]`},
	"POST /v1/caches/:cache/redis/multi-exec": {body: `[["GET","<Key>"]]`},
	"POST /v1/caches/:cache/redis/*":          {},
	"PUT /v1/caches/:cache/redis/*":           {},
	"PUT /v1/caches/:cache/webdis/*":          {},
	"POST /v1/caches/:cache/webdis":           {body: `GET/<Key>`},
}

// sampleOf makes a request to a route about these objects.
func sampleOf(t testing.TB, r route, o objects) (path string, body any) {
	t.Helper()
	s, ok := samples[r.method+" "+r.path]
	if !ok && (r.method == http.MethodPost || r.method == http.MethodPut || r.method == http.MethodPatch) {
		t.Fatalf("%s %s has no sample request: add one", r.method, r.path)
	}
	fill := strings.NewReplacer("<Cache>", o.Cache, "<Key>", o.Key, "<User>", o.User, "<Member>", o.Member, "<Counter>", o.Counter,
		"<APIKey>", o.APIKey, "<Role>", o.Role, "<Policy>", o.Policy, "<Tenant>", o.Tenant, "<Portable>", o.Portable)
	named := map[string]string{
		":cache": o.Cache, ":key": o.Key, ":member": o.Member, ":tenant": o.Tenant, ":endpoint": o.Endpoint, ":node": "phantom-node", ":partition": "9999", "*": "index.html",
	}
	if r.rest {
		named["*"] = "get/" + o.Key
	}
	for prefix, byName := range map[string]map[string]string{
		"/v1/caches/:cache/sessions/":  {":id": o.Session},
		"/v1/caches/:cache/snapshots/": {":id": o.Snapshot},

		"/v1/caches/:cache/snapshot-schedules/": {":name": o.Board},
		"/v1/caches/:cache/counters/":           {":name": o.Counter},
		"/v1/caches/:cache/leaderboards/":       {":name": o.Board},
		"/v1/keys/":                             {":id": o.APIKey},
		"/v1/tokens/":                           {":id": o.Token},
		"/v1/roles/":                            {":name": o.Role},
		"/v1/policies/":                         {":name": o.Policy},
	} {
		if strings.HasPrefix(r.path, prefix) {
			for k, v := range byName {
				named[k] = v
			}
		}
	}
	parts := strings.Split(r.path, "/")
	for i, p := range parts {
		if strings.HasPrefix(p, ":") || p == "*" {
			v, ok := named[p]
			if !ok {
				t.Fatalf("%s %s: nobody knows what %s is", r.method, r.path, p)
			}
			parts[i] = v
		}
	}
	path = strings.Join(parts, "/")
	if s.query != "" {
		path += "?" + fill.Replace(s.query)
	}
	if s.body != "" {
		return path, fill.Replace(s.body)
	}
	return path, nil
}

// phantoms are names and ids of nothing, in the shape of something.
func phantoms(h *harness, cache string) objects {
	n := h.fresh("phantom")
	return objects{
		Cache: cache, Key: n + "-key", User: n + "-user", Board: n + "-board", Member: n + "-member", Counter: n + "-counter",
		Session: string(drawID(drawTag())), APIKey: fmt.Sprintf("%012d", h.names.Add(1)), Role: n + "-role", Policy: n + "-policy",
		Token: strings.Repeat("A", 26), Tenant: n, Snapshot: "20261127t081500-00000000", Endpoint: fmt.Sprintf("9%07d", h.names.Add(1)),
	}
}

var lastSource atomic.Uint32

// straight makes a request without a network, from an address that no other request had: too many refused
// credentials from one address would be answered otherwise. A header called "from" is the address.
func (c caller) straight(t testing.TB, method, path string, body any, headers ...string) answer {
	t.Helper()
	return c.through(t, c.api, method, path, body, headers...)
}

// through is straight to a handler other than the harness's own.
func (c caller) through(t testing.TB, handler http.Handler, method, path string, body any, headers ...string) answer {
	t.Helper()
	text, _ := body.(string)
	r := httptest.NewRequest(method, path, strings.NewReader(text))
	n := lastSource.Add(1)
	r.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:4000", n>>16&255, n>>8&255, n&255)
	if c.credential != "" {
		r.Header.Set("Authorization", "Bearer "+c.credential)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if method == http.MethodPatch && strings.Contains(path, "/sessions/") {
		r.Header.Set("Content-Type", mergePatch)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "from" {
			r.RemoteAddr = headers[i+1]
		} else {
			r.Header.Add(headers[i], headers[i+1])
		}
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return answer{status: w.Code, header: w.Result().Header, body: w.Body.Bytes(), request: method + " " + path}
}

func TestWithoutACredential(t *testing.T) {
	c := newTenant(t).with("")
	o := phantoms(c.harness, "main")
	for _, r := range c.api.routes() {
		path, body := sampleOf(t, r, o)
		a := c.straight(t, r.method, path, body)
		if r.open {
			if r.path != "/metrics" && a.status >= 400 {
				t.Errorf("%s: an open route answers %d", a.request, a.status)
			}
			continue
		}
		switch a.want(t, http.StatusUnauthorized); {
		case r.method == http.MethodHead:
		case r.rest:
			a.exactly(t, 401, `{"error":"WRONGPASS invalid or missing auth token"}`)
		default:
			a.problem(t, http.StatusUnauthorized, "unauthenticated", "")
		}
		if a.header.Get("Www-Authenticate") == "" {
			t.Errorf("%s: 401 without WWW-Authenticate", a.request)
		}
		if a.header.Get("X-Request-Id") == "" || a.header.Get("Cache-Control") != "no-store" || a.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers are missing: %v", a.request, a.header)
		}
	}
	c.straight(t, "GET", "/metrics", nil).problem(t, http.StatusUnauthorized, "unauthenticated", "")
}

// A method that a route does not have opens nothing, whatever a header says the method should be.
func TestOtherMethods(t *testing.T) {
	owner := newTenant(t)
	o := phantoms(owner.harness, "main")
	routes := owner.api.routes()
	has := map[string][]string{}  // the methods of the routes with just this path
	fits := map[string][]string{} // those of all routes that it fits: "revoke" fits :id
	for _, r := range routes {
		path, _ := sampleOf(t, r, o)
		path, _, _ = strings.Cut(path, "?")
		has[path] = append(has[path], r.method)
	}
	for path := range has {
		for _, r := range routes {
			if covers(r.path, path) {
				fits[path] = append(fits[path], r.method)
			}
		}
	}
	for path, methods := range has {
		for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "FLUSH"} {
			if slices.Contains(fits[path], m) {
				continue
			}
			for _, c := range []caller{owner, owner.with("")} {
				a := c.straight(t, m, path, nil, "X-Http-Method-Override", methods[0], "X-Method-Override", methods[0])
				allow := a.header.Get("Allow")
				switch {
				case m == "OPTIONS" && a.status == http.StatusNoContent:
				case a.status != http.StatusMethodNotAllowed:
					t.Errorf("%s: %d %s, want 405", a.request, a.status, a.body)
				}
				for _, method := range methods {
					if !strings.Contains(allow, method) {
						t.Errorf("%s: Allow is %q, without %s", a.request, allow, method)
					}
				}
				if want := contentOfErrors(path); m != "HEAD" && m != "OPTIONS" && a.header.Get("Content-Type") != want {
					t.Errorf("%s: not %s: %v %s", a.request, want, a.header, a.body)
				}
			}
		}
	}
}

// contentOfErrors is what errors about a path are.
func contentOfErrors(path string) string {
	if inRest(path) {
		return "application/json"
	}
	return "application/problem+json"
}

// denies reports whether an answer says that its caller may not do this, be it of the only command or of one among others.
func (a answer) denies() bool {
	return a.status == http.StatusForbidden || bytes.Contains(a.body, []byte(`"code":"denied"`)) || bytes.Contains(a.body, []byte(`{"error":"NOPERM `))
}

// covers reports whether a path is one of a route.
func covers(route, path string) bool {
	want, got := strings.Split(route, "/"), strings.Split(path, "/")
	for i := range want {
		if want[i] == "*" {
			return len(got) > i
		}
		if i >= len(got) || want[i] != got[i] && !strings.HasPrefix(want[i], ":") {
			return false
		}
	}
	return len(want) == len(got)
}

// TestMatrix writes down who may do what, for people to read. Refresh with -rewrite, then read the diff.
func TestMatrix(t *testing.T) {
	owner := newTenant(t)
	token := func(use string) caller {
		return owner.with(owner.do(t, "POST", "/v1/tokens", `{"use":"`+use+`"}`).want(t, 201).text(t, "token"))
	}
	columns := []struct {
		name string
		caller
	}{
		{"nobody", owner.with("")},
		{"metrics", owner.withRole(t, "metrics")},
		{"read-only", owner.withRole(t, "read-only")},
		{"read-write", owner.withRole(t, "read-write")},
		{"owner", owner},
		{"data-token", token("data")},
		{"manage-token", token("manage")},
		{"operator", newOperator(t)},
	}
	datadriven.RunTest(t, "testdata/matrix", func(t *testing.T, d *datadriven.TestData) string {
		var b strings.Builder
		line := func(name string, cells []string) {
			text := fmt.Sprintf("%-72s", name)
			for i, c := range cells {
				text += fmt.Sprintf(" %-*s", len(columns[i].name), c)
			}
			b.WriteString(strings.TrimRight(text, " ") + "\n")
		}
		var cells []string
		for _, c := range columns {
			cells = append(cells, c.name)
		}
		line("", cells)
		for _, r := range owner.api.routes() {
			cells = cells[:0]
			for _, c := range columns {
				path, body := sampleOf(t, r, phantoms(c.harness, "main"))
				if strings.HasSuffix(r.path, "/flush") || r.method == "DELETE" && r.path == "/v1/caches/:cache" {
					path = strings.Replace(path, "/main", "/"+c.fresh("phantom"), 1) // the others still need main
				}
				a := c.straight(t, r.method, path, body)
				switch {
				case a.status == http.StatusUnauthorized:
					cells = append(cells, "401")
				case a.denies():
					cells = append(cells, "-")
				case a.status == http.StatusTooManyRequests && r.path != "/v1/signing-keys/rotate", a.status >= 500:
					t.Errorf("%s as %s: %d %s", a.request, c.name, a.status, a.body)
				case a.status == http.StatusBadRequest && !bytes.Contains(a.body, []byte("phantom")) && !r.long: // a role or policy that is not there; a file that is none
					t.Errorf("%s as %s: the sample request is bad: %s", a.request, c.name, a.body)
				default:
					cells = append(cells, "yes")
				}
			}
			line(r.method+" "+r.path, cells)
		}
		return b.String()
	})
}

// estate makes three of everything for a tenant: one under names that every tenant of these tests has, one under
// names that begin with known, and one under names with secret in them, which is in all the values as well. It
// returns what the second is called, and the ids of the first and third.
func estate(t *testing.T, c caller, known, secret string) (o objects, ids []string) {
	t.Helper()
	for _, prefix := range []string{"shared", secret, known} {
		o = objects{
			Cache: "main", Key: prefix + "-key", User: prefix + "-user", Board: prefix + "-board", Member: prefix + "-member",
			Counter: prefix + "-counter", Role: prefix + "-role", Policy: prefix + "-policy", Tenant: c.tenant,
		}
		c.do(t, "PUT", "/v1/caches/main/kv/"+o.Key, "value "+secret).want(t, 201)
		c.do(t, "PUT", "/v1/caches/main/counters/"+o.Counter, `{"value":7654321}`).want(t, 200)
		c.do(t, "POST", "/v1/caches/main/leaderboards/"+o.Board+"/members", `{"members":[{"member":"`+o.Member+`","score":7654321},{"member":"`+secret+`","score":1}]}`).want(t, 200)
		o.Session = c.do(t, "POST", "/v1/caches/main/sessions", `{"user":"`+o.User+`","data":{"secret":"`+secret+`"}}`).want(t, 201).text(t, "id")
		c.do(t, "PUT", "/v1/policies/"+o.Policy, `{"document":{"Version":"2012-10-17","Statement":[{"Sid":"`+secret+`","Effect":"Allow","Action":"cache:*","Resource":"*"}]}}`).want(t, 201)
		c.do(t, "POST", "/v1/roles", `{"name":"`+o.Role+`","description":"`+secret+`","policies":["`+o.Policy+`"]}`).want(t, 201)
		o.APIKey = c.do(t, "POST", "/v1/keys", `{"name":"`+secret+`","role":"`+o.Role+`"}`).want(t, 201).text(t, "id")
		o.Token = c.do(t, "POST", "/v1/tokens", `{"subject":"`+secret+`"}`).want(t, 201).text(t, "id")
		o.Endpoint = c.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+o.APIKey+`"}`).want(t, 201).text(t, "id")
		if prefix != known {
			ids = append(ids, o.Session, o.APIKey, o.Token)
		}
	}
	o.Snapshot = c.do(t, "POST", "/v1/caches/main/snapshots", `{}`).want(t, 202).text(t, "id")
	settles(t, c, "/v1/caches/main/snapshots/"+o.Snapshot, "state", "available")
	id := newOperator(t).do(t, "GET", "/v1/tenants/"+c.tenant, nil).want(t, 200).text(t, "id")
	o.Portable = string(c.do(t, "GET", "/v1/caches/main/snapshots/"+o.Snapshot+"/download?for="+id, nil).want(t, 200).body)
	return o, ids
}

// inventory is everything that a tenant can see of its own, as bytes.
func inventory(t *testing.T, c caller, o objects) string {
	t.Helper()
	var b strings.Builder
	for _, path := range []string{
		"/v1/caches?limit=1000", "/v1/keys?limit=1000", "/v1/roles?limit=1000", "/v1/policies?limit=1000", "/v1/tokens?limit=1000", "/v1/whoami",
		"/v1/roles/" + o.Role, "/v1/policies/" + o.Policy, "/v1/keys/" + o.APIKey, "/v1/tokens/" + o.Token,
		"/v1/caches/main/endpoints", "/v1/caches/main/endpoints/" + o.Endpoint, "/v1/caches/main/kv?limit=1000", "/v1/caches/main/kv/" + o.Key, "/v1/caches/main/kv/shared-key",
		"/v1/caches/main/sessions?user=" + o.User, "/v1/caches/main/sessions?user=shared-user", "/v1/caches/main/sessions/" + o.Session + "?touch=false",
		"/v1/caches/main/leaderboards", "/v1/caches/main/leaderboards/" + o.Board + "/members", "/v1/caches/main/leaderboards/shared-board/members",
		"/v1/caches/main/counters/" + o.Counter, "/v1/caches/main/counters/shared-counter",
	} {
		fmt.Fprintf(&b, "%s %s\n", path, c.do(t, "GET", path, nil).want(t, 200).body)
	}
	return b.String()
}

// TestTenantLeak lets one tenant try every route with everything that it could know of another: the names and
// ids of all that the other has, in the path, the query, the body and the headers. The two have a cache and keys
// of the same names. No answer may hold what the other keeps, none may tell what the other has from what nobody
// has, and nothing of the other's may change.
func TestTenantLeak(t *testing.T) {
	a, b := newTenant(t), newTenant(t)
	estate(t, a, "mine", "robin")
	theirs, secrets := estate(t, b, "known", "canary4c1e8b")
	tenantB, _ := b.accounts.Get(b.tenant)
	cacheB, _ := b.accounts.Cache(b.tenant, "main")
	before := inventory(t, b, theirs)
	secrets = append(secrets, "canary4c1e8b", string(tenantB.ID), cacheB.HexID, b.credential, "7654321")
	for _, prefix := range []string{"mine", "shared", "robin"} { // a's own hold that number as well
		a.do(t, "DELETE", "/v1/caches/main/counters/"+prefix+"-counter", nil).want(t, 204)
		a.do(t, "DELETE", "/v1/caches/main/leaderboards/"+prefix+"-board", nil).want(t, 204)
	}

	for _, who := range []struct {
		name string
		caller
	}{
		{"owner", a},
		{"manage token", a.with(a.do(t, "POST", "/v1/tokens", `{"use":"manage"}`).want(t, 201).text(t, "token"))},
		{"data token", a.with(a.do(t, "POST", "/v1/tokens", `{"use":"data"}`).want(t, 201).text(t, "token"))},
		{"read-write key", a.withRole(t, "read-write")},
	} {
		none := phantoms(who.harness, "main")
		for _, r := range who.api.routes() {
			if r.method == "DELETE" && r.path == "/v1/caches/:cache" {
				continue // see the end
			}
			got := who.tryAs(t, r, theirs, b)
			for _, s := range secrets {
				if bytes.Contains(got.body, []byte(s)) || strings.Contains(fmt.Sprint(got.header), s) {
					t.Errorf("%s: %s reads %q of the other tenant: %v %s", who.name, got.request, s, got.header, got.body)
				}
			}
			want := who.tryAs(t, r, none, b)
			if g, w := outline(t, got, theirs), outline(t, want, none); g != w {
				t.Errorf("%s: %s tells what another tenant has from what nobody has:\n%s\n%s", who.name, got.request, g, w)
			}
		}
	}
	if after := inventory(t, b, theirs); after != before {
		t.Errorf("the other tenant's things have changed:\n%s\nwere\n%s", after, before)
	}
	a.do(t, "POST", "/v1/tokens/revoke", `{"all":true}`).want(t, 204)
	a.do(t, "DELETE", "/v1/caches/main", nil).want(t, 204)
	if after := inventory(t, b, theirs); after != before {
		t.Errorf("deleting a cache changed one of the same name:\n%s\nwas\n%s", after, before)
	}
}

// tryAs makes a request to a route about these objects, with headers that name another tenant.
func (c caller) tryAs(t *testing.T, r route, o objects, other caller) answer {
	t.Helper()
	path, body := sampleOf(t, r, o)
	got := c.straight(t, r.method, path, body, "X-Tenant", other.tenant, "X-Larder-Tenant", other.tenant,
		"X-Forwarded-Host", other.tenant+".example.com", "Forwarded", "host="+other.tenant)
	if at := got.header.Get("Location"); got.status == http.StatusAccepted && strings.Contains(at, "/snapshots/") {
		settles(t, c, at, "state", "available") // of a cache, one at a time is made
	} else if got.status == http.StatusAccepted && strings.HasSuffix(r.path, "/branches") {
		settles(t, c, at, "state", "done") // and goes, for the next one who tries
		c.do(t, "DELETE", strings.TrimSuffix(at, "/restoration"), nil).want(t, 204)
	}
	return got
}

// changing is what differs between any two answers: the request's id, and the id of a session that was not made.
var changing = regexp.MustCompile(`"request_id":"[^"]*"|session:\{.*?\}[\w-]*`)

// outline is what an answer says beside the names that the request had, and beside what is new each time.
func outline(t *testing.T, a answer, o objects) string {
	t.Helper()
	text := string(changing.ReplaceAll(a.body, nil))
	if a.status < 300 { // new ids, times and versions: what matters is that it worked
		var fields map[string]stdjson.RawMessage
		_ = stdjson.Unmarshal(a.body, &fields)
		names := []string{}
		for name := range fields {
			names = append(names, name)
		}
		slices.Sort(names)
		text = strings.Join(names, ",")
	}
	for _, name := range []string{o.Key, o.User, o.Board, o.Member, o.Counter, o.Session, o.APIKey, o.Role, o.Policy, o.Token, o.Tenant, o.Snapshot, o.Endpoint} {
		text = strings.ReplaceAll(text, name, "…")
	}
	return fmt.Sprint(a.status, " ", text)
}

// TestExistenceIsNoOracle compares, byte by byte, what someone without rights is told of a cache that is there
// and of one that is not.
func TestExistenceIsNoOracle(t *testing.T) {
	c := newTenant(t)
	c.newCache(t, tenants.Cache{Name: "there", MaxValue: 3, Limits: tenants.Limits{UnitsPerSecond: 1}, Tags: map[string]string{"env": "prod"}})
	for range 5 { // over its limit, which must not show either
		c.do(t, "GET", "/v1/caches/there/kv/x", nil)
	}
	for _, who := range []caller{c.allowing(t, "metrics:Read"), c.withPolicy(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:cache:cache:*:`+c.tenant+`:cache/main/*"}]}`)} {
		for _, r := range c.api.routes() {
			if !strings.Contains(r.path, ":cache") {
				continue
			}
			tell := func(cache string) string {
				o := phantoms(c.harness, cache)
				o.Key, o.User, o.Board, o.Member, o.Counter = "key", "user", "board", "member", "counter"
				path, body := sampleOf(t, r, o)
				a := who.straight(t, r.method, path, body)
				if !a.denies() {
					t.Errorf("%s: %d %s", a.request, a.status, a.body)
				}
				h := a.header.Clone()
				h.Del("X-Request-Id")
				h.Del("Server-Timing")
				h.Del("Upstash-Sync-Token")
				return fmt.Sprint(a.status, h, string(changing.ReplaceAll(bytes.ReplaceAll(a.body, []byte(cache), nil), nil)))
			}
			if there, gone := tell("there"), tell("absnt"); there != gone {
				t.Errorf("%s %s:\n there %s\n  gone %s", r.method, r.path, there, gone)
			}
		}
	}
}

// A key that may be used from some networks opens nothing elsewhere, whatever X-Forwarded-For says, unless a
// proxy that we trust says it.
func TestNetworks(t *testing.T) {
	c := newTenant(t)
	made := c.do(t, "POST", "/v1/keys", `{"name":"office","role":"owner","networks":["192.0.2.0/24","2001:db8::7","203.0.113.9"]}`).want(t, 201)
	if got := fmt.Sprint(made.object(t)["networks"]); got != "[192.0.2.0/24 2001:db8::7/128 203.0.113.9/32]" {
		t.Errorf("networks are %s", got)
	}
	office := c.with(made.text(t, "api_key"))
	token := office.with(office.straight(t, "POST", "/v1/tokens", `{}`, "from", "192.0.2.1:9").want(t, 201).text(t, "token"))
	for _, trusting := range []bool{false, true} {
		api := c.api
		if trusting {
			cfg := c.api.Config
			cfg.Trusted = parsePrefixes(t, "10.0.0.0/8", "fd00::/8")
			api = New(cfg)
		}
		for _, tt := range []struct {
			name, peer, forwarded string
			plain, trusted        int // status without and with trusted proxies
		}{
			{"inside", "192.0.2.200:1", "", 200, 200},
			{"inside, mapped into IPv6", "[::ffff:192.0.2.200]:1", "", 200, 200},
			{"one address of IPv6", "[2001:db8::7]:1", "", 200, 200},
			{"its neighbour", "[2001:db8::8]:1", "", 401, 401},
			{"one address", "203.0.113.9:1", "", 200, 200},
			{"its neighbour", "203.0.113.8:1", "", 401, 401},
			{"outside", "198.51.100.1:1", "", 401, 401},
			{"outside, forging", "198.51.100.2:1", "192.0.2.1", 401, 401},
			{"outside, forging a chain", "198.51.100.3:1", "192.0.2.1, 10.0.0.1", 401, 401},
			{"behind a proxy", "10.0.0.1:1", "192.0.2.1", 401, 200},
			{"behind two proxies", "10.0.0.1:1", "192.0.2.1, 10.0.0.2", 401, 200},
			{"outside, behind a proxy", "10.0.0.1:1", "198.51.100.4", 401, 401},
			{"outside, behind a proxy, forging", "10.0.0.1:1", "192.0.2.1, 198.51.100.5", 401, 401},
		} {
			headers := []string{"from", tt.peer}
			if tt.forwarded != "" {
				headers = append(headers, "X-Forwarded-For", tt.forwarded, "X-Real-Ip", "192.0.2.1", "Forwarded", "for=192.0.2.1")
			}
			want := tt.plain
			if trusting {
				want = tt.trusted
			}
			for _, credential := range []string{office.credential, token.credential} { // a token has its maker's networks
				if a := c.with(credential).through(t, api, "GET", "/v1/whoami", nil, headers...); a.status != want {
					t.Errorf("%s (trusting %v): got %d, want %d: %s", tt.name, trusting, a.status, want, a.body)
				}
			}
		}
	}
}

// A tenant or cache that is over its limit is told when to come back, and nobody else is held up.
func TestThrottling(t *testing.T) {
	c, other := newTenant(t), newTenant(t)
	c.newCache(t, tenants.Cache{Name: "slow", Limits: tenants.Limits{UnitsPerSecond: 2}})
	c.newCache(t, tenants.Cache{Name: "narrow", Limits: tenants.Limits{BytesPerSecond: 1000}})
	exhaust := func(who caller, method, path string, body any) (passed int) {
		t.Helper()
		for range 20 {
			a := who.do(t, method, path, body)
			if a.status == http.StatusTooManyRequests {
				a.problem(t, 429, "throttled", "")
				if s := a.header.Get("Retry-After"); s == "" || s == "0" {
					t.Errorf("Retry-After is %q", s)
				}
				return passed
			}
			passed++
		}
		t.Fatalf("%s %s: 20 requests passed", method, path)
		return passed
	}
	if n := exhaust(c, "GET", "/v1/caches/slow/kv/x", nil); n != 3 { // a second's worth, and the one that goes into debt
		t.Errorf("%d requests passed, want 3", n)
	}
	if n := exhaust(c, "PUT", "/v1/caches/narrow/kv/x", strings.Repeat("x", 3000)); n != 1 {
		t.Errorf("%d requests passed, want 1", n)
	}
	c.do(t, "GET", "/v1/caches/main/kv/x", nil).want(t, 404) // another cache of the tenant
	c.clock.advance(500 * time.Millisecond)
	c.do(t, "GET", "/v1/caches/slow/kv/x", nil).want(t, 404)
	c.do(t, "GET", "/v1/caches/slow/kv/x", nil).want(t, 429)
	c.do(t, "GET", "/v1/caches/narrow/kv/x", nil).want(t, 429) // still pays for its 3000 bytes
	c.clock.advance(3 * time.Second)
	c.do(t, "GET", "/v1/caches/narrow/kv/x", nil).want(t, 200)

	operator := newOperator(t)
	operator.do(t, "PATCH", "/v1/tenants/"+c.tenant, `{"limits":{"units_per_second":3}}`).want(t, 200)
	exhaust(c, "GET", "/v1/caches/main/kv/x", nil)
	c.do(t, "PUT", "/v1/caches/narrow/kv/x", "y").want(t, 429) // all caches of the tenant
	other.do(t, "GET", "/v1/caches/main/kv/x", nil).want(t, 404)
	c.do(t, "GET", "/v1/whoami", nil).want(t, 200)
	operator.do(t, "PATCH", "/v1/tenants/"+c.tenant, `{"limits":{"units_per_second":1000}}`).want(t, 200)
	c.do(t, "GET", "/v1/caches/main/kv/x", nil).want(t, 404) // higher limits begin without debts
	used := c.do(t, "GET", "/v1/caches/slow/usage", nil).want(t, 200).object(t)
	if used["throttled"] != 2.0 {
		t.Errorf("throttled: %v", used)
	}
}

func TestHealth(t *testing.T) {
	c := newTenant(t).with("")
	c.do(t, "GET", "/livez", nil).want(t, 200).json(t, `{"status":"ok","version":"test"}`)
	c.do(t, "GET", "/readyz", nil).want(t, 200)
	c.do(t, "HEAD", "/livez", nil).want(t, 200) // as many load balancers ask
	c.do(t, "HEAD", "/readyz", nil).want(t, 200)
	var draining error = errDraining
	c.ready.Store(&draining)
	defer c.ready.Store(nil)
	c.do(t, "GET", "/readyz", nil).problem(t, http.StatusServiceUnavailable, "unavailable", "")
	c.do(t, "HEAD", "/readyz", nil).want(t, http.StatusServiceUnavailable)
	c.do(t, "GET", "/livez", nil).want(t, 200)
}

func TestMetricsAreTheCallersOwn(t *testing.T) {
	c := newTenant(t)
	read := func(who caller) string {
		t.Helper()
		return string(who.do(t, "GET", "/metrics", nil).want(t, 200).body)
	}
	if got := read(c.withRole(t, "metrics")); !strings.Contains(got, `"`+c.tenant+`"`) {
		t.Errorf("a tenant reads %s", got)
	}
	if got := read(newOperator(t)); !strings.Contains(got, `tenant=""`) { // everybody's
		t.Errorf("an operator reads %s", got)
	}
	c.withRole(t, "read-write").do(t, "GET", "/metrics", nil).problem(t, 403, "denied", "")

	c.api.OpenMetrics = true
	defer func() { c.api.OpenMetrics = false }()
	if got := read(c.with("")); !strings.Contains(got, `tenant=""`) { // everybody's
		t.Errorf("without a credential one reads %s", got)
	}
	if got := read(c); !strings.Contains(got, `"`+c.tenant+`"`) {
		t.Errorf("a tenant reads %s where everybody may", got)
	}
	c.withRole(t, "read-write").do(t, "GET", "/metrics", nil).problem(t, 403, "denied", "")
}

// Whoever has a credential may ask who it is.
func TestWhoAmI(t *testing.T) {
	c := newTenant(t)
	key := c.do(t, "POST", "/v1/keys", `{"name":"web","role":"read-only","default_cache":"main","expires_in":"1h"}`).want(t, 201)
	who := c.with(key.text(t, "api_key"))
	who.do(t, "GET", "/v1/whoami", nil).want(t, 200).json(t, fmt.Sprintf(
		`{"tenant":%q,"kind":"key","id":%q,"name":"web","role":"read-only","default_cache":"main","expires_at":%q}`, c.tenant, key.text(t, "id"), c.clock.after(time.Hour)))
	for _, use := range []auth.Use{auth.UseData, auth.UseManage} {
		token := c.do(t, "POST", "/v1/tokens", map[string]any{"use": use, "subject": "ann", "ttl": "10m"}).want(t, 201)
		c.with(token.text(t, "token")).do(t, "GET", "/v1/whoami", nil).want(t, 200).json(t, fmt.Sprintf(
			`{"tenant":%q,"kind":"token","id":%q,"name":"ann","role":"owner","use":%q,"expires_at":%q}`, c.tenant, token.text(t, "id"), use, c.clock.after(10*time.Minute)))
	}
	if got := newOperator(t).do(t, "GET", "/v1/whoami", nil).want(t, 200).object(t); got["kind"] != "operator" || got["tenant"] != "system" {
		t.Errorf("an operator is %v", got)
	}
	c.do(t, "GET", "/v1/whoami?tenant=other", nil).problem(t, 400, "invalid_argument", "tenant")
}

var errDraining = fault.New(fault.Unavailable, "test", "this node is draining")

func parsePrefixes(t testing.TB, list ...string) (all []netip.Prefix) {
	t.Helper()
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}
