package main

import (
	"fmt"
	"slices"
	"strings"
)

// A bar is a number that the engine must reach.
type bar struct {
	what     string
	measured string
	bar      string
	holds    bool
}

// bars is the table of all bars that this run has something to say about. Where it measured another size than
// the bar speaks of, the row says so.
func (r *Results) bars() string {
	var list []bar
	for _, lifetime := range []bool{false, true} {
		if s := r.store(3_000_000, lifetime, false); s != nil {
			most := 115.
			if lifetime {
				most = 123
			}
			row := below("RSS bytes per item, 3 M items"+lifetimeText(lifetime), s.Rows[0].Load.PerItem, most, "%.1f")
			list = append(list, row.at(s.N, 3_000_000))
		}
	}
	for _, b := range r.Boards {
		if b.Redis.PerMember > 0 && b.N == nearest(r.boardSizes(), 1_000_000) {
			list = append(list, below("RSS of a sorted set of 1 M members ÷ redis-server's", b.Larder.PerMember/b.Redis.PerMember, 0.6, "%.2f").at(b.N, 1_000_000))
		}
	}
	if s := r.store(10_000_000, false, true); s != nil {
		ours := s.Rows[0]
		large := []bar{
			{"longest stop of the world with 10 M items", "≤ " + micro(ours.GC.Pause*1e9), "< 1 ms", ours.GC.Pause < 1e-3},
			{"the collector's CPU with 10 M items", ours.GC.cpu(), "< 3 %", ours.GC.CPU < 0.03},
			{"p99.9 of GET with 10 M items", micro(ours.Tails.Get.P999), "< 20 µs", ours.Tails.Get.P999 < 20_000},
			{"p99.9 of SET with 10 M items", micro(ours.Tails.Set.P999), "< 20 µs", ours.Tails.Set.P999 < 20_000},
		}
		for _, kind := range []struct {
			name string
			l    Latency
		}{{"GET", ours.Tails.Get}, {"SET", ours.Tails.Set}, {"insertion, while growing,", ours.Load.Insert}, {"maintenance", ours.Tails.Tick}} {
			if kind.l.Ops > 0 {
				large = append(large, bar{"worst single " + kind.name + " with 10 M items", worst(kind.l), "< 200 µs", kind.l.Worst < 200_000})
			}
		}
		for _, b := range large {
			list = append(list, b.at(s.N, 10_000_000))
		}
	}
	if s := r.store(1_000_000, false, true); s != nil {
		if i := slices.IndexFunc(s.Rows, func(r Row) bool { return r.Name == "fastcache" }); i >= 0 {
			for _, kind := range []struct {
				name      string
				one, many float64
			}{{"GET", s.Rows[i].GetRatio, s.Rows[i].GetMany}, {"SET", s.Rows[i].SetRatio, s.Rows[i].SetMany}} {
				list = append(list, above(kind.name+"s a second ÷ fastcache's, 1 M items, one call to a task", kind.one, 0.8).at(s.N, 1_000_000),
					above(fmt.Sprintf("the same, %d calls to a task", manyCalls), kind.many, 0.8).at(s.N, 1_000_000))
			}
		}
		for name, rounds := range map[string][]Speed{"GET": s.Rows[0].Get, "SET": s.Rows[0].Set} {
			n := speed(rounds).Allocations
			list = append(list, bar{"allocations of a " + name, fmt.Sprintf("%.3f", n), "0", n < 0.0005})
		}
		slices.SortStableFunc(list[len(list)-2:], func(a, b bar) int { return strings.Compare(a.what, b.what) })
	}
	if c := r.Caches; c != nil {
		list = append(list, below("MB of RSS for 10,000 nearly empty caches", float64(c.Full-c.Empty)/1e6, 20, "%.1f"))
	}
	if d := r.Deleted; d != nil && len(d.Waiting) > 0 {
		last := d.Waiting[len(d.Waiting)-1]
		fell := 100 * float64(d.Before-last.RSS) / float64(d.Before-d.Empty)
		list = append(list, bar{fmt.Sprintf("RSS falls %.0f s after 90 %% of 5 M items were deleted by", last.Seconds), fmt.Sprintf("%.0f %%", fell), "≥ 60 %", fell >= 60}.at(r.plan.deleted, 5_000_000))
	}
	if len(list) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("## Bars\n\n| what | measured | bar | holds |\n|---|--:|--:|---|\n")
	for _, row := range list {
		holds := "**no**"
		if row.holds {
			holds = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", row.what, row.measured, row.bar, holds)
	}
	b.WriteByte('\n')
	return b.String()
}

func below(what string, measured, most float64, format string) bar {
	return bar{what, fmt.Sprintf(format, measured), fmt.Sprintf("≤ %g", most), measured <= most}
}

func above(what string, measured, least float64) bar {
	return bar{what, fmt.Sprintf("%.2f", measured), fmt.Sprintf("≥ %g", least), measured >= least}
}

// at notes that a bar was measured at another size than it speaks of.
func (b bar) at(measured, meant int) bar {
	if measured != meant {
		b.what += " (measured with " + count(measured) + ")"
	}
	return b
}

// store returns the stores whose size is nearest to n, of those that were timed if need be.
func (r *Results) store(n int, lifetime, timed bool) *Stores {
	var sizes []int
	fits := func(s *Stores) bool { return s.Lifetime == lifetime && (!timed || len(s.Rows) > 1) }
	for i := range r.Stores {
		if fits(&r.Stores[i]) {
			sizes = append(sizes, r.Stores[i].N)
		}
	}
	for i := range r.Stores {
		if s := &r.Stores[i]; fits(s) && s.N == nearest(sizes, n) {
			return s
		}
	}
	return nil
}

func (r *Results) boardSizes() (sizes []int) {
	for _, b := range r.Boards {
		sizes = append(sizes, b.N)
	}
	return sizes
}

// nearest returns the size that is nearest to n.
func nearest(sizes []int, n int) (best int) {
	for _, s := range sizes {
		if best == 0 || max(s, n)-min(s, n) < max(best, n)-min(best, n) {
			best = s
		}
	}
	return best
}
