package engine

import (
	"errors"
	"math"

	"github.com/larder-cache/larder/engine/rdb"
	"github.com/larder-cache/larder/internal/fault"
)

// DUMP and RESTORE carry a value from one server to another, in Redis's own format: see package rdb. What only Larder keeps
// beside a value, the content type of a string or its version, does not come along; what is no Redis type at all is refused.

// Bounds of a value that is dumped or restored. A few bytes of a compressed payload can name very many elements.
const (
	maxDump            = HardMaxValue // bytes in a payload, and in what it names
	maxRestored        = 16 << 20     // elements
	maxRestoredElement = 24           // bytes that an element costs, in the guess at what a payload needs
)

var dumpCommands = []Command{
	{Name: "DUMP", Arity: 2, Keys: oneKey, Group: GroupKey, Action: "cache:Get", run: dump,
		Usage: "key", Summary: "Returns a value as RESTORE takes it, here and in Redis", Complexity: "O(N) for a collection of N elements", Since: "2.6.0"},
	{Name: "RESTORE", Arity: -4, Keys: oneKey, Flags: Writes | Grows | Dangerous, Group: GroupKey, Action: "cache:Set", Facts: restoreFacts, run: restore,
		Usage:   "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds | FREQ frequency]",
		Summary: "Stores a value that DUMP returned, here or in Redis", Complexity: "O(N) for a collection of N elements, O(N log N) for a sorted set", Since: "2.6.0"},
}

func dump(c *call) error {
	it := c.get(c.args[1])
	c.count(it != nil)
	if it == nil {
		c.out.Null()
		return nil
	}
	if size := it.home.costOf(it.ref); size > 4*maxDump { // in which there is no more than a quarter of overhead
		return errDumpSize(c)
	}
	d := dumper{now: c.now}
	if !d.value(it.value) {
		return fault.New(fault.NotSupported, c.cmd.Name, "the key holds a %s with what Redis does not know, so it cannot be dumped", it.value.kind())
	}
	if len(d.b) > maxDump {
		return errDumpSize(c)
	}
	c.out.Bulk(rdb.AppendTrailer(d.b))
	return nil
}

func errDumpSize(c *call) error {
	return fault.New(fault.TooLarge, c.cmd.Name, "a dump has at most %d bytes", int64(maxDump))
}

// A dumper writes a value.
type dumper struct {
	now   int64
	plain bool // without deadlines of fields, which older servers do not know
	b     []byte
}

func (d *dumper) text(b []byte)    { d.b = rdb.AppendText(d.b, b) }
func (d *dumper) number(n int)     { d.b = rdb.AppendLength(d.b, uint64(n)) }
func (d *dumper) begin(t rdb.Type) { d.b = append(d.b, byte(t)) }

// value reports false for what Redis has no type for.
func (d *dumper) value(v value) bool {
	switch v := v.(type) {
	case *stringValue:
		d.begin(rdb.TypeString)
		d.text(v.data)
	case *listValue:
		d.begin(rdb.TypeList)
		d.number(v.len())
		for cur := v.seek(0); cur.ok(); cur.after() {
			element, _ := cur.element()
			d.text(element)
		}
	case *setValue:
		d.begin(rdb.TypeSet)
		d.number(v.len())
		v.each(new(setMember), func(m *setMember) bool {
			d.text(m.bytes())
			return true
		})
	case *sortedSet:
		if v.board.configured {
			return false
		}
		d.begin(rdb.TypeZSet)
		d.number(v.len())
		for c := v.seek(0); c.valid(); c.next() {
			e := c.entry()
			d.text(e.member)
			d.b = rdb.AppendDouble(d.b, e.score)
		}
	case *hashValue:
		d.hash(v)
	case *streamValue:
		d.stream(v)
	default:
		return false
	}
	return true
}

