package jsondoc

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
	"strconv"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
)

// A SyntaxError says where a text stops being JSON.
type SyntaxError struct {
	At  int64 // the byte, counted from 0
	Why string
}

func (e *SyntaxError) Error() string { return e.Why + " at byte " + strconv.FormatInt(e.At, 10) }

// ErrDepth is the error of a document whose values lie too deep: see MaxDepth.
var ErrDepth = errors.New("recursion limit exceeded")

// Parse appends to dst the document that text is in JSON: exactly one value, in UTF-8. Where a member name repeats, it
// keeps its first place and gets its last value. The memory it takes is a small multiple of the text's.
func Parse(dst, text []byte) (Doc, error) {
	p := parser{d: jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true)), dst: dst}
	for first := true; first || len(p.open) > 0; first = false {
		if err := p.token(); err != nil {
			return nil, err
		}
	}
	if _, err := p.d.ReadToken(); err != io.EOF {
		return nil, &SyntaxError{p.d.InputOffset(), "trailing characters"}
	}
	return p.dst, nil
}

// A parser turns tokens into bytes. open are the containers around the next token, names the places of the names of
// the members of those that are objects.
type parser struct {
	d       *jsontext.Decoder
	dst     []byte
	open    []opened
	names   []int
	scratch []byte
}

type opened struct {
	at    int // of the container
	n     int // children so far
	names int // how many names the parser had before it
	kind  Kind
	named bool // a name has come, its value has not
}

func (p *parser) token() error {
	var in *opened
	if len(p.open) > 0 {
		in = &p.open[len(p.open)-1]
	}
	kind := p.d.PeekKind()
	switch kind {
	case '{', '[':
		return p.begin(kind)
	case '}', ']':
		if _, err := p.d.ReadToken(); err != nil {
			return p.wrong(err)
		}
		p.finish()
		return nil
	}
	raw, err := p.d.ReadValue()
	if err != nil {
		return p.wrong(err)
	}
	if in != nil && in.kind == Object && !in.named {
		in.named = true
		p.names = append(p.names, len(p.dst))
		p.dst = appendName(p.dst, p.unquote(raw))
		return nil
	}
	switch kind {
	case '"':
		p.dst = AppendString(p.dst, p.unquote(raw))
	case '0':
		if err := p.number(raw); err != nil {
			return err
		}
	case 'n':
		p.dst = AppendNull(p.dst)
	default:
		p.dst = AppendBool(p.dst, kind == 't')
	}
	p.counted()
	return nil
}

// counted notes that the innermost container has got one more child.
func (p *parser) counted() {
	if len(p.open) > 0 {
		in := &p.open[len(p.open)-1]
		in.n++
		in.named = false
	}
}

func (p *parser) begin(kind jsontext.Kind) error {
	if _, err := p.d.ReadToken(); err != nil {
		return p.wrong(err)
	}
	if len(p.open) == MaxDepth {
		return ErrDepth
	}
	o := opened{at: len(p.dst), names: len(p.names), kind: Array}
	if kind == '{' {
		o.kind = Object
	}
	p.open = append(p.open, o)
	p.dst = begin(p.dst)
	return nil
}

func (p *parser) finish() {
	o := p.open[len(p.open)-1]
	p.open = p.open[:len(p.open)-1]
	if o.kind == Object {
		o.n = p.dropRepeats(o)
		p.names = p.names[:o.names]
	}
	p.dst = finish(p.dst, o.at, o.kind, o.n)
	p.counted()
}

// fewNames is how many names are compared with each other one by one.
const fewNames = 8

// differ reports whether the names at a few places are all different.
func (d Doc) differ(places []int) bool {
	for i := range places {
		one, _ := d.name(places[i])
		for _, at := range places[:i] {
			if other, _ := d.name(at); string(one) == string(other) {
				return false
			}
		}
	}
	return true
}

// dropRepeats sees to it that each name stands once in an object that ends here, and returns how many members it has.
func (p *parser) dropRepeats(o opened) int {
	places := p.names[o.names:]
	d := Doc(p.dst)
	if len(places) <= fewNames && d.differ(places) {
		return len(places)
	}
	name := func(i int32) []byte {
		n, _ := d.name(places[i])
		return n
	}
	order := make([]int32, 0, len(places))
	for i := range places {
		order = append(order, int32(i))
	}
	slices.SortStableFunc(order, func(a, b int32) int { return bytes.Compare(name(a), name(b)) })
	last := make([]int32, len(places)) // the member whose value each member gets; -1 for none: it goes
	repeats := 0
	for i := 0; i < len(order); {
		j := i
		for j+1 < len(order) && string(name(order[j+1])) == string(name(order[i])) {
			j++
			last[order[j]] = -1
			repeats++
		}
		last[order[i]] = order[j]
		i = j + 1
	}
	if repeats == 0 {
		return len(places)
	}
	members := bytes.Clone(p.dst[o.at+longHead:])
	shift := o.at + longHead
	from := Doc(members)
	p.dst = p.dst[:shift]
	for i, l := range last {
		if l >= 0 {
			n, _ := from.name(places[i] - shift)
			_, value := from.name(places[l] - shift)
			p.dst = append(appendName(p.dst, n), from.Value(value)...)
		}
	}
	return len(places) - repeats
}

// unquote returns the string that raw is in JSON, for as long as no other is asked for.
func (p *parser) unquote(raw []byte) []byte {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	s, err := jsontext.AppendUnquote(p.scratch[:0], raw)
	if err != nil {
		panic("jsondoc: a string that the decoder let through: " + err.Error())
	}
	p.scratch = s
	return s
}

func (p *parser) number(raw []byte) error {
	dst, ok := AppendNumber(p.dst, raw)
	if !ok {
		return &SyntaxError{p.d.InputOffset(), "number out of range"}
	}
	p.dst = dst
	return nil
}

// wrong says what is wrong with the text.
func (p *parser) wrong(err error) error {
	at, why := p.d.InputOffset(), "expected value"
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &syntactic):
		at = syntactic.ByteOffset
		if errors.Is(err, io.ErrUnexpectedEOF) {
			why = "EOF while parsing a value"
		}
	case err == io.EOF:
		why = "EOF while parsing a value"
	}
	return &SyntaxError{at, why}
}

// AppendNumber appends the number that raw, which is one in JSON, is; ok is false when it is beyond a double.
// An integer that fits into 64 bits stays exact.
func AppendNumber(dst, raw []byte) (_ []byte, ok bool) {
	if n, negative, ok := integer(raw); ok {
		switch {
		case !negative:
			return AppendUint(dst, n), true
		case n != 0 && n <= 1<<63:
			return AppendInt(dst, -int64(n)), true
		}
	}
	f, err := strconv.ParseFloat(unsafe.String(unsafe.SliceData(raw), len(raw)), 64)
	if err != nil || math.IsInf(f, 0) {
		return dst, false
	}
	return AppendFloat(dst, f), true
}

// integer reads digits with or without a minus; ok is false for what is more than that, or 64 bits.
func integer(raw []byte) (n uint64, negative, ok bool) {
	if raw[0] == '-' {
		negative, raw = true, raw[1:]
	}
	if len(raw) > 20 {
		return 0, negative, false
	}
	for _, c := range raw {
		v := uint64(c - '0')
		if c < '0' || c > '9' || n > (math.MaxUint64-v)/10 {
			return 0, negative, false
		}
		n = n*10 + v
	}
	return n, negative, true
}
