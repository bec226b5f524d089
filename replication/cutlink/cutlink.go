// Package cutlink lets a node cut caches whose partitions are led by other nodes.
//
// Each cut is one stream between two nodes. The asking side says what it wants cut; the leader holds the writes of that cache back and says
// so; on the next word it cuts, on the one after it lets writes go on, and then it sends the cut, and behind it what becomes of the cache if
// that was asked for. A node that does not lead says who does. A stream that breaks at any time ends the hold, the cut and the feed.
//
// Start with Far, which is a replication.Holder, and Serve.
package cutlink

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/replication"
)

// Links opens streams to other nodes: see package peerlink.
type Links interface {
	Open(ctx context.Context, to string, kind byte) (io.ReadWriteCloser, error)
}

// Options say what is in a cut, in a form that travels.
type Options struct {
	Prefix   []byte   `json:"prefix,omitempty"`
	NoOnce   bool     `json:"no_once,omitempty"`
	NoFlush  bool     `json:"no_flush,omitempty"`
	DataOnly bool     `json:"data_only,omitempty"`
	Slots    [][2]int `json:"slots,omitempty"` // runs of slots, first and last; none for all
}

// Cut are the options as the engine has them.
func (o Options) Cut() engine.CutOptions {
	c := engine.CutOptions{Prefix: o.Prefix, NoOnce: o.NoOnce, NoFlush: o.NoFlush, DataOnly: o.DataOnly}
	if len(o.Slots) > 0 {
		c.Keep = func(_ int, key []byte) bool {
			slot := int(placement.Slot(key))
			for _, run := range o.Slots {
				if run[0] <= slot && slot <= run[1] {
					return true
				}
			}
			return false
		}
	}
	return c
}

type request struct {
	Partition placement.PartitionID `json:"partition"`
	Cache     []byte                `json:"cache"`
	Options   Options               `json:"options"`
	Follow    bool                  `json:"follow,omitempty"`
}

type answer struct {
	Failed bool       `json:"failed,omitempty"`
	Kind   fault.Kind `json:"kind,omitempty"`
	Says   string     `json:"says,omitempty"`
	Moved  bool       `json:"moved,omitempty"` // this node does not lead
	Leader string     `json:"leader,omitempty"`
}

// The words of the asking side behind its request.
const (
	wordCut     = 'c'
	wordRelease = 'r'
)

// Bounds of a stream.
const (
	maxWord    = 64 << 10         // bytes of a request or an answer
	maxPiece   = 1 << 30          // bytes: a value is not divided
	pieceBytes = 128 << 10        // bytes of most pieces
	wordTime   = 5 * time.Second  // for a word to come; a hold is over long before
	pieceTime  = 60 * time.Second // for a piece to be taken, or to come
	quietTime  = 10 * time.Second // without anything to tell of, after which that is told
)

// Pieces behind a cut are what becomes of the cache; those that begin so are not.
const (
	markQuiet = '\n' // nothing has happened
	markLost  = '-'  // why nothing follows
)

func send(w io.Writer, b []byte, within time.Duration) error {
	deadline(w, within)
	if _, err := w.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b)))); err != nil || len(b) == 0 {
		return err
	}
	_, err := w.Write(b)
	return err
}

func receive(r io.Reader, into []byte, atMost int, within time.Duration) ([]byte, error) {
	deadline(r, within)
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint32(length[:]))
	if n > atMost {
		return nil, fmt.Errorf("cutlink: a piece of %d bytes, at most %d are taken", n, atMost)
	}
	for len(into) < n { // as they come: a length alone makes nobody allocate
		at := len(into)
		into = append(into, make([]byte, min(n-at, 1<<20))...)
		if _, err := io.ReadFull(r, into[at:]); err != nil {
			return nil, err
		}
	}
	return into, nil
}

func deadline(stream any, within time.Duration) {
	if d, ok := stream.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(time.Now().Add(within)) // a closed one says so when it is used
	}
}

// Serve answers the stream of another node, and closes it. at finds a partition in this process, nil for none.
func Serve(stream io.ReadWriteCloser, at func(placement.PartitionID) replication.Holder) error {
	defer func() { _ = stream.Close() }()
	text, err := receive(stream, nil, maxWord, wordTime)
	if err != nil {
		return err
	}
	var q request
	if err := json.Unmarshal(text, &q); err != nil {
		return err
	}
	var id engine.CacheID
	if copy(id[:], q.Cache) != len(id) {
		return errors.New("cutlink: a request without a cache")
	}
	cut, feed, err := begin(stream, at(q.Partition), id, &q)
	if cut == nil {
		return err
	}
	defer cut.Close()
	if feed != nil {
		defer feed.Close()
	}
	buf := make([]byte, pieceBytes)
	for err == nil {
		var n int
		n, err = cut.Read(buf)
		if n > 0 {
			if err := send(stream, buf[:n], pieceTime); err != nil {
				return err
			}
		}
	}
	if err != io.EOF {
		return err // the other side finds no end
	}
	if err := send(stream, nil, pieceTime); err != nil || feed == nil {
		return err
	}
	cut.Close() // what is overwritten from now on need not be kept
	return tell(stream, feed)
}

