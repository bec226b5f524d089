package replication

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.etcd.io/raft/v3/raftpb"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/courtesy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/seal"
	"github.com/larder-cache/larder/internal/wal"
	"github.com/larder-cache/larder/placement"
)

// A Vault keeps the replicas of durable groups that a node has, so that they come back as who they were when its process has
// ended at any moment: with their votes, their logs and their data. One log serves them all; ledger.go is what a group writes to
// it, and recall.go how it is read.
//
// Beside the log lie two kinds of files. A state file has all of a partition as it stood at an index of its group's log; the
// records behind stand for what came after. A marker names a replica that is here. It can be read without the keys, and that is
// what it is for: who starts has to know its replicas before it has anything else.
//
//	V1: a replica has a marker only while all that it ever promised to others can be read here; of an async group: all but the end
//	V2: of each replica that has a marker, a state file or its founding is here, and all records behind that
//	V3: one state file at a time is written by Run
//	V4: what an async replica has left stays until another here has as much on disk: see trail.go
type Vault struct {
	cfg VaultConfig
	log *wal.Log

	mu    sync.Mutex
	kept  map[placement.PartitionID]lodger
	past  map[placement.PartitionID][]lodger // of async groups: those that were here before (V4)
	asked map[placement.PartitionID]bool
	bell  chan struct{}

	read    map[vaultFile]*recalled // that the log has told of, by their markers, until a group takes them
	opening sync.Mutex
	open    bool // the log has been read and can be written to
	running sync.WaitGroup
}

// VaultConfig is what a Vault needs: all but LogSize.
type VaultConfig struct {
	Dir     string // of all files
	Keys    seal.KMS
	Cluster string
	Node    string
	Log     *slog.Logger
	LogSize int64       // bytes that the log may have before state files are written; 0 for the default
	Fail    func(error) // ends the process: see package wal

	files   wal.Files // of the log; nil for those in Dir
	shelf   shelf     // nil for that in Dir
	segment int64     // bytes of a segment of the log; 0 for what LogSize makes of it
	byHand  bool      // nobody runs the log: a simulation, which has it written when it wants
}

// A lodger is a replica that is here.
type lodger struct {
	generation uint32
	self       uint64
	index      uint64 // of its state file, 0 for none
	bytes      int64  // of that
	trail      bool   // of an async group
}

// of names the marker of a partition's lodger.
func (l lodger) of(p placement.PartitionID) vaultFile {
	return vaultFile{partition: p, generation: l.generation, self: l.self}
}

// NewVault makes a vault. Load has to be called before anything else.
func NewVault(cfg VaultConfig) (*Vault, error) {
	if cfg.LogSize == 0 {
		cfg.LogSize = DefaultWALSize
	}
	if cfg.segment == 0 {
		cfg.segment = min(wal.DefaultSegment, max(cfg.LogSize/4, 1<<20))
	}
	if cfg.shelf == nil {
		if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
			return nil, err
		}
		cfg.shelf = dirShelf(cfg.Dir)
	}
	if cfg.files == nil {
		cfg.files = wal.Dir(cfg.Dir)
	}
	v := &Vault{
		cfg: cfg, kept: map[placement.PartitionID]lodger{}, past: map[placement.PartitionID][]lodger{}, asked: map[placement.PartitionID]bool{},
		bell: make(chan struct{}, 1), read: map[vaultFile]*recalled{},
	}
	v.log = wal.New(wal.Config{Files: cfg.files, Keys: cfg.Keys, Cluster: cfg.Cluster, Node: cfg.Node, Log: cfg.Log, Fail: cfg.Fail, Segment: cfg.segment, Heals: true})
	return v, nil
}

// A vaultFile is what a file's name says: a marker of a replica, or its state at an index.
type vaultFile struct {
	partition  placement.PartitionID
	generation uint32
	self       uint64
	index      uint64 // of a state file
}

const (
	markerSuffix = ".replica"
	trailSuffix  = ".trail" // in its place, of an async group
	stateSuffix  = ".state"
)

