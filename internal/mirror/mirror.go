// Package mirror keeps a local copy of everything below one prefix of etcd, in memory and on disk.
//
// All control data of Larder lives in etcd, and every process reads it through a Mirror. It promises:
//
//	M1: what readers see is the whole prefix as it stood at one revision, Revision; it never mixes two.
//	M2: that revision never goes back, neither in memory nor on disk, and never changes to another history.
//	M3: a write that returned without an error is visible in the mirror it went through, and every OnChange
//	    function of that mirror has seen it.
//	M4: reads need no etcd. With etcd down a running mirror goes on serving, and a restarted one serves what
//	    its disk copy holds: all that it had seen up to a second before it stopped.
//
// An etcd that was restored from an older backup, or replaced by another one, would break M2. The mirror
// recognises it by its cluster id, by a revision that is behind, or by records that differ from those we know
// at the same revision. It then keeps serving what it has, refuses to write, logs an error and says so in
// Status.Refused, until the right etcd is back. To accept the other history, stop the process, remove its
// disk copy and start it again.
//
// Values are control data: the disk copy has mode 0600, and no key or value is ever logged.
//
// Start with Open; follow.go talks to etcd, write.go changes it, session.go keeps leases, copy.go is the disk
// copy and view.go the records in memory.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

var (
	// ErrUnavailable says that etcd could not be asked. Unless ErrUncertain is there as well, nothing has
	// been changed.
	ErrUnavailable = errors.New("etcd is unavailable")

	// ErrUncertain says that a write was sent and its outcome is unknown. It comes with ErrUnavailable.
	ErrUncertain = errors.New("the outcome of the write is unknown")

	// ErrConflict says that the record was not as the caller expected, and nothing was changed. The mirror
	// has seen the record that was in the way, as far as ctx left time for it.
	ErrConflict = errors.New("the record has changed")
)

// A Record is one key with its value. The value is shared by all readers: nobody changes its bytes.
type Record struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64

	// Leased says that the record lives only as long as the session that wrote it. In a mirror without etcd
	// it is what was true when etcd was last heard.
	Leased bool
}

// A Change is one record that came (Old is nil), went (New is nil) or was replaced. Revision is when that
// happened; what is learnt by listing everything anew is told as having happened at the listing's revision.
type Change struct {
	Key      string
	Old, New *Record
	Revision int64
}

// Config says what to mirror and where.
type Config struct {
	Client *clientv3.Client // stays the caller's, who closes it after the mirror
	Prefix string           // not empty; what is mirrored, and where writes may go

	// Path is the disk copy; its directory exists. One mirror owns it. Empty means no disk copy.
	Path string

	// Logger gets every change for the worse and back; nil means slog.Default().
	Logger *slog.Logger

	// OpenTimeout is how long Open waits for etcd before it starts from the disk copy; 0 means 5 s.
	OpenTimeout time.Duration
}

// A Status tells how the mirror stands with etcd.
type Status struct {
	Connected    bool      // a watch is running, so Revision follows etcd
	Revision     int64     // see Mirror.Revision
	LastContact  time.Time // when etcd was last heard; zero: not since Open
	Records      int
	CopyRevision int64  // what the disk copy holds
	Refused      string // why etcd's history is not accepted; empty normally
}

// A Mirror is described in the package comment. Its methods may be called concurrently.
type Mirror struct {
	cfg    Config
	pace   pace
	log    *slog.Logger
	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	wg     sync.WaitGroup

	view  atomic.Pointer[view] // what readers see; never nil once Open has returned
	dirty chan struct{}        // tells the saver that the disk copy is behind; capacity 1
	nudge chan struct{}        // asks the watch to ask etcd how far it is; capacity 1

	deliver sync.Mutex // held while a step is applied and its watchers are called
	edit    *tree      // the next view's records; guarded by deliver
	subs    []*sub     // guarded by deliver

	// Only the goroutine that follows etcd uses these two.
	listed bool   // the view has been compared with etcd in full since Open
	anchor anchor // the newest change we know

	mu          sync.Mutex
	wake        chan struct{} // closed and replaced when any of the following changes
	connected   bool
	refused     error
	cause       error // why etcd is not followed; nil while connected
	seen        int64 // the revision that readers and watchers have seen
	lastContact time.Time
	copied      int64
	closed      bool

	closeOnce sync.Once
	closeErr  error
}

// pace holds the times that tests shorten.
type pace struct {
	request        time.Duration // for one request to etcd
	saveAfter      time.Duration // from a change to its place on disk
	probe          time.Duration // between questions on a silent watch; after three without an answer it is dead
	retry, retryTo time.Duration // the first pause after a failure, and the longest
}

var usualPace = pace{
	request:   5 * time.Second,
	saveAfter: 400 * time.Millisecond,
	probe:     5 * time.Second,
	retry:     50 * time.Millisecond,
	retryTo:   5 * time.Second,
}

// Open reads the disk copy, then waits up to OpenTimeout for etcd. When etcd answers, the mirror is up to
// date; when it does not, or holds another history (see Status.Refused), the mirror serves the disk copy and
// keeps trying. With neither there is an error that wraps ErrUnavailable. ctx bounds Open only.
func Open(ctx context.Context, cfg Config) (*Mirror, error) { return open(ctx, cfg, usualPace) }

