package engine

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestDumpsAreThoseOfRedis carries values of every type and size both ways: what Redis dumps, we restore, and what we dump,
// Redis restores; whatever each then tells of the value is the same.
func TestDumpsAreThoseOfRedis(t *testing.T) {
	r := newRedisTwin(t)
	text := func(most int) string {
		switch n := r.IntN(most); r.IntN(5) {
		case 0:
			return strconv.Itoa(int(r.Int64()>>r.IntN(64)) * (1 - 2*r.IntN(2)))
		case 1: // what compresses well
			return strings.Repeat(r.pick("a", "ab", "hello "), n)
		case 2:
			return fmt.Sprintf("member:%d:%s", r.IntN(1000), strings.Repeat("x", r.IntN(20)))
		default:
			b := make([]byte, min(n, 300))
			for i := range b {
				b[i] = byte(r.IntN(256))
			}
			return string(b)
		}
	}
	size := func() int { return 1 + r.IntN(1<<r.IntN(11)) }
	show := map[string][]string{
		"string": {"GET k", "STRLEN k"}, "list": {"LRANGE k 0 -1", "LLEN k"}, "set": {"SORT k ALPHA STORE sorted", "LRANGE sorted 0 -1", "SCARD k"}, "zset": {"ZRANGE k 0 -1 WITHSCORES", "ZCARD k"},
		"stream": {"XRANGE k - +", "XLEN k", "XINFO GROUPS k", "XPENDING k g", "XPENDING k h", "XPENDING k g - + 1000"},
	}
	for i := range times(1500) {
		r.same("FLUSHALL")
		var args []string
		n, most := size(), []int{2, 20, 70, 500, 5000}[r.IntN(5)]
		switch r.IntN(6) {
		case 0:
			args = []string{"SET", "k", text(20 * most)}
		case 1:
			args = []string{"RPUSH", "k"}
		case 2:
			args = []string{"SADD", "k"}
		case 3:
			args = []string{"ZADD", "k"}
		case 4:
			args = []string{"HSET", "k"}
		default:
			r.stream(n, text, most)
		}
		var fields []string
		if len(args) == 2 {
			ints := r.IntN(3) == 0
			for range n {
				e := text(most)
				if ints {
					e = strconv.Itoa(r.IntN(1<<r.IntN(30)) - 100)
				}
				switch args[0] {
				case "ZADD":
					args = append(args, r.pick("1", "-1.5", "inf", "-inf", "1e10", "0.25", strconv.Itoa(r.IntN(1000))), e)
				case "HSET":
					args = append(args, e, text(most))
					fields = append(fields, e)
				default:
					args = append(args, e)
				}
			}
		}
		if args != nil {
			r.same(args...)
		}
		kind := r.w.do("TYPE", "k")
		looks := show[kind]
		if kind == "hash" {
			looks = []string{"HLEN k"}
			r.same(append([]string{"HMGET", "k"}, fields...)...)
		}
		ours, theirs := r.raw("DUMP", "k")
		ttl := strconv.Itoa(r.IntN(2) * 100000000)
		r.restore(theirs, ours, ttl, i%2 == 0)
		for _, look := range looks {
			a, b := r.answers(strings.Fields(look)...)
			if a, b = idleTimes.ReplaceAllString(a, "$1"), idleTimes.ReplaceAllString(b, "$1"); a != b {
				t.Fatalf("%s after RESTORE\n got %.2000s\nwant %.2000s", look, a, b)
			}
		}
		if kind == "hash" {
			r.same(append([]string{"HMGET", "k"}, fields...)...)
		}
		if a, b := r.answers("TTL", "k"); (strings.TrimSpace(a) == "-1") != (strings.TrimSpace(b) == "-1") {
			t.Fatalf("TTL %s and %s", a, b)
		}
	}
}

// idleTimes are what XPENDING tells by two clocks that are not one.
var idleTimes = regexp.MustCompile(`("ann"|"bob") \d+`)

