package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
)

// What stands in a file between the values, by its first byte.
const (
	opSlot         = 244 // how many keys a slot of a cluster has
	opFunctions    = 245
	opFunctionsOld = 246 // of release candidates
	opModule       = 247 // what a module keeps beside its values
	opIdle         = 248
	opFrequency    = 249
	opAux          = 250
	opResize       = 251 // how many keys the database has
	opExpireMillis = 252
	opExpireOld    = 253 // in seconds
	opDatabase     = 254
	opEnd          = 255
)

// Bounds of what stands in a file beside the values, in bytes.
const (
	maxFileKey  = 512 << 20 // as in Redis
	maxAux      = 16 << 20  // which holds a script, in files before Redis 5
	maxFunction = 16 << 20

	checksumVersion = 5 // from which on a checksum stands at the end
)

// ErrChecksum is the error of a file whose checksum is wrong.
var ErrChecksum = errors.New("rdb: the checksum of the file is wrong")

// A FileError says where in a file something is wrong.
type FileError struct {
	Offset int64
	Err    error
}

func (e *FileError) Error() string { return fmt.Sprintf("at byte %d: %v", e.Offset, e.Err) }
func (e *FileError) Unwrap() error { return e.Err }

// A RecordKind says what a Record is.
type RecordKind byte

// The kinds of records.
const (
	RecordValue    RecordKind = 1 + iota // a key, whose value Value reads
	RecordAux                            // Key and Text: what the server says of itself
	RecordFunction                       // Text is the code of a library
	RecordModule                         // Key has what only a module knows, which was passed over. Text is the module's name
	RecordModuleAux
)

// A Record is a part of a file. Its slices stay as they are.
type Record struct {
	Kind     RecordKind
	DB       uint64
	Key      []byte
	ExpireAt int64 // milliseconds since 1970, 0 for never
	Type     Type
	Text     []byte
}

// A File reads an RDB file as it comes, of any length: it keeps a piece of it, and the text under way. Versions 1 to 15 and
// those of Valkey are known.
//
// The Limits are those of one value. A value with a text beyond Limits.Text is passed over: see Value.
type File struct {
	d      Decoder
	db     uint64
	record Record
	unread bool // the value of the record
	ended  bool
	err    error
}

// NewFile begins to read a file, and reads its head.
func NewFile(r io.Reader, limits Limits) (*File, error) {
	f := &File{d: Decoder{Limits: limits, src: &source{r: r}}}
	head, err := f.d.take(9)
	if err != nil {
		return nil, &FileError{0, err}
	}
	digits := head[5:]
	valkey := string(head[:6]) == "VALKEY"
	if valkey {
		digits = head[6:]
	}
	version, err := strconv.ParseUint(string(digits), 10, 16)
	if err != nil || !valkey && string(head[:5]) != "REDIS" {
		return nil, &FileError{0, bad("it does not begin as an RDB file")}
	}
	f.d.Version = int(version)
	if version < 1 || version > lastRedis && version < firstValkey || version > lastValkey {
		return nil, &FileError{0, fmt.Errorf("%w: version %d is not known, only 1 to %d, and %d and %d of Valkey", ErrFormat, version, lastRedis, firstValkey, lastValkey)}
	}
	return f, nil
}

// Version is the file's.
func (f *File) Version() int { return f.d.Version }

// Offset is how many bytes were read.
func (f *File) Offset() int64 {
	f.d.settle()
	return f.d.src.offset
}

// Rest is what was taken from the reader and is not the file's: what followed it.
func (f *File) Rest() []byte { return f.d.rest }

// failed makes an error final, and says where it happened.
func (f *File) failed(err error) error {
	f.err = &FileError{f.Offset(), err}
	return f.err
}

// Next reads the next record; io.EOF is the end of a file whose checksum is right. The record is good until the next one.
func (f *File) Next() (*Record, error) {
	switch {
	case f.err != nil:
		return nil, f.err
	case f.ended:
		return nil, io.EOF
	}
	if f.unread {
		if err := f.Value(nobody{}); err != nil && !errors.Is(err, ErrTooLarge) {
			return nil, err
		}
	}
	f.record = Record{}
	for {
		more, err := f.next()
		if err != nil {
			return nil, f.failed(err)
		}
		switch {
		case f.ended:
			return nil, io.EOF
		case !more:
			f.record.DB = f.db
			return &f.record, nil
		}
	}
}

