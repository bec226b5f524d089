package httpapi

import (
	"net/http"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
)

func (a *API) roleRoutes() []route {
	const all, one = "/v1/roles", "/v1/roles/:name"
	return []route{
		{method: http.MethodPost, path: all, manage: true, serve: (*exchange).createRole},
		{method: http.MethodGet, path: all, manage: true, serve: (*exchange).listRoles},
		{method: http.MethodGet, path: one, manage: true, serve: (*exchange).getRole},
		{method: http.MethodPut, path: one, manage: true, serve: (*exchange).replaceRole},
		{method: http.MethodDelete, path: one, manage: true, serve: (*exchange).deleteRole},
	}
}

// Role is a named set of rights. Keys point to it, so their rights change with it.
type Role struct {
	Name        string   `json:"name" example:"web"`
	Description string   `json:"description,omitempty" example:"what the web servers may do"`
	Policies    []string `json:"policies" example:"sessions"`                          // a union: what any of them allows
	Boundary    string   `json:"boundary,omitempty" maxLength:"63" example:"no-flush"` // a policy that must allow as well
	ReadyMade   bool     `json:"ready_made" example:"false"`                           // exists in every tenant and stays as it is
	CreatedAt   *string  `json:"created_at" example:"2026-11-23T16:10:00.000Z"`        // null when ready-made
	UpdatedAt   *string  `json:"updated_at" example:"2026-11-23T16:10:00.000Z"`        // null when ready-made
}

func showRole(r auth.Role) Role {
	return Role{
		Name: r.Name, Description: r.Description, Policies: r.Policies, Boundary: r.Boundary, ReadyMade: r.ReadyMade,
		CreatedAt: dateOrNull(r.CreatedAt), UpdatedAt: dateOrNull(r.UpdatedAt),
	}
}

// RoleSettings are what a role is made of.
type RoleSettings struct {
	Description string   `json:"description,omitempty" maxLength:"1024" example:"what the web servers may do"`
	Policies    []string `json:"policies" minItems:"1" maxItems:"20" maxLength:"63" example:"sessions"` // names of policies
	Boundary    string   `json:"boundary,omitempty" maxLength:"63" example:"no-flush"`                  // the name of a policy
}

// CreateRoleRequest makes a role.
type CreateRoleRequest struct {
	Name         string `json:"name" example:"web" pattern:"^[a-z0-9][a-z0-9._-]{0,62}$"`
	RoleSettings `json:",inline"`
}

// createRole serves POST /v1/roles.
//
// @Summary     Make a role
// @Tags        roles
// @Param       request body CreateRoleRequest true "the role"
// @Success     201 {object} Role
// @Failure     default {object} Problem
// @Header      201 {string} Location "where the role is"
// @Router      /v1/roles [post]
func (x *exchange) createRole() error {
	var req CreateRoleRequest
	if err := x.read(&req); err != nil {
		return err
	}
	if err := x.grants(policy.IAMCreateRole, "role", req.Name); err != nil {
		return err
	}
	role, err := x.api.Credentials.CreateRole(x.Request().Context(), x.who().Tenant,
		auth.Role{Name: req.Name, Description: req.Description, Policies: req.Policies, Boundary: req.Boundary})
	if err != nil {
		return err
	}
	x.Response().Header()["Location"] = []string{"/v1/roles/" + role.Name}
	return x.json(http.StatusCreated, showRole(role))
}

// RolePage is a page of roles in order of their names.
type RolePage struct {
	Roles      []Role `json:"roles"`
	NextCursor string `json:"next_cursor" example:""` // empty on the last page
}

// listRoles serves GET /v1/roles.
//
// @Summary     List roles
// @Description The ready-made ones as well.
// @Tags        roles
// @Param       cursor query string false "next_cursor of the page before" maxlength(64)
// @Param       limit query int false "how many a page holds" minimum(1) maximum(1000) default(100)
// @Success     200 {object} RolePage
// @Failure     default {object} Problem
// @Router      /v1/roles [get]
func (x *exchange) listRoles() error {
	after, limit, err := x.page()
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMGetPolicy, "role", "*"); err != nil {
		return err
	}
	list, next, err := x.api.Credentials.ListRoles(x.who().Tenant, after, limit)
	if err != nil {
		return err
	}
	page := RolePage{Roles: make([]Role, len(list)), NextCursor: next}
	for i, r := range list {
		page.Roles[i] = showRole(r)
	}
	return x.json(http.StatusOK, page)
}

// getRole serves GET /v1/roles/:name.
//
// @Summary     Describe a role
// @Tags        roles
// @Success     200 {object} Role
// @Failure     default {object} Problem
// @Router      /v1/roles/{name} [get]
func (x *exchange) getRole() error {
	name, err := x.plain("name")
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMGetPolicy, "role", name); err != nil {
		return err
	}
	role, err := x.api.Credentials.GetRole(x.who().Tenant, name)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showRole(role))
}

// replaceRole serves PUT /v1/roles/:name. What the request leaves out is empty afterwards.
//
// @Summary     Replace a role
// @Description What the request leaves out is empty afterwards. The rights of its keys change at once.
// @Tags        roles
// @Param       request body RoleSettings true "what it is made of"
// @Success     200 {object} Role
// @Failure     default {object} Problem
// @Router      /v1/roles/{name} [put]
func (x *exchange) replaceRole() error {
	name, err := x.named("name")
	if err != nil {
		return err
	}
	var req RoleSettings
	if err := x.read(&req); err != nil {
		return err
	}
	if err := x.grants(policy.IAMCreateRole, "role", name); err != nil {
		return err
	}
	role, err := x.api.Credentials.UpdateRole(x.Request().Context(), x.who().Tenant, name,
		auth.RoleUpdate{Description: &req.Description, Policies: &req.Policies, Boundary: &req.Boundary})
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showRole(role))
}

// deleteRole serves DELETE /v1/roles/:name.
//
// @Summary     Delete a role
// @Description Refused while a key has it.
// @Tags        roles
// @Success     204 "deleted"
// @Failure     default {object} Problem
// @Router      /v1/roles/{name} [delete]
func (x *exchange) deleteRole() error {
	name, err := x.plain("name")
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMDeleteRole, "role", name); err != nil {
		return err
	}
	if err := x.api.Credentials.DeleteRole(x.Request().Context(), x.who().Tenant, name); err != nil {
		return err
	}
	return x.noContent()
}
