package engine

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A naiveBoard is a leaderboard as a reader can verify it: a slice, sorted anew for each question.
type naiveBoard struct {
	members    []contestant
	ties       tieRule
	keep       int
	keepOrder  order
	configured bool
	arrivals   int
	deadline   int64
}

type contestant struct {
	name    string
	score   float64
	arrived int // when the score was last changed
}

func (b *naiveBoard) exists() bool { return b.configured || len(b.members) > 0 }

// ranking is the succession in order o: by score, then by the tie rule, which is the same in both orders.
func (b *naiveBoard) ranking(o order) []contestant {
	list := slices.Clone(b.members)
	slices.SortFunc(list, func(x, y contestant) int {
		switch {
		case x.score != y.score && (x.score < y.score) == (o == ascending):
			return -1
		case x.score != y.score:
			return 1
		case b.ties == tiesFirst:
			return x.arrived - y.arrived
		case b.ties == tiesLast:
			return y.arrived - x.arrived
		}
		return strings.Compare(x.name, y.name)
	})
	return list
}

func (b *naiveBoard) find(name string) int {
	return slices.IndexFunc(b.members, func(c contestant) bool { return c.name == name })
}

// put gives name a score and says whether it was new or changed.
func (b *naiveBoard) put(mode putMode, name string, by float64) (score float64, added, changed bool) {
	i := b.find(name)
	if i < 0 {
		b.arrivals++
		b.members = append(b.members, contestant{name, by, b.arrivals})
		return by, true, false
	}
	old := b.members[i].score
	score = map[putMode]float64{putSet: by, putIncrement: old + by, putMax: max(old, by), putMin: min(old, by)}[mode]
	if score != old {
		b.arrivals++
		b.members[i].score, b.members[i].arrived = score, b.arrivals
	}
	return score, false, score != old
}

func (b *naiveBoard) trim(o order, n int) (removed int) {
	if list := b.ranking(o); len(list) > n {
		b.members, removed = list[:n], len(list)-n
	}
	return removed
}

// standing writes six elements for the member at index i of a ranking, counting for each what it says.
func (b *naiveBoard) standing(r *Recording, list []contestant, i int) {
	better, scores := 0, map[float64]bool{}
	for _, c := range list[:i] {
		if c.score != list[i].score {
			better++
			scores[c.score] = true
		}
	}
	r.Text(list[i].name)
	r.Double(list[i].score)
	r.Int(int64(i + 1))
	r.Int(int64(better + 1))
	r.Int(int64(len(scores) + 1))
	r.Double(100 * float64(len(list)-better) / float64(len(list)))
}

func (b *naiveBoard) page(r *Recording, total int, list []contestant, from, to int) {
	r.Array(2)
	r.Int(int64(total))
	r.Array(max(0, to-from))
	for i := from; i < to; i++ {
		r.Array(6)
		b.standing(r, list, i)
	}
}

