package engine

import (
	"bytes"
	"cmp"
	"container/list"
	"encoding/binary"
	"slices"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/keyslot"
)

// A Cut reads a cache as it stood at one position of the log, bit by bit, while writes go on. What is about to change and
// has not been read yet is copied first: the memory that a cut takes is that of what is overwritten meanwhile. Large
// collections are read element by element, so a write to one of ten million copies the elements it changes. To begin a cut
// is O(1); while one runs, a write costs a look-up more for what it changes.
//
// What a cache holds beside its items is small and copied when the cut begins, but the remembered tasks, which may be many:
// they never change, so it is enough to keep those that are forgotten before they were read.
//
//	Y1: what Read has returned and what it will return is the cache as it stood when the cut began
//	Y2: tables that were there then are kept until they have been read, even if their keys are gone: see dense.Group
//
// A cut outlives its cache. Whoever began it closes it.
type Cut struct {
	p       *Partition
	c       *cache
	queue   []Piece // what was about to change
	spaces  []cutSpace
	reading []*cutObject
	met     map[largeValue]*cutObject
	of      map[*dense.Table]*cutObject
	objects uint64 // given out

	piece Piece // that is shown

	settings  Settings
	tenure    *tenure.Tenure // as it was; nil for all slots
	scripts   []cutScript    // in the order of their use
	uses      uint64         // of scripts, so far
	libraries []*scriptLibrary
	once      *list.Element // of the cache's queue: the next one to read, if it is not younger than the cut
	onceUntil uint64        // serial of the last task that was remembered when the cut began
	forgotten []*remembered // before they were read
}

// A cutScript is what a cache knows of a script.
type cutScript struct {
	text   string
	used   uint64
	loaded bool
}

// A Piece is a part of a cut: a key with its value, or an element of a collection that came before. Read's pieces of one
// collection may have others between them. Slices are good until the partition is used again.
type Piece struct {
	DB       int
	Key      []byte // the key, or the element's name
	Kind     dense.Kind
	Value    []byte // as the record has it; of a large collection, what is to be said of it beside its elements
	Room     int    // bytes that the record has for Value, where that is more
	ExpireAt int64  // milliseconds since 1970, 0 for never

	Type       string // of a large collection and its elements: as TYPE names it
	Object     uint64 // which large collection this is or belongs to; 0 for none
	Element    bool
	Last       bool // nothing but this: no element of the collection is to come
	Unfinished bool // of a large collection's first piece: see unfinishedValue
}

type cutSpace struct {
	k     *keyspace
	db    int          // which it was: SWAPDB may have made it another
	table *dense.Table // which it has no more when it is flushed

	flushAt int64
}

type cutObject struct {
	id     uint64
	kind   string
	tables []*dense.Table
	stream *streamReader // of a stream, which has no tables
}

// A divided value is a large one whose elements lie in tables.
type divided interface {
	largeValue
	// parts are the tables, none of a stream.
	parts() []*dense.Table
	// header appends what the value is beside its elements.
	header(dst []byte) []byte
}

// Cut begins to read a cache; ok is false when the partition does not hold it, or one of its cuts is running.
func (p *Partition) Cut(id CacheID) (cut *Cut, ok bool) {
	c := p.caches[id]
	if c == nil || c.cut != nil {
		return nil, false
	}
	cut = &Cut{p: p, c: c, met: map[largeValue]*cutObject{}, of: map[*dense.Table]*cutObject{}, settings: c.settings, once: c.asked.Front(), onceUntil: p.lastOnce}
	if c.tenure != nil {
		held := *c.tenure
		cut.tenure = &held
	}
	for _, k := range c.dbs {
		if k != nil {
			cut.spaces = append(cut.spaces, cutSpace{k: k, db: k.db, table: k.table, flushAt: k.flushAt})
		}
	}
	if c.libraries != nil {
		cut.libraries = c.libraries.list
	}
	if s := c.scripts; s != nil {
		cut.uses = s.uses
		for _, k := range s.bySHA {
			cut.scripts = append(cut.scripts, cutScript{text: k.text, used: k.used, loaded: k.place == nil})
		}
		slices.SortFunc(cut.scripts, func(a, b cutScript) int { return cmp.Compare(a.used, b.used) })
	}
	c.group.Begin(cut.save)
	c.cut = cut
	return cut, true
}

