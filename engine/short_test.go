package engine

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestShortWaysDoTheSame gives the same tasks to a partition that takes short ways and to one that takes none: all sorts of keys
// under GET and SET, in tasks of all sorts, while the cache's settings change, and others follow or copy it. Answers, notes of use,
// live numbers and data are the same.
func TestShortWaysDoTheSame(t *testing.T) {
	long := func(n int) string { return string(make([]byte, n)) }
	for seed := range uint64(8) {
		dice := rand.New(rand.NewPCG(seed, 3))
		pick := func(list ...string) string { return list[dice.IntN(len(list))] }
		worlds := [2]*world{newWorld(t), newWorld(t)}
		worlds[1].p.longhand = true
		taken := 0
		for step := range 4000 {
			key := fmt.Sprint("key", dice.IntN(30))
			var calls [][]string
			for range 1 + dice.IntN(4) {
				switch r := dice.IntN(24); {
				case r < 8:
					calls = append(calls, []string{"GET", key})
				case r < 16:
					calls = append(calls, []string{pick("SET", "set"), key, pick("four", "4444", "fivee", "", long(300), long(40_000))})
				case r == 16:
					calls = append(calls, []string{"SET", key, "four", pick("EX", "PX", "NX", "GET", "KEEPTTL"), pick("1", "1000", "0")})
				case r == 17:
					calls = append(calls, []string{pick("GET", "SET"), key}, []string{"GET"}, []string{"SET", key, "a", "b"})
				case r == 18:
					calls = append(calls, []string{pick("RPUSH", "SADD", "APPEND"), key, "e"})
				case r == 19:
					calls = append(calls, []string{pick("DEL", "INCR", "PERSIST"), key})
				case r == 20:
					calls = append(calls, []string{"SWAPDB", "0", "1"})
				case r == 21:
					calls = append(calls, []string{"KV.SET", key, "four", "TYPE", "text/plain"})
				case r == 22:
					calls = append(calls, []string{"FLUSHDB"})
				default:
					calls = append(calls, []string{"OBJECT", "FREQ", key}, []string{"OBJECT", "IDLETIME", key})
				}
			}
			var settings Settings
			change := step%200 == 0
			if change {
				settings = Settings{Eviction: AllKeysLFU, DefaultTTL: []int64{0, 0, 500}[dice.IntN(3)], MaxValue: []int64{0, 4}[dice.IntN(2)],
					MemoryLimit: []int64{0, 1 << 20, 2000}[dice.IntN(3)], Notify: []EventClass{0, 0, EventKeyspace | EventKeyMiss}[dice.IntN(3)]}
			}
			atomic, quiet, db, passed := dice.IntN(6) == 0, dice.IntN(8) == 0, dice.IntN(2), int64(dice.IntN(100))
			var answers [2]string
			for i, w := range worlds {
				w.now += passed
				if change {
					w.configure(settings)
				}
				task, out := w.task(calls...), &flat{}
				task.Atomic, task.Quiet, task.DB, task.Reply = atomic, quiet, db, out
				if task.Writes() {
					w.apply(task)
				} else {
					w.p.Query(w.now, 1, task)
				}
				stats, _ := w.p.Stats(testCache)
				answers[i] = fmt.Sprintf("%s\ndone %d, failed %d, %+v", out.b.String(), task.Done, task.Failed, stats)
			}
			if answers[0] != answers[1] {
				t.Fatalf("seed %d, step %d: %q\n%s\nwithout short ways:\n%s", seed, step, calls, answers[0], answers[1])
			}
			if worlds[0].p.way.k != nil {
				taken++
				worlds[0].p.way.k = nil
			}
		}
		if worlds[0].p.Digest() != worlds[1].p.Digest() {
			t.Errorf("seed %d: they differ in the end", seed)
		}
		if taken < 1000 {
			t.Errorf("seed %d: only %d tasks were ready for a short way", seed, taken)
		}
	}
}
