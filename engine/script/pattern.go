package script

import "strings"

// Patterns are matched by backtracking as in Lua, of which every step is paid.

const (
	maxCaptures = 32
	maxMatching = 200 // calls within calls of one match
)

const (
	capOpen     = -1 // the capture's end is not known yet
	capPosition = -2
)

type matcher struct {
	vm    *vm
	s, p  string
	level int
	depth int
	caps  [maxCaptures]struct{ from, n int }
}

// classEnd is where the class that begins at p ends.
func (m *matcher) classEnd(p int) int {
	c := m.p[p]
	p++
	switch c {
	case '%':
		if p >= len(m.p) {
			m.vm.fail("malformed pattern (ends with '%%')")
		}
		return p + 1
	case '[':
		if p < len(m.p) && m.p[p] == '^' {
			p++
		}
		for {
			if p >= len(m.p) {
				m.vm.fail("malformed pattern (missing ']')")
			}
			c := m.p[p]
			p++
			if c == '%' && p < len(m.p) {
				p++
			}
			if p < len(m.p) && m.p[p] == ']' {
				return p + 1
			}
		}
	}
	return p
}

func isPunct(c byte) bool { return c > ' ' && c < 127 && !isAlpha(c) && !isDigit(c) }

// inClass reports whether c is of the class that a letter names.
func inClass(c, class byte) bool {
	var in bool
	switch class | 0x20 {
	case 'a':
		in = isAlpha(c)
	case 'c':
		in = c < ' ' || c == 127
	case 'd':
		in = isDigit(c)
	case 'l':
		in = 'a' <= c && c <= 'z'
	case 'p':
		in = isPunct(c)
	case 's':
		in = isSpace(c)
	case 'u':
		in = 'A' <= c && c <= 'Z'
	case 'w':
		in = isAlpha(c) || isDigit(c)
	case 'x':
		in = hexDigit(c) >= 0
	case 'z':
		in = c == 0
	default:
		return class == c
	}
	if !isAlpha(class) {
		return class == c
	}
	return in != (class&0x20 == 0)
}

// inSet reports whether c is in the set from p to end, the places of its brackets.
func (m *matcher) inSet(c byte, p, end int) bool {
	want := true
	p++
	if m.p[p] == '^' {
		want = false
		p++
	}
	for p < end {
		m.vm.charge(1)
		switch {
		case m.p[p] == '%':
			p++
			if inClass(c, m.p[p]) {
				return want
			}
			p++
		case p+2 < end && m.p[p+1] == '-':
			if m.p[p] <= c && c <= m.p[p+2] {
				return want
			}
			p += 3
		default:
			if m.p[p] == c {
				return want
			}
			p++
		}
	}
	return !want
}

func (m *matcher) single(s, p, end int) bool {
	if s >= len(m.s) {
		return false
	}
	c := m.s[s]
	switch m.p[p] {
	case '.':
		return true
	case '%':
		return inClass(c, m.p[p+1])
	case '[':
		return m.inSet(c, p, end-1)
	}
	return m.p[p] == c
}

// match returns where the match from s on ends, -1 for none.
func (m *matcher) match(s, p int) int {
	if m.depth++; m.depth > maxMatching {
		m.vm.fail("pattern too complex")
	}
	r := m.from(s, p)
	m.depth--
	return r
}

func (m *matcher) from(s, p int) int {
	for {
		m.vm.charge(2)
		if p == len(m.p) {
			return s
		}
		switch m.p[p] {
		case '(':
			if p+1 < len(m.p) && m.p[p+1] == ')' {
				return m.open(s, p+2, capPosition)
			}
			return m.open(s, p+1, capOpen)
		case ')':
			return m.close(s, p+1)
		case '%':
			if p+1 >= len(m.p) {
				break
			}
			switch c := m.p[p+1]; {
			case c == 'b':
				if s = m.balance(s, p+2); s < 0 {
					return -1
				}
				p += 4
				continue
			case c == 'f':
				p += 2
				if p >= len(m.p) || m.p[p] != '[' {
					m.vm.fail("missing '[' after '%%f' in pattern")
				}
				end := m.classEnd(p)
				var before, after byte
				if s > 0 {
					before = m.s[s-1]
				}
				if s < len(m.s) {
					after = m.s[s]
				}
				if m.inSet(before, p, end-1) || !m.inSet(after, p, end-1) {
					return -1
				}
				p = end
				continue
			case isDigit(c):
				if s = m.again(s, c); s < 0 {
					return -1
				}
				p += 2
				continue
			}
		case '$':
			if p+1 == len(m.p) {
				if s == len(m.s) {
					return s
				}
				return -1
			}
		}
		end := m.classEnd(p)
		var suffix byte
		if end < len(m.p) {
			suffix = m.p[end]
		}
		switch suffix {
		case '?':
			if m.single(s, p, end) {
				if r := m.match(s+1, end+1); r >= 0 {
					return r
				}
			}
			p = end + 1
		case '*':
			return m.most(s, p, end)
		case '+':
			if !m.single(s, p, end) {
				return -1
			}
			return m.most(s+1, p, end)
		case '-':
			for {
				if r := m.match(s, end+1); r >= 0 {
					return r
				}
				if !m.single(s, p, end) {
					return -1
				}
				s++
			}
		default:
			if !m.single(s, p, end) {
				return -1
			}
			s, p = s+1, end
		}
	}
}

