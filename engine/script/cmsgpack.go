package script

import (
	"encoding/binary"
	"math"
	"strings"
)

// maxPacking is how deep cmsgpack.pack goes into tables; what lies deeper is nil.
const maxPacking = 16

var msgpackFields = map[string]Value{"_NAME": vStr(constant("cmsgpack")), "_VERSION": vStr(constant("lua-cmsgpack 0.4.0")),
	"_COPYRIGHT": vStr(constant("Copyright (C) 2012, Redis Ltd.")), "_DESCRIPTION": vStr(constant("MessagePack C implementation for Lua"))}

var msgpackFunctions = map[string]func(vm *vm, a []Value){
	"pack": func(vm *vm, a []Value) {
		if len(a) == 0 {
			vm.argError(-1, "MessagePack pack needs input.")
		}
		p := &packer{vm: vm}
		for _, v := range a {
			p.value(v, 0)
		}
		vm.ret1(vm.own(p.b))
	},
	"unpack": func(vm *vm, a []Value) { unpackAll(vm, a, 0, 0) },
	"unpack_one": func(vm *vm, a []Value) {
		unpackAll(vm, a, 1, vm.optInt(a, 1, 0))
	},
	"unpack_limit": func(vm *vm, a []Value) {
		limit := vm.checkInt(a, 1)
		unpackAll(vm, a, limit, vm.optInt(a, 2, 0))
	},
}

type packer struct {
	vm *vm
	b  []byte
}

func (p *packer) value(v Value, depth int) {
	p.vm.charge(3)
	p.b = p.vm.room(p.b, 9)
	switch v.k {
	case kString:
		p.text(v.s())
	case kBool:
		p.b = append(p.b, 0xc2+byte(v.n))
	case kNumber:
		p.number(v.n)
	case kTable:
		if depth < maxPacking {
			p.table(v.table(), depth)
			return
		}
		p.b = append(p.b, 0xc0)
	default:
		p.b = append(p.b, 0xc0)
	}
}

func (p *packer) text(s string) {
	p.b = p.vm.room(p.b, len(s)+5)
	p.vm.charge(int64(len(s)) / 64)
	switch n := len(s); {
	case n < 32:
		p.b = append(p.b, 0xa0|byte(n))
	case n <= 0xff:
		p.b = append(p.b, 0xd9, byte(n))
	case n <= 0xffff:
		p.b = binary.BigEndian.AppendUint16(append(p.b, 0xda), uint16(n))
	default:
		p.b = binary.BigEndian.AppendUint32(append(p.b, 0xdb), uint32(n))
	}
	p.b = append(p.b, s...)
}

func (p *packer) number(f float64) {
	n := toInt(f)
	switch {
	case float64(n) != f || n == math.MinInt64 && f != math.MinInt64:
		if f == float64(float32(f)) {
			p.b = binary.BigEndian.AppendUint32(append(p.b, 0xca), math.Float32bits(float32(f)))
			return
		}
		p.b = binary.BigEndian.AppendUint64(append(p.b, 0xcb), math.Float64bits(f))
	case 0 <= n && n <= 127, -32 <= n && n < 0:
		p.b = append(p.b, byte(n))
	case 0 <= n && n <= 0xff:
		p.b = append(p.b, 0xcc, byte(n))
	case 0 <= n && n <= 0xffff:
		p.b = binary.BigEndian.AppendUint16(append(p.b, 0xcd), uint16(n))
	case 0 <= n && n <= 0xffffffff:
		p.b = binary.BigEndian.AppendUint32(append(p.b, 0xce), uint32(n))
	case 0 <= n:
		p.b = binary.BigEndian.AppendUint64(append(p.b, 0xcf), uint64(n))
	case n >= -128:
		p.b = append(p.b, 0xd0, byte(n))
	case n >= -32768:
		p.b = binary.BigEndian.AppendUint16(append(p.b, 0xd1), uint16(n))
	case n >= -2147483648:
		p.b = binary.BigEndian.AppendUint32(append(p.b, 0xd2), uint32(n))
	default:
		p.b = binary.BigEndian.AppendUint64(append(p.b, 0xd3), uint64(n))
	}
}

// head appends the size of an array or map, by their three codes.
func (p *packer) head(n int, fix, short, long byte) {
	switch {
	case n <= 15:
		p.b = append(p.b, fix|byte(n))
	case n <= 0xffff:
		p.b = binary.BigEndian.AppendUint16(append(p.b, short), uint16(n))
	default:
		p.b = binary.BigEndian.AppendUint32(append(p.b, long), uint32(n))
	}
}

