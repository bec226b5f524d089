package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/larder-cache/larder/internal/fault"
)

// A Reply takes the answer to a command, piece by piece, straight into a protocol's encoder.
//
// An aggregate is announced with its length and followed by that many elements (twice as many for a Map:
// key, value, key, value; and for Pairs, which are members with their scores or fields with their values:
// one flat list in RESP2, a list of two-element lists in RESP3; and for Keyed, which are keys with what was found
// under each: a list of two-element lists in RESP2, a map in RESP3). Byte slices are only lent: the receiver
// copies them before the call returns.
type Reply interface {
	Null()
	NullArray() // Redis's second null, where a list was asked for
	Bool(v bool)
	Int(n int64)
	Double(f float64)
	Status(s string) // a short word such as OK
	Bulk(b []byte)
	Text(s string) // Bulk for a string
	Array(n int)
	Map(n int)
	Pairs(n int)
	Keyed(n int)
	Set(n int)
	Error(e *fault.Error)
}

// AppendDouble writes a Double for clients that want text, as Redis does since 7.2: the shortest digits that give it back, with an exponent where a
// plain number would be long.
func AppendDouble(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	case math.IsNaN(f):
		return append(dst, "nan"...)
	case f == 0 && math.Signbit(f):
		return append(dst, "-0"...)
	case f == math.Trunc(f) && math.Abs(f) < 1<<52:
		return strconv.AppendInt(dst, int64(f), 10)
	}
	var text [32]byte
	science := strconv.AppendFloat(text[:0], f, 'e', -1, 64) // d.ddde±xx
	mark := bytes.IndexByte(science, 'e')
	exp, err := strconv.Atoi(string(science[mark+1:]))
	if err != nil {
		panic(err) // strconv wrote it
	}
	digits := mark
	if f < 0 {
		digits--
	}
	if digits > 1 {
		digits-- // the point
	}
	last := exp - digits + 1 // the power of ten of the last digit
	if size := max(exp, -exp); (last >= 0 && size < digits+7) || (last < 0 && (last > -7 || size < 4)) {
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	dst = append(dst, science[:mark]...)
	if exp < 0 {
		return strconv.AppendInt(append(dst, 'e'), int64(exp), 10)
	}
	return strconv.AppendInt(append(dst, "e+"...), int64(exp), 10)
}

// discard is the Reply of those who owe nobody an answer.
type discard struct{}

func (discard) Null()              {}
func (discard) NullArray()         {}
func (discard) Bool(bool)          {}
func (discard) Int(int64)          {}
func (discard) Double(float64)     {}
func (discard) Status(string)      {}
func (discard) Bulk([]byte)        {}
func (discard) Text(string)        {}
func (discard) Array(int)          {}
func (discard) Map(int)            {}
func (discard) Pairs(int)          {}
func (discard) Keyed(int)          {}
func (discard) Set(int)            {}
func (discard) Error(*fault.Error) {}

// ReplyKind tells the pieces of a Recording apart.
type ReplyKind byte

// The pieces of a reply.
const (
	ReplyEnd       ReplyKind = 0 // no more
	ReplyNull      ReplyKind = 'n'
	ReplyNullArray ReplyKind = 'N'
	ReplyTrue      ReplyKind = 't'
	ReplyFalse     ReplyKind = 'f'
	ReplyInt       ReplyKind = 'i'
	ReplyDouble    ReplyKind = 'd'
	ReplyStatus    ReplyKind = 's'
	ReplyBulk      ReplyKind = 'b'
	ReplyArray     ReplyKind = 'a'
	ReplyMap       ReplyKind = 'm'
	ReplyPairs     ReplyKind = 'p'
	ReplyKeyed     ReplyKind = 'k'
	ReplySet       ReplyKind = 'S'
	ReplyError     ReplyKind = 'e'
	ReplyDecimal   ReplyKind = 'D' // only in a Transcript
	ReplyEither    ReplyKind = 'E' // likewise: one value in two forms
)

// A Recording keeps replies as bytes, to be read by a Cursor or replayed into another Reply. It is how a
// typed HTTP resource reads an answer, and how an idempotent write remembers one. Reset it to use it again.
type Recording struct {
	b []byte
}

// Reset empties r and keeps its buffer.
func (r *Recording) Reset() { r.b = r.b[:0] }

// Truncate drops what was recorded after it had n bytes.
func (r *Recording) Truncate(n int) { r.b = r.b[:n] }

// Len is the recording's size in bytes.
func (r *Recording) Len() int { return len(r.b) }

// Cap is the size of the recording's buffer in bytes, for pools that keep only small ones.
func (r *Recording) Cap() int { return cap(r.b) }

