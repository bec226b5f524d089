package placement

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/records"
)

// How the controller keeps time.
const (
	controlEvery   = time.Second
	controllerTTL  = 10 // seconds until another node is elected after the controller has died
	electionKey    = records.Root + "controller"
	retryElection  = 2 * time.Second
	maxEvents      = 512 // that are kept
	trimEvents     = 64  // beyond maxEvents, before the oldest are removed
	controlTimeout = 30 * time.Second
)

// An Event is something that the controller, or an operator, did or found.
type Event struct {
	At        time.Time    `json:"at"`
	By        string       `json:"by"` // a node
	Partition *PartitionID `json:"partition,omitempty"`
	Node      string       `json:"node,omitempty"`
	What      string       `json:"what"`
}

// Control takes part in the election of the controller, and does its work while this node is elected, until ctx ends. Two
// controllers at a time, which an election cannot rule out, would do no harm: each step changes one record that has to be
// as the step expects it.
func (p *Map) Control(ctx context.Context, client *clientv3.Client, replicas int) {
	for ctx.Err() == nil {
		if err := p.reign(ctx, client, replicas); err != nil && ctx.Err() == nil {
			p.log.Warn("this node cannot take part in the election of the controller; trying again", "error", err)
		}
		select {
		case <-time.After(retryElection):
		case <-ctx.Done():
		}
	}
}

// reign waits until this node is elected, and controls until it is not any more.
func (p *Map) reign(ctx context.Context, client *clientv3.Client, replicas int) error {
	session, err := concurrency.NewSession(client, concurrency.WithTTL(controllerTTL), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	defer session.Close() // what is left of it ends with its lease
	if err := p.standDown(ctx, client, session.Lease()); err != nil {
		return err
	}
	election := concurrency.NewElection(session, electionKey)
	if err := election.Campaign(ctx, p.self.Name); err != nil {
		return err
	}
	p.log.Info("this node is the controller", "node", p.self.Name)
	p.controls.Store(true)
	defer p.controls.Store(false)
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = election.Resign(last) // or its lease ends
	}()
	tick := time.NewTicker(controlEvery)
	defer tick.Stop()
	for {
		step, cancel := context.WithTimeout(ctx, controlTimeout)
		if err := p.control(step, replicas); err != nil && ctx.Err() == nil {
			p.log.Warn("the controller could not do all that it wanted; it will try again", "error", err)
		}
		cancel()
		select {
		case <-tick.C:
		case <-session.Done():
			return errors.New("the session with etcd ended")
		case <-ctx.Done():
			return nil
		}
	}
}

// standDown takes back the candidacies of former processes of this node, which may have been killed: nobody waits for their leases
// to end. One that still runs may go on controlling until it notices, which does no harm.
func (p *Map) standDown(ctx context.Context, client *clientv3.Client, own clientv3.LeaseID) error {
	all, err := client.Get(ctx, electionKey+"/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range all.Kvs {
		if string(kv.Value) != p.self.Name || kv.Lease == int64(own) {
			continue
		}
		if _, err := client.Delete(ctx, string(kv.Key)); err != nil {
			return err
		}
	}
	return nil
}

// control looks at the cluster once and does what is to do.
func (p *Map) control(ctx context.Context, replicas int) error {
	now := time.Now()
	if err := p.keepMembers(ctx, now); err != nil {
		return err
	}
	pic := p.picture(now, replicas)
	pic.lostFor = p.missed.since(pic, now)
	var failed error
	for _, s := range plan(pic) {
		done := false
		_, err := p.partitions.Update(ctx, s.Partition.name(), func(part *Partition) error {
			if done = s.apply(part); !done {
				return errMoot
			}
			return nil
		})
		if err != nil && err != errMoot {
			failed = errors.Join(failed, err)
			continue
		}
		if done {
			p.log.Info("a partition's place changes", "partition", s.Partition, "step", s.Kind, "from", s.From, "to", s.To, "why", s.Why)
			failed = errors.Join(failed, p.Record(ctx, &s.Partition, "", s.String()))
		}
	}
	return failed
}

// A missing is since when nobody is left of partitions' voters, going by their leaders' last reports.
type missing map[PartitionID]time.Time

