package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/larder-cache/larder/internal/rig"
)

// A load is many clients at work on keys whose histories are checked as soon as they are long enough.
type load struct {
	rig    *rig.Rig
	caches int
	out    string // folder for histories that are wrong
	pause  time.Duration
	began  time.Time

	mu     sync.Mutex
	tracks map[string]*track // by kind and cache: the key in use
	serial int

	checks  sync.WaitGroup
	slots   chan struct{}
	clients sync.WaitGroup
	stop    chan struct{}

	done      atomic.Int64 // operations with an answer
	unknown   atomic.Int64
	refused   atomic.Int64 // surely not done
	gaps      []gap        // of each cache
	checked   atomic.Int64 // histories
	undecided atomic.Int64

	badMu   sync.Mutex
	bad     []string       // anomalies
	odd     map[string]int // errors that nobody expects
	refusal map[string]int // answers that say that nothing was done

	ackMu sync.Mutex
	acked map[string]string // keys that were written once, and have to be there for good: cache, key
}

// A gap is how long no write to a cache was acknowledged.
type gap struct {
	last    atomic.Int64 // when one was, in ns since load.began
	longest atomic.Int64 // since it was reset
}

func (g *gap) ack(now int64) {
	d := now - g.last.Swap(now)
	for old := g.longest.Load(); d > old && !g.longest.CompareAndSwap(old, d); old = g.longest.Load() {
	}
}

// widest returns the longest gap of any cache since it was asked for last.
func (l *load) widest() time.Duration {
	var most int64
	for i := range l.gaps {
		most = max(most, l.gaps[i].longest.Swap(0), l.now()-l.gaps[i].last.Load())
	}
	return time.Duration(most)
}

// A track is one key and its history.
type track struct {
	kind    string
	cache   string
	key     string
	until   time.Time
	mu      sync.Mutex
	history []porcupine.Operation
	busy    int  // operations under way
	retired bool // no more begin
}

// Bounds of a history: a longer one would take long to check.
const (
	trackOps  = 120
	trackTime = 8 * time.Second
)

// kinds are what is done to keys, and the models of them.
var kinds = map[string]*porcupine.Model{"register": &registers, "counter": &counters, "list": &lists, "zset": &sortedSets, "pair": &pairs, "queue": nil}

var kindNames = []string{"register", "register", "counter", "list", "zset", "pair", "queue", "acked"}

func newLoad(r *rig.Rig, caches int, out string, pause time.Duration) *load {
	return &load{rig: r, caches: caches, out: out, pause: pause, began: time.Now(), tracks: map[string]*track{}, slots: make(chan struct{}, 2), stop: make(chan struct{}),
		odd: map[string]int{}, refusal: map[string]int{}, acked: map[string]string{}, gaps: make([]gap, caches)}
}

func (l *load) now() int64 { return int64(time.Since(l.began)) }

// start sets clients to work.
func (l *load) start(n int, seed uint64) {
	for i := range n {
		c := &client{l: l, id: i, rng: rand.New(rand.NewPCG(seed, uint64(i))), http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: 5 * time.Second}}}
		l.clients.Go(c.run)
	}
}

// finish stops the clients, and waits until all is checked.
func (l *load) finish() {
	close(l.stop)
	l.clients.Wait()
	l.mu.Lock()
	for _, t := range l.tracks {
		l.retire(t)
	}
	l.mu.Unlock()
	l.checks.Wait()
}

// take returns the key in use of a kind in a cache. leave is to be called when the operation is over.
func (l *load) take(kind, cache string) *track {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := kind + " " + cache
	t := l.tracks[at]
	if t != nil {
		t.mu.Lock()
		old := len(t.history)+t.busy > trackOps || time.Now().After(t.until)
		t.mu.Unlock()
		if old {
			l.retire(t)
			t = nil
		}
	}
	if t == nil {
		l.serial++
		t = &track{kind: kind, cache: cache, key: fmt.Sprintf("%s-%d", kind, l.serial), until: time.Now().Add(trackTime)}
		l.tracks[at] = t
	}
	t.mu.Lock()
	t.busy++
	t.mu.Unlock()
	return t
}

// retire ends a key's use: it is checked when the last operation is over.
func (l *load) retire(t *track) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.retired {
		t.retired = true
		if t.busy == 0 {
			l.checks.Go(func() { l.check(t) })
		}
	}
}

func (l *load) leave(t *track) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy--; t.busy == 0 && t.retired {
		l.checks.Go(func() { l.check(t) })
	}
}

