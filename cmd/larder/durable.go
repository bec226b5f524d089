package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
	"github.com/larder-cache/larder/tenants"
)

// walDir is where the write-ahead log and the state files of durable caches lie, within the data directory.
const walDir = "wal"

// vaultDir is where the write-ahead log and the state files of durable partitions lie that several nodes have, within the data
// directory.
const vaultDir = "groups"

// durableFailed ends the process.
func (n *node) durableFailed(err error) {
	n.log.Error("larder stops: durable caches cannot be read or written, and a write must not be acknowledged that could be lost", "error", err)
	os.Exit(exitFailed)
}

// holds reports whether a folder of the data directory has anything in it.
func (n *node) holds(folder string) bool {
	list, err := os.ReadDir(filepath.Join(n.settings.dataDir, folder))
	return err == nil && len(list) > 0
}

// openVault reads which replicas of durable partitions this node has, which it does before it has anything to do with others. A node
// by itself has none.
func (n *node) openVault() (err error) {
	dir := filepath.Join(n.settings.dataDir, vaultDir)
	if n.vault, err = replication.NewVault(replication.VaultConfig{
		Dir: dir, Keys: n.keys, Cluster: n.place.Cluster.ID, Node: n.settings.name, Log: n.log, LogSize: n.settings.walSize, Fail: n.durableFailed,
	}); err != nil {
		return err
	}
	if err := n.vault.Load(); err != nil {
		return fmt.Errorf("durable partitions: %w", err)
	}
	n.later(func() {
		if err := n.vault.Close(); err != nil {
			n.log.Error("the write-ahead log could not be closed", "error", err)
		}
	})
	return nil
}

// renewEvery is how often another replica is asked for in the place of a damaged one.
const renewEvery = 500 * time.Millisecond

// renew has this node become another replica of a durable partition, because it cannot be the one that it was: as soon as the others
// are a quorum, and so have the data.
func (n *node) renew(ctx context.Context, p placement.PartitionID, replica uint64) {
	for ctx.Err() == nil {
		if part, ok := n.place.Partition(p); !ok || !part.Durable {
			return
		}
		err := n.place.Renew(ctx, p, replica)
		if err == nil {
			return
		}
		select {
		case <-time.After(renewEvery):
		case <-ctx.Done():
		}
	}
}

// attendEvery is how often async partitions are looked after.
const attendEvery = 250 * time.Millisecond

// attend looks after the async partitions that have a replica here: see replication.Cluster.Attend.
func (n *node) attend(ctx context.Context) {
	tick := time.NewTicker(attendEvery)
	defer tick.Stop()
	self := n.place.Self()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, part := range n.place.Partitions() {
			if !part.Async {
				continue
			}
			c := n.peers.cluster
			replica, trail := c.Attend(part, n.place.Over(part), n.place.Quorate(part))
			own := part.Of(self.Name, self.Incarnation)
			switch {
			case trail != nil:
				if err := n.place.Offer(ctx, part.ID, part.Generation, replica, *trail); err != nil && ctx.Err() == nil && !fault.Is(err, fault.Unavailable) {
					n.log.Warn("what is left of an async partition here could not be offered; it will be tried again", "partition", part.ID, "error", err)
				}
			case replica != 0: // nothing is left that could be offered: it becomes another as soon as the others have the data
				_ = n.place.Renew(ctx, part.ID, replica) // it is refused until then
			case own != nil && part.Origin != 0 && slices.Equal(part.Founders, []uint64{own.ID}) && c.Group(part.ID) == nil:
				n.replace(part) // what failed may succeed now
			}
		}
	}
}

// readmit gives nodes another replica of an async partition that is led here, in the place of one that has ended.
func (n *node) readmit(ctx context.Context, part *placement.Partition) {
	if !part.Async {
		return
	}
	for _, r := range part.Replicas {
		if r.Trail == nil {
			continue
		}
		if err := n.place.Readmit(ctx, part.ID, part.Generation, r.ID); err != nil && ctx.Err() == nil && !fault.Is(err, fault.Unavailable) {
			n.log.Warn("a node cannot be given another replica of an async partition; it will be tried again", "partition", part.ID, "node", r.Node, "error", err)
		}
	}
}

// openKeeper makes what keeps the durable caches of a node that serves by itself. It comes before the partitions are started. In a
// cluster of several the vault keeps whole partitions.
func (n *node) openKeeper() error {
	dir := filepath.Join(n.settings.dataDir, walDir)
	if n.peers != nil {
		n.accounts.KeepApart(replication.FormatDurable, replication.FormatAsync)
		if n.holds(walDir) {
			return refuse("peer-addr", "%s holds durable caches of a node that served by itself, and a cluster of several nodes does not serve these: start it without --peer-addr, make them \"memory\" or take snapshots, or give another --data-dir", dir)
		}
		return nil
	}
	if n.holds(vaultDir) {
		return refuse("peer-addr", "%s holds durable partitions of a cluster of several nodes, and a node by itself does not serve these: give it --peer-addr, or another --data-dir", filepath.Join(n.settings.dataDir, vaultDir))
	}
	var err error
	n.keeper, err = replication.NewKeeper(n.host, replication.KeeperConfig{
		Dir: dir, Keys: n.keys, Cluster: n.place.Cluster.ID, Node: n.settings.name, Log: n.log, LogSize: n.settings.walSize,
		Fail:   n.durableFailed,
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
	if n.peers != nil { // it is of the class of its partitions
		return
	}
	class, err := replication.ParseClass(c.Durability)
	for _, p := range c.Involved() {
		if err == nil {
			err = n.host.Keep(p, c.ID, class)
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
		if n.peers != nil {
			class := replication.Memory
			if part, ok := n.place.Partition(r.Partition); ok {
				class, _ = replication.ParseClass(part.Class())
			}
			lowest = min(lowest, class)
			continue
		}
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
		here[c.ID] = slices.Contains(c.Involved(), l.Partition())
	})
	for _, id := range l.Caches() {
		if !here[id] {
			err = errors.Join(err, n.host.Configure(l.Partition(), id, nil))
		}
	}
	return err
}
