// Package tenants holds the accounts and what they own: tenants, their caches, their limits and what they
// have used so far.
//
// A tenant is known by its name in URLs and ARNs and by a random ID everywhere that must not be fooled by a
// name used twice; the same holds for caches. Records live in etcd and are mirrored in memory; start with
// Store, then read Cache.
package tenants

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/internal/mirror"
	"github.com/larder-cache/larder/internal/records"
	"github.com/larder-cache/larder/placement"
)

// ID names a tenant for ever.
type ID = auth.TenantID

// System is the reserved tenant that operators belong to. It has no caches.
const System = policy.SystemTenant

// Status says whether a tenant's credentials are honoured.
type Status string

// The statuses.
const (
	Active    Status = "active"
	Suspended Status = "suspended"
)

// A Tenant is an account.
type Tenant struct {
	ID              ID                `json:"id"`
	Name            string            `json:"name"`
	Status          Status            `json:"status"`
	Description     string            `json:"description,omitempty"`
	Limits          Limits            `json:"limits"`
	CORSOrigins     []string          `json:"cors_origins,omitempty"` // origins that browsers may call from; none by default
	Guardrails      []json.RawMessage `json:"guardrails,omitempty"`   // policies that bind everybody in the tenant
	TokensNotBefore time.Time         `json:"tokens_not_before,omitzero"`
	CreatedAt       time.Time         `json:"created_at"`
}

// Limits bound what a tenant, or one cache, may use. Zero means no limit.
type Limits struct {
	UnitsPerSecond int64 `json:"units_per_second,omitempty"` // request units, with a burst of one second's worth
	BytesPerSecond int64 `json:"bytes_per_second,omitempty"` // arguments and replies together
	Caches         int64 `json:"caches,omitempty"`           // how many caches; tenants only
	MemoryBytes    int64 `json:"memory_bytes,omitempty"`     // sum of the caches' memory limits; tenants only
	Snapshots      int64 `json:"snapshots,omitempty"`        // how many snapshots; tenants only
	SnapshotBytes  int64 `json:"snapshot_bytes,omitempty"`   // that they have in the store together; tenants only
}

// A Cache is a named keyspace of a tenant.
type Cache struct {
	ID                   engine.CacheID      `json:"-"`
	HexID                string              `json:"id"`
	Tenant               string              `json:"tenant"`
	TenantID             ID                  `json:"tenant_id"`
	Name                 string              `json:"name"`
	Description          string              `json:"description,omitempty"`
	MemoryLimit          int64               `json:"memory_limit_bytes"`
	Eviction             string              `json:"eviction_policy"`
	MaxValue             int64               `json:"max_value_bytes"`
	NotifyKeyspaceEvents string              `json:"notify_keyspace_events,omitempty"` // in the letters of Redis's setting of that name
	DefaultTTLMs         int64               `json:"default_ttl_ms"`
	Consistency          string              `json:"consistency,omitempty"` // of reads that name none
	Durability           string              `json:"durability,omitempty"`  // one of Durabilities; empty for the first
	Limits               Limits              `json:"limits"`
	Tags                 map[string]string   `json:"tags,omitempty"`
	Ranges               []placement.Range   `json:"ranges"`
	WantedRanges         int                 `json:"wanted_ranges,omitempty"` // how many ranges it is to have; 0 for those that it has
	Growth               Growth              `json:"growth,omitzero"`
	Epoch                uint64              `json:"epoch,omitempty"` // movements that were begun
	Move                 *placement.Movement `json:"move,omitempty"`  // the one under way
	CreatedAt            time.Time           `json:"created_at"`
	UpdatedAt            time.Time           `json:"updated_at"`
	policyOfCache        engine.EvictionPolicy
	events               engine.EventClass
	level                engine.Consistency
}

// Level is how current the answers to reads have to be that do not say it themselves.
func (c *Cache) Level() engine.Consistency { return c.level }

