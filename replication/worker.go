package replication

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"reflect"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// Links carry frames between nodes. A frame arrives whole or not at all; frames may be lost.
type Links interface {
	// Handle sets who is given the frames of a kind, of each node on one goroutine; they are only lent.
	Handle(kind byte, fn func(from string, frame []byte))
	// HandleAll sets who is told, on that goroutine, when all frames have been given that have come by then.
	HandleAll(kind byte, fn func(from string))
	// Send puts a copy of a frame in line for a node, or drops it and says false. It does not wait.
	Send(to string, kind byte, frame []byte) bool
	// SendNow is Send by who has nothing more to send at the moment: it goes out at once.
	SendNow(to string, kind byte, frame []byte) bool
	// SendFirst is Send for what is small and must not wait behind what is large: it may overtake other frames.
	SendFirst(to string, kind byte, frame []byte) bool
	// HandleStream sets who is given the streams of a kind that others open.
	HandleStream(kind byte, fn func(from string, s io.ReadWriteCloser))
	// Open opens a stream of a kind, for what is large.
	Open(ctx context.Context, to string, kind byte) (io.ReadWriteCloser, error)
}

// Config says how a process takes part in replication.
type Config struct {
	Node    string // its name
	Boot    uint64 // random, of this process
	Life    string // the process, as placement records name it: see Member
	Kind    byte   // of the frames and streams
	Tick    time.Duration
	Grace   int                  // ticks without a word from a node until it counts as gone
	Workers int                  // 0 for one for each core, up to 4; negative for none, for simulations that drive by themselves
	Steady  func() time.Duration // counts while the machine sleeps, too
	Dice    func() uint64        // for elections and for the leaders' dice
	Format  func() int           // the newest form of entries that all nodes read: see Format; nil for that of this program
	LogSize int64                // bytes that a group's log should take at the most; see Cluster.logShare
	LogsMax int64                // bytes of all logs together
	Vault   *Vault               // of durable groups; nil where there can be none
	Log     *slog.Logger

	whole, part int                  // bytes of a task that is one entry, and of an entry of one that is not; 0 for maxWhole and partBytes
	crowd       int                  // 0 for the constant
	brisk       func() time.Duration // runs like Steady, but need not count while the machine sleeps, and is cheaper
}

// The defaults of a Config. A leader that is lost is noticed after Grace ticks, 0.5 s, and replaced after about two more.
const (
	DefaultTick    = 50 * time.Millisecond
	DefaultGrace   = 10
	DefaultLogSize = 1 << 20
	DefaultLogsMax = 256 << 20
)

// A Cluster is a process's part in replication: its groups, the workers that drive them, and what it hears of other nodes.
//
//	C1: a replica's id is used once: by the process that it was made for, and there a group that was stopped is not
//	    started again under its id
//	C2: whatever comes for a replica that is not here is dropped, and never answered
type Cluster struct {
	cfg       Config
	clock     Clock
	links     Links
	budget    logBudget
	workers   []*worker
	work      sync.WaitGroup
	ship      func(*shipment) // sends a snapshot
	now       atomic.Int64    // the steady time of the last tick
	ticks     int             // counted by tick
	shipments atomic.Int64    // under way
	turns     turns           // of event loops
	resigns   atomic.Bool     // no group is to be led here any more

	mu       sync.RWMutex
	groups   map[placement.PartitionID]*Group
	list     []*Group // of groups, in the order of their partitions; made anew whenever they change
	used     map[usedID]bool
	yielded  map[placement.PartitionID][]*Group // that take part no more, and whose data may be needed: see trail.go
	revives  map[placement.PartitionID]bool     // are being filled
	nodes    []string                           // of which any group had a member, without this one
	listener Listener
	onFence  func(placement.PartitionID)
	onLost   func(p placement.PartitionID, id uint64)
	onRevive func(p placement.PartitionID)

	peersMu sync.RWMutex
	peers   map[string]*peer
}

// A usedID is a replica that has been here.
type usedID struct {
	partition placement.PartitionID
	id        uint64
}

// A peer is another node.
type peer struct {
	heard atomic.Int64 // on the steady clock
	boot  atomic.Uint64
	busy  atomic.Int64 // since when what came from it is being dealt with; 0 for not at all
	spoke atomic.Bool  // messages have come since the last tick, which notes that they were heard: later is safe, earlier is not

	driver          // of whoever reads from it, as what follows
	batch  []*Group // have got something from it
}

