package redisapi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/larder-cache/larder/auth/policy"
	"github.com/larder-cache/larder/engine"
)

// aclRules are a user's rights in the words of ACL SETUSER. They become a policy, so that one evaluator decides all; what
// policies cannot say exactly as Redis means it is an error, never something near to it.
//
//	A1: the policy allows a call exactly when one selector allows its command, all its keys and all its channels
//	A2: the policy allows nothing but commands: management of the cache is not in it
type aclRules struct {
	on        bool
	root      selector
	selectors []selector
}

// A selector is a set of rights each of which goes with each.
type selector struct {
	all      bool            // commands: all, also those to come, but for except; or none but those
	except   map[string]bool // by the names of profiles without subcommands
	said     []string        // the rules for commands since the last +@all or -@all
	keys     []keyPattern
	channels []string
}

// A keyPattern says what may be done to which keys.
type keyPattern struct {
	pattern string
	may     access
	all     bool // it was said as ~*, after which Redis takes no other
}

// access is what a command does to a key.
type access uint8

const (
	reads access = 1 << iota
	writes
)

// maxACLRules bounds the text of a user's rules, in bytes: they stand in the description of a role.
const maxACLRules = 900

// apply applies rules to what a user has.
func (u *aclRules) apply(rules []string) error {
	for i := 0; i < len(rules); i++ {
		rule := rules[i]
		if strings.HasPrefix(rule, "(") {
			for !strings.HasSuffix(rule, ")") {
				if i++; i == len(rules) {
					return ruleProblem("Unmatched parenthesis in acl selector starting at '" + rule + "'.")
				}
				rule += " " + rules[i]
			}
			var s selector
			for _, word := range strings.Fields(rule[1 : len(rule)-1]) {
				if err := s.apply(word); err != nil {
					return ruleError(word, err)
				}
			}
			u.selectors = append(u.selectors, s)
			continue
		}
		if err := u.applyOne(rule); err != nil {
			return ruleError(rule, err)
		}
	}
	return nil
}

// ruleError is Redis's error about a rule.
func ruleError(rule string, err error) error {
	return ruleProblem(fmt.Sprintf("Error in ACL SETUSER modifier '%s': %v", rule, err))
}

// A ruleProblem says what is wrong with rules, in Redis's words where it has some.
type ruleProblem string

func (p ruleProblem) Error() string { return string(p) }

const (
	errACLSyntax   = ruleProblem("Syntax error")
	errACLUnknown  = ruleProblem("Unknown command or category name in ACL")
	errACLPassword = ruleProblem("passwords are API keys, which the server draws")       // and nopass lets strangers in
	errACLFirstArg = ruleProblem("rules for a command's first argument are not offered") // Redis gives them up, too
)

func (u *aclRules) applyOne(rule string) error {
	switch lower := strings.ToLower(rule); {
	case lower == "on":
		u.on = true
	case lower == "off":
		u.on = false
	case lower == "reset":
		*u = aclRules{}
	case lower == "clearselectors":
		u.selectors = nil
	case lower == "sanitize-payload": // always
	case lower == "nopass", lower == "resetpass", lower == "skip-sanitize-payload", rule != "" && strings.Contains("><#!", rule[:1]):
		return errACLPassword
	default:
		return u.root.apply(rule)
	}
	return nil
}

// apply changes a selector.
func (s *selector) apply(rule string) error {
	switch lower := strings.ToLower(rule); {
	case lower == "allkeys":
		return s.addKeys("*", reads|writes, true)
	case lower == "resetkeys":
		s.keys = nil
	case lower == "allchannels":
		return s.addChannels("*")
	case lower == "resetchannels":
		s.channels = nil
	case lower == "allcommands":
		return s.apply("+@all")
	case lower == "nocommands":
		return s.apply("-@all")
	case strings.HasPrefix(rule, "~"):
		return s.addKeys(rule[1:], reads|writes, rule == "~*")
	case strings.HasPrefix(rule, "%"):
		flags, pattern, ok := strings.Cut(rule[1:], "~")
		may := access(0)
		for _, c := range strings.ToUpper(flags) {
			switch c {
			case 'R':
				may |= reads
			case 'W':
				may |= writes
			default:
				return errACLSyntax
			}
		}
		if !ok || may == 0 {
			return errACLSyntax
		}
		return s.addKeys(pattern, may, false)
	case strings.HasPrefix(rule, "&"):
		return s.addChannels(rule[1:])
	case lower == "+@all" || lower == "-@all":
		s.all, s.except, s.said = lower == "+@all", map[string]bool{}, nil
	case strings.HasPrefix(rule, "+") || strings.HasPrefix(rule, "-"):
		return s.addCommands(lower)
	default:
		return errACLSyntax
	}
	return nil
}

