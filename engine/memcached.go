package engine

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/internal/fault"
)

// Memcached's commands are on the strings that all protocols share. Beside its bytes a string has memcached's flags, and
// its version is the CAS token. What only few items need, they pay for: see marks.
//
// Times are memcached's: 0 is never, a negative one is past, up to 30 days are seconds from now, more are seconds since
// 1970.
var memcachedCommands = []Command{
	{Name: "MC.GET", Arity: -2, Keys: oneKey, Flags: Fast, Group: GroupMemcached, Action: "cache:Get", run: mcGet,
		Usage: "key [META]", Summary: "Returns a string's flags, version, TTL in milliseconds, marks, seconds since its last access, and its bytes or their number",
		Complexity: "O(1)", Since: "1.0.0"},
	{Name: "MC.GAT", Arity: -3, Keys: oneKey, Flags: Writes | Fast, Group: GroupMemcached, Action: "cache:Get", Also: alsoOnKey("cache:Expire"), Facts: mcTimeAt(2), run: mcGat,
		Usage: "key exptime [META]", Summary: "Changes when a string expires and returns what MC.GET does", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "MC.FETCH", Arity: -2, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupMemcached, Action: "cache:Get", Also: mcFetchRights, run: mcFetch,
		Usage:      "key [META] [NOTE] [TOUCH exptime] [VIVIFY exptime] [RECACHE exptime] [NEWCAS version]",
		Summary:    "Returns a string as MC.GET does, with its TTL afterwards and whether it was made, and lets one caller at a time win the task of making it anew",
		Complexity: "O(1)", Since: "1.0.0"},
	{Name: "MC.SET", Arity: -5, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupMemcached, Action: "cache:Set", Rights: mcSetRights, Facts: mcSetFacts, run: mcSet,
		Usage:   "key value flags exptime [ADD | REPLACE | APPEND | PREPEND] [CAS version] [NEWCAS version] [STALE] [VIVIFY exptime]",
		Summary: "Stores a string with its flags and returns its version and size, or why it was not stored", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "MC.INCR", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupMemcached, Action: "cache:Increment", Also: mcAlsoExpire(3), run: func(c *call) error { return c.mcAdd(true) },
		Usage:   "key delta [CAS version] [NEWCAS version] [INITIAL value exptime] [TOUCH exptime]",
		Summary: "Adds to an unsigned integer of 64 bits, which wraps around", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "MC.DECR", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupMemcached, Action: "cache:Increment", Also: mcAlsoExpire(3), run: func(c *call) error { return c.mcAdd(false) },
		Usage:   "key delta [CAS version] [NEWCAS version] [INITIAL value exptime] [TOUCH exptime]",
		Summary: "Takes from an unsigned integer of 64 bits, down to 0", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "MC.TOUCH", Arity: 3, Keys: oneKey, Flags: Writes | Fast, Group: GroupMemcached, Action: "cache:Expire", Facts: mcTimeAt(2), run: mcTouch,
		Usage: "key exptime", Summary: "Changes when a string expires and returns its flags and version", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "MC.DEL", Arity: -2, Keys: oneKey, Flags: Writes | Fast, Group: GroupMemcached, Action: "cache:Delete", Also: mcAlsoExpire(2), run: mcDel,
		Usage:   "key [CAS version] [STALE] [CLEAR] [TOUCH exptime] [NEWCAS version]",
		Summary: "Removes a key, or marks its string as stale, or takes its bytes away", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "MC.FLUSH", Arity: -1, Spread: PartsSame, Flags: Writes | Dangerous, Group: GroupMemcached, Action: "cache:Flush", run: mcFlush,
		Usage: "[exptime]", Summary: "Removes every key of the selected database, at once or later", Complexity: "O(N)", Since: "1.0.0"},

	{Name: "LARDER.FLUSH", Arity: 2, Flags: Writes | internal, Group: GroupServer, run: (*call).flushDue,
		Usage: "db", Summary: "Empties a database whose delayed flush is due, which the leader found"},
}

