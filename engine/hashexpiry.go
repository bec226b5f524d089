package engine

import (
	"math"

	"github.com/larder-cache/larder/engine/dense"
	"github.com/larder-cache/larder/internal/fault"
)

// maxFieldDeadline bounds the deadline of a field, in milliseconds since 1970; it is Redis's bound too.
const maxFieldDeadline = dense.MaxDeadline

// Commands on fields with a deadline of their own, as Redis has them since 7.4 and 8.0.
var hashExpiryCommands = []Command{
	{Name: "HEXPIRE", Arity: -6, Keys: oneKey, Flags: Writes | Fast, Group: GroupHash, Action: "cache:HashWrite", Facts: expireFacts(true, false),
		run:   func(c *call) error { return hexpire(c, true, false) },
		Usage: "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]", Summary: "Lets fields of a hash expire after so many seconds", Complexity: "O(N) for N fields", Since: "7.4.0"},
	{Name: "HPEXPIRE", Arity: -6, Keys: oneKey, Flags: Writes | Fast, Group: GroupHash, Action: "cache:HashWrite", Facts: expireFacts(false, false),
		run:   func(c *call) error { return hexpire(c, false, false) },
		Usage: "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]", Summary: "Lets fields of a hash expire after so many milliseconds", Complexity: "O(N) for N fields", Since: "7.4.0"},
	{Name: "HEXPIREAT", Arity: -6, Keys: oneKey, Flags: Writes | Fast, Group: GroupHash, Action: "cache:HashWrite", Facts: expireFacts(true, true),
		run:   func(c *call) error { return hexpire(c, true, true) },
		Usage: "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]", Summary: "Lets fields of a hash expire at a time in seconds since 1970", Complexity: "O(N) for N fields", Since: "7.4.0"},
	{Name: "HPEXPIREAT", Arity: -6, Keys: oneKey, Flags: Writes | Fast, Group: GroupHash, Action: "cache:HashWrite", Facts: expireFacts(false, true),
		run:   func(c *call) error { return hexpire(c, false, true) },
		Usage: "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]", Summary: "Lets fields of a hash expire at a time in milliseconds since 1970", Complexity: "O(N) for N fields", Since: "7.4.0"},
	{Name: "HPERSIST", Arity: -5, Keys: oneKey, Flags: Writes | Fast, Group: GroupHash, Action: "cache:HashWrite", run: hpersist,
		Usage: "key FIELDS numfields field [field ...]", Summary: "Lets fields of a hash live until they are removed", Complexity: "O(N) for N fields", Since: "7.4.0"},
	{Name: "HTTL", Arity: -5, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead",
		run:   func(c *call) error { return httl(c, true, false) },
		Usage: "key FIELDS numfields field [field ...]", Summary: "Tells how many seconds fields have to live: -1 for ever, -2 there is none", Complexity: "O(N) for N fields", Since: "7.4.0"},
	{Name: "HPTTL", Arity: -5, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead",
		run:   func(c *call) error { return httl(c, false, false) },
		Usage: "key FIELDS numfields field [field ...]", Summary: "Tells how many milliseconds fields have to live: -1 for ever, -2 there is none", Complexity: "O(N) for N fields", Since: "7.4.0"},
	{Name: "HEXPIRETIME", Arity: -5, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead",
		run:   func(c *call) error { return httl(c, true, true) },
		Usage: "key FIELDS numfields field [field ...]", Summary: "Tells when fields expire, in seconds since 1970: -1 never, -2 there is none", Complexity: "O(N) for N fields", Since: "7.4.0"},
	{Name: "HPEXPIRETIME", Arity: -5, Keys: oneKey, Flags: Fast, Group: GroupHash, Action: "cache:HashRead",
		run:   func(c *call) error { return httl(c, false, true) },
		Usage: "key FIELDS numfields field [field ...]", Summary: "Tells when fields expire, in milliseconds since 1970: -1 never, -2 there is none", Complexity: "O(N) for N fields", Since: "7.4.0"},
	{Name: "HGETEX", Arity: -5, Keys: oneKey, Flags: Writes | Fast, Group: GroupHash, Action: "cache:HashRead", Also: hgetexRights, Facts: hgetexFacts, run: hgetex,
		Usage:   "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]",
		Summary: "Returns the values of fields and changes when they expire", Complexity: "O(N) for N fields", Since: "8.0.0"},
	{Name: "HSETEX", Arity: -6, Keys: oneKey, Flags: Writes | Fast | Grows, Group: GroupHash, Action: "cache:HashWrite", Facts: hsetexFacts, run: hsetex,
		Usage:   "key [NX | XX] [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
		Summary: "Gives fields their values and says when they expire, if all or none of them are there", Complexity: "O(N) for N fields", Since: "8.0.0"},
	{Name: "HGETDEL", Arity: -5, Keys: oneKey, Flags: Writes | Fast, Group: GroupHash, Action: "cache:HashWrite", Also: hashReadRight, run: hgetdel,
		Usage: "key FIELDS numfields field [field ...]", Summary: "Returns the values of fields and removes them", Complexity: "O(N) for N fields", Since: "8.0.0"},
}

