package auth

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// A SigningKey is an Ed25519 key of our own. It prints as its id: the private part leaves only
// through KeySet.Marshal.
type SigningKey struct {
	public  PublicKey
	private ed25519.PrivateKey
}

// NewSigningKey draws a key from random, which is crypto/rand.Reader everywhere but in tests.
func NewSigningKey(random io.Reader) (*SigningKey, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(random, seed); err != nil {
		return nil, fmt.Errorf("auth: reading randomness: %w", err)
	}
	return signingKey(seed), nil
}

func signingKey(seed []byte) *SigningKey {
	private := ed25519.NewKeyFromSeed(seed)
	public := private.Public().(ed25519.PublicKey)
	return &SigningKey{PublicKey{id: thumbprint(public), alg: EdDSA, key: public}, private}
}

// ID is the key's "kid", its RFC 7638 thumbprint.
func (k *SigningKey) ID() string { return k.public.id }

// Format keeps the private part out of every fmt verb, %#v among them.
func (k *SigningKey) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "signing key %s", k.ID()) }

// Public is the half that verifies.
func (k *SigningKey) Public() PublicKey { return k.public }

// Overlap is how long a key goes on verifying after it was retired: the longest life of a token that
// it signed at its last moment, and a margin. The margin covers the leeway and a node that heard of
// the rotation late and signed with the old key a little longer.
const (
	Overlap        = MaxTokenLife + rotationMargin
	rotationMargin = 5 * time.Minute

	// maxRetired bounds the published document. Whoever rotates more often than this within one
	// Overlap has a loop to mend.
	maxRetired = 100
)

// A RetiredKey signs no more. Its private part is gone.
type RetiredKey struct {
	Key   PublicKey
	Until time.Time
}

// A KeySet is our keys at one moment. It never changes: rotation makes a new one.
//
//	K1: Current signs. Next signs after the following rotation, and is published already, so that
//	    whoever keeps our document for a while knows it by then.
//	K2: all three kinds verify: Next too, because another node may have rotated before we heard of it,
//	    and each of Retired until its instant.
//	K3: no key stands in a set twice.
type KeySet struct {
	Current, Next *SigningKey
	Retired       []RetiredKey // oldest first
}

// NewKeySet draws the two keys that a new cluster starts with.
func NewKeySet(random io.Reader) (*KeySet, error) {
	current, err := NewSigningKey(random)
	if err != nil {
		return nil, err
	}
	next, err := NewSigningKey(random)
	if err != nil {
		return nil, err
	}
	return &KeySet{Current: current, Next: next}, nil
}

// Rotate returns the set after a rotation at the instant now. No valid token is refused because of
// it, on this node or on one that still holds s. Between two rotations leave at least JWKSMaxAge, so
// that verifiers elsewhere have seen the key that begins to sign.
func (s *KeySet) Rotate(random io.Reader, now time.Time) (*KeySet, error) {
	next, err := NewSigningKey(random)
	if err != nil {
		return nil, err
	}
	retired := slices.DeleteFunc(slices.Clone(s.Retired), func(r RetiredKey) bool { return !now.Before(r.Until) })
	if len(retired) >= maxRetired {
		return nil, fmt.Errorf("auth: rotate: %d keys were retired within %v, wait for the first to end at %s",
			len(retired), Overlap, retired[0].Until.UTC().Format(time.RFC3339))
	}
	retired = append(retired, RetiredKey{s.Current.Public(), now.Add(Overlap)})
	return &KeySet{Current: s.Next, Next: next, Retired: retired}, nil
}

// Key implements KeySource.
func (s *KeySet) Key(kid string, now time.Time) (PublicKey, bool) {
	switch kid {
	case s.Current.public.id:
		return s.Current.public, true
	case s.Next.public.id:
		return s.Next.public, true
	}
	for _, r := range s.Retired {
		if r.Key.id == kid {
			return r.Key, now.Before(r.Until)
		}
	}
	return PublicKey{}, false
}

// JWKS writes the public document as of now: current, next, then what is retired and still verifies.
func (s *KeySet) JWKS(now time.Time) []byte {
	keys := []jwk{s.Current.public.jwk(), s.Next.public.jwk()}
	for _, r := range s.Retired {
		if now.Before(r.Until) {
			keys = append(keys, r.Key.jwk())
		}
	}
	return mustMarshal(struct {
		Keys []jwk `json:"keys"`
	}{keys})
}

// A wireKeySet is a KeySet as it is stored. Private keys are in it: store it encrypted, log it never.
type wireKeySet struct {
	Current jwk           `json:"current"`
	Next    jwk           `json:"next"`
	Retired []wireRetired `json:"retired"`
}

