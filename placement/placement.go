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
	"sync/atomic"
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

// A Node is a process of the cluster. Its record lives as long as its lease.
type Node struct {
	Name        string    `json:"name"`
	Zone        string    `json:"zone"`
	Roles       []string  `json:"roles"`
	Version     string    `json:"version"`
	HTTP        string    `json:"http"`               // where its API listens
	Peer        string    `json:"peer,omitempty"`     // where other nodes reach it, host:port; "" when they cannot
	Number      uint8     `json:"number,omitempty"`   // of a node that hosts replicas, 1 to 255; nobody else in the cluster has it
	Capacity    int64     `json:"capacity,omitempty"` // bytes of memory that it would give to data; 0 for unsaid
	Incarnation string    `json:"incarnation"`        // random, new at each start
	StartedAt   time.Time `json:"started_at"`
	Format      int       `json:"format,omitempty"`   // the newest form of replication's entries that it reads
	Stopping    bool      `json:"stopping,omitempty"` // its process is about to end: nobody hands it a partition to lead
}

// A Map is the current picture of the cluster.
type Map struct {
	Cluster    Cluster
	self       Node
	m          *mirror.Mirror
	partitions *records.Table[Partition]
	nodes      *records.Table[Node]
	members    *records.Table[Member]
	statuses   *records.Table[Status]
	events     *records.Table[Event]
	keeps      Keeps
	controls   atomic.Bool
	missed     missing              // of the controller
	hosted     atomic.Bool          // the records know this process, if it hosts replicas
	assumed    map[PartitionID]bool // records that do so here and not yet in etcd; of Open, then of Settle
	log        *slog.Logger
	session    *mirror.Session
}

// Config says who joins.
type Config struct {
	Self       Node  // Incarnation and StartedAt are filled in
	Partitions int   // for a cluster that does not exist yet; 0 means DefaultPartitions
	Hosts      bool  // this node hosts replicas: it takes the partitions that nobody has
	Keeps      Keeps // of partitions that are on disk; nil for none
}

// Open reads the picture from the mirror, makes the cluster if there is none, registers this node under a
// lease, and takes partitions that have no replica. Without etcd it returns what the mirror knew last, and
// registers when etcd is back.
func Open(ctx context.Context, m *mirror.Mirror, cfg Config, log *slog.Logger) (*Map, error) {
	p := &Map{
		m: m, self: cfg.Self, keeps: cfg.Keeps,
		partitions: records.Open[Partition](m, "partition", "partitions", log),
		nodes:      records.Open[Node](m, "node", "nodes", log),
		members:    records.Open[Member](m, "node", "members", log),
		statuses:   records.Open[Status](m, "status", "partition-status", log),
		events:     records.Open[Event](m, "event", "events", log),
		log:        log,
	}
	p.self.Incarnation, p.self.StartedAt = rand.Text(), time.Now().UTC().Truncate(time.Millisecond)
	if err := p.found(ctx, cfg.Partitions); err != nil {
		return nil, err
	}
	if cfg.Hosts {
		if err := p.number(ctx); err != nil {
			return nil, err
		}
		if err := p.host(ctx); err != nil && !fault.Is(err, fault.Unavailable) {
			return nil, err
		} else if err != nil {
			p.assume()
		}
	}
	p.hosted.Store(!cfg.Hosts || p.hosted.Load())
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
		if err := p.create(ctx, id, Memory); err != nil {
			return err
		}
	}
	return nil
}

// host makes this node the replica of each partition that has none. Replicas that an earlier process of this node hosted have
// died with it: they get new ids.
func (p *Map) host(ctx context.Context) error {
	all, _ := p.partitions.List("", "", 0)
	for _, part := range all {
		_, err := p.partitions.Update(ctx, part.ID.name(), func(now *Partition) error {
			if !now.Settle(&p.self, p.keeps) && !p.assumed[part.ID] {
				return errMoot
			}
			return nil
		})
		if err != nil && err != errMoot {
			return err
		}
		delete(p.assumed, part.ID)
	}
	p.hosted.Store(true)
	return nil
}

