package engine

import "github.com/larder-cache/larder/engine/dense"

// Most calls of a cache are a GET of a plain string, and a SET of one that is as long as the one before. They have a short way
// through the engine, without a view of the item and without a call's surroundings: what they do, and what they answer, is what
// the functions in strings.go do and answer, which are carried out wherever there is anything more to it. A test gives the same
// tasks to a partition that has no short ways.

// A short carries out a call whose arguments are as many as its command wants, on a database that is there, and reports whether
// it did; otherwise it has done nothing.
type short func(w *way, call *Call, hash uint64) bool

// A way is what a short sees of the world: see Partition.shortWay.
type way struct {
	p       *Partition
	k       *keyspace
	out     Reply
	now     int64
	writing bool
	quiet   bool
}

// shortWay makes ready for shorts, and reports whether calls of this task may take them: nobody follows the cache, or moves it, or
// reads it as it stood at one moment, and nothing that is done may have to be undone.
func (p *Partition) shortWay(w *way, c *cache, t *Task, out Reply, now int64, writing bool) bool {
	if c == nil || t.whole() || t.Waits || t.DB < 0 || t.DB >= Databases || p.longhand {
		return false
	}
	k := c.dbs[t.DB]
	if k == nil || c.tenure != nil || c.feeds != nil || c.export != nil || c.cut != nil || c.observed || c.settings.Notify != 0 || c.group.Running() {
		return false
	}
	*w = way{p: p, k: k, out: out, now: now, writing: writing, quiet: t.Quiet}
	return true
}

// sight finds a plain string that has not expired.
func (w *way) sight(hash uint64, key []byte) (s dense.Sight, ok bool) {
	s = w.k.table.Look(hash, key)
	return s, s.Ref != 0 && s.Kind == kindString && (s.ExpireAt == 0 || s.ExpireAt > w.now)
}

// touch is call.touch.
func (w *way) touch(hash uint64, s *dense.Sight) {
	if !w.quiet {
		w.p.store.SetNote(s.Ref, w.k.policy.Hit(hash, s.Note, w.now))
	}
}

// shortGet is get.
func shortGet(w *way, call *Call, hash uint64) bool {
	if len(call.Args) != 2 {
		return false
	}
	s, ok := w.sight(hash, call.Args[1])
	counts := &w.k.owner.counts
	switch {
	case ok:
		w.touch(hash, &s)
		counts.Hits++
		w.out.Bulk(s.Value[versionBytes:])
	case s.Ref == 0:
		counts.Misses++
		w.out.Null()
	default:
		return false
	}
	return true
}

// shortSet is set without options, where it overwrites: no account changes but the note of use.
func shortSet(w *way, call *Call, hash uint64) bool {
	c := w.k.owner
	if len(call.Args) != 3 || !w.writing || c.settings.DefaultTTL != 0 {
		return false
	}
	if limit := c.settings.MemoryLimit; limit != 0 && c.used+needOfArgs(call.Command, call.Args)+newItem > limit {
		return false
	}
	data := call.Args[2]
	s, ok := w.sight(hash, call.Args[1])
	if !ok || s.ExpireAt != 0 || s.Apart || len(s.Value) != versionBytes+len(data) || int64(len(data)) > c.maxValue() {
		return false
	}
	w.touch(hash, &s)
	putVersion(s.Value, w.p.nextVersion())
	copy(s.Value[versionBytes:], data)
	w.out.Status("OK")
	return true
}
