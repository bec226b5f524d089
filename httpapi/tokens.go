package httpapi

import (
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
)

func (a *API) tokenRoutes() []route {
	const all, one = "/v1/tokens", "/v1/tokens/:id"
	return []route{
		{method: http.MethodPost, path: all, manage: true, serve: (*exchange).createToken},
		{method: http.MethodGet, path: all, manage: true, serve: (*exchange).listTokens},
		{method: http.MethodGet, path: one, manage: true, serve: (*exchange).getToken},
		{method: http.MethodDelete, path: one, manage: true, serve: (*exchange).revokeToken},
		{method: http.MethodPost, path: all + "/revoke", manage: true, serve: (*exchange).revokeTokens},
	}
}

// Token is a token that was made and neither expired nor was revoked.
type Token struct {
	ID        string         `json:"id" example:"5GJ3KX7Q2NQZC4M6WV5D6WQ3PT"`
	Subject   string         `json:"subject" example:"user-4"`
	Maker     string         `json:"maker" example:"4kQ0c1mZx7Rb"` // the id of the key that made it
	Use       string         `json:"use" enums:"data,manage" example:"data"`
	Scopes    []string       `json:"scopes,omitempty" example:"game"`
	Policy    jsontext.Value `json:"policy,omitempty" swaggertype:"object"` // what it may do at most
	IssuedAt  string         `json:"issued_at" example:"2026-11-23T16:10:00.000Z"`
	ExpiresAt string         `json:"expires_at" example:"2026-11-23T16:25:00.000Z"`
}

// NewToken is a token at the only time that its text is shown.
type NewToken struct {
	Token `json:",inline"`
	Text  string `json:"token" example:"eyJhbGciOiJFZERTQSIs…"` // keep it: it is not shown again
}

func showToken(t auth.TokenInfo) Token {
	return Token{
		ID: t.ID, Subject: t.Subject, Maker: t.Maker, Use: string(t.Use), Scopes: t.Scopes, Policy: jsontext.Value(t.Policy),
		IssuedAt: showTime(t.IssuedAt), ExpiresAt: showTime(t.ExpiresAt),
	}
}

// CreateTokenRequest makes a token, which may do what its maker may and of that only what its own policy allows.
type CreateTokenRequest struct {
	TTL     Duration       `json:"ttl,omitzero" swaggertype:"string" default:"15m" example:"15m"` // 1s to 25h, and never longer than the maker lives
	Subject string         `json:"subject,omitempty" maxLength:"1024" example:"user-4"`           // for whom it is; the maker's id when left out
	Policy  jsontext.Value `json:"policy,omitempty" swaggertype:"object"`                         // at most 20 statements; left out: all that the maker may
	Use     string         `json:"use,omitempty" enums:"data,manage" default:"data" example:"data"`
	Scopes  []string       `json:"scopes,omitempty" maxItems:"64" maxLength:"128" example:"game"`
}

// defaultTokenLife is that of a token whose maker names none.
const defaultTokenLife = 15 * time.Minute

// createToken serves POST /v1/tokens.
//
// @Summary     Make a token
// @Description It may do what its maker may, and of that only what its own policy allows. Its text is in the answer, and never shown again.
// @Tags        tokens
// @Param       request body CreateTokenRequest false "the token"
// @Success     201 {object} NewToken
// @Failure     default {object} Problem
// @Header      201 {string} Location "where the token is"
// @Router      /v1/tokens [post]
func (x *exchange) createToken() error {
	var req CreateTokenRequest
	if err := x.read(&req); err != nil {
		return err
	}
	spec := auth.TokenSpec{TTL: defaultTokenLife, Policy: req.Policy, Subject: req.Subject, Use: auth.Use(req.Use), Scopes: req.Scopes}
	if req.TTL.Set {
		spec.TTL = time.Duration(req.TTL.Ms) * time.Millisecond
	}
	if spec.Subject == "" {
		spec.Subject = x.who().ID
	}
	if err := x.grants(policy.IAMCreateToken, "session", x.who().Role, spec.Subject); err != nil {
		return err
	}
	token, text, err := x.api.Credentials.Mint(x.Request().Context(), x.who(), spec)
	if err != nil {
		return err
	}
	x.Response().Header()["Location"] = []string{"/v1/tokens/" + token.ID}
	return x.json(http.StatusCreated, NewToken{showToken(token), text})
}