func (d *dumper) hash(h *hashValue) {
	first := int64(math.MaxInt64) // the earliest deadline, from which others count
	h.each(d.now, func(f hashField) bool {
		if f.at != 0 {
			first = min(first, f.at)
		}
		return true
	})
	timed := first != math.MaxInt64 && !d.plain
	if timed {
		d.begin(rdb.TypeHashDeadlines)
		d.b = rdb.AppendMillis(d.b, first)
	} else {
		d.begin(rdb.TypeHash)
	}
	d.number(h.live(d.now))
	var buf []byte
	h.each(d.now, func(f hashField) bool {
		switch {
		case timed && f.at != 0:
			d.number(int(f.at - first + 1))
		case timed:
			d.number(0)
		}
		for _, e := range [2]element{f.field, f.value} {
			buf = e.append(buf[:0])
			d.text(buf)
		}
		return true
	})
}

func rdbID(id streamID) rdb.StreamID { return rdb.StreamID{Ms: id.ms, Seq: id.seq} }

func (d *dumper) stream(s *streamValue) {
	d.begin(rdb.TypeStream2)
	d.number(s.blocks.n)
	var block rdb.StreamBlock
	for at := s.blocks.first(); s.blocks.valid(at); at = s.blocks.next(at) {
		s.blocks.at(at).dump(&block)
		d.b = block.AppendTo(d.b)
	}
	d.number(s.n)
	for _, id := range [3]streamID{s.last, s.first(), s.deleted} {
		d.b = rdb.AppendID(d.b, rdbID(id))
	}
	d.b = rdb.AppendLength(d.b, s.added)
	d.number(len(s.groups))
	for _, g := range s.groups {
		d.group(g)
	}
}

func (b *streamBlock) dump(to *rdb.StreamBlock) {
	var texts [][]byte
	n, rest := cutUvarint(b.buf)
	for range n {
		var name []byte
		name, rest = cutText(rest)
		texts = append(texts, name)
	}
	to.Begin(rdbID(b.first()), int(b.n), texts)
	for pos := b.from; b.more(pos); {
		e := b.read(pos)
		n := e.fields
		if e.own {
			n *= 2
		}
		texts = texts[:0]
		for range n {
			var t []byte
			t, e.rest = cutText(e.rest)
			texts = append(texts, t)
		}
		to.Entry(rdbID(e.id), e.own, texts)
		pos = e.end
	}
}

func (d *dumper) group(g *streamGroup) {
	d.text([]byte(g.name))
	d.b = rdb.AppendID(d.b, rdbID(g.last))
	d.b = rdb.AppendLength(d.b, uint64(g.read)) // unknown as in Redis: all bits set
	d.number(g.pending.n)
	for at := g.pending.first(); g.pending.valid(at); at = g.pending.next(at) {
		p := g.pending.at(at)
		d.b = rdb.AppendMillis(rdb.AppendRawID(d.b, rdbID(p.id)), p.at)
		d.b = rdb.AppendLength(d.b, uint64(p.times))
	}
	d.number(len(g.consumers))
	for _, o := range g.consumers {
		d.text([]byte(o.name))
		d.b = rdb.AppendMillis(d.b, o.seen)
		d.number(o.pending.n)
		for at := o.pending.first(); o.pending.valid(at); at = o.pending.next(at) {
			d.b = rdb.AppendRawID(d.b, rdbID(*o.pending.at(at)))
		}
	}
}

// restoreOptions are what stands after the payload.
type restoreOptions struct {
	replace, absolute bool
	idle, freq        int64 // -1 when not given; whoever evicts learns by itself how the key is used
}

func parseRestore(op string, args [][]byte) (o restoreOptions, err error) {
	o.idle, o.freq = -1, -1
	for ; len(args) > 0; args = args[1:] {
		a, more := args[0], len(args) > 1
		switch {
		case is(a, "REPLACE"):
			o.replace = true
		case is(a, "ABSTTL"):
			o.absolute = true
		case is(a, "IDLETIME") && more && o.freq == -1:
			n, ok := parseInt(args[1])
			if !ok {
				return o, errNotInteger
			}
			if n < 0 {
				return o, fault.About(fault.OutOfRange, op, "IDLETIME", "Invalid IDLETIME value, must be >= 0")
			}
			o.idle, args = n, args[1:]
		case is(a, "FREQ") && more && o.idle == -1:
			n, ok := parseInt(args[1])
			if !ok {
				return o, errNotInteger
			}
			if n < 0 || n > 255 {
				return o, fault.About(fault.OutOfRange, op, "FREQ", "Invalid FREQ value, must be >= 0 and <= 255")
			}
			o.freq, args = n, args[1:]
		default:
			return o, errSyntax
		}
	}
	return o, nil
}

