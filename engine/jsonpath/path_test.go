package jsonpath

import (
	"encoding/json"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/larder-cache/larder/engine/jsondoc"
)

func document(t interface{ Fatal(...any) }, text string) jsondoc.Doc {
	d, err := jsondoc.Parse(nil, []byte(text))
	if err != nil {
		t.Fatal(text, err)
	}
	return d
}

// found writes what a path finds as a JSON array.
func found(t interface{ Fatal(...any) }, path, text string) string {
	p, err := Parse(path)
	if err != nil {
		t.Fatal(path, err)
	}
	d := document(t, text)
	steps := 1 << 20
	places, err := p.Find(nil, d, &steps)
	if err != nil {
		t.Fatal(path, err)
	}
	var parts []string
	for _, at := range places {
		parts = append(parts, string(d.AppendText(nil, int(at))))
	}
	return "[" + strings.Join(parts, ",") + "]"
}

// TestCompliance runs the compliance test suite of RFC 9535. Where it allows several orders, since JSON's objects have
// none, ours is that of the document.
func TestCompliance(t *testing.T) {
	raw, err := os.ReadFile("testdata/compliance/cts.json")
	if err != nil {
		t.Fatal(err)
	}
	var suite struct {
		Tests []struct {
			Name     string
			Selector string
			Document json.RawMessage
			Result   json.RawMessage
			Results  []json.RawMessage
			Invalid  bool `json:"invalid_selector"`
		}
	}
	if err := json.Unmarshal(raw, &suite); err != nil {
		t.Fatal(err)
	}
	if len(suite.Tests) < 700 {
		t.Fatalf("the suite has %d tests", len(suite.Tests))
	}
	for _, test := range suite.Tests {
		t.Run(test.Name, func(t *testing.T) {
			p, err := Parse(test.Selector)
			if test.Invalid {
				if err == nil && !p.Legacy {
					t.Errorf("%q is taken for a path", test.Selector)
				}
				return
			}
			if err != nil {
				t.Fatalf("%q: %v", test.Selector, err)
			}
			got := document(t, found(t, test.Selector, string(test.Document)))
			results := test.Results
			if test.Result != nil {
				results = append(results, test.Result)
			}
			if !slices.ContainsFunc(results, func(want json.RawMessage) bool { return jsondoc.Equal(got, 0, document(t, string(want)), 0) }) {
				t.Errorf("%s in %s finds %s, not %s", test.Selector, test.Document, got.AppendText(nil, 0), test.Result)
			}
		})
	}
}

const store = `{"store":{"book":[{"category":"reference","author":"Nigel Rees","title":"Sayings","price":8.95},{"category":"fiction","author":"Evelyn Waugh","title":"Sword","price":12.99},` +
	`{"category":"fiction","author":"Herman Melville","title":"Moby","isbn":"0-553","price":8.99}],"bicycle":{"color":"red","price":19.95}},"max":10}`

// TestOrder: places come in the order of RFC 9535, members in that of the document.
func TestOrder(t *testing.T) {
	for _, test := range []struct{ path, doc, want string }{
		{"$..a", `{"a":1,"nested":{"a":2},"z":{"a":{"a":3}}}`, `[1,2,{"a":3},3]`},
		{"$..a", `{"nested":{"a":2},"a":1}`, `[1,2]`},
		{"$.*", `{"z":1,"b":2,"a":3}`, `[1,2,3]`},
		{"$['b','a','b']", `{"a":1,"b":2}`, `[2,1,2]`},
		{"$[-1,0,0]", `[1,2,3]`, `[3,1,1]`},
		{"$[::-1]", `[1,2,3]`, `[3,2,1]`},
		{"$[3:0:-2]", `[0,1,2,3,4]`, `[3,1]`},
		{"$..*", `{"a":[1,[2]]}`, `[[1,[2]],1,[2],2]`},
		{"$..book[?@.price<$.max].title", store, `["Sayings","Moby"]`},
		{"$.store..price", store, `[8.95,12.99,8.99,19.95]`},
	} {
		if got := found(t, test.path, test.doc); got != test.want {
			t.Errorf("%s in %s finds %s, not %s", test.path, test.doc, got, test.want)
		}
	}
}

