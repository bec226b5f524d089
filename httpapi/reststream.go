package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
)

// A stream is a request of the dialect that is answered for as long as the client listens: with the messages of channels,
// or with every command on a cache, as server-sent events. The hub puts events aside, and the request's own goroutine
// sends them.
//
//	S1: what waits to be sent has at most maxPending bytes, or is a single event; a reader that is slower is cut off
//	S2: a stream ends within streamTick of the moment when its credential, its rights or its cache end
//	S3: when it has ended, the hub knows nothing of it

// Bounds of streams.
const (
	maxPending        = 8 << 20
	maxStreamNames    = 1000             // channels or patterns of one stream
	maxTenantStreams  = 10_000           // of one tenant on one node
	streamTick        = time.Second      // how often is looked whether the stream may go on
	heartbeatInterval = 15 * time.Second // comments between events, so that nobody takes a quiet stream for a dead one
)

// An events is the events that wait to be sent to one client. It is a receiver and a monitor of the hub.
type events struct {
	ready chan struct{}               // has room for one: there is something to send
	cut   func()                      // ends a write that is under way, from another goroutine
	hears func(*gateway.Message) bool // whether the client may be told a message; nil for every one

	mu      sync.Mutex
	pending []byte
	lost    bool // the client was too slow, and some were dropped
}

func newEvents(cut func()) *events { return &events{ready: make(chan struct{}, 1), cut: cut} }

// add puts an event aside. Line ends within it begin another line of the same event.
func (e *events) add(parts ...string) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.lost:
		return
	case len(e.pending) > 0 && len(e.pending)+size > maxPending:
		e.lost = true
		go e.cut() // the hub does not wait for it
	default:
		e.pending = append(e.pending, "data: "...)
		for _, p := range parts {
			e.pending = appendLines(e.pending, p)
		}
		e.pending = append(e.pending, '\n', '\n')
	}
	select {
	case e.ready <- struct{}{}:
	default:
	}
}

// appendLines appends the text of an event, every line of which has a prefix.
func appendLines(dst []byte, s string) []byte {
	for {
		i := strings.IndexAny(s, "\r\n")
		if i < 0 {
			return append(dst, s...)
		}
		dst = append(append(dst, s[:i]...), "\ndata: "...)
		if strings.HasPrefix(s[i:], "\r\n") {
			i++
		}
		s = s[i+1:]
	}
}

// take returns what waits, in exchange for room for more.
func (e *events) take(room []byte) (pending []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	pending, e.pending = e.pending, room[:0]
	return pending
}

// cutOff reports whether the client was too slow.
func (e *events) cutOff() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lost
}

// Receive implements gateway.Receiver.
func (e *events) Receive(m *gateway.Message) {
	if e.hears != nil && !e.hears(m) {
		return
	}
	if m.Kind == gateway.Pattern {
		e.add("pmessage,", m.Pattern, ",", m.Channel, ",", string(m.Payload))
		return
	}
	e.add("message,", m.Channel, ",", string(m.Payload))
}

// Show implements gateway.Monitor.
func (e *events) Show(line []byte) { e.add(string(line)) }

// streams counts the streams of each tenant, and ends them when the server goes.
type streams struct {
	closing context.Context
	close   context.CancelFunc
	beat    time.Duration // heartbeatInterval, but for tests

	mu    sync.Mutex
	count map[string]int
}

