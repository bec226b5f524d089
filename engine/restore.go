package engine

import (
	"cmp"
	"crypto/sha1"
	"math"
	"slices"
	"strings"

	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/keyslot"
)

// A Restorer makes a partition of the stream that a CutStream has written. It takes the stream in pieces of any size and works
// in proportion to them, but that it links the blocks of a large list at the list's end. It keeps no more of the stream than
// the value under way, and allocates for nothing that has not come: a length alone costs nothing.
//
// Whatever the bytes are, they give a partition that keeps its invariants or an error. After an error, and before Done, the
// partition is half a one: it is to be closed.
type Restorer struct {
	p      *Partition
	frames frameReader
	begun  bool
	at     restoring
	keys   uint64 // and elements, of the cache under way
	once   []*remembered
	skip   func(CacheID) bool // with a Loader: caches that are left out; nil for a partition that is restored as a whole
	over   bool               // the cache under way is
	err    error
}

// RestorePartition begins to fill an empty partition, whose seed is to be that of the partition that was cut. It ends up
// in the same state, with the same Digest.
func RestorePartition(p *Partition) *Restorer {
	if len(p.caches) > 0 {
		panic("engine: a partition that is restored must be empty")
	}
	p.running = call{p: p}
	return &Restorer{p: p}
}

// Write takes the next piece of the stream. An error is final.
func (r *Restorer) Write(chunk []byte) (n int, err error) {
	n = len(chunk)
	for r.err == nil {
		var frame []byte
		if frame, chunk, r.err = r.frames.next(chunk); frame == nil {
			break
		}
		if r.err == nil {
			r.err = r.frame(frameKind(frame[0]), frame[1:])
		}
	}
	if r.p.store.Settle(); r.p.store.Busy() {
		r.p.Maintain(stepsPerEntry)
	}
	if r.err != nil {
		return 0, r.err
	}
	return n, nil
}

// Done reports an error unless the whole stream came, and all of it was right.
func (r *Restorer) Done() error {
	if r.err == nil && (!r.frames.over || len(r.frames.buf) > 0) {
		r.err = cutError("it ends too soon")
	}
	return r.err
}

func (r *Restorer) frame(kind frameKind, b []byte) error {
	f := &fields{b: b}
	switch {
	case kind == frameBegin && !r.begun:
		return r.begin(f)
	case !r.begun:
		return cutError("it does not begin as one")
	case r.over:
		r.over = kind != frameCacheEnd
		return nil
	case kind == frameCache && r.at.c == nil:
		return r.cache(f)
	case kind == frameEnd && r.at.c == nil:
		return r.finish()
	case r.at.c == nil:
		return cutError("frame %d belongs to no cache", kind)
	case kind == frameCacheEnd:
		if n := f.number(); n != r.keys || len(r.at.open) > 0 {
			return cutError("a cache has %d keys and elements, not %d", r.keys, n)
		}
		r.at.c, r.keys = nil, 0
		return f.done("the end of a cache")
	case kind == frameHoldings:
		return r.at.holdings(f)
	case kind == frameOnce || kind == frameOnceAt:
		d, err := f.onceAt(r.at.c, kind)
		r.once = append(r.once, d)
		return err
	case kind == frameKey || kind == frameObject || kind == frameElement:
		r.keys++
	}
	return r.at.frame(kind, f)
}

func (r *Restorer) begin(f *fields) error {
	if version := f.byte(); version != cutFormat {
		return cutError("it has format %d, known is %d", version, cutFormat)
	}
	r.begun = true
	r.p.now, r.p.version = f.time(), f.upTo(1<<56-1)
	r.p.running.now = r.p.now
	if f.byte() != 1 {
		return cutError("it is not of a whole partition")
	}
	return f.done("the beginning")
}

func (r *Restorer) cache(f *fields) error {
	id, s, err := f.cache()
	if err != nil {
		return err
	}
	if r.skip != nil && r.skip(id) {
		r.over = true
		return nil
	}
	if r.p.caches[id] != nil {
		return cutError("cache %s stands twice", id)
	}
	r.p.configure(id, s)
	r.at = restoring{p: r.p, c: r.p.caches[id], open: map[uint64]place{}}
	return nil
}

func (f *fields) cache() (id CacheID, s Settings, err error) {
	id = f.id()
	s.MemoryLimit = f.signed()
	eviction := f.signed()
	s.MaxValue, s.DefaultTTL = f.signed(), f.signed()
	notify := f.signed()
	s.Eviction = EvictionPolicy(eviction)
	s.note(notify)
	if eviction < 0 || eviction >= int64(numPolicies) || s.notes() != notify {
		f.spoil()
	}
	return id, s, f.done("a cache")
}

