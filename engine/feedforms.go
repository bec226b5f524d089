package engine

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/engine/rdb"
)

// What replicas are told of a command.
//
// Where nothing else is said, of each key that it has touched what is there now: as SET, as RESTORE, or as DEL where nothing is, or
// nothing that Redis has a type for. That is right for every command, and costs as much as the value is long. So what changes a
// part of a value that may be large has a form of its own here, and whoever adds such a command adds a row.

// A feedForm says what the call under way did; false, with nothing said, when only its keys can tell.
type feedForm func(all *feeds, c *call) bool

// feedForms are those of commands that have touched a key.
var feedForms = map[string]feedForm{
	"BLPOP": popped("LPOP"), "BRPOP": popped("RPOP"), "BZPOPMIN": popped("ZPOPMIN"), "BZPOPMAX": popped("ZPOPMAX"),
	"BLMOVE": renamed("LMOVE", 1, 5), "BRPOPLPUSH": renamed("RPOPLPUSH", 1, 3), "BLMPOP": renamed("LMPOP", 2, 0), "BZMPOP": renamed("ZMPOP", 2, 0),
	"SPOP": drawn,

	"EXPIRE": deadlines, "PEXPIRE": deadlines, "EXPIREAT": deadlines, "PEXPIREAT": deadlines, "GETEX": deadlines,
	"LEADERBOARD.EXPIRE": deadlines, "MC.TOUCH": deadlines,

	"HSETNX": fieldsAt(2, 1, 3), "HINCRBY": fieldsAt(2, 1, 3), "HINCRBYFLOAT": fieldsAt(2, 1, 3),
	"HSETEX": countedFields(2), "HGETEX": countedFields(1), "HGETDEL": countedFields(1),
	"HEXPIRE": countedFields(1), "HPEXPIRE": countedFields(1), "HEXPIREAT": countedFields(1), "HPEXPIREAT": countedFields(1), "HPERSIST": countedFields(1),

	"LEADERBOARD.PUT": standings, "LEADERBOARD.REMOVE": renamed("ZREM", 1, 0),

	"XADD": added, "XTRIM": trimmed, "XREADGROUP": delivered, "XCLAIM": claims, "XAUTOCLAIM": claims,
}

// feedWhole are those of commands that may change something which is not under a key.
var feedWhole = map[string]func(all *feeds, c *call){
	"SWAPDB": func(all *feeds, c *call) {
		if all.c.settings.Split {
			all.lose(errFeedSplit)
			return
		}
		all.say(c.db, c.args...)
	},
	"FUNCTION": func(all *feeds, c *call) {
		if !is(c.args[1], "LOAD") && !is(c.args[1], "DELETE") && !is(c.args[1], "FLUSH") && !is(c.args[1], "RESTORE") {
			return
		}
		all.say(c.db, []byte("FUNCTION"), []byte("FLUSH")) // every partition of the cache says so, and any order has to do
		if l := all.c.libraries; l != nil {
			for _, lib := range l.list {
				all.say(c.db, []byte("FUNCTION"), []byte("LOAD"), []byte("REPLACE"), []byte(lib.code))
			}
		}
	},
	"LARDER.SWEEP": func(all *feeds, _ *call) {
		for _, ch := range all.changes { // of what is left of a large hash, fieldExpired has told
			if it := all.at(ch.k, ch.key); it == nil || it.kind != kindObject {
				all.state(ch.k, ch.key)
			}
		}
	},
	"LARDER.MOVE":    func(all *feeds, _ *call) { all.lose(errFeedMoved) },
	"LARDER.RESTORE": func(all *feeds, _ *call) { all.lose(errFeedMoved) },
}

// feedReplies are the commands whose effect shows in their answers alone.
var feedReplies = map[string]bool{"SPOP": true, "XADD": true}