// flushDue is the row of the leader's own entry. It is set late, since the table of rows needs their functions first.
var flushDue *Command

func init() { flushDue = MustLookup("LARDER.FLUSH") }

// marks are what memcached's meta commands note of an item. Only an item that has one pays for them: five bytes, and
// what flags and content type take.
type marks uint8

// The marks.
const (
	markStale    marks = 1 << iota // it is old, and somebody should make it anew
	markWon                        // somebody has been told to make it anew
	markFetched                    // it was asked for before by one of the fetches that note it
	markAccessed                   // accessed says when: see accessTime
)

// Marks of MC.GET's and MC.FETCH's replies. Won and Made are MC.FETCH's.
const (
	MarkStale   = 1 << iota // the item is stale
	MarkSent                // somebody else has been told to make it anew
	MarkFetched             // it was asked for before
	MarkWon                 // the caller is to make it anew
	MarkMade                // it was not there and has been made, empty
)

// monthSeconds is the longest time that memcached takes for a span and not for a date.
const monthSeconds = 60 * 60 * 24 * 30

// mcDeadline turns one of memcached's times into milliseconds since 1970, 0 for never. past reports a time that has come.
func mcDeadline(op string, arg []byte, now int64) (at int64, past bool, err error) {
	n, ok := parseInt(arg)
	switch {
	case !ok || n > math.MaxInt64/1000:
		return 0, false, fault.About(fault.InvalidArgument, op, "exptime", "invalid exptime argument")
	case n == 0:
		return 0, false, nil
	case n < 0:
		return now, true, nil
	case n <= monthSeconds:
		return now + n*1000, false, nil
	}
	return n * 1000, n*1000 <= now, nil
}

// mcTimeAt makes the facts of a command whose argument i is one of memcached's times.
func mcTimeAt(i int) facts {
	return func(args [][]byte, now int64) Facts {
		return Facts{ValueSize: -1, TTL: mcTTL(args[i], now), MaxItems: -1}
	}
}

// mcTTL is what a time gives a value to live, -1 for no end.
func mcTTL(arg []byte, now int64) int64 {
	at, past, err := mcDeadline("", arg, now)
	switch {
	case err != nil || at == 0:
		return -1
	case past:
		return 0
	}
	return at - now
}

// mcOptions are the words that stand at the end of memcached's commands.
type mcOptions struct {
	meta, note, stale, clear   bool
	mode                       mcMode
	hasCAS, hasNew, hasInitial bool
	cas, newCAS, initial       uint64
	touch, vivify, recache     []byte // times; nil where they are not given
	vivified                   bool   // VIVIFY stands behind TOUCH, so that it has the last word
	recached                   bool   // TOUCH stands behind RECACHE
}

type mcMode uint8

const (
	mcModeSet mcMode = iota
	mcModeAdd
	mcModeReplace
	mcModeAppend
	mcModePrepend
)

var mcModes = []string{"SET", "ADD", "REPLACE", "APPEND", "PREPEND"}

// maxVersion is the largest version that a string can have.
const maxVersion = 1<<56 - 1