// finish queues the remembered tasks of all caches, which is done in one order.
func (r *Restorer) finish() error {
	slices.SortFunc(r.once, func(a, b *remembered) int { return cmp.Compare(a.serial, b.serial) })
	last := int64(0)
	for i, d := range r.once {
		if d.expireAt < last || i > 0 && d.serial == r.once[i-1].serial || d.home.once[d.key] != nil {
			return cutError("remembered tasks are out of order")
		}
		last = d.expireAt
		r.p.enqueue(d)
	}
	return nil
}

// holdings reads what is held of the cache.
func (r *restoring) holdings(f *fields) error {
	r.c.settings.Holdings = string(f.text(maxHoldings))
	if f.bad || len(f.b) > maxHoldings || r.c.tenure != nil {
		return cutError("what is held of a cache is damaged")
	}
	if len(f.b) == 0 {
		return nil
	}
	t, err := tenure.Read(f.b)
	if err != nil {
		return cutError("what is held of a cache is damaged")
	}
	r.c.tenure = t
	return nil
}

// maxHoldings bounds a tenure in bytes: more than one with as many spans as there can be.
const maxHoldings = 64 << 10

// onceAt is once for both kinds of frames.
func (f *fields) onceAt(c *cache, kind frameKind) (*remembered, error) {
	slot := int32(-1)
	if kind == frameOnceAt {
		slot = int32(f.upTo(keyslot.Count - 1))
	}
	d, err := f.once(c)
	d.slot = slot
	return d, err
}

// once reads a task that c remembers.
func (f *fields) once(c *cache) (*remembered, error) {
	d := &remembered{home: c, serial: f.number(), expireAt: f.time(), key: f.id(), fingerprint: f.id()}
	if f.bad || len(f.b) > maxRemembered+MaxKey || !validRecording(f.b) {
		return d, cutError("a remembered task is damaged")
	}
	d.reply = &Recording{b: append([]byte(nil), f.b...)}
	return d, nil
}

// validRecording reports whether b is what a Recording holds: whole replies, which a Cursor can read.
func validRecording(b []byte) bool {
	f := &fields{b: b}
	for left := uint64(0); len(f.b) > 0 || left > 0; left-- {
		if left == 0 {
			left = 1
		}
		n := uint64(0)
		switch ReplyKind(f.byte()) {
		case ReplyNull, ReplyNullArray, ReplyTrue, ReplyFalse:
		case ReplyInt:
			f.signed()
		case ReplyDouble:
			f.take(8)
		case ReplyStatus, ReplyBulk:
			f.text(math.MaxInt32)
		case ReplyArray, ReplySet:
			n = f.upTo(math.MaxInt32)
		case ReplyMap, ReplyPairs, ReplyKeyed:
			n = 2 * f.upTo(math.MaxInt32)
		case ReplyError:
			f.byte()
			for range 3 {
				f.text(math.MaxInt32)
			}
			f.time()
		default:
			return false
		}
		if left += n; f.bad || left > 1<<40 {
			return false
		}
	}
	return true
}

// restoring is a cache that is filled with the pieces of a cut.
type restoring struct {
	p    *Partition
	c    *cache
	open map[uint64]place // collections whose elements are to come, by what the stream calls them

	staging bool // what is there goes when a key comes again
}

func (r *restoring) frame(kind frameKind, f *fields) error {
	switch kind {
	case frameFlush:
		db, at := int(f.upTo(Databases-1)), f.time()
		if err := f.done("a flush"); err != nil || at == 0 {
			return cutError("a flush comes at no time")
		}
		r.c.keyspace(r.p, db).flushesAt(at)
		return nil
	case frameScripts:
		uses := f.number()
		if r.c.scripts != nil {
			return cutError("scripts stand twice")
		}
		r.c.scripts = &scripts{bySHA: map[scriptSHA]*knownScript{}, uses: uses}
		return f.done("scripts")
	case frameScript:
		return r.script(f)
	case frameLibrary:
		return r.library(string(f.b))
	case frameRemove:
		return r.remove(f)
	}
	piece, err := f.piece(kind)
	if err != nil {
		return err
	}
	return r.piece(&piece)
}

