package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
)

// Where the records lie, below records.Root. A tenant's records are under its id, not under its name, so
// that a tenant that was deleted and made again under its old name starts with none.
const (
	keysPath     = "keys"     // <tenant id>/<key id>
	keyUsePath   = "keyuse"   // <tenant id>
	rolesPath    = "roles"    // <tenant id>/<name>
	policiesPath = "policies" // <tenant id>/<name>
	tokensPath   = "tokens"   // <tenant id>/<jti>
	cutoffsPath  = "cutoffs"  // <tenant id>/all, <tenant id>/maker/<key id>, <tenant id>/subject/<digest>
	signingPath  = "signing"  // current
)

// How much a tenant may keep. Every node holds all of it in memory.
const (
	MaxKeys     = 1000
	MaxRoles    = 200
	MaxPolicies = 500
	MaxTokens   = 10_000 // neither expired nor revoked
	MaxCutoffs  = 10_000
)

// compiledSize bounds the caches of documents and of compiled roles. What falls out is compiled again.
const compiledSize = 16 << 10

// Config says what a Store works with. All of it is needed.
type Config struct {
	Mirror   *mirror.Mirror // of records.Root
	Tenants  Tenants
	Now      func() time.Time
	Log      *slog.Logger
	Issuer   string // the "iss" of our tokens
	Audience string // their "aud"
}

// A Store keeps a cluster's keys, roles, policies, tokens and signing keys in etcd, and what is needed of
// them to authenticate in memory.
//
//	T1: what one tenant's records say has no effect on another's principals.
//	T2: no record holds the text of a key or of a token. Only the signing keys are secrets.
//	T3: whatever ends or narrows a principal moves its tenant's epoch, after the new record is readable. So
//	    a principal made before is not current any more once the change is seen.
//	T4: a record that cannot be read takes rights away and never gives any: a key or tenant is refused, a
//	    role or policy denies everything, a token record or a cutoff refuses the tokens it may concern.
type Store struct {
	m       *mirror.Mirror
	tenants Tenants
	now     func() time.Time
	log     *slog.Logger

	keys     *records.Table[keyRecord]
	keyUse   *records.Table[keyUse]
	roles    *records.Table[Role]
	policies *records.Table[Policy]
	tokens   *records.Table[tokenRecord]
	cutoffs  *records.Table[cutoff]
	signing  *records.Table[signingRecord]

	issuer, audience string
	signer           atomic.Pointer[Signer] // nil until there are signing keys

	documents *lru.Cache[documentKey, *document]
	rules     *lru.Cache[rulesKey, *rules]
	alerts    *lru.Cache[string, struct{}] // what was logged already

	mu         sync.RWMutex
	byID       map[string]*liveKey
	epochs     map[TenantID]*atomic.Uint64
	unreadable map[string]struct{} // paths of the token records and cutoffs that cannot be read
	liveTokens map[TenantID]int    // how many records of tokens that were not revoked; the expired count until swept
	newSigner  func()              // called when the signing keys have changed; set by the authenticator
}

// Open reads the records and follows them.
func Open(cfg Config) (*Store, error) {
	switch {
	case cfg.Mirror == nil, cfg.Tenants == nil, cfg.Now == nil, cfg.Log == nil:
		return nil, errors.New("auth: open: Mirror, Tenants, Now or Log is missing")
	case cfg.Issuer == "":
		return nil, errors.New("auth: open: Issuer is empty")
	case cfg.Audience == "":
		return nil, errors.New("auth: open: Audience is empty")
	}
	s := &Store{
		m: cfg.Mirror, tenants: cfg.Tenants, now: cfg.Now, log: cfg.Log.With("part", "auth"),
		issuer: cfg.Issuer, audience: cfg.Audience,
		byID:       map[string]*liveKey{},
		epochs:     map[TenantID]*atomic.Uint64{},
		unreadable: map[string]struct{}{},
		liveTokens: map[TenantID]int{},
		newSigner:  func() {},
		documents:  newLRU[documentKey, *document](compiledSize),
		rules:      newLRU[rulesKey, *rules](compiledSize),
		alerts:     newLRU[string, struct{}](1024),
	}
	s.keys = records.Open[keyRecord](s.m, "key", keysPath, s.log)
	s.keyUse = records.Open[keyUse](s.m, "key use", keyUsePath, s.log)
	s.roles = records.Open[Role](s.m, "role", rolesPath, s.log)
	s.policies = records.Open[Policy](s.m, "policy", policiesPath, s.log)
	s.tokens = records.Open[tokenRecord](s.m, "token", tokensPath, s.log)
	s.cutoffs = records.Open[cutoff](s.m, "cutoff", cutoffsPath, s.log)
	s.signing = records.Open[signingRecord](s.m, "signing key set", signingPath, s.log)

	s.keys.OnChange(s.keyChanged)
	s.keyUse.OnChange(s.keyUsed)
	s.roles.OnChange(func(name string, _, _ *Role) { s.bump(owner(name)) })
	s.policies.OnChange(func(name string, _, _ *Policy) { s.bump(owner(name)) })
	s.tokens.OnChange(s.tokenChanged)
	s.cutoffs.OnChange(s.cutoffChanged)
	s.signing.OnChange(s.signingChanged)
	s.tenants.OnChange(s.bump)

	// The tables tell of changes to what they cannot read, but not of what they could not read when opened.
	for _, r := range s.m.List(records.Root+tokensPath+"/", "", 0) {
		name := strings.TrimPrefix(r.Key, records.Root+tokensPath+"/")
		_, readable := s.tokens.Get(name)
		s.note(tokensPath+"/"+name, readable)
	}
	for _, r := range s.m.List(records.Root+cutoffsPath+"/", "", 0) {
		name := strings.TrimPrefix(r.Key, records.Root+cutoffsPath+"/")
		_, readable := s.cutoffs.Get(name)
		s.note(cutoffsPath+"/"+name, readable)
	}
	return s, nil
}

