package wal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/internal/seal"
)

// A Record is one that was found in the log. Its bytes are good until the next one is visited.
type Record struct {
	Partition uint32
	Index     uint64
	Kind      byte
	Data      []byte
}

// Damage is a place of the log that was written and synced and is not as it was. It is no trace of a crash: the disk, or
// somebody, has changed it.
type Damage struct {
	File       string
	Offset     int64
	Partitions uint64 // which may have lost records there: bit n for those whose number is n modulo 64
	Cause      string
}

// Error implements error.
func (d *Damage) Error() string {
	return fmt.Sprintf("the write-ahead log is damaged in %s at byte %d: %s", d.File, d.Offset, d.Cause)
}

// Affects reports whether a partition may have lost records.
func (d *Damage) Affects(partition uint32) bool { return d.Partitions>>(partition%64)&1 == 1 }

// everybody is the Partitions of a Damage of which nobody knows whom it hits.
const everybody = ^uint64(0)

// Recover reads the log, and makes it ready to be appended to. floor is the highest index that any state file has: the log goes
// on behind it. An error of visit ends it. Records behind damage are visited, too: it is the caller who knows whom it concerns.
func (l *Log) Recover(floor uint64, visit func(Record) error, damaged func(*Damage)) error {
	names, err := l.cfg.Files.List()
	if err != nil {
		return err
	}
	r := &recovery{l: l, visit: visit, damaged: func(d *Damage) {
		l.keep = true
		damaged(d)
	}}
	for _, name := range names {
		if number, ok := numberOf(name); ok {
			r.numbers = append(r.numbers, number)
		}
	}
	slices.Sort(r.numbers)
	defer r.close()
	if err := r.open(); err != nil {
		return err
	}
	if err := r.read(); err != nil {
		return err
	}
	last := max(r.expected, 1) - 1
	l.jump = floor > last
	l.next = max(last, floor) + 1
	l.synced.Store(l.next - 1)
	if n := len(r.numbers); n > 0 {
		l.numbers = r.numbers[n-1]
	}
	l.numbers++
	if l.current, err = l.create(l.numbers); err != nil {
		return fmt.Errorf("beginning a segment of the log: %w", err)
	}
	l.left.Store(l.cfg.Segment - l.current.at)
	l.bytes += l.current.size
	return r.sweep()
}

func numberOf(name string) (number uint64, ok bool) {
	text, ok := strings.CutSuffix(name, ".wal")
	if !ok || len(text) != 16 {
		return 0, false
	}
	number, err := strconv.ParseUint(text, 16, 64)
	return number, err == nil
}

// A recovery reads the segments that a process before has left.
type recovery struct {
	l        *Log
	visit    func(Record) error
	damaged  func(*Damage)
	numbers  []uint64
	segments []*segment // nil for one whose head cannot be read
	expected uint64     // the index of the next record; 0 before the first
	buf      []byte
	plain    []byte
}

func (r *recovery) close() {
	for _, s := range r.segments {
		if s != nil && s.f != nil {
			_ = s.f.Close() // it was read
		}
	}
}

// open opens the segments. The last ones may have no head yet: a segment is used when its head is on disk.
func (r *recovery) open() error {
	for _, number := range r.numbers {
		s, err := r.openOne(number)
		if err != nil {
			return err
		}
		r.segments = append(r.segments, s)
	}
	for n := len(r.segments); n > 0 && r.segments[n-1] == nil; n-- {
		if err := r.l.cfg.Files.Remove(nameOf(r.numbers[n-1])); err != nil {
			return err
		}
		r.segments, r.numbers = r.segments[:n-1], r.numbers[:n-1]
	}
	return nil
}

// openOne opens a segment; it is nil when there is no head at all. An error is one that a later start may not meet: damage
// is none.
func (r *recovery) openOne(number uint64) (*segment, error) {
	f, err := r.l.cfg.Files.Open(nameOf(number))
	if err != nil {
		return nil, err
	}
	size, err := f.Size()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s := &segment{number: number, f: f, size: size, last: map[uint32]uint64{}}
	env, begins, err := seal.OpenEnvelope(context.Background(), io.NewSectionReader(f, 0, size), r.l.cfg.Keys, r.l.headOf(number))
	switch {
	case errors.Is(err, seal.ErrForeign), errors.Is(err, seal.ErrDamaged):
		if some, err := hasBlock(f, size); err != nil || !some {
			return nil, errors.Join(err, f.Close())
		}
	case err != nil:
		return nil, errors.Join(fmt.Errorf("%s: %w", nameOf(number), err), f.Close())
	}
	s.env, s.begins, s.at = env, int64(begins), int64(begins)
	return s, nil
}

