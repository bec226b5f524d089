package engine

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/peers"
)

// flat is a Reply that writes RESP2's shape of an answer in one line, so that it compares with Redis's.
type flat struct{ b strings.Builder }

func (r *flat) Null()                { r.b.WriteString("nil ") }
func (r *flat) NullArray()           { r.b.WriteString("nil ") }
func (r *flat) Bool(v bool)          { fmt.Fprint(&r.b, v, " ") }
func (r *flat) Int(n int64)          { fmt.Fprintf(&r.b, "%d ", n) }
func (r *flat) Double(f float64)     { fmt.Fprintf(&r.b, "%q ", appendFloat(nil, f)) }
func (r *flat) Status(s string)      { r.b.WriteString(s + " ") }
func (r *flat) Bulk(b []byte)        { fmt.Fprintf(&r.b, "%q ", b) }
func (r *flat) Text(s string)        { fmt.Fprintf(&r.b, "%q ", s) }
func (r *flat) Array(n int)          { fmt.Fprintf(&r.b, "*%d ", n) }
func (r *flat) Map(n int)            { fmt.Fprintf(&r.b, "*%d ", 2*n) }
func (r *flat) Pairs(n int)          { fmt.Fprintf(&r.b, "*%d ", 2*n) }
func (r *flat) Keyed(n int)          { fmt.Fprintf(&r.b, "*%d ", n) } // see flattened
func (r *flat) Set(n int)            { fmt.Fprintf(&r.b, "*%d ", n) }
func (r *flat) Error(e *fault.Error) { r.b.WriteString("-" + e.Redis() + " ") }

// flatten reads one RESP2 answer into the same form.
func flatten(r *bufio.Reader, b *strings.Builder) error {
	line, err := r.ReadString('\n')
	if err != nil {
		return err
	}
	line = strings.TrimSpace(line)
	n, _ := strconv.Atoi(line[1:])
	switch {
	case n < 0 && (line[0] == '$' || line[0] == '*'):
		b.WriteString("nil ")
	case line[0] == '$':
		p := make([]byte, n+2)
		if _, err := io.ReadFull(r, p); err != nil {
			return err
		}
		fmt.Fprintf(b, "%q ", p[:n])
	case line[0] == '*':
		fmt.Fprintf(b, "*%d ", n)
		for range n {
			if err := flatten(r, b); err != nil {
				return err
			}
		}
	default: // +OK, :1, -ERR no
		b.WriteString(strings.TrimLeft(line, "+:") + " ")
	}
	return nil
}

