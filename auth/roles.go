package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/internal/fault"
)

// The bounds of a role.
const (
	MaxRolePolicies = 20
	MaxDescription  = 1024 // bytes
)

// A Role is a named set of rights. Keys point to it, so their rights change with it.
type Role struct {
	Name        string    `json:"name"`
	Description string    `json:"description,omitempty"`
	Policies    []string  `json:"policies"`           // the names of what allows; a union
	Boundary    string    `json:"boundary,omitempty"` // the name of a policy that must allow as well
	CreatedAt   time.Time `json:"created_at,omitzero"`
	UpdatedAt   time.Time `json:"updated_at,omitzero"`

	ReadyMade bool `json:"-"` // exists in every tenant and stays as it is
}

// A Policy is a named document.
type Policy struct {
	Name      string          `json:"name"`
	Document  json.RawMessage `json:"document"`
	Version   int             `json:"version"` // from 1, one more with every change
	CreatedAt time.Time       `json:"created_at,omitzero"`
	UpdatedAt time.Time       `json:"updated_at,omitzero"`

	ReadyMade bool `json:"-"` // exists in every tenant and stays as it is
}

// RoleOperator is the ready-made role of the tenant policy.SystemTenant, and there only.
const RoleOperator = "operator"

// operatorPolicy allows all that concerns the cluster and the operators' own keys. It opens no tenant's
// data, as its resources end where the tenant of its principals does.
const operatorPolicy = `{"Version":"2012-10-17","Statement":[{"Sid":"Operator","Effect":"Allow",` +
	`"Action":["admin:*","iam:*","metrics:*","audit:*","quota:*"],"Resource":"*"}]}`

// A readyMade is a role and, under the same name, its one policy.
type readyMade struct {
	role     Role
	policy   Policy
	document *policy.Document
	system   bool // for operators only
}

// readyMades are in the order of their names.
var readyMades = func() []readyMade {
	var all []readyMade
	add := func(name, about string, text []byte, system bool) {
		document, err := policy.Parse(name, text, policy.KindIdentity)
		if err != nil {
			panic("auth: ready-made role " + name + ": " + err.Error())
		}
		all = append(all, readyMade{
			role:     Role{Name: name, Description: about, Policies: []string{name}, ReadyMade: true},
			policy:   Policy{Name: name, Document: text, Version: 1, ReadyMade: true},
			document: document,
			system:   system,
		})
	}
	for _, r := range policy.Roles() {
		add(r.Name, r.About, r.Policy, false)
	}
	add(RoleOperator, "runs the cluster: tenants, nodes, limits, and the operators' own keys, but no tenant's data", []byte(operatorPolicy), true)
	slices.SortFunc(all, func(a, b readyMade) int { return strings.Compare(a.role.Name, b.role.Name) })
	return all
}()

// readyMadeFor finds a ready-made role or policy that a tenant has.
func readyMadeFor(tenant, name string) *readyMade {
	for i := range readyMades {
		if r := &readyMades[i]; r.role.Name == name && (!r.system || tenant == policy.SystemTenant) {
			return r
		}
	}
	return nil
}

// reserved reports whether a name is taken in every tenant.
func reserved(name string) bool {
	return slices.ContainsFunc(readyMades, func(r readyMade) bool { return r.role.Name == name })
}

// checkName checks the name of a role or a policy to be written.
func checkName(op, name string) error {
	if !validName(name) {
		return fault.About(fault.InvalidArgument, op, "name", "name is not %s", nameForm)
	}
	if reserved(name) {
		return fault.About(fault.Conflict, op, "name", "%q is ready-made and stays as it is", name)
	}
	return nil
}

func (s *Store) roleExists(tenant string, id TenantID, name string) bool {
	if readyMadeFor(tenant, name) != nil {
		return true
	}
	_, ok := s.roles.Get(under(id, name))
	return ok && validName(name)
}

func (s *Store) policyExists(tenant string, id TenantID, name string) bool {
	if readyMadeFor(tenant, name) != nil {
		return true
	}
	_, ok := s.policies.Get(under(id, name))
	return ok && validName(name)
}

