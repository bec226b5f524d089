package script

import "iter"

// Coroutines run one at a time, on a stack of Go's own each; no one outlives its run.

// maxCoroutines is how many a run may make: each has a stack.
const maxCoroutines = 256

// coroutineBytes is what one costs at the least.
const coroutineBytes = 16 << 10

type coroutine struct {
	id      uint32
	fn      Value
	args    []Value // that resume and yield hand over
	resume  func() (struct{}, bool)
	stop    func()
	yield   func(struct{}) bool
	err     *thrown
	kill    any // a panic that is not for scripts
	started bool
	dead    bool
	outer   *coroutine // who resumed it
	running bool
	quit    bool

	level, nested, top int
	held               int // of Go's stack, while it is suspended
	deepest            int // beyond that of who resumed it
	frame              *frame
	frames             []*frame
	stack              []Value
}

// current is the coroutine that runs, nil for the script itself.
func (vm *vm) current() *coroutine {
	for i := len(vm.coros) - 1; i >= 0; i-- {
		if c := vm.coros[i]; c.running {
			return c
		}
	}
	return nil
}

var coroutineFunctions = map[string]func(vm *vm, a []Value){
	"create": func(vm *vm, a []Value) {
		vm.ret1(vThread(vm.newCoroutine(a)))
	},
	"wrap": func(vm *vm, a []Value) {
		c := vm.newCoroutine(a)
		vm.alloc(nativeBytes)
		vm.ret1(vNative(&native{name: "wrap", id: vm.newID(), f: wrapped(c)}))
	},
	"resume": func(vm *vm, a []Value) {
		ok := vm.resume(vm.checkThread(a), a[1:])
		vm.rets = append(vm.rets, Value{})
		copy(vm.rets[1:], vm.rets)
		vm.rets[0] = vBool(ok)
	},
	"yield": func(vm *vm, a []Value) {
		c := vm.current()
		if c == nil {
			vm.fault("attempt to yield across metamethod/C-call boundary")
		}
		if vm.nested > c.nested {
			vm.fault("attempt to yield across metamethod/C-call boundary")
		}
		c.args = append(c.args[:0], a...)
		mode := vm.mode
		if !c.yield(struct{}{}) {
			panic(stopped{"the run is over"})
		}
		vm.mode = mode
		vm.rets = append(vm.rets[:0], c.args...)
	},
	"running": func(vm *vm, _ []Value) {
		if c := vm.current(); c != nil {
			vm.ret1(vThread(c))
			return
		}
		vm.ret1(Value{})
	},
	"status": func(vm *vm, a []Value) {
		c := vm.checkThread(a)
		status := "suspended"
		switch {
		case c.dead:
			status = "dead"
		case c.running:
			status = "running"
		case c.outer != nil || c.quit:
			status = "normal"
		}
		vm.ret1(vm.newStr(status))
	},
}

func wrapped(c *coroutine) func(vm *vm, a []Value) {
	return func(vm *vm, a []Value) {
		if vm.resume(c, a) {
			return
		}
		e := vm.first()
		if e.k == kString {
			e = vm.newStr(vm.where(1) + e.s())
		}
		vm.raise(e)
	}
}

func (vm *vm) checkThread(a []Value) *coroutine {
	if len(a) == 0 || a[0].k != kThread {
		vm.argError(0, "coroutine expected")
	}
	return a[0].thread()
}

func (vm *vm) newCoroutine(a []Value) *coroutine {
	if len(a) == 0 || a[0].k != kClosure {
		vm.argError(0, "Lua function expected")
	}
	if len(vm.coros) >= maxCoroutines {
		vm.fail("too many coroutines")
	}
	vm.alloc(coroutineBytes)
	vm.charge(200)
	c := &coroutine{id: vm.newID(), fn: a[0]}
	vm.coros = append(vm.coros, c)
	c.resume, c.stop = iter.Pull(func(yield func(struct{}) bool) {
		defer func() {
			c.dead = true
			if r := recover(); r != nil {
				var ok bool
				if c.err, ok = r.(*thrown); !ok {
					c.kill = r
				}
			}
		}()
		c.yield = yield
		vm.rets = vm.rets[:0]
		base := vm.top
		vm.pushAll(c.args)
		vm.call(c.fn, base, nil)
		c.args = append(c.args[:0], vm.rets...)
	})
	return c
}

// swap exchanges what runs with what a coroutine keeps.
func (vm *vm) swap(c *coroutine) {
	vm.frames, c.frames = c.frames, vm.frames
	vm.stack, c.stack = c.stack, vm.stack
	vm.level, c.level = c.level, vm.level
	vm.frame, c.frame = c.frame, vm.frame
	vm.top, c.top = c.top, vm.top
}

// resumeSteps is what it takes to change to a coroutine and back.
const resumeSteps = 12

// resume goes on with a coroutine. What it yields, returns or raises is in vm.rets.
func (vm *vm) resume(c *coroutine, a []Value) (ok bool) {
	switch {
	case c.dead:
		vm.ret1(vm.newStr("cannot resume dead coroutine"))
		return false
	case c.running:
		vm.ret1(vm.newStr("cannot resume running coroutine"))
		return false
	case c.quit:
		vm.ret1(vm.newStr("cannot resume normal coroutine"))
		return false
	}
	vm.charge(resumeSteps)
	vm.nest()
	outer := vm.current()
	if outer != nil {
		outer.running, outer.quit = false, true
	}
	c.args = append(c.args[:0], a...)
	c.outer, c.running = outer, true
	depth, nested, mode := vm.depth, vm.nested, vm.mode
	c.nested = nested
	vm.swap(c)
	vm.parked -= c.held
	vm.depth += c.held
	deepest := vm.deepest
	vm.deepest = depth + c.deepest
	c.resume()
	c.deepest, vm.deepest = vm.deepest-depth, deepest
	c.held = 0
	if !c.dead {
		c.held = vm.depth - depth
		vm.parked += c.held
	}
	vm.swap(c)
	vm.depth, vm.nested, vm.mode = depth, nested-1, mode
	c.outer, c.running = nil, false
	if outer != nil {
		outer.running, outer.quit = true, false
	}
	if c.kill != nil {
		kill := c.kill
		c.kill = nil
		panic(kill)
	}
	if e := c.err; e != nil {
		c.err = nil
		vm.ret1(e.v)
		return false
	}
	vm.rets = append(vm.rets[:0], c.args...)
	return true
}
