// Package wal is a node's write-ahead log: one for all of its partitions, so that one sync of the disk serves many writers.
//
// Append puts a record in line and returns its index, without waiting for anything. One goroutine takes what stands in line,
// encrypts it as one block, writes it, syncs the file and tells those who wait: what comes meanwhile shares the next sync
// (group commit). A log is a row of segments, files of one size that are made beforehand, each encrypted with a data key of its
// own; docs/reference/wal-format.md has the bytes. A segment goes when a state file has all that is in it: see Release.
//
// After a crash, Recover reads what was written. What was not synced may be there in part: it is cut off where the first damage
// is. Damage in front of what was synced is none of a crash, and is told as such. A segment that was there before is never
// written to again.
//
//	W1: indexes rise by one from record to record; records of one partition come in the order in which they were appended
//	W2: Synced never gets ahead of what the disk has promised to keep
//	W3: one batch at a time is written and not synced
//	W4: a data key's ordinal is used once
//
// An error of a write or a sync is the end: nobody knows what the disk has then, and to ask again gives a lie for an answer
// (specification R3). Config.Fail is told, and ends the process.
//
// Start with Log.Append and Log.flush, then recover.go.
package wal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/seal"
)

// Config is what a Log needs. Files, Keys and Fail have to be there.
type Config struct {
	Files   Files
	Keys    seal.KMS
	Cluster string // and Node: whose log it is
	Node    string
	Log     *slog.Logger

	Heals   bool          // what was damaged is fetched from elsewhere: segments go although there was damage
	Segment int64         // bytes of a segment; 0 for the default
	Lazy    time.Duration // how long a record waits that nobody waits for; 0 for the default
	Now     func() time.Duration
	Fail    func(error) // ends the process
}

// The defaults of a Config.
const (
	DefaultSegment = 64 << 20
	DefaultLazy    = 200 * time.Millisecond
)

// Bounds of what is under way.
const (
	pieceBytes = 1 << 20  // records that share a block, about
	maxInLine  = 64 << 20 // records in line; more are refused where nobody waits for them
	spareBytes = 4 << 20  // a buffer that is kept
	short      = 4        // when there is no next segment, one part in so many is kept for what makes room
	veryShort  = 32       // and one in so many for what is under way
)

// A Log is a node's log. Its methods may be called by several goroutines.
type Log struct {
	cfg Config

	mu      sync.Mutex
	line    batch
	spare   batch
	next    uint64 // the index of the next record
	urgent  bool   // somebody waits for what is in line
	closed  bool
	waits   []wait
	old     []*segment // that are not written to any more, the oldest first
	current *segment
	base    map[uint32]uint64 // of each partition: the last record that is not needed
	bytes   int64             // of all segments
	keep    bool              // there was damage: nothing is removed, for somebody may want to look at it

	bell   chan struct{}
	done   chan struct{}
	synced atomic.Uint64
	since  atomic.Int64 // when the oldest record came that is not synced, as Config.Now tells; 0 for none
	left   atomic.Int64 // bytes that the current segment still has room for
	scarce atomic.Bool  // the disk is full: there is no next segment

	// The flusher's own.
	sealed  []byte
	ready   chan *segment // the next one
	making  bool
	alone   bool // segments are made when they are needed, by the flusher: for simulations
	jump    bool // the next block is the first after a recovery, and may begin behind a gap
	numbers uint64
	open    bool // the last block has records, and nothing says yet that it was synced
}

// A batch is records in line.
type batch struct {
	b      []byte
	pieces []piece
	first  uint64 // the index of its first record
	since  int64
}

// A piece is a part of a batch that becomes one block.
type piece struct {
	end   int // in batch.b
	first uint64
	count uint32
	last  []lastOf
}

// lastOf is the last record of a partition in a piece.
type lastOf struct {
	partition uint32
	index     uint64
}

// A wait is somebody who wants to hear that a record is safe.
type wait struct {
	index uint64
	who   Waiter
}

// A Waiter hears that a record is safe. It must be quick, and must not call the log.
type Waiter = interface{ Synced() }

