package policy

import (
	"encoding/json"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// plain is a document of statements without conditions. Without some of these among what is drawn, Always would hardly
// ever have anything to say.
func plain(t *rapid.T, effect string) doc {
	path := oneOf(t, []string{"*", "cache/*", "cache/a/*", "cache/a/key/*", "cache/b/key/*", "cache/a/key/a*", "cache/?/key/*", "cache/a/*/a"})
	return doc{"Version": "2012-10-17", "Statement": []any{doc{
		"Effect": effect, "Action": someOf(t, someCovering), "Resource": "arn:cache:cache:*:" + oneOf(t, []string{"acme", "*", "globex"}) + ":" + path,
	}}}
}

// What Always says yes to, Decide allows: whatever the key is, and whatever the facts are, of the wrong type or missing.
func TestAlwaysIsAllowed(t *testing.T) {
	yes, no := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s, tenant := drawScene(t, true), oneOf(t, someTenants)
		if !chance(t, 3) { // a Deny or a condition on the action, of which there are many, is what Always gives up for
			s.Identity, s.Guardrails, tenant = nil, nil, s.Who.Tenant
		}
		for range rapid.IntRange(0, 3).Draw(t, "plain") {
			s.Identity = append(s.Identity, plain(t, "Allow"))
		}
		for _, limit := range []*doc{&s.Boundary, &s.Session} {
			if *limit != nil && rapid.Bool().Draw(t, "plain") {
				*limit = plain(t, "Allow")
			}
		}
		if !chance(t, 4) {
			s.Resource = nil
		}
		mode := drawMode(t)
		set := s.set(t, mode)
		action, _ := LookupAction(s.Action)
		cache, kind := oneOf(t, []string{"a", "b", "ab"}), oneOf(t, []string{"key", "leaderboard"})
		if !set.Always(&s.Who, action, NewItem("eu1", tenant, cache, kind, nil)) {
			no++
			return
		}
		yes++
		for range 8 {
			s.Facts = drawScene(t, true).Facts
			key := oneOf(t, []string{"", "a", "ab", "b", "a/a", "a:b/c", "*", "${*}", "é", "\xff", strings.Repeat("a", 300), rapid.String().Draw(t, "key")})
			req := s.request(t)
			req.Resource = NewItem("eu1", tenant, cache, kind, []byte(key))
			if v := set.Decide(req); v.Decision != Allow {
				text, _ := json.MarshalIndent(s, "", " ")
				t.Fatalf("mode %d: always, but %v for the key %q of cache %q of %s\n%s", mode, v, key, cache, tenant, text)
			}
		}
	})
	t.Logf("always %d times, not surely %d times", yes, no)
	if yes == 0 || no == 0 {
		t.Errorf("always %d times, not surely %d times: the test says nothing", yes, no)
	}
}

