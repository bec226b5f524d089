package engine

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// Bounds of the commands that go over a whole keyspace.
const (
	MaxScanCount = 10_000  // items that one step of a scan returns or visits
	MaxKeysCount = 100_000 // items in a database that KEYS still goes over
)

// Commands on keys of any type.
var keyCommands = []Command{
	{Name: "DEL", Arity: -2, Spread: KeysSummed, Keys: allKeys, Flags: Writes, Group: GroupKey, Action: "cache:Delete", run: del,
		Usage: "key [key ...]", Summary: "Removes keys and counts those that existed", Complexity: "O(N) in the number of keys", Since: "1.0.0"},
	{Name: "UNLINK", Arity: -2, Spread: KeysSummed, Keys: allKeys, Flags: Writes | Fast, Group: GroupKey, Action: "cache:Delete", run: del,
		Usage: "key [key ...]", Summary: "Removes keys and counts those that existed: DEL by another name", Complexity: "O(N) in the number of keys", Since: "4.0.0"},
	{Name: "EXISTS", Arity: -2, Spread: KeysSummed, Keys: allKeys, Flags: Fast, Group: GroupKey, Action: "cache:Exists", run: exists,
		Usage: "key [key ...]", Summary: "Counts the keys that exist", Complexity: "O(N) in the number of keys", Since: "1.0.0"},
	{Name: "TOUCH", Arity: -2, Spread: KeysSummed, Keys: allKeys, Flags: Fast, Group: GroupKey, Action: "cache:Exists", run: touch,
		Usage: "key [key ...]", Summary: "Counts the keys that exist, and notes that they are in use", Complexity: "O(N) in the number of keys", Since: "3.2.1"},
	{Name: "TYPE", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupKey, Action: "cache:Inspect", run: typeOf,
		Usage: "key", Summary: "Names the type of the value under a key", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "OBJECT", Arity: -2, Keys: Keys{First: 2, Last: 2, Step: 1}, Group: GroupKey, Action: "cache:Inspect", run: object,
		Usage: "<ENCODING | FREQ | IDLETIME | REFCOUNT> key", Summary: "Tells how a value is kept and used", Complexity: "O(1)", Since: "2.2.3"},

	{Name: "EXPIRE", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupKey, Action: "cache:Expire", Facts: expireFacts(true, false),
		run:   func(c *call) error { return expire(c, true, false) },
		Usage: "key seconds [NX | XX | GT | LT]", Summary: "Lets a key expire after so many seconds", Complexity: "O(log N)", Since: "1.0.0"},
	{Name: "PEXPIRE", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupKey, Action: "cache:Expire", Facts: expireFacts(false, false),
		run:   func(c *call) error { return expire(c, false, false) },
		Usage: "key milliseconds [NX | XX | GT | LT]", Summary: "Lets a key expire after so many milliseconds", Complexity: "O(log N)", Since: "2.6.0"},
	{Name: "EXPIREAT", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupKey, Action: "cache:Expire", Facts: expireFacts(true, true),
		run:   func(c *call) error { return expire(c, true, true) },
		Usage: "key unix-time-seconds [NX | XX | GT | LT]", Summary: "Lets a key expire at a time in seconds since 1970", Complexity: "O(log N)", Since: "1.2.0"},
	{Name: "PEXPIREAT", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupKey, Action: "cache:Expire", Facts: expireFacts(false, true),
		run:   func(c *call) error { return expire(c, false, true) },
		Usage: "key unix-time-milliseconds [NX | XX | GT | LT]", Summary: "Lets a key expire at a time in milliseconds since 1970", Complexity: "O(log N)", Since: "2.6.0"},
	{Name: "PERSIST", Arity: 2, Keys: oneKey, Flags: Writes | Fast, Group: GroupKey, Action: "cache:Persist", run: persist,
		Usage: "key", Summary: "Lets a key live until it is removed", Complexity: "O(log N)", Since: "2.2.0"},
	{Name: "TTL", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupKey, Action: "cache:TTL",
		run:   func(c *call) error { return ttl(c, true, false) },
		Usage: "key", Summary: "Tells how many seconds a key has to live: -1 for ever, -2 there is none", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "PTTL", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupKey, Action: "cache:TTL",
		run:   func(c *call) error { return ttl(c, false, false) },
		Usage: "key", Summary: "Tells how many milliseconds a key has to live: -1 for ever, -2 there is none", Complexity: "O(1)", Since: "2.6.0"},
	{Name: "EXPIRETIME", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupKey, Action: "cache:TTL",
		run:   func(c *call) error { return ttl(c, true, true) },
		Usage: "key", Summary: "Tells when a key expires, in seconds since 1970: -1 never, -2 there is none", Complexity: "O(1)", Since: "7.0.0"},
	{Name: "PEXPIRETIME", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupKey, Action: "cache:TTL",
		run:   func(c *call) error { return ttl(c, false, true) },
		Usage: "key", Summary: "Tells when a key expires, in milliseconds since 1970: -1 never, -2 there is none", Complexity: "O(1)", Since: "7.0.0"},

	// Both may need memory, COPY for a whole value and RENAME for a longer key.
	{Name: "RENAME", Arity: 3, Keys: twoKeys, Flags: Writes | Grows, Group: GroupKey, Action: "cache:Rename", Rights: renameRights,
		run:   func(c *call) error { return rename(c, false) },
		Usage: "key newkey", Summary: "Moves a value to another key, over whatever was there", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "RENAMENX", Arity: 3, Keys: twoKeys, Flags: Writes | Grows | Fast, Group: GroupKey, Action: "cache:Rename", Rights: renameRights,
		run:   func(c *call) error { return rename(c, true) },
		Usage: "key newkey", Summary: "Moves a value to another key where nothing is", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "COPY", Arity: -3, Keys: twoKeys, Flags: Writes | Grows, rests: true, Group: GroupKey, Action: "cache:Copy", Rights: copyRights, run: copyKey,
		Usage: "source destination [DB destination-db] [REPLACE]", Summary: "Copies a value with its deadline to another key", Complexity: "O(1) for a string, O(N) for a collection", Since: "6.2.0"},

	{Name: "MOVE", Arity: 3, Keys: oneKey, Flags: Writes | Fast, Group: GroupKey, Action: "cache:Rename", Rights: moveRights, run: moveKey,
		Usage: "key db", Summary: "Moves a value with its deadline to another database, where nothing is under the key", Complexity: "O(1)", Since: "1.0.0"},

	{Name: "KEYS", Arity: 2, Spread: PartsListed, Flags: Dangerous, Group: GroupKey, Action: "cache:Scan", Facts: keysFacts, run: keys,
		Usage: "pattern", Summary: "Lists the keys that match a pattern, in a database of at most 100,000", Complexity: "O(N) in the size of the database", Since: "1.0.0"},
	{Name: "SCAN", Arity: -2, Spread: PartsInTurn, PageItem: 1, PageCount: 10, Group: GroupKey, Action: "cache:Scan", Facts: scanFacts(false), run: scan,
		Usage: "cursor [MATCH pattern] [COUNT count] [TYPE type]", Summary: "Lists keys step by step", Complexity: "O(1) for each item visited", Since: "2.8.0"},
	{Name: "RANDOMKEY", Arity: 1, Spread: PartsAny, Group: GroupKey, Action: "cache:Scan", run: randomKey,
		Summary: "Returns some key", Complexity: "O(1)", Since: "1.0.0"},
}