func open(ctx context.Context, cfg Config, pace pace) (*Mirror, error) {
	switch {
	case cfg.Client == nil:
		return nil, errors.New("mirror: Client is nil")
	case cfg.Prefix == "" || len(cfg.Prefix) > maxKey:
		return nil, fmt.Errorf("mirror: Prefix has %d bytes, want 1 to %d", len(cfg.Prefix), maxKey)
	case cfg.OpenTimeout < 0:
		return nil, fmt.Errorf("mirror: OpenTimeout %v is negative", cfg.OpenTimeout)
	case cfg.OpenTimeout == 0:
		cfg.OpenTimeout = 5 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	m := &Mirror{
		cfg:   cfg,
		pace:  pace,
		log:   cfg.Logger.With("part", "mirror"),
		dirty: make(chan struct{}, 1),
		nudge: make(chan struct{}, 1),
		edit:  newTree(),
		wake:  make(chan struct{}),
		cause: errors.New("not connected yet"),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())

	noCopy := errors.New("no disk copy")
	if cfg.Path != "" {
		v, err := loadCopy(cfg.Path, cfg.Prefix)
		switch {
		case err == nil:
			m.edit = v.records.Clone()
			m.view.Store(v)
			m.seen, m.copied = v.revision, v.revision
		case isNotExist(err):
		default:
			noCopy = err
			m.log.Error("the disk copy is not usable and is treated as absent", "path", cfg.Path, "err", err)
		}
		m.wg.Go(m.saveChanges)
	}
	m.wg.Go(m.run)

	timeout := time.NewTimer(cfg.OpenTimeout)
	defer timeout.Stop()
	for {
		m.mu.Lock()
		up, refused, cause, wake := m.connected, m.refused, m.cause, m.wake
		m.mu.Unlock()
		if m.view.Load() != nil && (up || refused != nil) {
			return m, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			m.Close()
			return nil, fmt.Errorf("mirror: open: %w", ctx.Err())
		case <-timeout.C:
			if v := m.view.Load(); v != nil {
				m.log.Warn("etcd does not answer; serving the disk copy", "revision", v.revision, "err", cause)
				return m, nil
			}
			m.Close()
			return nil, fmt.Errorf("mirror: open: %w for %v (%v) and there is nothing to start from: %w",
				ErrUnavailable, cfg.OpenTimeout, cause, noCopy)
		}
	}
}

// Close stops following etcd, brings the disk copy up to date and returns why that failed, if it did.
// Reads still work afterwards; writes answer ErrUnavailable. No OnChange function runs after Close.
func (m *Mirror) Close() error {
	m.closeOnce.Do(func() {
		m.mu.Lock()
		m.closed = true
		m.mu.Unlock()
		m.cancel()
		m.wg.Wait()
		m.closeErr = m.saveIfBehind()
	})
	return m.closeErr
}

// Get returns the record of key.
func (m *Mirror) Get(key string) (Record, bool) {
	r, ok := m.view.Load().records.Get(&Record{Key: key})
	if !ok {
		return Record{}, false
	}
	return *r, true
}

// List returns the records whose key begins with prefix and is greater than after, in key order, at most
// limit of them; a limit of 0 or less means all. An empty after begins at the first.
func (m *Mirror) List(prefix, after string, limit int) []Record {
	return m.view.Load().list(prefix, after, limit)
}

// Revision is the etcd revision of what readers see now.
func (m *Mirror) Revision() int64 { return m.view.Load().revision }

// Status tells how the mirror stands with etcd.
func (m *Mirror) Status() Status {
	v := m.view.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Status{
		Connected:    m.connected,
		Revision:     v.revision,
		LastContact:  m.lastContact,
		Records:      v.records.Len(),
		CopyRevision: m.copied,
	}
	if m.refused != nil {
		s.Refused = m.refused.Error()
	}
	return s
}

// A sub is one function given to OnChange.
type sub struct {
	prefix string
	fn     func(Change)
}

// OnChange calls fn for every change to a record whose key begins with prefix, in revision order, one at a
// time, until stop has returned. With replay it first calls fn, before OnChange returns, for each record that
// exists, in key order, as if it had just come; nothing is missed or told twice in between.
//
// fn runs on the goroutine that follows etcd: all writers wait for it (M3), so it must be quick. It may read
// the mirror, which stands at the change's revision. It must not call the mirror's writes, Sync, OnChange,
// Close or stop: each of them would wait for itself. It must not change the records.
func (m *Mirror) OnChange(prefix string, replay bool, fn func(Change)) (stop func()) {
	s := &sub{prefix, fn}
	m.deliver.Lock()
	defer m.deliver.Unlock()
	if replay {
		v := m.view.Load()
		v.ascend(prefix, "", func(r *Record) bool {
			fn(Change{Key: r.Key, New: r, Revision: r.ModRevision})
			return true
		})
	}
	m.subs = append(m.subs, s)
	return func() {
		m.deliver.Lock()
		defer m.deliver.Unlock()
		m.subs = slices.DeleteFunc(m.subs, func(other *sub) bool { return other == s })
	}
}

// publish shows the edited records to readers as those of revision, then tells the watchers of changes, then
// lets waiting writers go. The caller holds deliver.
func (m *Mirror) publish(cluster uint64, revision int64, changes []Change) {
	m.view.Store(&view{cluster: cluster, revision: revision, records: m.edit.Clone()})
	for _, c := range changes {
		for _, s := range m.subs {
			if strings.HasPrefix(c.Key, s.prefix) {
				s.fn(c)
			}
		}
	}
	m.tell(func() { m.seen = revision })
}

// tell changes what mu guards and wakes whoever waits for it.
func (m *Mirror) tell(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
	close(m.wake)
	m.wake = make(chan struct{})
}

// poke leaves a note in a channel of capacity 1.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
