package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/larder-cache/larder/sdk/api"
)

// cacheFlags are the settings of a cache as flags.
type cacheFlags struct {
	description, eviction, ttl string
	consistency                string
	durability                 string
	memory, maxValue           int64
	unitsPerSecond             int64
	bytesPerSecond             int64
	growth                     api.CacheGrowth
	tags                       map[string]string
}

func (s *cacheFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&s.description, "description", "", "what it is for")
	f.Var(bytesFlag{&s.memory}, "memory", "memory limit, at least 1MiB (a new cache has 1GiB)")
	f.StringVar(&s.eviction, "eviction", "", "what goes when memory is full: allkeys-adaptive, noeviction or another of Redis's policies")
	f.StringVar(&s.durability, "durability", "", "what becomes of it when its process ends at once: memory (all is lost; a new cache's), async (the last second is) or durable (nothing that was acknowledged is)")
	f.Var(bytesFlag{&s.maxValue}, "max-value", "largest value")
	f.StringVar(&s.ttl, "default-ttl", "", "TTL of values that name none, such as 90s, 15m, 24h, 7d; empty: they stay")
	f.StringVar(&s.consistency, "consistency", "", "how current reads are that do not say it: linearizable, leader or eventual")
	f.Int64Var(&s.unitsPerSecond, "units-per-second", 0, "request units a second; 0: no limit")
	f.Int64Var(&s.bytesPerSecond, "bytes-per-second", 0, "bytes a second of arguments and replies; 0: no limit")
	f.Int64Var(&s.growth.MaxRanges, "max-ranges", 0, "how many slot ranges it may be given as it grows; 0: as many as it is told to have")
	f.Var(bytesFlag{&s.growth.RangeBytes}, "range-bytes", "more ranges as soon as one holds more bytes; 0: whatever it holds")
	f.Int64Var(&s.growth.RangeOpsPerSecond, "range-ops", 0, "more ranges as soon as one is asked for more commands a second; 0: however many")
	f.StringToStringVar(&s.tags, "tag", nil, "tags, NAME=VALUE; they replace all there are")
}

// settings are the flags that were given. Limits travel together: one that was not given keeps its value in
// known, which is asked for only then.
func (s *cacheFlags) settings(c *call, known func() (api.CacheLimits, error)) (api.CacheSettings, error) {
	set := api.CacheSettings{
		Description: given(c, "description", s.description), MemoryLimitBytes: given(c, "memory", s.memory), EvictionPolicy: given(c, "eviction", s.eviction),
		MaxValueBytes: given(c, "max-value", s.maxValue), DefaultTTL: given(c, "default-ttl", s.ttl), Consistency: given(c, "consistency", s.consistency), Durability: given(c, "durability", s.durability), Tags: s.tags,
	}
	units, bytes := given(c, "units-per-second", s.unitsPerSecond), given(c, "bytes-per-second", s.bytesPerSecond)
	if units == nil && bytes == nil {
		return set, nil
	}
	limits := api.CacheLimits{UnitsPerSecond: s.unitsPerSecond, BytesPerSecond: s.bytesPerSecond}
	if units == nil || bytes == nil {
		old, err := known()
		if err != nil {
			return set, err
		}
		if units == nil {
			limits.UnitsPerSecond = old.UnitsPerSecond
		}
		if bytes == nil {
			limits.BytesPerSecond = old.BytesPerSecond
		}
	}
	set.Limits = &limits
	return set, nil
}

