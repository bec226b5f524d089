package replication

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"go.etcd.io/raft/v3"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/placement"
)

// The simulation: all nodes in one goroutine, a clock that jumps from event to event, a network that drops, repeats, reorders
// and cuts, and nodes that crash and come back empty under new ids. Everything comes from the seed: a seed that fails fails
// again.

// An event happens at a time.
type event struct {
	at  time.Duration
	seq int
	do  func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].seq < e[j].seq
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// Faults are what the network does, in thousandths of the frames.
type faults struct{ drop, repeat, slow int }

// A ledTerm is a term of a group.
type ledTerm struct {
	id   groupID
	term uint64
}

// A world is a cluster in one goroutine.
type world struct {
	t      testing.TB
	seed   uint64
	rng    *rand.Rand
	now    time.Duration
	events events
	seq    int
	nodes  []*simNode
	faults faults
	late   time.Duration      // by how much a tick may come too late
	cut    map[[2]string]bool // from, to
	wanted map[placement.PartitionID]Wanted
	terms  map[ledTerm]uint64 // who led a term of a group
	log    *slog.Logger
	logs   bytes.Buffer
	cfg    Config
	ops    int
	all    []*client

	durable bool // partitions are
	async   *registry
	crashes bool // while a state file is written, too
	states  int  // state files that were written

	snapshots int
	halfway   int  // of them with a large task of which not all parts had come
	wide      bool // some values are too large for one entry
	messages  int  // frames but beats
}

type simNode struct {
	world   *world
	name    string
	number  uint64
	boots   uint64
	up      bool
	cluster *Cluster
	disk    *simDisk // of a world with durable partitions
	vault   *Vault
	syncing bool          // the log is about to be synced
	stalled time.Duration // until then it is not

	record  *placement.Partition // as it is known here; of a world with async partitions
	skew    time.Duration
	drift   float64
	handle  func(from string, frame []byte)
	handled func(from string)
}

func (n *simNode) Handle(_ byte, fn func(string, []byte)) { n.handle = fn }
func (n *simNode) HandleAll(_ byte, fn func(string))      { n.handled = fn }

func (n *simNode) Send(to string, _ byte, frame []byte) bool {
	n.world.post(n, to, bytes.Clone(frame))
	return true
}

func (n *simNode) SendNow(to string, kind byte, frame []byte) bool { return n.Send(to, kind, frame) }

func (n *simNode) SendFirst(to string, kind byte, frame []byte) bool { return n.Send(to, kind, frame) }

func (n *simNode) HandleStream(byte, func(string, io.ReadWriteCloser)) {}
func (n *simNode) Open(context.Context, string, byte) (io.ReadWriteCloser, error) {
	return nil, errors.New("streams are not simulated")
}

// Now implements Clock: the time of day, which differs from node to node.
func (n *simNode) Now() int64 { return 1_800_000_000_000 + (n.world.now + n.skew).Milliseconds() }

// steady runs at a slightly different rate on each node.
func (n *simNode) steady() time.Duration { return time.Duration(float64(n.world.now) * n.drift) }

func newWorld(t testing.TB, seed uint64, nodes int, configure ...func(*Config)) *world {
	w := &world{t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0x1a)), cut: map[[2]string]bool{}, wanted: map[placement.PartitionID]Wanted{}, terms: map[ledTerm]uint64{}}
	w.log = slog.New(slog.NewTextHandler(&w.logs, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Duration("at", w.now)
		}
		return a
	}}))
	for _, change := range configure {
		change(&w.cfg)
	}
	for i := range nodes {
		n := &simNode{world: w, name: fmt.Sprintf("n%d", i+1), number: uint64(i + 1)}
		n.skew = time.Duration(w.rng.Int64N(int64(20 * time.Second)))
		n.drift = 1 + float64(w.rng.IntN(2001)-1000)/1e6
		w.nodes = append(w.nodes, n)
		n.start()
	}
	return w
}

