package engine

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// pairOfWorlds are two partitions that get the same entries and have to stay the same.
type pairOfWorlds struct{ a, b *world }

func newPair(t tester) pairOfWorlds { return pairOfWorlds{newWorld(t), newWorld(t)} }

// do runs one command on both and returns the reply.
func (p pairOfWorlds) do(args ...string) string {
	p.a.t.Helper()
	got, twin := p.a.do(args...), p.b.do(args...)
	if got != twin {
		p.a.t.Fatalf("%q: replicas answer %s and %s", args, got, twin)
	}
	if p.a.p.Digest() != p.b.p.Digest() {
		p.a.t.Fatalf("%q: replicas differ", args)
	}
	return got
}

// want runs one command on both and compares the reply with what write makes of a Recording.
func (p pairOfWorlds) want(write func(r *Recording), args ...string) {
	p.a.t.Helper()
	r := &Recording{}
	write(r)
	if got, want := p.do(args...), show(r); got != want {
		p.a.t.Fatalf("%q\n got %s\nwant %s", args, got, want)
	}
}

// undone runs commands as an atomic task that fails at its end, and sees that nothing has changed.
func (p pairOfWorlds) undone(commands ...[]string) {
	p.a.t.Helper()
	commands = append(commands, []string{"ZADD", "any", "not a number", "m"})
	before := p.a.p.Digest()
	for _, w := range []*world{p.a, p.b} {
		task := w.task(commands...)
		task.Atomic = true
		w.apply(task)
		if task.Failed < 0 {
			w.t.Fatalf("%q did not fail", commands)
		}
		if w.p.Digest() != before {
			w.t.Fatalf("%q: undone, but something changed", commands)
		}
	}
}

func (p pairOfWorlds) wait(ms int64) {
	p.a.now += ms
	p.b.now += ms
}

// A rankedTwin is a member of the naive twin of a sorted set: entries in a slice, kept in order by sorting it anew.
type rankedTwin struct {
	name  string
	score float64
}

type naiveSet []rankedTwin

func (n naiveSet) find(name string) int {
	return slices.IndexFunc(n, func(r rankedTwin) bool { return r.name == name })
}

