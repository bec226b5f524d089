package eviction

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// naive is a cache that keeps its items in maps and lists them by walking.
type naive struct {
	notes map[uint64]uint32
	order []uint64 // for Sample
}

func (c *naive) Len() int { return len(c.notes) }

func (c *naive) Sample(draw uint64) (uint64, uint32, bool) {
	h := c.order[draw%uint64(len(c.order))]
	n, ok := c.notes[h]
	return h, n, ok
}

func (c *naive) Find(tag uint32) (uint64, uint32, bool) {
	h := uint64(tag)<<32 | uint64(mix32(tag))
	n, ok := c.notes[h]
	return h, n, ok
}

func (c *naive) SetNote(hash uint64, note uint32) { c.notes[hash] = note }

func (c *naive) remove(hash uint64) {
	delete(c.notes, hash)
	for i, h := range c.order {
		if h == hash {
			c.order[i] = c.order[len(c.order)-1]
			c.order = c.order[:len(c.order)-1]
			return
		}
	}
}

func (c *naive) list() (notes []uint32) {
	for _, n := range c.notes {
		notes = append(notes, n)
	}
	return notes
}

// key makes a hash of which the tag tells the whole.
func key(i int) uint64 {
	tag := mix32(uint32(i) + 1)
	return uint64(tag)<<32 | uint64(mix32(tag))
}

// TestBooksAreRight: whatever happens to items, the invariants hold, Victim returns an item that is there and was not
// chosen before, and finds one as long as there is one.
func TestBooksAreRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dice := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		capacity := 1 + dice.IntN(300)
		c, p, now := &naive{notes: map[uint64]uint32{}}, &Policy{}, int64(1e12)
		for step := range 4000 {
			now += int64(dice.IntN(2000))
			h := key(int(float64(capacity*4) * dice.Float64() * dice.Float64()))
			n, ok := c.notes[h]
			switch r := dice.IntN(100); {
			case r == 0 && ok:
				p.Removed(n)
				c.remove(h)
			case r == 1 && ok: // as a snapshot leaves it
				p.Removed(n)
				c.notes[h] = 0
			case r == 2 && ok: // chosen, but the eviction never comes
				if _, ok := p.Victim(c, dice.Uint64()); !ok && len(c.notes) > 1 {
					free := 0
					for _, n := range c.notes {
						if note(n) != chosen {
							free++
						}
					}
					if free > len(c.notes)/2 {
						t.Fatalf("step %d: no victim among %d items", step, free)
					}
				}
			case ok:
				c.notes[h] = p.Hit(h, n, now)
			default:
				for len(c.notes) >= capacity {
					v, ok := p.Victim(c, dice.Uint64())
					if !ok {
						for v, n = range c.notes { // all are chosen
							if note(n) != chosen {
								t.Fatalf("step %d: %#x was not found", step, n)
							}
						}
					} else if note(c.notes[v]) != chosen {
						t.Fatalf("step %d: the victim's note is %#x", step, c.notes[v])
					}
					c.remove(v)
				}
				c.notes[h] = p.Insert(h, now)
				c.order = append(c.order, h)
			}
			if step%64 == 0 {
				if err := p.check(c.list()); err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
			}
		}
		for _, n := range c.notes {
			if idle := p.Idle(n, now); idle < 0 || idle > 4000*2 {
				t.Fatalf("idle for %d s", idle)
			}
		}
	})
}

// TestSameDrawsSameVictims: a policy has no chance of its own.
func TestSameDrawsSameVictims(t *testing.T) {
	play := func() (victims []uint64) {
		c, p, dice := &naive{notes: map[uint64]uint32{}}, &Policy{}, rand.New(rand.NewPCG(1, 2))
		for range 20_000 {
			h := key(dice.IntN(1 + dice.IntN(1500)))
			if n, ok := c.notes[h]; ok {
				c.notes[h] = p.Hit(h, n, 0)
				continue
			}
			if len(c.notes) == 200 {
				v, _ := p.Victim(c, dice.Uint64())
				c.remove(v)
				victims = append(victims, v)
			}
			c.notes[h] = p.Insert(h, 0)
			c.order = append(c.order, h)
		}
		return victims
	}
	a, b := play(), play()
	for i := range a {
		if a[i] != b[i] {
			t.Fatalf("victim %d differs", i)
		}
	}
}

// flat is a cache without allocations, for measuring: the tag of a key is its place.
type flat struct {
	hashes []uint64
	notes  []uint32
}

func (c *flat) Len() int { return len(c.notes) }

func (c *flat) Sample(draw uint64) (uint64, uint32, bool) {
	i := draw % uint64(len(c.notes))
	return c.hashes[i], c.notes[i], true
}

func (c *flat) place(tag uint32) int { return int(uint64(tag) * uint64(len(c.notes)) >> 32) }

func (c *flat) Find(tag uint32) (uint64, uint32, bool) {
	i := c.place(tag)
	return c.hashes[i], c.notes[i], c.hashes[i] != 0 && uint32(c.hashes[i]>>32) == tag
}

