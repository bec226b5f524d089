package wire

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// engines are the event loops of a server. A connection belongs to one of them from its first byte to its last, unless it
// turns out to speak TLS: then it gets a goroutine of its own (see conn).
type engines struct {
	srv     *Server
	loops   []*loop
	next    atomic.Uint32 // who gets the next connection
	running sync.WaitGroup
}

// A loop serves connections with one goroutine: it waits until some of them have something to read, room to write or mail,
// and has each take a turn. A request costs it one system call to read and one to write, like redis-server and memcached.
//
// Nothing in a turn may wait. What a session's Feed leads to is in this process and short; a command that has to wait for others
// is theirs, and its session is held until its mail has the answer.
//
//	L1: only the loop's goroutine touches its connections and their sessions; others go through wake
//	L2: a connection whose output or input waits for the client, or whose input waits for another turn, is armed for
//	    exactly what can set it going again, or stands in again
//	L3: a buffer that all is read out of, or sent from, is the loop's: an idle connection has none
type loop struct {
	srv   *Server
	poll  int // epoll
	bed   bed
	event []syscall.EpollEvent
	alarm *time.Timer // for tick
	room  any         // what its sessions share; see Config.Room
	buf   []byte      // what is read, for whoever is fed
	spare [][]byte    // buffers for output

	slots   []*client // by the number that epoll knows them by; nil for free ones
	free    []int32
	written []*client // have output to send at the end of this turn
	again   []*client // have input to be fed in the next turn

	asleep atomic.Bool
	mu     sync.Mutex
	mail   []*client // were woken
	fresh  []*client // were accepted
	order  order     // what Shutdown asked for
	obeyed order     // how far that is done
	late   bool      // it is time for tick
	others []*client // reused for mail

	lastTick  int64
	lastYield int64
}

// An order is what a loop is told when the server stops, each more than the one before.
type order uint8

const (
	serve  order = iota
	finish       // connections that have not spoken end; the others have it in their mail
	cutAll       // all connections end
	leave        // there are none any more, and the loop ends
)

// A client is a connection of a loop.
type client struct {
	visit
	l      *loop
	local  string // the address that it connected to
	fd     int
	slot   int32
	armed  uint32  // what epoll waits for
	s      Session // nil before the first byte for it
	tag    any     // of the listener
	in     []byte  // what was read and not yet fed
	due    atomic.Bool
	eof    bool // the client sends no more
	queued bool // it stands in written
	waits  bool // it stands in again
	lent   bool // its session has room for output
	mailed bool // it has mail that waits until its output is sent
	dead   bool
	began  int64 // when it was accepted, in nanoseconds since 1970

	stuck    int64 // since when output waits for the client, 0 for not at all
	stuckFor int   // how much did then
	taken    int   // how much it took since
}

// Bounds of a turn.
const (
	loopBuffer  = 64 << 10 // what is read of a connection at once
	maxWrite    = 1 << 20  // what is written to it at once
	maxSpare    = 64       // buffers that a loop keeps
	tickEvery   = time.Second
	yieldEvery  = int64(time.Millisecond)
	epollBuffer = 256
)

// startEngines returns the loops, which it starts if need be; nil when they cannot be, or must not.
func (srv *Server) startEngines() *engines {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.engines != nil || srv.closed || srv.Waits {
		return srv.engines
	}
	e := &engines{srv: srv}
	for range srv.Loops {
		l, err := newLoop(srv)
		if err != nil {
			srv.Log.Warn("there are no event loops; each connection gets a goroutine", "error", err)
			for _, l := range e.loops {
				l.close()
			}
			return nil
		}
		e.loops = append(e.loops, l)
	}
	for _, l := range e.loops {
		e.running.Go(l.run)
	}
	srv.engines = e
	return e
}

// stop gives the loops an order.
func (e *engines) stop(o order) {
	if e == nil {
		return
	}
	for _, l := range e.loops {
		l.mu.Lock()
		l.order = o
		l.mu.Unlock()
		l.ring()
	}
}

func (e *engines) wait() {
	if e != nil {
		e.running.Wait()
	}
}

// accept gives new connections to the loops in turn, until t is closed.
func (e *engines) accept(t *net.TCPListener, tag any) error {
	for {
		c, err := t.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && temporary(err):
			e.srv.breathe(err)
		case err != nil:
			return err
		default:
			fd, err := takeOver(c)
			if err != nil {
				e.srv.breathe(err)
				continue
			}
			e.welcome(fd, addrPort(c.RemoteAddr()), c.LocalAddr().String(), tag)
		}
	}
}

