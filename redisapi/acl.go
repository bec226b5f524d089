package redisapi

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/auth"
	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
	"github.com/larder-cache/larder/internal/fault"
)

func init() {
	maps.Copy(handlers, map[string]handler{
		"ACL": noSubcommand, "ACL|WHOAMI": aclWhoami, "ACL|CAT": aclCat, "ACL|GENPASS": aclGenpass, "ACL|USERS": aclUsers, "ACL|LIST": aclList,
		"ACL|GETUSER": aclGetUser, "ACL|DRYRUN": aclDryRun, "ACL|LOG": aclLog,
		"ACL|SETUSER": aclSetUser, "ACL|DELUSER": aclDelUser,
		"ACL|LOAD": refuse("there is no file of users"), "ACL|SAVE": refuse("there is no file of users: keys and roles are always kept"),
		"ACL|HELP": help("ACL",
			"CAT [<category>]", "List all commands that belong to <category>, or all command categories when no category is specified.",
			"DELUSER <username> [<username> ...]", "Revoke API keys, by their ids.",
			"DRYRUN <username> <command> [<arg> ...]", "Returns whether the user can execute the given command without executing the command.",
			"GENPASS [<bits>]", "Generate a secure random password of <bits> bits (default: 256).",
			"GETUSER <username>", "Get the user's details.",
			"LIST", "Show users details in config file format.",
			"LOG [<count> | RESET]", "Show the ACL log entries.",
			"SETUSER <username> <attribute> [<attribute> ...]", "Give an API key, by its id, a role with these rules.",
			"USERS", "List all the registered usernames.",
			"WHOAMI", "Return the current connection username.",
		),
	})
}

func aclWhoami(s *Session, _ *engine.Command, _ [][]byte) { s.out.Text(userOf(s.caller.Principal)) }

// aclCategories are the categories of Redis, and behind them those of our own commands.
var aclCategories = func() []string {
	list := strings.Fields("keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub admin fast slow blocking dangerous connection transaction scripting")
	for _, c := range engine.Commands() {
		for _, cat := range c.Categories() {
			if !slices.Contains(list, cat[1:]) {
				list = append(list, cat[1:])
			}
		}
	}
	return list
}()

func aclCat(s *Session, cmd *engine.Command, args [][]byte) {
	switch len(args) {
	case 2:
		s.texts(aclCategories)
		return
	case 3:
	default:
		s.out.ErrorText(arityError(cmd))
		return
	}
	cat := strings.ToLower(clip(args[2]))
	if !slices.Contains(aclCategories, cat) {
		s.out.ErrorText("ERR Unknown category '" + clip(args[2]) + "'")
		return
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		if slices.Contains(profiles[name].cats, cat) {
			names = append(names, name)
		}
	}
	s.texts(names)
}

func aclGenpass(s *Session, cmd *engine.Command, args [][]byte) {
	bits := 256
	if len(args) > 3 {
		s.out.ErrorText(arityError(cmd))
		return
	}
	if len(args) == 3 {
		n, err := strconv.Atoi(string(args[2]))
		if err != nil {
			s.out.ErrorText(notInteger)
			return
		}
		if n <= 0 || n > 4096 {
			s.out.ErrorText("ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to 4096")
			return
		}
		bits = n
	}
	b := make([]byte, (bits+7)/8)
	rand.Read(b)
	s.out.Text(hex.EncodeToString(b)[:(bits+3)/4])
}

// mayManage asks for a right on a key of the caller's tenant, "*" for all of them.
func (s *Session) mayManage(action policy.Action, key string) error {
	return s.server.Gateway.Authorize(&s.caller, action, policy.NewResource("iam", s.server.Gateway.Region(), s.caller.Principal.Tenant, "key", key))
}

// maxUsers is how many users ACL LIST and ACL USERS tell of.
const maxUsers = 1000

// users lists who may log in to the tenant's caches: the keys of those who may list keys, and the caller alone for others,
// who learn nothing of the rest.
func (s *Session) users() []auth.KeyInfo {
	if s.mayManage(policy.IAMListKeys, "*") == nil {
		if list, _, err := s.server.Access.ListKeys(s.caller.Principal.Tenant, "", maxUsers); err == nil {
			return list
		}
	}
	p := s.caller.Principal
	return []auth.KeyInfo{{ID: userOf(p), Role: p.Role}}
}

// principal finds a user: the caller, or a key of the tenant for those who may ask about it. The error is that of a user
// who does not exist.
func (s *Session) principalOf(user string) (*auth.Principal, error) {
	if user == userOf(s.caller.Principal) || user == "default" {
		return s.caller.Principal, nil
	}
	if err := s.mayManage(policy.IAMSimulatePolicy, user); err != nil {
		return nil, err
	}
	return s.server.Access.PrincipalOf(s.caller.Principal.Tenant, user)
}

