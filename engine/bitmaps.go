package engine

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/larder-cache/larder/internal/fault"
)

// A bitmap is a string whose bits are numbered from the first byte's highest. Every string is one, and what
// lies behind its end reads as zeros.
//
// Bits are what changes in place in a string: SETBIT and BITFIELD write to the array of the value
// before when that value is known to have it alone (S2 in strings.go), so that a bit of a large bitmap costs
// O(1). They copy the bitmap when it grows beyond its room, which has the price of APPEND: a bitmap set bit by
// bit is copied O(log n) times. And they copy it once after any other command wrote or copied the string. Inside
// an atomic task the bytes that they change are noted, so that undoing needs no copy either.
var bitmapCommands = []Command{
	{Name: "SETBIT", Arity: 4, Keys: oneKey, Flags: Writes | Grows, Group: GroupBitmap, Action: "cache:Set", Also: alsoOnKey("cache:Get"), Facts: setbitFacts, run: setbit,
		Usage: "key offset value", Summary: "Sets a bit of a string and returns the one before", Complexity: "O(1), O(N) when a string of N bytes grows or another command wrote it last", Since: "2.2.0"},
	{Name: "GETBIT", Arity: 3, Keys: oneKey, Flags: Fast, Group: GroupBitmap, Action: "cache:Get", run: getbit,
		Usage: "key offset", Summary: "Returns a bit of a string", Complexity: "O(1)", Since: "2.2.0"},
	{Name: "BITCOUNT", Arity: -2, Keys: oneKey, Group: GroupBitmap, Action: "cache:Get", run: bitcount,
		Usage: "key [start end [BYTE | BIT]]", Summary: "Counts the set bits of a string or of a part of it", Complexity: "O(N)", Since: "2.6.0"},
	{Name: "BITPOS", Arity: -3, Keys: oneKey, Group: GroupBitmap, Action: "cache:Get", run: bitpos,
		Usage: "key bit [start [end [BYTE | BIT]]]", Summary: "Finds the first set or clear bit of a string or of a part of it", Complexity: "O(N)", Since: "2.8.7"},
	{Name: "BITOP", Arity: -4, Keys: Keys{First: 2, Last: -1, Step: 1}, Flags: Writes | Grows, rests: true, Group: GroupBitmap, Action: "cache:Set", Rights: bitopRights, run: bitop,
		Usage:   "<AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE> destkey key [key ...]",
		Summary: "Combines strings bit by bit and stores the result", Complexity: "O(N) in the length of all the strings", Since: "2.6.0"},
	{Name: "BITFIELD", Arity: -2, Keys: oneKey, Flags: Writes | Grows, Group: GroupBitmap, Action: "cache:Set", Rights: bitfieldRights, Facts: bitfieldFacts,
		run:     func(c *call) error { return bitfield(c, false) },
		Usage:   "key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> ...]",
		Summary: "Reads, sets and adds to integers of any width within a string", Complexity: "O(1) for each of them, and what SETBIT costs once", Since: "3.2.0"},
	{Name: "BITFIELD_RO", Arity: -2, Keys: oneKey, Flags: Fast, Group: GroupBitmap, Action: "cache:Get",
		run:   func(c *call) error { return bitfield(c, true) },
		Usage: "key [GET encoding offset [GET encoding offset ...]]", Summary: "Reads integers of any width within a string", Complexity: "O(1) for each of them", Since: "6.0.0"},
}

var (
	errBitOffset = fault.About(fault.OutOfRange, "engine.bitmap", "offset", "bit offset is not an integer or out of range")
	errBit       = fault.About(fault.OutOfRange, "engine.bitmap", "value", "bit is not an integer or out of range")
)

// parseBitOffset reads the number of a bit, or with a # the number of a field so many bits wide. No bit lies
// beyond HardMaxValue; the cache's own limit comes afterwards, as in Redis, which has only the former.
func parseBitOffset(arg []byte, width int64) (int64, bool) {
	if width > 0 && len(arg) > 0 && arg[0] == '#' {
		arg = arg[1:]
	} else {
		width = 1
	}
	n, ok := parseInt(arg)
	if !ok || n < 0 || n > math.MaxInt64/width || n*width>>3 >= HardMaxValue {
		return 0, false
	}
	return n * width, true
}

// bytesTo is how many bytes a string has that ends with this bit.
func bytesTo(bit int64) int64 { return bit>>3 + 1 }

