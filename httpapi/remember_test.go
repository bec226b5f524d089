package httpapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	stdjson "encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/tenants"
)

// keyed is do with an Idempotency-Key.
func (c caller) keyed(t testing.TB, key, method, path string, body any) answer {
	t.Helper()
	return c.do(t, method, path, body, "Idempotency-Key", key)
}

// first fails the test unless the answer is that of a request that was carried out.
func (a answer) first(t testing.TB) answer {
	t.Helper()
	if _, ok := a.header["Idempotency-Replayed"]; ok || a.status >= 300 {
		t.Fatalf("%s was not carried out: %d %v %s", a.request, a.status, a.header, a.body)
	}
	return a
}

// repeats fails the test unless the answer is a again, and says so.
func (a answer) repeats(t testing.TB, again answer) {
	t.Helper()
	if again.header.Get("Idempotency-Replayed") != "true" {
		t.Fatalf("%s was not replayed: %d %s", again.request, again.status, again.body)
	}
	left, right := a.header.Clone(), again.header.Clone()
	for _, own := range []string{"X-Request-Id", "Idempotency-Replayed", "Date"} { // of each exchange
		left.Del(own)
		right.Del(own)
	}
	if a.status != again.status || !bytes.Equal(a.body, again.body) || !reflect.DeepEqual(left, right) {
		t.Errorf("%s:\nfirst %d %v %s\n then %d %v %s", a.request, a.status, left, a.body, again.status, right, again.body)
	}
	if a.header.Get("X-Request-Id") == again.header.Get("X-Request-Id") {
		t.Errorf("%s: two requests with one id", a.request)
	}
}

func (c caller) count(t testing.TB, path, member string) int {
	t.Helper()
	return len(pages(t.(*testing.T), c, path, member, map[string]string{"keys": "id", "roles": "name"}[member], 100))
}

// noteName is where a request of the caller's with this key is noted.
func (c caller) noteName(t testing.TB, key string) string {
	t.Helper()
	tenant, ok := c.accounts.Get(c.tenant)
	if !ok {
		t.Fatalf("no tenant %s", c.tenant)
	}
	id := digest([]byte(c.do(t, "GET", "/v1/whoami", nil).want(t, 200).text(t, "id")), []byte(key))
	return string(tenant.ID) + "/" + hex.EncodeToString(id[:])
}

func TestManagementIsDoneOnce(t *testing.T) {
	c := newTenant(t)
	const body = `{"name":"web","role":"read-only"}`
	made := c.keyed(t, "k", "POST", "/v1/keys", body).want(t, 201).first(t)
	if made.header.Get("Location") == "" {
		t.Errorf("no Location: %v", made.header)
	}
	for range 2 {
		made.repeats(t, c.keyed(t, "k", "POST", "/v1/keys", body))
	}
	c.with(made.text(t, "api_key")).do(t, "GET", "/v1/whoami", nil).want(t, 200)

	// Another request with this key is a mistake, and told so in the words of the engine.
	reused := c.keyed(t, "k", "POST", "/v1/keys", `{"name":"web","role":"owner"}`).problem(t, 422, "idempotency_key_reused", "")
	c.keyed(t, "k", "POST", "/v1/roles", body).problem(t, 422, "idempotency_key_reused", "")
	c.keyed(t, "k", "POST", "/v1/keys?x=1", body).problem(t, 422, "idempotency_key_reused", "")
	c.keyed(t, "k", "DELETE", "/v1/keys/"+made.text(t, "id"), nil).problem(t, 422, "idempotency_key_reused", "")
	c.keyed(t, "data", "PUT", "/v1/caches/main/counters/n", `{"value":1}`).want(t, 200)
	data := c.keyed(t, "data", "PUT", "/v1/caches/main/counters/n", `{"value":2}`).problem(t, 422, "idempotency_key_reused", "")
	if reused.text(t, "detail") != data.text(t, "detail") {
		t.Errorf("management says %q, data %q", reused.text(t, "detail"), data.text(t, "detail"))
	}

	// Whose key it is belongs to it: another principal's is another, in this tenant or elsewhere.
	for _, other := range []caller{c.withRole(t, "owner"), newTenant(t)} {
		if a := other.keyed(t, "k", "POST", "/v1/keys", body).want(t, 201).first(t); a.text(t, "api_key") == made.text(t, "api_key") {
			t.Error("two principals share an answer")
		}
	}
	c.keyed(t, "other", "POST", "/v1/keys", body).want(t, 201).first(t)
	made.repeats(t, c.keyed(t, "k", "POST", "/v1/keys", body))
	if n := c.count(t, "/v1/keys", "keys"); n != 5 { // two owners, two by c, one by the other owner
		t.Errorf("%d keys", n)
	}

	// The scheme may be written differently; it is the same credential.
	r := c.with("").do(t, "POST", "/v1/keys", body, "Idempotency-Key", "k", "Authorization", "bearer "+c.credential)
	made.repeats(t, r)
}

