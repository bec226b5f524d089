package jsondoc

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A naive value is a tree that changes where it stands.
type naive struct {
	kind     Kind
	scalar   string // JSON of what is no container
	names    []string
	children []*naive
	gone     bool
}

func naiveOf(d Doc, at int, places map[int]*naive) *naive {
	n := &naive{kind: d.Kind(at)}
	places[at] = n
	if n.kind < Array {
		n.scalar = string(d.AppendText(nil, at))
		return n
	}
	for c := d.Children(at); ; {
		name, child, ok := c.Next()
		if !ok {
			return n
		}
		n.names = append(n.names, string(name))
		n.children = append(n.children, naiveOf(d, child, places))
	}
}

func (n *naive) text() string {
	if n.kind < Array {
		return n.scalar
	}
	var parts []string
	for i, c := range n.children {
		if c.gone {
			continue
		}
		text := c.text()
		if n.kind == Object {
			name, _ := json.Marshal(n.names[i])
			text = string(name) + ":" + text
		}
		parts = append(parts, text)
	}
	if n.kind == Array {
		return "[" + strings.Join(parts, ",") + "]"
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// live drops the children that are gone.
func (n *naive) live() {
	names, children := n.names, n.children
	n.names, n.children = nil, nil
	for i, c := range children {
		if !c.gone {
			n.names, n.children = append(n.names, names[i]), append(n.children, c)
		}
	}
}

func (n *naive) merge(patch *naive) {
	if patch.kind != Object {
		*n = *patch
		return
	}
	if n.kind != Object {
		*n = naive{kind: Object}
	}
	n.live()
	for i, name := range patch.names {
		at := slices.Index(n.names, name)
		switch {
		case patch.children[i].kind == Null && at >= 0:
			n.children[at].gone = true
			n.live()
		case patch.children[i].kind == Null:
		case at >= 0:
			n.children[at].merge(patch.children[i])
		default:
			n.names, n.children = append(n.names, name), append(n.children, &naive{})
			n.children[len(n.children)-1].merge(patch.children[i])
		}
	}
}

// drawContainer draws arrays and objects in each other: most documents of drawJSON are one number.
func drawContainer(t *rapid.T) Doc {
	var parts []string
	for i := range rapid.IntRange(1, 6).Draw(t, "children") {
		text, _ := json.Marshal(drawJSON(t, 3))
		parts = append(parts, string(text))
		if rapid.Bool().Draw(t, "nested") {
			parts[i] = `[[` + parts[i] + `,2],{"m":` + parts[i] + `,"l":[1,[` + parts[i] + `]]}]`
		}
	}
	return parse(t, "["+strings.Join(parts, ",")+"]")
}

func TestEditsAgainstANaiveTree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		value := func(label string) Doc {
			text, _ := json.Marshal(drawJSON(t, 2))
			return parse(t, string(text))
		}
		d := drawContainer(t)
		places := map[int]*naive{}
		model := naiveOf(d, 0, places)
		var all []int
		for at := range places {
			all = append(all, at)
		}
		slices.Sort(all)
		var edits []Edit
		for _, at := range all {
			if rapid.IntRange(0, 3).Draw(t, "edit") > 0 {
				continue
			}
			e := Edit{At: at, Op: rapid.SampledFrom([]Op{Replace, Delete, Splice, Trim, Add, Merge}).Draw(t, "op"), Value: value("value")}
			switch {
			case e.Op == Delete && at == 0, (e.Op == Splice || e.Op == Trim) && d.Kind(at) != Array, e.Op == Add && d.Kind(at) != Object, e.Op == Merge && d.Kind(at) < Array:
				e.Op = Replace
			case e.Op == Add:
				e.Name = []byte("a name that no other has")
			case e.Op == Splice, e.Op == Trim:
				e.From = rapid.IntRange(0, d.Len(at)).Draw(t, "from")
				e.To = rapid.IntRange(e.From, d.Len(at)).Draw(t, "to")
				e.Take, e.N = e.To > e.From && e.Op == Splice, 1
				if rapid.Bool().Draw(t, "two") {
					e.Value, e.N = append(slices.Clone(e.Value), e.Value...), 2
				}
			}
			edits = append(edits, e)
		}
		given := slices.Clone(edits)
		got, err := d.Edit(nil, edits, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if err := Check(got); err != nil {
			t.Fatalf("%v: %x of %s by %+v", err, got, d.AppendText(nil, 0), given)
		}
		for i := len(given) - 1; i >= 0; i-- { // what lies within comes later in the document, and is done first
			e, n := given[i], places[given[i].At]
			v := naiveOf(Doc(e.Value), 0, map[int]*naive{})
			switch e.Op {
			case Replace:
				*n = *v
			case Delete:
				n.gone = true
			case Add:
				n.names, n.children = append(n.names, string(e.Name)), append(n.children, v)
			case Merge:
				n.merge(v)
			case Trim:
				n.names, n.children = n.names[e.From:e.To], n.children[e.From:e.To]
			case Splice:
				names := make([]string, e.N)
				values := slices.Repeat([]*naive{v}, e.N)
				if e.Take && n.children[e.From].gone {
					edits[i].Took = nil // it was to be deleted: nobody asks for both
				} else if e.Take && edits[i].Took != nil {
					if took := edits[i].Took; string(took) != string(parse(t, n.children[e.From].text())) {
						t.Fatalf("%s was taken, not %s", took.AppendText(nil, 0), n.children[e.From].text())
					}
				}
				n.names, n.children = slices.Replace(n.names, e.From, e.To, names...), slices.Replace(n.children, e.From, e.To, values...)
			}
		}
		if want := parse(t, model.text()); string(got) != string(want) {
			t.Fatalf("%s became %s, not %s, by %+v", d.AppendText(nil, 0), got.AppendText(nil, 0), model.text(), given)
		}
		if short, err := d.Edit(nil, slices.Clone(given), len(got)-1); !errors.Is(err, ErrSize) {
			t.Fatalf("a document of %d bytes was made where %d are allowed: %v", len(short), len(got)-1, err)
		}
	})
}

