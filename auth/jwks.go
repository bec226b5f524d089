package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"
)

// A PublicKey verifies tokens. It has passed the checks of NewPublicKey, so a key that is too weak,
// or that would accept a forged signature, never becomes one.
//
// The type of the key decides what may be verified with it, not the header of a token:
//
//	ed25519.PublicKey   EdDSA
//	*ecdsa.PublicKey    ES256
//	*rsa.PublicKey      RS256 and PS256, or the one of them that the key was published for
type PublicKey struct {
	id  string
	alg Algorithm // empty: either of the two RSA algorithms
	key crypto.PublicKey
}

// NewPublicKey checks key. Alg may be empty, and must otherwise be an algorithm of this type of key.
func NewPublicKey(kid string, alg Algorithm, key crypto.PublicKey) (PublicKey, error) {
	if !validKeyID(kid) {
		return PublicKey{}, fmt.Errorf("auth: kid of %d bytes: want 1 to %d printable ASCII characters", len(kid), maxKeyID)
	}
	var err error
	switch k := key.(type) {
	case ed25519.PublicKey:
		err = checkEd25519(k)
		key = slices.Clone(k)
	case *ecdsa.PublicKey:
		err = checkECDSA(k)
	case *rsa.PublicKey:
		err = checkRSA(k)
	default:
		err = fmt.Errorf("type %T is not supported", key)
	}
	if err != nil {
		return PublicKey{}, fmt.Errorf("auth: key %q: %w", kid, err)
	}
	k := PublicKey{id: kid, alg: alg, key: key}
	if alg != "" && !k.fits(alg) {
		return PublicKey{}, fmt.Errorf("auth: key %q: alg %q is not one for a %T", kid, alg, key)
	}
	return k, nil
}

// fits reports whether a token of this algorithm may be verified with the key.
func (k PublicKey) fits(alg Algorithm) bool {
	if k.alg != "" && k.alg != alg {
		return false
	}
	switch k.key.(type) {
	case ed25519.PublicKey:
		return alg == EdDSA
	case *ecdsa.PublicKey:
		return alg == ES256
	case *rsa.PublicKey:
		return alg == RS256 || alg == PS256
	}
	return false
}

// ps256 wants a salt as long as the hash, as RFC 7518 has it. The library's own accepts any.
var ps256 = &jwt.SigningMethodRSAPSS{
	SigningMethodRSA: jwt.SigningMethodPS256.SigningMethodRSA,
	Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
}

// verify checks a signature over signed. The caller has seen that alg fits.
func (k PublicKey) verify(alg Algorithm, signed string, signature []byte) bool {
	var method jwt.SigningMethod
	switch alg {
	case EdDSA:
		method = jwt.SigningMethodEdDSA
	case ES256:
		method = jwt.SigningMethodES256
	case RS256:
		method = jwt.SigningMethodRS256
	case PS256:
		method = ps256
	default:
		return false
	}
	return method.Verify(signed, signature, k.key) == nil
}

// smallOrder are the encodings, without the sign bit, of the points whose order divides eight. With
// such a key anybody can make a signature that verifies, for one message in eight or for all.
var smallOrder = func() (points [7][32]byte) {
	for i, text := range [7]string{
		"0000000000000000000000000000000000000000000000000000000000000000", // order 4
		"0100000000000000000000000000000000000000000000000000000000000000", // order 1
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05", // order 8
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a", // order 8
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 2
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 4, written as p
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f", // order 1, written as p+1
	} {
		if n, err := hex.Decode(points[i][:], []byte(text)); n != 32 || err != nil {
			panic("auth: smallOrder: a point is not 32 bytes")
		}
	}
	return points
}()

func checkEd25519(k ed25519.PublicKey) error {
	if len(k) != ed25519.PublicKeySize {
		return fmt.Errorf("Ed25519 key of %d bytes, want %d", len(k), ed25519.PublicKeySize)
	}
	y := [32]byte(k)
	y[31] &= 0x7f
	if slices.Contains(smallOrder[:], y) {
		return errors.New("Ed25519 key of small order")
	}
	return nil
}

func checkECDSA(k *ecdsa.PublicKey) error {
	if k == nil || k.Curve != elliptic.P256() {
		return errors.New("ECDSA key on another curve than P-256")
	}
	if _, err := k.ECDH(); err != nil {
		return errors.New("ECDSA key that is not a point of P-256")
	}
	return nil
}

func checkRSA(k *rsa.PublicKey) error {
	if k == nil || k.N == nil || k.N.Sign() <= 0 || k.N.Bit(0) == 0 {
		return errors.New("RSA modulus that is not a positive odd number")
	}
	// FIPS 186-5 sets the lower bounds. The upper one keeps a hostile issuer from buying our CPU.
	if bits := k.N.BitLen(); bits < 2048 || bits > 8192 {
		return fmt.Errorf("RSA modulus of %d bits, want 2048 to 8192", bits)
	}
	if k.E < 65537 || k.E&1 == 0 || k.E >= 1<<31 {
		return fmt.Errorf("RSA exponent %d, want an odd number from 65537 to 2^31", k.E)
	}
	return nil
}

// A JWKS document (RFC 7517) is how public keys are published.
const (
	MaxJWKSBytes = 1 << 20
	// JWKSMaxAge is how long others may keep our document. A key stands in it as the next one for much
	// longer than that before it signs its first token.
	JWKSMaxAge = 5 * time.Minute

	maxJWKSKeys = 256
)

