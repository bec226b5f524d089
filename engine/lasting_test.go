package engine

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
)

// many is a call with n arguments made by each behind words.
func many(n int, each func(i int) []string, words ...string) []string {
	for i := range n {
		words = append(words, each(i)...)
	}
	return words
}

func numbers(prefix string) func(i int) []string {
	return func(i int) []string { return []string{prefix + strconv.Itoa(i)} }
}

// TestManyArgumentsRest: a reading of a command that is quick by nature rests when it is asked for very much at once.
func TestManyArgumentsRest(t *testing.T) {
	const n = 6 * restEvery
	w, _ := restingWorld(t, 2*restEvery)
	w.do("BF.ADD", "bloom", "e1")
	w.do("CF.ADD", "cuckoo", "e1")
	w.do("CMS.INITBYDIM", "cms", "10", "5")
	w.do("TOPK.RESERVE", "topk", "5")
	w.do("TDIGEST.CREATE", "digest")
	w.do("TDIGEST.ADD", "digest", "1", "2", "3")
	w.do("JSON.SET", "json", "$", "1")
	w.do("PFADD", "hll", "a", "b")
	fields := strconv.Itoa(n)
	for _, args := range [][]string{
		many(n, numbers("k"), "MGET"), many(n, numbers("k"), "EXISTS"), many(n, numbers("k"), "TOUCH"), many(n, numbers("f"), "HMGET", "hash"),
		many(n, numbers("e"), "SMISMEMBER", "set"), many(n, numbers("e"), "ZMSCORE", "zset"), many(n, numbers("e"), "GEOPOS", "zset"), many(n, numbers("e"), "GEOHASH", "zset"),
		many(n, numbers("e"), "BF.MEXISTS", "bloom"), many(n, numbers("e"), "CF.MEXISTS", "cuckoo"), many(n, numbers("e"), "CMS.QUERY", "cms"),
		many(n, numbers("e"), "TOPK.QUERY", "topk"), many(n, numbers("e"), "TOPK.COUNT", "topk"), many(n, numbers(""), "TDIGEST.CDF", "digest"),
		append(many(n, func(int) []string { return []string{"json"} }, "JSON.MGET"), "$"), many(n, numbers("f"), "HTTL", "hash", "FIELDS", fields),
		many(n, func(int) []string { return []string{"GET", "u8", "0"} }, "BITFIELD_RO", "k0"), many(n, func(int) []string { return []string{"hll"} }, "PFCOUNT"),
	} {
		do := func() string {
			task, out := w.task(args), &flat{}
			task.Reply = out
			w.p.Query(w.now, 1, task)
			return out.b.String()
		}
		w.p.SetRests(Rests{})
		want, rests := do(), 0
		w.p.SetRests(Rests{In: func(CacheID) { rests++ }})
		if got := do(); got != want {
			t.Errorf("%s answers otherwise when it rests", args[0])
		}
		if rests < n/restEvery-1 {
			t.Errorf("%s rests %d times", args[0], rests)
		}
	}
}

// whole is a transaction.
func (w *world) whole(reply Reply, calls ...[]string) *Task {
	task := w.task(calls...)
	task.Whole, task.Reply = true, reply
	return task
}

func repeated(n int, args ...string) (calls [][]string) {
	for range n {
		calls = append(calls, args)
	}
	return calls
}

// TestTransactionsThatReadRest: between their calls, too, and what they answer is of one moment.
func TestTransactionsThatReadRest(t *testing.T) {
	w, _ := restingWorld(t, 2*restEvery)
	w.do("SET", "text", strings.Repeat("x", 10_000))
	w.do("RPUSH", "short", "a", "b", "c")
	for _, calls := range [][][]string{
		repeated(3*restEvery, "GET", "k1"), repeated(300, "LRANGE", "list", "0", "99"), repeated(restEvery, "GET", "text"), repeated(50, "KEYS", "nothing*"),
		append(repeated(2000, "LRANGE", "short", "0", "-1"), repeated(2000, "HGET", "hash", "f1")...), repeated(10, "EVAL_RO", "for i = 1, 50000 do end", "0"),
	} {
		task := w.whole(&Recording{}, calls...)
		w.p.SetRests(Rests{})
		w.p.Query(w.now, 1, task)
		want := string(task.Reply.(*Recording).Bytes())
		rests := 0
		w.p.SetRests(Rests{In: func(CacheID) {
			if rests++; rests > 1000 {
				t.Fatalf("%q rests all the time", calls[0])
			}
		}})
		task = w.whole(&Recording{}, calls...)
		w.p.Query(w.now, 1, task)
		if got := string(task.Reply.(*Recording).Bytes()); got != want {
			t.Errorf("%q answers otherwise when it rests", calls[0])
		}
		if rests < 2 {
			t.Errorf("%d times %q rests %d times", len(calls), calls[0], rests)
		}
	}
}

