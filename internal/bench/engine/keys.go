package main

import (
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
	"strconv"
)

// The items: 16-byte keys and 64-byte values, as in the project's bar for memory.
const (
	keySize   = 16
	valueSize = 64
)

// batch is how many keys are made at a time, outside the time that is measured. Their 64 KiB stay in the
// processor's second-level cache, for every contender alike.
const batch = 4096

// putKey writes key number i to dst. Keys are made from their numbers whenever they are needed, so no table of
// them costs memory; different numbers have different keys.
func putKey(dst []byte, i uint64) {
	i += 0x9e3779b97f4a7c15
	i = (i ^ i>>30) * 0xbf58476d1ce4e5b9
	i = (i ^ i>>27) * 0x94d049bb133111eb
	i ^= i >> 31
	var raw [8]byte
	for b := range raw {
		raw[b] = byte(i >> (8 * b))
	}
	hex.Encode(dst, raw[:])
}

// A permutation orders the numbers below n at random, without a table: it permutes the numbers below the next
// power of two and walks on from those that are too large.
type permutation struct {
	n, mask uint64
	half    int
	keys    [4]uint64
}

func newPermutation(n, seed uint64) permutation {
	width := max(bits.Len64(n-1), 2)
	p := permutation{n: n, mask: 1<<width - 1, half: (width + 1) / 2}
	r := rand.New(rand.NewPCG(seed, n))
	for i := range p.keys {
		p.keys[i] = r.Uint64() | 1
	}
	return p
}

func (p *permutation) at(i uint64) uint64 {
	for {
		for _, k := range p.keys {
			i = (i*k + k>>32) & p.mask
			i ^= i >> p.half
		}
		if i < p.n {
			return i
		}
	}
}

// A walk visits all numbers below n in random order, lap after lap, each lap in another order: whatever order a
// contender's memory took from one lap is of no help in the next.
type walk struct {
	n, seed    uint64
	lap, place uint64
	order      permutation
}

func newWalk(n int, seed uint64) *walk {
	return &walk{n: uint64(n), seed: seed, order: newPermutation(uint64(n), seed)}
}

func (w *walk) next() uint64 {
	if w.place == w.n {
		w.lap, w.place = w.lap+1, 0
		w.order = newPermutation(w.n, w.seed+w.lap)
	}
	w.place++
	return w.order.at(w.place - 1)
}

// fill writes the walk's next keys to dst, one behind the other.
func (w *walk) fill(dst []byte) {
	for ; len(dst) >= keySize; dst = dst[keySize:] {
		putKey(dst, w.next())
	}
}

// values are what is stored: a few random values of 64 bytes, so that they stay in cache.
var values = func() (list [256][]byte) {
	r := rand.New(rand.NewPCG(1, 2))
	for i := range list {
		list[i] = make([]byte, valueSize)
		for b := range list[i] {
			list[i][b] = byte(r.Uint32())
		}
	}
	return list
}()

// lifetimes are the TTLs in milliseconds, from one to two hours, that items get by their keys where they get one;
// nothing expires while we measure.
var lifetimes = func() (list [256]lifetime) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range list {
		ms := 3_600_000 + r.IntN(3_600_000)
		list[i] = lifetime{ms: ms, text: []byte(strconv.Itoa(ms))}
	}
	return list
}()

type lifetime struct {
	ms   int
	text []byte
}

// lifetimeOf chooses by two of the key's hexadecimal digits.
func lifetimeOf(key []byte) *lifetime { return &lifetimes[key[3]&15<<4|key[5]&15] }
