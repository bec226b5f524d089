package jsondoc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Check says what is wrong with bytes that may come from anywhere, nil when they are a document:
//
//	J1: it is one value, and every value ends where its head says
//	J2: every value is written in the one way that the package's comment gives
//	J3: strings and names are UTF-8, no name stands twice in an object, doubles are finite
//	J4: no value lies in more than MaxDepth arrays and objects
func Check(d Doc) error {
	end, err := d.check(0, 0)
	if err == nil && end != len(d) {
		err = fmt.Errorf("J1: the value ends at %d of %d bytes", end, len(d))
	}
	return err
}

var errCut = errors.New("J1: a value is cut off")

// check checks the value at a place that lies in depth containers, and returns where it ends.
func (d Doc) check(at, depth int) (end int, err error) {
	if at >= len(d) {
		return 0, errCut
	}
	switch t := d[at]; {
	case t >= tagSmall || t == tagNull || t == tagFalse || t == tagTrue:
		return at + 1, nil
	case t >= tagShort:
		return d.checkText(at+1, uint64(t-tagShort))
	case t == tagInt:
		return d.checkInt(at)
	case t == tagUint, t == tagDouble:
		return d.checkEight(at)
	case t == tagString:
		n, size := binary.Uvarint(d[at+1:])
		if size <= 0 || n <= shortMost || size != uvarintSize(n) {
			return 0, fmt.Errorf("J2: the length of the string at %d", at)
		}
		return d.checkText(at+1+size, n)
	case t < numTags:
		return d.checkContainer(at, depth)
	}
	return 0, fmt.Errorf("J2: %#x begins no value, at %d", d[at], at)
}

func uvarintSize(n uint64) int { return len(binary.AppendUvarint(nil, n)) }

func (d Doc) checkText(at int, n uint64) (end int, err error) {
	if n > uint64(len(d)-at) {
		return 0, errCut
	}
	if end = at + int(n); !utf8.Valid(d[at:end]) {
		return 0, fmt.Errorf("J3: the string at %d is not UTF-8", at)
	}
	return end, nil
}

func (d Doc) checkInt(at int) (end int, err error) {
	n, size := binary.Varint(d[at+1:])
	if size <= 0 || string(AppendInt(nil, n)) != string(d[at:at+1+size]) {
		return 0, fmt.Errorf("J2: the integer at %d", at)
	}
	return at + 1 + size, nil
}

func (d Doc) checkEight(at int) (end int, err error) {
	if len(d) < at+9 {
		return 0, errCut
	}
	n := leUint64(d[at+1:])
	if f := math.Float64frombits(n); d[at] == tagUint && n <= math.MaxInt64 || d[at] == tagDouble && (math.IsNaN(f) || math.IsInf(f, 0)) {
		return 0, fmt.Errorf("J3: the number at %d", at)
	}
	return at + 9, nil
}

func (d Doc) checkContainer(at, depth int) (end int, err error) {
	long := d[at] == tagLongArray || d[at] == tagLongObject
	size := shortHead
	if long {
		size = longHead
	}
	if len(d) < at+size {
		return 0, errCut
	}
	h := d.head(at)
	switch {
	case depth == MaxDepth:
		return 0, fmt.Errorf("J4: the value at %d lies too deep", at)
	case h.end > len(d):
		return 0, errCut
	case long && h.end-h.body <= tersest:
		return 0, fmt.Errorf("J2: the head of the container at %d", at)
	}
	names, n := map[string]bool{}, 0
	for i := h.body; i < h.end; n++ {
		if h.kind == Object {
			length, s := binary.Uvarint(d[i:h.end])
			if s <= 0 || s != uvarintSize(length) {
				return 0, fmt.Errorf("J2: the length of the name at %d", i)
			}
			begin := i + s
			if i, err = d[:h.end].checkText(begin, length); err != nil {
				return 0, err
			}
			if name := string(d[begin:i]); names[name] {
				return 0, fmt.Errorf("J3: the name at %d repeats", begin)
			} else {
				names[name] = true
			}
		}
		if i, err = d[:h.end].check(i, depth+1); err != nil {
			return 0, err
		}
	}
	if n != h.n {
		return 0, fmt.Errorf("J1: the container at %d has %d children, not %d", at, n, h.n)
	}
	return h.end, nil
}
