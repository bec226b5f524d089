package engine

import (
	"fmt"
	"strconv"
	"testing"
)

// longWrites work a result out beside the data; key "to" takes it.
var longWrites = [][]string{
	{"SUNIONSTORE", "to", "set", "set2"}, {"SINTERSTORE", "to", "set", "set2"}, {"SDIFFSTORE", "to", "set", "set2"}, {"COPY", "set", "to", "REPLACE"},
	{"ZUNIONSTORE", "to", "2", "zset", "zset2"}, {"ZINTERSTORE", "to", "2", "zset", "zset2"}, {"ZDIFFSTORE", "to", "2", "zset", "zset2"},
	{"ZRANGESTORE", "to", "zset", "0", "-1"}, {"COPY", "zset", "to", "REPLACE"}, {"COPY", "hash", "to", "REPLACE"}, {"BITOP", "NOT", "to", "bits"},
}

// TestLongWritesRest: what writes rests while it works its result out, others read what was there before and write elsewhere, and
// the data is what it is without any rest.
func TestLongWritesRest(t *testing.T) {
	const n = 3 * restEvery
	write := func(rests bool) (digests []string) {
		w, other := restingWorld(t, n)
		defer w.p.Close()
		w.do("SETRANGE", "bits", strconv.Itoa(5<<20), "x")
		w.do("SET", "to", "before")
		resting, alone, inside := 0, 0, false
		if rests {
			w.p.SetRests(Rests{
				In: func(id CacheID) {
					if resting++; inside || id != testCache {
						return
					}
					inside = true
					defer func() { inside = false }()
					out := &flat{}
					task := w.task([]string{"TYPE", "to"}, []string{"SCARD", "set"})
					task.Reply = out
					w.p.Query(w.now, 1, task)
					task = w.task([]string{"SET", "x" + strconv.Itoa(resting%50), "value"}, []string{"DEL", "x" + strconv.Itoa(resting*7%50)})
					task.Cache = other
					w.p.Apply(&Entry{Now: w.now, Seed: 1, Tasks: []*Task{task}})
					w.p.Maintain(100)
				},
				Writes: func(id CacheID) bool { return id == testCache },
				Alone:  func(CacheID) { alone++ },
			})
		}
		for _, args := range longWrites {
			before, waited := resting, alone
			task, out := w.task(args), &flat{}
			task.Reply = out
			w.p.Apply(&Entry{Now: w.now, Seed: 1, Tasks: []*Task{task}})
			task = w.task([]string{"TYPE", "to"}, []string{"DUMP", "to"})
			task.Reply = out
			w.p.Query(w.now, 1, task)
			digests = append(digests, fmt.Sprint(args, out.b.String()))
			if rests && (resting == before || alone != waited+1) {
				t.Errorf("%q rests %d times, and asks %d times whether it is alone", args, resting-before, alone-waited)
			}
		}
		before := resting
		task := w.task(longWrites[0])
		task.Atomic = true
		w.p.Apply(&Entry{Now: w.now, Seed: 1, Tasks: []*Task{task}})
		if resting != before {
			t.Error("an atomic task rests")
		}
		w.check()
		return digests
	}
	plain, rested := write(false), write(true)
	for i := range plain {
		if plain[i] != rested[i] {
			t.Errorf("%q: another result where it rests", longWrites[i])
		}
	}
}
