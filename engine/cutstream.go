package engine

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"slices"

	"github.com/larder-cache/larder/engine/dense"
)

// A CutStream is a cut of a partition, or of one of its caches, as a stream of bytes: see frameKind. A Restorer makes a
// partition of it.
//
// All is in it that replicas must agree on. What is not: notes of use, by which eviction goes; counts of hits, misses and the
// like; who listens, watches or waits.
type CutStream struct {
	p       *Partition
	options CutOptions
	cuts    []*Cut
	left    map[uint64]bool // collections of the cache under way that are left out
	whole   bool            // of a whole partition
	started bool            // the cache under way has been named
	ended   bool
	w       frameWriter
	now     int64
	version uint64

	// Asked, nil for never, says that somebody waits for the partition: Read then ends after a few pieces, even with nothing.
	Asked func() bool
}

// CutOptions say what is in a cut of one cache. The zero value is everything.
type CutOptions struct {
	Prefix   []byte                        // only keys that begin so
	Keep     func(db int, key []byte) bool // only keys of which it says so, nil for all
	NoOnce   bool                          // without the tasks that carried idempotency keys
	NoFlush  bool                          // without the flushes to come
	DataOnly bool                          // without scripts and libraries, too
}

func (o *CutOptions) keeps(p *Piece) bool {
	return bytes.HasPrefix(p.Key, o.Prefix) && (o.Keep == nil || o.Keep(p.DB, p.Key))
}

// CutPartition begins a cut of the whole partition, in time that grows with the number of its caches alone, but for what
// Cut copies. ok is false while a cut of one of them runs.
func (p *Partition) CutPartition() (s *CutStream, ok bool) { return p.CutCaches(p.Caches()) }

// CutCaches is CutPartition of some of its caches, as if there were no others.
func (p *Partition) CutCaches(ids []CacheID) (s *CutStream, ok bool) {
	s = &CutStream{p: p, left: map[uint64]bool{}, now: p.now, version: p.version}
	for _, id := range ids {
		cut, ok := p.Cut(id)
		if !ok {
			s.Close()
			return nil, false
		}
		s.cuts = append(s.cuts, cut)
	}
	s.whole = true
	s.begin(1)
	return s, true
}

// CutCache begins a cut of a cache; ok is false when the partition does not hold it, or one of its cuts is running.
func (p *Partition) CutCache(id CacheID, o CutOptions) (s *CutStream, ok bool) {
	cut, ok := p.Cut(id)
	if !ok {
		return nil, false
	}
	s = &CutStream{p: p, left: map[uint64]bool{}, options: o, cuts: []*Cut{cut}, now: p.now, version: p.version}
	s.begin(0)
	return s, true
}

// Caches lists the caches that the partition holds, in the order of their ids.
func (p *Partition) Caches() []CacheID {
	list := make([]CacheID, 0, len(p.caches))
	for id := range p.caches {
		list = append(list, id)
	}
	slices.SortFunc(list, func(a, b CacheID) int { return bytes.Compare(a[:], b[:]) })
	return list
}

func (s *CutStream) begin(whole byte) {
	s.w.begin(frameBegin)
	s.w.byte(cutFormat)
	s.w.number(uint64(s.now))
	s.w.number(s.version)
	s.w.byte(whole)
	s.w.end()
}

// Close ends the cut, whether or not all has been read.
func (s *CutStream) Close() {
	for _, cut := range s.cuts {
		cut.Close()
	}
	s.cuts = nil
}

// cutPieces is how many pieces are read at once: in a few microseconds.
const cutPieces = 16

// Read appends to dst until it has about so many bytes more, and reports whether there is more to come. A value is not
// divided: dst may get longer by the largest one. Between two calls the partition may be used.
func (s *CutStream) Read(dst []byte, bytes int) (b []byte, more bool) {
	from := len(dst)
	s.w.b = append(dst, s.w.b...) // what begin has left
	for len(s.w.b)-from < bytes && len(s.cuts) > 0 {
		if s.step(); s.Asked != nil && s.Asked() {
			break
		}
	}
	s.w.sum = crc32.Update(s.w.sum, castagnoli, s.w.b[from:])
	if len(s.cuts) == 0 && !s.ended {
		s.ended = true
		s.w.begin(frameEnd)
		s.w.rest(binary.LittleEndian.AppendUint32(nil, s.w.sum)...)
		s.w.end()
	}
	b, s.w.b = s.w.b, nil
	return b, !s.ended
}

func (s *CutStream) step() {
	cut := s.cuts[0]
	if !s.started {
		s.started = true
		s.cache(cut)
	}
	if !s.options.NoOnce && cut.readOnce(cutPieces, s.once) {
		return
	}
	if !cut.Read(cutPieces, s.piece) {
		s.w.begin(frameCacheEnd)
		s.w.number(s.w.keys)
		s.w.end()
		s.w.keys, s.started, s.cuts = 0, false, s.cuts[1:]
		cut.Close()
	}
}