// New makes a log, which has to Recover before anything else.
func New(cfg Config) *Log {
	if cfg.Segment == 0 {
		cfg.Segment = DefaultSegment
	}
	if cfg.Lazy == 0 {
		cfg.Lazy = DefaultLazy
	}
	if cfg.Now == nil {
		began := time.Now()
		cfg.Now = func() time.Duration { return time.Since(began) + 1 }
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Log{cfg: cfg, base: map[uint32]uint64{}, bell: make(chan struct{}, 1), done: make(chan struct{}), ready: make(chan *segment, 1)}
}

// Run writes what is appended until Close.
func (l *Log) Run() {
	defer close(l.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		l.mu.Lock()
		some, urgent, closed, since := len(l.line.pieces) > 0, l.urgent, l.closed, l.line.since
		l.mu.Unlock()
		wait := time.Duration(since) + l.cfg.Lazy - l.cfg.Now()
		switch {
		case some && (urgent || closed || wait <= 0):
			if err := l.flush(); err != nil {
				l.cfg.Fail(err)
				return
			}
			continue
		case closed:
			if err := l.rest(); err != nil {
				l.cfg.Fail(err)
			}
			return
		case some:
			timer.Reset(wait)
		case l.open:
			timer.Reset(restAfter)
		}
		select {
		case <-l.bell:
		case <-timer.C:
			if some {
				continue
			}
			if err := l.rest(); err != nil {
				l.cfg.Fail(err)
				return
			}
		}
	}
}

// restAfter is how long nothing comes before the log rests.
const restAfter = 200 * time.Millisecond

// rest writes a block without records behind the last one, which says that everything before it was synced. Without it nobody could tell a last block that
// has rotted since from one that was being written in a crash. Where the segment is full, the next one will say it.
func (l *Log) rest() error {
	s := l.current
	if !l.open || s.at+int64(blockHead+s.env.Overhead()) > l.cfg.Segment {
		return nil
	}
	last := l.synced.Load()
	l.sealed = appendBlock(l.sealed[:0], s, &piece{first: last + 1}, last, 0, nil)
	s.ordinal++
	l.open = false
	if err := l.write(); err != nil {
		return err
	}
	l.left.Store(l.cfg.Segment - s.at)
	return nil
}

// Close writes what is in line and ends Run. Nothing is appended any more.
func (l *Log) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.ring()
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.making {
		if s := <-l.ready; s != nil {
			_ = s.f.Close() // nothing was written to it
		}
	}
	if l.current == nil {
		return nil
	}
	return l.current.f.Close()
}

func (l *Log) ring() {
	select {
	case l.bell <- struct{}{}:
	default:
	}
}

// Append puts a record in line and returns its index. With urgent it is synced as soon as may be, else when others are or after
// Config.Lazy. Records of one partition are appended by one goroutine at a time.
func (l *Log) Append(partition uint32, kind byte, record []byte, urgent bool) (index uint64) {
	l.mu.Lock()
	index = l.next
	l.next++
	first := len(l.line.pieces) == 0
	if first {
		l.line.first = index
		l.line.since = int64(l.cfg.Now())
		l.since.CompareAndSwap(0, l.line.since)
	}
	l.line.add(partition, kind, record, index)
	ring := first || urgent && !l.urgent
	l.urgent = l.urgent || urgent
	l.mu.Unlock()
	if ring {
		l.ring()
	}
	return index
}

// Hurry has what stands in line synced as soon as may be.
func (l *Log) Hurry() {
	l.mu.Lock()
	ring := len(l.line.pieces) > 0 && !l.urgent
	l.urgent = l.urgent || ring
	l.mu.Unlock()
	if ring {
		l.ring()
	}
}

func (b *batch) add(partition uint32, kind byte, record []byte, index uint64) {
	last := len(b.pieces) - 1
	if last < 0 || b.pieces[last].size(b) >= pieceBytes {
		last++
		if last < cap(b.pieces) { // with the room that it had
			b.pieces = b.pieces[:last+1]
			b.pieces[last] = piece{first: index, last: b.pieces[last].last[:0]}
		} else {
			b.pieces = append(b.pieces, piece{first: index})
		}
	}
	p := &b.pieces[last]
	b.b = binary.AppendUvarint(b.b, uint64(partition))
	b.b = append(b.b, kind)
	b.b = binary.AppendUvarint(b.b, uint64(len(record)))
	b.b = append(b.b, record...)
	p.end = len(b.b)
	p.count++
	for i := range p.last {
		if p.last[i].partition == partition {
			p.last[i].index = index
			return
		}
	}
	p.last = append(p.last, lastOf{partition, index})
}

