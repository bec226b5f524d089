package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	stdjson "encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

const (
	ownName  = "https://larder.test"
	edgeName = "https://edge.larder.test" // ours as well, with an ES256 key
	idpName  = "https://idp.acme.test"    // an external issuer, bound to tenant acme
	audience = "larder"
	leeway   = 10 * time.Second
)

// A world has one issuer of each sort, and the private keys of all of them.
type world struct {
	signer   *Signer
	old      *SigningKey // retired, and past its overlap at noon
	fresh    *SigningKey // retired one second before noon
	edge     *ecdsa.PrivateKey
	idpEd    ed25519.PrivateKey
	idpES    *ecdsa.PrivateKey
	idpRSA   *rsa.PrivateKey // published without an alg
	issuers  IssuerList
	verifier *Verifier
	asked    atomic.Int64 // how often the verifier asked whether a token was revoked
}

// newWorld is made once: RSA keys are slow to find.
var newWorld = sync.OnceValue(func() *world {
	w := &world{}
	dice := mathrand.NewChaCha8([32]byte{1})
	set := must(NewKeySet(dice))
	w.old = set.Current
	set = must(set.Rotate(dice, noon.Add(-Overlap)))
	w.fresh = set.Current
	set = must(set.Rotate(dice, noon.Add(-time.Second)))
	w.signer = must(NewSigner(ownName, audience, set))

	w.edge = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	w.idpES = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	w.idpRSA = must(rsa.GenerateKey(rand.Reader, 2048))
	_, w.idpEd, _ = ed25519.GenerateKey(rand.Reader)

	edgeKeys := must(ParseJWKS(jwksDocument(jwkOf("es", "ES256", &w.edge.PublicKey))))
	idpKeys := must(ParseJWKS(jwksDocument(
		jwkOf("ed", "EdDSA", w.idpEd.Public()),
		jwkOf("es", "ES256", &w.idpES.PublicKey),
		jwkOf("rsa", "", &w.idpRSA.PublicKey),
		jwkOf("rsa-rs256", "RS256", &w.idpRSA.PublicKey),
	)))
	w.issuers = IssuerList{
		must(NewIssuer(IssuerSpec{Name: ownName, Audience: audience, Algorithms: []Algorithm{EdDSA, ES256}, Keys: w.signer,
			MaxLife: MaxTokenLife, Leeway: leeway, Own: true})),
		must(NewIssuer(IssuerSpec{Name: edgeName, Audience: audience, Algorithms: []Algorithm{EdDSA, ES256}, Keys: edgeKeys,
			MaxLife: MaxTokenLife, Leeway: leeway, Own: true})),
		must(NewIssuer(IssuerSpec{Name: idpName, Audience: "larder-acme", Algorithms: []Algorithm{EdDSA, ES256, RS256, PS256},
			Keys: idpKeys, MaxLife: time.Hour, Leeway: MaxLeeway, Tenant: "acme"})),
	}
	w.verifier = must(NewVerifier(w.issuers, []Use{UseData}, func(*Claims) bool { w.asked.Add(1); return false }))
	return w
})

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A forgery is a token as an attacker, or an honest issuer, writes it: any text in any part.
type forgery struct {
	header, payload map[string]string // member name to raw JSON
	headerTail      string            // goes before the closing brace: for members given twice
	payloadTail     string
	sign            func(signed string) []byte
}

// own is a good token of ours, ready to be spoiled.
func (w *world) own() *forgery {
	return &forgery{
		header: map[string]string{"alg": `"EdDSA"`, "kid": jsonText(w.signer.Keys().Current.ID()), "typ": `"cache+jwt"`},
		payload: map[string]string{"iss": jsonText(ownName), "sub": `"canary"`, "aud": jsonText(audience),
			"iat": seconds(noon), "exp": seconds(noon.Add(time.Hour)), "jti": `"t1"`, "larder": `{"use":"data","tenant":"acme"}`},
		sign: edSign(w.signer.Keys().Current.private),
	}
}

// idp is a good token of the external issuer.
func (w *world) idp(kid string, alg Algorithm, sign func(string) []byte) *forgery {
	f := w.own()
	f.header = map[string]string{"alg": jsonText(string(alg)), "kid": jsonText(kid), "typ": `"at+jwt"`}
	f.payload["iss"], f.payload["aud"] = jsonText(idpName), `"larder-acme"`
	delete(f.payload, "larder")
	f.sign = sign
	return f
}

// with changes members of the payload, head those of the header; no value removes the member.
func (f *forgery) with(name, value string) *forgery { setMember(f.payload, name, value); return f }
func (f *forgery) head(name, value string) *forgery { setMember(f.header, name, value); return f }
func (f *forgery) text() string {
	return f.textOf(jsonObject(f.header, f.headerTail), jsonObject(f.payload, f.payloadTail))
}

func (f *forgery) textOf(header, payload string) string {
	signed := b64(header) + "." + b64(payload)
	return signed + "." + b64(string(f.sign(signed)))
}

// ofLength pads the token to n bytes. One length in four cannot be had, because three bytes become
// four letters.
func (f *forgery) ofLength(n int) string {
	for pad := n * 3 / 4; pad > 0; pad-- {
		if text := f.with("pad", jsonText(repeat("x", pad))).text(); len(text) == n {
			return text
		}
	}
	panic(fmt.Sprintf("no token of %d bytes", n))
}

func setMember(m map[string]string, name, value string) {
	if m[name] = value; value == "" {
		delete(m, name)
	}
}

func jsonObject(members map[string]string, tail string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(members)) {
		parts = append(parts, jsonText(name)+":"+members[name])
	}
	return "{" + strings.Join(parts, ",") + tail + "}"
}

func jsonText(s string) string      { return string(must(stdjson.Marshal(s))) }
func seconds(t time.Time) string    { return fmt.Sprint(t.Unix()) }
func b64(s string) string           { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
func repeat(s string, n int) string { return strings.Repeat(s, n) }

func edSign(k ed25519.PrivateKey) func(string) []byte {
	return func(signed string) []byte { return ed25519.Sign(k, []byte(signed)) }
}

func methodSign(m jwt.SigningMethod, key any) func(string) []byte {
	return func(signed string) []byte { return must(m.Sign(signed, key)) }
}

func hmacSign(secret []byte) func(string) []byte {
	return func(signed string) []byte {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(signed))
		return mac.Sum(nil)
	}
}