// note takes an operation into the history. err is as verdict and request have it.
func (l *load) note(t *track, client int, in input, call int64, value string, err error, write bool) {
	end := l.now()
	switch {
	case errors.Is(err, errNotDone):
		l.refused.Add(1)
		l.badMu.Lock()
		l.refusal[err.Error()]++
		l.badMu.Unlock()
		return
	case errors.Is(err, errUnknown):
		l.unknown.Add(1)
		if !write {
			return
		}
		end = math.MaxInt64
	case err != nil:
		l.strange(fmt.Sprintf("%s: %s", in.Kind, err))
		return
	default:
		l.done.Add(1)
		if write {
			l.gaps[number(t.cache[1:])-1].ack(end)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.history = append(t.history, porcupine.Operation{ClientId: client, Input: in, Call: call, Output: output{err != nil, value}, Return: end})
}

func (l *load) strange(text string) {
	l.badMu.Lock()
	defer l.badMu.Unlock()
	if l.odd[text]++; l.odd[text] == 1 {
		fmt.Println("  an answer that nobody expects:", text)
	}
}

func (l *load) anomaly(format string, args ...any) {
	l.badMu.Lock()
	defer l.badMu.Unlock()
	text := fmt.Sprintf(format, args...)
	l.bad = append(l.bad, text)
	fmt.Println("  ANOMALY:", text)
}

// check has a key's history judged.
func (l *load) check(t *track) {
	l.slots <- struct{}{}
	defer func() { <-l.slots }()
	l.checked.Add(1)
	if t.kind == "queue" {
		left, err := l.drain(t)
		if err != nil {
			l.undecided.Add(1)
			return
		}
		if err := checkQueue(t.history, left); err != nil {
			l.anomaly("%s in %s: %v: %s", t.key, t.cache, err, l.save(t))
		}
		return
	}
	ops := openEnds(t.history)
	switch porcupine.CheckOperationsTimeout(*kinds[t.kind], ops, 60*time.Second) {
	case porcupine.Illegal:
		l.anomaly("the history of %s in %s is not linearizable: %s", t.key, t.cache, l.save(t))
	case porcupine.Unknown:
		l.undecided.Add(1)
		fmt.Println("  a history was too long to judge:", l.save(t))
	}
}

// openEnds gives each operation of unknown outcome a client of its own: its client went on.
func openEnds(history []porcupine.Operation) []porcupine.Operation {
	ops := append([]porcupine.Operation(nil), history...)
	for i := range ops {
		if ops[i].Output.(output).Unknown {
			ops[i].ClientId = 1000 + i
		}
	}
	return ops
}

// drain empties a queue. It waits for the cluster.
func (l *load) drain(t *track) (left []string, err error) {
	for tries := 0; tries < 100; tries++ {
		n := l.rig.Nodes[tries%len(l.rig.Nodes)]
		s, err := dialRedis(n.Redis, t.cache, l.rig.Key)
		if err != nil {
			time.Sleep(200 * time.Millisecond)
			continue
		}
		reply, err := s.do("LRANGE", t.key, "0", "-1")
		s.close()
		if list, ok := reply.([]any); ok && err == nil {
			for _, e := range list {
				left = append(left, e.(string))
			}
			return left, nil
		}
		time.Sleep(200 * time.Millisecond)
	}
	return nil, errors.New("nobody answers")
}

// save writes a history to a file, and returns its name.
func (l *load) save(t *track) string {
	name := filepath.Join(l.out, t.key+".json")
	type line struct {
		Client       int
		Call, Return int64
		Op           string
	}
	var lines []line
	for _, o := range t.history {
		lines = append(lines, line{o.ClientId, o.Call, o.Return, describe(o.Input, o.Output)})
	}
	text, err := json.MarshalIndent(map[string]any{"kind": t.kind, "cache": t.cache, "began": l.began.Format(time.RFC3339Nano), "history": lines}, "", " ")
	if err == nil {
		err = os.WriteFile(name, text, 0o644)
	}
	if m := kinds[t.kind]; err == nil && m != nil {
		_, info := porcupine.CheckOperationsVerbose(*m, openEnds(t.history), 10*time.Second)
		err = porcupine.VisualizePath(*m, info, strings.TrimSuffix(name, ".json")+".html")
	}
	if err != nil {
		return err.Error()
	}
	return name
}

// verify looks for every write that was acknowledged and has to be there for good.
func (l *load) verify() {
	l.ackMu.Lock()
	defer l.ackMu.Unlock()
	lost := 0
	sessions := map[string]*session{}
	for at, want := range l.acked {
		cache, key, _ := strings.Cut(at, " ")
		for tries := 0; ; tries++ {
			s := sessions[cache]
			if s == nil {
				var err error
				if s, err = dialRedis(l.rig.Nodes[tries%len(l.rig.Nodes)].Redis, cache, l.rig.Key); err != nil {
					time.Sleep(100 * time.Millisecond)
					continue
				}
				sessions[cache] = s
			}
			got, err := s.do("GET", key)
			if err == nil {
				if got != want {
					if lost++; lost < 20 {
						l.anomaly("%s was acknowledged as %s and is %v", at, want, got)
					}
				}
				break
			}
			s.close()
			delete(sessions, cache)
			if tries > 100 {
				l.anomaly("%s cannot be read: %v", at, err)
				break
			}
		}
	}
	for _, s := range sessions {
		s.close()
	}
	fmt.Printf("%d writes that were acknowledged once and for all: %d are lost\n", len(l.acked), lost)
}

// A client does one thing after another.
type client struct {
	l    *load
	id   int
	rng  *rand.Rand
	http *http.Client
	s    *session
	on   string // the cache of s
	n    int
}

func (c *client) run() {
	for {
		select {
		case <-c.l.stop:
			c.s.close()
			return
		case <-time.After(time.Duration(c.rng.Int64N(int64(2*c.l.pause) + 1))):
		}
		c.n++
		cache := fmt.Sprint("c", 1+c.rng.IntN(c.l.caches))
		kind := kindNames[c.rng.IntN(len(kindNames))]
		if kind == "acked" {
			c.acked(cache)
			continue
		}
		t := c.l.take(kind, cache)
		switch kind {
		case "register":
			c.register(t)
		case "counter":
			c.counter(t)
		case "list":
			c.list(t)
		case "zset":
			c.zset(t)
		case "pair":
			c.pair(t)
		case "queue":
			c.queue(t)
		}
		c.l.leave(t)
	}
}

// node picks any node, also one that is in trouble.
func (c *client) node() *rig.Node { return c.l.rig.Nodes[c.rng.IntN(len(c.l.rig.Nodes))] }

// session returns a connection to any node, logged in to a cache: sometimes another than before.
func (c *client) session(cache string) *session {
	if c.s != nil && (c.on != cache || c.rng.IntN(50) == 0) {
		c.s.close()
		c.s = nil
	}
	if c.s == nil {
		s, err := dialRedis(c.node().Redis, cache, c.l.rig.Key)
		if err != nil {
			return nil
		}
		c.s, c.on = s, cache
	}
	return c.s
}

// do sends a command to any node. A connection that breaks is thrown away.
func (c *client) do(cache string, args ...string) (any, error) {
	s := c.session(cache)
	if s == nil {
		return nil, fmt.Errorf("%w: no connection", errNotDone)
	}
	reply, err := s.do(args...)
	var said respError
	if err != nil && !errors.As(err, &said) {
		s.close()
		c.s = nil
	}
	return reply, verdict(err)
}

// one does a command and notes it.
func (c *client) one(t *track, in input, write bool, args ...string) {
	call := c.l.now()
	reply, err := c.do(t.cache, args...)
	c.l.note(t, c.id, in, call, text(reply), err, write)
}

// text is a reply as models have it.
func text(reply any) string {
	switch r := reply.(type) {
	case nil:
		return ""
	case []any:
		parts := make([]string, len(r))
		for i := range r {
			parts[i] = text(r[i])
		}
		return strings.Join(parts, ",")
	default:
		return fmt.Sprint(r)
	}
}

// value is one that nobody else writes.
func (c *client) value() string { return fmt.Sprintf("%d.%d", c.id, c.n) }

func (c *client) url(t *track, path string) string {
	return "http://" + c.node().HTTP + "/v1/caches/" + t.cache + path
}

func (c *client) register(t *track) {
	v := c.value()
	switch c.rng.IntN(8) {
	case 0:
		c.one(t, input{Kind: "set", A: v}, true, "SET", t.key, v)
	case 1:
		call := c.l.now()
		status, _, body, err := request(c.http, http.MethodPut, c.url(t, "/kv/"+t.key), c.l.rig.Key, v)
		if err == nil && status/100 != 2 {
			err = fmt.Errorf("PUT: %d %s", status, body)
		}
		c.l.note(t, c.id, input{Kind: "set", A: v}, call, "", err, true)
	case 2, 3:
		c.one(t, input{Kind: "get"}, false, "GET", t.key)
	case 4:
		call := c.l.now()
		value, _, err := c.get(t)
		c.l.note(t, c.id, input{Kind: "get"}, call, value, err, false)
	case 5:
		c.setIfEqual(t, v)
	case 6:
		c.transaction(t, v)
	default:
		c.ifMatch(t, v)
	}
}

func (c *client) get(t *track) (value, etag string, err error) {
	status, header, body, err := request(c.http, http.MethodGet, c.url(t, "/kv/"+t.key), c.l.rig.Key, "")
	switch {
	case err != nil:
		return "", "", err
	case status == http.StatusNotFound:
		return "", "", nil
	case status != http.StatusOK:
		return "", "", fmt.Errorf("GET: %d %s", status, body)
	}
	return body, header.Get("Etag"), nil
}

// setIfEqual is a CAS by SET with IFEQ.
func (c *client) setIfEqual(t *track, v string) {
	old, err := c.do(t.cache, "GET", t.key)
	if err != nil || old == nil {
		return
	}
	call := c.l.now()
	reply, err := c.do(t.cache, "SET", t.key, v, "IFEQ", old.(string))
	if err == nil && reply == nil {
		return // somebody was faster
	}
	c.l.note(t, c.id, input{"cas", old.(string), v}, call, "", err, true)
}

// ifMatch is a CAS over HTTP.
func (c *client) ifMatch(t *track, v string) {
	old, etag, err := c.get(t)
	if err != nil || etag == "" {
		return
	}
	call := c.l.now()
	status, _, body, err := request(c.http, http.MethodPut, c.url(t, "/kv/"+t.key), c.l.rig.Key, v, "If-Match", etag)
	switch {
	case err == nil && (status == http.StatusPreconditionFailed || status == http.StatusConflict):
		return
	case err == nil && status/100 != 2:
		err = fmt.Errorf("PUT with If-Match: %d %s", status, body)
	}
	c.l.note(t, c.id, input{"cas", old, v}, call, "", err, true)
}

// transaction is a CAS by WATCH, MULTI and EXEC.
func (c *client) transaction(t *track, v string) {
	call := c.l.now()
	if _, err := c.do(t.cache, "WATCH", t.key); err != nil {
		return
	}
	on := c.s
	same := func(args ...string) (any, error) { // all of it goes over one connection
		if c.s != on || on == nil {
			return nil, errNotDone
		}
		reply, err := on.do(args...)
		var said respError
		if err != nil && !errors.As(err, &said) {
			on.close()
			c.s = nil
		}
		return reply, verdict(err)
	}
	old, err := same("GET", t.key)
	if err != nil {
		_, _ = same("UNWATCH")
		return
	}
	if _, err := same("MULTI"); err != nil {
		return
	}
	if _, err := same("SET", t.key, v); err != nil {
		_, _ = same("DISCARD")
		return
	}
	reply, err := same("EXEC")
	if err == nil && reply == nil {
		return // somebody was faster, or the watch was lost
	}
	if list, ok := reply.([]any); ok && len(list) == 1 {
		if said, failed := list[0].(respError); failed {
			err = verdict(said)
		}
	}
	c.l.note(t, c.id, input{"cas", text(old), v}, call, "", err, true)
}

func (c *client) counter(t *track) {
	switch c.rng.IntN(4) {
	case 0:
		c.one(t, input{Kind: "add", A: "1"}, true, "INCR", t.key)
	case 1:
		call := c.l.now()
		reply, err := c.do(t.cache, "GET", t.key)
		if err == nil && reply == nil {
			reply = "0"
		}
		c.l.note(t, c.id, input{Kind: "get"}, call, text(reply), err, false)
	default:
		c.idempotent(t)
	}
}

// idempotent adds to a counter, and asks again, anywhere, until it has the answer: it counts once.
func (c *client) idempotent(t *track) {
	by := 1 + c.rng.IntN(9)
	call := c.l.now()
	id := "once-" + c.value()
	for tries := 0; tries < 20; tries++ {
		status, _, body, err := request(c.http, http.MethodPost, c.url(t, "/counters/"+t.key), c.l.rig.Key, fmt.Sprintf(`{"by":%d}`, by), "Idempotency-Key", id)
		if err != nil {
			select {
			case <-c.l.stop:
				c.l.note(t, c.id, input{Kind: "add", A: fmt.Sprint(by)}, call, "", errUnknown, true)
				return
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		var said struct{ Value int }
		if status != http.StatusOK || json.Unmarshal([]byte(body), &said) != nil {
			c.l.note(t, c.id, input{Kind: "add", A: fmt.Sprint(by)}, call, "", fmt.Errorf("POST: %d %s", status, body), true)
			return
		}
		if tries == 0 && c.rng.IntN(4) == 0 { // as if the answer had been lost
			continue
		}
		c.l.note(t, c.id, input{Kind: "add", A: fmt.Sprint(by)}, call, fmt.Sprint(said.Value), nil, true)
		return
	}
	c.l.note(t, c.id, input{Kind: "add", A: fmt.Sprint(by)}, call, "", errUnknown, true)
}

func (c *client) list(t *track) {
	switch c.rng.IntN(5) {
	case 0, 1:
		v := c.value()
		c.one(t, input{Kind: "push", A: v}, true, "RPUSH", t.key, v)
	case 2:
		c.one(t, input{Kind: "pop"}, true, "LPOP", t.key)
	default:
		c.one(t, input{Kind: "all"}, false, "LRANGE", t.key, "0", "-1")
	}
}

func (c *client) zset(t *track) {
	if c.rng.IntN(2) == 0 {
		m, by := string(rune('a'+c.rng.IntN(3))), fmt.Sprint(1+c.rng.IntN(3))
		c.one(t, input{"add", m, by}, true, "ZINCRBY", t.key, by, m)
		return
	}
	call := c.l.now()
	reply, err := c.do(t.cache, "ZRANGE", t.key, "0", "-1", "WITHSCORES")
	c.l.note(t, c.id, input{Kind: "all"}, call, strings.ReplaceAll(text(reply), ",", " "), err, false)
}

const moveScript = "redis.call('DECRBY',KEYS[1],ARGV[1]) redis.call('INCRBY',KEYS[2],ARGV[1]) return redis.call('GET',KEYS[1])..' '..redis.call('GET',KEYS[2])"

// pair moves an amount from one key to another, in a transaction or in a script, or reads both.
func (c *client) pair(t *track) {
	a, b, by := "{"+t.key+"}a", "{"+t.key+"}b", fmt.Sprint(1+c.rng.IntN(5))
	call := c.l.now()
	switch c.rng.IntN(3) {
	case 0:
		reply, err := c.do(t.cache, "MGET", a, b)
		if list, ok := reply.([]any); ok {
			for i := range list {
				if list[i] == nil {
					list[i] = "0"
				}
			}
		}
		c.l.note(t, c.id, input{Kind: "both"}, call, strings.ReplaceAll(text(reply), ",", " "), err, false)
	case 1:
		c.one(t, input{Kind: "move", A: by}, true, "EVAL", moveScript, "2", a, b, by)
	default:
		s := c.session(t.cache)
		if s == nil {
			return
		}
		if _, err := c.do(t.cache, "MULTI"); err != nil {
			return
		}
		var reply any
		var err error
		for _, args := range [][]string{{"DECRBY", a, by}, {"INCRBY", b, by}, {"EXEC"}} {
			if err == nil {
				err = s.send(args...)
			}
		}
		var said error // the first error of the way to EXEC: then EXEC was refused
		for i := 0; i < 3 && err == nil; i++ {
			reply, err = s.read()
			var is respError
			if errors.As(err, &is) {
				if said == nil {
					said = err
				}
				err = nil
			}
		}
		if err != nil {
			s.close()
			c.s = nil
			err = errUnknown
		} else if err = verdict(said); err == nil {
			list, ok := reply.([]any)
			if !ok || len(list) != 2 {
				err = fmt.Errorf("EXEC was answered with %v", reply)
			} else if said, failed := list[0].(respError); failed {
				err = verdict(said)
			}
		}
		c.l.note(t, c.id, input{Kind: "move", A: by}, call, strings.ReplaceAll(text(reply), ",", " "), err, true)
	}
}

// queue pushes to a list from which blocking clients pop.
func (c *client) queue(t *track) {
	if c.rng.IntN(2) == 0 {
		v := c.value()
		c.one(t, input{Kind: "push", A: v}, true, "RPUSH", t.key, v)
		return
	}
	call := c.l.now()
	reply, err := c.do(t.cache, "BLPOP", t.key, "0.3")
	value := ""
	if list, ok := reply.([]any); ok && len(list) == 2 {
		value = text(list[1])
	}
	c.l.note(t, c.id, input{Kind: "pop"}, call, value, err, true)
}

// acked writes a key of its own, once: what is acknowledged has to be there in the end.
func (c *client) acked(cache string) {
	v := c.value()
	key := "acked-" + v
	if _, err := c.do(cache, "SET", key, v); err != nil {
		if !errors.Is(err, errNotDone) && !errors.Is(err, errUnknown) {
			c.l.strange("SET: " + err.Error())
		}
		return
	}
	c.l.done.Add(1)
	c.l.ackMu.Lock()
	defer c.l.ackMu.Unlock()
	c.l.acked[cache+" "+key] = v
}
