package larder

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/larder-cache/larder/sdk/api"
)

// How requests are repeated.
const (
	firstWait   = 50 * time.Millisecond // the longest wait before the second attempt; it doubles with each
	longestWait = 2 * time.Second
	patience    = 10 * time.Second // a Retry-After beyond it is the caller's to wait for

	retryShare = 0.1 // repetitions for each request that is sent
	retrySaved = 10  // repetitions that a quiet time can save up
)

// A sender sends requests, and sends them again where that is safe and helps: on errors of the network and on
// the statuses of a server, or of a proxy before it, that cannot serve now. It waits between attempts for a
// random time up to a bound that doubles (full jitter), or for as long as Retry-After says and a little more.
//
// Repetitions draw on a budget that first attempts fill, so that a server in trouble is not sent a multiple of
// its load by clients that mean well.
type sender struct {
	settings
	sleep func(context.Context, time.Duration) error

	mu     sync.Mutex
	budget float64
}

func newSender(s settings) *sender { return &sender{settings: s, sleep: sleep, budget: retrySaved} }

func (s *sender) do(r *http.Request, repeat api.Repeat) (*http.Response, error) {
	r.Header.Set("User-Agent", s.userAgent)
	if s.credential != "" {
		r.Header.Set("Authorization", "Bearer "+s.credential)
	}
	s.earn()
	ctx := r.Context()
	for attempt := 1; ; attempt++ {
		resp, err := s.client.Do(r)
		if repeat == api.Once || attempt == s.attempts || ctx.Err() != nil || !passing(resp, err) {
			return resp, err
		}
		wait := time.Duration(rand.Int64N(int64(min(longestWait, firstWait<<(attempt-1))) + 1))
		if resp != nil {
			asked := api.RetryAfter(resp)
			if asked > patience {
				return resp, nil
			}
			wait += asked
		}
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait || !s.spend() {
			return resp, err // what went wrong says more than a deadline that would pass
		}
		if resp != nil {
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // so that the connection is used again
			_ = resp.Body.Close()
		}
		if e := s.sleep(ctx, wait); e != nil {
			return nil, e
		}
		again := r.Clone(ctx)
		if r.GetBody != nil {
			if again.Body, err = r.GetBody(); err != nil {
				return nil, err
			}
		}
		r = again
	}
}

// passing reports whether what went wrong may have passed at the next attempt.
func passing(resp *http.Response, err error) bool {
	if err != nil {
		return true
	}
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}

func (s *sender) earn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.budget = min(retrySaved, s.budget+retryShare)
}

// spend takes one repetition out of the budget, if there is one.
func (s *sender) spend() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.budget < 1 {
		return false
	}
	s.budget--
	return true
}

// sleep waits, but not beyond the context's end.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
