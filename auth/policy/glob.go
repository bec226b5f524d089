package policy

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A glob is a compiled pattern: literal text, "*" (any run of characters, also none), "?" (exactly one
// character) and variables, whose value is taken as plain text when the pattern is tried.
//
// It matches whole strings. The items before the first star are tried at the start and those behind the
// last star at the end; each run between two stars takes the leftmost place where it fits. Nothing is ever
// tried again, because every run has a fixed number of characters: the leftmost fit leaves most for the
// rest. So a match takes at most len(pattern) × len(text) steps, calls itself never and allocates nothing.
//
//	G1: two stars never stand side by side, and neither do two literals
//	G2: head and tail are the places of the first and the last star; both are -1 without stars
type glob struct {
	items      []item
	head, tail int
	variables  bool
}

type item struct {
	kind  itemKind
	text  string // a literal's text, or a variable's default
	key   keyRef // a variable's
	deflt bool   // text is a default
}

type itemKind uint8

const (
	literal  itemKind = iota
	one               // ?
	star              // *
	variable          // ${key} or ${key, 'default'}
)

// newGlob wraps items that keep G1.
func newGlob(items []item) glob {
	g := glob{items: items, head: -1, tail: -1}
	for i := range items {
		switch items[i].kind {
		case star:
			if g.head < 0 {
				g.head = i
			}
			g.tail = i
		case variable:
			g.variables = true
		}
	}
	return g
}

// literalGlob compiles a pattern without variables.
func literalGlob(pattern string) glob {
	items, err := parseItems(pattern, syntax{wildcards: true})
	if err != nil {
		panic(err) // only variables can be malformed
	}
	return newGlob(items)
}

// Match reports whether pattern covers text: "*" stands for any run of characters, "?" for exactly one,
// everything else for itself.
func Match(pattern, text string) bool {
	g := literalGlob(pattern)
	return g.match(nil, text)
}

// match reports whether g covers all of text. e answers the variables; it may be nil when there are none.
func (g *glob) match(e *evaluation, text string) bool {
	if g.head < 0 {
		rest, ok := matchStart(e, g.items, text)
		return ok && rest == ""
	}
	text, ok := matchStart(e, g.items[:g.head], text)
	if !ok {
		return false
	}
	if text, ok = matchEnd(e, g.items[g.tail+1:], text); !ok {
		return false
	}
	for i := g.head + 1; i < g.tail; {
		j := i
		for g.items[j].kind != star {
			j++
		}
		if text, ok = seek(e, g.items[i:j], text); !ok {
			return false
		}
		i = j + 1
	}
	return true
}

// matchStart takes run, which has no star, off the start of text.
func matchStart(e *evaluation, run []item, text string) (rest string, ok bool) {
	for i := range run {
		if run[i].kind == one {
			if text == "" {
				return "", false
			}
			_, n := utf8.DecodeRuneInString(text)
			text = text[n:]
			continue
		}
		want, ok := e.itemText(&run[i])
		if !ok || !strings.HasPrefix(text, want) {
			return "", false
		}
		text = text[len(want):]
	}
	return text, true
}

// matchEnd takes run, which has no star, off the end of text.
func matchEnd(e *evaluation, run []item, text string) (rest string, ok bool) {
	for i := len(run) - 1; i >= 0; i-- {
		if run[i].kind == one {
			if text == "" {
				return "", false
			}
			_, n := utf8.DecodeLastRuneInString(text)
			text = text[:len(text)-n]
			continue
		}
		want, ok := e.itemText(&run[i])
		if !ok || !strings.HasSuffix(text, want) {
			return "", false
		}
		text = text[:len(text)-len(want)]
	}
	return text, true
}

// seek finds the leftmost place in text where run fits, and returns what is behind it.
func seek(e *evaluation, run []item, text string) (rest string, ok bool) {
	first, known := "", run[0].kind != one
	if known {
		if first, ok = e.itemText(&run[0]); !ok {
			return "", false
		}
	}
	for {
		if !e.spend(len(run)) {
			return "", false
		}
		if known {
			at := strings.Index(text, first)
			if at < 0 {
				return "", false
			}
			text = text[at:]
		}
		if rest, ok = matchStart(e, run, text); ok {
			return rest, true
		}
		if text == "" {
			return "", false
		}
		_, n := utf8.DecodeRuneInString(text)
		text = text[n:]
	}
}

// resolves reports whether each of g's variables has a value or a default.
func (g *glob) resolves(e *evaluation) bool {
	if !g.variables {
		return true
	}
	for i := range g.items {
		if _, ok := e.itemText(&g.items[i]); !ok {
			return false
		}
	}
	return true
}

// bareStar reports whether g is "*" and nothing else.
func (g *glob) bareStar() bool { return len(g.items) == 1 && g.items[0].kind == star }

// onlyText returns the text of a glob that is one literal, or empty.
func (g *glob) onlyText() (string, bool) {
	switch {
	case len(g.items) == 0:
		return "", true
	case len(g.items) == 1 && g.items[0].kind == literal:
		return g.items[0].text, true
	}
	return "", false
}

// A syntax says which characters are special in a text.
type syntax struct {
	wildcards bool // * and ?
	variables bool // ${…}; documents of the 2008 language have none
}

// The limits of a pattern in a document.
const (
	MaxPattern = 1024 // bytes
	MaxStars   = 32
)

// checkPattern refuses patterns beyond the limits.
func checkPattern(pattern string) error {
	if len(pattern) > MaxPattern {
		return fmt.Errorf("a pattern of %d bytes; the limit is %d", len(pattern), MaxPattern)
	}
	if n := strings.Count(pattern, "*"); n > MaxStars {
		return fmt.Errorf("a pattern with %d stars; the limit is %d", n, MaxStars)
	}
	return nil
}

// parseItems splits a text into items.
func parseItems(text string, s syntax) ([]item, error) {
	var items []item
	addText := func(t string) {
		if last := len(items) - 1; last >= 0 && items[last].kind == literal {
			items[last].text += t
		} else if t != "" {
			items = append(items, item{kind: literal, text: t})
		}
	}
	start := 0
	for i := 0; i < len(text); {
		switch {
		case s.wildcards && text[i] == '*':
			addText(text[start:i])
			if last := len(items) - 1; last < 0 || items[last].kind != star {
				items = append(items, item{kind: star})
			}
			i++
		case s.wildcards && text[i] == '?':
			addText(text[start:i])
			items = append(items, item{kind: one})
			i++
		case s.variables && strings.HasPrefix(text[i:], "${"):
			addText(text[start:i])
			v, n, err := parseVariable(text[i+2:])
			if err != nil {
				return nil, err
			}
			if v.kind == literal {
				addText(v.text)
			} else {
				items = append(items, v)
			}
			i += 2 + n
		default:
			i++
			continue
		}
		start = i
	}
	addText(text[start:])
	return items, nil
}

// parseVariable reads what follows "${", up to and with the closing brace, and says how long that is.
func parseVariable(text string) (v item, n int, err error) {
	end := strings.IndexAny(text, ",}")
	if end < 0 {
		return item{}, 0, errors.New("${ is never closed by }")
	}
	name := text[:end]
	if text[end] == '}' && (name == "*" || name == "?" || name == "$") {
		return item{kind: literal, text: name}, end + 1, nil
	}
	name = strings.TrimRight(name, " ")
	ref, ok := lookupKey(name)
	if !ok {
		return item{}, 0, fmt.Errorf("${%s} is not a condition key", name)
	}
	if row := &keyTable[ref.key]; row.list {
		return item{}, 0, fmt.Errorf("${%s} may have several values, so it cannot be a variable", name)
	} else if row.chosen {
		return item{}, 0, fmt.Errorf("${%s} is chosen by the client, so it cannot be a variable", name)
	}
	v = item{kind: variable, key: ref}
	if text[end] == '}' {
		return v, end + 1, nil
	}
	quoted := strings.TrimLeft(text[end+1:], " ")
	deflt, rest, closed := "", "", false
	if strings.HasPrefix(quoted, "'") {
		deflt, rest, closed = strings.Cut(quoted[1:], "'")
	}
	rest = strings.TrimLeft(rest, " ")
	if !closed || !strings.HasPrefix(rest, "}") {
		return item{}, 0, fmt.Errorf("the default of ${%s} must be '…', followed by }", name)
	}
	v.text, v.deflt = deflt, true
	return v, len(text) - len(rest) + 1, nil
}

// splitItems cuts items at each sep that stands in a literal, into at most limit parts.
// The last part keeps the separators that are left.
func splitItems(items []item, sep byte, limit int) [][]item {
	parts := [][]item{nil}
	for _, it := range items {
		for it.kind == literal && len(parts) < limit {
			before, after, found := strings.Cut(it.text, string(sep))
			if !found {
				break
			}
			if before != "" {
				parts[len(parts)-1] = append(parts[len(parts)-1], item{kind: literal, text: before})
			}
			parts = append(parts, nil)
			it.text = after
		}
		if it.kind != literal || it.text != "" {
			parts[len(parts)-1] = append(parts[len(parts)-1], it)
		}
	}
	return parts
}

// printable returns text with each byte that is not UTF-8 as %XX, which is how policies see such keys.
// It allocates only when there is such a byte.
func printable(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	return string(appendPrintable(nil, text))
}

func appendPrintable(buf []byte, text string) []byte {
	const hex = "0123456789ABCDEF"
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		if r == utf8.RuneError && n == 1 {
			buf = append(buf, '%', hex[text[0]>>4], hex[text[0]&15])
		} else {
			buf = append(buf, text[:n]...)
		}
		text = text[n:]
	}
	return buf
}
