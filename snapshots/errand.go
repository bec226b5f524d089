package snapshots

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sync"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/aside"
	"github.com/larder-cache/larder/internal/courtesy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/keyslot"
	"github.com/larder-cache/larder/internal/seal"
)

// What takes most of a snapshot's time is hashing, encrypting and writing, and the same backwards. A helper does that, which is another
// process where there can be one: see package aside. It is given an errand, in JSON behind its length, and a file:
//
//	to write one:  the contents of the snapshot but for its summary follow on its input, as pour sends them. The helper seals them into the file, and reads
//	               back behind itself what it wrote
//	to read one:   the file is sealed contents, at their beginning. The helper opens them, and deals the parts out
//
// It says what comes of it in messages: what it is in 1 byte, its length in 4, and so many bytes. The last one is saidDone or saidFailed.
type errand struct {
	Opening seal.Opening `json:"opening"`

	Write bool  `json:"write,omitempty"`
	Room  int64 `json:"room,omitempty"` // see bounded

	Targets int      `json:"targets,omitempty"` // 0 where nothing is dealt out
	Runs    [][3]int `json:"runs,omitempty"`    // of slots, first and last, and which target has them; nil: the first target has all
	Prefix  []byte   `json:"prefix,omitempty"`
	Thaw    int64    `json:"thaw,omitempty"`
	Now     int64    `json:"now,omitempty"`
}

// What a helper says.
const (
	saidProgress = 'p' // keys and bytes so far, 8 bytes each
	saidPart     = 'c' // target, 4 bytes; version, 8 bytes; frames
	saidWritten  = 'w' // all has been written, and is being read back
	saidDone     = 'd' // Contents and the file's size, in JSON
	saidFailed   = 'e' // failure, in JSON
)

// partHead is how many bytes of saidPart come before the frames.
const partHead = 4 + 8

// maxMessage bounds a message: a part, which has one value more than it should have.
const maxMessage = engine.HardMaxValue + engine.MaxKey + 1<<20

// maxErrand bounds an errand, which may name each slot by itself, and a long prefix.
const maxErrand = 1 << 20

// tellEvery is how often a helper says how far it is.
const tellEvery = 100 * time.Millisecond

type done struct {
	Contents Contents `json:"contents"`
	Size     int64    `json:"size"`
}

// A failure is an error on its way to another process.
type failure struct {
	Kind    fault.Kind `json:"kind,omitempty"`
	Op      string     `json:"op,omitempty"`
	Message string     `json:"message"`
	Known   int        `json:"known,omitempty"` // which of knownErrors it wraps, from 1; 0 for none
}

// knownErrors are those that somebody looks for.
var knownErrors = []error{ErrBad, engine.ErrCut, seal.ErrDamaged, seal.ErrForeign, errCutShort}

func failureOf(err error) failure {
	if f := fault.From(err); f.Kind != fault.Internal {
		return failure{Kind: f.Kind, Op: f.Op, Message: f.Message}
	}
	f := failure{Message: err.Error()}
	for i, known := range knownErrors {
		if errors.Is(err, known) {
			f.Known = i + 1
			break
		}
	}
	return f
}

func (f failure) error() error {
	switch {
	case f.Known > 0 && f.Known <= len(knownErrors):
		return fmt.Errorf("%w (%s)", knownErrors[f.Known-1], f.Message)
	case f.Kind != fault.Internal:
		return fault.New(f.Kind, f.Op, "%s", f.Message)
	}
	return errors.New(f.Message)
}

// Errand is what a helper does: an aside.Work with one file.
func Errand(in io.Reader, out io.Writer, files []*os.File) error {
	from := bufio.NewReaderSize(in, 4*chunkBytes)
	var e errand
	if err := hearUpTo(maxErrand, from, &e); err != nil {
		return err
	}
	defer e.Opening.Clear()
	if len(files) != 1 {
		return fmt.Errorf("an errand has one file, not %d", len(files))
	}
	t := &teller{w: bufio.NewWriterSize(out, 4*chunkBytes)}
	var d done
	var err error
	if e.Write {
		d, err = e.write(from, files[0], t)
	} else {
		d.Contents, err = e.read(files[0], t)
	}
	if err != nil {
		return errors.Join(t.json(saidFailed, failureOf(err)), t.flush())
	}
	return errors.Join(t.json(saidDone, d), t.flush())
}

// A teller says what a helper has to say. What a failed write leaves unsaid, nobody hears: the helper ends at the next.
type teller struct {
	mu   sync.Mutex
	w    *bufio.Writer
	last time.Time // when it said how far it is
}

