package transfer

import (
	"bufio"
	"encoding/base64"
	"io"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/rdb"
)

// linesOut writes JSON lines: see lineReader.
type linesOut struct {
	w      *bufio.Writer
	report *Report
	n      int64
	b      []byte
	quoted bool // within a cell of CSV, where a quotation mark stands twice

	kind    rdb.Kind
	some    bool // an element has been written
	groups  int  // of a stream
	pending bool // the array of what is pending in the group is open
	owners  int  // consumers of the group
}

func newLinesOut(w io.Writer, r *Report) *linesOut {
	return &linesOut{w: bufio.NewWriterSize(w, 64<<10), report: r}
}

// put writes what has been put together.
func (o *linesOut) put() error {
	if o.quoted {
		for _, c := range o.b {
			if c == '"' {
				o.n++
				if err := o.w.WriteByte('"'); err != nil {
					return err
				}
			}
			if err := o.w.WriteByte(c); err != nil {
				return err
			}
		}
		o.n += int64(len(o.b))
		o.b = o.b[:0]
		return nil
	}
	n, err := o.w.Write(o.b)
	o.n += int64(n)
	o.b = o.b[:0]
	return err
}

func (o *linesOut) raw(s string) { o.b = append(o.b, s...) }

// comma separates elements.
func (o *linesOut) comma() {
	if o.some {
		o.b = append(o.b, ',')
	}
	o.some = true
}

func (o *linesOut) number(n int64) { o.b = strconv.AppendInt(o.b, n, 10) }

// text writes a text: a string where it reads well, else its bytes in base64.
func (o *linesOut) text(b []byte) { o.b = appendText(o.b, b) }

