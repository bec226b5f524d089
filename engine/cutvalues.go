package engine

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/jsondoc"
	"github.com/larder-cache/larder/engine/rdb"
)

// A CutReader makes values of the frames of a cut, as a CutSplitter deals them out: each with all of its elements, one value
// after the other, as Redis's types where there is one.
//
// The elements of a large collection come in pieces between which others may stand, and a list's in any order. They wait in a
// Room of their own until all are there, so memory holds a Room's and no collection.
type CutReader struct {
	NewRoom  func() (Room, error)
	Value    func(v *CutValue) error // is told of each value; it is good until it returns
	Function func(code string) error // is told of each library of functions
	Now      int64                   // keys and fields whose time has come by then are left out; milliseconds since 1970

	Expired int64 // keys that were left out

	open map[uint64]*gathering
}

// A Room keeps bytes in their order until it is closed.
type Room interface {
	io.Writer
	io.ReaderAt
	Close() error
}

// A CutValue is a key with its value.
type CutValue struct {
	DB       int
	Key      []byte
	ExpireAt int64
	Type     string   // as TYPE names it
	Kind     rdb.Kind // Unknown where Redis has no such type
	Len      int      // elements, members, fields or entries

	Timed       bool  // of a hash: fields have deadlines, of which the first is
	FirstWake   int64 // this one
	ContentType string
	Flags       uint32      // memcached's
	Board       *CutBoard   // of a leaderboard, whose members Tell tells in the order in which they got their scores
	Session     *CutSession // of a session
	JSON        []byte      // a document's text, or a session's data
	Dump        []byte      // what RESTORE takes, of what can be told in no other way

	tell func(rdb.Sink) error
}

// A CutBoard is what a leaderboard is beside its members, in the words of LEADERBOARD.CREATE.
type CutBoard struct {
	Ties      string
	Keep      int
	KeepOrder string
}

// A CutSession is what a session is beside its data.
type CutSession struct {
	User         string
	Created      int64
	Idle, IdleAt int64
}

// Tell tells what a value holds, where Redis has such a type; see rdb.Sink. Slices are good until the next call.
func (v *CutValue) Tell(to rdb.Sink) error { return v.tell(to) }

// gathering is a large collection whose elements come.
type gathering struct {
	value  CutValue
	kind   string
	head   []byte
	room   Room
	w      *bufio.Writer
	size   int64
	parts  map[uint64]waiting // of a list, by number
	marked []waiting          // groups of a stream, each from where it begins
	gone   bool               // its time has come: nobody wants the elements
	b      []byte
}

type waiting struct {
	at   int64
	size int
	page bool
}

