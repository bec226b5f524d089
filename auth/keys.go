package auth

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/records"
)

// The bounds of a key.
const (
	MaxKeyName  = 128 // bytes
	MaxNetworks = 64
	MaxGrace    = 7 * 24 * time.Hour
)

// A KeyInfo describes an API key to those who may list keys. The secret is not in it: nobody has it.
type KeyInfo struct {
	ID           string         `json:"id"`
	Name         string         `json:"name"`
	Kind         KeyKind        `json:"kind"`
	Role         string         `json:"role"`
	Networks     []netip.Prefix `json:"networks,omitempty"` // where it may be used from; none: everywhere
	DefaultCache string         `json:"default_cache,omitempty"`
	CreatedAt    time.Time      `json:"created_at"`
	CreatedBy    string         `json:"created_by,omitempty"` // the ARN of who made it
	ExpiresAt    time.Time      `json:"expires_at,omitzero"`  // zero: never
	RotatedTo    string         `json:"rotated_to,omitempty"` // the key that replaces it

	ClientCertificate bool `json:"client_certificate,omitempty"` // TLS client certificates that name it log in as it

	LastUsed time.Time `json:"-"` // by the minute; zero: never
}

// A keyRecord is a key as it is stored.
type keyRecord struct {
	KeyInfo
	Tenant string `json:"tenant"`
	Digest []byte `json:"digest"`
}

// A liveKey is a key as it is used. Everything but used stays as it is.
type liveKey struct {
	tenant TenantID
	record *keyRecord
	digest Digest
	used   *atomic.Int64 // minutes since 1970; shared by all versions of the record
}

// A keyUse says when a tenant's keys were last used, by id, in minutes since 1970. It is a record apart from
// the keys: to be used changes nothing about a key.
type keyUse struct {
	Minutes map[string]int64 `json:"minutes"`
}

func (k *liveKey) info() KeyInfo {
	info := k.record.KeyInfo
	if m := k.used.Load(); m != 0 {
		info.LastUsed = time.Unix(m*60, 0).UTC()
	}
	return info
}

// touch notes that a key was used.
func touch(used *atomic.Int64, now time.Time) {
	minute := now.Unix() / 60
	for {
		was := used.Load()
		if minute <= was || used.CompareAndSwap(was, minute) {
			return
		}
	}
}

// keyChanged follows the key records.
func (s *Store) keyChanged(name string, _, new *keyRecord) {
	tenant := owner(name)
	id := name[strings.LastIndexByte(name, '/')+1:]
	s.mu.Lock()
	was := s.byID[id]
	if was != nil && was.tenant != tenant {
		// 71 random bits met, or somebody wrote the record by hand. The first owner keeps its key (T1).
		s.mu.Unlock()
		s.log.Error("two tenants have a key of the same id", "key", id)
		return
	}
	if new != nil && len(new.Digest) == len(Digest{}) && new.ID == id {
		k := &liveKey{tenant: tenant, record: new, digest: Digest(new.Digest)}
		if was != nil {
			k.used = was.used
		} else {
			k.used = &atomic.Int64{}
		}
		s.byID[id] = k
	} else {
		delete(s.byID, id)
	}
	s.mu.Unlock()
	if was != nil {
		s.bump(tenant)
	}
}

