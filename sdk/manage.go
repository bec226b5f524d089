package larder

import (
	"context"
	"iter"

	"github.com/larder-cache/larder/sdk/api"
)

// This file has the lists of management, page after page. What makes, changes and removes their items is one
// call each of Client.API, which says all there is to say: CreateCache, RotateAPIKey, PutPolicy, CreateToken.

// Whoami tells who the credential belongs to.
func (c *Client) Whoami(ctx context.Context, options ...CallOption) (api.WhoAmI, error) {
	return c.api.Whoami(ctx, options...)
}

// Caches lists the tenant's caches by name.
func (c *Client) Caches(ctx context.Context, options ...CallOption) iter.Seq2[api.Cache, error] {
	return pages(func(cursor *string) ([]api.Cache, string, error) {
		page, err := c.api.ListCaches(ctx, &api.ListCachesParams{Cursor: cursor}, options...)
		return page.Caches, page.NextCursor, err
	})
}

// Usage lists what was used of the tenant's caches so far, by the caches' names.
func (c *Client) Usage(ctx context.Context, options ...CallOption) iter.Seq2[api.CacheUsage, error] {
	return pages(func(cursor *string) ([]api.CacheUsage, string, error) {
		page, err := c.api.TenantUsage(ctx, &api.TenantUsageParams{Cursor: cursor}, options...)
		return page.Caches, page.NextCursor, err
	})
}

// Keys lists the tenant's API keys by id.
func (c *Client) Keys(ctx context.Context, options ...CallOption) iter.Seq2[api.APIKey, error] {
	return pages(func(cursor *string) ([]api.APIKey, string, error) {
		page, err := c.api.ListAPIKeys(ctx, &api.ListAPIKeysParams{Cursor: cursor}, options...)
		return page.Keys, page.NextCursor, err
	})
}

// Roles lists the tenant's roles, the ready-made ones as well.
func (c *Client) Roles(ctx context.Context, options ...CallOption) iter.Seq2[api.Role, error] {
	return pages(func(cursor *string) ([]api.Role, string, error) {
		page, err := c.api.ListRoles(ctx, &api.ListRolesParams{Cursor: cursor}, options...)
		return page.Roles, page.NextCursor, err
	})
}

// Policies lists the tenant's policies without their documents, the ready-made ones as well.
func (c *Client) Policies(ctx context.Context, options ...CallOption) iter.Seq2[api.Policy, error] {
	return pages(func(cursor *string) ([]api.Policy, string, error) {
		page, err := c.api.ListPolicies(ctx, &api.ListPoliciesParams{Cursor: cursor}, options...)
		return page.Policies, page.NextCursor, err
	})
}

// Tokens lists the tenant's tokens that are in force.
func (c *Client) Tokens(ctx context.Context, options ...CallOption) iter.Seq2[api.Token, error] {
	return pages(func(cursor *string) ([]api.Token, string, error) {
		page, err := c.api.ListTokens(ctx, &api.ListTokensParams{Cursor: cursor}, options...)
		return page.Tokens, page.NextCursor, err
	})
}

// Tenants lists all tenants; it is for operators.
func (c *Client) Tenants(ctx context.Context, options ...CallOption) iter.Seq2[api.Tenant, error] {
	return pages(func(cursor *string) ([]api.Tenant, string, error) {
		page, err := c.api.ListTenants(ctx, &api.ListTenantsParams{Cursor: cursor}, options...)
		return page.Tenants, page.NextCursor, err
	})
}
