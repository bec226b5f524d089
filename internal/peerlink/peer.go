package peerlink

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// How long to wait before a peer is dialled again: twice as long each time, and not at all once it has dialled us.
const (
	firstPause = 20 * time.Millisecond
	lastPause  = 2 * time.Second
)

// maxIdleBuffer is how large a buffer for frames may be that is kept while there are none, in bytes.
const maxIdleBuffer = 256 << 10

// Control frames are a tag and the sender's clock, which the answer repeats.
const (
	ping = 'p'
	pong = 'q'
)

// A peer is the link to one other node.
//
//	Q1: queue and first hold whole frames, and are empty while up is false
//	Q2: held[k] is the number of bytes of kind k in queue and in what is being written, ahead the same of first
//	Q3: what stands in first waits for one frame of queue at the most, and for writeStep bytes of smaller ones
type peer struct {
	l    *Links
	name string
	wake chan struct{} // there is something in queue
	kick chan struct{} // the peer is there: dial it now

	heard    atomic.Int64 // when something came from the peer, on the clock of Links.elapsed
	outHeard atomic.Int64 // the same of out alone, whose writes count as well when they are large
	inHeard  atomic.Int64 // the same of in alone
	trip     atomic.Int64 // of the last ping, in nanoseconds
	used     atomic.Int64 // when somebody asked for this link

	mu      sync.Mutex
	up      bool
	queue   []byte
	held    [maxKinds]int
	first   []byte        // what goes before queue: pings, and what SendFirst was given
	ahead   int           // bytes in first and in what is being written of it
	moved   chan struct{} // closed when there may be room or a connection; nil while nobody waits for that
	out     *pipe         // nil while up is false
	address string        // where the peer said that it listens
	in      net.Conn      // nil for none
	inDone  chan struct{} // closed when the frames of in have been handled
	sent    uint64
	bytes   uint64
	dropped uint64
	done    chan struct{} // closed when run has ended
}

var (
	errDown = errors.New("peerlink: the peer is not connected")
	errFull = errors.New("peerlink: too much waits for the peer")
)

// offer puts a frame in line, or says why it cannot.
func (p *peer) offer(kind byte, frame []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.put(kind, frame)
	if err != nil {
		p.dropped++
		return err
	}
	p.ring()
	return nil
}

// put is offer for who holds the lock.
func (p *peer) put(kind byte, frame []byte) error {
	size := len(frame) + frameHead
	switch {
	case len(frame) > p.l.cfg.MaxFrame:
		return fmt.Errorf("peerlink: a frame of %d bytes: at most %d are sent", len(frame), p.l.cfg.MaxFrame)
	case !p.up:
		return errDown
	case p.held[kind] > 0 && p.held[kind]+size > p.l.cfg.Budget:
		return errFull
	}
	p.queue = appendFrame(p.queue, kind, frame)
	p.held[kind] += size
	p.sent++
	p.bytes += uint64(size)
	return nil
}

// ring has the peer's goroutine write what is in line.
func (p *peer) ring() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Bounds of what a caller writes by itself.
const (
	maxAtOnce = 64 << 10 // bytes at a time
	maxTurns  = 4        // times, while others put more in line
)

// offerNow puts a frame in line and writes what stands there, as far as the peer takes it at once.
func (p *peer) offerNow(kind byte, frame []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.put(kind, frame); err != nil {
		p.dropped++
		return err
	}
	t := p.out
	if t.writing {
		return nil // who writes looks again
	}
	for range maxTurns {
		if len(p.first) > 0 || len(p.queue) > maxAtOnce || t.behind {
			break
		}
		if !p.writeNow(t) || len(p.queue)+len(p.first) == 0 {
			return nil
		}
	}
	p.ring()
	return nil
}

// writeNow writes what is in line, and reports whether the connection is still there. The caller holds the lock, and does not while
// it writes.
func (p *peer) writeNow(t *pipe) bool {
	t.writing = true
	batch, held := p.queue, p.held
	p.queue = t.spare[:0]
	p.mu.Unlock()
	all, err := t.try(batch)
	p.mu.Lock()
	t.writing = false
	if t.spare = batch; cap(batch) > maxIdleBuffer {
		t.spare = nil
	}
	if p.out != t {
		return false
	}
	if err != nil {
		cut(t.conn) // whoever reads finds out
		return false
	}
	if t.behind = !all; t.behind {
		p.ring()
	}
	p.written(&held)
	return true
}

// maxAhead bounds what goes first to one peer, in bytes: it is small and often repeated, and what does not fit is lost.
const maxAhead = 1 << 20

// offerFirst puts a frame in line before all that wait, but for those that came this way.
func (p *peer) offerFirst(kind byte, frame []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.putFirst(kind, frame)
	if err != nil {
		p.dropped++
	}
	return err
}

