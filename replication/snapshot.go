package replication

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"time"

	"go.etcd.io/raft/v3"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/proto"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/courtesy"
)

// How a replica is brought up that is further behind than the log reaches, or that is new.
//
// Raft's snapshot is a token that never leaves the leader. In its place the leader cuts its partition where it has applied
// the log to, which takes no time, and streams the cut bit by bit while writes go on; the log is kept from there. The
// follower fills a new partition, and when it is whole its raft is told of a snapshot at that index, and the new partition
// takes the place of the old. A stream that breaks is begun anew, from another cut.

// shipping is what a group sends and receives of the kind.
//
//	S1: one shipment at a time: a cut of a cache can be read once at a time
//	S2: while one is under way the log is kept from where it was cut
type shipping struct {
	current *shipment
	arrived []*arrival // told to raft, which will take one of them or none
}

// A shipment is a snapshot on its way out.
type shipment struct {
	g     *Group
	to    uint64
	node  string
	index uint64
	head  []byte
	cut   *engine.CutStream // under the group's lock
	parts []byte            // that have been gathered, and go before the cut
	over  bool
}

var (
	errShipping = errors.New("replication: the snapshot is not needed any more")
	errArrival  = errors.New("replication: a snapshot is for a replica that is not here")
)

// begin sets out with a snapshot for a replica. When that is not possible now, raft asks again later.
func (s *shipping) begin(g *Group, m *raftpb.Message) {
	to := m.GetTo()
	failed := func() { g.inside(func() { g.rn.ReportSnapshot(to, raft.SnapshotFailure) }) }
	node := g.members.nodes[to]
	if s.current != nil || node == "" {
		if s.current == nil || s.current.to != to {
			failed()
		}
		return
	}
	g.giveWay()
	cut, ok := g.p.CutPartition()
	if !ok { // a copy of a cache is being made
		failed()
		return
	}
	term, err := g.store.Term(g.applied)
	if err != nil {
		panic(err)
	}
	head := binary.AppendUvarint(nil, uint64(g.id.partition))
	for _, n := range [...]uint64{uint64(g.id.generation), to, g.self, g.term, g.applied, term} {
		head = binary.AppendUvarint(head, n)
	}
	head = appendConfState(head, g.conf)
	if t := &g.gathering; t.size > 0 { // see accept
		for _, n := range [...]uint64{t.term, uint64(t.size), uint64(len(t.b))} {
			head = binary.AppendUvarint(head, n)
		}
	}
	parts := g.gathering.b // what comes behind them later is not in it
	s.current = &shipment{g: g, to: to, node: node, index: g.applied, head: head, cut: cut, parts: parts[:len(parts):len(parts)]}
	g.log.Info("sends a snapshot", "to", fmt.Sprintf("%x", to), "index", g.applied)
	g.c.ship(s.current)
}

// stop ends a shipment that is under way.
func (s *shipping) stop(g *Group) {
	if s.current != nil {
		s.current.over = true
		s.current.cut.Close()
		s.current = nil
	}
}

// holds is from where the log is kept.
func (s *shipping) holds() uint64 {
	if s.current != nil {
		return s.current.index
	}
	return math.MaxUint64
}

// next appends the next piece of about so many bytes to dst, and reports whether there is more.
func (s *shipment) next(dst []byte, bytes int) (_ []byte, more bool, err error) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	if s.over || s.g.broken {
		return dst, false, errShipping
	}
	if n := min(len(s.parts), bytes); n > 0 {
		dst, s.parts = append(dst, s.parts[:n]...), s.parts[n:]
		return dst, true, nil
	}
	defer s.g.guard(&err)
	dst, more = s.cut.Read(dst, bytes)
	return dst, more, nil
}

// finish ends a shipment.
func (s *shipment) finish(arrived bool) {
	g := s.g
	g.inside(func() {
		if s.over {
			return
		}
		g.ship.stop(g)
		status := raft.SnapshotFinish
		if !arrived {
			status = raft.SnapshotFailure
		}
		g.rn.ReportSnapshot(s.to, status)
	})
}

