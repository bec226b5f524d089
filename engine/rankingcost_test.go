package engine

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestScorePointsAllocateNothing in either form, with ties and without, read or written.
func TestScorePointsAllocateNothing(t *testing.T) {
	p := hashWorld(t, 0, 0)
	for _, of := range []struct {
		key  string
		n    int
		ties bool
	}{{"s", 100, false}, {"l", 1000, false}, {"st", 100, true}, {"lt", 1000, true}} {
		fillSet(p, of.key, of.n, 50, of.ties)
		for _, args := range [][]string{
			{"ZSCORE", of.key, "member0000000007"}, {"ZRANK", of.key, "member0000000007"}, {"ZREVRANK", of.key, "none"}, {"ZCARD", of.key}, {"ZCOUNT", of.key, "3", "(20"},
			{"ZRANGE", of.key, "0", "9", "WITHSCORES"}, {"ZREVRANGE", of.key, "5", "25"}, {"ZRANGEBYSCORE", of.key, "10", "20", "LIMIT", "3", "4"},
			{"ZMSCORE", of.key, "member0000000003", "x"}, {"LEADERBOARD.GET", of.key, "DESC", "member0000000007"},
			{"LEADERBOARD.PAGE", of.key, "DESC", "3", "20"}, {"LEADERBOARD.AROUND", of.key, "ASC", "member0000000007", "3", "3"},
			{"ZINCRBY", of.key, "1", "member0000000007"}, {"ZADD", of.key, "7.5", "member0000000009"}, {"ZADD", of.key, "XX", "GT", "7", "member0000000009"},
			{"LEADERBOARD.PUT", of.key, "INCREMENT", "2", "member0000000011"},
		} {
			task := hashTask(args...)
			entry := &Entry{Now: start, Tasks: []*Task{task}}
			p.Apply(entry)
			limit := 0.0
			if args[0] == "LEADERBOARD.PUT" {
				limit = 1 // its scores
			}
			if n := testing.AllocsPerRun(200, func() {
				if task.Writes() {
					p.Apply(entry)
				} else {
					p.Query(start, 1, task)
				}
			}); n > limit {
				t.Errorf("%q allocates %v times", args, n)
			}
		}
		add, remove := hashTask("ZADD", of.key, "5", "new"), hashTask("ZREM", of.key, "new")
		entry := &Entry{Now: start, Tasks: []*Task{add, remove}}
		p.Apply(entry)
		if n := testing.AllocsPerRun(200, func() { p.Apply(entry) }); n != 0 {
			t.Errorf("%s: a member that comes and goes allocates %v times", of.key, n)
		}
	}
}

// TestSetsChangeTheirForm when they grow and shrink, and not back and forth at the edge.
func TestSetsChangeTheirForm(t *testing.T) {
	w := newWorld(t)
	form := func(key, want string) {
		t.Helper()
		if got := w.do("OBJECT", "ENCODING", key); got != `"`+want+`"` {
			t.Fatalf("%s is a %s, want %s", key, got, want)
		}
	}
	for i := range packedMembers {
		w.do("ZADD", "k", strconv.Itoa(i), fmt.Sprint(i))
	}
	form("k", "listpack")
	w.do("ZADD", "k", "5", "one more")
	form("k", "skiplist")
	w.do("ZREM", "k", "one more", "1", "2")
	form("k", "skiplist")
	w.do("ZREMRANGEBYRANK", "k", strconv.Itoa(packedScoresAgain+1), "-1")
	form("k", "skiplist")
	w.do("ZPOPMIN", "k")
	form("k", "listpack")
	w.do("ZADD", "k", "5", strings.Repeat("x", packedMember+1))
	form("k", "skiplist")
	w.do("ZADD", "k", "5", "short")
	form("k", "skiplist")
	w.do("ZREM", "k", strings.Repeat("x", packedMember+1), "short")
	form("k", "listpack")
	w.do("LEADERBOARD.CREATE", "b", "TIES", "FIRST", "KEEP", "200", "ASC")
	form("b", "listpack")
	for i := range 250 {
		w.do("ZADD", "b", strconv.Itoa(i%3), fmt.Sprint(i))
	}
	form("b", "skiplist")
	w.do("LEADERBOARD.TRIM", "b", "ASC", "0")
	form("b", "listpack")
	if got := w.do("LEADERBOARD.INFO", "b"); got != `[0 -1 "FIRST" 200 "ASC"]` {
		t.Error(got)
	}
}

