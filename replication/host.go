package replication

import (
	"context"
	crand "crypto/rand"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// A Host holds the replicas that live in this process and does their background work. A partition that has no other replica
// is a Local; one that has is a Group of the Cluster that the host has joined, and stays one.
type Host struct {
	clock   Clock
	log     *slog.Logger
	cluster *Cluster // nil in a process by itself
	keeper  *Keeper  // of durable caches, nil for none

	mu       sync.RWMutex
	locals   map[placement.PartitionID]*Local
	listener Listener // of all replicas, nil for none
}

// Listen has l told of what happens in every partition. It is called before the host serves.
func (h *Host) Listen(l Listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listener = l
	for _, local := range h.locals {
		local.listen(l)
	}
	if h.cluster != nil {
		h.cluster.Listen(l)
	}
}

// Join has the host take part in a cluster. It is called before anything is placed; Run runs the cluster, too.
func (h *Host) Join(c *Cluster) { h.cluster = c }

// A Replica is what this process has of a partition.
type Replica interface {
	Execute(ctx context.Context, t *engine.Task) error
	Watch(cache engine.CacheID, db int, key []byte) engine.Watch
	Release(w *engine.Waiter, e *fault.Error) bool
	Abandon(w *engine.Waiter)
	Waiting(cache engine.CacheID) (callers, keys, gone int)
	Observe(cache engine.CacheID, on bool)
	Stats(cache engine.CacheID) (engine.Stats, bool)
}

// Replica returns the replica of a partition that is here, nil for none.
func (h *Host) Replica(id placement.PartitionID) Replica {
	if h.cluster != nil {
		if g := h.cluster.Group(id); g != nil {
			return g
		}
	}
	if local := h.Local(id); local != nil {
		return local
	}
	return nil
}

// Place does what a partition's record asks of this process, now and whenever the record has changed. The only replica of a
// partition becomes the founder of its group, with its data, when others join it or one takes its place.
//
//	H1: a partition that is here by itself was founded here, in the generation that its record has: nobody else has its data
func (h *Host) Place(p *placement.Partition) error {
	if h.cluster == nil {
		h.Start(p)
		return nil
	}
	w := wantedBy(p)
	if p.Durable { // a group also with one replica: it has a log
		return h.cluster.Place(p.ID, engine.Seed(p.Seed), w)
	}
	own := p.Of(h.cluster.cfg.Node, h.cluster.cfg.Life)
	founder := own
	if founder == nil || !slices.Equal(p.Founders, []uint64{founder.ID}) {
		founder = nil
	}
	local := h.Local(p.ID)
	if local != nil && (founder == nil || founder.ID != local.replica) { // given up, and founded anew
		h.forget(p.ID)
		local.handOver().Close()
		local = nil
	}
	if founder != nil && len(p.Replicas) == 1 && p.Replicas[0] == *founder && h.cluster.Group(p.ID) == nil {
		h.Start(p)
		return nil
	}
	if local == nil {
		return h.cluster.Place(p.ID, engine.Seed(p.Seed), w)
	}
	if err := h.cluster.place(p.ID, engine.Seed(p.Seed), w, local.replica, local.handOver); err != nil {
		return err
	}
	h.forget(p.ID)
	return nil
}

// wantedBy is what a partition's record says.
func wantedBy(p *placement.Partition) Wanted {
	return Wanted{
		Durable: p.Durable, Async: p.Async, Origin: p.Origin, Generation: p.Generation, Founders: p.Founders, Members: asMembers(p.Replicas), Leaving: asMembers(p.Leaving),
	}
}

func asMembers(replicas []placement.Replica) (list []Member) {
	for _, r := range replicas {
		list = append(list, Member{r.ID, r.Node, r.Life, r.Trail != nil})
	}
	return list
}

// forget has nobody find the replica of a partition that is here by itself.
func (h *Host) forget(id placement.PartitionID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.locals, id)
}

// Configure says what a cache's settings have to be in a partition, nil for a cache that has to go.
func (h *Host) Configure(id placement.PartitionID, cache engine.CacheID, s *engine.Settings) error {
	if h.cluster != nil {
		if g := h.cluster.Group(id); g != nil {
			g.Configure(cache, s)
			return nil
		}
	}
	local := h.Local(id)
	if local == nil {
		return nil
	}
	return local.configure(cache, s)
}

// NewHost makes a host without replicas.
func NewHost(clock Clock, log *slog.Logger) *Host {
	return &Host{clock: clock, log: log, locals: map[placement.PartitionID]*Local{}}
}

// Start brings up a replica of a partition, empty, unless it is here already.
func (h *Host) Start(p *placement.Partition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.locals[p.ID] != nil {
		return
	}
	var dice [32]byte
	crand.Read(dice[:])
	local := NewLocal(engine.Seed(p.Seed), h.clock, dice, h.log.With("partition", p.ID))
	local.listen(h.listener)
	local.id, local.keeper = p.ID, h.keeper
	if len(p.Replicas) == 1 {
		local.replica = p.Replicas[0].ID
	}
	h.locals[p.ID] = local
}

// Local returns the replica of a partition, nil when this process has none.
func (h *Host) Local(id placement.PartitionID) *Local {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.locals[id]
}

// Memory tells what all replicas together take of the machine's memory beside Go's heap.
func (h *Host) Memory() (sum dense.Usage) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, l := range h.locals {
		u := l.memory()
		sum.Live += u.Live
		sum.Blocks += u.Blocks
		sum.Apart += u.Apart
		sum.All += u.All
	}
	if h.cluster == nil {
		return sum
	}
	for _, g := range h.cluster.Groups() {
		u := g.memory()
		sum.Live += u.Live
		sum.Blocks += u.Blocks
		sum.Apart += u.Apart
		sum.All += u.All
	}
	return sum
}

// tendEvery is how often expired items, and memory to give back, are looked for. Access is exact all the same: an
// expired item is never seen, it only still takes memory.
const tendEvery = 100 * time.Millisecond

// idleEvery is how often replicas are looked for that have to be tended here; those of groups are tended by their leaders. Whatever
// wakes an idle process up is most of what it costs.
const idleEvery = time.Second

// Run does the background work of all replicas until ctx ends. Partitions take turns, a batch each, so that
// one with much to remove does not keep the others waiting.
func (h *Host) Run(ctx context.Context) {
	if h.cluster != nil {
		var all sync.WaitGroup
		all.Go(func() { h.cluster.Run(ctx) })
		defer all.Wait()
	}
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	every := tendEvery
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h.mu.RLock()
		busy := make([]*Local, 0, len(h.locals))
		for _, l := range h.locals {
			busy = append(busy, l)
		}
		h.mu.RUnlock()
		next := tendEvery
		if len(busy) == 0 {
			next = idleEvery
		}
		if next != every {
			every = next
			tick.Reset(every)
		}
		for len(busy) > 0 && ctx.Err() == nil {
			still := busy[:0]
			for _, l := range busy {
				if l.tend() {
					still = append(still, l)
				}
			}
			busy = still
		}
	}
}