// TokenPage is a page of tokens in order of their ids.
type TokenPage struct {
	Tokens     []Token `json:"tokens"`
	NextCursor string  `json:"next_cursor" example:""` // empty on the last page
}

// listTokens serves GET /v1/tokens.
//
// @Summary     List tokens that are in force
// @Tags        tokens
// @Param       cursor query string false "next_cursor of the page before" maxlength(64)
// @Param       limit query int false "how many a page holds" minimum(1) maximum(1000) default(100)
// @Success     200 {object} TokenPage
// @Failure     default {object} Problem
// @Router      /v1/tokens [get]
func (x *exchange) listTokens() error {
	after, limit, err := x.page()
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMListKeys, "session", "*", "*"); err != nil {
		return err
	}
	list, next, err := x.api.Credentials.ListTokens(x.who().Tenant, after, limit)
	if err != nil {
		return err
	}
	page := TokenPage{Tokens: make([]Token, len(list)), NextCursor: next}
	for i, t := range list {
		page.Tokens[i] = showToken(t)
	}
	return x.json(http.StatusOK, page)
}

// getToken serves GET /v1/tokens/:id.
//
// @Summary     Describe a token
// @Tags        tokens
// @Success     200 {object} Token
// @Failure     default {object} Problem
// @Router      /v1/tokens/{id} [get]
func (x *exchange) getToken() error {
	id, err := x.plain("id")
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMListKeys, "session", "*", "*"); err != nil {
		return err
	}
	token, err := x.api.Credentials.GetToken(x.who().Tenant, id)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showToken(token))
}

// revokeToken serves DELETE /v1/tokens/:id.
//
// @Summary     Revoke a token
// @Tags        tokens
// @Success     204 "revoked"
// @Failure     default {object} Problem
// @Router      /v1/tokens/{id} [delete]
func (x *exchange) revokeToken() error {
	id, err := x.plain("id")
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMRevokeTokens, "session", "*", "*"); err != nil {
		return err
	}
	if err := x.api.Credentials.RevokeToken(x.Request().Context(), x.who().Tenant, id); err != nil {
		return err
	}
	return x.noContent()
}

// RevokeTokensRequest ends many tokens at once, those of which nobody kept a list too. It has exactly one of
// subject, maker and all.
type RevokeTokensRequest struct {
	Subject string `json:"subject,omitempty" maxLength:"1024" example:"user-4"`
	Maker   string `json:"maker,omitempty" maxLength:"64" example:""` // the id of the key that made them
	All     bool   `json:"all,omitempty" example:"false"`
	Before  string `json:"before,omitempty" format:"date-time" example:"2026-11-23T16:10:00Z"` // those made before this time; now when left out
}

// revokeTokens serves POST /v1/tokens/revoke.
//
// @Summary     Revoke many tokens
// @Description All of a subject, of a maker, or of the tenant, those of which nobody kept a list too.
// @Tags        tokens
// @Param       request body RevokeTokensRequest true "which"
// @Success     204 "revoked"
// @Failure     default {object} Problem
// @Router      /v1/tokens/revoke [post]
func (x *exchange) revokeTokens() error {
	var req RevokeTokensRequest
	if err := x.read(&req); err != nil {
		return err
	}
	which := auth.Revocation{Subject: req.Subject, Maker: req.Maker}
	on, ways := []string{"session", "*", "*"}, 0
	if req.All {
		ways++
	}
	if req.Subject != "" {
		on, ways = []string{"session", "*", req.Subject}, ways+1
	}
	if req.Maker != "" {
		on, ways = []string{"key", req.Maker}, ways+1
	}
	if ways != 1 {
		return fault.About(fault.InvalidArgument, "tokens.revoke", "subject", "give exactly one of subject, maker and all")
	}
	if req.Before != "" {
		var err error
		if which.Before, err = parseTime("before", req.Before); err != nil {
			return err
		}
	}
	if err := x.may(policy.IAMRevokeTokens, on...); err != nil {
		return err
	}
	if err := x.api.Credentials.RevokeTokens(x.Request().Context(), x.who().Tenant, which); err != nil {
		return err
	}
	return x.noContent()
}
