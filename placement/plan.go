package placement

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Limits of what the controller does at a time.
const (
	// DefaultReplicas is how many replicas a partition has where there are enough nodes.
	DefaultReplicas = 3
	// gracePeriod is how long a node may be gone before its replicas are placed elsewhere: longer than a restart takes.
	gracePeriod = 5 * time.Minute
	// lostTime is how long all voters of a partition have to be lost, as far as is known, before it is founded anew: a
	// leader that there is after all says so every second, and nodes without a lease count as there for gracePeriod.
	lostTime = 5 * time.Second
	// moveBudget is how many partitions may be changing their replicas while more are moved for balance.
	moveBudget = 2
	// repairBudget is the same for replicas that are missing.
	repairBudget = 32
)

// A picture is all that the controller decides by.
type picture struct {
	want       int           // replicas of a partition
	grace      time.Duration // see gracePeriod
	members    []Member
	partitions []*Partition
	statuses   map[PartitionID]Status
	lostFor    map[PartitionID]time.Duration // for how long nobody has been left of a partition's voters: see missing
}

// A Member is a node that hosts replicas, as the controller remembers it: also while it is gone.
type Member struct {
	Name     string        `json:"name"`
	Zone     string        `json:"zone"`
	Draining bool          `json:"draining,omitempty"`
	GoneAt   *time.Time    `json:"gone_at,omitempty"` // when the controller missed it; nil while it is there
	node     *Node         // nil while it is gone
	gone     time.Duration // for how long
}

// usable reports whether replicas can be placed on a member.
func (m *Member) usable() bool { return m.node != nil && !m.Draining }

// Status is what the leader of a partition says of it.
type Status struct {
	Partition  PartitionID `json:"partition"`
	Generation uint32      `json:"generation"`
	Leader     string      `json:"leader"`  // a node
	Members    []uint64    `json:"members"` // ids of the replicas that vote
	Bytes      int64       `json:"bytes"`
}

// StepKind says what a step does.
type StepKind string

// The kinds of steps.
const (
	StepFound   StepKind = "found"   // begins a new generation, because all replicas are lost
	StepRecover StepKind = "recover" // begins a new generation with what one of the old has left: see Trail
	StepAdd     StepKind = "add"     // one replica more
	StepRemove  StepKind = "remove"  // one less
	StepMove    StepKind = "move"    // one in the place of another
	StepPrefer  StepKind = "prefer"  // another replica leads
)

// A Step is one change of a partition's record. It does nothing to a record that has changed so that it makes no sense.
type Step struct {
	Partition PartitionID `json:"partition"`
	Kind      StepKind    `json:"kind"`
	From      string      `json:"from,omitempty"` // node
	To        string      `json:"to,omitempty"`   // node
	Why       string      `json:"why"`

	replica uint64  // on From
	node    *Node   // To
	more    []*Node // others that found the partition with To
	settled bool    // nobody was leaving any more
	board   *board  // of StepRecover, which looks again at the record that it changes
}

// apply changes a record, and reports whether that was possible.
func (s *Step) apply(p *Partition) bool {
	at := slices.IndexFunc(p.Replicas, func(r Replica) bool { return r.Node == s.From && r.ID == s.replica })
	fits := s.To == "" || p.On(s.To) == nil
	if s.settled {
		p.Leaving = nil
	}
	switch {
	case s.Kind == StepFound:
		p.Found(append([]*Node{s.node}, s.more...)...)
	case s.Kind == StepRecover:
		return s.board.recover(p)
	case s.Kind == StepAdd && fits:
		p.Replicas = append(p.Replicas, p.issue(s.node))
	case s.Kind == StepMove && fits && at >= 0:
		p.Leaving = append(p.Leaving, p.Replicas[at])
		p.Replicas[at] = p.issue(s.node)
	case s.Kind == StepRemove && at >= 0 && len(p.Replicas) > 1:
		p.Leaving = append(p.Leaving, p.Replicas[at])
		p.Replicas = slices.Delete(p.Replicas, at, at+1)
	case s.Kind == StepPrefer && !fits:
		i := slices.IndexFunc(p.Replicas, func(r Replica) bool { return r.Node == s.To })
		p.Replicas[0], p.Replicas[i] = p.Replicas[i], p.Replicas[0]
	default:
		return false
	}
	return true
}

