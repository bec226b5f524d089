package httpapi

import (
	"net/http"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

func (a *API) endpointRoutes() []route {
	const all, one = "/v1/caches/:cache/endpoints", "/v1/caches/:cache/endpoints/:endpoint"
	return []route{
		{method: http.MethodPost, path: all, manage: true, serve: (*exchange).createEndpoint},
		{method: http.MethodGet, path: all, manage: true, serve: (*exchange).listEndpoints},
		{method: http.MethodGet, path: one, manage: true, serve: (*exchange).getEndpoint},
		{method: http.MethodDelete, path: one, manage: true, serve: (*exchange).deleteEndpoint},
	}
}

// Endpoint is a door to a cache that implies a credential, for memcached clients that cannot log in.
type Endpoint struct {
	ID         string   `json:"id" example:"11300"` // its port or its server name
	Cache      string   `json:"cache" example:"main"`
	Key        string   `json:"key" example:"4kQ0c1mZx7Rb"`                                                            // the API key that whoever connects is taken for
	Port       int      `json:"port,omitempty" example:"11300"`                                                        // on every node
	ServerName string   `json:"server_name,omitempty" example:"6f1d3c0b9a8e4f5d8c7b6a5f4e3d2c1b.mc.cache.example.com"` // in TLS, on the port that all share; as good as a secret
	Networks   []string `json:"networks" example:"10.0.0.0/8"`                                                         // from where it may be used; none: from the node itself, or, by server name, from everywhere
	TLS        bool     `json:"tls" example:"false"`                                                                   // nobody gets in without
	Problem    string   `json:"problem,omitempty" example:""`                                                          // why the node that answers does not serve it
	CreatedAt  string   `json:"created_at" example:"2026-11-23T16:10:00.000Z"`
	CreatedBy  string   `json:"created_by,omitempty" example:"arn:cache:iam::acme:key/9dK2mPq0sVxT"`
}

func (x *exchange) showEndpoint(e *tenants.Endpoint) Endpoint {
	shown := Endpoint{
		ID: e.ID, Cache: e.Cache, Key: e.Key, Port: e.Port, ServerName: e.ServerName, Networks: make([]string, len(e.Networks)), TLS: e.TLS || e.ServerName != "",
		CreatedAt: showTime(e.CreatedAt), CreatedBy: e.CreatedBy,
	}
	for i, n := range e.Networks {
		shown.Networks[i] = n.String()
	}
	if err := x.api.Endpoint(e); err != nil {
		shown.Problem = err.Error()
	}
	return shown
}

// CreateEndpointRequest makes an endpoint. With neither port nor server_name it gets a free port.
type CreateEndpointRequest struct {
	Key        string   `json:"key" minLength:"1" maxLength:"64" example:"4kQ0c1mZx7Rb"` // whoever connects is taken for this key of the tenant
	Port       int      `json:"port,omitempty" minimum:"1" maximum:"65535" example:"11300"`
	ServerName bool     `json:"server_name,omitempty" example:"false"`                                // a TLS server name, which is made up, instead of a port
	Networks   []string `json:"networks,omitempty" maxItems:"64" maxLength:"64" example:"10.0.0.0/8"` // from where it may be used; none: from the node itself, or, by server name, from everywhere
	TLS        bool     `json:"tls,omitempty" example:"false"`                                        // nobody gets in without
}

// createEndpoint serves POST /v1/caches/:cache/endpoints.
//
// @Summary     Make an endpoint that implies a credential
// @Description Whoever connects to it with the memcached protocols, from where it may be used, is taken for the key. To make
// @Description one takes the right to rotate that key as well: it hands out what the key may do.
// @Tags        endpoints
// @Param       request body CreateEndpointRequest true "the endpoint"
// @Success     201 {object} Endpoint
// @Failure     default {object} Problem
// @Header      201 {string} Location "where the endpoint is"
// @Router      /v1/caches/{cache}/endpoints [post]
func (x *exchange) createEndpoint() error {
	var req CreateEndpointRequest
	if err := x.read(&req); err != nil {
		return err
	}
	if req.Port < 0 || req.Port > 65535 {
		return fault.About(fault.OutOfRange, "endpoints.create", "port", "port is 1 to 65535, not %d", req.Port)
	}
	networks, err := parseNetworks(req.Networks)
	if err != nil {
		return err
	}
	if _, err := x.namedCache(policy.CacheCreateEndpoint, nil); err != nil {
		return err
	}
	if err := x.grantsKey(policy.IAMRotateKey, req.Key); err != nil {
		return err
	}
	made, err := x.api.Accounts.CreateEndpoint(x.Request().Context(), x.who().Tenant, x.cache(),
		tenants.Endpoint{Key: req.Key, Port: req.Port, Networks: networks, TLS: req.TLS, CreatedBy: x.who().Identity.ARN}, req.ServerName)
	if err != nil {
		return err
	}
	x.Response().Header()["Location"] = []string{"/v1/caches/" + made.Cache + "/endpoints/" + made.ID}
	return x.json(http.StatusCreated, x.showEndpoint(made))
}

// EndpointPage is a page of endpoints in order of their ids.
type EndpointPage struct {
	Endpoints  []Endpoint `json:"endpoints"`
	NextCursor string     `json:"next_cursor" example:""` // empty on the last page
}

// listEndpoints serves GET /v1/caches/:cache/endpoints.
//
// @Summary     List a cache's endpoints
// @Tags        endpoints
// @Param       cursor query string false "next_cursor of the page before" maxlength(255)
// @Param       limit query int false "how many a page holds" minimum(1) maximum(1000) default(100)
// @Success     200 {object} EndpointPage
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/endpoints [get]
func (x *exchange) listEndpoints() error {
	after, limit, err := x.page()
	if err != nil {
		return err
	}
	if _, err := x.namedCache(policy.CacheListEndpoints, nil); err != nil {
		return err
	}
	list, next := x.api.Accounts.Endpoints(x.who().Tenant, x.cache(), after, limit)
	page := EndpointPage{Endpoints: make([]Endpoint, len(list)), NextCursor: next}
	for i, e := range list {
		page.Endpoints[i] = x.showEndpoint(e)
	}
	return x.json(http.StatusOK, page)
}

// namedEndpoint checks the right to action on the cache of the path and finds its endpoint.
func (x *exchange) namedEndpoint(action policy.Action) (*tenants.Endpoint, error) {
	id, err := x.plain("endpoint")
	if err != nil {
		return nil, err
	}
	if _, err := x.namedCache(action, nil); err != nil {
		return nil, err
	}
	return x.api.Accounts.EndpointIn(x.who().Tenant, x.cache(), id)
}

// getEndpoint serves GET /v1/caches/:cache/endpoints/:endpoint.
//
// @Summary     Describe an endpoint
// @Tags        endpoints
// @Success     200 {object} Endpoint
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/endpoints/{endpoint} [get]
func (x *exchange) getEndpoint() error {
	e, err := x.namedEndpoint(policy.CacheListEndpoints)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, x.showEndpoint(e))
}

// deleteEndpoint serves DELETE /v1/caches/:cache/endpoints/:endpoint.
//
// @Summary     Revoke an endpoint
// @Description Within two seconds its port is closed on every node, and its connections are cut.
// @Tags        endpoints
// @Success     204 "revoked"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/endpoints/{endpoint} [delete]
func (x *exchange) deleteEndpoint() error {
	e, err := x.namedEndpoint(policy.CacheDeleteEndpoint)
	if err != nil {
		return err
	}
	if err := x.api.Accounts.DeleteEndpoint(x.Request().Context(), e.Tenant, e.Cache, e.ID); err != nil {
		return err
	}
	return x.noContent()
}