func (n *naiveSet) set(name string, score float64) {
	if i := n.find(name); i >= 0 {
		(*n)[i].score = score
	} else {
		*n = append(*n, rankedTwin{name, score})
	}
	slices.SortFunc(*n, func(a, b rankedTwin) int {
		if a.score != b.score {
			if a.score < b.score {
				return -1
			}
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
}

func (n *naiveSet) remove(gone func(i int, r rankedTwin) bool) (removed []rankedTwin) {
	var left naiveSet
	for i, r := range *n {
		if gone(i, r) {
			removed = append(removed, r)
		} else {
			left = append(left, r)
		}
	}
	*n = left
	return removed
}

func scoreText(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// TestModelSortedSet compares the commands on one key with a sorted slice, with enough members for a tree of
// several levels, with time passing and with atomic tasks that are taken back.
func TestModelSortedSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, model, deadline := newPair(t), naiveSet{}, int64(0)
		score := rapid.OneOf(rapid.Map(rapid.IntRange(-5, 5), func(n int) float64 { return float64(n) }),
			rapid.Float64Range(-1e9, 1e9), rapid.SampledFrom([]float64{math.Inf(1), math.Inf(-1), 0}))
		long := rapid.SampledFrom([]int{0, 0, 60}).Draw(t, "long") // every so many names are too long for the small form
		name := rapid.Map(rapid.IntRange(0, 299), func(n int) string {
			if long > 0 && n%long == 7 {
				return fmt.Sprintf("m%070d", n)
			}
			return fmt.Sprintf("m%d", n)
		})
		index := rapid.IntRange(-320, 320)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if deadline != 0 && deadline <= p.a.now {
				model, deadline = nil, 0
			}
			empty := len(model) == 0
			bound := func() (arg string, in func(score float64, lower bool) bool) {
				at, outside := score.Draw(t, "bound"), rapid.Bool().Draw(t, "outside")
				arg = scoreText(at)
				if outside {
					arg = "(" + arg
				}
				return arg, func(score float64, lower bool) bool {
					return score == at && !outside || lower && score > at || !lower && score < at
				}
			}
			switch op := rapid.SampledFrom([]string{"add", "add", "add", "incr", "rem", "rank", "score", "page", "reverse", "byscore",
				"count", "dropranks", "dropscores", "pop", "undone", "expire", "wait", "store"}).Draw(t, "op"); op {
			case "add":
				args := []string{"ZADD", "k"}
				option := rapid.SampledFrom([]string{"", "NX", "XX", "GT", "LT"}).Draw(t, "option")
				if option != "" {
					args = append(args, option)
				}
				added := 0
				for range rapid.IntRange(1, 60).Draw(t, "pairs") {
					n, s := name.Draw(t, "name"), score.Draw(t, "score")
					args = append(args, scoreText(s), n)
					i := model.find(n)
					if i < 0 && option != "XX" {
						added++
						model.set(n, s)
					} else if i >= 0 && (option == "" || option == "XX" || option == "GT" && s > model[i].score || option == "LT" && s < model[i].score) {
						model.set(n, s)
					}
				}
				p.want(func(r *Recording) { r.Int(int64(added)) }, args...)
			case "incr":
				n, s := name.Draw(t, "name"), score.Draw(t, "by")
				sum := s
				if i := model.find(n); i >= 0 {
					sum += model[i].score
				}
				if math.IsNaN(sum) {
					if got := p.do("ZINCRBY", "k", scoreText(s), n); got != "(error) ERR resulting score is not a number (NaN)" {
						t.Fatal(got)
					}
					break
				}
				model.set(n, sum)
				p.want(func(r *Recording) { r.Double(sum) }, "ZINCRBY", "k", scoreText(s), n)
			case "rem":
				a, b := name.Draw(t, "name"), name.Draw(t, "name")
				gone := model.remove(func(_ int, r rankedTwin) bool { return r.name == a || r.name == b })
				p.want(func(r *Recording) { r.Int(int64(len(gone))) }, "ZREM", "k", a, b)
			case "rank":
				n := name.Draw(t, "name")
				reverse, command := rapid.Bool().Draw(t, "reverse"), "ZRANK"
				if reverse {
					command = "ZREVRANK"
				}
				p.want(func(r *Recording) {
					i := model.find(n)
					if i < 0 {
						r.NullArray()
						return
					}
					r.Array(2)
					if reverse {
						r.Int(int64(len(model) - 1 - i))
					} else {
						r.Int(int64(i))
					}
					r.Double(model[i].score)
				}, command, "k", n, "WITHSCORE")
			case "score":
				n := name.Draw(t, "name")
				p.want(func(r *Recording) {
					if i := model.find(n); i < 0 {
						r.Null()
					} else {
						r.Double(model[i].score)
					}
				}, "ZSCORE", "k", n)
			case "page", "reverse":
				start, stop := index.Draw(t, "start"), index.Draw(t, "stop")
				list := slices.Clone(model)
				command := "ZRANGE"
				if op == "reverse" {
					command = "ZREVRANGE"
					slices.Reverse(list)
				}
				p.want(func(r *Recording) { listPairs(r, empty, list.slice(start, stop)) }, command, "k", strconv.Itoa(start), strconv.Itoa(stop), "WITHSCORES")
			case "byscore", "count", "dropscores":
				lowArg, low := bound()
				highArg, high := bound()
				within := func(_ int, r rankedTwin) bool { return low(r.score, true) && high(r.score, false) }
				twin := slices.Clone(model)
				list := naiveSet(twin.remove(within))
				switch op {
				case "count":
					p.want(func(r *Recording) { r.Int(int64(len(list))) }, "ZCOUNT", "k", lowArg, highArg)
				case "dropscores":
					model = twin
					p.want(func(r *Recording) { r.Int(int64(len(list))) }, "ZREMRANGEBYSCORE", "k", lowArg, highArg)
				default:
					offset, limit := rapid.IntRange(0, 50).Draw(t, "offset"), rapid.IntRange(-1, 50).Draw(t, "limit")
					reverse := rapid.Bool().Draw(t, "reverse")
					args := []string{"ZRANGE", "k", lowArg, highArg, "BYSCORE", "WITHSCORES", "LIMIT", strconv.Itoa(offset), strconv.Itoa(limit)}
					if reverse {
						slices.Reverse(list)
						args[2], args[3] = highArg, lowArg
						args = append(args, "REV")
					}
					list = list[min(offset, len(list)):]
					if limit >= 0 {
						list = list[:min(limit, len(list))]
					}
					p.want(func(r *Recording) { listPairs(r, empty, list) }, args...)
				}
			case "dropranks":
				start, stop := index.Draw(t, "start"), index.Draw(t, "stop")
				list := model.slice(start, stop)
				model.remove(func(_ int, r rankedTwin) bool { return list.find(r.name) >= 0 })
				p.want(func(r *Recording) { r.Int(int64(len(list))) }, "ZREMRANGEBYRANK", "k", strconv.Itoa(start), strconv.Itoa(stop))
			case "pop":
				n := rapid.IntRange(0, 30).Draw(t, "count")
				if rapid.Bool().Draw(t, "highest") {
					least := len(model) - n
					list := naiveSet(model.remove(func(i int, _ rankedTwin) bool { return i >= least }))
					slices.Reverse(list)
					p.want(func(r *Recording) { listPairs(r, empty, list) }, "ZPOPMAX", "k", strconv.Itoa(n))
				} else {
					list := model.remove(func(i int, _ rankedTwin) bool { return i < n })
					p.want(func(r *Recording) { listPairs(r, empty, list) }, "ZPOPMIN", "k", strconv.Itoa(n))
				}
			case "undone":
				var commands [][]string
				for range rapid.IntRange(1, 8).Draw(t, "commands") {
					n, s := name.Draw(t, "name"), scoreText(score.Draw(t, "score"))
					commands = append(commands, rapid.SampledFrom([][]string{
						{"ZADD", "k", s, n, "5", n + "x"}, {"ZINCRBY", "k", "1", n}, {"ZREM", "k", n}, {"ZPOPMIN", "k", "40"}, {"DEL", "k"},
						{"ZREMRANGEBYRANK", "k", "2", "-2"}, {"ZUNIONSTORE", "k", "2", "k", "k"}, {"ZRANGESTORE", "k", "k", "3", "-3"},
						{"PEXPIRE", "k", "7"}, {"RENAME", "k", "other"}, {"COPY", "k", "other", "REPLACE"}, {"SET", "k", "text"},
					}).Draw(t, "command"))
				}
				p.undone(commands...)
			case "expire":
				ms := rapid.Int64Range(1, 20).Draw(t, "ms")
				if p.do("PEXPIRE", "k", scoreText(float64(ms))) == "1" {
					deadline = p.a.now + ms
				}
			case "wait":
				p.wait(rapid.Int64Range(1, 10).Draw(t, "ms"))
			case "store":
				start, stop := index.Draw(t, "start"), index.Draw(t, "stop")
				model, deadline = model.slice(start, stop), 0
				p.want(func(r *Recording) { r.Int(int64(len(model))) }, "ZRANGESTORE", "k", "k", strconv.Itoa(start), strconv.Itoa(stop))
			}
			if len(model) == 0 {
				deadline = 0
			}
		}
	})
}