// Commands that do the same wherever they meet the same data.
func init() {
	for _, name := range strings.Fields(`APPEND SETRANGE SETBIT BITFIELD BITOP INCR INCRBY DECR DECRBY
		LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LSET LINSERT LREM LTRIM LMOVE RPOPLPUSH LMPOP
		SADD SREM SMOVE SINTERSTORE SUNIONSTORE SDIFFSTORE HSET HMSET HDEL
		ZADD ZREM ZINCRBY ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREMRANGEBYLEX ZPOPMIN ZPOPMAX ZMPOP ZUNIONSTORE ZINTERSTORE ZDIFFSTORE ZRANGESTORE GEOADD
		DEL UNLINK RENAME RENAMENX MOVE COPY PERSIST XDEL XSETID XGROUP XACK`) {
		feedForms[name] = func(all *feeds, c *call) bool { return all.pass(c, c.args...) }
	}
	for name := range feedForms {
		MustLookup(name) // a command that is called otherwise would be forgotten here
	}
	for name := range feedWhole {
		MustLookup(name)
	}
}

// pass says a command as it is, unless it has to do with a value that replicas do not have.
func (all *feeds) pass(c *call, args ...[]byte) bool {
	for _, ch := range all.changes {
		if all.foreign(ch.k, ch.key) {
			return false
		}
	}
	all.say(c.db, args...)
	if c.cache.settings.DefaultTTL > 0 { // which a new key has got
		for _, ch := range all.changes {
			if it := all.at(ch.k, ch.key); it != nil && it.expireAt != 0 {
				all.deadline(ch.k, it)
			}
		}
	}
	return true
}

// readsForeign reports whether a call that has several keys has to do with a value that replicas do not have. It may be gone once the
// call has been carried out.
func (all *feeds) readsForeign(c *call) bool {
	if c.cmd.Keys == oneKey || feedForms[c.cmd.Name] == nil || c.cmd.CheckArity(len(c.args)) != nil {
		return false
	}
	k := c.keys()
	for _, key := range c.cmd.AppendKeys(nil, c.args) {
		if all.foreign(k, key) {
			return true
		}
	}
	return false
}

// at returns a view of what is under a key, nil for nothing. It is none of the call's.
func (all *feeds) at(k *keyspace, key []byte) *item {
	hash := all.p.store.Hash(key)
	ref := k.table.Find(hash, key)
	if ref == 0 {
		return nil
	}
	it := &item{home: k, hash: hash, ref: ref}
	it.load()
	return it
}

// foreign reports whether a key has a value that Redis has no type for.
func (all *feeds) foreign(k *keyspace, key []byte) bool {
	ref := k.table.Find(all.p.store.Hash(key), key)
	if ref == 0 {
		return false
	}
	switch all.p.store.Kind(ref) {
	case kindSession, kindSketch, kindJSON:
		return true
	case kindRanks, kindObject:
		switch v := all.at(k, key).value.(type) {
		case *listValue, *setValue, *hashValue, *streamValue:
		case *sortedSet:
			return v.board.configured
		default:
			return true
		}
	}
	return false
}

// state says what is under a key.
func (all *feeds) state(k *keyspace, key []byte) {
	it := all.at(k, key)
	if it == nil {
		all.say(k.db, feedDel, key)
		return
	}
	at := strconv.AppendInt(nil, it.expireAt, 10)
	if s, ok := it.value.(*stringValue); ok {
		if it.expireAt != 0 {
			all.say(k.db, []byte("SET"), key, s.data, []byte("PXAT"), at)
		} else {
			all.say(k.db, []byte("SET"), key, s.data)
		}
		return
	}
	d := dumper{now: all.p.running.now, plain: true}
	if !d.value(it.value) {
		all.say(k.db, feedDel, key)
		return
	}
	all.say(k.db, []byte("RESTORE"), key, at, rdb.AppendTrailer(d.b), []byte("REPLACE"), []byte("ABSTTL"))
}

