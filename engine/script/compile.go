package script

// A function compiles to a tree of Go functions: one for each expression and statement. A block pays for all that is in it
// when it begins, but for the blocks inside of it, which pay themselves: so every way to go round costs something.
type (
	expr func(f *frame) Value
	// multi leaves any number of values in vm.rets.
	multi func(f *frame)
	stmt  func(f *frame) flow
	step  func(f *frame, v Value) Value
)

// flow is how a statement ends.
type flow uint8

const (
	goesOn flow = iota
	breaks
	returns   // with vm.rets
	tailCalls // vm.tail
)

// A proto is a compiled function.
type proto struct {
	params   int
	boxed    []int // slots of parameters that live in cells
	vararg   bool
	slots    int
	upvalues []upvalue
	body     block
	depth    int // of Go's stack, in calls, at most
	line     int
	source   string // "@user_script"
	chunk    string // "user_script", as messages begin
}

type block struct {
	cost int64
	list []stmt
}

func (b *block) run(f *frame) flow {
	vm := f.vm
	if vm.steps -= b.cost; vm.steps < 0 {
		vm.recharge()
	}
	for _, s := range b.list {
		if how := s(f); how != goesOn {
			return how
		}
	}
	return goesOn
}

type compiler struct {
	source, chunk string
	cost          int64 // of the block that is compiled
}

// compile makes a function of a chunk, and says about how many bytes it takes.
func compile(text, source, chunk string) (main *proto, bytes int64, err error) {
	if len(text) > 0 && text[0] == '\x1b' {
		return nil, 0, Error(chunk + ": bad header in precompiled chunk")
	}
	fn, nodes, err := parse(text, chunk)
	if err != nil {
		return nil, 0, err
	}
	c := &compiler{source: source, chunk: chunk}
	return c.function(fn), nodes*bytesPerNode + int64(len(text)), nil
}

// bytesPerNode is about what a node of syntax takes when compiled.
const bytesPerNode = 160

func (c *compiler) function(fn *funcNode) *proto {
	cost := c.cost
	p := &proto{params: len(fn.params), vararg: fn.vararg, slots: fn.slots, upvalues: fn.upvalues, depth: 4 + 2*fn.depth, line: fn.line, source: c.source, chunk: c.chunk}
	for _, v := range fn.params {
		if v.captured {
			p.boxed = append(p.boxed, v.slot)
		}
	}
	p.body = c.block(fn.body)
	p.body.cost += 4 + int64(fn.slots)/4
	c.cost = cost
	return p
}

func (c *compiler) block(list []stmtNode) block {
	cost := c.cost
	c.cost = 1
	b := block{list: make([]stmt, 0, len(list))}
	for _, s := range list {
		c.cost++
		b.list = append(b.list, c.stmt(s))
	}
	b.cost, c.cost = c.cost, cost
	return b
}

// A what names an expression in messages: field 'x'.
type what struct{ kind, name string }

func whatOf(e exprNode) what {
	switch e := e.(type) {
	case localNode:
		return what{"local", e.v.name}
	case upNode:
		return what{"upvalue", e.name}
	case globalNode:
		return what{"global", e.name}
	case *indexNode:
		if s, ok := e.key.(strNode); ok {
			return what{"field", string(s)}
		}
		return what{"field", "?"}
	case *callNode, *parenNode:
	}
	return what{}
}

