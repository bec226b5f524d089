package eviction

import (
	"fmt"
	"unsafe"
)

// A shadow runs a small model of each expert on the keys that it sees, one in 1<<rate. All models share one table:
// a node is a key with the time of its last use, its frequency, and where it stands with each expert.
//
//	S1: used is the number of nodes, and each is found from its own place on without a gap
//	S2: counts holds, for each expert and standing, how many nodes stand so
type shadow struct {
	nodes  []node
	used   int
	rate   uint8
	size   int // keys that a model holds
	counts [len(experts)][8]int32
	ahead  [len(experts)]float32 // by how many hits an expert has lately been ahead of the leader
	leader int
	target float32 // the share that ARC wants for items used once
	arcP   float32 // the same in keys
	pcg    uint64
}

type node struct {
	tag   uint32
	stamp uint32 // 0: no node
	state uint32 // 3 bits of standing for each expert; the upper 4 bits are the frequency
}

// standings beyond the segments that residents stand in
const (
	ghostOnce  = 4 // with ARC: evicted from those used once
	ghostOften = 5
)

type kind uint8

const (
	lru kind = iota
	arc
	tinyLFU
)

// experts are those who compete. A window is a share of the cache.
var experts = [...]struct {
	kind   kind
	window float32
}{
	{tinyLFU, 0.02},
	{tinyLFU, 0.15},
	{tinyLFU, 0.50},
	{arc, 0},
	{lru, 0},
}

const firstLeader = 0

// The sizes of the models were chosen for what they cost; the rest on the traces of docs/decisions/0012.
const (
	minShadow  = 128  // keys in a model, if the cache has as many items; with half of them chance made leaders
	maxShadow  = 512  // at most
	shadowPart = 8    // a model is this part of the cache, in between
	nodesFor   = 4    // nodes for each key in a model
	scanAtMost = 512  // nodes looked at to find a victim
	minRoom    = 2    // keys in a model's window, or its one place would decide too much
	minLead    = 32   // hits by which an expert must be ahead to become the leader; in a large model about half as many as it
	leadPart   = 2    // holds keys, because until the real cache holds what the new leader would, it pays for the change
	tax        = 0.06 // what it loses for each request on which it and the leader differ
)

func (s *shadow) bytes() int {
	return int(unsafe.Sizeof(*s)) + cap(s.nodes)*int(unsafe.Sizeof(node{}))
}

// sees reports whether a key is among the sample.
func (s *shadow) sees(tag uint32) bool { return mix32(tag)&(1<<s.rate-1) == 0 }

// resize fits the models to a cache of n items.
func (s *shadow) resize(n int) {
	want := min(max(n/shadowPart, minShadow), maxShadow)
	rate := s.rate
	for n>>rate > want*3/2 {
		rate++
	}
	nodes := max(32, (n>>rate)*nodesFor*5/4)
	if rate == s.rate && nodes <= len(s.nodes) {
		return
	}
	old := s.nodes
	s.rate, s.size, s.used, s.nodes = rate, max(4, n>>rate), 0, make([]node, nodes)
	s.arcP = s.target * float32(s.size)
	clear(s.counts[:])
	for _, x := range old {
		if x.stamp != 0 && s.sees(x.tag) && s.used < nodes*4/5 {
			s.nodes[s.find(x.tag)] = x
			s.used++
			for e := range experts {
				s.counts[e][standing(x.state, e)]++
			}
		}
	}
}

func (s *shadow) home(tag uint32) int { return int(uint64(mix32(tag)) * uint64(len(s.nodes)) >> 32) }

func mix32(x uint32) uint32 {
	x = (x ^ x>>16) * 0x7feb352d
	x = (x ^ x>>15) * 0x846ca68b
	return x ^ x>>16
}

// find returns the place of a tag, or the empty one where it would be.
func (s *shadow) find(tag uint32) int {
	i := s.home(tag)
	for s.nodes[i].stamp != 0 && s.nodes[i].tag != tag {
		if i++; i == len(s.nodes) {
			i = 0
		}
	}
	return i
}

