package snapshots

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/internal/seal"
)

// The keys of tenants. Each version is wrapped by the master key and stands in the control data alone: when a record is gone, nobody
// reads what was sealed with its keys.
//
//	K1: what a tenant seals is sealed with its newest key; every version in its record unseals
//	K2: a key is used by no node once its record says that it is shredded, or does not have it any more: nodes forget what they have
//	    unwrapped when they hear of that
//	K3: an unwrapped key is kept as long as its record has it, so that a KMS that is down stops nobody who had it before

// A tenantKey is the record of a tenant's keys.
type tenantKey struct {
	ID      string       `json:"id,omitempty"` // of the newest version; "" when all have been destroyed
	Wrapped seal.Wrapped `json:"wrapped"`
	Made    time.Time    `json:"made,omitzero"`
	Older   []olderKey   `json:"older,omitempty"`

	Shredded  time.Time `json:"shredded,omitzero"`   // when somebody had them shredded: they are used no more
	DestroyAt time.Time `json:"destroy_at,omitzero"` // when they are destroyed, if nobody changes their mind before
	Destroyed time.Time `json:"destroyed,omitzero"`  // when the last ones were
}

type olderKey struct {
	ID      string       `json:"id"`
	Wrapped seal.Wrapped `json:"wrapped"`
	Made    time.Time    `json:"made,omitzero"`
}

// wrapped finds a version.
func (r *tenantKey) wrapped(id string) (seal.Wrapped, bool) {
	if id == r.ID && id != "" {
		return r.Wrapped, true
	}
	for _, o := range r.Older {
		if o.ID == id {
			return o.Wrapped, true
		}
	}
	return seal.Wrapped{}, false
}

// KeyInfo is what a tenant may know of its keys.
type KeyInfo struct {
	ID        string
	Made      time.Time
	Versions  int    // that unseal
	Master    string // the name of the key that wraps the newest
	Shredded  time.Time
	DestroyAt time.Time
	Destroyed time.Time
	Stale     int // snapshots whose data keys older versions wrap
}

// Bounds of keys.
const (
	MaxKeyVersions = 32
	ShredWait      = 7 * 24 * time.Hour // until shredded keys are destroyed
)

type tenantKeys struct {
	table   *records.Table[tenantKey]
	kms     seal.KMS
	cluster string

	mu   sync.Mutex
	open map[string]map[string][]byte // unwrapped, by tenant and id
}

func openTenantKeys(cfg Config) *tenantKeys {
	k := &tenantKeys{table: records.Open[tenantKey](cfg.Mirror, "tenant key", "tenant-keys", cfg.Log), kms: cfg.KMS, cluster: cfg.Cluster, open: map[string]map[string][]byte{}}
	k.table.OnChange(func(tenant string, _, now *tenantKey) { k.forget(tenant, now) })
	return k
}

// tenants are the ids of those who have keys, or had.
func (k *tenantKeys) tenants() []string { return k.table.Names() }

// forget drops what may not be used any more (K2).
func (k *tenantKeys) forget(tenant string, now *tenantKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, key := range k.open[tenant] {
		known := false
		if now != nil && now.Shredded.IsZero() {
			_, known = now.wrapped(id)
		}
		if !known {
			clear(key)
			delete(k.open[tenant], id)
		}
	}
}

func (k *tenantKeys) context(tenant string) []byte {
	return fmt.Appendf(nil, "larder tenant key 1/%s/%s", k.cluster, tenant)
}

var errShredded = fault.New(fault.Conflict, "snapshots.key", "the tenant's keys have been shredded: what was sealed with them cannot be read")

// of returns a tenant's keys. With make it gets its first one now, if it has none.
func (k *tenantKeys) of(ctx context.Context, tenant string, make bool) (seal.KMS, error) {
	for range 2 {
		r, ok := k.table.Get(tenant)
		switch {
		case ok && !r.Shredded.IsZero():
			return nil, errShredded
		case ok && (r.ID != "" || !make):
			ring := &tenantRing{k, tenant}
			if r.ID == "" {
				return ring, nil
			}
			_, err := ring.key(ctx, r.ID) // so that one who seals later finds it
			return ring, err
		case !make:
			return nil, fault.New(fault.NotFound, "snapshots.key", "the tenant has no key: nothing was sealed with one, or it has been destroyed")
		}
		next, err := k.generate(ctx, tenant)
		if err != nil {
			return nil, err
		}
		if ok {
			_, err = k.table.Update(ctx, tenant, func(now *tenantKey) error {
				if now.ID == "" {
					now.ID, now.Wrapped, now.Made = next.ID, next.Wrapped, next.Made
				}
				return nil
			})
		} else {
			err = k.table.Create(ctx, tenant, &tenantKey{ID: next.ID, Wrapped: next.Wrapped, Made: next.Made})
		}
		if err != nil && !fault.Is(err, fault.Conflict) {
			return nil, err
		}
	}
	return nil, fault.New(fault.Unavailable, "snapshots.key", "the tenant's key cannot be read back at the moment")
}

// generate makes a key and wraps it.
func (k *tenantKeys) generate(ctx context.Context, tenant string) (olderKey, error) {
	key := seal.NewKey()
	defer clear(key.Bytes)
	wrapped, err := k.kms.Wrap(ctx, key.Bytes, k.context(tenant))
	if err != nil {
		return olderKey{}, kmsDown(err)
	}
	return olderKey{ID: key.ID, Wrapped: wrapped, Made: time.Now().UTC().Truncate(time.Second)}, nil
}

// kmsDown is the error of a KMS that did not do what it was asked.
func kmsDown(err error) error {
	switch {
	case errors.Is(err, seal.ErrDamaged):
		return err
	case errors.Is(err, seal.ErrNoKey):
		return fault.Wrap(fault.Unavailable, "snapshots.key", err, "the master key that the tenant's key was wrapped by is not here")
	}
	return fault.Wrap(fault.Unavailable, "snapshots.key", err, "the key management service that has the master key did not wrap or unwrap a key")
}

// A tenantRing is a tenant's keys as a KMS.
type tenantRing struct {
	k      *tenantKeys
	tenant string
}

// key returns a version, unwrapped.
func (r *tenantRing) key(ctx context.Context, id string) (seal.Key, error) {
	k := r.k
	record, ok := k.table.Get(r.tenant)
	if !ok || !record.Shredded.IsZero() {
		return seal.Key{}, errShredded
	}
	wrapped, ok := record.wrapped(id)
	if !ok {
		return seal.Key{}, fault.New(fault.Conflict, "snapshots.key", "version %.40q of the tenant's key, which this was sealed with, has been retired or destroyed", id)
	}
	k.mu.Lock()
	b := slices.Clone(k.open[r.tenant][id])
	k.mu.Unlock()
	if b != nil {
		return seal.Key{ID: id, Bytes: b}, nil
	}
	b, err := k.kms.Unwrap(ctx, wrapped, k.context(r.tenant))
	if err != nil {
		return seal.Key{}, kmsDown(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	// Who shredded it meanwhile has been heard before this, or will be: forget holds the same lock.
	if now, ok := k.table.Get(r.tenant); ok && now.Shredded.IsZero() {
		if k.open[r.tenant] == nil {
			k.open[r.tenant] = map[string][]byte{}
		}
		k.open[r.tenant][id] = slices.Clone(b)
	}
	return seal.Key{ID: id, Bytes: b}, nil
}

// Wrap implements seal.KMS (K1).
func (r *tenantRing) Wrap(ctx context.Context, key, context []byte) (seal.Wrapped, error) {
	record, ok := r.k.table.Get(r.tenant)
	if !ok || record.ID == "" {
		return seal.Wrapped{}, errShredded
	}
	newest, err := r.key(ctx, record.ID)
	if err != nil {
		return seal.Wrapped{}, err
	}
	defer clear(newest.Bytes)
	return newest.Wrap(ctx, key, context)
}

// Unwrap implements seal.KMS.
func (r *tenantRing) Unwrap(ctx context.Context, w seal.Wrapped, context []byte) ([]byte, error) {
	key, err := r.key(ctx, w.Key)
	if err != nil {
		return nil, err
	}
	defer clear(key.Bytes)
	return key.Unwrap(ctx, w, context)
}

// Key tells of a tenant's keys; false when it has none yet.
func (s *Service) Key(tenant, tenantID string) (KeyInfo, bool) {
	r, ok := s.keys.table.Get(tenantID)
	if !ok {
		return KeyInfo{}, false
	}
	info := KeyInfo{ID: r.ID, Made: r.Made, Versions: len(r.Older), Master: r.Wrapped.Key, Shredded: r.Shredded, DestroyAt: r.DestroyAt, Destroyed: r.Destroyed}
	if r.ID != "" {
		info.Versions++
	}
	for _, snap := range s.ofTenant(tenant, tenantID) {
		if snap.State == Available && (snap.DataKey == nil && len(r.Older) > 0 || snap.DataKey != nil && snap.DataKey.Key != r.ID) {
			info.Stale++
		}
	}
	return info, true
}

// ofTenant lists all snapshots of a tenant.
func (s *Service) ofTenant(tenant, tenantID string) []*Snapshot {
	all, _ := s.table.List(tenant+"/", "", 0)
	return slices.DeleteFunc(all, func(snap *Snapshot) bool { return snap.TenantID != tenantID })
}

// RotateKey gives a tenant a new version of its key, which seals from now on.
func (s *Service) RotateKey(ctx context.Context, tenant, tenantID string) (KeyInfo, error) {
	if _, err := s.keys.of(ctx, tenantID, true); err != nil {
		return KeyInfo{}, err
	}
	next, err := s.keys.generate(ctx, tenantID)
	if err != nil {
		return KeyInfo{}, err
	}
	_, err = s.keys.table.Update(ctx, tenantID, func(r *tenantKey) error {
		switch {
		case !r.Shredded.IsZero():
			return errShredded
		case len(r.Older)+1 >= MaxKeyVersions:
			return fault.New(fault.Conflict, "snapshots.rotate_key", "a tenant's key has at most %d versions: rewrap, and retire the old ones", MaxKeyVersions)
		}
		r.Older = append(r.Older, olderKey{ID: r.ID, Wrapped: r.Wrapped, Made: r.Made})
		r.ID, r.Wrapped, r.Made = next.ID, next.Wrapped, next.Made
		return nil
	})
	if err != nil {
		return KeyInfo{}, err
	}
	s.cfg.Audit("the key of tenant " + tenant + " has a new version")
	info, _ := s.Key(tenant, tenantID)
	return info, nil
}

// RewrapKeys has the newest version of a tenant's key wrap the data keys of all its snapshots, without touching them in the store: the new wrapping
// stands in their records. With retire the older versions are destroyed afterwards: what they alone could unseal is lost.
func (s *Service) RewrapKeys(ctx context.Context, tenant, tenantID string, retire bool) (rewrapped int, err error) {
	kms, err := s.keys.of(ctx, tenantID, false)
	if err != nil {
		return 0, err
	}
	record, _ := s.keys.table.Get(tenantID)
	if record == nil || record.ID == "" {
		return 0, errShredded
	}
	left := 0
	for _, snap := range s.ofTenant(tenant, tenantID) {
		switch done, err := s.rewrap(ctx, snap, kms, record.ID); {
		case err != nil:
			return rewrapped, fmt.Errorf("snapshot %s: %w", snap.ID, err)
		case done:
			rewrapped++
		case snap.State == Creating:
			left++
		}
	}
	if !retire {
		return rewrapped, nil
	}
	if left > 0 {
		return rewrapped, fault.New(fault.Conflict, "snapshots.retire", "%d snapshots are being made, and may need an older version: try again when they are done", left)
	}
	_, err = s.keys.table.Update(ctx, tenantID, func(r *tenantKey) error {
		if r.ID != record.ID {
			return fault.New(fault.Conflict, "snapshots.retire", "the key has got another version meanwhile: try again")
		}
		r.Older = nil
		return nil
	})
	if err == nil {
		s.cfg.Audit("older versions of the key of tenant " + tenant + " are destroyed")
	}
	return rewrapped, err
}

// rewrap has version id wrap the data key of a snapshot, if another one does.
func (s *Service) rewrap(ctx context.Context, snap *Snapshot, kms seal.KMS, id string) (done bool, err error) {
	if snap.State != Available || snap.DataKey != nil && snap.DataKey.Key == id {
		return false, nil
	}
	head := s.head(snap)
	if snap.DataKey == nil {
		r, err := s.open(ctx, snap)
		if err != nil {
			return false, err
		}
		in, _, err := seal.ReadHead(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return false, err
		}
		if in.DataKey.Key == id {
			return false, nil
		}
		head.DataKey = in.DataKey
	}
	fresh, err := seal.Rewrap(ctx, kms, head)
	if err != nil {
		return false, err
	}
	err = s.update(ctx, snap, func(r *Snapshot) error { r.DataKey = &fresh; return nil })
	if fault.Is(err, fault.NotFound) { // it was deleted meanwhile
		return false, nil
	}
	return err == nil, err
}

// ShredKeys makes everything that was sealed with a tenant's keys unreadable at once, on all nodes, and destroys the keys after a while, within
// which UnshredKeys takes it back; at once when wait is 0.
func (s *Service) ShredKeys(ctx context.Context, tenant, tenantID string, wait time.Duration) error {
	now := s.cfg.Now().UTC().Truncate(time.Second)
	_, err := s.keys.table.Update(ctx, tenantID, func(r *tenantKey) error {
		if r.ID == "" {
			return fault.New(fault.NotFound, "snapshots.shred", "the tenant has no key")
		}
		r.Shredded, r.DestroyAt = now, now.Add(wait)
		if wait <= 0 {
			r.destroy(now)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s.cfg.Audit(fmt.Sprintf("the keys of tenant %s are shredded; they are destroyed at %s", tenant, now.Add(wait).Format(time.RFC3339)))
	return nil
}

// destroy removes all versions for ever.
func (r *tenantKey) destroy(now time.Time) {
	*r = tenantKey{Destroyed: now}
}

// UnshredKeys takes ShredKeys back, as long as the keys are there.
func (s *Service) UnshredKeys(ctx context.Context, tenant, tenantID string) error {
	_, err := s.keys.table.Update(ctx, tenantID, func(r *tenantKey) error {
		if r.Shredded.IsZero() {
			return fault.New(fault.Conflict, "snapshots.unshred", "the tenant's keys are not shredded, or destroyed already")
		}
		r.Shredded, r.DestroyAt = time.Time{}, time.Time{}
		return nil
	})
	if err == nil {
		s.cfg.Audit("the keys of tenant " + tenant + " are not shredded after all")
	}
	return err
}

// ForgetTenant destroys the keys of a tenant that is no more: what was sealed with them is unreadable from now on. Its snapshots go when there is time.
func (s *Service) ForgetTenant(ctx context.Context, tenant, tenantID string) error {
	err := s.keys.table.Delete(ctx, tenantID)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err == nil {
		s.cfg.Audit("the keys of tenant " + tenant + ", which is no more, are destroyed")
	}
	return err
}

// RewrapTenants has the newest master key wrap the keys of all tenants.
func (s *Service) RewrapTenants(ctx context.Context) (rewrapped int, err error) {
	var lost []string
	for _, tenant := range s.keys.tenants() {
		_, err := s.keys.table.Update(ctx, tenant, func(r *tenantKey) error { return s.keys.rewrap(ctx, tenant, r) })
		switch {
		case err == nil:
			rewrapped++
		case fault.Is(err, fault.NotFound):
		case errors.Is(err, seal.ErrNoKey): // nobody can help those
			lost = append(lost, tenant)
		default:
			return rewrapped, err
		}
	}
	if len(lost) > 0 {
		s.cfg.Log.Error("the keys of some tenants were wrapped by a master key that is lost", "tenants", lost)
	}
	s.cfg.Audit(fmt.Sprintf("the keys of %d tenants are wrapped by the newest master key", rewrapped))
	return rewrapped, nil
}

// rewrap has the master key wrap all versions anew.
func (k *tenantKeys) rewrap(ctx context.Context, tenant string, r *tenantKey) error {
	again := func(w *seal.Wrapped) error {
		key, err := k.kms.Unwrap(ctx, *w, k.context(tenant))
		if err != nil {
			return kmsDown(err)
		}
		defer clear(key)
		fresh, err := k.kms.Wrap(ctx, key, k.context(tenant))
		if err != nil {
			return kmsDown(err)
		}
		*w = fresh
		return nil
	}
	if r.ID == "" {
		return nil
	}
	if err := again(&r.Wrapped); err != nil {
		return err
	}
	for i := range r.Older {
		if err := again(&r.Older[i].Wrapped); err != nil {
			return err
		}
	}
	return nil
}

// destroyDue destroys shredded keys whose time has come, and those of tenants that are no more.
func (s *Service) destroyDue(ctx context.Context) (failed error) {
	now := s.cfg.Now().UTC().Truncate(time.Second)
	var owners map[string]bool
	if s.cfg.Caches != nil {
		owners = s.cfg.Caches.Owners()
	}
	for _, tenant := range s.keys.tenants() {
		r, ok := s.keys.table.Get(tenant)
		if !ok {
			continue
		}
		if owners != nil && !owners[tenant] {
			failed = errors.Join(failed, s.keys.table.Delete(ctx, tenant))
			s.cfg.Audit("the keys of the tenant with id " + tenant + ", which is no more, are destroyed")
			continue
		}
		if r.Shredded.IsZero() || now.Before(r.DestroyAt) {
			continue
		}
		_, err := s.keys.table.Update(ctx, tenant, func(r *tenantKey) error {
			if r.Shredded.IsZero() || now.Before(r.DestroyAt) {
				return errMoot
			}
			r.destroy(now)
			return nil
		})
		if err == nil {
			s.cfg.Audit("the shredded keys of the tenant with id " + tenant + " are destroyed")
		} else if err != errMoot {
			failed = errors.Join(failed, err)
		}
	}
	return failed
}
