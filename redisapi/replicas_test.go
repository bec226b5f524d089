package redisapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/peers"
	"github.com/larder-cache/larder/internal/wire"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/tenants"
	"github.com/larder-cache/larder/transfer"
)

// A testSource follows the caches of the world.
type testSource struct {
	*transfer.Outflows
	came, cuts atomic.Int64 // replicas, and cuts that were begun
}

func (s *testSource) Follow(c *tenants.Cache, stream string, offset int64, to io.WriteCloser) (Following, error) {
	s.came.Add(1)
	f, err := s.Outflows.Follow(c.ID, stream, offset, to, func(ctx context.Context) ([]transfer.FollowedCut, []transfer.Feed, error) {
		s.cuts.Add(1)
		parts := c.Partitions()
		holders := make([]replication.Holder, len(parts))
		for i, p := range parts {
			holders[i] = theWorld.host.Local(p)
		}
		cuts, feeds, err := replication.FollowCache(ctx, holders, c.ID, func(i int) engine.CutOptions {
			return engine.CutOptions{NoOnce: true, NoFlush: true, Keep: func(_ int, key []byte) bool { return home(c, key) == parts[i] }}
		}, nil)
		followed, fed := make([]transfer.FollowedCut, len(cuts)), make([]transfer.Feed, len(feeds))
		for i := range cuts {
			followed[i], fed[i] = cuts[i], feeds[i]
		}
		return followed, fed, err
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// home is the partition that has a key.
func home(c *tenants.Cache, key []byte) placement.PartitionID {
	for _, r := range c.Ranges {
		if placement.Slot(key) <= r.To {
			return r.Partition
		}
	}
	return 0
}

func newSource(t *testing.T, backlog int64) *testSource {
	s := &testSource{Outflows: &transfer.Outflows{Rooms: transfer.Rooms(t.TempDir()), Server: "test", Now: time.Now, Log: theWorld.config.Log, Backlog: backlog, Total: 4 * backlog}}
	t.Cleanup(s.Close)
	return s
}

// A redisClient asks a real Redis.
type redisClient struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func dialRedis(t *testing.T, socket string) *redisClient {
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &redisClient{t, c, bufio.NewReader(c)}
}

// ask returns a simple answer, or the bytes of one of any length.
func (r *redisClient) ask(words ...string) string {
	r.t.Helper()
	_ = r.c.SetDeadline(time.Now().Add(patienceOfTests))
	if _, err := io.WriteString(r.c, command(words...)); err != nil {
		r.t.Fatal(err)
	}
	return r.read()
}

// read returns the next answer, or a part of one: of an array its length.
func (r *redisClient) read() string {
	r.t.Helper()
	line, err := r.r.ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	line = strings.TrimSpace(line)
	if line[0] != '$' || line == "$-1" {
		return line
	}
	n, _ := strconv.Atoi(line[1:])
	b := make([]byte, n+2)
	if _, err := io.ReadFull(r.r, b); err != nil {
		r.t.Fatal(err)
	}
	return string(b[:n])
}

// replicate makes a Redis the replica of a cache.
func (r *redisClient) replicate(s *service, who someone, cache string) {
	r.t.Helper()
	host, port, _ := net.SplitHostPort(s.at)
	for _, words := range [][]string{
		{"CONFIG", "SET", "masteruser", cache}, {"CONFIG", "SET", "masterauth", who.key}, {"REPLICAOF", host, port},
	} {
		if answer := r.ask(words...); answer != "+OK" {
			r.t.Fatalf("%q: %s", words, answer)
		}
	}
}

// write writes what it likes to a cache until it is stopped, and then waits until a replica has all of it.
func write(t *testing.T, p *peer, seed uint64, stop <-chan struct{}) {
	rd, r := bufio.NewReader(p), rand.New(rand.NewPCG(seed, 1))
	n := func(most int) string { return strconv.Itoa(r.IntN(most)) }
	for {
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond): // the peer has to keep up on any machine
		}
		id := n(50)
		commands := [][]string{
			{"SET", "s" + n(500), n(1 << 30)}, {"SET", "x" + n(100), n(1 << 30), "PX", "1" + n(300)}, {"INCR", "c" + n(20)}, {"APPEND", "a" + id, "more"},
			{"LPUSH", "l" + id, n(1000), n(1000)}, {"RPOP", "l" + id}, {"HSET", "h" + id, "f" + n(300), n(1000)}, {"HINCRBY", "h" + id, "count", "1"}, {"HDEL", "h" + id, "f" + n(300)},
			{"SADD", "t" + id, n(1000), n(1000)}, {"SPOP", "t" + id}, {"ZADD", "z" + id, n(1000), "m" + n(300)}, {"ZPOPMIN", "z" + id}, {"XADD", "q" + id, "MAXLEN", "~", "200", "*", "f", n(100)},
			{"DEL", "s" + n(500)}, {"EXPIRE", "h" + id, "1000"}, {"JSON.SET", "j" + id, "$", "[1]"}, {"SET", "b" + n(10), strings.Repeat("big", 10_000)},
			{"EVAL", "redis.call('INCR', KEYS[1]) return redis.call('RPUSH', KEYS[2], ARGV[1])", "2", "{e}c", "{e}l", n(9)},
		}
		var text strings.Builder
		count := 0
		for range 20 {
			text.WriteString(command(commands[r.IntN(len(commands))]...))
			count++
		}
		text.WriteString(command("MULTI") + command("SET", "{m}1", id) + command("SET", "{m}2", id) + command("EXEC"))
		count += 4
		p.send(text.String())
		for range count {
			line, err := rd.ReadString('\n')
			if err != nil {
				t.Error(err)
				return
			}
			switch {
			case line[0] == '$' && line != "$-1\r\n":
				_, err = rd.ReadString('\n')
			case line == "*2\r\n":
				count += 2
				for range 2 {
					_, err = rd.ReadString('\n')
				}
			case line[0] == '-':
				t.Errorf("a write was refused: %s", line)
				return
			}
			if err != nil {
				t.Error(err)
				return
			}
		}
	}
}

// settle waits until a replica has all that a cache has, and compares both by Redis's digests: that of the replica, and of a third server to
// which the cache was exported.
func settle(t *testing.T, s *service, who someone, c *tenants.Cache, replica *redisClient) {
	t.Helper()
	p := s.dial(t, "")
	p.do("+OK\r\n", "AUTH", c.Name, who.key)
	p.do("+OK\r\n", "SET", "the-end", "1")
	eventually(t, "the replica has all", func() bool { return replica.ask("GET", "the-end") == "1" })
	p.do(":1\r\n", "DEL", "the-end")
	eventually(t, "the replica has all", func() bool { return replica.ask("EXISTS", "the-end") == ":0" })
	third := dialRedis(t, peers.Redis(t))
	third.replicate(s, who, c.Name)
	eventually(t, "another replica has the same", func() bool {
		return linked(third) && third.ask("DEBUG", "DIGEST") == replica.ask("DEBUG", "DIGEST")
	})
	if third.ask("DBSIZE") == ":0" {
		t.Error("nothing was compared")
	}
}

func linked(r *redisClient) bool {
	return strings.Contains(r.ask("INFO", "replication"), "master_link_status:up")
}

// TestARedisFollowsACache has a real Redis follow caches of one and of several slot ranges while they are written, lose its connection and come
// back, and compares what it has in the end.
func TestARedisFollowsACache(t *testing.T) {
	socket := peers.Redis(t)
	source := newSource(t, 64<<20)
	s := newService(t, func(c *Config, _ *wire.Patience) { c.Source, c.Loops = source, 2 })
	who := newTenant(t)
	for _, ranges := range []int{1, 4} {
		t.Run(fmt.Sprint(ranges), func(t *testing.T) {
			c := split(t, who, "followed-"+strconv.Itoa(ranges), ranges)
			stop := make(chan struct{})
			var writers sync.WaitGroup
			defer writers.Wait()
			end := sync.OnceFunc(func() { close(stop) })
			defer end()
			for i := range 2 {
				p := s.dial(t, "")
				p.do("+OK\r\n", "AUTH", c.Name, who.key)
				writers.Go(func() { write(t, p, uint64(i), stop) })
			}
			replica := dialRedis(t, socket)
			replica.replicate(s, who, c.Name)
			eventually(t, "the replica follows", func() bool { return linked(replica) })
			cuts := source.cuts.Load()
			admin := s.dial(t, "")
			admin.do("+OK\r\n", "AUTH", c.Name, who.key)
			for range 2 { // it comes back, and goes on where it was
				eventually(t, "the replica acknowledges", func() bool {
					admin.send(command("ROLE"))
					line := make([]byte, 200)
					n, err := admin.Read(line)
					return err == nil && strings.Contains(string(line[:n]), "*1\r\n*3\r\n") && !strings.HasSuffix(string(line[:n]), "$1\r\n0\r\n")
				})
				came := source.came.Load()
				admin.do(":1\r\n", "CLIENT", "KILL", "TYPE", "REPLICA")
				eventually(t, "the replica comes back", func() bool { return source.came.Load() > came && linked(replica) })
			}
			if now := source.cuts.Load(); now != cuts {
				t.Errorf("the replica began anew %d times", now-cuts)
			}
			end()
			writers.Wait()
			settle(t, s, who, c, replica)
			replica.ask("REPLICAOF", "NO", "ONE")
		})
	}
}

// TestARedisHearsWhatIsPublished: clients of a replica get messages that were published here, and it says how far it is when it is asked.
func TestARedisHearsWhatIsPublished(t *testing.T) {
	socket := peers.Redis(t)
	source := newSource(t, 1<<20)
	s := newService(t, func(c *Config, _ *wire.Patience) { c.Source = source })
	source.Messages = s.Gateway.Hub().Overhear
	who := newTenant(t)
	c := split(t, who, "published", 1)
	replica := dialRedis(t, socket)
	replica.replicate(s, who, c.Name)
	eventually(t, "the replica follows", func() bool { return linked(replica) })
	listener := dialRedis(t, socket)
	hears := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if got := listener.read(); got != w {
				t.Fatalf("%q, not %q", got, w)
			}
		}
	}
	if got := listener.ask("PSUBSCRIBE", "*"); got != "*3" {
		t.Fatal(got)
	}
	hears("psubscribe", "*", ":1")
	p := s.dial(t, "")
	p.do("+OK\r\n", "AUTH", c.Name, who.key)
	p.do(":1\r\n", "PUBLISH", "news", "of today") // the replica is a receiver
	hears("*4", "pmessage", "*", "news", "of today")
	replica.ask("REPLICAOF", "NO", "ONE")
}

