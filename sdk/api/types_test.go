package api

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

// What is written, and what comes back of it.
func TestTypesInJSON(t *testing.T) {
	for _, tt := range []struct {
		value any
		want  string
	}{
		{Bytes("ann"), `"ann"`},
		{Bytes(""), `""`},
		{Bytes("\x00\n\"é"), `"\u0000\n\"é"`},
		{Bytes("\xff\x00"), `{"base64":"/wA="}`},
		{Int(5), `"5"`},
		{Int(math.MinInt64), `"-9223372036854775808"`},
		{Float(2), `"2.0"`},
		{Float(1e300), `"1e+300"`},
		{Score(12.5), `12.5`},
		{Duration(90 * time.Second), `"90000ms"`},
		{Duration(1), `"1ms"`},
		{CommandText{"SET", []byte("\xff"), 1, 2.5, true}, `["SET",{"base64":"/w=="},1,2.5,true]`},
	} {
		text, err := json.Marshal(tt.value)
		if err != nil || string(text) != tt.want {
			t.Errorf("%#v is written %s, want %s: %v", tt.value, text, tt.want, err)
		}
	}
}

func TestTypesFromJSON(t *testing.T) {
	read := func(text string, v any) { t.Helper(); check(t, text, json.Unmarshal([]byte(text), v)) }
	var b Bytes
	for text, want := range map[string]Bytes{`"ann"`: "ann", `{"base64":"/wA="}`: "\xff\x00", `""`: ""} {
		if read(text, &b); b != want {
			t.Errorf("%s is %q", text, b)
		}
	}
	var n Number
	for text, want := range map[string]int64{`5`: 5, `"9223372036854775807"`: math.MaxInt64, `-9007199254740993`: -9007199254740993} {
		read(text, &n)
		if got, err := n.Int64(); err != nil || got != want {
			t.Errorf("%s is %d: %v", text, got, err)
		}
	}
	read(`2.5`, &n)
	if f, err := n.Float64(); err != nil || f != 2.5 {
		t.Errorf("2.5 is %v: %v", f, err)
	}
	if _, err := n.Int64(); err == nil {
		t.Error("2.5 is an integer")
	}
	var s Score
	for text, want := range map[string]Score{`1`: 1, `-0.5`: -0.5, `"+Inf"`: Score(math.Inf(1)), `"-Inf"`: Score(math.Inf(-1))} {
		if read(text, &s); s != want {
			t.Errorf("%s is %v", text, s)
		}
	}
	var d Duration
	for text, want := range map[string]time.Duration{`"1500ms"`: 1500 * time.Millisecond, `"90s"`: 90 * time.Second, `"15m"`: 15 * time.Minute, `"24h"`: 24 * time.Hour, `"7d"`: 7 * 24 * time.Hour, `60`: time.Minute, `"0s"`: 0} {
		if read(text, &d); time.Duration(d) != want {
			t.Errorf("%s is %v", text, time.Duration(d))
		}
	}
	for _, bad := range []string{`"soon"`, `"1y"`, `{}`, `"h"`} {
		if err := json.Unmarshal([]byte(bad), &d); err == nil {
			t.Errorf("%s is a duration: %v", bad, time.Duration(d))
		}
	}
}

func check(t *testing.T, text string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", text, err)
	}
}
