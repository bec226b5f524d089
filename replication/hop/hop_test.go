package hop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/peerlink"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world is a few nodes of one process, with real sockets between them. Who hosts what is in its hands.
type world struct {
	t     testing.TB
	mu    sync.Mutex
	nodes map[string]*node
	part  *placement.Partition
}

type node struct {
	w     *world
	name  string
	links *peerlink.Links
	hop   *Hop
	local atomic.Pointer[member]
	near  atomic.Pointer[follower] // in the place of local, if there is one
	zone  string
	heard *heardEvents
	addr  string
	stop  func()
}

// A member is a replica that may not lead.
type member struct {
	*replication.Local
	leads  atomic.Bool
	leader atomic.Pointer[string]
	before func()             // called before a task is carried out
	during func(*engine.Task) // the same, if this replica leads
}

func (m *member) Leads() bool { return m.leads.Load() }

type notLeader struct{ who string }

func (n notLeader) Error() string  { return "not the leader" }
func (n notLeader) Leader() string { return n.who }

func (m *member) Execute(ctx context.Context, t *engine.Task) error {
	if m.before != nil {
		m.before()
	}
	if !m.leads.Load() {
		who := ""
		if p := m.leader.Load(); p != nil {
			who = *p
		}
		return fault.Wrap(fault.Unavailable, "member", notLeader{who}, "not here")
	}
	if m.during != nil {
		m.during(t)
	}
	return m.Local.Execute(ctx, t)
}

// Begin is Execute that does not wait, as a Group has it.
func (m *member) Begin(t *engine.Task, keep func(), told func(error)) (under bool, err error) {
	keep()
	go func() { told(m.Execute(context.Background(), t)) }()
	return true, nil
}

// turns counts tasks.
var turns atomic.Int64

// execute has a task carried out, every second one of those that are not carried out here the way gateways begin them.
func execute(ctx context.Context, at interface {
	Execute(context.Context, *engine.Task) error
}, t *engine.Task) error {
	r, ok := at.(*Route)
	if _, ends := ctx.Deadline(); !ok || ends || turns.Add(1)%2 == 0 || !r.Ready(t) {
		return at.Execute(ctx, t)
	}
	return begun(ctx, r, t)
}

// begun begins a task and waits for it.
func begun(ctx context.Context, r *Route, t *engine.Task) error {
	done, kept := make(chan error, 2), false
	under, err := r.Begin(t, func() { kept = true }, func(err error) { done <- err })
	if under && !kept {
		return errors.New("it is under way without what it points to")
	}
	if under {
		err = <-done
	}
	if err != nil && r.Elsewhere(t, err) {
		return r.Execute(ctx, t)
	}
	return err
}

var cacheID = engine.CacheID{1}

func newWorld(t testing.TB) *world {
	return &world{t: t, nodes: map[string]*node{}, part: &placement.Partition{ID: 3}}
}

func (w *world) Partition(id placement.PartitionID) (*placement.Partition, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.part, id == w.part.ID
}

func (w *world) Nodes() (all []*placement.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		all = append(all, &placement.Node{Name: n.name, Zone: n.zone, Peer: n.addr, Roles: []string{"engine"}})
	}
	return all
}

func (w *world) address(name string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.nodes[name]; n != nil {
		return n.addr
	}
	return ""
}

// start starts a node; with hosts it has a replica, which leads.
func (w *world) start(name string, hosts bool) *node {
	w.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	n := &node{w: w, name: name, heard: &heardEvents{}, addr: listener.Addr().String()}
	n.links = peerlink.New(peerlink.Config{Cluster: "c", Self: name, Advertise: n.addr, Address: w.address, Ping: 10 * time.Millisecond})
	n.hop = New(Config{
		Self: name, Links: n.links, Place: w, Listener: n.heard, Interests: n.heard.interests, Log: slog.New(slog.DiscardHandler),
		Locals: func(id placement.PartitionID) Executor {
			if f := n.near.Load(); f != nil && id == w.part.ID {
				return f
			}
			if m := n.local.Load(); m != nil && id == w.part.ID {
				return m
			}
			return nil
		},
		Hosted: func() []Executor {
			if m := n.local.Load(); m != nil {
				return []Executor{m}
			}
			return nil
		},
	})
	if hosts {
		m := &member{Local: newLocal(w.t)}
		m.Local.SetListener(n.hop.Listener())
		m.leads.Store(true)
		n.local.Store(m)
	}
	w.mu.Lock()
	w.nodes[name] = n
	if hosts {
		w.part.Replicas = append(w.part.Replicas, placement.Replica{ID: uint64(len(w.part.Replicas) + 1), Node: name})
	}
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { n.hop.Run(ctx) })
	work.Go(func() {
		if err := n.links.Serve(listener); err != nil {
			w.t.Error(err)
		}
	})
	n.stop = sync.OnceFunc(func() {
		cancel()
		n.hop.Close()
		n.links.Close()
		work.Wait()
	})
	w.t.Cleanup(n.stop)
	return n
}