// Errors in Redis's words.
var (
	errFieldsMissing = fault.New(fault.InvalidArgument, "hash", "Mandatory argument FIELDS is missing or not at the right position")
	errFieldsNumber  = fault.New(fault.InvalidArgument, "hash", "Number of fields must be a positive integer")
	errFieldsExpire  = fault.New(fault.InvalidArgument, "hash", "Parameter `numFields` should be greater than 0")
	errFieldsCount   = fault.New(fault.InvalidArgument, "hash", "The `numfields` parameter must match the number of arguments")
)

// fieldsAt reads FIELDS numfields field [field ...], which begins at argument i and is the rest. number is the error for
// a number that is none.
func (c *call) fieldsAt(i int, number error) ([][]byte, error) {
	if i+1 >= len(c.args) || !is(c.args[i], "FIELDS") {
		return nil, errFieldsMissing
	}
	n, ok := parseInt(c.args[i+1])
	switch {
	case !ok || n < 1:
		return nil, number
	case n != int64(len(c.args)-i-2):
		return nil, errFieldsCount
	}
	return c.args[i+2:], nil
}

// fieldDeadline reads a time as the deadline of a field: as late as maxFieldDeadline, and never before 1970. 0
// counts as 1, for 0 means never elsewhere.
func (c *call) fieldDeadline(arg []byte, seconds, absolute bool) (int64, error) {
	n, ok := parseInt(arg)
	switch {
	case !ok:
		return 0, errNotInteger
	case n < 0:
		return 0, fault.New(fault.InvalidArgument, c.cmd.Name, "invalid expire time, must be >= 0")
	case seconds && n > maxFieldDeadline/1000:
		return 0, errExpireTime(c)
	case seconds:
		n *= 1000
	}
	base := c.now
	if absolute {
		base = 0
	}
	if n > maxFieldDeadline-base {
		return 0, errExpireTime(c)
	}
	return max(n+base, 1), nil
}

// hexpire is HEXPIRE and its like. As in Redis, a condition is looked at first, and no deadline counts as one that never
// comes: GT does not set it, LT does.
func hexpire(c *call, seconds, absolute bool) error {
	h, it, err := lookup[*hashValue](c, c.args[1])
	if err != nil {
		return err
	}
	at, err := c.fieldDeadline(c.args[2], seconds, absolute)
	if err != nil {
		return err
	}
	var o expireOptions
	from := 4
	switch a := c.args[3]; {
	case is(a, "NX"):
		o.nx = true
	case is(a, "XX"):
		o.xx = true
	case is(a, "GT"):
		o.gt = true
	case is(a, "LT"):
		o.lt = true
	default:
		from = 3
	}
	fields, err := c.fieldsAt(from, errFieldsExpire)
	if err != nil {
		return err
	}
	c.out.Array(len(fields))
	c.eachField(h, it, fields, func(e *hashEdit, field []byte) {
		f, there := e.get(field)
		switch {
		case !there:
			c.out.Int(-2)
		case !o.allow(f.at, at):
			c.out.Int(0)
		case at <= c.now:
			e.remove(field)
			c.out.Int(2)
		default:
			e.schedule(field, f, at)
			c.out.Int(1)
		}
	})
	return nil
}

