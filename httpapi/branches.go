package httpapi

import (
	"context"
	"net/http"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

// CreateBranchRequest says what a branch is to be.
type CreateBranchRequest struct {
	Name     string         `json:"name" example:"main-test" pattern:"^[a-z0-9][a-z0-9_-]{0,62}$"` // of the new cache
	Prefix   string         `json:"prefix,omitempty" maxLength:"32768" example:""`                 // only keys that begin so; empty: all
	Settings *CacheSettings `json:"settings,omitempty"`                                            // where they are to differ from those of the cache
}

// createBranch serves POST /v1/caches/:cache/branches.
//
// @Summary     Make a branch: an independent copy of a cache
// @Description What the cache holds at this moment, in a new cache, without a store in between. Nothing of it is seen before all of it is there;
// @Description /v1/caches/{name}/restoration tells how far it is. Both caches go on by themselves. Idempotency keys are not copied.
// @Tags        snapshots
// @Param       request body CreateBranchRequest true "the new cache"
// @Success     202 {object} SnapshotRestoration
// @Failure     default {object} Problem
// @Header      202 {string} Location "where its progress is"
// @Router      /v1/caches/{cache}/branches [post]
func (x *exchange) createBranch() error {
	var req CreateBranchRequest
	if err := x.read(&req); err != nil {
		return err
	}
	if err := tenants.CheckCacheName(req.Name); err != nil {
		return err
	}
	for _, action := range [...]policy.Action{policy.SnapshotCreate, policy.SnapshotRestore} {
		if err := x.mayOnSnapshot(action, "*"); err != nil {
			return err
		}
	}
	from, ok := x.api.Accounts.Cache(x.who().Tenant, x.cache())
	if !ok {
		return fault.About(fault.NotFound, "caches", "cache", "no cache %q", x.cache())
	}
	into, publish, err := x.newCache(req.Name, from, req.Settings)
	if err != nil {
		return err
	}
	accounts := x.api.Accounts
	if err := x.api.Snapshots.Branch(x.Request().Context(), ToCut(accounts, from), ToCut(accounts, into), []byte(req.Prefix), publish); err != nil {
		return err
	}
	p, _ := x.api.Snapshots.Restoring(x.Request().Context(), string(into.TenantID), into.Name)
	x.Response().Header()["Location"] = []string{"/v1/caches/" + into.Name + "/restoration"}
	return x.json(http.StatusAccepted, x.showRestoration(into.Name, p))
}

// newCache is a cache that is to be filled and has no name yet, and what gives it one. It is like another one, nil for none, but for settings.
func (x *exchange) newCache(name string, like *tenants.Cache, settings *CacheSettings) (into *tenants.Cache, publish func(context.Context) error, err error) {
	accounts := x.api.Accounts
	c := tenants.Cache{MaxValue: tenants.DefaultMaxValue, MemoryLimit: tenants.DefaultMemoryLimit}
	if like != nil {
		c = *like
		c.Ranges = nil
	}
	c.Name = name
	if settings != nil {
		if err := settings.apply(&c); err != nil {
			return nil, nil, err
		}
	}
	if err := x.mayUse(policy.CacheCreateCache, name, c.Tags); err != nil {
		return nil, nil, err
	}
	if len(c.Tags) > 0 {
		if err := x.mayUse(policy.CacheTagCache, name, c.Tags); err != nil {
			return nil, nil, err
		}
	}
	if into, err = accounts.PrepareCache(x.Request().Context(), x.who().Tenant, c); err != nil {
		return nil, nil, err
	}
	return into, func(ctx context.Context) error { return accounts.PublishCache(ctx, into) }, nil
}