// TestModelLeaderboard compares every command on boards of each tie rule with the naive twin, on two replicas,
// with time passing and with atomic tasks that are taken back.
func TestModelLeaderboard(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, b := newPair(t), &naiveBoard{}
		score := rapid.Map(rapid.IntRange(-6, 6), func(n int) float64 { return float64(n) / 2 })
		name := rapid.Map(rapid.IntRange(0, 199), func(n int) string { return fmt.Sprintf("m%d", n) })
		orders := rapid.SampledFrom([]order{descending, ascending})
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			if b.deadline != 0 && b.deadline <= p.a.now {
				*b = naiveBoard{}
			}
			existed := b.exists()
			o := orders.Draw(t, "order")
			list := b.ranking(o)
			switch op := rapid.SampledFrom([]string{"create", "put", "put", "put", "zadd", "get", "page", "scores", "around", "among", "remove",
				"trim", "pop", "expire", "wait", "delete", "undone"}).Draw(t, "op"); op {
			case "create":
				args := []string{"LEADERBOARD.CREATE", "b"}
				wanted := *b
				wanted.configured = true
				if rapid.Bool().Draw(t, "sets ties") {
					wanted.ties = tieRule(rapid.IntRange(0, int(numTieRules)-1).Draw(t, "ties"))
					args = append(args, "TIES", wanted.ties.String())
				}
				if rapid.IntRange(0, 3).Draw(t, "sets keep") == 0 {
					wanted.keep, wanted.keepOrder = rapid.IntRange(0, 60).Draw(t, "keep"), o
					args = append(args, "KEEP", strconv.Itoa(wanted.keep), o.String())
				}
				if wanted.ties != b.ties && len(b.members) > 0 {
					if got := p.do(args...); !strings.HasPrefix(got, "(error) ERR the board has ") {
						t.Fatal(got)
					}
					break
				}
				*b = wanted
				if b.keep > 0 {
					b.trim(b.keepOrder, b.keep)
				}
				p.want(b.info(p.a.now), args...)
			case "put":
				mode := putMode(rapid.IntRange(0, int(numPutModes)-1).Draw(t, "mode"))
				args := []string{"LEADERBOARD.PUT", "b", putModeNames[mode]}
				if ms := rapid.Int64Range(0, 20).Draw(t, "px"); ms > 0 {
					args = append(args, "PX", strconv.FormatInt(ms, 10))
					if !existed {
						b.deadline = p.a.now + ms
					}
				}
				var added, changed int64
				var scores []float64
				for range rapid.IntRange(1, 60).Draw(t, "pairs") {
					n, by := name.Draw(t, "name"), score.Draw(t, "score")
					args = append(args, scoreText(by), n)
					s, isNew, isChanged := b.put(mode, n, by)
					scores = append(scores, s)
					if isNew {
						added++
					}
					if isChanged {
						changed++
					}
				}
				if b.keep > 0 {
					b.trim(b.keepOrder, b.keep)
				}
				p.want(func(r *Recording) {
					r.Array(4)
					r.Int(added)
					r.Int(changed)
					r.Int(int64(len(b.members)))
					r.Array(len(scores))
					for _, s := range scores {
						r.Double(s)
					}
				}, args...)
			case "zadd":
				n, by := name.Draw(t, "name"), score.Draw(t, "score")
				s, _, _ := b.put(putIncrement, n, by)
				if b.keep > 0 {
					b.trim(b.keepOrder, b.keep)
				}
				p.want(func(r *Recording) { r.Double(s) }, "ZINCRBY", "b", scoreText(by), n)
			case "get":
				args := []string{"LEADERBOARD.GET", "b", o.String(), name.Draw(t, "name"), name.Draw(t, "name")}
				p.want(func(r *Recording) {
					r.Array(2)
					for _, n := range args[3:] {
						if i := slices.IndexFunc(list, func(c contestant) bool { return c.name == n }); i < 0 {
							r.Null()
						} else {
							r.Array(6)
							b.standing(r, list, i)
						}
					}
				}, args...)
			case "page":
				offset, limit := rapid.IntRange(0, 210).Draw(t, "offset"), rapid.IntRange(0, 80).Draw(t, "limit")
				p.want(func(r *Recording) {
					from := min(offset, len(list))
					b.page(r, len(list), list, from, min(from+limit, len(list)))
				}, "LEADERBOARD.PAGE", "b", o.String(), strconv.Itoa(offset), strconv.Itoa(limit))
			case "scores":
				low, high, outside := score.Draw(t, "low"), score.Draw(t, "high"), rapid.Bool().Draw(t, "outside")
				offset, limit := rapid.IntRange(0, 30).Draw(t, "offset"), rapid.IntRange(0, 80).Draw(t, "limit")
				sign := map[bool]string{true: "(", false: ""}[outside]
				from, total := 0, 0
				for i, c := range list {
					if c.score == low && outside || c.score < low || c.score > high {
						continue
					}
					if total == 0 {
						from = i
					}
					total++
				}
				p.want(func(r *Recording) {
					skip := min(offset, total)
					b.page(r, total, list, from+skip, from+skip+min(limit, total-skip))
				}, "LEADERBOARD.PAGE", "b", o.String(), strconv.Itoa(offset), strconv.Itoa(limit), "SCORE", sign+scoreText(low), scoreText(high))
			case "around":
				n, above, below := name.Draw(t, "name"), rapid.IntRange(0, 30).Draw(t, "above"), rapid.IntRange(0, 30).Draw(t, "below")
				p.want(func(r *Recording) {
					i := slices.IndexFunc(list, func(c contestant) bool { return c.name == n })
					if i < 0 {
						r.Null()
						return
					}
					b.page(r, len(list), list, max(0, i-above), min(len(list), i+below+1))
				}, "LEADERBOARD.AROUND", "b", o.String(), n, strconv.Itoa(above), strconv.Itoa(below))
			case "among":
				friends := rapid.SliceOfN(name, 1, 30).Draw(t, "friends")
				p.want(func(r *Recording) {
					var places []int
					for i, c := range list {
						if slices.Contains(friends, c.name) {
							places = append(places, i)
						}
					}
					r.Array(len(places))
					for k, i := range places {
						r.Array(7)
						b.standing(r, list, i)
						r.Int(int64(k + 1))
					}
				}, append([]string{"LEADERBOARD.AMONG", "b", o.String()}, friends...)...)
			case "remove":
				n := name.Draw(t, "name")
				i := b.find(n)
				if i >= 0 {
					b.members = slices.Delete(b.members, i, i+1)
				}
				p.want(func(r *Recording) { r.Int(int64(map[bool]int{true: 1, false: 0}[i >= 0])) }, "LEADERBOARD.REMOVE", "b", n)
			case "trim":
				n := rapid.IntRange(0, 150).Draw(t, "n")
				removed := b.trim(o, n)
				p.want(func(r *Recording) { r.Int(int64(removed)) }, "LEADERBOARD.TRIM", "b", o.String(), strconv.Itoa(n))
			case "pop": // the lowest in the order of the tree, which is ASC
				if list = b.ranking(ascending); len(list) > 0 {
					b.members = list[1:]
					p.want(func(r *Recording) { r.Array(2); r.Text(list[0].name); r.Double(list[0].score) }, "ZPOPMIN", "b")
				}
			case "expire":
				ms := rapid.Int64Range(0, 20).Draw(t, "ms")
				if b.deadline = p.a.now + ms; ms == 0 || !existed {
					b.deadline = 0
				}
				p.want(func(r *Recording) { r.Int(int64(map[bool]int{true: 1, false: 0}[existed])) }, "LEADERBOARD.EXPIRE", "b", strconv.FormatInt(ms, 10))
			case "wait":
				p.wait(rapid.Int64Range(1, 10).Draw(t, "ms"))
			case "delete":
				if rapid.IntRange(0, 3).Draw(t, "really") == 0 {
					p.do("LEADERBOARD.DELETE", "b")
					*b = naiveBoard{}
				}
			case "undone":
				var commands [][]string
				for range rapid.IntRange(1, 8).Draw(t, "commands") {
					n, s := name.Draw(t, "name"), scoreText(score.Draw(t, "score"))
					commands = append(commands, rapid.SampledFrom([][]string{
						{"LEADERBOARD.PUT", "b", "SET", s, n, "2", n + "x"}, {"LEADERBOARD.PUT", "b", "INCREMENT", "1", n}, {"ZADD", "b", s, n},
						{"LEADERBOARD.CREATE", "b", "KEEP", "5", o.String(), "PX", "3"}, {"LEADERBOARD.CREATE", "b"}, {"LEADERBOARD.DELETE", "b"},
						{"LEADERBOARD.TRIM", "b", o.String(), "7"}, {"LEADERBOARD.TRIM", "b", o.String(), "0"}, {"LEADERBOARD.EXPIRE", "b", "5"},
						{"LEADERBOARD.CREATE", "b", "TIES", "LAST"}, {"LEADERBOARD.REMOVE", "b", n}, {"ZUNIONSTORE", "b", "1", "b"},
						{"RENAME", "b", "c"}, {"COPY", "b", "c"},
					}).Draw(t, "command"))
				}
				p.undone(commands...)
			}
			if !b.exists() {
				*b = naiveBoard{}
			}
			p.want(b.info(p.a.now), "LEADERBOARD.INFO", "b")
		}
	})
}

