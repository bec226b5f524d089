package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

// A teller writes down what it is told, and holds the decoder to its promises.
type teller struct {
	strings.Builder
	last     StreamID
	elements int64
	bytes    int64
}

func (s *teller) say(format string, args ...any) error {
	s.elements++
	for _, a := range args {
		if b, ok := a.([]byte); ok {
			s.bytes += int64(len(b))
		}
	}
	fmt.Fprintf(&s.Builder, format+"\n", args...)
	return nil
}

func (s *teller) String(b []byte) error  { return s.say("string %q", b) }
func (s *teller) Element(b []byte) error { return s.say("element %q", b) }
func (s *teller) Member(b []byte, score float64) error {
	if math.IsNaN(score) {
		return errors.New("NaN")
	}
	return s.say("member %q %v", b, score)
}

func (s *teller) Field(name, value []byte, deadline int64) error {
	if deadline < 0 {
		return errors.New("a deadline before 1970")
	}
	return s.say("field %q %q %d", name, value, deadline)
}

func (s *teller) Entry(id StreamID, fields [][]byte) error {
	if !s.last.Less(id) || len(fields) == 0 || len(fields)%2 != 0 {
		return errors.New("entries out of order, or without fields")
	}
	s.last = id
	return s.say("entry %v %q", id, fields)
}

func (s *teller) Stream(m StreamMarks) error { return s.say("stream %v", m) }
func (s *teller) Group(name []byte, last StreamID, read int64) error {
	return s.say("group %q %v %d", name, last, read)
}

func (s *teller) Pending(id StreamID, _ int64, times uint64) error {
	return s.say("pending %v %d", id, times)
}

func (s *teller) Consumer(name []byte, _, _ int64) error { return s.say("consumer %q", name) }
func (s *teller) Owed(id StreamID) error                 { return s.say("owed %v", id) }

var limits = Limits{Text: 1 << 20, Total: 4 << 20, Elements: 1 << 16}

// told reads a value, its type first.
func told(value []byte, version int, l Limits) (string, error) {
	d, s := NewDecoder(value, version, l), &teller{}
	t, err := d.Type()
	if err == nil {
		err = d.Value(t, s)
	}
	if err == nil && len(d.Rest()) > 0 {
		err = errors.New("bytes are left over")
	}
	return s.Builder.String(), err
}

// dumps are the payloads in testdata by name.
func dumps(t testing.TB) map[string][]byte {
	text, err := os.ReadFile("testdata/redis-7.0.txt")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		if name, quoted, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name != "#" {
			payload, err := strconv.Unquote(quoted)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			found[name] = []byte(payload)
		}
	}
	return found
}

func TestReadsWhatRedisDumps(t *testing.T) {
	all := dumps(t)
	for name, want := range map[string]string{
		"int8": `string "-5"`, "int16": `string "300"`, "int32": `string "-100000"`, "text": `string "hello"`,
		"lzf":  `string "` + strings.Repeat("abc", 40) + `"`,
		"list": `element "a" element "1" element "-200" element "70000" element "3000000000" element "` + strings.Repeat("x", 70) + `"`,
		"ints": `element "-2" element "1" element "70000"`, "set": `element "1" element "b" element "a"`,
		"zset": `member "c" -Inf member "a" 1 member "b" 2.5 member "d" 7`, "hash": `field "f" "v" 0 field "g" "12345678901" 0`,
		"st": `entry {5 1} ["f" "v"] entry {9 0} ["other" "x" "f" "y"] stream {{9 0} {5 2} 3 true} group "g" {5 1} -1 pending {5 1} 1 consumer "ann" owed {5 1}`,
	} {
		value, version, err := OpenDump(all[name])
		if err != nil || version != 10 {
			t.Errorf("%s: version %d, %v", name, version, err)
			continue
		}
		got, err := told(value, version, limits)
		if got = strings.TrimSpace(strings.ReplaceAll(got, "\n", " ")); got != want || err != nil {
			t.Errorf("%s: %s (%v), want %s", name, got, err, want)
		}
		delete(all, name)
		for i := range value { // cut off anywhere it is no value
			if got, err := told(value[:i], version, limits); err == nil {
				t.Errorf("%s, %d of %d bytes: %s", name, i, len(value), got)
			}
		}
	}
	if len(all) > 0 {
		t.Errorf("not compared: %v", all)
	}
}

