package engine

import (
	"math"
	"slices"
	"strings"

	"github.com/larder-cache/larder/internal/fault"
)

// MaxContentType bounds the content type of a KV value, in bytes.
const MaxContentType = 255

// KV commands are what HTTP's key-value resource needs beyond Redis: strings with a version and a content
// type, conditions on the version, and steps through the keyspace that tell more than names.
var kvCommands = []Command{
	{Name: "KV.GET", Arity: -2, Keys: oneKey, Flags: Fast, Group: GroupKV, Action: "cache:Get", run: kvGet,
		Usage: "key [META | RANGE first last]", Summary: "Returns a string with its version, TTL, content type, size and, last, memcached's flags", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "KV.SET", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupKV, Action: "cache:Set", Facts: kvSetFacts, run: kvSet,
		Usage:   "key value [TYPE content-type] [FLAGS number] [PX milliseconds | PXAT unix-time-milliseconds | KEEPTTL] [IFNONE | IFANY | IFMATCH version [IFMATCH version ...]]",
		Summary: "Stores a string with its content type and flags, on a condition if one is given, and returns its new version", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "KV.APPEND", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupKV, Action: "cache:Append", Facts: valueAt(2), run: kvAppend,
		Usage:   "key value [IFMATCH version [IFMATCH version ...]]",
		Summary: "Adds bytes to the end of a string and returns its new version and size", Complexity: "O(1) on average, for a short addition", Since: "1.0.0"},
	{Name: "KV.DEL", Arity: -2, Keys: oneKey, Flags: Writes | Fast, Group: GroupKV, Action: "cache:Delete", run: kvDel,
		Usage: "key [IFMATCH version [IFMATCH version ...]]", Summary: "Removes a key, if it has one of the versions given", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "KV.SCAN", Arity: -2, Spread: PartsInTurn, PageItem: 4, PageCount: 10, Group: GroupKV, Action: "cache:Scan", Facts: scanFacts(true), run: kvScan,
		Usage:   "cursor [PREFIX prefix] [MATCH pattern] [TYPE type] [COUNT count]",
		Summary: "Lists at most COUNT keys with type, TTL and size, step by step", Complexity: "O(1) for each of at most 10,000 items visited", Since: "1.0.0"},
	{Name: "KV.DELPREFIX", Arity: -3, Spread: PartsInTurn, PageCount: delPrefixCount, Flags: Writes, Group: GroupKV, Action: "cache:DeleteByPrefix", Facts: delPrefixFacts, run: kvDelPrefix,
		Usage: "cursor prefix [COUNT count]", Summary: "Removes at most COUNT keys that begin with a prefix, step by step", Complexity: "O(1) for each of at most 10,000 items visited", Since: "1.0.0"},
}

// errOption refuses an option of one of our own commands that is unknown, incomplete or in contradiction.
func errOption(op string, option []byte) error {
	name := strings.ToUpper(string(option[:min(len(option), 32)]))
	return fault.About(fault.InvalidArgument, op, name, "option %q is unknown here, lacks its argument or contradicts another", name)
}

// conditions say which versions of a value a command may change.
type conditions struct {
	none, any bool // IFNONE, IFANY
	versions  []uint64
}

// parse reads the condition at the beginning of args and returns how many arguments it takes, 0 when it is
// something else. Only one kind of condition makes sense at a time.
func (o *conditions) parse(op string, args [][]byte) (taken int, err error) {
	a := args[0]
	switch {
	case is(a, "IFNONE"):
		o.none, taken = true, 1
	case is(a, "IFANY"):
		o.any, taken = true, 1
	case is(a, "IFMATCH") && len(args) > 1:
		version, ok := parseInt(args[1])
		if !ok || version < 0 {
			return 0, fault.About(fault.InvalidArgument, op, "IFMATCH", "IFMATCH needs a version: a whole number from 0 to %d", int64(math.MaxInt64))
		}
		o.versions, taken = append(o.versions, uint64(version)), 2
	default:
		return 0, nil
	}
	if (o.none && o.any) || (len(o.versions) > 0 && (o.none || o.any)) {
		return 0, errOption(op, a)
	}
	return taken, nil
}

// check returns the fault when a condition does not hold for what is under a key, nil for nothing.
func (o *conditions) check(op string, it *item) error {
	failed := func(why string) error { return fault.New(fault.PreconditionFailed, op, "precondition failed: %s", why) }
	switch {
	case o.none && it != nil:
		return failed("the key exists")
	case o.any && it == nil:
		return failed("the key does not exist")
	case len(o.versions) == 0:
		return nil
	case it == nil:
		return failed("the key does not exist")
	}
	s, ok := it.value.(*stringValue)
	if !ok {
		return errWrongType
	}
	if !slices.Contains(o.versions, s.version) {
		return failed("the value has another version")
	}
	return nil
}

