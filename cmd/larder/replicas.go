package main

import (
	"context"
	"io"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/httpapi"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/wire"
	"github.com/larder-cache/larder/redisapi"
	"github.com/larder-cache/larder/tenants"
	"github.com/larder-cache/larder/transfer"
)

// Bounds of what is kept for a replica, and how much that is usually, as with Redis.
const (
	minBacklog   = 1 << 20
	usualBacklog = 256 << 20
	maxBacklog   = 16 << 30
)

// replicaSource sends caches to replicas of Redis.
type replicaSource struct {
	n     *node
	flows *transfer.Outflows
}

// openReplicas makes the source.
func (n *node) openReplicas() redisapi.Source {
	flows := &transfer.Outflows{
		Rooms: transfer.Rooms(n.settings.dataDir), Server: version, Now: time.Now, Log: n.log,
		Backlog: n.settings.replicaBacklog, Total: max(n.settings.replicaBacklog, wire.Memory()/10),
		Messages: n.gateway.Hub().Overhear,
	}
	n.later(flows.Close)
	return replicaSource{n, flows}
}

// Follow implements redisapi.Source.
func (r replicaSource) Follow(c *tenants.Cache, stream string, offset int64, to io.WriteCloser) (redisapi.Following, error) {
	f, err := r.flows.Follow(c.ID, stream, offset, to, func(ctx context.Context) ([]transfer.FollowedCut, []transfer.Feed, error) {
		now, ok := r.n.accounts.Cache(c.Tenant, c.Name) // it may have moved since
		if !ok || now.ID != c.ID {
			return nil, nil, fault.New(fault.NotFound, "replicas.follow", "the cache is not there any more")
		}
		cuts, feeds, err := snapshotEngine{r.n}.follow(ctx, httpapi.ToCut(r.n.accounts, now), engine.CutOptions{NoOnce: true, NoFlush: true})
		if err != nil {
			return nil, nil, err
		}
		followed, fed := make([]transfer.FollowedCut, len(cuts)), make([]transfer.Feed, len(cuts))
		for i := range cuts {
			followed[i], fed[i] = cuts[i], feeds[i]
		}
		return followed, fed, nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}
