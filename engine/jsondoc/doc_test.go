package jsondoc

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func parse(t interface {
	Helper()
	Fatalf(string, ...any)
}, text string) Doc {
	t.Helper()
	d, err := Parse(nil, []byte(text))
	if err != nil {
		t.Fatalf("%.100s: %v", text, err)
	}
	if err := Check(d); err != nil {
		t.Fatalf("%.100s: %v", text, err)
	}
	return d
}

func TestTextOfWhatWasParsed(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"space goes", ` { "b" : [ 1 , 2 ] , "a" : null } `, `{"b":[1,2],"a":null}`},
		{"members keep their order", `{"z":1,"y":2,"x":3}`, `{"z":1,"y":2,"x":3}`},
		{"a name that repeats keeps its place and gets the last value", `{"a":1,"b":2,"a":3}`, `{"a":3,"b":2}`},
		{"the same among many members", `{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6,"g":7,"h":8,"i":9,"c":[10],"a":11,"c":{}}`, `{"a":11,"b":2,"c":{},"d":4,"e":5,"f":6,"g":7,"h":8,"i":9}`},
		{"the smallest integer", "-9223372036854775808", "-9223372036854775808"},
		{"the largest int64", "9223372036854775807", "9223372036854775807"},
		{"one above it", "9223372036854775808", "9223372036854775808"},
		{"the largest of 64 bits", "18446744073709551615", "18446744073709551615"},
		{"one above that is a double", "18446744073709551616", "1.8446744073709552e19"},
		{"one below the smallest is a double", "-9223372036854775809", "-9.223372036854776e18"},
		{"a double stays one", "[1.0,-0.0,3.14,1e3,100000000000000000000]", "[1.0,-0.0,3.14,1000.0,1e20]"},
		{"minus nothing is a double", "-0", "-0.0"},
		{"where exponents begin", "[1e15,1e16,1.5e16,0.00001,0.000001,1.25e-7,1.7976931348623157e308,5e-324]", "[1000000000000000.0,1e16,1.5e16,0.00001,1e-6,1.25e-7,1.7976931348623157e308,5e-324]"},
		{"escapes", `"\u00e9\n\u0001\/\"\\\ud83d\ude00"`, `"é\n\u0001/\"\\😀"`},
		{"a name with escapes", `{"\u0061\"":1}`, `{"a\"":1}`},
		{"strings at the end of the short form", `["` + strings.Repeat("x", 63) + `","` + strings.Repeat("y", 64) + `"]`, `["` + strings.Repeat("x", 63) + `","` + strings.Repeat("y", 64) + `"]`},
		{"containers at the end of the short form", `[[` + strings.Repeat("1,", 254) + `1],[` + strings.Repeat("1,", 255) + `1]]`, `[[` + strings.Repeat("1,", 254) + `1],[` + strings.Repeat("1,", 255) + `1]]`},
		{"a long name", `{"` + strings.Repeat("n", 300) + `":{"":[]}}`, `{"` + strings.Repeat("n", 300) + `":{"":[]}}`},
		{"as deep as may be", strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth), strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := parse(t, test.text)
			if got := string(d.AppendText(nil, 0)); got != test.want {
				t.Errorf("%s became %s, not %s", test.text, got, test.want)
			}
		})
	}
}

func TestWhatIsNotJSON(t *testing.T) {
	for _, text := range []string{"", " ", "nul", "trueabc", "[1,2,3]1", "{}x", "123abc", "01", "+1", "1.", ".5", "1e", "NaN", "[1,]", "{,}", `{"a"}`, `{"a":}`, `{a:1}`, `{1:1}`, `{"a":1,}`, `{"a":1 "b":2}`, "]", "}",
		"[", "{", `"`, `"\x"`, "\"\xff\"", `"\ud800"`, "\"\n\"", "1e400", "-1e400", "'a'", "[1}", "//", "1 2"} {
		if d, err := Parse(nil, []byte(text)); err == nil {
			t.Errorf("%q became %s", text, d.AppendText(nil, 0))
		}
	}
	deep := strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1)
	if _, err := Parse(nil, []byte(deep)); !errors.Is(err, ErrDepth) {
		t.Errorf("a document that is too deep: %v", err)
	}
	var e *SyntaxError
	if _, err := Parse(nil, []byte(`{"a":x}`)); !errors.As(err, &e) || e.At != 5 {
		t.Errorf("a wrong value at byte 5: %v", err)
	}
}

func TestFormat(t *testing.T) {
	d := parse(t, `{"a":[1,{}],"b":[],"c":{"d":"e"}}`)
	w := Writer{Max: 1000, Format: Format{Indent: "\t", Newline: "\n", Space: " "}}
	w.Value(d, 0)
	if want := "{\n\t\"a\": [\n\t\t1,\n\t\t{}\n\t],\n\t\"b\": [],\n\t\"c\": {\n\t\t\"d\": \"e\"\n\t}\n}"; string(w.Text) != want || w.Over {
		t.Errorf("%s\nnot\n%s", w.Text, want)
	}
	for most := range len(w.Text) {
		v := Writer{Max: most, Format: w.Format}
		if v.Value(d, 0); !v.Over || len(v.Text) > most+8 {
			t.Fatalf("a text of at most %d bytes has %d and is whole: %v", most, len(v.Text), !v.Over)
		}
	}
}

