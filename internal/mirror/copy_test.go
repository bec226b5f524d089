package mirror

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func viewOf(revision int64, records ...Record) *view {
	v := &view{cluster: 0xabc, revision: revision, records: newTree()}
	for _, r := range records {
		v.records.ReplaceOrInsert(&r)
	}
	return v
}

func sample() *view {
	return viewOf(9,
		Record{Key: prefix + "a", Value: []byte("1"), CreateRevision: 3, ModRevision: 9},
		Record{Key: prefix + "b", CreateRevision: 4, ModRevision: 4, Leased: true},
		Record{Key: prefix + "\x00\xff", Value: []byte{0, 255}, CreateRevision: 1, ModRevision: 2})
}

// seal gives a changed body a checksum that fits.
func seal(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append(bytes.Clone(body), sum[:]...)
}

func TestCopyRoundTrip(t *testing.T) {
	for _, v := range []*view{viewOf(1), sample()} {
		got, err := decodeCopy(prefix, encodeCopy(prefix, v))
		if err != nil {
			t.Fatal(err)
		}
		if got.cluster != v.cluster || got.revision != v.revision || !same(got.list("", "", 0), v.list("", "", 0)) {
			t.Fatalf("got %v, want %v", got.list("", "", 0), v.list("", "", 0))
		}
	}
}

// A file that was cut anywhere, or has any bit turned, is not a copy.
func TestCopyDamaged(t *testing.T) {
	good := encodeCopy(prefix, sample())
	for n := range len(good) {
		if _, err := decodeCopy(prefix, good[:n]); err == nil {
			t.Fatalf("the first %d of %d bytes pass", n, len(good))
		}
	}
	for i := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		if _, err := decodeCopy(prefix, bad); err == nil {
			t.Fatalf("turning bit %d passes", i)
		}
	}
}

// What a checksum cannot tell: a file that we would not have written.
func TestCopyNotOurs(t *testing.T) {
	good := encodeCopy(prefix, sample())
	body := good[:len(good)-sha256.Size]
	afterPrefix := len(copyMagic) + 8 + 8 + 4 + len(prefix)
	change := func(at int, b ...byte) []byte {
		c := bytes.Clone(body)
		copy(c[at:], b)
		return seal(c)
	}
	record := func(r Record) []byte { return encodeCopy(prefix, viewOf(9, r)) }
	for _, tc := range []struct {
		name, want string
		file       []byte
	}{
		{"another version", "magic", change(len("larder mirror "), '2')},
		{"another prefix", `copy of "/other/"`, encodeCopy("/other/", viewOf(1))},
		{"no cluster", "cluster 0", change(len(copyMagic), make([]byte, 8)...)},
		{"no revision", "revision 0", change(len(copyMagic)+8, make([]byte, 8)...)},
		{"a negative revision", "revision -1", change(len(copyMagic)+8, bytes.Repeat([]byte{255}, 8)...)},
		{"a prefix of 4 GiB", "4294967295 bytes wanted", change(len(copyMagic)+16, 255, 255, 255, 255)},
		{"4 G records", "record 3 of 4294967295", change(afterPrefix, 255, 255, 255, 255)},
		{"a record too few", "follow the last", change(afterPrefix, 2)},
		{"a record too many", "record 3 of 4", change(afterPrefix, 4)},
		{"unknown flags", "flags 0x2", change(afterPrefix+4, 2)},
		{"a key of 4 GiB", "4294967295 bytes wanted", change(afterPrefix+4+17, 255, 255, 255, 255)},
		{"a key outside of the prefix", "out of order", record(Record{Key: "/other/a", CreateRevision: 1, ModRevision: 1})},
		{"no create revision", "revisions 0 and 1", record(Record{Key: prefix, ModRevision: 1})},
		{"created after its change", "revisions 2 and 1", record(Record{Key: prefix, CreateRevision: 2, ModRevision: 1})},
		{"a record of the future", "revisions 1 and 10", record(Record{Key: prefix, CreateRevision: 1, ModRevision: 10})},
		{"the same key again", "out of order", func() []byte {
			one := record(Record{Key: prefix, CreateRevision: 1, ModRevision: 1})
			one = one[:len(one)-sha256.Size]
			two := append(bytes.Clone(one), one[afterPrefix+4:]...)
			binary.LittleEndian.PutUint32(two[afterPrefix:], 2)
			return seal(two)
		}()},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := decodeCopy(prefix, tc.file); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error is %v, want one with %q", err, tc.want)
			}
		})
	}
}

// A crash while writing leaves a temporary file beside the old copy; neither it nor a failing disk may harm.
func TestWriteCopy(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "copy")
	if err := os.WriteFile(path+".tmp", []byte("left by a crash"), 0o644); err != nil {
		t.Fatal(err)
	}
	for revision := range int64(3) {
		if err := writeCopy(path, encodeCopy(prefix, viewOf(revision+1))); err != nil {
			t.Fatal(err)
		}
		if v, err := loadCopy(path, prefix); err != nil || v.revision != revision+1 {
			t.Fatalf("%v, %v", v, err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v", entries, err)
	}
	if info, _ := entries[0].Info(); info.Mode() != 0o600 {
		t.Fatalf("mode is %v", info.Mode())
	}
	if err := writeCopy(filepath.Join(dir, "none", "copy"), nil); err == nil {
		t.Fatal("wrote into a directory that does not exist")
	}

	big, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer big.Close()
	if err := big.Truncate(maxCopy + 1); err != nil { // a hole: it takes no space
		t.Fatal(err)
	}
	if _, err := loadCopy(path, prefix); err == nil || !strings.Contains(err.Error(), fmt.Sprint(maxCopy)) {
		t.Fatalf("a file beyond the limit: %v", err)
	}
}

// Whatever decodes is exactly what we would write for it. The fuzzer's bytes get a fitting checksum, or it
// would never see what lies behind.
func FuzzDecodeCopy(f *testing.F) {
	for _, v := range []*view{viewOf(1), sample()} {
		b := encodeCopy(prefix, v)
		f.Add(b[:len(b)-sha256.Size])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		decodeCopy(prefix, body)
		file := seal(body)
		v, err := decodeCopy(prefix, file)
		if err != nil {
			return
		}
		if err := v.check(); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(encodeCopy(prefix, v), file) {
			t.Fatal("it decodes, but is written in another way")
		}
	})
}