func (p *packer) table(t *table, depth int) {
	count, most, array := 0, 0.0, true
	for at := 0; ; count++ {
		var k Value
		p.vm.charge(1)
		if k, _, at = t.next(p.vm, at); k.k == kNil {
			break
		}
		if k.k != kNumber || k.n <= 0 || k.n != math.Trunc(k.n) || k.n > math.MaxInt32 {
			array = false
		} else {
			most = max(most, k.n)
		}
	}
	if array && int(most) == count {
		n := t.length(p.vm)
		p.head(n, 0x90, 0xdc, 0xdd)
		for i := 1; i <= n; i++ {
			p.value(p.vm.index(vTable(t), vInt(i), nil), depth+1)
		}
		return
	}
	p.head(count, 0x80, 0xde, 0xdf)
	for at := 0; ; {
		var k, v Value
		if k, v, at = t.next(p.vm, at); k.k == kNil {
			return
		}
		p.value(k, depth+1)
		p.value(v, depth+1)
	}
}

// An unpacker reads; it stops at the first thing that is wrong.
type unpacker struct {
	vm    *vm
	s     string
	depth int
}

func unpackAll(vm *vm, a []Value, limit, offset int) {
	s := vm.checkString(a, 0)
	all := limit == 0 && offset == 0
	switch {
	case offset < 0 || limit < 0:
		vm.fail("Invalid request to unpack with offset of %d and limit of %d.", int32(offset), int32(len(s)))
	case offset > len(s):
		vm.fail("Start offset %d greater than input length %d.", int32(offset), int32(len(s)))
	case all:
		limit = math.MaxInt32
	}
	u := &unpacker{vm: vm, s: s[offset:]}
	var list []Value
	for n := 0; u.s != "" && n < limit; n++ {
		if len(list) > maxArgs {
			vm.fail("stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)")
		}
		list = append(list, u.value())
	}
	vm.rets = vm.rets[:0]
	if !all {
		at := len(s) - len(u.s)
		if u.s == "" {
			at = -1
		}
		vm.rets = append(vm.rets, vInt(at))
	}
	vm.rets = append(vm.rets, list...)
}

// take cuts n bytes off.
func (u *unpacker) take(n int) string {
	if n > len(u.s) {
		u.vm.fail("Missing bytes in input.")
	}
	b := u.s[:n]
	u.s = u.s[n:]
	return b
}

func (u *unpacker) uint(bytes int) uint64 {
	n := uint64(0)
	for _, c := range []byte(u.take(bytes)) {
		n = n<<8 | uint64(c)
	}
	return n
}

func (u *unpacker) text(n int) Value {
	b := u.take(n)
	u.vm.charge(int64(n) / 128)
	return u.vm.newStr(strings.Clone(b))
}

func (u *unpacker) value() Value {
	u.vm.charge(3)
	c := u.take(1)[0]
	switch {
	case c < 0x80:
		return vInt(int(c))
	case c >= 0xe0:
		return vInt(int(int8(c)))
	case c < 0x90:
		return u.table(int(c&15), true)
	case c < 0xa0:
		return u.table(int(c&15), false)
	case c < 0xc0:
		return u.text(int(c & 31))
	}
	switch c {
	case 0xc0:
		return Value{}
	case 0xc2:
		return vFalse
	case 0xc3:
		return vTrue
	case 0xca:
		return vNum(float64(math.Float32frombits(uint32(u.uint(4)))))
	case 0xcb:
		return vNum(math.Float64frombits(u.uint(8)))
	case 0xcc:
		return vNum(float64(u.uint(1)))
	case 0xcd:
		return vNum(float64(u.uint(2)))
	case 0xce:
		return vNum(float64(u.uint(4)))
	case 0xcf:
		return vNum(float64(u.uint(8)))
	case 0xd0:
		return vInt(int(int8(u.uint(1))))
	case 0xd1:
		return vInt(int(int16(u.uint(2))))
	case 0xd2:
		return vInt(int(int32(u.uint(4))))
	case 0xd3:
		return vInt(int(int64(u.uint(8))))
	case 0xd9:
		return u.text(int(u.uint(1)))
	case 0xda:
		return u.text(int(u.uint(2)))
	case 0xdb:
		return u.text(int(u.uint(4)))
	case 0xdc:
		return u.table(int(u.uint(2)), false)
	case 0xdd:
		return u.table(int(u.uint(4)), false)
	case 0xde:
		return u.table(int(u.uint(2)), true)
	case 0xdf:
		return u.table(int(u.uint(4)), true)
	}
	u.vm.fail("Bad data format in input.")
	return Value{}
}

func (u *unpacker) table(n int, keyed bool) Value {
	if u.depth++; u.depth > maxJSONNesting {
		u.vm.fail("stack overflow (in function mp_decode_to_lua_array)")
	}
	t := u.vm.newTable(0, 0)
	for i := 1; i <= n; i++ {
		k := vInt(i)
		if keyed {
			k = u.value()
		}
		v := u.value()
		u.vm.setRaw(t, k, v)
	}
	u.depth--
	return vTable(t)
}
