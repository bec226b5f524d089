package engine

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/internal/fault"
)

// TestMergePatchOfRFC7396 is the table of the RFC's appendix A, in the order of members that we promise.
func TestMergePatchOfRFC7396(t *testing.T) {
	for _, c := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a":"b","b":"c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b":"c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a":"c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a":["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a":{"b":"d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a":[1]}`},
		{`["a","b"]`, `["c","d"]`, `["c","d"]`},
		{`{"a":"b"}`, `["c"]`, `["c"]`},
		{`{"a":"foo"}`, `null`, `null`},
		{`{"a":"foo"}`, `"bar"`, `"bar"`},
		{`{"e":null}`, `{"a":1}`, `{"e":null,"a":1}`},
		{`[1,2]`, `{"a":"b","c":null}`, `{"a":"b"}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a":{"bb":{}}}`},
		// Ours: the text of what is not patched stays, and a name is one name however it is written.
		{`{"n":1.00e2,"big":12345678901234567890}`, `{"x":-0.0}`, `{"n":1.00e2,"big":12345678901234567890,"x":-0.0}`},
		{`{"\u0061":1}`, `{"a":2}`, `{"a":2}`},
		{"{ \"a\" : [ 1 ] }", ` {"b" : [ 2 ] } `, `{"a":[ 1 ],"b":[ 2 ]}`},
	} {
		got, err := mergePatch("test", []byte(c.target), []byte(c.patch))
		if err != nil || string(got) != c.want {
			t.Errorf("%s patched by %s is %s (%v), want %s", c.target, c.patch, got, err, c.want)
		}
	}
}

func TestCheckJSONBounds(t *testing.T) {
	nested := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct {
		name, text string
		ok         bool
	}{
		{"as deep as allowed", nested(maxJSONDepth), true},
		{"one deeper", nested(maxJSONDepth + 1), false},
		{"much deeper", strings.Repeat(`{"a":`, 100_000), false},
		{"a scalar", ` 1 `, true},
		{"nothing", ``, false},
		{"white space", " \n", false},
		{"two values", `1 2`, false},
		{"no UTF-8", "\"\xff\"", false},
		{"half a pair", `"\ud800"`, false},
		{"a name twice", `{"a":1,"\u0061":2}`, false},
		{"a trailing comma", `[1,]`, false},
	} {
		if err := checkJSON("test", "data", []byte(c.text)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestMergePatchBoundsItsMembers(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"0":0`)
	for range maxPatchMembers {
		b.WriteString(`,"` + strings.Repeat("x", b.Len()%7+1) + `":0`) // names repeat: only the count matters here
	}
	b.WriteString("}")
	_, err := mergePatch("test", []byte("{}"), []byte(b.String()))
	if fault.From(err).Kind != fault.TooLarge {
		t.Errorf("%d members: %v", maxPatchMembers+1, err)
	}
}

// naiveMerge is the RFC's own pseudo code.
func naiveMerge(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	merged := map[string]any{}
	if t, ok := target.(map[string]any); ok {
		for name, v := range t {
			merged[name] = v
		}
	}
	for name, v := range p {
		if v == nil {
			delete(merged, name)
		} else {
			merged[name] = naiveMerge(merged[name], v)
		}
	}
	return merged
}

func TestModelMergePatch(t *testing.T) {
	var value func(depth int) *rapid.Generator[any]
	value = func(depth int) *rapid.Generator[any] {
		scalars := rapid.SampledFrom([]any{nil, true, "", "é\"", 1.5, []any{nil, "x"}})
		if depth == 0 {
			return scalars
		}
		return rapid.OneOf(scalars, rapid.Map(rapid.MapOfN(rapid.SampledFrom([]string{"", "a", "b", "\x00", "é"}), value(depth-1), 0, 4),
			func(m map[string]any) any { return m }))
	}
	rapid.Check(t, func(t *rapid.T) {
		target, patch := value(3).Draw(t, "target"), value(3).Draw(t, "patch")
		a, _ := json.Marshal(target)
		b, _ := json.Marshal(patch)
		got, err := mergePatch("test", a, b)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkJSON("test", "result", got); err != nil {
			t.Fatalf("%s: %v", got, err)
		}
		var merged any
		if err := json.Unmarshal(got, &merged); err != nil {
			t.Fatal(err)
		}
		if want := naiveMerge(target, patch); !reflect.DeepEqual(merged, want) {
			t.Fatalf("%s patched by %s is %s, want %v", a, b, got, want)
		}
	})
}

// FuzzMergePatch: whatever passes checkJSON can be merged, and the result passes as well.
func FuzzMergePatch(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1}}`), []byte(`{"a":{"b":null,"c":[]}}`))
	f.Add([]byte(`[1]`), []byte(`{"\u0000":"\ud83d\ude00"}`))
	f.Add([]byte(" {\n}"), []byte(`-0.0e-1`))
	f.Fuzz(func(t *testing.T, target, patch []byte) {
		if checkJSON("test", "target", target) != nil || checkJSON("test", "patch", patch) != nil {
			return
		}
		got, err := mergePatch("test", target, patch)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkJSON("test", "result", got); err != nil {
			t.Fatalf("%q patched by %q is %q: %v", target, patch, got, err)
		}
	})
}
