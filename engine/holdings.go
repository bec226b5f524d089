package engine

import (
	"encoding/binary"
	"fmt"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/keyslot"
)

// A cache may lie on several partitions, each of which serves some of its slots. Which ones these are is a part of the state,
// see package tenure: a task with a key in another slot is not begun, and Task.Moved says why. A partition that has all of a
// cache, as nearly all have, has no tenure of it, and pays a comparison for each task.
//
// Keys of slots that are not held can be in the tables all the same: they have been staged here and are not served yet, or
// they have gone to another partition and wait to be purged. Nobody sees them: commands that go over keys leave them out, and
// hidden counts them.

// Moved says why a task was not begun: this partition does not serve one of its keys, or, with keys of slots that are on their
// way elsewhere, not at the moment. It is no error to the client: whoever routes tasks asks again elsewhere.
type Moved struct {
	Span  tenure.Span // the slots that are on their way, when To is known
	To    uint16      // the partition that has them, or will have them in a moment
	Known bool        // where they are
	Here  bool        // they are served here, of which the task did not know: see From
}

// From is what a partition of that number has said of where slots are.
func (m *Moved) From(partition uint16) *Moved {
	if !m.Here {
		return m
	}
	return &Moved{Span: m.Span, To: partition, Known: true}
}

func (m *Moved) Error() string {
	if m.Here {
		return fmt.Sprintf("the slots %v are served here as well", m.Span)
	}
	if !m.Known {
		return "the slot is not served here"
	}
	return fmt.Sprintf("the slots %v are served by partition %d, or will be in a moment", m.Span, m.To)
}

var errElsewhere = fault.New(fault.Unavailable, "engine.execute", "this part of the cache is on its way to another partition: try again")

// Fault is the error for a client that cannot be routed elsewhere in time.
func (m *Moved) Fault() *fault.Error {
	e := *errElsewhere
	e.Err = m
	return &e
}

// elsewhere says why a task is not begun here, nil if it is.
func (p *Partition) elsewhere(c *cache, t *Task) *Moved {
	if c == nil { // it is not here yet, or has gone as a whole: whoever asks may have heard too early or too late of where it is
		if len(t.Calls) > 0 && t.Calls[0].Command.Flags&internal != 0 {
			return nil
		}
		return &Moved{}
	}
	if t.Slots != nil {
		if m := c.differs(t); m != nil {
			return m
		}
	}
	frozen := c.tenure.Move != nil && c.tenure.Move.Frozen
	for i := range t.Calls {
		call := &t.Calls[i]
		if call.Command.Flags&internal != 0 {
			return nil
		}
		if call.Command.malformed(call.Args) { // whoever has it says so
			continue
		}
		p.slotted = call.Command.AppendKeys(p.slotted[:0], call.Args)
		for _, key := range p.slotted {
			if slot := keyslot.Of(key); !c.tenure.Owner(slot) {
				return c.where(slot)
			}
		}
		if frozen && len(p.slotted) == 0 && call.Command.Flags&Writes != 0 {
			return &Moved{} // it might change what is frozen
		}
	}
	return nil
}

// differs says what slots are held here of which a task does not know, or what it expects and is not here; nil for none.
func (c *cache) differs(t *Task) *Moved {
	s, here, ok := c.tenure.Differs(t.Slots, t.Exactly)
	switch {
	case !ok:
		return nil
	case !here:
		m := c.where(s.From)
		m.Span.From, m.Span.To = s.From, min(s.To, m.Span.To)
		return m
	case !c.tenure.Owner(s.From):
		return &Moved{} // on its way to where the task expects it
	}
	return &Moved{Span: s, Here: true}
}

// malformed reports whether a call will be refused for the number of its arguments.
func (c *Command) malformed(args [][]byte) bool {
	if c.CheckArity(len(args)) != nil {
		return true
	}
	if !c.Spread.ByKey() {
		return false
	}
	_, _, _, even := c.KeySpan(args)
	return !even
}

