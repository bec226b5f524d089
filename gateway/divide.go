package gateway

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
)

// A cache with several slot ranges lies on several partitions. What becomes of a call is written in its row: engine.Spread.
//
//	V1: what is done as one piece (an atomic request, a transaction, one with an idempotency key, a call of engine.One) has all
//	    its keys in one slot, wherever the ranges lie: so a range that moves changes nothing of what is allowed
//	V2: of two calls of a request that concern the same key, or of which one concerns all keys, the first is carried out first
//	V3: each call is answered, in order, whatever becomes of the others
//	V4: a call that concerns all slots is carried out where they all are, each once: a partition says so when it has others than
//	    this gateway believes, before it does anything, and then the call is taken up again with what is known then
//
// Calls are carried out a window at a time, with one task for each partition, all at once (division); those that concern one
// partition, which most do, go there directly.

// A home is a partition that has a part of a cache.
type home struct {
	id    placement.PartitionID
	to    Executor      // nil when it was not in reach when the route was made
	spans []tenure.Span // that it has, in order, of which none touch
}

// settle finds the homes of a cache.
func (g *Gateway) settle(rt *route) {
	at := map[placement.PartitionID]uint16{}
	for _, r := range rt.cache.Ranges {
		i, known := at[r.Partition]
		if !known {
			i = uint16(len(rt.homes))
			at[r.Partition] = i
			rt.homes = append(rt.homes, home{id: r.Partition, to: g.partitions(r.Partition)})
		}
		rt.homes[i].add(tenure.Span{From: r.From, To: r.To})
		rt.byRange = append(rt.byRange, i)
	}
}

// add adds a span behind those that a home has.
func (h *home) add(s tenure.Span) {
	if n := len(h.spans); n > 0 && h.spans[n-1].To+1 == s.From {
		h.spans[n-1].To = s.To
		return
	}
	h.spans = append(h.spans, s)
}

// homeOf is which of the homes has a slot.
func (rt *route) homeOf(slot uint16) int { return int(rt.byRange[rt.rangeOf(slot)]) }

func (rt *route) rangeOf(slot uint16) int {
	ranges := rt.cache.Ranges
	for i := range ranges {
		if slot <= ranges[i].To {
			return i
		}
	}
	panic("gateway: ranges do not cover every slot")
}

// reach is the way to a home.
func (g *Gateway) reach(rt *route, home int) (Executor, error) {
	if to := rt.homes[home].to; to != nil {
		return to, nil
	}
	if to := g.partitions(rt.homes[home].id); to != nil {
		return to, nil
	}
	rt.meter.Failed()
	return nil, errOutOfReach
}

var errCrossSlot = fault.New(fault.CrossSlot, "gateway.divide", "Keys in request don't hash to the same slot")

func errEverywhere(c *engine.Command) error {
	return fault.New(fault.CrossSlot, "gateway.divide", "%s concerns every slot of this cache, which has several slot ranges, and cannot be done as one piece with anything", c.Name)
}

// oneKey reports whether the second argument of a command's calls is their only key, which is so with most.
func oneKey(k *engine.Keys) bool {
	return *k == engine.Keys{First: 1, Last: 1, Step: 1}
}

// slotOf is the slot of all keys of a call, -1 when it has none.
func slotOf(c *engine.Call) (slot int, err error) {
	if oneKey(&c.Command.Keys) && len(c.Args) > 1 {
		return int(placement.Slot(c.Args[1])), nil
	}
	var room [16][]byte
	return same(-1, c.Command.AppendKeys(room[:0], c.Args))
}

// same is the slot of keys, which has to be slot unless that is -1.
func same(slot int, keys [][]byte) (int, error) {
	for _, key := range keys {
		own := int(placement.Slot(key))
		if slot >= 0 && own != slot {
			return 0, errCrossSlot
		}
		slot = own
	}
	return slot, nil
}

