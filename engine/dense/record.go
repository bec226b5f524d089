package dense

import (
	"encoding/binary"
)

// A record, as it lies in its block:
//
//	kind and flags, 1 byte
//	note, 4 bytes            if its table has notes
//	deadline, 5 or 8 bytes   if it has one; 5 bytes count milliseconds from epoch and last until 2054
//	key's length, uvarint
//	value's length, uvarint
//	key
//	value, or for one that is kept apart the number of its pages, 4 bytes
const (
	kindMask  = 0x0f
	flagNote  = 0x10
	flagApart = 0x20
	expNone   = 0x00
	expShort  = 0x40
	expLong   = 0x80
	expMask   = 0xc0

	epoch = 1_577_836_800_000 // 2020-01-01, in milliseconds since 1970
)

// Apart is from how many bytes a value is kept apart, on pages of its own, whatever its key.
const Apart = 32 << 10

// MaxKey bounds a key, in bytes.
const MaxKey = 32 << 10

// maxInside bounds a key together with a value beside it in the block, in bytes: with its header no record is larger than
// what a full block may waste.
const maxInside = Apart + 1<<10

// IsApart reports whether a value of so many bytes under a key of so many is kept apart.
func IsApart(key, value int) bool { return value >= Apart || key+value > maxInside }

// Kind is what a record's value is, for its owner to say: 1 to 15.
type Kind byte

func expFlag(at int64) byte {
	switch {
	case at == 0:
		return expNone
	case at >= epoch && at-epoch < 1<<40:
		return expShort
	}
	return expLong
}

// SameWidth reports whether two deadlines take as many bytes in a record; 0 is none.
func SameWidth(a, b int64) bool { return a == b || expFlag(a) == expFlag(b) }

// expBytes is how many bytes a deadline takes, by its flag.
func expBytes(flag byte) int {
	switch flag & expMask {
	case expShort:
		return 5
	case expLong:
		return 8
	}
	return 0
}

func uvarintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// RecordSize is how many bytes a record takes in its block, with a deadline (0 for none) and a note or not. A value
// that is kept apart takes its pages beside that.
func RecordSize(key, value int, expireAt int64, note bool) int {
	n := 1 + expBytes(expFlag(expireAt)) + uvarintLen(key) + uvarintLen(value) + key
	if note {
		n += 4
	}
	if IsApart(key, value) {
		return n + 4
	}
	return n + value
}

// readUvarint is binary.Uvarint for the lengths in a record, which are below 2^30.
func readUvarint(b []byte) (n, width int) {
	if b[0] < 0x80 {
		return int(b[0]), 1
	}
	u, w := binary.Uvarint(b)
	return int(u), w
}

// lengths returns where the key begins, and the lengths of key and value.
func lengths(h []byte) (at, key, value int) {
	at = 1 + int(h[0]&flagNote)>>2 // 4 bytes of note
	at += expBytes(h[0])
	key, w := readUvarint(h[at:])
	at += w
	value, w = readUvarint(h[at:])
	return at + w, key, value
}

func sizeOf(h []byte) int {
	at, key, value := lengths(h)
	if h[0]&flagApart != 0 {
		value = 4
	}
	return at + key + value
}

// apartOf is the number of the pages of a value that is kept apart.
func apartOf(h []byte) uint32 {
	at, key, _ := lengths(h)
	return binary.LittleEndian.Uint32(h[at+key:])
}

// A Record is what lies at a Ref. Key and Value are the record's own bytes: Value may be written to, as long as nobody
// minds who read it before.
type Record struct {
	Kind     Kind
	Note     uint32
	ExpireAt int64 // milliseconds since 1970, 0 for never
	Key      []byte
	Value    []byte
	Room     int // bytes that a value kept apart can take without moving; len(Value) for others
}

