package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
)

// An exchange is one HTTP request with its answer: echo's context, who asks, and the room in which commands
// and replies are put together. Exchanges are pooled; nothing of one may be kept after its handler returns.
type exchange struct {
	echo.Context
	api     *API
	caller  gateway.Caller
	request gateway.Request
	reply   engine.Recording
	calls   []engine.Call
	args    [][]byte
	began   time.Time
	body    []byte
	id      string    // of the request
	inCache string    // the cache, where the path names none
	rest    restReply // what a request of the REST dialect is answered with
	steps   int       // how often the gateway was asked
	units   int64     // what that cost
	asked   query

	data  bool               // the route is one of data
	level engine.Consistency // that the query named
	was   engine.Consistency // what the answer is, of all steps
	age   int64              // and how old, in milliseconds

	path   []byte     // what pathBytes decoded
	values [16]string // of response headers, so that none needs an allocation of its own
	used   int        // how many of them
}

var exchanges = sync.Pool{New: func() any { return &exchange{} }}

// maxKept bounds the buffers that a pooled exchange keeps.
const maxKept = 64 << 10

// handle makes an echo handler of a row: it finds out who asks, serves, and writes what went wrong.
func (a *API) handle(r route) echo.HandlerFunc {
	return func(c echo.Context) error {
		x := exchanges.Get().(*exchange)
		x.Context, x.api, x.began = c, a, time.Now()
		x.body, x.path, x.steps, x.units, x.used = x.body[:0], x.path[:0], 0, 0, 0
		x.restart()
		x.id, x.inCache = newRequestID(), ""
		x.data, x.level, x.was, x.age = !r.manage && !r.open && !r.any, 0, 0, 0
		x.header("X-Request-Id", x.id)
		c.Response().Header()["X-Content-Type-Options"] = noSniffValue
		err := x.identify(r)
		if err == nil {
			x.allowOrigin()
			if r.remembered() {
				err = x.serveOnce(r)
			} else {
				err = x.serve(r)
			}
		}
		if err != nil {
			a.writeError(c, err)
		}
		x.release()
		return nil
	}
}

// serve calls the row's handler. A panic is our bug: the client hears of an internal error, and our log where.
func (x *exchange) serve(r route) (err error) {
	defer func() {
		if p := recover(); p != nil {
			x.api.Log.Error("a handler panicked", "route", r.path, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = fault.New(fault.Internal, "httpapi.serve", "panic")
		}
	}()
	return r.serve(x)
}

// header gives the response a header with one value. key is in canonical form.
//
// The value stands in the exchange, which is safe although exchanges are used again: the server copies the
// headers when they are written, and that is before a handler returns.
func (x *exchange) header(key, value string) {
	if x.used == len(x.values) {
		x.Response().Header()[key] = []string{value}
		return
	}
	x.values[x.used] = value
	x.used++
	x.Response().Header()[key] = x.values[x.used-1 : x.used : x.used]
}

func (x *exchange) release() {
	if x.reply.Cap() > maxKept {
		x.reply = engine.Recording{}
	}
	if cap(x.body) > maxKept {
		x.body = nil
	}
	x.rest.release()
	if cap(x.args) > 1024 {
		x.args, x.calls = nil, nil
	}
	clear(x.args[:cap(x.args)])
	clear(x.calls[:cap(x.calls)])
	x.Context, x.caller = nil, gateway.Caller{}
	x.request.Reset()
	exchanges.Put(x)
}

// identify fills in the caller.
func (x *exchange) identify(row route) error {
	r := x.Request()
	x.caller = gateway.Caller{Protocol: "http", UserAgent: r.UserAgent(), Secure: r.TLS != nil}
	if r.TLS != nil {
		x.caller.TLSVersion = r.TLS.Version
	}
	c := connOf(r)
	var err error
	if x.caller.Source, err = x.source(c); err != nil {
		return err
	}
	headers := r.Header["Authorization"]
	if row.rest && len(headers) == 0 {
		if token := queryToken(r.URL.RawQuery); token != "" {
			headers = []string{"Bearer " + token}
		}
	}
	if row.open && (len(headers) == 0 || !row.manage) {
		return nil // a bad credential does not make a node look dead
	}
	credential, err := bearer(headers)
	if err != nil {
		return err
	}
	door := auth.UseData
	switch {
	case row.any:
		door = auth.AnyUse
	case row.manage:
		door = auth.UseManage
	}
	x.caller.Principal, err = c.admit(x.api.Identity, door, headers[0], credential, x.caller.Source)
	return err
}

// source is the client's address. The usual case, no trusted proxies, takes the peer's address by itself: echo's
// extractor makes strings of it.
func (x *exchange) source(c *conn) (netip.Addr, error) {
	if len(x.api.Trusted) == 0 {
		if c != nil && c.peer.IsValid() {
			return c.peer, nil
		}
		peer, err := netip.ParseAddrPort(x.Request().RemoteAddr)
		if err != nil {
			return netip.Addr{}, fault.Wrap(fault.Internal, "httpapi.source", err, "")
		}
		return peer.Addr().Unmap(), nil
	}
	addr, err := netip.ParseAddr(x.RealIP())
	if err != nil {
		return netip.Addr{}, fault.About(fault.InvalidArgument, "httpapi.source", "X-Forwarded-For", "X-Forwarded-For holds no address")
	}
	return addr.Unmap(), nil
}

// bearer reads the credential from the Authorization headers, of which there must be exactly one.
func bearer(headers []string) (string, error) {
	switch {
	case len(headers) == 0:
		return "", errNoCredential
	case len(headers) > 1:
		return "", fault.About(fault.Unauthenticated, "httpapi.bearer", "Authorization", "send one Authorization header, not %d", len(headers))
	}
	scheme, credential, found := strings.Cut(headers[0], " ")
	if !found || !strings.EqualFold(scheme, "Bearer") || credential == "" {
		return "", fault.About(fault.Unauthenticated, "httpapi.bearer", "Authorization", "send Authorization: Bearer <API key or token>")
	}
	return credential, nil
}

// who is the principal; anonymous callers have been turned away before a handler asks.
func (x *exchange) who() *auth.Principal { return x.caller.Principal }

// pathBytes returns a parameter of the path as the bytes it stands for: taken from the path as it was sent,
// decoded once. The same bytes go to authorisation, routing and storage.
func (x *exchange) pathBytes(name string) ([]byte, error) {
	s := x.Param(name)
	if x.Request().URL.RawPath != "" {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return nil, fault.About(fault.InvalidArgument, "httpapi.path", name, "%s is not percent-encoded properly", name)
		}
		s = decoded
	}
	if s == "" {
		return nil, fault.About(fault.InvalidArgument, "httpapi.path", name, "%s is empty", name)
	}
	if len(s) > engine.MaxKey {
		return nil, fault.About(fault.TooLarge, "httpapi.path", name, "max key size exceeded. Limit: %d bytes, Actual: %d bytes", engine.MaxKey, len(s))
	}
	from := len(x.path)
	x.path = append(x.path, s...)
	return x.path[from:len(x.path):len(x.path)], nil
}