func TestWhatIsDeletedIsDeletedOnce(t *testing.T) {
	c := newTenant(t)
	id := c.do(t, "POST", "/v1/keys", `{"name":"web","role":"read-only"}`).want(t, 201).text(t, "id")
	gone := c.keyed(t, "k", "DELETE", "/v1/keys/"+id, nil).want(t, 204).first(t)
	gone.repeats(t, c.keyed(t, "k", "DELETE", "/v1/keys/"+id, nil))
	c.do(t, "DELETE", "/v1/keys/"+id, nil).problem(t, 404, "not_found", "id")
	c.keyed(t, "l", "DELETE", "/v1/keys/"+id, nil).problem(t, 404, "not_found", "id")
}

// A request that failed has changed nothing, so its key is good for another attempt, or for something else.
func TestAFailureIsNotRemembered(t *testing.T) {
	c := newTenant(t)
	const body = `{"name":"app","policies":["read-mine"]}`
	c.keyed(t, "k", "POST", "/v1/roles", body).problem(t, 400, "invalid_argument", "policies")
	if n, ok := c.api.Answers.notes.Get(c.noteName(t, "k")); ok {
		t.Errorf("a failure left %+v", n)
	}
	c.do(t, "PUT", "/v1/policies/read-mine", `{"document":{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cache:Get","Resource":"*"}]}}`).want(t, 201)
	made := c.keyed(t, "k", "POST", "/v1/roles", body).want(t, 201).first(t)
	made.repeats(t, c.keyed(t, "k", "POST", "/v1/roles", body))

	reader := c.withRole(t, "read-only")
	reader.keyed(t, "k", "POST", "/v1/keys", `{"name":"x","role":"owner"}`).problem(t, 403, "denied", "")
	reader.keyed(t, "k", "DELETE", "/v1/keys/x", nil).problem(t, 403, "denied", "")
	c.keyed(t, "bad", "POST", "/v1/keys", `{`).problem(t, 400, "invalid_argument", "body")
	c.keyed(t, "bad", "POST", "/v1/keys", `{"name":"x","role":"owner"}`).want(t, 201).first(t)
}

// Of any number of requests at once one is carried out. The others get its answer or are told to wait for it.
func TestManyAtOnceAreDoneOnce(t *testing.T) {
	c := newTenant(t)
	answers := make([]answer, 20)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() { answers[i] = c.keyed(t, "k", "POST", "/v1/keys", `{"name":"web","role":"read-only"}`) })
	}
	all.Wait()
	text, carriedOut := "", 0
	for _, a := range answers {
		switch {
		case a.status == 409:
			a.problem(t, 409, "conflict", "Idempotency-Key").detail(t, "is being carried out")
			continue
		case a.want(t, 201).header.Get("Idempotency-Replayed") == "":
			carriedOut++
		}
		if text == "" {
			text = a.text(t, "api_key")
		}
		if a.text(t, "api_key") != text {
			t.Errorf("two keys: %s", a.body)
		}
	}
	if n := c.count(t, "/v1/keys", "keys"); n != 2 || carriedOut != 1 {
		t.Errorf("%d keys, %d requests carried out", n, carriedOut)
	}
}

