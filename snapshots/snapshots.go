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
	"slices"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/aside"
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
	ID       string        `json:"id"`
	Tenant   string        `json:"tenant"`
	TenantID string        `json:"tenant_id"`
	Cache    string        `json:"cache"`
	CacheID  string        `json:"cache_id"`
	State    State         `json:"state"`
	Problem  string        `json:"problem,omitempty"`
	Node     string        `json:"node"`           // that makes it, and where it lies if the store is a directory
	Life     string        `json:"life,omitempty"` // which process of the node
	Prefix   []byte        `json:"prefix,omitempty"`
	Schedule string        `json:"schedule,omitempty"` // by which it was made
	Final    bool          `json:"final,omitempty"`    // its cache is deleted once it is there
	Created  time.Time     `json:"created"`            // when the cache was as it is in the snapshot
	Size     int64         `json:"size"`               // bytes in the store
	DataKey  *seal.Wrapped `json:"data_key,omitempty"` // wrapped anew since; nil: as in the file
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
	Slots            func(i int) [][2]int // the runs of slots that the i-th has, first and last; for Engine
	Same             func() bool          // whether the cache still lies so; nil for always
}

// A Cut is a cut of a cache on one partition, to be read and closed.
type Cut interface {
	io.Reader
	Close()
}

// Engine is where caches lie.
type Engine interface {
	// Cut begins to cut a cache on all of its partitions at one point. An error of kind Unavailable may be gone in a moment.
	Cut(ctx context.Context, c *Cache, o engine.CutOptions) ([]Cut, error)
	// Items is about how many keys a cache has.
	Items(c *Cache) int64
	// Execute carries a task out on one of a cache's partitions, wherever it is led.
	Execute(ctx context.Context, c *Cache, target int, t *engine.Task) error
}

// Limits are what a tenant may have; 0 is no limit.
type Limits struct {
	Snapshots int64
	Bytes     int64 // in the store
}

// Config is what a Service is made of.
type Config struct {
	Mirror  *mirror.Mirror
	Store   *Store
	KMS     seal.KMS // the master key's
	Cluster string   // its id
	Node    string   // this one's name
	Life    string   // of this process: see placement.Node.Incarnation
	Engine  Engine
	Peers   Peers                        // nil in a cluster of one process
	Alive   func(node, life string) bool // whether a process is there; nil: this one alone
	Aside   aside.Starter                // of processes for Errand; nil: this one does that, too
	Limits  func(tenant string) Limits   // nil for none
	Caches  Caches                       // nil where nothing is scheduled
	Audit   func(what string)            // what happened to keys; nil for nobody
	Now     func() time.Time
	Log     *slog.Logger
}

// Bounds.
const (
	MaxPerCache = 100 // snapshots of one cache
	maxJobs     = 4   // that this node works on at once

	keptProgress = time.Hour       // how long one can ask what became of a restoration
	cutPatience  = 3 * time.Second // for a cut to begin
	cutPause     = 50 * time.Millisecond
	afterTime    = 10 * time.Second // for etcd to hear what became of a job
)

// Service makes, keeps and restores snapshots.
type Service struct {
	cfg          Config
	table        *records.Table[Snapshot]
	restorations *records.Table[Restoration]
	schedules    *records.Table[Schedule]
	keys         *tenantKeys
	swept        time.Time // when it was looked last for what belongs to nobody; Tend's own

	mu     sync.Mutex
	jobs   map[string]*job // those that run, by snapshot, and by cache for restorations; and the last of the latter
	closed bool
	all    sync.WaitGroup
}

// Open makes a Service. What an earlier process of this node has left unfinished has failed.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	if cfg.Alive == nil {
		cfg.Alive = func(node, life string) bool { return node == cfg.Node && life == cfg.Life }
	}
	if cfg.Aside == nil {
		cfg.Aside = aside.Here(Errand)
	}
	if cfg.Limits == nil {
		cfg.Limits = func(string) Limits { return Limits{} }
	}
	if cfg.Audit == nil {
		cfg.Audit = func(string) {}
	}
	s := &Service{
		cfg: cfg, jobs: map[string]*job{},
		table:        records.Open[Snapshot](cfg.Mirror, "snapshot", "snapshots", cfg.Log),
		restorations: records.Open[Restoration](cfg.Mirror, "restoration", "restorations", cfg.Log),
		schedules:    records.Open[Schedule](cfg.Mirror, "schedule", "snapshot-schedules", cfg.Log),
		keys:         openTenantKeys(cfg),
	}
	all, _ := s.table.List("", "", 0)
	for _, snap := range all {
		if snap.State == Creating && snap.Node == cfg.Node && snap.Life != cfg.Life {
			s.abandoned(ctx, snap)
		}
	}
	return s, nil
}