// stream makes a stream of n entries or so, some of them removed, with groups.
func (r *redisTwin) stream(n int, text func(int) string, most int) {
	add := func(id int) {
		args := []string{"XADD", "k", fmt.Sprintf("%d-%d", 1000+id/3, id%3+1)}
		for range 1 + r.IntN(3) {
			args = append(args, r.pick("name", "other", "third", text(10)), text(most))
		}
		r.same(args...)
	}
	n = min(n, 400)
	for id := range n {
		add(id)
	}
	for range r.IntN(20) {
		id := r.IntN(n)
		r.same("XDEL", "k", fmt.Sprintf("%d-%d", 1000+id/3, id%3+1))
	}
	if r.IntN(3) == 0 {
		r.same("XTRIM", "k", "MAXLEN", strconv.Itoa(r.IntN(n+1)))
	}
	for _, g := range []string{"g", "h"} {
		r.same("XGROUP", "CREATE", "k", g, r.pick("0", "$", "1005"))
		for range r.IntN(4) {
			args := []string{"XREADGROUP", "GROUP", g, r.pick("ann", "bob"), "COUNT", strconv.Itoa(1 + r.IntN(50)), "STREAMS", "k", ">"}
			r.answers(args...)
			r.sameConsumers(args)
		}
		r.same("XACK", "k", g, "1001-1", "1002-2", "1003-3")
	}
	for id := n; id < n+r.IntN(10); id++ {
		add(id)
	}
}

// raw returns the bytes that each side answers.
func (r *redisTwin) raw(args ...string) (ours, theirs string) {
	a, b := r.answers(args...)
	ours, err := strconv.Unquote(strings.TrimSpace(a))
	theirs, err2 := strconv.Unquote(strings.TrimSpace(b))
	if err != nil || err2 != nil {
		r.t.Fatalf("%q answers %.200s and %.200s", args, a, b)
	}
	return ours, theirs
}

// restore gives each side the other's dump, in the place of what is there or where nothing is.
func (r *redisTwin) restore(theirs, ours, ttl string, replace bool) {
	r.t.Helper()
	option := []string{"REPLACE"}
	if !replace {
		r.same("DEL", "k")
		option = nil
	}
	task, out := r.w.task(append([]string{"RESTORE", "k", ttl, theirs}, option...)), &flat{}
	task.Reply = out
	r.w.apply(task)
	args := append([]string{"RESTORE", "k", ttl, ours}, option...)
	said := r.theirs(args...)
	if out.b.String() != "+OK " && strings.TrimSpace(out.b.String()) != strings.TrimSpace(said) || !strings.Contains(said, "OK") {
		r.t.Fatalf("RESTORE answers %s here and %s there: theirs %q, ours %q", out.b.String(), said, theirs, ours)
	}
}

// TestRestoreAnswersAsRedis: options, and what is no dump.
func TestRestoreAnswersAsRedis(t *testing.T) {
	r := newRedisTwin(t)
	r.same("FLUSHALL")
	r.same("SET", "v", "hello")
	r.same("DUMP", "none")
	_, dump := r.raw("DUMP", "v")
	damaged := []byte(dump)
	damaged[2] ^= 1
	for range times(3000) {
		args := []string{"RESTORE", r.pick("a", "b", "v"), r.pick("0", "0", "100000", "-1", "x", "1", "1800000000000"), r.pick(dump, dump, string(damaged), "", dump[1:], "short")}
		args = append(args, r.some("REPLACE", "REPLACE", "ABSTTL", "IDLETIME "+r.pick("1", "-1", "x", "0"), "FREQ "+r.pick("1", "-1", "256", "x"), "FOO", "FREQ", "IDLETIME")...)
		if args[2] != "0" && strings.Contains(strings.Join(args, " "), "ABSTTL") {
			continue // the two clocks are not one
		}
		r.same(args...)
		if args[2] == "1" { // which may have expired there, and never expires here
			r.answers("DEL", args[1])
		}
		if r.IntN(2) == 0 {
			r.same("DEL", r.pick("a", "b"))
		}
	}
}
