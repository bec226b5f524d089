package transfer

import (
	"math"
	"strconv"

	"github.com/larder-cache/larder/engine/rdb"
)

// Bounds of what is held of a value, and sent at once.
const (
	pieceBytes    = 256 << 10
	pieceElements = 4096
)

// pieces makes commands of a value as it is told. A value that is small becomes one RESTORE. Of a larger one what has come so
// far is restored as soon as there is enough of it, and what follows is added piece by piece; its deadline comes last, so that
// it cannot run out in between. It implements rdb.Sink.
type pieces struct {
	key      []byte
	expireAt int64
	replace  bool
	kind     rdb.Kind
	send     func(first, last bool, commands ...Command) error

	begun     bool // something is stored
	size      int
	texts     [][]byte // elements, or names and values in turn, or names of members
	scores    []float64
	deadlines []int64
	timed     bool // a deadline is not 0

	entries []streamEntry
	count   int64 // of all entries so far
	first   rdb.StreamID
	last    rdb.StreamID
	marks   rdb.StreamMarks
	groups  groupList

	// Of the last group, where it is sent as commands:
	group    []byte
	pending  map[rdb.StreamID]delivery
	consumer []byte
}

type delivery struct {
	at    int64
	times uint64
}

// String implements rdb.Sink.
func (p *pieces) String(text []byte) error {
	p.texts = append(p.texts, text)
	return nil
}

// Element implements rdb.Sink.
func (p *pieces) Element(text []byte) error {
	p.texts = append(p.texts, text)
	return p.grown(len(text))
}

// Member implements rdb.Sink.
func (p *pieces) Member(name []byte, score float64) error {
	p.texts, p.scores = append(p.texts, name), append(p.scores, score)
	return p.grown(len(name) + 8)
}

// Field implements rdb.Sink.
func (p *pieces) Field(name, value []byte, deadline int64) error {
	p.texts, p.deadlines = append(p.texts, name, value), append(p.deadlines, deadline)
	p.timed = p.timed || deadline != 0
	return p.grown(len(name) + len(value))
}

// Entry implements rdb.Sink.
func (p *pieces) Entry(id rdb.StreamID, fields [][]byte) error {
	if p.count == 0 {
		p.first = id
	}
	p.count++
	p.last = id
	p.entries = append(p.entries, streamEntry{id, fields})
	n := 0
	for _, f := range fields {
		n += len(f) + 8
	}
	return p.grown(n)
}

// grown sends what has come when it is enough.
func (p *pieces) grown(by int) error {
	p.size += by + 16
	if p.size < pieceBytes && len(p.texts) < pieceElements && len(p.entries) < pieceElements {
		return nil
	}
	return p.flush()
}

func (p *pieces) flush() error {
	var err error
	if p.begun {
		err = p.send(false, false, p.added()...)
	} else {
		if p.kind == rdb.Stream {
			p.marks = rdb.StreamMarks{Last: p.last, Added: uint64(p.count), Counted: true}
		}
		err = p.send(true, false, p.restore(0))
	}
	p.begun = true
	p.texts, p.scores, p.deadlines, p.entries, p.size, p.timed = nil, nil, nil, nil, 0, false
	return err
}

// finish sends the rest, when all has been told.
func (p *pieces) finish() error {
	if !p.begun {
		return p.send(true, true, p.restore(p.expireAt))
	}
	var rest []Command
	if len(p.texts) > 0 || len(p.entries) > 0 {
		rest = p.added()
	}
	if p.expireAt != 0 {
		rest = append(rest, command("PEXPIREAT", string(p.key), strconv.FormatInt(p.expireAt, 10)))
	}
	return p.send(false, true, rest...)
}

// restore is the command that stores what has come.
func (p *pieces) restore(at int64) Command {
	c := Command{[]byte("RESTORE"), p.key, strconv.AppendInt(nil, at, 10), rdb.AppendTrailer(p.payload()), []byte("ABSTTL")}
	if p.replace {
		c = append(c, []byte("REPLACE"))
	}
	return c
}

func (p *pieces) payload() []byte {
	b := make([]byte, 0, p.size+64)
	switch p.kind {
	case rdb.String:
		return rdb.AppendText(append(b, byte(rdb.TypeString)), p.texts[0])
	case rdb.List, rdb.Set:
		t := rdb.TypeList
		if p.kind == rdb.Set {
			t = rdb.TypeSet
		}
		b = rdb.AppendLength(append(b, byte(t)), uint64(len(p.texts)))
		for _, text := range p.texts {
			b = rdb.AppendText(b, text)
		}
		return b
	case rdb.SortedSet:
		b = rdb.AppendLength(append(b, byte(rdb.TypeZSet)), uint64(len(p.texts)))
		for i, name := range p.texts {
			b = rdb.AppendDouble(rdb.AppendText(b, name), p.scores[i])
		}
		return b
	case rdb.Hash:
		return p.hash(b)
	}
	return p.stream(b)
}

func (p *pieces) hash(b []byte) []byte {
	first := int64(math.MaxInt64)
	for _, at := range p.deadlines {
		if at != 0 {
			first = min(first, at)
		}
	}
	if p.timed {
		b = rdb.AppendMillis(append(b, byte(rdb.TypeHashDeadlines)), first)
	} else {
		b = append(b, byte(rdb.TypeHash))
	}
	b = rdb.AppendLength(b, uint64(len(p.deadlines)))
	for i, at := range p.deadlines {
		switch {
		case p.timed && at != 0:
			b = rdb.AppendLength(b, uint64(at-first+1))
		case p.timed:
			b = append(b, 0)
		}
		b = rdb.AppendText(rdb.AppendText(b, p.texts[2*i]), p.texts[2*i+1])
	}
	return b
}