// assume has this process take for done what etcd cannot be asked for. The records are shared, but nobody else reads them yet.
func (p *Map) assume() {
	p.assumed = map[PartitionID]bool{}
	all, _ := p.partitions.List("", "", 0)
	for _, part := range all {
		if part.Settle(&p.self, p.keeps) {
			p.assumed[part.ID] = true
		}
	}
}

// settleEvery is how often Settle tries.
const settleEvery = 500 * time.Millisecond

// Settle makes the records true of this process that Open could not change because etcd was away, as soon as it is back. It
// returns when that is done, or ctx ends.
func (p *Map) Settle(ctx context.Context) {
	for !p.hosted.Load() {
		select {
		case <-time.After(settleEvery):
		case <-ctx.Done():
			return
		}
		if err := p.host(ctx); err != nil && !fault.Is(err, fault.Unavailable) && ctx.Err() == nil {
			p.log.Warn("the replicas of this process are not known to the others yet; trying again", "error", err)
		}
	}
}

// numbersKey holds the number of each node that ever hosted replicas, by its name.
const numbersKey = records.Root + "node-numbers"

// number gives this node the number that it always had, or one that no other node has.
func (p *Map) number(ctx context.Context) error {
	for {
		var numbers map[string]uint8
		record, found := p.m.Get(numbersKey)
		if found {
			if err := json.Unmarshal(record.Value, &numbers); err != nil {
				return fmt.Errorf("placement: the numbers of the nodes cannot be read: %w", err)
			}
		}
		if n := numbers[p.self.Name]; n != 0 {
			p.self.Number = n
			return nil
		}
		taken := [256]bool{0: true}
		for _, n := range numbers {
			taken[n] = true
		}
		free := slices.Index(taken[:], false)
		if free < 0 {
			return fmt.Errorf("placement: node %q: a cluster has at most 255 nodes that host data, and 255 have been part of this one", p.self.Name)
		}
		if numbers == nil {
			numbers = map[string]uint8{}
		}
		numbers[p.self.Name] = uint8(free)
		value, err := json.Marshal(numbers)
		if err != nil {
			return err
		}
		if found {
			_, err = p.m.Update(ctx, numbersKey, value, record.ModRevision)
		} else {
			_, err = p.m.Create(ctx, numbersKey, value)
		}
		switch {
		case errors.Is(err, mirror.ErrUnavailable) && !errors.Is(err, mirror.ErrUncertain):
			return fault.Wrap(fault.Unavailable, "placement.number", err, "the control store cannot be reached")
		case err != nil && !errors.Is(err, mirror.ErrConflict):
			return fmt.Errorf("placement: numbering node %q: %w", p.self.Name, err)
		case err == nil:
			p.self.Number = uint8(free)
			return nil
		}
	}
}

// Hosted lists the partitions that this node hosts a replica of.
func (p *Map) Hosted() []*Partition {
	all, _ := p.partitions.List("", "", 0)
	return slices.DeleteFunc(all, func(part *Partition) bool { return part.On(p.self.Name) == nil })
}

// Self is this node's record.
func (p *Map) Self() Node { return p.self }

// Node returns the record of a node whose lease was alive when etcd was last heard.
func (p *Map) Node(name string) (*Node, bool) { return p.nodes.Get(name) }

// Partition returns the record of a partition.
func (p *Map) Partition(id PartitionID) (*Partition, bool) { return p.partitions.Get(id.name()) }

