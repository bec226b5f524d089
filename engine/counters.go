package engine

import (
	"math"
	"strconv"

	"github.com/larder-cache/larder/internal/fault"
)

// A counter is a string that INCR or INCRBYFLOAT could have written, so those commands and GET see it as it is.
var counterCommands = []Command{
	{Name: "COUNTER.GET", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupCounter, Action: "cache:Get", run: counterGet,
		Usage: "key", Summary: "Returns a counter's value and TTL", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "COUNTER.ADD", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupCounter, Action: "cache:Increment", Facts: counterAddFacts, run: counterAdd,
		Usage:   "key by [PX milliseconds] [MIN min] [MAX max] [OVERFLOW <REJECT | SATURATE>]",
		Summary: "Adds to a counter within bounds; a new one may be given a TTL", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "COUNTER.SET", Arity: -3, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupCounter, Action: "cache:Set", Facts: counterSetFacts, run: counterSet,
		Usage: "key value [PX milliseconds | KEEPTTL]", Summary: "Sets a counter", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "COUNTER.RESET", Arity: 2, Keys: oneKey, Flags: Writes | Fast, Group: GroupCounter, Action: "cache:Set", Also: alsoOnKey("cache:Get"), run: counterReset,
		Usage: "key", Summary: "Sets a counter to 0 and returns what it was", Complexity: "O(1)", Since: "1.0.0"},
	{Name: "COUNTER.DEL", Arity: 2, Keys: oneKey, Flags: Writes | Fast, Group: GroupCounter, Action: "cache:Delete", run: counterDel,
		Usage: "key", Summary: "Removes a counter", Complexity: "O(1)", Since: "1.0.0"},
}

// A number is a counter's value, an addend or a bound: an integer of 64 bits where it was written as one,
// otherwise a finite float.
type number struct {
	text    []byte
	integer bool
	n       int64
	f       float64 // n too, as near as it can be
}

func parseNumber(b []byte) (x number, ok bool) {
	x.text = b
	if x.n, x.integer = parseInt(b); x.integer {
		x.f = float64(x.n)
		return x, true
	}
	x.f, ok = parseFloat(b)
	return x, ok && !math.IsInf(x.f, 0)
}

var zero, _ = parseNumber([]byte("0"))

// canonical is how the number is stored.
func (x number) canonical() []byte {
	if x.integer {
		return strconv.AppendInt(nil, x.n, 10)
	}
	text, _ := addDecimals(x.text, zero.text) // finite plus 0 is finite
	return text
}

// stored is a number as the next command will find it: with 17 decimals at most, and an integer if the float
// came out whole.
func stored(text []byte) number {
	x, _ := parseNumber(text)
	return x
}

// numberArgument reads an argument that has to be a number.
func numberArgument(op, name string, arg []byte) (number, error) {
	x, ok := parseNumber(arg)
	if !ok {
		return x, fault.About(fault.InvalidArgument, op, name, "%s must be a number: whole within 64 bits, or a finite decimal", name)
	}
	return x, nil
}

// counter looks up the counter under key; it is zero and s is nil when there is none.
func (c *call) counter(key []byte) (x number, s *stringValue, it *item, err error) {
	s, it, err = lookup[*stringValue](c, key)
	if err != nil || s == nil {
		return zero, nil, nil, err
	}
	x, ok := parseNumber(s.data)
	if !ok {
		return x, nil, nil, fault.New(fault.WrongType, c.cmd.Name, "the key holds a string that is not a number")
	}
	return x, s, it, nil
}

// reading answers with a counter's value and the TTL of its item.
func (c *call) reading(x number, it *item) {
	c.out.Array(2)
	if x.integer {
		c.out.Int(x.n)
	} else {
		c.out.Double(x.f)
	}
	c.out.Int(c.ttlOf(it))
}

func counterGet(c *call) error {
	x, s, it, err := c.counter(c.args[1])
	if err != nil {
		return err
	}
	c.count(s != nil)
	if s == nil {
		c.out.Null()
		return nil
	}
	c.reading(x, it)
	return nil
}

