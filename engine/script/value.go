package script

import (
	"math"
	"strconv"
	"strings"
	"unsafe"
)

// A kind is the type of a value.
type kind uint8

const (
	kNil kind = iota
	kBool
	kNumber
	kString
	kTable
	kClosure // a function of the script's
	kNative  // one of a library's
	kLight   // a name without content: cjson.null
	kUser    // what newproxy makes
	kThread
	kCell // not a value: where a variable is kept that an inner function knows
)

// A Value is what a variable holds.
type Value struct {
	k kind
	n float64        // a number; 1 for true
	p unsafe.Pointer // a *str, *table, *closure, …, by its kind
}

var (
	vTrue  = Value{k: kBool, n: 1}
	vFalse = Value{k: kBool}
	null   = Value{k: kLight} // cjson.null
)

func vNum(n float64) Value       { return Value{k: kNumber, n: n} }
func vInt(n int) Value           { return Value{k: kNumber, n: float64(n)} }
func vStr(s *str) Value          { return Value{k: kString, p: unsafe.Pointer(s)} }
func vTable(t *table) Value      { return Value{k: kTable, p: unsafe.Pointer(t)} }
func vClosure(c *closure) Value  { return Value{k: kClosure, p: unsafe.Pointer(c)} }
func vNative(f *native) Value    { return Value{k: kNative, p: unsafe.Pointer(f)} }
func vUser(u *userdata) Value    { return Value{k: kUser, p: unsafe.Pointer(u)} }
func vThread(t *coroutine) Value { return Value{k: kThread, p: unsafe.Pointer(t)} }

func vBool(b bool) Value {
	if b {
		return vTrue
	}
	return vFalse
}

func (v Value) str() *str          { return (*str)(v.p) }
func (v Value) s() string          { return (*str)(v.p).s }
func (v Value) table() *table      { return (*table)(v.p) }
func (v Value) closure() *closure  { return (*closure)(v.p) }
func (v Value) native() *native    { return (*native)(v.p) }
func (v Value) user() *userdata    { return (*userdata)(v.p) }
func (v Value) thread() *coroutine { return (*coroutine)(v.p) }
func (v Value) cell() *cell        { return (*cell)(v.p) }

// truth is what a condition makes of a value.
func (v Value) truth() bool { return v.k > kBool || v.k == kBool && v.n != 0 }

func (v Value) isFunction() bool { return v.k == kClosure || v.k == kNative }

var kindNames = [...]string{"nil", "boolean", "number", "string", "table", "function", "function", "userdata", "userdata", "thread", ""}

func (v Value) typeName() string { return kindNames[v.k] }

// A str is a string with its hash, which is computed when first asked for.
type str struct {
	s      string
	h      uint32
	hashed bool
}

// hash is Lua's own, so that the order of tables is.
func (s *str) hash() uint32 {
	if !s.hashed {
		h := uint32(len(s.s))
		step := len(s.s)>>5 + 1
		for i := len(s.s); i >= step; i -= step {
			h ^= h<<5 + h>>2 + uint32(s.s[i-1])
		}
		s.h, s.hashed = h, true
	}
	return s.h
}

// constant makes a string that machines may share.
func constant(s string) *str {
	c := &str{s: s}
	c.hash()
	return c
}

// A cell is a variable that an inner function knows.
type cell struct{ v Value }

// A closure is a function of the script's with the variables around it.
type closure struct {
	p   *proto
	up  []*cell
	env *table
	id  uint32
}

// A native is a function of a library's. It finds its arguments in a, which is good until it calls something, and leaves
// its results in vm.rets.
type native struct {
	name string
	f    func(vm *vm, a []Value)
	id   uint32
}

type userdata struct {
	meta *table
	id   uint32
}

// What things cost in bytes.
const (
	valueBytes   = int64(unsafe.Sizeof(Value{}))
	nodeBytes    = int64(unsafe.Sizeof(node{}))
	tableBytes   = int64(unsafe.Sizeof(table{}))
	strBytes     = int64(unsafe.Sizeof(str{})) + 8
	closureBytes = int64(unsafe.Sizeof(closure{}))
	cellBytes    = int64(unsafe.Sizeof(cell{})) + 8
	nativeBytes  = int64(unsafe.Sizeof(native{}))
)

// rawEqual is equality without metamethods.
func (vm *vm) rawEqual(a, b Value) bool {
	if a.k != b.k {
		return false
	}
	switch a.k {
	case kNil:
		return true
	case kNumber, kBool:
		return a.n == b.n
	case kString:
		return a.p == b.p || vm.sameText(a.str(), b.str())
	}
	return a.p == b.p && a.n == b.n
}