// OnPartitionChange calls fn for each partition there is, then whenever a record changes, in order. fn must be quick, must
// not write and must not ask this Map; call it before the process serves.
func (p *Map) OnPartitionChange(fn func(*Partition)) {
	p.partitions.OnChange(func(_ string, _, now *Partition) {
		if now != nil {
			fn(now)
		}
	})
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

// Format is the newest form of replication's entries that every node reads which is there.
func (p *Map) Format() int {
	least := p.self.Format
	for _, n := range p.Nodes() {
		least = min(least, n.Format)
	}
	return least
}

// Choose picks the partition for a new cache of a class: the one with the least of load, which the caller counts, among those that
// have a replica.
func (p *Map) Choose(class string, load func(PartitionID) int64) (PartitionID, error) {
	all, _ := p.partitions.List("", "", 0)
	all = slices.DeleteFunc(all, func(part *Partition) bool { return len(part.Replicas) == 0 || part.Class() != class })
	if len(all) == 0 {
		return 0, fault.New(fault.Unavailable, "placement.choose", "no engine node hosts a partition yet")
	}
	best := slices.MinFunc(all, func(a, b *Partition) int { return cmp.Compare(load(a.ID), load(b.ID)) })
	return best.ID, nil
}

// wantEvery is how often it is looked whether partitions have been given replicas.
const wantEvery = 20 * time.Millisecond

// Want returns when there are partitions of a class that outlives processes, as many as those in memory, that have replicas. The
// first who wants them makes their records, and the controller founds them. Those that are durable have the numbers behind those in
// memory, and the async ones come behind these.
func (p *Map) Want(ctx context.Context, class string) error {
	first := p.Cluster.Partitions
	if class == Async {
		first *= 2
	}
	for id := first; id < first+p.Cluster.Partitions; id++ {
		if _, ok := p.partitions.Get(PartitionID(id).name()); ok {
			continue
		}
		if err := p.create(ctx, PartitionID(id), class); err != nil {
			return err
		}
	}
	for {
		founded := 0
		for _, part := range p.Partitions() {
			if part.Class() == class && len(part.Replicas) > 0 {
				founded++
			}
		}
		if founded >= p.Cluster.Partitions {
			return nil
		}
		select {
		case <-time.After(wantEvery):
		case <-ctx.Done():
			return fault.Wrap(fault.Unavailable, "placement.want", ctx.Err(), "no node hosts the partitions of %s caches yet: try again", class)
		}
	}
}

// create makes a partition's record, unless another has done so.
func (p *Map) create(ctx context.Context, id PartitionID, class string) error {
	var seed [16]byte
	rand.Read(seed[:])
	err := p.partitions.Create(ctx, id.name(), &Partition{ID: id, Durable: class != Memory, Async: class == Async, Seed: [2]uint64{binary.BigEndian.Uint64(seed[:8]), binary.BigEndian.Uint64(seed[8:])}})
	if fault.Is(err, fault.Conflict) {
		return nil
	}
	return err
}

// Renew gives this process another replica of a durable partition in the place of one that it cannot be any more. It is refused
// while the others are no quorum: what this node has left may be all that there is.
func (p *Map) Renew(ctx context.Context, id PartitionID, replica uint64) error {
	if part, ok := p.partitions.Get(id.name()); ok {
		voters := p.voters(part)
		rest := p.voting(voters, part.Replicas) + p.voting(voters, part.Leaving)
		if slices.Contains(voters, replica) {
			rest--
		}
		if rest <= len(voters)/2 {
			return fault.New(fault.Unavailable, "placement.renew", "of the %d voters of partition %d only %d others are there: nobody is sure to have its data", len(voters), id, rest)
		}
	}
	_, err := p.partitions.Update(ctx, id.name(), func(now *Partition) error {
		own := now.On(p.self.Name)
		if own == nil || own.ID != replica {
			return errMoot
		}
		now.Renew(&p.self)
		return nil
	})
	if err == errMoot {
		return nil
	}
	return err
}

// Stop tells the others that this process is about to end.
func (p *Map) Stop(ctx context.Context) error {
	self := p.self
	self.Stopping = true
	record, err := json.Marshal(self)
	if err != nil {
		return err
	}
	_, err = p.session.Put(ctx, records.Root+"nodes/"+self.Name, record)
	return err
}

// Close takes this node's record out of etcd, as far as etcd answers before ctx ends.
func (p *Map) Close(ctx context.Context) error { return p.session.Close(ctx) }
