package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// JSON is any JSON value.
type JSON = json.RawMessage

// CommandText is a command with its arguments: strings, []byte, numbers, true and false.
type CommandText []any

// MarshalJSON implements json.Marshaler.
func (t CommandText) MarshalJSON() ([]byte, error) {
	words := make([]any, len(t))
	for i, word := range t {
		switch word := word.(type) {
		case []byte:
			words[i] = Bytes(word)
		case string:
			words[i] = Bytes(word)
		default:
			words[i] = word
		}
	}
	return json.Marshal(words)
}

// Bytes are a key, a name, a member or a value: any bytes. In JSON they are a string where they are UTF-8, else
// {"base64": "…"}.
type Bytes string

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(b)) {
		return json.Marshal(string(b))
	}
	return json.Marshal(map[string]string{"base64": base64.StdEncoding.EncodeToString([]byte(b))})
}

// UnmarshalJSON implements json.Unmarshaler.
func (b *Bytes) UnmarshalJSON(text []byte) error {
	if len(text) == 0 || text[0] != '{' {
		return json.Unmarshal(text, (*string)(b))
	}
	var in struct {
		Base64 []byte `json:"base64"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*b = Bytes(in.Base64)
	return nil
}

// A Number is an integer of 64 bits, or a number with a fraction, as it is written.
type Number string

// Int makes a Number of an integer.
func Int(n int64) Number { return Number(strconv.FormatInt(n, 10)) }

// Float makes a Number of a float, which stays one although it has no fraction.
func Float(f float64) Number {
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if !strings.ContainsAny(s, ".eEIN") {
		s += ".0"
	}
	return Number(s)
}

// Int64 is the number as an integer; an error if it has a fraction.
func (n Number) Int64() (int64, error) { return strconv.ParseInt(string(n), 10, 64) }

// Float64 is the number as a float.
func (n Number) Float64() (float64, error) { return strconv.ParseFloat(string(n), 64) }

// MarshalJSON implements json.Marshaler. It writes a string, which no JSON library on the way rounds.
func (n Number) MarshalJSON() ([]byte, error) { return json.Marshal(string(n)) }

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(text []byte) error { return number((*string)(n), text) }

// number reads a number, or a string that holds one, as it is written.
func number(to *string, text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		return json.Unmarshal(text, to)
	}
	var n json.Number
	if err := json.Unmarshal(text, &n); err != nil {
		return err
	}
	*to = n.String()
	return nil
}

// Score is a member's score.
type Score float64

// UnmarshalJSON implements json.Unmarshaler: infinite scores come as strings.
func (s *Score) UnmarshalJSON(text []byte) error {
	var written string
	if err := number(&written, text); err != nil {
		return err
	}
	f, err := strconv.ParseFloat(written, 64)
	*s = Score(f)
	return err
}

// Duration is a length of time, in milliseconds when it is written.
type Duration time.Duration

// MarshalJSON implements json.Marshaler. What is shorter than a millisecond is rounded up to one, so that a
// short time does not become none.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// String is the duration as the API writes it.
func (d Duration) String() string {
	ms := time.Duration(d).Milliseconds()
	if ms == 0 && d > 0 {
		ms = 1
	}
	return strconv.FormatInt(ms, 10) + "ms"
}

// UnmarshalJSON implements json.Unmarshaler.
func (d *Duration) UnmarshalJSON(text []byte) error {
	var s string
	if err := number(&s, text); err != nil {
		return err
	}
	scale := time.Second
	for _, u := range []struct {
		suffix string
		length time.Duration
	}{{"ms", time.Millisecond}, {"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, scale = rest, u.length
			break
		}
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return fmt.Errorf("not a duration: %.100s", text)
	}
	*d = Duration(f * float64(scale))
	return nil
}
