package redisapi

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/internal/fault"
)

// streams are inputs of a client that has logged in, and what it is told. KEY stands for the tenant's key.
var streams = []struct{ name, in, out string }{
	{"nothing", "", ""},
	{"one command", command("SET", "a", "1"), "+OK\r\n"},
	{"a pipeline", command("SET", "a", "1") + command("INCR", "a") + command("GET", "a") + command("GET", "none"), "+OK\r\n:2\r\n$1\r\n2\r\n$-1\r\n"},
	{"a command and a part of one", command("SET", "a", "1") + "*2\r\n$3\r\nGE", "+OK\r\n"},
	{"inline", "SET a 'x y'\r\nGET a\n", "+OK\r\n$3\r\nx y\r\n"},
	{"inline with escapes", `SET a "\x41\n\"b"` + "\r\nGET a\r\n", "+OK\r\n$4\r\nA\n\"b\r\n"},
	{"empty lines", "\r\n\n\r\nPING\r\n\r\n", "+PONG\r\n"},
	{"empty lines between commands", command("SET", "a", "1") + "\r\n*0\r\n*-1\r\n" + command("GET", "a") + "\n" + command("DEL", "a"), "+OK\r\n$1\r\n1\r\n:1\r\n"},
	{"an empty line, then a part", command("SET", "a", "1") + "*0\r\n" + "*2\r\n$3\r\nGET\r\n$1", "+OK\r\n"},
	{"empty arguments", command("SET", "", "") + command("GET", ""), "+OK\r\n$0\r\n\r\n"},
	{"an error amid a pipeline", command("SET", "s", "x") + command("INCR", "s") + command("GET", "s"), "+OK\r\n-ERR value is not an integer or out of range\r\n$1\r\nx\r\n"},
	{"unknown", command("NOPE", "x") + command("PING"), "-ERR unknown command 'NOPE', with args beginning with: 'x' \r\n+PONG\r\n"},
	{"too few arguments", command("GET") + command("PING"), "-ERR wrong number of arguments for 'get' command\r\n+PONG\r\n"},
	{"MULTI", command("MULTI") + command("SET", "a", "1") + command("GET", "a") + command("EXEC"), "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\n1\r\n"},
	{"MULTI spoilt", command("MULTI") + command("NOPE") + command("EXEC"), "+OK\r\n-ERR unknown command 'NOPE', with args beginning with: \r\n-EXECABORT Transaction discarded because of previous errors.\r\n"},
	{"MULTI and DISCARD", command("SET", "a", "1") + command("MULTI") + command("SET", "a", "2") + command("DISCARD") + command("GET", "a"), "+OK\r\n+OK\r\n+QUEUED\r\n+OK\r\n$1\r\n1\r\n"},
	{"BLPOP that need not wait", command("RPUSH", "l", "x") + command("BLPOP", "l", "0") + command("PING"), ":1\r\n*2\r\n$1\r\nl\r\n$1\r\nx\r\n+PONG\r\n"},
	{"BLPOP that waits", command("SET", "a", "1") + command("BLPOP", "none", "0") + command("PING"), "+OK\r\n"},
	{"SELECT", command("SET", "a", "1") + command("SELECT", "1") + command("GET", "a"), "+OK\r\n+OK\r\n$-1\r\n"},
	{"replies off", command("CLIENT", "REPLY", "OFF") + command("SET", "a", "1") + command("CLIENT", "REPLY", "ON") + command("GET", "a"), "+OK\r\n$1\r\n1\r\n"},
	{"replies skipped", command("CLIENT", "REPLY", "SKIP") + command("SET", "a", "1") + command("GET", "a"), "$1\r\n1\r\n"},
	{"QUIT", command("QUIT") + command("PING"), "+OK\r\n"},
	{"RESET", command("RESET") + command("GET", "a"), "+RESET\r\n-NOAUTH Authentication required.\r\n"},
	{"RESET and AUTH", command("SET", "a", "1") + command("RESET") + command("AUTH", "KEY") + command("GET", "a"), "+OK\r\n+RESET\r\n+OK\r\n$1\r\n1\r\n"},
	{"SUBSCRIBE", command("SUBSCRIBE", "c") + command("GET", "a") + command("UNSUBSCRIBE"), "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" +
		"-ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context\r\n*3\r\n$11\r\nunsubscribe\r\n$1\r\nc\r\n:0\r\n"},
	{"a negative length", command("SET", "a", "1") + "*1\r\n$-2\r\n", "+OK\r\n-ERR Protocol error: invalid bulk length\r\n"},
	{"a null", "*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
	{"no length", "*1\r\n$\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
	{"no count", "*\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
	{"a count past the bound", "*1048577\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
	{"a count that overflows", "*9223372036854775808\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
	{"a count that overflows to 1", "*18446744073709551617\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
	{"a length past the bound", "*1\r\n$536870913000\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
	{"a length that overflows", "*1\r\n$18446744073709551616\r\n", "-ERR Protocol error: invalid bulk length\r\n"},
	{"a count that is no number", "*1x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
	{"no dollar", "*1\r\n:4\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"},
	{"no CRLF after an argument", "*1\r\n$4\r\nPINGxx", "-ERR Protocol error: expected CRLF after an argument of 4 bytes\r\n"},
	{"a CR alone", "*1\r$4\r\nPING\r\n", "-ERR Protocol error: invalid multibulk length\r\n"},
	{"unbalanced quotes", "PING\r\nSET a 'b\r\nPING\r\n", "+PONG\r\n-ERR Protocol error: unbalanced quotes in request\r\n"},
	{"an inline command without an end", strings.Repeat("x", maxInline+1), "-ERR Protocol error: too big inline request\r\n"},
	{"a count without an end", "*" + strings.Repeat("1", maxInline+1), "-ERR Protocol error: too big mbulk count string\r\n"},
	{"a length without an end", "*1\r\n$" + strings.Repeat("1", maxInline+1), "-ERR Protocol error: too big bulk count string\r\n"},
}

// However its input is cut into pieces, a session says the same.
func TestPiecesDoNotMatter(t *testing.T) {
	srv := New(theWorld.config)
	who := newTenant(t)
	for _, s := range streams {
		t.Run(s.name, func(t *testing.T) {
			in := strings.ReplaceAll(s.in, command("AUTH", "KEY"), command("AUTH", who.key))
			for _, size := range []int{len(in), 1, 2, 7} {
				if size == 0 || len(in) > 4096 && size < len(in) {
					size = max(len(in)/9, 1)
				}
				b := newBare(t, srv)
				if got := string(b.feed([]byte(command("AUTH", who.key) + command("FLUSHALL")))); got != "+OK\r\n+OK\r\n" {
					t.Fatal(got)
				}
				got := ""
				for i := 0; i < len(in) && !b.Closing(); i += size {
					got += string(b.feed([]byte(in[i:min(i+size, len(in))])))
				}
				if got != s.out {
					t.Errorf("in pieces of %d:\n got %.300q\nwant %.300q", size, got, s.out)
				}
				if fails := strings.Contains(s.out, "Protocol error"); fails && !b.Closing() {
					t.Errorf("in pieces of %d: the connection goes on", size)
				}
				b.Close()
			}
		})
	}
}

// Before login, a client is heard as far as a login needs.
func TestStrangers(t *testing.T) {
	srv := New(theWorld.config)
	ping := command("PING")
	for _, s := range []struct{ name, in, last string }{
		{"many arguments", "*11\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n"},
		{"a long argument", "*1\r\n$16385\r\n", "-ERR Protocol error: unauthenticated bulk length\r\n"},
		{"many words", "a b c d e f g h i j k\r\n", "-ERR Protocol error: unauthenticated multibulk length\r\n"},
		{"a long line", strings.Repeat("x", maxBulkIn+1), "-ERR Protocol error: too big inline request\r\n"},
		{"much", strings.Repeat(ping, maxHeard/len(ping)+1), "-ERR Protocol error: too much before login\r\n"},
		{"empty lines", strings.Repeat("\r\n", maxHeard/2+1), "-ERR Protocol error: too much before login\r\n"},
		{"long arguments", strings.Repeat("*2\r\n$4\r\nPING\r\n$16000\r\n"+strings.Repeat("x", 16000)+"\r\n", 5), "-ERR Protocol error: too much before login\r\n"},
		{"logins and RESET", strings.Repeat(command("AUTH", strings.Repeat("x", 9000))+command("RESET"), 8), "-ERR Protocol error: too much before login\r\n"},
	} {
		t.Run(s.name, func(t *testing.T) {
			for _, size := range []int{len(s.in), 1000} {
				b, got := newBare(t, srv), ""
				for i := 0; i < len(s.in) && !b.Closing(); i += size {
					got += string(b.feed([]byte(s.in[i:min(i+size, len(s.in))])))
				}
				if !strings.HasSuffix(got, s.last) || !b.Closing() || len(got) > 4*maxHeard {
					t.Errorf("in pieces of %d: %d bytes that end in %.100q, closing %v", size, len(got), got[max(0, len(got)-100):], b.Closing())
				}
			}
		})
	}
}

// What a length promises costs us nothing before it comes.
func TestPromisesCostNothing(t *testing.T) {
	srv := New(theWorld.config)
	who := newTenant(t)
	for _, in := range []string{"*1048576\r\n", "*1048576\r\n$1000000\r\n", "*1\r\n$1048576\r\nx"} {
		b := newBare(t, srv)
		b.feed([]byte(command("AUTH", who.key)))
		piece := []byte(in)
		if used := b.Feed(piece); used != 0 || b.Closing() {
			t.Fatalf("%q: used %d, closing %v: %q", in, used, b.Closing(), b.Output())
		}
		if kept := cap(b.Session.in.ends)*16 + cap(b.room.spare[0].arena)*24 + cap(b.out.b); kept > 4096 {
			t.Errorf("%q keeps %d bytes", in, kept)
		}
	}
}

// A reply of exactly softOutput bytes, or about as many, does not keep what follows from being done.
func TestOutputAtTheBound(t *testing.T) {
	srv := New(theWorld.config)
	who := newTenant(t)
	for _, size := range []int{softOutput - 100, softOutput - 12, softOutput - 11, softOutput - 10, softOutput} {
		b := newBare(t, srv)
		b.feed([]byte(command("AUTH", who.key) + "SETRANGE k " + strconv.Itoa(size-1) + " x\r\n"))
		got := string(b.feed([]byte(strings.Repeat(command("GET", "k"), 3) + command("PING"))))
		if len(got) < 3*size || !strings.HasSuffix(got, "\r\n+PONG\r\n") || b.Closing() {
			t.Errorf("values of %d: %d bytes that end in %q", size, len(got), got[len(got)-20:])
		}
		b.feed([]byte(command("DEL", "k")))
	}
}

// A blocked session gets its answer from another, with which it goes on.
func TestBlockedGoesOn(t *testing.T) {
	srv := New(theWorld.config)
	who := newTenant(t)
	one, two := newBare(t, srv), newBare(t, srv)
	for _, b := range []*bare{one, two} {
		b.feed([]byte(command("AUTH", who.key)))
	}
	if got := one.feed([]byte(command("BLPOP", "l", "0") + command("PING"))); len(got) > 0 || !one.Blocked() {
		t.Fatalf("got %q, blocked %v", got, one.Blocked())
	}
	two.feed([]byte(command("RPUSH", "l", "x", "y")))
	select {
	case <-one.woken:
	case <-time.After(patienceOfTests):
		t.Fatal("it was not woken")
	}
	if !one.Attend() || one.Blocked() {
		t.Fatal("it is still blocked")
	}
	got := string(one.Output())
	one.Sent(len(got))
	if got += string(one.feed(nil)); got != "*2\r\n$1\r\nl\r\n$1\r\nx\r\n+PONG\r\n" {
		t.Errorf("got %q", got)
	}
}

func TestClosedWhileBlocked(t *testing.T) {
	srv := New(theWorld.config)
	who := newTenant(t)
	one, two := newBare(t, srv), newBare(t, srv)
	for _, b := range []*bare{one, two} {
		b.feed([]byte(command("AUTH", who.key)))
	}
	one.feed([]byte(command("BLPOP", "l", "0")))
	one.Close()
	if got := string(two.feed([]byte(command("RPUSH", "l", "x") + command("LLEN", "l")))); got != ":1\r\n:1\r\n" {
		t.Errorf("got %q: somebody who is gone took it", got)
	}
	if n := len(srv.everybody()); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

// TestWhatExecSaysOfATransactionThatFailed: nobody is told that a transaction was discarded that may have been carried out.
func TestWhatExecSaysOfATransactionThatFailed(t *testing.T) {
	for kind, want := range map[fault.Kind]string{
		fault.Unavailable:    "EXECABORT Transaction discarded because of: TRYAGAIN so it is",
		fault.OutcomeUnknown: "UNKNOWN so it is",
	} {
		if got := aborted(fault.New(kind, "test", "so it is")); got != want {
			t.Errorf("%v: %q, want %q", kind, got, want)
		}
	}
}