// NewCluster takes part in replication over links. Run has to run for anything to happen.
func NewCluster(cfg Config, clock Clock, links Links) *Cluster {
	if cfg.Tick == 0 {
		cfg.Tick = DefaultTick
	}
	if cfg.Grace == 0 {
		cfg.Grace = DefaultGrace
	}
	if cfg.LogSize == 0 {
		cfg.LogSize = DefaultLogSize
	}
	if cfg.LogsMax == 0 {
		cfg.LogsMax = DefaultLogsMax
	}
	if cfg.whole == 0 {
		cfg.whole, cfg.part = maxWhole, partBytes
	}
	cfg.crowd = cmp.Or(cfg.crowd, waveFrom)
	cfg.brisk = cfg.Steady
	if cfg.Steady == nil {
		began := time.Now()
		cfg.Steady, cfg.brisk = steadyTime, func() time.Duration { return time.Since(began) }
	}
	if cfg.Dice == nil {
		cfg.Dice = rand.Uint64
	}
	c := &Cluster{cfg: cfg, clock: clock, links: links, groups: map[placement.PartitionID]*Group{}, used: map[usedID]bool{}, yielded: map[placement.PartitionID][]*Group{}, revives: map[placement.PartitionID]bool{}, peers: map[string]*peer{}}
	c.now.Store(int64(cfg.Steady()))
	c.ship = func(s *shipment) { c.work.Go(s.send) }
	switch n := cfg.Workers; {
	case n == 0:
		c.hire(min(runtime.GOMAXPROCS(0), 4))
	case n > 0:
		c.hire(n)
	default:
		c.hire(1) // it is never run
	}
	links.Handle(cfg.Kind, c.receive)
	links.HandleAll(cfg.Kind, c.received)
	links.HandleStream(cfg.Kind, c.arrive)
	return c
}

func (c *Cluster) hire(n int) {
	for range n {
		c.workers = append(c.workers, &worker{queue: make([]*Group, 0, 16), bell: make(chan struct{}, 1), crowd: c.cfg.crowd, wave: 1, driver: c.newDriver(true)})
	}
}

func (c *Cluster) newDriver(waits bool) driver {
	return driver{waits: waits, out: outbox{links: c.links, kind: c.cfg.Kind}}
}

// Place has this process hold a replica of a partition, or takes what has changed of who its members are to be. A replica
// under another id than the one that is here replaces it, and begins empty. One that was made for a former process of this
// node is left alone: it has gone with that.
func (c *Cluster) Place(p placement.PartitionID, seed engine.Seed, w Wanted) error {
	return c.place(p, seed, w, 0, nil)
}

