package engine

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/larder-cache/larder/internal/fault"
)

// Commands that compare a string with what the client believes it to be, and others that do in one step what took a script.
var conditionalCommands = []Command{
	{Name: "DIGEST", Arity: 2, Keys: oneKey, Flags: Fast, Group: GroupString, Action: "cache:Get", run: digest,
		Usage: "key", Summary: "Returns the XXH3 hash of a string in 16 hexadecimal digits", Complexity: "O(N) for a string of N bytes", Since: "8.4.0"},
	{Name: "DELEX", Arity: -2, Keys: oneKey, Flags: Writes | Fast, Group: GroupString, Action: "cache:Delete", Also: delexRights, run: delex,
		Usage: "key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest]", Summary: "Removes a key, or a string that is or is not what is said", Complexity: "O(1), O(N) with a digest for a string of N bytes", Since: "8.4.0"},
	{Name: "DELIFEQ", Arity: 3, Keys: oneKey, Flags: Writes | Fast, Group: GroupString, Action: "cache:Delete", Also: alsoOnKey("cache:CompareAndSet"), run: delifeq,
		Usage: "key value", Summary: "Removes a string that equals a value", Complexity: "O(1)", Since: "9.0.0"},
	{Name: "MSETEX", Arity: -4, Keys: Keys{Count: 1, Stride: 2}, Flags: Writes | Grows, Group: GroupString, Action: "cache:Set", Facts: msetexFacts, run: msetex,
		Usage:   "numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
		Summary: "Stores several strings that expire together, or none of them", Complexity: "O(N) in the number of keys", Since: "8.4.0"},
	{Name: "INCREX", Arity: -2, Keys: oneKey, Flags: Writes | Grows | Fast, Group: GroupString, Action: "cache:Increment", Also: increxRights, Facts: increxFacts, run: increx,
		Usage:   "key [BYINT increment | BYFLOAT increment] [LBOUND min] [UBOUND max] [SATURATE] [[EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds] [ENX] | PERSIST]",
		Summary: "Adds to a number within bounds, sets when it expires, and returns it with what was added", Complexity: "O(1)", Since: "8.8.0"},
}

// A condition compares a string with a value or with its digest. The zero condition is always met.
type condition struct {
	word  string // IFEQ, IFNE, IFDEQ or IFDNE
	value []byte
}

func (o *condition) given() bool { return o.word != "" }

// parse reads the condition at the beginning of args and returns how many arguments it takes, 0 when it is something else.
func (o *condition) parse(args [][]byte) (taken int, err error) {
	for _, word := range [...]string{"IFEQ", "IFNE", "IFDEQ", "IFDNE"} {
		if !is(args[0], word) {
			continue
		}
		if len(args) == 1 || o.given() && o.word != word {
			return 0, errSyntax
		}
		o.word, o.value = word, args[1]
		if o.digested() && len(o.value) != 16 { // what is no number equals none
			return 0, fault.About(fault.InvalidArgument, "engine", word, "must be exactly 16 hexadecimal characters")
		}
		return 2, nil
	}
	return 0, nil
}

func (o *condition) digested() bool { return strings.HasPrefix(o.word, "IFD") }

// met says whether what is in it, nil for nothing, is as the condition wants it: nothing equals nothing that is said.
func (o *condition) met(it *item) (bool, error) {
	if !o.given() {
		return true, nil
	}
	equal := false
	if it != nil {
		s, ok := it.value.(*stringValue)
		if !ok {
			return false, errWrongType
		}
		if equal = bytes.Equal(s.data, o.value); o.digested() {
			var sum [16]byte
			equal = strings.EqualFold(text(appendDigest(sum[:0], s.data)), text(o.value))
		}
	}
	return equal == strings.HasSuffix(o.word, "EQ"), nil
}

// appendDigest appends the digest of a string.
func appendDigest(dst, data []byte) []byte {
	return hex.AppendEncode(dst, binary.BigEndian.AppendUint64(nil, xxh3.Hash(data)))
}

func digest(c *call) error {
	s, _, err := c.read(c.args[1])
	if err != nil {
		return err
	}
	if s == nil {
		c.out.Null()
		return nil
	}
	var sum [16]byte
	c.out.Bulk(appendDigest(sum[:0], s.data))
	return nil
}

// Whether a condition is met tells something of the value.
func delexRights(dst []Right, args [][]byte) []Right {
	if len(args) > 2 {
		dst = append(dst, Right{Action: "cache:CompareAndSet", On: OnKey, Name: args[1]})
	}
	return dst
}

// DELEX looks at its condition only when there is something under the key, as Redis does.
func delex(c *call) error {
	var o condition
	if n := len(c.args); n != 2 && n != 4 {
		return errArity(c)
	}
	if it := c.peek(c.args[1]); it != nil && len(c.args) == 4 {
		if _, ok := it.value.(*stringValue); !ok {
			return fault.About(fault.InvalidArgument, c.cmd.Name, "key", "Key should be of string type if conditions are specified")
		}
		n, err := o.parse(c.args[2:])
		if err != nil {
			return err
		}
		if n == 0 {
			return fault.About(fault.InvalidArgument, c.cmd.Name, "condition", "Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE")
		}
	}
	return c.deleteIf(&o)
}

