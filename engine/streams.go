package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// A streamValue is a log of entries in the order of their ids, each a few fields with their values, and the groups
// of consumers that share in reading it (streamgroups.go). It is there even when it is empty.
//
//	X1: ids ascend, from block to block and inside of each; no block begins above last or reaches beyond it
//	X2: a block holds 1 to streamBlockEntries entries, those that have gone counted too, and no more than
//	    streamBlockBytes bytes unless it was made for one entry that is larger
//	X3: entries are whole
//	X4: n and size are the sums over all blocks
//	X5: groups stand in the order of their names, and so do the consumers of each
//	X6: a pending entry is listed by exactly one consumer of its group, the one that it names
//	X7: owed, readers and named are the sums over all groups
//
// Unlike in a list, which block an entry is in is a part of the state: XTRIM ~ removes whole blocks, XINFO counts
// them, and the account is of what they take. So an undo puts back the very blocks that there were, and whatever
// carries a stream elsewhere has to carry its blocks. Every method that changes a stream takes the journal (nil outside
// an atomic task) and leaves in it how to take the change back.
type streamValue struct {
	blocks run[streamBlock]
	streamMarks
	groups []*streamGroup

	owed    int // entries pending in all groups
	readers int // consumers of all groups
	named   int // bytes in the names of groups and consumers
}

// streamMarks are the numbers that an undo puts back as they were.
type streamMarks struct {
	n       int      // entries
	size    int      // bytes in blocks
	added   uint64   // entries ever added
	last    streamID // the highest id ever given out
	deleted streamID // the highest id that XDEL removed
}

// What a stream costs beside the bytes in its blocks, in bytes. A chunk of a run is on average three quarters full.
const (
	streamOverhead   = 176
	blockOverhead    = 88
	groupOverhead    = 192
	consumerOverhead = 120
	owedOverhead     = 66 // in the group's run and in the consumer's
)

func (s *streamValue) kind() string { return "stream" }
func (s *streamValue) empty() bool  { return false }
func (s *streamValue) len() int     { return s.n }

func (s *streamValue) bytes() int64 {
	return int64(streamOverhead + s.blocks.n*blockOverhead + s.size + s.size/16 +
		len(s.groups)*groupOverhead + s.readers*consumerOverhead + s.named + s.owed*owedOverhead)
}

// parts and header are for a cut, which reads the rest with a streamReader.
func (s *streamValue) parts() []*dense.Table { return nil }

func (s *streamValue) header(dst []byte) []byte {
	return s.deleted.encode(s.last.encode(binary.AppendUvarint(dst, s.added)))
}

func (s *streamValue) encode(dst []byte) []byte {
	dst = s.header(dst)
	dst = binary.AppendUvarint(dst, uint64(s.blocks.n))
	for at := s.blocks.first(); s.blocks.valid(at); at = s.blocks.next(at) {
		dst = s.blocks.at(at).encode(dst)
	}
	for _, g := range s.groups {
		dst = g.encode(dst)
	}
	return dst
}

// clone shares the bytes of all blocks, which never change; each of the two makes room of its own for what it adds.
func (s *streamValue) clone(step func()) largeValue {
	twin := *s
	twin.blocks = s.blocks.clone()
	for at := twin.blocks.first(); twin.blocks.valid(at); at = twin.blocks.next(at) {
		step()
		b := twin.blocks.at(at)
		b.buf = b.buf[:len(b.buf):len(b.buf)]
	}
	twin.groups = make([]*streamGroup, len(s.groups))
	for i, g := range s.groups {
		twin.groups[i] = g.clone()
	}
	return &twin
}

func (s *streamValue) check() error {
	if err := s.blocks.check(); err != nil {
		return err
	}
	n, size := 0, 0
	var before streamID
	for at := s.blocks.first(); s.blocks.valid(at); at = s.blocks.next(at) {
		b := s.blocks.at(at)
		if err := b.check(); err != nil {
			return err
		}
		if b.last.above(s.last) || (n > 0 && !b.base.above(before)) {
			return fmt.Errorf("X1: a block from %v to %v stands behind %v in a stream up to %v", b.base, b.last, before, s.last)
		}
		before = b.last
		n += int(b.n)
		size += b.size()
	}
	if n != s.n || size != s.size {
		return fmt.Errorf("X4: %d entries of %d bytes, counted as %d of %d", n, size, s.n, s.size)
	}
	return s.checkGroups()
}

// first is the id of the first entry, noID when there is none.
func (s *streamValue) first() streamID {
	if s.n == 0 {
		return noID
	}
	return s.blocks.at(s.blocks.first()).first()
}

