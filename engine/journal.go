package engine

// A journal remembers how to undo an atomic task. Commands that replace or remove whole items are covered by
// remember; values that change in place (hashes, sorted sets) add the inverse of each of their changes.
type journal struct {
	inverse []func()
	changed []place
	version uint64 // the partition's last version before the task
}

// A place is a key of a keyspace.
type place struct {
	home *keyspace
	key  string
}

// add notes how to take back one change. Inverses run in reverse order, so each finds exactly the state that
// its change left. They hold on to values and places, never to items: an undo makes items anew.
func (j *journal) add(inverse func()) { j.inverse = append(j.inverse, inverse) }

// remember notes what is under key (it, or nothing when nil) before it is replaced, removed or given another
// deadline.
func (j *journal) remember(p *Partition, at place, it *item) {
	if it == nil {
		j.add(func() { at.clear(p) })
		return
	}
	before := *it
	j.add(func() {
		at.clear(p)
		back := &item{key: at.key, home: at.home, value: before.value, due: -1, born: before.born, used: before.used, hits: before.hits}
		at.home.insert(back)
		at.home.index(back)
		at.home.account(back)
		p.due.set(back, before.expireAt)
	})
}

func (at place) clear(p *Partition) {
	if it := at.home.find([]byte(at.key)); it != nil {
		at.home.remove(p, it)
	}
}

// undo takes back everything, then re-accounts the values that changed in place: only now are they what
// they were.
func (j *journal) undo(p *Partition) {
	for i := len(j.inverse) - 1; i >= 0; i-- {
		j.inverse[i]()
	}
	for _, at := range j.changed {
		if it := at.home.find([]byte(at.key)); it != nil {
			at.home.account(it)
		}
	}
	p.version = j.version // nobody has seen a later one
}
