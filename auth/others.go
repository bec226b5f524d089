package auth

import (
	"github.com/larder-cache/larder/internal/fault"
)

// PrincipalOf is the principal that a tenant's key would be now, to ask what it may do. Nobody has logged in with it.
func (s *Store) PrincipalOf(tenant, id string) (*Principal, error) {
	const op = "auth.principal_of"
	k, err := s.keyOf(op, tenant, id)
	if err != nil {
		return nil, err
	}
	p, err := s.keyPrincipal(id, k.digest, s.now())
	if err != nil {
		return nil, fault.Wrap(fault.NotFound, op, err, "key %q cannot be used", id)
	}
	return p, nil
}

// Uniform reports whether a key's rights are the same for all names of things and in all circumstances: those of a
// ready-made role, in a tenant without guardrails.
func (s *Store) Uniform(tenant, role string) bool {
	t, err := s.tenant("auth.uniform", tenant)
	return err == nil && len(t.Guardrails) == 0 && readyMadeFor(tenant, role) != nil
}