func (c *compiler) expr(e exprNode) expr {
	c.cost++
	switch e := e.(type) {
	case nilNode:
		return func(*frame) Value { return Value{} }
	case boolNode:
		v := vBool(bool(e))
		return func(*frame) Value { return v }
	case numNode:
		v := vNum(float64(e))
		return func(*frame) Value { return v }
	case strNode:
		v := vStr(constant(string(e)))
		return func(*frame) Value { return v }
	case varargNode:
		return func(f *frame) Value {
			if len(f.varargs) == 0 {
				return Value{}
			}
			return f.varargs[0]
		}
	case localNode:
		i := e.v.slot
		if e.v.captured {
			return func(f *frame) Value { return f.slots[i].cell().v }
		}
		return func(f *frame) Value { return f.slots[i] }
	case upNode:
		i := e.index
		return func(f *frame) Value { return f.fn.up[i].v }
	case globalNode:
		name, line := constant(e.name), e.line
		return func(f *frame) Value {
			if v := f.fn.env.getStr(f.vm, name); v.k != kNil {
				return v
			}
			f.line = line
			return f.vm.indexStr(vTable(f.fn.env), name, nil)
		}
	case *indexNode:
		return c.index(e)
	case *callNode:
		call := c.call(e)
		return func(f *frame) Value {
			call(f)
			return f.vm.first()
		}
	case *parenNode:
		return c.expr(e.e)
	case *unNode:
		return c.unary(e)
	case *binNode:
		return c.binary(e)
	case *tableNode:
		return c.table(e)
	case *funcNode:
		return c.closure(e)
	}
	panic("script: an expression of no kind")
}

func (c *compiler) index(e *indexNode) expr {
	obj, name, line := c.expr(e.obj), whatOf(e.obj), e.line
	if s, ok := e.key.(strNode); ok {
		key := constant(string(s))
		return func(f *frame) Value {
			o := obj(f)
			if o.k == kTable {
				if v := o.table().getStr(f.vm, key); v.k != kNil {
					return v
				}
			}
			f.line = line
			return f.vm.indexStr(o, key, &name)
		}
	}
	key := c.expr(e.key)
	return func(f *frame) Value {
		o, k := obj(f), key(f)
		if o.k == kTable {
			if v := o.table().get(f.vm, k); v.k != kNil {
				return v
			}
		}
		f.line = line
		return f.vm.index(o, k, &name)
	}
}

// A list is expressions whose values go onto the stack, the last with all that it has.
type list struct {
	exprs []expr
	last  multi
}

func (c *compiler) list(exprs []exprNode) (l list) {
	for i, e := range exprs {
		if i == len(exprs)-1 {
			if l.last = c.multi(e); l.last != nil {
				break
			}
		}
		l.exprs = append(l.exprs, c.expr(e))
	}
	return l
}

// multi compiles an expression that may have any number of values; nil for another.
func (c *compiler) multi(e exprNode) multi {
	switch e := e.(type) {
	case *callNode:
		c.cost++
		return c.call(e)
	case varargNode:
		c.cost++
		return func(f *frame) {
			f.vm.charge(int64(len(f.varargs)) / 4)
			f.vm.rets = append(f.vm.rets[:0], f.varargs...)
		}
	}
	return nil
}

// push puts all values onto the stack.
func (l *list) push(f *frame) {
	vm := f.vm
	for _, e := range l.exprs {
		v := e(f)
		if vm.top == len(vm.stack) {
			vm.grow(1)
		}
		vm.stack[vm.top] = v
		vm.top++
	}
	vm.high = max(vm.high, vm.top)
	if l.last != nil {
		l.last(f)
		vm.pushAll(vm.rets)
	}
}

func (c *compiler) call(e *callNode) multi {
	c.cost += 6
	line := e.line
	fn, args := c.expr(e.fn), c.list(e.args)
	if e.method != "" {
		key, of := constant(e.method), whatOf(e.fn)
		name := what{"method", e.method}
		return func(f *frame) {
			vm := f.vm
			base := vm.top
			o := fn(f)
			f.line = line
			m := vm.indexStr(o, key, &of)
			vm.push(o)
			args.push(f)
			f.line = line
			vm.call(m, base, &name)
		}
	}
	name := whatOf(e.fn)
	return func(f *frame) {
		vm := f.vm
		base := vm.top
		m := fn(f)
		args.push(f)
		f.line = line
		vm.call(m, base, &name)
	}
}