func (f vaultFile) marker(trail bool) string {
	suffix := markerSuffix
	if trail {
		suffix = trailSuffix
	}
	return fmt.Sprintf("%05d-%08x-%016x%s", f.partition, f.generation, f.self, suffix)
}

func (f vaultFile) state() string {
	return fmt.Sprintf("%05d-%08x-%016x-%016x%s", f.partition, f.generation, f.self, f.index, stateSuffix)
}

// A vaultKind is what a file is.
type vaultKind uint8

const (
	stateOf vaultKind = iota
	markerOf
	trailOf
)

// parseVaultFile reads a name; ok is false for a file of another kind.
func parseVaultFile(name string) (f vaultFile, kind vaultKind, ok bool) {
	text, marker := strings.CutSuffix(name, markerSuffix)
	kind = markerOf
	if !marker {
		if text, marker = strings.CutSuffix(name, trailSuffix); marker {
			kind = trailOf
		}
	}
	want := 3
	if !marker {
		kind = stateOf
		if text, ok = strings.CutSuffix(name, stateSuffix); !ok {
			return f, kind, false
		}
		want = 4
	}
	parts := strings.Split(text, "-")
	if len(parts) != want {
		return f, kind, false
	}
	number, err := strconv.ParseUint(parts[0], 10, 16)
	generation, err2 := strconv.ParseUint(parts[1], 16, 32)
	self, err3 := strconv.ParseUint(parts[2], 16, 64)
	f = vaultFile{partition: placement.PartitionID(number), generation: uint32(generation), self: self}
	if !marker {
		var err4 error
		if f.index, err4 = strconv.ParseUint(parts[3], 16, 64); err4 != nil {
			return f, kind, false
		}
	}
	return f, kind, errors.Join(err, err2, err3) == nil
}

// KeptReplicas tells which replicas a vault in a directory has, without its keys.
func KeptReplicas(dir string) (keeps func(p placement.PartitionID, generation uint32, id uint64) bool, some bool, err error) {
	names, err := dirShelf(dir).list()
	if err != nil {
		return nil, false, err
	}
	kept := map[vaultFile]bool{}
	for _, name := range names {
		if f, kind, ok := parseVaultFile(name); ok && kind != stateOf {
			kept[f] = true
		}
	}
	return func(p placement.PartitionID, generation uint32, id uint64) bool {
		return kept[vaultFile{partition: p, generation: generation, self: id}]
	}, len(kept) > 0, nil
}

// keeps reports whether a replica is here.
func (v *Vault) keeps(id groupID, self uint64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	l, some := v.kept[id.partition]
	return some && l.generation == id.generation && l.self == self
}