// most matches as many of a class as it can.
func (m *matcher) most(s, p, end int) int {
	n := 0
	for m.single(s+n, p, end) {
		n++
	}
	m.vm.charge(int64(n) / 2)
	if end+1 == len(m.p) {
		return s + n
	}
	for ; n >= 0; n-- {
		if r := m.match(s+n, end+1); r >= 0 {
			return r
		}
	}
	return -1
}

func (m *matcher) open(s, p, what int) int {
	if m.level >= maxCaptures {
		m.vm.fail("too many captures")
	}
	m.caps[m.level].from, m.caps[m.level].n = s, what
	m.level++
	r := m.match(s, p)
	if r < 0 {
		m.level--
	}
	return r
}

func (m *matcher) close(s, p int) int {
	l := m.level - 1
	for ; l >= 0 && m.caps[l].n != capOpen; l-- {
	}
	if l < 0 {
		m.vm.fail("invalid pattern capture")
	}
	m.caps[l].n = s - m.caps[l].from
	r := m.match(s, p)
	if r < 0 {
		m.caps[l].n = capOpen
	}
	return r
}

func (m *matcher) balance(s, p int) int {
	if p+1 >= len(m.p) {
		m.vm.fail("unbalanced pattern")
	}
	if s >= len(m.s) || m.s[s] != m.p[p] {
		return -1
	}
	open, closing := m.p[p], m.p[p+1]
	deep := 1
	for i := s + 1; i < len(m.s); i++ {
		switch m.s[i] {
		case closing:
			if deep--; deep == 0 {
				m.vm.charge(int64(i-s) / 4)
				return i + 1
			}
		case open:
			deep++
		}
	}
	m.vm.charge(int64(len(m.s)-s) / 4)
	return -1
}

// again matches what a capture has matched.
func (m *matcher) again(s int, digit byte) int {
	l := int(digit) - '1'
	if l < 0 || l >= m.level || m.caps[l].n == capOpen {
		m.vm.fail("invalid capture index")
	}
	n := max(m.caps[l].n, 0)
	m.vm.charge(int64(n) / 64)
	if len(m.s)-s >= n && m.s[m.caps[l].from:m.caps[l].from+n] == m.s[s:s+n] {
		return s + n
	}
	return -1
}

// capture is the text of one capture of the match from s to e.
func (m *matcher) capture(l, s, e int) Value {
	if l >= m.level {
		if l != 0 {
			m.vm.fail("invalid capture index")
		}
		return m.vm.newStr(strings.Clone(m.s[s:e]))
	}
	switch n := m.caps[l].n; n {
	case capOpen:
		m.vm.fail("unfinished capture")
	case capPosition:
		return vInt(m.caps[l].from + 1)
	default:
		m.vm.charge(int64(n) / 64)
		return m.vm.newStr(strings.Clone(m.s[m.caps[l].from : m.caps[l].from+n]))
	}
	return Value{}
}

// captures adds all captures to dst; whole is whether a match without captures counts as one.
func (m *matcher) captures(dst []Value, s, e int, whole bool) []Value {
	n := m.level
	if n == 0 && whole {
		n = 1
	}
	for l := range n {
		dst = append(dst, m.capture(l, s, e))
	}
	return dst
}