func (b *naiveBoard) info(now int64) func(r *Recording) {
	return func(r *Recording) {
		if !b.exists() || b.deadline != 0 && b.deadline <= now {
			r.Null()
			return
		}
		r.Array(5)
		r.Int(int64(len(b.members)))
		if b.deadline == 0 {
			r.Int(-1)
		} else {
			r.Int(b.deadline - now)
		}
		r.Text(b.ties.String())
		r.Int(int64(b.keep))
		r.Text(b.keepOrder.String())
	}
}

// TestLeaderboardLimits: at the limit it works, one beyond it says so, and nothing has changed.
func TestLeaderboardLimits(t *testing.T) {
	w := newWorld(t)
	w.do("LEADERBOARD.PUT", "b", "SET", "1", "before")
	pairs := func(n int) (args []string) {
		for i := range n {
			args = append(args, strconv.Itoa(i), fmt.Sprintf("m%d", i))
		}
		return args
	}
	names := func(n int) []string { return slices.Repeat([]string{"m1"}, n) }
	long := func(n int) string { return strings.Repeat("x", n) }
	put := []string{"LEADERBOARD.PUT", "b", "SET"}
	tests := []struct {
		name string
		args []string
		want string // of the error; empty for none
	}{
		{"10,000 pairs", append(put, pairs(10_000)...), ""},
		{"one pair more", append(put, pairs(10_001)...), "at most 10000 members in a call, there are 10001"},
		{"the last score of 10,000 is bad", append(append(put, pairs(9_999)...), "x", "m"), "score number 10000 is not a finite number"},
		{"a member of 32 KiB", append(put, "1", long(32<<10)), ""},
		{"a member of a byte more", append(put, "1", long(32<<10+1)), "a member has at most 32768 bytes, one has 32769"},
		{"a board's name of a byte too much", []string{"LEADERBOARD.CREATE", long(32<<10 + 1)}, "max key size exceeded. Limit: 32768 bytes, Actual: 32769 bytes"},
		{"10,000 standings", append([]string{"LEADERBOARD.GET", "b", "DESC"}, names(10_000)...), ""},
		{"one standing more", append([]string{"LEADERBOARD.GET", "b", "DESC"}, names(10_001)...), "at most 10000 members in a call, there are 10001"},
		{"one friend too many", append([]string{"LEADERBOARD.AMONG", "b", "DESC"}, names(10_001)...), "at most 10000 members in a call, there are 10001"},
		{"one removal too many", append([]string{"LEADERBOARD.REMOVE", "b"}, names(10_001)...), "at most 10000 members in a call, there are 10001"},
		{"a page of 10,000", []string{"LEADERBOARD.PAGE", "b", "DESC", "0", "10000"}, ""},
		{"a page from beyond all", []string{"LEADERBOARD.PAGE", "b", "ASC", "9223372036854775807", "10000"}, ""},
		{"too much around", []string{"LEADERBOARD.AROUND", "b", "DESC", "m1", "5000", "5001"}, "below must be from 0 to 5000, is 5001"},
		{"a count of more than there are", []string{"LEADERBOARD.TRIM", "b", "DESC", "9223372036854775807"}, ""},
		{"a time that overflows", []string{"LEADERBOARD.EXPIRE", "b", "9223372036854775807"}, "ttl must be from 0 to 9223370236854775807, is 9223372036854775807"},
		{"no number at all", []string{"LEADERBOARD.PAGE", "b", "DESC", "zero", "1"}, "offset must be an integer from 0 to 9223372036854775807"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := w.p.Digest()
			got := w.do(tt.args...)
			if tt.want == "" {
				if strings.HasPrefix(got, "(error)") {
					t.Error(got)
				}
				return
			}
			if got != "(error) ERR "+tt.want {
				t.Errorf("got %.200s\nwant %s", got, tt.want)
			}
			if w.p.Digest() != before {
				t.Error("something changed")
			}
		})
	}
}

