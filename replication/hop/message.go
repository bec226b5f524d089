package hop

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

// The first byte of a message says what it is; what most of them say next is the number of the request that they belong
// to, which the client chose.
const (
	// To the leader.
	mRequest  byte = iota + 1 // a task
	mVerdict                  // the answer to mAsk
	mRelease                  // ends a wait
	mAbandon                  // forgets who waited
	mWatch                    // begins to watch a key
	mUnwatch                  // ends it
	mWaiting                  // counts who waits in a cache
	mStats                    // asks for the numbers of a cache
	mInterest                 // how many listen to a channel at this gateway
	mObserve                  // whether this gateway wants to hear of a cache's keys

	// From the leader.
	mAnswer
	mServed    // a caller that waited has its answer
	mAsk       // may a script carry out this command?
	mPublished // a message to those who listen
	mTouched   // a key has changed
	mFlushed   // a database has been emptied
	mSettled   // the task that changed keys is over
	mLost      // some of mTouched, mFlushed and mSettled were lost

	// Either way: a message in pieces.
	mPiece
	mLast
	mDrop // the rest of the pieces does not come

	mRead  // to the leader, or to any replica: a task that says how current its answer has to be
	mMoved // from the leader: what a caller waited for is served by another partition now
	mSync  // to any node: is answered when what was sent before has been taken in
	mBye   // from a node that is about to end: it begins nothing more
)

// What a request may be, as bits.
const (
	isAtomic = 1 << iota
	isWhole
	isQuiet
	isWaiting // a caller waits when the command finds nothing
	isOnce
	isGuarded // by watches
	isAsking  // scripts ask what they may do
	isPaced   // it may end early, with Done
)

// What an answer says, as bits.
const (
	saysError = 1 << iota
	saysElsewhere
	saysReplayed
	saysStale
	saysParked
	saysWas   // what the answer was: see appendWas
	saysMoved // nothing was done: the keys are served by another partition
)

var errMalformed = errors.New("hop: a message that cannot be read")

// A parser takes a message apart. Once something is missing, bad is set and all else is zero.
type parser struct {
	b   []byte
	bad bool
}

func (p *parser) fail() { p.b, p.bad = nil, true }

func (p *parser) byte() byte {
	if len(p.b) == 0 {
		p.fail()
		return 0
	}
	v := p.b[0]
	p.b = p.b[1:]
	return v
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.b)
	if n <= 0 {
		p.fail()
		return 0
	}
	p.b = p.b[n:]
	return v
}

// count reads how many things follow, each of which takes at least one byte.
func (p *parser) count() int {
	n := p.uvarint()
	if n > uint64(len(p.b)) {
		p.fail()
		return 0
	}
	return int(n)
}

func (p *parser) take(n int) []byte {
	if n > len(p.b) {
		p.fail()
		return nil
	}
	v := p.b[:n:n]
	p.b = p.b[n:]
	return v
}

func (p *parser) bytes() []byte { return p.take(p.count()) }

func (p *parser) cache() (id engine.CacheID) {
	copy(id[:], p.take(len(id)))
	return id
}

func (p *parser) partition() placement.PartitionID {
	n := p.uvarint()
	if n > math.MaxUint16 {
		p.fail()
	}
	return placement.PartitionID(n)
}

// db reads the number of a database.
func (p *parser) db() int {
	n := p.byte()
	if int(n) >= engine.Databases {
		p.fail()
		return 0
	}
	return int(n)
}

func appendBytes[T []byte | string](dst []byte, b T) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// head begins a message about a request.
func head(dst []byte, kind byte, id uint64) []byte {
	return binary.AppendUvarint(append(dst, kind), id)
}

// appendRequest writes a task as a message. watches are those of its guard, by the leader's numbers.
func appendRequest(dst []byte, id uint64, part placement.PartitionID, revision int64, within time.Duration, t *engine.Task, watches []uint64) []byte {
	if t.Consistency == engine.Leader && !t.Writes() {
		dst = appendRead(dst, id, t, 0)
	} else {
		dst = head(dst, mRequest, id)
	}
	return appendTask(dst, part, revision, within, t, watches)
}

