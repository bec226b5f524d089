package engine

import "github.com/larder-cache/larder/internal/fault"

// A Bounded is a Recording that holds at most Max bytes: a reply that would pass that is recorded as an error
// in its place, and those after it are recorded as long as they fit. So a task of ten thousand reads cannot
// ask for more memory than there is. What a call changed stays changed although its reply did not fit.
type Bounded struct {
	*Recording
	Max   int
	Exact bool                 // it loses nothing: see Transcript
	Room  func(bytes int) bool // takes so many bytes of what this and others have together; nil for as many as there are

	begin int   // where the reply under way began
	left  int64 // how many pieces of it are still to come
	over  bool  // it did not fit: what comes is passed over
}

// take says whether to record a piece of about size bytes that announces more pieces.
func (b *Bounded) take(size int, more int64) bool {
	if b.left == 0 {
		b.begin, b.left, b.over = b.Len(), 1, false
	}
	b.left += more - 1
	if !b.over && (b.Len()+size+pieceOverhead > b.Max || (b.Room != nil && !b.Room(size+pieceOverhead))) {
		b.over = true
		b.Truncate(b.begin)
		b.Recording.Error(fault.New(fault.TooLarge, "engine.bounded", "the answers of one request have at most %d bytes together: ask for less at a time; what was to be changed has been", b.Max))
	}
	return !b.over
}

// pieceOverhead is the most that a piece takes beside its bytes.
const pieceOverhead = 16

// Null records a null.
func (b *Bounded) Null() {
	if b.take(0, 0) {
		b.Recording.Null()
	}
}

// NullArray records a null where a list was asked for.
func (b *Bounded) NullArray() {
	if b.take(0, 0) {
		b.Recording.NullArray()
	}
}

// Bool records a truth value.
func (b *Bounded) Bool(v bool) {
	if b.take(0, 0) {
		b.Recording.Bool(v)
	}
}

// Int records an integer.
func (b *Bounded) Int(n int64) {
	if b.take(0, 0) {
		b.Recording.Int(n)
	}
}

// Double records a floating-point number.
func (b *Bounded) Double(f float64) {
	if b.take(0, 0) {
		b.Recording.Double(f)
	}
}

// Status records a status word.
func (b *Bounded) Status(s string) {
	if b.take(len(s), 0) {
		b.Recording.Status(s)
	}
}

// Bulk records bytes.
func (b *Bounded) Bulk(v []byte) {
	if b.take(len(v), 0) {
		b.Recording.Bulk(v)
	}
}

// Decimal records a number with given digits: see decimal.
func (b *Bounded) Decimal(digits []byte) {
	switch {
	case !b.take(len(digits), 0):
	case b.Exact:
		b.digits(digits)
	default:
		b.Recording.Bulk(digits)
	}
}

// Either records a value in its two forms, which together have at most Max bytes: see either.
func (b *Bounded) Either(two, three func(out Reply)) {
	if !b.Exact {
		two(b)
		return
	}
	var forms [2]Recording
	for i, write := range [...]func(Reply){two, three} {
		write(&Bounded{Recording: &forms[i], Max: b.Max, Exact: true})
	}
	if b.take(forms[0].Len()+forms[1].Len(), 0) {
		b.forms(forms[0].b, forms[1].b)
	}
}

// Text records a string's bytes.
func (b *Bounded) Text(s string) {
	if b.take(len(s), 0) {
		b.Recording.Text(s)
	}
}

// Array announces n elements.
func (b *Bounded) Array(n int) {
	if b.take(0, int64(n)) {
		b.Recording.Array(n)
	}
}

// Map announces n pairs.
func (b *Bounded) Map(n int) {
	if b.take(0, 2*int64(n)) {
		b.Recording.Map(n)
	}
}

// Pairs announces n pairs in order.
func (b *Bounded) Pairs(n int) {
	if b.take(0, 2*int64(n)) {
		b.Recording.Pairs(n)
	}
}

// Keyed announces n keys with what was found under each.
func (b *Bounded) Keyed(n int) {
	if b.take(0, 2*int64(n)) {
		b.Recording.Keyed(n)
	}
}

// Set announces n elements without order.
func (b *Bounded) Set(n int) {
	if b.take(0, int64(n)) {
		b.Recording.Set(n)
	}
}

// Error records a fault.
func (b *Bounded) Error(e *fault.Error) {
	if b.take(0, 0) {
		b.Recording.Error(e)
	}
}
