package dense

import (
	"math/rand/v2"
	"testing"
)

// TestAgendaAgainstAModel grows and empties an agenda with deadlines in order, in none, and with many alike.
func TestAgendaAgainstAModel(t *testing.T) {
	type entry struct {
		position uint64
		at       int64
	}
	for seed := range uint64(12) {
		rng, store := rand.New(rand.NewPCG(seed, 4)), NewStore(Seed{1, 2})
		a, live, clock := store.NewAgenda(), []entry{}, int64(1000)
		spread := []int64{1, 50, 1 << 40}[seed%3]
		for step := range 8000 {
			if grow := step%4000 < 2000; len(live) == 0 || rng.IntN(4) < 1 == !grow {
				clock += rng.Int64N(3)
				e := entry{rng.Uint64N(Positions), clock + rng.Int64N(spread)}
				a.Add(e.position, e.at)
				live = append(live, e)
			} else {
				i := rng.IntN(len(live))
				a.Remove(live[i].position, live[i].at)
				live[i] = live[len(live)-1]
				live = live[:len(live)-1]
			}
			if step%61 != 0 {
				continue
			}
			err := a.Check(func(each func(uint64, int64)) {
				for _, e := range live {
					each(e.position, e.at)
				}
			})
			if err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			now, passed, first := clock+rng.Int64N(2*spread)-spread/2, 0, int64(0)
			for _, e := range live {
				if e.at <= now {
					passed++
				}
				if first == 0 || e.at < first {
					first = e.at
				}
			}
			if got := a.Passed(now); got != passed {
				t.Fatalf("seed %d step %d: %d have passed, want %d", seed, step, got, passed)
			}
			if at, _ := a.First(); at != first {
				t.Fatalf("seed %d step %d: the first is %d, want %d", seed, step, at, first)
			}
		}
		for a.Drop(1) {
		}
		if store.Usage().All != 0 {
			t.Fatalf("dropped, it still holds %d bytes", store.Usage().All)
		}
	}
}
