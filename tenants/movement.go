package tenants

import (
	"context"
	"errors"

	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// How a cache comes to have more ranges, or fewer. Its owner, or the controller within the bounds that its owner has set, says
// how many it is to have (ScaleCache); the controller begins one movement after another until it is so (BeginMove), and whoever
// leads the source drives each (package replication/move) and tells here when the span has passed (CommitMove) and when nothing
// is left to do (EndMove). Each is one compare-and-swap of the cache's record.

// Growth says when a cache is to be given more ranges without being asked, and fewer again. The zero value is never.
type Growth struct {
	MaxRanges  int   `json:"max_ranges,omitempty"`           // how many it may be given; 0 and 1 for none
	RangeBytes int64 `json:"range_bytes,omitempty"`          // as soon as one has more bytes; 0 for whatever it has
	RangeOps   int64 `json:"range_ops_per_second,omitempty"` // or more operations a second; 0 for however many
}

// Bounds of Growth. A range of less is not worth a partition of its own.
const (
	MinRangeBytes = 1 << 20
	MinRangeOps   = 100
)

func (g *Growth) check() error {
	switch {
	case g.MaxRanges < 0 || g.MaxRanges > placement.MaxRanges:
		return fault.About(fault.OutOfRange, "tenants.growth", "growth.max_ranges", "growth.max_ranges is 0 to %d, not %d", placement.MaxRanges, g.MaxRanges)
	case g.RangeBytes != 0 && (g.RangeBytes < MinRangeBytes || g.RangeBytes > MaxMemoryLimit):
		return fault.About(fault.OutOfRange, "tenants.growth", "growth.range_bytes", "growth.range_bytes is 0 (for none) or %d to %d, not %d", MinRangeBytes, int64(MaxMemoryLimit), g.RangeBytes)
	case g.RangeOps != 0 && (g.RangeOps < MinRangeOps || g.RangeOps > MaxMemoryLimit):
		return fault.About(fault.OutOfRange, "tenants.growth", "growth.range_ops_per_second", "growth.range_ops_per_second is 0 (for none) or %d to %d, not %d", MinRangeOps, int64(MaxMemoryLimit), g.RangeOps)
	}
	return nil
}

// ScaleCache says how many ranges a cache is to have, each on a partition of its own. It returns at once: the record tells how
// far that is.
func (s *Store) ScaleCache(ctx context.Context, tenant, name string, ranges int) (*Cache, error) {
	if most := min(s.place.Cluster.Partitions, placement.MaxRanges); ranges < 1 || ranges > most {
		return nil, fault.About(fault.OutOfRange, "tenants.scale_cache", "ranges", "ranges is 1 to %d, as many as there are partitions, not %d", most, ranges)
	}
	return s.caches.Update(ctx, tenant+"/"+name, func(c *Cache) error {
		if least := int64(ranges) * MinMemoryLimit; c.MemoryLimit < least {
			return fault.About(fault.OutOfRange, "tenants.scale_cache", "ranges", "%d ranges share a memory limit of at least %d bytes, that of this cache is %d", ranges, least, c.MemoryLimit)
		}
		if c.WantedRanges != ranges {
			c.resettle(ranges)
		}
		return nil
	})
}

// resettle has a cache get so many ranges, on partitions that suit it.
func (c *Cache) resettle(ranges int) {
	if m := c.Move; m != nil && !m.Committed { // it may lead elsewhere
		abort := *m
		abort.Abort = true
		c.Move = &abort
	}
	c.WantedRanges = ranges
}

// Keeps reports whether a cache is to outlive the end of its process.
func (c *Cache) Keeps() bool { return c.Durability != "" && c.Durability != Durabilities[0] }

// Scaled reports whether a cache has the ranges that it is to have.
func (c *Cache) Scaled() bool {
	return c.Move == nil && c.WantedRanges == 0
}

// errSuperseded says that a record is not what a step was decided by.
var errSuperseded = fault.New(fault.Conflict, "tenants.movement", "the cache has changed meanwhile")

// changeCache changes the record of a cache that is still the one of that id.
func (s *Store) changeCache(ctx context.Context, c *Cache, change func(*Cache) error) (*Cache, error) {
	return s.caches.Update(ctx, c.Tenant+"/"+c.Name, func(now *Cache) error {
		if now.HexID != c.HexID {
			return errSuperseded
		}
		return change(now)
	})
}

// BeginMove has a span of slots of a cache set out, if nothing else of it does and nothing has changed since it was decided.
func (s *Store) BeginMove(ctx context.Context, c *Cache, m placement.Movement) (*Cache, error) {
	began := now()
	return s.changeCache(ctx, c, func(now *Cache) error {
		if now.Move != nil || now.Epoch != c.Epoch {
			return errSuperseded
		}
		now.Epoch++
		m.Epoch, m.StartedAt = now.Epoch, began
		now.Move = &m
		return nil
	})
}

// CommitMove notes that a span has passed to its target: requests go there from now on.
func (s *Store) CommitMove(ctx context.Context, c *Cache, epoch uint64) error {
	_, err := s.changeCache(ctx, c, func(now *Cache) error {
		if now.Move == nil || now.Move.Epoch != epoch {
			return errSuperseded
		}
		m := *now.Move
		m.Committed = true
		now.Move = &m
		now.Ranges = placement.Reassign(now.Ranges, m.From, m.To, m.Target)
		return nil
	})
	return err
}

// EndMove notes that a movement is over, one way or the other.
func (s *Store) EndMove(ctx context.Context, c *Cache, epoch uint64) error {
	_, err := s.changeCache(ctx, c, func(now *Cache) error {
		if now.Move == nil || now.Move.Epoch != epoch {
			return errSuperseded
		}
		now.Move = nil
		return nil
	})
	return err
}

// holdings is what a partition holds of the cache, as long as it has not been told otherwise since; "" for all of it, and ever.
// A partition that is new in the middle of a movement, because the one before it is lost, cannot know whether the span has passed:
// it serves none of it until the driver has found out.
func (c *Cache) holdings(at placement.PartitionID) string {
	if c.Epoch == 0 && len(c.Ranges) == 1 {
		return ""
	}
	t := tenure.Tenure{Epoch: c.Epoch}
	for _, r := range placement.Reassign(c.Ranges, 0, 0, c.Ranges[0].Partition) {
		if r.Partition == at {
			t.Owns = append(t.Owns, tenure.Span{From: r.From, To: r.To})
		}
	}
	if m := c.Move; m != nil && !m.Committed {
		t.Epoch--
		if at == m.Source {
			t.Move = &tenure.Move{Epoch: m.Epoch, Span: tenure.Span{From: m.From, To: m.To}, Out: true, Other: uint16(m.Target), Frozen: true}
		}
	}
	return string(t.Append(nil))
}

// Rescale begins, for each cache that is to have other ranges and of which nothing moves, the next movement on the way there.
// tell hears of each for the log of events. It is what the controller does now and then; two of them at a time do no harm.
func (s *Store) Rescale(ctx context.Context, tell func(on placement.PartitionID, what string)) error {
	var failed error
	s.EachCache("", func(c *Cache) {
		if c.WantedRanges == 0 || c.Move != nil || ctx.Err() != nil {
			return
		}
		m, on, err := s.nextMove(c)
		switch {
		case err != nil:
		case !on:
			err = s.endScale(ctx, c)
		default:
			if _, err = s.BeginMove(ctx, c, m); err == nil {
				tell(m.Source, c.Tenant+"/"+c.Name+": "+m.String()+" set out")
			}
		}
		if err != nil && !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.NotFound) {
			failed = errors.Join(failed, err)
		}
	})
	return failed
}