// takeOver takes a connection's descriptor away from Go's own poller. The descriptor does not block.
func takeOver(c *net.TCPConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, errors.Join(err, c.Close())
	}
	var failed error
	err = raw.Control(func(of uintptr) {
		n, _, errno := syscall.Syscall(syscall.SYS_FCNTL, of, syscall.F_DUPFD_CLOEXEC, 0)
		if fd = int(n); errno != 0 {
			failed = os.NewSyscallError("fcntl", errno)
		}
	})
	return fd, errors.Join(err, failed, c.Close())
}

// welcome begins a connection, or closes it.
func (e *engines) welcome(fd int, source netip.AddrPort, local string, tag any) {
	tell := func(b []byte) { _, _ = syscall.Write(fd, b) } // it is closed anyway
	if !e.srv.admit() {
		tell([]byte(e.srv.Full))
		_ = syscall.Close(fd)
		return
	}
	v := e.srv.visitor(source)
	if err := v.enter(); err != nil {
		e.srv.refuse(err, v, tell)
		_ = syscall.Close(fd)
		e.srv.dismiss()
		return
	}
	_ = syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1) // it is slower without
	keepAlive(fd)
	l := e.loops[int(e.next.Add(1))%len(e.loops)]
	c := &client{visit: *v, l: l, fd: fd, local: local, tag: tag, slot: -1, began: time.Now().UnixNano()}
	l.mu.Lock()
	l.fresh = append(l.fresh, c)
	l.mu.Unlock()
	l.ring()
}

// keepAlive has the kernel find out within five minutes about clients that vanished (specification R25).
func keepAlive(fd int) {
	for _, o := range [][3]int{
		{syscall.SOL_SOCKET, syscall.SO_KEEPALIVE, 1}, {syscall.IPPROTO_TCP, syscall.TCP_KEEPIDLE, 60},
		{syscall.IPPROTO_TCP, syscall.TCP_KEEPINTVL, 15}, {syscall.IPPROTO_TCP, syscall.TCP_KEEPCNT, 8},
	} {
		_ = syscall.SetsockoptInt(fd, o[0], o[1], o[2]) // it lives on without
	}
}

// addrPort is where a connection comes from.
func addrPort(from net.Addr) netip.AddrPort {
	t, ok := from.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := t.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
}

func newLoop(srv *Server) (*loop, error) {
	poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	l := &loop{srv: srv, poll: poll, event: make([]syscall.EpollEvent, epollBuffer), room: srv.Room(), buf: make([]byte, loopBuffer)}
	makeBed := newOwnBed
	if srv.Shared {
		makeBed = newSharedBed
	}
	if l.bed, err = makeBed(l); err != nil {
		return nil, err
	}
	l.alarm = time.AfterFunc(tickEvery, func() {
		l.mu.Lock()
		l.late = true
		l.mu.Unlock()
		l.ring()
	})
	return l, nil
}

func (l *loop) close() {
	l.alarm.Stop()
	l.bed.close()
}

// ring wakes the loop up, from any goroutine.
func (l *loop) ring() {
	if l.asleep.CompareAndSwap(true, false) {
		l.bed.ring()
	}
}

// wake has the session attended to, soon, from any goroutine.
func (c *client) wake() {
	if c.due.CompareAndSwap(false, true) {
		c.l.mu.Lock()
		c.l.mail = append(c.l.mail, c)
		c.l.mu.Unlock()
		c.l.ring()
	}
}

// run serves until the loop is to end and has no connections.
func (l *loop) run() {
	defer l.close()
	busy := false
	for {
		n := l.wait(busy)
		busy = n > 1
		if !l.turn(n) {
			return
		}
		for _, c := range l.written {
			c.queued = false
			if !c.dead {
				l.send(c)
			}
		}
		clear(l.written)
		l.written = l.written[:0]
		now := time.Now().UnixNano()
		if now-l.lastTick > int64(tickEvery) {
			l.lastTick = now
			l.tick(now)
			l.alarm.Reset(tickEvery)
		}
		if now-l.lastYield > yieldEvery { // a busy loop would keep others off this processor
			runtime.Gosched()
			l.lastYield = now
		}
	}
}

