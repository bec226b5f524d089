package httpapi

import (
	"cmp"
	"net/http"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/placement"
	"github.com/larder-cache/larder/tenants"
)

func (a *API) cacheRoutes() []route {
	const all, one = "/v1/caches", "/v1/caches/:cache"
	return []route{
		{method: http.MethodPost, path: all, manage: true, serve: (*exchange).createCache},
		{method: http.MethodGet, path: all, manage: true, serve: (*exchange).listCaches},
		{method: http.MethodGet, path: one, manage: true, serve: (*exchange).describeCache},
		{method: http.MethodPatch, path: one, manage: true, serve: (*exchange).updateCache},
		{method: http.MethodDelete, path: one, manage: true, serve: (*exchange).deleteCache},
		{method: http.MethodPost, path: one + "/flush", serve: (*exchange).flushCache},
		{method: http.MethodPost, path: one + "/scale", manage: true, serve: (*exchange).scaleCache},
		{method: http.MethodGet, path: one + "/usage", manage: true, serve: (*exchange).cacheUsage},
		{method: http.MethodGet, path: "/v1/usage", manage: true, serve: (*exchange).tenantUsage},
	}
}

// Cache is a cache as its owner sees it.
type Cache struct {
	Name                 string            `json:"name" example:"main"`
	ID                   string            `json:"id" example:"6f1d3c0b9a8e4f5d8c7b6a5f4e3d2c1b"` // never reused
	Description          string            `json:"description,omitempty" example:"web sessions"`
	MemoryLimitBytes     int64             `json:"memory_limit_bytes" example:"1073741824"`
	EvictionPolicy       string            `json:"eviction_policy" example:"allkeys-adaptive"`
	MaxValueBytes        int64             `json:"max_value_bytes" example:"33554432"`
	NotifyKeyspaceEvents string            `json:"notify_keyspace_events" example:"Ex"`                      // which changes are told to listeners, in Redis's letters; empty: none
	DefaultTTL           *string           `json:"default_ttl" example:"24h"`                                // null: values that name no TTL live until deleted or evicted
	Consistency          string            `json:"consistency" example:"linearizable"`                       // of reads that name none
	Durability           string            `json:"durability" enums:"memory,async,durable" example:"memory"` // what becomes of it when its process ends at once: all is lost, the last second, or nothing that was acknowledged
	Limits               CacheLimits       `json:"limits"`
	Tags                 map[string]string `json:"tags,omitempty"`
	CreatedAt            string            `json:"created_at" example:"2026-11-23T16:10:00.000Z"`
	UpdatedAt            string            `json:"updated_at" example:"2026-11-23T16:10:00.000Z"`
	Ranges               int               `json:"ranges" example:"1"`    // slot ranges that its keys fall into
	Growth               *CacheGrowth      `json:"growth,omitempty"`      // none: it has as many ranges as it is told to have
	Scaling              *CacheScaling     `json:"scaling,omitempty"`     // while it is given other ranges
	SlotRanges           []SlotRange       `json:"slot_ranges,omitempty"` // when one cache is described that has several, or is about to
	Live                 *LiveNumbers      `json:"live,omitempty"`        // when one cache is described
}

// CacheLimits bound the traffic of a cache; 0 means no limit.
type CacheLimits struct {
	UnitsPerSecond int64 `json:"units_per_second" example:"10000" minimum:"0" maximum:"17592186044416"` // request units, with a burst of one second's worth
	BytesPerSecond int64 `json:"bytes_per_second" example:"0" minimum:"0" maximum:"17592186044416"`     // arguments and replies together
}

// CacheGrowth says when a cache is given more ranges without being asked, and fewer again.
type CacheGrowth struct {
	MaxRanges         int   `json:"max_ranges" example:"8" minimum:"0" maximum:"64"`                           // how many it may be given; 0: it has as many as it is told to have
	RangeBytes        int64 `json:"range_bytes" example:"1073741824" minimum:"0" maximum:"17592186044416"`     // more, as soon as one of them holds more bytes; 0: whatever it holds
	RangeOpsPerSecond int64 `json:"range_ops_per_second" example:"50000" minimum:"0" maximum:"17592186044416"` // or is asked for more commands a second; 0: however many
}

// CacheScaling tells how far a cache is on the way to other ranges.
type CacheScaling struct {
	WantedRanges int           `json:"wanted_ranges" example:"8"` // 0 when that is settled and only the last movement ends
	Movement     *SlotMovement `json:"movement,omitempty"`        // the one under way
}

