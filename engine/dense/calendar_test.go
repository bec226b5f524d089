package dense

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// What expires is found when its time has come and not before, whatever happens to deadlines meanwhile, and stale
// entries stay bounded.
func TestCalendarFindsWhatExpires(t *testing.T) {
	for seed := range uint64(8) {
		rng := rand.New(rand.NewPCG(seed, 3))
		s := NewStore(Seed{seed, 1})
		table := s.NewTable(false, nil, nil)
		now := int64(1_800_000_000_000)
		if seed%2 == 1 {
			now = 0
		}
		cal := s.NewCalendar(now / 2)
		spans := []int64{100, 5_000, 60_000, 3_600_000, 86_400_000 * 30}
		set := func(key []byte, at int64) {
			hash := s.Hash(key)
			r := table.Find(hash, key)
			old := int64(0)
			if r == 0 {
				table.Insert(hash, 1, key, 0, 0, at)
			} else {
				old = s.ExpireAt(r)
				table.SetExpire(hash, r, at)
			}
			if at != 0 && (old == 0 || (at < old && !cal.Same(at, old))) {
				cal.Add(Position(hash), at)
			}
		}
		sweep := func() {
			for {
				prefix, ok := cal.Next(now, table.Timed())
				if !ok {
					return
				}
				var gone []Ref
				table.Under(prefix, func(position uint64, r Ref) {
					switch at := s.ExpireAt(r); {
					case at == 0:
					case at <= now:
						gone = append(gone, r)
					default:
						cal.Add(position, at)
					}
				})
				for _, r := range gone {
					table.Remove(s.Hash(s.Key(r)), r)
				}
				s.Settle()
			}
		}
		for step := range 60_000 {
			key := fmt.Appendf(nil, "key %d", rng.IntN(500))
			switch rng.IntN(4) {
			case 0:
				hash := s.Hash(key)
				if r := table.Find(hash, key); r != 0 {
					table.Remove(hash, r)
				}
			case 1:
				set(key, 0)
			default:
				set(key, now+1+rng.Int64N(spans[rng.IntN(len(spans))]))
			}
			if rng.IntN(20) == 0 {
				now += rng.Int64N(spans[rng.IntN(3)])
				if rng.IntN(200) == 0 {
					now += spans[4]
				}
				sweep()
				table.Each(0, func(_ uint64, r Ref) bool {
					if at := s.ExpireAt(r); at != 0 && at < now {
						t.Fatalf("seed %d step %d: a record is left %d ms after its time", seed, step, now-at)
					}
					return true
				})
				if cal.Len() > repeats*table.Timed()+repeatsMin {
					t.Fatalf("C3: %d entries for %d records", cal.Len(), table.Timed())
				}
				n := int(cal.draining.n)
				for i, b := range cal.buckets {
					n += int(b.n)
					if i > 0 && cal.buckets[i-1].start+1<<(cal.buckets[i-1].level*digitBits) > b.start {
						t.Fatalf("C2: buckets overlap")
					}
				}
				if n != cal.entries {
					t.Fatalf("C3: %d entries, counted %d", n, cal.entries)
				}
			}
		}
		for cal.Drop(10) {
		}
		if s.entries.Used() != 0 {
			t.Errorf("a dropped calendar keeps %d chunks", s.entries.Used())
		}
		s.Close()
	}
}

// TestCalendarOfNeighbours: records that share the bits that an entry holds, as those of a table of ten million do, must not
// make each other's entries multiply.
func TestCalendarOfNeighbours(t *testing.T) {
	const (
		share = 7 // bits that all positions begin with
		n     = 1 << (entryBits - share - 1)
		span  = 3_600_000
	)
	rng, s := rand.New(rand.NewPCG(1, 1)), NewStore(Seed{1, 2})
	defer s.Close()
	table, now, next := s.NewTable(false, nil, nil), int64(1_800_000_000_000), uint64(0)
	cal := s.NewCalendar(now)
	add := func() {
		for {
			key := fmt.Appendf(nil, "%d", next)
			next++
			if hash := s.Hash(key); hash>>(64-share) == 0 {
				at := now + 1 + rng.Int64N(span)
				table.Insert(hash, 1, key, 0, 0, at)
				cal.Add(Position(hash), at)
				return
			}
		}
	}
	for range n {
		add()
	}
	looks, gone := 0, 0
	for end := now + 2*span; now < end; now += 1000 {
		for {
			prefix, ok := cal.Next(now, table.Timed())
			if !ok {
				break
			}
			if looks++; looks > 8*(gone+n) {
				t.Fatalf("%d looks for %d records that expired; %d entries for %d records", looks, gone, cal.Len(), table.Timed())
			}
			var due []Ref
			table.Under(prefix, func(position uint64, r Ref) {
				if at := s.ExpireAt(r); at <= now {
					due = append(due, r)
				} else {
					cal.Add(position, at)
				}
			})
			for _, r := range due {
				table.Remove(s.Hash(s.Key(r)), r)
				gone++
			}
			s.Settle()
			for range due {
				add()
			}
		}
	}
}