// UnmarshalJSON fills in what is derived from the record.
func (c *Cache) UnmarshalJSON(data []byte) error {
	type plain Cache
	if err := json.Unmarshal(data, (*plain)(c)); err != nil {
		return err
	}
	err := c.identify()
	if err != nil {
		return err
	}
	if c.policyOfCache, err = engine.ParseEvictionPolicy(c.Eviction); err != nil {
		return err
	}
	if c.events, err = engine.ParseEventClass(c.NotifyKeyspaceEvents); err != nil {
		return err
	}
	c.level, _ = engine.ParseConsistency(c.Consistency) // a later version's is linearizable
	return placement.CheckRanges(c.Ranges)
}

// Settings are what the engine has to know of the cache, as far as it is the same for all of its parts.
func (c *Cache) Settings() engine.Settings {
	return engine.Settings{MemoryLimit: c.MemoryLimit, Eviction: c.policyOfCache, MaxValue: c.MaxValue, DefaultTTL: c.DefaultTTLMs, Notify: c.events, Split: len(c.Ranges) > 1}
}

// SettingsAt are what a partition has to know of the cache. Each has a share of the memory limit by the slots that it holds, since
// keys fall into slots by chance.
func (c *Cache) SettingsAt(at placement.PartitionID) engine.Settings {
	s := c.Settings()
	s.Holdings = c.holdings(at)
	if s.Split || c.Move != nil {
		s.MemoryLimit = c.share(at)
		s.MaxValue = min(s.MaxValue, s.MemoryLimit)
	}
	return s
}

func (c *Cache) share(at placement.PartitionID) int64 {
	slots := int64(0)
	for _, r := range c.Ranges {
		if r.Partition == at {
			slots += int64(r.To) - int64(r.From) + 1
		}
	}
	if m := c.Move; m != nil && (at == m.Target && !m.Committed || at == m.Source && m.Committed) { // both sides have the data for a while
		slots += int64(m.To) - int64(m.From) + 1
	}
	return max(c.MemoryLimit*slots/placement.Slots, 1)
}

// LargestValue is the most bytes that a value may have, wherever its key falls.
func (c *Cache) LargestValue() int64 {
	largest := c.MaxValue
	if len(c.Ranges) > 1 {
		for _, p := range c.Partitions() {
			largest = min(largest, c.share(p))
		}
	}
	return largest
}

// Partitions are those that hold parts of the cache, each once, in the order of their first slots.
func (c *Cache) Partitions() []placement.PartitionID {
	var list []placement.PartitionID
	for _, r := range c.Ranges {
		if !slices.Contains(list, r.Partition) {
			list = append(list, r.Partition)
		}
	}
	return list
}

// Involved are the partitions that have to know the cache: those that hold parts of it, and both sides of a movement.
func (c *Cache) Involved() []placement.PartitionID {
	list := c.Partitions()
	if m := c.Move; m != nil {
		for _, p := range []placement.PartitionID{m.Source, m.Target} {
			if !slices.Contains(list, p) {
				list = append(list, p)
			}
		}
	}
	return list
}

// Bounds of what a cache's owner may choose. The defaults are what a new cache gets that names nothing.
const (
	DefaultMemoryLimit = 1 << 30
	MinMemoryLimit     = 1 << 20
	MaxMemoryLimit     = 1 << 44
	DefaultMaxValue    = engine.DefaultMaxValue
	MaxMaxValue        = engine.HardMaxValue
	MaxTTLMs           = 100 * 365 * 24 * int64(time.Hour/time.Millisecond) // a hundred years
	MaxTags            = 50
	MaxDescription     = 1024
)

