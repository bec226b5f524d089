package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
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
	"syscall"
	"testing"
	"time"
)

// rounds is how often the server is killed.
func rounds(t *testing.T) int {
	t.Helper()
	text := os.Getenv("LARDER_DURABILITY_ROUNDS")
	if text == "" {
		return 4
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("LARDER_DURABILITY_ROUNDS is a number, not %q", text)
	}
	return n
}

// A redisConn is a client of the Redis protocol that says what it sends and reads what comes.
type redisConn struct {
	net.Conn
	r *bufio.Reader
}

func dialRedis(addr, cache, key string) (*redisConn, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	rc := &redisConn{c, bufio.NewReader(c)}
	answers, err := rc.do([]string{"AUTH", cache, key})
	if err == nil && answers[0] != "OK" {
		err = errors.New(answers[0])
	}
	return rc, err
}

// do sends commands together and returns their answers as text, the elements of arrays joined by spaces.
func (c *redisConn) do(commands ...[]string) (answers []string, err error) {
	var b []byte
	for _, args := range commands {
		b = fmt.Appendf(b, "*%d\r\n", len(args))
		for _, a := range args {
			b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
		}
	}
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	for range commands {
		a, err := c.read()
		if err != nil {
			return answers, err
		}
		answers = append(answers, a)
	}
	return answers, nil
}

func (c *redisConn) read() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch line[0] {
	case '$':
		if n < 0 {
			return "(nil)", nil
		}
		b := make([]byte, n+2)
		_, err := io.ReadFull(c.r, b)
		return string(b[:n]), err
	case '*':
		var parts []string
		for range n {
			p, err := c.read()
			if err != nil {
				return "", err
			}
			parts = append(parts, p)
		}
		return strings.Join(parts, " "), nil
	case '-':
		return line, nil
	}
	return line[1:], nil
}

// A promise is what a client knows: how far a number has come that only this client raises. It is at least acked, and one of
// the steps up to tried.
type promise struct {
	acked, tried int
	acks         []ack // since somebody looked
}

// An ack is when a step was acknowledged.
type ack struct {
	step int
	at   time.Time
}

func (p *promise) holds(got int) bool { return got >= p.acked && got <= p.tried }

// ack notes that all steps up to one are acknowledged.
func (p *promise) ack(step int) {
	p.acked = step
	p.acks = append(p.acks, ack{step, time.Now()})
}

// lost is when the first step was acknowledged that is missing; zero for none.
func (p *promise) lost(got int) (at time.Time) {
	for _, a := range p.acks {
		if a.step > got {
			return a.at
		}
	}
	return at
}

// A worker raises numbers by different ways, until its server is gone. After that it looks whether all promises hold.
type worker struct {
	id                        int
	dice                      *rand.Rand
	single, pair, script, web promise
	once                      promise // batches, by idempotency keys
	list                      promise
	patient                   bool      // an answer may be an error: the node that has it dies after others
	since                     time.Time // what was acknowledged from then on may be lost
	until                     time.Time // when it stops; zero for never
}

func (w *worker) key(what string) string { return fmt.Sprintf("{w%d}:%s", w.id, what) }

const pairScript = "redis.call('SET', KEYS[1], ARGV[1]); redis.call('SET', KEYS[2], ARGV[1]); return redis.call('INCR', KEYS[3])"

// work runs until the server does not answer. An answer that is an error ends the test.
func (w *worker) work(s *server, redis string) error {
	c, err := dialRedis(redis, "durable", s.key)
	if err != nil {
		return nil
	}
	defer c.Close()
	for w.until.IsZero() || time.Now().Before(w.until) {
		var err error
		switch w.dice.IntN(6) {
		case 0: // a pipeline
			var list [][]string
			n := 1 + w.dice.IntN(8)
			for range n {
				w.single.tried++
				value := strconv.Itoa(w.single.tried) + " " + canary + strings.Repeat("x", w.dice.IntN(8<<10))
				list = append(list, []string{"SET", w.key("single"), value})
			}
			var answers []string
			answers, err = c.do(list...)
			for _, a := range answers {
				if a != "OK" && w.patient {
					return nil
				}
				if a != "OK" {
					return errors.New(a)
				}
				w.single.ack(w.single.acked + 1)
			}
		case 1:
			w.pair.tried++
			n := strconv.Itoa(w.pair.tried)
			err = w.expect(c, &w.pair, "OK OK", []string{"MULTI"}, []string{"SET", w.key("left"), n}, []string{"SET", w.key("right"), n}, []string{"EXEC"})
		case 2:
			w.script.tried++
			n := strconv.Itoa(w.script.tried)
			err = w.expect(c, &w.script, "", []string{"EVAL", pairScript, "3", w.key("one"), w.key("two"), w.key("runs"), n})
		case 3:
			w.list.tried++
			err = w.expect(c, &w.list, "", []string{"RPUSH", w.key("list"), strconv.Itoa(w.list.tried)})
		case 4:
			w.web.tried++
			err = w.request(s, http.MethodPut, "/v1/caches/durable/kv/"+w.key("web"), strconv.Itoa(w.web.tried), "", &w.web)
		case 5:
			w.once.tried++
			err = w.batch(s)
		}
		if err != nil {
			if errors.Is(err, errAnswer) && !w.patient {
				return err
			}
			return nil
		}
	}
	return nil
}