// hasBlock reports whether a segment was used.
func hasBlock(f File, size int64) (bool, error) {
	_, found, err := find(f, 0, size)
	return found, err
}

// A header is the beginning of a block.
type header struct {
	at     int64
	length uint32
	first  uint64
	synced uint64
	mask   uint64
	count  uint32
	flags  uint32
	crc    uint32
	raw    [blockHead]byte
}

// headerAt reads the beginning of a block; ok is false when there is none.
func headerAt(f File, at, size int64) (h header, ok bool, err error) {
	if at+blockHead > size {
		return h, false, nil
	}
	if _, err := f.ReadAt(h.raw[:], at); err != nil {
		return h, false, err
	}
	return h, h.parse(at), nil
}

func (h *header) parse(at int64) bool {
	b := h.raw[:]
	if string(b[:4]) != blockMagic || binary.LittleEndian.Uint32(b[44:]) != crc32.Checksum(b[:44], castagnoli) {
		return false
	}
	h.at, h.length = at, binary.LittleEndian.Uint32(b[4:])
	h.first, h.synced, h.mask = binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])
	h.count, h.flags, h.crc = binary.LittleEndian.Uint32(b[32:]), binary.LittleEndian.Uint32(b[36:]), binary.LittleEndian.Uint32(b[40:])
	return true
}

// findChunk is how much is looked at together.
const findChunk = 1 << 20

// find looks for the beginning of a block from a place on.
func find(f File, at, size int64) (h header, found bool, err error) {
	if at >= size {
		return h, false, nil
	}
	buf := make([]byte, min(findChunk+blockHead, size-at))
	for ; at < size; at += findChunk {
		n, err := f.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && err != io.EOF {
			return h, false, err
		}
		for b, from := buf[:n], 0; ; {
			i := bytes.Index(b[from:], []byte(blockMagic))
			if i < 0 || from+i+blockHead > len(b) || from+i >= findChunk {
				break
			}
			copy(h.raw[:], b[from+i:])
			if h.parse(at + int64(from+i)) {
				return h, true, nil
			}
			from += i + 1
		}
	}
	return h, false, nil
}

// read visits all records.
func (r *recovery) read() error {
	for i, s := range r.segments {
		if s == nil || s.env == nil {
			if err := r.lost(i, s); err != nil {
				return err
			}
			continue
		}
		if err := r.readSegment(i, s); err != nil {
			return err
		}
	}
	return nil
}

// lost tells of a segment that has lost its head, and all that is in it.
func (r *recovery) lost(i int, s *segment) error {
	r.damaged(&Damage{File: nameOf(r.numbers[i]), Partitions: everybody, Cause: "its head cannot be read"})
	if s == nil {
		return nil
	}
	for at := int64(0); ; {
		h, found, err := find(s.f, at, s.size)
		if err != nil || !found {
			return err
		}
		r.expected = h.first + uint64(h.count)
		at = h.at + blockHead
	}
}

func (r *recovery) readSegment(i int, s *segment) error {
	for {
		h, ok, err := headerAt(s.f, s.at, s.size)
		if err != nil {
			return err
		}
		if ok {
			if ok, err = r.block(s, &h); err != nil {
				return err
			}
		}
		if ok {
			continue
		}
		// What stands here was never synced, if nothing that came later says otherwise.
		at, intact := s.at, string(h.raw[:4]) == blockMagic && h.length > 0
		next, where, err := r.later(i, at)
		if err != nil {
			return err
		}
		if where < 0 {
			return r.cutOff(s, at)
		}
		if where == i && next.first == r.expected && next.at-at == int64(blockHead+s.env.Overhead()) { // a block without records: see Log.rest
			s.at = next.at
			s.ordinal++
			continue
		}
		if damage := r.between(s, at, &h, intact, &next, where); damage != nil {
			r.damaged(damage)
			r.expected = next.first
		} else if where == i {
			return r.cutOff(s, at) // all that follows was written with it
		}
		if where != i {
			return nil
		}
		s.at = next.at
		if intact {
			s.ordinal++
		} else {
			return r.skip(s, &next)
		}
	}
}

// later finds the first block behind a place, and in which segment it is; below 0 for none.
func (r *recovery) later(i int, at int64) (h header, where int, err error) {
	for ; i < len(r.segments); i++ {
		s := r.segments[i]
		if s == nil {
			continue
		}
		h, found, err := find(s.f, at+1, s.size)
		if err != nil || found {
			return h, i, err
		}
		at = -1
	}
	return h, -1, nil
}

