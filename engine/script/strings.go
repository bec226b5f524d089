package script

import (
	"math"
	"strconv"
	"strings"
)

var stringFunctions = map[string]func(vm *vm, a []Value){
	"byte": func(vm *vm, a []Value) {
		s := vm.checkString(a, 0)
		from := relative(vm.optInt(a, 1, 1), len(s))
		to := relative(vm.optInt(a, 2, from), len(s))
		from, to = max(from, 1), min(to, len(s))
		vm.rets = vm.rets[:0]
		if from > to {
			return
		}
		if to-from+1 > maxArgs {
			vm.fail("string slice too long")
		}
		vm.charge(int64(to-from) / 4)
		for i := from; i <= to; i++ {
			vm.rets = append(vm.rets, vInt(int(s[i-1])))
		}
	},
	"char": func(vm *vm, a []Value) {
		b := make([]byte, len(a))
		for i := range a {
			n := vm.checkInt(a, i)
			if n < 0 || n > 255 {
				vm.argError(i, "invalid value")
			}
			b[i] = byte(n)
		}
		vm.ret1(vm.newText(b))
	},
	"dump": func(vm *vm, a []Value) {
		if vm.checkFunction(a, 0).k == kNative {
			vm.fail("unable to dump given function")
		}
		vm.ret1(vm.newStr("\x1bLua")) // which loadstring refuses, as every text that begins so
	},
	"find":   func(vm *vm, a []Value) { find(vm, a, true) },
	"match":  func(vm *vm, a []Value) { find(vm, a, false) },
	"format": format,
	"gmatch": gmatch,
	"gfind":  gmatch,
	"gsub":   gsub,
	"len":    func(vm *vm, a []Value) { vm.ret1(vInt(len(vm.checkString(a, 0)))) },
	"lower": func(vm *vm, a []Value) {
		vm.ret1(vm.mapBytes(vm.checkString(a, 0), func(c byte) byte {
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			return c
		}))
	},
	"upper": func(vm *vm, a []Value) {
		vm.ret1(vm.mapBytes(vm.checkString(a, 0), func(c byte) byte {
			if 'a' <= c && c <= 'z' {
				c -= 'a' - 'A'
			}
			return c
		}))
	},
	"rep": func(vm *vm, a []Value) {
		s, n := vm.checkString(a, 0), vm.checkInt(a, 1)
		if n <= 0 || s == "" {
			vm.ret1(vStr(empty))
			return
		}
		if n > math.MaxInt32 {
			vm.fail("resulting string too large")
		}
		vm.alloc(strBytes + int64(len(s))*int64(n))
		vm.charge(int64(len(s)) * int64(n) / 32)
		vm.ret1(vStr(&str{s: strings.Repeat(s, n)}))
	},
	"reverse": func(vm *vm, a []Value) {
		s := vm.checkString(a, 0)
		vm.charge(int64(len(s)) / 4)
		b := vm.room(nil, len(s))[:len(s)]
		for i := range len(s) {
			b[len(s)-1-i] = s[i]
		}
		vm.ret1(vm.own(b))
	},
	"sub": func(vm *vm, a []Value) {
		s := vm.checkString(a, 0)
		from, to := relative(vm.checkInt(a, 1), len(s)), relative(vm.optInt(a, 2, -1), len(s))
		from, to = max(from, 1), min(to, len(s))
		if from > to {
			vm.ret1(vStr(empty))
			return
		}
		if from == 1 && to == len(s) && a[0].k == kString {
			vm.ret1(a[0])
			return
		}
		vm.charge(int64(to-from) / 128)
		vm.ret1(vm.newStr(strings.Clone(s[from-1 : to])))
	},
}

var empty = constant("")

// relative is a position that may be counted from the end.
func relative(i, n int) int {
	if i < 0 {
		i += n + 1
	}
	return max(i, 0)
}

func (vm *vm) mapBytes(s string, f func(byte) byte) Value {
	vm.charge(int64(len(s)) / 4)
	b := append(vm.room(nil, len(s)), s...)
	for i, c := range b {
		b[i] = f(c)
	}
	return vm.own(b)
}

// A spec is one conversion of a format: %-05.2f.
type spec struct {
	minus, plus, space, sharp, zero bool
	width, precision                int // -1 for no precision
	verb                            byte
}

func (vm *vm) spec(f string) (s spec, n int) {
	s.precision = -1
	flags := true
	for flags && n < len(f) {
		switch f[n] {
		case '-':
			s.minus = true
		case '+':
			s.plus = true
		case ' ':
			s.space = true
		case '#':
			s.sharp = true
		case '0':
			s.zero = true
		default:
			flags = false
			n--
		}
		n++
	}
	if n >= 6 {
		vm.fail("invalid format (repeated flags)")
	}
	digits := func() (v int) {
		for i := 0; i < 2 && n < len(f) && isDigit(f[n]); i++ {
			v = v*10 + int(f[n]-'0')
			n++
		}
		return v
	}
	s.width = digits()
	if n < len(f) && f[n] == '.' {
		n++
		s.precision = digits()
	}
	if n < len(f) && isDigit(f[n]) {
		vm.fail("invalid format (width or precision too long)")
	}
	if n < len(f) {
		s.verb = f[n]
		n++
	}
	return s, n
}