// parseMatches reads the options of a command that takes nothing but IFMATCH.
func parseMatches(op string, args [][]byte) (o conditions, err error) {
	for len(args) > 0 {
		n, err := o.parse(op, args)
		if err != nil {
			return o, err
		}
		if n != 2 {
			return o, errOption(op, args[0])
		}
		args = args[n:]
	}
	return o, nil
}

func kvGet(c *call) error {
	first, last, meta := int64(0), int64(-1), false
	switch rest := c.args[2:]; {
	case len(rest) == 0:
	case is(rest[0], "META") && len(rest) == 1:
		meta = true
	case is(rest[0], "RANGE") && len(rest) == 3:
		var ok1, ok2 bool
		first, ok1 = parseInt(rest[1])
		last, ok2 = parseInt(rest[2])
		if !ok1 || !ok2 {
			return fault.About(fault.InvalidArgument, c.cmd.Name, "RANGE", "RANGE needs two whole numbers of 64 bits")
		}
	default:
		return errOption(c.cmd.Name, rest[0])
	}
	s, it, err := c.read(c.args[1])
	if err != nil {
		return err
	}
	if s == nil {
		c.out.Null()
		return nil
	}
	c.out.Array(6)
	c.out.Int(int64(s.version))
	c.out.Int(c.ttlOf(it))
	c.out.Text(s.contentType)
	c.out.Int(int64(s.len()))
	if meta {
		c.out.Bulk(nil)
	} else {
		c.out.Bulk(slice(s.data, first, last))
	}
	c.out.Int(int64(s.flags))
	return nil
}

// kvSetOptions are what stands after the value in KV.SET.
type kvSetOptions struct {
	contentType []byte
	flags       uint32 // memcached's
	expiry      expiry
	keepTTL     bool
	conditions
}

func parseKVSetOptions(op string, args [][]byte) (o kvSetOptions, err error) {
	for len(args) > 0 {
		n := 0
		switch a := args[0]; {
		case is(a, "TYPE") && len(args) > 1:
			o.contentType, n = args[1], 2
		case is(a, "FLAGS") && len(args) > 1:
			flags, ok := parseInt(args[1])
			if !ok || flags < 0 || flags > math.MaxUint32 {
				return o, fault.About(fault.InvalidArgument, op, "FLAGS", "FLAGS needs a whole number from 0 to %d", uint32(math.MaxUint32))
			}
			o.flags, n = uint32(flags), 2
		case is(a, "KEEPTTL"):
			o.keepTTL, n = true, 1
		case is(a, "PX"), is(a, "PXAT"):
			if n, err = o.expiry.parse(args); err != nil {
				return o, errOption(op, a)
			}
		default:
			if n, err = o.conditions.parse(op, args); err != nil {
				return o, err
			}
		}
		if n == 0 || (o.keepTTL && o.expiry.given()) {
			return o, errOption(op, args[0])
		}
		args = args[n:]
	}
	return o, nil
}

func kvSetFacts(args [][]byte, now int64) Facts {
	f := valueAt(2)(args, now)
	if o, err := parseKVSetOptions("", args[3:]); err == nil {
		f.TTL = o.expiry.ttl(now)
	}
	return f
}

// checkContentType refuses what could not stand in an HTTP header as it is.
func checkContentType(op string, b []byte) error {
	if len(b) > MaxContentType {
		return fault.About(fault.TooLarge, op, "TYPE", "content type of %d bytes is too long: the limit is %d", len(b), MaxContentType)
	}
	for _, x := range b {
		if x < ' ' || x > '~' {
			return fault.About(fault.InvalidArgument, op, "TYPE", "content type has a byte that is not printable ASCII")
		}
	}
	return nil
}

// ownDeadline is deadline for our own commands, whose errors name the argument.
func (c *call) ownDeadline(e expiry) (int64, error) {
	at, err := c.deadline(e)
	if err != nil {
		name := strings.ToUpper(string(e.option))
		return 0, fault.About(fault.InvalidArgument, c.cmd.Name, name, "%s needs a whole number of milliseconds, at least 1, for a time before %d", name, int64(math.MaxInt64))
	}
	return at, nil
}