// SlotMovement is a span of slots on its way from one partition to another.
type SlotMovement struct {
	SlotRange
	To        int    `json:"to_partition" example:"5"`
	Moved     bool   `json:"moved" example:"false"` // the target serves it, and the source is cleaned up
	StartedAt string `json:"started_at" example:"2026-11-23T16:10:00.000Z"`
}

// SlotRange is a run of slots on one partition.
type SlotRange struct {
	FirstSlot int `json:"first_slot" example:"0" minimum:"0" maximum:"16383"`
	LastSlot  int `json:"last_slot" example:"2047" minimum:"0" maximum:"16383"`
	Partition int `json:"partition" example:"3" minimum:"0"`
}

func showRanges(c *tenants.Cache) []SlotRange {
	if len(c.Ranges) == 1 && c.Scaled() {
		return nil
	}
	shown := make([]SlotRange, len(c.Ranges))
	for i, r := range c.Ranges {
		shown[i] = SlotRange{int(r.From), int(r.To), int(r.Partition)}
	}
	return shown
}

func showScaling(c *tenants.Cache) *CacheScaling {
	if c.Scaled() {
		return nil
	}
	shown := &CacheScaling{WantedRanges: c.WantedRanges}
	if m := c.Move; m != nil {
		shown.Movement = &SlotMovement{SlotRange{int(m.From), int(m.To), int(m.Source)}, int(m.Target), m.Committed, showTime(m.StartedAt)}
	}
	return shown
}

// LiveNumbers are what a cache holds and did at this moment. They begin at 0 when its partition starts.
type LiveNumbers struct {
	Items       int64 `json:"items" example:"1200"`
	MemoryBytes int64 `json:"memory_bytes" example:"524288"`
	Hits        int64 `json:"hits" example:"90210"`
	Misses      int64 `json:"misses" example:"312"`
	Expired     int64 `json:"expired" example:"44"`
	Evicted     int64 `json:"evicted" example:"0"`

	Durability string `json:"durability" enums:"memory,async,durable" example:"memory"` // at this moment: a change takes until all that is in the cache is on disk
}

func showCache(c *tenants.Cache) Cache {
	shown := Cache{
		Name: c.Name, ID: c.HexID, Description: c.Description, MemoryLimitBytes: c.MemoryLimit, EvictionPolicy: c.Eviction,
		MaxValueBytes: c.MaxValue, NotifyKeyspaceEvents: c.NotifyKeyspaceEvents, Consistency: max(c.Level(), engine.Linearizable).String(), Durability: cmp.Or(c.Durability, tenants.Durabilities[0]), Limits: CacheLimits{c.Limits.UnitsPerSecond, c.Limits.BytesPerSecond}, Tags: c.Tags,
		CreatedAt: showTime(c.CreatedAt), UpdatedAt: showTime(c.UpdatedAt), Ranges: len(c.Ranges),
		Scaling: showScaling(c),
	}
	if g := c.Growth; g != (tenants.Growth{}) {
		shown.Growth = &CacheGrowth{g.MaxRanges, g.RangeBytes, g.RangeOps}
	}
	if c.DefaultTTLMs > 0 {
		ttl := formatDuration(c.DefaultTTLMs)
		shown.DefaultTTL = &ttl
	}
	return shown
}

// showTime writes a time as every route does.
func showTime(t time.Time) string { return formatTime(t.UnixMilli()) }

// CacheSettings are what a cache's owner may choose. A member that is left out keeps its value, or gets its
// default in a new cache.
type CacheSettings struct {
	Description          *string           `json:"description,omitempty" maxLength:"1024" example:"web sessions"`
	MemoryLimitBytes     *int64            `json:"memory_limit_bytes,omitempty" minimum:"1048576" maximum:"17592186044416" example:"1073741824"`
	EvictionPolicy       *string           `json:"eviction_policy,omitempty" enums:"allkeys-adaptive,noeviction,allkeys-lru,volatile-lru,allkeys-lfu,volatile-lfu,allkeys-random,volatile-random,volatile-ttl" example:"allkeys-adaptive"`
	MaxValueBytes        *int64            `json:"max_value_bytes,omitempty" minimum:"1" maximum:"536870912" example:"33554432"`
	NotifyKeyspaceEvents *string           `json:"notify_keyspace_events,omitempty" maxLength:"32" pattern:"^[KEg$lshzxetmdnA]*$" example:"Ex"` // which changes are told to listeners, in Redis's letters
	Durability           *string           `json:"durability,omitempty" enums:"memory,async,durable" example:"memory"`                          // what becomes of it when its process ends at once; may be changed at any time
	DefaultTTL           *string           `json:"default_ttl,omitempty" maxLength:"32" example:"24h"`                                          // an empty string takes it away
	Consistency          *string           `json:"consistency,omitempty" enums:"linearizable,leader,eventual" example:"linearizable"`           // of reads that name none
	Limits               *CacheLimits      `json:"limits,omitempty"`
	Growth               *CacheGrowth      `json:"growth,omitempty"`
	Tags                 map[string]string `json:"tags,omitempty"`
}

