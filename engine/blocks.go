package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"
)

// A block is elements of a list, one after the other in the value of a record:
//
//	number of elements, 2 bytes
//	room before the elements, 2 bytes
//	room behind them, 2 bytes
//	room, elements, room
//
// An element is its length as a uvarint, its bytes, and the uvarint again with its bytes reversed, by which a reader
// comes from behind.
//
//	B1: a block holds 1 to maxElements elements, in no more than blockBytes with its head and room unless it holds only one
//	B2: the room before and behind is at most maxRoom bytes together, but at the ends of a deque more: see deque.edge
//	B3: the elements are whole, read forwards and backwards
//
// A small list is one block; a large one has many, see deque.
type block []byte

const (
	blockHead   = 6
	blockBytes  = 4<<10 - 10             // with the header of its record 4 KiB, of which the store keeps 64 together
	blockFull   = blockBytes - blockHead // bytes of elements
	maxElements = blockFull / 2
	maxRoom     = 255
	longElement = 256 // bytes from which on one is given no room beside it
	roundTo     = 64  // lengths with room are multiples of it, so that the holes that growing blocks leave fit others
)

func (b block) n() int           { return int(binary.LittleEndian.Uint16(b)) }
func (b block) front() int       { return int(binary.LittleEndian.Uint16(b[2:])) }
func (b block) back() int        { return int(binary.LittleEndian.Uint16(b[4:])) }
func (b block) from() int        { return blockHead + b.front() }
func (b block) to() int          { return len(b) - b.back() }
func (b block) used() int        { return b.to() - b.from() }
func (b block) elements() []byte { return b[b.from():b.to()] }
func (b block) count(n int)      { binary.LittleEndian.PutUint16(b, uint16(n)) }

// rooms sets how much room is before the elements and behind them.
func (b block) rooms(front, back int) {
	binary.LittleEndian.PutUint16(b[2:], uint16(front))
	binary.LittleEndian.PutUint16(b[4:], uint16(back))
}

// blank clears the room, in which anything may lie that was in memory before.
func (b block) blank() {
	clear(b[blockHead:b.from()])
	clear(b[b.to():])
}

// fits reports whether so many bytes of elements more leave the block within its bounds.
func (b block) fits(size int) bool { return b.used()+size <= blockFull }

// packed is how many bytes an element of n bytes takes in a block.
func packed(n int) int { return n + 2*uvarintLen(n) }

func uvarintLen(n int) int {
	size := 1
	for ; n >= 0x80; n >>= 7 {
		size++
	}
	return size
}

// pack writes an element to dst, which has room for exactly that.
func pack(dst, element []byte) {
	width := binary.PutUvarint(dst, uint64(len(element)))
	copy(dst[width:], element)
	for i := range width {
		dst[len(dst)-1-i] = dst[i]
	}
}