// where says where a slot is that is not served here.
func (c *cache) where(slot uint16) *Moved {
	m := &Moved{}
	m.Span, m.To, m.Known = c.tenure.Where(slot)
	return m
}

// serves reports whether a key may be looked at and changed here.
func (c *cache) serves(key []byte) bool { return c.tenure == nil || c.tenure.Owner(keyslot.Of(key)) }

// shows reports whether commands that go over keys see a key. What is frozen is still seen.
func (c *cache) shows(key []byte) bool { return c.tenure == nil || c.tenure.Holds(keyslot.Of(key)) }

// foreign says why a script may not run a command, "" if it may: all its keys have to be served here.
func (c *cache) foreign(p *Partition, cmd *Command, args [][]byte) string {
	if c.tenure == nil {
		return ""
	}
	p.slotted = cmd.AppendKeys(p.slotted[:0], args)
	for _, key := range p.slotted {
		if !c.serves(key) {
			return "Script attempted to access a non local key in a cluster node"
		}
	}
	if m := c.tenure.Move; m != nil && m.Frozen && len(p.slotted) == 0 && cmd.Flags&Writes != 0 {
		return "Script attempted to change the whole cache while a part of it moves"
	}
	return ""
}

// entered and left keep hidden: a key has come into the table or gone out of it.
func (k *keyspace) entered(key []byte) {
	if t := k.owner.tenure; t != nil && !t.Holds(keyslot.Of(key)) {
		k.hidden++
	}
}

func (k *keyspace) left(key []byte) {
	if t := k.owner.tenure; t != nil && k.hidden > 0 && !t.Holds(keyslot.Of(key)) {
		k.hidden--
	}
}

// size is how many items there are to be seen.
func (k *keyspace) size() int { return max(k.table.Len()-k.hidden, 0) }

// emptied is told that a database was emptied or has become another: what was staged in it is gone, and an export has to begin
// anew.
func (c *cache) emptied() {
	if c.tenure != nil {
		c.tenure.Tear()
	}
	if c.export != nil {
		c.export.lost = true
	}
}

// TenureOf is what the partition holds of a cache, nil for all of it; ok is false when it does not know the cache. The answer is
// the caller's.
func (p *Partition) TenureOf(id CacheID) (t *tenure.Tenure, ok bool) {
	c := p.caches[id]
	if c == nil {
		return nil, false
	}
	if c.tenure == nil {
		return nil, true
	}
	held := *c.tenure
	return &held, true
}

// Serves reports whether a key of a cache is served here.
func (p *Partition) Serves(id CacheID, key []byte) bool {
	c := p.caches[id]
	return c != nil && c.serves(key)
}

// settle makes a cache that is new here hold what its settings say.
func (c *cache) settle() error {
	if c.settings.Holdings == "" {
		return nil
	}
	t, err := tenure.Read([]byte(c.settings.Holdings))
	if err != nil {
		return err
	}
	c.tenure = t
	return nil
}

// MoveOp is what LARDER.MOVE asks of a tenure: see package tenure.
type MoveOp byte

// The operations.
const (
	MoveBegin    MoveOp = 'b'
	MoveOffer    MoveOp = 'o'
	MoveFreeze   MoveOp = 'f'
	MoveThaw     MoveOp = 't'
	MoveActivate MoveOp = 'a'
	MoveRelease  MoveOp = 'r'
	MoveCancel   MoveOp = 'c'
	MoveWithdraw MoveOp = 'w'
)

// MoveTask asks one side of a movement for something. The reply is an array of integers: the verdict, the attempt, and behind
// MoveActivate how many keys have passed, for each database. attempt is for MoveBegin the number that the new one has to be
// above; hidden is what MoveActivate has said, for MoveRelease.
func MoveTask(id CacheID, op MoveOp, epoch, attempt uint64, s tenure.Span, other uint16, hidden []int64) *Task {
	var counts []byte
	for _, n := range hidden {
		counts = binary.AppendUvarint(counts, uint64(n))
	}
	return internalTask(id, "LARDER.MOVE", id[:], []byte{byte(op)}, integer(int64(epoch)), integer(int64(attempt)), integer(int64(s.From)), integer(int64(s.To)), integer(int64(other)), counts)
}

