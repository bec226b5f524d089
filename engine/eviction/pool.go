package eviction

// A pool keeps the oldest items of one segment that draws have come upon, the oldest first. It holds copies:
// whether an entry still tells the truth is seen when it is used.
type pool struct {
	items [poolSize]pooled
	n     int
}

type pooled struct {
	hash uint64
	note note
}

const poolSize = 16

// age is the age of the oldest entry; there is one.
func (q *pool) age(clock uint32) uint32 { return age(q.items[0].note.stamp(), clock) }

// offer enters an item if it is among the oldest.
func (q *pool) offer(hash uint64, n note, clock uint32) {
	a := age(n.stamp(), clock)
	if q.n == poolSize && a <= age(q.items[poolSize-1].note.stamp(), clock) {
		return
	}
	for i := range q.n {
		if q.items[i].hash == hash { // again, or it was used since
			if q.items[i].note == n {
				return
			}
			copy(q.items[i:], q.items[i+1:q.n])
			q.n--
			break
		}
	}
	if q.n < poolSize {
		q.n++
	}
	i := q.n - 1
	for i > 0 && age(q.items[i-1].note.stamp(), clock) < a {
		q.items[i] = q.items[i-1]
		i--
	}
	q.items[i] = pooled{hash, n}
}

// drop removes the oldest entry.
func (q *pool) drop() {
	copy(q.items[:], q.items[1:q.n])
	q.n--
}

// A ring queues the tags of newcomers. When it is full, the oldest are forgotten.
type ring struct {
	tags []uint32
	head int
	n    int
}

// maxRing bounds the newcomers in order; of a larger window the rest is found by draws.
const maxRing = 1 << 16

func (r *ring) len() int { return r.n }

func (r *ring) push(tag uint32) {
	if r.n == len(r.tags) {
		r.pop()
	}
	i := r.head + r.n
	if i >= len(r.tags) {
		i -= len(r.tags)
	}
	r.tags[i] = tag
	r.n++
}

func (r *ring) pop() uint32 {
	t := r.tags[r.head]
	r.head++
	if r.head == len(r.tags) {
		r.head = 0
	}
	r.n--
	return t
}

// keep forgets all but the latest n tags.
func (r *ring) keep(n int) {
	for r.n > n {
		r.pop()
	}
}

// resize makes room for n tags, if that is more than there is.
func (r *ring) resize(n int) {
	if n <= len(r.tags) {
		return
	}
	tags := make([]uint32, n)
	kept := r.n
	for i := range kept {
		tags[i] = r.pop()
	}
	r.tags, r.head, r.n = tags, 0, kept
}

func (r *ring) bytes() int { return 4 * cap(r.tags) }
