package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/tenants"
)

// walDir is where the write-ahead log and the state files of durable caches lie, within the data directory.
const walDir = "wal"

// openKeeper makes what keeps the durable caches. It comes before the partitions are started. A node of a cluster of several has
// none: what its replicas hold is not written down.
func (n *node) openKeeper() error {
	dir := filepath.Join(n.settings.dataDir, walDir)
	if n.peers != nil {
		n.accounts.RefuseDurable(fault.About(fault.NotSupported, "tenants.cache", "durability", "durability is \"memory\" in a cluster whose partitions are replicated over nodes: only a node without --peer-addr writes caches to disk"))
		if list, err := os.ReadDir(dir); err == nil && len(list) > 0 {
			return refuse("peer-addr", "%s holds durable caches of a node that served by itself, and a cluster of several nodes does not serve these: start it without --peer-addr, make them \"memory\" or take snapshots, or give another --data-dir", dir)
		}
		return nil
	}
	var err error
	n.keeper, err = replication.NewKeeper(n.host, replication.KeeperConfig{
		Dir: dir, Keys: n.keys, Cluster: n.place.Cluster.ID, Node: n.settings.name, Log: n.log, LogSize: n.settings.walSize,
		Fail: func(err error) {
			n.log.Error("larder stops: durable caches cannot be read or written, and a write must not be acknowledged that could be lost", "error", err)
			os.Exit(exitFailed)
		},
		Loaded: n.dropStrangersOf,
	})
	return err
}

// loadDurable begins to load the durable caches, behind what the last process has handed over. The partitions serve as they are
// loaded.
func (n *node) loadDurable() error {
	if err := n.keeper.Load(); err != nil {
		return fmt.Errorf("durable caches: %w", err)
	}
	n.later(func() {
		if err := n.keeper.Close(); err != nil {
			n.log.Error("the write-ahead log could not be closed", "error", err)
		}
	})
	return nil
}

// keep tells the partitions here of which class a cache is.
func (n *node) keep(c *tenants.Cache) {
	class, err := replication.ParseClass(c.Durability)
	for _, r := range c.Ranges {
		if err == nil && (n.peers == nil || class != replication.Memory) {
			err = n.host.Keep(r.Partition, c.ID, class)
		}
	}
	if err != nil {
		n.log.Error("a cache is not as durable as it should be", "cache", c.HexID, "durability", c.Durability, "error", err)
	}
}

// durability tells of which class a cache is at this moment: a change takes until a state file is written.
func (n *node) durability(c *tenants.Cache) string {
	lowest := replication.Durable
	for _, r := range c.Ranges {
		local := n.host.Local(r.Partition)
		if local == nil {
			return replication.Memory.String()
		}
		class, done := local.Durability(c.ID)
		if !done {
			class = replication.Memory
		}
		lowest = min(lowest, class)
	}
	return lowest.String()
}

// dropStrangersOf drops caches of a partition that are no more, or are elsewhere.
func (n *node) dropStrangersOf(l *replication.Local) (err error) {
	here := map[engine.CacheID]bool{}
	n.accounts.EachCache("", func(c *tenants.Cache) {
		for _, r := range c.Ranges {
			here[c.ID] = here[c.ID] || r.Partition == l.Partition()
		}
	})
	for _, id := range l.Caches() {
		if !here[id] {
			err = errors.Join(err, n.host.Configure(l.Partition(), id, nil))
		}
	}
	return err
}
