package replication

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/courtesy"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/internal/wal"
	"github.com/larder-cache/larder/placement"
)

// A Keeper keeps the durable caches of a host's partitions: it has the node's log, writes state files in front of which the log
// is not needed any more, and loads the partitions when the process starts.
//
// A state file has the durable caches of one partition as they stood at one index of the log. It is written while writes go on,
// sealed, synced and then given its name; what was before it goes then. They are written when the log has grown as long as they
// are, or longer than a bound: so all that is written is written about twice, and a start reads about twice what is stored.
//
//	K1: of each partition, the last state file and the records behind its index are there
//	K2: one state file at a time is written
type Keeper struct {
	cfg  KeeperConfig
	host *Host
	log  *wal.Log

	mu     sync.Mutex
	states map[placement.PartitionID]stateFile
	asked  map[placement.PartitionID]bool // are to get a state file soon
	bell   chan struct{}

	running sync.WaitGroup // the log
	open    bool           // it can be written to
	loads   sync.WaitGroup
	stop    context.CancelFunc // ends loading
	end     context.Context
}

// KeeperConfig is what a Keeper needs: all but LogSize.
type KeeperConfig struct {
	Dir     string // of the log and of the state files
	Keys    seal.KMS
	Cluster string
	Node    string
	Log     *slog.Logger
	LogSize int64              // bytes that the log may have before state files are written; 0 for the default
	Fail    func(error)        // ends the process: see package wal
	Loaded  func(*Local) error // is told of each partition that has been loaded and serves; may be nil

	files wal.Files // of the log, in tests; nil for those in Dir
}

// DefaultWALSize is KeeperConfig.LogSize where nothing is said.
const DefaultWALSize = 256 << 20

type stateFile struct {
	index uint64
	bytes int64
}

