package engine

import (
	"encoding/binary"
	"slices"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/keyslot"
)

// An Export reads the keys of some slots of a cache while they are written, for a partition that is to have them. It goes over
// all keys once; a key that changes behind it is noted and read again, as a whole, as often as it takes. So when nothing is left
// to read and the slots are frozen, the target has what is here: no more and no less.
//
// What it reads are frames: see frameKind. A key that comes again replaces what came before; frameRemove says that it is gone.
// Large collections are read piece by piece; one that changes in between begins anew.
//
// An export is the leader's, and no part of the state: when the leader goes, so does the export, and another attempt begins.
//
//	F1: a key of the span that has changed since it was read stands in noted
//	F2: what is kept is bounded: where more than maxNoted keys wait, lost is set, and nothing is noted any more
type Export struct {
	p    *Partition
	c    *cache
	span tenure.Span
	lost bool // it has to begin anew: a database was emptied, or too much has changed

	begun   bool // what the cache has beside keys is read
	db      int  // where the walk is
	at      uint64
	scripts []*knownScript // that came to be known since
	once    uint64         // serial of the remembered task that was read last
	next    *remembered    // the one to read next; nil for none since
	noted   map[exportKey]bool
	queue   []exportKey // the same, the first to be read first
	object  exportObject
	objects uint64 // given out
	w       frameWriter
}

// An exportKey is a key of one database.
type exportKey struct {
	db  int
	key string
}

// An exportObject is a collection that is being read piece by piece; it is none while id is 0.
type exportObject struct {
	id     uint64
	key    exportKey
	kind   string
	tables []*dense.Table
	table  int
	at     uint64
	torn   bool // it has changed since it was begun
}

// Bounds of an export.
const (
	maxNoted    = 1 << 18   // keys that wait to be read again
	wholeObject = 256 << 10 // bytes of a collection that is read at once, so that a small one which changes all the time gets through
	exportLooks = 2048      // records that one Read goes over at the most
)

// Export begins to read the keys of a span. ok is false when the partition does not hold all of it, or another export of the
// cache is running.
func (p *Partition) Export(id CacheID, s tenure.Span) (x *Export, ok bool) {
	c := p.caches[id]
	if c == nil || c.export != nil || c.tenure == nil || c.tenure.Move == nil || !c.tenure.Move.Out || c.tenure.Move.Span != s {
		return nil, false
	}
	x = &Export{p: p, c: c, span: s, noted: map[exportKey]bool{}}
	if e := c.asked.Front(); e != nil {
		x.next = e.Value.(*remembered)
	}
	c.export = x
	return x, true
}

// Close ends the export.
func (x *Export) Close() {
	if x.c.export == x {
		x.c.export = nil
	}
	x.noted, x.queue, x.object, x.scripts, x.next, x.lost = nil, nil, exportObject{}, nil, nil, true
}

// Lost reports whether the export comes to nothing: another attempt has to begin.
func (x *Export) Lost() bool { return x.lost }

// Version is the last version that the partition has given out.
func (x *Export) Version() uint64 { return x.p.version }

// Left tells how much is left to read: about how many keys, or that not even the first round is over.
func (x *Export) Left() (keys int, walked bool) {
	keys = len(x.queue) + len(x.scripts)
	if x.object.id != 0 {
		keys++
	}
	if x.next != nil || x.unread() != nil {
		keys++
	}
	return keys, x.begun && x.db >= Databases
}

// note is told of each key that is looked up. What a command that writes looks at, it may be about to change.
func (x *Export) note(k *keyspace, hash uint64, key []byte) {
	c := &x.p.running
	if x.lost || !c.writing || c.cmd != nil && c.cmd.Flags&Writes == 0 || !x.span.Has(keyslot.Of(key)) {
		return
	}
	at := exportKey{k.db, string(key)}
	if x.object.id != 0 && x.object.key == at {
		x.object.torn = true
	}
	if k.db > x.db || k.db == x.db && dense.Position(hash) >= x.at || x.noted[at] { // it has not been read yet
		return
	}
	if len(x.queue) >= maxNoted {
		x.lost = true
		return
	}
	x.noted[at] = true
	x.queue = append(x.queue, at)
}