// place is Place for a founder that may have data already: then it is the only one, and founder is its id. Another may take
// its place from the beginning.
func (c *Cluster) place(p placement.PartitionID, seed engine.Seed, w Wanted, founder uint64, data func() *engine.Partition) error {
	c.meet(w.Members)
	c.meet(w.Leaving)
	own := c.own(p, w)
	old := c.Group(p)
	if old != nil && old.id.generation == w.Generation && (own == 0 || old.self == own) {
		old.inside(func() {
			if !reflect.DeepEqual(old.members.wanted, w) {
				old.members.want(w)
				old.members.awake(old)
			}
		})
		return nil
	}
	if old != nil {
		c.retire(old)
	}
	if own == 0 && data == nil {
		return nil
	}
	self := founder
	if data == nil {
		self = own
	}
	var recalled *memoryLog
	var state *groupState
	var was *engine.Partition
	c.mu.RLock()
	used, gone := c.used[usedID{p, self}], c.hasYielded(p, self)
	c.mu.RUnlock()
	switch {
	case w.Async && gone: // another comes in its place (T1 of placement.Trail)
		return nil
	case w.Origin != 0 && slices.Equal(w.Founders, []uint64{self}) && !used:
		return c.revive(groupID{p, w.Generation}, self, seed, w)
	}
	if w.Durable && !used {
		var err error
		if recalled, state, was, err = c.remember(groupID{p, w.Generation}, self, seed, w); errors.Is(err, errForgotten) {
			return nil // another comes in its place
		} else if err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used[usedID{p, self}] {
		return fault.New(fault.Conflict, "replication.place", "replica %x of partition %d has been here, and has forgotten its vote: it needs another id", self, p)
	}
	if data != nil && !slices.Equal(w.Founders, []uint64{self}) {
		return fault.New(fault.Internal, "replication.place", "partition %d has data here, and was founded by others: %x", p, w.Founders)
	}
	g, err := c.start(groupID{p, w.Generation}, self, seed, w, recalled)
	if err != nil {
		return err
	}
	if was != nil {
		empty := g.p
		g.desk.install(was)
		g.gathering = state.gathering
		empty.Close()
	}
	if data != nil {
		empty := g.p
		g.desk.install(data())
		empty.Close()
	}
	c.used[usedID{p, self}], c.groups[p] = true, g
	c.enlist()
	return nil
}

// own is the id of the replica that this process is to have of a partition, 0 for none: a wanted one, or one that has come back
// from disk and has a say until others have caught up.
func (c *Cluster) own(p placement.PartitionID, w Wanted) uint64 {
	for _, m := range w.Members {
		if m.Node == c.cfg.Node && m.Life == c.cfg.Life && !m.Gone {
			return m.ID
		}
	}
	if w.Async { // one that leaves is here, or has gone with its process
		return 0
	}
	for _, m := range w.Leaving {
		if w.Durable && m.Node == c.cfg.Node && m.Life == c.cfg.Life && c.cfg.Vault.keeps(groupID{p, w.Generation}, m.ID) {
			return m.ID
		}
	}
	return 0
}

// remember is a durable replica's log and data, as they are on disk, or those of one that begins.
func (c *Cluster) remember(id groupID, self uint64, seed engine.Seed, w Wanted) (*memoryLog, *groupState, *engine.Partition, error) {
	v := c.cfg.Vault
	if v == nil {
		return nil, nil, nil, errNoVault
	}
	if v.keeps(id, self) && !w.Async {
		log, state, p, err := v.recall(id, self, seed, &c.budget)
		if err == errForgotten { // and that has been said
			return nil, nil, nil, err
		}
		if err != nil {
			c.cfg.Log.Error("a durable replica does not come back: it is made anew from the others, as another, and nothing is lost while a majority of them is there",
				"partition", id.partition, "replica", fmt.Sprintf("%x", self), "error", err)
			if c.onLost != nil {
				go c.onLost(id.partition, self)
			}
			return nil, nil, nil, errForgotten
		}
		return log, state, p, nil
	}
	var founders []uint64
	if slices.Contains(w.Founders, self) {
		founders = slices.Clone(w.Founders)
	}
	if err := v.begin(id, self, founders, w.Async, 0); err != nil {
		return nil, nil, nil, err
	}
	return newMemoryLog(founders, &c.budget), nil, nil, nil
}

// meet notes the nodes of members.
func (c *Cluster) meet(members []Member) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range members {
		if m.Node != c.cfg.Node && !slices.Contains(c.nodes, m.Node) {
			c.nodes = append(slices.Clone(c.nodes), m.Node)
		}
	}
}

// start makes a group's replica. log is that of a durable one, nil for one in memory.
func (c *Cluster) start(id groupID, self uint64, seed engine.Seed, w Wanted, log *memoryLog) (*Group, error) {
	durable := log != nil
	if !durable {
		var founders []uint64
		if slices.Contains(w.Founders, self) {
			founders = slices.Clone(w.Founders)
		}
		log = newMemoryLog(founders, &c.budget)
	}
	g := &Group{c: c, id: id, self: self, seed: seed, growing: map[engine.CacheID]int64{}, asks: map[*engine.Waiter]*ask{}, wants: map[engine.CacheID]*engine.Settings{}, told: map[uint64]uint64{}}
	var dice [32]byte
	for i := range 4 {
		binary.LittleEndian.PutUint64(dice[8*i:], c.cfg.Dice())
	}
	tell := c.cfg.Log.With("partition", id.partition, "replica", fmt.Sprintf("%x", self))
	g.desk.init(seed, c.clock, dice, tell)
	g.release = func(w *engine.Waiter) { g.Release(w, nil) }
	g.busy = func(w *engine.Waiter) bool { return g.asks[w] != nil }
	g.leads = func() bool { return g.settled && !g.broken }
	g.listener = c.listener
	g.store = log
	hard, conf, err := g.store.InitialState()
	if err != nil {
		return nil, err
	}
	first, err := g.store.FirstIndex()
	if err != nil {
		return nil, err
	}
	g.term, g.conf, g.applied, g.committed = hard.GetTerm(), conf, first-1, hard.GetCommit()
	g.members.want(w)
	if durable {
		g.ledger = &ledger{v: c.cfg.Vault, hard: hard, abstains: c.cfg.Steady() + time.Duration(c.cfg.Grace+1)*c.cfg.Tick}
		if w.Async {
			g.ledger.lag = &lag{own: g.applied, others: map[uint64]uint64{}}
		}
	}
	g.rn, err = raft.NewRawNode(&raft.Config{
		ID: self, ElectionTick: 2 * c.cfg.Grace, HeartbeatTick: 1, Storage: g.store, Applied: g.applied,
		MaxSizePerMsg: 1 << 20, MaxCommittedSizePerReady: 4 << 20, MaxInflightMsgs: 256, MaxInflightBytes: 16 << 20,
		CheckQuorum: true, PreVote: true, DisableProposalForwarding: true, StepDownOnRemoval: true, AsyncStorageWrites: durable && !w.Async, Logger: logger{tell},
	})
	if err != nil {
		return nil, err
	}
	g.members.candidacy = 1 + eachTurn*g.rank(0)
	if durable {
		g.members.candidacy += c.cfg.Grace + 1 // see abstain
	}
	g.w = c.workers[int(id.partition)%len(c.workers)]
	return g, nil
}