// TestLeaderboardListVisitsWhatStays, among keys of other types, expired boards and boards that come.
func TestLeaderboardListVisitsWhatStays(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.do("LEADERBOARD.CREATE", fmt.Sprintf("b:%d", i))
		w.do("ZADD", fmt.Sprintf("other:%d", i), "1", "m")
		w.do("SET", fmt.Sprintf("b:text%d", i), "x")
		w.do("LEADERBOARD.CREATE", fmt.Sprintf("b:gone%d", i), "PX", "1")
	}
	w.now++
	seen, calls := map[string]int{}, 0
	for cursor := "0"; ; calls++ {
		task := w.task([]string{"LEADERBOARD.LIST", cursor, "PREFIX", "b:", "COUNT", "7"})
		w.p.Query(w.now, 0, task)
		c := task.Reply.(*Recording).Cursor()
		c.Next()
		cursor = string(c.Next().Bytes)
		for n := c.Next().Int; n > 0; n -= 3 {
			seen[string(c.Next().Bytes)]++
			c.Next()
			c.Next()
		}
		w.do("LEADERBOARD.CREATE", fmt.Sprintf("b:new%d", calls))
		if cursor == "0" {
			break
		}
	}
	for i := range 100 {
		if n := seen[fmt.Sprintf("b:%d", i)]; n != 1 {
			t.Errorf("b:%d was visited %d times", i, n)
		}
	}
	for name := range seen {
		if strings.HasPrefix(name, "b:gone") || strings.HasPrefix(name, "b:text") || strings.HasPrefix(name, "other") {
			t.Errorf("%s is no board here", name)
		}
	}
	if calls < 5 {
		t.Errorf("%d calls: COUNT bounds nothing", calls)
	}
}

