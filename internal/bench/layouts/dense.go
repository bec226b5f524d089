package main

import "github.com/larder-cache/larder/engine/dense"

// denseLayout is the engine's own: compacting blocks in which holes are filled.
type denseLayout struct {
	store          *dense.Store
	table          *dense.Table
	calendar       *dense.Calendar
	written, moved int64
}

func newDense(int) Layout {
	l := &denseLayout{store: dense.NewStore(dense.Seed{1, 2})}
	l.table = l.store.NewTable(false, l, nil)
	l.calendar = l.store.NewCalendar(start)
	return l
}

// Moved counts what Compact copies.
func (l *denseLayout) Moved(_, to dense.Ref) { l.moved += int64(l.store.Size(to)) }

func (l *denseLayout) Put(key, value []byte, expireAt int64) {
	hash := l.store.Hash(key)
	r := l.table.Find(hash, key)
	old := int64(0)
	if r == 0 {
		r = l.table.Insert(hash, 1, key, len(value), 0, expireAt)
	} else {
		old = l.store.ExpireAt(r)
		r = l.table.Rewrite(hash, r, 1, len(value), 0, expireAt, false)
	}
	copy(l.store.Value(r), value)
	l.written += int64(l.store.Size(r))
	if expireAt != 0 && (old == 0 || expireAt < old) {
		l.calendar.Add(dense.Position(hash), expireAt)
	}
	l.store.Settle()
}

func (l *denseLayout) Get(key []byte) []byte {
	r := l.table.Find(l.store.Hash(key), key)
	if r == 0 {
		return nil
	}
	return l.store.Value(r)
}

func (l *denseLayout) Delete(key []byte) {
	hash := l.store.Hash(key)
	if r := l.table.Find(hash, key); r != 0 {
		l.table.Remove(hash, r)
		l.store.Settle()
	}
}

func (l *denseLayout) Expire(now int64, atMost int) {
	var due []dense.Ref
	for ; atMost > 0; atMost-- {
		prefix, ok := l.calendar.Next(now, l.table.Timed())
		if !ok {
			return
		}
		due = due[:0]
		l.table.Under(prefix, func(position uint64, r dense.Ref) {
			switch at := l.store.ExpireAt(r); {
			case at == 0:
			case at <= now:
				due = append(due, r)
			default:
				l.calendar.Add(position, at)
			}
		})
		for _, r := range due {
			l.table.Remove(l.store.Hash(l.store.Key(r)), r)
		}
		l.store.Settle()
	}
}

func (l *denseLayout) Maintain(steps int) bool { return l.store.Busy() && l.store.Compact(steps, nil) }

// Usage counts the open block whole, as it does those of the prototypes.
func (l *denseLayout) Usage() Usage {
	u := l.store.Usage()
	return Usage{Live: u.Live, Memory: (u.Blocks+blockSize-1)/blockSize*blockSize + u.Apart, Written: l.written, Moved: l.moved}
}

func (l *denseLayout) Close() { l.store.Close() }
