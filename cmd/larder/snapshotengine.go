package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/snapshots"
)

// snapshotDir is where snapshots lie unless there is another store, within the data directory.
const snapshotDir = "snapshots"

// openSnapshots opens the store and the service.
func (n *node) openSnapshots(ctx context.Context, m *mirror.Mirror) error {
	dir := filepath.Join(n.settings.dataDir, snapshotDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	bucket, err := openBucket(dir)
	if err != nil {
		return fmt.Errorf("the store of snapshots: %w", err)
	}
	n.later(func() { _ = bucket.Close() })
	var refused error
	if n.peers != nil {
		refused = fault.New(fault.NotSupported, "snapshots", "snapshots of a cache whose partitions are replicated over nodes are not there yet: only a node without --peer-addr makes and restores them")
	}
	n.snapshots, err = snapshots.Open(ctx, snapshots.Config{
		Mirror: m, Bucket: bucket, KMS: n.keys, Cluster: n.place.Cluster.ID, Node: n.settings.name, Engine: snapshotEngine{n}, Refused: refused, Now: time.Now, Log: n.log,
	})
	if err != nil {
		return err
	}
	n.later(n.snapshots.Close)
	return nil
}

func openBucket(dir string) (*blob.Bucket, error) {
	return fileblob.OpenBucket(dir, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite, DirFileMode: 0o700})
}

// snapshotEngine is the partitions of this process, as snapshots see them.
type snapshotEngine struct{ n *node }

func (e snapshotEngine) local(c *snapshots.Cache, target int) (*replication.Local, error) {
	if l := e.n.host.Local(placement.PartitionID(c.Place[target])); l != nil {
		return l, nil
	}
	return nil, fault.New(fault.Unavailable, "snapshots", "a partition of the cache is on another node, which cannot be reached for this yet")
}

// Cut implements snapshots.Engine.
func (e snapshotEngine) Cut(c *snapshots.Cache, o engine.CutOptions) (list []snapshots.Cut, err error) {
	locals := make([]*replication.Local, len(c.Place))
	for i := range c.Place {
		if locals[i], err = e.local(c, i); err != nil {
			return nil, err
		}
	}
	cuts, err := replication.CutCache(locals, c.ID, o)
	for _, cut := range cuts {
		list = append(list, cut)
	}
	return list, err
}

// Items implements snapshots.Engine.
func (e snapshotEngine) Items(c *snapshots.Cache) (n int64) {
	for i := range c.Place {
		if l, err := e.local(c, i); err == nil {
			s, _ := l.Stats(c.ID)
			n += s.Items
		}
	}
	return n
}

// Execute implements snapshots.Engine.
func (e snapshotEngine) Execute(ctx context.Context, c *snapshots.Cache, target int, t *engine.Task) error {
	l, err := e.local(c, target)
	if err != nil {
		return err
	}
	return l.Execute(ctx, t)
}
