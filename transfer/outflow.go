package transfer

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A Feed is what becomes of a cache on one partition, from a cut on: see replication.Feed.
type Feed interface {
	Next(ctx context.Context) ([]byte, error)
	Close()
}

// A FollowedCut is the cut.
type FollowedCut interface {
	io.Reader
	Close()
}

// A Follow begins to cut a cache on all of its partitions at one point, and to tell what becomes of it from there on. An error of kind
// Unavailable may be gone in a moment.
type Follow func(ctx context.Context) ([]FollowedCut, []Feed, error)

// Outflows are the caches that replicas of Redis follow on this node.
//
// A replica gets the cut as an RDB file of a length that nobody knows before, and then what has become of the cache, from all partitions
// in the order in which it comes here: keys of different partitions have nothing to do with each other. What it has not acknowledged
// is kept, so that it can go on after its connection broke; where that is more than may be kept, or something is missing, the
// replica is sent away, and begins anew by itself.
//
//	W1: what a replica gets behind the file continues, byte by byte, the stream whose name and offset it was told
//	W2: what is kept for replicas is bounded, for each and for all of them
//	W3: an outflow is of one cache, by its id: nobody who asks for another gets to it
type Outflows struct {
	Rooms   func() (engine.Room, error) // see engine.CutReader
	Server  string                      // the version of the server
	Now     func() time.Time
	Log     *slog.Logger
	Backlog int64 // bytes that are kept for a replica
	Total   int64 // and for all together

	// Messages has told called for each message that is published in a cache, until stop is called; nil where none is passed on. told
	// does not wait.
	Messages func(id engine.CacheID, told func(channel, message []byte)) (stop func(), err error)

	held atomic.Int64 // bytes

	mu     sync.Mutex
	of     map[string]*outflow // by the name of their stream
	closed bool
	all    sync.WaitGroup
}

// Bounds.
const (
	outflowsEach = 4                // of one cache
	outflowsAll  = 64               // of a node
	lingerTime   = 60 * time.Second // for which a replica may be gone
	quietTime    = 10 * time.Second // after which it gets a sign of life
	beginTime    = 10 * time.Second // for a cut to begin, before the replica is told to come back
	beginPause   = 100 * time.Millisecond
	chunkBytes   = 64 << 10
)

var (
	errOutflows  = errors.New("as many replicas follow caches here as may: end some")
	errSlow      = errors.New("the replica is too slow: more has changed than is kept for it")
	errDisplaced = errors.New("another connection has taken the stream over")
	errStops     = errors.New("the server stops")
	errGone      = errors.New("its connection has ended")
)

// An outflow is a cache as one replica follows it.
type outflow struct {
	all    *Outflows
	name   string // of its stream
	cache  engine.CacheID
	ctx    context.Context
	cancel context.CancelFunc

	mu     sync.Mutex
	more   sync.Cond
	chunks []chunk // what is kept, in order
	end    int64   // of the stream
	asked  int64   // where the replica was asked last how far it is
	told   int64   // when it last went on, in nanoseconds since 1970
	whole  bool    // the file has been sent, so that the stream can be taken over
	err    error   // why nothing follows
	to     *Following
	linger *time.Timer
}

// A chunk is a part of the stream.
type chunk struct {
	at int64
	b  []byte
}

// A Following is a replica's connection.
type Following struct {
	o     *outflow
	w     io.WriteCloser
	loads chan struct{} // closed when the replica has loaded the file
	gone  chan struct{} // closed when the connection is
	once  [2]sync.Once
}

// Follow begins to send a cache to a replica: what follows an offset of the stream with a name, where that is still known, or else all of
// it. Everything goes to w, which is closed at the end, whatever the reason.
func (all *Outflows) Follow(id engine.CacheID, name string, offset int64, w io.WriteCloser, follow Follow) (*Following, error) {
	if f := all.resume(id, name, offset, w); f != nil {
		return f, nil
	}
	var random [20]byte
	rand.Read(random[:])
	o := &outflow{all: all, name: hex.EncodeToString(random[:]), cache: id}
	o.more.L = &o.mu
	o.ctx, o.cancel = context.WithCancel(context.Background())
	if err := all.enter(o); err != nil {
		o.cancel()
		return nil, err
	}
	f := newFollowing(o, w)
	o.to = f
	go func() {
		defer all.all.Done()
		f.over(f.begin(follow))
	}()
	return f, nil
}

