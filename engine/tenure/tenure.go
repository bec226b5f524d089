// Package tenure says which slots of a cache a partition holds, and how a span of slots passes from one partition to another.
//
// A Tenure is a small state machine inside a partition's: entries of the log change it, so that all replicas agree. Two of
// them, the source's and the target's, and the driver that talks to both (package replication/move) make a movement:
//
//	target.Begin     → attempt n: what is staged from now on belongs to it, what came before counts no more
//	source.Offer(n)  → if an earlier attempt had frozen the span, it is thawed
//	                   … the data is copied while the source serves …
//	source.Freeze(n) → nobody serves the span
//	                   … what has changed since is copied …
//	target.Activate(n) → the target serves it: this is the moment at which the span has passed
//	source.Release   → the source forgets that it had it
//
// To give a movement up, the target is asked first (Cancel) and the source after (Withdraw), so that:
//
//	E1: a span is served by the source, or by nobody, or by the target, and never by two: a target activates an attempt only
//	    while it is its last, and a source thaws only for an attempt that the target has begun later, or after the target has
//	    sworn by Cancel that it will not
//	E2: what is staged is staged once and in order: parts are numbered, and one that comes again or late is passed over
//	E3: a movement that is over stays over: Epoch counts them, and an older one is refused, whoever asks and how late
//
// Neither clocks nor the control store have a say in it. Nothing here knows of keys or of data.
package tenure

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/larder-cache/larder/internal/keyslot"
)

// A Span is a run of slots. Both ends are in it.
type Span struct {
	From uint16 `json:"from"`
	To   uint16 `json:"to"`
}

// All is every slot.
var All = Span{0, keyslot.Count - 1}

// Has reports whether a slot is in the span.
func (s Span) Has(slot uint16) bool { return s.From <= slot && slot <= s.To }

func (s Span) valid() bool { return s.From <= s.To && s.To < keyslot.Count }

// Len is how many slots there are in it.
func (s Span) Len() int { return int(s.To) - int(s.From) + 1 }

func (s Span) String() string { return fmt.Sprintf("%d-%d", s.From, s.To) }

// A Tenure is what a partition holds of one cache.
//
//	N1: Owns ascends, and its spans neither overlap nor touch
//	N2: Move.Epoch > Epoch
//	N3: all of a span that goes out is owned, nothing of one that comes in is
type Tenure struct {
	Epoch uint64 // of the last movement that came to its end here
	Owns  []Span
	Move  *Move  // that is under way, nil for none
	Gone  []Gone // where spans went that were here, as far as that is remembered; none of them is owned
}

// A Gone span has passed to another partition, which may have it no more.
type Gone struct {
	Span Span
	To   uint16
}

// maxGone bounds what is remembered of spans that went.
const maxGone = 64

// A Move is a span on its way, as one side sees it.
type Move struct {
	Epoch   uint64
	Attempt uint64
	Span    Span
	Out     bool   // it goes; else it comes
	Other   uint16 // the partition at the other side
	Frozen  bool   // of one that goes: nobody is served
	Torn    bool   // of one that comes: some of what was staged is lost, so this attempt comes to nothing
	Parts   uint64 // of one that comes: how many parts of this attempt have been staged
}

// A Verdict is what came of a request.
type Verdict uint8

// The verdicts.
const (
	Done   Verdict = iota
	Passed         // the span has passed to the target already
	Over           // the movement, or this attempt at it, has ended, or was never begun here
)

func (v Verdict) String() string { return [...]string{"done", "passed", "over"}[v] }

// Whole is the tenure of a partition that has all of a cache.
func Whole() *Tenure { return &Tenure{Owns: []Span{All}} }

// Owner reports whether a slot is served here.
func (t *Tenure) Owner(slot uint16) bool {
	return t.Holds(slot) && (t.Move == nil || !t.Move.Frozen || !t.Move.Span.Has(slot))
}

// Holds reports whether a slot is owned here, be it served or frozen.
func (t *Tenure) Holds(slot uint16) bool {
	for i := range t.Owns {
		if slot <= t.Owns[i].To {
			return slot >= t.Owns[i].From
		}
	}
	return false
}

