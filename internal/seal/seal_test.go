package seal

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"testing/iotest"
	"time"
)

var head = Head{Kind: "snapshot", Cluster: "c", Tenant: "t", Cache: "k", ID: "s", Created: time.Unix(1_800_000_000, 0).UTC()}

func sealed(t testing.TB, kms KMS, h Head, plain []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := Writer(t.Context(), &b, kms, h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func opened(kms KMS, want Head, b []byte) ([]byte, error) {
	_, r, err := Open(context.Background(), bytes.NewReader(b), kms, want)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// testKMS is the contract of every KMS.
func testKMS(t *testing.T, kms, other KMS) {
	key := []byte("0123456789abcdef0123456789abcdef")
	w, err := kms.Wrap(t.Context(), key, []byte("context"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(w.Bytes, key) || w.Key == "" {
		t.Errorf("wrapped as %q by %q", w.Bytes, w.Key)
	}
	if again, err := kms.Wrap(t.Context(), key, []byte("context")); err != nil || bytes.Equal(again.Bytes, w.Bytes) {
		t.Errorf("wrapped twice the same: %v", err)
	}
	if got, err := kms.Unwrap(t.Context(), w, []byte("context")); err != nil || !bytes.Equal(got, key) {
		t.Errorf("unwrapped %q: %v", got, err)
	}
	if _, err := kms.Unwrap(t.Context(), w, []byte("another")); err == nil {
		t.Error("unwrapped with another context")
	}
	if _, err := other.Unwrap(t.Context(), w, []byte("context")); err == nil {
		t.Error("unwrapped by another key")
	}
	for i := range w.Bytes {
		bad := Wrapped{w.Key, bytes.Clone(w.Bytes)}
		bad.Bytes[i] ^= 1
		if _, err := kms.Unwrap(t.Context(), bad, []byte("context")); err == nil {
			t.Fatalf("unwrapped with byte %d changed", i)
		}
	}
	if _, err := kms.Unwrap(t.Context(), Wrapped{w.Key, nil}, []byte("context")); err == nil {
		t.Error("unwrapped nothing")
	}
}

func keyset(t testing.TB) *Keyset {
	t.Helper()
	k, made, err := OpenKeyset(filepath.Join(t.TempDir(), "keys"))
	if err != nil || !made {
		t.Fatal(made, err)
	}
	return k
}

func TestKMSContract(t *testing.T) {
	t.Run("keyset", func(t *testing.T) { testKMS(t, keyset(t), keyset(t)) })
	t.Run("key", func(t *testing.T) { testKMS(t, NewKey(), NewKey()) })
}

func TestKeysetIsKept(t *testing.T) {
	k := keyset(t)
	old := sealed(t, k, head, []byte("old"))
	if err := k.Rotate(); err != nil {
		t.Fatal(err)
	}
	again, made, err := OpenKeyset(k.path)
	if err != nil || made {
		t.Fatal(made, err)
	}
	for _, b := range [][]byte{old, sealed(t, k, head, []byte("old"))} {
		if got, err := opened(again, head, b); err != nil || string(got) != "old" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if info, _ := os.Stat(k.path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %o", info.Mode().Perm())
	}
	if err := os.Chmod(k.path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenKeyset(k.path); err == nil {
		t.Error("others may read the keys")
	}
	if err := os.WriteFile(k.path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(k.path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenKeyset(k.path); err == nil {
		t.Error("an empty keyset")
	}
}

// TestTamper: whatever is changed, nothing opens to its end. E5, E6.
func TestTamper(t *testing.T) {
	k := keyset(t)
	plain := bytes.Repeat([]byte("canary-7f3a"), 230_000) // three segments
	whole := sealed(t, k, head, plain)
	if bytes.Contains(whole, []byte("canary")) {
		t.Fatal("the file can be read without a key")
	}
	if got, err := opened(k, head, whole); err != nil || !bytes.Equal(got, plain) {
		t.Fatal(len(got), err)
	}
	refused := func(what string, b []byte) {
		t.Helper()
		if got, err := opened(k, head, b); err == nil || len(got) > len(plain) || !bytes.Equal(got, plain[:len(got)]) {
			t.Errorf("%s: %d bytes, %v", what, len(got), err)
		}
	}
	_, raw, err := ReadHead(bytes.NewReader(whole))
	if err != nil {
		t.Fatal(err)
	}
	begin := len(raw)
	for at := 0; at < begin+200; at++ {
		b := bytes.Clone(whole[:begin+segmentBytes/2])
		b[at] ^= 1 << (at % 8)
		refused("a bit of the head", b)
	}
	for at := begin + 200; at < len(whole); at += 99_991 {
		b := bytes.Clone(whole)
		b[at] ^= 1
		refused("a bit of the contents", b)
	}
	first := begin + segmentBytes // where the second segment begins
	refused("the first segment alone", whole[:first])
	refused("inside of a segment", whole[:first+1000])
	refused("without the last byte", whole[:len(whole)-1])
	refused("a byte more", append(bytes.Clone(whole), 0))
	swapped := append(bytes.Clone(whole[:begin+100_000]), whole[first+100_000:]...)
	refused("a part left out", swapped)
	refused("nothing", nil)
	refused("the head alone", whole[:begin])
	refused("another file's contents", append(bytes.Clone(raw), sealed(t, k, head, plain)[begin:]...))
	for _, other := range []Head{
		{Kind: "handover"}, {Tenant: "other"}, {Cache: "other"}, {Cluster: "other"}, {ID: "other"},
	} {
		if _, err := opened(nil, other, whole); !errors.Is(err, ErrDamaged) { // before any key is looked at
			t.Errorf("%+v: %v", other, err)
		}
	}
	if _, err := opened(keyset(t), head, whole); err == nil {
		t.Error("another keyset opened the file")
	}
}

// TestStickyReader: an error is the last thing that a reader says. E7.
func TestStickyReader(t *testing.T) {
	k := keyset(t)
	whole := sealed(t, k, head, bytes.Repeat([]byte("x"), 3*segmentBytes))
	damaged := bytes.Clone(whole)
	damaged[segmentBytes+segmentBytes/2] ^= 1
	flaky := errors.New("the disk is gone")
	for name, r := range map[string]io.Reader{
		"damage": bytes.NewReader(damaged), "truncation": bytes.NewReader(whole[:2*segmentBytes]),
		"the source": io.MultiReader(bytes.NewReader(whole[:2*segmentBytes]), iotest.ErrReader(flaky)),
	} {
		_, plain, err := Open(t.Context(), r, k, head)
		if err != nil {
			t.Fatal(name, err)
		}
		n, first := io.Copy(io.Discard, plain)
		if first == nil || n >= 3*segmentBytes {
			t.Fatalf("%s: %d bytes, %v", name, n, first)
		}
		if name == "the source" && !errors.Is(first, flaky) {
			t.Errorf("%s: %v", name, first)
		}
		for range 5 {
			var b [10]byte
			if n, err := plain.Read(b[:]); n != 0 || err == nil || err == io.EOF {
				t.Errorf("%s: read on: %d, %v", name, n, err)
			}
		}
	}
}

func TestFilesAreWholeOrAbsent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "file")
	f, err := CreateFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("a file has its name too soon")
	}
	if err := f.Discard(); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(path, []byte("whole")); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%v", entries)
	}
}

// FuzzHead: a head may be anything, and takes no more memory than it has bytes, up to its bound.
func FuzzHead(f *testing.F) {
	k := keyset(f)
	b := sealed(f, k, head, []byte("x"))
	f.Add(b)
	f.Add(b[:20])
	f.Add([]byte("LARD\x00\x01\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, err := opened(k, Head{}, b); err == nil && string(got) != "x" {
			t.Errorf("%q", got)
		}
	})
}