// top is the id of the last entry, noID when there is none.
func (s *streamValue) top() streamID {
	if s.n == 0 {
		return noID
	}
	return s.blocks.at(s.blocks.last()).last
}

// find returns the entry with an id and its place.
func (s *streamValue) find(id streamID) (at runSpot, pos int32, e streamEntry, found bool) {
	at = s.blocks.upTo(id)
	if !s.blocks.valid(at) {
		return at, 0, e, false
	}
	b := s.blocks.at(at)
	if pos, _ = b.seek(id); b.more(pos) {
		e = b.read(pos)
	}
	return at, pos, e, e.end > 0 && e.id == id
}

// streamSpan is the part of a stream between two ids, with both ends, and at most so many of its entries.
type streamSpan struct {
	from, to streamID
	atMost   int
}

// countIn counts the entries in a span: O(log n) and a step for each block.
func (s *streamValue) countIn(p streamSpan) (n int) {
	if p.from.above(p.to) {
		return 0
	}
	at := s.blocks.upTo(p.from)
	if s.blocks.valid(at) {
		_, before := s.blocks.at(at).seek(p.from)
		n = -before
	} else {
		at = s.blocks.first()
	}
	for ; s.blocks.valid(at) && n < p.atMost; at = s.blocks.next(at) {
		b := s.blocks.at(at)
		if b.last.above(p.to) {
			pos, before := b.seek(p.to)
			n += before
			if b.more(pos) && b.read(pos).id == p.to {
				n++
			}
			break
		}
		n += int(b.n)
	}
	return max(min(n, p.atMost), 0)
}

// walk visits the entries in a span, the first ones first.
func (s *streamValue) walk(p streamSpan, visit func(e streamEntry)) {
	at := s.blocks.upTo(p.from)
	if !s.blocks.valid(at) {
		at = s.blocks.first()
	}
	for left := p.atMost; s.blocks.valid(at) && left > 0; at = s.blocks.next(at) {
		b := s.blocks.at(at)
		for pos, _ := b.seek(p.from); b.more(pos) && left > 0; left-- {
			e := b.read(pos)
			if e.id.above(p.to) {
				return
			}
			visit(e)
			pos = e.end
		}
	}
}

// walkBack visits the entries in a span, the last ones first. A block can be read only forwards, so it notes the
// places in each before it turns around.
func (s *streamValue) walkBack(p streamSpan, visit func(e streamEntry)) {
	var places [streamBlockEntries]int32
	at := s.blocks.upTo(p.to)
	for left := p.atMost; s.blocks.valid(at) && left > 0; at = s.blocks.prev(at) {
		b, n := s.blocks.at(at), 0
		for pos := b.from; b.more(pos); n++ {
			places[n] = pos
			_, pos = b.peek(pos)
		}
		for ; n > 0 && left > 0; n-- {
			e := b.read(places[n-1])
			if e.id.above(p.to) {
				continue
			}
			if p.from.above(e.id) {
				return
			}
			visit(e)
			left--
		}
	}
}

// note leaves in the journal how to put the marks back.
func (s *streamValue) note(j *journal) {
	if j != nil {
		was := s.streamMarks
		j.add(func() { s.streamMarks = was })
	}
}

// keep leaves in the journal how to put a block back.
func (s *streamValue) keep(j *journal, b *streamBlock) {
	if j != nil {
		was := *b
		j.add(func() {
			if at, found := s.blocks.find(was.base); found {
				*s.blocks.at(at) = was
			} else {
				s.blocks.insert(was)
			}
		})
	}
}

// add appends an entry, whose id is above last.
func (s *streamValue) add(j *journal, id streamID, fields [][]byte) {
	s.note(j)
	at := s.blocks.last()
	if !s.blocks.valid(at) || s.blocks.at(at).full(fields) {
		if s.blocks.valid(at) {
			s.blocks.at(at).pack(8) // it stays as it is for long
		}
		s.blocks.insert(newStreamBlock(id, fields))
		at = s.blocks.last()
		s.size += int(s.blocks.at(at).names)
		if j != nil {
			j.add(func() { s.blocks.remove(s.blocks.last()) })
		}
	} else {
		s.keep(j, s.blocks.at(at))
	}
	b := s.blocks.at(at)
	before := len(b.buf)
	b.add(id, fields)
	s.size += len(b.buf) - before
	s.n++
	s.added++
	s.last = id
}