func appendTask(dst []byte, part placement.PartitionID, revision int64, within time.Duration, t *engine.Task, watches []uint64) []byte {
	dst = binary.AppendUvarint(dst, uint64(part))
	dst = binary.AppendUvarint(dst, uint64(revision))
	dst = binary.AppendUvarint(dst, uint64(within/time.Millisecond))
	flags := byte(0)
	set := func(bit byte, on bool) {
		if on {
			flags |= bit
		}
	}
	set(isAtomic, t.Atomic)
	set(isWhole, t.Whole)
	set(isQuiet, t.Quiet)
	set(isWaiting, t.Waiter != nil)
	set(isOnce, t.Once != nil)
	set(isGuarded, t.Guard != nil)
	set(isAsking, t.Allowed != nil)
	set(isPaced, t.Enough != nil)
	dst = append(dst, flags, byte(t.DB))
	dst = append(dst, t.Cache[:]...)
	if t.Once != nil {
		dst = append(append(dst, t.Once.Key[:]...), t.Once.Fingerprint[:]...)
	}
	if t.Guard != nil {
		dst = binary.AppendUvarint(dst, uint64(len(watches)))
		for _, w := range watches {
			dst = binary.AppendUvarint(dst, w)
		}
	}
	if t.Allowed != nil {
		dst = appendSurely(dst, t.Surely)
		var rights []byte
		if t.Rights != nil {
			rights = replication.AppendRights(nil, t.Rights())
		}
		dst = appendBytes(dst, rights)
	}
	dst = binary.AppendUvarint(dst, uint64(len(t.Calls)))
	for i := range t.Calls {
		c := &t.Calls[i]
		dst = appendBytes(dst, c.Command.Name)
		dst = binary.AppendUvarint(dst, uint64(len(c.Args)))
		for _, a := range c.Args {
			dst = appendBytes(dst, a)
		}
	}
	return appendSlots(dst, t)
}

// appendSlots appends what a task expects its partition to hold, behind everything else, to be left out where nodes do not know it.
func appendSlots(dst []byte, t *engine.Task) []byte {
	if t.Slots == nil {
		return dst
	}
	exactly := byte(0)
	if t.Exactly {
		exactly = 1
	}
	return tenure.AppendSpans(append(dst, exactly), t.Slots)
}

// slots reads what appendSlots wrote, if there is any.
func (p *parser) slots(t *engine.Task) {
	if len(p.b) == 0 || p.bad {
		return
	}
	exactly := p.byte()
	slots, rest, err := tenure.ReadSpans(p.b)
	if p.b = rest; err != nil || exactly > 1 {
		p.fail()
		return
	}
	t.Slots, t.Exactly = slots, exactly == 1
}

// appendSurely writes the names of commands that need not be asked for: numbers differ between versions of the program.
func appendSurely(dst []byte, surely func() *engine.CommandSet) []byte {
	var set *engine.CommandSet
	if surely != nil {
		set = surely()
	}
	if set == nil {
		return append(dst, 0)
	}
	var names [][]byte
	for _, c := range engine.Commands() {
		if set.Has(c) {
			names = append(names, []byte(c.Name))
		}
	}
	dst = binary.AppendUvarint(dst, uint64(len(names)))
	for _, n := range names {
		dst = appendBytes(dst, n)
	}
	return dst
}

// A request is a task that came in a message. It is used again and again, and keeps its room.
type request struct {
	id        uint64
	partition placement.PartitionID
	revision  int64
	within    time.Duration
	flags     byte
	once      engine.Once
	watches   []uint64
	surely    engine.CommandSet
	task      engine.Task
	calls     []engine.Call
	args      [][]byte
}

// read takes a message apart, whose bytes the request points into. An error is the client's answer.
func (r *request) read(p *parser) error {
	r.partition, r.revision = p.partition(), int64(p.uvarint())
	r.within = time.Duration(min(p.uvarint(), uint64(math.MaxInt64/time.Millisecond))) * time.Millisecond
	r.flags = p.byte()
	r.task = engine.Task{DB: p.db(), Atomic: r.flags&isAtomic != 0, Whole: r.flags&isWhole != 0, Quiet: r.flags&isQuiet != 0, Waits: r.flags&isWaiting != 0}
	r.task.Cache = p.cache()
	if r.flags&isOnce != 0 {
		copy(r.once.Key[:], p.take(len(r.once.Key)))
		copy(r.once.Fingerprint[:], p.take(len(r.once.Fingerprint)))
		r.task.Once = &r.once
	}
	r.watches = r.watches[:0]
	if r.flags&isGuarded != 0 {
		for range p.count() {
			r.watches = append(r.watches, p.uvarint())
		}
	}
	if r.flags&isAsking != 0 {
		r.surely = engine.CommandSet{}
		for range p.count() {
			if c := engine.Named(p.bytes()); c != nil {
				r.surely.Add(c)
			}
		}
	}
	if r.flags&isAsking != 0 {
		if text := p.bytes(); len(text) > 0 {
			rights, rest, err := replication.ReadRights(text)
			if err != nil || len(rest) > 0 {
				p.fail()
			}
			r.task.Rights = func() *engine.Rights { return rights }
		}
	}
	return r.readCalls(p)
}

