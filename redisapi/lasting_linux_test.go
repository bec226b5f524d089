package redisapi

import (
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/larder-cache/larder/internal/wire"
)

// words is a command with n arguments behind others.
func words(n int, prefix string, first ...string) []string {
	for i := range n {
		first = append(first, prefix+strconv.Itoa(i))
	}
	return first
}

// What takes long is carried out beside the loop that serves the connection, whose other connections do not wait for it; what is quick is
// not. That does not show in the answers.
func TestWhatTakesLongStepsAside(t *testing.T) {
	if theWorld.config.Waits {
		t.Skip("everything that may wait steps aside")
	}
	who := newTenant(t)
	b := newBare(t, New(theWorld.config))
	say := func(args ...string) (aside bool, answer string) {
		t.Helper()
		piece := []byte(command(args...))
		if used := b.Feed(piece); used != len(piece) {
			t.Fatalf("%.40q: %d of %d bytes are done", args, used, len(piece))
		}
		aside = b.away.is()
		return aside, string(b.settle())
	}
	must := func(args ...string) {
		t.Helper()
		if _, answer := say(args...); strings.HasPrefix(answer, "-") {
			t.Fatalf("%.40q: %.200s", args, answer)
		}
	}
	must("AUTH", who.key)
	const n = 20_000
	must(words(n, "m", "SADD", "set")...)
	must(words(n, "m", "RPUSH", "list")...)
	must("EVAL", "for i = 1, 9000 do redis.call('ZADD', 'zset', i, 'm' .. i) end", "0")
	must("EVAL", "for i = 1, 5000 do redis.call('XADD', 'stream', i, 'f', 'v') end", "0")
	for _, args := range [][]string{
		{"SMEMBERS", "set"}, {"LRANGE", "list", "0", "-1"}, {"ZRANGE", "zset", "0", "-1"}, {"SUNION", "set", "set"}, {"ZUNIONSTORE", "d", "1", "zset"},
		{"SORT", "set", "ALPHA", "STORE", "d"}, words(n, "k", "MGET"), words(n, "k", "DEL"), words(n, "m", "SADD", "s"), words(n, "c", "SSUBSCRIBE"), words(n, "c", "SUNSUBSCRIBE"),
		words(n, "k", "WATCH"), {"XREAD", "STREAMS", "stream", "0"}, {"XREAD", "COUNT", "100000", "STREAMS", "stream", "0"}, {"LPOP", "s", "100000"},
	} {
		if aside, answer := say(args...); !aside && !strings.HasPrefix(answer, "-") {
			t.Errorf("%.40q holds up the loop: %.40q", args, answer)
		} else if answer == "" {
			t.Errorf("%.40q has no answer", args)
		}
	}
	for _, args := range [][]string{
		{"GET", "k"}, {"SET", "k", "v"}, {"DEL", "k"}, {"LRANGE", "list", "0", "9"}, {"SMEMBERS", "none"}, {"ZADD", "z", "1", "m"}, {"PING"}, {"SUBSCRIBE", "c"}, {"UNSUBSCRIBE", "c"},
		{"XREAD", "COUNT", "10", "STREAMS", "stream", "0"}, {"EVAL", "return 1", "0"}, {"CLIENT", "ID"}, {"BLPOP", "list", "0"}, {"INCR", "n"}, {"SPOP", "set", "3"}, {"WATCH", "k"}, {"UNWATCH"},
	} {
		if aside, answer := say(args...); aside || answer == "" || answer[0] == '-' {
			t.Errorf("%q: aside is %v: %.100q", args, aside, answer)
		}
	}
	for _, c := range []struct {
		calls [][]string
		aside bool
	}{
		{[][]string{{"SET", "k", "v"}, {"GET", "k"}, {"DEL", "k"}}, false}, {[][]string{{"LRANGE", "list", "0", "-1"}}, true}, {[][]string{{"SET", "k", "v"}, {"SUNIONSTORE", "d", "set"}}, true},
		{[][]string{words(4000, "k", "MGET"), {"GET", "k"}, {"EVAL", "return 1", "0"}}, true}, {[][]string{{"EVAL", "return 1", "0"}}, false},
	} {
		must("MULTI")
		for _, args := range c.calls {
			must(args...)
		}
		if aside, answer := say("EXEC"); aside != c.aside || !strings.HasPrefix(answer, fmt.Sprintf("*%d\r\n", len(c.calls))) {
			t.Errorf("EXEC of %.60q: aside is %v: %.100q", c.calls, aside, answer)
		}
	}
	if got := string(b.feed([]byte(strings.Repeat(command("LRANGE", "list", "0", "500"), 600)))); strings.Count(got, "*501\r\n") != 600 {
		t.Errorf("a pipeline of readings has %d answers", strings.Count(got, "*501\r\n"))
	}
	long := command("GET", "k") + command("SMEMBERS", "set") + command("ECHO", "x") + command("LRANGE", "list", "0", "-1") + command("INCR", "n")
	got := string(b.feed([]byte(long)))
	if !strings.HasPrefix(got, "$1\r\nv\r\n*") && !strings.HasPrefix(got, "$-1\r\n*") || !strings.Contains(got, "$1\r\nx\r\n*") || !strings.HasSuffix(got, ":2\r\n") {
		t.Errorf("a pipeline is answered with %.60q … %.60q", got, got[max(len(got)-60, 0):])
	}
}

// BenchmarkHeldUp tells for how much of a processor's time one feeding of a session lasts at the most, while others on its loop wait.
func BenchmarkHeldUp(b *testing.B) {
	who := newTenant(b)
	for _, c := range []struct {
		name string
		say  []string
	}{
		{"MGET", words(1_000_000, "k", "MGET")}, {"SADD", words(1_000_000, "m", "SADD", "s")}, {"SMEMBERS", []string{"SMEMBERS", "s"}}, {"DEL", words(1_000_000, "k", "DEL")},
		{"SUBSCRIBE", words(90_000, "c", "SSUBSCRIBE")}, {"GET", []string{"GET", "k"}},
	} {
		b.Run(c.name, func(b *testing.B) {
			p := newBare(b, New(theWorld.config))
			p.feed([]byte(command("AUTH", who.key)))
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			text, most := []byte(command(c.say...)), time.Duration(0)
			for b.Loop() {
				for rest := text; len(rest) > 0; {
					p.in = append(p.in, rest[:min(len(rest), wire.ReadChunk)]...)
					rest = rest[min(len(rest), wire.ReadChunk):]
					began := threadTime()
					used := p.Feed(p.in)
					most = max(most, threadTime()-began)
					p.in = p.in[used:]
				}
				p.settle()
			}
			b.ReportMetric(float64(most.Microseconds())/1000, "most-ms")
		})
	}
}

// threadTime is how long this thread has had a processor.
func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}