func delifeq(c *call) error { return c.deleteIf(&condition{"IFEQ", c.args[2]}) }

func (c *call) deleteIf(o *condition) error {
	it := c.peek(c.args[1])
	met, err := o.met(it)
	if err != nil {
		return err
	}
	if met = met && it != nil; met {
		c.dropItem(it)
	}
	c.flag(met)
	return nil
}

// parseMsetex reads what stands after the name.
func parseMsetex(op string, args [][]byte) (pairs [][]byte, o setOptions, err error) {
	n, ok := parseInt(args[1])
	if !ok || n < 1 || n > math.MaxInt32 {
		return nil, o, fault.About(fault.OutOfRange, op, "numkeys", "invalid numkeys value")
	}
	if rest := args[2:]; 2*n > int64(len(rest)) {
		return nil, o, fault.About(fault.InvalidArgument, op, "numkeys", "wrong number of key-value pairs")
	}
	pairs = args[2 : 2+2*n]
	o, err = parseSetOptions(args[2+2*n:])
	if err == nil && (o.get || o.condition.given()) {
		err = errSyntax
	}
	return pairs, o, err
}

func msetexFacts(args [][]byte, now int64) Facts {
	f := Facts{TTL: -1, MaxItems: -1}
	pairs, o, err := parseMsetex("", args)
	if err == nil {
		f.TTL = o.expiry.ttl(now)
	}
	for i := 1; i < len(pairs); i += 2 {
		f.ValueSize = max(f.ValueSize, int64(len(pairs[i])))
	}
	return f
}

