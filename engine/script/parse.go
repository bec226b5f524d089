package script

import "fmt"

// The parser makes a tree of a chunk's text, in which variables are resolved already: where a variable is kept is known
// when the function around it ends, since only then is it known whether an inner function uses it.

// A variable is a local one, or a parameter.
type variable struct {
	name     string
	slot     int
	captured bool // an inner function knows it, so it lives in a cell
}

// An upvalue is a variable of an outer function as a function finds it.
type upvalue struct {
	name  string
	local *variable // of the function right outside, or
	index int       // its own upvalue
}

// A funcNode is a function's text.
type funcNode struct {
	params   []*variable
	vararg   bool
	body     []stmtNode
	upvalues []upvalue
	slots    int
	line     int
	depth    int // levels of syntax, at most
}

type (
	exprNode interface{}
	stmtNode interface{}

	nilNode    struct{}
	boolNode   bool
	numNode    float64
	strNode    string
	varargNode struct{}
	localNode  struct{ v *variable }
	upNode     struct {
		index int
		name  string
	}
	globalNode struct {
		name string
		line int
	}
	indexNode struct {
		obj, key exprNode
		line     int
	}
	callNode struct {
		fn     exprNode
		method string // called on fn, if not empty
		args   []exprNode
		line   int
	}
	parenNode struct{ e exprNode }
	binNode   struct {
		op   token
		l, r exprNode
		line int
	}
	unNode struct {
		op   token
		e    exprNode
		line int
	}
	tableNode struct {
		items []tableItem
		line  int
	}
	tableItem struct{ key, value exprNode } // without a key it is the next of the list

	localStmt struct {
		vars  []*variable
		exprs []exprNode
	}
	assignStmt struct {
		targets []exprNode
		exprs   []exprNode
	}
	callStmt  struct{ call *callNode }
	doStmt    struct{ body []stmtNode }
	whileStmt struct {
		cond   exprNode
		body   []stmtNode
		repeat bool
	}
	ifStmt struct {
		conds  []exprNode
		bodies [][]stmtNode // one more than conds when there is an else
	}
	forStmt struct {
		v                 *variable
		base              int
		first, last, step exprNode
		body              []stmtNode
		line              int
	}
	forInStmt struct {
		vars  []*variable
		base  int // of three hidden slots
		exprs []exprNode
		body  []stmtNode
		line  int
	}
	localFuncStmt struct {
		v  *variable
		fn *funcNode
	}
	returnStmt struct {
		exprs []exprNode
		line  int
	}
	breakStmt struct{}
)

// A scope is a function that is being read.
type scope struct {
	outer  *scope
	fn     *funcNode
	active []*variable
	loops  int
	slots  int
}

type parser struct {
	lexer
	fs     *scope
	levels int
	nodes  int64
}

// parse reads a whole chunk.
func parse(text, chunk string) (fn *funcNode, nodes int64, err error) {
	defer func() {
		if e := recover(); e != nil {
			s, ok := e.(syntaxError)
			if !ok {
				panic(e)
			}
			err = Error(s)
		}
	}()
	p := &parser{lexer: lexer{text: text, chunk: chunk, line: 1, last: 1}}
	p.fs = &scope{fn: &funcNode{vararg: true}}
	p.next()
	p.fs.fn.body = p.block()
	p.check(tEnd)
	return p.fs.fn, p.nodes, nil
}

func (p *parser) check(t token) {
	if p.token != t {
		p.syntax("'" + string(t) + "' expected")
	}
}

func (p *parser) accept(t token) bool {
	if p.token == t {
		p.next()
		return true
	}
	return false
}

func (p *parser) expect(t token) {
	p.check(t)
	p.next()
}

// closing expects what ends something that began with open at a line.
func (p *parser) closing(t, open token, line int) {
	if p.token != t && line != p.line {
		p.syntax(fmt.Sprintf("'%s' expected (to close '%s' at line %d)", t, open, line))
	}
	p.expect(t)
}

func (p *parser) name() string {
	p.check(tName)
	s := p.value
	p.next()
	return s
}

func (p *parser) enter() {
	p.levels++
	if p.levels > maxLevels {
		p.fail("chunk has too many syntax levels", "")
	}
	p.fs.fn.depth = max(p.fs.fn.depth, p.levels)
}

