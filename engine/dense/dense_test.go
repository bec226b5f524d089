package dense

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"
)

// A twin is a table as Go would have it.
type twin map[string]twinRecord

type twinRecord struct {
	kind     Kind
	value    []byte
	expireAt int64
}

func (tw twin) compare(t *testing.T, table *Table) {
	t.Helper()
	if table.Len() != len(tw) {
		t.Fatalf("%d records, not %d", table.Len(), len(tw))
	}
	seen, last := 0, uint64(0)
	table.Each(0, func(position uint64, r Ref) bool {
		rec := table.store.Open(r)
		want, ok := tw[string(rec.Key)]
		if !ok || rec.Kind != want.kind || !bytes.Equal(rec.Value, want.value) || rec.ExpireAt != want.expireAt || position < last {
			t.Fatalf("record %q: kind %d, %d bytes, expires %d; want %d, %d, %d (%v)", rec.Key, rec.Kind, len(rec.Value), rec.ExpireAt, want.kind, len(want.value), want.expireAt, ok)
		}
		seen++
		last = position
		return true
	})
	if seen != len(tw) {
		t.Fatalf("a walk met %d records of %d", seen, len(tw))
	}
}

// moves counts what an owner hears.
type moves struct {
	t     *testing.T
	store *Store
	heard int
}

func (m *moves) Moved(from, to Ref) {
	m.heard++
	if !bytes.Equal(m.store.Key(from), m.store.Key(to)) {
		m.t.Fatal("a record moved and is another")
	}
}

func TestTablesAgainstAModel(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { modelRun(t, seed) })
	}
}

