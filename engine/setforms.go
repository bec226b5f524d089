package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sort"
	"strconv"

	"github.com/larder-cache/larder/engine/dense"
)

// A setValue is a collection of different members, in one of three forms, which are named after Redis's. Two are bytes in
// the set's own record, where s.b lies while a command only looks; see setEdit for how they change:
//
//	kindIntset    integers alone: their width, 1 byte; then they, ascending, in 2, 4 or 8 bytes each
//	kindPackSet  how many members, 1 byte; then they, in the order in which they came, each behind its length, 1 byte
//
// The third, kindObject, is a table of its own, for a set that is too large for both. Its members are the keys of
// records without a value, see setMember.key; their order is the table's, the same on every replica.
//
//	M1: no member stands twice
//	M2: an intset has 1 to maxIntset members, ascends, and is as wide as its members were at their widest
//	M3: a small set has 1 to maxSmallSet members of at most maxSmallMember bytes
//	M4: words and long count the members of a table that are no integers, and those that a small set could not hold
//	M5: a set is a table only if it was once too large for the other forms and has not shrunk to a quarter of what they hold
type setValue struct {
	form  dense.Kind // 0 for a new set, which is empty
	b     []byte
	table *dense.Table
	store *dense.Store // the table's
	words int
	long  int
}

// Bounds of the packed forms: those of Redis 7.2. A look-up in a small set goes over its members, which takes longer
// than one in a table from somewhere between 8 and 32 words on, and half the memory; BenchmarkSismember has the numbers, BenchmarkSadd those of an addition.
const (
	maxIntset      = 512
	maxSmallSet    = 128
	maxSmallMember = 64 // bytes

	shrunk = 4 // a table is packed again when it has a quarter of what it then may have
)

// setOverhead is what a large set costs beside its records and their index, in bytes of Go's heap: the value, its place
// among the objects, the table and its first segment.
const setOverhead = 448

// memberKind is the kind of a large set's records.
const memberKind dense.Kind = 1

func unpackSet(it *item, b []byte) value {
	it.set = setValue{form: it.kind, b: b}
	return &it.set
}

func newLargeSet(store *dense.Store) *setValue {
	return &setValue{form: kindObject, store: store, table: store.NewTable(false, nil, nil)}
}

func (s *setValue) kind() string { return "set" }
func (s *setValue) empty() bool  { return s.len() == 0 }

func (s *setValue) len() int {
	switch {
	case s == nil || s.form == 0:
		return 0
	case s.table != nil:
		return s.table.Len()
	case s.form == kindIntset:
		return (len(s.b) - 1) / s.width()
	}
	return int(s.b[0])
}

func (s *setValue) encoding() string {
	switch s.form {
	case kindIntset:
		return "intset"
	case kindPackSet:
		return "listpack"
	}
	return "hashtable"
}

func (s *setValue) pack(dst []byte) ([]byte, dense.Kind) { return append(dst, s.b...), s.form }

func (s *setValue) bytes() int64 {
	return setOverhead + s.table.Bytes() + dense.IndexBytes(s.table.Len())
}

// parts and header are for a cut: the members are all that there is.
func (s *setValue) parts() []*dense.Table    { return []*dense.Table{s.table} }
func (s *setValue) header(dst []byte) []byte { return dst }

func (s *setValue) destroy() { s.table.Drop() }

// encode includes the form, which the order of the members and the account depend on.
func (s *setValue) encode(dst []byte) []byte {
	dst = append(append(dst, byte(s.form)), s.b...)
	if s.table != nil {
		s.table.Each(0, func(_ uint64, r dense.Ref) bool {
			key := s.store.Key(r)
			dst = append(binary.AppendUvarint(dst, uint64(len(key))), key...)
			return true
		})
	}
	return dst
}

func (s *setValue) clone(step func()) largeValue {
	if s.table == nil {
		return s // to be copied as it is stored
	}
	twin := newLargeSet(s.store)
	s.each(new(setMember), func(m *setMember) bool {
		step()
		twin.enter(m)
		return true
	})
	return twin
}

