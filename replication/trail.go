package replication

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/placement"
)

// What is left of async replicas, and how a group begins with it.
//
// A process has trails of two kinds: those on disk, of processes before, and those of its own replicas that take part no more (yield),
// which are in memory. Attend says what to offer of them; the record decides, and revive begins the next generation with one. A trail
// stays until the leader of a group has said that exactly those vote that are wanted: nobody can need it then.
//
// placement/trail.go has the rules that T1 to T3 are of.

// leaderlessTime is for how long a replica has to have no leader before it believes that it will not have one.
const leaderlessTime = 5 * time.Second

// hasYielded reports whether a replica takes part no more. The caller holds the lock.
func (c *Cluster) hasYielded(p placement.PartitionID, self uint64) bool {
	return slices.ContainsFunc(c.yielded[p], func(g *Group) bool { return g.self == self })
}

// Attend looks after an async partition, of which a record has come or time has passed. over says that its group cannot go on for
// certain, quorate that by their leases enough voters are there. It returns what is to be offered, and for which replica; nil for nothing.
func (c *Cluster) Attend(part *placement.Partition, over, quorate bool) (replica uint64, t *placement.Trail) {
	if g := c.Group(part.ID); g != nil {
		c.release(part.ID, func(old *Group) bool { return old.id.generation < g.id.generation }) // what is on disk stays
		if g.id.generation != part.Generation || !over && (quorate || !g.abandoned()) {
			return 0, nil
		}
		c.yield(g)
	}
	c.mu.RLock()
	busy := c.revives[part.ID]
	c.mu.RUnlock()
	for _, r := range slices.Concat(part.Replicas, part.Leaving) {
		if r.Node != c.cfg.Node {
			continue
		}
		c.mu.RLock()
		gone := c.hasYielded(part.ID, r.ID)
		c.mu.RUnlock()
		switch {
		case busy, r.Trail != nil && r.Trail.Life == c.cfg.Life: // it is offered
			return 0, nil
		case r.Life == c.cfg.Life && !gone: // it is about to be placed
			return 0, nil
		}
		return r.ID, c.trail(part)
	}
	return 0, nil
}

// abandoned reports whether a replica has had no leader for long.
func (g *Group) abandoned() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.leader.Load() != 0 || g.asleep.Load() {
		g.ledger.lag.lonely = 0
		return false
	}
	if g.ledger.lag.lonely == 0 {
		g.ledger.lag.lonely = g.c.cfg.Steady()
	}
	return g.c.cfg.Steady()-g.ledger.lag.lonely > leaderlessTime
}

// yield has a replica take part no more. What it has stays: in memory for this process, on disk for the next.
func (c *Cluster) yield(g *Group) {
	c.mu.Lock()
	here := c.groups[g.id.partition] == g
	if here {
		delete(c.groups, g.id.partition)
		c.enlist()
		c.yielded[g.id.partition] = append(c.yielded[g.id.partition], g)
	}
	c.mu.Unlock()
	if here {
		g.log.Warn("a replica of an async partition takes part no more: a majority of the others has ended", "partition", g.id.partition)
		g.quit(false)
	}
}

// known is the last entry of a trail.
type known struct{ term, index uint64 }

func (k known) compare(other known) int {
	return cmp.Or(cmp.Compare(k.term, other.term), cmp.Compare(k.index, other.index))
}

// trail is the best that is here of a partition's generation, nil for none.
func (c *Cluster) trail(part *placement.Partition) *placement.Trail {
	var best known
	of := uint64(0)
	take := func(k known, self uint64) {
		if k.index > 0 && (of == 0 || best.compare(k) < 0) {
			best, of = k, self
		}
	}
	c.mu.RLock()
	for _, g := range c.yielded[part.ID] {
		if g.id.generation == part.Generation {
			take(g.reaches(), g.self)
		}
	}
	c.mu.RUnlock()
	for _, l := range c.cfg.Vault.trails(part.ID) {
		if l.generation != part.Generation {
			continue
		}
		k, err := c.cfg.Vault.reaches(part.ID, l, engine.Seed(part.Seed))
		if err != nil {
			c.cfg.Log.Warn("what a replica of an async partition has left on disk cannot be used", "partition", part.ID, "replica", fmt.Sprintf("%x", l.self), "error", err)
			continue
		}
		take(k, l.self)
	}
	if of == 0 {
		return nil
	}
	return &placement.Trail{Replica: of, Term: best.term, Index: best.index}
}

