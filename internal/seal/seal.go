// Package seal keeps what is written to disk or to a store unreadable without a key, and notices every change to it.
//
// A sealed file is encrypted with a data key of its own. That key stands in the file's head, wrapped by a key-encryption key:
// a tenant's, which is wrapped in its turn by the master key, or the master key itself for what belongs to a node. So a
// key-encryption key can be replaced without touching data, and a tenant's files become unreadable when its key is destroyed.
//
// The head is bound to the contents: a file under another tenant, cache or name, or of another version, does not open. The
// contents are encrypted in segments, each with its place and the last one with a mark, so a file that is cut off, longer,
// reordered or changed in any byte is refused where the damage is. Start with Writer and Open; docs/reference/snapshot-format.md
// has the bytes.
package seal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tink-crypto/tink-go/v2/streamingaead/subtle"
)

// A KMS wraps keys with one that it does not give away. Its methods may be called by several goroutines.
type KMS interface {
	// Wrap encrypts a key, bound to context.
	Wrap(ctx context.Context, key, context []byte) (Wrapped, error)
	// Unwrap gives the key back, if context is the same.
	Unwrap(ctx context.Context, w Wrapped, context []byte) ([]byte, error)
}

// Wrapped is a key that a KMS has encrypted.
type Wrapped struct {
	Key   string `json:"key"`   // the name and version of the key that wrapped it
	Bytes []byte `json:"bytes"` // in base64 where it is JSON
}

// A Head says in plain text what a sealed file is. What stands in it is bound to the contents.
type Head struct {
	Kind    string    `json:"kind"` // snapshot, handover
	Cluster string    `json:"cluster"`
	Tenant  string    `json:"tenant,omitempty"` // ids, which are never used again, not names
	Cache   string    `json:"cache,omitempty"`
	ID      string    `json:"id"` // of the file, among those of its kind
	Created time.Time `json:"created"`
	DataKey Wrapped   `json:"data_key"`
}

// context is what the data key is bound to: all that says whose the file is.
func (h *Head) context() []byte {
	b := []byte("larder data key 1")
	for _, s := range []string{h.Kind, h.Cluster, h.Tenant, h.Cache, h.ID} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	return b
}

// The bytes of a sealed file's beginning: see docs/reference/snapshot-format.md.
const (
	magic   = "LARD"
	version = 1
	prefix  = len(magic) + 2 + 4

	maxHead = 64 << 10 // bytes

	keyBytes     = 32
	segmentBytes = 1 << 20
)

// Errors about files. All that Open and a reader of it return wraps one of them, or is an error of the source or of the KMS.
var (
	ErrForeign = errors.New("this is no sealed file, or one of a version that is not known here")
	ErrNoKey   = errors.New("the key that wrapped it is not here")
	ErrDamaged = errors.New("the file is damaged or cut off, or is not what it is said to be")
)

func cipherOf(key []byte) (*subtle.AESGCMHKDF, error) {
	return subtle.NewAESGCMHKDF(key, "SHA256", keyBytes, segmentBytes, 0)
}

// Writer writes a head, and encrypts what is written to it. Only when Close has returned nil is the file whole. Closing it
// does not close w.
func Writer(ctx context.Context, w io.Writer, kms KMS, h Head) (io.WriteCloser, error) {
	o, err := Begin(ctx, kms, h)
	if err != nil {
		return nil, err
	}
	defer o.Clear()
	return o.Writer(w)
}

// An Opening is what it takes to write the contents of a sealed file, or to read them: its head, as it stands in the file, and its data
// key. Who has it needs no KMS. It is a secret, and goes to nobody but another process of this program.
type Opening struct {
	Head []byte
	Key  []byte
}

// Clear forgets the key.
func (o *Opening) Clear() { clear(o.Key) }

// Begin makes a head and a data key for a file that is to be written.
func Begin(ctx context.Context, kms KMS, h Head) (o *Opening, err error) {
	o = &Opening{Key: make([]byte, keyBytes)}
	rand.Read(o.Key)
	defer func() {
		if err != nil {
			o.Clear()
		}
	}()
	if h.DataKey, err = kms.Wrap(ctx, o.Key, h.context()); err != nil {
		return nil, fmt.Errorf("wrapping a data key: %w", err)
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(text) > maxHead {
		return nil, fmt.Errorf("a head of %d bytes is too long: the limit is %d", len(text), maxHead)
	}
	head := binary.BigEndian.AppendUint16([]byte(magic), version)
	o.Head = append(binary.BigEndian.AppendUint32(head, uint32(len(text))), text...)
	return o, nil
}

// Writer writes the head, and encrypts what is written to it: see the function of this name. An opening is for one file.
func (o *Opening) Writer(w io.Writer) (io.WriteCloser, error) {
	if _, err := w.Write(o.Head); err != nil {
		return nil, err
	}
	stream, err := cipherOf(o.Key)
	if err != nil {
		return nil, err
	}
	return stream.NewEncryptingWriter(w, o.Head)
}

// Reader opens the contents, which r has behind the head: see Open.
func (o *Opening) Reader(r io.Reader) (io.Reader, error) {
	if len(o.Key) != keyBytes {
		return nil, fmt.Errorf("%w: a data key of %d bytes", ErrDamaged, len(o.Key))
	}
	stream, err := cipherOf(o.Key)
	if err != nil {
		return nil, err
	}
	source := &source{r: r}
	plain, err := stream.NewDecryptingReader(source, o.Head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, errors.Join(err, source.err))
	}
	return &sticky{r: plain, source: source}, nil
}

