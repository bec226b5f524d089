package dense

// A sweep moves the records of sparse blocks, the victims, to others. First it clears the victims, one by one: it takes
// their holes out of the lists. Then it goes through the slots of all tables, the only ones who know where records are, in
// the order of their positions. It stops wherever its steps are used up.
//
//	V1: once all victims are cleared, no slot of a position before the sweep's in its table, or of a table before that,
//	    points into a victim
//	V2: a victim's holes are in no list
type sweep struct {
	running bool
	victims []uint32
	cleared int    // how many of victims have been cleared
	table   *Table // nil until all are
	at      uint64 // position in table
	moved   int64  // bytes of records
	gained  int64  // bytes by which the blocks are fewer for it, so far
}

// When to sweep: a store wastes at most a 32nd of its blocks, and a little; of what it wastes beyond that, sparse
// blocks have too little for a walk through all tables, or nothing, or it has been seen that to move their records gives too
// little back: large records do not fill a block to its end, and so the blocks that a sweep fills may be as sparse as those it
// emptied. Then the store is left alone until a part of it has changed. A sweep moves at most a 32nd of the store at a time,
// because most of what it frees comes free at its end. TestWasteIsBounded adds it all up.
const (
	wasteShare  = 32
	wasteFloor  = 2 * blockSize
	full        = blockSize * 15 / 16
	sparseShare = 64
	sweepShare  = 32
	gainShare   = 16 // of what is moved has to be gained
	restShare   = 4  // of the store changes before another try
)

// Compact does up to about steps of work at giving memory back, and reports whether there is more to do. gone is told of
// each record of a dropped table before it is freed. Refs must not be held across a call, except by a table's owner,
// who learns of moves.
//
// A step takes about as long as two cache misses. One call overdraws its steps by a record or a block's holes at most,
// but now and then it looks at each block, to choose victims.
func (s *Store) Compact(steps int, gone func(t *Table, r Ref)) (more bool) {
	s.Settle()
	if steps = s.reap(steps, gone); steps <= 0 {
		return true
	}
	s.Settle() // gone may have removed records
	w := &s.sweep
	if !w.running && !s.beginSweep() {
		return false
	}
	for steps > 0 {
		switch {
		case w.cleared < len(w.victims):
			steps -= s.clear(w.victims[w.cleared])
			if w.cleared++; w.cleared == len(w.victims) {
				w.table, w.at = s.tables, 0
			}
		case w.table != nil:
			steps = s.sweepSome(w.table, steps)
		default:
			s.endSweep()
			return true // there may be reason for another
		}
	}
	return true
}

// Busy reports whether Compact has something to do. O(1).
func (s *Store) Busy() bool {
	return s.dead != nil || len(s.dying) > 0 || s.sweep.running || s.wasteful()
}

func (s *Store) wasteful() bool {
	return s.churned >= s.notBefore && s.total-s.live > s.total/wasteShare+wasteFloor && s.sparse*blockSize-s.sparseLive > s.total/sparseShare
}

// beginSweep chooses the emptiest blocks as victims.
func (s *Store) beginSweep() bool {
	if !s.wasteful() {
		return false
	}
	const level = blockSize / 64
	var levels [64]int64 // bytes to move, by how many of them a block has
	for at := range s.blocks {
		if s.isSparse(uint32(at)) {
			live := s.blocks[at].live
			levels[live/level] += int64(live)
		}
	}
	limit, moving, last := max(s.total/sweepShare, 8*blockSize), int64(0), int32(0)
	for ; int(last) < len(levels) && moving+levels[last] <= limit; last++ {
		moving += levels[last]
	}
	w := &s.sweep
	w.victims = w.victims[:0]
	for at := range s.blocks {
		if !s.isSparse(uint32(at)) {
			continue
		}
		live := s.blocks[at].live
		if live/level == last && moving+int64(live) <= limit {
			moving += int64(live)
		} else if live/level >= last {
			continue
		}
		w.victims = append(w.victims, uint32(at))
	}
	w.running, w.cleared, w.table, w.moved, w.gained = true, 0, nil, 0, 0
	s.owed = 0
	return true
}

// clear makes a victim of a block, and returns how many steps that took.
func (s *Store) clear(at uint32) (steps int) {
	if !s.isSparse(at) { // not any more
		return 1
	}
	s.tallySparse(at, -1)
	for off := 0; off < int(s.blocks[at].end); steps++ {
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
	s.blocks[at].victim = true
	return 1 + steps/4
}

// sweepSome goes on through a table, and returns how many steps are left.
func (s *Store) sweepSome(t *Table, steps int) int {
	w := &s.sweep
	for steps > 0 {
		g := t.segment(w.at << refBits)
		from := g.lower(w.at)
		for i := from; i < len(g.slots); i++ {
			slot := g.slots[i]
			if slot == 0 || !s.blocks[slotRef(slot).block()].victim {
				continue
			}
			if steps <= 0 {
				w.at = slotTag(slot)
				return 0
			}
			to, n := s.move(t, slotRef(slot))
			g.slots[i] = slot&^(1<<refBits-1) | uint64(to)
			steps -= 8 + n/512
		}
		steps -= 1 + (len(g.slots)-from)/16
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

// move copies a record of n bytes out of a victim.
func (s *Store) move(t *Table, from Ref) (to Ref, n int) {
	h := s.at(from)
	n = sizeOf(h)
	total, owed := s.total, s.owed
	to = s.place(n)
	copy(s.at(to)[:n], h[:n])
	if t.owner != nil {
		t.owner.Moved(from, to)
	}
	s.count(from.block(), -n)
	s.dig(from, n)
	s.giveBack(from.block())
	s.owed = owed
	s.sweep.moved += int64(n)
	s.sweep.gained += total - s.total
	return to, n
}

func (s *Store) endSweep() {
	for _, at := range s.sweep.victims {
		if s.blocks[at].victim {
			panic("dense: V1: a record stayed behind in a victim")
		}
	}
	if w := &s.sweep; w.gained < w.moved/gainShare {
		s.notBefore = s.churned + s.total/restShare
	}
	s.sweep = sweep{victims: s.sweep.victims[:0]}
}

// Owed returns how many steps of Compact what was written while it sweeps should pay for, at most most of them, so that memory is
// given back as fast as it is taken where records grow.
func (s *Store) Owed(most int) int {
	if !s.sweep.running {
		return 0
	}
	steps := min(s.owed/owedBytes, int64(most))
	s.owed -= steps * owedBytes
	return int(steps)
}

// owedBytes that are appended pay for a step: it moves 512 bytes of a long record, and 12 of a short one.
const owedBytes = 64

// Drop takes leave of a table with everything in it: Compact frees its records, bit by bit, once a cut that runs has
// read them. O(1).
func (t *Table) Drop() {
	t.owner = nil
	if t.Cut() {
		t.group.held = append(t.group.held, t)
		return
	}
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
	t.owner, t.prev, t.next = nil, nil, nil
	if s.dead == nil {
		s.dead = t
		return
	}
	t.next, s.dead.next = s.dead.next, t // behind the first, which reap may be at when it hears of t from gone
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
