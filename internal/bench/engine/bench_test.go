package main

import (
	"slices"
	"testing"
)

func TestWalkVisitsEveryNumberOnceALap(t *testing.T) {
	for _, n := range []int{1, 2, 3, 64, 1000, 4097} {
		w := newWalk(n, 5)
		var laps [2][]uint64
		for lap := range laps {
			for range n {
				laps[lap] = append(laps[lap], w.next())
			}
			sorted := slices.Sorted(slices.Values(laps[lap]))
			for i, got := range sorted {
				if got != uint64(i) {
					t.Fatalf("n=%d lap %d: number %d is missing", n, lap, i)
				}
			}
		}
		if n >= 64 && slices.Equal(laps[0], laps[1]) {
			t.Errorf("n=%d: both laps have the same order", n)
		}
	}
}

func TestKeysDiffer(t *testing.T) {
	seen := map[[keySize]byte]bool{}
	for i := range uint64(100_000) {
		var key [keySize]byte
		putKey(key[:], i)
		if seen[key] {
			t.Fatalf("key %d was there before", i)
		}
		seen[key] = true
	}
}

func TestQuantilesAreWithinABucket(t *testing.T) {
	h := &histogram{}
	for d := int64(1); d <= 9000; d++ {
		h.add(d)
	}
	for _, q := range []float64{0.01, 0.5, 0.9, 0.999, 1} {
		exact := q * 9000
		if got := float64(h.quantile(q)); got < exact-1 || got > exact*1.04+1 {
			t.Errorf("quantile %v is %v, should be %v", q, got, exact)
		}
	}
}

// Every contender finds what it was given and nothing else, asked in every way.
func TestContendersStore(t *testing.T) {
	for _, c := range contenders {
		for _, lifetime := range []bool{false, true} {
			if c.name == "(nothing)" || lifetime && !c.lifetime {
				continue
			}
			const n = 4 * batch
			b := &storeBench{job: job{Name: c.name, N: n, Lifetime: lifetime}, keys: make([]byte, batch*keySize), gets: newWalk(n, 1), sets: newWalk(n, 2)}
			b.load(&histogram{}, &histogram{})
			for lap := range 3 {
				many := b.many != nil && lap == 1
				if got := b.speed(true, n, many).Found; got != 1 {
					t.Errorf("%s: a share of %v of the keys is found", c.name, got)
				}
				b.speed(false, n, many)
			}
			if b.c.get([]byte("no such key here")) {
				t.Errorf("%s finds a key that is not there", c.name)
			}
		}
	}
}