// start brings a node up, empty, as a new process.
func (n *simNode) start() {
	n.boots++
	n.up = true
	cfg := n.world.cfg
	cfg.Life, cfg.Node, cfg.Boot, cfg.Workers, cfg.Log = fmt.Sprint(n.boots), n.name, n.boots<<8|n.number, -1, n.world.log.With("node", n.name)
	cfg.Steady, cfg.Dice, cfg.crowd = n.steady, n.world.rng.Uint64, 1+int(n.world.seed%4) // few tasks are under way in a simulation
	if n.world.durable {
		cfg.Vault = n.openVault()
	}
	if cfg.LogSize == 0 {
		cfg.LogSize = 4 << 10
	}
	n.cluster = NewCluster(cfg, n, n)
	n.cluster.ship = n.world.ship
	n.cluster.OnFence(func(placement.PartitionID) {})
	n.tick(n.cluster)
}

func (n *simNode) tick(c *Cluster) {
	late := time.Duration(0)
	if n.world.late > 0 {
		late = time.Duration(n.world.rng.Int64N(int64(n.world.late)))
	}
	n.world.after(DefaultTick+late+time.Duration(n.world.rng.IntN(3000))*time.Microsecond, func() {
		if n.up && n.cluster == c {
			c.tick()
			n.tick(c)
		}
	})
}

// simKey is what the disks are encrypted with.
var simKey = seal.NewKey()

// openVault reads what the process before has left on disk.
func (n *simNode) openVault() *Vault {
	w := n.world
	if n.disk == nil {
		n.disk = newSimDisk(w.rng)
	}
	v, err := NewVault(VaultConfig{
		Keys: simKey, Cluster: "sim", Node: n.name, Log: w.log.With("node", n.name), LogSize: 6 << 10, Fail: func(err error) { w.fail("%v", err) },
		files: n.disk, shelf: n.disk, segment: 3 << 10, byHand: true,
	})
	if err == nil {
		err = v.Load()
	}
	if err != nil {
		w.fail("%v", err)
	}
	n.vault, n.syncing = v, false
	return v
}

// sync has what is in line for the log written in a moment, and now and then a state file.
func (n *simNode) sync() {
	if n.syncing || !n.vault.open || n.vault.log.Last() == n.vault.log.Synced() {
		return
	}
	n.syncing = true
	v := n.vault
	wait := time.Duration(100+n.world.rng.IntN(5000)) * time.Microsecond
	if n.world.async != nil { // nobody waits for it
		wait = time.Duration(n.world.rng.IntN(200)) * time.Millisecond
	}
	n.world.after(max(wait, n.stalled-n.world.now), func() {
		if !n.up || n.vault != v {
			return
		}
		n.syncing = false
		if err := v.log.Step(); err != nil {
			n.world.fail("%v", err)
		}
		if g := v.due(n.cluster); g != nil {
			if n.world.crashes && n.world.rng.IntN(8) == 0 {
				var err error
				if !n.disk.tear(func() { err = g.writeState(n.world.t.Context()) }) && err == nil {
					n.world.fail("a state file counts before the log is synced that goes with it")
				}
				n.world.crash(n)
				n.world.after(time.Second, func() {
					if !n.up {
						n.world.restart(n)
					}
				})
				return
			}
			if err := g.writeState(n.world.t.Context()); err != nil && !errors.Is(err, errGaveWay) {
				n.world.fail("%v", err)
			}
			n.world.states++
		}
	})
}

// member is the replica of the process that runs now.
func (n *simNode) member() Member {
	return Member{ID: n.boots<<8 | n.number, Node: n.name, Life: fmt.Sprint(n.boots)}
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.events, event{w.now + d, w.seq, do})
}

