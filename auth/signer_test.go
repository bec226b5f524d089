package auth

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	stdjson "encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRFC8037 holds us to the published key, thumbprint and signature.
func TestRFC8037(t *testing.T) {
	seed := must(base64.RawURLEncoding.DecodeString("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
	key := signingKey(seed)
	if x := key.public.jwk().X; x != "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" {
		t.Errorf("public key %s", x)
	}
	if key.ID() != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("thumbprint %s", key.ID())
	}
	const signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc"
	const signature = "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
	if got := b64(string(edSign(key.private)(signed))); got != signature {
		t.Errorf("signature %s", got)
	}
	if !key.Public().verify(EdDSA, signed, must(base64.RawURLEncoding.DecodeString(signature))) {
		t.Error("the published signature does not verify")
	}
}

func TestMintRefuses(t *testing.T) {
	w := newWorld()
	good := func() *Claims { return &Claims{Subject: "ann", Use: UseData, Expires: noon.Add(time.Hour)} }
	if _, err := w.signer.Mint(good(), noon); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		spoil func(*Claims)
		says  string // empty: minted
	}{
		{"exactly the longest life", func(c *Claims) { c.Expires = noon.Add(MaxTokenLife) }, ""},
		{"a second more", func(c *Claims) { c.Expires = noon.Add(MaxTokenLife + time.Second) }, "at most 25h"},
		{"never expires", func(c *Claims) { c.Expires = time.Time{} }, "must expire"},
		{"expires now", func(c *Claims) { c.Expires = noon }, "not in the future"},
		{"expired", func(c *Claims) { c.Expires = noon.Add(-time.Second) }, "not in the future"},
		{"begins at its end", func(c *Claims) { c.NotBefore = c.Expires }, "nbf"},
		{"begins later", func(c *Claims) { c.NotBefore = noon.Add(time.Minute) }, ""},
		{"no subject", func(c *Claims) { c.Subject = "" }, "sub"},
		{"longest subject", func(c *Claims) { c.Subject = strings.Repeat("s", maxSubject) }, ""},
		{"subject too long", func(c *Claims) { c.Subject = strings.Repeat("s", maxSubject+1) }, "1024"},
		{"subject with a line break", func(c *Claims) { c.Subject = "a\nb" }, "control"},
		{"subject not UTF-8", func(c *Claims) { c.Subject = "\xff" }, "UTF-8"},
		{"tenant not UTF-8", func(c *Claims) { c.Tenant = "\xff" }, "UTF-8"},
		{"extra not UTF-8", func(c *Claims) { c.Extra = map[string][]string{"x": {"\xff"}} }, "UTF-8"},
		{"id too long", func(c *Claims) { c.ID = strings.Repeat("j", maxTokenID+1) }, "jti"},
		{"no use", func(c *Claims) { c.Use = "" }, `use ""`},
		{"unknown use", func(c *Claims) { c.Use = "any" }, `use "any"`},
		{"scope with a space", func(c *Claims) { c.Scopes = []string{"a b"} }, "scope"},
		{"empty audience", func(c *Claims) { c.Audience = []string{""} }, "aud"},
		{"too many audiences", func(c *Claims) { c.Audience = strings.Split(strings.Repeat("a,", maxAudiences)+"a", ",") }, "aud"},
		{"policy that is a list", func(c *Claims) { c.Policy = []byte("[]") }, "policy"},
		{"empty policy", func(c *Claims) { c.Policy = []byte{} }, "policy"},
		{"broken policy", func(c *Claims) { c.Policy = []byte(`{"a":`) }, "want a JSON object"},
		{"policy with a member twice", func(c *Claims) { c.Policy = []byte(`{"a":1,"a":2}`) }, "want a JSON object"},
		{"policy with something behind", func(c *Claims) { c.Policy = []byte(`{},"tenant":"globex"`) }, "policy"},
		{"policy as deep as can be", func(c *Claims) { c.Policy = []byte(`{"a":` + repeat("[", 61) + repeat("]", 61) + `}`) }, ""},
		{"policy deeper", func(c *Claims) { c.Policy = []byte(`{"a":` + repeat("[", 62) + repeat("]", 62) + `}`) }, "deep"},
		{"policy too long", func(c *Claims) { c.Policy = []byte(`{"a":"` + repeat("x", 6<<10) + `"}`) }, "at most 8192"},
		{"extra named sub", func(c *Claims) { c.Extra = map[string][]string{"sub": {"root"}} }, "taken"},
		{"extra named SUB", func(c *Claims) { c.Extra = map[string][]string{"SUB": {"root"}} }, "taken"},
		{"extra named larder", func(c *Claims) { c.Extra = map[string][]string{"larder": {"root"}} }, "taken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims := good()
			c.spoil(claims)
			before := *claims
			token, err := w.signer.Mint(claims, noon)
			if c.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				at := noon
				if claims.NotBefore.After(at) {
					at = claims.NotBefore
				}
				if _, err := w.verifier.Verify(token, at); err != nil {
					t.Fatalf("minted, and then refused: %s", reasonOf(err))
				}
				return
			}
			if err == nil || token != "" || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("%v, want an error that says %q", err, c.says)
			}
			if !reflect.DeepEqual(*claims, before) {
				t.Fatal("a refused Mint changed the claims")
			}
		})
	}
}