// reaches is how far a replica has come that takes part no more; nowhere for one that never had anything.
func (g *Group) reaches() (k known) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.applied == 0 {
		return k
	}
	last, err := g.store.LastIndex()
	if err == nil {
		k.index = last
		k.term, err = g.store.Term(last)
	}
	if err != nil {
		panic(err)
	}
	return k
}

// trails lists those of a partition that the log was read of.
func (v *Vault) trails(p placement.PartitionID) (list []lodger) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, l := range v.past[p] {
		if v.read[l.of(p)] != nil {
			list = append(list, l)
		}
	}
	return list
}

// reaches is how far a trail on disk goes.
func (v *Vault) reaches(p placement.PartitionID, l lodger, seed engine.Seed) (k known, err error) {
	v.mu.Lock()
	rec := v.read[l.of(p)]
	v.mu.Unlock()
	switch {
	case rec == nil:
		return k, errForgotten
	case rec.damage != nil:
		return k, rec.damage
	case !rec.known:
		return k, fmt.Errorf("%w: its beginning", errForgotten)
	case rec.index > 0:
		f := l.of(p)
		f.index = rec.index
		if k, err = v.headOfState(f, seed); err != nil {
			return k, err
		}
	case len(rec.founders) > 0:
		k = known{foundingTerm, foundingIndex}
	default:
		return k, nil // it joined, and had nothing yet
	}
	entries, err := rec.behind(k.index, k.term)
	if n := len(entries); n > 0 {
		k = known{entries[n-1].GetTerm(), entries[n-1].GetIndex()}
	}
	return k, err
}

// headOfState reads at which entry a state file stands.
func (v *Vault) headOfState(f vaultFile, seed engine.Seed) (k known, err error) {
	file, err := v.cfg.shelf.open(f.state())
	if err != nil {
		return k, err
	}
	defer func() { _ = file.Close() }() // it was read
	_, plain, err := seal.Open(context.Background(), bufio.NewReader(file), v.cfg.Keys, v.headOf(f))
	if err != nil {
		return k, err
	}
	s, err := readStateHead(bufio.NewReader(plain), f, seed)
	if err != nil {
		return k, fmt.Errorf("%s: %w", f.state(), err)
	}
	return known{s.term, f.index}, nil
}

// revive begins a generation whose only founder is here, with what one of the generation before has left. That takes as long as to
// write it to disk, and nobody waits for it; OnRevive tells when it is done.
//
// Until the new replica is whole on disk nobody hears of it: a process that ends before begins again with the old trail.
func (c *Cluster) revive(id groupID, self uint64, seed engine.Seed, w Wanted) error {
	c.mu.Lock()
	busy := c.revives[id.partition]
	c.revives[id.partition] = true
	c.mu.Unlock()
	if busy {
		return nil
	}
	do := func() error {
		defer func() {
			c.mu.Lock()
			delete(c.revives, id.partition)
			c.mu.Unlock()
		}()
		return c.refound(id, self, seed, w)
	}
	if c.cfg.Workers < 0 { // a simulation has one goroutine
		return do()
	}
	c.work.Go(func() {
		if err := do(); err != nil {
			c.cfg.Log.Error("an async partition cannot begin with what is left of it here", "partition", id.partition, "error", err)
		} else if c.onRevive != nil {
			c.onRevive(id.partition)
		}
	})
	return nil
}

// OnRevive has fn told of partitions that have begun with what was left of them.
func (c *Cluster) OnRevive(fn func(placement.PartitionID)) { c.onRevive = fn }

