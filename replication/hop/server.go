package hop

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

// A server carries out what gateways on other nodes ask for.
type server struct {
	*Hop
	work chan *job

	mu       sync.RWMutex
	guests   map[string]*guest
	watched  map[engine.CacheID]bool // caches whose keys the listener of this node wants to hear of
	interest atomic.Int64            // entries in all guests' interests
	watching atomic.Int64            // guests' entries in observed
}

// Bounds of what one gateway can have a leader keep.
const (
	maxRunning  = 16 << 10 // requests that are being carried out
	maxWatches  = 1 << 20
	maxInterest = 1 << 20   // channels and patterns
	idleWorkers = 64        // goroutines that are kept for requests
	earlyReply  = 64 << 10  // bytes of replies after which a task that may ends early
	maxPooled   = 256 << 10 // bytes of a buffer that is used again
)

// A guest is a gateway on another node, from when its link comes up until it breaks.
type guest struct {
	name string

	mu       sync.Mutex
	gone     bool
	running  int
	watches  map[uint64]engine.Watch
	waiters  map[uint64]*waiting
	verdicts map[uint64]question       // of scripts that are open, by request
	after    chan struct{}             // closed when what was observed before takes effect; nil for at once
	hears    map[engine.CacheID]*heard // Hop's server.mu guards it
	observed map[engine.CacheID]bool   // as well
	lost     atomic.Bool               // an event did not go out
	touched  atomic.Bool               // an event went out since the last mSettled
}

// waiting is a caller at a gateway that waits in a partition here.
type waiting struct {
	engine.Waiter
	at     Executor
	answer engine.Transcript
}

// an origin is who asked for a task, for the listener: a request of a guest.
type origin struct {
	g  *guest
	id uint64
}

// guest returns what is known of a gateway.
func (s *server) guest(name string) *guest {
	s.mu.RLock()
	g := s.guests[name]
	s.mu.RUnlock()
	if g != nil {
		return g
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if g = s.guests[name]; g == nil {
		g = &guest{
			name: name, watches: map[uint64]engine.Watch{}, waiters: map[uint64]*waiting{}, verdicts: map[uint64]question{},
			hears: map[engine.CacheID]*heard{}, observed: map[engine.CacheID]bool{},
		}
		s.guests[name] = g
	}
	return g
}

// leave forgets a gateway whose link broke, with all that waited, watched and listened for it.
func (s *server) leave(name string) {
	s.mu.Lock()
	g := s.guests[name]
	delete(s.guests, name)
	if g == nil {
		s.mu.Unlock()
		return
	}
	for _, h := range g.hears {
		s.interest.Add(-h.size())
	}
	s.watching.Add(-int64(len(g.observed)))
	observed := g.observed
	s.mu.Unlock()

	g.mu.Lock()
	g.gone = true
	watches, waiters, verdicts := g.watches, g.waiters, g.verdicts
	g.watches, g.waiters, g.verdicts = nil, nil, nil
	g.mu.Unlock()
	for _, v := range verdicts {
		v.verdict <- errAway
	}
	s.spawn(func() { // partitions may be busy
		for _, w := range watches {
			w.Unwatch()
		}
		for _, w := range waiters {
			w.at.Abandon(&w.Waiter)
		}
		for cache := range observed {
			s.apply(cache)
		}
	})
}

// A job is a request that is being carried out.
type job struct {
	from    *guest
	request request
	reads   bool   // it begins with how current its answer has to be
	message []byte // that the request points into
	after   chan struct{}
	answer  engine.Transcript
	out     []byte
	paced   func() bool

	asked  uint64           // questions of its script
	until  time.Time        // when its time for questions is up
	spoken map[string]error // what the gateway has said
}

// A question is one of a script: see server.mayIt.
type question struct {
	number  uint64
	verdict chan error
}

var jobs = sync.Pool{New: func() any {
	j := &job{}
	j.paced = func() bool { return j.answer.Len() >= earlyReply }
	return j
}}

// requested begins to carry out a request.
func (s *server) requested(from string, id uint64, reads bool, rest []byte) {
	if s.leaving.Load() {
		s.links.Send(from, kind, appendAnswer(nil, id, saysElsewhere, 0, -1))
		return
	}
	g := s.guest(from)
	j := jobs.Get().(*job)
	j.from, j.reads, j.message = g, reads, append(j.message[:0], rest...)
	j.request.id = id
	g.mu.Lock()
	j.after = g.after
	full := g.running >= maxRunning
	if !full {
		g.running++
	}
	g.mu.Unlock()
	if full {
		s.links.Send(from, kind, s.refusal(nil, id, errBusy))
		s.recycle(j)
		return
	}
	select {
	case s.work <- j:
	default:
		if !s.spawn(func() { s.worker(j) }) {
			g.ended()
		}
	}
}

var errBusy = fault.New(fault.Unavailable, "hop.server", "the node that leads this part of the cache has more than %d requests of this gateway under way", maxRunning)

// running counts the requests of other nodes that are under way, without callers who wait for keys.
func (s *server) running() (n int) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, g := range s.guests {
		g.mu.Lock()
		n += g.running
		g.mu.Unlock()
	}
	return n
}