func (c *compiler) closure(fn *funcNode) expr {
	p := c.function(fn)
	c.cost += 8
	return func(f *frame) Value {
		vm := f.vm
		vm.alloc(closureBytes + 8*int64(len(p.upvalues)))
		vm.ids++
		cl := &closure{p: p, env: f.fn.env, id: vm.ids}
		if len(p.upvalues) > 0 {
			cl.up = make([]*cell, len(p.upvalues))
			for i := range p.upvalues {
				if v := p.upvalues[i].local; v != nil {
					cl.up[i] = f.slots[v.slot].cell()
				} else {
					cl.up[i] = f.fn.up[p.upvalues[i].index]
				}
			}
		}
		return vClosure(cl)
	}
}

func (c *compiler) table(e *tableNode) expr {
	type field struct{ key, value expr }
	type item struct {
		field
		n int // of the list, 0 for a field
	}
	var items []item
	var last multi
	n, hash := 0, 0
	for i, it := range e.items {
		switch {
		case it.key != nil:
			hash++
			items = append(items, item{field{c.expr(it.key), c.expr(it.value)}, 0})
		case i == len(e.items)-1:
			if last = c.multi(it.value); last != nil {
				break
			}
			fallthrough
		default:
			n++
			items = append(items, item{field{nil, c.expr(it.value)}, n})
		}
	}
	c.cost += 4
	line, room, sized := e.line, 0, roundFb(n)
	if hash > 0 {
		room = roundFb(hash)
	}
	return func(f *frame) Value {
		vm := f.vm
		t := vm.newTable(sized, room)
		for i := range items {
			it := &items[i]
			if it.n > 0 {
				if v := it.value(f); v.k != kNil {
					t.setInt(vm, it.n, v)
				}
				continue
			}
			k, v := it.key(f), it.value(f)
			f.line = line
			vm.setRaw(t, k, v)
		}
		if last != nil {
			last(f)
			rets := vm.rets
			if n+len(rets) > len(t.arr) && len(rets) > 0 {
				t.resize(vm, n+len(rets), len(t.nodes))
			}
			vm.charge(int64(len(rets)) / 4)
			for i, v := range rets {
				t.setInt(vm, n+i+1, v)
			}
		}
		return vTable(t)
	}
}

// roundFb is n as Lua's instruction for a new table has it: with three bits after the first, rounded up.
func roundFb(n int) int {
	e := 0
	for n >= 16 {
		n = (n + 1) >> 1
		e++
	}
	return n << e
}

func (c *compiler) unary(e *unNode) expr {
	x, name, line := c.expr(e.e), whatOf(e.e), e.line
	switch e.op {
	case "not":
		return func(f *frame) Value { return vBool(!x(f).truth()) }
	case "-":
		return func(f *frame) Value {
			v := x(f)
			if v.k == kNumber {
				return vNum(-v.n)
			}
			f.line = line
			return f.vm.arith("-u", v, v, &name, &name)
		}
	}
	return func(f *frame) Value {
		v := x(f)
		switch v.k {
		case kTable:
			return vInt(v.table().length(f.vm))
		case kString:
			return vInt(len(v.s()))
		}
		f.line = line
		return f.vm.length(v, &name)
	}
}

// binary compiles an operator, and those to its left with it: a long chain of them does not nest.
func (c *compiler) binary(e *binNode) expr {
	if e.op == ".." {
		return c.concat(e)
	}
	var chain []*binNode
	var first exprNode = e
	for {
		b, ok := first.(*binNode)
		if !ok || b.op == ".." {
			break
		}
		chain = append(chain, b)
		first = b.l
	}
	c.cost += int64(len(chain))
	if len(chain) < 16 {
		if len(chain) == 1 {
			if x := c.simple(e); x != nil {
				return x
			}
		}
		x := c.expr(first)
		for i := len(chain) - 1; i >= 0; i-- {
			l, s := x, c.step(chain[i])
			x = func(f *frame) Value { return s(f, l(f)) }
		}
		return x
	}
	x := c.expr(first)
	steps := make([]step, len(chain))
	for i, b := range chain {
		steps[len(chain)-1-i] = c.step(b)
	}
	return func(f *frame) Value {
		v := x(f)
		for _, s := range steps {
			v = s(f, v)
		}
		return v
	}
}

