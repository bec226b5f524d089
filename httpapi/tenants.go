package httpapi

import (
	"encoding/json"
	"net/http"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

// These routes are the operators'. The actions that they need exist on resources of the operators' tenant
// alone, so no credential of another tenant opens them, whatever its policies say.
func (a *API) tenantRoutes() []route {
	const all, one = "/v1/tenants", "/v1/tenants/:tenant"
	return []route{
		{method: http.MethodPost, path: all, manage: true, serve: (*exchange).createTenant},
		{method: http.MethodGet, path: all, manage: true, serve: (*exchange).listTenants},
		{method: http.MethodGet, path: one, manage: true, serve: (*exchange).getTenant},
		{method: http.MethodPatch, path: one, manage: true, serve: (*exchange).updateTenant},
		{method: http.MethodDelete, path: one, manage: true, serve: (*exchange).deleteTenant},
		{method: http.MethodPost, path: one + "/keys", manage: true, serve: (*exchange).createOwnerKey},
		{method: http.MethodPost, path: "/v1/signing-keys/rotate", manage: true, serve: (*exchange).rotateSigningKeys},
	}
}

// operates checks the right to an action of the operators. Who may not is told the same whether what the path
// names exists or not.
func (x *exchange) operates(action policy.Action, path ...string) error {
	return x.api.Gateway.Authorize(&x.caller, action, policy.NewResource("admin", x.api.Gateway.Region(), tenants.System, path...))
}

// Tenant is an account as operators see it.
type Tenant struct {
	Name        string           `json:"name" example:"acme"`
	ID          string           `json:"id" example:"6f1d3c0b9a8e4f5d8c7b6a5f4e3d2c1b"` // never reused
	Status      string           `json:"status" enums:"active,suspended" example:"active"`
	Description string           `json:"description,omitempty" example:"ACME Inc., contract 4711"`
	Limits      TenantLimits     `json:"limits"`
	CORSOrigins []string         `json:"cors_origins" example:"https://app.example.com"`
	Guardrails  []jsontext.Value `json:"guardrails" swaggertype:"array,object"`
	CreatedAt   string           `json:"created_at" example:"2026-11-23T16:10:00.000Z"`
}

// TenantLimits bound what a tenant may use; 0 means no limit.
type TenantLimits struct {
	UnitsPerSecond int64 `json:"units_per_second" minimum:"0" maximum:"17592186044416" example:"50000"`   // request units of all caches together, with a burst of one second's worth
	BytesPerSecond int64 `json:"bytes_per_second" minimum:"0" maximum:"17592186044416" example:"0"`       // arguments and replies together
	Caches         int64 `json:"caches" minimum:"0" maximum:"17592186044416" example:"20"`                // how many
	MemoryBytes    int64 `json:"memory_bytes" minimum:"0" maximum:"17592186044416" example:"17179869184"` // sum of the caches' memory limits
	Snapshots      int64 `json:"snapshots" minimum:"0" maximum:"17592186044416" example:"100"`            // how many
	SnapshotBytes  int64 `json:"snapshot_bytes" minimum:"0" maximum:"17592186044416" example:"0"`         // that they have in the store together
}

func showTenant(t *tenants.Tenant) Tenant {
	shown := Tenant{
		Name: t.Name, ID: string(t.ID), Status: string(t.Status), Description: t.Description,
		Limits:      TenantLimits{t.Limits.UnitsPerSecond, t.Limits.BytesPerSecond, t.Limits.Caches, t.Limits.MemoryBytes, t.Limits.Snapshots, t.Limits.SnapshotBytes},
		CORSOrigins: t.CORSOrigins, CreatedAt: showTime(t.CreatedAt),
	}
	for _, g := range t.Guardrails {
		shown.Guardrails = append(shown.Guardrails, jsontext.Value(g))
	}
	return shown
}

// TenantSettings are what operators choose of a tenant. A member that is left out keeps its value, or is empty in
// a new tenant.
type TenantSettings struct {
	Description *string           `json:"description,omitempty" maxLength:"1024" example:"ACME Inc., contract 4711"`
	Limits      *TenantLimits     `json:"limits,omitempty"`                                                                        // all of them
	CORSOrigins *[]string         `json:"cors_origins,omitempty" maxItems:"100" maxLength:"255" example:"https://app.example.com"` // where browsers may call from; * for everywhere
	Guardrails  *[]jsontext.Value `json:"guardrails,omitempty" maxItems:"16" swaggertype:"array,object"`                           // policies that must allow as well, whoever in the tenant asks
}

// apply changes t as far as the settings say.
func (s *TenantSettings) apply(t *tenants.Tenant) {
	set(&t.Description, s.Description)
	set(&t.CORSOrigins, s.CORSOrigins)
	if l := s.Limits; l != nil {
		t.Limits = tenants.Limits{UnitsPerSecond: l.UnitsPerSecond, BytesPerSecond: l.BytesPerSecond, Caches: l.Caches, MemoryBytes: l.MemoryBytes, Snapshots: l.Snapshots, SnapshotBytes: l.SnapshotBytes}
	}
	if s.Guardrails != nil {
		t.Guardrails = nil
		for _, g := range *s.Guardrails {
			t.Guardrails = append(t.Guardrails, json.RawMessage(g))
		}
	}
}

// CreateTenantRequest makes a tenant.
type CreateTenantRequest struct {
	Name           string `json:"name" example:"acme" pattern:"^[a-z0-9][a-z0-9-]{2,62}$"`
	TenantSettings `json:",inline"`
}

// NewTenant is a tenant with the key of its first owner.
type NewTenant struct {
	Tenant Tenant `json:"tenant"`
	KeyID  string `json:"key_id" example:"4kQ0c1mZx7Rb"`
	APIKey string `json:"api_key" example:"lk_live_4kQ0c1mZx7Rb_…"` // keep it: it is not shown again
}

// createTenant serves POST /v1/tenants.
//
// @Summary     Make a tenant
// @Description With the key of its first owner, whose text is never shown again.
// @Tags        tenants
// @Param       request body CreateTenantRequest true "the tenant"
// @Success     201 {object} NewTenant
// @Failure     default {object} Problem
// @Header      201 {string} Location "where the tenant is"
// @Router      /v1/tenants [post]
func (x *exchange) createTenant() error {
	var req CreateTenantRequest
	if err := x.read(&req); err != nil {
		return err
	}
	if err := tenants.CheckName(req.Name); err != nil {
		return err
	}
	if err := x.operates(policy.AdminCreateTenant, "tenant", req.Name); err != nil {
		return err
	}
	t := tenants.Tenant{Name: req.Name}
	req.apply(&t)
	made, err := x.api.Accounts.Create(x.Request().Context(), t)
	if err != nil {
		return err
	}
	key, text, err := x.ownerKey(made.Name, "first owner")
	if err != nil {
		return err
	}
	x.Response().Header()["Location"] = []string{"/v1/tenants/" + made.Name}
	return x.json(http.StatusCreated, NewTenant{showTenant(made), key.ID, text})
}

// ownerKey makes a key with all rights on a tenant. It opens the tenant's data to whoever asked, so it is logged.
func (x *exchange) ownerKey(tenant, name string) (auth.KeyInfo, string, error) {
	key, text, err := x.api.Credentials.CreateKey(x.Request().Context(), tenant,
		auth.KeySpec{Name: name, Kind: auth.LiveKey, Role: policy.RoleOwner, CreatedBy: x.who().Identity.ARN})
	if err == nil {
		x.api.Log.Warn("an operator made an owner's key for a tenant", "tenant", tenant, "key", key.ID, "operator", x.who().ID)
	}
	return key, text, err
}

// TenantPage is a page of tenants in order of their names.
type TenantPage struct {
	Tenants    []Tenant `json:"tenants"`
	NextCursor string   `json:"next_cursor" example:""` // empty on the last page
}

// listTenants serves GET /v1/tenants.
//
// @Summary     List tenants
// @Tags        tenants
// @Param       cursor query string false "next_cursor of the page before" maxlength(64)
// @Param       limit query int false "how many a page holds" minimum(1) maximum(1000) default(100)
// @Success     200 {object} TenantPage
// @Failure     default {object} Problem
// @Router      /v1/tenants [get]
func (x *exchange) listTenants() error {
	after, limit, err := x.page()
	if err != nil {
		return err
	}
	if err := x.operates(policy.AdminReadCluster, "tenant", "*"); err != nil {
		return err
	}
	list, next := x.api.Accounts.List(after, limit)
	page := TenantPage{Tenants: make([]Tenant, len(list)), NextCursor: next}
	for i, t := range list {
		page.Tenants[i] = showTenant(t)
	}
	return x.json(http.StatusOK, page)
}

// getTenant serves GET /v1/tenants/:tenant.
//
// @Summary     Describe a tenant
// @Tags        tenants
// @Success     200 {object} Tenant
// @Failure     default {object} Problem
// @Router      /v1/tenants/{tenant} [get]
func (x *exchange) getTenant() error {
	name, err := x.plain("tenant")
	if err != nil {
		return err
	}
	if err := x.operates(policy.AdminReadCluster, "tenant", name); err != nil {
		return err
	}
	t, err := x.tenant(name)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showTenant(t))
}

