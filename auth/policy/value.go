package policy

import (
	"errors"
	"math"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A Context answers what conditions ask about a request. Lookup is called only for keys that a statement
// asks for, and may be called several times for one, so it should be a switch over facts that are at hand.
//
// For a family (tags, claims) name is what stands behind the slash, in lower case: letter case does not
// matter in key names. For other keys it is empty. A fact that is missing is the zero Value; "missing" and
// "empty" are not the same thing.
type Context interface {
	Lookup(key Key, name string) Value
}

// A Value is one fact, or none at all: the zero Value. Text suits every key, as policies write it; the
// typed constructors spare the parsing.
type Value struct {
	kind valueKind
	text string
	list []string
	num  float64
	when instant
	addr netip.Addr
}

type valueKind uint8

const (
	kindNone valueKind = iota
	kindText
	kindList
	kindNumber
	kindBool // num is 1 or 0
	kindDate
	kindAddr
)

// Text is a fact as text.
func Text(s string) Value { return Value{kind: kindText, text: s} }

// List is a fact with several values, or an empty list of them.
func List(s []string) Value { return Value{kind: kindList, list: s} }

// Number is a fact for the numeric keys. Whole numbers are exact; 2^53 and beyond are errors.
func Number(f float64) Value { return Value{kind: kindNumber, num: f} }

// Bool is a fact for the bool keys.
func Bool(b bool) Value {
	if b {
		return Value{kind: kindBool, num: 1}
	}
	return Value{kind: kindBool}
}

// Date is a fact for the date keys.
func Date(t time.Time) Value {
	return Value{kind: kindDate, when: instant{t.Unix(), int64(t.Nanosecond())}}
}

// Addr is a fact for the ip keys.
func Addr(a netip.Addr) Value { return Value{kind: kindAddr, addr: a} }

// Errors about facts name the type, never the fact: facts are the users' data.
var (
	errNotText   = errors.New("has several values, where one is expected")
	errNotNumber = errors.New("is not a number")
	errNotDate   = errors.New("is not a date")
	errNotBool   = errors.New("is neither true nor false")
	errNotAddr   = errors.New("is not an IP address")
	errNotBase64 = errors.New("is not base64")
	errNotName   = errors.New("is not a resource name")
)

// asText is the fact as text. Only facts given as numbers, dates and addresses are formatted, which is rare:
// conditions on them do not compare text.
func (v *Value) asText() (string, error) {
	switch v.kind {
	case kindText:
		return printable(v.text), nil
	case kindNumber:
		return strconv.FormatFloat(v.num, 'f', -1, 64), nil
	case kindBool:
		if v.num == 1 {
			return "true", nil
		}
		return "false", nil
	case kindDate:
		return time.Unix(v.when.sec, v.when.nsec).UTC().Format(time.RFC3339Nano), nil
	case kindAddr:
		return v.addr.String(), nil
	}
	return "", errNotText
}

func (v *Value) asNumber() (float64, error) {
	switch v.kind {
	case kindNumber:
		if math.Abs(v.num) < numberEnd { // also turns NaN away
			return v.num, nil
		}
	case kindText:
		return parseNumber(v.text)
	case kindList:
		return 0, errNotText
	}
	return 0, errNotNumber
}

func (v *Value) asDate() (instant, error) {
	switch v.kind {
	case kindDate:
		return v.when, nil
	case kindText:
		return parseDate(v.text)
	case kindNumber:
		if math.Abs(v.num) < numberEnd {
			sec, frac := math.Modf(v.num)
			return newInstant(int64(sec), int64(frac*1e9)), nil
		}
	case kindList:
		return instant{}, errNotText
	}
	return instant{}, errNotDate
}

// asBool returns the fact as "true" or "false".
func (v *Value) asBool() (string, error) {
	s, err := v.asText()
	if err == nil && s != "true" && s != "false" {
		err = errNotBool
	}
	return s, err
}

func (v *Value) asAddr() (netip.Addr, error) {
	addr := v.addr
	switch v.kind {
	case kindAddr:
	case kindText:
		var err error
		if addr, err = netip.ParseAddr(v.text); err != nil {
			return addr, errNotAddr
		}
	case kindList:
		return addr, errNotText
	}
	if !addr.IsValid() {
		return addr, errNotAddr
	}
	return addr.Unmap().WithZone(""), nil
}

// numberEnd bounds numbers: below it a float64 holds each whole number exactly.
const numberEnd = 1 << 53

// parseNumber reads an integer or a decimal such as -12.5. Exponents and numbers from 2^53 on are refused:
// a comparison is exact or it is not made.
func parseNumber(s string) (float64, error) {
	digits, dot := 0, false
	for i, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9':
			digits++
		case c == '.' && !dot && digits > 0 && i+1 < len(s):
			dot = true
		case (c == '-' || c == '+') && i == 0:
		default:
			return 0, errNotNumber
		}
	}
	if digits == 0 {
		return 0, errNotNumber
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.Abs(f) >= numberEnd {
		return 0, errNotNumber
	}
	return f, nil
}

// An instant is a moment, comparable without regard to the zone that it was written in.
type instant struct{ sec, nsec int64 } // nsec is within 0 and 999,999,999

func newInstant(sec, nsec int64) instant {
	if nsec < 0 {
		sec, nsec = sec-1, nsec+1e9
	}
	return instant{sec, nsec}
}

func (a instant) compare(b instant) int {
	switch {
	case a.sec != b.sec && a.sec < b.sec, a.sec == b.sec && a.nsec < b.nsec:
		return -1
	case a == b:
		return 0
	}
	return 1
}

// parseDate reads seconds since 1970, or one of the forms of ISO 8601 that the W3C note allows: a year and
// month, a day, or a day and time with its zone. A number is always seconds, never a year.
func parseDate(s string) (instant, error) {
	if strings.Trim(s, "+-.0123456789") == "" && !strings.Contains(strings.TrimLeft(s, "+-"), "-") {
		f, err := parseNumber(s)
		if err != nil {
			return instant{}, errNotDate
		}
		sec, frac := math.Modf(f)
		return newInstant(int64(sec), int64(frac*1e9)), nil
	}
	layout := ""
	switch {
	case len(s) == len("2006-01"):
		layout = "2006-01"
	case len(s) == len("2006-01-02"):
		layout = "2006-01-02"
	case len(s) > 16 && s[16] == ':':
		layout = "2006-01-02T15:04:05Z07:00" // Parse takes fractions of a second without being asked
	default:
		layout = "2006-01-02T15:04Z07:00"
	}
	t, err := time.Parse(layout, s)
	if err != nil {
		return instant{}, errNotDate
	}
	return instant{t.Unix(), int64(t.Nanosecond())}, nil
}