// bitAt is a bit of data, 0 behind its end.
func bitAt(data []byte, at int64) int64 {
	if at>>3 >= int64(len(data)) {
		return 0
	}
	return int64(data[at>>3] >> (7 - at&7) & 1)
}

// stringBytes are the bytes of a string, none where there is none.
func stringBytes(s *stringValue) []byte {
	if s == nil {
		return nil
	}
	return s.data
}

func setbitFacts(args [][]byte, _ int64) Facts {
	f := Facts{ValueSize: 1, TTL: -1, MaxItems: -1}
	if at, ok := parseBitOffset(args[2], 0); ok {
		f.ValueSize = bytesTo(at)
	}
	return f
}

func setbit(c *call) error {
	key := c.args[1]
	at, ok := parseBitOffset(c.args[2], 0)
	if !ok {
		return errBitOffset
	}
	on, ok := parseInt(c.args[3])
	if !ok || on&^1 != 0 {
		return errBit
	}
	s, it, err := lookup[*stringValue](c, key)
	if err != nil {
		return err
	}
	data := stringBytes(s)
	before, grows := bitAt(data, at), bytesTo(at) > int64(len(data))
	if grows {
		if err := c.checkSizes(key, bytesTo(at)); err != nil { // before anything is allocated
			return err
		}
	}
	if grows || before != on {
		cell := &c.extended(key, s, it, int(bytesTo(at))).str.data[at>>3]
		*cell = *cell&^(0x80>>(at&7)) | byte(on)<<(7-at&7)
	}
	c.out.Int(before)
	return nil
}

func getbit(c *call) error {
	at, ok := parseBitOffset(c.args[2], 0)
	if !ok {
		return errBitOffset
	}
	s, _, err := c.read(c.args[1])
	if err != nil {
		return err
	}
	c.out.Int(bitAt(stringBytes(s), at))
	return nil
}

// A bitRange is the part of a string that BITCOUNT and BITPOS look at, as it was asked for.
type bitRange struct {
	first, last int64 // counted from the end when negative
	inBits      bool
}

// parseBitRange reads [start [end [BYTE | BIT]]]. ended says whether there was an end.
func parseBitRange(args [][]byte) (r bitRange, ended bool, err error) {
	r.last = -1
	if len(args) > 3 {
		return r, false, errSyntax
	}
	for i, a := range args {
		var ok bool
		switch i {
		case 0:
			r.first, ok = parseInt(a)
		case 1:
			r.last, ok = parseInt(a)
		case 2:
			r.inBits, ok = is(a, "BIT"), true
			if !r.inBits && !is(a, "BYTE") {
				return r, false, errSyntax
			}
		}
		if !ok {
			return r, false, errNotInteger
		}
	}
	return r, len(args) > 1, nil
}

// in returns the bits from <= i < to of the range in a string of so many bytes; from >= to when it is empty.
func (r bitRange) in(size int) (from, to int64) {
	n := int64(size)
	if r.inBits {
		n *= 8
	}
	first, last := r.first, r.last
	if first < 0 {
		first = max(first+n, 0)
	}
	if last < 0 {
		last = max(last+n, 0)
	}
	last = min(last, n-1)
	if first > last {
		return 0, 0
	}
	if r.inBits {
		return first, last + 1
	}
	return first * 8, (last + 1) * 8
}

func bitcount(c *call) error {
	if len(c.args) == 3 {
		return errSyntax
	}
	r, _, err := parseBitRange(c.args[2:])
	if err != nil {
		return err
	}
	s, _, err := c.read(c.args[1])
	if err != nil {
		return err
	}
	if r.first < 0 && r.last < 0 && r.first > r.last {
		c.out.Int(0)
		return nil
	}
	from, to := r.in(len(stringBytes(s)))
	n := int64(0)
	c.inPieces(to-from, func(first, last int64) { n += countBits(stringBytes(s), from+first, from+last) })
	c.out.Int(n)
	return nil
}

// inPieces goes over n bits or bytes a piece at a time, with a rest now and then.
func (c *call) inPieces(n int64, do func(from, to int64)) {
	const piece = 1 << 20
	for from := int64(0); from < n; from += piece {
		do(from, min(from+piece, n))
		c.steps(piece / stepBytes)
	}
}

