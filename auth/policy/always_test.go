package policy

import (
	"testing"

	"pgregory.net/rapid"
)

// Where Always says yes, Decide says yes too, of every name in the last slot and with whatever facts.
func TestAlwaysIsNeverWrong(t *testing.T) {
	yes := 0
	property := func(t *rapid.T) {
		s, mode := drawScene(t, true), drawMode(t)
		if s.Who.Tenant != "" && rapid.Bool().Draw(t, "own tenant") { // or an answer of yes is rare
			s.ARN = "arn:cache:cache:eu1:" + s.Who.Tenant + ":cache/a/key/a"
			s.Identity = append(s.Identity, doc{"Version": "2012-10-17", "Statement": []any{doc{"Effect": "Allow", "Action": "*", "Resource": oneOf(t, []string{"*", "arn:cache:cache:*:*:cache/*/key/*"})}}})
			if rapid.Bool().Draw(t, "plain") {
				s.Guardrails, s.Boundary, s.Session, s.Resource = nil, nil, nil, nil
				s.Identity = s.Identity[len(s.Identity)-1:]
			}
		}
		set, req := s.set(t, mode), s.request(t)
		kind := oneOf(t, []string{"key", "leaderboard"})
		if !set.Always(req.Principal, req.Action, NewItem("eu1", req.Resource.Tenant(), "a", kind, nil)) {
			return
		}
		yes++
		for range 20 {
			name := rapid.SliceOfN(rapid.Byte(), 0, 6).Draw(t, "name")
			req.Resource = NewItem("eu1", req.Resource.Tenant(), "a", kind, name)
			if v := set.Decide(req); v.Decision != Allow {
				t.Fatalf("Always says yes, and of %q Decide says %v", name, v)
			}
		}
	}
	for range 20 { // it seldom says yes
		rapid.Check(t, property)
	}
	if yes == 0 {
		t.Error("Always never said yes, so this test shows nothing")
	}
	t.Log(yes)
}