// abandoned ends a snapshot whose process is gone.
func (s *Service) abandoned(ctx context.Context, snap *Snapshot) {
	log := s.cfg.Log.With("tenant", snap.Tenant, "cache", snap.Cache, "snapshot", snap.ID)
	log.Warn("a snapshot was not finished when its node stopped", "node", snap.Node)
	err := s.update(ctx, snap, func(r *Snapshot) error {
		if r.State != Creating {
			return errMoot
		}
		r.State, r.Problem = Failed, fmt.Sprintf("node %s stopped while it was made", snap.Node)
		return nil
	})
	if err == nil && (s.cfg.Store.Shared || snap.Node == s.cfg.Node) {
		err = s.cfg.Store.Drop(ctx, snap.object())
	}
	if err != nil && err != errMoot {
		log.Warn("what is left of it stays for the time being", "error", err)
	}
}

// errMoot is the error of a change whose record is another meanwhile.
var errMoot = errors.New("snapshots: the record has changed")

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

// CreateOptions say what snapshot is wanted.
type CreateOptions struct {
	Prefix   []byte                          // only keys that begin so
	Schedule string                          // the name of the one that wants it
	ID       string                          // "" for a new one
	Then     func(ctx context.Context) error // is done when it is there; nil for nothing
}

// Create begins to make a snapshot of a cache, or of its keys with a prefix.
func (s *Service) Create(ctx context.Context, c *Cache, o CreateOptions) (*Snapshot, error) {
	if len(o.Prefix) > engine.MaxKey {
		return nil, fault.About(fault.TooLarge, "snapshots.create", "prefix", "a prefix has at most %d bytes, this one has %d", engine.MaxKey, len(o.Prefix))
	}
	list, _ := s.List(c.Tenant, c.TenantID, c.Name, "", 0)
	if len(list) >= MaxPerCache {
		return nil, fault.New(fault.Conflict, "snapshots.create", "a cache has at most %d snapshots: delete some", MaxPerCache)
	}
	for _, other := range list {
		if other.State == Creating && other.CacheID == c.ID.String() {
			return nil, fault.New(fault.Conflict, "snapshots.create", "the snapshot %s of the cache is being made: one is made at a time", other.ID)
		}
	}
	kms, err := s.keys.of(ctx, c.TenantID, true)
	if err != nil {
		return nil, err
	}
	snap := &Snapshot{
		ID: o.ID, Tenant: c.Tenant, TenantID: c.TenantID, Cache: c.Name, CacheID: c.ID.String(), State: Creating,
		Node: s.cfg.Node, Life: s.cfg.Life, Prefix: o.Prefix, Schedule: o.Schedule, Final: o.Then != nil, Created: s.cfg.Now().UTC().Truncate(time.Millisecond),
	}
	if snap.ID == "" {
		snap.ID = newID(snap.Created)
	}
	if err := s.table.Create(ctx, snap.name(), snap); err != nil {
		return nil, err
	}
	room, err := s.room(snap)
	var cuts []Cut
	if err == nil {
		cuts, err = s.cut(ctx, c, engine.CutOptions{Prefix: o.Prefix, NoOnce: true, NoFlush: true, DataOnly: len(o.Prefix) > 0})
	}
	if err == nil {
		err = s.begin(snap.name(), Progress{Snapshot: snap.ID, Total: s.cfg.Engine.Items(c)}, func(ctx context.Context, j *job) error {
			return s.create(ctx, snap, kms, cuts, room, o.Then, j)
		})
		if err != nil {
			closeAll(cuts)
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.table.Delete(context.WithoutCancel(ctx), snap.name()))
	}
	return snap, nil
}

