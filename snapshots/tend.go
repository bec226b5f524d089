package snapshots

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// What is decided once in the cluster: by the node that controls it, or that is alone. Each step changes one record that has to be as the
// step expects it, so two who decide at the same time do no harm.

// Caches knows which caches there are.
type Caches interface {
	// Find finds a cache of a tenant to cut; false when there is none of that name.
	Find(tenant, tenantID, name string) (*Cache, bool)
	// Stands reports whether a cache with this id has the name.
	Stands(tenant, name string, id engine.CacheID) bool
	// Owners are the ids of all tenants.
	Owners() map[string]bool
}

// tendEvery is how often something is decided.
const tendEvery = time.Second

// sweepEvery is how often it is looked for what belongs to nobody.
const sweepEvery = 30 * time.Second

// publishGrace is for how long a node that is not heard of may still be giving a cache its name.
const publishGrace = time.Minute

// Run decides what is to be done while decides says that it is this node's turn, until ctx ends.
func (s *Service) Run(ctx context.Context, decides func() bool) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if !decides() {
			continue
		}
		step, cancel := context.WithTimeout(ctx, 2*afterTime)
		if err := s.Tend(step); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("not all of what is to be done about snapshots could be done; it will be tried again", "error", err)
		}
		cancel()
	}
}

// Tend looks once at all that is to be decided.
func (s *Service) Tend(ctx context.Context) error {
	s.bury(ctx)
	failed := s.dropUnfinished(ctx)
	if s.cfg.Now().Sub(s.swept) >= sweepEvery {
		s.swept = s.cfg.Now()
		failed = errors.Join(failed, s.destroyDue(ctx), s.dropOrphans(ctx))
	}
	all, _ := s.schedules.List("", "", 0)
	for _, c := range all {
		if err := s.keepTo(ctx, c); err != nil {
			failed = errors.Join(failed, fmt.Errorf("schedule %s: %w", c.name(), err))
		}
	}
	return failed
}

// bury ends the snapshots of processes that are gone.
func (s *Service) bury(ctx context.Context) {
	all, _ := s.table.List("", "", 0)
	for _, snap := range all {
		if snap.State == Creating && !s.cfg.Alive(snap.Node, snap.Life) {
			s.abandoned(ctx, snap)
		}
	}
}

// dropUnfinished drops what processes that are gone have filled, and forgets restorations that ended long ago.
func (s *Service) dropUnfinished(ctx context.Context) (failed error) {
	for _, key := range s.restorations.Names() {
		r, ok := s.restorations.Get(key)
		if !ok {
			continue
		}
		since := s.cfg.Now().Sub(r.Changed)
		switch {
		case r.State == Done || r.State == Broken:
			if since > keptProgress {
				failed = errors.Join(failed, s.restorations.Delete(ctx, key))
			}
		case s.cfg.Alive(r.Node, r.Life) || r.State == Publishing && since < publishGrace:
		default:
			failed = errors.Join(failed, s.giveUp(ctx, key, r))
		}
	}
	return failed
}

// giveUp ends a restoration whose process is gone. First nobody can publish it any more (V2), then it is dropped.
func (s *Service) giveUp(ctx context.Context, key string, r *Restoration) error {
	c := &Cache{Tenant: r.Tenant, TenantID: r.TenantID, Name: r.Cache, Targets: len(r.Place), Place: r.Place}
	copy(c.ID[:], r.ID)
	stands := s.cfg.Caches != nil && s.cfg.Caches.Stands(r.Tenant, r.Cache, c.ID)
	was := r.State
	_, err := s.restorations.Update(ctx, key, func(now *Restoration) error {
		if now.State != was || string(now.ID) != string(r.ID) {
			return errMoot
		}
		now.State, now.Changed, now.Progress.Ended = Done, s.cfg.Now(), s.cfg.Now()
		if !stands {
			now.State, now.Progress.Problem = Broken, fmt.Sprintf("node %s stopped while it was restored", r.Node)
		}
		return nil
	})
	if err == errMoot {
		return nil
	}
	if err != nil || stands {
		return err
	}
	s.cfg.Log.Warn("a restoration was not finished when its node stopped; what there is of it is dropped", "tenant", r.Tenant, "cache", r.Cache, "node", r.Node)
	return s.unstage(ctx, c)
}

