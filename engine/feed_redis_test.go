package engine

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/rdb"
)

// A followed world is one that a Redis follows: it is told what the feed tells.
type followed struct {
	*redisTwin
	f   *Feed
	log []string // what was done, and how it was told
}

func follow(t *testing.T) *followed {
	r := &followed{redisTwin: newRedisTwin(t)}
	var ok bool
	if r.f, ok = r.w.p.Feed(testCache, 64<<20, func() {}); !ok {
		t.Fatal("the cache cannot be followed")
	}
	return r
}

// refusal is an error in an answer: a dash in front of a word.
var refusal = regexp.MustCompile(`(^| )-[A-Z]+ `)

// pass sends Redis what the feed has, none of which it may refuse. what is what was done.
func (r *followed) pass(what string) {
	r.t.Helper()
	b, err := r.f.Take(nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.log = append(r.log, fmt.Sprintf("%d %s=> %.300q", r.w.now, what, b))
	if len(b) == 0 {
		return
	}
	if _, err := r.conn.Write(append(b, "*2\r\n$4\r\nECHO\r\n$9\r\nthe-end--\r\n"...)); err != nil {
		r.t.Fatal(err)
	}
	for {
		answer := r.receive()
		if answer == `"the-end--" ` {
			return
		}
		if refusal.MatchString(answer) {
			r.t.Fatalf("%s\nis told as %q\nand Redis says %s", what, b, answer)
		}
	}
}

// play carries out tasks of ours.
func (r *followed) play(tasks ...*Task) {
	r.t.Helper()
	var what strings.Builder
	for _, task := range tasks {
		for _, c := range task.Calls {
			fmt.Fprintf(&what, "%.200q\n", c.Args)
		}
	}
	r.w.apply(tasks...)
	r.pass(what.String())
}

// compare looks whether Redis has what we have, in all databases that are used.
func (r *followed) compare() {
	r.t.Helper()
	for r.w.sweep(1000) != "0" {
		r.pass("a sweep")
	}
	c := r.w.p.caches[testCache]
	for db := range 3 {
		r.theirs("SELECT", strconv.Itoa(db))
		var ours []string
		if k := c.dbs[db]; k != nil {
			for key := range keysOf(k) {
				if !r.f.all.foreign(k, []byte(key)) {
					ours = append(ours, key)
				}
			}
		}
		slices.Sort(ours)
		theirs := strings.Fields(r.theirs("KEYS", "*"))[1:]
		slices.Sort(theirs)
		quoted := make([]string, len(ours))
		for i, key := range ours {
			quoted[i] = strconv.Quote(key)
		}
		slices.Sort(quoted)
		if !slices.Equal(quoted, theirs) {
			for _, key := range quoted {
				if !slices.Contains(theirs, key) {
					r.t.Log(r.history(key))
				}
			}
			r.t.Fatalf("database %d: we have %v, Redis %v", db, quoted, theirs)
		}
		for _, key := range ours {
			r.compareKey(c.dbs[db], db, key)
		}
	}
}

func (r *followed) compareKey(k *keyspace, db int, key string) {
	r.t.Helper()
	it := r.f.all.at(k, []byte(key))
	d := dumper{now: r.w.now, plain: true}
	if !d.value(it.value) {
		r.t.Fatalf("%q is not a value of Redis's", key)
	}
	r.theirs("SELECT", "9")
	if answer := r.theirs("RESTORE", "k", strconv.FormatInt(it.expireAt, 10), string(rdb.AppendTrailer(d.b)), "REPLACE", "ABSTTL"); answer != "OK " {
		r.t.Fatalf("%q: %s", key, answer)
	}
	ours := r.theirs("DEBUG", "DIGEST-VALUE", "k")
	stream, isStream := it.value.(*streamValue)
	var groups string
	if isStream {
		groups = r.theirs("XINFO", "STREAM", "k") + r.theirs("XINFO", "GROUPS", "k")
		for _, g := range stream.groups {
			groups += r.theirs("XINFO", "CONSUMERS", "k", g.name) + r.theirs("XPENDING", "k", g.name, "-", "+", "100")
		}
	}
	r.theirs("SELECT", strconv.Itoa(db))
	if theirs := r.theirs("DEBUG", "DIGEST-VALUE", key); theirs != ours {
		r.t.Fatalf("%q in database %d has the digest %s, and ours %s\n%s", key, db, theirs, ours, r.history(key))
	}
	at := cmp.Or(it.expireAt, -1)
	if theirs := r.theirs("PEXPIRETIME", key); theirs != strconv.FormatInt(at, 10)+" " {
		r.t.Fatalf("%q expires at %d, in Redis at %s\n%s", key, at, theirs, r.history(key))
	}
	if isStream {
		theirs := r.theirs("XINFO", "STREAM", key) + r.theirs("XINFO", "GROUPS", key)
		for _, g := range stream.groups {
			theirs += r.theirs("XINFO", "CONSUMERS", key, g.name) + r.theirs("XPENDING", key, g.name, "-", "+", "100")
		}
		if a, b := ageless(groups), ageless(theirs); withoutTimes(a) != withoutTimes(b) {
			r.t.Fatalf("the stream %q is ours\n%s\nand in Redis\n%s\n%s", key, a, b, r.history(key))
		}
	}
}

// history is what was done to a key lately.
func (r *followed) history(key string) string {
	list := slices.DeleteFunc(r.log, func(line string) bool {
		return !strings.Contains(line, key) && !strings.Contains(line, "SWAPDB") && !strings.Contains(line, "FLUSH")
	})
	return strings.Join(list[max(0, len(list)-30):], "\n")
}

// withoutTimes leaves out what a payload does not carry in the same way: how a stream lies in nodes.
func withoutTimes(s string) string {
	words := strings.Fields(s)
	for i := range words {
		if i > 0 && (words[i-1] == `"radix-tree-keys"` || words[i-1] == `"radix-tree-nodes"`) {
			words[i] = "N"
		}
	}
	return strings.Join(words, " ")
}

func keysOf(k *keyspace) map[string]bool {
	keys := map[string]bool{}
	k.table.Each(0, func(_ uint64, r dense.Ref) bool {
		keys[string(k.p.store.Key(r))] = true
		return true
	})
	return keys
}

// TestWhatAFeedTellsMakesRedisHoldTheSame follows random commands of all types, transactions, scripts and expiry, and compares all that
// there is then, by a real Redis's digests.
func TestWhatAFeedTellsMakesRedisHoldTheSame(t *testing.T) {
	r := follow(t)
	r.w.checkEvery = 64
	for i := range 6000 {
		r.w.db = r.IntN(20) / 19
		switch n := r.IntN(40); {
		case n == 0:
			r.w.now += int64(r.IntN(3000))
		case n == 1:
			if task := r.w.p.Sweep(r.w.now, 1+r.IntN(50)); task != nil {
				r.play(task)
			}
		case n < 6:
			var commands [][]string
			for range 1 + r.IntN(5) {
				commands = append(commands, r.command())
			}
			task := r.w.task(commands...)
			task.Atomic, task.Whole = n == 3, n == 4
			r.play(task)
		default:
			r.play(r.w.task(r.command()))
		}
		if i%100 == 99 {
			r.compare()
		}
	}
	r.w.now += 1 << 20
	r.compare()
}

// command is a random command. The first letter of a key says mostly of which type its value is.
func (r *followed) command() []string {
	n := func(most int) string { return strconv.Itoa(r.IntN(most)) }
	key := func(kind string) string {
		if r.IntN(60) == 0 {
			kind = r.pick("s", "l", "h", "t", "z", "x", "f")
		}
		return kind + n(4)
	}
	el := func() string { return r.pick("e", "el-", strings.Repeat("long", 20)) + n(30) }
	many := func(each ...func() string) (out []string) {
		count := 1 + r.IntN(3)
		if r.IntN(25) == 0 {
			count = 300
		}
		for i := range count {
			for _, e := range each {
				if text := e(); count == 300 {
					out = append(out, text+"-"+strconv.Itoa(i))
				} else {
					out = append(out, text)
				}
			}
		}
		return out
	}
	score := func() string { return r.pick("1", "2.5", "-3", "1e10", "inf") }
	scores := func() (out []string) {
		for _, m := range many(el) {
			out = append(out, score(), m)
		}
		return out
	}
	cat := func(parts ...any) (out []string) {
		for _, p := range parts {
			switch p := p.(type) {
			case string:
				out = append(out, strings.Fields(p)...)
			case []string:
				out = append(out, p...)
			}
		}
		return out
	}
	s, l, h, set, z, x := key("s"), key("l"), key("h"), key("t"), key("z"), key("x")
	fields := func() []string { return cat("FIELDS 2", el(), el()) }
	id := func() string { return strconv.FormatInt(r.w.now-int64(r.IntN(100)), 10) + "-" + n(3) }
	all := []func() []string{
		func() []string { return cat("SET", s, el(), r.some("PX "+n(5000)+"1", "GET")) },
		func() []string { return cat(r.pick("INCR", "DECR", "PERSIST", "GETDEL", "GET"), s) },
		func() []string { return cat(r.pick("APPEND", "GETSET", "SETNX"), s, el()) },
		func() []string { return cat("INCRBYFLOAT", s, r.pick("0.1", "2", "-7.25")) },
		func() []string { return cat("SETRANGE", s, n(50), el()) },
		func() []string { return cat("SETBIT", s, n(400), n(2)) },
		func() []string { return cat("BITFIELD", s, "INCRBY u5 100 3 OVERFLOW FAIL SET i8 #3", n(200)) },
		func() []string { return cat("BITOP", r.pick("AND", "OR", "XOR"), s, key("s"), key("s")) },
		func() []string { return cat("MSET", s, el(), key("s"), el()) },
		func() []string { return cat("MSETNX", s, el(), key("s"), el()) },
		func() []string { return cat(r.pick("SETEX", "PSETEX"), s, n(3000)+"1", el()) },
		func() []string { return cat("GETEX", s, r.pick("PERSIST", "PX "+n(5000)+"1")) },
		func() []string { return cat("PFADD", key("f"), many(el)) },
		func() []string { return cat("PFMERGE", key("f"), key("f"), key("f")) },
		func() []string { return cat(r.pick("LPUSH", "RPUSH", "LPUSHX", "RPUSHX"), l, many(el)) },
		func() []string { return cat(r.pick("LPOP", "RPOP"), l, r.some(n(40))) },
		func() []string { return cat("LSET", l, n(5), el()) },
		func() []string { return cat("LINSERT", l, r.pick("BEFORE", "AFTER"), el(), el()) },
		func() []string { return cat("LREM", l, r.pick("0", "1", "-2"), el()) },
		func() []string { return cat("LTRIM", l, n(20), r.pick("-1", "-3", "100")) },
		func() []string { return cat("LMOVE", l, key("l"), r.pick("LEFT", "RIGHT"), r.pick("LEFT", "RIGHT")) },
		func() []string { return cat(r.pick("RPOPLPUSH", "RENAME", "RENAMENX", "COPY"), l, key("l")) },
		func() []string { return cat(r.pick("BLPOP", "BRPOP"), l, key("l"), "1") },
		func() []string { return cat("BLMPOP 1 2", l, key("l"), "LEFT COUNT", "1"+n(9)) },
		func() []string { return cat("BLMOVE", l, key("l"), "LEFT RIGHT 1") },
		func() []string { return cat("HSET", h, many(el, el)) },
		func() []string { return cat("HSET", h, "n"+n(3), n(100)) },
		func() []string { return cat("HDEL", h, many(el)) },
		func() []string { return cat("HSETNX", h, el(), el()) },
		func() []string { return cat("HINCRBY", h, "n"+n(3), n(50)) },
		func() []string { return cat("HINCRBYFLOAT", h, "n"+n(3), "1.5") },
		func() []string { return cat(r.pick("HEXPIRE", "HPEXPIRE"), h, n(4000)+"1", fields()) },
		func() []string { return cat("HPERSIST", h, fields()) },
		func() []string { return cat("HGETDEL", h, fields()) },
		func() []string { return cat("HGETEX", h, "PX", n(4000)+"1", fields()) },
		func() []string { return cat("HSETEX", h, "PX", n(4000)+"1", "FIELDS 1", el(), el()) },
		func() []string { return cat("SADD", set, many(el)) },
		func() []string { return cat("SADD", set, n(100), n(100), n(1000)) },
		func() []string { return cat("SREM", set, many(el)) },
		func() []string { return cat("SPOP", set, r.some(n(40))) },
		func() []string { return cat("SMOVE", set, key("t"), el()) },
		func() []string {
			return cat(r.pick("SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"), set, key("t"), key("t"))
		},
		func() []string { return cat("SORT", set, "ALPHA STORE", key("l")) },
		func() []string { return cat("ZADD", z, scores()) },
		func() []string { return cat("ZADD", z, r.pick("NX", "XX", "GT", "LT", "XX INCR"), "3", el()) },
		func() []string { return cat("ZINCRBY", z, score(), el()) },
		func() []string { return cat("ZREM", z, many(el)) },
		func() []string { return cat(r.pick("ZPOPMIN", "ZPOPMAX"), z, r.some(n(30))) },
		func() []string { return cat(r.pick("BZPOPMIN", "BZPOPMAX"), z, key("z"), "1") },
		func() []string { return cat("BZMPOP 1 2", z, key("z"), "MAX COUNT 3") },
		func() []string {
			return cat(r.pick("ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE"), z, "2", key("z"), key("z"))
		},
		func() []string { return cat("ZRANGESTORE", z, key("z"), "0 20") },
		func() []string { return cat("ZREMRANGEBYRANK", z, "0", n(5)) },
		func() []string { return cat("ZREMRANGEBYSCORE", z, "2", "3") },
		func() []string { return cat("GEOADD", z, "13.36", "38.1"+n(99), el()) },
		func() []string { return cat("GEOSEARCHSTORE", z, key("z"), "FROMLONLAT 13 38 BYRADIUS 200 km ASC") },
		func() []string { return cat("LEADERBOARD.PUT", z, "SET", score(), el(), score(), el()) },
		func() []string { return cat("LEADERBOARD.REMOVE", z, el()) },
		func() []string { return cat("LEADERBOARD.EXPIRE", z, n(9000)) },
		func() []string { return cat("LEADERBOARD.CREATE", "b"+n(2), "KEEP 10 DESC") },
		func() []string { return cat("LEADERBOARD.PUT", "b"+n(2), "SET", score(), el()) },
		func() []string { return cat("ZUNIONSTORE", z, "2", key("z"), "b"+n(2)) },
		func() []string { return cat("RENAME", "b"+n(2), z) },
		func() []string { return cat("COPY", z, "b"+n(2), "REPLACE") },
		func() []string { return cat("XADD", x, r.some("MAXLEN ~ "+n(50), "NOMKSTREAM"), "*", many(el, el)) },
		func() []string { return cat("XADD", x, id(), el(), el()) },
		func() []string { return cat("XTRIM", x, "MAXLEN", r.pick("~", "="), n(80)) },
		func() []string { return cat("XDEL", x, id(), id()) },
		func() []string { return cat("XGROUP CREATE", x, "g"+n(2), r.pick("0", "$"), r.some("MKSTREAM")) },
		func() []string { return cat("XGROUP", r.pick("DESTROY"), x, "g"+n(9)) },
		func() []string { return cat("XGROUP", r.pick("CREATECONSUMER", "DELCONSUMER"), x, "g"+n(2), "c"+n(3)) },
		func() []string {
			return cat("XREADGROUP GROUP", "g"+n(2), "c"+n(3), r.some("COUNT "+n(5), "BLOCK 1", "NOACK"), "STREAMS", x, r.pick(">", ">", ">", "0"))
		},
		func() []string { return cat("XACK", x, "g"+n(2), id(), id(), id()) },
		func() []string {
			return cat("XCLAIM", x, "g"+n(2), "c"+n(3), n(200), id(), id(), r.some("FORCE", "JUSTID", "LASTID "+id(), "RETRYCOUNT 4"))
		},
		func() []string {
			return cat("XAUTOCLAIM", x, "g"+n(2), "c"+n(3), n(200), "0", r.some("COUNT 3", "JUSTID"))
		},
		func() []string { return cat("XSETID", x, strconv.FormatInt(r.w.now+5, 10)) },
		func() []string {
			return cat("XACKDEL", x, "g"+n(2), r.pick("DELREF", "ACKED", "KEEPREF"), "IDS 1", id())
		},
		func() []string {
			return cat(r.pick("DEL", "UNLINK"), key(r.pick("s", "l", "h", "t", "z", "x")), key("s"))
		},
		func() []string {
			return cat(r.pick("EXPIRE", "PEXPIRE"), key(r.pick("s", "l", "h", "t", "z", "x")), n(6000), r.some("NX", "GT"))
		},
		func() []string {
			return cat("PEXPIREAT", key(r.pick("s", "l", "z")), strconv.FormatInt(r.w.now+int64(r.IntN(5000))-100, 10))
		},
		func() []string { return cat("MOVE", key(r.pick("s", "l", "h")), n(3)) },
		func() []string {
			return cat("COPY", key(r.pick("s", "l", "h", "z")), key(r.pick("s", "l", "h", "z")), "DB", n(3), "REPLACE")
		},
		func() []string { return cat("JSON.SET", r.pick("j0", "j1", "s0"), "$", `{"a":1}`) },
		func() []string { return cat("BF.ADD", "bloom", el()) },
		func() []string { return cat("KV.SET", s, el(), r.some("PX "+n(900)+"1")) },
		func() []string { return cat("COUNTER.ADD", "c"+n(3), n(50)) },
		func() []string { return cat("MC.SET", s, el(), "0", "0") },
		func() []string {
			return []string{"EVAL", "redis.call('LPUSH', KEYS[1], 'x') redis.call('SET', KEYS[2], ARGV[1]) return redis.call('SPOP', KEYS[3])", "3", l, s, set, el()}
		},
		func() []string {
			return []string{"EVAL", "redis.call('RPUSH', KEYS[1], 'y') redis.call('SADD', KEYS[1], 'fails')", "1", l}
		},
		func() []string {
			return []string{"EVAL", "redis.call('RPUSH', KEYS[1], 'z') while true do end", "1", l}
		},
	}
	if r.IntN(300) == 0 {
		return strings.Fields(r.pick("FLUSHDB", "FLUSHALL", "SWAPDB 0 1"))
	}
	return all[r.IntN(len(all))]()
}
