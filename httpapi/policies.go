package httpapi

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

func (a *API) policyRoutes() []route {
	const all, one = "/v1/policies", "/v1/policies/:name"
	return []route{
		{method: http.MethodGet, path: all, manage: true, serve: (*exchange).listPolicies},
		{method: http.MethodGet, path: one, manage: true, serve: (*exchange).getPolicy},
		{method: http.MethodPut, path: one, manage: true, serve: (*exchange).putPolicy},
		{method: http.MethodDelete, path: one, manage: true, serve: (*exchange).deletePolicy},
		{method: http.MethodPost, path: all + "/simulate", manage: true, reads: true, serve: (*exchange).simulatePolicy},
	}
}

// Policy is a named document that says what is allowed and what is denied.
type Policy struct {
	Name      string         `json:"name" example:"sessions"`
	Document  jsontext.Value `json:"document,omitempty" swaggertype:"object"` // left out in lists
	Version   int            `json:"version" minimum:"1" example:"3"`         // one more with every change
	ReadyMade bool           `json:"ready_made" example:"false"`              // exists in every tenant and stays as it is
	CreatedAt *string        `json:"created_at" example:"2026-11-23T16:10:00.000Z"`
	UpdatedAt *string        `json:"updated_at" example:"2026-11-23T16:10:00.000Z"`
}

func showPolicy(p auth.Policy) Policy {
	return Policy{
		Name: p.Name, Document: jsontext.Value(p.Document), Version: p.Version, ReadyMade: p.ReadyMade,
		CreatedAt: dateOrNull(p.CreatedAt), UpdatedAt: dateOrNull(p.UpdatedAt),
	}
}

// PolicyPage is a page of policies in order of their names.
type PolicyPage struct {
	Policies   []Policy `json:"policies"`
	NextCursor string   `json:"next_cursor" example:""` // empty on the last page
}

// listPolicies serves GET /v1/policies.
//
// @Summary     List policies
// @Description Without their documents; the ready-made ones as well.
// @Tags        policies
// @Param       cursor query string false "next_cursor of the page before" maxlength(64)
// @Param       limit query int false "how many a page holds" minimum(1) maximum(1000) default(100)
// @Success     200 {object} PolicyPage
// @Failure     default {object} Problem
// @Router      /v1/policies [get]
func (x *exchange) listPolicies() error {
	after, limit, err := x.page()
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMGetPolicy, "policy", "*"); err != nil {
		return err
	}
	list, next, err := x.api.Credentials.ListPolicies(x.who().Tenant, after, limit)
	if err != nil {
		return err
	}
	page := PolicyPage{Policies: make([]Policy, len(list)), NextCursor: next}
	for i, p := range list {
		p.Document = nil // a thousand of them would be 64 MiB
		page.Policies[i] = showPolicy(p)
	}
	return x.json(http.StatusOK, page)
}

// getPolicy serves GET /v1/policies/:name.
//
// @Summary     Describe a policy, with its document
// @Tags        policies
// @Success     200 {object} Policy
// @Failure     default {object} Problem
// @Router      /v1/policies/{name} [get]
func (x *exchange) getPolicy() error {
	name, err := x.plain("name")
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMGetPolicy, "policy", name); err != nil {
		return err
	}
	p, err := x.api.Credentials.GetPolicy(x.who().Tenant, name)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, showPolicy(p))
}

// PutPolicyRequest writes a policy.
type PutPolicyRequest struct {
	Document jsontext.Value `json:"document" swaggertype:"object"` // in the policy language
}