// size is how long the last piece is so far.
func (p *piece) size(b *batch) int {
	if n := len(b.pieces); n > 1 {
		return p.end - b.pieces[n-2].end
	}
	return p.end
}

// Synced is the index up to which nothing can be lost.
func (l *Log) Synced() uint64 { return l.synced.Load() }

// Last is the index of the last record that was appended.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// Tell has who told when a record is safe, on the log's goroutine; at once if it is already.
func (l *Log) Tell(index uint64, who Waiter) {
	l.mu.Lock()
	if l.synced.Load() >= index {
		l.mu.Unlock()
		who.Synced()
		return
	}
	l.waits = append(l.waits, wait{index, who})
	ring := !l.urgent
	l.urgent = true
	l.mu.Unlock()
	if ring {
		l.ring()
	}
}

// A signal is a Waiter that closes a channel.
type signal chan struct{}

func (s signal) Synced() { close(s) }

// Wait returns when a record is safe, or when ctx ends.
func (l *Log) Wait(ctx context.Context, index uint64) error {
	if l.synced.Load() >= index {
		return nil
	}
	safe := make(signal)
	l.Tell(index, safe)
	select {
	case <-safe:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Age is how old the oldest record is that is not synced, 0 when all are.
func (l *Log) Age() time.Duration {
	if since := l.since.Load(); since != 0 {
		return l.cfg.Now() - time.Duration(since)
	}
	return 0
}

var (
	errNoSpace = fault.New(fault.OutOfMemory, "wal.admit", "the disk of this node is full: durable caches take no writes that need room until there is some")
	errBacklog = fault.New(fault.Unavailable, "wal.admit", "more waits to be written to disk than this node keeps in memory; nothing was done")
)

// Admit says why a record should not be appended now, nil for no reason. One that grows what is stored is refused first.
func (l *Log) Admit(grows bool) error {
	if l.scarce.Load() {
		if left := l.left.Load(); left < l.cfg.Segment/veryShort || grows && left < l.cfg.Segment/short {
			return errNoSpace
		}
	}
	return nil
}

// Backlog says why records that nobody waits for should not be appended now, nil for no reason.
func (l *Log) Backlog() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.line.b) > maxInLine {
		return errBacklog
	}
	return nil
}

// A block is what one piece becomes. Numbers are little endian.
//
//	 0  magic, 4 bytes
//	 4  length of the sealed records, 4 bytes
//	 8  index of the first record, 8 bytes
//	16  index up to which everything was synced when this was written, 8 bytes
//	24  which partitions have records here, 8 bytes: bit n for those whose number is n modulo 64
//	32  how many records, 4 bytes
//	36  flags, 4 bytes: see flagJump
//	40  CRC-32C of the sealed records, 4 bytes
//	44  CRC-32C of the 44 bytes before, 4 bytes
//	48  the records, sealed: see seal.Envelope. The ordinal is the block's in its segment; bound to it are bytes 4 to 40.
//
// Each record is its partition (uvarint), its kind (1 byte), its length (uvarint) and its bytes.
const (
	blockMagic = "LWB1"
	blockHead  = 48

	flagJump = 1 // records that are missing in front of this one are in state files
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendBlock seals records behind dst.
func appendBlock(dst []byte, s *segment, p *piece, synced uint64, flags uint32, records []byte) []byte {
	at := len(dst)
	dst = append(dst, blockMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(records)+s.env.Overhead()))
	dst = binary.LittleEndian.AppendUint64(dst, p.first)
	dst = binary.LittleEndian.AppendUint64(dst, synced)
	mask := uint64(0)
	for _, of := range p.last {
		mask |= 1 << (of.partition % 64)
	}
	dst = binary.LittleEndian.AppendUint64(dst, mask)
	dst = binary.LittleEndian.AppendUint32(dst, p.count)
	dst = binary.LittleEndian.AppendUint32(dst, flags)
	dst = append(dst, make([]byte, 8)...)
	dst = s.env.Seal(dst, s.ordinal, records, dst[at+4:at+40])
	head := dst[at : at+blockHead]
	binary.LittleEndian.PutUint32(head[40:], crc32.Checksum(dst[at+blockHead:], castagnoli))
	binary.LittleEndian.PutUint32(head[44:], crc32.Checksum(head[:44], castagnoli))
	return dst
}