func (w *world) node(name string) *simNode {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// post puts a frame on its way.
func (w *world) post(from *simNode, to string, frame []byte) {
	n, sender := w.node(to), from.cluster
	if n == nil {
		return
	}
	if frame[0] != frameBeat {
		w.messages++
	}
	times := 1
	switch p := w.rng.IntN(1000); {
	case p < w.faults.drop:
		return
	case p < w.faults.drop+w.faults.repeat:
		times = 2
	}
	for range times {
		delay := time.Duration(100+w.rng.IntN(400)) * time.Microsecond
		if w.rng.IntN(1000) < w.faults.slow {
			delay += time.Duration(w.rng.IntN(300)) * time.Millisecond
		}
		w.after(delay, func() {
			if n.up && from.cluster == sender && !w.cut[[2]string{from.name, to}] {
				n.handle(from.name, frame)
				n.handled(from.name)
			}
		})
	}
}

// run lets time pass until done says so, or until it is over.
func (w *world) run(d time.Duration, done func() bool) {
	end := w.now + d
	for len(w.events) > 0 && w.events[0].at <= end && !(done != nil && done()) {
		e := heap.Pop(&w.events).(event)
		w.now = e.at
		e.do()
		w.settle()
	}
	if done == nil {
		w.now = end
	}
}

// settle has every node do what there is to do.
func (w *world) settle() {
	defer func() {
		for _, n := range w.nodes {
			if n.up && w.durable {
				n.sync()
			}
		}
	}()
	for busy := true; busy; {
		busy = false
		for _, n := range w.nodes {
			for n.up && len(n.cluster.workers[0].queue) > 0 {
				n.cluster.workers[0].once(nil)
				busy = true
			}
		}
	}
	for _, n := range w.nodes {
		if !n.up {
			continue
		}
		for _, g := range n.cluster.groups {
			if g.broken {
				w.fail("a replica broke")
			}
			for _, f := range g.flights {
				for _, p := range f.tasks {
					if p != nil && p.over {
						w.fail("R5: an entry under way holds a proposal that is over")
					}
				}
			}
			if g.state == raft.StateLeader {
				key := ledTerm{g.id, g.term}
				if by := w.terms[key]; by != 0 && by != g.self {
					w.fail("term %d of %v is led by %x and by %x", g.term, g.id, by, g.self)
				}
				w.terms[key] = g.self
			}
		}
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	if path := os.Getenv("LARDER_SIM_LOG"); path != "" {
		_ = os.WriteFile(path, w.logs.Bytes(), 0o600)
	}
	w.t.Fatalf("seed %d at %v: %s", w.seed, w.now, fmt.Sprintf(format, args...))
}

// found makes a partition with a replica on each of some nodes.
func (w *world) found(p placement.PartitionID, names ...string) {
	wanted := Wanted{Generation: 1, Durable: w.durable}
	for _, name := range names {
		m := w.node(name).member()
		wanted.Founders = append(wanted.Founders, m.ID)
		wanted.Members = append(wanted.Members, m)
	}
	w.want(p, wanted)
}

// want tells every node who is to belong to a partition.
func (w *world) want(p placement.PartitionID, wanted Wanted) {
	w.wanted[p] = wanted
	for _, n := range w.nodes {
		if n.up {
			w.place(n, p)
		}
	}
}

func (w *world) place(n *simNode, p placement.PartitionID) {
	if err := n.cluster.Place(p, engine.Seed{1, 2}, w.wanted[p]); err != nil {
		w.fail("%v", err)
	}
	if g := n.cluster.Group(p); g != nil {
		g.Configure(testCache, &engine.Settings{MemoryLimit: 1 << 20})
	}
}

// crash ends a node's process. Requests that it had may have been carried out.
func (w *world) crash(n *simNode) {
	n.up = false
	if w.durable {
		if w.rng.IntN(2) == 0 && n.vault.open { // it was being written in the moment of the crash
			n.disk.tear(func() { _ = n.vault.log.Step() })
		}
		n.disk.crash()
	}
	for _, c := range w.all {
		if r := c.current; r != nil && !r.over && r.on == n.cluster && r.waits {
			r.finish(result{unknown: true})
		}
	}
}

// restart brings a node back, empty, and has it replace the replicas that it had, as the controller would. Durable ones come back
// as who they were, unless they are not on disk.
func (w *world) restart(n *simNode) {
	n.start()
	for p, wanted := range w.wanted {
		for i, m := range wanted.Members {
			if m.Node == n.name {
				wanted.Members = slices.Clone(wanted.Members)
				wanted.Members[i] = n.member()
				if w.durable && n.vault.keeps(groupID{p, wanted.Generation}, m.ID) {
					wanted.Members[i].ID = m.ID
				}
				w.want(p, wanted)
			}
		}
	}
}

// leader returns the replica that leads a partition, nil for none.
func (w *world) leader(p placement.PartitionID) *Group {
	for _, n := range w.nodes {
		if g := n.cluster.Group(p); n.up && g != nil && g.settled {
			return g
		}
	}
	return nil
}

// waitLeader lets time pass until somebody leads.
func (w *world) waitLeader(p placement.PartitionID) *Group {
	w.t.Helper()
	w.run(20*time.Second, func() bool { return w.leader(p) != nil })
	g := w.leader(p)
	if g == nil {
		w.fail("nobody leads partition %d", p)
	}
	return g
}

// heal ends all faults.
func (w *world) heal() {
	w.faults, w.cut = faults{}, map[[2]string]bool{}
}

// checkReplicas compares all replicas of a partition.
func (w *world) checkReplicas(p placement.PartitionID) {
	w.t.Helper()
	var first *Group
	seen := 0
	for _, n := range w.nodes {
		g := n.cluster.Group(p)
		if !n.up || g == nil {
			continue
		}
		seen++
		if first == nil {
			first = g
			continue
		}
		if g.applied != first.applied {
			w.fail("replica %x has applied %d, %x %d", g.self, g.applied, first.self, first.applied)
		}
		if g.p.Digest() != first.p.Digest() {
			w.fail("replicas %x and %x differ", g.self, first.self)
		}
	}
	if seen < 3 {
		w.fail("there are %d replicas", seen)
	}
}

// An op is one request of a client, for the history.
type op struct {
	kind  string // "set", "get", "incr", "take", "put"
	key   string
	value int
}

type result struct {
	value   int
	unknown bool
}

// A client makes requests one after another.
type client struct {
	w       *world
	id      int
	left    int
	reads   bool
	at      *simNode // where it asks first
	done    bool
	current *request
}

type request struct {
	c       *client
	op      op
	began   int64
	node    *simNode
	on      *Cluster
	over    bool
	reply   engine.Recording
	retries int
	waits   bool // for the node's answer
	finish  func(result)
}

func (w *world) stamp() int64 { w.ops++; return int64(w.ops) }

// clients starts some, and returns the history that they will write, and whether all are done.
func (w *world) clients(n, requests int, p placement.PartitionID) (history *[]porcupine.Operation, done func() bool) {
	history = &[]porcupine.Operation{}
	var all []*client
	ids := 0
	for range n {
		c := &client{w: w, id: ids, left: requests, reads: ids%3 == 2}
		ids++
		all = append(all, c)
		w.all = append(w.all, c)
		c.next(history, p, &ids)
	}
	return history, func() bool {
		return !slices.ContainsFunc(all, func(c *client) bool { return !c.done })
	}
}

func (c *client) next(history *[]porcupine.Operation, p placement.PartitionID, ids *int) {
	if c.left == 0 {
		c.done = true
		return
	}
	c.left--
	w := c.w
	o := op{key: string(rune('a' + w.rng.IntN(4)))}
	kind := w.rng.IntN(5)
	if c.reads {
		kind = 4
	}
	if w.wide && kind == 2 {
		kind = 0 // a number with so many digits is none
	}
	switch kind {
	case 0, 1:
		o.kind, o.value = "set", w.rng.IntN(1000)
	case 2:
		o.kind = "incr"
	default:
		o.kind = "get"
	}
	if w.rng.IntN(4) == 0 {
		c.at = nil
	}
	r := &request{c: c, op: o, began: w.stamp(), node: c.at}
	c.current = r
	w.after(time.Duration(200+w.rng.IntN(800))*time.Millisecond, func() { // its patience ends
		if !r.over && r.waits {
			c.at = nil
			r.finish(result{unknown: true})
		}
	})
	r.finish = func(res result) {
		if r.over {
			return
		}
		r.over = true
		end := w.stamp()
		if res.unknown {
			end = math.MaxInt64
		}
		*history = append(*history, porcupine.Operation{ClientId: c.id, Input: o, Call: r.began, Output: res, Return: end})
		if res.unknown { // it may happen at any time from now on: somebody else goes on
			c.id = *ids
			*ids++
		}
		w.after(time.Duration(w.rng.IntN(200_000))*time.Microsecond, func() { c.next(history, p, ids) })
	}
	r.try(p)
}

// try asks a node, and others if that one does not lead.
func (r *request) try(p placement.PartitionID) {
	w := r.c.w
	if r.over {
		return
	}
	if r.retries++; r.retries > 4000 {
		w.fail("a request finds no leader")
	}
	if r.node == nil || !r.node.up {
		r.node = w.nodes[w.rng.IntN(len(w.nodes))]
	}
	again := func(hint string) {
		r.node = w.node(hint)
		w.after(time.Duration(1+w.rng.IntN(20))*time.Millisecond, func() { r.try(p) })
	}
	if !r.node.up || r.node.cluster.Group(p) == nil {
		again("")
		return
	}
	width := 1
	if w.wide && r.op.value%4 > 0 {
		width = 1 + r.op.value%4*900
	}
	commands := map[string]string{"set": fmt.Sprintf("SET %s %0*d", r.op.key, width, r.op.value), "incr": "INCR " + r.op.key, "get": "GET " + r.op.key}
	r.reply.Reset()
	t := task(testCache, commands[r.op.kind])
	t.Reply = &r.reply
	r.on, r.waits = r.node.cluster, true
	if n, c := r.node, r.node.cluster; r.op.value%2 == 0 { // an event loop brings it, perhaps with others
		c.Hold()
		w.after(time.Duration(w.rng.IntN(100))*time.Microsecond, func() {
			if n.up && n.cluster == c {
				c.Release()
			}
		})
	}
	begin(r.node.cluster.Group(p), t, func(err error) {
		r.waits = false
		if err == nil && !r.over {
			r.c.at = r.node
		}
		switch {
		case r.over:
		case fault.Is(err, fault.OutcomeUnknown):
			r.finish(result{unknown: true})
		case err != nil:
			hint, _ := leaderHint(err)
			again(hint)
		default:
			cursor := r.reply.Cursor()
			switch tok := cursor.Next(); tok.Kind {
			case engine.ReplyInt:
				r.finish(result{value: int(tok.Int)})
			case engine.ReplyBulk:
				v, _ := strconv.Atoi(string(tok.Bytes))
				r.finish(result{value: v})
			case engine.ReplyNull, engine.ReplyStatus:
				r.finish(result{})
			case engine.ReplyError: // the cache is not known yet
				again("")
			}
		}
	})
}

// registers is the model of a history: each key holds a number.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range history {
			byKey[o.Input.(op).key] = append(byKey[o.Input.(op).key], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		s, in, out := state.(int), input.(op), output.(result)
		switch in.kind {
		case "set":
			return true, in.value
		case "incr":
			return out.unknown || out.value == s+1, s + 1
		default:
			return out.unknown || out.value == s, s
		}
	},
}

func (w *world) checkHistory(history []porcupine.Operation) {
	w.t.Helper()
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	if got := porcupine.CheckOperationsTimeout(registers, history, 20*time.Second); got == porcupine.Illegal {
		w.fail("the history of %d requests is not linearizable", len(history))
	} else if got == porcupine.Unknown {
		w.t.Logf("seed %d: the history was too long to check", w.seed)
	}
}

// simSeeds is how many seeds a test tries: LARDER_SIM_SEEDS, or LARDER_SIM_SEED for one of them alone.
func simSeeds(t *testing.T, few int, run func(t *testing.T, seed uint64)) {
	if s := os.Getenv("LARDER_SIM_SEED"); s != "" {
		seed, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		run(t, seed)
		return
	}
	if s := os.Getenv("LARDER_SIM_SEEDS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		few = n
	}
	for seed := range uint64(few) {
		run(t, seed)
	}
}

func TestSimulatedGroupAgrees(t *testing.T) {
	simSeeds(t, 10, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, 3)
		w.found(1, "n1", "n2", "n3")
		w.waitLeader(1)
		history, done := w.clients(4, 50, 1)
		w.run(time.Minute, done)
		if !done() {
			w.fail("the clients are not done")
		}
		w.run(time.Second, nil)
		w.checkReplicas(1)
		w.checkHistory(*history)
	})
}

