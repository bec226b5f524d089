package script

import (
	"math"
	"unsafe"
)

func ptr[T any](p *T) unsafe.Pointer { return unsafe.Pointer(p) }

// argError raises what is wrong with argument i, counted from 0.
func (vm *vm) argError(i int, message string) {
	n, name := i+1, "?"
	if vm.name != nil && vm.name.name != "" {
		name = vm.name.name
		if vm.name.kind == "method" {
			if n--; n == 0 {
				vm.fail("calling '%s' on bad self (%s)", name, message)
			}
		}
	}
	vm.fail("bad argument #%d to '%s' (%s)", n, name, message)
}

func argType(a []Value, i int) string {
	if i >= len(a) {
		return "no value"
	}
	return a[i].typeName()
}

func (vm *vm) wrongType(a []Value, i int, want string) {
	vm.argError(i, want+" expected, got "+argType(a, i))
}

func arg(a []Value, i int) Value {
	if i < len(a) {
		return a[i]
	}
	return Value{}
}

func (vm *vm) checkAny(a []Value, i int) Value {
	if i >= len(a) {
		vm.argError(i, "value expected")
	}
	return a[i]
}

func (vm *vm) checkTable(a []Value, i int) *table {
	if i >= len(a) || a[i].k != kTable {
		vm.wrongType(a, i, "table")
	}
	return a[i].table()
}

func (vm *vm) checkFunction(a []Value, i int) Value {
	if i >= len(a) || !a[i].isFunction() {
		vm.wrongType(a, i, "function")
	}
	return a[i]
}

// checkString returns an argument that is a string, or a number as one.
func (vm *vm) checkString(a []Value, i int) string {
	if i < len(a) {
		switch a[i].k {
		case kString:
			return a[i].s()
		case kNumber:
			return string(appendNumber(nil, a[i].n))
		}
	}
	vm.wrongType(a, i, "string")
	return ""
}

func (vm *vm) optString(a []Value, i int, otherwise string) string {
	if arg(a, i).k == kNil {
		return otherwise
	}
	return vm.checkString(a, i)
}

func (vm *vm) checkNumber(a []Value, i int) float64 {
	n, ok := arg(a, i).number()
	if !ok {
		vm.wrongType(a, i, "number")
	}
	return n
}

// toInt is a number as C casts one to an integer of 64 bits on the machines that Redis runs on.
func toInt(n float64) int {
	if !(n > -(1<<63) && n < 1<<63) {
		return math.MinInt64
	}
	return int(n)
}

func (vm *vm) checkInt(a []Value, i int) int { return toInt(vm.checkNumber(a, i)) }

func (vm *vm) optInt(a []Value, i, otherwise int) int {
	if arg(a, i).k == kNil {
		return otherwise
	}
	return vm.checkInt(a, i)
}

// raiseErr raises an error as Redis's own functions do: a table with the message under err.
func (vm *vm) raiseErr(message string) { vm.raise(vTable(vm.errTable(message))) }

// errTable is an error as redis.pcall returns it. A message that begins with a dash has a code of its own.
func (vm *vm) errTable(message string) *table {
	text := "ERR " + message
	if message != "" && message[0] == '-' {
		text = "ERR " + message[1:]
		for i := range len(message) {
			if message[i] == ' ' {
				text = message[1:]
				break
			}
		}
	}
	for text != "" && (text[len(text)-1] == '\r' || text[len(text)-1] == '\n') {
		text = text[:len(text)-1]
	}
	t := vm.newTable(0, 0)
	t.set(vm, vStr(sErr), vm.newStr(text))
	return t
}

// The fields of tables that stand for replies.
var (
	sErr      = constant("err")
	sOK       = constant("ok")
	sDouble   = constant("double")
	sBig      = constant("big_number")
	sVerbatim = constant("verbatim_string")
	sFormat   = constant("format")
	sString   = constant("string")
	sMap      = constant("map")
	sSet      = constant("set")
	sIgnore   = constant("ignore_error_stats_update")
)
