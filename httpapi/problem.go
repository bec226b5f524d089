package httpapi

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/larder-cache/larder/internal/fault"
)

// Problem is an error as RFC 9457 writes it, with members of our own: code, argument, request_id.
type Problem struct {
	Type      string `json:"type" example:"about:blank"`   // always about:blank: code says which kind it is
	Title     string `json:"title" example:"Out of range"` // the kind of error in words
	Status    int    `json:"status" example:"400" minimum:"400" maximum:"599"`
	Code      string `json:"code" example:"out_of_range"`                   // stable; branch on this
	Detail    string `json:"detail" example:"limit is 1 to 1000, not 5000"` // what was wrong, and what the limit is
	Argument  string `json:"argument,omitempty" example:"limit"`            // the argument at fault
	RequestID string `json:"request_id" example:"dq1x0k3f2a-1f"`            // for our log
	Results   []any  `json:"results,omitempty" swaggertype:"array,object"`  // of an atomic batch that was aborted
}

// writeError answers with an error: a problem, or what the REST dialect has in its place. It is the only place that
// does.
func (a *API) writeError(c echo.Context, err error) {
	if c.Response().Committed {
		a.Log.Debug("a response broke off", "error", err)
		return
	}
	e := problemOf(err)
	face := e.Kind.Face()
	h := c.Response().Header()
	id := h.Get("X-Request-Id")
	if id == "" {
		id = newRequestID()
		h["X-Request-Id"] = []string{id}
	}
	e = a.shown(e, c.Request().Method, c.Path(), id)
	switch face.Status {
	case http.StatusUnauthorized:
		h["Www-Authenticate"] = []string{`Bearer realm="larder"`}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h["Retry-After"] = []string{retryAfter(e.RetryAfter)}
	}
	if face.Status != http.StatusUnauthorized && !errors.As(err, new(*echo.HTTPError)) { // strangers are not waited for
		drain(c.Request())
	}
	noStore(h)
	status, content, body := face.Status, "application/problem+json", []byte(nil)
	if inRest(c.Request().URL.Path) {
		content = jsonContent[0]
		status, body = restFailure(err, e)
		h["Upstash-Sync-Token"] = []string{id}
	} else {
		body = problem(err, e, id)
	}
	h["Content-Type"] = []string{content}
	c.Response().WriteHeader(status)
	if c.Request().Method != http.MethodHead {
		_, _ = c.Response().Write(body)
	}
}

// shown is an error as a client may see it: one of our own goes to our log instead.
func (a *API) shown(e *fault.Error, method, route, id string) *fault.Error {
	if e.Kind != fault.Internal {
		return e
	}
	a.Log.Error("a request failed", "method", method, "route", route, "request_id", id, "error", e)
	return fault.New(fault.Internal, "", "something went wrong on our side; the request id is in our log")
}

// problem is an error as RFC 9457 writes it.
func problem(err error, e *fault.Error, id string) []byte {
	face := e.Kind.Face()
	p := Problem{Type: "about:blank", Title: face.Title, Status: face.Status, Code: face.Code, Detail: detailOf(e), Argument: e.Argument, RequestID: id}
	var aborted *abortedBatch
	if errors.As(err, &aborted) {
		p.Results = aborted.results
	}
	return encode(p)
}

// detailOf is what an error says. Where Redis's words have to be what they are, it says more.
func detailOf(e *fault.Error) string {
	if e.Kind == fault.CrossSlot {
		return e.Message + ". In a cache with several slot ranges, what is done as one piece has all its keys in one slot: give them the same hash tag, like {user:7}:cart and {user:7}:name"
	}
	return e.Message
}

// problemOf classifies errors that are not ours: echo's about routes and methods, the server's about bodies.
func problemOf(err error) *fault.Error {
	var tooLarge *http.MaxBytesError
	var ofEcho *echo.HTTPError
	switch {
	case errors.As(err, &tooLarge):
		return fault.About(fault.TooLarge, "httpapi.body", "body", "max request size exceeded. Limit: %d bytes", tooLarge.Limit)
	case errors.As(err, &ofEcho):
		switch ofEcho.Code {
		case http.StatusNotFound:
			return fault.New(fault.NotFound, "httpapi.route", "there is no such route; see /docs")
		case http.StatusMethodNotAllowed:
			return fault.New(fault.MethodNotAllowed, "httpapi.route", "this route has no such method; see the Allow header")
		}
	}
	return fault.From(err)
}

// retryAfter is a duration in whole seconds, at least one.
func retryAfter(d time.Duration) string {
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

func noStore(h http.Header) {
	h["Cache-Control"] = noStoreValue
	h["X-Content-Type-Options"] = noSniffValue
}

// Header values that never change are shared by all responses.
var (
	noStoreValue = []string{"no-store"}
	noSniffValue = []string{"nosniff"}
)
