// Package snapshots keeps what one cache holds as an encrypted, checked stream, and brings it back: into another cache, on
// other partitions, as a whole or by the beginning of keys.
//
// A snapshot is a cut of all of a cache's partitions at one moment, read while writes go on. It is called good only after it has
// been read back from where it lies, decrypted and counted. What is restored goes into a cache of its own that nobody can ask
// before all of it was found right; only then does the name stand for it. Nothing of a snapshot that is damaged, cut off, of
// another tenant or cancelled is ever seen.
//
// Start with Service; file.go has the format, which docs/reference/snapshot-format.md explains byte by byte.
package snapshots

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/internal/seal"
)

// State says how far a snapshot is.
type State string

// The states. What failed or was cancelled has left nothing but its record.
const (
	Creating  State = "creating"
	Available State = "available"
	Failed    State = "failed"
)

// A Snapshot is what is known of one.
type Snapshot struct {
	ID       string    `json:"id"`
	Tenant   string    `json:"tenant"`
	TenantID string    `json:"tenant_id"`
	Cache    string    `json:"cache"`
	CacheID  string    `json:"cache_id"`
	State    State     `json:"state"`
	Problem  string    `json:"problem,omitempty"`
	Node     string    `json:"node"` // that makes it
	Prefix   []byte    `json:"prefix,omitempty"`
	Created  time.Time `json:"created"` // when the cache was as it is in the snapshot
	Size     int64     `json:"size"`    // bytes in the store
	Contents `json:"contents"`
}

func (s *Snapshot) name() string { return s.Tenant + "/" + s.Cache + "/" + s.ID }

// object is where it lies in the store. Ids, not names: a name may be used again.
func (s *Snapshot) object() string { return s.TenantID + "/" + s.CacheID + "/" + s.ID + ".larder" }

// A Cache is what is to be cut or filled.
type Cache struct {
	Tenant, TenantID string
	Name             string
	ID               engine.CacheID
	Settings         engine.Settings
	Shares           []engine.Settings    // what each partition has to know of the cache; Settings where it is nil
	Targets          int                  // partitions
	To               func(key []byte) int // which one has a key
	Place            []uint16             // their numbers, in order, for Engine
}

// A Cut is a cut of a cache on one partition, to be read and closed.
type Cut interface {
	io.Reader
	Close()
}

// Engine is where caches lie.
type Engine interface {
	// Cut begins to cut a cache on all of its partitions at one moment.
	Cut(c *Cache, o engine.CutOptions) ([]Cut, error)
	// Items is about how many keys a cache has.
	Items(c *Cache) int64
	// Execute carries a task out on one of a cache's partitions.
	Execute(ctx context.Context, c *Cache, target int, t *engine.Task) error
}

// Config is what a Service is made of.
type Config struct {
	Mirror  *mirror.Mirror
	Bucket  *blob.Bucket
	KMS     seal.KMS // the master key's
	Cluster string   // its id
	Node    string   // this one's name
	Engine  Engine
	Refused error // why nothing is cut or restored here; nil where it is
	Now     func() time.Time
	Log     *slog.Logger
}

// Bounds.
const (
	MaxPerCache = 100 // snapshots of one cache
	maxJobs     = 4   // that this node works on at once

	keptProgress = time.Hour // how long one can ask what became of a restoration
)

// Service makes, keeps and restores snapshots.
type Service struct {
	cfg   Config
	table *records.Table[Snapshot]
	keys  *tenantKeys

	mu     sync.Mutex
	jobs   map[string]*job // those that run, by snapshot, and by cache for restorations; and the last of the latter
	closed bool
	all    sync.WaitGroup
}

// Progress is how far a job is.
type Progress struct {
	Snapshot string // that is made or restored
	Began    time.Time
	Ended    time.Time // zero while it runs
	Keys     int64
	Bytes    int64
	Total    int64 // keys, about
	Problem  string
}