// countBits counts the set bits from <= i < to of data.
func countBits(data []byte, from, to int64) (n int64) {
	for ; from < to && from&7 != 0; from++ {
		n += bitAt(data, from)
	}
	for ; to > from && to&7 != 0; to-- {
		n += bitAt(data, to-1)
	}
	part := data[from>>3 : max(from, to)>>3]
	for ; len(part) >= 8; part = part[8:] {
		n += int64(bits.OnesCount64(binary.LittleEndian.Uint64(part)))
	}
	for _, b := range part {
		n += int64(bits.OnesCount8(b))
	}
	return n
}

func bitpos(c *call) error {
	bit, ok := parseInt(c.args[2])
	if !ok {
		return errNotInteger
	}
	if bit&^1 != 0 {
		return fault.About(fault.OutOfRange, "BITPOS", "bit", "The bit argument must be 1 or 0.")
	}
	if len(c.args) == 6 && !is(c.args[5], "BIT") && !is(c.args[5], "BYTE") { // Redis looks at the unit before the end
		if _, ok := parseInt(c.args[3]); ok {
			return errSyntax
		}
	}
	r, ended, err := parseBitRange(c.args[3:])
	if err != nil {
		return err
	}
	s, _, err := c.read(c.args[1])
	if err != nil {
		return err
	}
	if s == nil { // zeros without end
		c.out.Int(-bit)
		return nil
	}
	from, to := r.in(s.len())
	at := to
	c.inPieces(to-from, func(first, last int64) {
		if at == to {
			if found := findBit(s.data, from+first, from+last, bit); found < from+last {
				at = found
			}
		}
	})
	if at == to && (bit == 1 || ended || from == to) {
		at = -1 // but a clear bit follows behind a string of ones whose end nobody named
	}
	c.out.Int(at)
	return nil
}

// findBit returns the first i in from <= i < to whose bit is bit, to when there is none.
func findBit(data []byte, from, to, bit int64) int64 {
	skip := byte(0xff * (1 - bit)) // a byte that has no such bit
	for from < to {
		if from&7 == 0 && to-from >= 64 && binary.LittleEndian.Uint64(data[from>>3:]) == uint64(skip)*0x0101010101010101 {
			from += 64
			continue
		}
		if from&7 == 0 && to-from >= 8 && data[from>>3] == skip {
			from += 8
			continue
		}
		if bitAt(data, from) == bit {
			return from
		}
		from++
	}
	return to
}

func bitopRights(dst []Right, args [][]byte) []Right {
	dst = append(dst, Right{Action: "cache:Set", On: OnKey, Name: nth(args, 2)})
	for _, key := range args[min(3, len(args)):] {
		dst = append(dst, Right{Action: "cache:Get", On: OnKey, Name: key})
	}
	return dst
}

// bitops combine what has been made of the sources so far, beginning with the first, with the next one. Those
// with an end work on the union of all but the first, which they then combine with the first.
var bitops = map[string]struct {
	step, end func(a, b uint64) uint64
}{
	"AND":   {step: func(a, b uint64) uint64 { return a & b }},
	"OR":    {step: func(a, b uint64) uint64 { return a | b }},
	"XOR":   {step: func(a, b uint64) uint64 { return a ^ b }},
	"NOT":   {end: func(_, first uint64) uint64 { return ^first }},
	"DIFF":  {end: func(others, first uint64) uint64 { return first &^ others }},
	"DIFF1": {end: func(others, first uint64) uint64 { return others &^ first }},
	"ANDOR": {end: func(others, first uint64) uint64 { return others & first }},
	"ONE":   {},
}

func bitop(c *call) error {
	var folded [8]byte
	name := folded[:0]
	for _, b := range c.args[1][:min(len(c.args[1]), len(folded))] {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		name = append(name, b)
	}
	op, ok := bitops[string(name)]
	keys := c.args[3:]
	switch {
	case !ok || len(name) != len(c.args[1]):
		return errSyntax
	case string(name) == "NOT" && len(keys) != 1:
		return fault.New(fault.InvalidArgument, "BITOP", "BITOP NOT must be called with a single source key.")
	case string(name) != "NOT" && op.end != nil && len(keys) < 2:
		return fault.New(fault.InvalidArgument, "BITOP", "BITOP %s must be called with at least two source keys.", name)
	}
	sources, longest := make([][]byte, len(keys)), 0
	for i, key := range keys {
		s, _, err := c.read(key)
		if err != nil {
			return err
		}
		sources[i] = stringBytes(s)
		longest = max(longest, len(sources[i]))
	}
	if err := c.checkSizes(c.args[2], int64(longest)); err != nil { // the limit may have come down since they were stored
		return err
	}
	if longest == 0 {
		c.remove(c.args[2])
		c.out.Int(0)
		return nil
	}
	data := make([]byte, longest)
	c.inPieces(int64(longest), func(from, to int64) {
		of := func(source []byte) []byte { return source[min(int(from), len(source)):min(int(to), len(source))] }
		piece := data[from:to]
		switch {
		case op.end != nil:
			for _, source := range sources[1:] {
				combineBits(piece, of(source), bitops["OR"].step)
			}
			combineBits(piece, of(sources[0]), op.end)
		case op.step != nil:
			copy(piece, of(sources[0]))
			for _, source := range sources[1:] {
				combineBits(piece, of(source), op.step)
			}
		default: // ONE: a bit that is set in two sources is out, whatever the others have
			twice := make([]byte, len(piece))
			for _, source := range sources {
				for i, b := range of(source) {
					twice[i] |= piece[i] & b
					piece[i] |= b
				}
			}
			combineBits(piece, twice, func(some, many uint64) uint64 { return some &^ many })
		}
	})
	c.alone()
	c.write(c.args[2], data, c.defaultDeadline())
	c.out.Int(int64(longest))
	return nil
}