// Resign has others lead all groups from now on, as far as there are others that can.
func (c *Cluster) Resign() {
	c.resigns.Store(true)
	for _, g := range c.Groups() {
		if g.Leads() {
			g.Transfer(0)
		}
	}
}

// Stop ends the replica of a partition. What it held is given back; what a durable one has on disk stays there.
func (c *Cluster) Stop(p placement.PartitionID) {
	if g := c.Group(p); g != nil {
		c.end(g)
	}
}

// Dismiss ends the replica of a partition for good: it has been removed from its group.
func (c *Cluster) Dismiss(p placement.PartitionID) {
	if g := c.Group(p); g != nil {
		c.retire(g)
	}
}

// retire ends a replica that has been removed from its group.
func (c *Cluster) retire(g *Group) {
	if !c.end(g) || g.ledger == nil || g.lags() { // what an async one leaves goes when nobody can need it: see Vault.Idle
		return
	}
	if err := c.cfg.Vault.forget(g.id, g.self); err != nil {
		c.cfg.Log.Error("a durable replica that is not needed any more cannot be removed from disk", "partition", g.id.partition, "error", err)
	}
}

func (c *Cluster) end(g *Group) (here bool) {
	c.mu.Lock()
	if here = c.groups[g.id.partition] == g; here {
		delete(c.groups, g.id.partition)
		c.enlist()
	}
	c.mu.Unlock()
	if here {
		g.close()
	}
	return here
}

func (g *Group) close() { g.quit(true) }

// quit has a replica take part no more; with all, what it has goes, too.
func (g *Group) quit(all bool) {
	g.inbox.mu.Lock()
	g.inbox.closed = true
	rest := g.inbox.proposals
	g.inbox.proposals, g.inbox.messages, g.inbox.calls = nil, nil, nil
	g.inbox.mu.Unlock()
	g.mu.Lock()
	g.queue = append(g.queue, rest...)
	g.ship.stop(g)
	g.giveWay()
	g.endCuts()
	g.endFeeds()
	g.refuseAll(errGone)
	g.broken = true
	g.follows(0)
	if all {
		g.store.Close()
		g.p.Close()
	}
	g.weigh()
	g.tellAll()
	for _, other := range g.w.gathered(time.Duration(g.c.now.Load())) {
		other.wake()
	}
}

// Group returns the replica of a partition that is here, nil for none.
func (c *Cluster) Group(p placement.PartitionID) *Group {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.groups[p]
}

// Groups lists the replicas that are here, in the order of their partitions. The list is only lent.
func (c *Cluster) Groups() []*Group {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.list
}

// enlist makes the list of groups. The caller holds the lock.
func (c *Cluster) enlist() {
	c.list = make([]*Group, 0, len(c.groups))
	for _, g := range c.groups {
		c.list = append(c.list, g)
	}
	slices.SortFunc(c.list, func(a, b *Group) int { return int(a.id.partition) - int(b.id.partition) })
}

