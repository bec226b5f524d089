package httpapi

import (
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
)

func (a *API) keyRoutes() []route {
	const all, one = "/v1/keys", "/v1/keys/:id"
	return []route{
		{method: http.MethodPost, path: all, manage: true, serve: (*exchange).createAPIKey},
		{method: http.MethodGet, path: all, manage: true, serve: (*exchange).listAPIKeys},
		{method: http.MethodGet, path: one, manage: true, serve: (*exchange).getAPIKey},
		{method: http.MethodPatch, path: one, manage: true, serve: (*exchange).updateAPIKey},
		{method: http.MethodDelete, path: one, manage: true, serve: (*exchange).deleteAPIKey},
		{method: http.MethodPost, path: one + "/rotate", manage: true, serve: (*exchange).rotateAPIKey},
	}
}

// may checks the right to an action on a key, a role, a policy or a token of the caller's tenant. Who may not
// is told the same whether it exists or not.
func (x *exchange) may(action policy.Action, path ...string) error {
	return x.api.Gateway.Authorize(&x.caller, action, policy.NewResource("iam", x.api.Gateway.Region(), x.who().Tenant, path...))
}

// grants is may for what hands out rights. Tokens do not: a key, a role or a policy that a token made would
// outlive the token and could do more than it.
func (x *exchange) grants(action policy.Action, path ...string) error {
	if x.who().Kind == auth.KindToken {
		return fault.New(fault.Denied, "httpapi.grants", "%s is for API keys: a token hands out no rights", action)
	}
	return x.may(action, path...)
}

// grantsKey is grants for a key that exists, and for its role: who may handle the keys of one role neither gets
// one of another by rotating it nor changes it.
func (x *exchange) grantsKey(action policy.Action, id string) error {
	if err := x.grants(action, "key", id); err != nil {
		return err
	}
	key, err := x.api.Credentials.GetKey(x.who().Tenant, id)
	if err != nil {
		return err
	}
	return x.grants(action, "role", key.Role)
}

// named returns a parameter of the path that is a name or an id.
func (x *exchange) named(parameter string) (string, error) {
	b, err := x.pathBytes(parameter)
	return string(b), err
}

// plain is named for a request without parameters in its query.
func (x *exchange) plain(parameter string) (string, error) {
	if err := x.query().end(); err != nil {
		return "", err
	}
	return x.named(parameter)
}

// page reads what every list takes.
func (x *exchange) page() (after string, limit int, err error) {
	q := x.query()
	after, limit = q.text("cursor", ""), int(q.limit())
	return after, limit, q.end()
}

// APIKey is a key as its tenant sees it. Nobody sees its secret again.
type APIKey struct {
	ID           string   `json:"id" example:"4kQ0c1mZx7Rb"`
	Name         string   `json:"name" example:"web servers"`
	Kind         string   `json:"kind" enums:"live,test" example:"live"`
	Role         string   `json:"role" example:"read-write"`
	Networks     []string `json:"networks" example:"10.0.0.0/8"` // where it may be used from; none: everywhere
	DefaultCache string   `json:"default_cache,omitempty" maxLength:"63" example:"main"`
	CreatedAt    string   `json:"created_at" example:"2026-11-23T16:10:00.000Z"`
	CreatedBy    string   `json:"created_by,omitempty" example:"arn:cache:iam::acme:key/9dK2mPq0sVxT"`
	ExpiresAt    *string  `json:"expires_at" example:"2027-02-21T16:10:00.000Z"`   // null: never
	LastUsedAt   *string  `json:"last_used_at" example:"2026-11-23T16:12:00.000Z"` // by the minute; null: not yet
	RotatedTo    string   `json:"rotated_to,omitempty" example:"7uJ3nQe5wYzA"`     // the key that takes its place

	ClientCertificate bool `json:"client_certificate,omitzero" example:"false"` // TLS client certificates that name it log in as it
}

