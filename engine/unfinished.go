package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/larder-cache/larder/engine/dense"
)

// An unfinishedValue is a large collection that is being restored: elements are still to come. It stands under its key like
// any other value, in a cache that nobody can ask yet, so that a cut in the middle of a restoration, and a replica made of
// it, has what has come so far.
//
//	W1: the cache's unfinished names the key of each unfinishedValue by its number, and no other
//
// What is put in comes from outside: add and finish refuse what would break an invariant of the collection.
type unfinishedValue struct {
	number uint64
	head   []byte // a list's: which pages there are is settled at the end
	v      divided
	stays  bool // while it is restored itself: it was unfinished when the cut began
	p      *Partition
}

func (u *unfinishedValue) kind() string           { return "unfinished" }
func (u *unfinishedValue) empty() bool            { return false }
func (u *unfinishedValue) parts() []*dense.Table  { return u.v.parts() }
func (u *unfinishedValue) encode(b []byte) []byte { return u.canonical(u.header(b)) }

func (u *unfinishedValue) destroy() {
	if d, ok := u.v.(destroyer); ok {
		d.destroy()
	}
}

// bytes of a list goes by its records: its own sums are not there yet.
func (u *unfinishedValue) bytes() int64 {
	if l, ok := u.v.(*listValue); ok {
		return dequeBytes + l.large.table.Bytes() + dense.IndexBytes(l.large.table.Len()) + int64(len(u.head))
	}
	return u.v.bytes()
}

func (u *unfinishedValue) header(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, u.number)
	if u.head != nil {
		return append(dst, u.head...)
	}
	return u.v.header(dst)
}

// canonical appends all elements.
func (u *unfinishedValue) canonical(dst []byte) []byte {
	dst = append(dst, u.v.kind()...)
	for _, t := range u.v.parts() {
		t.Each(0, func(_ uint64, r dense.Ref) bool {
			rec := u.p.store.Open(r)
			dst = appendText(appendText(append(dst, byte(rec.Kind)), rec.Key), rec.Value)
			dst = binary.AppendUvarint(dst, uint64(rec.ExpireAt))
			return true
		})
	}
	if s, ok := u.v.(*streamValue); ok {
		dst = s.encode(dst)
	}
	return dst
}

// newUnfinished makes a collection without elements, of what the first piece says of it.
func newUnfinished(p *Partition, first *Piece) (*unfinishedValue, error) {
	u := &unfinishedValue{p: p, number: first.Object}
	f := &fields{b: first.Value}
	if first.Unfinished {
		u.number = f.number()
	}
	switch first.Type {
	case "hash":
		u.v = &hashValue{p: p, fields: p.store.NewTable(false, nil, nil)}
	case "list":
		u.v = &listValue{large: newDeque(p.store)}
		u.head = append([]byte{}, f.b...)
		return u, nil
	case "set":
		u.v = newLargeSet(p.store)
	case "zset":
		b, err := f.board()
		if err != nil {
			return nil, err
		}
		u.v = newRanking(p, b)
	case "stream":
		u.v = &streamValue{streamMarks: streamMarks{added: f.number(), last: f.streamID(), deleted: f.streamID()}}
	}
	if err := f.done("a collection"); err != nil {
		u.destroy()
		return nil, err
	}
	return u, nil
}

// board reads what board.encode wrote.
func (f *fields) board() (b board, err error) {
	configured, ties, order := f.byte(), f.byte(), f.byte()
	b = board{configured: configured == 1, ties: tieRule(ties), keepOrder: 0, keep: int(f.upTo(math.MaxUint32)), seq: f.number()}
	if order == 1 {
		b.keepOrder = ascending
	}
	if configured > 1 || order > 1 || b.ties >= numTieRules || !b.configured && b != (board{}) {
		return b, cutError("a leaderboard has other settings than it can have")
	}
	return b, f.done("a leaderboard")
}

// add puts an element in.
func (u *unfinishedValue) add(e *Piece) error {
	switch v := u.v.(type) {
	case *hashValue:
		return v.restore(e)
	case *listValue:
		return v.large.restoreRecord(e)
	case *setValue:
		return v.restore(e)
	case *sortedSet:
		return v.restore(e)
	case *streamValue:
		return v.restore(e)
	}
	return nil
}

