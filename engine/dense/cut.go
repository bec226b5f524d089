package dense

import "slices"

// A Group is the tables that are cut together: those of one cache. A cut reads them as they stood at one moment, bit by
// bit, while they change. So before a record changes that the cut has not come to yet, whoever does the cut is told, and
// keeps what it needs of the old state. A table learns of a cut when it is changed or read for the first time after the
// cut began: to begin one costs the same however many tables there are.
//
//	X1: while a cut runs, a table of another epoch is as it stood when the cut began, but for the keys in its cut's known
//	X2: a table of the group's epoch was made after the cut began, or has been read to its end
//	X3: held are the tables that were dropped before they had been read; they go when they have been, or with the cut
type Group struct {
	epoch uint32
	held  []*Table
	save  func(t *Table, r Ref) // nil while no cut runs
}

// Begin starts a cut. save is told of each record that is about to change, once and before it does; r is 0 for a key that
// is new. It must not change the table.
func (g *Group) Begin(save func(t *Table, r Ref)) {
	if g.save != nil {
		panic("dense: a cut of these tables is running")
	}
	g.epoch++
	g.save = save
}

// End ends the cut.
func (g *Group) End() {
	g.save = nil
	held := g.held
	g.held = nil
	for _, t := range held {
		t.Drop()
	}
}

// Running reports whether a cut runs.
func (g *Group) Running() bool { return g.save != nil }

// A cut is how far a table has been read.
type cut struct {
	epoch uint32
	at    uint64              // positions before it have been read
	known map[string]struct{} // keys from there on that have changed since the cut began
}

// Join puts a table into a group. One that is in a group already stays as it is: a value may be given another key.
func (t *Table) Join(g *Group) {
	if t.group == nil {
		t.group, t.epoch = g, g.epoch
	}
}

// Cut reports whether the table is still to be read by the cut of its group, or by what is left of it.
func (t *Table) Cut() bool { return t.group != nil && t.group.save != nil && t.epoch != t.group.epoch }

// Untouched reports whether what is under key has not been read by the cut that runs, and has not changed since it began.
func (t *Table) Untouched(hash uint64, key []byte) bool {
	if !t.Cut() {
		return false
	}
	if t.cut == nil || t.cut.epoch != t.group.epoch {
		return true
	}
	_, known := t.cut.known[string(key)]
	return !known && Position(hash) >= t.cut.at
}

// Touch says that the record r of key, 0 for none, is about to change, for who changes it by writing to Value. The
// methods of Table do so themselves. O(1), and almost nothing while no cut runs.
func (t *Table) Touch(hash uint64, key []byte, r Ref) {
	if t.group == nil || t.group.save == nil || t.epoch == t.group.epoch {
		return
	}
	c := t.cutNow()
	if Position(hash) < c.at {
		return
	}
	if _, ok := c.known[string(key)]; ok {
		return
	}
	if c.known == nil {
		c.known = map[string]struct{}{}
	}
	c.known[string(key)] = struct{}{}
	t.group.save(t, r)
}

func (t *Table) cutNow() *cut {
	if t.cut == nil || t.cut.epoch != t.group.epoch {
		t.cut = &cut{epoch: t.group.epoch}
	}
	return t.cut
}

// abreast is how many records ReadCut has on their way from memory at the same time: the order of hashes is none in memory.
const abreast = 16

// visitAll visits those of some records that save was not told of.
func (t *Table) visitAll(c *cut, refs []Ref, visit func(r Ref)) {
	for _, r := range refs {
		t.store.reach(r)
		t.store.reached += t.store.at(r)[0]
	}
	for _, r := range refs {
		if len(c.known) > 0 {
			if _, known := c.known[string(t.store.Key(r))]; known {
				continue
			}
		}
		visit(r)
	}
}

// ReadCut visits at most about atMost records, as they stood when the cut began, from where it was left, and reports
// whether there are more. Those that save was told of are left out.
func (t *Table) ReadCut(atMost int, visit func(r Ref)) (more bool) {
	if !t.Cut() {
		return false
	}
	c := t.cutNow()
	var last uint64
	begun := false
	var near [abreast]Ref
	n := 0
	t.Each(c.at, func(position uint64, r Ref) bool {
		if atMost <= 0 && !(begun && position == last) {
			c.at, more = position, true
			return false
		}
		if near[n] = r; n < abreast-1 {
			n++
		} else {
			t.visitAll(c, near[:], visit)
			n = 0
		}
		begun, last = true, position
		atMost--
		return true
	})
	t.visitAll(c, near[:n], visit)
	if !more {
		t.cut, t.epoch = nil, t.group.epoch
		if i := slices.Index(t.group.held, t); i >= 0 {
			t.group.held = slices.Delete(t.group.held, i, i+1)
			t.Drop()
		}
	}
	return more
}
