package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// How a partition whose only replica is here writes down what happens to its durable caches.
//
// A task is carried out at once, and a record of it appended to the node's log; its replies are not seen before the log has
// synced that, and neither are those of later tasks on the same cache, reads included: nobody is shown what could still be lost.
// Where a caller can hold its replies itself (engine.Task.Holds), nothing waits here meanwhile. Tasks of other caches pay
// nothing.
//
//	D1: the records of a cache, from where it began or from the state file that has it on, are all that happened to it
//	D2: a reply that shows what the log has not synced has a receipt, unless the cache is Async
//	D3: a cache is in a state file or began in the log before anybody is told that it is durable
//	D4: what is said of a step of slots that move is on disk, of an Async cache, too: the control store, and the other partition, go by it

// A Class says what becomes of a cache when its process ends at once.
type Class uint8

// The classes.
const (
	Memory  Class = iota // it is lost
	Async                // the last second is lost at the most
	Durable              // nothing is lost that was acknowledged
)

var classNames = [...]string{"memory", "async", "durable"}

func (c Class) String() string { return classNames[c] }

// ParseClass finds a class by its name; the empty name is Memory.
func ParseClass(name string) (Class, error) {
	for i, n := range classNames {
		if n == name || name == "" {
			return Class(i), nil
		}
	}
	return 0, fmt.Errorf("no durability class %q; there are %v", name, classNames)
}

// A kept cache is one that is written down.
type kept struct {
	class Class
	stage stage
	last  uint64 // its last record that somebody may have seen something of
}

// A stage is how far a cache has come on its way to be durable.
type stage uint8

const (
	waiting stage = iota // nothing is written down yet: it is to be in the next state file
	cut                  // the state file is being written, and what has happened since is written down
	safe                 // (D3)
)

// Kinds of records.
const (
	recordEntry = 'e' // the last version given out before, a uvarint; an entry, whose tasks are of one cache
	recordBegin = 'b' // a cache begins, empty: its id
	recordEnd   = 'x' // a cache is no longer written down: its id
)

// maxAge is how old what is not synced may get of an async cache before it takes no more writes.
const maxAge = time.Second

var (
	errLoading = loadingError()
	errBehind  = &fault.Error{Kind: fault.Unavailable, Op: "replication.execute", RetryAfter: maxAge,
		Message: "what was written to this cache more than a second ago is not on disk yet: it takes no more until it is; nothing was done"}
	errNoLog = fault.New(fault.NotSupported, "replication.keep", "this node has no write-ahead log: a durable cache needs a node that serves by itself, without --peer-addr")
)

func loadingError() *fault.Error {
	e := fault.New(fault.Unavailable, "replication.execute", "this part of the cache is being loaded from disk")
	e.Prefix, e.RetryAfter = "LOADING", time.Second
	return e
}

// admit says why a task that writes may not begin, nil if it may. The caller holds the lock.
func (l *Local) admit(t *engine.Task) error {
	k := l.kept[t.Cache]
	if k == nil || k.stage == waiting {
		return nil
	}
	if t.Allowed != nil && t.Rights == nil {
		return fault.New(fault.NotSupported, "replication.execute", "what this script may do is not known as data, and who reads the log has nobody to ask")
	}
	grows := false
	for i := range t.Calls {
		grows = grows || t.Calls[i].Command.Flags&engine.Grows != 0
	}
	if err := l.keeper.log.Admit(grows); err != nil {
		return err
	}
	if k.class == Durable {
		return nil
	}
	if l.keeper.log.Age() > maxAge {
		return errBehind
	}
	return l.keeper.log.Backlog()
}

// asData has the scripts of a task be judged by rights as data, as they will be by who reads the log.
func asData(t *engine.Task) {
	if t.Rights == nil {
		return
	}
	rights := t.Rights()
	t.Rights = func() *engine.Rights { return rights }
	t.Surely = nil
	if t.Allowed = rights.Allowed; rights.Everything {
		t.Allowed = nil
	}
	if reader, ok := t.Origin.(interface {
		Reads(c *engine.Command, args [][]byte)
	}); ok {
		t.Allowed = reads(t.Allowed, reader.Reads)
	}
}

// apply carries out the entry at hand and writes it down. seen says that its replies show something of it.
func (l *Local) apply(k *kept, seen bool) {
	if k == nil || k.stage == waiting {
		l.p.Apply(&l.entry)
		return
	}
	version := l.p.Version()
	l.p.Apply(&l.entry)
	b := binary.AppendUvarint(l.record[:0], version)
	b = appendEntry(b, l.entry.Now, l.entry.Seed)
	empty := len(b)
	for _, t := range l.entry.Tasks {
		b = appendDone(b, t)
	}
	if cap(b) <= 4*maxJoined {
		l.record = b
	}
	if len(b) > empty {
		l.append(k, recordEntry, b, seen, steps(l.entry.Tasks))
	}
	if id := l.entry.Tasks[0].Cache; !l.p.Knows(id) {
		delete(l.kept, id)
	}
}

// append writes something down. soon says that somebody waits for it, whatever the class.
func (l *Local) append(k *kept, kind byte, b []byte, seen, soon bool) {
	index := l.keeper.log.Append(uint32(l.id), kind, b, soon || seen && k.class == Durable && k.stage == safe)
	if seen {
		k.last = index
	}
}