// holds reports whether a key was held when the cut began.
func (cut *Cut) holds(key []byte) bool {
	return cut.tenure == nil || cut.tenure.Holds(keyslot.Of(key))
}

// Close ends the cut, whether or not all has been read.
func (cut *Cut) Close() {
	if cut.c.cut != cut {
		return
	}
	cut.c.cut = nil
	cut.c.group.End()
	*cut = Cut{p: cut.p, c: cut.c}
}

// Read visits up to about atMost pieces, and reports whether there are more.
func (cut *Cut) Read(atMost int, visit func(*Piece)) (more bool) {
	if cut.c.cut != cut {
		return false
	}
	for ; len(cut.queue) > 0 && atMost > 0; atMost-- {
		visit(&cut.queue[0])
		if cut.queue = cut.queue[1:]; len(cut.queue) == 0 {
			cut.queue = nil
		}
	}
	for len(cut.reading) > 0 && atMost > 0 {
		o := cut.reading[len(cut.reading)-1]
		if atMost = cut.readObject(o, atMost, visit); atMost > 0 {
			cut.reading = cut.reading[:len(cut.reading)-1]
			for _, t := range o.tables {
				delete(cut.of, t)
			}
			visit(&Piece{Object: o.id, Element: true, Last: true}) // the queue is empty, so all have come
		}
	}
	for i := 0; i < len(cut.spaces) && atMost > 0; i++ {
		s := &cut.spaces[i]
		for atMost > 0 && s.table.Cut() {
			s.table.ReadCut(min(atMost, 64), func(r dense.Ref) {
				cut.record(s, r, visit)
				atMost--
			})
			atMost--
		}
	}
	if atMost > 0 && len(cut.queue) == 0 && len(cut.reading) == 0 {
		return false
	}
	return true
}

// readObject goes on with a collection, and returns what is left of atMost, 0 while it is not done.
func (cut *Cut) readObject(o *cutObject, atMost int, visit func(*Piece)) int {
	if o.stream != nil {
		for atMost > 0 {
			piece := Piece{Object: o.id, Type: o.kind, Element: true}
			if !o.stream.next(&piece) {
				break
			}
			visit(&piece)
			atMost--
		}
		return max(atMost, 0)
	}
	for _, t := range o.tables {
		for t.Cut() {
			if atMost <= 0 {
				return 0
			}
			t.ReadCut(min(atMost, 64), func(r dense.Ref) {
				cut.piece = cut.element(o, r)
				visit(&cut.piece)
				atMost--
			})
			atMost--
		}
	}
	return max(atMost, 1)
}

func (cut *Cut) element(o *cutObject, r dense.Ref) Piece {
	rec := cut.p.store.Open(r)
	return Piece{Key: rec.Key, Kind: rec.Kind, Value: rec.Value, Room: rec.Room, ExpireAt: rec.ExpireAt, Type: o.kind, Object: o.id, Element: true}
}

// record hands over a key that has not changed.
func (cut *Cut) record(s *cutSpace, r dense.Ref, visit func(*Piece)) {
	rec := cut.p.store.Open(r)
	piece := &cut.piece
	*piece = Piece{DB: s.db, Key: rec.Key, Kind: rec.Kind, Value: rec.Value, Room: rec.Room, ExpireAt: rec.ExpireAt}
	if rec.Kind == kindObject {
		v := cut.p.objects[binary.LittleEndian.Uint32(rec.Value)].value
		if cut.met[v] != nil {
			return // it came when it was about to change
		}
		cut.meet(v, piece)
	}
	visit(piece)
}

