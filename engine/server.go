package engine

import "encoding/binary"

// Commands about a cache or the partition as a whole. Those flagged internal are the leader's own entries in
// the log; clients cannot name them.
var serverCommands = []Command{
	{Name: "PING", Arity: -1, Flags: Fast | Connection, Group: GroupServer, Action: "cache:Connect",
		Usage: "[message]", Summary: "Answers PONG, or the message", Complexity: "O(1)", Since: "1.0.0",
		run: func(c *call) error {
			switch len(c.args) {
			case 1:
				c.out.Status("PONG")
			case 2:
				c.out.Bulk(c.args[1])
			default:
				return errArity(c)
			}
			return nil
		}},
	{Name: "ECHO", Arity: 2, Flags: Fast | Connection, Group: GroupServer, Action: "cache:Connect",
		Usage: "message", Summary: "Answers the message", Complexity: "O(1)", Since: "1.0.0",
		run: func(c *call) error { c.out.Bulk(c.args[1]); return nil }},
	{Name: "DBSIZE", Arity: 1, Spread: PartsSummed, Flags: Fast, Group: GroupServer, Action: "cache:Inspect",
		Summary: "Counts the keys of the selected database", Complexity: "O(1)", Since: "1.0.0",
		run: func(c *call) error { c.out.Int(int64(c.keys().table.Len())); return nil }},
	{Name: "FLUSHDB", Arity: -1, Spread: PartsSame, Flags: Writes | Dangerous, Group: GroupServer, Action: "cache:Flush",
		Usage: "[ASYNC | SYNC]", Summary: "Removes every key of the selected database", Complexity: "O(N)", Since: "1.0.0",
		run: func(c *call) error { return c.flush(false) }},
	{Name: "FLUSHALL", Arity: -1, Spread: PartsSame, Flags: Writes | Dangerous, Group: GroupServer, Action: "cache:Flush",
		Usage: "[ASYNC | SYNC]", Summary: "Removes every key of all the cache's databases", Complexity: "O(N)", Since: "1.0.0",
		run: func(c *call) error { return c.flush(true) }},

	{Name: "LARDER.CONFIGURE", Arity: 7, Flags: Writes | internal, Group: GroupServer, run: (*call).configure,
		Usage: "id memory-limit eviction max-value default-ttl notify", Summary: "Makes a cache known or changes its settings"},
	{Name: "LARDER.DROP", Arity: 2, Flags: Writes | internal, Group: GroupServer, run: (*call).drop,
		Usage: "id", Summary: "Forgets a cache"},
	{Name: "LARDER.RESTORE", Arity: 4, Flags: Writes | relieved | internal, Group: GroupServer, run: (*call).restoreCache,
		Usage: "id version frames", Summary: "Puts a part of a cut into a cache"},
	{Name: "LARDER.SWEEP", Arity: -3, Flags: Writes | internal, Group: GroupServer, run: (*call).sweep,
		Usage: "forget db [key ...]", Summary: "Removes keys whose time has come, which the leader found, and forgets old idempotency keys"},
	{Name: "LARDER.EVICT", Arity: 3, Flags: Writes | internal, Group: GroupServer, run: (*call).evict,
		Usage: "db key", Summary: "Removes an item that the leader chose"},
}

func (c *call) flush(all bool) error {
	if len(c.args) > 2 || (len(c.args) == 2 && !is(c.args[1], "ASYNC") && !is(c.args[1], "SYNC")) {
		return errSyntax
	}
	if all {
		c.cache.flush()
	} else {
		c.keys().flush()
	}
	c.out.Status("OK")
	return nil
}

// ConfigureTask makes a cache known to a partition, or changes its settings.
func ConfigureTask(id CacheID, s Settings) *Task {
	return internalTask(id, "LARDER.CONFIGURE", id[:], integer(s.MemoryLimit), integer(int64(s.Eviction)), integer(s.MaxValue), integer(s.DefaultTTL), integer(s.notes()))
}

// DropTask makes a partition forget a cache and all that is in it.
func DropTask(id CacheID) *Task { return internalTask(id, "LARDER.DROP", id[:]) }

func internalTask(id CacheID, name string, args ...[]byte) *Task {
	return &Task{Cache: id, Calls: []Call{{Command: MustLookup(name), Args: append([][]byte{[]byte(name)}, args...)}}}
}

func integer(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func uninteger(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

func (c *call) configure() error {
	s := Settings{MemoryLimit: uninteger(c.args[2]), Eviction: EvictionPolicy(uninteger(c.args[3])), MaxValue: uninteger(c.args[4]), DefaultTTL: uninteger(c.args[5])}
	s.note(uninteger(c.args[6]))
	c.p.configure(CacheID(c.args[1]), s)
	c.out.Status("OK")
	return nil
}

func (c *call) drop() error {
	c.p.drop(CacheID(c.args[1]))
	c.out.Status("OK")
	return nil
}
