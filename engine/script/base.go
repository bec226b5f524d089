package script

import (
	"strconv"
	"strings"
)

// Things that all machines share: they never change.
var (
	builtinIDs   uint32
	stringMeta   *table
	nextFunction *native
	libraries    map[string]Value // what the globals hold, but for KEYS and ARGV
	libraryAPI   *table           // what a library sees while it is loaded
	protection   *table           // the metatable of what has no other fields than it has
)

// firstID is above the numbers of what machines share.
const firstID = 1 << 12

func builtin(name string, f func(vm *vm, a []Value)) *native {
	builtinIDs++
	return &native{name: name, f: f, id: builtinIDs}
}

// library makes a table that nobody can change.
func library(functions map[string]func(vm *vm, a []Value), fields map[string]Value) *table {
	builtinIDs++
	t := &table{id: builtinIDs}
	for _, name := range sortedKeys(functions) {
		t.setStr(nil, name, vNative(builtin(name, functions[name])))
	}
	for _, name := range sortedKeys(fields) {
		t.setStr(nil, name, fields[name])
	}
	t.readonly = true
	return t
}

func init() {
	strings := library(stringFunctions, nil)
	stringMeta = library(nil, map[string]Value{"__index": vTable(strings)})
	protection = library(map[string]func(vm *vm, a []Value){"__index": missingGlobal}, nil)
	api := library(redisFunctions, redisFields)
	libraries = map[string]Value{
		"_VERSION":  vStr(constant("Lua 5.1")),
		"string":    vTable(strings),
		"table":     vTable(library(tableFunctions, nil)),
		"math":      vTable(library(mathFunctions, mathFields)),
		"bit":       vTable(library(bitFunctions, nil)),
		"os":        vTable(library(map[string]func(vm *vm, a []Value){"clock": osClock}, nil)),
		"coroutine": vTable(library(coroutineFunctions, nil)),
		"cjson":     vTable(library(jsonFunctions, jsonFields)),
		"cmsgpack":  vTable(library(msgpackFunctions, msgpackFields)),
		"struct":    vTable(library(structFunctions, nil)),
		"redis":     vTable(api),
		"server":    vTable(api),
	}
	for _, name := range sortedKeys(baseFunctions) {
		libraries[name] = vNative(builtin(name, baseFunctions[name]))
	}
	nextFunction = libraries["next"].native()
	loading := library(map[string]func(vm *vm, a []Value){"register_function": registerFunction, "log": redisLog}, versionFields)
	loading.meta = protection
	libraryAPI = library(nil, map[string]Value{"redis": vTable(loading), "server": vTable(loading)})
	libraryAPI.meta = protection
	if builtinIDs >= firstID {
		panic("script: too many functions for the numbers of those that machines share")
	}
}

// newGlobals makes a machine's own globals.
func newGlobals() *table {
	t := &table{id: firstID - 1, meta: protection}
	for _, name := range sortedKeys(libraries) {
		t.setStr(nil, name, libraries[name])
	}
	t.setStr(nil, "_G", vTable(t))
	t.setStr(nil, "KEYS", vFalse)
	t.setStr(nil, "ARGV", vFalse)
	t.readonly = true
	return t
}

// missingGlobal is __index of the globals.
func missingGlobal(vm *vm, a []Value) {
	if len(a) != 2 {
		vm.fail("Wrong number of arguments to luaProtectedTableError")
	}
	if !isText(a[1]) {
		vm.fail("Second argument to luaProtectedTableError must be a string or number")
	}
	name, _ := a[1].text(nil)
	vm.fail("Script attempted to access nonexistent global variable '%s'", name)
}