// ship carries a snapshot piece by piece. It breaks when either side crashes or the way is cut.
func (w *world) ship(s *shipment) {
	from, to := w.node(s.g.c.cfg.Node), w.node(s.node)
	sender, receiver := from.cluster, to.cluster
	var a *arrival
	var pieces [][]byte
	var step func(head []byte)
	step = func(head []byte) {
		if !from.up || from.cluster != sender {
			return
		}
		broken := !to.up || to.cluster != receiver || w.cut[[2]string{from.name, to.name}] || w.rng.IntN(1000) < w.faults.drop
		var err error
		if !broken && a == nil {
			if a, err = receiver.accept(head); err != nil {
				broken = true
			}
		}
		if broken {
			if a != nil {
				a.p.Close()
			}
			w.after(50*time.Millisecond, func() { s.finish(false) })
			return
		}
		piece, more, err := s.next(nil, 300)
		if pieces = append(pieces, piece); err == nil && !more {
			err = a.keep(func(dst []byte) ([]byte, error) {
				if len(pieces) == 0 {
					return dst, nil
				}
				dst = append(dst, pieces[0]...)
				pieces = pieces[1:]
				return dst, nil
			})
			if err == nil {
				a.finish()
			}
		}
		switch {
		case err != nil:
			a.p.Close()
			s.finish(false)
		case more:
			w.after(time.Duration(w.rng.IntN(3000))*time.Microsecond, func() { step(nil) })
		default:
			w.snapshots++
			s.finish(true)
		}
	}
	if s.g.gathering.size > 0 {
		w.halfway++
	}
	w.after(time.Millisecond, func() { step(s.head) })
}