// GetRole describes a role.
func (s *Store) GetRole(tenant, name string) (Role, error) {
	const op = "role.get"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return Role{}, err
	}
	if r := readyMadeFor(tenant, name); r != nil {
		return r.role, nil
	}
	if r, ok := s.roles.Get(under(t.ID, name)); ok {
		return *r, nil
	}
	return Role{}, fault.About(fault.NotFound, op, "name", "no role %.64q", name)
}

// ListRoles returns a page of roles in the order of their names, ready-made ones among them, and after which
// name the next page begins; empty at the end.
func (s *Store) ListRoles(tenant, after string, limit int) ([]Role, string, error) {
	const op = "role.list"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return nil, "", err
	}
	if limit, err = pageSize(op, limit); err != nil {
		return nil, "", err
	}
	var all []Role
	for i := range readyMades {
		if r := readyMadeFor(tenant, readyMades[i].role.Name); r != nil {
			all = append(all, r.role)
		}
	}
	stored, _ := s.roles.List(under(t.ID, ""), "", 0)
	for _, r := range stored {
		all = append(all, *r)
	}
	name := func(r Role) string { return r.Name }
	slices.SortFunc(all, func(a, b Role) int { return strings.Compare(a.Name, b.Name) })
	list, next := page(all, name, after, limit)
	return list, next, nil
}

// checkRole checks a role to be written.
func (s *Store) checkRole(op, tenant string, id TenantID, r *Role) error {
	if !validText(r.Description, MaxDescription) {
		return fault.About(fault.InvalidArgument, op, "description", "description has %d bytes, want at most %d without control characters", len(r.Description), MaxDescription)
	}
	if n := len(r.Policies); n < 1 || n > MaxRolePolicies {
		return fault.About(fault.InvalidArgument, op, "policies", "%d policies, want 1 to %d", n, MaxRolePolicies)
	}
	for i, name := range r.Policies {
		if slices.Contains(r.Policies[:i], name) {
			return fault.About(fault.InvalidArgument, op, "policies", "policy %.64q stands twice", name)
		}
		if !s.policyExists(tenant, id, name) {
			return fault.About(fault.InvalidArgument, op, "policies", "no policy %.64q", name)
		}
	}
	if r.Boundary != "" && !s.policyExists(tenant, id, r.Boundary) {
		return fault.About(fault.InvalidArgument, op, "boundary", "no policy %.64q", r.Boundary)
	}
	return nil
}

// CreateRole makes a role of spec's name, description, policies and boundary.
func (s *Store) CreateRole(ctx context.Context, tenant string, spec Role) (Role, error) {
	const op = "role.create"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return Role{}, err
	}
	if err := checkName(op, spec.Name); err != nil {
		return Role{}, err
	}
	now := s.now().UTC().Truncate(time.Millisecond)
	r := Role{Name: spec.Name, Description: spec.Description, Policies: slices.Clone(spec.Policies), Boundary: spec.Boundary, CreatedAt: now, UpdatedAt: now}
	if err := s.checkRole(op, tenant, t.ID, &r); err != nil {
		return Role{}, err
	}
	if err := s.room(op, rolesPath, t.ID, "roles", MaxRoles); err != nil {
		return Role{}, err
	}
	if err := s.roles.Create(ctx, under(t.ID, r.Name), &r); err != nil {
		return Role{}, err
	}
	return r, nil
}

// A RoleUpdate changes what is not nil.
type RoleUpdate struct {
	Description *string
	Policies    *[]string
	Boundary    *string // empty: none any more
}

// UpdateRole changes a role, and with it the rights of every key that points to it, at once.
func (s *Store) UpdateRole(ctx context.Context, tenant, name string, change RoleUpdate) (Role, error) {
	const op = "role.update"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return Role{}, err
	}
	if err := checkName(op, name); err != nil {
		return Role{}, err
	}
	r, err := s.roles.Update(ctx, under(t.ID, name), func(r *Role) error {
		set(&r.Description, change.Description)
		set(&r.Policies, change.Policies)
		set(&r.Boundary, change.Boundary)
		r.UpdatedAt = s.now().UTC().Truncate(time.Millisecond)
		return s.checkRole(op, tenant, t.ID, r)
	})
	if err != nil {
		return Role{}, err
	}
	return *r, nil
}

