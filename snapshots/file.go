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
	"slices"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/courtesy"
	"github.com/larder-cache/larder/internal/seal"
)

// The contents of a snapshot, behind the seal: see docs/reference/snapshot-format.md.
const (
	fileMagic = "larder snapshot 1\n"

	markPart = 1 // a partition's cut follows
	markEnd  = 0 // the summary follows, and nothing after it

	chunkBytes = 64 << 10
	maxSummary = 4 << 10
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

// Write seals the cuts of a cache's partitions, one after the other. told, nil for nobody, hears how many keys and bytes are
// written so far. Only when it returns nil is the snapshot whole.
func Write(ctx context.Context, w io.Writer, kms seal.KMS, h seal.Head, cuts []io.Reader, told func(keys, bytes int64)) (c Contents, err error) {
	var work courtesy.Work
	sealed, err := seal.Writer(ctx, work.Writer(w), kms, h)
	if err != nil {
		return c, err
	}
	var digest [32]byte
	out := bufio.NewWriterSize(sealed, chunkBytes)
	out.WriteString(fileMagic) // the last write tells of errors
	buf := make([]byte, chunkBytes)
	for _, cut := range cuts {
		s := &engine.CutSplitter{ // that counts, and deals nothing out
			To: func(int, []byte) int { return -1 }, Emit: func(*engine.CutPart) error { return nil },
		}
		out.WriteByte(markPart)
		for {
			if ctx.Err() != nil {
				return c, ctx.Err()
			}
			n, err := cut.Read(buf)
			if err == io.EOF {
				break
			}
			if err != nil {
				return c, err
			}
			if n == 0 {
				continue
			}
			if _, err := s.Write(buf[:n]); err != nil {
				return c, err
			}
			out.Write(binary.BigEndian.AppendUint32(nil, uint32(n)))
			if _, err := out.Write(buf[:n]); err != nil {
				return c, err
			}
			c.Bytes += int64(n)
			if told != nil {
				told(c.Keys+s.Keys, c.Bytes)
			}
		}
		if err := s.Done(); err != nil {
			return c, err
		}
		out.Write(make([]byte, 4))
		c.add(s, &digest)
	}
	text, err := json.Marshal(c)
	if err != nil {
		return c, err
	}
	out.WriteByte(markEnd)
	out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
	out.Write(text)
	if err := out.Flush(); err != nil {
		return c, err
	}
	return c, sealed.Close()
}

// A Sink takes the parts of a snapshot while it is read.
type Sink struct {
	Targets int                          // see engine.CutSplitter
	To      func(db int, key []byte) int // which target gets a key
	Emit    func(*engine.CutPart) error
	Thaw    int64                   // see engine.CutSplitter
	Now     int64                   // the same
	Told    func(keys, bytes int64) // nil for nobody
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
	in := bufio.NewReaderSize(plain, chunkBytes)
	magic := make([]byte, len(fileMagic))
	if err := fill(in, magic); err != nil || string(magic) != fileMagic {
		return c, errors.Join(ErrBad, err)
	}
	var digest [32]byte
	for {
		mark, err := in.ReadByte()
		if err != nil {
			return c, errors.Join(ErrBad, err)
		}
		if mark == markEnd {
			break
		}
		if mark != markPart {
			return c, fmt.Errorf("%w: mark %d is not known", ErrBad, mark)
		}
		if err := readPart(ctx, in, work, &sink, &c, &digest); err != nil {
			return c, err
		}
	}
	if err := checkSummary(in, c); err != nil {
		return c, err
	}
	return c, nil
}

func readPart(ctx context.Context, in io.Reader, work *courtesy.Work, sink *Sink, c *Contents, digest *[32]byte) error {
	s := &engine.CutSplitter{All: sink.Targets, To: sink.To, Emit: sink.Emit, Now: sink.Now, Thaw: sink.Thaw}
	if s.To == nil {
		s.To = func(int, []byte) int { return -1 }
	}
	if s.Emit == nil {
		s.Emit = func(*engine.CutPart) error { return nil }
	}
	buf := make([]byte, chunkBytes)
	for {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var length [4]byte
		if err := fill(in, length[:]); err != nil {
			return errors.Join(ErrBad, err)
		}
		n := binary.BigEndian.Uint32(length[:])
		if n == 0 {
			break
		}
		if n > chunkBytes {
			return fmt.Errorf("%w: a chunk of %d bytes, at most %d are allowed", ErrBad, n, chunkBytes)
		}
		if err := fill(in, buf[:n]); err != nil {
			return errors.Join(ErrBad, err)
		}
		for bite := range slices.Chunk(buf[:n], courtesy.Bite) {
			if _, err := s.Write(bite); err != nil {
				return err
			}
			work.StepBack()
		}
		c.Bytes += int64(n)
		if sink.Told != nil {
			sink.Told(c.Keys+s.Keys, c.Bytes)
		}
	}
	if err := s.Done(); err != nil {
		return err
	}
	c.add(s, digest)
	return nil
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
