package redisapi

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/larder-cache/larder/auth/policy"
)

// What a connection makes the server keep, or has it do while others wait, is bounded before it is begun.
func TestBoundsOfAConnection(t *testing.T) {
	who := newOwner(t)
	numbered := func(n int, words ...string) (list []string) {
		list = words
		for i := range n {
			list = append(list, "n"+strconv.Itoa(i))
		}
		return list
	}
	prefixes := []string{"CLIENT", "TRACKING", "ON", "BCAST"}
	for i := range 200_000 { // to compare each with each would take minutes
		prefixes = append(prefixes, "PREFIX", fmt.Sprintf("p%07d", i))
	}
	long := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name string
		say  []string
		want string
	}{
		{"prefixes", prefixes, "-ERR a client tracks at most 1000 prefixes\r\n"},
		{"a prefix longer than any key", []string{"CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", long}, "-ERR a prefix has at most 32768 bytes, as a key\r\n"},
		{"keys of a wait", numbered(4097, "BLPOP")[:4098:4098], "-ERR timeout is not a float or out of range\r\n"},
		{"keys of a wait that may begin", append(numbered(4097, "BLPOP"), "0"), "-ERR BLPOP waits for at most 4096 keys, these are 4097\r\n"},
		{"patterns of a question", numbered(1025, "CONFIG", "GET"), "-ERR CONFIG GET takes at most 1024 names\r\n"},
		{"names of a question", numbered(1025, "COMMAND", "INFO"), "-ERR COMMAND INFO takes at most 1024 names\r\n"},
		{"names of another", numbered(1025, "COMMAND", "DOCS"), "-ERR COMMAND DOCS takes at most 1024 names\r\n"},
	} {
		if got := who.connect(t, policy.RoleOwner).say(c.say...); got != c.want {
			t.Errorf("%s: %.200q", c.name, got)
		}
	}
	p := who.connect(t, policy.RoleOwner)
	for i := range 17 {
		want, name := "+OK\r\n", strconv.Itoa(i%10)+long[1:]
		if i == 16 {
			want, name = "-ERR the keys that a connection watches have at most 16 MiB\r\n", "one more"
		} else if i >= 10 {
			name = "y" + name[1:i] + name
			name = name[:1<<20]
		}
		if got := p.say("WATCH", name); got != want {
			t.Fatalf("WATCH %d: %.100q", i, got)
		}
	}
	p.want("+OK\r\n", "UNWATCH")
	p.want("+OK\r\n", "WATCH k")
	for i := range 17 {
		got := p.say("SUBSCRIBE", strconv.Itoa(i)+long[len(strconv.Itoa(i)):])
		if refused := strings.HasPrefix(got, "-ERR the names of what a connection listens to have at most 16 MiB"); refused != (i == 16) {
			t.Fatalf("SUBSCRIBE %d: %.100q", i, got)
		}
	}
	p.say("UNSUBSCRIBE")
	p.want("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n", "SUBSCRIBE c")
}

// A key that is watched again and again is watched once: what it takes to watch no more would grow with the square.
func TestAKeyIsWatchedOnce(t *testing.T) {
	p := newOwner(t).connect(t, policy.RoleOwner)
	for range 3 {
		p.want("+OK\r\n", "WATCH k k k")
	}
	if n := len(p.watches); n != 1 {
		t.Errorf("%d watches", n)
	}
	p.want("+OK\r\n", "SELECT 1")
	p.want("+OK\r\n", "WATCH k")
	if n := len(p.watches); n != 2 {
		t.Errorf("%d watches in two databases", n)
	}
	p.want("+OK\r\n", "SET k v")
	p.want("+OK\r\n", "WATCH k") // too late: it has changed since it was watched first
	p.want("+OK\r\n", "MULTI")
	p.want("+QUEUED\r\n", "GET k")
	p.want("*-1\r\n", "EXEC")
	if p.watched != nil || p.watchedBytes != 0 {
		t.Errorf("EXEC left %v", p.watched)
	}
}

