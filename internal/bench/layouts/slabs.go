package main

import (
	"encoding/binary"
	"math"

	"github.com/larder-cache/larder/engine/memory"
)

// slabs are size classes as memcached has them: a record takes a chunk of the next class, each class has slabs of its own, and
// a slab that is empty goes back. Beyond that, Maintain moves the records of a class's sparsest slab into its other
// slabs, once what is free in the class is more than an eighth of it, and a slab: without that, what a burst of one size
// has taken is hardly ever empty again.
//
//	S1: used counts the chunks of a slab that hold a record; a slab without any is given back
//	S2: open of a class lists its slabs with free chunks, and a slab's place is where it stands there, or -1
type slabs struct {
	pages   *memory.Pages
	index   index
	diary   diary
	classes []class
	slabs   []slab // 0 does not exist
	vacant  []int
	usage   Usage
	drain   int // the slab whose records Maintain moves, 0 for none
	at      int // its next chunk to look at
}

type class struct {
	size, chunks      int // bytes of a chunk, and chunks in a slab
	open              []int
	total, used, lots int // chunks; lots are slabs
}

type slab struct {
	mem         []byte
	class       int
	used, fresh int // chunks from fresh on never held anything
	free        int // the first free chunk plus 1; each holds the next in its bytes 1 to 4
	place       int
}

// newSlabs makes classes that are spaced by a factor.
func newSlabs(factor float64) func(records int) Layout {
	return func(records int) Layout {
		l := &slabs{pages: memory.New(), slabs: make([]slab, 1)}
		l.index = newIndex(records, func(r ref) []byte {
			key, _, _, _ := readRecord(l.bytes(r))
			return key
		})
		for size := 24.0; size < blockSize/4; size = math.Max(size*factor, size+8) {
			n := (int(size) + 7) / 8 * 8
			l.classes = append(l.classes, class{size: n, chunks: blockSize / n})
		}
		return l
	}
}

func (l *slabs) bytes(r ref) []byte { return l.slabs[r.block()].mem[r.offset():] }

func (l *slabs) classFor(n int) int {
	low, high := 0, len(l.classes)-1
	for low < high {
		if mid := (low + high) / 2; l.classes[mid].size < n {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// alloc takes a chunk of a class.
func (l *slabs) alloc(c int) ref {
	k := &l.classes[c]
	if len(k.open) == 0 {
		at := len(l.slabs)
		if n := len(l.vacant); n > 0 {
			at, l.vacant = l.vacant[n-1], l.vacant[:n-1]
		} else {
			l.slabs = append(l.slabs, slab{})
		}
		l.slabs[at] = slab{mem: l.pages.Alloc(blockSize), class: c}
		k.open = append(k.open, at)
		k.total, k.lots = k.total+k.chunks, k.lots+1
	}
	at := k.open[len(k.open)-1]
	s := &l.slabs[at]
	chunk := s.fresh
	if s.free > 0 {
		chunk = s.free - 1
		s.free = int(binary.LittleEndian.Uint32(s.mem[chunk*k.size+1:]))
	} else {
		s.fresh++
	}
	s.used++
	k.used++
	if s.used == k.chunks {
		l.close(at)
	}
	return refOf(at, chunk*k.size)
}

// close takes a slab out of those with free chunks.
func (l *slabs) close(at int) {
	k := &l.classes[l.slabs[at].class]
	last := k.open[len(k.open)-1]
	place := l.slabs[at].place
	k.open[place] = last
	l.slabs[last].place = place
	k.open = k.open[:len(k.open)-1]
	l.slabs[at].place = -1
}

// release frees a chunk.
func (l *slabs) release(r ref) {
	at := r.block()
	s := &l.slabs[at]
	k := &l.classes[s.class]
	s.mem[r.offset()] = 0
	binary.LittleEndian.PutUint32(s.mem[r.offset()+1:], uint32(s.free))
	s.free = r.offset()/k.size + 1
	s.used--
	k.used--
	if s.place < 0 && at != l.drain {
		s.place = len(k.open)
		k.open = append(k.open, at)
	}
	if s.used > 0 {
		return
	}
	if at == l.drain {
		l.drain = 0
	} else {
		l.close(at)
	}
	l.pages.Free(s.mem)
	k.total, k.lots = k.total-k.chunks, k.lots-1
	*s = slab{}
	l.vacant = append(l.vacant, at)
}

func (l *slabs) Put(key, value []byte, expireAt int64) {
	n, hash := sizeOf(key, value, expireAt), hashOf(key)
	at, r := l.index.find(hash, key)
	c := l.classFor(n)
	if r != 0 {
		_, _, _, old := readRecord(l.bytes(r))
		l.usage.Live -= int64(old)
		if l.slabs[r.block()].class != c {
			l.release(r)
			r = 0
		}
	}
	if r == 0 {
		r = l.alloc(c)
		l.index.set(at, hash, r)
	}
	writeRecord(l.bytes(r), key, value, expireAt)
	l.usage.Live += int64(n)
	l.usage.Written += int64(n)
	if expireAt != 0 {
		l.diary.add(key, expireAt)
	}
}

func (l *slabs) Get(key []byte) []byte {
	_, r := l.index.find(hashOf(key), key)
	if r == 0 {
		return nil
	}
	_, value, _, _ := readRecord(l.bytes(r))
	return value
}

func (l *slabs) Delete(key []byte) {
	at, r := l.index.find(hashOf(key), key)
	if r == 0 {
		return
	}
	_, _, _, n := readRecord(l.bytes(r))
	l.usage.Live -= int64(n)
	l.index.drop(at)
	l.release(r)
}

func (l *slabs) Expire(now int64, atMost int) {
	l.diary.due(now, atMost, func(key []byte) {
		_, r := l.index.find(hashOf(key), key)
		if r == 0 {
			return
		}
		if _, _, at, _ := readRecord(l.bytes(r)); at != 0 && at <= now {
			l.Delete(key)
		}
	})
}

func (l *slabs) Maintain(steps int) bool {
	for steps > 0 {
		if l.drain == 0 && !l.choose() {
			return false
		}
		s := &l.slabs[l.drain]
		size := l.classes[s.class].size
		from := refOf(l.drain, l.at*size)
		l.at++
		steps--
		if s.mem[from.offset()] == 0 {
			continue
		}
		key, _, _, n := readRecord(l.bytes(from))
		hash := hashOf(key)
		slot, _ := l.index.locate(hash, from)
		to := l.alloc(s.class)
		copy(l.bytes(to), l.bytes(from)[:n])
		l.index.set(slot, hash, to)
		l.usage.Moved += int64(n)
		l.release(from)
		steps -= 8
	}
	return true
}

// choose picks the sparsest slab of a class that has room to spare for what is in it.
func (l *slabs) choose() bool {
	for c := range l.classes {
		k := &l.classes[c]
		if k.total-k.used <= k.total/8+k.chunks {
			continue
		}
		least := k.open[0]
		for _, at := range k.open {
			if l.slabs[at].used < l.slabs[least].used {
				least = at
			}
		}
		l.close(least)
		l.drain, l.at = least, 0
		return true
	}
	return false
}

func (l *slabs) Usage() Usage {
	u := l.usage
	u.Memory = l.pages.Used()
	return u
}

func (l *slabs) Close() { l.pages.Close() }