type wireRetired struct {
	Key   jwk       `json:"key"`
	Until time.Time `json:"until"`
}

// Marshal writes the set with its private keys.
func (s *KeySet) Marshal() []byte {
	private := func(k *SigningKey) jwk {
		w := k.public.jwk()
		w.Private = base64.RawURLEncoding.EncodeToString(k.private.Seed())
		return w
	}
	w := wireKeySet{Current: private(s.Current), Next: private(s.Next), Retired: []wireRetired{}}
	for _, r := range s.Retired {
		w.Retired = append(w.Retired, wireRetired{r.Key.jwk(), r.Until.UTC()})
	}
	return mustMarshal(w)
}

// mustMarshal writes types of ours that always can be written.
func mustMarshal(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("auth: " + err.Error())
	}
	return data
}

// UnmarshalKeySet reads what Marshal wrote. A key whose halves or whose id do not belong together is
// an error: signing with it would make tokens that nobody accepts.
func UnmarshalKeySet(data []byte) (*KeySet, error) {
	var w wireKeySet
	if tooDeep(data) || json.Unmarshal(data, &w, json.RejectUnknownMembers(true)) != nil {
		return nil, errors.New("auth: key set: not of the stored form") // the cause might quote a private key
	}
	s := &KeySet{}
	var err error
	if s.Current, err = readSigningKey(w.Current); err != nil {
		return nil, fmt.Errorf("auth: key set: current: %w", err)
	}
	if s.Next, err = readSigningKey(w.Next); err != nil {
		return nil, fmt.Errorf("auth: key set: next: %w", err)
	}
	seen := []string{s.Current.ID(), s.Next.ID()}
	for i, r := range w.Retired {
		key, err := readRetiredKey(r.Key)
		if err != nil {
			return nil, fmt.Errorf("auth: key set: retired[%d]: %w", i, err)
		}
		s.Retired = append(s.Retired, RetiredKey{key, r.Until})
		seen = append(seen, key.id)
	}
	slices.Sort(seen)
	if n := len(seen); len(slices.Compact(seen)) != n {
		return nil, errors.New("auth: key set: K3: a key stands twice")
	}
	return s, nil
}

func readSigningKey(w jwk) (*SigningKey, error) {
	seed, ok := decodeBase64(w.Private)
	if !ok || len(seed) != ed25519.SeedSize {
		return nil, errors.New("d is not strict base64url of 32 bytes")
	}
	key := signingKey(seed)
	if w.ID != key.ID() || w.X != key.public.jwk().X {
		return nil, errors.New("the private key does not belong to the rest")
	}
	return key, nil
}

func readRetiredKey(w jwk) (PublicKey, error) {
	key, err := parseJWK(mustMarshal(w))
	if err != nil {
		return PublicKey{}, err
	}
	x, ok := key.key.(ed25519.PublicKey)
	if !ok || key.id != thumbprint(x) {
		return PublicKey{}, errors.New("not an Ed25519 key under its thumbprint")
	}
	key.alg = EdDSA
	return key, nil
}

// A Signer mints the cluster's own tokens and, as their KeySource, verifies them. It never changes: a
// rotation makes a new one.
type Signer struct {
	issuer, audience string
	keys             *KeySet
}

// NewSigner makes a signer whose tokens name issuer and, unless they ask otherwise, audience.
func NewSigner(issuer, audience string, keys *KeySet) (*Signer, error) {
	switch {
	case issuer == "":
		return nil, errors.New("auth: signer: issuer is empty")
	case audience == "":
		return nil, errors.New("auth: signer: audience is empty")
	case keys == nil:
		return nil, errors.New("auth: signer: keys are missing")
	}
	return &Signer{issuer, audience, keys}, nil
}

// Keys is the set in use.
func (s *Signer) Keys() *KeySet { return s.keys }

// Key implements KeySource.
func (s *Signer) Key(kid string, now time.Time) (PublicKey, bool) { return s.Keys().Key(kid, now) }

