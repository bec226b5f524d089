package redisapi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A user of ACL is an API key, by its id. ACL SETUSER gives the key a role of its own, whose one policy says the rules; the
// role's description keeps them, and which version of the policy they came to: after somebody has changed that by another
// way, the rules are not what they were. Passwords are not its business: keys are drawn by the server.

// manageFor bounds how long a command of management may take: the control store may be slow.
const manageFor = 5 * time.Second

// aclRole is the role of a user. Ids of keys know letter case and names of roles do not.
func aclRole(id string) string {
	upper := 0
	for i := range len(id) {
		if 'A' <= id[i] && id[i] <= 'Z' {
			upper |= 1 << i
		}
	}
	return "acl-" + strings.ToLower(id) + "-" + strconv.FormatInt(int64(upper), 16)
}

// aclNote is the description of such a role.
func aclNote(cache string, version int, rules string) string {
	return fmt.Sprintf("ACL of %s, version %d: %s", cache, version, rules)
}

// readACLNote reads the rules for a cache, "" when they are for another or are not what the policy says.
func readACLNote(note, cache string, version int) string {
	rules, ok := strings.CutPrefix(note, aclNote(cache, version, ""))
	if !ok {
		return ""
	}
	return rules
}

var errNoACL = errors.New("no rules of ACL")

// aclOf is what a key may do in this cache as ACL SETUSER has said it.
func (s *Session) aclOf(key auth.KeyInfo) (*aclRules, error) {
	access, tenant := s.server.Access, s.caller.Principal.Tenant
	name := aclRole(key.ID)
	if key.Role != name {
		return nil, errNoACL
	}
	role, err := access.GetRole(tenant, name)
	if err != nil || len(role.Policies) != 1 || role.Policies[0] != name || role.Boundary != "" {
		return nil, errNoACL
	}
	p, err := access.GetPolicy(tenant, name)
	if err != nil {
		return nil, errNoACL
	}
	text := readACLNote(role.Description, s.cache, p.Version)
	u := &aclRules{}
	if text == "" || u.apply(strings.Fields(text)) != nil {
		return nil, errNoACL
	}
	return u, nil
}

// mayGive asks for the rights to give a key another role, as over HTTP.
func (s *Session) mayGive(key auth.KeyInfo) error {
	if s.caller.Principal.Kind == auth.KindToken {
		return fault.New(fault.Denied, "redisapi.acl", "rights are given by API keys: a token hands out none")
	}
	name := aclRole(key.ID)
	for _, need := range []struct {
		action policy.Action
		path   [2]string
	}{
		{policy.IAMCreateKey, [2]string{"key", key.ID}}, {policy.IAMCreateKey, [2]string{"role", key.Role}}, {policy.IAMCreateKey, [2]string{"role", name}},
		{policy.IAMCreateRole, [2]string{"role", name}}, {policy.IAMPutPolicy, [2]string{"policy", name}},
	} {
		on := policy.NewResource("iam", s.server.Gateway.Region(), s.caller.Principal.Tenant, need.path[0], need.path[1])
		if err := s.server.Gateway.Authorize(&s.caller, need.action, on); err != nil {
			return err
		}
	}
	return nil
}

// aclSetUser serves ACL SETUSER.
func aclSetUser(s *Session, _ *engine.Command, args [][]byte) {
	if err := s.setUser(string(args[2]), args[3:]); err != nil {
		s.aclFailed(err)
		return
	}
	s.out.Status("OK")
}

// aclFailed tells a fault of management as such, and Redis's own errors about rules in its words.
func (s *Session) aclFailed(err error) {
	var f *fault.Error
	if errors.As(err, &f) {
		s.out.Error(f)
		return
	}
	s.out.ErrorText("ERR " + err.Error())
}