// cache is the cache that the path names. The server has refused paths that are not percent-encoded properly.
func (x *exchange) cache() string {
	if x.inCache != "" {
		return x.inCache
	}
	name := x.Param("cache")
	if x.Request().URL.RawPath != "" {
		if decoded, err := url.PathUnescape(name); err == nil {
			return decoded
		}
	}
	return name
}

// add appends a command to what do will ask for. Its arguments may point into the request.
func (x *exchange) add(c *engine.Command, args ...[]byte) {
	from := len(x.args)
	x.args = append(append(x.args, c.NameArg()), args...)
	x.calls = append(x.calls, engine.Call{Command: c, Args: x.args[from:len(x.args):len(x.args)]})
}

// restart forgets the commands added so far, before another step of the same request.
func (x *exchange) restart() { x.args, x.calls = x.args[:0], x.calls[:0] }

// do asks the gateway for the commands added so far, on the cache of the path, and returns a cursor on their
// replies. A single command that failed is returned as an error.
func (x *exchange) do() (engine.Cursor, error) {
	return x.first(x.ask(&engine.Bounded{Recording: &x.reply, Max: maxReplies}))
}

// doWhole is do for a single value, which the cache's own limit bounds: its bytes go out as they are, at the
// price of one copy.
func (x *exchange) doWhole() (engine.Cursor, error) {
	return x.first(x.ask(&x.reply))
}

func (x *exchange) first(err error) (engine.Cursor, error) {
	if err != nil {
		return engine.Cursor{}, err
	}
	if len(x.calls) == 1 {
		first := x.reply.Cursor()
		if t := first.Next(); t.Kind == engine.ReplyError {
			return engine.Cursor{}, t.Err
		}
	}
	return x.reply.Cursor(), nil
}

// ask has the gateway carry out the commands added so far. The error is about all of them.
func (x *exchange) ask(reply gateway.Reply) error {
	x.reply.Reset()
	x.request.Caller, x.request.Cache, x.request.Calls, x.request.Reply = &x.caller, x.cache(), x.calls, reply
	if err := x.once(); err != nil {
		return err
	}
	var err error
	if x.request.Consistency, err = x.wanted(); err != nil {
		return err
	}
	x.steps++
	err = x.api.Gateway.Do(x.Request().Context(), &x.request)
	x.units += x.request.Units
	x.charge()
	return err
}

// charge tells the client what the request cost so far and how long the server took.
func (x *exchange) charge() {
	x.header("X-Larder-Units", strconv.FormatInt(x.units, 10))
	x.header("Server-Timing", serverTiming(time.Since(x.began)))
	if x.request.Replayed {
		x.header("Idempotency-Replayed", "true")
	}
	x.tellConsistency()
}

// serverTiming is the header that says how long the server took, in milliseconds with three decimals.
func serverTiming(took time.Duration) string {
	var b [40]byte
	return string(appendServerTiming(b[:0], took))
}

func appendServerTiming(dst []byte, took time.Duration) []byte {
	us := took.Microseconds()
	dst = strconv.AppendInt(append(dst, "total;dur="...), us/1000, 10)
	us %= 1000
	return append(dst, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}

// requestIDs numbers requests; the prefix tells processes apart.
var (
	requestIDs      atomic.Uint64
	requestIDPrefix = strconv.FormatInt(time.Now().UnixNano(), 36)
)

func newRequestID() string {
	var b [40]byte
	return string(appendRequestID(b[:0]))
}

func appendRequestID(dst []byte) []byte {
	return strconv.AppendUint(append(append(dst, requestIDPrefix...), '-'), requestIDs.Add(1), 36)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// noContent answers 204.
func (x *exchange) noContent() error {
	noStore(x.Response().Header())
	x.Response().WriteHeader(http.StatusNoContent)
	return nil
}
