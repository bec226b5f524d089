package script

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"unsafe"
)

// Bounds of a run.
const (
	maxFrames = 20_000  // functions of the script's that have not returned
	maxDepth  = 100_000 // calls of Go that they may take together, which is a stack of about 16 MB
	maxNested = 200     // calls out of libraries and metamethods
	maxStack  = 200_000 // values on the stack
	maxArgs   = 8000    // values that one call takes from a table

	stepsPerLook = 8192 // between two looks at the clock, if there is one
)

// A vm is a machine while it runs a script.
//
//	M1: what runs has paid: steps and mem never pass below 0 unnoticed
//	M2: rets holds the results of the last call until the next
//	M3: frames up to level are in use, the last of them is frame
type vm struct {
	host Host

	steps int64 // that are left until the next look at the rest
	rest  int64 // of the steps
	late  func() bool
	mem   int64 // bytes that are left

	stack []Value
	top   int
	high  int // the highest top of the run
	rets  []Value

	frames   []*frame
	level    int
	frame    *frame
	depth    int
	deepest  int // depth so far, on this stack
	parked   int // depth of coroutines that are suspended
	nested   int
	mode     mode
	tail     *closure // to be called next, with the arguments from tailBase on
	tailBase int
	name     *what // how the function was called that runs, if it is a library's

	ids     uint32
	globals *table
	reply   Builder
	resp    int
	total   int64    // steps of the whole budget
	lib     *loading // while a library is loaded
	json    *jsonConfig
	dice    uint64 // of math.random: Redis's own generator, so that seeds mean the same
	argv    [][]byte
	coros   []*coroutine
}

// mode tells what runs: only a function of the script's has lines, and so has a place that messages name.
type mode uint8

const (
	inScript mode = iota
	inLibrary
	inNested // a library's function that one of a library's called
)

// A frame is a function of the script's that has not returned.
type frame struct {
	vm      *vm
	fn      *closure
	slots   []Value
	varargs []Value
	parent  *frame
	line    int  // where it is
	nested  bool // was called by a library
}

// A thrown is a Lua error on its way to who catches it.
type thrown struct {
	v      Value
	source string // of the function that ran
	line   int
}

// A stopped is the end of a run that nobody catches.
type stopped struct{ why string }

// charge pays for work.
func (vm *vm) charge(steps int64) {
	if vm.steps -= steps; vm.steps < 0 {
		vm.recharge()
	}
}

// recharge goes on to the next part of the budget.
func (vm *vm) recharge() {
	if vm.late != nil && vm.late() {
		vm.stop("it took too long")
	}
	take := min(vm.rest, max(stepsPerLook, -vm.steps))
	vm.rest -= take
	if vm.steps += take; vm.steps < 0 {
		vm.rest, vm.steps = 0, -1
		vm.stop("it took too many steps")
	}
}

// alloc pays for memory.
func (vm *vm) alloc(bytes int64) {
	if vm.mem -= bytes; vm.mem < 0 {
		vm.mem = -1
		vm.stop("it took too much memory")
	}
}

// stop ends the run.
func (vm *vm) stop(why string) {
	panic(stopped{why})
}

func (vm *vm) newStr(s string) Value {
	vm.alloc(strBytes + int64(len(s)))
	return vStr(&str{s: s})
}

// newText makes a string of bytes that are copied.
func (vm *vm) newText(b []byte) Value {
	vm.alloc(strBytes + int64(len(b)))
	vm.charge(4 + int64(len(b))/32)
	return vStr(&str{s: string(b)})
}

func (vm *vm) newTable(array, hash int) *table {
	vm.alloc(tableBytes)
	vm.charge(4)
	vm.ids++
	t := &table{id: vm.ids}
	if array > 0 || hash > 0 {
		t.resize(vm, array, hash)
	}
	return t
}

// newID numbers something that can be a key.
func (vm *vm) newID() uint32 {
	vm.ids++
	return vm.ids
}

