package engine

import (
	"bytes"
	"errors"
	"strconv"
)

// A Feed tells what becomes of a cache from one position of the log on, as commands that a replica of Redis's carries out. A
// replica that has what the cache held there, and has carried out all that came since, holds what the cache holds now, but for
// values that Redis has no type for.
//
// It is fed while commands run (feedforms.go has what becomes of them), and emptied by whoever follows the cache, at any time:
//
//	V1: what Take returns are whole units, in the order of the log; a unit is what a replica has to carry out as one piece
//	V2: a command in a unit does on a replica what was done here, whatever its clock and dice say
//	V3: what waits is bounded: one that would have more has lost everything, and says so
//
// A feed is no part of the state. Each replica of a partition may have some of its own.
type Feed struct {
	all   *feeds
	limit int
	wake  func()
	b     []byte
	db    int // that is selected behind b, -1 for unknown
	lost  error
}

// feeds are those of a cache, with what the task under way has done so far.
type feeds struct {
	p    *Partition
	c    *cache
	list []*Feed

	changes []change  // keys that the call under way has touched
	torn    bool      // it does more than it says there: only what is under its keys will do
	reply   Recording // of a call whose effect shows in its answer
	unit    feedUnit
}

// A feedUnit is a unit in the making.
type feedUnit struct {
	b        []byte
	n        int // commands
	from, db int // databases: of the first command, and of the last
}

// maxFeeds is how many may follow a cache on one partition.
const maxFeeds = 8

// Why a feed has ended.
var (
	errFeedFull  = errors.New("more has changed than may wait for who follows the cache")
	errFeedGone  = errors.New("the cache is not here any more")
	errFeedMoved = errors.New("slots of the cache have moved")
	errFeedSplit = errors.New("a database was emptied, or swapped with another, of a cache that lies in several slot ranges")
)

// Feed begins to tell what becomes of a cache. Up to limit bytes wait to be taken; wake is called whenever there are some, or the
// feed is lost: it is quick, and does not call the partition. ok is false when the partition does not hold the cache, or too many follow it.
func (p *Partition) Feed(id CacheID, limit int, wake func()) (f *Feed, ok bool) {
	c := p.caches[id]
	if c == nil {
		return nil, false
	}
	if c.feeds == nil {
		c.feeds = &feeds{p: p, c: c}
		c.observed = true
	}
	if len(c.feeds.list) >= maxFeeds {
		return nil, false
	}
	f = &Feed{all: c.feeds, limit: limit, wake: wake, db: -1}
	c.feeds.list = append(c.feeds.list, f)
	return f, true
}

// Take gives out what waits and keeps into, emptied, for what is to come. The error says why nothing follows, and why what was not
// taken before is worth nothing.
func (f *Feed) Take(into []byte) ([]byte, error) {
	if f.lost != nil {
		return nil, f.lost
	}
	b := f.b
	f.b, f.db = into[:0], -1
	return b, nil
}

// Close ends the feed.
func (f *Feed) Close() {
	all := f.all
	for i, other := range all.list {
		if other == f {
			all.list = append(all.list[:i], all.list[i+1:]...)
			break
		}
	}
	if f.b = nil; f.lost == nil {
		f.lost = errFeedGone
	}
	if len(all.list) == 0 && all.c.feeds == all {
		all.c.feeds = nil
		all.c.observed = all.p.wanted[all.c.id]
	}
}

func (f *Feed) lose(why error) {
	if f.lost == nil {
		f.lost, f.b = why, nil
		f.wake()
	}
}

// lose ends all feeds of the cache.
func (all *feeds) lose(why error) {
	for _, f := range all.list {
		f.lose(why)
	}
}

// touched is told of a key that the call under way has made, changed or removed.
func (all *feeds) touched(k *keyspace, key []byte) {
	if c := all.c; c.tenure != nil && !c.shows(key) {
		return // it is on its way here, or was left behind
	}
	for _, ch := range all.changes[max(0, len(all.changes)-sameChange):] {
		if ch.k == k && bytes.Equal(ch.key, key) {
			return
		}
	}
	all.changes = append(all.changes, change{k, bytes.Clone(key)})
}

// flushed is told of a database that is emptied.
func (all *feeds) flushed(k *keyspace) {
	all.changes = all.changes[:0]
	if all.c.settings.Split { // a replica has keys of other partitions
		all.lose(errFeedSplit)
		return
	}
	all.say(k.db, feedFlush)
}

