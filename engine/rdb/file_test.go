package rdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

var fileLimits = Limits{Text: 1 << 20, Total: math.MaxInt64, Elements: math.MaxInt64}

// read reads a file, and writes down all that it holds.
func read(r io.Reader, l Limits) (records []string, rest []byte, err error) {
	f, err := NewFile(r, l)
	if err != nil {
		return nil, nil, err
	}
	for {
		r, err := f.Next()
		if err == io.EOF {
			return records, f.Rest(), nil
		}
		if err != nil {
			return records, nil, err
		}
		switch r.Kind {
		case RecordValue:
			s := &teller{}
			err = f.Value(s)
			said := strings.ReplaceAll(s.Builder.String(), "\n", " ")
			if errors.Is(err, ErrTooLarge) {
				said, err = "too large", nil
			}
			records = append(records, strings.TrimSpace(fmt.Sprintf("%d %s %d: %s", r.DB, r.Key, r.ExpireAt, said)))
			if err != nil {
				return records, nil, err
			}
		case RecordModule:
			records = append(records, fmt.Sprintf("%d %s %d: module %s", r.DB, r.Key, r.ExpireAt, r.Text))
		default:
			records = append(records, fmt.Sprintf("kind %d: %q %q", r.Kind, r.Key, r.Text))
		}
	}
}

func sample(t testing.TB) []byte {
	b, err := os.ReadFile("testdata/redis-7.0.rdb")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestReadsAFileOfRedis, as a whole and byte by byte; nothing of what follows the file is its own.
func TestReadsAFileOfRedis(t *testing.T) {
	b := sample(t)
	whole, rest, err := read(bytes.NewReader(append(slices.Clip(b), "more"...)), fileLimits)
	if err != nil || string(rest) != "more" {
		t.Fatalf("%v, rest %q", err, rest)
	}
	pieces, _, err := read(iotest.OneByteReader(bytes.NewReader(b)), fileLimits)
	if err != nil || !slices.Equal(whole, pieces) {
		t.Fatalf("byte by byte: %v, %d records, not %d", err, len(pieces), len(whole))
	}
	all := strings.Join(whole, "\n")
	for _, want := range []string{
		`0 int8 0: string "-5"`, `0 int16 0: string "300"`, `0 int32 0: string "-100000"`, `0 int64 0: string "9223372036854775807"`, `0 empty 0: string ""`,
		`0 lzf 0: string "` + strings.Repeat("abc", 40) + `"`, `0 timed 32503680000000: string "x"`, `3 in3 0: string "three"`,
		`0 list:small 0: element "a" element "1" element "-200" element "70000" element "3000000000" element "-1152921504606846976" element "` + strings.Repeat("x", 70) + `"`,
		`0 set:ints16 0: element "-2" element "1" element "300"`, `0 set:ints64 0: element "1" element "1099511627776"`,
		`0 zset:small 0: member "c" -Inf member "a" 1 member "b" 2.5 member "e" 1e+300 member "d" +Inf`,
		`0 hash:small 0: field "f" "v" 0 field "g" "12345678901" 0 field "h" "" 0`,
		`0 stream:gone 0: stream {{5 1} {5 1} 1 true}`, `element "` + strings.Repeat("y", 20000) + `" element "b"`,
		`kind 2: "redis-ver" "7.0`, `kind 3: "" "#!lua name=lib`, `group "g" {1009 1} -1 pending {1000 3} 1`, `consumer "bob" owed`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("it does not say %.100s", want)
		}
	}
	for what, n := range map[string]int{`element "element:`: 1500, `element "member:`: 700, `member "member:`: 300, `field "field:`: 300, `entry {`: 246} {
		if got := strings.Count(all, what); got != n {
			t.Errorf("%d times %s, want %d", got, what, n)
		}
	}
}

