package jsonpath

import (
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/larder-cache/larder/engine/jsondoc"
)

// Bounds of regular expressions. A pattern may be a value of the document, other for each value that is looked at.
const (
	maxPattern  = 1 << 10 // bytes
	maxProgram  = 4 << 10 // letters, ranges and operators, with those that are repeated counted as often
	maxCompiled = 16      // kept while one path is evaluated
	compileCost = 64      // steps for each byte of a pattern and for each part of its program
	matchCost   = 64      // bytes of text, times the parts of the program, that are matched in the time of one step
)

// A program is a compiled pattern; its re is nil when the pattern is none, or too large a one.
type program struct {
	re   *regexp.Regexp
	size int
}

// matches says whether a text matches a pattern; what is no string matches nothing, and nothing matches a pattern
// that is none.
func (f *finder) matches(m matching, at int) bool {
	text, pattern := f.value(m.text, at), f.value(m.pattern, at)
	if text.d == nil || pattern.d == nil || text.d.Kind(text.at) != jsondoc.String || pattern.d.Kind(pattern.at) != jsondoc.String {
		return false
	}
	p, s := pattern.d.Text(pattern.at), text.d.Text(text.at)
	if len(p) > maxPattern || !f.step(1) {
		return false
	}
	c := f.compiled(m.how, string(p))
	return c.re != nil && f.step(len(s)*c.size/matchCost) && c.re.Match(s)
}

func (f *finder) compiled(how, pattern string) program {
	key := how + pattern
	if c, ok := f.patterns[key]; ok {
		return c
	}
	if !f.step(compileCost * (1 + len(pattern))) {
		return program{}
	}
	if f.patterns == nil || len(f.patterns) == maxCompiled {
		f.patterns = map[string]program{}
	}
	c := f.compile(how, pattern)
	f.patterns[key] = c
	return c
}

func (f *finder) compile(how, pattern string) program {
	source, ok := pattern, true
	if how != "=~" {
		source, ok = fromIRegexp(pattern)
	}
	if how == "match" {
		source = `\A(?:` + source + `)\z`
	}
	if !ok {
		return program{}
	}
	tree, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return program{}
	}
	size := programSize(tree)
	if size > maxProgram || !f.step(compileCost*size) {
		return program{}
	}
	re, err := regexp.Compile(source)
	if err != nil {
		return program{}
	}
	return program{re, size}
}

// programSize is about how large the program of a pattern is: repetitions are written out in it.
func programSize(t *syntax.Regexp) int {
	n := 1 + len(t.Rune)
	for _, sub := range t.Sub {
		n += programSize(sub)
	}
	if t.Op == syntax.OpRepeat {
		n *= max(t.Min, t.Max, 1)
	}
	return min(n, maxProgram+1)
}

// fromIRegexp writes an I-Regexp (RFC 9485) as Go has it: a dot is no line end.
// Beside what the RFC has, ^, $, \d, \w, \s and the opposites of these are let through. ok is false for what is no I-Regexp; what
// this does not notice, regexp.Compile does.
func fromIRegexp(p string) (source string, ok bool) {
	var b strings.Builder
	inClass := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '\\':
			size := escapeSize(p[i:])
			if size == 0 {
				return "", false
			}
			b.WriteString(p[i : i+size])
			i += size - 1
		case inClass && c == ']':
			inClass = false
			b.WriteByte(c)
		case inClass && c == '[':
			return "", false
		case inClass:
			b.WriteByte(c)
		case c == '[':
			inClass = true
			b.WriteByte(c)
		case c == '.':
			b.WriteString(`[^\n\r]`)
		case c == '(' && strings.HasPrefix(p[i:], "(?"), c == ']', c == '}':
			return "", false
		case c == '*' || c == '+' || c == '?' || c == '{':
			size := quantifierSize(p[i:])
			if size == 0 {
				return "", false
			}
			b.WriteString(p[i : i+size])
			i += size - 1
			if i+1 < len(p) && strings.IndexByte("*+?{", p[i+1]) >= 0 { // lazy ones and stacks of them
				return "", false
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), !inClass
}

// escapeSize is how many bytes the escape at the beginning of p has, 0 when it is none.
func escapeSize(p string) int {
	switch {
	case len(p) < 2:
		return 0
	case strings.IndexByte(`()*+-.?[\]^{|}nrtdDwWsS`, p[1]) >= 0:
		return 2
	case (p[1] == 'p' || p[1] == 'P') && len(p) > 2 && p[2] == '{':
		return strings.IndexByte(p, '}') + 1
	}
	return 0
}

// quantifierSize is how many bytes the quantifier at the beginning of p has, 0 when it is none: {2} {2,} {2,5}.
func quantifierSize(p string) int {
	if p[0] != '{' {
		return 1
	}
	end := strings.IndexByte(p, '}')
	if end < 2 || p[1] == ',' || strings.Trim(p[1:end], "0123456789,") != "" || strings.Count(p[:end], ",") > 1 {
		return 0
	}
	return end + 1
}