// combineBits makes dst of itself and src, which counts as zeros behind its end.
func combineBits(dst, src []byte, of func(a, b uint64) uint64) {
	for ; len(dst) >= 8 && len(src) >= 8; dst, src = dst[8:], src[8:] {
		binary.LittleEndian.PutUint64(dst, of(binary.LittleEndian.Uint64(dst), binary.LittleEndian.Uint64(src)))
	}
	for i := range dst {
		var b byte
		if i < len(src) {
			b = src[i]
		}
		dst[i] = byte(of(uint64(dst[i]), uint64(b)))
	}
}

// A field is an integer within a bitmap, its highest bit first.
type field struct {
	signed bool
	width  int64 // in bits: 1 to 64, or to 63 when unsigned, as integers in replies are signed
	at     int64 // the number of its first bit
}

// parseField reads an encoding such as i8 or u16, and an offset.
func parseField(encoding, offset []byte) (f field, err error) {
	most := int64(63)
	ok := len(encoding) > 1 && (encoding[0] == 'i' || encoding[0] == 'u')
	if ok {
		if f.signed = encoding[0] == 'i'; f.signed {
			most = 64
		}
		f.width, ok = parseInt(encoding[1:])
	}
	if !ok || f.width < 1 || f.width > most {
		return f, fault.About(fault.InvalidArgument, "engine.bitfield", "encoding", "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.")
	}
	if f.at, ok = parseBitOffset(offset, f.width); !ok {
		return f, errBitOffset
	}
	return f, nil
}

// bytes is how long a string is that ends with the field.
func (f field) bytes() int64 { return bytesTo(f.at + f.width - 1) }

// get reads the field, with the sign of a signed one in all the bits above it.
func (f field) get(data []byte) (n uint64) {
	for i := f.at; i < f.at+f.width; i++ {
		n = n<<1 | uint64(bitAt(data, i))
	}
	return f.fold(n)
}

// fold wraps n into the field.
func (f field) fold(n uint64) uint64 {
	above := 64 - f.width
	if f.signed {
		return uint64(int64(n<<above) >> above)
	}
	return n << above >> above
}

// set writes the lowest bits of n to the field, which lies within data.
func (f field) set(data []byte, n uint64) {
	for i := f.at + f.width - 1; i >= f.at; i, n = i-1, n>>1 {
		mask := byte(0x80) >> (i & 7)
		data[i>>3] &^= mask
		if n&1 == 1 {
			data[i>>3] |= mask
		}
	}
}

// add returns n + by as it stands in the field, and whether it did not fit. n is any 64 bits, taken as unsigned
// for an unsigned field.
func (f field) add(n uint64, by int64, how overflow) (result uint64, over bool) {
	var least, most uint64
	var below, above bool
	if f.signed {
		most = 1<<(f.width-1) - 1
		least = ^most
		s, v := int64(n+uint64(by)), int64(n)
		wrapped := (by > 0 && s < v) || (by < 0 && s > v)
		above = v > int64(most) || (by > 0 && (wrapped || s > int64(most)))
		below = !above && (v < int64(least) || (by < 0 && (wrapped || s < int64(least))))
	} else {
		most = 1<<f.width - 1
		above = n > most || (by > 0 && uint64(by) > most-n)
		below = !above && by < 0 && uint64(-by) > n
	}
	switch {
	case !above && !below, how != overflowSaturate:
		return f.fold(n + uint64(by)), above || below
	case above:
		return most, true
	}
	return least, true
}

