// Package jsondoc keeps a JSON document as one run of bytes, without pointers.
//
// A Doc is what a key's record holds of a document, whatever its size: nothing for the garbage collector to visit, an
// exact account for free, and two replicas that made the same changes hold the same bytes. A place in a document is
// the offset of a value in it. Reading walks the bytes; changing makes the bytes anew in one pass (see Doc.Edit),
// which costs O(size) as storing a string of that size does.
//
// Values are written in one way only, the shortest:
//
//	00 01 02          null, false, true
//	03 varint         an integer, zigzag
//	04 8 bytes        an integer above the largest int64, little-endian
//	05 8 bytes        a double, little-endian
//	06 uvarint bytes  a string of 64 bytes or more
//	07 s n            an array whose elements take s bytes, at most 255, and are n
//	08 s n            the same with four bytes for each of s and n, little-endian
//	09 s n, 0a s n    an object likewise; before each value stands its name, as uvarint and bytes
//	40+n bytes        a string of n bytes, at most 63
//	80+i              an integer of 0 to 127
//
// Members keep the order in which they came. Start with Parse, then Doc.Children.
package jsondoc

import (
	"encoding/binary"
	"math"
)

// A Doc is a document: one value with all that is in it. Its methods trust it; bytes that come from elsewhere are
// looked at with Check first.
type Doc []byte

// MaxDepth is how many arrays and objects may lie within each other.
const MaxDepth = 128

// Kind is a sort of value.
type Kind uint8

// The kinds of values.
const (
	Null Kind = iota
	Bool
	Integer
	Number // with a fraction, an exponent, or beyond 64 bits
	String
	Array
	Object
)

// String is the kind's name as JSON.TYPE gives it.
func (k Kind) String() string {
	return [...]string{"null", "boolean", "integer", "number", "string", "array", "object"}[k]
}

// The first byte of a value.
const (
	tagNull byte = iota
	tagFalse
	tagTrue
	tagInt
	tagUint
	tagDouble
	tagString
	tagArray
	tagLongArray
	tagObject
	tagLongObject
	numTags

	tagShort = 0x40
	tagSmall = 0x80
)

const (
	shortMost  = tagSmall - tagShort - 1 // bytes in a short string
	smallMost  = 0xff - tagSmall
	tersest    = 0xff // bytes in an array or object with a short head
	shortHead  = 3
	longHead   = 9
	headMargin = longHead - shortHead
)

// A head is what the beginning of a value tells.
type head struct {
	kind      Kind
	n         int // bytes of a string, elements of an array, members of an object
	body, end int // where what follows begins and ends
}

func (d Doc) head(at int) head {
	t := d[at]
	switch {
	case t >= tagSmall:
		return head{Integer, 0, at + 1, at + 1}
	case t >= tagShort:
		n := int(t - tagShort)
		return head{String, n, at + 1, at + 1 + n}
	}
	switch t {
	case tagInt:
		_, size := binary.Varint(d[at+1:])
		return head{Integer, 0, at + 1, at + 1 + size}
	case tagUint:
		return head{Integer, 0, at + 1, at + 9}
	case tagDouble:
		return head{Number, 0, at + 1, at + 9}
	case tagString:
		n, size := binary.Uvarint(d[at+1:])
		return head{String, int(n), at + 1 + size, at + 1 + size + int(n)}
	case tagArray, tagObject:
		return head{container(t), int(d[at+2]), at + shortHead, at + shortHead + int(d[at+1])}
	case tagLongArray, tagLongObject:
		return head{container(t), int(binary.LittleEndian.Uint32(d[at+5:])), at + longHead, at + longHead + int(binary.LittleEndian.Uint32(d[at+1:]))}
	case tagNull:
		return head{Null, 0, at + 1, at + 1}
	}
	return head{Bool, 0, at + 1, at + 1}
}

func container(tag byte) Kind {
	if tag >= tagObject {
		return Object
	}
	return Array
}

// Kind is the kind of the value at a place.
func (d Doc) Kind(at int) Kind { return d.head(at).kind }

// End is where the value at a place ends.
func (d Doc) End(at int) int { return d.head(at).end }

// Value is the bytes of the value at a place: a document of its own.
func (d Doc) Value(at int) Doc { return d[at:d.head(at).end] }

// Len is how many elements an array, members an object or bytes a string has.
func (d Doc) Len(at int) int { return d.head(at).n }

// Bool is the truth value at a place.
func (d Doc) Bool(at int) bool { return d[at] == tagTrue }

// Text is the string at a place; its bytes are the document's.
func (d Doc) Text(at int) []byte {
	h := d.head(at)
	return d[h.body:h.end]
}

// Int is the integer at a place; ok is false when it is above the largest int64, or no integer.
func (d Doc) Int(at int) (n int64, ok bool) {
	switch t := d[at]; {
	case t >= tagSmall:
		return int64(t - tagSmall), true
	case t == tagInt:
		n, _ = binary.Varint(d[at+1:])
		return n, true
	}
	return 0, false
}

