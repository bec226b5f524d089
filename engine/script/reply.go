package script

import "strings"

// A Builder makes a Lua value of a command's answer, which comes piece by piece: an aggregate is announced with its length
// and followed by its elements, as engine.Reply has it. What becomes of a piece depends on the protocol that the script has
// chosen, see RESP.
type Builder struct {
	vm     *vm
	result Value
	failed bool
	levels []building
}

// A building is an aggregate whose elements are still coming.
type building struct {
	outer Value // what it is an element as
	t     *table
	left  int
	index int
	shape shape
	key   Value
}

type shape uint8

const (
	asList  shape = iota
	asPairs       // lists of two
	asMap
	asSet
)

func (b *Builder) begin(vm *vm) {
	b.vm, b.result, b.failed, b.levels = vm, Value{}, false, b.levels[:0]
}

// Charge takes what the command will cost off the script's budget. It does not return when that is spent: the command is not to be begun.
func (b *Builder) Charge(steps int64) { b.vm.charge(steps) }

// RESP is the version of the protocol that the script reads answers in: 2 or 3.
func (b *Builder) RESP() int { return b.vm.resp }

// add takes a value, and closes what is complete with it.
func (b *Builder) add(v Value) {
	for {
		if len(b.levels) == 0 {
			b.result = v
			return
		}
		l := &b.levels[len(b.levels)-1]
		l.put(b.vm, v)
		if l.left > 0 {
			return
		}
		v = l.outer
		b.levels = b.levels[:len(b.levels)-1]
	}
}

func (l *building) put(vm *vm, v Value) {
	vm.charge(6)
	l.left--
	switch l.shape {
	case asList:
		l.index++
		if v.k != kNil {
			l.t.setInt(vm, l.index, v)
		}
	case asSet:
		vm.setRaw(l.t, v, vTrue)
	default:
		if l.left&1 == 1 {
			l.key = v
			return
		}
		if l.shape == asMap {
			vm.setRaw(l.t, l.key, v)
			return
		}
		pair := vm.newTable(2, 0)
		pair.arr[0], pair.arr[1] = l.key, v
		l.index++
		l.t.setInt(vm, l.index, vTable(pair))
	}
}

// open begins an aggregate of so many pieces.
func (b *Builder) open(pieces int, s shape) {
	vm := b.vm
	var t *table
	switch s {
	case asList:
		t = vm.newTable(pieces, 0)
	case asPairs:
		t = vm.newTable(pieces/2, 0)
	default:
		t = vm.newTable(0, 0)
	}
	outer := vTable(t)
	if s == asMap || s == asSet {
		name := sMap
		if s == asSet {
			name = sSet
		}
		o := vm.newTable(0, 1)
		o.set(vm, vStr(name), outer)
		outer = vTable(o)
	}
	if pieces == 0 {
		b.add(outer)
		return
	}
	b.levels = append(b.levels, building{outer: outer, t: t, left: pieces, shape: s})
}

// field makes a table of one field.
func (b *Builder) field(name *str, v Value) {
	t := b.vm.newTable(0, 1)
	t.set(b.vm, vStr(name), v)
	b.add(vTable(t))
}

// Null takes a null of either kind.
func (b *Builder) Null() {
	if b.vm.resp == 3 {
		b.add(Value{})
		return
	}
	b.add(vFalse)
}

// Bool takes a truth value.
func (b *Builder) Bool(v bool) {
	if b.vm.resp == 3 {
		b.add(vBool(v))
		return
	}
	b.add(vNum(vBool(v).n))
}

// Int takes an integer.
func (b *Builder) Int(n int64) { b.add(vNum(float64(n))) }

// Double takes a number in RESP 3.
func (b *Builder) Double(f float64) { b.field(sDouble, vNum(f)) }

// Status takes a status word.
func (b *Builder) Status(s string) { b.field(sOK, b.vm.newStr(s)) }

// Bulk takes bytes.
func (b *Builder) Bulk(p []byte) { b.add(b.vm.newText(p)) }

// BigNumber takes the digits of an integer of any size.
func (b *Builder) BigNumber(digits string) {
	if b.vm.resp == 3 {
		b.field(sBig, b.vm.newStr(digits))
		return
	}
	b.add(b.vm.newStr(digits))
}

// Verbatim takes text of a format of three letters.
func (b *Builder) Verbatim(format string, p []byte) {
	if b.vm.resp == 2 {
		b.Bulk(p)
		return
	}
	t := b.vm.newTable(0, 2)
	t.set(b.vm, vStr(sString), b.vm.newText(p))
	t.set(b.vm, vStr(sFormat), b.vm.newStr(format))
	b.field(sVerbatim, vTable(t))
}

// Array announces n elements.
func (b *Builder) Array(n int) { b.open(n, asList) }

// Map announces n pairs.
func (b *Builder) Map(n int) {
	if b.vm.resp == 3 {
		b.open(2*n, asMap)
		return
	}
	b.open(2*n, asList)
}

// Pairs announces n pairs in order: one list in RESP 2, a list of lists in RESP 3.
func (b *Builder) Pairs(n int) {
	if b.vm.resp == 3 {
		b.open(2*n, asPairs)
		return
	}
	b.open(2*n, asList)
}