func TestDamagedDumps(t *testing.T) {
	for name, dump := range dumps(t) {
		for i := range dump {
			damaged := append([]byte(nil), dump...)
			damaged[i] ^= 1 << (i % 8)
			if _, _, err := OpenDump(damaged); !errors.Is(err, ErrDump) {
				t.Errorf("%s with another bit in byte %d: %v", name, i, err)
			}
		}
	}
	value := []byte{0, 1, 'x', 16, 0}
	if _, _, err := OpenDump(binary.LittleEndian.AppendUint64(value, Checksum(value))); !errors.Is(err, ErrDump) {
		t.Errorf("a version that we do not know: %v", err)
	}
}

func packed(ziplist bool, entries int, b ...byte) []byte {
	head := make([]byte, 4, 10)
	if ziplist {
		head = append(head, 10, 0, 0, 0)
	}
	all := append(append(append(head, byte(entries), byte(entries>>8)), b...), packEnd)
	binary.LittleEndian.PutUint32(all, uint32(len(all)))
	return append(AppendLength(nil, uint64(len(all))), all...)
}

// TestReadsWhatOthersDump: what redis-server 7.0 does not write any more, or not yet.
func TestReadsWhatOthersDump(t *testing.T) {
	many := strings.Repeat("y", 300)
	for _, tt := range []struct {
		name    string
		version int
		value   []byte
		want    string
	}{
		{"a ziplist with every sort of entry", 9, append([]byte{byte(TypeListZiplist)}, packed(true, 11,
			append([]byte("\x00\x02ab\x04\xc0\x2c\x01\x04\xd0\xff\xff\xff\xff\x06\xe0\x01\x00\x00\x00\x00\x00\x00\x80\x0a\xf0\x00\x00\x80\x05\xfe\xfb\x03\xf1\x02\xfd\x02\x41\x2c"), (many+"\xfe\x2f\x01\x00\x00\x01z")...)...)...),
			`element "ab" element "300" element "-1" element "-9223372036854775807" element "-8388608" element "-5" element "0" element "12" element "` + many + `" element "z"`},
		{"a hash of ziplists", 9, append([]byte{byte(TypeHashZiplist)}, packed(true, 2, 0, 1, 'f', 3, 1, 'v')...), `field "f" "v" 0`},
		{"a sorted set of ziplists", 9, append([]byte{byte(TypeZSetZiplist)}, packed(true, 2, 0, 1, 'm', 3, 0xf3)...), `member "m" 2`},
		{"scores as text", 4, []byte("\x03\x03\x01a\x031.5\x01b\xfe\x01c\xff"), `member "a" 1.5 member "b" +Inf member "c" -Inf`},
		{"a set as a listpack", 11, append([]byte{byte(TypeSetListpack)}, packed(false, 2, 0x81, 'a', 2, 5, 1)...), `element "a" element "5"`},
		{"fields with deadlines", 12, append(AppendMillis([]byte{byte(TypeHashDeadlines)}, 1000), "\x03\x00\x01a\x01x\x01\x01b\x01y\x0b\x01c\x01z"...), `field "a" "x" 0 field "b" "y" 1000 field "c" "z" 1010`},
		{"fields with deadlines in a listpack", 12, append(AppendMillis([]byte{byte(TypeHashListpackTTLs)}, 300), packed(false, 6, 0x81, 'a', 2, 0x81, 'x', 2, 0xc1, 0x2c, 2, 0x81, 'b', 2, 0x81, 'y', 2, 0, 1)...), `field "a" "x" 300 field "b" "y" 0`},
		{"fields with deadlines of Valkey", 80, AppendMillis(append(AppendMillis([]byte("\x16\x02\x01a\x01x"), -1), "\x01b\x01y"...), 1000), `field "a" "x" 0 field "b" "y" 1000`},
		{"a large element alone in its node", 10, []byte("\x12\x02\x01\x03abc\x01\x01d"), `element "abc" element "d"`},
	} {
		got, err := told(tt.value, tt.version, limits)
		if got = strings.TrimSpace(strings.ReplaceAll(got, "\n", " ")); got != tt.want || err != nil {
			t.Errorf("%s: %s (%v), want %s", tt.name, got, err, tt.want)
		}
	}
}