func (t *teller) say(kind byte, pieces ...[]byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, p := range pieces {
		n += len(p)
	}
	var head [5]byte
	head[0] = kind
	binary.BigEndian.PutUint32(head[1:], uint32(n))
	_, err := t.w.Write(head[:])
	for _, p := range pieces {
		if _, more := t.w.Write(p); err == nil {
			err = more
		}
	}
	return err
}

func (t *teller) json(kind byte, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return t.say(kind, text)
}

func (t *teller) flush() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.w.Flush()
}

// told says how far it is, now and then.
func (t *teller) told(keys, bytes int64) {
	if now := time.Now(); now.Sub(t.last) >= tellEvery {
		t.last = now
		t.tell(keys, bytes)
	}
}

func (t *teller) tell(keys, bytes int64) {
	b := binary.BigEndian.AppendUint64(nil, uint64(keys))
	if t.say(saidProgress, binary.BigEndian.AppendUint64(b, uint64(bytes))) == nil {
		_ = t.flush() // the next write says so, too
	}
}

// part says a part, whose bytes are only lent.
func (t *teller) part(p *engine.CutPart) error {
	var head [partHead]byte
	binary.BigEndian.PutUint32(head[:], uint32(p.Target))
	binary.BigEndian.PutUint64(head[4:], p.Version)
	return t.say(saidPart, head[:], p.Frames)
}

// write seals what comes, and reads it back.
func (e *errand) write(from *bufio.Reader, file *os.File, t *teller) (d done, err error) {
	trail := newTrail(file)
	wrote, read := &sum{}, &sum{}
	sealed, err := e.Opening.Writer(&bounded{trail, e.Room})
	if err != nil {
		return d, err
	}
	seals := &sealing{from: from, to: bufio.NewWriterSize(io.MultiWriter(wrote, sealed), chunkBytes), told: t.told}
	checked := make(chan error, 1)
	go func() { checked <- e.check(trail, read) }()
	synced := make(chan error, 1)
	go func() { synced <- trail.sync() }()
	courtesy.Background(func() bool {
		var more bool
		more, err = seals.step()
		return more && err == nil
	})
	if err == nil {
		err = sealed.Close()
	}
	trail.end(err)
	if err != nil {
		<-checked
		<-synced
		return d, err
	}
	d.Contents = seals.c
	if err := errors.Join(t.say(saidWritten), t.flush(), <-checked, <-synced); err != nil {
		return d, err
	}
	if *read != *wrote {
		return d, fmt.Errorf("%w: what was read back is not what was written", ErrBad)
	}
	d.Size = trail.size()
	return d, nil
}

// check reads back what trail has, and sums it up.
func (e *errand) check(t *trail, read *sum) error {
	head := make([]byte, len(e.Opening.Head))
	if err := fill(t, head); err != nil || !bytes.Equal(head, e.Opening.Head) {
		return errors.Join(fmt.Errorf("%w: its head is not what was written", ErrBad), err)
	}
	plain, err := e.Opening.Reader(t)
	if err != nil {
		return err
	}
	buf := make([]byte, chunkBytes)
	courtesy.Background(func() bool {
		var n int
		n, err = plain.Read(buf)
		_, _ = read.Write(buf[:n]) // it takes everything
		return err == nil
	})
	if err != io.EOF {
		return err
	}
	return nil
}

// A sum tells two runs of bytes apart.
type sum struct {
	n   int64
	crc uint32
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (s *sum) Write(p []byte) (int, error) {
	s.n += int64(len(p))
	s.crc = crc32.Update(s.crc, castagnoli, p)
	return len(p), nil
}

// A trail is a file that is written, read behind its writer, and synced behind both.
type trail struct {
	file *os.File

	mu    sync.Mutex
	more  sync.Cond
	n     int64 // bytes that are there
	ended bool
	err   error // of the writer

	at int64 // the reader's own
}

// syncBytes is how much is synced at once, so that the end has not all of it to wait for.
const syncBytes = 32 << 20

func newTrail(file *os.File) *trail {
	t := &trail{file: file}
	t.more.L = &t.mu
	return t
}

// Write implements io.Writer.
func (t *trail) Write(p []byte) (int, error) {
	n, err := t.file.Write(p)
	t.mu.Lock()
	t.n += int64(n)
	t.more.Broadcast()
	t.mu.Unlock()
	return n, err
}

// end is told that no more is written, and why; nil for because all has been.
func (t *trail) end(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ended, t.err = true, err
	t.more.Broadcast()
}

// beyond waits until there are more bytes than n, and as many more as that or the end. It returns how many there are.
func (t *trail) beyond(n, many int64) (there int64, ended bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for t.n < n+many && !t.ended {
		t.more.Wait()
	}
	return t.n, t.ended, t.err
}

// Read implements io.Reader, for one who follows the writer.
func (t *trail) Read(p []byte) (int, error) {
	there, ended, err := t.beyond(t.at, 1)
	if err != nil {
		return 0, err
	}
	if there == t.at && ended {
		return 0, io.EOF
	}
	n, err := t.file.ReadAt(p[:min(int64(len(p)), there-t.at)], t.at)
	t.at += int64(n)
	return n, err
}

// sync has everything on disk when it returns nil.
func (t *trail) sync() error {
	for at := int64(0); ; {
		there, ended, err := t.beyond(at, syncBytes)
		if err != nil {
			return nil // it is not wanted any more
		}
		if err := t.file.Sync(); err != nil || ended {
			return err
		}
		at = there
	}
}

func (t *trail) size() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n
}