// TestTransactionsThatWouldLast: what writes does not rest, and is not begun when others would have to wait for it.
func TestTransactionsThatWouldLast(t *testing.T) {
	w, _ := restingWorld(t, 2*restEvery)
	run := func(atomic bool, calls ...[]string) (answers string, task *Task) {
		task = w.whole(&Recording{}, append([][]string{{"SET", "k0", "new"}}, calls...)...)
		task.Atomic = atomic
		w.seed++
		w.p.Apply(&Entry{Now: w.now, Seed: w.seed, Tasks: []*Task{task}})
		if task.Failed < 0 || !atomic {
			if err := wellFormed(task.Reply.(*Recording), task.Done); err != nil {
				t.Fatal(err)
			}
		}
		return show(task.Reply.(*Recording)), task
	}
	for _, calls := range [][][]string{
		repeated(1000, "KEYS", "nothing*"), repeated(600, "SMEMBERS", "set"), repeated(600, "LRANGE", "list", "0", "-1"), repeated(200, "ZUNIONSTORE", "d", "1", "zset"),
		repeated(600, "XRANGE", "stream", "-", "+"), repeated(60, many(10_000, numbers("none"), "DEL")...), repeated(600, "HGETALL", "hash"),
	} {
		before := w.p.Digest()
		answers, task := run(false, calls...)
		if n := strings.Count(answers, "nothing was done"); n != len(calls)+1 || task.Done != n {
			t.Errorf("%d times %q: %d refusals: %.200q", len(calls), calls[0][0], n, answers)
		}
		if w.p.Digest() != before {
			t.Errorf("%q was refused, and changed something", calls[0][0])
		}
		if _, task := run(true, calls...); task.Failed != 0 {
			t.Errorf("%q: an atomic task fails at %d", calls[0][0], task.Failed)
		}
	}
	for _, calls := range [][][]string{
		repeated(1000, "LRANGE", "list", "0", "9"), repeated(20, "SMEMBERS", "set"), repeated(20_000, "SET", "k1", "v"), repeated(1000, "ZRANGE", "zset", "0", "20", "WITHSCORES"),
		{{"LRANGE", "list", "0", "-1"}, {"DEL", "list"}}, repeated(2000, "HSET", "hash", "f1", "v"), repeated(1000, "SADD", "set", "e1", "e2", "e3"),
	} {
		if answers, task := run(false, calls...); strings.Contains(answers, "nothing was done") || task.Done != len(calls)+1 {
			t.Errorf("%d times %q: %.200q", len(calls), calls[0], answers)
		}
	}
	w.check()
}

// TestScriptsOfATransaction: of what they take only they tell, on the way.
func TestScriptsOfATransaction(t *testing.T) {
	w := newWorld(t)
	calls := append(repeated(40, "EVAL", "for i = 1, 200000 do end return 1", "0"), []string{"SET", "k", "v"})
	task := w.whole(&Recording{}, calls...)
	w.p.Apply(&Entry{Now: w.now, Seed: 1, Tasks: []*Task{task}})
	out := show(task.Reply.(*Recording))
	if n := strings.Count(out, "took as long as a transaction may"); n < 10 || n > 39 {
		t.Errorf("%d refusals: %.300s", n, out)
	}
	if got := w.do("GET", "k"); got != `"v"` {
		t.Errorf("what is quick is done behind them: %s", got)
	}
}

// TestBriefTasks: one that must not hold others up ends where a reading becomes long, and leaves no trace of that.
func TestBriefTasks(t *testing.T) {
	w, _ := restingWorld(t, 2*restEvery)
	w.p.SetRests(Rests{In: func(CacheID) { t.Error("it rests") }})
	query := func(calls ...[]string) (*Task, string) {
		out := &Recording{}
		task := w.task(calls...)
		task.Reply, task.Brief = out, true
		w.p.Query(w.now, 1, task)
		if err := wellFormed(out, task.Done); err != nil {
			t.Fatal(err)
		}
		return task, show(out)
	}
	for _, args := range append(longReadings, many(3*restEvery, numbers("k"), "MGET")) {
		if task, out := query(args); !task.Lasts || task.Done != 0 || out != "" {
			t.Errorf("%q: %v, %d done: %.100s", args[0], task.Lasts, task.Done, out)
		}
		task, out := query([]string{"GET", "k1"}, []string{"LRANGE", "list", "0", "1"}, args, []string{"GET", "k1"})
		if task.Lasts || task.Done != 2 || out != "\"v\"\n[\"e0\" \"e1\"]" {
			t.Errorf("%q behind others: %v, %d done: %.100s", args[0], task.Lasts, task.Done, out)
		}
	}
	if task, out := query([]string{"LRANGE", "list", "0", "1"}); task.Lasts || task.Done != 1 || out != `["e0" "e1"]` {
		t.Errorf("a short one: %v, %d done: %.100s", task.Lasts, task.Done, out)
	}
	w.check()
}

