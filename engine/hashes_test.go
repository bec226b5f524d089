package engine

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// A naiveHash is what a hash ought to be: fields in the order in which they came, looked at one by one, and forgotten when
// their time has come.
type naiveHash []naiveField

type naiveField struct {
	name, value string
	at          int64
}

func (n *naiveHash) expire(now int64) {
	*n = slices.DeleteFunc(*n, func(f naiveField) bool { return f.at != 0 && f.at <= now })
}

func (n *naiveHash) find(field string) *naiveField {
	if i := slices.IndexFunc(*n, func(f naiveField) bool { return f.name == field }); i >= 0 {
		return &(*n)[i]
	}
	return nil
}

func (n *naiveHash) remove(field string) {
	*n = slices.DeleteFunc(*n, func(f naiveField) bool { return f.name == field })
}

// do answers one command on one field at time now.
func (n *naiveHash) do(now int64, args []string) string {
	n.expire(now)
	defer n.expire(now)
	last := args[len(args)-1]
	switch args[0] {
	case "HSET", "HSETEX":
		field, value, at := args[len(args)-2], last, int64(0)
		f := n.find(field)
		switch {
		case args[2] == "PX":
			at = now + number64(args[3])
		case args[2] == "KEEPTTL" && f != nil:
			at = f.at
		}
		if f == nil {
			*n = append(*n, naiveField{field, value, at})
		} else {
			f.value, f.at = value, at
		}
		return flagOf(f == nil || args[0] == "HSETEX")
	case "HINCRBY":
		f := n.find(args[2])
		if f == nil {
			*n = append(*n, naiveField{name: args[2], value: "0"})
			f = n.find(args[2])
		} else if _, ok := whole(f.value); !ok {
			return "(error) ERR hash value is not an integer"
		}
		f.value = strconv.FormatInt(number64(f.value)+number64(args[3]), 10)
		return f.value
	case "HDEL":
		f := n.find(last)
		n.remove(last)
		return flagOf(f != nil)
	case "HGETDEL", "HGETEX":
		f := n.find(last)
		if f == nil {
			return "[(nil)]"
		}
		value := f.value
		switch {
		case args[0] == "HGETDEL":
			n.remove(last)
		case args[2] == "PERSIST":
			f.at = 0
		case args[2] == "PX":
			f.at = now + number64(args[3])
		}
		return "[" + strconv.Quote(value) + "]"
	case "HPEXPIRE":
		f, at := n.find(last), now+number64(args[2])
		switch cond := args[3]; {
		case f == nil:
			return "[-2]"
		case cond == "NX" && f.at != 0, cond == "XX" && f.at == 0, cond == "GT" && (f.at == 0 || at <= f.at), cond == "LT" && f.at != 0 && at >= f.at:
			return "[0]"
		}
		if f.at = at; at <= now {
			return "[2]"
		}
		return "[1]"
	case "HPERSIST":
		f := n.find(last)
		switch {
		case f == nil:
			return "[-2]"
		case f.at == 0:
			return "[-1]"
		}
		f.at = 0
		return "[1]"
	case "HPTTL":
		f := n.find(last)
		switch {
		case f == nil:
			return "[-2]"
		case f.at == 0:
			return "[-1]"
		}
		return fmt.Sprintf("[%d]", f.at-now)
	case "HGET":
		if f := n.find(last); f != nil {
			return strconv.Quote(f.value)
		}
		return "(nil)"
	case "HLEN":
		return strconv.Itoa(len(*n))
	case "EXISTS":
		return flagOf(len(*n) > 0)
	}
	panic(args[0])
}