// TestAReplicaIsAskedHowFarItIs before so much has changed that it would have to begin anew.
func TestAReplicaIsAskedHowFarItIs(t *testing.T) {
	source := newSource(t, 16<<10)
	s := newService(t, func(c *Config, _ *wire.Patience) { c.Source = source })
	who := newTenant(t)
	r := s.login(t, who)
	r.do("+OK\r\n", "REPLCONF", "capa", "eof")
	r.send(command("PSYNC", "?", "-1"))
	follow(t, r)
	r.send(command("REPLCONF", "ACK", "0"))
	p := s.login(t, who)
	for i := range 5 {
		p.do("+OK\r\n", "SET", "k"+strconv.Itoa(i), strings.Repeat("v", 1<<10))
	}
	r.until(command("REPLCONF", "GETACK", "*"))
}

// TestWhoMayFollowACache: one right is needed for it, and a stream's name opens nothing.
func TestWhoMayFollowACache(t *testing.T) {
	source := newSource(t, 1<<20)
	s := newService(t, func(c *Config, _ *wire.Patience) { c.Source = source })
	who, other := newTenant(t), newTenant(t)
	_, reader, err := theWorld.keys.CreateKey(t.Context(), who.tenant, auth.KeySpec{Name: "r", Role: "read-write"})
	if err != nil {
		t.Fatal(err)
	}
	p := s.dial(t, "")
	p.do("+OK\r\n", "AUTH", reader)
	p.do("+OK\r\n", "REPLCONF", "listening-port", "6380")
	p.do("+OK\r\n", "REPLCONF", "capa", "eof", "capa", "psync2")
	p.send(command("PSYNC", "?", "-1"))
	p.until("NOPERM")

	p = s.login(t, who)
	p.do("+OK\r\n", "SET", "secret", "canary-of-one")
	p.send(command("PSYNC", "?", "-1"))
	p.until("-ERR PSYNC needs")
	p = s.login(t, who)
	p.do("+OK\r\n", "REPLCONF", "capa", "eof")
	p.send(command("PSYNC", "?", "-1"))
	head := follow(t, p)
	if !strings.Contains(head.file, "canary-of-one") {
		t.Error("the file has not what the cache has")
	}

	q := s.login(t, other)
	q.do("+OK\r\n", "REPLCONF", "capa", "eof")
	q.send(command("PSYNC", head.stream, "1"))
	if theirs := follow(t, q); theirs.stream == head.stream || strings.Contains(theirs.file, "canary") {
		t.Error("a stream of another tenant's was taken over")
	}
	q.send(command("GET", "x")) // an answer would stand in the stream
	if left := q.rest(); strings.Contains(left, "$-1") {
		t.Errorf("a replica was answered: %q", left)
	}
}

