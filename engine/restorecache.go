package engine

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"math"
	"slices"

	"github.com/larder-cache/larder/internal/fault"
)

// A cache is restored through the log: RestoreTask puts a part of a cut into a cache that nobody can ask yet. A CutSplitter
// makes the parts of a stream that CutCache has written, for any number of partitions. What a cut of the target's partition
// shows meanwhile is as far as the restoration has come, see unfinishedValue, so a replica made of it can go on.
//
// When all parts are applied and Unfinished is 0, the cache is whole. One that does not come so far is to be dropped.

// A CutPart is whole frames of a cut, for one cache on one partition. Parts of one target are applied in their order.
type CutPart struct {
	Target  int    // as CutSplitter.To chose it
	Version uint64 // no version in it is above
	Frames  []byte
}

// RestoreTask puts a part of a cut into a cache.
func RestoreTask(id CacheID, part *CutPart) *Task {
	return internalTask(id, "LARDER.RESTORE", id[:], integer(int64(part.Version)), part.Frames)
}

// Unfinished is how many large collections of a cache wait for the rest of their elements.
func (p *Partition) Unfinished(id CacheID) int {
	if c := p.caches[id]; c != nil {
		return len(c.unfinished)
	}
	return 0
}

// restoreCache puts the frames of a part in. A frame that is refused leaves those before it in.
func (c *call) restoreCache() error {
	cache := c.p.caches[CacheID(c.args[1])]
	if cache == nil {
		return fault.New(fault.NotFound, c.cmd.Name, "the cache that is restored is gone")
	}
	if cache.unfinished == nil {
		cache.unfinished = map[uint64]place{}
	}
	c.p.version = max(c.p.version, uint64(uninteger(c.args[2]))&(1<<56-1))
	r := restoring{p: c.p, c: cache, open: cache.unfinished}
	if err := r.frames(c.args[3]); err != nil {
		return fault.Wrap(fault.InvalidArgument, c.cmd.Name, err, "%v", err)
	}
	if s := cache.settings; s.MemoryLimit > 0 && cache.used > s.MemoryLimit && s.Eviction == NoEviction {
		return fault.About(fault.OutOfMemory, c.cmd.Name, "memory_limit_bytes", "the cache's memory limit of %d bytes is too small for what is restored", s.MemoryLimit)
	}
	c.out.Status("OK")
	return nil
}

