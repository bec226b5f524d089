package dense

import (
	"bytes"
	"fmt"
	"testing"
)

// FuzzStore lets a byte string drive two tables of a store, a calendar of the first and a cut of the second beside maps.
func FuzzStore(f *testing.F) {
	f.Add([]byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
	f.Add(bytes.Repeat([]byte{0, 1, 2, 9, 1, 200, 5, 3, 3, 8, 250, 1, 6, 1, 1, 7, 0, 90}, 30))
	f.Add(bytes.Repeat([]byte{0, 7, 255, 4, 7, 3, 1, 7, 254, 8, 100, 2, 7, 0}, 20))
	f.Fuzz(func(t *testing.T, program []byte) {
		z := newFuzzed(t)
		defer z.s.Close()
		for z.rest = program; len(z.rest) > 0; {
			z.step()
		}
		z.finish()
	})
}

// A fuzzed is a store with its twins.
type fuzzed struct {
	t      *testing.T
	s      *Store
	tables [2]*Table
	twins  [2]twin
	group  Group
	cal    *Calendar // of the first table
	now    int64
	rest   []byte
	was    map[string]string // the second table when its cut began, with what has been seen of it taken out
	gone   []Record          // copies of records that have gone since Settle
	refs   []Ref             // where they were
}

func newFuzzed(t *testing.T) *fuzzed {
	z := &fuzzed{t: t, s: NewStore(Seed{1, 2}), now: epoch + 1<<20, twins: [2]twin{{}, {}}}
	z.cal = z.s.NewCalendar(z.now)
	z.tables = [2]*Table{z.s.NewTable(true, nil, nil), z.s.NewTable(false, nil, &z.group)}
	return z
}

func (z *fuzzed) byte() int {
	if len(z.rest) == 0 {
		return 0
	}
	b := z.rest[0]
	z.rest = z.rest[1:]
	return int(b)
}

// size is small mostly, and now and then about where something changes.
func (z *fuzzed) size() int {
	edges := [...]int{0, 1, minHole, 127, 128, exactSizes, 16383, 16384, Apart - 1, Apart, Apart + 4096, 100_000, maxInside - 5, 20_000, 5000, 2}
	if b := z.byte(); b >= 240 {
		return edges[b-240]
	} else {
		return b
	}
}

func (z *fuzzed) deadline() int64 {
	switch b := z.byte(); {
	case b < 100:
		return 0
	case b < 120:
		return 1 << 50
	case b < 125:
		return 1
	default:
		return z.now + 1<<(b%24)
	}
}

func (z *fuzzed) step() {
	op := z.byte()
	at := op >> 4 & 1
	table, tw := z.tables[at], z.twins[at]
	key := fmt.Appendf(nil, "%d", z.byte())
	if op>>5 == 7 {
		key = append(key, make([]byte, 1000*(op&15))...)
	}
	hash := z.s.Hash(key)
	r := table.Find(hash, key)
	old, had := tw[string(key)]
	if (r != 0) != had {
		z.t.Fatalf("%q: found %v, is there %v", key, r != 0, had)
	}
	fill := byte(op)
	switch op & 15 {
	case 0, 1, 2, 3, 4, 5:
		size, deadline := z.size(), z.deadline()
		rec := twinRecord{Kind(1 + op%15), bytes.Repeat([]byte{fill}, size), deadline}
		if had {
			z.remember(r, op&15 < 3)
			r = table.Rewrite(hash, r, rec.kind, size, size*(op&1)*9/8, deadline, op&15 < 3)
			if n := min(size, len(old.value)); !bytes.Equal(z.s.Value(r)[:n], old.value[:n]) {
				z.t.Fatalf("%q: what fits both was not kept", key)
			}
		} else {
			r = table.Insert(hash, rec.kind, key, size, size*(op&1)*9/8, deadline)
		}
		copy(z.s.Value(r), rec.value)
		tw[string(key)] = rec
		z.timed(at, hash, old.expireAt, deadline)
	case 6, 7, 8:
		if had {
			z.remember(r, true)
			table.Remove(hash, r)
			delete(tw, string(key))
		}
	case 9, 10:
		if had {
			z.remember(r, false)
			before := old.expireAt
			old.expireAt = z.deadline()
			table.SetExpire(hash, r, old.expireAt)
			tw[string(key)] = old
			z.timed(at, hash, before, old.expireAt)
		}
	case 11:
		z.settle()
		z.s.Compact(z.byte()*4, nil)
	case 12:
		z.settle()
		z.s.Settle()
	case 13:
		z.now += 1 << (z.byte() % 22)
		z.expire()
	case 14:
		z.cut()
	case 15:
		if z.byte() < 8 && at == 1 { // held until its cut has read it
			z.settle()
			table.Drop()
			z.tables[1], z.twins[1] = z.s.NewTable(false, nil, &z.group), twin{}
			if z.was != nil {
				for table.ReadCut(50, z.see) {
				}
				z.endCut()
			}
		}
	}
}

// remember keeps a copy of a record that may go: it must be readable until Settle, unless it may be written over.
func (z *fuzzed) remember(r Ref, goes bool) {
	if !goes {
		return
	}
	rec := z.s.Open(r)
	rec.Key, rec.Value = bytes.Clone(rec.Key), bytes.Clone(rec.Value)
	z.gone, z.refs = append(z.gone, rec), append(z.refs, r)
}

func (z *fuzzed) settle() {
	for i, r := range z.refs {
		if rec := z.s.Open(r); !bytes.Equal(rec.Key, z.gone[i].Key) || !bytes.Equal(rec.Value, z.gone[i].Value) {
			z.t.Fatalf("%q has changed after it went", rec.Key)
		}
	}
	z.gone, z.refs = z.gone[:0], z.refs[:0]
}

// timed keeps C1.
func (z *fuzzed) timed(at int, hash uint64, before, deadline int64) {
	if at == 0 && deadline != 0 && (before == 0 || deadline < before && !z.cal.Same(before, deadline)) {
		z.cal.Add(Position(hash), deadline)
	}
}

func (z *fuzzed) expire() {
	z.settle()
	z.s.Settle()
	table, tw := z.tables[0], z.twins[0]
	for {
		prefix, ok := z.cal.Next(z.now, table.Timed())
		if !ok {
			break
		}
		var due []Ref
		table.Under(prefix, func(position uint64, r Ref) {
			if at := z.s.ExpireAt(r); at != 0 && at <= z.now {
				due = append(due, r)
			} else if at != 0 {
				z.cal.Add(position, at)
			}
		})
		for _, r := range due {
			delete(tw, string(z.s.Key(r)))
			table.Remove(z.s.Hash(z.s.Key(r)), r)
		}
	}
	for key, rec := range tw {
		if rec.expireAt != 0 && rec.expireAt <= z.now {
			z.t.Fatalf("%q is left %d ms after its time", key, z.now-rec.expireAt)
		}
	}
}

// cut begins a cut of the second table, or goes on with it.
func (z *fuzzed) cut() {
	if z.was == nil {
		z.was = map[string]string{}
		for key, rec := range z.twins[1] {
			z.was[key] = string(rec.value)
		}
		z.group.Begin(func(_ *Table, r Ref) {
			if r != 0 {
				z.see(r)
			}
		})
	}
	if !z.tables[1].ReadCut(z.byte(), z.see) {
		z.endCut()
	}
}

func (z *fuzzed) see(r Ref) {
	rec := z.s.Open(r)
	if value, ok := z.was[string(rec.Key)]; !ok || value != string(rec.Value) {
		z.t.Fatalf("the cut shows %q twice, or as it was not", rec.Key)
	}
	delete(z.was, string(rec.Key))
}

func (z *fuzzed) endCut() {
	if len(z.was) > 0 {
		z.t.Fatalf("the cut leaves out %d records", len(z.was))
	}
	z.was = nil
	z.group.End()
}

func (z *fuzzed) finish() {
	z.settle()
	if z.was != nil {
		for z.tables[1].ReadCut(100, z.see) {
		}
		z.endCut()
	}
	for {
		if err := z.s.Check(); err != nil {
			z.t.Fatal(err)
		}
		if !z.s.Compact(2000, nil) {
			break
		}
	}
	checkWaste(z.t, z.s)
	for i := range z.tables {
		z.twins[i].compare(z.t, z.tables[i])
	}
	for _, table := range z.tables {
		table.Drop()
	}
	for z.s.Compact(1000, nil) {
	}
	for z.cal.Drop(10) {
	}
	if u := z.s.Usage(); u.Live != 0 || u.Blocks > blockSize || u.Apart != 0 {
		z.t.Errorf("emptied, it uses %+v", u)
	}
}
