package auth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// ErrRefused is what every refused credential is, whatever the reason: errors.Is(err, ErrRefused).
var ErrRefused = errors.New("credential refused")

// A Refusal says why a credential was refused. Its message is the same for all reasons, because a
// client that tries credentials should learn nothing from it; Reason and Detail are for our log and
// metrics. Detail is always a text of this package's source, never a part of the credential.
type Refusal struct {
	Reason Reason
	Detail string
}

func refuse(reason Reason, detail string) *Refusal { return &Refusal{reason, detail} }

func (*Refusal) Error() string          { return ErrRefused.Error() }
func (*Refusal) Is(target error) bool   { return target == ErrRefused }
func (r *Refusal) LogValue() slog.Value { return slog.StringValue(string(r.Reason) + ": " + r.Detail) }

// A Reason is a label of bounded number, fit for a metric.
type Reason string

const (
	Malformed     Reason = "malformed"     // not the shape of a credential: length, parts, base64, JSON, checksum
	BadHeader     Reason = "header"        // a token header we do not allow, or none where one is needed
	BadAlgorithm  Reason = "algorithm"     // not pinned for the issuer, or not the algorithm of the key
	UnknownIssuer Reason = "issuer"        // no such issuer
	UnknownKey    Reason = "key"           // the issuer has no such key, or has it no more
	BadSignature  Reason = "signature"     // the signature does not fit
	BadClaims     Reason = "claims"        // a required claim is missing, or a claim is out of its bounds
	WrongAudience Reason = "audience"      // meant for somebody else
	Expired       Reason = "expired"       // too late
	NotYetValid   Reason = "not_yet_valid" // too early
	LivesTooLong  Reason = "lives_too_long"
	WrongUse      Reason = "use" // for another door than this one
	Revoked       Reason = "revoked"
)

// Bounds of a token, each tested at and beyond its edge.
const (
	MaxTokenBytes = 8 << 10 // of the whole text
	MaxLeeway     = 30 * time.Second
	MaxTokenLife  = 25 * time.Hour // of a token of our own

	maxDepth      = 64   // of nested arrays and objects
	maxSubject    = 1024 // bytes
	maxTokenID    = 256  // bytes
	maxKeyID      = 128  // bytes
	maxAudiences  = 32
	maxNumericSec = 253402300799 // 9999-12-31T23:59:59Z, the last instant RFC 3339 can write
)

// An Algorithm is the "alg" of a token. There are four; HMAC is not among them, and so no public key
// can ever be taken for a shared secret.
type Algorithm string

const (
	EdDSA Algorithm = "EdDSA" // Ed25519 only
	ES256 Algorithm = "ES256"
	RS256 Algorithm = "RS256"
	PS256 Algorithm = "PS256"
)

// A Use is the door that a token of ours opens.
type Use string

const (
	UseData    Use = "data"    // the data plane: caches and what is in them
	UseManage  Use = "manage"  // the management API: caches, keys, roles, policies, tokens
	UseRefresh Use = "refresh" // nothing but being exchanged for another token
)

// Claims are what a verified token says. They exist only after every check has passed.
type Claims struct {
	Issuer    string
	Subject   string // any text of 1..1024 bytes, also "*" and "${x}": never read it as a pattern
	Audience  []string
	Expires   time.Time
	IssuedAt  time.Time
	NotBefore time.Time // zero: not said
	ID        string    // jti; revocation goes by it, because the text of a token can be varied
	Scopes    []string  // sorted, each once

	// Tenant is the one the issuer is bound to. Only tokens of our own carry a tenant themselves, and
	// then it may be empty: an operator's token belongs to none.
	Tenant string
	// Use is always UseData for a token of an external issuer.
	Use Use
	// Policy is the inline policy, a JSON object, nil when there is none. It can only narrow what
	// Maker may do. Tokens of external issuers have none.
	Policy []byte
	// Maker is the id of the credential that asked for the token, and AuthMethod how that credential
	// was proved. Both are empty in tokens of external issuers.
	Maker, AuthMethod string

	// Extra holds the other claims, for policies: strings, numbers and booleans as text, and arrays of
	// these. A claim of another shape is left out. From external issuers this is the only place where a
	// claim of their own choice ends up.
	Extra map[string][]string
}

