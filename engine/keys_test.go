package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func drawKeyCommand(t *rapid.T, m *naive) []string {
	key := drawKey(t)
	switch name := from(t, "command", "SET", "SET", "HSET", "GET", "DEL", "EXISTS", "TOUCH", "TYPE", "PEXPIRE", "PEXPIRE", "PEXPIREAT", "PERSIST",
		"TTL", "PTTL", "PEXPIRETIME", "RENAME", "RENAMENX", "COPY", "APPEND"); name {
	case "SET", "APPEND":
		return line("%s %s x", name, key)
	case "HSET":
		return line("HSET %s f v", key)
	case "DEL", "EXISTS", "TOUCH", "RENAME", "RENAMENX":
		return line("%s %s %s", name, key, drawKey(t))
	case "COPY":
		return line("COPY %s %s %s", key, drawKey(t), from(t, "replace", "", "REPLACE"))
	case "PEXPIRE", "PEXPIREAT":
		n := int64(rapid.SampledFrom([]int{-1000, -1, 0, 1, 100, 500, 1000}).Draw(t, "ms"))
		if name == "PEXPIREAT" && rapid.Bool().Draw(t, "near") {
			n += m.now
		}
		return line("%s %s %d %s", name, key, n, from(t, "if", "", "", "NX", "XX", "GT", "LT", "XX GT", "XX LT"))
	default:
		return line("%s %s", name, key)
	}
}

func TestModelKeys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { modelRun(t, drawKeyCommand) })
}

// TestScanGuarantee: whatever comes, goes, expires and is renamed between the steps of a scan, with whatever
// COUNT, every key that stays is returned exactly once, and nothing that was gone before the scan began.
func TestScanGuarantee(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		own := rapid.Bool().Draw(t, "KV.SCAN")
		stays := map[string]int{}
		for i := range rapid.IntRange(0, 300).Draw(t, "stays") {
			key := "stays" + strconv.Itoa(i)
			stays[key] = 0
			w.p.Apply(&Entry{Now: w.now, Tasks: []*Task{w.task([]string{"SET", key, "v"})}})
		}
		w.do("SET", "gone", "v", "PX", "1")
		w.now++
		guests, next := []string{}, 0
		for cursor := "0"; ; {
			count := rapid.SampledFrom([]int{1, 2, 10, 100}).Draw(t, "count")
			name, width := "SCAN", int64(1)
			if own {
				name, width = "KV.SCAN", 4
			}
			task := w.task([]string{name, cursor, "COUNT", strconv.Itoa(count)})
			w.p.Query(w.now, 1, task)
			c := task.Reply.(*Recording).Cursor()
			c.Next()
			cursor = string(c.Next().Bytes)
			n := c.Next().Int / width
			if n > int64(count) {
				t.Fatalf("COUNT %d returned %d keys", count, n)
			}
			for range n {
				key := string(c.Next().Bytes)
				for range width - 1 {
					c.Next()
				}
				if _, ok := stays[key]; ok {
					stays[key]++
				} else if !slices.Contains(guests, key) {
					t.Fatalf("returned %q, which is not there", key)
				}
			}
			if cursor == "0" {
				break
			}
			goal := rapid.IntRange(0, 1500).Draw(t, "guests")
			var calls [][]string
			for ; len(guests) < goal; next++ {
				guests = append(guests, "guest"+strconv.Itoa(next))
				calls = append(calls, []string{"SET", guests[len(guests)-1], "v"})
			}
			for len(guests) > goal {
				calls = append(calls, []string{"DEL", guests[len(guests)-1]})
				guests = guests[:len(guests)-1]
			}
			w.apply(w.task(calls...))
		}
		for key, times := range stays {
			if times != 1 {
				t.Fatalf("%s was returned %d times", key, times)
			}
		}
	})
}

// TestDeleteByPrefixInSteps: the steps remove exactly what begins with the prefix, each no more than COUNT.
func TestDeleteByPrefixInSteps(t *testing.T) {
	w := newWorld(t)
	for i := range 3000 {
		w.p.Apply(&Entry{Now: w.now, Tasks: []*Task{w.task([]string{"SET", []string{"user:", "users", "u", "a:user:"}[i%4] + strconv.Itoa(i), "v"})}})
	}
	total := int64(0)
	for cursor := "0"; ; {
		task := w.task([]string{"KV.DELPREFIX", cursor, "user:", "COUNT", "70"})
		w.apply(task)
		c := task.Reply.(*Recording).Cursor()
		c.Next()
		cursor = string(c.Next().Bytes)
		n := c.Next().Int
		if n > 70 {
			t.Fatalf("a step removed %d", n)
		}
		if total += n; cursor == "0" {
			break
		}
	}
	left := w.scanAll("SCAN", "COUNT", "1000")
	if total != 750 || len(left) != 2250 || slices.ContainsFunc(left, func(key string) bool { return strings.HasPrefix(key, "user:") }) {
		t.Errorf("removed %d, left %d", total, len(left))
	}
}