// TestLasts: of tasks that write it is told before they are begun.
func TestLasts(t *testing.T) {
	w, _ := restingWorld(t, 10*restEvery)
	for _, c := range []struct {
		args  []string
		lasts bool
	}{
		{[]string{"SET", "k", "v"}, false}, {[]string{"DEL", "set"}, false}, {[]string{"SPOP", "set", "10"}, false}, {[]string{"LPOP", "list"}, false},
		{[]string{"EVAL", "return 1", "0"}, false}, {[]string{"ZUNIONSTORE", "d", "1", "none"}, false}, {[]string{"SORT", "short", "STORE", "d"}, false},
		{[]string{"ZUNIONSTORE", "d", "1", "zset"}, true}, {[]string{"SPOP", "set", "100000"}, true}, {[]string{"LPOP", "list", "100000"}, true},
		{[]string{"ZPOPMIN", "zset", "100000"}, true}, {[]string{"LMPOP", "1", "list", "LEFT", "COUNT", "100000"}, true}, {[]string{"SORT", "set", "ALPHA", "STORE", "d"}, true},
		{many(100_000, numbers("k"), "DEL"), true}, {many(100_000, numbers("m"), "SADD", "s"), true}, {[]string{"COPY", "set", "d"}, true},
	} {
		if got := w.p.Lasts(w.task(c.args)); got != c.lasts {
			t.Errorf("%.60q: %v", c.args, got)
		}
	}
}

// TestCallsThatAreTooLong: what would take ten seconds and more is not begun, neither alone nor in a script.
func TestCallsThatAreTooLong(t *testing.T) {
	w, _ := restingWorld(t, 2*restEvery)
	w.do("SETRANGE", "bits", "10000000", "x")
	for _, args := range [][]string{
		many(10_000, func(int) []string { return []string{"bits"} }, "BITOP", "OR", "d"),
		many(50_000, func(int) []string { return []string{"set"} }, "SUNIONSTORE", "d"),
		many(50_000, func(int) []string { return []string{"zset"} }, "ZUNIONSTORE", "d", "50000"),
	} {
		if got := w.do(args...); !strings.HasPrefix(got, "(error) ERR this would take about ") {
			t.Errorf("%.40q: %.200s", args, got)
		}
	}
	for _, script := range []string{
		"local a = {'ZUNIONSTORE', 'd', 7000} for i = 1, 7000 do a[#a + 1] = KEYS[1] end return redis.call(unpack(a))",
		"local a = {'SUNIONSTORE', 'd'} for i = 1, 7000 do a[#a + 1] = KEYS[2] end return redis.pcall(unpack(a))",
	} {
		if got := w.do("EVAL", script, "2", "zset", "set"); !strings.Contains(got, "was stopped") {
			t.Errorf("%.40q: %.200s", script, got)
		}
	}
	if got := w.do("EXISTS", "d"); got != fmt.Sprint(0) {
		t.Errorf("d: %s", got)
	}
}

// TestLongReadingsOfDocumentsRest: on the way to what a path selects, and while it is written.
func TestLongReadingsOfDocumentsRest(t *testing.T) {
	w := newWorld(t)
	w.configure(Settings{MaxValue: 1 << 20})
	w.do("JSON.SET", "j", "$", "["+strings.Repeat(`{"a":1,"b":[1,2]},`, 30_000)+"1]")
	for _, args := range [][]string{{"JSON.GET", "j"}, {"JSON.GET", "j", "$..a"}, {"JSON.GET", "j", "$[?@.a==2]"}, {"JSON.GET", "j", "$..none"}, {"JSON.MGET", "j", "$[*].b"}} {
		do := func() string {
			task := w.task(args)
			w.p.Query(w.now, 1, task)
			return show(task.Reply.(*Recording))
		}
		w.p.SetRests(Rests{})
		want, rests := do(), 0
		w.p.SetRests(Rests{In: func(CacheID) {
			if rests++; rests == 3 {
				w.p.Query(w.now, 1, w.task([]string{"JSON.GET", "j", "$[0,1]"}))
			}
		}})
		if got := do(); got != want {
			t.Errorf("%q answers otherwise when it rests", args)
		}
		if rests < 5 {
			t.Errorf("%q rests %d times", args, rests)
		}
		w.p.SetRests(Rests{})
	}
}
