// Package wire carries bytes between sockets and sessions: it is the transport of every protocol that is not HTTP.
//
// A protocol is a Session: bytes in, replies out. A Server accepts connections, finds out who is at the other end (behind which
// proxy, over TLS or not), has a session made for it, feeds that and sends what it says. On Linux a few event loops serve all
// connections without TLS; others have a goroutine each. What a client can make the process keep is bounded here as far as it
// concerns bytes, connections and time. Start with Session, then loop.
package wire

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// A Session is one connection's protocol without its socket. Its transport owns it: only one goroutine at a time calls its
// methods, but for Summoned, which any may.
type Session interface {
	// Feed carries out what stands at the beginning of b, as far as it has arrived, and returns how many bytes of b it is done
	// with. The rest is fed again, with what follows it. It stops when SoftOutput bytes wait to be sent. What it keeps of b it
	// copies.
	Feed(b []byte) (used int)
	// Pending is how many bytes the command under way has at least, 0 for unknown.
	Pending() int
	// Output is what waits to be sent, good until the next call of any method but Sent, which forgets the first n bytes of it.
	Output() []byte
	Sent(n int)
	// Lend gives a session without output room to write it in. TakeOutput takes it back when all is sent, so that idle
	// connections have none.
	Lend(room []byte)
	TakeOutput() []byte
	// Unsent tells how much the client has left lying.
	Unsent(n int)
	// Attend reads what others have for the session, after Hello.Wake was called. It reports whether a command that waited goes on.
	Attend() (unblocked bool)
	// Summoned reports whether the connection is to end, before Attend takes notice of it.
	Summoned() bool
	Known() bool   // somebody has logged in
	Blocked() bool // a command waits, so that what follows it has to wait too
	Held() bool    // a command is carried out elsewhere, or replies wait to be seen, so that there is no Output for now; Blocked meanwhile
	Closing() bool // the connection has to end once the output is sent; not while it is held
	Cut() bool     // it has to end at once
	ID() int64
	// Close ends all that the session began. The connection is closed, or is about to be.
	Close()
}

// A Hello is what a session is made of.
type Hello struct {
	Source netip.AddrPort       // who is at the other end, as a trusted proxy says if there is one
	Local  string               // the address that it connected to
	TLS    *tls.ConnectionState // nil without
	Room   any                  // of Config.Room
	Loop   bool                 // an event loop serves the session: nothing that is done with it may wait
	Wake   func()               // has the session attended to, soon, from any goroutine
}

// Patience is how long a server waits for its clients.
type Patience struct {
	Login  time.Duration // to log in
	Write  time.Duration // to take something of what is sent to them
	Linger time.Duration // to take the last of it, when the connection has to end
}

// Usual is the patience of servers.
var Usual = Patience{Login: 10 * time.Second, Write: 60 * time.Second, Linger: time.Second}

// Bounds of a connection (specification T20 to T22).
const (
	MaxStrangers = 100       // connections from one address that have not logged in
	SoftOutput   = 1 << 20   // replies that wait while no further command is done
	ReadChunk    = 16 << 10  // what is read at once into a buffer of a connection's own
	maxUnread    = 1 << 20   // input that is read while a command waits
	maxHeard     = 64 << 10  // output that waits, before login
	maxKept      = 64 << 10  // how large a buffer may be that an idle connection keeps
	slowOutput   = 8 << 20   // what may wait for long while a client takes less than that
	readChunk    = ReadChunk // by its short name
)

// Config is what a Server needs: Begin and Log at least.
type Config struct {
	Protocol string         // for the log
	TLS      *tls.Config    // nil: no TLS
	Trusted  []netip.Prefix // who may say on whose behalf it connects, by PROXY protocol v2
	Clients  int            // connections at a time; 0 for as many as the process may have files, and some to spare
	Loops    int            // event loops; 0 for one for every two processors
	Waits    bool           // sessions wait in Feed: each connection gets a goroutine, there are no event loops
	Shared   bool           // event loops make way at once for goroutines on whose work commands wait
	Patience Patience
	Full     string     // what a connection is told that is one too many
	Crowded  string     // and one that is too many of those from its address that have not logged in
	Room     func() any // makes what sessions share that are never fed at the same time; may be nil
	Turns    Turns      // is told of the turns of event loops; may be nil
	Log      *slog.Logger

	// Begin makes the session of a connection that has sent its first byte; nil refuses it, with what it is told. tag is that
	// of the listener.
	Begin func(h Hello, tag any) (s Session, refusal string)
}