// frames puts whole frames in, up to the first that is refused.
func (r *restoring) frames(b []byte) error {
	warm := 0
	for reader := (&frameReader{}); len(b) > 0; warm-- {
		if warm == 0 {
			warm = abreast
			r.warm(b)
		}
		var frame []byte
		var err error
		if frame, b, err = reader.next(b); frame == nil && err == nil {
			err = cutError("a part ends in the middle of a frame")
		}
		if err == nil {
			err = r.partFrame(frameKind(frame[0]), &fields{b: frame[1:]})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// abreast is for how many keys the index is on its way from memory at the same time: keys come in an order that is none here.
const abreast = 16

// warm reads where the next keys are to stand in the index. What it finds is looked at again, and judged, when it is their turn.
func (r *restoring) warm(b []byte) {
	for range abreast {
		n, width := binary.Uvarint(b)
		if width <= 0 || n == 0 || n > uint64(len(b)-width) {
			return
		}
		frame := b[width:][:n]
		b = b[width+int(n):]
		if frameKind(frame[0]) != frameKey {
			continue
		}
		f := &fields{b: frame[1:]}
		db := f.number()
		f.byte()
		f.number()
		f.number()
		if key := f.text(MaxKey); !f.bad && db < uint64(len(r.c.dbs)) && r.c.dbs[db] != nil {
			r.p.sink += r.c.dbs[db].table.WarmIndex(r.p.store.Hash(key))
		}
	}
}

// partFrame is frame for one that came through the log, into a cache that may have other contents: what is there already stays
// as it is, and a remembered task is forgotten no earlier than those that the partition has.
func (r *restoring) partFrame(kind frameKind, f *fields) error {
	switch kind {
	case frameOnce, frameOnceAt:
		d, err := f.onceAt(r.c, kind)
		if err != nil || r.c.once[d.key] != nil {
			return err
		}
		if last := r.p.once.Back(); last != nil {
			d.expireAt = max(d.expireAt, last.Value.(*remembered).expireAt)
		}
		r.p.enqueue(d)
		return nil
	case frameScripts:
		if r.c.scripts != nil {
			return nil
		}
	case frameScript:
		return r.partScript(f)
	case frameLibrary:
		if l := r.c.libraries; l != nil && slices.ContainsFunc(l.list, func(lib *scriptLibrary) bool { return lib.code == string(f.b) }) {
			return nil
		}
	}
	return r.frame(kind, f)
}

// partScript takes a script, which other partitions of the cache that was cut may have known as well. Those that EVAL made known
// are left out when there is no room: who calls them brings them along.
func (r *restoring) partScript(f *fields) error {
	k := &knownScript{used: f.number()}
	loaded := f.byte() == 1
	k.text = string(f.b)
	k.sha = sha1.Sum(f.b)
	if r.c.scripts == nil && r.staging {
		r.c.scripts = &scripts{bySHA: map[scriptSHA]*knownScript{}}
	}
	s := r.c.scripts
	if f.bad || s == nil {
		return cutError("a script stands where none can")
	}
	if known := s.bySHA[k.sha]; known != nil {
		if loaded && known.place != nil {
			s.byUse.Remove(known.place)
			known.place = nil
		}
		return nil
	}
	s.uses++
	k.used = s.uses
	room := s.bytes+k.bytes() <= keptScripts && s.byUse.Len() < evalScripts
	switch {
	case loaded && s.bytes+k.bytes() > 2*keptScripts && !r.staging:
		return cutError("there is no room for a script")
	case !room && (!loaded || r.staging):
		return nil
	case !loaded:
		k.place = s.byUse.PushBack(k)
	}
	r.c.keep(s, k)
	return nil
}

// A CutSplitter takes the stream of one cache's cut and deals it out to targets, in parts that RestoreTask applies. It checks
// the stream as it comes; only when Done returns nil was it whole.
type CutSplitter struct {
	To   func(db int, key []byte) int // which target has a key, from 0; below 0 for none
	All  int                          // how many targets: each gets what belongs to no key. At least 1
	Emit func(part *CutPart) error    // takes a part, whose bytes are its own, unless Lent says that they are only lent
	Lent bool
	Age  int64 // milliseconds by which all deadlines are put off
	Thaw int64 // 0, or when the cut's time goes on: Age is worked out
	Now  int64 // keys whose time has come by then are left out; milliseconds since 1970, 0 for none

	Cache    CacheID  // that was cut; once Begun
	Settings Settings // of the cache
	At       int64    // when it was cut, in milliseconds since 1970
	Begun    bool     // the frames that say so have come
	Keys     int64    // that have come
	Elements int64    // of large collections, that have come
	LeftOut  int64    // keys that went nowhere

	// Digest is that of keys, values and deadlines as they came. Two cuts have the same one if nothing has changed between, in
	// whatever order they were read.
	Digest [sha256.Size]byte

	version uint64
	frames  frameReader
	state   int // how many of begin, cache and cache end have come
	counted uint64
	writers []frameWriter
	objects map[uint64]dealt // that are under way, by what the stream calls them
	numbers uint64           // given out
	hashed  frameWriter
	last    [sha256.Size]byte // of the last collection
}

// dealt is where a collection goes.
type dealt struct {
	target int // below 0 for none
	number uint64
	sum    [sha256.Size]byte // of its first piece
}

// partBytes is how long a part may be before it is handed on.
const partBytes = 32 << 10

// Write takes the next piece of the stream.
func (s *CutSplitter) Write(chunk []byte) (n int, err error) {
	n = len(chunk)
	for {
		frame, rest, err := s.frames.next(chunk)
		if err == nil && frame == nil {
			return n, nil
		}
		if err == nil {
			err = s.frame(frameKind(frame[0]), frame[1:])
		}
		if err != nil {
			return 0, err
		}
		chunk = rest
	}
}

// Done hands the last parts on, and reports an error unless the whole stream has come.
func (s *CutSplitter) Done() error {
	if !s.frames.over || s.state != 3 {
		return cutError("it ends too soon")
	}
	for i := range s.writers {
		if err := s.flush(i); err != nil {
			return err
		}
	}
	return nil
}

func (s *CutSplitter) flush(target int) error {
	w := &s.writers[target]
	if len(w.b) == 0 {
		return nil
	}
	err := s.Emit(&CutPart{Target: target, Version: s.version, Frames: w.b})
	if w.b = w.b[:0]; !s.Lent {
		w.b = make([]byte, 0, partBytes+partBytes/8)
	}
	return err
}

func (s *CutSplitter) frame(kind frameKind, b []byte) error {
	f := &fields{b: b}
	switch {
	case kind == frameBegin && s.state == 0:
		if version := f.byte(); version != cutFormat {
			return cutError("it has format %d, known is %d", version, cutFormat)
		}
		s.state, s.objects, s.writers = 1, map[uint64]dealt{}, make([]frameWriter, max(s.All, 1))
		s.At, s.version = f.time(), f.upTo(1<<56-1)
		if s.Thaw != 0 {
			s.Age = max(s.Thaw-s.At, 0)
		}
		if f.byte() != 0 {
			return cutError("it is not of one cache")
		}
		return f.done("the beginning")
	case kind == frameCache && s.state == 1:
		var err error
		s.Cache, s.Settings, err = f.cache()
		s.state, s.Begun = 2, true
		return err
	case kind == frameEnd && s.state == 3:
		return nil
	case s.state != 2:
		return cutError("frame %d is out of order", kind)
	}
	switch kind {
	case frameCacheEnd:
		if n := f.number(); n != s.counted || len(s.objects) > 0 {
			return cutError("the cache has %d keys and elements, not %d", s.counted, n)
		}
		s.state = 3
		return f.done("the end of a cache")
	case frameFlush, frameScripts, frameScript, frameLibrary, frameOnce, frameOnceAt:
		for i := range s.writers {
			s.writers[i].begin(kind)
			s.writers[i].rest(b...)
			s.writers[i].end()
		}
		return nil
	}
	p, err := f.piece(kind)
	if err != nil {
		return err
	}
	return s.piece(&p)
}

func (s *CutSplitter) piece(p *Piece) error {
	target := -1
	s.tally(p)
	if !p.Last {
		s.counted++
	}
	switch {
	case p.Element:
		o, ok := s.objects[p.Object]
		if !ok {
			return cutError("an element belongs to no collection")
		}
		if p.Last {
			delete(s.objects, p.Object)
		} else {
			s.Elements++
		}
		target, p.Object = o.target, o.number
	default:
		if p.Unfinished {
			return cutError("a cache that is not whole was cut")
		}
		if err := s.putOff(p); err != nil {
			return err
		}
		s.Keys++
		if target = s.To(p.DB, p.Key); target >= 0 && s.Now > 0 && p.ExpireAt > 0 && p.ExpireAt <= s.Now {
			target = -1
		}
		if target < 0 {
			s.LeftOut++
		}
		if p.Object != 0 {
			if _, twice := s.objects[p.Object]; twice {
				return cutError("a collection stands twice")
			}
			s.numbers++
			s.objects[p.Object] = dealt{target, s.numbers, s.last}
			p.Object = s.numbers
		}
	}
	if target < 0 {
		return nil
	}
	if p.Element && !p.Last && p.Kind == kindField && p.ExpireAt != 0 {
		p.ExpireAt = min(s.later(p.ExpireAt), maxFieldDeadline)
	}
	w := &s.writers[target]
	w.piece(p)
	if len(w.b) >= partBytes {
		return s.flush(target)
	}
	return nil
}

// later puts a deadline off, 0 for none.
func (s *CutSplitter) later(at int64) int64 {
	if at == 0 || at > math.MaxInt64-max(s.Age, 0) {
		return at
	}
	return max(at+s.Age, 1)
}

// putOff puts the deadlines off of a key and of what a small value has of its own.
func (s *CutSplitter) putOff(p *Piece) error {
	if s.Age == 0 {
		return nil
	}
	p.ExpireAt = s.later(p.ExpireAt)
	if p.Object != 0 {
		return nil
	}
	switch p.Kind {
	case kindSession:
		f := &fields{b: p.Value}
		w := frameWriter{}
		w.number(f.number())
		w.number(f.number())
		w.number(f.number())
		w.number(uint64(s.later(f.time())))
		w.number(uint64(s.later(f.time())))
		if f.bad {
			return cutError("a session is cut off")
		}
		w.rest(f.b...)
		p.Value, p.Room = w.b, len(w.b)
	case kindHash:
		if err := packedHash(p.Value).valid(); err != nil {
			return cutError("%v", err)
		}
		p.Value = packedHash(p.Value).putOff(s.later)
	}
	return nil
}

// putOff returns the hash with other deadlines.
func (b packedHash) putOff(later func(int64) int64) packedHash {
	if b[0]&timedHash == 0 {
		return b
	}
	b = append(packedHash(nil), b...)
	change := func(at int) {
		var d [8]byte
		binary.LittleEndian.PutUint64(d[:], uint64(min(later(readDeadline(b[at:])), maxFieldDeadline)))
		copy(b[at:at+deadlineBytes], d[:])
	}
	change(1)
	for at := b.body(); at < len(b); {
		if b[at] == timedMark {
			change(at + 1)
		}
		at = b.at(at).end
	}
	return b
}

// tally adds a piece to the digest of the contents. The order of pieces makes no difference.
func (s *CutSplitter) tally(p *Piece) {
	w := &s.hashed
	w.b = w.b[:0]
	switch {
	case p.Last:
		return
	case p.Element:
		of := s.objects[p.Object].sum
		w.byte('e')
		w.rest(of[:]...)
	default:
		w.byte('k')
		w.number(uint64(p.DB))
		w.words(p.Type)
	}
	w.byte(byte(p.Kind))
	w.number(uint64(p.ExpireAt))
	w.text(p.Key)
	w.rest(p.Value...)
	sum := sha256.Sum256(w.b)
	if p.Object != 0 && !p.Element {
		s.last = sum
	}
	subtle.XORBytes(s.Digest[:], s.Digest[:], sum[:])
}