// finish says what is wrong with the collection as it is, and makes it fit for use.
func (u *unfinishedValue) finish() error {
	switch v := u.v.(type) {
	case *hashValue:
		if v.size() == 0 {
			return cutError("a hash has no fields")
		}
	case *listValue:
		return v.large.link(u.head)
	case *setValue:
		if v.len() == 0 || v.formLeft() != kindObject {
			return cutError("a set of %d members is not packed", v.len())
		}
	case *sortedSet:
		switch {
		case v.empty(), v.table.Len() <= packedScoresAgain && v.packable():
			return cutError("a sorted set of %d members is not packed", v.len())
		case v.board.keep > 0 && v.len() > v.board.keep:
			return cutError("a leaderboard that keeps %d members has %d", v.board.keep, v.len())
		}
	case *streamValue:
		return v.finish()
	}
	return nil
}

func (h *hashValue) restore(e *Piece) error {
	hash := h.p.store.Hash(e.Key)
	if e.Kind != kindField || len(e.Key) > MaxKey || e.ExpireAt > maxFieldDeadline || h.fields.Find(hash, e.Key) != 0 {
		return cutError("a field of a hash stands twice, or is none")
	}
	h.write(hash, 0, e.Key, e.Value, e.ExpireAt)
	return nil
}

func (s *setValue) restore(e *Piece) error {
	var m, again setMember
	if e.Kind == memberKind && len(e.Value) == 0 && e.ExpireAt == 0 && (len(e.Key) == 0 || e.Key[0] != numberKey || len(e.Key) <= 9 && len(e.Key) > 1) {
		m.setKey(e.Key)
		again.setText(m.bytes())
		if len(m.bytes()) <= MaxKey && len(e.Key) <= MaxKey && bytes.Equal(again.key(), e.Key) && s.table.Find(m.hashIn(s.store), e.Key) == 0 {
			s.enter(&m)
			return nil
		}
	}
	return cutError("a member of a set stands twice, or is none")
}

func (z *sortedSet) restore(e *Piece) error {
	size := 8
	if z.board.ties != tiesMember {
		size = 16
	}
	if e.Kind != kindMember || len(e.Value) != size || e.ExpireAt != 0 || len(e.Key) > MaxKey {
		return cutError("a member of a sorted set is none")
	}
	s := scored{score: math.Float64frombits(binary.LittleEndian.Uint64(e.Value)), member: e.Key}
	if size > 8 {
		s.tie = binary.LittleEndian.Uint64(e.Value[8:])
	}
	hash := z.p.store.Hash(e.Key)
	switch {
	case math.IsNaN(s.score) || s.score == 0 && math.Signbit(s.score):
		return cutError("a member of a sorted set has no score")
	case z.board.ties != tiesMember && z.board.sequence(s.tie) > z.board.seq:
		return cutError("a member of a leaderboard has a tie that was not given out")
	case z.table.Find(hash, e.Key) != 0:
		return cutError("a member of a sorted set stands twice")
	}
	z.enter(hash, s)
	return nil
}

// restoreRecord puts in a page or a block.
func (d *deque) restoreRecord(e *Piece) error {
	if len(e.Key) != numberBytes || e.ExpireAt != 0 || e.Kind != kindBlock && e.Kind != kindPage {
		return cutError("a part of a list is neither a block nor a page")
	}
	hash := d.store.Hash(e.Key)
	if d.table.Find(hash, e.Key) != 0 {
		return cutError("a part of a list stands twice")
	}
	if e.Kind == kindBlock {
		if err := validBlock(e.Value); err != nil {
			return cutError("%v", err)
		}
	}
	copy(d.store.Value(d.table.Insert(hash, e.Kind, e.Key, len(e.Value), 0, 0)), e.Value)
	return nil
}