// A stream of a snapshot is pieces, each behind its length in four bytes: its head, those of the cut, and an empty one. Back
// comes one byte when it has arrived.
const (
	shipPiece   = courtesy.Bite          // bytes read from the cut at once: the group waits meanwhile
	shipRate    = 128 << 20              // bytes a second
	shipRest    = 16                     // for so many times as long as a piece took, times the shipments of the process, by the processors, a shipment rests
	shipRested  = 20 * time.Millisecond  // at the most, times the shipments
	shipTimeout = 10 * time.Second       // for a piece to be taken
	maxPiece    = 1 << 30                // bytes: a value is not divided
	arrivedByte = 'a'                    // the answer
	shipPause   = time.Millisecond / 2   // the least that is worth a pause
	shipOpening = 500 * time.Millisecond // before a failure is reported: raft asks again at once
)

// send is the way of a shipment to another node.
func (s *shipment) send() {
	err := s.stream()
	if err != nil {
		s.g.log.Warn("a snapshot did not arrive", "to", s.node, "error", err)
		time.Sleep(shipOpening)
	}
	s.finish(err == nil)
}

func (s *shipment) stream() (err error) {
	c := s.g.c
	ctx, cancel := context.WithTimeout(context.Background(), shipTimeout)
	defer cancel()
	to, err := c.links.Open(ctx, s.node, c.cfg.Kind)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	c.shipments.Add(1)
	defer c.shipments.Add(-1)
	buf, began, sent := s.head, time.Now(), 0
	var work courtesy.Work
	for more := true; ; {
		work.StepBack()
		piece := time.Now()
		if err := writePiece(to, buf); err != nil {
			return err
		}
		sent += len(buf)
		if !more {
			break
		}
		if buf, more, err = s.next(buf[:0], shipPiece); err != nil {
			return err
		}
		// What requests need of both nodes' processors comes first.
		rest := min(shipRest*time.Since(piece)/time.Duration(runtime.GOMAXPROCS(0)), shipRested) * time.Duration(c.shipments.Load())
		ahead := time.Duration(float64(sent)/shipRate*float64(time.Second)) - time.Since(began)
		if rest = max(rest, ahead); rest > shipPause {
			time.Sleep(rest)
		}
	}
	if err := writePiece(to, nil); err != nil {
		return err
	}
	var answer [1]byte
	if _, err := io.ReadFull(to, answer[:]); err != nil || answer[0] != arrivedByte {
		return fmt.Errorf("replication: the snapshot was not taken: %w", err)
	}
	return nil
}

func writePiece(to io.ReadWriteCloser, b []byte) error {
	patient(to)
	if _, err := to.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b)))); err != nil || len(b) == 0 {
		return err
	}
	_, err := to.Write(b)
	return err
}

// patient gives a stream so long for what comes next.
func patient(s io.ReadWriteCloser) {
	if d, ok := s.(interface{ SetDeadline(time.Time) error }); ok {
		_ = d.SetDeadline(time.Now().Add(shipTimeout)) // a closed one says so when it is used
	}
}

// An arrival is a snapshot on its way in.
type arrival struct {
	g        *Group
	meta     *raftpb.SnapshotMetadata
	from     uint64
	at       uint64 // the leader's term
	p        *engine.Partition
	restorer *engine.Restorer

	gathering gathering
	left      int // bytes of parts that are still to come
}

// accept reads a snapshot's head.
func (c *Cluster) accept(head []byte) (*arrival, error) {
	r := &reader{b: head}
	partition, generation, to, from, at, index, term := r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint(), r.uvarint()
	conf := readConfState(r)
	var parts gathering
	left := 0
	if len(r.b) > 0 { // parts come first
		parts.term, parts.size, left = r.uvarint(), int(min(r.uvarint(), maxTask+1)), int(min(r.uvarint(), maxTask+1))
	}
	if r.bad || len(r.b) > 0 || parts.size > maxTask || left > parts.size {
		return nil, errWire
	}
	i := slices.IndexFunc(c.Groups(), func(g *Group) bool {
		return uint64(g.id.partition) == partition && uint64(g.id.generation) == generation && g.self == to
	})
	if i < 0 {
		return nil, errArrival
	}
	g := c.Groups()[i]
	p := engine.New(g.seed)
	return &arrival{
		g: g, from: from, at: at, p: p, restorer: engine.RestorePartition(p), gathering: parts, left: left,
		meta: &raftpb.SnapshotMetadata{ConfState: conf, Index: new(index), Term: new(term)},
	}, nil
}

