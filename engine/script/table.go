package script

import (
	"math"
	"math/bits"
)

// A table holds values by keys: those by 1, 2, 3, … in an array as far as at least half of it is in use, others in nodes
// that are chained where their keys want the same place. It is Lua 5.1's table to the letter, because the order of pairs
// shows in answers: in cjson.encode, cmsgpack.pack and maps.
//
//	T1: every key stands in the chain of nodes that begins at its main place, see place
//	T2: a node that is not at its main place is there because one with that main place is
//	T3: the keys in arr stand nowhere else
type table struct {
	arr      []Value
	nodes    []node // as many as a power of 2, or none
	free     int    // all nodes from here on are in use
	meta     *table
	id       uint32 // its place where it is a key
	readonly bool
}

type node struct {
	key, val Value
	next     int32 // index of the next in the chain plus 1, 0 for none
}

// maxArray is the most that an array part may hold.
const maxArray = 1 << 26

// place is where a key's chain begins.
func (t *table) place(k Value) int {
	size := uint32(len(t.nodes))
	switch k.k {
	case kNumber:
		if k.n == 0 {
			return 0
		}
		b := math.Float64bits(k.n)
		return int((uint32(b) + uint32(b>>32)) % ((size - 1) | 1))
	case kString:
		return int(k.str().hash() & (size - 1))
	case kBool:
		return int(uint32(k.n) & (size - 1))
	}
	return int(idOf(k) % ((size - 1) | 1))
}

// idOf numbers what has no content to be hashed by.
func idOf(k Value) uint32 {
	switch k.k {
	case kTable:
		return k.table().id
	case kClosure:
		return k.closure().id
	case kNative:
		return k.native().id
	case kUser:
		return k.user().id
	case kThread:
		return k.thread().id
	}
	return 0
}

// walked pays for a chain that is longer than chains are.
func (vm *vm) walked(steps int) {
	if steps > 4 && vm != nil {
		vm.charge(int64(steps))
	}
}

func (t *table) getStr(vm *vm, s *str) Value {
	if len(t.nodes) == 0 {
		return Value{}
	}
	for i, steps := int(s.hash()&uint32(len(t.nodes)-1)), 0; ; steps++ {
		n := &t.nodes[i]
		if n.key.k == kString && (n.key.str() == s || n.key.str().h == s.h && vm.sameText(n.key.str(), s)) {
			vm.walked(steps)
			return n.val
		}
		if n.next == 0 {
			vm.walked(steps)
			return Value{}
		}
		i = int(n.next) - 1
	}
}

func (t *table) getInt(vm *vm, i int) Value {
	if uint(i-1) < uint(len(t.arr)) {
		return t.arr[i-1]
	}
	return t.getNode(vm, vInt(i))
}

func (t *table) getNode(vm *vm, k Value) Value {
	if n := t.find(vm, k); n >= 0 {
		return t.nodes[n].val
	}
	return Value{}
}

// find returns the node with a key, -1 for none.
func (t *table) find(vm *vm, k Value) int {
	if len(t.nodes) == 0 {
		return -1
	}
	for i, steps := t.place(k), 0; ; steps++ {
		n := &t.nodes[i]
		if n.key.k == k.k && vm.rawEqual(n.key, k) {
			vm.walked(steps)
			return i
		}
		if n.next == 0 {
			vm.walked(steps)
			return -1
		}
		i = int(n.next) - 1
	}
}

func (t *table) get(vm *vm, k Value) Value {
	switch k.k {
	case kString:
		return t.getStr(vm, k.str())
	case kNumber:
		if i := int(k.n); float64(i) == k.n && uint(i-1) < uint(len(t.arr)) {
			return t.arr[i-1]
		}
	case kNil:
		return Value{}
	}
	return t.getNode(vm, k)
}

// set puts a value under a key, which is neither nil nor NaN.
func (t *table) set(vm *vm, k, v Value) {
	if k.k == kNumber {
		if i := int(k.n); float64(i) == k.n && uint(i-1) < uint(len(t.arr)) {
			t.arr[i-1] = v
			return
		}
		if k.n == 0 {
			k.n = 0 // not -0
		}
	}
	if i := t.find(vm, k); i >= 0 {
		t.nodes[i].val = v
		return
	}
	if v.k != kNil {
		t.add(vm, k, v)
	}
}

func (t *table) setInt(vm *vm, i int, v Value) { t.set(vm, vInt(i), v) }

func (t *table) setStr(vm *vm, name string, v Value) { t.set(vm, vStr(constant(name)), v) }

// add puts a value under a key that is not there.
func (t *table) add(vm *vm, k, v Value) {
	if len(t.nodes) == 0 {
		t.rehash(vm, k)
		t.set(vm, k, v)
		return
	}
	main := t.place(k)
	if t.nodes[main].val.k != kNil {
		at := t.freeNode()
		if at < 0 {
			t.rehash(vm, k)
			t.set(vm, k, v)
			return
		}
		if other := t.place(t.nodes[main].key); other != main { // it is not at its main place: it makes room
			steps := 0
			for int(t.nodes[other].next)-1 != main {
				other = int(t.nodes[other].next) - 1
				steps++
			}
			vm.walked(steps)
			t.nodes[other].next = int32(at + 1)
			t.nodes[at] = t.nodes[main]
			t.nodes[main].next, t.nodes[main].val = 0, Value{}
		} else {
			t.nodes[at].next = t.nodes[main].next
			t.nodes[main].next = int32(at + 1)
			main = at
		}
	}
	t.nodes[main].key, t.nodes[main].val = k, v
}