// stream writes a stream as its entries are, in blocks.
func (p *pieces) stream(b []byte) []byte {
	var body []byte
	var block rdb.StreamBlock
	blocks := uint64(0)
	for rest := p.entries; len(rest) > 0; blocks++ {
		n := blockOf(rest)
		body = appendBlock(body, &block, rest[:n])
		rest = rest[n:]
	}
	t := rdb.TypeStream3
	if !p.marks.Counted { // before Redis 7, what was added and read was not counted
		t = rdb.TypeStream
	}
	b = append(rdb.AppendLength(append(b, byte(t)), blocks), body...)
	b = rdb.AppendID(rdb.AppendLength(b, uint64(len(p.entries))), p.marks.Last)
	if p.marks.Counted {
		b = rdb.AppendLength(rdb.AppendID(rdb.AppendID(b, p.first), p.marks.Deleted), p.marks.Added)
	}
	return p.groups.append(b)
}

// added are the commands that add what has come to what is stored.
func (p *pieces) added() []Command {
	switch p.kind {
	case rdb.List:
		return []Command{append(Command{[]byte("RPUSH"), p.key}, p.texts...)}
	case rdb.Set:
		return []Command{append(Command{[]byte("SADD"), p.key}, p.texts...)}
	case rdb.SortedSet:
		c := Command{[]byte("ZADD"), p.key}
		for i, name := range p.texts {
			c = append(c, strconv.AppendFloat(nil, p.scores[i], 'g', -1, 64), name)
		}
		return []Command{c}
	case rdb.Hash:
		return p.fields()
	}
	list := make([]Command, 0, len(p.entries))
	for _, e := range p.entries {
		list = append(list, append(Command{[]byte("XADD"), p.key, id(e.id)}, e.fields...))
	}
	return list
}

// fields sets fields, and then the deadlines of those that have one: fields with the same one at once.
func (p *pieces) fields() []Command {
	list := []Command{append(Command{[]byte("HSET"), p.key}, p.texts...)}
	at := map[int64]int{} // where in list
	for i, deadline := range p.deadlines {
		if deadline == 0 {
			continue
		}
		if at[deadline] == 0 {
			at[deadline] = len(list)
			list = append(list, Command{[]byte("HPEXPIREAT"), p.key, strconv.AppendInt(nil, deadline, 10), []byte("FIELDS"), nil})
		}
		list[at[deadline]] = append(list[at[deadline]], p.texts[2*i])
	}
	for _, c := range list[1:] {
		c[4] = strconv.AppendInt(nil, int64(len(c)-5), 10)
	}
	return list
}

func id(at rdb.StreamID) []byte {
	return strconv.AppendUint(append(strconv.AppendUint(nil, at.Ms, 10), '-'), at.Seq, 10)
}

// Stream implements rdb.Sink. A stream that is stored already gets its marks, and then its groups, by commands.
func (p *pieces) Stream(m rdb.StreamMarks) error {
	p.marks = m
	if !p.begun {
		return nil
	}
	if !m.Counted {
		m.Added = uint64(p.count)
	}
	if len(p.entries) > 0 {
		if err := p.flush(); err != nil {
			return err
		}
	}
	return p.send(false, false, Command{[]byte("XSETID"), p.key, id(m.Last), []byte("ENTRIESADDED"), strconv.AppendUint(nil, m.Added, 10), []byte("MAXDELETEDID"), id(m.Deleted)})
}

// Group implements rdb.Sink.
func (p *pieces) Group(name []byte, last rdb.StreamID, read int64) error {
	if !p.begun {
		p.groups.counted = p.marks.Counted
		p.groups.group(name, last, read)
		return nil
	}
	p.group, p.pending = name, map[rdb.StreamID]delivery{}
	c := Command{[]byte("XGROUP"), []byte("CREATE"), p.key, name, id(last)}
	if read >= 0 {
		c = append(c, []byte("ENTRIESREAD"), strconv.AppendInt(nil, read, 10))
	}
	return p.send(false, false, c)
}

// Pending implements rdb.Sink.
func (p *pieces) Pending(at rdb.StreamID, when int64, times uint64) error {
	if p.begun {
		p.pending[at] = delivery{when, times}
	} else {
		p.groups.pending(at, when, times)
	}
	return nil
}

// Consumer implements rdb.Sink.
func (p *pieces) Consumer(name []byte, seen, active int64) error {
	if !p.begun {
		p.groups.consumer(name, seen, active)
		return nil
	}
	p.consumer = name
	return p.send(false, false, Command{[]byte("XGROUP"), []byte("CREATECONSUMER"), p.key, p.group, name})
}

// Owed implements rdb.Sink.
func (p *pieces) Owed(at rdb.StreamID) error {
	if !p.begun {
		p.groups.owed(at)
		return nil
	}
	d := p.pending[at]
	return p.send(false, false, Command{[]byte("XCLAIM"), p.key, p.group, p.consumer, []byte("0"), id(at), []byte("TIME"), strconv.AppendInt(nil, d.at, 10),
		[]byte("RETRYCOUNT"), strconv.AppendUint(nil, d.times, 10), []byte("FORCE"), []byte("JUSTID")})
}