func newFollowing(o *outflow, w io.WriteCloser) *Following {
	return &Following{o: o, w: w, loads: make(chan struct{}), gone: make(chan struct{})}
}

// enter makes room for an outflow and notes it.
func (all *Outflows) enter(o *outflow) error {
	all.mu.Lock()
	defer all.mu.Unlock()
	if all.closed {
		return errStops
	}
	if all.of == nil {
		all.of = map[string]*outflow{}
	}
	count := 0
	for _, other := range all.of {
		if other.cache == o.cache {
			count++
		}
	}
	if count >= outflowsEach || len(all.of) >= outflowsAll {
		if !all.evict(o.cache, count >= outflowsEach) {
			return errOutflows
		}
	}
	all.of[o.name] = o
	all.all.Add(1)
	return nil
}

// evict ends an outflow that nobody is connected to, of a cache or of any. The caller holds mu.
func (all *Outflows) evict(id engine.CacheID, own bool) bool {
	for _, other := range all.of {
		if own && other.cache != id {
			continue
		}
		other.mu.Lock()
		idle := other.to == nil
		other.mu.Unlock()
		if idle {
			delete(all.of, other.name)
			go other.fail(errOutflows)
			return true
		}
	}
	return false
}

// resume goes on with a stream, nil when that cannot be.
func (all *Outflows) resume(id engine.CacheID, name string, offset int64, w io.WriteCloser) *Following {
	all.mu.Lock()
	o := all.of[name]
	if o == nil || o.cache != id || all.closed {
		all.mu.Unlock()
		return nil
	}
	all.all.Add(1)
	all.mu.Unlock()
	f := newFollowing(o, w)
	if !o.attach(f, offset) {
		all.all.Done()
		return nil
	}
	go func() {
		defer all.all.Done()
		_, err := io.WriteString(w, "+CONTINUE "+name+"\r\n")
		if err == nil {
			err = f.send(offset)
		}
		f.over(err)
	}()
	return f
}

// attach makes a connection the one that the stream goes to, from an offset on, and reports whether that can be.
func (o *outflow) attach(f *Following, offset int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil || !o.whole || offset < o.begins() || offset > o.end {
		return false
	}
	if o.linger != nil {
		o.linger.Stop()
		o.linger = nil
	}
	if o.to != nil {
		go o.to.w.Close() // which makes its sender fail
	}
	o.to = f
	o.more.Broadcast()
	return true
}

// begins is where what is kept does. The caller holds mu.
func (o *outflow) begins() int64 {
	if len(o.chunks) == 0 {
		return o.end
	}
	return o.chunks[0].at
}

// begin sends all of the cache, and then what becomes of it.
func (f *Following) begin(follow Follow) error {
	o := f.o
	cuts, sources, err := f.cut(follow)
	if err != nil {
		// A replica that hears of LOADING comes back soon.
		_, told := fmt.Fprintf(f.w, "-LOADING %s\r\n", fault.From(err).Message)
		return errors.Join(err, told)
	}
	for _, s := range sources {
		o.all.all.Add(1)
		go func() {
			defer o.all.all.Done()
			defer s.Close()
			o.fail(o.take(s))
		}()
	}
	if err = o.hear(); err == nil {
		err = f.file(cuts)
	}
	for _, c := range cuts {
		c.Close()
	}
	if err != nil {
		return err
	}
	o.mu.Lock()
	o.whole, o.told = true, o.all.Now().UnixNano()
	o.mu.Unlock()
	o.all.all.Add(1)
	go func() {
		defer o.all.all.Done()
		o.live()
	}()
	// A replica looks for the mark at the end of what it has read: nothing may follow before it says that it has loaded the file.
	select {
	case <-f.loads:
		return f.send(0)
	case <-f.gone:
		return errGone
	case <-o.ctx.Done():
		return context.Cause(o.ctx)
	}
}

