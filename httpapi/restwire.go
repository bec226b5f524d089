package httpapi

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
)

// A Front is a listener before the HTTP server, which serves by itself what clients of the REST dialect send nearly
// always: POST with a command or a pipeline in JSON and none but well-known headers, over HTTP/1.1 without TLS. A general
// server spends several times on such a request what the command costs. With the first request that is anything else, the
// connection goes to the HTTP server, and stays there.
//
//	F1: a request goes to the server untouched, from its first byte, or is answered here; never both
//	F2: what is answered here is answered as the server would
//	F3: after Close no request is begun, and those that had been are answered
type Front struct {
	net.Listener
	api   *API
	ready chan accepted // for the server
	gone  chan struct{} // closed by Close

	mu      sync.Mutex
	wires   map[*wire]bool
	closed  bool
	running sync.WaitGroup
}

// accepted is what a listener's Accept returns.
type accepted struct {
	net.Conn
	err error
}

// Front puts a Front before a listener. Behind proxies that say for whom they ask there is none.
func (a *API) Front(l net.Listener) net.Listener {
	if len(a.Trusted) > 0 {
		return l
	}
	f := &Front{Listener: l, api: a, ready: make(chan accepted), gone: make(chan struct{}), wires: map[*wire]bool{}}
	go f.accept()
	return f
}

func (f *Front) accept() {
	for {
		c, err := f.Listener.Accept()
		if err == nil && f.serve(c) {
			continue
		}
		select {
		case f.ready <- accepted{c, err}:
		case <-f.gone:
			if err == nil {
				_ = c.Close()
			}
			return
		}
	}
}

// Accept implements net.Listener for the HTTP server.
func (f *Front) Accept() (net.Conn, error) {
	select {
	case a := <-f.ready:
		return a.Conn, a.err
	case <-f.gone:
		return nil, net.ErrClosed
	}
}

// closeTimeout is how long Close waits for requests that have been begun.
const closeTimeout = time.Second

// Close implements net.Listener.
func (f *Front) Close() error {
	err := f.Listener.Close()
	f.mu.Lock()
	if f.closed {
		f.mu.Unlock()
		return err
	}
	f.closed = true
	close(f.gone)
	for w := range f.wires {
		_ = w.conn.SetReadDeadline(time.Unix(1, 0)) // ends the wait for another request
	}
	f.mu.Unlock()
	done := make(chan struct{})
	go func() { f.running.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(closeTimeout):
		f.mu.Lock()
		defer f.mu.Unlock()
		for w := range f.wires {
			_ = w.conn.Close()
		}
	}
	return err
}

// serve begins to serve a connection, unless its peer is unknown or the front is closed.
func (f *Front) serve(c net.Conn) bool {
	peer, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return false
	}
	w := &wire{front: f, conn: c, known: &conn{peer: peer.Addr().Unmap()}}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return false
	}
	f.wires[w] = true
	f.running.Add(1)
	go w.run()
	return true
}

// A wire is a connection that a front serves.
type wire struct {
	front *Front
	conn  net.Conn
	known *conn

	in   []byte // what was read: in[from:] has not been served
	from int
	out  []byte

	text               []byte   // the head of the last request, if it was short
	head               wireHead // what is in it; zero until it has come twice
	header, credential string   // of the last request: an Authorization header and what is in it
	agent, cache       string
	now                time.Time // when the last answer was ready, or the connection
	second             int64     // that date names
	date               []byte
	id                 []byte

	caller  gateway.Caller
	request gateway.Request
	reply   restReply
	args    [][]byte
	calls   []engine.Call
}

// wireKept bounds each buffer that a connection keeps between requests: many connections do nothing most of the time.
const wireKept = 16 << 10

// shortHead is how long a head may be that a connection remembers: most clients send one, again and again.
const shortHead = 1 << 10

// maxWireHead is how long the head of a request may be that a front serves, in bytes.
const maxWireHead = 8 << 10

