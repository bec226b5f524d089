package rdb

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc64"
	"io"
)

// The versions of files that a Writer makes: 10 is what Redis 7.0 reads, and all that came later; 12, which Redis 7.4 reads,
// may hold fields of hashes with deadlines.
const (
	OldestFile  = versionPlain
	DefaultFile = versionStreams
	NewestFile  = versionDeadlines
	writeAtOnce = 64 << 10
)

// A Writer writes an RDB file. Errors are kept: Close tells the first.
type Writer struct {
	w    *bufio.Writer
	sum  uint64
	db   int
	buf  []byte
	size int64
}

// NewWriter begins a file of a version.
func NewWriter(w io.Writer, version int) *Writer {
	f := &Writer{w: bufio.NewWriterSize(w, writeAtOnce), db: -1}
	fmt.Fprintf(f, "REDIS%04d", version)
	return f
}

// Write writes a part of a value.
func (f *Writer) Write(b []byte) (int, error) {
	f.sum = ^crc64.Update(^f.sum, jones, b)
	f.size += int64(len(b))
	return f.w.Write(b)
}

// Size is how many bytes were written.
func (f *Writer) Size() int64 { return f.size }

// Aux says something of the server that writes the file.
func (f *Writer) Aux(name, text string) {
	f.buf = AppendText(AppendText(append(f.buf[:0], opAux), []byte(name)), []byte(text))
	f.Write(f.buf)
}

// Function writes the code of a library.
func (f *Writer) Function(code string) {
	f.buf = AppendText(append(f.buf[:0], opFunctions), []byte(code))
	f.Write(f.buf)
}

// Key begins a key, whose value is to be written next; at is when it expires, 0 for never.
func (f *Writer) Key(db int, key []byte, at int64, t Type) {
	f.buf = f.buf[:0]
	if db != f.db {
		f.db = db
		f.buf = AppendLength(append(f.buf, opDatabase), uint64(db))
	}
	if at != 0 {
		f.buf = AppendMillis(append(f.buf, opExpireMillis), at)
	}
	f.buf = AppendText(append(f.buf, byte(t)), key)
	f.Write(f.buf)
}

// Close ends the file.
func (f *Writer) Close() error {
	f.Write([]byte{opEnd})
	if _, err := f.w.Write(binary.LittleEndian.AppendUint64(nil, f.sum)); err != nil {
		return err
	}
	f.size += 8
	return f.w.Flush()
}