// plan decides what to do next: at most one step for each partition, and none when all is as it should be. It is a pure
// function: whoever is the controller decides the same.
//
//	D1: a replica that votes is given up only when all that are wanted vote, or when its node is gone for long
//	D2: two replicas of a partition are put in one zone only when no other zone has room
//	D3: moves for balance make the sum of the squares of the nodes' loads smaller, so they come to an end
//	D4: data is given up only when none is left of those that voted last, and that has been so for lostTime; that of a durable
//	    partition never: the disks may come back
func plan(p *picture) []Step {
	b := newBoard(p)
	for _, part := range p.partitions {
		b.repair(part)
	}
	b.balance()
	b.spreadLeaders()
	return b.steps
}

// A board is what plan counts on.
type board struct {
	*picture
	byName  map[string]*Member
	load    map[string]int64 // of nodes: the weights of their partitions
	leads   map[string]int   // of nodes: partitions that they should lead
	busy    map[PartitionID]bool
	pending int // partitions whose replicas do not all vote yet, or get a step
	steps   []Step
}

func newBoard(p *picture) *board {
	b := &board{picture: p, byName: map[string]*Member{}, load: map[string]int64{}, leads: map[string]int{}, busy: map[PartitionID]bool{}}
	for i := range p.members {
		b.byName[p.members[i].Name] = &p.members[i]
	}
	for _, part := range p.partitions {
		for i, r := range part.Replicas {
			b.load[r.Node] += b.weight(part)
			if i == 0 {
				b.leads[r.Node]++
			}
		}
		if len(part.Replicas) > 0 && (!b.settled(part) || part.Waits()) {
			b.busy[part.ID] = true
			if b.goesOn(part) { // others do not wait for one that stands still
				b.pending++
			}
		}
	}
	return b
}

// weight is what a partition costs a node.
func (b *board) weight(part *Partition) int64 { return 1 + b.statuses[part.ID].Bytes>>20 }

// voters are the replicas that vote, as far as is known: those that founded the group, until its leader says otherwise.
func (b *board) voters(part *Partition) []uint64 {
	if s, ok := b.statuses[part.ID]; ok && s.Generation == part.Generation {
		return s.Members
	}
	return part.Founders
}

// settled reports whether the replicas that are wanted are those that vote.
func (b *board) settled(part *Partition) bool {
	voters := b.voters(part)
	if len(voters) != len(part.Replicas) {
		return false
	}
	for _, r := range part.Replicas {
		if !slices.Contains(voters, r.ID) {
			return false
		}
	}
	return true
}

// goesOn reports whether a group can change its members: a quorum of its voters is there.
func (b *board) goesOn(part *Partition) bool {
	voters, there := b.voters(part), 0
	for _, some := range [][]Replica{part.Replicas, part.Leaving} {
		for _, r := range some {
			if slices.Contains(voters, r.ID) && r.Trail == nil && b.there(r.Node, r.Life) {
				there++
			}
		}
	}
	return there > len(voters)/2
}

// lost reports whether a replica is not coming back.
func (b *board) lost(r Replica) bool {
	m := b.byName[r.Node]
	return m == nil || (m.node == nil && m.gone > b.grace) || (m.node != nil && m.node.Incarnation != r.Life)
}

// target is how many replicas a partition should have: an odd number, since one more replica than that makes a quorum larger
// and nothing safer against the loss of a node.
func (b *board) target() int {
	usable := 0
	for i := range b.members {
		if b.members[i].usable() {
			usable++
		}
	}
	n := min(b.want, usable)
	return max(n-(n+1)%2, 1)
}