// link makes a deque of its records, by what listValue.header wrote.
func (d *deque) link(head []byte) error {
	f := &fields{b: head}
	d.next = f.upTo(1 << (8*numberBytes - 1))
	met := map[uint64]bool{}
	record := func(number uint64, kind dense.Kind) []byte {
		if number >= d.next || met[number] {
			return nil
		}
		met[number] = true
		if _, r := d.find(number); r != 0 && d.store.Kind(r) == kind {
			return d.store.Value(r)
		}
		return nil
	}
	var last block
	room := -1 // of the block before
	d.pages, d.n, d.size, d.alone = nil, 0, 0, 0
	for len(f.b) > 0 {
		pg := page{number: f.number(), blocks: int(f.upTo(pageBlocks))}
		p := record(pg.number, kindPage)
		if p == nil || pg.blocks < 1 || len(p) != pageBytes(pg.blocks) || len(d.pages) > 0 && d.pages[len(d.pages)-1].blocks+pg.blocks < pageBlocks/2 {
			return cutError("a page of a list is missing, or has another number of blocks")
		}
		for ei := range pg.blocks {
			number, n := entryAt(p, ei)
			b := block(record(number, kindBlock))
			switch {
			case b == nil || b.n() != n:
				return cutError("a block of a list is missing, or has another number of elements")
			case last != nil && last.used()+b.used() <= blockFull/2:
				return cutError("two blocks of a list should be one")
			case room > maxRoom:
				return cutError("a block of a list has too much room")
			}
			for pos := b.from(); pos < b.to(); {
				_, end := b.read(pos)
				d.tally(end-pos, 1)
				pos = end
			}
			if room = -1; last != nil {
				room = len(b) - b.used() - blockHead
			}
			last = b
			pg.n += n
		}
		for _, b := range p[entryBytes*pg.blocks:] {
			if b != 0 {
				return cutError("a page of a list has more entries than blocks")
			}
		}
		d.pages = append(d.pages, pg)
	}
	if f.bad || d.n == 0 || len(met) != d.table.Len() {
		return cutError("a list has other parts than it says")
	}
	return nil
}

func (s *streamValue) restore(e *Piece) error {
	f := &fields{b: e.Value}
	switch e.Kind {
	case streamBlockPiece:
		b, err := f.streamBlock()
		if err != nil {
			return err
		}
		if at := s.blocks.last(); s.blocks.valid(at) && !b.base.above(s.blocks.at(at).last) || b.last.above(s.last) || len(s.groups) > 0 {
			return cutError("a block of a stream is out of order")
		}
		s.blocks.insert(b)
		s.n += int(b.n)
		s.size += b.size()
		return nil
	case streamGroupPiece:
		g := &streamGroup{name: string(e.Key), last: f.streamID(), read: f.signed()}
		if err := f.done("a group of a stream"); err != nil {
			return err
		}
		if g.read < unknownRead || len(s.groups) > 0 && s.groups[len(s.groups)-1].name >= g.name {
			return cutError("a group of a stream is out of order")
		}
		s.addGroup(nil, g)
		return nil
	}
	if len(s.groups) == 0 {
		return cutError("a consumer of a stream has no group")
	}
	g := s.groups[len(s.groups)-1]
	switch e.Kind {
	case streamConsumerPiece:
		o := &streamConsumer{name: string(e.Key), seen: f.signed(), active: f.signed()}
		if n := len(g.consumers); n > 0 && g.consumers[n-1].name >= o.name || g.pending.n > 0 {
			return cutError("a consumer of a stream is out of order")
		}
		if err := f.done("a consumer of a stream"); err != nil {
			return err
		}
		if o.active < neverActive {
			return cutError("a consumer of a stream was active before time began")
		}
		s.addConsumer(nil, g, o)
		return nil
	case streamPendingPiece:
		for len(f.b) > 0 {
			d := delivery{id: f.streamID(), at: f.signed(), times: f.signed(), consumer: uint32(f.upTo(math.MaxUint32))}
			if at := g.pending.last(); f.bad || g.pending.valid(at) && !d.id.above(g.pending.at(at).id) || int(d.consumer) >= len(g.consumers) {
				return cutError("a pending entry of a stream is out of order, or nobody's")
			}
			s.deliver(nil, g, d)
		}
		return f.done("pending entries of a stream")
	}
	return cutError("a part of a stream is of no kind")
}

func (s *streamValue) finish() error {
	if s.deleted.above(s.last) {
		return cutError("a stream has removed an entry that was not in it")
	}
	return nil
}

var errStreamBlock = fmt.Errorf("%w: a block of a stream is not whole", ErrCut)

