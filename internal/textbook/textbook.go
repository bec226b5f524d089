// Package textbook holds eviction policies as their papers give them, with the lists and tables that a cache of
// ours has no room for: the measure that the engine's own policy is held against.
//
// Each works on the requests of a trace, in items of equal size. Start with Replay.
package textbook

import (
	"fmt"

	"github.com/larder-cache/larder/internal/traces"
)

// A Policy is a cache of some capacity that knows only keys.
type Policy interface {
	// Request asks for a key, stores it on a miss, and reports whether it was there.
	Request(key uint32) (hit bool)
	// Len is the number of keys now held.
	Len() int
}

// A Maker makes an empty cache for the requests of a trace.
type Maker func(t *traces.Trace, capacity int) Policy

// Makers are the policies by name.
var Makers = map[string]Maker{
	"lru":    func(t *traces.Trace, n int) Policy { return newLRU(t.Distinct, n) },
	"s3fifo": func(t *traces.Trace, n int) Policy { return newS3FIFO(t.Distinct, n) },
	"sieve":  func(t *traces.Trace, n int) Policy { return newSieve(t.Distinct, n) },
	"arc":    func(t *traces.Trace, n int) Policy { return newARC(t.Distinct, n) },
	"belady": func(t *traces.Trace, n int) Policy { return newBelady(t.Requests, t.Distinct, n) },
}

// Names lists the policies, the optimum last.
func Names() []string { return []string{"lru", "s3fifo", "sieve", "arc", "belady"} }

// MetadataBytes says about how many bytes an implementation with lists needs for each item it holds: two 8-byte
// links where items move, one where they queue, and what the policy remembers of items it no longer holds.
func MetadataBytes(name string) string {
	switch name {
	case "lru":
		return "16"
	case "s3fifo":
		return "17+8" // a link, a place and 2 bits; a ghost for each
	case "sieve":
		return "17"
	case "arc":
		return "17+24" // as many ghosts as items, in lists and in a table
	}
	return "-"
}

// Replay returns the share of a trace's requests that hit.
func Replay(t *traces.Trace, p Policy, capacity int) (float64, error) {
	hits := 0
	for _, key := range t.Requests {
		if p.Request(key) {
			hits++
		}
		if p.Len() > capacity {
			return 0, fmt.Errorf("holds %d of %d items", p.Len(), capacity)
		}
	}
	return float64(hits) / float64(len(t.Requests)), nil
}

// lists are doubly linked lists that share nodes: a key is in one list at most.
type lists struct {
	prev, next []int32 // keys, then one ring head for each list
	in         []int8  // the list a key is in, -1 for none
	size       []int
	keys       int
}

func newLists(keys, n int) *lists {
	l := &lists{prev: make([]int32, keys+n), next: make([]int32, keys+n), in: make([]int8, keys), size: make([]int, n), keys: keys}
	for i := range l.in {
		l.in[i] = -1
	}
	for i := keys; i < keys+n; i++ {
		l.prev[i], l.next[i] = int32(i), int32(i)
	}
	return l
}

// push puts key, which is in no list, at the front of one.
func (l *lists) push(list int8, key uint32) {
	head := int32(l.keys) + int32(list)
	first := l.next[head]
	l.next[head], l.prev[first] = int32(key), int32(key)
	l.prev[key], l.next[key] = head, first
	l.in[key] = list
	l.size[list]++
}

func (l *lists) remove(key uint32) {
	l.next[l.prev[key]], l.prev[l.next[key]] = l.next[key], l.prev[key]
	l.size[l.in[key]]--
	l.in[key] = -1
}

// last returns the key at the back of a list that is not empty.
func (l *lists) last(list int8) uint32 { return uint32(l.prev[l.keys+int(list)]) }

// pop removes the last key.
func (l *lists) pop(list int8) uint32 {
	key := l.last(list)
	l.remove(key)
	return key
}

// lru evicts what was used longest ago.
type lru struct {
	*lists
	capacity int
}

func newLRU(keys, capacity int) *lru { return &lru{newLists(keys, 1), capacity} }

func (p *lru) Len() int { return p.size[0] }

func (p *lru) Request(key uint32) bool {
	hit := p.in[key] == 0
	if hit {
		p.remove(key)
	} else if p.size[0] == p.capacity {
		p.pop(0)
	}
	p.push(0, key)
	return hit
}

// sieve is SIEVE (Zhang and others, NSDI 2024): a queue, a bit for each item, and a hand that moves from the
// oldest to the newest, clears bits, and evicts the first item without one.
type sieve struct {
	*lists
	visited  []bool
	hand     int32
	capacity int
}

func newSieve(keys, capacity int) *sieve {
	return &sieve{newLists(keys, 1), make([]bool, keys), int32(keys), capacity}
}

func (p *sieve) Len() int { return p.size[0] }

func (p *sieve) Request(key uint32) bool {
	if p.in[key] == 0 {
		p.visited[key] = true
		return true
	}
	if p.size[0] == p.capacity {
		h, head := p.hand, int32(p.keys)
		if h == head {
			h = p.prev[head]
		}
		for p.visited[h] {
			p.visited[h] = false
			if h = p.prev[h]; h == head {
				h = p.prev[head]
			}
		}
		p.hand = p.prev[h] // the head means: begin again at the oldest
		p.remove(uint32(h))
	}
	p.visited[key] = false
	p.push(0, key)
	return false
}