// grow makes room on the stack. Frames keep the part of the old one that is theirs.
func (vm *vm) grow(n int) {
	if vm.top+n > maxStack {
		vm.fault("stack overflow")
	}
	size := max(2*len(vm.stack), vm.top+n)
	vm.alloc(int64(size) * valueBytes)
	stack := make([]Value, size)
	copy(stack, vm.stack[:vm.top])
	vm.stack = stack
}

func (vm *vm) push(v Value) {
	if vm.top == len(vm.stack) {
		vm.grow(1)
	}
	vm.stack[vm.top] = v
	vm.top++
}

func (vm *vm) pushAll(list []Value) {
	if vm.top+len(list) > len(vm.stack) {
		vm.grow(len(list))
	}
	copy(vm.stack[vm.top:], list)
	vm.top += len(list)
	vm.high = max(vm.high, vm.top)
	vm.charge(int64(len(list)) / 4)
}

// at is the value at a place of the stack, nil beyond the top.
func (vm *vm) at(i int) Value {
	if i < vm.top {
		return vm.stack[i]
	}
	return Value{}
}

// first is the first result of the last call.
func (vm *vm) first() Value {
	if len(vm.rets) == 0 {
		return Value{}
	}
	return vm.rets[0]
}

func (vm *vm) ret(list ...Value) { vm.rets = append(vm.rets[:0], list...) }

func (vm *vm) ret1(v Value) { vm.rets = append(vm.rets[:0], v) }

// call calls fn with what is on the stack from base on, which it takes off.
func (vm *vm) call(fn Value, base int, name *what) {
	switch fn.k {
	case kClosure:
		vm.enter(fn.closure(), base)
	case kNative:
		vm.rets = vm.rets[:0]
		vm.name = name
		mode := vm.mode
		vm.mode = min(mode+1, inNested)
		fn.native().f(vm, vm.stack[base:vm.top])
		vm.mode, vm.top = mode, base
	default:
		m := vm.meta(fn, mCall)
		if !m.isFunction() {
			vm.typeError("call", fn, name)
		}
		vm.push(Value{})
		copy(vm.stack[base+1:vm.top], vm.stack[base:vm.top-1])
		vm.stack[base] = fn
		vm.nest()
		vm.call(m, base, name)
		vm.nested--
	}
}

func (vm *vm) nest() {
	if vm.nested++; vm.nested > maxNested {
		vm.nested--
		vm.fault("C stack overflow")
	}
	vm.charge(4)
}

// callValue calls a function for a library. The results are in vm.rets.
func (vm *vm) callValue(fn Value, args ...Value) {
	base := vm.top
	vm.pushAll(args)
	vm.nest()
	vm.call(fn, base, nil)
	vm.nested--
}

// enter runs a function of the script's, and those that it calls as its last act.
func (vm *vm) enter(fn *closure, base int) {
	if vm.level == len(vm.frames) {
		vm.alloc(int64(unsafe.Sizeof(frame{})) + 16)
		vm.frames = append(vm.frames, &frame{vm: vm})
	}
	f := vm.frames[vm.level]
	depth := fn.p.depth
	if d := vm.depth + depth - vm.deepest; d > 0 {
		vm.deepen(d)
	}
	if vm.depth+vm.parked+depth > maxDepth || vm.level+1 > maxFrames {
		vm.fault("stack overflow")
	}
	vm.depth += depth
	vm.level++
	mode := vm.mode
	f.parent, f.nested, vm.frame, vm.mode = vm.frame, mode != inScript, f, inScript
	for {
		f.load(fn, base)
		how := fn.p.body.run(f)
		if how != tailCalls {
			if how != returns {
				vm.rets = vm.rets[:0]
			}
			break
		}
		fn = vm.tail
		n := copy(vm.stack[base:], vm.stack[vm.tailBase:vm.top])
		vm.top = base + n
		vm.charge(int64(n)/4 + 2)
		if fn.p.depth > depth {
			vm.depth += fn.p.depth - depth
			depth = fn.p.depth
			if vm.depth+vm.parked > maxDepth {
				vm.fault("stack overflow")
			}
		}
	}
	vm.level--
	vm.depth -= depth
	vm.frame, vm.top, vm.mode = f.parent, base, mode
}