// room is how many bytes a snapshot, whose record is there, may have in the store by its tenant's limits; 0 for any number.
// Of those that are begun at once on several nodes the later ones find the earlier ones' records.
func (s *Service) room(snap *Snapshot) (int64, error) {
	limits := s.cfg.Limits(snap.Tenant)
	count, bytes := int64(0), int64(0)
	all, _ := s.table.List(snap.Tenant+"/", "", 0)
	for _, other := range all {
		if other.TenantID == snap.TenantID && other.State != Failed {
			count++
			bytes += other.Size
		}
	}
	switch {
	case limits.Snapshots > 0 && count > limits.Snapshots:
		return 0, fault.New(fault.Conflict, "snapshots.create", "the tenant may have %d snapshots and has %d: delete some", limits.Snapshots, count-1)
	case limits.Bytes > 0 && bytes >= limits.Bytes:
		return 0, fault.New(fault.Conflict, "snapshots.create", "the tenant's snapshots may have %d bytes and have %d: delete some", limits.Bytes, bytes)
	case limits.Bytes > 0:
		return limits.Bytes - bytes, nil
	}
	return 0, nil
}

// cut begins a cut, and tries again while that may be of use.
func (s *Service) cut(ctx context.Context, c *Cache, o engine.CutOptions) ([]Cut, error) {
	ctx, cancel := context.WithTimeout(ctx, cutPatience)
	defer cancel()
	for {
		cuts, err := s.cfg.Engine.Cut(ctx, c, o)
		if !fault.Is(err, fault.Unavailable) {
			return cuts, err
		}
		select {
		case <-time.After(cutPause):
		case <-ctx.Done():
			return nil, err
		}
	}
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
	h := seal.Head{Kind: "snapshot", Cluster: s.cfg.Cluster, Tenant: snap.TenantID, Cache: snap.CacheID, ID: snap.ID, Created: snap.Created}
	if snap.DataKey != nil {
		h.DataKey = *snap.DataKey
	}
	return h
}

// create writes a snapshot, reads it back, and makes its record say what came of it.
func (s *Service) create(ctx context.Context, snap *Snapshot, kms seal.KMS, cuts []Cut, room int64, then func(context.Context) error, j *job) error {
	wrote, size, err := s.write(ctx, snap, kms, cuts, room, j)
	if err == nil && s.cfg.Store.spool != "" {
		var found Contents
		if found, size, err = s.verify(ctx, snap, kms, j); err == nil && found != wrote {
			err = fmt.Errorf("%w: %+v was written, %+v was read back", ErrBad, wrote, found)
		}
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), afterTime)
	defer cancel()
	if err == nil {
		err = s.update(after, snap, func(r *Snapshot) error {
			if r.State != Creating {
				return fault.New(fault.Conflict, "snapshots.create", "this node was taken for dead meanwhile")
			}
			r.State, r.Contents, r.Size = Available, wrote, size
			return nil
		})
		if err == nil && then != nil {
			err = then(after)
		}
		return err
	}
	if ctx.Err() != nil {
		return errors.Join(err, s.remove(after, snap))
	}
	return errors.Join(err, s.cfg.Store.Drop(after, snap.object()), s.update(after, snap, func(r *Snapshot) error {
		r.State, r.Problem = Failed, problem(err)
		return nil
	}))
}

func (s *Service) update(ctx context.Context, snap *Snapshot, change func(*Snapshot) error) error {
	_, err := s.table.Update(ctx, snap.name(), change)
	return err
}

// write brings a snapshot into the store. In a directory it has been read back then; on the way to a store elsewhere it was read
// back here.
func (s *Service) write(ctx context.Context, snap *Snapshot, kms seal.KMS, cuts []Cut, room int64, j *job) (Contents, int64, error) {
	defer closeAll(cuts)
	d, err := s.cfg.Store.draft(ctx, snap.object())
	if err != nil {
		return Contents{}, 0, err
	}
	o, err := seal.Begin(ctx, kms, s.head(snap))
	if err != nil {
		return Contents{}, 0, errors.Join(err, d.discard())
	}
	defer o.Clear()
	send := func(ctx context.Context, to io.Writer) error {
		err := pour(ctx, to, cuts)
		closeAll(cuts) // what is overwritten from here on need not be kept
		return err
	}
	made, err := s.run(ctx, &errand{Opening: *o, Write: true, Room: room}, d.file, send, func(kind byte, b []byte) error {
		switch kind {
		case saidProgress:
			j.heard(b)
		case saidWritten:
			j.enter(Verifying, 0)
		}
		return nil
	})
	if err != nil {
		return Contents{}, 0, errors.Join(err, d.discard())
	}
	return made.Contents, made.Size, d.finish(ctx, j)
}