// putFirst is offerFirst for who holds the lock.
func (p *peer) putFirst(kind byte, frame []byte) error {
	size := len(frame) + frameHead
	switch {
	case !p.up:
		return errDown
	case p.ahead+size > maxAhead:
		return errFull
	}
	p.first = appendFrame(p.first, kind, frame)
	p.ahead += size
	p.sent++
	p.bytes += uint64(size)
	p.ring()
	return nil
}

// wait puts a frame in line as soon as there is a connection and room.
func (p *peer) wait(ctx context.Context, kind byte, frame []byte) error {
	for {
		p.mu.Lock()
		err := p.put(kind, frame)
		if err == nil {
			p.ring()
		}
		if p.moved == nil {
			p.moved = make(chan struct{})
		}
		moved := p.moved
		p.mu.Unlock()
		if err != errDown && err != errFull {
			return err
		}
		select {
		case <-moved:
		case <-p.done:
			return errClosed
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
}

// move tells those who wait that something has changed. The caller holds the lock.
func (p *peer) move() {
	if p.moved != nil {
		close(p.moved)
		p.moved = nil
	}
}

// run keeps a connection to the peer until Close.
func (p *peer) run() {
	defer close(p.done)
	pause, known := firstPause, ""
	for {
		conn, _, err := p.l.dial(p.l.ctx, p.name, control)
		if err == nil {
			pause, known = firstPause, ""
			err = p.carry(conn)
		}
		if p.l.ctx.Err() != nil || p.l.drop(p) {
			return
		}
		if text := err.Error(); text != known {
			known = text
			p.l.cfg.Log.Info("a peer cannot be reached; trying again", "peer", p.name, "error", err)
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
			pause = min(2*pause, lastPause)
		case <-p.kick:
			pause = firstPause
		case <-p.l.ctx.Done():
		}
		timer.Stop()
	}
}

// carry sends frames over a connection until it breaks.
func (p *peer) carry(conn net.Conn) error {
	broken := make(chan error, 1)
	go func() { broken <- p.listen(conn) }()
	p.mu.Lock()
	t := newPipe(conn)
	p.up, p.out = true, t
	p.outHeard.Store(int64(p.l.elapsed()))
	p.mu.Unlock()
	p.l.connected(p.name)
	p.mu.Lock()
	p.move()
	p.mu.Unlock()
	p.l.cfg.Log.Info("a peer is connected", "peer", p.name, "address", conn.RemoteAddr())

	err := p.write(t, broken)

	p.mu.Lock()
	p.up, p.out, p.queue, p.held, p.first, p.ahead = false, nil, nil, [maxKinds]int{}, nil, 0
	p.move()
	p.mu.Unlock()
	p.l.forget(conn)
	cut(conn)
	if err == nil {
		err = errors.New("peerlink: the connection ended")
	} else {
		<-broken
	}
	p.l.broke(p.name, false)
	return err
}

// claim has the caller be the one that writes on a pipe, unless another is, who will look again.
func (p *peer) claim(t *pipe) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	claimed := !t.writing
	t.writing = true
	return claimed
}

// write writes what is in line, until the connection breaks. It returns nil when broken said so.
func (p *peer) write(t *pipe, broken <-chan error) error {
	var spare, spareFirst []byte
	for {
		select {
		case <-p.wake:
		case <-broken:
			return nil
		}
		runtime.Gosched() // who has sent one frame is about to send more
		if !p.claim(t) {
			continue
		}
		if err := t.out.drain(); err != nil {
			return err
		}
		for {
			p.mu.Lock()
			t.behind = false
			if len(p.queue)+len(p.first) == 0 {
				t.writing = false
				p.mu.Unlock()
				break
			}
			batch := p.queue
			p.queue = spare[:0]
			held := p.held
			p.mu.Unlock()
			var err error
			if spareFirst, err = p.pushFirst(t.conn, spareFirst); err != nil {
				return err
			}
			if len(batch) == 0 {
				spare = batch
				continue
			}
			if spareFirst, err = p.push(t.conn, batch, spareFirst); err != nil {
				return err
			}
			spare = batch
			if cap(spare) > maxIdleBuffer {
				spare = nil
			}
			p.mu.Lock()
			p.written(&held)
			p.mu.Unlock()
		}
	}
}

// writeStep is how much is written at once, or a frame that is larger: a peer that has taken so much is there, even while the
// answer to a ping has to wait behind the rest. What goes first goes between two steps.
const writeStep = 256 << 10

// push writes a batch, and between its steps what goes first. spare is room for that.
func (p *peer) push(conn net.Conn, batch, spare []byte) (_ []byte, err error) {
	for len(batch) > 0 {
		n := step(batch)
		if err := p.drain(conn, batch[:n]); err != nil {
			return spare, err
		}
		if batch = batch[n:]; len(batch) > 0 {
			if spare, err = p.pushFirst(conn, spare); err != nil {
				return spare, err
			}
		}
	}
	return spare, nil
}

// step is the length of the first frames of a batch that are written at once.
func step(batch []byte) (n int) {
	for n < len(batch) {
		size := 4 + int(binary.BigEndian.Uint32(batch[n:]))
		if n > 0 && n+size > writeStep {
			break
		}
		n += size
	}
	return n
}

// drain writes bytes, and notes that the peer takes them.
func (p *peer) drain(conn net.Conn, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), writeStep)
		if _, err := conn.Write(b[:n]); err != nil {
			return err
		}
		if b = b[n:]; len(b) > 0 {
			p.outHeard.Store(int64(p.l.elapsed()))
		}
	}
	return nil
}