// ReadHead reads the head of a sealed file, which nothing vouches for before the contents have been opened with it. raw is as it
// stands in the file.
func ReadHead(r io.Reader) (h Head, raw []byte, err error) {
	raw, err = readHead(r, magic, &h)
	return h, raw, err
}

// readHead reads a head behind a magic word into h.
func readHead(r io.Reader, magic string, h any) (raw []byte, err error) {
	raw = make([]byte, prefix)
	if _, err := io.ReadFull(r, raw); err != nil || string(raw[:len(magic)]) != magic || binary.BigEndian.Uint16(raw[len(magic):]) != version {
		return nil, ErrForeign
	}
	n := binary.BigEndian.Uint32(raw[len(magic)+2:])
	if n > maxHead {
		return nil, fmt.Errorf("%w: its head has %d bytes, the limit is %d", ErrDamaged, n, maxHead)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, fmt.Errorf("%w: its head is cut off", ErrDamaged)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(h); err != nil {
		return nil, fmt.Errorf("%w: its head cannot be read", ErrDamaged)
	}
	return append(raw, text...), nil
}

// Rewrap has the newest key of a KMS wrap a file's data key anew. The file stays as it is: who has the result opens it with a Head that has it.
func Rewrap(ctx context.Context, kms KMS, h Head) (Wrapped, error) {
	key, err := kms.Unwrap(ctx, h.DataKey, h.context())
	if err != nil {
		return Wrapped{}, fmt.Errorf("unwrapping the data key: %w", err)
	}
	defer clear(key)
	return kms.Wrap(ctx, key, h.context())
}

// Open reads a sealed file. Its head must be what is wanted, in all fields that want sets but Created and DataKey; that is looked at
// before any key is. A DataKey that is wanted was wrapped anew since, and is taken in the place of the one in the head. The first error of the reader is its last: nothing behind damage is ever shown, and only io.EOF says
// that all was read.
func Open(ctx context.Context, r io.Reader, kms KMS, want Head) (Head, io.Reader, error) {
	h, o, err := Unlock(ctx, r, kms, want)
	if err != nil {
		return h, nil, err
	}
	defer o.Clear()
	plain, err := o.Reader(r)
	return h, plain, err
}

// Unlock is Open without the contents, which stand behind what it has read of r: the head to its last byte.
func Unlock(ctx context.Context, r io.Reader, kms KMS, want Head) (Head, *Opening, error) {
	h, raw, err := ReadHead(r)
	if err != nil {
		return h, nil, err
	}
	for _, f := range []struct{ what, got, want string }{
		{"kind", h.Kind, want.Kind}, {"cluster", h.Cluster, want.Cluster}, {"tenant", h.Tenant, want.Tenant}, {"cache", h.Cache, want.Cache}, {"id", h.ID, want.ID},
	} {
		if f.want != "" && f.got != f.want {
			return h, nil, fmt.Errorf("%w: its %s is %.80q, not %.80q", ErrDamaged, f.what, f.got, f.want)
		}
	}
	if want.DataKey.Bytes != nil {
		h.DataKey = want.DataKey
	}
	key, err := kms.Unwrap(ctx, h.DataKey, h.context())
	if err != nil {
		return h, nil, fmt.Errorf("unwrapping the data key: %w", err)
	}
	return h, &Opening{raw, key}, nil
}

// A source keeps the error of what is read, which decryption does not pass on.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// A sticky reader never reads on after an error. Tink's own does: asked again after a segment that does not fit, it shows the
// next one, and at the end of a truncated file it may say io.EOF.
type sticky struct {
	r      io.Reader
	source *source
	err    error
}

func (s *sticky) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if len(p) == 0 {
		return 0, nil
	}
	n, err := s.r.Read(p)
	switch {
	case err == nil:
		return n, nil
	case err == io.EOF && s.source.err == nil:
		s.err = io.EOF
	case s.source.err != nil:
		s.err = s.source.err
	default:
		s.err = fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return n, s.err
}

// wrap and unwrap encrypt a key by another with AES-256-GCM and a random nonce, which stands before.

func wrap(by, key, context []byte) ([]byte, error) {
	a, err := gcm(by)
	if err != nil {
		return nil, err
	}
	return a.Seal(nil, nil, key, context), nil
}

func unwrap(by, wrapped, context []byte) ([]byte, error) {
	a, err := gcm(by)
	if err != nil {
		return nil, err
	}
	key, err := a.Open(nil, nil, wrapped, context)
	if err != nil {
		return nil, fmt.Errorf("%w: its key was wrapped for something else", ErrDamaged)
	}
	return key, nil
}

func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}
