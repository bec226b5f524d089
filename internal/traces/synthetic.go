package traces

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// A Synthetic is a made-up pattern of requests.
type Synthetic struct {
	Name       string
	Capacities []int
	Make       func(dice *rand.Rand) []uint64
}

// Trace makes the pattern's requests, always the same.
func (s Synthetic) Trace() *Trace {
	return number(s.Name, s.Make(rand.New(rand.NewPCG(uint64(len(s.Name)), 7))))
}

// number replaces keys by numbers in the order of their first request.
func number(name string, keys []uint64) *Trace {
	t := &Trace{Name: name, Requests: make([]uint32, len(keys))}
	ids := make(map[uint64]uint32, len(keys)/4)
	for i, k := range keys {
		id, ok := ids[k]
		if !ok {
			id = uint32(len(ids))
			ids[k] = id
		}
		t.Requests[i] = id
	}
	t.Distinct = len(ids)
	return t
}

// zipf draws from n keys so that the kth is asked for in proportion to 1/k^s.
type zipf struct {
	sums []float64
	dice *rand.Rand
}

func newZipf(dice *rand.Rand, n int, s float64) *zipf {
	z := &zipf{sums: make([]float64, n), dice: dice}
	sum := 0.0
	for i := range z.sums {
		sum += math.Pow(float64(i+1), -s)
		z.sums[i] = sum
	}
	return z
}

func (z *zipf) draw() uint64 {
	i, _ := slices.BinarySearch(z.sums, z.dice.Float64()*z.sums[len(z.sums)-1])
	return uint64(min(i, len(z.sums)-1))
}

// stack draws by recency: the key that was asked for d requests ago, d by a law, or a new one.
type stack struct {
	past []uint64
	next uint64
	dice *rand.Rand
}

// again repeats the request of about d requests ago, or makes a new key if there is none.
func (s *stack) again(d int) uint64 {
	if d <= 0 || d > len(s.past) {
		return s.fresh()
	}
	k := s.past[len(s.past)-d]
	s.past = append(s.past, k)
	return k
}

func (s *stack) fresh() uint64 {
	s.next++
	s.past = append(s.past, s.next)
	return s.next
}

