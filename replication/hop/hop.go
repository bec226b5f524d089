// Package hop lets a gateway use partitions that are led by other nodes as if they were here.
//
// A Client turns a task into one message, which travels with others over the link to the leader; a Server there carries
// it out and sends back the replies as they were given, to be replayed into the caller's own encoder. The same link
// carries what outlives a request: callers that wait in blocking commands, keys that transactions watch, and what
// happens in partitions that somebody listens to at a gateway.
//
// A node that does not lead says so, and who does: then nothing was done, and the client asks on until the request's
// time is up. When a link breaks under a request, nobody knows whether it was carried out: a read, and a write with an
// idempotency key, is asked again; any other is answered with fault.OutcomeUnknown.
//
// Start with Route, which is what a gateway holds; message.go has what travels.
package hop

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/peerlink"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

// An Executor is a partition in this process.
type Executor interface {
	Execute(ctx context.Context, t *engine.Task) error
	Watch(cache engine.CacheID, db int, key []byte) engine.Watch
	Release(w *engine.Waiter, e *fault.Error) bool
	Abandon(w *engine.Waiter)
	Waiting(cache engine.CacheID) (callers, keys, gone int)
	Observe(cache engine.CacheID, on bool)
	Stats(cache engine.CacheID) (engine.Stats, bool)
}

// A Follower is an Executor that may not be the leader. Without the method it always is.
type Follower interface{ Leads() bool }

// NotLeader is the cause of an error that says that nothing was done because another node leads. Whoever executes
// returns it, wrapped in a fault of kind Unavailable.
type NotLeader interface {
	error
	Leader() string // a node's name, "" when it is not known
}

// Links carries frames to other nodes: see package peerlink.
type Links interface {
	Handle(kind byte, fn func(from string, frame []byte))
	Send(to string, kind byte, frame []byte) bool
	SendWait(ctx context.Context, to string, kind byte, frame []byte) error
	OnBreak(fn func(peer string, incoming bool))
	OnConnect(fn func(peer string))
	LastHeard(to string) time.Duration
}

// Place knows who hosts partitions.
type Place interface {
	Partition(id placement.PartitionID) (*placement.Partition, bool)
	Nodes() []*placement.Node
}

// Locals finds the partition in this process, nil for none.
type Locals func(placement.PartitionID) Executor

// A Knower is an Executor that knows who leads when it does not.
type Knower interface{ LeaderNode() string } // a node, "" for none that it knows

// known is who leads, as far as an executor knows.
func known(e Executor) string {
	if k, ok := e.(Knower); ok {
		return k.LeaderNode()
	}
	return ""
}

// leads reports whether an executor can be asked.
func leads(e Executor) bool {
	if e == nil {
		return false
	}
	f, ok := e.(Follower)
	return !ok || f.Leads()
}

// hintOf returns who leads, if err says that the node asked does not.
func hintOf(err error) (leader string, elsewhere bool) {
	var n NotLeader
	if err != nil && errors.As(err, &n) {
		return n.Leader(), true
	}
	return "", false
}

// patience is how long a request without a deadline looks for a leader.
const patience = 5 * time.Second

// askTime is how long a small question to a leader may take: a watch, a count.
const askTime = 2 * time.Second

var _ Executor = (*replication.Local)(nil)

// kind is that of this package's frames.
const kind = peerlink.KindHop

// Config says what a Hop needs.
type Config struct {
	Self     string // this node's name
	Links    Links
	Place    Place
	Locals   Locals
	Hosted   func() []Executor    // all partitions in this process
	Listener replication.Listener // of this node, told of what happens at leaders here and elsewhere; nil for none
	// Interests calls fn for all that the listener's clients listen to, as Hop.Interest would be, while that does not change.
	Interests func(fn func(cache engine.CacheID, what byte, name string, count int))
	// Revision is how far this node knows the control data, and Await waits, within reason, until a cache is known here
	// that another node knew at its revision.
	Revision func() int64
	Await    func(ctx context.Context, cache engine.CacheID, revision int64)
	Format   func() int // see replication.Format; nil for that of this program
	Log      *slog.Logger
}

// A Hop is both ends of this node's hops: it asks other nodes, and answers them.
type Hop struct {
	self      string
	links     Links
	place     Place
	locals    Locals
	hosted    func() []Executor
	listener  replication.Listener
	interests func(func(engine.CacheID, byte, string, int))
	revision  func() int64
	await     func(context.Context, engine.CacheID, int64)
	format    func() int
	log       *slog.Logger

	client *client
	server *server

	ctx      context.Context
	cancel   context.CancelFunc
	mu       sync.Mutex // guards closed against work
	closed   bool
	work     sync.WaitGroup
	idle     atomic.Int64 // workers without work
	applying sync.Mutex   // held while partitions are told what is observed
	leaving  atomic.Bool  // it begins nothing more for others

	untoldMu sync.Mutex
	news     map[string]bool // nodes that have to be told everything
	pieces   pieces
	stream   atomic.Uint64 // messages that were sent in pieces
}

