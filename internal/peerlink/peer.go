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
//	Q1: queue holds whole frames, and is empty while up is false
//	Q2: held[k] is the number of bytes of kind k in queue and in what is being written
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
	moved   chan struct{} // closed, and made anew, when there may be room or a connection
	out     net.Conn      // nil while up is false
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
	}
	return err
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
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}

// wait puts a frame in line as soon as there is a connection and room.
func (p *peer) wait(ctx context.Context, kind byte, frame []byte) error {
	for {
		p.mu.Lock()
		err := p.put(kind, frame)
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
	close(p.moved)
	p.moved = make(chan struct{})
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
	p.up, p.out = true, conn
	p.outHeard.Store(int64(p.l.elapsed()))
	p.mu.Unlock()
	p.l.connected(p.name)
	p.mu.Lock()
	p.move()
	p.mu.Unlock()
	p.l.cfg.Log.Info("a peer is connected", "peer", p.name, "address", conn.RemoteAddr())

	err := p.write(conn, broken)

	p.mu.Lock()
	p.up, p.out, p.queue, p.held = false, nil, nil, [maxKinds]int{}
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

// write writes what is in line, all of it at once, until the connection breaks. It returns nil when broken said so.
func (p *peer) write(conn net.Conn, broken <-chan error) error {
	var spare []byte
	for {
		select {
		case <-p.wake:
		case <-broken:
			return nil
		}
		runtime.Gosched() // who has sent one frame is about to send more
		for {
			p.mu.Lock()
			batch := p.queue
			p.queue = spare[:0]
			held := p.held
			p.mu.Unlock()
			if len(batch) == 0 {
				spare = batch
				break
			}
			if err := p.push(conn, batch); err != nil {
				return err
			}
			spare = batch
			if cap(spare) > maxIdleBuffer {
				spare = nil
			}
			p.written(&held)
		}
	}
}

// writeStep is how much is written at once: a peer that has taken so much is there, even while the answer to a ping has
// to wait behind the rest.
const writeStep = 256 << 10

// push writes a batch.
func (p *peer) push(conn net.Conn, batch []byte) error {
	for len(batch) > writeStep {
		if _, err := conn.Write(batch[:writeStep]); err != nil {
			return err
		}
		batch = batch[writeStep:]
		p.outHeard.Store(int64(p.l.elapsed()))
	}
	_, err := conn.Write(batch)
	return err
}

// written takes what has been written from what is held.
func (p *peer) written(batch *[maxKinds]int) {
	p.mu.Lock()
	defer p.mu.Unlock()
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
			cut(p.out) // whoever reads or writes finds out
		} else if p.held[control] == 0 {
			_ = p.put(control, binary.BigEndian.AppendUint64([]byte{ping}, uint64(p.l.elapsed()))) // up, small, and none waits
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
