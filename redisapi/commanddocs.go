package redisapi

import (
	"slices"
	"strings"

	"github.com/larder-cache/larder/engine"
)

// commandDocs serves COMMAND DOCS.
func commandDocs(s *Session, cmd *engine.Command, args [][]byte) {
	if s.asksTooMuch(cmd, args[2:]) {
		return
	}
	names := profileNames
	if len(args) > 2 {
		names = nil
		for _, a := range args[2:] {
			if name := strings.ToLower(clip(a)); profiles[name] != nil {
				names = append(names, name)
			}
		}
	}
	s.out.Map(len(names))
	for _, name := range names {
		s.out.Text(name)
		s.document(profiles[name])
	}
}

// document writes what COMMAND DOCS says of a command. A subcommand that its container carries out has its container's words.
func (s *Session) document(p *profile) {
	cmd := p.cmd
	if cmd == nil {
		container, _, _ := strings.Cut(p.name, "|")
		cmd = profiles[container].cmd
	}
	var arguments []argument
	if p.cmd != nil {
		arguments = usage(p.cmd.Usage)
	}
	n := 4
	if len(arguments) > 0 {
		n++
	}
	if len(p.subs) > 0 {
		n++
	}
	s.out.Map(n)
	s.out.Text("summary")
	s.out.Text(cmd.Summary + ".")
	s.out.Text("since")
	s.out.Text(cmd.Since)
	s.out.Text("group")
	s.out.Text(docGroup(p, cmd))
	s.out.Text("complexity")
	s.out.Text(cmd.Complexity)
	if len(arguments) > 0 {
		s.out.Text("arguments")
		s.arguments(arguments)
	}
	if len(p.subs) > 0 {
		s.out.Text("subcommands")
		s.out.Map(len(p.subs))
		for _, sub := range p.subs {
			s.out.Text(sub.name)
			s.document(sub)
		}
	}
}

// docGroup is a command's group in Redis's words.
func docGroup(p *profile, cmd *engine.Command) string {
	container, _, _ := strings.Cut(p.name, "|")
	switch {
	case slices.Contains([]string{"multi", "exec", "discard", "watch", "unwatch"}, container):
		return "transactions"
	case container == "cluster":
		return "cluster"
	case slices.Contains(p.cats, "connection"):
		return "connection"
	}
	switch g := cmd.Group.String(); g {
	case "key":
		return "generic"
	case "sorted_set":
		return "sorted-set"
	default:
		return g
	}
}

// An argument is a part of a command's usage, as COMMAND DOCS describes it.
type argument struct {
	name, kind, token  string
	optional, multiple bool
	inner              []argument
}

func (s *Session) arguments(list []argument) {
	s.out.Array(len(list))
	for _, a := range list {
		var flags []string
		if a.optional {
			flags = append(flags, "optional")
		}
		if a.multiple {
			flags = append(flags, "multiple")
		}
		n := 2
		for _, more := range []bool{a.token != "", len(flags) > 0, len(a.inner) > 0} {
			if more {
				n++
			}
		}
		s.out.Map(n)
		s.out.Text("name")
		s.out.Text(a.name)
		s.out.Text("type")
		s.out.Text(a.kind)
		if a.token != "" {
			s.out.Text("token")
			s.out.Text(a.token)
		}
		if len(flags) > 0 {
			s.out.Text("flags")
			s.out.Array(len(flags))
			for _, f := range flags {
				s.out.Status(f)
			}
		}
		if len(a.inner) > 0 {
			s.out.Text("arguments")
			s.arguments(a.inner)
		}
	}
}

// usage reads a command's usage in Redis's notation into arguments.
func usage(text string) []argument {
	for _, sign := range []string{"[", "]", "<", ">", "|"} {
		text = strings.ReplaceAll(text, sign, " "+sign+" ")
	}
	u := &usageReader{words: strings.Fields(text)}
	return u.alternatives().inner
}

type usageReader struct {
	words []string
	at    int
}