var baseFunctions = map[string]func(vm *vm, a []Value){
	"assert": func(vm *vm, a []Value) {
		if !vm.checkAny(a, 0).truth() {
			vm.fail("%s", vm.optString(a, 1, "assertion failed!"))
		}
		vm.ret(a...)
	},
	"collectgarbage": func(vm *vm, a []Value) {
		switch option := vm.optString(a, 0, "collect"); option {
		case "count":
			vm.ret1(vNum(float64(vm.mem) / 1024))
		case "collect", "step", "stop", "restart", "setpause", "setstepmul":
			vm.ret1(vNum(0))
		default:
			vm.argError(0, "invalid option '"+option+"'")
		}
	},
	"gcinfo": func(vm *vm, _ []Value) { vm.ret1(vNum(0)) },
	"error": func(vm *vm, a []Value) {
		level := vm.optInt(a, 1, 1)
		v := arg(a, 0)
		if isText(v) && level > 0 {
			text, _ := v.text([]byte(vm.where(level)))
			v = vm.newText(text)
		}
		vm.raise(v)
	},
	"getfenv":      getEnv,
	"setfenv":      setEnv,
	"getmetatable": getMetatable,
	"setmetatable": setMetatable,
	"ipairs": func(vm *vm, a []Value) {
		vm.checkTable(a, 0)
		vm.ret(vNative(ipairsStep), a[0], vNum(0))
	},
	"pairs": func(vm *vm, a []Value) {
		vm.checkTable(a, 0)
		vm.ret(vNative(nextFunction), a[0], Value{})
	},
	"next": func(vm *vm, a []Value) {
		t := vm.checkTable(a, 0)
		k, v, _ := t.next(vm, vm.position(t, arg(a, 1)))
		if k.k == kNil {
			vm.ret1(k)
			return
		}
		vm.ret(k, v)
	},
	"load":       load,
	"loadstring": loadString,
	"newproxy": func(vm *vm, a []Value) {
		vm.alloc(64)
		u := &userdata{id: vm.newID()}
		switch v := arg(a, 0); {
		case v.k == kUser:
			u.meta = v.user().meta
		case v.truth():
			u.meta = vm.newTable(0, 0)
		}
		vm.ret1(vUser(u))
	},
	"pcall":  pcall,
	"xpcall": xpcall,
	"rawequal": func(vm *vm, a []Value) {
		vm.ret1(vBool(vm.rawEqual(vm.checkAny(a, 0), vm.checkAny(a, 1))))
	},
	"rawget": func(vm *vm, a []Value) {
		vm.ret1(vm.checkTable(a, 0).get(vm, vm.checkAny(a, 1)))
	},
	"rawset": func(vm *vm, a []Value) {
		t := vm.checkTable(a, 0)
		vm.setRaw(t, vm.checkAny(a, 1), vm.checkAny(a, 2))
		vm.ret1(a[0])
	},
	"select": func(vm *vm, a []Value) {
		if v := arg(a, 0); v.k == kString && strings.HasPrefix(v.s(), "#") {
			vm.ret1(vInt(len(a) - 1))
			return
		}
		i := vm.checkInt(a, 0)
		if i < 0 {
			i = len(a) + i
		} else if i > len(a) {
			i = len(a)
		}
		if i < 1 {
			vm.argError(0, "index out of range")
		}
		vm.charge(int64(len(a)-i) / 4)
		vm.ret(a[i:]...)
	},
	"tonumber": toNumber,
	"tostring": func(vm *vm, a []Value) { vm.ret1(vm.toString(vm.checkAny(a, 0))) },
	"type": func(vm *vm, a []Value) {
		vm.ret1(vStr(typeNames[vm.checkAny(a, 0).k]))
	},
	"unpack": func(vm *vm, a []Value) {
		t := vm.checkTable(a, 0)
		from, to := vm.optInt(a, 1, 1), 0
		if arg(a, 2).k == kNil {
			to = t.length(vm)
		} else {
			to = vm.checkInt(a, 2)
		}
		vm.rets = vm.rets[:0]
		if from > to {
			return
		}
		n := to - from + 1
		if n <= 0 || n+len(a) > maxArgs {
			vm.fail("too many results to unpack")
		}
		vm.charge(int64(n) / 2)
		for i := range n {
			vm.rets = append(vm.rets, t.getInt(vm, from+i))
		}
	},
}