func (g *guest) ended() {
	g.mu.Lock()
	g.running--
	g.mu.Unlock()
}

// worker carries out a job, and others for as long as there are some.
func (s *server) worker(j *job) {
	for {
		if !s.carryOut(j) {
			s.over(j)
		}
		if s.idle.Add(1) > idleWorkers {
			s.idle.Add(-1)
			return
		}
		select {
		case j = <-s.work:
			s.idle.Add(-1)
		case <-s.ctx.Done():
			s.idle.Add(-1)
			return
		}
	}
}

// over ends a job whose answer is on its way.
func (s *server) over(j *job) {
	j.from.ended()
	s.recycle(j)
}

func (s *server) recycle(j *job) {
	if cap(j.message) > maxPooled || j.answer.Cap() > maxPooled || cap(j.out) > maxPooled {
		return
	}
	j.request.release()
	j.answer.Reset()
	*j = job{request: j.request, message: j.message[:0], answer: j.answer, out: j.out[:0], paced: j.paced}
	jobs.Put(j)
}

// refusal is the answer to a request that was not carried out.
func (s *server) refusal(dst []byte, id uint64, err error) []byte {
	var moved *engine.Moved
	if errors.As(err, &moved) {
		return appendMoved(appendAnswer(dst, id, saysMoved, 0, -1), moved)
	}
	if leader, elsewhere := hintOf(err); elsewhere {
		return append(appendAnswer(dst, id, saysElsewhere, 0, -1), leader...)
	}
	return appendFault(appendAnswer(dst, id, saysError, 0, -1), fault.From(err))
}

// elsewhere is the answer to whoever takes this node for the leader.
func (s *server) elsewhere(id uint64, part placement.PartitionID) []byte {
	leader := s.client.target(part, 0)
	return append(appendAnswer(nil, id, saysElsewhere, 0, -1), leader...)
}

// carryOut carries out a job and sends the answer. When it reports that the job is under way, finish does that.
func (s *server) carryOut(j *job) (under bool) {
	r := &j.request
	p := parser{b: j.message}
	var level reads
	if j.reads {
		level.read(&p)
	}
	if err := r.read(&p); err != nil {
		s.reply(j, s.refusal(j.out, r.id, err))
		return false
	}
	if j.after != nil {
		<-j.after
	}
	at := s.locals(r.partition)
	if level.level != engine.Eventual && !leads(at) {
		s.reply(j, s.elsewhere(r.id, r.partition))
		return false
	}
	ctx, cancel := s.ctx, context.CancelFunc(func() {})
	if r.within > 0 {
		ctx, cancel = context.WithTimeout(s.ctx, r.within)
	}
	defer cancel()
	t := &r.task
	t.Reply, t.Origin, t.Consistency, t.Floor = &j.answer, origin{j.from, r.id}, level.level, level.floor
	s.equip(j, at)
	var err error
	if level.level == engine.Eventual {
		err = carryOutNear(ctx, at, t, level.atMost)
	} else {
		s.await(ctx, r.task.Cache, r.revision)
		b, ok := at.(beginner)
		_, local := at.(*replication.Local) // what it keeps on disk is waited for in Execute
		if ok && !local && t.Waiter == nil && t.Guard == nil && r.within == 0 {
			if under, err = b.Begin(t, func() {}, func(err error) { s.finish(j, err) }); under {
				return true
			}
		} else {
			err = at.Execute(ctx, t)
		}
	}
	if t.Waiter != nil && (err != nil || t.Parked == nil) {
		j.from.forget(r.id)
	}
	s.reply(j, s.verdict(j, err))
	return false
}