// grows are the flags about growth that were given, over what there is, which is asked for only if some are kept.
func (s *cacheFlags) grows(c *call, known func() (api.CacheGrowth, error)) (*api.CacheGrowth, error) {
	flags := []struct {
		name string
		keep func(to, from *api.CacheGrowth)
	}{
		{"max-ranges", func(to, from *api.CacheGrowth) { to.MaxRanges = from.MaxRanges }},
		{"range-bytes", func(to, from *api.CacheGrowth) { to.RangeBytes = from.RangeBytes }},
		{"range-ops", func(to, from *api.CacheGrowth) { to.RangeOpsPerSecond = from.RangeOpsPerSecond }},
	}
	given := 0
	for _, f := range flags {
		if c.Flags().Changed(f.name) {
			given++
		}
	}
	if given == 0 {
		return nil, nil
	}
	grows := s.growth
	if given < len(flags) {
		old, err := known()
		if err != nil {
			return nil, err
		}
		for _, f := range flags {
			if !c.Flags().Changed(f.name) {
				f.keep(&grows, &old)
			}
		}
	}
	return &grows, nil
}

// scale has a cache get other ranges, and shows how far that is until it is done.
func scale(c *call, name string, ranges int64, wait bool) error {
	x, err := c.api.ScaleCache(c.ctx, name, api.ScaleCacheRequest{Ranges: ranges})
	if err != nil {
		return err
	}
	if !wait {
		return showCache(c, x)
	}
	told := ""
	for x.Scaling != nil {
		if what := scalingOf(x); what != told && !c.json {
			told = what
			fmt.Fprintln(c.ErrOrStderr(), what)
		}
		select {
		case <-time.After(scaleLook):
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
		if x, err = c.api.DescribeCache(c.ctx, name); err != nil {
			return err
		}
	}
	return showCache(c, x)
}

// scaleLook is how often scale looks how far it is.
const scaleLook = 250 * time.Millisecond

// scalingOf says how far a cache is on the way to other ranges.
func scalingOf(x api.Cache) string {
	what := fmt.Sprintf("%d ranges", x.Ranges)
	if n := x.Scaling.WantedRanges; n > 0 {
		what += fmt.Sprintf(" of %d", n)
	}
	if m := x.Scaling.Movement; m != nil {
		moves := "move"
		if m.Moved {
			moves = "have moved"
		}
		what += fmt.Sprintf(", slots %d-%d %s from partition %d to %d", m.FirstSlot, m.LastSlot, moves, m.Partition, m.ToPartition)
	}
	return what
}

func cacheCommand() *cobra.Command {
	var wanted int64
	var noWait bool
	var fresh, change cacheFlags
	var page paging
	var ranges int64
	var yesDelete, yesFlush, background, final bool
	var prefix string
	return verbs("cache", "Caches: make, look at, change, branch, empty, delete",
		verb{
			use: "create NAME", short: "Make a cache", args: cobra.ExactArgs(1),
			flags: func(f *pflag.FlagSet) {
				fresh.flags(f)
				f.Int64Var(&ranges, "ranges", 1, "slot ranges, 1 to 64, which are spread over the cluster's partitions; what is done as one piece then has its keys in one slot")
			},
			example: "  larder cache create sessions --memory 512MiB --default-ttl 24h",
			run: func(c *call) error {
				s, err := fresh.settings(c, func() (api.CacheLimits, error) { return api.CacheLimits{}, nil })
				if err != nil {
					return err
				}
				if s.Growth, err = fresh.grows(c, func() (api.CacheGrowth, error) { return api.CacheGrowth{}, nil }); err != nil {
					return err
				}
				made, err := c.api.CreateCache(c.ctx, api.CreateCacheRequest{
					Name: c.args[0], Description: s.Description, MemoryLimitBytes: s.MemoryLimitBytes, EvictionPolicy: s.EvictionPolicy,
					MaxValueBytes: s.MaxValueBytes, DefaultTTL: s.DefaultTTL, Consistency: s.Consistency, Durability: s.Durability, Limits: s.Limits, Growth: s.Growth, Tags: s.Tags, Ranges: given(c, "ranges", ranges),
				})
				if err != nil {
					return err
				}
				return showCache(c, made)
			},
		},
		verb{
			use: "list", short: "List caches", args: cobra.NoArgs, flags: page.flags,
			run: func(c *call) error {
				return list(&c.printer, page, "NAME MEMORY EVICTION DEFAULT_TTL CREATED", func(cursor *string, limit *int) ([]api.Cache, string, error) {
					p, err := c.api.ListCaches(c.ctx, &api.ListCachesParams{Cursor: cursor, Limit: limit})
					return p.Caches, p.NextCursor, err
				}, func(x api.Cache) []any {
					return []any{x.Name, bytesize(x.MemoryLimitBytes), x.EvictionPolicy, x.DefaultTTL, x.CreatedAt}
				})
			},
		},
		verb{
			use: "show NAME", short: "Show a cache and its live numbers", args: cobra.ExactArgs(1),
			run: func(c *call) error {
				x, err := c.api.DescribeCache(c.ctx, c.args[0])
				if err != nil {
					return err
				}
				return showCache(c, x)
			},
		},
		verb{
			use: "update NAME", short: "Change a cache; what is not given stays as it is", args: cobra.ExactArgs(1), flags: change.flags,
			run: func(c *call) error {
				s, err := change.settings(c, func() (api.CacheLimits, error) {
					x, err := c.api.DescribeCache(c.ctx, c.args[0])
					return x.Limits, err
				})
				if err != nil {
					return err
				}
				if s.Growth, err = change.grows(c, func() (api.CacheGrowth, error) {
					x, err := c.api.DescribeCache(c.ctx, c.args[0])
					if err != nil || x.Growth == nil {
						return api.CacheGrowth{}, err
					}
					return *x.Growth, nil
				}); err != nil {
					return err
				}
				x, err := c.api.UpdateCache(c.ctx, c.args[0], s)
				if err != nil {
					return err
				}
				return showCache(c, x)
			},
		},
		verb{
			use: "scale NAME", short: "Give a cache more slot ranges, or fewer, while it is used", args: cobra.ExactArgs(1),
			long: `
Give a cache more slot ranges, or fewer, while it is read and written. Each lies on a partition of its own, so that several
nodes and processors share its memory and its work. Commands with several keys that need all of them at once want these to have
one hash tag from then on: see the guide "cluster".`,
			flags: func(f *pflag.FlagSet) {
				f.Int64Var(&wanted, "ranges", 0, "how many, at most as many as there are partitions")
				f.BoolVar(&noWait, "no-wait", false, "return at once; \"larder cache show\" tells how far it is")
			},
			example: "  larder cache scale sessions --ranges 8",
			run:     func(c *call) error { return scale(c, c.args[0], wanted, !noWait) },
		},
		verb{
			use: "flush NAME", short: "Delete all that a cache holds", args: cobra.ExactArgs(1), flags: yesFlag(&yesFlush),
			run: func(c *call) error {
				if err := confirm(c.Command, yesFlush, "Delete all that the cache %q holds?", c.args[0]); err != nil {
					return err
				}
				if err := c.api.FlushCache(c.ctx, c.args[0]); err != nil {
					return err
				}
				return c.done("The cache %s is empty.", c.args[0])
			},
		},
		verb{
			use: "branch NAME NEW", short: "Make an independent copy of a cache, as it is at this moment", args: cobra.ExactArgs(2),
			example: "  larder cache branch main main-test",
			flags: func(f *pflag.FlagSet) {
				f.BoolVar(&background, "background", false, "do not wait until it is done")
				f.StringVar(&prefix, "prefix", "", "only keys that begin so")
			},
			run: func(c *call) error {
				r, err := c.api.CreateBranch(c.ctx, c.args[0], api.CreateBranchRequest{Name: c.args[1], Prefix: given(c, "prefix", prefix)})
				return c.restored(r, err, c.args[1], background)
			},
		},
		verb{
			use: "delete NAME", short: "Delete a cache and all that it holds", args: cobra.ExactArgs(1),
			flags: func(f *pflag.FlagSet) {
				yesFlag(&yesDelete)(f)
				f.BoolVar(&final, "final-snapshot", false, "make a snapshot first, and delete the cache when that is there")
			},
			run: func(c *call) error {
				if err := confirm(c.Command, yesDelete, "Delete the cache %q and all that it holds?", c.args[0]); err != nil {
					return err
				}
				if final {
					s, err := c.api.CreateSnapshot(c.ctx, c.args[0], api.CreateSnapshotRequest{Final: &final})
					return c.made(s, err, false)
				}
				if err := c.api.DeleteCache(c.ctx, c.args[0]); err != nil {
					return err
				}
				return c.done("The cache %s is deleted.", c.args[0])
			},
		},
	)
}

// yesFlag declares the flag that answers the question before something is lost.
func yesFlag(yes *bool) func(*pflag.FlagSet) {
	return func(f *pflag.FlagSet) { f.BoolVarP(yes, "yes", "y", false, "do not ask") }
}

func showCache(c *call, x api.Cache) error {
	fields := []field{
		{"name", x.Name}, {"id", x.ID}, {"description", x.Description}, {"memory limit", bytesize(x.MemoryLimitBytes)}, {"eviction", x.EvictionPolicy},
		{"largest value", bytesize(x.MaxValueBytes)}, {"default TTL", x.DefaultTTL}, {"consistency", x.Consistency}, {"durability", x.Durability}, {"units per second", limit(x.Limits.UnitsPerSecond)},
		{"bytes per second", limit(x.Limits.BytesPerSecond)}, {"slot ranges", x.Ranges}, {"tags", pairs(x.Tags)}, {"created", x.CreatedAt}, {"updated", x.UpdatedAt},
	}
	if x.Growth != nil {
		fields = append(fields, field{"grows to", fmt.Sprintf("%d ranges, beyond %s or %s commands a second in one", x.Growth.MaxRanges, limit(x.Growth.RangeBytes), limit(x.Growth.RangeOpsPerSecond))})
	}
	if x.Scaling != nil {
		fields = append(fields, field{"scaling", scalingOf(x)})
	}
	for _, r := range x.SlotRanges {
		fields = append(fields, field{"slots", fmt.Sprintf("%d-%d on partition %d", r.FirstSlot, r.LastSlot, r.Partition)})
	}
	if l := x.Live; l != nil {
		fields = append(fields, field{"items", l.Items}, field{"memory used", bytesize(l.MemoryBytes)}, field{"hits", l.Hits}, field{"misses", l.Misses},
			field{"expired", l.Expired}, field{"evicted", l.Evicted})
	}
	return c.show(x, fields...)
}

// limit is a limit for people, to whom 0 is none.
func limit(n int64) string {
	if n == 0 {
		return "no limit"
	}
	return fmt.Sprint(n)
}

func pairs(m map[string]string) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, name+"="+m[name])
	}
	return strings.Join(list, ", ")
}