var errAnswer = errors.New("an answer is not what it should be")

// expect has commands carried out whose last answer acknowledges a step.
func (w *worker) expect(c *redisConn, p *promise, want string, commands ...[]string) error {
	answers, err := c.do(commands...)
	if err != nil {
		return err
	}
	last := answers[len(answers)-1]
	if strings.HasPrefix(last, "-") || want != "" && last != want {
		return fmt.Errorf("%w: %v", errAnswer, answers)
	}
	p.ack(p.tried)
	return nil
}

func (w *worker) request(s *server, method, path, body, once string, p *promise) error {
	headers := []string{"Content-Type", "text/plain"}
	if once != "" {
		headers = []string{"Content-Type", "application/json", "Idempotency-Key", once}
	}
	a, err := s.try(http.DefaultClient, method, path, body, headers...)
	if err != nil {
		return err
	}
	if a.status >= 300 {
		return fmt.Errorf("%w: %d %s", errAnswer, a.status, a.body)
	}
	p.ack(p.tried)
	return nil
}

// batch raises a number, and writes which step that was, once for each idempotency key.
func (w *worker) batch(s *server) error {
	body, _ := json.Marshal(map[string]any{"atomic": true, "commands": [][]any{{"INCR", w.key("once")}, {"SET", w.key("step"), strconv.Itoa(w.once.tried)}}})
	return w.request(s, http.MethodPost, "/v1/caches/durable/commands", string(body), fmt.Sprintf("w%d-%d", w.id, w.once.tried), &w.once)
}

// look compares what is there after a crash with what was promised.
func (w *worker) look(s *server, redis string) error {
	c, err := dialRedis(redis, "durable", s.key)
	if err != nil {
		return err
	}
	defer c.Close()
	answers, err := c.do([]string{"GET", w.key("single")}, []string{"MGET", w.key("left"), w.key("right")}, []string{"MGET", w.key("one"), w.key("two"), w.key("runs")},
		[]string{"LRANGE", w.key("list"), "0", "-1"}, []string{"GET", w.key("web")})
	if err != nil {
		return err
	}
	number := func(text string) int {
		first, _, _ := strings.Cut(text, " ")
		n, _ := strconv.Atoi(first)
		return n
	}
	check := func(what string, p *promise, got int, whole bool, shown string) error {
		lost := p.lost(got)
		p.acks = nil
		if late := !w.since.IsZero() && got <= p.tried && (lost.IsZero() || lost.After(w.since)); !whole || !late && !p.holds(got) {
			return fmt.Errorf("%s of client %d: %d was acknowledged and %d tried, and there is %.100q", what, w.id, p.acked, p.tried, shown)
		}
		p.acked, p.tried = got, got
		return nil
	}
	pair, script := strings.Fields(answers[1]), strings.Fields(answers[2])
	list := strings.Fields(answers[3])
	inOrder := true
	for i, e := range list {
		inOrder = inOrder && e == strconv.Itoa(i+1)
	}
	err = errors.Join(
		check("what pipelines wrote", &w.single, number(answers[0]), true, answers[0]),
		check("what transactions wrote", &w.pair, number(pair[0]), pair[0] == pair[1], answers[1]),
		check("what scripts wrote", &w.script, number(script[0]), script[0] == script[1] && script[0] == script[2], answers[2]),
		check("the list", &w.list, len(list), inOrder, answers[3]),
		check("what was written over HTTP", &w.web, number(answers[4]), true, answers[4]),
	)
	if err != nil {
		return err
	}
	if w.once.tried > w.once.acked && w.since.IsZero() { // the retry of one that may have been done does it once
		if err := w.batch(s); err != nil {
			return fmt.Errorf("the batch that is tried again: %w", err)
		}
	}
	answers, err = c.do([]string{"MGET", w.key("once"), w.key("step")})
	if err != nil {
		return err
	}
	steps := strings.Fields(answers[0])
	return check("what batches wrote", &w.once, number(steps[0]), steps[0] == steps[1], answers[0])
}

