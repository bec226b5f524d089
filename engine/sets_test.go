package engine

import (
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// members reads what a command replied about members, sorted; with a cursor, what stands after it.
func (w *world) members(args ...string) (cursor string, list []string) {
	w.t.Helper()
	task := w.task(args)
	if task.Writes() {
		w.apply(task)
	} else {
		w.seed++
		w.p.Query(w.now, w.seed, task)
	}
	c := task.Reply.(*Recording).Cursor()
	top := c.Next()
	if args[0] == "SSCAN" {
		cursor = string(c.Next().Bytes)
		top = c.Next()
	}
	for range top.Int {
		list = append(list, string(c.Next().Bytes))
	}
	slices.Sort(list)
	return cursor, list
}

// TestModelSet compares the commands on three keys with maps: sets small and large, time that passes, atomic tasks
// that are taken back, and two replicas.
func TestModelSet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := newPair(t)
		model, deadline := map[string]map[string]bool{}, map[string]int64{}
		keys := []string{"k", "l", "m"}
		key := rapid.SampledFrom(keys)
		names := rapid.SampledFrom([]int{4, smallHash, 3 * smallHash}).Draw(t, "names")
		name := rapid.Map(rapid.IntRange(0, names), func(n int) string { return fmt.Sprint("m", n) })
		sorted := func(set map[string]bool) (list []string) {
			for m := range set {
				list = append(list, m)
			}
			slices.Sort(list)
			return list
		}
		flag := map[bool]string{false: "0", true: "1"}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			for _, k := range keys {
				if len(model[k]) == 0 {
					delete(model, k)
					delete(deadline, k)
				}
				if at := deadline[k]; at != 0 && at <= p.a.now {
					delete(model, k)
					delete(deadline, k)
				}
			}
			same := func(want string, args ...string) {
				t.Helper()
				if got := p.do(args...); got != want {
					t.Fatalf("%.300q\n got %.500s\nwant %.500s", args, got, want)
				}
			}
			// list runs a command on both replicas and returns the members it answers with.
			list := func(args ...string) []string {
				t.Helper()
				_, a := p.a.members(args...)
				_, b := p.b.members(args...)
				if !slices.Equal(a, b) || p.a.p.Digest() != p.b.p.Digest() {
					t.Fatalf("%q: replicas differ", args)
				}
				return a
			}
			k, m := key.Draw(t, "key"), name.Draw(t, "name")
			switch op := rapid.SampledFrom([]string{"add", "add", "add", "rem", "ask", "pop", "draw", "move", "combine", "store",
				"undone", "undone", "expire", "wait"}).Draw(t, "op"); op {
			case "add", "rem":
				many := rapid.SliceOfN(name, 1, rapid.SampledFrom([]int{2, 200}).Draw(t, "many")).Draw(t, "members")
				changed := 0
				for _, m := range many {
					if op == "add" && model[k] == nil {
						model[k] = map[string]bool{}
					}
					if model[k][m] != (op == "add") {
						changed++
					}
					if op == "add" {
						model[k][m] = true
					} else {
						delete(model[k], m)
					}
				}
				same(strconv.Itoa(changed), append([]string{"S" + strings.ToUpper(op), k}, many...)...)
			case "ask":
				same(flag[model[k][m]], "SISMEMBER", k, m)
				same("["+flag[model[k][m]]+" 0]", "SMISMEMBER", k, m, "stranger")
				same(strconv.Itoa(len(model[k])), "SCARD", k)
				if got, want := list("SMEMBERS", k), sorted(model[k]); !slices.Equal(got, want) {
					t.Fatalf("members %v, want %v", got, want)
				}
			case "pop":
				n := rapid.IntRange(0, names+5).Draw(t, "count")
				popped := list("SPOP", k, strconv.Itoa(n))
				if len(popped) != min(n, len(model[k])) {
					t.Fatalf("SPOP %d of %d gave %d", n, len(model[k]), len(popped))
				}
				for _, m := range popped {
					if !model[k][m] {
						t.Fatalf("SPOP gave %q", m)
					}
					delete(model[k], m)
				}
			case "draw":
				n := rapid.IntRange(-20, names+5).Draw(t, "count")
				drawn := list("SRANDMEMBER", k, strconv.Itoa(n))
				want := min(max(n, -n), len(model[k]))
				if n < 0 && len(model[k]) > 0 {
					want = -n
				}
				if len(drawn) != want || (n > 0 && len(slices.Compact(slices.Clone(drawn))) != want) {
					t.Fatalf("SRANDMEMBER %d of %d gave %v", n, len(model[k]), drawn)
				}
				for _, m := range drawn {
					if !model[k][m] {
						t.Fatalf("SRANDMEMBER gave %q", m)
					}
				}
			case "move":
				to := key.Draw(t, "to")
				there := model[k][m]
				if there {
					delete(model[k], m)
					if model[to] == nil {
						model[to] = map[string]bool{}
					}
					model[to][m] = true
				}
				same(flag[there], "SMOVE", k, to, m)
			case "combine", "store":
				how := rapid.SampledFrom([]string{"SINTER", "SUNION", "SDIFF"}).Draw(t, "how")
				from := rapid.SliceOfN(key, 1, 4).Draw(t, "from")
				result := map[string]bool{}
				for n := range names + 1 {
					m, in := fmt.Sprint("m", n), 0
					for _, k := range from {
						if model[k][m] {
							in++
						}
					}
					if how == "SINTER" && in == len(from) || how == "SUNION" && in > 0 || how == "SDIFF" && in == 1 && model[from[0]][m] {
						result[m] = true
					}
				}
				if op == "combine" {
					if got, want := list(append([]string{how}, from...)...), sorted(result); !slices.Equal(got, want) {
						t.Fatalf("%s %v: %v, want %v", how, from, got, want)
					}
					if how == "SINTER" {
						limit := rapid.IntRange(0, 5).Draw(t, "limit")
						want := len(result)
						if limit > 0 {
							want = min(want, limit)
						}
						args := append([]string{"SINTERCARD", strconv.Itoa(len(from))}, from...)
						same(strconv.Itoa(want), append(args, "LIMIT", strconv.Itoa(limit))...)
					}
					break
				}
				model[k] = result
				delete(deadline, k)
				same(strconv.Itoa(len(result)), append([]string{how + "STORE", k}, from...)...)
			case "undone":
				var commands [][]string
				for range rapid.IntRange(1, 8).Draw(t, "commands") {
					m, other := name.Draw(t, "name"), key.Draw(t, "other")
					commands = append(commands, rapid.SampledFrom([][]string{
						{"SADD", k, m, m + "x", m + "y"}, {"SREM", k, m}, {"SPOP", k, "100"}, {"SPOP", k}, {"SMOVE", k, other, m},
						{"SUNIONSTORE", k, k, other}, {"SDIFFSTORE", k, k, other}, {"DEL", k}, {"PEXPIRE", k, "7"}, {"COPY", k, "copy", "REPLACE"},
					}).Draw(t, "command"))
				}
				p.undone(commands...)
			case "expire":
				ms := rapid.IntRange(1, 20).Draw(t, "ms")
				if p.do("PEXPIRE", k, strconv.Itoa(ms)) == "1" {
					deadline[k] = p.a.now + int64(ms)
				}
			case "wait":
				p.wait(rapid.Int64Range(1, 10).Draw(t, "ms"))
			}
		}
	})
}