// tenantFlags are what operators choose of a tenant, as flags.
type tenantFlags struct {
	description    string
	origins        []string
	guardrails     []string
	unitsPerSecond int64
	bytesPerSecond int64
	caches         int64
	memory         int64
	snapshots      int64
	snapshotBytes  int64
}

func (s *tenantFlags) flags(f *pflag.FlagSet) {
	f.StringVar(&s.description, "description", "", "whose it is")
	f.StringSliceVar(&s.origins, "cors-origin", nil, "where browsers may call from; * for everywhere; they replace all there are")
	f.StringArrayVar(&s.guardrails, "guardrail", nil, "file with a policy that must allow as well, whoever asks; they replace all there are")
	f.Int64Var(&s.unitsPerSecond, "units-per-second", 0, "request units a second of all caches; 0: no limit")
	f.Int64Var(&s.bytesPerSecond, "bytes-per-second", 0, "bytes a second of arguments and replies; 0: no limit")
	f.Int64Var(&s.caches, "caches", 0, "how many caches; 0: no limit")
	f.Var(bytesFlag{&s.memory}, "memory", "sum of the caches' memory limits; 0: no limit")
	f.Int64Var(&s.snapshots, "snapshots", 0, "how many snapshots; 0: no limit")
	f.Var(bytesFlag{&s.snapshotBytes}, "snapshot-bytes", "what the snapshots have in the store together; 0: no limit")
}

