package redisapi

import (
	"maps"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/gateway"
)

// A handler serves a command that concerns the connection, this node or the cache as a whole. The arguments are as many as
// the row allows, and the rights that it names have been given. A handler writes one reply, but for those that subscribe.
type handler func(s *Session, cmd *engine.Command, args [][]byte)

// handlers serve the rows of the command table that are flagged Session, and a few more that a connection answers by itself.
var handlers = map[string]handler{}

func init() {
	maps.Copy(handlers, map[string]handler{
		"AUTH": authenticate, "HELLO": hello, "QUIT": quit, "RESET": reset, "SELECT": selectDB, "PING": ping,
		"MULTI": beginMulti, "EXEC": exec, "DISCARD": discard, "WATCH": watch, "UNWATCH": unwatch,
		"SUBSCRIBE": subscribe(gateway.Channel), "PSUBSCRIBE": subscribe(gateway.Pattern), "SSUBSCRIBE": subscribe(gateway.ShardChannel),
		"UNSUBSCRIBE": unsubscribe(gateway.Channel), "PUNSUBSCRIBE": unsubscribe(gateway.Pattern), "SUNSUBSCRIBE": unsubscribe(gateway.ShardChannel),
		"PUBSUB|CHANNELS": pubsubChannels(gateway.Channel), "PUBSUB|SHARDCHANNELS": pubsubChannels(gateway.ShardChannel),
		"PUBSUB|NUMSUB": pubsubNumsub(gateway.Channel), "PUBSUB|SHARDNUMSUB": pubsubNumsub(gateway.ShardChannel), "PUBSUB|NUMPAT": pubsubNumpat,
		"PUBSUB": noSubcommand,
		"PUBSUB|HELP": help("PUBSUB",
			"CHANNELS [<pattern>]", "Return the currently active channels matching a <pattern> (default: '*').",
			"NUMPAT", "Return number of subscriptions to patterns.",
			"NUMSUB [<channel> ...]", "Return the number of subscribers for the specified channels, excluding pattern subscriptions.",
			"SHARDCHANNELS [<pattern>]", "Return the currently active shard level channels matching a <pattern> (default: '*').",
			"SHARDNUMSUB [<shardchannel> ...]", "Return the number of subscribers for the specified shard level channel(s).",
		),
		"MONITOR":  monitor,
		"READONLY": levelled(engine.Eventual), "READWRITE": levelled(engine.DefaultConsistency), "ASKING": okay,
	})
}

func okay(s *Session, _ *engine.Command, _ [][]byte) { s.out.Status("OK") }

// What the state of a connection lets through.
var (
	beforeLogin    = set("AUTH", "HELLO", "QUIT", "RESET")
	atOnce         = set("MULTI", "EXEC", "DISCARD", "WATCH", "QUIT", "RESET")
	noMulti        = set("AUTH", "HELLO", "MONITOR", "SAVE", "SHUTDOWN", "SYNC", "PSYNC", "REPLCONF")
	whileListening = set("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE", "PING", "QUIT", "RESET")
	pushes         = set("SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE") // they answer with pushes
)

func set(names ...string) map[string]bool {
	m := map[string]bool{}
	for _, n := range names {
		m[n] = true
	}
	return m
}