// deepen pays for Go's stack, which grows by copying.
func (vm *vm) deepen(by int) {
	vm.deepest += by
	vm.alloc(int64(by) * bytesPerCall)
	vm.charge(int64(by) * bytesPerCall / 32)
}

const bytesPerCall = 160

// load prepares a frame for a function with the arguments from base on.
func (f *frame) load(fn *closure, base int) {
	vm, p := f.vm, fn.p
	f.fn, f.line, f.varargs = fn, p.line, nil
	n := vm.top - base
	start := base
	if p.vararg && n > p.params {
		start = vm.top
	}
	if need := start + p.slots - vm.top; start+p.slots > len(vm.stack) {
		vm.grow(max(need, 0) + 1)
	}
	f.slots = vm.stack[start : start+p.slots : start+p.slots]
	if start > base {
		copy(f.slots, vm.stack[base:base+p.params])
		f.varargs = vm.stack[base+p.params : vm.top]
	}
	clear(f.slots[min(n, p.params):])
	vm.top = start + p.slots
	vm.high = max(vm.high, vm.top)
	for _, i := range p.boxed {
		f.box(i, f.slots[i])
	}
}

func (f *frame) box(slot int, v Value) {
	f.vm.alloc(cellBytes)
	f.slots[slot] = Value{k: kCell, p: ptr(&cell{v})}
}

// declare gives a variable its first value.
func (f *frame) declare(v *variable, x Value) {
	if v.captured {
		f.box(v.slot, x)
		return
	}
	f.slots[v.slot] = x
}

// where is the place in the text as messages begin: of what called the function that runs, or so many calls further out.
// It is empty where that is no function of the script's.
func (vm *vm) where(level int) string {
	if vm.mode == inNested {
		return ""
	}
	f := vm.frame
	for ; level > 1 && f != nil; level-- {
		if f.nested {
			if level--; level == 1 {
				return ""
			}
		}
		f = f.parent
	}
	if f == nil {
		return ""
	}
	return fmt.Sprintf("%s:%d: ", f.fn.p.chunk, f.line)
}

// fail raises an error of a library's.
func (vm *vm) fail(format string, args ...any) {
	vm.raise(vm.newStr(vm.where(1) + fmt.Sprintf(format, args...)))
}

// fault raises an error of the language's, which has a place only where the script itself runs.
func (vm *vm) fault(format string, args ...any) {
	place := ""
	if vm.mode == inScript {
		place = vm.where(1)
	}
	vm.raise(vm.newStr(place + fmt.Sprintf(format, args...)))
}

func (vm *vm) raise(v Value) {
	vm.charge(40)
	e := &thrown{v: v}
	if f := vm.frame; vm.mode == inNested {
		e.source, e.line = "=[C]", -1
	} else if f != nil {
		e.source, e.line = f.fn.p.source, f.line
	}
	panic(e)
}

// protected runs something and returns what it raised. Nothing that stops a run comes back.
func (vm *vm) protected(run func()) (e *thrown) {
	level, frame, depth, nested, top, mode := vm.level, vm.frame, vm.depth, vm.nested, vm.top, vm.mode
	defer func() {
		if r := recover(); r != nil {
			t, ok := r.(*thrown)
			if !ok {
				panic(r)
			}
			vm.level, vm.frame, vm.depth, vm.nested, vm.top, vm.mode = level, frame, depth, nested, top, mode
			e = t
		}
	}()
	run()
	return nil
}

// The metamethods.
var (
	mIndex     = constant("__index")
	mNewIndex  = constant("__newindex")
	mCall      = constant("__call")
	mConcat    = constant("__concat")
	mLen       = constant("__len")
	mEq        = constant("__eq")
	mLt        = constant("__lt")
	mLe        = constant("__le")
	mToString  = constant("__tostring")
	mMetatable = constant("__metatable")
	mArith     = map[string]*str{"+": constant("__add"), "-": constant("__sub"), "*": constant("__mul"), "/": constant("__div"), "%": constant("__mod"), "^": constant("__pow"), "-u": constant("__unm")}
)

