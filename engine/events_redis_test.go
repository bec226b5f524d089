package engine

import (
	"fmt"
	"strings"
	"testing"

	"github.com/larder-cache/larder/engine/tenure"
)

// eventLog is an Observer that writes down notifications.
type eventLog struct{ events []string }

func (l *eventLog) Touched(CacheID, int, []byte)                {}
func (l *eventLog) Flushed(CacheID, int)                        {}
func (l *eventLog) Withdrawn(CacheID, tenure.Span)              {}
func (l *eventLog) Published(CacheID, bool, []byte, []byte) int { return 0 }
func (l *eventLog) Notified(_ CacheID, _ int, _ EventClass, event string, key []byte) {
	l.events = append(l.events, event+" "+string(key))
}

// What a command notifies of is what a Redis notifies of, in the same order.
func TestEventsAreThoseOfRedis(t *testing.T) {
	r := newRedisTwin(t)
	sub := dialRedis(t, r.conn.RemoteAddr().String())
	line := func() string {
		s, err := sub.rd.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSuffix(s, "\r\n")
	}
	// message reads one push of bulk strings, an integer counting as its text.
	message := func() (m []string) {
		var n int
		fmt.Sscanf(line(), "*%d", &n)
		for range n {
			if s := line(); s[0] == ':' {
				m = append(m, s[1:])
			} else {
				m = append(m, line())
			}
		}
		return m
	}
	sub.send("PSUBSCRIBE", "__keyevent@*")
	message()
	r.answers("FLUSHALL")
	r.theirs("CONFIG", "SET", "notify-keyspace-events", "EAn")
	class, err := ParseEventClass("EAn")
	if err != nil {
		t.Fatal(err)
	}
	log := &eventLog{}
	r.w.p.SetObserver(log)
	r.w.apply(ConfigureTask(testCache, Settings{Notify: class}))

	// Later Redises and Valkey tell of new keys first; 7.0 tells after the command's own event. So they are compared as a set.
	for _, command := range strings.Split(strings.TrimSpace(eventCommands), "\n") {
		log.events = nil
		r.answers(strings.Fields(command)...)
		var theirs []string
		sub.send("PING")
		for {
			m := message()
			if m[0] == "pong" {
				break
			}
			_, name, _ := strings.Cut(m[2], ":")
			theirs = append(theirs, name+" "+m[3])
		}
		if ours, theirs := strings.Join(sortNew(log.events), ", "), strings.Join(sortNew(theirs), ", "); ours != theirs {
			t.Errorf("%s\n got %s\nwant %s", command, ours, theirs)
		}
	}
}

// sortNew moves the events of new keys to the front.
func sortNew(events []string) (sorted []string) {
	for _, want := range []bool{true, false} {
		for _, e := range events {
			if strings.HasPrefix(e, "new ") == want {
				sorted = append(sorted, e)
			}
		}
	}
	return sorted
}

const eventCommands = `
SET a 1
SET a 2 EX 100
SET a 2 KEEPTTL
SET b 1 NX
SET b 1 NX
SETEX c 10 v
PSETEX c 10000 v
SETNX c v
SETNX d v
GETSET d w
MSET e 1 f 2
MSETNX e 1 g 2
MSETNX g 1 h 2
APPEND a x
SETRANGE a 0 y
INCR n
DECR n
INCRBY n 5
DECRBY n 2
INCRBYFLOAT n 1.5
GETDEL h
GETDEL h
GETEX a EX 100
GETEX a PERSIST
GETEX a
GETEX g PXAT 1
SETBIT bits 3 1
BITOP NOT bits2 bits
BITOP AND bits2 none none2
BITFIELD bits SET u8 0 5
BITFIELD bits GET u8 0
PFADD p a b
PFADD p a
PFMERGE p2 p
EXPIRE a 100
EXPIRE none 100
EXPIRE a 200 LT
PEXPIREAT b 1
PERSIST a
PERSIST a
RENAME a a2
RENAMENX a2 c
RENAMENX a2 a3
COPY a3 a4
COPY a3 a4
DEL a3 a4 none
UNLINK c
LPUSH l 1 2 3
RPUSH l 4 5 6
LPUSHX l 0
LPUSHX none 0
RPUSHX l 7
LPOP l
RPOP l 2
LSET l 0 x
LINSERT l BEFORE x y
LINSERT l BEFORE none y
LREM l 0 y
LREM l 0 none
LTRIM l 0 2
LMOVE l l2 LEFT RIGHT
RPOPLPUSH l l2
RPOPLPUSH l l2
RPOPLPUSH l l2
LMPOP 2 l l2 RIGHT COUNT 2
RPOPLPUSH l2 l2
LMOVE l2 l2 LEFT RIGHT
LTRIM l2 5 6
RPUSH l3 a
BLPOP l3 1
RPUSH l3 a b
BRPOP l3 1
BLMOVE l3 l4 LEFT LEFT 1
BLMPOP 1 1 l4 LEFT
SADD s a b c
SADD s a
SREM s a
SREM s none
SADD s2 b c d
SMOVE s s2 b
SMOVE s s2 none
SINTERSTORE s3 s s2
SUNIONSTORE s3 s s2
SDIFFSTORE s3 s2 s
SINTERSTORE s3 s none
SINTERSTORE s3 s none
SPOP s 10
HSET h a 1 b 2
HMSET h a 1 c 3
HSETNX h a 2
HSETNX h d 2
HINCRBY h a 3
HINCRBYFLOAT h a 1.5
HDEL h a
HDEL h none
HDEL h b c d
ZADD z 1 a 2 b 3 c
ZADD z 1 a
ZADD z XX 5 none
ZADD z INCR 1 a
ZINCRBY z 2 b
ZREM z a
ZREM z none
ZPOPMIN z
ZADD z 1 a 2 b 3 c 4 d 5 e
ZPOPMAX z 2
ZMPOP 1 z MAX
ZREMRANGEBYRANK z 0 0
ZADD z 1 a 2 b 3 c 4 d 5 e
ZREMRANGEBYSCORE z 1 1
ZREMRANGEBYSCORE z 100 200
ZUNIONSTORE z2 1 z
ZINTERSTORE z2 2 z none
ZDIFFSTORE z2 1 z
ZRANGESTORE z3 z 0 -1
ZRANGESTORE z3 none 0 -1
ZADD zl 0 a 0 b
ZREMRANGEBYLEX zl [a [a
BZPOPMIN zl 1
GEOADD geo 13 38 p 15 37 c
GEOSEARCHSTORE geo2 geo FROMLONLAT 15 37 BYRADIUS 500 km
GEORADIUS geo 15 37 500 km STORE geo3
XADD x 1-1 a 1
XADD x MAXLEN 1 2-1 a 1
XTRIM x MAXLEN 0
XTRIM x MAXLEN 0
XADD x 3-1 a 1
XDEL x 3-1
XDEL x 3-1
XADD x 4-1 a 1
XSETID x 5-1
XGROUP CREATE x g 0
XGROUP SETID x g 0
XGROUP CREATECONSUMER x g bob
XREADGROUP GROUP g alice STREAMS x >
XACK x g 4-1
XGROUP DELCONSUMER x g bob
XGROUP DESTROY x g
DEL x
`