// Float is the number at a place, rounded to a double where it is an integer that has none.
func (d Doc) Float(at int) float64 {
	switch d[at] {
	case tagUint:
		return float64(binary.LittleEndian.Uint64(d[at+1:]))
	case tagDouble:
		return math.Float64frombits(binary.LittleEndian.Uint64(d[at+1:]))
	}
	n, _ := d.Int(at)
	return float64(n)
}

// Children are the elements of an array or the members of an object, in order.
type Children struct {
	d        Doc
	next     int
	end      int
	isObject bool
}

// Children begins with the first child of the value at a place; other values have none.
func (d Doc) Children(at int) Children {
	h := d.head(at)
	if h.kind < Array {
		return Children{}
	}
	return Children{d: d, next: h.body, end: h.end, isObject: h.kind == Object}
}

// Next returns the place of the next child and, in an object, its name; ok is false after the last.
func (c *Children) Next() (name []byte, at int, ok bool) {
	if c.next >= c.end {
		return nil, 0, false
	}
	at = c.next
	if c.isObject {
		name, at = c.d.name(at)
	}
	c.next = c.d.head(at).end
	return name, at, true
}

// name returns the member's name at a place, and where its value is.
func (d Doc) name(at int) (name []byte, value int) {
	n, size := int(d[at]), 1
	if n >= 0x80 {
		long, s := binary.Uvarint(d[at:])
		n, size = int(long), s
	}
	return d[at+size : at+size+n], at + size + n
}

// Member finds the value of the member called name in an object, in O(n).
func (d Doc) Member(at int, name string) (value int, ok bool) {
	c := d.Children(at)
	if !c.isObject {
		return 0, false
	}
	for {
		have, value, more := c.Next()
		if !more {
			return 0, false
		}
		if string(have) == name {
			return value, true
		}
	}
}

// Element finds element i of an array, counted from the end when negative, in O(n).
func (d Doc) Element(at int, i int64) (value int, ok bool) {
	h := d.head(at)
	if i < 0 {
		i += int64(h.n)
	}
	if h.kind != Array || i < 0 || i >= int64(h.n) {
		return 0, false
	}
	for value = h.body; i > 0; i-- {
		value = d.head(value).end
	}
	return value, true
}

// Depth is how many arrays and objects lie within each other in the value at a place, itself included.
func (d Doc) Depth(at int) (depth int) {
	h := d.head(at)
	if h.kind < Array {
		return 0
	}
	for c := d.Children(at); ; {
		_, child, ok := c.Next()
		if !ok {
			return depth + 1
		}
		if d[child] >= tagArray && d[child] < numTags {
			depth = max(depth, d.Depth(child))
		}
	}
}

// AppendNull appends null.
func AppendNull(dst []byte) []byte { return append(dst, tagNull) }

// AppendBool appends a truth value.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, tagTrue)
	}
	return append(dst, tagFalse)
}

// AppendInt appends an integer.
func AppendInt(dst []byte, n int64) []byte {
	if 0 <= n && n <= smallMost {
		return append(dst, tagSmall+byte(n))
	}
	return binary.AppendVarint(append(dst, tagInt), n)
}

// AppendUint appends an integer that may be above the largest int64.
func AppendUint(dst []byte, n uint64) []byte {
	if n <= math.MaxInt64 {
		return AppendInt(dst, int64(n))
	}
	return binary.LittleEndian.AppendUint64(append(dst, tagUint), n)
}

// AppendFloat appends a double, which is finite.
func AppendFloat(dst []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, tagDouble), math.Float64bits(f))
}

// AppendString appends a string in UTF-8.
func AppendString[T string | []byte](dst []byte, s T) []byte {
	if len(s) <= shortMost {
		return append(append(dst, tagShort+byte(len(s))), s...)
	}
	return append(binary.AppendUvarint(append(dst, tagString), uint64(len(s))), s...)
}

// AppendEmpty appends an array or an object with nothing in it.
func AppendEmpty(dst []byte, kind Kind) []byte {
	if kind == Object {
		return append(dst, tagObject, 0, 0)
	}
	return append(dst, tagArray, 0, 0)
}

func appendName(dst, name []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(name))), name...)
}

// begin leaves room for the head of an array or object, whose children are to be appended.
func begin(dst []byte) []byte { return append(dst, make([]byte, longHead)...) }

// finish writes the head of a container with n children that was begun at a place, and ends where dst does. A short
// head moves at most 255 bytes, a long one none: documents of any depth are written in O(size).
func finish(dst []byte, at int, kind Kind, n int) []byte {
	tag, size := tagArray, len(dst)-at-longHead
	if kind == Object {
		tag = tagObject
	}
	if size > tersest {
		dst[at] = tag + 1
		binary.LittleEndian.PutUint32(dst[at+1:], uint32(size))
		binary.LittleEndian.PutUint32(dst[at+5:], uint32(n))
		return dst
	}
	dst[at], dst[at+1], dst[at+2] = tag, byte(size), byte(n)
	copy(dst[at+shortHead:], dst[at+longHead:])
	return dst[:len(dst)-headMargin]
}