// TestBeyondTheRFC: what RedisJSON has and the RFC has not.
func TestBeyondTheRFC(t *testing.T) {
	for _, test := range []struct{ path, doc, want string }{
		{`$.["a"]`, `{"a":1}`, `[1]`},
		{`$.[0].b`, `[{"b":1}]`, `[1]`},
		{`$.foo-bar.a:b.c$`, `{"foo-bar":{"a:b":{"c$":1}}}`, `[1]`},
		{`$[?(@.a =~ "^x.*z$")].a`, `[{"a":"xyz"},{"a":"xyz1"},{"a":1}]`, `["xyz"]`},
		{`$[?(@.a =~ "(?i)Y")].a`, `[{"a":"xyz"}]`, `["xyz"]`},
		{`$[?(@.a =~ @.b)].a`, `[{"a":"1","b":"\\d"},{"a":"x","b":"\\d"},{"a":"y","b":"("}]`, `["1"]`},
		{`$[?match(@, "\\d+")]`, `["12","1x"]`, `["12"]`},
	} {
		if got := found(t, test.path, test.doc); got != test.want {
			t.Errorf("%s in %s finds %s, not %s", test.path, test.doc, got, test.want)
		}
	}
}

func TestLegacyPaths(t *testing.T) {
	doc := `{"a":{"b":[{"c":1},{"c":2}],"1":"one","x-y":3},"":4,"$":5}`
	for _, test := range []struct{ path, want string }{
		{".", "[" + doc + "]"},
		{".a.b[0].c", "[1]"},
		{"a.b[-1].c", "[2]"},
		{`["a"]["b"][1]`, `[{"c":2}]`},
		{`.["a"].b[1]['c']`, `[2]`},
		{"a.1", `["one"]`},
		{"a.x-y", "[3]"},
		{"..c", "[1,2]"},
		{".a.b[*].c", "[1,2]"},
		{".a.*.c", "[]"},
		{"a.b[?(@.c>1)].c", "[2]"},
		{`[""]`, "[4]"},
		{".nothing", "[]"},
	} {
		p, err := Parse(test.path)
		if err != nil || !p.Legacy {
			t.Errorf("%s: legacy %v, %v", test.path, p.Legacy, err)
			continue
		}
		if got := found(t, test.path, doc); got != test.want {
			t.Errorf("%s finds %s, not %s", test.path, got, test.want)
		}
	}
	for _, path := range []string{"", "..", "a.", "a[", "a..", "a b", " ", "[", "[]", ".[0", "a'b", "\x00", "a\xff", "[inf]", strings.Repeat("a", MaxPath+1)} {
		if p, err := Parse(path); err == nil {
			t.Errorf("%q is taken for a path: %+v", path, p)
		}
	}
	var e *SyntaxError
	if _, err := Parse("abc.[x]"); !errors.As(err, &e) || e.At != 5 {
		t.Errorf("the error is at 5, not %v", err)
	}
}

func TestPartsOfAPath(t *testing.T) {
	for _, test := range []struct {
		path           string
		root, singular bool
		name           string
		named          bool
		parent         string
	}{
		{path: "$", root: true, singular: true},
		{path: ".", root: true, singular: true},
		{path: "$.a.b", singular: true, name: "b", named: true, parent: `[{"b":[1]}]`},
		{path: "a['b']", singular: true, name: "b", named: true, parent: `[{"b":[1]}]`},
		{path: "$.a.b[0]", singular: true, parent: `[[1]]`},
		{path: "$.a['b','c']"},
		{path: "$..a"},
		{path: "$.*"},
		{path: "$.a.b[0:1]"},
		{path: "$[?@.a].b"},
	} {
		p, err := Parse(test.path)
		if err != nil {
			t.Fatal(err)
		}
		if p.Root() != test.root || p.Singular() != test.singular {
			t.Errorf("%s: root %v, singular %v", test.path, p.Root(), p.Singular())
		}
		if !p.Singular() || p.Root() {
			continue
		}
		d := document(t, `{"a":{"b":[1]}}`)
		parent, name, named := p.Parent()
		steps := 1000
		at, ok, err := parent.First(d, &steps)
		if got := "[" + string(d.AppendText(nil, at)) + "]"; !ok || err != nil || name != test.name || named != test.named || got != test.parent {
			t.Errorf("%s: %q, %v of %s, %v", test.path, name, named, got, err)
		}
	}
}