// TestKeysIsBounded: in a database beyond its bound KEYS refuses before it looks at a single key.
func TestKeysIsBounded(t *testing.T) {
	w := newWorld(t)
	call := []string{"MSET"}
	for i := range MaxKeysCount {
		call = append(call, fmt.Sprintf("key:%d", i), "")
	}
	w.p.Apply(&Entry{Now: w.now, Tasks: []*Task{w.task(call)}})
	if got := w.do("KEYS", "key:5000?"); got == "" || strings.Count(got, `"key:`) != 10 {
		t.Errorf("at the bound: %.100s", got)
	}
	hostile := strings.Repeat("?", 900) + "*" + strings.Repeat("a", 100)
	if got := w.do("KEYS", hostile); strings.Contains(got, "key") {
		t.Errorf("a hostile pattern: %.100s", got)
	}
	w.p.Apply(&Entry{Now: w.now, Tasks: []*Task{w.task([]string{"SET", "one more", ""})}})
	if got := w.do("KEYS", "*"); got != "(error) ERR KEYS goes over at most 100000 keys and this database has 100001: use SCAN" {
		t.Errorf("beyond the bound: %.100s", got)
	}
}

// TestSwapInALongTask: what comes behind it in a task of many calls finds the other database, also one that was never used.
func TestSwapInALongTask(t *testing.T) {
	w := newWorld(t)
	call := []string{"MSET"}
	for i := range manyKeys {
		call = append(call, strconv.Itoa(i), "v")
	}
	calls := [][]string{{"SWAPDB", "0", "7"}}
	for i := range 2 * ahead {
		calls = append(calls, []string{"GET", strconv.Itoa(i)})
	}
	w.do(call...)
	task := w.task(calls...)
	w.apply(task)
	if got := show(task.Reply.(*Recording)); got != "OK"+strings.Repeat("\n(nil)", 2*ahead) {
		t.Errorf("after the swap: %.200s", got)
	}
}

// TestExpensivePatternsEndSteps: long keys and a pattern that reads them whole end SCAN's steps early, without
// losing keys, and KEYS with an error.
func TestExpensivePatternsEndSteps(t *testing.T) {
	w := newWorld(t)
	for i := range 100 {
		w.p.Apply(&Entry{Now: w.now, Tasks: []*Task{w.task([]string{"SET", strings.Repeat("a", MaxKey-3) + fmt.Sprintf("%03d", i), ""})}})
	}
	pattern := "*" + strings.Repeat("a", 900) + "*[05]"
	if got := w.do("KEYS", pattern); !strings.HasPrefix(got, "(error) ERR this pattern takes too long") {
		t.Errorf("KEYS: %.100s", got)
	}
	task := w.task([]string{"SCAN", "0", "MATCH", pattern, "COUNT", "1000"})
	w.p.Query(w.now, 1, task)
	if strings.HasPrefix(show(task.Reply.(*Recording)), `["0"`) {
		t.Error("one step went over all keys")
	}
	if got := w.scanAll("SCAN", "MATCH", pattern, "COUNT", "1000"); len(got) != 20 {
		t.Errorf("all steps found %d keys, want 20", len(got))
	}
}

// TestRandomKeyIsFairEnough: each of many keys comes up, none far too often.
func TestRandomKeyIsFairEnough(t *testing.T) {
	w := newWorld(t)
	const keys, draws = 200, 40_000
	for i := range keys {
		w.do("SET", strconv.Itoa(i), "")
	}
	seen := map[string]int{}
	task := w.task([]string{"RANDOMKEY"})
	for seed := range uint64(draws) {
		task.Reply = &Recording{}
		w.p.Query(w.now, seed, task)
		seen[show(task.Reply.(*Recording))]++
	}
	for key, n := range seen {
		if n > 3*draws/keys || n < draws/keys/5 {
			t.Errorf("%s came %d times, the mean is %d", key, n, draws/keys)
		}
	}
	if len(seen) != keys {
		t.Errorf("%d of %d keys came", len(seen), keys)
	}
}

// TestRandomKeyPassesOverTheExpired: also when nearly all are.
func TestRandomKeyPassesOverTheExpired(t *testing.T) {
	w := newWorld(t)
	for i := range 500 {
		w.do("SET", strconv.Itoa(i), "", "PX", "1")
	}
	w.do("SET", "alive", "")
	w.now++
	for range 20 {
		if got := w.do("RANDOMKEY"); got != `"alive"` {
			t.Fatalf("drew %s", got)
		}
	}
	w.do("DEL", "alive")
	if got := w.do("RANDOMKEY"); got != "(nil)" {
		t.Errorf("drew %s from nothing", got)
	}
}

func TestTypesAreThoseOfTheValues(t *testing.T) {
	var kinds []string
	for _, v := range []value{&stringValue{}, &hashValue{}, &listValue{}, &setValue{}, &sortedSet{}, &streamValue{}, &sessionValue{}, &sketchValue{b: []byte{byte(bloomFamily)}}, &sketchValue{b: []byte{byte(cuckooFamily)}},
		&sketchValue{b: []byte{byte(countMinFamily)}}, &sketchValue{b: []byte{byte(topKFamily)}}, &sketchValue{b: []byte{byte(tDigestFamily)}}, &jsonValue{}} {
		kinds = append(kinds, v.kind())
	}
	if !slices.Equal(kinds, Types()) {
		t.Errorf("the types are %v, Types says %v", kinds, Types())
	}
}
