package script

import (
	"cmp"
	"slices"
)

func sortedKeys[V any](m map[string]V) []string {
	var list []string
	for k := range m {
		list = append(list, k)
	}
	slices.SortFunc(list, cmp.Compare)
	return list
}

var tableFunctions = map[string]func(vm *vm, a []Value){
	"concat": func(vm *vm, a []Value) {
		t, sep := vm.checkTable(a, 0), vm.optString(a, 1, "")
		from, to := vm.optInt(a, 2, 1), 0
		if arg(a, 3).k == kNil {
			to = t.length(vm)
		} else {
			to = vm.checkInt(a, 3)
		}
		var b []byte
		for i := from; i <= to; i++ {
			v := t.getInt(vm, i)
			if !isText(v) {
				vm.fail("invalid value (%s) at index %d in table for 'concat'", v.typeName(), i)
			}
			size := 24
			if v.k == kString {
				size = len(v.s())
			}
			b = vm.room(b, size+len(sep))
			vm.charge(int64(size+len(sep))/64 + 4)
			b, _ = v.text(b)
			if i < to {
				b = append(b, sep...)
			}
			if i == to { // which may be the greatest integer
				break
			}
		}
		vm.ret1(vm.own(b))
	},
	"foreach": func(vm *vm, a []Value) {
		t, fn := vm.checkTable(a, 0), vm.checkFunction(a, 1)
		for at := 0; ; {
			var k, v Value
			if k, v, at = t.next(vm, at); k.k == kNil {
				vm.rets = vm.rets[:0]
				return
			}
			if vm.callValue(fn, k, v); vm.first().k != kNil {
				vm.ret1(vm.first())
				return
			}
		}
	},
	"foreachi": func(vm *vm, a []Value) {
		t, fn := vm.checkTable(a, 0), vm.checkFunction(a, 1)
		for i, n := 1, t.length(vm); i <= n; i++ {
			if vm.callValue(fn, vInt(i), t.getInt(vm, i)); vm.first().k != kNil {
				vm.ret1(vm.first())
				return
			}
		}
		vm.rets = vm.rets[:0]
	},
	"getn": func(vm *vm, a []Value) { vm.ret1(vInt(vm.checkTable(a, 0).length(vm))) },
	"setn": func(vm *vm, a []Value) {
		vm.checkTable(a, 0)
		vm.fail("'setn' is obsolete")
	},
	"maxn": func(vm *vm, a []Value) {
		t := vm.checkTable(a, 0)
		vm.charge(int64(len(t.arr)+len(t.nodes)) / 4)
		most := 0.0
		for i, v := range t.arr {
			if v.k != kNil {
				most = float64(i + 1)
			}
		}
		for _, n := range t.nodes {
			if n.val.k != kNil && n.key.k == kNumber {
				most = max(most, n.key.n)
			}
		}
		vm.ret1(vNum(most))
	},
	"insert": func(vm *vm, a []Value) {
		t := vm.checkTable(a, 0)
		n := t.length(vm) + 1
		if t.readonly {
			vm.fault("Attempt to modify a readonly table")
		}
		switch len(a) {
		case 2:
			t.setInt(vm, n, a[1])
		case 3:
			at := vm.checkInt(a, 1)
			n = max(n, at)
			vm.shift(t, n, at)
			t.setInt(vm, at, a[2])
		default:
			vm.fail("wrong number of arguments to 'insert'")
		}
	},
	"remove": func(vm *vm, a []Value) {
		t := vm.checkTable(a, 0)
		n := t.length(vm)
		at := vm.optInt(a, 1, n)
		if at < 1 || at > n {
			return
		}
		if t.readonly {
			vm.fault("Attempt to modify a readonly table")
		}
		v := t.getInt(vm, at)
		if at >= 1 && n <= len(t.arr) {
			vm.charge(int64(n-at) / 8)
			copy(t.arr[at-1:n-1], t.arr[at:n])
		} else {
			for ; at < n; at++ {
				vm.charge(2)
				t.setInt(vm, at, t.getInt(vm, at+1))
			}
		}
		t.setInt(vm, n, Value{})
		vm.ret1(v)
	},
	"sort": func(vm *vm, a []Value) {
		t := vm.checkTable(a, 0)
		n := t.length(vm)
		s := &sorter{vm: vm, t: t}
		if arg(a, 1).k != kNil {
			s.less = vm.checkFunction(a, 1)
		}
		if t.readonly {
			vm.fault("Attempt to modify a readonly table")
		}
		s.sort(1, n)
		vm.rets = vm.rets[:0]
	},
}

// shift moves what stands from at to n-1 one place up.
func (vm *vm) shift(t *table, n, at int) {
	if n <= len(t.arr) && at >= 1 {
		vm.charge(int64(n-at) / 8)
		copy(t.arr[at:n], t.arr[at-1:n-1])
		return
	}
	for i := n; i > at; i-- {
		vm.charge(2)
		t.setInt(vm, i, t.getInt(vm, i-1))
	}
}

// A sorter is Lua's quicksort, step by step: what a function that is no order makes of it shows.
type sorter struct {
	vm   *vm
	t    *table
	less Value
}

func (s *sorter) get(i int) Value    { return s.t.getInt(s.vm, i) }
func (s *sorter) set(i int, v Value) { s.t.setInt(s.vm, i, v) }

func (s *sorter) before(a, b Value) bool {
	if s.less.k != kNil {
		s.vm.callValue(s.less, a, b)
		return s.vm.first().truth()
	}
	s.vm.charge(4)
	return s.vm.less(a, b)
}

func (s *sorter) sort(l, u int) {
	for l < u {
		s.vm.charge(8)
		a, b := s.get(l), s.get(u)
		if s.before(b, a) {
			s.set(l, b)
			s.set(u, a)
		}
		if u-l == 1 {
			return
		}
		i := (l + u) / 2
		a, b = s.get(i), s.get(l)
		if s.before(a, b) {
			s.set(i, b)
			s.set(l, a)
		} else if b = s.get(u); s.before(b, a) {
			s.set(i, b)
			s.set(u, a)
		}
		if u-l == 2 {
			return
		}
		pivot := s.get(i)
		s.set(i, s.get(u-1))
		s.set(u-1, pivot)
		i, j := l, u-1
		for {
			for i++; s.before(s.get(i), pivot); i++ {
				if i > u {
					s.vm.fail("invalid order function for sorting")
				}
			}
			for j--; s.before(pivot, s.get(j)); j-- {
				if j < l {
					s.vm.fail("invalid order function for sorting")
				}
			}
			if j < i {
				break
			}
			a, b := s.get(i), s.get(j)
			s.set(i, b)
			s.set(j, a)
		}
		a, b = s.get(u-1), s.get(i)
		s.set(u-1, b)
		s.set(i, a)
		if i-l < u-i {
			s.sort(l, i-1)
			l = i + 1
		} else {
			s.sort(i+1, u)
			u = i - 1
		}
	}
}
