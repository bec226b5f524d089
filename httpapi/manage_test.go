package httpapi

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/tenants"
)

// A refusal is a request that is refused, with what the problem must say.
type refusal struct {
	name           string
	method, path   string
	body           any
	status         int
	code, argument string
	says           []string
}

func refuses(t *testing.T, c caller, list []refusal) {
	t.Helper()
	for _, r := range list {
		t.Run(r.name, func(t *testing.T) {
			c.do(t, r.method, r.path, r.body).problem(t, r.status, r.code, r.argument).detail(t, r.says...)
		})
	}
}

// pages reads a list page by page and returns the names on it.
func pages(t *testing.T, c caller, path, list, name string, limit int) (all []string) {
	t.Helper()
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	for cursor := ""; ; {
		page := c.do(t, "GET", fmt.Sprintf("%s%slimit=%d&cursor=%s", path, separator, limit, cursor), nil).want(t, 200).object(t)
		items := page[list].([]any)
		if len(items) > limit {
			t.Errorf("%s: a page of %d, asked for %d", path, len(items), limit)
		}
		for _, item := range items {
			all = append(all, item.(map[string]any)[name].(string))
		}
		if cursor = page["next_cursor"].(string); cursor == "" {
			return all
		}
		if len(items) == 0 {
			t.Fatalf("%s: an empty page that is not the last", path)
		}
	}
}

func TestAPIKeys(t *testing.T) {
	c := newTenant(t)
	made := c.do(t, "POST", "/v1/keys", `{"name":"web","role":"read-write","kind":"test","expires_in":"90d","networks":["127.0.0.0/8","::1"],"default_cache":"main"}`).want(t, 201)
	id, secret := made.text(t, "id"), made.text(t, "api_key")
	if !strings.HasPrefix(secret, "lk_test_"+id+"_") || made.header.Get("Location") != "/v1/keys/"+id {
		t.Errorf("%s, at %q", made.body, made.header.Get("Location"))
	}
	owner := c.do(t, "GET", "/v1/whoami", nil).text(t, "id")
	want := fmt.Sprintf(`{"id":%q,"name":"web","kind":"test","role":"read-write","networks":["127.0.0.0/8","::1/128"],"default_cache":"main",
		"created_at":%q,"created_by":"arn:cache:iam::%s:key/%s","expires_at":%q,"last_used_at":null}`, id, c.clock.after(0), c.tenant, owner, c.clock.after(90*24*time.Hour))
	c.do(t, "GET", "/v1/keys/"+id, nil).want(t, 200).json(t, want)

	// The key works, its use is seen by the minute, and its rights follow its role.
	web := c.with(secret)
	web.do(t, "PUT", "/v1/caches/main/kv/x", "1").want(t, 201)
	if used := c.do(t, "GET", "/v1/keys/"+id, nil).text(t, "last_used_at"); used != formatTime(c.clock.Now()/60000*60000) {
		t.Errorf("last used at %s", used)
	}
	c.do(t, "PATCH", "/v1/keys/"+id, `{"role":"read-only","name":"browser","default_cache":""}`).want(t, 200)
	web.do(t, "PUT", "/v1/caches/main/kv/x", "1").problem(t, 403, "denied", "")
	web.do(t, "GET", "/v1/caches/main/kv/x", nil).want(t, 200)
	if k := c.do(t, "GET", "/v1/keys/"+id, nil).object(t); k["name"] != "browser" || k["default_cache"] != nil || len(k["networks"].([]any)) != 2 {
		t.Errorf("after the change: %v", k)
	}

	// A rotation leaves the old key for the grace, and no longer.
	rotated := c.do(t, "POST", "/v1/keys/"+id+"/rotate", `{"grace":"1h"}`).want(t, 201)
	next := c.with(rotated.text(t, "api_key"))
	for _, k := range []caller{web, next} {
		k.do(t, "GET", "/v1/caches/main/kv/x", nil).want(t, 200)
	}
	if k := c.do(t, "GET", "/v1/keys/"+id, nil).object(t); k["rotated_to"] != rotated.text(t, "id") || k["expires_at"] != c.clock.after(time.Hour) {
		t.Errorf("the old key: %v", k)
	}
	c.do(t, "POST", "/v1/keys/"+id+"/rotate", nil).problem(t, 409, "conflict", "id")
	c.clock.advance(time.Hour)
	web.straight(t, "GET", "/v1/caches/main/kv/x", nil, "from", "127.0.0.77:1").problem(t, 401, "unauthenticated", "")
	next.do(t, "GET", "/v1/caches/main/kv/x", nil).want(t, 200)
	again := c.do(t, "POST", "/v1/keys/"+rotated.text(t, "id")+"/rotate", nil).want(t, 201) // without grace: at once
	next.straight(t, "GET", "/v1/caches/main/kv/x", nil, "from", "127.0.0.78:1").problem(t, 401, "unauthenticated", "")

	c.do(t, "DELETE", "/v1/keys/"+again.text(t, "id"), nil).want(t, 204)
	c.with(again.text(t, "api_key")).straight(t, "GET", "/v1/whoami", nil, "from", "127.0.0.79:1").problem(t, 401, "unauthenticated", "")
	c.do(t, "DELETE", "/v1/keys/"+again.text(t, "id"), nil).problem(t, 404, "not_found", "id")

	// Nobody sees a secret again.
	for _, path := range []string{"/v1/keys?limit=1000", "/v1/keys/" + id} {
		if a := c.do(t, "GET", path, nil); bytes.Contains(a.body, []byte(secret[21:])) || bytes.Contains(a.body, []byte("digest")) {
			t.Errorf("%s shows %s", path, a.body)
		}
	}
	for range 5 {
		c.withRole(t, "read-only")
	}
	if all := pages(t, c, "/v1/keys", "keys", "id", 2); len(all) != 8 {
		t.Errorf("the list has %d keys: %v", len(all), all)
	}
}