// TestMintFillsIn shows what a caller need not say, and that two tokens never share an id.
func TestMintFillsIn(t *testing.T) {
	w := newWorld()
	now := noon.Add(1234567 * time.Microsecond)
	first, second := &Claims{Subject: "a", Use: UseData, Expires: now.Add(time.Minute)}, &Claims{Subject: "a", Use: UseData, Expires: now.Add(time.Minute)}
	must(w.signer.Mint(first, now))
	must(w.signer.Mint(second, now))
	if first.ID == "" || first.ID == second.ID {
		t.Errorf("ids %q and %q", first.ID, second.ID)
	}
	if first.Issuer != ownName || !reflect.DeepEqual(first.Audience, []string{audience}) {
		t.Errorf("issuer %q, audience %q", first.Issuer, first.Audience)
	}
	if want := noon.Add(1234 * time.Millisecond); !first.IssuedAt.Equal(want) || !first.Expires.Equal(want.Add(time.Minute)) {
		t.Errorf("issued at %v, expires %v", first.IssuedAt, first.Expires)
	}
}

// TestKeySetStored shows that a set survives storing, that only Marshal writes private keys, and that
// a damaged set is refused without quoting a private key.
func TestKeySetStored(t *testing.T) {
	dice := mathrand.NewChaCha8([32]byte{2})
	set := must(NewKeySet(dice))
	for i := range 3 {
		set = must(set.Rotate(dice, noon.Add(time.Duration(i)*time.Hour)))
	}
	stored := set.Marshal()
	again, err := UnmarshalKeySet(stored)
	if err != nil || !reflect.DeepEqual(again, set) {
		t.Fatalf("got %v (%v), want %v", again, err, set)
	}

	secret := b64(string(set.Current.private.Seed()))
	if !bytes.Contains(stored, []byte(secret)) {
		t.Fatal("the private key was not stored, so the search below proves nothing")
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		said := fmt.Sprintf(verb, set.Current) + fmt.Sprintf(verb, *set)
		if raw := fmt.Sprintf("%x", set.Current.private.Seed()); strings.Contains(said, secret) || strings.Contains(said, raw[:16]) ||
			!strings.Contains(said, set.Current.ID()) {
			t.Errorf("%s prints %s", verb, said)
		}
	}
	if bytes.Contains(set.JWKS(noon), []byte(`"d"`)) {
		t.Error("a private key was published")
	}

	edit := func(change func(m map[string]any)) []byte {
		var m map[string]any
		if err := stdjson.Unmarshal(stored, &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		return must(stdjson.Marshal(m))
	}
	key := func(m map[string]any, name string) map[string]any { return m[name].(map[string]any) }
	retired := func(m map[string]any, i int) map[string]any {
		return m["retired"].([]any)[i].(map[string]any)["key"].(map[string]any)
	}
	for name, data := range map[string][]byte{
		"empty":                  nil,
		"cut":                    stored[:len(stored)-1],
		"something behind":       append(bytes.Clone(stored), '1'),
		"unknown member":         edit(func(m map[string]any) { m["x"] = 1 }),
		"no current key":         edit(func(m map[string]any) { delete(m, "current") }),
		"no private part":        edit(func(m map[string]any) { delete(key(m, "next"), "d") }),
		"short private part":     edit(func(m map[string]any) { key(m, "next")["d"] = "AAAA" }),
		"halves exchanged":       edit(func(m map[string]any) { key(m, "next")["d"] = key(m, "current")["d"] }),
		"another id":             edit(func(m map[string]any) { key(m, "current")["kid"] = key(m, "next")["kid"] }),
		"another public part":    edit(func(m map[string]any) { key(m, "current")["x"] = key(m, "next")["x"] }),
		"K3: current is next":    edit(func(m map[string]any) { m["next"] = m["current"] }),
		"K3: retired twice":      edit(func(m map[string]any) { r := m["retired"].([]any); r[1] = r[0] }),
		"retired under an alias": edit(func(m map[string]any) { retired(m, 0)["kid"] = "alias" }),
		"retired for encryption": edit(func(m map[string]any) { retired(m, 0)["use"] = "enc" }),
		"retired with a private": edit(func(m map[string]any) { retired(m, 0)["d"] = "AAAA" }),
	} {
		set, err := UnmarshalKeySet(data)
		if err == nil || set != nil {
			t.Errorf("%s: read", name)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("%s: the error quotes a private key: %v", name, err)
		}
	}
}

func TestSignerRefuses(t *testing.T) {
	set := must(NewKeySet(rand.Reader))
	for name, make := range map[string]func() (*Signer, error){
		"no issuer":   func() (*Signer, error) { return NewSigner("", "a", set) },
		"no audience": func() (*Signer, error) { return NewSigner("i", "", set) },
		"no keys":     func() (*Signer, error) { return NewSigner("i", "a", nil) },
	} {
		if _, err := make(); err == nil {
			t.Errorf("%s: a signer was made", name)
		}
	}
	if _, err := NewKeySet(noDice{}); !errors.Is(err, errNoDice) {
		t.Errorf("keys without randomness: %v", err)
	}
	if _, err := set.Rotate(noDice{}, noon); !errors.Is(err, errNoDice) {
		t.Errorf("rotation without randomness: %v", err)
	}
}

// TestRotationNoFailures rotates ten times over several days. Two nodes mint all the time, one of them
// hearing of each rotation late, and still signing with the retired key meanwhile. Both must accept every
// token, wherever it was minted, for as long as it lives; and a key whose overlap is over must verify nothing
// any more.
func TestRotationNoFailures(t *testing.T) {
	dice := mathrand.NewChaCha8([32]byte{3})
	roll := mathrand.New(dice)
	set := must(NewKeySet(dice))
	first := set.Current
	prompt, late := must(NewSigner(ownName, audience, set)), must(NewSigner(ownName, audience, set))
	door := func(s *Signer) *Verifier {
		issuer := must(NewIssuer(IssuerSpec{Name: ownName, Audience: audience, Algorithms: []Algorithm{EdDSA}, Keys: s, MaxLife: MaxTokenLife, Own: true}))
		return must(NewVerifier(IssuerList{issuer}, []Use{UseData}, nil))
	}
	type token struct {
		text    string
		expires time.Time
	}
	var alive []token
	accepted, rotations := 0, 0
	const step = 30 * time.Minute
	for now := noon; rotations < 10 || len(alive) > 0; now = now.Add(step) {
		elapsed := int(now.Sub(noon) / step)
		if elapsed%12 == 0 && rotations < 10 { // every six hours
			set = must(set.Rotate(dice, now))
			prompt = must(NewSigner(ownName, audience, set))
			rotations++
		}
		if elapsed%12 == 1 && late.Keys() != set {
			lastMoment := now.Add(-step + rotationMargin - time.Second)
			claims := &Claims{Subject: "ann", Use: UseData, Expires: lastMoment.Add(MaxTokenLife)}
			alive = append(alive, token{must(late.Mint(claims, lastMoment)), claims.Expires})
			late = must(NewSigner(ownName, audience, set))
		}
		if rotations < 10 {
			for _, s := range []*Signer{prompt, late} {
				life := time.Duration(1+roll.Int64N(int64(MaxTokenLife/time.Minute))) * time.Minute
				claims := &Claims{Subject: "ann", Use: UseData, Expires: now.Add(life)}
				alive = append(alive, token{must(s.Mint(claims, now)), claims.Expires})
			}
		}
		var next []token
		for _, tok := range alive {
			want := Reason("")
			if !now.Before(tok.expires) {
				want = Expired
			}
			for name, s := range map[string]*Signer{"prompt": prompt, "late": late} {
				_, err := door(s).Verify(tok.text, now)
				if got := reasonOf(err); got != want && !(want == Expired && got == UnknownKey) {
					t.Fatalf("after %v and %d rotations, %s node: %q, want %q", now.Sub(noon), rotations, name, got, want)
				}
			}
			if want == "" {
				accepted++
				next = append(next, tok)
			}
		}
		alive = next
	}
	if rotations != 10 || accepted < 1000 {
		t.Fatalf("only %d rotations and %d accepted tokens", rotations, accepted)
	}
	if _, ok := set.Key(first.ID(), noon.Add(Overlap-1)); ok {
		t.Error("a later rotation should have swept the first key away: it ended before the last rotation")
	}
}

// TestRotationEdges looks at one retired key to the nanosecond.
func TestRotationEdges(t *testing.T) {
	set := must(NewKeySet(rand.Reader))
	after := must(set.Rotate(rand.Reader, noon))
	if after.Current != set.Next || len(set.Retired) != 0 {
		t.Error("the next key did not become current, or the old set changed")
	}
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {MaxTokenLife + MaxLeeway, true}, {Overlap - 1, true}, {Overlap, false}} {
		now := noon.Add(c.after)
		if _, ok := after.Key(set.Current.ID(), now); ok != c.want {
			t.Errorf("%v after it was retired: verifies %t", c.after, ok)
		}
		published := must(ParseJWKS(after.JWKS(now)))
		if _, ok := published.Key(set.Current.ID(), now); ok != c.want {
			t.Errorf("%v after it was retired: published %t", c.after, ok)
		}
		for _, k := range []*SigningKey{after.Current, after.Next} {
			if _, ok := published.Key(k.ID(), now); !ok {
				t.Errorf("%s is not published", k.ID())
			}
		}
	}
	for i := 1; i < maxRetired; i++ {
		after = must(after.Rotate(rand.Reader, noon))
	}
	if _, err := after.Rotate(rand.Reader, noon); err == nil || !strings.Contains(err.Error(), "100 keys") {
		t.Errorf("one rotation too many: %v", err)
	}
	if swept, err := after.Rotate(rand.Reader, noon.Add(Overlap)); err != nil || len(swept.Retired) != 1 {
		t.Errorf("after the overlap: %v", err)
	}
	if n := len(after.JWKS(noon)); n > MaxJWKSBytes {
		t.Errorf("the largest document has %d bytes", n)
	}
}

