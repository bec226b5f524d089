package rdb

import (
	"encoding/binary"
	"math"
	"strconv"
)

// AppendLength appends a number.
func AppendLength(dst []byte, n uint64) []byte {
	switch {
	case n < 1<<6:
		return append(dst, byte(n))
	case n < 1<<14:
		return append(dst, 0x40|byte(n>>8), byte(n))
	case n <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, 0x80), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(dst, 0x81), n)
}

// AppendText appends a text: an integer of up to 32 bits in as few bytes as hold it.
func AppendText(dst, text []byte) []byte {
	if len(text) <= 11 {
		n, err := strconv.ParseInt(string(text), 10, 32)
		if err == nil && strconv.FormatInt(n, 10) == string(text) {
			switch {
			case n == int64(int8(n)):
				return append(dst, encodedText+encodedInt8, byte(n))
			case n == int64(int16(n)):
				return binary.LittleEndian.AppendUint16(append(dst, encodedText+encodedInt16), uint16(n))
			}
			return binary.LittleEndian.AppendUint32(append(dst, encodedText+encodedInt32), uint32(n))
		}
	}
	return append(AppendLength(dst, uint64(len(text))), text...)
}

// AppendDouble appends a number of a sorted set.
func AppendDouble(dst []byte, f float64) []byte {
	return binary.LittleEndian.AppendUint64(dst, math.Float64bits(f))
}

// AppendMillis appends a time in milliseconds since 1970.
func AppendMillis(dst []byte, at int64) []byte {
	return binary.LittleEndian.AppendUint64(dst, uint64(at))
}

// AppendID appends an id as two numbers.
func AppendID(dst []byte, id StreamID) []byte { return AppendLength(AppendLength(dst, id.Ms), id.Seq) }

// AppendRawID appends an id in 16 bytes.
func AppendRawID(dst []byte, id StreamID) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, id.Ms), id.Seq)
}

// A StreamBlock writes entries of a stream that follow each other, as the listpack that Redis keeps them in.
type StreamBlock struct {
	base  StreamID
	names int
	b     []byte
	count int // numbers and texts in it
}

// Begin starts a block whose first entry is base; most of its entries have these names.
func (s *StreamBlock) Begin(base StreamID, entries int, names [][]byte) {
	*s = StreamBlock{base: base, names: len(names), b: append(s.b[:0], 0, 0, 0, 0, 0, 0)}
	s.number(int64(entries))
	s.number(0) // deleted
	s.number(int64(len(names)))
	for _, name := range names {
		s.text(name)
	}
	s.number(0)
}

// Entry adds an entry: its values, or where it has names of its own, names and values in turn.
func (s *StreamBlock) Entry(id StreamID, own bool, texts [][]byte) {
	flags, count := int64(entrySame), int64(3+len(texts))
	if own {
		flags = 0
		count++
	}
	s.number(flags)
	s.number(int64(id.Ms - s.base.Ms))
	s.number(int64(id.Seq - s.base.Seq))
	if own {
		s.number(int64(len(texts) / 2))
	}
	for _, text := range texts {
		s.text(text)
	}
	s.number(count)
}

// AppendTo appends the block with its id. Its texts have less than 4 GiB together.
func (s *StreamBlock) AppendTo(dst []byte) []byte {
	s.b = append(s.b, packEnd)
	binary.LittleEndian.PutUint32(s.b, uint32(len(s.b)))
	binary.LittleEndian.PutUint16(s.b[4:], uint16(min(s.count, math.MaxUint16)))
	dst = AppendRawID(append(dst, 16), s.base)
	return append(AppendLength(dst, uint64(len(s.b))), s.b...)
}

// number appends an integer to the listpack.
func (s *StreamBlock) number(n int64) {
	begin := len(s.b)
	switch {
	case 0 <= n && n < 1<<7:
		s.b = append(s.b, byte(n))
	case -1<<12 <= n && n < 1<<12:
		s.b = append(s.b, 0xc0|byte(n>>8)&31, byte(n))
	case n == int64(int16(n)):
		s.b = binary.LittleEndian.AppendUint16(append(s.b, 0xf1), uint16(n))
	case -1<<23 <= n && n < 1<<23:
		s.b = append(s.b, 0xf2, byte(n), byte(n>>8), byte(n>>16))
	case n == int64(int32(n)):
		s.b = binary.LittleEndian.AppendUint32(append(s.b, 0xf3), uint32(n))
	default:
		s.b = binary.LittleEndian.AppendUint64(append(s.b, 0xf4), uint64(n))
	}
	s.end(begin)
}

// text appends a text to the listpack: as an integer where it is one, as Redis does.
func (s *StreamBlock) text(text []byte) {
	if len(text) <= 20 {
		if n, err := strconv.ParseInt(string(text), 10, 64); err == nil && strconv.FormatInt(n, 10) == string(text) {
			s.number(n)
			return
		}
	}
	begin, n := len(s.b), len(text)
	switch {
	case n < 1<<6:
		s.b = append(s.b, 0x80|byte(n))
	case n < 1<<12:
		s.b = append(s.b, 0xe0|byte(n>>8), byte(n))
	default:
		s.b = binary.LittleEndian.AppendUint32(append(s.b, 0xf0), uint32(n))
	}
	s.b = append(s.b, text...)
	s.end(begin)
}

func (s *StreamBlock) end(begin int) {
	s.b = appendBackLength(s.b, len(s.b)-begin)
	s.count++
}