func (s *selector) addKeys(pattern string, may access, all bool) error {
	if len(s.keys) > 0 && s.keys[0].all {
		if all {
			return nil
		}
		return ruleProblem("Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try 'resetkeys' to start with an empty list of patterns")
	}
	if all {
		s.keys = nil
	}
	if _, err := literal(pattern); err != nil {
		return err
	}
	for i := range s.keys {
		if s.keys[i].pattern == pattern {
			s.keys[i].may |= may
			return nil
		}
	}
	s.keys = append(s.keys, keyPattern{pattern, may, all})
	return nil
}

func (s *selector) addChannels(pattern string) error {
	if len(s.channels) > 0 && s.channels[0] == "*" {
		if pattern == "*" {
			return nil
		}
		return ruleProblem("Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try 'resetchannels' to start with an empty list of channels")
	}
	if pattern == "*" {
		s.channels = nil
	}
	if _, err := literal(pattern); err != nil {
		return err
	}
	if !slices.Contains(s.channels, pattern) {
		s.channels = append(s.channels, pattern)
	}
	return nil
}

// addCommands applies +command, -command, +container|subcommand or +@category.
func (s *selector) addCommands(rule string) error {
	give, name := rule[0] == '+', rule[1:]
	var which []string
	if category, ok := strings.CutPrefix(name, "@"); ok {
		if !slices.Contains(aclCategories, category) {
			return errACLUnknown
		}
		for _, leaf := range aclLeaves() {
			if slices.Contains(profiles[leaf].cats, category) {
				which = append(which, leaf)
			}
		}
	} else {
		p := profiles[name]
		if p == nil {
			if command, _, ok := strings.Cut(name, "|"); ok && profiles[command] != nil && len(profiles[command].subs) == 0 {
				return errACLFirstArg
			}
			return errACLUnknown
		}
		which = append(which, name)
		for _, sub := range p.subs {
			which = append(which, sub.name)
		}
	}
	if s.except == nil {
		s.except = map[string]bool{}
	}
	for _, leaf := range which {
		if give == s.all {
			delete(s.except, leaf)
		} else {
			s.except[leaf] = true
		}
	}
	s.said = slices.DeleteFunc(s.said, func(old string) bool { return old[1:] == name })
	s.said = append(s.said, rule)
	return nil
}

// aclLeaves are the commands and subcommands that calls can be.
var aclLeaves = sync.OnceValue(func() (list []string) {
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		if len(profiles[name].subs) == 0 {
			list = append(list, name)
		}
	}
	return list
})

// allows reports whether a selector has a command.
func (s *selector) allows(leaf string) bool { return s.all != s.except[leaf] }

// commands, keyText and channelText are parts of the rules, as ACL GETUSER shows them.
func (s *selector) commands() string {
	base := "-@all"
	if s.all {
		base = "+@all"
	}
	return strings.Join(append([]string{base}, s.said...), " ")
}

func (s *selector) keyText() string {
	var list []string
	for _, k := range s.keys {
		how := map[access]string{reads: "%R~", writes: "%W~", reads | writes: "~"}[k.may]
		if k.pattern == "*" && how == "~" && !k.all {
			how = "%RW~"
		}
		list = append(list, how+k.pattern)
	}
	return strings.Join(list, " ")
}

func (s *selector) channelText() string {
	var list []string
	for _, c := range s.channels {
		list = append(list, "&"+c)
	}
	return strings.Join(list, " ")
}

// String is a selector's rules in one line.
func (s *selector) String() string {
	channels := s.channelText()
	if channels != "&*" {
		channels = strings.TrimSpace("resetchannels " + channels)
	}
	return strings.TrimSpace(s.keyText() + " " + channels + " " + s.commands())
}

// String is a user's rules in one line, which apply makes the same user of.
func (u *aclRules) String() string {
	text := "off "
	if u.on {
		text = "on "
	}
	text += u.root.String()
	for i := range u.selectors {
		text += " (" + u.selectors[i].String() + ")"
	}
	return text
}

