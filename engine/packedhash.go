package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
)

// A packed hash is the small form of a hash, as it lies in its record:
//
//	head, 1 byte                 the number of fields less one; its high bit says that one of them has a deadline
//	earliest deadline, 6 bytes   with that bit: milliseconds since 1970
//	the fields, in the order in which they came, each:
//	    timedMark and its deadline, 7 bytes   if it has one
//	    field, value                          elements
//
// An element is a byte that says what follows: 0 to 64 a text of so many bytes, smallNumber+n the number n, below 128, or
// wideNumber+k a number of k bytes. What reads as a number is always written as one, in as few bytes as can hold
// it, so equal elements have equal bytes.
const (
	packedFields = 128 // the most fields in the small form; Redis's bound too
	packedText   = 64  // the most bytes in an element of it
	packedAgain  = 32  // a large hash that has so few fields becomes small again, if it can

	timedHash     = 0x80
	deadlineBytes = 6

	smallNumber = 65
	wideNumber  = smallNumber + 128 - 1
	timedMark   = 255
)

// elementSize is how many bytes an element takes, by its first byte; 0 for what begins none.
var elementSize = func() (size [256]uint8) {
	for n := range packedText + 1 {
		size[n] = uint8(1 + n)
	}
	for n := range 128 {
		size[smallNumber+n] = 1
	}
	for k := 1; k <= 8; k++ {
		size[wideNumber+k] = uint8(1 + k)
	}
	return size
}()

// An element is a field or a value: a text or, in a packed hash, perhaps a number.
type element struct {
	text   []byte
	n      int64
	number bool
}

// len is how many bytes the element has, written out.
func (e element) len() int {
	if !e.number {
		return len(e.text)
	}
	var buf [20]byte
	return len(strconv.AppendInt(buf[:0], e.n, 10))
}

// append appends the element, written out.
func (e element) append(dst []byte) []byte {
	if e.number {
		return strconv.AppendInt(dst, e.n, 10)
	}
	return append(dst, e.text...)
}

// appendElement appends a text of at most packedText bytes as an element.
func appendElement(dst, text []byte) []byte {
	n, ok := parseInt(text)
	switch {
	case !ok:
		return append(append(dst, byte(len(text))), text...)
	case 0 <= n && n < 128:
		return append(dst, smallNumber+byte(n))
	}
	k := numberWidth(n)
	dst = append(dst, wideNumber+byte(k))
	for ; k > 0; k-- {
		dst = append(dst, byte(n))
		n >>= 8
	}
	return dst
}

// numberWidth is how few bytes can hold n with its sign.
func numberWidth(n int64) int {
	return bits.Len64(uint64(n^n>>63))/8 + 1
}

// readElement reads the element that b begins with.
func readElement(b []byte) element {
	switch t := b[0]; {
	case t <= packedText:
		return element{text: b[1 : 1+int(t)]}
	case t <= wideNumber:
		return element{n: int64(t - smallNumber), number: true}
	default:
		var n uint64
		k := int(t - wideNumber)
		for i := k; i > 0; i-- {
			n = n<<8 | uint64(b[i])
		}
		shift := 64 - 8*k
		return element{n: int64(n) << shift >> shift, number: true}
	}
}

func readDeadline(b []byte) int64 {
	return int64(binary.LittleEndian.Uint32(b)) | int64(binary.LittleEndian.Uint16(b[4:]))<<32
}

func appendDeadline(dst []byte, at int64) []byte {
	return append(dst, byte(at), byte(at>>8), byte(at>>16), byte(at>>24), byte(at>>32), byte(at>>40))
}

// packedHash is the bytes of a packed hash; nil is one without fields, which is never stored.
type packedHash []byte

func (b packedHash) len() int {
	if len(b) == 0 {
		return 0
	}
	return int(b[0]&^timedHash) + 1
}

// wakes is the earliest deadline of a field, 0 for none. O(1).
func (b packedHash) wakes() int64 {
	if len(b) == 0 || b[0]&timedHash == 0 {
		return 0
	}
	return readDeadline(b[1:])
}

// body is where the fields begin.
func (b packedHash) body() int {
	if len(b) > 0 && b[0]&timedHash != 0 {
		return 1 + deadlineBytes
	}
	return min(1, len(b))
}

// A packedField says where a field of a packed hash lies: begin, the elements field and value, end.
type packedField struct{ begin, field, value, end int }

// at is the field that begins there.
func (b packedHash) at(begin int) (f packedField) {
	f.begin, f.field = begin, begin
	if b[begin] == timedMark {
		f.field += 1 + deadlineBytes
	}
	f.value = f.field + int(elementSize[b[f.field]])
	f.end = f.value + int(elementSize[b[f.value]])
	return f
}

// deadline is when a field expires, 0 for never.
func (b packedHash) deadline(f packedField) int64 {
	if f.field == f.begin {
		return 0
	}
	return readDeadline(b[f.begin+1:])
}

// find looks for a field, given as an element's bytes.
func (b packedHash) find(field []byte) (f packedField, ok bool) {
	for at := b.body(); at < len(b); {
		e := at
		if b[e] == timedMark {
			e += 1 + deadlineBytes
		}
		size := int(elementSize[b[e]])
		if size == len(field) && b[e] == field[0] && string(b[e:e+size]) == string(field) {
			return b.at(at), true
		}
		at = e + size
		at += int(elementSize[b[at]])
	}
	return f, false
}