// request are the flags that were given, over the limits there are, which are asked for only if some are kept.
func (s *tenantFlags) request(c *call, known func() (api.TenantLimits, error)) (req api.UpdateTenantRequest, err error) {
	req = api.UpdateTenantRequest{Description: given(c, "description", s.description), CorsOrigins: s.origins}
	for _, file := range s.guardrails {
		document, err := readDocument(c, file)
		if err != nil {
			return req, err
		}
		req.Guardrails = append(req.Guardrails, document)
	}
	limits := []struct {
		flag     string
		value    int64
		in       func(*api.TenantLimits) *int64
		wasGiven bool
	}{
		{flag: "units-per-second", value: s.unitsPerSecond, in: func(l *api.TenantLimits) *int64 { return &l.UnitsPerSecond }},
		{flag: "bytes-per-second", value: s.bytesPerSecond, in: func(l *api.TenantLimits) *int64 { return &l.BytesPerSecond }},
		{flag: "caches", value: s.caches, in: func(l *api.TenantLimits) *int64 { return &l.Caches }},
		{flag: "memory", value: s.memory, in: func(l *api.TenantLimits) *int64 { return &l.MemoryBytes }},
		{flag: "snapshots", value: s.snapshots, in: func(l *api.TenantLimits) *int64 { return &l.Snapshots }},
		{flag: "snapshot-bytes", value: s.snapshotBytes, in: func(l *api.TenantLimits) *int64 { return &l.SnapshotBytes }},
	}
	if !slices.ContainsFunc([]string{"units-per-second", "bytes-per-second", "caches", "memory", "snapshots", "snapshot-bytes"}, c.Flags().Changed) {
		return req, nil
	}
	all, err := known()
	if err != nil {
		return req, err
	}
	for _, l := range limits {
		if c.Flags().Changed(l.flag) {
			*l.in(&all) = l.value
		}
	}
	req.Limits = &all
	return req, nil
}