// turn sees to n events, and to what was left over. It reports whether the loop goes on.
func (l *loop) turn(n int) bool {
	h := l.hold()
	defer h.release()
	for i := range l.event[:n] {
		if slot := l.event[i].Fd; slot != bellSlot && l.slots[slot] != nil {
			l.ready(l.slots[slot], l.event[i].Events)
		}
		h.renew()
	}
	l.feedAgain()
	return l.sort()
}

// A hold keeps together what the sessions ask for that are fed in one turn: see Turns.
type hold struct {
	by    Turns // nil for nobody
	since time.Time
}

// holdFor is for how long sessions are fed before those are seen to that have been.
const holdFor = 500 * time.Microsecond

func (l *loop) hold() hold {
	h := hold{by: l.srv.Turns}
	if h.by != nil {
		h.by.Hold()
		h.since = time.Now()
	}
	return h
}

// renew lets go for a moment of what has been held for long.
func (h *hold) renew() {
	if h.by != nil && time.Since(h.since) > holdFor {
		h.by.Release()
		h.by.Hold()
		h.since = time.Now()
	}
}

func (h *hold) release() {
	if h.by != nil {
		h.by.Release()
	}
}

// wait returns how many events there are. A loop that was busy looks before it lies down, which is cheaper when there is
// something to do.
func (l *loop) wait(busy bool) int {
	if busy || len(l.again) > 0 {
		if n := l.glance(); n > 0 || len(l.again) > 0 {
			return max(n, 0)
		}
	}
	l.asleep.Store(true)
	defer l.asleep.Store(false)
	l.mu.Lock()
	more := l.news()
	l.mu.Unlock()
	if more {
		return max(l.glance(), 0)
	}
	n, err := l.bed.sleep() // what it is rung for has been left before, and is found now
	if err != nil {
		l.srv.Log.Error("epoll", "error", err)
		time.Sleep(100 * time.Millisecond)
	}
	return n
}

// glance returns how many events there are at this moment, -1 for an error.
func (l *loop) glance() int {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(l.poll), uintptr(unsafe.Pointer(&l.event[0])), uintptr(len(l.event)), 0, 0, 0)
	switch {
	case errno == syscall.EINTR:
		return 0
	case errno != 0:
		return -1
	}
	return int(n)
}

// news reports whether others have left something for the loop. The caller holds the lock.
func (l *loop) news() bool {
	return len(l.mail) > 0 || len(l.fresh) > 0 || l.late || l.order != l.obeyed
}

// sort goes through what others have left for the loop. It reports whether the loop goes on.
func (l *loop) sort() bool {
	l.mu.Lock()
	if !l.news() {
		l.mu.Unlock()
		return true
	}
	mail, fresh, o := l.mail, l.fresh, l.order
	if l.late {
		l.late, l.lastTick = false, 0
	}
	l.mail, l.fresh, l.obeyed = l.others[:0], nil, o
	l.mu.Unlock()
	for _, c := range mail {
		c.due.Store(false)
		if !c.dead {
			l.attend(c)
		}
	}
	clear(mail)
	l.others = mail
	for _, c := range fresh {
		l.add(c)
	}
	if o == serve {
		return true
	}
	for _, c := range l.slots {
		if c != nil && (o >= cutAll || c.s == nil) {
			l.end(c)
		}
	}
	return o < leave
}

// add begins to serve a connection.
func (l *loop) add(c *client) {
	if n := len(l.free); n > 0 {
		c.slot = l.free[n-1]
		l.free = l.free[:n-1]
		l.slots[c.slot] = c
	} else {
		c.slot = int32(len(l.slots))
		l.slots = append(l.slots, c)
	}
	c.armed = syscall.EPOLLIN | syscall.EPOLLRDHUP
	if err := syscall.EpollCtl(l.poll, syscall.EPOLL_CTL_ADD, c.fd, &syscall.EpollEvent{Events: c.armed, Fd: c.slot}); err != nil {
		l.srv.Log.Warn("a connection cannot be served", "protocol", l.srv.Protocol, "peer", c.source, "error", os.NewSyscallError("epoll_ctl", err))
		l.end(c)
	}
}

// release takes a connection off the loop and leaves its socket alone.
func (l *loop) release(c *client) {
	c.dead = true
	l.slots[c.slot] = nil
	l.free = append(l.free, c.slot)
	c.over()
}

// end closes a connection.
func (l *loop) end(c *client) {
	if c.dead {
		return
	}
	l.release(c)
	_ = syscall.Close(c.fd) // epoll forgets it
	if c.s != nil {
		c.s.Close()
		c.s.TakeOutput()
	}
	c.in = nil
	l.srv.dismiss()
}

