package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A client speaks RESP2 and returns what goes wrong.
type client struct {
	c net.Conn
	r *bufio.Reader
}

func newClient(t *testing.T, addr, key string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	k := &client{c, bufio.NewReader(c)}
	if got, err := k.do("AUTH", "main", key); err != nil || got != "OK" {
		t.Fatalf("AUTH: %q, %v", got, err)
	}
	return k
}

// do sends a command and returns its answer as text: elements of arrays behind each other, "nil" for nothing.
func (k *client) do(args ...string) (string, error) {
	text := fmt.Sprintf("*%d\r\n", len(args))
	for _, a := range args {
		text += fmt.Sprintf("$%d\r\n%s\r\n", len(a), a)
	}
	if err := k.c.SetDeadline(time.Now().Add(patience)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(k.c, text); err != nil {
		return "", err
	}
	got, err := k.read()
	if err == nil && strings.HasPrefix(got, "-") {
		err = fmt.Errorf("%v: %s", args, got)
	}
	return got, err
}

func (k *client) read() (string, error) {
	line, err := k.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '-':
		return line, nil
	case '$':
		if n < 0 {
			return "nil", nil
		}
		b := make([]byte, n+2)
		_, err := io.ReadFull(k.r, b)
		return string(b[:n]), err
	case '*':
		var all []string
		for range n {
			one, err := k.read()
			if err != nil {
				return "", err
			}
			all = append(all, one)
		}
		if n < 0 {
			return "nil", nil
		}
		return strings.Join(all, " "), nil
	}
	return line[1:], nil
}

// A mover changes keys that nobody else does, and knows what each answer has to be.
type mover struct {
	*client
	id     int
	rng    *rand.Rand
	counts map[string]int // by key: how often it was counted up, or how many elements it has
}

const workerKeys = 40

// step does something and compares the answer.
func (w *mover) step() error {
	key := func(kind string) string { return fmt.Sprintf("%s:%d:%d", kind, w.id, w.rng.IntN(workerKeys)) }
	count := func(k string, args ...string) error {
		got, err := w.do(args...)
		if err != nil {
			return err
		}
		if w.counts[k]++; got != strconv.Itoa(w.counts[k]) {
			return fmt.Errorf("%v is answered with %q, want %d", args, got, w.counts[k])
		}
		return nil
	}
	switch w.rng.IntN(9) {
	case 0:
		k := key("n")
		return count(k, "INCR", k)
	case 1:
		k := key("l")
		return count(k, "RPUSH", k, fmt.Sprint("element", w.counts[k]))
	case 2:
		k := key("s")
		return count(k, "EVAL", "return redis.call('INCR', KEYS[1])", "1", k)
	case 3:
		k := key("h")
		return count(k, "HINCRBY", k, "field", "1")
	case 4:
		tag := key("m")
		a, b := "{"+tag+"}a", "{"+tag+"}b"
		for _, args := range [][]string{{"MULTI"}, {"INCR", a}, {"INCR", b}} {
			if _, err := w.do(args...); err != nil {
				return err
			}
		}
		got, err := w.do("EXEC")
		w.counts[a]++
		w.counts[b]++
		if n := w.counts[a]; err != nil || got != fmt.Sprint(n, " ", n) {
			return fmt.Errorf("EXEC is answered with %q, want %d twice: %v", got, n, err)
		}
		return nil
	case 5:
		k := key("z")
		if _, err := w.do("ZADD", k, "1", fmt.Sprint("m", w.counts[k])); err != nil {
			return err
		}
		w.counts[k]++
		got, err := w.do("ZCARD", k)
		if err != nil || got != strconv.Itoa(w.counts[k]) {
			return fmt.Errorf("ZCARD %s is answered with %q, want %d: %v", k, got, w.counts[k], err)
		}
		return nil
	case 6:
		k := key("t")
		if _, err := w.do("SET", k, "v", "PX", "1"); err != nil { // it expires on the way
			return err
		}
		return nil
	case 7:
		a, b := key("p"), key("p")
		w.counts[a]++
		w.counts[b] = w.counts[a]
		v := strconv.Itoa(w.counts[a])
		if _, err := w.do("MSET", a, v, b, v); err != nil {
			return err
		}
		if got, err := w.do("MGET", a, b); err != nil || got != v+" "+v {
			return fmt.Errorf("MGET %s %s is answered with %q, want %s twice: %v", a, b, got, v, err)
		}
		return nil
	default:
		k := key("n")
		got, err := w.do("GET", k)
		want := "nil"
		if n := w.counts[k]; n > 0 {
			want = strconv.Itoa(n)
		}
		if err != nil || got != want {
			return fmt.Errorf("GET %s is answered with %q, want %s: %v", k, got, want, err)
		}
		return nil
	}
}