var hugeBoards = flag.Bool("huge", false, "benchmark boards of 10 million members as well")

// BenchmarkLeaderboard measures whole commands, argument parsing and reply included, on a board with random
// scores: nearly all of them different, or many equal. Run with -args -huge for 10 million members.
func BenchmarkLeaderboard(b *testing.B) {
	type shape struct{ size, values int }
	shapes := []shape{{1_000, math.MaxInt32}, {1_000_000, math.MaxInt32}, {1_000_000, 1_000}}
	if *hugeBoards {
		shapes = append(shapes, shape{10_000_000, math.MaxInt32})
	}
	for _, s := range shapes {
		b.Run(fmt.Sprintf("%d members of %d scores", s.size, min(s.size, s.values)), func(b *testing.B) {
			w := newWorld(b)
			names := fillSet(w.p, "k", s.size, s.values, true)
			r := rand.New(rand.NewPCG(3, 4))
			picked := make([]string, 1<<14)
			for i := range picked {
				picked[i] = names[r.IntN(len(names))]
			}
			run := func(name string, args func(member string, i int) []string) {
				b.Run(name, func(b *testing.B) {
					tasks := make([]*Task, len(picked))
					out := &Recording{}
					for i, member := range picked {
						tasks[i] = w.task(args(member, i))
						tasks[i].Reply = out
					}
					b.ReportAllocs()
					b.ResetTimer()
					for i := range b.N {
						out.Reset()
						if task := tasks[i%len(tasks)]; task.Writes() {
							w.p.Apply(&Entry{Now: w.now, Tasks: tasks[i%len(tasks) : i%len(tasks)+1]})
						} else {
							w.p.Query(w.now, 0, task)
						}
					}
				})
			}
			run("zscore", func(m string, _ int) []string { return []string{"ZSCORE", "k", m} })
			run("zrank", func(m string, _ int) []string { return []string{"ZRANK", "k", m} })
			run("get", func(m string, _ int) []string { return []string{"LEADERBOARD.GET", "k", "DESC", m} })
			run("page of 20", func(_ string, i int) []string {
				return []string{"LEADERBOARD.PAGE", "k", "DESC", strconv.Itoa(i * 7919 % s.size), "20"}
			})
			run("around 10", func(m string, _ int) []string { return []string{"LEADERBOARD.AROUND", "k", "DESC", m, "10", "10"} })
			run("increment", func(m string, _ int) []string { return []string{"LEADERBOARD.PUT", "k", "INCREMENT", "1", m} })
		})
	}
}