// begin writes down that a replica begins, in the place of any that was here, and returns when it may speak to others (V1). trail says
// that it is of an async group, and at that it has a state file already at an index, 0 for none.
func (v *Vault) begin(id groupID, self uint64, founders []uint64, trail bool, at uint64) error {
	if err := v.openLog(); err != nil {
		return err
	}
	v.mu.Lock()
	old, had := v.kept[id.partition]
	if had && old.trail && trail { // it stays (V4)
		v.past[id.partition] = append(v.past[id.partition], old)
		delete(v.kept, id.partition)
		had = false
	}
	v.mu.Unlock()
	if had {
		if err := v.forget(groupID{id.partition, old.generation}, old.self); err != nil {
			return err
		}
	}
	b := appendRecordHead(nil, id, self)
	b = binary.AppendUvarint(b, uint64(len(founders)))
	for _, f := range founders {
		b = binary.AppendUvarint(b, f)
	}
	if err := v.sync(v.log.Append(uint32(id.partition), recordReplica, b, true)); err != nil {
		return err
	}
	l := lodger{generation: id.generation, self: self, trail: trail, index: at}
	if err := v.cfg.shelf.write(l.of(id.partition).marker(trail), func(io.Writer) error { return nil }); err != nil {
		return fmt.Errorf("a replica cannot be written down: %w", err)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.kept[id.partition] = l
	return nil
}

// sync returns when a record is on disk.
func (v *Vault) sync(index uint64) error {
	if v.cfg.byHand {
		return v.log.Step()
	}
	return v.log.Wait(context.Background(), index)
}

// forget removes a replica that is not wanted any more, its marker first.
func (v *Vault) forget(id groupID, self uint64) error {
	is := func(l lodger) bool { return l.generation == id.generation && l.self == self }
	v.mu.Lock()
	l, some := v.kept[id.partition]
	if some = some && is(l); some {
		delete(v.kept, id.partition)
	} else if at := slices.IndexFunc(v.past[id.partition], is); at >= 0 {
		l, some = v.past[id.partition][at], true
		v.past[id.partition] = slices.Delete(slices.Clone(v.past[id.partition]), at, at+1)
	}
	delete(v.read, l.of(id.partition))
	_, other := v.kept[id.partition]
	last := !other && len(v.past[id.partition]) == 0
	v.mu.Unlock()
	if !some {
		return nil
	}
	if err := v.cfg.shelf.remove(l.of(id.partition).marker(l.trail)); err != nil {
		return fmt.Errorf("a replica cannot be forgotten: %w", err)
	}
	if err := v.tidy(id.partition, vaultFile{}); err != nil {
		return err
	}
	gone := v.log.Append(uint32(id.partition), recordGone, appendRecordHead(nil, id, self), false)
	if !last { // what others need of the log goes with their state files
		return nil
	}
	return v.log.Release(uint32(id.partition), gone)
}

// tidy removes the state files of a partition that are of nobody, and of one replica those that are older than one.
func (v *Vault) tidy(p placement.PartitionID, than vaultFile) error {
	names, err := v.cfg.shelf.list()
	if err != nil {
		return err
	}
	v.mu.Lock()
	here := slices.Clone(v.past[p])
	if l, some := v.kept[p]; some {
		here = append(here, l)
	}
	v.mu.Unlock()
	var old []string
	for _, name := range names {
		f, kind, ok := parseVaultFile(name)
		if !ok || kind != stateOf || f.partition != p {
			continue
		}
		same := f.generation == than.generation && f.self == than.self
		if same && f.index < than.index || !slices.ContainsFunc(here, func(l lodger) bool { return l.generation == f.generation && l.self == f.self }) {
			old = append(old, name)
		}
	}
	return v.cfg.shelf.remove(old...)
}

// A groupState is what a state file of a group has beside its partition.
type groupState struct {
	vaultFile
	seed      engine.Seed
	term      uint64 // of its index
	conf      *raftpb.ConfState
	gathering gathering // its parts may not be known yet
	left      int       // how many bytes of these come before the cut
}

// stateOfGroup begins a state file of a group: a fingerprint of its partition's seed, 16 bytes, the term of its index, who the
// members are there, in its length and its bytes, and of the large task that comes in parts its term, its size, and how much has come, follow; then these parts
// and the cut in chunks, each behind its length, as in a hand-over.
const stateOfGroup = "larder group state 1\n"

func (v *Vault) headOf(f vaultFile) seal.Head {
	return seal.Head{Kind: "group-state", Cluster: v.cfg.Cluster, ID: fmt.Sprintf("%s/%s", v.cfg.Node, f.state())}
}

// writeState writes a state file. next appends the next piece of what comes in chunks to what it is given, and says whether there is
// more.
func (v *Vault) writeState(s *groupState, next func(dst []byte) (b []byte, more bool, err error)) error {
	f := s.vaultFile
	counted := &countingWriter{}
	err := v.cfg.shelf.write(f.state(), func(to io.Writer) error {
		counted.to = to
		h := v.headOf(f)
		h.Created = time.Now().UTC().Truncate(time.Millisecond)
		var work courtesy.Work
		w, err := seal.Writer(context.Background(), work.Writer(counted), v.cfg.Keys, h)
		if err != nil {
			return err
		}
		out := bufio.NewWriterSize(w, cutBytes)
		out.WriteString(stateOfGroup) // Flush tells of errors
		out.Write(fingerprintOf(s.seed))
		members := appendConfState(nil, s.conf)
		out.Write(binary.AppendUvarint(binary.AppendUvarint(nil, s.term), uint64(len(members))))
		out.Write(members)
		var parts []byte
		for _, n := range [...]uint64{s.gathering.term, uint64(s.gathering.size), uint64(s.left)} {
			parts = binary.AppendUvarint(parts, n)
		}
		out.Write(parts)
		var buf []byte
		for more := true; more; {
			work.StepBack()
			if buf, more, err = next(buf[:0]); err != nil {
				return err
			}
			if len(buf) == 0 {
				continue
			}
			out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(buf))))
			if _, err := out.Write(buf); err != nil {
				return err
			}
		}
		out.Write(make([]byte, 4))
		return errors.Join(out.Flush(), w.Close())
	})
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if l, some := v.kept[f.partition]; some && l.generation == f.generation && l.self == f.self && l.index < f.index {
		l.index, l.bytes = f.index, counted.n
		v.kept[f.partition] = l
	}
	return nil
}