// New makes a Hop. It answers at once, and asks once Run keeps the links up.
func New(cfg Config) *Hop {
	h := &Hop{
		self: cfg.Self, links: cfg.Links, place: cfg.Place, locals: cfg.Locals, hosted: cfg.Hosted, listener: cfg.Listener,
		interests: cfg.Interests, revision: cfg.Revision, await: cfg.Await, format: cfg.Format, log: cfg.Log, news: map[string]bool{},
	}
	if h.revision == nil {
		h.revision = func() int64 { return 0 }
	}
	if h.await == nil {
		h.await = func(context.Context, engine.CacheID, int64) {}
	}
	if h.format == nil {
		h.format = func() int { return replication.Format }
	}
	if h.hosted == nil {
		h.hosted = func() []Executor { return nil }
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.client = &client{Hop: h, asked: map[uint64]*asked{}, waiters: map[*engine.Waiter]*asked{}, watches: map[uint64]*Watch{}, hints: map[placement.PartitionID]string{}, left: map[string]bool{}, seen: map[engine.CacheID]bool{}, seed: maphash.MakeSeed()}
	h.server = &server{Hop: h, work: make(chan *job), guests: map[string]*guest{}, watched: map[engine.CacheID]bool{}}
	h.pieces.of = map[string]map[uint64][]byte{}
	h.links.OnBreak(h.broke)
	h.links.OnConnect(h.connected)
	h.links.Handle(kind, h.handle)
	return h
}

// Route returns the way to a partition.
func (h *Hop) Route(part placement.PartitionID) *Route { return &Route{h, part} }

// Listener is what the partitions of this process are to tell of what happens.
func (h *Hop) Listener() replication.Listener { return h.server }

// Placed has the partitions of this process, of which one may be new, tell what is observed.
func (h *Hop) Placed() {
	h.spawn(func() {
		h.server.mu.RLock()
		caches := maps.Clone(h.server.watched)
		for _, g := range h.server.guests {
			for cache := range g.observed {
				caches[cache] = true
			}
		}
		h.server.mu.RUnlock()
		for cache := range caches {
			h.server.apply(cache)
		}
	})
}

// Run keeps links to all nodes that may lead something, and tells them what they could not be told before, until ctx ends.
func (h *Hop) Run(ctx context.Context) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		for _, n := range h.place.Nodes() {
			if n.Name != h.self && n.Peer != "" && slices.Contains(n.Roles, "engine") {
				h.links.LastHeard(n.Name)
			}
		}
		h.untoldMu.Lock()
		news := slices.Collect(maps.Keys(h.news))
		clear(h.news)
		h.untoldMu.Unlock()
		for _, to := range news {
			if h.introduce(to) {
				h.client.lost()
			} else if h.links.LastHeard(to) < forgetNews {
				h.untold(to)
			}
		}
		h.server.mu.RLock()
		for _, g := range h.server.guests {
			h.server.tellLost(g)
		}
		h.server.mu.RUnlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// tendEvery is how often Run looks around.
const tendEvery = 200 * time.Millisecond

// forgetNews is after how much silence a node need not be told any more: when it connects again it is told everything.
const forgetNews = time.Minute

// Leave has the other nodes ask this one for nothing more, and returns when what they have asked for until then is over and they
// have their answers, or ctx ends. So a node that ends leaves no write behind of which nobody knows what has become.
func (h *Hop) Leave(ctx context.Context) {
	h.leaving.Store(true)
	var others []string
	for _, n := range h.place.Nodes() {
		if n.Name != h.self && n.Peer != "" && h.links.Send(n.Name, kind, head(nil, mBye, 0)) {
			others = append(others, n.Name)
		}
	}
	h.sync(ctx, others) // they have heard it, and what they had sent before is here
	for h.server.running() > 0 && ctx.Err() == nil {
		pause(ctx, 0)
	}
	h.sync(ctx, others) // they have the answers
}

// sync returns when other nodes have taken in what was sent to them before, or ctx ends.
func (h *Hop) sync(ctx context.Context, others []string) {
	var all []*asked
	for _, name := range others {
		a := h.client.begin(name, nil)
		if !h.links.Send(name, kind, head(nil, mSync, a.id)) { // it is told everything when it is here again
			h.client.giveUp(a)
			continue
		}
		all = append(all, a)
	}
	for _, a := range all {
		h.client.wait(ctx, a)
	}
}

// Close ends what is under way here for others, and waits for it.
func (h *Hop) Close() {
	h.leaving.Store(true)
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.work.Wait()
}

// spawn runs fn, and has Close wait for it; not once it is closed.
func (h *Hop) spawn(fn func()) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.work.Go(fn)
	return true
}

func (h *Hop) untold(node string) {
	h.untoldMu.Lock()
	defer h.untoldMu.Unlock()
	h.news[node] = true
}