// Clone returns a copy that is as small as it can be.
func (r *Recording) Clone() *Recording { return &Recording{b: append([]byte(nil), r.b...)} }

func (r *Recording) tag(k ReplyKind, n uint64) {
	r.b = append(r.b, byte(k))
	r.b = binary.AppendUvarint(r.b, n)
}

func (r *Recording) text(s string) {
	r.b = binary.AppendUvarint(r.b, uint64(len(s)))
	r.b = append(r.b, s...)
}

// Null records a null.
func (r *Recording) Null() { r.b = append(r.b, byte(ReplyNull)) }

// NullArray records a null where a list was asked for.
func (r *Recording) NullArray() { r.b = append(r.b, byte(ReplyNullArray)) }

// Bool records a truth value.
func (r *Recording) Bool(v bool) {
	k := ReplyFalse
	if v {
		k = ReplyTrue
	}
	r.b = append(r.b, byte(k))
}

// Int records an integer.
func (r *Recording) Int(n int64) {
	r.b = append(r.b, byte(ReplyInt))
	r.b = binary.AppendVarint(r.b, n)
}

// Double records a floating-point number.
func (r *Recording) Double(f float64) {
	r.b = append(r.b, byte(ReplyDouble))
	r.b = binary.LittleEndian.AppendUint64(r.b, math.Float64bits(f))
}

// Status records a status word.
func (r *Recording) Status(s string) {
	r.b = append(r.b, byte(ReplyStatus))
	r.text(s)
}

// Bulk records bytes.
func (r *Recording) Bulk(b []byte) {
	r.tag(ReplyBulk, uint64(len(b)))
	r.b = append(r.b, b...)
}

// Text records a string's bytes.
func (r *Recording) Text(s string) {
	r.b = append(r.b, byte(ReplyBulk))
	r.text(s)
}

// Array announces n elements.
func (r *Recording) Array(n int) { r.tag(ReplyArray, uint64(n)) }

// Map announces n pairs.
func (r *Recording) Map(n int) { r.tag(ReplyMap, uint64(n)) }

// Pairs announces n pairs in order.
func (r *Recording) Pairs(n int) { r.tag(ReplyPairs, uint64(n)) }

// Keyed announces n keys with what was found under each.
func (r *Recording) Keyed(n int) { r.tag(ReplyKeyed, uint64(n)) }

// Set announces n elements without order.
func (r *Recording) Set(n int) { r.tag(ReplySet, uint64(n)) }

// Error records a fault; its Op and cause, which are for our log, stay behind.
func (r *Recording) Error(e *fault.Error) {
	r.b = append(r.b, byte(ReplyError), byte(e.Kind))
	r.text(e.Message)
	r.text(e.Argument)
	r.text(e.Prefix)
	r.b = binary.AppendUvarint(r.b, uint64(e.RetryAfter))
}

// Replay writes all that was recorded into out.
func (r *Recording) Replay(out Reply) {
	for c := r.Cursor(); len(c.b) > 0; {
		c.Next().replay(out)
	}
}

// replay writes one piece.
func (t Token) replay(out Reply) {
	switch t.Kind {
	case ReplyNull:
		out.Null()
	case ReplyNullArray:
		out.NullArray()
	case ReplyTrue, ReplyFalse:
		out.Bool(t.Kind == ReplyTrue)
	case ReplyInt:
		out.Int(t.Int)
	case ReplyDouble:
		out.Double(t.Float)
	case ReplyStatus:
		out.Status(string(t.Bytes))
	case ReplyBulk:
		out.Bulk(t.Bytes)
	case ReplyDecimal:
		decimal(out, t.Bytes)
	case ReplyEither:
		two, three := &Recording{t.Bytes[:t.Int]}, &Recording{t.Bytes[t.Int:]}
		either(out, two.Replay, three.Replay)
	case ReplyArray:
		out.Array(int(t.Int))
	case ReplyMap:
		out.Map(int(t.Int))
	case ReplyPairs:
		out.Pairs(int(t.Int))
	case ReplyKeyed:
		out.Keyed(int(t.Int))
	case ReplySet:
		out.Set(int(t.Int))
	case ReplyError:
		out.Error(t.Err)
	}
}

// Cursor starts reading from the beginning.
func (r *Recording) Cursor() Cursor { return Cursor{b: r.b} }

// CursorAt starts reading behind the first n bytes, which are whole replies.
func (r *Recording) CursorAt(n int) Cursor { return Cursor{b: r.b[n:]} }

// Bytes are what was recorded, valid until r is used again.
func (r *Recording) Bytes() []byte { return r.b }