func del(c *call) error {
	var n int64
	for _, key := range c.args[1:] {
		if c.remove(key) {
			n++
		}
	}
	c.out.Int(n)
	return nil
}

func exists(c *call) error {
	var n int64
	for _, key := range c.args[1:] {
		c.step()
		if c.peek(key) != nil {
			n++
		}
	}
	c.out.Int(n)
	return nil
}

func touch(c *call) error {
	var n int64
	for _, key := range c.args[1:] {
		c.step()
		if c.get(key) != nil {
			n++
		}
	}
	c.out.Int(n)
	return nil
}

func typeOf(c *call) error {
	if it := c.peek(c.args[1]); it != nil {
		c.out.Status(it.value.kind())
	} else {
		c.out.Status("none")
	}
	return nil
}

var objectArities = map[string]int{"ENCODING": 3, "FREQ": 3, "IDLETIME": 3, "REFCOUNT": 3, "HELP": 2}

var objectHelp = []string{
	"ENCODING <key>",
	"    The encoding that Redis gives such a value.",
	"FREQ <key>",
	"    How often the key was used.",
	"IDLETIME <key>",
	"    Seconds since the key was last used.",
	"REFCOUNT <key>",
	"    1: no two keys share a value that can change.",
}

func object(c *call) error {
	sub, err := c.subcommand(objectArities)
	switch {
	case err != nil:
		return err
	case sub == "HELP":
		return c.help(objectHelp)
	case c.writing && (sub == "FREQ" || sub == "IDLETIME"):
		// What each replica knows of use differs, and a reply may be remembered (see Once).
		return fault.New(fault.NotSupported, c.cmd.Name, "OBJECT %s cannot be part of a batch that writes", sub)
	}
	it := c.peek(c.args[2])
	switch {
	case it == nil:
		c.out.Null()
	case sub == "ENCODING":
		c.out.Text(encoding(it.value))
	case sub == "FREQ":
		c.out.Int(it.home.policy.Freq(it.note))
	case sub == "IDLETIME":
		c.out.Int(it.home.policy.Idle(it.note, c.now))
	default:
		c.out.Int(1)
	}
	return nil
}