func (r *request) readCalls(p *parser) error {
	count := p.count()
	r.calls, r.args = r.calls[:0], r.args[:0]
	for range count {
		name, n := p.bytes(), p.count()
		cmd := engine.Named(name)
		if cmd == nil && !p.bad {
			return fault.New(fault.NotSupported, "hop.request", "the node that leads this part of the cache does not know the command '%.128s' yet", name)
		}
		from := len(r.args)
		for range n {
			r.args = append(r.args, p.bytes())
		}
		// The slice is cut out when all arguments are there: until then args may move.
		r.calls = append(r.calls, engine.Call{Command: cmd, Args: r.args[from:len(r.args):len(r.args)]})
	}
	at := 0
	for i := range r.calls {
		n := len(r.calls[i].Args)
		r.calls[i].Args = r.args[at : at+n : at+n]
		at += n
		if n == 0 {
			p.fail()
		}
	}
	p.slots(&r.task)
	if p.bad || len(p.b) > 0 || len(r.calls) == 0 || (r.task.Waits && len(r.calls) > 1) {
		return fault.Wrap(fault.Internal, "hop.request", errMalformed, "")
	}
	r.task.Calls = r.calls
	return nil
}

// release forgets what a request points to.
func (r *request) release() {
	clear(r.calls)
	clear(r.args)
	*r = request{calls: r.calls[:0], args: r.args[:0], watches: r.watches[:0]}
}

// An answer is what a leader says to a request.
type answer struct {
	says   byte
	done   int
	failed int
	was    engine.Consistency
	age    int64  // milliseconds
	now    int64  // milliseconds: the time that a read was at
	rest   []byte // replies; with saysError a fault, with saysElsewhere who leads
}

func appendAnswer(dst []byte, id uint64, says byte, done, failed int) []byte {
	dst = append(head(dst, mAnswer, id), says)
	dst = binary.AppendUvarint(dst, uint64(done))
	return binary.AppendUvarint(dst, uint64(failed+1))
}

func (a *answer) read(p *parser) bool {
	a.says, a.done, a.failed = p.byte(), int(p.uvarint()), int(p.uvarint())-1
	if a.says&saysWas != 0 {
		was, age, now := p.byte(), p.uvarint(), p.uvarint()
		if was > byte(engine.Eventual) || age > math.MaxInt64 || now > math.MaxInt64 {
			p.fail()
		}
		a.was, a.age, a.now = engine.Consistency(min(was, byte(engine.Eventual))), int64(age), int64(now)
	}
	a.rest = p.b
	return !p.bad && a.done >= 0
}

// appendMoved writes where keys are served.
func appendMoved(dst []byte, m *engine.Moved) []byte {
	if !m.Known && !m.Here {
		return dst
	}
	for _, n := range [...]uint16{m.Span.From, m.Span.To, m.To} {
		dst = binary.AppendUvarint(dst, uint64(n))
	}
	if m.Here { // an answer to who knows of slots
		dst = append(dst, 1)
	}
	return dst
}

func (p *parser) moved() *engine.Moved {
	if len(p.b) == 0 {
		return &engine.Moved{}
	}
	m := &engine.Moved{Span: tenure.Span{From: uint16(p.uvarint()), To: uint16(p.uvarint())}, To: uint16(p.uvarint())}
	m.Here = len(p.b) > 0
	m.Known = !p.bad && !m.Here
	return m
}

// appendFault writes an error with all that the other side may show or log.
func appendFault(dst []byte, e *fault.Error) []byte {
	dst = append(dst, byte(e.Kind))
	op := e.Op
	if e.Err != nil {
		op = fmt.Sprintf("%s: %v", op, e.Err)
	}
	for _, text := range []string{op, e.Message, e.Argument, e.Prefix} {
		dst = appendBytes(dst, text)
	}
	return binary.AppendUvarint(dst, uint64(e.RetryAfter))
}

func (p *parser) fault() *fault.Error {
	e := &fault.Error{Kind: fault.Kind(p.byte()), Op: string(p.bytes()), Message: string(p.bytes()), Argument: string(p.bytes()), Prefix: string(p.bytes())}
	e.RetryAfter = time.Duration(p.uvarint())
	return e
}
