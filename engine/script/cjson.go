package script

import (
	"math"
	"strings"
	"unicode/utf8"
)

// A jsonConfig is what a script has set of cjson. It lasts for the run.
type jsonConfig struct {
	sparseConvert           bool
	sparseRatio, sparseSafe int
	encodeDepth             int
	decodeDepth             int
	precision               int
	encodeInvalid           int // 0 no, 1 as they are, 2 as null
	decodeInvalid           bool
	keepBuffer              bool
	arrayMeta               bool // decoded arrays know that they are
}

func (vm *vm) jsonConfig() *jsonConfig {
	if vm.json == nil {
		vm.json = &jsonConfig{sparseRatio: 2, sparseSafe: 10, encodeDepth: 1000, decodeDepth: 1000, precision: 14, decodeInvalid: true, keepBuffer: true}
	}
	return vm.json
}

// arrayMeta marks tables that are arrays although they are empty.
var (
	arrayMeta  = library(nil, map[string]Value{"__is_cjson_array": vTrue})
	emptyArray = func() *table {
		t := library(nil, nil)
		t.meta = arrayMeta
		return t
	}()
)

var jsonFields = map[string]Value{"null": null, "_NAME": vStr(constant("cjson")), "_VERSION": vStr(constant("2.1.0")),
	"array_mt": vTable(arrayMeta), "empty_array_mt": vTable(arrayMeta), "empty_array": vTable(emptyArray)}

var jsonFunctions = map[string]func(vm *vm, a []Value){
	"encode": func(vm *vm, a []Value) {
		vm.oneArgument(a)
		e := &jsonEncoder{vm: vm, cfg: vm.jsonConfig()}
		e.value(a[0], 0)
		vm.ret1(vm.own(e.b))
	},
	"decode": func(vm *vm, a []Value) {
		vm.oneArgument(a)
		s := vm.checkString(a, 0)
		if len(s) >= 2 && (s[0] == 0 || s[1] == 0) {
			vm.fail("JSON parser does not support UTF-16 or UTF-32")
		}
		d := &jsonDecoder{vm: vm, cfg: vm.jsonConfig(), s: s}
		d.next()
		v := d.value()
		if d.next(); d.token != jEnd {
			d.unexpected("the end")
		}
		vm.ret1(v)
	},
	"encode_sparse_array": func(vm *vm, a []Value) {
		c := vm.jsonConfig()
		vm.configArguments(a, 3)
		vm.boolOption(a, 0, &c.sparseConvert)
		vm.intOption(a, 1, &c.sparseRatio, 0, math.MaxInt32)
		vm.intOption(a, 2, &c.sparseSafe, 0, math.MaxInt32)
		vm.ret(vBool(c.sparseConvert), vInt(c.sparseRatio), vInt(c.sparseSafe))
	},
	"encode_max_depth":        intSetting(func(c *jsonConfig) *int { return &c.encodeDepth }, 1, math.MaxInt32),
	"decode_max_depth":        intSetting(func(c *jsonConfig) *int { return &c.decodeDepth }, 1, math.MaxInt32),
	"encode_number_precision": intSetting(func(c *jsonConfig) *int { return &c.precision }, 1, 16),
	"encode_keep_buffer":      boolSetting(func(c *jsonConfig) *bool { return &c.keepBuffer }),
	"decode_invalid_numbers":  boolSetting(func(c *jsonConfig) *bool { return &c.decodeInvalid }),
	"decode_array_with_array_mt": boolSetting(func(c *jsonConfig) *bool {
		return &c.arrayMeta
	}),
	"encode_invalid_numbers": func(vm *vm, a []Value) {
		c := vm.jsonConfig()
		vm.configArguments(a, 1)
		switch v := arg(a, 0); {
		case v.k == kNil:
		case v.k == kBool:
			c.encodeInvalid = int(v.n)
		case v.k == kString && v.s() == "null":
			c.encodeInvalid = 2
		case v.k == kString && (v.s() == "on" || v.s() == "off"):
			c.encodeInvalid = map[string]int{"on": 1}[v.s()]
		default:
			vm.argError(0, "invalid option '"+vm.checkString(a, 0)+"'")
		}
		if c.encodeInvalid == 2 {
			vm.ret1(vm.newStr("null"))
			return
		}
		vm.ret1(vBool(c.encodeInvalid == 1))
	},
	// A module of its own has settings of its own in the original; here all share those of the run.
	"new": func(vm *vm, _ []Value) { vm.ret1(libraries["cjson"]) },
}