// TestSscanVisitsWhatStays lets members come and go between the steps of a scan.
func TestSscanVisitsWhatStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		var staying []string
		for i := range rapid.IntRange(1, 3*smallHash).Draw(t, "staying") {
			staying = append(staying, fmt.Sprint("s", i))
		}
		w.do(append([]string{"SADD", "k"}, staying...)...)
		seen, guests := map[string]bool{}, 0
		for cursor := "0"; ; {
			var list []string
			cursor, list = w.members("SSCAN", "k", cursor, "COUNT", strconv.Itoa(rapid.IntRange(1, 50).Draw(t, "count")))
			for _, m := range list {
				seen[m] = true
			}
			if cursor == "0" {
				break
			}
			for range rapid.IntRange(0, 30).Draw(t, "changes") {
				if guests == 0 || rapid.Bool().Draw(t, "add") {
					w.do("SADD", "k", fmt.Sprint("g", guests))
					guests++
				} else {
					w.do("SREM", "k", fmt.Sprint("g", rapid.IntRange(0, guests-1).Draw(t, "guest")))
				}
			}
		}
		for _, m := range staying {
			if !seen[m] {
				t.Fatalf("%s was never visited", m)
			}
		}
	})
}

func TestSpopAndSrandmemberDrawFairly(t *testing.T) {
	for _, command := range []string{"SPOP", "SRANDMEMBER"} {
		w, drawn := newWorld(t), map[string]int{}
		for range 2000 {
			w.do("SADD", "k", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
			_, list := w.members(command, "k", "3")
			for _, m := range list {
				drawn[m]++
			}
		}
		for m, times := range drawn { // 600 each; the deviation is about 20
			if times < 500 || times > 700 {
				t.Errorf("%s: %s was drawn %d times of 2000", command, m, times)
			}
		}
	}
}

// TestReadsOfSetsAllocateNothing is a promise to the hot path.
func TestReadsOfSetsAllocateNothing(t *testing.T) {
	w := newWorld(t)
	long := strings.Repeat("a name that is longer than the compiler's buffers ", 3)
	for i := range 1000 {
		w.do("SADD", "k", fmt.Sprint(long, i))
	}
	w.do("SADD", "small", long+"1", long+"2", long+"500")
	for _, args := range [][]string{{"SCARD", "k"}, {"SISMEMBER", "k", long + "500"}, {"SISMEMBER", "small", long + "500"}, {"SMISMEMBER", "k", long + "1", "x"}, {"SMEMBERS", "k"}} {
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

// TestAccountOfASet holds the account against the heap. It is an estimate, which must not be far off.
func TestAccountOfASet(t *testing.T) {
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
	for _, members := range []int{1, 10, 100, 1000, 150_000} {
		sets := make([]*setValue, max(1, 20_000/members))
		before, accounted := heap(), int64(0)
		for i := range sets {
			sets[i] = &setValue{}
			for j := range members {
				sets[i].add(nil, fmt.Appendf(nil, "member%010d", j))
			}
			accounted += sets[i].bytes()
		}
		took := heap() - before
		t.Logf("%d sets of %d members: %d bytes each, accounted %d", len(sets), members, took/int64(len(sets)), accounted/int64(len(sets)))
		if ratio := float64(accounted) / float64(took); ratio < 0.7 || ratio > 1.4 {
			t.Errorf("%d sets of %d members: %d bytes are accounted, %d taken", len(sets), members, accounted, took)
		}
		runtime.KeepAlive(sets)
	}
}

// TestSetsAnswerAsRedis: see redisTwin. What comes in no order is compared by its length, then sorted.
func TestSetsAnswerAsRedis(t *testing.T) {
	r := newRedisTwin(t)
	key := func() string { return r.pick("a", "b", "c", "s", "none") }
	member := func() string { return r.pick("x", "y", "z", "", "12", "-1", strconv.Itoa(r.IntN(300))) }
	inOrder := func(s string) string {
		list := strings.Fields(s)
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	unordered := func(args ...string) {
		if ours, theirs := r.answers(args...); inOrder(ours) != inOrder(theirs) {
			t.Errorf("%.200q\n got %.500s\nwant %.500s", args, ours, theirs)
		}
	}
	keys := func() []string { return []string{key(), key(), key()}[:1+r.IntN(3)] }
	for i := range 40000 {
		if i%400 == 0 {
			r.same("FLUSHALL")
			r.same("SET", "s", "x")
		}
		switch k := key(); r.IntN(13) {
		case 0, 1, 2:
			args := []string{r.pick("SADD", "SADD", "SREM"), k}
			for range 1 + r.IntN(1<<r.IntN(6)) {
				args = append(args, member())
			}
			r.same(args...)
		case 3:
			r.same(r.pick("SCARD", "TYPE"), k)
		case 4:
			r.same("SISMEMBER", k, member())
		case 5:
			r.same("SMISMEMBER", k, member(), member())
		case 6:
			unordered(r.pick("SMEMBERS"), k)
		case 7:
			r.same("SMOVE", k, key(), member())
		case 8:
			unordered(append([]string{r.pick("SINTER", "SUNION", "SDIFF")}, keys()...)...)
		case 9:
			if r.IntN(3) == 0 {
				r.same(append([]string{r.pick("SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"), r.pick("a", "b", "c")}, keys()...)...)
			}
		case 10:
			args := append([]string{"SINTERCARD", r.pick("1", "2", "2", "3", "0", "x")}, keys()...)
			r.same(append(args, r.some("LIMIT "+r.pick("0", "1", "5", "-1", "x"), "LIMIT", "X 1")...)...)
		case 12: // plain sets among sorted ones
			if r.IntN(3) == 0 {
				r.same("DEL", "z")
				r.same("ZADD", "z", "2", "x", "3", "y", "-1", member())
			}
			args := []string{r.pick("ZUNION", "ZINTER"), "2", k, r.pick("z", "z", "a")}
			r.same(append(append(args, r.some("WEIGHTS 2 3", "AGGREGATE "+r.pick("MIN", "MAX", "SUM"))...), "WITHSCORES")...)
			r.same("ZDIFF", "2", k, r.pick("z", "b"))
			r.same("ZINTERCARD", "2", r.pick("a", "z"), k)
		case 11: // chance differs, what goes wrong does not
			switch r.IntN(4) {
			case 0:
				r.same("SPOP", r.pick("nobody", "s"), r.pick("0", "1", "-1", "x"))
			case 1:
				r.same("SRANDMEMBER", r.pick("nobody", "s"), r.pick("0", "1", "x", "-9223372036854775808"))
			case 2:
				unordered("SPOP", k, "1000")
			case 3:
				unordered("SSCAN", "nobody", r.pick("0", "x"), r.pick("COUNT", "X"), r.pick("10", "0"))
			}
		}
	}
}