// simple compiles the most frequent forms: a variable or field and a number.
func (c *compiler) simple(e *binNode) expr {
	n, ok := e.r.(numNode)
	if !ok {
		return nil
	}
	l, r, s := c.expr(e.l), float64(n), c.step(e)
	switch e.op {
	case "+":
		return func(f *frame) Value {
			v := l(f)
			if v.k == kNumber {
				return vNum(v.n + r)
			}
			return s(f, v)
		}
	case "-":
		return func(f *frame) Value {
			v := l(f)
			if v.k == kNumber {
				return vNum(v.n - r)
			}
			return s(f, v)
		}
	case "==":
		return func(f *frame) Value {
			v := l(f)
			return vBool(v.k == kNumber && v.n == r)
		}
	}
	return func(f *frame) Value { return s(f, l(f)) }
}

// step compiles an operator with what is to its right.
func (c *compiler) step(e *binNode) step {
	r, line := c.expr(e.r), e.line
	left, right := whatOf(e.l), whatOf(e.r)
	op := string(e.op)
	arith := func(f *frame, a, b Value) Value {
		f.line = line
		return f.vm.arith(op, a, b, &left, &right)
	}
	switch e.op {
	case "and":
		return func(f *frame, a Value) Value {
			if !a.truth() {
				return a
			}
			return r(f)
		}
	case "or":
		return func(f *frame, a Value) Value {
			if a.truth() {
				return a
			}
			return r(f)
		}
	case "+":
		return func(f *frame, a Value) Value {
			b := r(f)
			if a.k == kNumber && b.k == kNumber {
				return sum(a.n + b.n)
			}
			return arith(f, a, b)
		}
	case "-":
		return func(f *frame, a Value) Value {
			b := r(f)
			if a.k == kNumber && b.k == kNumber {
				return sum(a.n - b.n)
			}
			return arith(f, a, b)
		}
	case "*":
		return func(f *frame, a Value) Value {
			b := r(f)
			if a.k == kNumber && b.k == kNumber {
				return sum(a.n * b.n)
			}
			return arith(f, a, b)
		}
	case "/", "%", "^":
		c.cost += 2
		return func(f *frame, a Value) Value { return arith(f, a, r(f)) }
	case "==":
		return func(f *frame, a Value) Value {
			b := r(f)
			f.line = line
			return vBool(f.vm.equal(a, b))
		}
	case "~=":
		return func(f *frame, a Value) Value {
			b := r(f)
			f.line = line
			return vBool(!f.vm.equal(a, b))
		}
	case "<":
		return func(f *frame, a Value) Value {
			b := r(f)
			if a.k == kNumber && b.k == kNumber {
				return vBool(a.n < b.n)
			}
			f.line = line
			return vBool(f.vm.less(a, b))
		}
	case ">":
		return func(f *frame, a Value) Value {
			b := r(f)
			if a.k == kNumber && b.k == kNumber {
				return vBool(a.n > b.n)
			}
			f.line = line
			return vBool(f.vm.less(b, a))
		}
	case "<=":
		return func(f *frame, a Value) Value {
			b := r(f)
			f.line = line
			return vBool(f.vm.lessEqual(a, b))
		}
	case ">=":
		return func(f *frame, a Value) Value {
			b := r(f)
			f.line = line
			return vBool(f.vm.lessEqual(b, a))
		}
	}
	panic("script: no operator " + op)
}

// sum is a number that was computed.
func sum(n float64) Value {
	if n != n {
		n = negativeNaN
	}
	return Value{k: kNumber, n: n}
}