// remove removes the entry with an id and reports whether there was one.
func (s *streamValue) remove(j *journal, id streamID) bool {
	at, pos, _, found := s.find(id)
	if !found {
		return false
	}
	s.note(j)
	b := s.blocks.at(at)
	s.keep(j, b)
	s.size -= b.size()
	if b.n == 1 {
		s.blocks.remove(at)
	} else {
		b.cut(pos)
		s.size += b.size()
	}
	s.n--
	if id.above(s.deleted) {
		s.deleted = id
	}
	return true
}

// A trimming says how much of a stream's beginning is to go.
type trimming struct {
	byLength, byID bool // at most one of them
	maxLen         int64
	minID          streamID
	approximate    bool  // whole blocks only
	limit          int64 // entries to remove at most, 0 for no bound
	references     references
}

// defaultTrimLimit is the limit of an approximate trimming that names none.
const defaultTrimLimit = 100 * streamBlockEntries

// covers reports whether a whole block is to go.
func (t *trimming) covers(s *streamValue, b *streamBlock) bool {
	if t.byLength {
		return int64(s.n)-int64(b.n) >= t.maxLen
	}
	return t.minID.above(b.last)
}

// trim removes entries from the beginning and returns how many.
func (s *streamValue) trim(j *journal, t *trimming) (removed int64) {
	if !t.byLength && !t.byID {
		return 0
	}
	if t.references != keepReferences && len(s.groups) > 0 {
		return s.trimReferenced(j, t)
	}
	s.note(j)
	for s.n > 0 {
		b := s.blocks.at(s.blocks.first())
		if t.limit > 0 && removed+int64(b.n) > t.limit {
			break
		}
		if t.covers(s, b) {
			s.keep(j, b)
			removed += int64(b.n)
			s.n -= int(b.n)
			s.size -= b.size()
			s.blocks.remove(s.blocks.first())
			continue
		}
		excess := int(max(int64(s.n)-t.maxLen, 0))
		if t.byID {
			_, excess = b.seek(t.minID)
		}
		if excess == 0 || t.approximate {
			break
		}
		s.keep(j, b)
		s.size -= b.size()
		b.shift(excess)
		s.size += b.size()
		s.n -= excess
		return removed + int64(excess)
	}
	return removed
}

// setMarks is XSETID: deleted is noID to leave it as it is, added -1.
func (s *streamValue) setMarks(j *journal, last, deleted streamID, added int64) {
	s.note(j)
	s.last = last
	if added >= 0 {
		s.added = uint64(added)
	}
	if deleted != noID {
		s.deleted = deleted
	}
}

// nextID is the id of an entry that comes now.
func (s *streamValue) nextID(now int64) streamID {
	if id := (streamID{uint64(now), 0}); id.above(s.last) {
		return id
	}
	id, _ := s.last.next()
	return id
}

var streamKeys = Keys{Streams: 1} // … STREAMS key [key ...] id [id ...]

var streamCommands = []Command{
	{Name: "XADD", Arity: -5, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupStream, Action: "cache:StreamWrite", Facts: xaddFacts, run: xadd,
		Usage: "key [NOMKSTREAM] [KEEPREF | DELREF | ACKED] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value [field value ...]", Summary: "Appends an entry to a stream and returns its id", Complexity: "O(1), O(M) for M entries that it trims", Since: "5.0.0"},
	{Name: "XLEN", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupStream, Action: "cache:StreamRead", run: xlen,
		Usage: "key", Summary: "Counts the entries", Complexity: "O(1)", Since: "5.0.0"},
	{Name: "XRANGE", Arity: -4, Keys: oneKey, Group: GroupStream, Action: "cache:StreamRead", Facts: xrangeFacts, run: func(c *call) error { return xrange(c, false) },
		Usage: "key start end [COUNT count]", Summary: "Returns the entries in a range of ids", Complexity: "O(log N + M) for M entries", Since: "5.0.0"},
	{Name: "XREVRANGE", Arity: -4, Keys: oneKey, Group: GroupStream, Action: "cache:StreamRead", Facts: xrangeFacts, run: func(c *call) error { return xrange(c, true) },
		Usage: "key end start [COUNT count]", Summary: "Returns the entries in a range of ids, the last ones first", Complexity: "O(log N + M) for M entries", Since: "5.0.0"},
	{Name: "XREAD", Arity: -4, Keys: streamKeys, Flags: Blocks, Group: GroupStream, Action: "cache:StreamRead", Facts: xreadFacts("XREAD"), run: xread,
		Usage: "[COUNT count] [BLOCK milliseconds] STREAMS key [key ...] id [id ...]", Summary: "Returns the entries of several streams that follow an id", Complexity: "O(log N + M) for each stream and M entries", Since: "5.0.0"},
	{Name: "XDEL", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupStream, Action: "cache:StreamWrite", run: xdel,
		Usage: "key id [id ...]", Summary: "Removes entries and counts those that existed", Complexity: "O(log N) for each entry", Since: "5.0.0"},
	{Name: "XTRIM", Arity: -4, Keys: oneKey, Flags: Writes, Group: GroupStream, Action: "cache:StreamWrite", run: xtrim,
		Usage: "key <MAXLEN | MINID> [= | ~] threshold [LIMIT count] [KEEPREF | DELREF | ACKED]", Summary: "Removes the first entries down to a length or up to an id", Complexity: "O(M) for M removed entries", Since: "5.0.0"},
	{Name: "XSETID", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupStream, Action: "cache:StreamWrite", run: xsetid,
		Usage: "key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]", Summary: "Sets the last id of a stream", Complexity: "O(1)", Since: "5.0.0"},
	{Name: "XINFO", Arity: -2, Keys: Keys{First: 2, Last: 2, Step: 1}, Group: GroupStream, Action: "cache:StreamRead", run: xinfo,
		Usage: "<STREAM key [FULL [COUNT count]] | GROUPS key | CONSUMERS key group | HELP>", Summary: "Describes a stream, its groups or their consumers", Complexity: "O(1), O(N) for N groups, consumers or entries shown", Since: "5.0.0"},
}

