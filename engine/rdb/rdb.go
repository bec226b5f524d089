// Package rdb reads and writes values as Redis does in its RDB files and in what DUMP answers.
//
// It knows the format and nothing of the engine: a Decoder tells a Sink what a value holds, element by element, so that
// whoever builds the value decides how to keep it, and an import of whole files can use the same code. What it reads comes
// from outside: nothing makes it panic, read beyond the end, or allocate more than its Limits.
//
// It reads every type that Redis 2.0 to 8 and Valkey 7 to 9 write, but for modules and the types of release candidates.
// It writes the plain ones, which all of them read; a server repacks what is small when it loads it.
//
// Start with Decoder.Value; dump.go has the envelope of DUMP, file.go that of files.
package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// A Type is the first byte of a value: what it is and how it is written.
type Type byte

// The types.
const (
	TypeString           Type = 0
	TypeList             Type = 1
	TypeSet              Type = 2
	TypeZSetText         Type = 3 // scores as text
	TypeHash             Type = 4
	TypeZSet             Type = 5
	TypeModuleOld        Type = 6 // of release candidates: nobody but the module knows where it ends
	TypeModule           Type = 7
	TypeHashZipmap       Type = 9 // before Redis 2.6
	TypeListZiplist      Type = 10
	TypeSetIntset        Type = 11
	TypeZSetZiplist      Type = 12
	TypeHashZiplist      Type = 13
	TypeListQuicklist    Type = 14 // of ziplists
	TypeStream           Type = 15
	TypeHashListpack     Type = 16
	TypeZSetListpack     Type = 17
	TypeListQuicklist2   Type = 18 // of listpacks
	TypeStream2          Type = 19 // with what XINFO STREAM counts
	TypeSetListpack      Type = 20
	TypeStream3          Type = 21 // with when a consumer was last active
	TypeHashValkey       Type = 22 // with deadlines of fields; in Redis a type of release candidates
	TypeHashDeadlines    Type = 24 // with deadlines of fields, which count from the first
	TypeHashListpackTTLs Type = 25
)

// A Kind is a Redis data type, whatever it is written as.
type Kind byte

// The kinds.
const (
	Unknown Kind = iota
	String
	List
	Set
	SortedSet
	Hash
	Stream
)

// Kind tells what is written so, Unknown when this package cannot read it.
func (t Type) Kind() Kind {
	switch t {
	case TypeString:
		return String
	case TypeList, TypeListZiplist, TypeListQuicklist, TypeListQuicklist2:
		return List
	case TypeSet, TypeSetIntset, TypeSetListpack:
		return Set
	case TypeZSetText, TypeZSet, TypeZSetZiplist, TypeZSetListpack:
		return SortedSet
	case TypeHash, TypeHashZipmap, TypeHashZiplist, TypeHashListpack, TypeHashValkey, TypeHashDeadlines, TypeHashListpackTTLs:
		return Hash
	case TypeStream, TypeStream2, TypeStream3:
		return Stream
	}
	return Unknown
}

var (
	// ErrFormat is the error of bytes that are not a value.
	ErrFormat = errors.New("rdb: bad data format")
	// ErrTooLarge is the error of a value beyond the Limits.
	ErrTooLarge = errors.New("rdb: the value is too large")
)

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}

// A Sink is told what a value holds, in order. Slices stay as they are as long as the source does. An error ends the reading
// and is its result.
type Sink interface {
	String(text []byte) error
	Element(text []byte) error                          // of a list or a set, of which a member may come twice
	Member(name []byte, score float64) error            // of a sorted set; never NaN; may come twice
	Field(name, value []byte, deadline int64) error     // of a hash; in milliseconds since 1970, 0 for none; may come twice
	Entry(id StreamID, fields [][]byte) error           // of a stream, ids ascending; names and values in turn
	Stream(marks StreamMarks) error                     // behind the entries
	Group(name []byte, last StreamID, read int64) error // of a stream; read is -1 where it is not known
	Pending(id StreamID, at int64, times uint64) error  // of the group, ids ascending
	Consumer(name []byte, seen, active int64) error     // of the group, behind all that is pending; active is -1 for never
	Owed(id StreamID) error                             // pending to that consumer
}

// A StreamID names an entry of a stream.
type StreamID struct{ Ms, Seq uint64 }

// Less reports whether id is before other.
func (id StreamID) Less(other StreamID) bool {
	return id.Ms < other.Ms || id.Ms == other.Ms && id.Seq < other.Seq
}

