package peerlink

import (
	"encoding/binary"
	"fmt"
	"io"
)

// A frame on the wire is its length (4 bytes, big-endian, of all that follows), its kind (1 byte) and its bytes.
const frameHead = 5

// appendFrame writes a frame whose bytes are those of all parts.
func appendFrame(dst []byte, kind byte, frame []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(frame)+1))
	return append(append(dst, kind), frame...)
}

// Sizes of a reader's buffer, in bytes.
const (
	readBuffer = 64 << 10 // while frames are small
	readStep   = 1 << 20  // by how much it grows at the most before the bytes are there
)

// A reader cuts a stream of bytes into frames.
//
//	F1: buf[start:end] has been read and not yet handed out
//	F2: buf is at most readStep longer than twice what has been read, whatever length a frame claims
type reader struct {
	from       io.Reader
	most       int    // bytes of a frame
	heard      func() // called whenever bytes have come
	buf        []byte
	start, end int
}

// next returns the next frame, which is valid until the call after it.
func (r *reader) next() (kind byte, frame []byte, err error) {
	if err := r.need(frameHead); err != nil {
		return 0, nil, err
	}
	size := int(binary.BigEndian.Uint32(r.buf[r.start:]))
	if size < 1 || size-1 > r.most {
		return 0, nil, fmt.Errorf("peerlink: a frame of %d bytes: 1 to %d are read", size, r.most+1)
	}
	if err := r.need(4 + size); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	all := r.buf[r.start+4 : r.start+4+size]
	r.start += 4 + size
	return all[0], all[1:], nil
}

// whole reports whether the next frame has been read.
func (r *reader) whole() bool {
	return r.end-r.start >= frameHead && r.end-r.start-4 >= int(binary.BigEndian.Uint32(r.buf[r.start:]))
}

// need reads until there are so many bytes.
func (r *reader) need(size int) error {
	for r.end-r.start < size {
		r.room(size)
		n, err := r.from.Read(r.buf[r.end:])
		r.end += n
		if n > 0 {
			r.heard()
			continue
		}
		if err != nil {
			if err == io.EOF && r.end > r.start {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

// room makes room for more bytes of a frame of size bytes (F2), and gives a large buffer back when it is not needed.
func (r *reader) room(size int) {
	have := r.end - r.start
	if have == 0 {
		r.start, r.end = 0, 0
		if len(r.buf) > readStep && size <= readBuffer {
			r.buf = nil
		}
	}
	if r.start+size <= len(r.buf) && r.end < len(r.buf) {
		return
	}
	want := max(readBuffer, min(size, 2*have+readStep))
	if want <= len(r.buf) && r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
		return
	}
	if r.end < len(r.buf) && want <= len(r.buf) {
		return
	}
	larger := make([]byte, want)
	r.end = copy(larger, r.buf[r.start:r.end])
	r.start, r.buf = 0, larger
}