// Callers that wait are counted as they come and go, also those that name a key twice.
func TestWaitingIsCounted(t *testing.T) {
	who := newOwner(t)
	boss := who.connect(t, policy.RoleOwner)
	counts := func(clients, keys, gone int) {
		t.Helper()
		got := boss.say("INFO", "clients")
		for name, n := range map[string]int{"blocked_clients": clients, "total_blocking_keys": keys, "total_blocking_keys_on_nokey": gone} {
			if !strings.Contains(got, fmt.Sprintf("\r\n%s:%d\r\n", name, n)) {
				t.Errorf("%s is not %d: %q", name, n, got)
			}
		}
	}
	boss.say("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM")
	a, b, c := who.connect(t, policy.RoleOwner), who.connect(t, policy.RoleOwner), who.connect(t, policy.RoleOwner)
	a.say("BLPOP", "x", "y", "x", "0")
	counts(1, 2, 0)
	b.say("BRPOP", "y", "z", "0")
	counts(2, 3, 0)
	c.say("XREADGROUP", "GROUP", "g", "me", "BLOCK", "0", "STREAMS", "s", "s", ">", ">")
	counts(3, 4, 1)
	boss.say("RPUSH", "y", "1")
	if got := a.hear(); got != "*2\r\n$1\r\ny\r\n$1\r\n1\r\n" {
		t.Errorf("the first: %q", got)
	}
	counts(2, 3, 1)
	boss.say("DEL", "s")
	if got := c.hear(); !strings.HasPrefix(got, "-NOGROUP ") {
		t.Errorf("the group is gone: %q", got)
	}
	counts(1, 2, 0)
	b.Close()
	counts(0, 0, 0)
}

// MONITOR shows what a script calls, as Redis does: in a partition that carries it out at once, which has somebody to ask.
func TestAMonitorSeesIntoScripts(t *testing.T) {
	who := newOwner(t)
	watcher, p := who.connect(t, policy.RoleOwner), who.connect(t, policy.RoleOwner)
	watcher.want("+OK\r\n", "MONITOR")
	p.say("EVAL", "redis.call('SET',KEYS[1],'v') return redis.call('GET',KEYS[1])", "1", "k")
	got := watcher.hear()
	for _, want := range []string{`"EVAL" "redis.call(`, ` [0 lua] "SET" "k" "v"`, ` [0 lua] "GET" "k"`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
}

// asynq asks what keys take in a script.
func TestMemoryUsageInScripts(t *testing.T) {
	p := newOwner(t).connect(t, policy.RoleOwner)
	p.want("+OK\r\n", "SET k v")
	if got := p.say("EVAL", "return redis.call('MEMORY','USAGE',KEYS[1])", "1", "k"); !strings.HasPrefix(got, ":") {
		t.Errorf("%q", got)
	}
	if got := p.say("EVAL", "return redis.call('MEMORY','STATS')", "0"); !strings.HasPrefix(got, "-ERR This Redis command is not allowed from script") {
		t.Errorf("%q", got)
	}
}

// A pipeline of what takes long takes turns, and a transaction ends when it has taken long.
func TestWhatTakesLongTakesTurns(t *testing.T) {
	who := newOwner(t)
	p := who.connect(t, policy.RoleOwner)
	list := []string{"RPUSH", "list"}
	for range 50_000 {
		list = append(list, "an element")
	}
	p.say(list...)
	var script []byte
	for range 200 {
		script = append(script, onTheWire("LPOS", "list", "none")...)
	}
	turns, answers := 0, ""
	for rest := script; len(rest) > 0; turns++ {
		rest = rest[p.Feed(rest):]
		answers += p.hear()
		if turns > len(script) {
			t.Fatal("nothing goes on")
		}
	}
	if answers != strings.Repeat("$-1\r\n", 200) {
		t.Errorf("%.200q", answers)
	}
	const refusal, whole = "-ERR the commands before this one took as long as a transaction may", "-ERR nothing was done: the commands of this transaction"
	p.want("+OK\r\n", "MULTI")
	for range 30 {
		p.say("LLEN", "list")
		p.say("EVAL", "for i = 1, 900000 do end return 'done'", "0")
	}
	got := p.say("EXEC")
	if n := strings.Count(got, refusal); n == 0 || n > 28 || strings.Count(got, "done") != 30-n || strings.Count(got, ":50000\r\n") != 30 {
		t.Errorf("%d of 30 scripts are refused: %.300q", n, got)
	}
	p.want("+OK\r\n", "MULTI")
	p.say("SET", "k", "v")
	for range 30 {
		p.say("LPOS", "list", "none")
	}
	if got := p.say("EXEC"); strings.Count(got, whole) != 31 || p.say("GET", "k") != "$-1\r\n" {
		t.Errorf("a transaction that writes and takes long: %.300q", got)
	}
	p.want("+OK\r\n", "MULTI")
	for range 30 {
		p.say("LPOS", "list", "none")
	}
	if got := p.say("EXEC"); strings.Count(got, "$-1\r\n") != 30 {
		t.Errorf("a transaction that reads takes long: %.300q", got)
	}
}

// A browser that was made to send a form hears nothing, and nothing of the form is done.
func TestHTTPIsHungUpOn(t *testing.T) {
	for _, text := range []string{"POST / HTTP/1.1\r\nHost: here\r\n\r\nSET k v\r\n", "Host: here\r\nSET k v\r\n"} {
		p := newOwner(t).connect(t, policy.RoleOwner)
		p.Feed([]byte(text))
		if got := p.hear(); got != "" || !p.Closing() {
			t.Errorf("%q is answered with %q", text, got)
		}
	}
}