var typeNames = func() (names [kCell]*str) {
	for k := range names {
		names[k] = constant(kindNames[k])
	}
	return names
}()

var ipairsStep = builtin("ipairs", func(vm *vm, a []Value) {
	i := vm.checkInt(a, 1) + 1
	if v := vm.checkTable(a, 0).getInt(vm, i); v.k != kNil {
		vm.ret(vInt(i), v)
		return
	}
	vm.ret1(Value{})
})

// toString is a value as tostring has it. Addresses are numbers that every replica gives.
func (vm *vm) toString(v Value) Value {
	if h := vm.meta(v, mToString); h.k != kNil {
		vm.callValue(h, v)
		return vm.first()
	}
	switch v.k {
	case kString:
		return v
	case kNumber:
		vm.charge(15)
		return vm.newStr(string(appendNumber(nil, v.n)))
	case kBool:
		if v.n != 0 {
			return vStr(sTrue)
		}
		return vStr(sFalse)
	case kNil:
		return vStr(sNil)
	}
	name := v.typeName()
	if v.k == kLight {
		return vm.newStr("userdata: (nil)")
	}
	return vm.newStr(name + ": 0x" + strconv.FormatUint(0x55550000_0000+uint64(idOf(v))*16, 16))
}

var sTrue, sFalse, sNil = constant("true"), constant("false"), constant("nil")

func toNumber(vm *vm, a []Value) {
	base := vm.optInt(a, 1, 10)
	if base == 10 {
		v := vm.checkAny(a, 0)
		if n, ok := v.number(); ok {
			vm.ret1(vNum(n))
			return
		}
		vm.ret1(Value{})
		return
	}
	s := vm.checkString(a, 0)
	if base < 2 || base > 36 {
		vm.argError(1, "base out of range")
	}
	s = strings.Trim(s, " \t\n\v\f\r")
	body := strings.TrimLeft(s, "+-")
	if base == 16 && len(body) > 1 && body[0] == '0' && body[1]|0x20 == 'x' {
		body = body[2:]
	}
	if len(s)-len(strings.TrimLeft(s, "+-")) > 1 || strings.ContainsAny(body, "_+-") {
		vm.ret1(Value{})
		return
	}
	n, err := strconv.ParseUint(body, base, 64)
	if err != nil && (len(body) == 0 || n != 1<<64-1) {
		vm.ret1(Value{})
		return
	}
	if strings.HasPrefix(s, "-") {
		n = -n
	}
	vm.ret1(vNum(float64(n)))
}

func getMetatable(vm *vm, a []Value) {
	m := vm.metatable(vm.checkAny(a, 0))
	if m == nil {
		vm.ret1(Value{})
		return
	}
	if p := m.getStr(vm, mMetatable); p.k != kNil {
		vm.ret1(p)
		return
	}
	vm.ret1(vTable(m))
}

func setMetatable(vm *vm, a []Value) {
	t, m := vm.checkTable(a, 0), arg(a, 1)
	if len(a) < 2 || m.k != kNil && m.k != kTable {
		vm.argError(1, "nil or table expected")
	}
	if t.meta != nil && t.meta.getStr(vm, mMetatable).k != kNil {
		vm.fail("cannot change a protected metatable")
	}
	if t.readonly {
		vm.fault("Attempt to modify a readonly table")
	}
	t.meta = nil
	if m.k == kTable {
		t.meta = m.table()
	}
	vm.ret1(a[0])
}

// function finds what getfenv and setfenv speak of.
func (vm *vm) function(a []Value, otherwise int) *closure {
	v := arg(a, 0)
	switch v.k {
	case kClosure:
		return v.closure()
	case kNative:
		return nil
	}
	level := vm.optInt(a, 0, otherwise)
	if level < 0 {
		vm.argError(0, "level must be non-negative")
	}
	f := vm.frame
	for ; level > 1 && f != nil; level-- {
		f = f.parent
	}
	if f == nil {
		vm.argError(0, "invalid level")
	}
	if level == 0 {
		return nil
	}
	return f.fn
}

