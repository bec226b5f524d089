package main

import "encoding/binary"

const slab = 256 << 10

// classes is a slab allocator: each size has slabs of pieces of the next class above it, and an empty slab goes back.
type classes struct {
	sizes   []int
	free    [][]place // by class
	slabs   []slabOf
	vacant  []int
	index   map[uint64]place
	live    int64
	taken   int64
	written int64
}

type slabOf struct {
	mem   []byte
	class int
	used  int
}

type place struct{ slab, at int }

func newClasses(factor float64) layout {
	c := &classes{index: map[uint64]place{}}
	for size := 32.; size < slab; size *= factor {
		c.sizes = append(c.sizes, int(size)&^7)
	}
	c.sizes = append(c.sizes, slab)
	c.free = make([][]place, len(c.sizes))
	return c
}

func (c *classes) classOf(n int) int {
	lo, hi := 0, len(c.sizes)
	for lo < hi {
		if mid := (lo + hi) / 2; c.sizes[mid] < n {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

func (c *classes) put(key uint64, size int) {
	n := header + keySize + size
	class := c.classOf(n)
	at, ok := c.index[key]
	if ok && c.slabs[at.slab].class == class {
		c.live += int64(n) - int64(binary.LittleEndian.Uint32(c.slabs[at.slab].mem[at.at:]))
	} else {
		c.remove(key)
		at = c.take(class)
		c.index[key] = at
		c.live += int64(n)
	}
	recordOf(c.slabs[at.slab].mem[at.at:], key, size)
	c.written += int64(n)
}

func (c *classes) take(class int) place {
	for len(c.free[class]) > 0 { // those of slabs that went back are stale
		last := len(c.free[class]) - 1
		at := c.free[class][last]
		c.free[class] = c.free[class][:last]
		if s := &c.slabs[at.slab]; s.mem != nil && s.class == class {
			s.used++
			return at
		}
	}
	number := len(c.slabs)
	if n := len(c.vacant); n > 0 {
		number, c.vacant = c.vacant[n-1], c.vacant[:n-1]
	} else {
		c.slabs = append(c.slabs, slabOf{})
	}
	c.slabs[number] = slabOf{mem: make([]byte, slab), class: class, used: 1}
	c.taken += slab
	for at := c.sizes[class]; at+c.sizes[class] <= slab; at += c.sizes[class] {
		c.free[class] = append(c.free[class], place{number, at})
	}
	return place{number, 0}
}

func (c *classes) remove(key uint64) {
	at, ok := c.index[key]
	if !ok {
		return
	}
	delete(c.index, key)
	s := &c.slabs[at.slab]
	c.live -= int64(binary.LittleEndian.Uint32(s.mem[at.at:]))
	if s.used--; s.used > 0 {
		c.free[s.class] = append(c.free[s.class], at)
		return
	}
	class, kept := s.class, c.free[s.class][:0]
	for _, f := range c.free[class] {
		if f.slab != at.slab {
			kept = append(kept, f)
		}
	}
	c.free[class] = kept
	*s = slabOf{}
	c.vacant = append(c.vacant, at.slab)
	c.taken -= slab
}

func (c *classes) maintain(int) bool          { return false }
func (c *classes) bytes() (live, taken int64) { return c.live, c.taken }
func (c *classes) moved() int64               { return 0 }

// appended is a log: a record is written behind the last one, and what it replaces is dead. When an eighth is dead, the
// emptiest block's records are written again.
type appended struct {
	blocks  []logBlock
	vacant  []int
	open    int
	index   map[uint64]place
	live    int64
	taken   int64
	copied  int64
	written int64
	victim  int // being cleaned, -1 for none
	at      int
}

type logBlock struct {
	mem       []byte
	end, live int
}

func newLog() layout {
	l := &appended{index: map[uint64]place{}, victim: -1, open: -1}
	return l
}

func (l *appended) append(key uint64, n int) place {
	if l.open < 0 || l.blocks[l.open].end+n > slab {
		number := len(l.blocks)
		if n := len(l.vacant); n > 0 {
			number, l.vacant = l.vacant[n-1], l.vacant[:n-1]
		} else {
			l.blocks = append(l.blocks, logBlock{})
		}
		l.blocks[number] = logBlock{mem: make([]byte, slab)}
		l.open = number
		l.taken += slab
	}
	b := &l.blocks[l.open]
	at := place{l.open, b.end}
	b.end += n
	b.live += n
	return at
}

func (l *appended) put(key uint64, size int) {
	n := header + keySize + size
	if at, ok := l.index[key]; ok && int(binary.LittleEndian.Uint32(l.blocks[at.slab].mem[at.at:])) == n {
		recordOf(l.blocks[at.slab].mem[at.at:], key, size) // in place, as dense does
	} else {
		l.remove(key)
		at = l.append(key, n)
		recordOf(l.blocks[at.slab].mem[at.at:], key, size)
		l.index[key] = at
		l.live += int64(n)
	}
	l.written += int64(n)
}

func (l *appended) remove(key uint64) {
	at, ok := l.index[key]
	if !ok {
		return
	}
	delete(l.index, key)
	b := &l.blocks[at.slab]
	n := int(binary.LittleEndian.Uint32(b.mem[at.at:]))
	l.live -= int64(n)
	if b.live -= n; b.live == 0 && at.slab != l.open && at.slab != l.victim {
		l.giveBack(at.slab)
	}
}

func (l *appended) giveBack(number int) {
	l.blocks[number] = logBlock{}
	l.vacant = append(l.vacant, number)
	l.taken -= slab
}

func (l *appended) maintain(steps int) bool {
	for ; steps > 0; steps -= 8 {
		if l.victim < 0 {
			if l.taken-l.live <= l.taken/8+2*slab {
				return false
			}
			for i := range l.blocks {
				if b := &l.blocks[i]; b.mem != nil && i != l.open && (l.victim < 0 || b.live < l.blocks[l.victim].live) {
					l.victim = i
				}
			}
			if l.victim < 0 {
				return false
			}
			l.at = 0
		}
		b := &l.blocks[l.victim]
		if l.at >= b.end {
			l.giveBack(l.victim)
			l.victim = -1
			continue
		}
		n := int(binary.LittleEndian.Uint32(b.mem[l.at:]))
		key := binary.LittleEndian.Uint64(b.mem[l.at+header:])
		from := place{l.victim, l.at}
		if at, ok := l.index[key]; ok && at == from {
			record := b.mem[l.at : l.at+n]
			to := l.append(key, n)
			copy(l.blocks[to.slab].mem[to.at:], record)
			l.blocks[l.victim].live -= n
			l.index[key] = to
			l.copied += int64(n)
		}
		l.at += n
	}
	return true
}

func (l *appended) bytes() (live, taken int64) { return l.live, l.taken }
func (l *appended) moved() int64               { return l.copied }
