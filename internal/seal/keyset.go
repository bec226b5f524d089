package seal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// A Keyset is a KMS whose keys lie in a file that only its owner may read. The last key wraps; all of them unwrap.
type Keyset struct {
	path string

	mu   sync.RWMutex
	keys []keysetKey
}

type keysetKey struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Key     []byte    `json:"key"` // 32 bytes
}

type keysetFile struct {
	Format int         `json:"format"`
	Keys   []keysetKey `json:"keys"` // the oldest first
}

// OpenKeyset reads a keyset, and makes one with a new key where there is no file; made says so.
func OpenKeyset(path string) (k *Keyset, made bool, err error) {
	k = &Keyset{path: path}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return k, true, k.Rotate()
	}
	if err != nil {
		return nil, false, err
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		return nil, false, fmt.Errorf("%s: others than its owner may read the keys (mode %o): chmod 600 it", path, info.Mode().Perm())
	}
	var f keysetFile
	if err := json.Unmarshal(text, &f); err != nil || f.Format != 1 || len(f.Keys) == 0 {
		return nil, false, fmt.Errorf("%s: this is no keyset", path)
	}
	for _, key := range f.Keys {
		if len(key.Key) != keyBytes || key.ID == "" {
			return nil, false, fmt.Errorf("%s: key %q has %d bytes, should have %d", path, key.ID, len(key.Key), keyBytes)
		}
	}
	k.keys = f.Keys
	return k, false, nil
}

// Rotate adds a key, which wraps from now on. What the others wrapped is still unwrapped.
func (k *Keyset) Rotate() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := keysetKey{ID: newID(), Created: time.Now().UTC().Truncate(time.Second), Key: make([]byte, keyBytes)}
	rand.Read(key.Key)
	return k.write(append(slices.Clone(k.keys), key))
}

func newID() string {
	var id [8]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}

// Wrap implements KMS.
func (k *Keyset) Wrap(_ context.Context, key, context []byte) (Wrapped, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	last := k.keys[len(k.keys)-1]
	b, err := wrap(last.Key, key, context)
	return Wrapped{Key: last.ID, Bytes: b}, err
}

// Unwrap implements KMS.
func (k *Keyset) Unwrap(_ context.Context, w Wrapped, context []byte) ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, key := range k.keys {
		if key.ID == w.Key {
			return unwrap(key.Key, w.Bytes, context)
		}
	}
	return nil, fmt.Errorf("%w: the keyset %s has no key %.40q: the file was sealed with another keyset", ErrNoKey, k.path, w.Key)
}

// Newest is the id of the key that wraps.
func (k *Keyset) Newest() string {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return k.keys[len(k.keys)-1].ID
}

// Has reports whether a key is in the keyset.
func (k *Keyset) Has(id string) bool {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return slices.ContainsFunc(k.keys, func(key keysetKey) bool { return key.ID == id })
}

// Export writes all keys, as Adopt reads them: for another node of the same cluster, over a link that proves who it is, and nobody else.
func (k *Keyset) Export() ([]byte, error) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	return json.Marshal(keysetFile{Format: 1, Keys: k.keys})
}

// Adopt adds the keys of another node, and has newest wrap from now on.
func (k *Keyset) Adopt(text []byte, newest string) error {
	var f keysetFile
	if err := json.Unmarshal(text, &f); err != nil || f.Format != 1 {
		return errors.New("this is no keyset")
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	keys := slices.Clone(k.keys)
	for _, key := range f.Keys {
		known := slices.ContainsFunc(keys, func(own keysetKey) bool { return own.ID == key.ID })
		if len(key.Key) != keyBytes || key.ID == "" {
			return fmt.Errorf("key %.40q has %d bytes, should have %d", key.ID, len(key.Key), keyBytes)
		}
		if !known {
			keys = append(keys, key)
		}
	}
	at := slices.IndexFunc(keys, func(key keysetKey) bool { return key.ID == newest })
	if at < 0 {
		return fmt.Errorf("%w: key %.40q is not among those of the other node either", ErrNoKey, newest)
	}
	wraps := keys[at]
	return k.write(append(slices.Delete(keys, at, at+1), wraps))
}

// write keeps the keys, first in the file. The caller holds the lock.
func (k *Keyset) write(keys []keysetKey) error {
	text, err := json.MarshalIndent(keysetFile{Format: 1, Keys: keys}, "", "  ")
	if err != nil {
		return err
	}
	if err := WriteFile(k.path, append(text, '\n')); err != nil {
		return err
	}
	k.keys = keys
	return nil
}

// A Key is a KMS of one key, which its owner keeps: a tenant's.
type Key struct {
	ID    string
	Bytes []byte
}

// NewKey makes a key.
func NewKey() Key {
	k := Key{ID: newID(), Bytes: make([]byte, keyBytes)}
	rand.Read(k.Bytes)
	return k
}

// Wrap implements KMS.
func (k Key) Wrap(_ context.Context, key, context []byte) (Wrapped, error) {
	b, err := wrap(k.Bytes, key, context)
	return Wrapped{Key: k.ID, Bytes: b}, err
}

// Unwrap implements KMS.
func (k Key) Unwrap(_ context.Context, w Wrapped, context []byte) ([]byte, error) {
	if w.Key != k.ID {
		return nil, fmt.Errorf("%w: the file was sealed with key %.40q, not with %s", ErrNoKey, w.Key, k.ID)
	}
	return unwrap(k.Bytes, w.Bytes, context)
}

// WriteFile writes a file that only its owner may read, whole or not at all, and returns when a crash would not lose it.
func WriteFile(path string, data []byte) error {
	f, err := CreateFile(path)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Discard())
	}
	return f.Commit()
}

// A File is one that does not have its name until it is whole.
type File struct {
	*os.File
	path string
}

// Unfinished is how the name of a file that is not whole ends.
const Unfinished = ".unfinished"

// CreateFile begins to write a file that only its owner may read.
func CreateFile(path string) (*File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+Unfinished, os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	return &File{f, path}, nil
}

// Commit gives the file its name. It is on disk then.
func (f *File) Commit() error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), f.path); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(f.path))
}

// Discard removes it.
func (f *File) Discard() error {
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// SyncDir returns when the names in a directory are on disk.
func SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