// newLRU is for sizes that are positive constants.
func newLRU[K comparable, V any](size int) *lru.Cache[K, V] {
	c, err := lru.New[K, V](size)
	if err != nil {
		panic(err)
	}
	return c
}

// owner is the tenant whose record has this name.
func owner(name string) TenantID {
	id, _, _ := strings.Cut(name, "/")
	return TenantID(id)
}

// epoch counts the changes that concern a tenant's principals. One that was never heard of gets a counter
// too, so ask only for ids that come from a record.
func (s *Store) epoch(id TenantID) *atomic.Uint64 {
	s.mu.RLock()
	e := s.epochs[id]
	s.mu.RUnlock()
	if e != nil {
		return e
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if e = s.epochs[id]; e == nil {
		e = new(atomic.Uint64)
		s.epochs[id] = e
	}
	return e
}

// bump ends the principals of a tenant.
func (s *Store) bump(id TenantID) { s.epoch(id).Add(1) }

// note keeps unreadable up to date for a token record or a cutoff, and reports whether it is in there.
func (s *Store) note(path string, readable bool) (unreadable bool) {
	_, there := s.m.Get(records.Root + path)
	s.mu.Lock()
	defer s.mu.Unlock()
	if there && !readable {
		s.unreadable[path] = struct{}{}
		return true
	}
	delete(s.unreadable, path)
	return false
}

// tenant finds a tenant for a management call.
func (s *Store) tenant(op, name string) (TenantState, error) {
	t, ok := s.tenants.Tenant(name)
	if !ok {
		return t, fault.About(fault.NotFound, op, "tenant", "no tenant %q", name)
	}
	return t, nil
}

// under is the name of a tenant's record.
func under(id TenantID, name string) string { return string(id) + "/" + name }

// alert logs what must be mended, once for each text.
func (s *Store) alert(msg string, tenant string, err error) {
	text := msg + tenant + err.Error()
	if seen, _ := s.alerts.ContainsOrAdd(text, struct{}{}); !seen {
		s.log.Error(msg, "tenant", tenant, "error", err)
	}
}

// The sizes of a page.
const (
	defaultPage = 100
	maxPage     = 1000
)

func pageSize(op string, limit int) (int, error) {
	switch {
	case limit == 0:
		return defaultPage, nil
	case limit < 0 || limit > maxPage:
		return 0, fault.About(fault.OutOfRange, op, "limit", "limit is %d, want 1 to %d", limit, maxPage)
	}
	return limit, nil
}

// page cuts a page out of all, which is sorted by name.
func page[T any](all []T, name func(T) string, after string, limit int) (cut []T, next string) {
	from := 0
	if after != "" {
		from, _ = slices.BinarySearchFunc(all, after+"\x00", func(t T, after string) int { return strings.Compare(name(t), after) })
	}
	if all = all[from:]; len(all) <= limit {
		return all, ""
	}
	return all[:limit], name(all[limit-1])
}

// validName reports whether s is [a-z0-9][a-z0-9._-]{0,62}.
func validName(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
		case i > 0 && (c == '.' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 63
}

const nameForm = "1 to 63 of a-z, 0-9, '.', '_' and '-', the first a letter or a digit"

// validText reports whether s is text for people, of at most limit bytes.
func validText(s string, limit int) bool { return s == "" || boundedText(s, limit) }

// explain turns an error of the mirror into a fault.
func explain(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, mirror.ErrConflict):
		return fault.Wrap(fault.Conflict, op, err, "it was changed meanwhile; look and try again")
	case errors.Is(err, mirror.ErrUncertain):
		return fault.Wrap(fault.OutcomeUnknown, op, err, "the control store did not confirm this change; look before you try again")
	case errors.Is(err, mirror.ErrUnavailable):
		return fault.Wrap(fault.Unavailable, op, err, "the control store cannot be reached, so nothing can be changed now; reads and data go on")
	}
	return fault.Wrap(fault.Internal, op, err, "")
}

