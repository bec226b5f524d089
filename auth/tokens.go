package auth

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
)

// The bounds of a token; see also MaxTokenLife and policy.MaxTokenStatements.
const (
	MinTokenLife = time.Second
	MaxScopes    = 64
)

// ownLeeway is how wrong the clocks of our nodes may be.
const ownLeeway = 10 * time.Second

// A TokenInfo describes a token that was minted.
type TokenInfo struct {
	ID        string          `json:"id"`
	Subject   string          `json:"subject"`
	Maker     string          `json:"maker"` // the id of the key
	Use       Use             `json:"use"`
	Scopes    []string        `json:"scopes,omitempty"`
	Policy    json.RawMessage `json:"policy,omitempty"`
	IssuedAt  time.Time       `json:"issued_at"`
	ExpiresAt time.Time       `json:"expires_at"`
}

// A tokenRecord is what is stored of a token. A token is good without one: the record is there to be listed,
// and to say that the token was revoked.
type tokenRecord struct {
	TokenInfo
	TenantID TenantID `json:"tenant_id"`
	Revoked  bool     `json:"revoked,omitempty"`
}

// ended reports whether the token is of no use any more on any node.
func (t *tokenRecord) ended(now time.Time) bool { return !now.Before(t.ExpiresAt.Add(ownLeeway)) }

// listed reports whether the token is shown to people.
func (t *tokenRecord) listed(now time.Time) bool { return !t.Revoked && now.Before(t.ExpiresAt) }

// A cutoff refuses the tokens issued before an instant: all of a tenant, those of a subject or of a maker.
type cutoff struct {
	Before time.Time `json:"before"`
}

// tokenChanged follows the token records. A new token concerns no principal there is, nor does the end of an
// expired one: only revocation does, or a record that cannot be read.
func (s *Store) tokenChanged(name string, old, new *tokenRecord) {
	tenant := owner(name)
	unreadable := s.note(tokensPath+"/"+name, new != nil)
	live := func(t *tokenRecord) int {
		if t != nil && !t.Revoked {
			return 1
		}
		return 0
	}
	s.mu.Lock()
	if s.liveTokens[tenant] += live(new) - live(old); s.liveTokens[tenant] == 0 {
		delete(s.liveTokens, tenant)
	}
	s.mu.Unlock()
	if unreadable || new != nil && new.Revoked {
		s.bump(tenant)
	}
}

func (s *Store) cutoffChanged(name string, _, new *cutoff) {
	s.note(cutoffsPath+"/"+name, new != nil)
	s.bump(owner(name))
}

// A TokenSpec describes a token to be minted.
type TokenSpec struct {
	TTL     time.Duration
	Policy  []byte // what the token may do at most; nil: all that its maker may
	Subject string // for whom it is; empty: the maker's id
	Use     Use    // empty: UseData
	Scopes  []string
}