var (
	tenantName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{2,62}$`)
	cacheName  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)
)

// CheckCacheName returns an error unless name may name a cache.
func CheckCacheName(name string) error {
	if !cacheName.MatchString(name) {
		return fault.About(fault.InvalidArgument, "tenants.cache", "name", "a cache name has 1 to 63 characters of a-z, 0-9, _ and -, and begins with a letter or digit")
	}
	return nil
}

// CheckName returns an error unless name may name a tenant.
func CheckName(name string) error {
	if !tenantName.MatchString(name) {
		return fault.About(fault.InvalidArgument, "tenants.create", "name", "a tenant name has 3 to 63 characters of a-z, 0-9 and -, and begins with a letter or digit")
	}
	return nil
}

// Store reads and changes tenants and caches.
type Store struct {
	place     *placement.Map
	tenants   *records.Table[Tenant]
	caches    *records.Table[Cache]
	endpoints *records.Table[Endpoint]
	space     EndpointSpace
	apart     bool           // caches that outlive processes have partitions of their own, by their classes
	formats   map[string]int // that nodes are of which know partitions of a class

	// counting is full while somebody counts a tenant's caches to make one, or to let one grow, until etcd has
	// answered. It is no mutex, because those who wait for it have deadlines.
	counting chan struct{}
}

// Open reads the records from the mirror and follows them.
func Open(m *mirror.Mirror, place *placement.Map, log *slog.Logger) *Store {
	return &Store{
		place:     place,
		tenants:   records.Open[Tenant](m, "tenant", "tenants", log),
		caches:    records.Open[Cache](m, "cache", "caches", log),
		endpoints: records.Open[Endpoint](m, "endpoint", "endpoints", log),

		counting: make(chan struct{}, 1),
	}
}

// count waits for its turn to count caches. An error says that ctx ended before, and nothing was begun.
func (s *Store) count(ctx context.Context) (done func(), err error) {
	select {
	case s.counting <- struct{}{}:
		return func() { <-s.counting }, nil
	case <-ctx.Done():
		return nil, fault.Wrap(fault.Timeout, "tenants.count", ctx.Err(), "the request's deadline passed while other caches were made or changed")
	}
}

// OnCacheChange calls fn for each cache there is and then for each change; see records.Table.OnChange.
func (s *Store) OnCacheChange(fn func(old, new *Cache)) {
	s.caches.OnChange(func(_ string, old, new *Cache) { fn(old, new) })
}

// OnTenantChange calls fn for each tenant there is and then for each change; see records.Table.OnChange.
func (s *Store) OnTenantChange(fn func(old, new *Tenant)) {
	s.tenants.OnChange(func(_ string, old, new *Tenant) { fn(old, new) })
}

// Get returns a tenant by name.
func (s *Store) Get(name string) (*Tenant, bool) { return s.tenants.Get(name) }

// IDs are the ids of all tenants.
func (s *Store) IDs() map[string]bool {
	ids := map[string]bool{}
	all, _ := s.tenants.List("", "", 0)
	for _, t := range all {
		ids[string(t.ID)] = true
	}
	return ids
}

// Tenant implements auth.Tenants.
func (s *Store) Tenant(name string) (auth.TenantState, bool) {
	t, ok := s.tenants.Get(name)
	if !ok {
		return auth.TenantState{}, false
	}
	return auth.TenantState{ID: t.ID, Active: t.Status == Active, Guardrails: t.Guardrails, TokensNotBefore: t.TokensNotBefore}, true
}

// OnChange implements auth.Tenants.
func (s *Store) OnChange(fn func(id ID)) {
	s.OnTenantChange(func(old, new *Tenant) {
		for _, t := range []*Tenant{old, new} {
			if t != nil {
				fn(t.ID)
			}
		}
	})
}

// List returns a page of tenants in order of their names.
func (s *Store) List(after string, limit int) ([]*Tenant, string) {
	return s.tenants.List("", after, limit)
}

// Create adds a tenant.
func (s *Store) Create(ctx context.Context, t Tenant) (*Tenant, error) {
	if err := CheckName(t.Name); err != nil {
		return nil, err
	}
	t.ID, t.Status, t.CreatedAt = ID(randomID()), Active, now()
	if err := t.check(); err != nil {
		return nil, err
	}
	if err := s.tenants.Create(ctx, t.Name, &t); err != nil {
		return nil, err
	}
	// A deletion that broke off may have left caches of an earlier tenant of this name.
	if err := s.dropCaches(ctx, t.Name, func(c *Cache) bool { return c.TenantID != t.ID }); err != nil {
		return nil, err
	}
	return &t, nil
}

// Bounds of what a tenant's record holds.
const (
	MaxOrigins    = 100
	MaxOrigin     = 255 // bytes
	MaxGuardrails = 16
)

// origin is what browsers send: a scheme and a host in lower case, and a port where it is not the scheme's own.
var origin = regexp.MustCompile(`^[a-z][a-z0-9+.-]*://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$`)

func (t *Tenant) check() error {
	switch {
	case t.Status != Active && t.Status != Suspended:
		return fault.About(fault.InvalidArgument, "tenants", "status", "status is %q or %q, not %.32q", Active, Suspended, t.Status)
	case t.Name == System && (t.Status != Active || len(t.Guardrails) > 0):
		return fault.New(fault.Conflict, "tenants", "the tenant %q is neither suspended nor bound: nobody could undo it", System)
	case len(t.Description) > MaxDescription:
		return fault.About(fault.InvalidArgument, "tenants", "description", "a description has at most %d bytes, this one has %d", MaxDescription, len(t.Description))
	case len(t.CORSOrigins) > MaxOrigins:
		return fault.About(fault.InvalidArgument, "tenants", "cors_origins", "at most %d origins, these are %d", MaxOrigins, len(t.CORSOrigins))
	case len(t.Guardrails) > MaxGuardrails:
		return fault.About(fault.InvalidArgument, "tenants", "guardrails", "at most %d guardrails, these are %d", MaxGuardrails, len(t.Guardrails))
	}
	for i, o := range t.CORSOrigins {
		at := fmt.Sprintf("cors_origins[%d]", i)
		if o == "*" {
			continue
		}
		if len(o) > MaxOrigin || !origin.MatchString(o) {
			return fault.About(fault.InvalidArgument, "tenants", at, "an origin is * or like https://app.example.com:8443, in lower case, without a path, of at most %d bytes", MaxOrigin)
		}
		if strings.HasPrefix(o, "https://") && strings.HasSuffix(o, ":443") || strings.HasPrefix(o, "http://") && strings.HasSuffix(o, ":80") {
			return fault.About(fault.InvalidArgument, "tenants", at, "leave out the port: browsers do when it is the scheme's own")
		}
	}
	for i, g := range t.Guardrails {
		if _, err := policy.Parse(fmt.Sprintf("guardrail %d", i), g, policy.KindGuardrail); err != nil {
			return fault.About(fault.InvalidArgument, "tenants", fmt.Sprintf("guardrails[%d]", i), "%v", err)
		}
	}
	return t.Limits.check()
}

func (l Limits) check() error {
	for _, f := range []struct {
		name  string
		value int64
	}{{"units_per_second", l.UnitsPerSecond}, {"bytes_per_second", l.BytesPerSecond}, {"caches", l.Caches}, {"memory_bytes", l.MemoryBytes}, {"snapshots", l.Snapshots}, {"snapshot_bytes", l.SnapshotBytes}} {
		if f.value < 0 || f.value > MaxMemoryLimit {
			return fault.About(fault.OutOfRange, "tenants.limits", "limits."+f.name, "a limit is 0 (none) to %d, not %d", int64(MaxMemoryLimit), f.value)
		}
	}
	return nil
}

// Update changes a tenant; change may not touch its identity.
func (s *Store) Update(ctx context.Context, name string, change func(*Tenant) error) (*Tenant, error) {
	return s.tenants.Update(ctx, name, func(t *Tenant) error {
		id, created := t.ID, t.CreatedAt
		if err := change(t); err != nil {
			return err
		}
		t.ID, t.Name, t.CreatedAt = id, name, created
		return t.check()
	})
}

// Delete removes a tenant and all of its caches, and whatever breaks off may be tried again: the tenant's own
// record goes last. Its credentials are the caller's to drop: see auth.Store.DropTenant.
func (s *Store) Delete(ctx context.Context, name string) error {
	t, ok := s.Get(name)
	switch {
	case name == System:
		return fault.New(fault.Conflict, "tenants.delete", "the tenant %q cannot be deleted", System)
	case !ok:
		return fault.New(fault.NotFound, "tenants.delete", "no tenant %q", name)
	}
	own := func(c *Cache) bool { return c.TenantID == t.ID }
	if err := s.dropCaches(ctx, name, own); err != nil {
		return err
	}
	if err := s.tenants.Delete(ctx, name); err != nil {
		return err
	}
	return s.dropCaches(ctx, name, own) // of those that were made meanwhile
}

// dropCaches removes the caches under a tenant's name that fit.
func (s *Store) dropCaches(ctx context.Context, tenant string, fits func(*Cache) bool) error {
	caches, _ := s.caches.List(tenant+"/", "", 0)
	for _, c := range caches {
		if !fits(c) {
			continue
		}
		if err := s.caches.Delete(ctx, tenant+"/"+c.Name); err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return s.dropEndpoints(ctx, func(e *Endpoint) bool { return e.Tenant == tenant && !s.stands(e) })
}

// Cache returns a cache of a tenant.
func (s *Store) Cache(tenant, name string) (*Cache, bool) { return s.caches.Get(tenant + "/" + name) }

// Caches returns a page of a tenant's caches in order of their names.
func (s *Store) Caches(tenant, after string, limit int) ([]*Cache, string) {
	if after != "" {
		after = tenant + "/" + after
	}
	list, next := s.caches.List(tenant+"/", after, limit)
	if next != "" {
		next = next[len(tenant)+1:]
	}
	return list, next
}

// EachCache calls fn for each cache of a tenant, or of all tenants when tenant is empty.
func (s *Store) EachCache(tenant string, fn func(*Cache)) {
	if tenant != "" {
		tenant += "/"
	}
	all, _ := s.caches.List(tenant, "", 0)
	for _, c := range all {
		fn(c)
	}
}

// CreateCache adds a cache to a tenant. Of c's Ranges only the slots count, and none are one range: where each lies is decided
// here.
func (s *Store) CreateCache(ctx context.Context, tenant string, c Cache) (*Cache, error) {
	return s.create(ctx, tenant, &c, true)
}

// PrepareCache gives a cache that is to be restored its id and its place. There is no record of it until PublishCache.
func (s *Store) PrepareCache(ctx context.Context, tenant string, c Cache) (*Cache, error) {
	if _, ok := s.Cache(tenant, c.Name); ok {
		return nil, fault.New(fault.Conflict, "tenants.prepare_cache", "cache %q exists already", c.Name)
	}
	return s.create(ctx, tenant, &c, false)
}

// create checks a new cache and gives it what it lacks, and makes its record if that is wanted.
func (s *Store) create(ctx context.Context, tenant string, c *Cache, record bool) (*Cache, error) {
	owner, ok := s.Get(tenant)
	if !ok {
		return nil, fault.New(fault.NotFound, "tenants.create_cache", "no tenant %q", tenant)
	}
	if tenant == System {
		return nil, fault.New(fault.Denied, "tenants.create_cache", "the tenant %q has no caches", System)
	}
	if err := CheckCacheName(c.Name); err != nil {
		return nil, err
	}
	if c.MemoryLimit == 0 {
		c.MemoryLimit = DefaultMemoryLimit
	}
	if c.MaxValue == 0 {
		c.MaxValue = min(DefaultMaxValue, c.MemoryLimit)
	}
	if c.Eviction == "" {
		c.Eviction = engine.AllKeysAdaptive.String()
	}
	if len(c.Ranges) == 0 {
		c.Ranges = placement.Even(1)
	}
	if err := s.wantPartitions(ctx, c); err != nil {
		return nil, err
	}
	done, err := s.count(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := s.check(owner, c, nil); err != nil {
		return nil, err
	}
	if err := s.spread(c); err != nil {
		return nil, err
	}
	c.HexID, c.Tenant, c.TenantID, c.CreatedAt = randomID(), tenant, owner.ID, now()
	c.UpdatedAt = c.CreatedAt
	if !record {
		return c, c.identify()
	}
	return s.publish(ctx, c)
}

// wantPartitions returns when there are partitions for a cache that is to outlive processes.
func (s *Store) wantPartitions(ctx context.Context, c *Cache) error {
	if !s.apart || !c.Keeps() || !slices.Contains(Durabilities, c.Durability) {
		return nil
	}
	if s.place.Format() < s.formats[c.Durability] {
		return fault.About(fault.Unavailable, "tenants.cache", "durability", "a node of this cluster is of a version that knows no %s partitions: bring all nodes up to date first", c.Durability)
	}
	ctx, cancel := context.WithTimeout(ctx, wantPatience)
	defer cancel()
	return s.place.Want(ctx, c.Durability)
}

// wantPatience is how long the first cache of a class waits for partitions.
const wantPatience = 10 * time.Second

// identify makes the id that HexID writes.
func (c *Cache) identify() error {
	id, err := hex.DecodeString(c.HexID)
	if err != nil || len(id) != len(c.ID) {
		return fault.New(fault.Internal, "tenants.cache", "cache id %q is not 128 bits in hex", c.HexID)
	}
	copy(c.ID[:], id)
	return nil
}

func (s *Store) publish(ctx context.Context, c *Cache) (*Cache, error) {
	if err := s.caches.Create(ctx, c.Tenant+"/"+c.Name, c); err != nil {
		return nil, err
	}
	made, ok := s.Cache(c.Tenant, c.Name)
	if !ok {
		return nil, fault.New(fault.Conflict, "tenants.create_cache", "cache %q was deleted while it was made", c.Name)
	}
	return made, nil
}

// PublishCache makes the record of a cache that was prepared, if the tenant is still the same and may still have it.
func (s *Store) PublishCache(ctx context.Context, c *Cache) error {
	owner, ok := s.Get(c.Tenant)
	if !ok || owner.ID != c.TenantID {
		return fault.New(fault.NotFound, "tenants.publish_cache", "no tenant %q", c.Tenant)
	}
	done, err := s.count(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := s.check(owner, c, nil); err != nil {
		return err
	}
	_, err = s.publish(ctx, c)
	return err
}

// Successor is a cache with an id of its own that may take the place of c, with all of c's settings: see ReplaceCache.
func (c *Cache) Successor() *Cache {
	next := *c
	next.HexID = randomID()
	_ = next.identify() // it is 128 bits
	return &next
}

// ReplaceCache lets the name of a cache stand for another, of which nobody knew so far. What the old one holds is dropped; its
// endpoints are the new one's, a moment later.
func (s *Store) ReplaceCache(ctx context.Context, old, next *Cache) error {
	_, err := s.caches.Update(ctx, old.Tenant+"/"+old.Name, func(c *Cache) error {
		if c.HexID != old.HexID || !slices.Equal(c.Ranges, old.Ranges) || c.Move != nil || old.Move != nil {
			return fault.New(fault.Conflict, "tenants.replace_cache", "the cache %q has become another or was moved meanwhile", old.Name)
		}
		c.ID, c.HexID, c.UpdatedAt = next.ID, next.HexID, now()
		return nil
	})
	if err != nil {
		return err
	}
	all, _ := s.endpoints.List("", "", 0)
	for _, e := range all {
		if e.CacheID != old.HexID {
			continue
		}
		_, _ = s.endpoints.Update(ctx, e.ID, func(e *Endpoint) error { // one that cannot be changed lets nobody in, and is made anew
			e.CacheID = next.HexID
			return nil
		})
	}
	return nil
}

// UpdateCache changes a cache; change may not touch its identity or its place.
func (s *Store) UpdateCache(ctx context.Context, tenant, name string, change func(*Cache) error) (*Cache, error) {
	owner, ok := s.Get(tenant)
	if !ok {
		return nil, fault.New(fault.NotFound, "tenants.update_cache", "no tenant %q", tenant)
	}
	if c, ok := s.Cache(tenant, name); ok && s.apart {
		next := *c
		if err := change(&next); err != nil {
			return nil, err
		}
		if err := s.wantPartitions(ctx, &next); err != nil {
			return nil, err
		}
	}
	done, err := s.count(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return s.caches.Update(ctx, tenant+"/"+name, func(c *Cache) error {
		before := *c
		if err := change(c); err != nil {
			return err
		}
		c.ID, c.HexID, c.Tenant, c.TenantID, c.Name = before.ID, before.HexID, before.Tenant, before.TenantID, before.Name
		c.Ranges, c.CreatedAt, c.UpdatedAt = before.Ranges, before.CreatedAt, now()
		c.WantedRanges, c.Epoch, c.Move = before.WantedRanges, before.Epoch, before.Move
		if err := s.check(owner, c, &before); err != nil {
			return err
		}
		if s.apart && c.Durability != before.Durability { // its ranges move to partitions of the other kind
			c.resettle(cmp.Or(c.WantedRanges, len(c.Partitions())))
		}
		return nil
	})
}

// DeleteCache removes a cache, all that is in it, and its endpoints. These go first, so that a deletion that breaks off can be
// tried again.
func (s *Store) DeleteCache(ctx context.Context, tenant, name string) error {
	if err := s.dropEndpoints(ctx, func(e *Endpoint) bool { return e.Tenant == tenant && e.Cache == name }); err != nil {
		return err
	}
	return s.caches.Delete(ctx, tenant+"/"+name)
}

// Durabilities are what may become of a cache when its process ends at once, the default first: all of it is lost, the last second,
// or nothing that was acknowledged.
var Durabilities = []string{"memory", "async", "durable"}

// KeepApart has durable caches, and async ones, lie on partitions of their own, as in a cluster of several nodes, all of which have to be
// of a format (see placement.Node) that knows these. Call it before the store is used.
func (s *Store) KeepApart(durable, async int) {
	s.apart, s.formats = true, map[string]int{placement.Durable: durable, placement.Async: async}
}

// class is of which class a cache's partitions are.
func (s *Store) class(c *Cache) string {
	if !s.apart || !c.Keeps() {
		return placement.Memory
	}
	return c.Durability
}

// DeleteThat is DeleteCache, as long as the name stands for that cache.
func (s *Store) DeleteThat(ctx context.Context, c *Cache) error {
	if now, ok := s.Cache(c.Tenant, c.Name); !ok || now.ID != c.ID {
		return fault.New(fault.Conflict, "tenants.delete_cache", "the cache %q has become another meanwhile", c.Name)
	}
	return s.DeleteCache(ctx, c.Tenant, c.Name)
}

// check refuses what a cache may not be. before is nil for a new one.
func (s *Store) check(owner *Tenant, c, before *Cache) error {
	policy, err := engine.ParseEvictionPolicy(c.Eviction)
	if err != nil {
		return fault.About(fault.InvalidArgument, "tenants.cache", "eviction_policy", "eviction policy %q is not one of %v", c.Eviction, engine.EvictionPolicies())
	}
	c.policyOfCache = policy
	switch at := slices.Index(Durabilities, c.Durability); {
	case c.Durability == "" || at == 0:
		c.Durability = ""
	case at < 0:
		return fault.About(fault.InvalidArgument, "tenants.cache", "durability", "durability %q is not one of %v", c.Durability, Durabilities)
	}
	if c.events, err = engine.ParseEventClass(c.NotifyKeyspaceEvents); err != nil {
		return err
	}
	c.NotifyKeyspaceEvents = c.events.String()
	var known bool
	if c.level, known = engine.ParseConsistency(c.Consistency); !known && c.Consistency != "" {
		return fault.About(fault.InvalidArgument, "tenants.cache", "consistency", "consistency is one of %s, not %.100q", strings.Join(engine.Consistencies(), ", "), c.Consistency)
	}
	for _, f := range []struct {
		name             string
		value, low, high int64
	}{
		{"memory_limit_bytes", c.MemoryLimit, MinMemoryLimit * int64(max(len(c.Ranges), 1)), MaxMemoryLimit}, // of each range as of a cache
		{"max_value_bytes", c.MaxValue, 1, min(MaxMaxValue, c.MemoryLimit)},
		{"default_ttl", c.DefaultTTLMs, 0, MaxTTLMs},
	} {
		if f.value < f.low || f.value > f.high {
			return fault.About(fault.OutOfRange, "tenants.cache", f.name, "%s is %d to %d, not %d", f.name, f.low, f.high, f.value)
		}
	}
	if n := len(c.Ranges); n > placement.MaxRanges && before == nil {
		return fault.About(fault.OutOfRange, "tenants.cache", "ranges", "ranges is 1 to %d, not %d", placement.MaxRanges, n)
	}
	if len(c.Description) > MaxDescription {
		return fault.About(fault.InvalidArgument, "tenants.cache", "description", "a description has at most %d bytes, this one has %d", MaxDescription, len(c.Description))
	}
	if len(c.Tags) > MaxTags {
		return fault.About(fault.InvalidArgument, "tenants.cache", "tags", "a cache has at most %d tags, these are %d", MaxTags, len(c.Tags))
	}
	for k, v := range c.Tags {
		if len(k) == 0 || len(k) > 128 || len(v) > 256 {
			return fault.About(fault.InvalidArgument, "tenants.cache", "tags", "a tag's key has 1 to 128 bytes and its value at most 256")
		}
	}
	if err := c.Limits.check(); err != nil {
		return err
	}
	if err := c.Growth.check(); err != nil {
		return err
	}
	count, memory := int64(0), c.MemoryLimit
	all, _ := s.Caches(owner.Name, "", 0)
	for _, other := range all {
		if before == nil || other.HexID != before.HexID {
			count++
			memory += other.MemoryLimit
		}
	}
	if l := owner.Limits.Caches; before == nil && l > 0 && count >= l {
		return fault.New(fault.Conflict, "tenants.cache", "the tenant may have %d caches and has %d", l, count)
	}
	grows := before == nil || c.MemoryLimit > before.MemoryLimit // a limit that was lowered since does not freeze the rest
	if l := owner.Limits.MemoryBytes; grows && l > 0 && memory > l {
		return fault.About(fault.OutOfRange, "tenants.cache", "memory_limit_bytes", "the tenant's caches may have %d bytes together; with this one it would be %d", l, memory)
	}
	return nil
}

// spread gives the ranges of a new cache their places: each the partition with the fewest.
func (s *Store) spread(c *Cache) error {
	load := s.load()
	ranges := slices.Clone(c.Ranges)
	for i := range ranges {
		at, err := s.place.Choose(s.class(c), func(id placement.PartitionID) int64 { return load[id] })
		if err != nil {
			return err
		}
		ranges[i].Partition = at
		load[at]++
	}
	c.Ranges = ranges
	return nil
}

// load counts the ranges on each partition.
func (s *Store) load() map[placement.PartitionID]int64 {
	load := map[placement.PartitionID]int64{}
	all, _ := s.caches.List("", "", 0)
	for _, c := range all {
		for _, r := range c.Ranges {
			load[r.Partition]++
		}
	}
	return load
}

func randomID() string {
	b := make([]byte, 16)
	rand.Read(b)
	return hex.EncodeToString(b)
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }
