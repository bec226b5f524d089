package engine

import (
	"cmp"
	"math"
	"slices"

	"github.com/larder-cache/larder/engine/dense"
)

// An expired key is one that a Sweep has listed: its entry is out of the calendar, and back in if the task is lost.
type expired struct {
	home     *keyspace
	position uint64
}

// Due reports whether a Sweep at time now would find something to do. O(1).
func (p *Partition) Due(now int64) bool { return p.due <= now || p.remembersDue(now) }

// Timed reports whether a Sweep will find something to do one day, though no task is carried out until then. O(1).
func (p *Partition) Timed() bool { return p.due < math.MaxInt64 || p.once.Front() != nil }

// looksPerKey bounds how many entries of calendars a Sweep looks at for each key that it may list: entries can be
// stale, or come up early because a deadline has moved on.
const looksPerKey = 4

// Sweep returns the task that removes items of one cache whose time has come, at most atMost of them, and forgets as many of its
// idempotency keys whose window is over, or one that empties a database whose delayed flush is due; nil when there is nothing to remove now. When something is left to do, Due says
// so. Which keys are found first depends on how the partition came about, so the leader lists them and the task goes into
// the log, like that of Relieve.
func (p *Partition) Sweep(now int64, atMost int) *Task {
	p.store.Settle()
	p.relist(now)
	task := &Task{}
	looks := looksPerKey * atMost
	if p.due <= now {
		p.due = math.MaxInt64
		for i := 0; i < len(p.timed); i++ {
			k := p.timed[i]
			if task.Calls == nil && looks > 0 {
				p.list(k, now, &looks, atMost, task)
			}
			switch cal := k.calendar; {
			case cal.Len() == 0 && k.timed() == 0 && len(p.ended) == 0:
				cal.Drop(1)
				k.calendar = nil
				last := len(p.timed) - 1
				p.timed[i] = p.timed[last]
				p.timed = p.timed[:last]
				i--
			case cal.Due(now, k.timed()):
				p.due = now
			default:
				p.due = min(p.due, cal.Begins())
			}
		}
		for _, k := range p.delayed {
			if k.flushAt <= now && task.Calls == nil {
				task.Cache, task.Calls = k.owner.id, []Call{{Command: flushDue, Args: [][]byte{flushDue.name, {byte(k.db)}}}}
			}
			p.due = min(p.due, k.flushAt)
		}
	}
	if task.Calls == nil && !p.remembersDue(now) {
		return nil
	}
	if task.Calls == nil {
		task.Cache, task.Calls = p.once.Front().Value.(*remembered).home.id, []Call{sweepCall(0, atMost)}
	}
	return task
}

func sweepCall(db, atMost int) Call {
	cmd := MustLookup("LARDER.SWEEP")
	return Call{Command: cmd, Args: [][]byte{[]byte(cmd.Name), integer(int64(atMost)), {byte(db)}}}
}

// list looks for keys of k whose time has come.
func (p *Partition) list(k *keyspace, now int64, looks *int, atMost int, task *Task) {
	var call Call
	for ; *looks > 0 && len(call.Args) < 3+atMost; *looks-- {
		prefix, ok := k.calendar.Next(now, k.timed())
		if !ok {
			break
		}
		k.table.Under(prefix, func(position uint64, r dense.Ref) {
			switch at := k.wakes(r); {
			case at == 0:
			case at > now:
				k.calendar.Add(position, at)
			default:
				if call.Args == nil {
					call = sweepCall(k.db, atMost)
				}
				call.Args = append(call.Args, append([]byte(nil), p.store.Key(r)...))
				p.ended = append(p.ended, expired{k, position})
			}
		})
	}
	if call.Args != nil {
		task.Cache, task.Calls = k.owner.id, []Call{call}
	}
}

// relist puts back into the calendars what the last Sweep listed and nobody removed.
func (p *Partition) relist(now int64) {
	slices.SortFunc(p.ended, func(a, b expired) int { return cmp.Compare(a.position, b.position) })
	for _, e := range slices.Compact(p.ended) { // listed twice, an entry would double each time
		if e.home.calendar == nil {
			continue
		}
		e.home.table.At(e.position, func(r dense.Ref) bool {
			if at := e.home.wakes(r); at != 0 {
				e.home.calendar.Add(e.position, at)
				p.due = min(p.due, now)
			}
			return true
		})
	}
	p.ended = p.ended[:0]
}

// sweep removes the keys that a Sweep listed, as far as their time has come, and from listed hashes the fields whose time
// has come: as many of these as the budget has left, and those of a small hash at once.
func (c *call) sweep() error {
	if c.cache != nil {
		c.p.forgetDue(c.cache, int(uninteger(c.args[1])))
	}
	var removed int64
	budget := uninteger(c.args[1])
	if db := int(c.args[2][0]); c.cache != nil && db < Databases && c.cache.dbs[db] != nil {
		k := c.cache.dbs[db]
		for _, key := range c.args[3:] {
			switch it := k.find(key); {
			case it == nil:
			case it.expiredAt(c.now):
				k.remove(it)
				c.cache.counts.Expired++
				removed++
			default:
				removed += c.sweepFields(it, budget-removed)
			}
			c.p.viewed = 0
		}
	}
	c.out.Int(removed)
	return nil
}

// sweepFields removes up to about atMost fields whose time has come from a hash, and returns how many it removed.
func (c *call) sweepFields(it *item, atMost int64) int64 {
	h, ok := it.value.(*hashValue)
	if !ok || atMost <= 0 {
		return 0
	}
	if at := h.wakes(); at == 0 || at > c.now {
		return 0
	}
	e := c.edit(h, it, it.key)
	e.expire(int(atMost) - e.expired)
	removed := e.expired
	e.done()
	return int64(removed)
}