// Mint makes a token for a key. The text is given out here and nowhere else.
//
// A token never does more than its maker may do at that moment, and it ends with its maker. So only keys make
// tokens: a token cannot, nor can an operator, whose rights are not for handing on.
func (s *Store) Mint(ctx context.Context, maker *Principal, spec TokenSpec) (TokenInfo, string, error) {
	const op = "token.create"
	fail := func(err error) (TokenInfo, string, error) { return TokenInfo{}, "", err }
	bad := func(kind fault.Kind, argument, format string, args ...any) (TokenInfo, string, error) {
		return fail(fault.About(kind, op, argument, format, args...))
	}
	now := s.now()
	if maker.Kind != KindAPIKey {
		return fail(fault.New(fault.Denied, op, "only an API key of a tenant makes tokens, not a caller of kind %s", maker.Kind))
	}
	if !maker.current() || maker.expired(now) {
		return fail(refused(refuse(Revoked, "maker: not current")))
	}
	if spec.Use == "" {
		spec.Use = UseData
	}
	if spec.Subject == "" {
		spec.Subject = maker.ID
	}
	switch {
	case spec.TTL < MinTokenLife || spec.TTL > MaxTokenLife:
		return bad(fault.OutOfRange, "ttl", "ttl is %v, want %v to %v", spec.TTL, MinTokenLife, MaxTokenLife)
	case !boundedText(spec.Subject, maxSubject):
		return bad(fault.InvalidArgument, "subject", "subject has %d bytes, want 1 to %d without control characters", len(spec.Subject), maxSubject)
	case spec.Use != UseData && spec.Use != UseManage:
		return bad(fault.InvalidArgument, "use", "use is %.32q, want %q or %q", spec.Use, UseData, UseManage)
	case len(spec.Scopes) > MaxScopes:
		return bad(fault.InvalidArgument, "scopes", "%d scopes, at most %d are allowed", len(spec.Scopes), MaxScopes)
	case slices.ContainsFunc(spec.Scopes, func(w string) bool { return !validScope(w) }):
		return bad(fault.InvalidArgument, "scopes", "a scope is not a word of printable ASCII without spaces, quotes and backslashes")
	}
	if spec.Policy != nil {
		if _, err := policy.Parse("token", spec.Policy, policy.KindSession); err != nil {
			return fail(malformed(op, "policy", err))
		}
	}
	s.mu.RLock()
	live := s.liveTokens[maker.TenantID]
	s.mu.RUnlock()
	if live >= MaxTokens {
		return fail(fault.New(fault.Conflict, op, "the tenant has %d tokens that have not expired, which is the limit", live))
	}
	signer, err := s.signingKeys(ctx)
	if err != nil {
		return fail(err)
	}

	// A token minted in the millisecond of a revocation, or by a node whose clock is behind the revoker's,
	// comes after it all the same.
	claims := &Claims{
		Subject: spec.Subject, Expires: now.Add(spec.TTL), Scopes: spec.Scopes, Tenant: maker.Tenant,
		Use: spec.Use, Policy: spec.Policy, Maker: maker.ID, AuthMethod: maker.AuthMethod,
	}
	issued := now
	if t, ok := s.tenants.Tenant(maker.Tenant); ok {
		issued = latest(now, ceil(s.cutoffOf(&t, claims)))
	}
	if end := maker.Expires; !end.IsZero() && end.Before(claims.Expires) {
		claims.Expires = end
	}
	text, err := signer.Mint(claims, issued)
	if err != nil {
		return bad(fault.InvalidArgument, "policy", "%s", strings.TrimPrefix(err.Error(), "auth: mint: "))
	}
	record := &tokenRecord{TenantID: maker.TenantID, TokenInfo: TokenInfo{
		ID: claims.ID, Subject: claims.Subject, Maker: maker.ID, Use: claims.Use, Scopes: claims.Scopes,
		Policy: claims.Policy, IssuedAt: claims.IssuedAt, ExpiresAt: claims.Expires,
	}}
	if err := s.tokens.Create(ctx, under(maker.TenantID, record.ID), record); err != nil {
		return fail(err)
	}
	return record.TokenInfo, text, nil
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// ceil is the first whole millisecond that is not before t. Tokens know no finer time.
func ceil(t time.Time) time.Time {
	if cut := t.Truncate(time.Millisecond); cut.Before(t) {
		return cut.Add(time.Millisecond)
	}
	return t
}

// GetToken describes a token that is neither expired nor revoked.
func (s *Store) GetToken(tenant, id string) (TokenInfo, error) {
	const op = "token.get"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return TokenInfo{}, err
	}
	if r, ok := s.tokens.Get(under(t.ID, id)); ok && r.listed(s.now()) {
		return r.TokenInfo, nil
	}
	return TokenInfo{}, fault.About(fault.NotFound, op, "id", "no token %.64q", id)
}

// ListTokens returns a page of the tokens that are neither expired nor revoked, in the order of their ids,
// and after which id the next page begins; empty at the end.
func (s *Store) ListTokens(tenant, after string, limit int) ([]TokenInfo, string, error) {
	const op = "token.list"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return nil, "", err
	}
	if limit, err = pageSize(op, limit); err != nil {
		return nil, "", err
	}
	now, infos := s.now(), []TokenInfo{}
	if after != "" {
		after = under(t.ID, after)
	}
	for {
		list, next := s.tokens.List(under(t.ID, ""), after, maxPage)
		for _, r := range list {
			if !r.listed(now) {
				continue
			}
			if len(infos) == limit {
				return infos, infos[limit-1].ID, nil
			}
			infos = append(infos, r.TokenInfo)
		}
		if next == "" {
			return infos, "", nil
		}
		after = next
	}
}