// NewAPIKey is a key at the only time that its text is shown.
type NewAPIKey struct {
	APIKey `json:",inline"`
	Text   string `json:"api_key" example:"lk_live_4kQ0c1mZx7Rb_…"` // keep it: it is not shown again
}

func showKey(k auth.KeyInfo) APIKey {
	shown := APIKey{
		ID: k.ID, Name: k.Name, Kind: string(k.Kind), Role: k.Role, Networks: make([]string, len(k.Networks)), DefaultCache: k.DefaultCache,
		CreatedAt: showTime(k.CreatedAt), CreatedBy: k.CreatedBy, ExpiresAt: dateOrNull(k.ExpiresAt), LastUsedAt: dateOrNull(k.LastUsed), RotatedTo: k.RotatedTo,
		ClientCertificate: k.ClientCertificate,
	}
	for i, n := range k.Networks {
		shown.Networks[i] = n.String()
	}
	return shown
}

// dateOrNull writes a time; null when there is none.
func dateOrNull(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := showTime(t)
	return &s
}

// parseTime reads a time in a body.
func parseTime(at, s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fault.About(fault.InvalidArgument, "httpapi.time", at, "%s is a time such as 2027-02-21T16:10:00Z, not %.100q", at, s)
	}
	return t, nil
}

// parseNetworks reads networks, or single addresses, in a body.
func parseNetworks(list []string) ([]netip.Prefix, error) {
	networks := make([]netip.Prefix, len(list))
	for i, s := range list {
		if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
			networks[i] = netip.PrefixFrom(addr, addr.BitLen())
			continue
		}
		n, err := netip.ParsePrefix(s)
		if err != nil {
			at := fmt.Sprintf("networks[%d]", i)
			return nil, fault.About(fault.InvalidArgument, "keys.networks", at, "%s is a network such as 10.0.0.0/8 or 2001:db8::/32, or an address, not %.100q", at, s)
		}
		networks[i] = n
	}
	return networks, nil
}

// CreateAPIKeyRequest makes an API key. With neither expires_in nor expires_at it does not expire.
type CreateAPIKeyRequest struct {
	Name         string   `json:"name" minLength:"1" maxLength:"128" example:"web servers"`
	Role         string   `json:"role" minLength:"1" maxLength:"63" example:"read-write"` // its rights, and they change with the role
	Kind         string   `json:"kind,omitempty" enums:"live,test" default:"live" example:"live"`
	ExpiresIn    Duration `json:"expires_in,omitzero" swaggertype:"string" example:"90d"`
	ExpiresAt    string   `json:"expires_at,omitempty" example:"2027-02-21T16:10:00Z"`
	Networks     []string `json:"networks,omitempty" maxItems:"64" maxLength:"64" example:"10.0.0.0/8"` // where it may be used from; none: everywhere
	DefaultCache string   `json:"default_cache,omitempty" maxLength:"63" example:"main"`                // for protocols that name none

	ClientCertificate bool `json:"client_certificate,omitzero" example:"false"` // TLS client certificates that name it log in as it
}

// spec checks the request as far as the store does not.
func (r *CreateAPIKeyRequest) spec(now time.Time) (s auth.KeySpec, err error) {
	s = auth.KeySpec{Name: r.Name, Kind: auth.KeyKind(r.Kind), Role: r.Role, DefaultCache: r.DefaultCache, ClientCertificate: r.ClientCertificate}
	if r.Role == "" {
		return s, fault.About(fault.InvalidArgument, "keys.create", "role", "role is missing: GET /v1/roles lists them")
	}
	if r.ExpiresIn.Set && r.ExpiresAt != "" {
		return s, fault.About(fault.InvalidArgument, "keys.create", "expires_at", "give expires_in or expires_at, not both")
	}
	if r.ExpiresIn.Set {
		s.ExpiresAt = now.Add(time.Duration(min(r.ExpiresIn.Ms, maxLife)) * time.Millisecond)
	}
	if r.ExpiresAt != "" {
		if s.ExpiresAt, err = parseTime("expires_at", r.ExpiresAt); err != nil {
			return s, err
		}
	}
	s.Networks, err = parseNetworks(r.Networks)
	return s, err
}