// trouble has things go wrong now and then, until it is stopped. No more than one node of three is away at a time.
func (w *world) trouble(crashes bool) (stop func()) {
	stopped := false
	var next func()
	next = func() {
		w.after(time.Duration(50+w.rng.IntN(500))*time.Millisecond, func() {
			if stopped {
				return
			}
			n := w.nodes[w.rng.IntN(len(w.nodes))]
			if g := w.leader(1); g != nil && w.rng.IntN(2) == 0 {
				n = w.node(g.c.cfg.Node)
			}
			away := time.Duration(w.rng.IntN(4000)) * time.Millisecond
			switch kind := w.rng.IntN(8); {
			case kind == 0:
				w.isolate(n, true, true)
			case kind == 1:
				w.isolate(n, true, false)
			case kind == 2:
				w.isolate(n, false, true)
			case kind == 3:
				w.faults = faults{drop: w.rng.IntN(200), repeat: w.rng.IntN(200), slow: w.rng.IntN(200)}
			case kind == 4:
				if g := w.leader(1); g != nil {
					g.Transfer(0)
				}
			case crashes:
				w.crash(n)
				away += time.Second
			}
			w.after(away, func() {
				w.heal()
				if !n.up {
					w.restart(n)
				}
				w.whole(1, next)
			})
		})
	}
	next()
	return func() { stopped = true }
}