// write takes the next piece: parts of a large task first, and then the cut.
func (a *arrival) write(piece []byte) error {
	if a.left == 0 {
		_, err := a.restorer.Write(piece)
		return err
	}
	if len(piece) > a.left {
		return errWire
	}
	if a.gathering.b == nil {
		a.gathering.b = make([]byte, 0, a.gathering.size)
	}
	a.gathering.b = append(a.gathering.b, piece...)
	a.left -= len(piece)
	return nil
}

// finish hands the partition, which is whole, to the group.
func (a *arrival) finish() {
	g := a.g
	g.inside(func() {
		g.ship.arrived = append(g.ship.arrived, a)
		g.step(&raftpb.Message{
			Type: raftpb.MsgSnap.Enum(), To: new(g.self), From: new(a.from), Term: new(a.at), Snapshot: &raftpb.Snapshot{Metadata: a.meta},
		})
	})
}

// forget drops what raft did not take: it has come that far by itself.
func (s *shipping) forget() {
	for _, a := range s.arrived {
		a.p.Close()
	}
	s.arrived = nil
}

// arrive takes a snapshot from another node.
func (c *Cluster) arrive(from string, s io.ReadWriteCloser) {
	defer func() { _ = s.Close() }()
	if err := c.takeIn(s); err != nil {
		c.cfg.Log.Warn("a snapshot was not taken", "from", from, "error", err)
	}
}

func (c *Cluster) takeIn(s io.ReadWriteCloser) error {
	head, err := readPiece(s, nil)
	if err != nil {
		return err
	}
	a, err := c.accept(head)
	if err != nil {
		return err
	}
	var work courtesy.Work
	err = a.keep(func(dst []byte) ([]byte, error) {
		work.StepBack()
		return readPiece(s, dst)
	})
	if err != nil {
		a.p.Close()
		return err
	}
	a.finish()
	_, err = s.Write([]byte{arrivedByte})
	return err
}

// readPiece appends the next piece of a stream to dst. Memory is taken as it comes, not as its length says.
func readPiece(s io.ReadWriteCloser, dst []byte) ([]byte, error) {
	patient(s)
	var size [4]byte
	if _, err := io.ReadFull(s, size[:]); err != nil {
		return nil, err
	}
	left := int(binary.BigEndian.Uint32(size[:]))
	if left > maxPiece {
		return nil, errWire
	}
	for left > 0 {
		n := min(left, shipPiece)
		at := len(dst)
		dst = slices.Grow(dst, n)[:at+n]
		if _, err := io.ReadFull(s, dst[at:]); err != nil {
			return nil, err
		}
		left -= n
		patient(s)
	}
	return dst, nil
}

// install puts the partition that has arrived in the place of the one that was here.
func (g *Group) install(s *raftpb.Snapshot) {
	i := slices.IndexFunc(g.ship.arrived, func(a *arrival) bool {
		return a.meta.GetIndex() == s.GetMetadata().GetIndex() && a.meta.GetTerm() == s.GetMetadata().GetTerm()
	})
	if i < 0 {
		panic("replication: a snapshot without its data")
	}
	a := g.ship.arrived[i]
	g.ship.arrived = slices.Delete(g.ship.arrived, i, i+1)
	for len(g.flights) > 0 && g.flights[0].index <= a.meta.GetIndex() {
		g.loseFlight(g.flights[0], errUnknown) // what came of it lies in what was skipped
		g.flights = g.flights[1:]
	}
	old := g.p
	g.desk.install(a.p)
	g.gathering = a.gathering
	old.Close()
	for cache, on := range g.listened {
		if on {
			g.observe(cache)
		}
	}
	g.applied = a.meta.GetIndex()
	g.fresh.applied(g.applied)
	g.conf = proto.CloneOf(a.meta.GetConfState())
	if err := g.store.Restart(&raftpb.Snapshot{Metadata: a.meta}); err != nil {
		panic(err)
	}
	g.members.changed(g)
	g.log.Info("has taken a snapshot", "index", g.applied)
}
