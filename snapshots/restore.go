package snapshots

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/courtesy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/seal"
)

// A Restoration is the record of a cache that is being filled: from a snapshot, or as a branch of another cache. It is what others
// know of it, and what is cleaned up after when the node that does it dies.
//
//	V1: while State is Filling nothing has the name of the cache because of it
//	V2: who makes it Publishing, and nobody else, may give the cache its name
type Restoration struct {
	Tenant   string         `json:"tenant"`
	TenantID string         `json:"tenant_id"`
	Cache    string         `json:"cache"`
	ID       []byte         `json:"cache_id"`
	Place    []uint16       `json:"place"` // partitions
	State    RestoringState `json:"state"`
	Node     string         `json:"node"`
	Life     string         `json:"life"`
	Changed  time.Time      `json:"changed"`
	Progress Progress       `json:"progress"` // when it began, and in the end
}

// RestoringState says how far a restoration is.
type RestoringState string

// The states of a restoration.
const (
	Filling    RestoringState = "filling"
	Publishing RestoringState = "publishing"
	Done       RestoringState = "done"
	Broken     RestoringState = "failed" // nothing of it is left
)

// RestoreOptions say what is restored of a snapshot, and how.
type RestoreOptions struct {
	Prefix    []byte // only keys that begin so
	FreezeTTL bool   // what was left of times to live is left again; else time has gone on
}

// Restore begins to fill a cache that nobody can ask yet with a snapshot, and calls publish when all of it is there and was
// found right. If anything goes wrong before, or in publish, the cache is dropped.
func (s *Service) Restore(ctx context.Context, snap *Snapshot, c *Cache, o RestoreOptions, publish func(context.Context) error) error {
	if snap.State != Available {
		return fault.New(fault.Conflict, "snapshots.restore", "the snapshot is %s", snap.State)
	}
	kms, err := s.keys.of(ctx, snap.TenantID, false)
	if err != nil {
		return err
	}
	return s.fillThen(ctx, c, Progress{Snapshot: snap.ID, Total: snap.Keys}, publish, func(ctx context.Context, j *job) error {
		return s.fill(ctx, snap, kms, c, o, j)
	})
}

// Branch begins to fill a cache that nobody can ask yet with what another one holds at this point, straight from memory to memory, and
// calls publish when all of it is there. Both go on by themselves from then on.
func (s *Service) Branch(ctx context.Context, from, c *Cache, prefix []byte, publish func(context.Context) error) error {
	cuts, err := s.cut(ctx, from, engine.CutOptions{Prefix: prefix, NoOnce: true, NoFlush: true, DataOnly: len(prefix) > 0})
	if err != nil {
		return err
	}
	err = s.fillThen(ctx, c, Progress{Total: s.cfg.Engine.Items(from)}, publish, func(ctx context.Context, j *job) error {
		defer closeAll(cuts)
		return s.copyCuts(ctx, cuts, c, j)
	})
	if err != nil {
		closeAll(cuts)
	}
	return err
}

// fillThen begins a job that fills a cache and gives it its name.
func (s *Service) fillThen(ctx context.Context, c *Cache, p Progress, publish func(context.Context) error, fill func(context.Context, *job) error) error {
	key := restoring(c.TenantID, c.Name)
	p.Began, p.Phase = s.cfg.Now().UTC().Truncate(time.Millisecond), Reading
	p.Entered = p.Began
	r := &Restoration{
		Tenant: c.Tenant, TenantID: c.TenantID, Cache: c.Name, ID: c.ID[:], Place: c.Place, State: Filling, Node: s.cfg.Node, Life: s.cfg.Life, Changed: p.Began, Progress: p,
	}
	if err := s.claim(ctx, key, r); err != nil {
		return err
	}
	err := s.begin(key, p, func(ctx context.Context, j *job) error {
		err := guarded(func() error {
			if err := s.stage(ctx, c, func() error { return fill(ctx, j) }); err != nil {
				return err
			}
			return s.publish(ctx, key, r, publish)
		})
		if err != nil && !fault.Is(err, fault.OutcomeUnknown) { // then the name may stand for it
			err = errors.Join(err, s.unstage(context.WithoutCancel(ctx), c))
		}
		s.note(ctx, key, r, j, err)
		return err
	})
	if err != nil {
		s.settle(context.WithoutCancel(ctx), key, r, func(r *Restoration) {
			r.State, r.Progress.Ended, r.Progress.Problem = Broken, s.cfg.Now(), problem(err)
		})
	}
	return err
}

