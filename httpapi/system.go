package httpapi

import (
	"net/http"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/docs"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

func (a *API) systemRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/livez", open: true, serve: (*exchange).livez},
		{method: http.MethodHead, path: "/livez", open: true, serve: (*exchange).livez},
		{method: http.MethodGet, path: "/readyz", open: true, serve: (*exchange).readyz},
		{method: http.MethodHead, path: "/readyz", open: true, serve: (*exchange).readyz},
		{method: http.MethodGet, path: "/metrics", open: true, manage: true, serve: (*exchange).metrics},
		{method: http.MethodGet, path: "/.well-known/jwks.json", open: true, serve: (*exchange).jwks},
		{method: http.MethodGet, path: "/openapi.json", open: true, serve: (*exchange).openAPI},
		{method: http.MethodGet, path: "/docs", open: true, serve: (*exchange).docs},
		{method: http.MethodGet, path: "/docs/*", open: true, serve: (*exchange).docs},
	}
}

// Health is what the health routes answer.
type Health struct {
	Status  string `json:"status" example:"ok"`
	Version string `json:"version" example:"v1.0.0"`
}

// livez serves GET /livez.
//
// @Summary     Whether the process is alive
// @Tags        system
// @Success     200 {object} Health
// @Failure     default {object} Problem
// @Router      /livez [get]
// @Router      /livez [head]
func (x *exchange) livez() error {
	return x.json(http.StatusOK, Health{"ok", x.api.Version})
}

// readyz serves GET /readyz.
//
// @Summary     Whether requests can be served
// @Tags        system
// @Success     200 {object} Health
// @Failure     default {object} Problem
// @Router      /readyz [get]
// @Router      /readyz [head]
func (x *exchange) readyz() error {
	if err := x.api.Ready(); err != nil {
		return err
	}
	return x.json(http.StatusOK, Health{"ok", x.api.Version})
}

// metrics serves GET /metrics. An operator sees every tenant's numbers and the process's own, a tenant with
// the right to metrics its own. Where the route is open, who presents no credential sees what an operator sees.
//
// @Summary     Metrics in Prometheus's format
// @Description An operator sees every tenant's numbers and the process's own, a tenant its own. The operator may open the route to everybody.
// @Tags        system
// @Produce     plain
// @Success     200 {string} string "the metrics"
// @Failure     default {object} Problem
// @Router      /metrics [get]
func (x *exchange) metrics() error {
	tenant := ""
	switch {
	case x.who() == nil && !x.api.OpenMetrics:
		return errNoCredential
	case x.who() != nil: // shows what is its own, also where nobody needs to
		if err := x.api.Gateway.AuthorizeCache(&x.caller, policy.MetricsRead, "*", nil); err != nil {
			return err
		}
		if tenant = x.who().Tenant; tenant == tenants.System {
			tenant = ""
		}
	}
	x.api.Metrics(tenant).ServeHTTP(x.Response(), x.Request())
	return nil
}

// jwks serves GET /.well-known/jwks.json.
//
// @Summary     The public keys that tokens are signed with
// @Tags        system
// @Success     200 {object} object
// @Failure     default {object} Problem
// @Router      /.well-known/jwks.json [get]
func (x *exchange) jwks() error {
	keys, err := x.api.Credentials.JWKS(x.Request().Context())
	if err != nil {
		return err
	}
	h := x.Response().Header()
	h["Cache-Control"] = []string{"max-age=300"}
	h["Content-Type"] = []string{"application/jwk-set+json"}
	_, err = x.Response().Write(keys)
	return err
}

// openAPI serves GET /openapi.json.
//
// @Summary     This document
// @Tags        system
// @Success     200 {object} object
// @Failure     default {object} Problem
// @Router      /openapi.json [get]
func (x *exchange) openAPI() error {
	h := x.Response().Header()
	h["Content-Type"] = []string{"application/json"}
	h["Cache-Control"] = []string{"no-cache"}
	_, err := x.Response().Write(docs.OpenAPI)
	return err
}

// docs serves GET /docs: Swagger UI, from this binary alone.
//
// @Summary     This page, and its files
// @Tags        system
// @Produce     html
// @Success     200 {string} string "a file of Swagger UI"
// @Success     302 "to /docs/"
// @Failure     default {object} Problem
// @Router      /docs [get]
// @Router      /docs/{file} [get]
func (x *exchange) docs() error {
	name := x.Param("*")
	switch {
	case name == "":
		if x.Request().URL.Path == "/docs" {
			return x.Redirect(http.StatusFound, "/docs/")
		}
		name = "index.html"
	}
	content, contentType, ok := docs.Page(name)
	if !ok {
		return fault.New(fault.NotFound, "docs", "there is no such page")
	}
	h := x.Response().Header()
	h["Content-Type"] = []string{contentType}
	h["Content-Security-Policy"] = []string{"default-src 'self'; img-src 'self' data:; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'"}
	_, err := x.Response().Write(content)
	return err
}