// forgets is told of a remembered task before its cache forgets it.
func (x *Export) forgets(d *remembered) {
	if x.next == d {
		x.next = nil
		if e := d.place.Next(); e != nil {
			x.next = e.Value.(*remembered)
		}
	}
}

// Read appends frames to dst, about so many bytes and one value more, and reports whether there is more to read at the
// moment.
func (x *Export) Read(dst []byte, bytes int) (b []byte, more bool) {
	if x.lost {
		return dst, true
	}
	p := x.p
	p.running.writing = false
	from := len(dst)
	x.w.b = dst
	defer func() { x.w.b = nil }()
	if !x.begun {
		x.begun = true
		x.beside()
	}
	full := func() bool { return len(x.w.b)-from >= bytes }
	for looks := exportLooks; looks > 0 && !full(); {
		switch {
		case x.object.id != 0:
			looks -= x.readObject(looks, full)
		case len(x.scripts) > 0:
			x.script(x.scripts[0])
			x.scripts = x.scripts[1:]
		case x.unread() != nil:
			d := x.unread()
			x.once = d.serial
			if x.next = nil; d.place.Next() != nil {
				x.next = d.place.Next().Value.(*remembered)
			}
			if d.slot < 0 || x.span.Has(uint16(d.slot)) {
				x.w.once(d)
			}
			looks--
		case x.db < Databases:
			looks -= x.walk(looks, full)
		case len(x.queue) > 0:
			at := x.queue[0]
			x.queue = x.queue[1:]
			delete(x.noted, at)
			x.again(at)
			looks--
		default:
			x.queue = nil
			return x.w.b, false
		}
	}
	return x.w.b, true
}

// unread is the next remembered task to read, nil for none.
func (x *Export) unread() *remembered {
	if x.next != nil {
		return x.next
	}
	if e := x.c.asked.Back(); e != nil && e.Value.(*remembered).serial > x.once { // it came behind the last one
		for prev := e.Prev(); prev != nil && prev.Value.(*remembered).serial > x.once; prev = e.Prev() {
			e = prev
		}
		return e.Value.(*remembered)
	}
	return nil
}

// beside reads what a cache has beside keys.
func (x *Export) beside() {
	w := &x.w
	for db, k := range x.c.dbs {
		if k != nil && k.flushAt != 0 {
			w.begin(frameFlush)
			w.number(uint64(db))
			w.number(uint64(k.flushAt))
			w.end()
		}
	}
	if s := x.c.scripts; s != nil {
		for _, k := range s.bySHA {
			x.scripts = append(x.scripts, k)
		}
		slices.SortFunc(x.scripts, func(a, b *knownScript) int { return int(int64(a.used) - int64(b.used)) })
	}
	if x.c.libraries != nil {
		for _, lib := range x.c.libraries.list {
			w.begin(frameLibrary)
			w.words(lib.code)
			w.end()
		}
	}
}

func (x *Export) script(k *knownScript) {
	x.w.begin(frameScript)
	x.w.number(k.used)
	x.w.byte(0)
	if k.place == nil {
		x.w.b[len(x.w.b)-1] = 1
	}
	x.w.words(k.text)
	x.w.end()
}