// A KeySource finds an issuer's public key by its id, at an instant. A key that it does not return
// verifies nothing.
type KeySource interface {
	Key(kid string, now time.Time) (PublicKey, bool)
}

// An IssuerSpec is what an operator or a tenant says of a party whose tokens we accept.
type IssuerSpec struct {
	Name       string // exactly the "iss" claim
	Audience   string // exactly one member of the "aud" claim
	Algorithms []Algorithm
	Keys       KeySource
	MaxLife    time.Duration // the most that may lie between "iat" and "exp"
	Leeway     time.Duration // how wrong the issuer's clock may be, at most MaxLeeway

	// Either the issuer is Own, and its tokens may say whose they are and what they open, or it is
	// bound to a Tenant, and its tokens are of that tenant whatever they say.
	Own    bool
	Tenant string
}

// An Issuer is an IssuerSpec that has been checked.
type Issuer struct{ spec IssuerSpec }

// NewIssuer checks spec. An empty list of algorithms is an error: in the library underneath it would
// mean "any".
func NewIssuer(spec IssuerSpec) (*Issuer, error) {
	allowed := []Algorithm{EdDSA, ES256, RS256, PS256}
	if spec.Own {
		allowed = []Algorithm{EdDSA, ES256}
	}
	bad := func(format string, args ...any) (*Issuer, error) {
		return nil, fmt.Errorf("auth: issuer %q: "+format, append([]any{spec.Name}, args...)...)
	}
	switch {
	case spec.Name == "":
		return bad("name is empty")
	case spec.Audience == "":
		return bad("audience is empty")
	case spec.Own == (spec.Tenant != ""):
		return bad("want either own or a tenant, got own=%t tenant=%q", spec.Own, spec.Tenant)
	case len(spec.Algorithms) == 0:
		return bad("algorithms are empty: name at least one of %v", allowed)
	case spec.Keys == nil:
		return bad("keys are missing")
	case spec.MaxLife <= 0:
		return bad("max life %v: want more than 0", spec.MaxLife)
	case spec.Own && spec.MaxLife > MaxTokenLife:
		return bad("max life %v: our own tokens live at most %v", spec.MaxLife, MaxTokenLife)
	case spec.Leeway < 0 || spec.Leeway > MaxLeeway:
		return bad("leeway %v: want 0 to %v", spec.Leeway, MaxLeeway)
	}
	for _, alg := range spec.Algorithms {
		if !slices.Contains(allowed, alg) {
			return bad("algorithm %q: want one of %v", alg, allowed)
		}
	}
	spec.Algorithms = slices.Clone(spec.Algorithms)
	return &Issuer{spec}, nil
}

// Issuers finds an issuer by the exact "iss" of a token.
type Issuers interface {
	Issuer(name string) (*Issuer, bool)
}

// IssuerList is a fixed set of issuers.
type IssuerList []*Issuer

// Issuer implements Issuers.
func (l IssuerList) Issuer(name string) (*Issuer, bool) {
	for _, issuer := range l {
		if issuer.spec.Name == name {
			return issuer, true
		}
	}
	return nil, false
}

// A Verifier reads tokens at one door. It accepts less than the JWT library does, which by itself
// lets through unknown critical headers, tokens without an end, claims given twice or in another
// letter case, and texts that differ from what was signed. The library only checks signatures here.
//
// A Verifier may be used by many goroutines at once.
type Verifier struct {
	issuers Issuers
	uses    []Use
	revoked func(*Claims) bool
}

// NewVerifier makes the reader for a door that the given uses open. Revoked, when not nil, is asked
// last, once for each token that passed everything else; it sees the claims and answers from memory.
func NewVerifier(issuers Issuers, uses []Use, revoked func(*Claims) bool) (*Verifier, error) {
	if issuers == nil {
		return nil, errors.New("auth: verifier: issuers are missing")
	}
	if len(uses) == 0 {
		return nil, errors.New("auth: verifier: uses are empty: name at least one")
	}
	for _, use := range uses {
		if !use.known() {
			return nil, fmt.Errorf("auth: verifier: unknown use %q", use)
		}
	}
	return &Verifier{issuers, slices.Clone(uses), revoked}, nil
}

func (u Use) known() bool { return u == UseData || u == UseManage || u == UseRefresh }