// drop removes a node and closes the gap.
func (s *shadow) drop(i int) {
	for e := range experts {
		s.counts[e][standing(s.nodes[i].state, e)]--
	}
	s.used--
	n := len(s.nodes)
	for j := i; ; {
		if j++; j == n {
			j = 0
		}
		if s.nodes[j].stamp == 0 {
			break
		}
		h := s.home(s.nodes[j].tag)
		if (j-h+n)%n >= (j-i+n)%n { // it may stand at i
			s.nodes[i] = s.nodes[j]
			i = j
		}
	}
	s.nodes[i] = node{}
}

func standing(state uint32, e int) uint32 { return state >> (3 * e) & 7 }

func (s *shadow) set(i, e int, to uint32) {
	n := &s.nodes[i]
	s.counts[e][standing(n.state, e)]--
	s.counts[e][to]++
	n.state = n.state&^(7<<(3*e)) | to<<(3*e)
}

// everywhere has the lowest bit of each expert's standing.
const everywhere = 1 | 1<<3 | 1<<6 | 1<<9 | 1<<12 | 1<<15 | 1<<18 | 1<<21 | 1<<24

// held reports whether any expert holds the key.
func held(state uint32) bool {
	ghost := state >> 2 & everywhere
	return (state|state>>1)&everywhere&^ghost&(1<<(3*len(experts))-1) != 0
}

// scan returns the place of the oldest node that stands so with an expert, -1 if none. In a large table it looks at
// a part only, which is a sample, because places are by hash.
func (s *shadow) scan(e int, standing uint32, clock uint32) int {
	at, oldest := -1, uint32(0)
	shift, first, left := 3*e, 0, len(s.nodes)
	if left > scanAtMost {
		s.pcg += 0x9e3779b97f4a7c15
		first = int(mix(s.pcg) % uint64(left))
	}
	for left > 0 {
		part := s.nodes[first:min(len(s.nodes), first+min(left, scanAtMost))]
		for i := range part {
			if x := &part[i]; x.state>>shift&7 == standing {
				if a := age(x.stamp, clock) + 1; a > oldest {
					at, oldest = first+i, a
				}
			}
		}
		left -= len(part)
		if at >= 0 && len(s.nodes) > scanAtMost && len(s.nodes)-left >= scanAtMost {
			break
		}
		if first += len(part); first == len(s.nodes) {
			first = 0
		}
	}
	return at
}

// spare returns the place of the oldest node that no expert holds, or of the oldest of all.
func (s *shadow) spare(clock uint32) int {
	at, oldest, heldAt, heldOldest := -1, uint32(0), -1, uint32(0)
	n := len(s.nodes)
	i := 0
	if n > scanAtMost {
		s.pcg += 0x9e3779b97f4a7c15
		i = int(mix(s.pcg) % uint64(n))
	}
	for looked := 0; looked < n && (looked < scanAtMost || at < 0); looked++ {
		if x := &s.nodes[i]; x.stamp != 0 {
			a := age(x.stamp, clock) + 1
			if !held(x.state) {
				if a > oldest {
					at, oldest = i, a
				}
			} else if a > heldOldest {
				heldAt, heldOldest = i, a
			}
		}
		if i++; i == n {
			i = 0
		}
	}
	if at < 0 {
		return heldAt
	}
	return at
}

// request shows the models a key.
func (s *shadow) request(tag, clock uint32, epoch uint8, items int) {
	s.size = max(4, items>>s.rate)
	at := s.find(tag)
	n := &s.nodes[at]
	freq := uint32(0)
	if n.stamp != 0 {
		freq = aged(n.state>>28, n.stamp, clock, epoch)
	} else {
		if s.used >= len(s.nodes)*4/5 {
			s.drop(s.spare(clock))
			at = s.find(tag)
			n = &s.nodes[at]
		}
		n.tag = tag
		n.state = 0
		s.used++
		for e := range experts {
			s.counts[e][0]++
		}
	}
	n.stamp = clock
	n.state = n.state&(1<<28-1) | min(freq+1, maxFreq)<<28
	led := resident(standing(n.state, s.leader))
	for e := range experts {
		st := standing(n.state, e)
		if hit := resident(st); hit != led {
			if hit {
				s.ahead[e] += 1 - tax
			} else {
				s.ahead[e] = max(s.ahead[e]-1-tax, 0)
			}
		}
		switch experts[e].kind {
		case lru:
			if st == 0 {
				s.set(at, e, uint32(window))
				for int(s.counts[e][window]) > s.size {
					s.set(s.scan(e, uint32(window), clock), e, 0)
				}
			}
		case arc:
			s.arc(at, e, st, clock)
		default:
			s.tinyLFU(at, e, st, clock, epoch)
		}
	}
	best, lead := s.leader, float32(max(minLead, s.size/leadPart-minLead))
	for e := range experts {
		if s.ahead[e] > lead && (best == s.leader || s.ahead[e] > s.ahead[best]) {
			best = e
		}
	}
	if best != s.leader {
		s.leader = best
		clear(s.ahead[:])
	}
}

