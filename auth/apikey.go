// Package auth turns a credential into a principal, or refuses it.
//
// The files of the first layer are pure: they read no clock, no store and no network, and every
// instant they need is an argument.
//
//	apikey.go   the text of an API key, and how it is compared with what we stored
//	jwt.go      Verifier, the strict reader of tokens; Refusal, the one way to say no
//	signer.go   Signer, which mints our own tokens, and the rotation of its keys
//	jwks.go     public keys: the checks they pass when loaded, and the JWKS document
//
// The promises of this layer: a credential is refused by its shape before anything is looked up; a
// refusal never repeats what the credential said; a claim is shown to nobody before its signature
// was checked.
//
// The second layer keeps the records, in etcd, and answers from memory:
//
//	principal.go      Principal, who is asking, and what it may do
//	store.go          Store: where the records lie, what their changes end, the signing keys
//	keys.go           API keys: made, rotated, revoked, and when they were last used
//	roles.go          roles and policies, and what they come to when compiled
//	tokens.go         tokens: minted, listed, revoked
//	simulate.go       what a principal might do, decided without doing it
//	authenticator.go  Authenticator, from the text of a credential to its principal
//	attempts.go       who guesses, and has to wait
//
// Its promises are those of Store, Authenticator and Principal. Start with Authenticator.Authenticate.
package auth

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"hash/crc32"
	"io"
)

// A KeyKind says what an API key is for. It stands in the text of the key, so that a person, or a
// scanner of leaked secrets, can tell a live key from a test key at a glance.
type KeyKind string

const (
	LiveKey KeyKind = "live"
	TestKey KeyKind = "test"
)

// The text of an API key is
//
//	lk_live_  id (12)  _  secret (43)  checksum (6)
//
// with live or test after the first mark. All but the marks is base62, so a double click selects
// the whole of it. The checksum is the CRC-32 (IEEE) of everything before it: it finds typing
// errors and cut pastes without a look-up, and proves nothing.
const (
	keyIDLen       = 12
	keySecretLen   = 43 // 43 uniform base62 characters carry 256.03 bits
	keyChecksumLen = 6  // 62^6 > 2^32

	keyIDAt       = len("lk_live_")
	keySecretAt   = keyIDAt + keyIDLen + len("_")
	keyChecksumAt = keySecretAt + keySecretLen
	keyLen        = keyChecksumAt + keyChecksumLen
)

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// A Digest is the SHA-256 of a credential's text, and the only form in which a key is stored. A fast
// hash is the right one here: the secret has 256 random bits, so guessing is hopeless at any speed.
type Digest [sha256.Size]byte

// An APIKey is what remains of a key once its text was shown to its owner.
type APIKey struct {
	ID     string
	Kind   KeyKind
	Digest Digest
}

// NewAPIKey draws a key from random, which is crypto/rand.Reader everywhere but in tests. The second
// result is the key's text: show it once, store it never.
func NewAPIKey(kind KeyKind, random io.Reader) (APIKey, string, error) {
	if kind != LiveKey && kind != TestKey {
		return APIKey{}, "", fmt.Errorf("auth: key kind %q: want %q or %q", kind, LiveKey, TestKey)
	}
	text := make([]byte, 0, keyLen)
	text = append(text, "lk_"...)
	text = append(text, kind...)
	text = append(text, '_')
	text, err := appendBase62(text, random, keyIDLen)
	if err != nil {
		return APIKey{}, "", err
	}
	text = append(text, '_')
	if text, err = appendBase62(text, random, keySecretLen); err != nil {
		return APIKey{}, "", err
	}
	sum := keyChecksum(string(text))
	text = append(text, sum[:]...)
	key := APIKey{ID: string(text[keyIDAt : keyIDAt+keyIDLen]), Kind: kind, Digest: Hash(string(text))}
	return key, string(text), nil
}

// appendBase62 appends n characters, each of the 62 equally likely: a byte of 248 or more is drawn
// again, because 256 is no multiple of 62.
func appendBase62(dst []byte, random io.Reader, n int) ([]byte, error) {
	var draw [64]byte
	for n > 0 {
		if _, err := io.ReadFull(random, draw[:]); err != nil {
			return nil, fmt.Errorf("auth: reading randomness: %w", err)
		}
		for _, b := range draw {
			if b < 248 && n > 0 {
				dst = append(dst, base62[b%62])
				n--
			}
		}
	}
	return dst, nil
}

// A ParsedKey is a key text whose shape and checksum are right. Whether such a key exists is for the
// store to say. ID shares memory with the text: clone it before keeping it for long.
type ParsedKey struct {
	ID   string
	Kind KeyKind
}

var (
	errKeyLength   = refuse(Malformed, "API key: wrong length")
	errKeyShape    = refuse(Malformed, "API key: wrong shape")
	errKeyChecksum = refuse(Malformed, "API key: wrong checksum")
)

// ParseAPIKey refuses a text that cannot be a key of ours, at no cost but reading it.
func ParseAPIKey(text string) (ParsedKey, error) {
	if len(text) != keyLen {
		return ParsedKey{}, errKeyLength
	}
	kind := KeyKind(text[len("lk_") : keyIDAt-1])
	if text[:len("lk_")] != "lk_" || kind != LiveKey && kind != TestKey ||
		text[keyIDAt-1] != '_' || text[keySecretAt-1] != '_' {
		return ParsedKey{}, errKeyShape
	}
	for i := keyIDAt; i < keyLen; i++ {
		if c := text[i]; i != keySecretAt-1 &&
			(c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return ParsedKey{}, errKeyShape
		}
	}
	sum := keyChecksum(text[:keyChecksumAt])
	if text[keyChecksumAt:] != string(sum[:]) {
		return ParsedKey{}, errKeyChecksum
	}
	return ParsedKey{ID: text[keyIDAt : keyIDAt+keyIDLen], Kind: kind}, nil
}

// keyChecksum is the CRC-32 of text in base62, most significant digit first, padded with zeros. It
// walks the table itself because crc32.ChecksumIEEE would copy the string to the heap.
func keyChecksum(text string) [keyChecksumLen]byte {
	crc := ^uint32(0)
	for i := range len(text) {
		crc = crc32.IEEETable[byte(crc)^text[i]] ^ crc>>8
	}
	crc = ^crc
	var sum [keyChecksumLen]byte
	for i := len(sum) - 1; i >= 0; i-- {
		sum[i] = base62[crc%62]
		crc /= 62
	}
	return sum
}

// Hash is the digest under which a credential is stored and remembered. A text as short as an API key
// is copied to the stack first, for converting it would copy it to the heap.
func Hash(text string) Digest {
	var short [128]byte
	if n := copy(short[:], text); n == len(text) {
		return sha256.Sum256(short[:n])
	}
	return sha256.Sum256([]byte(text))
}

// nobody is the digest of no credential: all it does is take as long to compare as a real one.
var nobody = Digest{0: 0x6c, 31: 0x6b}

// Matches reports whether text is the key with the stored digest. With a nil digest, the caller's
// way to say that no key has this id, it does the same work and answers false, so that the time
// taken does not tell which ids exist.
func Matches(stored *Digest, text string) bool {
	want, known := &nobody, 0
	if stored != nil {
		want, known = stored, 1
	}
	got := Hash(text)
	return subtle.ConstantTimeCompare(want[:], got[:])&known == 1
}