// ReplayBytes writes the bytes of a Recording that another node has made into out. An error says that they are none; by
// then out may have a part of them.
func ReplayBytes(b []byte, out Reply) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("engine: these bytes are no reply: %v", r)
		}
	}()
	(&Recording{b}).Replay(out)
	return nil
}

// A Transcript is a Recording that loses nothing on its way to another Reply: it remembers also which strings are numbers
// with digits of Redis's, and both forms of what RESP2 and RESP3 tell differently.
type Transcript struct{ Recording }

// Decimal records a number with given digits: see decimal.
func (t *Transcript) Decimal(digits []byte) { t.digits(digits) }

// Either records a value in both of its forms: see either.
func (t *Transcript) Either(two, three func(out Reply)) {
	var forms [2]Transcript
	two(&forms[0])
	three(&forms[1])
	t.forms(forms[0].b, forms[1].b)
}

func (r *Recording) forms(two, three []byte) {
	r.tag(ReplyEither, uint64(len(two)))
	r.b = binary.AppendUvarint(r.b, uint64(len(two)+len(three)))
	r.b = append(append(r.b, two...), three...)
}

func (r *Recording) digits(digits []byte) {
	r.tag(ReplyDecimal, uint64(len(digits)))
	r.b = append(r.b, digits...)
}

// A Cursor reads a Recording piece by piece. It trusts what it reads: recordings are made by this process
// or come from a node that proved who it is.
type Cursor struct {
	b []byte
}

// A Token is one piece of a reply. Int holds an integer or the length of an aggregate; Bytes points into
// the recording. Of two forms, Bytes holds one behind the other, and Int says where the second begins.
type Token struct {
	Kind  ReplyKind
	Int   int64
	Float float64
	Bytes []byte
	Err   *fault.Error
}

// Next returns the next piece, with Kind ReplyEnd after the last.
func (c *Cursor) Next() Token {
	if len(c.b) == 0 {
		return Token{}
	}
	t := Token{Kind: ReplyKind(c.b[0])}
	c.b = c.b[1:]
	switch t.Kind {
	case ReplyInt:
		n, size := binary.Varint(c.b)
		t.Int, c.b = n, c.b[size:]
	case ReplyDouble:
		t.Float, c.b = math.Float64frombits(binary.LittleEndian.Uint64(c.b)), c.b[8:]
	case ReplyStatus, ReplyBulk, ReplyDecimal:
		t.Bytes = c.bytes()
	case ReplyArray, ReplyMap, ReplyPairs, ReplyKeyed, ReplySet:
		t.Int = int64(c.uvarint())
	case ReplyEither:
		t.Int = int64(c.uvarint())
		t.Bytes = c.bytes()
	case ReplyError:
		e := &fault.Error{Kind: fault.Kind(c.b[0])}
		c.b = c.b[1:]
		e.Message, e.Argument, e.Prefix = string(c.bytes()), string(c.bytes()), string(c.bytes())
		e.RetryAfter = time.Duration(c.uvarint())
		t.Err = e
	}
	return t
}

// Skip passes over one whole value, aggregates with all that is in them.
func (c *Cursor) Skip() { c.Copy(nil) }

// Copy writes one whole value, aggregates with all that is in them. A nil out passes over it.
func (c *Cursor) Copy(out Reply) {
	for left := int64(1); left > 0; left-- {
		t := c.Next()
		if out != nil {
			t.replay(out)
		}
		switch t.Kind {
		case ReplyArray, ReplySet:
			left += t.Int
		case ReplyMap, ReplyPairs, ReplyKeyed:
			left += 2 * t.Int
		case ReplyEnd:
			return
		}
	}
}

func (c *Cursor) uvarint() uint64 {
	n, size := binary.Uvarint(c.b)
	c.b = c.b[size:]
	return n
}

func (c *Cursor) bytes() []byte {
	n := c.uvarint()
	b := c.b[:n:n]
	c.b = c.b[n:]
	return b
}

// decimal writes a number with the digits that Redis gives it: a string in RESP2, a double in RESP3 for receivers that
// know how to write one with given digits.
func decimal(out Reply, digits []byte) {
	if d, ok := out.(interface{ Decimal(digits []byte) }); ok {
		d.Decimal(digits)
		return
	}
	out.Bulk(digits)
}

// either answers with one value that has two forms: three for receivers that speak RESP3, two for all others. Each writes one
// whole value, and may be called more than once.
func either(out Reply, two, three func(out Reply)) {
	if e, ok := out.(interface {
		Either(two, three func(out Reply))
	}); ok {
		e.Either(two, three)
		return
	}
	two(out)
}