// run serves requests until the client is gone or sends something else.
func (w *wire) run() {
	defer w.leave()
	defer func() {
		if p := recover(); p != nil {
			w.front.api.Log.Error("a handler panicked", "route", "/redis", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			_ = w.conn.Close()
		}
	}()
	for wait := headerTimeout; ; wait = idleTimeout { // as net/http has it: a client that connects means to ask
		head, ok := w.next(wait)
		switch {
		case !ok:
			_ = w.conn.Close()
			return
		case !head.plain || !w.admit(&head):
			w.handOver()
			return
		case !w.answer(&head):
			_ = w.conn.Close()
			return
		}
	}
}

// leave takes the wire off the front's list.
func (w *wire) leave() {
	w.front.mu.Lock()
	delete(w.front.wires, w)
	w.front.mu.Unlock()
	w.front.running.Done()
}

// handOver gives the connection to the HTTP server, with what was read of it (F1).
func (w *wire) handOver() {
	_ = w.conn.SetDeadline(time.Time{})
	select {
	case w.front.ready <- accepted{Conn: &readAhead{w.conn, w.in[w.from:]}}:
	case <-w.front.gone:
		_ = w.conn.Close()
	}
}

// A readAhead is a connection of which something has been read.
type readAhead struct {
	net.Conn
	read []byte
}

// Read implements net.Conn.
func (c *readAhead) Read(p []byte) (int, error) {
	if len(c.read) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.read)
	if c.read = c.read[n:]; len(c.read) == 0 {
		c.read = nil
	}
	return n, nil
}

// next reads until there is a request whole, or enough of one to know that it is not for us. It is false when the client
// is gone or too slow.
func (w *wire) next(wait time.Duration) (head wireHead, ok bool) {
	if w.from == len(w.in) {
		w.in, w.from = w.in[:0], 0
		if cap(w.in) > wireKept {
			w.in = nil
		}
		if w.now.IsZero() {
			w.now = time.Now()
		}
		if !w.fill(w.now.Add(wait)) {
			return head, false
		}
	}
	var began time.Time // nearly always it is there whole, and nobody asks when it began
	for wait = headerTimeout; ; {
		switch w.parse(&head) {
		case wireOther:
			return head, true
		case wireWhole:
			head.plain = true
			return head, true
		case wireBody:
			wait = requestTimeout
		}
		if began.IsZero() {
			began = time.Now()
		}
		if !w.fill(began.Add(wait)) {
			return head, false
		}
	}
}

// parse is head.parse of what was read, unless the last request began with the same head.
func (w *wire) parse(head *wireHead) wireState {
	text := w.in[w.from:]
	if n := len(w.text); n > 0 && len(text) >= n && same(text[:n], w.text) {
		if w.head.size == 0 {
			w.head.parse(w.text)
		}
		if *head = w.head; len(text) < head.size+head.body {
			return wireBody
		}
		return wireWhole
	}
	state := head.parse(text)
	if state == wireWhole && head.size <= shortHead {
		w.text, w.head = append(w.text[:0], text[:head.size]...), wireHead{}
	}
	return state
}

// fill reads more, and reports whether anything came in time.
func (w *wire) fill(until time.Time) bool {
	if w.from > 0 && len(w.in) == cap(w.in) {
		w.in, w.from = append(w.in[:0], w.in[w.from:]...), 0
	}
	w.in = slices.Grow(w.in, max(1, min(1<<10, 2*maxKept-len(w.in))))
	if err := w.conn.SetReadDeadline(until); err != nil {
		return false
	}
	select {
	case <-w.front.gone: // asked behind the deadline, which would undo that of Close (F3)
		return false
	default:
	}
	n, err := w.conn.Read(w.in[len(w.in):cap(w.in)])
	w.in = w.in[:len(w.in)+n]
	return err == nil || n > 0
}

// A wireState says how much of a request is there.
type wireState int

const (
	wirePart  wireState = iota // not all of its head
	wireBody                   // not all of its body
	wireWhole                  // everything
	wireOther                  // it is not for a front
)

// A wireHead is what is to be known of a request. Its texts point into its head.
type wireHead struct {
	plain         bool // it is for a front
	size          int  // of the head
	body          int  // its length
	cache         []byte
	many          bool // a pipeline
	base64        bool
	authorization []byte
	agent         []byte
}

// parse reads the head of the request that text begins with.
func (h *wireHead) parse(text []byte) wireState {
	const begin = "POST /"
	if n := min(len(text), len(begin)); string(text[:n]) != begin[:n] {
		return wireOther
	}
	end := bytes.Index(text, []byte("\r\n\r\n"))
	switch {
	case end > maxWireHead, end < 0 && len(text) > maxWireHead:
		return wireOther
	case end < 0:
		return wirePart
	}
	*h = wireHead{size: end + 4, body: -1}
	line, rest, _ := bytes.Cut(text[:end+2], []byte("\r\n"))
	target, ok := bytes.CutSuffix(line[len(begin)-1:], []byte(" HTTP/1.1"))
	if !ok || !h.target(target) {
		return wireOther
	}
	hosts := 0
	for len(rest) > 0 {
		if line, rest, _ = bytes.Cut(rest, []byte("\r\n")); !h.field(line, &hosts) {
			return wireOther
		}
	}
	switch {
	case hosts != 1 || h.authorization == nil || h.body <= 0 || h.body > maxKept:
		return wireOther
	case len(text) < h.size+h.body:
		return wireBody
	}
	return wireWhole
}

