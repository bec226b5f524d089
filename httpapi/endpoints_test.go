package httpapi

import (
	"strings"
	"testing"

	"github.com/larder-cache/larder/tenants"
)

func TestEndpoints(t *testing.T) {
	c := newTenant(t)
	key := c.do(t, "POST", "/v1/keys", `{"name":"web","role":"read-write"}`).want(t, 201).text(t, "id")
	made := c.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+key+`","networks":["10.1.2.3/8"]}`).want(t, 201)
	id := made.text(t, "id")
	if at := made.header.Get("Location"); at != "/v1/caches/main/endpoints/"+id || !strings.Contains(string(made.body), `"networks":["10.0.0.0/8"]`) || made.text(t, "key") != key {
		t.Errorf("%s %s", at, made.body)
	}
	c.do(t, "GET", made.header.Get("Location"), nil).want(t, 200)
	name := c.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+key+`","server_name":true}`).want(t, 201)
	if n := name.text(t, "server_name"); !strings.HasSuffix(n, ".mc.example.com") || len(n) != 32+len(".mc.example.com") || name.text(t, "id") != n {
		t.Errorf("%s", name.body)
	}
	if n := len(pages(t, c, "/v1/caches/main/endpoints", "endpoints", "id", 1)); n != 2 {
		t.Errorf("%d endpoints", n)
	}
	c.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+key+`","port":`+id+`}`).problem(t, 409, "conflict", "port").detail(t, "is another endpoint's")
	c.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+key+`","port":1}`).problem(t, 400, "out_of_range", "port").detail(t, "61000 to 61999")
	c.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+key+`","port":70000}`).problem(t, 400, "out_of_range", "port")
	c.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"nobody"}`).problem(t, 404, "not_found", "id")
	c.do(t, "POST", "/v1/caches/gone/endpoints", `{"key":"`+key+`"}`).problem(t, 404, "not_found", "cache")
	c.newCache(t, tenants.Cache{Name: "other"})
	c.do(t, "GET", "/v1/caches/other/endpoints/"+id, nil).problem(t, 404, "not_found", "endpoint")
	c.do(t, "DELETE", "/v1/caches/other/endpoints/"+id, nil).problem(t, 404, "not_found", "endpoint")
	c.do(t, "DELETE", "/v1/caches/main/endpoints/"+id, nil).want(t, 204)
	c.do(t, "DELETE", "/v1/caches/main/endpoints/"+id, nil).problem(t, 404, "not_found", "endpoint")
}

// Who makes an endpoint hands out what its key may do, and needs the right to.
func TestEndpointsHandOutRights(t *testing.T) {
	c, other := newTenant(t), newTenant(t)
	weak := c.do(t, "POST", "/v1/keys", `{"name":"weak","role":"read-only"}`).want(t, 201).text(t, "id")
	strong := c.do(t, "POST", "/v1/keys", `{"name":"strong","role":"owner"}`).want(t, 201).text(t, "id")
	limited := c.withPolicy(t, `{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":"cache:*Endpoint*","Resource":"*"},
		{"Effect":"Allow","Action":"iam:RotateKey","Resource":["arn:cache:iam:*:*:key/*","arn:cache:iam:*:*:role/read-only"]}]}`)
	limited.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+weak+`"}`).want(t, 201)
	limited.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+strong+`"}`).problem(t, 403, "denied", "")
	c.allowing(t, "cache:CreateEndpoint").do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+weak+`"}`).problem(t, 403, "denied", "")
	token := c.with(c.do(t, "POST", "/v1/tokens", `{"use":"manage"}`).want(t, 201).text(t, "token"))
	token.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+weak+`"}`).problem(t, 403, "denied", "")
	other.do(t, "POST", "/v1/caches/main/endpoints", `{"key":"`+strong+`"}`).problem(t, 404, "not_found", "id")
	c.allowing(t, "cache:ListEndpoints").do(t, "GET", "/v1/caches/main/endpoints", nil).want(t, 200)
	c.allowing(t, "cache:CreateEndpoint").do(t, "GET", "/v1/caches/main/endpoints", nil).problem(t, 403, "denied", "")
}