// mcParse reads the words of args, of which a command knows those in known.
func mcParse(op string, args [][]byte, now int64, known ...string) (o mcOptions, err error) {
	for len(args) > 0 {
		a, n := args[0], 1
		if !slices.ContainsFunc(known, func(word string) bool { return is(a, word) }) {
			return o, errOption(op, a)
		}
		time := func(to *[]byte) {
			if len(args) < 2 {
				err = errOption(op, a)
				return
			}
			n = 2
			*to = args[1]
			_, _, err = mcDeadline(op, args[1], now)
		}
		number := func(to *uint64, most uint64) {
			if len(args) < 2 {
				err = errOption(op, a)
				return
			}
			n = 2
			v, failed := strconv.ParseUint(text(args[1]), 10, 64)
			if failed != nil || v > most {
				err = fault.About(fault.InvalidArgument, op, strings.ToUpper(string(a)), "%s needs a whole number from 0 to %d", a, most)
			}
			*to = v
		}
		switch {
		case is(a, "META"):
			o.meta = true
		case is(a, "NOTE"):
			o.note = true
		case is(a, "STALE"):
			o.stale = true
		case is(a, "CLEAR"):
			o.clear = true
		case is(a, "CAS"):
			o.hasCAS = true
			number(&o.cas, math.MaxUint64)
		case is(a, "NEWCAS"):
			o.hasNew = true
			number(&o.newCAS, maxVersion)
		case is(a, "TOUCH"):
			o.recached, o.vivified = o.recache != nil, false
			time(&o.touch)
		case is(a, "VIVIFY"):
			o.vivified = o.touch != nil
			time(&o.vivify)
		case is(a, "RECACHE"):
			o.recached = false
			time(&o.recache)
		case is(a, "INITIAL"):
			o.hasInitial = true
			number(&o.initial, math.MaxUint64)
			if err == nil {
				if len(args) < 3 {
					return o, errOption(op, a)
				}
				_, _, err = mcDeadline(op, args[2], now)
				o.vivify, n = args[2], 3
			}
		default:
			at := slices.IndexFunc(mcModes, func(word string) bool { return is(a, word) })
			if o.mode != mcModeSet {
				return o, errOption(op, a)
			}
			o.mode = mcMode(at)
		}
		if err != nil {
			return o, err
		}
		args = args[n:]
	}
	return o, nil
}

// version is the next one, or that which the caller chose.
func (o *mcOptions) version(p *Partition) uint64 {
	if o.hasNew {
		return o.newCAS
	}
	return p.nextVersion()
}

// accessTime is a time as marks keep it: in seconds since versionEpoch.
func accessTime(now int64) uint32 { return uint32(max(now-versionEpoch, 0) / 1000) }

// idle is how many seconds ago s was used as far as is known: by a fetch that noted it or, without one, when it was
// written, which its version tells.
func (s *stringValue) idle(now int64) int64 {
	if s.marks&markAccessed != 0 {
		return max((now-versionEpoch)/1000-int64(s.accessed), 0)
	}
	return max(now-versionEpoch-int64(s.version>>16), 0) / 1000
}

// mcString finds a string. What has another type counts as absent: these commands are about strings.
func (c *call) mcString(key []byte) (*stringValue, *item) {
	s, it, err := lookup[*stringValue](c, key)
	if err != nil {
		return nil, nil
	}
	return s, it
}

// mcItem answers with what a fetch returns.
func (c *call) mcItem(s *stringValue, ttl, marked int64, idle int64, meta bool) {
	c.out.Int(int64(s.flags))
	c.out.Int(int64(s.version))
	c.out.Int(ttl)
	c.out.Int(marked)
	c.out.Int(idle)
	if meta {
		c.out.Int(int64(len(s.data)))
	} else {
		c.out.Bulk(s.data)
	}
}

// told are the marks as replies have them.
func (s *stringValue) told() int64 { return int64(s.marks & (markStale | markWon | markFetched)) }

func mcMeta(c *call, at int) (meta bool, err error) {
	switch rest := c.args[at:]; {
	case len(rest) == 0:
		return false, nil
	case len(rest) == 1 && is(rest[0], "META"):
		return true, nil
	default:
		return false, errOption(c.cmd.Name, rest[0])
	}
}

func mcGet(c *call) error {
	meta, err := mcMeta(c, 2)
	if err != nil {
		return err
	}
	s, it := c.mcString(c.args[1])
	c.count(s != nil)
	if s == nil {
		c.out.Null()
		return nil
	}
	c.out.Array(6)
	c.mcItem(s, c.ttlOf(it), s.told(), s.idle(c.now), meta)
	return nil
}

func mcGat(c *call) error {
	meta, err := mcMeta(c, 3)
	if err != nil {
		return err
	}
	at, _, err := mcDeadline(c.cmd.Name, c.args[2], c.now)
	if err != nil {
		return err
	}
	s, it := c.mcString(c.args[1])
	c.count(s != nil)
	if s == nil {
		c.out.Null()
		return nil
	}
	ttl := max(at-c.now, 0)
	if at == 0 {
		ttl = -1
	}
	if err := c.expire(it, at); err != nil {
		return err
	}
	c.out.Array(6)
	c.mcItem(s, ttl, s.told(), s.idle(c.now), meta)
	return nil
}