// s3fifo is S3-FIFO (Yang and others, SOSP 2023) with the paper's constants.
type s3fifo struct {
	*lists      // small, main, ghost
	uses        []uint8
	small, main int
}

func newS3FIFO(keys, capacity int) *s3fifo {
	small := max(1, capacity/10)
	return &s3fifo{newLists(keys, 3), make([]uint8, keys), small, capacity - small}
}

func (p *s3fifo) Len() int { return p.size[0] + p.size[1] }

func (p *s3fifo) Request(key uint32) bool {
	if p.in[key] == 0 || p.in[key] == 1 {
		p.uses[key] = min(p.uses[key]+1, 3)
		return true
	}
	for p.Len() >= p.small+p.main {
		p.evict()
	}
	p.uses[key] = 0
	if p.in[key] == 2 {
		p.remove(key)
		p.push(1, key)
	} else {
		p.push(0, key)
	}
	return false
}

func (p *s3fifo) evict() {
	if p.size[0] >= p.small || p.size[1] == 0 {
		for p.size[0] > 0 {
			key := p.pop(0)
			if p.uses[key] > 1 {
				p.uses[key] = 0
				p.push(1, key)
				continue
			}
			p.push(2, key)
			if p.size[2] > p.main {
				p.pop(2)
			}
			return
		}
	}
	for p.size[1] > 0 {
		key := p.pop(1)
		if p.uses[key] == 0 {
			return
		}
		p.uses[key]--
		p.push(1, key)
	}
}

// arc is ARC (Megiddo and Modha, FAST 2003).
type arc struct {
	*lists   // t1, t2, b1, b2
	target   int
	capacity int
}

func newARC(keys, capacity int) *arc { return &arc{newLists(keys, 4), 0, capacity} }

func (p *arc) Len() int { return p.size[0] + p.size[1] }

func (p *arc) Request(key uint32) bool {
	t1, t2, b1, b2 := p.size[0], p.size[1], p.size[2], p.size[3]
	switch p.in[key] {
	case 0, 1:
		p.remove(key)
		p.push(1, key)
		return true
	case 2:
		p.target = min(p.target+max(b2/b1, 1), p.capacity)
		p.replace(false)
		p.remove(key)
		p.push(1, key)
		return false
	case 3:
		p.target = max(p.target-max(b1/b2, 1), 0)
		p.replace(true)
		p.remove(key)
		p.push(1, key)
		return false
	}
	if t1+b1 == p.capacity {
		if t1 < p.capacity {
			p.pop(2)
			p.replace(false)
		} else {
			p.pop(0)
		}
	} else if all := t1 + t2 + b1 + b2; all >= p.capacity {
		if all == 2*p.capacity {
			p.pop(3)
		}
		p.replace(false)
	}
	p.push(0, key)
	return false
}

// replace makes a ghost of one item.
func (p *arc) replace(inB2 bool) {
	if t1 := p.size[0]; t1 > 0 && (t1 > p.target || (inB2 && t1 == p.target)) || p.size[1] == 0 {
		p.push(2, p.pop(0))
	} else {
		p.push(3, p.pop(1))
	}
}

// belady knows the future: it evicts what is used again last, which nothing can beat (Belady, 1966).
type belady struct {
	next     []uint32 // for each request, when its key is asked for again
	at       int
	held     []uint32 // for each key, its place in heap plus one
	heap     []uint32 // keys, the one that is used again last on top
	when     []uint32 // for each key, its next use
	capacity int
}

func newBelady(requests []uint32, keys, capacity int) *belady {
	p := &belady{next: make([]uint32, len(requests)), held: make([]uint32, keys), when: make([]uint32, keys), capacity: capacity}
	seen := make([]uint32, keys)
	for i := range seen {
		seen[i] = ^uint32(0)
	}
	for i := len(requests) - 1; i >= 0; i-- {
		p.next[i], seen[requests[i]] = seen[requests[i]], uint32(i)
	}
	return p
}

func (p *belady) Len() int { return len(p.heap) }

func (p *belady) Request(key uint32) bool {
	next := p.next[p.at]
	p.at++
	p.when[key] = next
	if p.held[key] != 0 {
		p.up(int(p.held[key] - 1))
		return true
	}
	if len(p.heap) < p.capacity {
		p.heap = append(p.heap, key)
		p.held[key] = uint32(len(p.heap))
		p.up(len(p.heap) - 1)
		return false
	}
	p.held[p.heap[0]] = 0
	p.heap[0], p.held[key] = key, 1
	p.down(0)
	return false
}

func (p *belady) swap(i, j int) {
	a, b := p.heap[i], p.heap[j]
	p.heap[i], p.heap[j] = b, a
	p.held[b], p.held[a] = uint32(i+1), uint32(j+1)
}

func (p *belady) up(i int) {
	for i > 0 && p.when[p.heap[i]] > p.when[p.heap[(i-1)/2]] {
		p.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (p *belady) down(i int) {
	for {
		largest := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(p.heap); c++ {
			if p.when[p.heap[c]] > p.when[p.heap[largest]] {
				largest = c
			}
		}
		if largest == i {
			return
		}
		p.swap(i, largest)
		i = largest
	}
}