func (r *restoring) script(f *fields) error {
	k := &knownScript{used: f.number()}
	loaded := f.byte()
	k.text = string(f.b)
	k.sha = sha1.Sum(f.b)
	s := r.c.scripts
	if f.bad || loaded > 1 || s == nil || s.bySHA[k.sha] != nil || k.used > s.uses || s.bytes+k.bytes() > 2*keptScripts {
		return cutError("a script stands twice, or there is no room for it")
	}
	if loaded == 0 {
		if last := s.byUse.Back(); last != nil && last.Value.(*knownScript).used >= k.used {
			return cutError("scripts are out of the order of their use")
		}
		k.place = s.byUse.PushBack(k)
	}
	r.c.keep(s, k)
	return nil
}

// remove takes back what was staged under a key.
func (r *restoring) remove(f *fields) error {
	number, db := f.number(), int(f.upTo(Databases-1))
	key := f.text(MaxKey)
	if err := f.done("the removal of a key"); err != nil || !r.staging {
		return cutError("a key is removed that was not sent")
	}
	delete(r.open, number)
	r.p.viewed, r.p.looked = 0, look{}
	if k := r.c.keyspace(r.p, db); k.find(key) != nil {
		k.discard(k.find(key))
	}
	return nil
}

func (r *restoring) library(code string) error {
	r.p.dice.Seed(0, 0)
	c := &call{p: r.p, cache: r.c, task: &Task{}, now: r.p.now, writing: true, out: discard{}}
	lib, err := c.newLibrary(strings.Clone(code))
	if err != nil {
		return cutError("a library is damaged: %v", err)
	}
	if r.staging && r.c.libraries != nil {
		if _, there := r.c.libraries.find(lib.name); there {
			return nil
		}
	}
	l, err := r.c.libraries.with(lib, false)
	if err != nil || len(l.list) > maxLibraries || l.bytes > maxLibraryBytes {
		return cutError("a library stands twice, or there is no room for it")
	}
	c.setLibraries(l)
	return nil
}

// piece puts a piece of the cut in.
func (r *restoring) piece(piece *Piece) error {
	p := r.p
	p.viewed, p.looked = 0, look{}
	if piece.Element {
		return r.element(piece)
	}
	k := r.c.keyspace(p, piece.DB)
	if it := k.find(piece.Key); it != nil && r.staging {
		k.discard(it)
		p.viewed, p.looked = 0, look{}
	} else if it != nil {
		return cutError("a key stands twice")
	}
	if piece.Object == 0 {
		if err := validRecord(piece); err != nil {
			return err
		}
		it, b := k.hold(nil, piece.Key, piece.Kind, len(piece.Value), piece.Room, piece.ExpireAt)
		copy(b, piece.Value)
		k.loaded(it)
		return nil
	}
	if _, twice := r.open[piece.Object]; twice {
		return cutError("a collection stands twice")
	}
	u, err := newUnfinished(p, piece)
	if err != nil {
		return err
	}
	at := place{k, string(piece.Key)}
	if piece.Unfinished {
		if _, twice := r.c.unfinished[u.number]; twice {
			u.destroy()
			return cutError("a collection stands twice")
		}
		r.c.awaitsRest(u.number, at)
		u.stays = true
	}
	r.open[piece.Object] = at
	k.put(nil, piece.Key, u, piece.ExpireAt)
	return nil
}

func (c *cache) awaitsRest(number uint64, at place) {
	if c.unfinished == nil {
		c.unfinished = map[uint64]place{}
	}
	c.unfinished[number] = at
}

// element puts an element into its collection, or ends the collection.
func (r *restoring) element(piece *Piece) error {
	at, ok := r.open[piece.Object]
	if !ok {
		return cutError("an element belongs to no collection")
	}
	k := at.home
	it := k.find([]byte(at.key))
	if it == nil { // it has expired meanwhile
		if piece.Last {
			delete(r.open, piece.Object)
		}
		return nil
	}
	u, ok := it.value.(*unfinishedValue)
	if !ok {
		return cutError("a collection is another that an element belongs to")
	}
	if !piece.Last {
		if err := u.add(piece); err != nil {
			return err
		}
		k.resized(it.object())
		k.account()
		return nil
	}
	delete(r.open, piece.Object)
	if u.stays {
		u.stays = false
		return nil
	}
	if err := u.finish(); err != nil {
		return err
	}
	k.finish(it, u)
	return nil
}

// finish puts in the place of an unfinished value what it has become.
func (k *keyspace) finish(it *item, u *unfinishedValue) {
	at := it.object()
	k.p.objects[at].value = u.v
	if cut := k.owner.cut; cut != nil {
		cut.replaced(u, u.v)
	}
	k.resized(at)
	k.loaded(it)
	k.touched(it.key)
}