func tenantCommand() *cobra.Command {
	var fresh, change tenantFlags
	var page paging
	var yes bool
	var status, keyName string
	return verbs("tenant", "Tenants (for operators): make, look at, change, delete",
		verb{
			use: "create NAME", short: "Make a tenant and its first owner's key, which is shown only now", args: cobra.ExactArgs(1), operator: true, flags: fresh.flags,
			run: func(c *call) error {
				r, err := fresh.request(c, func() (api.TenantLimits, error) { return api.TenantLimits{}, nil })
				if err != nil {
					return err
				}
				made, err := c.api.CreateTenant(c.ctx, api.CreateTenantRequest{
					Name: c.args[0], Description: r.Description, CorsOrigins: r.CorsOrigins, Guardrails: r.Guardrails, Limits: r.Limits,
				})
				if err != nil {
					return err
				}
				return c.show(made, append(tenantFields(made.Tenant), field{"key id", made.KeyID}, field{"API key", made.APIKey})...)
			},
		},
		verb{
			use: "list", short: "List tenants", args: cobra.NoArgs, operator: true, flags: page.flags,
			run: func(c *call) error {
				return list(&c.printer, page, "NAME STATUS CREATED DESCRIPTION", func(cursor *string, limit *int) ([]api.Tenant, string, error) {
					p, err := c.api.ListTenants(c.ctx, &api.ListTenantsParams{Cursor: cursor, Limit: limit})
					return p.Tenants, p.NextCursor, err
				}, func(x api.Tenant) []any { return []any{x.Name, x.Status, x.CreatedAt, x.Description} })
			},
		},
		verb{
			use: "show NAME", short: "Show a tenant", args: cobra.ExactArgs(1), operator: true,
			run: func(c *call) error {
				x, err := c.api.GetTenant(c.ctx, c.args[0])
				if err != nil {
					return err
				}
				return c.show(x, tenantFields(x)...)
			},
		},
		verb{
			use: "update NAME", short: "Change a tenant; what is not given stays as it is", args: cobra.ExactArgs(1), operator: true,
			flags: func(f *pflag.FlagSet) {
				change.flags(f)
				f.StringVar(&status, "status", "", "active, or suspended: no credential of the tenant is honoured")
			},
			run: func(c *call) error {
				r, err := change.request(c, func() (api.TenantLimits, error) {
					x, err := c.api.GetTenant(c.ctx, c.args[0])
					return x.Limits, err
				})
				if err != nil {
					return err
				}
				r.Status = given(c, "status", status)
				x, err := c.api.UpdateTenant(c.ctx, c.args[0], r)
				if err != nil {
					return err
				}
				return c.show(x, tenantFields(x)...)
			},
		},
		verb{
			use: "owner-key NAME", short: "Make an owner's key for a tenant that has lost its own", args: cobra.ExactArgs(1), operator: true,
			flags: func(f *pflag.FlagSet) { f.StringVar(&keyName, "name", "", "name of the key") },
			run: func(c *call) error {
				made, err := c.api.CreateOwnerKey(c.ctx, c.args[0], api.CreateOwnerKeyRequest{Name: given(c, "name", keyName)})
				if err != nil {
					return err
				}
				return showNewKey(c, made)
			},
		},
		verb{
			use: "delete NAME", short: "Delete a tenant with its caches, keys, roles and policies", args: cobra.ExactArgs(1), operator: true, flags: yesFlag(&yes),
			run: func(c *call) error {
				if err := confirm(c.Command, yes, "Delete the tenant %q with all that it has?", c.args[0]); err != nil {
					return err
				}
				if err := c.api.DeleteTenant(c.ctx, c.args[0]); err != nil {
					return err
				}
				return c.done("The tenant %s is deleted.", c.args[0])
			},
		},
	)
}