func (vm *vm) oneArgument(a []Value) {
	if len(a) != 1 {
		vm.argError(0, "expected 1 argument")
	}
}

func (vm *vm) configArguments(a []Value, most int) {
	if len(a) > most {
		vm.argError(most, "found too many arguments")
	}
}

func (vm *vm) intOption(a []Value, i int, p *int, least, most int) {
	if arg(a, i).k == kNil {
		return
	}
	n := vm.checkInt(a, i)
	if n < least || n > most {
		vm.argError(i, "expected integer between "+string(appendNumber(nil, float64(least)))+" and "+string(appendNumber(nil, float64(most))))
	}
	*p = n
}

func (vm *vm) boolOption(a []Value, i int, p *bool) {
	switch v := arg(a, i); {
	case v.k == kNil:
	case v.k == kBool:
		*p = v.n != 0
	case v.k == kString && (v.s() == "on" || v.s() == "off"):
		*p = v.s() == "on"
	default:
		vm.argError(i, "invalid option '"+vm.checkString(a, i)+"'")
	}
}

func intSetting(field func(c *jsonConfig) *int, least, most int) func(vm *vm, a []Value) {
	return func(vm *vm, a []Value) {
		p := field(vm.jsonConfig())
		vm.configArguments(a, 1)
		vm.intOption(a, 0, p, least, most)
		vm.ret1(vInt(*p))
	}
}

func boolSetting(field func(c *jsonConfig) *bool) func(vm *vm, a []Value) {
	return func(vm *vm, a []Value) {
		p := field(vm.jsonConfig())
		vm.configArguments(a, 1)
		vm.boolOption(a, 0, p)
		vm.ret1(vBool(*p))
	}
}

type jsonEncoder struct {
	vm  *vm
	cfg *jsonConfig
	b   []byte
}

// put appends and pays.
func (e *jsonEncoder) put(s string) {
	e.b = append(e.vm.room(e.b, len(s)), s...)
}

func (e *jsonEncoder) cannot(v Value, why string) {
	e.vm.fail("Cannot serialise %s: %s", v.typeName(), why)
}

// maxJSONNesting is as deep as this one goes, whatever a script has set, so that it does not need much of Go's stack.
const maxJSONNesting = 10_000

func (e *jsonEncoder) value(v Value, depth int) {
	e.vm.charge(8)
	switch v.k {
	case kString:
		e.text(v.s())
	case kNumber:
		e.number(v)
	case kBool:
		if v.n != 0 {
			e.put("true")
		} else {
			e.put("false")
		}
	case kNil, kLight:
		e.put("null")
	case kTable:
		e.table(v, depth+1)
	default:
		e.cannot(v, "type not supported")
	}
}

func (e *jsonEncoder) table(v Value, depth int) {
	if depth > e.cfg.encodeDepth || depth > maxJSONNesting {
		e.vm.fail("Cannot serialise, excessive nesting (%d)", depth)
	}
	t := v.table()
	n := e.arrayLength(v)
	switch {
	case n > 0 || n == 0 && t.meta == arrayMeta:
		e.put("[")
		for i := 1; i <= n; i++ {
			if i > 1 {
				e.put(",")
			}
			e.value(t.getInt(e.vm, i), depth)
		}
		e.put("]")
	default:
		e.put("{")
		first := true
		for at := 0; ; {
			var k, x Value
			if k, x, at = t.next(e.vm, at); k.k == kNil {
				break
			}
			if !first {
				e.put(",")
			}
			first = false
			switch k.k {
			case kNumber:
				e.put(`"`)
				e.number(k)
				e.put(`":`)
			case kString:
				e.text(k.s())
				e.put(":")
			default:
				e.cannot(k, "table key must be a number or string")
			}
			e.value(x, depth)
		}
		e.put("}")
	}
}