// A jwk is one key on the wire. Members that we do not name are ignored, as the RFC asks; that
// includes x5c and x5u, which we neither read nor follow.
type jwk struct {
	Type      string    `json:"kty"`
	Curve     string    `json:"crv,omitempty"`
	Use       string    `json:"use,omitempty"`
	Ops       []string  `json:"key_ops,omitempty"`
	Algorithm Algorithm `json:"alg,omitempty"`
	ID        string    `json:"kid,omitempty"`
	X         string    `json:"x,omitempty"`
	Y         string    `json:"y,omitempty"`
	N         string    `json:"n,omitempty"`
	E         string    `json:"e,omitempty"`
	Private   string    `json:"d,omitempty"`
}

// A JWKS is a parsed document: the keys of it that are fit to verify a token.
type JWKS struct {
	keys map[string]PublicKey
	// Left tells, for the log, which keys were left out, and why. No private part of a key is in it.
	Left []string
}

// Key implements KeySource. The document does not say until when a key is good.
func (s *JWKS) Key(kid string, _ time.Time) (PublicKey, bool) {
	key, ok := s.keys[kid]
	return key, ok
}

// Len is the number of usable keys.
func (s *JWKS) Len() int { return len(s.keys) }

// ParseJWKS reads an issuer's document. A single key that is of no use to us (an unknown type, for
// encryption, too small, without a kid) is left out, because issuers publish such keys beside good
// ones. A document that is broken, ambiguous, or without one usable key is an error, and the caller
// then keeps the document it had.
func ParseJWKS(data []byte) (*JWKS, error) {
	if len(data) > MaxJWKSBytes {
		return nil, fmt.Errorf("auth: JWKS of %d bytes, at most %d are read", len(data), MaxJWKSBytes)
	}
	if tooDeep(data) {
		return nil, fmt.Errorf("auth: JWKS nests deeper than %d", maxDepth)
	}
	var document struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("auth: JWKS: %w", err)
	}
	if len(document.Keys) > maxJWKSKeys {
		return nil, fmt.Errorf("auth: JWKS of %d keys, at most %d are read", len(document.Keys), maxJWKSKeys)
	}
	set := &JWKS{keys: make(map[string]PublicKey, len(document.Keys))}
	for i, raw := range document.Keys {
		key, err := parseJWK(raw)
		if err != nil {
			set.Left = append(set.Left, fmt.Sprintf("keys[%d]: %v", i, err))
			continue
		}
		if _, twice := set.keys[key.id]; twice {
			return nil, fmt.Errorf("auth: JWKS: keys[%d]: kid %q stands twice", i, key.id)
		}
		set.keys[key.id] = key
	}
	if len(set.keys) == 0 {
		return nil, fmt.Errorf("auth: JWKS of %d keys, none of them usable", len(document.Keys))
	}
	return set, nil
}

func parseJWK(raw jsontext.Value) (PublicKey, error) {
	var k jwk
	if err := json.Unmarshal(raw, &k); err != nil {
		return PublicKey{}, errors.New("not a JWK") // the cause might quote a private key
	}
	switch {
	case k.Private != "":
		return PublicKey{}, errors.New("a private key was published")
	case k.Use != "" && k.Use != "sig":
		return PublicKey{}, fmt.Errorf("use %.32q, want sig", k.Use)
	case k.Ops != nil && !slices.Contains(k.Ops, "verify"):
		return PublicKey{}, errors.New("key_ops without verify")
	}
	switch {
	case k.Type == "OKP" && k.Curve == "Ed25519":
		x, ok := decodeBase64(k.X)
		if !ok {
			return PublicKey{}, errors.New("x is not strict base64url")
		}
		return NewPublicKey(k.ID, k.Algorithm, ed25519.PublicKey(x))
	case k.Type == "EC" && k.Curve == "P-256":
		x, ok1 := decodeBase64(k.X)
		y, ok2 := decodeBase64(k.Y)
		if !ok1 || !ok2 || len(x) != 32 || len(y) != 32 {
			return PublicKey{}, errors.New("x or y is not strict base64url of 32 bytes")
		}
		key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, x, y))
		if err != nil {
			return PublicKey{}, errors.New("x and y are not a point of P-256")
		}
		return NewPublicKey(k.ID, k.Algorithm, key)
	case k.Type == "RSA":
		n, ok1 := decodeBase64(k.N)
		e, ok2 := decodeBase64(k.E)
		if !ok1 || !ok2 || len(e) > 4 {
			return PublicKey{}, errors.New("n or e is not strict base64url, or e has more than 4 bytes")
		}
		exponent := int(new(big.Int).SetBytes(e).Int64())
		return NewPublicKey(k.ID, k.Algorithm, &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exponent})
	}
	return PublicKey{}, fmt.Errorf("kty %.32q with crv %.32q is not supported", k.Type, k.Curve)
}

// jwk writes a public key of our own.
func (k PublicKey) jwk() jwk {
	x := base64.RawURLEncoding.EncodeToString(k.key.(ed25519.PublicKey))
	return jwk{Type: "OKP", Curve: "Ed25519", Use: "sig", Algorithm: EdDSA, ID: k.id, X: x}
}

// thumbprint is the kid of an Ed25519 key: RFC 7638, with the members that RFC 8037 requires.
func thumbprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
