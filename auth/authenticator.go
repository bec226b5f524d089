package auth

import (
	"errors"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
)

// Verified credentials are remembered in shards, so that cores do not wait for one lock.
const (
	verifiedShards = 16
	verifiedSize   = 64 << 10 // in all shards together
)

// Reasons that only the records know.
const (
	UnknownTenant Reason = "tenant"  // the tenant of the credential is gone
	WrongNetwork  Reason = "network" // presented from where it may not be used
)

// An Authenticator turns the text of a credential into a principal. Many goroutines may use it at once.
//
// A text that was verified once is remembered under its digest, with its principal. What is remembered is
// given out only while it is current (see Principal): nothing about it has changed since, and it has not
// expired. Otherwise the principal is made anew from the records, for which the signature of a token needs
// not be verified again. So what this node has seen of a revocation, a change of a role or a suspension holds
// from the next request on.
type Authenticator struct {
	s        *Store
	verifier *Verifier
	verified [verifiedShards]*lru.Cache[Digest, *remembered]

	sources *attempts[netip.Addr]
	ids     *attempts[string]
}

type remembered struct{ principal atomic.Pointer[Principal] }

// NewAuthenticator makes the authenticator of a process. There is one for each Store.
func NewAuthenticator(s *Store) (*Authenticator, error) {
	issuer, err := NewIssuer(IssuerSpec{
		Name: s.issuer, Audience: s.audience, Algorithms: []Algorithm{EdDSA}, Keys: s,
		MaxLife: MaxTokenLife, Leeway: ownLeeway, Own: true,
	})
	if err != nil {
		return nil, err
	}
	a := &Authenticator{s: s, sources: newAttempts[netip.Addr](), ids: newAttempts[string]()}
	// Refresh tokens open no door here. Revocation is asked for with the principal, again and again.
	if a.verifier, err = NewVerifier(IssuerList{issuer}, []Use{UseData, UseManage}, nil); err != nil {
		return nil, err
	}
	for i := range a.verified {
		a.verified[i] = newLRU[Digest, *remembered](verifiedSize / verifiedShards)
	}
	s.mu.Lock()
	s.newSigner = a.forget
	s.mu.Unlock()
	return a, nil
}

// forget makes every credential be verified again.
func (a *Authenticator) forget() {
	for _, shard := range a.verified {
		shard.Purge()
	}
}

// Authenticate says who presents a credential, an API key or a token, at a door, from an address.
//
// Every refusal of a credential looks the same to the client. The *Refusal inside the error, found with
// errors.As, has the reason for the log. A source that failed too often has to wait before another text is
// verified for it. Texts that this node remembers are no guesses and pass: behind one address may be many
// clients, of which some still try a key that was rotated away.
func (a *Authenticator) Authenticate(door Use, credential string, source netip.Addr) (*Principal, error) {
	if credential == "" {
		return nil, fault.New(fault.NoCredentials, "auth", "no credential was given")
	}
	now := a.s.now()
	p, err := a.identify(credential, source, now)
	if err == nil {
		err = p.admit(door, source)
	}
	if err == nil {
		touch(p.used, now)
		return p, nil
	}
	id := ""
	if key, err := ParseAPIKey(credential); err == nil {
		id = strings.Clone(key.ID)
	}
	return nil, a.failed(err, id, source, now)
}

// Recheck returns the principal of a connection as it is now: the same one while nothing has changed, which
// costs next to nothing, else a new one, or the error with which the connection ends.
func (a *Authenticator) Recheck(p *Principal, door Use, source netip.Addr) (*Principal, error) {
	now := a.s.now()
	var err error
	if !p.current() || p.expired(now) {
		p, err = a.s.renew(p, now)
	}
	if err == nil {
		err = p.admit(door, source)
	}
	if err == nil {
		touch(p.used, now)
		return p, nil
	}
	var refusal *Refusal
	if errors.As(err, &refusal) {
		err = refused(refusal)
	}
	return nil, err
}

