package seal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A carried file is a sealed one behind a passport: its head once more, whose data key the master key itself has wrapped, and for whom. Who has the same master key
// opens it, for that one, without the key-encryption key that the file was sealed with; nobody else does. The passport's key is bound to all that says whose the file is, as
// the file's own is, to whom it is for, and to being a passport's: neither stands in for the other.
//
//	"LARP", version 1 (2 bytes), length of the passport (4 bytes), the passport in JSON; the sealed file
type passport struct {
	Head
	For string `json:"for"` // the id of a tenant, wherever that is

	master KMS
}

const passportMagic = "LARP"

// carried is what a passport's data key is bound to.
func (p *passport) carried() []byte {
	return append(append([]byte("larder carried 1\x00"), p.For...), append([]byte{0}, p.context()...)...)
}

// Passport makes what stands in front of a carried file for a tenant. from opens h's data key, and master wraps it.
func Passport(ctx context.Context, h Head, to string, from, master KMS) ([]byte, error) {
	p := passport{Head: h, For: to}
	key, err := from.Unwrap(ctx, h.DataKey, h.context())
	if err != nil {
		return nil, fmt.Errorf("unwrapping the data key: %w", err)
	}
	defer clear(key)
	if p.DataKey, err = master.Wrap(ctx, key, p.carried()); err != nil {
		return nil, fmt.Errorf("wrapping a data key: %w", err)
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	b := binary.BigEndian.AppendUint16([]byte(passportMagic), version)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(text))), text...), nil
}

// OpenCarried reads a carried file of a kind that is for a tenant. What Open says of the reader holds here too.
func OpenCarried(ctx context.Context, r io.Reader, master KMS, kind, to string) (Head, io.Reader, error) {
	p := passport{master: master}
	if _, err := readHead(r, passportMagic, &p); err != nil {
		return p.Head, nil, err
	}
	for _, s := range []string{p.Kind, p.Cluster, p.Tenant, p.Cache, p.ID, to} {
		if s == "" {
			return p.Head, nil, fmt.Errorf("%w: its passport does not say whose it is", ErrDamaged)
		}
	}
	if p.Kind != kind || p.For != to {
		return p.Head, nil, fmt.Errorf("%w: it is a %.80q for %.80q, not a %s for %s", ErrDamaged, p.Kind, p.For, kind, to)
	}
	return Open(ctx, r, &p, Head{Kind: p.Kind, Cluster: p.Cluster, Tenant: p.Tenant, Cache: p.Cache, ID: p.ID})
}

// Wrap implements KMS.
func (p *passport) Wrap(context.Context, []byte, []byte) (Wrapped, error) {
	return Wrapped{}, errors.New("seal: a passport wraps nothing")
}

// Unwrap implements KMS, for the one file that the passport is of.
func (p *passport) Unwrap(ctx context.Context, _ Wrapped, context []byte) ([]byte, error) {
	if !bytes.Equal(context, p.context()) {
		return nil, fmt.Errorf("%w: its passport is another's", ErrDamaged)
	}
	return p.master.Unwrap(ctx, p.DataKey, p.carried())
}
