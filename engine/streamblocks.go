package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// A streamID names an entry of a stream: when it came, in milliseconds since 1970, and a number among those that came
// in the same millisecond.
type streamID struct{ ms, seq uint64 }

var (
	noID  = streamID{}
	maxID = streamID{math.MaxUint64, math.MaxUint64}
)

func (id streamID) key() streamID { return id }

func (id streamID) above(other streamID) bool {
	return id.ms > other.ms || (id.ms == other.ms && id.seq > other.seq)
}

// next is the id behind id, and false when there is none.
func (id streamID) next() (streamID, bool) {
	switch {
	case id == maxID:
		return noID, false
	case id.seq == math.MaxUint64:
		return streamID{id.ms + 1, 0}, true
	}
	return streamID{id.ms, id.seq + 1}, true
}

// prev is the id before id, and false when there is none.
func (id streamID) prev() (streamID, bool) {
	switch {
	case id == noID:
		return maxID, false
	case id.seq == 0:
		return streamID{id.ms - 1, math.MaxUint64}, true
	}
	return streamID{id.ms, id.seq - 1}, true
}

// append writes the id as clients know it: 1526919030474-55.
func (id streamID) append(dst []byte) []byte {
	dst = strconv.AppendUint(dst, id.ms, 10)
	return strconv.AppendUint(append(dst, '-'), id.seq, 10)
}

func (id streamID) String() string { return string(id.append(nil)) }

func (id streamID) encode(dst []byte) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, id.ms), id.seq)
}

// A streamBlock holds entries of a stream that follow each other, packed: first the names of the fields of the first
// entry that it ever held, which most entries share, then the entries. It points to nothing but its bytes, and bytes
// once written are never changed: a block that was copied stays what it was, whatever happens to the stream.
//
// An entry is a number, twice its length with 1 added when it has names of its own; its id, as the distance from base;
// with its own names how many fields it has; and then its values, or names and values in turn, each behind its length.
type streamBlock struct {
	base, last streamID // the first id it ever held, from which distances count, and the last that it holds
	buf        []byte
	names      int32 // the names end here
	from       int32 // and here the entries begin; what is in between has been removed
	n, gone    int16 // how many entries it holds, and how many of those it once held have gone
}

// Bounds of a block, which are those of Redis: XTRIM ~ answers by them.
const (
	streamBlockEntries = 100
	streamBlockBytes   = 4 << 10
)

func (b streamBlock) key() streamID { return b.base }

// size is how many bytes the names and the entries take.
func (b *streamBlock) size() int { return int(b.names) + len(b.buf) - int(b.from) }

// full reports whether an entry has to go to another block. Entries that have gone count, as in Redis.
func (b *streamBlock) full(fields [][]byte) bool {
	size := b.size() + entryHead
	for _, f := range fields {
		size += uvarintLen(len(f)) + len(f)
	}
	return b.n+b.gone >= streamBlockEntries || size >= streamBlockBytes
}

// entryHead is the most that stands before the texts of an entry in a block that is not full: a length, an id and a
// number of fields.
const entryHead = 3 + 10 + 10 + 3

func appendText(dst, text []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(text))), text...)
}

// cutText returns the text that b begins with, and what follows.
func cutText(b []byte) (text, rest []byte) {
	n, width := binary.Uvarint(b)
	to := width + int(n)
	return b[width:to:to], b[to:]
}

func cutUvarint(b []byte) (uint64, []byte) {
	n, width := binary.Uvarint(b)
	return n, b[width:]
}

func uvarint64Len(n uint64) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// newStreamBlock makes an empty block whose entries are expected to have the names of these fields.
func newStreamBlock(base streamID, fields [][]byte) streamBlock {
	b := streamBlock{base: base}
	b.buf = binary.AppendUvarint(b.buf, uint64(len(fields)/2))
	for i := 0; i < len(fields); i += 2 {
		b.buf = appendText(b.buf, fields[i])
	}
	b.names = int32(len(b.buf))
	b.from = b.names
	return b
}

// shares reports whether an entry has the names that the block begins with.
func (b *streamBlock) shares(fields [][]byte) bool {
	n, names := cutUvarint(b.buf)
	if n != uint64(len(fields)/2) {
		return false
	}
	for i := 0; i < len(fields); i += 2 {
		var name []byte
		if name, names = cutText(names); !bytes.Equal(name, fields[i]) {
			return false
		}
	}
	return true
}

// distance is how an id is written in a block: its time after the base's, and its number, which counts from the
// base's where the time is the same.
func (b *streamBlock) distance(id streamID) (ms, seq uint64) {
	if id.ms == b.base.ms {
		return 0, id.seq - b.base.seq
	}
	return id.ms - b.base.ms, id.seq
}

// add appends an entry, whose id is above all others.
func (b *streamBlock) add(id streamID, fields [][]byte) {
	ms, seq := b.distance(id)
	size, own, step := uvarint64Len(ms)+uvarint64Len(seq), uint64(0), 2
	if !b.shares(fields) {
		own, step = 1, 1
		size += uvarintLen(len(fields) / 2)
	}
	for i := step - 1; i < len(fields); i += step {
		size += uvarintLen(len(fields[i])) + len(fields[i])
	}
	b.room(size + uvarintLen(2*size+1))
	b.buf = binary.AppendUvarint(b.buf, uint64(size)<<1|own)
	b.buf = binary.AppendUvarint(binary.AppendUvarint(b.buf, ms), seq)
	if own == 1 {
		b.buf = binary.AppendUvarint(b.buf, uint64(len(fields)/2))
	}
	for i := step - 1; i < len(fields); i += step {
		b.buf = appendText(b.buf, fields[i])
	}
	b.last = id
	b.n++
}

