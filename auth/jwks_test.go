package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// jwkOf writes a public key as an issuer publishes it.
func jwkOf(kid string, alg Algorithm, key any) map[string]any {
	enc := base64.RawURLEncoding.EncodeToString
	m := map[string]any{"kid": kid}
	if alg != "" {
		m["alg"] = alg
	}
	switch k := key.(type) {
	case ed25519.PublicKey:
		m["kty"], m["crv"], m["x"] = "OKP", "Ed25519", enc(k)
	case *ecdsa.PublicKey:
		point := must(k.Bytes())
		size := len(point) / 2
		m["kty"], m["crv"], m["x"], m["y"] = "EC", k.Curve.Params().Name, enc(point[1:1+size]), enc(point[1+size:])
	case *rsa.PublicKey:
		m["kty"], m["n"], m["e"] = "RSA", enc(k.N.Bytes()), enc(big.NewInt(int64(k.E)).Bytes())
	}
	return m
}

func jwksDocument(keys ...map[string]any) []byte {
	return must(stdjson.Marshal(map[string]any{"keys": keys}))
}

func editJWK(m map[string]any, pairs ...any) map[string]any {
	for i := 0; i < len(pairs); i += 2 {
		if m[pairs[i].(string)] = pairs[i+1]; pairs[i+1] == nil {
			delete(m, pairs[i].(string))
		}
	}
	return m
}

func TestParseJWKSLeavesOut(t *testing.T) {
	w := newWorld()
	ed := func() map[string]any { return jwkOf("k", "EdDSA", w.idpEd.Public()) }
	es := func() map[string]any { return jwkOf("k", "ES256", &w.idpES.PublicKey) }
	rs := func() map[string]any { return jwkOf("k", "RS256", &w.idpRSA.PublicKey) }
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	p384 := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	b := func(n int) string { return b64(strings.Repeat("\x01", n)) }
	for _, c := range []struct {
		name string
		key  map[string]any
		says string // empty: the key is usable
	}{
		{"Ed25519", ed(), ""},
		{"Ed25519 with use and key_ops", editJWK(ed(), "use", "sig", "key_ops", []string{"verify"}, "x5c", []string{"MII"}, "ext", true), ""},
		{"Ed25519 without alg", editJWK(ed(), "alg", nil), ""},
		{"P-256", es(), ""},
		{"RSA", rs(), ""},
		{"RSA for PS256", editJWK(rs(), "alg", "PS256"), ""},
		{"RSA of 1024 bits", jwkOf("k", "RS256", &small.PublicKey), "1024 bits"},
		{"RSA of 16384 bits", editJWK(rs(), "n", b64("\x81"+strings.Repeat("\x01", 2047))), "16384 bits"},
		{"RSA with exponent 1", editJWK(rs(), "e", b64("\x01")), "exponent 1"},
		{"RSA with exponent 3", editJWK(rs(), "e", b64("\x03")), "exponent 3"},
		{"RSA with an exponent too small by one", editJWK(rs(), "e", b64("\x01\x00\x00")), "exponent 65536"},
		{"RSA with an even exponent", editJWK(rs(), "e", b64("\x01\x00\x02")), "exponent 65538"},
		{"RSA with a huge exponent", editJWK(rs(), "e", b64("\x01\x00\x00\x00\x01")), "more than 4 bytes"},
		{"RSA with an even modulus", editJWK(rs(), "n", b64("\x81"+strings.Repeat("\x02", 255))), "odd"},
		{"RSA without a modulus", editJWK(rs(), "n", nil), "odd"},
		{"use enc", editJWK(rs(), "use", "enc"), `use "enc"`},
		{"key_ops encrypt", editJWK(rs(), "key_ops", []string{"encrypt"}), "key_ops"},
		{"empty key_ops", editJWK(rs(), "key_ops", []string{}), "key_ops"},
		{"alg of another family", editJWK(ed(), "alg", "RS256"), `alg "RS256"`},
		{"alg HS256 on an RSA key", editJWK(rs(), "alg", "HS256"), `alg "HS256"`},
		{"alg RS512", editJWK(rs(), "alg", "RS512"), `alg "RS512"`},
		{"symmetric", map[string]any{"kty": "oct", "k": "AAAA", "kid": "k"}, `kty "oct"`},
		{"unknown kty", map[string]any{"kty": "AKP", "kid": "k", "pub": "AAAA"}, `kty "AKP"`},
		{"no kty", map[string]any{"kid": "k"}, `kty ""`},
		{"X25519", editJWK(ed(), "crv", "X25519"), "X25519"},
		{"P-384", jwkOf("k", "ES384", &p384.PublicKey), "P-384"},
		{"a private key", editJWK(ed(), "d", b(32)), "private key"},
		{"no kid", editJWK(ed(), "kid", nil), "kid of 0 bytes"},
		{"kid with a line break", editJWK(ed(), "kid", "a\nb"), "printable"},
		{"kid too long", editJWK(ed(), "kid", strings.Repeat("k", maxKeyID+1)), "kid of 129 bytes"},
		{"Ed25519 too short", editJWK(ed(), "x", b(31)), "31 bytes"},
		{"Ed25519 with padding", editJWK(ed(), "x", b(32)+"="), "base64url"},
		{"a point off the curve", editJWK(es(), "x", b(32)), "point"},
		{"the point at infinity", editJWK(es(), "x", b64(strings.Repeat("\x00", 32)), "y", b64(strings.Repeat("\x00", 32))), "point"},
		{"a coordinate too long", editJWK(es(), "x", b(33)), "32 bytes"},
		{"members of the wrong type", editJWK(ed(), "use", 7), "not a JWK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			set, err := ParseJWKS(jwksDocument(c.key, jwkOf("spare", "EdDSA", w.idpEd.Public())))
			if err != nil {
				t.Fatal(err)
			}
			_, usable := set.Key("k", noon)
			if c.says == "" {
				if !usable || set.Len() != 2 || len(set.Left) != 0 {
					t.Fatalf("left out: %v", set.Left)
				}
				return
			}
			if usable || set.Len() != 1 || len(set.Left) != 1 || !strings.Contains(set.Left[0], c.says) {
				t.Fatalf("usable %t, left out %v, want it to say %q", usable, set.Left, c.says)
			}
		})
	}
}

