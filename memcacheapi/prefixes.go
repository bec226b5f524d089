package memcacheapi

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
)

// prefixes count what clients do, by what stands before the first colon of a key: stats detail. There is one
// from when a cache's clients have turned that on.
type prefixes struct {
	mu    sync.Mutex
	seen  map[string]*prefix
	ended bool // turned off: the numbers stay as they are
}

type prefix struct{ gets, hits, sets, deletes int64 }

// Bounds of what is counted by prefix, since clients choose them: how many there are, and how long.
const (
	maxPrefixes  = 1000
	maxPrefixLen = 250
)

// count has a prefix's numbers changed. Keys without a colon have none, and new prefixes beyond the bound are passed over.
func (d *prefixes) count(key []byte, change func(*prefix)) {
	end := bytes.IndexByte(key, ':')
	if end < 0 || end > maxPrefixLen {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return
	}
	p := d.seen[string(key[:end])]
	if p == nil {
		if len(d.seen) >= maxPrefixes {
			return
		}
		p = &prefix{}
		d.seen[string(key[:end])] = p
	}
	change(p)
}

// end says whether counting is over.
func (d *prefixes) end(ended bool) {
	if d != nil {
		d.mu.Lock()
		d.ended = ended
		d.mu.Unlock()
	}
}

// dump tells the numbers, a line for each prefix.
func (d *prefixes) dump() (lines []string) {
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for name, p := range d.seen {
		lines = append(lines, fmt.Sprintf("PREFIX %s get %d hit %d set %d del %d", name, p.gets, p.hits, p.sets, p.deletes))
	}
	slices.Sort(lines)
	return lines
}

// noteDetail counts an answer by its key's prefix.
func (o *replies) noteDetail(p *pending, status string) {
	hit := status == ""
	got := func(n *prefix) {
		n.gets++
		if hit {
			n.hits++
		}
	}
	switch {
	case p.render == renderGet:
		o.detail.count(p.key, got)
	case p.render == renderStore:
		o.detail.count(p.key, func(n *prefix) { n.sets++ })
	case p.render == renderDelete:
		o.detail.count(p.key, func(n *prefix) { n.deletes++ })
	case p.render != renderBinary:
	case p.op == opGet, p.op == opGetK, p.op == opTouch, p.op == opGAT, p.op == opGATK:
		o.detail.count(p.key, got)
	case p.op == opSet, p.op == opAdd, p.op == opReplace, p.op == opAppend, p.op == opPrepend:
		o.detail.count(p.key, func(n *prefix) { n.sets++ })
	case p.op == opDelete:
		o.detail.count(p.key, func(n *prefix) { n.deletes++ })
	}
}

// detail turns counting by prefix on or off, or tells the numbers. It reports whether it knew what to do.
func (s *Session) detail(what string) (lines []string, ok bool) {
	switch what {
	case "on":
		s.state.detail.CompareAndSwap(nil, &prefixes{seen: map[string]*prefix{}})
		s.state.detail.Load().end(false)
	case "off":
		s.state.detail.Load().end(true)
	case "dump":
		lines = s.state.detail.Load().dump()
	default:
		return nil, false
	}
	s.out.detail = s.state.detail.Load()
	return lines, true
}