// xaddFacts: the value of an XADD is its names and values.
func xaddFacts(args [][]byte, _ int64) Facts {
	o, err := parseXadd("", args)
	if err != nil {
		return elementFacts()
	}
	return elementFacts(o.fields...)
}

func xrangeFacts(args [][]byte, _ int64) Facts {
	n, err := parseRangeCount(args[4:])
	if err != nil || n < 0 {
		return listing(math.MaxInt64)
	}
	return listing(n)
}

func xreadFacts(op string) facts {
	return func(args [][]byte, now int64) Facts {
		o, err := parseXread(op, args, now)
		if err != nil || o.count == 0 || o.count > math.MaxInt64/int64(len(o.keys)) {
			return listing(math.MaxInt64)
		}
		return listing(o.count * int64(len(o.keys)))
	}
}

var (
	errStreamID   = fault.About(fault.InvalidArgument, "engine", "id", "Invalid stream ID specified as stream command argument")
	errRangeStart = fault.About(fault.InvalidArgument, "engine", "start", "invalid start ID for the interval")
	errRangeEnd   = fault.About(fault.InvalidArgument, "engine", "end", "invalid end ID for the interval")
)

// parseUnsigned reads a number of 64 bits as C's strtoull does, in which Redis trusts here: with leading zeros and
// spaces, and with a sign.
func parseUnsigned(b []byte) (n uint64, ok bool) {
	if n, ok := parseInt(b); ok {
		return uint64(n), n >= 0
	}
	for len(b) > 0 && (b[0] == ' ' || ('\t' <= b[0] && b[0] <= '\r')) {
		b = b[1:]
	}
	negative := len(b) > 0 && b[0] == '-'
	if negative || (len(b) > 0 && b[0] == '+') {
		b = b[1:]
	}
	for _, d := range b {
		digit := uint64(d - '0')
		if digit > 9 || n > (math.MaxUint64-digit)/10 {
			return 0, false
		}
		n = n*10 + digit
	}
	if negative {
		n = -n
	}
	return n, len(b) > 0
}

// maxIDText is the longest text that is read as an id.
const maxIDText = 127

// parseID reads an id. Where its second part is missing, that is missing.
func parseID(b []byte, missing uint64) (id streamID, err error) {
	id, auto, err := parseNewID(b, missing)
	if err == nil && auto {
		return id, errStreamID
	}
	return id, err
}

// parseNewID reads the id of a new entry, which may leave the second part to us: "1526919030474-*".
func parseNewID(b []byte, missing uint64) (id streamID, auto bool, err error) {
	ms, seq, two := bytes.Cut(b, []byte("-"))
	ok := len(b) <= maxIDText
	if ok {
		id.ms, ok = parseUnsigned(ms)
	}
	switch {
	case !ok:
		return id, false, errStreamID
	case !two:
		id.seq = missing
	case string(seq) == "*":
		auto = true
	default:
		if id.seq, ok = parseUnsigned(seq); !ok {
			return id, false, errStreamID
		}
	}
	return id, auto, nil
}