// Remaining is about how long it takes yet; 0 when that cannot be told.
func (p Progress) Remaining(now time.Time) time.Duration {
	if p.Keys == 0 || p.Total <= p.Keys || !p.Ended.IsZero() {
		return 0
	}
	return time.Duration(float64(now.Sub(p.Began)) / float64(p.Keys) * float64(p.Total-p.Keys)).Round(time.Second)
}

type job struct {
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	p      Progress
}

func (j *job) told(keys, bytes int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.p.Keys, j.p.Bytes = keys, bytes
}

func (j *job) progress() Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.p
}

// Open makes a Service. What an earlier process of this node has left unfinished is removed.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	s := &Service{
		cfg: cfg, table: records.Open[Snapshot](cfg.Mirror, "snapshot", "snapshots", cfg.Log), jobs: map[string]*job{},
		keys: &tenantKeys{records.Open[tenantKey](cfg.Mirror, "tenant key", "tenant-keys", cfg.Log), cfg.KMS, cfg.Cluster},
	}
	all, _ := s.table.List("", "", 0)
	for _, snap := range all {
		if snap.State != Creating || snap.Node != cfg.Node {
			continue
		}
		cfg.Log.Warn("a snapshot was not finished when this node stopped; it is removed", "tenant", snap.Tenant, "cache", snap.Cache, "snapshot", snap.ID)
		if err := s.remove(ctx, snap); err != nil {
			cfg.Log.Warn("what is left of it stays for the time being", "snapshot", snap.ID, "error", err)
		}
	}
	return s, nil
}

// Close cancels what runs and waits for its end.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	for _, j := range s.jobs {
		j.cancel()
	}
	s.mu.Unlock()
	s.all.Wait()
}

// begin starts a job. run's error, which has been cleaned up after, is logged and kept with the progress.
func (s *Service) begin(key string, p Progress, run func(ctx context.Context, j *job) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	running := 0
	for other, j := range s.jobs {
		if ended := j.progress().Ended; !ended.IsZero() {
			if s.cfg.Now().Sub(ended) > keptProgress {
				delete(s.jobs, other)
			}
			continue
		}
		if running++; other == key {
			return fault.New(fault.Conflict, "snapshots.begin", "this is being done already")
		}
	}
	switch {
	case s.closed:
		return fault.New(fault.Unavailable, "snapshots.begin", "this node is about to stop")
	case running >= maxJobs:
		e := fault.New(fault.Throttled, "snapshots.begin", "this node works on %d snapshots already: try again when one is done", maxJobs)
		e.RetryAfter = 5 * time.Second
		return e
	}
	ctx, cancel := context.WithCancel(context.Background())
	j := &job{cancel: cancel, done: make(chan struct{}), p: p}
	j.p.Began = s.cfg.Now()
	s.jobs[key] = j
	s.all.Go(func() {
		defer close(j.done)
		defer cancel()
		err := guarded(func() error { return run(ctx, j) })
		j.mu.Lock()
		defer j.mu.Unlock()
		j.p.Ended = s.cfg.Now()
		log := s.cfg.Log.With("snapshot", p.Snapshot, "keys", j.p.Keys, "bytes", j.p.Bytes, "took", j.p.Ended.Sub(j.p.Began).Round(time.Millisecond))
		switch {
		case err == nil:
			log.Info("a snapshot was made or restored")
		case ctx.Err() != nil:
			j.p.Problem = "it was cancelled"
			log.Info("the work on a snapshot was cancelled")
		default:
			j.p.Problem = problem(err)
			log.Error("the work on a snapshot failed", "error", err)
		}
	})
	return nil
}

// problem is what an owner is told of an error.
func problem(err error) string {
	if e := fault.From(err); e.Kind != fault.Internal {
		return e.Message
	}
	for _, known := range []error{ErrBad, engine.ErrCut, seal.ErrDamaged, seal.ErrForeign} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "an error that the server's log explains"
}