// Step writes what stands in line, and syncs it, for simulations: they have no goroutines, and call it in the place of Run.
func (l *Log) Step() error {
	l.alone = true
	return l.flush()
}

// flush writes what stands in line, syncs it and tells those who wait.
func (l *Log) flush() error {
	l.mu.Lock()
	b := l.line
	l.line, l.spare = l.spare, batch{}
	l.urgent = false
	l.mu.Unlock()
	if len(b.pieces) == 0 {
		return nil
	}
	from := 0
	l.sealed = l.sealed[:0]
	synced := b.first - 1
	for i := range b.pieces {
		p := &b.pieces[i]
		records := b.b[from:p.end]
		from = p.end
		if need := int64(blockHead + len(records) + l.current.env.Overhead()); l.current.at+int64(len(l.sealed))+need > l.cfg.Segment && l.current.at+int64(len(l.sealed)) > l.current.begins {
			if err := l.turn(); err != nil {
				return err
			}
		}
		flags := uint32(0)
		if l.jump {
			flags, l.jump = flagJump, false
		}
		l.sealed = appendBlock(l.sealed, l.current, p, synced, flags, records)
		l.current.ordinal++
		l.mu.Lock()
		for _, of := range p.last {
			l.current.last[of.partition] = of.index
		}
		l.mu.Unlock()
	}
	if err := l.write(); err != nil {
		return err
	}
	l.left.Store(l.cfg.Segment - l.current.at)
	l.open = true
	last := b.pieces[len(b.pieces)-1]
	l.settle(last.first+uint64(last.count)-1, b)
	l.prepare()
	return nil
}

// write writes and syncs what is sealed.
func (l *Log) write() error {
	if len(l.sealed) == 0 {
		return nil
	}
	s := l.current
	if _, err := s.f.WriteAt(l.sealed, s.at); err != nil {
		return fmt.Errorf("writing to the log: %w", err)
	}
	if err := s.f.Sync(); err != nil {
		return fmt.Errorf("syncing the log: %w", err)
	}
	s.at += int64(len(l.sealed))
	if l.sealed = l.sealed[:0]; cap(l.sealed) > spareBytes {
		l.sealed = nil
	}
	return nil
}

// settle tells those who wait for records up to last, which are safe.
func (l *Log) settle(last uint64, b batch) {
	if cap(b.b) > spareBytes {
		b.b = nil
	}
	b.b, b.pieces, b.since = b.b[:0], b.pieces[:0], 0
	l.mu.Lock()
	l.spare = b
	l.synced.Store(last)
	l.since.Store(l.line.since)
	var told []wait
	rest := l.waits[:0]
	for _, w := range l.waits {
		if w.index <= last {
			told = append(told, w)
		} else {
			rest = append(rest, w)
		}
	}
	clear(l.waits[len(rest):])
	l.waits = rest
	l.mu.Unlock()
	for _, w := range told {
		w.who.Synced()
	}
}

// A segment is one file of the log.
type segment struct {
	number  uint64
	f       File
	env     *seal.Envelope
	begins  int64 // where its first block is
	at      int64 // and its next
	ordinal uint64
	size    int64
	last    map[uint32]uint64 // of each partition: its last record here
}

func nameOf(number uint64) string { return fmt.Sprintf("%016x.wal", number) }

func (l *Log) headOf(number uint64) seal.Head {
	return seal.Head{Kind: "log", Cluster: l.cfg.Cluster, ID: fmt.Sprintf("%s/%016x", l.cfg.Node, number)}
}

