package engine

// deadlines is a heap of the items that expire, the earliest on top.
//
//	D1: d[i].due == i
//	D2: no item expires before its parent in the heap
type deadlines []*item

// set gives it a deadline in milliseconds since 1970, 0 for none. O(log n).
func (d *deadlines) set(it *item, at int64) {
	it.expireAt = at
	switch {
	case at == 0 && it.due < 0:
	case at == 0:
		d.take(it.due)
	case it.due < 0:
		it.due = len(*d)
		*d = append(*d, it)
		d.up(it.due)
	default:
		if !d.up(it.due) {
			d.down(it.due)
		}
	}
}

func (d *deadlines) take(i int) {
	h := *d
	it, last := h[i], len(h)-1
	h.swap(i, last)
	h[last] = nil
	*d = h[:last]
	it.due = -1
	if i < last && !d.up(i) {
		d.down(i)
	}
}

func (d deadlines) swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].due, d[j].due = i, j
}

func (d *deadlines) up(i int) (moved bool) {
	h := *d
	for i > 0 {
		parent := (i - 1) / 2
		if h[parent].expireAt <= h[i].expireAt {
			break
		}
		h.swap(i, parent)
		i, moved = parent, true
	}
	return moved
}

func (d *deadlines) down(i int) {
	h := *d
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if child+1 < len(h) && h[child+1].expireAt < h[child].expireAt {
			child++
		}
		if h[i].expireAt <= h[child].expireAt {
			return
		}
		h.swap(i, child)
		i = child
	}
}