func TestNumbersCompareByWhatTheyAreWorth(t *testing.T) {
	ascending := []string{"-1e300", "-9223372036854775809", "-9223372036854775808", "-9223372036854775807", "-2", "-1.5", "-1", "-0.5", "0", "5e-324", "0.5", "1", "1.5", "2", "9007199254740992", "9007199254740993",
		"9007199254740994.0", "9223372036854775807", "9223372036854775808", "9223372036854775809", "18446744073709551615", "18446744073709551616", "1e300"}
	for i, x := range ascending {
		for j, y := range ascending {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			if x == "-9223372036854775809" && y == "-9223372036854775808" || y == "-9223372036854775809" && x == "-9223372036854775808" {
				want = 0 // as a double it is the same number
			}
			a, b := parse(t, x), parse(t, y)
			if got := CompareNumbers(a, 0, b, 0); got != want {
				t.Errorf("%s and %s compare as %d, not %d", x, y, got, want)
			}
			if got := Equal(a, 0, b, 0); got != (want == 0) {
				t.Errorf("%s equals %s: %v", x, y, got)
			}
		}
	}
}

// drawJSON draws a tree that encoding/json writes; it has no doubles, which are tested by themselves.
func drawJSON(t *rapid.T, depth int) any {
	most := 6
	if depth == 0 {
		most = 4
	}
	switch rapid.IntRange(0, most).Draw(t, "kind") {
	case 0:
		return nil
	case 1:
		return rapid.Bool().Draw(t, "bool")
	case 2:
		return rapid.Int64().Draw(t, "int")
	case 3:
		return int64(rapid.IntRange(-1, 130).Draw(t, "small"))
	case 4:
		return rapid.OneOf(rapid.StringN(0, 5, -1), rapid.StringN(60, 70, -1)).Draw(t, "string")
	case 5:
		list := []any{}
		for range rapid.IntRange(0, 12).Draw(t, "elements") {
			list = append(list, drawJSON(t, depth-1))
		}
		return list
	}
	object := map[string]any{}
	for range rapid.IntRange(0, 12).Draw(t, "members") {
		object[rapid.StringN(0, 2, -1).Draw(t, "name")] = drawJSON(t, depth-1)
	}
	return object
}

// tree is a document as encoding/json would read it, with integers exact.
func tree(d Doc, at int) any {
	switch d.Kind(at) {
	case Null:
		return nil
	case Bool:
		return d.Bool(at)
	case Integer:
		n, _ := d.Int(at)
		return n
	case Number:
		return d.Float(at)
	case String:
		return string(d.Text(at))
	case Array:
		list := []any{}
		for c := d.Children(at); ; {
			_, child, ok := c.Next()
			if !ok {
				return list
			}
			list = append(list, tree(d, child))
		}
	}
	object := map[string]any{}
	for c := d.Children(at); ; {
		name, child, ok := c.Next()
		if !ok {
			return object
		}
		object[string(name)] = tree(d, child)
	}
}

func TestTreesAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawJSON(t, 3)
		text, _ := json.Marshal(want)
		d := parse(t, string(text))
		if got := tree(d, 0); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s became %v", text, got)
		}
		again := parse(t, string(d.AppendText(nil, 0)))
		if string(again) != string(d) {
			t.Fatalf("%s written and read again is another document", text)
		}
		if !Equal(d, 0, again, 0) {
			t.Fatalf("%s does not equal itself", text)
		}
		other := drawJSON(t, 2)
		otherText, _ := json.Marshal(other)
		if e := parse(t, string(otherText)); Equal(d, 0, e, 0) != reflect.DeepEqual(want, other) {
			t.Fatalf("%s equals %s: %v", text, otherText, Equal(d, 0, e, 0))
		}
	})
}

func TestDoublesAreKept(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float64().Draw(t, "double")
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return
		}
		d := Doc(AppendFloat(nil, f))
		text := d.AppendText(nil, 0)
		if back := parse(t, string(text)); string(back) != string(d) {
			t.Fatalf("%v is written %s, which is another number", f, text)
		}
		if shortest := strconv.FormatFloat(f, 'e', -1, 64); len(text) > len(shortest)+20 {
			t.Fatalf("%s could be %s", text, shortest)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,null,true,"x\n"],"a":{}}`, `[[[]]]`, `"\ud83d\ude00"`, `-0`, `18446744073709551616`, `{"a`, "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(nil, text)
		if valid := json.Valid(text); err == nil && !valid {
			t.Fatalf("%q is not JSON", text)
		}
		if err != nil {
			return
		}
		if err := Check(d); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if len(d) > 16+7*len(text) {
			t.Fatalf("%d bytes of text became %d", len(text), len(d))
		}
		again, err := Parse(nil, d.AppendText(nil, 0))
		if err != nil || string(again) != string(d) {
			t.Fatalf("%q is not the same again: %v", text, err)
		}
	})
}

// FuzzCheck: bytes that pass Check can be walked and written.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5,null,true,"x"],"b":{}}`, `[300,"` + strings.Repeat("x", 300) + `"]`, `18446744073709551615`} {
		d, _ := Parse(nil, []byte(s))
		f.Add([]byte(d))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if Check(b) != nil {
			return
		}
		text := Doc(b).AppendText(nil, 0)
		again, err := Parse(nil, text)
		if err != nil || string(again) != string(b) {
			t.Fatalf("%x is %s, which is read as %x: %v", b, text, again, err)
		}
	})
}
