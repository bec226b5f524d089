package replication

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"

	"github.com/larder-cache/larder/internal/wal"
)

// A simDisk is what a simulated node has of disks. When the node crashes, the log loses what was not synced, but for a beginning
// as long as the dice want; state files and markers are whole or not there, as shelf has it. Package wal tries what becomes of
// sectors and of names.
type simDisk struct {
	dice  *rand.Rand
	files map[string]*simFile
	shelf map[string][]byte
	torn  bool // the node crashes before what is being written is synced
}

type simFile struct {
	d         *simDisk
	now, kept []byte
}

var errTorn = errors.New("the node crashes")

func newSimDisk(dice *rand.Rand) *simDisk {
	return &simDisk{dice: dice, files: map[string]*simFile{}, shelf: map[string][]byte{}}
}

// tear does what is interrupted by the crash, and reports whether it was.
func (d *simDisk) tear(do func()) (torn bool) {
	d.torn = true
	defer func() {
		if r := recover(); r != nil && r != errTorn {
			panic(r)
		} else {
			torn = r != nil
		}
		d.torn = false
	}()
	do()
	return false
}

// crash leaves what a process finds that starts again.
func (d *simDisk) crash() {
	for _, name := range sortedNames(d.files) {
		f := d.files[name]
		same := 0
		for same < len(f.now) && same < len(f.kept) && f.now[same] == f.kept[same] {
			same++
		}
		if d.dice.IntN(2) == 0 && same < len(f.now) && len(f.now) == len(f.kept) {
			written := len(bytes.TrimRight(f.now, "\x00"))
			if written > same {
				copy(f.kept[same:], f.now[same:same+d.dice.IntN(written-same+1)])
			}
		}
		f.now = slices.Clone(f.kept)
	}
}

func sortedNames[V any](m map[string]V) (names []string) {
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func (d *simDisk) List() ([]string, error) { return sortedNames(d.files), nil }

func (d *simDisk) Create(name string, room int64) (wal.File, error) {
	f := &simFile{d: d, now: make([]byte, room), kept: make([]byte, room)}
	d.files[name] = f
	return f, nil
}

func (d *simDisk) Open(name string) (wal.File, error) {
	if f := d.files[name]; f != nil {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

func (d *simDisk) Remove(name string) error {
	delete(d.files, name)
	return nil
}

func (d *simDisk) Sync() error { return nil }

func (f *simFile) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(f.now)) {
		return 0, io.EOF
	}
	n := copy(b, f.now[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *simFile) WriteAt(b []byte, at int64) (int, error) {
	if end := int(at) + len(b); end > len(f.now) {
		f.now = append(f.now, make([]byte, end-len(f.now))...)
	}
	return copy(f.now[at:], b), nil
}

func (f *simFile) Size() (int64, error) { return int64(len(f.now)), nil }

func (f *simFile) Truncate(size int64) error {
	f.now = f.now[:size]
	return nil
}

func (f *simFile) Sync() error {
	if f.d.torn {
		panic(errTorn)
	}
	f.kept = slices.Clone(f.now)
	return nil
}

func (f *simFile) Close() error { return nil }

// list implements shelf, and so do those below.
func (d *simDisk) list() ([]string, error) { return sortedNames(d.shelf), nil }

func (d *simDisk) write(name string, fill func(io.Writer) error) error {
	var b bytes.Buffer
	if err := fill(&b); err != nil {
		return err
	}
	d.shelf[name] = b.Bytes()
	return nil
}

func (d *simDisk) open(name string) (io.ReadCloser, error) {
	b, ok := d.shelf[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}

func (d *simDisk) remove(names ...string) error {
	for _, name := range names {
		delete(d.shelf, name)
	}
	return nil
}