func restoreFacts(args [][]byte, now int64) Facts {
	f := valueAt(3)(args, now)
	o, err := parseRestore("", args[4:])
	if n, ok := parseInt(args[2]); ok && err == nil && n > 0 {
		f.TTL = ttlFact(n, false, o.absolute, now)
	}
	return f
}

var errBusyKey = &fault.Error{Kind: fault.Conflict, Op: "RESTORE", Prefix: "BUSYKEY", Message: "Target key name already exists."}

func restore(c *call) error {
	key := c.args[1]
	o, err := parseRestore(c.cmd.Name, c.args[4:])
	if err != nil {
		return err
	}
	if !o.replace && c.peek(key) != nil {
		return errBusyKey
	}
	at, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	if at < 0 || (!o.absolute && at > math.MaxInt64-c.now) {
		return fault.About(fault.OutOfRange, c.cmd.Name, "ttl", "Invalid TTL value, must be >= 0")
	}
	if at > 0 && !o.absolute {
		at += c.now
	}
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	payload, version, err := rdb.OpenDump(c.args[3])
	if err != nil {
		return fault.Wrap(fault.InvalidArgument, c.cmd.Name, err, "DUMP payload version or checksum are wrong")
	}
	if err := c.checkPayload(payload, version); err != nil {
		return err
	}
	c.remove(key)
	if at == 0 || at > c.now {
		c.build(key, payload, version, at)
	}
	c.out.Status("OK")
	return nil
}

// readPayload reads a payload into sink, within the bounds of the cache.
func (c *call) readPayload(payload []byte, version int, sink rdb.Sink) error {
	d := rdb.NewDecoder(payload, version, rdb.Limits{Text: c.cache.maxValue(), Total: maxDump, Elements: maxRestored})
	t, err := d.Type()
	if err != nil {
		return err
	}
	if err := d.Value(t, sink); err != nil {
		return err
	}
	if len(d.Rest()) > 0 {
		return rdb.ErrFormat
	}
	return nil
}

// checkPayload refuses what cannot be restored: a payload is read twice, so that building a value never fails.
func (c *call) checkPayload(payload []byte, version int) error {
	check := &payloadCheck{kind: rdb.Type(payload[0]).Kind()}
	err := c.readPayload(payload, version, check)
	if err == nil && len(check.pending) > 0 {
		err = rdb.ErrFormat
	}
	switch {
	case errors.Is(err, rdb.ErrTooLarge):
		return fault.Wrap(fault.TooLarge, c.cmd.Name, err, "the payload holds more than %d bytes, %d elements or %d bytes in one value", int64(maxDump), maxRestored, c.cache.maxValue())
	case fault.Is(err, fault.TooLarge):
		return err
	case err != nil:
		return fault.Wrap(fault.InvalidArgument, c.cmd.Name, err, "Bad data format")
	}
	if limit := c.cache.settings.MemoryLimit; limit > 0 && check.bytes > limit {
		return fault.About(fault.OutOfMemory, c.cmd.Name, "memory_limit_bytes", "command not allowed when used memory > 'maxmemory'.")
	}
	return nil
}

// A payloadCheck is told what a payload holds, and refuses what the engine could not keep.
type payloadCheck struct {
	kind    rdb.Kind
	bytes   int64                 // at least, of what it will take
	groups  map[string]bool       // of a stream
	readers map[string]bool       // consumers of the last group
	pending map[rdb.StreamID]bool // in it, and not yet to anybody
}