// An attack is a token that must be refused for its reason; the reason "" says that it must pass.
type attack struct {
	name   string
	token  string
	reason Reason
}

// TestJWTAttacks is the attack list of the security specification. What needs a server (J30 hosts,
// J35 two headers, J37 a flood of key ids at an external issuer) is tested where the server is. J29,
// J33 and J34 show here that the hook is asked and is given what it needs.
func TestJWTAttacks(t *testing.T) {
	w := newWorld()
	current := w.signer.Keys().Current
	public := current.private.Public().(ed25519.PublicKey)
	der := must(x509.MarshalPKIXPublicKey(public))
	rsaDER := must(x509.MarshalPKIXPublicKey(&w.idpRSA.PublicKey))

	var calls atomic.Int64
	attacker := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer attacker.Close()
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	strangersJWK := string(must(stdjson.Marshal(jwkOf("mine", "EdDSA", stranger.Public()))))

	at := func(d time.Duration) string { return seconds(noon.Add(d)) }
	good := w.own().text()
	parts := strings.Split(good, ".")
	h, p, s := parts[0], parts[1], parts[2]

	attacks := map[string][]attack{}
	add := func(id, name, token string, reason Reason) {
		attacks[id] = append(attacks[id], attack{name, token, reason})
	}

	for _, alg := range []string{"none", "None", "nOnE", "NONE", ""} {
		f := w.own().head("alg", jsonText(alg))
		f.sign = func(string) []byte { return nil }
		add("J01", fmt.Sprintf("%q and no signature", alg), f.text(), Malformed)
		add("J01", fmt.Sprintf("%q and a good signature", alg), w.own().head("alg", jsonText(alg)).text(), BadAlgorithm)
	}
	add("J01", "EdDSA and no signature", h+"."+p+".", Malformed)

	for name, secret := range map[string][]byte{
		"raw": public, "DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"base64url": []byte(base64.RawURLEncoding.EncodeToString(public)),
	} {
		f := w.own().head("alg", `"HS256"`)
		f.sign = hmacSign(secret)
		add("J02", "HS256 with our key as "+name, f.text(), BadAlgorithm)
	}
	add("J02", "HS256 with an RSA key as PEM",
		w.idp("rsa", "HS256", hmacSign(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: rsaDER}))).text(), BadAlgorithm)

	for _, secret := range []string{"", "secret", "changeme", "password", "123456", "12345678", "qwerty", "admin", "root", "letmein",
		"larder", "jwt", "jwt_secret", "your-256-bit-secret", "my_secret", "supersecret", "test", "key", "private", "default", "\x00"} {
		for _, alg := range []string{"HS256", "HS384", "HS512"} {
			f := w.own().head("alg", jsonText(alg))
			f.sign = hmacSign([]byte(secret))
			add("J03", alg+" with "+jsonText(secret), f.text(), BadAlgorithm)
		}
	}

	add("J04", "ES256 with the id of an Ed25519 key",
		signedBy(w.own().head("alg", `"ES256"`), methodSign(jwt.SigningMethodES256, w.edge)).text(), BadAlgorithm)
	add("J04", "EdDSA with the id of an ECDSA key", w.idp("es", EdDSA, edSign(w.idpEd)).text(), BadAlgorithm)
	add("J04", "RS256 with the id of an ECDSA key", w.idp("es", RS256, methodSign(jwt.SigningMethodRS256, w.idpRSA)).text(), BadAlgorithm)
	add("J04", "ES256 with the id of an RSA key", w.idp("rsa", ES256, methodSign(jwt.SigningMethodES256, w.idpES)).text(), BadAlgorithm)
	add("J04", "RS256 from an issuer of our own",
		signedBy(w.own().head("alg", `"RS256"`), methodSign(jwt.SigningMethodRS256, w.idpRSA)).text(), BadAlgorithm)
	for _, alg := range []string{"RS512", "PS512", "ES384", "ES256K", "Ed25519", "EdDSA ", "eddsa", "RSA-OAEP", "dir"} {
		add("J04", alg, w.own().head("alg", jsonText(alg)).text(), BadAlgorithm)
	}
	for _, alg := range []string{`null`, `1`, `["EdDSA"]`, `{"EdDSA":1}`} {
		reason := BadHeader
		if alg == "null" {
			reason = BadAlgorithm
		}
		add("J04", "alg as "+alg, w.own().head("alg", alg).text(), reason)
	}
	add("J04", "no alg", w.own().head("alg", "").text(), BadAlgorithm)

	for _, crit := range []string{`["x"]`, `[]`, `["exp"]`, `"x"`, `["b64"]`, `null`} {
		add("J05", "crit "+crit, w.own().head("crit", crit).text(), BadHeader)
	}
	add("J05", "crit in capitals", w.own().head("CRIT", `["x"]`).text(), BadHeader)
	add("J06", "b64 false with crit", w.own().head("b64", "false").head("crit", `["b64"]`).text(), BadHeader)
	add("J06", "b64 false alone", w.own().head("b64", "false").text(), BadHeader)
	add("J06", "b64 true", w.own().head("b64", "true").text(), BadHeader)

	own := func(f *forgery) *forgery { f.sign = edSign(stranger); return f }
	add("J07", "the attacker's key in the header", own(w.own().head("jwk", strangersJWK)).text(), BadHeader)
	add("J07", "our own key in the header", w.own().head("jwk", string(must(stdjson.Marshal(jwkOf("x", "EdDSA", public))))).text(), BadHeader)
	for _, name := range []string{"jku", "x5u"} {
		add("J08", name, own(w.own().head(name, jsonText(attacker.URL+"/keys"))).text(), BadHeader)
		add("J08", "kid as a URL with "+name, own(w.own().head("kid", jsonText(attacker.URL))).text(), UnknownKey)
	}
	add("J09", "x5c", own(w.own().head("x5c", `["MIIB"]`)).text(), BadHeader)
	add("J09", "x5t#S256", own(w.own().head("x5t#S256", `"AAAA"`)).text(), BadHeader)

	for name, kid := range map[string]string{
		"a path": "../../dev/null", "an absolute path": "/etc/passwd", "SQL": "x'UNION/**/SELECT'AA", "a pattern": "*",
		"unknown": "nobody", "with its last letter changed": current.ID()[:42] + "~",
		"in another letter case":    strings.ToUpper(current.ID()),
		"of a key past its overlap": w.old.ID(), "of another issuer's key": "ed",
	} {
		add("J10", "kid "+name, w.own().head("kid", jsonText(kid)).text(), UnknownKey)
	}
	add("J10", "token signed by the key past its overlap",
		signedBy(w.own().head("kid", jsonText(w.old.ID())), edSign(w.old.private)).text(), UnknownKey)
	for name, kid := range map[string]string{
		"with NUL": `"a\u0000b"`, "of 4 KiB": jsonText(repeat("k", 4096)), "of one byte too many": jsonText(repeat("k", maxKeyID+1)),
		"empty": `""`, "missing": "", "null": "null", "a number": "7", "a list": `["a"]`, "with a space": `"a b"`, "with a line break": `"a\nb"`,
	} {
		add("J10", "kid "+name, w.own().head("kid", kid).text(), BadHeader)
	}

	add("J11", "zip", w.own().head("zip", `"DEF"`).text(), BadHeader)
	add("J11", "five parts", h+"."+p+"."+s+"."+p+"."+s, Malformed)
	add("J11", "five parts of a JWE header", b64(`{"alg":"dir","enc":"A256GCM"}`)+"..AAAA.AAAA.AAAA", Malformed)
	add("J11", "enc in three parts", w.own().head("enc", `"A256GCM"`).text(), BadHeader)
	add("J11", "cty JWT", w.own().head("cty", `"JWT"`).text(), BadHeader)

	for _, typ := range []string{"", `"JWT"`, `"dpop+jwt"`, `"logout+jwt"`, `"AT+JWT"`, `"application/at+jwt"`, `"at+jwt "`, `""`, `null`, `["at+jwt"]`} {
		add("J12", "typ "+typ, w.own().head("typ", typ).text(), BadHeader)
	}

	add("J13", "expired just now, inside the leeway", w.own().with("iat", at(-time.Hour)).with("exp", at(0)).text(), "")
	add("J13", "expired to the end of the leeway", w.own().with("iat", at(-time.Hour)).with("exp", at(-leeway)).text(), Expired)
	add("J13", "expired a second beyond the leeway", w.own().with("iat", at(-time.Hour)).with("exp", at(-leeway-time.Second)).text(), Expired)
	for _, exp := range []string{"", `"` + at(time.Hour) + `"`, "-1", "1e300", "-0.5", "null", "[" + at(time.Hour) + "]", "true", "{}", "253402300800"} {
		add("J13", "exp "+exp, w.own().with("exp", exp).text(), BadClaims)
	}
	for _, exp := range []string{"NaN", "Infinity", "0x7fffffff", "1_000", "+1", "01", "1."} {
		add("J13", "exp "+exp, w.own().with("exp", exp).text(), Malformed)
	}
	add("J13", "exp before iat", w.own().with("iat", at(0)).with("exp", at(-time.Second)).text(), BadClaims)
	add("J13", "exp with a fraction", w.own().with("exp", at(time.Hour)+".25").text(), "")
	add("J13", "iat missing", w.own().with("iat", "").text(), BadClaims)
	add("J13", "iat as a string", w.own().with("iat", `"`+at(0)+`"`).text(), BadClaims)

	add("J14", "nbf a moment ahead, inside the leeway", w.own().with("nbf", at(leeway)).text(), "")
	add("J14", "nbf beyond the leeway", w.own().with("nbf", at(leeway+time.Second)).text(), NotYetValid)
	add("J14", "iat a moment ahead, inside the leeway", w.own().with("iat", at(leeway)).text(), "")
	add("J14", "iat beyond the leeway", w.own().with("iat", at(leeway+time.Second)).text(), NotYetValid)
	for _, nbf := range []string{"null", `"0"`, "1e300", "-1", "[]"} {
		add("J14", "nbf "+nbf, w.own().with("nbf", nbf).text(), BadClaims)
	}

	add("J15", "exactly the longest life", w.own().with("exp", at(MaxTokenLife)).text(), "")
	add("J15", "a second more", w.own().with("exp", at(MaxTokenLife+time.Second)).text(), LivesTooLong)
	add("J15", "iat long ago", w.own().with("iat", "0").text(), LivesTooLong)
	add("J15", "more than this external issuer may give",
		w.idp("ed", EdDSA, edSign(w.idpEd)).with("exp", at(time.Hour+time.Second)).text(), LivesTooLong)

	for _, iss := range []string{"", `""`, `"https://other.test"`, jsonText(ownName + "/"), jsonText(strings.ToUpper(ownName)), jsonText("http" + ownName[5:]),
		jsonText(ownName + "\x00"), "null"} {
		add("J16", "iss "+iss, w.own().with("iss", iss).text(), UnknownIssuer)
	}
	add("J16", "iss as a list", w.own().with("iss", "["+jsonText(ownName)+"]").text(), Malformed)
	add("J16", "our key under another issuer's name", w.own().with("iss", jsonText(idpName)).text(), UnknownKey)
	add("J16", "an external key under our name",
		w.idp("ed", EdDSA, edSign(w.idpEd)).with("iss", jsonText(ownName)).text(), UnknownKey)

	for _, aud := range []string{`"lard"`, `"larderer"`, `"LARDER"`, `"larder "`, `["lard","er"]`, `["other"]`, `"https://larder.test"`} {
		add("J17", "aud "+aud, w.own().with("aud", aud).text(), WrongAudience)
	}
	for _, aud := range []string{"", "null", "1", "[]", `""`, `["larder",""]`, `["larder",1]`, `["larder",null]`, `{"larder":1}`, `[["larder"]]`,
		`["larder"` + repeat(`,"x"`, maxAudiences) + `]`} {
		add("J17", "aud "+aud, w.own().with("aud", aud).text(), BadClaims)
	}
	add("J17", "as many members as there may be", w.own().with("aud", `["larder"`+repeat(`,"x"`, maxAudiences-1)+`]`).text(), "")
	add("J17", "10^5 members", w.own().with("aud", `["larder"`+repeat(`,"x"`, 1e5)+`]`).text(), Malformed)

	for _, sub := range []string{"", `""`, "null", `"a\u0000b"`, `"a\nb"`, `"\u007f"`, jsonText(repeat("s", maxSubject+1))} {
		add("J18", fmt.Sprintf("sub %.20s", sub), w.own().with("sub", sub).text(), BadClaims)
	}
	add("J18", "sub of 10 KiB", w.own().with("sub", jsonText(repeat("s", 10<<10))).text(), Malformed)
	for _, sub := range []string{"1", `["a"]`, `"\ud800"`} {
		add("J18", "sub "+sub, w.own().with("sub", sub).text(), Malformed)
	}
	for _, sub := range []string{"*", "${jwt:sub}", "a/b", "arn:cache:cache:*:acme:cache/x", "日本", repeat("s", maxSubject)} {
		add("J18", fmt.Sprintf("sub %.20s stays as it is", sub), w.own().with("sub", jsonText(sub)).text(), "")
	}
	for _, jti := range []string{"", `""`, `"a\u0000"`, jsonText(repeat("j", maxTokenID+1))} {
		add("J18", fmt.Sprintf("jti %.20s", jti), w.own().with("jti", jti).text(), BadClaims)
	}

	for _, scope := range []string{`"a  b"`, `" a"`, `"a "`, `"a\tb"`, `["a b"]`, `["a",1]`, `[""]`, `["a",null]`, `1`, `null`, `{}`, `"é"`, `"a\"b"`} {
		add("J19", "scope "+scope, w.own().with("scope", scope).text(), BadClaims)
	}
	for _, scope := range []string{`"a b"`, `["a","b"]`, `["b","a","b"]`, `""`, `[]`} {
		add("J19", "scope "+scope, w.own().with("scope", scope).text(), "")
	}

	twice := w.own().head("alg", "")
	twice.headerTail = `,"alg":"none","alg":"EdDSA"`
	add("J20", "alg none, then EdDSA", twice.text(), BadHeader)
	twice = w.own()
	twice.headerTail = `,"kid":"nobody"`
	add("J20", "kid twice", twice.text(), BadHeader)
	twice = w.own()
	twice.headerTail = `,"\u0061lg":"none"`
	add("J20", "alg again, with an escape", twice.text(), BadHeader)

	for name, tail := range map[string]string{
		"exp": `,"exp":` + at(2*time.Hour), "sub": `,"sub":"root"`, "sub with an escape": `,"s\u0075b":"root"`,
		"inside a claim": `,"x":{"a":1,"a":2}`, "inside a list in a claim": `,"x":[{"a":1,"a":2}]`, "a claim of no meaning": `,"x":1,"x":2`,
		"not UTF-8": ",\"x\":\"\xff\"", "a comment": `,"x":1/**/`, "a comma too many": `,`, "single quotes": `,'x':1`,
	} {
		f := w.own()
		f.payloadTail = tail
		add("J21", name, f.text(), Malformed)
	}
	add("J21", "the tenant twice", w.own().with("larder", `{"use":"data","tenant":"acme","tenant":"globex"}`).text(), Malformed)

	for _, name := range []string{"EXP", "SUB", "Aud", "sUb", "ISS", "Jti", "NBF", "SCOPE", "Larder", "\u017fub"} {
		add("J22", name+" beside the right one", w.own().with(name, `"root"`).text(), BadClaims)
	}
	add("J22", "SUB instead of sub", w.own().with("sub", "").with("SUB", `"root"`).text(), BadClaims)
	add("J22", "ALG beside alg", w.own().head("ALG", `"none"`).text(), BadHeader)
	add("J22", "another letter case inside our own claim", w.own().with("larder", `{"use":"data","Tenant":"globex"}`).text(), BadClaims)

	last := strings.IndexByte(base64Alphabet, s[len(s)-1])
	add("J23", "padding", h+"."+p+"."+s+"==", Malformed)
	add("J23", "padding of the header", h+"=."+p+"."+s, Malformed)
	add("J23", "standard alphabet", h+"."+p+"."+"+/"+s[2:], Malformed)
	add("J23", "newline in the signature", h+"."+p+"."+s[:10]+"\n"+s[10:], Malformed)
	add("J23", "return in the payload", h+"."+p[:10]+"\r"+p[10:]+"."+s, Malformed)
	add("J23", "newline at the end", good+"\n", Malformed)
	add("J23", "space in front", " "+good, Malformed)
	add("J23", "NUL at the end", good+"\x00", Malformed)
	add("J23", "trailing bits changed", h+"."+p+"."+s[:len(s)-1]+string(base64Alphabet[last^1]), Malformed)
	add("J23", "a letter too many", good+"A", BadSignature) // a longer signature, strictly written
	add("J23", "letters that are no bytes", good+"AAA", Malformed)
	add("J23", "white space in the JSON is no fault", w.own().textOf(" "+jsonObject(w.own().header, " ")+"\n", jsonObject(w.own().payload, "\t")+" "), "")
	add("J23", "something after the JSON of the payload", w.own().textOf(jsonObject(w.own().header, ""), jsonObject(w.own().payload, "")+"{}"), Malformed)
	add("J23", "something after the JSON of the header", w.own().textOf(jsonObject(w.own().header, "")+"x", jsonObject(w.own().payload, "")), BadHeader)
	add("J23", "byte order mark", w.own().textOf(jsonObject(w.own().header, ""), "\ufeff"+jsonObject(w.own().payload, "")), Malformed)
	for _, payload := range []string{"null", "[]", `"x"`, "1", "", " "} {
		reason := Malformed
		if payload == "null" {
			reason = UnknownIssuer
		}
		add("J23", "payload "+payload, w.own().textOf(jsonObject(w.own().header, ""), payload), reason)
	}

	for _, token := range []string{"", ".", "..", "...", h, h + "." + p, h + "." + p + ".", "." + p + "." + s, h + ".." + s, good + ".", "." + good,
		good + "." + s, repeat("A", 9<<10), repeat(".", 1e6), good + "." + repeat("A", 9<<10)} {
		add("J24", fmt.Sprintf("%.30q of %d bytes", token, len(token)), token, Malformed)
	}
	add("J24", "8192 bytes", w.own().ofLength(MaxTokenBytes), "")
	add("J24", "8193 bytes", w.own().ofLength(MaxTokenBytes+1), Malformed)

	other := strings.Split(w.own().with("sub", `"other"`).text(), ".")
	add("J25", "signature of another token", h+"."+p+"."+other[2], BadSignature)
	add("J25", "payload of another token", h+"."+other[1]+"."+s, BadSignature)
	add("J25", "signed by a stranger", own(w.own()).text(), BadSignature)
	add("J25", "empty message signed", signedBy(w.own(), func(string) []byte { return ed25519.Sign(current.private, nil) }).text(), BadSignature)
	add("J25", "short signature", signedBy(w.own(), func(m string) []byte { return ed25519.Sign(current.private, []byte(m))[:63] }).text(), BadSignature)

	es := func(sign func(r, s *big.Int) []byte) string {
		return w.idp("es", ES256, func(signed string) []byte {
			sum := sha256.Sum256([]byte(signed))
			r, s, err := ecdsa.Sign(rand.Reader, w.idpES, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			return sign(r, s)
		}).text()
	}
	n := elliptic.P256().Params().N
	pair := func(r, s *big.Int) []byte {
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}
	add("J26", "control", es(pair), "")
	add("J26", "r = s = 0", es(func(_, _ *big.Int) []byte { return make([]byte, 64) }), BadSignature)
	add("J26", "r = 0", es(func(_, s *big.Int) []byte { return pair(new(big.Int), s) }), BadSignature)
	add("J26", "s = 0", es(func(r, _ *big.Int) []byte { return pair(r, new(big.Int)) }), BadSignature)
	add("J26", "r = n", es(func(_, s *big.Int) []byte { return pair(n, s) }), BadSignature)
	add("J26", "s = n", es(func(r, _ *big.Int) []byte { return pair(r, n) }), BadSignature)
	add("J26", "DER", signedBy(w.idp("es", ES256, nil), func(signed string) []byte {
		sum := sha256.Sum256([]byte(signed))
		return must(ecdsa.SignASN1(rand.Reader, w.idpES, sum[:]))
	}).text(), BadSignature)
	add("J26", "a leading zero more", es(func(r, s *big.Int) []byte { return append([]byte{0}, pair(r, s)...) }), BadSignature)
	add("J26", "PS256 with an empty salt", w.idp("rsa", PS256, func(signed string) []byte {
		sum := sha256.Sum256([]byte(signed))
		return must(rsa.SignPSS(rand.Reader, w.idpRSA, crypto.SHA256, sum[:], &rsa.PSSOptions{SaltLength: 0}))
	}).text(), BadSignature)

	add("J27", "S not reduced", signedBy(w.own(), func(signed string) []byte {
		return unreduced(ed25519.Sign(current.private, []byte(signed)))
	}).text(), BadSignature)

	add("J28", "PS256 with a key published for RS256", w.idp("rsa-rs256", PS256, methodSign(jwt.SigningMethodPS256, w.idpRSA)).text(), BadAlgorithm)

	idToken := w.idp("ed", EdDSA, edSign(w.idpEd)).with("aud", `"client-7"`).with("nonce", `"n"`).with("azp", `"client-7"`)
	add("J31", "with an access token's typ", idToken.text(), WrongAudience)
	add("J31", "with typ JWT", idToken.head("typ", `"JWT"`).text(), BadHeader)
	add("J31", "without typ, for us", idToken.head("typ", "").with("aud", `"larder-acme"`).text(), BadHeader)

	for _, use := range []string{"refresh", "manage"} {
		add("J32", use+" at the data plane", w.own().with("larder", `{"use":"`+use+`","tenant":"acme"}`).text(), WrongUse)
	}
	for _, own := range []string{"", "null", "{}", `"data"`, `{"use":"root"}`, `{"use":"DATA"}`, `{"use":null}`, `{"tenant":"acme"}`,
		`{"use":"data","limit":1}`, `{"use":"data","policy":"{}"}`, `{"use":"data","policy":[]}`, `{"use":"data","policy":null}`, `{"use":"data","tenant":1}`} {
		add("J32", "our own claim as "+own, w.own().with("larder", own).text(), BadClaims)
	}

	add("J36", "10^4 deep", w.own().with("x", repeat("[", 1e4)+repeat("]", 1e4)).text(), Malformed)
	add("J36", "as deep as there is room", w.own().with("x", repeat("[", 2000)+repeat("]", 2000)).text(), Malformed)
	add("J36", "never closed", w.own().with("x", repeat("[", 5000)).text(), Malformed)
	add("J36", "65 deep", w.own().with("x", repeat("[", 64)+repeat("]", 64)).text(), Malformed)
	add("J36", "64 deep", w.own().with("x", repeat("[", 63)+repeat("]", 63)).text(), "")
	add("J36", "brackets in a string", w.own().with("x", jsonText(`"\`+repeat("[", 100))).text(), "")
	add("J36", "a deep header", w.own().head("kid", repeat("[", 3000)).text(), BadHeader)
	add("J36", "a deep policy", w.own().with("larder", `{"use":"data","policy":{"a":`+repeat("[", 62)+repeat("]", 62)+`}}`).text(), Malformed)

	add("J39", "key retired a second ago", signedBy(w.own().head("kid", jsonText(w.fresh.ID())), edSign(w.fresh.private)).text(), "")
	add("J39", "key that signs next, on a node that has rotated already",
		signedBy(w.own().head("kid", jsonText(w.signer.Keys().Next.ID())), edSign(w.signer.Keys().Next.private)).text(), "")

	add("J40", "EdDSA, ours", good, "")
	add("J40", "ES256, ours", signedBy(w.own().with("iss", jsonText(edgeName)).head("alg", `"ES256"`).head("kid", `"es"`),
		methodSign(jwt.SigningMethodES256, w.edge)).text(), "")
	add("J40", "at+jwt, ours", w.own().head("typ", `"at+jwt"`).text(), "")
	add("J40", "EdDSA, external", w.idp("ed", EdDSA, edSign(w.idpEd)).text(), "")
	add("J40", "ES256, external", w.idp("es", ES256, methodSign(jwt.SigningMethodES256, w.idpES)).text(), "")
	add("J40", "RS256, external", w.idp("rsa", RS256, methodSign(jwt.SigningMethodRS256, w.idpRSA)).text(), "")
	add("J40", "RS256, external, key published for it", w.idp("rsa-rs256", RS256, methodSign(jwt.SigningMethodRS256, w.idpRSA)).text(), "")
	add("J40", "PS256, external", w.idp("rsa", PS256, methodSign(jwt.SigningMethodPS256, w.idpRSA)).text(), "")

	for _, id := range slices.Sorted(maps.Keys(attacks)) {
		t.Run(id, func(t *testing.T) {
			for _, a := range attacks[id] {
				before := w.asked.Load()
				claims, err := w.verifier.Verify(a.token, noon)
				if a.reason == "" {
					if err != nil || w.asked.Load() != before+1 {
						t.Errorf("%s: %s, want it accepted, and the revocations asked once", a.name, reasonOf(err))
					}
					continue
				}
				if reasonOf(err) != a.reason || claims != nil {
					t.Errorf("%s: %q with claims %v, want %q", a.name, reasonOf(err), claims, a.reason)
				}
				if w.asked.Load() != before {
					t.Errorf("%s: the claims were shown before the token was believed", a.name)
				}
				checkSilence(t, err)
			}
		})
	}
	if n := calls.Load(); n != 0 {
		t.Errorf("J08: the attacker's server was called %d times", n)
	}

	t.Run("J18 literal", func(t *testing.T) {
		for _, sub := range []string{"*", "${jwt:sub}", "a/b:c"} {
			claims, err := w.verifier.Verify(w.own().with("sub", jsonText(sub)).text(), noon)
			if err != nil || claims.Subject != sub {
				t.Errorf("%s: %v, %s", sub, claims, reasonOf(err))
			}
		}
	})
	t.Run("J19 same set", func(t *testing.T) {
		for scope, want := range map[string][]string{`"b a"`: {"a", "b"}, `["a","b"]`: {"a", "b"}, `["b","a","b"]`: {"a", "b"}, `""`: nil, `[]`: nil} {
			claims, err := w.verifier.Verify(w.own().with("scope", scope).text(), noon)
			if err != nil || !slices.Equal(claims.Scopes, want) {
				t.Errorf("%s: %+v, %s", scope, claims, reasonOf(err))
			}
		}
	})
	t.Run("J32 reverse", func(t *testing.T) {
		manage := must(NewVerifier(w.issuers, []Use{UseManage}, nil))
		if _, err := manage.Verify(good, noon); reasonOf(err) != WrongUse {
			t.Errorf("a data token at the management door: %q", reasonOf(err))
		}
		if _, err := manage.Verify(w.idp("ed", EdDSA, edSign(w.idpEd)).text(), noon); reasonOf(err) != WrongUse {
			t.Errorf("an external token at the management door: %q", reasonOf(err))
		}
		if _, err := manage.Verify(w.own().with("larder", `{"use":"manage"}`).text(), noon); err != nil {
			t.Errorf("a management token at its door: %q", reasonOf(err))
		}
	})

	// A hook with the three memories that an authenticator has.
	revoked, created, seen := map[string]bool{"t-revoked": true}, map[string]time.Time{}, map[string]bool{}
	hooked := must(NewVerifier(w.issuers, []Use{UseData}, func(c *Claims) bool {
		if revoked[c.ID] || c.IssuedAt.Before(created[c.Subject]) || seen[c.ID] {
			return true
		}
		seen[c.ID] = c.Maker == "once"
		return false
	}))
	t.Run("J29", func(t *testing.T) {
		if _, err := hooked.Verify(w.own().with("jti", `"t-revoked"`).text(), noon); reasonOf(err) != Revoked {
			t.Errorf("a revoked token: %q", reasonOf(err))
		}
		if _, err := hooked.Verify(good, noon); err != nil {
			t.Errorf("its neighbour: %q", reasonOf(err))
		}
	})
	t.Run("J33", func(t *testing.T) {
		created["ann"] = noon.Add(500 * time.Millisecond) // deleted and made again within the second
		token := func(iat string) string { return w.own().with("sub", `"ann"`).with("iat", iat).text() }
		if _, err := hooked.Verify(token(seconds(noon)+".499"), noon); reasonOf(err) != Revoked {
			t.Errorf("a token of ann's predecessor: %q", reasonOf(err))
		}
		if _, err := hooked.Verify(token(seconds(noon)+".5"), noon); err != nil {
			t.Errorf("a token of ann's: %q", reasonOf(err))
		}
	})
	t.Run("J34", func(t *testing.T) {
		token := w.own().with("jti", `"once"`).with("larder", `{"use":"data","maker":"once"}`).text()
		if _, err := hooked.Verify(token, noon); err != nil {
			t.Fatalf("first time: %q", reasonOf(err))
		}
		if _, err := hooked.Verify(token, noon); reasonOf(err) != Revoked {
			t.Errorf("second time: %q", reasonOf(err))
		}
	})
	t.Run("J38", func(t *testing.T) {
		// The cluster's time is an argument. Whatever this machine's clock says, years decide nothing.
		for _, now := range []time.Time{noon, noon.AddDate(30, 0, 0), time.Unix(1e6, 0)} {
			token := w.own().with("iat", seconds(now)).with("exp", seconds(now.Add(time.Minute))).text()
			if now == time.Unix(1e6, 0) {
				now = now.Add(30 * time.Second)
			}
			if _, err := w.verifier.Verify(token, now); err != nil {
				t.Errorf("at %v: %q", now, reasonOf(err))
			}
			if _, err := w.verifier.Verify(token, now.Add(time.Hour)); reasonOf(err) != Expired {
				t.Errorf("an hour after %v: %q", now, reasonOf(err))
			}
			if _, err := w.verifier.Verify(token, now.Add(-time.Hour)); reasonOf(err) != NotYetValid {
				t.Errorf("an hour before %v: %q", now, reasonOf(err))
			}
		}
	})
}

const base64Alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

func signedBy(f *forgery, sign func(string) []byte) *forgery { f.sign = sign; return f }

func reasonOf(err error) Reason {
	var refusal *Refusal
	if err == nil {
		return ""
	}
	if !errors.As(err, &refusal) || !errors.Is(err, ErrRefused) {
		return Reason("not a refusal: " + err.Error())
	}
	return refusal.Reason
}

// checkSilence fails when a refusal says, to the client or to the log, what the token claimed.
func checkSilence(t *testing.T, err error) {
	t.Helper()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("refused", "why", err)
	for _, said := range []string{err.Error(), log.String(), fmt.Sprintf("%v %+v %#v", err, err, err)} {
		if strings.Contains(said, "canary") {
			t.Errorf("the refusal repeats a claim: %s", said)
		}
	}
	if err.Error() != "credential refused" {
		t.Errorf("the client learns %q", err.Error())
	}
}

// unreduced adds the order of the group to S, which leaves the equation true.
func unreduced(signature []byte) []byte {
	order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
	little := slices.Clone(signature[32:])
	slices.Reverse(little)
	sum := new(big.Int).Add(new(big.Int).SetBytes(little), order).FillBytes(make([]byte, 32))
	slices.Reverse(sum)
	return append(slices.Clone(signature[:32]), sum...)
}

// TestExternalClaims shows that an external issuer's token is of the tenant that the issuer is bound
// to, opens the data plane alone and carries no policy, whatever it says.
func TestExternalClaims(t *testing.T) {
	w := newWorld()
	token := w.idp("ed", EdDSA, edSign(w.idpEd)).
		with("tenant", `"globex"`).with("use", `"manage"`).
		with("larder", `{"use":"manage","tenant":"globex","maker":"root","policy":{"Statement":[]}}`).
		with("groups", `["ops","dev"]`).with("azp", `"client-7"`).with("level", "3").with("admin", "true").
		with("mixed", `["a",2,false]`).with("address", `{"city":"x"}`).with("nothing", "null").with("lists", `[["a"]]`).
		with("scope", `"read write"`).with("nbf", seconds(noon.Add(-time.Minute))).text()
	claims, err := w.verifier.Verify(token, noon)
	if err != nil {
		t.Fatal(reasonOf(err))
	}
	want := &Claims{
		Issuer: idpName, Subject: "canary", Audience: []string{"larder-acme"}, ID: "t1", Tenant: "acme", Use: UseData,
		IssuedAt: noon, Expires: noon.Add(time.Hour), NotBefore: noon.Add(-time.Minute), Scopes: []string{"read", "write"},
		Extra: map[string][]string{"tenant": {"globex"}, "use": {"manage"}, "groups": {"ops", "dev"}, "azp": {"client-7"},
			"level": {"3"}, "admin": {"true"}, "mixed": {"a", "2", "false"}},
	}
	if !reflect.DeepEqual(claims, want) {
		t.Errorf("got  %+v\nwant %+v", claims, want)
	}
}

// TestIssuerPins shows that an issuer's list is what counts, not what its keys could do, and that a
// careless look-up of issuers is caught.
func TestIssuerPins(t *testing.T) {
	w := newWorld()
	keys := must(ParseJWKS(jwksDocument(jwkOf("rsa", "", &w.idpRSA.PublicKey))))
	spec := IssuerSpec{Name: idpName, Audience: "larder-acme", Algorithms: []Algorithm{RS256}, Keys: keys, MaxLife: time.Hour, Tenant: "acme"}
	issuers := IssuerList{must(NewIssuer(spec))}
	spec.Algorithms[0] = PS256 // the list was copied
	door := must(NewVerifier(issuers, []Use{UseData}, nil))
	if _, err := door.Verify(w.idp("rsa", RS256, methodSign(jwt.SigningMethodRS256, w.idpRSA)).text(), noon); err != nil {
		t.Errorf("the pinned algorithm: %s", reasonOf(err))
	}
	if _, err := door.Verify(w.idp("rsa", PS256, methodSign(jwt.SigningMethodPS256, w.idpRSA)).text(), noon); reasonOf(err) != BadAlgorithm {
		t.Errorf("another algorithm of the same key: %q", reasonOf(err))
	}

	careless := must(NewVerifier(anyIssuer{w.issuers[0]}, []Use{UseData}, nil))
	if _, err := careless.Verify(w.own().with("iss", jsonText(strings.ToUpper(ownName))).text(), noon); reasonOf(err) != UnknownIssuer {
		t.Errorf("the issuer's name in capitals: %q", reasonOf(err))
	}
}

type anyIssuer struct{ one *Issuer }

func (a anyIssuer) Issuer(string) (*Issuer, bool) { return a.one, true }

// TestNoNilMethods shows that no issuer and no verifier exists that pins nothing, and that the JWT
// library is used for its signature methods alone: its parser accepts what it should not.
func TestNoNilMethods(t *testing.T) {
	w := newWorld()
	good := IssuerSpec{Name: "i", Audience: "a", Algorithms: []Algorithm{EdDSA}, Keys: w.signer, MaxLife: time.Hour, Own: true}
	if _, err := NewIssuer(good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		spoil func(*IssuerSpec)
		says  string
	}{
		{"no algorithms", func(s *IssuerSpec) { s.Algorithms = nil }, "algorithms are empty"},
		{"HMAC", func(s *IssuerSpec) { s.Algorithms = []Algorithm{"HS256"} }, `"HS256"`},
		{"none", func(s *IssuerSpec) { s.Algorithms = []Algorithm{EdDSA, "none"} }, `"none"`},
		{"RSA of our own", func(s *IssuerSpec) { s.Algorithms = []Algorithm{RS256} }, `"RS256"`},
		{"no name", func(s *IssuerSpec) { s.Name = "" }, "name is empty"},
		{"no audience", func(s *IssuerSpec) { s.Audience = "" }, "audience is empty"},
		{"no keys", func(s *IssuerSpec) { s.Keys = nil }, "keys are missing"},
		{"no longest life", func(s *IssuerSpec) { s.MaxLife = 0 }, "max life 0s"},
		{"too long a life", func(s *IssuerSpec) { s.MaxLife = MaxTokenLife + 1 }, "at most 25h"},
		{"too much leeway", func(s *IssuerSpec) { s.Leeway = MaxLeeway + 1 }, "leeway 30.000000001s"},
		{"negative leeway", func(s *IssuerSpec) { s.Leeway = -1 }, "leeway -1ns"},
		{"our own and a tenant's", func(s *IssuerSpec) { s.Tenant = "acme" }, "either own or a tenant"},
		{"nobody's", func(s *IssuerSpec) { s.Own = false }, "either own or a tenant"},
	} {
		spec := good
		c.spoil(&spec)
		if _, err := NewIssuer(spec); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want it to say %q", c.name, err, c.says)
		}
	}
	for name, make := range map[string]func() (*Verifier, error){
		"no issuers":  func() (*Verifier, error) { return NewVerifier(nil, []Use{UseData}, nil) },
		"no uses":     func() (*Verifier, error) { return NewVerifier(w.issuers, nil, nil) },
		"unknown use": func() (*Verifier, error) { return NewVerifier(w.issuers, []Use{"any"}, nil) },
	} {
		if _, err := make(); err == nil {
			t.Errorf("%s: a verifier was made", name)
		}
	}

	for _, name := range []string{"apikey.go", "jwks.go", "jwt.go", "signer.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok && x.Name == "jwt" && !strings.HasPrefix(s.Sel.Name, "SigningMethod") {
					t.Errorf("%s uses jwt.%s", name, s.Sel.Name)
				}
			}
			return true
		})
	}
}

// TestMintThenVerify shows that what Mint signs is what a verifier reads, for any claims.
func TestMintThenVerify(t *testing.T) {
	w := newWorld()
	all := must(NewVerifier(w.issuers, []Use{UseData, UseManage, UseRefresh}, nil))
	text := rapid.StringMatching(`[a-zA-Z0-9*/:\$\{\}é ]{1,40}`)
	rapid.Check(t, func(t *rapid.T) {
		now := noon.Add(time.Duration(rapid.Int64Range(0, int64(time.Hour)).Draw(t, "now")))
		claims := &Claims{
			Subject:    text.Draw(t, "sub"),
			Tenant:     rapid.SampledFrom([]string{"", "acme"}).Draw(t, "tenant"),
			Use:        rapid.SampledFrom([]Use{UseData, UseManage, UseRefresh}).Draw(t, "use"),
			Expires:    now.Add(time.Duration(rapid.Int64Range(int64(time.Millisecond), int64(MaxTokenLife-time.Millisecond)).Draw(t, "life"))),
			Scopes:     rapid.SliceOfN(rapid.StringMatching(`[a-z:*]{1,8}`), 0, 5).Draw(t, "scopes"),
			Maker:      rapid.SampledFrom([]string{"", "k1"}).Draw(t, "maker"),
			AuthMethod: rapid.SampledFrom([]string{"", "api_key"}).Draw(t, "method"),
		}
		if rapid.Bool().Draw(t, "policy") {
			claims.Policy = []byte(`{"Version":"2026-01-01","Statement":[{"Effect":"Allow","Action":["cache:Get"]}]}`)
		}
		for range rapid.IntRange(0, 3).Draw(t, "extras") {
			if claims.Extra == nil {
				claims.Extra = map[string][]string{}
			}
			claims.Extra[rapid.StringMatching(`x[a-z]{1,5}`).Draw(t, "name")] = rapid.SliceOfN(text, 1, 3).Draw(t, "values")
		}
		token, err := w.signer.Mint(claims, now)
		if err != nil {
			t.Fatal(err)
		}
		got, err := all.Verify(token, now)
		if err != nil {
			t.Fatalf("%s: %+v", reasonOf(err), claims)
		}
		if len(got.Scopes) == 0 {
			got.Scopes = claims.Scopes
		}
		if !reflect.DeepEqual(got, claims) {
			t.Fatalf("got  %+v\nwant %+v", got, claims)
		}
	})
}

// FuzzJWT feeds the verifier texts as they are, and payloads and headers under a good signature, for
// those parts which no mutation could reach otherwise.
func FuzzJWT(f *testing.F) {
	w := newWorld()
	good := w.own()
	header, payload := jsonObject(good.header, ""), jsonObject(good.payload, "")
	f.Add(good.text(), header, payload)
	f.Add("..", `{"alg":"none","typ":"at+jwt","kid":"a","crit":["exp"]}`, `{"exp":1e300,"SUB":"root"}`)
	f.Add(strings.Repeat("A.", 3), header, jsonObject(good.payload, `,"x":[[{"a":"\"["}]],"scope":["b","a"],"nbf":0.5`))
	sign := edSign(w.signer.Keys().Current.private)
	f.Fuzz(func(t *testing.T, text, h, p string) {
		for _, text := range []string{text, signedBy(w.own(), sign).textOf(h, payload), signedBy(w.own(), sign).textOf(header, p)} {
			claims, err := w.verifier.Verify(text, noon)
			if err != nil {
				if reasonOf(err) == "" || claims != nil || err.Error() != "credential refused" {
					t.Fatalf("%q: %v with claims %v", text, err, claims)
				}
				continue
			}
			// What we accept, a naive reader must read in the same way.
			parts := strings.Split(text, ".")
			if len(parts) != 3 || len(text) > MaxTokenBytes {
				t.Fatalf("%q has %d parts", text, len(parts))
			}
			for i, part := range parts {
				if data, err := base64.RawURLEncoding.DecodeString(part); err != nil || b64(string(data)) != part {
					t.Fatalf("part %d of %q is not the one text of its content", i, text)
				}
			}
			var naive struct {
				Iss, Sub, Jti string
				Exp, Iat, Nbf float64
			}
			raw := must(base64.RawURLEncoding.DecodeString(parts[1]))
			if err := stdjson.Unmarshal(raw, &naive); err != nil {
				t.Fatalf("%s: %v", raw, err)
			}
			if naive.Iss != claims.Issuer || naive.Sub != claims.Subject || naive.Jti != claims.ID || naive.Sub == "" || naive.Jti == "" {
				t.Fatalf("%s was read as %+v", raw, claims)
			}
			at := float64(noon.Unix())
			if naive.Exp <= at-leeway.Seconds()-0.001 || naive.Iat > at+leeway.Seconds()+0.001 || naive.Nbf > at+leeway.Seconds()+0.001 ||
				naive.Exp-naive.Iat > MaxTokenLife.Seconds()+0.001 || !slices.Contains(claims.Audience, audience) && !slices.Contains(claims.Audience, "larder-acme") {
				t.Fatalf("%s was accepted at %v", raw, at)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	w := newWorld()
	for _, c := range []struct{ name, token string }{
		{"EdDSA", w.own().text()},
		{"EdDSA-policy", w.own().with("larder", `{"use":"data","tenant":"acme","policy":{"Statement":[{"Effect":"Allow","Action":["cache:Get"],"Resource":["*"]}]}}`).text()},
		{"ES256", w.idp("es", ES256, methodSign(jwt.SigningMethodES256, w.idpES)).text()},
		{"RS256", w.idp("rsa", RS256, methodSign(jwt.SigningMethodRS256, w.idpRSA)).text()},
		{"refused-shape", w.own().head("crit", `["x"]`).text()},
		{"refused-signature", signedBy(w.own(), func(string) []byte { return make([]byte, 64) }).text()},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, _ = w.verifier.Verify(c.token, noon)
			}
		})
	}
}
