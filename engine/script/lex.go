package script

import (
	"fmt"
	"strings"
)

// A token is a reserved word or sign as it is written, or one of the four below.
type token string

const (
	tEnd    token = "<eof>"
	tName   token = "<name>"
	tString token = "<string>"
	tNumber token = "<number>"
)

var reserved = map[string]token{}

func init() {
	for _, w := range []token{"and", "break", "do", "else", "elseif", "end", "false", "for", "function", "if", "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while"} {
		reserved[string(w)] = w
	}
}

// A syntaxError is a panic of the parser's, which compile returns.
type syntaxError string

// A lexer cuts text into tokens.
type lexer struct {
	text  string
	chunk string // as errors name it
	at    int
	line  int // of what is read
	last  int // of the token before

	token token
	start int    // where the token's text begins
	value string // of a name or string
	num   float64

	ahead *lexer // the token after this one, if it was looked at
}

func (l *lexer) fail(message string, near string) {
	s := fmt.Sprintf("%s:%d: %s", l.chunk, l.line, message)
	if near != "" {
		s += " near '" + near + "'"
	}
	panic(syntaxError(s))
}

// near is the current token as errors quote it.
func (l *lexer) near() string {
	switch l.token {
	case tName, tString, tNumber:
		return l.text[l.start:l.at]
	}
	return string(l.token)
}

func (l *lexer) syntax(message string) { l.fail(message, l.near()) }

func (l *lexer) peek() byte {
	if l.at < len(l.text) {
		return l.text[l.at]
	}
	return 0
}

// newline passes over the end of a line, of one or two bytes.
func (l *lexer) newline() {
	c := l.text[l.at]
	l.at++
	if n := l.peek(); l.at < len(l.text) && (n == '\n' || n == '\r') && n != c {
		l.at++
	}
	l.line++
}

// next reads a token.
func (l *lexer) next() {
	l.last = l.line
	if a := l.ahead; a != nil {
		last := l.last
		*l = *a
		l.last, l.ahead = last, nil
		return
	}
	l.token = l.scan()
}

// lookAhead returns the token after the current one.
func (l *lexer) lookAhead() token {
	if l.ahead == nil {
		a := *l
		a.token = a.scan()
		l.ahead = &a
	}
	return l.ahead.token
}

func (l *lexer) scan() token {
	for l.at < len(l.text) {
		l.start = l.at
		c := l.text[l.at]
		switch {
		case c == '\n' || c == '\r':
			l.newline()
			continue
		case isSpace(c):
			l.at++
			continue
		case isAlpha(c) || c == '_':
			for l.at < len(l.text) && isName(l.text[l.at]) {
				l.at++
			}
			l.value = l.text[l.start:l.at]
			if t, ok := reserved[l.value]; ok {
				return t
			}
			return tName
		case isDigit(c):
			return l.number()
		}
		l.at++
		switch c {
		case '-':
			if l.peek() != '-' {
				return "-"
			}
			l.at++
			l.comment()
			continue
		case '[':
			if level := l.bracket(); level >= 0 {
				l.long(level, true)
				return tString
			} else if level < -1 {
				l.fail("invalid long string delimiter", l.text[l.start:l.at])
			}
			return "["
		case '=', '<', '>', '~':
			if l.peek() == '=' {
				l.at++
				return token(l.text[l.start:l.at])
			}
		case '"', '\'':
			l.quoted(c)
			return tString
		case '.':
			if l.peek() == '.' {
				l.at++
				if l.peek() == '.' {
					l.at++
					return "..."
				}
				return ".."
			}
			if isDigit(l.peek()) {
				return l.number()
			}
		case 0:
			if l.at > len(l.text) {
				return tEnd
			}
		}
		if c < ' ' || c == 127 {
			return token(fmt.Sprintf("char(%d)", c))
		}
		return token(l.text[l.start:l.at])
	}
	l.start = l.at
	return tEnd
}

func (l *lexer) number() token {
	for isDigit(l.peek()) || l.peek() == '.' {
		l.at++
	}
	if c := l.peek(); c|0x20 == 'e' {
		l.at++
		if c := l.peek(); c == '+' || c == '-' {
			l.at++
		}
	}
	for isName(l.peek()) {
		l.at++
	}
	n, ok := parseNumber(l.text[l.start:l.at])
	if !ok {
		l.fail("malformed number", l.text[l.start:l.at])
	}
	l.num = n
	return tNumber
}

// bracket reads what may begin a long string after its first bracket: the number of =, -1 if it is a bracket alone, less if
// it is neither.
func (l *lexer) bracket() int {
	n := 0
	for l.at+n < len(l.text) && l.text[l.at+n] == '=' {
		n++
	}
	if l.at+n < len(l.text) && l.text[l.at+n] == '[' {
		l.at += n + 1
		return n
	}
	if n == 0 {
		return -1
	}
	l.at += n
	return -2
}

func (l *lexer) comment() {
	if l.peek() == '[' {
		at := l.at
		l.at++
		if level := l.bracket(); level >= 0 {
			l.long(level, false)
			return
		}
		l.at = at
	}
	for l.at < len(l.text) && l.text[l.at] != '\n' && l.text[l.at] != '\r' {
		l.at++
	}
}

// long reads a long string or comment after its opening brackets.
func (l *lexer) long(level int, keep bool) {
	if c := l.peek(); c == '\n' || c == '\r' {
		l.newline()
	}
	closing := "]" + strings.Repeat("=", level) + "]"
	var b []byte
	for {
		if l.at >= len(l.text) {
			if keep {
				l.fail("unfinished long string", string(tEnd))
			}
			l.fail("unfinished long comment", string(tEnd))
		}
		switch c := l.text[l.at]; {
		case c == ']' && strings.HasPrefix(l.text[l.at:], closing):
			l.at += len(closing)
			l.value = string(b)
			return
		case c == '\n' || c == '\r':
			l.newline()
			if keep {
				b = append(b, '\n')
			}
		default:
			l.at++
			if keep {
				b = append(b, c)
			}
		}
	}
}

func (l *lexer) quoted(quote byte) {
	var b []byte
	for {
		if l.at >= len(l.text) {
			l.fail("unfinished string", string(tEnd))
		}
		c := l.text[l.at]
		switch c {
		case '\n', '\r':
			l.fail("unfinished string", l.text[l.start:l.at])
		case quote:
			l.at++
			l.value = string(b)
			return
		case '\\':
			l.at++
			if l.at >= len(l.text) {
				continue
			}
			b = l.escape(b)
			continue
		}
		b = append(b, c)
		l.at++
	}
}

const escapes = "a\ab\bf\fn\nr\rt\tv\v"

func (l *lexer) escape(b []byte) []byte {
	c := l.text[l.at]
	switch {
	case c == '\n' || c == '\r':
		l.newline()
		return append(b, '\n')
	case isDigit(c):
		n := 0
		for i := 0; i < 3 && isDigit(l.peek()); i++ {
			n = n*10 + int(l.peek()-'0')
			l.at++
		}
		if n > 255 {
			l.fail("escape sequence too large", l.text[l.start:l.at])
		}
		return append(b, byte(n))
	}
	l.at++
	for i := 0; i < len(escapes); i += 2 {
		if escapes[i] == c {
			c = escapes[i+1]
			break
		}
	}
	return append(b, c)
}