// isUser reports whether there is a user of this name, of whom the caller may know.
func (s *Session) isUser(user string) bool {
	for _, c := range s.server.living(s.state) {
		c.facts.mu.Lock()
		name := c.facts.user
		c.facts.mu.Unlock()
		if name == user {
			return true
		}
	}
	_, err := s.principalOf(user)
	return err == nil
}

func aclUsers(s *Session, _ *engine.Command, _ [][]byte) {
	var names []string
	for _, u := range s.users() {
		names = append(names, u.ID)
	}
	s.texts(names)
}

// aclList serves ACL LIST.
func aclList(s *Session, _ *engine.Command, _ [][]byte) {
	list := s.users()
	s.out.Array(len(list))
	for _, u := range list {
		line := "user " + u.ID
		rules, ok := "", false
		if p, err := s.principalOf(u.ID); err == nil {
			rules, ok = s.rules(p, u.Role)
			line += " on"
		} else {
			line += " off"
		}
		if acl, err := s.aclOf(u); err == nil {
			s.out.Text("user " + u.ID + " " + acl.String())
			continue
		}
		if !ok {
			rules = "(role " + u.Role + ": ACL GETUSER and ACL DRYRUN say more)"
		} else {
			rules = "~* &* " + rules
		}
		s.out.Text(line + " " + rules)
	}
}

// rules writes what a user may do as rules for commands. ok is false for one whose rights depend on more than the command:
// no rule could say it, and an approximation is none.
func (s *Session) rules(p *auth.Principal, role string) (rules string, ok bool) {
	if p.Claims != nil || !s.server.Access.Uniform(p.Tenant, role) {
		return "", false
	}
	as := s.caller
	as.Principal = p
	filler := slices.Repeat([][]byte{[]byte("1")}, 16)
	rules, all := "-@all", true
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		c := profiles[name].cmd
		if c == nil {
			continue // its container stands for it
		}
		args := append([][]byte{[]byte(c.Name)}, filler[:max(c.Arity, -c.Arity)-1]...)
		if s.server.Gateway.Refusal(&as, s.cache, engine.Call{Command: c, Args: args}) == nil {
			rules += " +" + name
		} else {
			all = false
		}
	}
	if all {
		return "+@all", true
	}
	return rules, true
}

// aclGetUser serves ACL GETUSER.
func aclGetUser(s *Session, _ *engine.Command, args [][]byte) {
	p, err := s.principalOf(string(args[2]))
	if fault.Is(err, fault.NotFound) {
		s.out.Null()
		return
	}
	if err != nil {
		s.out.Error(fault.From(err))
		return
	}
	if u, err := s.aclOf(auth.KeyInfo{ID: p.ID, Role: p.Role}); err == nil && p.Claims == nil {
		s.describeUser(u, p.Role)
		return
	}
	rules, ok := s.rules(p, p.Role)
	if !ok {
		s.out.ErrorText("ERR the rights of '" + userOf(p) + "' depend on more than ACL rules can say; ACL DRYRUN answers for one command, and the policies of role '" + p.Role + "' say all")
		return
	}
	s.out.Map(7)
	s.out.Text("flags")
	s.out.Set(1)
	s.out.Text("on")
	s.out.Text("passwords")
	s.out.Array(0)
	s.out.Text("commands")
	s.out.Text(rules)
	s.out.Text("keys")
	s.out.Text("~*")
	s.out.Text("channels")
	s.out.Text("&*")
	s.out.Text("selectors")
	s.out.Array(0)
	s.out.Text("role")
	s.out.Text(p.Role)
}

// aclDryRun serves ACL DRYRUN: the decision that the gateway would make, as if the user asked from where the caller is.
func aclDryRun(s *Session, _ *engine.Command, args [][]byte) {
	p, err := s.principalOf(string(args[2]))
	if fault.Is(err, fault.NotFound) {
		s.out.ErrorText("ERR User '" + clip(args[2]) + "' not found")
		return
	}
	if err != nil {
		s.out.Error(fault.From(err))
		return
	}
	call := args[3:]
	cmd := engine.LookupCall(call)
	if cmd == nil {
		s.out.ErrorText("ERR Command '" + clip(call[0]) + "' not found")
		return
	}
	if cmd.CheckArity(len(call)) != nil {
		s.out.ErrorText(arityError(cmd))
		return
	}
	as := s.caller
	as.Principal = p
	err = s.server.Gateway.Refusal(&as, s.cache, engine.Call{Command: cmd, Args: call})
	if err == nil {
		s.out.Status("OK")
		return
	}
	user, name := userOf(p), strings.ToLower(cmd.Name)
	for _, key := range cmd.AppendKeys(nil, call) {
		if s.onlyKey(&as, cmd, call, key) {
			s.out.Text("User " + user + " has no permissions to access the '" + string(key) + "' key")
			return
		}
	}
	s.out.Text("User " + user + " has no permissions to run the '" + name + "' command")
}

