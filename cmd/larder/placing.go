package main

import (
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

// A node of a cluster reads its durable partitions from disk, side by side, while it serves others: those in memory, those that have been
// read, and all that other nodes lead.

// placings are the partitions that are being read from disk. What becomes of their records meanwhile waits until they have been.
type placings struct {
	mu  sync.Mutex
	now map[placement.PartitionID]*placement.Partition // a newer record, nil for none
}

// begin notes that a partition is being read.
func (p *placings) begin(id placement.PartitionID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.now == nil {
		p.now = map[placement.PartitionID]*placement.Partition{}
	}
	p.now[id] = nil
}

// later takes a newer record of a partition that is being read; false for one that is not.
func (p *placings) later(record *placement.Partition) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, busy := p.now[record.ID]
	if busy {
		p.now[record.ID] = record
	}
	return busy
}

// next returns a newer record of a partition that has been read; nil ends that.
func (p *placings) next(id placement.PartitionID) *placement.Partition {
	p.mu.Lock()
	defer p.mu.Unlock()
	newer := p.now[id]
	if p.now[id] = nil; newer == nil {
		delete(p.now, id)
	}
	return newer
}

// busy reports whether a partition is being read.
func (p *placings) busy(id placement.PartitionID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, busy := p.now[id]
	return busy
}

// loadPatience is how long a start waits for durable partitions before it serves without them: where there is not much to read, nobody
// is turned away.
const loadPatience = time.Second

// startPartitions starts the replicas that this process has. Those of durable partitions, which a cluster of several has, come when they
// have been read from disk.
func (n *node) startPartitions() (failed error) {
	var durable []*placement.Partition
	for _, p := range n.place.Partitions() {
		switch {
		case !n.hostsOne(p):
		case n.peers == nil:
			n.host.Start(p)
		case p.Durable:
			durable = append(durable, p)
			n.placing.begin(p.ID)
		default:
			failed = errors.Join(failed, n.host.Place(p))
		}
	}
	if len(durable) == 0 || failed != nil {
		return failed
	}
	line, done := make(chan *placement.Partition, len(durable)), make(chan struct{})
	for _, p := range durable {
		line <- p
	}
	close(line)
	var all sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for p := range line {
				n.read(p)
			}
		})
	}
	go func() { all.Wait(); close(done) }()
	n.later(func() { <-done })
	select {
	case <-done:
	case <-time.After(loadPatience):
	}
	return nil
}

// read has this process hold its replica of a durable partition, as its record has it when it has been read.
func (n *node) read(p *placement.Partition) {
	id, began := p.ID, time.Now()
	for ; p != nil; p = n.placing.next(id) {
		n.placeHere(p)
	}
	if took := time.Since(began); took > loadPatience {
		n.log.Info("a durable partition has been read", "partition", id, "took", took.Round(time.Millisecond))
	}
}

// placeHere does what a partition's record asks of this node.
func (n *node) placeHere(p *placement.Partition) {
	if !n.hostsOne(p) && n.local(p.ID) == nil {
		return
	}
	if err := n.host.Place(p); err != nil {
		n.log.Error("a partition could not be placed here", "partition", p.ID, "error", err)
		return
	}
	n.telling.Lock()
	defer n.telling.Unlock()
	n.known.Range(func(_, c any) bool { // a replica that is new here has heard of no cache
		cache := c.(*tenants.Cache)
		if !slices.Contains(cache.Involved(), p.ID) {
			return true
		}
		settings := cache.SettingsAt(p.ID)
		if err := n.host.Configure(p.ID, cache.ID, &settings); err != nil {
			n.log.Error("a partition could not take a cache's settings", "partition", p.ID, "error", err)
		}
		return true
	})
	if n.placed != nil {
		n.placed()
	}
}