// literal writes a pattern of Redis as one of policies.
func literal(pattern string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch c := pattern[i]; {
		case c == '[':
			return "", fmt.Errorf("a pattern with [ ] cannot be said in a policy; say each by itself")
		case c == '\\' && i+1 < len(pattern):
			i++
			b.WriteString(exactly(pattern[i : i+1]))
		case c == '*' || c == '?':
			b.WriteByte(c)
		case c <= ' ' || c >= 0x7f:
			return "", fmt.Errorf("a pattern is printable ASCII without spaces")
		default:
			b.WriteString(exactly(pattern[i : i+1]))
		}
	}
	return b.String(), nil
}

// exactly writes text for a policy so that it stands for itself.
func exactly(text string) string {
	var b strings.Builder
	for _, c := range text {
		if c == '*' || c == '?' || c == '$' {
			b.WriteString("${" + string(c) + "}")
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// always are the commands that every client may use.
var always = []string{"AUTH", "HELLO", "QUIT", "RESET"}

// A statement is one of a policy.
type statement struct {
	Effect    string
	Action    []string
	Resource  []string
	Condition map[string]map[string][]string `json:",omitempty"`
}

// policy writes the rules as a policy about one cache of a tenant.
func (u *aclRules) policy(tenant, cache string) ([]byte, error) {
	root := "arn:cache:cache:*:" + tenant + ":cache/" + cache
	var list []statement
	allow := func(actions, resources []string, condition map[string]map[string][]string) {
		if len(resources) > 0 {
			list = append(list, statement{"Allow", actions, resources, condition})
		}
	}
	if !u.on {
		list = append(list, statement{Effect: "Deny", Action: []string{"*"}, Resource: []string{root, root + "/*"}})
	}
	allow([]string{"cache:Connect"}, []string{root}, named(always))
	all := append([]selector{u.root}, u.selectors...)
	all = slices.DeleteFunc(all, func(s selector) bool { return !s.all && len(s.except) == 0 })
	if err := mixed(all); err != nil {
		return nil, err
	}
	for i := range all {
		s := &all[i]
		if !s.all {
			if free := s.having(func(n *needs) bool { return n.free }); len(free) > 0 {
				allow([]string{"*"}, []string{root}, named(free))
			}
		} else {
			allow([]string{"*"}, []string{root}, s.condition())
		}
		if err := s.keyStatements(root, len(all) > 1, allow); err != nil {
			return nil, err
		}
		s.channelStatements(root, allow)
	}
	text, err := json.Marshal(struct {
		Version   string
		Statement []statement
	}{"2012-10-17", list})
	if len(text) > policy.MaxCharacters {
		return nil, fmt.Errorf("the rules come to a policy of %d characters, at most %d are allowed: give fewer selectors, or patterns of one kind", len(text), policy.MaxCharacters)
	}
	return text, err
}

// named is the condition that a call's command is one of those.
func named(commands []string) map[string]map[string][]string {
	return map[string]map[string][]string{"StringEquals": {"cache:Command": commands}}
}

// condition is that a call's command is one of a selector's.
func (s *selector) condition() map[string]map[string][]string {
	if !s.all {
		return named(s.having(func(n *needs) bool { return n.keyed }))
	}
	c := map[string]map[string][]string{"Null": {"cache:Command": {"false"}}} // it is a command, and no request of management
	if not := s.without(); len(not) > 0 {
		c["StringNotEquals"] = map[string][]string{"cache:Command": not}
	}
	return c
}

// having lists the selector's commands of a sort, as policies name them.
func (s *selector) having(sort func(*needs) bool) (list []string) {
	for _, leaf := range aclLeaves() {
		if s.allows(leaf) && sort(needsOf(leaf)) {
			list = append(list, strings.ToUpper(leaf))
		}
	}
	return list
}

func (s *selector) without() (list []string) {
	for _, leaf := range aclLeaves() {
		if !s.allows(leaf) {
			list = append(list, strings.ToUpper(leaf))
		}
	}
	return list
}

// mixed refuses selectors that policies cannot tell apart: a call must be allowed by one of them as a whole, where a policy
// asks for each key by itself. For whole keys a condition on all of them helps.
func mixed(all []selector) error {
	for i := range all {
		for j := range all[:i] {
			a, b := &all[i], &all[j]
			partial := slices.ContainsFunc(append(slices.Clone(a.keys), b.keys...), func(k keyPattern) bool { return k.may != reads|writes })
			for _, leaf := range aclLeaves() {
				n := needsOf(leaf)
				if !a.allows(leaf) || !b.allows(leaf) {
					continue
				}
				if n.keyed && partial || n.channels && !slices.Equal(a.channels, b.channels) {
					return fmt.Errorf("two selectors both have %s, with patterns that a policy cannot keep apart", leaf)
				}
			}
		}
	}
	return nil
}

// keyStatements allows what the selector's commands do to the keys of its patterns.
func (s *selector) keyStatements(root string, several bool, allow func(_, _ []string, _ map[string]map[string][]string)) error {
	patterns := map[access][]string{}
	var every []string
	for _, k := range s.keys {
		text, err := literal(k.pattern)
		if err != nil {
			return err
		}
		patterns[k.may] = append(patterns[k.may], root+"/key/"+text, root+"/leaderboard/"+text)
		every = append(every, text)
	}
	together := func(c map[string]map[string][]string) map[string]map[string][]string {
		if several { // all keys of a call are this selector's
			c["ForAllValues:StringLike"] = map[string][]string{"cache:Keys": every}
			if c["Null"] == nil {
				c["Null"] = map[string][]string{}
			}
			c["Null"]["cache:Keys"] = []string{"false"}
		}
		return c
	}
	if both := s.having(func(n *needs) bool { return n.keyed }); len(both) > 0 {
		allow([]string{"*"}, patterns[reads|writes], together(s.condition()))
	}
	for _, may := range []access{reads, writes} {
		if len(patterns[may]) == 0 {
			continue
		}
		commands := map[string][]string{} // by the actions that they may take with this access
		for _, leaf := range aclLeaves() {
			if !s.allows(leaf) {
				continue
			}
			n := needsOf(leaf)
			if n.vague && n.keyed {
				return fmt.Errorf("%s does to one key what it does not do to another, and a policy cannot tell; take it out with -%s", leaf, leaf)
			}
			if actions := n.with(may); len(actions) > 0 {
				key := strings.Join(actions, " ")
				commands[key] = append(commands[key], strings.ToUpper(leaf))
			}
		}
		for _, actions := range slices.Sorted(maps.Keys(commands)) {
			allow(strings.Fields(actions), patterns[may], together(named(commands[actions])))
		}
	}
	return nil
}

// channelStatements allows what the selector's commands do with channels. A pattern may be subscribed to only if it is one of
// the selector's, letter for letter.
func (s *selector) channelStatements(root string, allow func(_, _ []string, _ map[string]map[string][]string)) {
	var globs, literals []string
	for _, c := range s.channels {
		text, _ := literal(c) // it was checked
		globs = append(globs, root+"/channel/"+text)
		if c != "*" {
			text = exactly(c)
		}
		literals = append(literals, root+"/channel/"+text)
	}
	topic := []string{"topic:Publish", "topic:Subscribe"}
	if plain := s.having(func(n *needs) bool { return n.channels && !n.patterns }); len(plain) > 0 {
		allow(topic, globs, named(plain))
	}
	if patterns := s.having(func(n *needs) bool { return n.patterns }); len(patterns) > 0 {
		allow(topic, literals, named(patterns))
		allow(topic[1:], globs, named([]string{"PMESSAGE"}))
	}
}

// needs are what a command takes of a user beside the right to the command itself.
type needs struct {
	free     bool              // it may be called without a key or channel that counts
	keyed    bool              // it has keys
	channels bool              // it has channels
	patterns bool              // they are patterns
	uniform  access            // what it does to each of its keys, when that is the same for all
	actions  map[string]access // by action, what it does to the keys that need it, when it is not; nil when it is
	vague    bool              // an action goes with keys that are treated differently
}

// with lists the actions that a command may take on keys of which so much is allowed.
func (n *needs) with(may access) (actions []string) {
	switch {
	case !n.keyed:
	case n.actions == nil:
		if n.uniform&^may == 0 {
			actions = []string{"*"}
		}
	default:
		for _, a := range slices.Sorted(maps.Keys(n.actions)) {
			if n.actions[a]&^may == 0 {
				actions = append(actions, a)
			}
		}
	}
	return actions
}

var needsByLeaf sync.Map // *needs by name

// needsOf works out what a command needs.
func needsOf(leaf string) *needs {
	if n, ok := needsByLeaf.Load(leaf); ok {
		return n.(*needs)
	}
	n, _ := needsByLeaf.LoadOrStore(leaf, workOut(leaf))
	return n.(*needs)
}

func workOut(leaf string) *needs {
	p := profiles[leaf]
	switch leaf {
	case "subscribe", "ssubscribe", "publish", "spublish":
		return &needs{channels: true}
	case "psubscribe":
		return &needs{channels: true, patterns: true}
	}
	n := &needs{}
	differ := false
	for _, k := range p.keys {
		if slices.Contains(k.flags, "not_key") {
			continue
		}
		does := accessOf(k.flags)
		differ = differ || n.keyed && does != n.uniform || slices.Contains(k.flags, "variable_flags")
		n.uniform, n.keyed = does, true
	}
	n.free = !n.keyed || p.cmd != nil && p.cmd.Group == engine.GroupScripting // a script may have no keys
	if differ {
		n.tellApart(p)
	}
	return n
}

// accessOf is what the flags of a key's specification say that is done to it. Some commands only look whether it is there.
func accessOf(flags []string) (a access) {
	for _, f := range flags {
		switch f {
		case "access":
			a |= reads
		case "insert", "delete", "update":
			a |= writes
		}
	}
	return a
}

// differing are calls of the commands that treat their keys differently, with all their options that do.
var differing = map[string][]string{
	"set": {"SET a v", "SET a v GET", "SET a v IFEQ v", "SET a v IFEQ v GET"}, "bitfield": {"BITFIELD a GET u8 0", "BITFIELD a SET u8 0 1", "BITFIELD a INCRBY u8 0 1", "BITFIELD a GET u8 0 SET u8 0 1"},
	"bitop": {"BITOP AND a b c"}, "copy": {"COPY a b"}, "rename": {"RENAME a b"}, "renamenx": {"RENAMENX a b"}, "pfmerge": {"PFMERGE a b"},
	"lmove": {"LMOVE a b LEFT LEFT"}, "blmove": {"BLMOVE a b LEFT LEFT 0"}, "rpoplpush": {"RPOPLPUSH a b"}, "brpoplpush": {"BRPOPLPUSH a b 0"}, "smove": {"SMOVE a b m"},
	"sdiffstore": {"SDIFFSTORE a b"}, "sinterstore": {"SINTERSTORE a b"}, "sunionstore": {"SUNIONSTORE a b"},
	"zdiffstore": {"ZDIFFSTORE a 1 b"}, "zinterstore": {"ZINTERSTORE a 1 b"}, "zunionstore": {"ZUNIONSTORE a 1 b"}, "zrangestore": {"ZRANGESTORE a b 0 1"},
	"geosearchstore": {"GEOSEARCHSTORE a b FROMMEMBER m BYRADIUS 1 m ASC"}, "georadius": {"GEORADIUS a 0 0 1 m", "GEORADIUS a 0 0 1 m STORE b"},
	"georadiusbymember": {"GEORADIUSBYMEMBER a m 1 m", "GEORADIUSBYMEMBER a m 1 m STORE b"}, "sort": {"SORT a", "SORT a STORE b"},
}

// tellApart finds for each action what is done to the keys that need it, by calls. It is vague when that does not come to what
// each key needs.
func (n *needs) tellApart(p *profile) {
	n.actions = map[string]access{}
	type use struct {
		does    access
		actions []string
	}
	var uses []use
	for _, text := range differing[p.name] {
		words := strings.Fields(text)
		args := make([][]byte, len(words))
		for i, w := range words {
			args[i] = []byte(w)
		}
		flags := p.uses(args)
		for i, key := range p.cmd.AppendKeys(nil, args) {
			u := use{does: writes} // of a STORE somewhere among the arguments
			if i < len(flags) {
				u.does = accessOf(flags[i])
			}
			for _, r := range p.cmd.AppendRights(nil, args) {
				if r.On == engine.OnKey && string(r.Name) == string(key) {
					u.actions = append(u.actions, r.Action)
				}
			}
			uses = append(uses, u)
		}
	}
	for _, u := range uses {
		for _, a := range u.actions {
			if old, ok := n.actions[a]; ok {
				n.actions[a] = old & u.does
			} else {
				n.actions[a] = u.does
			}
		}
	}
	n.vague = len(uses) == 0
	for _, u := range uses {
		sum, whole := access(0), u.does != reads|writes // what one pattern has to allow, one action has to need
		for _, a := range u.actions {
			sum |= n.actions[a]
			whole = whole || n.actions[a] == u.does
		}
		n.vague = n.vague || sum != u.does || !whole
	}
}