// Mint signs claims at the instant now. It fills in Issuer, IssuedAt, Audience where there is none and
// ID where it is empty, so that afterwards claims are what a verifier will read. The token must
// expire, within MaxTokenLife. Instants are cut to whole milliseconds: a fraction of a second matters when
// all tokens issued before a certain instant are revoked.
func (s *Signer) Mint(claims *Claims, now time.Time) (string, error) {
	c := *claims
	c.Issuer = s.issuer
	c.IssuedAt = now.UTC().Truncate(time.Millisecond)
	c.Expires = c.Expires.UTC().Truncate(time.Millisecond)
	c.NotBefore = c.NotBefore.UTC().Truncate(time.Millisecond)
	if len(c.Audience) == 0 {
		c.Audience = []string{s.audience}
	}
	if c.ID == "" {
		c.ID = rand.Text()
	}
	c.Scopes = slices.Clone(c.Scopes)
	slices.Sort(c.Scopes)
	c.Scopes = slices.Compact(c.Scopes)

	payload, err := c.payload(now)
	if err != nil {
		return "", fmt.Errorf("auth: mint: %w", err)
	}
	key := s.Keys().Current
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"EdDSA","kid":"`+key.ID()+`","typ":"cache+jwt"}`)) +
		"." + base64.RawURLEncoding.EncodeToString(payload)
	signature, err := jwt.SigningMethodEdDSA.Sign(signed, key.private)
	if err != nil {
		return "", fmt.Errorf("auth: mint: %w", err)
	}
	token := signed + "." + base64.RawURLEncoding.EncodeToString(signature)
	if len(token) > MaxTokenBytes {
		return "", fmt.Errorf("auth: mint: the token would have %d bytes, at most %d are accepted: shorten the policy",
			len(token), MaxTokenBytes)
	}
	*claims = c
	return token, nil
}

// dateValue writes seconds since 1970, with three digits after the point where they are needed.
func dateValue(t time.Time) jsontext.Value {
	ms := t.UnixMilli()
	if ms%1000 == 0 {
		return strconv.AppendInt(nil, ms/1000, 10)
	}
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000)
}

// payload writes the claims, or says which of them a verifier would refuse.
func (c *Claims) payload(now time.Time) ([]byte, error) {
	switch {
	case c.Expires.IsZero():
		return nil, errors.New("exp: a token must expire")
	case !c.Expires.After(now):
		return nil, errors.New("exp: not in the future")
	case c.Expires.Sub(c.IssuedAt) > MaxTokenLife:
		return nil, fmt.Errorf("exp: %v from now, at most %v", c.Expires.Sub(now), MaxTokenLife)
	case !c.NotBefore.IsZero() && !c.NotBefore.Before(c.Expires):
		return nil, errors.New("nbf: not before exp")
	case !c.Use.known():
		return nil, fmt.Errorf("use %q: want %q, %q or %q", c.Use, UseData, UseManage, UseRefresh)
	case slices.ContainsFunc(c.Scopes, func(w string) bool { return !validScope(w) }):
		return nil, errors.New("scope: want words of printable ASCII without spaces, quotes and backslashes")
	}
	if refusal := c.checkBounds(); refusal != nil {
		return nil, errors.New(refusal.Detail)
	}
	own := wireOwn{Use: c.Use, Tenant: c.Tenant, Maker: c.Maker, AuthMethod: c.AuthMethod}
	if c.Policy != nil {
		own.Policy = jsontext.Value(c.Policy)
		if tooDeep(c.Policy) || !own.Policy.IsValid() || own.Policy.Kind() != '{' {
			return nil, fmt.Errorf("policy: want a JSON object that nests at most %d deep", maxDepth)
		}
	}
	var unwritable error // text that is not UTF-8
	marshal := func(v any) jsontext.Value {
		data, err := json.Marshal(v)
		unwritable = cmp.Or(unwritable, err)
		return data
	}
	w := wireClaims{
		Issuer:   c.Issuer,
		Subject:  c.Subject,
		Audience: marshal(c.Audience),
		Expires:  dateValue(c.Expires),
		IssuedAt: dateValue(c.IssuedAt),
		ID:       c.ID,
		Larder:   marshal(own),
	}
	if !c.NotBefore.IsZero() {
		w.NotBefore = dateValue(c.NotBefore)
	}
	if len(c.Scopes) > 0 {
		w.Scope = marshal(c.Scopes)
	}
	for name, texts := range c.Extra {
		if registered(name) {
			return nil, fmt.Errorf("claim %.64q: the name is taken", name)
		}
		if w.Rest == nil {
			w.Rest = make(map[string]jsontext.Value, len(c.Extra))
		}
		w.Rest[name] = marshal(texts)
	}
	payload, err := json.Marshal(w, json.Deterministic(true))
	if err = cmp.Or(unwritable, err); err != nil {
		return nil, err
	}
	if tooDeep(payload) {
		return nil, fmt.Errorf("policy: the token would nest deeper than %d", maxDepth)
	}
	return payload, nil
}
