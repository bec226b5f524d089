package dense

import (
	"math/bits"
)

// A hole is room in a block where a record was. Its first byte has kind 0. One of minHole bytes or more holds its
// size and its neighbours in the list of holes of that size:
//
//	0x00 | size, 3 bytes | next, 5 bytes | prev, 5 bytes | whatever was there
//
// A smaller one is in no list; it says only how long it is:
//
//	0x10 | size, 1 byte | …          for 2 to minHole-1 bytes
//	0x20                             for 1 byte
const (
	minHole   = 14
	holeSmall = 0x10
	holeByte  = 0x20
)

// Lists of holes: one for each size below exactSizes, then sixteen for each doubling.
const (
	exactSizes = 1024
	classes    = exactSizes + 16*9 // up to a block
)

// classOf is the list of holes of n bytes: all holes in a list of class c have at least as many bytes as any hole
// of a lower class.
func classOf(n int) int {
	if n < exactSizes {
		return n
	}
	top := bits.Len(uint(n)) - 1 // at least 10
	return exactSizes + (top-10)*16 + (n>>(top-4))&15
}

func holeSize(h []byte) int {
	switch h[0] {
	case holeByte:
		return 1
	case holeSmall:
		return int(h[1])
	}
	return int(h[1]) | int(h[2])<<8 | int(h[3])<<16
}

func getRef(b []byte) Ref {
	_ = b[4]
	return Ref(b[0]) | Ref(b[1])<<8 | Ref(b[2])<<16 | Ref(b[3])<<24 | Ref(b[4])<<32
}

func putRef(b []byte, r Ref) {
	_ = b[4]
	b[0], b[1], b[2], b[3], b[4] = byte(r), byte(r>>8), byte(r>>16), byte(r>>24), byte(r>>32)
}

// dig makes a hole of the n bytes at r, and lists it unless its block is a victim.
func (s *Store) dig(r Ref, n int) {
	h := s.at(r)
	switch {
	case n == 1:
		h[0] = holeByte
		return
	case n < minHole:
		h[0], h[1] = holeSmall, byte(n)
		return
	}
	h[0], h[1], h[2], h[3] = 0, byte(n), byte(n>>8), byte(n>>16)
	if s.blocks[r.block()].victim {
		return
	}
	c := classOf(n)
	next := s.holes[c]
	putRef(h[4:], next)
	putRef(h[9:], 0)
	if next != 0 {
		putRef(s.at(next)[9:], r)
	}
	s.holes[c] = r
	s.filled[c/64] |= 1 << (c % 64)
}

// unlink takes the hole of n bytes at r out of its list, if it is in one.
func (s *Store) unlink(r Ref, n int) {
	if n < minHole {
		return
	}
	h := s.at(r)
	next, prev := getRef(h[4:]), getRef(h[9:])
	if next != 0 {
		putRef(s.at(next)[9:], prev)
	}
	if prev != 0 {
		putRef(s.at(prev)[4:], next)
		return
	}
	c := classOf(n)
	s.holes[c] = next
	if next == 0 {
		s.filled[c/64] &^= 1 << (c % 64)
	}
}

// fill returns room for n bytes in a hole, 0 when none is worth it. One of exactly that size is best; to cut a larger
// one up is worth it only when holes are many, because what is left of it is harder to fill.
func (s *Store) fill(n int) Ref {
	if minHole <= n && n < exactSizes {
		if r := s.holes[n]; r != 0 {
			s.unlink(r, n)
			s.enter(r, n)
			return r
		}
	}
	if s.total-s.live < s.total/32 {
		return 0
	}
	for c := classOf(n+minHole) + 1; c < classes; c++ {
		word := s.filled[c/64] >> (c % 64)
		if word == 0 {
			c |= 63
			continue
		}
		c += bits.TrailingZeros64(word)
		r := s.holes[c]
		all := holeSize(s.at(r))
		s.unlink(r, all)
		s.dig(r+Ref(n), all-n)
		s.enter(r, n)
		return r
	}
	return 0
}

// enter counts a record of n bytes that comes to lie where a hole was.
func (s *Store) enter(r Ref, n int) { s.count(r.block(), n) }