func (p *parser) leave() { p.levels-- }

func (p *parser) slot() int {
	s := p.fs.slots
	p.fs.slots++
	p.fs.fn.slots = max(p.fs.fn.slots, p.fs.slots)
	return s
}

func (p *parser) declare(name string) *variable {
	if p.fs.slots >= maxLocals {
		if p.fs.fn.line == 0 {
			p.fail(fmt.Sprintf("main function has more than %d local variables", maxLocals), "")
		}
		p.fail(fmt.Sprintf("function at line %d has more than %d local variables", p.fs.fn.line, maxLocals), "")
	}
	return &variable{name: name, slot: p.slot()}
}

func (p *parser) activate(vars ...*variable) { p.fs.active = append(p.fs.active, vars...) }

// inner reads a block with variables of its own.
func (p *parser) inner(read func()) {
	active, slots := len(p.fs.active), p.fs.slots
	read()
	p.fs.active, p.fs.slots = p.fs.active[:active], slots
}

func (p *parser) loop(read func()) {
	p.fs.loops++
	p.inner(read)
	p.fs.loops--
}

// resolve finds the variable that a name means.
func (p *parser) resolve(name string, line int) exprNode {
	switch v, up := p.fs.find(p, name); {
	case v != nil:
		return localNode{v}
	case up >= 0:
		return upNode{up, name}
	}
	return globalNode{name, line}
}

// find returns a variable of the function's own, or the index of an upvalue, or neither.
func (fs *scope) find(p *parser, name string) (v *variable, up int) {
	for i := len(fs.active) - 1; i >= 0; i-- {
		if fs.active[i].name == name {
			return fs.active[i], -1
		}
	}
	for i := range fs.fn.upvalues {
		if fs.fn.upvalues[i].name == name {
			return nil, i
		}
	}
	if fs.outer == nil {
		return nil, -1
	}
	v, up = fs.outer.find(p, name)
	if v == nil && up < 0 {
		return nil, -1
	}
	if v != nil {
		v.captured = true
	}
	if len(fs.fn.upvalues) >= maxUpvalues {
		p.fail(fmt.Sprintf("function at line %d has more than %d upvalues", fs.fn.line, maxUpvalues), "")
	}
	fs.fn.upvalues = append(fs.fn.upvalues, upvalue{name, v, up})
	return nil, len(fs.fn.upvalues) - 1
}

func (p *parser) blockEnds() bool {
	switch p.token {
	case tEnd, "else", "elseif", "end", "until":
		return true
	}
	return false
}

func (p *parser) block() (list []stmtNode) {
	p.enter()
	for !p.blockEnds() {
		s, last := p.statement()
		if s != nil {
			list = append(list, s)
		}
		p.accept(";")
		if last {
			break
		}
	}
	p.leave()
	return list
}

// body reads a block with variables of its own.
func (p *parser) body() (list []stmtNode) {
	p.inner(func() { list = p.block() })
	return list
}

func (p *parser) statement() (s stmtNode, last bool) {
	p.nodes++
	line := p.line
	switch p.token {
	case "if":
		return p.ifStatement(line), false
	case "while":
		p.next()
		s := &whileStmt{cond: p.expr()}
		p.expect("do")
		p.loop(func() { s.body = p.block() })
		p.closing("end", "while", line)
		return s, false
	case "do":
		p.next()
		s := &doStmt{p.body()}
		p.closing("end", "do", line)
		return s, false
	case "for":
		return p.forStatement(line), false
	case "repeat":
		p.next()
		s := &whileStmt{repeat: true}
		p.loop(func() {
			s.body = p.block()
			p.closing("until", "repeat", line)
			s.cond = p.expr()
		})
		return s, false
	case "function":
		p.next()
		return p.functionStatement(line), false
	case "local":
		p.next()
		if p.accept("function") {
			v := p.declare(p.name())
			p.activate(v)
			return &localFuncStmt{v, p.function(false, line)}, false
		}
		return p.localStatement(), false
	case "return":
		p.next()
		s := &returnStmt{line: line}
		if !p.blockEnds() && p.token != ";" {
			s.exprs = p.exprs()
		}
		return s, true
	case "break":
		p.next()
		if p.fs.loops == 0 {
			p.syntax("no loop to break")
		}
		return breakStmt{}, true
	}
	e := p.suffixed()
	if c, ok := e.(*callNode); ok && p.token != "=" && p.token != "," {
		return &callStmt{c}, false
	}
	targets := []exprNode{p.target(e)}
	for p.accept(",") {
		targets = append(targets, p.target(p.suffixed()))
		if len(targets) > maxLevels {
			p.fail("variables in assignment", "")
		}
	}
	p.expect("=")
	return &assignStmt{targets, p.exprs()}, false
}

