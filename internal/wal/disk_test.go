package wal

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
)

// A disk is a directory that forgets. What was not synced when it crashes is lost, sector by sector as the dice want; names that
// were made or removed since the directory was synced may be there or not.
type disk struct {
	dice  *rand.Rand
	names map[string]*platter
	since []change // of names, that were not synced
	left  int      // operations until it crashes; below 0 for never
}

type change struct {
	name string
	was  *platter
}

// A platter is a file.
type platter struct {
	now, kept []byte
	writes    []span
}

type span struct{ from, to int }

var errCrash = errors.New("the machine has crashed")

const sector = 512

// step counts an operation, and crashes when its number is up.
func (d *disk) step() {
	if d.left == 0 {
		panic(errCrash)
	}
	d.left--
}

// crash leaves what a machine finds that starts again.
func (d *disk) crash() {
	for _, c := range slices.Backward(d.since) {
		if d.dice.IntN(2) == 0 {
			if c.was == nil {
				delete(d.names, c.name)
			} else {
				d.names[c.name] = c.was
			}
		}
	}
	d.since, d.left = nil, -1
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for n := range d.names {
			if !yield(n) {
				return
			}
		}
	}) {
		d.names[name].crash(d.dice)
	}
}

func (p *platter) crash(dice *rand.Rand) {
	after := slices.Clone(p.kept)
	if len(p.now) > len(after) && dice.IntN(2) == 0 {
		after = append(after, make([]byte, len(p.now)-len(after))...)
	} else if len(p.now) < len(after) && dice.IntN(2) == 0 {
		after = after[:len(p.now)]
	}
	odds := dice.IntN(4) // of 3: none of it, some, most, all
	for _, w := range p.writes {
		for at := w.from; at < w.to; {
			end := min((at/sector+1)*sector, w.to, len(p.now))
			if end > at && end <= len(after) && dice.IntN(3) < odds {
				copy(after[at:end], p.now[at:end])
			}
			at = (at/sector + 1) * sector
		}
	}
	p.now, p.kept, p.writes = after, slices.Clone(after), nil
}

func (d *disk) List() (names []string, err error) {
	for n := range d.names {
		names = append(names, n)
	}
	return names, nil
}

func (d *disk) Create(name string, room int64) (File, error) {
	d.step()
	if d.names[name] != nil {
		return nil, fs.ErrExist
	}
	p := &platter{now: make([]byte, room)}
	d.names[name] = p
	d.since = append(d.since, change{name, nil})
	return &diskFile{d, p}, nil
}

func (d *disk) Open(name string) (File, error) {
	if p := d.names[name]; p != nil {
		return &diskFile{d, p}, nil
	}
	return nil, fs.ErrNotExist
}

func (d *disk) Remove(name string) error {
	d.step()
	d.since = append(d.since, change{name, d.names[name]})
	delete(d.names, name)
	return nil
}

func (d *disk) Sync() error {
	d.step()
	d.since = nil
	return nil
}

type diskFile struct {
	d *disk
	p *platter
}

func (f *diskFile) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(f.p.now)) {
		return 0, io.EOF
	}
	n := copy(b, f.p.now[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *diskFile) WriteAt(b []byte, at int64) (int, error) {
	if end := int(at) + len(b); end > len(f.p.now) {
		f.p.now = append(f.p.now, make([]byte, end-len(f.p.now))...)
	}
	copy(f.p.now[at:], b)
	f.p.writes = append(f.p.writes, span{int(at), int(at) + len(b)})
	f.d.step()
	return len(b), nil
}

func (f *diskFile) Size() (int64, error) { return int64(len(f.p.now)), nil }

func (f *diskFile) Truncate(size int64) error {
	f.p.now = f.p.now[:size]
	f.d.step()
	return nil
}

func (f *diskFile) Sync() error {
	f.d.step()
	for _, w := range f.p.writes {
		if w.to > len(f.p.kept) {
			f.p.kept = append(f.p.kept, make([]byte, w.to-len(f.p.kept))...)
		}
		if w.from < len(f.p.now) {
			copy(f.p.kept[w.from:], f.p.now[w.from:min(w.to, len(f.p.now))])
		}
	}
	if len(f.p.kept) < len(f.p.now) {
		f.p.kept = append(f.p.kept, make([]byte, len(f.p.now)-len(f.p.kept))...)
	}
	f.p.kept, f.p.writes = f.p.kept[:len(f.p.now)], f.p.writes[:0]
	return nil
}

func (f *diskFile) Close() error { return nil }
