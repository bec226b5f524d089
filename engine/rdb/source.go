package rdb

import (
	"encoding/binary"
	"hash/crc64"
	"io"
)

// A source gives a Decoder its bytes piece by piece. A piece is never written over: what was read of it stays as it is for as
// long as somebody holds it, and costs memory for no longer.
type source struct {
	r       io.Reader
	buf     []byte // the piece under way, of which the Decoder's rest is the end
	settled int    // bytes of buf that are counted and summed
	offset  int64  // bytes that are
	sum     uint64 // their checksum
}

// Sizes of pieces, in bytes. What a length claims is allocated as it comes: no more than is there already, and a piece.
const (
	pieceBytes = 64 << 10
	maxPiece   = 1 << 20
)

// more makes rest at least n bytes long.
func (d *Decoder) more(n uint64) error {
	if d.src == nil {
		return bad("%d bytes are missing", n-uint64(len(d.rest)))
	}
	d.settle()
	size := max(pieceBytes, min(n, maxPiece))
	buf := append(make([]byte, 0, max(size, uint64(len(d.rest)))), d.rest...)
	for uint64(len(buf)) < n {
		if len(buf) == cap(buf) {
			buf = append(make([]byte, 0, min(n, 2*uint64(cap(buf)))), buf...)
		}
		got, err := io.ReadAtLeast(d.src.r, buf[len(buf):cap(buf)], int(min(n, uint64(cap(buf)))-uint64(len(buf))))
		buf = buf[:len(buf)+got]
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			d.hold(buf)
			return bad("it ends too soon")
		}
		if err != nil {
			d.hold(buf)
			return err
		}
	}
	d.hold(buf)
	return nil
}

func (d *Decoder) hold(buf []byte) { d.src.buf, d.src.settled, d.rest = buf, 0, buf }

// settle counts and sums what has been read of the piece under way.
func (d *Decoder) settle() {
	s := d.src
	read := s.buf[s.settled : len(s.buf)-len(d.rest)]
	s.sum = ^crc64.Update(^s.sum, jones, read)
	s.offset += int64(len(read))
	s.settled += len(read)
}

// leaveOut passes over a text of n bytes that is longer than the limit: the rest of the value is read, and told nobody.
// Where there is nothing but the value, nothing has to be read.
func (d *Decoder) leaveOut(n uint64) error {
	if d.src == nil {
		return ErrTooLarge
	}
	d.lost = true
	return d.discard(n)
}

func (d *Decoder) discard(n uint64) error {
	for n > 0 {
		if len(d.rest) == 0 {
			if err := d.more(1); err != nil {
				return err
			}
		}
		part := min(n, uint64(len(d.rest)))
		d.rest = d.rest[part:]
		n -= part
	}
	return nil
}

// skipText passes over a text.
func (d *Decoder) skipText() error {
	n, encoded, err := d.length()
	switch {
	case err != nil:
		return err
	case !encoded:
		return d.discard(n)
	case n > encodedLZF:
		return bad("encoding %d of a text", n)
	case n < encodedLZF:
		return d.discard(1 << n)
	}
	size, err := d.Length()
	if err != nil {
		return err
	}
	if _, err := d.Length(); err != nil {
		return err
	}
	return d.discard(size)
}

// What a module's data may be made of.
const (
	moduleEnd = iota
	moduleSigned
	moduleUnsigned
	moduleFloat
	moduleDouble
	moduleText
)

// skipModule passes over a module's data, which say of themselves how long they are.
func (d *Decoder) skipModule() error {
	for {
		what, err := d.Length()
		if err != nil {
			return err
		}
		switch what {
		case moduleEnd:
			return nil
		case moduleSigned, moduleUnsigned:
			_, err = d.Length()
		case moduleFloat:
			_, err = d.take(4)
		case moduleDouble:
			_, err = d.take(8)
		case moduleText:
			err = d.skipText()
		default:
			err = bad("a module's data of kind %d", what)
		}
		if err != nil {
			return err
		}
	}
}

// moduleName reads a module's id, and tells its name.
func (d *Decoder) moduleName() (string, error) {
	id, err := d.Length()
	if err != nil {
		return "", err
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	var name [9]byte
	for i := range name {
		name[i] = letters[id>>(58-6*i)&63]
	}
	return string(name[:]), nil
}

// zipmap reads a small hash as servers before Redis 2.6 wrote it: names and values in turn, each behind its length; behind a
// value's length stands how many bytes behind the value are unused.
func (d *Decoder) zipmap(sink Sink) error {
	const long, end = 254, 255
	b, err := d.Text()
	if err != nil || d.lost {
		return err
	}
	z := Decoder{rest: b}
	if _, err := z.byte(); err != nil { // how many fields there are, if they are few
		return err
	}
	length := func() (n uint64, last bool, err error) {
		first, err := z.byte()
		if err != nil || first != long {
			return uint64(first), first == end, err
		}
		wide, err := z.take(4)
		if err != nil {
			return 0, false, err
		}
		return uint64(binary.LittleEndian.Uint32(wide)), false, nil
	}
	for fields := 0; ; fields++ {
		n, last, err := length()
		switch {
		case err != nil:
			return err
		case last && fields == 0:
			return bad("an empty collection")
		case last && len(z.rest) > 0:
			return bad("bytes follow a zipmap's end")
		case last:
			return nil
		}
		name, err := z.take(n)
		if err != nil {
			return err
		}
		if n, last, err = length(); err != nil {
			return err
		}
		if last {
			return bad("a zipmap's field has no value")
		}
		unused, err := z.byte()
		if err != nil {
			return err
		}
		value, err := z.take(n)
		if err != nil {
			return err
		}
		if _, err := z.take(uint64(unused)); err != nil {
			return err
		}
		if err := d.spend(0, 1); err != nil {
			return err
		}
		if err := sink.Field(name, value, 0); err != nil {
			return err
		}
	}
}

// A cautious sink tells nothing more of a value of which something was left out.
type cautious struct {
	Sink
	d *Decoder
}

func (c *cautious) String(text []byte) error {
	if c.d.lost {
		return nil
	}
	return c.Sink.String(text)
}

func (c *cautious) Element(text []byte) error {
	if c.d.lost {
		return nil
	}
	return c.Sink.Element(text)
}

func (c *cautious) Member(name []byte, score float64) error {
	if c.d.lost {
		return nil
	}
	return c.Sink.Member(name, score)
}

func (c *cautious) Field(name, value []byte, deadline int64) error {
	if c.d.lost {
		return nil
	}
	return c.Sink.Field(name, value, deadline)
}

func (c *cautious) Entry(id StreamID, fields [][]byte) error {
	if c.d.lost {
		return nil
	}
	return c.Sink.Entry(id, fields)
}

func (c *cautious) Stream(marks StreamMarks) error {
	if c.d.lost {
		return nil
	}
	return c.Sink.Stream(marks)
}

func (c *cautious) Group(name []byte, last StreamID, read int64) error {
	if c.d.lost {
		return nil
	}
	return c.Sink.Group(name, last, read)
}

func (c *cautious) Pending(id StreamID, at int64, times uint64) error {
	if c.d.lost {
		return nil
	}
	return c.Sink.Pending(id, at, times)
}

func (c *cautious) Consumer(name []byte, seen, active int64) error {
	if c.d.lost {
		return nil
	}
	return c.Sink.Consumer(name, seen, active)
}

func (c *cautious) Owed(id StreamID) error {
	if c.d.lost {
		return nil
	}
	return c.Sink.Owed(id)
}
