package main

import (
	"context"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	_ "gocloud.dev/blob/azureblob" // azblob://
	_ "gocloud.dev/blob/gcsblob"   // gs://
	_ "gocloud.dev/blob/s3blob"    // s3://

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/httpapi"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/peerlink"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/replication/cutlink"
	"github.com/larder-cache/larder/snapshots"
)

// Where snapshots lie, within the data directory: those of a node without another store, and those on their way to one.
const (
	snapshotDir = "snapshots"
	spoolDir    = "snapshot-spool"
)

// openSnapshots opens the store and the service.
func (n *node) openSnapshots(ctx context.Context, m *mirror.Mirror) error {
	store, err := n.openStore(ctx)
	if err != nil {
		return refuse("snapshot-store", "%v", err)
	}
	n.later(func() { _ = store.Close() })
	cfg := snapshots.Config{
		Mirror: m, Store: store, KMS: n.kms, Cluster: n.place.Cluster.ID, Node: n.settings.name, Life: n.place.Self().Incarnation, Engine: snapshotEngine{n},
		Caches: snapshotCaches{n}, Limits: n.snapshotLimits, Audit: n.auditKeys, Now: time.Now, Log: n.log, Aside: asides,
	}
	if n.peers != nil {
		cfg.Peers, cfg.Alive = snapshotPeers{n.peers.links}, n.alive
	}
	if n.snapshots, err = snapshots.Open(ctx, cfg); err != nil {
		return err
	}
	n.later(n.snapshots.Close)
	decides := func() bool { return true }
	if n.peers != nil {
		decides = n.place.Controls
		n.peers.links.HandleStream(peerlink.KindSnap, n.snapshots.ServePeer)
		n.peers.links.HandleStream(peerlink.KindCuts, func(from string, s io.ReadWriteCloser) {
			if err := cutlink.Serve(s, n.holder); err != nil {
				n.log.Warn("a cut of a cache was not taken to its end", "by", from, "error", err)
			}
		})
	}
	n.loop(func(ctx context.Context) { n.snapshots.Run(ctx, decides) })
	if n.shared != nil {
		n.loop(n.shared.run)
	}
	return nil
}

// openStore opens where snapshots lie: a directory of this node, unless something else is set.
func (n *node) openStore(ctx context.Context) (*snapshots.Store, error) {
	at := n.settings.snapshotStore
	if at == "" {
		dir, err := filepath.Abs(filepath.Join(n.settings.dataDir, snapshotDir))
		if err == nil {
			err = os.MkdirAll(dir, 0o700)
		}
		if err != nil {
			return nil, err
		}
		at = (&url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}).String()
	}
	return snapshots.OpenStore(ctx, at, filepath.Join(n.settings.dataDir, spoolDir))
}

// alive reports whether a process is there.
func (n *node) alive(name, life string) bool {
	record, ok := n.place.Node(name)
	return ok && record.Incarnation == life
}

// snapshotLimits are what a tenant may have.
func (n *node) snapshotLimits(tenant string) snapshots.Limits {
	t, ok := n.accounts.Get(tenant)
	if !ok {
		return snapshots.Limits{}
	}
	return snapshots.Limits{Snapshots: t.Limits.Snapshots, Bytes: t.Limits.SnapshotBytes}
}

// auditKeys has what happened to keys stand in the log of events that operators read.
func (n *node) auditKeys(what string) {
	n.log.Info("keys", "event", what)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := n.place.Record(ctx, nil, "", what); err != nil {
		n.log.Error("an event is missing in the log of events", "event", what, "error", err)
	}
}

// snapshotPeers opens streams to the services of other nodes.
type snapshotPeers struct{ links *peerlink.Links }

func (p snapshotPeers) Open(ctx context.Context, node string) (io.ReadWriteCloser, error) {
	return p.links.Open(ctx, node, peerlink.KindSnap)
}

// snapshotCaches is what caches there are.
type snapshotCaches struct{ n *node }

func (c snapshotCaches) Find(tenant, tenantID, name string) (*snapshots.Cache, bool) {
	cache, ok := c.n.accounts.Cache(tenant, name)
	if !ok || string(cache.TenantID) != tenantID {
		return nil, false
	}
	return httpapi.ToCut(c.n.accounts, cache), true
}

func (c snapshotCaches) Stands(tenant, name string, id engine.CacheID) bool {
	cache, ok := c.n.accounts.Cache(tenant, name)
	return ok && cache.ID == id
}