func (c *compiler) concat(e *binNode) expr {
	var parts []expr
	var names []what
	var at exprNode = e
	for {
		b, ok := at.(*binNode)
		if !ok || b.op != ".." {
			parts, names = append(parts, c.expr(at)), append(names, whatOf(at))
			break
		}
		parts, names = append(parts, c.expr(b.l)), append(names, whatOf(b.l))
		at = b.r
	}
	c.cost += 2 * int64(len(parts))
	line := e.line
	return func(f *frame) Value {
		vm := f.vm
		base := vm.top
		for _, p := range parts {
			vm.push(p(f))
		}
		f.line = line
		v := vm.concat(base, names)
		vm.top = base
		return v
	}
}

func (c *compiler) stmts(list []stmtNode) *block {
	b := c.block(list)
	return &b
}

func (c *compiler) stmt(s stmtNode) stmt {
	switch s := s.(type) {
	case *localStmt:
		return c.local(s)
	case *assignStmt:
		return c.assign(s)
	case *callStmt:
		call := c.call(s.call)
		return func(f *frame) flow {
			call(f)
			return goesOn
		}
	case *doStmt:
		return c.stmts(s.body).run
	case *whileStmt:
		return c.while(s)
	case *ifStmt:
		return c.ifs(s)
	case *forStmt:
		return c.numericFor(s)
	case *forInStmt:
		return c.genericFor(s)
	case *localFuncStmt:
		fn, v := c.closure(s.fn), s.v
		return func(f *frame) flow {
			if v.captured {
				f.declare(v, Value{})
				f.slots[v.slot].cell().v = fn(f)
				return goesOn
			}
			f.slots[v.slot] = fn(f)
			return goesOn
		}
	case *returnStmt:
		return c.returns(s)
	case breakStmt:
		return func(*frame) flow { return breaks }
	}
	panic("script: a statement of no kind")
}

func (c *compiler) local(s *localStmt) stmt {
	if len(s.vars) == 1 && len(s.exprs) == 1 {
		v, x := s.vars[0], c.expr(s.exprs[0])
		if !v.captured {
			i := v.slot
			return func(f *frame) flow {
				f.slots[i] = x(f)
				return goesOn
			}
		}
		return func(f *frame) flow {
			f.declare(v, x(f))
			return goesOn
		}
	}
	values, vars := c.list(s.exprs), s.vars
	return func(f *frame) flow {
		vm := f.vm
		base := vm.top
		values.push(f)
		for i, v := range vars {
			f.declare(v, vm.at(base+i))
		}
		vm.top = base
		return goesOn
	}
}

// setter compiles where a value goes: what is evaluated before, as values on the stack, and the assignment.
func (c *compiler) setter(e exprNode) (before []expr, set func(f *frame, at int, v Value)) {
	switch e := e.(type) {
	case localNode:
		i := e.v.slot
		if e.v.captured {
			return nil, func(f *frame, _ int, v Value) { f.slots[i].cell().v = v }
		}
		return nil, func(f *frame, _ int, v Value) { f.slots[i] = v }
	case upNode:
		i := e.index
		return nil, func(f *frame, _ int, v Value) { f.fn.up[i].v = v }
	case globalNode:
		name, line := vStr(constant(e.name)), e.line
		return nil, func(f *frame, _ int, v Value) {
			f.line = line
			f.vm.setIndex(vTable(f.fn.env), name, v, nil)
		}
	case *indexNode:
		name, line := whatOf(e.obj), e.line
		return []expr{c.expr(e.obj), c.expr(e.key)}, func(f *frame, at int, v Value) {
			f.line = line
			f.vm.setIndex(f.vm.stack[at], f.vm.stack[at+1], v, &name)
		}
	}
	panic("script: an assignment to nothing")
}