// arm has epoll wait for what can set the connection going again (L2).
func (l *loop) arm(c *client) {
	want := uint32(0)
	unsent := 0
	blocked := false
	if c.s != nil {
		unsent, blocked = len(c.s.Output()), c.s.Blocked()
	}
	switch {
	case c.eof, c.s != nil && c.s.Closing():
	case unsent >= SoftOutput:
	case len(c.in) > maxUnread && blocked && c.s.Held(): // it goes on by itself
	case len(c.in) > maxUnread && blocked:
		want = syscall.EPOLLRDHUP
	case len(c.in) > maxUnread && unsent > 0:
	default:
		want = syscall.EPOLLIN | syscall.EPOLLRDHUP
	}
	if unsent > 0 {
		want |= syscall.EPOLLOUT
	}
	if want == c.armed {
		return
	}
	c.armed = want
	if err := syscall.EpollCtl(l.poll, syscall.EPOLL_CTL_MOD, c.fd, &syscall.EpollEvent{Events: want, Fd: c.slot}); err != nil {
		l.srv.Log.Warn("a connection cannot be served any more", "protocol", l.srv.Protocol, "peer", c.source, "error", os.NewSyscallError("epoll_ctl", err))
		l.end(c)
	}
}

// ready has a connection take its turn.
func (l *loop) ready(c *client, events uint32) {
	if events&syscall.EPOLLERR != 0 || (events&(syscall.EPOLLHUP|syscall.EPOLLRDHUP) != 0 && c.armed&syscall.EPOLLIN == 0) {
		l.end(c)
		return
	}
	if events&syscall.EPOLLOUT != 0 {
		l.queue(c)
	}
	if events&(syscall.EPOLLIN|syscall.EPOLLRDHUP|syscall.EPOLLHUP) != 0 && c.armed&syscall.EPOLLIN != 0 {
		l.read(c)
	}
}

// queue has the connection's output sent at the end of the turn.
func (l *loop) queue(c *client) {
	if !c.queued {
		c.queued = true
		l.written = append(l.written, c)
	}
}

// read takes what has come, once, and feeds it.
func (l *loop) read(c *client) {
	buf := l.buf
	if len(c.in) > 0 {
		c.grow()
		buf = c.in[len(c.in):cap(c.in)]
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
	switch {
	case errno == syscall.EAGAIN, errno == syscall.EINTR:
		return
	case errno != 0:
		l.end(c)
		return
	case n == 0:
		l.hangUp(c)
		return
	}
	if len(c.in) > 0 {
		c.in = c.in[:len(c.in)+int(n)]
		l.feed(c, c.in)
		return
	}
	l.feed(c, buf[:n])
}

// grow makes room behind the input that waits: for the command under way when its length is known, but never more than
// what has come already, so that a length costs the client as many bytes as us.
func (c *client) grow() {
	if cap(c.in)-len(c.in) >= readChunk/4 {
		return
	}
	size := max(2*len(c.in), readChunk)
	if c.s != nil {
		if need := c.s.Pending(); need > len(c.in) {
			size = min(size, max(need, len(c.in)+readChunk))
		}
	}
	c.in = append(make([]byte, 0, size), c.in...)
}

// hangUp is what follows when the client sends no more. One that waits for a command, or has sent less than one, is gone;
// another gets the replies that it has coming.
func (l *loop) hangUp(c *client) {
	if c.s == nil || !c.s.Held() && !c.due.Load() && len(c.s.Output()) == 0 && (c.s.Blocked() || !c.waits) {
		l.end(c)
		return
	}
	c.eof = true
	l.arm(c)
}

// begin finds out from its first bytes what a connection is, and returns what is for its session, nil for nothing yet.
func (l *loop) begin(c *client, b []byte) []byte {
	skip, known, err := c.look(b)
	if err != nil {
		l.srv.refuse(err, &c.visit, func(text []byte) { _, _ = syscall.Write(c.fd, text) }) // it is closed anyway
		l.end(c)
		return nil
	}
	b = b[skip:]
	if !known {
		c.in = append([]byte(nil), b...)
		return nil
	}
	if b[0] == handshake {
		l.handOff(c, b)
		return nil
	}
	s, refusal := l.srv.Begin(Hello{Source: c.source, Local: c.local, Room: l.room, Loop: true, Wake: c.wake}, c.tag)
	if s == nil {
		_, _ = syscall.Write(c.fd, []byte(refusal)) // it is closed anyway
		l.end(c)
		return nil
	}
	c.s = s
	if c.s.Summoned() { // the server stops
		c.wake()
	}
	return b
}

// handOff gives a connection that speaks TLS to a goroutine of its own.
func (l *loop) handOff(c *client, b []byte) {
	if l.srv.TLS == nil {
		l.end(c)
		return
	}
	read := append([]byte(nil), b...)
	l.release(c)
	if err := syscall.EpollCtl(l.poll, syscall.EPOLL_CTL_DEL, c.fd, nil); err != nil {
		l.srv.Log.Warn("a connection cannot be served", "protocol", l.srv.Protocol, "peer", c.source, "error", os.NewSyscallError("epoll_ctl", err))
	}
	f := os.NewFile(uintptr(c.fd), "")
	conn, err := net.FileConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		l.srv.Log.Warn("a connection cannot be served", "protocol", l.srv.Protocol, "peer", c.source, "error", err)
		l.srv.dismiss()
		return
	}
	go l.srv.handle(&from{Conn: conn, at: c.source}, read, c.tag)
}

