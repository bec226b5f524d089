package placement

import (
	"cmp"
	"context"
	"slices"

	"github.com/larder-cache/larder/internal/fault"
)

// How an async partition outlives more of its processes than its group does.
//
// A replica of an async partition acknowledges from memory, and writes down what it has a moment later. What is on its disk when its
// process has ended may lack the end, acknowledgements and votes included: so it never is that replica again, and another comes in its place,
// as in memory. As long as a majority lives that is all, and nothing is lost. When none does, nobody may go on in that
// generation; the next one begins with what is left on one of the disks: a trail.
//
// A trail that stands in the record is an offer, which binds the process that made it:
//
//	T1: whoever offers a trail takes part in the partition's group no more, before it has been given another id
//	T2: a generation is founded on a trail only when of every majority that may have acknowledged something in the one before somebody
//	    offers: so that one has ended, and what all disks of such a majority had is among the offers
//	T3: the trail is the one with the highest term, and among these with the highest index: it has what all disks of a majority had, by the
//	    same reasons for which raft elects by that order
//
// A group that lives takes an offer for what it is: its leader gives the node another replica (Readmit).

// A Trail is what a replica has left of which nothing is a member any more.
type Trail struct {
	Life    string `json:"life"`    // of the process that has it
	Replica uint64 `json:"replica"` // whose it is, in the partition's generation
	Term    uint64 `json:"term"`    // of its last entry
	Index   uint64 `json:"index"`   // and the index of that
}

// less orders trails by how much they have (T3).
func (t *Trail) less(other *Trail) bool {
	return cmp.Or(cmp.Compare(t.Term, other.Term), cmp.Compare(t.Index, other.Index)) < 0
}

// number is the number of the node that a replica's id was made for.
func number(id uint64) uint8 { return uint8(id) }

// all lists the replicas that are wanted, and those that leave.
func (p *Partition) all() []Replica { return slices.Concat(p.Replicas, p.Leaving) }

// Waits reports whether somebody offers a trail.
func (p *Partition) Waits() bool {
	return slices.ContainsFunc(p.all(), func(r Replica) bool { return r.Trail != nil })
}

// Heir is the replica whose trail the next generation can begin with, nil while there is none (T2, T3). voters are those who voted,
// as far as is known.
//
// Who votes can differ from what is known by as much as the record wants to be changed. From the voters that are known to those that
// are wanted the group goes by one replica at a time, or one in the place of another: who is more than half of both is in every majority in between, but
// for where several are replaced at once.
func (p *Partition) Heir(voters []uint64, there func(node, life string) bool) (best *Replica) {
	offers := map[uint8]bool{}
	for _, r := range p.all() {
		if r.Trail == nil || !there(r.Node, r.Trail.Life) {
			continue
		}
		offers[number(r.ID)] = true
		if best == nil || best.Trail.less(r.Trail) {
			best = &r
		}
	}
	was, will, gone := map[uint8]bool{}, map[uint8]bool{}, map[uint8]bool{}
	for _, id := range voters {
		was[number(id)] = true
	}
	for _, r := range p.Replicas {
		will[number(r.ID)] = true
	}
	for _, r := range p.Leaving {
		if !will[number(r.ID)] {
			gone[number(r.ID)] = true
		}
	}
	count := func(of map[uint8]bool) (n int) {
		for node := range of {
			if offers[node] {
				n++
			}
		}
		return n
	}
	several := len(gone) > 1 && count(was)+count(will)+count(gone) < len(was)+len(will)+len(gone)
	if 2*count(was) <= len(was) || 2*count(will) <= len(will) || several {
		return nil
	}
	return best
}

// Over reports whether so many of those who may vote have offered trails, or have ended, that the group cannot go on for certain.
func (p *Partition) Over(voters []uint64, ended func(r Replica) bool) bool {
	left := 0
	for _, r := range p.all() {
		if r.Trail == nil && !ended(r) {
			left++
		}
	}
	return 2*left <= min(len(voters), len(p.Replicas))
}

// Recover begins the next generation with the trail of an heir: its node founds the group, with that data, and those who are there
// join it.
func (p *Partition) Recover(heir *Replica, node func(name string) *Node) {
	origin, on := heir.Trail.Replica, []*Node{node(heir.Node)}
	for _, r := range p.Replicas {
		if n := node(r.Node); n != nil && r.Node != heir.Node {
			on = append(on, n)
		}
	}
	p.Found(on...)
	p.Founders, p.Origin = p.Founders[:1], origin
}

