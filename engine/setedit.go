package engine

import (
	"bytes"

	"github.com/larder-cache/larder/engine/dense"
)

// A setEdit changes a set on behalf of a command. A packed set is changed in the partition's scratch buffer, into which
// the first change copies it, and stored by done; so the record stays as it is until then, and ten members in one command
// cost one record. A large set changes in its place. done also turns one form into another where members have
// left; where members come in, add does.
type setEdit struct {
	c       *call
	it      *item     // the view of the set, nil where there is none
	s       *setValue // what it is becoming
	fresh   setValue
	own     bool // s.b is scratch
	placed  bool // s is the item's object: changes have to be taken back one by one
	changed bool
	moving  setMember // one that goes from form to form
}

// editSet begins to change s, the set in it; both are nil for none. One edit must be done before the next begins.
func (c *call) editSet(s *setValue, it *item) *setEdit {
	e := &c.p.setEdit
	*e = setEdit{c: c, it: it, s: s, placed: it != nil && it.kind == kindObject}
	if s == nil {
		e.s = &e.fresh
	}
	return e
}

// add puts m in and reports whether it is new.
func (e *setEdit) add(m *setMember) bool {
	if e.s.has(m) {
		return false
	}
	e.enter(m)
	return true
}

// enter puts in a member that is not there.
func (e *setEdit) enter(m *setMember) {
	if form := e.s.formWith(m); form != e.s.form {
		e.become(form)
	}
	e.begin()
	e.s.enter(m)
	if j := e.c.p.journal; j != nil && e.placed {
		s, key := e.s, bytes.Clone(m.key())
		j.add(func() {
			var m setMember
			m.setKey(key)
			s.cutRecord(&m, s.table.Find(m.hashIn(s.store), key))
		})
	}
}

// remove takes m out and reports whether it was there.
func (e *setEdit) remove(m *setMember) bool {
	if e.s.table == nil {
		at := e.s.locate(m)
		if at == 0 {
			return false
		}
		e.begin()
		e.s.cut(at)
		return true
	}
	r := e.s.table.Find(m.hashIn(e.s.store), m.key())
	if r == 0 {
		return false
	}
	e.begin()
	e.s.cutRecord(m, r)
	if j := e.c.p.journal; j != nil && e.placed {
		s, key := e.s, bytes.Clone(m.key())
		j.add(func() {
			var m setMember
			m.setKey(key)
			s.enter(&m)
		})
	}
	return true
}

// begin makes the set one that may be changed.
func (e *setEdit) begin() {
	e.changed = true
	if !e.own && e.s.table == nil {
		e.s.b = append(e.c.p.scratch[:0], e.s.b...)
		e.own = true
	}
}

// become gives the set another form.
func (e *setEdit) become(form dense.Kind) {
	p, old := e.c.p, *e.s
	switch {
	case form == kindObject:
		e.s = newLargeSet(p.store)
	case e.own: // the old one is in the scratch buffer
		*e.s = setValue{form: form}
	default:
		*e.s = setValue{form: form, b: p.scratch[:0]}
		e.own = true
	}
	for at := 1; at < len(old.b); {
		at = old.take(at, &e.moving)
		e.s.enter(&e.moving)
	}
}

// shrink packs a large set again.
func (e *setEdit) shrink(form dense.Kind) {
	e.fresh, e.own = setValue{form: form, b: e.c.p.scratch[:0]}, true
	e.s.each(&e.moving, func(m *setMember) bool {
		e.fresh.enter(m)
		return true
	})
	e.s, e.placed = &e.fresh, false
}

// done stores what has changed under key, which is new if there was no set, and removes what is left empty.
func (e *setEdit) done(key []byte) {
	c, it := e.c, e.it
	if !e.changed {
		return
	}
	k, j := c.keys(), c.p.journal
	if j != nil && e.placed {
		j.changed = append(j.changed, place{k, string(key)})
	}
	if e.s.empty() {
		c.dropItem(it)
		return
	}
	if form := e.s.formLeft(); form != e.s.form {
		e.shrink(form)
	}
	if e.placed {
		k.resized(it.object())
		k.account()
		k.touched(key)
		return
	}
	if j != nil {
		j.remember(place{k, string(key)}, it)
	}
	expireAt := c.defaultDeadline()
	if it != nil {
		expireAt = it.expireAt
	}
	e.store(it, key, expireAt)
}

// store puts the set under key, in the place of what it is the view of, nil for nothing.
func (e *setEdit) store(it *item, key []byte, expireAt int64) {
	k := e.c.keys()
	if e.s.table != nil {
		k.put(it, key, e.s, expireAt)
		return
	}
	held, b := k.hold(it, key, e.s.form, len(e.s.b), 0, expireAt)
	copy(b, e.s.b)
	e.c.p.scratch = keep(e.s.b)
	k.loaded(held)
}