// alternatives reads up to a closing bracket: a sequence, or several of which one is chosen.
func (u *usageReader) alternatives() argument {
	choices := []argument{u.sequence()}
	for u.at < len(u.words) && u.words[u.at] == "|" {
		u.at++
		choices = append(choices, u.sequence())
	}
	if len(choices) == 1 {
		return choices[0]
	}
	one := argument{kind: "oneof"}
	for _, c := range choices {
		if len(c.inner) == 1 {
			c = c.inner[0]
		}
		if c.name == "" {
			c.name = nameOf(c.inner)
		}
		one.inner = append(one.inner, c)
	}
	one.name = nameOf(one.inner)
	return one
}

// sequence reads terms one after the other.
func (u *usageReader) sequence() argument {
	block := argument{kind: "block"}
	for u.at < len(u.words) {
		word := u.words[u.at]
		if word == "]" || word == ">" || word == "|" {
			break
		}
		u.at++
		switch {
		case word == "...":
			if n := len(block.inner); n > 0 {
				block.inner[n-1].multiple = true
			}
			block.multiple = true
		case word == "[" || word == "<":
			group := u.alternatives()
			u.at++ // the closing bracket
			block.join(group, word == "[")
		case isToken(word):
			block.inner = append(block.inner, argument{name: strings.ToLower(word), kind: "pure-token", token: word})
		default:
			block.add(argument{name: word, kind: kindOf(word)})
		}
	}
	return block
}

// add puts an argument behind a token that stands before it, if there is one.
func (a *argument) add(next argument) {
	if n := len(a.inner); n > 0 && a.inner[n-1].kind == "pure-token" && !a.inner[n-1].optional && next.token == "" {
		next.token = a.inner[n-1].token
		a.inner[n-1] = next
		return
	}
	a.inner = append(a.inner, next)
}

// join adds what stood in brackets. When it repeats what stands before it, that may come several times.
func (a *argument) join(group argument, optional bool) {
	if group.kind == "oneof" {
		group.optional = optional
		if !optional {
			a.add(group)
		} else {
			a.inner = append(a.inner, group)
		}
		return
	}
	k := len(group.inner)
	if k > 0 && optional && group.multiple && len(a.inner) >= k {
		before := a.inner[len(a.inner)-k:]
		same := true
		for i := range before {
			same = same && before[i].name == group.inner[i].name
		}
		if same && k == 1 {
			before[0].multiple = true
			return
		}
		if same {
			repeated := argument{kind: "block", multiple: true, inner: slices.Clone(before)}
			repeated.name = nameOf(before)
			a.inner = append(a.inner[:len(a.inner)-k], repeated)
			return
		}
	}
	if k == 1 {
		group.inner[0].optional = optional
		group.inner[0].multiple = group.inner[0].multiple || group.multiple
		a.inner = append(a.inner, group.inner[0])
		return
	}
	group.name, group.optional = nameOf(group.inner), optional
	a.inner = append(a.inner, group)
}

// nameOf names a group by what is in it.
func nameOf(list []argument) string {
	var names []string
	for _, a := range list {
		names = append(names, a.name)
	}
	return strings.Join(names, "-")
}

// isToken reports whether a word of a usage is meant literally.
func isToken(word string) bool { return word == strings.ToUpper(word) && word != strings.ToLower(word) }

// kindOf guesses an argument's type by its name.
func kindOf(name string) string {
	switch {
	case name == "key" || strings.HasSuffix(name, "key") || name == "source" || name == "destination":
		return "key"
	case name == "pattern":
		return "pattern"
	case strings.HasPrefix(name, "unix-time"):
		return "unix-time"
	case slices.Contains([]string{"score", "longitude", "latitude", "radius", "width", "height", "weight"}, name):
		return "double"
	case slices.Contains([]string{"count", "index", "timeout", "seconds", "milliseconds", "cursor", "offset", "numkeys", "start", "stop", "end", "increment", "decrement", "len", "length", "bit", "rank", "db", "maxlen", "numreplicas", "numlocal"}, name):
		return "integer"
	}
	return "string"
}