// StreamMarks are what a stream knows beside its entries. Added is known only if Counted.
type StreamMarks struct {
	Last, Deleted StreamID
	Added         uint64
	Counted       bool
}

// Limits bound what one value may hold, whatever it claims.
type Limits struct {
	Text     int64 // bytes in one text, uncompressed
	Total    int64 // bytes in all texts, uncompressed
	Elements int64 // how many: elements, members, fields, entries, pending ones and consumers
}

// A Decoder reads values from bytes.
type Decoder struct {
	Limits
	Version int // of the format, by which some types differ

	rest []byte
	src  *source // where more comes from; nil for nowhere
	lost bool    // a text of the value under way was longer than the limit, and was left out
}

// NewDecoder reads from b, which must stay as it is.
func NewDecoder(b []byte, version int, limits Limits) *Decoder {
	return &Decoder{Limits: limits, Version: version, rest: b}
}

// Rest is what has not been read yet.
func (d *Decoder) Rest() []byte { return d.rest }

func (d *Decoder) take(n uint64) ([]byte, error) {
	if n > uint64(len(d.rest)) {
		if err := d.more(n); err != nil {
			return nil, err
		}
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b, nil
}

func (d *Decoder) byte() (byte, error) {
	b, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// spend counts bytes and elements against the limits.
func (d *Decoder) spend(bytes, elements int64) error {
	d.Total -= bytes
	d.Elements -= elements
	if d.Total < 0 || d.Elements < 0 {
		return ErrTooLarge
	}
	return nil
}

// Type reads the type of a value.
func (d *Decoder) Type() (Type, error) {
	b, err := d.byte()
	return Type(b), err
}

// length reads a number, or how a text is encoded.
func (d *Decoder) length() (n uint64, encoded bool, err error) {
	first, err := d.byte()
	if err != nil {
		return 0, false, err
	}
	var b []byte
	switch {
	case first>>6 == 0:
		return uint64(first & 63), false, nil
	case first>>6 == 1:
		b, err = d.take(1)
		if err != nil {
			return 0, false, err
		}
		return uint64(first&63)<<8 | uint64(b[0]), false, nil
	case first>>6 == 3:
		return uint64(first & 63), true, nil
	case first == 0x80:
		if b, err = d.take(4); err != nil {
			return 0, false, err
		}
		return uint64(binary.BigEndian.Uint32(b)), false, nil
	case first == 0x81:
		if b, err = d.take(8); err != nil {
			return 0, false, err
		}
		return binary.BigEndian.Uint64(b), false, nil
	}
	return 0, false, bad("a length begins with %#x", first)
}

// Length reads a number.
func (d *Decoder) Length() (uint64, error) {
	n, encoded, err := d.length()
	if encoded {
		return 0, bad("a text where a number is expected")
	}
	return n, err
}

// How a text may be encoded, behind the two highest bits of its first byte, which are set.
const (
	encodedInt8  = 0
	encodedInt16 = 1
	encodedInt32 = 2
	encodedLZF   = 3

	encodedText = 0xc0
)

// Text reads a text.
func (d *Decoder) Text() ([]byte, error) {
	n, encoded, err := d.length()
	switch {
	case err != nil:
		return nil, err
	case !encoded && n > uint64(d.Limits.Text):
		return nil, d.leaveOut(n)
	case !encoded:
		b, err := d.take(n)
		if err != nil {
			return nil, err
		}
		return b, d.spend(int64(n), 0)
	case n == encodedLZF:
		return d.compressed()
	case n > encodedLZF:
		return nil, bad("encoding %d of a text", n)
	}
	b, err := d.take(1 << n)
	if err != nil {
		return nil, err
	}
	var wide [8]byte
	copy(wide[:], b)
	shift := 64 - 8*len(b)
	number := int64(binary.LittleEndian.Uint64(wide[:])) << shift >> shift
	return strconv.AppendInt(nil, number, 10), d.spend(11, 0)
}

func (d *Decoder) compressed() ([]byte, error) {
	size, err := d.Length()
	if err != nil {
		return nil, err
	}
	n, err := d.Length()
	if err != nil {
		return nil, err
	}
	if n > uint64(d.Limits.Text) {
		return nil, d.leaveOut(size)
	}
	if err := d.spend(int64(n), 0); err != nil {
		return nil, err
	}
	b, err := d.take(size)
	if err != nil {
		return nil, err
	}
	return decompress(b, int(n))
}

func (d *Decoder) double() (float64, error) {
	b, err := d.take(8)
	if err != nil {
		return 0, err
	}
	return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
}

// textDouble reads a number written as text behind its length, as of old.
func (d *Decoder) textDouble() (float64, error) {
	n, err := d.byte()
	switch {
	case err != nil:
		return 0, err
	case n == 253:
		return math.NaN(), nil
	case n == 254:
		return math.Inf(1), nil
	case n == 255:
		return math.Inf(-1), nil
	}
	b, err := d.take(uint64(n))
	if err != nil {
		return 0, err
	}
	return parseScore(b)
}

func parseScore(b []byte) (float64, error) {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil {
		return 0, bad("score %.40q", b)
	}
	return f, nil
}

// millis reads a time in milliseconds since 1970.
func (d *Decoder) millis() (int64, error) {
	b, err := d.take(8)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint64(b)), nil
}

// Value reads a value of a type and tells sink what it holds.
func (d *Decoder) Value(t Type, sink Sink) error {
	if d.src == nil {
		return d.value(t, sink)
	}
	d.lost = false
	if err := d.value(t, &cautious{sink, d}); err != nil {
		return err
	}
	if d.lost {
		return ErrTooLarge
	}
	return nil
}

func (d *Decoder) value(t Type, sink Sink) error {
	switch t {
	case TypeString:
		text, err := d.Text()
		if err != nil {
			return err
		}
		if err := d.spend(0, 1); err != nil {
			return err
		}
		return sink.String(text)
	case TypeList, TypeSet:
		return d.texts(sink.Element)
	case TypeListQuicklist, TypeListQuicklist2:
		return d.quicklist(t == TypeListQuicklist2, sink)
	case TypeListZiplist, TypeSetIntset, TypeSetListpack, TypeZSetZiplist, TypeZSetListpack, TypeHashZiplist, TypeHashListpack, TypeHashListpackTTLs:
		return d.packed(t, sink)
	case TypeZSetText, TypeZSet:
		return d.sortedSet(t == TypeZSet, sink)
	case TypeHash, TypeHashDeadlines, TypeHashValkey:
		return d.hash(t, sink)
	case TypeHashZipmap:
		return d.zipmap(sink)
	case TypeStream, TypeStream2, TypeStream3:
		return d.stream(t, sink)
	}
	return bad("type %d", t)
}

// count reads how many elements follow, of which there is at least one: Redis has no empty collections.
func (d *Decoder) count() (uint64, error) {
	n, err := d.Length()
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, bad("an empty collection")
	case d.src == nil && n > uint64(len(d.rest)): // each takes a byte at least
		return 0, bad("%d elements in %d bytes", n, len(d.rest))
	case n > math.MaxInt64:
		return 0, bad("%d elements", n)
	}
	return n, d.spend(0, int64(n))
}

