package engine

import (
	"bytes"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/internal/fault"
)

// The errors that many commands share, in Redis's words.
var (
	errSyntax     = fault.New(fault.InvalidArgument, "engine", "syntax error")
	errNotInteger = fault.New(fault.InvalidArgument, "engine", "value is not an integer or out of range")
	errNotFloat   = fault.New(fault.InvalidArgument, "engine", "value is not a valid float")
	errNoSuchKey  = fault.New(fault.NotFound, "engine", "no such key")
)

func errArity(c *call) error {
	return fault.New(fault.InvalidArgument, c.cmd.Name, "wrong number of arguments for '%s' command", strings.ToLower(c.cmd.Name))
}

// is reports whether arg is word, in any letter case. word is upper case.
func is(arg []byte, word string) bool {
	if len(arg) != len(word) {
		return false
	}
	for i, b := range arg {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		if b != word[i] {
			return false
		}
	}
	return true
}

// parseInt reads a signed decimal of 64 bits as Redis does: no plus sign, no spaces, no leading zeros.
func parseInt(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 20 {
		return 0, false
	}
	digits, negative := b, false
	if b[0] == '-' {
		digits, negative = b[1:], true
	}
	if len(digits) == 0 || (digits[0] == '0' && (len(digits) > 1 || negative)) {
		return 0, false
	}
	var n uint64
	for _, d := range digits {
		if d < '0' || d > '9' || n > math.MaxUint64/10 {
			return 0, false
		}
		n = n*10 + uint64(d-'0')
		if n < uint64(d-'0') { // wrapped
			return 0, false
		}
	}
	switch {
	case negative && n <= 1<<63:
		return -int64(n), true
	case !negative && n <= math.MaxInt64:
		return int64(n), true
	}
	return 0, false
}

// parseFloat reads a number as Redis does: decimal or exponent, "inf" in any case, no spaces, no NaN, and
// nothing beyond the range of a float64, be it too large or too small to tell from 0.
func parseFloat(b []byte) (float64, bool) {
	if len(b) == 0 || len(b) > 512 {
		return 0, false
	}
	for _, x := range b {
		if x == '_' { // Go's parser allows them, C's does not
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(f) || (f == 0 && bytes.ContainsAny(mantissa(b), "123456789abcdefABCDEF")) {
		return 0, false
	}
	return f, true
}

// mantissa returns the part of a number before its exponent.
func mantissa(b []byte) []byte {
	exponent := "eE"
	if bytes.ContainsAny(b, "xX") {
		exponent = "pP"
	}
	if i := bytes.IndexAny(b, exponent); i >= 0 {
		return b[:i]
	}
	return b
}

// appendFloat writes f the way Redis writes a double in a reply: as short as it can be without loss.
func appendFloat(dst []byte, f float64) []byte {
	switch {
	case math.IsInf(f, 1):
		return append(dst, "inf"...)
	case math.IsInf(f, -1):
		return append(dst, "-inf"...)
	case f == math.Trunc(f) && math.Abs(f) < 1e17:
		return strconv.AppendInt(dst, int64(f), 10)
	case math.Abs(f) >= 1e-4 && math.Abs(f) < 1e17: // where C's %.17g writes no exponent
		return strconv.AppendFloat(dst, f, 'f', -1, 64)
	}
	return strconv.AppendFloat(dst, f, 'g', -1, 64)
}

// addDecimals adds two numbers that parseFloat has accepted and writes the sum as INCRBYFLOAT does: at most 17
// decimals, no exponent, no trailing zeros. Redis computes in the 64-bit mantissa of a C long double, so that
// 0.1 and 0.2 make 0.3; so do we. ok is false when one of them or the sum is beyond the range of a float64.
func addDecimals(a, b []byte) (sum []byte, ok bool) {
	x, y := longDouble(a), longDouble(b)
	if x.IsInf() || y.IsInf() {
		return nil, false
	}
	x.Add(x, y)
	if f, _ := x.Float64(); math.IsInf(f, 0) {
		return nil, false
	}
	sum = x.Append(nil, 'f', 17)
	sum = bytes.TrimRight(bytes.TrimRight(sum, "0"), ".")
	if string(sum) == "-0" {
		return []byte("0"), true
	}
	return sum, true
}

// longDouble reads a number that parseFloat has accepted with the mantissa of a C long double. What is
// nothing or infinite as a float64 is so here.
func longDouble(b []byte) *big.Float {
	x := new(big.Float).SetPrec(64)
	f, _ := parseFloat(b)
	if f != 0 && !math.IsInf(f, 0) {
		if _, ok := x.SetString(string(b)); ok {
			return x
		}
	}
	return x.SetFloat64(f)
}