// DeleteRole deletes a role that no key points to. A key that is made with it on another node at the same
// time is denied everything until its role is changed.
func (s *Store) DeleteRole(ctx context.Context, tenant, name string) error {
	const op = "role.delete"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return err
	}
	if err := checkName(op, name); err != nil {
		return err
	}
	now := s.now()
	var users []string
	s.mu.RLock()
	for _, k := range s.byID {
		if end := k.record.ExpiresAt; k.tenant == t.ID && k.record.Role == name && (end.IsZero() || now.Before(end)) {
			users = append(users, fmt.Sprintf("%s (%q)", k.record.ID, k.record.Name))
		}
	}
	s.mu.RUnlock()
	if len(users) > 0 {
		return inUse(op, "role", name, "keys", users)
	}
	return s.roles.Delete(ctx, under(t.ID, name))
}

// GetPolicy returns a policy.
func (s *Store) GetPolicy(tenant, name string) (Policy, error) {
	const op = "policy.get"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return Policy{}, err
	}
	if r := readyMadeFor(tenant, name); r != nil {
		return r.policy, nil
	}
	if p, ok := s.policies.Get(under(t.ID, name)); ok {
		return *p, nil
	}
	return Policy{}, fault.About(fault.NotFound, op, "name", "no policy %.64q", name)
}

// ListPolicies returns a page of policies in the order of their names, ready-made ones among them, and after
// which name the next page begins; empty at the end.
func (s *Store) ListPolicies(tenant, after string, limit int) ([]Policy, string, error) {
	const op = "policy.list"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return nil, "", err
	}
	if limit, err = pageSize(op, limit); err != nil {
		return nil, "", err
	}
	var all []Policy
	for i := range readyMades {
		if r := readyMadeFor(tenant, readyMades[i].role.Name); r != nil {
			all = append(all, r.policy)
		}
	}
	stored, _ := s.policies.List(under(t.ID, ""), "", 0)
	for _, p := range stored {
		all = append(all, *p)
	}
	name := func(p Policy) string { return p.Name }
	slices.SortFunc(all, func(a, b Policy) int { return strings.Compare(a.Name, b.Name) })
	list, next := page(all, name, after, limit)
	return list, next, nil
}

// malformed is the refusal of a document.
func malformed(op, argument string, err error) error {
	e := fault.About(fault.InvalidArgument, op, argument, "%v", err)
	e.Err = err
	return e
}

// PutPolicy writes a policy, new or in place of the one of that name, and says whether it is new. With it
// the rights of every key change whose role has it.
func (s *Store) PutPolicy(ctx context.Context, tenant, name string, document []byte) (p Policy, created bool, err error) {
	const op = "policy.put"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return Policy{}, false, err
	}
	if err := checkName(op, name); err != nil {
		return Policy{}, false, err
	}
	if _, err := policy.Parse(name, document, policy.KindIdentity); err != nil {
		return Policy{}, false, malformed(op, "document", err)
	}
	now := s.now().UTC().Truncate(time.Millisecond)
	for {
		old, err := s.policies.Update(ctx, under(t.ID, name), func(p *Policy) error {
			p.Document, p.UpdatedAt = bytes.Clone(document), now
			p.Version++
			return nil
		})
		if err == nil {
			return *old, false, nil
		}
		if !fault.Is(err, fault.NotFound) {
			return Policy{}, false, err
		}
		if err := s.room(op, policiesPath, t.ID, "policies", MaxPolicies); err != nil {
			return Policy{}, false, err
		}
		p := Policy{Name: name, Document: bytes.Clone(document), Version: 1, CreatedAt: now, UpdatedAt: now}
		err = s.policies.Create(ctx, under(t.ID, name), &p)
		if err == nil {
			return p, true, nil
		}
		if _, readable := s.policies.Get(under(t.ID, name)); !readable || !fault.Is(err, fault.Conflict) {
			return Policy{}, false, err
		}
	}
}

