package script

import (
	"math"
	"math/rand/v2"
	"strconv"
)

// A Machine runs scripts, one at a time. Between two runs it keeps nothing of them.
type Machine struct {
	vm       vm
	eval     *table // the globals of scripts
	function *table // those of libraries, empty: what is behind them changes when a library is loaded
	behind   *table // the metatable of function
}

// NewMachine makes a machine.
func NewMachine() *Machine {
	m := &Machine{}
	m.eval = newGlobals()
	api := newGlobals()
	m.behind = &table{id: firstID - 2}
	m.behind.setStr(nil, "__index", vTable(api))
	m.behind.readonly = true
	m.function = &table{id: firstID - 3, meta: m.behind, readonly: true}
	api.readonly = false
	api.setStr(nil, "_G", vTable(m.function))
	api.set(nil, vStr(sKeys), Value{})
	api.set(nil, vStr(sArgv), Value{})
	api.readonly = true
	vm := &m.vm
	vm.stack = make([]Value, keptStack)
	vm.rets = make([]Value, 0, keptRets)
	for range keptFrames {
		vm.frames = append(vm.frames, &frame{vm: vm})
	}
	return m
}

var (
	sKeys  = constant("KEYS")
	sArgv  = constant("ARGV")
	sIndex = mIndex
)

// An Outcome is how a run ended.
type Outcome struct {
	Failed  string // the error that the script raised, with its code; empty when it did not
	Stopped string // why the script was stopped, as part of a sentence; empty when it was not
	Used    Cost   // of the budget
}

// A Job is what is to be run.
type Job struct {
	Name       string // as errors call it: the SHA1 of a script, the name of a function
	Keys, Args [][]byte
	Budget     Budget
	Dice       *rand.Rand
	Host       Host
	Out        Out // gets the reply, unless the run failed or was stopped
}

// Run runs a script.
func (m *Machine) Run(c *Chunk, job *Job) Outcome {
	return m.run(job, func() {
		vm := &m.vm
		vm.globals = m.eval
		m.eval.set(nil, vStr(sKeys), vm.list(job.Keys))
		m.eval.set(nil, vStr(sArgv), vm.list(job.Args))
		vm.enter(&closure{p: c.main, env: m.eval}, vm.top)
	})
}

// Load runs a library's text, and returns the functions that it registers.
func (m *Machine) Load(c *Chunk, job *Job) (functions []Function, o Outcome) {
	o = m.run(job, func() {
		functions = m.load(c)
		m.vm.rets = m.vm.rets[:0]
	})
	for i := range functions {
		functions[i].callback = Value{}
	}
	return functions, o
}

func (m *Machine) load(c *Chunk) []Function {
	vm := &m.vm
	vm.globals = m.function
	vm.lib = &loading{}
	api := m.behind.getStr(nil, sIndex)
	m.behind.set(nil, vStr(sIndex), vTable(libraryAPI))
	defer func() {
		m.behind.set(nil, vStr(sIndex), api)
		vm.lib = nil
	}()
	lib := vm.lib
	vm.enter(&closure{p: c.main, env: m.function}, vm.top)
	return lib.functions
}

// Call runs a function of a library. The library is loaded for that: what it keeps in its variables does not outlast a
// call, so that replicas, which may be made of a snapshot, do not differ.
func (m *Machine) Call(c *Chunk, function string, job *Job) Outcome {
	return m.run(job, func() {
		for _, f := range m.load(c) {
			if f.Name == function {
				vm := &m.vm
				base := vm.top
				vm.push(vm.list(job.Keys))
				vm.push(vm.list(job.Args))
				vm.call(f.callback, base, nil)
				return
			}
		}
		m.vm.raiseErr("Function not found")
	})
}

func (vm *vm) list(args [][]byte) Value {
	t := vm.newTable(len(args), 0)
	for i, a := range args {
		t.arr[i] = vm.newText(a)
	}
	return vTable(t)
}

// run runs something from beginning to end.
func (m *Machine) run(job *Job, body func()) (o Outcome) {
	vm := &m.vm
	vm.reset(job.Host, job.Budget, job.Dice)
	defer func() {
		left := Cost{Steps: vm.rest + vm.steps, Bytes: vm.mem}
		o.Used = Cost{job.Budget.Steps - left.Steps, job.Budget.Bytes - left.Bytes}
		r := recover()
		m.eval.set(nil, vStr(sKeys), vFalse)
		m.eval.set(nil, vStr(sArgv), vFalse)
		vm.release()
		if r == nil {
			return
		}
		s, ok := r.(stopped)
		if !ok {
			panic(r)
		}
		o.Failed, o.Stopped = "", s.why
	}()
	if e := vm.protected(body); e != nil {
		o.Failed = vm.failure(e, job.Name)
		return o
	}
	if job.Out == nil {
		return o
	}
	v := vm.first()
	sizing := emitter{vm: vm}
	sizing.value(v, 0)
	left := vm.steps
	vm.steps, vm.late = math.MaxInt64/2, nil // it has been paid for
	writing := emitter{vm, job.Out}
	writing.value(v, 0)
	vm.steps = left
	return o
}

// failure is an error that nobody caught, as Redis reports it.
func (vm *vm) failure(e *thrown, name string) string {
	text := ""
	switch {
	case e.v.k != kTable:
		var s Value
		if again := vm.protected(func() { s = vm.toString(e.v) }); again != nil || s.k != kString {
			s = vm.newStr("error in error handling")
		}
		text = "ERR " + s.s()
	default:
		v := e.v.table().getStr(vm, sErr)
		if b, ok := v.text(nil); ok {
			text = string(b)
		} else {
			text = "(null)"
		}
	}
	if e.source != "" && name != "" {
		text += " script: " + name + ", on " + e.source + ":" + strconv.Itoa(e.line) + "."
	}
	return line(text)
}
