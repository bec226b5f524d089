package engine

import (
	"bytes"
	"strings"
)

// Keyspace notifications. What a command changed is known from the keys that it touched (keyspace.touched), and what the
// change is called from the command's name. So a command that is added to the table notifies by itself; it needs a row
// here only where Redis calls what it does by another name.

// A change is a key that the command under way has touched, however often.
type change struct {
	k   *keyspace
	key []byte
}

// heard tells whoever wants to know of a touched key. See keyspace.touched.
func (p *Partition) heard(k *keyspace, key []byte) {
	if all := k.owner.feeds; all != nil {
		all.touched(k, key)
	}
	if p.observer == nil {
		return
	}
	if k.owner.observed {
		p.observer.Touched(k.owner.id, k.db, key)
	}
	if k.owner.settings.Notify == 0 {
		return
	}
	for _, c := range p.changes[max(0, len(p.changes)-sameChange):] {
		if c.k == k && bytes.Equal(c.key, key) {
			return
		}
	}
	p.changes = append(p.changes, change{k, bytes.Clone(key)})
}

// sameChange is how many changes back a key is looked for that a command changes twice. No command comes back to a key after
// so many others but one that names it twice, and that is two events in Redis too.
const sameChange = 8

// eventNames are the events of commands that are not called like the command. Those with none of their own stand with "".
var eventNames = map[string]string{
	"SETNX": "set", "SETEX": "set", "PSETEX": "set", "GETSET": "set", "MSET": "set", "MSETNX": "set", "MSETEX": "set", "DELIFEQ": "del", "DELEX": "del",
	"INCR": "incrby", "DECR": "incrby", "DECRBY": "incrby", "BITOP": "set", "BITFIELD": "setbit", "PFMERGE": "pfadd",
	"GETDEL": "del", "UNLINK": "del",
	"EXPIREAT": "expire", "PEXPIRE": "expire", "PEXPIREAT": "expire",
	"HMSET": "hset", "HSETNX": "hset", "HSETEX": "hset", "HGETDEL": "hdel", "HPEXPIRE": "hexpire", "HEXPIREAT": "hexpire", "HPEXPIREAT": "hexpire",
	"LPUSHX": "lpush", "RPUSHX": "rpush", "BLPOP": "lpop", "BRPOP": "rpop",
	"ZINCRBY": "zincr", "BZPOPMIN": "zpopmin", "BZPOPMAX": "zpopmax", "GEOADD": "zadd", "GEORADIUS": "georadiusstore", "GEORADIUSBYMEMBER": "georadiusstore",
	"SORT": "sortstore", "COPY": "copy_to",
	"KV.SET": "set", "KV.APPEND": "append", "KV.DEL": "del", "KV.DELPREFIX": "del",
	"COUNTER.ADD": "incrby", "COUNTER.SET": "set", "COUNTER.RESET": "set", "COUNTER.DEL": "del",
	"LEADERBOARD.PUT": "zadd", "LEADERBOARD.REMOVE": "zrem", "LEADERBOARD.TRIM": "zremrangebyrank", "LEADERBOARD.DELETE": "del", "LEADERBOARD.EXPIRE": "expire",
	"MC.SET": "set", "MC.FETCH": "set", "MC.INCR": "incrby", "MC.DECR": "incrby", "MC.GAT": "expire", "MC.TOUCH": "expire", "MC.DEL": "del",
	"XREADGROUP": "", "XCLAIM": "", "XAUTOCLAIM": "", "XACK": "", "SWAPDB": "",
}

// eventClasses are the classes of what the commands of a group change. Groups that Redis does not have count as a module's.
var eventClasses = map[Group]EventClass{
	GroupString: EventString, GroupBitmap: EventString, GroupHyperLogLog: EventString, GroupKV: EventString, GroupCounter: EventString,
	GroupHash: EventHash, GroupList: EventList, GroupSet: EventSet, GroupSortedSet: EventSortedSet, GroupGeo: EventSortedSet,
	GroupLeaderboard: EventSortedSet, GroupMemcached: EventString, GroupStream: EventStream, GroupKey: EventGeneric, GroupServer: EventGeneric,
}

// tell sends the notifications of what a call has changed.
func (c *call) tell() {
	p := c.p
	for _, ch := range p.changes {
		c.tellOf(ch.k, ch.key)
	}
	clear(p.changes)
	p.changes = p.changes[:0]
}

