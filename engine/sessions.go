package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/engine/ranked"
	"github.com/larder-cache/larder/internal/fault"
)

// A sessionValue is JSON data with two deadlines: one that each use moves on, and one that nothing moves. A
// deadline that has come is final: the session is gone, whatever is asked of it afterwards. Sessions are
// replaced, not changed: a reader that holds one need not fear a writer.
//
//	S1: an item that holds a session expires at the earlier of the session's deadlines
//	S2: idleDeadline is not 0 exactly when idle is not
type sessionValue struct {
	data         []byte // valid JSON, in an array with no room to spare
	user         string // the user's key; empty for none
	created      int64  // milliseconds since 1970, as the deadlines are
	idle         int64  // milliseconds that it may lie unused; 0 for any time
	idleDeadline int64  // 0 for none
	deadline     int64  // 0 for none
	version      uint64 // of data
}

func (s *sessionValue) kind() string { return "session" }
func (s *sessionValue) empty() bool  { return false }
func (s *sessionValue) len() int     { return len(s.data) }

func (s *sessionValue) pack(dst []byte) ([]byte, dense.Kind) { return s.encode(dst), kindSession }

func (s *sessionValue) encode(dst []byte) []byte {
	for _, n := range [...]uint64{s.version, uint64(s.created), uint64(s.idle), uint64(s.idleDeadline), uint64(s.deadline), uint64(len(s.user))} {
		dst = binary.AppendUvarint(dst, n)
	}
	return append(append(dst, s.user...), s.data...)
}

// unpackSession reads what pack wrote. The data are b's own bytes.
func unpackSession(b []byte) *sessionValue {
	var numbers [6]uint64
	for i := range numbers {
		n, width := binary.Uvarint(b)
		numbers[i], b = n, b[width:]
	}
	s := &sessionValue{version: numbers[0], created: int64(numbers[1]), idle: int64(numbers[2]), idleDeadline: int64(numbers[3]), deadline: int64(numbers[4])}
	s.user, s.data = string(b[:numbers[5]]), b[numbers[5]:]
	return s
}

// expiry is the earlier of the deadlines, which makes a session selfTimed.
func (s *sessionValue) expiry() int64 {
	if s.deadline == 0 || (s.idleDeadline != 0 && s.idleDeadline < s.deadline) {
		return s.idleDeadline
	}
	return s.deadline
}

func (s *sessionValue) check() error {
	if (s.idle == 0) != (s.idleDeadline == 0) {
		return fmt.Errorf("S2: idle %d, idle deadline %d", s.idle, s.idleDeadline)
	}
	return nil
}

// used returns s as it is after a use at time now.
func (s sessionValue) used(now int64) *sessionValue {
	if s.idle != 0 {
		s.idleDeadline = now + s.idle
	}
	return &s
}

// userOf reads from what pack wrote whose session it is, and since when.
func userOf(b []byte) (user []byte, created int64) {
	var numbers [6]uint64
	for i := range numbers {
		n, width := binary.Uvarint(b)
		numbers[i], b = n, b[width:]
	}
	return b[:numbers[5]], int64(numbers[1])
}

// entry is where the session in the record r stands in the keyspace's sessions: those of one user beside each other
// (and beside another's, should two users' hashes agree), the oldest first, and by key those of the same millisecond.
func (k *keyspace) entry(user []byte, created int64, r dense.Ref) ranked.Entry {
	return ranked.Entry{Score: k.userScore(user), Tie: uint64(created), Member: ranked.Ref(r)}
}

func (k *keyspace) userScore(user []byte) float64 { return float64(k.p.store.Hash(user) >> 12) }

// Name is the key of a session, for the tree to compare.
func (k *keyspace) Name(r ranked.Ref) []byte { return k.p.store.Key(dense.Ref(r)) }

// Moved tells the tree where a session's record is now.
func (k *keyspace) Moved(from, to dense.Ref) {
	if k.p.store.Kind(to) != kindSession {
		return
	}
	user, created := userOf(k.p.store.Value(to))
	if len(user) > 0 && !k.sessions.Relocate(k.entry(user, created, from), ranked.Ref(to)) {
		panic("engine: K4: a session is not listed")
	}
}

func (s *sessionValue) index(it *item) {
	if s.user == "" {
		return
	}
	k := it.home
	if k.sessions == nil {
		k.sessions = ranked.New(k.p.nodes(), k)
	}
	k.sessions.Insert(k.entry([]byte(s.user), s.created, it.ref))
}