func getEnv(vm *vm, a []Value) {
	if fn := vm.function(a, 1); fn != nil {
		vm.ret1(vTable(fn.env))
		return
	}
	vm.ret1(vTable(vm.globals))
}

func setEnv(vm *vm, a []Value) {
	env := vm.checkTable(a, 1)
	fn := vm.function(a, 1)
	if fn == nil {
		vm.fail("'setfenv' cannot change environment of given object")
	}
	fn.env = env
	vm.ret1(vClosure(fn))
}

// compile makes a function of text that a script made; nil and a message if it is none.
func (vm *vm) compile(text, name string) {
	if len(text) > MaxSource {
		vm.ret(Value{}, vm.newStr("the text is too long"))
		return
	}
	vm.charge(stepsPerByte * int64(len(text)))
	vm.alloc(bytesPerByte * int64(len(text)))
	source, chunk := name, chunkName(name)
	main, _, err := compile(text, source, chunk)
	if err != nil {
		vm.ret(Value{}, vm.newStr(err.Error()))
		return
	}
	env := vm.globals
	if vm.frame != nil {
		env = vm.frame.fn.env
	}
	vm.ret1(vClosure(&closure{p: main, env: env, id: vm.newID()}))
}

// What compiling costs for each byte of text, at most.
const (
	stepsPerByte = 30
	bytesPerByte = 200
)

// chunkName is a name as messages show it.
func chunkName(name string) string {
	if name != "" && (name[0] == '@' || name[0] == '=') {
		return name[1:min(len(name), 60)]
	}
	line, _, more := strings.Cut(name, "\n")
	if len(line) > 45 {
		line, more = line[:45], true
	}
	if more {
		line += "..."
	}
	return `[string "` + line + `"]`
}

func loadString(vm *vm, a []Value) {
	text := vm.checkString(a, 0)
	vm.compile(text, vm.optString(a, 1, text))
}

func load(vm *vm, a []Value) {
	fn, name := vm.checkFunction(a, 0), vm.optString(a, 1, "=(load)")
	var text []byte
	for {
		vm.callValue(fn)
		part := vm.first()
		if part.k == kNil {
			break
		}
		if !isText(part) {
			vm.ret(Value{}, vm.newStr("reader function must return a string"))
			return
		}
		before := len(text)
		if text, _ = part.text(text); len(text) == before {
			break
		}
		vm.alloc(int64(len(text) - before))
		if len(text) > MaxSource {
			break
		}
	}
	vm.compile(string(text), name)
}

// pcall hands a message of Redis's own errors on as text, as they were before they were tables.
func pcall(vm *vm, a []Value) {
	vm.checkAny(a, 0)
	fn := a[0]
	base := vm.top
	vm.pushAll(a[1:])
	e := vm.protected(func() {
		vm.nest()
		vm.call(fn, base, nil)
		vm.nested--
	})
	vm.top = base
	if e == nil {
		vm.rets = append(vm.rets, Value{})
		copy(vm.rets[1:], vm.rets)
		vm.rets[0] = vTrue
		return
	}
	v := e.v
	if v.k == kTable {
		if text := v.table().getStr(vm, sErr); isText(text) {
			v = text
		}
	}
	vm.ret(vFalse, v)
}

func xpcall(vm *vm, a []Value) {
	fn, handler := vm.checkAny(a, 0), vm.checkAny(a, 1)
	e := vm.protected(func() { vm.callValue(fn) })
	if e == nil {
		vm.rets = append(vm.rets, Value{})
		copy(vm.rets[1:], vm.rets)
		vm.rets[0] = vTrue
		return
	}
	if again := vm.protected(func() { vm.callValue(handler, e.v) }); again != nil {
		vm.ret(vFalse, again.v)
		return
	}
	vm.ret(vFalse, vm.first())
}

func osClock(vm *vm, _ []Value) { vm.ret1(vNum(vm.elapsed())) }
