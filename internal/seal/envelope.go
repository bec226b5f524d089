package seal

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// An Envelope encrypts a file whose writer seals one piece after another, because it must be readable up to its end at any
// moment: a log. Its head and data key are those of a sealed file; its pieces are not segments of a stream.
//
// A piece is bound to its ordinal: one that stands elsewhere in the file does not open. An ordinal is used once in the life of a
// data key, or the encryption is broken; so a file that was opened again is never written on. One goroutine uses an Envelope.
type Envelope struct {
	aead  cipher.AEAD
	about []byte // a digest of the head, to which each piece is bound, and room behind it
}

// NewEnvelope makes an envelope with a new data key, and the head that the file begins with.
func NewEnvelope(ctx context.Context, kms KMS, h Head) (e *Envelope, head []byte, err error) {
	key := make([]byte, keyBytes)
	rand.Read(key)
	defer clear(key)
	if h.DataKey, err = kms.Wrap(ctx, key, h.context()); err != nil {
		return nil, nil, fmt.Errorf("wrapping a data key: %w", err)
	}
	text, err := json.Marshal(h)
	if err != nil {
		return nil, nil, err
	}
	if len(text) > maxHead {
		return nil, nil, fmt.Errorf("a head of %d bytes is too long: the limit is %d", len(text), maxHead)
	}
	head = binary.BigEndian.AppendUint16([]byte(magic), version)
	head = append(binary.BigEndian.AppendUint32(head, uint32(len(text))), text...)
	e, err = envelopeOf(key, head)
	return e, head, err
}

// OpenEnvelope reads the head of a file that NewEnvelope began, which has to be of the kind, cluster and id that want says. It
// returns how many bytes the head has.
func OpenEnvelope(ctx context.Context, r io.Reader, kms KMS, want Head) (e *Envelope, size int, err error) {
	h, raw, err := ReadHead(r)
	if err != nil {
		return nil, 0, err
	}
	if h.Kind != want.Kind || h.Cluster != want.Cluster || h.ID != want.ID {
		return nil, 0, fmt.Errorf("%w: it is %.80s %.80s of cluster %.80s, not %s %s of cluster %s", ErrDamaged, h.Kind, h.ID, h.Cluster, want.Kind, want.ID, want.Cluster)
	}
	key, err := kms.Unwrap(ctx, h.DataKey, h.context())
	if err != nil {
		return nil, 0, fmt.Errorf("unwrapping the data key: %w", err)
	}
	defer clear(key)
	if len(key) != keyBytes {
		return nil, 0, fmt.Errorf("%w: a data key of %d bytes", ErrDamaged, len(key))
	}
	e, err = envelopeOf(key, raw)
	return e, len(raw), err
}

func envelopeOf(key, head []byte) (*Envelope, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	sum := sha256.Sum256(head)
	return &Envelope{aead, sum[:]}, err
}

// Overhead is by how many bytes a piece gets longer.
func (e *Envelope) Overhead() int { return e.aead.Overhead() }

// Seal encrypts a piece behind dst. about is not encrypted, and bound to it.
func (e *Envelope) Seal(dst []byte, ordinal uint64, plain, about []byte) []byte {
	return e.aead.Seal(dst, nonceOf(ordinal), plain, e.with(about))
}

// Open decrypts a piece behind dst.
func (e *Envelope) Open(dst []byte, ordinal uint64, sealed, about []byte) ([]byte, error) {
	plain, err := e.aead.Open(dst, nonceOf(ordinal), sealed, e.with(about))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

func (e *Envelope) with(about []byte) []byte {
	e.about = append(e.about[:sha256.Size], about...)
	return e.about
}

func nonceOf(ordinal uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 4, 12), ordinal)
}