// Open reads the record at r.
func (s *Store) Open(r Ref) (rec Record) {
	h := s.at(r)
	rec.Kind = Kind(h[0] & kindMask)
	at := 1
	if h[0]&flagNote != 0 {
		rec.Note = binary.LittleEndian.Uint32(h[1:])
		at = 5
	}
	switch h[0] & expMask {
	case expShort:
		rec.ExpireAt = int64(binary.LittleEndian.Uint32(h[at:])) + int64(h[at+4])<<32 + epoch
		at += 5
	case expLong:
		rec.ExpireAt = int64(binary.LittleEndian.Uint64(h[at:]))
		at += 8
	}
	key, w := readUvarint(h[at:])
	at += w
	value, w := readUvarint(h[at:])
	at += w
	rec.Key = h[at : at+key : at+key]
	at += key
	if h[0]&flagApart != 0 {
		mem := s.apart[binary.LittleEndian.Uint32(h[at:])].mem
		rec.Value, rec.Room = mem[:value:value], len(mem)
	} else {
		rec.Value, rec.Room = h[at:at+value:at+value], value
	}
	return rec
}

// Kind is what the value of the record at r is.
func (s *Store) Kind(r Ref) Kind { return Kind(s.at(r)[0] & kindMask) }

// Key returns the key of the record at r.
func (s *Store) Key(r Ref) []byte {
	h := s.at(r)
	at, key, _ := lengths(h)
	return h[at : at+key : at+key]
}

// Value returns the value of the record at r.
func (s *Store) Value(r Ref) []byte {
	h := s.at(r)
	at, key, value := lengths(h)
	at += key
	if h[0]&flagApart != 0 {
		return s.apart[binary.LittleEndian.Uint32(h[at:])].mem[:value:value]
	}
	return h[at : at+value : at+value]
}

// ExpireAt returns the deadline of the record at r in milliseconds since 1970, 0 for none.
func (s *Store) ExpireAt(r Ref) int64 {
	h := s.at(r)
	at := 1 + int(h[0]&flagNote)>>2
	switch h[0] & expMask {
	case expShort:
		return int64(binary.LittleEndian.Uint32(h[at:])) + int64(h[at+4])<<32 + epoch
	case expLong:
		return int64(binary.LittleEndian.Uint64(h[at:]))
	}
	return 0
}

// Note returns the note of the record at r, which has one.
func (s *Store) Note(r Ref) uint32 { return binary.LittleEndian.Uint32(s.at(r)[1:]) }

// SetNote writes the note of the record at r, which has one.
func (s *Store) SetNote(r Ref, note uint32) { binary.LittleEndian.PutUint32(s.at(r)[1:], note) }

// Size is how many bytes the record at r takes in its block.
func (s *Store) Size(r Ref) int { return sizeOf(s.at(r)) }

// make writes a new record with an empty value of so many bytes; room is how many a value kept apart gets at least.
func (s *Store) make(kind Kind, key []byte, value, room int, expireAt int64, note bool) Ref {
	if len(key) > MaxKey || kind == 0 || kind > kindMask {
		panic("dense: a key or a kind out of bounds")
	}
	s.made += int64(value)
	r := s.place(RecordSize(len(key), value, expireAt, note))
	h := s.at(r)
	flags := byte(kind) | expFlag(expireAt)
	at := 1
	if note {
		flags |= flagNote
		binary.LittleEndian.PutUint32(h[1:], 0)
		at = 5
	}
	if IsApart(len(key), value) {
		flags |= flagApart
	}
	h[0] = flags
	at += putExpire(h[at:], expireAt)
	at += binary.PutUvarint(h[at:], uint64(len(key)))
	at += binary.PutUvarint(h[at:], uint64(value))
	at += copy(h[at:], key)
	if flags&flagApart != 0 {
		binary.LittleEndian.PutUint32(h[at:], s.newApart(max(value, room)))
	}
	return r
}

// Made counts the bytes of values that room was ever made for, each time anew that one moves to grow or to shrink: what
// commands cost that write long values again and again. It depends on what was asked of the tables alone, not on where
// records lay.
func (s *Store) Made() int64 { return s.made }

func putExpire(h []byte, at int64) int {
	switch expFlag(at) {
	case expShort:
		at -= epoch
		binary.LittleEndian.PutUint32(h, uint32(at))
		h[4] = byte(at >> 32)
		return 5
	case expLong:
		binary.LittleEndian.PutUint64(h, uint64(at))
		return 8
	}
	return 0
}
