package engine

// Commands on keys of any type.
var keyCommands = []Command{
	{Name: "DEL", Arity: -2, Keys: allKeys, Flags: Writes, Group: GroupKey, Action: "cache:Delete", run: del,
		Usage: "key [key ...]", Summary: "Removes keys and counts those that existed", Complexity: "O(N)", Since: "1.0.0"},
}

func del(c *call) error {
	var n int64
	for _, key := range c.args[1:] {
		if c.remove(key) {
			n++
		}
	}
	c.out.Int(n)
	return nil
}