// A bounded writer takes so many bytes, 0 for any number.
type bounded struct {
	w    io.Writer
	room int64
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.room > 0 {
		if int64(len(p)) >= b.room {
			return 0, fault.New(fault.Conflict, "snapshots.write", "the tenant's snapshots would have more bytes than they may")
		}
		b.room -= int64(len(p))
	}
	return b.w.Write(p)
}

// verify reads a snapshot as it lies in the store.
func (s *Service) verify(ctx context.Context, snap *Snapshot, kms seal.KMS, j *job) (Contents, int64, error) {
	j.enter(Verifying, 0)
	r, err := s.open(ctx, snap)
	if err != nil {
		return Contents{}, 0, err
	}
	defer r.Close()
	c, err := Read(ctx, r, kms, s.head(snap), Sink{Told: j.told})
	return c, r.Size, err
}

// open begins to read a snapshot, where it lies.
func (s *Service) open(ctx context.Context, snap *Snapshot) (*Object, error) {
	if s.cfg.Store.Shared || snap.Node == s.cfg.Node {
		return s.cfg.Store.Open(ctx, snap.object())
	}
	a, from, err := s.ask(ctx, snap.Node, question{What: askRead, Object: snap.object()})
	if err != nil {
		return nil, err
	}
	return &Object{&farReader{from, a.Size}, a.Size}, nil
}

// drop removes a snapshot from the store.
func (s *Service) drop(ctx context.Context, snap *Snapshot) error {
	if s.cfg.Store.Shared || snap.Node == s.cfg.Node {
		return s.cfg.Store.Drop(ctx, snap.object())
	}
	_, err := s.asked(ctx, snap.Node, question{What: askDrop, Object: snap.object()})
	return err
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
	own := slices.DeleteFunc(list, func(snap *Snapshot) bool { return snap.TenantID != tenantID }) // another's, who had the name before
	if next != "" {
		next = next[len(under):]
	}
	return own, next
}

// Get returns a snapshot, and how far it is while it is being made.
func (s *Service) Get(ctx context.Context, tenant, tenantID, cache, id string) (*Snapshot, Progress, error) {
	snap, ok := s.table.Get(tenant + "/" + cache + "/" + id)
	if !ok || snap.TenantID != tenantID {
		return nil, Progress{}, fault.About(fault.NotFound, "snapshots.get", "id", "the cache %q has no snapshot %.80q", cache, id)
	}
	if snap.State != Creating {
		return snap, Progress{}, nil
	}
	p, _ := s.progressOn(ctx, snap.Node, snap.name())
	return snap, p, nil
}

// progressOn tells how far a job is on a node; false when that cannot be told.
func (s *Service) progressOn(ctx context.Context, node, key string) (Progress, bool) {
	if node == s.cfg.Node {
		if j := s.job(key); j != nil {
			return j.progress(), true
		}
		return Progress{}, false
	}
	a, err := s.asked(ctx, node, question{What: askProgress, Job: key})
	return a.Progress, err == nil && a.Known
}

// cancelOn cancels a job on a node.
func (s *Service) cancelOn(ctx context.Context, node, key string) error {
	if node == s.cfg.Node {
		return s.stop(ctx, key)
	}
	_, err := s.asked(ctx, node, question{What: askCancel, Job: key})
	return err
}

// Delete removes a snapshot; one that is being made is cancelled first.
func (s *Service) Delete(ctx context.Context, snap *Snapshot) error {
	if snap.State == Creating {
		if err := s.cancelOn(ctx, snap.Node, snap.name()); err != nil && s.cfg.Alive(snap.Node, snap.Life) {
			return err
		}
	}
	s.mu.Lock()
	delete(s.jobs, snap.name())
	s.mu.Unlock()
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
	return r, r.Size, nil
}