func TestAlways(t *testing.T) {
	allow := oneStatement("Action", `"cache:*"`, "Resource", `"arn:cache:cache:*:acme:cache/s/*"`)
	with := func(p Policies, more ...string) Policies {
		for _, text := range append([]string{allow}, more...) {
			p.Identity = append(p.Identity, mustParse(t, "p", text, KindIdentity))
		}
		return p
	}
	only := func(text string, kind Kind) *Document { return mustParse(t, "only", text, kind) }
	for _, tt := range []struct {
		name string
		p    Policies
		want bool
	}{
		{"everything of the cache", with(Policies{}), true},
		{"a Deny of another action", with(Policies{}, oneStatement("Effect", `"Deny"`, "Action", `"cache:Delete"`)), true},
		{"a Deny of one key", with(Policies{}, oneStatement("Effect", `"Deny"`, "Resource", `"arn:cache:cache:*:acme:cache/s/key/x"`)), false},
		{"a Deny under a condition", with(Policies{}, oneStatement("Effect", `"Deny"`, "Condition", `{"Bool":{"cache:SecureTransport":"false"}}`)), false},
		{"a Deny of all other actions", with(Policies{}, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","NotAction":"cache:Set","Resource":"*"}}`), false},
		{"a Deny of all other resources", with(Policies{}, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"cache:Get","NotResource":"arn:cache:cache:*:acme:cache/s/key/a"}}`), false},
		{"an Allow whose condition may fail", with(Policies{}, oneStatement("Condition", `{"NumericLessThan":{"cache:ValueSize":"5"}}`)), false},
		{"an Allow that may take too long", with(Policies{}, oneStatement("Resource", `"arn:cache:cache:*:acme:cache/s/key/*a*"`)), false},
		{"an Allow whose region may take too long", with(Policies{}, oneStatement("Resource", `"arn:cache:cache:*e*:acme:cache/s/key/a"`)), false},
		{"a boundary on some keys", with(Policies{Boundary: only(oneStatement("Resource", `"arn:cache:cache:*:acme:cache/s/key/a*"`), KindBoundary)}), false},
		{"a boundary on all", with(Policies{Boundary: only(oneStatement("Resource", `"*"`), KindBoundary)}), true},
		{"a session on some keys", with(Policies{Session: []*Document{only(oneStatement("Resource", `"arn:cache:cache:*:acme:cache/s/key/a*"`), KindSession)}}), false},
		{"a guardrail for another action", with(Policies{Guardrails: []*Document{only(oneStatement("Action", `"cache:Set"`, "Resource", `"*"`), KindGuardrail)}}), false},
		{"a broken guardrail", with(Policies{Guardrails: []*Document{Load("broken", []byte("{}"), KindGuardrail)}}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Compile(tt.p, ModeStrict).Always(web, CacheGet, NewItem("eu1", "acme", "s", "key", nil)); got != tt.want {
				t.Errorf("always: %v, want %v", got, tt.want)
			}
		})
	}
}

// What DecideAll allows, Decide allows under the same facts, whatever the key is.
func TestDecideAllIsAllowedOnEach(t *testing.T) {
	yes, no := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		s, tenant := drawScene(t, true), oneOf(t, someTenants)
		if !chance(t, 3) {
			s.Identity, s.Guardrails, tenant = nil, nil, s.Who.Tenant
		}
		for range rapid.IntRange(0, 3).Draw(t, "plain") {
			d := plain(t, "Allow")
			if chance(t, 3) {
				d["Statement"].([]any)[0].(doc)["Condition"] = doc{"StringEquals": doc{"cache:Protocol": oneOf(t, []string{"redis", "http"})}}
			}
			s.Identity = append(s.Identity, d)
		}
		if !chance(t, 4) {
			s.Resource = nil
		}
		set := s.set(t, ModeStrict)
		cache := oneOf(t, []string{"a", "b", "ab"})
		req := s.request(t)
		req.Resource = NewItem("eu1", tenant, cache, "key", []byte("*"))
		if set.DecideAll(req).Decision != Allow {
			no++
			return
		}
		yes++
		for range 8 {
			key := oneOf(t, []string{"", "a", "ab", "b", "a/a", "a:b/c", "*", "é", "\xff", rapid.String().Draw(t, "key")})
			req := s.request(t)
			req.Resource = NewItem("eu1", tenant, cache, "key", []byte(key))
			if v := set.Decide(req); v.Decision != Allow {
				text, _ := json.MarshalIndent(s, "", " ")
				t.Fatalf("all are allowed, but %v for the key %q of cache %q of %s\n%s", v, key, cache, tenant, text)
			}
		}
	})
	if yes == 0 || no == 0 {
		t.Errorf("all %d times, not all %d times: the test says nothing", yes, no)
	}
}

func TestDecideAll(t *testing.T) {
	allow := oneStatement("Action", `"cache:*"`, "Resource", `"arn:cache:cache:*:acme:cache/s/*"`)
	for _, tt := range []struct {
		name  string
		texts []string
		want  Decision
	}{
		{"everything of the cache", []string{allow}, Allow},
		{"some keys", []string{oneStatement("Resource", `"arn:cache:cache:*:acme:cache/s/key/a*"`)}, Deny},
		{"two halves", []string{oneStatement("Resource", `"arn:cache:cache:*:acme:cache/s/key/a*"`), oneStatement("Resource", `"arn:cache:cache:*:acme:cache/s/key/?*"`)}, Deny},
		{"a Deny of one key", []string{allow, oneStatement("Effect", `"Deny"`, "Resource", `"arn:cache:cache:*:acme:cache/s/key/x"`)}, Deny},
		{"a Deny of another action", []string{allow, oneStatement("Effect", `"Deny"`, "Action", `"cache:Delete"`)}, Allow},
		{"under a condition that holds", []string{oneStatement("Resource", `"*"`, "Condition", `{"StringEquals":{"cache:Protocol":"redis"}}`)}, Allow},
		{"under one that does not", []string{oneStatement("Resource", `"*"`, "Condition", `{"StringEquals":{"cache:Protocol":"http"}}`)}, Deny},
		{"a Deny under a condition that does not hold", []string{allow, oneStatement("Effect", `"Deny"`, "Condition", `{"StringEquals":{"cache:Protocol":"http"}}`)}, Allow},
		{"under a condition on the keys", []string{oneStatement("Resource", `"*"`, "Condition", `{"ForAllValues:StringLike":{"cache:Keys":"a*"},"Null":{"cache:Keys":"false"}}`)}, Deny},
		{"a Deny under one", []string{allow, oneStatement("Effect", `"Deny"`, "Condition", `{"ForAnyValue:StringLike":{"cache:Keys":"b*"}}`)}, Deny},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Policies
			for _, text := range tt.texts {
				p.Identity = append(p.Identity, mustParse(t, "p", text, KindIdentity))
			}
			facts := contextFunc(func(k Key, _ string) Value {
				switch k {
				case KeyProtocol:
					return Text("redis")
				case KeyKeys:
					return List([]string{"a1"})
				}
				return Value{}
			})
			v := Compile(p, ModeStrict).DecideAll(&Request{Principal: web, Action: CacheGet, Resource: NewItem("eu1", "acme", "s", "key", []byte("*")), Context: facts})
			if v.Decision != tt.want {
				t.Errorf("%v, want %v", v, tt.want)
			}
		})
	}
}

type contextFunc func(Key, string) Value

func (f contextFunc) Lookup(k Key, name string) Value { return f(k, name) }