// deadline says which one a key has.
func (all *feeds) deadline(k *keyspace, it *item) {
	if it.expireAt == 0 {
		all.say(k.db, []byte("PERSIST"), it.key)
	} else {
		all.say(k.db, []byte("PEXPIREAT"), it.key, strconv.AppendInt(nil, it.expireAt, 10))
	}
}

// deadlines is the form of what changes nothing but deadlines.
func deadlines(all *feeds, _ *call) bool {
	for _, ch := range all.changes {
		if it := all.at(ch.k, ch.key); it == nil || all.foreign(ch.k, ch.key) {
			all.say(ch.k.db, feedDel, ch.key)
		} else {
			all.deadline(ch.k, it)
		}
	}
	return true
}

// popped is the form of a command that takes something from the first of several keys.
func popped(name string) feedForm {
	return func(all *feeds, c *call) bool {
		return all.pass(c, []byte(name), all.changes[len(all.changes)-1].key) // keys before it had only expired
	}
}

// renamed is the form of one that has another name there, and of its arguments those from one on up to another, 0 for the last.
func renamed(name string, from, to int) feedForm {
	return func(all *feeds, c *call) bool {
		args := c.args[from:]
		if to > 0 {
			args = c.args[from:to]
		}
		return all.pass(c, append([][]byte{[]byte(name)}, args...)...)
	}
}

// drawn is the form of SPOP: the members that came out are in the answer.
func drawn(all *feeds, c *call) bool {
	if all.at(c.keys(), c.args[1]) == nil {
		return false
	}
	args := [][]byte{[]byte("SREM"), c.args[1]}
	cursor := all.reply.Cursor()
	for t := cursor.Next(); t.Kind != ReplyEnd; t = cursor.Next() {
		switch t.Kind {
		case ReplyBulk, ReplyDecimal:
			args = append(args, t.Bytes)
		case ReplyInt:
			args = append(args, strconv.AppendInt(nil, t.Int, 10))
		}
	}
	return len(args) > 2 && all.pass(c, args...)
}

// fieldsAt is the form of a command that names fields of a hash: from an argument on, one in so many, before another.
func fieldsAt(from, step, to int) feedForm {
	return func(all *feeds, c *call) bool {
		var fields [][]byte
		for i := from; i < min(to, len(c.args)); i += step {
			fields = append(fields, c.args[i])
		}
		return all.fields(c, fields)
	}
}

// countedFields is that of one with the word FIELDS, behind it their number, and the fields, one in so many arguments.
func countedFields(step int) feedForm {
	return func(all *feeds, c *call) bool {
		for i := 2; i+1 < len(c.args); i++ {
			if n, ok := parseInt(c.args[i+1]); is(c.args[i], "FIELDS") && ok {
				return fieldsAt(i+2, step, i+2+int(min(n, math.MaxInt32))*step)(all, c)
			}
		}
		return false
	}
}

// fields says what is in some fields of the call's hash.
func (all *feeds) fields(c *call, fields [][]byte) bool {
	k, key := c.keys(), c.args[1]
	it := all.at(k, key)
	if it == nil || it.kind != kindObject { // a small one is said as a whole
		return false
	}
	h := it.value.(*hashValue)
	for _, field := range fields {
		if f, ok := h.get(c.now, field); ok {
			all.say(k.db, []byte("HSET"), key, field, f.value.append(nil))
		} else {
			all.say(k.db, feedHdel, key, field)
		}
	}
	if c.cache.settings.DefaultTTL > 0 {
		all.deadline(k, it)
	}
	return true
}

// standings is the form of LEADERBOARD.PUT: its members have these scores now.
func standings(all *feeds, c *call) bool {
	k, key := c.keys(), c.args[1]
	it := all.at(k, key)
	if it == nil || all.foreign(k, key) {
		return false
	}
	z, from := it.value.(*sortedSet), 3
	if is(c.args[3], "PX") {
		from = 5
	}
	for i := from; i+1 < len(c.args); i += 2 {
		if s, ok := z.find(c.args[i+1]); ok {
			all.say(k.db, []byte("ZADD"), key, appendFloat(nil, s.score), c.args[i+1])
		}
	}
	all.deadline(k, it)
	return true
}