// A note without an answer is one of a request that is under way, or that died: nobody knows what it did.
func TestWhatIsPending(t *testing.T) {
	c := newTenant(t)
	const body = `{"name":"web","role":"read-only"}`
	x := &exchange{Context: c.api.echo.NewContext(httptest.NewRequest("POST", "/v1/keys", nil), nil), body: []byte(body)}
	x.Request().Header.Set("Content-Type", "application/json")
	print := x.fingerprint()
	pending := &note{Fingerprint: hex.EncodeToString(print[:]), Salt: "of a process that died", CreatedAt: c.clock.time()}
	if err := c.api.Answers.notes.Create(t.Context(), c.noteName(t, "k"), pending); err != nil {
		t.Fatal(err)
	}
	ask := func() answer {
		return c.straight(t, "POST", "/v1/keys", body, "Idempotency-Key", "k")
	}
	ask().problem(t, 409, "conflict", "Idempotency-Key").detail(t, "is being carried out")
	c.clock.advance(underWay - time.Millisecond)
	ask().problem(t, 409, "conflict", "Idempotency-Key")
	c.clock.advance(time.Millisecond)
	ask().problem(t, 504, "outcome_unknown", "Idempotency-Key").detail(t, "look", "another key")
	c.keyed(t, "k", "POST", "/v1/keys", `{"name":"other","role":"read-only"}`).problem(t, 422, "idempotency_key_reused", "")
	if n := c.count(t, "/v1/keys", "keys"); n != 1 {
		t.Errorf("%d keys", n)
	}
	c.clock.advance(engine.OnceWindow)
	c.keyed(t, "k", "POST", "/v1/keys", body).want(t, 201).first(t)
}

func TestWhatIsRememberedExpires(t *testing.T) {
	c := newTenant(t)
	const body = `{"name":"web","role":"read-only"}`
	made := c.keyed(t, "k", "POST", "/v1/keys", body).want(t, 201).first(t)
	c.clock.advance(engine.OnceWindow - time.Millisecond)
	made.repeats(t, c.keyed(t, "k", "POST", "/v1/keys", body))
	if err := c.api.Answers.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	made.repeats(t, c.keyed(t, "k", "POST", "/v1/keys", body))
	c.clock.advance(time.Millisecond)
	again := c.keyed(t, "k", "POST", "/v1/keys", body).want(t, 201).first(t) // before a sweep
	if again.text(t, "id") == made.text(t, "id") {
		t.Error("an old answer came again")
	}
	if err := c.api.Answers.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	again.repeats(t, c.keyed(t, "k", "POST", "/v1/keys", body))
	c.clock.advance(engine.OnceWindow)
	if err := c.api.Answers.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := c.api.Answers.m.List(records.Root+notesPath+"/", "", 0); len(left) != 0 || len(c.api.Answers.room) != 0 {
		t.Errorf("after the sweep there are %d notes, and room is taken by %v", len(left), c.api.Answers.room)
	}
	c.keyed(t, "k", "DELETE", "/v1/keys/"+again.text(t, "id"), nil).want(t, 204).first(t)
}