// finish sends the answer to a job that was under way, from a goroutine that must not wait.
func (s *server) finish(j *job, err error) {
	message := s.verdict(j, err)
	if j.out = message; len(message) <= pieceBytes && s.links.Send(j.from.name, kind, message) {
		s.over(j)
		return
	}
	if !s.spawn(func() { s.send(j.from.name, message); s.over(j) }) {
		j.from.ended()
	}
}

// verdict is the answer to a job that has come to this end.
func (s *server) verdict(j *job, err error) []byte {
	r, t := &j.request, &j.request.task
	if err != nil {
		return s.refusal(j.out, r.id, err)
	}
	says := byte(0)
	if t.Replayed {
		says |= saysReplayed
	}
	if t.Stale {
		says |= saysStale
	}
	if t.Parked != nil {
		says |= saysParked
	}
	if j.reads {
		says |= saysWas
	}
	j.out = appendAnswer(j.out, r.id, says, t.Done, t.Failed)
	if j.reads {
		j.out = appendWas(j.out, t)
	}
	return append(j.out, j.answer.Bytes()...)
}

// equip gives a task what it asks its caller for.
func (s *server) equip(j *job, at Executor) {
	r, g := &j.request, j.from
	if r.flags&isPaced != 0 {
		r.task.Enough = j.paced
	}
	if r.flags&isGuarded != 0 {
		r.task.Guard = func() bool { return g.stand(r.watches) }
	}
	if r.flags&isAsking != 0 {
		r.task.Allowed = func(c *engine.Command, args [][]byte) error { return s.mayIt(j, c, args) }
	}
	if r.flags&isWaiting == 0 {
		return
	}
	w := &waiting{at: at}
	id := r.id
	w.Reply = &w.answer
	w.Elsewhere = func(*engine.Waiter) {
		g.forget(id)
		s.send(g.name, appendMoved(head(nil, mMoved, id), w.Moved))
	}
	w.Done = func(*engine.Waiter) {
		g.forget(id)
		s.send(g.name, append(head(nil, mServed, id), w.answer.Bytes()...))
	}
	r.task.Waiter = &w.Waiter
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.gone {
		g.waiters[id] = w
	}
}

// forget forgets a waiter that has its answer or never waited.
func (g *guest) forget(id uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.waiters, id)
}

// stand reports whether all these watches stand. A partition is locked.
func (g *guest) stand(watches []uint64) bool {
	g.mu.Lock()
	all := make([]engine.Watch, len(watches))
	for i, id := range watches {
		all[i] = g.watches[id]
	}
	g.mu.Unlock()
	for _, w := range all {
		if w == nil || !w.Stands() {
			return false
		}
	}
	return true
}

// reply sends the answer to a job, and keeps its buffer for the next.
func (s *server) reply(j *job, message []byte) {
	j.out = message
	s.send(j.from.name, message)
}

// send sends what has to arrive, and waits as long as the link takes.
func (s *server) send(to string, message []byte) {
	if err := s.post(s.ctx, to, message, sendTime); err != nil && s.ctx.Err() == nil {
		s.log.Warn("an answer to a gateway was lost", "gateway", to, "error", err)
	}
}

// sendTime is how long an answer waits for a link, at the most: its request has long been given up by then.
const sendTime = 10 * time.Second

// Bounds of what a script asks.
const (
	mayTime    = 500 * time.Millisecond // all its questions together: the partition waits
	maxVerdict = 1024                   // verdicts that are remembered for the rest of the script
)

var errAway = fault.New(fault.Unavailable, "hop.may", "the gateway that may say whether a script is allowed to do this did not answer in time")

// mayIt asks the gateway whether a script may carry out a command, unless the gateway has said so. The partition is locked
// meanwhile, but only scripts of credentials whose rights depend on the key, or of clients that keep copies, ask at all.
func (s *server) mayIt(j *job, c *engine.Command, args [][]byte) error {
	if j.request.surely.Has(c) {
		return nil
	}
	text := binary.AppendUvarint(nil, uint64(len(args)))
	for _, a := range args {
		text = appendBytes(text, a)
	}
	text = appendBytes(text, c.Name)
	if err, known := j.spoken[string(text)]; known {
		return err
	}
	if j.asked == 0 {
		j.until, j.spoken = time.Now().Add(mayTime), map[string]error{}
	}
	j.asked++
	err := s.question(j, text)
	if len(j.spoken) < maxVerdict {
		j.spoken[string(text)] = err
	}
	return err
}

