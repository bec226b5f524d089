package replication

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/larder-cache/larder/internal/seal"
)

// A shelf is where a Vault's files lie, beside its log: each whole or not there, also after a crash.
type shelf interface {
	// list names the files.
	list() ([]string, error)
	// write makes a file, which is on disk under its name when write returns.
	write(name string, fill func(io.Writer) error) error
	open(name string) (io.ReadCloser, error)
	// remove removes files, which stay away when remove returns. Those that are not there are removed.
	remove(names ...string) error
}

// A dirShelf is a directory of the operating system's.
type dirShelf string

func (d dirShelf) list() (names []string, err error) {
	all, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range all {
		names = append(names, e.Name())
	}
	return names, err
}

func (d dirShelf) write(name string, fill func(io.Writer) error) error {
	f, err := seal.CreateFile(filepath.Join(string(d), name))
	if err != nil {
		return err
	}
	if err := fill(f); err != nil {
		return errors.Join(err, f.Discard())
	}
	return f.Commit()
}

func (d dirShelf) open(name string) (io.ReadCloser, error) {
	return os.Open(filepath.Join(string(d), name))
}

func (d dirShelf) remove(names ...string) error {
	if len(names) == 0 {
		return nil
	}
	for _, name := range names {
		if err := os.Remove(filepath.Join(string(d), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return seal.SyncDir(string(d))
}

// unfinished reports whether a file was being written when its process ended.
func unfinished(name string) bool { return strings.HasSuffix(name, seal.Unfinished) }