// meet makes piece the first of a collection, whose elements are to follow.
func (cut *Cut) meet(v largeValue, piece *Piece) {
	cut.objects++
	o := &cutObject{id: cut.objects}
	cut.met[v] = o
	d := v.(divided)
	piece.Type, piece.Object, piece.Value, piece.Room = v.kind(), o.id, d.header(nil), 0
	if u, ok := v.(*unfinishedValue); ok {
		piece.Type, piece.Unfinished, v = u.v.kind(), true, u.v
	}
	if s, ok := v.(*streamValue); ok {
		o.stream = &streamReader{s: s.clone(func() {}).(*streamValue)}
	}
	o.kind, o.tables = piece.Type, d.parts()
	for _, t := range o.tables {
		cut.of[t] = o
	}
	cut.reading = append(cut.reading, o)
}

// replaced is told that an object is another now, with the same elements.
func (cut *Cut) replaced(from, to largeValue) {
	if o := cut.met[from]; o != nil {
		cut.met[to] = o
	}
}

// forgets is told of a task before its cache forgets it.
func (cut *Cut) forgets(d *remembered) {
	next := cut.nextOnce()
	if next == nil || d.serial < next.serial || d.serial > cut.onceUntil {
		return
	}
	cut.forgotten = append(cut.forgotten, d)
	if d == next {
		cut.once = cut.once.Next()
	}
}

// nextOnce is the next remembered task to read that is still there, nil for none.
func (cut *Cut) nextOnce() *remembered {
	if cut.once == nil {
		return nil
	}
	if d := cut.once.Value.(*remembered); d.serial <= cut.onceUntil {
		return d
	}
	return nil
}

// readOnce visits up to atMost remembered tasks.
func (cut *Cut) readOnce(atMost int, visit func(*remembered)) (more bool) {
	for ; atMost > 0 && len(cut.forgotten) > 0; atMost-- {
		visit(cut.forgotten[0])
		cut.forgotten = cut.forgotten[1:]
	}
	for ; atMost > 0 && cut.nextOnce() != nil; atMost-- {
		visit(cut.nextOnce())
		cut.once = cut.once.Next()
	}
	return len(cut.forgotten) > 0 || cut.nextOnce() != nil
}

// touches is told of each item that a command looks up for writing, before it changes anything.
func (cut *Cut) touches(it *item) {
	if it.kind != kindObject || !it.home.table.Untouched(it.hash, it.key) {
		return
	}
	if v := it.value.(largeValue); cut.met[v] == nil {
		piece := Piece{DB: cut.database(it.home), Key: bytes.Clone(it.key), Kind: kindObject, ExpireAt: it.expireAt}
		cut.meet(v, &piece)
		cut.queue = append(cut.queue, piece)
	}
}

// database is which one a keyspace was when the cut began.
func (cut *Cut) database(k *keyspace) int {
	for _, s := range cut.spaces {
		if s.k == k {
			return s.db
		}
	}
	return k.db
}

// save keeps a record that is about to change.
func (cut *Cut) save(t *dense.Table, r dense.Ref) {
	if r == 0 {
		return
	}
	if o := cut.of[t]; o != nil {
		piece := cut.element(o, r)
		piece.Key, piece.Value = bytes.Clone(piece.Key), bytes.Clone(piece.Value)
		cut.queue = append(cut.queue, piece)
		return
	}
	for _, s := range cut.spaces {
		if s.table == t {
			cut.record(&s, r, func(piece *Piece) {
				piece.Key, piece.Value = bytes.Clone(piece.Key), bytes.Clone(piece.Value)
				cut.queue = append(cut.queue, *piece)
			})
			return
		}
	}
	panic("engine: Y1: an element changes of a collection that the cut has not met")
}