// Part reads whole frames.
func (r *CutReader) Part(frames []byte) error {
	if r.open == nil {
		r.open = map[uint64]*gathering{}
	}
	for reader, rest := (&frameReader{}), frames; len(rest) > 0; {
		var frame []byte
		var err error
		if frame, rest, err = reader.next(rest); frame == nil && err == nil {
			err = cutError("a part ends in the middle of a frame")
		}
		if err == nil {
			err = r.frame(frameKind(frame[0]), &fields{b: frame[1:]})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Close gives back what waits. It is an error if a value has not come to its end.
func (r *CutReader) Close() error {
	n := len(r.open)
	for _, g := range r.open {
		g.close()
	}
	if r.open = nil; n > 0 {
		return cutError("%d collections have no end", n)
	}
	return nil
}

func (r *CutReader) frame(kind frameKind, f *fields) error {
	switch kind {
	case frameFlush, frameScripts, frameScript, frameOnce:
		return nil
	case frameLibrary:
		if r.Function == nil {
			return nil
		}
		return r.Function(string(f.b))
	}
	p, err := f.piece(kind)
	if err != nil {
		return err
	}
	switch {
	case !p.Element && p.Object == 0:
		return r.small(&p)
	case !p.Element:
		return r.begin(&p)
	}
	g := r.open[p.Object]
	if g == nil {
		return cutError("an element belongs to no collection")
	}
	if p.Last {
		delete(r.open, p.Object)
		defer g.close()
		if g.gone {
			return nil
		}
		return r.finish(g)
	}
	if g.gone {
		return nil
	}
	return g.add(&p, r.Now)
}

// passed reports whether a key's time has come, and counts it.
func (r *CutReader) passed(p *Piece) bool {
	if p.ExpireAt == 0 || p.ExpireAt > r.Now {
		return false
	}
	r.Expired++
	return true
}

// small tells a value that lies in its record.
func (r *CutReader) small(p *Piece) error {
	if r.passed(p) {
		return nil
	}
	if err := validRecord(p); err != nil {
		return err
	}
	it := &item{home: &keyspace{}, kind: p.Kind}
	v := &CutValue{DB: p.DB, Key: p.Key, ExpireAt: p.ExpireAt}
	switch p.Kind {
	case kindString, kindTagged, kindMarked:
		it.str.load(p.Kind, p.Value, len(p.Value))
		v.Type, v.Kind, v.Len, v.ContentType, v.Flags = "string", rdb.String, 1, it.str.contentType, it.str.flags
		v.tell = func(to rdb.Sink) error { return to.String(it.str.data) }
	case kindList:
		l := &listValue{small: p.Value}
		v.Type, v.Kind, v.Len = "list", rdb.List, l.len()
		v.tell = func(to rdb.Sink) error { return block(p.Value).tell(to) }
	case kindIntset, kindPackSet:
		s := unpackSet(it, p.Value).(*setValue)
		v.Type, v.Kind, v.Len = "set", rdb.Set, s.len()
		v.tell = s.tell
	case kindHash:
		h := unpackHash(it, p.Value).(*hashValue)
		v.Type, v.Kind, v.Len = "hash", rdb.Hash, h.live(r.Now)
		if v.Len == 0 {
			r.Expired++
			return nil
		}
		v.Timed, v.FirstWake = h.firstWake(r.Now)
		v.tell = func(to rdb.Sink) error { return h.tell(r.Now, to) }
	case kindRanks:
		z := unpackRanks(it, p.Value).(*sortedSet)
		v.Type, v.Kind, v.Len = "zset", rdb.SortedSet, z.len()
		v.board(&z.board)
		v.tell = func(to rdb.Sink) error { return z.tell(to) }
	case kindSession:
		s := unpackSession(p.Value)
		v.Type, v.JSON, v.ExpireAt = s.kind(), s.data, s.deadline
		v.Session = &CutSession{User: s.user, Created: s.created, Idle: s.idle, IdleAt: s.idleDeadline}
	case kindJSON:
		w := jsondoc.Writer{Max: math.MaxInt}
		w.Value(p.Value, 0)
		v.Type, v.JSON = (*jsonValue)(nil).kind(), w.Text
	case kindSketch:
		v.Type = (&sketchValue{b: p.Value}).kind()
	}
	return r.Value(v)
}

func (v *CutValue) board(b *board) {
	if b.configured {
		v.Board, v.Kind = &CutBoard{Ties: b.ties.String(), Keep: b.keep, KeepOrder: b.keepOrder.String()}, rdb.Unknown
	}
}

// tell tells the elements of a list's block.
func (b block) tell(to rdb.Sink) error {
	for pos := b.from(); pos < b.to(); {
		element, end := b.read(pos)
		if err := to.Element(element); err != nil {
			return err
		}
		pos = end
	}
	return nil
}

func (s *setValue) tell(to rdb.Sink) (err error) {
	s.each(new(setMember), func(m *setMember) bool {
		err = to.Element(m.bytes())
		return err == nil
	})
	return err
}

// firstWake is the earliest deadline that has not passed, and whether there is one.
func (h *hashValue) firstWake(now int64) (timed bool, at int64) {
	at = math.MaxInt64
	h.each(now, func(f hashField) bool {
		if f.at != 0 {
			at = min(at, f.at)
		}
		return true
	})
	if at == math.MaxInt64 {
		return false, 0
	}
	return true, at
}

func (h *hashValue) tell(now int64, to rdb.Sink) (err error) {
	var name, value []byte
	h.each(now, func(f hashField) bool {
		name, value = f.field.append(name[:0]), f.value.append(value[:0])
		err = to.Field(name, value, f.at)
		return err == nil
	})
	return err
}

func (z *sortedSet) tell(to rdb.Sink) error {
	all := make([]scored, 0, z.len())
	for c := z.seek(0); c.valid(); c.next() {
		all = append(all, c.entry())
	}
	return tellScored(all, &z.board, to)
}

// tellScored tells members, those of a leaderboard where ties count in the order in which they got their scores.
func tellScored(all []scored, b *board, to rdb.Sink) error {
	if b.ties != tiesMember {
		slices.SortFunc(all, func(x, y scored) int {
			switch p, q := b.sequence(x.tie), b.sequence(y.tie); {
			case p < q:
				return -1
			case p > q:
				return 1
			}
			return bytes.Compare(x.member, y.member)
		})
	}
	for _, s := range all {
		if err := to.Member(s.member, s.score); err != nil {
			return err
		}
	}
	return nil
}

// begin makes room for the elements of a large collection.
func (r *CutReader) begin(p *Piece) error {
	if r.open[p.Object] != nil {
		return cutError("a collection stands twice")
	}
	g := &gathering{kind: p.Type, head: bytes.Clone(p.Value), gone: r.passed(p)}
	if !g.gone {
		g.value = CutValue{DB: p.DB, Key: bytes.Clone(p.Key), ExpireAt: p.ExpireAt, Type: p.Type, Kind: map[string]rdb.Kind{
			"hash": rdb.Hash, "list": rdb.List, "set": rdb.Set, "zset": rdb.SortedSet, "stream": rdb.Stream,
		}[p.Type], FirstWake: math.MaxInt64}
		room, err := r.NewRoom()
		if err != nil {
			return err
		}
		g.room, g.w = room, bufio.NewWriterSize(room, 64<<10)
	}
	r.open[p.Object] = g
	return nil
}

func (g *gathering) close() {
	if g.room != nil {
		_ = g.room.Close() // what was in it has been read, or is not wanted
		g.room = nil
	}
}

// add keeps an element.
func (g *gathering) add(p *Piece, now int64) error {
	b := g.b[:0]
	switch g.kind {
	case "hash":
		if p.ExpireAt != 0 && p.ExpireAt <= now {
			return nil
		}
		if p.ExpireAt != 0 {
			g.value.Timed, g.value.FirstWake = true, min(g.value.FirstWake, p.ExpireAt)
		}
		b = binary.AppendUvarint(appendText(appendText(b, p.Key), p.Value), uint64(p.ExpireAt))
	case "set":
		b = appendText(b, p.Key)
	case "zset":
		b = appendText(appendText(b, p.Key), p.Value)
	case "list":
		return g.addPart(p)
	case "stream":
		if p.Kind == streamGroupPiece {
			g.marked = append(g.marked, waiting{at: g.size})
		}
		b = appendText(appendText(append(b, byte(p.Kind)), p.Key), p.Value)
	}
	g.value.Len++
	return g.write(b)
}

func (g *gathering) write(b []byte) error {
	g.b = b
	g.size += int64(len(b))
	_, err := g.w.Write(b)
	return err
}

// addPart keeps a block or a page of a list.
func (g *gathering) addPart(p *Piece) error {
	if len(p.Key) != numberBytes || p.Kind != kindBlock && p.Kind != kindPage {
		return cutError("a part of a list is neither a block nor a page")
	}
	if p.Kind == kindBlock {
		if err := validBlock(p.Value); err != nil {
			return cutError("%v", err)
		}
	}
	if g.parts == nil {
		g.parts = map[uint64]waiting{}
	}
	number := uint64(0)
	for i, b := range p.Key {
		number |= uint64(b) << (8 * i)
	}
	g.parts[number] = waiting{g.size, len(p.Value), p.Kind == kindPage}
	g.size += int64(len(p.Value))
	_, err := g.w.Write(p.Value)
	return err
}

// finish tells a large collection.
func (r *CutReader) finish(g *gathering) error {
	if err := g.w.Flush(); err != nil {
		return err
	}
	v := &g.value
	switch g.kind {
	case "hash":
		if v.Len == 0 {
			r.Expired++
			return nil
		}
		v.tell = g.tellHash
	case "set":
		v.tell = g.tellSet
	case "zset":
		b, err := (&fields{b: g.head}).board()
		if err != nil {
			return err
		}
		v.board(&b)
		v.tell = func(to rdb.Sink) error { return g.tellScores(&b, to) }
	case "list":
		v.Len = 0
		err := g.eachBlock(func(_ uint64, n int) error {
			v.Len += n
			return nil
		})
		if err != nil {
			return err
		}
		v.tell = g.tellList
	case "stream":
		v.tell = g.tellStream
		v.Len = 0
		err := g.eachStreamPiece(0, func(kind dense.Kind, _, value []byte) error {
			if kind == streamBlockPiece {
				b, err := (&fields{b: value}).streamBlock()
				if err != nil {
					return err
				}
				v.Len += int(b.n)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return r.Value(v)
}

// A roomReader reads what add wrote.
type roomReader struct {
	*bufio.Reader
	b [2][]byte
}

func (g *gathering) from(at int64) *roomReader {
	return &roomReader{Reader: bufio.NewReaderSize(io.NewSectionReader(g.room, at, g.size-at), 64<<10)}
}

// text reads a text into one of two buffers.
func (r *roomReader) text(into int) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if n > maxFrame {
		return nil, cutError("a text of %d bytes", n)
	}
	b := slices.Grow(r.b[into][:0], int(n))[:n]
	r.b[into] = b
	_, err = io.ReadFull(r, b)
	return b, err
}

// pair reads two texts.
func (r *roomReader) pair() (first, second []byte, err error) {
	if first, err = r.text(0); err == nil {
		second, err = r.text(1)
	}
	return first, second, err
}

func (g *gathering) tellHash(to rdb.Sink) error {
	r := g.from(0)
	for range g.value.Len {
		name, value, err := r.pair()
		if err != nil {
			return err
		}
		at, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		if err := to.Field(name, value, int64(at)); err != nil {
			return err
		}
	}
	return nil
}

func (g *gathering) tellSet(to rdb.Sink) error {
	r, m := g.from(0), new(setMember)
	for range g.value.Len {
		key, err := r.text(0)
		if err != nil {
			return err
		}
		m.setKey(key)
		if err := to.Element(m.bytes()); err != nil {
			return err
		}
	}
	return nil
}

func (g *gathering) tellScores(b *board, to rdb.Sink) error {
	r := g.from(0)
	var all []scored
	for range g.value.Len {
		name, value, err := r.pair()
		if err != nil {
			return err
		}
		if len(value) < 8 || b.ties != tiesMember && len(value) < 16 {
			return cutError("a member of a sorted set is none")
		}
		s := scored{score: math.Float64frombits(binary.LittleEndian.Uint64(value)), member: name}
		if b.ties == tiesMember {
			if err := to.Member(name, s.score); err != nil {
				return err
			}
			continue
		}
		s.tie, s.member = binary.LittleEndian.Uint64(value[8:]), bytes.Clone(name)
		all = append(all, s)
	}
	return tellScored(all, b, to)
}

// eachBlock visits the blocks of a list in their order, with how many elements they have.
func (g *gathering) eachBlock(visit func(number uint64, n int) error) error {
	f := &fields{b: g.head}
	f.number() // the next one to be given out
	for len(f.b) > 0 {
		number, blocks := f.number(), int(f.upTo(pageBlocks))
		at, ok := g.parts[number]
		if !ok || !at.page || at.size != pageBytes(blocks) {
			return cutError("a page of a list is missing, or has another number of blocks")
		}
		p := make([]byte, at.size)
		if _, err := g.room.ReadAt(p, at.at); err != nil {
			return err
		}
		for i := range blocks {
			number, n := entryAt(p, i)
			if b, ok := g.parts[number]; !ok || b.page {
				return cutError("a block of a list is missing")
			}
			if err := visit(number, n); err != nil {
				return err
			}
		}
	}
	if f.bad {
		return cutError("a list has other parts than it says")
	}
	return nil
}

func (g *gathering) tellList(to rdb.Sink) error {
	var b []byte
	return g.eachBlock(func(number uint64, n int) error {
		at := g.parts[number]
		b = slices.Grow(b[:0], at.size)[:at.size]
		if _, err := g.room.ReadAt(b, at.at); err != nil {
			return err
		}
		if block(b).n() != n {
			return cutError("a block of a list has another number of elements")
		}
		return block(b).tell(to)
	})
}

// eachStreamPiece visits the pieces of a stream from a place on.
func (g *gathering) eachStreamPiece(at int64, visit func(kind dense.Kind, name, value []byte) error) error {
	r := g.from(at)
	for {
		kind, err := r.ReadByte()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		name, value, err := r.pair()
		if err != nil {
			return err
		}
		if err := visit(dense.Kind(kind), name, value); err != nil {
			return err
		}
	}
}

// errEnough ends a visit.
var errEnough = cutError("enough")

func (g *gathering) tellStream(to rdb.Sink) error {
	err := g.eachStreamPiece(0, func(kind dense.Kind, _, value []byte) error {
		if kind != streamBlockPiece {
			return errEnough
		}
		b, err := (&fields{b: value}).streamBlock()
		if err != nil {
			return err
		}
		return b.tell(to)
	})
	if err != nil && err != errEnough {
		return err
	}
	f := &fields{b: g.head}
	added := f.number()
	last, deleted := f.streamID(), f.streamID()
	if err := f.done("a stream"); err != nil {
		return err
	}
	if err := to.Stream(rdb.StreamMarks{Last: rdbID(last), Deleted: rdbID(deleted), Added: added, Counted: true}); err != nil {
		return err
	}
	for _, at := range g.marked {
		if err := g.tellGroup(at.at, to); err != nil {
			return err
		}
	}
	return nil
}

// tell tells the entries of a block.
func (b *streamBlock) tell(to rdb.Sink) error {
	var names, texts [][]byte
	n, rest := cutUvarint(b.buf)
	for range n {
		var name []byte
		name, rest = cutText(rest)
		names = append(names, name)
	}
	for pos := b.from; b.more(pos); {
		e := b.read(pos)
		texts = texts[:0]
		for i := range e.fields {
			name := []byte(nil)
			if e.own {
				name, e.rest = cutText(e.rest)
			} else {
				name = names[i]
			}
			var value []byte
			value, e.rest = cutText(e.rest)
			texts = append(texts, name, value)
		}
		if err := to.Entry(rdbID(e.id), texts); err != nil {
			return err
		}
		pos = e.end
	}
	return nil
}

// tellGroup tells a group: first all that is pending, then the consumers, each with what is pending to it. The ids of what
// is pending wait in memory.
func (g *gathering) tellGroup(at int64, to rdb.Sink) error {
	type consumer struct {
		name         string
		seen, active int64
		owed         []rdb.StreamID
	}
	var all []consumer
	first := true
	err := g.eachStreamPiece(at, func(kind dense.Kind, name, value []byte) error {
		f := &fields{b: value}
		switch {
		case kind == streamGroupPiece && first:
			first = false
			last, read := f.streamID(), f.signed()
			if err := f.done("a group"); err != nil {
				return err
			}
			return to.Group(name, rdbID(last), read)
		case kind == streamGroupPiece:
			return errEnough
		case kind == streamConsumerPiece:
			all = append(all, consumer{name: strings.Clone(string(name)), seen: f.signed(), active: f.signed()})
			return f.done("a consumer")
		case kind != streamPendingPiece:
			return cutError("a part of a stream is of no kind")
		}
		for len(f.b) > 0 {
			id, when, times, of := rdbID(f.streamID()), f.signed(), f.signed(), f.number()
			if f.bad || of >= uint64(len(all)) {
				return cutError("a pending entry is nobody's")
			}
			all[of].owed = append(all[of].owed, id)
			if err := to.Pending(id, when, uint64(times)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil && err != errEnough {
		return err
	}
	for i := range all {
		c := &all[i]
		if err := to.Consumer([]byte(c.name), c.seen, c.active); err != nil {
			return err
		}
		for _, id := range c.owed {
			if err := to.Owed(id); err != nil {
				return err
			}
		}
		c.owed = nil
	}
	return nil
}