type countingWriter struct {
	to io.Writer
	n  int64
}

func (w *countingWriter) Write(b []byte) (int, error) {
	n, err := w.to.Write(b)
	w.n += int64(n)
	return n, err
}

// fingerprintOf tells seeds apart without telling them.
func fingerprintOf(seed engine.Seed) []byte {
	b := binary.BigEndian.AppendUint64([]byte("larder seed"), seed[0])
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(b, seed[1]))
	return sum[:16]
}

// want has a partition get a state file soon.
func (v *Vault) want(id placement.PartitionID) {
	v.mu.Lock()
	v.asked[id] = true
	v.mu.Unlock()
	select {
	case v.bell <- struct{}{}:
	default:
	}
}

// Run writes state files of a cluster's groups, as the log grows, until ctx ends.
func (v *Vault) Run(ctx context.Context, c *Cluster) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-v.bell:
		case <-tick.C:
		}
		for ctx.Err() == nil {
			g := v.due(c)
			if g == nil {
				break
			}
			if err := g.writeState(ctx); err != nil {
				if ctx.Err() != nil {
					return
				}
				v.want(g.id.partition)
				if !errors.Is(err, errGaveWay) {
					v.cfg.Log.Error("a state file could not be written; it will be tried again, and the log grows", "partition", g.id.partition, "error", err)
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

// recallSizes is how many times as long as VaultConfig.LogSize the log may get at the most, however large the state files are: what
// it has is in memory for a moment when a process starts.
const recallSizes = 4

// due returns the group that is to get a state file next, nil for none.
func (v *Vault) due(c *Cluster) *Group {
	v.mu.Lock()
	asked, limit := make([]placement.PartitionID, 0, len(v.asked)), int64(0)
	for id := range v.asked {
		asked = append(asked, id)
	}
	clear(v.asked)
	for _, l := range v.kept {
		limit += l.bytes
	}
	for _, list := range v.past {
		for _, l := range list {
			limit += l.bytes
		}
	}
	v.mu.Unlock()
	slices.Sort(asked)
	for i, id := range asked {
		if g := c.Group(id); g != nil && g.ledger != nil {
			for _, rest := range asked[i+1:] {
				v.want(rest)
			}
			return g
		}
	}
	if v.log.Size() <= min(max(limit, v.cfg.LogSize), recallSizes*v.cfg.LogSize) {
		return nil
	}
	id, some := v.log.Pins()
	if !some {
		return nil
	}
	if g := c.Group(placement.PartitionID(id)); g != nil && g.ledger != nil {
		return g
	}
	return nil
}

// A Kept is a replica that is on disk.
type Kept struct {
	Partition  placement.PartitionID
	Generation uint32
	Replica    uint64
	Trail      bool // of an async partition
}

// Idle lists the replicas on disk of which none runs in c. They keep the log from getting shorter.
func (v *Vault) Idle(c *Cluster) (list []Kept) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for p, l := range v.kept {
		if g := c.Group(p); g == nil || g.id.generation != l.generation || g.self != l.self {
			list = append(list, Kept{p, l.generation, l.self, l.trail})
		}
	}
	for p, past := range v.past {
		for _, l := range past {
			list = append(list, Kept{p, l.generation, l.self, l.trail})
		}
	}
	return list
}

// Forget removes a replica that is surely no member of its group any more.
func (v *Vault) Forget(k Kept) error { return v.forget(groupID{k.Partition, k.Generation}, k.Replica) }

// Log tells how long the log is, and how old the oldest record that is not on disk yet.
func (v *Vault) Log() (bytes int64, behind time.Duration) { return v.log.Size(), v.log.Age() }

// Close writes what stands in line for the log. Nothing happens in any group any more.
func (v *Vault) Close() error {
	v.opening.Lock()
	defer v.opening.Unlock()
	if !v.open {
		return nil
	}
	err := v.log.Close()
	v.running.Wait()
	return err
}

// readState reads a state file: who the members were, what was being gathered, and the partition.
func (v *Vault) readState(f vaultFile, seed engine.Seed) (s *groupState, p *engine.Partition, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%s: %w", f.state(), err)
		}
	}()
	file, err := v.cfg.shelf.open(f.state())
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = file.Close() }() // it was read
	_, plain, err := seal.Open(context.Background(), bufio.NewReaderSize(file, 1<<20), v.cfg.Keys, v.headOf(f))
	if err != nil {
		return nil, nil, err
	}
	in := bufio.NewReaderSize(plain, cutBytes)
	if s, err = readStateHead(in, f, seed); err != nil {
		return nil, nil, err
	}
	a := &arrival{p: engine.New(seed), gathering: s.gathering, left: s.left}
	a.restorer = engine.RestorePartition(a.p)
	if err := takeChunks(a, in); err != nil {
		a.p.Close()
		return nil, nil, err
	}
	if _, err := in.ReadByte(); err != io.EOF {
		a.p.Close()
		return nil, nil, errors.Join(errors.New("it does not end where it should"), err)
	}
	s.gathering = a.gathering
	return s, a.p, nil
}

