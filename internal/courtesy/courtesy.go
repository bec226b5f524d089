// Package courtesy keeps long work out of the way of requests, which are held up by it in two ways. The kernel lets a thread
// that computes keep its processor for a slice of milliseconds, and a request's thread that wakes up there waits for as long. And Go
// looks for what has come over the network only when no goroutine is ready, else every ten milliseconds; runtime.Gosched alone
// does not change that, since who calls it is ready. So who works for longer gives its turn away at every step, and rests
// for a moment some thousand times a second.
package courtesy

import (
	"io"
	"time"
)

// Bite is how many bytes are worked on between two steps back: less than stride.
const Bite = 8 << 10

const (
	stride = time.Millisecond // between two rests; meanwhile the processor is only offered to who is ready
	rest   = 10 * time.Microsecond

	// Tolerable is how long others may have the processor before it counts as taken. For as long the work then goes on, so
	// that it gets ahead on a machine that is busy with other things.
	tolerable = time.Millisecond
)

// Work is something that takes long, and one goroutine at a time. The zero value is ready.
type Work struct {
	rests time.Time // when it rests again
	owns  time.Time // until when it has the processor
}

// StepBack lets whoever waits for the processor have it. Call it often, and without a lock that anybody waits for.
func (w *Work) StepBack() {
	now := time.Now()
	if now.Before(w.owns) {
		return
	}
	if !now.Before(w.rests) {
		pause(rest)
		w.rests = now.Add(rest + stride)
	}
	giveWay()
	if then := time.Now(); then.Sub(now) > tolerable {
		w.owns = then.Add(then.Sub(now))
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