func (c *compiler) assign(s *assignStmt) stmt {
	c.cost += int64(len(s.targets))
	if len(s.targets) == 1 && len(s.exprs) == 1 {
		return c.assignOne(s.targets[0], s.exprs[0])
	}
	type target struct {
		before []expr
		set    func(f *frame, at int, v Value)
		at     int
	}
	var targets []target
	operands := 0
	for _, t := range s.targets {
		before, set := c.setter(t)
		targets = append(targets, target{before, set, operands})
		operands += len(before)
	}
	values := c.list(s.exprs)
	return func(f *frame) flow {
		vm := f.vm
		base := vm.top
		for i := range targets {
			for _, b := range targets[i].before {
				vm.push(b(f))
			}
		}
		at := vm.top
		values.push(f)
		if need := at + len(targets); vm.top < need { // what is missing is nil, and a metamethod must not lie over it
			for vm.top < need {
				vm.push(Value{})
			}
		}
		for i := len(targets) - 1; i >= 0; i-- {
			targets[i].set(f, base+targets[i].at, vm.stack[at+i])
		}
		vm.top = base
		return goesOn
	}
}

func (c *compiler) assignOne(to, from exprNode) stmt {
	if e, ok := to.(*indexNode); ok {
		obj, key, x, name, line := c.expr(e.obj), c.expr(e.key), c.expr(from), whatOf(e.obj), e.line
		return func(f *frame) flow {
			o, k := obj(f), key(f)
			v := x(f)
			f.line = line
			f.vm.setIndex(o, k, v, &name)
			return goesOn
		}
	}
	_, set := c.setter(to)
	x := c.expr(from)
	return func(f *frame) flow {
		set(f, 0, x(f))
		return goesOn
	}
}

func (c *compiler) while(s *whileStmt) stmt {
	if s.repeat {
		b := c.block(s.body)
		outer := c.cost
		c.cost = 0
		cond := c.expr(s.cond)
		b.cost += c.cost
		c.cost = outer
		return func(f *frame) flow {
			for {
				switch how := b.run(f); how {
				case goesOn:
				case breaks:
					return goesOn
				default:
					return how
				}
				if cond(f).truth() {
					return goesOn
				}
			}
		}
	}
	outer := c.cost
	c.cost = 0
	cond := c.expr(s.cond)
	again := c.cost // is paid before the loop and by each round
	c.cost = outer + again
	b := c.block(s.body)
	b.cost += again
	return func(f *frame) flow {
		for cond(f).truth() {
			switch how := b.run(f); how {
			case goesOn:
			case breaks:
				return goesOn
			default:
				return how
			}
		}
		return goesOn
	}
}

func (c *compiler) ifs(s *ifStmt) stmt {
	if len(s.conds) == 1 {
		cond, then := c.expr(s.conds[0]), c.stmts(s.bodies[0])
		if len(s.bodies) == 1 {
			return func(f *frame) flow {
				if cond(f).truth() {
					return then.run(f)
				}
				return goesOn
			}
		}
		other := c.stmts(s.bodies[1])
		return func(f *frame) flow {
			if cond(f).truth() {
				return then.run(f)
			}
			return other.run(f)
		}
	}
	var conds []expr
	var bodies []*block
	for _, e := range s.conds {
		conds = append(conds, c.expr(e))
	}
	for _, b := range s.bodies {
		bodies = append(bodies, c.stmts(b))
	}
	return func(f *frame) flow {
		for i, cond := range conds {
			if cond(f).truth() {
				return bodies[i].run(f)
			}
		}
		if len(bodies) > len(conds) {
			return bodies[len(conds)].run(f)
		}
		return goesOn
	}
}