// RevokeToken ends a token for good.
func (s *Store) RevokeToken(ctx context.Context, tenant, id string) error {
	const op = "token.revoke"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return err
	}
	missing := fault.About(fault.NotFound, op, "id", "no token %.64q", id)
	if r, ok := s.tokens.Get(under(t.ID, id)); !ok || !r.listed(s.now()) {
		return missing
	}
	_, err = s.tokens.Update(ctx, under(t.ID, id), func(r *tokenRecord) error {
		if r.Revoked {
			return missing
		}
		r.Revoked = true
		return nil
	})
	return err
}

// A Revocation says which tokens to revoke: those of a subject, those that a key made or, with neither, all
// of the tenant's.
type Revocation struct {
	Before  time.Time // issued before this instant; zero: now
	Subject string
	Maker   string
}

// RevokeTokens ends all tokens of one sort that were issued before an instant, those without a record too.
// Tokens made afterwards are good.
func (s *Store) RevokeTokens(ctx context.Context, tenant string, which Revocation) error {
	const op = "token.revoke_all"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return err
	}
	now := s.now()
	// Tokens know whole milliseconds only. What was issued in the one that is passing was issued before now.
	before := ceil(which.Before).UTC()
	if which.Before.IsZero() {
		before = now.UTC().Truncate(time.Millisecond).Add(time.Millisecond)
	}
	name := ""
	switch {
	case which.Before.After(now):
		return fault.About(fault.OutOfRange, op, "before", "before is in the future")
	case which.Subject != "" && which.Maker != "":
		return fault.About(fault.InvalidArgument, op, "subject", "give subject or maker, not both")
	case which.Subject != "":
		if !boundedText(which.Subject, maxSubject) {
			return fault.About(fault.InvalidArgument, op, "subject", "subject has %d bytes, want 1 to %d without control characters", len(which.Subject), maxSubject)
		}
		name = subjectCutoff(t.ID, which.Subject)
	case which.Maker != "":
		if len(which.Maker) != keyIDLen || !alphanumeric(which.Maker) {
			return fault.About(fault.InvalidArgument, op, "maker", "maker is not the id of a key, %d letters and digits", keyIDLen)
		}
		name = makerCutoff(t.ID, which.Maker)
	default:
		name = tenantCutoff(t.ID)
	}
	for {
		_, err := s.cutoffs.Update(ctx, name, func(c *cutoff) error {
			c.Before = latest(c.Before, before)
			return nil
		})
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		if err := s.room(op, cutoffsPath, t.ID, "revocations of the last day", MaxCutoffs); err != nil {
			return err
		}
		err = s.cutoffs.Create(ctx, name, &cutoff{before})
		if _, readable := s.cutoffs.Get(name); !readable || !fault.Is(err, fault.Conflict) {
			return err
		}
	}
}

func tenantCutoff(id TenantID) string { return under(id, "all") }

func makerCutoff(id TenantID, key string) string { return under(id, "maker/"+key) }

// subjectCutoff has the digest of the subject, which may be longer than a name in etcd.
func subjectCutoff(id TenantID, subject string) string {
	sum := sha256.Sum256([]byte(subject))
	return under(id, "subject/"+hex.EncodeToString(sum[:16]))
}

func alphanumeric(s string) bool {
	return strings.IndexFunc(s, func(c rune) bool { return (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') }) < 0
}

// cutoffOf is the instant before which a token of these claims must not have been issued.
func (s *Store) cutoffOf(t *TenantState, c *Claims) time.Time {
	before := t.TokensNotBefore
	for _, name := range []string{tenantCutoff(t.ID), makerCutoff(t.ID, c.Maker), subjectCutoff(t.ID, c.Subject)} {
		if cut, ok := s.cutoffs.Get(name); ok {
			before = latest(before, cut.Before)
		}
	}
	return before
}

// revoked says why a token of ours is revoked, or nil.
func (s *Store) revoked(t *TenantState, c *Claims) *Refusal {
	name := under(t.ID, c.ID)
	if r, ok := s.tokens.Get(name); ok && r.Revoked {
		return refuse(Revoked, "jti: revoked")
	}
	if c.IssuedAt.Before(s.cutoffOf(t, c)) {
		return refuse(Revoked, "iat: before a cutoff")
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for path := range s.unreadable { // empty, unless something is badly wrong
		if path == tokensPath+"/"+name || strings.HasPrefix(path, cutoffsPath+"/"+under(t.ID, "")) {
			return refuse(Revoked, "the record of a revocation cannot be read")
		}
	}
	return nil
}
