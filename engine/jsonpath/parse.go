package jsonpath

import (
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/larder-cache/larder/engine/jsondoc"
)

// Parse reads a path: RFC 9535 when it begins with $, else a legacy one: ".", ".a.b[0]", "a.b", "..a", `["a"]`.
func Parse(text string) (*Path, error) {
	p := parser{s: text}
	switch {
	case len(text) > MaxPath:
		return nil, &SyntaxError{MaxPath, "a path of at most " + strconv.Itoa(MaxPath) + " bytes"}
	case !utf8.ValidString(text):
		return nil, &SyntaxError{0, "a path in UTF-8"}
	case strings.HasPrefix(text, "$"):
		p.at = 1
		segments, err := p.segments()
		if err == nil && p.at < len(text) {
			err = p.fail("the path to go on with . .. or [, or to end")
		}
		return &Path{segments: segments}, err
	case text == ".":
		return &Path{Legacy: true}, nil
	}
	p.legacy = true
	if !strings.HasPrefix(text, ".") {
		p.s, p.shift = "."+text, 1
	}
	segments, err := p.segments()
	if err == nil && (p.at < len(p.s) || len(segments) == 0) {
		err = p.fail("the path to go on with . .. or [, or to end")
	}
	return &Path{Legacy: true, segments: segments}, err
}

// A parser reads s from at on.
type parser struct {
	s      string
	at     int
	shift  int // bytes that were put before the text
	nested int
	legacy bool
}

func (p *parser) fail(why string) error { return &SyntaxError{max(p.at-p.shift, 0), why} }

// peek returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.at < len(p.s) {
		return p.s[p.at]
	}
	return 0
}

// take passes over word if it comes next.
func (p *parser) take(word string) bool {
	if !strings.HasPrefix(p.s[p.at:], word) {
		return false
	}
	p.at += len(word)
	return true
}

func (p *parser) space() {
	for p.at < len(p.s) && strings.IndexByte(" \t\n\r", p.s[p.at]) >= 0 {
		p.at++
	}
}

// enter counts how deep the parser is in parentheses, filters and functions.
func (p *parser) enter() error {
	if p.nested++; p.nested > maxNesting {
		return p.fail("at most " + strconv.Itoa(maxNesting) + " levels of parentheses, filters and functions")
	}
	return nil
}

// segments reads as many as there are. Space before one belongs to it, space behind the last does not.
func (p *parser) segments() (list []segment, err error) {
	for {
		before := p.at
		p.space()
		if c := p.peek(); c != '.' && c != '[' {
			p.at = before
			return list, nil
		}
		s, err := p.segment()
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
}

func (p *parser) segment() (s segment, err error) {
	s.deep = p.take("..")
	if !s.deep {
		p.take(".")
	}
	switch {
	case p.peek() == '[':
		s.selectors, err = p.brackets()
		return s, err
	case p.take("*"):
		s.selectors = []selector{{kind: byWildcard}}
		return s, nil
	}
	begin := p.at
	for p.at < len(p.s) {
		r, size := utf8.DecodeRuneInString(p.s[p.at:])
		if !p.inName(r, p.at == begin) {
			break
		}
		p.at += size
	}
	if p.at == begin {
		return s, p.fail("a name, * or [")
	}
	s.selectors = []selector{{kind: byName, name: p.s[begin:p.at]}}
	return s, nil
}

// inName reports whether a name behind a dot may have r.
func (p *parser) inName(r rune, first bool) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', r == '_', r >= 0x80:
		return true
	case '0' <= r && r <= '9':
		return !first || p.legacy
	}
	return (!first || p.legacy) && strings.ContainsRune("-$:#/%^+`~", r)
}

// brackets reads [selector, …].
func (p *parser) brackets() (list []selector, err error) {
	p.at++
	for {
		p.space()
		s, err := p.selector()
		if err != nil {
			return nil, err
		}
		list = append(list, s)
		p.space()
		switch {
		case p.take("]"):
			return list, nil
		case !p.take(","):
			return nil, p.fail("] or ,")
		}
	}
}

func (p *parser) selector() (s selector, err error) {
	switch c := p.peek(); {
	case c == '\'' || c == '"':
		s.name, err = p.quoted()
		return s, err
	case c == '*':
		p.at++
		return selector{kind: byWildcard}, nil
	case c == '?':
		p.at++
		p.space()
		s.kind = byFilter
		s.filter, err = p.or()
		return s, err
	case c == ':' || c == '-' || '0' <= c && c <= '9':
		return p.indexOrSlice()
	}
	return s, p.fail("a name in quotes, an index, a slice, * or a filter")
}