func newStreams() *streams {
	s := &streams{beat: heartbeatInterval, count: map[string]int{}}
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// enter counts one more stream of a tenant, unless it has too many.
func (s *streams) enter(tenant string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[tenant] >= maxTenantStreams {
		return fault.New(fault.Throttled, "rest.stream", "max concurrent connections exceeded. Limit: %d", maxTenantStreams)
	}
	s.count[tenant]++
	return nil
}

func (s *streams) leave(tenant string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.count[tenant]--; s.count[tenant] == 0 {
		delete(s.count, tenant)
	}
}

// restStreams are the commands that are answered as long as the client listens.
var restStreams = map[string]*engine.Command{
	"subscribe":  engine.MustLookup("SUBSCRIBE"),
	"psubscribe": engine.MustLookup("PSUBSCRIBE"),
	"monitor":    engine.MustLookup("MONITOR"),
}

// stream serves a command that listens, whose arguments have been read from the path.
func (x *exchange) stream(c *engine.Command) error {
	if m := x.Request().Method; m == http.MethodHead {
		return fault.New(fault.MethodNotAllowed, "rest.stream", "%s is sent with POST or GET", c.Name)
	}
	if len(x.args)-1 > maxStreamNames {
		return fault.About(fault.OutOfRange, "rest.stream", "path", "a stream has at most %d channels", maxStreamNames)
	}
	if err := x.api.Gateway.Admit(&x.caller); err != nil {
		return err
	}
	if _, err := x.readBody(maxKept); err != nil { // clients send an empty list along; and who goes is noticed only behind it
		return err
	}
	call := engine.Call{Command: c, Args: x.args}
	id, err := x.mayStream(call)
	if err != nil {
		return err
	}
	tenant, cache := x.who().Tenant, x.cache()
	if err := x.api.streams.enter(tenant); err != nil {
		return err
	}
	defer x.api.streams.leave(tenant)
	slow := http.NewResponseController(x.Response().Writer)
	e := newEvents(func() { _ = slow.SetWriteDeadline(time.Unix(1, 0)) })
	var listener atomic.Pointer[gateway.Caller] // as it is now, for those who publish
	listener.Store(x.listener())
	e.hears = func(m *gateway.Message) bool { return x.api.Gateway.Hears(listener.Load(), cache, m) }
	leave, err := x.listen(id, call, e)
	if err != nil {
		return err
	}
	defer leave()
	return x.sendEvents(e, func() bool {
		if x.caller.Principal != listener.Load().Principal {
			listener.Store(x.listener())
		}
		now, err := x.mayStream(call)
		return err == nil && now == id
	})
}

// listener is a copy of the caller, for other goroutines.
func (x *exchange) listener() *gateway.Caller {
	c := x.caller
	c.Granted = nil
	return &c
}

// mayStream asks whether the caller may listen, and returns the cache.
func (x *exchange) mayStream(call engine.Call) (id engine.CacheID, err error) {
	if err := x.api.Gateway.Refusal(&x.caller, x.cache(), call); err != nil {
		return id, err
	}
	cache := x.api.Gateway.Cache(&x.caller, x.cache())
	if cache == nil {
		return id, fault.About(fault.NotFound, "rest.stream", "cache", "no cache %q", x.cache())
	}
	return cache.ID, nil
}

// listen has the hub tell e of what a call asks for, until leave is called.
func (x *exchange) listen(id engine.CacheID, call engine.Call, e *events) (leave func(), err error) {
	hub := x.api.Gateway.Hub()
	if call.Command == restStreams["monitor"] {
		e.add(`"OK"`)
		hub.Monitor(id, e)
		return func() { hub.Unmonitor(id, e) }, nil
	}
	kind, word := gateway.Channel, "subscribe,"
	if call.Command == restStreams["psubscribe"] {
		kind, word = gateway.Pattern, "psubscribe,"
	}
	names := map[string]bool{}
	leave = func() {
		for name := range names {
			hub.Unsubscribe(id, kind, name, e)
		}
	}
	for _, arg := range call.Args[1:] {
		name := string(arg)
		known := names[name]
		names[name] = true
		e.add(word, name, ",", strconv.Itoa(len(names))) // comes before the first message
		if known {
			continue
		}
		if err := hub.Subscribe(id, kind, name, e); err != nil {
			delete(names, name)
			leave()
			return nil, err
		}
	}
	hub.Await()
	return leave, nil
}

// sendEvents sends events until the client, the server or the caller's rights are gone.
func (x *exchange) sendEvents(e *events, may func() bool) error {
	w := x.Response()
	slow := http.NewResponseController(w.Writer)
	_ = slow.SetReadDeadline(time.Time{}) // the request has been read; a writer without deadlines is a test's
	h := w.Header()
	noStore(h)
	h["Content-Type"] = []string{"text/event-stream"}
	h["X-Accel-Buffering"] = []string{"no"} // proxies that know the header pass each event on at once
	w.WriteHeader(http.StatusOK)
	tick := time.NewTicker(streamTick)
	defer tick.Stop()
	var room []byte
	beat := x.api.streams.beat
	for quiet := time.Duration(0); ; {
		select {
		case <-x.Request().Context().Done():
			return nil
		case <-x.api.streams.closing.Done():
			return nil
		case <-e.ready:
		case <-tick.C:
			if !x.recheck() || !may() {
				return nil
			}
			if quiet += streamTick; quiet < beat {
				continue
			}
		}
		if e.cutOff() {
			x.api.Log.Debug("a reader of events was too slow and is cut off", "cache", x.cache(), "limit", maxPending)
			return nil
		}
		pending := e.take(room)
		if room = pending; len(pending) == 0 {
			if quiet < beat {
				continue
			}
			pending = heartbeat
		}
		quiet = 0
		if !x.flushEvents(e, slow, pending) {
			return nil
		}
		if cap(room) > maxKept {
			room = nil
		}
	}
}

// flushEvents sends what was put aside, and reports whether the client took it in time.
func (x *exchange) flushEvents(e *events, slow *http.ResponseController, data []byte) bool {
	for len(data) > 0 {
		n := min(len(data), bodyPiece)
		_ = slow.SetWriteDeadline(time.Now().Add(pieceTimeout))
		if e.cutOff() { // asked behind the deadline, which would undo that of the cut
			return false
		}
		if _, err := x.Response().Write(data[:n]); err != nil {
			return false
		}
		data = data[n:]
	}
	return slow.Flush() == nil
}

// A heartbeat is a comment among events.
var heartbeat = []byte(": ping\n\n")

// recheck asks whether the credential still stands.
func (x *exchange) recheck() bool {
	p, err := x.api.Identity.Recheck(x.caller.Principal, auth.UseData, x.caller.Source)
	if err == nil {
		x.caller.Principal = p
	}
	return err == nil
}