// encoding is the name that Redis has for the way in which it keeps such a value, which clients ask for; our
// own types are named after themselves.
func encoding(v value) string {
	if e, ok := v.(interface{ encoding() string }); ok {
		return e.encoding()
	}
	s, ok := v.(*stringValue)
	if !ok {
		return v.kind()
	}
	if _, ok := parseInt(s.data); ok {
		return "int"
	}
	if len(s.data) <= 44 {
		return "embstr"
	}
	return "raw"
}

func expireFacts(seconds, absolute bool) facts {
	return func(args [][]byte, now int64) Facts {
		f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
		if n, ok := parseInt(args[2]); ok {
			f.TTL = ttlFact(n, seconds, absolute, now)
		}
		return f
	}
}

// expireOptions say when EXPIRE and its like take effect.
type expireOptions struct{ nx, xx, gt, lt bool }

func parseExpireOptions(c *call, args [][]byte) (o expireOptions, err error) {
	for _, a := range args {
		switch {
		case is(a, "NX"):
			o.nx = true
		case is(a, "XX"):
			o.xx = true
		case is(a, "GT"):
			o.gt = true
		case is(a, "LT"):
			o.lt = true
		default:
			return o, fault.New(fault.InvalidArgument, c.cmd.Name, "Unsupported option %.128s", a)
		}
	}
	if o.nx && (o.xx || o.gt || o.lt) {
		return o, fault.New(fault.InvalidArgument, c.cmd.Name, "NX and XX, GT or LT options at the same time are not compatible")
	}
	if o.gt && o.lt {
		return o, fault.New(fault.InvalidArgument, c.cmd.Name, "GT and LT options at the same time are not compatible")
	}
	return o, nil
}

// allow says whether a deadline may be changed from one time to another; from is 0 for never.
func (o expireOptions) allow(from, to int64) bool {
	switch {
	case o.nx && from != 0, o.xx && from == 0:
		return false
	case o.gt:
		return from != 0 && to > from
	case o.lt:
		return from == 0 || to < from
	}
	return true
}

func expire(c *call, seconds, absolute bool) error {
	o, err := parseExpireOptions(c, c.args[3:])
	if err != nil {
		return err
	}
	at, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	if seconds {
		if at > math.MaxInt64/1000 || at < math.MinInt64/1000 {
			return errExpireTime(c)
		}
		at *= 1000
	}
	if !absolute {
		if at > math.MaxInt64-c.now {
			return errExpireTime(c)
		}
		at += c.now
	}
	it := c.peek(c.args[1])
	if it == nil || !o.allow(it.expireAt, at) {
		c.out.Int(0)
		return nil
	}
	if err := c.expire(it, max(at, 1)); err != nil { // 0 would mean never; 1 has long come
		return err
	}
	c.out.Int(1)
	return nil
}

func persist(c *call) error {
	it := c.peek(c.args[1])
	if it == nil || it.expireAt == 0 {
		c.out.Int(0)
		return nil
	}
	if err := c.expire(it, 0); err != nil {
		return err
	}
	c.out.Int(1)
	return nil
}