// someFieldCommand makes up a command on one field of h.
func someFieldCommand(choose choice, field string) []string {
	value := pick(choose, []string{"", "7", "-1", "128", "99999999999", "007", "some text", strings.Repeat("v", 64), strings.Repeat("w", 65)})
	ms := pick(choose, []string{"0", "1", "5", "40", "1000"})
	fields := []string{"FIELDS", "1", field}
	with := func(head ...string) []string { return append(head, fields...) }
	switch choose(16) {
	case 0, 1, 2, 3:
		return []string{"HSET", "h", field, value}
	case 4:
		return append(with("HSETEX", "h", "PX", ms), value)
	case 5:
		return append(with("HSETEX", "h", "KEEPTTL"), value)
	case 6:
		return []string{"HINCRBY", "h", field, pick(choose, []string{"1", "-300", "70000"})}
	case 7, 8:
		return []string{"HDEL", "h", field}
	case 9:
		return with(pick(choose, []string{"HGETDEL", "HPERSIST", "HPTTL"}), "h")
	case 10:
		return with("HGETEX", "h", "PX", ms)
	case 11:
		return with("HGETEX", "h", "PERSIST")
	case 12, 13:
		return with("HPEXPIRE", "h", ms, pick(choose, []string{"NX", "XX", "GT", "LT"}))
	case 14:
		return with("HPEXPIRE", "h", ms)
	}
	return pick(choose, [][]string{{"HGET", "h", field}, {"HLEN", "h"}, {"EXISTS", "h"}})
}

// TestModelHash compares a hash with the naive one while it grows and shrinks across the bounds of its two forms, and
// fields come and go with time; now and then it takes back a task of many changes.
func TestModelHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, choose, model := newWorld(t), chance(t), naiveHash{}
		full := pick(choose, []int{0, 20, packedFields - 2, packedFields + 40})
		for i := range full {
			w.do("HSET", "h", fmt.Sprint("f", i), "1")
			model = append(model, naiveField{name: fmt.Sprint("f", i), value: "1"})
		}
		for step := range 150 {
			w.now += int64(choose(4))
			field := fmt.Sprint("f", choose(full+4))
			if step > 100 && choose(2) == 0 && len(model) > 0 { // shrink
				field = model[choose(len(model))].name
				model.do(w.now, []string{"HDEL", field})
				w.do("HDEL", "h", field)
			}
			if choose(20) == 0 {
				var commands [][]string
				for range 1 + choose(60) {
					commands = append(commands, someFieldCommand(choose, fmt.Sprint("f", choose(full+4))))
				}
				task := w.task(append(commands, []string{"GET"})...)
				task.Atomic = true
				before, used := w.p.Digest(), w.p.caches[testCache].used
				w.apply(task)
				if w.p.Digest() != before || w.p.caches[testCache].used != used {
					t.Fatalf("undone, the hash is not what it was: %d bytes, not %d\n%s", w.p.caches[testCache].used, used, describe(task))
				}
			}
			args := someFieldCommand(choose, field)
			if got, want := w.do(args...), model.do(w.now, args); got != want {
				t.Fatalf("%q: got %s, want %s", args, got, want)
			}
			if choose(10) == 0 {
				w.sweep(1 + choose(5))
			}
			want := map[string]string{}
			for _, f := range model {
				want[strconv.Quote(f.name)] = strconv.Quote(f.value)
			}
			got := strings.Fields(strings.ReplaceAll(strings.Trim(w.do("HGETALL", "h"), "{}"), "some text", "some_text"))
			if len(got) != 2*len(want) {
				t.Fatalf("%d fields, want %d", len(got)/2, len(want))
			}
			for i := 0; i < len(got); i += 2 {
				if want[got[i]] != strings.ReplaceAll(got[i+1], "_", " ") {
					t.Fatalf("%s is %s, want %s", got[i], got[i+1], want[got[i]])
				}
			}
		}
	})
}

