package auth

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"hash/crc32"
	"io"
	"math/big"
	"regexp"
	"strings"
	"testing"
)

var keyFormat = regexp.MustCompile(`^lk_(live|test)_[0-9A-Za-z]{12}_[0-9A-Za-z]{43}[0-9A-Za-z]{6}$`)

// slowChecksum is the naive twin of keyChecksum.
func slowChecksum(text string) string {
	rest, digits := new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(text)))), ""
	for range 6 {
		digit := new(big.Int)
		rest.DivMod(rest, big.NewInt(62), digit)
		digits = base62[digit.Int64():digit.Int64()+1] + digits
	}
	return digits
}

func TestKeyFormat(t *testing.T) {
	for _, kind := range []KeyKind{LiveKey, TestKey} {
		for range 200 {
			key, text, err := NewAPIKey(kind, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if !keyFormat.MatchString(text) {
				t.Fatalf("%s is not of the documented format", text)
			}
			if body, sum := text[:len(text)-6], text[len(text)-6:]; sum != slowChecksum(body) {
				t.Fatalf("%s: checksum %s, want %s", text, sum, slowChecksum(body))
			}
			parsed, err := ParseAPIKey(text)
			if err != nil || parsed.ID != key.ID || parsed.Kind != kind {
				t.Fatalf("ParseAPIKey(%s) = %+v, %v, want id %s", text, parsed, err, key.ID)
			}
			if key.Digest != Hash(text) {
				t.Fatalf("%s: the digest is not that of the whole text", text)
			}
		}
	}

	// One key is written down, so that no later version refuses the keys of an earlier one.
	const known = "lk_live_000000000000_00000000000000000000000000000000000000000002wRDVT"
	key, text, err := NewAPIKey(LiveKey, zeros{})
	if err != nil || text != known || key.ID != "000000000000" {
		t.Fatalf("a key of zeros is %s, %v, want %s", text, err, known)
	}

	good := text
	flip := func(i int, c byte) string { return good[:i] + string(c) + good[i+1:] }
	resum := func(body string) string { return body + slowChecksum(body) }
	for _, c := range []struct{ name, text string }{
		{"empty", ""},
		{"one short", good[:len(good)-1]},
		{"one long", good + "0"},
		{"a megabyte", strings.Repeat("lk_", 1<<20/3)},
		{"unknown kind", resum("lk_root" + good[7:len(good)-6])},
		{"kind in capitals", resum("lk_LIVE" + good[7:len(good)-6])},
		{"other prefix", resum("sk" + good[2:len(good)-6])},
		{"prefix in capitals", resum("LK" + good[2:len(good)-6])},
		{"no mark after the kind", resum(good[:7] + "-" + good[8:len(good)-6])},
		{"no mark after the id", resum(good[:20] + "0" + good[21:len(good)-6])},
		{"mark inside the id", resum(good[:10] + "_" + good[11:len(good)-6])},
		{"space in the secret", resum(good[:30] + " " + good[31:len(good)-6])},
		{"NUL in the secret", resum(good[:30] + "\x00" + good[31:len(good)-6])},
		{"letter beyond ASCII", resum(good[:30] + "é" + good[32:len(good)-6])},
		{"wrong checksum", flip(len(good)-1, 'Z')},
		{"typing error in the id", flip(10, '1')},
		{"typing error in the secret", flip(40, 'a')},
		{"live taken for test", "lk_test" + good[7:]},
		{"leading space", " " + good[:len(good)-1]},
	} {
		t.Run(c.name, func(t *testing.T) {
			parsed, err := ParseAPIKey(c.text)
			if err == nil || parsed != (ParsedKey{}) {
				t.Fatalf("accepted %.80q", c.text)
			}
			var refusal *Refusal
			if !errors.Is(err, ErrRefused) || !errors.As(err, &refusal) || refusal.Reason != Malformed {
				t.Fatalf("refused with %#v", err)
			}
		})
	}

	if n := testing.AllocsPerRun(100, func() {
		if _, err := ParseAPIKey(good); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("ParseAPIKey allocates %v times", n)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestNewAPIKeyRefuses(t *testing.T) {
	if _, text, err := NewAPIKey("root", rand.Reader); err == nil || text != "" {
		t.Errorf("made a key of an unknown kind: %v", err)
	}
	if _, text, err := NewAPIKey(LiveKey, bytes.NewReader(make([]byte, 70))); !errors.Is(err, io.ErrUnexpectedEOF) || text != "" {
		t.Errorf("made a key without enough randomness: %v", err)
	}
}

// TestKeyEntropy shows that a secret carries 256 bits: there are enough texts, and each is as likely
// as the other.
func TestKeyEntropy(t *testing.T) {
	texts := new(big.Int).Exp(big.NewInt(62), big.NewInt(keySecretLen), nil)
	if texts.Cmp(new(big.Int).Lsh(big.NewInt(1), 256)) < 0 {
		t.Errorf("%d base62 characters carry fewer than 256 bits", keySecretLen)
	}

	var every [256]byte
	for i := range every {
		every[i] = byte(i)
	}
	drawn, err := appendBase62(nil, bytes.NewReader(every[:]), 248)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := appendBase62(nil, bytes.NewReader(every[:]), 249); !errors.Is(err, io.EOF) {
		t.Errorf("one of the bytes from 248 to 255 was used: %v", err)
	}
	for _, c := range []byte(base62) {
		if n := bytes.Count(drawn, []byte{c}); n != 4 {
			t.Errorf("%c comes from %d of 256 bytes, want 4 as for all others", c, n)
		}
	}

	seen := map[string]bool{}
	for range 1000 {
		_, text, err := NewAPIKey(LiveKey, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		secret := text[keySecretAt:keyChecksumAt]
		if len(secret) != 43 || seen[secret] {
			t.Fatalf("secret %s: wrong length, or drawn twice", secret)
		}
		seen[secret] = true
	}
}

// TestConstantTime does not measure; it shows that there is one way through Matches, whether the id
// is known or not, and that it ends in subtle.ConstantTimeCompare.
func TestConstantTime(t *testing.T) {
	key, text, err := NewAPIKey(LiveKey, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, other, err := NewAPIKey(LiveKey, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dummy := nobody
	for _, c := range []struct {
		name   string
		stored *Digest
		text   string
		want   bool
	}{
		{"the key", &key.Digest, text, true},
		{"another key", &key.Digest, other, false},
		{"the key with its last character changed", &key.Digest, text[:len(text)-1] + "!", false},
		{"empty text", &key.Digest, "", false},
		{"unknown id", nil, text, false},
		{"a record without a digest", &Digest{}, text, false},
		{"the dummy as a stored digest", &dummy, text, false},
	} {
		if got := Matches(c.stored, c.text); got != c.want {
			t.Errorf("%s: Matches = %t", c.name, got)
		}
	}

	file, err := parser.ParseFile(token.NewFileSet(), "apikey.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	returns, compares := 0, 0
	for _, d := range file.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "Matches" {
			ast.Inspect(f, func(n ast.Node) bool {
				if r, ok := n.(*ast.ReturnStmt); ok {
					returns++
					ast.Inspect(r, func(n ast.Node) bool {
						if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "ConstantTimeCompare" {
							compares++
						}
						return true
					})
				}
				return true
			})
		}
	}
	if returns != 1 || compares != 1 {
		t.Errorf("Matches has %d returns with %d constant-time comparisons, want 1 and 1", returns, compares)
	}
}

func TestHash(t *testing.T) {
	for _, n := range []int{0, 1, keyLen, 127, 128, 129, MaxTokenBytes} {
		text := strings.Repeat("k", n)
		if Hash(text) != sha256.Sum256([]byte(text)) {
			t.Errorf("%d bytes: not the SHA-256 of the text", n)
		}
	}
}

func FuzzAPIKey(f *testing.F) {
	_, text, err := NewAPIKey(TestKey, zeros{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("lk_live_")
	f.Add(strings.Repeat("_", keyLen))
	f.Fuzz(func(t *testing.T, text string) {
		// As it is, and with the checksum put right, which a mutation alone would never find.
		texts := []string{text}
		if len(text) >= 6 {
			texts = append(texts, text[:len(text)-6]+slowChecksum(text[:len(text)-6]))
		}
		for _, text := range texts {
			parsed, err := ParseAPIKey(text)
			if err != nil && !errors.Is(err, ErrRefused) {
				t.Fatalf("%q: %v is no refusal", text, err)
			}
			want := keyFormat.MatchString(text) && text[len(text)-6:] == slowChecksum(text[:len(text)-6])
			if (err == nil) != want {
				t.Fatalf("%q: accepted %t, want %t", text, err == nil, want)
			}
			if err == nil && (parsed.ID != text[8:20] || string(parsed.Kind) != text[3:7]) {
				t.Fatalf("%q parsed as %+v", text, parsed)
			}
		}
	})
}

func BenchmarkParseAndHashAPIKey(b *testing.B) {
	key, text, err := NewAPIKey(LiveKey, rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseAPIKey(text); err != nil {
			b.Fatal(err)
		}
		if Hash(text) != key.Digest {
			b.Fatal("wrong digest")
		}
	}
}

// BenchmarkMatches lets one compare the two paths that must take the same time.
func BenchmarkMatches(b *testing.B) {
	key, text, err := NewAPIKey(LiveKey, rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		stored *Digest
		text   string
	}{{"wrong-secret", &key.Digest, text[:len(text)-1] + "!"}, {"unknown-id", nil, text}} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if Matches(c.stored, c.text) {
					b.Fatal("matched")
				}
			}
		})
	}
}
