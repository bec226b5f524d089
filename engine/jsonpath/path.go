// Package jsonpath finds values in JSON documents by paths: RFC 9535, and the dotted paths that RedisJSON had before it.
//
// A Path is parsed once and evaluated against documents of package jsondoc. Results come in the order that RFC 9535
// asks for, members in the order of the document, so replicas agree. A path has at most MaxPath bytes, and evaluating
// one takes at most as many steps as the caller allows: no document and no path can hold up a partition for long.
// Regular expressions are I-Regexp (RFC 9485), run by Go's regexp in time linear in the text.
//
// Beyond the RFC, since RedisJSON has them: a dot may stand before a bracket ($.["a"]), names behind a dot may have
// the signs - $ : # / % ^ + and ` but for their first letter, and a filter may compare with =~, which searches by a
// regular expression of Go's (RE2).
//
// Start with Parse, then Path.Find.
package jsonpath

import (
	"fmt"

	"github.com/larder-cache/larder/engine/jsondoc"
)

// Bounds of a path.
const (
	MaxPath    = 8 << 10 // bytes
	MaxPlaces  = 4 << 20 // that Find finds
	maxNesting = 32      // parentheses, filters and functions within each other
)

// A Path is a parsed path.
type Path struct {
	Legacy   bool // of the old dialect, which answers one value
	segments []segment
}

// A segment goes from values to some of what is in them.
type segment struct {
	deep      bool // with all their descendants
	selectors []selector
}

type selectorKind uint8

const (
	byName selectorKind = iota
	byIndex
	byWildcard
	bySlice
	byFilter
)

type selector struct {
	kind   selectorKind
	name   string
	index  int64
	slice  slice
	filter logical
}

// A slice is start:end:step; a bound that is not given is absent.
type slice struct {
	start, end       int64
	hasStart, hasEnd bool
	step             int64
}

// bounds are those of RFC 9535, section 2.3.4.2.2, for an array of n elements.
func (s slice) bounds(n int64) (lower, upper int64) {
	normal := func(i int64) int64 {
		if i >= 0 {
			return i
		}
		return n + i
	}
	start, end := int64(0), n
	if s.step < 0 {
		start, end = n-1, -n-1
	}
	if s.hasStart {
		start = s.start
	}
	if s.hasEnd {
		end = s.end
	}
	start, end = normal(start), normal(end)
	if s.step >= 0 {
		return min(max(start, 0), n), min(max(end, 0), n)
	}
	return min(max(end, -1), n-1), min(max(start, -1), n-1)
}

// A SyntaxError says where a path stops being one.
type SyntaxError struct {
	At  int // the byte, counted from 0
	Why string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("Error occurred on position %d, expected %s", e.At, e.Why)
}

// Root reports whether the path is that of the whole document.
func (p *Path) Root() bool { return len(p.segments) == 0 }

// singular reports whether segments select at most one value, wherever they begin.
func singular(segments []segment) bool {
	for _, s := range segments {
		if s.deep || len(s.selectors) != 1 || s.selectors[0].kind > byIndex {
			return false
		}
	}
	return true
}

// Singular reports whether the path selects at most one value in any document.
func (p *Path) Singular() bool { return singular(p.segments) }

// Parent splits a singular path that is not Root into the path of the container and the name of the member that the
// last segment selects in it; named is false when that is an index.
func (p *Path) Parent() (parent *Path, name string, named bool) {
	last := p.segments[len(p.segments)-1].selectors[0]
	return &Path{Legacy: p.Legacy, segments: p.segments[:len(p.segments)-1]}, last.name, last.kind == byName
}

// A term is what a comparison compares: a literal, a query for one value, or what a function makes of values.
type term interface{ isTerm() }

type literal struct{ d jsondoc.Doc }

// A query is a path within a filter, from the value at hand or from the whole document.
type query struct {
	absolute bool
	segments []segment
}

// A function is length, count or value of one argument: a term for length, a query for the others.
type function struct {
	name  string
	term  term
	query *query
}

func (literal) isTerm()   {}
func (*query) isTerm()    {}
func (*function) isTerm() {}

// A logical is a condition of a filter.
type logical interface{ isLogical() }

type (
	or         []logical
	and        []logical
	not        struct{ what logical }
	exists     struct{ query *query }
	comparison struct {
		op          string
		left, right term
	}
	// matching is match, search and =~.
	matching struct {
		how           string
		text, pattern term
	}
)

func (or) isLogical()         {}
func (and) isLogical()        {}
func (not) isLogical()        {}
func (exists) isLogical()     {}
func (comparison) isLogical() {}
func (matching) isLogical()   {}