// TestRefusesWhatIsNoValue, each with what is special about it.
func TestRefusesWhatIsNoValue(t *testing.T) {
	for name, value := range map[string][]byte{
		"nothing":                             {},
		"a module":                            {7, 0},
		"a type of a release candidate":       append(AppendMillis([]byte{23}, 0), packed(false, 1, 0, 1)...),
		"Valkey's type from Redis":            []byte("\x16\x01\x01a\x01x\x00\x00\x00\x00\x00\x00\x00\x00"),
		"an empty list":                       {1, 0},
		"a list of empty nodes":               append([]byte{18, 1, 2}, packed(false, 0)...),
		"a node of kind 3":                    []byte("\x12\x01\x03\x01a"),
		"more elements than bytes":            {1, 0x80, 0xff, 0xff, 0xff, 0xff},
		"a text longer than what there is":    {0, 0x43, 0xff, 'x'},
		"a number where a text is":            {1, 0xc4},
		"a score that is none":                append([]byte{5, 1, 1, 'a'}, AppendDouble(nil, math.NaN())...),
		"a score as text that is none":        []byte("\x03\x01\x01a\x02xx"),
		"a field without a value":             append([]byte{16}, packed(false, 1, 0x81, 'f', 2)...),
		"a listpack with another length":      {16, 8, 9, 0, 0, 0, 1, 0, 0, 255},
		"an entry that tells another length":  append([]byte{20}, packed(false, 1, 0x81, 'f', 3)...),
		"an entry cut off":                    append([]byte{20}, packed(false, 1, 0xf0, 255, 255, 255, 255)...),
		"an intset of another width":          []byte("\x0b\x0b\x03\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00"),
		"a reference to what is not there":    {0, 0xc3, 3, 5, 0x20, 0xff, 0},
		"compressed bytes of another length":  {0, 0xc3, 2, 2, 0, 'x'},
		"a reference without an end":          {0, 0xc3, 1, 9, 0xe0},
		"a stream's block with another id":    {15, 1, 1, 'x', 0, 0, 0, 0, 0},
		"a stream with fewer than it counts":  {15, 0, 5, 0, 0, 0},
		"an entry that owes nobody":           {19, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 'g'},
		"a stream of which more was than was": {19, 0, 0, 1, 0, 0, 0, 0, 0, 0x81, 255, 255, 255, 255, 255, 255, 255, 255, 0},
	} {
		if got, err := told(value, 10, limits); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %s (%v)", name, got, err)
		}
	}
}

// TestLimits: what a few bytes claim is never allocated.
func TestLimits(t *testing.T) {
	bomb := []byte{0, 0xc3}
	compressed := append([]byte{0, 'x'}, []byte(strings.Repeat("\xe0\xff\x00", 20_000))...)
	bomb = AppendLength(AppendLength(bomb, uint64(len(compressed))), uint64(1+20_000*264))
	bomb = append(bomb, compressed...)
	if _, err := told(bomb, 10, limits); !errors.Is(err, ErrTooLarge) {
		t.Errorf("5 MiB of 60 KB: %v", err)
	}
	wide := limits
	wide.Text, wide.Total = 8<<20, 8<<20
	if got, err := told(bomb, 10, wide); err != nil || len(got) != len(`string ""`)+1+1+20_000*264 {
		t.Errorf("the same with room: %d bytes, %v", len(got), err)
	}
	list := AppendLength([]byte{1}, 1<<17)
	for range 1 << 17 {
		list = append(list, 0)
	}
	if _, err := told(list, 10, limits); !errors.Is(err, ErrTooLarge) {
		t.Errorf("more elements than allowed: %v", err)
	}
	allocated := testing.AllocsPerRun(10, func() { told(AppendLength([]byte{0, 0xc3, 1}, 1<<40), 10, limits) })
	if allocated > 20 {
		t.Errorf("a claim of 1 TiB cost %v allocations", allocated)
	}
}