// piece writes a piece, and of an object that is left out none of its elements.
func (s *CutStream) piece(p *Piece) {
	switch {
	case !p.Element && (!s.options.keeps(p) || !s.whole && !s.cuts[0].holds(p.Key)):
		if p.Object != 0 {
			s.left[p.Object] = true
		}
	case p.Element && s.left[p.Object]:
		if p.Last {
			delete(s.left, p.Object)
		}
	default:
		s.w.piece(p)
	}
}

func (s *CutStream) cache(cut *Cut) {
	o, w := &cut.settings, &s.w
	w.begin(frameCache)
	w.rest(cut.c.id[:]...)
	for _, n := range [...]int64{o.MemoryLimit, int64(o.Eviction), o.MaxValue, o.DefaultTTL, o.notes()} {
		w.signed(n)
	}
	w.end()
	if s.whole && (o.Holdings != "" || cut.tenure != nil) {
		w.begin(frameHoldings)
		w.text([]byte(o.Holdings))
		if cut.tenure != nil {
			w.b = cut.tenure.Append(w.b)
		}
		w.end()
	}
	for _, space := range cut.spaces {
		if space.flushAt != 0 && !s.options.NoFlush {
			w.begin(frameFlush)
			w.number(uint64(space.db))
			w.number(uint64(space.flushAt))
			w.end()
		}
	}
	if s.options.DataOnly {
		return
	}
	if cut.uses > 0 {
		w.begin(frameScripts)
		w.number(cut.uses)
		w.end()
	}
	for _, k := range cut.scripts {
		w.begin(frameScript)
		w.number(k.used)
		w.byte(0)
		if k.loaded {
			w.b[len(w.b)-1] = 1
		}
		w.words(k.text)
		w.end()
	}
	for _, lib := range cut.libraries {
		w.begin(frameLibrary)
		w.words(lib.code)
		w.end()
	}
}

func (s *CutStream) once(d *remembered) { s.w.once(d) }

// once writes a task that is remembered.
func (w *frameWriter) once(d *remembered) {
	if d.slot < 0 {
		w.begin(frameOnce)
	} else {
		w.begin(frameOnceAt)
		w.number(uint64(d.slot))
	}
	w.number(d.serial)
	w.number(uint64(d.expireAt))
	w.rest(d.key[:]...)
	w.rest(d.fingerprint[:]...)
	w.rest(d.reply.b...)
	w.end()
}

// A streamReader reads a stream that nobody changes, piece by piece:
//
//	streamBlockPiece      a block, as it is encoded for the digest
//	streamGroupPiece      a group, under its name: the last id delivered, and how many were read, a varint
//	streamConsumerPiece   a consumer of the last group, under its name: when it was seen and when it last got something, two varints
//	streamPendingPiece    entries pending in the last group: of each its id, when it was delivered last (a varint), how often (a
//	                      varint), and which of the group's consumers has it
type streamReader struct {
	s       *streamValue
	block   runSpot
	group   int
	state   dense.Kind // what was read last of the group, 0 for nothing
	at      int        // consumers that were read
	pending runSpot
	rank    []int // of consumers, by their numbers
	b       []byte
}

const (
	streamBlockPiece dense.Kind = 1 + iota
	streamGroupPiece
	streamConsumerPiece
	streamPendingPiece
)

// pendingPieces is how many pending entries come in one piece.
const pendingPieces = 64

// next fills in the next piece, which is good until the one after it, and reports whether there was one.
func (r *streamReader) next(p *Piece) bool {
	s := r.s
	if s.blocks.valid(r.block) {
		p.Kind = streamBlockPiece
		r.b = s.blocks.at(r.block).encode(r.b[:0])
		p.Value = r.b
		r.block = s.blocks.next(r.block)
		return true
	}
	for r.group < len(s.groups) {
		g := s.groups[r.group]
		switch {
		case r.state == 0:
			r.state, r.at, r.pending = streamGroupPiece, 0, runSpot{}
			r.b = binary.AppendVarint(g.last.encode(r.b[:0]), g.read)
			p.Kind, p.Key, p.Value = streamGroupPiece, []byte(g.name), r.b
			r.rank = make([]int, len(g.numbers))
			for i, o := range g.consumers {
				r.rank[o.number] = i
			}
			return true
		case r.at < len(g.consumers):
			o := g.consumers[r.at]
			r.at++
			r.b = binary.AppendVarint(binary.AppendVarint(r.b[:0], o.seen), o.active)
			p.Kind, p.Key, p.Value = streamConsumerPiece, []byte(o.name), r.b
			return true
		case g.pending.valid(r.pending):
			r.b = r.b[:0]
			for n := 0; n < pendingPieces && g.pending.valid(r.pending); n++ {
				d := g.pending.at(r.pending)
				r.b = binary.AppendVarint(binary.AppendVarint(d.id.encode(r.b), d.at), d.times)
				r.b = binary.AppendUvarint(r.b, uint64(r.rank[d.consumer]))
				r.pending = g.pending.next(r.pending)
			}
			p.Kind, p.Value = streamPendingPiece, r.b
			return true
		}
		r.group, r.state = r.group+1, 0
	}
	return false
}