// pad appends a number's sign and digits, or a text, in the width.
func (s *spec) pad(dst []byte, sign, body string, zeros bool) []byte {
	fill := s.width - len(sign) - len(body)
	if !s.minus && !(zeros && s.zero) {
		for ; fill > 0; fill-- {
			dst = append(dst, ' ')
		}
	}
	dst = append(dst, sign...)
	if !s.minus {
		for ; fill > 0; fill-- {
			dst = append(dst, '0')
		}
	}
	dst = append(dst, body...)
	for ; fill > 0; fill-- {
		dst = append(dst, ' ')
	}
	return dst
}

func (s *spec) sign(negative bool) string {
	switch {
	case negative:
		return "-"
	case s.plus:
		return "+"
	case s.space:
		return " "
	}
	return ""
}

func (s *spec) integer(dst []byte, n uint64, base int, sign string) []byte {
	body := strconv.FormatUint(n, base)
	if s.verb == 'X' {
		body = strings.ToUpper(body)
	}
	if s.precision == 0 && n == 0 {
		body = ""
	}
	for len(body) < s.precision {
		body = "0" + body
	}
	if s.sharp && n != 0 {
		switch s.verb {
		case 'x':
			sign += "0x"
		case 'X':
			sign += "0X"
		case 'o':
			if body[0] != '0' {
				body = "0" + body
			}
		}
	}
	return s.pad(dst, sign, body, s.precision < 0)
}

func (s *spec) float(dst []byte, n float64) []byte {
	negative := math.Signbit(n)
	sign := s.sign(negative)
	if math.IsNaN(n) || math.IsInf(n, 0) {
		body := "inf"
		if math.IsNaN(n) {
			body = "nan"
		}
		if s.verb < 'a' {
			body = strings.ToUpper(body)
		}
		return s.pad(dst, sign, body, false)
	}
	if negative {
		n = -n
	}
	precision := s.precision
	if precision < 0 {
		precision = 6
	}
	var body []byte
	switch s.verb | 0x20 {
	case 'f':
		body = strconv.AppendFloat(nil, n, 'f', precision, 64)
	case 'e':
		body = strconv.AppendFloat(nil, n, 'e', precision, 64)
	default:
		body = appendG(nil, n, precision)
	}
	text := string(body)
	if s.verb < 'a' {
		text = strings.ToUpper(text)
	}
	return s.pad(dst, sign, text, true)
}

func format(vm *vm, a []Value) {
	f := vm.checkString(a, 0)
	vm.charge(int64(len(f)) / 8)
	var b []byte
	next := 1
	for i := 0; i < len(f); {
		at := strings.IndexByte(f[i:], '%')
		if at < 0 {
			b = append(vm.room(b, len(f)-i), f[i:]...)
			break
		}
		b = append(vm.room(b, at+1), f[i:i+at]...)
		i += at + 1
		if i < len(f) && f[i] == '%' {
			b = append(b, '%')
			i++
			continue
		}
		s, n := vm.spec(f[i:])
		i += n
		vm.charge(20)
		b = vm.room(b, 512) // for what is no string
		before := len(b)
		if next >= len(a) {
			vm.argError(next, "no value")
		}
		switch s.verb {
		case 'c':
			b = s.pad(b, "", string([]byte{byte(vm.checkInt(a, next))}), false)
		case 'd', 'i':
			v := vm.checkInt(a, next)
			u := uint64(v)
			if v < 0 {
				u = -u
			}
			b = s.integer(b, u, 10, s.sign(v < 0))
		case 'u':
			b = s.integer(b, unsigned(vm.checkNumber(a, next)), 10, "")
		case 'x', 'X':
			b = s.integer(b, unsigned(vm.checkNumber(a, next)), 16, "")
		case 'o':
			b = s.integer(b, unsigned(vm.checkNumber(a, next)), 8, "")
		case 'e', 'E', 'f', 'g', 'G':
			b = s.float(b, vm.checkNumber(a, next))
		case 'q':
			b = vm.quoted(b, vm.checkString(a, next))
		case 's':
			t := vm.checkString(a, next)
			if s.precision >= 0 && s.precision < len(t) {
				t = t[:s.precision]
			}
			b = s.pad(vm.room(b, len(t)+100), "", t, false)
		default:
			vm.fail("invalid option '%%%s' to 'format'", strings.TrimRight(string(s.verb), "\x00"))
		}
		next++
		if isFloat(s.verb) {
			vm.charge(4 * int64(len(b)-before))
		}
		vm.charge(int64(len(b)-before) / 32)
	}
	vm.ret1(vm.own(b))
}

// isFloat reports whether a conversion writes digits of a fraction, of which each takes work.
func isFloat(verb byte) bool { return 'e' <= verb|0x20 && verb|0x20 <= 'g' }

// unsigned is a number as C casts one to an unsigned integer, by way of a signed one where it is negative.
func unsigned(n float64) uint64 {
	if n < 0 {
		return uint64(toInt(n))
	}
	if n >= 1<<63 {
		if n >= 1<<64 {
			return 0
		}
		return uint64(n)
	}
	return uint64(toInt(n))
}

func (vm *vm) quoted(b []byte, s string) []byte {
	vm.charge(int64(len(s)) / 8)
	b = append(vm.room(b, 4*len(s)+2), '"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			b = append(b, '\\', c)
		case '\r':
			b = append(b, "\\r"...)
		case 0:
			b = append(b, "\\000"...)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"')
}