// TestSortedSetsAnswerAsRedis sends the same random commands, good and bad, to us and to a Redis, and compares the
// answers; LARDER_REDIS_SEED varies the commands. It knows of two differences: we keep no sign of a zero, and the order of ZSCAN is our own.
func TestSortedSetsAnswerAsRedis(t *testing.T) {
	socket := peers.Redis(t)
	t.Parallel()
	peer := dialRedis(t, socket)
	w := newWorld(t)
	r := rand.New(rand.NewPCG(redisSeed(), 2))
	pick := func(xs ...string) string { return xs[r.IntN(len(xs))] }
	key := func() string { return pick("a", "b", "c", "s", "z") }
	member := func() string { return pick("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "", "M") }
	score := func() string {
		return pick("1", "2", "3", "-1", "0", "-0", "1.5", "2.25", "1e3", "inf", "-inf", "+inf", "nan", "x", "123456789012", "3", "3", "3")
	}
	bound := func() string {
		return pick("-inf", "+inf", "1", "(1", "2", "(2.25", "3", "(3", "x", "(-inf", "0", "5", "1000")
	}
	lex := func() string { return pick("-", "+", "[m1", "(m1", "[m3", "(m5", "m", "[", "(", "[z") }
	index := func() string {
		return pick("0", "1", "2", "3", "-1", "-2", "-3", "10", "-10", "x", "9223372036854775807", "-9223372036854775808")
	}
	opts := func(list ...string) (out []string) {
		for _, o := range list {
			if r.IntN(4) == 0 {
				out = append(out, strings.Fields(o)...)
			}
		}
		if r.IntN(20) == 0 {
			out = append(out, pick("FOO", "LIMIT", "1", "withscores", "REV"))
		}
		return out
	}
	keys := func() []string {
		n := 1 + r.IntN(3)
		out := []string{strconv.Itoa(n)}
		if r.IntN(20) == 0 {
			out[0] = pick("0", "-1", "x", "9")
		}
		for range n {
			out = append(out, key())
		}
		return out
	}
	weights := func(n int) (out string) {
		out = "WEIGHTS"
		for range n {
			out += " " + pick("1", "2", "0", "-1", "inf", "0.5", "1", "1")
		}
		if r.IntN(20) == 0 {
			out += " x"
		}
		return out
	}
	failures := 0
	for i := range times(60000) {
		if i%500 == 0 {
			peer.theirs("FLUSHALL")
			w.do("FLUSHALL")
			peer.theirs("SET", "s", "x")
			w.do("SET", "s", "x")
		}
		var cmd []string
		add := func(xs ...string) { cmd = append(cmd, xs...) }
		unordered := false
		switch r.IntN(24) {
		case 0, 1, 2, 3, 4:
			add("ZADD", key())
			add(opts("NX", "XX", "GT", "LT", "CH", "INCR")...)
			for range 1 + r.IntN(3) {
				add(score(), member())
			}
		case 5:
			add("ZINCRBY", key(), score(), member())
		case 6:
			add("ZREM", key(), member(), member())
		case 7:
			add("ZCARD", key())
		case 8:
			add(pick("ZSCORE", "ZRANK", "ZREVRANK"), key(), member())
		case 9:
			add("ZMSCORE", key(), member(), member())
		case 10:
			add("ZCOUNT", key(), bound(), bound())
		case 11:
			add("ZLEXCOUNT", "z", lex(), lex())
		case 12:
			add(pick("ZRANGE", "ZREVRANGE", "ZRANGE"), key(), index(), index())
			add(opts("WITHSCORES", "REV", "LIMIT 0 1", "LIMIT 0 -1")...)
		case 13:
			add("ZRANGE", key(), bound(), bound())
			add(opts("BYSCORE", "BYSCORE", "BYSCORE", "WITHSCORES", "REV", "LIMIT "+index()+" "+index())...)
		case 14:
			add("ZRANGE", "z", lex(), lex())
			add(opts("BYLEX", "BYLEX", "BYLEX", "REV", "LIMIT "+index()+" "+index())...)
		case 15:
			add(pick("ZRANGEBYSCORE", "ZREVRANGEBYSCORE"), key(), bound(), bound())
			add(opts("WITHSCORES", "LIMIT "+index()+" "+index())...)
		case 16:
			add(pick("ZRANGEBYLEX", "ZREVRANGEBYLEX"), "z", lex(), lex())
			add(opts("LIMIT " + index() + " " + index())...)
		case 17:
			switch r.IntN(3) {
			case 0:
				add("ZRANGESTORE", key(), key(), bound(), bound())
				add(opts("BYSCORE", "BYSCORE", "BYSCORE", "REV", "LIMIT "+index()+" "+index())...)
			case 1:
				add("ZRANGESTORE", key(), key(), index(), index())
				add(opts("REV")...)
			default:
				add("ZADD", "z", "0", member(), "0", member(), "0", member())
			}
			if cmd[1] == "z" && cmd[0] != "ZADD" {
				cmd[1] = "a"
			}
		case 18:
			switch r.IntN(3) {
			case 0:
				add("ZREMRANGEBYRANK", key(), index(), index())
			case 1:
				add("ZREMRANGEBYSCORE", key(), bound(), bound())
			default:
				add("ZREMRANGEBYLEX", "z", lex(), lex())
			}
		case 19:
			add(pick("ZPOPMIN", "ZPOPMAX"), key())
			add(opts(pick("0", "1", "3", "-1", "x"))...)
		case 20:
			add("ZMPOP")
			add(keys()...)
			add(pick("MIN", "MAX", "min", "X"))
			add(opts("COUNT " + pick("1", "2", "0", "x"))...)
		case 21:
			ks := keys()
			add(pick("ZUNION", "ZINTER", "ZDIFF"))
			add(ks...)
			add(opts(weights(len(ks)-1), "AGGREGATE "+pick("MIN", "MAX", "sum", "x"), "WITHSCORES")...)
		case 22:
			ks := keys()
			add(pick("ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"), pick("a", "b", "c"))
			add(ks...)
			add(opts(weights(len(ks)-1), "AGGREGATE "+pick("MIN", "MAX", "sum", "x"))...)
		case 23:
			ks := keys()
			if r.IntN(2) == 0 {
				add("ZINTERCARD")
				add(ks...)
				add(opts("LIMIT " + pick("0", "1", "-1", "x"))...)
			} else if r.IntN(2) == 0 {
				add("ZRANDMEMBER", "nokey")
				add(opts(pick("0", "1", "3", "-1", "x"))...)
			} else {
				add("ZSCAN", key(), pick("0", "0", "0", "x"))
				add(opts("MATCH "+pick("m*", "*", "[mM]*"), "COUNT "+pick("10", "100", "0", "x"))...)
				unordered = true
			}
		}
		if cmd[1] == "z" && (cmd[0] == "ZADD" || cmd[0] == "ZINCRBY") { // ranges of names ask for equal scores
			for k := range cmd[2:] {
				if _, ok := parseFloat([]byte(cmd[2+k])); ok {
					cmd[2+k] = "0"
				}
			}
		}
		peer.send(cmd...)
		task := w.task(cmd)
		out := &flat{}
		task.Reply = out
		if task.Writes() {
			w.apply(task)
		} else {
			w.p.Query(w.now, 1, task)
		}
		got, want := out.b.String(), strings.ReplaceAll(peer.receive(), `"-0"`, `"0"`)
		if unordered {
			if len(got) != len(want) {
				t.Errorf("%d %q\n got %s\nwant %s", i, cmd, got, want)
			}
			continue
		}
		if got != want {
			t.Errorf("%d %q\n got %s\nwant %s", i, cmd, got, want)
			if failures++; failures > 15 {
				t.FailNow()
			}
		}
	}
}