// writtenDown makes a cache of a class in a folder, which key opens, and those who will write to it.
func writtenDown(t *testing.T, class string) (dir, key string, dice *rand.Rand, workers []*worker) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "data")
	d := dev(t, dir)
	d.do(t, http.MethodPost, "/v1/caches", `{"name":"durable","durability":"`+class+`"}`).want(t, http.StatusCreated)
	key = d.key
	d.stop(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice = rand.New(rand.NewPCG(seed, 1))
	for i := range 6 {
		workers = append(workers, &worker{id: i, dice: rand.New(rand.NewPCG(seed, uint64(10+i)))})
	}
	return dir, key, dice, workers
}

// A durable cache has every write that was acknowledged after its server was killed at any moment, and transactions, scripts and
// batches as a whole or not at all. LARDER_DURABILITY_ROUNDS says how often.
func TestDurability(t *testing.T) {
	t.Parallel()
	dir, key, dice, workers := writtenDown(t, "durable")
	acked := 0
	for round := range rounds(t) + 1 {
		s := serve(t, dir, "--name", "dev", "--redis-addr", "127.0.0.1:0", "--wal-size", "8MiB")
		s.key = key
		redis := s.logged("larder serves", "redis")
		until(t, "the cache is loaded", func() bool {
			a, err := s.try(http.DefaultClient, http.MethodGet, "/v1/caches/durable/kv/none", "")
			return err == nil && a.status == http.StatusNotFound
		})
		for _, w := range workers {
			if err := w.look(s, redis); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		var all sync.WaitGroup
		wrong := make(chan error, len(workers))
		for _, w := range workers {
			all.Go(func() { wrong <- w.work(s, redis) })
		}
		time.Sleep(time.Duration(50+dice.IntN(400)) * time.Millisecond)
		if dice.IntN(8) == 0 {
			s.signal(t, syscall.SIGTERM)
			s.wait(t)
		} else {
			s.kill()
		}
		all.Wait()
		close(wrong)
		for err := range wrong {
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		acked = 0
		for _, w := range workers {
			acked += w.single.acked + w.pair.acked + w.script.acked + w.list.acked + w.web.acked + w.once.acked
		}
	}
	if acked < 100 {
		t.Errorf("only %d writes were acknowledged: the test does not try what it should", acked)
	}
	t.Logf("%d writes were acknowledged", acked)
	noFileShows(t, dir)
}

// A cache that is written down is scaled while it is written to, and its server killed at any step of that: each slot has one owner afterwards,
// and what was promised is there.
func TestWhatIsWrittenDownMoves(t *testing.T) {
	t.Parallel()
	for _, class := range []string{"durable", "async"} {
		t.Run(class, func(t *testing.T) {
			t.Parallel()
			dir, key, dice, workers := writtenDown(t, class)
			acked := 0
			last := max(rounds(t)/2, 2)
			for round := range last + 1 {
				s := serve(t, dir, "--name", "dev", "--redis-addr", "127.0.0.1:0", "--wal-size", "8MiB")
				s.key = key
				redis := s.logged("larder serves", "redis")
				until(t, "all of the cache is loaded", func() bool {
					c, err := dialRedis(redis, "durable", key)
					if err != nil {
						return false
					}
					defer c.Close()
					answers, err := c.do([]string{"DBSIZE"})
					return err == nil && !strings.HasPrefix(answers[0], "-")
				})
				if round == last {
					s.do(t, http.MethodPost, "/v1/caches/durable/scale", `{"ranges":3}`).want(t, http.StatusAccepted)
					until(t, "the cache has its ranges", func() bool {
						body := s.do(t, http.MethodGet, "/v1/caches/durable", "").want(t, http.StatusOK).body
						return !strings.Contains(body, `"scaling"`) && strings.Contains(body, `"ranges":3,`)
					})
				}
				for _, w := range workers {
					if err := w.look(s, redis); err != nil {
						t.Fatalf("round %d: %v", round, err)
					}
				}
				once(t, redis, key)
				if round == last {
					break
				}
				s.do(t, http.MethodPost, "/v1/caches/durable/scale", fmt.Sprintf(`{"ranges":%d}`, 1+dice.IntN(6))).want(t, http.StatusAccepted)
				var all sync.WaitGroup
				for _, w := range workers {
					all.Go(func() {
						if err := w.work(s, redis); err != nil {
							t.Error(err)
						}
					})
				}
				time.Sleep(time.Duration(50+dice.IntN(500)) * time.Millisecond)
				s.kill()
				all.Wait()
				var end time.Time
				for _, w := range workers {
					for _, p := range []*promise{&w.single, &w.pair, &w.script, &w.list, &w.web, &w.once} {
						if n := len(p.acks); n > 0 && p.acks[n-1].at.After(end) {
							end = p.acks[n-1].at
						}
						acked += len(p.acks)
					}
				}
				for _, w := range workers {
					if class == "async" {
						w.since = end.Add(-time.Second)
					}
				}
				if t.Failed() {
					return
				}
			}
			if acked < 50 {
				t.Errorf("only %d writes were acknowledged: the test does not try what it should", acked)
			}
		})
	}
}

// once fails the test if a key is in two partitions, or in one that does not serve it.
func once(t *testing.T, redis, key string) {
	t.Helper()
	c, err := dialRedis(redis, "durable", key)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	seen := map[string]bool{}
	for cursor := "0"; ; {
		answers, err := c.do([]string{"SCAN", cursor, "COUNT", "1000"})
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(answers[0])
		for _, k := range fields[1:] {
			if seen[k] {
				t.Errorf("%s is there twice", k)
			}
			seen[k] = true
		}
		if cursor = fields[0]; cursor == "0" {
			break
		}
	}
	if size, err := c.do([]string{"DBSIZE"}); err != nil || size[0] != strconv.Itoa(len(seen)) {
		t.Errorf("there are %d keys, and DBSIZE says %v, %v", len(seen), size, err)
	}
}

// A cache can be made durable while it has data, and a memory cache again.
func TestDurabilityIsChangedOnline(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	first := dev(t, dir)
	const main = "/v1/caches/main"
	put := func(s *server, key string) {
		t.Helper()
		s.do(t, http.MethodPut, main+"/kv/"+key, "v").want(t, http.StatusCreated)
	}
	class := func(s *server, want string) {
		t.Helper()
		s.do(t, http.MethodPatch, main, `{"durability":"`+want+`"}`).want(t, http.StatusOK).says(t, "durability", want)
		until(t, "the cache is "+want, func() bool {
			return s.do(t, http.MethodGet, main, "").want(t, http.StatusOK).get(t, "live.durability") == want
		})
	}
	there := func(s *server, status int, keys ...string) {
		t.Helper()
		for _, k := range keys {
			s.do(t, http.MethodGet, main+"/kv/"+k, "").want(t, status)
		}
	}
	restart := func(s *server, kill bool) *server {
		t.Helper()
		if !kill {
			s.stop(t)
		} else {
			s.kill()
			if err := os.Remove(filepath.Join(dir, "dev.json")); err != nil {
				t.Error(err)
			}
		}
		return dev(t, dir)
	}
	put(first, "a")
	class(first, "durable")
	put(first, "b")
	second := restart(first, true)
	there(second, http.StatusOK, "a", "b")
	put(second, "c")
	class(second, "memory")
	put(second, "d")
	third := restart(second, false) // by a hand-over, and not by what was written down before
	there(third, http.StatusOK, "a", "b", "c", "d")
	class(third, "async")
	put(third, "e")
	class(third, "durable") // what was written before is on disk with what is written now
	put(third, "f")
	fourth := restart(third, false)
	there(fourth, http.StatusOK, "a", "b", "c", "d", "e", "f")
	class(fourth, "memory")
	put(fourth, "g")
	fifth := restart(fourth, false)
	there(fifth, http.StatusOK, "a", "f", "g")
	fifth.do(t, http.MethodPatch, main, `{"durability":"eternal"}`).code(t, http.StatusBadRequest, "invalid_argument")
	fifth.stop(t)
}

// What is damaged on disk is not served, and told apart from what a crash leaves; the rest of the node serves.
func TestDamagedDurableDataIsNotServed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s := dev(t, dir)
	s.do(t, http.MethodPost, "/v1/caches", `{"name":"durable","durability":"durable"}`).want(t, http.StatusCreated)
	for i := range 20 {
		s.do(t, http.MethodPut, fmt.Sprintf("/v1/caches/durable/kv/%d", i), strings.Repeat("v", 1000)).want(t, http.StatusCreated)
	}
	s.stop(t)
	files, err := filepath.Glob(filepath.Join(dir, "wal", "*.wal"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%v, %v", files, err)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.LastIndex(b, []byte("LWB1"))-100] ^= 1 // in the last block but one
	if err := os.WriteFile(files[0], b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = dev(t, dir)
	until(t, "the damage is found", func() bool {
		a := s.do(t, http.MethodGet, "/v1/caches/durable/kv/1", "")
		return a.status == http.StatusServiceUnavailable && strings.Contains(a.body, "damaged")
	})
	if message := s.stderr.String(); !strings.Contains(message, filepath.Base(files[0])) || !strings.Contains(message, "checksum") {
		t.Errorf("the log does not say where: %s", message)
	}
	s.stop(t)
	if after, err := os.ReadFile(files[0]); err != nil || len(after) == 0 || !bytes.Contains(after, []byte("LWB1")) {
		t.Errorf("the damaged file is gone: %v", err)
	}
}
