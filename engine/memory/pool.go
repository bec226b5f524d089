package memory

import (
	"fmt"
	"unsafe"
)

// A Pool hands out pieces of type T, which must hold no Go pointer, and names them by number: 0 is no piece. A
// piece is at the same address until it is freed. T's size is at most chunkBytes.
//
//	P1: free lists exactly the pieces that are not handed out, of chunks that exist
//	P2: a chunk's count is how many of its pieces are handed out; a chunk without any is given back,
//	    unless it is the only one with free pieces
type Pool[T any] struct {
	pages  *Pages
	chunks []poolChunk
	open   []uint32 // chunks with free pieces
	vacant []uint32 // places in chunks whose chunk was given back
	used   int
	chunk  int // bytes of a chunk
}

type poolChunk struct {
	mem   []byte
	count int32
	free  int32 // the first free piece, as its place plus 1; each free piece holds the next
	fresh int32 // pieces from here on were never handed out
	place int32 // in open, -1 outside
}

const chunkBytes = 64 << 10

// NewPool makes a pool that takes its memory from pages.
func NewPool[T any](pages *Pages) *Pool[T] {
	var t T
	if unsafe.Sizeof(t) > chunkBytes || unsafe.Sizeof(t) < 4 || unsafe.Alignof(t) > 8 {
		panic(fmt.Sprintf("memory: pieces of %d bytes in chunks of %d", unsafe.Sizeof(t), chunkBytes))
	}
	return &Pool[T]{pages: pages, chunk: chunkBytes}
}

// NewSmallPool is NewPool for pieces of which there may be few: its chunks hold sixteen pieces, or a page of them.
func NewSmallPool[T any](pages *Pages) *Pool[T] {
	p := NewPool[T](pages)
	var t T
	p.chunk = min(chunkBytes, (16*int(unsafe.Sizeof(t))+PageSize-1)/PageSize*PageSize)
	return p
}

// each is how many pieces a chunk has.
func (p *Pool[T]) each() int32 {
	var t T
	return int32(uintptr(p.chunk) / unsafe.Sizeof(t))
}

// Used is how many pieces are handed out.
func (p *Pool[T]) Used() int { return p.used }

// Alloc returns a zeroed piece and its number. O(1).
func (p *Pool[T]) Alloc() (uint32, *T) {
	if len(p.open) == 0 {
		c := poolChunk{mem: p.pages.Alloc(p.chunk), place: 0}
		at := uint32(len(p.chunks))
		if n := len(p.vacant); n > 0 {
			at, p.vacant = p.vacant[n-1], p.vacant[:n-1]
			p.chunks[at] = c
		} else {
			p.chunks = append(p.chunks, c)
		}
		p.open = append(p.open, at)
	}
	at := p.open[len(p.open)-1]
	c := &p.chunks[at]
	var i int32
	if c.free > 0 {
		i = c.free - 1
		t := p.piece(c, i)
		c.free = *(*int32)(unsafe.Pointer(t))
		*t = *new(T)
	} else {
		i = c.fresh
		c.fresh++
	}
	c.count++
	p.used++
	if c.count == p.each() {
		p.close(c)
	}
	return at*uint32(p.each()) + uint32(i) + 1, p.piece(c, i)
}

func (p *Pool[T]) close(c *poolChunk) {
	last := len(p.open) - 1
	moved := p.open[last]
	p.open[c.place] = moved
	p.chunks[moved].place = c.place
	p.open = p.open[:last]
	c.place = -1
}

func (p *Pool[T]) piece(c *poolChunk, i int32) *T {
	var t T
	return (*T)(unsafe.Pointer(&c.mem[uintptr(i)*unsafe.Sizeof(t)]))
}

// Get returns a piece by its number.
func (p *Pool[T]) Get(id uint32) *T {
	each := uint32(p.each())
	return p.piece(&p.chunks[(id-1)/each], int32((id-1)%each))
}

// Free takes a piece back. O(1).
func (p *Pool[T]) Free(id uint32) {
	each := uint32(p.each())
	at, i := (id-1)/each, int32((id-1)%each)
	c := &p.chunks[at]
	*(*int32)(unsafe.Pointer(p.piece(c, i))) = c.free
	c.free = i + 1
	c.count--
	p.used--
	if c.place < 0 {
		c.place = int32(len(p.open))
		p.open = append(p.open, at)
	}
	if c.count == 0 && len(p.open) > 1 {
		p.close(c)
		p.pages.Free(c.mem)
		*c = poolChunk{place: -1}
		p.vacant = append(p.vacant, at)
	}
}

// Close gives back everything at once, at most as many chunks as the pool has: their number is what it costs.
func (p *Pool[T]) Close() {
	for p.CloseSome(len(p.chunks)) {
	}
}

// CloseSome gives back at most n chunks, whatever is in them, and reports whether there are more. Nothing of the
// pool may be used between the first call and the last.
func (p *Pool[T]) CloseSome(n int) (more bool) {
	for ; n > 0 && len(p.chunks) > 0; n-- {
		last := len(p.chunks) - 1
		if c := p.chunks[last]; c.mem != nil {
			p.pages.Free(c.mem)
		}
		p.chunks = p.chunks[:last]
	}
	if len(p.chunks) > 0 {
		return true
	}
	p.chunks, p.open, p.vacant, p.used = nil, nil, nil, 0
	return false
}