// onePiece is the home of calls that are done as one piece (V1).
func (rt *route) onePiece(calls []engine.Call, watches []Watch) (home int, err error) {
	slot := -1
	join := func(own int) bool {
		if slot >= 0 && own >= 0 && own != slot {
			return false
		}
		slot = max(slot, own)
		return true
	}
	for i := range calls {
		c := &calls[i]
		if c.Command.SpreadOf(c.Args).Everywhere() {
			return 0, errEverywhere(c.Command)
		}
		own, err := slotOf(c)
		if err != nil {
			return 0, err
		}
		if !join(own) {
			return 0, errCrossSlot
		}
	}
	for i := range watches {
		if !join(int(watches[i].slot)) {
			return 0, errCrossSlot
		}
	}
	if slot < 0 {
		return 0, nil
	}
	return rt.homeOf(uint16(slot)), nil
}

// InOneStep is the error of a call that no transaction on this cache can have, nil for one that it can.
func (g *Gateway) InOneStep(caller *Caller, cache string, call engine.Call) error {
	rt, err := g.route(caller.Principal.Tenant, cache)
	if err != nil || len(rt.homes) == 0 {
		return err
	}
	_, err = rt.onePiece([]engine.Call{call}, nil)
	return err
}

// Bounds of a division.
const (
	firstReads = 16        // calls of the first window whose answers may be large
	mostCalls  = 1024      // calls of a window
	softReply  = 1 << 20   // bytes of answers that a window is to have, judged by the one before
	hardReply  = 640 << 20 // bytes of answers that wait for each other; what comes beyond is an error
	keptReply  = 64 << 10  // of a buffer that is used again
	keptRoom   = 4096      // elements of slices that are used again
)

// divide has calls carried out that may concern several partitions.
func (g *Gateway) divide(ctx context.Context, r *Request, rt *route, calls []engine.Call, now time.Time) error {
	alone := len(calls) == 1 && !r.Atomic && !r.Whole && calls[0].Command.SpreadOf(calls[0].Args).Everywhere() // with its idempotency key
	if (r.Atomic || r.Whole || r.Once != nil || r.Waiter != nil) && !alone {
		home, err := rt.onePiece(calls, r.Watches)
		if err != nil {
			return err
		}
		to, err := g.reach(rt, home)
		if err != nil {
			return err
		}
		return g.direct(ctx, r, rt, to, calls, now)
	}
	reads := firstReads
	for done := 0; done < len(calls); {
		before := r.Reply.Len()
		n, err := g.window(ctx, r, rt, calls[done:], reads, now)
		if err != nil && done == 0 && n == len(calls) {
			return err
		}
		if err != nil {
			for range n {
				r.Reply.Error(fault.From(err))
			}
		}
		done += n
		r.Done = done
		if r.Enough != nil && r.Enough() {
			return nil
		}
		reads = max(1, min(mostCalls, softReply/((r.Reply.Len()-before)/n+1)))
	}
	return nil
}

// window carries out the first of some calls, and tells how many. An error is about all of them: none was done, or nobody knows,
// and none has an answer.
func (g *Gateway) window(ctx context.Context, r *Request, rt *route, calls []engine.Call, reads int, now time.Time) (n int, err error) {
	if calls[0].Command.Spread == engine.PartsInTurn {
		before := r.Reply.Len()
		if err := g.walk(ctx, r, rt, &calls[0]); err != nil {
			return 1, err
		}
		g.meter(r, rt, calls[:1], r.Reply.Len()-before, now)
		return 1, nil
	}
	if calls[0].Command.SpreadOf(calls[0].Args).Everywhere() {
		before := r.Reply.Len()
		if err := g.everywhere(ctx, r, rt, calls, now); err != nil {
			return 1, err
		}
		g.meter(r, rt, calls[:1], r.Reply.Len()-before, now)
		return 1, nil
	}
	if home, n := rt.stretch(calls); n == len(calls) || n >= reads {
		to, err := g.reach(rt, home)
		if err == nil {
			err = g.direct(ctx, r, rt, to, calls[:n], now)
		}
		if err != nil {
			return n, err
		}
		return max(r.Done, 1), nil
	}
	d := divisions.Get().(*division)
	defer d.release()
	d.g, d.r, d.rt, d.now = g, r, rt, now
	n = d.plan(calls, reads)
	if err := d.carryOut(ctx); err != nil {
		return n, err
	}
	before := r.Reply.Len()
	for i := range d.portions {
		d.answer(&d.portions[i], r.Reply)
	}
	g.meter(r, rt, calls[:n], r.Reply.Len()-before, now)
	return n, nil
}