// Value reads the value of a record. The error is ErrTooLarge, which ends nothing, when a text of it is beyond the limits: then
// sink was told a part of it, or nothing.
func (f *File) Value(sink Sink) error {
	if f.err != nil {
		return f.err
	}
	if !f.unread {
		panic("rdb: a value is read twice")
	}
	f.unread = false
	total, elements := f.d.Total, f.d.Elements
	err := f.d.Value(f.record.Type, sink)
	f.d.Total, f.d.Elements = total, elements
	if errors.Is(err, ErrTooLarge) && f.d.lost {
		return ErrTooLarge
	}
	if err != nil {
		return f.failed(err)
	}
	return nil
}

// next reads what comes next, and reports whether more is to come before there is a record.
func (f *File) next() (more bool, err error) {
	d, r := &f.d, &f.record
	first, err := d.byte()
	if err != nil {
		return false, err
	}
	switch first {
	case opEnd:
		return false, f.end()
	case opDatabase:
		f.db, err = d.Length()
		return true, err
	case opResize:
		if _, err = d.Length(); err == nil {
			_, err = d.Length()
		}
		return true, err
	case opSlot:
		for i := 0; i < 3 && err == nil; i++ {
			_, err = d.Length()
		}
		return true, err
	case opExpireMillis:
		r.ExpireAt, err = d.millis()
		return true, err
	case opExpireOld:
		b, err := d.take(4)
		if err != nil {
			return false, err
		}
		r.ExpireAt = int64(int32(binary.LittleEndian.Uint32(b))) * 1000
		return true, nil
	case opFrequency:
		_, err = d.byte()
		return true, err
	case opIdle:
		_, err = d.Length()
		return true, err
	case opAux:
		r.Kind = RecordAux
		if r.Key, err = f.text(maxAux); err == nil {
			r.Text, err = f.text(maxAux)
		}
		return false, err
	case opFunctions:
		r.Kind = RecordFunction
		r.Text, err = f.text(maxFunction)
		return false, err
	case opFunctionsOld:
		return false, bad("functions of a release candidate of Redis 7, which no release reads")
	case opModule:
		return false, f.moduleAux()
	}
	return false, f.value(Type(first))
}

// text reads a text of at most so many bytes, which is not a value's.
func (f *File) text(most int64) ([]byte, error) {
	limits := f.d.Limits
	f.d.Limits, f.d.lost = Limits{most, math.MaxInt64, math.MaxInt64}, false
	b, err := f.d.Text()
	f.d.Limits = limits
	if err == nil && f.d.lost {
		err = fmt.Errorf("%w: a text has more than %d bytes", ErrTooLarge, most)
	}
	return b, err
}

func (f *File) moduleAux() error {
	name, err := f.d.moduleName()
	if err != nil {
		return err
	}
	what, err := f.d.Length()
	if err != nil {
		return err
	}
	if what != moduleUnsigned {
		return bad("a module's data of kind %d, where they say when they are to be loaded", what)
	}
	if _, err := f.d.Length(); err != nil {
		return err
	}
	f.record.Kind, f.record.Text = RecordModuleAux, []byte(name)
	return f.d.skipModule()
}

// value reads a key. What only a module knows is passed over at once.
func (f *File) value(t Type) (err error) {
	r := &f.record
	if t.Kind() == Unknown && t != TypeModule {
		return bad("type %d is not known", t)
	}
	if r.ExpireAt < 0 {
		r.ExpireAt = 1 // long ago
	}
	r.Kind, r.Type = RecordValue, t
	if r.Key, err = f.text(maxFileKey); err != nil {
		return err
	}
	if t != TypeModule {
		f.unread = true
		return nil
	}
	name, err := f.d.moduleName()
	if err != nil {
		return err
	}
	r.Kind, r.Text = RecordModule, []byte(name)
	return f.d.skipModule()
}

// end reads the checksum. 0 is that of a server that makes none.
func (f *File) end() error {
	f.ended = true
	if f.d.Version < checksumVersion {
		return nil
	}
	f.d.settle()
	sum := f.d.src.sum
	b, err := f.d.take(8)
	if err != nil {
		f.ended = false
		return err
	}
	if want := binary.LittleEndian.Uint64(b); want != 0 && want != sum {
		f.ended = false
		return ErrChecksum
	}
	return nil
}

// nobody is told what is to be passed over.
type nobody struct{}

func (nobody) String([]byte) error                   { return nil }
func (nobody) Element([]byte) error                  { return nil }
func (nobody) Member([]byte, float64) error          { return nil }
func (nobody) Field(_, _ []byte, _ int64) error      { return nil }
func (nobody) Entry(StreamID, [][]byte) error        { return nil }
func (nobody) Stream(StreamMarks) error              { return nil }
func (nobody) Group([]byte, StreamID, int64) error   { return nil }
func (nobody) Pending(StreamID, int64, uint64) error { return nil }
func (nobody) Consumer([]byte, int64, int64) error   { return nil }
func (nobody) Owed(StreamID) error                   { return nil }