// hungUp reports whether the client at the other end sends no more, without reading what it has sent.
func hungUp(c net.Conn) bool {
	if f, ok := c.(*from); ok {
		c = f.Conn
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		poll, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			return // it is asked again
		}
		defer func() { _ = syscall.Close(poll) }() // nothing was written to it
		events := make([]syscall.EpollEvent, 1)
		if syscall.EpollCtl(poll, syscall.EPOLL_CTL_ADD, int(fd), &syscall.EpollEvent{Events: syscall.EPOLLRDHUP}) != nil {
			return
		}
		n, err := syscall.EpollWait(poll, events, 0)
		gone = err == nil && n > 0
	})
	return err != nil || gone
}

// from is a connection on behalf of somebody, as its proxy has said.
type from struct {
	net.Conn
	at netip.AddrPort
}

func (f *from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(f.at) }

// feed gives the session what has come, b, which is c.in or begins with what is in it. What it leaves is kept.
func (l *loop) feed(c *client, b []byte) {
	used := 0
	if c.s == nil {
		rest := l.begin(c, b)
		if c.s == nil {
			return
		}
		used = len(b) - len(rest)
	}
	if !c.s.Blocked() && !c.s.Closing() {
		l.lend(c)
		used += c.s.Feed(b[used:])
		if c.counted && c.s.Known() {
			c.over()
		}
	}
	l.keep(c, b[used:], used)
	if len(c.in) > 0 && !c.s.Blocked() && !c.s.Closing() && len(c.s.Output()) >= SoftOutput {
		l.repeat(c) // after what it has to say is sent
	}
	if len(c.s.Output()) > 0 || c.s.Closing() {
		l.queue(c)
		return
	}
	if c.eof && !c.waits && !c.s.Held() && !c.due.Load() {
		l.end(c)
		return
	}
	l.unlend(c)
	l.arm(c)
}

// repeat has the rest of the input fed in the next turn.
func (l *loop) repeat(c *client) {
	if !c.waits {
		c.waits = true
		l.again = append(l.again, c)
	}
}

// keep puts rest aside, which is the end of the input of which used bytes are done with.
func (l *loop) keep(c *client, rest []byte, used int) {
	switch {
	case len(rest) == 0:
		c.in = nil
	case len(c.in) > 0:
		if used > 0 {
			c.in = append(c.in[:0], rest...)
		}
		if cap(c.in) > maxKept && len(c.in) < cap(c.in)/8 {
			c.in = append([]byte(nil), c.in...)
		}
	default:
		c.in = append([]byte(nil), rest...)
	}
}

// feedAgain feeds what was left over.
func (l *loop) feedAgain() {
	if len(l.again) == 0 {
		return
	}
	list := l.again
	l.again = nil
	for _, c := range list {
		c.waits = false
		if !c.dead && len(c.in) > 0 && len(c.s.Output()) < SoftOutput {
			l.feed(c, c.in)
		}
	}
}

// attend reads the session's mail. While the client does not take what it has been sent, the mail piles up where it is
// counted.
func (l *loop) attend(c *client) {
	if c.s == nil {
		return
	}
	if len(c.s.Output()) >= maxKept && !c.s.Summoned() {
		c.mailed = true // see send
		return
	}
	l.lend(c)
	goesOn := c.s.Attend()
	if c.counted && c.s.Known() {
		c.over()
	}
	if goesOn && len(c.in) > 0 {
		l.feed(c, c.in)
		if c.dead {
			return
		}
	}
	if c.s.Cut() {
		l.end(c)
		return
	}
	l.queue(c)
}

