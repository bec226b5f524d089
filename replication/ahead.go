package replication

import (
	"context"
	"io"
)

// A readAhead reads what is to come on a goroutine of its own, so that decrypting and restoring take a core each.
type readAhead struct {
	chunks chan []byte
	spare  chan []byte
	err    error // behind chunks
	b      []byte
	rest   []byte
	end    context.CancelFunc
	over   chan struct{}
}

const aheadChunks = 4

func newReadAhead(ctx context.Context, r io.Reader) *readAhead {
	a := &readAhead{chunks: make(chan []byte, aheadChunks), spare: make(chan []byte, aheadChunks+2), over: make(chan struct{})}
	ctx, a.end = context.WithCancel(ctx)
	for range aheadChunks + 2 {
		a.spare <- make([]byte, 256<<10)
	}
	go func() {
		defer close(a.over)
		defer close(a.chunks)
		for {
			select {
			case <-ctx.Done():
				a.err = ctx.Err()
				return
			case b := <-a.spare:
				n, err := io.ReadFull(r, b)
				if n > 0 {
					select {
					case a.chunks <- b[:n]:
					case <-ctx.Done():
						a.err = ctx.Err()
						return
					}
				}
				if err != nil {
					if a.err = err; err == io.ErrUnexpectedEOF {
						a.err = io.EOF
					}
					return
				}
			}
		}
	}()
	return a
}

// Read implements io.Reader.
func (a *readAhead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.b != nil {
			a.spare <- a.b[:cap(a.b)]
			a.b = nil
		}
		b, ok := <-a.chunks
		if !ok {
			return 0, a.err
		}
		a.b, a.rest = b, b
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends reading, and returns when nothing is read any more.
func (a *readAhead) Close() {
	a.end()
	<-a.over
}