// overflow is what BITFIELD does when a number does not fit.
type overflow uint8

const (
	overflowWrap overflow = iota
	overflowSaturate
	overflowFail
)

// A fieldOp is one step of BITFIELD.
type fieldOp struct {
	field
	sets, adds bool // neither: it reads
	by         int64
	overflow   overflow
}

// parseBitfield reads what stands after the key.
func parseBitfield(args [][]byte) (ops []fieldOp, err error) {
	how := overflowWrap
	for len(args) > 0 {
		op, n := fieldOp{overflow: how}, 3
		switch a := args[0]; {
		case is(a, "GET") && len(args) > 2:
		case is(a, "SET") && len(args) > 3:
			op.sets, n = true, 4
		case is(a, "INCRBY") && len(args) > 3:
			op.adds, n = true, 4
		case is(a, "OVERFLOW") && len(args) > 1:
			switch {
			case is(args[1], "WRAP"):
				how = overflowWrap
			case is(args[1], "SAT"):
				how = overflowSaturate
			case is(args[1], "FAIL"):
				how = overflowFail
			default:
				return nil, fault.About(fault.InvalidArgument, "BITFIELD", "overflow", "Invalid OVERFLOW type specified")
			}
			args = args[2:]
			continue
		default:
			return nil, errSyntax
		}
		if op.field, err = parseField(args[1], args[2]); err != nil {
			return nil, err
		}
		if n == 4 {
			var ok bool
			if op.by, ok = parseInt(args[3]); !ok {
				return nil, errNotInteger
			}
		}
		ops, args = append(ops, op), args[n:]
	}
	return ops, nil
}

// writtenTo is how many bytes the writing ones among ops reach, 0 when all of them read.
func writtenTo(ops []fieldOp) (n int64) {
	for _, op := range ops {
		if op.sets || op.adds {
			n = max(n, op.bytes())
		}
	}
	return n
}

// BITFIELD answers with what it read or wrote over; it writes with SET and INCRBY, and that one counts.
func bitfieldRights(dst []Right, args [][]byte) []Right {
	need := func(action string) { dst = append(dst, Right{Action: action, On: OnKey, Name: args[1]}) }
	sets, counts := false, false
	for _, a := range args[2:] {
		sets, counts = sets || is(a, "SET"), counts || is(a, "INCRBY")
	}
	need("cache:Get")
	if sets || counts {
		need("cache:Set")
	}
	if counts {
		need("cache:Increment")
	}
	return dst
}

func bitfieldFacts(args [][]byte, _ int64) Facts {
	f := Facts{ValueSize: -1, TTL: -1, MaxItems: -1}
	if ops, err := parseBitfield(args[2:]); err == nil {
		if n := writtenTo(ops); n > 0 {
			f.ValueSize = n
		}
	}
	return f
}

func bitfield(c *call, readOnly bool) error {
	key := c.args[1]
	ops, err := parseBitfield(c.args[2:])
	if err != nil {
		return err
	}
	end := writtenTo(ops)
	if readOnly && end > 0 {
		return fault.New(fault.InvalidArgument, "BITFIELD_RO", "BITFIELD_RO only supports the GET subcommand")
	}
	s, it, err := lookup[*stringValue](c, key)
	if err != nil {
		return err
	}
	data := stringBytes(s)
	changed := end > int64(len(data))
	if changed {
		if err := c.checkSizes(key, end); err != nil { // before anything is allocated
			return err
		}
	}
	write := func() {
		it = c.extended(key, s, it, int(end))
		s, data, changed = &it.str, it.str.data, true
	}
	switch {
	case changed: // a string that is too short grows even where every number fails to fit, as in Redis
		write()
	case end == 0:
		c.count(s != nil)
	}
	c.out.Array(len(ops))
	for _, op := range ops {
		c.step()
		old := op.get(data)
		if !op.sets && !op.adds {
			c.out.Int(int64(old))
			continue
		}
		from, by := old, op.by
		if op.sets {
			from, by = uint64(op.by), 0
		}
		result, over := op.add(from, by, op.overflow)
		switch {
		case over && op.overflow == overflowFail:
			c.out.Null()
			continue
		case op.sets:
			c.out.Int(int64(old))
		default:
			c.out.Int(int64(result))
		}
		if result != old {
			if !changed {
				write()
			}
			op.set(data, result)
		}
	}
	return nil
}