// Listen has l told of what happens in every partition that is here. It is called before anything is placed.
func (c *Cluster) Listen(l Listener) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.listener = l
	for _, g := range c.groups {
		g.listen(l)
	}
}

// OnFence has fn told of replicas that stop after an internal error: they need another id.
func (c *Cluster) OnFence(fn func(placement.PartitionID)) { c.onFence = fn }

func (c *Cluster) fenced(g *Group) {
	if c.onFence != nil {
		go c.onFence(g.id.partition)
	}
}

// OnLost has fn told of durable replicas that do not come back, because what they had on disk is damaged: they need another id.
func (c *Cluster) OnLost(fn func(p placement.PartitionID, id uint64)) { c.onLost = fn }

// logShare is how many bytes a group's log should take, and how many it may at the most, for others to catch up.
func (c *Cluster) logShare() (soft, hard int64) {
	fair := c.cfg.LogsMax / max(c.budget.logs.Load(), 1)
	soft = min(c.cfg.LogSize, fair)
	if c.budget.bytes.Load() > c.cfg.LogsMax {
		return soft, soft
	}
	return soft, max(soft, c.cfg.LogsMax/4)
}

// Run ticks all groups until ctx ends, and has the workers work. It stops the groups in the end.
func (c *Cluster) Run(ctx context.Context) {
	for _, w := range c.workers {
		c.work.Go(w.run)
	}
	tick := time.NewTicker(c.cfg.Tick)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			c.tick()
		}
	}
	for _, g := range c.Groups() {
		c.Stop(g.id.partition)
	}
	c.closeYielded()
	for _, w := range c.workers {
		w.stop()
	}
	c.work.Wait()
}

// busyGraces is for how many graces a node is not silent because what came from it is still being dealt with.
const busyGraces = 10

// sleepCheck is how many ticks apart a sleeping group is looked at that has something to do now and then: what is in it expires.
const sleepCheck = 8

// idleBeat is how many ticks apart nodes are told that this one is there while every group here sleeps: of so many words as are
// missed before a node counts as gone, most may be late. Whatever wakes an idle process up is most of what it costs.
const idleBeat = 3

// tick tells the other nodes that this one is there, and each group that time has passed. Sleeping groups are told when the node
// of their leader is gone, or when they have something to do.
func (c *Cluster) tick() {
	c.now.Store(int64(c.cfg.Steady()))
	c.mu.RLock()
	nodes, groups := c.nodes, c.list
	c.mu.RUnlock()
	c.peersMu.RLock()
	for _, p := range c.peers {
		since := p.busy.Load()
		if spoke := p.spoke.Swap(false); spoke || since != 0 && c.now.Load()-since < int64(busyGraces*c.cfg.Grace)*int64(c.cfg.Tick) {
			p.heard.Store(c.now.Load())
		}
	}
	c.peersMu.RUnlock()
	c.ticks++
	var gone []string
	for _, node := range nodes {
		if c.away(node) {
			gone = append(gone, node)
		}
	}
	busy := c.ticks%idleBeat == 0
	for _, g := range groups {
		if g.asleep.Load() {
			if !g.due(c.ticks, gone) {
				continue
			}
		} else {
			busy = true
		}
		g.inbox.mu.Lock()
		g.inbox.tick = true
		g.inbox.mu.Unlock()
		g.wake()
	}
	if !busy {
		return
	}
	beat := binary.BigEndian.AppendUint64([]byte{frameBeat}, c.cfg.Boot)
	for _, node := range nodes {
		c.links.SendFirst(node, c.cfg.Kind, beat)
	}
}

// due reports whether a sleeping group is told of a tick, when some nodes are gone.
func (g *Group) due(tick int, gone []string) bool {
	if len(gone) > 0 && slices.Contains(gone, g.LeaderNode()) {
		return true
	}
	return (!g.restful.Load() || len(gone) > 0) && (tick+int(g.id.partition))%sleepCheck == 0
}

// silence is how long nothing has come from a node.
func (c *Cluster) silence(node string) time.Duration {
	if node == c.cfg.Node {
		return 0
	}
	return c.cfg.Steady() - time.Duration(c.peer(node).heard.Load())
}

// away reports whether a node counts as gone.
func (c *Cluster) away(node string) bool {
	return c.silence(node) > time.Duration(c.cfg.Grace+1)*c.cfg.Tick
}