func TestEditsKeepTheDepth(t *testing.T) {
	nested := func(n int) Doc { return parse(t, strings.Repeat("[", n)+strings.Repeat("]", n)) }
	objects := func(n int) Doc { return parse(t, strings.Repeat(`{"a":`, n)+`1`+strings.Repeat("}", n)) }
	empties := func(n int) Doc { return parse(t, strings.Repeat(`{"a":`, n-1)+"{}"+strings.Repeat("}", n-1)) }
	d := parse(t, `{"a":[1],"b":{}}`)
	array, one, object := 3+2, 3+2+3, 3+2+3+1+2
	if d.Kind(array) != Array || d.Kind(one) != Integer || d.Kind(object) != Object {
		t.Fatal("the places are wrong")
	}
	for _, test := range []struct {
		name string
		edit Edit
		most int // depth of the value that just fits
		make func(int) Doc
	}{
		{"of the whole", Edit{At: 0, Op: Replace}, MaxDepth, nested},
		{"of a member", Edit{At: array, Op: Replace}, MaxDepth - 1, nested},
		{"of an element", Edit{At: one, Op: Replace}, MaxDepth - 2, nested},
		{"into an array", Edit{At: array, Op: Splice, From: 1, To: 1, N: 1}, MaxDepth - 2, nested},
		{"into an object", Edit{At: object, Op: Add, Name: []byte("x")}, MaxDepth - 2, nested},
		{"merged into the whole", Edit{At: 0, Op: Merge}, MaxDepth, objects},
		{"merged into a member, with nothing at the bottom", Edit{At: object, Op: Merge}, MaxDepth - 1, empties},
		{"merged into a member", Edit{At: object, Op: Merge}, MaxDepth - 1, objects},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, more := range []int{0, 1} {
				if test.most+more > MaxDepth {
					continue
				}
				e := test.edit
				e.Value = test.make(test.most + more)
				got, err := d.Edit(nil, []Edit{e}, 1<<20)
				if more == 0 && (err != nil || Check(got) != nil) || more == 1 && !errors.Is(err, ErrDepth) {
					t.Errorf("a value %d deep: %v, %v", test.most+more, err, Check(got))
				}
			}
		})
	}
}