// room makes room for so many bytes more: twice of what is needed, up to a block's bound.
func (b *streamBlock) room(more int) {
	if need := len(b.buf) + more; need > cap(b.buf) {
		b.buf = append(make([]byte, 0, max(need, min(2*need, streamBlockBytes))), b.buf...)
	}
}

// pack gives back what the block does not use, if that is more than a part of what it does.
func (b *streamBlock) pack(part int) {
	if spare := cap(b.buf) - b.size(); spare > b.size()/part {
		b.buf = append(append(make([]byte, 0, b.size()), b.buf[:b.names]...), b.buf[b.from:]...)
		b.from = b.names
	}
}

// A streamEntry is an entry as it stands in its block, good until the stream changes.
type streamEntry struct {
	id     streamID
	fields int    // how many
	own    bool   // it has its own names
	names  []byte // the block's
	rest   []byte // values, or names and values
	end    int32  // where the next one begins
}

// read returns the entry at pos.
func (b *streamBlock) read(pos int32) (e streamEntry) {
	head, width := binary.Uvarint(b.buf[pos:])
	start := int(pos) + width
	e.own, e.end = head&1 == 1, int32(start+int(head>>1))
	rest := b.buf[start:e.end]
	e.id.ms, rest = cutUvarint(rest)
	e.id.seq, rest = cutUvarint(rest)
	if e.id.ms == 0 {
		e.id.seq += b.base.seq
	}
	e.id.ms += b.base.ms
	fields, names := cutUvarint(b.buf)
	if e.own {
		fields, rest = cutUvarint(rest)
	}
	e.fields, e.names, e.rest = int(fields), names, rest
	return e
}

// more reports whether an entry stands at pos.
func (b *streamBlock) more(pos int32) bool { return int(pos) < len(b.buf) }

// seek returns the place of the first entry that is not below id, the end when there is none, and how many are before.
func (b *streamBlock) seek(id streamID) (pos int32, before int) {
	if id.above(b.last) {
		return int32(len(b.buf)), int(b.n)
	}
	for pos = b.from; b.more(pos); before++ {
		at, end := b.peek(pos)
		if !id.above(at) {
			break
		}
		pos = end
	}
	return pos, before
}

// peek returns the id of the entry at pos and where the next one begins: what read does, for those who pass by.
func (b *streamBlock) peek(pos int32) (id streamID, end int32) {
	head, width := binary.Uvarint(b.buf[pos:])
	start := int(pos) + width
	ms, width := binary.Uvarint(b.buf[start:])
	seq, _ := binary.Uvarint(b.buf[start+width:])
	if ms == 0 {
		seq += b.base.seq
	}
	return streamID{b.base.ms + ms, seq}, int32(start + int(head>>1))
}

// first is the id of the first entry.
func (b *streamBlock) first() streamID {
	id, _ := b.peek(b.from)
	return id
}

// shift removes the first k entries, not all of them.
func (b *streamBlock) shift(k int) {
	for range k {
		_, b.from = b.peek(b.from)
	}
	b.n -= int16(k)
	b.gone += int16(k)
	if int(b.from-b.names) > b.size() {
		b.pack(1)
	}
}

// cut removes the entry at pos, which is not the only one.
func (b *streamBlock) cut(pos int32) {
	if pos == b.from {
		b.shift(1)
		return
	}
	_, end := b.peek(pos)
	var before streamID
	for p := b.from; p < pos; { // there is one
		before, p = b.peek(p)
	}
	if !b.more(end) {
		b.last = before
	}
	kept := append(make([]byte, 0, len(b.buf)-int(b.from-b.names)), b.buf[:b.names]...)
	kept = append(append(kept, b.buf[b.from:pos]...), b.buf[end:]...)
	b.buf, b.from = kept, b.names
	b.n--
	b.gone++
}

func (b *streamBlock) encode(dst []byte) []byte {
	dst = b.base.encode(dst)
	for _, n := range []int{int(b.n), int(b.gone), int(b.names), b.size()} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	return append(append(dst, b.buf[:b.names]...), b.buf[b.from:]...)
}

// check returns the first broken invariant of X1 to X3; see streamValue.
func (b *streamBlock) check() error {
	if b.n < 1 || b.gone < 0 || b.n+b.gone > streamBlockEntries || (b.n+b.gone > 1 && b.size() > streamBlockBytes) {
		return fmt.Errorf("X2: %d entries of %d bytes in a block, %d gone", b.n, b.size(), b.gone)
	}
	n, before := int16(0), b.base
	for pos := b.from; b.more(pos); n++ {
		e := b.read(pos)
		if before.above(e.id) || (n > 0 && before == e.id) {
			return fmt.Errorf("X1: %v stands behind %v", e.id, before)
		}
		for range e.fields {
			if e.own {
				_, e.rest = cutText(e.rest)
			}
			_, e.rest = cutText(e.rest)
		}
		if len(e.rest) != 0 || int(e.end) > len(b.buf) {
			return fmt.Errorf("X3: entry %v is not whole", e.id)
		}
		before, pos = e.id, e.end
	}
	if n != b.n || before != b.last {
		return fmt.Errorf("X2: %d entries up to %v in a block of %d up to %v", n, before, b.n, b.last)
	}
	return nil
}