func (vm *vm) sameText(a, b *str) bool {
	if len(a.s) != len(b.s) || a.hashed && b.hashed && a.h != b.h {
		return false
	}
	if len(a.s) > 512 && vm != nil {
		vm.charge(int64(len(a.s) / 256))
	}
	return a.s == b.s
}

// negativeNaN is what a processor of Redis's makes of 0/0. All that we compute is this one, lest replicas differ.
var negativeNaN = math.Float64frombits(0xFFF8000000000000)

// appendNumber writes a number as C's %.14g does.
func appendNumber(dst []byte, n float64) []byte {
	if n == math.Trunc(n) && math.Abs(n) < 1e14 && (n != 0 || !math.Signbit(n)) {
		return strconv.AppendInt(dst, int64(n), 10)
	}
	return appendG(dst, n, 14)
}

// appendG writes a number as C's %.*g does.
func appendG(dst []byte, n float64, precision int) []byte {
	switch {
	case math.IsNaN(n) && math.Signbit(n):
		return append(dst, "-nan"...)
	case math.IsNaN(n):
		return append(dst, "nan"...)
	case math.IsInf(n, 1):
		return append(dst, "inf"...)
	case math.IsInf(n, -1):
		return append(dst, "-inf"...)
	}
	if precision == 0 {
		precision = 1
	}
	// Go writes 100000 with a precision of 5 as 1e+05 as C does, but decides by the digits that are left for some others.
	start := len(dst)
	dst = strconv.AppendFloat(dst, n, 'e', precision-1, 64)
	e := strings.LastIndexByte(string(dst[start:]), 'e')
	exponent, _ := strconv.Atoi(string(dst[start+e+1:]))
	if exponent < -4 || exponent >= precision {
		digits := trimZeros(dst[start : start+e])
		tail := append([]byte(nil), dst[start+e:]...)
		return append(dst[:start+len(digits)], tail...)
	}
	dst = strconv.AppendFloat(dst[:start], n, 'f', precision-1-exponent, 64)
	return dst[:start+len(trimZeros(dst[start:]))]
}

// trimZeros cuts the zeros off a fraction.
func trimZeros(b []byte) []byte {
	for _, c := range b {
		if c == '.' {
			for b[len(b)-1] == '0' {
				b = b[:len(b)-1]
			}
			if b[len(b)-1] == '.' {
				b = b[:len(b)-1]
			}
			return b
		}
	}
	return b
}

// parseNumber reads a number as C's strtod does, with spaces around it.
func parseNumber(s string) (float64, bool) {
	for s != "" && isSpace(s[0]) {
		s = s[1:]
	}
	for s != "" && isSpace(s[len(s)-1]) {
		s = s[:len(s)-1]
	}
	if s == "" || len(s) > 4096 {
		return 0, false
	}
	small := 0 // the digits of a small integer, which most are
	for i := 0; i < len(s); i++ {
		if !isDigit(s[i]) || i == 9 {
			return parseFloat(s)
		}
		small = small*10 + int(s[i]-'0')
	}
	return float64(small), true
}

func parseFloat(s string) (float64, bool) {
	body, negative := s, false
	if s[0] == '-' || s[0] == '+' {
		body, negative = s[1:], s[0] == '-'
	}
	if body == "" || strings.IndexByte(s, '_') >= 0 {
		return 0, false
	}
	if len(body) > 2 && body[0] == '0' && body[1]|0x20 == 'x' {
		if strings.IndexByte(body, 'p') < 0 && strings.IndexByte(body, 'P') < 0 {
			body += "p0"
		}
	} else if !isDigit(body[0]) && body[0] != '.' {
		switch {
		case strings.EqualFold(body, "nan"):
			if negative {
				return negativeNaN, true
			}
			return math.NaN(), true
		case !strings.EqualFold(body, "inf") && !strings.EqualFold(body, "infinity"):
			return 0, false
		}
	}
	n, err := strconv.ParseFloat(body, 64)
	if err != nil && !math.IsInf(n, 0) { // too large is infinite
		return 0, false
	}
	if negative {
		n = -n
	}
	return n, true
}

// number returns a value as a number, if it is one or a string that reads as one.
func (v Value) number() (float64, bool) {
	switch v.k {
	case kNumber:
		return v.n, true
	case kString:
		return parseNumber(v.s())
	}
	return 0, false
}
