package transfer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/peers"
)

// A shared partition is one that several goroutines ask, whose clock runs.
type shared struct {
	mu sync.Mutex
	p  *engine.Partition
	n  uint64
}

func (s *shared) apply(task *engine.Task) {
	s.n++
	s.p.Apply(&engine.Entry{Now: time.Now().UnixMilli(), Seed: s.n, Tasks: []*engine.Task{task}})
}

func (s *shared) run(db int, commands []Command, whole bool) *engine.Recording {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply := &engine.Recording{}
	task := &engine.Task{Cache: cacheID, DB: db, Reply: reply, Whole: whole}
	for _, c := range commands {
		task.Calls = append(task.Calls, engine.Call{Command: engine.MustLookup(strings.ToUpper(string(c[0]))), Args: c})
	}
	s.apply(task)
	return reply
}

// Do implements Target.
func (s *shared) Do(_ context.Context, db int, commands []Command, whole bool) ([]error, error) {
	c := s.run(db, commands, whole).Cursor()
	results := make([]error, len(commands))
	for i := range results {
		first := c
		if t := first.Next(); t.Kind == engine.ReplyError {
			results[i] = t.Err
		}
		c.Skip()
	}
	return results, nil
}

// Ask implements Server.
func (s *shared) Ask(_ context.Context, db int, commands []Command) ([]any, error) {
	c := s.run(db, commands, false).Cursor()
	answers := make([]any, len(commands))
	for i := range answers {
		answers[i] = plain(&c)
	}
	return answers, nil
}

func plain(c *engine.Cursor) any {
	switch t := c.Next(); t.Kind {
	case engine.ReplyInt:
		return t.Int
	case engine.ReplyBulk, engine.ReplyStatus:
		return append([]byte{}, t.Bytes...)
	case engine.ReplyArray:
		list := make([]any, t.Int)
		for i := range list {
			list[i] = plain(c)
		}
		return list
	case engine.ReplyError:
		return t.Err
	}
	return nil
}

// load writes to a server until it is stopped: all types, transactions, scripts, deadlines, other databases.
func load(t *testing.T, socket string, seed uint64, stop <-chan struct{}) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	c := &answered{conn, bufio.NewReader(conn)}
	r := rand.New(rand.NewPCG(seed, 1))
	key := func(kind string) string { return kind + ":" + strconv.Itoa(r.IntN(300)) }
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond):
		}
		i, f := strconv.Itoa(r.IntN(1000)), strconv.FormatFloat(r.Float64(), 'g', -1, 64)
		for _, line := range []string{
			"SET " + key("s") + " " + i, "INCRBY " + key("n") + " " + i, "RPUSH " + key("l") + " a b " + i, "LPOP " + key("l"), "SADD " + key("set") + " " + i + " x", "SPOP " + key("set"),
			"ZADD " + key("z") + " " + f + " m" + i, "HSET " + key("h") + " f" + i + " " + f, "XADD " + key("x") + " * f " + i, "DEL " + key([]string{"s", "l", "set", "z", "h", "x"}[r.IntN(6)]),
			"SET " + key("e") + " v PX " + strconv.Itoa(1+r.IntN(300)), "PEXPIRE " + key("h") + " " + strconv.Itoa(1+r.IntN(200)), "HSET " + key("h") + " again 1", "PEXPIRE " + key("h") + " 100000",
			"MULTI", "INCR " + key("n"), "LPUSH " + key("l") + " t", "EXEC", "EVAL return{redis.call('INCR',KEYS[1]),redis.call('SADD',KEYS[2],ARGV[1])} 2 " + key("n") + " " + key("set") + " " + i,
			"SELECT " + strconv.Itoa(r.IntN(2)*3), "XGROUP CREATE " + key("x") + " g 0 MKSTREAM", "XREADGROUP GROUP g c COUNT 2 STREAMS " + key("x") + " >", "LMOVE " + key("l") + " " + key("l") + " LEFT RIGHT",
		} {
			if err := c.do(strings.Fields(line)); err != nil {
				t.Error(err)
				return
			}
		}
	}
}

// An answered connection is one whose answers are of no interest.
type answered struct {
	net.Conn
	r *bufio.Reader
}

func (c *answered) do(args []string) error {
	if _, err := c.Write(AppendCommands(nil, command(args...))); err != nil {
		return err
	}
	_, err := (&conn{Conn: c, r: c.r}).answer()
	if isAnswer(err) {
		return nil
	}
	return err
}