// Where is the partition that serves a slot which is not served here, or will in a moment, with the span that it has; known is
// false when nothing is remembered of it.
func (t *Tenure) Where(slot uint16) (s Span, to uint16, known bool) {
	if m := t.Move; m != nil && m.Span.Has(slot) {
		return m.Span, m.Other, true
	}
	for _, g := range t.Gone {
		if g.Span.Has(slot) {
			return g.Span, g.To, true
		}
	}
	return s, 0, false
}

// Differs compares what is owned with what somebody takes it to be, spans in order; with exactly nothing else may be owned either.
// s is the first run of slots that it is not so of, and here says that they are owned; ok is false when there are none.
func (t *Tenure) Differs(want []Span, exactly bool) (s Span, here, ok bool) {
	borders := []int{0, keyslot.Count}
	for _, list := range [...][]Span{t.Owns, want} {
		for _, s := range list {
			borders = append(borders, int(s.From), int(s.To)+1)
		}
	}
	slices.Sort(borders)
	for i := range len(borders) - 1 {
		slot := uint16(borders[i])
		if borders[i] == borders[i+1] {
			continue
		}
		wanted := slices.ContainsFunc(want, func(s Span) bool { return s.Has(slot) })
		if here = t.Holds(slot); here != wanted && (wanted || exactly) {
			return Span{slot, uint16(borders[i+1] - 1)}, here, true
		}
	}
	return s, false, false
}

// owns reports whether all of a span is owned.
func (t *Tenure) owns(s Span) bool {
	return slices.ContainsFunc(t.Owns, func(o Span) bool { return o.From <= s.From && s.To <= o.To })
}

// touches reports whether something of a span is owned.
func (t *Tenure) touches(s Span) bool {
	return slices.ContainsFunc(t.Owns, func(o Span) bool { return o.From <= s.To && s.From <= o.To })
}

// passed reports whether a movement into this partition came to its end, and the span is still here.
func (t *Tenure) passed(epoch uint64, s Span) bool { return t.Epoch >= epoch && t.owns(s) }

// Begin is the target's: what is staged from now on belongs to a new attempt, whose number is above floor and above those of all
// attempts before.
func (t *Tenure) Begin(epoch, floor uint64, s Span, from uint16) (attempt uint64, v Verdict) {
	switch {
	case t.passed(epoch, s):
		return 0, Passed
	case epoch <= t.Epoch, !s.valid(), t.touches(s), t.Move != nil && (t.Move.Epoch > epoch || t.Move.Out): // what went out before is not over
		return 0, Over
	}
	if t.Move != nil && t.Move.Epoch == epoch {
		floor = max(floor, t.Move.Attempt)
	}
	t.Move = &Move{Epoch: epoch, Attempt: floor + 1, Span: s, Other: from}
	return floor + 1, Done
}

// stages reports whether an attempt is under way here.
func (t *Tenure) stages(epoch, attempt uint64) bool {
	m := t.Move
	return m != nil && !m.Out && m.Epoch == epoch && m.Attempt == attempt && !m.Torn
}

// Stage is the target's: a part of an attempt has come, they are numbered from 1. Done says that it is to be staged, Passed
// that it has been.
func (t *Tenure) Stage(epoch, attempt, part uint64) Verdict {
	switch {
	case !t.stages(epoch, attempt), part > t.Move.Parts+1:
		return Over
	case part <= t.Move.Parts:
		return Passed
	}
	m := *t.Move
	m.Parts = part
	t.Move = &m
	return Done
}

// Tear notes that some of what was staged is gone.
func (t *Tenure) Tear() {
	if t.Move != nil && !t.Move.Out {
		m := *t.Move
		m.Torn = true
		t.Move = &m
	}
}

// Offer is the source's: an attempt begins, which the target has numbered. The span is served, whatever the attempts before
// have done.
func (t *Tenure) Offer(epoch, attempt uint64, s Span, to uint16) Verdict {
	m := t.Move
	switch {
	case epoch <= t.Epoch, !s.valid(), !t.owns(s), m != nil && (m.Epoch > epoch || m.Epoch == epoch && !m.Out || m.Epoch < epoch && m.Out):
		return Over
	case m != nil && m.Epoch == epoch && attempt <= m.Attempt:
		if attempt == m.Attempt && !m.Frozen { // asked twice
			return Done
		}
		return Over
	}
	t.Move = &Move{Epoch: epoch, Attempt: attempt, Span: s, Out: true, Other: to}
	return Done
}