func readStateHead(in *bufio.Reader, f vaultFile, seed engine.Seed) (*groupState, error) {
	s := &groupState{vaultFile: f, seed: seed}
	head := make([]byte, len(stateOfGroup)+16)
	if err := full(in, head); err != nil || string(head[:len(stateOfGroup)]) != stateOfGroup || !bytes.Equal(head[len(stateOfGroup):], fingerprintOf(seed)) {
		return nil, errors.Join(errors.New("it is no state of this partition"), err)
	}
	var err error
	number := func(most uint64) (n uint64) {
		if err == nil {
			n, err = binary.ReadUvarint(in)
		}
		if err == nil && n > most {
			err = errWire
		}
		return n
	}
	s.term = number(math.MaxUint64)
	length := number(maxMembers)
	if err != nil {
		return nil, err
	}
	members := make([]byte, length)
	if err := full(in, members); err != nil {
		return nil, err
	}
	r := &reader{b: members}
	if s.conf = readConfState(r); r.bad || len(r.b) > 0 {
		return nil, errWire
	}
	s.gathering.term, s.gathering.size = number(math.MaxUint64), int(number(maxTask))
	s.left = int(number(uint64(s.gathering.size)))
	return s, err
}

// errNoVault is for a durable partition on a node that cannot keep one.
var errNoVault = fault.New(fault.NotSupported, "replication.place", "this node has no write-ahead log for durable partitions")

// maxMembers bounds the bytes of who belongs to a group: a handful of ids.
const maxMembers = 64 << 10