// apply changes c as far as the settings say.
func (s *CacheSettings) apply(c *tenants.Cache) error {
	for _, f := range []struct {
		name  string
		value *int64
	}{{"memory_limit_bytes", s.MemoryLimitBytes}, {"max_value_bytes", s.MaxValueBytes}} {
		if f.value != nil && *f.value < 1 { // 0 would stand for the default
			return fault.About(fault.OutOfRange, "caches", f.name, "%s is at least 1, not %d", f.name, *f.value)
		}
	}
	if s.EvictionPolicy != nil && *s.EvictionPolicy == "" {
		return fault.About(fault.InvalidArgument, "caches", "eviction_policy", "eviction_policy is one of %v", engine.EvictionPolicies())
	}
	if s.Consistency != nil && *s.Consistency == "" {
		return fault.About(fault.InvalidArgument, "caches", "consistency", "consistency is one of %v", engine.Consistencies())
	}
	if s.Durability != nil && *s.Durability == "" {
		return fault.About(fault.InvalidArgument, "caches", "durability", "durability is one of %v", tenants.Durabilities)
	}
	set(&c.Durability, s.Durability)
	set(&c.Description, s.Description)
	set(&c.MemoryLimit, s.MemoryLimitBytes)
	set(&c.Eviction, s.EvictionPolicy)
	set(&c.MaxValue, s.MaxValueBytes)
	set(&c.NotifyKeyspaceEvents, s.NotifyKeyspaceEvents)
	set(&c.Consistency, s.Consistency)
	if s.MemoryLimitBytes != nil && s.MaxValueBytes == nil {
		c.MaxValue = min(c.MaxValue, c.MemoryLimit)
	}
	if s.DefaultTTL != nil {
		c.DefaultTTLMs = 0
		if *s.DefaultTTL != "" {
			ms, err := parseDuration("default_ttl", *s.DefaultTTL)
			if err != nil {
				return err
			}
			c.DefaultTTLMs = ms
		}
	}
	if s.Limits != nil {
		c.Limits.UnitsPerSecond, c.Limits.BytesPerSecond = s.Limits.UnitsPerSecond, s.Limits.BytesPerSecond
	}
	if s.Growth != nil {
		c.Growth = tenants.Growth{MaxRanges: s.Growth.MaxRanges, RangeBytes: s.Growth.RangeBytes, RangeOps: s.Growth.RangeOpsPerSecond}
	}
	if s.Tags != nil {
		c.Tags = s.Tags
	}
	return nil
}