var (
	feedFlush  = []byte("FLUSHDB")
	feedDel    = []byte("DEL")
	feedHdel   = []byte("HDEL")
	feedSelect = []byte("SELECT")
)

// expired is told of a key whose time has come, before the call under way goes on without it.
func (all *feeds) expired(k *keyspace, key []byte) { all.say(k.db, feedDel, key) }

// fieldExpired is the same for a field of a large hash.
func (all *feeds) fieldExpired(k *keyspace, key, field []byte) { all.say(k.db, feedHdel, key, field) }

// say adds a command to the unit.
func (all *feeds) say(db int, args ...[]byte) {
	u := &all.unit
	if u.n == 0 {
		u.from = db
	} else if u.db != db {
		u.b = appendSelect(u.b, db)
	}
	u.db = db
	u.n++
	u.b = appendCommand(u.b, args...)
	all.bound()
}

// bound gives up a unit that no feed could take.
func (all *feeds) bound() {
	for _, f := range all.list {
		if len(all.unit.b) > f.limit {
			f.lose(errFeedFull)
		}
	}
}

// mark is where the unit stands, to go back to.
func (all *feeds) mark() feedUnit { return all.unit }

// back forgets what was said since a mark: it was undone.
func (all *feeds) back(to feedUnit) {
	to.b = all.unit.b[:len(to.b)]
	all.unit = to
	all.changes = all.changes[:0]
}

// keptUnit is how large a unit's room may be that is kept for the next.
const keptUnit = 1 << 20

// close ends the unit.
func (all *feeds) close() {
	u := &all.unit
	if u.n == 0 {
		return
	}
	for _, f := range all.list {
		f.take(u)
	}
	if all.unit = (feedUnit{b: u.b[:0]}); cap(u.b) > keptUnit {
		all.unit.b = nil
	}
}

// unitExtra is more than what stands around a unit: SELECT, MULTI and EXEC.
const unitExtra = 64

// take adds a unit to what waits.
func (f *Feed) take(u *feedUnit) {
	if f.lost != nil {
		return
	}
	if len(f.b)+len(u.b)+unitExtra > f.limit {
		f.lose(errFeedFull)
		return
	}
	if f.db != u.from {
		f.b = appendSelect(f.b, u.from)
	}
	if u.n > 1 {
		f.b = append(f.b, "*1\r\n$5\r\nMULTI\r\n"...)
	}
	f.b = append(f.b, u.b...)
	if u.n > 1 {
		f.b = append(f.b, "*1\r\n$4\r\nEXEC\r\n"...)
	}
	f.db = u.db
	f.wake()
}

// appendCommand writes a command as clients of Redis send it.
func appendCommand(b []byte, args ...[]byte) []byte {
	b = append(strconv.AppendInt(append(b, '*'), int64(len(args)), 10), '\r', '\n')
	for _, a := range args {
		b = append(strconv.AppendInt(append(b, '$'), int64(len(a)), 10), '\r', '\n')
		b = append(append(b, a...), '\r', '\n')
	}
	return b
}

func appendSelect(b []byte, db int) []byte {
	return appendCommand(b, feedSelect, strconv.AppendInt(nil, int64(db), 10))
}

// perform executes the call, and tells those who follow the cache what it did.
func (c *call) perform() error {
	if !c.writing || c.cache == nil || c.cache.feeds == nil {
		return c.execute()
	}
	all := c.cache.feeds
	all.changes, all.torn = all.changes[:0], all.readsForeign(c)
	out, shows := c.out, feedReplies[c.cmd.Name]
	if shows {
		all.reply.Reset()
		c.out = &all.reply
	}
	err := c.execute()
	if shows {
		c.out = out
		all.reply.Replay(out)
	}
	all.told(c, err)
	all.changes = all.changes[:0] // of a script's commands, which its own call need not tell again
	return err
}

// told says what the call has done.
func (all *feeds) told(c *call, err error) {
	if len(all.list) == 0 {
		return
	}
	if err == nil || err == errParked {
		if form := feedWhole[c.cmd.Name]; form != nil && err == nil {
			form(all, c)
			return
		}
		if form := feedForms[c.cmd.Name]; form != nil && len(all.changes) > 0 && !all.torn && form(all, c) {
			return
		}
	}
	for _, ch := range all.changes {
		all.state(ch.k, ch.key)
	}
}
