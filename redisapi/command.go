package redisapi

import (
	_ "embed"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

func init() {
	maps.Copy(handlers, map[string]handler{
		"COMMAND": commandAll, "COMMAND|COUNT": commandCount, "COMMAND|LIST": commandList, "COMMAND|INFO": commandInfo, "COMMAND|DOCS": commandDocs,
		"COMMAND|GETKEYS": commandGetKeys, "COMMAND|GETKEYSANDFLAGS": commandGetKeysAndFlags,
		"COMMAND|HELP": help("COMMAND",
			"(no subcommand)", "Return details about all commands.",
			"COUNT", "Return the total number of commands.",
			"LIST [FILTERBY (MODULE <module-name>|ACLCAT <category>|PATTERN <pattern>)]", "Return the names of commands.",
			"INFO [<command-name> ...]", "Return details about multiple commands, or about all.",
			"DOCS [<command-name> ...]", "Return documentation details about multiple commands, or about all.",
			"GETKEYS <full-command>", "Return the keys from a full command.",
			"GETKEYSANDFLAGS <full-command>", "Return the keys and the access flags from a full command.",
		),
	})
}

// A profile is what clients are told of a command: what the command table knows, and beside it what only Redis's clients
// want to know, from commandfacts.txt.
type profile struct {
	name              string          // in lower case, a subcommand's behind its container's and a bar
	cmd               *engine.Command // nil for a subcommand that its container carries out by itself
	arity             int
	flags, cats, tips []string
	first, last, step int
	keys              []keySpec
	subs              []*profile
}

// A keySpec says where a command's keys stand.
type keySpec struct {
	keyword     string // after which the search begins; with index and unknown empty
	from, index int
	unknown     bool // where it begins

	lastKey, keyStep, limit int
	counted                 bool // keyStep is the step, limit the place of the number of keys, lastKey that of the first key
	unfound                 bool // nobody can say how

	flags []string
}

//go:embed commandfacts.txt
var commandFacts string

// profiles are all commands and subcommands by name, and in order.
var (
	profiles     = map[string]*profile{}
	profileNames []string // without subcommands
)

func init() {
	facts := map[string]*profile{}
	for line := range strings.Lines(commandFacts) {
		if !strings.HasPrefix(line, "#") {
			p := parseFacts(strings.Fields(line))
			facts[p.name] = p
		}
	}
	for _, c := range engine.Commands() {
		name := strings.ToLower(c.Name)
		p := facts[name]
		if p == nil {
			p = derived(c)
		}
		p.cmd, p.arity = c, c.Arity
		profiles[name] = p
	}
	for name, p := range facts {
		if container, _, sub := strings.Cut(name, "|"); sub && profiles[name] == nil {
			if owner := profiles[container]; owner != nil && owner.cmd.Flags&engine.Session == 0 {
				profiles[name] = p // its container carries it out
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		if container, _, sub := strings.Cut(name, "|"); sub {
			profiles[container].subs = append(profiles[container].subs, profiles[name])
		} else {
			profileNames = append(profileNames, name)
		}
	}
}

// parseFacts reads a line of commandfacts.txt.
func parseFacts(fields []string) *profile {
	list := func(text string) []string {
		if text == "-" {
			return nil
		}
		return strings.Split(text, ",")
	}
	p := &profile{name: fields[0], arity: numbers(fields[1])[0], flags: list(fields[2]), cats: list(fields[4]), tips: list(fields[5])}
	places := numbers(fields[3])
	p.first, p.last, p.step = places[0], places[1], places[2]
	for _, text := range fields[6:] {
		part := strings.Split(text, "/")
		k := keySpec{flags: strings.Split(part[2], ",")}
		switch begin := part[0]; begin[0] {
		case 'i':
			k.index = numbers(begin[1:])[0]
		case 'w':
			word, from, _ := strings.Cut(begin[1:], ",")
			k.keyword, k.from = word, numbers(from)[0]
		default:
			k.unknown = true
		}
		switch find := part[1]; find[0] {
		case 'r':
			n := numbers(find[1:])
			k.lastKey, k.keyStep, k.limit = n[0], n[1], n[2]
		case 'n':
			n := numbers(find[1:])
			k.counted, k.limit, k.lastKey, k.keyStep = true, n[0], n[1], n[2]
		default:
			k.unfound = true
		}
		p.keys = append(p.keys, k)
	}
	return p
}

func numbers(text string) (list []int) {
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil {
			panic("redisapi: commandfacts.txt: " + err.Error())
		}
		list = append(list, n)
	}
	return list
}

// derived is what follows from a row of the command table alone.
func derived(c *engine.Command) *profile {
	p := &profile{name: strings.ToLower(c.Name), first: c.Keys.First, last: c.Keys.Last, step: c.Keys.Step}
	access := []string{"RO", "access"}
	writes := c.Flags&engine.Writes != 0
	if writes {
		access = []string{"RW", "access", "update"}
	}
	for _, f := range []struct {
		on   bool
		name string
	}{
		{writes, "write"}, {!writes && c.Flags&engine.Connection == 0, "readonly"}, {c.Flags&engine.Grows != 0, "denyoom"}, {c.Flags&engine.Session != 0, "noscript"},
		{c.Flags&engine.Blocks != 0, "blocking"}, {c.Flags&engine.Fast != 0, "fast"}, {c.Keys.Count+c.Keys.Streams > 0, "movablekeys"},
	} {
		if f.on {
			p.flags = append(p.flags, f.name)
		}
	}
	for _, cat := range c.Categories() {
		p.cats = append(p.cats, cat[1:])
	}
	k := c.Keys
	if k.First > 0 {
		last := k.Last - k.First
		if k.Last < 0 {
			last = k.Last
		}
		p.keys = append(p.keys, keySpec{index: k.First, lastKey: last, keyStep: k.Step, flags: access})
	}
	if k.Count > 0 {
		p.keys = append(p.keys, keySpec{index: k.Count, counted: true, lastKey: 1, keyStep: 1, flags: access})
	}
	return p
}

// flagged writes a set of status words.
func (s *Session) flagged(words []string, sign string) {
	s.out.Set(len(words))
	for _, w := range words {
		s.out.Status(sign + w)
	}
}

func (s *Session) texts(words []string) {
	s.out.Array(len(words))
	for _, w := range words {
		s.out.Text(w)
	}
}

// describe writes a command as COMMAND INFO does.
func (s *Session) describe(p *profile) {
	s.out.Array(10)
	s.out.Text(p.name)
	s.out.Int(int64(p.arity))
	s.flagged(p.flags, "")
	s.out.Int(int64(p.first))
	s.out.Int(int64(p.last))
	s.out.Int(int64(p.step))
	s.flagged(p.cats, "@")
	s.out.Set(len(p.tips))
	for _, tip := range p.tips {
		s.out.Text(tip)
	}
	s.out.Set(len(p.keys))
	for i := range p.keys {
		s.describeKeys(&p.keys[i])
	}
	if len(p.subs) > 0 {
		s.out.Array(len(p.subs))
	} else {
		s.out.Set(0)
	}
	for _, sub := range p.subs {
		s.describe(sub)
	}
}

// describeKeys writes a key specification.
func (s *Session) describeKeys(k *keySpec) {
	pairs := func(kind string, values ...any) {
		s.out.Map(2)
		s.out.Text("type")
		s.out.Text(kind)
		s.out.Text("spec")
		s.out.Map(len(values) / 2)
		for _, v := range values {
			if n, ok := v.(int); ok {
				s.out.Int(int64(n))
			} else {
				s.out.Text(v.(string))
			}
		}
	}
	s.out.Map(3)
	s.out.Text("flags")
	s.flagged(k.flags, "")
	s.out.Text("begin_search")
	switch {
	case k.unknown:
		pairs("unknown")
	case k.keyword != "":
		pairs("keyword", "keyword", k.keyword, "startfrom", k.from)
	default:
		pairs("index", "index", k.index)
	}
	s.out.Text("find_keys")
	switch {
	case k.unfound:
		pairs("unknown")
	case k.counted:
		pairs("keynum", "keynumidx", k.limit, "firstkey", k.lastKey, "keystep", k.keyStep)
	default:
		pairs("range", "lastkey", k.lastKey, "keystep", k.keyStep, "limit", k.limit)
	}
}

func commandAll(s *Session, cmd *engine.Command, args [][]byte) {
	if len(args) > 1 {
		noSubcommand(s, cmd, args)
		return
	}
	s.out.Array(len(profileNames))
	for _, name := range profileNames {
		s.describe(profiles[name])
	}
}

// asksTooMuch refuses a question about more names than are answered at once.
func (s *Session) asksTooMuch(cmd *engine.Command, names [][]byte) bool {
	if len(names) <= maxAsked {
		return false
	}
	s.out.ErrorText("ERR " + strings.ReplaceAll(cmd.Name, "|", " ") + " takes at most " + itoa(maxAsked) + " names")
	return true
}

func commandCount(s *Session, _ *engine.Command, _ [][]byte) { s.out.Int(int64(len(profileNames))) }

func commandInfo(s *Session, cmd *engine.Command, args [][]byte) {
	if len(args) == 2 {
		commandAll(s, cmd, args[:1])
		return
	}
	if s.asksTooMuch(cmd, args[2:]) {
		return
	}
	s.out.Array(len(args) - 2)
	for _, a := range args[2:] {
		if p := profiles[strings.ToLower(clip(a))]; p != nil {
			s.describe(p)
		} else {
			s.out.Null()
		}
	}
}

func commandList(s *Session, _ *engine.Command, args [][]byte) {
	wanted := func(*profile) bool { return true }
	switch {
	case len(args) == 2:
	case len(args) != 5 || !equalFold(args[2], "FILTERBY"):
		s.out.ErrorText(syntaxError)
		return
	case equalFold(args[3], "MODULE"):
		wanted = func(*profile) bool { return false }
	case equalFold(args[3], "ACLCAT"):
		cat := strings.ToLower(clip(args[4]))
		wanted = func(p *profile) bool { return slices.Contains(p.cats, cat) }
	case equalFold(args[3], "PATTERN"):
		pattern, err := engine.NewPattern([]byte(strings.ToLower(string(args[4]))))
		if err != nil {
			s.out.Error(fault.From(err))
			return
		}
		wanted = func(p *profile) bool { return pattern.Match([]byte(p.name)) }
	default:
		s.out.ErrorText(syntaxError)
		return
	}
	var names []string
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		if wanted(profiles[name]) {
			names = append(names, name)
		}
	}
	s.texts(names)
}

// named finds the command of a call that stands in another command's arguments.
func (s *Session) named(args [][]byte) (*profile, *engine.Command) {
	cmd := engine.LookupCall(args)
	if cmd == nil {
		s.out.ErrorText("ERR Invalid command specified")
		return nil, nil
	}
	p := profiles[strings.ToLower(cmd.Name)]
	if len(args) > 1 {
		if sub := profiles[p.name+"|"+strings.ToLower(clip(args[1]))]; sub != nil {
			p = sub
		}
	}
	switch {
	case cmd.Keys == engine.Keys{} && len(p.keys) == 0:
		s.out.ErrorText("ERR The command has no key arguments")
		return nil, nil
	case p.arity >= 0 && len(args) != p.arity || len(args) < -p.arity:
		s.out.ErrorText("ERR Invalid number of arguments specified for command")
		return nil, nil
	}
	return p, cmd
}

// keyless are commands that may have no keys although they have a place for them.
func keyless(cmd *engine.Command) bool {
	return strings.HasPrefix(cmd.Name, "EVAL") || strings.HasPrefix(cmd.Name, "FCALL")
}

func commandGetKeys(s *Session, _ *engine.Command, args [][]byte) {
	args = args[2:]
	_, cmd := s.named(args)
	if cmd == nil {
		return
	}
	keys := cmd.AppendKeys(nil, args)
	if len(keys) == 0 && !keyless(cmd) || !cmd.Keys.Fit(args) {
		s.out.ErrorText("ERR Invalid arguments specified for command")
		return
	}
	s.out.Array(len(keys))
	for _, k := range keys {
		s.out.Bulk(k)
	}
}

func commandGetKeysAndFlags(s *Session, _ *engine.Command, args [][]byte) {
	args = args[2:]
	p, cmd := s.named(args)
	if cmd == nil {
		return
	}
	keys := cmd.AppendKeys(nil, args)
	if len(keys) == 0 && !keyless(cmd) || !cmd.Keys.Fit(args) {
		s.out.ErrorText("ERR Invalid arguments specified for command")
		return
	}
	s.out.Array(len(keys))
	uses := p.uses(args)
	for i, k := range keys {
		s.out.Array(2)
		s.out.Bulk(k)
		if i < len(uses) {
			s.flagged(uses[i], "")
		} else {
			s.flagged([]string{"OW", "update"}, "") // of a STORE somewhere among the arguments
		}
	}
}

// uses lists for each key of a call what is done to it, as far as specifications tell.
func (p *profile) uses(args [][]byte) (list [][]string) {
	for _, k := range p.keys {
		at := k.index
		if k.keyword != "" {
			at = k.search(args) + 1
		}
		if k.unknown || k.unfound || at <= 0 || at >= len(args) {
			continue
		}
		flags := k.flags
		if i := slices.Index(flags, "variable_flags"); i >= 0 {
			flags = p.variable(args)
		}
		last := at + k.lastKey
		if k.counted {
			if at+k.limit >= len(args) {
				continue
			}
			n, _ := strconv.Atoi(string(args[at+k.limit]))
			at += k.lastKey
			last = at + (min(n, len(args))-1)*k.keyStep
		} else if k.lastKey < 0 {
			last = len(args) + k.lastKey
			if k.limit > 1 {
				last = at + (len(args)-at)/k.limit + k.lastKey
			}
		}
		for ; at <= last && at < len(args); at += k.keyStep {
			list = append(list, flags)
		}
	}
	return list
}

// search finds the place of a specification's keyword, -2 when it is not there.
func (k *keySpec) search(args [][]byte) int {
	if k.from >= 0 {
		for i := k.from; i < len(args); i++ {
			if equalFold(args[i], k.keyword) {
				return i
			}
		}
		return -2
	}
	for i := len(args) + k.from; i > 0; i-- {
		if equalFold(args[i], k.keyword) {
			return i
		}
	}
	return -2
}

// variable is what SET and BITFIELD do to their key, which depends on their options.
func (p *profile) variable(args [][]byte) []string {
	if p.name == "set" {
		for _, a := range args[3:] {
			if equalFold(a, "GET") {
				return []string{"RW", "access", "update"}
			}
		}
		return []string{"OW", "update"}
	}
	for _, a := range args[2:] {
		if equalFold(a, "SET") || equalFold(a, "INCRBY") {
			return []string{"RW", "access", "update"}
		}
	}
	return []string{"RO", "access"}
}