// Freeze is the source's: the span is not served any more.
func (t *Tenure) Freeze(epoch, attempt uint64) Verdict {
	if m := t.Move; m == nil || !m.Out || m.Epoch != epoch || m.Attempt != attempt {
		return Over
	}
	m := *t.Move
	m.Frozen = true
	t.Move = &m
	return Done
}

// Activate is the target's: the span is served here from now on.
func (t *Tenure) Activate(epoch, attempt uint64, s Span) Verdict {
	switch {
	case t.passed(epoch, s):
		return Passed
	case !t.stages(epoch, attempt) || t.Move.Span != s:
		return Over
	}
	t.add(s)
	t.Epoch, t.Move = epoch, nil
	return Done
}

// Cancel is the target's: the movement will not come to its end any more, unless it has already.
func (t *Tenure) Cancel(epoch uint64, s Span) Verdict {
	if t.passed(epoch, s) {
		return Passed
	}
	if t.Move != nil && t.Move.Epoch <= epoch && !t.Move.Out {
		t.Move = nil
	}
	t.Epoch = max(t.Epoch, epoch)
	return Done
}

// Withdraw is the source's, after the target's Cancel: the span is served again, and the movement is over.
func (t *Tenure) Withdraw(epoch uint64) Verdict {
	if t.Move != nil && t.Move.Epoch <= epoch && t.Move.Out {
		t.Move = nil
	}
	t.Epoch = max(t.Epoch, epoch)
	return Done
}

// Release is the source's, after the target's Activate: the span is not here any more.
func (t *Tenure) Release(epoch uint64, s Span) Verdict {
	m := t.Move
	switch {
	case t.Epoch >= epoch && !t.touches(s): // asked twice
		return Done
	case m == nil || !m.Out || m.Epoch != epoch || !m.Frozen || m.Span != s:
		return Over
	}
	t.cut(s)
	t.Gone = append(t.goneBut(s), Gone{s, m.Other})
	t.Gone = t.Gone[max(len(t.Gone)-maxGone, 0):]
	t.Epoch, t.Move = epoch, nil
	return Done
}

// Thaw is the source's: an attempt that was frozen, and of which the target was never asked to activate it, goes on being copied.
func (t *Tenure) Thaw(epoch, attempt uint64) Verdict {
	if m := t.Move; m == nil || !m.Out || m.Epoch != epoch || m.Attempt != attempt {
		return Over
	}
	m := *t.Move
	m.Frozen = false
	t.Move = &m
	return Done
}

// goneBut is what is remembered of spans that went, but for the slots of one.
func (t *Tenure) goneBut(s Span) (left []Gone) {
	for _, g := range t.Gone {
		if g.Span.To < s.From || s.To < g.Span.From {
			left = append(left, g)
			continue
		}
		if g.Span.From < s.From {
			left = append(left, Gone{Span{g.Span.From, s.From - 1}, g.To})
		}
		if g.Span.To > s.To {
			left = append(left, Gone{Span{s.To + 1, g.Span.To}, g.To})
		}
	}
	return left[max(len(left)-maxGone, 0):]
}

// add puts a span in that is not there (N1).
func (t *Tenure) add(s Span) {
	t.Gone = t.goneBut(s)
	all := append(slices.Clone(t.Owns), s)
	slices.SortFunc(all, func(a, b Span) int { return int(a.From) - int(b.From) })
	out := all[:1]
	for _, s := range all[1:] {
		if last := &out[len(out)-1]; int(last.To)+1 >= int(s.From) {
			last.To = max(last.To, s.To)
		} else {
			out = append(out, s)
		}
	}
	t.Owns = out
}

// cut takes a span out.
func (t *Tenure) cut(s Span) {
	var out []Span
	for _, o := range t.Owns {
		if o.To < s.From || o.From > s.To {
			out = append(out, o)
			continue
		}
		if o.From < s.From {
			out = append(out, Span{o.From, s.From - 1})
		}
		if o.To > s.To {
			out = append(out, Span{s.To + 1, o.To})
		}
	}
	t.Owns = out
}

