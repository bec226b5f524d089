package httpapi

import "net/http"

func (a *API) whoamiRoutes() []route {
	return []route{{method: http.MethodGet, path: "/v1/whoami", any: true, serve: (*exchange).whoami}}
}

// WhoAmI says who a credential belongs to.
type WhoAmI struct {
	Tenant       string  `json:"tenant" example:"acme"`
	Kind         string  `json:"kind" enums:"key,token,operator" example:"key"`
	ID           string  `json:"id" example:"4kQ0c1mZx7Rb"`    // of the key or token
	Name         string  `json:"name" example:"web servers"`   // the key's name, or the token's subject
	Role         string  `json:"role" example:"read-write"`    // a token's is its maker's
	Use          string  `json:"use,omitempty" example:"data"` // of a token: what it opens
	DefaultCache string  `json:"default_cache,omitempty" example:"main"`
	ExpiresAt    *string `json:"expires_at" example:"2027-02-21T16:10:00.000Z"` // null: never
}

// whoami serves GET /v1/whoami. Every credential may ask, whatever it is for.
//
// @Summary     Who the credential belongs to
// @Tags        keys
// @Success     200 {object} WhoAmI
// @Failure     default {object} Problem
// @Router      /v1/whoami [get]
func (x *exchange) whoami() error {
	if err := x.query().end(); err != nil {
		return err
	}
	who := x.who()
	answer := WhoAmI{
		Tenant: who.Tenant, Kind: who.Kind.String(), ID: who.ID, Name: who.Name, Role: who.Role,
		DefaultCache: who.DefaultCache, ExpiresAt: dateOrNull(who.Expires),
	}
	if who.Claims != nil {
		answer.Use = string(who.Claims.Use)
	}
	return x.json(http.StatusOK, answer)
}