func (c *call) tellOf(k *keyspace, key []byte) {
	owner, class := k.owner, EventModule
	if known, ok := eventClasses[c.cmd.Group]; ok {
		class = known
	}
	send := func(class EventClass, event string) {
		if owner.settings.Notify&class != 0 {
			owner.notify(c.p, k.db, event, key)
		}
	}
	left := k.table.Find(c.p.store.Hash(key), key) != 0
	first := len(c.args) > 1 && bytes.Equal(c.args[1], key)
	name, known := eventNames[c.cmd.Name]
	if !known {
		name = strings.ToLower(c.cmd.Name)
	}
	gone := !left && name != "del" // whether a "del" has to follow
	switch c.cmd.Name {
	case "LARDER.EVICT":
		send(EventEvicted, "evicted")
		return
	case "LARDER.SWEEP":
		if left {
			send(EventHash, "hexpired")
		} else {
			send(EventExpired, "expired")
		}
		return
	case "DEL", "UNLINK", "GETDEL", "DELIFEQ", "DELEX", "KV.DEL", "KV.DELPREFIX", "COUNTER.DEL", "LEADERBOARD.DELETE":
		class = EventGeneric
	case "MC.DEL":
		if class = EventGeneric; left {
			class, name = EventString, "set" // it is only stale
		}
	case "LEADERBOARD.EXPIRE", "MC.GAT", "MC.TOUCH":
		class = EventGeneric
	case "EXPIRE", "EXPIREAT", "PEXPIRE", "PEXPIREAT":
		if !left {
			name = "del"
		}
		gone = false
	case "GETEX":
		class, name, gone = EventGeneric, "expire", false
		if !left {
			name = "del"
		} else if len(c.args) > 2 && is(c.args[2], "PERSIST") {
			name = "persist"
		}
	case "RENAME", "RENAMENX":
		name = "rename_to"
		if first {
			name = "rename_from"
		}
		gone = false
	case "MOVE":
		name = "move_to"
		if !left {
			name = "move_from"
		}
		gone = false
	case "ZADD":
		if o, _ := parseZaddOptions(c.args); o.incr {
			name = "zincr"
		}
	case "SMOVE":
		name = "sadd"
		if first {
			name = "srem"
		}
	case "LMPOP", "BLMPOP":
		name = "lpop"
		if c.names("RIGHT") {
			name = "rpop"
		}
	case "ZMPOP", "BZMPOP":
		name = "zpopmin"
		if c.names("MAX") {
			name = "zpopmax"
		}
	case "LMOVE", "BLMOVE", "LMOVEM", "BLMOVEM", "RPOPLPUSH", "BRPOPLPUSH":
		return // see tellMove
	case "XGROUP":
		name = "xgroup-" + strings.ToLower(string(c.args[1]))
	case "SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE", "ZUNIONSTORE", "ZINTERSTORE", "ZDIFFSTORE", "ZRANGESTORE", "GEOSEARCHSTORE", "GEORADIUS", "GEORADIUSBYMEMBER", "SORT", "BITOP":
		if !left {
			name, class, gone = "del", EventGeneric, false
		} else if c.cmd.Name == "SORT" {
			class = EventList
		}
	case "SET", "SETEX", "PSETEX", "HSETEX", "MSETEX":
		if gone = false; !left {
			name, class = "del", EventGeneric
		}
	}
	if name != "" {
		send(class, name)
	}
	switch c.cmd.Name {
	case "XADD":
		if c.trimmed {
			send(class, "xtrim")
		}
		c.trimmed = false
	case "SET", "SETEX", "PSETEX", "MSETEX":
		if left && (c.cmd.Name != "SET" || c.expires()) {
			send(EventGeneric, "expire")
		}
	case "KV.SET", "MC.SET":
		if it := c.peek(key); it != nil && it.expireAt != 0 {
			send(EventGeneric, "expire")
		}
	}
	if gone {
		send(EventGeneric, "del")
	}
}

// names reports whether an argument is a word, and the last of those that are keys stand before it.
func (c *call) names(word string) bool {
	for _, a := range c.args[2:] {
		if is(a, word) {
			return true
		}
	}
	return false
}

// tellMove notifies of an element that was moved, or put back where it was.
func (c *call) tellMove(from, to end) {
	push, pop := "lpush", "lpop"
	if to == tail {
		push = "rpush"
	}
	if from == tail {
		pop = "rpop"
	}
	c.notify(EventList, push, c.args[2])
	c.notify(EventList, pop, c.args[1])
	if c.peek(c.args[1]) == nil {
		c.notify(EventGeneric, "del", c.args[1])
	}
}

// expires reports whether a SET was told to give a deadline.
func (c *call) expires() bool {
	for _, a := range c.args[min(3, len(c.args)):] {
		if is(a, "EX") || is(a, "PX") || is(a, "EXAT") || is(a, "PXAT") {
			return true
		}
	}
	return false
}
