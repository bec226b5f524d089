// Package eviction decides which item a full cache would miss least: the policy allkeys-adaptive, and how the
// policies of Redis use the same four bytes of each item.
//
// No single policy is the best on every pattern of requests. So a Policy holds small models of several experts
// (LRU, ARC, and TinyLFU with a small, a middling and a large window), shows them a fixed sample of the keys, and
// has the real cache do what the expert does that has lately had the most hits. The models cost next to nothing,
// because what they know is shared: see shadow.go.
//
// What the real cache knows of an item is its note (note.go): when it was used last, how often, and in which
// segment it stands. No list holds the items together: the oldest of a segment is found among items drawn at
// random and those that earlier draws left over (pool.go), and in a short queue of newcomers. What has been
// evicted leaves a ghost of two bytes that remembers how often it was used (ghosts.go).
//
// The package is pure: no clock, no source of chance, no goroutine. Start with Policy.Victim.
package eviction

import (
	"fmt"
	"unsafe"
)

// Resident is the cache as a Policy sees it. Every method is called from within Policy.Victim only.
type Resident interface {
	// Len is the number of items.
	Len() int
	// Sample returns an item that draw picks, all of them about equally likely; ok is false if it found none.
	Sample(draw uint64) (hash uint64, note uint32, ok bool)
	// Find looks an item up by the top 32 bits of its hash; of several such items any will do.
	Find(tag uint32) (hash uint64, note uint32, ok bool)
	// SetNote changes the note of the item with this hash.
	SetNote(hash uint64, note uint32)
}

// Policy is the adaptive policy of one cache. The zero value is ready for use.
//
// Until Arm or Victim is called first, it is a few counters: only a cache that comes near its limit pays for
// ghosts and models.
//
//	P1: counts holds, for each segment, how many items have notes of that segment
//	P2: the ring holds the tags of the latest newcomers, in order, and maybe of others that are gone since
//	P3: a model holds no more sampled keys than its share of the cache, as it was at the last request
type Policy struct {
	clock  uint32 // ticks, up to maxStamp; never 0
	part   uint32 // requests since the last tick
	shift  uint8  // a tick is 1<<shift requests
	epoch  uint8  // log2 of the ticks in which frequencies are halved
	armed  bool
	full   bool    // a victim has been asked for
	leader uint8   // the expert whom the real cache follows
	sized  int     // the number of items for which everything has its size
	counts [4]int  // items by segment
	target float32 // the share of items used once that ARC wants; learnt by the real cache while ARC leads
	once   float32 // about the share of items used once among the latest ghosts

	ghosts ghosts
	ring   ring
	pools  []pool  // by segment
	shadow *shadow // nil until armed
	times  times
	pcg    uint64
}

// Arm makes the policy watch: call it when a cache comes near its limit, at half of it or so, with the items that
// it is expected to hold when full. Victim arms a policy that is not.
func (p *Policy) Arm(expected int) {
	if p.armed {
		return
	}
	p.armed = true
	p.leader = firstLeader
	p.pools, p.shadow = make([]pool, 4), &shadow{leader: firstLeader}
	p.resize(max(expected, p.total()))
}

// resize fits everything to a number of items, and keeps what it can. Nothing of it takes time in proportion to
// that number: ghosts are allocated when they come, and ring and models are bounded.
func (p *Policy) resize(n int) {
	p.sized = n
	p.shift = tickShift(n)
	p.epoch = epochFor(n, p.shift)
	if p.armed {
		p.ghosts.resize(2 * n)
		p.ring.resize(max(64, min(n/8, maxRing)))
		p.shadow.resize(n)
	}
}

func (p *Policy) total() int { return p.counts[window] + p.counts[probation] + p.counts[protected] }

// tick counts a request.
func (p *Policy) tick() {
	if p.clock == 0 {
		p.clock = 1
		p.epoch = epochFor(0, 0)
	}
	p.part++
	if p.part>>p.shift != 0 {
		p.part = 0
		p.clock++
		if p.clock > maxStamp {
			p.clock = 1
		}
	}
}

// Insert tells that a new item has been stored, and returns its note. now is in milliseconds since 1970.
func (p *Policy) Insert(hash uint64, now int64) uint32 {
	p.tick()
	p.times.note(p.clock, now)
	n := makeNote(window, 1, p.clock)
	if p.armed {
		if freq, once, recent, ok := p.ghosts.take(hash, p.epochs()); ok {
			n = n.withFreq(min(freq+1, maxFreq))
			if recent && experts[p.leader].kind == arc {
				n = n.withSegment(probation)
				p.learn(once)
			}
		}
		if n.segment() == window {
			p.ring.push(tag(hash))
		}
		p.watch(hash)
	}
	p.counts[n.segment()]++
	if t := p.total(); t > p.sized {
		p.resize(t + t/4)
	}
	return uint32(n)
}

