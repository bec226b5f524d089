package httpapi

import (
	"encoding/base64"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/internal/fault"
)

// Bytes are a key, a member or a value in JSON: a string where they are UTF-8, else {"base64": "…"}. Both
// forms are read.
type Bytes []byte

// MarshalJSONTo implements json.MarshalerTo.
func (b Bytes) MarshalJSONTo(e *jsontext.Encoder) error {
	if utf8.Valid(b) {
		return e.WriteToken(jsontext.String(string(b)))
	}
	return json.MarshalEncode(e, struct {
		Base64 string `json:"base64"`
	}{base64.StdEncoding.EncodeToString(b)})
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (b *Bytes) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case '"':
		t, err := d.ReadToken()
		if err != nil {
			return err
		}
		*b = Bytes(t.String())
		return nil
	case '{':
		var in struct {
			Base64 *string `json:"base64"`
		}
		if err := json.UnmarshalDecode(d, &in, json.RejectUnknownMembers(true)); err != nil {
			return err
		}
		at := argument(d.StackPointer())
		if in.Base64 == nil {
			return fault.About(fault.InvalidArgument, "httpapi.bytes", at, "an object in the place of a string has one member, base64")
		}
		decoded, err := base64.StdEncoding.Strict().DecodeString(*in.Base64)
		if err != nil || strings.ContainsAny(*in.Base64, "\r\n") { // which the decoder passes over
			return fault.About(fault.InvalidArgument, "httpapi.bytes", at, "base64 is not standard base64 with padding")
		}
		*b = decoded
		return nil
	}
	return wrongKind(d, "a string, or an object with base64")
}

// wrongKind is the error of a JSON value of the wrong kind.
func wrongKind(d *jsontext.Decoder, want string) error {
	kind := kindOf(d.PeekKind())
	if _, err := d.ReadValue(); err != nil { // malformed is worse than wrong
		return err
	}
	at := argument(d.StackPointer())
	return fault.About(fault.InvalidArgument, "httpapi.decode", at, "%s: a JSON %s does not fit: want %s", at, kind, want)
}

// exactIntegers is the largest integer up to which every integer is exact in JavaScript.
const exactIntegers = 1 << 53

// A Number is an integer of 64 bits or a floating-point number. Integers beyond 2^53 travel as strings, since
// many JSON libraries would round them; a string is read wherever a number is.
type Number struct {
	Int     int64
	Float   float64
	IsFloat bool
	Set     bool
}

// MarshalJSONTo implements json.MarshalerTo.
func (n Number) MarshalJSONTo(e *jsontext.Encoder) error {
	switch {
	case n.IsFloat && (math.IsInf(n.Float, 0) || math.IsNaN(n.Float)):
		return e.WriteToken(jsontext.String(strconv.FormatFloat(n.Float, 'g', -1, 64)))
	case n.IsFloat:
		return e.WriteToken(jsontext.Float(n.Float))
	case n.Int > exactIntegers || n.Int < -exactIntegers:
		return e.WriteToken(jsontext.String(strconv.FormatInt(n.Int, 10)))
	}
	return e.WriteToken(jsontext.Int(n.Int))
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (n *Number) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	switch d.PeekKind() {
	case '0', '"':
	default:
		return wrongKind(d, "a number, or a string that holds one")
	}
	t, err := d.ReadToken()
	if err != nil {
		return err
	}
	parsed, ok := parseNumber(t.String())
	if !ok {
		at := argument(d.StackPointer())
		return fault.About(fault.InvalidArgument, "httpapi.number", at, "%s is an integer of 64 bits or a finite number, not %.100s", at, t.String())
	}
	*n = parsed
	return nil
}

// parseNumber reads an integer of 64 bits or, if it has a fraction or an exponent, a finite float.
func parseNumber(s string) (Number, bool) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil && s[0] != '+' {
		return Number{Int: i, Set: true}, true
	}
	fraction := false
	for _, c := range s {
		switch {
		case c == '.' || c == 'e' || c == 'E':
			fraction = true
		case c != '-' && c != '+' && (c < '0' || c > '9'):
			return Number{}, false
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !fraction {
		return Number{}, false
	}
	return Number{Float: f, IsFloat: true, Set: true}, true
}

// text is the number as a command takes it.
func (n Number) text() []byte {
	if n.IsFloat {
		return strconv.AppendFloat(nil, n.Float, 'g', -1, 64)
	}
	return strconv.AppendInt(nil, n.Int, 10)
}

// integer is an int64 as a command takes it.
func integer(n int64) []byte { return strconv.AppendInt(nil, n, 10) }
