package engine

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
)

// TestSortAnswersAsRedis orders by values that differ: what is equal comes in any order from Redis, whose sort is not stable.
func TestSortAnswersAsRedis(t *testing.T) {
	r := newRedisTwin(t)
	key := func() string { return r.pick("list", "list", "set", "zset", "ints", "hash", "text", "none", "stored") }
	element := func() string { return r.pick("a", "b", "c", "1", "2", "10", "-3", "1.5", "x y", "") }
	pattern := func() string {
		return r.pick("w_*", "h_*->f", "h_*->g", "w_*", "#", "none_*", "const", "w_*->", "*", "h_*->*", "->*", "u_*", "list*", "h_->f*")
	}
	bound := func() string {
		return r.pick("0", "1", "2", "-1", "5", "100", "9223372036854775807", "-9223372036854775808", "x")
	}
	for i := range times(12000) {
		if i%100 == 0 {
			r.same("FLUSHALL")
			r.same("SET", "text", "x")
			r.same("HSET", "hash", "f", "1")
			for j, e := range []string{"a", "b", "c", "1", "2", "10", "-3", "1.5", "x y", ""} {
				r.same("SET", "u_"+e, strconv.Itoa((j*7)%10)) // all different
				if r.IntN(2) == 0 {
					r.same("SET", "w_"+e, r.pick("1", "2", "abc", "-1.5e1", "0x1F", " 12", "12 ", "", "inf", "nan", "3"))
				}
				if r.IntN(2) == 0 {
					r.same("HSET", "h_"+e, "f", strconv.Itoa(r.IntN(50)), "*", "star", e, "self")
				}
			}
		}
		switch r.IntN(8) {
		case 0:
			r.same("RPUSH", r.pick("list", "stored"), element(), strconv.Itoa(r.IntN(30)))
		case 1:
			r.same("SADD", "set", element(), element())
			r.same("SADD", "ints", strconv.Itoa(r.IntN(100)-50))
		case 2:
			r.same("ZADD", "zset", strconv.Itoa(r.IntN(100)), element())
			r.same("DEL", r.pick("stored", "list", "set"))
		default:
			name := r.pick("SORT", "SORT", "SORT_RO")
			args := []string{name, key()}
			unique := true
			if r.IntN(2) == 0 {
				by := r.pick("u_*", "const", "w_*", "h_*->f", "h_*->none")
				args = append(args, "BY", by)
				unique = by == "const" || by == "u_*" && (args[1] == "set" || args[1] == "zset") // whose elements all have a key
			}
			if r.IntN(3) == 0 {
				args = append(args, "LIMIT", bound(), bound())
			}
			for range r.IntN(3) {
				args = append(args, "GET", pattern())
			}
			args = append(args, r.some("DESC", "ASC", r.pick("FOO", "LIMIT 1", "LIMIT x 1"))...)
			if r.IntN(2) == 0 && unique {
				args = append(args, "ALPHA")
			}
			if r.IntN(3) == 0 {
				args = append(args, "STORE", "stored")
			}
			isSet := strings.Contains(strings.Join(args, " "), "BY const") && (args[1] == "set" || args[1] == "ints")
			if isSet && !strings.Contains(strings.Join(args, " "), "STORE stored") {
				continue // in whatever order
			}
			r.same(args...)
			if r.IntN(2) == 0 {
				r.same("LRANGE", "stored", "0", "-1")
			}
		}
	}
}