func newLocal(t testing.TB) *replication.Local {
	l := replication.NewLocal(engine.Seed{1, 2}, replication.NewSteadyClock(), [32]byte{7}, slog.New(slog.DiscardHandler))
	if err := l.Execute(t.Context(), engine.ConfigureTask(cacheID, engine.Settings{MemoryLimit: 1 << 30, MaxValue: 64 << 20})); err != nil {
		t.Fatal(err)
	}
	return l
}

// heardEvents is a listener that remembers.
type heardEvents struct {
	mu     sync.Mutex
	all    []string
	listen map[string]int
}

func (h *heardEvents) add(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, fmt.Sprintf(format, args...))
}

func (h *heardEvents) has(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.all {
		if e == text {
			return true
		}
	}
	return false
}

func (h *heardEvents) interests(fn func(engine.CacheID, byte, string, int)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for name, n := range h.listen {
		fn(cacheID, toChannel, name, n)
	}
}

func (h *heardEvents) Published(_ engine.CacheID, sharded bool, channel, message []byte) int {
	h.add("published %t %s %s", sharded, channel, message)
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.listen[string(channel)]
}
func (h *heardEvents) Notified(engine.CacheID, int, engine.EventClass, string, []byte) {}
func (h *heardEvents) Touched(_ engine.CacheID, db int, key []byte, by any) {
	if _, far := by.(origin); far {
		by = "far"
	}
	h.add("touched %d %s %v", db, key, by)
}
func (h *heardEvents) Flushed(_ engine.CacheID, db int) { h.add("flushed %d", db) }
func (h *heardEvents) Settled()                         { h.add("settled") }

// task puts calls together from lines of words.
func task(lines ...string) *engine.Task {
	t := &engine.Task{Cache: cacheID, Reply: &engine.Transcript{}}
	for _, line := range lines {
		var args [][]byte
		for _, w := range strings.Fields(line) {
			args = append(args, []byte(w))
		}
		t.Calls = append(t.Calls, engine.Call{Command: engine.LookupCall(args), Args: args})
	}
	return t
}

func replies(t *engine.Task) []byte { return t.Reply.(*engine.Transcript).Bytes() }

// do has a task done and returns the replies.
func do(t *testing.T, at interface {
	Execute(context.Context, *engine.Task) error
}, task *engine.Task) []byte {
	t.Helper()
	if err := execute(t.Context(), at, task); err != nil {
		t.Fatal(err)
	}
	return replies(task)
}

func within(t testing.TB, what string, fn func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !fn(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s did not come about", what)
		}
	}
}

