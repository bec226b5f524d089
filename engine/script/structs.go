package script

import (
	"math"
	"strings"
)

// The struct library reads and writes numbers and strings as C lays them out.

const maxIntSize = 32

var structFunctions = map[string]func(vm *vm, a []Value){"pack": structPack, "unpack": structUnpack, "size": structSize}

// A layout is the format that is read, and how things are laid out.
type layout struct {
	vm    *vm
	f     string
	big   bool
	align int
}

func (l *layout) number(otherwise int) int {
	if l.f == "" || !isDigit(l.f[0]) {
		return otherwise
	}
	n := 0
	for l.f != "" && isDigit(l.f[0]) {
		if n = n*10 + int(l.f[0]-'0'); n > math.MaxInt32 {
			l.vm.fail("integral size overflow")
		}
		l.f = l.f[1:]
	}
	return n
}

// option reads the next letter of the format, and how many bytes it stands for.
func (l *layout) option() (opt byte, size int) {
	l.vm.charge(8)
	opt = l.f[0]
	l.f = l.f[1:]
	switch opt {
	case 'B', 'b', 'x':
		size = 1
	case 'H', 'h':
		size = 2
	case 'L', 'l', 'T', 'd':
		size = 8
	case 'f':
		size = 4
	case 'c':
		size = l.number(1)
	case 'i', 'I':
		if size = l.number(4); size > maxIntSize {
			l.vm.fail("integral size %d is larger than limit of %d", size, maxIntSize)
		}
	}
	return opt, size
}

// padding is how many bytes come before something of this size at this place.
func (l *layout) padding(at int, opt byte, size int) int {
	if size == 0 || opt == 'c' {
		return 0
	}
	size = min(size, l.align)
	return (size - at&(size-1)) & (size - 1)
}

func (l *layout) control(opt byte) {
	switch opt {
	case ' ':
	case '>':
		l.big = true
	case '<':
		l.big = false
	case '!':
		a := l.number(8)
		if a <= 0 || a&(a-1) != 0 {
			l.vm.fail("alignment %d is not a power of 2", a)
		}
		l.align = a
	default:
		l.vm.argError(0, "invalid format option '"+string([]byte{opt})+"'")
	}
}

// endless is the format up to the byte that ends strings of C.
func endless(f string) string {
	f, _, _ = strings.Cut(f, "\x00")
	return f
}

func (l *layout) putInt(b []byte, n uint64, size int) []byte {
	at := len(b)
	for i := range size {
		if i < 8 {
			b = append(b, byte(n>>(8*i)))
		} else {
			b = append(b, 0)
		}
	}
	if l.big {
		for i, j := at, len(b)-1; i < j; i, j = i+1, j-1 {
			b[i], b[j] = b[j], b[i]
		}
	}
	return b
}

func structPack(vm *vm, a []Value) {
	l := &layout{vm: vm, f: endless(vm.checkString(a, 0)), align: 1}
	var b []byte
	next := 1
	for l.f != "" {
		opt, size := l.option()
		pad := l.padding(len(b), opt, size)
		vm.alloc(int64(pad + 40))
		b = append(b, make([]byte, pad)...)
		switch opt {
		case 'b', 'B', 'h', 'H', 'l', 'L', 'T', 'i', 'I':
			n := vm.checkNumber(a, next)
			next++
			u := uint64(toInt(n))
			if n >= 1<<63 {
				u = unsigned(n)
			}
			b = l.putInt(b, u, size)
		case 'x':
			b = append(b, 0)
		case 'f':
			b = l.putInt(b, uint64(math.Float32bits(float32(vm.checkNumber(a, next)))), 4)
			next++
		case 'd':
			b = l.putInt(b, math.Float64bits(vm.checkNumber(a, next)), 8)
			next++
		case 'c', 's':
			s := vm.checkString(a, next)
			next++
			if size == 0 {
				size = len(s)
			}
			if len(s) < size {
				vm.argError(next, "string too short")
			}
			vm.alloc(int64(size))
			vm.charge(int64(size) / 64)
			b = append(b, s[:size]...)
			if opt == 's' {
				b = append(b, 0)
			}
		default:
			l.control(opt)
		}
	}
	vm.ret1(vm.newText(b))
}

func (l *layout) getInt(b string, signed bool) Value {
	u := uint64(0)
	for i := range len(b) {
		c := b[i]
		if !l.big {
			c = b[len(b)-1-i]
		}
		u = u<<8 | uint64(c)
	}
	if !signed {
		return vNum(float64(u))
	}
	if len(b) < 8 && len(b) > 0 {
		shift := 64 - 8*len(b)
		u = uint64(int64(u<<shift) >> shift)
	}
	return vNum(float64(int64(u)))
}

func structUnpack(vm *vm, a []Value) {
	l := &layout{vm: vm, f: endless(vm.checkString(a, 0)), align: 1}
	data := vm.checkString(a, 1)
	pos := vm.optInt(a, 2, 1)
	if pos <= 0 {
		vm.argError(2, "offset must be 1 or greater")
	}
	pos--
	var list []Value
	fits := func(size int) {
		if size < 0 || size > len(data) || pos > len(data)-size {
			vm.argError(1, "data string too short")
		}
	}
	for l.f != "" {
		opt, size := l.option()
		pos += l.padding(pos, opt, size)
		fits(size)
		if len(list) >= maxArgs {
			vm.fail("stack overflow (too many results)")
		}
		switch opt {
		case 'b', 'B', 'h', 'H', 'l', 'L', 'T', 'i', 'I':
			list = append(list, l.getInt(data[pos:pos+size], opt >= 'a'))
		case 'x':
		case 'f':
			list = append(list, vNum(float64(math.Float32frombits(uint32(toInt(l.getInt(data[pos:pos+4], false).n))))))
		case 'd':
			u := uint64(0)
			for i := range 8 {
				c := data[pos+i]
				if !l.big {
					c = data[pos+7-i]
				}
				u = u<<8 | uint64(c)
			}
			list = append(list, vNum(math.Float64frombits(u)))
		case 'c':
			if size == 0 {
				if len(list) == 0 || list[len(list)-1].k != kNumber {
					vm.fail("format 'c0' needs a previous size")
				}
				size = toInt(list[len(list)-1].n)
				list = list[:len(list)-1]
				fits(size)
			}
			vm.charge(int64(size) / 64)
			list = append(list, vm.newStr(strings.Clone(data[pos:pos+size])))
		case 's':
			n := strings.IndexByte(data[pos:], 0)
			if n < 0 {
				vm.fail("unfinished string in data")
			}
			vm.charge(int64(n) / 64)
			list = append(list, vm.newStr(strings.Clone(data[pos:pos+n])))
			size = n + 1
		default:
			l.control(opt)
		}
		pos += size
	}
	vm.ret(append(list, vInt(pos+1))...)
}

func structSize(vm *vm, a []Value) {
	l := &layout{vm: vm, f: endless(vm.checkString(a, 0)), align: 1}
	pos := 0
	for l.f != "" {
		opt, size := l.option()
		pos += l.padding(pos, opt, size)
		switch {
		case opt == 's':
			vm.argError(0, "option 's' has no fixed size")
		case opt == 'c' && size == 0:
			vm.argError(0, "option 'c0' has no fixed size")
		case !isAlpha(opt) && !isDigit(opt):
			l.control(opt)
		}
		pos += size
	}
	vm.ret1(vInt(pos))
}
