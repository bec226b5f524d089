package gateway

import (
	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
)

// A standing is what a caller's last request has found out that the next one need not: where the cache is, and which
// commands the principal may use on every key of it. It holds for one principal and one cache, until a record changes.
type standing struct {
	who     *auth.Principal
	cache   string
	changes uint64 // Gateway.changes before the route was looked up: see Gateway.changed
	route   *route // nil for nothing known

	asked, always engine.CommandSet // of the commands that were asked for, those that may be used on every key
}

// standingOf returns the route of a caller to a cache, from memory if nothing has changed.
func (g *Gateway) standingOf(c *Caller, cache string) (*route, error) {
	if !c.Stays { // several requests may share the caller
		return g.route(c.Principal.Tenant, cache)
	}
	s := c.standing
	if s != nil && s.who == c.Principal && s.cache == cache && s.changes == g.changes.Load() {
		return s.route, nil
	}
	changes := g.changes.Load()
	rt, err := g.route(c.Principal.Tenant, cache)
	if err != nil || rt.cache == nil {
		c.standing = nil
		return rt, err
	}
	if s == nil {
		s = &standing{}
		c.standing = s
	}
	*s = standing{who: c.Principal, cache: cache, changes: changes, route: rt}
	return rt, nil
}

// granted reports whether a call of r is surely allowed, on all its keys whatever they are. False means that check has to
// be asked, as it always has to where the protocol refuses calls of its own.
func (g *Gateway) granted(r *Request, call *engine.Call) bool {
	s := r.Caller.standing
	if s == nil || s.who != r.Caller.Principal || s.cache != r.Cache || r.Refuse != nil {
		return false
	}
	if call.Command == nil || call.Command.CheckArity(len(call.Args)) != nil {
		return false
	}
	return g.surely(r, call.Command)
}

// surely reports whether a command is allowed on every key, for any arguments that it takes.
func (g *Gateway) surely(r *Request, cmd *engine.Command) bool {
	s := r.Caller.standing
	if s == nil || s.who != r.Caller.Principal || s.cache != r.Cache {
		return false
	}
	if !s.asked.Has(cmd) {
		s.asked.Add(cmd)
		if g.grants(s, cmd) {
			s.always.Add(cmd)
		}
	}
	return s.always.Has(cmd)
}

// grants reports whether a principal may surely use a command on every key of a cache. The command has to be one of which
// AppendRights names its Action on its keys, at least one, and nothing else.
func (g *Gateway) grants(s *standing, cmd *engine.Command) bool {
	k := cmd.Keys
	least := max(cmd.Arity, -cmd.Arity)
	if cmd.Rights != nil || cmd.Also != nil || k.First == 0 || least <= k.First || (k.Last < k.First && k.Last != -1) {
		return false
	}
	kind := "key"
	if cmd.Group == engine.GroupLeaderboard {
		kind = "leaderboard"
	}
	action, known := actions[cmd.Action]
	return known && s.who.Always(action, policy.NewItem(g.region, s.who.Tenant, s.cache, kind, nil))
}