// refused is what the client hears.
func refused(r *Refusal) error {
	return fault.Wrap(fault.Unauthenticated, "auth", r, "credential refused")
}

func throttled(wait time.Duration) error {
	e := fault.New(fault.Throttled, "auth", "too many failed attempts to authenticate, at most %d in %v", maxFailures, failureWindow)
	e.RetryAfter = wait
	return e
}

// admit checks what depends on the request and not on the credential alone.
func (p *Principal) admit(door Use, source netip.Addr) error {
	if !p.Opens(door) {
		return refuse(WrongUse, "use: not for this door")
	}
	if !p.allows(source) {
		return refuse(WrongNetwork, "source: not in the networks of the key")
	}
	return nil
}

// identify finds out who a credential belongs to. Its error is a *Refusal, or a fault that the client may
// hear.
func (a *Authenticator) identify(credential string, source netip.Addr, now time.Time) (*Principal, error) {
	if len(credential) > MaxTokenBytes {
		return nil, refuse(Malformed, "credential: too long")
	}
	digest := Hash(credential)
	shard := a.verified[digest[0]%verifiedShards]
	known, ok := shard.Get(digest)
	if ok {
		p := known.principal.Load()
		if p.current() && !p.expired(now) {
			return p, nil
		}
		p, err := a.s.renew(p, now)
		if err != nil {
			shard.Remove(digest)
			return nil, err
		}
		known.principal.Store(p)
		return p, nil
	}
	if wait := a.sources.wait(origin(source), now); wait > 0 {
		return nil, throttled(wait)
	}
	p, err := a.verify(credential, digest, now)
	if err != nil {
		return nil, err
	}
	known = &remembered{}
	known.principal.Store(p)
	shard.Add(digest, known)
	return p, nil
}

// verify reads a credential that is not known yet.
func (a *Authenticator) verify(credential string, digest Digest, now time.Time) (*Principal, error) {
	if !strings.HasPrefix(credential, "lk_") {
		claims, err := a.verifier.Verify(credential, now)
		if err != nil {
			return nil, err
		}
		var session *policy.Document
		if claims.Policy != nil {
			session = policy.Load("token", claims.Policy, policy.KindSession)
		}
		return a.s.tokenPrincipal(claims, session, now)
	}
	parsed, err := ParseAPIKey(credential)
	if err != nil {
		return nil, err
	}
	var stored *Digest
	key, ok := a.s.key(parsed.ID)
	if ok {
		stored = &key.digest
	}
	if !Matches(stored, credential) {
		return nil, refuse(UnknownKey, "API key: unknown, or another secret")
	}
	return a.s.keyPrincipal(key.record.ID, digest, now)
}

// renew makes a principal anew from what was verified before.
func (s *Store) renew(p *Principal, now time.Time) (*Principal, error) {
	if p.Claims != nil {
		return s.tokenPrincipal(p.Claims, p.session, now)
	}
	fresh, err := s.keyPrincipal(p.ID, p.digest, now)
	if err == nil && p.AuthMethod == MethodCertificate {
		if k, ok := s.key(p.ID); !ok || !k.record.ClientCertificate {
			return nil, refuse(Revoked, "certificate: the key is not for certificates any more")
		}
	}
	if err == nil && !p.visits.IsZero() {
		if fresh.visit(p.AuthMethod, p.visits); fresh.expired(now) {
			return nil, refuse(Expired, "the connection's time is over")
		}
	}
	return fresh, err
}

// activeTenant finds the tenant that a credential belongs to, by its name and id.
func (s *Store) activeTenant(name string, id TenantID) (*TenantState, error) {
	t, ok := s.tenants.Tenant(name)
	if !ok || t.ID != id {
		return nil, refuse(UnknownTenant, "tenant: gone")
	}
	if !t.Active {
		return nil, fault.New(fault.Denied, "auth", "the tenant is suspended")
	}
	return &t, nil
}