func (vm *vm) metatable(v Value) *table {
	switch v.k {
	case kTable:
		return v.table().meta
	case kString:
		return stringMeta
	case kUser:
		return v.user().meta
	}
	return nil
}

func (vm *vm) meta(v Value, event *str) Value {
	if m := vm.metatable(v); m != nil {
		return m.getStr(vm, event)
	}
	return Value{}
}

func (vm *vm) typeError(does string, v Value, name *what) {
	if name != nil && name.kind != "" {
		vm.fault("attempt to %s %s '%s' (a %s value)", does, name.kind, name.name, v.typeName())
	}
	vm.fault("attempt to %s a %s value", does, v.typeName())
}

// maxChain bounds how long __index goes from table to table.
const maxChain = 100

func (vm *vm) indexStr(obj Value, key *str, name *what) Value { return vm.index(obj, vStr(key), name) }

func (vm *vm) index(obj, key Value, name *what) Value {
	for range maxChain {
		var h Value
		if obj.k == kTable {
			t := obj.table()
			if v := t.get(vm, key); v.k != kNil || t.meta == nil {
				return v
			}
			if h = t.meta.getStr(vm, mIndex); h.k == kNil {
				return Value{}
			}
		} else if h = vm.meta(obj, mIndex); h.k == kNil {
			vm.typeError("index", obj, name)
		}
		vm.charge(2)
		if h.isFunction() {
			vm.callValue(h, obj, key)
			return vm.first()
		}
		obj, name = h, nil
	}
	vm.fault("loop in gettable")
	return Value{}
}

func (vm *vm) setIndex(obj, key, v Value, name *what) {
	for range maxChain {
		var h Value
		if obj.k == kTable {
			t := obj.table()
			if t.readonly {
				vm.fault("Attempt to modify a readonly table")
			}
			if t.meta == nil {
				vm.setRaw(t, key, v)
				return
			}
			if h = t.meta.getStr(vm, mNewIndex); h.k == kNil || t.get(vm, key).k != kNil {
				vm.setRaw(t, key, v)
				return
			}
		} else if h = vm.meta(obj, mNewIndex); h.k == kNil {
			vm.typeError("index", obj, name)
		}
		vm.charge(2)
		if h.isFunction() {
			vm.callValue(h, obj, key, v)
			return
		}
		obj, name = h, nil
	}
	vm.fault("loop in settable")
}

// setRaw sets without metamethods.
func (vm *vm) setRaw(t *table, key, v Value) {
	if t.readonly {
		vm.fault("Attempt to modify a readonly table")
	}
	switch {
	case key.k == kNil:
		vm.fault("table index is nil")
	case key.k == kNumber && key.n != key.n:
		vm.fault("table index is NaN")
	}
	t.set(vm, key, v)
}

// arith computes what is not plain.
func (vm *vm) arith(op string, a, b Value, left, right *what) Value {
	if a.k != kNumber || b.k != kNumber {
		x, ok := a.number()
		y, ok2 := b.number()
		if !ok || !ok2 {
			return vm.metaArith(op, a, b, left, right)
		}
		a, b = vNum(x), vNum(y)
	}
	switch op {
	case "+":
		return sum(a.n + b.n)
	case "-":
		return sum(a.n - b.n)
	case "*":
		return sum(a.n * b.n)
	case "/":
		return sum(a.n / b.n)
	case "%":
		return sum(modulo(a.n, b.n))
	case "^":
		vm.charge(4)
		return sum(power(a.n, b.n))
	}
	return vNum(-a.n)
}

func modulo(a, b float64) float64 {
	if a == math.Trunc(a) && b == math.Trunc(b) && math.Abs(a) < 1<<52 && math.Abs(b) < 1<<52 && b != 0 {
		m := int64(a) % int64(b)
		if m != 0 && (m < 0) != (b < 0) {
			m += int64(b)
		}
		return float64(m)
	}
	return a - math.Floor(a/b)*b
}