func mcTouch(c *call) error {
	at, _, err := mcDeadline(c.cmd.Name, c.args[2], c.now)
	if err != nil {
		return err
	}
	s, it := c.mcString(c.args[1])
	if s == nil {
		c.out.Null()
		return nil
	}
	flags, version := s.flags, s.version
	if err := c.expire(it, at); err != nil {
		return err
	}
	c.out.Array(2)
	c.out.Int(int64(flags))
	c.out.Int(int64(version))
	return nil
}

// mcAlsoExpire makes the rights of a command that may be told to change a deadline, in the words from argument i on.
func mcAlsoExpire(i int) rights {
	return func(dst []Right, args [][]byte) []Right {
		for _, a := range args[min(i, len(args)):] {
			if is(a, "TOUCH") {
				return append(dst, Right{Action: "cache:Expire", On: OnKey, Name: args[1]})
			}
		}
		return dst
	}
}

// MC.FETCH may make an item, which is to set it.
func mcFetchRights(dst []Right, args [][]byte) []Right {
	for _, a := range args[min(2, len(args)):] {
		if is(a, "VIVIFY") {
			dst = append(dst, Right{Action: "cache:Set", On: OnKey, Name: args[1]})
			break
		}
	}
	return mcAlsoExpire(2)(dst, args)
}

// mcFetch is memcached's mg, as far as it changes anything: it keeps the stampede away from what expires. Of all who ask
// for an item that is stale, that is about to expire or that is not there, one wins: it is to make the item anew.
func mcFetch(c *call) error {
	key := c.args[1]
	o, err := mcParse(c.cmd.Name, c.args[2:], c.now, "META", "NOTE", "TOUCH", "VIVIFY", "RECACHE", "NEWCAS")
	if err != nil {
		return err
	}
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	s, it := c.mcString(key)
	c.count(s != nil)
	made := s == nil && o.vivify != nil
	if s == nil && !made {
		c.out.Null()
		return nil
	}
	var v stringValue
	var before, after int64
	if made {
		v = stringValue{version: o.version(c.p)}
	} else {
		v, before = *s, it.expireAt
	}
	told, idle := v.told(), v.idle(c.now)
	won, past := false, false
	if after = before; o.touch != nil {
		after, past, _ = mcDeadline(c.cmd.Name, o.touch, c.now)
	}
	if made && (o.touch == nil || o.vivified) {
		after, past, _ = mcDeadline(c.cmd.Name, o.vivify, c.now)
	}
	if o.recache != nil && !made && v.marks&markWon == 0 {
		has := after
		if o.recached {
			has = before
		}
		within, _, _ := mcDeadline(c.cmd.Name, o.recache, c.now)
		won = has != 0 && has < within
	}
	won = won || made || (v.marks&markStale != 0 && v.marks&markWon == 0)
	if won {
		v.marks |= markWon
		told |= MarkWon
	}
	if made {
		told |= MarkMade
	}
	if o.note {
		v.marks |= markFetched | markAccessed
		v.accessed = accessTime(c.now)
	}
	// What is shown is the item as it was; what is stored may lie where that was.
	shown := append(c.p.scratch[:0], v.data...)
	c.p.scratch = keep(shown)
	v.data = shown
	switch {
	case past:
		if it != nil {
			c.dropItem(it)
		} else {
			c.remove(key)
		}
	case made || v.marks != s.marks || v.accessed != s.accessed:
		v.room = 0
		c.putString(key, v, after)
	case after != before:
		if err := c.expire(it, after); err != nil {
			return err
		}
	}
	c.out.Array(7)
	c.out.Int(c.left(after))
	c.mcItem(&v, c.left(before), told, idle, o.meta)
	return nil
}

// left is how long it is until a deadline, -1 for none.
func (c *call) left(at int64) int64 {
	if at == 0 {
		return -1
	}
	return max(at-c.now, 0)
}