// Create begins to make a snapshot of a cache, or of its keys with a prefix.
func (s *Service) Create(ctx context.Context, c *Cache, prefix []byte) (*Snapshot, error) {
	if s.cfg.Refused != nil {
		return nil, s.cfg.Refused
	}
	if list, _ := s.List(c.Tenant, c.TenantID, c.Name, "", 0); len(list) >= MaxPerCache {
		return nil, fault.New(fault.Conflict, "snapshots.create", "a cache has at most %d snapshots: delete some", MaxPerCache)
	}
	if len(prefix) > engine.MaxKey {
		return nil, fault.About(fault.TooLarge, "snapshots.create", "prefix", "a prefix has at most %d bytes, this one has %d", engine.MaxKey, len(prefix))
	}
	snap := &Snapshot{
		ID: newID(s.cfg.Now()), Tenant: c.Tenant, TenantID: c.TenantID, Cache: c.Name, CacheID: c.ID.String(), State: Creating,
		Node: s.cfg.Node, Prefix: prefix, Created: s.cfg.Now().UTC().Truncate(time.Millisecond),
	}
	kms, err := s.keys.of(ctx, c.TenantID)
	if err != nil {
		return nil, err
	}
	if err := s.table.Create(ctx, snap.name(), snap); err != nil {
		return nil, err
	}
	cuts, err := s.cfg.Engine.Cut(c, engine.CutOptions{Prefix: prefix, NoOnce: true, NoFlush: true, DataOnly: len(prefix) > 0})
	if err == nil {
		err = s.begin(snap.name(), Progress{Snapshot: snap.ID, Total: s.cfg.Engine.Items(c)}, func(ctx context.Context, j *job) error {
			return s.create(ctx, snap, kms, cuts, j)
		})
		if err != nil {
			closeAll(cuts)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.table.Delete(ctx, snap.name()))
	}
	return snap, nil
}

func closeAll(cuts []Cut) {
	for _, c := range cuts {
		c.Close()
	}
}

// newID sorts by time.
func newID(now time.Time) string {
	var b [4]byte
	rand.Read(b[:])
	return now.UTC().Format("20060102t150405") + "-" + hex.EncodeToString(b[:])
}

func (s *Service) head(snap *Snapshot) seal.Head {
	return seal.Head{Kind: "snapshot", Cluster: s.cfg.Cluster, Tenant: snap.TenantID, Cache: snap.CacheID, ID: snap.ID, Created: snap.Created}
}

// create writes a snapshot, reads it back, and makes its record say what came of it.
func (s *Service) create(ctx context.Context, snap *Snapshot, kms seal.KMS, cuts []Cut, j *job) error {
	wrote, err := s.write(ctx, snap, kms, cuts, j)
	var found Contents
	var size int64
	if err == nil {
		found, size, err = s.verify(ctx, snap, kms)
	}
	if err == nil && found != wrote {
		err = fmt.Errorf("%w: %+v was written, %+v was read back", ErrBad, wrote, found)
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err != nil {
		if ctx.Err() != nil {
			return errors.Join(err, s.remove(after, snap))
		}
		return errors.Join(err, s.drop(after, snap), s.update(after, snap, func(r *Snapshot) { r.State, r.Problem = Failed, problem(err) }))
	}
	return s.update(after, snap, func(r *Snapshot) { r.State, r.Contents, r.Size = Available, wrote, size })
}

func (s *Service) update(ctx context.Context, snap *Snapshot, change func(*Snapshot)) error {
	_, err := s.table.Update(ctx, snap.name(), func(r *Snapshot) error {
		change(r)
		return nil
	})
	return err
}

func (s *Service) write(ctx context.Context, snap *Snapshot, kms seal.KMS, cuts []Cut, j *job) (Contents, error) {
	defer closeAll(cuts)
	// The store shows an object only when its writer is closed, and not at all when the context has ended before.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := s.cfg.Bucket.NewWriter(ctx, snap.object(), &blob.WriterOptions{ContentType: "application/octet-stream"})
	if err != nil {
		return Contents{}, err
	}
	readers := make([]io.Reader, len(cuts))
	for i, c := range cuts {
		readers[i] = c
	}
	c, err := Write(ctx, w, kms, s.head(snap), readers, j.told)
	if err != nil {
		cancel()
		_ = w.Close() // says that it was cancelled
		return c, err
	}
	return c, w.Close()
}

// verify reads a snapshot as it lies in the store.
func (s *Service) verify(ctx context.Context, snap *Snapshot, kms seal.KMS) (Contents, int64, error) {
	r, err := s.open(ctx, snap)
	if err != nil {
		return Contents{}, 0, err
	}
	defer r.Close()
	c, err := Read(ctx, r, kms, s.head(snap), Sink{})
	return c, r.Size(), err
}

func (s *Service) open(ctx context.Context, snap *Snapshot) (*blob.Reader, error) {
	r, err := s.cfg.Bucket.NewReader(ctx, snap.object(), nil)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fault.New(fault.NotFound, "snapshots.open", "the snapshot is not in the store")
	}
	return r, err
}