func msetex(c *call) error {
	pairs, o, err := parseMsetex(c.cmd.Name, c.args)
	if err != nil {
		return err
	}
	at := c.defaultDeadline()
	if o.expiry.given() {
		if at, err = c.deadline(o.expiry); err != nil {
			return err
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		if err := c.checkSizes(pairs[i], int64(len(pairs[i+1]))); err != nil {
			return err
		}
	}
	for i := 0; (o.nx || o.xx) && i < len(pairs); i += 2 {
		if there := c.get(pairs[i]) != nil; there == o.nx {
			c.out.Int(0)
			return nil
		}
	}
	for i := 0; i < len(pairs); i += 2 {
		until := at
		if it := c.peek(pairs[i]); o.keepTTL && it != nil {
			until = it.expireAt
		}
		c.writeUntil(pairs[i], pairs[i+1], until)
		c.p.viewed = 0
	}
	c.out.Int(1)
	return nil
}

// increxOptions are what stands after the key in INCREX.
type increxOptions struct {
	by, min, max   []byte // nil when not given
	float          bool
	saturate       bool
	expiry         expiry
	persist, onNew bool // onNew: the deadline is for a key that has none
}

func parseIncrex(args [][]byte) (o increxOptions, err error) {
	for len(args) > 0 {
		n, a := 1, args[0]
		value := func(to *[]byte) error {
			if len(args) == 1 || *to != nil {
				return errSyntax
			}
			*to, n = args[1], 2
			return nil
		}
		switch {
		case is(a, "BYINT"), is(a, "BYFLOAT"):
			o.float = is(a, "BYFLOAT")
			err = value(&o.by)
		case is(a, "LBOUND"):
			err = value(&o.min)
		case is(a, "UBOUND"):
			err = value(&o.max)
		case is(a, "SATURATE") && !o.saturate:
			o.saturate = true
		case is(a, "PERSIST") && !o.persist:
			o.persist = true
		case is(a, "ENX") && !o.onNew:
			o.onNew = true
		default:
			if n, err = o.expiry.parse(args); err == nil && n == 0 {
				err = errSyntax
			}
		}
		if err != nil {
			return o, err
		}
		args = args[n:]
	}
	switch {
	case o.persist && (o.expiry.given() || o.onNew):
		return o, errSyntax
	case o.onNew && !o.expiry.given():
		return o, fault.About(fault.InvalidArgument, "INCREX", "ENX", "ENX flag requires an expiration")
	}
	return o, nil
}

// check refuses what is no number of the kind that is added.
func (o *increxOptions) check() error {
	for _, n := range [...]struct {
		name string
		text []byte
	}{{"Increment", o.by}, {"LBOUND", o.min}, {"UBOUND", o.max}} {
		if n.text == nil {
			continue
		}
		if o.float {
			if _, ok := parseFloat(n.text); !ok {
				return fault.About(fault.InvalidArgument, "INCREX", n.name, "%s is not a valid float", n.name)
			}
		} else if _, ok := parseInt(n.text); !ok {
			return fault.About(fault.InvalidArgument, "INCREX", n.name, "%s is not an integer or out of range", n.name)
		}
	}
	return nil
}

// INCREX with an option changes a deadline, which takes the right to.
func increxRights(dst []Right, args [][]byte) []Right {
	if o, err := parseIncrex(args[2:]); err == nil {
		if o.persist {
			dst = append(dst, Right{Action: "cache:Persist", On: OnKey, Name: args[1]})
		}
		if o.expiry.given() {
			dst = append(dst, Right{Action: "cache:Expire", On: OnKey, Name: args[1]})
		}
	}
	return dst
}

func increxFacts(args [][]byte, now int64) Facts {
	f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
	if o, err := parseIncrex(args[2:]); err == nil {
		f.TTL = o.expiry.ttl(now)
	}
	return f
}

// INCREX adds within bounds. What would lie outside is left as it was, and its deadline too, or with SATURATE lies at the bound.
func increx(c *call) error {
	key := c.args[1]
	o, err := parseIncrex(c.args[2:])
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return err
	}
	var at int64
	if o.expiry.given() {
		if at, err = c.deadline(o.expiry); err != nil {
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
	data := []byte("0")
	if s != nil {
		data = s.data
	}
	step := addInteger
	if o.float {
		step = addFloat
	}
	sum, reply, err := step(data, &o)
	if err != nil {
		return err
	}
	if sum != nil {
		it = c.modify(key, s, it, sum)
		switch {
		case o.persist:
			err = c.expire(it, 0)
		case o.expiry.given() && !(o.onNew && s != nil && it.expireAt != 0):
			err = c.expire(it, at)
		}
	}
	c.out.Array(2)
	for _, x := range reply {
		if o.float {
			c.out.Double(x.f)
		} else {
			c.out.Int(x.n)
		}
	}
	return err // a string lets everybody set its deadline
}

// addInteger returns what an integer becomes, nil where it stays, and the answer: what it is then, and what was added. The
// options have been checked.
func addInteger(data []byte, o *increxOptions) (sum []byte, reply [2]number, err error) {
	by, low, high := int64(1), int64(math.MinInt64), int64(math.MaxInt64)
	old, ok := parseInt(data)
	for _, arg := range [...]struct {
		text []byte
		to   *int64
	}{{o.by, &by}, {o.min, &low}, {o.max, &high}} {
		if arg.text != nil && ok {
			*arg.to, ok = parseInt(arg.text)
		}
	}
	switch {
	case !ok:
		return nil, reply, errNotInteger
	case low > high:
		return nil, reply, errBounds
	}
	n := old + by
	over, under := by > 0 && n < old, by < 0 && n > old // it wrapped around
	switch {
	case (over || n > high && !under) && o.saturate:
		n = high
	case (under || n < low) && o.saturate:
		n = low
	case over, under, n > high, n < low:
		return nil, [2]number{{n: old}, {}}, nil
	}
	added, ok := gap(n, old)
	if !ok { // from one end to the other
		added = math.MinInt64
	}
	return strconv.AppendInt(nil, n, 10), [2]number{{n: n}, {n: added}}, nil
}

var errBounds = fault.About(fault.InvalidArgument, "INCREX", "LBOUND", "LBOUND can't be greater than UBOUND")

// gap is n-old without wrapping around.
func gap(n, old int64) (int64, bool) {
	d := n - old
	return d, (d > 0) == (n > old)
}

// addFloat is addInteger for numbers with a fraction.
func addFloat(data []byte, o *increxOptions) (sum []byte, reply [2]number, err error) {
	old, ok := parseFloat(data)
	by, ok2 := parseFloat(o.by)
	low, high := -math.MaxFloat64, math.MaxFloat64
	if o.min != nil && ok {
		low, ok = parseFloat(o.min)
	}
	if o.max != nil && ok {
		high, ok = parseFloat(o.max)
	}
	switch {
	case !ok || !ok2:
		return nil, reply, errNotFloat
	case low > high:
		return nil, reply, errBounds
	}
	sum, finite := addDecimals(data, o.by)
	n := old + by
	if finite {
		n, _ = parseFloat(sum)
	}
	bound := math.Max(low, math.Min(high, n)) // what the result is, unless it is refused
	switch {
	case math.IsNaN(bound) || math.IsInf(bound, 0) || n != bound && !o.saturate:
		return nil, [2]number{{f: old}, {}}, nil
	case n != bound:
		sum, _ = addDecimals(strconv.AppendFloat(nil, bound, 'f', -1, 64), zero.text)
	}
	added, _ := addDecimals(sum, negated(data))
	f, _ := parseFloat(added)
	return sum, [2]number{{f: bound}, {f: f}}, nil
}

// negated is a number that parseFloat has accepted with the other sign.
func negated(b []byte) []byte {
	switch b[0] {
	case '-':
		return b[1:]
	case '+':
		b = b[1:]
	}
	return append([]byte{'-'}, b...)
}
