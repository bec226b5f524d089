// Package kms has master keys that never leave a key management service: AWS KMS, Google Cloud KMS, Azure Key Vault, or the transit engine of
// HashiCorp Vault and OpenBao.
//
// gocloud.dev/secrets has one small interface to all of them, without additional data. So what a wrapped key is bound to lies inside of what
// is encrypted, as a hash behind the key, and is compared when it comes back: a wrapped key that is put in another's place does not unwrap.
//
// A key is rotated in the service: it decrypts with every version that it keeps, and encrypts with the newest. Start with Open.
package kms

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/url"
	"time"

	"gocloud.dev/secrets"

	"github.com/larder-cache/larder/internal/seal"
)

// callTime bounds one call of the service.
const callTime = 10 * time.Second

// A Key is a seal.KMS whose key is in a service.
type Key struct {
	name   string
	keeper *secrets.Keeper
}

// Open connects to the key that a URL names: awskms://ALIAS?region=…, gcpkms://projects/…, azurekeyvault://HOST/keys/NAME or hashivault://NAME. Whoever
// calls it imports the drivers of gocloud.dev that it wants; credentials come from where the provider's own tools take them.
func Open(ctx context.Context, at string) (*Key, error) {
	u, err := url.Parse(at)
	if err != nil || u.Scheme == "" {
		return nil, errors.New("a master key is a URL such as awskms://alias/larder?region=eu-central-1 or hashivault://larder")
	}
	if u.User != nil {
		return nil, errors.New("credentials do not belong into the URL: they come from where the provider's own tools take them")
	}
	keeper, err := secrets.OpenKeeper(ctx, at)
	if err != nil {
		return nil, err
	}
	u.RawQuery = ""
	return &Key{u.String(), keeper}, nil
}

// Close ends the connection.
func (k *Key) Close() error { return k.keeper.Close() }

// Name is what wrapped keys say wrapped them.
func (k *Key) Name() string { return k.name }

// bound is the hash behind a key.
func bound(context []byte) [sha256.Size]byte {
	return sha256.Sum256(append([]byte("larder kms 1\n"), context...))
}

// Wrap implements seal.KMS.
func (k *Key) Wrap(ctx context.Context, key, to []byte) (seal.Wrapped, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	sum := bound(to)
	plain := append(append(make([]byte, 0, len(key)+len(sum)), key...), sum[:]...)
	defer clear(plain)
	b, err := k.keeper.Encrypt(ctx, plain)
	if err != nil {
		return seal.Wrapped{}, fmt.Errorf("%s: %w", k.name, err)
	}
	return seal.Wrapped{Key: k.name, Bytes: b}, nil
}

// Unwrap implements seal.KMS.
func (k *Key) Unwrap(ctx context.Context, w seal.Wrapped, to []byte) ([]byte, error) {
	if w.Key != k.name {
		return nil, fmt.Errorf("%w: it was wrapped by %.100q, and the master key here is %s", seal.ErrNoKey, w.Key, k.name)
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	plain, err := k.keeper.Decrypt(ctx, w.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.name, err)
	}
	sum := bound(to)
	at := len(plain) - len(sum)
	if at < 0 || subtle.ConstantTimeCompare(plain[at:], sum[:]) != 1 {
		clear(plain)
		return nil, fmt.Errorf("%w: its key was wrapped for something else", seal.ErrDamaged)
	}
	return plain[:at:at], nil
}

// A Chain wraps with its first KMS, and unwraps with whichever of them knows the key: what an earlier master key has wrapped stays readable
// until it has been wrapped anew.
type Chain []seal.KMS

// Wrap implements seal.KMS.
func (c Chain) Wrap(ctx context.Context, key, to []byte) (seal.Wrapped, error) {
	return c[0].Wrap(ctx, key, to)
}

// Unwrap implements seal.KMS.
func (c Chain) Unwrap(ctx context.Context, w seal.Wrapped, to []byte) (key []byte, err error) {
	for _, k := range c {
		if key, err = k.Unwrap(ctx, w, to); !errors.Is(err, seal.ErrNoKey) {
			return key, err
		}
	}
	return nil, err
}
