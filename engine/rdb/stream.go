package rdb

import "encoding/binary"

// What a stream's entry may be, as its first number in a listpack tells.
const (
	entryDeleted = 1
	entrySame    = 2 // it has the names of the master entry
)

// maxStreamFields bounds the fields of one entry, for which a slice is made.
const maxStreamFields = 1 << 20

func (d *Decoder) id() (id StreamID, err error) {
	if id.Ms, err = d.Length(); err == nil {
		id.Seq, err = d.Length()
	}
	return id, err
}

func (d *Decoder) rawID() (StreamID, error) {
	b, err := d.take(16)
	if err != nil {
		return StreamID{}, err
	}
	return StreamID{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}, nil
}

// A streamReader reads the entries of a stream.
type streamReader struct {
	*Decoder
	sink Sink
	last StreamID // the last entry
	n    uint64
}

func (d *Decoder) stream(t Type, sink Sink) error {
	blocks, err := d.Length()
	if err != nil {
		return err
	}
	r := streamReader{Decoder: d, sink: sink}
	for ; blocks > 0; blocks-- {
		key, err := d.Text()
		if err != nil {
			return err
		}
		if len(key) != 16 {
			return bad("an id of %d bytes", len(key))
		}
		text, err := d.Text()
		if err != nil {
			return err
		}
		if d.lost {
			continue
		}
		if err := r.block(StreamID{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}, text); err != nil {
			return err
		}
	}
	n, err := d.Length()
	if err != nil {
		return err
	}
	var marks StreamMarks
	if marks.Last, err = d.id(); err != nil {
		return err
	}
	if !d.lost && n != r.n || marks.Last.Less(r.last) {
		return bad("%d entries up to %v in a stream of %d up to %v", r.n, r.last, n, marks.Last)
	}
	if marks.Counted = t != TypeStream; marks.Counted {
		if _, err = d.id(); err != nil { // the first entry, which is known
			return err
		}
		if marks.Deleted, err = d.id(); err != nil {
			return err
		}
		if marks.Added, err = d.Length(); err != nil {
			return err
		}
		if marks.Added < n || marks.Added > 1<<63-1 {
			return bad("%d entries in a stream to which %d were added", n, marks.Added)
		}
	}
	if err := sink.Stream(marks); err != nil {
		return err
	}
	groups, err := d.Length()
	if err != nil {
		return err
	}
	for ; groups > 0; groups-- {
		if err := d.group(t, sink); err != nil {
			return err
		}
	}
	return nil
}

// block reads a listpack of entries: first the master entry, whose names most of them share.
func (r *streamReader) block(base StreamID, text []byte) error {
	p := &pack{}
	if err := p.open(text); err != nil {
		return err
	}
	live, err := p.number()
	if err != nil {
		return err
	}
	deleted, err := p.number()
	if err != nil {
		return err
	}
	n, err := p.number()
	if err != nil {
		return err
	}
	names, err := r.entries(p, n, 1)
	if err != nil {
		return err
	}
	if end, err := p.number(); err != nil || end != 0 {
		return bad("a master entry ends with %d", end)
	}
	if live <= 0 || deleted < 0 || live > int64(len(text)) || deleted > int64(len(text)) {
		return bad("a block of %d entries, %d deleted", live, deleted)
	}
	for range live + deleted {
		if err := r.entry(p, base, names, &live); err != nil {
			return err
		}
	}
	if live != 0 || p.at != len(p.b) {
		return bad("a block has not the entries that it announces")
	}
	return nil
}

// number reads an entry of a pack that has to be an integer.
func (p *pack) number() (int64, error) {
	e, ok, err := p.next()
	if err != nil {
		return 0, err
	}
	n, is := e.integer()
	if !ok || !is {
		return 0, bad("a stream's block is cut off")
	}
	return n, nil
}