func (c *flat) SetNote(hash uint64, note uint32) { c.notes[c.place(uint32(hash>>32))] = note }

// filled is a full cache of n places, each of which holds one of two keys in turn.
func filled(n int) (*flat, *Policy, func(i int) uint64) {
	c, p := &flat{make([]uint64, n), make([]uint32, n)}, &Policy{}
	at := func(i int) uint64 { return (uint64(i%n)*2 + uint64(i/n%2)) * (1 << 63 / uint64(n)) }
	p.Arm(n)
	for i := range n {
		c.hashes[i] = at(i)
		c.notes[i] = p.Insert(at(i), 0)
	}
	return c, p, at
}

// churn evicts an item and stores another in its place.
func churn(c *flat, p *Policy, dice *rand.Rand) {
	h, ok := p.Victim(c, dice.Uint64())
	if !ok {
		panic("no victim")
	}
	i := c.place(uint32(h >> 32))
	c.hashes[i] ^= 1 << 20 // another key at the same place, with the same tag
	c.notes[i] = p.Insert(c.hashes[i], 0)
}

// TestSteadyStateAllocatesNothing once the ghosts' table is full.
func TestSteadyStateAllocatesNothing(t *testing.T) {
	c, p, _ := filled(4000)
	dice := rand.New(rand.NewPCG(1, 2))
	for range 40_000 {
		churn(c, p, dice)
	}
	if n := testing.AllocsPerRun(5000, func() {
		churn(c, p, dice)
		i := dice.IntN(len(c.notes))
		c.notes[i] = p.Hit(c.hashes[i], c.notes[i], 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestSmallUntilItIsNeeded: the policy of a cache far from its limit, and what it takes when full.
func TestSmallUntilItIsNeeded(t *testing.T) {
	p := &Policy{}
	for i := range 1000 {
		p.Insert(key(i), int64(i)*1000)
	}
	if n := p.Bytes(); n > 512 {
		t.Errorf("%d bytes before the limit is near", n)
	}
	for _, n := range []int{1000, 10_000, 300_000} {
		c, p, _ := filled(n)
		dice := rand.New(rand.NewPCG(1, 2))
		for range 2 * n {
			churn(c, p, dice)
		}
		per := float64(p.Bytes()) / float64(n)
		t.Logf("%d items: %.1f bytes each", n, per)
		if bound := 6 + 40_000/float64(n); per > bound {
			t.Errorf("%d items: %.1f bytes each, at most %.1f", n, per, bound)
		}
	}
}

// TestIdle: the time since an item's last use is told within a tenth of it and two seconds.
func TestIdle(t *testing.T) {
	p, now := &Policy{}, int64(1e12)
	p.Insert(key(0), now)
	type used struct {
		note uint32
		at   int64
	}
	var all []used
	dice := rand.New(rand.NewPCG(1, 2))
	for i := range 100_000 {
		now += int64(dice.IntN(100))
		n := p.Insert(key(i), now)
		if i%1000 == 0 {
			all = append(all, used{n, now})
		}
	}
	for _, u := range all {
		want := (now - u.at) / 1000
		if got := p.Idle(u.note, now); got < want-want/10-2 || got > want+want/10+2 {
			t.Errorf("idle for %d s, want %d", got, want)
		}
	}
	if got := p.Freq(p.Hit(key(0), p.Insert(key(0), now), now)); got != 2 {
		t.Errorf("used %d times, want 2", got)
	}
}

func TestGhostsRemember(t *testing.T) {
	var g ghosts
	g.resize(8000)
	for i := range 8000 {
		g.add(key(i), uint32(i%5), 0)
	}
	found := 0
	for i := 7999; i >= 4000; i-- { // the later half: few buckets have got so many since
		if freq, _, _, ok := g.take(key(i), 0); ok && freq == max(1, uint32(i%5)) {
			found++
		}
	}
	if found < 3600 {
		t.Errorf("%d of the last 4000 ghosts were found", found)
	}
	wrong := 0
	for i := range 8000 {
		if _, _, _, ok := g.take(key(100_000+i), 0); ok {
			wrong++
		}
	}
	if wrong > 40 {
		t.Errorf("%d of 8000 keys have a ghost that is not theirs", wrong)
	}
}

func BenchmarkVictim(b *testing.B) {
	for _, n := range []struct {
		name  string
		items int
	}{{"1k", 1000}, {"10k", 10_000}, {"1M", 1_000_000}} {
		b.Run(n.name, func(b *testing.B) {
			c, p, _ := filled(n.items)
			dice := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				churn(c, p, dice)
			}
		})
	}
}

func BenchmarkHit(b *testing.B) {
	for _, n := range []struct {
		name  string
		items int
	}{{"1k", 1000}, {"10k", 10_000}, {"1M", 1_000_000}} {
		b.Run(n.name, func(b *testing.B) {
			c, p, _ := filled(n.items)
			i := 0
			for b.Loop() {
				if i++; i == n.items {
					i = 0
				}
				c.notes[i] = p.Hit(c.hashes[i], c.notes[i], 0)
			}
		})
	}
}