// claim makes the record of a restoration, unless another one fills a cache of this name.
func (s *Service) claim(ctx context.Context, key string, r *Restoration) error {
	if old, ok := s.restorations.Get(key); ok {
		if old.State == Filling || old.State == Publishing {
			return fault.New(fault.Conflict, "snapshots.restore", "the cache %q is being restored already, on node %s", r.Cache, old.Node)
		}
		_, err := s.restorations.Update(ctx, key, func(now *Restoration) error {
			if now.State == Filling || now.State == Publishing {
				return fault.New(fault.Conflict, "snapshots.restore", "the cache %q is being restored already, on node %s", r.Cache, now.Node)
			}
			*now = *r
			return nil
		})
		return err
	}
	return s.restorations.Create(ctx, key, r)
}

// publish gives a cache that is whole its name (V2).
func (s *Service) publish(ctx context.Context, key string, r *Restoration, publish func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, afterTime)
	defer cancel()
	_, err := s.restorations.Update(within, key, func(now *Restoration) error {
		if now.State != Filling || !bytes.Equal(now.ID, r.ID) {
			return fault.New(fault.Conflict, "snapshots.restore", "this node was taken for dead meanwhile")
		}
		now.State, now.Changed = Publishing, s.cfg.Now()
		return nil
	})
	if err != nil {
		return err
	}
	return publish(within)
}

// note has the record say what became of a restoration.
func (s *Service) note(ctx context.Context, key string, r *Restoration, j *job, err error) {
	p := j.progress()
	p.Ended = s.cfg.Now()
	state := Done
	switch {
	case err == nil:
	case ctx.Err() != nil:
		state, p.Problem = Broken, cancelled
	default:
		state, p.Problem = Broken, problem(err)
	}
	s.settle(context.WithoutCancel(ctx), key, r, func(now *Restoration) { now.State, now.Progress = state, p })
}

// settle changes the record of a restoration, as long as it is that one's.
func (s *Service) settle(ctx context.Context, key string, r *Restoration, change func(*Restoration)) {
	ctx, cancel := context.WithTimeout(ctx, afterTime)
	defer cancel()
	_, err := s.restorations.Update(ctx, key, func(now *Restoration) error {
		if !bytes.Equal(now.ID, r.ID) {
			return errMoot
		}
		change(now)
		now.Changed = s.cfg.Now()
		return nil
	})
	if err != nil && err != errMoot {
		s.cfg.Log.Warn("what became of a restoration could not be noted", "cache", r.Cache, "error", err)
	}
}

// restoring is the key of the job that fills a cache; no snapshot has it.
func restoring(tenantID, cache string) string { return tenantID + "/" + cache }

// Restoring tells how far the last restoration of a cache is, wherever it runs.
func (s *Service) Restoring(ctx context.Context, tenantID, cache string) (Progress, bool) {
	key := restoring(tenantID, cache)
	if j := s.job(key); j != nil {
		return j.progress(), true
	}
	r, ok := s.restorations.Get(key)
	if !ok {
		return Progress{}, false
	}
	if r.Node != s.cfg.Node && (r.State == Filling || r.State == Publishing) {
		if p, ok := s.progressOn(ctx, r.Node, key); ok {
			return p, true
		}
	}
	return r.Progress, true
}

// CancelRestore cancels the restoration of a cache, and returns when nothing of it is left.
func (s *Service) CancelRestore(ctx context.Context, tenantID, cache string) error {
	key := restoring(tenantID, cache)
	r, ok := s.restorations.Get(key)
	if !ok {
		return fault.New(fault.NotFound, "snapshots.cancel", "nothing is restored into the cache %q", cache)
	}
	if r.State == Done || r.State == Broken {
		return nil
	}
	return s.cancelOn(ctx, r.Node, key)
}

// stage makes a cache that nobody can ask yet, on all of its partitions, and has it filled.
func (s *Service) stage(ctx context.Context, c *Cache, fill func() error) error {
	for i := range c.Targets {
		settings := c.Settings
		if c.Shares != nil {
			settings = c.Shares[i]
		}
		if err := s.execute(ctx, c, i, engine.ConfigureTask(c.ID, settings)); err != nil {
			return err
		}
	}
	return fill()
}

// unstage drops what was staged.
func (s *Service) unstage(ctx context.Context, c *Cache) (err error) {
	ctx, cancel := context.WithTimeout(ctx, afterTime)
	defer cancel()
	for i := range c.Targets {
		err = errors.Join(err, s.execute(ctx, c, i, engine.DropTask(c.ID)))
	}
	return err
}