func (t *table) freeNode() int {
	for t.free > 0 {
		t.free--
		if t.nodes[t.free].key.k == kNil {
			return t.free
		}
	}
	return -1
}

// arrayIndex is a key as a place in an array part, 0 if it is none.
func arrayIndex(k Value) int {
	if k.k == kNumber && k.n >= 1 && k.n <= maxArray && k.n == math.Trunc(k.n) {
		return int(k.n)
	}
	return 0
}

func ceilLog2(n int) int { return bits.Len(uint(n - 1)) }

// rehash makes room for one more key.
func (t *table) rehash(vm *vm, extra Value) {
	var counts [28]int // of keys between two powers of 2
	inArray, total := 0, 0
	for i := range t.arr {
		if t.arr[i].k != kNil {
			counts[ceilLog2(i+1)]++
			inArray++
		}
	}
	total = inArray
	for i := range t.nodes {
		if t.nodes[i].val.k != kNil {
			if at := arrayIndex(t.nodes[i].key); at > 0 {
				counts[ceilLog2(at)]++
				inArray++
			}
			total++
		}
	}
	if at := arrayIndex(extra); at > 0 {
		counts[ceilLog2(at)]++
		inArray++
	}
	total++
	size, used, sum := 0, 0, 0
	for i, power := 0, 1; power/2 < inArray; i, power = i+1, power*2 {
		if counts[i] > 0 {
			sum += counts[i]
			if sum > power/2 {
				size, used = power, sum
			}
		}
		if sum == inArray {
			break
		}
	}
	t.resize(vm, size, total-used)
}

// resize gives the table an array part of so many values and room for so many nodes.
func (t *table) resize(vm *vm, array, hash int) {
	room := 0
	if hash > 0 {
		room = 1 << ceilLog2(hash)
	}
	if vm != nil {
		vm.charge(int64(len(t.arr)+array)/2 + 3*int64(len(t.nodes)+room))
		vm.alloc(int64(max(array-len(t.arr), 0))*valueBytes + int64(room)*nodeBytes)
	}
	oldArray, oldNodes := t.arr, t.nodes
	if array > len(oldArray) {
		t.arr = make([]Value, array)
		copy(t.arr, oldArray)
	} else {
		t.arr = oldArray[:array:array]
	}
	t.nodes, t.free = nil, 0
	if room > 0 {
		t.nodes, t.free = make([]node, room), room
	}
	for i := array; i < len(oldArray); i++ {
		if oldArray[i].k != kNil {
			t.set(vm, vInt(i+1), oldArray[i])
		}
	}
	for i := len(oldNodes) - 1; i >= 0; i-- {
		if oldNodes[i].val.k != kNil {
			t.set(vm, oldNodes[i].key, oldNodes[i].val)
		}
	}
	if vm != nil {
		vm.mem += int64(len(oldNodes)) * nodeBytes // nobody else knows them
	}
}

// length is a border: a place that is not nil before one that is.
func (t *table) length(vm *vm) int {
	j := len(t.arr)
	if j > 0 && t.arr[j-1].k == kNil {
		i := 0
		for j-i > 1 {
			if m := (i + j) / 2; t.arr[m-1].k == kNil {
				j = m
			} else {
				i = m
			}
		}
		return i
	}
	if len(t.nodes) == 0 {
		return j
	}
	i := j
	j++
	for t.getInt(vm, j).k != kNil {
		i = j
		j *= 2
		if j > math.MaxInt32 {
			for i = 1; t.getInt(vm, i).k != kNil; i++ {
				vm.charge(1)
			}
			return i - 1
		}
	}
	for j-i > 1 {
		if m := (i + j) / 2; t.getInt(vm, m).k == kNil {
			j = m
		} else {
			i = m
		}
	}
	return i
}

// next returns the entry after that at position at, and its own position; at begins with 0 and ends with 0.
func (t *table) next(vm *vm, at int) (k, v Value, after int) {
	from := at
	for ; at < len(t.arr); at++ {
		if t.arr[at].k != kNil {
			vm.walked(at - from)
			return vInt(at + 1), t.arr[at], at + 1
		}
	}
	for i := at - len(t.arr); i < len(t.nodes); i++ {
		if t.nodes[i].val.k != kNil {
			vm.walked(i + len(t.arr) - from)
			return t.nodes[i].key, t.nodes[i].val, len(t.arr) + i + 1
		}
	}
	vm.walked(len(t.arr) + len(t.nodes) - from)
	return Value{}, Value{}, 0
}

// after is the position behind a key's, for next; ok is false when the key is not there.
func (t *table) after(vm *vm, k Value) (at int, ok bool) {
	if k.k == kNil {
		return 0, true
	}
	if i := arrayIndex(k); i > 0 && i <= len(t.arr) {
		return i, true
	}
	if i := t.find(vm, k); i >= 0 {
		return len(t.arr) + i + 1, true
	}
	return 0, false
}
