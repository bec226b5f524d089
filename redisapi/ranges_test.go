package redisapi

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/peers"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// split makes a cache of several slot ranges, which the four partitions of the world share.
func split(t testing.TB, who someone, name string, ranges int) *tenants.Cache {
	t.Helper()
	c, err := theWorld.store.CreateCache(t.Context(), who.tenant, tenants.Cache{Name: name, Ranges: placement.Even(ranges)})
	if err != nil {
		t.Fatal(err)
	}
	if at := len(c.Partitions()); at != min(ranges, 4) {
		t.Fatalf("%d ranges are on %d partitions", ranges, at)
	}
	return c
}

// enter logs a session in to a cache.
func (b *bare) enter(t testing.TB, who someone, cache string, proto int) *bare {
	t.Helper()
	if out := b.feed([]byte(command("HELLO", strconv.Itoa(proto), "AUTH", cache, who.key))); bytes.HasPrefix(out, []byte("-")) {
		t.Fatalf("login: %q", out)
	}
	return b
}

// spreading are commands that have an answer in a cache of several slot ranges, and the same as in one with one. The words a, b
// and c stand for keys, {a} and the like for keys of one slot; * stands for a list of keys and & for one of pairs.
var spreading = strings.Split(strings.TrimSpace(`
GET a
SET a 1
SET a some
SET a x GET
APPEND a xyz
INCR a
INCRBYFLOAT a 0.1
GETDEL a
STRLEN a
SETRANGE a 3 zz
DEL *
UNLINK *
EXISTS *
TOUCH *
MGET *
MSET &
MGET
MSET a
MSET a 1 b
EXISTS
SET a
HSET a f 1 g 2
HGETALL a
HINCRBYFLOAT a f 0.25
LPUSH a 1 2 3
LRANGE a 0 -1
LPOP a 2
SADD a m
SISMEMBER a m
SPOP a
ZADD a 1.5 m 2 n
ZRANGE a 0 -1 WITHSCORES
ZSCORE a m
ZINCRBY a 0.1 m
XADD a 1-1 f v
XLEN a
XRANGE a - +
GEOADD a 13.4 52.5 m
GEOPOS a m
PFADD a x
PFCOUNT a
SETBIT a 7 1
BITCOUNT a
JSON.SET a $ {"x":[1,2.5]}
JSON.GET a $.x
JSON.MGET * $.x
JSON.MGET a
TYPE a
OBJECT ENCODING a
OBJECT HELP
EXPIREAT a 4102444800
EXPIRETIME a
PERSIST a
DBSIZE
DBSIZE x
SWAPDB 0 1
SWAPDB 0 99
FLUSHDB
FLUSHALL ASYNC
FLUSHALL NOW
SINTERSTORE {c} {a} {b}
SUNION {a} {b}
RENAME {a} {b}
RENAMENX {a} {b}
COPY {a} {b}
SMOVE {a} {b} m
LMOVE {a} {b} LEFT RIGHT
MSETNX {a} 1 {b} 2
BITOP OR {c} {a} {b}
ZUNIONSTORE {c} 2 {a} {b}
PFMERGE {c} {a}
LCS {a} {b}
SORT a LIMIT 0 2
EVAL return{redis.call('SET',KEYS[1],ARGV[1]),redis.call('GET',KEYS[1])} 1 a v
EVAL return{KEYS[1],redis.call('STRLEN',KEYS[2])} 2 {a} {b}
EVAL return{1,2.5,'x'} 0
EVAL_RO return{redis.call('GET',KEYS[1])} 1 a
SCRIPT LOAD return{'loaded'}
SCRIPT EXISTS 7d3a0e0e5d3e6ed1a1fb2e2e7a4c8b1a4b2b5b0c
SCRIPT FLUSH
FUNCTION FLUSH
FUNCTION DELETE none
FUNCTION LIST
PUBLISH nobody x
NOSUCH a
LPUSHX a 1
GETRANGE a 0 2
`), "\n")

// makeCommand fills a command in.
func makeCommand(t *rapid.T) []string {
	line := rapid.SampledFrom(spreading).Draw(t, "command")
	key := rapid.StringMatching(`k[0-9]`)
	var args []string
	for i, word := range strings.Fields(line) {
		switch {
		case i == 0:
			args = append(args, word)
		case word == "a" || word == "b" || word == "c":
			args = append(args, key.Draw(t, word))
		case word == "{a}" || word == "{b}" || word == "{c}":
			args = append(args, "{tag}"+key.Draw(t, word))
		case word == "*":
			args = append(args, rapid.SliceOfN(key, 1, 12).Draw(t, "keys")...)
		case word == "&":
			for _, k := range rapid.SliceOfN(key, 1, 12).Draw(t, "keys") {
				args = append(args, k, rapid.SampledFrom([]string{"1", "two", ""}).Draw(t, "value"))
			}
		default:
			args = append(args, word)
		}
	}
	return args
}

