package kms

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	_ "gocloud.dev/secrets/hashivault"   // hashivault://
	_ "gocloud.dev/secrets/localsecrets" // base64key://

	"github.com/larder-cache/larder/internal/seal"
)

// A vault answers as the transit engine of HashiCorp Vault does to encrypt and decrypt, with versions of a key.
type vault struct {
	mu       sync.Mutex
	versions []seal.Key
	least    int // version that decrypts
	down     bool
}

func (v *vault) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var body struct{ Plaintext, Ciphertext string }
	what := strings.Split(strings.TrimPrefix(r.URL.Path, "/v1/transit/"), "/")
	if v.down || r.Header.Get("X-Vault-Token") != "token" || len(what) != 2 || what[1] != "larder" || json.NewDecoder(r.Body).Decode(&body) != nil {
		http.Error(w, `{"errors":["no"]}`, http.StatusForbidden)
		return
	}
	answer := map[string]string{}
	switch what[0] {
	case "encrypt":
		plain, _ := base64.StdEncoding.DecodeString(body.Plaintext)
		newest := len(v.versions)
		b, err := v.versions[newest-1].Wrap(r.Context(), plain, nil)
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		answer["ciphertext"] = fmt.Sprintf("vault:v%d:%s", newest, base64.StdEncoding.EncodeToString(b.Bytes))
	case "decrypt":
		var version int
		var text string
		if _, err := fmt.Sscanf(strings.ReplaceAll(body.Ciphertext, ":", " "), "vault v%d %s", &version, &text); err != nil || version < max(v.least, 1) || version > len(v.versions) {
			http.Error(w, `{"errors":["disallowed by policy (too old)"]}`, http.StatusBadRequest)
			return
		}
		b, _ := base64.StdEncoding.DecodeString(text)
		key := v.versions[version-1]
		plain, err := key.Unwrap(r.Context(), seal.Wrapped{Key: key.ID, Bytes: b}, nil)
		if err != nil {
			http.Error(w, `{"errors":["cipher: message authentication failed"]}`, http.StatusBadRequest)
			return
		}
		answer["plaintext"] = base64.StdEncoding.EncodeToString(plain)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"data": answer})
}

// theVault is one for the whole process: the driver takes its address from the environment once.
var theVault struct {
	vault
	once sync.Once
}

// newVault is the vault with a new key.
func newVault(t *testing.T) (*vault, *Key) {
	t.Helper()
	v := &theVault.vault
	theVault.once.Do(func() {
		_ = os.Setenv("VAULT_SERVER_URL", httptest.NewServer(v).URL)
		_ = os.Setenv("VAULT_SERVER_TOKEN", "token")
	})
	v.mu.Lock()
	v.versions, v.least, v.down = []seal.Key{seal.NewKey()}, 0, false
	v.mu.Unlock()
	return v, open(t, "hashivault://larder")
}

func open(t *testing.T, at string) *Key {
	t.Helper()
	k, err := Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

// TestContract is what every KMS keeps, be it a file, a key in this process, or a service.
func TestContract(t *testing.T) {
	for name, make := range map[string]func(t *testing.T) seal.KMS{
		"keyset": func(t *testing.T) seal.KMS {
			k, _, err := seal.OpenKeyset(filepath.Join(t.TempDir(), "keys"))
			if err != nil {
				t.Fatal(err)
			}
			return k
		},
		"key":    func(*testing.T) seal.KMS { return seal.NewKey() },
		"local":  func(t *testing.T) seal.KMS { return open(t, "base64key://") },
		"vault":  func(t *testing.T) seal.KMS { _, k := newVault(t); return k },
		"chain":  func(t *testing.T) seal.KMS { return Chain{open(t, "base64key://"), seal.NewKey()} },
		"chain2": func(t *testing.T) seal.KMS { return Chain{seal.NewKey(), open(t, "base64key://")} },
	} {
		t.Run(name, func(t *testing.T) {
			k := make(t)
			ctx := context.Background()
			key := bytes.Repeat([]byte{7}, 32)
			to := []byte("a tenant")
			w, err := k.Wrap(ctx, key, to)
			if err != nil || w.Key == "" || bytes.Contains(w.Bytes, key) {
				t.Fatalf("%+v, %v", w, err)
			}
			if again, err := k.Wrap(ctx, key, to); err != nil || bytes.Equal(again.Bytes, w.Bytes) {
				t.Errorf("the same twice: %v", err)
			}
			if got, err := k.Unwrap(ctx, w, to); err != nil || !bytes.Equal(got, key) {
				t.Errorf("%x, %v", got, err)
			}
			for what, to := range map[string][]byte{"another tenant's": []byte("b tenant"), "nobody's": nil, "a longer one's": []byte("a tenant2")} {
				if _, err := k.Unwrap(ctx, w, to); err == nil {
					t.Errorf("it unwraps as %s", what)
				}
			}
			for i := range w.Bytes {
				bad := bytes.Clone(w.Bytes)
				bad[i] ^= 1
				if got, err := k.Unwrap(ctx, seal.Wrapped{Key: w.Key, Bytes: bad}, to); err == nil && !bytes.Equal(got, key) {
					t.Errorf("with byte %d changed it unwraps to another key", i)
				}
			}
			for _, n := range []int{0, 1, len(w.Bytes) - 1} {
				if _, err := k.Unwrap(ctx, seal.Wrapped{Key: w.Key, Bytes: w.Bytes[:n]}, to); err == nil {
					t.Errorf("%d of %d bytes unwrap", n, len(w.Bytes))
				}
			}
			if _, err := k.Unwrap(ctx, seal.Wrapped{Key: "another", Bytes: w.Bytes}, to); !errors.Is(err, seal.ErrNoKey) {
				t.Errorf("with another key's name: %v", err)
			}
		})
	}
}

// TestVersions: what an older version has wrapped unwraps as long as the service lets it; outages are errors and nothing else.
func TestVersions(t *testing.T) {
	v, k := newVault(t)
	key := make([]byte, 32)
	rand.Read(key)
	old, err := k.Wrap(t.Context(), key, []byte("c"))
	if err != nil {
		t.Fatal(err)
	}
	v.mu.Lock()
	v.versions = append(v.versions, seal.NewKey())
	v.mu.Unlock()
	fresh, err := k.Wrap(t.Context(), key, []byte("c"))
	if err != nil || !strings.HasPrefix(string(fresh.Bytes), "vault:v2:") {
		t.Fatalf("%q, %v", fresh.Bytes, err)
	}
	if _, err := k.Unwrap(t.Context(), old, []byte("c")); err != nil {
		t.Error(err)
	}
	v.mu.Lock()
	v.least = 2
	v.mu.Unlock()
	if _, err := k.Unwrap(t.Context(), old, []byte("c")); err == nil {
		t.Error("a version that is retired unwraps")
	}
	if got, err := k.Unwrap(t.Context(), fresh, []byte("c")); err != nil || !bytes.Equal(got, key) {
		t.Error(err)
	}
	v.mu.Lock()
	v.down = true
	v.mu.Unlock()
	if _, err := k.Wrap(t.Context(), key, nil); err == nil || errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrDamaged) {
		t.Error(err)
	}
	for _, bad := range []string{"", "larder", "nosuch://x", "hashivault://token@larder"} {
		if _, err := Open(t.Context(), bad); err == nil {
			t.Errorf("%q was opened", bad)
		}
	}
}