// ttlOf is how many milliseconds an item has to live, -1 for ever.
func (c *call) ttlOf(it *item) int64 {
	if it.expireAt == 0 {
		return -1
	}
	return it.expireAt - c.now
}

func ttl(c *call, seconds, absolute bool) error {
	it := c.peek(c.args[1])
	if it == nil {
		c.out.Int(-2)
		return nil
	}
	n := c.ttlOf(it)
	if absolute && n >= 0 {
		n = it.expireAt
	}
	if seconds && n >= 0 {
		n = n/1000 + (n%1000+500)/1000 // to the nearest second, as Redis rounds
	}
	c.out.Int(n)
	return nil
}

// RENAME reads and removes at one key and writes at the other.
func renameRights(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:Rename", On: OnKey, Name: args[1]}, Right{Action: "cache:Get", On: OnKey, Name: args[1]},
		Right{Action: "cache:Delete", On: OnKey, Name: args[1]}, Right{Action: "cache:Set", On: OnKey, Name: args[2]})
}

func rename(c *call, onlyNew bool) error {
	from, to := c.args[1], c.args[2]
	if err := c.checkSizes(to, 0); err != nil {
		return err
	}
	it := c.get(from)
	if it == nil {
		return errNoSuchKey
	}
	if onlyNew && c.peek(to) != nil { // from itself too
		c.out.Int(0)
		return nil
	}
	if string(from) != string(to) {
		at := it.expireAt
		if j := c.p.journal; j != nil {
			j.remember(place{it.home, string(from)}, it)
		}
		c.put(to, it.home.take(it), at)
	}
	if onlyNew {
		c.out.Int(1)
	} else {
		c.out.Status("OK")
	}
	return nil
}

// A copier is an object, of which another key needs one of its own; packed values are copied as they are stored.
type copier interface{ clone(step func()) largeValue }

// COPY reads at one key and writes at the other.
func copyRights(dst []Right, args [][]byte) []Right {
	return append(dst, Right{Action: "cache:Copy", On: OnKey, Name: args[1]}, Right{Action: "cache:Get", On: OnKey, Name: args[1]},
		Right{Action: "cache:Set", On: OnKey, Name: args[2]})
}

func copyKey(c *call) error {
	from, to := c.args[1], c.args[2]
	target, replace := *c, false // the call as it would be in the database that is copied to
	for rest := c.args[3:]; len(rest) > 0; rest = rest[1:] {
		switch {
		case is(rest[0], "REPLACE"):
			replace = true
		case is(rest[0], "DB") && len(rest) > 1:
			db, ok := parseInt(rest[1])
			if !ok {
				return errNotInteger
			}
			if db < 0 || db >= Databases {
				return errDatabase
			}
			target.db, rest = int(db), rest[1:]
		default:
			return errSyntax
		}
	}
	if string(from) == string(to) && target.db == c.db {
		return errSameKey
	}
	if err := c.checkSizes(to, 0); err != nil {
		return err
	}
	it := c.get(from)
	if it == nil || (target.peek(to) != nil && !replace) {
		c.out.Int(0)
		return nil
	}
	v := it.value
	if o, ok := v.(copier); ok {
		v = o.clone(c.step)
	}
	c.alone()
	target.put(to, v, it.expireAt)
	c.out.Int(1)
	return nil
}

// MOVE reads and removes at its key, and writes there in another database.
func moveRights(dst []Right, args [][]byte) []Right {
	for _, action := range []string{"cache:Rename", "cache:Get", "cache:Delete", "cache:Set"} {
		dst = append(dst, Right{Action: action, On: OnKey, Name: args[1]})
	}
	return dst
}

var (
	errDatabase = fault.About(fault.OutOfRange, "engine", "db", "DB index is out of range")
	errSameKey  = fault.New(fault.InvalidArgument, "engine", "source and destination objects are the same")
)