// nextMove is the next movement on the way to the ranges that a cache is to have; on is false when it has them.
func (s *Store) nextMove(c *Cache) (m placement.Movement, on bool, err error) {
	var all []placement.PartitionID
	for _, p := range s.place.Partitions() {
		if len(p.Replicas) > 0 && p.Class() == s.class(c) {
			all = append(all, p.ID)
		}
	}
	if len(all) < c.WantedRanges {
		return m, false, fault.New(fault.Unavailable, "tenants.rescale", "of the partitions only %d have a replica, and the cache %q is to be on %d", len(all), c.Name, c.WantedRanges)
	}
	load := s.load()
	m, on = placement.NextMove(c.Ranges, placement.Layout(c.Ranges, c.WantedRanges, all, func(id placement.PartitionID) int64 { return load[id] }))
	return m, on, nil
}

// endScale notes that a cache has the ranges that it is to have, unless it is to have others, or others of as many, by now.
func (s *Store) endScale(ctx context.Context, c *Cache) error {
	_, err := s.changeCache(ctx, c, func(now *Cache) error {
		if now.Move != nil || now.WantedRanges != c.WantedRanges || now.Durability != c.Durability {
			return errSuperseded
		}
		now.Ranges = placement.Reassign(now.Ranges, 0, 0, now.Ranges[0].Partition)
		now.WantedRanges = 0
		return nil
	})
	return err
}