// verify looks at every key.
func (w *mover) verify(t *testing.T) {
	t.Helper()
	for k, n := range w.counts {
		ask := []string{"GET", k}
		switch k[0] {
		case 'l':
			ask = []string{"LLEN", k}
		case 'h':
			ask = []string{"HGET", k, "field"}
		case 'z':
			ask = []string{"ZCARD", k}
		}
		if got, err := w.do(ask...); err != nil || got != strconv.Itoa(n) {
			t.Errorf("in the end %v is answered with %q, want %d: %v", ask, got, n, err)
		}
	}
}

// queue has a consumer wait for what a producer pushes, and counts on both sides.
func queue(consumer, producer *client, name string, stop *atomic.Bool) error {
	done := make(chan error, 1)
	var pushed atomic.Int64
	go func() {
		for i := int64(0); ; i++ {
			for !stop.Load() || i < pushed.Load() {
				got, err := consumer.do("BLPOP", name, "1")
				if strings.HasPrefix(got, "-TRYAGAIN") { // its leader has gone, and nothing was taken
					continue
				}
				if err != nil {
					done <- err
					return
				}
				if got == "nil" {
					continue
				}
				if want := fmt.Sprint(name, " ", i); got != want {
					done <- fmt.Errorf("BLPOP is answered with %q, want %q", got, want)
					return
				}
				break
			}
			if stop.Load() && i >= pushed.Load()-1 {
				done <- nil
				return
			}
		}
	}()
	for i := int64(0); !stop.Load(); i++ {
		if _, err := producer.do("RPUSH", name, fmt.Sprint(i)); err != nil {
			return err
		}
		pushed.Store(i + 1)
		time.Sleep(3 * time.Millisecond)
	}
	return <-done
}

// underLoad has workers at some addresses do their steps while do does something, and compares what there is in the end.
func underLoad(t *testing.T, key string, addrs []string, do func()) {
	t.Helper()
	var stop atomic.Bool
	var all sync.WaitGroup
	workers := make([]*mover, 4)
	var steps atomic.Int64
	for i := range workers {
		w := &mover{newClient(t, addrs[i%len(addrs)], key), i, rand.New(rand.NewPCG(1, uint64(i))), map[string]int{}}
		workers[i] = w
		all.Go(func() {
			for !stop.Load() {
				if err := w.step(); err != nil {
					t.Errorf("mover %d: %v", i, err)
					return
				}
				steps.Add(1)
			}
		})
	}
	for i := range 2 {
		consumer, producer := newClient(t, addrs[i%len(addrs)], key), newClient(t, addrs[0], key)
		all.Go(func() {
			if err := queue(consumer, producer, fmt.Sprint("queue", i), &stop); err != nil {
				t.Errorf("queue %d: %v", i, err)
			}
		})
	}
	do()
	stop.Store(true)
	all.Wait()
	for _, w := range workers {
		w.verify(t)
	}
	t.Logf("%d steps", steps.Load())
}

