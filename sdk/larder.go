// Package larder is the Go client of Larder, a cache that many applications share.
//
//	client, err := larder.New("https://larder.example.com", larder.WithAPIKey(key))
//	cache := client.Cache("main")
//	etag, err := cache.KV().Set(ctx, "greeting", []byte("hello"), larder.TTL(time.Hour))
//	value, err := cache.KV().Get(ctx, "greeting")
//	if errors.Is(err, larder.ErrNotFound) { … }
//
// A Client holds a pool of connections: make one and share it. Every call takes a context and ends with it.
//
// Keys, names and members are any bytes in a string.
//
// An error that the server answers is an *Error with a stable code, which errors.Is compares with ErrNotFound
// and the like. Calls that failed on the way, or that the server could not serve, are repeated where that is
// safe: reads, and writes of data, since each of those carries an Idempotency-Key and takes effect once. See
// WithAttempts and WithoutIdempotency. Management calls that change something are never repeated.
//
// The types of package api are what goes over the wire. Client.API has the operations that this package
// leaves out.
package larder

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"time"

	"github.com/larder-cache/larder/sdk/api"
)

// A Client talks to one server. Its methods may be used by several goroutines.
type Client struct {
	api *api.Client
}

// Error is an answer that says no. Compare its code with errors.Is(err, larder.ErrNotFound); see its other
// fields with errors.As.
type Error = api.Error

// An Option of New.
type Option func(*settings) error

type settings struct {
	credential string
	userAgent  string
	client     *http.Client
	attempts   int
	newKey     func() string
}

// WithAPIKey names the API key, or the token, that the client shows.
func WithAPIKey(key string) Option {
	return func(s *settings) error {
		if key == "" || strings.ContainsAny(key, " \t\r\n") {
			return errors.New("larder: an API key or token is not empty and has no spaces")
		}
		s.credential = key
		return nil
	}
}

// WithHTTPClient has another http.Client send the requests: for a proxy, for certificates of your own.
func WithHTTPClient(c *http.Client) Option {
	return func(s *settings) error { s.client = c; return nil }
}

// WithUserAgent names your program to the server, before this package's own name.
func WithUserAgent(name string) Option {
	return func(s *settings) error { s.userAgent = name + " " + s.userAgent; return nil }
}

// WithAttempts bounds how often a call is sent: 1 to 10 times, 4 if you do not say. Whatever the number,
// repetitions are at most a tenth of all requests in the long run.
func WithAttempts(n int) Option {
	return func(s *settings) error {
		if n < 1 || n > 10 {
			return fmt.Errorf("larder: attempts are 1 to 10, not %d", n)
		}
		s.attempts = n
		return nil
	}
}

// WithoutIdempotency sends writes without an Idempotency-Key, which saves the server from remembering them.
// They are then never repeated: after an error you do not know whether they took effect.
func WithoutIdempotency() Option {
	return func(s *settings) error { s.newKey = nil; return nil }
}

// New makes a client of the server at address, such as "https://larder.example.com". It does not connect.
func New(address string, options ...Option) (*Client, error) {
	at, err := url.Parse(address)
	if err != nil || (at.Scheme != "http" && at.Scheme != "https") || at.Host == "" || at.RawQuery != "" || at.Fragment != "" || at.User != nil {
		return nil, fmt.Errorf("larder: an address is like https://larder.example.com, not %.200q", address)
	}
	s := settings{userAgent: "larder-go/" + version(), client: newHTTPClient(), attempts: 4, newKey: rand.Text}
	for _, o := range options {
		if err := o(&s); err != nil {
			return nil, err
		}
	}
	sender := newSender(s)
	return &Client{api: &api.Client{Server: strings.TrimSuffix(address, "/"), Do: sender.do, NewKey: s.newKey}}, nil
}

// API has every operation of the HTTP API, with this client's credential and its repetitions.
func (c *Client) API() *api.Client { return c.api }

// newHTTPClient makes a client whose every wait ends, but for the context's own: connecting, shaking hands,
// waiting for an answer to begin. It follows no redirect, since a credential must not go where it was not
// meant for.
func newHTTPClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   5 * time.Second,
			ResponseHeaderTimeout: 60 * time.Second,
			ExpectContinueTimeout: time.Second,
			IdleConnTimeout:       90 * time.Second,
			MaxIdleConns:          256,
			MaxIdleConnsPerHost:   256,
			ForceAttemptHTTP2:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// version is this module's, as the program that uses it was built.
func version() string {
	const path = "github.com/larder-cache/larder/sdk"
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path && m.Version != "" {
				return m.Version
			}
		}
	}
	return "devel"
}

// A CallOption changes one call.
type CallOption = api.Option

// IfMatch lets a write happen only if what is written to still has this ETag; else it is
// ErrPreconditionFailed and nothing has changed.
func IfMatch(etag string) CallOption { return api.Header("If-Match", etag) }

// IdempotencyKey takes the place of the key that the client makes for a write. A program that may be restarted
// between two attempts keeps the key itself, and repeats the write with it within 24 hours.
func IdempotencyKey(key string) CallOption { return api.Header("Idempotency-Key", key) }

// A Consistency is how current the answer to a read has to be.
type Consistency string

// The levels, from the strictest to the loosest. Without one, what the cache says holds.
const (
	Linearizable Consistency = "linearizable" // what was acknowledged before is seen
	Leader       Consistency = "leader"       // what the leader has, without asking whether it still leads
	Eventual     Consistency = "eventual"     // what some replica has, the nearest first
)

// WithConsistency says how current reads of this call have to be. What the answer was stands in its header: see Header.
func WithConsistency(level Consistency) CallOption {
	return api.Header("X-Larder-Consistency", string(level))
}

// Header keeps the header of the answer: X-Larder-Units, what the call cost; X-Larder-Consistency, what a read was; X-Request-Id.
func Header(h *http.Header) CallOption { return api.Received(h) }