// tell sends what becomes of a cache, until the other side has gone or the feed has come to its end.
func tell(stream io.Writer, feed replication.Feed) error {
	for {
		ctx, cancel := context.WithTimeout(context.Background(), quietTime)
		b, err := feed.Next(ctx)
		quiet := ctx.Err() != nil
		cancel()
		switch {
		case err == nil:
		case quiet:
			b = []byte{markQuiet}
		default:
			return errors.Join(err, send(stream, append([]byte{markLost}, fault.From(err).Message...), wordTime))
		}
		if err := send(stream, b, pieceTime); err != nil {
			return nil // the other side has had enough
		}
	}
}

// begin goes through the words of a stream until the cut is to be sent; nil when it is not.
func begin(stream io.ReadWriter, p replication.Holder, id engine.CacheID, q *request) (replication.Cut, replication.Feed, error) {
	if p == nil {
		return nil, nil, say(stream, &replication.NotLeader{})
	}
	ctx, cancel := context.WithTimeout(context.Background(), replication.HoldTime)
	defer cancel()
	held, err := p.Hold(ctx, id)
	if err != nil {
		return nil, nil, say(stream, err)
	}
	defer held.Release()
	if err := say(stream, nil); err != nil {
		return nil, nil, err
	}
	if err := hear(stream, wordCut); err != nil {
		return nil, nil, err
	}
	var cut replication.Cut
	var feed replication.Feed
	if q.Follow {
		cut, feed, err = held.Follow(ctx, q.Options.Cut())
	} else {
		cut, err = held.Cut(ctx, q.Options.Cut())
	}
	if err != nil {
		return nil, nil, say(stream, err)
	}
	if err = say(stream, nil); err == nil {
		err = hear(stream, wordRelease)
	}
	if err != nil {
		cut.Close()
		if feed != nil {
			feed.Close()
		}
		return nil, nil, err
	}
	return cut, feed, nil
}

func hear(stream io.Reader, word byte) error {
	deadline(stream, wordTime)
	var b [1]byte
	if _, err := io.ReadFull(stream, b[:]); err != nil {
		return err
	}
	if b[0] != word {
		return fmt.Errorf("cutlink: the word %q in the place of %q", b[0], word)
	}
	return nil
}

func say(stream io.Writer, err error) error {
	var a answer
	if err != nil {
		e := fault.From(err)
		a = answer{Failed: true, Kind: e.Kind, Says: e.Message}
		var moved *replication.NotLeader
		if errors.As(err, &moved) {
			a = answer{Failed: true, Kind: fault.Unavailable, Says: "this node does not lead the partition", Moved: true, Leader: moved.Node}
		}
	}
	text, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return send(stream, text, wordTime)
}

// A Far is a partition that is led by another node.
type Far struct {
	Links     Links
	Kind      byte // of the streams
	Partition placement.PartitionID
	Nodes     []string // that have a replica, the likeliest leader first
	Options   Options  // of the cut that is to follow
	Follow    bool     // and of a feed behind it: then Held.Follow is called, and without it Held.Cut
}

// Hold implements replication.Holder.
func (f *Far) Hold(ctx context.Context, id engine.CacheID) (replication.Held, error) {
	text, err := json.Marshal(request{f.Partition, id[:], f.Options, f.Follow})
	if err != nil {
		return nil, err
	}
	err = fault.New(fault.Unavailable, "cutlink.hold", "no node in reach holds partition %d", f.Partition)
	asked := map[string]bool{}
	nodes := f.Nodes
	for len(nodes) > 0 && ctx.Err() == nil {
		node := nodes[0]
		nodes = nodes[1:]
		if asked[node] {
			continue
		}
		asked[node] = true
		h, a, failed := f.ask(ctx, node, text)
		switch {
		case failed != nil:
			err = fault.Wrap(fault.Unavailable, "cutlink.hold", failed, "node %s, which has a part of the cache, cannot be reached", node)
		case !a.Failed:
			return h, nil
		case a.Moved:
			err = fault.New(a.Kind, "cutlink.hold", "%s", a.Says)
			if a.Leader != "" {
				nodes = append([]string{a.Leader}, nodes...)
			}
		default:
			return nil, fault.New(a.Kind, "cutlink.hold", "%s", a.Says)
		}
	}
	return nil, err
}

