package memcacheapi

import (
	"math"

	"github.com/larder-cache/larder/engine"
)

// Bounds of the meta commands' lines.
const (
	maxFlags  = 19 // words of a line
	maxOpaque = 32 // bytes of an opaque with its O
)

const (
	longFlags     = "CLIENT_ERROR options flags too long"
	longFlagsGet  = "CLIENT_ERROR options flags are too long"
	longOpaque    = "CLIENT_ERROR opaque token too long"
	badFlag       = "CLIENT_ERROR invalid flag"
	sameFlag      = "CLIENT_ERROR duplicate flag"
	badOrSameFlag = "CLIENT_ERROR invalid or duplicate flag"
	badKey        = "CLIENT_ERROR error decoding key"
	badToken      = "CLIENT_ERROR bad token in command line format"
	badMode       = "CLIENT_ERROR incorrect length for M token"
	badInitial    = "CLIENT_ERROR invalid numeric initial value"
	badMetaDelta  = "CLIENT_ERROR invalid numeric delta value"
	badSetMode    = "CLIENT_ERROR invalid mode for ms M token"
	badAddMode    = "CLIENT_ERROR invalid mode for ma M token"
)

// metaFlags are what the flags of a meta command say.
type metaFlags struct {
	value, stale, clear, quiet, binaryKey     bool
	noUpdate, hit, accessed                   bool
	vivify, touch, recache                    bool
	hasCAS, hasNew                            bool
	mode                                      byte
	vivifyTime, touchTime, recacheTime, flags int64
	cas, newCAS, delta, initial               uint64
	longOpaque                                bool
}

// maxCAS is the largest version that an item can have: they have 56 bits.
const maxCAS = 1<<56 - 1

// parse reads the flags among words, in order. It returns the key, decoded if it is in base64, and what is wrong.
func (m *metaFlags) parse(key []byte, words [][]byte) (decoded []byte, wrong string) {
	var seen [128]bool
	failed := ""
	fail := func(text string) { failed = text }
	time := func(word []byte, to *int64) {
		n, ok := signed(word[1:])
		if !ok {
			fail(badToken)
		}
		*to = int64(n)
	}
	number := func(word []byte, to *uint64, most uint64, wrong string) bool {
		n, ok := engine.ParseC(word[1:])
		if !ok || n > most {
			fail(wrong)
			return false
		}
		*to = n
		return true
	}
	m.delta = 1
	for _, w := range words {
		c := w[0]
		if c >= 127 || seen[c] {
			return key, sameFlag
		}
		seen[c] = true
		switch c {
		case 'b':
			if key = decode64(key); len(key) == 0 {
				fail(badKey)
			}
			m.binaryKey = true
		case 'N':
			m.vivify = true
			time(w, &m.vivifyTime)
		case 'T':
			m.touch = true
			time(w, &m.touchTime)
		case 'R':
			m.recache = true
			time(w, &m.recacheTime)
		case 'O':
			m.longOpaque = len(w) > maxOpaque
		case 'P', 'L', 'k', 's', 't', 'c', 'f':
		case 'l':
			m.accessed = true
		case 'v':
			m.value = true
		case 'h':
			m.hit = true
		case 'u':
			m.noUpdate = true
		case 'q':
			m.quiet = true
		case 'F':
			n, ok := unsigned(w[1:])
			if !ok {
				if failed == "" {
					fail(badFormat)
				}
			}
			m.flags = int64(n)
		case 'C':
			m.hasCAS = number(w, &m.cas, math.MaxUint64, badToken)
		case 'E':
			m.hasNew = number(w, &m.newCAS, maxCAS, badToken)
		case 'M':
			if len(w) != 2 {
				fail(badMode)
			} else {
				m.mode = w[1]
			}
		case 'J':
			number(w, &m.initial, math.MaxUint64, badInitial)
		case 'D':
			number(w, &m.delta, math.MaxUint64, badMetaDelta)
		case 'I':
			m.stale = true
		case 'x':
			m.clear = true
		default:
			return key, badFlag
		}
	}
	return key, failed
}

// dashes64 is the value of each letter of base64 and of the '=' that fills it up; the rest is passed over.
var values64 = func() (t [256]byte) {
	for i := range t {
		t[i] = 0x80
	}
	for i, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") {
		t[c] = byte(i)
	}
	t['='] = 0
	return t
}()