// entries reads n texts, each into one of every step places.
func (r *streamReader) entries(p *pack, n int64, step int) ([][]byte, error) {
	if n <= 0 || n > maxStreamFields || n > int64(len(p.b)-p.at) {
		return nil, bad("an entry of %d fields", n)
	}
	fields := make([][]byte, n*int64(step))
	for i := 0; i < len(fields); i += step {
		e, ok, err := p.next()
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, bad("a stream's entry is cut off")
		}
		fields[i] = e.bytes()
	}
	return fields, nil
}

func (r *streamReader) entry(p *pack, base StreamID, names [][]byte, live *int64) error {
	flags, err := p.number()
	if err != nil {
		return err
	}
	ms, err := p.number()
	if err != nil {
		return err
	}
	seq, err := p.number()
	if err != nil {
		return err
	}
	id := StreamID{base.Ms + uint64(ms), base.Seq + uint64(seq)}
	var fields [][]byte
	count := int64(3)
	if flags&entrySame != 0 {
		values, err := r.entries(p, int64(len(names)), 1)
		if err != nil {
			return err
		}
		for i, name := range names {
			fields = append(fields, name, values[i])
		}
		count += int64(len(values))
	} else {
		n, err := p.number()
		if err != nil {
			return err
		}
		if n < 0 || n > maxStreamFields {
			return bad("an entry of %d fields", n)
		}
		if fields, err = r.entries(p, 2*n, 1); err != nil {
			return err
		}
		count += 1 + 2*n
	}
	if back, err := p.number(); err != nil || back != count {
		return bad("an entry of %d numbers and texts ends with %d", count, back)
	}
	if err := r.spend(16*int64(len(fields)), 1); err != nil {
		return err
	}
	if flags&entryDeleted != 0 {
		return nil
	}
	if *live--; *live < 0 || !r.last.Less(id) {
		return bad("entry %v stands behind %v", id, r.last)
	}
	r.last = id
	r.n++
	return r.sink.Entry(id, fields)
}

func (d *Decoder) group(t Type, sink Sink) error {
	name, err := d.Text()
	if err != nil {
		return err
	}
	last, err := d.id()
	if err != nil {
		return err
	}
	read := uint64(1<<64 - 1) // unknown
	if t != TypeStream {
		if read, err = d.Length(); err != nil {
			return err
		}
	}
	if int64(read) < -1 {
		return bad("a group has read %d entries", int64(read))
	}
	if err := d.spend(0, 1); err != nil {
		return err
	}
	if err := sink.Group(name, last, int64(read)); err != nil {
		return err
	}
	err = d.ids(func(id StreamID) error {
		at, err := d.millis()
		if err != nil {
			return err
		}
		times, err := d.Length()
		if err != nil {
			return err
		}
		return sink.Pending(id, at, times)
	})
	if err != nil {
		return err
	}
	consumers, err := d.Length()
	if err != nil {
		return err
	}
	for ; consumers > 0; consumers-- {
		if err := d.consumer(t, sink); err != nil {
			return err
		}
	}
	return nil
}

func (d *Decoder) consumer(t Type, sink Sink) error {
	name, err := d.Text()
	if err != nil {
		return err
	}
	seen, err := d.millis()
	if err != nil {
		return err
	}
	active := seen // as Redis takes it where it is not said
	if t == TypeStream3 {
		if active, err = d.millis(); err != nil {
			return err
		}
	}
	if err := d.spend(0, 1); err != nil {
		return err
	}
	if err := sink.Consumer(name, seen, active); err != nil {
		return err
	}
	return d.ids(sink.Owed)
}

// ids reads how many ids follow, and they, which ascend.
func (d *Decoder) ids(visit func(StreamID) error) error {
	n, err := d.Length()
	if err != nil {
		return err
	}
	var last StreamID
	for i := uint64(0); i < n; i++ {
		id, err := d.rawID()
		if err != nil {
			return err
		}
		if i > 0 && !last.Less(id) {
			return bad("pending entry %v stands behind %v", id, last)
		}
		last = id
		if err := d.spend(16, 1); err != nil {
			return err
		}
		if err := visit(id); err != nil {
			return err
		}
	}
	return nil
}
