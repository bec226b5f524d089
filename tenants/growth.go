package tenants

import "time"

// A RangeLoad is what one range of a cache has to bear.
type RangeLoad struct {
	Bytes int64
	Ops   int64 // commands a second
}

// Calm is for how long a cache has to need fewer ranges before it gets fewer, unless an operator says otherwise, so that a quiet
// minute does not have its keys move there and back.
const Calm = 10 * time.Minute

// Ranges decides how many ranges a cache is to have whose ranges bear these loads: twice as many when one of them is over a limit,
// half as many when it is calm, having needed no more than half of these for long enough, else what it has. most is how many it
// can have at all.
//
//	W1: what Ranges makes of a cache is within MaxRanges and most, unless it was outside before
//	W2: a cache whose load does not change does not get more ranges and then fewer
func (g *Growth) Ranges(loads []RangeLoad, most int, calm bool) int {
	n := len(loads)
	if g.MaxRanges < 2 || n == 0 {
		return n
	}
	var heaviest, all RangeLoad
	for _, l := range loads {
		heaviest.Bytes, heaviest.Ops = max(heaviest.Bytes, l.Bytes), max(heaviest.Ops, l.Ops)
		all.Bytes, all.Ops = all.Bytes+l.Bytes, all.Ops+l.Ops
	}
	over := func(load, limit int64) bool { return limit > 0 && load > limit }
	if over(heaviest.Bytes, g.RangeBytes) || over(heaviest.Ops, g.RangeOps) {
		return max(min(2*n, g.MaxRanges, most), n)
	}
	half := (n + 1) / 2
	fits := func(all, limit int64) bool { return limit == 0 || all/int64(half) < limit/2 }
	if calm && half < n && (g.RangeBytes > 0 || g.RangeOps > 0) && fits(all.Bytes, g.RangeBytes) && fits(all.Ops, g.RangeOps) {
		return half
	}
	return n
}

// Needs reports whether all ranges together need no more than half of the limits of half as many: as long as it stays so, the
// cache is calm.
func (g *Growth) Needs(loads []RangeLoad) (fewer bool) {
	return g.Ranges(loads, len(loads), true) < len(loads)
}