// drop removes a snapshot from the store.
func (s *Service) drop(ctx context.Context, snap *Snapshot) error {
	if err := s.cfg.Bucket.Delete(ctx, snap.object()); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return err
	}
	return nil
}

// remove removes a snapshot and then its record.
func (s *Service) remove(ctx context.Context, snap *Snapshot) error {
	if err := s.drop(ctx, snap); err != nil {
		return err
	}
	if err := s.table.Delete(ctx, snap.name()); err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return nil
}

// List returns a page of the snapshots of a cache, the oldest first.
func (s *Service) List(tenant, tenantID, cache, after string, limit int) ([]*Snapshot, string) {
	under := tenant + "/" + cache + "/"
	if after != "" {
		after = under + after
	}
	list, next := s.table.List(under, after, limit)
	own := make([]*Snapshot, 0, len(list))
	for _, snap := range list {
		if snap.TenantID == tenantID { // or it was another's, who had the name before
			own = append(own, snap)
		}
	}
	if next != "" {
		next = next[len(under):]
	}
	return own, next
}

// Get returns a snapshot, and how far it is while it is being made.
func (s *Service) Get(tenant, tenantID, cache, id string) (*Snapshot, Progress, error) {
	snap, ok := s.table.Get(tenant + "/" + cache + "/" + id)
	if !ok || snap.TenantID != tenantID {
		return nil, Progress{}, fault.About(fault.NotFound, "snapshots.get", "id", "the cache %q has no snapshot %.80q", cache, id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.jobs[snap.name()]; j != nil {
		return snap, j.progress(), nil
	}
	return snap, Progress{}, nil
}

// Delete removes a snapshot; one that is being made is cancelled first.
func (s *Service) Delete(ctx context.Context, snap *Snapshot) error {
	s.mu.Lock()
	j := s.jobs[snap.name()]
	s.mu.Unlock()
	if j == nil && snap.State == Creating {
		return fault.New(fault.Conflict, "snapshots.delete", "node %s is making the snapshot: cancel it there", snap.Node)
	}
	if j != nil {
		j.cancel()
		select {
		case <-j.done:
		case <-ctx.Done():
			return fault.Wrap(fault.Timeout, "snapshots.delete", ctx.Err(), "the snapshot is being cancelled, and not gone yet")
		}
		s.mu.Lock()
		delete(s.jobs, snap.name())
		s.mu.Unlock()
	}
	return s.remove(ctx, snap)
}

// Download opens a snapshot as it lies in the store, sealed.
func (s *Service) Download(ctx context.Context, snap *Snapshot) (io.ReadCloser, int64, error) {
	if snap.State != Available {
		return nil, 0, fault.New(fault.Conflict, "snapshots.download", "the snapshot is %s", snap.State)
	}
	r, err := s.open(ctx, snap)
	if err != nil {
		return nil, 0, err
	}
	return r, r.Size(), nil
}

// RestoreOptions say what is restored of a snapshot, and how.
type RestoreOptions struct {
	Prefix    []byte // only keys that begin so
	FreezeTTL bool   // what was left of times to live is left again; else time has gone on
}

// Restore begins to fill a cache that nobody can ask yet with a snapshot, and calls publish when all of it is there and was
// found right. If anything goes wrong before, or in publish, the cache is dropped.
func (s *Service) Restore(ctx context.Context, snap *Snapshot, c *Cache, o RestoreOptions, publish func(context.Context) error) error {
	if s.cfg.Refused != nil {
		return s.cfg.Refused
	}
	if snap.State != Available {
		return fault.New(fault.Conflict, "snapshots.restore", "the snapshot is %s", snap.State)
	}
	kms, err := s.keys.of(ctx, snap.TenantID)
	if err != nil {
		return err
	}
	return s.begin(restoring(c.TenantID, c.Name), Progress{Snapshot: snap.ID, Total: snap.Keys}, func(ctx context.Context, j *job) error {
		err := s.fill(ctx, snap, kms, c, o, j)
		if err == nil {
			err = publish(ctx)
		}
		if err == nil || fault.Is(err, fault.OutcomeUnknown) { // the name may stand for it
			return err
		}
		for i := range c.Targets {
			if drop := s.execute(context.WithoutCancel(ctx), c, i, engine.DropTask(c.ID)); drop != nil {
				err = errors.Join(err, drop)
			}
		}
		return err
	})
}

// restoring is the key of the job that fills a cache; no snapshot has it.
func restoring(tenantID, cache string) string { return tenantID + "/" + cache }

// Restoring tells how far the last restoration of a cache is, which this node has done since it started.
func (s *Service) Restoring(tenantID, cache string) (Progress, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j := s.jobs[restoring(tenantID, cache)]
	if j == nil {
		return Progress{}, false
	}
	return j.progress(), true
}

// CancelRestore cancels the restoration of a cache, and returns when nothing of it is left.
func (s *Service) CancelRestore(ctx context.Context, tenantID, cache string) error {
	s.mu.Lock()
	j := s.jobs[restoring(tenantID, cache)]
	s.mu.Unlock()
	if j == nil {
		return fault.New(fault.NotFound, "snapshots.cancel", "nothing is restored into the cache %q", cache)
	}
	j.cancel()
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, "snapshots.cancel", ctx.Err(), "the restoration is being cancelled, and not over yet")
	}
}

