package snapshots

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/courtesy"
	"github.com/larder-cache/larder/internal/seal"
)

// The contents of a snapshot, behind the seal: see docs/reference/snapshot-format.md.
const (
	fileMagic = "larder snapshot 1\n"

	markPart = 1 // a partition's cut follows
	markEnd  = 0 // the summary follows, and nothing after it

	chunkBytes  = 64 << 10
	lengthBytes = 4
	maxSummary  = 4 << 10
)

// ErrBad is the cause of every error about contents that are not a whole snapshot.
var ErrBad = errors.New("the snapshot is damaged, or not whole")

// Contents are what a snapshot has.
type Contents struct {
	Keys     int64  `json:"keys"`
	Elements int64  `json:"elements"` // of large collections
	Bytes    int64  `json:"bytes"`    // before encryption
	Parts    int    `json:"parts"`    // partitions that were cut
	Digest   string `json:"digest"`   // of keys, values and deadlines, in hex: the same for the same contents
}

// add counts a part.
func (c *Contents) add(s *engine.CutSplitter, digest *[32]byte) {
	c.Parts++
	c.Keys += s.Keys
	c.Elements += s.Elements
	for i, b := range s.Digest {
		digest[i] ^= b
	}
	c.Digest = hex.EncodeToString(digest[:])
}

// pour sends the cuts of a cache's partitions to a helper, one after the other: what a snapshot has but for its first line and its
// summary.
func pour(ctx context.Context, to io.Writer, cuts []Cut) error {
	buf := make([]byte, lengthBytes+chunkBytes)
	for _, cut := range cuts {
		if _, err := to.Write([]byte{markPart}); err != nil {
			return err
		}
		for more := true; more; {
			n := lengthBytes
			for more && n < len(buf) {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				m, err := cut.Read(buf[n:])
				if n += m; err == io.EOF {
					more = false
				} else if err != nil {
					return err
				}
			}
			if n -= lengthBytes; n == 0 {
				break
			}
			binary.BigEndian.PutUint32(buf, uint32(n))
			if _, err := to.Write(buf[:lengthBytes+n]); err != nil {
				return err
			}
		}
		if _, err := to.Write(make([]byte, lengthBytes)); err != nil {
			return err
		}
	}
	_, err := to.Write([]byte{markEnd})
	return err
}

// A sealing writes what pour sends as a whole snapshot, a chunk at each step.
type sealing struct {
	from *bufio.Reader
	to   *bufio.Writer           // its last write tells of errors
	told func(keys, bytes int64) // hears how many are written so far
	c    Contents

	digest [32]byte
	part   *engine.CutSplitter // that is under way, nil between two
	buf    []byte
}

// step reports whether there is more. Only when it has said no, without an error, is the snapshot whole.
func (s *sealing) step() (more bool, err error) {
	if s.buf == nil {
		s.buf = make([]byte, lengthBytes+chunkBytes)
		s.to.WriteString(fileMagic)
	}
	if s.part == nil {
		return s.mark()
	}
	n, err := chunkLength(s.from, s.buf)
	if err != nil {
		return false, errors.Join(errCutShort, err)
	}
	chunk := s.buf[lengthBytes:][:n]
	if err := fill(s.from, chunk); err != nil {
		return false, errors.Join(errCutShort, err)
	}
	if _, err := s.to.Write(s.buf[:lengthBytes+n]); err != nil {
		return false, err
	}
	if n == 0 {
		err := s.part.Done()
		s.c.add(s.part, &s.digest)
		s.part = nil
		return true, err
	}
	if _, err := s.part.Write(chunk); err != nil {
		return false, err
	}
	s.c.Bytes += int64(n)
	s.told(s.c.Keys+s.part.Keys, s.c.Bytes)
	return true, nil
}

// mark begins the next part, or writes the summary.
func (s *sealing) mark() (more bool, err error) {
	mark, err := s.from.ReadByte()
	if err != nil {
		return false, errors.Join(errCutShort, err)
	}
	s.to.WriteByte(mark)
	if mark == markPart {
		s.part = new(Sink).splitter()
		return true, nil
	}
	text, err := json.Marshal(s.c)
	if err != nil {
		return false, err
	}
	s.to.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
	s.to.Write(text)
	return false, s.to.Flush()
}

// chunkLength reads how long the next chunk is, 0 for none, into b.
func chunkLength(from io.Reader, b []byte) (int, error) {
	if err := fill(from, b[:lengthBytes]); err != nil {
		return 0, errors.Join(ErrBad, err)
	}
	n := binary.BigEndian.Uint32(b)
	if n > chunkBytes {
		return 0, fmt.Errorf("%w: a chunk of %d bytes, at most %d are allowed", ErrBad, n, chunkBytes)
	}
	return int(n), nil
}

