package main

import (
	"context"
	"fmt"
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
	grows := growth{n: n, seen: map[engine.CacheID]*grown{}}
	for {
		select {
		case <-tick.C:
		case <-changed:
		case <-ctx.Done():
			return
		}
		if n.peers != nil && !n.place.Controls() {
			clear(grows.seen)
			continue
		}
		grows.look(ctx, time.Now())
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

// growEvery is how often the loads of caches are looked at that may be given more ranges, or twice while they have to be calm.
const growEvery = 5 * time.Second

// growth has caches get more ranges as they outgrow them, and fewer again.
type growth struct {
	n    *node
	last time.Time
	seen map[engine.CacheID]*grown
}

// grown is what was seen of a cache when its load was looked at last.
type grown struct {
	at    time.Time
	calls map[placement.PartitionID]int64
	calm  time.Time // since when it needs fewer ranges; zero when it needs what it has
}

// look looks at the loads, if it is time.
func (g *growth) look(ctx context.Context, now time.Time) {
	if now.Sub(g.last) < min(growEvery, g.n.settings.growthCalm/2) {
		return
	}
	g.last = now
	there := map[engine.CacheID]bool{}
	g.n.accounts.EachCache("", func(c *tenants.Cache) {
		if c.Growth.MaxRanges < 2 || !c.Scaled() || ctx.Err() != nil {
			return
		}
		there[c.ID] = true
		loads, known := g.loads(c, now)
		if !known {
			return
		}
		seen := g.seen[c.ID]
		switch fewer := c.Growth.Needs(loads); {
		case !fewer:
			seen.calm = time.Time{}
		case seen.calm.IsZero():
			seen.calm = now
		}
		calm := !seen.calm.IsZero() && now.Sub(seen.calm) >= g.n.settings.growthCalm
		most := min(g.n.place.Cluster.Partitions, int(c.MemoryLimit/tenants.MinMemoryLimit))
		want := c.Growth.Ranges(loads, most, calm)
		if want == len(c.Ranges) {
			return
		}
		g.n.tell(c.Ranges[0].Partition, fmt.Sprintf("%s/%s: is to have %d ranges instead of %d, by its load", c.Tenant, c.Name, want, len(c.Ranges)))
		if _, err := g.n.accounts.ScaleCache(ctx, c.Tenant, c.Name, want); err != nil && ctx.Err() == nil {
			g.n.log.Warn("a cache that has outgrown its ranges could not be given others", "cache", c.Tenant+"/"+c.Name, "error", err)
		}
	})
	for id := range g.seen {
		if !there[id] {
			delete(g.seen, id)
		}
	}
}

// loads are what the ranges of a cache bear, one for each partition. known is false the first time, and when a leader cannot be
// reached or has changed.
func (g *growth) loads(c *tenants.Cache, now time.Time) (loads []tenants.RangeLoad, known bool) {
	before, calls := g.seen[c.ID], map[placement.PartitionID]int64{}
	known = before != nil
	for _, p := range c.Partitions() {
		at, ok := g.n.executor(p).(interface {
			Stats(engine.CacheID) (engine.Stats, bool)
		})
		if !ok {
			return nil, false
		}
		s, ok := at.Stats(c.ID)
		if !ok {
			return nil, false
		}
		calls[p] = s.Calls
		load := tenants.RangeLoad{Bytes: s.Bytes}
		if before != nil {
			last, was := before.calls[p]
			if load.Ops = int64(float64(s.Calls-last) / now.Sub(before.at).Seconds()); !was || load.Ops < 0 {
				known = false
			}
		}
		loads = append(loads, load)
	}
	if before == nil {
		before = &grown{}
		g.seen[c.ID] = before
	}
	before.at, before.calls = now, calls
	return loads, known
}
