package jsondoc

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

func leUint64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

// Equal reports whether two values are the same JSON: numbers by what they are worth, objects whatever the order of
// their members.
func Equal(a Doc, at int, b Doc, bt int) bool { return equal(a, at, b, bt, false) }

// Alike is Equal for whom 3 and 3.0 are not the same, as for RedisJSON when it looks for an element.
func Alike(a Doc, at int, b Doc, bt int) bool { return equal(a, at, b, bt, true) }

func equal(a Doc, at int, b Doc, bt int, alike bool) bool {
	x, y := a.head(at), b.head(bt)
	switch {
	case number(x.kind) && number(y.kind) && (x.kind == y.kind || !alike):
		return CompareNumbers(a, at, b, bt) == 0
	case x.kind != y.kind || x.n != y.n:
		return false
	case x.kind == Null:
		return true
	case x.kind == Bool:
		return a[at] == b[bt]
	case x.kind == String:
		return bytes.Equal(a[x.body:x.end], b[y.body:y.end])
	case x.kind == Array:
		return equalArrays(a.Children(at), b.Children(bt), a, b, alike)
	}
	return equalObjects(a.members(at), b.members(bt), a, b, alike)
}

func number(k Kind) bool { return k == Integer || k == Number }

func equalArrays(x, y Children, a, b Doc, alike bool) bool {
	for {
		_, v, ok := x.Next()
		if !ok {
			return true
		}
		_, w, _ := y.Next()
		if !equal(a, v, b, w, alike) {
			return false
		}
	}
}

type member struct {
	name  []byte
	value int
}

// members are those of an object by name, so that two objects are compared in O(n log n).
func (d Doc) members(at int) []member {
	list := make([]member, 0, d.Len(at))
	for c := d.Children(at); ; {
		name, value, ok := c.Next()
		if !ok {
			break
		}
		list = append(list, member{name, value})
	}
	slices.SortFunc(list, func(a, b member) int { return bytes.Compare(a.name, b.name) })
	return list
}

func equalObjects(x, y []member, a, b Doc, alike bool) bool {
	for i := range x {
		if !bytes.Equal(x[i].name, y[i].name) || !equal(a, x[i].value, b, y[i].value, alike) {
			return false
		}
	}
	return true
}

// CompareNumbers compares two numbers by what they are worth, without rounding either.
func CompareNumbers(a Doc, at int, b Doc, bt int) int {
	switch x, y := a[at] == tagDouble, b[bt] == tagDouble; {
	case x && y:
		return cmp.Compare(a.Float(at), b.Float(bt))
	case x:
		return -compareMixed(b, bt, a.Float(at))
	case y:
		return compareMixed(a, at, b.Float(bt))
	}
	m, mSmall := a.Int(at)
	n, nSmall := b.Int(bt)
	switch {
	case mSmall && nSmall:
		return cmp.Compare(m, n)
	case mSmall:
		return -1
	case nSmall:
		return 1
	}
	return cmp.Compare(leUint64(a[at+1:]), leUint64(b[bt+1:]))
}

// compareMixed compares the integer at a place with a double.
func compareMixed(d Doc, at int, f float64) int {
	whole := math.Floor(f)
	n, small := d.Int(at)
	switch {
	case whole >= 1<<64:
		return -1
	case whole < -1<<63:
		return 1
	case !small && whole < 1<<63:
		return 1
	case !small:
		return below(cmp.Compare(leUint64(d[at+1:]), uint64(whole)), f > whole)
	case whole >= 1<<63:
		return -1
	}
	return below(cmp.Compare(n, int64(whole)), f > whole)
}

// below is what a comparison with a double comes to whose whole part alone was compared.
func below(c int, fraction bool) int {
	if c == 0 && fraction {
		return -1
	}
	return c
}
