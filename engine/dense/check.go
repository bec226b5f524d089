package dense

import "fmt"

// Check returns the first broken invariant by its name. It visits everything: for tests.
func (s *Store) Check() error {
	records, listed := s.noPlaces(), s.noPlaces()
	for c, r := range s.holes {
		if (r != 0) != (s.filled[c/64]>>(c%64)&1 == 1) {
			return fmt.Errorf("R4: the bit of list %d is wrong", c)
		}
		for prev := Ref(0); r != 0; prev, r = r, getRef(s.at(r)[4:]) {
			h := s.at(r)
			if n := holeSize(h); h[0] != 0 || classOf(n) != c || getRef(h[9:]) != prev || s.blocks[r.block()].victim {
				return fmt.Errorf("R3: a hole of %d bytes stands in list %d", n, c)
			}
			listed.add(r)
		}
	}
	var live, total, sparse, sparseLive int64
	for at := range s.blocks {
		b := &s.blocks[at]
		if b.mem == nil {
			continue
		}
		var here int64
		off := 0
		for off < int(b.end) {
			r := refOf(uint32(at), off)
			h := s.at(r)
			if h[0]&kindMask != 0 {
				records.add(r)
				here += int64(sizeOf(h))
				off += sizeOf(h)
				continue
			}
			n := holeSize(h)
			if ok := listed.remove(r); ok != (n >= minHole && !b.victim) {
				return fmt.Errorf("R3: a hole of %d bytes is listed: %v", n, ok)
			}
			off += n
		}
		switch {
		case off != int(b.end):
			return fmt.Errorf("R1: block %d ends at %d, its contents at %d", at, b.end, off)
		case here != int64(b.live):
			return fmt.Errorf("R2: block %d counts %d live bytes, has %d", at, b.live, here)
		case here == 0 && uint32(at) != s.open:
			return fmt.Errorf("R6: block %d is kept empty", at)
		}
		live += here
		total += int64(b.end)
		if s.isSparse(uint32(at)) {
			sparse++
			sparseLive += here
		}
	}
	if sparse != s.sparse || sparseLive != s.sparseLive {
		return fmt.Errorf("R7: %d sparse blocks with %d bytes, counted %d with %d", sparse, sparseLive, s.sparse, s.sparseLive)
	}
	if live != s.live || total != s.total || listed.n > 0 {
		return fmt.Errorf("R2: %d of %d bytes live, counted %d of %d; %d strange holes", live, total, s.live, s.total, listed.n)
	}
	for _, r := range s.dying {
		r &^= keepPages
		if !records.remove(r) {
			return fmt.Errorf("R5: a dying record does not exist")
		}
	}
	for t := s.tables; t != nil; t = t.next {
		if err := t.check(records); err != nil {
			return err
		}
	}
	for t := s.dead; t != nil; t = t.next {
		for i, g := range t.dir {
			if i > 0 && t.dir[i-1] == g {
				continue
			}
			for _, slot := range g.slots {
				if slot != 0 {
					records.remove(slotRef(slot))
				}
			}
		}
	}
	if records.n > 0 {
		return fmt.Errorf("R5: %d records belong to nobody", records.n)
	}
	return nil
}

// places are a set of refs, as a bit for each byte of the blocks: tests check a store after every step, and a map would take
// most of their time.
type places struct {
	bits [][]uint64 // of each block, up to its end
	n    int
}

func (s *Store) noPlaces() *places {
	p := &places{bits: make([][]uint64, len(s.blocks))}
	for at := range s.blocks {
		p.bits[at] = make([]uint64, s.blocks[at].end/64+1)
	}
	return p
}

func (p *places) add(r Ref) {
	p.bits[r.block()][r.offset()/64] |= 1 << (r.offset() % 64)
	p.n++
}

// remove reports whether r was there.
func (p *places) remove(r Ref) bool {
	if int(r.block()) >= len(p.bits) || r.offset()/64 >= len(p.bits[r.block()]) {
		return false
	}
	word, bit := &p.bits[r.block()][r.offset()/64], uint64(1)<<(r.offset()%64)
	if *word&bit == 0 {
		return false
	}
	*word &^= bit
	p.n--
	return true
}

func (t *Table) check(records *places) error {
	s := t.store
	count, timed, slots := 0, 0, 0
	var size int64
	if len(t.dir) != 1<<t.depth {
		return fmt.Errorf("T1: a directory of depth %d has %d places", t.depth, len(t.dir))
	}
	for i := 0; i < len(t.dir); {
		g := t.dir[i]
		places := 1 << (t.depth - g.depth)
		for _, same := range t.dir[i : i+places] {
			if same != g {
				return fmt.Errorf("T1: a segment of depth %d does not fill its %d places", g.depth, places)
			}
		}
		n, last := 0, uint64(0)
		for at, slot := range g.slots {
			if slot == 0 {
				continue
			}
			n++
			tag, r := slotTag(slot), slotRef(slot)
			if g.depth > 0 && int(tag>>(tagBits-g.depth)) != i/places {
				return fmt.Errorf("T1: a slot stands in the segment of another prefix")
			}
			if tag < last {
				return fmt.Errorf("T2: slot %d stands before a lower one", at)
			}
			last = tag
			for home := g.home(tag); home < at; home++ {
				if g.slots[home] == 0 {
					return fmt.Errorf("T3: slot %d has its home at %d, before an empty slot", at, g.home(tag))
				}
			}
			if !records.remove(r) {
				return fmt.Errorf("R5: a slot points to no record of its own")
			}
			rec := s.Open(r)
			if hash := s.Hash(rec.Key); tagOf(hash) != tag || t.Find(hash, rec.Key) != r {
				return fmt.Errorf("T2: a record is not found by its key")
			}
			if rec.ExpireAt != 0 {
				timed++
			}
			size += int64(s.Size(r))
			if h := s.at(r); h[0]&flagApart != 0 {
				size += int64(len(s.apart[apartOf(h)].mem))
			}
		}
		if n != g.n {
			return fmt.Errorf("T2: a segment of %d slots counts %d", n, g.n)
		}
		count += n
		slots += len(g.slots)
		i += places
	}
	switch {
	case count != t.count || timed != t.timed || size != t.size:
		return fmt.Errorf("T4: %d records, %d with deadlines, %d bytes; counted %d, %d, %d", count, timed, size, t.count, t.timed, t.size)
	case slots > 4*count+maxSlots+64:
		return fmt.Errorf("T5: %d slots for %d records", slots, count)
	}
	return nil
}