// TestLargeSetsMoveAndGo: compaction moves members, whose entries follow; and a set of many is gone at once.
func TestLargeSetsMoveAndGo(t *testing.T) {
	p := hashWorld(t, 0, 0)
	const n = 50_000
	names := fillSet(p, "k", n, 300, true)
	for i, name := range names {
		if i%8 != 0 {
			p.Apply(&Entry{Now: start, Tasks: []*Task{hashTask("ZREM", "k", name)}})
		}
	}
	for p.Maintain(100) {
	}
	if err := p.check(); err != nil {
		t.Fatal(err)
	}
	for i, name := range names[:n/2] {
		p.Apply(&Entry{Now: start, Tasks: []*Task{hashTask("ZADD", "k", strconv.Itoa(i%20), name)}})
	}
	for _, args := range [][]string{{"UNLINK", "k"}, {"FLUSHALL"}, {"ZREMRANGEBYRANK", "k", "0", "-1"}, {"ZADD", "k", "1", "x"}} {
		fillSet(p, "k", n, 300, true)
		begin := time.Now()
		p.Apply(&Entry{Now: start, Tasks: []*Task{hashTask(args...)}})
		if took := time.Since(begin); took > 5*time.Millisecond {
			t.Errorf("%q took %v", args, took)
		}
	}
	p.Apply(&Entry{Now: start, Tasks: []*Task{hashTask("FLUSHALL")}})
	for p.Maintain(100) {
	}
	if left := p.Memory().Live; left != 0 {
		t.Errorf("%d bytes are left", left)
	}
}

// FuzzPackedScores: bytes from anywhere are refused, or a set that can be read and changed.
func FuzzPackedScores(f *testing.F) {
	for _, b := range []board{{}, {configured: true, ties: tiesLast, keep: 7, seq: 3}} {
		z := &sortedSet{board: b, packed: packedScores{ties: b.ties != tiesMember}}
		for i, score := range []float64{0, 7, -300, 1.5, math.Inf(1), 1 << 60} {
			z.packed.insert(scored{score, uint64(i), []byte(fmt.Sprint("m", i))})
		}
		packed, _ := z.pack(nil)
		f.Add(packed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if validRanks(data) != nil {
			return
		}
		z := &sortedSet{}
		z.unpack(append([]byte(nil), data...))
		if again, _ := z.pack(nil); string(again) != string(data) {
			t.Fatalf("%x is written as %x", data, again)
		}
		n := 0
		for c := z.seek(0); c.valid(); c.next() {
			e := c.entry()
			if s, ok := z.find(e.member); !ok || s.index != n {
				t.Fatalf("entry %d is not found", n)
			}
			n++
		}
		z.packed.standings(descending, 0, n, func(e scored, at standing) {
			s, _ := z.find(e.member)
			if got := z.standing(descending, s); got != at {
				t.Fatalf("%q stands at %v, on the page at %v", e.member, got, at)
			}
		})
		for ; n > 0; n-- {
			s, _ := z.find(z.at(n / 2).member)
			z.packed.cut(s.at.begin, s.at.end, 1)
		}
		if len(z.packed.b) != 0 {
			t.Fatal("something is left")
		}
	})
}

// BenchmarkSortedSet measures point operations on sets of so many members.
func BenchmarkSortedSet(b *testing.B) {
	for _, n := range []int{10, 64, 128, 129, 10_000, 1_000_000} {
		p := hashWorld(b, 0, 0)
		names := fillSet(p, "k", n, 1<<30, false)
		runtime.GC()
		for _, op := range []struct {
			name string
			args func(i int) []string
		}{
			{"ZSCORE", func(i int) []string { return []string{"ZSCORE", "k", names[i*7919%n]} }},
			{"ZRANK", func(i int) []string { return []string{"ZRANK", "k", names[i*7919%n]} }},
			{"ZADD", func(i int) []string {
				return []string{"ZADD", "k", strconv.Itoa(i * 7919 % (1 << 30)), names[i*7919%n]}
			}},
			{"ZINCRBY", func(i int) []string { return []string{"ZINCRBY", "k", "1", names[i*7919%n]} }},
			{"ZRANGE10", func(i int) []string {
				return []string{"ZRANGE", "k", strconv.Itoa(i * 7919 % n), strconv.Itoa(i*7919%n + 9)}
			}},
		} {
			tasks := make([]*Task, 1<<12)
			for i := range tasks {
				tasks[i] = hashTask(op.args(i)...)
			}
			entry := &Entry{Now: start, Tasks: make([]*Task, 1)}
			b.Run(fmt.Sprintf("%s/%d", op.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for i := range b.N {
					task := tasks[i%len(tasks)]
					if task.Writes() {
						entry.Tasks[0] = task
						p.Apply(entry)
					} else {
						p.Query(start, 1, task)
					}
				}
			})
		}
	}
}
