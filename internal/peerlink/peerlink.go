// Package peerlink carries frames between the nodes of a cluster: one stream for each ordered pair of nodes, on which
// the frames of all kinds travel in batches, and connections of their own for what is large.
//
// A frame is sent or dropped: Send never blocks, and promises neither that a frame arrives nor that the other side was
// there. What arrives over one connection arrives whole, once and in order, but that the frames of SendFirst overtake the
// others. Who stands at the other end has been proved by a certificate of the cluster that carries the node's name; without
// certificates only this machine is spoken to.
//
// The memory that a peer can make us keep is bounded: a frame is read bit by bit up to Config.MaxFrame, a stranger gets
// maxHello bytes, and of each kind at most Config.Budget bytes wait to be sent to one peer.
//
// Start with Links; peer.go sends, inbound.go receives, and brisk_linux.go says how.
package peerlink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Kinds of frames and of streams. A kind belongs to one part of the program, which alone knows what is in its frames.
const (
	control  byte = 0 // this package's own: pings and their answers
	KindRaft byte = 1 // messages of replication groups, and as a stream their snapshots
	KindHop  byte = 2 // requests of gateways, and their answers
	KindCuts byte = 5 // streams: cuts of caches
	KindSnap byte = 6 // streams: questions about snapshots
	KindKeys byte = 7 // streams: master keys
	maxKinds      = 16
)

// Defaults of a Config.
const (
	DefaultBudget    = 16 << 20
	DefaultMaxFrame  = 64 << 20
	DefaultPing      = 250 * time.Millisecond
	DefaultDeadAfter = 2 * time.Second
)

// Config says who this node is and how it finds the others.
type Config struct {
	Cluster     string                   // its id: nodes of another cluster are refused
	Self        string                   // this node's name
	Incarnation string                   // of this process
	Advertise   string                   // host:port at which others reach this node
	Address     func(node string) string // host:port of another node, "" while it is unknown
	TLS         *tls.Config              // both sides' certificates and the cluster's CA; nil speaks to this machine only
	Budget      int                      // bytes of one kind that wait for one peer, at the most
	MaxFrame    int                      // bytes of a frame, at the most
	Ping        time.Duration            // how often a peer is asked whether it is there
	DeadAfter   time.Duration            // how long a connection may be silent before it is given up
	Log         *slog.Logger
}

// Links are this node's links to all others.
//
//	P1: at most one outgoing and one incoming connection of frames for each peer is in use; frames of an older one are
//	    all handled before the first of a newer one
//	P2: of each kind at most Budget bytes, or one frame that is larger, wait for a peer, those under way included, and at
//	    most maxAhead bytes of those that go first
//	P3: the frames of a kind arrive in the order in which they were sent, but that those of SendFirst overtake the others
type Links struct {
	cfg    Config
	began  time.Time
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	handlers [maxKinds]atomic.Pointer[func(from string, frame []byte)]
	ends     [maxKinds]atomic.Pointer[func(from string)]
	streams  [maxKinds]atomic.Pointer[func(from string, s io.ReadWriteCloser)]
	broken   atomic.Pointer[[]func(peer string, incoming bool)]
	joined   atomic.Pointer[[]func(peer string)]

	mu       sync.Mutex
	peers    map[string]*peer
	conns    map[net.Conn]bool // that Close has to close
	greeting int               // connections that have not said who they are
	closed   bool
}

// New makes the links of a node. Without Serve it can send, and nobody reaches it.
func New(cfg Config) *Links {
	cfg.Budget = orDefault(cfg.Budget, DefaultBudget)
	cfg.MaxFrame = orDefault(cfg.MaxFrame, DefaultMaxFrame)
	cfg.Ping = orDefault(cfg.Ping, DefaultPing)
	cfg.DeadAfter = orDefault(cfg.DeadAfter, DefaultDeadAfter)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := &Links{cfg: cfg, began: time.Now(), peers: map[string]*peer{}, conns: map[net.Conn]bool{}}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.spawn(l.tend)
	return l
}