func (s *sessionValue) unindex(it *item) {
	if s.user == "" {
		return
	}
	k := it.home
	if !k.sessions.Delete(k.entry([]byte(s.user), s.created, it.ref)) {
		panic("engine: K4: a session is not listed")
	}
	if k.sessions.Len() == 0 {
		k.sessions.FreeSome(1)
		k.sessions = nil
	}
}

// eachSession visits the sessions of user after the given time and key (all for time 0), the oldest first
// and also those that have expired but not been removed, until visit returns false. visit must not change the
// keyspace.
func (k *keyspace) eachSession(user string, created int64, key string, visit func(it *item, s *sessionValue) bool) {
	if k.sessions == nil {
		return
	}
	after := ranked.Key{Score: k.userScore([]byte(user)), Tie: uint64(created), Member: []byte(key)}
	at, found := k.sessions.RankKey(after)
	if found {
		at++
	}
	for cursor := k.sessions.Seek(at); cursor.Valid(); cursor.Next() {
		e := cursor.Entry()
		if e.Score != after.Score {
			return
		}
		ref := dense.Ref(e.Member)
		it := k.view(k.p.store.Hash(k.p.store.Key(ref)), ref)
		if s := it.value.(*sessionValue); s.user == user && k.owner.serves(it.key) && !visit(it, s) {
			return
		}
	}
}

// Bounds of what a caller may ask about sessions.
const (
	maxSessionTime  = 100 * 365 * 24 * 3600 * 1000 // milliseconds, for IDLE and TTL
	maxUserSessions = 10_000                       // for MAX
	maxSessionList  = 10_000                       // for COUNT
	sessionList     = 100                          // COUNT where none is given
)

var sessionCommands = []Command{
	{Name: "SESSION.CREATE", Arity: -3, Keys: oneKey, Flags: Writes | Grows, Group: GroupSession, Action: "cache:Set", Also: sessionUserRight, Facts: sessionCreateFacts, run: sessionCreate,
		Usage:   "key data [USER userkey] [IDLE milliseconds] [TTL milliseconds] [MAX count]",
		Summary: "Begins a session with JSON data, and ends the user's oldest ones beyond MAX", Complexity: "O(log N + M) for M sessions of the user with MAX", Since: "1.0.0"},
	{Name: "SESSION.GET", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupSession, Action: "cache:Get", run: sessionGet,
		Usage: "key", Summary: "Returns a session and leaves its deadlines alone", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "SESSION.TOUCH", Arity: 2, Keys: oneKey, Flags: Writes | Fast, Group: GroupSession, Action: "cache:Get", Also: sessionTouchRight, run: sessionTouch,
		Usage: "key", Summary: "Returns a session and moves its idle deadline on", Complexity: "O(log N)", Since: "1.0.0"},
	{Name: "SESSION.SET", Arity: -3, Keys: oneKey, Flags: Writes | Grows, Group: GroupSession, Action: "cache:Set", Facts: sessionDataFacts, run: sessionSet,
		Usage: "key data [IFMATCH version ...]", Summary: "Replaces a session's data and moves its idle deadline on", Complexity: "O(log N)", Since: "1.0.0"},
	{Name: "SESSION.PATCH", Arity: -3, Keys: oneKey, Flags: Writes | Grows, Group: GroupSession, Action: "cache:Set", Facts: sessionDataFacts, run: sessionPatch,
		Usage: "key patch [IFMATCH version ...]", Summary: "Applies a JSON merge patch (RFC 7396) to a session's data and moves its idle deadline on", Complexity: "O(N) for N bytes of data", Since: "1.0.0"},
	{Name: "SESSION.DEL", Arity: -2, Keys: oneKey, Flags: Writes | Fast, Group: GroupSession, Action: "cache:Delete", run: sessionDel,
		Usage: "key [IFMATCH version ...]", Summary: "Ends a session", Complexity: "O(log N)", Since: "1.0.0"},
	{Name: "SESSION.ROTATE", Arity: 3, Keys: twoKeys, Flags: Writes | Fast, Group: GroupSession, Action: "cache:Get", Rights: sessionRotateRights, run: sessionRotate,
		Usage: "key newkey", Summary: "Gives a session another key; the old one is dead at once", Complexity: "O(log N)", Since: "1.0.0"},
	{Name: "SESSION.LIST", Arity: -2, Keys: oneKey, Group: GroupSession, Action: "cache:Get", Facts: sessionListFacts, run: sessionListOf,
		Usage: "userkey [AFTER cursor] [COUNT count]", Summary: "Lists a user's sessions, the oldest first", Complexity: "O(log N + M) for M sessions returned", Since: "1.0.0"},
	{Name: "SESSION.REVOKE", Arity: -2, Keys: oneKey, Flags: Writes, Group: GroupSession, Action: "cache:Delete", run: sessionRevoke,
		Usage: "userkey [EXCEPT key]", Summary: "Ends a user's sessions, all or all but one", Complexity: "O(M log N) for M sessions of the user", Since: "1.0.0"},
}

