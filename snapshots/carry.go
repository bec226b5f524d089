package snapshots

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/courtesy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/seal"
)

// A snapshot goes to another cluster as a carried file (see package seal), which a cluster with the same master key takes in for the tenant that the file is for: it is read to its end, and
// sealed anew with that tenant's key, before anything is called a snapshot. A carried file is not reached when the tenant's key is shredded, nor when that is rotated: it is
// as safe as the master key.

// Carry opens a snapshot as it lies in the store, sealed, behind a passport for a tenant of any cluster, by its id.
func (s *Service) Carry(ctx context.Context, snap *Snapshot, to string) (io.ReadCloser, int64, error) {
	if snap.State != Available {
		return nil, 0, fault.New(fault.Conflict, "snapshots.carry", "the snapshot is %s", snap.State)
	}
	kms, err := s.keys.of(ctx, snap.TenantID, false)
	if err != nil {
		return nil, 0, err
	}
	r, err := s.open(ctx, snap)
	if err != nil {
		return nil, 0, err
	}
	h, raw, err := seal.ReadHead(r)
	var pass []byte
	if err == nil {
		if snap.DataKey != nil {
			h.DataKey = *snap.DataKey
		}
		if pass, err = seal.Passport(ctx, h, to, kms, s.cfg.KMS); err != nil {
			err = kmsDown(err)
		}
	}
	if err != nil {
		return nil, 0, errors.Join(err, r.Close())
	}
	s.cfg.Audit("the snapshot " + snap.ID + " of the cache " + snap.Cache + " of tenant " + snap.Tenant + " was carried away for tenant id " + to)
	front := append(pass, raw...)
	return carrying{io.MultiReader(bytes.NewReader(front), r), r}, int64(len(pass)) + r.Size, nil
}

// carrying is a carried file that is being read.
type carrying struct {
	io.Reader
	io.Closer
}

// Take makes a snapshot of a cache of a carried file, and returns when it is there. Nothing is left of a file that is damaged, cut off or longer, or that another master key has to open.
func (s *Service) Take(ctx context.Context, tenant, tenantID, cache string, r io.Reader) (*Snapshot, error) {
	list, _ := s.List(tenant, tenantID, cache, "", 0)
	if len(list) >= MaxPerCache {
		return nil, fault.New(fault.Conflict, "snapshots.take", "a cache has at most %d snapshots: delete some", MaxPerCache)
	}
	h, plain, err := seal.OpenCarried(ctx, r, s.cfg.KMS, "snapshot", tenantID)
	if err != nil {
		return nil, notTaken(err)
	}
	kms, err := s.keys.of(ctx, tenantID, true)
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	var id engine.CacheID // of a cache that is not here, as if it had been deleted
	copy(id[:], seal.NewKey().Bytes)
	snap := &Snapshot{
		ID: newID(now), Tenant: tenant, TenantID: tenantID, Cache: cache, CacheID: id.String(), State: Creating,
		Node: s.cfg.Node, Life: s.cfg.Life, Created: h.Created,
	}
	if err := s.table.Create(ctx, snap.name(), snap); err != nil {
		return nil, err
	}
	room, err := s.room(snap)
	took := make(chan error, 1)
	if err == nil {
		err = s.begin(snap.name(), Progress{Snapshot: snap.ID}, func(work context.Context, j *job) error {
			err := guarded(func() error { return s.take(work, snap, kms, plain, room, j) })
			took <- err
			return err
		})
		if err == nil {
			stop := context.AfterFunc(ctx, s.job(snap.name()).cancel)
			err = <-took
			stop()
		}
	}
	if err != nil {
		after, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterTime)
		defer cancel()
		return nil, errors.Join(notTaken(err), s.remove(after, snap))
	}
	done, ok := s.table.Get(snap.name())
	if !ok {
		return nil, fault.New(fault.Conflict, "snapshots.take", "it was deleted as soon as it was there")
	}
	return done, nil
}

// take seals what comes with a tenant's key, reads it back, and makes the record say that it is there.
func (s *Service) take(ctx context.Context, snap *Snapshot, kms seal.KMS, plain io.Reader, room int64, j *job) error {
	d, err := s.cfg.Store.draft(ctx, snap.object())
	if err != nil {
		return err
	}
	sealed, err := seal.Writer(ctx, &bounded{d.w, room}, kms, s.head(snap))
	var came Contents
	if err == nil {
		came, err = readPlain(ctx, io.TeeReader(plain, sealed), &courtesy.Work{}, Sink{Told: j.told})
	}
	if err == nil {
		err = sealed.Close()
	}
	if err != nil {
		return errors.Join(err, d.discard())
	}
	if err := d.finish(ctx, j); err != nil {
		return err
	}
	found, size, err := s.verify(ctx, snap, kms, j)
	if err == nil && found != came {
		err = ErrBad
	}
	if err != nil {
		return err
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterTime)
	defer cancel()
	return s.update(after, snap, func(r *Snapshot) error {
		if r.State != Creating {
			return errMoot
		}
		r.State, r.Contents, r.Size = Available, came, size
		return nil
	})
}

// notTaken is what a client hears of a carried file that is not taken.
func notTaken(err error) error {
	var known *fault.Error
	switch {
	case err == nil || errors.As(err, &known): // of who sends it, of the store, of a limit
	case errors.Is(err, seal.ErrNoKey):
		return fault.Wrap(fault.Conflict, "snapshots.take", err, "the file was made by a cluster with another master key")
	case errors.Is(err, seal.ErrForeign), errors.Is(err, seal.ErrDamaged), errors.Is(err, ErrBad), errors.Is(err, engine.ErrCut):
		return fault.Wrap(fault.InvalidArgument, "snapshots.take", err, "this is no portable snapshot for this tenant, or it is damaged or cut off: download one with for=TENANT-ID")
	}
	return err
}