// since notes whose voters are all lost now, and returns for how long they have been.
func (m *missing) since(pic *picture, now time.Time) map[PartitionID]time.Duration {
	b, was := newBoard(pic), *m
	*m = missing{}
	lost := map[PartitionID]time.Duration{}
	for _, part := range pic.partitions {
		if !b.allLost(part) {
			continue
		}
		at, known := was[part.ID]
		if !known {
			at = now
		}
		(*m)[part.ID] = at
		lost[part.ID] = now.Sub(at)
	}
	return lost
}

// errMoot is the error of a step whose record has changed.
var errMoot = errors.New("placement: the record has changed")

// String says what a step does and why.
func (s *Step) String() string {
	switch s.Kind {
	case StepFound:
		return fmt.Sprintf("begins anew, empty, on %s: %s", s.To, s.Why)
	case StepRecover:
		return fmt.Sprintf("begins anew with what %s has: %s", s.To, s.Why)
	case StepAdd:
		return fmt.Sprintf("gets a replica on %s: %s", s.To, s.Why)
	case StepRemove:
		return fmt.Sprintf("loses its replica on %s: %s", s.From, s.Why)
	case StepPrefer:
		return fmt.Sprintf("is to be led by %s, not %s: %s", s.To, s.From, s.Why)
	}
	return fmt.Sprintf("moves a replica from %s to %s: %s", s.From, s.To, s.Why)
}

// hosts reports whether a node hosts replicas.
func (n *Node) hosts() bool { return n.Number > 0 }

// keepMembers notes which nodes that host replicas are there, and since when others are not.
func (p *Map) keepMembers(ctx context.Context, now time.Time) error {
	for _, n := range p.Nodes() {
		if !n.hosts() {
			continue
		}
		m, known := p.members.Get(n.Name)
		switch {
		case !known:
			if err := p.members.Create(ctx, n.Name, &Member{Name: n.Name, Zone: n.Zone}); err != nil && !fault.Is(err, fault.Conflict) {
				return err
			}
			if err := p.Record(ctx, nil, n.Name, "joins the cluster in zone "+n.Zone); err != nil {
				return err
			}
		case m.Zone != n.Zone || m.GoneAt != nil:
			if _, err := p.members.Update(ctx, n.Name, func(m *Member) error { m.Zone, m.GoneAt = n.Zone, nil; return nil }); err != nil {
				return err
			}
			if err := p.Record(ctx, nil, n.Name, "is here again, in zone "+n.Zone); err != nil {
				return err
			}
		}
	}
	for _, m := range p.Members() {
		if _, there := p.nodes.Get(m.Name); there || m.GoneAt != nil {
			continue
		}
		if _, err := p.members.Update(ctx, m.Name, func(m *Member) error { m.GoneAt = &now; return nil }); err != nil {
			return err
		}
		if err := p.Record(ctx, nil, m.Name, "is gone"); err != nil {
			return err
		}
	}
	return nil
}

// picture is the cluster as this node knows it.
func (p *Map) picture(now time.Time, replicas int) *picture {
	pic := &picture{want: replicas, grace: gracePeriod, partitions: p.Partitions(), statuses: map[PartitionID]Status{}}
	for _, m := range p.Members() {
		member := *m
		if n, ok := p.nodes.Get(m.Name); ok && n.hosts() {
			member.node = n
		} else if m.GoneAt != nil {
			member.gone = now.Sub(*m.GoneAt)
		}
		pic.members = append(pic.members, member)
	}
	all, _ := p.statuses.List("", "", 0)
	for _, s := range all {
		pic.statuses[s.Partition] = *s
	}
	return pic
}

// Members lists the nodes that host replicas, or did until they were forgotten, by name.
func (p *Map) Members() []*Member {
	all, _ := p.members.List("", "", 0)
	return all
}

// Controls reports whether this node is the controller.
func (p *Map) Controls() bool { return p.controls.Load() }

// Status is what the leader of a partition said last; false when none has said anything.
func (p *Map) Status(id PartitionID) (Status, bool) {
	s, ok := p.statuses.Get(id.name())
	if !ok {
		return Status{}, false
	}
	return *s, true
}