// Verify returns what token says, if it is to be believed at the instant now. The error is always a
// *Refusal. The order is: shape, issuer, key, signature, and only then what is claimed.
func (v *Verifier) Verify(token string, now time.Time) (*Claims, error) {
	claims, refusal := v.verify(token, now)
	if refusal != nil {
		return nil, refusal
	}
	return claims, nil
}

func (v *Verifier) verify(token string, now time.Time) (*Claims, *Refusal) {
	header, payload, signature, refusal := splitToken(token)
	if refusal != nil {
		return nil, refusal
	}
	head, refusal := readHeader(header)
	if refusal != nil {
		return nil, refusal
	}
	if tooDeep(payload) {
		return nil, refuse(Malformed, "payload: nested too deep")
	}
	var body wireClaims
	if json.Unmarshal(payload, &body) != nil {
		return nil, refuse(Malformed, "payload: not a JSON object of the expected shape")
	}

	// The name of the issuer is the one thing taken from an unverified payload, to find the key.
	issuer, ok := v.issuers.Issuer(body.Issuer)
	if !ok || issuer.spec.Name != body.Issuer {
		return nil, refuse(UnknownIssuer, "iss: unknown")
	}
	if !slices.Contains(issuer.spec.Algorithms, head.Algorithm) {
		return nil, refuse(BadAlgorithm, "alg: not allowed for the issuer")
	}
	key, ok := issuer.spec.Keys.Key(head.KeyID, now)
	if !ok {
		return nil, refuse(UnknownKey, "kid: unknown")
	}
	if !key.fits(head.Algorithm) {
		return nil, refuse(BadAlgorithm, "alg: not that of the key")
	}
	if !key.verify(head.Algorithm, token[:strings.LastIndexByte(token, '.')], signature) {
		return nil, refuse(BadSignature, "signature: wrong")
	}

	claims, refusal := body.claims(issuer)
	if refusal != nil {
		return nil, refusal
	}
	if refusal := claims.judge(issuer, now); refusal != nil {
		return nil, refusal
	}
	if !slices.Contains(v.uses, claims.Use) {
		return nil, refuse(WrongUse, "use: not for this door")
	}
	if v.revoked != nil && v.revoked(claims) {
		return nil, refuse(Revoked, "revoked")
	}
	return claims, nil
}

// splitToken takes a token apart. There is exactly one text for each content: no padding, no white
// space, and the unused bits at the end of each part are zero.
func splitToken(token string) (header, payload, signature []byte, refusal *Refusal) {
	if len(token) > MaxTokenBytes {
		return nil, nil, nil, refuse(Malformed, "token: too long")
	}
	h, rest, _ := strings.Cut(token, ".")
	p, s, ok := strings.Cut(rest, ".")
	if !ok || h == "" || p == "" || s == "" || strings.IndexByte(s, '.') >= 0 {
		return nil, nil, nil, refuse(Malformed, "token: not three parts")
	}
	header, ok1 := decodeBase64(h)
	payload, ok2 := decodeBase64(p)
	signature, ok3 := decodeBase64(s)
	if !ok1 || !ok2 || !ok3 {
		return nil, nil, nil, refuse(Malformed, "token: not strict base64url")
	}
	return header, payload, signature, nil
}

var strictBase64 = base64.RawURLEncoding.Strict()

// decodeBase64 looks for line breaks itself, because encoding/base64 skips them even when strict.
func decodeBase64(text string) ([]byte, bool) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	data, err := strictBase64.DecodeString(text)
	return data, err == nil
}

// A wireHeader names every header that we allow. crit, jku, jwk, x5u, x5c, b64, zip, cty and whatever
// comes next are unknown members, and a token with one of these is refused.
type wireHeader struct {
	Algorithm Algorithm `json:"alg"`
	KeyID     string    `json:"kid"`
	Type      string    `json:"typ"`
}

func readHeader(data []byte) (wireHeader, *Refusal) {
	var head wireHeader
	if tooDeep(data) || json.Unmarshal(data, &head, json.RejectUnknownMembers(true)) != nil {
		return head, refuse(BadHeader, "header: not a JSON object of alg, kid and typ alone")
	}
	if head.Type != "at+jwt" && head.Type != "cache+jwt" {
		return head, refuse(BadHeader, "typ: not an access token")
	}
	if !validKeyID(head.KeyID) {
		return head, refuse(BadHeader, "kid: missing or out of bounds")
	}
	return head, nil
}