// TestSortIsBounded: neither very many elements nor one long value named again and again make an answer without end.
func TestSortIsBounded(t *testing.T) {
	w := newWorld(t)
	w.do("SET", "long", strings.Repeat("x", 8<<20))
	for i := range 80 {
		w.do("RPUSH", "few", strconv.Itoa(i))
		w.do("SET", "p"+strconv.Itoa(i), "1")
	}
	w.do("RPUSH", "same", "long", "long")
	call := []string{"SORT", "same", "BY", "none", "GET", "*"}
	if got := w.do(call...); len(got) < 16<<20 {
		t.Errorf("two long values: %.100s", got)
	}
	for range 64 {
		call = append(call, "GET", "*")
	}
	for _, name := range []string{"SORT", "SORT_RO"} {
		call[0] = name
		if got := w.do(call...); got != fmt.Sprintf("(error) ERR the answer would have more than %d bytes: use LIMIT", int64(sortedBytes)) {
			t.Errorf("130 long values: %.100s", got)
		}
	}
	task := w.task([]string{"RPUSH", "many"})
	for range 100_000 {
		task.Calls[0].Args = append(task.Calls[0].Args, []byte("1"))
	}
	for range maxSorted/100_000 + 1 {
		w.p.Apply(&Entry{Now: w.now, Tasks: []*Task{task}})
	}
	if got := w.do("SORT_RO", "many"); got != "(error) ERR SORT_RO goes over at most 1000000 elements, these are 1100000" {
		t.Errorf("many elements: %.100s", got)
	}
	if got := w.do("SORT_RO", "many", "BY", "none", "LIMIT", "1099998", "5"); got != `["1" "1"]` {
		t.Errorf("few of many elements as they are: %.100s", got)
	}
	if got := w.do("SORT", "many", "LIMIT", "0", "1", "BY", "none", "STORE", "many"); got != "1" {
		t.Errorf("stored over itself: %.100s", got)
	}
}

// TestSortOverItself: the answer is made before what it is made of is replaced.
func TestSortOverItself(t *testing.T) {
	for _, n := range []int{3, 50, 5000} {
		w := newWorld(t)
		call := []string{"RPUSH", "k"}
		for i := range n {
			call = append(call, fmt.Sprintf("%06d-%s", (i*7919)%n, strings.Repeat("x", i%50)))
		}
		w.do(call...)
		before := w.do("SORT", "k", "ALPHA")
		if got := w.do("SORT", "k", "ALPHA", "STORE", "k"); got != strconv.Itoa(n) {
			t.Fatalf("%d elements: %s", n, got)
		}
		if got := w.do("LRANGE", "k", "0", "-1"); got != before {
			t.Errorf("%d elements: stored %.200s, want %.200s", n, got, before)
		}
	}
}

func TestSortRights(t *testing.T) {
	const reads = "cache:ListRead k, cache:SetRead k, cache:SortedSetRead k"
	for _, tt := range []struct{ call, rights string }{
		{"SORT k", reads},
		{"SORT k GET # BY none ALPHA", reads},
		{"SORT k STORE d LIMIT 0 5", reads + ", cache:ListWrite d"},
		{"SORT k STORE d STORE e", reads + ", cache:ListWrite e"},
		{"SORT k BY w_*", reads + ", cache:Get on all keys, cache:HashRead on all keys"},
		{"SORT_RO k GET # GET w_*->f", reads + ", cache:Get on all keys, cache:HashRead on all keys"},
	} {
		call := (&world{t: t}).task(strings.Fields(tt.call)).Calls[0]
		var rights []string
		for _, r := range call.Command.AppendRights(nil, call.Args) {
			name := string(r.Name)
			if r.On == OnKeys {
				name = "on all keys"
			}
			rights = append(rights, r.Action+" "+name)
		}
		if got := strings.Join(rights, ", "); got != tt.rights {
			t.Errorf("%s takes %s, want %s", tt.call, got, tt.rights)
		}
	}
	for call, want := range map[string]int64{"SORT k": math.MaxInt64, "SORT k LIMIT 0 5": 5, "SORT k GET a GET b LIMIT 3 5": 10, "SORT k LIMIT 0 -1": math.MaxInt64} {
		c := (&world{t: t}).task(strings.Fields(call)).Calls[0]
		if got := c.Command.FactsOf(c.Args, start).MaxItems; got != want {
			t.Errorf("%s returns at most %d, want %d", call, got, want)
		}
	}
}

// FuzzParseWeight: no number makes it panic, and none is NaN.
func FuzzParseWeight(f *testing.F) {
	for _, s := range []string{"", "1", " 12", "0x1F", "1e400", "nan", "-inf", "0x", "x\x00y", "1_0", "0x1p"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, ok := parseWeight(b); ok && math.IsNaN(n) {
			t.Fatalf("%q is NaN", b)
		}
	})
}
