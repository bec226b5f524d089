package engine

// What Upstash's REST API takes and Redis refuses, as commands of our own: that dialect calls them where a client
// wrote UNLINK or ZRANGE.
var upstashCommands = []Command{
	{Name: "UPSTASH.UNLINK", Arity: -1, Spread: KeysSummed, Keys: allKeys, Flags: Writes | Fast, Group: GroupKey, Action: "cache:Delete", run: del,
		Usage: "[key ...]", Summary: "Removes keys and counts those that existed: UNLINK that may be given none", Complexity: "O(N) in the number of keys", Since: "1.0.0"},
	{Name: "UPSTASH.ZRANGE", Arity: -4, Keys: oneKey, Group: GroupSortedSet, Action: "cache:SortedSetRead", Facts: upstashRangeFacts, run: func(c *call) error { return zrange(c, rangeForm{paged: true}) },
		Usage:   "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
		Summary: "Returns the members in a range of indexes, scores or names: ZRANGE whose LIMIT also pages through indexes", Complexity: "O(log N + M) for M members", Since: "1.0.0"},
}

// Both the range and the LIMIT bound what is listed.
func upstashRangeFacts(args [][]byte, now int64) Facts {
	f := zrangeFacts(args, now)
	f.MaxItems = min(f.MaxItems, limited(args[4:]))
	return f
}