// question asks a gateway and waits for what it says.
func (s *server) question(j *job, text []byte) error {
	id, g := j.request.id, j.from
	q := question{j.asked, make(chan error, 1)}
	g.mu.Lock()
	gone := g.gone
	if !gone {
		g.verdicts[id] = q
	}
	g.mu.Unlock()
	ctx, cancel := context.WithDeadline(s.ctx, j.until)
	defer cancel()
	message := append(binary.AppendUvarint(head(nil, mAsk, id), q.number), text...)
	if gone || s.links.SendWait(ctx, g.name, kind, message) != nil {
		return errAway
	}
	select {
	case err := <-q.verdict:
		return err
	case <-ctx.Done():
	}
	g.mu.Lock()
	delete(g.verdicts, id)
	g.mu.Unlock()
	return errAway
}

// decided passes on what a gateway says of a script's command.
func (s *server) decided(from string, id uint64, p *parser) {
	number := p.uvarint()
	var err error
	if p.byte() != 0 {
		err = p.fault()
	}
	if p.bad {
		err = errAway
	}
	g := s.guest(from)
	g.mu.Lock()
	defer g.mu.Unlock()
	if q, open := g.verdicts[id]; open && q.number == number {
		delete(g.verdicts, id)
		q.verdict <- err
	}
}

// release ends a wait.
func (s *server) release(from string, id uint64, p *parser) {
	g := s.guest(from)
	who := p.uvarint()
	var e *fault.Error
	if len(p.b) > 0 {
		e = p.fault()
	}
	if p.bad {
		return
	}
	s.spawn(func() {
		g.mu.Lock()
		w := g.waiters[who]
		g.mu.Unlock()
		waited := byte(0)
		if w != nil && w.at.Release(&w.Waiter, e) {
			waited = 1
		}
		s.send(from, append(appendAnswer(nil, id, 0, 0, -1), waited))
	})
}

// abandon forgets a caller that is gone.
func (s *server) abandon(from string, id uint64) {
	g := s.guest(from)
	g.mu.Lock()
	w := g.waiters[id]
	delete(g.waiters, id)
	g.mu.Unlock()
	if w != nil {
		s.spawn(func() { w.at.Abandon(&w.Waiter) })
	}
}

// watch begins to watch a key for a guest.
func (s *server) watch(from string, id uint64, p *parser) {
	g := s.guest(from)
	number, part, cache, db := p.uvarint(), p.partition(), p.cache(), p.db()
	key := append([]byte(nil), p.b...)
	if p.bad {
		return
	}
	s.spawn(func() {
		at := s.locals(part)
		if !leads(at) {
			s.send(from, s.elsewhere(id, part))
			return
		}
		w := at.Watch(cache, db, key)
		g.mu.Lock()
		kept := !g.gone && len(g.watches) < maxWatches
		if kept {
			g.watches[number] = w
		}
		g.mu.Unlock()
		if !kept {
			w.Unwatch()
			s.send(from, s.refusal(nil, id, fault.New(fault.Unavailable, "hop.watch", "this gateway watches %d keys, which is the limit", maxWatches)))
			return
		}
		s.send(from, appendAnswer(nil, id, 0, 0, -1))
	})
}

// unwatch ends a guest's watch.
func (s *server) unwatch(from string, number uint64) {
	g := s.guest(from)
	g.mu.Lock()
	w := g.watches[number]
	delete(g.watches, number)
	g.mu.Unlock()
	if w != nil {
		s.spawn(w.Unwatch)
	}
}

// count answers how many wait in a cache, or what its numbers are.
func (s *server) count(from string, what byte, id uint64, p *parser) {
	part, cache := p.partition(), p.cache()
	if p.bad {
		return
	}
	s.spawn(func() {
		at := s.locals(part)
		if !leads(at) {
			s.send(from, s.elsewhere(id, part))
			return
		}
		said := appendAnswer(nil, id, 0, 0, -1)
		if what == mWaiting {
			callers, keys, gone := at.Waiting(cache)
			for _, n := range []int{callers, keys, gone} {
				said = binary.AppendUvarint(said, uint64(n))
			}
		} else if stats, ok := at.Stats(cache); ok {
			text, err := json.Marshal(stats)
			if err != nil {
				panic(err) // numbers
			}
			said = append(said, text...)
		}
		s.send(from, said)
	})
}
