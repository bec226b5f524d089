package transfer

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/rdb"
	"github.com/larder-cache/larder/internal/fault"
)

// ExportOptions say what an export is to be.
type ExportOptions struct {
	Format  string // rdb, jsonl or csv
	Version int    // of an RDB file; 0 for the default
	Now     time.Time
	Rooms   func() (engine.Room, error)
	Told    func(Progress)
	Server  string // the version of the server, which the file tells
}

// CheckVersion says whether an RDB file may have a version.
func CheckVersion(version int64) error {
	if version < rdb.OldestFile || version > rdb.NewestFile {
		return fault.About(fault.OutOfRange, "transfer.export", "rdb_version", "rdb_version is %d to %d, not %d: 9 for Redis 5, 10 for Redis 7.0 and Valkey, 12 for Redis 7.4", rdb.OldestFile, rdb.NewestFile, version)
	}
	return nil
}

// A writer writes values in a format. A value is told it as a sink between value and end.
type writer interface {
	rdb.Sink
	// value begins a value, or says why it is left out.
	value(v *engine.CutValue) (reason string, err error)
	end(v *engine.CutValue) error
	function(code string)
	close() error
	size() int64
}

// An Exporter writes the values of a cut, whose parts it is given.
type Exporter struct {
	Report Report

	o      ExportOptions
	w      writer
	reader engine.CutReader
}

// NewExporter begins an export to w.
func NewExporter(w io.Writer, o ExportOptions) *Exporter {
	e := &Exporter{Report: Report{Format: o.Format, ByType: map[string]int64{}, Skipped: []Skipped{}}, o: o}
	switch o.Format {
	case "rdb":
		if o.Version == 0 {
			o.Version = rdb.DefaultFile
		}
		f := &rdbOut{Writer: rdb.NewWriter(w, o.Version), version: o.Version, report: &e.Report, rooms: o.Rooms}
		f.Aux("larder-ver", o.Server)
		f.Aux("redis-bits", "64")
		f.Aux("ctime", strconv.FormatInt(o.Now.Unix(), 10))
		e.w = f
	case "jsonl":
		e.w = newLinesOut(w, &e.Report)
	default:
		e.w = newCSVOut(w, &e.Report, o.Now.UnixMilli())
	}
	var libraries []string
	e.reader = engine.CutReader{
		NewRoom: o.Rooms, Now: o.Now.UnixMilli(), Value: e.value,
		Function: func(code string) error { // each partition has all of them
			if !slices.Contains(libraries, code) {
				libraries = append(libraries, code)
				e.w.function(code)
			}
			return nil
		},
	}
	return e
}

// Part takes a part of a cut, as engine.CutSplitter gives it.
func (e *Exporter) Part(p *engine.CutPart) error { return e.reader.Part(p.Frames) }

// Cut reads a whole cut.
func (e *Exporter) Cut(r io.Reader) error {
	s := &engine.CutSplitter{All: 1, To: func(int, []byte) int { return 0 }, Emit: e.Part}
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		if _, err := s.Write(buf[:n]); err != nil {
			return err
		}
		if err == io.EOF {
			return s.Done()
		}
		if err != nil {
			return err
		}
	}
}

// value writes a value.
func (e *Exporter) value(v *engine.CutValue) error {
	reason, err := e.w.value(v)
	if err != nil {
		return err
	}
	if reason != "" {
		e.Report.skip(reason, string(v.Key), 0)
		return nil
	}
	if v.Kind != rdb.Unknown || v.Board != nil {
		if err := v.Tell(e.w); err != nil {
			return err
		}
	}
	if err := e.w.end(v); err != nil {
		return err
	}
	e.Report.counted(typeName(v))
	if e.o.Told != nil {
		e.o.Told(Progress{Keys: e.Report.Keys, Bytes: e.w.size()})
	}
	return nil
}

// typeName is what a value's type is called in reports and in lines.
func typeName(v *engine.CutValue) string {
	switch {
	case v.Board != nil:
		return typeLeaderboard
	case v.Session != nil:
		return typeSession
	case v.JSON != nil:
		return typeJSON
	}
	return v.Type
}

// Close ends the export; without it, what was written is no whole file.
func (e *Exporter) Close() error {
	if err := e.reader.Close(); err != nil {
		return err
	}
	err := e.w.close()
	e.Report.Expired, e.Report.Bytes = e.reader.Expired, e.w.size()
	return err
}

// Abandon gives back what waits, of an export that does not come to its end.
func (e *Exporter) Abandon() { _ = e.reader.Close() } // which says that it has none

// rdbOut writes an RDB file.
type rdbOut struct {
	*rdb.Writer
	version int
	report  *Report
	rooms   func() (engine.Room, error)
	b       []byte

	timed bool
	first int64 // the earliest deadline of a field

	// Of a stream:
	n       uint64 // entries
	block   rdb.StreamBlock
	entries []streamEntry
	held    int
	room    engine.Room
	length  int64 // of what is in the room
	blocks  uint64
	begins  rdb.StreamID
	groups  groupList
}