func (c *Cluster) peer(node string) *peer {
	c.peersMu.RLock()
	p := c.peers[node]
	c.peersMu.RUnlock()
	if p != nil {
		return p
	}
	c.peersMu.Lock()
	defer c.peersMu.Unlock()
	if p = c.peers[node]; p == nil {
		p = &peer{driver: c.newDriver(false)}
		p.heard.Store(int64(c.cfg.Steady()))
		c.peers[node] = p
	}
	return p
}

// The kinds of frames between clusters' parts, in their first byte.
const (
	frameBeat     = 'b' // the process's boot number
	frameMessages = 'm'
	frameSleep    = 's' // a group falls asleep
	frameKept     = 'k' // how far an async replica has its log on disk
)

// receive takes a frame from another node.
func (c *Cluster) receive(from string, frame []byte) {
	if len(frame) == 0 {
		return
	}
	p := c.peer(from)
	r := &reader{b: frame[1:]}
	if frame[0] != frameMessages {
		p.heard.Store(int64(c.cfg.Steady()))
	} else if !p.spoke.Load() {
		p.spoke.Store(true)
	}
	switch frame[0] {
	case frameBeat:
		boot := r.uint64()
		if r.bad {
			return
		}
		if before := p.boot.Swap(boot); before != 0 && before != boot {
			c.restarted(from)
		}
	case frameSleep:
		c.toSleep(r)
	case frameKept:
		c.isKept(r)
	case frameMessages:
		for len(r.b) > 0 {
			id, m, err := readMessage(r)
			if err != nil {
				c.cfg.Log.Warn("a frame from another node was dropped", "node", from, "error", err)
				return
			}
			if g := c.Group(id.partition); g != nil && g.id == id && g.self == m.GetTo() && g.deliver(from, m, len(frame)) {
				p.batch = append(p.batch, g)
			}
		}
	}
}

// When groups have held up what comes from a node for longRound, workers drive them for the next heavyFor messages.
const (
	longRound = 10 * time.Millisecond
	heavyFor  = 256
)

// received drives the groups that have got something from a node. It is done where that was read: to give it to a worker would
// wake up another thread each time. A group that takes long holds up what comes from that node, which does not count as silent
// meanwhile; then it is a worker's for a while.
func (c *Cluster) received(from string) {
	p := c.peer(from)
	if len(p.batch) == 0 {
		return
	}
	began := c.cfg.brisk()
	p.busy.Store(int64(c.now.Load()))
	p.round(p.batch)
	p.busy.Store(0)
	if c.cfg.brisk()-began > longRound {
		for _, g := range p.batch {
			g.heavy.Store(heavyFor)
		}
	}
	clear(p.batch)
	p.batch = p.batch[:0]
}

// restarted has the groups that a node's former process led expect a word of their leaders: those that slept would not notice
// that the process is gone, now that the node is heard again.
func (c *Cluster) restarted(node string) {
	for _, g := range c.Groups() {
		g.inside(func() {
			lead := g.leader.Load()
			if lead != 0 && lead != g.self && g.members.nodes[lead] == node && !g.broken {
				if g.asleep.Load() { // the process before was heard until then, at the least
					g.fresh.at = max(g.fresh.at, c.cfg.Steady()-time.Duration(c.cfg.Grace+1)*c.cfg.Tick)
				}
				g.members.silent = c.cfg.Grace + 1 // and nothing of it for as long again
				g.asleep.Store(false)
			}
		})
	}
}

// deliver puts a message into the inbox, and reports whether the caller has to have the group driven.
func (g *Group) deliver(from string, m *raftpb.Message, size int) bool {
	in, tells := &g.inbox, g.tells(m)
	in.mu.Lock()
	if in.bytes > inboxBytes || in.closed {
		in.mu.Unlock()
		return false
	}
	in.bytes += size
	in.messages = append(in.messages, delivery{from, m})
	in.telling = in.telling || tells
	in.mu.Unlock()
	if tells && g.heavy.Load() > 0 {
		g.heavy.Add(-1)
		g.wake()
		return false
	}
	return tells && g.scheduled.CompareAndSwap(false, true)
}

// wake has a worker look at the group.
func (g *Group) wake() {
	if g.scheduled.CompareAndSwap(false, true) {
		g.w.push(g)
	}
}