// passed counts the fields whose time has come.
func (b packedHash) passed(now int64) (n int) {
	if at := b.wakes(); at == 0 || at > now {
		return 0
	}
	for at := b.body(); at < len(b); {
		f := b.at(at)
		if d := b.deadline(f); d != 0 && d <= now {
			n++
		}
		at = f.end
	}
	return n
}

// splice puts what insert says in the place of the bytes from begin to end.
func (b packedHash) splice(begin, end int, insert []byte) packedHash {
	tail := len(b) - end
	grow := len(insert) - (end - begin)
	for range grow {
		b = append(b, 0)
	}
	copy(b[begin+len(insert):], b[end:end+tail])
	copy(b[begin:], insert)
	return b[:begin+len(insert)+tail]
}

// with gives a field a value and a deadline, 0 for none; f is where it is, if it is there. The bytes change where they are.
func (b packedHash) with(f packedField, there bool, field, value []byte, at int64) packedHash {
	var buf [1 + deadlineBytes + 2*(1+packedText)]byte
	entry := buf[:0]
	if at != 0 {
		entry = appendDeadline(append(entry, timedMark), at)
	}
	entry = appendElement(append(entry, field...), value)
	if there {
		before := b.deadline(f)
		return b.splice(f.begin, f.end, entry).stamped(before, at)
	}
	if len(b) == 0 {
		b = append(b, 0)
	} else {
		b[0]++
	}
	return append(b, entry...).stamped(0, at)
}

// without takes a field out.
func (b packedHash) without(f packedField) packedHash {
	if b.len() == 1 {
		return b[:0]
	}
	before := b.deadline(f)
	b[0]--
	return b.splice(f.begin, f.end, nil).stamped(before, 0)
}

// unexpired takes out the fields whose time has come.
func (b packedHash) unexpired(now int64) packedHash {
	if at := b.wakes(); at == 0 || at > now {
		return b
	}
	n, to := 0, b.body()
	for at := b.body(); at < len(b); {
		f := b.at(at)
		at = f.end
		if d := b.deadline(f); d != 0 && d <= now {
			continue
		}
		n, to = n+1, to+copy(b[to:], b[f.begin:f.end])
	}
	if n == 0 {
		return b[:0]
	}
	b[0] = timedHash | byte(n-1)
	return b[:to].stamped(b.wakes(), 0)
}

// stamped brings the head up to date after a field's deadline was one and is another.
func (b packedHash) stamped(before, at int64) packedHash {
	if before == at {
		return b
	}
	earliest := int64(0)
	for i := b.body(); i < len(b); {
		f := b.at(i)
		if d := b.deadline(f); d != 0 && (earliest == 0 || d < earliest) {
			earliest = d
		}
		i = f.end
	}
	var buf [deadlineBytes]byte
	switch timed := b[0]&timedHash != 0; {
	case earliest != 0 && timed:
		copy(b[1:], appendDeadline(buf[:0], earliest))
	case earliest != 0:
		b[0] |= timedHash
		b = b.splice(1, 1, appendDeadline(buf[:0], earliest))
	case timed:
		b[0] &^= timedHash
		b = b.splice(1, 1+deadlineBytes, nil)
	}
	return b
}

// valid says what is wrong with bytes that may come from anywhere, nil when they are those of a packed hash.
func (b packedHash) valid() error {
	if len(b) == 0 {
		return errors.New("H1: no bytes")
	}
	at, n, earliest := 1, 0, int64(math.MaxInt64)
	if b[0]&timedHash != 0 {
		at += deadlineBytes
	}
	seen := map[string]bool{}
	for ; at < len(b); n++ {
		if b[at] == timedMark {
			if at+1+deadlineBytes > len(b) {
				return errors.New("H1: a deadline that ends too soon")
			}
			d := readDeadline(b[at+1:])
			if d == 0 || d > maxFieldDeadline {
				return fmt.Errorf("H2: %d is no deadline", d)
			}
			earliest = min(earliest, d)
			at += 1 + deadlineBytes
		}
		for part := range 2 {
			size := 0
			if at < len(b) {
				size = int(elementSize[b[at]])
			}
			if size == 0 || at+size > len(b) {
				return fmt.Errorf("H1: field %d ends too soon", n)
			}
			e := b[at : at+size]
			if string(appendElement(nil, readElement(e).append(nil))) != string(e) {
				return fmt.Errorf("H1: an element of field %d can be written shorter", n)
			}
			if part == 0 && seen[string(e)] {
				return fmt.Errorf("H1: field %d stands twice", n)
			} else if part == 0 {
				seen[string(e)] = true
			}
			at += size
		}
	}
	switch {
	case n != b.len() || n > packedFields:
		return fmt.Errorf("H1: %d fields counted, there are %d", b.len(), n)
	case (b[0]&timedHash != 0) != (earliest != math.MaxInt64):
		return errors.New("H2: the head is wrong about deadlines")
	case earliest != math.MaxInt64 && b.wakes() != earliest:
		return fmt.Errorf("H2: the earliest deadline is %d, not %d", earliest, b.wakes())
	}
	return nil
}
