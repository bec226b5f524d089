package jsondoc

import (
	"math"
	"strconv"
	"unsafe"

	"github.com/go-json-experiment/json/jsontext"
)

// A Format says what a text has between its parts, beside what JSON asks for.
type Format struct {
	Indent  string // before each line, once for each level
	Newline string // before each child and each end of a container with children
	Space   string // after the colon behind a name
}

// A Writer writes values as JSON text.
type Writer struct {
	Text   []byte
	Max    int // bytes of Text; what would pass that is not written
	Format Format
	Over   bool // something was not written

	Each func() // told of each child of a container, for who wants to let others in meanwhile; nil for nobody

	level int
}

// Begin begins an array or object.
func (w *Writer) Begin(kind Kind) {
	w.raw("[{"[kind-Array : kind-Array+1])
	w.level++
}

// Child comes before each child of what was begun.
func (w *Writer) Child(first bool) {
	if w.Each != nil {
		w.Each()
	}
	if !first {
		w.raw(",")
	}
	w.line()
}

// Name writes a member's name, behind Child.
func (w *Writer) Name(name []byte) {
	w.quote(name)
	w.raw(":")
	w.raw(w.Format.Space)
}

// Finish ends an array or object.
func (w *Writer) Finish(kind Kind, empty bool) {
	w.level--
	if !empty {
		w.line()
	}
	w.raw("]}"[kind-Array : kind-Array+1])
}

// Value writes the value at a place of a document.
func (w *Writer) Value(d Doc, at int) {
	switch k := d.Kind(at); k {
	case Null:
		w.raw("null")
	case Bool:
		w.raw(strconv.FormatBool(d.Bool(at)))
	case Integer, Number:
		w.Text = d.AppendNumber(w.Text, at)
		w.Over = w.Over || len(w.Text) > w.Max
	case String:
		w.quote(d.Text(at))
	default:
		w.Begin(k)
		n := 0
		for c := d.Children(at); !w.Over; n++ {
			name, child, ok := c.Next()
			if !ok {
				break
			}
			w.Child(n == 0)
			if k == Object {
				w.Name(name)
			}
			w.Value(d, child)
		}
		w.Finish(k, n == 0)
	}
}

func (w *Writer) raw(s string) {
	if w.Over = w.Over || len(w.Text)+len(s) > w.Max; !w.Over {
		w.Text = append(w.Text, s...)
	}
}

func (w *Writer) line() {
	w.raw(w.Format.Newline)
	for i := 0; i < w.level && !w.Over && w.Format.Indent != ""; i++ {
		w.raw(w.Format.Indent)
	}
}

func (w *Writer) quote(s []byte) {
	if w.Over = w.Over || len(w.Text)+len(s)+2 > w.Max; w.Over {
		return
	}
	text, err := jsontext.AppendQuote(w.Text, unsafe.String(unsafe.SliceData(s), len(s)))
	if err != nil {
		panic("jsondoc: a string that is not UTF-8: " + err.Error())
	}
	w.Text = text
	w.Over = len(text) > w.Max
}

// AppendText appends the value at a place as JSON, without anything between its parts.
func (d Doc) AppendText(dst []byte, at int) []byte {
	w := Writer{Text: dst, Max: math.MaxInt}
	w.Value(d, at)
	return w.Text
}

// AppendNumber appends the number at a place as JSON: an integer as it is, a double in the fewest digits that name it,
// with a fraction or an exponent always, so that it stays a double when it is read again.
func (d Doc) AppendNumber(dst []byte, at int) []byte {
	if n, ok := d.Int(at); ok {
		return strconv.AppendInt(dst, n, 10)
	}
	if d[at] == tagUint {
		h := d.head(at)
		return strconv.AppendUint(dst, leUint64(d[h.body:]), 10)
	}
	return appendFloat(dst, d.Float(at))
}

// Where a double is written without an exponent: from 1e-5 up to below 1e16.
const (
	leastPlain = -5
	mostPlain  = 16
)

// appendFloat writes a double as RedisJSON does: 1.0, 0.00001, 1e16, 1.5e-7.
func appendFloat(dst []byte, f float64) []byte {
	var b [32]byte
	e := strconv.AppendFloat(b[:0], f, 'e', -1, 64)
	exponent := len(e) - 1
	for e[exponent] != 'e' {
		exponent--
	}
	ten, _ := strconv.Atoi(string(e[exponent+1:]))
	if f == 0 || leastPlain <= ten && ten < mostPlain {
		before := len(dst)
		dst = strconv.AppendFloat(dst, f, 'f', -1, 64)
		for _, c := range dst[before:] {
			if c == '.' {
				return dst
			}
		}
		return append(dst, ".0"...)
	}
	return strconv.AppendInt(append(append(dst, e[:exponent]...), 'e'), int64(ten), 10)
}