func (c *compiler) numericFor(s *forStmt) stmt {
	first, last, line, v := c.expr(s.first), c.expr(s.last), s.line, s.v
	increment := func(*frame) Value { return vNum(1) }
	if s.step != nil {
		increment = c.expr(s.step)
	}
	b := c.block(s.body)
	b.cost += 2
	i := v.slot
	return func(f *frame) flow {
		from, to, by := first(f), last(f), increment(f)
		f.line = line
		n, ok := from.number()
		limit, ok2 := to.number()
		d, ok3 := by.number()
		switch {
		case !ok:
			f.vm.fail("'for' initial value must be a number")
		case !ok2:
			f.vm.fail("'for' limit must be a number")
		case !ok3:
			f.vm.fail("'for' step must be a number")
		}
		for ; d > 0 && n <= limit || d <= 0 && n >= limit; n += d {
			if v.captured {
				f.declare(v, vNum(n))
			} else {
				f.slots[i] = vNum(n)
			}
			switch how := b.run(f); how {
			case goesOn:
			case breaks:
				return goesOn
			default:
				return how
			}
		}
		return goesOn
	}
}

func (c *compiler) genericFor(s *forInStmt) stmt {
	values, vars, line, base := c.list(s.exprs), s.vars, s.line, s.base
	b := c.block(s.body)
	b.cost += 4 + int64(len(vars))
	name := what{"local", "(for generator)"}
	return func(f *frame) flow {
		vm := f.vm
		top := vm.top
		values.push(f)
		for i := range 3 {
			f.slots[base+i] = vm.at(top + i)
		}
		vm.top = top
		iter := f.slots[base]
		pairs := iter.k == kNative && iter.native() == nextFunction
		at := 0
		if pairs && f.slots[base+1].k == kTable && f.slots[base+2].k != kNil {
			f.line = line
			at = vm.position(f.slots[base+1].table(), f.slots[base+2])
		}
		for {
			if pairs && f.slots[base+1].k == kTable { // pairs: the position of the last key is known
				var k, v Value
				if k, v, at = f.slots[base+1].table().next(vm, at); k.k == kNil {
					return goesOn
				}
				f.declare(vars[0], k)
				if len(vars) > 1 {
					f.declare(vars[1], v)
					for _, more := range vars[2:] {
						f.declare(more, Value{})
					}
				}
			} else {
				f.line = line
				vm.push(f.slots[base+1])
				vm.push(f.slots[base+2])
				vm.call(iter, top, &name)
				k := vm.first()
				if k.k == kNil {
					return goesOn
				}
				f.slots[base+2] = k
				for i, v := range vars {
					var x Value
					if i < len(vm.rets) {
						x = vm.rets[i]
					}
					f.declare(v, x)
				}
			}
			switch how := b.run(f); how {
			case goesOn:
			case breaks:
				return goesOn
			default:
				return how
			}
		}
	}
}

func (c *compiler) returns(s *returnStmt) stmt {
	if len(s.exprs) == 0 {
		return func(f *frame) flow {
			f.vm.rets = f.vm.rets[:0]
			return returns
		}
	}
	if len(s.exprs) == 1 {
		if call, ok := s.exprs[0].(*callNode); ok && call.method == "" {
			return c.tailCall(call)
		}
		if m := c.multi(s.exprs[0]); m != nil {
			return func(f *frame) flow {
				m(f)
				return returns
			}
		}
		x := c.expr(s.exprs[0])
		return func(f *frame) flow {
			v := x(f)
			f.vm.rets = append(f.vm.rets[:0], v)
			return returns
		}
	}
	values := c.list(s.exprs)
	return func(f *frame) flow {
		vm := f.vm
		base := vm.top
		values.push(f)
		vm.rets = append(vm.rets[:0], vm.stack[base:vm.top]...)
		vm.top = base
		return returns
	}
}

// tailCall compiles return f(…), which takes no room of the stack if f is the script's.
func (c *compiler) tailCall(e *callNode) stmt {
	c.cost += 6
	fn, args, line, name := c.expr(e.fn), c.list(e.args), e.line, whatOf(e.fn)
	return func(f *frame) flow {
		vm := f.vm
		base := vm.top
		m := fn(f)
		args.push(f)
		f.line = line
		if m.k == kClosure {
			vm.tail, vm.tailBase = m.closure(), base
			return tailCalls
		}
		vm.call(m, base, &name)
		return returns
	}
}