func modelRun(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 7))
	s := NewStore(Seed{seed, 9})
	defer s.Close()
	owner := &moves{t: t, store: s}
	var tables []*Table
	var twins []twin
	add := func() {
		tables, twins = append(tables, s.NewTable(rng.IntN(2) == 0, owner, nil)), append(twins, twin{})
	}
	add()
	add()
	steps, keys, sizes := 40000, 20000, 300
	if seed%3 == 1 {
		keys, sizes = 300, 100_000
		steps = 4000
	}
	value := func() []byte {
		v := make([]byte, rng.IntN(1+rng.IntN(sizes)))
		for i := range v {
			v[i] = byte(rng.Uint32())
		}
		return v
	}
	deadline := func() int64 {
		return []int64{0, 0, 1, epoch + 5, 1_800_000_000_000 + rng.Int64N(1e9), 1 << 50}[rng.IntN(6)]
	}
	grow := 7
	for step := range steps {
		if step%(steps/8) == steps/8-1 {
			grow = []int{1, 4, 8}[rng.IntN(3)]
		}
		i := rng.IntN(len(tables))
		table, tw := tables[i], twins[i]
		key := fmt.Sprintf("%0*d", rng.IntN(2)*20, rng.IntN(keys))
		hash := s.Hash([]byte(key))
		r := table.Find(hash, []byte(key))
		old, had := tw[key]
		if (r != 0) != had {
			t.Fatalf("step %d: %q is there: %v, found: %v", step, key, had, r != 0)
		}
		switch op := rng.IntN(10); {
		case !had && op < grow:
			rec := twinRecord{Kind(1 + rng.IntN(15)), value(), deadline()}
			r := table.Insert(hash, rec.kind, []byte(key), len(rec.value), rng.IntN(2)*len(rec.value)*9/8, rec.expireAt)
			copy(s.Value(r), rec.value)
			if table.notes {
				s.SetNote(r, rng.Uint32())
			}
			tw[key] = rec
		case had && op >= grow && op < 9:
			table.Remove(hash, r)
			delete(tw, key)
		case had && op%3 == 0:
			rec := twinRecord{Kind(1 + rng.IntN(15)), value(), deadline()}
			if rng.IntN(2) == 0 {
				rec.value = append(bytes.Clone(old.value[:len(old.value)/2]), rec.value...)
			}
			to := table.Rewrite(hash, r, rec.kind, len(rec.value), len(rec.value)+rng.IntN(2)*len(rec.value)/8, rec.expireAt, rng.IntN(4) == 0)
			n := min(len(old.value), len(rec.value))
			if got := s.Value(to); !bytes.Equal(got[:n], old.value[:n]) {
				t.Fatalf("step %d: what fits both was not kept", step)
			}
			copy(s.Value(to), rec.value)
			tw[key] = rec
		case had:
			old.expireAt = deadline()
			table.SetExpire(hash, r, old.expireAt)
			tw[key] = old
		}
		switch rng.IntN(400) {
		case 0:
			s.Settle()
		case 1:
			s.Compact(rng.IntN(3000), nil)
		case 2:
			if err := s.Check(); err != nil {
				t.Fatalf("step %d: %v", step, err)
			}
		case 3:
			if rng.IntN(8) == 0 && len(tables) > 1 {
				table.Drop()
				tables[i], twins[i] = tables[len(tables)-1], twins[len(tables)-1]
				tables, twins = tables[:len(tables)-1], twins[:len(tables)-1]
				add()
			}
		}
	}
	for i := range tables {
		twins[i].compare(t, tables[i])
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	for s.Compact(1000, nil) {
	}
	checkWaste(t, s)
	for i := range tables {
		twins[i].compare(t, tables[i])
		for key := range twins[i] {
			hash := s.Hash([]byte(key))
			tables[i].Remove(hash, tables[i].Find(hash, []byte(key)))
			if rng.IntN(100) == 0 {
				s.Compact(100, nil)
			}
		}
	}
	for s.Compact(1000, nil) {
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	if u := s.Usage(); u.Live != 0 || u.Blocks > blockSize || u.Apart != 0 || u.All > 4*blockSize {
		t.Errorf("emptied, it uses %+v", u)
	}
}

// Segments of full size, splits and merges.
func TestALargeTableGrowsAndShrinks(t *testing.T) {
	s := NewStore(Seed{1, 2})
	defer s.Close()
	table := s.NewTable(false, nil, nil)
	const n = 300_000
	key := make([]byte, 8)
	for i := range uint64(n) {
		binary.LittleEndian.PutUint64(key, i)
		table.Insert(s.Hash(key), 1, key, 0, 0, 0)
		if i%100_000 == 50_000 {
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
		}
	}
	slots, segments := 0, 0
	for i, g := range table.dir {
		if i == 0 || table.dir[i-1] != g {
			slots += len(g.slots)
			segments++
		}
	}
	if perRecord := float64(slots*8) / n; perRecord > 10.2 {
		t.Errorf("the index takes %.1f bytes a record", perRecord)
	} else {
		t.Logf("%d segments, %.2f bytes a record", segments, perRecord)
	}
	drawn := map[Ref]bool{}
	rng := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		drawn[table.Draw(rng.Uint64)] = true
		if table.Sample(rng.Uint64()) == 0 {
			t.Fatal("no sample")
		}
	}
	if len(drawn) < 950 {
		t.Errorf("1000 draws gave %d records", len(drawn))
	}
	for i := range uint64(n) {
		binary.LittleEndian.PutUint64(key, i)
		hash := s.Hash(key)
		r := table.Find(hash, key)
		if r == 0 {
			t.Fatalf("record %d is lost", i)
		}
		table.Remove(hash, r)
		if i%100_000 == 99_000 {
			if err := s.Check(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(table.dir) != 1 || table.one[0].n != 0 {
		t.Errorf("an empty table has a directory of %d", len(table.dir))
	}
}

func TestDrawIsFair(t *testing.T) {
	s := NewStore(Seed{3, 4})
	defer s.Close()
	table := s.NewTable(false, nil, nil)
	for i := range 50 {
		key := []byte{byte(i)}
		table.Insert(s.Hash(key), 1, key, 0, 0, 0)
	}
	counts := map[Ref]int{}
	rng := rand.New(rand.NewPCG(5, 5))
	const draws = 100_000
	for range draws {
		counts[table.Draw(rng.Uint64)]++
	}
	for r, n := range counts {
		if n < draws/50*85/100 || n > draws/50*115/100 {
			t.Errorf("%v was drawn %d times of %d", s.Key(r), n, draws/50)
		}
	}
	if len(counts) != 50 {
		t.Errorf("%d of 50 were drawn", len(counts))
	}
}

func TestNothingIsAllocated(t *testing.T) {
	s := NewStore(Seed{1, 2})
	defer s.Close()
	table := s.NewTable(true, nil, nil)
	key := []byte("a key")
	hash := s.Hash(key)
	table.Insert(hash, 1, key, 10, 0, 0)
	got := testing.AllocsPerRun(100, func() {
		r := table.Find(hash, key)
		r = table.Rewrite(hash, r, 1, 10, 0, 0, false)
		r = table.Rewrite(hash, r, 2, 20, 0, 0, false)
		r = table.SetExpire(hash, r, epoch+10)
		r = table.SetExpire(hash, r, epoch+20)
		r = table.SetExpire(hash, r, 0)
		table.Rewrite(hash, r, 1, 10, 0, 0, true)
		s.Settle()
	})
	if got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// TestTablesWithinTables: who is told of a dropped table's records may drop more tables.
func TestTablesWithinTables(t *testing.T) {
	s := NewStore(Seed{1, 2})
	outer, inner := s.NewTable(false, nil, nil), map[string]*Table{}
	fill := func(table *Table, prefix string, n int) {
		for i := range n {
			key := fmt.Appendf(nil, "%s%d", prefix, i)
			table.Insert(s.Hash(key), 1, key, 0, 0, 0)
		}
	}
	for i := range 20 {
		name := fmt.Sprint("inner", i)
		inner[name] = s.NewTable(false, nil, nil)
		fill(inner[name], name, 50)
		outer.Insert(s.Hash([]byte(name)), 2, []byte(name), 0, 0, 0)
	}
	outer.Drop()
	for s.Compact(7, func(_ *Table, r Ref) {
		if s.Kind(r) == 2 {
			inner[string(s.Key(r))].Drop()
		}
	}) {
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if live := s.Usage().Live; live != 0 {
		t.Errorf("%d bytes are left", live)
	}
}

// TestWhatIsGoneIsReadableUntilSettle: also a record whose long value another one has taken over.
func TestWhatIsGoneIsReadableUntilSettle(t *testing.T) {
	s := NewStore(Seed{1, 2})
	defer s.Close()
	table := s.NewTable(true, nil, nil)
	for _, size := range []int{10, Apart} {
		key := fmt.Appendf(nil, "key %d", size)
		hash, value := s.Hash(key), bytes.Repeat([]byte{'v'}, size)
		old := table.Insert(hash, 1, key, size, 0, 0)
		copy(s.Value(old), value)
		r := table.SetExpire(hash, old, epoch+1)
		table.Remove(hash, r)
		for _, r := range []Ref{old, r} {
			if rec := s.Open(r); !bytes.Equal(rec.Key, key) || !bytes.Equal(rec.Value, value) {
				t.Errorf("%q with a value of %d bytes is gone before Settle", key, size)
			}
		}
		s.Settle()
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
	}
	if u := s.Usage(); u.Live != 0 || u.Apart != 0 {
		t.Errorf("emptied, it uses %+v", u)
	}
}

// TestLongKeysLeaveNoGaps: records so large that few fit into a block must not keep Compact busy for ever.
func TestLongKeysLeaveNoGaps(t *testing.T) {
	s := NewStore(Seed{1, 2})
	defer s.Close()
	table := s.NewTable(false, nil, nil)
	key := bytes.Repeat([]byte{'k'}, MaxKey)
	for i := range 60 {
		binary.LittleEndian.PutUint64(key, uint64(i))
		table.Insert(s.Hash(key), 1, key, Apart-1, 0, 0)
	}
	for calls := 0; s.Compact(10_000, nil); calls++ {
		if calls > 1000 {
			t.Fatalf("Compact finds no end: %+v", s.Usage())
		}
	}
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
}
