package main

import (
	"context"
	"slices"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/tenants"
)

// strangerTime is how long nothing has to happen in a cache that has no record until it is taken for one that is gone. One that is being
// restored has none either, and is written to.
var strangerTime = 2 * time.Minute

// strangersEvery is how often they are looked for.
const strangersEvery = 5 * time.Second

// strangers are caches in partitions that are led here, of which there is no record, or one that has them elsewhere: they were deleted, or
// moved, while no node was there that had the partition.
type strangers struct {
	n    *node
	last time.Time
	seen map[stranger]*sighting
}

type stranger struct {
	partition placement.PartitionID
	cache     engine.CacheID
}

// A sighting is what a stranger was like when something had last happened in it.
type sighting struct {
	since time.Time
	stats engine.Stats
}

// look drops those that have been at rest for long enough, and are strangers by what the control store says now.
func (s *strangers) look(ctx context.Context, now time.Time) {
	if now.Sub(s.last) < min(strangersEvery, strangerTime/2) {
		return
	}
	s.last = now
	there, due := map[stranger]bool{}, map[stranger]*replication.Group{}
	for _, g := range s.n.peers.cluster.Groups() {
		p := placement.PartitionID(g.Status().Partition)
		for _, id := range s.find(p, g) {
			at := stranger{p, id}
			there[at] = true
			stats, known := g.Stats(id)
			before := s.seen[at]
			switch {
			case !known:
			case before == nil || before.stats.Calls != stats.Calls || before.stats.Bytes != stats.Bytes:
				s.seen[at] = &sighting{now, stats}
			case now.Sub(before.since) >= strangerTime:
				due[at] = g
			}
		}
	}
	for at := range s.seen {
		if !there[at] {
			delete(s.seen, at)
		}
	}
	if len(due) == 0 || s.n.mirror.Sync(ctx) != nil { // nobody may have told this node yet
		return
	}
	for at, g := range due {
		if slices.Contains(s.find(at.partition, g), at.cache) {
			s.n.log.Info("a cache that is gone is removed from a partition", "partition", at.partition, "cache", at.cache)
			g.Configure(at.cache, nil)
		}
	}
}

// find lists the strangers of a partition.
func (s *strangers) find(p placement.PartitionID, g *replication.Group) (list []engine.CacheID) {
	all := g.Caches()
	if len(all) == 0 {
		return nil
	}
	here := map[engine.CacheID]bool{}
	s.n.accounts.EachCache("", func(c *tenants.Cache) {
		here[c.ID] = slices.Contains(c.Involved(), p)
	})
	return slices.DeleteFunc(all, func(id engine.CacheID) bool { return here[id] })
}
