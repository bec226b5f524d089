package main

import (
	"context"
	"slices"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication/move"
	"github.com/larder-cache/larder/tenants"
)

// rescaleEvery is how often the controller looks for caches that are to have other ranges, when nothing tells it of one.
const rescaleEvery = time.Second

// openMovement has this node take its part in moving slots: drive what sets out from partitions that it leads and, as the
// controller, say what is next.
func (n *node) openMovement() {
	mover := move.New(move.Config{
		Source: n.source,
		Target: func(id placement.PartitionID) move.Partition {
			if to := n.executor(id); to != nil {
				return to
			}
			return nil
		},
		Records: movements{n}, Tell: n.tell, Log: n.log,
	})
	changed := make(chan struct{}, 1)
	n.accounts.OnCacheChange(func(_, c *tenants.Cache) {
		if c == nil || c.Scaled() {
			return
		}
		mover.Wake()
		select {
		case changed <- struct{}{}:
		default: // it looks at all of them anyway
		}
	})
	if !slices.Contains(n.settings.roles, "engine") {
		return
	}
	n.loop(mover.Run)
	n.loop(func(ctx context.Context) { n.rescale(ctx, changed) })
}

// rescale begins movements as long as this node is the controller.
func (n *node) rescale(ctx context.Context, changed <-chan struct{}) {
	tick := time.NewTicker(rescaleEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-changed:
		case <-ctx.Done():
			return
		}
		if n.peers != nil && !n.place.Controls() {
			continue
		}
		if err := n.accounts.Rescale(ctx, n.tell); err != nil && ctx.Err() == nil && !fault.Is(err, fault.Unavailable) {
			n.log.Warn("the ranges of a cache cannot be changed; it is tried again", "error", err)
		}
	}
}

// tell adds to the log of events.
func (n *node) tell(on placement.PartitionID, what string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := n.place.Record(ctx, &on, "", what); err != nil {
		n.log.Warn("an event could not be noted", "event", what, "error", err)
	}
}

// source finds a partition that is led in this process, nil for none.
func (n *node) source(id placement.PartitionID) move.Source {
	if n.peers != nil {
		if g := n.peers.cluster.Group(id); g != nil {
			if g.Leads() {
				return g
			}
			return nil
		}
	}
	if local := n.host.Local(id); local != nil {
		return local
	}
	return nil
}

// movements are those that the caches' records want, as package move sees them.
type movements struct{ n *node }

func recordOf(c *tenants.Cache) move.Record {
	return move.Record{Cache: c.ID, Name: c.Tenant + "/" + c.Name, Settings: c.SettingsAt(c.Move.Target), Movement: *c.Move}
}

// Movements implements move.Records.
func (m movements) Movements() (list []move.Record) {
	m.n.known.Range(func(_, c any) bool {
		if cache := c.(*tenants.Cache); cache.Move != nil {
			list = append(list, recordOf(cache))
		}
		return true
	})
	return list
}

// Movement implements move.Records.
func (m movements) Movement(id engine.CacheID) (r move.Record, ok bool) {
	c, ok := m.n.known.Load(id)
	if !ok || c.(*tenants.Cache).Move == nil {
		return r, false
	}
	return recordOf(c.(*tenants.Cache)), true
}

func (m movements) cache(id engine.CacheID) (*tenants.Cache, error) {
	c, ok := m.n.known.Load(id)
	if !ok {
		return nil, fault.New(fault.NotFound, "movements", "the cache that moves is gone")
	}
	return c.(*tenants.Cache), nil
}

// Commit implements move.Records.
func (m movements) Commit(ctx context.Context, r *move.Record) error {
	c, err := m.cache(r.Cache)
	if err != nil {
		return err
	}
	return m.n.accounts.CommitMove(ctx, c, r.Epoch)
}

// End implements move.Records.
func (m movements) End(ctx context.Context, r *move.Record) error {
	c, err := m.cache(r.Cache)
	if err != nil {
		return err
	}
	return m.n.accounts.EndMove(ctx, c, r.Epoch)
}
