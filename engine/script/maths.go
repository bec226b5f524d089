package script

import (
	"math"
	"math/bits"
	"strconv"
	"strings"
)

func of1(f func(float64) float64) func(vm *vm, a []Value) {
	return func(vm *vm, a []Value) {
		vm.charge(4)
		vm.ret1(sum(f(vm.checkNumber(a, 0))))
	}
}

func of2(f func(x, y float64) float64) func(vm *vm, a []Value) {
	return func(vm *vm, a []Value) {
		vm.charge(4)
		vm.ret1(sum(f(vm.checkNumber(a, 0), vm.checkNumber(a, 1))))
	}
}

var mathFields = map[string]Value{"pi": vNum(math.Pi), "huge": vNum(math.Inf(1))}

var mathFunctions = map[string]func(vm *vm, a []Value){
	"abs": of1(math.Abs), "acos": of1(math.Acos), "asin": of1(math.Asin), "atan": of1(math.Atan), "ceil": of1(math.Ceil), "cos": of1(math.Cos),
	"cosh": of1(math.Cosh), "exp": of1(math.Exp), "floor": of1(math.Floor), "log": of1(math.Log), "log10": of1(math.Log10), "sin": of1(math.Sin),
	"sinh": of1(math.Sinh), "sqrt": of1(math.Sqrt), "tan": of1(math.Tan), "tanh": of1(math.Tanh),
	"deg":   of1(func(x float64) float64 { return x / (math.Pi / 180) }),
	"rad":   of1(func(x float64) float64 { return x * (math.Pi / 180) }),
	"atan2": of2(math.Atan2), "fmod": of2(math.Mod), "mod": of2(math.Mod), "pow": of2(power),
	"ldexp": func(vm *vm, a []Value) {
		vm.ret1(vNum(math.Ldexp(vm.checkNumber(a, 0), max(min(vm.checkInt(a, 1), 1<<20), -1<<20))))
	},
	"frexp": func(vm *vm, a []Value) {
		m, e := math.Frexp(vm.checkNumber(a, 0))
		vm.ret(vNum(m), vInt(e))
	},
	"modf": func(vm *vm, a []Value) {
		n := vm.checkNumber(a, 0)
		whole, part := math.Trunc(n), 0.0
		if !math.IsInf(n, 0) {
			part = n - whole
		}
		vm.ret(vNum(whole), vNum(part))
	},
	"max": func(vm *vm, a []Value) {
		m := vm.checkNumber(a, 0)
		vm.charge(int64(len(a)))
		for i := range a {
			if n := vm.checkNumber(a, i); n > m {
				m = n
			}
		}
		vm.ret1(vNum(m))
	},
	"min": func(vm *vm, a []Value) {
		m := vm.checkNumber(a, 0)
		vm.charge(int64(len(a)))
		for i := range a {
			if n := vm.checkNumber(a, i); n < m {
				m = n
			}
		}
		vm.ret1(vNum(m))
	},
	"random": func(vm *vm, a []Value) {
		r := float64(vm.roll()%math.MaxInt32) / math.MaxInt32
		switch len(a) {
		case 0:
			vm.ret1(vNum(r))
		case 1:
			u := int32(vm.checkInt(a, 0))
			if u < 1 {
				vm.argError(0, "interval is empty")
			}
			vm.ret1(vNum(math.Floor(r*float64(u)) + 1))
		case 2:
			l, u := int32(vm.checkInt(a, 0)), int32(vm.checkInt(a, 1))
			if l > u {
				vm.argError(1, "interval is empty")
			}
			vm.ret1(vNum(math.Floor(r*float64(u-l+1)) + float64(l)))
		default:
			vm.fail("wrong number of arguments")
		}
	},
	"randomseed": func(vm *vm, a []Value) { vm.seed(int32(vm.checkInt(a, 0))) },
}

// bit32 is a number as LuaBitOp takes one: the lower 32 bits of what it rounds to.
func (vm *vm) bit32(a []Value, i int) uint32 {
	n := vm.checkNumber(a, i)
	return uint32(math.Float64bits(n + 6755399441055744.0))
}

func (vm *vm) retBits(u uint32) { vm.ret1(vInt(int(int32(u)))) }

func bitOp(f func(x, y uint32) uint32) func(vm *vm, a []Value) {
	return func(vm *vm, a []Value) {
		u := vm.bit32(a, 0)
		vm.charge(int64(len(a)))
		for i := 1; i < len(a); i++ {
			u = f(u, vm.bit32(a, i))
		}
		vm.retBits(u)
	}
}

func bitShift(f func(x, n uint32) uint32) func(vm *vm, a []Value) {
	return func(vm *vm, a []Value) { vm.retBits(f(vm.bit32(a, 0), vm.bit32(a, 1)&31)) }
}

var bitFunctions = map[string]func(vm *vm, a []Value){
	"tobit":   func(vm *vm, a []Value) { vm.retBits(vm.bit32(a, 0)) },
	"bnot":    func(vm *vm, a []Value) { vm.retBits(^vm.bit32(a, 0)) },
	"bswap":   func(vm *vm, a []Value) { vm.retBits(bits.ReverseBytes32(vm.bit32(a, 0))) },
	"band":    bitOp(func(x, y uint32) uint32 { return x & y }),
	"bor":     bitOp(func(x, y uint32) uint32 { return x | y }),
	"bxor":    bitOp(func(x, y uint32) uint32 { return x ^ y }),
	"lshift":  bitShift(func(x, n uint32) uint32 { return x << n }),
	"rshift":  bitShift(func(x, n uint32) uint32 { return x >> n }),
	"arshift": bitShift(func(x, n uint32) uint32 { return uint32(int32(x) >> n) }),
	"rol":     bitShift(func(x, n uint32) uint32 { return bits.RotateLeft32(x, int(n)) }),
	"ror":     bitShift(func(x, n uint32) uint32 { return bits.RotateLeft32(x, -int(n)) }),
	"tohex": func(vm *vm, a []Value) {
		u, n, upper := vm.bit32(a, 0), int32(8), false
		if len(a) > 1 {
			n = int32(vm.bit32(a, 1))
		}
		if n < 0 {
			upper = true
			if n = -n; n < 0 {
				n = 8
			}
		}
		n = min(n, 8)
		s := strconv.FormatUint(uint64(u), 16)
		s = strings.Repeat("0", 8-len(s)) + s
		if upper {
			s = strings.ToUpper(s)
		}
		vm.ret1(vm.newStr(s[8-n:]))
	},
}
