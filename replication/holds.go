package replication

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/raft/v3"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// One point over several partitions.
//
// A cache may lie on several partitions, led by several nodes, which share no clock and no order of their writes. A cut of all
// of them shows one point all the same: writes to this cache, and to no other, are held back on each partition until what is under way
// there has been applied; when that is so on all of them, each is cut; then writes go on. Between the last hold and the first cut lies a
// moment at which nothing of the cache was changing: that is the point. What was acknowledged before the cut began is in it, and what
// came after its end is not. Reads go on.
//
//	O1: a hold ends HoldTime after it began, whatever becomes of the one who asked for it
//	O2: a cut is taken under a hold that has not ended, by a leader of which a quorum says afterwards that it led all the time

// HoldTime is how long writes to a cache are held back at the most.
const HoldTime = 500 * time.Millisecond

// A Holder is a partition, here or led by another node.
type Holder interface {
	// Hold keeps writes to a cache back, and returns when those under way have been applied. Whoever got it releases it.
	Hold(ctx context.Context, id engine.CacheID) (Held, error)
}

// Held is a cache of which the writes to one partition are held back.
type Held interface {
	// Cut begins to cut the cache as it stands.
	Cut(ctx context.Context, o engine.CutOptions) (Cut, error)
	// Follow is Cut, and tells from there on what becomes of the cache.
	Follow(ctx context.Context, o engine.CutOptions) (Cut, Feed, error)
	// Release lets writes go on. It may be called again, and after the hold has ended by itself.
	Release()
}

// A Cut is a cut of a cache on one partition, read as a stream while writes go on. Whoever began it closes it.
type Cut interface {
	Read(p []byte) (int, error)
	Close()
}

var (
	errHoldOver = fault.New(fault.Unavailable, "replication.cut", "the partitions of the cache did not come to rest within %v: try again", HoldTime)
	errHeld     = fault.New(fault.Conflict, "replication.hold", "another snapshot of the cache is beginning")
	errCutBusy  = fault.New(fault.Unavailable, "replication.cut", "another snapshot of the cache, or a new replica of its partition, is being made: try again")
	errNoCache  = fault.New(fault.Unavailable, "replication.cut", "the cache is not in this partition, or not yet")
	errCutLost  = errors.New("replication: the replica that was cut is not here any more")
)

// CutCache begins a cut of a cache on all of its partitions at one point. same, nil for always, is asked under the hold
// whether the cache still lies on these.
func CutCache(ctx context.Context, parts []Holder, id engine.CacheID, o func(part int) engine.CutOptions, same func() bool) ([]Cut, error) {
	cuts := make([]Cut, len(parts))
	err := underHold(ctx, parts, id, same, func(ctx context.Context, i int, h Held) (err error) {
		cuts[i], err = h.Cut(ctx, o(i))
		return err
	})
	if err != nil {
		closeCuts(cuts)
		return nil, err
	}
	return cuts, nil
}

// FollowCache is CutCache, and tells from that point on what becomes of the cache. A feed may have nothing to tell before its cut has been read.
func FollowCache(ctx context.Context, parts []Holder, id engine.CacheID, o func(part int) engine.CutOptions, same func() bool) ([]Cut, []Feed, error) {
	cuts, feeds := make([]Cut, len(parts)), make([]Feed, len(parts))
	err := underHold(ctx, parts, id, same, func(ctx context.Context, i int, h Held) (err error) {
		cuts[i], feeds[i], err = h.Follow(ctx, o(i))
		return err
	})
	if err != nil {
		closeCuts(cuts)
		for _, f := range feeds {
			if f != nil {
				f.Close()
			}
		}
		return nil, nil, err
	}
	return cuts, feeds, nil
}

func closeCuts(cuts []Cut) {
	for _, c := range cuts {
		if c != nil {
			c.Close()
		}
	}
}

// underHold does something for each partition of a cache while writes to it are held back on all of them.
func underHold(ctx context.Context, parts []Holder, id engine.CacheID, same func() bool, do func(ctx context.Context, i int, h Held) error) error {
	ctx, cancel := context.WithTimeout(ctx, HoldTime)
	defer cancel()
	held := make([]Held, len(parts))
	defer func() {
		for _, h := range held {
			if h != nil {
				h.Release()
			}
		}
	}()
	err := each(len(parts), func(i int) (err error) {
		held[i], err = parts[i].Hold(ctx, id)
		return err
	})
	if err != nil {
		return err
	}
	if same != nil && !same() {
		return fault.New(fault.Unavailable, "replication.cut", "the cache is moving to other partitions: try again")
	}
	return each(len(parts), func(i int) error { return do(ctx, i, held[i]) })
}

