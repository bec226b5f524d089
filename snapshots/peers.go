package snapshots

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/larder-cache/larder/internal/fault"
)

// What nodes ask each other about: a job runs on one of them, and where the store is a directory, a snapshot lies on the node that made
// it. A question is one stream: a request, an answer, and behind that the bytes of a snapshot, if they were wanted. Both are JSON behind
// their length in four bytes.

// Peers opens streams to other nodes, whose Service.ServePeer gets the other end.
type Peers interface {
	Open(ctx context.Context, node string) (io.ReadWriteCloser, error)
}

// What may be asked.
const (
	askProgress = "progress" // of a job
	askCancel   = "cancel"   // a job, and returns when nothing of it is left
	askRead     = "read"     // an object of the node's directory
	askDrop     = "drop"     // the same, to remove it
)

type question struct {
	What   string `json:"what"`
	Job    string `json:"job,omitempty"`
	Object string `json:"object,omitempty"`
}

type reply struct {
	Failed   bool       `json:"failed,omitempty"`
	Kind     fault.Kind `json:"kind,omitempty"`
	Problem  string     `json:"problem,omitempty"`
	Known    bool       `json:"known,omitempty"` // the job
	Progress Progress   `json:"progress,omitzero"`
	Size     int64      `json:"size,omitempty"` // bytes that follow
}

// Bounds of what nodes say to each other.
const (
	maxSaid   = 64 << 10
	askTime   = 10 * time.Second // for an answer
	cancelFor = 30 * time.Second // for an answer to askCancel
)

func say(w io.Writer, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...))
	return err
}

func hear(r io.Reader, v any) error { return hearUpTo(maxSaid, r, v) }

func hearUpTo(most uint32, r io.Reader, v any) error {
	var length [4]byte
	if err := fill(r, length[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > most {
		return fmt.Errorf("snapshots: another node or process says %d bytes, at most %d are heard", n, most)
	}
	text := make([]byte, n)
	if err := fill(r, text); err != nil {
		return err
	}
	return json.Unmarshal(text, v)
}

// ask puts a question to a node. The stream is the caller's to close after no error.
func (s *Service) ask(ctx context.Context, node string, q question) (a reply, from io.ReadCloser, err error) {
	if s.cfg.Peers == nil {
		return a, nil, fault.New(fault.Unavailable, "snapshots.ask", "node %s cannot be asked from here", node)
	}
	within := askTime
	if q.What == askCancel {
		within = cancelFor
	}
	opening, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	stream, err := s.cfg.Peers.Open(opening, node)
	if err != nil {
		return a, nil, fault.Wrap(fault.Unavailable, "snapshots.ask", err, "node %s, which works on this or has it, cannot be reached", node)
	}
	deadline(stream, time.Now().Add(within))
	if err = say(stream, q); err == nil {
		err = hear(stream, &a)
	}
	if err == nil && a.Failed {
		_ = stream.Close()
		return a, nil, fault.New(a.Kind, "snapshots.ask", "%s", a.Problem)
	}
	if err != nil {
		_ = stream.Close()
		return a, nil, fault.Wrap(fault.Unavailable, "snapshots.ask", err, "node %s, which works on this or has it, did not answer", node)
	}
	return a, stream, nil
}

// asked is ask for what has no bytes behind it.
func (s *Service) asked(ctx context.Context, node string, q question) (reply, error) {
	a, from, err := s.ask(ctx, node, q)
	if err != nil {
		return a, err
	}
	return a, from.Close()
}

// deadline bounds what is read from and written to a stream.
func deadline(stream any, at time.Time) {
	if d, ok := stream.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(at) // a closed one says so when it is used
	}
}

// ServePeer answers a question of another node, and closes the stream.
func (s *Service) ServePeer(from string, stream io.ReadWriteCloser) {
	defer func() { _ = stream.Close() }()
	var q question
	deadline(stream, time.Now().Add(askTime))
	if err := hear(stream, &q); err != nil {
		s.cfg.Log.Warn("a question of another node about snapshots cannot be read", "node", from, "error", err)
		return
	}
	deadline(stream, time.Now().Add(cancelFor))
	ctx, cancel := context.WithTimeout(context.Background(), cancelFor)
	defer cancel()
	var body *Object
	a, err := func() (a reply, err error) {
		switch q.What {
		case askProgress:
			if j := s.job(q.Job); j != nil {
				a.Known, a.Progress = true, j.progress()
			}
		case askCancel:
			err = s.stop(ctx, q.Job)
		case askRead:
			if body, err = s.cfg.Store.Open(context.WithoutCancel(ctx), q.Object); err == nil {
				a.Size = body.Size
			}
		case askDrop:
			err = s.cfg.Store.Drop(ctx, q.Object)
		default:
			err = fault.New(fault.NotSupported, "snapshots.peer", "this node does not know %.40q", q.What)
		}
		return a, err
	}()
	if err != nil {
		e := fault.From(err)
		a = reply{Failed: true, Kind: e.Kind, Problem: e.Message}
	}
	err = say(stream, a)
	if body == nil {
		return
	}
	defer body.Close()
	for buf := make([]byte, 256<<10); err == nil; {
		var n int
		n, err = body.Read(buf)
		deadline(stream, time.Now().Add(askTime))
		if n > 0 {
			if _, sent := stream.Write(buf[:n]); sent != nil {
				return
			}
		}
	}
	if err != io.EOF {
		s.cfg.Log.Error("a snapshot could not be read to its end for another node", "node", from, "error", err)
	}
}

// A farReader reads an object that another node sends.
type farReader struct {
	io.ReadCloser
	left int64
}

func (r *farReader) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	deadline(r.ReadCloser, time.Now().Add(askTime))
	n, err := r.ReadCloser.Read(p[:min(int64(len(p)), r.left)])
	if r.left -= int64(n); err == io.EOF && r.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