func orDefault[T int | time.Duration](given, otherwise T) T {
	if given <= 0 {
		return otherwise
	}
	return given
}

// Handle sets who is given the frames of a kind. It is called on the goroutine that reads from a peer, one frame after
// another, and so has to be quick; the frame is only lent.
func (l *Links) Handle(kind byte, fn func(from string, frame []byte)) { l.handlers[kind].Store(&fn) }

// HandleAll sets who is told, on the same goroutine, when Handle's fn has been given all frames of a kind that have come by then. As
// long as it takes, nothing more is read from that peer.
func (l *Links) HandleAll(kind byte, fn func(from string)) { l.ends[kind].Store(&fn) }

// HandleStream sets who is given the streams of a kind that others open, each on a goroutine of its own. The stream is
// closed when fn returns.
func (l *Links) HandleStream(kind byte, fn func(from string, s io.ReadWriteCloser)) {
	l.streams[kind].Store(&fn)
}

// OnBreak has fn told when a connection of frames from a peer (incoming), or to it, ended: frames that were sent over it
// may be lost. All that came over it has been handled by then, and nothing yet that comes over the next. It must be quick.
// Call it before the links are used.
func (l *Links) OnBreak(fn func(peer string, incoming bool)) { add(&l.broken, fn) }

// OnConnect has fn told when frames can be sent to a peer, again or for the first time. What it sends goes before what
// SendWait holds back. It must be quick. Call it before the links are used.
func (l *Links) OnConnect(fn func(peer string)) { add(&l.joined, fn) }

func add[F any](to *atomic.Pointer[[]F], fn F) {
	all := []F{fn}
	if before := to.Load(); before != nil {
		all = append(slices.Clone(*before), fn)
	}
	to.Store(&all)
}

// broke tells of a connection that ended.
func (l *Links) broke(peer string, incoming bool) {
	if fns := l.broken.Load(); fns != nil {
		for _, fn := range *fns {
			fn(peer, incoming)
		}
	}
}

// connected tells of a connection that began.
func (l *Links) connected(peer string) {
	if fns := l.joined.Load(); fns != nil {
		for _, fn := range *fns {
			fn(peer)
		}
	}
}

// Send puts a copy of a frame in line for a peer. False says that it was dropped: the peer is not connected, which the
// first frame for it changes, or too much waits for it already.
func (l *Links) Send(to string, kind byte, frame []byte) bool {
	p := l.peer(to)
	return p != nil && p.offer(kind, frame) == nil
}

// SendNow is Send by who has nothing more to send at the moment: the frame is written at once, with all that stands in line, as
// far as the peer takes it, which wakes nobody up. It does not wait either.
func (l *Links) SendNow(to string, kind byte, frame []byte) bool {
	p := l.peer(to)
	return p != nil && p.offerNow(kind, frame) == nil
}

// SendFirst is Send for what must not wait behind what is large: the word that this node is there, a heartbeat. It goes before
// all frames that Send and SendWait have put in line, whatever their kind, and has a small budget of its own.
func (l *Links) SendFirst(to string, kind byte, frame []byte) bool {
	p := l.peer(to)
	return p != nil && p.offerFirst(kind, frame) == nil
}

// SendWait is Send that waits, until ctx ends, for a peer that is not connected or reads too slowly. After an error the
// frame was not sent.
func (l *Links) SendWait(ctx context.Context, to string, kind byte, frame []byte) error {
	p := l.peer(to)
	if p == nil {
		return errClosed
	}
	return p.wait(ctx, kind, frame)
}

// LastHeard tells how long ago anything came from a peer; of one that was never heard, how long ago these links began. It
// opens the link, so that from then on the peer is asked whether it is there.
func (l *Links) LastHeard(to string) time.Duration {
	p := l.peer(to)
	if p == nil {
		return time.Since(l.began)
	}
	return l.elapsed() - time.Duration(p.heard.Load())
}