// sessionOptions are what stands after the data in SESSION.CREATE.
type sessionOptions struct {
	user           []byte
	idle, ttl, max int64 // 0 where not given
}

func parseSessionOptions(op string, args [][]byte) (o sessionOptions, err error) {
	for i := 0; i < len(args); i += 2 {
		name := args[i]
		if i+1 == len(args) {
			return o, errOption(op, name)
		}
		value := args[i+1]
		switch {
		case is(name, "USER") && o.user == nil:
			if len(value) == 0 || len(value) > MaxKey {
				return o, fault.About(fault.InvalidArgument, op, "USER", "USER must have 1 to %d bytes, has %d", MaxKey, len(value))
			}
			o.user = value
		case is(name, "IDLE") && o.idle == 0:
			o.idle, err = parseWithin(op, "IDLE", value, maxSessionTime)
		case is(name, "TTL") && o.ttl == 0:
			o.ttl, err = parseWithin(op, "TTL", value, maxSessionTime)
		case is(name, "MAX") && o.max == 0:
			o.max, err = parseWithin(op, "MAX", value, maxUserSessions)
		default:
			return o, errOption(op, name)
		}
		if err != nil {
			return o, err
		}
	}
	if o.max != 0 && o.user == nil {
		return o, fault.About(fault.InvalidArgument, op, "MAX", "MAX needs USER: it bounds the sessions of one user")
	}
	return o, nil
}

// parseWithin reads an integer from 1 to most.
func parseWithin(op, argument string, b []byte, most int64) (int64, error) {
	n, ok := parseInt(b)
	if !ok || n < 1 || n > most {
		return 0, fault.About(fault.OutOfRange, op, argument, "%s must be an integer from 1 to %d", argument, most)
	}
	return n, nil
}

// Whoever begins a session in a user's name writes to what belongs to the user.
func sessionUserRight(dst []Right, args [][]byte) []Right {
	for i := 3; i+1 < len(args); i += 2 {
		if is(args[i], "USER") {
			dst = append(dst, Right{Action: "cache:Set", On: OnKey, Name: args[i+1]})
		}
	}
	return dst
}

func sessionTouchRight(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:Expire", On: OnKey, Name: args[1]})
}

func sessionRotateRights(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:Get", On: OnKey, Name: args[1]}, Right{Action: "cache:Delete", On: OnKey, Name: args[1]},
		Right{Action: "cache:Set", On: OnKey, Name: args[2]})
}

func sessionDataFacts(args [][]byte, _ int64) Facts {
	return Facts{ValueSize: int64(len(args[2])), TTL: -1, MaxItems: -1}
}

func sessionCreateFacts(args [][]byte, now int64) Facts {
	f := sessionDataFacts(args, now)
	if o, err := parseSessionOptions("", args[3:]); err == nil {
		f.TTL = o.ttl
		if o.ttl == 0 || (o.idle != 0 && o.idle < o.ttl) {
			f.TTL = o.idle
		}
		if f.TTL == 0 {
			f.TTL = -1
		}
	}
	return f
}

func sessionListFacts(args [][]byte, _ int64) Facts {
	f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
	if _, count, err := parseSessionList("", args[2:]); err == nil {
		f.MaxItems = count
	}
	return f
}

// record replies a session.
func (c *call) record(key string, s *sessionValue) {
	c.out.Array(8)
	c.out.Text(key)
	c.out.Bulk(s.data)
	if s.user == "" {
		c.out.Null()
	} else {
		c.out.Text(s.user)
	}
	c.out.Int(s.created)
	c.out.Int(s.idle)
	c.out.Int(s.idleDeadline)
	c.out.Int(s.deadline)
	c.out.Int(int64(s.version))
}