func (p *parser) target(e exprNode) exprNode {
	switch e.(type) {
	case localNode, upNode, globalNode, *indexNode:
		return e
	}
	p.syntax("syntax error")
	return nil
}

func (p *parser) ifStatement(line int) stmtNode {
	s := &ifStmt{}
	for {
		p.next()
		s.conds = append(s.conds, p.expr())
		p.expect("then")
		s.bodies = append(s.bodies, p.body())
		if p.token != "elseif" {
			break
		}
	}
	if p.accept("else") {
		s.bodies = append(s.bodies, p.body())
	}
	p.closing("end", "if", line)
	return s
}

func (p *parser) forStatement(line int) (s stmtNode) {
	p.next()
	first := p.name()
	p.loop(func() {
		base := p.slot()
		p.slot()
		p.slot()
		switch p.token {
		case "=":
			p.next()
			f := &forStmt{base: base, line: line, first: p.expr()}
			p.expect(",")
			f.last = p.expr()
			if p.accept(",") {
				f.step = p.expr()
			}
			p.expect("do")
			p.inner(func() {
				f.v = p.declare(first)
				p.activate(f.v)
				f.body = p.block()
			})
			s = f
		case ",", "in":
			names := []string{first}
			for p.accept(",") {
				names = append(names, p.name())
			}
			p.expect("in")
			f := &forInStmt{base: base, line: p.line, exprs: p.exprs()}
			p.expect("do")
			p.inner(func() {
				for _, name := range names {
					f.vars = append(f.vars, p.declare(name))
				}
				p.activate(f.vars...)
				f.body = p.block()
			})
			s = f
		default:
			p.syntax("'=' or 'in' expected")
		}
	})
	p.closing("end", "for", line)
	return s
}

func (p *parser) functionStatement(line int) stmtNode {
	at := p.line
	var target exprNode = p.resolve(p.name(), at)
	method := false
	for n := 0; p.token == "." || p.token == ":"; n++ {
		method = p.token == ":"
		p.next()
		at := p.line
		target = &indexNode{target, strNode(p.name()), at}
		if method {
			break
		}
		if n > maxLevels {
			p.fail("chunk has too many syntax levels", "")
		}
	}
	return &assignStmt{[]exprNode{target}, []exprNode{p.function(method, line)}}
}

func (p *parser) localStatement() stmtNode {
	s := &localStmt{}
	for {
		s.vars = append(s.vars, p.declare(p.name()))
		if !p.accept(",") {
			break
		}
	}
	if p.accept("=") {
		s.exprs = p.exprs()
	}
	p.activate(s.vars...)
	return s
}

// function reads a function from its parameters on.
func (p *parser) function(method bool, line int) *funcNode {
	fn := &funcNode{line: line}
	p.fs = &scope{outer: p.fs, fn: fn}
	if method {
		fn.params = append(fn.params, p.declare("self"))
	}
	p.expect("(")
	for p.token != ")" {
		if p.accept("...") {
			fn.vararg = true
			break
		}
		if p.token != tName {
			p.syntax("<name> or '...' expected")
		}
		fn.params = append(fn.params, p.declare(p.name()))
		if !p.accept(",") {
			break
		}
		if p.token == ")" {
			p.syntax("<name> or '...' expected")
		}
	}
	p.activate(fn.params...)
	p.expect(")")
	fn.body = p.block()
	p.closing("end", "function", line)
	p.fs = p.fs.outer
	p.nodes += 4
	return fn
}

func (p *parser) exprs() []exprNode {
	list := []exprNode{p.expr()}
	for p.accept(",") {
		list = append(list, p.expr())
	}
	return list
}