// arrayLength is how many elements an array has, holes with them; -1 for what is none.
func (e *jsonEncoder) arrayLength(v Value) int {
	t := v.table()
	most, items := 0, 0
	for at := 0; ; {
		var k Value
		e.vm.charge(1)
		if k, _, at = t.next(e.vm, at); k.k == kNil {
			break
		}
		if k.k != kNumber || k.n < 1 || k.n != math.Floor(k.n) || k.n > math.MaxInt32 {
			return -1
		}
		most, items = max(most, int(k.n)), items+1
	}
	if e.cfg.sparseRatio > 0 && most > items*e.cfg.sparseRatio && most > e.cfg.sparseSafe {
		if !e.cfg.sparseConvert {
			e.cannot(v, "excessively sparse array")
		}
		return -1
	}
	return most
}

func (e *jsonEncoder) number(v Value) {
	if math.IsInf(v.n, 0) || math.IsNaN(v.n) {
		switch {
		case e.cfg.encodeInvalid == 0:
			e.cannot(v, "must not be NaN or Inf")
		case e.cfg.encodeInvalid == 2:
			e.put("null")
			return
		case math.IsNaN(v.n):
			e.put("nan")
			return
		}
	}
	e.vm.charge(12)
	e.b = appendG(e.vm.room(e.b, 32), v.n, e.cfg.precision)
}

const hexDigits = "0123456789abcdef"

