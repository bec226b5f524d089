package redisapi

import (
	"strconv"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// An Encoder writes replies as RESP2 or RESP3 straight into a connection's output. It implements engine.Reply.
//
// RESP3 wants what RESP2 writes as one flat list in nested pairs, of which only the encoder knows where each begins: pairs
// holds, for each aggregate under way that contains or is such a list, how much of it is still to come. While there is
// none, which is nearly always, a piece costs one comparison.
type Encoder struct {
	b     []byte
	sent  int // bytes of b that are on their way already
	proto int // 2 or 3
	open  []aggregate
	max   int  // bytes that the output may have; see over
	over  bool // it would have had more: what came after is lost, and the connection has to end

	errors func(text string) // told of every error; nil for nobody
}

// An aggregate is a list whose elements are being written.
type aggregate struct {
	left  int  // elements
	pairs bool // before every second one stands the head of a list of two
}

// maxOutput is how many bytes of replies wait for a client that does not read them, before it is cut off.
const maxOutput = 640 << 20

// Len is how many bytes wait to be sent.
func (e *Encoder) Len() int { return len(e.b) - e.sent }

// Truncate takes back what was written after n bytes waited, where a reply began.
func (e *Encoder) Truncate(n int) {
	if !e.over {
		e.b, e.open = e.b[:e.sent+n], e.open[:0]
	}
}

// piece is called before each piece of a reply, with the number of elements that it announces.
func (e *Encoder) piece(elements int, pairs bool) {
	if len(e.b) > e.max {
		e.over = true
		e.b = e.b[:e.sent]
	}
	if len(e.open) > 0 || pairs {
		e.track(elements, pairs)
	}
}

func (e *Encoder) track(elements int, pairs bool) {
	if n := len(e.open); n > 0 {
		top := &e.open[n-1]
		if top.pairs && top.left%2 == 0 {
			e.b = append(e.b, "*2\r\n"...)
		}
		top.left--
	}
	if elements > 0 {
		e.open = append(e.open, aggregate{elements, pairs})
		return
	}
	for len(e.open) > 0 && e.open[len(e.open)-1].left == 0 {
		e.open = e.open[:len(e.open)-1]
	}
}

func (e *Encoder) head(sign byte, n int) {
	e.b = append(e.b, sign)
	e.b = strconv.AppendInt(e.b, int64(n), 10)
	e.b = append(e.b, '\r', '\n')
}

// Null implements engine.Reply.
func (e *Encoder) Null() {
	e.piece(0, false)
	if e.proto == 3 {
		e.b = append(e.b, "_\r\n"...)
		return
	}
	e.b = append(e.b, "$-1\r\n"...)
}

// NullArray implements engine.Reply.
func (e *Encoder) NullArray() {
	e.piece(0, false)
	if e.proto == 3 {
		e.b = append(e.b, "_\r\n"...)
		return
	}
	e.b = append(e.b, "*-1\r\n"...)
}

// Bool implements engine.Reply.
func (e *Encoder) Bool(v bool) {
	e.piece(0, false)
	switch {
	case e.proto == 3 && v:
		e.b = append(e.b, "#t\r\n"...)
	case e.proto == 3:
		e.b = append(e.b, "#f\r\n"...)
	case v:
		e.b = append(e.b, ":1\r\n"...)
	default:
		e.b = append(e.b, ":0\r\n"...)
	}
}

// Int implements engine.Reply.
func (e *Encoder) Int(n int64) {
	e.piece(0, false)
	e.b = append(e.b, ':')
	e.b = strconv.AppendInt(e.b, n, 10)
	e.b = append(e.b, '\r', '\n')
}

// Double implements engine.Reply.
func (e *Encoder) Double(f float64) {
	var text [40]byte
	digits := engine.AppendDouble(text[:0], f)
	e.piece(0, false)
	if e.proto == 3 {
		e.b = append(e.b, ',')
		e.b = append(e.b, digits...)
		e.b = append(e.b, '\r', '\n')
		return
	}
	e.head('$', len(digits))
	e.b = append(e.b, digits...)
	e.b = append(e.b, '\r', '\n')
}

// Status implements engine.Reply.
func (e *Encoder) Status(s string) {
	e.piece(0, false)
	e.b = append(e.b, '+')
	e.b = append(e.b, s...)
	e.b = append(e.b, '\r', '\n')
}

// Bulk implements engine.Reply.
func (e *Encoder) Bulk(b []byte) {
	e.piece(0, false)
	e.head('$', len(b))
	e.b = append(e.b, b...)
	e.b = append(e.b, '\r', '\n')
}

// Text implements engine.Reply.
func (e *Encoder) Text(s string) {
	e.piece(0, false)
	e.head('$', len(s))
	e.b = append(e.b, s...)
	e.b = append(e.b, '\r', '\n')
}

// Verbatim writes a text for people, which RESP3 tells apart from data. format has three letters: "txt" or "mkd".
func (e *Encoder) Verbatim(format string, b []byte) {
	if e.proto != 3 {
		e.Bulk(b)
		return
	}
	e.piece(0, false)
	e.head('=', len(b)+4)
	e.b = append(append(append(e.b, format...), ':'), b...)
	e.b = append(e.b, '\r', '\n')
}

// BigNumber writes an integer of any size.
func (e *Encoder) BigNumber(digits string) {
	if e.proto != 3 {
		e.Text(digits)
		return
	}
	e.piece(0, false)
	e.b = append(append(e.b, '('), digits...)
	e.b = append(e.b, '\r', '\n')
}

// Array implements engine.Reply.
func (e *Encoder) Array(n int) {
	e.piece(n, false)
	e.head('*', n)
}

// Push announces what the client did not ask for at this moment: a list in RESP2.
func (e *Encoder) Push(n int) {
	e.piece(n, false)
	if e.proto == 3 {
		e.head('>', n)
		return
	}
	e.head('*', n)
}

// Map implements engine.Reply.
func (e *Encoder) Map(n int) {
	e.piece(2*n, false)
	if e.proto == 3 {
		e.head('%', n)
		return
	}
	e.head('*', 2*n)
}

// Pairs implements engine.Reply.
func (e *Encoder) Pairs(n int) {
	if e.proto == 3 {
		e.piece(2*n, true)
		e.head('*', n)
		return
	}
	e.piece(2*n, false)
	e.head('*', 2*n)
}

// Keyed implements engine.Reply.
func (e *Encoder) Keyed(n int) {
	if e.proto == 3 {
		e.piece(2*n, false)
		e.head('%', n)
		return
	}
	e.piece(2*n, true)
	e.head('*', n)
}

// Set implements engine.Reply.
func (e *Encoder) Set(n int) {
	e.piece(n, false)
	if e.proto == 3 {
		e.head('~', n)
		return
	}
	e.head('*', n)
}

// Error implements engine.Reply. A line is what an error may have: what could end it early becomes a space.
func (e *Encoder) Error(f *fault.Error) { e.ErrorText(f.Redis()) }

// ErrorText writes an error with its prefix.
func (e *Encoder) ErrorText(s string) {
	if e.errors != nil {
		e.errors(s)
	}
	e.piece(0, false)
	e.b = append(e.b, '-')
	for i := range len(s) {
		c := s[i]
		if c == '\r' || c == '\n' {
			c = ' '
		}
		e.b = append(e.b, c)
	}
	e.b = append(e.b, '\r', '\n')
}

// Decimal writes a number whose digits are given.
func (e *Encoder) Decimal(digits []byte) {
	if e.proto != 3 {
		e.Bulk(digits)
		return
	}
	e.piece(0, false)
	e.b = append(e.b, ',')
	e.b = append(e.b, digits...)
	e.b = append(e.b, '\r', '\n')
}

// Either writes what has a form of its own in RESP3.
func (e *Encoder) Either(two, three func(out engine.Reply)) {
	if e.proto == 3 {
		three(e)
		return
	}
	two(e)
}

// Prose writes a plain text for people.
func (e *Encoder) Prose(s string) { e.Verbatim("txt", []byte(s)) }