// A Sink takes the parts of a snapshot while it is read.
type Sink struct {
	Targets int                          // see engine.CutSplitter
	To      func(db int, key []byte) int // which target gets a key
	Emit    func(*engine.CutPart) error
	Thaw    int64                   // see engine.CutSplitter
	Now     int64                   // the same
	Told    func(keys, bytes int64) // nil for nobody

	lent bool // Emit gives back the bytes of a part
}

// splitter is what takes a part; with a zero Sink it counts, and deals nothing out.
func (k *Sink) splitter() *engine.CutSplitter {
	s := &engine.CutSplitter{All: k.Targets, To: k.To, Emit: k.Emit, Now: k.Now, Thaw: k.Thaw, Lent: k.lent}
	if s.To == nil {
		s.To = func(int, []byte) int { return -1 }
	}
	if s.Emit == nil {
		s.Emit = func(*engine.CutPart) error { return nil }
	}
	return s
}

// Read opens a snapshot and hands its contents on as they come; with a zero Sink it only checks them. What it handed on is worth
// nothing until it has returned nil: then all of it came, was what had been written, and nothing follows.
func Read(ctx context.Context, r io.Reader, kms seal.KMS, want seal.Head, sink Sink) (c Contents, err error) {
	var work courtesy.Work
	_, plain, err := seal.Open(ctx, work.Reader(r), kms, want)
	if err != nil {
		return c, err
	}
	return readPlain(ctx, plain, &work, sink)
}

// readPlain is Read of what was opened.
func readPlain(ctx context.Context, plain io.Reader, work *courtesy.Work, sink Sink) (c Contents, err error) {
	r := newReading(plain, &sink)
	r.bite = courtesy.Bite
	for more := true; more; work.StepBack() {
		if ctx.Err() != nil {
			return c, ctx.Err()
		}
		if more, err = r.step(); err != nil {
			return c, err
		}
	}
	return r.c, nil
}

// A reading reads the contents of a snapshot, a piece of a chunk at each step.
type reading struct {
	in   *bufio.Reader
	sink *Sink
	bite int // bytes of a step at the most
	c    Contents

	begun  bool
	digest [32]byte
	part   *engine.CutSplitter // that is under way, nil between two
	left   int                 // of the chunk
	buf    []byte
}

func newReading(plain io.Reader, sink *Sink) *reading {
	return &reading{in: bufio.NewReaderSize(plain, chunkBytes), sink: sink, bite: chunkBytes, buf: make([]byte, chunkBytes)}
}

// step reports whether there is more. Only when it has said no, without an error, was all of it right.
func (r *reading) step() (more bool, err error) {
	switch {
	case !r.begun:
		r.begun = true
		magic := r.buf[:len(fileMagic)]
		if err := fill(r.in, magic); err != nil || string(magic) != fileMagic {
			return false, errors.Join(ErrBad, err)
		}
		return true, nil
	case r.part == nil:
		return r.mark()
	case r.left == 0:
		if r.left, err = chunkLength(r.in, r.buf); err != nil || r.left > 0 {
			return true, err
		}
		err := r.part.Done()
		r.c.add(r.part, &r.digest)
		r.part = nil
		return true, err
	}
	bite := r.buf[:min(r.left, r.bite)]
	if err := fill(r.in, bite); err != nil {
		return false, errors.Join(ErrBad, err)
	}
	if _, err := r.part.Write(bite); err != nil {
		return false, err
	}
	r.left -= len(bite)
	if r.c.Bytes += int64(len(bite)); r.sink.Told != nil {
		r.sink.Told(r.c.Keys+r.part.Keys, r.c.Bytes)
	}
	return true, nil
}

// mark begins the next part, or checks the end.
func (r *reading) mark() (more bool, err error) {
	mark, err := r.in.ReadByte()
	switch {
	case err != nil:
		return false, errors.Join(ErrBad, err)
	case mark == markEnd:
		return false, checkSummary(r.in, r.c)
	case mark != markPart:
		return false, fmt.Errorf("%w: mark %d is not known", ErrBad, mark)
	}
	r.part = r.sink.splitter()
	return true, nil
}

// checkSummary compares what came with what the snapshot says it has, and makes sure that nothing follows.
func checkSummary(in *bufio.Reader, c Contents) error {
	var length [4]byte
	if err := fill(in, length[:]); err != nil {
		return errors.Join(ErrBad, err)
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxSummary {
		return fmt.Errorf("%w: a summary of %d bytes, at most %d are allowed", ErrBad, n, maxSummary)
	}
	text := make([]byte, n)
	if err := fill(in, text); err != nil {
		return errors.Join(ErrBad, err)
	}
	var said Contents
	if err := json.Unmarshal(text, &said); err != nil || said != c {
		return fmt.Errorf("%w: it says it has %s, it has %+v", ErrBad, text, c)
	}
	if _, err := in.ReadByte(); err != io.EOF {
		return errors.Join(ErrBad, err)
	}
	return nil
}

func fill(r io.Reader, b []byte) error {
	_, err := io.ReadFull(r, b)
	return err
}