// resident reports whether a key that stands so is held.
func resident(standing uint32) bool { return standing != 0 && standing < ghostOnce }

func (s *shadow) arc(at, e int, st uint32, clock uint32) {
	c := &s.counts[e]
	size := float32(s.size)
	switch st {
	case uint32(window):
		s.set(at, e, uint32(probation))
		return
	case uint32(probation):
		return
	case ghostOnce:
		s.arcP = min(s.arcP+max(float32(c[ghostOften])/float32(c[ghostOnce]), 1), size)
	case ghostOften:
		s.arcP = max(s.arcP-max(float32(c[ghostOnce])/float32(c[ghostOften]), 1), 0)
	}
	s.target = s.arcP / size
	for int(c[window]+c[probation]) >= s.size {
		once := float32(c[window])
		if c[window] > 0 && (once > s.arcP || st == ghostOften && once == s.arcP) || c[probation] == 0 {
			s.set(s.scan(e, uint32(window), clock), e, ghostOnce)
		} else {
			s.set(s.scan(e, uint32(probation), clock), e, ghostOften)
		}
	}
	if st == 0 {
		s.set(at, e, uint32(window))
	} else {
		s.set(at, e, uint32(probation))
	}
	for int(c[window]+c[ghostOnce]) > s.size && c[ghostOnce] > 0 {
		s.set(s.scan(e, ghostOnce, clock), e, 0)
	}
	for int(c[window]+c[ghostOnce]+c[probation]+c[ghostOften]) > 2*s.size && c[ghostOften] > 0 {
		s.set(s.scan(e, ghostOften, clock), e, 0)
	}
}

func (s *shadow) tinyLFU(at, e int, st uint32, clock uint32, epoch uint8) {
	c := &s.counts[e]
	switch segment(st) {
	case window, protected:
		return
	case probation:
		s.set(at, e, uint32(protected))
		return
	}
	room := max(minRoom, int32(experts[e].window*float32(s.size)))
	for int(c[window]+c[probation]+c[protected]) >= s.size {
		v := -1
		if 5*c[protected] <= 4*(int32(s.size)-room) {
			v = s.scan(e, uint32(probation), clock)
		}
		if v < 0 {
			v = s.scan(e, uint32(protected), clock)
		}
		if v < 0 {
			v = s.scan(e, uint32(probation), clock)
		}
		if c[window] >= room || v < 0 {
			w := s.scan(e, uint32(window), clock)
			if w >= 0 && (v < 0 || !beats(s.freq(w, clock, epoch), s.freq(v, clock, epoch))) {
				v = w
			} else if w >= 0 {
				s.set(w, e, uint32(probation))
			}
		}
		s.set(v, e, 0)
	}
	for c[window] >= room {
		s.set(s.scan(e, uint32(window), clock), e, uint32(probation))
	}
	s.set(at, e, uint32(window))
}

func (s *shadow) freq(i int, clock uint32, epoch uint8) uint32 {
	return aged(s.nodes[i].state>>28, s.nodes[i].stamp, clock, epoch)
}

// check returns the first broken invariant.
func (s *shadow) check() error {
	used := 0
	var counts [len(experts)][8]int32
	for i, n := range s.nodes {
		if n.stamp == 0 {
			continue
		}
		used++
		if s.find(n.tag) != i {
			return fmt.Errorf("S1: node %d is not found", i)
		}
		for e := range experts {
			counts[e][standing(n.state, e)]++
		}
	}
	if used != s.used {
		return fmt.Errorf("S1: %d nodes, counted %d", used, s.used)
	}
	if counts != s.counts {
		return fmt.Errorf("S2: standings are %v, counted %v", counts, s.counts)
	}
	return nil
}