func (s *Service) fill(ctx context.Context, snap *Snapshot, kms seal.KMS, c *Cache, o RestoreOptions, j *job) error {
	for i := range c.Targets {
		settings := c.Settings
		if c.Shares != nil {
			settings = c.Shares[i]
		}
		if err := s.execute(ctx, c, i, engine.ConfigureTask(c.ID, settings)); err != nil {
			return err
		}
	}
	r, err := s.open(ctx, snap)
	if err != nil {
		return err
	}
	defer r.Close()
	now := s.cfg.Now().UnixMilli()
	sink := Sink{
		Targets: c.Targets, Now: now, Told: j.told,
		To: func(_ int, key []byte) int {
			if len(key) < len(o.Prefix) || string(key[:len(o.Prefix)]) != string(o.Prefix) {
				return -1
			}
			return c.To(key)
		},
		Emit: func(p *engine.CutPart) error { return s.execute(ctx, c, p.Target, engine.RestoreTask(c.ID, p)) },
	}
	if o.FreezeTTL {
		sink.Thaw = now
	}
	found, err := Read(ctx, r, kms, s.head(snap), sink)
	if err == nil && found != snap.Contents {
		err = fmt.Errorf("%w: its record says %+v, it has %+v", ErrBad, snap.Contents, found)
	}
	return err
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

// guarded turns a panic into an error: a snapshot that cannot be made or restored must not end the process.
func guarded(run func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v\n%s", r, debug.Stack())
		}
	}()
	return run()
}