// cut begins the cut. Meanwhile the replica gets signs of life.
func (f *Following) cut(follow Follow) ([]FollowedCut, []Feed, error) {
	ctx, cancel := context.WithTimeout(f.o.ctx, beginTime)
	defer cancel()
	for {
		cuts, sources, err := follow(ctx)
		if err == nil || !fault.Is(err, fault.Unavailable) {
			return cuts, sources, err
		}
		if _, gone := io.WriteString(f.w, "\n"); gone != nil {
			return nil, nil, gone
		}
		select {
		case <-time.After(beginPause):
		case <-ctx.Done():
			return nil, nil, err
		}
	}
}

// file sends the cut as an RDB file, whose end shows by a mark that was told before.
func (f *Following) file(cuts []FollowedCut) error {
	all := f.o.all
	var random [20]byte
	rand.Read(random[:])
	mark := hex.EncodeToString(random[:])
	out := bufio.NewWriterSize(f.w, chunkBytes)
	fmt.Fprintf(out, "+FULLRESYNC %s 0\r\n$EOF:%s\r\n", f.o.name, mark) // Flush tells of errors
	e := NewExporter(out, ExportOptions{Format: "rdb", Now: all.Now(), Rooms: all.Rooms, Server: all.Server})
	for _, c := range cuts {
		if err := e.Cut(c); err != nil {
			e.Abandon()
			return err
		}
		c.Close()
	}
	if err := e.Close(); err != nil {
		return err
	}
	out.WriteString(mark)
	for _, s := range e.Report.Skipped {
		all.Log.Warn("a replica of Redis does not get all of a cache", "cache", f.o.cache, "reason", s.Reason, "keys", s.Count)
	}
	return out.Flush()
}

// send sends the stream from an offset on, until something fails.
func (f *Following) send(offset int64) error {
	for {
		b, err := f.o.from(f, offset)
		if err != nil {
			return err
		}
		if _, err := f.w.Write(b); err != nil {
			return err
		}
		offset += int64(len(b))
	}
}

// from waits until the stream has got beyond an offset, and returns a part of what is there.
func (o *outflow) from(f *Following, offset int64) ([]byte, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.err == nil && o.to == f && offset == o.end {
		o.more.Wait()
	}
	switch {
	case o.err != nil:
		return nil, o.err
	case o.to != f:
		return nil, errDisplaced
	}
	at, found := slices.BinarySearchFunc(o.chunks, offset, func(c chunk, offset int64) int { return int(min(max(c.at-offset, -1), 1)) })
	if !found {
		at--
	}
	if at < 0 {
		return nil, fmt.Errorf("W1: the stream is kept from %d on, and %d is to be sent", o.begins(), offset)
	}
	c := &o.chunks[at]
	return c.b[offset-c.at:], nil
}

// take adds what comes from a partition, until that ends.
func (o *outflow) take(s Feed) error {
	for {
		b, err := s.Next(o.ctx)
		if err == nil {
			err = o.add(b)
		}
		if err != nil {
			return err
		}
	}
}

// hear has what is published go to the replica, too.
func (o *outflow) hear() error {
	if o.all.Messages == nil {
		return nil
	}
	stop, err := o.all.Messages(o.cache, func(channel, message []byte) {
		if errors.Is(o.add(appendCommand(nil, Command{[]byte("PUBLISH"), channel, message})), errSlow) {
			go o.fail(errSlow)
		}
	})
	if err == nil {
		context.AfterFunc(o.ctx, stop)
	}
	return err
}

// getAck asks a replica to say how far it is. It does so by itself once a second: where much changes, more than is kept for it may
// have come until then.
var getAck = appendCommand(nil, command("REPLCONF", "GETACK", "*"))

// ackParts is into how many parts the backlog is divided: at the end of each the replica is asked.
const ackParts = 8