// streamBlock reads what streamBlock.encode wrote, and checks X1 to X3 of it.
func (f *fields) streamBlock() (b streamBlock, err error) {
	b.base = f.streamID()
	b.n, b.gone = int16(f.upTo(streamBlockEntries)), int16(f.upTo(streamBlockEntries))
	names, size := f.upTo(maxFrame), f.upTo(maxFrame)
	if f.bad || size != uint64(len(f.b)) || names > size || b.n < 1 || b.n+b.gone > streamBlockEntries || b.n+b.gone > 1 && size > streamBlockBytes {
		return b, errStreamBlock
	}
	b.buf = bytes.Clone(f.b)
	b.names, b.from = int32(names), int32(names)
	head := &fields{b: b.buf[:names]}
	shared := head.number()
	for i := uint64(0); i < shared && !head.bad; i++ {
		head.text(maxFrame)
	}
	if head.bad || len(head.b) > 0 {
		return b, errStreamBlock
	}
	n, entries := int16(0), &fields{b: b.buf[names:]}
	for ; len(entries.b) > 0; n++ {
		mark := entries.upTo(2*maxFrame + 1)
		e := &fields{b: entries.take(mark >> 1)}
		ms, seq := e.number(), e.number()
		if ms == 0 {
			if seq > math.MaxUint64-b.base.seq {
				return b, errStreamBlock
			}
			seq += b.base.seq
		} else if ms > math.MaxUint64-b.base.ms {
			return b, errStreamBlock
		}
		id, texts := streamID{b.base.ms + ms, seq}, shared
		if mark&1 == 1 {
			if texts = e.upTo(maxFrame); texts > 0 {
				texts *= 2
			}
		}
		for i := uint64(0); i < texts && !e.bad; i++ {
			e.text(maxFrame)
		}
		if entries.bad || e.bad || len(e.b) > 0 || b.base.above(id) || n > 0 && !id.above(b.last) || n == b.n {
			return b, errStreamBlock
		}
		b.last = id
	}
	if n != b.n {
		return b, errStreamBlock
	}
	return b, nil
}

// validRecord says what is wrong with the record of a small value, which may come from anywhere.
func validRecord(p *Piece) error {
	b := p.Value
	var err error
	switch p.Kind {
	case kindString, kindTagged, kindMarked:
		err = validString(p.Kind, b)
	case kindSession:
		err = validSession(b, p.ExpireAt)
	case kindHash:
		err = packedHash(b).valid()
	case kindList:
		if err = validBlock(b); err == nil {
			err = (&listValue{small: b}).check()
		}
	case kindIntset, kindPackSet:
		err = validSet(p.Kind, b)
	case kindRanks:
		if err = validRanks(b); err == nil {
			z := &sortedSet{}
			z.unpack(b)
			if z.empty() {
				err = errors.New("V1: a sorted set without members")
			} else {
				err = z.check()
			}
		}
	case kindSketch:
		if len(b) == 0 || b[0] == 0 || int(b[0]) >= len(sketchTypes) {
			return cutError("a sketch is of no family")
		}
		err = (&sketchValue{b: b}).check()
	case kindJSON:
		err = (&jsonValue{doc: b}).check()
	default:
		return cutError("no value is of kind %d", p.Kind)
	}
	if err != nil {
		return cutError("a value is damaged: %v", err)
	}
	apart := dense.IsApart(len(p.Key), len(b))
	if spare := p.Room - len(b); spare > 0 && (!apart || spare > len(b)+1<<16) {
		return cutError("a value of %d bytes has room for %d", len(b), p.Room)
	}
	return nil
}

// validString is validRecord for strings.
func validString(kind dense.Kind, b []byte) error {
	head := versionBytes
	if kind != kindString {
		head += flagsBytes + 1
	}
	if kind == kindMarked {
		head += markBytes
	}
	if len(b) < head {
		return errors.New("a string has no head")
	}
	if kind != kindString && len(b) < head+int(b[versionBytes+flagsBytes]) {
		return errors.New("the content type of a string is cut off")
	}
	var s stringValue
	s.load(kind, b, len(b))
	if want, _ := s.form(); want != kind {
		return fmt.Errorf("a string of kind %d should be of kind %d", kind, want)
	}
	return nil
}

// validSession is validRecord for a session that expires at a time.
func validSession(b []byte, expireAt int64) error {
	f := &fields{b: b}
	version := f.upTo(1<<56 - 1)
	created, idle, idleDeadline, deadline := f.time(), f.time(), f.time(), f.time()
	user := f.text(MaxKey)
	s := &sessionValue{data: f.b, user: string(user), created: created, idle: idle, idleDeadline: idleDeadline, deadline: deadline, version: version}
	switch {
	case f.bad || !json.Valid(f.b):
		return errors.New("a session is cut off, or its data are no JSON")
	case s.expiry() != expireAt:
		return errors.New("S1: a session expires at another time than its item")
	case !bytes.Equal(s.encode(nil), b):
		return errors.New("a session can be written shorter")
	}
	return s.check()
}
