package traces

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestRead(t *testing.T) {
	for _, c := range []struct {
		name   string
		format Format
		text   string
		want   []uint32
		err    string
	}{
		{name: "keys are numbered as they come", format: Keys, text: "b\na\nb\n", want: []uint32{0, 1, 0}},
		{name: "any text, blank lines and no last line end", format: Keys, text: "x y\r\n\n  \nx y", want: []uint32{0, 0}},
		{name: "a run is so many blocks", format: ARC, text: "7 3 0 0\n8 1 0 1\n", want: []uint32{0, 1, 2, 1}},
		{name: "two numbers will do", format: ARC, text: "1 1\n", want: []uint32{0}},
		{name: "a run of none", format: ARC, text: "1 0 0 0\n2 1 0 0\n", want: []uint32{0}},
		{name: "one number", format: ARC, text: "1 1\n5\n", err: `line 2: "5" is not`},
		{name: "no number", format: ARC, text: "a 1\n", err: `line 1: "a" is no block number`},
		{name: "a run too long", format: ARC, text: "1 1048577\n", err: "line 1: "},
		{name: "a run past the last block", format: ARC, text: "18446744073709551615 2\n", err: "line 1: "},
		{name: "nothing", format: Keys, text: "\n", err: "no requests"},
		{name: "a line too long", format: Keys, text: "a\n" + strings.Repeat("x", MaxLine+1), err: "line 2: longer than"},
		{name: "no such format", format: "csv", text: "a", err: `no trace format "csv"`},
	} {
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		fmt.Fprint(w, c.text)
		w.Close()
		for how, in := range map[string]string{"plain": c.text, "gzipped": zipped.String()} {
			got, err := Read(strings.NewReader(in), c.format)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%s, %s: error %v, want %q", c.name, how, err, c.err)
				}
				continue
			}
			if err != nil || !slices.Equal(got.Requests, c.want) {
				t.Errorf("%s, %s: %v, %v, want %v", c.name, how, got, err, c.want)
			}
		}
	}
	if _, err := Read(strings.NewReader("\x1f\x8bgarbage"), Keys); err == nil {
		t.Error("a broken gzip file was accepted")
	}
	if _, err := Open("no-such-file", nil, Keys); err == nil {
		t.Error("a file that is not there was opened")
	}
}

func FuzzRead(f *testing.F) {
	f.Add("1 2 0 0\n", true)
	f.Add("a\nb\n", false)
	f.Fuzz(func(t *testing.T, text string, arc bool) {
		format := Keys
		if arc {
			format = ARC
		}
		tr, err := Read(strings.NewReader(text), format)
		if err != nil {
			return
		}
		for _, r := range tr.Requests {
			if int(r) >= tr.Distinct {
				t.Fatalf("request of key %d of %d", r, tr.Distinct)
			}
		}
	})
}

func TestPatternsAreAlwaysTheSame(t *testing.T) {
	for _, s := range Patterns()[:2] {
		if a, b := s.Trace(), s.Trace(); !slices.Equal(a.Requests, b.Requests) {
			t.Errorf("%s differs", s.Name)
		}
	}
}
