package snapshots

import (
	"context"
	"fmt"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/internal/seal"
)

// tenantKeys are the tenants' keys, wrapped by the master key. They stand in the control data alone: when a tenant's record is
// gone, nobody reads its snapshots again.
type tenantKeys struct {
	table   *records.Table[tenantKey]
	kms     seal.KMS
	cluster string
}

type tenantKey struct {
	ID      string       `json:"id"`
	Wrapped seal.Wrapped `json:"wrapped"`
}

func (k *tenantKeys) context(tenant string) []byte {
	return fmt.Appendf(nil, "larder tenant key 1/%s/%s", k.cluster, tenant)
}

// of returns a tenant's key, and makes it for its first snapshot.
func (k *tenantKeys) of(ctx context.Context, tenant string) (seal.KMS, error) {
	for range 2 {
		if r, ok := k.table.Get(tenant); ok {
			b, err := k.kms.Unwrap(ctx, r.Wrapped, k.context(tenant))
			if err != nil {
				return nil, fmt.Errorf("unwrapping the tenant's key: %w", err)
			}
			return seal.Key{ID: r.ID, Bytes: b}, nil
		}
		key := seal.NewKey()
		wrapped, err := k.kms.Wrap(ctx, key.Bytes, k.context(tenant))
		if err != nil {
			return nil, fmt.Errorf("wrapping a tenant's key: %w", err)
		}
		if err := k.table.Create(ctx, tenant, &tenantKey{ID: key.ID, Wrapped: wrapped}); err != nil && !fault.Is(err, fault.Conflict) {
			return nil, err
		}
	}
	return nil, fault.New(fault.Unavailable, "snapshots.key", "the tenant's key cannot be read back at the moment")
}
