package auth

import (
	"encoding/json"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/auth/policy"
)

// A TenantID is 128 random bits in hexadecimal. It is never reused: a tenant that was deleted and made again
// under its old name has another one, and so nothing of its predecessor's.
type TenantID string

// A TenantState is what auth needs to know of a tenant.
type TenantState struct {
	ID     TenantID
	Active bool // false: suspended; every credential of the tenant is refused

	// Guardrails are policy documents of kind guardrail, which bind everybody in the tenant.
	Guardrails []json.RawMessage
	// TokensNotBefore refuses all tokens issued before it; zero refuses none.
	TokensNotBefore time.Time
}

// Tenants answers from memory who the tenants are. There is always one called policy.SystemTenant, whose
// principals are the operators.
type Tenants interface {
	Tenant(name string) (TenantState, bool)
	// OnChange calls fn with the id of each tenant that has changed or gone, once Tenant gives the new answer.
	OnChange(fn func(id TenantID))
}

// A PrincipalKind says how a principal came in.
type PrincipalKind uint8

const (
	KindAPIKey PrincipalKind = iota
	KindToken
	KindOperator // with an API key of the tenant policy.SystemTenant
)

func (k PrincipalKind) String() string { return [...]string{"key", "token", "operator"}[k] }

// How a caller proved who it is, as conditions on cache:AuthMethod see it.
const (
	MethodAPIKey = "api_key"
	MethodToken  = "token" // see also MethodPresigned and MethodCertificate
)

// A Principal is who is asking, and all that the credential decides about the request. It does not change,
// so any number of goroutines share one without locks. It describes one moment: whoever keeps a principal
// for longer than a request asks Authenticator.Recheck before each further one.
type Principal struct {
	Kind     PrincipalKind
	Tenant   string
	TenantID TenantID
	ID       string           // the key's id, or the token's jti
	Name     string           // the key's name, or the token's subject
	Role     string           // of a token: its maker's
	Identity policy.Principal // as policies see it

	AuthMethod   string
	IssuedAt     time.Time
	Expires      time.Time      // zero: never
	Networks     []netip.Prefix // where the credential may be used; empty: everywhere
	DefaultCache string         // for clients that name none; may be empty

	Claims *Claims    // nil unless it is a token
	Maker  *Principal // of a token: the key that made it, as it is now; else nil

	rules   *policy.Set
	session *policy.Document // a token's own policy; nil when it has none
	digest  Digest           // of an API key's text
	used    *atomic.Int64    // when the key was last used, in minutes since 1970
	until   time.Time        // when it ends for us: Expires with the leeway of tokens; zero: never
	visits  time.Time        // until when the connection may last that came in by another way than a key's text; zero: no such

	epoch *atomic.Uint64 // the tenant's
	at    uint64         // what epoch was when the principal was made
}

// AnyUse is the door of what is neither data nor management, such as asking who one is.
const AnyUse Use = ""

// Opens reports whether the credential is meant for a door. API keys open all but UseRefresh, tokens the one
// that they were made for, and AnyUse; a connection that came in by another way than a key's text is for data.
func (p *Principal) Opens(door Use) bool {
	if p.Claims != nil {
		return p.Claims.Use == door || door == AnyUse && p.Claims.Use != UseRefresh
	}
	if !p.visits.IsZero() && door == UseManage {
		return false
	}
	return door != UseRefresh
}

// allows reports whether the credential may be used from source.
func (p *Principal) allows(source netip.Addr) bool {
	if len(p.Networks) == 0 {
		return true
	}
	source = source.Unmap().WithZone("")
	for _, n := range p.Networks {
		if n.Contains(source) {
			return true
		}
	}
	return false
}

// expired compares with the caller's clock.
func (p *Principal) expired(now time.Time) bool { return !p.until.IsZero() && !now.Before(p.until) }

// current reports whether nothing that made the principal what it is has changed since.
func (p *Principal) current() bool { return p.epoch.Load() == p.at }

// A Context answers conditions: what concerns the caller by itself, everything else by asking Request.
type Context struct {
	Now     time.Time
	Request policy.Context // may be nil

	caller *Principal
}

// Decide says whether p may do what req asks. It sets the request's Principal and Context.
//
// A token may do what its maker may do at this moment, and of that only what the token's own policy allows.
// So the maker's rules are asked twice: with the facts of the maker, without which a role that speaks of the
// token's subject would give the token what its maker lacks, and with those of the token, about which the
// maker's role may say Deny.
func (p *Principal) Decide(req *policy.Request, c *Context) policy.Verdict {
	if p.Maker != nil {
		if v := p.Maker.Decide(req, c); v.Decision == policy.Deny {
			return v
		}
	}
	c.caller, req.Principal, req.Context = p, &p.Identity, c
	return p.rules.Decide(req)
}