func (c *Cluster) refound(id groupID, self uint64, seed engine.Seed, w Wanted) error {
	began := time.Now()
	origin, err := c.resume(groupID{id.partition, id.generation - 1}, w.Origin, seed)
	if err != nil {
		return err
	}
	if err = origin.finishLog(); err == nil {
		err = c.engrave(origin, id, self, w)
	}
	if err != nil { // it may be tried again: the disk may be full
		c.mu.Lock()
		defer c.mu.Unlock()
		c.yielded[id.partition] = append(c.yielded[id.partition], origin)
		return err
	}
	defer origin.quit(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	g, err := c.start(id, self, seed, w, newMemoryLog(w.Founders, &c.budget))
	if err != nil {
		return err
	}
	empty := g.p
	g.desk.install(origin.p)
	origin.p = empty
	c.used[usedID{id.partition, self}], c.groups[id.partition] = true, g
	c.enlist()
	c.cfg.Log.Warn("an async partition has begun anew with what was left of it here", "partition", id.partition, "replica", fmt.Sprintf("%x", w.Origin), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// engrave writes what a replica has left to disk as the beginning of another.
func (c *Cluster) engrave(origin *Group, id groupID, self uint64, w Wanted) error {
	cut, ok := origin.p.CutPartition()
	if !ok {
		return errors.New("its data is being copied")
	}
	defer cut.Close()
	f := vaultFile{id.partition, id.generation, self, foundingIndex}
	s := &groupState{vaultFile: f, seed: origin.seed, term: foundingTerm, conf: &raftpb.ConfState{Voters: []uint64{self}}}
	err := c.cfg.Vault.writeState(s, func(dst []byte) ([]byte, bool, error) {
		dst, more := cut.Read(dst, cutBytes)
		return dst, more, nil
	})
	if err != nil {
		return err
	}
	return c.cfg.Vault.begin(id, self, w.Founders, true, foundingIndex)
}

// resume is a replica that takes part no more, from memory or from disk.
func (c *Cluster) resume(id groupID, self uint64, seed engine.Seed) (*Group, error) {
	c.mu.Lock()
	at := slices.IndexFunc(c.yielded[id.partition], func(g *Group) bool { return g.id == id && g.self == self })
	if at >= 0 {
		g := c.yielded[id.partition][at]
		c.yielded[id.partition] = slices.Delete(c.yielded[id.partition], at, at+1)
		c.mu.Unlock()
		return g, nil
	}
	c.mu.Unlock()
	log, state, was, err := c.cfg.Vault.recall(id, self, seed, &c.budget)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	g, err := c.start(id, self, seed, Wanted{Durable: true, Async: true, Generation: id.generation}, log)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if was != nil {
		empty := g.p
		g.desk.install(was)
		g.gathering = state.gathering
		empty.Close()
	}
	return g, nil
}

// finishLog carries out all that a replica has in its log that takes part no more. What nobody has acknowledged is done, too: its outcome was
// not known.
func (g *Group) finishLog() (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.guard(&err)
	last, err := g.store.LastIndex()
	if err != nil || last <= g.applied {
		return err
	}
	rest, err := g.store.Entries(g.applied+1, last+1, 1<<62)
	if err != nil {
		return err
	}
	for _, e := range rest {
		g.gathering.until(e.GetTerm())
		switch {
		case e.GetType() != raftpb.EntryNormal || len(e.GetData()) == 0:
		case e.GetData()[0] == entryPart:
			g.gathering.take(e.GetTerm(), e.GetData())
		default:
			g.carryOut(e, nil)
		}
		g.applied = e.GetIndex()
	}
	return nil
}

// Forget lets go of what a replica has left that is surely no member of its group any more.
func (c *Cluster) Forget(k Kept) error {
	c.release(k.Partition, func(g *Group) bool { return g.self == k.Replica && g.id.generation == k.Generation })
	return c.cfg.Vault.Forget(k)
}

// release lets go of replicas of a partition that took part no more, as far as they are in memory.
func (c *Cluster) release(p placement.PartitionID, which func(*Group) bool) {
	var gone []*Group
	c.mu.Lock()
	c.yielded[p] = slices.DeleteFunc(slices.Clone(c.yielded[p]), func(g *Group) bool {
		if !which(g) {
			return false
		}
		gone = append(gone, g)
		return true
	})
	c.mu.Unlock()
	for _, g := range gone {
		g.quit(true)
	}
}

func (c *Cluster) closeYielded() {
	c.mu.Lock()
	all := c.yielded
	c.yielded = map[placement.PartitionID][]*Group{}
	c.mu.Unlock()
	for _, list := range all {
		for _, g := range list {
			g.quit(true)
		}
	}
}
