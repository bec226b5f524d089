package placement

import (
	"encoding/json"
	"slices"
)

// A Partition is one replicated state machine and who is to host it. The record is what is wanted: the leader of the
// partition's replicas makes their group follow it.
//
//	R1: no two replicas have the same id, no two are on one node, and no id is given out twice: Issued counts them
//	R2: Generation grows whenever the data of the generation before is given up; its group was founded by Founders
type Partition struct {
	ID         PartitionID `json:"id"`
	Seed       [2]uint64   `json:"seed"`                 // see engine.Seed
	Durable    bool        `json:"durable,omitempty"`    // its replicas are on disk; for caches that are to outlive processes
	Async      bool        `json:"async,omitempty"`      // and they acknowledge before that: one that has ended does not come back as who it was, see Trail
	Generation uint32      `json:"generation,omitempty"` // of the partition's data
	Replicas   []Replica   `json:"replicas"`             // the first is where the leader is best
	Leaving    []Replica   `json:"leaving,omitempty"`    // that others replace, and that may still vote until these have caught up
	Founders   []uint64    `json:"founders,omitempty"`   // ids of the replicas that found the group of this generation
	Origin     uint64      `json:"origin,omitempty"`     // the replica of the generation before whose trail this one began with; 0 for none
	Issued     uint64      `json:"issued,omitempty"`     // incarnations that have been given to replicas
}

// A Replica is one copy of a partition. It lives as long as the process that holds it: after a restart it is another one,
// with another id, because a replica without a disk has forgotten whom it voted for. One of a durable partition lives as long as
// the disk does, and passes from process to process.
type Replica struct {
	ID   uint64 `json:"id"` // incarnation<<8 | the node's number
	Node string `json:"node"`
	Life string `json:"life,omitempty"` // Node.Incarnation of the process that the id was made for

	Trail *Trail `json:"trail,omitempty"` // of an async partition: what is left of it, which is no member any more
}

// The classes of partitions, and of the caches that lie on them where several nodes have replicas.
const (
	Memory  = "memory"
	Async   = "async"
	Durable = "durable"
)

// Class is what becomes of a partition's data when processes end at once.
func (p *Partition) Class() string {
	switch {
	case p.Async:
		return Async
	case p.Durable:
		return Durable
	}
	return Memory
}

// UnmarshalJSON reads a replica, also from the time when it was no more than a node's name.
func (r *Replica) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		*r = Replica{}
		return json.Unmarshal(text, &r.Node)
	}
	type plain Replica
	return json.Unmarshal(text, (*plain)(r))
}

// On is the replica on a node, nil when there is none.
func (p *Partition) On(node string) *Replica {
	for i := range p.Replicas {
		if p.Replicas[i].Node == node {
			return &p.Replicas[i]
		}
	}
	return nil
}

// Of is the replica of one process of a node, wanted or leaving, nil when there is none.
func (p *Partition) Of(node, life string) *Replica {
	for _, some := range [][]Replica{p.Replicas, p.Leaving} {
		for i := range some {
			if some[i].Node == node && some[i].Life == life {
				return &some[i]
			}
		}
	}
	return nil
}

// Names lists the nodes of the replicas.
func (p *Partition) Names() []string {
	names := make([]string, len(p.Replicas))
	for i, r := range p.Replicas {
		names[i] = r.Node
	}
	return names
}

// issue makes a replica with an id of its own (R1).
func (p *Partition) issue(on *Node) Replica {
	p.Issued++
	return Replica{ID: p.Issued<<8 | uint64(on.Number), Node: on.Name, Life: on.Incarnation}
}

// Found begins a new generation, without data, with one replica on each of these nodes (R2).
func (p *Partition) Found(on ...*Node) {
	p.Generation++
	p.Replicas, p.Leaving, p.Founders, p.Origin = nil, nil, nil, 0
	for _, n := range on {
		r := p.issue(n)
		p.Replicas, p.Founders = append(p.Replicas, r), append(p.Founders, r.ID)
	}
}

// Keeps reports whether this process has a durable replica on its disk.
type Keeps func(p PartitionID, generation uint32, id uint64) bool

// Settle makes the record true of a process that has just started on a node: it takes a partition without replicas; alone
// in a partition it founds it again, because nobody else has the data; among others, or while one is leaving that may have the
// data, it is a new replica. It reports whether anything has changed. keeps may be nil for a process without a disk.
//
// A durable partition is never founded here: who says that nobody has its data?
func (p *Partition) Settle(on *Node, keeps Keeps) bool {
	switch {
	case p.Async:
		return p.settleAsync(on, keeps)
	case p.Durable:
		return p.settleDurable(on, keeps)
	}
	own := p.On(on.Name)
	switch {
	case own != nil && own.Life == on.Incarnation:
		return false
	case len(p.Replicas) == 0 || (own != nil && len(p.Replicas)+len(p.Leaving) == 1):
		p.Found(on)
	case own != nil:
		p.Renew(on)
	default:
		return false
	}
	return true
}

// settleDurable has a process take over the replica that its node has on disk, also one that is leaving: it may be needed for a
// quorum. Without one, it is a new replica among others; a partition that has none but this waits for its disk, or for an operator.
func (p *Partition) settleDurable(on *Node, keeps Keeps) (changed bool) {
	for _, list := range []*[]Replica{&p.Replicas, &p.Leaving} {
		for i, r := range *list {
			if r.Node != on.Name || r.Life == on.Incarnation || keeps == nil || !keeps(p.ID, p.Generation, r.ID) {
				continue
			}
			*list = slices.Clone(*list)
			(*list)[i].Life, changed = on.Incarnation, true
		}
	}
	if own := p.On(on.Name); own != nil && own.Life != on.Incarnation && len(p.Replicas)+len(p.Leaving) > 1 {
		p.Renew(on)
		return true
	}
	return changed
}

// Renew gives the replica on a node another id: it has forgotten what it was.
func (p *Partition) Renew(on *Node) {
	p.Replicas = slices.Clone(p.Replicas)
	*p.On(on.Name) = p.issue(on)
}