// remove deletes records by their full paths, a hundred in a step, and says how many it deleted.
func (s *Store) remove(ctx context.Context, op string, paths []string) (n int, err error) {
	for batch := range slices.Chunk(paths, 100) {
		ops := make([]clientv3.Op, len(batch))
		for i, path := range batch {
			ops[i] = clientv3.OpDelete(records.Root + path)
		}
		if _, err := s.m.Txn(ctx, nil, ops); err != nil {
			return n, explain(op, err)
		}
		n += len(batch)
	}
	return n, nil
}

// DropTenant deletes everything kept for a tenant that is gone for good.
func (s *Store) DropTenant(ctx context.Context, id TenantID) error {
	if id == "" {
		return fault.New(fault.Internal, "auth.drop_tenant", "the tenant id is empty")
	}
	if t, ok := s.tenants.Tenant(policy.SystemTenant); ok && t.ID == id {
		return fault.New(fault.Conflict, "auth.drop_tenant", "the tenant %q stays", policy.SystemTenant)
	}
	var paths []string
	for _, kind := range []string{keysPath, rolesPath, policiesPath, tokensPath, cutoffsPath} {
		for _, r := range s.m.List(records.Root+kind+"/"+under(id, ""), "", 0) {
			paths = append(paths, strings.TrimPrefix(r.Key, records.Root))
		}
	}
	_, err := s.remove(ctx, "auth.drop_tenant", append(paths, keyUsePath+"/"+string(id)))
	return err
}

// How long what has ended stays in sight.
const (
	keepExpiredKey   = 30 * 24 * time.Hour
	keepExpiredToken = time.Minute // beyond its leeway, for clocks that differ
	signingKeyAge    = 30 * 24 * time.Hour
	sweepAtMost      = 1000 // records in one call
)

// Sweep is the housekeeping: it writes down when keys were last used, deletes what has expired, a bounded
// number at a time, and rotates signing keys that are old. Call it every minute. Any number of nodes may.
func (s *Store) Sweep(ctx context.Context) error {
	now := s.now()
	err := s.FlushUse(ctx)
	var paths []string
	tokens, _ := s.tokens.List("", "", 0)
	for _, t := range tokens {
		if t.ended(now.Add(-keepExpiredToken)) {
			paths = append(paths, tokensPath+"/"+under(t.TenantID, t.ID))
		}
	}
	s.mu.RLock()
	for _, k := range s.byID {
		if end := k.record.ExpiresAt; !end.IsZero() && now.Sub(end) > keepExpiredKey {
			paths = append(paths, keysPath+"/"+under(k.tenant, k.record.ID))
		}
	}
	s.mu.RUnlock()
	_, removeErr := s.remove(ctx, "auth.sweep", paths[:min(len(paths), sweepAtMost)])
	return errors.Join(err, removeErr, s.sweepCutoffs(ctx, now), s.rotateOld(ctx, now))
}

// sweepCutoffs deletes the cutoffs that no token can be old enough for.
func (s *Store) sweepCutoffs(ctx context.Context, now time.Time) error {
	deleted := 0
	for _, r := range s.m.List(records.Root+cutoffsPath+"/", "", 0) {
		c, ok := s.cutoffs.Get(strings.TrimPrefix(r.Key, records.Root+cutoffsPath+"/"))
		if !ok || now.Sub(c.Before) <= MaxTokenLife+MaxLeeway+keepExpiredToken || deleted == sweepAtMost {
			continue
		}
		// It may have been moved since; then it stays.
		if _, err := s.m.Delete(ctx, r.Key, r.ModRevision); err != nil && !errors.Is(err, mirror.ErrConflict) {
			return explain("auth.sweep", err)
		}
		deleted++
	}
	return nil
}

// A signingRecord is the cluster's key set. It holds private keys: etcd and the mirror's copy are as secret
// as those are.
type signingRecord struct {
	RotatedAt time.Time       `json:"rotated_at"`
	Keys      json.RawMessage `json:"keys"`
}

const signingName = "current"