// eachField lets change do its work on each of the fields, also where there is no hash, and stores what came of it.
func (c *call) eachField(h *hashValue, it *item, fields [][]byte, change func(e *hashEdit, field []byte)) {
	e := c.edit(h, it, c.args[1])
	for _, field := range fields {
		change(e, field)
	}
	e.done()
}

func hpersist(c *call) error {
	h, it, err := lookup[*hashValue](c, c.args[1])
	if err != nil {
		return err
	}
	fields, err := c.fieldsAt(2, errFieldsNumber)
	if err != nil {
		return err
	}
	c.out.Array(len(fields))
	c.eachField(h, it, fields, func(e *hashEdit, field []byte) {
		f, there := e.get(field)
		switch {
		case !there:
			c.out.Int(-2)
		case f.at == 0:
			c.out.Int(-1)
		default:
			e.schedule(field, f, 0)
			c.out.Int(1)
		}
	})
	return nil
}

// httl is HTTL and its like. Unlike TTL it rounds seconds up, as Redis does.
func httl(c *call, seconds, absolute bool) error {
	h, err := c.hashAt(c.args[1])
	if err != nil {
		return err
	}
	fields, err := c.fieldsAt(2, errFieldsNumber)
	if err != nil {
		return err
	}
	c.out.Array(len(fields))
	for _, field := range fields {
		c.step()
		f, there := h.get(c.now, field)
		n := f.at
		switch {
		case !there:
			n = -2
		case n == 0:
			n = -1
		default:
			if !absolute {
				n -= c.now
			}
			if seconds {
				n = (n + 999) / 1000
			}
		}
		c.out.Int(n)
	}
	return nil
}

// expiryOption reads EX, PX, EXAT or PXAT with its time at argument i. taken is 0 when something else is there.
func (c *call) expiryOption(i int) (at int64, taken int, err error) {
	a := c.args[i]
	seconds := is(a, "EX") || is(a, "EXAT")
	if !seconds && !is(a, "PX") && !is(a, "PXAT") {
		return 0, 0, nil
	}
	at, err = c.fieldDeadline(c.args[i+1], seconds, is(a, "EXAT") || is(a, "PXAT"))
	return at, 2, err
}

// HGETEX without an option only reads.
func hgetexRights(dst []Right, args [][]byte) []Right {
	if is(args[2], "FIELDS") {
		return dst
	}
	return append(dst, Right{Action: "cache:HashWrite", On: OnKey, Name: args[1]})
}

func hgetexFacts(args [][]byte, now int64) Facts {
	var e expiry
	f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
	if taken, err := e.parse(args[2:]); err == nil && taken > 0 {
		f.TTL = e.ttl(now)
	}
	return f
}

func hgetex(c *call) error {
	h, it, err := lookup[*hashValue](c, c.args[1])
	if err != nil {
		return err
	}
	at, taken, err := c.expiryOption(2)
	if err != nil {
		return err
	}
	persist := is(c.args[2], "PERSIST")
	if persist {
		taken = 1
	}
	fields, err := c.fieldsAt(2+taken, errFieldsNumber)
	if err != nil {
		return err
	}
	c.count(h != nil)
	c.out.Array(len(fields))
	if taken == 0 {
		for _, field := range fields {
			c.field(h, field)
		}
		return nil
	}
	c.eachField(h, it, fields, func(e *hashEdit, field []byte) {
		f, there := e.get(field)
		if !there {
			c.out.Null()
			return
		}
		c.element(f.value)
		e.schedule(field, f, at)
	})
	return nil
}

func hgetdel(c *call) error {
	h, it, err := lookup[*hashValue](c, c.args[1])
	if err != nil {
		return err
	}
	fields, err := c.fieldsAt(2, errFieldsNumber)
	if err != nil {
		return err
	}
	c.count(h != nil)
	c.out.Array(len(fields))
	c.eachField(h, it, fields, func(e *hashEdit, field []byte) {
		f, there := e.get(field)
		if !there {
			c.out.Null()
			return
		}
		c.element(f.value)
		e.remove(field)
	})
	return nil
}

