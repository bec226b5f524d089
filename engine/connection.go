package engine

import "github.com/larder-cache/larder/internal/fault"

// Commands about a connection. They stand in the table so that rights, documentation and COMMAND know them, but those
// flagged Session are carried out where the connection is. A name with a bar is a container's subcommand.
var connectionCommands = []Command{
	{Name: "SELECT", Arity: 2, Flags: Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: selectDB,
		Usage: "index", Summary: "Chooses one of the cache's databases", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "PUBLISH", Arity: 3, Flags: Fast, Group: GroupPubSub, Action: "topic:Publish", Rights: publishRights, run: func(c *call) error { return publish(c, false) },
		Usage: "channel message", Summary: "Sends a message to those who listen to a channel, and counts them", Complexity: "O(N+M) for N listeners and M patterns", Since: "2.0.0"},
	{Name: "SPUBLISH", Arity: 3, Flags: Fast, Group: GroupPubSub, Action: "topic:Publish", Rights: publishRights, run: func(c *call) error { return publish(c, true) },
		Usage: "shardchannel message", Summary: "Sends a message to those who listen to a shard channel, and counts them", Complexity: "O(N) for N listeners", Since: "7.0.0"},

	{Name: "AUTH", Arity: -2, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "[username] password", Summary: "Logs in with an API key, a token or a presigned password; the user is the cache", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "HELLO", Arity: -1, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "[protover [AUTH username password] [SETNAME clientname]]", Summary: "Chooses the protocol, logs in, and describes the server", Complexity: "O(1)", Since: "6.0.0"},
	{Name: "QUIT", Arity: -1, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "", Summary: "Closes the connection", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "RESET", Arity: 1, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "", Summary: "Brings the connection back to its first state, logged out", Complexity: "O(1)", Since: "6.2.0"},
	{Name: "MULTI", Arity: 1, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "", Summary: "Begins a transaction", Complexity: "O(1)", Since: "1.2.0"},
	{Name: "EXEC", Arity: 1, Flags: Session | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "", Summary: "Carries out the transaction", Complexity: "what its commands take", Since: "1.2.0"},
	{Name: "DISCARD", Arity: 1, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "", Summary: "Forgets the transaction", Complexity: "O(N) in its commands", Since: "2.0.0"},
	{Name: "WATCH", Arity: -2, Keys: allKeys, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Inspect", run: elsewhere,
		Usage: "key [key ...]", Summary: "Makes the next EXEC depend on these keys staying as they are", Complexity: "O(1) for each key", Since: "2.2.0"},
	{Name: "UNWATCH", Arity: 1, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "", Summary: "Forgets the watched keys", Complexity: "O(1)", Since: "2.2.0"},
	{Name: "SUBSCRIBE", Arity: -2, Rights: subscribeRights, Flags: Session | Connection, Group: GroupPubSub, Action: "topic:Subscribe", run: elsewhere,
		Usage: "channel [channel ...]", Summary: "Listens to channels", Complexity: "O(N) in the channels", Since: "2.0.0"},
	{Name: "UNSUBSCRIBE", Arity: -1, Flags: Session | Connection, Group: GroupPubSub, Action: "cache:Connect", run: elsewhere,
		Usage: "[channel [channel ...]]", Summary: "Stops listening to channels", Complexity: "O(N) in the channels", Since: "2.0.0"},
	{Name: "PSUBSCRIBE", Arity: -2, Rights: subscribeRights, Flags: Session | Connection, Group: GroupPubSub, Action: "topic:Subscribe", run: elsewhere,
		Usage: "pattern [pattern ...]", Summary: "Listens to the channels that match patterns", Complexity: "O(N) in the patterns", Since: "2.0.0"},
	{Name: "PUNSUBSCRIBE", Arity: -1, Flags: Session | Connection, Group: GroupPubSub, Action: "cache:Connect", run: elsewhere,
		Usage: "[pattern [pattern ...]]", Summary: "Stops listening to patterns", Complexity: "O(N) in the patterns", Since: "2.0.0"},
	{Name: "SSUBSCRIBE", Arity: -2, Rights: subscribeRights, Flags: Session | Connection, Group: GroupPubSub, Action: "topic:Subscribe", run: elsewhere,
		Usage: "shardchannel [shardchannel ...]", Summary: "Listens to shard channels", Complexity: "O(N) in the channels", Since: "7.0.0"},
	{Name: "SUNSUBSCRIBE", Arity: -1, Flags: Session | Connection, Group: GroupPubSub, Action: "cache:Connect", run: elsewhere,
		Usage: "[shardchannel [shardchannel ...]]", Summary: "Stops listening to shard channels", Complexity: "O(N) in the channels", Since: "7.0.0"},
	{Name: "PUBSUB", Arity: -2, Flags: Session | Connection, Group: GroupPubSub, Action: "cache:Inspect", run: elsewhere,
		Usage: "", Summary: "Tells of channels and their listeners", Complexity: "depends on the subcommand", Since: "2.8.0"},
	{Name: "PUBSUB|CHANNELS", Arity: -2, Flags: Session | Connection, Group: GroupPubSub, Action: "cache:Inspect", run: elsewhere,
		Usage: "[pattern]", Summary: "Lists the channels that somebody listens to", Complexity: "O(N) in the channels", Since: "2.8.0"},
	{Name: "PUBSUB|NUMSUB", Arity: -2, Flags: Session | Connection, Group: GroupPubSub, Action: "cache:Inspect", run: elsewhere,
		Usage: "[channel [channel ...]]", Summary: "Counts the listeners of channels", Complexity: "O(N) in the channels asked for", Since: "2.8.0"},
	{Name: "PUBSUB|NUMPAT", Arity: 2, Flags: Session | Connection, Group: GroupPubSub, Action: "cache:Inspect", run: elsewhere,
		Usage: "", Summary: "Counts the patterns", Complexity: "O(1)", Since: "2.8.0"},
	{Name: "PUBSUB|SHARDCHANNELS", Arity: -2, Flags: Session | Connection, Group: GroupPubSub, Action: "cache:Inspect", run: elsewhere,
		Usage: "[pattern]", Summary: "Lists the shard channels that somebody listens to", Complexity: "O(N) in the channels", Since: "7.0.0"},
	{Name: "PUBSUB|SHARDNUMSUB", Arity: -2, Flags: Session | Connection, Group: GroupPubSub, Action: "cache:Inspect", run: elsewhere,
		Usage: "[shardchannel [shardchannel ...]]", Summary: "Counts the listeners of shard channels", Complexity: "O(N) in the channels asked for", Since: "7.0.0"},
	{Name: "PUBSUB|HELP", Arity: 2, Flags: Session | Connection, Group: GroupPubSub, Action: "cache:Connect", run: elsewhere,
		Usage: "", Summary: "Prints help", Complexity: "O(1)", Since: "6.2.0"},
	{Name: "MONITOR", Arity: 1, Also: monitorRights, Flags: Session | Dangerous | Connection, Group: GroupServer, Action: "cache:Inspect", run: elsewhere,
		Usage: "", Summary: "Shows every command on the cache as it is carried out", Complexity: "O(N) for N monitors, for each command", Since: "1.0.0"},
	{Name: "READONLY", Arity: 1, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "", Summary: "Lets replicas answer reads", Complexity: "O(1)", Since: "3.0.0"},
	{Name: "READWRITE", Arity: 1, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "", Summary: "Has reads answered by the leader", Complexity: "O(1)", Since: "3.0.0"},
	{Name: "ASKING", Arity: 1, Flags: Session | Fast | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "", Summary: "Does nothing: a cache has one endpoint", Complexity: "O(1)", Since: "3.0.0"},
	{Name: "INFO", Arity: -1, Flags: Session | Dangerous | Connection, Group: GroupServer, Action: "cache:Inspect", run: elsewhere,
		Usage: "[section [section ...]]", Summary: "Describes the cache", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "WAIT", Arity: 3, Flags: Session | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "numreplicas timeout", Summary: "Tells how many replicas hold what this connection has written", Complexity: "O(1)", Since: "3.0.0"},
	{Name: "WAITAOF", Arity: 4, Flags: Session | Connection, Group: GroupServer, Action: "cache:Connect", run: elsewhere,
		Usage: "numlocal numreplicas timeout", Summary: "Tells how many hold what this connection has written on disk", Complexity: "O(1)", Since: "7.2.0"},
}