// signingChanged takes new keys into use. A set that cannot be read changes nothing: what was signed with
// the keys we know is still good.
func (s *Store) signingChanged(_ string, _, new *signingRecord) {
	if new == nil {
		return
	}
	keys, err := UnmarshalKeySet(new.Keys)
	if err != nil {
		s.log.Error("the signing keys cannot be read; going on with those known", "error", err)
		return
	}
	signer, err := NewSigner(s.issuer, s.audience, keys)
	if err != nil {
		s.log.Error("the signing keys cannot be used; going on with those known", "error", err)
		return
	}
	old := s.signer.Swap(signer)
	if old == nil || keepsKeys(old.Keys(), keys, s.now()) {
		return
	}
	// Somebody withdrew a key before its time, so what it signed is refused from now on.
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.newSigner()
	for _, e := range s.epochs {
		e.Add(1)
	}
}

// keepsKeys reports whether every key that verifies in old does so in new.
func keepsKeys(old, new *KeySet, now time.Time) bool {
	ids := []string{old.Current.ID(), old.Next.ID()}
	for _, r := range old.Retired {
		if now.Before(r.Until) {
			ids = append(ids, r.Key.id)
		}
	}
	return !slices.ContainsFunc(ids, func(id string) bool {
		_, ok := new.Key(id, now)
		return !ok
	})
}

// Key implements KeySource for our own tokens.
func (s *Store) Key(kid string, now time.Time) (PublicKey, bool) {
	if signer := s.signer.Load(); signer != nil {
		return signer.Key(kid, now)
	}
	return PublicKey{}, false
}

// signingKeys returns the signer, with keys made now if the cluster has none yet.
func (s *Store) signingKeys(ctx context.Context) (*Signer, error) {
	if signer := s.signer.Load(); signer != nil {
		return signer, nil
	}
	keys, err := NewKeySet(rand.Reader)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, "auth.signing_keys", err, "")
	}
	err = s.signing.Create(ctx, signingName, &signingRecord{RotatedAt: s.now().UTC(), Keys: keys.Marshal()})
	if err != nil && !fault.Is(err, fault.Conflict) { // another node was first
		return nil, err
	}
	if signer := s.signer.Load(); signer != nil {
		return signer, nil
	}
	return nil, fault.New(fault.Internal, "auth.signing_keys", "the signing keys cannot be read")
}

// JWKS is the public document of our signing keys, which others may keep for JWKSMaxAge.
func (s *Store) JWKS(ctx context.Context) ([]byte, error) {
	signer, err := s.signingKeys(ctx)
	if err != nil {
		return nil, err
	}
	return signer.Keys().JWKS(s.now()), nil
}

// RotateSigningKeys makes the next key the one that signs. Tokens that were signed before stay valid.
func (s *Store) RotateSigningKeys(ctx context.Context) error {
	return s.rotate(ctx, JWKSMaxAge)
}

// rotateOld rotates keys that were not rotated for signingKeyAge.
func (s *Store) rotateOld(ctx context.Context, now time.Time) error {
	r, ok := s.signing.Get(signingName)
	if !ok || now.Sub(r.RotatedAt) < signingKeyAge {
		return nil
	}
	err := s.rotate(ctx, signingKeyAge)
	if fault.Is(err, fault.Throttled) {
		return nil // another node was first
	}
	return err
}

// rotate rotates keys that are at least that old.
func (s *Store) rotate(ctx context.Context, age time.Duration) error {
	const op = "auth.rotate_signing_keys"
	if _, err := s.signingKeys(ctx); err != nil {
		return err
	}
	_, err := s.signing.Update(ctx, signingName, func(r *signingRecord) error {
		now := s.now()
		if wait := age - now.Sub(r.RotatedAt); wait > 0 {
			e := fault.New(fault.Throttled, op, "signing keys were rotated less than %v ago", age)
			e.RetryAfter = wait
			return e
		}
		keys, err := UnmarshalKeySet(r.Keys)
		if err == nil {
			keys, err = keys.Rotate(rand.Reader, now)
		}
		if err != nil {
			return fault.Wrap(fault.Conflict, op, err, "the signing keys cannot be rotated now")
		}
		r.RotatedAt, r.Keys = now.UTC(), keys.Marshal()
		return nil
	})
	return err
}

// inUse is the Conflict that names who uses a thing, at most five of them.
func inUse(op, kind, name, users string, who []string) error {
	slices.Sort(who)
	list := strings.Join(who[:min(len(who), 5)], ", ")
	if len(who) > 5 {
		list += fmt.Sprintf(" and %d more", len(who)-5)
	}
	return fault.About(fault.Conflict, op, "name", "%s %q is used by %s: %s", kind, name, users, list)
}