// pushFirst writes what goes first. spare is room for what comes meanwhile; another is returned.
func (p *peer) pushFirst(conn net.Conn, spare []byte) ([]byte, error) {
	p.mu.Lock()
	first := p.first
	p.first = spare[:0]
	p.mu.Unlock()
	if len(first) == 0 {
		return first, nil
	}
	err := p.drain(conn, first)
	p.mu.Lock()
	p.ahead -= len(first)
	p.mu.Unlock()
	return first, err
}

// written takes what has been written from what is held. The caller holds the lock.
func (p *peer) written(batch *[maxKinds]int) {
	for k := range batch {
		p.held[k] -= batch[k]
	}
	p.move()
}

// listen hears the answers to pings on a connection that this node opened, until it ends.
func (p *peer) listen(conn net.Conn) error {
	defer cut(conn)
	r := reader{from: conn, most: maxHello, heard: func() { p.hear(&p.outHeard) }, buf: make([]byte, 256)}
	for {
		kind, frame, err := r.next()
		if err != nil {
			return err
		}
		if at, ok := clockOf(frame, pong); ok && kind == control {
			p.trip.Store(int64(p.l.elapsed() - at))
		}
	}
}

// hear notes that something came, and over which connection.
func (p *peer) hear(on *atomic.Int64) {
	now := int64(p.l.elapsed())
	p.heard.Store(now)
	on.Store(now)
}

// silent reports whether nothing has come over a connection for too long.
func (p *peer) silent(on *atomic.Int64) bool {
	return p.l.elapsed()-time.Duration(on.Load()) > p.l.cfg.DeadAfter
}

// clockOf reads a control frame.
func clockOf(frame []byte, tag byte) (at time.Duration, ok bool) {
	if len(frame) != 9 || frame[0] != tag {
		return 0, false
	}
	return time.Duration(binary.BigEndian.Uint64(frame[1:])), true
}

// tend asks the peer whether it is there, and gives up connections that are silent.
func (p *peer) tend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.out != nil {
		if p.silent(&p.outHeard) {
			cut(p.out.conn) // whoever reads or writes finds out
		} else { // also where others go first at this moment: on a busy link there always are some
			_ = p.putFirst(control, binary.BigEndian.AppendUint64([]byte{ping}, uint64(p.l.elapsed()))) // up, small, and few wait until the link is given up
		}
	}
	if p.in != nil && p.silent(&p.inHeard) {
		cut(p.in)
	}
}

func (p *peer) stats() PeerStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PeerStats{
		Peer: p.name, Connected: p.up, Heard: p.l.elapsed() - time.Duration(p.heard.Load()), RoundTrip: time.Duration(p.trip.Load()),
		Sent: p.sent, SentBytes: p.bytes, Dropped: p.dropped,
	}
}

// address is where a node listens: as the picture of the cluster has it, or as the node itself has said.
func (l *Links) address(of string) string {
	if l.cfg.Address != nil {
		if a := l.cfg.Address(of); a != "" {
			return a
		}
	}
	l.mu.Lock()
	p := l.peers[of]
	l.mu.Unlock()
	if p == nil {
		return ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.address
}

// forgetAfter is how long a link is kept that nobody asks for, to a node whose address is not known: one that has left the
// cluster.
const forgetAfter = time.Minute

// drop forgets a link that is of no more use.
func (l *Links) drop(p *peer) bool {
	if l.address(p.name) != "" || l.elapsed()-time.Duration(p.used.Load()) < forgetAfter {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.in != nil {
		return false
	}
	delete(l.peers, p.name)
	return true
}

// cut ends a connection at once, whatever waits to be written.
func cut(conn net.Conn) {
	if sealed, ok := conn.(*tls.Conn); ok {
		conn = sealed.NetConn()
	}
	_ = conn.Close() // it may be broken already
}