// Turns are told when an event loop begins to feed sessions, and when it has fed all that have something to say: what they ask
// for in between may be seen to together.
type Turns interface {
	Hold()
	Release()
}

// A Server serves the connections of one protocol.
type Server struct {
	Config
	strangers strangers

	mu      sync.Mutex
	engines *engines          // the event loops, where there are any
	present int               // connections
	conns   map[net.Conn]bool // those with a goroutine of their own
	closed  bool
	all     sync.WaitGroup // of connections
}

// spareFiles is how many files the process needs beside the connections of one protocol.
const spareFiles = 1024

// New makes a server.
func New(c Config) *Server {
	if c.Clients == 0 {
		n := MaxFiles()
		c.Clients = max(n-spareFiles, n/2)
	}
	if c.Room == nil {
		c.Room = func() any { return nil }
	}
	c.Loops = cmp.Or(c.Loops, max(1, runtime.GOMAXPROCS(0)/2))
	return &Server{Config: c, strangers: strangers{count: map[netip.Addr]int{}}, conns: map[net.Conn]bool{}}
}

// Serve accepts connections until l is closed. tag goes with them to Config.Begin.
func (srv *Server) Serve(l net.Listener, tag any) error {
	if t, ok := l.(*net.TCPListener); ok {
		if e := srv.startEngines(); e != nil {
			return e.accept(t, tag)
		}
	}
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil && temporary(err):
			srv.breathe(err)
		case err != nil:
			return err
		case !srv.admit():
			_, _ = c.Write([]byte(srv.Full)) // it is closed anyway
			_ = c.Close()
		default:
			go srv.handle(c, nil, tag)
		}
	}
}

// temporary reports whether accepting may succeed later: when there are files again, mostly.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}

// breathe waits before connections are accepted again.
func (srv *Server) breathe(err error) {
	srv.Log.Warn("connections cannot be accepted at the moment", "protocol", srv.Protocol, "error", err)
	time.Sleep(100 * time.Millisecond)
}

// admit counts a connection, if there may be one more. dismiss has to be called when it has ended.
func (srv *Server) admit() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.closed || srv.present >= srv.Clients {
		return false
	}
	srv.present++
	srv.all.Add(1)
	return true
}

func (srv *Server) dismiss() {
	srv.mu.Lock()
	srv.present--
	srv.mu.Unlock()
	srv.all.Done()
}

// Census counts connections: all, and those that have not logged in.
func (srv *Server) Census() (present, strangers int) {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.present, srv.strangers.all()
}

// Shutdown ends all connections and waits for them until ctx ends; then it cuts them off. The caller has summoned their sessions,
// which get out the replies to what they were sent.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.mu.Lock()
	srv.closed = true
	e := srv.engines // there will be no others
	srv.mu.Unlock()
	e.stop(finish)
	done := make(chan struct{})
	go func() { srv.all.Wait(); close(done) }()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
		srv.mu.Lock()
		for c := range srv.conns {
			_ = c.Close() // it is cut off
		}
		srv.mu.Unlock()
		e.stop(cutAll)
		<-done
	}
	e.stop(leave)
	e.wait()
	return err
}

// strangers counts the connections that have not logged in, by where they come from.
type strangers struct {
	mu    sync.Mutex
	count map[netip.Addr]int
}

// enter notes one more of an address, if there may be.
func (s *strangers) enter(from netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[from] >= MaxStrangers {
		return false
	}
	s.count[from]++
	return true
}

// leave notes that one of them has gone, or has logged in.
func (s *strangers) leave(from netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[from]--; s.count[from] == 0 {
		delete(s.count, from)
	}
}

func (s *strangers) all() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.count {
		n += of
	}
	return n
}