var mcSetWords = []string{"ADD", "REPLACE", "APPEND", "PREPEND", "CAS", "NEWCAS", "STALE", "VIVIFY"}

func mcSetRights(dst []Right, args [][]byte) []Right {
	action, also := "cache:Set", ""
	for _, a := range args[min(5, len(args)):] {
		switch {
		case is(a, "APPEND"), is(a, "PREPEND"):
			action = "cache:Append"
		case is(a, "CAS"):
			also = "cache:CompareAndSet"
		case is(a, "VIVIFY") && action == "cache:Append":
			also = "cache:Set"
		}
	}
	if also == "cache:CompareAndSet" && action == "cache:Set" { // which is all that a cas is
		action, also = also, ""
	}
	dst = append(dst, Right{Action: action, On: OnKey, Name: args[1]})
	if also != "" {
		dst = append(dst, Right{Action: also, On: OnKey, Name: args[1]})
	}
	return dst
}

func mcSetFacts(args [][]byte, now int64) Facts {
	f := valueAt(2)(args, now)
	f.TTL = mcTTL(args[4], now)
	return f
}

// Replies of MC.SET and MC.DEL for what they did not do, or did.
const (
	mcNotStored = "NOT_STORED"
	mcExists    = "EXISTS"
	mcNotFound  = "NOT_FOUND"
	mcDeleted   = "DELETED"
)

func mcSet(c *call) error {
	key, data := c.args[1], c.args[2]
	flags, failed := strconv.ParseUint(text(c.args[3]), 10, 32)
	if failed != nil {
		return fault.About(fault.InvalidArgument, c.cmd.Name, "flags", "flags needs a whole number from 0 to %d", uint32(math.MaxUint32))
	}
	var o mcOptions
	if len(c.args) > 5 {
		var err error
		if o, err = mcParse(c.cmd.Name, c.args[5:], c.now, mcSetWords...); err != nil {
			return err
		}
	}
	at, past, err := mcDeadline(c.cmd.Name, c.args[4], c.now)
	if err != nil {
		return err
	}
	if at == 0 {
		at = c.defaultDeadline()
	}
	if err := c.checkSizes(key, int64(len(data))); err != nil {
		return err
	}
	it := c.get(key)
	var s *stringValue
	if it != nil {
		s, _ = it.value.(*stringValue)
	}
	v := stringValue{data: data, flags: uint32(flags)}
	adds := o.mode == mcModeAppend || o.mode == mcModePrepend
	cas := o.hasCAS && o.cas != 0
	switch compares := o.hasCAS && (o.mode == mcModeSet || o.mode == mcModeReplace); {
	case it == nil && compares:
		c.out.Status(mcNotFound)
		return nil
	case it == nil && adds && o.vivify != nil:
		at, past, _ = mcDeadline(c.cmd.Name, o.vivify, c.now)
	case it == nil && (adds || o.mode == mcModeReplace), it != nil && o.mode == mcModeAdd:
		c.out.Status(mcNotStored)
		return nil
	case it == nil:
	case compares && s != nil && cas && o.cas == s.version:
	case compares && s != nil && cas && o.stale && o.cas < s.version:
		at, past = it.expireAt, false
		v.marks = s.marks&markWon | markStale
	case compares, adds && cas && (s == nil || o.cas != s.version):
		c.out.Status(mcExists)
		return nil
	case adds && s == nil:
		return errWrongType
	case adds:
		if err := c.checkSizes(key, int64(len(s.data)+len(data))); err != nil {
			c.out.Status(mcNotStored) // as memcached says it
			return nil
		}
		c.mcAttach(key, s, it, data, &o)
		return nil
	}
	v.version = o.version(c.p)
	if o.hasNew {
		v.marks |= markAccessed
		v.accessed = accessTime(c.now)
	}
	if past {
		c.remove(key)
	} else {
		c.putString(key, v, at)
	}
	c.stored(v.version, len(data))
	return nil
}

