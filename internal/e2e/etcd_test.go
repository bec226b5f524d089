package e2e

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// The data plane does not need etcd. With etcd killed, a running node reads and writes on and refuses what
// would change control data; a restarted one serves from its copy; and when etcd is back, so is everything.
func TestEtcdDown(t *testing.T) {
	t.Parallel()
	etcdDir, dir := filepath.Join(t.TempDir(), "etcd"), filepath.Join(t.TempDir(), "data")
	control, endpoint := etcd(t, etcdDir, "127.0.0.1:0")
	s := serve(t, dir, "--etcd", endpoint).tenant(t, "acme")
	const readPolicy = `{"document":{"Version":"2012-10-17","Statement":[{"Sid":"Read","Effect":"Allow","Action":"cache:Get","Resource":"*"}]}}`
	s.do(t, http.MethodPut, "/v1/policies/reads", readPolicy).want(t, http.StatusCreated)
	s.do(t, http.MethodPost, "/v1/roles", `{"name":"reader","policies":["reads"]}`).want(t, http.StatusCreated)
	// A key that nobody has used yet: to know it, the node has nothing but its mirror.
	reader := "Bearer " + s.do(t, http.MethodPost, "/v1/keys", `{"name":"r","role":"reader"}`).want(t, http.StatusCreated).get(t, "api_key").(string)
	s.do(t, http.MethodPut, "/v1/caches/main/kv/before", "1").want(t, http.StatusCreated)

	control.kill()

	data := func(s *server, key string) {
		t.Helper()
		s.do(t, http.MethodPut, "/v1/caches/main/kv/"+key, "2").want(t, http.StatusCreated)
		s.do(t, http.MethodGet, "/v1/caches/main/kv/"+key, "").want(t, http.StatusOK)
		s.do(t, http.MethodPost, "/v1/caches/main/counters/hits-"+key, `{"by":3}`).want(t, http.StatusOK).says(t, "value", "3")
		s.do(t, http.MethodPut, "/v1/caches/main/leaderboards/scores-"+key+"/members/ann", `{"score":1}`).want(t, http.StatusOK).says(t, "rank", "1")
		id := s.do(t, http.MethodPost, "/v1/caches/main/sessions", `{"data":{"n":1}}`).want(t, http.StatusCreated).get(t, "id").(string)
		s.do(t, http.MethodGet, "/v1/caches/main/sessions/"+id, "").want(t, http.StatusOK).says(t, "data.n", "1")
		s.do(t, http.MethodGet, "/v1/caches/main/kv/"+key, "", "Authorization", reader).want(t, http.StatusOK)
		s.do(t, http.MethodPut, "/v1/caches/main/kv/"+key, "3", "Authorization", reader).code(t, http.StatusForbidden, "denied")
		s.do(t, http.MethodGet, "/v1/caches/main/kv/"+key, "", "Authorization", reader[:len(reader)-1]+"x").code(t, http.StatusUnauthorized, "unauthenticated")
		s.do(t, http.MethodGet, "/readyz", "").want(t, http.StatusOK)
	}
	refused := func(s *server) {
		t.Helper()
		s.do(t, http.MethodPost, "/v1/caches", `{"name":"late"}`).code(t, http.StatusServiceUnavailable, "unavailable")
		s.do(t, http.MethodPost, "/v1/keys", `{"name":"late","role":"owner"}`).code(t, http.StatusServiceUnavailable, "unavailable")
		s.do(t, http.MethodDelete, "/v1/caches/main", "").code(t, http.StatusServiceUnavailable, "unavailable")
		s.do(t, http.MethodGet, "/v1/caches/main", "").want(t, http.StatusOK) // reads of control data go on as well
	}
	data(s, "during")
	s.do(t, http.MethodGet, "/v1/caches/main/kv/before", "").want(t, http.StatusOK)
	refused(s)

	// A restart needs no etcd either.
	s.stop(t)
	again := serve(t, dir, "--etcd", endpoint)
	again.key = s.key
	again.do(t, http.MethodGet, "/v1/caches/main/kv/before", "").want(t, http.StatusOK)
	data(again, "after")
	refused(again)
	again.asOperator(t, http.MethodGet, "/v1/tenants/acme", "").want(t, http.StatusOK)

	_, endpoint2 := etcd(t, etcdDir, strings.TrimPrefix(endpoint, "http://"))
	if endpoint2 != endpoint {
		t.Fatalf("etcd is back at %s, not at %s", endpoint2, endpoint)
	}
	until(t, "control data can be written again", func() bool {
		return again.do(t, http.MethodPut, "/v1/policies/late", readPolicy).status < 300
	})
	again.do(t, http.MethodPost, "/v1/caches", `{"name":"late"}`).want(t, http.StatusCreated)
	again.do(t, http.MethodPut, "/v1/caches/late/kv/k", "v").want(t, http.StatusCreated)
	until(t, "the node is registered again", func() bool {
		return strings.Contains(again.asOperator(t, http.MethodGet, "/v1/cluster", "").want(t, http.StatusOK).body, `"name":"node-1"`)
	})
	again.do(t, http.MethodGet, "/v1/caches/main/kv/after", "").want(t, http.StatusOK) // through it all
	again.stop(t)
}

// Without etcd and without a copy there is nothing to serve, and the process says so instead of waiting.
func TestNoEtcdAtAll(t *testing.T) {
	t.Parallel()
	control, endpoint := etcd(t, filepath.Join(t.TempDir(), "etcd"), "127.0.0.1:0")
	control.kill()
	p := start(t, binary, []string{"serve", "--data-dir", filepath.Join(t.TempDir(), "data"), "--http-addr", "127.0.0.1:0", "--etcd", endpoint}, nil)
	if status := p.wait(t); status != 1 || !strings.Contains(p.stderr.String(), "etcd is unavailable") {
		t.Errorf("exit status %d: %s", status, p.stderr)
	}
}
