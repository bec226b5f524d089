package engine

import "strings"

// Commands that speak of the server, of its clients and of the cache as a whole. They are carried out where the connection
// is, and speak of one cache alone. What a row needs to say fits in one line here; row spells it out.
var sessionServerCommands = func() (rows []Command) {
	row := func(names string, arity int, flags Flags, action, usage, summary, since string) {
		for name := range strings.FieldsSeq(names) {
			rows = append(rows, Command{Name: name, Arity: arity, Flags: flags | Session | Connection, Group: GroupServer, Action: action, run: elsewhere,
				Usage: usage, Summary: summary, Complexity: "O(1)", Since: since})
		}
	}
	const (
		look   = "cache:Inspect"
		ask    = "cache:Connect"
		manage = "cache:UpdateCache"
		danger = Dangerous
	)

	row("CLIENT", -2, 0, ask, "", "Speaks of the clients of the cache", "2.4.0")
	row("CLIENT|ID", 2, 0, ask, "", "Tells the number of this connection", "5.0.0")
	row("CLIENT|INFO", 2, 0, ask, "", "Describes this connection", "6.2.0")
	row("CLIENT|LIST", -2, danger, look, "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]", "Describes the connections to the cache", "2.4.0")
	row("CLIENT|SETNAME", 3, 0, ask, "connection-name", "Names this connection", "2.6.9")
	row("CLIENT|GETNAME", 2, 0, ask, "", "Tells the name of this connection", "2.6.9")
	row("CLIENT|SETINFO", 4, 0, ask, "<LIB-NAME libname | LIB-VER libver>", "Says which library speaks here", "7.2.0")
	row("CLIENT|NO-EVICT", 3, danger, ask, "<ON | OFF>", "Notes that this connection is to be spared", "7.0.0")
	row("CLIENT|NO-TOUCH", 3, 0, ask, "<ON | OFF>", "Says whether this connection's reads count as use of their keys", "7.2.0")
	row("CLIENT|KILL", -3, danger, manage, "<ip:port | <[ID client-id] | [TYPE <NORMAL | MASTER | SLAVE | REPLICA | PUBSUB>] | [USER username] | [ADDR ip:port] | [LADDR ip:port] | [SKIPME <YES | NO>] | [MAXAGE maxage]> ...>", "Ends connections to the cache", "2.4.0")
	row("CLIENT|PAUSE", -3, danger, manage, "timeout [WRITE | ALL]", "Holds the commands on the cache for a time", "3.0.0")
	row("CLIENT|UNPAUSE", 2, danger, manage, "", "Ends what CLIENT PAUSE began", "6.2.0")
	row("CLIENT|REPLY", 3, 0, ask, "<ON | OFF | SKIP>", "Says which replies this connection wants", "3.2.0")
	row("CLIENT|TRACKING", -3, 0, look, "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]", "Has this connection told when keys change that it has read", "6.0.0")
	row("CLIENT|TRACKINGINFO", 2, 0, ask, "", "Tells what this connection tracks", "6.2.0")
	row("CLIENT|GETREDIR", 2, 0, ask, "", "Tells which connection hears of this one's keys", "6.0.0")
	row("CLIENT|CACHING", 3, 0, ask, "<YES | NO>", "Says whether the keys of the next command are tracked", "6.0.0")
	row("CLIENT|UNBLOCK", -3, danger, look, "client-id [TIMEOUT | ERROR]", "Ends the wait of a blocked connection", "5.0.0")
	row("CLIENT|CONSISTENCY", -2, 0, ask, "[LINEARIZABLE | LEADER | EVENTUAL | DEFAULT]", "Says how current this connection's reads have to be, or tells it, and what the last one was", "1.0.0")
	row("CLIENT|HELP", 2, 0, ask, "", "Prints help", "5.0.0")

	row("COMMAND", -1, 0, ask, "", "Describes all commands", "2.8.13")
	row("COMMAND|COUNT", 2, 0, ask, "", "Counts the commands", "2.8.13")
	row("COMMAND|LIST", -2, 0, ask, "[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]", "Lists the names of commands", "7.0.0")
	row("COMMAND|INFO", -2, 0, ask, "[command-name [command-name ...]]", "Describes commands", "2.8.13")
	row("COMMAND|DOCS", -2, 0, ask, "[command-name [command-name ...]]", "Documents commands", "7.0.0")
	row("COMMAND|GETKEYS", -3, 0, ask, "command [arg [arg ...]]", "Finds the keys of a command", "2.8.13")
	row("COMMAND|GETKEYSANDFLAGS", -3, 0, ask, "command [arg [arg ...]]", "Finds the keys of a command and what it does to them", "7.0.0")
	row("COMMAND|HELP", 2, 0, ask, "", "Prints help", "5.0.0")

	row("CONFIG", -2, 0, ask, "", "Speaks of the cache's settings", "2.0.0")
	row("CONFIG|GET", -3, danger, look, "parameter [parameter ...]", "Tells the cache's settings", "2.0.0")
	row("CONFIG|SET", -4, danger, manage, "parameter value [parameter value ...]", "Changes the cache's settings", "2.0.0")
	row("CONFIG|RESETSTAT", 2, danger, manage, "", "Sets the numbers of INFO back to zero", "2.0.0")
	row("CONFIG|REWRITE", 2, danger, manage, "", "Says that the settings are kept: they always are", "2.8.0")
	row("CONFIG|HELP", 2, 0, ask, "", "Prints help", "5.0.0")

	row("SLOWLOG", -2, 0, ask, "", "Speaks of slow commands", "2.2.12")
	row("SLOWLOG|GET", -2, danger, look, "[count]", "Lists the newest slow commands", "2.2.12")
	row("SLOWLOG|LEN", 2, danger, look, "", "Counts the slow commands that are remembered", "2.2.12")
	row("SLOWLOG|RESET", 2, danger, manage, "", "Forgets the slow commands", "2.2.12")
	row("SLOWLOG|HELP", 2, 0, ask, "", "Prints help", "6.2.0")

	row("COMMANDLOG", -2, 0, ask, "", "Speaks of slow and large commands", "8.1.0")
	row("COMMANDLOG|GET", 4, danger, look, "count <slow | large-request | large-reply>", "Lists the newest slow commands; large ones are not remembered", "8.1.0")
	row("COMMANDLOG|LEN", 3, danger, look, "<slow | large-request | large-reply>", "Counts the commands that are remembered", "8.1.0")
	row("COMMANDLOG|RESET", 3, danger, manage, "<slow | large-request | large-reply>", "Forgets the commands that are remembered", "8.1.0")
	row("COMMANDLOG|HELP", 2, 0, ask, "", "Prints help", "8.1.0")

	row("LATENCY", -2, 0, ask, "", "Speaks of how long commands take", "2.8.13")
	row("LATENCY|HISTORY", 3, danger, look, "event", "Lists latency spikes of an event", "2.8.13")
	row("LATENCY|LATEST", 2, danger, look, "", "Lists the latest latency spikes", "2.8.13")
	row("LATENCY|RESET", -2, danger, manage, "[event [event ...]]", "Forgets latency spikes", "2.8.13")
	row("LATENCY|DOCTOR", 2, danger, look, "", "Comments on latency", "2.8.13")
	row("LATENCY|GRAPH", 3, danger, look, "event", "Draws latency spikes of an event", "2.8.13")
	row("LATENCY|HISTOGRAM", -2, danger, look, "[command [command ...]]", "Tells how long commands took", "7.0.0")
	row("LATENCY|HELP", 2, 0, ask, "", "Prints help", "2.8.13")

	row("CLUSTER", -2, 0, ask, "", "Presents the cache as a cluster of one shard", "3.0.0")
	row("CLUSTER|SLOTS CLUSTER|SHARDS CLUSTER|NODES", 2, 0, ask, "", "Names the one endpoint for all slots", "3.0.0")
	row("CLUSTER|INFO", 2, 0, ask, "", "Tells the state of the cluster", "3.0.0")
	row("CLUSTER|MYID CLUSTER|MYSHARDID", 2, 0, ask, "", "Names this endpoint", "3.0.0")
	row("CLUSTER|LINKS", 2, 0, ask, "", "Lists links to other nodes: none", "7.0.0")
	row("CLUSTER|KEYSLOT", 3, 0, ask, "key", "Computes the slot of a key", "3.0.0")
	row("CLUSTER|COUNTKEYSINSLOT", 3, 0, look, "slot", "Counts the keys in a slot", "3.0.0")
	row("CLUSTER|GETKEYSINSLOT", 4, 0, "cache:Scan", "slot count", "Lists keys in a slot", "3.0.0")
	row("CLUSTER|HELP", 2, 0, ask, "", "Prints help", "5.0.0")
	for names, arity := range map[string]int{
		"CLUSTER|BUMPEPOCH CLUSTER|FLUSHSLOTS CLUSTER|SAVECONFIG": 2, "CLUSTER|FORGET CLUSTER|REPLICATE CLUSTER|SET-CONFIG-EPOCH": 3, "CLUSTER|FAILOVER CLUSTER|RESET": -2,
		"CLUSTER|ADDSLOTS CLUSTER|DELSLOTS": -3, "CLUSTER|ADDSLOTSRANGE CLUSTER|DELSLOTSRANGE CLUSTER|MEET CLUSTER|SETSLOT": -4,
	} {
		row(names, arity, danger, ask, "", "Is not offered: where data lives is the service's business", "3.0.0")
	}

	row("ROLE", 1, Fast|danger, ask, "", "Tells that this endpoint takes writes", "2.8.12")
	row("LASTSAVE", 1, Fast|danger, look, "", "Tells since when the cache has been served", "1.0.0")
	row("SAVE BGREWRITEAOF", 1, danger, manage, "", "Is not offered: snapshots are made by the service", "1.0.0")
	row("BGSAVE", -1, danger, manage, "[SCHEDULE]", "Is not offered: snapshots are made by the service", "1.0.0")
	row("DEBUG MODULE", -2, danger, ask, "", "Is not offered by a managed cache", "1.0.0")
	row("SHUTDOWN FAILOVER", -1, danger, ask, "", "Is not offered by a managed cache", "1.0.0")
	row("REPLICAOF SLAVEOF", 3, danger, ask, "host port", "Is not offered by a managed cache", "1.0.0")
	row("PSYNC", -3, danger, "snapshot:Export", "replicationid offset", "Makes the connection that of a replica of Redis: it gets all of the cache, and then whatever changes", "2.8.0")
	row("SYNC", 1, danger, ask, "", "Is not offered by a managed cache", "1.0.0")
	row("REPLCONF", -1, danger, ask, "[option value [option value ...]]", "Says what a replica of Redis is able to do, and how far it has come", "3.0.0")
	row("MIGRATE", -6, danger, ask, `host port <key | ""> destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2 username password] [KEYS key [key ...]]`, "Is not offered by a managed cache", "2.6.0")

	row("ACL", -2, 0, ask, "", "Speaks of who may do what", "6.0.0")
	row("ACL|WHOAMI", 2, 0, ask, "", "Names the user of this connection", "6.0.0")
	row("ACL|CAT", -2, 0, ask, "[category]", "Lists the categories, or the commands of one", "6.0.0")
	row("ACL|GENPASS", -2, 0, ask, "[bits]", "Makes a random password", "6.0.0")
	row("ACL|LIST ACL|USERS", 2, danger, look, "", "Lists who may use the cache", "6.0.0")
	row("ACL|GETUSER", 3, danger, look, "username", "Tells the rights of a user", "6.0.0")
	row("ACL|DRYRUN", -4, danger, look, "username command [arg [arg ...]]", "Tells whether a user may do a command", "7.0.0")
	row("ACL|LOG", -2, danger, look, "[count | RESET]", "Lists what was refused", "6.0.0")
	row("ACL|SETUSER", -3, danger, ask, "username [rule [rule ...]]", "Gives an API key a role with these rules", "6.0.0")
	row("ACL|DELUSER", -3, danger, ask, "username [username ...]", "Revokes API keys", "6.0.0")
	row("ACL|LOAD ACL|SAVE", 2, danger, ask, "", "Is not offered: a managed cache has no file of users", "6.0.0")
	row("ACL|HELP", 2, 0, ask, "", "Prints help", "6.0.0")
	return rows
}()
