package engine

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
)

// A gauge counts how many pieces of an answer come between two rests.
type gauge struct {
	discard
	n, most, all int
}

func (g *gauge) piece() {
	g.n++
	g.all++
	g.most = max(g.most, g.n)
}

func (g *gauge) Null()          { g.piece() }
func (g *gauge) Int(int64)      { g.piece() }
func (g *gauge) Double(float64) { g.piece() }
func (g *gauge) Bulk([]byte)    { g.piece() }
func (g *gauge) Text(string)    { g.piece() }

// restingWorld has collections of n elements, and a second cache.
func restingWorld(t *testing.T, n int) (*world, CacheID) {
	w := newWorld(t)
	w.checkEvery = 1 << 20
	other := CacheID{7}
	w.apply(ConfigureTask(other, Settings{}))
	fill := func(name string, each func(i int) []string) {
		args := []string{name, each(0)[0]}
		for i := range n {
			args = append(args, each(i)[1:]...)
		}
		w.apply(w.task(args))
	}
	fill("RPUSH", func(i int) []string { return []string{"list", "e" + strconv.Itoa(i)} })
	fill("SADD", func(i int) []string { return []string{"set", "e" + strconv.Itoa(i)} })
	fill("SADD", func(i int) []string { return []string{"set2", "e" + strconv.Itoa(2*i)} })
	fill("HSET", func(i int) []string { return []string{"hash", "f" + strconv.Itoa(i), strconv.Itoa(i)} })
	fill("ZADD", func(i int) []string { return []string{"zset", strconv.Itoa(i % 100), "e" + strconv.Itoa(i)} })
	fill("ZADD", func(i int) []string { return []string{"zset2", strconv.Itoa(i % 90), "e" + strconv.Itoa(3*i)} })
	for i := range n {
		w.apply(w.task([]string{"XADD", "stream", strconv.Itoa(i+1) + "-0", "f", "v"}))
	}
	fill("MSET", func(i int) []string {
		if i == 0 {
			return []string{"k0", "v"}
		}
		return []string{"", "k" + strconv.Itoa(i), "v"}
	})
	return w, other
}

// longReadings go over whole collections.
var longReadings = [][]string{
	{"SMEMBERS", "set"}, {"HGETALL", "hash"}, {"HKEYS", "hash"}, {"HVALS", "hash"}, {"LRANGE", "list", "0", "-1"}, {"ZRANGE", "zset", "0", "-1", "WITHSCORES"},
	{"ZREVRANGE", "zset", "0", "-1"}, {"SUNION", "set", "set2"}, {"SINTER", "set", "set2"}, {"SDIFF", "set", "set2"}, {"SUNION", "set", "set2", "set", "set2", "set", "set2"},
	{"SINTERCARD", "2", "set", "set2"}, {"ZUNION", "2", "zset", "zset2", "WITHSCORES"}, {"ZINTER", "2", "zset", "zset2"}, {"ZDIFF", "2", "zset", "zset2"},
	{"SORT_RO", "set", "ALPHA"}, {"SORT_RO", "zset", "ALPHA", "DESC"}, {"SORT_RO", "list", "BY", "nothing"}, {"KEYS", "*"}, {"SRANDMEMBER", "set", "100000"}, {"XRANGE", "stream", "-", "+"},
}

