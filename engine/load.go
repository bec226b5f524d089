package engine

import (
	"cmp"
	"container/list"
	"slices"
)

// How a partition gets back, after its process has ended, the caches that were written down: from a cut of them (CutCaches) and
// from the tasks that came after it, in their order. Tasks of different caches do not depend on each other, so it does not
// matter which others there were:
//
//   - all tasks of an entry that was written down are of one cache; Sweep and Relieve keep to that
//   - the time is the entry's, and the last version given out before it is written down with it

// A Receipt stands for replies that show something which could still be lost. They may be seen when Log has synced At.
type Receipt struct {
	Log Keeping // nil for nothing to wait for
	At  uint64
}

// Keeping is a log that is being written. Tell has somebody told, once, when it has synced an index: perhaps at once, perhaps
// on another goroutine.
type Keeping interface {
	Synced() uint64
	Tell(index uint64, who interface{ Synced() })
}

// Pending reports whether there is something to wait for.
func (r *Receipt) Pending() bool { return r.Log != nil && r.Log.Synced() < r.At }

// Join makes r wait for another as well. There is one log.
func (r *Receipt) Join(o Receipt) {
	if o.At > r.At {
		*r = o
	}
}

// Version is the last version that was given out.
func (p *Partition) Version() uint64 { return p.version }

// OneGo reports whether a task is carried out as a whole, whatever its Enough says.
func (t *Task) OneGo() bool { return t.whole() }

// A Loader fills a partition with caches that were written down. Others may be there already: they are left alone, also if they
// were written down once. Nobody else uses the partition before Done.
type Loader struct {
	p       *Partition
	now     int64
	version uint64
	there   map[CacheID]bool // before
	begun   map[CacheID]bool // have begun, empty: the entry that follows makes them, with what they hold
}

// Load begins to fill a partition.
func (p *Partition) Load() *Loader {
	l := &Loader{p: p, now: p.now, version: p.version, there: map[CacheID]bool{}, begun: map[CacheID]bool{}}
	for id := range p.caches {
		l.there[id] = true
	}
	return l
}

// Restore returns what takes a cut that CutCaches has written. It comes first.
func (l *Loader) Restore() *Restorer {
	l.p.running = call{p: l.p}
	return &Restorer{p: l.p, skip: func(id CacheID) bool { return l.there[id] }}
}

// Begin has an empty cache begin, and End has one go.
func (l *Loader) Begin(id CacheID) {
	if !l.there[id] {
		l.begun[id] = true
	}
}

// End is Begin's opposite.
func (l *Loader) End(id CacheID) {
	if !l.there[id] {
		delete(l.begun, id)
		l.p.drop(id)
	}
}

// Apply carries out an entry before which version was the last one given out. An entry of a cache that is not loaded is none.
func (l *Loader) Apply(e *Entry, version uint64) {
	if len(e.Tasks) == 0 {
		return
	}
	if id := e.Tasks[0].Cache; l.there[id] || l.p.caches[id] == nil && !l.begun[id] {
		return
	}
	l.p.now, l.p.version = e.Now, version
	l.now, l.version = max(l.now, e.Now), max(l.version, version)
	l.p.Apply(e)
	l.version = max(l.version, l.p.version)
}

// Loaded lists the caches that were loaded.
func (l *Loader) Loaded() []CacheID {
	return slices.DeleteFunc(l.p.Caches(), func(id CacheID) bool { return l.there[id] })
}

// Done ends loading. Remembered tasks of all caches are put in one order (O1).
func (l *Loader) Done() {
	p := l.p
	p.now, p.version = max(l.now, p.now), max(l.version, p.version)
	all := make([]*remembered, 0, p.once.Len())
	for e := p.once.Front(); e != nil; e = e.Next() {
		all = append(all, e.Value.(*remembered))
	}
	slices.SortStableFunc(all, func(a, b *remembered) int {
		return cmp.Or(cmp.Compare(a.expireAt, b.expireAt), cmp.Compare(a.serial, b.serial))
	})
	p.once = list.List{}
	for _, d := range all {
		p.lastOnce++
		d.serial, d.queued = p.lastOnce, p.once.PushBack(d)
	}
}