// settleAsync leaves what a node has on disk of a replica to be offered, once it has been read. Who has nothing is a new replica. A
// founder that was to begin with a trail, and did not come to it, begins now.
func (p *Partition) settleAsync(on *Node, keeps Keeps) bool {
	own := p.On(on.Name)
	if own == nil || own.Life == on.Incarnation {
		return false
	}
	has := func(generation uint32, id uint64) bool { return keeps != nil && keeps(p.ID, generation, id) }
	if p.Origin != 0 && slices.Equal(p.Founders, []uint64{own.ID}) && !has(p.Generation, own.ID) && has(p.Generation-1, p.Origin) {
		p.Replicas = slices.Clone(p.Replicas)
		p.On(on.Name).Life = on.Incarnation
		return true
	}
	if has(p.Generation, own.ID) || own.Trail != nil && has(p.Generation, own.Trail.Replica) || len(p.Replicas)+len(p.Leaving) == 1 {
		return false
	}
	p.Renew(on)
	return true
}

// there reports whether a process of a node is there.
func (b *board) there(node, life string) bool {
	m := b.byName[node]
	return m != nil && m.node != nil && m.node.Incarnation == life
}

func (b *board) heir(part *Partition) *Replica {
	if !part.Async {
		return nil
	}
	return part.Heir(b.voters(part), b.there)
}

// recover does StepRecover to a record, if that is still to be done.
func (b *board) recover(part *Partition) bool {
	heir := b.heir(part)
	if heir == nil {
		return false
	}
	part.Recover(heir, func(name string) *Node {
		if m := b.byName[name]; m != nil {
			return m.node
		}
		return nil
	})
	return true
}

// Over reports whether the group of an async partition cannot go on for certain: nobody needs to wait for it.
func (p *Map) Over(part *Partition) bool {
	return part.Over(p.voters(part), func(r Replica) bool {
		n, ok := p.nodes.Get(r.Node)
		return ok && n.Incarnation != r.Life
	})
}

// Quorate reports whether more than half of a partition's voters are there, going by the leases of their nodes.
func (p *Map) Quorate(part *Partition) bool { return p.hasQuorum(part) }

// Offer writes down what this process has of a partition in which it takes part no more (T1). replica is the one that the record has of
// this node.
func (p *Map) Offer(ctx context.Context, id PartitionID, generation uint32, replica uint64, t Trail) error {
	t.Life = p.self.Incarnation
	return p.changeMoot(ctx, id, func(now *Partition) bool { return now.Generation == generation && now.Offer(p.self.Name, replica, t) })
}

// Readmit gives a node whose replica has ended another one: who leads the group says that it lives.
func (p *Map) Readmit(ctx context.Context, id PartitionID, generation uint32, replica uint64) error {
	return p.changeMoot(ctx, id, func(now *Partition) bool {
		return now.Generation == generation && now.Readmit(replica, func(name string) *Node {
			n, _ := p.nodes.Get(name)
			return n
		})
	})
}

// Offer notes what a node has of its replica, and reports whether that is still in the record.
func (p *Partition) Offer(node string, replica uint64, t Trail) bool {
	for _, list := range [][]Replica{p.Replicas, p.Leaving} {
		for i, r := range list {
			if r.Node == node && r.ID == replica {
				list[i].Trail = &t
				return true
			}
		}
	}
	return false
}

// Readmit gives the node of a replica that has ended another one, if that node's process is the one that offers the trail.
func (p *Partition) Readmit(replica uint64, node func(name string) *Node) bool {
	at := slices.IndexFunc(p.Replicas, func(r Replica) bool { return r.ID == replica && r.Trail != nil })
	if at < 0 {
		return false
	}
	n := node(p.Replicas[at].Node)
	if n == nil || n.Incarnation != p.Replicas[at].Trail.Life {
		return false
	}
	p.Renew(n)
	return true
}

// changeMoot changes a record, unless there is nothing to change any more.
func (p *Map) changeMoot(ctx context.Context, id PartitionID, change func(*Partition) bool) error {
	_, err := p.partitions.Update(ctx, id.name(), func(now *Partition) error {
		if !change(now) {
			return errMoot
		}
		return nil
	})
	if err == errMoot || fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