// scale gives a cache ranges and waits until it has them.
func (s *server) scale(t *testing.T, ranges int) {
	t.Helper()
	s.do(t, http.MethodPost, "/v1/caches/main/scale", fmt.Sprintf(`{"ranges":%d}`, ranges)).want(t, http.StatusAccepted)
	until(t, fmt.Sprint("the cache has ", ranges, " ranges"), func() bool {
		body := s.do(t, http.MethodGet, "/v1/caches/main", "").want(t, http.StatusOK).body
		return !strings.Contains(body, `"scaling"`) && strings.Contains(body, fmt.Sprintf(`"ranges":%d,`, ranges))
	})
}

// A cache gets more ranges and fewer again while clients of all kinds use it: none is told of it, nothing is lost, nothing is done
// twice, and who waits is served where its key has gone.
func TestACacheIsScaledUnderLoad(t *testing.T) {
	t.Parallel()
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--redis-addr", "127.0.0.1:0", "--partitions", "8").tenant(t, "acme")
	addr := s.logged("larder serves", "redis")
	underLoad(t, s.key, []string{addr}, func() {
		for _, n := range []int{3, 8, 2, 1} {
			s.scale(t, n)
		}
	})
	s.do(t, http.MethodPost, "/v1/caches/main/scale", `{"ranges":9}`).code(t, http.StatusBadRequest, "out_of_range")
	s.stop(t)
}

// The same over three nodes, while leaders go elsewhere in the middle of it: who listens hears nothing twice, and keeps no copy that is
// old.
func TestACacheIsScaledInACluster(t *testing.T) {
	t.Parallel()
	_, endpoint := etcd(t, filepath.Join(t.TempDir(), "etcd"), "127.0.0.1:0")
	dir := t.TempDir()
	nodes := make([]*server, 3)
	for i := range nodes {
		name := fmt.Sprint("n", i+1)
		nodes[i] = serve(t, filepath.Join(dir, name), "--name", name, "--zone", "z"+name, "--etcd", endpoint, "--partitions", "4", "--peer-addr", "127.0.0.1:0", "--redis-addr", "127.0.0.1:0")
	}
	operator, err := os.ReadFile(filepath.Join(dir, "n1", "operator-token"))
	if err != nil {
		t.Fatal(err)
	}
	first := nodes[0]
	first.operator = string(operator)
	first.tenant(t, "acme")
	until(t, "three replicas of each partition vote", func() bool {
		body := first.asOperator(t, http.MethodGet, "/v1/cluster", "").want(t, http.StatusOK).body
		return strings.Count(body, `"voters":3`) == 4
	})
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.logged("larder serves", "redis"))
	}
	heard, kept := listening(t, addrs, first.key), keeping(t, addrs, first.key)
	underLoad(t, first.key, addrs, func() {
		first.scale(t, 4)
		first.do(t, http.MethodPost, "/v1/caches/main/scale", `{"ranges":1}`).want(t, http.StatusAccepted)
		for p := range 4 { // leaders go elsewhere in the middle of it
			first.asOperator(t, http.MethodPost, fmt.Sprintf("/v1/cluster/partitions/%d/failover", p), `{}`)
			time.Sleep(100 * time.Millisecond)
		}
		first.scale(t, 1)
	})
	kept()
	heard()
	largeValues(t, nodes, addrs)
	for _, n := range nodes {
		n.stop(t)
	}
}

// largeValues writes values through one node that no entry of a log takes, reads them through another, and has them move.
func largeValues(t *testing.T, nodes []*server, addrs []string) {
	t.Helper()
	first := nodes[0]
	first.do(t, http.MethodPatch, "/v1/caches/main", `{"memory_limit_bytes":1073741824,"max_value_bytes":67108864}`).want(t, http.StatusOK)
	value := strings.Repeat("larder..", 40<<20/8)
	writer, reader := newClient(t, addrs[1], first.key), newClient(t, addrs[2], first.key)
	check := func(when string) {
		t.Helper()
		for _, i := range []int{1, 2} {
			if got, err := reader.do("GET", fmt.Sprint("large", i)); err != nil || got != value {
				t.Fatalf("%s large%d has %d bytes: %v", when, i, len(got), err)
			}
		}
	}
	for _, i := range []int{1, 2} { // one moves, with two ranges
		until(t, "it is written", func() bool { // the cache's settings are there
			got, _ := writer.do("SET", fmt.Sprint("large", i), value)
			return got == "OK"
		})
	}
	check("at first")
	first.scale(t, 2)
	check("after it has moved")
}