func appendText(dst, b []byte) []byte {
	if legible(b) {
		if quoted, err := jsontext.AppendQuote(dst, b); err == nil {
			return quoted
		}
	}
	dst = append(dst, `{"base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, b)
	return append(dst, `"}`...)
}

// legible reports whether a text is UTF-8 without control characters but tabs and ends of lines.
func legible(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return utf8.Valid(b)
}

func (o *linesOut) id(id rdb.StreamID) {
	o.b = append(o.b, '"')
	o.b = append(strconv.AppendUint(append(strconv.AppendUint(o.b, id.Ms, 10), '-'), id.Seq, 10), '"')
}

func (o *linesOut) score(f float64) {
	switch {
	case math.IsInf(f, 1):
		o.raw(`"inf"`)
	case math.IsInf(f, -1):
		o.raw(`"-inf"`)
	default:
		o.b = strconv.AppendFloat(o.b, f, 'g', -1, 64)
	}
}

func (o *linesOut) value(v *engine.CutValue) (string, error) {
	o.raw("{")
	if v.DB != 0 {
		o.raw(`"db":`)
		o.number(int64(v.DB))
		o.raw(",")
	}
	o.raw(`"key":`)
	o.text(v.Key)
	o.raw(`,"type":`)
	o.text([]byte(typeName(v)))
	if v.ExpireAt != 0 {
		o.raw(`,"expires_at":`)
		o.number(v.ExpireAt)
	}
	if v.ContentType != "" {
		o.raw(`,"content_type":`)
		o.text([]byte(v.ContentType))
	}
	if v.Flags != 0 {
		o.raw(`,"flags":`)
		o.number(int64(v.Flags))
	}
	if b := v.Board; b != nil {
		o.raw(`,"ties":"` + b.Ties + `"`)
		if b.Keep > 0 {
			o.raw(`,"keep":`)
			o.number(int64(b.Keep))
			o.raw(`,"keep_order":"` + b.KeepOrder + `"`)
		}
	}
	if s := v.Session; s != nil {
		if s.User != "" {
			o.raw(`,"user":`)
			o.text([]byte(s.User))
		}
		o.raw(`,"created_at":`)
		o.number(s.Created)
		if s.Idle > 0 {
			o.raw(`,"idle":`)
			o.number(s.Idle)
			o.raw(`,"idle_expires_at":`)
			o.number(s.IdleAt)
		}
	}
	if v.Dump != nil {
		o.raw(`,"dump":"`)
		o.b = append(base64.StdEncoding.AppendEncode(o.b, v.Dump), '"')
	}
	o.raw(`,"value":`)
	return "", o.begin(v)
}

// begin begins a value's own text.
func (o *linesOut) begin(v *engine.CutValue) error {
	o.kind, o.some, o.groups, o.pending, o.owners = v.Kind, false, 0, false, 0
	switch {
	case v.JSON != nil:
		o.b = append(o.b, v.JSON...)
	case v.Kind == rdb.Stream:
		o.raw(`{"entries":[`)
	case v.Kind != rdb.Unknown && v.Kind != rdb.String || v.Board != nil:
		o.raw("[")
	case v.Kind == rdb.Unknown:
		o.raw("null")
	}
	return o.put()
}

// finish ends a value's own text.
func (o *linesOut) finish(v *engine.CutValue) error {
	switch {
	case v.Kind == rdb.Stream:
		o.endGroup()
		o.raw("]}")
	case v.Kind != rdb.Unknown && v.Kind != rdb.String || v.Board != nil:
		o.raw("]")
	}
	return o.put()
}

func (o *linesOut) end(v *engine.CutValue) error {
	if err := o.finish(v); err != nil {
		return err
	}
	o.raw("}\n")
	return o.put()
}

func (o *linesOut) function(string) {
	o.report.note("libraries of functions were left out: only RDB files have them")
}
func (o *linesOut) close() error { return o.w.Flush() }
func (o *linesOut) size() int64  { return o.n }

// String implements rdb.Sink.
func (o *linesOut) String(text []byte) error {
	o.text(text)
	return o.put()
}

// Element implements rdb.Sink.
func (o *linesOut) Element(text []byte) error {
	o.comma()
	return o.String(text)
}

// Member implements rdb.Sink.
func (o *linesOut) Member(name []byte, score float64) error {
	o.comma()
	o.raw("[")
	o.text(name)
	o.raw(",")
	o.score(score)
	o.raw("]")
	return o.put()
}

// Field implements rdb.Sink.
func (o *linesOut) Field(name, value []byte, deadline int64) error {
	o.comma()
	o.raw("[")
	o.text(name)
	o.raw(",")
	o.text(value)
	if deadline != 0 {
		o.raw(",")
		o.number(deadline)
	}
	o.raw("]")
	return o.put()
}

// Entry implements rdb.Sink.
func (o *linesOut) Entry(id rdb.StreamID, fields [][]byte) error {
	o.comma()
	o.raw("[")
	o.id(id)
	for i, f := range fields {
		if o.raw(","); i == 0 {
			o.raw("[")
		}
		o.text(f)
	}
	o.raw("]]")
	return o.put()
}

// Stream implements rdb.Sink.
func (o *linesOut) Stream(m rdb.StreamMarks) error {
	o.raw(`],"last_id":`)
	o.id(m.Last)
	o.raw(`,"max_deleted_id":`)
	o.id(m.Deleted)
	o.raw(`,"entries_added":`)
	o.b = strconv.AppendUint(o.b, m.Added, 10)
	o.raw(`,"groups":[`)
	return o.put()
}

// Group implements rdb.Sink.
func (o *linesOut) Group(name []byte, last rdb.StreamID, read int64) error {
	o.endGroup()
	if o.groups++; o.groups > 1 {
		o.raw(",")
	}
	o.raw(`{"name":`)
	o.text(name)
	o.raw(`,"last_id":`)
	o.id(last)
	o.raw(`,"entries_read":`)
	if read < 0 {
		o.raw("null")
	} else {
		o.number(read)
	}
	o.raw(`,"pending":[`)
	o.pending, o.owners, o.some = true, 0, false
	return o.put()
}

// Pending implements rdb.Sink.
func (o *linesOut) Pending(id rdb.StreamID, at int64, times uint64) error {
	o.comma()
	o.raw("[")
	o.id(id)
	o.raw(",")
	o.number(at)
	o.raw(",")
	o.b = append(strconv.AppendUint(o.b, times, 10), ']')
	return o.put()
}

// Consumer implements rdb.Sink.
func (o *linesOut) Consumer(name []byte, seen, active int64) error {
	o.endPending()
	if o.owners > 0 {
		o.raw("]},")
	}
	o.owners++
	o.raw(`{"name":`)
	o.text(name)
	o.raw(`,"seen_at":`)
	o.number(seen)
	o.raw(`,"active_at":`)
	o.number(active)
	o.raw(`,"pending":[`)
	o.some = false
	return o.put()
}

// Owed implements rdb.Sink.
func (o *linesOut) Owed(id rdb.StreamID) error {
	o.comma()
	o.id(id)
	return o.put()
}

func (o *linesOut) endPending() {
	if o.pending {
		o.raw(`],"consumers":[`)
		o.pending = false
	}
}

func (o *linesOut) endGroup() {
	if o.groups == 0 {
		return
	}
	o.endPending()
	if o.owners > 0 {
		o.raw("]}")
	}
	o.raw("]}")
}

// csvOut writes a table: database, key, type, milliseconds that are left, value. A string is its text, other values are as in
// JSON lines; what is not legible text is base64 in an object, as there.
type csvOut struct {
	linesOut
	now int64
}

func newCSVOut(w io.Writer, r *Report, now int64) *csvOut {
	o := &csvOut{linesOut{w: bufio.NewWriterSize(w, 64<<10), report: r}, now}
	o.raw("db,key,type,ttl_ms,value\r\n")
	return o
}

// cell writes a text as a cell of its own.
func (o *csvOut) cell(text []byte) error {
	if !legible(text) {
		text = appendText(nil, text)
	}
	o.raw(`"`)
	if err := o.put(); err != nil {
		return err
	}
	o.quoted, o.b = true, append(o.b, text...)
	err := o.put()
	o.quoted = false
	o.raw(`"`)
	return err
}

func (o *csvOut) value(v *engine.CutValue) (string, error) {
	o.number(int64(v.DB))
	o.raw(",")
	if err := o.cell(v.Key); err != nil {
		return "", err
	}
	o.raw("," + typeName(v) + ",")
	if v.ExpireAt != 0 {
		o.number(v.ExpireAt - o.now)
	}
	o.raw(",")
	if v.Kind == rdb.String {
		return "", o.put()
	}
	o.raw(`"`)
	if err := o.put(); err != nil {
		return "", err
	}
	o.quoted = true
	return "", o.begin(v)
}

// String implements rdb.Sink.
func (o *csvOut) String(text []byte) error { return o.cell(text) }

func (o *csvOut) end(v *engine.CutValue) error {
	if err := o.finish(v); err != nil {
		return err
	}
	if o.quoted {
		o.quoted = false
		o.raw(`"`)
	}
	o.raw("\r\n")
	return o.put()
}