// read opens a sealed file and deals its parts out.
func (e *errand) read(file *os.File, t *teller) (c Contents, err error) {
	plain, err := e.Opening.Reader(file)
	if err != nil {
		return c, err
	}
	sink := Sink{Told: t.told}
	if e.Targets > 0 {
		sink.Targets, sink.To, sink.Thaw, sink.Now, sink.Emit, sink.lent = e.Targets, e.to(), e.Thaw, e.Now, t.part, true
	}
	r := newReading(plain, &sink)
	for more := true; more && err == nil; { // it is no idle work: somebody waits for the cache
		more, err = r.step()
	}
	t.tell(r.c.Keys, r.c.Bytes)
	return r.c, err
}

// to says which target has a key.
func (e *errand) to() func(int, []byte) int {
	if e.Runs == nil {
		return func(_ int, key []byte) int {
			if !bytes.HasPrefix(key, e.Prefix) {
				return -1
			}
			return 0
		}
	}
	var of [keyslot.Count]int16
	for i := range of {
		of[i] = -1
	}
	for _, r := range e.Runs {
		for slot := max(r[0], 0); slot <= min(r[1], len(of)-1); slot++ {
			of[slot] = int16(r[2])
		}
	}
	return func(_ int, key []byte) int {
		if !bytes.HasPrefix(key, e.Prefix) {
			return -1
		}
		return int(of[keyslot.Of(key)])
	}
}

// run has a helper go on an errand. send, nil for nothing, gives it what it reads; heard is told of all that it says but the last.
func (s *Service) run(ctx context.Context, e *errand, file *os.File, send func(ctx context.Context, to io.Writer) error, heard func(kind byte, message []byte) error) (d done, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	h, err := s.cfg.Aside(ctx, file)
	if err != nil {
		s.cfg.Log.Warn("a snapshot is worked on in this process, because no other one can be started", "error", err)
		h, err = aside.Here(Errand)(ctx, file)
	}
	if err != nil {
		return d, err
	}
	sent := make(chan error, 1)
	go func() {
		sent <- guarded(func() error {
			err := say(h.In, e)
			if err == nil && send != nil {
				err = send(ctx, h.In)
			}
			return errors.Join(err, h.In.Close())
		})
	}()
	d, err = hearOut(h.Out, heard)
	if err != nil {
		cancel()
	}
	ended := h.Wait()
	if failed := <-sent; failed != nil && errors.Is(err, errCutShort) {
		err = failed // the cause: the helper was left alone with half of it
	}
	if err == nil {
		err = ended
	}
	return d, err
}

// errCutShort is the cause of a helper's error when its input ends too soon.
var errCutShort = errors.New("what was to be written ended too soon")

// hearOut hears what a helper says, to its end.
func hearOut(from io.Reader, heard func(kind byte, message []byte) error) (d done, err error) {
	in := bufio.NewReaderSize(from, 4*chunkBytes)
	for {
		var head [5]byte
		if err := fill(in, head[:]); err != nil {
			return d, fmt.Errorf("the process that works on it has ended: %w", err)
		}
		n := binary.BigEndian.Uint32(head[1:])
		if n > maxMessage {
			return d, fmt.Errorf("the process that works on it says %d bytes, at most %d are heard", n, maxMessage)
		}
		b := make([]byte, n)
		if err := fill(in, b); err != nil {
			return d, fmt.Errorf("the process that works on it has ended: %w", err)
		}
		switch head[0] {
		case saidDone:
			return d, json.Unmarshal(b, &d)
		case saidFailed:
			var f failure
			if err := json.Unmarshal(b, &f); err != nil {
				return d, err
			}
			return d, f.error()
		}
		if err := heard(head[0], b); err != nil {
			return d, err
		}
	}
}

// heard takes saidProgress.
func (j *job) heard(b []byte) {
	if len(b) == 16 {
		j.told(int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:])))
	}
}