// stretch is how many of the first calls concern one partition, and which.
func (rt *route) stretch(calls []engine.Call) (home, n int) {
	home = -1
	for n = range calls {
		at, ok := rt.sole(&calls[n], home)
		if !ok {
			return max(home, 0), n
		}
		home = at
	}
	return max(home, 0), len(calls)
}

// sole reports whether all keys of a call are at one home, which has to be that one unless it is -1, and which.
func (rt *route) sole(c *engine.Call, home int) (at int, ok bool) {
	spread := c.Command.SpreadOf(c.Args)
	switch {
	case spread == engine.One:
		slot, err := slotOf(c)
		if err != nil || slot < 0 {
			return home, err == nil
		}
		at = rt.homeOf(uint16(slot))
		return at, home < 0 || at == home
	case !spread.ByKey():
		return home, false
	}
	first, end, step, even := c.Command.KeySpan(c.Args)
	for i := first; i < end && even; i += step {
		at := rt.homeOf(placement.Slot(c.Args[i]))
		if home >= 0 && at != home {
			return home, false
		}
		home = at
	}
	return home, true
}

// A division is a window of calls on its way to several partitions.
type division struct {
	g   *Gateway
	r   *Request
	rt  *route
	now time.Time

	portions []portion
	pieces   []piece
	args     [][]byte     // of pieces that have other arguments than their call
	where    []int32      // see portion.keys
	legs     []leg        // by home
	left     atomic.Int64 // bytes that answers may still take
	room     func(bytes int) bool
	parent   *division  // of which this is what a leg had to do at a partition that does not serve all of it any more; nil for none
	whole    bool       // its call concerns all slots
	times    int        // with whole: how many rounds were before it
	before   *division  // with whole: the last of them, while its answers are of use
	asking   sync.Mutex // scripts of several legs ask the same caller's rights
	hearing  sync.Mutex // of the request: see hear
	items    engine.Recording
}

var divisions = sync.Pool{New: func() any {
	d := &division{}
	d.room = func(bytes int) bool { return d.left.Add(-int64(bytes)) >= 0 }
	return d
}}

// A portion is what becomes of one call: the pieces from first to before end.
type portion struct {
	call       *engine.Call
	spread     engine.Spread
	first, end int
	keys, upTo int          // with KeysListed: where has, from keys to before upTo, which piece has each key
	err        *fault.Error // instead of pieces
}

// A piece is a call for one home, and its answer: err, or what stands at reply.
type piece struct {
	call  engine.Call
	home  int
	done  bool
	err   *fault.Error
	reply engine.Cursor
}

// A leg is what one home has to do.
type leg struct {
	pieces []int
	calls  []engine.Call
	task   engine.Task
	reply  engine.Recording
	home   int
	from   int // where in it the answers of this round begin
	out    engine.Bounded
	to     Executor
	err    error
	panics any
}

func (d *division) release() {
	for i := range d.legs {
		l := &d.legs[i]
		clear(l.calls)
		l.task, l.to, l.err, l.pieces, l.calls = engine.Task{}, nil, nil, l.pieces[:0], l.calls[:0]
		if l.reply.Reset(); l.reply.Cap() > keptReply {
			l.reply = engine.Recording{}
		}
	}
	clear(d.portions)
	clear(d.pieces)
	clear(d.args)
	d.g, d.r, d.rt, d.parent, d.whole, d.times, d.before = nil, nil, nil, nil, false, 0, nil
	if d.items.Reset(); cap(d.args) > keptRoom || cap(d.where) > keptRoom || d.items.Cap() > keptReply {
		return
	}
	d.portions, d.pieces, d.args, d.where = d.portions[:0], d.pieces[:0], d.args[:0], d.where[:0]
	divisions.Put(d)
}