func (s *Session) setUser(id string, words [][]byte) error {
	if err := s.mayGive(auth.KeyInfo{ID: id, Role: aclRole(id)}); err != nil {
		return err // whether there is such a key is not for everybody to know
	}
	access, tenant := s.server.Access, s.caller.Principal.Tenant
	key, err := access.GetKey(tenant, id)
	if fault.Is(err, fault.NotFound) {
		return fmt.Errorf("a user is an API key, by its id, and there is none '%s': make one with the HTTP API or larder key create", clip([]byte(id)))
	}
	if err != nil {
		return err
	}
	if err := s.mayGive(key); err != nil {
		return err
	}
	var rules []string
	for _, w := range words {
		rules = append(rules, string(w))
	}
	u, err := s.aclOf(key)
	if err != nil {
		if len(rules) == 0 {
			return nil // there is such a user
		}
		if !strings.EqualFold(rules[0], "reset") {
			return fmt.Errorf("the rights of '%s' are those of the role '%s', which is not for ACL rules to change: begin with reset", id, key.Role)
		}
		u = &aclRules{}
	}
	if err := u.apply(rules); err != nil {
		return err
	}
	document, err := u.policy(tenant, s.cache)
	if err != nil {
		return err
	}
	text := u.String()
	if len(text) > maxACLRules {
		return fmt.Errorf("the rules have %d bytes, at most %d are kept", len(text), maxACLRules)
	}
	return s.giveRules(key, text, document)
}

// giveRules writes the policy, the role and what role the key has.
func (s *Session) giveRules(key auth.KeyInfo, text string, document []byte) error {
	ctx, cancel := context.WithTimeout(context.Background(), manageFor)
	defer cancel()
	access, tenant, name := s.server.Access, s.caller.Principal.Tenant, aclRole(key.ID)
	p, _, err := access.PutPolicy(ctx, tenant, name, document)
	if err != nil {
		return err
	}
	note, none, only := aclNote(s.cache, p.Version, text), "", []string{name}
	_, err = access.UpdateRole(ctx, tenant, name, auth.RoleUpdate{Description: &note, Policies: &only, Boundary: &none})
	if fault.Is(err, fault.NotFound) {
		_, err = access.CreateRole(ctx, tenant, auth.Role{Name: name, Description: note, Policies: only})
	}
	if err == nil && key.Role != name {
		_, err = access.UpdateKey(ctx, tenant, key.ID, auth.KeyUpdate{Role: &name})
	}
	return err
}

// aclDelUser serves ACL DELUSER: it revokes keys, and deletes the rules that they had.
func aclDelUser(s *Session, _ *engine.Command, args [][]byte) {
	ctx, cancel := context.WithTimeout(context.Background(), manageFor)
	defer cancel()
	access, tenant := s.server.Access, s.caller.Principal.Tenant
	for _, a := range args[2:] {
		if string(a) == "default" {
			s.out.ErrorText("ERR The 'default' user cannot be removed")
			return
		}
		if err := s.mayManage(policy.IAMRevokeKey, string(a)); err != nil {
			s.out.Error(fault.From(err))
			return
		}
	}
	deleted := int64(0)
	for _, a := range args[2:] {
		id := string(a)
		key, err := access.GetKey(tenant, id)
		if err == nil {
			err = access.RevokeKey(ctx, tenant, id)
		}
		if fault.Is(err, fault.NotFound) {
			continue
		}
		if err != nil {
			s.out.Error(fault.From(err))
			return
		}
		deleted++
		if key.Role == aclRole(id) {
			err = errors.Join(access.DeleteRole(ctx, tenant, key.Role), access.DeletePolicy(ctx, tenant, key.Role))
			if err != nil {
				s.server.Log.Warn("the role of a key that was revoked stays", "tenant", tenant, "role", key.Role, "error", err)
			}
		}
	}
	s.out.Int(deleted)
}

// describeUser answers ACL GETUSER for one whose rights ACL SETUSER has given.
func (s *Session) describeUser(u *aclRules, role string) {
	s.out.Map(7)
	s.out.Text("flags")
	s.out.Set(1)
	if u.on {
		s.out.Text("on")
	} else {
		s.out.Text("off")
	}
	s.out.Text("passwords")
	s.out.Array(0)
	s.describeSelector(&u.root)
	s.out.Text("selectors")
	s.out.Array(len(u.selectors))
	for i := range u.selectors {
		s.out.Map(3)
		s.describeSelector(&u.selectors[i])
	}
	s.out.Text("role")
	s.out.Text(role)
}

func (s *Session) describeSelector(sel *selector) {
	for _, pair := range [][2]string{{"commands", sel.commands()}, {"keys", sel.keyText()}, {"channels", sel.channelText()}} {
		s.out.Text(pair[0])
		s.out.Text(pair[1])
	}
}