// fill reads a snapshot into a cache.
func (s *Service) fill(ctx context.Context, snap *Snapshot, kms seal.KMS, c *Cache, o RestoreOptions, j *job) error {
	r, err := s.open(ctx, snap)
	if err != nil {
		return err
	}
	defer r.Close()
	_, opening, err := seal.Unlock(ctx, r, kms, s.head(snap))
	if err != nil {
		return err
	}
	defer opening.Clear()
	file, release, err := r.file()
	if err != nil {
		return err
	}
	e := &errand{Opening: *opening, Targets: c.Targets, Runs: c.runs(), Prefix: o.Prefix, Now: s.cfg.Now().UnixMilli()}
	if o.FreezeTTL {
		e.Thaw = e.Now
	}
	feed := s.feed(ctx, c)
	defer feed.stop()
	read, err := s.run(ctx, e, file, nil, func(kind byte, b []byte) error {
		switch kind {
		case saidProgress:
			j.heard(b)
		case saidPart:
			return feed.take(b)
		}
		return nil
	})
	if broken := release(); broken != nil {
		err = broken // the cause: what came was cut off
	}
	if err == nil && read.Contents != snap.Contents {
		err = fmt.Errorf("%w: its record says %+v, it has %+v", ErrBad, snap.Contents, read.Contents)
	}
	if err != nil {
		return err
	}
	return feed.finish()
}

// runs are the slots of all targets, nil where there is one: see errand.
func (c *Cache) runs() (all [][3]int) {
	if c.Targets < 2 {
		return nil
	}
	for i := range c.Targets {
		for _, r := range c.Slots(i) {
			all = append(all, [3]int{r[0], r[1], i})
		}
	}
	return all
}

// copyCuts brings cuts into a cache.
func (s *Service) copyCuts(ctx context.Context, cuts []Cut, c *Cache, j *job) error {
	feed := s.feed(ctx, c)
	defer feed.stop()
	var keys, read int64
	now := s.cfg.Now().UnixMilli()
	buf := make([]byte, chunkBytes)
	for _, cut := range cuts {
		split := &engine.CutSplitter{All: c.Targets, Now: now, To: func(_ int, key []byte) int { return c.To(key) }, Emit: feed.emit}
		for {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			n, err := cut.Read(buf)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			if _, err := split.Write(buf[:n]); err != nil {
				return err
			}
			read += int64(n)
			j.told(keys+split.Keys, read)
		}
		if err := split.Done(); err != nil {
			return err
		}
		keys += split.Keys
	}
	return feed.finish()
}

// A feed hands parts to the partitions of a cache, each in its own goroutine, so that reading and decrypting go on while they are
// applied. Parts of one target stay in their order.
type feed struct {
	ctx    context.Context
	cancel context.CancelCauseFunc // with the first error
	lines  []chan *engine.CutPart
	over   bool
	work   sync.WaitGroup
}

// feedAhead is how many parts wait for a partition at the most; each has about 256 KiB, or one value.
const feedAhead = 4

func (s *Service) feed(ctx context.Context, c *Cache) *feed {
	f := &feed{lines: make([]chan *engine.CutPart, c.Targets)}
	f.ctx, f.cancel = context.WithCancelCause(ctx)
	for i := range c.Targets {
		line := make(chan *engine.CutPart, feedAhead)
		f.lines[i] = line
		f.work.Go(func() {
			var work courtesy.Work
			for part := range line {
				if f.ctx.Err() != nil {
					continue
				}
				work.StepBack()
				if err := guarded(func() error { return s.execute(f.ctx, c, i, engine.RestoreTask(c.ID, part)) }); err != nil {
					f.cancel(err)
				}
			}
		})
	}
	return f
}

// take takes a part as a helper says it.
func (f *feed) take(b []byte) error {
	if len(b) < partHead {
		return fmt.Errorf("a part of %d bytes", len(b))
	}
	p := &engine.CutPart{Target: int(binary.BigEndian.Uint32(b)), Version: binary.BigEndian.Uint64(b[4:]), Frames: b[partHead:]}
	if p.Target >= len(f.lines) {
		return fmt.Errorf("a part for target %d of %d", p.Target, len(f.lines))
	}
	return f.emit(p)
}

// emit takes a part. Its error may be that of an earlier one.
func (f *feed) emit(p *engine.CutPart) error {
	select {
	case f.lines[p.Target] <- p:
		return nil
	case <-f.ctx.Done():
		return context.Cause(f.ctx)
	}
}

// finish returns when all parts are applied, with the first error.
func (f *feed) finish() error {
	if !f.over {
		f.over = true
		for _, line := range f.lines {
			close(line)
		}
	}
	f.work.Wait()
	return context.Cause(f.ctx)
}

// stop ends a feed, whether or not it is finished, and waits for what is under way: what comes after is a drop.
func (f *feed) stop() {
	f.cancel(context.Canceled)
	_ = f.finish() // who asked for the end knows why
}

// execute carries out a task whose one reply is not an error.
func (s *Service) execute(ctx context.Context, c *Cache, target int, t *engine.Task) error {
	var reply engine.Recording
	t.Reply = &reply
	if err := s.cfg.Engine.Execute(ctx, c, target, t); err != nil {
		return err
	}
	cursor := reply.Cursor()
	if token := cursor.Next(); token.Kind == engine.ReplyError {
		return token.Err
	}
	return nil
}
