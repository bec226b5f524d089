package e2e

import (
	"bytes"
	"encoding/base64"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The log holds no key, no value and no credential, at its most talkative level and whatever goes wrong. What
// stays on disk holds no credential either, but in the files that are there to tell it.
func TestSecretsStayOutOfLogs(t *testing.T) {
	t.Parallel()
	const canary = "cAnArY4711" // in every key, value, name, credential and header that we send
	dir := filepath.Join(t.TempDir(), "data")
	s := dev(t, dir, "--log-level", "debug")
	const main = "/v1/caches/main"
	s.do(t, http.MethodPut, main+"/kv/"+canary, canary).want(t, http.StatusCreated)
	s.do(t, http.MethodPost, main+"/counters/c"+canary, `{"by":1}`).want(t, http.StatusOK)
	s.do(t, http.MethodPut, main+"/leaderboards/l"+canary+"/members/"+canary, `{"score":1}`).want(t, http.StatusOK)
	session := s.do(t, http.MethodPost, main+"/sessions", `{"data":{"`+canary+`":"`+canary+`"},"user":"`+canary+`"}`).want(t, http.StatusCreated).get(t, "id").(string)
	made := s.do(t, http.MethodPost, "/v1/keys", `{"name":"web","role":"read-only"}`).want(t, http.StatusCreated).get(t, "api_key").(string)
	token := s.do(t, http.MethodPost, "/v1/tokens", `{"subject":"someone"}`).want(t, http.StatusCreated).get(t, "token").(string)
	acme := s.asOperator(t, http.MethodPost, "/v1/tenants", `{"name":"acme"}`).want(t, http.StatusCreated).get(t, "api_key").(string)

	for _, wrong := range []struct{ method, path, body string }{
		{http.MethodPost, main + "/counters/c" + canary, `{"by":"` + canary + `"}`},
		{http.MethodPost, main + "/counters/c" + canary, `{"` + canary + `":1}`},
		{http.MethodPost, main + "/counters/c" + canary, `{"by":9223372036854775807}`},
		{http.MethodPost, main + "/commands", `{"commands":[["` + canary + `","` + canary + `"],["INCR","` + canary + `"]]}`},
		{http.MethodPost, main + "/batch", `{"atomic":true,"operations":[{"op":"` + canary + `","key":"` + canary + `"}]}`},
		{http.MethodGet, main + "/sessions/" + canary, ""},
		{http.MethodGet, main + "/leaderboards/l" + canary + "/members?limit=" + canary, ""},
		{http.MethodGet, main + "/kv/" + canary + "?" + canary + "=" + canary, ""},
		{http.MethodGet, main + "/kv/%zz" + canary, ""},
		{http.MethodGet, "/" + canary, ""},
		{canary, main + "/kv/k", ""},
		{http.MethodPut, main + "/kv/k?ttl=" + canary, canary},
		{http.MethodPost, "/v1/caches", `{"name":"` + canary + `"}`},
	} {
		if a, err := s.try(http.DefaultClient, wrong.method, wrong.path, wrong.body); err == nil && a.status >= 500 {
			t.Errorf("%s: %d %s", a.request, a.status, a.body)
		}
	}
	for _, credential := range []string{"Bearer " + canary, "Basic " + base64.StdEncoding.EncodeToString([]byte(canary+":"+canary)), "Bearer " + made[:len(made)-4] + "AAAA", "Bearer " + token + canary, canary} {
		s.do(t, http.MethodGet, main+"/kv/"+canary, "", "Authorization", credential).want(t, http.StatusUnauthorized)
	}
	for _, credential := range []string{made, token, acme} {
		s.do(t, http.MethodGet, main+"/kv/"+canary, "", "Authorization", "Bearer "+credential)
		s.do(t, http.MethodPut, "/v1/policies/"+canary, `{"document":{}}`, "Authorization", "Bearer "+credential)
	}
	for _, text := range []string{ // no HTTP, or not to its end
		"GET /" + canary + "\r\n\r\n",
		"GET / HTTP/9.9\r\n" + canary + ": " + canary + "\r\n\r\n",
		"PUT " + main + "/kv/" + canary + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + s.key + "\r\nContent-Length: 100\r\n\r\n" + canary,
		"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat(canary, 100_000) + "\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(text)) // the server may hang up before the end
		_ = conn.Close()
	}
	s.do(t, http.MethodPut, main+"/snapshot-schedules/nightly", `{"when":"daily at 03:30","keep":3}`).want(t, http.StatusCreated)
	s.do(t, http.MethodPut, main+"/snapshot-schedules/x", `{"when":"`+canary+`"}`).want(t, http.StatusBadRequest)
	snapshot := s.do(t, http.MethodPost, main+"/snapshots", `{}`).want(t, http.StatusAccepted).get(t, "id").(string)
	until(t, "the snapshot is there", func() bool {
		return s.do(t, http.MethodGet, main+"/snapshots/"+snapshot, "").get(t, "state") == "available"
	})
	s.do(t, http.MethodPost, main+"/branches", `{"name":"twig"}`).want(t, http.StatusAccepted)
	until(t, "the branch is there", func() bool {
		return s.do(t, http.MethodGet, "/v1/caches/twig/restoration", "").get(t, "state") == "done"
	})
	s.do(t, http.MethodPost, "/v1/encryption-key/rotate", "").want(t, http.StatusOK)
	s.do(t, http.MethodPost, "/v1/encryption-key/rewrap", `{"retire":true}`).want(t, http.StatusOK)
	s.do(t, http.MethodPost, main+"/snapshots/"+snapshot+"/restore", `{"into":"again"}`).want(t, http.StatusAccepted)
	until(t, "the snapshot is restored", func() bool {
		return s.do(t, http.MethodGet, "/v1/caches/again/restoration", "").get(t, "state") == "done"
	})
	s.stop(t) // which leaves a hand-over of all of them

	secrets := map[string]string{"a key, a value or a name": canary, "a session's id": session, "a token": token}
	for what, credential := range map[string]string{"the demo key": s.key, "the operator's key": s.operator, "a key": made, "an owner's key": acme} {
		secrets[what] = credential[strings.LastIndex(credential, "_")+1:] // the id before it is no secret
	}
	log := s.stderr.String()
	if log == "" {
		t.Error("nothing is logged at debug, so this test shows nothing")
	}
	for what, secret := range secrets {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %s", what)
		}
	}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == "demo-key" || entry.Name() == "operator-token" {
			return err
		}
		content, err := os.ReadFile(path)
		for what, secret := range secrets {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s holds %s", path, what)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