// each does something for each of n, at once, and returns the first error.
func each(n int, do func(i int) error) error {
	if n == 1 {
		return do(0)
	}
	failed := make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { failed[i] = do(i) })
	}
	all.Wait()
	for _, err := range failed {
		if err != nil {
			return err
		}
	}
	return nil
}

// cutHere cuts a cache. The caller holds the lock.
func (l *desk) cutHere(id engine.CacheID, o engine.CutOptions) (*CacheCut, error) {
	if _, ok := l.p.SettingsOf(id); !ok {
		return nil, errNoCache
	}
	s, ok := l.p.CutCache(id, o)
	if !ok {
		return nil, errCutBusy
	}
	s.Asked = l.awaited
	c := &CacheCut{d: l, s: s}
	if l.cuts == nil {
		l.cuts = map[*CacheCut]bool{}
	}
	l.cuts[c] = true
	return c, nil
}

// endCuts ends all cuts that are being read, for the partition goes elsewhere. The caller holds the lock.
func (l *desk) endCuts() {
	for c := range l.cuts {
		c.end()
	}
}

// A localHold is one of a partition without a log: nothing is ever under way.
type localHold struct {
	l     *Local
	cache engine.CacheID
	timer *time.Timer
	over  chan struct{} // closed when it has ended
}

// Hold implements Holder.
func (l *Local) Hold(_ context.Context, id engine.CacheID) (Held, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.broken || l.loading:
		return nil, l.why()
	case l.holds[id] != nil:
		return nil, errHeld
	}
	h := &localHold{l: l, cache: id, over: make(chan struct{})}
	if l.holds == nil {
		l.holds = map[engine.CacheID]*localHold{}
	}
	l.holds[id] = h
	h.timer = time.AfterFunc(HoldTime, h.Release)
	return h, nil
}

// Cut implements Held.
func (h *localHold) Cut(_ context.Context, o engine.CutOptions) (Cut, error) {
	l := h.l
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.broken || l.loading:
		return nil, l.why()
	case l.holds[h.cache] != h:
		return nil, errHoldOver
	}
	l.giveWay()
	c, err := l.cutHere(h.cache, o)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Follow implements Held.
func (h *localHold) Follow(_ context.Context, o engine.CutOptions) (Cut, Feed, error) {
	l := h.l
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.broken || l.loading:
		return nil, nil, l.why()
	case l.holds[h.cache] != h:
		return nil, nil, errHoldOver
	}
	l.giveWay()
	c, f, err := l.followHere(h.cache, o)
	if err != nil {
		return nil, nil, err
	}
	return c, f, nil
}

// Release implements Held.
func (h *localHold) Release() {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	h.timer.Stop()
	if h.l.holds[h.cache] == h {
		delete(h.l.holds, h.cache)
		close(h.over)
	}
}

// rest waits until writes to a task's cache are held back no more. The caller holds the lock, and does so again afterwards.
func (l *Local) rest(ctx context.Context, t *engine.Task) error {
	for h := l.holds[t.Cache]; h != nil; h = l.holds[t.Cache] {
		l.mu.Unlock()
		select {
		case <-h.over:
		case <-ctx.Done():
		}
		l.mu.Lock()
		if err := ctx.Err(); err != nil {
			return fault.Wrap(fault.Timeout, "replication.execute", err, "the request's deadline passed before it was begun")
		}
	}
	return nil
}

// A groupHold is one of a group's leader.
type groupHold struct {
	g     *Group
	cache engine.CacheID
	timer *time.Timer
	kept  []*proposal // in their order
	told  bool        // ready has been told
	ready chan error  // told once: nothing of the cache is under way, or there is no hold
}