// What is carried out afar is answered as here, byte for byte: random pipelines of all kinds of replies.
func TestAfarIsAsHere(t *testing.T) {
	w := newWorld(t)
	w.start("b", true)
	far, here := w.start("a", false).hop.Route(3), newLocal(t)
	dice := rand.New(rand.NewPCG(1, 2))
	lines := []string{
		"SET k%d v", "GET k%d", "INCR n%d", "INCRBYFLOAT f%d 0.1", "HSET h%d a 1 b 2", "HGETALL h%d", "LPUSH l%d x y z", "LRANGE l%d 0 -1", "ZADD z%d 1.5 a 2 b",
		"ZRANGE z%d 0 -1 WITHSCORES", "ZSCORE z%d a", "SADD s%d a", "SMEMBERS s%d", "MGET k1 k%d", "LPUSH k%d wrongtype", "EXPIRE k%d 100", "SETEX k%d 0 v", "APPEND k%d xyz",
		"GETRANGE k%d 0 3", "DEL k%d h%d", "EXISTS k%d", "TYPE z%d", "XADD x%d 1-%d f v", "XRANGE x%d - +", "SETNX k%d v",
	}
	for round := range 300 {
		var pipeline []string
		for range 1 + dice.IntN(16) {
			line := lines[dice.IntN(len(lines))]
			for strings.Contains(line, "%d") {
				line = strings.Replace(line, "%d", strconv.Itoa(dice.IntN(5)), 1)
			}
			pipeline = append(pipeline, line)
		}
		kind := dice.IntN(4)
		make := func() *engine.Task {
			x := task(pipeline...)
			x.Atomic, x.Whole = kind == 1, kind == 2
			if kind == 3 {
				x.Once = &engine.Once{Key: [16]byte{byte(round / 2)}}
				x.Once.Fingerprint[0] = byte(round)
			}
			return x
		}
		one, two := make(), make()
		errOne, errTwo := execute(t.Context(), far, one), here.Execute(t.Context(), two)
		if (errOne == nil) != (errTwo == nil) || (errOne != nil && fault.From(errOne).Redis() != fault.From(errTwo).Redis()) {
			t.Fatalf("round %d: %q: afar %v, here %v", round, pipeline, errOne, errTwo)
		}
		if !bytes.Equal(replies(one), replies(two)) || one.Done != two.Done || one.Failed != two.Failed || one.Replayed != two.Replayed {
			t.Fatalf("round %d: %q:\nafar %q %+v\nhere %q %+v", round, pipeline, replies(one), one, replies(two), two)
		}
	}
	if s, ok := far.Stats(cacheID); !ok || s.Items == 0 {
		t.Errorf("the numbers of the cache are %+v, %t", s, ok)
	}
}

// Large requests and replies travel in pieces, and small ones do not wait for them to end.
func TestWhatIsLarge(t *testing.T) {
	w := newWorld(t)
	w.start("b", true)
	far := w.start("a", false).hop.Route(3)
	big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	set := task("SET big x", "GET big", "SET small y")
	set.Calls[0].Args[2] = big
	got := do(t, far, set)
	if !bytes.Contains(got, big) {
		t.Error("the value came back otherwise")
	}
	paced := task("GET big", "GET small", "GET big", "GET small")
	asked := 0
	paced.Enough = func() bool { asked++; return false }
	if got := do(t, far, paced); bytes.Count(got, big) != 2 || paced.Done != 4 || len(paced.Calls) != 4 || asked == 0 {
		t.Errorf("done %d of %d calls, asked %d times", paced.Done, len(paced.Calls), asked)
	}
	stopped := task("GET big", "GET small")
	stopped.Enough = func() bool { return true }
	if do(t, far, stopped); stopped.Done != 1 {
		t.Errorf("done %d calls after enough", stopped.Done)
	}
}