// moveKey needs no memory beside what the value took where it was.
func moveKey(c *call) error {
	key := c.args[1]
	db, ok := parseInt(c.args[2])
	switch {
	case !ok:
		return errNotInteger
	case db != int64(int32(db)):
		return fault.About(fault.OutOfRange, c.cmd.Name, "db", "value is out of range, value must between %d and %d", math.MinInt32, math.MaxInt32)
	case db < 0 || db >= Databases:
		return errDatabase
	case int(db) == c.db:
		return errSameKey
	}
	target := *c // the call as it would be in the other database
	target.db = int(db)
	it := c.get(key)
	if it == nil || target.peek(key) != nil {
		c.out.Int(0)
		return nil
	}
	at := it.expireAt
	if j := c.p.journal; j != nil {
		j.remember(place{it.home, string(key)}, it)
	}
	target.put(key, it.home.take(it), at)
	c.out.Int(1)
	return nil
}

// walk visits items in the order of their positions, beginning at from, as long as more says so, and returns
// the position of the first one that it did not visit, 0 when it has visited all. Items that share a position
// are visited together. visit says whether it keeps the view; it must not change the keyspace.
func (k *keyspace) walk(from uint64, more func() bool, visit func(*item) (keeps bool)) (next uint64) {
	var last uint64
	begun := false
	k.table.Each(from, func(position uint64, ref dense.Ref) bool {
		if !more() && !(begun && position == last) {
			next = position
			return false
		}
		begun, last = true, position
		if !k.owner.shows(k.p.store.Key(ref)) {
			return true
		}
		it := k.p.freshView()
		it.home, it.ref = k, ref
		it.load()
		if visit(it) {
			it.hash = k.p.store.Hash(it.key)
		} else {
			k.p.unview(it)
		}
		return true
	})
	return next
}

func keysFacts(args [][]byte, _ int64) Facts {
	return Facts{ValueSize: -1, TTL: -1, MaxItems: MaxKeysCount, Prefix: literalPrefix(args[1])}
}

func keys(c *call) error {
	pattern, err := newGlob(c.cmd.Name, c.args[1])
	if err != nil {
		return err
	}
	k := c.keys()
	if n := k.size(); n > MaxKeysCount {
		return fault.New(fault.TooLarge, c.cmd.Name, "KEYS goes over at most %d keys and this database has %d: use SCAN", MaxKeysCount, n)
	}
	var found []*item
	next := k.walk(0, func() bool { return !pattern.exhausted() }, func(it *item) bool {
		c.step()
		match := !it.expiredAt(c.now) && pattern.match(text(it.key))
		if match {
			found = append(found, it)
		}
		return match
	})
	if next != 0 {
		return fault.About(fault.TooLarge, c.cmd.Name, "pattern", "this pattern takes too long on so many bytes of keys: use SCAN")
	}
	c.out.Array(len(found))
	for _, it := range found {
		c.step()
		c.out.Bulk(it.key)
	}
	return nil
}

var errCursor = fault.About(fault.InvalidArgument, "engine", "cursor", "invalid cursor")

// parseCursor reads a cursor: an unsigned decimal.
func parseCursor(b []byte) (uint64, error) {
	n, err := strconv.ParseUint(string(b), 10, 64)
	if err != nil {
		return 0, errCursor
	}
	return n, nil
}

// parsePlace is parseCursor for a scan over a keyspace. A cursor that is no place in any is one of a cache that had several slot
// ranges when the scan began (see package gateway) and has one now: such a scan begins again, so that it misses nothing.
func parsePlace(b []byte) (uint64, error) {
	n, err := parseCursor(b)
	if n >= dense.Positions {
		n = 0
	}
	return n, err
}

// ScanPlaces is how many places a scan over a keyspace may stand at: its cursors are below it.
const ScanPlaces = dense.Positions

// scanOptions are what stands after the cursor in SCAN and KV.SCAN.
type scanOptions struct {
	match, kind, prefix []byte // nil when not given
	count               int
}

// parseScanOptions reads them; own says that it is for one of our commands: with PREFIX, and errors that name
// the argument.
func parseScanOptions(op string, args [][]byte, own bool) (o scanOptions, err error) {
	o.count = 10
	for ; len(args) > 0; args = args[2:] {
		switch a := args[0]; {
		case len(args) > 1 && is(a, "MATCH"):
			o.match = args[1]
		case len(args) > 1 && is(a, "TYPE"):
			o.kind = args[1]
		case len(args) > 1 && is(a, "PREFIX") && own:
			o.prefix = args[1]
		case len(args) > 1 && is(a, "COUNT"):
			if o.count, err = parseCount(op, args[1], own); err != nil {
				return o, err
			}
		case own:
			return o, errOption(op, a)
		default:
			return o, errSyntax
		}
	}
	return o, nil
}