func (e *jsonEncoder) text(s string) {
	e.b = e.vm.room(e.b, len(s)+2)
	e.vm.charge(int64(len(s)) / 4)
	e.b = append(e.b, '"')
	for i := range len(s) {
		c := s[i]
		escape := byte(0)
		switch c {
		case '"', '\\', '/':
			escape = c
		case '\b':
			escape = 'b'
		case '\t':
			escape = 't'
		case '\n':
			escape = 'n'
		case '\f':
			escape = 'f'
		case '\r':
			escape = 'r'
		default:
			if c < ' ' || c == 127 {
				e.b = append(e.vm.room(e.b, len(s)-i+8), '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
				continue
			}
			e.b = append(e.b, c)
			continue
		}
		e.b = append(e.vm.room(e.b, len(s)-i+4), '\\', escape)
	}
	e.b = append(e.b, '"')
}

// jsonToken is what a decoder finds next.
type jsonToken uint8

const (
	jObject jsonToken = iota
	jObjectEnd
	jArray
	jArrayEnd
	jString
	jNumber
	jBool
	jNull
	jColon
	jComma
	jEnd
	jError
)

var jsonTokenNames = [...]string{"T_OBJ_BEGIN", "T_OBJ_END", "T_ARR_BEGIN", "T_ARR_END", "T_STRING", "T_NUMBER", "T_BOOLEAN", "T_NULL", "T_COLON", "T_COMMA", "T_END", "T_ERROR"}

const jsonSigns = "{}[]:,"

var jsonSignTokens = [...]jsonToken{jObject, jObjectEnd, jArray, jArrayEnd, jColon, jComma}

type jsonDecoder struct {
	vm    *vm
	cfg   *jsonConfig
	s     string
	at    int
	depth int

	token  jsonToken
	start  int    // of the token
	why    string // it is an error
	scalar Value
}

func (d *jsonDecoder) next() {
	for d.at < len(d.s) && (d.s[d.at] == ' ' || d.s[d.at] == '\t' || d.s[d.at] == '\n' || d.s[d.at] == '\r') {
		d.at++
	}
	d.vm.charge(6 + int64(d.at-d.start)/32)
	d.start = d.at
	if d.at >= len(d.s) || d.s[d.at] == 0 {
		d.token = jEnd
		return
	}
	rest := d.s[d.at:]
	switch c := rest[0]; {
	case strings.IndexByte(jsonSigns, c) >= 0:
		d.token = jsonSignTokens[strings.IndexByte(jsonSigns, c)]
		d.at++
	case c == '"':
		d.text()
	case c == '-' || isDigit(c):
		if !d.cfg.decodeInvalid && d.invalidNumber(rest) {
			d.fault("invalid number")
			return
		}
		d.number(rest)
	case strings.HasPrefix(rest, "true"):
		d.literal(jBool, vTrue, 4)
	case strings.HasPrefix(rest, "false"):
		d.literal(jBool, vFalse, 5)
	case strings.HasPrefix(rest, "null"):
		d.literal(jNull, null, 4)
	case d.cfg.decodeInvalid && d.invalidNumber(rest):
		d.number(rest)
	default:
		d.fault("invalid token")
	}
}

func (d *jsonDecoder) literal(t jsonToken, v Value, n int) {
	d.token, d.scalar = t, v
	d.at += n
}

func (d *jsonDecoder) fault(why string) { d.token, d.why = jError, why }

// invalidNumber reports whether text begins with what C reads as a number and JSON does not.
func (d *jsonDecoder) invalidNumber(s string) bool {
	if s[0] == '+' {
		return true
	}
	s = strings.TrimPrefix(s, "-")
	if s == "" {
		return false
	}
	if s[0] == '0' {
		return len(s) > 1 && (s[1]|0x20 == 'x' || isDigit(s[1]))
	}
	if isDigit(s[0]) {
		return false
	}
	return len(s) >= 3 && (strings.EqualFold(s[:3], "inf") || strings.EqualFold(s[:3], "nan"))
}

// number reads as much as C's strtod would.
func (d *jsonDecoder) number(s string) {
	n := numberPrefix(s)
	f, ok := 0.0, false
	if n > 0 {
		f, ok = parseNumber(s[:n])
	}
	if !ok {
		d.fault("invalid number")
		return
	}
	d.token, d.scalar = jNumber, vNum(f)
	d.at += n
}

// numberPrefix is how many bytes of s are a number.
func numberPrefix(s string) int {
	i := 0
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		i++
	}
	for _, word := range []string{"infinity", "inf", "nan"} {
		if len(s)-i >= len(word) && strings.EqualFold(s[i:i+len(word)], word) {
			return i + len(word)
		}
	}
	digit, exponent := func(c byte) bool { return isDigit(c) }, byte('e')
	if len(s)-i > 2 && s[i] == '0' && s[i+1]|0x20 == 'x' && hexDigit(s[i+2]) >= 0 {
		i += 2
		digit, exponent = func(c byte) bool { return hexDigit(c) >= 0 }, 'p'
	}
	digits := 0
	for i < len(s) && digit(s[i]) {
		i++
		digits++
	}
	if i < len(s) && s[i] == '.' {
		i++
		for i < len(s) && digit(s[i]) {
			i++
			digits++
		}
	}
	if digits == 0 {
		return 0
	}
	if i < len(s) && s[i]|0x20 == exponent {
		j := i + 1
		if j < len(s) && (s[j] == '-' || s[j] == '+') {
			j++
		}
		if j < len(s) && isDigit(s[j]) {
			for j < len(s) && isDigit(s[j]) {
				j++
			}
			return j
		}
	}
	return i
}