// parseAnyID reads an id, - for the lowest one or + for the highest.
func parseAnyID(b []byte, missing uint64) (streamID, error) {
	switch string(b) {
	case "-":
		return noID, nil
	case "+":
		return maxID, nil
	}
	return parseID(b, missing)
}

// parseIDs reads the ids of XDEL and XACK.
func parseIDs(args [][]byte) ([]streamID, error) {
	ids := make([]streamID, len(args))
	for i, a := range args {
		var err error
		if ids[i], err = parseID(a, 0); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// parseStart reads where a range begins; ( leaves out the id behind it.
func parseStart(b []byte) (id streamID, err error) {
	if len(b) < 2 || b[0] != '(' {
		return parseAnyID(b, 0)
	}
	if id, err = parseID(b[1:], 0); err != nil {
		return id, err
	}
	id, ok := id.next()
	if !ok {
		return id, errRangeStart
	}
	return id, nil
}

// parseRangeEnd reads where a range ends; ( leaves out the id behind it.
func parseRangeEnd(b []byte) (id streamID, err error) {
	if len(b) < 2 || b[0] != '(' {
		return parseAnyID(b, math.MaxUint64)
	}
	if id, err = parseID(b[1:], math.MaxUint64); err != nil {
		return id, err
	}
	id, ok := id.prev()
	if !ok {
		return id, errRangeEnd
	}
	return id, nil
}

// An entryWriter writes ids and entries to a reply. It keeps the text of an id, so that a command allocates one.
type entryWriter struct {
	call *call
	out  Reply
	buf  [41]byte
}

func (w *entryWriter) id(id streamID) { w.out.Bulk(id.append(w.buf[:0])) }

func (w *entryWriter) entry(e streamEntry) {
	w.out.Array(2)
	w.content(e)
}

// delivered writes an entry with how long ago it was delivered before, in milliseconds, and how many times.
func (w *entryWriter) delivered(e streamEntry, ago, times int64) {
	w.out.Array(4)
	w.content(e)
	w.out.Int(ago)
	w.out.Int(times)
}

// content writes an entry's id and fields.
func (w *entryWriter) content(e streamEntry) {
	w.call.step()
	w.id(e.id)
	w.out.Array(2 * e.fields)
	var text []byte
	for range e.fields {
		if e.own {
			text, e.rest = cutText(e.rest)
		} else {
			text, e.names = cutText(e.names)
		}
		w.out.Bulk(text)
		text, e.rest = cutText(e.rest)
		w.out.Bulk(text)
	}
}

// entries writes the entries in a span as a list.
func (w *entryWriter) entries(s *streamValue, p streamSpan) {
	w.out.Array(s.countIn(p))
	s.walk(p, w.entry)
}

// streamAt returns the stream under key for reading, nil when there is none.
func (c *call) streamAt(key []byte) (*streamValue, error) {
	s, _, err := lookup[*streamValue](c, key)
	if err == nil {
		c.count(s != nil)
	}
	return s, err
}

// xaddOptions are what XADD and XTRIM are told.
type xaddOptions struct {
	trimming
	noMake    bool
	id        streamID
	now, auto bool // the whole id, or its second part, is left to us
	fields    [][]byte
}

func parseXadd(op string, args [][]byte) (o xaddOptions, err error) {
	at, err := o.parseTrimming(op, args, true)
	if err != nil {
		return o, err
	}
	if at < len(args) {
		o.fields = args[at+1:]
	}
	switch {
	case len(o.fields) < 2 || len(o.fields)%2 == 1:
		return o, fault.New(fault.InvalidArgument, op, "wrong number of arguments for 'xadd' command")
	case o.id == noID && !o.now && !o.auto:
		return o, fault.About(fault.InvalidArgument, op, "id", "The ID specified in XADD must be greater than 0-0")
	}
	return o, nil
}

// parseTrimming reads what stands between the key and an entry's id, and the id, whose place it returns.
func (o *xaddOptions) parseTrimming(op string, args [][]byte, adding bool) (at int, err error) {
	limited := false
	for at = 2; at < len(args); at++ {
		a, more := args[at], len(args)-1-at
		switch {
		case adding && string(a) == "*":
			o.now = true
			return at, o.checkTrimming(op, limited, adding)
		case more > 0 && (is(a, "MAXLEN") || is(a, "MINID")):
			if o.byLength || o.byID {
				return at, fault.New(fault.InvalidArgument, op, "syntax error, MAXLEN and MINID options at the same time are not compatible")
			}
			if next := string(args[at+1]); more > 1 && (next == "~" || next == "=") {
				o.approximate = next == "~"
				at++
			}
			at++
			if o.byLength = is(a, "MAXLEN"); o.byLength {
				o.maxLen, err = parseNotNegative(op, "MAXLEN", args[at])
			} else {
				o.byID = true
				o.minID, err = parseID(args[at], 0)
			}
		case more > 0 && is(a, "LIMIT"):
			at++
			limited = true
			o.limit, err = parseNotNegative(op, "LIMIT", args[at])
		case adding && is(a, "NOMKSTREAM"):
			o.noMake = true
		case parseReferences(a, &o.references):
		case adding:
			if o.id, o.auto, err = parseNewID(a, 0); err == nil {
				err = o.checkTrimming(op, limited, adding)
			}
			return at, err
		default:
			return at, errSyntax
		}
		if err != nil {
			return at, err
		}
	}
	return at, o.checkTrimming(op, limited, adding)
}

// checkTrimming refuses options that do not go together, and sets the limit that none was given for.
func (o *xaddOptions) checkTrimming(op string, limited, adding bool) error {
	trims := o.byLength || o.byID
	switch {
	case o.limit > 0 && !trims:
		return fault.New(fault.InvalidArgument, op, "syntax error, LIMIT cannot be used without specifying a trimming strategy")
	case !adding && !trims:
		return fault.New(fault.InvalidArgument, op, "syntax error, XTRIM must be called with a trimming strategy")
	case limited && !o.approximate:
		return fault.New(fault.InvalidArgument, op, "syntax error, LIMIT cannot be used without the special ~ option")
	case o.approximate && !limited:
		o.limit = defaultTrimLimit
	}
	return nil
}

func parseNotNegative(op, option string, b []byte) (int64, error) {
	n, ok := parseInt(b)
	if !ok {
		return 0, errNotInteger
	}
	if n < 0 {
		return 0, fault.About(fault.OutOfRange, op, option, "The %s argument must be >= 0.", option)
	}
	return n, nil
}

func xadd(c *call) error {
	o, err := parseXadd(c.cmd.Name, c.args)
	if err != nil {
		return err
	}
	key := c.args[1]
	if err := c.checkSizes(key, elementFacts(o.fields...).ValueSize); err != nil {
		return err
	}
	s, it, err := lookup[*streamValue](c, key)
	if err != nil {
		return err
	}
	if s == nil && o.noMake {
		c.out.Null()
		return nil
	}
	id, err := o.newID(s, c.now)
	if err != nil {
		return err
	}
	if s == nil {
		s = &streamValue{}
		it = c.put(key, s, c.defaultDeadline())
	}
	s.add(c.p.journal, id, o.fields)
	c.trimmed = s.trim(c.p.journal, &o.trimming) > 0
	c.changed(it)
	(&entryWriter{call: c, out: c.out}).id(id)
	return nil
}

// newID is the id of the entry to be added to s, which may be nil.
func (o *xaddOptions) newID(s *streamValue, now int64) (id streamID, err error) {
	if s == nil {
		s = &streamValue{}
	}
	switch id = o.id; {
	case s.last == maxID:
		return id, fault.New(fault.OutOfRange, "XADD", "The stream has exhausted the last possible ID, unable to add more items")
	case o.now:
		return s.nextID(now), nil
	case o.auto && id.ms == s.last.ms && s.last.seq < math.MaxUint64:
		id.seq = s.last.seq + 1
	}
	if !id.above(s.last) {
		return id, fault.About(fault.InvalidArgument, "XADD", "id", "The ID specified in XADD is equal or smaller than the target stream top item")
	}
	return id, nil
}

func xlen(c *call) error {
	s, err := c.streamAt(c.args[1])
	if err != nil {
		return err
	}
	if s == nil {
		s = &streamValue{}
	}
	c.out.Int(int64(s.n))
	return nil
}

// parseRangeCount reads XRANGE's options: how many entries at most, -1 when there is no bound.
func parseRangeCount(args [][]byte) (count int64, err error) {
	for count = -1; len(args) > 0; args = args[2:] {
		if len(args) == 1 || !is(args[0], "COUNT") {
			return 0, errSyntax
		}
		n, ok := parseInt(args[1])
		if !ok {
			return 0, errNotInteger
		}
		count = max(n, 0)
	}
	return count, nil
}

func xrange(c *call, back bool) error {
	first, last := c.args[2], c.args[3]
	if back {
		first, last = last, first
	}
	var p streamSpan
	var err error
	if p.from, err = parseStart(first); err != nil {
		return err
	}
	if p.to, err = parseRangeEnd(last); err != nil {
		return err
	}
	count, err := parseRangeCount(c.args[4:])
	if err != nil {
		return err
	}
	s, err := c.streamAt(c.args[1])
	switch {
	case err != nil:
		return err
	case s == nil:
		c.out.Array(0)
		return nil
	case count == 0: // as Redis
		c.out.NullArray()
		return nil
	}
	if p.atMost = int(count); count < 0 {
		p.atMost = math.MaxInt
	}
	w := &entryWriter{call: c, out: c.out}
	if !back {
		w.entries(s, p)
		return nil
	}
	// Counted from the other end, a bound tells the same number.
	w.out.Array(s.countIn(p))
	if !p.from.above(p.to) {
		s.walkBack(p, w.entry)
	}
	return nil
}

// readOptions are what XREAD and XREADGROUP are told.
type readOptions struct {
	group, consumer []byte // nil in XREAD
	noAck           bool
	claims          bool  // entries come first that have been pending to anybody for idle milliseconds
	idle            int64 // see claims
	count           int64 // of entries from each stream, 0 for all
	block           int   // where the timeout stands among the arguments, 0 for no BLOCK
	wait            int64 // milliseconds, 0 for ever
	keys, ids       [][]byte
}

func parseXread(op string, args [][]byte, now int64) (o readOptions, err error) {
	grouped := op == "XREADGROUP"
	for i := 1; i < len(args) && o.keys == nil; i++ {
		a, more := args[i], len(args)-1-i
		switch {
		case more > 0 && is(a, "BLOCK"):
			i++
			o.block = i
			o.wait, err = parseTimeout(op, args[i], now)
		case more > 0 && is(a, "COUNT"):
			i++
			n, ok := parseInt(args[i])
			if o.count = max(n, 0); !ok {
				err = errNotInteger
			}
		case more > 0 && is(a, "STREAMS"):
			if o.keys, o.ids = halves(args[i+1:]); o.keys == nil {
				err = unbalanced(op, grouped)
			}
		case more > 1 && is(a, "GROUP") && grouped:
			o.group, o.consumer = args[i+1], args[i+2]
			i += 2
		case is(a, "NOACK") && grouped:
			o.noAck = true
		case more > 0 && is(a, "CLAIM") && grouped:
			i++
			var ok bool
			if o.idle, ok = parseInt(args[i]); !ok || o.idle < 0 {
				err = fault.About(fault.OutOfRange, op, "CLAIM", "min-idle-time must be a positive integer")
			}
			o.claims = true
		case (more > 1 && is(a, "GROUP")) || is(a, "NOACK") || (more > 0 && is(a, "CLAIM")):
			err = fault.New(fault.InvalidArgument, op, "The %s option is only supported by XREADGROUP. You called XREAD instead.", strings.ToUpper(string(a)))
		default:
			err = errSyntax
		}
		if err != nil {
			return o, err
		}
	}
	switch {
	case o.keys == nil:
		return o, errSyntax
	case grouped && o.group == nil:
		return o, fault.New(fault.InvalidArgument, op, "Missing GROUP option for XREADGROUP")
	}
	return o, nil
}

// unbalanced says, as Redis since 7.2, that there is not an id for each stream.
func unbalanced(op string, grouped bool) error {
	ids := "an ID or '$'"
	if grouped {
		ids = "an ID or '>'"
	}
	return fault.New(fault.InvalidArgument, op, "Unbalanced '%s' list of streams: for each stream key %s must be specified.", strings.ToLower(op), ids)
}

// parseTimeout reads a timeout in milliseconds.
func parseTimeout(op string, b []byte, now int64) (ms int64, err error) {
	n, ok := parseInt(b)
	switch {
	case !ok:
		return 0, fault.About(fault.InvalidArgument, op, "timeout", "timeout is not an integer or out of range")
	case n < 0:
		return 0, fault.About(fault.OutOfRange, op, "timeout", "timeout is negative")
	case n > math.MaxInt64-now:
		return 0, fault.About(fault.OutOfRange, op, "timeout", "timeout is out of range")
	}
	return n, nil
}

// part is a part of a stream to be read.
type part struct {
	key    []byte
	stream *streamValue
	streamSpan
}

func xread(c *call) error {
	o, err := parseXread(c.cmd.Name, c.args, c.now)
	if err != nil {
		return err
	}
	atMost := int(o.count)
	if atMost == 0 {
		atMost = math.MaxInt
	}
	var found []part
	afters := make([]streamID, len(o.keys))
	for i, key := range o.keys {
		s, _, err := wanted[*streamValue](c, key)
		if err != nil {
			return err
		}
		c.count(s != nil)
		after, err := parseAfter(o.ids[i], s)
		if err != nil {
			return err
		}
		afters[i] = after
		if s != nil && s.n > 0 && s.top().above(after) {
			from, _ := after.next()
			found = append(found, part{key, s, streamSpan{from, maxID, atMost}})
		}
	}
	if len(found) == 0 && o.block > 0 && c.waits != nil {
		return c.park(Parked{Keys: o.keys, Kind: "stream", For: o.wait, Args: c.awaiting(afters)}, nil)
	}
	if len(found) == 0 {
		c.out.NullArray()
		return nil
	}
	w := &entryWriter{call: c, out: c.out}
	c.out.Keyed(len(found))
	for _, p := range found {
		c.out.Bulk(p.key)
		w.entries(p.stream, p.streamSpan)
	}
	return nil
}

// awaiting is a call of XREAD that goes on from where the streams are now: $ would be another id later.
func (c *call) awaiting(afters []streamID) [][]byte {
	args := slices.Clone(c.args)
	for i, id := range afters {
		args[len(args)-len(afters)+i] = []byte(id.String())
	}
	return args
}

// parseAfter reads the id behind which XREAD reads: $ is the last one of the stream, + the one before its last entry.
func parseAfter(b []byte, s *streamValue) (after streamID, err error) {
	switch string(b) {
	case "$":
		if s != nil {
			after = s.last
		}
	case "+":
		if s != nil && s.n > 0 {
			after, _ = s.top().prev()
		}
	case ">":
		return after, fault.About(fault.InvalidArgument, "XREAD", "id", "The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.")
	default:
		return parseID(b, 0)
	}
	return after, nil
}

func xdel(c *call) error {
	s, it, err := lookup[*streamValue](c, c.args[1])
	if err != nil {
		return err
	}
	if s == nil {
		c.out.Int(0)
		return nil
	}
	ids, err := parseIDs(c.args[2:])
	if err != nil {
		return err
	}
	var n int64
	for _, id := range ids {
		if s.remove(c.p.journal, id) {
			n++
		}
	}
	if n > 0 {
		c.changed(it)
	}
	c.out.Int(n)
	return nil
}

func xtrim(c *call) error {
	var o xaddOptions
	if _, err := o.parseTrimming(c.cmd.Name, c.args, false); err != nil {
		return err
	}
	s, it, err := lookup[*streamValue](c, c.args[1])
	if err != nil {
		return err
	}
	if s == nil {
		c.out.Int(0)
		return nil
	}
	n := s.trim(c.p.journal, &o.trimming)
	if n > 0 {
		c.changed(it)
	}
	c.out.Int(n)
	return nil
}

func xsetid(c *call) error {
	last, err := parseID(c.args[2], 0)
	if err != nil {
		return err
	}
	deleted, added := noID, int64(-1)
	for rest := c.args[3:]; len(rest) > 0; rest = rest[2:] {
		switch a := rest[0]; {
		case len(rest) > 1 && is(a, "ENTRIESADDED"):
			var ok bool
			if added, ok = parseInt(rest[1]); !ok {
				return errNotInteger
			}
			if added < 0 {
				return fault.About(fault.OutOfRange, c.cmd.Name, "ENTRIESADDED", "entries_added must be positive")
			}
		case len(rest) > 1 && is(a, "MAXDELETEDID"):
			if deleted, err = parseID(rest[1], 0); err != nil {
				return err
			}
			if deleted.above(last) {
				return fault.About(fault.OutOfRange, c.cmd.Name, "MAXDELETEDID", "The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
			}
		default:
			return errSyntax
		}
	}
	s, it, err := lookup[*streamValue](c, c.args[1])
	switch {
	case err != nil:
		return err
	case s == nil:
		return errNoSuchKey
	case s.deleted.above(last):
		return fault.About(fault.OutOfRange, c.cmd.Name, "id", "The ID specified in XSETID is smaller than current max_deleted_entry_id")
	case s.n > 0 && s.top().above(last):
		return fault.About(fault.OutOfRange, c.cmd.Name, "id", "The ID specified in XSETID is smaller than the target stream top item")
	case s.n > 0 && added >= 0 && int64(s.n) > added:
		return fault.About(fault.OutOfRange, c.cmd.Name, "ENTRIESADDED", "The entries_added specified in XSETID is smaller than the target stream length")
	}
	s.setMarks(c.p.journal, last, deleted, added)
	c.changed(it)
	c.out.Status("OK")
	return nil
}
