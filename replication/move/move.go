// Package move takes spans of a cache's slots from one partition to another while they are read and written.
//
// What the two partitions do is package engine/tenure's; which step comes next is Progress's (step.go), and both are gone through
// exhaustively by the model beside it. Here is the driver that does the steps: it runs on the node that leads the source, since
// what changes there is noted there, and reaches the target wherever that is led. It keeps nothing: when it dies, or the source
// gets another leader, a driver there begins a new attempt, or finds that the span has passed.
//
// The span is not served from Freeze until Activate has been heard of, which takes a round trip to each partition and what is
// left to copy, and nobody asks etcd in between. Other slots do not notice.
//
// Start with Mover.Run.
package move

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

// A Partition carries out tasks, wherever it is led.
type Partition interface {
	Execute(ctx context.Context, t *engine.Task) error
}

// A Source is a partition that is led here.
type Source interface {
	Partition
	Export(id engine.CacheID, s tenure.Span) (*replication.Export, error)
	TenureOf(id engine.CacheID) (*tenure.Tenure, bool)
}

// A Record is a movement that is wanted.
type Record struct {
	Cache    engine.CacheID
	Name     string          // tenant/cache, for people
	Settings engine.Settings // for the target
	placement.Movement
}

func (r *Record) span() tenure.Span { return tenure.Span{From: r.From, To: r.To} }

// Records are the movements that are wanted, in the control store.
type Records interface {
	Movements() []Record
	Movement(id engine.CacheID) (Record, bool)
	Commit(ctx context.Context, r *Record) error // the routing table says that the target has the span
	End(ctx context.Context, r *Record) error
}

// Config says what a Mover needs.
type Config struct {
	Source  func(placement.PartitionID) Source // nil where it is not led here
	Target  func(placement.PartitionID) Partition
	Records Records
	Tell    func(p placement.PartitionID, what string) // for the log of events
	Log     *slog.Logger
}

// A Mover drives the movements whose sources are led by this node.
type Mover struct {
	Config
	wake chan struct{}

	mu      sync.Mutex
	driving map[engine.CacheID]bool
}

// New makes a Mover.
func New(cfg Config) *Mover {
	return &Mover{Config: cfg, wake: make(chan struct{}, 1), driving: map[engine.CacheID]bool{}}
}

// Wake has Run look for movements at once: a record has changed.
func (m *Mover) Wake() {
	select {
	case m.wake <- struct{}{}:
	default: // it is about to look
	}
}

// How a driver keeps time.
const (
	lookEvery    = 200 * time.Millisecond // for movements of which nobody has told
	stepMost     = 10 * time.Minute       // for a step: a copy of all that there is
	activateTime = 200 * time.Millisecond // for the answer of Activate, before it is asked once more
	retryMost    = time.Second            // between tries of a step that fails
	hurry        = 10 * time.Millisecond  // the same while the span is not served
	copyTime     = 60 * time.Second       // after the first round, for what has changed to become little
	drainTime    = 25 * time.Millisecond  // that the span may be frozen before the rest is copied, the first time
	drainMost    = 400 * time.Millisecond // when that was too short again and again
	purgePace    = 2 * time.Millisecond   // between pieces of the purge: nobody waits for it
	rest         = 10 * time.Second       // before a movement that cannot get through is tried again
)

// Bounds of what is copied at once. A partition is held up for a fraction of a millisecond.
const (
	copyBytes  = 128 << 10
	fewKeys    = 96   // are left, so that it is worth to freeze
	purgeLooks = 1024 // records
)

// Run drives movements until ctx ends.
func (m *Mover) Run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		for _, r := range m.Records.Movements() {
			source := m.Source(r.Source)
			if source == nil || !m.claim(r.Cache) {
				continue
			}
			all.Go(func() {
				defer m.unclaim(r.Cache)
				d := &driver{m: m, id: r.Cache, epoch: r.Epoch, source: source}
				d.run(ctx)
			})
		}
		select {
		case <-tick.C:
		case <-m.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (m *Mover) claim(id engine.CacheID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.driving[id] {
		return false
	}
	m.driving[id] = true
	return true
}

func (m *Mover) unclaim(id engine.CacheID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.driving, id)
}