func (c snapshotCaches) Owners() map[string]bool { return c.n.accounts.IDs() }

// snapshotEngine is the partitions of the cluster, as snapshots see them.
type snapshotEngine struct{ n *node }

// holder finds a partition in this process, nil for none.
func (n *node) holder(id placement.PartitionID) replication.Holder {
	switch r := n.host.Replica(id).(type) {
	case *replication.Group:
		return r
	case *replication.Local:
		return r
	}
	return nil
}

// Cut implements snapshots.Engine.
func (e snapshotEngine) Cut(ctx context.Context, c *snapshots.Cache, o engine.CutOptions) (list []snapshots.Cut, err error) {
	parts, options, err := e.parts(c, o, false)
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	cuts, err := replication.CutCache(ctx, parts, c.ID, options, c.Same)
	if err != nil {
		return nil, err
	}
	e.n.log.Info("a cache is cut", "tenant", c.Tenant, "cache", c.Name, "partitions", len(cuts), "writes_held", time.Since(begun).Round(time.Microsecond))
	for _, cut := range cuts {
		list = append(list, cut)
	}
	return list, nil
}

// follow is Cut, with what becomes of the cache from there on.
func (e snapshotEngine) follow(ctx context.Context, c *snapshots.Cache, o engine.CutOptions) ([]replication.Cut, []replication.Feed, error) {
	parts, options, err := e.parts(c, o, true)
	if err != nil {
		return nil, nil, err
	}
	begun := time.Now()
	cuts, feeds, err := replication.FollowCache(ctx, parts, c.ID, options, c.Same)
	if err == nil {
		e.n.log.Info("a replica of Redis follows a cache", "tenant", c.Tenant, "cache", c.Name, "partitions", len(cuts), "writes_held", time.Since(begun).Round(time.Microsecond))
	}
	return cuts, feeds, err
}

// parts finds a cache's partitions, and says what is to be in the cut of each.
func (e snapshotEngine) parts(c *snapshots.Cache, o engine.CutOptions, follows bool) (parts []replication.Holder, of func(part int) engine.CutOptions, err error) {
	parts = make([]replication.Holder, len(c.Place))
	options := make([]cutlink.Options, len(c.Place))
	for i, id := range c.Place {
		options[i] = cutlink.Options{Prefix: o.Prefix, NoOnce: o.NoOnce, NoFlush: o.NoFlush, DataOnly: o.DataOnly}
		if len(c.Place) > 1 {
			options[i].Slots = c.Slots(i)
		}
		if parts[i], err = e.at(placement.PartitionID(id), options[i], follows); err != nil {
			return nil, nil, err
		}
	}
	return parts, func(part int) engine.CutOptions { return options[part].Cut() }, nil
}

// at finds a partition that this node leads, or the way to those who may.
func (e snapshotEngine) at(id placement.PartitionID, o cutlink.Options, follows bool) (replication.Holder, error) {
	here := e.n.holder(id)
	if group, ok := here.(*replication.Group); here != nil && (!ok || group.Leads()) {
		return here, nil
	}
	record, ok := e.n.place.Partition(id)
	if !ok || e.n.peers == nil {
		return nil, fault.New(fault.Unavailable, "snapshots.cut", "partition %d is on no node in reach", id)
	}
	nodes := record.Names()
	if s, ok := e.n.place.Status(id); ok && s.Leader != "" {
		nodes = append([]string{s.Leader}, nodes...)
	}
	nodes = slices.DeleteFunc(nodes, func(name string) bool { return name == e.n.settings.name })
	return &cutlink.Far{Links: e.n.peers.links, Kind: peerlink.KindCuts, Partition: id, Nodes: nodes, Options: o, Follow: follows}, nil
}

// Items implements snapshots.Engine.
func (e snapshotEngine) Items(c *snapshots.Cache) (sum int64) {
	for _, id := range c.Place {
		if at, ok := e.n.executor(placement.PartitionID(id)).(interface {
			Stats(engine.CacheID) (engine.Stats, bool)
		}); ok {
			s, _ := at.Stats(c.ID)
			sum += s.Items
		}
	}
	return sum
}

// Execute implements snapshots.Engine.
func (e snapshotEngine) Execute(ctx context.Context, c *snapshots.Cache, target int, t *engine.Task) error {
	id := placement.PartitionID(c.Place[target])
	at := e.n.executor(id)
	if at == nil {
		return fault.New(fault.Unavailable, "snapshots.execute", "partition %d is on no node in reach", id)
	}
	return at.Execute(ctx, t)
}