func (c *call) moveSpan() error {
	cache := c.p.caches[CacheID(c.args[1])]
	if cache == nil {
		return fault.New(fault.Unavailable, c.cmd.Name, "the partition does not know the cache")
	}
	epoch, attempt := uint64(uninteger(c.args[3])), uint64(uninteger(c.args[4]))
	s := tenure.Span{From: uint16(uninteger(c.args[5])), To: uint16(uninteger(c.args[6]))}
	other := uint16(uninteger(c.args[7]))
	if cache.tenure == nil {
		cache.tenure = tenure.Whole()
	}
	t := cache.tenure
	var v tenure.Verdict
	counts := []int64{}
	switch MoveOp(c.args[2][0]) {
	case MoveBegin:
		if attempt, v = t.Begin(epoch, attempt, s, other); v == tenure.Done && len(t.Owns) == 0 {
			c.p.strip(cache)
		}
	case MoveOffer:
		v = t.Offer(epoch, attempt, s, other)
	case MoveFreeze:
		if v = t.Freeze(epoch, attempt); v == tenure.Done {
			c.p.withdrawn(cache, s)
		}
	case MoveThaw:
		v = t.Thaw(epoch, attempt)
	case MoveActivate:
		if len(cache.unfinished) > 0 {
			t.Tear()
		}
		if v = t.Activate(epoch, attempt, s); v == tenure.Done {
			for _, k := range cache.dbs {
				n := 0
				if k != nil {
					n, k.hidden = k.hidden, 0
				}
				counts = append(counts, int64(n))
			}
		}
	case MoveRelease:
		before := t.Epoch
		if v = t.Release(epoch, s); v == tenure.Done && t.Epoch != before {
			f := &fields{b: c.args[8]}
			for _, k := range cache.dbs {
				if n := int(f.upTo(1 << 40)); k != nil {
					k.hidden = min(n, k.table.Len())
				}
			}
		}
	case MoveCancel:
		v = t.Cancel(epoch, s)
	case MoveWithdraw:
		v = t.Withdraw(epoch)
	}
	c.out.Array(2 + len(counts))
	c.out.Int(int64(v))
	c.out.Int(int64(attempt))
	for _, n := range counts {
		c.out.Int(n)
	}
	return nil
}

// strip forgets what a cache has beside its keys: all of it was staged, in an attempt before.
func (p *Partition) strip(c *cache) {
	for c.asked.Len() > 0 {
		p.forget(c.asked.Front().Value.(*remembered))
	}
	if c.scripts != nil {
		c.used -= c.scripts.bytes
		c.scripts = nil
	}
	if c.libraries != nil {
		c.used -= c.libraries.bytes
		c.libraries = nil
	}
	for _, k := range c.dbs {
		if k != nil {
			k.flushesAt(0)
		}
	}
}

// withdrawn tells the observer that keys of a span are not served any more.
func (p *Partition) withdrawn(c *cache, s tenure.Span) {
	if p.observer != nil {
		p.observer.Withdrawn(c.id, s)
	}
}

// silently does something to a cache of which nobody is to hear: it makes no difference to what clients see.
func (c *cache) silently(do func()) {
	observed, notify := c.observed, c.settings.Notify
	c.observed, c.settings.Notify = false, 0
	defer func() { c.observed, c.settings.Notify = observed, notify }()
	do()
}

// StageTask puts a part of an export into a cache. The reply is a verdict.
func StageTask(id CacheID, epoch, attempt, part, version uint64, frames []byte) *Task {
	return internalTask(id, "LARDER.STAGE", id[:], integer(int64(epoch)), integer(int64(attempt)), integer(int64(part)), integer(int64(version)), frames)
}