// A setMember is a member in the forms that sets keep it in. What has to be worked out is, when it is asked for the first
// time: a member that is sought in many tables is hashed once.
type setMember struct {
	text   []byte // as clients write it; nil where it is the number and has not been written yet
	whole  bool   // it is an integer, written as Redis would
	number int64
	made   []byte // the key, where keyed
	keyed  bool
	hash   uint64 // of the key, where hashed
	hashed bool
	digits [20]byte
	packed [9]byte
}

func (m *setMember) setText(b []byte) {
	m.text, m.keyed, m.hashed = b, false, false
	m.number, m.whole = parseInt(b)
}

func (m *setMember) setNumber(n int64) {
	m.text, m.keyed, m.hashed = nil, false, false
	m.number, m.whole = n, true
}

func (m *setMember) bytes() []byte {
	if m.text == nil && m.whole {
		m.text = strconv.AppendInt(m.digits[:0], m.number, 10)
	}
	return m.text
}

// What a key of a large set begins with if it is not the member's text: an integer in as few bytes as hold it, or a text
// that begins with one of the two. No UTF-8 text does.
const (
	numberKey = 0xfe
	textKey   = 0xff
)

// key is what the member is called in a table.
func (m *setMember) key() []byte {
	if m.keyed {
		return m.made
	}
	m.keyed = true
	switch {
	case m.whole:
		m.packed[0] = numberKey
		binary.LittleEndian.PutUint64(m.packed[1:], uint64(m.number))
		n := 1
		for m.number>>(8*n-1) != m.number>>63 {
			n++
		}
		m.made = m.packed[:1+n]
	case len(m.text) > 0 && m.text[0] >= numberKey:
		m.made = append([]byte{textKey}, m.text...)
	default:
		m.made = m.text
	}
	return m.made
}

// setKey makes it the member that a table calls so.
func (m *setMember) setKey(key []byte) {
	m.text, m.whole = key, false
	m.made, m.keyed, m.hashed = key, true, false
	if len(key) == 0 || key[0] < numberKey {
		return
	}
	m.text = key[1:]
	if key[0] == numberKey {
		var wide [8]byte
		n := copy(wide[:], m.text)
		m.text, m.whole = nil, true
		m.number = int64(binary.LittleEndian.Uint64(wide[:])) << (64 - 8*n) >> (64 - 8*n)
	}
}

func (m *setMember) hashIn(store *dense.Store) uint64 {
	if !m.hashed {
		m.hash, m.hashed = store.Hash(m.key()), true
	}
	return m.hash
}

// Integers of an intset: their width in bytes, and the one at a place in s.b.

func (s *setValue) width() int { return int(s.b[0]) }

func (s *setValue) number(at int) int64 {
	switch s.width() {
	case 2:
		return int64(int16(binary.LittleEndian.Uint16(s.b[at:])))
	case 4:
		return int64(int32(binary.LittleEndian.Uint32(s.b[at:])))
	}
	return int64(binary.LittleEndian.Uint64(s.b[at:]))
}

func (s *setValue) putNumber(at int, n int64) {
	switch s.width() {
	case 2:
		binary.LittleEndian.PutUint16(s.b[at:], uint16(n))
	case 4:
		binary.LittleEndian.PutUint32(s.b[at:], uint32(n))
	default:
		binary.LittleEndian.PutUint64(s.b[at:], uint64(n))
	}
}

// widthOf is how many bytes an intset needs for n.
func widthOf(n int64) int {
	switch {
	case n == int64(int16(n)):
		return 2
	case n == int64(int32(n)):
		return 4
	}
	return 8
}

// seek is the place in an intset of the first number that is not less than n.
func (s *setValue) seek(n int64) int {
	w := s.width()
	return 1 + w*sort.Search(s.len(), func(i int) bool { return s.number(1+w*i) >= n })
}