// Report notes what a leader says of its partition, if it is news: other members, another leader, or a size that differs by
// more than an eighth.
func (p *Map) Report(ctx context.Context, s Status) error {
	old, ok := p.statuses.Get(s.Partition.name())
	if ok && old.Generation == s.Generation && old.Leader == s.Leader && slices.Equal(old.Members, s.Members) && max(old.Bytes, s.Bytes)-min(old.Bytes, s.Bytes) <= max(old.Bytes/8, 1<<20) {
		return nil
	}
	return p.statuses.Put(ctx, s.Partition.name(), &s)
}

// Record adds an event to the log, which keeps the newest.
func (p *Map) Record(ctx context.Context, part *PartitionID, node, what string) error {
	now := time.Now().UTC()
	e := &Event{At: now, By: p.self.Name, Partition: part, Node: node, What: what}
	if err := p.events.Put(ctx, fmt.Sprintf("%020d-%s", now.UnixNano(), p.self.Name), e); err != nil {
		return err
	}
	all := p.m.List(records.Root+"events/", "", 0)
	if len(all) <= maxEvents+trimEvents {
		return nil
	}
	for _, old := range all[:len(all)-maxEvents] {
		if _, err := p.m.Delete(ctx, old.Key, 0); err != nil {
			return err
		}
	}
	return nil
}

// Events lists the log, the newest first.
func (p *Map) Events() []*Event {
	all, _ := p.events.List("", "", 0)
	slices.SortStableFunc(all, func(a, b *Event) int { return cmp.Compare(b.At.UnixNano(), a.At.UnixNano()) })
	return all
}

// Drain has the controller place a node's replicas elsewhere, or ends that.
func (p *Map) Drain(ctx context.Context, node string, on bool) error {
	if _, err := p.members.Update(ctx, node, func(m *Member) error { m.Draining = on; return nil }); err != nil {
		return err
	}
	what := "is drained"
	if !on {
		what = "is drained no more"
	}
	return p.Record(ctx, nil, node, what)
}

// Move has a replica of a partition replaced by one on another node.
func (p *Map) Move(ctx context.Context, id PartitionID, from, to string) error {
	return p.change(ctx, id, Step{Kind: StepMove, From: from, To: to, Why: "an operator wants it"})
}

// Prefer has another replica of a partition lead it: the one on a node, or for "" the next whose node is there.
func (p *Map) Prefer(ctx context.Context, id PartitionID, to string) error {
	if to == "" {
		part, ok := p.partitions.Get(id.name())
		if !ok {
			return noPartition(id)
		}
		for _, r := range part.Replicas[min(1, len(part.Replicas)):] {
			if n, there := p.nodes.Get(r.Node); to == "" && there && n.Incarnation == r.Life {
				to = r.Node
			}
		}
		if to == "" {
			return fault.New(fault.Conflict, "placement.prefer", "partition %d has no other replica whose node is there", id)
		}
	}
	return p.change(ctx, id, Step{Kind: StepPrefer, To: to, Why: "an operator wants it"})
}

// Abandon gives up the data of a partition that has lost its quorum, and begins it anew, empty, on a node. As long as a
// quorum is there, nothing is lost, and it is refused.
func (p *Map) Abandon(ctx context.Context, id PartitionID, to string) error {
	if part, ok := p.partitions.Get(id.name()); ok && p.hasQuorum(part) {
		return fault.New(fault.Conflict, "placement.abandon", "a quorum of partition %d is there: its data is not lost", id)
	}
	return p.change(ctx, id, Step{Kind: StepFound, To: to, Why: "an operator gave up its data"})
}

// hasQuorum reports whether more than half of a partition's voters are there, going by the leases of their nodes alone: it
// holds also before a controller has noted the members.
func (p *Map) hasQuorum(part *Partition) bool {
	voters := p.voters(part)
	return p.voting(voters, part.Replicas)+p.voting(voters, part.Leaving) > len(voters)/2
}

// Voting counts the replicas of a partition that vote and whose processes are there: one that has restarted is another
// replica, and does not count before its group has taken it in.
func (p *Map) Voting(part *Partition) int { return p.voting(p.voters(part), part.Replicas) }

// Copies is how many replicas of a partition beside its leader have for sure what was acknowledged: a majority of those that vote
// has. Where there are to be fewer than were reported last, some may vote no more.
func (p *Map) Copies(part *Partition) int { return min(len(p.voters(part)), len(part.Replicas)) / 2 }