// Every route that manages is done once, and no other heeds the key in this way: what changes data has the
// engine for it, and what reads has no need.
func TestEveryManagementRouteIsDoneOnce(t *testing.T) {
	owner, operator := newTenant(t), newOperator(t)
	mine, _ := estate(t, owner, "mine", "robin")
	theirs := phantoms(owner.harness, "main")
	if _, err := owner.accounts.Create(t.Context(), tenants.Tenant{Name: theirs.Tenant}); err != nil {
		t.Fatal(err)
	}
	routes := owner.api.routes()
	slices.SortStableFunc(routes, func(a, b route) int { // what removes things comes last
		return strings.Compare(strings.TrimLeft(a.method, "GHP"), strings.TrimLeft(b.method, "GHP"))
	})
	slices.SortStableFunc(routes, func(a, b route) int { return bool2int(a.method == "DELETE") - bool2int(b.method == "DELETE") })
	slices.SortStableFunc(routes, func(a, b route) int { // what is in a cache goes before the cache
		if a.method != "DELETE" || b.method != "DELETE" {
			return 0
		}
		return strings.Count(b.path, "/") - strings.Count(a.path, "/")
	})
	done := map[string]bool{}
	for i, r := range routes {
		name := r.method + " " + r.path
		for _, try := range []struct {
			caller
			objects
		}{{owner, mine}, {operator, theirs}} {
			if name == "POST /v1/caches" {
				try.Cache = try.fresh("cache")
			}
			if name == "POST /v1/tenants" {
				try.Tenant = try.fresh("tenant")
			}
			path, body := sampleOf(t, r, try.objects)
			key := fmt.Sprint("key-", i)
			first := try.straight(t, r.method, path, body, "Idempotency-Key", key)
			for began := time.Now(); strings.HasSuffix(r.path, "/branches") && (first.status == http.StatusTooManyRequests || first.status == http.StatusConflict) && time.Since(began) < 30*time.Second; {
				time.Sleep(10 * time.Millisecond) // the node works on as many snapshots as it may, which routes before this one began
				key += "."
				first = try.straight(t, r.method, path, body, "Idempotency-Key", key)
			}
			again := try.straight(t, r.method, path, body, "Idempotency-Key", key)
			switch _, replayed := again.header["Idempotency-Replayed"]; {
			case !r.manage: // is the engine's: see its tests
			case r.method == "GET" || r.path == "/v1/policies/simulate", first.status >= 300:
				if replayed {
					t.Errorf("%s: replayed a %d: %s", name, first.status, again.body)
				}
			default:
				first.repeats(t, again)
				done[name] = true
			}
		}
		if r.open {
			continue
		}
		path, body := sampleOf(t, r, mine)
		owner.with("").straight(t, r.method, path, body, "Idempotency-Key", "k").want(t, http.StatusUnauthorized) // no caller, no panic
	}
	for _, r := range routes {
		name := r.method + " " + r.path
		switch name {
		case "DELETE /v1/roles/:name", "DELETE /v1/policies/:name": // are in use here
			continue
		case "POST /v1/cluster/nodes/:node/drain", "DELETE /v1/cluster/nodes/:node/drain", "DELETE /v1/cluster/nodes/:node", "POST /v1/cluster/partitions/:partition/move",
			"POST /v1/cluster/partitions/:partition/failover", "POST /v1/cluster/partitions/:partition/abandon": // there is one node here, and it stays
			continue
		case "POST /v1/signing-keys/rotate": // at most every five minutes, and other tests do it
			continue
		}
		if r.manage && r.method != "GET" && !r.reads && !r.long && !done[name] {
			t.Errorf("%s was not seen to be done once", name)
		}
	}
	if len(done) < 15 {
		t.Errorf("only %v", slices.Sorted(maps.Keys(done)))
	}
}