func find(vm *vm, a []Value, positions bool) {
	s, p := vm.checkString(a, 0), vm.checkString(a, 1)
	init := relative(vm.optInt(a, 2, 1), len(s)) - 1
	init = min(max(init, 0), len(s))
	if positions && (arg(a, 3).truth() || !strings.ContainsAny(p, "^$*+?.([%-")) {
		vm.charge(int64(len(s)-init)/64 + int64(len(p))/64)
		if i := strings.Index(s[init:], p); i >= 0 {
			vm.ret(vInt(init+i+1), vInt(init+i+len(p)))
			return
		}
		vm.ret1(Value{})
		return
	}
	anchor := strings.HasPrefix(p, "^")
	m := &matcher{vm: vm, s: s, p: strings.TrimPrefix(p, "^")}
	vm.charge(8)
	for at := init; ; at++ {
		m.level = 0
		if e := m.match(at, 0); e >= 0 {
			vm.rets = vm.rets[:0]
			if positions {
				vm.ret(vInt(at+1), vInt(e))
			}
			vm.rets = m.captures(vm.rets, at, e, !positions)
			return
		}
		if at >= len(s) || anchor {
			vm.ret1(Value{})
			return
		}
	}
}

func gmatch(vm *vm, a []Value) {
	s, p := vm.checkString(a, 0), vm.checkString(a, 1)
	vm.alloc(nativeBytes + 600)
	vm.ret1(vNative(&native{name: "gmatch", id: vm.newID(), f: matches(&matcher{vm: vm, s: s, p: p})}))
}

// matches returns an iterator over all matches.
func matches(m *matcher) func(vm *vm, _ []Value) {
	at := 0
	return func(vm *vm, _ []Value) {
		for vm.charge(8); at <= len(m.s); at++ {
			m.level, m.depth = 0, 0
			if e := m.match(at, 0); e >= 0 {
				from := at
				if at = e; e == from {
					at++
				}
				vm.rets = m.captures(vm.rets[:0], from, e, true)
				return
			}
		}
		vm.ret1(Value{})
	}
}

func gsub(vm *vm, a []Value) {
	s, p := vm.checkString(a, 0), vm.checkString(a, 1)
	repl := arg(a, 2)
	if !isText(repl) && repl.k != kTable && !repl.isFunction() {
		vm.argError(2, "string/function/table expected")
	}
	most := vm.optInt(a, 3, len(s)+1)
	anchor := strings.HasPrefix(p, "^")
	if anchor {
		p = p[1:]
	}
	m := &matcher{vm: vm, s: s, p: p}
	var b []byte
	n, at := 0, 0
	for n < most {
		m.level = 0
		e := m.match(at, 0)
		if e >= 0 {
			n++
			vm.charge(4)
			b = m.replace(b, at, e, repl)
		}
		if e > at {
			at = e
		} else if at < len(s) {
			b = append(vm.room(b, 1), s[at])
			at++
		} else {
			break
		}
		if anchor {
			break
		}
	}
	b = append(vm.room(b, len(s)-at), s[at:]...)
	vm.ret(vm.own(b), vInt(n))
}

// replace appends what a match becomes.
func (m *matcher) replace(b []byte, s, e int, repl Value) []byte {
	vm := m.vm
	var v Value
	switch {
	case isText(repl):
		text, _ := repl.text(nil)
		vm.charge(int64(len(text)) / 8)
		b = vm.room(b, len(text))
		for i := 0; i < len(text); i++ {
			if text[i] != '%' {
				b = append(vm.room(b, 1), text[i])
				continue
			}
			i++
			if i >= len(text) {
				break
			}
			switch c := text[i]; {
			case !isDigit(c):
				b = append(vm.room(b, 1), c)
			case c == '0':
				vm.charge(int64(e-s) / 64)
				b = append(vm.room(b, e-s), m.s[s:e]...)
			default:
				b = vm.appendText(b, m.capture(int(c-'1'), s, e))
			}
		}
		return b
	case repl.k == kTable:
		v = vm.index(repl, m.capture(0, s, e), nil)
	default:
		args := m.captures(nil, s, e, true)
		vm.callValue(repl, args...)
		v = vm.first()
	}
	switch {
	case !v.truth():
		vm.charge(int64(e-s) / 64)
		return append(vm.room(b, e-s), m.s[s:e]...)
	case !isText(v):
		vm.fail("invalid replacement value (a %s)", v.typeName())
	}
	return vm.appendText(b, v)
}

// appendText appends a string or number, and pays for it.
func (vm *vm) appendText(b []byte, v Value) []byte {
	size := 24
	if v.k == kString {
		size = len(v.s())
	}
	vm.charge(int64(size) / 64)
	b, _ = v.text(vm.room(b, size))
	return b
}
