package engine

import (
	"encoding/binary"
	"slices"

	"github.com/larder-cache/larder/internal/fault"
)

// Bounds of a pattern, and of what one command may spend on matching it.
const (
	maxPattern      = 1 << 10 // bytes
	maxPatternStars = 32
	matchBudget     = 16 << 20 // steps of glob.match: some ten milliseconds
)

// A glob is a pattern as Redis's KEYS has them: * any run of bytes, ? any byte, [a-z] one of, [^a-z] none of, and \
// before a byte to mean just that byte. It matches bytes, not characters.
//
// It is an automaton whose states are the bits of a few words: bit i is set when what was read so far can be
// what the pattern says before its i-th place. A byte moves every state at once, so matching takes
// len(s)*words steps for any pattern: there is nothing to come back to.
type glob struct {
	words  int      // of states: one for each 64 places
	places int      // bytes that the pattern asks for; bit number places means a match
	takes  []uint64 // takes[b*words:][:words] has bit i when byte b may stand at place i
	stays  []uint64 // bit i when a star stands before place i
	states []uint64
	spent  int // steps taken so far
}

// newGlob compiles a pattern. Every pattern within the bounds is valid, as in Redis: an unclosed bracket ends
// with the pattern, a last backslash stands for itself.
func newGlob(op string, pattern []byte) (*glob, error) {
	if len(pattern) > maxPattern {
		return nil, fault.About(fault.TooLarge, op, "pattern", "pattern of %d bytes is too long: the limit is %d", len(pattern), maxPattern)
	}
	words := len(pattern)/64 + 1
	g := &glob{words: words, takes: make([]uint64, 256*words), stays: make([]uint64, words), states: make([]uint64, words)}
	stars := 0
	for p := pattern; len(p) > 0; {
		if p[0] == '*' {
			if !g.stay() {
				stars++
			}
			p = p[1:]
			continue
		}
		p = p[g.place(p):]
	}
	if stars > maxPatternStars {
		return nil, fault.About(fault.TooLarge, op, "pattern", "pattern has %d stars: the limit is %d", stars, maxPatternStars)
	}
	return g, nil
}

// stay adds a star and reports whether one was there already.
func (g *glob) stay() (already bool) {
	word, bit := &g.stays[g.places/64], uint64(1)<<(g.places%64)
	already = *word&bit != 0
	*word |= bit
	return already
}

// take lets the bytes from low to high stand at the last place.
func (g *glob) take(low, high byte) {
	for b := int(low); b <= int(high); b++ {
		g.takes[b*g.words+g.places/64] |= 1 << (g.places % 64)
	}
}

// place adds what p begins with, which is not a star, and returns how wide that is.
func (g *glob) place(p []byte) (width int) {
	defer func() { g.places++ }()
	switch {
	case p[0] == '?':
		g.take(0, 255)
	case p[0] == '[':
		return g.class(p)
	case p[0] == '\\' && len(p) > 1:
		g.take(p[1], p[1])
		return 2
	default:
		g.take(p[0], p[0])
	}
	return 1
}

// class adds the bracket that p begins with.
func (g *glob) class(p []byte) (width int) {
	i, not := 1, false
	if i < len(p) && p[i] == '^' {
		i, not = i+1, true
	}
	for i < len(p) && p[i] != ']' {
		switch {
		case p[i] == '\\' && i+1 < len(p):
			g.take(p[i+1], p[i+1])
			i += 2
		case i+2 < len(p) && p[i+1] == '-': // the end of a range may be a ']', as in Redis
			g.take(min(p[i], p[i+2]), max(p[i], p[i+2]))
			i += 3
		default:
			g.take(p[i], p[i])
			i++
		}
	}
	if not {
		for b := range 256 {
			g.takes[b*g.words+g.places/64] ^= 1 << (g.places % 64)
		}
	}
	return min(i+1, len(p))
}

// match reports whether the whole of s matches. A nil glob matches everything.
func (g *glob) match(s string) bool {
	if g == nil {
		return true
	}
	states := g.states
	clear(states)
	states[0] = 1
	for i := range len(s) {
		takes := g.takes[int(s[i])*g.words:][:g.words]
		var carry, alive uint64
		for w, state := range states {
			moved := state & takes[w]
			states[w] = moved<<1 | carry | state&g.stays[w]
			carry = moved >> 63
			alive |= states[w]
		}
		g.spent += g.words
		if alive == 0 {
			return false
		}
	}
	return states[g.places/64]>>(g.places%64)&1 == 1
}

// A Pattern is a glob for others than commands: many goroutines may match it at once, and it is kept for long. So it takes little
// room: bytes that may stand at the same places have one row.
type Pattern struct {
	words, places int
	row           *[256]uint8 // of each byte
	takes         []uint64    // takes[row*words:][:words] has bit i when a byte of that row may stand at place i
	stays         []uint64
}

// NewPattern compiles a pattern as Redis's PSUBSCRIBE and KEYS have it.
func NewPattern(pattern []byte) (Pattern, error) {
	g, err := newGlob("engine.pattern", pattern)
	if err != nil {
		return Pattern{}, err
	}
	p := Pattern{words: g.words, places: g.places, row: &[256]uint8{}, stays: g.stays}
	rows := map[string]uint8{}
	var text []byte
	for b := range p.row {
		takes := g.takes[b*g.words:][:g.words]
		text = text[:0]
		for _, word := range takes {
			text = binary.LittleEndian.AppendUint64(text, word)
		}
		row, known := rows[string(text)]
		if !known {
			row = uint8(len(rows)) // 255 at most: there are no more bytes
			rows[string(text)] = row
			p.takes = append(p.takes, takes...)
		}
		p.row[b] = row
	}
	p.takes = slices.Clip(p.takes)
	return p, nil
}

// Size is about how many bytes the pattern takes.
func (p Pattern) Size() int { return 256 + 8*(len(p.takes)+len(p.stays)) + 128 }

// Steps is how many steps of a nanosecond or two it takes to match a name of n bytes, at the most.
func (p Pattern) Steps(n int) int { return n * p.words }

// MaxMatching bounds the steps for which one message is compared with patterns, while nothing else is done on its partition. Of a
// channel whose name is too long for so many patterns those hear who listen to it by name: with a thousand short patterns, beyond
// 16 KiB.
const MaxMatching = 1 << 24

// Match reports whether the whole of name matches.
func (p Pattern) Match(name []byte) bool {
	var room [maxPattern/64 + 1]uint64
	states := room[:p.words]
	states[0] = 1
	for _, b := range name {
		takes := p.takes[int(p.row[b])*p.words:][:p.words]
		var carry, alive uint64
		for w, state := range states {
			moved := state & takes[w]
			states[w] = moved<<1 | carry | state&p.stays[w]
			carry = moved >> 63
			alive |= states[w]
		}
		if alive == 0 {
			return false
		}
	}
	return states[p.places/64]>>(p.places%64)&1 == 1
}

// exhausted reports whether the glob has cost one command enough.
func (g *glob) exhausted() bool { return g != nil && g.spent > matchBudget }

// literalPrefix returns the bytes that everything matching the pattern begins with: what a policy may call the
// prefix of a listing.
func literalPrefix(pattern []byte) []byte {
	prefix := []byte{}
	for i := 0; i < len(pattern); i++ {
		switch b := pattern[i]; {
		case b == '*' || b == '?' || b == '[':
			return prefix
		case b == '\\' && i+1 < len(pattern):
			i++
			prefix = append(prefix, pattern[i])
		default:
			prefix = append(prefix, b)
		}
	}
	return prefix
}