func (p *payloadCheck) add(texts ...[]byte) error {
	p.bytes += maxRestoredElement
	for _, t := range texts {
		p.bytes += int64(len(t))
	}
	return nil
}

// named is add for what has a name, which is as long as a key at most.
func (p *payloadCheck) named(name []byte, more ...[]byte) error {
	if len(name) > MaxKey {
		return fault.About(fault.TooLarge, "RESTORE", "serialized-value", "max member size exceeded. Limit: %d bytes, Actual: %d bytes", MaxKey, len(name))
	}
	p.bytes += int64(len(name))
	return p.add(more...)
}

func (p *payloadCheck) String(text []byte) error { return p.add(text) }

func (p *payloadCheck) Element(text []byte) error {
	if p.kind == rdb.Set {
		return p.named(text)
	}
	return p.add(text)
}

func (p *payloadCheck) Member(name []byte, _ float64) error { return p.add(name) }

func (p *payloadCheck) Field(name, value []byte, deadline int64) error {
	if deadline > maxFieldDeadline {
		return rdb.ErrFormat
	}
	return p.named(name, value)
}

func (p *payloadCheck) Entry(_ rdb.StreamID, fields [][]byte) error { return p.add(fields...) }

func (p *payloadCheck) Stream(m rdb.StreamMarks) error {
	if m.Last.Less(m.Deleted) {
		return rdb.ErrFormat
	}
	return nil
}

func (p *payloadCheck) Group(name []byte, _ rdb.StreamID, _ int64) error {
	if p.groups == nil {
		p.groups = map[string]bool{}
	}
	if p.groups[string(name)] || len(p.pending) > 0 {
		return rdb.ErrFormat
	}
	p.groups[string(name)], p.readers, p.pending = true, map[string]bool{}, map[rdb.StreamID]bool{}
	return p.add(name)
}

func (p *payloadCheck) Pending(id rdb.StreamID, at int64, times uint64) error {
	if at < 0 || times > math.MaxInt64 {
		return rdb.ErrFormat
	}
	p.pending[id] = true
	return p.add()
}

func (p *payloadCheck) Consumer(name []byte, seen, active int64) error {
	if p.readers[string(name)] || seen < 0 || active < neverActive {
		return rdb.ErrFormat
	}
	p.readers[string(name)] = true
	return p.add(name)
}

// Owed: what is pending is one consumer's.
func (p *payloadCheck) Owed(id rdb.StreamID) error {
	if !p.pending[id] {
		return rdb.ErrFormat
	}
	delete(p.pending, id)
	return nil
}

// build makes the value of a payload that was checked under a key where nothing is.
func (c *call) build(key, payload []byte, version int, at int64) {
	var sink interface {
		rdb.Sink
		finish(key []byte)
	}
	switch rdb.Type(payload[0]).Kind() {
	case rdb.String:
		sink = &stringBuilder{builder: builder{call: c}}
	case rdb.List:
		sink = &elementBuilder{builder: builder{call: c}}
	case rdb.Set:
		sink = &setBuilder{builder: builder{call: c}, edit: c.editSet(nil, nil)}
	case rdb.SortedSet:
		sink = &rankBuilder{builder: builder{call: c}, edit: c.rerank(nil, nil, key)}
	case rdb.Hash:
		sink = &hashBuilder{builder: builder{call: c}, edit: c.edit(nil, nil, key)}
	case rdb.Stream:
		sink = &streamBuilder{builder: builder{call: c}, s: &streamValue{}}
	}
	if err := c.readPayload(payload, version, sink); err != nil {
		panic("engine: a payload that was checked cannot be read: " + err.Error())
	}
	sink.finish(key)
	if it := c.keys().find(key); it != nil { // a hash may have had no field that is left
		it.home.setDeadline(it, at)
	}
}

// A builder is told of one kind of value, and never of another: those that build one say which.
type builder struct{ *call }