func (d *Decoder) texts(visit func([]byte) error) error {
	n, err := d.count()
	if err != nil {
		return err
	}
	for range n {
		text, err := d.Text()
		if err != nil {
			return err
		}
		if err := visit(text); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) sortedSet(binary bool, sink Sink) error {
	n, err := d.count()
	if err != nil {
		return err
	}
	read := d.textDouble
	if binary {
		read = d.double
	}
	for range n {
		name, err := d.Text()
		if err != nil {
			return err
		}
		score, err := read()
		if err != nil {
			return err
		}
		if math.IsNaN(score) {
			return bad("a score that is no number")
		}
		if err := sink.Member(name, score); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) hash(t Type, sink Sink) error {
	if t == TypeHashValkey && d.Version < firstValkey {
		return bad("type %d of version %d", t, d.Version)
	}
	var first int64 // the earliest deadline, from which others count
	var err error
	if t == TypeHashDeadlines {
		if first, err = d.millis(); err != nil {
			return err
		}
	}
	n, err := d.count()
	if err != nil {
		return err
	}
	for range n {
		var after uint64
		if t == TypeHashDeadlines {
			if after, err = d.Length(); err != nil {
				return err
			}
		}
		name, err := d.Text()
		if err != nil {
			return err
		}
		value, err := d.Text()
		if err != nil {
			return err
		}
		deadline := int64(0)
		switch {
		case t == TypeHashValkey:
			if deadline, err = d.millis(); err != nil {
				return err
			}
		case after > 0:
			deadline = first + int64(after) - 1
		}
		if t == TypeHashValkey && deadline == -1 {
			deadline = 0
		} else if deadline < 0 || after > math.MaxInt64/2 {
			return bad("deadline %d of a field", deadline)
		}
		if err := sink.Field(name, value, deadline); err != nil {
			return err
		}
	}
	return nil
}

// quicklist reads a list of nodes, each a pack of elements, or one large element alone.
func (d *Decoder) quicklist(listpacks bool, sink Sink) error {
	const plain, packed = 1, 2
	n, err := d.count()
	if err != nil {
		return err
	}
	empty := true
	for range n {
		kind := uint64(packed)
		if listpacks {
			if kind, err = d.Length(); err != nil {
				return err
			}
		}
		text, err := d.Text()
		if err != nil {
			return err
		}
		switch {
		case text == nil && d.lost:
			empty = false
		case kind == plain:
			empty = false
			err = sink.Element(text)
		case kind != packed:
			err = bad("a list's node of kind %d", kind)
		default:
			p := pack{ziplist: !listpacks}
			if err = p.open(text); err != nil {
				return err
			}
			err = d.eachOf(&p, func(e packEntry) error {
				empty = false
				return sink.Element(e.bytes())
			})
		}
		if err != nil {
			return err
		}
	}
	if empty {
		return bad("an empty collection")
	}
	return nil
}

// eachOf visits the entries of a pack, and counts them against the limits.
func (d *Decoder) eachOf(p *pack, visit func(e packEntry) error) error {
	for {
		e, ok, err := p.next()
		if err != nil {
			return err
		}
		if !ok {
			return nil
		}
		if err := d.spend(0, 1); err != nil {
			return err
		}
		if err := visit(e); err != nil {
			return err
		}
	}
}

// packed reads a collection that is one text of packed entries.
func (d *Decoder) packed(t Type, sink Sink) error {
	if t == TypeHashListpackTTLs {
		if _, err := d.millis(); err != nil { // the earliest deadline, which the entries tell too
			return err
		}
	}
	text, err := d.Text()
	if err != nil {
		return err
	}
	if text == nil && d.lost {
		return nil
	}
	if t == TypeSetIntset {
		return d.intset(text, sink)
	}
	p := pack{ziplist: t == TypeListZiplist || t == TypeZSetZiplist || t == TypeHashZiplist}
	if err := p.open(text); err != nil {
		return err
	}
	var group [3]packEntry // what belongs together
	size, n := 1, 0
	switch {
	case t == TypeHashListpackTTLs:
		size = 3
	case t.Kind() == Hash || t.Kind() == SortedSet:
		size = 2
	}
	empty := true
	err = d.eachOf(&p, func(e packEntry) error {
		group[n], empty = e, false
		if n++; n < size {
			return nil
		}
		n = 0
		return tell(t, &group, sink)
	})
	switch {
	case err != nil:
		return err
	case empty:
		return bad("an empty collection")
	case n > 0:
		return bad("%d entries too many", n)
	}
	return nil
}

// tell passes on the entries that make an element.
func tell(t Type, group *[3]packEntry, sink Sink) error {
	first := group[0].bytes()
	switch t.Kind() {
	case SortedSet:
		score, err := group[1].float()
		if err != nil {
			return err
		}
		return sink.Member(first, score)
	case Hash:
		deadline := int64(0)
		if t == TypeHashListpackTTLs {
			var ok bool
			if deadline, ok = group[2].integer(); !ok || deadline < 0 {
				return bad("deadline %q of a field", group[2].bytes())
			}
		}
		return sink.Field(first, group[1].bytes(), deadline)
	}
	return sink.Element(first)
}

func (d *Decoder) intset(b []byte, sink Sink) error {
	if len(b) < 8 {
		return bad("an intset of %d bytes", len(b))
	}
	width, n := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
	b = b[8:]
	if (width != 2 && width != 4 && width != 8) || n == 0 || n*width != uint64(len(b)) {
		return bad("an intset of %d integers of %d bytes in %d", n, width, len(b))
	}
	if err := d.spend(0, int64(n)); err != nil {
		return err
	}
	for ; len(b) > 0; b = b[width:] {
		var wide [8]byte
		copy(wide[:], b[:width])
		shift := 64 - 8*width
		number := int64(binary.LittleEndian.Uint64(wide[:])) << shift >> shift
		if err := sink.Element(strconv.AppendInt(nil, number, 10)); err != nil {
			return err
		}
	}
	return nil
}
