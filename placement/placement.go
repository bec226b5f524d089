// Package placement knows where data lives: how keys fall into slots, which partition holds a range of slots,
// and which node hosts a partition.
//
// All of it is control data in etcd, mirrored in memory and on disk, so that looking up a place never waits
// for etcd and goes on without it. Start with Slot, then Open.
package placement

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
)

// DefaultPartitions is how many partitions a new cluster has. Few are enough: a partition holds slot ranges of
// many caches, and each costs log entries and heartbeats of its own.
const DefaultPartitions = 16

// nodeTTL is how long a node's record outlives its process.
const nodeTTL = 10 * time.Second

// PartitionID numbers the partitions of a cluster from 0.
type PartitionID uint16

func (id PartitionID) name() string { return fmt.Sprintf("%05d", id) }

// A Cluster is the record that makes an etcd prefix a Larder cluster.
type Cluster struct {
	ID         string    `json:"id"` // 128 random bits in hex
	Partitions int       `json:"partitions"`
	CreatedAt  time.Time `json:"created_at"`
}

// A Partition is one replicated state machine and who hosts it.
type Partition struct {
	ID       PartitionID `json:"id"`
	Seed     [2]uint64   `json:"seed"`     // see engine.Seed
	Replicas []string    `json:"replicas"` // names of nodes; the first leads
}

// A Node is a process of the cluster. Its record lives as long as its lease.
type Node struct {
	Name        string    `json:"name"`
	Zone        string    `json:"zone"`
	Roles       []string  `json:"roles"`
	Version     string    `json:"version"`
	HTTP        string    `json:"http"`        // where its API listens
	Incarnation string    `json:"incarnation"` // random, new at each start
	StartedAt   time.Time `json:"started_at"`
}

// A Map is the current picture of the cluster.
type Map struct {
	Cluster    Cluster
	self       Node
	m          *mirror.Mirror
	partitions *records.Table[Partition]
	nodes      *records.Table[Node]
	session    *mirror.Session
}

// Config says who joins.
type Config struct {
	Self       Node // Incarnation and StartedAt are filled in
	Partitions int  // for a cluster that does not exist yet; 0 means DefaultPartitions
	Hosts      bool // this node hosts replicas: it takes the partitions that nobody has
}

// Open reads the picture from the mirror, makes the cluster if there is none, registers this node under a
// lease, and takes partitions that have no replica. Without etcd it returns what the mirror knew last, and
// registers when etcd is back.
func Open(ctx context.Context, m *mirror.Mirror, cfg Config, log *slog.Logger) (*Map, error) {
	p := &Map{
		m: m, self: cfg.Self,
		partitions: records.Open[Partition](m, "partition", "partitions", log),
		nodes:      records.Open[Node](m, "node", "nodes", log),
	}
	p.self.Incarnation, p.self.StartedAt = rand.Text(), time.Now().UTC().Truncate(time.Millisecond)
	if err := p.found(ctx, cfg.Partitions); err != nil {
		return nil, err
	}
	if cfg.Hosts {
		if err := p.claim(ctx); err != nil && !fault.Is(err, fault.Unavailable) {
			return nil, err
		}
	}
	record, err := json.Marshal(p.self)
	if err != nil {
		return nil, err
	}
	if p.session, err = m.NewSession(nodeTTL); err != nil {
		return nil, err
	}
	if _, err := p.session.Put(ctx, records.Root+"nodes/"+p.self.Name, record); err != nil && !errors.Is(err, mirror.ErrUnavailable) {
		return nil, fmt.Errorf("placement: registering node %q: %w", p.self.Name, err)
	}
	return p, nil
}

// found reads the cluster's record or writes the first.
func (p *Map) found(ctx context.Context, partitions int) error {
	key := records.Root + "cluster"
	if partitions == 0 {
		partitions = DefaultPartitions
	}
	for {
		if r, ok := p.m.Get(key); ok {
			if err := json.Unmarshal(r.Value, &p.Cluster); err != nil {
				return fmt.Errorf("placement: the cluster's record cannot be read: %w", err)
			}
			return p.fill(ctx)
		}
		id := make([]byte, 16)
		rand.Read(id)
		record, err := json.Marshal(Cluster{ID: hex.EncodeToString(id), Partitions: partitions, CreatedAt: time.Now().UTC().Truncate(time.Millisecond)})
		if err != nil {
			return err
		}
		if _, err := p.m.Create(ctx, key, record); err != nil && !errors.Is(err, mirror.ErrConflict) {
			return fmt.Errorf("placement: founding the cluster: %w", err)
		}
	}
}

// fill creates the partitions' records that are missing.
func (p *Map) fill(ctx context.Context) error {
	for id := range PartitionID(p.Cluster.Partitions) {
		if _, ok := p.partitions.Get(id.name()); ok {
			continue
		}
		var seed [16]byte
		rand.Read(seed[:])
		err := p.partitions.Create(ctx, id.name(), &Partition{ID: id, Seed: [2]uint64{binary.BigEndian.Uint64(seed[:8]), binary.BigEndian.Uint64(seed[8:])}})
		if err != nil && !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return nil
}

// claim makes this node the replica of each partition that has none.
func (p *Map) claim(ctx context.Context) error {
	all, _ := p.partitions.List("", "", 0)
	for _, part := range all {
		if len(part.Replicas) > 0 {
			continue
		}
		_, err := p.partitions.Update(ctx, part.ID.name(), func(now *Partition) error {
			if len(now.Replicas) == 0 {
				now.Replicas = []string{p.self.Name}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Hosted lists the partitions that this node hosts a replica of.
func (p *Map) Hosted() []*Partition {
	all, _ := p.partitions.List("", "", 0)
	return slices.DeleteFunc(all, func(part *Partition) bool { return !slices.Contains(part.Replicas, p.self.Name) })
}

// Partitions lists all partitions in order of their numbers.
func (p *Map) Partitions() []*Partition {
	all, _ := p.partitions.List("", "", 0)
	return all
}

// Nodes lists the nodes whose leases were alive when etcd was last heard.
func (p *Map) Nodes() []*Node {
	all, _ := p.nodes.List("", "", 0)
	return all
}

// Choose picks the partition for a new cache: the one with the least of load, which the caller counts, among
// those that have a replica.
func (p *Map) Choose(load func(PartitionID) int64) (PartitionID, error) {
	all, _ := p.partitions.List("", "", 0)
	all = slices.DeleteFunc(all, func(part *Partition) bool { return len(part.Replicas) == 0 })
	if len(all) == 0 {
		return 0, fault.New(fault.Unavailable, "placement.choose", "no engine node hosts a partition yet")
	}
	best := slices.MinFunc(all, func(a, b *Partition) int { return cmp.Compare(load(a.ID), load(b.ID)) })
	return best.ID, nil
}

// Close takes this node's record out of etcd, as far as etcd answers before ctx ends.
func (p *Map) Close(ctx context.Context) error { return p.session.Close(ctx) }
