package httpapi

import (
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
	"github.com/larder-cache/larder/tenants"
)

// query reads the parameters of a request's query, and refuses those that nobody asked for, those given twice
// and those that are malformed. The first error stays; end returns it.
type query struct {
	values url.Values
	asked  map[string]bool
	err    error
}

// query starts reading the query.
func (x *exchange) query() *query {
	x.asked = query{}
	q := &x.asked
	raw := x.Request().URL.RawQuery
	if raw == "" {
		return q
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		q.err = fault.About(fault.InvalidArgument, "httpapi.query", "query", "the query is not percent-encoded properly")
	}
	q.values, q.asked = values, map[string]bool{}
	if level, ok := values[consistencyQuery]; ok && x.data {
		q.asked[consistencyQuery] = true
		q.consistency(&x.level, level)
	}
	return q
}

// get returns a parameter and whether it was given.
func (q *query) get(name string) (string, bool) {
	if q.asked != nil {
		q.asked[name] = true
	}
	v := q.values[name]
	switch {
	case len(v) == 0:
		return "", false
	case len(v) > 1:
		q.fail(fault.About(fault.InvalidArgument, "httpapi.query", name, "%s is given %d times", name, len(v)))
	}
	return v[0], true
}

// consistency reads how current reads have to be, which every route of data may be told.
func (q *query) consistency(to *engine.Consistency, values []string) {
	if len(values) > 1 {
		q.fail(fault.About(fault.InvalidArgument, "httpapi.query", consistencyQuery, "%s is given %d times", consistencyQuery, len(values)))
		return
	}
	level, err := parseConsistency(consistencyQuery, values[0])
	q.fail(err)
	*to = level
}

// text returns a parameter or its default.
func (q *query) text(name, otherwise string) string {
	if v, ok := q.get(name); ok {
		return v
	}
	return otherwise
}

// one returns a parameter that must be one of the choices, the first of which is its default.
func (q *query) one(name string, choices ...string) string {
	v := q.text(name, choices[0])
	for _, c := range choices {
		if v == c {
			return v
		}
	}
	q.fail(fault.About(fault.InvalidArgument, "httpapi.query", name, "%s is one of %s, not %.100q", name, strings.TrimPrefix(strings.Join(choices, ", "), ", "), v))
	return choices[0]
}

// number returns a whole number between low and high.
func (q *query) number(name string, otherwise, low, high int64) int64 {
	v, ok := q.get(name)
	if !ok {
		return otherwise
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		q.fail(fault.About(fault.InvalidArgument, "httpapi.query", name, "%s is a whole number of %d to %d, not %.100q", name, low, high, v))
	} else if n < low || n > high {
		q.fail(fault.About(fault.OutOfRange, "httpapi.query", name, "%s is %d to %d, not %d", name, low, high, n))
	}
	return n
}

// limit is how many items a page may hold.
func (q *query) limit() int64 { return q.number("limit", 100, 1, 1000) }

// flag returns a parameter that is true or false.
func (q *query) flag(name string, otherwise bool) bool {
	switch q.one(name, strconv.FormatBool(otherwise), "true", "false") {
	case "true":
		return true
	default:
		return false
	}
}

// duration returns a parameter such as 90s in milliseconds, and whether it was given.
func (q *query) duration(name string) (ms int64, given bool) {
	v, ok := q.get(name)
	if !ok {
		return 0, false
	}
	ms, err := parseDuration(name, v)
	q.fail(err)
	return ms, true
}

func (q *query) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

// end returns the first error, or one that names a parameter that this route does not have.
func (q *query) end() error {
	if q.err != nil {
		return q.err
	}
	for name := range q.values {
		if !q.asked[name] {
			return fault.About(fault.InvalidArgument, "httpapi.query", name, "this route has no parameter %.100q", name)
		}
	}
	return nil
}

// units are what a duration may be written in.
var units = []struct {
	suffix string
	ms     float64
}{{"ms", 1}, {"s", 1000}, {"m", 60_000}, {"h", 3_600_000}, {"d", 86_400_000}, {"w", 7 * 86_400_000}}

// parseDuration reads a duration: a number of seconds, or a number with the unit ms, s, m, h, d or w. It is 1
// ms to a hundred years.
func parseDuration(name, s string) (ms int64, err error) {
	number, scale := s, 1000.0
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			number, scale = rest, u.ms
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	plain := number != "" && strings.Trim(number, "0123456789.") == ""
	if err != nil || !plain {
		return 0, fault.About(fault.InvalidArgument, "httpapi.duration", name, "%s is a duration such as 1500ms, 90s, 15m, 24h or 7d (seconds without a unit), not %.100q", name, s)
	}
	f = math.Round(f * scale)
	if f < 1 || f > float64(tenants.MaxTTLMs) {
		return 0, fault.About(fault.OutOfRange, "httpapi.duration", name, "%s is 1ms to %dd, not %.100s", name, tenants.MaxTTLMs/(24*3_600_000), s)
	}
	return int64(f), nil
}

// A Duration is a length of time in a JSON body: a string with a unit, or a number of seconds.
type Duration struct {
	Ms  int64
	Set bool
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom; see parseDuration.
func (d *Duration) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	switch dec.PeekKind() {
	case '0', '"':
	default:
		return wrongKind(dec, "a duration such as \"90s\"")
	}
	t, err := dec.ReadToken()
	if err != nil {
		return err
	}
	if d.Ms, err = parseDuration(argument(dec.StackPointer()), t.String()); err != nil {
		return err
	}
	d.Set = true
	return nil
}

// MarshalJSONTo implements json.MarshalerTo.
func (d Duration) MarshalJSONTo(e *jsontext.Encoder) error {
	return e.WriteToken(jsontext.String(formatDuration(d.Ms)))
}

// formatDuration writes milliseconds with the largest unit that fits exactly.
func formatDuration(ms int64) string {
	if ms == 0 {
		return "0s"
	}
	for i := len(units) - 2; i > 0; i-- { // weeks are not written, only read
		if u := int64(units[i].ms); ms%u == 0 && (ms > u || units[i].suffix != "d") { // a day is 24h, as most people write it
			return strconv.FormatInt(ms/u, 10) + units[i].suffix
		}
	}
	return strconv.FormatInt(ms, 10) + "ms"
}

// formatTime writes milliseconds since 1970 as RFC 3339 with milliseconds.
func formatTime(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z")
}
