package engine

import (
	"strings"
	"testing"
)

func TestGlob(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"*", "", true}, {"**", "", true}, {"*", "anything\x00\xff", true},
		{"?", "", false}, {"?", "\xff", true}, {"??", "ü", true}, // bytes, not characters
		{"user:*", "user:1", true}, {"user:*", "user:", true}, {"user:*", "user", false},
		{"*:1", "a:1:1", true}, {"*ab*ab", "abab", true}, {"*ab*ab", "ab", false}, {"a*b*c", "aXbXbXc", true}, {"a*b*c", "acb", false},
		{"[abc]", "b", true}, {"[abc]", "d", false}, {"[a-c]", "b", true}, {"[c-a]", "b", true}, {"[^a-c]", "b", false}, {"[^a-c]", "d", true},
		{"h[^e]llo", "hallo", true}, {"h[^e]llo", "hello", false},
		{"[]", "]", false}, {"[]a]", "]a]", false}, {"[^]", "x", true}, // an empty class has no member
		{"[", "[", false}, {"[abc", "c", true}, {"[^", "x", true}, {"[a-", "-", true}, {"[a-]", "-", false}, {"[a-]", "_", true}, // unclosed ones end with the pattern
		{`[\]]`, "]", true}, {`[\-a]`, "-", true}, {`[a\`, `\`, true},
		{`\*`, "*", true}, {`\*`, "a", false}, {`a\`, `a\`, true}, {`\\`, `\`, true}, {`\a`, "a", true}, {`\[a]`, "[a]", true},
		{"[*]", "*", true}, {"[*]", "a", false}, {"[?]x", "?x", true},
	}
	for _, tt := range tests {
		g, err := newGlob("test", []byte(tt.pattern))
		if err != nil {
			t.Fatal(err)
		}
		if got := g.match(tt.s); got != tt.want {
			t.Errorf("%q matches %q: %v, want %v", tt.pattern, tt.s, got, tt.want)
		}
	}
}

func TestGlobBounds(t *testing.T) {
	for _, tt := range []struct {
		name    string
		pattern string
		ok      bool
	}{
		{"the longest", strings.Repeat("a", maxPattern), true},
		{"one byte more", strings.Repeat("a", maxPattern+1), false},
		{"a megabyte", strings.Repeat("*a", 1<<19), false},
		{"all its stars", strings.Repeat("a*", maxPatternStars), true},
		{"one star more", strings.Repeat("a*", maxPatternStars+1), false},
		{"a run of stars is one", strings.Repeat("*", maxPattern), true},
	} {
		if _, err := newGlob("test", []byte(tt.pattern)); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestGlobWorstCase: the patterns that made Redis's matcher exponential cost ours what any pattern costs.
func TestGlobWorstCase(t *testing.T) {
	s := strings.Repeat("a", 4096)
	for _, pattern := range []string{
		strings.Repeat("a*", 32) + "b",
		strings.Repeat("*a", 32) + "b",
		"*" + strings.Repeat("a", 900) + "b",
		strings.Repeat("*?", 32) + "[b]",
		"*" + strings.Repeat("[b-z]", 150) + strings.Repeat("*a", 31) + "b",
	} {
		g, err := newGlob("test", []byte(pattern))
		if err != nil {
			t.Fatal(err)
		}
		if g.match(s) {
			t.Errorf("%.20q… matches", pattern)
		}
		if bound := len(s) * (len(pattern)/64 + 1); g.spent > bound {
			t.Errorf("%.20q… took %d steps, more than %d", pattern, g.spent, bound)
		}
	}
}

// TestGlobAcrossWords has patterns whose states fill one word and begin the next.
func TestGlobAcrossWords(t *testing.T) {
	for n := range 300 {
		s := strings.Repeat("xy", n)[:n]
		for _, pattern := range []string{s, s + "*", "*" + s, strings.Repeat("?", n), strings.Repeat("[x-y]", min(n, 200)) + "*"} {
			g, err := newGlob("test", []byte(pattern))
			if err != nil {
				t.Fatal(err)
			}
			if !g.match(s) {
				t.Errorf("%q does not match %q", pattern, s)
			}
			if g.match("z"+s) && !strings.HasPrefix(pattern, "*") {
				t.Errorf("%q matches %q", pattern, "z"+s)
			}
		}
	}
}

func TestLiteralPrefix(t *testing.T) {
	for pattern, want := range map[string]string{
		"": "", "*": "", "user:*": "user:", "user:?": "user:", "a[b]": "a", `a\*b*`: "a*b", "plain": "plain", `end\`: `end\`, `a\[b`: "a[b",
	} {
		if got := string(literalPrefix([]byte(pattern))); got != want {
			t.Errorf("%q begins with %q, want %q", pattern, got, want)
		}
	}
}

// globTwin is Redis's matcher as its documentation tells it, by recursion: right by eye, and exponential.
func globTwin(p, s string) bool {
	if p == "" {
		return s == ""
	}
	if p[0] == '*' {
		return globTwin(p[1:], s) || (s != "" && globTwin(p, s[1:]))
	}
	if s == "" {
		return false
	}
	one := func(rest string, ok bool) bool { return ok && globTwin(rest, s[1:]) }
	switch {
	case p[0] == '?':
		return one(p[1:], true)
	case p[0] == '\\' && len(p) > 1:
		return one(p[2:], p[1] == s[0])
	case p[0] != '[':
		return one(p[1:], p[0] == s[0])
	}
	p = p[1:]
	not := strings.HasPrefix(p, "^")
	if not {
		p = p[1:]
	}
	in := false
	for p != "" && p[0] != ']' {
		low, high := p[0], p[0]
		switch {
		case p[0] == '\\' && len(p) > 1:
			low, high, p = p[1], p[1], p[2:]
		case len(p) > 2 && p[1] == '-':
			high, p = p[2], p[3:]
		default:
			p = p[1:]
		}
		in = in || (min(low, high) <= s[0] && s[0] <= max(low, high))
	}
	return one(strings.TrimPrefix(p, "]"), in != not)
}

func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{{"a*b", "ab"}, {"[^a-c]*", "dog"}, {`\*?[`, "*x["}, {"[a-]", "_"}, {"**a", "a"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, s string) {
		if len(pattern) > 14 || len(s) > 14 { // beyond this the twin takes too long
			return
		}
		g, err := newGlob("fuzz", []byte(pattern))
		if err != nil {
			t.Fatal(err)
		}
		got, want := g.match(s), globTwin(pattern, s)
		if got != want {
			t.Errorf("%q matches %q: %v, the twin says %v", pattern, s, got, want)
		}
		if compiled, err := NewPattern([]byte(pattern)); err != nil || compiled.Match([]byte(s)) != want {
			t.Errorf("%q as a Pattern matches %q: %v, %v", pattern, s, !want, err)
		}
		if got && !strings.HasPrefix(s, string(literalPrefix([]byte(pattern)))) {
			t.Errorf("%q matches %q, which does not begin with %q", pattern, s, literalPrefix([]byte(pattern)))
		}
	})
}

func BenchmarkGlobWorst(b *testing.B) {
	g, _ := newGlob("bench", []byte("*"+strings.Repeat("a", 900)+"b"))
	s := strings.Repeat("a", MaxKey)
	for b.Loop() {
		g.match(s)
	}
}

// TestPatternsTakeLittle: a Pattern matches as the glob of which it is made, and takes little room.
func TestPatternsTakeLittle(t *testing.T) {
	names := []string{"", "a", "ab", "user:1", "user:12:x", "xyxy", strings.Repeat("xy", 100), strings.Repeat("a", 63) + "b", "\x00\xff"}
	for _, pattern := range []string{"", "*", "user:*", "user:?", "u[a-z]er:[^2]*", "*b", strings.Repeat("a", 63) + "*", strings.Repeat("xy", 100), `\*`, "[", strings.Repeat("?", 200), strings.Repeat("a*", 32)} {
		g, err := newGlob("test", []byte(pattern))
		if err != nil {
			t.Fatal(err)
		}
		p, err := NewPattern([]byte(pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if got, want := p.Match([]byte(name)), g.match(name); got != want {
				t.Errorf("%q matches %q: %v, its glob says %v", pattern, name, got, want)
			}
		}
		if p.Size() > 1500 {
			t.Errorf("%q takes %d bytes", pattern, p.Size())
		}
	}
	every := make([]byte, 0, maxPattern)
	for b := range maxPattern / 2 {
		every = append(every, '\\', byte(b))
	}
	if p, err := NewPattern(every); err != nil || p.Size() > 256*8*(maxPattern/64+2) {
		t.Errorf("every byte: %d bytes, %v", p.Size(), err)
	}
}
