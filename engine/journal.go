package engine

import (
	"bytes"
	"maps"
)

// A journal remembers how to undo an atomic task. Commands that replace or remove whole items, or change packed ones,
// are covered by remember; objects that change in place add the inverse of each of their changes.
type journal struct {
	inverse []func()
	known   map[place]bool // places whose first state is remembered
	changed []place
	dropped map[destroyer]bool // objects that nobody names any more, unless an undo brings them back
	emptied []*contents        // what keyspaces held that were flushed
	version uint64             // the partition's last version before the task
	bytes   int64              // about what it holds in memory, objects apart
}

// A place is a key of a keyspace.
type place struct {
	home *keyspace
	key  string
}

// add notes how to take back one change. Inverses run in reverse order, so each finds exactly the state that
// its change left. They hold on to values and places, never to items: an undo makes items anew.
func (j *journal) add(inverse func()) {
	j.inverse = append(j.inverse, inverse)
	j.bytes += inverseBytes
}

// inverseBytes is about what an inverse takes beside the bytes that it keeps, with its place.
const inverseBytes = 160

// remember notes what is under key (it, or nothing when nil) before it is replaced, removed, changed where it lies or
// given another deadline. Only the first state of a place in a task counts.
func (j *journal) remember(at place, it *item) {
	if j.known[at] {
		return
	}
	if j.known == nil {
		j.known = map[place]bool{}
	}
	j.known[at] = true
	if it == nil {
		j.add(at.clear)
		return
	}
	k := at.home
	rec := k.p.store.Open(it.ref)
	kind, note, expireAt, room, data := rec.Kind, rec.Note, rec.ExpireAt, rec.Room, bytes.Clone(rec.Value)
	j.bytes += int64(len(data) + 2*len(at.key))
	var o largeValue
	if kind == kindObject {
		o = it.value.(largeValue)
	}
	j.add(func() {
		at.clear()
		if o != nil {
			k.put(nil, []byte(at.key), o, expireAt)
			return
		}
		back, dst := k.hold(nil, []byte(at.key), kind, len(data), room, expireAt)
		copy(dst, data)
		k.p.store.SetNote(back.ref, note)
		k.loaded(back)
	})
}

func (at place) clear() {
	if it := at.find(); it != nil {
		at.home.remove(it)
	}
}

// find returns a view of its own of what is at a place, nil for nothing: an undo must not touch those of the command.
func (at place) find() *item {
	k := at.home
	hash := k.p.store.Hash([]byte(at.key))
	ref := k.table.Find(hash, []byte(at.key))
	if ref == 0 {
		return nil
	}
	it := &item{home: k, hash: hash, ref: ref}
	it.load()
	return it
}

// undo takes back everything, then accounts anew the objects that changed in place: only now are they what they were.
func (j *journal) undo(p *Partition) {
	for i := len(j.inverse) - 1; i >= 0; i-- {
		p.viewed, p.looked = 0, look{}
		j.inverse[i]()
	}
	for _, at := range j.changed {
		if it := at.find(); it != nil && it.kind == kindObject {
			at.home.resized(it.object())
			at.home.awaits(it)
			at.home.account()
		}
	}
	for at := range j.known { // a value may have come back to one key before it was taken from another
		if it := at.find(); it != nil && it.kind == kindObject {
			if d, ok := it.value.(destroyer); ok {
				delete(j.dropped, d)
			}
		}
	}
	p.version = j.version // nobody has seen a later one
}

// settle destroys the objects that were dropped and did not come back. The task is over.
func (j *journal) settle() {
	for d := range j.dropped {
		d.destroy()
	}
	for _, was := range j.emptied {
		was.drop()
	}
}

// join adds what a script noted that has come to its end inside of a task.
func (j *journal) join(inner *journal) {
	j.inverse = append(j.inverse, inner.inverse...)
	j.changed = append(j.changed, inner.changed...)
	j.bytes += inner.bytes
	if j.known == nil {
		j.known = inner.known
	} else {
		maps.Copy(j.known, inner.known)
	}
	j.emptied = append(j.emptied, inner.emptied...)
	if j.dropped == nil {
		j.dropped = inner.dropped
	} else {
		maps.Copy(j.dropped, inner.dropped)
	}
}