// To a client that does not want what Redis Cluster refuses, a cache with several slot ranges is like one with one: pipelines are
// answered alike in both protocols, whatever they are made of, and leave the same keys.
func TestAPipelineIsAnsweredAlikeWhateverTheRanges(t *testing.T) {
	who, srv := newTenant(t), New(theWorld.config)
	split(t, who, "eight", 8)
	split(t, who, "three", 3)
	sessions := map[int][]*bare{}
	for _, proto := range []int{2, 3} {
		for _, name := range []string{"main", "eight", "three"} {
			sessions[proto] = append(sessions[proto], newBare(t, srv).enter(t, who, name, proto))
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		same := func(proto int, words ...[]string) {
			var text strings.Builder
			for _, w := range words {
				text.WriteString(command(w...))
			}
			want := sessions[proto][0].feed([]byte(text.String()))
			for i, s := range sessions[proto][1:] {
				if got := s.feed([]byte(text.String())); !bytes.Equal(got, want) {
					t.Fatalf("%q in cache %d:\n%q\nand with one range:\n%q", words, i, got, want)
				}
			}
		}
		same(2, []string{"FLUSHALL"}, []string{"SCRIPT", "FLUSH"})
		for range rapid.IntRange(1, 4).Draw(t, "pipelines") {
			var words [][]string
			for range rapid.SampledFrom([]int{1, 2, 10, 60}).Draw(t, "length") {
				words = append(words, makeCommand(t))
			}
			same(rapid.IntRange(2, 3).Draw(t, "protocol"), words...)
		}
		want := scanned(t, sessions[2][0], "10")
		for _, s := range sessions[2][1:] {
			for _, got := range [][]string{scanned(t, s, "10"), scanned(t, s, "1000"), listed(t, s, "KEYS", "*")} {
				if !slices.Equal(got, want) {
					t.Fatalf("keys %q, with one range %q", got, want)
				}
			}
		}
	})
}

// A failer is a test of either kind.
type failer interface {
	Fatalf(format string, args ...any)
}

// parseStrings takes an answer apart that is made of strings in lists.
func parseStrings(t failer, out []byte) (list []string) {
	for text := string(out); text != ""; {
		line, rest, _ := strings.Cut(text, "\r\n")
		n, err := strconv.Atoi(line[1:])
		if err != nil || (line[0] != '$' && line[0] != '*') {
			t.Fatalf("no list of strings: %q", out)
		}
		if line[0] == '$' {
			list, rest = append(list, rest[:n]), rest[n+2:]
		}
		text = rest
	}
	return list
}

// listed is an answer that is a list of keys, in order.
func listed(t failer, s *bare, words ...string) []string {
	list := parseStrings(t, s.feed([]byte(command(words...))))
	slices.Sort(list)
	return list
}

// scanned goes over all keys, each of which has to come once.
func scanned(t failer, s *bare, count string) (keys []string) {
	for cursor, steps := "0", 0; ; steps++ {
		list := parseStrings(t, s.feed([]byte(command("SCAN", cursor, "COUNT", count))))
		keys = append(keys, list[1:]...)
		if cursor = list[0]; cursor == "0" {
			break
		}
		if steps > 10_000 {
			t.Fatalf("the scan does not end")
		}
	}
	slices.Sort(keys)
	if n := len(keys); len(slices.Compact(slices.Clone(keys))) != n {
		t.Fatalf("a key came twice: %q", keys)
	}
	return keys
}

// crossing are commands with keys in several slots. A node of Redis Cluster refuses all of them.
var crossing = strings.Split(strings.TrimSpace(`
MSETNX a 1 b 2
RENAME a b
RENAMENX a b
COPY a b
SMOVE a b m
LMOVE a b LEFT RIGHT
RPOPLPUSH a b
BLMOVE a b LEFT RIGHT 1
BLPOP a b 1
BRPOP a b 1
BZPOPMIN a b 1
BLMPOP 1 2 a b LEFT
LMPOP 2 a b LEFT
ZMPOP 2 a b MIN
SDIFF a b
SINTER a b
SUNION a b
SINTERCARD 2 a b
SINTERSTORE a b
SDIFFSTORE a b
SUNIONSTORE a b
ZDIFF 2 a b
ZINTER 2 a b
ZUNION 2 a b
ZINTERCARD 2 a b
ZUNIONSTORE a 1 b
ZINTERSTORE a 1 b
ZDIFFSTORE a 1 b
ZRANGESTORE a b 0 -1
BITOP AND a b
PFCOUNT a b
PFMERGE a b
LCS a b
GEOSEARCHSTORE a b FROMLONLAT 1 1 BYRADIUS 1 m
GEORADIUS a 1 1 1 m STORE b
SORT a STORE b
XREAD STREAMS a b 0 0
EVAL return 2 a b
EVAL_RO return 2 a b
WATCH a b
`), "\n")

