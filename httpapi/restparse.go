package httpapi

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/larder-cache/larder/internal/fault"
)

// A commandParser reads commands in JSON: arrays of strings, numbers and truth values. It goes over the text once,
// keeps nothing and makes no copies: an argument is a part of the text, a string with escapes is written over itself,
// which is never longer. A number is its text as it was sent, true and false are these words. The text is used up.
//
// Strings need not be UTF-8: their bytes are taken as they are. In everything else the parser is as strict as RFC 8259.
type commandParser struct {
	text []byte
	at   int // next byte
	args int // arguments so far
}

func (p *commandParser) fail(why string) error {
	return fault.About(fault.InvalidArgument, "rest.parse", "body", "failed to parse the request: %s at byte %d", why, p.at)
}

// space passes over whitespace and returns the byte after it, 0 at the end.
func (p *commandParser) space() byte {
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

var errEmpty = fault.About(fault.InvalidArgument, "rest.parse", "body", "empty command: send an array of a command's name and its arguments")

// parseCommand reads a body that is one command, and appends its arguments to dst.
func parseCommand(dst [][]byte, text []byte) ([][]byte, error) {
	p := commandParser{text: text}
	if len(text) == 0 {
		return nil, errEmpty
	}
	args, err := p.command(dst)
	if err != nil {
		return nil, err
	}
	return args, p.end()
}

// parseCommands reads a body that is an array of commands: each is called to read one with command.
func parseCommands(text []byte, each func(p *commandParser) error) error {
	p := commandParser{text: text}
	n := 0
	err := p.array(func() error {
		if n++; n > maxBatch {
			return fault.About(fault.OutOfRange, "rest.parse", "body", "a request has at most %d commands", maxBatch)
		}
		return each(&p)
	})
	switch {
	case err != nil:
		return err
	case n == 0:
		return fault.About(fault.InvalidArgument, "rest.parse", "body", "empty pipeline: send an array of commands, each an array of its name and its arguments")
	}
	return p.end()
}

// end refuses what stands behind the value.
func (p *commandParser) end() error {
	if p.space() != 0 || p.at < len(p.text) {
		return p.fail("more than one value")
	}
	return nil
}

// array reads an array; element is called before each of its values, to read it.
func (p *commandParser) array(element func() error) error {
	if p.space() != '[' {
		return p.fail("expected an array")
	}
	p.at++
	if p.space() == ']' {
		p.at++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		switch p.space() {
		case ',':
			p.at++
		case ']':
			p.at++
			return nil
		default:
			return p.fail("expected a comma or the end of the array")
		}
	}
}

// command reads one command and appends its arguments to dst; there is at least its name.
func (p *commandParser) command(dst [][]byte) ([][]byte, error) {
	before := len(dst)
	err := p.array(func() error {
		if p.args++; p.args > maxManyItems {
			return fault.About(fault.OutOfRange, "rest.parse", "body", "a request has at most %d arguments", maxManyItems)
		}
		arg, err := p.argument()
		dst = append(dst, arg)
		return err
	})
	if err == nil && len(dst) == before {
		err = errEmpty
	}
	return dst, err
}

// argument reads one value that can be an argument.
func (p *commandParser) argument() ([]byte, error) {
	switch c := p.space(); {
	case c == '"':
		return p.str()
	case c == '-' || '0' <= c && c <= '9':
		return p.number()
	case c == 't':
		return p.word("true")
	case c == 'f':
		return p.word("false")
	case c == 'n':
		return nil, fault.About(fault.InvalidArgument, "rest.parse", "body", "null args are not supported")
	case c == '[' || c == '{':
		return nil, p.fail("an argument is a string, a number, true or false, not an array or an object")
	}
	return nil, p.fail("expected a value")
}

func (p *commandParser) word(w string) ([]byte, error) {
	if !bytes.HasPrefix(p.text[p.at:], []byte(w)) {
		return nil, p.fail("expected a value")
	}
	p.at += len(w)
	return p.text[p.at-len(w) : p.at : p.at], nil
}

// number passes over a number and returns its text.
func (p *commandParser) number() ([]byte, error) {
	from := p.at
	if p.text[p.at] == '-' {
		p.at++
	}
	if p.at < len(p.text) && p.text[p.at] == '0' {
		p.at++
	} else if !p.digits() {
		return nil, p.fail("expected a digit")
	}
	if p.at < len(p.text) && p.text[p.at] == '.' {
		if p.at++; !p.digits() {
			return nil, p.fail("expected a digit")
		}
	}
	if p.at < len(p.text) && p.text[p.at]|0x20 == 'e' {
		p.at++
		if p.at < len(p.text) && (p.text[p.at] == '+' || p.text[p.at] == '-') {
			p.at++
		}
		if !p.digits() {
			return nil, p.fail("expected a digit")
		}
	}
	return p.text[from:p.at:p.at], nil
}

// digits passes over digits and reports whether there was one.
func (p *commandParser) digits() bool {
	from := p.at
	for p.at < len(p.text) && '0' <= p.text[p.at] && p.text[p.at] <= '9' {
		p.at++
	}
	return p.at > from
}

// str reads a string, of which the next byte is the quote.
func (p *commandParser) str() ([]byte, error) {
	p.at++
	from := p.at
	for ; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return p.text[from : p.at-1 : p.at-1], nil
		case c == '\\':
			return p.escaped(from)
		case c < ' ':
			return nil, p.fail("a control character in a string")
		}
	}
	return nil, p.fail("a string without an end")
}

// escaped reads the rest of a string that began at from; the next byte is its first backslash.
func (p *commandParser) escaped(from int) ([]byte, error) {
	to := p.at // what was read so far is text[from:to]
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return p.text[from:to:to], nil
		case c == '\\':
			n, err := p.escape(to)
			if err != nil {
				return nil, err
			}
			to += n
		case c < ' ':
			return nil, p.fail("a control character in a string")
		default:
			p.text[to] = c
			to++
			p.at++
		}
	}
	return nil, p.fail("a string without an end")
}

// escapes are the characters that a backslash and one letter stand for.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads one escape and writes what it stands for at to, in fewer bytes than it has. A half of a surrogate pair
// that has no other stands for U+FFFD.
func (p *commandParser) escape(to int) (n int, err error) {
	if p.at+1 >= len(p.text) {
		return 0, p.fail("a string without an end")
	}
	c := p.text[p.at+1]
	if c != 'u' {
		if escapes[c] == 0 {
			return 0, p.fail("an escape that there is not")
		}
		p.text[to] = escapes[c]
		p.at += 2
		return 1, nil
	}
	r, ok := hex4(p.text[p.at+2:])
	if !ok {
		return 0, p.fail(`\u without four hexadecimal digits`)
	}
	p.at += 6
	if utf16.IsSurrogate(r) {
		second := rune(0)
		if rest := p.text[p.at:]; len(rest) > 1 && rest[0] == '\\' && rest[1] == 'u' {
			second, _ = hex4(rest[2:])
		}
		if r = utf16.DecodeRune(r, second); r != utf8.RuneError {
			p.at += 6
		}
	}
	return utf8.EncodeRune(p.text[to:to+utf8.UTFMax], r), nil
}

// hex4 reads four hexadecimal digits.
func hex4(b []byte) (r rune, ok bool) {
	if len(b) < 4 {
		return 0, false
	}
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}
