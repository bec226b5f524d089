package eviction

// times tells when the policy's clock showed what, so that a note's stamp can be told in seconds: a few points,
// dense for the recent past and sparse before.
type times struct {
	points []point // the latest last
}

type point struct {
	stamp   uint32
	seconds uint32
}

const maxPoints = 16

// note enters the present time, at most once a second.
func (t *times) note(stamp uint32, now int64) {
	s := uint32(now / 1000)
	if n := len(t.points); n > 0 && t.points[n-1].seconds >= s {
		return
	}
	if len(t.points) == maxPoints {
		// Drop the point whose neighbours are closest together for their age.
		drop, least := 1, 0.0
		for i := 1; i < maxPoints-1; i++ {
			gap := float64(t.points[i+1].seconds-t.points[i-1].seconds) / float64(s-t.points[i].seconds)
			if i == 1 || gap < least {
				drop, least = i, gap
			}
		}
		t.points = append(t.points[:drop], t.points[drop+1:]...)
	}
	t.points = append(t.points, point{stamp, s})
}

func (t *times) bytes() int { return 8 * cap(t.points) }

// idle is about how many seconds ago the clock showed stamp.
func (t *times) idle(stamp, clock uint32, now int64) int64 {
	s, a := uint32(now/1000), age(stamp, clock)
	if len(t.points) == 0 {
		return 0
	}
	for i := len(t.points) - 1; i >= 0; i-- {
		q := t.points[i]
		b := age(q.stamp, clock)
		if b < a {
			continue
		}
		if i == len(t.points)-1 || b == a {
			return int64(s - q.seconds)
		}
		// Between this point and the next, in proportion.
		next := t.points[i+1]
		c := age(next.stamp, clock)
		share := float64(b-a) / float64(max(b-c, 1))
		return int64(s-q.seconds) - int64(share*float64(next.seconds-q.seconds))
	}
	return int64(s - t.points[0].seconds)
}

// Idle is about how many seconds ago an item was used last, by its note.
func (p *Policy) Idle(old uint32, now int64) int64 {
	n := note(old)
	if n.segment() == none {
		return 0
	}
	return max(0, p.times.idle(n.stamp(), p.clock, now))
}

// Freq is about how often an item was used of late, up to 15, by its note.
func (p *Policy) Freq(old uint32) int64 {
	n := note(old)
	if n.segment() == none {
		return 0
	}
	return int64(n.freq(p.clock, p.epoch))
}
