package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"

	"github.com/larder-cache/larder/engine/dense"
)

// A cut as a stream of bytes is frames: the length of what follows as a uvarint, a byte that says what it is, and its fields.
// Numbers are uvarints, where nothing else is said; texts stand behind their length; the last field goes to the frame's end.
//
//	begin       version of the format, 1 byte; the partition's time; the last version given out; 1 byte: 1 for a whole partition
//	cache       id, 16 bytes; memory limit, eviction, max value, default TTL, notifications (varints)
//	flush       database; when it is going to be emptied
//	scripts     how often scripts were used
//	script      when it was used last; 1 byte: 1 for one that stays; its text
//	library     its code
//	once        serial; when it is forgotten; key, 16 bytes; fingerprint, 16 bytes; the replies
//	key         database; kind, 1 byte; deadline; bytes of room beyond the value; key; value
//	object      database; type, 1 byte, with 0x80 for one that is unfinished; number; deadline; key; header
//	element     number of its object; kind, 1 byte; deadline; name; value
//	object end  number of the object
//	holdings    what the cache's settings say of them; the tenure, empty for none
//	once at     as once, behind the slot of the first key that the task named
//	remove      number of an object, 0 for none; database; key: what was sent of it counts no more
//	cache end   how many keys and elements
//	end         CRC-32C of all bytes before this frame, 4 bytes
//
// begin comes first, end last; a cache's frames stand between cache and cache end. An object comes before its elements, and
// between them there may be other keys. A number names an object within its cache, until its end.
type frameKind byte

const (
	frameBegin frameKind = 1 + iota
	frameCache
	frameFlush
	frameScripts
	frameScript
	frameLibrary
	frameOnce
	frameKey
	frameObject
	frameElement
	frameObjectEnd
	frameCacheEnd
	frameEnd
	frameHoldings
	frameOnceAt
	frameRemove
)

// cutFormat is the version of the format. A reader takes no other.
const cutFormat = 1

// maxFrame bounds a frame: the largest value with its key and all that stands around them.
const maxFrame = HardMaxValue + MaxKey + 1<<10

// ErrCut is the cause of every error about bytes that are no cut, or not all of one.
var ErrCut = errors.New("the stream is no cut of a partition, or damaged")

func cutError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCut, fmt.Sprintf(format, args...))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// objectTypes are the types of large collections, by the byte that names them.
var objectTypes = [...]string{1: "hash", 2: "list", 3: "set", 4: "zset", 5: "stream"}

const unfinishedObject = 0x80

// A frameWriter appends frames to b.
type frameWriter struct {
	b     []byte
	sum   uint32 // of the frames that were taken
	begun int    // where the frame under way begins, behind the room for its length
	keys  uint64 // and elements, of the cache under way
}

// maxFrameLength is how many bytes a frame's length takes at most.
const maxFrameLength = 5

func (w *frameWriter) begin(kind frameKind) {
	w.b = append(w.b, 0, 0, 0, 0, 0)
	w.begun = len(w.b)
	w.b = append(w.b, byte(kind))
}

// end writes the frame's length before it.
func (w *frameWriter) end() {
	var length [maxFrameLength]byte
	n := binary.PutUvarint(length[:], uint64(len(w.b)-w.begun))
	at := w.begun - maxFrameLength
	copy(w.b[at:], length[:n])
	if n < maxFrameLength {
		w.b = append(w.b[:at+n], w.b[w.begun:]...)
	}
}

func (w *frameWriter) byte(b byte)       { w.b = append(w.b, b) }
func (w *frameWriter) number(n uint64)   { w.b = binary.AppendUvarint(w.b, n) }
func (w *frameWriter) signed(n int64)    { w.b = binary.AppendVarint(w.b, n) }
func (w *frameWriter) text(b []byte)     { w.b = appendText(w.b, b) }
func (w *frameWriter) rest(b ...byte)    { w.b = append(w.b, b...) }
func (w *frameWriter) words(text string) { w.b = append(w.b, text...) }

// piece writes a piece of a cut.
func (w *frameWriter) piece(p *Piece) {
	switch {
	case p.Last:
		w.begin(frameObjectEnd)
		w.number(p.Object)
	case p.Element:
		w.keys++
		w.begin(frameElement)
		w.number(p.Object)
		w.byte(byte(p.Kind))
		w.number(uint64(p.ExpireAt))
		w.text(p.Key)
		w.rest(p.Value...)
		if p.Type == "list" && p.Kind == kindBlock {
			block(w.b[len(w.b)-len(p.Value):]).blank()
		}
	case p.Object != 0:
		w.keys++
		w.begin(frameObject)
		w.number(uint64(p.DB))
		of := byte(0)
		for i, name := range objectTypes {
			if name == p.Type {
				of = byte(i)
			}
		}
		if p.Unfinished {
			of |= unfinishedObject
		}
		w.byte(of)
		w.number(p.Object)
		w.number(uint64(p.ExpireAt))
		w.text(p.Key)
		w.rest(p.Value...)
	default:
		w.keys++
		w.begin(frameKey)
		w.number(uint64(p.DB))
		w.byte(byte(p.Kind))
		w.number(uint64(p.ExpireAt))
		w.number(uint64(max(p.Room-len(p.Value), 0)))
		w.text(p.Key)
		w.rest(p.Value...)
		if p.Kind == kindList {
			block(w.b[len(w.b)-len(p.Value):]).blank()
		}
	}
	w.end()
}