// take reads the member of a packed set at a place, and returns the next place: from 1 to len(s.b).
func (s *setValue) take(at int, m *setMember) int {
	if s.form == kindIntset {
		m.setNumber(s.number(at))
	} else {
		m.setText(s.b[at+1:][:s.b[at]])
	}
	return at + s.size(at)
}

// size is how many bytes the member at a place takes.
func (s *setValue) size(at int) int {
	if s.form == kindIntset {
		return s.width()
	}
	return 1 + int(s.b[at])
}

// place is where the i-th member of a packed set lies.
func (s *setValue) place(i int) int {
	if s.form == kindIntset {
		return 1 + i*s.width()
	}
	at := 1
	for range i {
		at += 1 + int(s.b[at])
	}
	return at
}

// locate returns the place of a member of a packed set, 0 if it is not there.
func (s *setValue) locate(m *setMember) int {
	switch s.form {
	case kindIntset:
		if m.whole {
			if at := s.seek(m.number); at < len(s.b) && s.number(at) == m.number {
				return at
			}
		}
	case kindPackSet:
		text := m.bytes()
		for at := 1; at < len(s.b); at += 1 + int(s.b[at]) {
			if int(s.b[at]) == len(text) && string(s.b[at+1:][:len(text)]) == string(text) {
				return at
			}
		}
	}
	return 0
}

// has reports whether m is in s, which may be nil for no set.
func (s *setValue) has(m *setMember) bool {
	switch {
	case s == nil:
		return false
	case s.table != nil:
		return s.table.Find(m.hashIn(s.store), m.key()) != 0
	}
	return s.locate(m) != 0
}

// contains is has for the text of a member.
func (s *setValue) contains(member []byte) bool {
	var m setMember
	m.setText(member)
	return s.has(&m)
}

// each visits the members of s, which may be nil for no set, until visit returns false: every one is m. visit must not
// change the set.
func (s *setValue) each(m *setMember, visit func(m *setMember) bool) {
	switch {
	case s == nil:
	case s.table != nil:
		s.table.Each(0, func(_ uint64, r dense.Ref) bool {
			m.setKey(s.store.Key(r))
			return visit(m)
		})
	default:
		for at := 1; at < len(s.b); {
			if at = s.take(at, m); !visit(m) {
				return
			}
		}
	}
}

// draw makes m a member by chance, each as likely as any other. O(1) on average.
func (s *setValue) draw(dice *rand.Rand, m *setMember) {
	if s.table != nil {
		m.setKey(s.store.Key(s.table.Draw(dice.Uint64)))
		return
	}
	s.take(s.place(dice.IntN(s.len())), m)
}

// formWith is the form that s needs when m comes in.
func (s *setValue) formWith(m *setMember) dense.Kind {
	n := s.len()
	switch {
	case s.table != nil:
		return kindObject
	case s.form != kindPackSet && m.whole && n < maxIntset:
		return kindIntset
	case n < maxSmallSet && len(m.bytes()) <= maxSmallMember:
		return kindPackSet
	}
	return kindObject
}

// formLeft is the form that s goes over to after members have left.
func (s *setValue) formLeft() dense.Kind {
	switch n := s.len(); {
	case s.table == nil:
		return s.form
	case s.words == 0 && n <= maxIntset/shrunk:
		return kindIntset
	case s.long == 0 && n <= maxSmallSet/shrunk:
		return kindPackSet
	}
	return kindObject
}

// enter puts in a member that is not there and that the form has room for. s.b must be nobody else's.
func (s *setValue) enter(m *setMember) {
	switch s.form {
	case kindIntset:
		s.enterNumber(m.number)
	case kindPackSet:
		if len(s.b) == 0 {
			s.b = append(s.b, 0)
		}
		s.b[0]++
		s.b = append(append(s.b, byte(len(m.bytes()))), m.bytes()...)
	default:
		s.table.Insert(m.hashIn(s.store), memberKind, m.key(), 0, 0, 0)
		s.tally(m, 1)
	}
}