// whole waits until all the wanted members of a partition are voters: a restarted replica counts for nothing until then, and
// to lose another would be to lose the quorum.
func (w *world) whole(p placement.PartitionID, then func()) {
	g := w.leader(p)
	if g != nil && len(g.conf.GetVoters()) == len(w.wanted[p].Members) && len(g.conf.GetVotersOutgoing()) == 0 {
		all := true
		for _, m := range w.wanted[p].Members {
			all = all && slices.Contains(g.conf.GetVoters(), m.ID)
		}
		if all {
			then()
			return
		}
	}
	w.after(100*time.Millisecond, func() { w.whole(p, then) })
}

// isolate cuts a node off, in one direction or both.
func (w *world) isolate(n *simNode, in, out bool) {
	for _, other := range w.nodes {
		if in {
			w.cut[[2]string{other.name, n.name}] = true
		}
		if out {
			w.cut[[2]string{n.name, other.name}] = true
		}
	}
}

// TestSimulatedFaults: whatever the network does and whichever node crashes, the history of what clients saw is
// linearizable, and in the end all replicas are equal.
func TestSimulatedFaults(t *testing.T) {
	for _, crashes := range []bool{false, true} {
		t.Run(fmt.Sprint("crashes=", crashes), func(t *testing.T) {
			snapshots := 0
			simSeeds(t, 50, func(t *testing.T, seed uint64) {
				w := newWorld(t, seed, 3, func(cfg *Config) {
					if seed%2 == 1 { // and what is large goes in parts
						cfg.whole, cfg.part = 300, 150
					}
				})
				w.wide = seed%2 == 1
				w.found(1, "n1", "n2", "n3")
				w.waitLeader(1)
				history, done := w.clients(6, 80, 1)
				stop := w.trouble(crashes)
				w.run(10*time.Minute, done)
				stop()
				w.heal()
				for _, n := range w.nodes {
					if !n.up {
						w.restart(n)
					}
				}
				if !done() {
					w.fail("the clients are not done")
				}
				whole := false
				w.whole(1, func() { whole = true })
				w.run(time.Minute, func() bool { return whole })
				if !whole {
					w.fail("the members are not back")
				}
				w.run(2*time.Second, nil)
				w.checkReplicas(1)
				w.checkHistory(*history)
				snapshots += w.snapshots
				unknown := 0
				for _, o := range *history {
					if o.Output.(result).unknown {
						unknown++
					}
				}
				if seed < 12 {
					t.Logf("seed %d: %v, %d terms, %d snapshots, %d of %d requests unknown", seed, w.now, len(w.terms), w.snapshots, unknown, len(*history))
				}
			})
			if crashes && snapshots == 0 {
				t.Error("no snapshot was sent")
			}
		})
	}
}

// TestASeedRepeats: what happens follows from the seed alone, so that a failing one can be looked at.
func TestASeedRepeats(t *testing.T) {
	var logs [2]string
	for i := range logs {
		w := newWorld(t, 7, 3)
		w.found(1, "n1", "n2", "n3")
		_, done := w.clients(6, 80, 1)
		w.trouble(true)
		w.run(20*time.Second, done)
		logs[i] = w.logs.String()
	}
	if logs[0] != logs[1] || len(logs[0]) < 500 {
		t.Errorf("twice the same seed, %d and %d bytes of log", len(logs[0]), len(logs[1]))
	}
}

// leaderHint returns where the leader of a partition is that did not do a task, if that is why it did not.
func leaderHint(err error) (node string, ok bool) {
	var e *NotLeader
	if errors.As(err, &e) {
		return e.Node, true
	}
	return "", false
}