func manyMembers(n int) string {
	var parts []string
	for i := range n {
		parts = append(parts, `"m`+strconv.Itoa(i)+`":1`)
	}
	return strings.Join(parts, ",")
}

// TestWorkIsBounded: what would take long is given up, however it would.
func TestWorkIsBounded(t *testing.T) {
	wide := document(t, `{"l":[`+strings.Repeat(`{"a":[1,2,3]},`, 5000)+`1],"p":"`+strings.Repeat("(a*)*", 100)+`","s":"`+strings.Repeat("a", 100000)+`"}`)
	deep := document(t, strings.Repeat("[", 100)+"1"+strings.Repeat("]", 100))
	for _, test := range []struct {
		name, path string
		d          jsondoc.Doc
	}{
		{"all below all below all", "$..*..*..*..*..*", deep},
		{"names again and again", "$.l[" + strings.Repeat("*,", 200) + "*]", wide},
		{"each with all", "$.l[?count($..*) > 1]", wide},
		{"each compared with all", "$.l[?$.l == $.l]", wide},
		{"a long text for each", "$.l[?search($.s, $.p)]", wide},
		{"the same with =~", "$.l[?$.s =~ $.p]", wide},
		{"texts compared", "$.l[?$.s <= $.s]", wide},
		{"the length of a long text", "$.l[?length($.s) > 1 && length($.s) > 1 && length($.s) > 1 && length($.s) < 1]", wide},
		{"backwards", "$.l[" + strings.Repeat("::-1,", 500) + "0]", wide},
		{"a name among many", `$["` + strings.Repeat(`x","`, 1600) + `x"]`, document(t, "{"+manyMembers(3000)+"}")},
		{"the last of many", "$.l[" + strings.Repeat("-1,", 1500) + "0]", wide},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := Parse(test.path)
			if err != nil {
				t.Fatal(test.path, err)
			}
			steps := 500_000
			if places, err := p.Find(nil, test.d, &steps); !errors.Is(err, ErrSteps) {
				t.Errorf("%d places were found, %v", len(places), err)
			}
		})
	}
	for _, pattern := range []string{`(\\pL{1000})`, `((a{100}){10}){10}`, `[^a]{999}\\P{Lu}{900}`} {
		if got := found(t, `$[?search(@, "`+pattern+`")]`, `["`+strings.Repeat("a", 10000)+`"]`); got != "[]" {
			t.Errorf("%s is run", pattern)
		}
	}
	nested := "$" + strings.Repeat("[?@", maxNesting+1) + strings.Repeat("]", maxNesting+1)
	if _, err := Parse(nested); err == nil {
		t.Error("filters may be nested without end")
	}
}

func FuzzPath(f *testing.F) {
	for _, s := range []string{"$", "$.a['b'][0][1:2:-1]..*", "$[?@.a>1&&!(@.b=='x'||match(@.c,'[a-z]+')) ]", "$[?count(@..*)==length(value($.a))]", ".a.b[0]", "$[?@=~'a']", `$["\u00e9\ud83d\ude00"]`} {
		f.Add(s, `{"a":{"b":[{"c":1},"x"]}}`)
	}
	f.Fuzz(func(t *testing.T, path, text string) {
		p, err := Parse(path)
		if err != nil {
			return
		}
		d, err := jsondoc.Parse(nil, []byte(text))
		if err != nil {
			return
		}
		const most = 100_000
		steps := most
		places, err := p.Find(nil, d, &steps)
		if err != nil && !errors.Is(err, ErrSteps) || len(places) > most {
			t.Fatal(len(places), err)
		}
		if err != nil {
			return
		}
		if p.Singular() && len(places) > 1 {
			t.Fatalf("%s is for one value and found %d", path, len(places))
		}
		steps = most
		first, ok, err := p.First(d, &steps)
		if err != nil || ok != (len(places) > 0) || ok && first != int(places[0]) {
			t.Fatalf("%s finds %v first, %v, and all are %v", path, first, err, places)
		}
		starts := map[int]bool{}
		mark(d, 0, starts)
		for _, at := range places {
			if !starts[int(at)] {
				t.Fatalf("%s finds %d, where no value begins", path, at)
			}
		}
	})
}

func mark(d jsondoc.Doc, at int, starts map[int]bool) {
	starts[at] = true
	for c := d.Children(at); ; {
		_, child, ok := c.Next()
		if !ok {
			return
		}
		mark(d, child, starts)
	}
}