// fields reads what stands in a frame. A field that is not there, or too large, spoils it: everything is zero from then on.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) spoil() { f.b, f.bad = nil, true }

func (f *fields) number() uint64 {
	n, width := binary.Uvarint(f.b)
	if width <= 0 {
		f.spoil()
		return 0
	}
	f.b = f.b[width:]
	return n
}

// upTo is number for one with a bound.
func (f *fields) upTo(most uint64) uint64 {
	n := f.number()
	if n > most {
		f.spoil()
		return 0
	}
	return n
}

// time is a point of time, or a number that is not negative in 64 bits with a sign.
func (f *fields) time() int64 { return int64(f.upTo(math.MaxInt64)) }

func (f *fields) signed() int64 {
	n, width := binary.Varint(f.b)
	if width <= 0 {
		f.spoil()
		return 0
	}
	f.b = f.b[width:]
	return n
}

// take is the next n bytes.
func (f *fields) take(n uint64) []byte {
	if n > uint64(len(f.b)) {
		f.spoil()
		return nil
	}
	b := f.b[:n:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) byte() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) text(most uint64) []byte { return f.take(f.upTo(most)) }

func (f *fields) id() (id [16]byte) {
	copy(id[:], f.take(16))
	return id
}

func (f *fields) streamID() streamID { return streamID{f.number(), f.number()} }

// done reports an error unless all fields were there and nothing follows.
func (f *fields) done(what string) error {
	if f.bad || len(f.b) > 0 {
		return cutError("%s has other fields than it should", what)
	}
	return nil
}

// piece reads a piece of a cut. Its slices are the frame's.
func (f *fields) piece(kind frameKind) (p Piece, err error) {
	switch kind {
	case frameKey:
		p.DB, p.Kind, p.ExpireAt = int(f.upTo(Databases-1)), dense.Kind(f.byte()), f.time()
		room := f.upTo(maxFrame)
		p.Key = f.text(MaxKey)
		p.Value = f.take(uint64(len(f.b)))
		p.Room = len(p.Value) + int(room)
	case frameObject:
		p.DB = int(f.upTo(Databases - 1))
		of := f.byte()
		p.Unfinished = of&unfinishedObject != 0
		if of &^= unfinishedObject; of == 0 || int(of) >= len(objectTypes) {
			f.spoil()
		} else {
			p.Type = objectTypes[of]
		}
		p.Kind, p.Object, p.ExpireAt, p.Key = kindObject, f.number(), f.time(), f.text(MaxKey)
		p.Value = f.take(uint64(len(f.b)))
	case frameElement:
		p.Element, p.Object, p.Kind, p.ExpireAt, p.Key = true, f.number(), dense.Kind(f.byte()), f.time(), f.text(MaxKey+1)
		p.Value = f.take(uint64(len(f.b)))
	case frameObjectEnd:
		p.Element, p.Last, p.Object = true, true, f.number()
	default:
		return p, cutError("no frame %d is known", kind)
	}
	if !p.Last && len(p.Value) > HardMaxValue {
		f.spoil()
	}
	return p, f.done("a key or an element")
}

// A frameReader takes a stream apart, whatever pieces it comes in. It keeps no more than the frame under way.
type frameReader struct {
	buf  []byte // the beginning of a frame that has not come to its end
	sum  uint32 // of all frames before
	over bool   // nothing may follow
}

// next returns the first frame of what came, and what follows; nil when there is none to its end.
func (r *frameReader) next(chunk []byte) (frame, rest []byte, err error) {
	if r.over && len(chunk) > 0 {
		return nil, nil, cutError("bytes follow its end")
	}
	whole := chunk
	if len(r.buf) > 0 {
		// A length alone makes nobody allocate: the buffer grows with what comes.
		for len(r.buf) < maxFrameLength && len(chunk) > 0 && r.buf[len(r.buf)-1] >= 0x80 {
			r.buf, chunk = append(r.buf, chunk[0]), chunk[1:]
		}
		whole = r.buf
	}
	if len(whole) == 0 {
		return nil, nil, nil
	}
	n, width := binary.Uvarint(whole[:min(len(whole), maxFrameLength)])
	switch {
	case width == 0 && len(whole) < maxFrameLength:
		if len(r.buf) == 0 {
			r.buf = append(r.buf, chunk...)
		}
		return nil, nil, nil
	case width <= 0 || n == 0 || n > maxFrame:
		return nil, nil, cutError("a frame says it has %d bytes", n)
	}
	end := width + int(n)
	if len(r.buf) > 0 {
		part := min(end-len(r.buf), len(chunk))
		r.buf = append(r.buf, chunk[:part]...)
		chunk, whole = chunk[part:], r.buf
	}
	if len(whole) < end {
		if len(r.buf) == 0 {
			r.buf = append(r.buf, chunk...)
		}
		return nil, nil, nil
	}
	frame = whole[width:end]
	if frameKind(frame[0]) == frameEnd {
		r.over = true
		if len(frame) != 5 || binary.LittleEndian.Uint32(frame[1:]) != r.sum {
			return nil, nil, cutError("its checksum is wrong")
		}
	}
	r.sum = crc32.Update(r.sum, castagnoli, whole[:end])
	if len(r.buf) > 0 {
		if cap(r.buf) > 1<<20 {
			r.buf = nil
		} else {
			r.buf = r.buf[:0]
		}
		return frame, chunk, nil
	}
	return frame, chunk[end:], nil
}