// plan takes the first of some calls apart, and tells how many. What publishes comes first in its window: whoever hears of it
// finds what was written before. What concerns all slots has a division of its own (everywhere).
func (d *division) plan(calls []engine.Call, reads int) (n int) {
	for ; n < len(calls) && n < mostCalls; n++ {
		c := &calls[n]
		spread := c.Command.SpreadOf(c.Args)
		if n > 0 && (spread.Everywhere() || c.Command.Group == engine.GroupPubSub) {
			return n
		}
		if c.Command.Flags&engine.Writes == 0 {
			if reads == 0 {
				return n
			}
			reads--
		}
		p := portion{call: c, spread: spread, first: len(d.pieces)}
		switch {
		case spread == engine.One:
			p.err = d.one(c)
		case spread.ByKey():
			p.keys = len(d.where)
			d.byKey(c)
			p.upTo = len(d.where)
		default:
			d.everywhere(c, spread)
		}
		p.end = len(d.pieces)
		d.portions = append(d.portions, p)
	}
	return n
}

func (d *division) piece(c engine.Call, home int) {
	d.pieces = append(d.pieces, piece{call: c, home: home})
}

// one plans a call that is carried out by one partition.
func (d *division) one(c *engine.Call) *fault.Error {
	slot, err := slotOf(c)
	switch {
	case err != nil:
		return fault.From(err)
	case slot >= 0:
		d.piece(*c, d.rt.homeOf(uint16(slot)))
	case len(d.pieces) > 0: // any will do, so it takes no further task
		d.piece(*c, d.pieces[0].home)
	default:
		d.piece(*c, 0)
	}
	return nil
}

// sizeCall is asked beside a call of which one answer is chosen.
var sizeCall = engine.Call{Command: engine.MustLookup("DBSIZE"), Args: [][]byte{engine.MustLookup("DBSIZE").NameArg()}}

func (d *division) everywhere(c *engine.Call, spread engine.Spread) {
	d.whole = true
	for home := range d.rt.homes {
		if spread == engine.PartsAny {
			d.piece(sizeCall, home)
		}
		d.piece(*c, home)
	}
}

// byKey divides a call by its keys.
func (d *division) byKey(c *engine.Call) {
	first, end, step, even := c.Command.KeySpan(c.Args)
	if !even { // one partition says what is wrong
		d.piece(*c, 0)
		return
	}
	from := len(d.pieces)
	for i := first; i < end; i += step {
		home := d.rt.homeOf(placement.Slot(c.Args[i]))
		at := from
		for at < len(d.pieces) && d.pieces[at].home != home {
			at++
		}
		if at == len(d.pieces) {
			d.piece(engine.Call{Command: c.Command}, home)
		}
		d.where = append(d.where, int32(at))
	}
	own := d.pieces[from:]
	if len(own) == 1 {
		own[0].call.Args = c.Args
		return
	}
	where := d.where[len(d.where)-(end-first)/step:]
	counts := make([]int, len(own))
	for _, at := range where {
		counts[int(at)-from] += step
	}
	for i := range own {
		room := len(d.args)
		d.args = append(d.args, c.Args[0])
		d.args = append(d.args, make([][]byte, counts[i])...)
		d.args = append(d.args, c.Args[end:]...)
		own[i].call.Args = d.args[room:len(d.args):len(d.args)]
		counts[i] = 1 // where the next key goes
	}
	for k, at := range where {
		i := int(at) - from
		copy(own[i].call.Args[counts[i]:], c.Args[first+k*step:first+(k+1)*step])
		counts[i] += step
	}
}

// carryOut has all pieces carried out, those of one home in order (V2). An error says that nothing was done, or that nobody
// knows.
func (d *division) carryOut(ctx context.Context) error {
	for len(d.legs) < len(d.rt.homes) {
		d.legs = append(d.legs, leg{})
	}
	d.left.Store(hardReply)
	for round := 0; ; round++ {
		legs := d.muster()
		if len(legs) == 0 {
			return nil
		}
		d.march(ctx, legs)
		failed := 0
		for _, l := range legs {
			if d.arrive(l); l.err != nil {
				failed++
			}
		}
		if round == 0 && failed == len(legs) && !d.refuses() {
			return worst(legs)
		}
	}
}

// refuses reports whether a call has an answer that needed no partition.
func (d *division) refuses() bool {
	for i := range d.portions {
		if d.portions[i].err != nil {
			return true
		}
	}
	return false
}