func bool2int(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestBadIdempotencyKeys(t *testing.T) {
	c := newTenant(t)
	for _, r := range c.api.routes() {
		if !r.manage || r.method == "GET" || r.reads || r.long {
			continue
		}
		path, body := sampleOf(t, r, phantoms(c.harness, "main"))
		for name, headers := range map[string][]string{
			"empty": {"Idempotency-Key", ""},
			"long":  {"Idempotency-Key", strings.Repeat("x", maxIdempotencyKey+1)},
			"two":   {"Idempotency-Key", "a", "Idempotency-Key", "b"},
		} {
			c.straight(t, r.method, path, body, headers...).problem(t, 400, "invalid_argument", "Idempotency-Key").detail(t, "255")
			if t.Failed() {
				t.Fatalf("%s: %s", name, r.path)
			}
		}
	}
	longest := strings.Repeat("x", maxIdempotencyKey)
	made := c.keyed(t, longest, "POST", "/v1/keys", `{"name":"web","role":"read-only"}`).want(t, 201).first(t)
	made.repeats(t, c.keyed(t, longest, "POST", "/v1/keys", `{"name":"web","role":"read-only"}`))
}

// What is stored tells nothing of keys and tokens, nor of what opens it.
func TestNoSecretIsRemembered(t *testing.T) {
	c, operator := newTenant(t), newOperator(t)
	secrets := []string{"an-idempotency-key", c.credential, operator.credential}
	kept := 0
	for i, r := range []struct {
		who                          caller
		method, path, body, secretIn string
	}{
		{c, "POST", "/v1/keys", `{"name":"web","role":"read-only"}`, "api_key"},
		{c, "POST", "/v1/keys/ID/rotate", `{"grace":"1h"}`, "api_key"},
		{c, "POST", "/v1/tokens", `{"subject":"ann"}`, "token"},
		{operator, "POST", "/v1/tenants", `{"name":"` + c.fresh("tenant") + `"}`, "api_key"},
		{operator, "POST", "/v1/tenants/" + c.tenant + "/keys", ``, "api_key"},
	} {
		if strings.Contains(r.path, "ID") {
			id := c.do(t, "POST", "/v1/keys", `{"name":"web","role":"read-only"}`).want(t, 201).text(t, "id")
			r.path = strings.Replace(r.path, "ID", id, 1)
		}
		key := fmt.Sprint("an-idempotency-key-", i)
		a := r.who.keyed(t, key, r.method, r.path, r.body).want(t, 201).first(t)
		a.repeats(t, r.who.keyed(t, key, r.method, r.path, r.body))
		secret := a.text(t, r.secretIn)
		secrets = append(secrets, secret, secret[len(secret)-20:])
	}
	for _, r := range c.api.Answers.m.List(records.Root, "", 0) {
		texts := []string{r.Key, string(r.Value)}
		if strings.HasPrefix(r.Key, records.Root+notesPath+"/") {
			var n note
			if err := stdjson.Unmarshal(r.Value, &n); err != nil || !n.Done || len(n.Sealed) == 0 {
				continue
			}
			kept++
			texts = append(texts, string(n.Sealed))
		}
		for _, text := range texts {
			for _, s := range secrets {
				if strings.Contains(text, s) || strings.Contains(text, base64.StdEncoding.EncodeToString([]byte(s))) || strings.Contains(text, hex.EncodeToString([]byte(s))) {
					t.Errorf("%s holds a secret", r.Key)
				}
			}
		}
	}
	if kept < 5 {
		t.Errorf("only %d answers are kept", kept)
	}
}

// An answer opens with the credential and the idempotency key that it was closed with, where it was put.
func TestLids(t *testing.T) {
	made := func(credential, key, name, salt string) *lid {
		l, err := newLid(credential, key, name, salt)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	d := &draft{ResponseWriter: httptest.NewRecorder()}
	d.Header().Set("Location", "/v1/keys/7")
	d.Header().Set("X-Request-Id", "of the first")
	d.body.WriteString("{\"api_key\":\"s\"}\n\n")
	sealed := made("cred", "key", "name", "salt").seal(201, nil, d)
	head, body, err := made("cred", "key", "name", "salt").open(sealed)
	if head.Status != 201 || string(body) != "{\"api_key\":\"s\"}\n\n" || err != nil || len(head.Header) != 1 || head.Header["Location"] != "/v1/keys/7" {
		t.Errorf("%+v %q %v", head, body, err)
	}
	for name, l := range map[string]*lid{
		"another credential":      made("crex", "key", "name", "salt"),
		"another idempotency key": made("cred", "kez", "name", "salt"),
		"another split of both":   made("credk", "ey", "name", "salt"),
		"another note":            made("cred", "key", "nama", "salt"),
		"another salt":            made("cred", "key", "name", "sald"),
	} {
		if _, _, err := l.open(sealed); err == nil {
			t.Errorf("%s opens it", name)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		if _, _, err := made("cred", "key", "name", "salt").open(bad); err == nil {
			t.Fatalf("a changed byte %d is not noticed", i)
		}
	}
}

// another is the API of another node on the same etcd, with a route of the test's own at /v1/test.
func (c caller) another(t *testing.T, serve func(x *exchange) error) (api *API, m *mirror.Mirror) {
	t.Helper()
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	m, err := mirror.Open(t.Context(), mirror.Config{Client: c.etcd, Prefix: records.Root, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	cfg := c.api.Config
	cfg.Log, cfg.Answers = log, OpenAnswers(m, c.clock.time, log)
	api = New(cfg)
	r := route{method: "POST", path: "/v1/test", manage: true, serve: serve}
	api.echo.Add(r.method, r.path, api.handle(r))
	return api, m
}

func TestAnotherNodeRemembers(t *testing.T) {
	c := newTenant(t)
	api, m := c.another(t, nil)
	const body = `{"name":"web","role":"read-only"}`
	made := c.straight(t, "POST", "/v1/keys", body, "Idempotency-Key", "k").want(t, 201).first(t)
	if err := m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	made.repeats(t, c.through(t, api, "POST", "/v1/keys", body, "Idempotency-Key", "k"))
}

// What cannot be noted is not done.
func TestNothingIsDoneOnceWithoutEtcd(t *testing.T) {
	c := newTenant(t)
	served := 0
	api, m := c.another(t, func(x *exchange) error { served++; return x.noContent() })
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	c.through(t, api, "POST", "/v1/test", nil, "Idempotency-Key", "k").problem(t, 503, "unavailable", "")
	if c.through(t, api, "POST", "/v1/test", nil).want(t, 204); served != 1 {
		t.Errorf("served %d requests, want the one without a key", served)
	}
}

// If etcd goes away while a request is carried out, its client gets the answer all the same, but nobody else does,
// and nothing is done again.
func TestEtcdGoesAwayInTheMiddle(t *testing.T) {
	for _, failure := range []error{nil, fault.New(fault.InvalidArgument, "test", "bad")} {
		c := newTenant(t)
		var m *mirror.Mirror
		var api *API
		api, m = c.another(t, func(x *exchange) error {
			if err := m.Close(); err != nil {
				return err
			}
			if failure != nil {
				return failure
			}
			return x.json(201, "a secret")
		})
		first := c.through(t, api, "POST", "/v1/test", nil, "Idempotency-Key", "k")
		if failure == nil && string(first.want(t, 201).first(t).body) != "\"a secret\"\n" || failure != nil && first.status != 400 {
			t.Errorf("%d %s", first.status, first.body)
		}
		api, _ = c.another(t, func(*exchange) error { t.Error("it is carried out again"); return nil })
		c.through(t, api, "POST", "/v1/test", nil, "Idempotency-Key", "k").problem(t, 409, "conflict", "Idempotency-Key")
		c.clock.advance(underWay)
		c.through(t, api, "POST", "/v1/test", nil, "Idempotency-Key", "k").problem(t, 504, "outcome_unknown", "Idempotency-Key")
	}
}

// How a request ends decides what becomes of its key.
func TestWhatBecomesOfAKey(t *testing.T) {
	c := newTenant(t)
	for _, tt := range []struct {
		name          string
		serve         func(x *exchange) error
		status, again int // of the first request and of its repetition
		served        int
		says          string
	}{
		{"it is done", func(x *exchange) error { return x.json(201, 1) }, 201, 201, 1, "1"},
		{"nothing was changed", func(*exchange) error { return fault.New(fault.Unavailable, "test", "later") }, 503, 503, 2, "later"},
		{"nobody knows", func(*exchange) error { return fault.New(fault.OutcomeUnknown, "test", "perhaps") }, 504, 409, 1, "is being carried out"},
		{"it panics", func(x *exchange) error { _ = x.json(201, 1); panic("a bug") }, 500, 409, 1, "is being carried out"},
		{"it fails with an answer begun", func(x *exchange) error { _ = x.json(201, 1); return errNoCredential }, 401, 401, 2, "credential"},
		{"the answer is large", func(x *exchange) error { return x.json(200, strings.Repeat("x", maxSealed)) }, 200, 409, 1, "this was done"},
		{"the answer is just not too large", func(x *exchange) error { return x.json(200, strings.Repeat("x", maxSealed-200)) }, 200, 200, 1, "xxx"},
		{"the request's context", func(x *exchange) error {
			if _, bounded := x.Request().Context().Deadline(); !bounded {
				return fault.New(fault.InvalidArgument, "test", "no deadline")
			}
			return x.noContent()
		}, 204, 204, 1, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			served := 0
			api, _ := c.another(t, func(x *exchange) error { served++; return tt.serve(x) })
			first := c.through(t, api, "POST", "/v1/test", nil, "Idempotency-Key", tt.name).want(t, tt.status)
			again := c.through(t, api, "POST", "/v1/test", nil, "Idempotency-Key", tt.name).want(t, tt.again)
			if served != tt.served || !bytes.Contains(again.body, []byte(tt.says)) {
				t.Errorf("served %d times: %s", served, again.body)
			}
			if tt.status < 300 && tt.again == tt.status {
				first.repeats(t, again)
			}
		})
	}
}

// A client that goes away in the middle comes back, and finds its request done and its answer whole.
func TestAClientThatGoesAway(t *testing.T) {
	c := newTenant(t)
	ctx, leave := context.WithCancel(t.Context())
	api, _ := c.another(t, func(x *exchange) error {
		if string(must[[]byte](t)(x.readBody(maxJSONBody))) != "body" {
			t.Error("the body is gone")
		}
		leave()
		if err := x.Request().Context().Err(); err != nil {
			return err
		}
		return x.json(201, "a secret")
	})
	send := func(ctx context.Context) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(ctx, "POST", "/v1/test", strings.NewReader("body"))
		r.Header.Set("Authorization", "Bearer "+c.credential)
		r.Header.Set("Idempotency-Key", "k")
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w
	}
	send(ctx)
	if w := send(t.Context()); w.Code != 201 || w.Header().Get("Idempotency-Replayed") != "true" || w.Body.String() != "\"a secret\"\n" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// An answer that the principal's credential does not open was asked for with another one.
func TestAnotherCredentialOpensNothing(t *testing.T) {
	c := newTenant(t)
	made := c.keyed(t, "k", "POST", "/v1/tokens", `{"subject":"ann"}`).want(t, 201).first(t)
	name := c.noteName(t, "k")
	n, _ := c.api.Answers.notes.Get(name)
	l, err := newLid("an older credential", "k", name, n.Salt)
	if err != nil {
		t.Fatal(err)
	}
	sealed := l.Seal(nil, nil, made.body, []byte(name))
	if err := c.api.Answers.keep(t.Context(), name, n, sealed); err != nil {
		t.Fatal(err)
	}
	c.keyed(t, "k", "POST", "/v1/tokens", `{"subject":"ann"}`).problem(t, 409, "conflict", "Idempotency-Key").detail(t, "another credential")
}

// Who has lost a right since hears no more of what it gave.
func TestARightThatWasLost(t *testing.T) {
	c := newTenant(t)
	const mayMake = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:CreateKey"],"Resource":"*"}]}`
	const mayNot = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["iam:ListKeys"],"Resource":"*"}]}`
	name := c.fresh("policy")
	put := func(document string) {
		t.Helper()
		if _, _, err := c.credentials.PutPolicy(t.Context(), c.tenant, name, []byte(document)); err != nil {
			t.Fatal(err)
		}
	}
	put(mayMake)
	role, err := c.credentials.CreateRole(t.Context(), c.tenant, auth.Role{Name: c.fresh("role"), Policies: []string{name}})
	if err != nil {
		t.Fatal(err)
	}
	maker := c.withRole(t, role.Name)
	made := maker.keyed(t, "k", "POST", "/v1/keys", `{"name":"n","role":"owner"}`).want(t, 201).first(t)
	put(mayNot)
	if a := maker.keyed(t, "k", "POST", "/v1/keys", `{"name":"n","role":"owner"}`).problem(t, 403, "denied", ""); bytes.Contains(a.body, []byte(made.text(t, "api_key"))) {
		t.Error("the key's text was told again")
	}
	put(mayMake)
	made.repeats(t, maker.keyed(t, "k", "POST", "/v1/keys", `{"name":"n","role":"owner"}`))
}

// Each tenant has room for so many notes, and takes none of another's.
func TestRoomForNotes(t *testing.T) {
	for _, tt := range []struct {
		name  string
		notes int
		bytes int // of each
	}{
		{"as many notes as there may be", maxNotes, 0},
		{"as many bytes as there may be", maxNoteBytes / maxSealed, maxSealed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, other := newTenant(t), newTenant(t)
			a := c.api.Answers
			tenant, _ := c.accounts.Get(c.tenant)
			fill := func(i int) (string, *note) {
				return fmt.Sprintf("%s/%d", tenant.ID, i), &note{Sealed: make([]byte, tt.bytes)}
			}
			for i := range tt.notes - 1 {
				name, n := fill(i)
				a.follow(name, nil, n)
			}
			const body = `{"name":"web","role":"read-only"}`
			name, last := fill(tt.notes)
			made := c.keyed(t, "k", "POST", "/v1/keys", body).want(t, 201).first(t)
			a.follow(name, nil, last)
			refused := c.keyed(t, "l", "POST", "/v1/keys", body).problem(t, 429, "throttled", "Idempotency-Key").detail(t, fmt.Sprint(maxNotes), fmt.Sprint(maxNoteBytes))
			if refused.header.Get("Retry-After") != "60" {
				t.Errorf("Retry-After is %q", refused.header.Get("Retry-After"))
			}
			made.repeats(t, c.keyed(t, "k", "POST", "/v1/keys", body))
			c.do(t, "POST", "/v1/keys", body).want(t, 201)
			other.keyed(t, "l", "POST", "/v1/keys", body).want(t, 201).first(t)
			a.follow(name, last, nil)
			name, n := fill(0)
			a.follow(name, n, nil)
			c.keyed(t, "l", "POST", "/v1/keys", body).want(t, 201).first(t)
			for i := 1; i < tt.notes-1; i++ {
				name, n := fill(i)
				a.follow(name, n, nil)
			}
			if got := a.room[auth.TenantID(tenant.ID)].notes; got != 2 {
				t.Errorf("%d notes are counted, want 2", got)
			}
		})
	}
}