func (builder) String([]byte) error                       { panic("engine: no string is built") }
func (builder) Element([]byte) error                      { panic("engine: no list or set is built") }
func (builder) Member([]byte, float64) error              { panic("engine: no sorted set is built") }
func (builder) Field(_, _ []byte, _ int64) error          { panic("engine: no hash is built") }
func (builder) Entry(rdb.StreamID, [][]byte) error        { panic("engine: no stream is built") }
func (builder) Stream(rdb.StreamMarks) error              { panic("engine: no stream is built") }
func (builder) Group([]byte, rdb.StreamID, int64) error   { panic("engine: no stream is built") }
func (builder) Pending(rdb.StreamID, int64, uint64) error { panic("engine: no stream is built") }
func (builder) Consumer([]byte, int64, int64) error       { panic("engine: no stream is built") }
func (builder) Owed(rdb.StreamID) error                   { panic("engine: no stream is built") }

type stringBuilder struct {
	builder
	text []byte
}

func (b *stringBuilder) String(text []byte) error {
	b.text = text
	return nil
}

func (b *stringBuilder) finish(key []byte) { b.write(key, b.text, 0) }

type elementBuilder struct {
	builder
	list listBuilder
}

func (b *elementBuilder) Element(text []byte) error {
	b.list.add(b.call, text)
	return nil
}

func (b *elementBuilder) finish(key []byte) { b.put(key, b.list.value(), 0) }

type setBuilder struct {
	builder
	edit *setEdit
}

func (b *setBuilder) Element(text []byte) error {
	m := &b.p.member
	m.setText(text)
	b.edit.add(m)
	return nil
}

func (b *setBuilder) finish(key []byte) { b.edit.done(key) }

type rankBuilder struct {
	builder
	edit *rankEdit
}

func (b *rankBuilder) Member(name []byte, score float64) error {
	b.edit.put(name, score)
	return nil
}

func (b *rankBuilder) finish([]byte) { b.edit.done(0) }

type hashBuilder struct {
	builder
	edit *hashEdit
}

func (b *hashBuilder) Field(name, value []byte, deadline int64) error {
	if b.edit.passed(deadline) {
		b.edit.remove(name)
	} else {
		b.edit.set(name, value, deadline)
	}
	return nil
}

func (b *hashBuilder) finish([]byte) { b.edit.done() }

type streamBuilder struct {
	builder
	s        *streamValue
	counted  bool // the payload tells what was ever added and read
	group    *streamGroup
	consumer *streamConsumer
	pending  map[streamID]delivery
}

func (b *streamBuilder) Entry(id rdb.StreamID, fields [][]byte) error {
	b.s.add(nil, streamID{id.Ms, id.Seq}, fields)
	return nil
}

func (b *streamBuilder) Stream(m rdb.StreamMarks) error {
	added := int64(b.s.n)
	if b.counted = m.Counted; m.Counted {
		added = int64(m.Added)
	}
	b.s.setMarks(nil, streamID{m.Last.Ms, m.Last.Seq}, streamID{m.Deleted.Ms, m.Deleted.Seq}, added)
	return nil
}

func (b *streamBuilder) Group(name []byte, last rdb.StreamID, read int64) error {
	b.group = &streamGroup{name: string(name), last: streamID{last.Ms, last.Seq}, read: read}
	if !b.counted { // before Redis 7 nothing was counted
		b.group.read = b.s.position(b.group.last)
	}
	b.s.addGroup(nil, b.group)
	b.pending = map[streamID]delivery{}
	return nil
}

func (b *streamBuilder) Pending(id rdb.StreamID, at int64, times uint64) error {
	own := streamID{id.Ms, id.Seq}
	b.pending[own] = delivery{id: own, at: at, times: int64(times)}
	return nil
}

func (b *streamBuilder) Consumer(name []byte, seen, active int64) error {
	b.consumer = b.s.see(nil, b.group, name, seen)
	b.consumer.active = active
	return nil
}

func (b *streamBuilder) Owed(id rdb.StreamID) error {
	d := b.pending[streamID{id.Ms, id.Seq}]
	d.consumer = b.consumer.number
	b.s.deliver(nil, b.group, d)
	return nil
}

func (b *streamBuilder) finish(key []byte) { b.put(key, b.s, 0) }
