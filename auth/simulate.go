package auth

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
)

// MaxSimulated bounds the documents of one simulation.
const MaxSimulated = MaxRolePolicies

// A Simulation is a question about what a principal of a tenant might do. It says who in one of three ways: a
// key, a role as a key of it would have it, or documents as a role of these policies would.
type Simulation struct {
	Key      string
	Role     string
	Policies []json.RawMessage

	Action   policy.Action
	Resource policy.Resource
	Facts    map[string]policy.Value // what is supposed, by condition key in lower case; goes before what is known
}

// Simulate decides a supposed request as the gateway would decide it: under the tenant's guardrails, in strict
// mode. It changes nothing, and it does not say whether the key would be let in from where it is used.
func (s *Store) Simulate(tenant string, q Simulation) (policy.Verdict, error) {
	const op = "policy.simulate"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return policy.Verdict{}, err
	}
	who := &Principal{Identity: policy.Principal{Type: policy.TypeKey, Tenant: tenant, ARN: arn(tenant, "key/simulated")}, AuthMethod: MethodAPIKey}
	switch {
	case q.Key != "":
		k, err := s.keyOf(op, tenant, q.Key)
		if err != nil {
			return policy.Verdict{}, err
		}
		if who, err = s.keyPrincipal(q.Key, k.digest, s.now()); err != nil {
			return policy.Verdict{}, fault.Wrap(fault.Conflict, op, err, "key %q has expired", q.Key)
		}
	case q.Role != "":
		if !s.roleExists(tenant, t.ID, q.Role) {
			return policy.Verdict{}, fault.About(fault.NotFound, op, "principal.role", "no role %.64q", q.Role)
		}
		who.rules = s.rulesOf(tenant, &t, q.Role).set
	default:
		if n := len(q.Policies); n < 1 || n > MaxSimulated {
			return policy.Verdict{}, fault.About(fault.InvalidArgument, op, "principal.policies", "%d policies, want 1 to %d", n, MaxSimulated)
		}
		var docs policy.Policies
		for i, text := range q.Policies {
			d, err := policy.Parse(fmt.Sprintf("policies[%d]", i), text, policy.KindIdentity)
			if err != nil {
				return policy.Verdict{}, malformed(op, fmt.Sprintf("principal.policies[%d]", i), err)
			}
			docs.Identity = append(docs.Identity, d)
		}
		docs.Guardrails = guardrails(&t)
		who.rules = policy.Compile(docs, policy.ModeStrict)
	}
	return who.rules.Decide(&policy.Request{
		Principal: &who.Identity, Action: q.Action, Resource: q.Resource,
		Context: &supposition{q.Facts, Context{Now: s.now(), caller: who}},
	}), nil
}

// A supposition is a request that nobody made.
type supposition struct {
	facts map[string]policy.Value
	known Context
}

// Lookup implements policy.Context.
func (s *supposition) Lookup(key policy.Key, name string) policy.Value {
	if v, ok := s.facts[strings.ToLower(key.String()+name)]; ok {
		return v
	}
	return s.known.Lookup(key, name)
}