func (x *exchange) tenant(name string) (*tenants.Tenant, error) {
	t, ok := x.api.Accounts.Get(name)
	if !ok {
		return nil, fault.About(fault.NotFound, "tenants", "tenant", "no tenant %.64q", name)
	}
	return t, nil
}

// UpdateTenantRequest changes a tenant.
type UpdateTenantRequest struct {
	Status         *string `json:"status,omitempty" enums:"active,suspended" example:"suspended"` // suspended: no credential of the tenant is honoured
	TenantSettings `json:",inline"`
}

// updateTenant serves PATCH /v1/tenants/:tenant. Each member needs its own right: the status admin:SuspendTenant,
// the limits admin:SetQuota, everything else what making the tenant needs.
//
// @Summary     Change a tenant
// @Tags        tenants
// @Param       request body UpdateTenantRequest true "what is to change"
// @Success     200 {object} Tenant
// @Failure     default {object} Problem
// @Router      /v1/tenants/{tenant} [patch]
func (x *exchange) updateTenant() error {
	name, err := x.named("tenant")
	if err != nil {
		return err
	}
	var req UpdateTenantRequest
	if err := x.read(&req); err != nil {
		return err
	}
	for _, need := range []struct {
		action policy.Action
		is     bool
	}{
		{policy.AdminSuspendTenant, req.Status != nil},
		{policy.AdminSetQuota, req.Limits != nil},
		{policy.AdminCreateTenant, req.Description != nil || req.CORSOrigins != nil || req.Guardrails != nil},
		{policy.AdminReadCluster, true}, // the answer shows it all
	} {
		if !need.is {
			continue
		}
		if err := x.operates(need.action, "tenant", name); err != nil {
			return err
		}
	}
	if _, err := x.tenant(name); err != nil {
		return err
	}
	t, err := x.api.Accounts.Update(x.Request().Context(), name, func(t *tenants.Tenant) error {
		req.apply(t)
		if req.Status != nil {
			t.Status = tenants.Status(*req.Status)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showTenant(t))
}

// deleteTenant serves DELETE /v1/tenants/:tenant. Its credentials end first, then its caches go, and its record
// last: if something breaks off in between, the same request finishes it.
//
// @Summary     Delete a tenant with all it has
// @Tags        tenants
// @Success     204 "deleted"
// @Failure     default {object} Problem
// @Router      /v1/tenants/{tenant} [delete]
func (x *exchange) deleteTenant() error {
	name, err := x.plain("tenant")
	if err != nil {
		return err
	}
	if err := x.operates(policy.AdminDeleteTenant, "tenant", name); err != nil {
		return err
	}
	t, err := x.tenant(name)
	if err != nil {
		return err
	}
	if err := x.api.Credentials.DropTenant(x.Request().Context(), t.ID); err != nil {
		return err
	}
	if err := x.api.Accounts.Delete(x.Request().Context(), name); err != nil {
		return err
	}
	if err := x.api.Snapshots.ForgetTenant(x.Request().Context(), name, string(t.ID)); err != nil {
		return err
	}
	return x.noContent()
}

// CreateOwnerKeyRequest makes an owner's key for a tenant that has lost its own.
type CreateOwnerKeyRequest struct {
	Name string `json:"name,omitempty" maxLength:"128" default:"owner" example:"owner"`
}

// createOwnerKey serves POST /v1/tenants/:tenant/keys.
//
// @Summary     Make an owner's key for a tenant
// @Description For one that has lost its own. It is logged.
// @Tags        tenants
// @Param       request body CreateOwnerKeyRequest false "the key"
// @Success     201 {object} NewAPIKey
// @Failure     default {object} Problem
// @Router      /v1/tenants/{tenant}/keys [post]
func (x *exchange) createOwnerKey() error {
	name, err := x.named("tenant")
	if err != nil {
		return err
	}
	req := CreateOwnerKeyRequest{Name: "owner"}
	if err := x.read(&req); err != nil {
		return err
	}
	if err := x.operates(policy.AdminCreateTenant, "tenant", name); err != nil {
		return err
	}
	if name == tenants.System {
		return fault.About(fault.Conflict, "tenants.owner_key", "tenant", "the tenant %q has no owner: operators make their keys at /v1/keys", name)
	}
	key, text, err := x.ownerKey(name, req.Name)
	if err != nil {
		return err
	}
	return x.json(http.StatusCreated, NewAPIKey{showKey(key), text})
}

// rotateSigningKeys serves POST /v1/signing-keys/rotate. Tokens that were signed before stay valid.
//
// @Summary     Make a new key to sign tokens with
// @Description Tokens that were signed before stay valid.
// @Tags        cluster
// @Success     204 "rotated"
// @Failure     default {object} Problem
// @Router      /v1/signing-keys/rotate [post]
func (x *exchange) rotateSigningKeys() error {
	if err := x.query().end(); err != nil {
		return err
	}
	on := policy.NewResource("iam", x.api.Gateway.Region(), tenants.System, "issuer", "larder")
	if err := x.api.Gateway.Authorize(&x.caller, policy.AdminRotateMasterKey, on); err != nil {
		return err
	}
	if err := x.api.Credentials.RotateSigningKeys(x.Request().Context()); err != nil {
		return err
	}
	return x.noContent()
}