// create makes an empty segment, which is on disk under its name when create returns.
func (l *Log) create(number uint64) (_ *segment, err error) {
	h := l.headOf(number)
	h.Created = time.Now().UTC().Truncate(time.Millisecond)
	env, head, err := seal.NewEnvelope(context.Background(), l.cfg.Keys, h)
	if err != nil {
		return nil, err
	}
	f, err := l.cfg.Files.Create(nameOf(number), l.cfg.Segment)
	if err != nil {
		return nil, err
	}
	if _, err = f.WriteAt(head, 0); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = l.cfg.Files.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), l.cfg.Files.Remove(nameOf(number)))
	}
	begins := int64(len(head))
	return &segment{number: number, f: f, env: env, begins: begins, at: begins, size: l.cfg.Segment, last: map[uint32]uint64{}}, nil
}

// prepare has the next segment made when the current one is half full.
func (l *Log) prepare() {
	if l.making || l.alone || l.current.at < l.cfg.Segment/2 {
		return
	}
	l.making = true
	l.numbers++
	go func(number uint64) { l.ready <- l.insist(number) }(l.numbers)
}

// retry is how long a log waits that could not make a segment.
const retry = 500 * time.Millisecond

// insist makes a segment, however long it takes: the disk may be full, or the keys out of reach. It gives up, with nil, when
// the log is closed or the error is one that does not pass.
func (l *Log) insist(number uint64) *segment {
	for {
		s, err := l.create(number)
		if err == nil {
			if l.scarce.Swap(false) {
				l.cfg.Log.Info("there is room for the write-ahead log again")
			}
			return s
		}
		l.mu.Lock()
		closed := l.closed
		l.mu.Unlock()
		if closed {
			return nil
		}
		if !l.scarce.Swap(true) {
			l.cfg.Log.Error("there is no room for the write-ahead log: durable caches take no writes when what it has is used up", "full", noSpace(err), "error", err)
		}
		time.Sleep(retry)
	}
}

// turn goes on with the next segment.
func (l *Log) turn() error {
	if err := l.write(); err != nil {
		return err
	}
	var s *segment
	if l.making {
		s = <-l.ready
		l.making = false
	} else {
		l.numbers++
		s = l.insist(l.numbers)
	}
	if s == nil {
		return errors.New("the log is closed, and there is no room for what is in line")
	}
	if err := l.current.f.Close(); err != nil {
		return fmt.Errorf("closing a segment of the log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.current.f, l.current.env = nil, nil
	l.bytes += max(l.current.at-l.current.size, 0)
	l.current.size = max(l.current.size, l.current.at)
	l.old = append(l.old, l.current)
	l.current = s
	l.bytes += s.size
	return nil
}

// Release says that the records of a partition up to an index are not needed any more. Segments in which none is go.
func (l *Log) Release(partition uint32, index uint64) error {
	l.mu.Lock()
	l.base[partition] = max(l.base[partition], index)
	var gone []*segment
	for !l.keep && len(l.old) > 0 && l.old[0].idle(l.base) {
		gone = append(gone, l.old[0])
		l.bytes -= l.old[0].size
		l.old = l.old[1:]
	}
	l.mu.Unlock()
	for _, s := range gone { // the oldest first, and one by one, so that no gap is left by a crash
		if err := errors.Join(l.cfg.Files.Remove(nameOf(s.number)), l.cfg.Files.Sync()); err != nil {
			return err
		}
	}
	return nil
}

func (s *segment) idle(base map[uint32]uint64) bool {
	for partition, index := range s.last {
		if base[partition] < index {
			return false
		}
	}
	return true
}

// Size is how many bytes the segments have, and Pins which partition it is that keeps the oldest: it should write a state file,
// and Release. Pins is false when none does.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.bytes
}

// Pins implements what Size says.
func (l *Log) Pins() (partition uint32, some bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.old) == 0 {
		return 0, false
	}
	for p, index := range l.old[0].last {
		if l.base[p] < index && (!some || p < partition) {
			partition, some = p, true
		}
	}
	return partition, some
}