// validKeyID keeps a kid short and printable, so that no key source has to wonder what it was given.
func validKeyID(kid string) bool {
	for i := range len(kid) {
		if kid[i] <= ' ' || kid[i] > '~' {
			return false
		}
	}
	return kid != "" && len(kid) <= maxKeyID
}

// wireClaims is a payload as it travels. Names match in their exact letter case, a name given twice
// is an error, and what is not named here lands in Rest.
type wireClaims struct {
	Issuer    string                    `json:"iss"`
	Subject   string                    `json:"sub"`
	Audience  jsontext.Value            `json:"aud,omitzero"`
	Expires   jsontext.Value            `json:"exp,omitzero"`
	NotBefore jsontext.Value            `json:"nbf,omitzero"`
	IssuedAt  jsontext.Value            `json:"iat,omitzero"`
	ID        string                    `json:"jti"`
	Scope     jsontext.Value            `json:"scope,omitzero"`
	Larder    jsontext.Value            `json:"larder,omitzero"`
	Rest      map[string]jsontext.Value `json:",embed"`
}

// wireOwn is the one private claim of our own tokens. In a token of anybody else it means nothing. An
// unknown member is refused: a later version may put a restriction there, which must not be ignored.
type wireOwn struct {
	Use        Use            `json:"use"`
	Tenant     string         `json:"tenant,omitempty"`
	Maker      string         `json:"maker,omitempty"`
	AuthMethod string         `json:"auth_method,omitempty"`
	Policy     jsontext.Value `json:"policy,omitzero"`
}

var registeredClaims = []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "larder"}

// registered reports whether name is one of ours in any letter case.
func registered(name string) bool {
	return slices.ContainsFunc(registeredClaims, func(r string) bool { return strings.EqualFold(r, name) })
}

// claims gives the payload its types. It runs only once the signature has been checked.
func (w *wireClaims) claims(issuer *Issuer) (*Claims, *Refusal) {
	c := &Claims{Issuer: w.Issuer, Subject: w.Subject, ID: w.ID, Tenant: issuer.spec.Tenant, Use: UseData}
	var ok bool
	if c.Audience, ok = stringOrList(w.Audience); !ok {
		return nil, refuse(BadClaims, "aud: neither a string nor a list of strings")
	}
	if c.Expires, ok = numericDate(w.Expires); !ok {
		return nil, refuse(BadClaims, "exp: not a number of seconds")
	}
	if c.IssuedAt, ok = numericDate(w.IssuedAt); !ok {
		return nil, refuse(BadClaims, "iat: not a number of seconds")
	}
	if w.NotBefore != nil {
		if c.NotBefore, ok = numericDate(w.NotBefore); !ok {
			return nil, refuse(BadClaims, "nbf: not a number of seconds")
		}
	}
	if w.Scope != nil {
		if c.Scopes, ok = scopes(w.Scope); !ok {
			return nil, refuse(BadClaims, "scope: neither words with single spaces nor a list of words")
		}
	}
	if issuer.spec.Own {
		var own wireOwn
		if w.Larder == nil || json.Unmarshal(w.Larder, &own, json.RejectUnknownMembers(true)) != nil || !own.Use.known() {
			return nil, refuse(BadClaims, "larder: missing or not of the expected shape")
		}
		c.Use, c.Tenant, c.Maker, c.AuthMethod = own.Use, own.Tenant, own.Maker, own.AuthMethod
		if own.Policy != nil {
			if own.Policy.Kind() != '{' {
				return nil, refuse(BadClaims, "policy: not an object")
			}
			c.Policy = own.Policy
		}
	}
	for name, value := range w.Rest {
		if registered(name) {
			return nil, refuse(BadClaims, "a registered claim in another letter case")
		}
		if texts, ok := scalars(value); ok {
			if c.Extra == nil {
				c.Extra = make(map[string][]string, len(w.Rest))
			}
			c.Extra[name] = texts
		}
	}
	return c, c.checkBounds()
}

