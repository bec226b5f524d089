package engine

import (
	"testing"

	"pgregory.net/rapid"
)

// Keys that begin with i hold whole numbers, up to the limits of 64 bits; those with f small quarters, which
// the twin's floats add exactly.
func drawCounterCommand(t *rapid.T, _ *naive) []string {
	key := from(t, "key", "i1", "i2", "f1", "f2")
	number := func() string {
		if key[0] == 'i' {
			return from(t, "integer", "0", "1", "-1", "7", "-50", "9223372036854775807", "-9223372036854775808", "9223372036854775800")
		}
		return from(t, "quarter", "0", "1", "-1", "7", "0.25", "-0.5", "1.75", "0.5", "-20.25", "100")
	}
	switch name := from(t, "command", "GET", "SET", "HSET", "DEL", "INCR", "DECR", "INCRBY", "DECRBY", "INCRBYFLOAT", "PTTL", "COUNTER.GET",
		"COUNTER.ADD", "COUNTER.ADD", "COUNTER.ADD", "COUNTER.ADD", "COUNTER.SET", "COUNTER.RESET", "COUNTER.DEL"); name {
	case "SET":
		return line("SET %s %s", key, from(t, "value", "hello", number(), "KEEP", `""`))
	case "HSET":
		return line("HSET %s f v", key)
	case "INCRBY", "DECRBY":
		return line("%s %s %s", name, key, number())
	case "INCRBYFLOAT":
		key = from(t, "float key", "f1", "f2")
		return line("INCRBYFLOAT %s %s", key, number())
	case "COUNTER.ADD":
		return line("COUNTER.ADD %s %s %s %s %s %s", key, number(), from(t, "px", "", "PX 250"), from(t, "min", "", "MIN -5", "MIN 0"),
			from(t, "max", "", "MAX 3", "MAX 100"), from(t, "overflow", "", "OVERFLOW SATURATE", "OVERFLOW REJECT"))
	case "COUNTER.SET":
		return line("COUNTER.SET %s %s %s", key, number(), from(t, "ttl", "", "PX 250", "KEEPTTL"))
	default:
		return line("%s %s", name, key)
	}
}

func TestModelCounters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { modelRun(t, drawCounterCommand) })
}

func TestCounterBounds(t *testing.T) {
	const most, least = "9223372036854775807", "-9223372036854775808"
	tests := []struct {
		name, was, by string
		options       []string
		want          string
	}{
		{name: "to the very top", was: "9223372036854775806", by: "1", want: "[" + most + " -1]"},
		{name: "one past the top", was: most, by: "1", want: "(error) ERR the counter is " + most + ": adding 1 would pass the maximum of " + most},
		{name: "one past the bottom", was: least, by: "-1", want: "(error) ERR the counter is " + least + ": adding -1 would pass the minimum of " + least},
		{name: "the top, saturated", was: most, by: most, options: []string{"OVERFLOW", "SATURATE"}, want: "[" + most + " -1]"},
		{name: "the bottom, saturated", was: least, by: least, options: []string{"OVERFLOW", "SATURATE"}, want: "[" + least + " -1]"},
		{name: "the top from a bound", was: most, by: most, options: []string{"MAX", "5", "OVERFLOW", "SATURATE"}, want: "[5 -1]"},
		{name: "a bound with a fraction, for an integer", was: "10", by: "5", options: []string{"MAX", "12.9", "OVERFLOW", "SATURATE"}, want: "[12 -1]"},
		{name: "a negative bound with a fraction", was: "-10", by: "-5", options: []string{"MIN", "-12.9", "OVERFLOW", "SATURATE"}, want: "[-12 -1]"},
		{name: "a bound beyond 64 bits is none", was: "1", by: "1", options: []string{"MAX", "1e30", "MIN", "-1e30"}, want: "[2 -1]"},
		{name: "a bound that no integer keeps", was: "1", by: "1", options: []string{"MAX", "-1e30"}, want: "(error) ERR MAX is under every integer of 64 bits, and the counter is one"},
		{name: "bounds with no integer between", was: "1", by: "1", options: []string{"MIN", "1.2", "MAX", "1.8"}, want: "(error) ERR there is no whole number from MIN to MAX, and the counter is one"},
		{name: "bounds the wrong way round", was: "1", by: "1", options: []string{"MIN", "2", "MAX", "1"}, want: "(error) ERR MIN is over MAX"},
		{name: "a float past the greatest", was: "1.5", by: "1.7976931348623157e308", want: "[(double) 1.7976931348623157e+308 -1]"},
		{name: "from outside the bounds, towards them", was: "150", by: "-10", options: []string{"MAX", "100"}, want: "(error) ERR the counter is 150: adding -10 would pass the maximum of 100"},
		{name: "a tenth and two tenths", was: "0.1", by: "0.2", want: "[(double) 0.3 -1]"},
		{name: "a float that comes out whole", was: "0.5", by: "0.5", want: "[1 -1]"},
		{name: "an addend that is no number", was: "1", by: "one", want: "(error) ERR by must be a number: whole within 64 bits, or a finite decimal"},
		{name: "an infinite addend", was: "1", by: "inf", want: "(error) ERR by must be a number: whole within 64 bits, or a finite decimal"},
		{name: "a value that is no number", was: "one", by: "1", want: "(error) WRONGTYPE the key holds a string that is not a number"},
		{name: "an infinite value", was: "inf", by: "1", want: "(error) WRONGTYPE the key holds a string that is not a number"},
		{name: "an option of another command", was: "1", by: "1", options: []string{"KEEPTTL"}, want: `(error) ERR option "KEEPTTL" is unknown here, lacks its argument or contradicts another`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.do("SET", "k", tt.was)
			if got := w.do(append([]string{"COUNTER.ADD", "k", tt.by}, tt.options...)...); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			if got := unquote(w.do("GET", "k")); tt.want[0] == '(' && got != tt.was {
				t.Errorf("refused, but the value is %s", got)
			}
		})
	}
}