// Connected reports whether frames for a peer go out.
func (l *Links) Connected(to string) bool {
	p := l.peer(to)
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.up
}

// Open opens a stream of a kind: a connection of its own, whose other end the peer's HandleStream gets. The caller closes
// it.
func (l *Links) Open(ctx context.Context, to string, kind byte) (io.ReadWriteCloser, error) {
	conn, _, err := l.dial(ctx, to, kind)
	if err != nil {
		return nil, err
	}
	return &stream{Conn: conn, l: l}, nil
}

// A stream closes once, and is forgotten then.
type stream struct {
	net.Conn
	l    *Links
	once sync.Once
	err  error
}

func (s *stream) Close() error {
	s.once.Do(func() {
		s.l.forget(s.Conn)
		s.err = s.Conn.Close()
	})
	return s.err
}

// PeerStats is what is known of a link.
type PeerStats struct {
	Peer      string
	Connected bool
	Heard     time.Duration // how long ago
	RoundTrip time.Duration // of the last ping; 0 for none yet
	Sent      uint64        // frames
	SentBytes uint64
	Dropped   uint64 // frames that Send was given and that were not sent
}

// Stats lists what is known of each link, by the peer's name.
func (l *Links) Stats() []PeerStats {
	l.mu.Lock()
	peers := make([]*peer, 0, len(l.peers))
	for _, p := range l.peers {
		peers = append(peers, p)
	}
	l.mu.Unlock()
	slices.SortFunc(peers, func(a, b *peer) int { return strings.Compare(a.name, b.name) })
	stats := make([]PeerStats, len(peers))
	for i, p := range peers {
		stats[i] = p.stats()
	}
	return stats
}

// Close ends all links and waits for handlers that run.
func (l *Links) Close() {
	l.mu.Lock()
	l.closed = true
	l.cancel()
	for c := range l.conns {
		cut(c)
	}
	l.mu.Unlock()
	l.work.Wait()
}

var errClosed = errors.New("peerlink: this node, or one that is closed")

// peer returns the link to a node and begins it if need be. It is nil for this node itself and after Close.
func (l *Links) peer(name string) *peer {
	l.mu.Lock()
	defer l.mu.Unlock()
	p := l.peers[name]
	if p == nil && !l.closed && name != l.cfg.Self && name != "" {
		p = &peer{l: l, name: name, wake: make(chan struct{}, 1), kick: make(chan struct{}, 1), done: make(chan struct{})}
		l.peers[name] = p
		l.work.Go(p.run)
	}
	if p != nil {
		p.used.Store(int64(l.elapsed()))
	}
	return p
}

// spawn runs fn, unless the links are closed, and has Close wait for it.
func (l *Links) spawn(fn func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.work.Go(fn)
	return true
}

// keep has Close close a connection; false says that it is too late for that.
func (l *Links) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.conns[c] = true
	return true
}

func (l *Links) forget(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// elapsed is the time on this node's steady clock.
func (l *Links) elapsed() time.Duration { return time.Since(l.began) }

// tend asks peers whether they are there, and ends connections that have fallen silent, until Close.
func (l *Links) tend() {
	tick := time.NewTicker(l.cfg.Ping)
	defer tick.Stop()
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		peers := make([]*peer, 0, len(l.peers))
		for _, p := range l.peers {
			peers = append(peers, p)
		}
		l.mu.Unlock()
		for _, p := range peers {
			p.tend()
		}
	}
}

// local refuses an address beyond this machine where nothing proves who is there.
func (l *Links) local(a net.Addr) error {
	tcp, ok := a.(*net.TCPAddr)
	if l.cfg.TLS == nil && (!ok || !tcp.IP.IsLoopback()) {
		return fmt.Errorf("peerlink: %s is another machine, and this node has no certificate to speak to it: see `larder cluster certs`", a)
	}
	return nil
}