// DecideAll is Decide for all resources that differ from the request's in the last of four slots: it allows what is allowed on
// each of them. See policy.Set.DecideAll.
func (p *Principal) DecideAll(req *policy.Request, c *Context) policy.Verdict {
	if p.Maker != nil {
		if v := p.Maker.DecideAll(req, c); v.Decision == policy.Deny {
			return v
		}
	}
	c.caller, req.Principal, req.Context = p, &p.Identity, c
	return p.rules.DecideAll(req)
}

// Always reports whether Decide surely allows action on a resource, whatever the facts are and whatever the last of four slots
// holds: see policy.Set.Always. It holds for as long as p does.
func (p *Principal) Always(action policy.Action, on policy.Resource) bool {
	return (p.Maker == nil || p.Maker.Always(action, on)) && p.rules.Always(&p.Identity, action, on)
}

// Lookup implements policy.Context.
func (c *Context) Lookup(key policy.Key, name string) policy.Value {
	switch key {
	case policy.KeyCurrentTime, policy.KeyEpochTime:
		return policy.Date(c.Now)
	case policy.KeyPrincipalARN, policy.KeyPrincipalTenant, policy.KeyPrincipalTag:
		return policy.Value{} // the evaluator derives the first two, and nobody has tags
	case policy.KeyPrincipalType, policy.KeyAuthMethod, policy.KeyUsername, policy.KeyUserID,
		policy.KeyTokenIssueTime, policy.KeyTokenAge,
		policy.KeyJWTIssuer, policy.KeyJWTSubject, policy.KeyJWTAuthorizedParty, policy.KeyJWTID,
		policy.KeyJWTAudience, policy.KeyJWTScope, policy.KeyJWTGroups, policy.KeyJWTClaim:
		return c.caller.Fact(key, name, c.Now)
	}
	if c.Request == nil {
		return policy.Value{}
	}
	return c.Request.Lookup(key, name)
}

// Fact answers a condition about the caller itself. Keys about anything else it does not know.
func (p *Principal) Fact(key policy.Key, name string, now time.Time) policy.Value {
	switch key {
	case policy.KeyPrincipalType:
		return policy.Text(string(p.Identity.Type))
	case policy.KeyAuthMethod:
		return text(p.AuthMethod)
	case policy.KeyUsername:
		return text(p.Name)
	case policy.KeyUserID:
		return text(p.ID)
	}
	if p.Claims == nil {
		return policy.Value{}
	}
	return p.Claims.fact(key, name, now)
}

// text is a fact, or none when s is empty.
func text(s string) policy.Value {
	if s == "" {
		return policy.Value{}
	}
	return policy.Text(s)
}

// fact answers a condition about a token.
func (c *Claims) fact(key policy.Key, name string, now time.Time) policy.Value {
	switch key {
	case policy.KeyTokenIssueTime:
		return policy.Date(c.IssuedAt)
	case policy.KeyTokenAge:
		return policy.Number(max(0, now.Sub(c.IssuedAt).Seconds()))
	case policy.KeyJWTIssuer:
		return policy.Text(c.Issuer)
	case policy.KeyJWTSubject:
		return policy.Text(c.Subject)
	case policy.KeyJWTID:
		return policy.Text(c.ID)
	case policy.KeyJWTAudience:
		return policy.List(c.Audience)
	case policy.KeyJWTScope:
		return policy.List(c.Scopes)
	case policy.KeyJWTGroups:
		if groups, ok := c.extra("groups"); ok {
			return policy.List(groups)
		}
	case policy.KeyJWTAuthorizedParty:
		return c.claim("azp")
	case policy.KeyJWTClaim:
		return c.claim(name)
	}
	return policy.Value{}
}

// claim is a claim with one value. One with several is given as it is, and the evaluator denies.
func (c *Claims) claim(name string) policy.Value {
	values, ok := c.extra(name)
	switch {
	case !ok:
		return policy.Value{}
	case len(values) == 1:
		return policy.Text(values[0])
	}
	return policy.List(values)
}

// extra finds a claim by its name in any letter case, as condition keys have none. Of two that differ in
// letter case only, neither can be meant for certain, so all their values are given.
func (c *Claims) extra(name string) (values []string, ok bool) {
	for n, v := range c.Extra {
		if strings.EqualFold(n, name) {
			values, ok = append(values, v...), true
		}
	}
	return values, ok
}