// stored answers that something was stored.
func (c *call) stored(version uint64, size int) {
	c.out.Array(2)
	c.out.Int(int64(version))
	c.out.Int(int64(size))
}

// mcAttach puts data before or behind the string s.
func (c *call) mcAttach(key []byte, s *stringValue, it *item, data []byte, o *mcOptions) {
	if o.mode == mcModeAppend && s.marks == 0 && !o.hasNew {
		n := len(s.data)
		it = c.extended(key, s, it, n+len(data))
		copy(it.str.data[n:], data)
		c.stored(it.str.version, len(it.str.data))
		return
	}
	joined := c.p.scratch[:0]
	if o.mode == mcModePrepend {
		joined = append(joined, data...)
	}
	joined = append(joined, s.data...)
	if o.mode == mcModeAppend {
		joined = append(joined, data...)
	}
	c.p.scratch = keep(joined)
	v := stringValue{data: joined, version: o.version(c.p), flags: s.flags, contentType: s.contentType}
	if o.hasNew {
		v.marks, v.accessed = markAccessed, accessTime(c.now)
	}
	c.putString(key, v, it.expireAt)
	c.stored(v.version, len(joined))
}

var errNotNumber = fault.New(fault.InvalidArgument, "engine.mc_add", "cannot increment or decrement non-numeric value")

// mcAdd adds to a number, or takes from it. It is written where it stood, with spaces behind it when it has become
// shorter, as memcached does, so that who reads it meanwhile finds a number of the same width.
func (c *call) mcAdd(up bool) error {
	key := c.args[1]
	by, failed := strconv.ParseUint(text(c.args[2]), 10, 64)
	if failed != nil {
		return fault.About(fault.InvalidArgument, c.cmd.Name, "delta", "invalid numeric delta argument")
	}
	o, err := mcParse(c.cmd.Name, c.args[3:], c.now, "CAS", "NEWCAS", "INITIAL", "TOUCH")
	if err != nil {
		return err
	}
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	it := c.get(key)
	if it == nil && !o.hasInitial {
		c.out.Status(mcNotFound)
		return nil
	}
	var before, after int64
	var past bool
	v := stringValue{}
	digits := c.digits[:0]
	if it == nil {
		digits = strconv.AppendUint(digits, o.initial, 10)
		v.data = digits
		after, past, _ = mcDeadline(c.cmd.Name, o.vivify, c.now)
	} else {
		s, ok := it.value.(*stringValue)
		if !ok {
			return errWrongType
		}
		if len(s.data) == 0 {
			return errNotNumber
		}
		if o.hasCAS && o.cas != 0 && o.cas != s.version {
			c.out.Status(mcExists)
			return nil
		}
		n, ok := ParseC(s.data)
		if !ok {
			return errNotNumber
		}
		switch {
		case up:
			n += by
		case by > n:
			n = 0
		default:
			n -= by
		}
		digits = strconv.AppendUint(digits, n, 10)
		v = *s
		v.data = digits
		if len(digits) < len(s.data) {
			wide := append(c.p.scratch[:0], digits...)
			for len(wide) < len(s.data) {
				wide = append(wide, ' ')
			}
			c.p.scratch = keep(wide)
			v.data = wide
		} else if len(digits) > len(s.data) { // a new item, to memcached
			v.marks = 0
		}
		before = it.expireAt
		after = before
	}
	if o.touch != nil {
		after, past, _ = mcDeadline(c.cmd.Name, o.touch, c.now)
	}
	v.version, v.room = o.version(c.p), 0
	if o.hasNew {
		v.marks |= markAccessed
		v.accessed = accessTime(c.now)
	}
	if past {
		c.remove(key)
	} else {
		c.putString(key, v, after)
	}
	c.out.Array(5)
	c.out.Int(int64(v.version))
	c.out.Int(c.left(before))
	c.out.Int(c.left(after))
	c.flag(it == nil)
	c.out.Bulk(digits)
	return nil
}