// connected tells a node, which has forgotten all of it, what this gateway wants to hear. What happened there since it was told
// last is missing.
func (h *Hop) connected(peer string) {
	h.client.leaves(peer, false)
	if !h.introduce(peer) {
		h.untold(peer)
	}
	h.client.lost()
}

func (h *Hop) broke(peer string, incoming bool) {
	h.client.brokeOff(peer, incoming)
	if incoming {
		h.pieces.drop(peer)
		h.server.leave(peer)
		return
	}
	h.server.mu.RLock()
	defer h.server.mu.RUnlock()
	if g := h.server.guests[peer]; g != nil && len(g.observed) > 0 {
		g.lost.Store(true)
	}
}

// handle takes a frame apart.
func (h *Hop) handle(from string, frame []byte) {
	p := parser{b: frame}
	switch what := p.byte(); what {
	case mPiece, mLast:
		if whole := h.pieces.add(from, p.uvarint(), p.b, what == mLast); whole != nil && !p.bad {
			h.message(from, whole)
		}
	case mDrop:
		h.pieces.cut(from, p.uvarint())
	default:
		h.message(from, frame)
	}
}

func (h *Hop) message(from string, text []byte) {
	p := parser{b: text}
	what := p.byte()
	switch what {
	case mInterest:
		h.server.listensTo(from, &p)
		return
	case mObserve:
		h.server.observes(from, &p)
		return
	case mPublished, mTouched, mFlushed, mSettled, mLost:
		h.client.event(from, what, &p)
		return
	case mBye:
		h.client.leaves(from, true)
		return
	}
	id := p.uvarint()
	if p.bad {
		h.log.Error("a message of another node cannot be read", "peer", from, "kind", what)
		return
	}
	switch what {
	case mRequest, mRead:
		h.server.requested(from, id, what == mRead, p.b)
	case mVerdict:
		h.server.decided(from, id, &p)
	case mRelease:
		h.server.release(from, id, &p)
	case mAbandon:
		h.server.abandon(from, id)
	case mWatch:
		h.server.watch(from, id, &p)
	case mUnwatch:
		h.server.unwatch(from, id)
	case mWaiting, mStats:
		h.server.count(from, what, id, &p)
	case mSync:
		h.links.Send(from, kind, appendAnswer(nil, id, 0, 0, -1)) // or it waits in vain
	case mAnswer:
		h.client.answered(from, id, &p)
	case mServed, mMoved:
		h.client.served(from, id, &p, what == mMoved)
	case mAsk:
		h.client.asks(from, id, &p)
	}
}

// Bounds of messages in pieces.
const (
	pieceBytes = 256 << 10 // so that what is small does not wait long behind what is large
	maxMessage = 1 << 30   // bytes of one message, and of all that are incomplete from one node
)

// post sends a message, in pieces when it is large. It waits for the link at most so long, for each piece.
func (h *Hop) post(ctx context.Context, to string, message []byte, wait time.Duration) error {
	if len(message) <= pieceBytes {
		return h.deliver(ctx, to, message, wait)
	}
	if len(message) > maxMessage {
		return fmt.Errorf("hop: a message of %d bytes: at most %d are sent", len(message), maxMessage)
	}
	stream := h.stream.Add(1)
	frame := make([]byte, 0, pieceBytes+16)
	for len(message) > 0 {
		what, n := mPiece, min(len(message), pieceBytes)
		if n == len(message) {
			what = mLast
		}
		frame = append(head(frame[:0], what, stream), message[:n]...)
		if err := h.deliver(ctx, to, frame, wait); err != nil {
			h.links.Send(to, kind, head(frame[:0], mDrop, stream))
			return err
		}
		message = message[n:]
	}
	return nil
}

// deliver sends one frame, and waits only when it has to.
func (h *Hop) deliver(ctx context.Context, to string, frame []byte, wait time.Duration) error {
	if h.links.Send(to, kind, frame) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	return h.links.SendWait(ctx, to, kind, frame)
}

// pieces are messages that have come in part.
type pieces struct {
	mu sync.Mutex
	of map[string]map[uint64][]byte
}

// add adds a piece, and returns the message when it was the last.
func (p *pieces) add(from string, stream uint64, piece []byte, last bool) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	streams := p.of[from]
	if streams == nil {
		streams = map[uint64][]byte{}
		p.of[from] = streams
	}
	sum := len(piece)
	for _, b := range streams {
		sum += len(b)
	}
	if sum > maxMessage {
		delete(streams, stream)
		return nil
	}
	whole := append(streams[stream], piece...)
	if !last {
		streams[stream] = whole
		return nil
	}
	delete(streams, stream)
	return whole
}

// cut forgets a message of which no more comes.
func (p *pieces) cut(from string, stream uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of[from], stream)
}

// drop forgets what a node has sent in part.
func (p *pieces) drop(from string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.of, from)
}

// buffers are for messages that are sent.
var buffers = sync.Pool{New: func() any { return new([]byte) }}