// elsewhere refuses a command that needs a connection where there is none.
func elsewhere(c *call) error {
	return fault.New(fault.NotSupported, c.cmd.Name, "%s belongs to a connection of the Redis protocol, and cannot be used here", c.cmd.Name)
}

// selectDB chooses the database for the calls that follow in the task.
func selectDB(c *call) error {
	db, ok := parseInt(c.args[1])
	if !ok {
		return errNotInteger
	}
	if db < 0 || db >= Databases {
		return fault.About(fault.OutOfRange, c.cmd.Name, "index", "DB index is out of range")
	}
	c.db = int(db)
	c.out.Status("OK")
	return nil
}

func publishRights(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "topic:Publish", On: OnTopic, Name: args[1]})
}

func subscribeRights(dst []Right, args [][]byte) []Right {
	for _, name := range args[1:] {
		dst = append(dst, Right{Action: "topic:Subscribe", On: OnTopic, Name: name})
	}
	return dst
}

// monitorRights: it shows keys and values.
func monitorRights(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:Scan", On: OnCache}, Right{Action: "cache:Get", On: OnKeys})
}

func publish(c *call, sharded bool) error {
	n := 0
	if o := c.p.observer; o != nil {
		n = o.Published(c.cache.id, sharded, c.args[1], c.args[2])
	}
	c.out.Int(int64(n))
	return nil
}

// ParseDB reads the number of a database as SELECT takes it, -1 when there is none of that number.
func ParseDB(arg []byte) int {
	if n, ok := parseInt(arg); ok && 0 <= n && n < Databases {
		return int(n)
	}
	return -1
}