// TestRefusesADamagedFile: a byte that was changed, wherever it stands, or an end that is missing.
func TestRefusesADamagedFile(t *testing.T) {
	b := sample(t)
	for at := 0; at < len(b); at += 1 + at/50 {
		bent := slices.Clone(b)
		bent[at] ^= 0x10
		var where *FileError
		if _, _, err := read(bytes.NewReader(bent), fileLimits); !errors.As(err, &where) || where.Offset > int64(len(b)) {
			t.Errorf("byte %d changed: %v", at, err)
		}
		if _, _, err := read(bytes.NewReader(b[:at]), fileLimits); !errors.Is(err, ErrFormat) {
			t.Errorf("%d bytes: %v", at, err)
		}
	}
	if _, _, err := read(iotest.TimeoutReader(bytes.NewReader(append(slices.Clone(b[:500]), b...))), fileLimits); err == nil {
		t.Error("the error of a reader is lost")
	}
}

// file is a file of a version with a checksum.
func file(version string, body string) []byte {
	b := append([]byte(version), body...)
	b = append(b, opEnd)
	return binary.LittleEndian.AppendUint64(b, Checksum(b))
}

func TestReadsWhatOthersWrite(t *testing.T) {
	for _, tt := range []struct {
		name string
		file []byte
		want string
	}{
		{"version 3 has no checksum", []byte("REDIS0003\xfe\x00\xfd\x10\x00\x00\x00\x00\x01k\x01v\xff"), `0 k 16000: string "v"`},
		{"a checksum of 0 is none", []byte("REDIS0006\x00\x01k\x01v\xff\x00\x00\x00\x00\x00\x00\x00\x00"), `0 k 0: string "v"`},
		{"a zipmap", file("REDIS0006", "\x09\x01k\x11\x02\x01f\x03\x00abc\x02gg\x01\x02x\x00\x00\xff"), `0 k 0: field "f" "abc" 0 field "gg" "x" 0`},
		{"a zipmap with long lengths", file("REDIS0006", "\x09\x01k\x0b\x01\xfe\x01\x00\x00\x00f\x01\x00v\xff"), `0 k 0: field "f" "v" 0`},
		{"use, slots and sizes", file("REDIS0012", "\xfa\x01a\x01b\xfe\x05\xfb\x01\x00\xf4\x01\x02\x03\xf8\x0a\xf9\x07\x00\x01k\x01v"), `kind 2: "a" "b"|5 k 0: string "v"`},
		{"Valkey's fields with deadlines", file("VALKEY080", "\x16\x01k\x01\x01a\x01x\xe8\x03\x00\x00\x00\x00\x00\x00"), `0 k 0: field "a" "x" 1000`},
		{"a module's value and what it keeps beside", file("REDIS0011", "\xf7\x81\x00\x10\x83\x10\x51\x87\x20\x92\x02\x01\x05\x03abc\x00"+"\x07\x01m\x81\x00\x10\x83\x10\x51\x87\x20\x92\x01\x05\x02\x40\x99\x03abcd\x04abcdefgh\x05\xc3\x03\x02\x01xx\x00"+"\x00\x01k\x01v"),
			`kind 5: "" "ABCDEFGHI"|0 m 0: module ABCDEFGHI|0 k 0: string "v"`},
		{"a text beyond the limit, plain, compressed and in a list", file("REDIS0009", "\x00\x01a\x06sixsix\x00\x01b\xc3\x04\x06\x00x\x80\x00"+"\x01\x01c\x02\x06sixsix\x01y\x00\x01k\x01v"), `0 a 0: too large|0 b 0: too large|0 c 0: too large|0 k 0: string "v"`},
	} {
		l := fileLimits
		if strings.Contains(tt.name, "limit") {
			l.Text = 5
		}
		got, rest, err := read(bytes.NewReader(tt.file), l)
		if s := strings.Join(got, "|"); s != tt.want || err != nil || len(rest) > 0 {
			t.Errorf("%s: %s, %v, %d bytes left, want %s", tt.name, s, err, len(rest), tt.want)
		}
	}
	for name, b := range map[string][]byte{
		"another kind of file": []byte("SQLite format 3"), "a version to come": []byte("REDIS0016\xff"), "one of Valkey": []byte("VALKEY099\xff"), "old functions": file("REDIS0010", "\xf6\x01x"),
		"a module of old": file("REDIS0008", "\x06\x01k\x00"), "an unknown byte": file("REDIS0010", "\xf3"), "a longer aux field than is allowed": []byte("REDIS0010\xfa\x81\x00\x00\x00\x00\x7f\x00\x00\x00"),
	} {
		if _, _, err := read(bytes.NewReader(b), fileLimits); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

// TestWhatAFileClaimsIsNotAllocated: the lengths of a few bytes cost nothing.
func TestWhatAFileClaimsIsNotAllocated(t *testing.T) {
	wide := fileLimits
	wide.Text = 1 << 40
	for _, body := range []string{"\x00\x81\x00\x00\x00\x00\x10\x00\x00\x00", "\x00\x01k\x81\x00\x00\x00\xff\x00\x00\x00\x00", "\x01\x01k\x81\x00\x00\x00\xff\x00\x00\x00\x00", "\x00\x01k\xc3\x81\x00\x00\x00\xff\x00\x00\x00\x00\x81\x00\x00\x00\xff\x00\x00\x00\x00"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, _, err := read(bytes.NewReader([]byte("REDIS0010"+body)), wide); err == nil {
			t.Errorf("% x was read", body)
		}
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
			t.Errorf("% x costs %d bytes", body, got)
		}
	}
}

// TestAFileComesBack: what is written is what is read.
func TestAFileComesBack(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, DefaultFile)
	w.Aux("redis-ver", "7.0.0")
	w.Function("#!lua name=x\n")
	w.Key(0, []byte("a"), 0, TypeString)
	w.Write(AppendText(nil, []byte("123")))
	w.Key(2, []byte("12"), 5000, TypeList)
	w.Write(AppendText(AppendLength(nil, 1), []byte("x")))
	if err := w.Close(); err != nil || w.Size() != int64(b.Len()) {
		t.Fatal(err, w.Size(), b.Len())
	}
	got, _, err := read(&b, fileLimits)
	if s := strings.Join(got, "|"); err != nil || s != `kind 2: "redis-ver" "7.0.0"|kind 3: "" "#!lua name=x\n"|0 a 0: string "123"|2 12 5000: element "x"` {
		t.Errorf("%s, %v", s, err)
	}
}

