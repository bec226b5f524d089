package dense

import (
	"cmp"
	"slices"
)

// A sweep moves the records of sparse blocks, the victims, to others. It goes through the slots of all tables, the only
// ones who know where records are, a bounded number at a time.
//
//	V1: while a sweep runs, no slot before its place in its table, or of a table before that, points into a victim
//	V2: a victim's holes are in no list
type sweep struct {
	running bool
	table   *Table
	at      uint64 // position in table
	victims []uint32
}

// When to sweep: a store wastes at most an eighth of its blocks, and a little. Blocks fuller than sparse are left alone,
// because for what they would give back too much would have to move.
const (
	wasteShare = 8
	wasteFloor = 2 * blockSize
	sparse     = blockSize * 85 / 100
)

// Compact does up to about steps of work at giving memory back, and reports whether there is more to do. gone is told of
// each record of a dropped table before it is freed. Refs must not be held across a call, except by a table's owner,
// who learns of moves.
func (s *Store) Compact(steps int, gone func(t *Table, r Ref)) (more bool) {
	s.Settle()
	if steps = s.reap(steps, gone); steps <= 0 {
		return true
	}
	if !s.sweep.running && !s.beginSweep() {
		return false
	}
	for steps > 0 {
		t := s.sweep.table
		if t == nil {
			s.endSweep()
			return true // there may be reason for another
		}
		steps = s.sweepSome(t, steps)
	}
	return true
}

// Busy reports whether Compact has something to do. O(1).
func (s *Store) Busy() bool {
	return s.dead != nil || len(s.dying) > 0 || s.sweep.running || s.wasteful()
}

func (s *Store) wasteful() bool { return s.total-s.live > s.total/wasteShare+wasteFloor }

func (s *Store) beginSweep() bool {
	if !s.wasteful() {
		return false
	}
	w := &s.sweep
	w.victims = w.victims[:0]
	for at := range s.blocks {
		if b := &s.blocks[at]; b.mem != nil && uint32(at) != s.open && b.live < sparse {
			w.victims = append(w.victims, uint32(at))
		}
	}
	slices.SortFunc(w.victims, func(a, b uint32) int { return cmp.Compare(s.blocks[a].live, s.blocks[b].live) })
	// What moves takes room before it gives any back: at most an eighth of the store.
	var moving int64
	for i, at := range w.victims {
		if moving += int64(s.blocks[at].live); moving > max(s.total/8, 8*blockSize) {
			w.victims = w.victims[:i]
			break
		}
	}
	if len(w.victims) == 0 {
		return false
	}
	for _, at := range w.victims {
		s.clearHoles(at)
		s.blocks[at].victim = true
	}
	w.running, w.table, w.at = true, s.tables, 0
	return true
}

// clearHoles takes all holes of a block out of their lists.
func (s *Store) clearHoles(at uint32) {
	for off := 0; off < int(s.blocks[at].end); {
		r := refOf(at, off)
		h := s.at(r)
		if h[0]&kindMask != 0 {
			off += sizeOf(h)
			continue
		}
		n := holeSize(h)
		s.unlink(r, n)
		off += n
	}
}

// sweepSome goes on through a table, and returns how many steps are left.
func (s *Store) sweepSome(t *Table, steps int) int {
	w := &s.sweep
	for steps > 0 {
		g := t.segment(w.at << refBits)
		for i, slot := range g.slots {
			if slot == 0 {
				continue
			}
			if r := slotRef(slot); s.blocks[r.block()].victim {
				g.slots[i] = slot&^(1<<refBits-1) | uint64(s.move(t, r))
				steps -= 8
			}
		}
		steps -= 1 + len(g.slots)/16
		if g.depth > 0 {
			w.at = (w.at>>(tagBits-g.depth) + 1) << (tagBits - g.depth)
		}
		if g.depth == 0 || w.at == Positions {
			w.table, w.at = t.next, 0
			return steps
		}
	}
	return steps
}

// move copies a record out of a victim.
func (s *Store) move(t *Table, from Ref) (to Ref) {
	h := s.at(from)
	n := sizeOf(h)
	to = s.place(n)
	copy(s.at(to)[:n], h[:n])
	if t.owner != nil {
		t.owner.Moved(from, to)
	}
	b := &s.blocks[from.block()]
	b.live -= int32(n)
	s.live -= int64(n)
	s.dig(from, n)
	s.giveBack(from.block())
	return to
}

func (s *Store) endSweep() {
	for _, at := range s.sweep.victims {
		if s.blocks[at].victim && s.blocks[at].live > 0 {
			panic("dense: V1: a record stayed behind in a victim")
		}
		s.giveBack(at)
	}
	s.sweep = sweep{victims: s.sweep.victims[:0]}
}

// Drop takes leave of a table with everything in it: Compact frees its records, bit by bit. O(1).
func (t *Table) Drop() {
	s := t.store
	if s.sweep.table == t {
		s.sweep.table, s.sweep.at = t.next, 0
	}
	if t.prev == nil {
		s.tables = t.next
	} else {
		t.prev.next = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.owner, t.prev, t.next = nil, nil, s.dead
	s.dead = t
}

// reap frees records of dropped tables, and returns how many steps are left.
func (s *Store) reap(steps int, gone func(t *Table, r Ref)) int {
	for s.dead != nil && steps > 0 {
		t := s.dead
		s.dead = t.next // gone may drop other tables
		g := t.dir[len(t.dir)-1]
		for i := len(g.slots) - 1; i >= 0 && steps > 0; i-- {
			if slot := g.slots[i]; slot != 0 {
				r := slotRef(slot)
				if gone != nil {
					gone(t, r)
				}
				s.release(r)
				g.n--
				steps--
			}
			g.slots[i] = 0
		}
		steps--
		if g.n > 0 {
			t.next, s.dead = s.dead, t
			continue
		}
		t.give(g)
		for len(t.dir) > 0 && t.dir[len(t.dir)-1] == g {
			t.dir = t.dir[:len(t.dir)-1]
		}
		if len(t.dir) == 0 {
			t.next, t.store = nil, nil
		} else {
			t.next, s.dead = s.dead, t
		}
	}
	return steps
}
