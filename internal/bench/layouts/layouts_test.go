package main

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// Each layout holds what it was given, counted by its own books.
func TestLayoutsKeepTheirBooks(t *testing.T) {
	for _, kind := range layouts {
		r, l, sizes := rand.New(rand.NewPCG(1, 1)), kind.make(), map[uint64]int{}
		for range 30_000 {
			key := r.Uint64N(500)
			if r.IntN(3) == 0 {
				l.remove(key)
				delete(sizes, key)
			} else {
				sizes[key] = 20 + r.IntN(2000)
				l.put(key, sizes[key])
			}
			l.maintain(r.IntN(100))
		}
		var want int64
		for _, size := range sizes {
			want += int64(header + keySize + size)
		}
		live, taken := l.bytes()
		if _, ok := l.(*ours); ok {
			want = live // its headers are its own
		}
		if live != want || taken < live {
			t.Errorf("%s: %d bytes live in %d, want %d", kind.name, live, taken, want)
		}
		check := func(mem []byte, key uint64, size int) {
			if got := binary.LittleEndian.Uint64(mem[header:]); got != key || int(binary.LittleEndian.Uint32(mem)) != header+keySize+size {
				t.Fatalf("%s: record %d is lost", kind.name, key)
			}
		}
		for key, size := range sizes {
			switch l := l.(type) {
			case *classes:
				check(l.slabs[l.index[key].slab].mem[l.index[key].at:], key, size)
			case *appended:
				check(l.blocks[l.index[key].slab].mem[l.index[key].at:], key, size)
			}
		}
	}
}