// ParseC reads an unsigned number of 64 bits from the beginning of b as C's strtoull does, and memcached with it: spaces
// may come first, a sign, and anything after a space. A negative number that wraps around into the lower half passes, as
// it does there.
func ParseC(b []byte) (uint64, bool) {
	i, negative := 0, false
	for i < len(b) && isCSpace(b[i]) {
		i++
	}
	if i < len(b) && (b[i] == '-' || b[i] == '+') {
		negative = b[i] == '-'
		i++
	}
	first, n := i, uint64(0)
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		d := uint64(b[i] - '0')
		if n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	if i == first || (i < len(b) && !isCSpace(b[i]) && b[i] != 0) {
		return 0, false
	}
	if negative {
		n = -n
	}
	if int64(n) < 0 {
		whole := b
		if end := slices.Index(whole, 0); end >= 0 {
			whole = whole[:end]
		}
		if slices.Contains(whole, '-') {
			return 0, false
		}
	}
	return n, true
}

func isCSpace(c byte) bool { return c == ' ' || ('\t' <= c && c <= '\r') }

func mcDel(c *call) error {
	key := c.args[1]
	o, err := mcParse(c.cmd.Name, c.args[2:], c.now, "CAS", "STALE", "CLEAR", "TOUCH", "NEWCAS")
	if err != nil {
		return err
	}
	it := c.peek(key)
	if it == nil {
		c.out.Status(mcNotFound)
		return nil
	}
	s, _ := it.value.(*stringValue)
	switch {
	case o.hasCAS && (s == nil || s.version != o.cas):
		c.out.Status(mcExists)
		return nil
	case !o.stale && !o.clear:
		c.dropItem(it)
		c.out.Status(mcDeleted)
		return nil
	case s == nil:
		return errWrongType
	}
	v, at, past := *s, it.expireAt, false
	v.room = 0
	if o.clear {
		v, at = stringValue{}, 0
	}
	if o.touch != nil && (o.stale || o.clear) {
		at, past, _ = mcDeadline(c.cmd.Name, o.touch, c.now)
	}
	if o.stale {
		v.marks = v.marks&^markWon | markStale
	}
	v.version = o.version(c.p)
	if o.hasNew {
		v.marks |= markAccessed
		v.accessed = accessTime(c.now)
	}
	if past {
		c.dropItem(it)
	} else {
		data := append(c.p.scratch[:0], v.data...) // it may lie where it is written
		c.p.scratch = keep(data)
		v.data = data
		c.putString(key, v, at)
	}
	c.out.Status(mcDeleted)
	return nil
}

func mcFlush(c *call) error {
	if len(c.args) > 2 {
		return errArity(c)
	}
	var at int64
	if len(c.args) == 2 {
		var past bool
		var err error
		if at, past, err = mcDeadline(c.cmd.Name, c.args[1], c.now); err != nil {
			return err
		}
		if past {
			at = 0
		}
	}
	if k := c.keys(); at > 0 {
		k.flushLater(at)
	} else {
		k.flush()
	}
	c.out.Status("OK")
	return nil
}

// flushLater has everything in the keyspace removed at a time, with what is written until then; 0 takes that back. Only
// the last one counts.
func (k *keyspace) flushLater(at int64) {
	if j, was := k.p.journal, k.flushAt; j != nil && was != at {
		j.add(func() { k.flushesAt(was) })
	}
	k.flushesAt(at)
}

// flushesAt is flushLater without a way back.
func (k *keyspace) flushesAt(at int64) {
	p := k.p
	if k.flushAt != 0 {
		p.delayed = slices.DeleteFunc(p.delayed, func(other *keyspace) bool { return other == k })
	}
	if k.flushAt = at; at != 0 {
		p.delayed = append(p.delayed, k)
		p.due = min(p.due, at)
	}
}

// flushDue empties a database if its time has come.
func (c *call) flushDue() error {
	db := int(c.args[1][0])
	if c.cache != nil && db < Databases && c.cache.dbs[db] != nil {
		if k := c.cache.dbs[db]; k.flushAt != 0 && k.flushAt <= c.now {
			k.flush()
		}
	}
	c.out.Status("OK")
	return nil
}