// Check returns the first broken invariant.
func (t *Tenure) Check() error {
	last := -2
	for _, s := range t.Owns {
		if !s.valid() || int(s.From) <= last+1 {
			return fmt.Errorf("N1: the spans %v", t.Owns)
		}
		last = int(s.To)
	}
	switch m := t.Move; {
	case m == nil:
	case m.Epoch <= t.Epoch:
		return fmt.Errorf("N2: movement %d is under way after %d", m.Epoch, t.Epoch)
	case !m.Span.valid() || m.Out && !t.owns(m.Span) || !m.Out && t.touches(m.Span):
		return fmt.Errorf("N3: %v moves (out: %v) where %v is owned", m.Span, m.Out, t.Owns)
	case m.Out && (m.Torn || m.Parts > 0) || !m.Out && m.Frozen:
		return errors.New("N3: a movement has what only the other side's can have")
	}
	return nil
}

// Append writes a tenure to dst, Read reads it.
func (t *Tenure) Append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, t.Epoch)
	dst = binary.AppendUvarint(dst, uint64(len(t.Owns)))
	for _, s := range t.Owns {
		dst = s.append(dst)
	}
	dst = binary.AppendUvarint(dst, uint64(len(t.Gone)))
	for _, g := range t.Gone {
		dst = binary.AppendUvarint(g.Span.append(dst), uint64(g.To))
	}
	m := t.Move
	if m == nil {
		return append(dst, 0)
	}
	flags := byte(1)
	for i, on := range [...]bool{m.Out, m.Frozen, m.Torn} {
		if on {
			flags |= 2 << i
		}
	}
	dst = m.Span.append(append(dst, flags))
	for _, n := range [...]uint64{m.Epoch, m.Attempt, m.Parts, uint64(m.Other)} {
		dst = binary.AppendUvarint(dst, n)
	}
	return dst
}

// AppendSpans writes spans, one at least, to dst, ReadSpans reads them and returns what stands behind them.
func AppendSpans(dst []byte, list []Span) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(list)))
	for _, s := range list {
		dst = s.append(dst)
	}
	return dst
}

// ReadSpans reads what AppendSpans wrote.
func ReadSpans(b []byte) (list []Span, rest []byte, err error) {
	r := reader{b: b}
	n := r.number()
	if n == 0 || n > uint64(len(r.b)/4) {
		return nil, nil, ErrFormat
	}
	for range n {
		s := r.span()
		if !s.valid() {
			return nil, nil, ErrFormat
		}
		list = append(list, s)
	}
	if r.bad {
		return nil, nil, ErrFormat
	}
	return list, r.b, nil
}

func (s Span) append(dst []byte) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(dst, s.From), s.To)
}

// ErrFormat says that bytes are no tenure.
var ErrFormat = errors.New("tenure: malformed")

// Read reads what Append wrote, all of b, and checks it.
func Read(b []byte) (*Tenure, error) {
	r := reader{b: b}
	t := &Tenure{Epoch: r.number()}
	n := r.number()
	if n > uint64(len(r.b)/4) {
		return nil, ErrFormat
	}
	for range n {
		t.Owns = append(t.Owns, r.span())
	}
	if n = r.number(); n > maxGone {
		return nil, ErrFormat
	}
	for range n {
		g := Gone{Span: r.span()}
		to := r.number()
		if g.To = uint16(to); to > 1<<16-1 || !g.Span.valid() || t.touches(g.Span) {
			return nil, ErrFormat
		}
		t.Gone = append(t.Gone, g)
	}
	if flags := r.byte(); flags != 0 {
		m := &Move{Out: flags&2 != 0, Frozen: flags&4 != 0, Torn: flags&8 != 0}
		m.Span, m.Epoch, m.Attempt, m.Parts = r.span(), r.number(), r.number(), r.number()
		other := r.number()
		m.Other = uint16(other)
		if t.Move = m; flags > 15 || flags&1 == 0 || other > 1<<16-1 {
			return nil, ErrFormat
		}
	}
	if r.bad || len(r.b) > 0 || t.Check() != nil {
		return nil, ErrFormat
	}
	return t, nil
}

type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number() uint64 {
	n, width := binary.Uvarint(r.b)
	if width <= 0 {
		r.b, r.bad = nil, true
		return 0
	}
	r.b = r.b[width:]
	return n
}

func (r *reader) byte() byte {
	if len(r.b) == 0 {
		r.bad = true
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) span() (s Span) {
	if len(r.b) < 4 {
		r.b, r.bad = nil, true
		return s
	}
	s = Span{binary.BigEndian.Uint16(r.b), binary.BigEndian.Uint16(r.b[2:])}
	r.b = r.b[4:]
	return s
}