// Hit tells that an item has been used, and returns its new note.
func (p *Policy) Hit(hash uint64, old uint32, now int64) uint32 {
	p.tick()
	p.times.note(p.clock, now)
	n := note(old)
	seg := n.segment()
	switch {
	case seg == none: // from a snapshot, or chosen by a Victim whose eviction never came
		seg = window
		p.counts[window]++
	case seg == probation:
		seg = protected
		p.counts[probation]--
		p.counts[protected]++
	case seg == window && !p.full: // there is room: it is as good as in the main part
		seg = protected
		p.counts[window]--
		p.counts[protected]++
	case seg == window && experts[p.leader].kind == arc:
		seg = probation
		p.counts[window]--
		p.counts[probation]++
	}
	freq := min(n.freq(p.clock, p.epoch)+1, maxFreq)
	if p.armed {
		p.watch(hash)
	}
	return uint32(makeNote(seg, freq, p.clock))
}

// Removed tells that an item is gone for another reason than Victim's: deleted, expired, flushed.
func (p *Policy) Removed(old uint32) {
	if seg := note(old).segment(); seg != none {
		p.counts[seg]--
	}
}

// learn is what ARC learns from the return of an evicted item, which was used once, or more often: that those of
// its kind deserve more room.
func (p *Policy) learn(once bool) {
	n := float32(p.total() + 1)
	if once {
		p.target = min(p.target+max(1, (1-p.once)/max(p.once, 1/n))/n, 1)
	} else {
		p.target = max(p.target-max(1, p.once/max(1-p.once, 1/n))/n, 0)
	}
}

// watch shows a request to the models, if its key is among those they see.
func (p *Policy) watch(hash uint64) {
	if t := tag(hash); p.shadow.sees(t) {
		p.shadow.request(t, p.clock, p.epoch, p.total())
		if l := uint8(p.shadow.leader); l != p.leader {
			p.leader, p.target = l, p.shadow.target
		}
	}
}

func (p *Policy) epochs() uint32 { return p.clock >> p.epoch }

func (p *Policy) draw() uint64 {
	p.pcg += 0x9e3779b97f4a7c15
	return mix(p.pcg)
}

// samples is how many items Victim looks at: small caches need an order that is nearly exact, and lie in the
// processor's cache.
func samples(n int) int {
	switch {
	case n <= 2048:
		return 64
	case n <= 16384:
		return 32
	}
	return 12
}

// Victim chooses the item to evict next. It is then out of the policy's books, its note says so, and it is not
// chosen again: evict it. If that comes to nothing, its next Hit takes it back. draw is a random number.
func (p *Policy) Victim(view Resident, draw uint64) (hash uint64, ok bool) {
	n := view.Len()
	if n == 0 {
		return 0, false
	}
	p.Arm(n)
	p.full = true
	p.pcg = draw
	for range samples(n) {
		if h, raw, ok := view.Sample(p.draw()); ok {
			switch nt := note(raw); {
			case nt == chosen:
			case nt.segment() == none: // nothing is known of it
				return p.choose(view, h, nt), true
			default:
				p.pools[nt.segment()].offer(h, nt, p.clock)
			}
		}
	}
	e := experts[p.leader]
	switch e.kind {
	case lru:
		if h, n, ok := p.oldest(view, window, probation, protected); ok {
			return p.choose(view, h, n), true
		}
	case arc:
		if p.counts[window] > int(p.target*float32(p.total())) {
			if h, n, ok := p.newcomer(view); ok {
				return p.choose(view, h, n), true
			}
		}
		if h, n, ok := p.oldest(view, probation, protected); ok {
			return p.choose(view, h, n), true
		}
	default:
		room := max(1, int(e.window*float32(p.total())))
		// A window that was left too large is the latest newcomers only; the others are of the main part, where they
		// move a few at a time.
		ordered := room < len(p.ring.tags)
		if over := p.counts[window] - room; over > room/4+1 {
			if ordered {
				p.ring.keep(room + 1)
			}
			for range min(over, 8) {
				h, n, ok := p.oldest(view, window)
				if !ok {
					break
				}
				p.move(view, h, n, probation)
			}
		}
		p.demote(view, room)
		v, vn, vok := p.coldest(view, room)
		if p.counts[window] > room || !vok {
			c, cn, ok := uint64(0), note(0), false
			if ordered {
				c, cn, ok = p.first(view)
			}
			if !ok {
				c, cn, ok = p.oldest(view, window)
			}
			if ok {
				if vok && beats(cn.freq(p.clock, p.epoch), vn.freq(p.clock, p.epoch)) {
					p.move(view, c, cn, probation)
				} else {
					return p.choose(view, c, cn), true
				}
			}
		}
		if vok {
			return p.choose(view, v, vn), true
		}
	}
	if h, n, ok := p.newcomer(view); ok {
		return p.choose(view, h, n), true
	}
	if h, n, ok := p.oldest(view, window, probation, protected); ok {
		return p.choose(view, h, n), true
	}
	for range 64 { // the books know of nothing: take what there is
		if h, raw, ok := view.Sample(p.draw()); ok && note(raw) != chosen {
			return p.choose(view, h, note(raw)), true
		}
	}
	return 0, false
}