func TestChecksum(t *testing.T) {
	if got := Checksum([]byte("123456789")); got != 0xe9c6d914c4b8d9ca {
		t.Errorf("%x", got)
	}
}

// TestNumbersComeBack: what is written is what is read, at every bound.
func TestNumbersComeBack(t *testing.T) {
	for _, n := range []uint64{0, 63, 64, 1<<14 - 1, 1 << 14, math.MaxUint32, math.MaxUint32 + 1, math.MaxUint64} {
		got, err := NewDecoder(AppendLength(nil, n), 10, limits).Length()
		if got != n || err != nil {
			t.Errorf("%d came back as %d, %v", n, got, err)
		}
	}
	var s StreamBlock
	var numbers []string
	for shift := range 64 {
		for _, n := range []int64{1<<shift - 1, 1 << shift, -1 << shift, -1<<shift - 1} {
			numbers = append(numbers, strconv.FormatInt(n, 10), "value")
		}
	}
	for _, n := range []int{0, 1, 63, 64, 126, 127, 128, 4095, 4096, 16000, 16380, 16381, 16382, 20000} {
		numbers = append(numbers, strings.Repeat("x", n), "+5", "05", "-0")
	}
	var texts [][]byte
	for _, text := range numbers {
		texts = append(texts, []byte(text))
		got, err := NewDecoder(AppendText(nil, []byte(text)), 10, limits).Text()
		if string(got) != text || err != nil {
			t.Errorf("%q came back as %q, %v", text, got, err)
		}
	}
	s.Begin(StreamID{5, math.MaxUint64}, 2, texts)
	s.Entry(StreamID{5, math.MaxUint64}, false, texts)
	s.Entry(StreamID{math.MaxUint64, 0}, true, texts[:2])
	value := s.AppendTo([]byte{byte(TypeStream), 1})
	value = append(AppendID(append(value, 2), StreamID{math.MaxUint64, 0}), 0)
	got, err := told(value, 10, limits)
	if err != nil || !strings.Contains(got, fmt.Sprintf("%q", texts[len(texts)-4:])[1:40]) || !strings.Contains(got, "entry {18446744073709551615 0} [\"0\" \"value\"]") {
		t.Errorf("the stream came back as %.300s, %v", got, err)
	}
}

// FuzzValue: nothing that comes from outside makes the decoder panic, tell more than its limits, or break its word.
func FuzzValue(f *testing.F) {
	for _, dump := range dumps(f) {
		value, _, _ := OpenDump(dump)
		f.Add(value, 10)
	}
	f.Add([]byte("\x16\x01\x01a\x01x\xff\xff\xff\xff\xff\xff\xff\xff"), 80)
	f.Add(append([]byte{byte(TypeListZiplist)}, packed(true, 2, 0, 1, 'f', 3, 1, 'v')...), 9)
	f.Add(append(AppendMillis([]byte{byte(TypeHashDeadlines)}, 1000), "\x03\x00\x01a\x01x\x01\x01b\x01y\x0b\x01c\x01z"...), 12)
	f.Fuzz(func(t *testing.T, value []byte, version int) {
		d, s := NewDecoder(value, version, limits), &teller{}
		kind, err := d.Type()
		if err != nil {
			return
		}
		if err = d.Value(kind, s); err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTooLarge) {
			t.Fatalf("%v", err)
		}
		if s.elements > limits.Elements+2 || s.bytes > limits.Total {
			t.Fatalf("told of %d elements, %d bytes", s.elements, s.bytes)
		}
		if err == nil && kind.Kind() == Unknown {
			t.Fatalf("type %d was read", kind)
		}
	})
}