// checkSession refuses a session's key and data that are over their limits, and data that is not JSON.
func (c *call) checkSession(argument string, key, data []byte) error {
	if err := c.checkSizes(key, int64(len(data))); err != nil {
		return err
	}
	return checkJSON(c.cmd.Name, argument, data)
}

func sessionCreate(c *call) error {
	key, data := c.args[1], c.args[2]
	o, err := parseSessionOptions(c.cmd.Name, c.args[3:])
	if err != nil {
		return err
	}
	if err := c.checkSession("data", key, data); err != nil {
		return err
	}
	if c.peek(key) != nil {
		return fault.About(fault.Conflict, c.cmd.Name, "key", "the key exists already")
	}
	if o.max > 0 {
		c.trimSessions(string(o.user), int(o.max)-1)
	}
	s := sessionValue{data: exactly(data), user: string(o.user), created: c.now, idle: o.idle, version: c.p.nextVersion()}
	switch {
	case o.ttl > 0:
		s.deadline = c.now + o.ttl
	case o.idle == 0:
		s.deadline = c.defaultDeadline()
	}
	c.record(string(key), c.putSession(key, s.used(c.now)))
	return nil
}

func (c *call) putSession(key []byte, s *sessionValue) *sessionValue {
	c.put(key, s, s.expiry())
	return s
}

// trimSessions ends the oldest sessions of a user until at most so many are left.
func (c *call) trimSessions(user string, most int) {
	var live, gone []*item
	c.keys().eachSession(user, 0, "", func(it *item, _ *sessionValue) bool {
		if it.expiredAt(c.now) {
			gone = append(gone, it)
		} else {
			live = append(live, it)
		}
		return true
	})
	for _, it := range append(gone, live[:max(0, len(live)-most)]...) {
		c.dropItem(it)
	}
}

func sessionGet(c *call) error {
	s, it, err := lookup[*sessionValue](c, c.args[1])
	if err != nil {
		return err
	}
	c.count(s != nil)
	if s == nil {
		c.out.Null()
		return nil
	}
	c.record(string(it.key), s)
	return nil
}

func sessionTouch(c *call) error {
	s, it, err := lookup[*sessionValue](c, c.args[1])
	if err != nil {
		return err
	}
	c.count(s != nil)
	if s == nil {
		c.out.Null()
		return nil
	}
	if s.idle != 0 {
		s = c.putSession(c.args[1], s.used(c.now))
	}
	c.record(string(it.key), s)
	return nil
}

func sessionSet(c *call) error {
	return c.rewrite("data", func(*sessionValue) ([]byte, error) { return exactly(c.args[2]), nil })
}

func sessionPatch(c *call) error {
	return c.rewrite("patch", func(s *sessionValue) ([]byte, error) {
		data, err := mergePatch(c.cmd.Name, s.data, c.args[2])
		if err != nil {
			return nil, err
		}
		return exactly(data), c.checkSizes(c.args[1], int64(len(data)))
	})
}

// rewrite gives a session the data that compose makes.
func (c *call) rewrite(argument string, compose func(s *sessionValue) ([]byte, error)) error {
	key := c.args[1]
	matches, err := parseIfMatch(c.cmd.Name, c.args[3:])
	if err != nil {
		return err
	}
	if err := c.checkSession(argument, key, c.args[2]); err != nil {
		return err
	}
	s, it, err := lookup[*sessionValue](c, key)
	if err != nil {
		return err
	}
	if s == nil {
		c.out.Null()
		return nil
	}
	if err := matches.check(c.cmd.Name, s.version); err != nil {
		return err
	}
	data, err := compose(s)
	if err != nil {
		return err
	}
	s = s.used(c.now)
	s.data, s.version = data, c.p.nextVersion()
	c.record(string(it.key), c.putSession(key, s))
	return nil
}

// versions are those that a caller accepts; nil for any.
type versions []uint64

// parseIfMatch reads [IFMATCH version ...]; the word may be repeated before each version.
func parseIfMatch(op string, args [][]byte) (v versions, err error) {
	for i, a := range args {
		word := is(a, "IFMATCH")
		if word && i+1 < len(args) {
			continue
		}
		n, err := strconv.ParseUint(string(a), 10, 64)
		if i == 0 || word || err != nil {
			return nil, fault.About(fault.InvalidArgument, op, "IFMATCH", "IFMATCH must be followed by versions, which are positive integers")
		}
		v = append(v, n)
	}
	return v, nil
}

