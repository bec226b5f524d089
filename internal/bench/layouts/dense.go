package main

import (
	"encoding/binary"

	"github.com/larder-cache/larder/engine/dense"
)

// ours is the engine's store.
type ours struct {
	s       *dense.Store
	t       *dense.Table
	copied  int64
	written int64
}

func newDense() layout {
	o := &ours{s: dense.NewStore(dense.Seed{1, 2})}
	o.t = o.s.NewTable(false, o, nil)
	return o
}

// Moved counts what compaction copies.
func (o *ours) Moved(_, to dense.Ref) { o.copied += int64(o.s.Size(to)) }

func (o *ours) put(key uint64, size int) {
	var k [keySize]byte
	binary.LittleEndian.PutUint64(k[:], key)
	hash := o.s.Hash(k[:])
	if r := o.t.Find(hash, k[:]); r != 0 {
		o.t.Rewrite(hash, r, 1, size, 0, 0, false)
	} else {
		o.t.Insert(hash, 1, k[:], size, 0, 0)
	}
	o.written += int64(header + keySize + size)
	o.s.Settle()
}

func (o *ours) remove(key uint64) {
	var k [keySize]byte
	binary.LittleEndian.PutUint64(k[:], key)
	hash := o.s.Hash(k[:])
	if r := o.t.Find(hash, k[:]); r != 0 {
		o.t.Remove(hash, r)
		o.s.Settle()
	}
}

func (o *ours) maintain(steps int) bool { return o.s.Compact(steps, nil) }

func (o *ours) bytes() (live, taken int64) {
	u := o.s.Usage()
	return u.Live, u.Blocks
}

func (o *ours) moved() int64 { return o.copied }

func written(l layout) int64 {
	switch l := l.(type) {
	case *ours:
		return l.written
	case *classes:
		return l.written
	case *appended:
		return l.written
	}
	return 1
}