// walk reads keys that have not been read before, and returns how many it has gone over.
func (x *Export) walk(atMost int, full func() bool) (looks int) {
	k := x.c.dbs[x.db]
	if k == nil {
		x.db, x.at = x.db+1, 0
		return 1
	}
	over, last, begun := true, uint64(0), false
	k.table.Each(x.at, func(position uint64, r dense.Ref) bool {
		if (looks >= atMost || full() || x.object.id != 0) && !(begun && position == last) {
			over, x.at = false, position
			return false
		}
		if begun && position == last && x.object.id != 0 { // keys that share a position are read together, but not into a collection
			x.queueUp(exportKey{k.db, string(x.p.store.Key(r))})
			return true
		}
		begun, last = true, position
		looks++
		if x.span.Has(keyslot.Of(x.p.store.Key(r))) {
			x.read(k, r)
		}
		return true
	})
	if over {
		x.db, x.at = x.db+1, 0
	}
	return max(looks, 1)
}

func (x *Export) queueUp(at exportKey) {
	if x.span.Has(keyslot.Of([]byte(at.key))) && !x.noted[at] {
		x.noted[at] = true
		x.queue = append(x.queue, at)
	}
}

// again reads a key that has changed.
func (x *Export) again(at exportKey) {
	k := x.c.dbs[at.db]
	key := []byte(at.key)
	if k != nil {
		if r := k.table.Find(x.p.store.Hash(key), key); r != 0 {
			x.read(k, r)
			return
		}
	}
	x.gone(0, at)
}

func (x *Export) gone(object uint64, at exportKey) {
	x.w.begin(frameRemove)
	x.w.number(object)
	x.w.number(uint64(at.db))
	x.w.text([]byte(at.key))
	x.w.end()
}

// read reads a record.
func (x *Export) read(k *keyspace, r dense.Ref) {
	rec := x.p.store.Open(r)
	piece := Piece{DB: k.db, Key: rec.Key, Kind: rec.Kind, Value: rec.Value, Room: rec.Room, ExpireAt: rec.ExpireAt}
	if rec.Kind != kindObject {
		x.w.piece(&piece)
		return
	}
	v := x.p.objects[binary.LittleEndian.Uint32(rec.Value)].value
	d, ok := v.(divided)
	if _, unfinished := v.(*unfinishedValue); unfinished || !ok {
		panic("engine: F1: what is exported is not whole")
	}
	x.objects++
	piece.Type, piece.Object, piece.Value, piece.Room = v.kind(), x.objects, d.header(nil), 0
	x.w.piece(&piece)
	if s, ok := v.(*streamValue); ok {
		from := &streamReader{s: s}
		for {
			element := Piece{Object: x.objects, Type: piece.Type, Element: true}
			if !from.next(&element) {
				break
			}
			x.w.piece(&element)
		}
		x.w.piece(&Piece{Object: x.objects, Element: true, Last: true})
		return
	}
	x.object = exportObject{id: x.objects, key: exportKey{k.db, string(rec.Key)}, kind: piece.Type, tables: d.parts()}
	if v.bytes() <= wholeObject {
		x.readObject(1<<30, func() bool { return false })
	}
}

// readObject goes on with a collection, and returns how many elements it has gone over.
func (x *Export) readObject(atMost int, full func() bool) (looks int) {
	o := &x.object
	if o.torn {
		x.gone(o.id, o.key)
		x.queueUp(o.key)
		x.object = exportObject{}
		return 1
	}
	for o.table < len(o.tables) {
		over, last, begun := true, uint64(0), false
		o.tables[o.table].Each(o.at, func(position uint64, r dense.Ref) bool {
			if (looks >= atMost || full()) && !(begun && position == last) {
				over, o.at = false, position
				return false
			}
			begun, last = true, position
			looks++
			rec := x.p.store.Open(r)
			x.w.piece(&Piece{Key: rec.Key, Kind: rec.Kind, Value: rec.Value, Room: rec.Room, ExpireAt: rec.ExpireAt, Type: o.kind, Object: o.id, Element: true})
			return true
		})
		if !over {
			return max(looks, 1)
		}
		o.table, o.at = o.table+1, 0
	}
	x.w.piece(&Piece{Object: o.id, Element: true, Last: true})
	x.object = exportObject{}
	return max(looks, 1)
}