// DeletePolicy deletes a policy that no role has. A role that gets it on another node at the same time
// denies everything until it is changed.
func (s *Store) DeletePolicy(ctx context.Context, tenant, name string) error {
	const op = "policy.delete"
	t, err := s.tenant(op, tenant)
	if err != nil {
		return err
	}
	if err := checkName(op, name); err != nil {
		return err
	}
	var users []string
	roles, _ := s.roles.List(under(t.ID, ""), "", 0)
	for _, r := range roles {
		if r.Boundary == name || slices.Contains(r.Policies, name) {
			users = append(users, r.Name)
		}
	}
	if len(users) > 0 {
		return inUse(op, "policy", name, "roles", users)
	}
	return s.policies.Delete(ctx, under(t.ID, name))
}

// guardrails compiles what binds everybody in a tenant.
func guardrails(t *TenantState) (all []*policy.Document) {
	for i, text := range t.Guardrails {
		all = append(all, policy.Load(fmt.Sprintf("guardrail %d", i), text, policy.KindGuardrail))
	}
	return all
}

type documentKey struct {
	tenant TenantID
	name   string
	kind   policy.Kind
}

// A document is compiled from one version of a record.
type document struct {
	from *Policy
	doc  *policy.Document
}

type rulesKey struct {
	tenant TenantID
	role   string
}

// Rules are what a role comes to at one moment.
type rules struct {
	at        uint64 // the tenant's epoch before the records were read
	documents policy.Policies
	set       *policy.Set
}

// rulesOf compiles a role's policies with the tenant's guardrails. A role or policy that is missing or
// broken denies everything (T4), and is logged.
func (s *Store) rulesOf(name string, t *TenantState, role string) *rules {
	key := rulesKey{t.ID, role}
	at := s.epoch(t.ID).Load()
	if r, ok := s.rules.Get(key); ok && r.at == at {
		return r
	}
	// The state was read before the epoch, perhaps; read what must not be older than it again.
	if now, ok := s.tenants.Tenant(name); ok && now.ID == t.ID {
		t = &now
	}
	var docs policy.Policies
	missing := false
	if made := readyMadeFor(name, role); made != nil {
		docs.Identity = []*policy.Document{made.document}
	} else if r, ok := s.roles.Get(under(t.ID, role)); ok {
		for _, p := range r.Policies {
			docs.Identity = append(docs.Identity, s.document(name, t.ID, p, policy.KindIdentity))
		}
		if r.Boundary != "" {
			docs.Boundary = s.document(name, t.ID, r.Boundary, policy.KindBoundary)
		}
	} else {
		missing = true
		docs.Identity = []*policy.Document{policy.Load("role "+role, nil, policy.KindIdentity)}
		s.alert("a key points to a role that is not there; it is denied everything", name, errors.New("role "+role))
	}
	docs.Guardrails = guardrails(t)
	r := &rules{at: at, documents: docs, set: policy.Compile(docs, policy.ModeStrict)}
	if err := r.set.Err(); err != nil && !missing {
		s.alert("a stored policy is broken; whoever has it is denied everything", name, err)
	}
	s.rules.Add(key, r)
	return r
}

// document compiles a policy, or a document that denies everything when there is none of that name.
func (s *Store) document(tenant string, id TenantID, name string, kind policy.Kind) *policy.Document {
	var record *Policy
	if made := readyMadeFor(tenant, name); made != nil {
		if kind == policy.KindIdentity {
			return made.document
		}
		record = &made.policy
	} else if record, _ = s.policies.Get(under(id, name)); record == nil {
		return policy.Load(name, nil, kind)
	}
	key := documentKey{id, name, kind}
	if d, ok := s.documents.Get(key); ok && d.from == record {
		return d.doc
	}
	d := &document{record, policy.Load(name, record.Document, kind)}
	s.documents.Add(key, d)
	return d.doc
}
