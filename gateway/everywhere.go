package gateway

import (
	"context"
	"slices"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/tenure"
)

// What concerns all slots (V4).
//
// A gateway hears of a movement a little after it has happened, or, when etcd is away, long after. Keys lead it to where they are,
// because a partition refuses those that it does not serve. A command without keys says instead which slots it takes a partition to
// have; one that has others refuses it as well, and says which. Then it is taken up again with what is known by then: a command
// that only reads from the beginning, and one that writes where it has not been done for these slots.

// allSlots are those of a cache with one range.
var allSlots = []tenure.Span{tenure.All}

// concernsAll reports whether one of some calls concerns all slots.
func concernsAll(calls []engine.Call) bool {
	for i := range calls {
		if c := calls[i].Command; (c.Spread != engine.One || c.Subspreads != nil) && c.SpreadOf(calls[i].Args).Everywhere() {
			return true
		}
	}
	return false
}

// swap is what must not be done twice: where a part of it is done and slots move then, nobody can put that right.
var swap = engine.MustLookup("SWAPDB")

// everywhere carries out the first of calls, which concerns all slots. An error says that nothing was done, or that nobody knows.
func (g *Gateway) everywhere(ctx context.Context, r *Request, rt *route, calls []engine.Call, now time.Time) (err error) {
	if calls[0].Command == swap {
		if rt, err = g.agree(ctx, r, rt, now); err != nil {
			return err
		}
	}
	d, err := g.round(ctx, r, rt, calls, now, nil)
	defer func() { d.releaseAll() }()
	for moved := d.moved(); moved != nil; moved = d.moved() {
		if calls[0].Command == swap && d.someDone() {
			break
		}
		rt, failed := g.follow(ctx, d.rt, moved)
		if failed != nil {
			err = failed
			break
		}
		before := d
		if calls[0].Command.Flags&engine.Writes == 0 {
			d.releaseAll()
			before = nil
		}
		d, err = g.round(ctx, r, rt, calls, now, before)
	}
	if err != nil && !d.someDone() {
		return err
	}
	d.answer(&d.portions[0], r.Reply)
	return nil
}

// agree is the route on which every partition has the slots that it is taken to have.
func (g *Gateway) agree(ctx context.Context, r *Request, rt *route, now time.Time) (*route, error) {
	for {
		d, err := g.round(ctx, r, rt, []engine.Call{sizeCall}, now, nil)
		moved := d.moved()
		d.releaseAll()
		if moved == nil {
			return rt, err
		}
		if rt, err = g.follow(ctx, rt, moved); err != nil {
			return nil, err
		}
	}
}

// round carries out the first of calls at all homes of a route, but for those where a round before has done it.
func (g *Gateway) round(ctx context.Context, r *Request, rt *route, calls []engine.Call, now time.Time, before *division) (*division, error) {
	if len(rt.homes) == 0 {
		g.settle(rt)
	}
	d := divisions.Get().(*division)
	d.g, d.r, d.rt, d.now, d.before = g, r, rt, now, before
	d.plan(calls[:1], 1)
	d.spare()
	return d, d.carryOut(ctx)
}

// spare takes over what the round before has done, where it holds: scripts and functions are the partition's whatever slots it has.
func (d *division) spare() {
	if d.before == nil {
		return
	}
	d.times = d.before.times + 1
	for i := range d.pieces {
		p := &d.pieces[i]
		at := d.rt.homes[p.home]
		for j := range d.before.pieces {
			done := &d.before.pieces[j]
			was := d.before.rt.homes[done.home]
			if was.id == at.id && done.err == nil && (p.call.Command.Group == engine.GroupScripting || slices.Equal(was.spans, at.spans)) {
				p.done, p.reply = true, done.reply
			}
		}
	}
}

// nthTime is the idempotency key of a round: a partition that is asked again, for other slots, is to do it.
func (d *division) nthTime(once *engine.Once) *engine.Once {
	if once == nil || d.times == 0 {
		return once
	}
	other := *once
	other.Key[2] ^= byte(d.times)
	return &other
}

// moved is what a partition said that did not begin because it has other slots than it was taken to have; nil for none, or when
// something else failed as well.
func (d *division) moved() (first *engine.Moved) {
	for i := range d.pieces {
		p := &d.pieces[i]
		if p.err == nil {
			continue
		}
		m := movedBy(p.err)
		if m == nil {
			return nil
		}
		if first == nil {
			first = m.From(uint16(d.rt.homes[p.home].id))
		}
	}
	return first
}

// someDone reports whether a partition has carried its piece out.
func (d *division) someDone() bool {
	return slices.ContainsFunc(d.pieces, func(p piece) bool { return p.done && p.err == nil })
}

// releaseAll gives back a division and those of the rounds before it.
func (d *division) releaseAll() {
	for d != nil {
		before := d.before
		d.release()
		d = before
	}
}