// worst is the error of all legs: that nobody knows, if nobody knows of one.
func worst(legs []*leg) error {
	for _, l := range legs {
		if fault.Is(l.err, fault.OutcomeUnknown) {
			return l.err
		}
	}
	return legs[0].err
}

// muster gives each home what is to be done there.
func (d *division) muster() (legs []*leg) {
	for i := range d.legs[:len(d.rt.homes)] {
		l := &d.legs[i]
		l.pieces, l.calls, l.err = l.pieces[:0], l.calls[:0], nil
	}
	for i := range d.pieces {
		p := &d.pieces[i]
		if p.done {
			continue
		}
		l := &d.legs[p.home]
		if len(l.pieces) == 0 {
			legs, l.home = append(legs, l), p.home
			l.to, l.err = d.g.reach(d.rt, p.home)
		}
		l.pieces, l.calls = append(l.pieces, i), append(l.calls, p.call)
	}
	level := d.r.consistency(d.rt)
	for _, l := range legs {
		l.out = engine.Bounded{Recording: &l.reply, Max: hardReply, Exact: true, Room: d.room}
		l.task = engine.Task{Cache: d.rt.cache.ID, DB: d.r.DB, Calls: l.calls, Once: d.r.Once, Reply: &l.out, Origin: d.r.Origin, Quiet: d.r.Quiet, Consistency: level, Holds: d.r.Holds}
		if d.whole {
			l.task.Slots, l.task.Exactly = d.rt.homes[l.home].spans, true
			l.task.Once = d.nthTime(l.task.Once)
		}
		l.from = l.reply.Len()
		d.g.equip(d.r, d.rt, &l.task, d.now)
		if l.task.Allowed != nil {
			d.takeTurns(&l.task)
		}
	}
	return legs
}

// root is the division of the whole request.
func (d *division) root() *division {
	for d.parent != nil {
		d = d.parent
	}
	return d
}

// takeTurns has the scripts of a task ask what they may do while no other's do.
func (d *division) takeTurns(t *engine.Task) {
	allowed, surely := t.Allowed, t.Surely
	turn := &d.root().asking
	t.Allowed = func(c *engine.Command, args [][]byte) error {
		turn.Lock()
		defer turn.Unlock()
		return allowed(c, args)
	}
	if surely != nil {
		t.Surely = func() *engine.CommandSet {
			turn.Lock()
			defer turn.Unlock()
			return surely()
		}
	}
}

// march has the legs carried out, all at once.
func (d *division) march(ctx context.Context, legs []*leg) {
	var others sync.WaitGroup
	for _, l := range legs[1:] {
		others.Go(func() {
			defer func() { l.panics = recover() }()
			l.travel(ctx, d)
		})
	}
	func() {
		defer others.Wait() // nobody may touch the arguments any more, whatever happens here
		legs[0].travel(ctx, d)
	}()
	for _, l := range legs {
		if p := l.panics; p != nil {
			l.panics = nil
			panic(p)
		}
	}
}

func (l *leg) travel(ctx context.Context, d *division) {
	if l.err == nil {
		l.err = d.g.send(ctx, d.rt, l.to, &l.task)
		if moved := movedBy(l.err); moved != nil && !d.whole {
			l.again(ctx, d, moved)
		}
	}
}

// arrive gives the pieces of a leg their answers. Those that it did not come to are done in another round.
func (d *division) arrive(l *leg) {
	if l.err == nil && l.task.Done == 0 {
		l.err = fault.New(fault.Internal, "gateway.divide", "a task ended before its first call")
	}
	if l.err != nil {
		for _, i := range l.pieces {
			d.pieces[i].done, d.pieces[i].err = true, fault.From(l.err)
		}
		return
	}
	d.hear(&l.task)
	c := l.reply.CursorAt(l.from)
	for _, i := range l.pieces[:l.task.Done] {
		p := &d.pieces[i]
		p.done, p.reply = true, c
		c.Skip()
	}
}