// Patterns are the made-up traces. Spaces of keys are kept apart by their upper bits.
func Patterns() []Synthetic {
	const space = 1 << 40
	var all []Synthetic
	add := func(name string, capacities []int, fill func(dice *rand.Rand) []uint64) {
		all = append(all, Synthetic{name, capacities, fill})
	}
	for _, s := range []float64{0.6, 0.8, 1.0, 1.2} {
		add(fmt.Sprintf("zipf-%.1f", s), []int{100, 500, 2000, 10000}, func(dice *rand.Rand) (keys []uint64) {
			z := newZipf(dice, 50_000, s)
			for range 600_000 {
				keys = append(keys, z.draw())
			}
			return keys
		})
	}
	add("zipf-scan", []int{250, 1000, 4000}, func(dice *rand.Rand) (keys []uint64) { // a scan of new keys after each stretch of use
		z, next := newZipf(dice, 20_000, 0.9), uint64(space)
		for len(keys) < 500_000 {
			for range 5000 {
				keys = append(keys, z.draw())
			}
			for range 3000 {
				next++
				keys = append(keys, next)
			}
		}
		return keys
	})
	add("zipf-rescan", []int{250, 1000, 4000}, func(dice *rand.Rand) (keys []uint64) { // the same table is scanned again and again
		z := newZipf(dice, 20_000, 0.9)
		for len(keys) < 500_000 {
			for range 6000 {
				keys = append(keys, z.draw())
			}
			for i := range 5000 {
				keys = append(keys, space+uint64(i))
			}
		}
		return keys
	})
	add("scan-thread", []int{250, 1000, 4000}, func(dice *rand.Rand) (keys []uint64) { // use and scan side by side
		z, next := newZipf(dice, 20_000, 1.0), uint64(space)
		for range 500_000 {
			if dice.IntN(3) == 0 {
				next++
				keys = append(keys, next)
			} else {
				keys = append(keys, z.draw())
			}
		}
		return keys
	})
	add("loops", []int{200, 600, 1200, 2500}, func(dice *rand.Rand) (keys []uint64) { // loops of several lengths in turn
		for len(keys) < 400_000 {
			for _, n := range []int{300, 900, 2000} {
				for range 8 {
					for i := range n {
						keys = append(keys, uint64(n)<<20+uint64(i))
					}
				}
			}
		}
		return keys
	})
	add("loop-zipf", []int{200, 600, 1200, 2500}, func(dice *rand.Rand) (keys []uint64) { // a loop beside other use
		z, at := newZipf(dice, 10_000, 0.8), 0
		for range 500_000 {
			if dice.IntN(2) == 0 {
				keys = append(keys, space+uint64(at%1500))
				at++
			} else {
				keys = append(keys, z.draw())
			}
		}
		return keys
	})
	add("shift-sudden", []int{200, 1000, 4000}, func(dice *rand.Rand) (keys []uint64) { // what is popular changes at once
		z := newZipf(dice, 20_000, 0.9)
		for len(keys) < 600_000 {
			base := uint64(len(keys) / 40_000 * 20_000)
			keys = append(keys, base+z.draw())
		}
		return keys
	})
	add("shift-drift", []int{200, 1000, 4000}, func(dice *rand.Rand) (keys []uint64) { // it drifts
		z := newZipf(dice, 20_000, 0.9)
		for i := range 600_000 {
			keys = append(keys, uint64(i/20)+z.draw()*7%40_000)
		}
		return keys
	})
	add("web-one-hit", []int{500, 2000, 8000}, func(dice *rand.Rand) (keys []uint64) { // a CDN: most keys are asked for once
		z, next := newZipf(dice, 100_000, 0.8), uint64(space)
		for range 800_000 {
			if dice.IntN(100) < 45 {
				next++
				keys = append(keys, next)
			} else {
				keys = append(keys, z.draw())
			}
		}
		return keys
	})
	for _, a := range []float64{0.4, 0.7} {
		add(fmt.Sprintf("stack-%.1f", a), []int{200, 1000, 4000}, func(dice *rand.Rand) (keys []uint64) { // stack distances by a power law
			s := &stack{dice: dice}
			for range 600_000 {
				u := dice.Float64()
				if dice.IntN(10) == 0 {
					keys = append(keys, s.fresh())
				} else {
					keys = append(keys, s.again(int(math.Pow(u, -1/a))))
				}
			}
			return keys
		})
	}
	add("bursts", []int{200, 1000, 4000}, func(dice *rand.Rand) (keys []uint64) { // a feed: new things are read a lot for a while
		s := &stack{dice: dice}
		for range 600_000 {
			if dice.IntN(6) == 0 {
				keys = append(keys, s.fresh())
			} else {
				keys = append(keys, s.next-min(s.next, uint64(dice.ExpFloat64()*900)))
			}
		}
		return keys
	})
	add("bursts-zipf", []int{200, 1000, 4000}, func(dice *rand.Rand) (keys []uint64) { // a feed beside profiles
		z, next := newZipf(dice, 30_000, 0.9), uint64(0)
		for range 600_000 {
			switch r := dice.IntN(10); {
			case r == 0:
				next++
				keys = append(keys, space+next)
			case r < 5:
				keys = append(keys, space+next-min(next, uint64(dice.ExpFloat64()*800)))
			default:
				keys = append(keys, z.draw())
			}
		}
		return keys
	})
	add("correlated", []int{200, 1000, 4000}, func(dice *rand.Rand) (keys []uint64) { // each key is asked for twice or more in short order, as by a database's pages
		z, queue := newZipf(dice, 60_000, 0.7), []uint64{}
		for len(keys) < 600_000 {
			if len(queue) > 0 && dice.IntN(2) == 0 {
				i := dice.IntN(len(queue))
				keys = append(keys, queue[i])
				if dice.IntN(2) == 0 {
					queue[i] = queue[len(queue)-1]
					queue = queue[:len(queue)-1]
				}
				continue
			}
			k := z.draw()
			keys = append(keys, k)
			if queue = append(queue, k); len(queue) > 40 {
				queue = queue[1:]
			}
		}
		return keys
	})
	add("database", []int{500, 2000, 8000}, func(dice *rand.Rand) (keys []uint64) { // index pages, rows by Zipf's law, range scans, an append-only log
		index, rows, log := newZipf(dice, 800, 1.0), newZipf(dice, 60_000, 0.8), uint64(0)
		for len(keys) < 700_000 {
			switch r := dice.IntN(1000); {
			case r < 350:
				keys = append(keys, index.draw())
			case r < 750:
				keys = append(keys, space+rows.draw())
			case r < 990:
				log++
				keys = append(keys, 2*space+log/4-min(log/4, uint64(dice.ExpFloat64()*20)))
			default:
				start := uint64(dice.IntN(60_000))
				for i := range uint64(100) {
					keys = append(keys, space+(start+i)*7919%60_000)
				}
			}
		}
		return keys
	})
	add("phases", []int{300, 1500, 6000}, func(dice *rand.Rand) (keys []uint64) { // by turns what LRU likes and what frequency likes
		z, s, next := newZipf(dice, 20_000, 0.9), &stack{dice: dice, next: space}, uint64(2*space)
		for len(keys) < 900_000 {
			for range 60_000 {
				if dice.IntN(4) == 0 {
					next++
					keys = append(keys, next)
				} else {
					keys = append(keys, z.draw())
				}
			}
			for range 60_000 {
				if dice.IntN(5) == 0 {
					keys = append(keys, s.fresh())
				} else {
					keys = append(keys, s.next-min(s.next-space, uint64(dice.ExpFloat64()*1200)))
				}
			}
		}
		return keys
	})
	add("workstation", []int{500, 2000, 8000}, func(dice *rand.Rand) (keys []uint64) { // like the P traces: runs of blocks, some of them again soon, some often, some never
		files, hot, next := newZipf(dice, 4000, 0.85), newZipf(dice, 300, 0.9), uint64(0)
		var recent []uint64
		run := func(base uint64, n int) {
			for i := range n {
				keys = append(keys, base+uint64(i))
			}
		}
		for len(keys) < 700_000 {
			switch r := dice.IntN(100); {
			case r < 40:
				run(hot.draw()<<16, 1+dice.IntN(8))
			case r < 70:
				f := files.draw()
				recent = append(recent, f)
				run(space+f<<16, 1+int(f*2654435761>>7%60))
			case r < 90 && len(recent) > 0:
				f := recent[len(recent)-1-min(len(recent)-1, int(dice.ExpFloat64()*12))]
				run(space+f<<16, 1+int(f*2654435761>>7%60))
			default:
				next++
				run(2*space+next<<16, 1+dice.IntN(400))
			}
		}
		return keys
	})
	add("search", []int{2000, 10000, 40000}, func(dice *rand.Rand) (keys []uint64) { // like the S traces: a flat law over many keys, hardly any recency
		z := newZipf(dice, 200_000, 0.5)
		for range 1_000_000 {
			keys = append(keys, z.draw())
		}
		return keys
	})
	add("server", []int{5000, 20000, 60000}, func(dice *rand.Rand) (keys []uint64) { // like the DS trace: long sequential runs that come again, over Zipf
		z := newZipf(dice, 100_000, 0.8)
		for len(keys) < 1_200_000 {
			if dice.IntN(400) == 0 {
				start := uint64(dice.IntN(40)) * 10_000
				for i := range uint64(dice.IntN(3000)) {
					keys = append(keys, space+start+i)
				}
			} else {
				keys = append(keys, z.draw())
			}
		}
		return keys
	})
	add("big-zipf", []int{20_000, 100_000}, func(dice *rand.Rand) (keys []uint64) {
		z := newZipf(dice, 1_000_000, 0.9)
		for range 3_000_000 {
			keys = append(keys, z.draw())
		}
		return keys
	})
	add("big-mix", []int{20_000, 100_000}, func(dice *rand.Rand) (keys []uint64) {
		z, next := newZipf(dice, 500_000, 0.8), uint64(space)
		for i := range 3_000_000 {
			switch r := dice.IntN(10); {
			case r < 2:
				next++
				keys = append(keys, next)
			case r < 4:
				keys = append(keys, next-min(next-space, uint64(dice.ExpFloat64()*30_000)))
			default:
				keys = append(keys, 2*space+uint64(i/1_000_000)*100_000+z.draw())
			}
		}
		return keys
	})
	return all
}