// hsetexOptions are what stands before the fields in HSETEX.
type hsetexOptions struct {
	nx, xx, fnx, fxx, keepTTL, timed bool
	at                               int64
	pairs                            [][]byte
}

// parseHsetex reads the arguments in order, as Redis does: what stands first decides which error is told.
func parseHsetex(c *call) (o hsetexOptions, err error) {
	for i := 2; i < len(c.args); i++ {
		switch a := c.args[i]; {
		case is(a, "FIELDS"):
			o.pairs, err = c.pairsAfter(i)
			return o, err
		case is(a, "EX") || is(a, "PX") || is(a, "EXAT") || is(a, "PXAT") || is(a, "KEEPTTL"):
			if o.timed || o.keepTTL {
				return o, fault.New(fault.InvalidArgument, c.cmd.Name, "Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified")
			}
			if o.keepTTL = is(a, "KEEPTTL"); o.keepTTL {
				continue
			}
			if i+1 == len(c.args) {
				return o, fault.New(fault.InvalidArgument, c.cmd.Name, "missing expire time")
			}
			if o.at, _, err = c.expiryOption(i); err != nil {
				return o, err
			}
			o.timed = true
			i++
		case is(a, "FNX") || is(a, "FXX"):
			if o.fnx || o.fxx {
				return o, fault.New(fault.InvalidArgument, c.cmd.Name, "Only one of FXX or FNX arguments can be specified")
			}
			o.fnx, o.fxx = is(a, "FNX"), is(a, "FXX")
		case is(a, "NX") || is(a, "XX"): // of the key, as in Valkey 9
			if o.nx || o.xx {
				return o, errSyntax
			}
			o.nx, o.xx = is(a, "NX"), is(a, "XX")
		default:
			return o, fault.New(fault.InvalidArgument, c.cmd.Name, "unknown argument: %.128s", a)
		}
	}
	return o, errFieldsMissing
}

// pairsAfter reads the number of fields and the fields with their values, which follow argument i and are the rest.
func (c *call) pairsAfter(i int) ([][]byte, error) {
	if i >= len(c.args)-3 {
		return nil, errArity(c)
	}
	n, ok := parseInt(c.args[i+1])
	if !ok || n < 1 || n > math.MaxInt32 {
		return nil, fault.New(fault.InvalidArgument, c.cmd.Name, "invalid number of fields")
	}
	pairs := c.args[i+2:]
	if int64(len(pairs)) != 2*n {
		return nil, errArity(c)
	}
	return pairs, nil
}

func hsetexFacts(args [][]byte, now int64) Facts {
	f := Facts{TTL: -1, MaxItems: -1}
	for i := 2; i+1 < len(args); i++ {
		var e expiry
		if is(args[i], "FIELDS") {
			for j := i + 3; j < len(args); j += 2 {
				f.ValueSize += int64(len(args[j]))
			}
			break
		}
		if taken, err := e.parse(args[i:]); err == nil && taken > 0 {
			f.TTL = e.ttl(now)
			i++
		}
	}
	return f
}

func hsetex(c *call) error {
	key := c.args[1]
	o, err := parseHsetex(c)
	if err != nil {
		return err
	}
	h, it, err := lookup[*hashValue](c, key)
	if err != nil {
		return err
	}
	if err := c.checkFields(o.pairs); err != nil {
		return err
	}
	if o.nx && h != nil || o.xx && h == nil {
		c.out.Int(0)
		return nil
	}
	for i := 0; (o.fnx || o.fxx) && i < len(o.pairs); i += 2 {
		if _, there := h.get(c.now, o.pairs[i]); there == o.fnx {
			c.out.Int(0)
			return nil
		}
	}
	e := c.edit(h, it, key)
	for i := 0; i < len(o.pairs); i += 2 {
		field, at := o.pairs[i], o.at
		if o.keepTTL {
			f, _ := e.get(field)
			at = f.at
		}
		if e.passed(at) {
			e.remove(field)
		} else {
			e.set(field, o.pairs[i+1], at)
		}
	}
	e.done()
	c.out.Int(1)
	return nil
}