// parseCount reads the number of items that one step of a scan is to visit or return.
func parseCount(op string, b []byte, own bool) (int, error) {
	n, ok := parseInt(b)
	switch {
	case !ok && !own:
		return 0, errNotInteger
	case ok && n < 1 && !own:
		return 0, errSyntax
	case !ok || n < 1 || n > MaxScanCount:
		return 0, fault.About(fault.OutOfRange, op, "COUNT", "COUNT must be a whole number from 1 to %d", MaxScanCount)
	}
	return int(n), nil
}

func scanFacts(own bool) facts {
	return func(args [][]byte, _ int64) Facts {
		f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
		if o, err := parseScanOptions("", args[2:], own); err == nil {
			f.MaxItems = int64(o.count)
			if f.Prefix = o.prefix; len(f.Prefix) == 0 && o.match != nil {
				f.Prefix = literalPrefix(o.match)
			}
		}
		return f
	}
}

// A scanStep is one step of a scan over the selected database.
type scanStep struct {
	found   []*item
	visited int
	next    uint64 // where the next step begins, 0 after the last
}

// scanFrom reads a scan's arguments and goes on as long as more allows it; a step ends early on keys that are
// expensive to match. It finds each item that stays exactly once, which is more than Redis promises.
func (c *call) scanFrom(own bool, more func(o *scanOptions, s *scanStep) bool) (s scanStep, err error) {
	from, err := parsePlace(c.args[1])
	if err != nil {
		return s, err
	}
	o, err := parseScanOptions(c.cmd.Name, c.args[2:], own)
	if err != nil {
		return s, err
	}
	var pattern *glob
	if o.match != nil {
		if pattern, err = newGlob(c.cmd.Name, o.match); err != nil {
			return s, err
		}
	}
	s.next = c.keys().walk(from, func() bool { return more(&o, &s) && !pattern.exhausted() }, func(it *item) bool {
		s.visited++
		c.p.effort += 40
		match := !it.expiredAt(c.now) && (o.kind == nil || strings.EqualFold(it.value.kind(), text(o.kind))) &&
			bytes.HasPrefix(it.key, o.prefix) && pattern.match(text(it.key))
		if match {
			s.found = append(s.found, it)
		}
		return match
	})
	return s, nil
}

// In SCAN the count is of items visited, as in Redis.
func scan(c *call) error {
	s, err := c.scanFrom(false, func(o *scanOptions, s *scanStep) bool { return s.visited < o.count })
	if err != nil {
		return err
	}
	c.out.Array(2)
	c.cursor(s.next)
	c.out.Array(len(s.found))
	for _, it := range s.found {
		c.out.Bulk(it.key)
	}
	return nil
}

// cursor answers with a cursor.
func (c *call) cursor(n uint64) {
	var buf [20]byte
	c.out.Bulk(strconv.AppendUint(buf[:0], n, 10))
}

// RANDOMKEY draws a few times, each key as likely as any other and the same on every replica. Where it meets only
// what has expired it takes the first live key behind the last draw, around the end.
func randomKey(c *call) error {
	const draws = 16
	k, dice := c.keys(), c.p.random()
	var from uint64
	for range draws {
		ref := k.table.Draw(dice.Uint64)
		if ref == 0 {
			break
		}
		it := k.view(0, ref)
		if !it.expiredAt(c.now) && k.owner.shows(it.key) {
			c.out.Bulk(it.key)
			return nil
		}
		from = dense.Position(c.p.store.Hash(it.key))
	}
	var drawn *item
	for _, start := range [2]uint64{from, 0} {
		k.walk(start, func() bool { return drawn == nil }, func(it *item) bool {
			if drawn == nil && !it.expiredAt(c.now) {
				drawn = it
			}
			return drawn == it
		})
	}
	if drawn == nil {
		c.out.Null()
		return nil
	}
	c.out.Bulk(drawn.key)
	return nil
}