func TestParseJWKSRefuses(t *testing.T) {
	w := newWorld()
	key := string(must(stdjson.Marshal(jwkOf("k", "EdDSA", w.idpEd.Public()))))
	good := `{"keys":[` + key + `]}`
	if set, err := ParseJWKS([]byte(good + strings.Repeat(" ", MaxJWKSBytes-len(good)))); err != nil || set.Len() != 1 {
		t.Fatalf("a document of exactly 1 MiB: %v", err)
	}
	for _, c := range []struct{ name, text, says string }{
		{"a byte over 1 MiB", good + strings.Repeat(" ", MaxJWKSBytes-len(good)+1), "at most 1048576"},
		{"empty", "", "JWKS"},
		{"not JSON", "<html>", "JWKS"},
		{"something behind", good + "{}", "JWKS"},
		{"keys twice", `{"keys":[],"keys":[` + key + `]}`, "duplicate"},
		{"a member of a key twice", `{"keys":[{"kid":"k",` + key[1:] + `]}`, "duplicate"},
		{"KEYS", `{"KEYS":[` + key + `]}`, "none of them usable"},
		{"no keys", `{"keys":[]}`, "of 0 keys"},
		{"null", `null`, "of 0 keys"},
		{"keys as an object", `{"keys":{"k":` + key + `}}`, "JWKS"},
		{"one kid for two keys", `{"keys":[` + key + `,` + key + `]}`, `"k" stands twice`},
		{"too many keys", `{"keys":[` + key + strings.Repeat(`,{}`, maxJWKSKeys) + `]}`, "257 keys"},
		{"too deep", `{"keys":[` + key + `],"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "deeper than 64"},
		{"only unusable ones", `{"keys":[{"kty":"oct"}]}`, "of 1 keys, none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if set, err := ParseJWKS([]byte(c.text)); err == nil || set != nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want an error that says %q", err, c.says)
			}
		})
	}
}

// TestSmallOrderKeys shows both that such a key would accept forgeries, and that it never gets in.
func TestSmallOrderKeys(t *testing.T) {
	// R is the neutral point and S is zero: valid whenever the hash times the key is neutral as well.
	forged := make([]byte, 64)
	forged[0] = 1
	for _, y := range smallOrder {
		for _, sign := range []byte{0, 0x80} {
			key := ed25519.PublicKey(slices.Clone(y[:]))
			key[31] |= sign
			fooled := false
			for i := 0; i < 400 && !fooled; i++ {
				fooled = ed25519.Verify(key, fmt.Appendf(nil, "message %d", i), forged)
			}
			if !fooled && sign == 0 {
				t.Errorf("%x accepts no forgery, so it stands in the list without need", key)
			}
			if _, err := NewPublicKey("k", EdDSA, key); err == nil || !strings.Contains(err.Error(), "small order") {
				t.Errorf("%x was taken: %v", key, err)
			}
			if _, err := ParseJWKS(jwksDocument(jwkOf("k", "EdDSA", key))); err == nil {
				t.Errorf("%x was taken from a JWKS", key)
			}
		}
	}
}

func TestNewPublicKeyRefuses(t *testing.T) {
	w := newWorld()
	mine := slices.Clone(w.idpEd.Public().(ed25519.PublicKey))
	key := must(NewPublicKey("k", EdDSA, mine))
	clear(mine) // now of small order
	if !key.verify(EdDSA, "message", edSign(w.idpEd)("message")) {
		t.Error("a key changed after it was checked")
	}
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	for name, key := range map[string]any{
		"bytes, which HMAC would take": []byte("secret"), "text": "secret", "nothing": nil, "a private key": w.idpEd, "P-224": &p224.PublicKey,
		"a nil ECDSA key": (*ecdsa.PublicKey)(nil), "a nil RSA key": (*rsa.PublicKey)(nil), "an empty RSA key": &rsa.PublicKey{},
		"a negative modulus": &rsa.PublicKey{N: new(big.Int).Neg(w.idpRSA.N), E: 65537}, "an ECDSA key by value": w.idpES.PublicKey,
	} {
		if _, err := NewPublicKey("k", "", key); err == nil {
			t.Errorf("%s became a key", name)
		}
	}
}

// TestKeyTypeDecides asks each key for each algorithm, with a signature that is good for the key.
func TestKeyTypeDecides(t *testing.T) {
	w := newWorld()
	keys := map[string]PublicKey{
		"ed":  must(NewPublicKey("k", "", w.idpEd.Public())),
		"es":  must(NewPublicKey("k", "", &w.idpES.PublicKey)),
		"rsa": must(NewPublicKey("k", "", &w.idpRSA.PublicKey)),
	}
	signers := map[Algorithm]func(string) []byte{
		EdDSA: edSign(w.idpEd), ES256: methodSign(jwt.SigningMethodES256, w.idpES),
		RS256: methodSign(jwt.SigningMethodRS256, w.idpRSA), PS256: methodSign(jwt.SigningMethodPS256, w.idpRSA),
	}
	allowed := map[string][]Algorithm{"ed": {EdDSA}, "es": {ES256}, "rsa": {RS256, PS256}}
	for name, key := range keys {
		for _, alg := range []Algorithm{EdDSA, ES256, RS256, PS256, "HS256", "none", ""} {
			want := slices.Contains(allowed[name], alg)
			if key.fits(alg) != want {
				t.Errorf("%s: fits(%q) = %t", name, alg, !want)
			}
			signature := []byte("x")
			if sign := signers[alg]; sign != nil {
				signature = sign("message")
			}
			if key.verify(alg, "message", signature) != want {
				t.Errorf("%s: verify(%q) = %t", name, alg, !want)
			}
		}
	}
	if (PublicKey{}).fits(EdDSA) || (PublicKey{}).verify(EdDSA, "", nil) {
		t.Error("the zero key verifies")
	}
}

func FuzzJWKS(f *testing.F) {
	w := newWorld()
	f.Add(jwksDocument(jwkOf("ed", "EdDSA", w.idpEd.Public()), jwkOf("es", "", &w.idpES.PublicKey), jwkOf("rsa", "PS256", &w.idpRSA.PublicKey)))
	f.Add(w.signer.Keys().JWKS(noon))
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"","e":""},{"kty":"EC","crv":"P-256"},{"kty":"OKP","crv":"Ed25519","x":"AA"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := ParseJWKS(data)
		if err != nil {
			return
		}
		for kid, key := range set.keys {
			if again, err := NewPublicKey(kid, key.alg, key.key); err != nil || again.id != key.id {
				t.Fatalf("%q passed once and not twice: %v", kid, err)
			}
			for _, alg := range []Algorithm{EdDSA, ES256, RS256, PS256} {
				if key.fits(alg) && key.verify(alg, "message", make([]byte, 64)) {
					t.Fatalf("%q accepts a signature of zeros", kid)
				}
			}
		}
		if set.Len() == 0 || set.Len()+len(set.Left) > maxJWKSKeys {
			t.Fatalf("%d keys, %d left out", set.Len(), len(set.Left))
		}
	})
}

// FuzzKeySet shows that a stored set that reads at all reads as what was stored.
func FuzzKeySet(f *testing.F) {
	f.Add(newWorld().signer.Keys().Marshal())
	f.Add([]byte(`{"current":{},"next":{},"retired":[]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := UnmarshalKeySet(data)
		if err != nil {
			return
		}
		again, err := UnmarshalKeySet(set.Marshal())
		if err != nil || again.Current.ID() != set.Current.ID() || again.Next.ID() != set.Next.ID() || len(again.Retired) != len(set.Retired) {
			t.Fatalf("%s: %v", data, err)
		}
		if _, err := ParseJWKS(set.JWKS(time.Time{})); err != nil {
			t.Fatal(err)
		}
	})
}

var errNoDice = errors.New("no dice")

type noDice struct{}

func (noDice) Read([]byte) (int, error) { return 0, errNoDice }