func (p *parser) indexOrSlice() (s selector, err error) {
	s.slice.step = 1
	if p.peek() != ':' {
		if s.index, err = p.integer(); err != nil {
			return s, err
		}
		before := p.at
		if p.space(); p.peek() != ':' {
			p.at = before
			s.kind = byIndex
			return s, nil
		}
		s.slice.start, s.slice.hasStart = s.index, true
	}
	s.kind = bySlice
	p.at++
	p.space()
	if p.digits() {
		if s.slice.end, err = p.integer(); err != nil {
			return s, err
		}
		s.slice.hasEnd = true
		p.space()
	}
	if p.take(":") {
		p.space()
		if p.digits() {
			s.slice.step, err = p.integer()
		}
	}
	return s, err
}

// digits reports whether a number comes next.
func (p *parser) digits() bool { return p.peek() == '-' || '0' <= p.peek() && p.peek() <= '9' }

// mostIndex is the largest integer that every JSON implementation keeps exact.
const mostIndex = 1<<53 - 1

func (p *parser) integer() (int64, error) {
	begin := p.at
	p.take("-")
	first := p.at
	for '0' <= p.peek() && p.peek() <= '9' {
		p.at++
	}
	text := p.s[begin:p.at]
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n > mostIndex || n < -mostIndex || text == "-0" || p.s[first] == '0' && p.at > first+1 {
		p.at = begin
		return 0, p.fail("an integer between -(2^53-1) and 2^53-1 without leading zeros")
	}
	return n, nil
}

// quoted reads a string in single or double quotes.
func (p *parser) quoted() (string, error) {
	quote := p.peek()
	p.at++
	var b strings.Builder
	for {
		switch c := p.peek(); {
		case p.at >= len(p.s):
			return "", p.fail("a quote that ends the string")
		case c == quote:
			p.at++
			return b.String(), nil
		case c < 0x20:
			return "", p.fail("no control character in a string")
		case c == '\\':
			p.at++
			if err := p.escape(&b, quote); err != nil {
				return "", err
			}
		default:
			b.WriteByte(c)
			p.at++
		}
	}
}

func (p *parser) escape(b *strings.Builder, quote byte) error {
	c := p.peek()
	p.at++
	if i := strings.IndexByte("bfnrt/\\", c); i >= 0 && c != 0 {
		b.WriteByte("\b\f\n\r\t/\\"[i])
		return nil
	}
	switch c {
	case quote:
		b.WriteByte(c)
		return nil
	case 'u':
		r, ok := p.hex4()
		if ok && utf16.IsSurrogate(r) {
			var low rune
			if ok = p.take(`\u`); ok {
				low, ok = p.hex4()
				r = utf16.DecodeRune(r, low)
				ok = ok && r != utf8.RuneError
			}
		}
		if ok {
			b.WriteRune(r)
			return nil
		}
	}
	p.at--
	return p.fail("a valid escape")
}

func (p *parser) hex4() (rune, bool) {
	if p.at+4 > len(p.s) {
		return 0, false
	}
	for _, c := range []byte(p.s[p.at : p.at+4]) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return 0, false
		}
	}
	n, _ := strconv.ParseUint(p.s[p.at:p.at+4], 16, 32)
	p.at += 4
	return rune(n), true
}

// or reads a condition: others joined by ||.
func (p *parser) or() (logical, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.nested-- }()
	var list or
	for {
		l, err := p.and()
		if err != nil {
			return nil, err
		}
		list = append(list, l)
		before := p.at
		if p.space(); !p.take("||") {
			p.at = before
			break
		}
		p.space()
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return list, nil
}

func (p *parser) and() (logical, error) {
	var list and
	for {
		l, err := p.basic()
		if err != nil {
			return nil, err
		}
		list = append(list, l)
		before := p.at
		if p.space(); !p.take("&&") {
			p.at = before
			break
		}
		p.space()
	}
	if len(list) == 1 {
		return list[0], nil
	}
	return list, nil
}

// basic reads a condition in parentheses, a comparison or a test.
func (p *parser) basic() (logical, error) {
	negated := p.take("!")
	if negated {
		p.space()
	}
	var l logical
	var err error
	if p.take("(") {
		p.space()
		if l, err = p.or(); err != nil {
			return nil, err
		}
		if p.space(); !p.take(")") {
			return nil, p.fail(")")
		}
	} else if l, err = p.comparisonOrTest(negated); err != nil {
		return nil, err
	}
	if negated {
		return not{l}, nil
	}
	return l, nil
}

// comparisons are the operators, the longer before those that they begin with.
var comparisons = []string{"==", "!=", "=~", "<=", ">=", "<", ">"}