// A worker drives groups, one after another.
type worker struct {
	mu     sync.Mutex
	queue  []*Group
	bell   chan struct{}
	closed bool
	driver

	crowd int           // see gather.go, as for what follows
	aloft int           // tasks of the wave under way
	wave  uint64        // counts them
	since time.Duration // the tick in which it became one
	later []*Group      // that wait for it
}

// push puts a group in line.
func (w *worker) push(g *Group) {
	w.mu.Lock()
	w.queue = append(w.queue, g)
	first := len(w.queue) == 1
	w.mu.Unlock()
	if first {
		w.ring()
	}
}

func (w *worker) ring() {
	select {
	case w.bell <- struct{}{}:
	default:
	}
}

func (w *worker) stop() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.ring()
}

func (w *worker) run() {
	batch := make([]*Group, 0, 16)
	for {
		if batch = w.once(batch); batch == nil {
			return
		}
		if len(batch) == 0 {
			<-w.bell
		}
		runtime.Gosched() // who has an answer sends the next task, and all of these share an entry and a frame
	}
}

// once drives the groups that wait, and returns them, forgotten, as room for the next; nil when the worker is to stop.
func (w *worker) once(room []*Group) []*Group {
	w.mu.Lock()
	batch, closed := w.queue, w.closed
	w.queue = room[:0]
	w.mu.Unlock()
	if len(batch) == 0 && closed {
		return nil
	}
	w.round(batch)
	clear(batch)
	return batch
}

// A driver drives groups: a worker, or who reads from another node. What they send to one node in one round goes in one frame.
type driver struct {
	waits    bool // it is a worker
	light    bool // it deals with proposals alone
	out      outbox
	finished []*proposal // of a round
}

// round drives groups, and those that have waited for them.
func (d *driver) round(batch []*Group) {
	d.drive(batch)
	for _, g := range batch {
		d.drive(g.w.gathered(time.Duration(g.c.now.Load())))
	}
	d.out.flush()
	d.tell()
}

// maxFinished is how many are told at the latest that they have their answers.
const maxFinished = 256

func (d *driver) drive(batch []*Group) {
	for _, g := range batch {
		if g.drive(d); len(d.finished) >= maxFinished {
			d.out.flush()
			d.tell()
		}
	}
}

// tell tells those who have their answers.
func (d *driver) tell() {
	for i, p := range d.finished {
		d.finished[i] = nil
		p.done(p)
	}
	d.finished = d.finished[:0]
}

// An outbox collects what goes to other nodes.
type outbox struct {
	links  Links
	kind   byte
	nodes  []string
	frames [][]byte
	first  [][]byte // of messages that overtake the others: see urgent
}

// frameSize is about how long a frame of messages gets.
const frameSize = 256 << 10

// urgent reports whether messages of a kind go before all others: they are small, and somebody would be taken for gone who is
// only busy sending something large. Raft takes messages in any order.
func urgent(kind raftpb.MessageType) bool {
	return kind != raftpb.MsgApp && kind != raftpb.MsgAppResp
}

func (o *outbox) add(node string, id groupID, m *raftpb.Message) {
	at := slices.Index(o.nodes, node)
	if at < 0 {
		at = len(o.nodes)
		o.nodes, o.frames, o.first = append(o.nodes, node), append(o.frames, nil), append(o.first, nil)
	}
	if urgent(m.GetType()) {
		o.first[at] = framed(o.first[at], id, m)
	} else if o.frames[at] = framed(o.frames[at], id, m); len(o.frames[at]) > frameSize {
		o.send(at, o.links.Send)
	}
}

// framed appends a message to a frame, which is begun if need be.
func framed(frame []byte, id groupID, m *raftpb.Message) []byte {
	if len(frame) == 0 {
		frame = append(frame, frameMessages)
	}
	return appendMessage(frame, id, m)
}

// send sends what has been collected for a node.
func (o *outbox) send(at int, send func(to string, kind byte, frame []byte) bool) {
	if len(o.first[at]) > 0 {
		o.links.SendFirst(o.nodes[at], o.kind, o.first[at])
		o.first[at] = o.first[at][:0]
	}
	if len(o.frames[at]) == 0 {
		return
	}
	send(o.nodes[at], o.kind, o.frames[at])
	if cap(o.frames[at]) > 4*frameSize {
		o.frames[at] = nil
	}
	o.frames[at] = o.frames[at][:0]
}

func (o *outbox) flush() {
	for at := range o.frames {
		o.send(at, o.links.SendNow)
	}
}
