package rdb

import (
	"encoding/binary"
	"math"
	"strconv"
)

// A pack is a listpack or a ziplist: entries one after the other in a text, each a text or an integer. It is read forwards;
// what serves to read it backwards is checked too, so that what it accepts is whole.
type pack struct {
	ziplist bool
	b       []byte
	at      int
	before  int // bytes of the entry before, which a ziplist's entries tell
}

// A packEntry is a text, or an integer where text is nil.
type packEntry struct {
	text   []byte
	number int64
}

func (e packEntry) bytes() []byte {
	if e.text == nil {
		return strconv.AppendInt(nil, e.number, 10)
	}
	return e.text
}

func (e packEntry) integer() (int64, bool) {
	if e.text == nil {
		return e.number, true
	}
	n, err := strconv.ParseInt(string(e.text), 10, 64)
	return n, err == nil
}

func (e packEntry) float() (float64, error) {
	if e.text == nil {
		return float64(e.number), nil
	}
	f, err := parseScore(e.text)
	if err == nil && math.IsNaN(f) {
		err = bad("a score that is no number")
	}
	return f, err
}

const packEnd = 0xff

// open begins to read a pack.
func (p *pack) open(b []byte) error {
	head := 6
	if p.ziplist {
		head = 10
	}
	if len(b) < head+1 || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) || b[len(b)-1] != packEnd {
		return bad("a pack of %d bytes", len(b))
	}
	p.b, p.at = b[:len(b)-1], head
	return nil
}

// next reads an entry, and reports false behind the last.
func (p *pack) next() (e packEntry, ok bool, err error) {
	if p.at == len(p.b) {
		return e, false, nil
	}
	begin := p.at
	if p.ziplist {
		e, err = p.nextZiplist()
	} else {
		e, err = p.nextListpack()
	}
	p.before = p.at - begin
	return e, err == nil, err
}

func (p *pack) take(n int) ([]byte, error) {
	if n > len(p.b)-p.at {
		return nil, bad("a pack's entry is cut off")
	}
	b := p.b[p.at : p.at+n : p.at+n]
	p.at += n
	return b, nil
}

// signed reads an integer of so many bytes, little-endian.
func (p *pack) signed(n int) (packEntry, error) {
	b, err := p.take(n)
	if err != nil {
		return packEntry{}, err
	}
	var wide [8]byte
	copy(wide[:], b)
	shift := 64 - 8*n
	return packEntry{number: int64(binary.LittleEndian.Uint64(wide[:])) << shift >> shift}, nil
}

func (p *pack) string(n uint64) (packEntry, error) {
	if n > uint64(len(p.b)) {
		return packEntry{}, bad("a pack's entry is cut off")
	}
	text, err := p.take(int(n))
	return packEntry{text: text}, err
}

func (p *pack) nextListpack() (e packEntry, err error) {
	begin := p.at
	head, err := p.take(1)
	if err != nil {
		return e, err
	}
	var b []byte
	switch c := head[0]; {
	case c < 0x80:
		e.number = int64(c)
	case c < 0xc0:
		e, err = p.string(uint64(c & 63))
	case c < 0xe0:
		if b, err = p.take(1); err == nil {
			e.number = int64(int16(uint16(c)<<11|uint16(b[0])<<3) >> 3)
		}
	case c < 0xf0:
		if b, err = p.take(1); err == nil {
			e, err = p.string(uint64(c&15)<<8 | uint64(b[0]))
		}
	case c == 0xf0:
		if b, err = p.take(4); err == nil {
			e, err = p.string(uint64(binary.LittleEndian.Uint32(b)))
		}
	case c <= 0xf3:
		e, err = p.signed(int(c-0xf1) + 2)
	case c == 0xf4:
		e, err = p.signed(8)
	default:
		err = bad("a listpack's entry begins with %#x", c)
	}
	if err != nil {
		return e, err
	}
	length := appendBackLength(nil, p.at-begin)
	if b, err = p.take(len(length)); err == nil && string(b) != string(length) {
		err = bad("a listpack's entry of %d bytes ends with % x", p.at-begin-len(length), b)
	}
	return e, err
}

// appendBackLength appends how many bytes an entry has in the way in which it is read backwards.
func appendBackLength(dst []byte, n int) []byte {
	width := 1
	for limit := 127; n > limit && width < 5; width++ {
		limit = 1<<(7*(width+1)) - 2 // one less than would fit, as Redis has it
	}
	for i := width - 1; i >= 0; i-- {
		c := byte(n>>(7*i)) & 127
		if i < width-1 {
			c |= 128
		}
		dst = append(dst, c)
	}
	return dst
}

func (p *pack) nextZiplist() (e packEntry, err error) {
	head, err := p.take(1)
	if err != nil {
		return e, err
	}
	before := int(head[0])
	var b []byte
	if before >= 254 {
		if b, err = p.take(4); err != nil {
			return e, err
		}
		before = int(binary.LittleEndian.Uint32(b))
	}
	if before != p.before || head[0] == packEnd {
		return e, bad("a ziplist's entry follows one of %d bytes, not %d", p.before, before)
	}
	if head, err = p.take(1); err != nil {
		return e, err
	}
	switch c := head[0]; {
	case c < 0x40:
		return p.string(uint64(c))
	case c < 0x80:
		if b, err = p.take(1); err != nil {
			return e, err
		}
		return p.string(uint64(c&63)<<8 | uint64(b[0]))
	case c == 0x80:
		if b, err = p.take(4); err != nil {
			return e, err
		}
		return p.string(uint64(binary.BigEndian.Uint32(b)))
	case c == 0xc0:
		return p.signed(2)
	case c == 0xd0:
		return p.signed(4)
	case c == 0xe0:
		return p.signed(8)
	case c == 0xf0:
		return p.signed(3)
	case c == 0xfe:
		return p.signed(1)
	case 0xf1 <= c && c <= 0xfd:
		return packEntry{number: int64(c) - 0xf1}, nil
	default:
		return e, bad("a ziplist's entry begins with %#x", c)
	}
}