// do plans a step, and counts on it from then on.
func (b *board) do(part *Partition, s Step) {
	s.Partition, s.settled = part.ID, b.settled(part)
	if s.To != "" {
		s.node = b.byName[s.To].node
		if s.Kind != StepPrefer {
			b.load[s.To] += b.weight(part)
		}
	}
	if r := part.On(s.From); r != nil && s.Kind != StepPrefer {
		s.replica = r.ID
		b.load[s.From] -= b.weight(part)
		if part.Replicas[0].Node == s.From && s.To != "" {
			b.leads[s.From]--
			b.leads[s.To]++
		}
	}
	if !b.busy[part.ID] {
		b.pending++
	}
	b.busy[part.ID] = true
	b.steps = append(b.steps, s)
}

// repair plans what a partition needs most.
func (b *board) repair(part *Partition) {
	if lost := b.allLost(part); lost && b.lostFor[part.ID] < lostTime {
		return // perhaps a leader has not said yet who votes
	} else if lost || len(part.Replicas) == 0 {
		if to := b.best(&Partition{}, ""); to != "" {
			why := "no replica is left of those that had the data"
			if len(part.Replicas) == 0 {
				why = "it has no replica"
			}
			s := Step{Kind: StepFound, To: to, Why: why}
			if part.Durable {
				s.more = b.beside(to)
			}
			b.do(part, s)
		}
		return
	}
	if heir := b.heir(part); heir != nil {
		b.do(part, Step{Kind: StepRecover, To: heir.Node, Why: "a majority of its replicas has ended, and it has most of what these have left", board: b})
		return
	}
	for _, r := range part.Replicas {
		m := b.byName[r.Node]
		if m != nil && m.node != nil || !b.lost(r) { // a node that has come back has a new replica already
			continue
		}
		if to := b.best(part, r.Node); to != "" && b.pending < repairBudget+b.already(part) {
			b.do(part, Step{Kind: StepMove, From: r.Node, To: to, Why: "its node is gone"})
			return
		}
	}
	if b.busy[part.ID] || b.pending >= repairBudget {
		return
	}
	if n := len(part.Replicas); n < b.target() {
		if to := b.best(part, ""); to != "" {
			b.do(part, Step{Kind: StepAdd, To: to, Why: fmt.Sprintf("it has %d of %d replicas", n, b.target())})
		}
		return
	} else if n > b.want {
		from := b.worst(part)
		b.do(part, Step{Kind: StepRemove, From: from, Why: fmt.Sprintf("it has %d replicas, and %d are wanted", n, b.want)})
		return
	}
	for _, r := range part.Replicas {
		if m := b.byName[r.Node]; m != nil && m.Draining {
			if to := b.best(part, r.Node); to != "" {
				b.do(part, Step{Kind: StepMove, From: r.Node, To: to, Why: "its node is drained"})
				return
			}
		}
	}
	b.separate(part)
}

// beside are the nodes that found a durable partition together with one, as many as are wanted: what it acknowledges is to be on
// the disks of a quorum from the beginning.
func (b *board) beside(first string) (more []*Node) {
	chosen := &Partition{Replicas: []Replica{{Node: first}}}
	for len(chosen.Replicas) < b.target() {
		to := b.best(chosen, "")
		if to == "" {
			break
		}
		chosen.Replicas = append(chosen.Replicas, Replica{Node: to})
		more = append(more, b.byName[to].node)
	}
	return more
}

// already is 1 for a partition that counts as pending as it is.
func (b *board) already(part *Partition) int {
	if b.busy[part.ID] {
		return 1
	}
	return 0
}

// allLost reports whether nobody is left of the replicas that had the data.
func (b *board) allLost(part *Partition) bool {
	if part.Durable {
		return false
	}
	voters := b.voters(part)
	for _, some := range [][]Replica{part.Replicas, part.Leaving} {
		for _, r := range some {
			if slices.Contains(voters, r.ID) && !b.lost(r) {
				return false
			}
		}
	}
	return len(voters) > 0
}

// separate moves a replica out of a zone that has another, where there is a better one.
func (b *board) separate(part *Partition) {
	for i, r := range part.Replicas {
		if b.crowded(part, r.Node, b.zone(r.Node)) == 0 {
			continue
		}
		if to := b.best(part, r.Node); i > 0 && to != "" && b.crowded(part, r.Node, b.zone(to)) == 0 {
			b.do(part, Step{Kind: StepMove, From: r.Node, To: to, Why: "another replica is in the same zone"})
			return
		}
	}
}