// TestHscanVisitsWhatStays lets fields come and go between the steps of a scan.
func TestHscanVisitsWhatStays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t)
		var staying []string
		for i := range rapid.IntRange(1, 3*packedFields).Draw(t, "staying") {
			staying = append(staying, fmt.Sprint("s", i))
			w.do("HSET", "h", staying[i], "")
		}
		seen, guests := map[string]bool{}, 0
		for cursor := "0"; ; {
			task := w.task([]string{"HSCAN", "h", cursor, "NOVALUES", "COUNT", strconv.Itoa(rapid.IntRange(1, 50).Draw(t, "count"))})
			w.p.Query(w.now, 1, task)
			c := task.Reply.(*Recording).Cursor()
			c.Next()
			cursor = string(c.Next().Bytes)
			for range c.Next().Int {
				seen[string(c.Next().Bytes)] = true
			}
			if cursor == "0" {
				break
			}
			for range rapid.IntRange(0, 30).Draw(t, "changes") {
				if guests == 0 || rapid.Bool().Draw(t, "add") {
					w.do("HSET", "h", fmt.Sprint("g", guests), "")
					guests++
				} else {
					w.do("HDEL", "h", fmt.Sprint("g", rapid.IntRange(0, guests-1).Draw(t, "guest")))
				}
			}
		}
		for _, field := range staying {
			if !seen[field] {
				t.Fatalf("%s was never visited", field)
			}
		}
	})
}

func TestHrandfieldDrawsFairly(t *testing.T) {
	w := newWorld(t)
	for i := range 10 {
		w.do("HSET", "h", strconv.Itoa(i), "")
	}
	drawn := map[string]int{}
	for range 2000 {
		task := w.task([]string{"HRANDFIELD", "h", "3"})
		w.seed++
		w.p.Query(w.now, w.seed, task)
		c := task.Reply.(*Recording).Cursor()
		once := map[string]bool{}
		for range c.Next().Int {
			field := string(c.Next().Bytes)
			if once[field] {
				t.Fatalf("%s was drawn twice", field)
			}
			once[field] = true
			drawn[field]++
		}
	}
	for field, times := range drawn { // 600 each; the deviation is about 20
		if times < 500 || times > 700 {
			t.Errorf("%s was drawn %d times of 2000", field, times)
		}
	}
}

// TestHashesAnswerAsRedis: see redisTwin. The order of a large hash is another, so it is compared sorted.
func TestHashesAnswerAsRedis(t *testing.T) {
	r := newRedisTwin(t)
	key := func() string { return r.pick("a", "b", "c", "s", "none") }
	field := func() string { return r.pick("x", "y", "", "12", "-1", "f"+strconv.Itoa(r.IntN(200))) }
	value := func() string {
		return r.pick("", "1", "-7", "007", "1.5", "127", "128", "-129", "32768", "9223372036854775807", "text", strings.Repeat("v", 64), strings.Repeat("v", 65))
	}
	pairs := func(s string) string {
		list := strings.Fields(strings.Trim(s, "[]{}"))
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	for i := range times(30000) {
		if i%500 == 0 {
			r.same("FLUSHALL")
			r.same("SET", "s", "x")
		}
		switch k := key(); r.IntN(12) {
		case 0, 1, 2:
			args := []string{r.pick("HSET", "HMSET"), k}
			for range 1 + r.IntN(1<<r.IntN(7)) {
				args = append(args, field(), value())
			}
			r.same(append(args, r.some("odd")...)...)
		case 3:
			r.same("HDEL", k, field(), field(), field())
		case 4:
			r.same(r.pick("HGET", "HEXISTS", "HSTRLEN"), k, field())
		case 5:
			r.same("HMGET", k, field(), field())
		case 6:
			r.same("HSETNX", k, field(), value())
		case 7:
			r.same("HINCRBY", k, field(), r.pick("1", "-1", "200", "9223372036854775807", "x"))
		case 8:
			r.same("HINCRBYFLOAT", k, field(), r.pick("1", "0.5", "-1e3", "x"))
		case 9:
			r.same(r.pick("HLEN", "TYPE", "EXISTS"), k)
		case 10:
			args := []string{r.pick("HGETALL", "HKEYS", "HVALS"), k}
			if ours, theirs := r.answers(args...); pairs(ours) != pairs(theirs) {
				t.Errorf("%q\n got %.500s\nwant %.500s", args, ours, theirs)
			}
		case 11:
			r.same("HRANDFIELD", r.pick("nobody", "s"), r.pick("0", "1", "x"))
		}
	}
}
