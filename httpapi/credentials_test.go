package httpapi

import (
	"encoding/base64"
	"strings"
	"testing"
)

// Each way to present a credential that must not open the door, through a real server. The attacks on tokens
// themselves stand in package auth; here are those of them that a server could undo.
func TestBadCredentialsOpenNothing(t *testing.T) {
	c := newTenant(t)
	minted := c.do(t, "POST", "/v1/tokens", `{"ttl":"15m","subject":"ann"}`).want(t, 201)
	token := minted.text(t, "token")
	other := c.do(t, "POST", "/v1/tokens", `{"ttl":"15m","subject":"bob"}`).want(t, 201).text(t, "token")
	part, theirs := strings.Split(token, "."), strings.Split(other, ".")
	raw := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	key := c.credential
	const path = "/v1/caches/main/kv/k"
	tests := []struct {
		name    string
		headers []string // of Authorization, in order
		query   string
	}{
		{"none", nil, ""},
		{"the key in the query (A45)", nil, "?_token=" + key},
		{"the key without a scheme", []string{key}, ""},
		{"another scheme", []string{"Basic " + key}, ""},
		{"two headers, both right (J35)", []string{"Bearer " + key, "Bearer " + key}, ""},
		{"two headers, a key and a token (J35)", []string{"Bearer " + key, "Bearer " + token}, ""},
		{"two credentials in one header", []string{"Bearer " + key + ", Bearer " + token}, ""},
		{"a key with another last character", []string{"Bearer " + key[:len(key)-1] + string('0'+(key[len(key)-1]+1)%10)}, ""},
		{"a key with something behind", []string{"Bearer " + key + "x"}, ""},
		{"no algorithm (J01)", []string{"Bearer " + raw(`{"alg":"none","typ":"cache+jwt"}`) + "." + part[1] + "."}, ""},
		{"another's signature (J25)", []string{"Bearer " + part[0] + "." + theirs[1] + "." + part[2]}, ""},
		{"padded (J23)", []string{"Bearer " + token + "="}, ""},
		{"two parts (J24)", []string{"Bearer " + part[0] + "." + part[1]}, ""},
		{"9 KiB of dots (J24)", []string{"Bearer " + strings.Repeat(".", 9<<10)}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c.clock.ms.Add(11_000) // so that earlier failures do not throttle this one
			var headers []string
			for _, h := range tt.headers {
				headers = append(headers, "Authorization", h)
			}
			if a := c.with("").do(t, "GET", path+tt.query, nil, headers...); a.status != 401 {
				t.Errorf("got %d: %s", a.status, a.body)
			}
		})
	}
	for name, credential := range map[string]string{"the key": key, "the token": token} {
		c.with("").do(t, "GET", path, nil, "Authorization", "bearer "+credential).problem(t, 404, "not_found", "") // schemes know no letter case
		if a := c.with(credential).do(t, "GET", path, nil); a.status != 404 {
			t.Errorf("%s itself: got %d: %s", name, a.status, a.body)
		}
	}
	c.do(t, "DELETE", "/v1/tokens/"+minted.text(t, "id"), nil).want(t, 204)
	if a := c.with(token).do(t, "GET", path, nil); a.status != 401 {
		t.Errorf("revoked (J29): got %d", a.status)
	}
}