func (f *Far) ask(ctx context.Context, node string, text []byte) (*held, answer, error) {
	stream, err := f.Links.Open(ctx, node, f.Kind)
	if err != nil {
		return nil, answer{}, err
	}
	h := &held{stream: stream}
	var a answer
	if err = send(stream, text, wordTime); err == nil {
		a, err = h.answer(ctx)
	}
	if err != nil || a.Failed {
		return nil, a, errors.Join(err, stream.Close())
	}
	return h, a, nil
}

// held is a hold of another node.
type held struct {
	stream   io.ReadWriteCloser
	cut      bool
	released bool
}

// answer waits for one, no longer than ctx.
func (h *held) answer(ctx context.Context) (a answer, err error) {
	stop := context.AfterFunc(ctx, func() { deadline(h.stream, -time.Second) })
	defer stop()
	text, err := receive(h.stream, nil, maxWord, wordTime)
	if err != nil {
		return a, errors.Join(err, ctx.Err())
	}
	return a, json.Unmarshal(text, &a)
}

// Cut implements replication.Held. What is in the cut was said when the hold began.
func (h *held) Cut(ctx context.Context, _ engine.CutOptions) (replication.Cut, error) {
	if err := h.begin(ctx); err != nil {
		return nil, err
	}
	return &farCut{h: h}, nil
}

// Follow implements replication.Held.
func (h *held) Follow(ctx context.Context, _ engine.CutOptions) (replication.Cut, replication.Feed, error) {
	if err := h.begin(ctx); err != nil {
		return nil, nil, err
	}
	c := &farCut{h: h, followed: make(chan struct{})}
	return c, &farFeed{c: c}, nil
}

func (h *held) begin(ctx context.Context) error {
	var a answer
	_, err := h.stream.Write([]byte{wordCut})
	if err == nil {
		a, err = h.answer(ctx)
	}
	if err != nil {
		return fault.Wrap(fault.Unavailable, "cutlink.cut", err, "a node that has a part of the cache did not answer")
	}
	if a.Failed {
		return fault.New(a.Kind, "cutlink.cut", "%s", a.Says)
	}
	h.cut = true
	return nil
}

// Release implements replication.Held.
func (h *held) Release() {
	switch {
	case h.released:
	case h.cut:
		_, _ = h.stream.Write([]byte{wordRelease}) // who reads the cut sees whether it came
	default:
		_ = h.stream.Close() // which ends the hold
	}
	h.released = true
}

// farCut is a cut that another node sends.
type farCut struct {
	h        *held
	buf      []byte
	rest     []byte
	over     bool
	followed chan struct{} // closed when the cut is over, and the stream a feed's; nil without one
	told     sync.Once
}

// ends notes that nothing of the cut is to be read any more.
func (c *farCut) ends() {
	c.over = true
	if c.followed != nil {
		c.told.Do(func() { close(c.followed) })
	}
}

// Read implements replication.Cut.
func (c *farCut) Read(p []byte) (int, error) {
	if len(c.rest) == 0 && !c.over {
		b, err := receive(c.h.stream, c.buf[:0], maxPiece, pieceTime)
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, fault.Wrap(fault.Unavailable, "cutlink.read", err, "a node that has a part of the cache was lost while it was read")
		}
		if c.buf, c.rest = b, b; len(b) == 0 {
			c.ends()
		}
	}
	if c.over {
		return 0, io.EOF
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Close implements replication.Cut.
func (c *farCut) Close() {
	if c.followed != nil && c.over {
		return
	}
	c.h.released = true
	_ = c.h.stream.Close()
	c.ends()
}

// farFeed is a feed that another node sends, behind its cut.
type farFeed struct {
	c   *farCut
	buf []byte
}

// Next implements replication.Feed.
func (f *farFeed) Next(ctx context.Context) ([]byte, error) {
	select {
	case <-f.c.followed: // before that, what comes is the cut
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	stream := f.c.h.stream
	stop := context.AfterFunc(ctx, func() { deadline(stream, -time.Second) })
	defer stop()
	for ctx.Err() == nil {
		b, err := receive(stream, f.buf[:0], maxPiece, pieceTime)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			return nil, fault.Wrap(fault.Unavailable, "cutlink.next", err, "a node that has a part of the cache was lost while it was followed")
		case len(b) == 0 || b[0] == markQuiet:
		case b[0] == markLost:
			return nil, fault.New(fault.Unavailable, "cutlink.next", "%s", b[1:])
		default:
			if f.buf = b; cap(b) > 1<<20 {
				f.buf = nil
			}
			return b, nil
		}
	}
	return nil, ctx.Err()
}

// Close implements replication.Feed.
func (f *farFeed) Close() { _ = f.c.h.stream.Close() }