// keepTo does what a schedule asks for.
func (s *Service) keepTo(ctx context.Context, c *Schedule) error {
	var cache *Cache
	if s.cfg.Caches != nil {
		var ok bool
		if cache, ok = s.cfg.Caches.Find(c.Tenant, c.TenantID, c.Cache); !ok {
			return s.schedules.Delete(ctx, c.name()) // a cache of that name is another one
		}
	}
	if due := c.due(s.cfg.Now()); !due.IsZero() {
		now, err := s.schedules.Update(ctx, c.name(), func(now *Schedule) error {
			if !now.Last.Before(due) {
				return errMoot
			}
			now.Last, now.Pending, now.Trouble = due, due, ""
			return nil
		})
		if err == errMoot {
			return nil
		}
		if err != nil {
			return err
		}
		c = now
	}
	if !c.Pending.IsZero() && cache != nil {
		if err := s.catchUp(ctx, c, cache); err != nil {
			return err
		}
	}
	return s.retain(ctx, c)
}

// catchUp has the snapshot made that is pending, or sees what became of it.
func (s *Service) catchUp(ctx context.Context, c *Schedule, cache *Cache) error {
	id, trouble := c.id(c.Pending), ""
	snap, ok := s.table.Get(c.Tenant + "/" + c.Cache + "/" + id)
	switch {
	case ok && snap.State == Creating:
		return nil
	case ok && snap.State == Failed:
		trouble = snap.Problem
	case !ok:
		_, err := s.Create(ctx, cache, CreateOptions{Prefix: c.Prefix, Schedule: c.Name, ID: id})
		if err == nil {
			return nil
		}
		return s.noteTrouble(ctx, c, problem(err))
	}
	_, err := s.schedules.Update(ctx, c.name(), func(now *Schedule) error {
		if now.Pending.Equal(c.Pending) {
			now.Pending, now.Trouble = time.Time{}, trouble
		}
		return nil
	})
	return err
}

// noteTrouble says why a snapshot is overdue. It stays pending, and is tried again.
func (s *Service) noteTrouble(ctx context.Context, c *Schedule, trouble string) error {
	if c.Trouble == trouble {
		return nil
	}
	s.cfg.Log.Error("a scheduled snapshot cannot be made; it is tried again", "tenant", c.Tenant, "cache", c.Cache, "schedule", c.Name, "due", c.Pending, "problem", trouble)
	_, err := s.schedules.Update(ctx, c.name(), func(now *Schedule) error { now.Trouble = trouble; return nil })
	return err
}

// retain deletes the snapshots of a schedule that it does not keep. The newest good one stays, however old it is.
func (s *Service) retain(ctx context.Context, c *Schedule) error {
	list, _ := s.List(c.Tenant, c.TenantID, c.Cache, "", 0)
	good, bad := 0, 0
	for i := len(list) - 1; i >= 0; i-- { // the newest first
		snap := list[i]
		if snap.Schedule != c.Name {
			continue
		}
		rank := &good
		switch snap.State {
		case Creating:
			continue
		case Failed:
			rank = &bad
		}
		*rank++
		old := c.KeepFor > 0 && s.cfg.Now().Sub(snap.Created) > c.KeepFor
		if *rank <= c.Keep && !(old && (snap.State == Failed || *rank > 1)) {
			continue
		}
		s.cfg.Log.Info("a snapshot is not kept any longer", "tenant", c.Tenant, "cache", c.Cache, "schedule", c.Name, "snapshot", snap.ID)
		if err := s.remove(ctx, snap); err != nil {
			return err
		}
	}
	return nil
}

// dropOrphans removes snapshots of tenants that are no more. Their keys are gone already.
func (s *Service) dropOrphans(ctx context.Context) (failed error) {
	if s.cfg.Caches == nil {
		return nil
	}
	owners := s.cfg.Caches.Owners()
	all, _ := s.table.List("", "", 0)
	for _, snap := range all {
		if snap.State == Creating || owners[snap.TenantID] {
			continue
		}
		if err := s.remove(ctx, snap); err != nil && !fault.Is(err, fault.Unavailable) { // its node may be back later
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
