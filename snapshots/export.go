package snapshots

import (
	"context"
	"fmt"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// Cut begins to cut a cache as it is now, or its keys with a prefix, for somebody who reads what is in it. The cuts are to
// be read one after the other, and closed.
func (s *Service) Cut(ctx context.Context, c *Cache, prefix []byte) ([]Cut, error) {
	return s.cut(ctx, c, engine.CutOptions{Prefix: prefix, NoOnce: true, NoFlush: true, DataOnly: len(prefix) > 0})
}

// Items is about how many keys a cache has.
func (s *Service) Items(c *Cache) int64 { return s.cfg.Engine.Items(c) }

// Visit reads a snapshot and hands its parts on, all for target 0. What it handed on is worth nothing until it has returned nil.
func (s *Service) Visit(ctx context.Context, snap *Snapshot, prefix []byte, emit func(*engine.CutPart) error) error {
	if snap.State != Available {
		return fault.New(fault.Conflict, "snapshots.visit", "the snapshot is %s", snap.State)
	}
	kms, err := s.keys.of(ctx, snap.TenantID, false)
	if err != nil {
		return err
	}
	r, err := s.open(ctx, snap)
	if err != nil {
		return err
	}
	defer r.Close()
	found, err := Read(ctx, r, kms, s.head(snap), Sink{
		Targets: 1, Emit: emit,
		To: func(_ int, key []byte) int {
			if len(key) < len(prefix) || string(key[:len(prefix)]) != string(prefix) {
				return -1
			}
			return 0
		},
	})
	if err == nil && found != snap.Contents {
		err = fmt.Errorf("%w: its record says %+v, it has %+v", ErrBad, snap.Contents, found)
	}
	return err
}
