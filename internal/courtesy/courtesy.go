// Package courtesy keeps long work out of the way of requests. A request's thread that wakes up on a processor where another
// one computes waits until that one's slice is over, several milliseconds on a kernel that does not preempt; Go's own
// scheduler makes it wait for up to ten where no P is free. Who works for longer steps back every few dozen microseconds
// instead, which costs less than one when nobody waits.
package courtesy

import (
	"io"
	"time"
)

const (
	// A Bite is how many bytes are worked on between two steps back: a few dozen microseconds.
	Bite = 8 << 10

	// Tolerable is how long others may have the processor before it counts as taken: see Work.
	tolerable = time.Millisecond
	// Share is for how many times as long as others had the processor the work then goes on without stepping back, so that it
	// gets ahead on a machine that is busy with other things.
	share = 1
)

// Work is something that takes long, and one goroutine at a time. The zero value is ready.
type Work struct {
	until time.Time // nothing is given away before
}

// StepBack lets whoever waits for the processor have it. Call it often, and without a lock that anybody waits for.
func (w *Work) StepBack() {
	now := time.Now()
	if now.Before(w.until) {
		return
	}
	giveWay()
	if then := time.Now(); then.Sub(now) > tolerable {
		w.until = then.Add(share * then.Sub(now))
	}
}

// Writer steps back between pieces of what is written to w.
func (w *Work) Writer(to io.Writer) io.Writer { return writer{w, to} }

type writer struct {
	w  *Work
	to io.Writer
}

// piece is how much is handed to the kernel at once, which nothing interrupts.
const piece = 64 << 10

func (t writer) Write(p []byte) (done int, err error) {
	for len(p) > 0 {
		n, err := t.to.Write(p[:min(len(p), piece)])
		if done += n; err != nil {
			return done, err
		}
		p = p[n:]
		t.w.StepBack()
	}
	return done, nil
}

// Reader steps back between pieces of what is read from r.
func (w *Work) Reader(from io.Reader) io.Reader { return reader{w, from} }

type reader struct {
	w    *Work
	from io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	r.w.StepBack()
	return r.from.Read(p[:min(len(p), piece)])
}