// hear notes with the request what came of a task. Divisions of one request may do so at the same time, where legs follow what has
// moved.
func (d *division) hear(t *engine.Task) {
	root := d.root()
	root.hearing.Lock()
	defer root.hearing.Unlock()
	d.r.Replayed = d.r.Replayed || t.Replayed
	d.r.heard(t)
}

// answer writes the answer to a call, made of those of its pieces.
func (d *division) answer(p *portion, out engine.Reply) {
	pieces := d.pieces[p.first:p.end]
	if p.err != nil {
		out.Error(p.err)
		return
	}
	if len(pieces) == 1 && pieces[0].err == nil {
		c := pieces[0].reply
		c.Copy(out)
		return
	}
	if err := d.failure(p, pieces); err != nil {
		out.Error(err)
		return
	}
	switch p.spread {
	case engine.KeysSummed, engine.PartsSummed:
		sum := int64(0)
		for i := range pieces {
			sum += pieces[i].reply.Next().Int
		}
		out.Int(sum)
	case engine.KeysListed:
		for i := range pieces {
			pieces[i].reply.Next() // the head of the list
		}
		out.Array(p.upTo - p.keys)
		for _, at := range d.where[p.keys:p.upTo] {
			d.pieces[at].reply.Copy(out)
		}
	case engine.PartsListed:
		d.answerKeys(pieces, out)
	case engine.PartsLowest:
		answerLowest(pieces, out)
	case engine.PartsAny:
		answerAny(pieces, out)
	default:
		pieces[0].reply.Copy(out)
	}
}

// failure is why a call of several pieces has failed, nil when it has not. Where a part of a change was made all the same, it
// says so.
func (d *division) failure(p *portion, pieces []piece) *fault.Error {
	var first *fault.Error
	good := 0
	for i := range pieces {
		err := pieces[i].err
		if err == nil {
			c := pieces[i].reply
			err = c.Next().Err
		}
		switch {
		case err == nil:
			good++
		case first == nil, err.Kind == fault.OutcomeUnknown:
			first = err
		}
	}
	if first == nil || good == 0 || p.call.Command.Flags&engine.Writes == 0 {
		return first
	}
	partly := *first
	switch partly.Kind {
	case fault.Unavailable, fault.Timeout, fault.OutcomeUnknown: // they say that nothing was done, or that nobody knows
		partly.Kind, partly.RetryAfter = fault.OutcomeUnknown, 0
	}
	partly.Message += " (a part of " + p.call.Command.Name + " has been done, on other partitions of the cache)"
	return &partly
}

// answerKeys puts lists of keys together. Keys that a partition has of slots which lie elsewhere, since a range is on the move,
// are left out.
func (d *division) answerKeys(pieces []piece, out engine.Reply) {
	n := 0
	d.items.Reset()
	for i := range pieces {
		p := &pieces[i]
		for range p.reply.Next().Int {
			key := p.reply.Next().Bytes
			if d.rt.homeOf(placement.Slot(key)) == p.home {
				d.items.Bulk(key)
				n++
			}
		}
	}
	out.Array(n)
	d.items.Replay(out)
}

// answerLowest puts lists of numbers together: the lowest at each place.
func answerLowest(pieces []piece, out engine.Reply) {
	n := int64(0)
	for i := range pieces {
		n = pieces[i].reply.Next().Int // the same for all
	}
	out.Array(int(n))
	for range n {
		lowest := pieces[0].reply.Next().Int
		for i := range pieces[1:] {
			lowest = min(lowest, pieces[1+i].reply.Next().Int)
		}
		out.Int(lowest)
	}
}

// answerAny chooses one of the keys that partitions have drawn, each partition as likely as it has keys: pieces are in pairs,
// the number of keys and the key.
func answerAny(pieces []piece, out engine.Reply) {
	all := int64(0)
	var drawn *piece
	for i := 0; i < len(pieces); i += 2 {
		size, key := pieces[i].reply.Next().Int, pieces[i+1].reply
		if key.Next().Kind == engine.ReplyNull {
			continue
		}
		if all += max(size, 1); rand.Int64N(all) < max(size, 1) {
			drawn = &pieces[i+1]
		}
	}
	if drawn == nil {
		out.Null()
		return
	}
	drawn.reply.Copy(out)
}