// set copies *from to *to if there is one.
func set[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// mayUse checks the right to an action on a cache of the caller's tenant, "*" for all of them. tags are those
// that the request would give it.
func (x *exchange) mayUse(action policy.Action, name string, tags map[string]string) error {
	return x.api.Gateway.AuthorizeCache(&x.caller, action, name, tags)
}

// namedCache checks the right to action on the cache of the path and finds it. Who may not is told the same
// whether it exists or not.
func (x *exchange) namedCache(action policy.Action, tags map[string]string) (*tenants.Cache, error) {
	if err := x.mayUse(action, x.cache(), tags); err != nil {
		return nil, err
	}
	c, ok := x.api.Accounts.Cache(x.who().Tenant, x.cache())
	if !ok {
		return nil, fault.About(fault.NotFound, "caches", "cache", "no cache %q", x.cache())
	}
	return c, nil
}

// CreateCacheRequest makes a cache.
type CreateCacheRequest struct {
	Name          string `json:"name" example:"main" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$"`
	Ranges        *int   `json:"ranges,omitempty" minimum:"1" maximum:"64" example:"1"` // into how many slot ranges its keys fall, each on a partition of its own where there are so many
	CacheSettings `json:",inline"`
}

// createCache serves POST /v1/caches.
//
// @Summary     Make a cache
// @Tags        caches
// @Param       request body CreateCacheRequest true "the cache"
// @Success     201 {object} Cache
// @Failure     default {object} Problem
// @Header      201 {string} Location "where the cache is"
// @Router      /v1/caches [post]
func (x *exchange) createCache() error {
	var req CreateCacheRequest
	if err := x.read(&req); err != nil {
		return err
	}
	if err := tenants.CheckCacheName(req.Name); err != nil {
		return err
	}
	if err := x.mayUse(policy.CacheCreateCache, req.Name, req.Tags); err != nil {
		return err
	}
	if len(req.Tags) > 0 {
		if err := x.mayUse(policy.CacheTagCache, req.Name, req.Tags); err != nil {
			return err
		}
	}
	c := tenants.Cache{Name: req.Name, MaxValue: tenants.DefaultMaxValue, MemoryLimit: tenants.DefaultMemoryLimit}
	if n := req.Ranges; n != nil {
		if *n < 1 || *n > placement.MaxRanges {
			return fault.About(fault.OutOfRange, "caches", "ranges", "ranges is 1 to %d, not %d", placement.MaxRanges, *n)
		}
		c.Ranges = placement.Even(*n)
	}
	if err := req.apply(&c); err != nil {
		return err
	}
	made, err := x.api.Accounts.CreateCache(x.Request().Context(), x.who().Tenant, c)
	if err != nil {
		return err
	}
	x.Response().Header()["Location"] = []string{"/v1/caches/" + made.Name}
	return x.json(http.StatusCreated, showCache(made))
}

// CachePage is a page of caches in order of their names.
type CachePage struct {
	Caches     []Cache `json:"caches"`
	NextCursor string  `json:"next_cursor" example:""` // empty on the last page
}

// listCaches serves GET /v1/caches.
//
// @Summary     List caches
// @Tags        caches
// @Param       cursor query string false "next_cursor of the page before" maxlength(63)
// @Param       limit query int false "how many a page holds" minimum(1) maximum(1000) default(100)
// @Success     200 {object} CachePage
// @Failure     default {object} Problem
// @Router      /v1/caches [get]
func (x *exchange) listCaches() error {
	after, limit, err := x.page()
	if err != nil {
		return err
	}
	if err := x.mayUse(policy.CacheListCaches, "*", nil); err != nil {
		return err
	}
	list, next := x.api.Accounts.Caches(x.who().Tenant, after, limit)
	page := CachePage{Caches: make([]Cache, len(list)), NextCursor: next}
	for i, c := range list {
		page.Caches[i] = showCache(c)
	}
	return x.json(http.StatusOK, page)
}

// describeCache serves GET /v1/caches/:cache.
//
// @Summary     Describe a cache
// @Description Its settings, and live numbers while its partition is in reach.
// @Tags        caches
// @Success     200 {object} Cache
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache} [get]
func (x *exchange) describeCache() error {
	if err := x.query().end(); err != nil {
		return err
	}
	c, err := x.namedCache(policy.CacheDescribeCache, nil)
	if err != nil {
		return err
	}
	shown := showCache(c)
	shown.SlotRanges = showRanges(c)
	if s, ok := x.api.Stats(c); ok {
		shown.Live = &LiveNumbers{Items: s.Items, MemoryBytes: s.Bytes, Hits: s.Hits, Misses: s.Misses, Expired: s.Expired, Evicted: s.Evicted, Durability: x.api.durability(c)}
	}
	return x.json(http.StatusOK, shown)
}

// updateCache serves PATCH /v1/caches/:cache.
//
// @Summary     Change a cache's settings
// @Tags        caches
// @Param       request body CacheSettings true "what is to change"
// @Success     200 {object} Cache
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache} [patch]
func (x *exchange) updateCache() error {
	var req CacheSettings
	if err := x.read(&req); err != nil {
		return err
	}
	if _, err := x.namedCache(policy.CacheUpdateCache, req.Tags); err != nil {
		return err
	}
	if req.Tags != nil {
		if err := x.mayUse(policy.CacheTagCache, x.cache(), req.Tags); err != nil {
			return err
		}
	}
	changed, err := x.api.Accounts.UpdateCache(x.Request().Context(), x.who().Tenant, x.cache(), req.apply)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showCache(changed))
}

