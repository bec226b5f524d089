package snapshots

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/larder-cache/larder/internal/fault"
)

// A Phase is what a job does at the moment.
type Phase string

// The phases, in their order; a branch and a restoration have the first alone.
const (
	Reading   Phase = "reading"   // the cache, or a snapshot
	Uploading Phase = "uploading" // to the store; where that is down, it is tried again
	Verifying Phase = "verifying" // reads back what lies in the store
)

// Progress is how far a job is.
type Progress struct {
	Snapshot string    `json:"snapshot,omitempty"` // that is made or restored
	Phase    Phase     `json:"phase"`
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended,omitzero"` // zero while it runs
	Entered  time.Time `json:"entered"`        // when the phase began
	Keys     int64     `json:"keys"`           // so far, in this phase
	Bytes    int64     `json:"bytes"`
	Total    int64     `json:"total"`               // keys, about
	Size     int64     `json:"size,omitempty"`      // bytes of a file that is uploaded
	Trouble  string    `json:"trouble,omitempty"`   // why it is waiting
	Problem  string    `json:"problem,omitempty"`   // why it failed
	Retries  int       `json:"retries,omitempty"`   // of the upload
	LastNote time.Time `json:"last_note,omitempty"` // when the log heard of it
}

// Rate is how many bytes a second the phase has done so far.
func (p Progress) Rate(now time.Time) int64 {
	if took := p.end(now).Sub(p.Entered); took > 0 {
		return int64(float64(p.Bytes) / took.Seconds())
	}
	return 0
}

func (p Progress) end(now time.Time) time.Time {
	if p.Ended.IsZero() {
		return now
	}
	return p.Ended
}

// Remaining is about how long the phase takes yet; 0 when that cannot be told.
func (p Progress) Remaining(now time.Time) time.Duration {
	done, all := p.Keys, p.Total
	if p.Phase == Uploading {
		done, all = p.Bytes, p.Size
	}
	if done == 0 || all <= done || !p.Ended.IsZero() {
		return 0
	}
	return time.Duration(float64(now.Sub(p.Entered)) / float64(done) * float64(all-done)).Round(time.Second)
}

// A job is something that this node works on.
type job struct {
	s      *Service
	cancel context.CancelFunc
	done   chan struct{}
	mu     sync.Mutex
	p      Progress
}

// noteEvery is how often the log hears of a job that runs.
const noteEvery = 10 * time.Second

func (j *job) told(keys, bytes int64) {
	j.change(func(p *Progress) { p.Keys, p.Bytes = keys, bytes })
}

func (j *job) change(fn func(*Progress)) {
	now := j.s.cfg.Now()
	j.mu.Lock()
	fn(&j.p)
	note := now.Sub(j.p.LastNote) >= noteEvery
	if note {
		j.p.LastNote = now
	}
	p := j.p
	j.mu.Unlock()
	if note {
		j.s.cfg.Log.Info("work on a snapshot goes on", "snapshot", p.Snapshot, "phase", p.Phase, "keys", p.Keys, "of", p.Total, "bytes", p.Bytes,
			"bytes_per_second", p.Rate(now), "remaining", p.Remaining(now))
	}
}

// enter begins a phase.
func (j *job) enter(phase Phase, size int64) {
	now := j.s.cfg.Now()
	j.change(func(p *Progress) {
		p.Phase, p.Entered, p.Keys, p.Bytes, p.Size, p.Trouble = phase, now, 0, 0, size, ""
	})
}

func (j *job) progress() Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.p
}

// begin starts a job. run's error, which has been cleaned up after, is logged and kept with the progress.
func (s *Service) begin(key string, p Progress, run func(ctx context.Context, j *job) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	running := 0
	for other, j := range s.jobs {
		if ended := j.progress().Ended; !ended.IsZero() {
			if s.cfg.Now().Sub(ended) > keptProgress {
				delete(s.jobs, other)
			}
			continue
		}
		if running++; other == key {
			return fault.New(fault.Conflict, "snapshots.begin", "this is being done already")
		}
	}
	switch {
	case s.closed:
		return fault.New(fault.Unavailable, "snapshots.begin", "this node is about to stop")
	case running >= maxJobs:
		e := fault.New(fault.Throttled, "snapshots.begin", "this node works on %d snapshots already: try again when one is done", maxJobs)
		e.RetryAfter = 5 * time.Second
		return e
	}
	ctx, cancel := context.WithCancel(context.Background())
	j := &job{s: s, cancel: cancel, done: make(chan struct{}), p: p}
	j.p.Began, j.p.Phase = s.cfg.Now(), Reading
	j.p.Entered, j.p.LastNote = j.p.Began, j.p.Began
	s.jobs[key] = j
	s.all.Go(func() {
		defer close(j.done)
		defer cancel()
		j.end(ctx, guarded(func() error { return run(ctx, j) }))
	})
	return nil
}

// end notes and logs what became of a job.
func (j *job) end(ctx context.Context, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.p.Ended = j.s.cfg.Now()
	log := j.s.cfg.Log.With("snapshot", j.p.Snapshot, "keys", j.p.Keys, "bytes", j.p.Bytes, "took", j.p.Ended.Sub(j.p.Began).Round(time.Millisecond))
	switch {
	case err == nil:
		log.Info("a snapshot was made or restored")
	case ctx.Err() != nil:
		j.p.Problem = cancelled
		log.Info("the work on a snapshot was cancelled")
	default:
		j.p.Problem = problem(err)
		log.Error("the work on a snapshot failed", "error", err)
	}
}

const cancelled = "it was cancelled"

// job finds a job that runs here or has ended lately.
func (s *Service) job(key string) *job {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.jobs[key]
}

// stop cancels a job and returns when nothing of it is left; at once when there is none.
func (s *Service) stop(ctx context.Context, key string) error {
	j := s.job(key)
	if j == nil {
		return nil
	}
	j.cancel()
	select {
	case <-j.done:
		return nil
	case <-ctx.Done():
		return fault.Wrap(fault.Timeout, "snapshots.cancel", ctx.Err(), "it is being cancelled, and not over yet")
	}
}

// problem is what an owner is told of an error.
func problem(err error) string {
	if e := fault.From(err); e.Kind != fault.Internal {
		return e.Message
	}
	for _, known := range knownErrors {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "an error that the server's log explains"
}

// guarded turns a panic into an error: a snapshot that cannot be made or restored must not end the process.
func guarded(run func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("internal error: %v\n%s", r, debug.Stack())
		}
	}()
	return run()
}