// putPolicy serves PUT /v1/policies/:name.
//
// @Summary     Write a policy
// @Tags        policies
// @Param       request body PutPolicyRequest true "its document"
// @Success     200 {object} Policy
// @Success     201 {object} Policy
// @Failure     default {object} Problem
// @Router      /v1/policies/{name} [put]
func (x *exchange) putPolicy() error {
	name, err := x.named("name")
	if err != nil {
		return err
	}
	var req PutPolicyRequest
	if err := x.read(&req); err != nil {
		return err
	}
	if len(req.Document) == 0 {
		return fault.About(fault.InvalidArgument, "policies.put", "document", "document is missing")
	}
	if err := x.grants(policy.IAMPutPolicy, "policy", name); err != nil {
		return err
	}
	p, created, err := x.api.Credentials.PutPolicy(x.Request().Context(), x.who().Tenant, name, req.Document)
	if err != nil {
		return err
	}
	if created {
		return x.json(http.StatusCreated, showPolicy(p))
	}
	return x.json(http.StatusOK, showPolicy(p))
}

// deletePolicy serves DELETE /v1/policies/:name.
//
// @Summary     Delete a policy
// @Description Refused while a role has it.
// @Tags        policies
// @Success     204 "deleted"
// @Failure     default {object} Problem
// @Router      /v1/policies/{name} [delete]
func (x *exchange) deletePolicy() error {
	name, err := x.plain("name")
	if err != nil {
		return err
	}
	if err := x.may(policy.IAMDeletePolicy, "policy", name); err != nil {
		return err
	}
	if err := x.api.Credentials.DeletePolicy(x.Request().Context(), x.who().Tenant, name); err != nil {
		return err
	}
	return x.noContent()
}

// SimulateRequest asks what a principal might do, without doing it.
type SimulateRequest struct {
	Principal SimulatedPrincipal        `json:"principal"`
	Action    string                    `json:"action" maxLength:"128" example:"cache:Get"`
	Resource  string                    `json:"resource" maxLength:"65536" example:"cache/main/key/user:4"`                      // a full resource name, or its last part
	Context   map[string]jsontext.Value `json:"context,omitempty" swaggertype:"object,string" example:"cache:SourceIp:10.1.2.3"` // facts by condition key: strings, numbers, booleans or lists of strings
}

// SimulatedPrincipal says who asks, in exactly one way.
type SimulatedPrincipal struct {
	Key      string           `json:"key,omitempty" maxLength:"64" example:""`                     // the id of a key
	Role     string           `json:"role,omitempty" maxLength:"63" example:"read-write"`          // a key of this role
	Policies []jsontext.Value `json:"policies,omitempty" maxItems:"20" swaggertype:"array,object"` // a key of a role with these documents
}

// SimulateResponse is a decision with its reason.
type SimulateResponse struct {
	Decision  string `json:"decision" enums:"Allow,Deny" example:"Allow"`
	Reason    string `json:"reason" example:"identity_policy"`
	Policy    string `json:"policy,omitempty" example:"read-write"` // the policy that settled it, where one did
	Statement *int   `json:"statement" minimum:"0" example:"0"`     // the place of the deciding statement in it; null when none did
	Sid       string `json:"sid,omitempty" example:"ReadWrite"`     // the statement's name
	Error     string `json:"error,omitempty" example:""`            // what could not be evaluated, which denies
}

// simulatePolicy serves POST /v1/policies/simulate.
//
// @Summary     Ask what somebody might do
// @Description Nothing is done. The answer says which statement settled it.
// @Tags        policies
// @Param       request body SimulateRequest true "who asks, for what"
// @Success     200 {object} SimulateResponse
// @Failure     default {object} Problem
// @Router      /v1/policies/simulate [post]
func (x *exchange) simulatePolicy() error {
	var req SimulateRequest
	if err := x.read(&req); err != nil {
		return err
	}
	ways := 0
	for _, given := range []bool{req.Principal.Key != "", req.Principal.Role != "", req.Principal.Policies != nil} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		return fault.About(fault.InvalidArgument, "policies.simulate", "principal", "principal has exactly one of key, role and policies")
	}
	action, ok := policy.LookupAction(req.Action)
	if !ok {
		return fault.About(fault.InvalidArgument, "policies.simulate", "action", "there is no action %.100q; they are like cache:Get", req.Action)
	}
	resource, err := x.resource(req.Resource)
	if err != nil {
		return err
	}
	facts, err := factsOf(req.Context)
	if err != nil {
		return err
	}
	q := auth.Simulation{Key: req.Principal.Key, Role: req.Principal.Role, Action: action, Resource: resource, Facts: facts}
	on := []string{"policy", "*"}
	switch {
	case q.Key != "":
		on = []string{"key", q.Key}
	case q.Role != "":
		on = []string{"role", q.Role}
	}
	if err := x.may(policy.IAMSimulatePolicy, on...); err != nil {
		return err
	}
	for _, p := range req.Principal.Policies {
		q.Policies = append(q.Policies, json.RawMessage(p))
	}
	v, err := x.api.Credentials.Simulate(x.who().Tenant, q)
	if err != nil {
		return err
	}
	answer := SimulateResponse{Decision: v.Decision.String(), Reason: string(v.Reason), Policy: v.Policy, Sid: v.Sid}
	if v.Statement >= 0 {
		answer.Statement = &v.Statement
	}
	if v.Err != nil {
		answer.Error = v.Err.Error()
	}
	return x.json(http.StatusOK, answer)
}