func TestTheLeaderIsFound(t *testing.T) {
	w := newWorld(t)
	b, c, a := w.start("b", true), w.start("c", true), w.start("a", false)
	name := "c"
	b.local.Load().leads.Store(false)
	b.local.Load().leader.Store(&name)
	if got := do(t, a.hop.Route(3), task("SET k v")); string(got) != "s\x02OK" {
		t.Errorf("the answer is %q", got)
	}
	if !bytes.Contains(do(t, c.local.Load().Local, task("GET k")), []byte("v")) {
		t.Error("it was not done at the leader")
	}
	// From a node that has a replica, and where nobody knows the leader for a while.
	c.local.Load().leads.Store(false)
	done := make(chan error, 1)
	write := task("INCR n")
	go func() { done <- b.hop.Route(3).Execute(context.Background(), write) }()
	select {
	case err := <-done:
		t.Fatalf("done without a leader: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	b.local.Load().leads.Store(true)
	if err := <-done; err != nil || string(replies(write)) != "i\x02" {
		t.Errorf("the answer is %q, error %v", replies(write), err)
	}
	// Within the request's deadline, and no longer.
	b.local.Load().leads.Store(false)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := a.hop.Route(3).Execute(ctx, task("INCR n")); !fault.Is(err, fault.Unavailable) && !fault.Is(err, fault.Timeout) {
		t.Errorf("without a leader: %v", err)
	}
}

// A leader that is gone is named by replicas that have not heard of it yet. Whoever was sent there looks elsewhere.
func TestADeadLeaderIsForgotten(t *testing.T) {
	w := newWorld(t)
	b, c, a := w.start("b", true), w.start("c", true), w.start("a", false)
	b.local.Load().leads.Store(false)
	name := "c"
	b.local.Load().leader.Store(&name)
	c.stop()
	done := make(chan error, 1)
	write := task("INCR n")
	go func() { done <- a.hop.Route(3).Execute(context.Background(), write) }()
	within(t, "the dead one is named", func() bool {
		a.hop.client.mu.Lock()
		defer a.hop.client.mu.Unlock()
		return a.hop.client.hints[3] == "c"
	})
	b.local.Load().leads.Store(true)
	if err := <-done; err != nil || string(replies(write)) != "i\x02" {
		t.Errorf("the answer is %q, error %v", replies(write), err)
	}
}

// A link that breaks under a request leaves its outcome open: reads and what has an idempotency key are asked again.
func TestALinkBreaksUnderARequest(t *testing.T) {
	tests := []struct {
		name string
		task func() *engine.Task
		want fault.Kind
	}{
		{name: "a write", task: func() *engine.Task { return task("INCR n") }, want: fault.OutcomeUnknown},
		{name: "a write with a key", task: func() *engine.Task {
			x := task("INCR n")
			x.Once = &engine.Once{Key: [16]byte{1}}
			return x
		}},
		{name: "a read", task: func() *engine.Task { return task("GET n") }},
	}
	for i, test := range append(tests, tests...) {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t)
			b, a := w.start("b", true), w.start("a", false)
			route := a.hop.Route(3)
			do(t, route, task("GET n"))
			entered, hold := make(chan struct{}, 8), make(chan struct{})
			b.local.Load().before = func() { entered <- struct{}{}; <-hold }
			done := make(chan error, 1)
			go func() {
				if i < len(tests) {
					done <- route.Execute(context.Background(), test.task())
				} else {
					done <- begun(context.Background(), route, test.task())
				}
			}()
			<-entered
			a.hop.broke("b", true)
			if test.want == fault.OutcomeUnknown {
				if err := <-done; !fault.Is(err, test.want) {
					t.Errorf("the error is %v", err)
				}
				close(hold)
				return
			}
			<-entered // it is asked again
			close(hold)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// waiter is a caller that waits, and what it got.
func waiter() (*engine.Waiter, *engine.Recording, chan struct{}) {
	got, done := &engine.Recording{}, make(chan struct{}, 4)
	return &engine.Waiter{Reply: got, Done: func(*engine.Waiter) { done <- struct{}{} }}, got, done
}

func TestWaitingAfar(t *testing.T) {
	w := newWorld(t)
	w.start("b", true)
	a := w.start("a", false)
	route := a.hop.Route(3)
	block := func(line string) (*engine.Waiter, *engine.Recording, chan struct{}) {
		w, got, done := waiter()
		x := task(line)
		x.Waiter, x.Waits = w, true
		do(t, route, x)
		if x.Parked == nil {
			t.Fatalf("%s does not wait: %q", line, replies(x))
		}
		return w, got, done
	}
	_, got, done := block("BLPOP l 0")
	if callers, keys, _ := route.Waiting(cacheID); callers != 1 || keys != 1 {
		t.Errorf("%d callers wait for %d keys", callers, keys)
	}
	do(t, route, task("LPUSH l x"))
	<-done
	if !bytes.Contains(got.Bytes(), []byte("x")) {
		t.Errorf("it got %q", got.Bytes())
	}
	// Time is up, at the leader.
	_, got, done = block("BLPOP l 0.01")
	if <-done; string(got.Bytes()) != "N" {
		t.Errorf("it got %q", got.Bytes())
	}
	// Released, from here.
	one, got, done := block("BLPOP l 0")
	if !route.Release(one, fault.New(fault.Conflict, "", "enough")) {
		t.Error("it did not wait")
	}
	if <-done; !bytes.Contains(got.Bytes(), []byte("enough")) {
		t.Errorf("it got %q", got.Bytes())
	}
	if route.Release(one, nil) {
		t.Error("it was released twice")
	}
	// Gone.
	two, _, _ := block("BLPOP l 0")
	route.Abandon(two)
	within(t, "the end of the wait", func() bool { callers, _, _ := route.Waiting(cacheID); return callers == 0 })
	// With something to find nobody waits.
	do(t, route, task("LPUSH l y"))
	x := task("BLPOP l 0")
	x.Waiter, _, _ = waiter()
	x.Waits = true
	if got := do(t, route, x); x.Parked != nil || !bytes.Contains(got, []byte("y")) {
		t.Errorf("it got %q", got)
	}
	// The leader is gone.
	_, got, done = block("BLPOP l 0")
	w.nodes["b"].stop()
	if <-done; !strings.Contains(string(got.Bytes()), "broke") {
		t.Errorf("it got %q", got.Bytes())
	}
	a.hop.client.mu.Lock()
	defer a.hop.client.mu.Unlock()
	if len(a.hop.client.asked) != 0 || len(a.hop.client.waiters) != 0 {
		t.Errorf("%d requests and %d waiters are remembered (C1)", len(a.hop.client.asked), len(a.hop.client.waiters))
	}
}

// A gateway that is gone waits and watches no more.
func TestAGatewayIsGone(t *testing.T) {
	w := newWorld(t)
	b, a := w.start("b", true), w.start("a", false)
	route := a.hop.Route(3)
	x := task("BLPOP l 0")
	x.Waiter, _, _ = waiter()
	x.Waits = true
	do(t, route, x)
	route.Watch(cacheID, 0, []byte("k"))
	a.hop.Observe(cacheID, true)
	do(t, route, task("GET k"))
	a.stop()
	within(t, "the end of the wait", func() bool { callers, _, _ := b.local.Load().Waiting(cacheID); return callers == 0 })
	within(t, "an empty list of guests", func() bool {
		b.hop.server.mu.RLock()
		defer b.hop.server.mu.RUnlock()
		return len(b.hop.server.guests) == 0 && b.hop.server.watching.Load() == 0
	})
}

func TestWatchingAfar(t *testing.T) {
	w := newWorld(t)
	b, a := w.start("b", true), w.start("a", false)
	route := a.hop.Route(3)
	guarded := func(watches ...engine.Watch) *engine.Task {
		x := task("SET done 1")
		x.Whole, x.Watches = true, watches
		x.Guard = func() bool {
			for _, w := range watches {
				if !w.Stands() {
					return false
				}
			}
			return true
		}
		return x
	}
	k, l := route.Watch(cacheID, 0, []byte("k")), route.Watch(cacheID, 0, []byte("l"))
	x := guarded(k, l)
	if do(t, route, x); x.Stale {
		t.Error("nothing has changed, and it does not stand")
	}
	do(t, route, task("SET l 1"))
	x = guarded(k, l)
	if got := do(t, route, x); !x.Stale || len(got) > 0 {
		t.Errorf("a key has changed, and it stands: %q", got)
	}
	l.Unwatch()
	x = guarded(k)
	if do(t, route, x); x.Stale {
		t.Error("the watch that was ended still counts")
	}
	// The leader forgets watches with the link, and what nobody knows does not stand.
	a.hop.broke("b", false)
	x = guarded(k)
	if do(t, route, x); !x.Stale {
		t.Error("a watch outlived the link")
	}
	k.Unwatch()
	// Here and afar do not mix.
	here := b.hop.Route(3).Watch(cacheID, 0, []byte("k"))
	x = guarded(here)
	if do(t, route, x); !x.Stale {
		t.Error("another node's watch was taken for one of the leader")
	}
	here.Unwatch()
}

func TestEventsAfar(t *testing.T) {
	w := newWorld(t)
	b, a := w.start("b", true), w.start("a", false)
	route := a.hop.Route(3)
	do(t, route, task("GET k")) // they are connected, and have told each other everything
	a.heard.listen = map[string]int{"news": 2}
	a.hop.Interest(cacheID, toChannel, "news", 2)
	a.hop.Interest(cacheID, toPattern, "n*", 1)
	if got := do(t, route, task("PUBLISH news hello")); string(got) != "i\x06" {
		t.Errorf("PUBLISH says %q, want 3", got)
	}
	within(t, "the message", func() bool { return a.heard.has("published false news hello") })
	a.hop.Interest(cacheID, toChannel, "news", 0)
	a.hop.Interest(cacheID, toPattern, "n*", 0)
	if got := do(t, route, task("PUBLISH news again")); string(got) != "i\x00" {
		t.Errorf("PUBLISH says %q, want 0", got)
	}
	a.hop.Observe(cacheID, true)
	x := task("SET k v")
	x.Origin = "me"
	do(t, route, x)
	if !a.heard.has("touched 0 k me") || !a.heard.has("settled") {
		t.Errorf("after the answer it has heard %q", a.heard.all)
	}
	if !b.heard.has("touched 0 k far") {
		t.Errorf("the leader's own listener has heard %q", b.heard.all)
	}
	do(t, b.local.Load().Local, task("SET l v"))
	within(t, "word of a change at the leader", func() bool { return a.heard.has("touched 0 l <nil>") })
	do(t, route, task("FLUSHALL"))
	if !a.heard.has("flushed 0") {
		t.Errorf("it has heard %q", a.heard.all)
	}
	// What may have been missed counts as changed: whichever link breaks, and when the leader has been told anew whom to tell.
	for what, happens := range map[string]func(){
		"a broken link from the leader": func() { a.hop.broke("b", true) },
		"a broken link to the leader":   func() { a.hop.broke("b", false) },
		"a new link":                    func() { a.hop.connected("b") },
	} {
		a.heard.mu.Lock()
		a.heard.all = nil
		a.heard.mu.Unlock()
		if happens(); !a.heard.has("flushed 0") {
			t.Errorf("%s goes unnoticed", what)
		}
	}
	a.hop.Observe(cacheID, false)
	do(t, route, task("SET m v"))
	if a.heard.has("touched 0 m <nil>") {
		t.Error("it hears what it does not want to hear any more")
	}
}

// A node that ends answers what it was asked, and is asked for nothing more: no write's outcome is unknown because of it.
func TestANodeLeaves(t *testing.T) {
	w := newWorld(t)
	b, c, a := w.start("b", true), w.start("c", true), w.start("a", false)
	old, next := b.local.Load(), c.local.Load()
	next.leads.Store(false)
	route := a.hop.Route(3)
	do(t, route, task("SET k v"))
	begun, release := make(chan struct{}), make(chan struct{})
	old.during = func(*engine.Task) { close(begun); <-release }
	answered := make(chan error, 1)
	go func() { answered <- route.Execute(context.Background(), task("SET l v")) }()
	<-begun
	left := make(chan struct{})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // a word that is lost, as the links are new, is not waited for longer
		defer cancel()
		b.hop.Leave(ctx)
		close(left)
	}()
	within(t, "word of it", func() bool {
		a.hop.client.mu.Lock()
		defer a.hop.client.mu.Unlock()
		return a.hop.client.left["b"]
	})
	select {
	case <-left:
		t.Error("it leaves while a request is under way")
	default:
	}
	old.leads.Store(false)
	next.leads.Store(true)
	for attempt := range 4 {
		if to := a.hop.client.target(3, attempt); to != "c" {
			t.Errorf("try %d asks %q", attempt, to)
		}
	}
	close(release)
	<-left
	if err := <-answered; err != nil {
		t.Errorf("what was under way ends with %v", err)
	}
	// Who has not heard of it, as nodes of an earlier version do not, is sent elsewhere.
	a.hop.client.leaves("b", false)
	old.leads.Store(true)
	a.hop.client.hint(3, "b")
	do(t, route, task("SET m v"))
	if has := do(t, next.Local, task("EXISTS m")); string(has) != "i\x02" {
		t.Errorf("the node that leaves has begun something: %q", has)
	}
	a.hop.client.leaves("b", true)
	b.stop()
	do(t, route, task("SET n v"))
	a.hop.connected("b")
	if len(a.hop.client.left) > 0 {
		t.Error("a node that is here again is not asked")
	}
}

// What a script may do is asked of the gateway, once for each command with its arguments.
func TestScriptsAskAfar(t *testing.T) {
	w := newWorld(t)
	w.start("b", true)
	route := w.start("a", false).hop.Route(3)
	x := task("EVAL x 0")
	x.Calls[0].Args[1] = []byte(`redis.call('set','k','v') local a = redis.call('get','k') redis.call('get','k') local r = redis.pcall('get','secret') return {a, r.err}`)
	var asked []string
	x.Allowed = func(c *engine.Command, args [][]byte) error {
		asked = append(asked, string(bytes.Join(args, []byte(" "))))
		if len(args) > 1 && string(args[1]) == "secret" {
			return fault.New(fault.Denied, "test", "not that one")
		}
		return nil
	}
	x.Surely = func() *engine.CommandSet {
		s := &engine.CommandSet{}
		s.Add(engine.MustLookup("SET"))
		return s
	}
	got := do(t, route, x)
	if !bytes.Contains(got, []byte("not that one")) || !bytes.Contains(got, []byte("v")) {
		t.Errorf("the script says %q", got)
	}
	if fmt.Sprint(asked) != "[get k get secret]" {
		t.Errorf("asked for %q", asked)
	}
}

// Who has not heard of a cache yet waits for the control data that the gateway has seen.
func TestTheLeaderCatchesUp(t *testing.T) {
	w := newWorld(t)
	b, a := w.start("b", true), w.start("a", false)
	a.hop.revision = func() int64 { return 42 }
	var waited atomic.Int64
	b.hop.await = func(_ context.Context, _ engine.CacheID, revision int64) { waited.Store(revision) }
	if do(t, a.hop.Route(3), task("GET k")); waited.Load() != 42 {
		t.Errorf("it waited for revision %d", waited.Load())
	}
}

func TestNobodyHosts(t *testing.T) {
	w := newWorld(t)
	a := w.start("a", false)
	if err := a.hop.Route(3).Execute(t.Context(), task("GET k")); !errors.Is(err, errNobody) {
		t.Errorf("the error is %v", err)
	}
	if err := a.hop.Route(9).Execute(t.Context(), task("GET k")); !errors.Is(err, errNobody) {
		t.Errorf("the error is %v", err)
	}
	if w := a.hop.Route(3).Watch(cacheID, 0, []byte("k")); w.Stands() {
		t.Error("a watch of nobody stands")
	}
}

func FuzzMessages(f *testing.F) {
	x := task("SET k v", "GET k")
	f.Add(appendRequest(nil, 7, 3, 9, time.Second, x, nil)[1:])
	x.Guard, x.Once, x.Allowed = func() bool { return true }, &engine.Once{}, func(*engine.Command, [][]byte) error { return nil }
	f.Add(appendRequest(nil, 7, 3, 9, time.Second, x, []uint64{1, 2})[1:])
	f.Add(appendFault(appendAnswer(nil, 1, saysError, 0, -1), fault.New(fault.Denied, "op", "no")))
	f.Fuzz(func(t *testing.T, in []byte) {
		p := parser{b: in}
		var level reads
		if level.read(&p); !p.bad && (level.level > engine.Eventual || level.atMost < 0) {
			t.Fatalf("a level of %d, %s", level.level, level.atMost)
		}
		p = parser{b: in}
		r := request{id: p.uvarint()}
		if err := r.read(&p); err == nil {
			for i := range r.calls {
				if r.calls[i].Command == nil || len(r.calls[i].Args) == 0 {
					t.Fatal("half a call")
				}
			}
			again := appendRequest(nil, r.id, r.partition, r.revision, r.within, &r.task, nil)
			if r.flags&(isGuarded|isAsking|isWaiting|isPaced) == 0 {
				var second request
				q := parser{b: again[1:]}
				second.id = q.uvarint()
				if err := second.read(&q); err != nil || len(second.calls) != len(r.calls) {
					t.Fatalf("written and read again: %v", err)
				}
			}
		}
		if cap(r.args) > 2*len(in)+64 {
			t.Fatalf("%d arguments of %d bytes", cap(r.args), len(in))
		}
		r.release()
		q := parser{b: in}
		var a answer
		a.read(&q)
		q = parser{b: in}
		_ = q.fault()
		_ = engine.ReplayBytes(in, &engine.Transcript{})
	})
}

func benchmark(b *testing.B, at interface {
	Execute(context.Context, *engine.Task) error
}) {
	lines := make([]string, 16)
	for i := range lines {
		lines[i] = "SET key:0000000000" + strconv.Itoa(i) + " " + strings.Repeat("v", 64)
	}
	b.ReportAllocs()
	var before, after syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &before); err != nil {
		b.Fatal(err)
	}
	b.RunParallel(func(pb *testing.PB) {
		x := task(lines...)
		for pb.Next() {
			x.Reply.(*engine.Transcript).Reset()
			if err := at.Execute(context.Background(), x); err != nil {
				b.Error(err)
			}
		}
	})
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &after); err != nil {
		b.Fatal(err)
	}
	cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
	b.ReportMetric(float64(cpu)/float64(b.N)/16, "cpu-ns/command")
}

func BenchmarkPipelineHere(b *testing.B) { benchmark(b, newLocal(b)) }

func BenchmarkPipelineAfar(b *testing.B) {
	w := newWorld(b)
	w.start("b", true)
	benchmark(b, w.start("a", false).hop.Route(3))
}