func TestBadAPIKeys(t *testing.T) {
	c := newTenant(t)
	id := c.do(t, "POST", "/v1/keys", `{"name":"x","role":"owner"}`).want(t, 201).text(t, "id")
	post := func(body string) (string, string, any) { return "POST", "/v1/keys", body }
	var list []refusal
	add := func(name string, method, path string, body any, status int, code, argument string, says ...string) {
		list = append(list, refusal{name, method, path, body, status, code, argument, says})
	}
	bad := func(name, body, code, argument string, says ...string) {
		m, p, b := post(body)
		add(name, m, p, b, 400, code, argument, says...)
	}
	bad("no name", `{"role":"owner"}`, "invalid_argument", "name", "128")
	bad("a long name", `{"role":"owner","name":"`+strings.Repeat("x", 129)+`"}`, "invalid_argument", "name", "129", "128")
	bad("a name with a line feed", `{"role":"owner","name":"a\nb"}`, "invalid_argument", "name")
	bad("no role", `{"name":"x"}`, "invalid_argument", "role")
	bad("no such role", `{"name":"x","role":"boss"}`, "invalid_argument", "role", "boss")
	bad("the operators' role", `{"name":"x","role":"operator"}`, "invalid_argument", "role")
	bad("a kind of its own", `{"name":"x","role":"owner","kind":"root"}`, "invalid_argument", "kind", "live", "test")
	bad("a life without a unit that is", `{"name":"x","role":"owner","expires_in":"90 days"}`, "invalid_argument", "expires_in", "90 days")
	bad("no life", `{"name":"x","role":"owner","expires_in":0}`, "out_of_range", "expires_in")
	bad("a life beyond a century", `{"name":"x","role":"owner","expires_in":"99999999999d"}`, "out_of_range", "expires_in")
	bad("the past", `{"name":"x","role":"owner","expires_at":"2020-01-01T00:00:00Z"}`, "out_of_range", "expires_at")
	bad("no time", `{"name":"x","role":"owner","expires_at":"tomorrow"}`, "invalid_argument", "expires_at", "tomorrow")
	bad("two ends", `{"name":"x","role":"owner","expires_in":"1d","expires_at":"2099-01-01T00:00:00Z"}`, "invalid_argument", "expires_at")
	bad("no network", `{"name":"x","role":"owner","networks":["10.0.0.0/8","10.0.0.0/33"]}`, "invalid_argument", "networks[1]", "10.0.0.0/33")
	bad("a network with a zone", `{"name":"x","role":"owner","networks":["fe80::1%eth0"]}`, "invalid_argument", "networks[0]")
	bad("65 networks", `{"name":"x","role":"owner","networks":["`+strings.Repeat(`10.0.0.1","`, 64)+`10.0.0.1"]}`, "invalid_argument", "networks", "65", "64")
	bad("a cache that cannot be", `{"name":"x","role":"owner","default_cache":"Main"}`, "invalid_argument", "default_cache")
	bad("an unknown member", `{"name":"x","role":"owner","tenant":"system"}`, "invalid_argument", "tenant")
	bad("another letter case", `{"Name":"x","role":"owner"}`, "invalid_argument", "Name")
	bad("a member twice", `{"name":"x","role":"owner","role":"owner"}`, "invalid_argument", "body")
	bad("a number for a name", `{"name":1,"role":"owner"}`, "invalid_argument", "name", "string")
	bad("no JSON", `{`, "invalid_argument", "body")
	add("an unknown parameter", "POST", "/v1/keys?role=owner", `{"name":"x","role":"owner"}`, 400, "invalid_argument", "role")
	add("an unknown parameter of a list", "GET", "/v1/keys?tenant=x", nil, 400, "invalid_argument", "tenant")
	add("a page too large", "GET", "/v1/keys?limit=1001", nil, 400, "out_of_range", "limit", "1000")
	add("a page of none", "GET", "/v1/keys?limit=0", nil, 400, "out_of_range", "limit")
	add("a limit that is no number", "GET", "/v1/keys?limit=many", nil, 400, "invalid_argument", "limit")
	add("a cursor twice", "GET", "/v1/keys?cursor=a&cursor=b", nil, 400, "invalid_argument", "cursor")
	add("no such key", "GET", "/v1/keys/nobody", nil, 404, "not_found", "id")
	add("a grace too long", "POST", "/v1/keys/"+id+"/rotate", `{"grace":"8d"}`, 400, "out_of_range", "grace")
	add("a negative grace", "POST", "/v1/keys/"+id+"/rotate", `{"grace":"-1h"}`, 400, "invalid_argument", "grace")
	add("a change to no role", "PATCH", "/v1/keys/"+id, `{"role":"boss"}`, 400, "invalid_argument", "role")
	add("a change of networks to none", "PATCH", "/v1/keys/"+id, `{"networks":["everywhere"]}`, 400, "invalid_argument", "networks[0]")
	add("a change of what stays", "PATCH", "/v1/keys/"+id, `{"kind":"test"}`, 400, "invalid_argument", "kind")
	refuses(t, c, list)
}

