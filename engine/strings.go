package engine

import (
	"encoding/binary"
	"math"
	"strings"

	"github.com/larder-cache/larder/internal/fault"
)

// A stringValue is bytes with what HTTP and memcached keep beside them. Values are replaced, not changed:
// a reader that holds one need not fear a writer.
type stringValue struct {
	data        []byte
	version     uint64 // ETag over HTTP, CAS token over memcached
	contentType string // as given over HTTP; empty for values written otherwise
	flags       uint32 // memcached's
}

func (s *stringValue) kind() string { return "string" }
func (s *stringValue) bytes() int64 { return 64 + int64(cap(s.data)) }
func (s *stringValue) empty() bool  { return false }

func (s *stringValue) encode(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, s.version)
	dst = binary.AppendUvarint(dst, uint64(s.flags))
	dst = binary.AppendUvarint(dst, uint64(len(s.contentType)))
	dst = append(dst, s.contentType...)
	return append(dst, s.data...)
}

var stringCommands = []Command{
	{Name: "GET", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupString, Action: "cache:Get", run: get,
		Usage: "key", Summary: "Returns the string under a key", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "SET", Arity: -3, Keys: oneKey, Flags: Writes | Grows, Group: GroupString, Action: "cache:Set", Also: setRights, run: set,
		Usage:   "key value [NX | XX] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
		Summary: "Stores a string, whatever was there before", Complexity: "O(1)", Since: "1.0.0"},
}

// write stores data under key as a new version of a plain string.
func (c *call) write(key, data []byte, expireAt int64) *item {
	return c.put(key, &stringValue{data: append([]byte(nil), data...), version: c.p.nextVersion()}, expireAt)
}

// checkSizes refuses a key or value over its limit, naming both the limit and the size.
func (c *call) checkSizes(key []byte, value int64) error {
	if len(key) > MaxKey {
		return fault.About(fault.TooLarge, c.cmd.Name, "key", "max key size exceeded. Limit: %d bytes, Actual: %d bytes", MaxKey, len(key))
	}
	if limit := c.cache.maxValue(); value > limit {
		return fault.About(fault.TooLarge, c.cmd.Name, "value", "max value size exceeded. Limit: %d bytes, Actual: %d bytes", limit, value)
	}
	return nil
}

func get(c *call) error {
	s, _, err := lookup[*stringValue](c, c.args[1])
	if err != nil {
		return err
	}
	c.count(s != nil)
	if s == nil {
		c.out.Null()
		return nil
	}
	c.out.Bulk(s.data)
	return nil
}

// setOptions are what stands after the value in SET.
type setOptions struct {
	nx, xx, get, keepTTL bool
	expireAt             int64
	timed                bool
}

// SET with GET reads what was there, so it takes the right to read as well.
func setRights(dst []Right, args [][]byte) []Right {
	for _, a := range args[min(3, len(args)):] {
		if is(a, "GET") {
			return append(dst, Right{Action: "cache:Get", On: OnKey, Name: args[1]})
		}
	}
	return dst
}

func parseSetOptions(c *call, args [][]byte) (o setOptions, err error) {
	for i := 0; i < len(args); i++ {
		switch a := args[i]; {
		case is(a, "NX"):
			o.nx = true
		case is(a, "XX"):
			o.xx = true
		case is(a, "GET"):
			o.get = true
		case is(a, "KEEPTTL"):
			o.keepTTL = true
		case is(a, "EX"), is(a, "PX"), is(a, "EXAT"), is(a, "PXAT"):
			if o.timed || i+1 == len(args) {
				return o, errSyntax
			}
			i++
			if o.expireAt, err = c.deadline(a, args[i]); err != nil {
				return o, err
			}
			o.timed = true
		default:
			return o, errSyntax
		}
	}
	if (o.nx && o.xx) || (o.keepTTL && o.timed) {
		return o, errSyntax
	}
	return o, nil
}

// deadline turns an expiry option (EX, PX, EXAT, PXAT) and its argument into milliseconds since 1970.
func (c *call) deadline(option, arg []byte) (int64, error) {
	n, ok := parseInt(arg)
	if !ok {
		return 0, errNotInteger
	}
	at := n
	if is(option, "EX") || is(option, "EXAT") {
		if n > math.MaxInt64/1000 || n < math.MinInt64/1000 {
			return 0, errExpireTime(c)
		}
		at = n * 1000
	}
	if n <= 0 {
		return 0, errExpireTime(c)
	}
	if is(option, "EX") || is(option, "PX") {
		if at > math.MaxInt64-c.now {
			return 0, errExpireTime(c)
		}
		at += c.now
	}
	return at, nil
}

func errExpireTime(c *call) error {
	return fault.New(fault.InvalidArgument, c.cmd.Name, "invalid expire time in '%s' command", strings.ToLower(c.cmd.Name))
}

func set(c *call) error {
	key, data := c.args[1], c.args[2]
	o, err := parseSetOptions(c, c.args[3:])
	if err != nil {
		return err
	}
	if err := c.checkSizes(key, int64(len(data))); err != nil {
		return err
	}
	it := c.get(key)
	var old *stringValue
	if o.get && it != nil {
		s, ok := it.value.(*stringValue)
		if !ok {
			return errWrongType
		}
		old = s
	}
	stored := (!o.nx || it == nil) && (!o.xx || it != nil)
	if stored {
		at := o.expireAt
		switch {
		case o.keepTTL && it != nil:
			at = it.expireAt
		case !o.timed:
			at = c.defaultDeadline()
		}
		if at != 0 && at <= c.now { // an EXAT that has passed: the key is gone at once
			c.remove(key)
		} else {
			c.write(key, data, at)
		}
	}
	switch {
	case o.get && old != nil:
		c.out.Bulk(old.data)
	case o.get, !stored:
		c.out.Null()
	default:
		c.out.Status("OK")
	}
	return nil
}