// Hold implements Holder.
func (g *Group) Hold(ctx context.Context, id engine.CacheID) (Held, error) {
	h := &groupHold{g: g, cache: id, ready: make(chan error, 1)}
	h.timer = time.AfterFunc(HoldTime, h.Release)
	g.inside(func() {
		switch {
		case !g.settled || g.moving:
			h.tell(g.notLeader())
		case g.holds[id] != nil:
			h.tell(errHeld)
		default:
			if g.holds == nil {
				g.holds = map[engine.CacheID]*groupHold{}
			}
			g.holds[id] = h
		}
	})
	select {
	case err := <-h.ready:
		if err != nil {
			h.Release()
			return nil, err
		}
		return h, nil
	case <-ctx.Done():
		h.Release()
		return nil, fault.Wrap(fault.Unavailable, "replication.hold", ctx.Err(), "what is under way in the partition did not come to its end in time: try again")
	}
}

func (h *groupHold) tell(err error) {
	if !h.told {
		h.told = true
		h.ready <- err
	}
}

// Cut implements Held.
func (h *groupHold) Cut(ctx context.Context, o engine.CutOptions) (Cut, error) {
	c, _, term, err := h.cut(o, false)
	if err != nil {
		return nil, err
	}
	if err := h.confirm(ctx, term); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Follow implements Held.
func (h *groupHold) Follow(ctx context.Context, o engine.CutOptions) (Cut, Feed, error) {
	c, f, term, err := h.cut(o, true)
	if err != nil {
		return nil, nil, err
	}
	if err := h.confirm(ctx, term); err != nil {
		c.Close()
		f.Close()
		return nil, nil, err
	}
	return c, f, nil
}

// confirm has a quorum say that no other has led meanwhile (O2): behind the cut, as with any read.
func (h *groupHold) confirm(ctx context.Context, term uint64) error {
	g := h.g
	var reply engine.Recording
	err := g.Execute(ctx, &engine.Task{Cache: h.cache, Calls: []engine.Call{{Command: engine.MustLookup("DBSIZE"), Args: [][]byte{[]byte("DBSIZE")}}}, Reply: &reply})
	g.mu.Lock()
	defer g.mu.Unlock()
	if err == nil && (g.term != term || !g.settled) {
		err = g.notLeader()
	}
	return err
}

func (h *groupHold) cut(o engine.CutOptions, follows bool) (c *CacheCut, f *CacheFeed, term uint64, err error) {
	g := h.g
	g.mu.Lock()
	defer g.unlock()
	switch {
	case g.broken:
		return nil, nil, 0, errBroken
	case g.holds[h.cache] != h:
		return nil, nil, 0, errHoldOver
	}
	defer g.guard(&err)
	g.giveWay()
	if follows {
		c, f, err = g.followHere(h.cache, o)
	} else {
		c, err = g.cutHere(h.cache, o)
	}
	return c, f, g.term, err
}

// Release implements Held.
func (h *groupHold) Release() {
	h.timer.Stop()
	h.g.inside(func() {
		if h.g.holds[h.cache] == h {
			h.g.endHold(h)
		}
	})
}

// endHold puts what a hold has kept in line again. The caller holds the lock.
func (g *Group) endHold(h *groupHold) {
	delete(g.holds, h.cache)
	g.queue = append(h.kept, g.queue...)
	h.kept = nil
	h.tell(errHoldOver)
}

// endHolds ends all holds: this replica leads no more. The caller holds the lock.
func (g *Group) endHolds() {
	for _, h := range g.holds {
		g.endHold(h)
	}
}

// keepBack takes out of the line what is held. The caller holds the lock.
func (g *Group) keepBack() {
	if len(g.holds) == 0 {
		return
	}
	line := g.queue
	g.queue = g.queue[:0]
	for _, p := range line {
		if h := g.holds[p.cache()]; h != nil {
			h.kept = append(h.kept, p)
		} else {
			g.queue = append(g.queue, p)
		}
	}
	clear(line[len(g.queue):])
}

// tellHolds tells those who hold a cache of which nothing is under way any more. The caller holds the lock.
func (g *Group) tellHolds() {
	for id, h := range g.holds {
		if !h.told && g.state == raft.StateLeader && g.settled && !g.underWay(id) {
			h.tell(nil)
		}
	}
}

// underWay reports whether entries with tasks of a cache have been proposed and not been applied.
func (g *Group) underWay(id engine.CacheID) bool {
	for _, list := range [...][]*flight{g.flights, g.proposed} {
		for _, f := range list {
			for _, p := range f.tasks {
				if p != nil && p.cache() == id { // nil: makes room for others in the same entry
					return true
				}
			}
		}
	}
	return false
}
