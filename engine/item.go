package engine

import (
	"encoding/binary"
	"unsafe"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// Kinds of records, by what their value is and how it is written.
const (
	kindString  dense.Kind = 1 + iota // version, 7 bytes; data
	kindTagged                        // version, 7 bytes; memcached's flags, 4; content type with its length, 1; data
	kindSession                       // see sessionValue.pack
	kindObject                        // 4 bytes: the place of a Go value in the partition's objects
	kindHash                          // see packedHash
	kindList                          // see block
	kindIntset                        // see setValue
	kindPackSet                       // see setValue
	kindRanks                         // see packedScores
	kindSketch                        // see sketchValue
	kindJSON                          // see package jsondoc
	kindMarked                        // as kindTagged, with memcached's marks, 1, and time of last access, 4, before the content type

	kindTaken dense.Kind = 0 // of a view whose object was taken
)

// An item is a view of a key with its value, for as long as one command runs. The key and a packed value are the
// record's own bytes: what changes them, changes the view.
//
// A command that looks a key up twice gets the same view twice.
type item struct {
	home     *keyspace
	ref      dense.Ref // 0 once it is removed
	hash     uint64
	key      []byte
	kind     dense.Kind
	note     uint32 // about use, for eviction; no part of the state
	used     bool   // the command has noted its use
	expireAt int64  // milliseconds since 1970, 0 for never
	value    value
	str      stringValue // what value points to where it is a string
	fields   hashValue   // what value points to where it is a small hash
	list     listValue   // the same where it is a small list
	set      setValue    // the same, where it is a packed set
	ranks    sortedSet   // what value points to where it is a small sorted set
	sketch   sketchValue // what value points to where it is a sketch
}

// A value is what an item holds. Every type of value is one of these.
type value interface {
	// kind is the type's name as the TYPE command gives it.
	kind() string
	// empty reports whether nothing is left in a collection, so that its key has to go.
	empty() bool
	// encode appends everything that replicas must agree on, in one canonical form.
	encode(dst []byte) []byte
}

// A packedValue is kept as bytes in its record, and looked at there.
type packedValue interface {
	value
	// pack appends to dst the bytes that the record is to hold, and says of what kind they are. It answers
	// kindObject, and appends nothing, when the value is to be kept as it is.
	pack(dst []byte) ([]byte, dense.Kind)
}

// A largeValue is one that is kept as it is, as Go has it, because it is too large to be packed.
type largeValue interface {
	value
	// bytes is what the value costs in memory, in O(1), as replicas agree on it.
	bytes() int64
}

// A destroyer is an object that holds memory of the store, which has to be given back when the object's key is gone.
// destroy is O(1): what takes time is left to Partition.Maintain.
type destroyer interface{ destroy() }

// Types lists the names of all types of value, as the TYPE command gives them.
func Types() []string {
	return append([]string{"string", "hash", "list", "set", "zset", "stream", "session"}, append(sketchTypes[1:], "ReJSON-RL")...)
}

// An objectSlot is a place among the partition's objects.
type objectSlot struct {
	value largeValue
	size  int64 // bytes as accounted last
}

func (p *Partition) addObject(v largeValue) uint32 {
	if d, ok := v.(destroyer); ok && p.journal != nil {
		delete(p.journal.dropped, d)
	}
	if n := len(p.spare); n > 0 {
		at := p.spare[n-1]
		p.spare = p.spare[:n-1]
		p.objects[at] = objectSlot{value: v}
		return at
	}
	p.objects = append(p.objects, objectSlot{value: v})
	return uint32(len(p.objects) - 1)
}

// takeObject takes an object out of its place, for another or for good.
func (p *Partition) takeObject(at uint32) largeValue {
	v := p.objects[at].value
	p.objects[at] = objectSlot{}
	p.spare = append(p.spare, at)
	return v
}

// dropObject forgets an object. Inside an atomic task, which may bring it back, its memory is kept for the time being.
func (p *Partition) dropObject(at uint32) {
	d, ok := p.takeObject(at).(destroyer)
	switch {
	case !ok:
	case p.journal == nil:
		d.destroy()
	case p.journal.dropped == nil:
		p.journal.dropped = map[destroyer]bool{d: true}
	default:
		p.journal.dropped[d] = true
	}
}

// keptViews is how many views a partition keeps for the next command; knownViews is among how many a command's second
// look at a key finds its first.
const (
	keptViews  = 1024
	knownViews = 64
)

// view returns the command's view of the record at ref.
func (k *keyspace) view(hash uint64, ref dense.Ref) *item {
	p := k.p
	for _, it := range p.views[:min(p.viewed, knownViews)] {
		if it.ref == ref && it.home == k {
			return it
		}
	}
	it := p.freshView()
	it.home, it.hash, it.ref, it.used = k, hash, ref, false
	it.load()
	return it
}

func (p *Partition) freshView() *item {
	var it *item
	if p.viewed < len(p.views) {
		it = p.views[p.viewed]
	} else {
		it = &item{}
		if p.viewed < keptViews {
			p.views = append(p.views, it)
		} else {
			return it
		}
	}
	p.viewed++
	return it
}

// unview gives back the view that was made last, which nobody holds.
func (p *Partition) unview(it *item) {
	if p.viewed > 0 && p.views[p.viewed-1] == it {
		p.viewed--
	}
}

// load reads the record into the view.
func (it *item) load() {
	p := it.home.p
	rec := p.store.Open(it.ref)
	it.key, it.kind, it.note, it.expireAt = rec.Key, rec.Kind, rec.Note, rec.ExpireAt
	switch rec.Kind {
	case kindString, kindTagged, kindMarked:
		it.str.load(rec.Kind, rec.Value, rec.Room)
		it.value = &it.str
	case kindList:
		it.list.small = rec.Value
		it.value = &it.list
	case kindSketch:
		it.sketch = sketchValue{b: rec.Value, room: rec.Room}
		it.value = &it.sketch
	case kindObject:
		it.value = p.objects[binary.LittleEndian.Uint32(rec.Value)].value
	default:
		it.value = unpackers[rec.Kind](it, rec.Value)
	}
}

// unpackers make values of the bytes of a record, by its kind.
var unpackers = [16]func(it *item, b []byte) value{
	kindSession: func(_ *item, b []byte) value { return unpackSession(b) },
	kindHash:    unpackHash,
	kindIntset:  unpackSet,
	kindPackSet: unpackSet,
	kindRanks:   unpackRanks,
	kindJSON:    func(_ *item, b []byte) value { return &jsonValue{doc: b} },
}

// expiredAt reports whether the item is gone: its own time has come, or that of everything in it.
func (it *item) expiredAt(now int64) bool {
	if it.expireAt != 0 && it.expireAt <= now {
		return true
	}
	h, ok := it.value.(*hashValue)
	return ok && h.gone(now)
}

// text is a string that shares b's bytes, for as long as they stay.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

var errWrongType = fault.New(fault.WrongType, "engine", "Operation against a key holding the wrong kind of value")