func kvSet(c *call) error {
	key, data := c.args[1], c.args[2]
	o, err := parseKVSetOptions(c.cmd.Name, c.args[3:])
	if err != nil {
		return err
	}
	at := c.defaultDeadline()
	if o.expiry.given() {
		if at, err = c.ownDeadline(o.expiry); err != nil {
			return err
		}
	}
	if err := c.checkSizes(key, int64(len(data))); err != nil {
		return err
	}
	if err := checkContentType(c.cmd.Name, o.contentType); err != nil {
		return err
	}
	it := c.get(key)
	if err := o.check(c.cmd.Name, it); err != nil {
		return err
	}
	created := it == nil
	if it != nil {
		if _, ok := it.value.(*stringValue); !ok {
			return errWrongType
		}
		if o.keepTTL {
			at = it.expireAt
		}
	}
	version := c.p.nextVersion()
	if at != 0 && at <= c.now { // a PXAT that has come: written and expired in one
		c.remove(key)
	} else {
		c.putString(key, stringValue{data: data, version: version, contentType: text(o.contentType), flags: o.flags}, at)
	}
	c.out.Array(2)
	c.flag(created)
	c.out.Int(int64(version))
	return nil
}

// flag answers 1 or 0.
func (c *call) flag(v bool) {
	if v {
		c.out.Int(1)
	} else {
		c.out.Int(0)
	}
}

func kvAppend(c *call) error {
	key := c.args[1]
	o, err := parseMatches(c.cmd.Name, c.args[3:])
	if err != nil {
		return err
	}
	s, it, err := lookup[*stringValue](c, key)
	if err != nil {
		return err
	}
	if err := o.check(c.cmd.Name, it); err != nil {
		return err
	}
	if it, err = c.extend(key, s, it, c.args[2]); err != nil {
		return err
	}
	longer := &it.str
	c.out.Array(3)
	c.flag(s == nil)
	c.out.Int(int64(longer.version))
	c.out.Int(int64(longer.len()))
	return nil
}

// Removing what is not there is no failure of a condition: there is nothing to do, as without one.
func kvDel(c *call) error {
	o, err := parseMatches(c.cmd.Name, c.args[2:])
	if err != nil {
		return err
	}
	it := c.peek(c.args[1])
	if it != nil {
		if err := o.check(c.cmd.Name, it); err != nil {
			return err
		}
		c.dropItem(it)
	}
	c.flag(it != nil)
	return nil
}

// A measured value has a size that its owner thinks of: bytes of a string, elements of a collection.
type measured interface{ len() int }

// In KV.SCAN the count is of items returned: a page holds what was asked for where the keyspace has it, unless
// MaxScanCount items had to be visited for it.
func kvScan(c *call) error {
	s, err := c.scanFrom(true, func(o *scanOptions, s *scanStep) bool {
		return len(s.found) < o.count && s.visited < MaxScanCount
	})
	if err != nil {
		return err
	}
	c.out.Array(2)
	c.cursor(s.next)
	c.out.Array(4 * len(s.found))
	for _, it := range s.found {
		c.out.Bulk(it.key)
		c.out.Text(it.value.kind())
		c.out.Int(c.ttlOf(it))
		var n int64
		switch v := it.value.(type) {
		case measured:
			n = int64(v.len())
		case *hashValue:
			n = int64(v.live(c.now))
		}
		c.out.Int(n)
	}
	return nil
}

// delPrefixCount is how many keys a step of KV.DELPREFIX removes that names no COUNT.
const delPrefixCount = 1000

func delPrefixFacts(args [][]byte, _ int64) Facts {
	return Facts{ValueSize: -1, TTL: -1, MaxItems: -1, Prefix: args[2]}
}

// Every replica removes the same keys in a step: positions do not depend on how a table came to its size.
func kvDelPrefix(c *call) error {
	from, err := parsePlace(c.args[1])
	if err != nil {
		return err
	}
	prefix, count := string(c.args[2]), delPrefixCount
	if prefix == "" {
		return fault.About(fault.InvalidArgument, c.cmd.Name, "prefix", "prefix is empty: FLUSHDB removes all keys")
	}
	switch rest := c.args[3:]; {
	case len(rest) == 0:
	case is(rest[0], "COUNT") && len(rest) == 2:
		if count, err = parseCount(c.cmd.Name, rest[1], true); err != nil {
			return err
		}
	default:
		return errOption(c.cmd.Name, rest[0])
	}
	var doomed []*item
	visited := 0
	next := c.keys().walk(from, func() bool { return len(doomed) < count && visited < MaxScanCount }, func(it *item) bool {
		visited++
		match := !it.expiredAt(c.now) && strings.HasPrefix(text(it.key), prefix)
		if match {
			doomed = append(doomed, it)
		}
		return match
	})
	for _, it := range doomed {
		c.dropItem(it)
	}
	c.out.Array(2)
	c.cursor(next)
	c.out.Int(int64(len(doomed)))
	return nil
}
