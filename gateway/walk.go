package gateway

import (
	"context"
	"slices"
	"strconv"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/placement"
)

// A cursor of SCAN and its like over a cache with several slot ranges says how far a scan has come: all slots before slot, and
// of the range that slot is in the places before place. It has 53 bits, so that it is exact in a float64:
//
//	mark (12 bits), slot (14), place (27)
//
// The mark tells the range that place was meant for: where its keys lie and where it ends. When it was moved, cut or
// joined with another meanwhile, place means nothing any more, and the scan begins again at slot, so that a key which is there
// all the time is found whatever happens to the ranges. Marks of different ranges differ where there are at most 16 partitions
// and ranges end at multiples of 64 slots, and in all but one of thousands of cases elsewhere.
type scanCursor struct {
	slot  uint16
	place uint64
	mark  uint64
}

const (
	placeBits = 27
	slotBits  = 14
	markBits  = 12
)

// markOf tells a range from what it was and will be. It is never 0, which is the mark of a cursor from the time when the cache
// had one range.
func markOf(r placement.Range) uint64 {
	end, at := uint64(r.To), uint64(r.Partition)
	mark := end>>6<<4 | at&15
	mark ^= ((^end&63)*0x4d3 ^ at>>4*0x95d) & (1<<markBits - 1) // 0 for those that differ anyway
	if mark == 0 {
		return 1<<markBits - 1
	}
	return mark
}

func (c scanCursor) number() uint64 {
	if c.place == 0 {
		c.mark = 0
	}
	return c.mark<<(slotBits+placeBits) | uint64(c.slot)<<placeBits | c.place
}

// readCursor reads a cursor; ok is false for what is none.
func readCursor(b []byte) (c scanCursor, ok bool) {
	n, err := strconv.ParseUint(string(b), 10, 64)
	c.place = n & (1<<placeBits - 1)
	c.slot = uint16(n >> placeBits & (1<<slotBits - 1))
	c.mark = n >> (slotBits + placeBits) & (1<<markBits - 1)
	return c, err == nil
}

// walk carries out one step of a scan. It goes on in the next range when one is done and more keys are wanted.
func (g *Gateway) walk(ctx context.Context, r *Request, rt *route, call *engine.Call) error {
	cmd := call.Command
	at, ok := readCursor(call.Args[1])
	if !ok { // the engine says what is wrong
		at = scanCursor{}
	}
	want, countAt := cmd.Page(call.Args)
	args := slices.Clone(call.Args)
	if countAt == 0 {
		countAt = len(args) + 1
		args = append(args, []byte("COUNT"), strconv.AppendInt(nil, want, 10))
	}
	var items, step engine.Recording
	found, first := int64(0), true
	for found < want || first {
		if len(rt.homes) == 0 {
			g.settle(rt)
		}
		i := rt.rangeOf(at.slot)
		span := rt.cache.Ranges[i]
		place := at.place // kept as it is until the range is known to be what this gateway believes
		if at.mark != markOf(span) {
			place = 0
		}
		if ok {
			args[1] = strconv.AppendUint(nil, place, 10)
		}
		if !first {
			args[countAt] = strconv.AppendInt(nil, want-found, 10)
		}
		step.Reset()
		next, err := g.step(ctx, r, rt, engine.Call{Command: cmd, Args: args}, int(rt.byRange[i]), tenure.Span{From: at.slot, To: span.To}, &step)
		if moved := movedBy(err); moved != nil {
			if other, failed := g.follow(ctx, rt, moved); failed == nil {
				rt = other
				continue // from here on, wherever that is now
			} else if err = failed; !first {
				break
			}
		}
		if err != nil && first {
			return err
		}
		if err != nil {
			break // the next step hears of it
		}
		c := step.Cursor()
		if t := c.Next(); t.Kind == engine.ReplyError {
			if first {
				r.Reply.Error(t.Err)
				return nil
			}
			break
		}
		c.Next() // the cursor
		if cmd.PageItem == 0 {
			found += c.Next().Int
		} else {
			found += keep(&c, cmd.PageItem, at.slot, span.To, &items)
		}
		first = false
		if next > 0 {
			at.place, at.mark = next, markOf(span)
			break
		}
		at = scanCursor{slot: span.To + 1}
		if span.To == placement.Slots-1 {
			at.slot = 0
			break
		}
	}
	r.Reply.Array(2)
	r.Reply.Bulk(strconv.AppendUint(nil, at.number(), 10))
	if cmd.PageItem == 0 {
		r.Reply.Int(found)
		return nil
	}
	r.Reply.Array(int(found) * cmd.PageItem)
	items.Replay(r.Reply)
	return nil
}

// keep copies those items of a list whose keys are in the slots from one to another, and counts them. Others are met again in
// their own range, or are on the move.
func keep(c *engine.Cursor, size int, from, to uint16, items *engine.Recording) (n int64) {
	for range c.Next().Int / int64(size) {
		peek := *c
		slot := placement.Slot(peek.Next().Bytes)
		into := items
		if slot < from || slot > to {
			into = nil
		} else {
			n++
		}
		for range size {
			if into == nil {
				c.Skip()
			} else {
				c.Copy(into)
			}
		}
	}
	return n
}

// step has one partition carry out a step of a scan, and returns its cursor.
func (g *Gateway) step(ctx context.Context, r *Request, rt *route, call engine.Call, home int, span tenure.Span, reply *engine.Recording) (next uint64, err error) {
	to, err := g.reach(rt, home)
	if err != nil {
		return 0, err
	}
	calls := [1]engine.Call{call}
	t := engine.Task{Cache: rt.cache.ID, DB: r.DB, Calls: calls[:], Reply: reply, Origin: r.Origin, Quiet: r.Quiet, Consistency: r.consistency(rt), Holds: r.Holds, Slots: []tenure.Span{span}}
	if r.Once != nil { // several ranges of one partition are steps of their own
		once := *r.Once
		once.Key[0] ^= byte(span.From)
		once.Key[1] ^= byte(span.From >> 8)
		t.Once = &once
	}
	if err := g.send(ctx, rt, to, &t); err != nil {
		return 0, err
	}
	r.Replayed = r.Replayed || t.Replayed
	r.heard(&t)
	c := reply.Cursor()
	if c.Next().Kind == engine.ReplyError {
		return 0, nil
	}
	return strconv.ParseUint(string(c.Next().Bytes), 10, 64)
}