// onlyKey reports whether a call would be allowed but for this key.
func (s *Session) onlyKey(as *gateway.Caller, cmd *engine.Command, call [][]byte, key []byte) bool {
	owned := s.server.Gateway.Refusal(as, s.cache, engine.Call{Command: cmd, Args: call})
	if owned == nil {
		return false
	}
	// The refusal names the resource: a key's is told apart from the cache's as a whole.
	return strings.HasSuffix(fault.From(owned).Message, "/key/"+string(key))
}

// A refusal is an entry of ACL LOG: the same thing refused to the same user again counts in it.
type refusal struct {
	id                   int64
	count                int64
	reason, object, user string
	began, latest        time.Time
	client               string
}

// Bounds of the log of refusals.
const (
	maxRefusals   = 128
	refusalObject = 256 // bytes
	refusalWindow = time.Minute
)

// noteRefusal remembers that something was refused to the client.
func (s *Session) noteRefusal(text string) {
	reason, object := "command", text
	if _, on, ok := strings.Cut(text, " on "); ok {
		object = on
	}
	switch {
	case strings.Contains(object, "/key/") || strings.Contains(object, "/leaderboard/"):
		reason = "key"
	case strings.Contains(object, "/channel/"):
		reason = "channel"
	}
	object = strings.ToValidUTF8(object[:min(len(object), refusalObject)], "?")
	o := &s.state.observed
	limit := int(o.refusals.Load())
	if limit == 0 {
		return
	}
	client := strings.TrimSuffix(string(s.appendLine(nil)), "\n")
	s.facts.mu.Lock()
	user := s.facts.user
	s.facts.mu.Unlock()
	now := s.server.now()
	o.mu.Lock()
	defer o.mu.Unlock()
	at := slices.IndexFunc(o.refused, func(r *refusal) bool {
		return r.reason == reason && r.object == object && r.user == user && now.Sub(r.latest) < refusalWindow
	})
	if at >= 0 {
		r := o.refused[at]
		r.count++
		r.latest, r.client = now, client
		o.refused = append(slices.Delete(o.refused, at, at+1), r)
		return
	}
	o.refused = append(o.refused, &refusal{id: o.lastNo, count: 1, reason: reason, object: object, user: user, began: now, latest: now, client: client})
	o.lastNo++
	if over := len(o.refused) - limit; over > 0 {
		o.refused = slices.Delete(o.refused, 0, over)
	}
}

// aclLog serves ACL LOG.
func aclLog(s *Session, cmd *engine.Command, args [][]byte) {
	count := 10
	switch {
	case len(args) == 2:
	case len(args) > 3:
		s.out.ErrorText(arityError(cmd))
		return
	case equalFold(args[2], "RESET"):
		o := &s.state.observed
		o.mu.Lock()
		o.refused = nil
		o.mu.Unlock()
		s.out.Status("OK")
		return
	default:
		n, err := strconv.Atoi(string(args[2]))
		if err != nil {
			s.out.ErrorText(notInteger)
			return
		}
		count = max(n, 0)
	}
	now := s.server.now()
	o := &s.state.observed
	o.mu.Lock()
	defer o.mu.Unlock()
	count = min(count, len(o.refused))
	s.out.Array(count)
	for i := range count {
		r := o.refused[len(o.refused)-1-i]
		s.out.Map(10)
		s.out.Text("count")
		s.out.Int(r.count)
		s.out.Text("reason")
		s.out.Text(r.reason)
		s.out.Text("context")
		s.out.Text("toplevel")
		s.out.Text("object")
		s.out.Text(r.object)
		s.out.Text("username")
		s.out.Text(r.user)
		s.out.Text("age-seconds")
		s.out.Double(float64(now.Sub(r.latest).Milliseconds()) / 1000)
		s.out.Text("client-info")
		s.out.Text(r.client)
		s.out.Text("entry-id")
		s.out.Int(r.id)
		s.out.Text("timestamp-created")
		s.out.Int(r.began.UnixMilli())
		s.out.Text("timestamp-last-updated")
		s.out.Int(r.latest.UnixMilli())
	}
}