func (p *parser) comparisonOrTest(negated bool) (logical, error) {
	begin := p.at
	if m, ok, err := p.matching(); ok || err != nil {
		return m, err
	}
	left, err := p.term()
	if err != nil {
		return nil, err
	}
	before := p.at
	p.space()
	for _, op := range comparisons {
		if negated || !p.take(op) {
			continue
		}
		if p.space(); !p.comparable(left) {
			p.at = begin
			return nil, p.fail("a query for one value in a comparison")
		}
		at := p.at
		right, err := p.term()
		if err != nil {
			return nil, err
		}
		if !p.comparable(right) {
			p.at = at
			return nil, p.fail("a query for one value in a comparison")
		}
		if op == "=~" {
			return matching{how: op, text: left, pattern: right}, nil
		}
		return comparison{op: op, left: left, right: right}, nil
	}
	p.at = before
	if q, ok := left.(*query); ok {
		return exists{q}, nil
	}
	return nil, p.fail("a comparison")
}

// comparable reports whether a term is at most one value.
func (p *parser) comparable(t term) bool {
	q, ok := t.(*query)
	return !ok || singular(q.segments)
}

// functionName returns the name of the function that is called next, "" for none.
func (p *parser) functionName() string {
	i := p.at
	for i < len(p.s) && ('a' <= p.s[i] && p.s[i] <= 'z' || i > p.at && (p.s[i] == '_' || '0' <= p.s[i] && p.s[i] <= '9')) {
		i++
	}
	if i > p.at && i < len(p.s) && p.s[i] == '(' {
		return p.s[p.at:i]
	}
	return ""
}

// matching reads match(…) or search(…).
func (p *parser) matching() (m matching, ok bool, err error) {
	m.how = p.functionName()
	if m.how != "match" && m.how != "search" {
		return m, false, nil
	}
	p.at += len(m.how) + 1
	if m.text, err = p.argument(); err != nil {
		return m, false, err
	}
	if p.space(); !p.take(",") {
		return m, false, p.fail(", and a second argument")
	}
	if m.pattern, err = p.argument(); err != nil {
		return m, false, err
	}
	if p.space(); !p.take(")") {
		return m, false, p.fail(")")
	}
	return m, true, nil
}

// argument reads a term that is at most one value.
func (p *parser) argument() (term, error) {
	p.space()
	at := p.at
	t, err := p.term()
	if err == nil && !p.comparable(t) {
		p.at = at
		err = p.fail("a query for one value")
	}
	return t, err
}

// term reads a literal, a query or a function of values.
func (p *parser) term() (term, error) {
	switch c := p.peek(); {
	case c == '@' || c == '$':
		p.at++
		segments, err := p.segments()
		return &query{absolute: c == '$', segments: segments}, err
	case c == '\'' || c == '"':
		s, err := p.quoted()
		return literal{jsondoc.AppendString(nil, s)}, err
	case p.digits():
		return p.number()
	}
	if name := p.functionName(); name != "" {
		return p.function(name)
	}
	for word, d := range literals {
		if p.take(word) {
			return literal{d}, nil
		}
	}
	return nil, p.fail("a query, a literal or a function")
}

// literals are words, none of which begins another.
var literals = map[string]jsondoc.Doc{"null": jsondoc.AppendNull(nil), "true": jsondoc.AppendBool(nil, true), "false": jsondoc.AppendBool(nil, false)}

func (p *parser) function(name string) (_ term, err error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer func() { p.nested-- }()
	f := &function{name: name}
	at := p.at
	p.at += len(name) + 1
	switch name {
	case "length":
		f.term, err = p.argument()
	case "count", "value":
		p.space()
		var t term
		if t, err = p.term(); err == nil {
			q, ok := t.(*query)
			if !ok {
				return nil, p.fail("a query")
			}
			f.query = q
		}
	default:
		p.at = at
		err = p.fail("one of the functions length, count, value, match and search where it fits")
	}
	if err != nil {
		return nil, err
	}
	if p.space(); !p.take(")") {
		return nil, p.fail(")")
	}
	return f, nil
}

// number reads a number as JSON has it.
func (p *parser) number() (term, error) {
	begin := p.at
	p.take("-")
	first := p.at
	count := func() (n int) {
		for ; '0' <= p.peek() && p.peek() <= '9'; n++ {
			p.at++
		}
		return n
	}
	ok := count() > 0 && (p.s[first] != '0' || p.at == first+1)
	if ok && p.take(".") {
		ok = count() > 0
	}
	if ok && (p.take("e") || p.take("E")) {
		if !p.take("+") {
			p.take("-")
		}
		ok = count() > 0
	}
	if ok {
		if d, fits := jsondoc.AppendNumber(nil, []byte(p.s[begin:p.at])); fits {
			return literal{d}, nil
		}
	}
	p.at = begin
	return nil, p.fail("a number")
}