func (b *board) zone(node string) string {
	if m := b.byName[node]; m != nil {
		return m.Zone
	}
	return ""
}

// crowded counts the replicas in a zone, but for that on one node.
func (b *board) crowded(part *Partition, but, zone string) (n int) {
	for _, r := range part.Replicas {
		if r.Node != but && b.zone(r.Node) == zone {
			n++
		}
	}
	return n
}

// best is the node for another replica, in the place of that on instead: of the zones with the fewest replicas of the
// partition the node with the least load (D2). "" when there is none.
func (b *board) best(part *Partition, instead string) string {
	var found *Member
	rank := func(m *Member) (int, int64, string) { return b.crowded(part, instead, m.Zone), b.load[m.Name], m.Name }
	for i := range b.members {
		m := &b.members[i]
		if !m.usable() || part.On(m.Name) != nil {
			continue
		}
		if found == nil {
			found = m
			continue
		}
		c1, l1, n1 := rank(m)
		c2, l2, n2 := rank(found)
		if cmp.Or(cmp.Compare(c1, c2), cmp.Compare(l1, l2), cmp.Compare(n1, n2)) < 0 {
			found = m
		}
	}
	if found == nil {
		return ""
	}
	return found.Name
}

// worst is the node whose replica is missed least.
func (b *board) worst(part *Partition) string {
	return slices.MaxFunc(part.Replicas, func(x, y Replica) int {
		return cmp.Or(cmp.Compare(b.crowded(part, x.Node, b.zone(x.Node)), b.crowded(part, y.Node, b.zone(y.Node))), cmp.Compare(b.load[x.Node], b.load[y.Node]), cmp.Compare(x.Node, y.Node))
	}).Node
}

// balance moves replicas from nodes with much to nodes with little (D3), a few at a time.
func (b *board) balance() {
	for b.pending < moveBudget {
		if !b.moveOne() {
			return
		}
	}
}

// moveOne plans the move that helps most, if any does.
func (b *board) moveOne() bool {
	var best Step
	var of *Partition
	gain := int64(0)
	for _, part := range b.partitions {
		if b.busy[part.ID] || len(part.Replicas) == 0 {
			continue
		}
		for _, r := range part.Replicas {
			for i := range b.members {
				m := &b.members[i]
				if !m.usable() || part.On(m.Name) != nil || b.crowded(part, r.Node, m.Zone) > b.crowded(part, r.Node, b.zone(r.Node)) {
					continue
				}
				if g := b.load[r.Node] - b.load[m.Name] - b.weight(part); g > gain {
					gain, of = g, part
					best = Step{Kind: StepMove, From: r.Node, To: m.Name, Why: fmt.Sprintf("%s has a load of %d, %s of %d", r.Node, b.load[r.Node], m.Name, b.load[m.Name])}
				}
			}
		}
	}
	if of == nil {
		return false
	}
	b.do(of, best)
	return true
}

// spreadLeaders has each node lead about as many partitions, and none lead that is gone or drained.
func (b *board) spreadLeaders() {
	for _, part := range b.partitions {
		if b.busy[part.ID] || len(part.Replicas) < 2 {
			continue
		}
		now := part.Replicas[0].Node
		unfit := b.byName[now] == nil || !b.byName[now].usable()
		to := ""
		for _, r := range part.Replicas[1:] {
			if m := b.byName[r.Node]; m != nil && m.usable() && !m.node.Stopping && (to == "" || b.leads[r.Node] < b.leads[to]) {
				to = r.Node
			}
		}
		if to == "" || (!unfit && b.leads[now]-b.leads[to] < 2) {
			continue
		}
		why := "leaders are spread over the nodes"
		if unfit {
			why = "the node that leads is drained or gone"
		}
		b.leads[now]--
		b.leads[to]++
		b.do(part, Step{Kind: StepPrefer, From: now, To: to, Why: why})
	}
}
