package redisapi

import (
	"bytes"
	"fmt"
	"slices"
)

// Bounds of what a client may send. Before login they are as small as a login needs (specification T20, T21).
const (
	maxArguments   = 1 << 20
	maxBulk        = 512 << 20 // the largest value that a cache may be given; the cache's own limit is asked as well
	maxInline      = 64 << 10
	maxArgumentsIn = 10
	maxBulkIn      = 16 << 10
)

// A protocolError is input after which nothing in the stream can be trusted.
type protocolError struct{ text string }

func (e *protocolError) Error() string { return "Protocol error: " + e.text }

func broken(format string, args ...any) error { return &protocolError{fmt.Sprintf(format, args...)} }

// A parser takes commands out of a stream of bytes. It keeps its place in a command that has not arrived whole, so that
// no byte is looked at twice however small the pieces are that it arrives in.
//
// Places count from the beginning of the command under way, since the buffer that holds it may move.
type parser struct {
	at   int    // what was read of the command
	left int    // arguments still to come
	bulk int    // length of the argument under way, -1 while its length is not known
	ends []span // of the arguments that are there

	maxArguments, maxBulk int
}

type span struct{ from, to int }

// limits sets what is let in.
func (p *parser) limits(arguments, bulk int) { p.maxArguments, p.maxBulk = arguments, bulk }

// begun reports whether a part of a command has been read.
func (p *parser) begun() bool { return p.at > 0 }

// needs is how many bytes the command under way has at least: a buffer of that size holds what is known of it.
func (p *parser) needs() int {
	if p.left > 0 && p.bulk >= 0 {
		return p.at + p.bulk + 2
	}
	return p.at + 1
}

// next takes one command from the beginning of b. It returns the command's arguments, which lie in b, and how many bytes
// of b it took; with 0 bytes the command has not arrived whole, and the next call gets the same bytes with more behind
// them. An empty command has bytes but no arguments. The slice of arguments is the parser's own when into is nil; otherwise they are
// appended to into.
func (p *parser) next(b []byte, into [][]byte) (args [][]byte, n int, err error) {
	if p.at == 0 {
		if len(b) == 0 {
			return nil, 0, nil
		}
		if b[0] != '*' {
			return p.inline(b, into)
		}
		count, n, err := p.line(b[1:], "invalid multibulk length", "too big mbulk count string")
		if err != nil || n == 0 {
			return nil, 0, err
		}
		if count > p.maxArguments {
			if p.maxArguments == maxArgumentsIn {
				return nil, 0, broken("unauthenticated multibulk length")
			}
			return nil, 0, broken("invalid multibulk length")
		}
		if count <= 0 {
			return nil, 1 + n, nil
		}
		p.at, p.left, p.bulk, p.ends = 1+n, count, -1, p.ends[:0]
	}
	for p.left > 0 {
		if p.bulk < 0 {
			if p.at == len(b) {
				return nil, 0, nil
			}
			if b[p.at] != '$' {
				return nil, 0, broken("expected '$', got '%s'", printable(b[p.at]))
			}
			size, n, err := p.line(b[p.at+1:], "invalid bulk length", "too big bulk count string")
			if err != nil || n == 0 {
				return nil, 0, err
			}
			if size < 0 || size > p.maxBulk {
				if size > p.maxBulk && p.maxBulk == maxBulkIn {
					return nil, 0, broken("unauthenticated bulk length")
				}
				return nil, 0, broken("invalid bulk length")
			}
			p.at += 1 + n
			p.bulk = size
		}
		if len(b)-p.at < p.bulk+2 {
			return nil, 0, nil
		}
		p.ends = append(p.ends, span{p.at, p.at + p.bulk})
		if b[p.at+p.bulk] != '\r' || b[p.at+p.bulk+1] != '\n' {
			return nil, 0, broken("expected CRLF after an argument of %d bytes", p.bulk)
		}
		p.at += p.bulk + 2
		p.bulk = -1
		p.left--
	}
	args = slices.Grow(into, len(p.ends))
	for _, s := range p.ends {
		args = append(args, b[s.from:s.to:s.to])
	}
	if cap(p.ends) > 1024 {
		p.ends = nil
	}
	n, p.at = p.at, 0
	return args, n, nil
}

// line reads the integer that a line holds, and says how many bytes the line has with its end; 0 when that is not there yet.
func (p *parser) line(b []byte, wrong, long string) (value, n int, err error) {
	end := bytes.IndexByte(b, '\r')
	if end < 0 {
		if len(b) > maxInline {
			return 0, 0, broken("%s", long)
		}
		return 0, 0, nil
	}
	if end+1 >= len(b) {
		return 0, 0, nil
	}
	digits, negative := b[:end], false
	if len(digits) > 0 && digits[0] == '-' {
		digits, negative = digits[1:], true
	}
	if len(digits) == 0 || len(digits) > 18 || b[end+1] != '\n' {
		return 0, 0, broken("%s", wrong)
	}
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, 0, broken("%s", wrong)
		}
		value = value*10 + int(c-'0')
	}
	if negative {
		value = -value
	}
	return value, end + 2, nil
}

// inline reads a command that a person typed: words on a line, with quotes as in a shell.
func (p *parser) inline(b []byte, into [][]byte) (args [][]byte, n int, err error) {
	limit := maxInline
	if p.maxArguments == maxArgumentsIn {
		limit = maxBulkIn
	}
	end := bytes.IndexByte(b[:min(len(b), limit+1)], '\n')
	if end < 0 {
		if len(b) > limit {
			return nil, 0, broken("too big inline request")
		}
		return nil, 0, nil
	}
	line := b[:end]
	if len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	args, ok := splitWords(line, into)
	if !ok {
		return nil, 0, broken("unbalanced quotes in request")
	}
	if len(args)-len(into) > p.maxArguments {
		return nil, 0, broken("unauthenticated multibulk length")
	}
	return args, end + 1, nil
}

// splitWords appends the words of a line to words: "…" with escapes, '…' as it stands, spaces between. It reports whether all quotes are
// closed, and followed by a space or nothing.
func splitWords(line []byte, words [][]byte) ([][]byte, bool) {
	for i := 0; ; {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			return words, true
		}
		word := []byte{}
		for i < len(line) && !isSpace(line[i]) {
			quote := line[i]
			if quote != '"' && quote != '\'' {
				word = append(word, quote)
				i++
				continue
			}
			i++
			closed := false
			for i < len(line) && !closed {
				c := line[i]
				switch {
				case c == quote:
					closed = true
				case c != '\\' || i+1 == len(line):
					word = append(word, c)
				case quote == '\'':
					if line[i+1] == '\'' {
						i++
						c = '\''
					}
					word = append(word, c)
				case line[i+1] == 'x' && i+3 < len(line) && isHex(line[i+2]) && isHex(line[i+3]):
					word = append(word, unhex(line[i+2])<<4|unhex(line[i+3]))
					i += 3
				default:
					i++
					word = append(word, unescape(line[i]))
				}
				i++
			}
			if !closed || (i < len(line) && !isSpace(line[i])) {
				return words, false
			}
		}
		words = append(words, word)
	}
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f' || c == 0
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func unhex(c byte) byte {
	switch {
	case c <= '9':
		return c - '0'
	case c >= 'a':
		return c - 'a' + 10
	}
	return c - 'A' + 10
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}

func printable(c byte) string {
	if c < ' ' || c > '~' {
		return fmt.Sprintf(`\x%02x`, c)
	}
	return string(c)
}

// restart forgets the command under way: the next call gets it from its beginning.
func (p *parser) restart() { p.at, p.left, p.bulk = 0, 0, -1 }