// A turning signer is replaced at each rotation, as a Store replaces its own.
type turning struct{ atomic.Pointer[Signer] }

func (s *turning) Key(kid string, now time.Time) (PublicKey, bool) { return s.Load().Key(kid, now) }

// TestRotationUnderLoad rotates while others mint and verify, for the race detector.
func TestRotationUnderLoad(t *testing.T) {
	set := must(NewKeySet(rand.Reader))
	signer := &turning{}
	signer.Store(must(NewSigner(ownName, audience, set)))
	issuer := must(NewIssuer(IssuerSpec{Name: ownName, Audience: audience, Algorithms: []Algorithm{EdDSA}, Keys: signer, MaxLife: time.Hour, Own: true}))
	door := must(NewVerifier(IssuerList{issuer}, []Use{UseData}, nil))
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			var tokens []string
			for range 50 {
				text, err := signer.Load().Mint(&Claims{Subject: "ann", Use: UseData, Expires: noon.Add(time.Hour)}, noon)
				if err != nil {
					t.Error(err)
					return
				}
				tokens = append(tokens, text)
				for _, text := range tokens[max(0, len(tokens)-5):] {
					if _, err := door.Verify(text, noon); err != nil {
						t.Errorf("refused: %s", reasonOf(err))
					}
				}
			}
		})
	}
	for range 10 {
		set = must(set.Rotate(rand.Reader, noon))
		signer.Store(must(NewSigner(ownName, audience, set)))
	}
	clients.Wait()
}

func BenchmarkMint(b *testing.B) {
	w := newWorld()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.signer.Mint(&Claims{Subject: "ann", Tenant: "acme", Use: UseData, Expires: noon.Add(time.Hour)}, noon); err != nil {
			b.Fatal(err)
		}
	}
}
