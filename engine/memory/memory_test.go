package memory

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

// check returns the first broken invariant by its name.
func (p *Pages) check(t *testing.T, live map[int][]byte) {
	t.Helper()
	var used int64
	for i, r := range p.regions {
		if i > 0 && p.regions[i-1].base() >= r.base() {
			t.Fatalf("G1: region %d lies before the one before it", i)
		}
		free := 0
		for page := range len(r.mem) / PageSize {
			if r.inUse[page/64]>>(page%64)&1 == 0 {
				free++
				if page < r.low {
					t.Fatalf("G3: page %d is free before low %d", page, r.low)
				}
			} else {
				used++
			}
		}
		if free != r.free {
			t.Fatalf("G2: region %d counts %d free pages, has %d", i, r.free, free)
		}
	}
	var pages int64
	for _, b := range live {
		pages += int64(len(b) / PageSize)
	}
	if used != p.used || used != pages {
		t.Fatalf("G2: %d pages marked, %d counted, %d handed out", used, p.used, pages)
	}
}

func TestPagesAgainstAModel(t *testing.T) {
	for seed := range uint64(20) {
		rng, p, live := rand.New(rand.NewPCG(seed, 1)), New(), map[int][]byte{}
		for step := range 3000 {
			if rng.IntN(5) < 3 || len(live) == 0 {
				n := 1 + rng.IntN(1<<rng.IntN(21))
				b := p.Alloc(n)
				if len(b) < n || len(b)%PageSize != 0 {
					t.Fatalf("asked for %d bytes, got %d", n, len(b))
				}
				for _, at := range []int{0, len(b) / 2, len(b) - 1} {
					if b[at] != 0 {
						t.Fatalf("seed %d step %d: not zeroed", seed, step)
					}
					b[at] = byte(step%255 + 1)
				}
				live[step] = b
			} else {
				for id, b := range live { // any
					if want := byte(id%255 + 1); b[0] != want || b[len(b)/2] != want || b[len(b)-1] != want {
						t.Fatalf("seed %d: the run of step %d was overwritten", seed, id)
					}
					p.Free(b)
					delete(live, id)
					break
				}
			}
			if step%50 == 0 {
				p.check(t, live)
			}
		}
		for id, b := range live {
			p.Free(b)
			delete(live, id)
		}
		p.check(t, live)
		if p.Used() != 0 || p.Mapped() > 2*maxRegion {
			t.Fatalf("empty, it has %d bytes in use and %d mapped", p.Used(), p.Mapped())
		}
		p.Close()
	}
}

type piece struct {
	id uint64
	_  [9]uint64
}

func TestPoolAgainstAModel(t *testing.T) {
	for seed := range uint64(10) {
		rng, pages := rand.New(rand.NewPCG(seed, 2)), New()
		pool, live := NewPool[piece](pages), map[uint32]uint64{}
		grow := 3
		for step := uint64(1); step < 30000; step++ {
			if step%6000 == 0 {
				grow = 5 - grow // now growing, now shrinking
			}
			if rng.IntN(5) < grow {
				id, at := pool.Alloc()
				if _, twice := live[id]; twice || id == 0 || at.id != 0 {
					t.Fatalf("seed %d: piece %d is not new", seed, id)
				}
				at.id = step
				live[id] = step
			} else {
				for id, want := range live {
					if got := pool.Get(id).id; got != want {
						t.Fatalf("seed %d: piece %d holds %d, not %d", seed, id, got, want)
					}
					pool.Free(id)
					delete(live, id)
					break
				}
			}
			if pool.Used() != len(live) {
				t.Fatalf("P2: %d pieces counted, %d live", pool.Used(), len(live))
			}
		}
		for id := range live {
			pool.Free(id)
		}
		if pages.Used() > 2*chunkBytes {
			t.Fatalf("an empty pool holds %d bytes", pages.Used())
		}
		pool.Close()
		if pages.Used() != 0 {
			t.Fatalf("a closed pool holds %d bytes", pages.Used())
		}
	}
}

// TestAheadIsBounded: what lies ready is a part of what there is, whole huge pages of addresses that are not in use, and asking
// ends.
func TestAheadIsBounded(t *testing.T) {
	p := New()
	defer p.Close()
	const piece = 256 << 10
	ready := 0
	for p.Mapped() < 512<<20 {
		b := p.Alloc(piece) // which is not touched: the test takes no memory
		for n := 0; ; n++ {
			ahead := p.Ahead()
			if ahead == nil {
				break
			}
			if n > 100 {
				t.Fatal("Ahead goes on for ever")
			}
			if len(ahead) != hugePage || uintptr(unsafe.Pointer(&ahead[0]))%hugePage != 0 {
				t.Fatalf("%d bytes at %p are no huge page", len(ahead), &ahead[0])
			}
			ready += len(ahead)
		}
		if most := p.Used() + p.Mapped()/aheadShare + hugePage; int64(ready) > most {
			t.Fatalf("%d bytes were made ready of a source that has handed out %d", ready, p.Used())
		}
		_ = b
	}
	if ready < 256<<20 {
		t.Errorf("of %d bytes %d were made ready", p.Used(), ready)
	}
	small := New()
	defer small.Close()
	for range 100 {
		small.Alloc(piece)
		if small.Ahead() != nil {
			t.Fatal("a small source has memory made ready")
		}
	}
}

// TestPrepareChangesNothing: not in memory that is in use, nor where there is none any more.
func TestPrepareChangesNothing(t *testing.T) {
	p := New()
	b := p.Alloc(4 * hugePage)
	from := -int(uintptr(unsafe.Pointer(&b[0]))) & (hugePage - 1)
	b[from], b[from+hugePage-1] = 1, 2
	Prepare(b[from:][:hugePage])
	for i, v := range b[from:][:hugePage] {
		if want := map[int]byte{0: 1, hugePage - 1: 2}[i]; v != want {
			t.Fatalf("byte %d is %d", i, v)
		}
	}
	p.Free(b)
	Prepare(b[from:][:hugePage])
	p.Close()
	Prepare(b[from:][:hugePage])
}

// TestUntouchedPagesAreNotCounted: until they are, and Discard gives them back without their address.
func TestUntouchedPagesAreNotCounted(t *testing.T) {
	p := New()
	defer p.Close()
	b := p.Alloc(8 * PageSize)
	p.Untouched(6)
	if p.Used() != 2*PageSize {
		t.Errorf("%d bytes are in use", p.Used())
	}
	b[PageSize] = 1
	Discard(b[PageSize : 2*PageSize])
	if b[PageSize] != 0 {
		t.Error("what was given back is still there")
	}
	p.Untouched(-6)
	p.Free(b)
	if p.Used() != 0 {
		t.Errorf("%d bytes are in use of none", p.Used())
	}
}