// maxLife is the longest life of a key that is given as a duration, a hundred years in milliseconds: what
// parseDuration lets through, and a time.Duration holds.
const maxLife = 100 * 365 * 24 * 3_600_000

// createAPIKey serves POST /v1/keys.
//
// @Summary     Make an API key
// @Description Its text is in the answer, and never shown again.
// @Tags        keys
// @Param       request body CreateAPIKeyRequest true "the key"
// @Success     201 {object} NewAPIKey
// @Failure     default {object} Problem
// @Header      201 {string} Location "where the key is"
// @Router      /v1/keys [post]
func (x *exchange) createAPIKey() error {
	var req CreateAPIKeyRequest
	if err := x.read(&req); err != nil {
		return err
	}
	spec, err := req.spec(x.api.Gateway.Now())
	if err != nil {
		return err
	}
	// Who may make keys may be held to certain roles: a key is worth what its role is.
	if err := x.grants(policy.IAMCreateKey, "key", "*"); err != nil {
		return err
	}
	if err := x.grants(policy.IAMCreateKey, "role", spec.Role); err != nil {
		return err
	}
	spec.CreatedBy = x.who().Identity.ARN
	key, text, err := x.api.Credentials.CreateKey(x.Request().Context(), x.who().Tenant, spec)
	if err != nil {
		return err
	}
	return x.newAPIKey(key, text)
}

// read decodes the body of a request without parameters in its query.
func (x *exchange) read(v any) error {
	if err := x.query().end(); err != nil {
		return err
	}
	return x.decode(v)
}

func (x *exchange) newAPIKey(key auth.KeyInfo, text string) error {
	x.Response().Header()["Location"] = []string{"/v1/keys/" + key.ID}
	return x.json(http.StatusCreated, NewAPIKey{showKey(key), text})
}

// APIKeyPage is a page of keys in order of their ids.
type APIKeyPage struct {
	Keys       []APIKey `json:"keys"`
	NextCursor string   `json:"next_cursor" example:""` // empty on the last page
}

// listAPIKeys serves GET /v1/keys.
//
// @Summary     List API keys
// @Tags        keys
// @Param       cursor query string false "next_cursor of the page before" maxlength(64)
// @Param       limit query int false "how many a page holds" minimum(1) maximum(1000) default(100)
// @Success     200 {object} APIKeyPage
// @Failure     default {object} Problem
// @Router      /v1/keys [get]
func (x *exchange) listAPIKeys() error {
	after, limit, err := x.page()
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMListKeys, "key", "*"); err != nil {
		return err
	}
	list, next, err := x.api.Credentials.ListKeys(x.who().Tenant, after, limit)
	if err != nil {
		return err
	}
	page := APIKeyPage{Keys: make([]APIKey, len(list)), NextCursor: next}
	for i, k := range list {
		page.Keys[i] = showKey(k)
	}
	return x.json(http.StatusOK, page)
}

// getAPIKey serves GET /v1/keys/:id.
//
// @Summary     Describe an API key
// @Tags        keys
// @Success     200 {object} APIKey
// @Failure     default {object} Problem
// @Router      /v1/keys/{id} [get]
func (x *exchange) getAPIKey() error {
	id, err := x.plain("id")
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMListKeys, "key", id); err != nil {
		return err
	}
	key, err := x.api.Credentials.GetKey(x.who().Tenant, id)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showKey(key))
}