// appendPacked is pack to the end of dst.
func appendPacked(dst, element []byte) []byte {
	var width [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(width[:], uint64(len(element)))
	dst = append(append(dst, width[:n]...), element...)
	for i := n - 1; i >= 0; i-- {
		dst = append(dst, width[i])
	}
	return dst
}

// read returns the element at pos, which is good until the list changes, and where it ends.
func (b block) read(pos int) (element []byte, end int) {
	n, width := int(b[pos]), 1
	if n >= 0x80 {
		u, w := binary.Uvarint(b[pos:])
		n, width = int(u), w
	}
	from := pos + width
	to := from + n
	return b[from:to:to], to + width
}

// start returns where the element that ends at end begins.
func (b block) start(end int) int {
	n, width := 0, 0
	for {
		c := b[end-1-width]
		n |= int(c&0x7f) << (7 * width)
		width++
		if c < 0x80 {
			return end - n - 2*width
		}
	}
}

// seek returns where element i begins.
func (b block) seek(i int) (pos int) {
	n := b.n()
	if i <= n/2 {
		for pos = b.from(); i > 0; i-- {
			_, pos = b.read(pos)
		}
		return pos
	}
	for pos = b.to(); i < n; i++ {
		pos = b.start(pos)
	}
	return pos
}

// validBlock reports what is wrong with bytes that are to be a block: nothing that it lets pass makes a reader panic.
func validBlock(b []byte) error {
	v := block(b)
	if len(b) < blockHead || v.used() <= 0 {
		return errors.New("B3: a block without elements")
	}
	if len(b) > blockBytes && v.n() != 1 {
		return fmt.Errorf("B1: %d elements in a block of %d bytes", v.n(), len(b))
	}
	n := 0
	for pos := v.from(); pos < v.to(); n++ {
		length, width := binary.Uvarint(b[pos:v.to()])
		switch {
		case width <= 0 || width != uvarintLen(int(length&(1<<62-1))):
			return fmt.Errorf("B3: element %d has no length", n)
		case length > uint64(v.to()-pos-width) || int(length) > v.to()-pos-2*width:
			return fmt.Errorf("B3: element %d ends outside of its block", n)
		}
		end := pos + int(length) + 2*width
		for i := range width {
			if b[pos+i] != b[end-1-i] {
				return fmt.Errorf("B3: element %d has other lengths forwards and backwards", n)
			}
		}
		pos = end
	}
	if n != v.n() {
		return fmt.Errorf("B3: a block of %d elements counts %d", n, v.n())
	}
	return nil
}

// A home is where a block is kept: in an item's record, or under a number in the table of a deque.
type home struct {
	it     *item
	d      *deque
	number uint64
	edge   int // how much room there may be at an end of a deque; 0 elsewhere
}

// mostRoom is how much room a block here may have.
func (h home) mostRoom() int {
	if h.d != nil {
		return max(maxRoom/4, h.edge)
	}
	return maxRoom
}

// roomFor is how many bytes a block with so many of elements gets to grow when size bytes have been added: none if it is
// short, and cheap to move, or if the element is long; else an eighth, up to a bound, so that for each byte pushed a few tens
// are moved at most; and at an end of a large deque all there may be.
func (h home) roomFor(used, size int) int {
	if used < 64 || used >= blockFull || size >= longElement {
		return 0
	}
	return min(max(min(used/8, h.mostRoom()/2), h.edge), blockFull-used)
}

// resize makes the record at home so long. The elements in b are to be laid out anew, in the new block, from b, which keeps
// its bytes unless it is the same.
func (h home) resize(n int) block {
	if h.d != nil {
		return h.d.resize(h.number, n)
	}
	_, b := h.it.home.hold(h.it, h.it.key, kindList, n, 0, h.it.expireAt)
	return b
}

// splice puts size bytes in the place of those from pos to end, which makes dn elements more. It returns the block with the
// place where these bytes are to be written. The block must be within its bounds then. What is moved is the shorter side,
// where it has room.
func (h home) splice(b block, pos, end, size, dn int) (block, int) {
	grown := size - (end - pos)
	before, after := pos-b.from(), b.to()-end
	front, back := b.front(), b.back()
	left := front + back - grown // room that is left
	inPlace := 0 <= left && left <= h.mostRoom()
	switch {
	case grown == 0:
	case inPlace && front >= grown && (before <= after || back < grown && before < 64):
		copy(b[b.from()-grown:], b[b.from():pos])
		pos -= grown
		b.rooms(front-grown, back)
	case inPlace && back >= grown:
		copy(b[pos+size:], b[end:b.to()])
		b.rooms(front, back-grown)
	default:
		used := b.used() + grown
		room := h.roomFor(used, size/max(dn, 1))
		if b.n() == 0 { // many lists are made at once and never grow
			room = 0
		}
		if grown > 0 && inPlace && left >= 64 { // what one end has too much, the other gets
			room = left
		}
		b, pos = h.lay(b, pos, end, size, room)
	}
	b.count(b.n() + dn)
	return b, pos
}

// lay is splice to a block with so much room, before the elements if more of them stand behind pos, else behind them.
func (h home) lay(b block, pos, end, size, room int) (block, int) {
	from, to, n := b.from(), b.to(), b.n()
	front, back := 0, room
	if pos-from < to-end {
		front, back = room, 0
	}
	length := blockHead + pos - from + size + to - end + room
	rounded := (length + roundTo - 1) / roundTo * roundTo
	if room > 0 && rounded <= blockBytes && (h.d != nil || room+rounded-length <= maxRoom) {
		front, back = front*(room+rounded-length)/room, back*(room+rounded-length)/room
		length = rounded
	}
	next := b
	if length != len(b) {
		next = h.resize(length)
	}
	at := blockHead + front
	hole := at + pos - from
	if at > from && unsafe.SliceData(next) == unsafe.SliceData(b) { // moves to the right: the last part first
		copy(next[hole+size:], b[end:to])
		copy(next[at:], b[from:pos])
	} else {
		copy(next[at:], b[from:pos])
		copy(next[hole+size:], b[end:to])
	}
	next.count(n)
	next.rooms(front, back)
	return next, hole
}

// trim takes the room from a block that has more than a little.
func (h home) trim(b block) {
	if b.front()+b.back() >= longElement {
		h.lay(b, b.to(), b.to(), 0, 0)
	}
}

// filter removes the elements that are equal to element, but the first skip of them, and at most so many; both are counted
// down. It tells seen where each of them stood. The block may be left empty.
func (h home) filter(b block, element []byte, skip, atMost *int, seen func(i int)) (removed int) {
	from, to := b.from(), b.from()
	i := 0
	for pos := from; pos < b.to(); i++ {
		found, end := b.read(pos)
		match := *atMost > 0 && bytes.Equal(found, element)
		if match && *skip > 0 {
			match = false
			*skip--
		}
		if match {
			*atMost--
			removed++
			seen(i)
		} else {
			if to != pos {
				copy(b[to:], b[pos:end])
			}
			to += end - pos
		}
		pos = end
	}
	if removed == 0 {
		return 0
	}
	b.count(b.n() - removed)
	front, back := b.front(), len(b)-to
	if front+back <= (to-from)/64 {
		b.rooms(front, back)
		return removed
	}
	if to == from { // it is going to be removed
		b.rooms(0, 0)
		return removed
	}
	n := b.n()
	next := h.resize(blockHead + to - from)
	copy(next[blockHead:], b[from:to])
	next.count(n)
	next.rooms(0, 0)
	return removed
}