// power is a to the b; whole powers of whole numbers are computed so that every machine gets the same.
func power(a, b float64) float64 {
	if b == 2 {
		return a * a
	}
	return math.Pow(a, b)
}

func (vm *vm) metaArith(op string, a, b Value, left, right *what) Value {
	event := mArith[op]
	h := vm.meta(a, event)
	if h.k == kNil {
		h = vm.meta(b, event)
	}
	if h.k != kNil {
		vm.callValue(h, a, b)
		return vm.first()
	}
	if _, ok := a.number(); ok {
		a, left = b, right
	}
	vm.typeError("perform arithmetic on", a, left)
	return Value{}
}

func (vm *vm) length(v Value, name *what) Value {
	h := vm.meta(v, mLen)
	if h.k == kNil {
		vm.typeError("get length of", v, name)
	}
	vm.callValue(h, v, Value{})
	return vm.first()
}

func (vm *vm) equal(a, b Value) bool {
	if vm.rawEqual(a, b) {
		return true
	}
	if a.k != b.k || a.k != kTable && a.k != kUser {
		return false
	}
	m, n := vm.metatable(a), vm.metatable(b)
	if m == nil || n == nil {
		return false
	}
	h, g := m.getStr(vm, mEq), n.getStr(vm, mEq)
	if h.k == kNil || !vm.rawEqual(h, g) {
		return false
	}
	vm.callValue(h, a, b)
	return vm.first().truth()
}

func (vm *vm) less(a, b Value) bool {
	switch {
	case a.k == kNumber && b.k == kNumber:
		return a.n < b.n
	case a.k == kString && b.k == kString:
		vm.charge(int64(min(len(a.s()), len(b.s())) / 256))
		return a.s() < b.s()
	}
	if r, ok := vm.compare(mLt, a, b); ok {
		return r
	}
	vm.orderError(a, b)
	return false
}

func (vm *vm) lessEqual(a, b Value) bool {
	switch {
	case a.k == kNumber && b.k == kNumber:
		return a.n <= b.n
	case a.k == kString && b.k == kString:
		vm.charge(int64(min(len(a.s()), len(b.s())) / 256))
		return a.s() <= b.s()
	}
	if r, ok := vm.compare(mLe, a, b); ok {
		return r
	}
	if r, ok := vm.compare(mLt, b, a); ok {
		return !r
	}
	vm.orderError(a, b)
	return false
}

// compare asks a metamethod that both have.
func (vm *vm) compare(event *str, a, b Value) (r, ok bool) {
	if a.typeName() != b.typeName() {
		return false, false
	}
	h := vm.meta(a, event)
	if h.k == kNil || !vm.rawEqual(h, vm.meta(b, event)) {
		return false, false
	}
	vm.callValue(h, a, b)
	return vm.first().truth(), true
}

func (vm *vm) orderError(a, b Value) {
	if a.typeName() == b.typeName() {
		vm.fault("attempt to compare two %s values", a.typeName())
	}
	vm.fault("attempt to compare %s with %s", a.typeName(), b.typeName())
}

// text appends a string or number as a string has it; ok is false for another value.
func (v Value) text(dst []byte) (b []byte, ok bool) {
	switch v.k {
	case kString:
		return append(dst, v.s()...), true
	case kNumber:
		return appendNumber(dst, v.n), true
	}
	return dst, false
}

// concat joins what is on the stack from base on, from the right.
func (vm *vm) concat(base int, names []what) Value {
	vm.high = max(vm.high, vm.top)
	for vm.top-base > 1 {
		a, b := vm.stack[vm.top-2], vm.stack[vm.top-1]
		if !isText(a) || !isText(b) {
			h := vm.meta(a, mConcat)
			if h.k == kNil {
				h = vm.meta(b, mConcat)
			}
			if h.k == kNil {
				v, name := a, &names[vm.top-base-2]
				if isText(a) {
					v, name = b, nil
					if vm.top-base == len(names) {
						name = &names[len(names)-1]
					}
				}
				vm.typeError("concatenate", v, name)
			}
			vm.callValue(h, a, b)
			vm.top--
			vm.stack[vm.top-1] = vm.first()
			continue
		}
		first, size := vm.top-2, 0
		for first > base && isText(vm.stack[first-1]) {
			first--
		}
		for _, v := range vm.stack[first:vm.top] {
			if v.k == kString {
				size += len(v.s())
			} else {
				size += 24
			}
		}
		vm.charge(4 + int64(size)/16)
		joined := vm.room(nil, size)
		for _, v := range vm.stack[first:vm.top] {
			joined, _ = v.text(joined)
		}
		vm.stack[first] = vm.own(joined)
		vm.top = first + 1
	}
	return vm.stack[base]
}