// TestAMigrationUnderLoadEndsWithEqualData, in both ways that there are.
func TestAMigrationUnderLoadEndsWithEqualData(t *testing.T) {
	for _, byScan := range []bool{false, true} {
		t.Run(fmt.Sprintf("scan=%v", byScan), func(t *testing.T) {
			socket := peers.Redis(t)
			settings, err := net.Dial("unix", socket)
			if err != nil {
				t.Fatal(err)
			}
			defer settings.Close()
			if err := (&answered{settings, bufio.NewReader(settings)}).do([]string{"CONFIG", "SET", "repl-diskless-sync-delay", "0"}); err != nil {
				t.Fatal(err)
			}
			stop, writers := make(chan struct{}), sync.WaitGroup{}
			for seed := range uint64(2) {
				writers.Go(func() { load(t, socket, seed, stop) })
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			time.Sleep(200 * time.Millisecond) // so that there is something to copy
			to := &shared{p: engine.New(engine.Seed{1, 2})}
			defer to.p.Close()
			to.apply(engine.ConfigureTask(cacheID, engine.Settings{}))
			m := &Migration{Source: &Source{Network: "unix", Address: socket, DB: -1}, Target: to, Limit: 1 << 20, Log: t.Logf}
			var report Report
			caught, ended := make(chan struct{}), make(chan error, 1)
			go func() {
				run := func() error { return m.Replicate(ctx, &report, func() { close(caught) }) }
				if byScan {
					run = func() error {
						return (&Scan{Migration: m, Report: &report, To: to, Every: 200 * time.Millisecond}).Run(ctx, func() { close(caught) })
					}
				}
				ended <- run()
			}()
			select {
			case <-caught:
			case err := <-ended:
				t.Fatal(err)
			}
			if !byScan { // while it is written to, nothing may differ that stands still
				c, err := m.Compare(ctx, to, 1, nil)
				if err != nil || !c.Same() || c.Unknown > 0 {
					t.Errorf("under load: %+v, %v", c, err)
				}
			}
			close(stop)
			writers.Wait()
			c, err := m.Compare(ctx, to, 1, nil)
			if err != nil || !c.Same() || c.Unknown > 0 || c.Keys < 300 || c.ByType["stream"] == 0 || c.ByType["hash"] == 0 {
				t.Errorf("in the end: %+v, %v", c, err)
			}
			to.run(0, []Command{command("SET", "n:1", "strayed"), command("SET", "own", "1")}, false)
			m.follows.Store(followsNot)
			if c, err = m.Compare(ctx, to, 1, nil); err != nil || c.Extra < 1 || c.Extra+c.Different+c.Missing < 2 { // the load may have left no n:1
				t.Errorf("after a change: %+v, %v", c, err)
			}
			cancel()
			if err := <-ended; !errors.Is(err, context.Canceled) && !strings.Contains(fmt.Sprint(err), "closed") {
				t.Error(err)
			}
		})
	}
}

func TestParseSource(t *testing.T) {
	for text, want := range map[string]string{
		"redis://h": "h:6379   -1 false", "redis://:p@h:1/3": "h:1  p 3 false", "rediss://u:p%40@h:2": "h:2 u p@ -1 true", "redis://[::1]:5/0": "[::1]:5   0 false",
	} {
		s, err := ParseSource(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := fmt.Sprintf("%s %s %s %d %v", s.Address, s.User, s.Password, s.DB, s.TLS != nil); got != want {
			t.Errorf("%s is %s, not %s", text, got, want)
		}
	}
	for _, text := range []string{"", "h:6379", "http://h", "redis://", "redis://h/x", "redis://h/-1", "redis://h?db=1", "redis://user:secret@h:x y"} {
		if s, err := ParseSource(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %+v, %v", text, s, err)
		}
	}
}

// TestProlonged: the deadlines that a source gives are put off, and nothing else is.
func TestProlonged(t *testing.T) {
	for line, want := range map[string]string{
		"PEXPIREAT k 1000": "PEXPIREAT k 31000", "SET k v PXAT 5": "SET k v PXAT 30005", "SET k PXAT": "SET k PXAT", "SET k v KEEPTTL": "SET k v KEEPTTL", "RESTORE k 5 p ABSTTL": "RESTORE k 30005 p ABSTTL",
		"RESTORE k 5 p REPLACE": "RESTORE k 5 p REPLACE", "RESTORE k 0 p ABSTTL": "RESTORE k 0 p ABSTTL", "PEXPIREAT k 9223372036854775807": "PEXPIREAT k 9223372036854775807",
	} {
		c := command(strings.Fields(line)...)
		prolong(string(c[0]), c)
		var words []string
		for _, w := range c {
			words = append(words, string(w))
		}
		if got := strings.Join(words, " "); got != want {
			t.Errorf("%s became %s, not %s", line, got, want)
		}
	}
}