// between says what is missing in front of next: nil when it is nothing that was synced.
func (r *recovery) between(s *segment, at int64, h *header, intact bool, next *header, where int) *Damage {
	expected := r.expected
	if expected == 0 { // nothing tells where the log began: what next was written with is not missed
		if expected = next.synced + 1; intact {
			expected = h.first
		} else if next.synced+1 == next.first {
			expected = max(next.synced, 1)
		}
	}
	if next.first == expected && r.segments[where] != s || next.flags&flagJump != 0 || next.synced < expected {
		return nil
	}
	d := &Damage{File: nameOf(s.number), Offset: at, Partitions: everybody, Cause: fmt.Sprintf("records up to %d are missing", next.first-1)}
	if intact && h.first == expected && next.first == h.first+uint64(h.count) {
		d.Partitions = h.mask
		d.Cause = fmt.Sprintf("the checksum of records %d to %d is wrong", h.first, next.first-1)
	}
	return d
}

// skip tells of the rest of a segment whose blocks cannot be counted any more, so that none of them opens.
func (r *recovery) skip(s *segment, next *header) error {
	for h := *next; ; {
		r.expected = h.first + uint64(h.count)
		r.damaged(&Damage{File: nameOf(s.number), Offset: h.at, Partitions: h.mask, Cause: "it stands behind damage"})
		following, found, err := find(s.f, h.at+blockHead, s.size)
		if err != nil || !found {
			return err
		}
		h = following
	}
}

// cutOff ends a segment where the first thing stands that was not synced.
func (r *recovery) cutOff(s *segment, at int64) error {
	head := make([]byte, min(blockHead, max(s.size-at, 0)))
	if _, err := s.f.ReadAt(head, at); err != nil && err != io.EOF {
		return err
	}
	if len(bytes.Trim(head, "\x00")) > 0 {
		r.l.cfg.Log.Info("the end of the write-ahead log was being written in a crash, and is cut off", "file", nameOf(s.number), "offset", at)
	}
	s.size = at
	if err := s.f.Truncate(at); err != nil {
		return err
	}
	return s.f.Sync()
}

// block visits the records of a block; ok is false when it is damaged.
func (r *recovery) block(s *segment, h *header) (ok bool, err error) {
	length := int64(h.length)
	if h.at+blockHead+length > s.size || length < int64(s.env.Overhead()) {
		return false, nil
	}
	r.buf = slices.Grow(r.buf[:0], int(length))[:length]
	if _, err := s.f.ReadAt(r.buf, h.at+blockHead); err != nil {
		return false, err
	}
	if crc32.Checksum(r.buf, castagnoli) != h.crc {
		return false, nil
	}
	if r.plain, err = s.env.Open(r.plain[:0], s.ordinal, r.buf, h.raw[4:40]); err != nil {
		return false, nil
	}
	if r.expected != 0 && h.first != r.expected && h.flags&flagJump == 0 {
		if h.first < r.expected {
			return false, nil
		}
		r.damaged(&Damage{File: nameOf(s.number), Offset: h.at, Partitions: everybody, Cause: fmt.Sprintf("records %d to %d are missing", r.expected, h.first-1)})
	}
	s.at += blockHead + length
	s.ordinal++
	return true, r.records(s, h)
}

func (r *recovery) records(s *segment, h *header) error {
	b, index := r.plain, h.first
	for range h.count {
		partition, n := binary.Uvarint(b)
		if n <= 0 || n >= len(b) {
			return fmt.Errorf("%s: a block holds no records", nameOf(s.number))
		}
		kind := b[n]
		length, m := binary.Uvarint(b[n+1:])
		if m <= 0 || length > uint64(len(b)-n-1-m) {
			return fmt.Errorf("%s: a record is longer than its block", nameOf(s.number))
		}
		data := b[n+1+m:][:length]
		b = b[n+1+m+int(length):]
		s.last[uint32(partition)] = index
		if err := r.visit(Record{uint32(partition), index, kind, data}); err != nil {
			return err
		}
		index++
	}
	r.expected = index
	return nil
}

// sweep hands the segments over to the log, and removes those that were made and not used.
func (r *recovery) sweep() error {
	for i, s := range r.segments {
		if s == nil || len(s.last) == 0 && s.env != nil {
			if err := r.l.cfg.Files.Remove(nameOf(r.numbers[i])); err != nil {
				return err
			}
			continue
		}
		r.l.old = append(r.l.old, &segment{number: s.number, size: s.size, last: s.last})
		r.l.bytes += s.size
	}
	return nil
}