// target reads the path: that of the default cache or of one by name, for a command or a pipeline.
func (h *wireHead) target(path []byte) bool {
	if named, ok := bytes.CutPrefix(path, []byte("/v1/caches/")); ok {
		name, rest, _ := bytes.Cut(named, []byte("/"))
		for _, c := range name {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
		if len(name) == 0 {
			return false
		}
		h.cache, path = name, path[len(path)-len(rest)-1:]
	}
	switch string(path) {
	case "/redis", "/redis/":
	case "/redis/pipeline":
		h.many = true
	default:
		return false
	}
	return true
}

// ignored are headers that change nothing for a command of the dialect.
var ignored = map[string]bool{
	"content-type": true, "accept": true, "accept-encoding": true, "accept-language": true, "cache-control": true, "pragma": true, "sec-fetch-mode": true,
	"traceparent": true, "tracestate": true, "x-forwarded-for": true, "x-forwarded-proto": true, "x-forwarded-host": true, "x-real-ip": true, // which no proxy that is trusted has sent
	"upstash-sync-token": true, "upstash-telemetry-sdk": true, "upstash-telemetry-platform": true, "upstash-telemetry-runtime": true,
}

// field reads one header, and reports whether the request may still be for a front.
func (h *wireHead) field(line []byte, hosts *int) bool {
	colon := bytes.IndexByte(line, ':')
	var room [32]byte
	if colon < 1 || colon > len(room) {
		return false
	}
	name := room[:colon]
	for i, c := range line[:colon] {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		name[i] = c
	}
	value := bytes.Trim(line[colon+1:], " \t")
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	switch string(name) {
	case "host":
		*hosts++
		return len(value) > 0
	case "authorization":
		if h.authorization != nil || len(value) == 0 {
			return false
		}
		h.authorization = value
	case "content-length":
		n, ok := decimal(value)
		if h.body >= 0 || !ok {
			return false
		}
		h.body = n
	case "user-agent":
		if h.agent != nil {
			return false
		}
		h.agent = value
	case "connection":
		return bytes.EqualFold(value, []byte("keep-alive"))
	case "upstash-encoding":
		if h.base64 {
			return false
		}
		h.base64 = bytes.EqualFold(value, []byte("base64"))
		return h.base64
	default:
		return ignored[string(name)]
	}
	return true
}

// decimal reads a short number without a sign.
func decimal(b []byte) (n int, ok bool) {
	if len(b) == 0 || len(b) > 6 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}

// admit finds out who asks, and reports whether they may go on. Whoever may not hears it from the HTTP server.
func (w *wire) admit(h *wireHead) bool {
	if !same(w.header, h.authorization) {
		w.header = string(h.authorization)
		credential, err := bearer([]string{w.header})
		if err != nil {
			return false
		}
		w.credential = credential
	}
	if w.agent != string(h.agent) {
		w.agent = string(h.agent)
	}
	who, err := w.known.admit(w.front.api.Identity, auth.UseData, w.header, w.credential, w.known.peer)
	if err != nil {
		return false
	}
	w.caller = gateway.Caller{Principal: who, Source: w.known.peer, Protocol: "http", UserAgent: w.agent}
	if len(h.cache) > 0 {
		if w.cache != string(h.cache) {
			w.cache = string(h.cache)
		}
	} else {
		w.cache = defaultCache(who)
	}
	return true
}

// answer does the commands of a request and sends their answers. It is false when the client does not take them.
func (w *wire) answer(h *wireHead) bool {
	began := time.Now()
	body := w.in[w.from+h.size : w.from+h.size+h.body]
	w.from += h.size + h.body
	w.args, w.calls = w.args[:0], w.calls[:0]
	w.id = appendRequestID(w.id[:0])
	w.request.Units = -1
	err := w.do(h, body)
	var sent []byte
	status := http.StatusOK
	var failed *fault.Error
	if err != nil {
		failed = w.front.api.shown(fault.From(err), http.MethodPost, "/redis", string(w.id))
		status, sent = restFailure(err, failed)
	} else {
		if sent = w.reply.done(); !h.many && w.reply.failed != nil {
			status = restStatus(w.reply.failed)
		}
	}
	w.begin(status, began, len(sent), failed)
	ok := w.send(sent)
	w.forget()
	return ok
}

// do has the commands of a body carried out.
func (w *wire) do(h *wireHead, body []byte) error {
	if h.many {
		err := parseCommands(body, func(p *commandParser) error {
			from := len(w.args)
			args, err := p.command(w.args)
			if err != nil {
				return err
			}
			w.args = args
			w.calls = append(w.calls, restCall(args[from:len(args):len(args)]))
			return nil
		})
		if err != nil {
			return err
		}
	} else {
		args, err := parseCommand(w.args, body)
		if err != nil {
			return err
		}
		w.args = args
		w.calls = append(w.calls, restCall(args))
	}
	g := w.front.api.Gateway
	w.reply.reset(h.base64, h.many, restRoom(g, &w.caller, w.cache, len(w.calls)))
	r := &w.request
	r.Caller, r.Cache, r.Calls, r.Reply, r.Refuse = &w.caller, w.cache, w.calls, &w.reply, refuseRest
	err := g.Do(context.Background(), r)
	if err != nil && r.Failed >= 0 {
		return &discarded{fault.From(err), r.Failed, h.many}
	}
	return err
}

// begin begins an answer with its head, as the HTTP server would write it.
func (w *wire) begin(status int, began time.Time, length int, failed *fault.Error) {
	took := time.Since(began)
	w.now = began.Add(took)
	out := append(w.out[:0], "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(status), 10)
	out = append(append(out, ' '), http.StatusText(status)...)
	out = append(out, "\r\nCache-Control: no-store\r\nContent-Length: "...)
	out = strconv.AppendInt(out, int64(length), 10)
	out = append(out, "\r\nContent-Type: application/json\r\n"...)
	if failed != nil && (status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable) {
		out = append(append(append(out, "Retry-After: "...), retryAfter(failed.RetryAfter)...), "\r\n"...)
	}
	if w.request.Units >= 0 {
		out = append(appendServerTiming(append(out, "Server-Timing: "...), took), "\r\n"...)
		if r := &w.request; r.Was != engine.DefaultConsistency {
			out = append(appendConsistency(append(out, consistencyHeader+": "...), r.Was, r.AgeMs), "\r\n"...)
		}
		out = append(out, "X-Larder-Units: "...)
		out = append(strconv.AppendInt(out, w.request.Units, 10), "\r\n"...)
	}
	out = append(append(out, "Upstash-Sync-Token: "...), w.id...)
	out = append(append(out, "\r\nX-Content-Type-Options: nosniff\r\nX-Request-Id: "...), w.id...)
	out = append(out, "\r\nDate: "...)
	if now := began.Unix(); now != w.second {
		w.second, w.date = now, began.UTC().AppendFormat(w.date[:0], http.TimeFormat)
	}
	w.out = append(append(out, w.date...), "\r\n\r\n"...)
}

// send sends the head and a body. A client that reads a large one slowly has the time that it has elsewhere.
func (w *wire) send(body []byte) bool {
	first := min(len(body), maxKept)
	w.out = append(w.out, body[:first]...)
	for data, rest := w.out, body[first:]; ; w.now = time.Now() {
		if err := w.conn.SetWriteDeadline(w.now.Add(requestTimeout)); err != nil {
			return false
		}
		if _, err := w.conn.Write(data); err != nil {
			return false
		}
		if len(rest) == 0 {
			if len(data) > wireKept { // which may have taken a while
				w.now = time.Now()
			}
			return true
		}
		n := min(len(rest), bodyPiece)
		data, rest = rest[:n], rest[n:]
	}
}

// forget lets go of what a connection that waits should not keep.
func (w *wire) forget() {
	if cap(w.reply.out) > wireKept {
		w.reply.out = nil
	}
	w.reply.failed = nil
	if cap(w.out) > wireKept {
		w.out = nil
	}
	if cap(w.args) > 64 || cap(w.calls) > 16 {
		w.args, w.calls = nil, nil
	}
	clear(w.args[:cap(w.args)])
	clear(w.calls[:cap(w.calls)])
	w.request.Reset()
}