// Keyed announces n keys with what was found under each: a list of lists in RESP 2, a map in RESP 3.
func (b *Builder) Keyed(n int) {
	if b.vm.resp == 3 {
		b.open(2*n, asMap)
		return
	}
	b.open(2*n, asPairs)
}

// Set announces n elements without order.
func (b *Builder) Set(n int) {
	if b.vm.resp == 3 {
		b.open(n, asSet)
		return
	}
	b.open(n, asList)
}

// Error takes an error with its code: "WRONGTYPE Operation against …".
func (b *Builder) Error(text string) {
	t := b.vm.newTable(0, 0)
	t.set(b.vm, vStr(sErr), b.vm.newStr(text))
	t.set(b.vm, vStr(sIgnore), vTrue)
	if len(b.levels) == 0 {
		b.failed = true
	}
	b.add(vTable(t))
}

// An Out takes what a script returns.
type Out interface {
	Null()
	Bool(v bool)
	Int(n int64)
	Double(f float64)
	Status(s string)
	Bulk(b []byte)
	Array(n int)
	Map(n int)
	Set(n int)
	BigNumber(digits string)
	Verbatim(format string, b []byte)
	Fail(text string) // an error with its code
}

// maxReply is how deep a reply nests.
const maxReply = 1000

// An emitter writes a value as a reply; without out it only finds out, and pays for, how large that is.
type emitter struct {
	vm  *vm
	out Out
}

// stringField returns a field that is a string.
func (e *emitter) stringField(t *table, name *str) (string, bool) {
	v := t.getStr(e.vm, name)
	if v.k != kString {
		return "", false
	}
	return v.s(), true
}

// line is text without the ends of lines, which would end a reply.
func line(s string) string {
	if !strings.ContainsAny(s, "\r\n") {
		return s
	}
	return strings.NewReplacer("\r", " ", "\n", " ").Replace(s)
}

func (e *emitter) pay(bytes int) {
	if e.out == nil {
		e.vm.charge(6 + int64(bytes)/32)
		e.vm.alloc(16 + int64(bytes))
	}
}

func (e *emitter) value(v Value, depth int) {
	out := e.out
	if depth > maxReply {
		if out != nil {
			out.Fail("ERR reached lua stack limit")
		}
		return
	}
	switch v.k {
	case kString:
		e.pay(len(v.s()))
		if out != nil {
			out.Bulk(lent(v.s()))
		}
	case kNumber:
		e.pay(0)
		if out != nil {
			out.Int(int64(toInt(v.n)))
		}
	case kBool:
		e.pay(0)
		switch {
		case out == nil:
		case e.vm.resp == 3:
			out.Bool(v.n != 0)
		case v.n != 0:
			out.Int(1)
		default:
			out.Null()
		}
	case kTable:
		e.table(v.table(), depth)
	default:
		e.pay(0)
		if out != nil {
			out.Null()
		}
	}
}

func (e *emitter) table(t *table, depth int) {
	out, vm := e.out, e.vm
	if s, ok := e.stringField(t, sErr); ok {
		e.pay(len(s))
		if out != nil {
			out.Fail(line(s))
		}
		return
	}
	if s, ok := e.stringField(t, sOK); ok {
		e.pay(len(s))
		if out != nil {
			out.Status(line(s))
		}
		return
	}
	if v := t.getStr(vm, sDouble); v.k == kNumber {
		e.pay(0)
		if out != nil {
			out.Double(v.n)
		}
		return
	}
	if s, ok := e.stringField(t, sBig); ok {
		e.pay(len(s))
		if out != nil {
			out.BigNumber(line(s))
		}
		return
	}
	if v := t.getStr(vm, sVerbatim); v.k == kTable {
		format, ok := e.stringField(v.table(), sFormat)
		s, ok2 := e.stringField(v.table(), sString)
		if ok && ok2 {
			e.pay(len(s))
			if out != nil {
				out.Verbatim(format, lent(s))
			}
			return
		}
	}
	if v := t.getStr(vm, sMap); v.k == kTable {
		e.entries(v.table(), depth, true)
		return
	}
	if v := t.getStr(vm, sSet); v.k == kTable {
		e.entries(v.table(), depth, false)
		return
	}
	n := 0
	for t.getInt(vm, n+1).k != kNil {
		n++
		if out == nil {
			vm.charge(1)
		}
	}
	e.pay(0)
	if out != nil {
		out.Array(n)
	}
	for i := 1; i <= n; i++ {
		e.value(t.getInt(vm, i), depth+1)
	}
}

func (e *emitter) entries(t *table, depth int, keyed bool) {
	n := 0
	for at := 0; ; n++ {
		var k Value
		if k, _, at = t.next(e.vm, at); k.k == kNil {
			break
		}
	}
	e.pay(0)
	if e.out != nil {
		if keyed {
			e.out.Map(n)
		} else {
			e.out.Set(n)
		}
	}
	for at := 0; ; {
		var k, v Value
		if k, v, at = t.next(e.vm, at); k.k == kNil {
			return
		}
		e.value(k, depth+1)
		if keyed {
			e.value(v, depth+1)
		}
	}
}
