package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/peers"
	"github.com/larder-cache/larder/internal/usage"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// startDev runs a development server in this process until the test ends.
func startDev(t *testing.T) devFile {
	t.Helper()
	dir := t.TempDir()
	s := settings{
		name: "dev", zone: "zone-1", region: "local", roles: allRoles, etcd: []string{"embedded"}, tlsMin: "1.3", partitions: placement.DefaultPartitions,
		dataDir: dir, httpAddr: "127.0.0.1:0", redisAddr: "127.0.0.1:0", drainTimeout: time.Second, growthCalm: tenants.Calm, logLevel: "warn", logFormat: "text",
	}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- dev(ctx, s, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), io.Discard)
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var f devFile
	for range 600 {
		text, err := os.ReadFile(filepath.Join(dir, devFileName))
		if err == nil {
			if err := json.Unmarshal(text, &f); err != nil {
				t.Fatal(err)
			}
			return f
		}
		select {
		case err := <-done:
			t.Fatalf("the server stopped: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	t.Fatal("the server did not start within 30 s")
	return f
}

// A peer is a connection to a server of the Redis protocol.
type peer struct {
	t    *testing.T
	conn net.Conn
	rd   *bufio.Reader
}

func dialPeer(t *testing.T, addr string, greeting ...string) *peer {
	t.Helper()
	network := "tcp"
	if strings.HasPrefix(addr, "/") {
		network = "unix"
	}
	conn, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	p := &peer{t, conn, bufio.NewReader(conn)}
	if len(greeting) > 0 {
		if got := p.do(greeting...); strings.HasPrefix(got.text, "-") {
			t.Fatalf("%s: %s", greeting[0], got)
		}
	}
	return p
}

// A tree is a reply: its first byte and line, and what is in it.
type tree struct {
	text string // with the sign: ":1", "+OK", "$hello", "*", "%", …
	in   []tree
}

func (r tree) String() string {
	if len(r.in) == 0 {
		return strconv.Quote(r.text)
	}
	parts := make([]string, len(r.in))
	for i, in := range r.in {
		parts[i] = in.String()
	}
	return r.text + "[" + strings.Join(parts, " ") + "]"
}

func (p *peer) send(args ...string) {
	p.t.Helper()
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) do(args ...string) tree {
	p.t.Helper()
	p.send(args...)
	return p.read()
}

func (p *peer) read() tree {
	p.t.Helper()
	if err := p.conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.rd.ReadString('\n')
	if err != nil {
		p.t.Fatalf("no reply: %v", err)
	}
	line = strings.TrimSuffix(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch sign := line[:1]; sign {
	case "$", "=":
		if n < 0 {
			return tree{text: line}
		}
		b := make([]byte, n+2)
		if _, err := io.ReadFull(p.rd, b); err != nil {
			p.t.Fatal(err)
		}
		return tree{text: sign + string(b[:n])}
	case "*", "%", "~", ">":
		if n < 0 {
			return tree{text: line}
		}
		if sign == "%" {
			n *= 2
		}
		r := tree{text: sign, in: make([]tree, n)}
		for i := range r.in {
			r.in[i] = p.read()
		}
		return r
	}
	return tree{text: line}
}

// alike compares replies; numbers with a fraction by value, since Redis writes them with other digits from version to version.
func alike(a, b tree) bool {
	if len(a.in) != len(b.in) {
		return false
	}
	for i := range a.in {
		if !alike(a.in[i], b.in[i]) {
			return false
		}
	}
	if a.text == b.text {
		return true
	}
	if a.text[0] != b.text[0] || (a.text[0] != '$' && a.text[0] != ',') {
		return false
	}
	f, err := strconv.ParseFloat(a.text[1:], 64)
	g, err2 := strconv.ParseFloat(b.text[1:], 64)
	return err == nil && err2 == nil && (f == g || math.Abs(f-g) < 1e-4+1e-10*math.Abs(f))
}

// sorted brings what has no order into one.
func sorted(r tree, pairs bool) tree {
	step := 1
	if pairs && len(r.in)%2 == 0 {
		step = 2
	}
	var chunks [][]tree
	for c := range slices.Chunk(r.in, step) {
		chunks = append(chunks, c)
	}
	slices.SortFunc(chunks, func(a, b []tree) int { return strings.Compare(a[0].String(), b[0].String()) })
	return tree{r.text, slices.Concat(chunks...)}
}

// Commands whose replies have no order, and those that also come in pairs.
var (
	unordered     = strings.Fields("SMEMBERS SINTER SUNION SDIFF KEYS HKEYS HVALS")
	unorderedPair = strings.Fields("HGETALL")
)

// notCompared are commands whose replies depend on chance, on time, or on what the server is. What they answer is tested
// elsewhere.
var notCompared = strings.Fields(`
RANDOMKEY SPOP SRANDMEMBER HRANDFIELD ZRANDMEMBER SCAN SSCAN HSCAN ZSCAN OBJECT TIME INFO COMMAND CONFIG CLIENT MONITOR DEBUG LATENCY SLOWLOG MEMORY
ACL CLUSTER MODULE SHUTDOWN AUTH HELLO QUIT RESET ROLE LOLWUT WAIT WAITAOF SAVE BGSAVE LASTSAVE BGREWRITEAOF REPLICAOF SLAVEOF FAILOVER SYNC PSYNC MIGRATE DUMP RESTORE
SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE MULTI EXEC DISCARD WATCH UNWATCH SWAPDB SELECT MOVE
EVAL EVALSHA EVAL_RO EVALSHA_RO SCRIPT FUNCTION FCALL FCALL_RO PFDEBUG PFSELFTEST READONLY READWRITE ASKING
BLPOP BRPOP BLMOVE BRPOPLPUSH BLMPOP BZPOPMIN BZPOPMAX BZMPOP XREAD XREADGROUP XINFO XADD XCLAIM XAUTOCLAIM XPENDING XGROUP LMPOP`)

// comparable reports whether both sides can be asked a call: not what Redis 7.0 does not know yet, and nothing that
// expires within milliseconds, on one side sooner than on the other.
func comparable(args []string) bool {
	upper := strings.ToUpper(strings.Join(args, " ")) + " "
	switch {
	case strings.HasPrefix(args[0], "P") && (strings.Contains(args[0], "EXPIRE") || args[0] == "PSETEX" || args[0] == "PTTL"), args[0] == "EXPIREAT":
		return false
	case args[0] == "EXPIRE" && (strings.Contains(upper, " GT ") || strings.Contains(upper, " LT ")):
		return false // the same number of seconds twice is later on a server that was not asked twice in a millisecond
	case strings.Contains(upper, " PX "), strings.Contains(upper, " PXAT "), strings.Contains(upper, " EXAT "):
		return false
	case strings.Contains(upper, " AGGREGATE COUNT "):
		return false
	case args[0] == "BITOP":
		return len(args) > 1 && !slices.Contains([]string{"DIFF", "DIFF1", "ANDOR", "ONE"}, args[1])
	case strings.HasSuffix(args[0], "RANK"):
		return !strings.Contains(upper, " WITHSCORE ")
	case strings.HasPrefix(args[0], "SORT") && strings.Contains(upper, " BY "):
		return false // of elements whose weights are alike either may come first; engine's tests compare the others
	case strings.Contains(args[0], "LEX"), strings.Contains(upper, " BYLEX "):
		return false // of members whose scores differ there is no range of names; engine's tests compare those of equal ones
	case strings.HasPrefix(args[0], "PF"):
		return false // Redis writes a count that it has made into the HyperLogLog, where GET shows it; engine's tests compare them
	case strings.Contains(upper, " KEEPREF "), strings.Contains(upper, " DELREF "), strings.Contains(upper, " ACKED "):
		return false
	case args[0] == "SET":
		return !strings.Contains(upper, " IF")
	}
	return true
}

// TestRawRepliesAreThoseOfRedis sends made-up calls of every command that a Redis has too to both, in RESP2 and in RESP3, by themselves and
// in transactions, and compares the replies.
func TestRawRepliesAreThoseOfRedis(t *testing.T) {
	addr := peers.Redis(t)
	seed, _ := strconv.ParseUint(os.Getenv("LARDER_REDIS_SEED"), 10, 64)
	dice := rand.New(rand.NewPCG(seed, 4))
	f := startDev(t)
	var shared []*engine.Command
	known := dialPeer(t, addr)
	for _, c := range engine.Commands() {
		if c.Flags&engine.Session == 0 && !slices.Contains(notCompared, c.Name) && len(known.do("COMMAND", "INFO", c.Name).in[0].in) > 0 {
			shared = append(shared, c)
		}
	}
	if len(shared) < 100 {
		t.Fatalf("only %d commands are compared", len(shared))
	}
	byGroup := map[engine.Group][]*engine.Command{}
	for _, c := range shared {
		byGroup[c.Group] = append(byGroup[c.Group], c)
	}
	var groups []engine.Group
	for g := range engine.NumGroups {
		if len(byGroup[g]) > 0 {
			groups = append(groups, g)
		}
	}
	failures := 0
	for _, proto := range []string{"2", "3"} {
		ours := dialPeer(t, f.Redis, "HELLO", proto, "AUTH", f.Cache, f.APIKey)
		theirs := dialPeer(t, addr, "HELLO", proto)
		compare := func(args []string, a, b tree) {
			name := strings.ToUpper(args[0])
			if slices.Contains(unordered, name) || slices.Contains(unorderedPair, name) {
				pairs := slices.Contains(unorderedPair, name)
				a, b = sorted(a, pairs), sorted(b, pairs)
			}
			if alike(a, b) {
				return
			}
			t.Errorf("RESP%s %.300q\n got %.400s\nwant %.400s", proto, args, a, b)
			if failures++; failures > 40 {
				t.FailNow()
			}
			ours.do("FLUSHALL") // the two may be in different states from here on
			theirs.do("FLUSHALL")
		}
		for round := range 400 {
			ours.do("FLUSHALL")
			theirs.do("FLUSHALL")
			commands := shared
			if round%4 > 0 { // commands that meet each other's keys
				commands = byGroup[groups[dice.IntN(len(groups))]]
				if dice.IntN(2) == 0 {
					commands = append(slices.Clone(commands), byGroup[engine.GroupKey]...)
				}
			}
			for range 40 {
				calls := [][]string{}
				for range 1 + dice.IntN(3) {
					c := commands[dice.IntN(len(commands))]
					if args := usage.Make(c.Name, c.Usage, time.Now().UnixMilli(), dice.IntN); comparable(args) {
						calls = append(calls, args)
					}
				}
				if dice.IntN(3) > 0 {
					for _, args := range calls {
						compare(args, ours.do(args...), theirs.do(args...))
					}
					continue
				}
				for _, p := range []*peer{ours, theirs} {
					p.do("MULTI")
				}
				for _, args := range calls {
					compare([]string{"queue", args[0]}, ours.do(args...), theirs.do(args...))
				}
				a, b := ours.do("EXEC"), theirs.do("EXEC")
				if len(a.in) != len(calls) || len(b.in) != len(calls) {
					compare([]string{"EXEC", fmt.Sprint(calls)}, a, b)
					continue
				}
				for i, args := range calls {
					compare(args, a.in[i], b.in[i])
				}
			}
		}
	}
}