// decode64 reads base64 as memcached does, which passes over letters that are none; nil when it is not base64.
func decode64(src []byte) []byte {
	count := 0
	for _, c := range src {
		if values64[c] != 0x80 {
			count++
		}
	}
	if count == 0 || count%4 != 0 {
		return nil
	}
	var block [4]byte
	out := make([]byte, 0, count/4*3)
	n, pad := 0, 0
	for _, c := range src {
		v := values64[c]
		if v == 0x80 {
			continue
		}
		if c == '=' {
			pad++
		}
		block[n] = v
		if n++; n < 4 {
			continue
		}
		n = 0
		out = append(out, block[0]<<2|block[1]>>4, block[1]<<4|block[2]>>2, block[2]<<6|block[3])
		switch pad {
		case 0:
		case 1, 2:
			return out[:len(out)-pad]
		default:
			return nil
		}
	}
	return out
}

// metaLine checks what all meta commands have in common: the key, how many flags there are. It returns the flags' words,
// and reports whether the command can go on.
func (s *Session) metaLine(first int, long string) (words [][]byte, ok bool) {
	w := s.words
	switch {
	case len(w) < 2:
		s.say(unknown)
	case len(w[1]) > maxKey:
		s.say(badFormat)
	case len(w) > maxFlags:
		s.say(long)
	default:
		return w[min(first, len(w)):], true
	}
	return nil, false
}

// restOf is what stands behind the first words of a line.
func restOf(line []byte, words int) []byte {
	at := 0
	for range words {
		_, at = nextWord(line, at)
	}
	return line[at:]
}

// time writes a time for the engine.
func (s *Session) time(seconds int64) []byte { return s.decimal(nil, seconds) }

// word adds words to the arguments under way, of which there are then so many.
func (s *Session) add(n *int, words ...[]byte) {
	s.arena = append(s.arena, words...)
	*n += len(words)
}

func (s *Session) mgLine(line []byte) {
	words, ok := s.metaLine(2, longFlagsGet)
	if !ok {
		return
	}
	p := pending{render: renderMG, rest: restOf(line, 2)}
	m := &p.meta
	key, wrong := m.parse(s.words[1], words)
	if wrong == "" && m.longOpaque {
		wrong = longOpaque
	}
	if wrong != "" {
		s.say(wrong)
		return
	}
	p.key, p.quiet = key, m.quiet
	notes := (m.hit || m.accessed) && !m.noUpdate
	n := 0
	if !notes && !m.vivify && !m.touch && !m.recache {
		s.add(&n, getCommand.NameArg(), key)
		if !m.value {
			s.add(&n, metaWord)
		}
		s.call(getCommand, n, p)
		s.lured = true
		return
	}
	p.won = true
	s.add(&n, fetchCommand.NameArg(), key)
	if !m.value {
		s.add(&n, metaWord)
	}
	if notes {
		s.add(&n, noteWord)
	}
	for _, w := range words { // in the order in which they are to be done
		switch w[0] {
		case 'T':
			s.add(&n, touchWord, s.time(m.touchTime))
		case 'N':
			s.add(&n, vivifyWord, s.time(m.vivifyTime))
		case 'R':
			s.add(&n, recacheWord, s.time(m.recacheTime))
		case 'E':
			s.add(&n, newCASWord, s.unsignedDecimal(nil, m.newCAS))
		}
	}
	s.call(fetchCommand, n, p)
}

// setModes are the engine's words for the modes of ms.
var setModes = map[byte][]byte{0: nil, 'S': nil, 'E': addWord, 'A': appendWord, 'P': prependWord, 'R': replaceWord}