// keyPrincipal makes the principal of a key whose text has this digest.
func (s *Store) keyPrincipal(id string, digest Digest, now time.Time) (*Principal, error) {
	k, ok := s.key(id)
	if !ok {
		return nil, refuse(UnknownKey, "API key: gone")
	}
	epoch := s.epoch(k.tenant)
	at := epoch.Load() // before everything that is read below: what changes from here on ends this principal
	if k, ok = s.key(id); !ok || k.digest != digest {
		return nil, refuse(UnknownKey, "API key: gone, or another secret")
	}
	r := k.record
	t, err := s.activeTenant(r.Tenant, k.tenant)
	if err != nil {
		return nil, err
	}
	p := &Principal{
		Kind: KindAPIKey, Tenant: r.Tenant, TenantID: k.tenant, ID: r.ID, Name: r.Name, Role: r.Role,
		Identity:   policy.Principal{Type: policy.TypeKey, Tenant: r.Tenant, ARN: arn(r.Tenant, "key/"+r.ID)},
		AuthMethod: MethodAPIKey, IssuedAt: r.CreatedAt, Expires: r.ExpiresAt, until: r.ExpiresAt,
		Networks: r.Networks, DefaultCache: r.DefaultCache,
		rules: s.rulesOf(r.Tenant, t, r.Role).set, digest: digest, used: k.used, epoch: epoch, at: at,
	}
	if r.Tenant == policy.SystemTenant {
		p.Kind = KindOperator
	}
	if p.expired(now) {
		return nil, refuse(Expired, "API key: expired")
	}
	return p, nil
}

// tokenPrincipal makes the principal of a token that was verified. session is its policy, if it has one.
func (s *Store) tokenPrincipal(c *Claims, session *policy.Document, now time.Time) (*Principal, error) {
	k, ok := s.key(c.Maker)
	if !ok || k.record.Tenant != c.Tenant {
		return nil, refuse(Revoked, "maker: gone")
	}
	m, err := s.keyPrincipal(c.Maker, k.digest, now)
	if err != nil {
		return nil, err
	}
	if m.Kind != KindAPIKey {
		return nil, refuse(BadClaims, "maker: no key of a tenant")
	}
	t, err := s.activeTenant(m.Tenant, m.TenantID)
	if err != nil {
		return nil, err
	}
	if refusal := s.revoked(t, c); refusal != nil {
		return nil, refusal
	}
	p := &Principal{
		Kind: KindToken, Tenant: m.Tenant, TenantID: m.TenantID, ID: c.ID, Name: c.Subject, Role: m.Role,
		Identity: policy.Principal{
			Type: policy.TypeSession, Tenant: m.Tenant,
			ARN: arn(m.Tenant, "session/"+m.Role+"/"+c.Subject), RoleARN: arn(m.Tenant, "role/"+m.Role),
		},
		AuthMethod: MethodToken, IssuedAt: c.IssuedAt, Expires: c.Expires, until: c.Expires.Add(ownLeeway),
		Networks: m.Networks, DefaultCache: m.DefaultCache, Claims: c, Maker: m, session: session,
		used: m.used, epoch: m.epoch, at: m.at,
	}
	if !m.until.IsZero() && m.until.Before(p.until) {
		p.until = m.until
	}
	if p.expired(now) {
		return nil, refuse(Expired, "exp: in the past")
	}
	role := s.rulesOf(m.Tenant, t, m.Role)
	p.rules = role.set
	if session != nil {
		documents := role.documents
		documents.Session = []*policy.Document{session}
		p.rules = policy.Compile(documents, policy.ModeStrict)
	}
	return p, nil
}

// arn names a principal or a role. Principals belong to no region.
func arn(tenant, path string) string { return "arn:cache:iam::" + tenant + ":" + path }