// checkBounds holds for tokens that come in and for tokens that go out.
func (c *Claims) checkBounds() *Refusal {
	switch {
	case !boundedText(c.Subject, maxSubject):
		return refuse(BadClaims, "sub: want 1 to 1024 bytes without control characters")
	case !boundedText(c.ID, maxTokenID):
		return refuse(BadClaims, "jti: want 1 to 256 bytes without control characters")
	case len(c.Audience) == 0 || len(c.Audience) > maxAudiences || slices.Contains(c.Audience, ""):
		return refuse(BadClaims, "aud: want 1 to 32 non-empty strings")
	case !c.Expires.After(c.IssuedAt):
		return refuse(BadClaims, "exp: not after iat")
	}
	return nil
}

// judge compares the claims with what the issuer may give and with the instant now. A bound moved by
// the leeway is still inside: a token ends at exp + leeway, and is good one nanosecond before.
func (c *Claims) judge(issuer *Issuer, now time.Time) *Refusal {
	spec := &issuer.spec
	switch {
	case !slices.Contains(c.Audience, spec.Audience):
		return refuse(WrongAudience, "aud: we are not in it")
	case c.Expires.Sub(c.IssuedAt) > spec.MaxLife:
		return refuse(LivesTooLong, "exp - iat: more than the issuer may give")
	case !now.Before(c.Expires.Add(spec.Leeway)):
		return refuse(Expired, "exp: in the past")
	case c.IssuedAt.After(now.Add(spec.Leeway)):
		return refuse(NotYetValid, "iat: in the future")
	case c.NotBefore.After(now.Add(spec.Leeway)):
		return refuse(NotYetValid, "nbf: in the future")
	}
	return nil
}

func boundedText(s string, limit int) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] == 0x7f {
			return false
		}
	}
	return s != "" && len(s) <= limit
}

// numericDate reads seconds since 1970, to the millisecond, up to the year 9999.
func numericDate(v jsontext.Value) (time.Time, bool) {
	if v.Kind() != '0' {
		return time.Time{}, false
	}
	seconds, err := strconv.ParseFloat(string(v), 64)
	if err != nil || !(seconds >= 0 && seconds <= maxNumericSec) {
		return time.Time{}, false
	}
	return time.UnixMilli(int64(math.Round(seconds * 1000))).UTC(), true
}

// stringOrList reads what JWT calls "a string or an array of strings".
func stringOrList(v jsontext.Value) ([]string, bool) {
	switch v.Kind() {
	case '"':
		list := make([]string, 1)
		return list, json.Unmarshal(v, &list[0]) == nil
	case '[':
		var list []string
		err := json.Unmarshal(v, &list)
		return list, err == nil
	}
	return nil, false
}

// scopes reads "a b" and ["a","b"] as the same set. A word has the characters RFC 6749 gives it.
func scopes(v jsontext.Value) ([]string, bool) {
	words, ok := stringOrList(v)
	if !ok {
		return nil, false
	}
	if v.Kind() == '"' {
		if words[0] == "" {
			return nil, true
		}
		words = strings.Split(words[0], " ")
	}
	if slices.ContainsFunc(words, func(w string) bool { return !validScope(w) }) {
		return nil, false
	}
	slices.Sort(words)
	return slices.Compact(words), true
}

func validScope(word string) bool {
	for i := range len(word) {
		if c := word[i]; c <= ' ' || c > '~' || c == '"' || c == '\\' {
			return false
		}
	}
	return word != ""
}

// scalars reads a claim that policies can compare: a string, a number, a boolean, or a list of these.
func scalars(v jsontext.Value) ([]string, bool) {
	members := []jsontext.Value{v}
	if v.Kind() == '[' {
		members = nil
		if json.Unmarshal(v, &members) != nil {
			return nil, false
		}
	}
	texts := make([]string, len(members))
	for i, m := range members {
		switch m.Kind() {
		case '"':
			if json.Unmarshal(m, &texts[i]) != nil {
				return nil, false
			}
		case '0', 't', 'f':
			texts[i] = string(m)
		default:
			return nil, false
		}
	}
	return texts, true
}

// tooDeep reports whether a JSON text nests deeper than maxDepth. It is asked before the parser sees
// the text, and so bounds the parser's recursion too. In a text that is no JSON it may answer either
// way: the parser turns that away.
func tooDeep(data []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