func tenantFields(x api.Tenant) []field {
	return []field{
		{"name", x.Name}, {"id", x.ID}, {"status", x.Status}, {"description", x.Description}, {"units per second", limit(x.Limits.UnitsPerSecond)},
		{"bytes per second", limit(x.Limits.BytesPerSecond)}, {"caches", limit(x.Limits.Caches)}, {"memory", limit(x.Limits.MemoryBytes)},
		{"snapshots", limit(x.Limits.Snapshots)}, {"snapshot bytes", limit(x.Limits.SnapshotBytes)},
		{"CORS origins", x.CorsOrigins}, {"guardrails", len(x.Guardrails)}, {"created", x.CreatedAt},
	}
}

func usageCommand() *cobra.Command {
	var page paging
	return verb{
		use: "usage [CACHE]", short: "Show what was used so far, by cache or by class of command", args: cobra.MaximumNArgs(1), flags: page.flags,
		long: `
Show what was used so far of every cache of the tenant: operations, request units and bytes, and what was refused.
With CACHE, show that one by class of command.`,
		run: func(c *call) error {
			if len(c.args) == 0 {
				return list(&c.printer, page, "CACHE OPERATIONS UNITS BYTES_IN BYTES_OUT DENIED THROTTLED FAILED", func(cursor *string, limit *int) ([]api.CacheUsage, string, error) {
					p, err := c.api.TenantUsage(c.ctx, &api.TenantUsageParams{Cursor: cursor, Limit: limit})
					return p.Caches, p.NextCursor, err
				}, func(u api.CacheUsage) []any {
					return []any{u.Cache, u.Operations, u.Units, u.BytesIn, u.BytesOut, u.Denied, u.Throttled, u.Failed}
				})
			}
			u, err := c.api.CacheUsage(c.ctx, c.args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.show(u)
			}
			rows := [][]any{}
			for _, class := range slices.Sorted(maps.Keys(u.Classes)) {
				rows = append(rows, []any{class, u.Classes[class].Operations, u.Classes[class].Units})
			}
			rows = append(rows, []any{"all", u.Operations, u.Units})
			return c.table(true, "CLASS OPERATIONS UNITS", rows)
		},
	}.command()
}
