package peerlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"
)

// Serve accepts other nodes on a listener until it is closed, by the caller or by Close. Without TLS it has to listen on
// this machine's own address.
func (l *Links) Serve(listener net.Listener) error {
	if err := l.local(listener.Addr()); err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	if !l.spawn(func() {
		select {
		case <-l.ctx.Done():
			_ = listener.Close() // it may be closed already
		case <-ended:
		}
	}) {
		return listener.Close()
	}
	for {
		conn, err := listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			l.cfg.Log.Warn("a peer could not be accepted", "error", err)
			select {
			case <-time.After(firstPause): // out of file descriptors, most likely
			case <-l.ctx.Done():
			}
			continue
		}
		if !l.greet(conn) {
			_ = conn.Close() // nothing was said
		}
	}
}

// greet takes a connection on, unless too many have not said yet who they are.
func (l *Links) greet(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || l.greeting >= maxGreeting {
		return false
	}
	l.greeting++
	l.conns[conn] = true
	l.work.Go(func() { l.serve(conn) })
	return true
}

// serve serves one connection that another node has opened.
func (l *Links) serve(plain net.Conn) {
	defer l.forget(plain)
	defer plain.Close()
	conn, theirs, err := l.welcome(plain)
	l.mu.Lock()
	l.greeting--
	l.mu.Unlock()
	if err != nil {
		if l.ctx.Err() == nil {
			l.cfg.Log.Warn("a peer was turned away", "address", plain.RemoteAddr(), "error", err)
		}
		return
	}
	if theirs.Stream != control {
		if fn := l.streams[theirs.Stream].Load(); fn != nil {
			s := &stream{Conn: conn, l: l}
			defer s.Close()
			(*fn)(theirs.From, s)
		}
		return
	}
	if p := l.peer(theirs.From); p != nil {
		p.receive(conn, theirs)
	}
}

// receive hands out the frames of a connection, once those of the one before have been handled (P1).
func (p *peer) receive(conn net.Conn, theirs hello) {
	done := make(chan struct{})
	defer close(done)
	p.hear(&p.inHeard)
	p.mu.Lock()
	before, beforeDone := p.in, p.inDone
	p.in, p.inDone, p.address = conn, done, theirs.Address
	p.mu.Unlock()
	if before != nil {
		cut(before) // the peer has left it
	}
	if beforeDone != nil {
		<-beforeDone
	}
	select {
	case p.kick <- struct{}{}:
	default:
	}
	err := p.handle(conn)
	p.mu.Lock()
	if p.in == conn {
		p.in, p.inDone, p.address = nil, nil, "" // where it is when it comes again, it says again
	}
	p.mu.Unlock()
	if p.l.ctx.Err() == nil {
		p.l.cfg.Log.Info("a peer's connection ended", "peer", p.name, "error", err)
	}
	p.l.broke(p.name, true)
}

// handle hands out frames until the connection ends.
func (p *peer) handle(conn net.Conn) error {
	r := reader{from: conn, most: p.l.cfg.MaxFrame, heard: func() { p.hear(&p.inHeard) }}
	var given [maxKinds]bool
	for {
		if !r.whole() {
			p.end(&given)
		}
		kind, frame, err := r.next()
		if err != nil {
			return err
		}
		switch {
		case kind == control:
			if at, ok := clockOf(frame, ping); ok {
				err = answer(conn, at, p.l.cfg.DeadAfter)
			}
		case kind >= maxKinds:
			err = fmt.Errorf("peerlink: a frame of kind %d, which is not known", kind)
		default:
			if fn := p.l.handlers[kind].Load(); fn != nil {
				(*fn)(p.name, frame)
				given[kind] = true
			}
		}
		if err != nil {
			return err
		}
	}
}

// end tells those who were given frames that these were all.
func (p *peer) end(given *[maxKinds]bool) {
	for kind, some := range given {
		if fn := p.l.ends[kind].Load(); some && fn != nil {
			(*fn)(p.name)
		}
	}
	*given = [maxKinds]bool{}
}

// answer answers a ping, which repeats the clock of who asked.
func answer(conn net.Conn, at, within time.Duration) error {
	if err := conn.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err := conn.Write(appendFrame(nil, control, binary.BigEndian.AppendUint64([]byte{pong}, uint64(at))))
	return err
}
