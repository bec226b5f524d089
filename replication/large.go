package replication

import (
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// How a task comes through the log that is too large for one entry.
//
// Its leader cuts it into parts, each an entry of its own, and has entries of others go in between: so no message gets long,
// nobody's write waits behind a value of hundreds of megabytes, and the log is cut behind the parts as behind everything
// else. Every replica gathers the parts. An entry behind them, an ordinary one, says that the task which they make is to be
// carried out: before that nothing has happened, and who gives the task up before knows that.
//
//	K1: one task is gathered at a time, by one leader in one term: an entry of a later term ends it, and a part at 0 begins
//	    another, or none when it has no bytes
//	K2: the parts come in order and without a gap: other parts no leader has written
//	K3: what is gathered goes with a snapshot, and is at most maxTask bytes
//	K4: a part is copied out of its caller's memory while the caller waits (R3)

// Format numbers the forms that entries can have, each of which includes those before. A leader uses what every node of the
// cluster reads, so that nodes of two versions can serve side by side, and an upgrade be taken back.
const (
	FormatTasks   = iota // tasks, each whole
	FormatParts          // and tasks in parts, and what slots a task has to find here
	FormatDurable        // no other entries, but its nodes have durable partitions
	FormatAsync          // no other entries, but its nodes have async partitions

	Format = FormatAsync
)

// entryPart in the place of entryVersion begins a part: offset and size of the task (uvarints), and bytes of it.
const entryPart = 2

// Bounds of a task.
const (
	maxTask     = engine.HardMaxValue + 1<<20    // bytes: the longest value that there may be, and what is said of it
	maxTaskOld  = engine.DefaultMaxValue + 1<<20 // the same where a node reads FormatTasks only
	maxWhole    = 1 << 20                        // bytes of one that is one entry
	partBytes   = 192 << 10                      // of one that is not, in an entry
	partsFlying = 8                              // entries with parts under way, beside the others
	leastApart  = 4 << 10                        // bytes of an argument that is not copied before its part is made
)

// format is what leaders here may write.
func (c *Cluster) format() int {
	if c.cfg.Format == nil {
		return Format
	}
	return min(c.cfg.Format(), Format)
}

// A segmented task is one in bytes, as the log has it, that are not in one place: long arguments stay where its caller has
// them.
type segmented struct {
	segments [][]byte
	size     int
	at, from int // how far it has been read: segments[at][from:] comes next
}

// segment encodes a task.
func segment(t *engine.Task) *segmented {
	s := &segmented{}
	b := appendTaskHead(nil, t)
	for i := range t.Calls {
		b = appendCallHead(b, &t.Calls[i])
		for _, a := range t.Calls[i].Args {
			if len(a) < leastApart {
				b = appendText(b, a)
				continue
			}
			s.add(binary.AppendUvarint(b, uint64(len(a))))
			s.add(a)
			b = nil
		}
	}
	s.add(b)
	return s
}

func (s *segmented) add(b []byte) {
	s.segments = append(s.segments, b)
	s.size += len(b)
}

// read appends the next n bytes, and returns the rest beside them.
func (s segmented) read(dst []byte, n int) ([]byte, segmented) {
	for n > 0 {
		some := s.segments[s.at][s.from:]
		if len(some) > n {
			s.from += n
			return append(dst, some[:n]...), s
		}
		dst, n = append(dst, some...), n-len(some)
		s.at, s.from = s.at+1, 0
	}
	return dst, s
}

// sizeOf is about how many bytes calls take in the log.
func sizeOf(calls []engine.Call) (n int) {
	for i := range calls {
		n += callSize(&calls[i])
	}
	return n
}

func callSize(c *engine.Call) (n int) {
	for _, a := range c.Args {
		n += len(a) + binary.MaxVarintLen32
	}
	return n
}

// A sending is the large task that a leader sends in parts.
type sending struct {
	p    *proposal
	rest segmented
	sent int           // bytes
	at   time.Duration // when it got on last
}

// enqueue puts a proposal in line. The caller holds the lock.
func (g *Group) enqueue(p *proposal) {
	if p.large != nil {
		g.larges = append(g.larges, p)
		return
	}
	g.queue = append(g.queue, p)
}

// formPart proposes the next part of the large task whose turn it is, and reports whether it did. Behind the last one the task
// goes to the front of the line.
func (g *Group) formPart() bool {
	g.nextLarge()
	s := g.sending
	if s == nil && !g.litter || g.flying(true) >= partsFlying {
		return false
	}
	b := append(g.entry[:0], entryPart)
	if s == nil { // those who have gathered something let go of it
		b = append(b, 0, 0)
		g.litter = g.proposePart(b) != nil
		return !g.litter
	}
	n := min(g.c.cfg.part, s.p.large.size-s.sent)
	if n == 0 {
		return false // its entry comes next
	}
	b = slices.Grow(b, n+2*binary.MaxVarintLen32)
	b = binary.AppendUvarint(b, uint64(s.sent))
	b = binary.AppendUvarint(b, uint64(s.p.large.size))
	b, rest := s.rest.read(b, n)
	if g.proposePart(b) != nil {
		return false
	}
	s.rest, g.litter = rest, false
	if s.sent += n; s.sent == s.p.large.size {
		s.p.at = g.c.cfg.Steady()
		g.queue = slices.Insert(g.queue, 0, s.p)
	}
	return true
}

// nextLarge ends a sending whose caller has given up, and begins another.
func (g *Group) nextLarge() {
	if s := g.sending; s != nil && s.p.task == nil {
		g.finish(s.p, nil)
	}
	for g.sending == nil && len(g.larges) > 0 {
		p := g.larges[0]
		if g.larges = g.larges[1:]; p.over || p.task == nil {
			g.finish(p, nil)
			continue
		}
		g.sending = &sending{p: p, rest: *p.large, at: g.c.cfg.Steady()}
	}
}

func (g *Group) proposePart(b []byte) error {
	err := g.rn.Propose(b)
	if err == nil {
		g.proposed = append(g.proposed, &flight{part: true, at: g.c.cfg.Steady()})
		g.members.awake(g)
	}
	if cap(b) <= 4*maxJoined {
		g.entry = b
	}
	return err
}

// flying counts the entries under way, those with parts or the others.
func (g *Group) flying(parts bool) (n int) {
	for _, list := range [...][]*flight{g.flights, g.proposed} {
		for _, f := range list {
			if f.part == parts {
				n++
			}
		}
	}
	return n
}

// expireLarges answers those with large tasks who have waited for too long without getting on.
func (g *Group) expireLarges(before time.Duration) {
	if s := g.sending; s != nil {
		if s.at < before && s.sent < s.p.large.size {
			g.finish(s.p, errSlow)
		}
		return // the others wait for it
	}
	for len(g.larges) > 0 && g.larges[0].at < before {
		g.finish(g.larges[0], errSlow)
		g.larges = g.larges[1:]
	}
}

// refuseLarges answers those whose large tasks have not been proposed as a whole.
func (g *Group) refuseLarges(err error) {
	for _, p := range g.larges {
		g.finish(p, err)
	}
	if g.sending != nil {
		g.finish(g.sending.p, err)
	}
	g.larges, g.litter = nil, false // the next term ends what was gathered
}

// A gathering is what a replica has of a task that comes in parts.
type gathering struct {
	term uint64
	size int // of the whole task; 0 for no task
	b    []byte
}

// whole is the task once it is complete, nil before.
func (t *gathering) whole() []byte {
	if t.size == 0 || len(t.b) < t.size {
		return nil
	}
	return t.b
}

// until ends what was gathered in a term before (K1).
func (t *gathering) until(term uint64) {
	if t.size > 0 && t.term < term {
		*t = gathering{}
	}
}

// take takes a part out of an entry.
func (t *gathering) take(term uint64, entry []byte) {
	r := &reader{b: entry[1:]}
	at, size := r.uvarint(), r.uvarint()
	if at == 0 {
		*t = gathering{term: term, size: int(min(size, maxTask+1))}
	}
	if r.bad || size > maxTask || int(size) != t.size || int(at) != len(t.b) || len(r.b) > t.size-len(t.b) {
		panic(errEntry) // K2
	}
	if t.b == nil && size > 0 {
		t.b = make([]byte, 0, size) // the system gives the memory when it is written to
	}
	t.b = append(t.b, r.b...)
}

// gather takes a part of a large task.
func (g *Group) gather(term uint64, entry []byte, f *flight) {
	g.gathering.take(term, entry)
	if f != nil && g.sending != nil {
		g.sending.at = g.c.cfg.Steady()
	}
}

// A bulk is how many bytes of large tasks wait for their turn.
type bulk struct{ atomic.Int64 }

// add counts a task, or says that there is no room for it: one may wait whatever its size, more up to maxTask.
func (b *bulk) add(n int64) bool {
	if sum := b.Add(n); sum > maxTask && sum != n {
		b.Add(-n)
		return false
	}
	return true
}

// tooLarge refuses what is beyond what a log takes.
func tooLarge(t *engine.Task, size, limit int) error {
	argument := "value"
	if len(t.Calls) > 1 {
		argument = "commands"
	}
	return fault.About(fault.TooLarge, "replication.execute", argument, "max request size exceeded for a replicated cache. Limit: %d bytes, Actual: %d bytes", limit, size)
}
