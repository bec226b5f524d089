package engine

import (
	"errors"
	"strings"

	"github.com/larder-cache/larder/engine/tenure"
	"github.com/larder-cache/larder/internal/fault"
)

// An Observer is told what happens in a partition while it happens, and passes on what concerns connections: a message
// that was published, a key that somebody watches, waits for or has cached. Only the leader has one; nothing of what it
// does is a part of the state. Its methods are called while a task runs: they are quick, do not call the partition, and
// keep none of the bytes they are given.
type Observer interface {
	// Touched says that what is under a key has been made, changed or removed, for a cache that Observe named.
	Touched(cache CacheID, db int, key []byte)
	// Flushed says that a database has been emptied.
	Flushed(cache CacheID, db int)
	// Withdrawn says that the keys of a span of slots are not served here any more: they are about to be elsewhere.
	Withdrawn(cache CacheID, s tenure.Span)
	// Published passes a message on and returns how many receivers it has here.
	Published(cache CacheID, sharded bool, channel, message []byte) int
	// Notified passes a keyspace notification on, for a cache whose settings ask for its class; class says to which channels.
	Notified(cache CacheID, db int, class EventClass, event string, key []byte)
}

// SetObserver gives the partition its observer, nil for none.
func (p *Partition) SetObserver(o Observer) { p.observer = o }

// Observe says whether the observer wants to hear of the keys of a cache.
func (p *Partition) Observe(id CacheID, on bool) {
	if p.wanted == nil {
		p.wanted = map[CacheID]bool{}
	}
	if p.wanted[id] = true; !on {
		delete(p.wanted, id)
	}
	if c := p.caches[id]; c != nil {
		c.observed = on || c.feeds != nil
	}
}

// touched tells the observer of a key. It costs one comparison where nobody asked.
func (k *keyspace) touched(key []byte) {
	if k.owner.observed || k.owner.settings.Notify != 0 {
		k.p.heard(k, key)
	}
}

// Has reports whether there is a live item under a key at time now, and of which type; "" when there is none. O(1).
func (p *Partition) Has(id CacheID, db int, key []byte, now int64) (kind string) {
	c := p.caches[id]
	if c == nil || c.dbs[db] == nil {
		return ""
	}
	p.viewed, p.looked = 0, look{}
	p.running.args, p.running.writing = nil, false
	it := c.dbs[db].find(key)
	if it == nil || it.expiredAt(max(now, p.now)) {
		return ""
	}
	return it.value.kind()
}

// Parked says what a blocking command waits for that found nothing.
type Parked struct {
	Keys [][]byte // any of them; they are the call's arguments
	Kind string   // the type that it wants under one of them
	For  int64    // milliseconds, 0 for ever
	Gone bool     // it also wants to hear that a key is gone
	Args [][]byte // with which to ask again; nil: those of the call
}

// errParked ends a call that waits. Nobody is shown it.
var errParked = errors.New("engine: parked")

// park ends a call that found nothing and may wait: the partition's caller asks again when one of the keys is touched.
// Where nobody can wait, in a transaction, in a script or over HTTP, none says that nothing was found.
func (c *call) park(w Parked, none func()) error {
	if c.waits == nil {
		none()
		return nil
	}
	if len(w.Keys) > maxAwaited {
		return fault.About(fault.TooLarge, c.cmd.Name, "key", "%s waits for at most %d keys, these are %d", c.cmd.Name, maxAwaited, len(w.Keys))
	}
	*c.waits = w
	return errParked
}

// maxAwaited is how many keys a call waits for at most: the leader keeps it in a queue for each of them.
const maxAwaited = 4096

// wanted is lookup for a command that may wait: asked again, it waits on where another type has taken a key's place.
func wanted[T value](c *call, key []byte) (v T, it *item, err error) {
	v, it, err = lookup[T](c, key)
	if err != nil && c.retried {
		return v, nil, nil
	}
	return v, it, err
}

// EventClass says which keyspace notifications a cache sends, in the letters of Redis's notify-keyspace-events.
type EventClass uint32

// The classes.
const (
	EventKeyspace  EventClass                                                                                                                                 = 1 << iota // K: to __keyspace@<db>__:<key>
	EventKeyevent                                                                                                                                                         // E: to __keyevent@<db>__:<event>
	EventGeneric                                                                                                                                                          // g: DEL, EXPIRE, RENAME, …
	EventString                                                                                                                                                           // $
	EventList                                                                                                                                                             // l
	EventSet                                                                                                                                                              // s
	EventHash                                                                                                                                                             // h
	EventSortedSet                                                                                                                                                        // z
	EventExpired                                                                                                                                                          // x
	EventEvicted                                                                                                                                                          // e
	EventStream                                                                                                                                                           // t
	EventKeyMiss                                                                                                                                                          // m
	EventModule                                                                                                                                                           // d
	EventNew                                                                                                                                                              // n
	eventAll       = EventGeneric | EventString | EventList | EventSet | EventHash | EventSortedSet | EventExpired | EventEvicted | EventStream | EventModule             // A
)

const eventLetters = "KEg$lshzxetmdn"

// ParseEventClass reads the letters of notify-keyspace-events.
func ParseEventClass(s string) (EventClass, error) {
	var class EventClass
	for i := range len(s) {
		if s[i] == 'A' {
			class |= eventAll
			continue
		}
		at := strings.IndexByte(eventLetters, s[i])
		if at < 0 {
			return 0, fault.About(fault.InvalidArgument, "engine.events", "notify_keyspace_events", "notify-keyspace-events has the letters %s and A, not %q", eventLetters, s[i:i+1])
		}
		class |= 1 << at
	}
	return class, nil
}

// String writes the letters in Redis's order.
func (e EventClass) String() string {
	var b []byte
	if e&eventAll == eventAll {
		b = append(b, 'A')
	}
	for _, letter := range []byte("g$lshzxetdKEmn") {
		class := EventClass(1) << strings.IndexByte(eventLetters, letter)
		if e&class != 0 && (class&eventAll == 0 || e&eventAll != eventAll) {
			b = append(b, letter)
		}
	}
	return string(b)
}

// notify sends a keyspace notification, if the cache's settings ask for its class. It costs one comparison where they do not.
func (c *call) notify(class EventClass, event string, key []byte) {
	if c.cache.settings.Notify&class != 0 {
		c.cache.notify(c.p, c.db, event, key)
	}
}

func (c *cache) notify(p *Partition, db int, event string, key []byte) {
	if p.observer != nil && c.settings.Notify&(EventKeyspace|EventKeyevent) != 0 {
		p.observer.Notified(c.id, db, c.settings.Notify, event, key)
	}
}
