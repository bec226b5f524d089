package mirror

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The disk copy is one file, replaced as a whole. All numbers are little endian:
//
//	magic     "larder mirror 1\n"
//	cluster   8 bytes
//	revision  8 bytes
//	prefix    length in 4 bytes, bytes
//	count     4 bytes
//	records   count times: flags in 1 byte (1: leased), create and mod revision in 8 bytes each,
//	          key and value, each with its length in 4 bytes; keys ascend
//	checksum  SHA-256 of all before
const (
	copyMagic  = "larder mirror 1\n"
	maxCopy    = 1 << 30
	minRecord  = 1 + 8 + 8 + 4 + 4
	flagLeased = 1
)

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// encodeCopy returns the file for v.
func encodeCopy(prefix string, v *view) []byte {
	size := len(copyMagic) + 8 + 8 + 4 + len(prefix) + 4 + sha256.Size
	v.records.Ascend(func(r *Record) bool {
		size += minRecord + len(r.Key) + len(r.Value)
		return true
	})
	le := binary.LittleEndian
	b := make([]byte, 0, size)
	b = append(b, copyMagic...)
	b = le.AppendUint64(b, v.cluster)
	b = le.AppendUint64(b, uint64(v.revision))
	b = append(le.AppendUint32(b, uint32(len(prefix))), prefix...)
	b = le.AppendUint32(b, uint32(v.records.Len()))
	v.records.Ascend(func(r *Record) bool {
		var flags byte
		if r.Leased {
			flags = flagLeased
		}
		b = append(b, flags)
		b = le.AppendUint64(b, uint64(r.CreateRevision))
		b = le.AppendUint64(b, uint64(r.ModRevision))
		b = append(le.AppendUint32(b, uint32(len(r.Key))), r.Key...)
		b = append(le.AppendUint32(b, uint32(len(r.Value))), r.Value...)
		return true
	})
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodeCopy returns the view in the file b, or why it is not one. It allocates in proportion to len(b), at
// most.
func decodeCopy(prefix string, b []byte) (*view, error) {
	if len(b) < len(copyMagic)+sha256.Size {
		return nil, fmt.Errorf("%d bytes are too few", len(b))
	}
	body, sum := b[:len(b)-sha256.Size], b[len(b)-sha256.Size:]
	if is := sha256.Sum256(body); !bytes.Equal(is[:], sum) {
		return nil, errors.New("the checksum does not match: torn or corrupt")
	}
	d := decoder{rest: body}
	if string(d.bytes(len(copyMagic))) != copyMagic {
		return nil, errors.New("the magic number is of another kind of file or version")
	}
	v := &view{cluster: d.uint64(), revision: int64(d.uint64()), records: newTree()}
	if got := string(d.counted()); d.err == nil && got != prefix {
		return nil, fmt.Errorf("it is a copy of %q, not of %q", got, prefix)
	}
	count := int(d.uint32())
	if d.err == nil && (v.cluster == 0 || v.revision <= 0) {
		return nil, fmt.Errorf("cluster %x at revision %d cannot be", v.cluster, v.revision)
	}
	last := ""
	for i := range count {
		flags := d.bytes(1)
		r := &Record{CreateRevision: int64(d.uint64()), ModRevision: int64(d.uint64())}
		r.Key = string(d.counted())
		r.Value = bytes.Clone(d.counted())
		if d.err != nil {
			return nil, fmt.Errorf("record %d of %d: %w", i, count, d.err)
		}
		r.Leased = flags[0] == flagLeased
		switch {
		case flags[0]&^flagLeased != 0:
			return nil, fmt.Errorf("record %d has unknown flags %#x", i, flags[0])
		case !strings.HasPrefix(r.Key, prefix) || i > 0 && r.Key <= last:
			return nil, fmt.Errorf("record %d is out of order", i)
		case r.CreateRevision <= 0 || r.CreateRevision > r.ModRevision || r.ModRevision > v.revision:
			return nil, fmt.Errorf("record %d has revisions %d and %d in a copy of revision %d", i, r.CreateRevision, r.ModRevision, v.revision)
		}
		last = r.Key
		v.records.ReplaceOrInsert(r)
	}
	if d.err != nil {
		return nil, d.err
	}
	if len(d.rest) > 0 {
		return nil, fmt.Errorf("%d bytes follow the last record", len(d.rest))
	}
	return v, nil
}

// A decoder takes pieces off rest. After the first piece that is not there it has an error and gives zeros.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) bytes(n int) []byte {
	if d.err == nil && (n < 0 || n > len(d.rest)) {
		d.err = fmt.Errorf("%d bytes wanted, %d are left", n, len(d.rest))
	}
	if d.err != nil {
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) counted() []byte { return d.bytes(int(d.uint32())) }

func (d *decoder) uint32() uint32 {
	if b := d.bytes(4); d.err == nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.bytes(8); d.err == nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// loadCopy reads the disk copy.
func loadCopy(path, prefix string) (*view, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxCopy {
		return nil, fmt.Errorf("the disk copy has %d bytes, at most %d are allowed", info.Size(), maxCopy)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCopy))
	if err != nil {
		return nil, err
	}
	v, err := decodeCopy(prefix, b)
	if err != nil {
		return nil, fmt.Errorf("the disk copy: %w", err)
	}
	return v, nil
}

// writeCopy replaces the file at path by b. A crash leaves the old file or the new one.
func writeCopy(path string, b []byte) error {
	tmp := path + ".tmp"
	if err := os.Remove(tmp); err != nil && !isNotExist(err) {
		return err
	}
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// saveChanges keeps the disk copy at most a second behind, until Close. Saving rests four times as long as it
// takes, so with a copy of hundreds of megabytes the second becomes a few.
func (m *Mirror) saveChanges() {
	failing := false
	for {
		select {
		case <-m.dirty:
		case <-m.ctx.Done():
			return // Close saves what is left
		}
		if !m.rest(m.pace.saveAfter) {
			return
		}
		start := time.Now()
		err := m.saveIfBehind()
		pause := 4 * time.Since(start)
		if err != nil {
			if !failing {
				m.log.Error("cannot write the disk copy; trying again", "path", m.cfg.Path, "err", err)
			}
			poke(m.dirty)
			pause = max(pause, time.Second)
		} else if failing {
			m.log.Info("the disk copy is written again", "path", m.cfg.Path)
		}
		failing = err != nil
		if !m.rest(pause) {
			return
		}
	}
}

// rest waits for d and reports whether the mirror is still open.
func (m *Mirror) rest(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-m.ctx.Done():
		return false
	}
}

// saveIfBehind writes the disk copy unless it holds the current revision. One goroutine at a time calls it:
// the saver, and after its end Close.
func (m *Mirror) saveIfBehind() error {
	v := m.view.Load()
	if v == nil || m.cfg.Path == "" {
		return nil
	}
	m.mu.Lock()
	copied := m.copied
	m.mu.Unlock()
	if v.revision == copied {
		return nil
	}
	if err := writeCopy(m.cfg.Path, encodeCopy(m.cfg.Prefix, v)); err != nil {
		return fmt.Errorf("mirror: writing the disk copy: %w", err)
	}
	m.mu.Lock()
	m.copied = v.revision
	m.mu.Unlock()
	return nil
}
