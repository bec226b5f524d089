package replication

import (
	"context"
	crand "crypto/rand"
	"log/slog"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/placement"
)

// A Host holds the replicas that live in this process and does their background work.
type Host struct {
	clock Clock
	log   *slog.Logger

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
	return sum
}

// tendEvery is how often expired items, and memory to give back, are looked for. Access is exact all the same: an
// expired item is never seen, it only still takes memory.
const tendEvery = 100 * time.Millisecond

// Run does the background work of all replicas until ctx ends. Partitions take turns, a batch each, so that
// one with much to remove does not keep the others waiting.
func (h *Host) Run(ctx context.Context) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
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