// UpdateAPIKeyRequest changes a key. A member that is left out keeps its value.
type UpdateAPIKeyRequest struct {
	Name         *string   `json:"name,omitempty" minLength:"1" maxLength:"128" example:"web servers"`
	Role         *string   `json:"role,omitempty" minLength:"1" maxLength:"63" example:"read-only"`
	Networks     *[]string `json:"networks,omitempty" maxItems:"64" maxLength:"64" example:"10.0.0.0/8"` // an empty list: everywhere
	DefaultCache *string   `json:"default_cache,omitempty" maxLength:"63" example:"main"`                // an empty string: none

	ClientCertificate *bool `json:"client_certificate,omitzero" example:"false"` // TLS client certificates that name it log in as it
}

// updateAPIKey serves PATCH /v1/keys/:id.
//
// @Summary     Change an API key
// @Tags        keys
// @Param       request body UpdateAPIKeyRequest true "what is to change"
// @Success     200 {object} APIKey
// @Failure     default {object} Problem
// @Router      /v1/keys/{id} [patch]
func (x *exchange) updateAPIKey() error {
	id, err := x.named("id")
	if err != nil {
		return err
	}
	var req UpdateAPIKeyRequest
	if err := x.read(&req); err != nil {
		return err
	}
	change := auth.KeyUpdate{Name: req.Name, Role: req.Role, DefaultCache: req.DefaultCache, ClientCertificate: req.ClientCertificate}
	if req.Networks != nil {
		networks, err := parseNetworks(*req.Networks)
		if err != nil {
			return err
		}
		change.Networks = &networks
	}
	if err := x.grantsKey(policy.IAMCreateKey, id); err != nil {
		return err
	}
	if req.Role != nil {
		if err := x.grants(policy.IAMCreateKey, "role", *req.Role); err != nil {
			return err
		}
	}
	key, err := x.api.Credentials.UpdateKey(x.Request().Context(), x.who().Tenant, id, change)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showKey(key))
}

// deleteAPIKey serves DELETE /v1/keys/:id.
//
// @Summary     Revoke an API key
// @Description Within 2 seconds no server honours it, nor a token that it made.
// @Tags        keys
// @Success     204 "revoked"
// @Failure     default {object} Problem
// @Router      /v1/keys/{id} [delete]
func (x *exchange) deleteAPIKey() error {
	id, err := x.plain("id")
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMRevokeKey, "key", id); err != nil {
		return err
	}
	if err := x.api.Credentials.RevokeKey(x.Request().Context(), x.who().Tenant, id); err != nil {
		return err
	}
	return x.noContent()
}

// RotateAPIKeyRequest makes a key that takes the place of another.
type RotateAPIKeyRequest struct {
	Grace string `json:"grace,omitempty" maxLength:"32" default:"0s" example:"1h"` // how long the old key goes on working, 0s to 7d
}

// rotateAPIKey serves POST /v1/keys/:id/rotate.
//
// @Summary     Make a key that takes the place of another
// @Description With the same name, role and networks. The old one goes on working for the grace that is given.
// @Tags        keys
// @Param       request body RotateAPIKeyRequest false "how long the old key goes on working"
// @Success     201 {object} NewAPIKey
// @Failure     default {object} Problem
// @Header      201 {string} Location "where the new key is"
// @Router      /v1/keys/{id}/rotate [post]
func (x *exchange) rotateAPIKey() error {
	id, err := x.named("id")
	if err != nil {
		return err
	}
	var req RotateAPIKeyRequest
	if err := x.read(&req); err != nil {
		return err
	}
	grace := int64(0)
	if req.Grace != "" && req.Grace != "0" && req.Grace != "0s" {
		if grace, err = parseDuration("grace", req.Grace); err != nil {
			return err
		}
	}
	if err := x.grantsKey(policy.IAMRotateKey, id); err != nil {
		return err
	}
	key, text, err := x.api.Credentials.RotateKey(x.Request().Context(), x.who().Tenant, id, time.Duration(grace)*time.Millisecond, x.who().Identity.ARN)
	if err != nil {
		return err
	}
	return x.newAPIKey(key, text)
}