func (s *Session) msLine(b, line []byte, n int) int {
	w := s.words
	if len(w) == 2 && len(w[1]) <= maxKey {
		s.say(badFormat)
		return n
	}
	words, ok := s.metaLine(3, longFlags)
	if !ok {
		return n
	}
	size, ok := signed(w[2])
	if !ok || size < 0 || size > math.MaxInt32-2 {
		s.say(badFormat)
		return n
	}
	p := pending{render: renderMS, rest: restOf(line, 3)}
	m := &p.meta
	key, wrong := m.parse(w[1], words)
	mode, known := setModes[m.mode]
	if wrong == "" && !known {
		wrong = badSetMode
	}
	if wrong == "" && m.longOpaque {
		wrong = longOpaque
	}
	if wrong != "" {
		if !s.settle() {
			return -1
		}
		s.swallow = int(size) + 2
		s.say(wrong)
		return n
	}
	if int64(size) > s.limit {
		return s.refuse(n, int(size)+2, key, true, false, tooLarge)
	}
	whole := n + int(size) + 2
	if len(b) < whole {
		s.needs = whole
		return 0
	}
	if b[whole-2] != '\r' || b[whole-1] != '\n' {
		s.say(badChunk)
		return whole
	}
	p.key, p.quiet, p.cas = key, m.quiet, m.hasCAS
	count := 0
	s.add(&count, setCommand.NameArg(), key, b[n:whole-2:whole-2], s.time(m.flags), s.time(m.touchTime))
	if mode != nil {
		s.add(&count, mode)
	}
	if m.hasCAS {
		s.add(&count, casWord, s.unsignedDecimal(nil, m.cas))
	}
	if m.hasNew {
		s.add(&count, newCASWord, s.unsignedDecimal(nil, m.newCAS))
	}
	if m.stale {
		s.add(&count, staleWord)
	}
	if m.vivify {
		s.add(&count, vivifyWord, s.time(m.vivifyTime))
	}
	s.call(setCommand, count, p)
	return whole
}

func (s *Session) mdLine(line []byte) {
	words, ok := s.metaLine(2, longFlags)
	if !ok {
		return
	}
	p := pending{render: renderMD, rest: restOf(line, 2)}
	m := &p.meta
	key, wrong := m.parse(s.words[1], words)
	if wrong != "" {
		wrong = badOrSameFlag
	} else if m.longOpaque {
		wrong = longOpaque
	}
	if wrong != "" {
		s.say(wrong)
		return
	}
	p.key, p.quiet = key, m.quiet
	n := 0
	s.add(&n, delCommand.NameArg(), key)
	if m.hasCAS {
		s.add(&n, casWord, s.unsignedDecimal(nil, m.cas))
	}
	if m.stale {
		s.add(&n, staleWord)
	}
	if m.clear {
		s.add(&n, clearWord)
	}
	if m.touch && (m.stale || m.clear) {
		s.add(&n, touchWord, s.time(m.touchTime))
	}
	if m.hasNew {
		s.add(&n, newCASWord, s.unsignedDecimal(nil, m.newCAS))
	}
	s.call(delCommand, n, p)
}

func (s *Session) maLine(line []byte) {
	words, ok := s.metaLine(2, longFlags)
	if !ok {
		return
	}
	p := pending{render: renderMA, rest: restOf(line, 2), op: '+'}
	m := &p.meta
	key, wrong := m.parse(s.words[1], words)
	cmd := incrCommand
	switch {
	case wrong != "":
		wrong = badOrSameFlag
	case m.mode == 'D' || m.mode == '-':
		cmd, p.op = decrCommand, '-'
	case m.mode != 0 && m.mode != 'I' && m.mode != '+':
		wrong = badAddMode
	}
	if wrong == "" && m.longOpaque {
		wrong = longOpaque
	}
	if wrong != "" {
		s.say(wrong)
		return
	}
	p.key, p.quiet = key, m.quiet
	n := 0
	s.add(&n, cmd.NameArg(), key, s.unsignedDecimal(nil, m.delta))
	if m.hasCAS {
		s.add(&n, casWord, s.unsignedDecimal(nil, m.cas))
	}
	if m.hasNew {
		s.add(&n, newCASWord, s.unsignedDecimal(nil, m.newCAS))
	}
	if m.vivify {
		s.add(&n, initialWord, s.unsignedDecimal(nil, m.initial), s.time(m.vivifyTime))
	}
	if m.touch {
		s.add(&n, touchWord, s.time(m.touchTime))
	}
	s.call(cmd, n, p)
}

func (s *Session) meLine(line []byte) {
	w := s.words
	if len(w) < 2 || len(w[1]) > maxKey {
		s.say(badFormat)
		return
	}
	p := pending{render: renderMeta, key: w[1]}
	if len(w) >= 3 && string(w[2]) == "b" {
		if p.key = decode64(w[1]); len(p.key) == 0 {
			s.say(badFormat)
			return
		}
		p.meta.binaryKey = true
	}
	s.arena = append(s.arena, getCommand.NameArg(), p.key, metaWord)
	s.call(getCommand, 3, p)
}