// A head is what a replica hears first.
type head struct{ stream, file string }

func follow(t *testing.T, p *peer) head {
	t.Helper()
	r := bufio.NewReader(p)
	line, err := r.ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) != 3 || words[0] != "+FULLRESYNC" {
		t.Fatalf("%q, %v", line, err)
	}
	mark, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(mark, "$EOF:") {
		t.Fatalf("%q, %v", mark, err)
	}
	mark = strings.TrimSpace(mark[5:])
	var file []byte
	for !strings.HasSuffix(string(file), mark) {
		b, err := r.ReadByte()
		if err != nil {
			t.Fatal(err)
		}
		file = append(file, b)
	}
	return head{words[1], string(file)}
}

// TestAReplicaThatDoesNotKeepUp is sent away when more has changed than is kept for it, and so is one whose cache is gone.
func TestAReplicaThatDoesNotKeepUp(t *testing.T) {
	source := newSource(t, 1<<20)
	s := newService(t, func(c *Config, _ *wire.Patience) { c.Source = source })
	who := newTenant(t)
	p := s.login(t, who)
	p.do("+OK\r\n", "REPLCONF", "capa", "eof")
	p.send(command("PSYNC", "?", "-1"))
	follow(t, p)
	w := s.login(t, who)
	value := strings.Repeat("v", 100_000)
	for range 20 { // which is never acknowledged
		w.do("+OK\r\n", "SET", "k", value)
	}
	if n := len(p.rest()); n > 20*(len(value)+100) {
		t.Errorf("%d bytes came", n)
	}
	eventually(t, "nothing is kept", func() bool { return source.Held() == 0 })
	gone, err := theWorld.store.CreateCache(t.Context(), who.tenant, tenants.Cache{Name: "gone"})
	if err != nil {
		t.Fatal(err)
	}
	q := s.dial(t, "")
	q.do("+OK\r\n", "AUTH", "gone", who.key)
	q.do("+OK\r\n", "REPLCONF", "capa", "eof")
	q.send(command("PSYNC", "?", "-1"))
	follow(t, q)
	for _, at := range gone.Partitions() {
		if err := theWorld.host.Local(at).Execute(t.Context(), engine.DropTask(gone.ID)); err != nil {
			t.Fatal(err)
		}
	}
	q.rest()
}