// counterOptions are what stands after the addend or the value.
type counterOptions struct {
	expiry         expiry
	keepTTL        bool
	min, max       number
	hasMin, hasMax bool
	saturate       bool // at a bound, rather than refuse
}

// parseCounterOptions reads the options of COUNTER.ADD, or those of COUNTER.SET.
func parseCounterOptions(op string, args [][]byte, adding bool) (o counterOptions, err error) {
	for len(args) > 0 {
		n := 0
		switch a := args[0]; {
		case is(a, "PX"):
			if n, err = o.expiry.parse(args); err != nil {
				return o, errOption(op, a)
			}
		case is(a, "KEEPTTL") && !adding:
			o.keepTTL, n = true, 1
		case is(a, "MIN") && adding && len(args) > 1:
			o.hasMin, n = true, 2
			o.min, err = numberArgument(op, "MIN", args[1])
		case is(a, "MAX") && adding && len(args) > 1:
			o.hasMax, n = true, 2
			o.max, err = numberArgument(op, "MAX", args[1])
		case is(a, "OVERFLOW") && adding && len(args) > 1 && (is(args[1], "REJECT") || is(args[1], "SATURATE")):
			o.saturate, n = is(args[1], "SATURATE"), 2
		}
		if err != nil {
			return o, err
		}
		if n == 0 || (o.keepTTL && o.expiry.given()) {
			return o, errOption(op, args[0])
		}
		args = args[n:]
	}
	if o.hasMin && o.hasMax && (o.min.f > o.max.f || (o.min.integer && o.max.integer && o.min.n > o.max.n)) {
		return o, fault.About(fault.InvalidArgument, op, "MIN", "MIN is over MAX")
	}
	return o, nil
}

func counterAddFacts(args [][]byte, now int64) Facts {
	f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
	if o, err := parseCounterOptions("", args[3:], true); err == nil {
		f.TTL = o.expiry.ttl(now)
	}
	return f
}

func counterSetFacts(args [][]byte, now int64) Facts {
	f := valueAt(2)(args, now)
	if o, err := parseCounterOptions("", args[3:], false); err == nil {
		f.TTL = o.expiry.ttl(now)
	}
	return f
}

// The bounds of a counter that names none.
var (
	leastInteger, _    = parseNumber([]byte("-9223372036854775808"))
	greatestInteger, _ = parseNumber([]byte("9223372036854775807"))
	leastFloat         = floating(-math.MaxFloat64)
	greatestFloat      = floating(math.MaxFloat64)
)

func floating(f float64) number {
	return number{text: strconv.AppendFloat(nil, f, 'g', -1, 64), f: f}
}

// integerBounds are the least and the greatest integer that the options allow.
func (o *counterOptions) integerBounds(op string) (low, high number, err error) {
	low, high = leastInteger, greatestInteger
	if o.hasMin {
		if low = o.min; !low.integer {
			up := math.Ceil(o.min.f)
			if up >= 1<<63 {
				return low, high, fault.About(fault.OutOfRange, op, "MIN", "MIN is over every integer of 64 bits, and the counter is one")
			}
			low = integral(int64(max(up, math.MinInt64)))
		}
	}
	if o.hasMax {
		if high = o.max; !high.integer {
			down := math.Floor(o.max.f)
			if down < math.MinInt64 {
				return low, high, fault.About(fault.OutOfRange, op, "MAX", "MAX is under every integer of 64 bits, and the counter is one")
			}
			if down < 1<<63 {
				high = integral(int64(down))
			} else {
				high = greatestInteger
			}
		}
	}
	if low.n > high.n {
		return low, high, fault.About(fault.OutOfRange, op, "MIN", "there is no whole number from MIN to MAX, and the counter is one")
	}
	return low, high, nil
}

func integral(n int64) number {
	return number{text: strconv.AppendInt(nil, n, 10), integer: true, n: n, f: float64(n)}
}