func (d *jsonDecoder) text() {
	i := d.at + 1
	plain := strings.IndexAny(d.s[i:min(len(d.s), i+64)], "\"\\")
	if plain >= 0 && d.s[i+plain] == '"' && strings.IndexByte(d.s[i:i+plain], 0) < 0 {
		d.token, d.scalar = jString, d.vm.newStr(strings.Clone(d.s[i:i+plain]))
		d.at = i + plain + 1
		return
	}
	var b []byte
	for ; ; i++ {
		if i >= len(d.s) || d.s[i] == 0 {
			d.start = i
			d.fault("unexpected end of string")
			return
		}
		c := d.s[i]
		switch {
		case c == '"':
			d.at = i + 1
			d.token, d.scalar = jString, d.vm.newText(b)
			return
		case c != '\\':
			b = append(b, c)
		default:
			i++
			if i >= len(d.s) {
				d.start = i - 1
				d.fault("invalid escape code")
				return
			}
			switch c = d.s[i]; c {
			case '"', '\\', '/':
			case 'b':
				c = '\b'
			case 'f':
				c = '\f'
			case 'n':
				c = '\n'
			case 'r':
				c = '\r'
			case 't':
				c = '\t'
			case 'u':
				r, n := d.unicode(i - 1)
				if n == 0 {
					d.start = i - 1
					d.fault("invalid unicode escape code")
					return
				}
				b = utf8.AppendRune(b, r)
				i += n - 2
				continue
			default:
				d.start = i - 1
				d.fault("invalid escape code")
				return
			}
			b = append(b, c)
		}
		if len(b)%1024 == 0 {
			d.vm.charge(128)
			d.vm.alloc(1024)
		}
	}
}

func (d *jsonDecoder) hex4(i int) (r rune, ok bool) {
	if i+4 > len(d.s) {
		return 0, false
	}
	for _, c := range []byte(d.s[i : i+4]) {
		h := hexDigit(c)
		if h < 0 {
			return 0, false
		}
		r = r<<4 | rune(h)
	}
	return r, true
}

// unicode reads \uXXXX at i, or two that are a pair, and says how many bytes these are, 0 when they are wrong.
func (d *jsonDecoder) unicode(i int) (r rune, n int) {
	r, ok := d.hex4(i + 2)
	switch {
	case !ok || r&0xFC00 == 0xDC00:
		return 0, 0
	case r&0xF800 != 0xD800:
		return r, 6
	}
	if i+8 > len(d.s) || d.s[i+6] != '\\' || d.s[i+7] != 'u' {
		return 0, 0
	}
	low, ok := d.hex4(i + 8)
	if !ok || low&0xFC00 != 0xDC00 {
		return 0, 0
	}
	return (r&0x3FF)<<10 + (low & 0x3FF) + 0x10000, 12
}

func (d *jsonDecoder) unexpected(want string) {
	found := jsonTokenNames[d.token]
	if d.token == jError {
		found = d.why
	}
	d.vm.fail("Expected %s but found %s at character %d", want, found, d.start+1)
}

func (d *jsonDecoder) descend() {
	if d.depth++; d.depth > d.cfg.decodeDepth || d.depth > maxJSONNesting {
		d.vm.fail("Found too many nested data structures (%d) at character %d", d.depth, d.at)
	}
}

// value reads the value that begins with the current token.
func (d *jsonDecoder) value() Value {
	switch d.token {
	case jString, jNumber, jBool, jNull:
		return d.scalar
	case jObject:
		return d.object()
	case jArray:
		return d.array()
	}
	d.unexpected("value")
	return Value{}
}

func (d *jsonDecoder) object() Value {
	d.descend()
	t := d.vm.newTable(0, 0)
	if d.next(); d.token == jObjectEnd {
		d.depth--
		return vTable(t)
	}
	for {
		if d.token != jString {
			d.unexpected("object key string")
		}
		key := d.scalar
		if d.next(); d.token != jColon {
			d.unexpected("colon")
		}
		d.next()
		t.set(d.vm, key, d.value())
		if d.next(); d.token == jObjectEnd {
			d.depth--
			return vTable(t)
		}
		if d.token != jComma {
			d.unexpected("comma or object end")
		}
		d.next()
	}
}

func (d *jsonDecoder) array() Value {
	d.descend()
	t := d.vm.newTable(0, 0)
	if d.cfg.arrayMeta {
		t.meta = arrayMeta
	}
	if d.next(); d.token == jArrayEnd {
		d.depth--
		return vTable(t)
	}
	for i := 1; ; i++ {
		t.setInt(d.vm, i, d.value())
		if d.next(); d.token == jArrayEnd {
			d.depth--
			return vTable(t)
		}
		if d.token != jComma {
			d.unexpected("comma or array end")
		}
		d.next()
	}
}