// deleteCache serves DELETE /v1/caches/:cache.
//
// @Summary     Delete a cache with all it holds
// @Tags        caches
// @Success     204 "deleted"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache} [delete]
func (x *exchange) deleteCache() error {
	if err := x.query().end(); err != nil {
		return err
	}
	if _, err := x.namedCache(policy.CacheDeleteCache, nil); err != nil {
		return err
	}
	if err := x.api.Accounts.DeleteCache(x.Request().Context(), x.who().Tenant, x.cache()); err != nil {
		return err
	}
	return x.noContent()
}

var cmdFlushAll = engine.MustLookup("FLUSHALL")

// flushCache serves POST /v1/caches/:cache/flush.
//
// @Summary     Delete all that a cache holds
// @Tags        caches
// @Success     204 "the cache is empty"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/flush [post]
func (x *exchange) flushCache() error {
	if err := x.query().end(); err != nil {
		return err
	}
	if err := x.noBody(); err != nil {
		return err
	}
	x.add(cmdFlushAll)
	if _, err := x.do(); err != nil {
		return err
	}
	return x.noContent()
}

// cacheUsage serves GET /v1/caches/:cache/usage.
//
// @Summary     What was used of a cache so far
// @Tags        usage
// @Success     200 {object} CacheUsage
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/usage [get]
func (x *exchange) cacheUsage() error {
	if err := x.query().end(); err != nil {
		return err
	}
	c, err := x.namedCache(policy.QuotaGet, nil)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, CacheUsage{c.Name, x.api.Meters.Usage(c)})
}

// CacheUsage is what was used of a cache since it was made.
type CacheUsage struct {
	Cache         string `json:"cache" example:"main"`
	tenants.Usage `json:",inline"`
}

// UsagePage is what was used of a tenant's caches.
type UsagePage struct {
	Caches     []CacheUsage `json:"caches"`
	NextCursor string       `json:"next_cursor" example:""` // empty on the last page
}

// tenantUsage serves GET /v1/usage.
//
// @Summary     What was used of all caches so far
// @Tags        usage
// @Param       cursor query string false "next_cursor of the page before" maxlength(63)
// @Param       limit query int false "how many caches a page holds" minimum(1) maximum(1000) default(100)
// @Success     200 {object} UsagePage
// @Failure     default {object} Problem
// @Router      /v1/usage [get]
func (x *exchange) tenantUsage() error {
	after, limit, err := x.page()
	if err != nil {
		return err
	}
	if err := x.mayUse(policy.QuotaGet, "*", nil); err != nil {
		return err
	}
	list, next := x.api.Accounts.Caches(x.who().Tenant, after, limit)
	page := UsagePage{Caches: make([]CacheUsage, len(list)), NextCursor: next}
	for i, c := range list {
		page.Caches[i] = CacheUsage{c.Name, x.api.Meters.Usage(c)}
	}
	return x.json(http.StatusOK, page)
}

// durability is of which class a cache is at this moment.
func (a *API) durability(c *tenants.Cache) string {
	if a.Durability == nil {
		return cmp.Or(c.Durability, tenants.Durabilities[0])
	}
	return a.Durability(c)
}

// ScaleCacheRequest says how many slot ranges a cache is to have.
type ScaleCacheRequest struct {
	Ranges int `json:"ranges" minimum:"1" maximum:"64" example:"4"` // at most as many as there are partitions
}

// scaleCache serves POST /v1/caches/:cache/scale.
//
// @Summary     Give a cache more slot ranges, or fewer
// @Description Each range is on a partition of its own. The cache is read and written meanwhile; GET /v1/caches/{cache} shows
// @Description how far it is: "scaling" is there until it has the ranges. Asked again with the same number nothing changes, with
// @Description another one what is under way turns back or goes on from where it is.
// @Tags        caches
// @Param       request body ScaleCacheRequest true "how many"
// @Success     202 {object} Cache
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/scale [post]
func (x *exchange) scaleCache() error {
	var req ScaleCacheRequest
	if err := x.read(&req); err != nil {
		return err
	}
	if _, err := x.namedCache(policy.CacheUpdateCache, nil); err != nil {
		return err
	}
	changed, err := x.api.Accounts.ScaleCache(x.Request().Context(), x.who().Tenant, x.cache(), req.Ranges)
	if err != nil {
		return err
	}
	shown := showCache(changed)
	shown.SlotRanges = showRanges(changed)
	return x.json(http.StatusAccepted, shown)
}