// keyUsed follows what other nodes, and this one before it was restarted, saw being used.
func (s *Store) keyUsed(_ string, _, new *keyUse) {
	if new == nil {
		return
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for id, minute := range new.Minutes {
		if k := s.byID[id]; k != nil {
			touch(k.used, time.Unix(minute*60, 0))
		}
	}
}

// FlushUse writes down when keys were last used: one record for each tenant, and only where a minute has
// passed since the record. Sweep calls it; call it once more before the process ends.
func (s *Store) FlushUse(ctx context.Context) error {
	fresh := map[TenantID]map[string]int64{}
	s.mu.RLock()
	for id, k := range s.byID {
		minute := k.used.Load()
		if minute == 0 {
			continue
		}
		if u, ok := s.keyUse.Get(string(k.tenant)); ok && u.Minutes[id] >= minute {
			continue
		}
		if fresh[k.tenant] == nil {
			fresh[k.tenant] = map[string]int64{}
		}
		fresh[k.tenant][id] = minute
	}
	s.mu.RUnlock()
	var failed error
	for tenant, minutes := range fresh {
		err := s.writeUse(ctx, tenant, minutes)
		if fault.Is(err, fault.Unavailable) || ctx.Err() != nil {
			return err // so would be the others
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func (s *Store) writeUse(ctx context.Context, tenant TenantID, minutes map[string]int64) error {
	for {
		_, err := s.keyUse.Update(ctx, string(tenant), func(u *keyUse) error {
			for id := range u.Minutes {
				if _, ok := s.key(id); !ok {
					delete(u.Minutes, id)
				}
			}
			if u.Minutes == nil {
				u.Minutes = map[string]int64{}
			}
			for id, minute := range minutes {
				u.Minutes[id] = max(u.Minutes[id], minute)
			}
			return nil
		})
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		err = s.keyUse.Create(ctx, string(tenant), &keyUse{minutes})
		if !fault.Is(err, fault.Conflict) {
			return err
		}
		if _, readable := s.keyUse.Get(string(tenant)); !readable {
			return err
		}
	}
}

// key finds a key by its id, whose tenant nobody knows yet.
func (s *Store) key(id string) (*liveKey, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	k, ok := s.byID[id]
	return k, ok
}

// keyOf finds a tenant's key.
func (s *Store) keyOf(op, tenant, id string) (*liveKey, error) {
	t, err := s.tenant(op, tenant)
	if err != nil {
		return nil, err
	}
	k, ok := s.key(id)
	if !ok || k.tenant != t.ID {
		return nil, fault.About(fault.NotFound, op, "id", "no key %q", id)
	}
	return k, nil
}

// A KeySpec describes a key to be made.
type KeySpec struct {
	Name         string
	Kind         KeyKind // empty: LiveKey
	Role         string
	ExpiresAt    time.Time // zero: never
	Networks     []netip.Prefix
	DefaultCache string
	CreatedBy    string // the ARN of who makes it

	ClientCertificate bool // see KeyInfo
}

// CreateKey makes a key. The text is given out here and nowhere else.
func (s *Store) CreateKey(ctx context.Context, tenant string, spec KeySpec) (KeyInfo, string, error) {
	const op = "key.create"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return KeyInfo{}, "", err
	}
	now := s.now()
	info := KeyInfo{
		Name: spec.Name, Kind: spec.Kind, Role: spec.Role, Networks: spec.Networks, DefaultCache: spec.DefaultCache,
		CreatedAt: now.UTC().Truncate(time.Millisecond), CreatedBy: spec.CreatedBy, ExpiresAt: spec.ExpiresAt.UTC().Truncate(time.Millisecond),
		ClientCertificate: spec.ClientCertificate,
	}
	if info.Kind == "" {
		info.Kind = LiveKey
	}
	switch {
	case info.Kind != LiveKey && info.Kind != TestKey:
		return KeyInfo{}, "", fault.About(fault.InvalidArgument, op, "kind", "kind is %.32q, want %q or %q", info.Kind, LiveKey, TestKey)
	case !info.ExpiresAt.IsZero() && !info.ExpiresAt.After(now):
		return KeyInfo{}, "", fault.About(fault.OutOfRange, op, "expires_at", "expires_at is not in the future")
	case info.ExpiresAt.Year() > 9999:
		return KeyInfo{}, "", fault.About(fault.OutOfRange, op, "expires_at", "expires_at is beyond the year 9999")
	}
	if err := s.checkKey(op, tenant, t.ID, &info); err != nil {
		return KeyInfo{}, "", err
	}
	if err := s.room(op, keysPath, t.ID, "keys", MaxKeys); err != nil {
		return KeyInfo{}, "", err
	}
	record, secret, err := s.drawKey(tenant, info)
	if err != nil {
		return KeyInfo{}, "", err
	}
	if err := s.keys.Create(ctx, under(t.ID, record.ID), record); err != nil {
		return KeyInfo{}, "", err
	}
	return record.KeyInfo, secret, nil
}

// checkKey checks what may be changed about a key as well, and brings its networks to one form.
func (s *Store) checkKey(op, tenant string, id TenantID, info *KeyInfo) error {
	if !boundedText(info.Name, MaxKeyName) {
		return fault.About(fault.InvalidArgument, op, "name", "name has %d bytes, want 1 to %d without control characters", len(info.Name), MaxKeyName)
	}
	if info.DefaultCache != "" && (!validName(info.DefaultCache) || strings.Contains(info.DefaultCache, ".")) {
		return fault.About(fault.InvalidArgument, op, "default_cache", "default_cache is not the name of a cache: 1 to 63 of a-z, 0-9, '_' and '-', the first a letter or a digit")
	}
	if len(info.Networks) > MaxNetworks {
		return fault.About(fault.InvalidArgument, op, "networks", "%d networks, at most %d are allowed", len(info.Networks), MaxNetworks)
	}
	var networks []netip.Prefix
	for _, n := range info.Networks {
		if n.IsValid() && n.Addr().Is4In6() && n.Bits() >= 96 {
			n = netip.PrefixFrom(n.Addr().Unmap(), n.Bits()-96)
		}
		if !n.IsValid() || n.Addr().Is4In6() || n.Addr().Zone() != "" {
			return fault.About(fault.InvalidArgument, op, "networks", "a network is not of the form address/bits, such as 192.0.2.0/24 or 2001:db8::/32")
		}
		if n = n.Masked(); !slices.Contains(networks, n) {
			networks = append(networks, n)
		}
	}
	info.Networks = networks
	if !s.roleExists(tenant, id, info.Role) {
		return fault.About(fault.InvalidArgument, op, "role", "no role %.64q", info.Role)
	}
	return nil
}

// drawKey makes a record with a new id and secret.
func (s *Store) drawKey(tenant string, info KeyInfo) (*keyRecord, string, error) {
	for {
		key, secret, err := NewAPIKey(info.Kind, rand.Reader)
		if err != nil {
			return nil, "", fault.Wrap(fault.Internal, "key.create", err, "")
		}
		if _, taken := s.key(key.ID); !taken {
			info.ID = key.ID
			return &keyRecord{KeyInfo: info, Tenant: tenant, Digest: key.Digest[:]}, secret, nil
		}
	}
}

// room refuses to make one more of what a tenant has too many of. Two nodes that make the last one at the
// same time may go beyond by one: the bound is for memory, not for money.
func (s *Store) room(op, path string, id TenantID, things string, limit int) error {
	if n := len(s.m.List(records.Root+path+"/"+under(id, ""), "", limit)); n >= limit {
		return fault.New(fault.Conflict, op, "the tenant has %d %s, which is the limit; delete some first", n, things)
	}
	return nil
}

// GetKey describes a key.
func (s *Store) GetKey(tenant, id string) (KeyInfo, error) {
	k, err := s.keyOf("key.get", tenant, id)
	if err != nil {
		return KeyInfo{}, err
	}
	return k.info(), nil
}

// ListKeys returns a page of keys in the order of their ids, and after which id the next page begins; empty
// at the end.
func (s *Store) ListKeys(tenant, after string, limit int) ([]KeyInfo, string, error) {
	const op = "key.list"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return nil, "", err
	}
	if limit, err = pageSize(op, limit); err != nil {
		return nil, "", err
	}
	if after != "" {
		after = under(t.ID, after)
	}
	list, next := s.keys.List(under(t.ID, ""), after, limit)
	infos := make([]KeyInfo, 0, len(list))
	for _, r := range list {
		if k, ok := s.key(r.ID); ok && k.tenant == t.ID {
			infos = append(infos, k.info())
		}
	}
	return infos, strings.TrimPrefix(next, under(t.ID, "")), nil
}

// RotateKey makes a key that takes the place of another: the same name, role, networks, default cache and
// length of life. The old one ends after grace, 0 to MaxGrace, or before if it ends by itself. Both happen
// or neither.
func (s *Store) RotateKey(ctx context.Context, tenant, id string, grace time.Duration, by string) (KeyInfo, string, error) {
	const op = "key.rotate"
	fail := func(err error) (KeyInfo, string, error) { return KeyInfo{}, "", err }
	if grace < 0 || grace > MaxGrace {
		return fail(fault.About(fault.OutOfRange, op, "grace", "grace is %v, want 0s to %v", grace, MaxGrace))
	}
	old, err := s.keyOf(op, tenant, id)
	if err != nil {
		return fail(err)
	}
	path := records.Root + keysPath + "/" + under(old.tenant, id)
	stored, ok := s.m.Get(path)
	var record keyRecord
	if !ok || json.Unmarshal(stored.Value, &record) != nil {
		return fail(fault.About(fault.NotFound, op, "id", "no key %q", id))
	}
	now := s.now().UTC().Truncate(time.Millisecond)
	switch {
	case record.RotatedTo != "":
		return fail(fault.About(fault.Conflict, op, "id", "key %q was rotated already, to %q", id, record.RotatedTo))
	case !record.ExpiresAt.IsZero() && !now.Before(record.ExpiresAt):
		return fail(fault.About(fault.Conflict, op, "id", "key %q has expired", id))
	}
	if err := s.room(op, keysPath, old.tenant, "keys", MaxKeys); err != nil {
		return fail(err)
	}
	info := record.KeyInfo
	info.CreatedAt, info.CreatedBy = now, by
	if !record.ExpiresAt.IsZero() {
		info.ExpiresAt = now.Add(record.ExpiresAt.Sub(record.CreatedAt))
	}
	fresh, secret, err := s.drawKey(tenant, info)
	if err != nil {
		return fail(err)
	}
	record.RotatedTo = fresh.ID
	if end := now.Add(grace); record.ExpiresAt.IsZero() || end.Before(record.ExpiresAt) {
		record.ExpiresAt = end
	}
	freshValue, err1 := json.Marshal(fresh)
	oldValue, err2 := json.Marshal(record)
	if err1 != nil || err2 != nil {
		return fail(fault.New(fault.Internal, op, ""))
	}
	freshPath := records.Root + keysPath + "/" + under(old.tenant, fresh.ID)
	_, err = s.m.Txn(ctx,
		[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(path), "=", stored.ModRevision), clientv3.Compare(clientv3.CreateRevision(freshPath), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(path, string(oldValue)), clientv3.OpPut(freshPath, string(freshValue))})
	if err != nil {
		return fail(explain(op, err))
	}
	return fresh.KeyInfo, secret, nil
}

// A KeyUpdate changes what is not nil.
type KeyUpdate struct {
	Name         *string
	Role         *string
	Networks     *[]netip.Prefix
	DefaultCache *string

	ClientCertificate *bool
}

// UpdateKey changes a key, and with it what its text opens, at once.
func (s *Store) UpdateKey(ctx context.Context, tenant, id string, change KeyUpdate) (KeyInfo, error) {
	const op = "key.update"
	k, err := s.keyOf(op, tenant, id)
	if err != nil {
		return KeyInfo{}, err
	}
	_, err = s.keys.Update(ctx, under(k.tenant, id), func(r *keyRecord) error {
		set(&r.Name, change.Name)
		set(&r.Role, change.Role)
		set(&r.Networks, change.Networks)
		set(&r.DefaultCache, change.DefaultCache)
		set(&r.ClientCertificate, change.ClientCertificate)
		return s.checkKey(op, tenant, k.tenant, &r.KeyInfo)
	})
	if err != nil {
		return KeyInfo{}, err
	}
	return s.GetKey(tenant, id)
}

// set assigns what is to be changed.
func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// RevokeKey ends a key for good, and with it the tokens that it made.
func (s *Store) RevokeKey(ctx context.Context, tenant, id string) error {
	k, err := s.keyOf("key.revoke", tenant, id)
	if err != nil {
		return err
	}
	return s.keys.Delete(ctx, under(k.tenant, id))
}