// floatBounds are the least and the greatest float that the options allow.
func (o *counterOptions) floatBounds() (low, high number) {
	low, high = leastFloat, greatestFloat
	if o.hasMin {
		low = number{text: o.min.text, f: o.min.f}
	}
	if o.hasMax {
		high = number{text: o.max.text, f: o.max.f}
	}
	return low, high
}

// add returns x+by, held to the options' bounds.
func (o *counterOptions) add(op string, x, by number) (number, error) {
	var low, high, s number
	var over, under bool
	if x.integer && by.integer {
		var err error
		if low, high, err = o.integerBounds(op); err != nil {
			return s, err
		}
		n, fits := sum(x.n, by.n)
		s = integral(n)
		over = (!fits && by.n > 0) || (fits && n > high.n)
		under = (!fits && by.n < 0) || (fits && n < low.n)
	} else {
		low, high = o.floatBounds()
		text, fits := addDecimals(x.text, by.text)
		if fits {
			s = number{text: text}
			s.f, _ = parseFloat(text)
		}
		over = (!fits && by.f > 0) || (fits && s.f > high.f)
		under = (!fits && by.f < 0) || (fits && s.f < low.f)
	}
	switch {
	case !over && !under:
		return s, nil
	case over && o.saturate:
		return high, nil
	case under && o.saturate:
		return low, nil
	case over:
		return s, fault.About(fault.Overflow, op, "by", "the counter is %s: adding %s would pass the maximum of %s", x.text, by.text, high.text)
	default:
		return s, fault.About(fault.Overflow, op, "by", "the counter is %s: adding %s would pass the minimum of %s", x.text, by.text, low.text)
	}
}

func counterAdd(c *call) error {
	key := c.args[1]
	by, err := numberArgument(c.cmd.Name, "by", c.args[2])
	if err != nil {
		return err
	}
	o, err := parseCounterOptions(c.cmd.Name, c.args[3:], true)
	if err != nil {
		return err
	}
	at := c.defaultDeadline()
	if o.expiry.given() {
		if at, err = c.ownDeadline(o.expiry); err != nil {
			return err
		}
	}
	x, s, it, err := c.counter(key)
	if err != nil {
		return err
	}
	if s == nil {
		if err := c.checkSizes(key, 0); err != nil {
			return err
		}
	}
	if x, err = o.add(c.cmd.Name, x, by); err != nil {
		return err
	}
	text := x.canonical()
	if s == nil {
		it = c.write(key, text, at)
	} else {
		it = c.modify(key, s, it, text)
	}
	c.reading(stored(text), it)
	return nil
}

func counterSet(c *call) error {
	key := c.args[1]
	x, err := numberArgument(c.cmd.Name, "value", c.args[2])
	if err != nil {
		return err
	}
	o, err := parseCounterOptions(c.cmd.Name, c.args[3:], false)
	if err != nil {
		return err
	}
	at := c.defaultDeadline()
	if o.expiry.given() {
		if at, err = c.ownDeadline(o.expiry); err != nil {
			return err
		}
	}
	if err := c.checkSizes(key, 0); err != nil {
		return err
	}
	s, it, err := lookup[*stringValue](c, key)
	if err != nil {
		return err
	}
	if s != nil && o.keepTTL {
		at = it.expireAt
	}
	text := x.canonical()
	c.reading(stored(text), c.write(key, text, at))
	return nil
}

func counterReset(c *call) error {
	x, s, it, err := c.counter(c.args[1])
	if err != nil {
		return err
	}
	if s == nil {
		c.out.Null()
		return nil
	}
	c.reading(x, c.modify(c.args[1], s, it, c.decimal(0)))
	return nil
}

func counterDel(c *call) error {
	s, it, err := lookup[*stringValue](c, c.args[1])
	if err != nil {
		return err
	}
	if s != nil {
		c.dropItem(it)
	}
	c.flag(s != nil)
	return nil
}