// stage takes a part of an export: keys, with what is in them, in the place of what was staged under them before.
func (c *call) stage() (err error) {
	cache := c.p.caches[CacheID(c.args[1])]
	if cache == nil || cache.tenure == nil {
		c.out.Int(int64(tenure.Over))
		return nil
	}
	v := cache.tenure.Stage(uint64(uninteger(c.args[2])), uint64(uninteger(c.args[3])), uint64(uninteger(c.args[4])))
	if v != tenure.Done {
		c.out.Int(int64(v))
		return nil
	}
	if cache.unfinished == nil {
		cache.unfinished = map[uint64]place{}
	}
	c.p.version = max(c.p.version, uint64(uninteger(c.args[5]))&(1<<56-1))
	r := restoring{p: c.p, c: cache, open: cache.unfinished, staging: true}
	cache.silently(func() { err = r.frames(c.args[6]) })
	if err != nil {
		cache.tenure.Tear()
		return fault.Wrap(fault.InvalidArgument, c.cmd.Name, err, "%v", err)
	}
	if s := cache.settings; s.MemoryLimit > 0 && cache.used > s.MemoryLimit && s.Eviction == NoEviction {
		cache.tenure.Tear()
		return fault.About(fault.OutOfMemory, c.cmd.Name, "memory_limit_bytes", "the cache's share of the memory limit on this partition, %d bytes, is too small for what moves here", s.MemoryLimit)
	}
	c.out.Int(int64(v))
	return nil
}

// PurgeTask removes keys of slots that are not held: those among the next few records of a database from a position on. The
// reply is an array: the database and the position to go on from, Databases for the end.
func PurgeTask(id CacheID, db int, from uint64, atMost int) *Task {
	return internalTask(id, "LARDER.PURGE", id[:], integer(int64(db)), integer(int64(from)), integer(int64(atMost)))
}

func (c *call) purge() error {
	cache := c.p.caches[CacheID(c.args[1])]
	db, from, left := int(uninteger(c.args[2])), uint64(uninteger(c.args[3])), int(uninteger(c.args[4]))
	if cache == nil || cache.tenure == nil || db < 0 || db >= Databases {
		c.purged(Databases, 0)
		return nil
	}
	if m := cache.tenure.Move; m != nil && !m.Out && m.Parts > 0 {
		return fault.New(fault.Conflict, c.cmd.Name, "the cache stages what moves here: that cannot be told from what is to go")
	}
	k := cache.dbs[db]
	if k == nil {
		c.purged(db+1, 0)
		return nil
	}
	next, over := from, true
	var gone [][]byte
	k.table.Each(from, func(position uint64, r dense.Ref) bool {
		if left <= 0 && position != next {
			over, next = false, position
			return false
		}
		next = position
		left--
		if key := c.p.store.Key(r); !cache.tenure.Holds(keyslot.Of(key)) {
			gone = append(gone, key)
		}
		return true
	})
	cache.silently(func() {
		for _, key := range gone {
			c.p.viewed, c.p.looked = 0, look{}
			if it := k.find(key); it != nil {
				k.discard(it)
			}
		}
	})
	if over {
		k.hidden = 0
		c.purged(db+1, 0)
		return nil
	}
	c.purged(db, next)
	return nil
}

func (c *call) purged(db int, from uint64) {
	c.out.Array(2)
	c.out.Int(int64(db))
	c.out.Int(int64(from))
}

// discard removes an item, which may be a collection that waits for the rest of its elements.
func (k *keyspace) discard(it *item) {
	if u, ok := it.value.(*unfinishedValue); ok {
		delete(k.owner.unfinished, u.number)
	}
	k.remove(it)
}

// Integers reads a reply that is an integer or an array of them, as LARDER.MOVE, LARDER.STAGE and LARDER.PURGE give it.
func Integers(r *Recording) (list []int64, err error) {
	c := r.Cursor()
	for left := 1; left > 0; left-- {
		switch token := c.Next(); token.Kind {
		case ReplyArray:
			left += int(token.Int)
		case ReplyInt:
			list = append(list, token.Int)
		case ReplyError:
			return nil, token.Err
		default:
			return nil, fault.New(fault.Internal, "engine.integers", "a reply is no list of integers")
		}
	}
	return list, nil
}
