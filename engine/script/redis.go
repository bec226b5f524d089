package script

import (
	"crypto/sha1"
	"encoding/hex"
	"math"
	"strconv"
	"strings"
	"unsafe"
)

// Version is what scripts are told that they run on: the newest Redis whose commands we have.
const (
	Version    = "7.4.0"
	versionNum = 7<<16 | 4<<8
)

var versionFields = map[string]Value{
	"LOG_DEBUG": vInt(0), "LOG_VERBOSE": vInt(1), "LOG_NOTICE": vInt(2), "LOG_WARNING": vInt(3),
	"REDIS_VERSION": vStr(constant(Version)), "REDIS_VERSION_NUM": vInt(versionNum),
	"VALKEY_VERSION": vStr(constant("8.0.1")), "VALKEY_VERSION_NUM": vInt(8<<16 | 1), "SERVER_NAME": vStr(constant("larder")),
}

var redisFields = func() map[string]Value {
	m := map[string]Value{"REPL_NONE": vInt(0), "REPL_AOF": vInt(1), "REPL_SLAVE": vInt(2), "REPL_REPLICA": vInt(2), "REPL_ALL": vInt(3)}
	for k, v := range versionFields {
		m[k] = v
	}
	return m
}()

var redisFunctions = map[string]func(vm *vm, a []Value){
	"call":  func(vm *vm, a []Value) { vm.command(a, true) },
	"pcall": func(vm *vm, a []Value) { vm.command(a, false) },
	"log":   redisLog,
	"sha1hex": func(vm *vm, a []Value) {
		if len(a) != 1 {
			vm.raiseErr("wrong number of arguments")
		}
		text, _ := a[0].text(nil)
		vm.charge(int64(len(text)) / 4)
		h := sha1.Sum(text)
		vm.ret1(vm.newStr(hex.EncodeToString(h[:])))
	},
	"error_reply": func(vm *vm, a []Value) {
		if len(a) != 1 || a[0].k != kString {
			vm.ret1(vTable(vm.errTable("wrong number or type of arguments")))
			return
		}
		vm.ret1(vTable(vm.errTable("-" + strings.TrimPrefix(a[0].s(), "-"))))
	},
	"status_reply": func(vm *vm, a []Value) {
		if len(a) != 1 || a[0].k != kString {
			vm.ret1(vTable(vm.errTable("wrong number or type of arguments")))
			return
		}
		t := vm.newTable(0, 0)
		t.set(vm, vStr(sOK), a[0])
		vm.ret1(vTable(t))
	},
	"setresp": func(vm *vm, a []Value) {
		if len(a) != 1 {
			vm.raiseErr("server.setresp() requires one argument.")
		}
		n, _ := a[0].number()
		if n = math.Trunc(n); n != 2 && n != 3 {
			vm.raiseErr("RESP version must be 2 or 3.")
		}
		vm.resp = int(n)
	},
	"set_repl": func(vm *vm, a []Value) {
		if len(a) != 1 {
			vm.raiseErr("server.set_repl() requires one argument.")
		}
		if n, _ := a[0].number(); toInt(n)&^3 != 0 {
			vm.raiseErr("Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
		}
	},
	"replicate_commands": func(vm *vm, _ []Value) { vm.ret1(vTrue) },
	"breakpoint":         func(vm *vm, _ []Value) { vm.ret1(vFalse) },
	"debug":              func(vm *vm, _ []Value) { vm.rets = vm.rets[:0] },
	"acl_check_cmd": func(vm *vm, a []Value) {
		args, ok := vm.commandArgs(a)
		if !ok {
			vm.raise(vm.first())
		}
		may, known := vm.host.MayCall(args)
		if !known {
			vm.raiseErr("Invalid command passed to server.acl_check_cmd()")
		}
		vm.ret1(vBool(may))
	},
}

func redisLog(vm *vm, a []Value) {
	if len(a) < 2 {
		vm.raiseErr("server.log() requires two arguments or more.")
	}
	n, ok := a[0].number()
	if !ok {
		vm.raiseErr("First argument must be a number (log level).")
	}
	level := toInt(n)
	if level < 0 || level > 3 {
		vm.raiseErr("Invalid log level.")
	}
	var b []byte
	for i, v := range a[1:] {
		if !isText(v) {
			continue
		}
		if i > 0 {
			b = append(vm.room(b, 1), ' ')
		}
		b = vm.appendText(b, v)
	}
	vm.alloc(int64(len(b)))
	vm.host.Log(level, string(b))
	vm.rets = vm.rets[:0]
}

// lent is a string's bytes, which nobody may change.
func lent(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// commandArgs makes a command's arguments. When it cannot, the error is in vm.rets.
func (vm *vm) commandArgs(a []Value) (args [][]byte, ok bool) {
	if len(a) == 0 {
		vm.ret1(vTable(vm.errTable("Please specify at least one argument for this call")))
		return nil, false
	}
	args = vm.argv[:0]
	for _, v := range a {
		switch v.k {
		case kString:
			args = append(args, lent(v.s()))
		case kNumber:
			vm.alloc(24)
			args = append(args, appendArgument(nil, v.n))
		default:
			vm.ret1(vTable(vm.errTable("Command arguments must be strings or integers")))
			return nil, false
		}
	}
	vm.argv = args
	return args, true
}

// appendArgument writes a number as an argument: an integer in full, another as short as it can be without loss.
func appendArgument(dst []byte, n float64) []byte {
	if n == math.Trunc(n) && n > -(1<<63) && n < 1<<63 && (n != 0 || !math.Signbit(n)) {
		return strconv.AppendInt(dst, int64(n), 10)
	}
	switch {
	case math.IsNaN(n) && math.Signbit(n):
		return append(dst, "-nan"...)
	case math.IsNaN(n):
		return append(dst, "nan"...)
	case math.IsInf(n, 1):
		return append(dst, "inf"...)
	case math.IsInf(n, -1):
		return append(dst, "-inf"...)
	case n == 0:
		return append(dst, "-0"...)
	}
	var e [32]byte
	digits := strconv.AppendFloat(e[:0], n, 'e', -1, 64)
	if digits[0] == '-' {
		dst, digits = append(dst, '-'), digits[1:]
	}
	mantissa, exponent, _ := strings.Cut(string(digits), "e")
	mantissa = strings.Replace(mantissa, ".", "", 1)
	x, _ := strconv.Atoi(exponent)
	k := x - len(mantissa) + 1 // the number is mantissa times 10 to the k
	size := x
	if size < 0 {
		size = -size
	}
	switch {
	case k >= 0 && size < len(mantissa)+7:
		return append(append(dst, mantissa...), strings.Repeat("0", k)...)
	case k < 0 && (k > -7 || size < 4):
		if point := len(mantissa) + k; point > 0 {
			return append(append(append(dst, mantissa[:point]...), '.'), mantissa[point:]...)
		} else {
			return append(append(append(dst, "0."...), strings.Repeat("0", -point)...), mantissa...)
		}
	}
	dst = append(dst, mantissa[0])
	if len(mantissa) > 1 {
		dst = append(append(dst, '.'), mantissa[1:]...)
	}
	dst = append(dst, 'e')
	if x >= 0 {
		dst = append(dst, '+')
	}
	return strconv.AppendInt(dst, int64(x), 10)
}

// callSteps is what a command costs at the least.
const callSteps = 15

// command is redis.call and redis.pcall.
func (vm *vm) command(a []Value, raise bool) {
	args, ok := vm.commandArgs(a)
	if !ok {
		if raise {
			vm.raise(vm.first())
		}
		return
	}
	size := 0
	for _, x := range args {
		size += len(x)
	}
	vm.charge(callSteps + int64(size)/32)
	b := &vm.reply
	b.begin(vm)
	failed, cost := vm.host.Call(args, b)
	vm.charge(cost.Steps)
	vm.alloc(cost.Bytes)
	if failed != "" {
		vm.charge(40)
		t := vm.errTable(failed)
		t.set(vm, vStr(sIgnore), vTrue)
		b.result, b.failed = vTable(t), true
	}
	if b.failed && raise {
		vm.raise(b.result)
	}
	vm.ret1(b.result)
}

// A loading is a library on its way into memory.
type loading struct {
	functions []Function
}

// A Function is what a library has registered.
type Function struct {
	Name        string
	Description string
	Described   bool
	Flags       Flags
	callback    Value
}

const badName = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"

func registerFunction(vm *vm, a []Value) {
	if vm.lib == nil {
		vm.raiseErr("server.register_function can only be called on FUNCTION LOAD command")
	}
	var f Function
	switch len(a) {
	case 1:
		f = vm.namedFunction(a[0])
	case 2:
		if !isText(a[0]) {
			vm.raiseErr("first argument to server.register_function must be a string")
		}
		if !a[1].isFunction() {
			vm.raiseErr("second argument to server.register_function must be a function")
		}
		name, _ := a[0].text(nil)
		f = Function{Name: string(name), callback: a[1]}
	default:
		vm.raiseErr("wrong number of arguments to server.register_function")
	}
	if !ValidName(f.Name) {
		vm.raiseErr(badName)
	}
	for i := range vm.lib.functions {
		if vm.lib.functions[i].Name == f.Name {
			vm.raiseErr("Function already exists in the library")
		}
	}
	vm.alloc(int64(len(f.Name) + len(f.Description) + 128))
	vm.lib.functions = append(vm.lib.functions, f)
	vm.rets = vm.rets[:0]
}

func (vm *vm) namedFunction(v Value) (f Function) {
	if v.k != kTable {
		vm.raiseErr("calling server.register_function with a single argument is only applicable to Lua table (representing named arguments).")
	}
	named, called := false, false
	for at := 0; ; {
		var k, x Value
		if k, x, at = v.table().next(vm, at); k.k == kNil {
			break
		}
		if !isText(k) {
			vm.raiseErr("named argument key given to server.register_function is not a string")
		}
		key, _ := k.text(nil)
		text, isText := x.text(nil)
		switch strings.ToLower(string(key)) {
		case "function_name":
			if !isText {
				vm.raiseErr("function_name argument given to server.register_function must be a string")
			}
			f.Name, named = string(text), true
		case "description":
			if !isText {
				vm.raiseErr("description argument given to server.register_function must be a string")
			}
			f.Description, f.Described = string(text), true
		case "callback":
			if !x.isFunction() {
				vm.raiseErr("callback argument given to server.register_function must be a function")
			}
			f.callback, called = x, true
		case "flags":
			if x.k != kTable {
				vm.raiseErr("flags argument to server.register_function must be a table representing function flags")
			}
			for i := 1; ; i++ {
				name := vm.index(x, vInt(i), nil)
				if name.k == kNil {
					break
				}
				text, _ := name.text(nil)
				flag, ok := flagOf(strings.ToLower(string(text)))
				if !ok {
					vm.raiseErr("unknown flag given")
				}
				f.Flags |= flag
			}
		default:
			vm.raiseErr("unknown argument given to server.register_function")
		}
	}
	if !named {
		vm.raiseErr("server.register_function must get a function name argument")
	}
	if !called {
		vm.raiseErr("server.register_function must get a callback argument")
	}
	return f
}