// ranges waits until a cache has so many.
func (s *server) ranges(t *testing.T, cache string, n int) {
	t.Helper()
	until(t, fmt.Sprintf("%s has %d ranges", cache, n), func() bool {
		body := s.do(t, http.MethodGet, "/v1/caches/"+cache, "").want(t, http.StatusOK).body
		return !strings.Contains(body, `"scaling"`) && strings.Contains(body, fmt.Sprintf(`"ranges":%d,`, n))
	})
}

// counting counts keys of all slots up, and compares the answers, until it is told that this is done.
func counting(t *testing.T, k *client, name string) (done func()) {
	var stop atomic.Bool
	var work sync.WaitGroup
	work.Go(func() {
		for i := 0; !stop.Load(); i++ {
			if got, err := k.do("INCR", fmt.Sprint(name, i%16)); err != nil || got != strconv.Itoa(i/16+1) {
				t.Errorf("INCR is answered with %q, want %d: %v", got, i/16+1, err)
				return
			}
			time.Sleep(time.Millisecond)
		}
	})
	return func() { stop.Store(true); work.Wait() }
}

// A cache that outgrows its ranges, by what it holds or by what it is asked for, gets more without being told, and fewer when it
// has been calm; whoever uses it meanwhile does not notice.
func TestACacheGrowsByItself(t *testing.T) {
	t.Parallel()
	s := serve(t, filepath.Join(t.TempDir(), "data"), "--redis-addr", "127.0.0.1:0", "--partitions", "4", "--growth-calm", "1s").tenant(t, "acme")
	addr := s.logged("larder serves", "redis")
	s.do(t, http.MethodPatch, "/v1/caches/main", `{"growth":{"max_ranges":4,"range_bytes":1048576}}`).want(t, http.StatusOK)
	s.do(t, http.MethodPost, "/v1/caches", `{"name":"busy","growth":{"max_ranges":2,"range_ops_per_second":100}}`).want(t, http.StatusCreated)
	filler, value := newClient(t, addr, s.key), strings.Repeat("v", 10_000)
	done := counting(t, newClient(t, addr, s.key), "growing")
	for i := range 300 {
		if _, err := filler.do("SET", fmt.Sprint("filler", i), value); err != nil {
			t.Error(err)
		}
	}
	s.ranges(t, "main", 4)
	done()
	if got, err := filler.do("FLUSHALL"); err != nil || got != "OK" {
		t.Fatal(got, err)
	}
	done = counting(t, newClient(t, addr, s.key), "shrinking")
	s.ranges(t, "main", 1)
	done()
	var stop atomic.Bool
	busy := newClient(t, addr, s.key)
	if got, err := busy.do("AUTH", "busy", s.key); err != nil || got != "OK" {
		t.Fatal(got, err)
	}
	var asking sync.WaitGroup
	asking.Go(func() {
		for !stop.Load() {
			if err := busy.c.SetDeadline(time.Now().Add(patience)); err != nil {
				t.Error(err)
			}
			if _, err := io.WriteString(busy.c, strings.Repeat("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n", 1000)); err != nil {
				t.Error(err)
				return
			}
			for range 1000 {
				if got, err := busy.read(); err != nil || strings.HasPrefix(got, "-") {
					t.Error(got, err)
					return
				}
			}
		}
	})
	s.ranges(t, "busy", 2)
	stop.Store(true)
	asking.Wait()
	s.ranges(t, "busy", 1)
	s.stop(t)
}
