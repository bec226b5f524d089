package auth

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
)

// A simulation decides as the gateway does with the principal itself: for a key, for its role, and for the
// documents of that role, under the tenant's guardrails.
func TestSimulateAgreesWithTheRealThing(t *testing.T) {
	n := newNode(t)
	document := json.RawMessage(`{"Version":"2012-10-17","Statement":[
		{"Effect":"Allow","Action":["cache:*","iam:ListKeys"],"Resource":"*"},
		{"Effect":"Deny","Action":"cache:Delete","Resource":"arn:cache:cache:*:acme:cache/main/key/kept*"},
		{"Effect":"Deny","Action":"cache:Set","Resource":"*","Condition":{"IpAddress":{"cache:SourceIp":"192.0.2.0/24"}}}]}`)
	if _, _, err := n.PutPolicy(t.Context(), "acme", "app", document); err != nil {
		t.Fatal(err)
	}
	if _, err := n.CreateRole(t.Context(), "acme", Role{Name: "app", Policies: []string{"app"}}); err != nil {
		t.Fatal(err)
	}
	key, text, err := n.CreateKey(t.Context(), "acme", KeySpec{Name: "k", Role: "app"})
	if err != nil {
		t.Fatal(err)
	}
	for _, guarded := range []bool{false, true} {
		if guarded {
			state, _ := n.tenants.Tenant("acme")
			state.Guardrails = []json.RawMessage{json.RawMessage(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"cache:Flush","Resource":"*"}]}`)}
			n.tenants.set("acme", state)
		}
		inside := netip.MustParseAddr("192.0.2.1")
		who, err := n.Authenticate(UseData, text, inside)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range policy.Actions() {
			action, _ := policy.LookupAction(name)
			for _, resource := range []policy.Resource{
				policy.NewResource("cache", "r", "acme", "cache", "main", "key", "x"), policy.NewResource("cache", "r", "acme", "cache", "main", "key", "kept1"),
				policy.NewResource("cache", "r", "globex", "cache", "main"), policy.NewResource("iam", "r", "acme", "key", "*"),
				policy.NewResource("admin", "r", policy.SystemTenant, "tenant", "acme"),
			} {
				facts := map[string]policy.Value{"cache:sourceip": policy.Addr(inside)}
				want := who.Decide(&policy.Request{Action: action, Resource: resource}, &Context{Now: n.clock.now(), Request: &supposition{facts: facts, known: Context{caller: who}}})
				for _, q := range []Simulation{{Key: key.ID}, {Role: "app"}, {Policies: []json.RawMessage{document}}} {
					q.Action, q.Resource, q.Facts = action, resource, facts
					got, err := n.Simulate("acme", q)
					if err != nil || got.Decision != want.Decision || got.Reason != want.Reason || got.Statement != want.Statement {
						t.Errorf("guarded %v, %s on %s: simulated %v (%v), really %v", guarded, name, resource.String(), got, err, want)
					}
				}
			}
		}
	}
}

func TestSimulateOfNobody(t *testing.T) {
	n := newNode(t)
	other, _, err := n.CreateKey(t.Context(), "globex", KeySpec{Name: "k", Role: "owner"})
	if err != nil {
		t.Fatal(err)
	}
	fleeting, _, err := n.CreateKey(t.Context(), "acme", KeySpec{Name: "k", Role: "owner", ExpiresAt: n.clock.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	n.clock.at.Add(int64(time.Hour))
	for _, tt := range []struct {
		name string
		q    Simulation
		kind fault.Kind
	}{
		{"no key", Simulation{Key: "nobody"}, fault.NotFound},
		{"another tenant's key", Simulation{Key: other.ID}, fault.NotFound},
		{"an expired key", Simulation{Key: fleeting.ID}, fault.Conflict},
		{"no role", Simulation{Role: "none"}, fault.NotFound},
		{"the operators' role", Simulation{Role: RoleOperator}, fault.NotFound},
		{"nothing", Simulation{}, fault.InvalidArgument},
		{"too many documents", Simulation{Policies: make([]json.RawMessage, MaxSimulated+1)}, fault.InvalidArgument},
		{"a document that is none", Simulation{Policies: []json.RawMessage{[]byte("{}")}}, fault.InvalidArgument},
	} {
		tt.q.Action, tt.q.Resource = policy.CacheGet, policy.NewResource("cache", "r", "acme", "cache", "main")
		if _, err := n.Simulate("acme", tt.q); !fault.Is(err, tt.kind) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.kind)
		}
	}
	if _, err := n.Simulate("nobody", Simulation{Role: "owner"}); !fault.Is(err, fault.NotFound) {
		t.Errorf("a tenant that is not there: %v", err)
	}
}

// Asking who one is needs a credential of any use, but not one that is only there to be exchanged.
func TestAnyUse(t *testing.T) {
	for use, want := range map[Use]bool{UseData: true, UseManage: true, UseRefresh: false} {
		if got := (&Principal{Claims: &Claims{Use: use}}).Opens(AnyUse); got != want {
			t.Errorf("a token for %s opens it: %v", use, got)
		}
	}
	if !(&Principal{Kind: KindAPIKey}).Opens(AnyUse) {
		t.Error("a key does not open it")
	}
}
