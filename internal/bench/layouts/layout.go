package main

import (
	"encoding/binary"

	"github.com/dchest/siphash"

	"github.com/larder-cache/larder/engine/dense"
)

// A Layout keeps records, each a key and a value with a deadline or none, in blocks of blockSize bytes.
type Layout interface {
	// Put writes a record, over the one that key has, if any. expireAt is in milliseconds, 0 for never.
	Put(key, value []byte, expireAt int64)
	// Get returns a value until the next call of another method, nil for none.
	Get(key []byte) []byte
	Delete(key []byte)
	// Expire deletes what is due, and looks at no more than about atMost keys.
	Expire(now int64, atMost int)
	// Maintain does up to about so many steps of work at giving memory back, and reports whether there is more: a
	// step is a slot of the index or a record looked at, and a move eight.
	Maintain(steps int) (more bool)
	Usage() Usage
}

// Usage tells how a layout spends memory. Indexes and lists of deadlines are left out: they are none of a layout's own.
type Usage struct {
	Live    int64 // bytes of records: header, key and value
	Memory  int64 // bytes taken from the operating system for them
	Written int64 // bytes of records that were put
	Moved   int64 // bytes of records that Maintain copied
}

const blockSize = 256 << 10

// A header is a record's, as package dense has it: flags, a deadline of 5 bytes or none, two lengths.
const (
	present  = 0x01
	deadline = 0x40
	epoch    = 1_577_836_800_000
)

func sizeOf(key, value []byte, expireAt int64) int {
	return dense.RecordSize(len(key), len(value), expireAt, false)
}

func writeRecord(to, key, value []byte, expireAt int64) {
	to[0] = present
	at := 1
	if expireAt != 0 {
		to[0] |= deadline
		binary.LittleEndian.PutUint32(to[1:], uint32(expireAt-epoch))
		to[5] = byte((expireAt - epoch) >> 32)
		at = 6
	}
	at += binary.PutUvarint(to[at:], uint64(len(key)))
	at += binary.PutUvarint(to[at:], uint64(len(value)))
	at += copy(to[at:], key)
	copy(to[at:], value)
}

// readRecord returns the parts of a record, and its size.
func readRecord(from []byte) (key, value []byte, expireAt int64, size int) {
	at := 1
	if from[0]&deadline != 0 {
		expireAt = int64(binary.LittleEndian.Uint32(from[1:])) + int64(from[5])<<32 + epoch
		at = 6
	}
	k, w := binary.Uvarint(from[at:])
	at += w
	v, w := binary.Uvarint(from[at:])
	at += w
	key = from[at : at+int(k)]
	at += int(k)
	return key, from[at : at+int(v)], expireAt, at + int(v)
}

// A ref says where a record of a prototype lies: a block and an offset in it. 0 is no record.
type ref uint64

func refOf(block, offset int) ref { return ref(block*blockSize + offset) }
func (r ref) block() int          { return int(r / blockSize) }
func (r ref) offset() int         { return int(r % blockSize) }

// An index finds the records of a prototype: an open table of 8-byte slots with linear probing, large enough from the start,
// so that no prototype is charged for its growth. A slot is the first 27 bits of a key's hash and a ref.
type index struct {
	slots []uint64
	mask  uint64
	key   func(r ref) []byte
}

const refBits = 37

func newIndex(records int, key func(r ref) []byte) index {
	n := 1
	for n < records*3/2 {
		n *= 2
	}
	return index{slots: make([]uint64, n), mask: uint64(n - 1), key: key}
}

func hashOf(key []byte) uint64                  { return siphash.Hash(1, 2, key) }
func slotOf(hash uint64, r ref) uint64          { return hash>>refBits<<refBits | uint64(r) }
func refIn(slot uint64) ref                     { return ref(slot & (1<<refBits - 1)) }
func (x *index) home(hash uint64) uint64        { return hash >> refBits & x.mask }
func (x *index) set(at uint64, h uint64, r ref) { x.slots[at] = slotOf(h, r) }

// find returns where a key's slot is, or where it would be, and its record.
func (x *index) find(hash uint64, key []byte) (at uint64, r ref) {
	for at = x.home(hash); x.slots[at] != 0; at = (at + 1) & x.mask {
		if x.slots[at]>>refBits == hash>>refBits {
			if r := refIn(x.slots[at]); string(x.key(r)) == string(key) {
				return at, r
			}
		}
	}
	return at, 0
}

// locate returns where the slot of r is, and whether there is one.
func (x *index) locate(hash uint64, r ref) (at uint64, found bool) {
	want := slotOf(hash, r)
	for at = x.home(hash); x.slots[at] != 0; at = (at + 1) & x.mask {
		if x.slots[at] == want {
			return at, true
		}
	}
	return at, false
}

// drop empties a slot, and moves those behind it back that were pushed along.
func (x *index) drop(at uint64) {
	for next := (at + 1) & x.mask; x.slots[next] != 0; next = (next + 1) & x.mask {
		if home := x.home(x.slots[next]); (next-home)&x.mask >= (next-at)&x.mask {
			x.slots[at] = x.slots[next]
			at = next
		}
	}
	x.slots[at] = 0
}

// A diary lists the keys that are due in each second, for the prototypes.
type diary struct {
	keys map[int64][]byte // each with its length before it, one byte
	next int64
}

func (d *diary) add(key []byte, at int64) {
	if d.keys == nil {
		d.keys = map[int64][]byte{}
	}
	second := at/1000 + 1
	d.keys[second] = append(append(d.keys[second], byte(len(key))), key...)
	if d.next == 0 || second < d.next {
		d.next = second
	}
}

// due visits keys of the seconds that have passed. A key may have been deleted, or given another deadline.
func (d *diary) due(now int64, atMost int, visit func(key []byte)) {
	for ; d.next != 0 && d.next*1000 <= now; d.next++ {
		for list := d.keys[d.next]; len(list) > 0; atMost-- {
			if atMost == 0 {
				return
			}
			n := 1 + int(list[0])
			visit(list[1:n])
			list = list[n:]
			d.keys[d.next] = list
		}
		delete(d.keys, d.next)
	}
}
