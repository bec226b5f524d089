package engine

import (
	"bytes"
	"slices"

	"github.com/larder-cache/larder/internal/fault"
)

// What package replication asks of the engine, to write tasks to a log and to read them there.

// LookupLogged finds the row that an entry of the log names: a client's command, one of the leader's own, or a subcommand by
// its full name, as Command.Name has it. It returns nil for a name that is not in the table.
func LookupLogged(name []byte) *Command { return byName[string(name)] }

// Room is how many bytes a cache that evicts may still take, negative when it is over its limit; bounded is false for a
// cache that is unknown, has no limit, or refuses instead.
func (p *Partition) Room(id CacheID) (bytes int64, bounded bool) {
	c := p.cache(id)
	if c == nil || c.settings.MemoryLimit == 0 || c.settings.Eviction == NoEviction {
		return 0, false
	}
	return c.settings.MemoryLimit - c.used, true
}

// Growth bounds what a task adds to its cache's account, as Relieve counts it; less closely when it is within room anyway.
func (p *Partition) Growth(t *Task, room int64) (grows int64) {
	c := p.cache(t.Cache)
	if c == nil || t.DB < 0 || t.DB >= Databases {
		return 0
	}
	if n, sure := growsAtMost(t); sure && n <= room {
		return n
	}
	p.viewed, p.looked = 0, look{}
	for i := range t.Calls {
		if call := &t.Calls[i]; call.Command.Flags&(Grows|relieved) != 0 {
			grows += c.need(t.DB, call.Command, call.Args)
		}
	}
	return grows
}

// SettingsOf returns the settings of a cache that the partition holds.
func (p *Partition) SettingsOf(id CacheID) (s Settings, ok bool) {
	c := p.caches[id]
	if c == nil {
		return s, false
	}
	return c.settings, true
}

// Knows reports whether the partition holds a cache.
func (p *Partition) Knows(id CacheID) bool { return p.caches[id] != nil }

// Rights say in data what the scripts of a task may do, so that every replica comes to the same answer. A right that only
// holds under conditions is not among them.
type Rights struct {
	Everything bool // nothing else counts then

	On    [4][]string   // the actions allowed on any name, by ResourceKind; of OnCache on the cache
	Named []NamedRights // on the keys that the task names
}

// NamedRights are the actions allowed on one key.
type NamedRights struct {
	On      ResourceKind
	Name    []byte
	Actions []string
}

// Allowed is Task.Allowed for scripts that have these rights.
func (r *Rights) Allowed(cmd *Command, args [][]byte) error {
	if r.Everything {
		return nil
	}
	if err := cmd.CheckArity(len(args)); err != nil {
		return err
	}
	for _, right := range cmd.AppendRights(nil, args) {
		if !r.has(right) {
			return fault.New(fault.Denied, "engine.rights", "this credential may not %s here", right.Action)
		}
	}
	return nil
}

func (r *Rights) has(right Right) bool {
	if slices.Contains(r.On[right.On], right.Action) {
		return true
	}
	return slices.ContainsFunc(r.Named, func(n NamedRights) bool {
		return n.On == right.On && bytes.Equal(n.Name, right.Name) && slices.Contains(n.Actions, right.Action)
	})
}
