// Package api is Larder's HTTP API in Go, one type for each schema and one method for each operation of its
// OpenAPI document. Package larder, above it, is what applications use; this package is for what that leaves
// out.
//
// Types and methods are generated (api.gen.go); this file is what they stand on: how a request is put
// together, how an answer and an error are read.
package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A Client calls operations of one server. Its methods may be used by several goroutines.
type Client struct {
	Server string // "https://larder.example.com"; a path in it stands before those of the operations

	// Do sends a request, and may send it again as far as repeat allows. A request that may be sent again has
	// its GetBody set.
	Do func(r *http.Request, repeat Repeat) (*http.Response, error)

	// NewKey makes the Idempotency-Key of a write; nil for writes without one, which may then not be repeated.
	NewKey func() string
}

// Repeat says whether a request may be sent more than once.
type Repeat int

// How requests may be repeated.
const (
	Once  Repeat = iota // a second one may do the same thing again
	Keyed               // a write with an Idempotency-Key, which takes effect once
	Safe                // changes nothing
)

// An Option changes one call.
type Option func(*call)

type call struct {
	request  *http.Request
	received []*http.Header
}

// Header sets a header of the request.
func Header(name, value string) Option {
	return func(c *call) { c.request.Header.Set(name, value) }
}

// Received keeps the answer's header.
func Received(h *http.Header) Option {
	return func(c *call) { c.received = append(c.received, h) }
}

// WithBody sends what r gives as the body, as it comes and however long it is, in the place of the one that the call was made
// with; size is its length in bytes, below 0 where it is not known. Such a call is to be one that is never repeated.
func WithBody(r io.Reader, size int64) Option {
	return func(c *call) {
		c.request.Body, c.request.ContentLength, c.request.GetBody = io.NopCloser(r), size, nil
	}
}

// A request is one call of an operation as its generated method describes it.
type request struct {
	method, path string
	repeat       Repeat
	query        []string
	header       http.Header
	contentType  string
	body         []byte
	value        any // the body, as JSON, if body is nil
	err          error
}

// fill puts a value in the place of {name} in the path.
func (r *request) fill(name, value string) {
	if value == "" && r.err == nil {
		r.err = fmt.Errorf("larder: %s is empty", name)
	}
	r.path = strings.Replace(r.path, "{"+name+"}", escape(value), 1)
}

// escape percent-encodes a part of a path, any bytes, so that it stays one part: "." and ".." are encoded as
// well, since they would be taken for steps.
func escape(s string) string {
	const hex = "0123456789ABCDEF"
	dots := s == "." || s == ".."
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '~', c == '.' && !dots:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// ask adds a parameter to the query.
func (r *request) ask(name, value string) {
	r.query = append(r.query, name+"="+url.QueryEscape(value))
}

// say adds a header.
func (r *request) say(name, value string) {
	if r.header == nil {
		r.header = http.Header{}
	}
	r.header.Set(name, value)
}

// maxProblem bounds how much of an error is read.
const maxProblem = 1 << 20

// send sends the request and returns an answer that is no error, with its body still to be read and closed.
func (c *Client) send(ctx context.Context, r *request, options []Option) (*http.Response, error) {
	if r.err != nil {
		return nil, r.err
	}
	body := r.body
	if r.value != nil {
		var err error
		if body, err = json.Marshal(r.value); err != nil {
			return nil, fmt.Errorf("larder: %w", err)
		}
	}
	target := strings.TrimSuffix(c.Server, "/") + r.path
	if len(r.query) > 0 {
		target += "?" + strings.Join(r.query, "&")
	}
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, reader)
	if err != nil {
		return nil, fmt.Errorf("larder: %w", err)
	}
	if r.header != nil {
		req.Header = r.header
	}
	if r.contentType != "" && body != nil {
		req.Header.Set("Content-Type", r.contentType)
	}
	this := call{request: req}
	for _, o := range options {
		o(&this)
	}
	repeat := r.repeat
	if repeat == Keyed && req.Header.Get(keyHeader) == "" {
		if c.NewKey == nil {
			repeat = Once
		} else {
			req.Header.Set(keyHeader, c.NewKey())
		}
	}
	resp, err := c.Do(req, repeat)
	if err != nil {
		return nil, fmt.Errorf("larder: %w", err)
	}
	for _, h := range this.received {
		*h = resp.Header
	}
	if resp.StatusCode >= 300 && resp.StatusCode != http.StatusNotModified {
		defer resp.Body.Close()
		return nil, errorOf(resp)
	}
	return resp, nil
}

const keyHeader = "Idempotency-Key"

// ask sends the request and reads its answer, JSON, into answer, unless that is nil.
func (c *Client) ask(ctx context.Context, r *request, options []Option, answer any) error {
	resp, err := c.send(ctx, r, options)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if answer != nil {
		if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
			return fmt.Errorf("larder: the answer to %s %s: %w", r.method, r.path, err)
		}
	}
	_, _ = io.CopyN(io.Discard, resp.Body, maxProblem) // so that the connection is used again
	return nil
}

// Code is a stable word for what went wrong. It is an error, so that errors.Is(err, code) finds it in an
// *Error.
type Code string

func (c Code) Error() string { return string(c) }

// Error is an answer that says no.
type Error struct {
	Status     int           // of HTTP
	Code       Code          // stable: branch on it, with errors.Is
	Detail     string        // what was wrong, and what the limit is
	Argument   string        // the argument at fault; may be empty
	RequestID  string        // names the request in the server's log
	RetryAfter time.Duration // when a retry makes sense; 0 means unsaid
	Results    []Result      // of an atomic batch that was aborted
}

func (e *Error) Error() string {
	s := "larder: " + string(e.Code)
	if e.Code == "" {
		s = "larder: status " + strconv.Itoa(e.Status)
	}
	if e.Detail != "" {
		s += ": " + e.Detail
	}
	return s
}

// Is reports whether target is the error's code.
func (e *Error) Is(target error) bool {
	var code Code
	return errors.As(target, &code) && code == e.Code
}

// errorOf reads an error from an answer. A server of ours answers with a problem; an answer to HEAD has no
// body, and a proxy on the way answers as it likes.
func errorOf(resp *http.Response) *Error {
	e := &Error{Status: resp.StatusCode, RequestID: resp.Header.Get("X-Request-Id"), RetryAfter: RetryAfter(resp)}
	var p Problem
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxProblem))
	if err == nil && strings.HasPrefix(resp.Header.Get("Content-Type"), "application/problem+json") && json.Unmarshal(text, &p) == nil {
		e.Code, e.Detail, e.Results = Code(p.Code), p.Detail, p.Results
		if p.Argument != nil {
			e.Argument = *p.Argument
		}
		return e
	}
	e.Code = codes[resp.StatusCode]
	e.Detail = http.StatusText(resp.StatusCode)
	return e
}

// codes are those of statuses that have one only.
var codes = map[int]Code{
	http.StatusUnauthorized: "unauthenticated", http.StatusForbidden: "denied", http.StatusNotFound: "not_found",
	http.StatusMethodNotAllowed: "method_not_allowed", http.StatusPreconditionFailed: "precondition_failed",
	http.StatusRequestEntityTooLarge: "too_large", http.StatusRequestedRangeNotSatisfiable: "range_not_satisfiable",
	http.StatusTooManyRequests: "throttled", http.StatusServiceUnavailable: "unavailable",
}

// RetryAfter is what an answer's Retry-After asks for, as seconds or as a date; 0 when it does not.
func RetryAfter(resp *http.Response) time.Duration {
	text := resp.Header.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, time.Until(at))
	}
	return 0
}
