// Command holdup measures for how long what one client asks for holds up others.
//
// An attacker sends something that takes long, again and again; meanwhile victims on connections of their own ask small things, and
// the time that their answers take is noted in two clocks: on the wall, and as the processor time that the server has had meanwhile.
// On a machine with other work only the second says something: a server that is not scheduled holds up everybody, and costs nothing.
//
//	holdup -addr 127.0.0.1:6379 -pid PID -key KEY [-cache main] [-other CACHE] [-only NAME]
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

var (
	addr  = flag.String("addr", "127.0.0.1:6379", "where the server listens")
	pid   = flag.Int("pid", 0, "its process")
	key   = flag.String("key", "", "an API key, or a password")
	cache = flag.String("cache", "", "the cache that is attacked; the key's own if empty")
	other = flag.String("other", "", "a cache that is not; none if empty")
	only  = flag.String("only", "", "attacks whose names begin so")
	span  = flag.Duration("for", 2*time.Second, "how long each attack goes on")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	boss, err := dial(*cache)
	if err != nil {
		return err
	}
	defer boss.Close()
	if err := fill(boss); err != nil {
		return err
	}
	fmt.Printf("%-34s %5s %9s |", "attack", "times", "each")
	for _, v := range victims {
		if v.other && *other == "" {
			continue
		}
		fmt.Printf(" %-24s|", v.name+": most cpu, wall (n)")
	}
	fmt.Println()
	for _, a := range attacks {
		if !strings.HasPrefix(a.name, *only) {
			continue
		}
		if err := measure(boss, a); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	return nil
}

// A victim asks something small.
type victim struct {
	name  string
	other bool
	say   []string
}

var victims = []victim{
	{"get", false, []string{"GET", "victim"}},
	{"set", false, []string{"SET", "victim", "v"}},
	{"get elsewhere", true, []string{"GET", "victim"}},
	{"set elsewhere", true, []string{"SET", "victim", "v"}},
}

// The sizes of what is attacked with.
const (
	members = 1_000_000
	keys    = 90_000
)

// An attack is what is sent at once, and how many answers it gets.
type attack struct {
	name    string
	before  [][]string // sent before each time, not measured
	say     []string
	times   int // 0 for once
	answers int // 0 for as many as times
	raw     string
}

func numbered(n int, each func(i int) []string, words ...string) []string {
	for i := range n {
		words = append(words, each(i)...)
	}
	return words
}

func number(prefix string) func(i int) []string {
	return func(i int) []string { return []string{prefix + strconv.Itoa(i)} }
}

func pair(prefix string) func(i int) []string {
	return func(i int) []string { return []string{prefix + strconv.Itoa(i), strconv.Itoa(i)} }
}

func scored(prefix string) func(i int) []string {
	return func(i int) []string { return []string{strconv.Itoa(i), prefix + strconv.Itoa(i)} }
}

func multi(n int, words ...string) attack {
	raw := command("MULTI") + strings.Repeat(command(words...), n) + command("EXEC")
	return attack{name: fmt.Sprintf("MULTI %d x %s", n, strings.Join(words, " ")), raw: raw, answers: n + 2}
}

func writing(n int, words ...string) attack {
	raw := command("MULTI") + command("SET", "x", "y") + strings.Repeat(command(words...), n) + command("EXEC")
	return attack{name: fmt.Sprintf("MULTI SET, %d x %s", n, strings.Join(words, " ")), raw: raw, answers: n + 3}
}

const million = 1_000_000

var attacks = []attack{
	{name: "KEYS", say: []string{"KEYS", "*"}},
	{name: "100 pipelined KEYS", say: []string{"KEYS", "nothing*"}, times: 100},
	{name: "SMEMBERS", say: []string{"SMEMBERS", "set"}},
	{name: "HGETALL", say: []string{"HGETALL", "hash"}},
	{name: "ZRANGE", say: []string{"ZRANGE", "zset", "0", "-1"}},
	{name: "LRANGE", say: []string{"LRANGE", "list", "0", "-1"}},
	{name: "XRANGE", say: []string{"XRANGE", "stream", "-", "+"}},
	{name: "SUNION", say: []string{"SUNION", "set", "set2"}},
	{name: "SORT_RO", say: []string{"SORT_RO", "set", "ALPHA"}},
	multi(1000, "KEYS", "nothing*"),
	multi(10, "SMEMBERS", "set"),
	multi(20_000, "LRANGE", "list", "0", "500"),
	multi(90_000, "GET", "k1"),
	writing(1000, "KEYS", "nothing*"),
	writing(10, "SMEMBERS", "set"),
	writing(90_000, "SET", "y", "z"),
	writing(50, "ZUNIONSTORE", "d", "1", "zset"),
	{name: "MGET million", say: numbered(million, number("k"), "MGET")},
	{name: "EXISTS million", say: numbered(million, number("k"), "EXISTS")},
	{name: "HMGET million", say: numbered(million, number("f"), "HMGET", "hash")},
	{name: "SMISMEMBER million", say: numbered(million, number("m"), "SMISMEMBER", "set")},
	{name: "ZMSCORE million", say: numbered(million, number("m"), "ZMSCORE", "zset")},
	{name: "DEL million", say: numbered(million, number("none"), "DEL")},
	{name: "SADD million", say: numbered(million, number("m"), "SADD", "new"), before: [][]string{{"DEL", "new"}}},
	{name: "MSET half a million", say: numbered(million/2, pair("new"), "MSET"), before: [][]string{{"FLUSHDB"}}},
	{name: "HSET half a million", say: numbered(million/2, pair("f"), "HSET", "new"), before: [][]string{{"DEL", "new"}}},
	{name: "ZADD half a million", say: numbered(million/2, scored("m"), "ZADD", "new"), before: [][]string{{"DEL", "new"}}},
	{name: "RPUSH million", say: numbered(million, number("m"), "RPUSH", "new"), before: [][]string{{"DEL", "new"}}},
	{name: "LPOP", say: []string{"LPOP", "new", "1000000"}, before: [][]string{{"COPY", "list", "new", "REPLACE"}}},
	{name: "SPOP", say: []string{"SPOP", "new", "1000000"}, before: [][]string{{"COPY", "set", "new", "REPLACE"}}},
	{name: "ZUNIONSTORE", say: []string{"ZUNIONSTORE", "d", "1", "zset"}},
	{name: "SINTERSTORE", say: []string{"SINTERSTORE", "d", "set", "set2"}},
	{name: "SORT STORE", say: []string{"SORT", "set", "ALPHA", "STORE", "d"}},
	{name: "BITOP", say: []string{"BITOP", "XOR", "d", "bits", "bits"}},
	{name: "LCS", say: []string{"LCS", "text1", "text2"}},
	{name: "COPY", say: []string{"COPY", "set", "d", "REPLACE"}},
	{name: "PFCOUNT many", say: numbered(20_000, func(int) []string { return []string{"hll"} }, "PFCOUNT")},
	{name: "SUBSCRIBE many", say: numbered(90_000, number("c"), "SUBSCRIBE"), answers: 90_000},
	{name: "WATCH many", say: numbered(90_000, number("k"), "WATCH")},
	{name: "EVAL endless", say: []string{"EVAL", "while true do end", "0"}},
	{name: "EVAL ZUNIONSTORE", say: []string{"EVAL", "return redis.call('ZUNIONSTORE', 'd', 1, 'zset')", "0"}},
	{name: "100 pipelined EVAL endless", say: []string{"EVAL", "while true do end", "0"}, times: 100},
	{name: "inline of 60 KB", raw: "PING " + strings.Repeat("x", 60_000) + "\r\n"},
}

// fill makes what is attacked with.
func fill(c *conn) error {
	batch := func(n, each int, make func(from, to int) []string) error {
		for from := 0; from < n; from += each {
			if err := c.do(make(from, min(from+each, n))...); err != nil {
				return err
			}
		}
		return nil
	}
	in := func(each func(i int) []string, words ...string) func(from, to int) []string {
		return func(from, to int) []string {
			return numbered(to-from, func(i int) []string { return each(from + i) }, slices.Clone(words)...)
		}
	}
	if err := c.do("FLUSHALL"); err != nil {
		return err
	}
	for _, step := range []struct {
		n    int
		each func(i int) []string
		say  []string
	}{
		{members, number("m"), []string{"SADD", "set"}}, {members / 2, number("m"), []string{"SADD", "set2"}},
		{members, pair("f"), []string{"HSET", "hash"}}, {members, scored("m"), []string{"ZADD", "zset"}},
		{members, number("e"), []string{"RPUSH", "list"}}, {keys, pair("k"), []string{"MSET"}},
		{5000, number("e"), []string{"PFADD", "hll"}},
	} {
		if err := batch(step.n, 10_000, in(step.each, step.say...)); err != nil {
			return err
		}
	}
	for range 20 {
		if err := c.all(strings.Repeat(command("XADD", "stream", "*", "f", "v"), 5000), 5000); err != nil {
			return err
		}
	}
	text := strings.Repeat("abcdefghij", 300)
	for _, say := range [][]string{{"SETRANGE", "bits", "16000000", "x"}, {"SET", "text1", text}, {"SET", "text2", text[3:]}, {"SET", "victim", "v"}} {
		if err := c.do(say...); err != nil {
			return err
		}
	}
	return nil
}

// A worst is the longest wait of a victim.
type worst struct {
	cpu, wall time.Duration
	n         int
}

func measure(boss *conn, a attack) error {
	var stop atomic.Bool
	var watching sync.WaitGroup
	waits := make([]worst, len(victims))
	failed := make([]error, len(victims))
	for i, v := range victims {
		if v.other && *other == "" {
			continue
		}
		where := *cache
		if v.other {
			where = *other
		}
		c, err := dial(where)
		if err != nil {
			return err
		}
		watching.Go(func() {
			defer c.Close()
			for !stop.Load() {
				cpu, began := processTime(), time.Now()
				if failed[i] = c.do(v.say...); failed[i] != nil {
					return
				}
				cpu, took := processTime()-cpu, time.Since(began)
				waits[i].cpu, waits[i].wall, waits[i].n = max(waits[i].cpu, cpu), max(waits[i].wall, took), waits[i].n+1
				time.Sleep(time.Millisecond)
			}
		})
	}
	c, err := dial(*cache)
	if err != nil {
		return err
	}
	defer c.Close()
	text := a.raw
	if text == "" {
		text = strings.Repeat(command(a.say...), max(a.times, 1))
	}
	times, took := 0, time.Duration(0)
	for began := time.Now(); times == 0 || time.Since(began) < *span; times++ {
		for _, say := range a.before {
			if err := boss.do(say...); err != nil {
				return err
			}
		}
		from := time.Now()
		if err := c.all(text, max(a.answers, a.times, 1)); err != nil {
			return err
		}
		took += time.Since(from)
	}
	stop.Store(true)
	watching.Wait()
	fmt.Printf("%-34.34s %5d %9v |", a.name, times, (took / time.Duration(times)).Round(10*time.Microsecond))
	for i, v := range victims {
		if failed[i] != nil {
			return failed[i]
		}
		if !v.other || *other != "" {
			fmt.Printf(" %8v %8v %6d|", waits[i].cpu.Round(10*time.Microsecond), waits[i].wall.Round(10*time.Microsecond), waits[i].n)
		}
	}
	fmt.Println()
	if slices.ContainsFunc(a.before, func(say []string) bool { return say[0] == "FLUSHDB" }) {
		return fill(boss)
	}
	return nil
}

// processTime is how long the server has had processors.
func processTime() time.Duration {
	var t unix.Timespec
	if *pid == 0 || unix.ClockGettime(int32(^uint32(*pid)<<3|2), &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// A conn is a client.
type conn struct {
	net.Conn
	in *bufio.Reader
}

func dial(cache string) (*conn, error) {
	n, err := net.Dial("tcp", *addr)
	if err != nil {
		return nil, err
	}
	c := &conn{n, bufio.NewReaderSize(n, 1<<20)}
	switch {
	case *key == "":
	case cache == "":
		err = c.do("AUTH", *key)
	default:
		err = c.do("AUTH", cache, *key)
	}
	return c, err
}

// command is a request as clients send it.
func command(words ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(words))
	for _, w := range words {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(w), w)
	}
	return b.String()
}

// do asks one thing. An error that the server answers is one.
func (c *conn) do(words ...string) error {
	if _, err := io.WriteString(c, command(words...)); err != nil {
		return err
	}
	refused, err := c.skip()
	if err == nil && refused != "" {
		err = fmt.Errorf("%s: %s", words[0], refused)
	}
	return err
}

// all sends something, and reads so many answers, of which any may be an error.
func (c *conn) all(text string, answers int) error {
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, text)
		sent <- err
	}()
	for range answers {
		if _, err := c.skip(); err != nil {
			return err
		}
	}
	return <-sent
}

// skip reads an answer. refused is the error that it is.
func (c *conn) skip() (refused string, err error) {
	for left := 1; left > 0; left-- {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return "", err
		}
		text := strings.TrimRight(string(line), "\r\n")
		n, _ := strconv.Atoi(text[1:])
		switch text[0] {
		case '-':
			refused = text[1:]
		case '$':
			if n >= 0 {
				if _, err := c.in.Discard(n + 2); err != nil {
					return "", err
				}
			}
		case '*':
			left += max(n, 0)
		}
	}
	return refused, nil
}