// choose takes an item out of the books and leaves a ghost.
func (p *Policy) choose(view Resident, hash uint64, n note) uint64 {
	if seg := n.segment(); seg != none {
		p.counts[seg]--
		p.ghosts.add(hash, n.freq(p.clock, p.epoch), p.epochs())
		once := float32(0)
		if n.freq(p.clock, p.epoch) <= 1 {
			once = 1
		}
		p.once += (once - p.once) / float32(p.total()+1)
	}
	view.SetNote(hash, uint32(chosen))
	return hash
}

// move puts an item into another segment.
func (p *Policy) move(view Resident, hash uint64, n note, to segment) {
	p.counts[n.segment()]--
	p.counts[to]++
	n = n.withSegment(to)
	view.SetNote(hash, uint32(n))
	p.pools[to].offer(hash, n, p.clock)
}

// newcomer returns the item that has been in the window longest.
func (p *Policy) newcomer(view Resident) (uint64, note, bool) {
	if p.counts[window] > p.ring.len() || p.counts[window] > view.Len()/4 {
		if h, n, ok := p.oldest(view, window); ok {
			return h, n, true
		}
	}
	if h, n, ok := p.first(view); ok {
		return h, n, true
	}
	return p.oldest(view, window)
}

// first takes the first item of the window out of the ring.
func (p *Policy) first(view Resident) (uint64, note, bool) {
	for p.ring.len() > 0 {
		if h, raw, ok := view.Find(p.ring.pop()); ok && note(raw).segment() == window {
			return h, note(raw), true
		}
	}
	return 0, 0, false
}

// demote makes room among those that were used again: the oldest of them stand behind those of the main part that were used once,
// as if they had just come there.
func (p *Policy) demote(view Resident, room int) {
	for range 4 {
		if 5*p.counts[protected] <= 4*(p.total()-room) {
			return
		}
		h, n, ok := p.oldest(view, protected)
		if !ok {
			return
		}
		p.counts[protected]--
		p.counts[probation]++
		n = makeNote(probation, n.freq(p.clock, p.epoch), p.clock)
		view.SetNote(h, uint32(n))
	}
}

// coldest is what the main part of TinyLFU would lose: of the items used once since they came there, the oldest,
// or of the others if these have more than their share.
func (p *Policy) coldest(view Resident, room int) (uint64, note, bool) {
	first, second := probation, protected
	if 5*p.counts[protected] > 4*(p.total()-room) {
		first, second = second, first
	}
	if h, n, ok := p.oldest(view, first); ok {
		return h, n, ok
	}
	return p.oldest(view, second)
}

// oldest returns the item of some segments that was used longest ago, as far as draws have shown.
func (p *Policy) oldest(view Resident, segments ...segment) (uint64, note, bool) {
	for {
		var at *pool
		for _, s := range segments {
			if q := &p.pools[s]; q.n > 0 && (at == nil || q.age(p.clock) > at.age(p.clock)) {
				at = q
			}
		}
		if at == nil {
			return 0, 0, false
		}
		e := at.items[0]
		if h, raw, ok := view.Find(tag(e.hash)); ok && h == e.hash && note(raw) == e.note {
			return h, e.note, true
		}
		at.drop()
	}
}

// Bytes is how much memory the policy takes.
func (p *Policy) Bytes() int {
	n := int(unsafe.Sizeof(*p)) + cap(p.pools)*int(unsafe.Sizeof(pool{})) + p.ghosts.bytes() + p.ring.bytes() + p.times.bytes()
	if p.shadow != nil {
		n += p.shadow.bytes()
	}
	return n
}

// check returns the first broken invariant, given the notes of all items.
func (p *Policy) check(notes []uint32) error {
	var counts [4]int
	for _, n := range notes {
		if s := note(n).segment(); s != none {
			counts[s]++
		}
	}
	if counts != p.counts {
		return fmt.Errorf("P1: items by segment are %v, counted %v", counts, p.counts)
	}
	if p.ring.n > len(p.ring.tags) {
		return fmt.Errorf("P2: %d tags in a ring of %d", p.ring.n, len(p.ring.tags))
	}
	if p.shadow == nil {
		return nil
	}
	return p.shadow.check()
}
