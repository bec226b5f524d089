package textbook

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/larder-cache/larder/internal/traces"
)

// naiveLRU is a slice, the latest last.
type naiveLRU struct {
	keys     []uint32
	capacity int
}

func (p *naiveLRU) Len() int { return len(p.keys) }

func (p *naiveLRU) Request(key uint32) bool {
	i := slices.Index(p.keys, key)
	if i >= 0 {
		p.keys = slices.Delete(p.keys, i, i+1)
	} else if len(p.keys) == p.capacity {
		p.keys = p.keys[1:]
	}
	p.keys = append(p.keys, key)
	return i >= 0
}

// naiveSieve is the paper's pseudocode on slices, the oldest first.
type naiveSieve struct {
	keys     []uint32
	visited  map[uint32]bool
	hand     int
	capacity int
}

func (p *naiveSieve) Len() int { return len(p.keys) }

func (p *naiveSieve) Request(key uint32) bool {
	if slices.Contains(p.keys, key) {
		p.visited[key] = true
		return true
	}
	if len(p.keys) == p.capacity {
		for p.hand %= len(p.keys); p.visited[p.keys[p.hand]]; p.hand = (p.hand + 1) % len(p.keys) {
			p.visited[p.keys[p.hand]] = false
		}
		last := p.hand == len(p.keys)-1
		p.keys = slices.Delete(p.keys, p.hand, p.hand+1)
		if last {
			p.hand = 0
		}
	}
	p.keys = append(p.keys, key)
	p.visited[key] = false
	return false
}

// naiveBelady looks into the future anew for each victim.
type naiveBelady struct {
	keys     []uint32
	requests []uint32
	at       int
	capacity int
}

func (p *naiveBelady) Len() int { return len(p.keys) }

func (p *naiveBelady) next(key uint32) int {
	if i := slices.Index(p.requests[p.at:], key); i >= 0 {
		return i
	}
	return len(p.requests)
}

func (p *naiveBelady) Request(key uint32) bool {
	p.at++
	if slices.Contains(p.keys, key) {
		return true
	}
	if len(p.keys) == p.capacity {
		victim := 0
		for i := range p.keys {
			if p.next(p.keys[i]) > p.next(p.keys[victim]) {
				victim = i
			}
		}
		p.keys = slices.Delete(p.keys, victim, victim+1)
	}
	p.keys = append(p.keys, key)
	return false
}

func random(dice *rand.Rand, n, keys int) *traces.Trace {
	t := &traces.Trace{Distinct: keys}
	for range n {
		t.Requests = append(t.Requests, uint32(float64(keys)*dice.Float64()*dice.Float64()))
	}
	return t
}

// TestAgainstNaiveTwins: each request has the same answer.
func TestAgainstNaiveTwins(t *testing.T) {
	for seed := range uint64(20) {
		dice := rand.New(rand.NewPCG(seed, 1))
		capacity := 1 + dice.IntN(40)
		tr := random(dice, 2000, 120)
		for name, twin := range map[string]Policy{
			"lru":    &naiveLRU{capacity: capacity},
			"sieve":  &naiveSieve{capacity: capacity, visited: map[uint32]bool{}},
			"belady": &naiveBelady{capacity: capacity, requests: tr.Requests},
		} {
			p := Makers[name](tr, capacity)
			hits, twins := 0, 0
			for i, key := range tr.Requests {
				a, b := p.Request(key), twin.Request(key)
				if a {
					hits++
				}
				if b {
					twins++
				}
				if name != "belady" && a != b { // ties among what is never used again may go either way
					t.Fatalf("seed %d, %s: request %d: %v, want %v", seed, name, i, a, b)
				}
			}
			if hits != twins {
				t.Errorf("seed %d, %s: %d hits, want %d", seed, name, hits, twins)
			}
		}
	}
}

// TestKnownRatios of other implementations on short patterns: a loop that is one too long is the worst for LRU, and
// one that fits misses only once for each key.
func TestKnownRatios(t *testing.T) {
	loop := &traces.Trace{Distinct: 11}
	for i := range 1100 {
		loop.Requests = append(loop.Requests, uint32(i%11))
	}
	for _, name := range Names() {
		if r, err := Replay(loop, Makers[name](loop, 11), 11); err != nil || r != 1089.0/1100 {
			t.Errorf("%s: a loop that fits: %v, %v", name, r, err)
		}
	}
	if r, _ := Replay(loop, Makers["lru"](loop, 10), 10); r != 0 {
		t.Errorf("LRU in a loop that does not fit: %v", r)
	}
}

// TestNobodyExceedsTheCapacityOrTheOptimum, on patterns with ghosts that come back.
func TestNobodyExceedsTheCapacityOrTheOptimum(t *testing.T) {
	for seed := range uint64(20) {
		dice := rand.New(rand.NewPCG(seed, 2))
		capacity := 1 + dice.IntN(60)
		tr := random(dice, 5000, 200)
		best, err := Replay(tr, Makers["belady"](tr, capacity), capacity)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range Names() {
			if r, err := Replay(tr, Makers[name](tr, capacity), capacity); err != nil || r > best {
				t.Errorf("seed %d, %s with %d items: %v, %v, the optimum is %v", seed, name, capacity, r, err, best)
			}
		}
	}
}