func (s *setValue) enterNumber(n int64) {
	if w := widthOf(n); len(s.b) == 0 {
		s.b = append(s.b, byte(w))
	} else if w > s.width() {
		s.widen(w)
	}
	at, w := s.seek(n), s.width()
	s.b = append(s.b, make([]byte, w)...)
	copy(s.b[at+w:], s.b[at:])
	s.putNumber(at, n)
}

func (s *setValue) widen(to int) {
	n, from := s.len(), s.width()
	s.b = append(s.b, make([]byte, n*(to-from))...)
	for i := n - 1; i >= 0; i-- {
		s.b[0] = byte(from)
		number := s.number(1 + i*from)
		s.b[0] = byte(to)
		s.putNumber(1+i*to, number)
	}
}

// cut takes out the member of a packed set at a place. s.b must be nobody else's.
func (s *setValue) cut(at int) {
	s.b = append(s.b[:at], s.b[at+s.size(at):]...)
	if s.form == kindPackSet {
		s.b[0]--
	}
}

// cutRecord takes m, whose record is r, out of a table.
func (s *setValue) cutRecord(m *setMember, r dense.Ref) {
	s.table.Remove(m.hashIn(s.store), r)
	s.tally(m, -1)
}

// tally adds a member to the counts of a large set, or takes it out of them.
func (s *setValue) tally(m *setMember, sign int) {
	if m.whole {
		return
	}
	s.words += sign
	if len(m.text) > maxSmallMember {
		s.long += sign
	}
}

// validSet says what is wrong with the bytes of a packed set of a kind, which come from outside.
func validSet(kind dense.Kind, b []byte) error {
	s := &setValue{form: kind, b: b}
	switch {
	case kind != kindIntset && kind != kindPackSet:
		return fmt.Errorf("M2: kind %d is no packed set", kind)
	case len(b) == 0 || b[0] == 0:
		return errors.New("M2, M3: a set without members")
	case kind == kindIntset:
		return s.checkIntset()
	}
	return s.checkSmall()
}

func (s *setValue) checkIntset() error {
	w := s.width()
	if w != 2 && w != 4 && w != 8 {
		return fmt.Errorf("M2: integers of %d bytes", w)
	}
	if n := len(s.b) - 1; n%w != 0 || n == 0 || n > w*maxIntset {
		return fmt.Errorf("M2: integers of %d bytes in %d", w, n)
	}
	for at := 1 + w; at < len(s.b); at += w {
		if s.number(at-w) >= s.number(at) {
			return fmt.Errorf("M2: %d stands before %d", s.number(at-w), s.number(at))
		}
	}
	return nil
}

func (s *setValue) checkSmall() error {
	n, seen := 0, map[string]bool{}
	for at := 1; at < len(s.b); n++ {
		size := int(s.b[at])
		if size > maxSmallMember || at+1+size > len(s.b) {
			return fmt.Errorf("M3: a member of %d bytes at %d of %d", size, at, len(s.b))
		}
		member := s.b[at+1:][:size]
		if seen[text(member)] {
			return fmt.Errorf("M1: member %q stands twice", member)
		}
		seen[text(member)] = true
		at += 1 + size
	}
	if n != int(s.b[0]) || n > maxSmallSet {
		return fmt.Errorf("M3: %d members, counted %d", n, s.b[0])
	}
	return nil
}

func (s *setValue) check() error {
	if s.table == nil {
		return validSet(s.form, s.b)
	}
	var counted setValue
	var again setMember
	var err error
	s.each(new(setMember), func(m *setMember) bool {
		counted.tally(m, 1)
		again.setText(m.bytes())
		if !bytes.Equal(again.key(), m.key()) {
			err = fmt.Errorf("M1: member %q has the key %x", m.bytes(), m.key())
		}
		return err == nil
	})
	switch {
	case err != nil:
		return err
	case counted.words != s.words || counted.long != s.long:
		return fmt.Errorf("M4: %d words, %d long; counted %d and %d", counted.words, counted.long, s.words, s.long)
	case s.formLeft() != kindObject:
		return fmt.Errorf("M5: %d members in a table", s.len())
	}
	return nil
}