// lend gives the session room to write in.
func (l *loop) lend(c *client) {
	if c.lent || c.s.Held() {
		return
	}
	c.lent = true
	if n := len(l.spare); n > 0 {
		c.s.Lend(l.spare[n-1])
		l.spare = l.spare[:n-1]
		return
	}
	c.s.Lend(make([]byte, 0, 1024))
}

// unlend takes it back from a session that has nothing to say (L3).
func (l *loop) unlend(c *client) {
	if c.s.Held() {
		return
	}
	room := c.s.TakeOutput()
	c.lent = false
	if room != nil && len(l.spare) < maxSpare {
		l.spare = append(l.spare, room)
	}
}

// send writes what the session has to say, as far as the client takes it.
func (l *loop) send(c *client) {
	if c.s == nil {
		return
	}
	b := c.s.Output()
	for len(b) > 0 {
		piece := b[:min(len(b), maxWrite)]
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(c.fd), uintptr(unsafe.Pointer(&piece[0])), uintptr(len(piece)))
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 && errno != syscall.EAGAIN {
			l.end(c)
			return
		}
		if errno == 0 {
			c.s.Sent(int(n))
			c.taken += int(n)
			b = c.s.Output()
		}
		if errno != 0 || int(n) < len(piece) || len(piece) == maxWrite {
			break // it takes no more, or has had enough for one turn
		}
	}
	if len(b) > 0 {
		l.stall(c, len(b))
		return
	}
	if c.stuck != 0 {
		c.stuck = 0
		c.s.Unsent(0)
		if len(c.in) > 0 && !c.s.Blocked() {
			l.repeat(c)
		}
	}
	if c.s.Closing() || (c.eof && !c.waits && !c.s.Held() && !c.due.Load()) {
		l.end(c)
		return
	}
	l.unlend(c)
	if c.mailed {
		c.mailed = false
		c.wake()
	}
	l.arm(c)
}

// stall notes that the client does not take all that it is sent.
func (l *loop) stall(c *client, unsent int) {
	c.s.Unsent(unsent)
	if !c.s.Known() && unsent > maxHeard {
		l.end(c)
		return
	}
	if c.stuck == 0 {
		c.stuck, c.stuckFor, c.taken = time.Now().UnixNano(), unsent, 0
	}
	l.arm(c)
}

// tick looks at what has taken too long, once in a while.
func (l *loop) tick(now int64) {
	for _, c := range l.slots {
		if c == nil {
			continue
		}
		switch {
		case c.s == nil || !c.s.Known() && c.counted:
			if now-c.began > int64(l.srv.Patience.Login) {
				l.end(c)
			}
		case c.stuck != 0:
			l.judge(c, now)
		}
	}
}

// judge cuts off a client that takes nothing for Patience.Write, or in that time less than slowOutput while more than that waits
// (specification T22). One that is to end anyway has little time.
func (l *loop) judge(c *client, now int64) {
	since := now - c.stuck
	if since < int64(l.srv.Patience.Write) && !(c.s.Closing() && since > int64(l.srv.Patience.Linger)) {
		return
	}
	unsent := len(c.s.Output())
	if slow := min(c.stuckFor, unsent) > slowOutput && c.taken < slowOutput; c.taken > 0 && !slow && !c.s.Closing() {
		c.stuck, c.stuckFor, c.taken = now, unsent, 0
		return
	}
	l.srv.Log.Warn("a client is cut off", "protocol", l.srv.Protocol, "client", c.s.ID(), "peer", c.source, "reason", "it does not read its replies", "unsent", unsent)
	l.end(c)
}

// MaxFiles is how many files the process may have open.
func MaxFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<20))
}

// Memory is how many bytes the process may have: what the machine has, or what its control group lets it.
func Memory() int64 {
	total := int64(1 << 30)
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		if _, rest, ok := strings.Cut(string(text), "MemTotal:"); ok {
			if f := strings.Fields(rest); len(f) > 0 {
				if kib, err := strconv.ParseInt(f[0], 10, 64); err == nil {
					total = kib << 10
				}
			}
		}
	}
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		if text, err := os.ReadFile(file); err == nil {
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
				total = min(total, n)
			}
		}
	}
	return total
}