// services are the services of resource names by the first slot of their path.
var services = func() map[string]string {
	m := map[string]string{}
	for service, shapes := range policy.Shapes() {
		for _, shape := range shapes {
			first, _, _ := strings.Cut(shape, "/")
			m[first] = service
		}
	}
	return m
}()

// resource reads a resource name: whole, or the path of one of the caller's tenant.
func (x *exchange) resource(name string) (policy.Resource, error) {
	full := name
	if !strings.HasPrefix(name, "arn:") {
		first, _, _ := strings.Cut(name, "/")
		service, tenant := services[first], x.who().Tenant
		if service == "" {
			return policy.Resource{}, fault.About(fault.InvalidArgument, "policies.resource", "resource", "resource is like cache/main/key/user:4, role/web, or a full name arn:cache:…, not %.100q", name)
		}
		if service == "admin" {
			tenant = tenants.System
		}
		full = "arn:cache:" + service + ":" + x.api.Gateway.Region() + ":" + tenant + ":" + name
	}
	r, err := policy.ParseARN(full)
	if err != nil {
		return r, fault.About(fault.InvalidArgument, "policies.resource", "resource", "%v", err)
	}
	return r, nil
}

// factsOf reads what a simulation supposes.
func factsOf(context map[string]jsontext.Value) (map[string]policy.Value, error) {
	facts := make(map[string]policy.Value, len(context))
	for name, text := range context {
		at := "context." + name
		kind, ok := conditionType(name)
		if !ok {
			return nil, fault.About(fault.InvalidArgument, "policies.context", at, "there is no condition key %.100q", name)
		}
		v, isList, ok := factOf(text)
		if !ok || isList != strings.HasPrefix(kind, "[]") {
			return nil, fault.About(fault.InvalidArgument, "policies.context", at, "%.100s is of the type %s", name, kind)
		}
		facts[strings.ToLower(name)] = v
	}
	return facts, nil
}

// conditionType finds the type of a condition key, by its name in any letter case.
func conditionType(name string) (string, bool) {
	for _, k := range policy.ConditionKeys() {
		if family, ok := strings.CutSuffix(k.Name, "*"); ok {
			if len(name) > len(family) && strings.EqualFold(name[:len(family)], family) {
				return k.Type, true
			}
		} else if strings.EqualFold(name, k.Name) {
			return k.Type, true
		}
	}
	return "", false
}

// factOf reads one fact, as text in any case: text suits every key.
func factOf(text jsontext.Value) (v policy.Value, isList, ok bool) {
	var s string
	switch text.Kind() {
	case '"':
		if json.Unmarshal(text, &s) != nil {
			return v, false, false
		}
		return policy.Text(s), false, true
	case '0', 't', 'f':
		return policy.Text(string(text)), false, true
	case '[':
		var list []string
		if json.Unmarshal(text, &list) != nil {
			return v, true, false
		}
		return policy.List(list), true, true
	}
	return v, false, false
}