// What is done in one step on keys of several slots, a cache with several ranges refuses in the words of Redis Cluster; and of what
// that refuses besides, nothing but what is divided is carried out.
func TestCrossSlotsAsRedisCluster(t *testing.T) {
	conn, err := net.Dial("unix", peers.RedisCluster(t))
	if err != nil {
		t.Fatal(err)
	}
	redis := newPeer(t, conn)
	redis.do("+OK\r\n", "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	in := bufio.NewReader(redis)
	answer := func(words ...string) string {
		redis.send(command(words...))
		var text strings.Builder
		for left := 1; left > 0; left-- {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			text.WriteString(line)
			n, _ := strconv.Atoi(strings.TrimSpace(line[1:]))
			switch {
			case line[0] == '*':
				left += max(n, 0)
			case line[0] == '$' && n >= 0:
				if _, err := io.CopyN(&text, in, int64(n+2)); err != nil {
					t.Fatal(err)
				}
			}
		}
		return text.String()
	}
	eventually(t, "the cluster is up", func() bool { return answer("SET", "a", "1") == "+OK\r\n" })
	who, srv := newTenant(t), New(theWorld.config)
	split(t, who, "eight", 8)
	ours := newBare(t, srv).enter(t, who, "eight", 2)
	const crossSlot = "-CROSSSLOT Keys in request don't hash to the same slot\r\n"
	for _, line := range crossing {
		words := strings.Fields(line)
		if got := answer(words...); got != crossSlot {
			t.Errorf("Redis answers %s with %q", line, got)
		}
		got, want := string(ours.feed([]byte(command(words...)))), crossSlot
		if words[0] == "WATCH" { // what it is for says so
			want = "+OK\r\n"
		}
		if got != want {
			t.Errorf("%s: %q", line, got)
		}
	}
	ours.feed([]byte(command("UNWATCH")))
	for _, script := range []string{
		"MULTI;SET a 1;SET b 2;EXEC",
		"MULTI;MSET a 1 b 2;EXEC",
		"MULTI;RENAME a b;SET a 1;EXEC",
		"MULTI;SET {t}a 1;INCR {t}a;MGET {t}a {t}b;EXEC",
		"MULTI;PING;EXEC",
		"WATCH {t}a;MULTI;GET {t}a;EXEC",
	} {
		for line := range strings.SplitSeq(script, ";") {
			words := strings.Fields(line)
			if got, want := string(ours.feed([]byte(command(words...)))), answer(words...); got != want {
				t.Errorf("%s in %s: %q, Redis has %q", line, script, got, want)
			}
		}
	}
	for _, c := range engine.Commands() { // of those that have several keys, each is in one of the lists
		if c.Flags&(engine.Session|engine.Connection) != 0 || c.Spread.ByKey() || !isRedis(c) {
			continue
		}
		k := c.Keys
		if k.Count+k.Store+k.Streams == 0 && (k.Last == k.First) {
			continue
		}
		if !slices.ContainsFunc(crossing, func(line string) bool {
			name, _, _ := strings.Cut(line, " ")
			return name == c.Name || alike[c.Name] == name
		}) {
			t.Errorf("nothing is said of %s", c.Name)
		}
	}
}

// isRedis reports whether Redis 7.0 has a command.
func isRedis(c *engine.Command) bool {
	major, _, _ := strings.Cut(c.Since, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n <= 7 && !strings.Contains(c.Name, ".")
}

// alike are commands that are routed like others.
var alike = map[string]string{
	"BRPOPLPUSH": "BLMOVE", "BZPOPMAX": "BZPOPMIN", "BZMPOP": "BLMPOP", "EVALSHA": "EVAL", "EVALSHA_RO": "EVAL_RO", "FCALL": "EVAL", "FCALL_RO": "EVAL_RO",
	"GEORADIUSBYMEMBER": "GEORADIUS", "XREADGROUP": "XREAD",
}