// add goes on with the stream.
func (o *outflow) add(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	err := o.put(b)
	if err == nil && o.end-o.asked > o.all.Backlog/ackParts {
		o.asked = o.end
		err = o.put(getAck)
	}
	return err
}

// put is add under the lock (W2).
func (o *outflow) put(b []byte) error {
	if o.err != nil {
		return o.err
	}
	n := int64(len(b))
	if kept := o.end - o.begins(); kept+n > o.all.Backlog || o.all.held.Add(n) > o.all.Total {
		if kept+n <= o.all.Backlog {
			o.all.held.Add(-n)
		}
		return errSlow
	}
	last := len(o.chunks) - 1
	if last >= 0 && len(o.chunks[last].b)+len(b) <= chunkBytes {
		o.chunks[last].b = append(o.chunks[last].b, b...) // behind what senders have
	} else {
		o.chunks = append(o.chunks, chunk{o.end, slices.Clone(b)})
	}
	o.end += n
	o.told = o.all.Now().UnixNano()
	o.more.Broadcast()
	return nil
}

// signOfLife is what a replica gets when nothing else happens.
var signOfLife = []byte("*1\r\n$4\r\nPING\r\n")

// live has replicas hear something now and then.
func (o *outflow) live() {
	tick := time.NewTicker(quietTime / 4)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-o.ctx.Done():
			return
		}
		o.mu.Lock()
		quiet := o.to != nil && o.all.Now().UnixNano()-o.told >= int64(quietTime)
		o.mu.Unlock()
		if quiet {
			if err := o.add(signOfLife); err != nil {
				o.fail(err)
				return
			}
		}
	}
}

// Acked is told how far a replica has come: what is before that need not be kept.
func (f *Following) Acked(offset int64) {
	o := f.o
	f.once[0].Do(func() { close(f.loads) })
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.to != f {
		return
	}
	n := 0
	for n < len(o.chunks) && o.chunks[n].at+int64(len(o.chunks[n].b)) <= min(offset, o.end) {
		o.all.held.Add(-int64(len(o.chunks[n].b)))
		n++
	}
	o.chunks = slices.Delete(o.chunks, 0, n)
}

// over ends a connection. What it followed goes on for a while, so that the replica can come back.
func (f *Following) over(err error) {
	o := f.o
	_ = f.w.Close() // it has failed, or is to
	o.mu.Lock()
	mine := o.to == f
	stays := mine && o.whole && o.err == nil
	if stays {
		o.to = nil
		o.linger = time.AfterFunc(lingerTime, func() { o.fail(errors.New("the replica did not come back")) })
	}
	if o.err != nil {
		err = o.err
	}
	o.mu.Unlock()
	if mine {
		o.all.Log.Info("a replica of Redis has gone", "cache", o.cache, "reason", err)
	}
	if mine && !stays {
		o.fail(err)
	}
}

// fail ends the outflow.
func (o *outflow) fail(err error) {
	o.mu.Lock()
	first := o.err == nil
	if first {
		o.err = err
		o.all.held.Add(o.begins() - o.end)
		o.chunks = nil
		o.end = 0
	}
	if o.linger != nil {
		o.linger.Stop()
	}
	o.more.Broadcast()
	o.mu.Unlock()
	o.cancel()
	o.all.mu.Lock()
	if o.all.of[o.name] == o {
		delete(o.all.of, o.name)
	}
	o.all.mu.Unlock()
}

// Close is told that the connection is gone: the Writer fails from now on.
func (f *Following) Close() {
	f.once[1].Do(func() { close(f.gone) })
}

// Close ends everything and waits for it.
func (all *Outflows) Close() {
	all.mu.Lock()
	all.closed = true
	list := make([]*outflow, 0, len(all.of))
	for _, o := range all.of {
		list = append(list, o)
	}
	all.mu.Unlock()
	for _, o := range list {
		o.fail(errStops)
		o.mu.Lock()
		to := o.to
		o.mu.Unlock()
		if to != nil {
			_ = to.w.Close() // it is at its end
		}
	}
	all.all.Wait()
}

// Held is how many bytes are kept for replicas.
func (all *Outflows) Held() int64 { return all.held.Load() }
