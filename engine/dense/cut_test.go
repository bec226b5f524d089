package dense

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// A cut shows a table as it stood when the cut began, whatever happens meanwhile.
func TestCutsAgainstAModel(t *testing.T) {
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 11))
		s, g := NewStore(Seed{seed, 5}), &Group{}
		table := s.NewTable(true, nil, g)
		now := map[string]string{}
		change := func() {
			key := fmt.Sprint(rng.IntN(3000))
			hash := s.Hash([]byte(key))
			r := table.Find(hash, []byte(key))
			value := fmt.Sprint(rng.Uint32() >> rng.IntN(32))
			switch {
			case r == 0:
				copy(s.Value(table.Insert(hash, 1, []byte(key), len(value), 0, 0)), value)
				now[key] = value
			case rng.IntN(3) == 0:
				table.Remove(hash, r)
				delete(now, key)
			case rng.IntN(3) == 0 && len(now[key]) > 0:
				table.Touch(hash, []byte(key), r)
				s.Value(r)[0] = 'x'
				now[key] = "x" + now[key][1:]
			default:
				copy(s.Value(table.Rewrite(hash, r, 1, len(value), 0, 0, false)), value)
				now[key] = value
			}
			if rng.IntN(50) == 0 {
				s.Compact(200, nil)
			}
		}
		for range 5 {
			for range rng.IntN(8000) {
				change()
			}
			want, got := maps.Clone(now), map[string]string{}
			note := func(r Ref) {
				rec := s.Open(r)
				if _, twice := got[string(rec.Key)]; twice {
					t.Fatalf("seed %d: %q came twice", seed, rec.Key)
				}
				got[string(rec.Key)] = string(rec.Value)
			}
			g.Begin(func(_ *Table, r Ref) {
				if r != 0 {
					note(r)
				}
			})
			for more := true; more; {
				for range rng.IntN(200) {
					change()
				}
				more = table.ReadCut(rng.IntN(300), note)
			}
			for range 100 {
				change()
			}
			g.End()
			if !maps.Equal(got, want) {
				t.Fatalf("seed %d: the cut shows %d records, there were %d", seed, len(got), len(want))
			}
		}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		s.Close()
	}
}