// appendDone appends what was done of a task, nothing when that is nothing.
func appendDone(b []byte, t *engine.Task) []byte {
	if t.Atomic && t.Failed >= 0 || t.Replayed || t.Parked != nil {
		return b
	}
	if t.OneGo() || t.Done >= len(t.Calls) {
		return appendTask(b, t)
	}
	if t.Done == 0 {
		return b
	}
	calls := t.Calls
	t.Calls = calls[:t.Done]
	b = appendTask(b, t)
	t.Calls = calls
	return b
}

// moveCommand is the steps of slots that move.
const moveCommand = "LARDER.MOVE"

// steps reports whether one of some tasks is a step of slots that move.
func steps(tasks []*engine.Task) bool {
	for _, t := range tasks {
		if len(t.Calls) == 1 && t.Calls[0].Command.Name == moveCommand {
			return true
		}
	}
	return false
}

// hold gives a task the receipt that its replies need (D2, D4).
func (l *Local) hold(t *engine.Task) {
	k := l.kept[t.Cache]
	if k == nil || k.stage == waiting || k.last <= l.keeper.log.Synced() {
		return
	}
	if k.class == Durable && k.stage == safe || steps([]*engine.Task{t}) {
		t.Held = engine.Receipt{Log: l.keeper.log, At: k.last}
	}
}

// await waits until a task's replies may be seen.
func (l *Local) await(ctx context.Context, t *engine.Task) error {
	if err := l.keeper.log.Wait(ctx, t.Held.At); err != nil {
		return fault.Wrap(fault.OutcomeUnknown, "replication.execute", err, "the outcome is unknown: the request's deadline passed before the write was on disk")
	}
	t.Held = engine.Receipt{}
	return nil
}

// A held waiter is told when the log has synced what its answer shows.
type heldWaiter struct{ w *engine.Waiter }

func (h heldWaiter) Synced() { h.w.Tell() }

// keep says of which class a cache has to be here, now and when it comes.
func (l *Local) keep(id engine.CacheID, class Class) error {
	l.mu.Lock()
	defer l.unlock()
	if class != Memory && l.keeper == nil {
		return errNoLog
	}
	if l.wanted == nil {
		l.wanted = map[engine.CacheID]Class{}
	}
	if l.wanted[id] = class; class == Memory {
		delete(l.wanted, id)
	}
	if l.broken || l.loading {
		return nil
	}
	l.classify(id)
	return nil
}

// classify makes a cache that is here what it has to be. The caller holds the lock.
func (l *Local) classify(id engine.CacheID) {
	k, class := l.kept[id], l.wanted[id]
	switch {
	case k == nil && class != Memory && l.p.Knows(id):
		l.begins(id, &kept{class: class})
		l.keeper.want(l.id)
	case k != nil && class == Memory:
		if k.stage != waiting {
			l.append(k, recordEnd, id[:], false, true)
		}
		delete(l.kept, id)
	case k != nil:
		k.class = class
	}
}

func (l *Local) begins(id engine.CacheID, k *kept) {
	if l.kept == nil {
		l.kept = map[engine.CacheID]*kept{}
	}
	l.kept[id] = k
}

// configure says what a cache's settings have to be, nil for one that has to go. While the partition is being loaded it is noted.
func (l *Local) configure(id engine.CacheID, s *engine.Settings) error {
	l.mu.Lock()
	defer l.unlock()
	l.outlast(id)
	switch {
	case l.loading:
		l.settings[id] = s
		return nil
	case l.broken:
		return l.why()
	}
	return l.settle(id, s)
}

func (l *Local) settle(id engine.CacheID, s *engine.Settings) error {
	if s == nil {
		delete(l.wanted, id)
		return l.carryOut(engine.DropTask(id))
	}
	has, known := l.p.SettingsOf(id)
	if known && has == *s {
		return nil
	}
	if class := l.wanted[id]; !known && class != Memory {
		k := &kept{class: class, stage: safe}
		l.begins(id, k)
		l.append(k, recordBegin, id[:], true, false)
	}
	return l.carryOut(engine.ConfigureTask(id, *s))
}

// Durability tells of which class a cache is here, and whether it has become that already.
func (l *Local) Durability(id engine.CacheID) (class Class, done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.kept[id]
	if k == nil {
		return Memory, l.wanted[id] == Memory
	}
	return k.class, k.stage == safe
}

// Keep says of which class a cache has to be in a partition. It is told before Configure tells of a cache that is new.
func (h *Host) Keep(id placement.PartitionID, cache engine.CacheID, class Class) error {
	if local := h.Local(id); local != nil {
		return local.keep(cache, class)
	}
	if class != Memory {
		return errNoLog
	}
	return nil
}

// readEntry takes a record of kind recordEntry apart.
func readEntry(d *decoder, b []byte) (e *engine.Entry, version uint64, err error) {
	version, n := binary.Uvarint(b)
	if n <= 0 {
		return nil, 0, errEntry
	}
	e, err = d.decode(b[n:])
	if err == nil && len(e.Tasks) == 0 {
		err = errors.Join(errEntry, errors.New("it has no tasks"))
	}
	return e, version, err
}

// damaged is what callers of a partition hear that could not be loaded.
func damaged(err error) error {
	return fault.Wrap(fault.Unavailable, "replication.execute", err, "the durable data of this part of the cache is damaged on disk, and it is not served: an operator finds in the node's log where")
}