// NewKeeper makes a keeper for the partitions of a host, which have not been started yet.
func NewKeeper(h *Host, cfg KeeperConfig) (*Keeper, error) {
	if cfg.LogSize == 0 {
		cfg.LogSize = DefaultWALSize
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	k := &Keeper{cfg: cfg, host: h, states: map[placement.PartitionID]stateFile{}, asked: map[placement.PartitionID]bool{}, bell: make(chan struct{}, 1)}
	if cfg.files == nil {
		cfg.files = wal.Dir(cfg.Dir)
	}
	k.log = wal.New(wal.Config{
		Files: cfg.files, Keys: cfg.Keys, Cluster: cfg.Cluster, Node: cfg.Node, Log: cfg.Log, Fail: cfg.Fail,
		Segment: min(wal.DefaultSegment, max(cfg.LogSize/4, 1<<20)),
	})
	k.end, k.stop = context.WithCancel(context.Background())
	h.keeper = k
	return k, k.list()
}

// list finds the state files, and removes those that nobody needs.
func (k *Keeper) list() error {
	names, err := os.ReadDir(k.cfg.Dir)
	if err != nil {
		return err
	}
	var old []string
	for _, e := range names {
		if strings.HasSuffix(e.Name(), seal.Unfinished) {
			old = append(old, e.Name())
			continue
		}
		p, index, ok := parseStateName(e.Name())
		if !ok {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		switch had, twice := k.states[p]; {
		case twice && had.index > index:
			old = append(old, e.Name())
		default:
			if twice {
				old = append(old, stateName(p, had.index))
			}
			k.states[p] = stateFile{index, info.Size()}
		}
	}
	for _, name := range old {
		if err := os.Remove(filepath.Join(k.cfg.Dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func stateName(p placement.PartitionID, index uint64) string {
	return fmt.Sprintf("%05d-%016x.state", p, index)
}

func parseStateName(name string) (p placement.PartitionID, index uint64, ok bool) {
	text, ok := strings.CutSuffix(name, ".state")
	first, second, both := strings.Cut(text, "-")
	if !ok || !both {
		return 0, 0, false
	}
	number, err := strconv.ParseUint(first, 10, 16)
	index, err2 := strconv.ParseUint(second, 16, 64)
	return placement.PartitionID(number), index, err == nil && err2 == nil
}

func (k *Keeper) headOf(p placement.PartitionID, index uint64) seal.Head {
	return seal.Head{Kind: "state", Cluster: k.cfg.Cluster, ID: fmt.Sprintf("%s/%05d/%016x", k.cfg.Node, p, index)}
}

// A load is a partition that is being loaded.
type load struct {
	k      *Keeper
	l      *Local
	loader *engine.Loader
	state  bool   // it has a state file
	from   uint64 // at this index
	queue  chan []byte
	batch  []byte
	err    error
	dec    decoder
	count  int64
}

// Bounds of loading.
const (
	loadBatch = 256 << 10 // bytes of records that go to a partition at once
	loadAhead = 1024      // batches that wait for one: as much as a log has by default, so that a large partition holds up no other
)

// Load begins to load all partitions of the host, each on a goroutine of its own. A partition answers that it is being loaded
// until the log has been read and all of it is there. What a process before has handed over is there already. Load waits a little:
// where there is not much to load, nobody is turned away.
func (k *Keeper) Load() error {
	loads := map[placement.PartitionID]*load{}
	floor := uint64(0)
	k.host.mu.RLock()
	for id, l := range k.host.locals {
		l.mu.Lock()
		l.loading, l.settings, l.before = true, map[engine.CacheID]*engine.Settings{}, map[engine.CacheID]bool{}
		for _, c := range l.p.Caches() {
			l.before[c] = true
		}
		s, some := k.states[id]
		loads[id] = &load{k: k, l: l, loader: l.p.Load(), state: some, from: s.index, queue: make(chan []byte, loadAhead)}
		l.mu.Unlock()
	}
	k.host.mu.RUnlock()
	for id, s := range k.states {
		floor = max(floor, s.index)
		if loads[id] == nil {
			return fmt.Errorf("%s has a state file of partition %d, which this node does not host", k.cfg.Dir, id)
		}
	}
	for _, ld := range loads {
		k.loads.Go(ld.run)
	}
	k.loads.Go(func() {
		if err := k.read(loads, floor); err != nil && k.end.Err() == nil {
			k.cfg.Fail(err)
		}
	})
	loaded := make(chan struct{})
	go func() { k.loads.Wait(); close(loaded) }()
	select {
	case <-loaded:
	case <-time.After(loadPatience):
	}
	return nil
}

// loadPatience is how long a start waits for durable caches before it serves what is there.
const loadPatience = time.Second

// read reads the log, gives the partitions what is theirs, and has it run.
func (k *Keeper) read(loads map[placement.PartitionID]*load, floor uint64) error {
	began, records := time.Now(), 0
	err := k.log.Recover(floor, func(r wal.Record) error {
		ld := loads[placement.PartitionID(r.Partition)]
		if ld == nil {
			return fmt.Errorf("the write-ahead log in %s has records of partition %d, which this node does not host", k.cfg.Dir, r.Partition)
		}
		records++
		if r.Index > ld.from {
			ld.take(r)
		}
		return k.end.Err()
	}, func(d *wal.Damage) {
		k.cfg.Log.Error("durable data is damaged", "error", d)
		for id, ld := range loads {
			if d.Affects(uint32(id)) {
				ld.take(wal.Record{Kind: recordDamage, Data: []byte(d.Error())})
			}
		}
	})
	for id, ld := range loads {
		if err == nil && ld.state {
			err = k.log.Release(uint32(id), ld.from)
		}
	}
	if err != nil {
		err = fmt.Errorf("reading the write-ahead log in %s: %w", k.cfg.Dir, err)
		for _, ld := range loads {
			ld.queue <- nil
			close(ld.queue)
		}
		return err
	}
	k.mu.Lock()
	k.open = true
	k.mu.Unlock()
	k.running.Go(k.log.Run)
	for _, ld := range loads {
		ld.close()
	}
	if records > 0 || len(k.states) > 0 {
		k.cfg.Log.Info("the write-ahead log has been read", "records", records, "bytes", k.log.Size(), "took", time.Since(began).Round(time.Millisecond))
	}
	return nil
}

// recordDamage stands in a load's queue for records that are missing.
const recordDamage = 0

// take puts a record in line for a partition.
func (ld *load) take(r wal.Record) {
	ld.batch = binary.AppendUvarint(append(ld.batch, r.Kind), uint64(len(r.Data)))
	if ld.batch = append(ld.batch, r.Data...); len(ld.batch) >= loadBatch {
		ld.queue <- ld.batch
		ld.batch = make([]byte, 0, loadBatch+loadBatch/4)
	}
}

func (ld *load) close() {
	if len(ld.batch) > 0 {
		ld.queue <- ld.batch
	}
	close(ld.queue)
}

// run loads one partition.
func (ld *load) run() {
	began := time.Now()
	ld.guarded(ld.restore)
	unread := false
	for b := range ld.queue {
		unread = b == nil
		if ld.err == nil {
			ld.guarded(func() error { return ld.replay(b) })
		}
	}
	if unread || ld.k.end.Err() != nil {
		return // the process ends
	}
	ld.finish(began)
}

// guarded turns what goes wrong, broken invariants too, into the end of this partition alone.
func (ld *load) guarded(fn func() error) {
	defer func() {
		if r := recover(); r != nil {
			ld.k.cfg.Log.Error("a partition cannot be loaded after an internal error", "partition", ld.l.id, "panic", fmt.Sprint(r), "stack", string(debug.Stack()))
			ld.err = errBroken
		}
	}()
	if err := fn(); err != nil && ld.err == nil {
		ld.err = err
	}
}

// stateMagic begins a state file; a fingerprint of the partition's seed, 16 bytes, and the cut in chunks follow, as in a
// hand-over.
const stateMagic = "larder state 1\n"

// restore fills the partition from its state file, if there is one.
func (ld *load) restore() error {
	if !ld.state {
		return nil
	}
	k, id := ld.k, ld.l.id
	path := filepath.Join(k.cfg.Dir, stateName(id, ld.from))
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was read
	_, plain, err := seal.Open(k.end, bufio.NewReaderSize(f, 1<<20), k.cfg.Keys, k.headOf(id, ld.from))
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	source := newReadAhead(k.end, plain)
	defer source.Close()
	in := bufio.NewReaderSize(source, cutBytes)
	head := make([]byte, len(stateMagic)+16)
	if err := full(in, head); err != nil || string(head[:len(stateMagic)]) != stateMagic || !bytes.Equal(head[len(stateMagic):], ld.l.fingerprint()) {
		return errors.Join(fmt.Errorf("%s: it is no state of this partition", path), err)
	}
	if err := takeChunks(ld.loader.Restore(), in); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return errors.Join(fmt.Errorf("%s: it does not end where it should", path), err)
	}
	return nil
}

// replay carries out what a batch of records says.
func (ld *load) replay(b []byte) error {
	for len(b) > 0 {
		kind := b[0]
		n, size := binary.Uvarint(b[1:])
		data := b[1+size:][:n]
		b = b[1+size+int(n):]
		ld.count++
		switch kind {
		case recordDamage:
			return errors.New(string(data))
		case recordBegin, recordEnd:
			if len(data) != len(engine.CacheID{}) {
				return errEntry
			}
			if kind == recordBegin {
				ld.loader.Begin(engine.CacheID(data))
			} else {
				ld.loader.End(engine.CacheID(data))
			}
		case recordEntry:
			e, version, err := readEntry(&ld.dec, data)
			if err != nil {
				return err
			}
			ld.loader.Apply(e, version)
		default:
			return fmt.Errorf("replication: a record of kind %q is not known here: it may be of a later version", kind)
		}
	}
	return nil
}

// finish has the partition serve, or say why it cannot.
func (ld *load) finish(began time.Time) {
	l := ld.l
	l.mu.Lock()
	l.loading = false
	if ld.err != nil {
		l.broken, l.damage = true, damaged(ld.err)
		l.soil()
		l.unlock()
		ld.k.cfg.Log.Error("a partition's durable caches cannot be loaded, and it does not serve; nothing of them was changed on disk", "partition", l.id, "error", ld.err)
		return
	}
	ld.loader.Done()
	loaded := ld.loader.Loaded()
	for _, id := range loaded {
		l.begins(id, &kept{class: Durable, stage: safe, last: 0})
	}
	for id := range l.listened {
		l.observe(id)
	}
	settings := l.settings
	l.settings = nil
	for _, id := range loaded {
		if _, known := settings[id]; known {
			l.classify(id)
		}
	}
	for _, id := range sortedIDs(settings) {
		if err := l.settle(id, settings[id]); err != nil {
			ld.k.cfg.Log.Error("a partition could not take a cache's settings", "partition", l.id, "error", err)
		}
		if l.p.Knows(id) {
			l.classify(id)
		}
	}
	l.unlock()
	if len(loaded) > 0 {
		ld.k.cfg.Log.Info("a partition's durable caches are loaded", "partition", l.id, "caches", len(loaded), "records", ld.count, "took", time.Since(began).Round(time.Millisecond))
	}
	if ld.k.cfg.Loaded != nil {
		if err := ld.k.cfg.Loaded(l); err != nil {
			ld.k.cfg.Log.Error("a partition has caches that should not be there", "partition", l.id, "error", err)
		}
	}
}

func sortedIDs(m map[engine.CacheID]*engine.Settings) []engine.CacheID {
	ids := make([]engine.CacheID, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b engine.CacheID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// want has a partition get a state file soon.
func (k *Keeper) want(id placement.PartitionID) {
	k.mu.Lock()
	k.asked[id] = true
	k.mu.Unlock()
	select {
	case k.bell <- struct{}{}:
	default:
	}
}

// How often it is looked whether the log has become long, and how long it takes until what failed is tried again.
const (
	lookEvery  = time.Second
	stateAgain = 2 * time.Second
)

// Run writes state files until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.bell:
		case <-tick.C:
		}
		for {
			l := k.due()
			if l == nil {
				break
			}
			if err := l.writeState(ctx); err != nil {
				if ctx.Err() != nil {
					return
				}
				k.want(l.id)
				if !errors.Is(err, errGaveWay) {
					k.cfg.Log.Error("a state file could not be written; it will be tried again, and the log grows", "partition", l.id, "error", err)
				}
				select {
				case <-ctx.Done():
				case <-time.After(stateAgain):
				}
				break
			}
		}
	}
}

// due returns the partition that is to get a state file next, nil for none. One that is being loaded has to wait.
func (k *Keeper) due() *Local {
	asked, limit := k.needs()
	for _, id := range asked {
		if l := k.host.Local(id); l == nil || !l.isLoading() {
			k.mu.Lock()
			delete(k.asked, id)
			k.mu.Unlock()
			if l != nil {
				return l
			}
		}
	}
	if k.log.Size() <= limit {
		return nil
	}
	id, some := k.log.Pins()
	if !some {
		return nil
	}
	if l := k.host.Local(placement.PartitionID(id)); l != nil && !l.isLoading() {
		return l
	}
	return nil
}

// needs returns who has been asked for, and how long the log may be.
func (k *Keeper) needs() (asked []placement.PartitionID, limit int64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.asked {
		asked = append(asked, id)
	}
	for _, s := range k.states {
		limit += s.bytes
	}
	return asked, max(limit, k.cfg.LogSize)
}

// isLoading reports whether a partition cannot be cut.
func (l *Local) isLoading() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.loading || l.broken
}

// errGaveWay is a state file that made room for a snapshot.
var errGaveWay = errors.New("replication: a state file gave way to a snapshot")

// giveWay ends the state file that is being written: a cache is cut once at a time. The caller holds the lock.
func (l *Local) giveWay() {
	if l.state != nil {
		l.state.Close()
		l.state = nil
		for id, k := range l.kept {
			if k.stage == cut {
				l.append(k, recordEnd, id[:], false, true)
				k.stage = waiting
			}
		}
	}
}

// writeState writes a state file, and lets go of what it stands for.
func (l *Local) writeState(ctx context.Context) (err error) {
	k := l.keeper
	began := time.Now()
	l.mu.Lock()
	if l.broken || l.loading {
		l.mu.Unlock()
		return errBroken
	}
	ids := make([]engine.CacheID, 0, len(l.kept))
	for id := range l.kept {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b engine.CacheID) int { return bytes.Compare(a[:], b[:]) })
	s, ok := l.p.CutCaches(ids)
	if !ok {
		l.mu.Unlock()
		return errGaveWay
	}
	index := k.log.Last()
	l.state = s
	for _, id := range ids {
		if c := l.kept[id]; c.stage == waiting {
			c.stage = cut
		}
	}
	l.mu.Unlock()
	path := filepath.Join(k.cfg.Dir, stateName(l.id, index))
	size, err := l.streamState(ctx, s, path, index)
	l.mu.Lock()
	over := l.state != s
	if l.state == s && err != nil {
		l.giveWay()
	}
	if l.state == s {
		s.Close()
		l.state = nil
	}
	l.mu.Unlock()
	switch {
	case err != nil:
		return err
	case over:
		return errGaveWay
	}
	return l.settleState(ids, index, size, began)
}

// settleState makes the state file at index the one that counts.
func (l *Local) settleState(ids []engine.CacheID, index uint64, size int64, began time.Time) error {
	k := l.keeper
	k.mu.Lock()
	old, had := k.states[l.id]
	k.states[l.id] = stateFile{index, size}
	k.mu.Unlock()
	l.mu.Lock()
	for _, id := range ids {
		if c := l.kept[id]; c != nil && c.stage == cut {
			c.stage = safe
			c.last = k.log.Last() // what was shown since the cut is to be safe before it is shown again
		}
	}
	l.mu.Unlock()
	if had && old.index != index {
		if err := os.Remove(filepath.Join(k.cfg.Dir, stateName(l.id, old.index))); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := k.log.Release(uint32(l.id), index); err != nil {
		return err
	}
	k.cfg.Log.Info("a state file is written", "partition", l.id, "caches", len(ids), "bytes", size, "log", k.log.Size(), "took", time.Since(began).Round(time.Millisecond))
	return nil
}

func (l *Local) streamState(ctx context.Context, s *engine.CutStream, path string, index uint64) (size int64, err error) {
	k := l.keeper
	f, err := seal.CreateFile(path)
	if err != nil {
		return 0, err
	}
	h := k.headOf(l.id, index)
	h.Created = time.Now().UTC().Truncate(time.Millisecond)
	var work courtesy.Work
	w, err := seal.Writer(ctx, work.Writer(f), k.cfg.Keys, h)
	if err != nil {
		return 0, errors.Join(err, f.Discard())
	}
	out := bufio.NewWriterSize(w, cutBytes)
	out.WriteString(stateMagic) // Flush tells of errors
	out.Write(l.fingerprint())
	var buf []byte
	for more := true; more; {
		if err := ctx.Err(); err != nil {
			return 0, errors.Join(err, f.Discard())
		}
		work.StepBack()
		if buf, more, err = l.readState(s, buf[:0]); err != nil {
			return 0, errors.Join(err, f.Discard())
		}
		out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(buf))))
		if _, err := out.Write(buf); err != nil {
			return 0, errors.Join(err, f.Discard())
		}
	}
	out.Write(make([]byte, 4))
	if err := errors.Join(out.Flush(), w.Close()); err != nil {
		return 0, errors.Join(err, f.Discard())
	}
	if err := k.log.Wait(ctx, index); err != nil { // what it shows is not lost with the end of the log
		return 0, errors.Join(err, f.Discard())
	}
	if info, err := f.Stat(); err == nil {
		size = info.Size()
	}
	return size, f.Commit()
}

// readState reads the next piece of the cut.
func (l *Local) readState(s *engine.CutStream, dst []byte) (_ []byte, more bool, err error) {
	defer l.yield()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != s || l.broken {
		return dst, false, errGaveWay
	}
	defer l.guard(&err)
	dst, more = s.Read(dst, cacheBytes)
	return dst, more, nil
}

// Log tells how long the log is, and how old the oldest record that is not on disk yet.
func (k *Keeper) Log() (bytes int64, behind time.Duration) { return k.log.Size(), k.log.Age() }

// StopLoading ends loading, and returns when nobody is at it any more.
func (k *Keeper) StopLoading() {
	k.stop()
	k.loads.Wait()
}

// Close ends loading and writes what stands in line for the log. Nothing is executed any more.
func (k *Keeper) Close() error {
	k.StopLoading()
	if !k.open {
		return nil
	}
	err := k.log.Close()
	k.running.Wait()
	return err
}