func isText(v Value) bool { return v.k == kString || v.k == kNumber }

// room returns b with room for n bytes more, and pays for that. It at least doubles, so that what grows bit by bit is not
// copied more than twice.
func (vm *vm) room(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	size := max(2*cap(b), len(b)+n, 16)
	vm.alloc(int64(size))
	vm.charge(int64(size) / 64)
	return append(make([]byte, 0, size), b...)
}

// own makes a string of bytes that nobody else has, without a copy unless they waste room.
func (vm *vm) own(b []byte) Value {
	if cap(b) > len(b)+len(b)/4+64 {
		return vm.newText(b)
	}
	vm.alloc(strBytes)
	return vStr(&str{s: unsafe.String(unsafe.SliceData(b), len(b))})
}

// position is where next goes on after a key.
func (vm *vm) position(t *table, k Value) int {
	at, ok := t.after(vm, k)
	if !ok {
		vm.fault("invalid key to 'next'")
	}
	return at
}

// seed starts math.random.
func (vm *vm) seed(n int32) { vm.dice = uint64(uint32(n))<<16 | 0x330E }

// roll is the next number of the generator, of 31 bits.
func (vm *vm) roll() int32 {
	vm.dice = (vm.dice*0x5DEECE66D + 0xB) & (1<<48 - 1)
	return int32(vm.dice >> 17)
}

// reset makes the machine ready for another run.
func (vm *vm) reset(host Host, b Budget, dice *rand.Rand) {
	vm.host, vm.late = host, b.Late
	vm.steps, vm.rest, vm.mem = 0, b.Steps, b.Bytes
	vm.top, vm.level, vm.frame, vm.depth, vm.nested, vm.mode = 0, 0, nil, 0, 0, inScript
	vm.ids, vm.resp, vm.total, vm.parked, vm.deepest = firstID, 2, b.Steps, 0, 0
	vm.seed(int32(dice.Uint32()))
}

// What a machine keeps from run to run: always as much, lest what a run may do depend on those before.
const (
	keptStack  = 512
	keptFrames = 32
	keptRets   = 16
)

// release forgets what the last run held.
func (vm *vm) release() {
	for _, c := range vm.coros {
		c.stop()
	}
	vm.coros = nil
	if len(vm.stack) > keptStack {
		vm.stack = make([]Value, keptStack)
	} else {
		clear(vm.stack[:min(vm.high+1, keptStack)]) // a metamethod's callee may lie one higher
	}
	vm.high = 0
	vm.frames = slices.Clip(vm.frames[:keptFrames])
	for _, f := range vm.frames {
		if f.fn == nil {
			break
		}
		*f = frame{vm: vm}
	}
	if cap(vm.rets) > keptRets {
		vm.rets = make([]Value, 0, keptRets)
	}
	clear(vm.rets[:cap(vm.rets)])
	vm.rets = vm.rets[:0]
	if cap(vm.argv) > keptRets {
		vm.argv = nil
	}
	clear(vm.argv[:cap(vm.argv)])
	vm.host, vm.late, vm.tail, vm.frame, vm.json, vm.lib, vm.name = nil, nil, nil, nil, nil, nil, nil
	vm.reply = Builder{levels: vm.reply.levels[:0]}
}

// elapsed is the time that the run has taken, in seconds as the budget counts them.
func (vm *vm) elapsed() float64 { return float64(vm.total-vm.rest-vm.steps) * stepSeconds }

const stepSeconds = 1e-8
