package wal

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/larder-cache/larder/internal/seal"
)

// Files are what a log needs of a directory. Tests have one that forgets what was not synced.
type Files interface {
	// List names the files.
	List() ([]string, error)
	// Create makes a file that was not there, with room for so many bytes, which read as zeros.
	Create(name string, room int64) (File, error)
	// Open opens a file that is there.
	Open(name string) (File, error)
	// Remove removes a file.
	Remove(name string) error
	// Sync returns when a crash would not change what names there are.
	Sync() error
}

// A File is written by one goroutine.
type File interface {
	io.ReaderAt
	io.WriterAt
	Size() (int64, error)
	Truncate(size int64) error
	// Sync returns when a crash would not lose what was written.
	Sync() error
	Close() error
}

// Dir is a directory of the operating system's.
type Dir string

// List implements Files.
func (d Dir) List() (names []string, err error) {
	list, err := os.ReadDir(string(d))
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names, err
}

// Create implements Files.
func (d Dir) Create(name string, room int64) (File, error) {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := allocate(f, room); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return osFile{f}, nil
}

// Open implements Files.
func (d Dir) Open(name string) (File, error) {
	f, err := os.OpenFile(filepath.Join(string(d), name), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Remove implements Files.
func (d Dir) Remove(name string) error { return os.Remove(filepath.Join(string(d), name)) }

// Sync implements Files.
func (d Dir) Sync() error { return seal.SyncDir(string(d)) }

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// noSpace reports whether an error says that the disk is full, which may pass.
func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