func (f *rdbOut) value(v *engine.CutValue) (string, error) {
	t := rdb.TypeString
	switch v.Kind {
	case rdb.Unknown:
		return fmt.Sprintf("a value of the type %s, which Redis does not have", typeName(v)), nil
	case rdb.List:
		t = rdb.TypeList
	case rdb.Set:
		t = rdb.TypeSet
	case rdb.SortedSet:
		t = rdb.TypeZSet
	case rdb.Hash:
		t = rdb.TypeHash
		if f.timed, f.first = v.Timed && f.version >= rdb.NewestFile, v.FirstWake; f.timed {
			t = rdb.TypeHashDeadlines
		} else if v.Timed {
			f.report.note(fmt.Sprintf("deadlines of fields of hashes were left out: RDB version %d does not have them, %d does", f.version, rdb.NewestFile))
		}
	case rdb.Stream:
		t = rdb.TypeStream2
		if f.version < rdb.DefaultFile {
			t = rdb.TypeStream
		}
	case rdb.String:
		if v.ContentType != "" || v.Flags != 0 {
			f.report.note("content types and memcached's flags of strings were left out: RDB files do not have them")
		}
	}
	f.Key(v.DB, v.Key, v.ExpireAt, t)
	f.b = f.b[:0]
	if f.timed && v.Kind == rdb.Hash {
		f.b = rdb.AppendMillis(f.b, f.first)
	}
	switch v.Kind {
	case rdb.List, rdb.Set, rdb.SortedSet, rdb.Hash:
		f.b = rdb.AppendLength(f.b, uint64(v.Len))
	case rdb.Stream:
		f.entries, f.held, f.blocks, f.length, f.begins = f.entries[:0], 0, 0, 0, rdb.StreamID{}
		f.n, f.groups = uint64(v.Len), groupList{counted: f.version >= rdb.DefaultFile}
		var err error
		f.room, err = f.rooms()
		return "", err
	}
	return "", f.put()
}

func (f *rdbOut) put() error {
	_, err := f.Write(f.b)
	f.b = f.b[:0]
	return err
}

func (f *rdbOut) end(v *engine.CutValue) error {
	if v.Kind == rdb.Stream {
		f.b = f.groups.append(f.b)
	}
	return f.put()
}

func (f *rdbOut) function(code string) { f.Function(code) }
func (f *rdbOut) close() error         { return f.Close() }
func (f *rdbOut) size() int64          { return f.Size() }

// String implements rdb.Sink.
func (f *rdbOut) String(text []byte) error {
	f.b = rdb.AppendText(f.b, text)
	return f.put()
}

// Element implements rdb.Sink.
func (f *rdbOut) Element(text []byte) error { return f.String(text) }

// Member implements rdb.Sink.
func (f *rdbOut) Member(name []byte, score float64) error {
	f.b = rdb.AppendDouble(rdb.AppendText(f.b, name), score)
	return f.put()
}

// Field implements rdb.Sink.
func (f *rdbOut) Field(name, value []byte, deadline int64) error {
	switch {
	case f.timed && deadline != 0:
		f.b = rdb.AppendLength(f.b, uint64(deadline-f.first+1))
	case f.timed:
		f.b = append(f.b, 0)
	}
	f.b = rdb.AppendText(rdb.AppendText(f.b, name), value)
	return f.put()
}

// Entry implements rdb.Sink.
func (f *rdbOut) Entry(id rdb.StreamID, fields [][]byte) error {
	if f.blocks == 0 && len(f.entries) == 0 {
		f.begins = id
	}
	own := make([][]byte, len(fields))
	for i, field := range fields {
		own[i] = bytes.Clone(field)
		f.held += len(field)
	}
	f.entries = append(f.entries, streamEntry{id, own})
	if len(f.entries) < blockEntries && f.held < blockBytes {
		return nil
	}
	return f.pack()
}

// pack puts the entries that are held into a block.
func (f *rdbOut) pack() error {
	f.b = appendBlock(f.b[:0], &f.block, f.entries)
	clear(f.entries)
	f.entries, f.held = f.entries[:0], 0
	f.blocks++
	f.length += int64(len(f.b))
	_, err := f.room.Write(f.b)
	f.b = f.b[:0]
	return err
}

// Stream implements rdb.Sink: now it is known how many blocks there are.
func (f *rdbOut) Stream(m rdb.StreamMarks) error {
	if len(f.entries) > 0 {
		if err := f.pack(); err != nil {
			return err
		}
	}
	defer f.room.Close() // of which nothing is wanted any more
	f.b = rdb.AppendLength(f.b, f.blocks)
	if err := f.put(); err != nil {
		return err
	}
	if _, err := io.Copy(f.Writer, io.NewSectionReader(f.room, 0, f.length)); err != nil {
		return err
	}
	f.b = rdb.AppendID(rdb.AppendLength(f.b, f.n), m.Last)
	if f.groups.counted {
		f.b = rdb.AppendLength(rdb.AppendID(rdb.AppendID(f.b, f.begins), m.Deleted), m.Added)
	}
	return f.put()
}

// Group implements rdb.Sink.
func (f *rdbOut) Group(name []byte, last rdb.StreamID, read int64) error {
	f.groups.group(name, last, read)
	return nil
}

// Pending implements rdb.Sink.
func (f *rdbOut) Pending(id rdb.StreamID, at int64, times uint64) error {
	f.groups.pending(id, at, times)
	return nil
}

// Consumer implements rdb.Sink.
func (f *rdbOut) Consumer(name []byte, seen, _ int64) error {
	f.groups.consumer(name, seen, noActivity)
	return nil
}

// Owed implements rdb.Sink.
func (f *rdbOut) Owed(id rdb.StreamID) error {
	f.groups.owed(id)
	return nil
}