func (p *parser) expr() exprNode { return p.binary(0) }

// precedence of operators, to the left and to the right.
var precedence = map[token][2]int{
	"or": {1, 1}, "and": {2, 2},
	"<": {3, 3}, ">": {3, 3}, "<=": {3, 3}, ">=": {3, 3}, "~=": {3, 3}, "==": {3, 3},
	"..": {5, 4}, "+": {6, 6}, "-": {6, 6}, "*": {7, 7}, "/": {7, 7}, "%": {7, 7}, "^": {10, 9},
}

const unaryPrecedence = 8

func (p *parser) binary(limit int) exprNode {
	p.enter()
	p.nodes++
	var e exprNode
	switch op, line := p.token, p.line; op {
	case "not", "-", "#":
		p.next()
		e = &unNode{op, p.binary(unaryPrecedence), line}
		if n, ok := e.(*unNode).e.(numNode); ok && op == "-" {
			e = numNode(-n)
		}
	default:
		e = p.simple()
	}
	for {
		op, line := p.token, p.line
		rank, ok := precedence[op]
		if !ok || rank[0] <= limit {
			break
		}
		p.next()
		e = &binNode{op, e, p.binary(rank[1]), line}
	}
	p.leave()
	return e
}

func (p *parser) simple() exprNode {
	var e exprNode
	switch p.token {
	case tNumber:
		e = numNode(p.num)
	case tString:
		e = strNode(p.value)
	case "nil":
		e = nilNode{}
	case "true":
		e = boolNode(true)
	case "false":
		e = boolNode(false)
	case "...":
		if !p.fs.fn.vararg {
			p.syntax("cannot use '...' outside a vararg function")
		}
		e = varargNode{}
	case "{":
		return p.table()
	case "function":
		line := p.line
		p.next()
		return p.function(false, line)
	default:
		return p.suffixed()
	}
	p.next()
	return e
}

// suffixed reads a name or an expression in parentheses with what follows: fields, calls.
func (p *parser) suffixed() exprNode {
	var e exprNode
	line := p.line
	switch p.token {
	case tName:
		e = p.resolve(p.value, line)
		p.next()
	case "(":
		p.next()
		e = &parenNode{p.expr()}
		p.closing(")", "(", line)
	default:
		p.syntax("unexpected symbol")
	}
	for n := 0; ; n++ {
		if n > maxLevels {
			p.fail("chunk has too many syntax levels", "")
		}
		p.fs.fn.depth = max(p.fs.fn.depth, p.levels+n)
		p.nodes++
		switch p.token {
		case ".":
			p.next()
			at := p.line
			e = &indexNode{e, strNode(p.name()), at}
		case "[":
			p.next()
			at := p.line
			key := p.expr()
			p.expect("]")
			e = &indexNode{e, key, at}
		case ":":
			p.next()
			e = &callNode{fn: e, method: p.name(), line: line}
			p.args(e.(*callNode))
		case "(", tString, "{":
			e = &callNode{fn: e, line: line}
			p.args(e.(*callNode))
		default:
			return e
		}
	}
}

func (p *parser) args(c *callNode) {
	switch p.token {
	case tString:
		c.args = []exprNode{strNode(p.value)}
		p.next()
	case "{":
		c.args = []exprNode{p.table()}
	case "(":
		line := p.line
		if line != p.last {
			p.syntax("ambiguous syntax (function call x new statement)")
		}
		p.next()
		if p.token != ")" {
			c.args = p.exprs()
		}
		p.closing(")", "(", line)
	default:
		p.syntax("function arguments expected")
	}
}

func (p *parser) table() exprNode {
	t := &tableNode{line: p.line}
	p.expect("{")
	for p.token != "}" {
		p.nodes++
		var item tableItem
		switch {
		case p.token == "[":
			p.next()
			item.key = p.expr()
			p.expect("]")
			p.expect("=")
			item.value = p.expr()
		case p.token == tName && p.lookAhead() == "=":
			item.key = strNode(p.value)
			p.next()
			p.next()
			item.value = p.expr()
		default:
			item.value = p.expr()
		}
		t.items = append(t.items, item)
		if !p.accept(",") && !p.accept(";") {
			break
		}
	}
	p.closing("}", "{", t.line)
	return t
}