// FuzzFile: whatever a file is, reading it ends, in the same way however it comes, and says where.
func FuzzFile(f *testing.F) {
	f.Add(sample(f))
	f.Add(file("REDIS0012", "\xfa\x01a\x01b\xfe\x05\xfb\x01\x00\xf4\x01\x02\x03\xf8\x0a\xf9\x07\x00\x01k\x01v"))
	f.Add(file("REDIS0011", "\xf7\x81\x00\x10\x83\x10\x51\x87\x20\x92\x02\x01\x05\x03abc\x00"+"\x07\x01m\x81\x00\x10\x83\x10\x51\x87\x20\x92\x01\x05\x00"))
	f.Add(file("REDIS0006", "\x09\x01k\x0b\x01\xfe\x01\x00\x00\x00f\x01\x00v\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l := fileLimits
		l.Text = 1 << 12
		whole, _, err := read(bytes.NewReader(b), l)
		pieces, _, again := read(iotest.HalfReader(bytes.NewReader(b)), l)
		if !slices.Equal(whole, pieces) || fmt.Sprint(err) != fmt.Sprint(again) {
			t.Fatalf("%d records, %v; in pieces %d, %v", len(whole), err, len(pieces), again)
		}
		var where *FileError
		if err != nil && (!errors.As(err, &where) || where.Offset > int64(len(b))) {
			t.Fatalf("%v", err)
		}
	})
}