// slice is ZRANGE: -1 is the last.
func (n naiveSet) slice(start, stop int) naiveSet {
	var list naiveSet
	if start < 0 {
		start += len(n)
	}
	if stop < 0 {
		stop += len(n)
	}
	for i := max(start, 0); i <= stop && i < len(n); i++ {
		list = append(list, n[i])
	}
	return list
}

func listPairs(r *Recording, empty bool, list naiveSet) {
	if empty { // no key: Redis answers an empty list, of nothing in particular
		r.Array(0)
		return
	}
	r.Pairs(len(list))
	for _, m := range list {
		r.Text(m.name)
		r.Double(m.score)
	}
}

// TestModelLexRanges compares ranges of names with a filter over all of them.
func TestModelLexRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(t)
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[abc]{0,4}`), 1, 100, rapid.ID).Draw(t, "names")
		args := []string{"ZADD", "k"}
		for _, n := range names {
			args = append(args, "0", n)
		}
		p.do(args...)
		slices.Sort(names)
		type bound struct {
			arg string
			at  func(name string) int // where name stands: below, at or above
			in  bool
		}
		draw := func() bound {
			switch rapid.IntRange(0, 7).Draw(t, "kind") {
			case 0:
				return bound{"-", func(string) int { return 1 }, false}
			case 1:
				return bound{"+", func(string) int { return -1 }, false}
			}
			name, in := rapid.StringMatching(`[abc]{0,4}`).Draw(t, "name"), rapid.Bool().Draw(t, "in")
			sign := map[bool]string{true: "[", false: "("}[in]
			return bound{sign + name, func(n string) int { return strings.Compare(n, name) }, in}
		}
		for range 10 {
			low, high := draw(), draw()
			var want []string
			for _, n := range names {
				if l, h := low.at(n), high.at(n); (l > 0 || l == 0 && low.in) && (h < 0 || h == 0 && high.in) {
					want = append(want, n)
				}
			}
			list := func(r *Recording) {
				r.Array(len(want))
				for _, n := range want {
					r.Text(n)
				}
			}
			p.want(list, "ZRANGEBYLEX", "k", low.arg, high.arg)
			p.want(func(r *Recording) { r.Int(int64(len(want))) }, "ZLEXCOUNT", "k", low.arg, high.arg)
			slices.Reverse(want)
			p.want(list, "ZRANGE", "k", high.arg, low.arg, "BYLEX", "REV")
		}
	})
}

// TestModelCombinations compares unions, intersections and differences with sums over maps.
func TestModelCombinations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(t)
		sets := make([]map[string]float64, 3)
		for i := range sets {
			sets[i] = map[string]float64{}
			for range rapid.IntRange(0, 30).Draw(t, "size") {
				n, s := fmt.Sprintf("m%d", rapid.IntRange(0, 25).Draw(t, "name")), float64(rapid.IntRange(-9, 9).Draw(t, "score"))
				sets[i][n] = s
				p.do("ZADD", fmt.Sprintf("k%d", i), scoreText(s), n)
			}
		}
		which := rapid.SliceOfN(rapid.IntRange(0, 2), 1, 4).Draw(t, "which")
		args := []string{strconv.Itoa(len(which))}
		for _, k := range which {
			args = append(args, fmt.Sprintf("k%d", k))
		}
		weights := []string{"WEIGHTS"}
		for range which {
			weights = append(weights, strconv.Itoa(rapid.IntRange(-3, 3).Draw(t, "weight")))
		}
		how := rapid.SampledFrom([]string{"SUM", "MIN", "MAX", "COUNT"}).Draw(t, "aggregate")
		counts, scores := map[string]int{}, map[string]float64{}
		var inFirst naiveSet
		for i, k := range which {
			w, _ := strconv.ParseFloat(weights[i+1], 64)
			for n, s := range sets[k] {
				if i == 0 {
					inFirst.set(n, s)
				}
				if how == "COUNT" {
					s = 1
				}
				old, had := scores[n]
				switch {
				case !had:
					old = s * w
				case how == "SUM", how == "COUNT":
					old += s * w
				case how == "MIN":
					old = min(old, s*w)
				default:
					old = max(old, s*w)
				}
				scores[n] = old + 0
				counts[n]++
			}
		}
		var all, common naiveSet
		for n, s := range scores {
			all.set(n, s)
			if counts[n] == len(which) {
				common.set(n, s)
			}
		}
		inFirst.remove(func(_ int, r rankedTwin) bool { return counts[r.name] > 1 })
		list := func(list naiveSet) func(r *Recording) { return func(r *Recording) { listPairs(r, false, list) } }
		tail := append(weights, "AGGREGATE", how)
		p.want(list(all), slices.Concat([]string{"ZUNION"}, args, tail, []string{"WITHSCORES"})...)
		p.want(list(common), slices.Concat([]string{"ZINTER"}, args, tail, []string{"WITHSCORES"})...)
		p.want(list(inFirst), slices.Concat([]string{"ZDIFF"}, args, []string{"WITHSCORES"})...)
		limit := rapid.IntRange(0, 5).Draw(t, "limit")
		p.want(func(r *Recording) {
			if limit > 0 {
				r.Int(int64(min(limit, len(common))))
			} else {
				r.Int(int64(len(common)))
			}
		}, slices.Concat([]string{"ZINTERCARD"}, args, []string{"LIMIT", strconv.Itoa(limit)})...)
		stored := rapid.SampledFrom([]struct {
			command string
			list    naiveSet
			tail    []string
		}{{"ZUNIONSTORE", all, tail}, {"ZINTERSTORE", common, tail}, {"ZDIFFSTORE", inFirst, nil}}).Draw(t, "store")
		p.want(func(r *Recording) { r.Int(int64(len(stored.list))) }, slices.Concat([]string{stored.command, "k0"}, args, stored.tail)...)
		p.want(func(r *Recording) { listPairs(r, len(stored.list) == 0, stored.list) }, "ZRANGE", "k0", "0", "-1", "WITHSCORES")
	})
}

// TestZscanVisitsWhatStays: a member that is there from the first call to the last is returned, however many
// come, go and change their scores meanwhile, and whichever replica answers.
func TestZscanVisitsWhatStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(t)
		stays, seen := 50, map[string]bool{}
		for i := range stays {
			p.do("ZADD", "k", strconv.Itoa(i), fmt.Sprintf("stays%d", i))
		}
		for cursor := "0"; ; {
			w := p.a
			if rapid.Bool().Draw(t, "other replica") {
				w = p.b
			}
			task := w.task([]string{"ZSCAN", "k", cursor, "COUNT", "5"})
			w.p.Query(w.now, 0, task)
			c := task.Reply.(*Recording).Cursor()
			c.Next()
			cursor = string(c.Next().Bytes)
			for n := c.Next().Int; n > 0; n -= 2 {
				seen[string(c.Next().Bytes)] = true
				c.Next()
			}
			if cursor == "0" {
				break
			}
			args := []string{"ZADD", "k"}
			for range rapid.IntRange(1, 200).Draw(t, "come") {
				args = append(args, "1", fmt.Sprintf("m%d", rapid.IntRange(0, 2000).Draw(t, "name")))
			}
			p.do(append(args, "1000", "stays7")...)
			if rapid.Bool().Draw(t, "shrink") {
				args = []string{"ZREM", "k"}
				for i := range 2000 {
					args = append(args, fmt.Sprintf("m%d", i))
				}
				p.do(args...)
			}
		}
		for i := range stays {
			if !seen[fmt.Sprintf("stays%d", i)] {
				t.Fatalf("stays%d was not visited", i)
			}
		}
	})
}

// TestZrandmemberDrawsFairly: with either way of drawing, each of 40 members has the same chance, and a
// positive count never returns one twice.
func TestZrandmemberDrawsFairly(t *testing.T) {
	w := newWorld(t)
	for i := range 40 {
		w.do("ZADD", "k", strconv.Itoa(i), fmt.Sprint(i))
	}
	for _, count := range []int{1, 3, 20, 39, 40, -5} {
		const rounds = 4000
		drawn := map[string]int{}
		for range rounds {
			task := w.task([]string{"ZRANDMEMBER", "k", strconv.Itoa(count)})
			w.seed++
			w.p.Query(w.now, w.seed, task)
			c, once := task.Reply.(*Recording).Cursor(), map[string]bool{}
			for n := c.Next().Int; n > 0; n-- {
				m := string(c.Next().Bytes)
				if count > 0 && once[m] {
					t.Fatalf("count %d drew %s twice", count, m)
				}
				once[m] = true
				drawn[m]++
			}
		}
		want := float64(rounds) * math.Abs(float64(count)) / 40
		for i := range 40 {
			// Six standard deviations: the seeds are fixed, so this either holds or it does not.
			if got := float64(drawn[fmt.Sprint(i)]); math.Abs(got-want) > 6*math.Sqrt(want) {
				t.Errorf("count %d: %d was drawn %v times, not about %v", count, i, got, want)
			}
		}
	}
}

// TestFactsOfSortedSets: MaxItems is never less than what a call may return, whatever tricks its arguments play.
func TestFactsOfSortedSets(t *testing.T) {
	const unbounded = math.MaxInt64
	tests := []struct {
		call string
		want int64
	}{
		{"ZRANGE k 0 9", 10},
		{"ZRANGE k -10 -1", 10},
		{"ZRANGE k 0 -1", unbounded},
		{"ZRANGE k 0 9223372036854775807", unbounded},
		{"ZRANGE k -9223372036854775808 -1", unbounded},
		{"ZRANGE k 5 2", 0},
		{"ZRANGE k 0 9 BYSCORE", unbounded},
		{"ZRANGE k 0 9 BYSCORE LIMIT 0 7", 7},
		{"ZRANGE k 0 9 BYSCORE LIMIT 0 7 LIMIT 0 -1", unbounded},
		{"ZRANGE k 0 9 LIMIT 0 7 BYSCORE LIMIT 0 8", 8},
		{"ZRANGEBYSCORE k 0 9", unbounded},
		{"ZREVRANGEBYLEX k + - limit 2 3", 3},
		{"ZPOPMIN k", 1},
		{"ZPOPMAX k 12", 12},
		{"ZMPOP 1 k MIN", 1},
		{"ZMPOP 1 k MIN COUNT 50", 50},
		{"ZMPOP 3 a COUNT 1 MIN COUNT 50", 50},
		{"ZRANDMEMBER k", 1},
		{"ZRANDMEMBER k -7", 7},
		{"ZRANDMEMBER k -9223372036854775808", unbounded},
		{"ZSCAN k 0", 10},
		{"ZSCAN k 0 COUNT 1 COUNT 500", 500},
		{"ZUNION 1 k", unbounded},
		{"ZSCORE k m", -1},
		{"LEADERBOARD.PAGE k DESC 0 25", 25},
		{"LEADERBOARD.AROUND k DESC m 3 4", 8},
		{"LEADERBOARD.AMONG k DESC a b", 2},
		{"LEADERBOARD.LIST 0 COUNT 5", 5},
		{"LEADERBOARD.GET k DESC m", -1},
	}
	for _, tt := range tests {
		call := newWorld(t).task(strings.Fields(tt.call)).Calls[0]
		if got := call.Command.FactsOf(call.Args, start).MaxItems; got != tt.want {
			t.Errorf("%s: at most %d items, want %d", tt.call, got, tt.want)
		}
	}
}

func TestRightsOfSortedSets(t *testing.T) {
	tests := []struct{ call, want string }{
		{"ZADD k 1 m", "cache:SortedSetWrite k"},
		{"ZADD k NX INCR 1 m", "cache:SortedSetWrite k, cache:SortedSetRead k"},
		{"ZADD k 1 INCR", "cache:SortedSetWrite k"},
		{"ZINCRBY k 1 m", "cache:SortedSetWrite k, cache:SortedSetRead k"},
		{"ZPOPMIN k", "cache:SortedSetWrite k, cache:SortedSetRead k"},
		{"ZMPOP 2 a b MIN", "cache:SortedSetWrite a, cache:SortedSetWrite b, cache:SortedSetRead a, cache:SortedSetRead b"},
		{"ZMPOP 9 a b MIN", "cache:SortedSetWrite "},
		{"ZRANGESTORE d s 0 -1", "cache:SortedSetWrite d, cache:SortedSetRead s"},
		{"ZUNION 2 a b WITHSCORES", "cache:SortedSetRead a, cache:SortedSetRead b"},
		{"ZUNIONSTORE d 2 a b WEIGHTS 1 2", "cache:SortedSetWrite d, cache:SortedSetRead a, cache:SortedSetRead b"},
		{"LEADERBOARD.PUT b MAX 1 m", "leaderboard:Upsert b"},
		{"LEADERBOARD.PUT b increment 1 m", "leaderboard:Increment b"},
		{"LEADERBOARD.PAGE b DESC 0 1", "leaderboard:FetchByRank b"},
		{"LEADERBOARD.PAGE b DESC 0 1 SCORE 1 2", "leaderboard:FetchByScore b"},
		{"LEADERBOARD.LIST 0", "leaderboard:List "},
	}
	for _, tt := range tests {
		call := newWorld(t).task(strings.Fields(tt.call)).Calls[0]
		var got []string
		for _, r := range call.Command.AppendRights(nil, call.Args) {
			got = append(got, r.Action+" "+string(r.Name))
			wanted := OnKey
			switch {
			case r.Name == nil:
				wanted = OnCache
			case strings.HasPrefix(r.Action, "leaderboard:"):
				wanted = OnLeaderboard
			}
			if r.On != wanted {
				t.Errorf("%s: %s on %d", tt.call, r.Action, r.On)
			}
		}
		if list := strings.Join(got, ", "); list != tt.want {
			t.Errorf("%s needs %s, want %s", tt.call, list, tt.want)
		}
	}
}

// TestClonesAreApart: what happens to a copy does not reach the original, in either form.
func TestClonesAreApart(t *testing.T) {
	for _, n := range []int{100, 300} {
		w := newWorld(t)
		w.do("LEADERBOARD.CREATE", "a", "TIES", "LAST", "KEEP", "300", "DESC")
		for i := range n {
			w.do("ZADD", "a", strconv.Itoa(i%7), fmt.Sprint(i))
		}
		set := func(key string) *sortedSet {
			return w.p.caches[testCache].dbs[0].find([]byte(key)).value.(*sortedSet)
		}
		before := set("a").encode(nil)
		w.do("COPY", "a", "b")
		w.p.looked = look{}
		if string(set("b").encode(nil)) != string(before) {
			t.Error("the clone differs")
		}
		w.do("ZADD", "b", "3", "new")
		w.do("ZREM", "b", "5", "6", "7")
		w.do("LEADERBOARD.CREATE", "b", "KEEP", "1", "ASC")
		w.p.looked = look{}
		if string(set("a").encode(nil)) != string(before) {
			t.Error("the original changed with its clone")
		}
	}
}

// TestReadsOfOneMemberAllocateNothing is a promise to the hot path.
func TestReadsOfOneMemberAllocateNothing(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("a name that is longer than the compiler's buffers ", 3)
	for i := range 1000 {
		w.do("ZADD", "k", strconv.Itoa(i%100), fmt.Sprintf("%s%d", long, i))
	}
	member := long + "500"
	for _, args := range [][]string{
		{"ZSCORE", "k", member}, {"ZRANK", "k", member}, {"ZREVRANK", "k", member}, {"ZCARD", "k"}, {"ZCOUNT", "k", "5", "(7"},
		{"LEADERBOARD.GET", "k", "DESC", member}, {"LEADERBOARD.GET", "k", "ASC", member},
		{"LEADERBOARD.AROUND", "k", "DESC", member, "3", "3"}, {"LEADERBOARD.PAGE", "k", "DESC", "10", "20"},
	} {
		task := w.task(args)
		r := task.Reply.(*Recording)
		w.p.Query(w.now, 0, task)
		if n := testing.AllocsPerRun(100, func() {
			r.Reset()
			w.p.Query(w.now, 0, task)
		}); n != 0 {
			t.Errorf("%s: %v allocations", args[0], n)
		}
	}
}

// fillSet makes a set of n members with 16-byte names under a key and returns the names. Scores are random, of so
// many different values; with ties, a board ranks equal scores by arrival.
func fillSet(p *Partition, key string, n, values int, ties bool) []string {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	if ties {
		p.Apply(&Entry{Now: start, Tasks: []*Task{hashTask("LEADERBOARD.CREATE", key, "TIES", "FIRST")}})
	}
	names := make([]string, n)
	args := []string{"ZADD", key}
	for i := range names {
		names[i] = fmt.Sprintf("member%010d", i)
		if args = append(args, strconv.Itoa(r.IntN(values)), names[i]); len(args) > 200 || i == n-1 {
			p.Apply(&Entry{Now: start, Tasks: []*Task{hashTask(args...)}})
			args = args[:2]
		}
	}
	return names
}

// TestAccountOfASortedSet holds the account against the memory taken: that of the store, and of Go's heap, where the
// indexes of tables of a few hundred records lie.
func TestAccountOfASortedSet(t *testing.T) {
	if testing.Short() {
		t.Skip("fills the heap")
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	for _, tt := range []struct {
		size int
		ties bool
	}{{1, false}, {20, false}, {20, true}, {100, false}, {200, false}, {200, true}, {1000, false}, {200_000, false}, {200_000, true}} {
		sets := max(1, 200_000/tt.size)
		p := hashWorld(t, 0, 0)
		fillSet(p, "warm", 200, 10, true)
		p.Apply(&Entry{Now: start, Tasks: []*Task{hashTask("DEL", "warm")}})
		for p.Maintain(1000) {
		}
		before, taken := heap(), p.Memory().All
		for i := range sets {
			fillSet(p, fmt.Sprint("key:", i), tt.size, 1<<20, tt.ties)
		}
		for p.Maintain(1000) {
		}
		took := heap() - before + p.Memory().All - taken
		accounted := p.caches[testCache].used
		n := int64(sets * tt.size)
		t.Logf("%d sets of %d, ties %v: %d bytes a member, accounted %d; %d of them on the heap", sets, tt.size, tt.ties, took/n, accounted/n, (heap()-before)/n)
		if !accountsFor(accounted, took) {
			t.Errorf("%d sets of %d, ties %v: %d bytes are accounted, %d taken", sets, tt.size, tt.ties, accounted, took)
		}
		p.Apply(&Entry{Now: start, Tasks: []*Task{hashTask("DEL", "key:0")}})
		for p.Maintain(1000) {
		}
		if err := p.check(); err != nil && sets < 2 {
			t.Error(err)
		}
		runtime.KeepAlive(p)
	}
}