// TestLongReadingsRest: others read and write meanwhile, records of other caches come, go and are moved, and the answer is the
// one that it would have been.
func TestLongReadingsRest(t *testing.T) {
	const n = 6 * restEvery
	w, other := restingWorld(t, n)
	do := func(args []string) string {
		task, out := w.task(args), &flat{}
		task.Reply = out
		w.p.Query(w.now, 1, task)
		return out.b.String()
	}
	elsewhere := func(args ...string) {
		task := w.task(args)
		task.Cache = other
		w.seed++
		w.p.Apply(&Entry{Now: w.now, Seed: w.seed, Tasks: []*Task{task}})
	}
	want := map[string]string{}
	for _, args := range longReadings {
		want[fmt.Sprint(args)] = do(args)
	}
	digest := w.p.Digest()
	rests, depth, churn := 0, 0, 0
	w.p.SetRests(Rests{In: func(id CacheID) {
		if rests++; id != testCache {
			t.Fatalf("cache %v rests", id)
		}
		if depth > 0 {
			return
		}
		depth++
		defer func() { depth-- }()
		do([]string{"GET", "k1"})
		do([]string{"SRANDMEMBER", "set", "3"})
		do([]string{"ZRANGE", "zset", "5", "7"})
		if again := []string{"HKEYS", "hash"}; rests%16 == 1 && do(again) != want[fmt.Sprint(again)] {
			t.Errorf("a reading beside one that rests goes wrong")
		}
		for range 20 {
			churn++
			key := "x" + strconv.Itoa(churn%500)
			elsewhere("SET", key, string(make([]byte, 100+churn%3000)))
			elsewhere("DEL", "x"+strconv.Itoa(churn*7%500))
			elsewhere("SADD", "s", key)
		}
		w.p.Maintain(1000)
	}})
	for _, args := range longReadings {
		before := rests
		if got := do(args); got != want[fmt.Sprint(args)] {
			t.Errorf("%q rests, and answers otherwise", args)
		}
		if rests-before < 2 {
			t.Errorf("%q rests %d times", args, rests-before)
		}
	}
	elsewhere("FLUSHALL")
	if w.p.Digest() == digest {
		t.Error("the other cache is not in the digest")
	}
	for w.p.Maintain(1000) {
	}
	w.check()
	w.p.SetRests(Rests{})
	for _, args := range longReadings {
		if got := do(args); got != want[fmt.Sprint(args)] {
			t.Errorf("%q answers otherwise than before all rests", args)
		}
	}
}

// TestNothingLongGoesOnWithoutARest asks every command that reads, in the ways in which commands are asked for all of a
// collection, and holds it to so many pieces between two rests.
func TestNothingLongGoesOnWithoutARest(t *testing.T) {
	const n = 10 * restEvery
	w, _ := restingWorld(t, n)
	g := &gauge{}
	w.p.SetRests(Rests{In: func(CacheID) { g.n = 0 }})
	long := map[string]bool{}
	for _, cmd := range Commands() {
		if cmd.Flags&(Writes|Connection|Session|internal|Fast) != 0 || cmd.Group == GroupScripting {
			continue
		}
		for _, key := range []string{"list", "set", "hash", "zset", "stream"} {
			for _, rest := range [][]string{{key}, {key, "0", "-1"}, {key, "-1", "0"}, {key, "-inf", "+inf"}, {key, "+inf", "-inf"}, {key, "-", "+"}, {key, "+", "-"}, {key, "ALPHA"},
				{key, "100000"}, {key, "0", "COUNT", "100000"}, {"2", key, key}, {key, key}, {"STREAMS", key, "0"}, {"*"}} {
				args := append([]string{cmd.Name}, rest...)
				if cmd.CheckArity(len(args)) != nil {
					continue
				}
				task := w.task(args)
				*g = gauge{}
				task.Reply = g
				w.p.Query(w.now, 1, task)
				if g.all > n/2 {
					long[cmd.Name] = true
				}
				if g.most > 3*restEvery+100 { // an entry of a stream has three
					t.Errorf("%q answers with %d pieces without a rest", args, g.most)
				}
			}
		}
	}
	for _, name := range []string{"SMEMBERS", "HGETALL", "LRANGE", "ZRANGE", "ZRANGEBYLEX", "SUNION", "ZUNION", "KEYS"} {
		if !long[name] {
			t.Errorf("%s was asked for nothing long", name)
		}
	}
	if t.Failed() {
		t.Log(slices.Sorted(func(yield func(string) bool) {
			for name := range long {
				if !yield(name) {
					return
				}
			}
		}))
	}
}
