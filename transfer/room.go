package transfer

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"os"

	"github.com/larder-cache/larder/engine"
)

// roomBytes is what a room holds in memory; what is beyond goes to a file.
const roomBytes = 1 << 20

// A room keeps bytes until they are read again, in memory or in a file that has no name and whose key nobody keeps: when the
// process ends, nothing can be read of it. It implements engine.Room.
type room struct {
	dir   string
	mem   bytes.Buffer
	file  *os.File
	block cipher.Block
	write cipher.Stream
	b     []byte
}

// Rooms makes rooms whose files lie in a directory.
func Rooms(dir string) func() (engine.Room, error) {
	return func() (engine.Room, error) { return &room{dir: dir}, nil }
}

// Write implements io.Writer.
func (r *room) Write(p []byte) (int, error) {
	if r.file == nil && r.mem.Len()+len(p) <= roomBytes {
		return r.mem.Write(p)
	}
	if r.file == nil {
		if err := r.open(); err != nil {
			return 0, err
		}
		held := r.mem.Bytes()
		r.mem = bytes.Buffer{}
		if err := r.put(held); err != nil {
			return 0, err
		}
	}
	if err := r.put(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// open makes the file, which has its name for no longer than it takes to make it.
func (r *room) open() error {
	key := make([]byte, 32)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(r.dir, "export-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	r.file, r.block, r.write = f, block, cipher.NewCTR(block, make([]byte, aes.BlockSize))
	return nil
}

func (r *room) put(p []byte) error {
	r.b = append(r.b[:0], p...)
	r.write.XORKeyStream(r.b, r.b)
	_, err := r.file.Write(r.b)
	return err
}

// ReadAt implements io.ReaderAt.
func (r *room) ReadAt(p []byte, at int64) (int, error) {
	if r.file == nil {
		return bytes.NewReader(r.mem.Bytes()).ReadAt(p, at)
	}
	n, err := r.file.ReadAt(p, at)
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(at/aes.BlockSize))
	stream := cipher.NewCTR(r.block, counter[:])
	var skip [aes.BlockSize]byte
	stream.XORKeyStream(skip[:at%aes.BlockSize], skip[:at%aes.BlockSize])
	stream.XORKeyStream(p[:n], p[:n])
	return n, err
}

// Close implements io.Closer.
func (r *room) Close() error {
	r.mem = bytes.Buffer{}
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

var _ io.ReaderAt = (*room)(nil)