// A driver takes one movement through its steps.
type driver struct {
	m      *Mover
	id     engine.CacheID
	epoch  uint64
	source Source
	r      Record

	p       Progress
	export  *replication.Export
	part    uint64  // that has arrived
	pending []byte  // a part that may not have
	version uint64  // of it
	over    bool    // nothing more was to be read behind it
	counts  []int64 // of the keys that have passed, by database
	bytes   int64   // that were copied, in this attempt
	frozen  time.Time
	paused  time.Duration // that the span was not served
	patient time.Duration // how long it may be
	copied  time.Time     // since the first round is over
}

// errLost says that the source is not led here any more: another driver takes over.
var errLost = errors.New("move: the source is led elsewhere")

// errStuck says that the movement cannot get through as things are.
var errStuck = fault.New(fault.Unavailable, "move.copy", "what is written there changes faster than it can be copied, or has collections that are too large to be sent while nobody writes")

// errThawed says that the source serves again, and what is left is to be copied first.
var errThawed = errors.New("move: draining takes too long")

func (d *driver) run(ctx context.Context) {
	defer d.close()
	d.patient = drainTime
	failed := 0
	for ctx.Err() == nil {
		r, ok := d.m.Records.Movement(d.id)
		if !ok || r.Epoch != d.epoch {
			return
		}
		d.r = r
		step := d.p.Next(r.Committed, r.Abort)
		v, attempt, err := d.do(ctx, step)
		if errors.Is(err, errLost) {
			return
		}
		if errors.Is(err, errThawed) {
			d.p.Thawed()
			continue
		}
		stuck := errors.Is(err, errStuck) || fault.Is(err, fault.OutOfMemory)
		if stuck {
			v = tenure.Over
		}
		if v == tenure.Over && (step == Drain || step == Activate) { // this attempt comes to nothing, so the source may go on at once
			_, _, _ = d.op(ctx, d.source, engine.MoveThaw, d.p.Attempt) // or the next attempt does it
		}
		if err == nil || stuck {
			if d.p.Note(step, v, attempt); step == Clear || step == Drop {
				return
			}
		}
		if err == nil && v != tenure.Over {
			if step == Copy {
				failed = 0
			}
			continue
		}
		if ctx.Err() != nil {
			return
		}
		if failed++; failed == 5 || failed%100 == 0 {
			d.m.Log.Warn("a movement of slots does not get on; it is tried again", "cache", r.Name, "movement", r.Movement.String(), "step", step, "verdict", v, "error", err)
		}
		wait := min(time.Millisecond<<min(failed, 12), retryMost)
		if stuck {
			d.m.Tell(r.Source, fmt.Sprintf("%s: %v cannot move at the moment: %s", r.Name, &r.Movement, fault.From(err).Message))
			wait = rest
		}
		if step == Activate || step == Drain || step == Freeze {
			wait = min(wait, hurry)
		}
		pause(ctx, wait)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (d *driver) close() {
	if d.export != nil {
		d.export.Close()
		d.export = nil
	}
}

// do does a step. An error says that nothing is known of it: it is done again.
func (d *driver) do(ctx context.Context, s Step) (v tenure.Verdict, attempt uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, stepMost)
	defer cancel()
	switch s {
	case Begin:
		return d.begin(ctx)
	case Offer:
		return d.offer(ctx)
	case Copy:
		v, err = d.copy(ctx)
	case Freeze:
		d.frozen = time.Now()
		v, _, err = d.op(ctx, d.source, engine.MoveFreeze, d.p.Attempt)
	case Drain:
		v, err = d.drain(ctx)
	case Activate:
		v, err = d.activate(ctx)
	case Commit:
		if err = d.m.Records.Commit(ctx, &d.r); err == nil {
			d.passed()
		}
	case Release:
		v, _, err = d.op(ctx, d.source, engine.MoveRelease, 0)
	case Purge:
		if t, ok := d.source.TenureOf(d.id); ok && t != nil && len(t.Owns) > 0 { // else all of it is dropped in a moment
			err = d.purge(ctx, d.source, purgePace)
		}
	case Cancel:
		v, _, err = d.op(ctx, d.target(), engine.MoveCancel, 0)
	case Withdraw:
		d.close()
		v, _, err = d.op(ctx, d.source, engine.MoveWithdraw, 0)
	case Forget:
		err = d.purge(ctx, d.target(), 0)
	case Clear, Drop:
		if s == Drop {
			d.m.Tell(d.r.Source, fmt.Sprintf("%s: %v do not move after all", d.r.Name, &d.r.Movement))
		}
		err = d.m.Records.End(ctx, &d.r)
	}
	return v, 0, err
}

func (d *driver) target() Partition { return d.m.Target(d.r.Target) }

// ask has a partition do a task whose reply is integers.
func (d *driver) ask(ctx context.Context, at Partition, t *engine.Task) ([]int64, error) {
	if at == nil {
		return nil, fault.New(fault.Unavailable, "move.ask", "a partition cannot be reached from here")
	}
	reply := &engine.Recording{}
	t.Reply = reply
	if err := at.Execute(ctx, t); err != nil {
		var elsewhere *replication.NotLeader
		if at == Partition(d.source) && errors.As(err, &elsewhere) {
			return nil, errLost
		}
		return nil, err
	}
	return engine.Integers(reply)
}

// op asks one side for a step.
func (d *driver) op(ctx context.Context, at Partition, op engine.MoveOp, attempt uint64) (v tenure.Verdict, list []int64, err error) {
	other := d.r.Target
	if op == engine.MoveBegin {
		other = d.r.Source
	}
	list, err = d.ask(ctx, at, engine.MoveTask(d.id, op, d.epoch, attempt, d.r.span(), uint16(other), d.counts))
	if err == nil && len(list) < 2 {
		err = fault.New(fault.Internal, "move.op", "a partition answers with %d integers", len(list))
	}
	if err != nil {
		return 0, nil, err
	}
	return tenure.Verdict(list[0]), list, nil
}

// begin begins an attempt at the target, and has what an earlier one has staged removed.
func (d *driver) begin(ctx context.Context) (v tenure.Verdict, attempt uint64, err error) {
	d.close()
	held, ok := d.source.TenureOf(d.id)
	if !ok {
		return 0, 0, errLost
	}
	floor := uint64(0)
	if held != nil && held.Move != nil && held.Move.Epoch == d.epoch {
		floor = held.Move.Attempt
	}
	to := d.target()
	if to == nil {
		return 0, 0, fault.New(fault.Unavailable, "move.begin", "the target cannot be reached from here")
	}
	known := engine.ConfigureTask(d.id, d.r.Settings)
	known.Reply = &engine.Recording{}
	if err := to.Execute(ctx, known); err != nil {
		return 0, 0, err
	}
	v, list, err := d.op(ctx, to, engine.MoveBegin, floor)
	if err != nil || v != tenure.Done {
		return v, 0, err
	}
	return v, uint64(list[1]), d.purge(ctx, to, 0)
}

// purge removes keys of slots that a partition does not hold.
func (d *driver) purge(ctx context.Context, at Partition, pace time.Duration) error {
	for db, from := int64(0), int64(0); db < engine.Databases; {
		list, err := d.ask(ctx, at, engine.PurgeTask(d.id, int(db), uint64(from), purgeLooks))
		if err != nil {
			return err
		}
		if len(list) != 2 {
			return fault.New(fault.Internal, "move.purge", "a partition answers with %d integers", len(list))
		}
		db, from = list[0], list[1]
		if pace > 0 {
			pause(ctx, pace)
		}
	}
	return nil
}

func (d *driver) offer(ctx context.Context) (v tenure.Verdict, attempt uint64, err error) {
	if v, _, err = d.op(ctx, d.source, engine.MoveOffer, d.p.Attempt); err != nil || v != tenure.Done {
		return v, 0, err
	}
	d.close()
	x, err := d.source.Export(d.id, d.r.span())
	if err != nil {
		return tenure.Over, 0, nil
	}
	d.export, d.part, d.pending, d.over, d.bytes, d.copied = x, 0, nil, false, 0, time.Time{}
	return tenure.Done, 0, nil
}

// send copies one part, and reports whether there was something to copy. A part that may not have arrived is sent again, as it
// was.
func (d *driver) send(ctx context.Context) (more bool, v tenure.Verdict, err error) {
	if d.pending == nil {
		var frames []byte
		if frames, d.version, more, err = d.export.Read(nil, copyBytes); err != nil {
			return false, tenure.Over, nil
		}
		if len(frames) == 0 {
			return more, tenure.Done, nil
		}
		d.pending = frames
	}
	list, err := d.ask(ctx, d.target(), engine.StageTask(d.id, d.epoch, d.p.Attempt, d.part+1, d.version, d.pending))
	if err != nil {
		return true, 0, err
	}
	if v := tenure.Verdict(list[0]); v == tenure.Over {
		return false, v, nil
	}
	d.bytes += int64(len(d.pending))
	d.part, d.pending = d.part+1, nil
	return true, tenure.Done, nil
}

// copy copies until little is left.
func (d *driver) copy(ctx context.Context) (tenure.Verdict, error) {
	for d.export != nil {
		more, v, err := d.send(ctx)
		if err != nil || v != tenure.Done {
			return v, err
		}
		left, walked := d.export.Left()
		if walked && d.copied.IsZero() {
			d.copied = time.Now()
		}
		if walked && left <= fewKeys || !more && d.pending == nil {
			return tenure.Done, nil
		}
		if !d.copied.IsZero() && time.Since(d.copied) > copyTime {
			return 0, errStuck
		}
		if r, ok := d.m.Records.Movement(d.id); !ok || r.Abort {
			return tenure.Over, ctx.Err() // run sees what is wanted instead
		}
	}
	return tenure.Over, nil
}

// drain copies what is left while the span is frozen. Where that takes too long the span is thawed, and copied on.
func (d *driver) drain(ctx context.Context) (tenure.Verdict, error) {
	soon, cancel := context.WithDeadline(ctx, d.frozen.Add(d.patient+hurry))
	defer cancel()
	for d.export != nil {
		if time.Since(d.frozen) > d.patient {
			if v, _, err := d.op(ctx, d.source, engine.MoveThaw, d.p.Attempt); err != nil || v != tenure.Done {
				return v, err
			}
			if d.patient *= 2; d.patient > drainMost {
				d.patient = drainTime
				return 0, errStuck
			}
			return 0, errThawed
		}
		more, v, err := d.send(soon)
		if err != nil || v != tenure.Done || !more {
			return v, err
		}
	}
	return tenure.Over, nil
}

func (d *driver) activate(ctx context.Context) (tenure.Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, activateTime)
	defer cancel()
	v, list, err := d.op(ctx, d.target(), engine.MoveActivate, d.p.Attempt)
	if err != nil || v != tenure.Done {
		return v, err
	}
	d.counts, d.paused = list[2:], time.Since(d.frozen)
	d.m.Log.Info("slots have moved", "cache", d.r.Name, "movement", d.r.Movement.String(), "attempt", d.p.Attempt, "bytes", d.bytes, "paused", d.paused)
	return v, nil
}

// passed notes in the log of events that a span has passed.
func (d *driver) passed() {
	keys := int64(0)
	for _, n := range d.counts {
		keys += n
	}
	what := fmt.Sprintf("%s: %v have moved", d.r.Name, &d.r.Movement)
	if d.counts != nil {
		what += fmt.Sprintf(", %d keys in %d bytes; they were not served for %v", keys, d.bytes, d.paused.Round(time.Microsecond))
	}
	d.m.Tell(d.r.Target, what)
}