func (p *Map) voting(voters []uint64, replicas []Replica) (there int) {
	for _, r := range replicas {
		if n, ok := p.nodes.Get(r.Node); ok && n.Incarnation == r.Life && r.Trail == nil && slices.Contains(voters, r.ID) {
			there++
		}
	}
	return there
}

// Spares reports whether a partition that is hosted here keeps its quorum, and its data, when this process goes. One that is to
// have no other replica has nothing to wait for.
func (p *Map) Spares(part *Partition) bool {
	if len(part.Replicas) <= 1 && len(part.Leaving) == 0 {
		return true
	}
	voters := p.voters(part)
	rest := p.voting(voters, part.Replicas) + p.voting(voters, part.Leaving)
	if own := part.On(p.self.Name); own != nil && own.Life == p.self.Incarnation && slices.Contains(voters, own.ID) {
		rest--
	}
	return rest > len(voters)/2
}

// Dismissed reports whether a replica is surely no member of its group any more: the leader has said, since, that exactly those
// vote that are wanted, and it is none of them. No id is wanted again.
func (p *Map) Dismissed(id PartitionID, generation uint32, replica uint64) bool {
	part, ok := p.partitions.Get(id.name())
	if !ok || part.Generation != generation || len(part.Replicas) == 0 {
		return false
	}
	voters := p.voters(part)
	if len(voters) != len(part.Replicas) {
		return false
	}
	for _, r := range part.Replicas {
		if r.ID == replica || !slices.Contains(voters, r.ID) {
			return false
		}
	}
	return true
}

// voters are the replicas that vote, as far as is known: see board.voters.
func (p *Map) voters(part *Partition) []uint64 {
	if s, ok := p.statuses.Get(part.ID.name()); ok && s.Generation == part.Generation {
		return s.Members
	}
	return part.Founders
}

// change does a step that an operator asked for.
func (p *Map) change(ctx context.Context, id PartitionID, s Step) error {
	node, ok := p.nodes.Get(s.To)
	if !ok || !node.hosts() {
		return fault.About(fault.NotFound, "placement.change", "to", "no node %q that hosts partitions is there", s.To)
	}
	part, ok := p.partitions.Get(id.name())
	if !ok {
		return noPartition(id)
	}
	s.Partition, s.node = id, node
	board := newBoard(p.picture(time.Now(), DefaultReplicas))
	s.settled = board.settled(part)
	if s.Kind == StepPrefer && len(part.Replicas) > 0 && part.Replicas[0].Node == s.To {
		return nil // it is so already: nothing happens that an event could tell of
	}
	if s.Kind == StepMove && !s.settled {
		return fault.New(fault.Conflict, "placement.change", "the replicas of partition %d are about to change already", id)
	}
	_, err := p.partitions.Update(ctx, id.name(), func(now *Partition) error {
		if s.Kind == StepPrefer && len(now.Replicas) > 0 {
			s.From = now.Replicas[0].Node
			if s.From == s.To {
				return nil // another has done it meanwhile
			}
		}
		if r := now.On(s.From); r != nil {
			s.replica = r.ID
		}
		if !s.apply(now) {
			return fault.New(fault.Conflict, "placement.change", "partition %d has replicas on %v: it cannot be moved from %q to %q", id, now.Names(), s.From, s.To)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return p.Record(ctx, &id, "", s.String())
}

func noPartition(id PartitionID) error {
	return fault.About(fault.NotFound, "placement.change", "partition", "no partition %d", id)
}

// Forget removes a node that is gone for good from the members, once it has no replica.
func (p *Map) Forget(ctx context.Context, name string) error {
	if _, there := p.nodes.Get(name); there {
		return fault.New(fault.Conflict, "placement.forget", "node %q is there", name)
	}
	for _, part := range p.Partitions() {
		if part.On(name) != nil {
			return fault.New(fault.Conflict, "placement.forget", "node %q still has a replica of partition %d: drain it first", name, part.ID)
		}
	}
	if err := p.members.Delete(ctx, name); err != nil {
		return err
	}
	return p.Record(ctx, nil, name, "is forgotten")
}