// Who may make keys of one role makes none of another, and a token makes none at all.
func TestRightsAreHandedOutByThoseWhoMay(t *testing.T) {
	c := newTenant(t)
	arn := "arn:cache:iam:*:" + c.tenant + ":"
	clerk := c.withPolicy(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:CreateKey","iam:RotateKey","iam:ListKeys"],"Resource":["`+arn+`key/*","`+arn+`role/read-only"]}]}`)
	id := clerk.do(t, "POST", "/v1/keys", `{"name":"reader","role":"read-only"}`).want(t, 201).text(t, "id")
	for _, role := range []string{"owner", "read-write", "nothing"} {
		clerk.do(t, "POST", "/v1/keys", `{"name":"x","role":"`+role+`"}`).problem(t, 403, "denied", "")
		clerk.do(t, "PATCH", "/v1/keys/"+id, `{"role":"`+role+`"}`).problem(t, 403, "denied", "")
	}
	owners := c.do(t, "GET", "/v1/whoami", nil).want(t, 200).text(t, "id")
	clerk.do(t, "POST", "/v1/keys/"+owners+"/rotate", nil).problem(t, 403, "denied", "") // would be the owner
	clerk.do(t, "PATCH", "/v1/keys/"+owners, `{"role":"read-only"}`).problem(t, 403, "denied", "")
	clerk.do(t, "PATCH", "/v1/keys/"+owners, `{"networks":["192.0.2.1"]}`).problem(t, 403, "denied", "")
	clerk.do(t, "POST", "/v1/keys/AAAAAAAAAAAA/rotate", nil).problem(t, 404, "not_found", "id")
	clerk.do(t, "PATCH", "/v1/keys/"+id, `{"name":"a reader"}`).want(t, 200)
	id = clerk.do(t, "POST", "/v1/keys/"+id+"/rotate", nil).want(t, 201).text(t, "id")
	token := c.with(c.do(t, "POST", "/v1/tokens", `{"use":"manage"}`).want(t, 201).text(t, "token"))
	for _, r := range [][3]string{
		{"POST", "/v1/keys", `{"name":"x","role":"read-only"}`},
		{"PATCH", "/v1/keys/" + id, `{"role":"owner"}`},
		{"POST", "/v1/keys/" + id + "/rotate", ``},
		{"POST", "/v1/roles", `{"name":"x","policies":["owner"]}`},
		{"PUT", "/v1/roles/x", `{"policies":["owner"]}`},
		{"PUT", "/v1/policies/x", `{"document":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}}`},
		{"POST", "/v1/tokens", `{}`},
	} {
		token.do(t, r[0], r[1], r[2]).problem(t, 403, "denied", "")
	}
	token.do(t, "GET", "/v1/keys", nil).want(t, 200)
}

func TestRolesAndPolicies(t *testing.T) {
	c := newTenant(t)
	const readA = `{"Version":"2012-10-17","Statement":[{"Sid":"A","Effect":"Allow","Action":"cache:Get","Resource":"arn:cache:cache:*:TENANT:cache/main/key/a*"}]}`
	document := strings.ReplaceAll(readA, "TENANT", c.tenant)
	put := c.do(t, "PUT", "/v1/policies/read-a", `{"document":`+document+`}`).want(t, 201)
	put.json(t, fmt.Sprintf(`{"name":"read-a","document":%s,"version":1,"ready_made":false,"created_at":%[2]q,"updated_at":%[2]q}`, document, c.clock.after(0)))
	created := c.clock.after(0)
	c.do(t, "POST", "/v1/roles", `{"name":"app","description":"reads","policies":["read-a"]}`).want(t, 201).
		json(t, fmt.Sprintf(`{"name":"app","description":"reads","policies":["read-a"],"ready_made":false,"created_at":%[1]q,"updated_at":%[1]q}`, created))
	app := c.withRole(t, "app")
	app.do(t, "GET", "/v1/caches/main/kv/a1", nil).want(t, 404)
	app.do(t, "GET", "/v1/caches/main/kv/b1", nil).problem(t, 403, "denied", "")

	// A change of the policy, of the role and of its boundary holds from the next request on.
	c.clock.advance(time.Second)
	wider := strings.ReplaceAll(document, "key/a*", "key/*")
	if p := c.do(t, "PUT", "/v1/policies/read-a", `{"document":`+wider+`}`).want(t, 200).object(t); p["version"] != 2.0 || p["created_at"] != created || p["updated_at"] == created {
		t.Errorf("the changed policy: %v", p)
	}
	app.do(t, "GET", "/v1/caches/main/kv/b1", nil).want(t, 404)
	c.do(t, "PUT", "/v1/policies/only-a", `{"document":`+document+`}`).want(t, 201)
	if r := c.do(t, "PUT", "/v1/roles/app", `{"policies":["read-a"],"boundary":"only-a"}`).want(t, 200).object(t); r["boundary"] != "only-a" || r["description"] != nil {
		t.Errorf("the changed role: %v", r)
	}
	app.do(t, "GET", "/v1/caches/main/kv/b1", nil).want(t, 403)
	app.do(t, "GET", "/v1/caches/main/kv/a1", nil).want(t, 404)

	// What is in use stays.
	c.do(t, "DELETE", "/v1/roles/app", nil).problem(t, 409, "conflict", "name").detail(t, "keys")
	for _, p := range []string{"read-a", "only-a"} {
		c.do(t, "DELETE", "/v1/policies/"+p, nil).problem(t, 409, "conflict", "name").detail(t, "app")
	}
	if all := pages(t, c, "/v1/roles", "roles", "name", 2); fmt.Sprint(all) != "[app metrics owner read-only read-write]" {
		t.Errorf("roles: %v", all)
	}
	if all := pages(t, c, "/v1/policies", "policies", "name", 2); fmt.Sprint(all) != "[metrics only-a owner read-a read-only read-write]" {
		t.Errorf("policies: %v", all)
	}
	if a := c.do(t, "GET", "/v1/policies", nil); bytes.Contains(a.body, []byte("Statement")) {
		t.Errorf("a list shows documents: %s", a.body)
	}
	ready := c.do(t, "GET", "/v1/roles/owner", nil).want(t, 200).object(t)
	if ready["ready_made"] != true || ready["created_at"] != nil {
		t.Errorf("the owner's role: %v", ready)
	}
	if p := c.do(t, "GET", "/v1/policies/owner", nil).want(t, 200).object(t); p["document"] == nil || p["ready_made"] != true {
		t.Errorf("the owner's policy: %v", p)
	}
	key := app.do(t, "GET", "/v1/whoami", nil).text(t, "id")
	c.do(t, "DELETE", "/v1/keys/"+key, nil).want(t, 204)
	c.do(t, "DELETE", "/v1/roles/app", nil).want(t, 204)
	c.do(t, "DELETE", "/v1/policies/read-a", nil).want(t, 204)
	c.do(t, "GET", "/v1/roles/app", nil).problem(t, 404, "not_found", "name")
	c.do(t, "GET", "/v1/policies/read-a", nil).problem(t, 404, "not_found", "name")

	const statement = `{"Effect":"Allow","Action":"cache:Get","Resource":"*"}`
	document = `{"Version":"2012-10-17","Statement":[` + statement + `]}`
	refuses(t, c, []refusal{
		{"a ready-made role", "PUT", "/v1/roles/owner", `{"policies":["only-a"]}`, 409, "conflict", "name", []string{"ready-made"}},
		{"a ready-made role, deleted", "DELETE", "/v1/roles/owner", nil, 409, "conflict", "name", nil},
		{"a ready-made policy", "PUT", "/v1/policies/read-only", `{"document":` + document + `}`, 409, "conflict", "name", nil},
		{"a role that is there", "POST", "/v1/roles", `{"name":"owner","policies":["only-a"]}`, 409, "conflict", "name", nil},
		{"a role without a name", "POST", "/v1/roles", `{"policies":["only-a"]}`, 400, "invalid_argument", "name", []string{"1 to 63"}},
		{"a role with a bad name", "POST", "/v1/roles", `{"name":"A/B","policies":["only-a"]}`, 400, "invalid_argument", "name", nil},
		{"a role without policies", "POST", "/v1/roles", `{"name":"r"}`, 400, "invalid_argument", "policies", []string{"0", "20"}},
		{"a role with a policy twice", "POST", "/v1/roles", `{"name":"r","policies":["only-a","only-a"]}`, 400, "invalid_argument", "policies", []string{"twice"}},
		{"a role with no such policy", "POST", "/v1/roles", `{"name":"r","policies":["none"]}`, 400, "invalid_argument", "policies", []string{"none"}},
		{"a role with no such boundary", "POST", "/v1/roles", `{"name":"r","policies":["only-a"],"boundary":"none"}`, 400, "invalid_argument", "boundary", nil},
		{"a role with a long description", "POST", "/v1/roles", `{"name":"r","policies":["only-a"],"description":"` + strings.Repeat("x", 1025) + `"}`, 400, "invalid_argument", "description", []string{"1024"}},
		{"no role to change", "PUT", "/v1/roles/none", `{"policies":["only-a"]}`, 404, "not_found", "", nil},
		{"a policy without a document", "PUT", "/v1/policies/p", `{}`, 400, "invalid_argument", "document", []string{"missing"}},
		{"a bare document", "PUT", "/v1/policies/p", document, 400, "invalid_argument", "Version", nil},
		{"a document that is text", "PUT", "/v1/policies/p", `{"document":"{}"}`, 400, "invalid_argument", "document", []string{"MalformedPolicy (json)"}},
		{"no such action", "PUT", "/v1/policies/p", `{"document":` + strings.ReplaceAll(document, "cache:Get", "cache:Fly") + `}`, 400, "invalid_argument", "document", []string{"MalformedPolicy (action)", "Statement[0]"}},
		{"an unknown member", "PUT", "/v1/policies/p", `{"document":` + strings.ReplaceAll(document, `"Effect"`, `"Efect":1,"Effect"`) + `}`, 400, "invalid_argument", "document", []string{"unknown_field"}},
		{"a document too large", "PUT", "/v1/policies/p", `{"document":{"Version":"2012-10-17","Statement":[` + statement + strings.Repeat(","+statement, 250) + `]}}`, 400, "invalid_argument", "document", []string{"too_large", "10240"}},
		{"a policy with a bad name", "PUT", "/v1/policies/..", `{"document":` + document + `}`, 400, "invalid_argument", "name", nil},
	})
}

func TestSimulate(t *testing.T) {
	c := newTenant(t)
	c.do(t, "PUT", "/v1/policies/own", `{"document":{"Version":"2012-10-17","Statement":[
		{"Sid":"Own","Effect":"Allow","Action":"cache:*","Resource":"arn:cache:cache:*:`+c.tenant+`:cache/main/key/${jwt:sub}/*"},
		{"Sid":"Office","Effect":"Deny","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"cache:SourceIp":"10.0.0.0/8"}}}]}}`).want(t, 201)
	c.do(t, "POST", "/v1/roles", `{"name":"own","policies":["own"]}`).want(t, 201)
	key := c.withRole(t, "own").do(t, "GET", "/v1/whoami", nil).text(t, "id")
	office := `"context":{"cache:SourceIp":"10.1.2.3","JWT:sub":"ann"}`
	for _, tt := range []struct{ name, request, want string }{
		{"a ready-made role", `{"principal":{"role":"read-only"},"action":"cache:Get","resource":"cache/main/key/x"}`,
			`{"decision":"Allow","reason":"identity_policy","policy":"read-only","statement":0,"sid":"ReadOnly"}`},
		{"and what it may not", `{"principal":{"role":"read-only"},"action":"cache:Set","resource":"cache/main/key/x"}`,
			`{"decision":"Deny","reason":"implicit_deny","statement":null}`},
		{"an action in another letter case", `{"principal":{"role":"read-only"},"action":"CACHE:get","resource":"arn:cache:cache:local:` + c.tenant + `:cache/main/key/x"}`,
			`{"decision":"Allow","reason":"identity_policy","policy":"read-only","statement":0,"sid":"ReadOnly"}`},
		{"a role with facts", `{"principal":{"role":"own"},"action":"cache:Get","resource":"cache/main/key/ann/1",` + office + `}`,
			`{"decision":"Allow","reason":"identity_policy","policy":"own","statement":0,"sid":"Own"}`},
		{"another's key", `{"principal":{"role":"own"},"action":"cache:Get","resource":"cache/main/key/bob/1",` + office + `}`,
			`{"decision":"Deny","reason":"implicit_deny","statement":null}`},
		{"a key", `{"principal":{"key":"` + key + `"},"action":"cache:Get","resource":"cache/main/key/` + key + `/1","context":{"cache:SourceIp":"10.1.2.3","jwt:sub":"` + key + `"}}`,
			`{"decision":"Allow","reason":"identity_policy","policy":"own","statement":0,"sid":"Own"}`},
		{"from outside", `{"principal":{"role":"own"},"action":"cache:Get","resource":"cache/main/key/ann/1","context":{"cache:SourceIp":"192.0.2.1","jwt:sub":"ann"}}`,
			`{"decision":"Deny","reason":"explicit_deny","policy":"own","statement":1,"sid":"Office"}`},
		{"a fact that cannot be read", `{"principal":{"role":"own"},"action":"cache:Get","resource":"cache/main/key/ann/1","context":{"cache:SourceIp":"here","jwt:sub":"ann"}}`,
			`{"decision":"Deny","reason":"error","statement":null,"error":"statement 1 of policy \"own\": cache:SourceIp is not an IP address"}`},
		{"documents nobody wrote", `{"principal":{"policies":[{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}]},"action":"iam:CreateKey","resource":"key/x"}`,
			`{"decision":"Allow","reason":"identity_policy","policy":"policies[0]","statement":0}`},
		{"an operator's action", `{"principal":{"role":"owner"},"action":"admin:DeleteTenant","resource":"tenant/x"}`,
			`{"decision":"Deny","reason":"implicit_deny","statement":null}`},
		{"another tenant", `{"principal":{"role":"owner"},"action":"cache:Get","resource":"arn:cache:cache:local:other:cache/main/key/x"}`,
			`{"decision":"Deny","reason":"implicit_deny_cross_tenant","statement":null}`},
		{"numbers, booleans and lists", `{"principal":{"policies":[{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cache:Set","Resource":"*","Condition":{
			"NumericLessThan":{"cache:ValueSize":"100"},"Bool":{"cache:SecureTransport":"true"},"ForAnyValue:StringEquals":{"jwt:scope":"write"}}}]}]},
			"action":"cache:Set","resource":"cache/main/key/x","context":{"cache:ValueSize":99,"cache:SecureTransport":true,"jwt:scope":["read","write"]}}`,
			`{"decision":"Allow","reason":"identity_policy","policy":"policies[0]","statement":0}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.do(t, "POST", "/v1/policies/simulate", tt.request).want(t, 200).json(t, tt.want)
		})
	}
	const rest = `,"action":"cache:Get","resource":"cache/main"}`
	refuses(t, c, []refusal{
		{"nobody", "POST", "/v1/policies/simulate", `{"action":"cache:Get","resource":"cache/main"}`, 400, "invalid_argument", "principal", nil},
		{"two at once", "POST", "/v1/policies/simulate", `{"principal":{"role":"owner","key":"x"}` + rest, 400, "invalid_argument", "principal", nil},
		{"no documents", "POST", "/v1/policies/simulate", `{"principal":{"policies":[]}` + rest, 400, "invalid_argument", "principal.policies", []string{"20"}},
		{"a bad document", "POST", "/v1/policies/simulate", `{"principal":{"policies":[{}]}` + rest, 400, "invalid_argument", "principal.policies[0]", []string{"MalformedPolicy"}},
		{"no such role", "POST", "/v1/policies/simulate", `{"principal":{"role":"none"}` + rest, 404, "not_found", "principal.role", nil},
		{"no such key", "POST", "/v1/policies/simulate", `{"principal":{"key":"none"}` + rest, 404, "not_found", "id", nil},
		{"no such action", "POST", "/v1/policies/simulate", `{"principal":{"role":"owner"},"action":"cache:Fly","resource":"cache/main"}`, 400, "invalid_argument", "action", []string{"cache:Fly"}},
		{"no such resource", "POST", "/v1/policies/simulate", `{"principal":{"role":"owner"},"action":"cache:Get","resource":"moon/1"}`, 400, "invalid_argument", "resource", nil},
		{"half a name", "POST", "/v1/policies/simulate", `{"principal":{"role":"owner"},"action":"cache:Get","resource":"arn:cache:x"}`, 400, "invalid_argument", "resource", nil},
		{"no such fact", "POST", "/v1/policies/simulate", `{"principal":{"role":"owner"},"action":"cache:Get","resource":"cache/main","context":{"cache:Mood":"good"}}`, 400, "invalid_argument", "context.cache:Mood", nil},
		{"a list for one value", "POST", "/v1/policies/simulate", `{"principal":{"role":"owner"},"action":"cache:Get","resource":"cache/main","context":{"jwt:sub":["a"]}}`, 400, "invalid_argument", "context.jwt:sub", []string{"string"}},
		{"an object for a value", "POST", "/v1/policies/simulate", `{"principal":{"role":"owner"},"action":"cache:Get","resource":"cache/main","context":{"jwt:sub":{}}}`, 400, "invalid_argument", "context.jwt:sub", nil},
	})
}

func TestTokens(t *testing.T) {
	c := newTenant(t)
	maker := c.do(t, "GET", "/v1/whoami", nil).text(t, "id")
	narrow := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cache:Get","Resource":"arn:cache:cache:*:` + c.tenant + `:cache/main/key/${jwt:sub}"}]}`
	made := c.do(t, "POST", "/v1/tokens", `{"ttl":"10m","subject":"ann","scopes":["b","a"],"policy":`+narrow+`}`).want(t, 201)
	id := made.text(t, "id")
	shown := fmt.Sprintf(`{"id":%q,"subject":"ann","maker":%q,"use":"data","scopes":["a","b"],"policy":%s,"issued_at":%q,"expires_at":%q}`, id, maker, narrow, c.clock.after(0), c.clock.after(10*time.Minute))
	c.do(t, "GET", "/v1/tokens/"+id, nil).want(t, 200).json(t, shown)
	ann := c.with(made.text(t, "token"))
	ann.do(t, "GET", "/v1/caches/main/kv/ann", nil).want(t, 404)
	ann.do(t, "GET", "/v1/caches/main/kv/bob", nil).problem(t, 403, "denied", "")
	ann.do(t, "PUT", "/v1/caches/main/kv/ann", "1").problem(t, 403, "denied", "")
	if a := c.do(t, "GET", "/v1/tokens/"+id, nil); bytes.Contains(a.body, []byte(ann.credential)) {
		t.Errorf("the text is shown again: %s", a.body)
	}

	mint := func(body string) (caller, string) {
		t.Helper()
		a := c.do(t, "POST", "/v1/tokens", body).want(t, 201)
		return c.with(a.text(t, "token")), a.text(t, "id")
	}
	alive := func(who caller, want bool) {
		t.Helper()
		if a := who.straight(t, "GET", "/v1/whoami", nil); (a.status == 200) != want {
			t.Errorf("a token: %d %s", a.status, a.body)
		}
	}
	c.do(t, "DELETE", "/v1/tokens/"+id, nil).want(t, 204)
	alive(ann, false)
	c.do(t, "GET", "/v1/tokens/"+id, nil).problem(t, 404, "not_found", "id")
	c.do(t, "DELETE", "/v1/tokens/"+id, nil).problem(t, 404, "not_found", "id")

	bob, _ := mint(`{"subject":"bob"}`)
	eve, _ := mint(`{"subject":"eve"}`)
	c.do(t, "POST", "/v1/tokens/revoke", `{"subject":"bob"}`).want(t, 204)
	alive(bob, false)
	alive(eve, true)
	c.do(t, "POST", "/v1/tokens/revoke", fmt.Sprintf(`{"maker":%q,"before":%q}`, maker, c.clock.after(-time.Second))).want(t, 204)
	alive(eve, true)
	c.do(t, "POST", "/v1/tokens/revoke", fmt.Sprintf(`{"maker":%q}`, maker)).want(t, 204)
	alive(eve, false)
	other := c.withRole(t, "owner")
	otherToken := c.with(other.do(t, "POST", "/v1/tokens", `{}`).want(t, 201).text(t, "token"))
	alive(otherToken, true)
	c.do(t, "POST", "/v1/tokens/revoke", `{"all":true}`).want(t, 204)
	alive(otherToken, false)
	c.clock.advance(time.Second)
	again, _ := mint(`{"subject":"bob"}`)
	alive(again, true)
	c.clock.advance(16 * time.Minute) // beyond the default life and its leeway
	alive(again, false)

	for range 5 {
		mint(`{}`)
	}
	if all := pages(t, c, "/v1/tokens", "tokens", "id", 2); len(all) != 5 {
		t.Errorf("%d tokens are listed", len(all))
	}
	newOperator(t).do(t, "POST", "/v1/tokens", `{}`).problem(t, 403, "denied", "")
	refuses(t, c, []refusal{
		{"too long a life", "POST", "/v1/tokens", `{"ttl":"26h"}`, 400, "out_of_range", "ttl", []string{"25h"}},
		{"too short a life", "POST", "/v1/tokens", `{"ttl":"1ms"}`, 400, "out_of_range", "ttl", nil},
		{"no life", "POST", "/v1/tokens", `{"ttl":"0s"}`, 400, "out_of_range", "ttl", nil},
		{"another use", "POST", "/v1/tokens", `{"use":"refresh"}`, 400, "invalid_argument", "use", []string{"data", "manage"}},
		{"a scope of two words", "POST", "/v1/tokens", `{"scopes":["a b"]}`, 400, "invalid_argument", "scopes", nil},
		{"65 scopes", "POST", "/v1/tokens", `{"scopes":["` + strings.Repeat(`a","`, 64) + `a"]}`, 400, "invalid_argument", "scopes", []string{"64"}},
		{"a long subject", "POST", "/v1/tokens", `{"subject":"` + strings.Repeat("s", 5000) + `"}`, 400, "invalid_argument", "subject", []string{"5000"}},
		{"a bad policy", "POST", "/v1/tokens", `{"policy":{"Statement":[]}}`, 400, "invalid_argument", "policy", []string{"MalformedPolicy"}},
		{"a policy that is null", "POST", "/v1/tokens", `{"policy":null}`, 400, "invalid_argument", "policy", []string{"MalformedPolicy"}},
		{"21 statements", "POST", "/v1/tokens", `{"policy":{"Version":"2012-10-17","Statement":[` + strings.TrimSuffix(strings.Repeat(`{"Effect":"Allow","Action":"cache:Get","Resource":"*"},`, 21), ",") + `]}}`, 400, "invalid_argument", "policy", []string{"20"}},
		{"revoking nothing", "POST", "/v1/tokens/revoke", `{}`, 400, "invalid_argument", "subject", nil},
		{"revoking all but", "POST", "/v1/tokens/revoke", `{"all":true,"subject":"x"}`, 400, "invalid_argument", "subject", nil},
		{"revoking the future", "POST", "/v1/tokens/revoke", `{"all":true,"before":"2999-01-01T00:00:00Z"}`, 400, "out_of_range", "before", nil},
		{"revoking no time", "POST", "/v1/tokens/revoke", `{"all":true,"before":"then"}`, 400, "invalid_argument", "before", nil},
		{"revoking of no key", "POST", "/v1/tokens/revoke", `{"maker":"somebody"}`, 400, "invalid_argument", "maker", nil},
	})
}

func TestTenants(t *testing.T) {
	op := newOperator(t)
	name := op.fresh("acme")
	made := op.do(t, "POST", "/v1/tenants", `{"name":"`+name+`","description":"first","limits":{"caches":2,"memory_bytes":3000000000},"cors_origins":["https://app.example.com"]}`).want(t, 201)
	body := made.object(t)
	first := caller{harness: op.harness, tenant: name, credential: made.text(t, "api_key")}
	if tenant := body["tenant"].(map[string]any); tenant["name"] != name || tenant["status"] != "active" || made.header.Get("Location") != "/v1/tenants/"+name {
		t.Errorf("made: %s", made.body)
	}
	op.do(t, "POST", "/v1/tenants", `{"name":"`+name+`"}`).problem(t, 409, "conflict", "")

	// A new tenant can be used at once, within its limits.
	for _, cache := range []string{"one", "two"} {
		first.do(t, "POST", "/v1/caches", `{"name":"`+cache+`"}`).want(t, 201)
	}
	first.do(t, "PUT", "/v1/caches/one/kv/k", "canary").want(t, 201)
	first.do(t, "POST", "/v1/caches", `{"name":"three"}`).problem(t, 409, "conflict", "").detail(t, "2 caches")
	first.do(t, "PATCH", "/v1/caches/one", `{"memory_limit_bytes":2500000000}`).problem(t, 400, "out_of_range", "memory_limit_bytes").detail(t, "3000000000")
	op.do(t, "PATCH", "/v1/tenants/"+name, `{"limits":{"caches":3,"memory_bytes":4000000000}}`).want(t, 200)
	first.do(t, "POST", "/v1/caches", `{"name":"three"}`).want(t, 201)

	// Suspended, none of its credentials is honoured; nothing is lost.
	op.do(t, "PATCH", "/v1/tenants/"+name, `{"status":"suspended"}`).want(t, 200)
	first.do(t, "GET", "/v1/caches/one/kv/k", nil).problem(t, 403, "denied", "").detail(t, "suspended")
	op.do(t, "PATCH", "/v1/tenants/"+name, `{"status":"active"}`).want(t, 200)
	first.do(t, "GET", "/v1/caches/one/kv/k", nil).want(t, 200)

	// A guardrail binds the owner too.
	op.do(t, "PATCH", "/v1/tenants/"+name, `{"guardrails":[{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"cache:Flush","Resource":"*"}]}]}`).want(t, 200)
	first.do(t, "POST", "/v1/caches/one/flush", nil).problem(t, 403, "denied", "")
	op.do(t, "PATCH", "/v1/tenants/"+name, `{"guardrails":[]}`).want(t, 200)

	// An operator makes a key for a tenant that has lost its own.
	lost := op.do(t, "POST", "/v1/tenants/"+name+"/keys", nil).want(t, 201)
	second := first.with(lost.text(t, "api_key"))
	if who := second.do(t, "GET", "/v1/whoami", nil).object(t); who["role"] != "owner" || who["name"] != "owner" || who["tenant"] != name {
		t.Errorf("the key opens as %v", who)
	}

	// Deleted, its keys are dead and its caches gone, and the next of its name finds nothing.
	before, _ := op.accounts.Get(name)
	op.do(t, "DELETE", "/v1/tenants/"+name, nil).want(t, 204)
	op.do(t, "GET", "/v1/tenants/"+name, nil).problem(t, 404, "not_found", "tenant")
	op.do(t, "DELETE", "/v1/tenants/"+name, nil).problem(t, 404, "not_found", "tenant")
	for _, k := range []caller{first, second} {
		k.straight(t, "GET", "/v1/whoami", nil).problem(t, 401, "unauthenticated", "")
	}
	made = op.do(t, "POST", "/v1/tenants", `{"name":"`+name+`"}`).want(t, 201)
	after, _ := op.accounts.Get(name)
	if before.ID == after.ID || len(after.CORSOrigins) > 0 || after.Limits != (tenants.Limits{}) {
		t.Errorf("made again: %+v", after)
	}
	anew := first.with(made.text(t, "api_key"))
	if all := pages(t, anew, "/v1/caches", "caches", "name", 10); len(all) != 0 {
		t.Errorf("it has the caches %v", all)
	}
	anew.do(t, "POST", "/v1/caches", `{"name":"one"}`).want(t, 201)
	anew.do(t, "GET", "/v1/caches/one/kv/k", nil).want(t, 404)
	for _, k := range []caller{first, second} {
		k.straight(t, "GET", "/v1/whoami", nil).problem(t, 401, "unauthenticated", "")
	}
	if all := pages(t, op, "/v1/tenants", "tenants", "name", 2); !strings.Contains(fmt.Sprint(all), name+" ") {
		t.Errorf("tenants: %v", all)
	}

	refuses(t, op, []refusal{
		{"no name", "POST", "/v1/tenants", `{}`, 400, "invalid_argument", "name", []string{"3 to 63"}},
		{"a short name", "POST", "/v1/tenants", `{"name":"ab"}`, 400, "invalid_argument", "name", nil},
		{"capitals", "POST", "/v1/tenants", `{"name":"Acme"}`, 400, "invalid_argument", "name", nil},
		{"the operators' own", "POST", "/v1/tenants", `{"name":"system"}`, 409, "conflict", "", nil},
		{"a long description", "POST", "/v1/tenants", `{"name":"acme","description":"` + strings.Repeat("x", 1025) + `"}`, 400, "invalid_argument", "description", []string{"1024"}},
		{"a negative limit", "POST", "/v1/tenants", `{"name":"acme","limits":{"caches":-1}}`, 400, "out_of_range", "limits.caches", nil},
		{"an origin with a path", "POST", "/v1/tenants", `{"name":"acme","cors_origins":["*","https://a.example/"]}`, 400, "invalid_argument", "cors_origins[1]", nil},
		{"101 origins", "POST", "/v1/tenants", `{"name":"acme","cors_origins":["` + strings.Repeat(`*","`, 100) + `*"]}`, 400, "invalid_argument", "cors_origins", []string{"100", "101"}},
		{"a guardrail that is none", "POST", "/v1/tenants", `{"name":"acme","guardrails":[{}]}`, 400, "invalid_argument", "guardrails[0]", []string{"MalformedPolicy"}},
		{"an id of its own", "POST", "/v1/tenants", `{"name":"acme","id":"1"}`, 400, "invalid_argument", "id", nil},
		{"no status", "PATCH", "/v1/tenants/" + name, `{"status":"gone"}`, 400, "invalid_argument", "status", []string{"active", "suspended"}},
		{"another name", "PATCH", "/v1/tenants/" + name, `{"name":"other"}`, 400, "invalid_argument", "name", nil},
		{"nobody", "PATCH", "/v1/tenants/nobody", `{"status":"active"}`, 404, "not_found", "tenant", nil},
		{"nobody's key", "POST", "/v1/tenants/nobody/keys", nil, 404, "not_found", "tenant", nil},
		{"suspending the operators", "PATCH", "/v1/tenants/system", `{"status":"suspended"}`, 409, "conflict", "", []string{"system"}},
		{"binding the operators", "PATCH", "/v1/tenants/system", `{"guardrails":[{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}]}`, 409, "conflict", "", nil},
		{"deleting the operators", "DELETE", "/v1/tenants/system", nil, 409, "conflict", "", nil},
		{"an owner of the operators", "POST", "/v1/tenants/system/keys", nil, 409, "conflict", "tenant", nil},
	})
	op.do(t, "GET", "/v1/whoami", nil).want(t, 200)
}

// The operators' rights can be shared out, and none of them opens a tenant's data.
func TestOperatorsRights(t *testing.T) {
	op, c := newOperator(t), newTenant(t)
	c.do(t, "PUT", "/v1/caches/main/kv/k", "canary").want(t, 201)
	quota := op.allowing(t, "admin:SetQuota", "admin:ReadCluster")
	quota.do(t, "PATCH", "/v1/tenants/"+c.tenant, `{"limits":{"caches":5}}`).want(t, 200)
	quota.do(t, "PATCH", "/v1/tenants/"+c.tenant, `{"status":"suspended"}`).problem(t, 403, "denied", "")
	quota.do(t, "PATCH", "/v1/tenants/"+c.tenant, `{"limits":{},"cors_origins":["*"]}`).problem(t, 403, "denied", "")
	quota.do(t, "DELETE", "/v1/tenants/"+c.tenant, nil).problem(t, 403, "denied", "")
	quota.do(t, "POST", "/v1/tenants/"+c.tenant+"/keys", nil).problem(t, 403, "denied", "")
	everything := op.allowing(t, "*")
	for _, path := range []string{"/v1/caches/main/kv/k", "/v1/caches/main/kv"} {
		if a := everything.do(t, "GET", path, nil); a.status == 200 || bytes.Contains(a.body, []byte("canary")) {
			t.Errorf("an operator reads %d %s", a.status, a.body)
		}
	}
	everything.do(t, "POST", "/v1/caches", `{"name":"mine"}`).problem(t, 403, "denied", "")

	// A tenant's own key is told the same of a tenant that is there and of one that is not.
	strip := func(a answer) string { return string(changing.ReplaceAll(a.body, nil)) }
	for _, m := range []string{"GET", "DELETE", "PATCH"} {
		var body any
		if m == "PATCH" {
			body = `{"status":"active"}`
		}
		there, gone := c.do(t, m, "/v1/tenants/"+c.tenant, body).want(t, 403), c.do(t, m, "/v1/tenants/nobody", body).want(t, 403)
		if strings.ReplaceAll(strip(there), c.tenant, "nobody") != strip(gone) {
			t.Errorf("%s: %s, but %s", m, there.body, gone.body)
		}
	}

	cluster := op.do(t, "GET", "/v1/cluster", nil).want(t, 200)
	if bytes.Contains(cluster.body, []byte("seed")) {
		t.Errorf("the cluster's secrets are shown: %s", cluster.body)
	}
	var shown Cluster
	cluster.decode(t, &shown)
	if len(shown.Nodes) != 1 || shown.Nodes[0].Name != "node-1" || len(shown.Partitions) != 4 || shown.Partitions[3].Replicas[0] != "node-1" || shown.ID == "" {
		t.Errorf("the cluster is %s", cluster.body)
	}
}

// What concerns nodes and partitions is refused where it makes no sense, and what was done is in the log.
func TestCluster(t *testing.T) {
	op := newOperator(t)
	const part = "/v1/cluster/partitions/1"
	refuses(t, op, []refusal{
		{"a node that never was there", "POST", "/v1/cluster/nodes/nobody/drain", nil, 404, "not_found", "", []string{"nobody"}},
		{"a drain of nobody ends", "DELETE", "/v1/cluster/nodes/nobody/drain", nil, 404, "not_found", "", []string{"nobody"}},
		{"forgetting who is there", "DELETE", "/v1/cluster/nodes/node-1", nil, 409, "conflict", "", []string{"node-1"}},
		{"a partition that is no number", "POST", "/v1/cluster/partitions/one/failover", `{"to":"node-1"}`, 404, "not_found", "partition", []string{"one"}},
		{"a partition beyond the last", "POST", "/v1/cluster/partitions/99/failover", `{}`, 404, "not_found", "partition", []string{"99"}},
		{"a move from nowhere", "POST", part + "/move", `{"to":"node-1"}`, 400, "invalid_argument", "from", nil},
		{"a move to nowhere", "POST", part + "/move", `{"from":"node-1"}`, 400, "invalid_argument", "to", nil},
		{"a move to a node that is not there", "POST", part + "/move", `{"from":"node-1","to":"node-9"}`, 404, "not_found", "to", []string{"node-9"}},
		{"a move to itself", "POST", part + "/move", `{"from":"node-1","to":"node-1"}`, 409, "conflict", "", []string{"partition 1"}},
		{"a failover to nobody", "POST", part + "/failover", `{}`, 409, "conflict", "", []string{"partition 1"}},
		{"giving up data that is there", "POST", part + "/abandon", `{"to":"node-1"}`, 409, "conflict", "", []string{"quorum"}},
		{"giving up without a node", "POST", part + "/abandon", `{}`, 400, "invalid_argument", "to", nil},
		{"too many events", "GET", "/v1/cluster/events?limit=1001", nil, 400, "out_of_range", "limit", []string{"1000"}},
	})
	op.do(t, "POST", part+"/failover", `{"to":"node-1"}`).want(t, 204)
	if err := op.place.Record(t.Context(), nil, "node-1", "was looked at"); err != nil {
		t.Fatal(err)
	}
	var events EventList
	op.do(t, "GET", "/v1/cluster/events?limit=1", nil).want(t, 200).decode(t, &events)
	if len(events.Events) != 1 || events.Events[0].What != "was looked at" || events.Events[0].Node != "node-1" || events.Events[0].Partition != nil || events.Events[0].At == "" {
		t.Errorf("the log is %+v", events)
	}
}

func TestSigningKeysRotate(t *testing.T) {
	op, c := newOperator(t), newTenant(t)
	before := c.with(c.do(t, "POST", "/v1/tokens", `{"ttl":"10h"}`).want(t, 201).text(t, "token"))
	c.clock.advance(time.Hour)
	op.do(t, "POST", "/v1/signing-keys/rotate", nil).want(t, 204)
	a := op.do(t, "POST", "/v1/signing-keys/rotate", nil).problem(t, 429, "throttled", "")
	if a.header.Get("Retry-After") != "300" {
		t.Errorf("Retry-After is %q", a.header.Get("Retry-After"))
	}
	after := c.with(c.do(t, "POST", "/v1/tokens", `{"ttl":"10h"}`).want(t, 201).text(t, "token"))
	for _, who := range []caller{before, after} {
		who.do(t, "GET", "/v1/whoami", nil).want(t, 200)
	}
	keys := c.with("").do(t, "GET", "/.well-known/jwks.json", nil).want(t, 200)
	if n := strings.Count(string(keys.body), `"kid"`); n < 3 || bytes.Contains(keys.body, []byte(`"d"`)) || keys.header.Get("Cache-Control") != "max-age=300" {
		t.Errorf("the published keys: %s %v", keys.body, keys.header)
	}
}

func TestCaches(t *testing.T) {
	c := newTenant(t)
	made := c.do(t, "POST", "/v1/caches", `{"name":"web","description":"d","memory_limit_bytes":1048576,"eviction_policy":"noeviction","notify_keyspace_events":"Ex","default_ttl":"90m","limits":{"units_per_second":1000},"tags":{"env":"prod"}}`).want(t, 201)
	id := made.text(t, "id")
	stamp := made.text(t, "created_at")
	want := `{"name":"web","id":"` + id + `","description":"d","memory_limit_bytes":1048576,"eviction_policy":"noeviction","max_value_bytes":1048576,"notify_keyspace_events":"xE","durability":"memory","default_ttl":"90m","consistency":"linearizable",
		"limits":{"units_per_second":1000,"bytes_per_second":0},"tags":{"env":"prod"},"created_at":"` + stamp + `","updated_at":"` + stamp + `","ranges":1`
	made.json(t, want+"}")
	c.do(t, "GET", "/v1/caches/web", nil).want(t, 200).json(t, want+`,"live":{"items":0,"memory_bytes":0,"hits":0,"misses":0,"expired":0,"evicted":0,"durability":"memory"}}`)
	c.do(t, "POST", "/v1/caches", `{"name":"web"}`).problem(t, 409, "conflict", "")

	c.do(t, "PUT", "/v1/caches/web/kv/k", "v").want(t, 201)
	c.do(t, "GET", "/v1/caches/web/kv/k", nil).want(t, 200)
	c.do(t, "GET", "/v1/caches/web/kv/absent", nil).want(t, 404)
	live := c.do(t, "GET", "/v1/caches/web", nil).object(t)["live"].(map[string]any)
	if live["items"] != 1.0 || live["hits"] != 1.0 || live["misses"] != 1.0 || live["memory_bytes"] == 0.0 {
		t.Errorf("live numbers: %v", live)
	}
	if ttl := c.do(t, "GET", "/v1/caches/web/kv/k/ttl", nil).object(t)["ttl_ms"]; ttl != 5400000.0 {
		t.Errorf("the default TTL gives %v", ttl)
	}

	// What is left out keeps its value; new settings reach the data at once.
	changed := c.do(t, "PATCH", "/v1/caches/web", `{"default_ttl":"","max_value_bytes":3,"tags":{}}`).want(t, 200).object(t)
	if changed["default_ttl"] != nil || changed["max_value_bytes"] != 3.0 || changed["tags"] != nil || changed["description"] != "d" || changed["id"] != id {
		t.Errorf("after the change: %v", changed)
	}
	c.do(t, "PUT", "/v1/caches/web/kv/big", "four").problem(t, 413, "too_large", "body").detail(t, "3 bytes")
	c.do(t, "PUT", "/v1/caches/web/kv/j", "v").want(t, 201)
	if ttl := c.do(t, "GET", "/v1/caches/web/kv/j/ttl", nil).object(t)["ttl_ms"]; ttl != nil {
		t.Errorf("without a default TTL: %v", ttl)
	}

	usage := c.do(t, "GET", "/v1/caches/web/usage", nil).want(t, 200).object(t)
	if usage["cache"] != "web" || usage["operations"].(float64) < 6 || usage["classes"].(map[string]any)["kv"] == nil {
		t.Errorf("usage: %v", usage)
	}
	if all := pages(t, c, "/v1/usage", "caches", "cache", 1); fmt.Sprint(all) != "[main web]" {
		t.Errorf("usage of %v", all)
	}
	if all := pages(t, c, "/v1/caches", "caches", "name", 1); fmt.Sprint(all) != "[main web]" {
		t.Errorf("caches %v", all)
	}
	for _, cursor := range []string{"..%2F..", "%00", "%FF%FF", "main%2F", "~"} { // a cursor leads nowhere but on
		page := c.do(t, "GET", "/v1/caches?cursor="+cursor, nil).want(t, 200)
		if n := strings.Count(string(page.body), `"id"`); n > 2 {
			t.Errorf("from the cursor %s: %s", cursor, page.body)
		}
	}

	c.do(t, "PUT", "/v1/caches/main/kv/k", "v").want(t, 201)
	c.do(t, "POST", "/v1/caches/web/flush", nil).want(t, 204)
	c.do(t, "GET", "/v1/caches/web/kv/k", nil).want(t, 404)
	c.do(t, "GET", "/v1/caches/main/kv/k", nil).want(t, 200)
	c.do(t, "PUT", "/v1/caches/web/kv/k", "v").want(t, 201)
	c.do(t, "DELETE", "/v1/caches/web", nil).want(t, 204)
	c.do(t, "GET", "/v1/caches/web/kv/k", nil).problem(t, 404, "not_found", "cache")
	c.do(t, "DELETE", "/v1/caches/web", nil).problem(t, 404, "not_found", "cache")
	if again := c.do(t, "POST", "/v1/caches", `{"name":"web"}`).want(t, 201).text(t, "id"); again == id {
		t.Error("a cache made anew has the id of the old one")
	}
	c.do(t, "GET", "/v1/caches/web/kv/k", nil).want(t, 404)
	if usage := c.do(t, "GET", "/v1/caches/web/usage", nil).object(t); usage["operations"] != 1.0 {
		t.Errorf("a cache made anew has used %v", usage)
	}

	const all = "/v1/caches"
	refuses(t, c, []refusal{
		{"no name", "POST", all, `{}`, 400, "invalid_argument", "name", []string{"1 to 63"}},
		{"a name with a slash", "POST", all, `{"name":"a/b"}`, 400, "invalid_argument", "name", nil},
		{"64 letters", "POST", all, `{"name":"` + strings.Repeat("a", 64) + `"}`, 400, "invalid_argument", "name", nil},
		{"too little memory", "POST", all, `{"name":"x","memory_limit_bytes":1048575}`, 400, "out_of_range", "memory_limit_bytes", []string{"1048576", "17592186044416", "1048575"}},
		{"too much memory", "POST", all, `{"name":"x","memory_limit_bytes":17592186044417}`, 400, "out_of_range", "memory_limit_bytes", nil},
		{"more memory than a number has", "POST", all, `{"name":"x","memory_limit_bytes":99999999999999999999}`, 400, "invalid_argument", "memory_limit_bytes", nil},
		{"memory in words", "POST", all, `{"name":"x","memory_limit_bytes":"1GiB"}`, 400, "invalid_argument", "memory_limit_bytes", nil},
		{"no such eviction", "POST", all, `{"name":"x","eviction_policy":"fifo"}`, 400, "invalid_argument", "eviction_policy", []string{"allkeys-adaptive"}},
		{"no values", "POST", all, `{"name":"x","max_value_bytes":0}`, 400, "out_of_range", "max_value_bytes", nil},
		{"values larger than the cache", "POST", all, `{"name":"x","memory_limit_bytes":1048576,"max_value_bytes":1048577}`, 400, "out_of_range", "max_value_bytes", []string{"1048576"}},
		{"values larger than any", "POST", all, `{"name":"x","max_value_bytes":536870913}`, 400, "out_of_range", "max_value_bytes", []string{"536870912"}},
		{"a TTL without a number", "POST", all, `{"name":"x","default_ttl":"soon"}`, 400, "invalid_argument", "default_ttl", nil},
		{"a TTL of nothing", "POST", all, `{"name":"x","default_ttl":"0s"}`, 400, "out_of_range", "default_ttl", nil},
		{"a negative limit", "POST", all, `{"name":"x","limits":{"units_per_second":-1}}`, 400, "out_of_range", "limits.units_per_second", nil},
		{"a limit of tenants", "POST", all, `{"name":"x","limits":{"caches":1}}`, 400, "invalid_argument", "limits.caches", nil},
		{"51 tags", "POST", all, tagged(51), 400, "invalid_argument", "tags", []string{"50", "51"}},
		{"an empty tag", "POST", all, `{"name":"x","tags":{"":"v"}}`, 400, "invalid_argument", "tags", nil},
		{"a long description", "PATCH", all + "/main", `{"description":"` + strings.Repeat("x", 1025) + `"}`, 400, "invalid_argument", "description", []string{"1024", "1025"}},
		{"another name", "PATCH", all + "/main", `{"name":"other"}`, 400, "invalid_argument", "name", nil},
		{"another id", "PATCH", all + "/main", `{"id":"1"}`, 400, "invalid_argument", "id", nil},
		{"no such cache", "PATCH", all + "/none", `{}`, 404, "not_found", "cache", nil},
		{"no such cache's usage", "GET", all + "/none/usage", nil, 404, "not_found", "cache", nil},
		{"a parameter", "GET", all + "/main?live=true", nil, 400, "invalid_argument", "live", nil},
		{"a form", "GET", all + "?limit=5;cursor=x", nil, 400, "invalid_argument", "query", nil},
	})
	c.do(t, "POST", all, `name: x`, "Content-Type", "application/yaml").problem(t, 415, "unsupported_media_type", "Content-Type")
}

func tagged(n int) string {
	tags := make([]string, n)
	for i := range tags {
		tags[i] = fmt.Sprintf(`"k%d":"v"`, i)
	}
	return `{"name":"x","tags":{` + strings.Join(tags, ",") + `}}`
}

// Policies on tags hold for managing a cache as they do for its data.
func TestTagsInPolicies(t *testing.T) {
	c := newTenant(t)
	c.newCache(t, tenants.Cache{Name: "prod", Tags: map[string]string{"Env": "prod"}})
	c.newCache(t, tenants.Cache{Name: "dev", Tags: map[string]string{"env": "dev"}})
	who := c.withPolicy(t, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},
		{"Effect":"Deny","Action":["cache:Set","cache:DeleteCache","cache:UpdateCache"],"Resource":"*","Condition":{"StringEquals":{"cache:ResourceTag/env":"prod"}}},
		{"Effect":"Deny","Action":"cache:TagCache","Resource":"*","Condition":{"StringEquals":{"cache:RequestTag/env":"prod"}}},
		{"Effect":"Deny","Action":"cache:TagCache","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"cache:TagKeys":"owner"}}}]}`)
	for _, r := range []struct {
		method, path, body string
		status             int
	}{
		{"PUT", "/v1/caches/prod/kv/x", "1", 403},
		{"PUT", "/v1/caches/dev/kv/x", "1", 201},
		{"PATCH", "/v1/caches/prod", `{}`, 403},
		{"PATCH", "/v1/caches/prod", `{"tags":{}}`, 403}, // it does not get rid of the tag either
		{"PATCH", "/v1/caches/dev", `{"description":"x"}`, 200},
		{"PATCH", "/v1/caches/dev", `{"tags":{"env":"prod"}}`, 403},
		{"PATCH", "/v1/caches/dev", `{"tags":{"owner":"me"}}`, 403},
		{"PATCH", "/v1/caches/dev", `{"tags":{"env":"dev","team":"a"}}`, 200},
		{"POST", "/v1/caches", `{"name":"next","tags":{"env":"prod"}}`, 403},
		{"POST", "/v1/caches", `{"name":"next","tags":{"env":"dev"}}`, 201},
		{"DELETE", "/v1/caches/prod", "", 403},
		{"DELETE", "/v1/caches/dev", "", 204},
	} {
		var body any
		if r.body != "" {
			body = r.body
		}
		if a := who.do(t, r.method, r.path, body); a.status != r.status {
			t.Errorf("%s %s: got %d, want %d: %s", a.request, r.body, a.status, r.status, a.body)
		}
	}
}

func TestCORS(t *testing.T) {
	op := newOperator(t)
	c, other := newTenant(t), newTenant(t)
	const mine, theirs = "https://app.example.com", "https://theirs.example.com:8443"
	list := func(who caller, origins string) {
		t.Helper()
		op.do(t, "PATCH", "/v1/tenants/"+who.tenant, `{"cors_origins":`+origins+`}`).want(t, 200)
	}
	preflight := func(origin string) answer {
		return c.with("").do(t, "OPTIONS", "/v1/caches/main/kv/k", nil, "Origin", origin, "Access-Control-Request-Method", "PUT", "Access-Control-Request-Headers", "authorization")
	}
	allowed := func(a answer) string { return a.header.Get("Access-Control-Allow-Origin") }

	if a := preflight(mine); allowed(a) != "" {
		t.Errorf("before anybody lists it: %v", a.header)
	}
	list(c, `["`+mine+`"]`)
	list(other, `["`+theirs+`"]`)
	for _, origin := range []string{mine, theirs} { // the question has no credential: it is answered for all tenants
		a := preflight(origin).want(t, http.StatusNoContent)
		h := a.header
		if allowed(a) != origin || h.Get("Vary") != "Origin" || !strings.Contains(h.Get("Access-Control-Allow-Methods"), "PUT") ||
			!strings.Contains(h.Get("Access-Control-Allow-Headers"), "Authorization") || h.Get("Access-Control-Max-Age") == "" {
			t.Errorf("the answer to %s: %v", origin, h)
		}
	}
	for _, origin := range []string{"https://evil.example.com", "null", "https://app.example.com.evil.example", "http://app.example.com", "https://app.example.com:444", "*", ""} {
		if a := preflight(origin); allowed(a) != "" {
			t.Errorf("%q is let in: %v", origin, a.header)
		}
		if a := c.do(t, "GET", "/v1/whoami", nil, "Origin", origin).want(t, 200); allowed(a) != "" {
			t.Errorf("%q may read: %v", origin, a.header)
		}
	}
	for _, tt := range []struct {
		name, path string
		status     int
	}{
		{"an answer", "/v1/whoami", 200},
		{"a problem", "/v1/caches/main/kv/none", 404},
	} {
		a := c.do(t, "GET", tt.path, nil, "Origin", mine).want(t, tt.status)
		if allowed(a) != mine || a.header.Get("Vary") != "Origin" || !strings.Contains(a.header.Get("Access-Control-Expose-Headers"), "ETag") {
			t.Errorf("%s: %v", tt.name, a.header)
		}
		if a := c.do(t, "GET", tt.path, nil, "Origin", theirs).want(t, tt.status); allowed(a) != "" {
			t.Errorf("%s, to another tenant's page: %v", tt.name, a.header)
		}
		if a := c.do(t, "GET", tt.path, nil).want(t, tt.status); allowed(a) != "" || a.header.Get("Vary") != "" {
			t.Errorf("%s, to no page: %v", tt.name, a.header)
		}
	}
	if a := c.with("").do(t, "GET", "/v1/whoami", nil, "Origin", mine).want(t, 401); allowed(a) != "" {
		t.Errorf("without a credential: %v", a.header)
	}
	if a := c.do(t, "GET", "/v1/whoami", nil, "Origin", mine, "Origin", theirs); allowed(a) != "" {
		t.Errorf("with two origins: %v", a.header)
	}
	list(other, `["*"]`)
	if a := other.do(t, "GET", "/v1/whoami", nil, "Origin", "https://anywhere.example"); allowed(a) != "https://anywhere.example" {
		t.Errorf("with *: %v", a.header)
	}
	if a := c.do(t, "GET", "/v1/whoami", nil, "Origin", "https://anywhere.example"); allowed(a) != "" {
		t.Errorf("with another tenant's *: %v", a.header)
	}
	for _, a := range []answer{preflight(mine), other.do(t, "GET", "/v1/whoami", nil, "Origin", mine)} {
		if a.header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("credentials are allowed: %v", a.header)
		}
	}
	list(other, `[]`)
	list(c, `[]`)
	if a := preflight(mine); allowed(a) != "" {
		t.Errorf("after everybody took it away: %v", a.header)
	}
}

// Every right that a route asks for is one that policies can speak of.
func TestOwnersHaveEveryRightOfTheirs(t *testing.T) {
	owner := newTenant(t)
	for _, name := range policy.Actions() {
		want := "Allow"
		resource := "cache/main"
		if strings.HasPrefix(name, "admin:") {
			want, resource = "Deny", "tenant/"+owner.tenant
		}
		got := owner.do(t, "POST", "/v1/policies/simulate", map[string]any{"principal": map[string]string{"role": "owner"}, "action": name, "resource": resource}).want(t, 200)
		if got.text(t, "decision") != want {
			t.Errorf("%s: %s", name, got.body)
		}
	}
}