// added is the form of XADD: with the id that the entry has got, and a length in the place of how it trims.
func added(all *feeds, c *call) bool {
	o, err := parseXadd(c.cmd.Name, c.args)
	cursor := all.reply.Cursor()
	id := cursor.Next()
	if err != nil || id.Kind != ReplyBulk || o.references != keepReferences {
		return false
	}
	if !all.pass(c, append([][]byte{[]byte("XADD"), c.args[1], bytes.Clone(id.Bytes)}, o.fields...)...) {
		return false
	}
	if o.byLength || o.byID {
		return trimmed(all, c)
	}
	return true
}

// trimmed is the form of XTRIM.
func trimmed(all *feeds, c *call) bool {
	it := all.at(c.keys(), c.args[1])
	for _, a := range c.args[2:] {
		if is(a, "DELREF") || is(a, "ACKED") {
			return false
		}
	}
	if it == nil {
		return false
	}
	return all.pass(c, []byte("XTRIM"), c.args[1], []byte("MAXLEN"), []byte("="), strconv.AppendInt(nil, int64(it.value.(*streamValue).n), 10))
}

// delivered is the form of XREADGROUP, which does not wait there. When something was delivered is the replica's own time.
func delivered(all *feeds, c *call) bool {
	args := make([][]byte, 0, len(c.args))
	var group, consumer []byte
	for i := 0; i < len(c.args); i++ {
		switch a := c.args[i]; {
		case is(a, "BLOCK"):
			i++
		case is(a, "CLAIM"):
			return false
		case is(a, "STREAMS"):
			for _, key := range c.cmd.AppendKeys(nil, c.args) { // older servers make a consumer only when it gets something
				all.say(c.db, []byte("XGROUP"), []byte("CREATECONSUMER"), key, group, consumer)
			}
			return all.pass(c, append(args, c.args[i:]...)...)
		case is(a, "GROUP"):
			group, consumer = c.args[i+1], c.args[i+2]
			args = append(args, c.args[i:i+3]...)
			i += 2
		default:
			args = append(args, a)
		}
	}
	return false
}

// claims is the form of XCLAIM and XAUTOCLAIM, of which claimed and settled have told what they did: what is left is the consumer, and how
// far the group has come.
func claims(all *feeds, c *call) bool {
	it := all.at(c.keys(), c.args[1])
	if it == nil {
		return false
	}
	g := it.value.(*streamValue).group(c.args[2])
	if g == nil {
		return false
	}
	all.say(c.db, []byte("XGROUP"), []byte("CREATECONSUMER"), c.args[1], c.args[2], c.args[3])
	if c.cmd.Name == "XCLAIM" {
		all.say(c.db, []byte("XGROUP"), []byte("SETID"), c.args[1], c.args[2], g.last.append(nil), []byte("ENTRIESREAD"), strconv.AppendInt(nil, g.read, 10))
	}
	return true
}

// claimed is told of an entry that a consumer was given by XCLAIM or XAUTOCLAIM.
func (all *feeds) claimed(c *call, d delivery) {
	all.say(c.db, []byte("XCLAIM"), c.args[1], c.args[2], c.args[3], []byte("0"), d.id.append(nil), []byte("TIME"), strconv.AppendInt(nil, d.at, 10),
		[]byte("RETRYCOUNT"), strconv.AppendInt(nil, d.times, 10), []byte("FORCE"), []byte("JUSTID"))
}

// settled is told of one that was pending in their group and is deleted.
func (all *feeds) settled(c *call, id streamID) {
	all.say(c.db, []byte("XACK"), c.args[1], c.args[2], id.append(nil))
}