func (v versions) check(op string, version uint64) error {
	for _, n := range v {
		if n == version {
			return nil
		}
	}
	if v == nil {
		return nil
	}
	return fault.About(fault.PreconditionFailed, op, "IFMATCH", "the version is %d, which is none of those asked for", version)
}

func sessionDel(c *call) error {
	matches, err := parseIfMatch(c.cmd.Name, c.args[2:])
	if err != nil {
		return err
	}
	s, it, err := lookup[*sessionValue](c, c.args[1])
	if err != nil {
		return err
	}
	if s == nil {
		c.out.Int(0)
		return nil
	}
	if err := matches.check(c.cmd.Name, s.version); err != nil {
		return err
	}
	c.dropItem(it)
	c.out.Int(1)
	return nil
}

// A rotation is a use of the session, so its idle deadline moves on. Data and version stay.
func sessionRotate(c *call) error {
	key, newKey := c.args[1], c.args[2]
	if err := c.checkSizes(newKey, 0); err != nil {
		return err
	}
	s, it, err := lookup[*sessionValue](c, key)
	if err != nil {
		return err
	}
	if s == nil {
		c.out.Null()
		return nil
	}
	if c.peek(newKey) != nil {
		return fault.About(fault.Conflict, c.cmd.Name, "newkey", "the new key exists already")
	}
	c.dropItem(it)
	c.record(string(newKey), c.putSession(newKey, s.used(c.now)))
	return nil
}

func parseSessionList(op string, args [][]byte) (after []byte, count int64, err error) {
	for i := 0; i < len(args); i += 2 {
		switch more := i+1 < len(args); {
		case more && is(args[i], "AFTER") && after == nil:
			after = args[i+1]
		case more && is(args[i], "COUNT") && count == 0:
			if count, err = parseWithin(op, "COUNT", args[i+1], maxSessionList); err != nil {
				return nil, 0, err
			}
		default:
			return nil, 0, errOption(op, args[i])
		}
	}
	if count == 0 {
		count = sessionList
	}
	return after, count, nil
}

// place finds where a list goes on: after what the last answer began with, or after a key of one of the user's
// sessions. What the answer begins with outlives the session, which may end between two pages.
func (c *call) place(user string, after []byte) (created int64, key string, err error) {
	if len(after) == 0 {
		return 0, "", nil
	}
	if it := c.peek(after); it != nil {
		if s, ok := it.value.(*sessionValue); ok && s.user == user {
			return s.created, string(it.key), nil
		}
	}
	digits, rest, ok := bytes.Cut(after, []byte(":"))
	if ok {
		created, ok = parseInt(digits)
	}
	if !ok || created < 0 {
		return 0, "", fault.About(fault.InvalidArgument, c.cmd.Name, "AFTER", "AFTER must be a cursor from the page before, or the key of one of the user's sessions")
	}
	return created, string(rest), nil
}

func sessionListOf(c *call) error {
	user := string(c.args[1])
	after, count, err := parseSessionList(c.cmd.Name, c.args[2:])
	if err != nil {
		return err
	}
	created, key, err := c.place(user, after)
	if err != nil {
		return err
	}
	var found []*item
	next, budget := "", 2*count+100 // what has expired is passed over, but not without end
	c.keys().eachSession(user, created, key, func(it *item, s *sessionValue) bool {
		if int64(len(found)) == count || budget == 0 {
			next = fmt.Sprintf("%d:%s", created, key)
			return false
		}
		budget--
		created, key = s.created, string(it.key)
		if !it.expiredAt(c.now) {
			found = append(found, it)
		}
		return true
	})
	c.out.Array(2)
	c.out.Text(next)
	c.out.Array(len(found))
	for _, it := range found {
		c.record(string(it.key), it.value.(*sessionValue))
	}
	return nil
}

func sessionRevoke(c *call) error {
	var except string
	kept := len(c.args) == 4 && is(c.args[2], "EXCEPT")
	if kept {
		except = string(c.args[3])
	} else if len(c.args) != 2 {
		return errOption(c.cmd.Name, c.args[2])
	}
	var ending []*item
	var live int64
	c.keys().eachSession(string(c.args[1]), 0, "", func(it *item, _ *sessionValue) bool {
		switch {
		case it.expiredAt(c.now):
		case kept && string(it.key) == except:
			return true
		default:
			live++
		}
		ending = append(ending, it)
		return true
	})
	for _, it := range ending {
		c.dropItem(it)
	}
	c.out.Int(live)
	return nil
}
