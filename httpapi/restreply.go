package httpapi

import (
	"encoding/base64"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// A restReply writes replies as JSON while they come, {"result": …} or {"error": "…"} each, straight into the bytes
// that are sent. Of shapes it knows those of RESP2: maps and pairs are flat lists, doubles are strings, null is null,
// truth is 1 and 0. Bytes that are not UTF-8 become U+FFFD, unless everything is in base64.
//
// It holds at most max bytes: a reply that would pass that becomes an error in its place. What a call changed stays
// changed although its reply did not fit.
type restReply struct {
	out    []byte
	base64 bool
	many   bool // a list of replies, also when it is one
	max    int

	size   int          // of the replies as they are, before they become JSON: what is charged
	failed *fault.Error // the last reply that was an error

	open  []opened // aggregates that are not at their end
	begin int      // where the reply under way began
	over  bool     // it did not fit: what comes of it is passed over
}

// opened is an aggregate that is being written: left elements are still to come. Those of a Keyed are pairs, each a
// list of its own.
type opened struct {
	left  int64
	keyed bool
}

// reset begins an answer in the room of the last.
func (j *restReply) reset(base64, many bool, max int) {
	*j = restReply{out: j.out[:0], open: j.open[:0], base64: base64, many: many, max: max}
	if many {
		j.out = append(j.out, '[')
	}
}

// done ends the answer and returns it. It is valid until the next reset.
func (j *restReply) done() []byte {
	if j.many {
		j.out = append(j.out, ']')
	}
	return j.out
}

// release lets go of what a pool should not keep.
func (j *restReply) release() {
	if cap(j.out) > maxKept {
		j.out = nil
	}
	j.failed = nil
}

// Len implements gateway.Reply: the size of the replies as other protocols would be charged for them.
func (j *restReply) Len() int { return j.size }

// start begins a value of about n bytes, and says whether to write it.
func (j *restReply) start(n int) bool {
	j.size += n + 1
	if len(j.open) == 0 {
		if j.over = false; j.many && len(j.out) > 1 {
			j.out = append(j.out, ',')
		}
		j.begin = len(j.out)
		j.out = append(j.out, `{"result":`...)
	}
	if top := len(j.open) - 1; !j.over && top >= 0 && j.open[top].keyed && j.open[top].left%2 == 0 {
		j.out = append(j.out, '[')
	}
	return !j.over && !j.tooLong(n)
}

// tooLong makes the reply under way an error if it does not fit with n bytes more.
func (j *restReply) tooLong(n int) bool {
	if len(j.out)+n <= j.max {
		return false
	}
	j.over = true
	j.fail("ERR the answers of one request have at most " + strconv.Itoa(j.max) + " bytes together: ask for less at a time; what was to be changed has been")
	return true
}

// fail puts an error in the place of the reply under way.
func (j *restReply) fail(text string) {
	j.out = append(j.out[:j.begin], `{"error":`...)
	j.out = append(appendJSONText(j.out, text), '}')
}

// end closes a value, and the aggregates that end with it.
func (j *restReply) end() {
	for len(j.open) > 0 {
		top := &j.open[len(j.open)-1]
		top.left--
		if j.over {
			if top.left > 0 {
				return
			}
		} else {
			if top.keyed && top.left%2 == 0 {
				j.out = append(j.out, ']')
			}
			if top.left > 0 {
				j.out = append(j.out, ',')
				return
			}
			j.out = append(j.out, ']')
		}
		j.open = j.open[:len(j.open)-1]
	}
	if !j.over {
		j.out = append(j.out, '}')
	}
}

// aggregate begins a list of n elements.
func (j *restReply) aggregate(n int64, keyed bool) {
	if j.start(0) {
		j.out = append(j.out, '[')
	}
	if n > 0 {
		j.open = append(j.open, opened{n, keyed})
		return
	}
	if !j.over {
		j.out = append(j.out, ']')
	}
	j.end()
}

// literal writes a value that needs no quotes.
func (j *restReply) literal(s string) {
	if j.start(len(s)) {
		j.out = append(j.out, s...)
	}
	j.end()
}

// bytes writes a string.
func (j *restReply) bytes(b []byte) {
	if j.start(len(b)) {
		if j.base64 {
			if encoded := base64.StdEncoding.EncodedLen(len(b)); !j.tooLong(encoded) {
				j.out = append(base64.StdEncoding.AppendEncode(append(j.out, '"'), b), '"')
			}
		} else {
			j.out = appendJSONBytes(j.out, b, j.max)
			j.tooLong(0)
		}
	}
	j.end()
}

// Null implements engine.Reply.
func (j *restReply) Null() { j.literal("null") }

// NullArray implements engine.Reply.
func (j *restReply) NullArray() { j.literal("null") }

// Bool implements engine.Reply.
func (j *restReply) Bool(v bool) {
	if v {
		j.literal("1")
	} else {
		j.literal("0")
	}
}

// Int implements engine.Reply. Every integer is a JSON number, also beyond 2^53: so the dialect has it.
func (j *restReply) Int(n int64) {
	if j.start(8) {
		j.out = strconv.AppendInt(j.out, n, 10)
	}
	j.end()
}

// Double implements engine.Reply.
func (j *restReply) Double(f float64) {
	var room [32]byte
	j.bytes(engine.AppendDouble(room[:0], f))
}

// Status implements engine.Reply. OK alone is never in base64: clients look for it before they decode.
func (j *restReply) Status(s string) {
	if j.base64 && s == "OK" && len(j.open) == 0 {
		j.literal(`"OK"`)
		return
	}
	j.Text(s)
}

// Bulk implements engine.Reply.
func (j *restReply) Bulk(b []byte) { j.bytes(b) }

// Text implements engine.Reply.
func (j *restReply) Text(s string) {
	var room [128]byte
	j.bytes(append(room[:0], s...))
}

// Array implements engine.Reply.
func (j *restReply) Array(n int) { j.aggregate(int64(n), false) }

// Set implements engine.Reply.
func (j *restReply) Set(n int) { j.aggregate(int64(n), false) }

// Map implements engine.Reply.
func (j *restReply) Map(n int) { j.aggregate(2*int64(n), false) }

// Pairs implements engine.Reply.
func (j *restReply) Pairs(n int) { j.aggregate(2*int64(n), false) }

// Keyed implements engine.Reply.
func (j *restReply) Keyed(n int) { j.aggregate(2*int64(n), true) }

// Error implements engine.Reply. Inside of a list an error is its text.
func (j *restReply) Error(e *fault.Error) {
	if len(j.open) > 0 {
		j.Text(restText(e))
		return
	}
	text := restText(e)
	j.start(len(text))
	j.failed = e
	j.fail(text)
}

// plain are the bytes that stand for themselves in a JSON string, those that need a look at their neighbours left out.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// appendJSONBytes appends b as a JSON string, with U+FFFD for each byte that is no UTF-8. It stops when dst has passed
// limit bytes.
func appendJSONBytes(dst, b []byte, limit int) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(b); {
		c := b[i]
		if plain[c] {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(b[i:])
			if r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		}
		dst = append(dst, b[from:i]...)
		if len(dst) > limit {
			return dst
		}
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c < ' ':
			const hex = "0123456789abcdef"
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = append(dst, "\uFFFD"...)
		}
		i++
		from = i
	}
	return append(append(dst, b[from:]...), '"')
}

// appendJSONText is appendJSONBytes for a short text of ours.
func appendJSONText(dst []byte, s string) []byte {
	return appendJSONBytes(dst, []byte(s), len(dst)+6*len(s))
}

// RestCommand is a command as Upstash's REST API has it: an array of its name and its arguments, which are strings,
// numbers, true and false.
type RestCommand []any

// RestResult is the answer to one command: a result, or an error.
type RestResult struct {
	Result any    `json:"result"`          // null, a string, an integer, or an array of results
	Error  string `json:"error,omitempty"` // as a Redis server would say it
}

// RestError is what any error looks like in the REST dialect, whatever its status.
type RestError struct {
	Error string `json:"error" example:"WRONGPASS invalid or missing auth token"` // as a Redis server would say it
}

// A discarded transaction, or request under an idempotency key, is one of which nothing was done, because of a call
// that may not be done.
type discarded struct {
	cause *fault.Error
	call  int
	many  bool
}

func (d *discarded) Error() string { return d.cause.Error() }
func (d *discarded) Unwrap() error { return d.cause }

// restText is an error in the dialect's words. Clients look for some of them.
func restText(e *fault.Error) string {
	switch e.Kind {
	case fault.Unauthenticated, fault.NoCredentials:
		return "WRONGPASS invalid or missing auth token"
	case fault.Throttled:
		if strings.HasPrefix(e.Message, "max requests limit exceeded") {
			return "ERR max requests limit exceeded. Retry in " + e.RetryAfter.Round(time.Millisecond).String()
		}
	}
	return e.Redis()
}

// restStatus is the HTTP status of an error that is the reply to a command.
func restStatus(e *fault.Error) int {
	switch status := e.Kind.Face().Status; status {
	case http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return status
	}
	return http.StatusBadRequest
}

// restFailure is the status and the body with which a request of the dialect fails as a whole.
func restFailure(err error, e *fault.Error) (status int, body []byte) {
	status, text := e.Kind.Face().Status, restText(e)
	var d *discarded
	if errors.As(err, &d) {
		status = restStatus(e)
		if d.many {
			text += " (command " + strconv.Itoa(d.call+1) + "; nothing was done)"
		}
	}
	return status, append(appendJSONText([]byte(`{"error":`), text), '}')
}

// answerRESP2 asks for the commands that were added and answers with what a Redis server would send.
func (x *exchange) answerRESP2(many bool) error {
	if err := x.ask(&engine.Bounded{Recording: &x.reply, Max: maxReplies}); err != nil {
		if x.request.Failed >= 0 {
			return &discarded{fault.From(err), x.request.Failed, many}
		}
		return err
	}
	status, c := http.StatusOK, x.reply.Cursor()
	if first := c.Next(); !many && first.Kind == engine.ReplyError {
		status = restStatus(first.Err)
	}
	c = x.reply.Cursor()
	var out []byte
	for range x.calls {
		out = appendRESP2(out, &c)
	}
	return x.writeRest(status, octetStream, out)
}

// appendRESP2 appends one value. It goes as deep as replies are nested, which the commands bound.
func appendRESP2(dst []byte, c *engine.Cursor) []byte {
	elements := func(n, each int64) []byte {
		dst = appendRESPLine(dst, '*', n)
		for range n {
			if each > 0 {
				dst = appendRESPLine(dst, '*', each)
			}
			for range max(each, 1) {
				dst = appendRESP2(dst, c)
			}
		}
		return dst
	}
	bulk := func(b []byte) []byte {
		dst = appendRESPLine(dst, '$', int64(len(b)))
		return append(append(dst, b...), "\r\n"...)
	}
	switch t := c.Next(); t.Kind {
	case engine.ReplyNullArray:
		return append(dst, "*-1\r\n"...)
	case engine.ReplyTrue:
		return append(dst, ":1\r\n"...)
	case engine.ReplyFalse:
		return append(dst, ":0\r\n"...)
	case engine.ReplyInt:
		return appendRESPLine(dst, ':', t.Int)
	case engine.ReplyDouble:
		var room [32]byte
		return bulk(engine.AppendDouble(room[:0], t.Float))
	case engine.ReplyStatus:
		return append(append(append(dst, '+'), t.Bytes...), "\r\n"...)
	case engine.ReplyBulk:
		return bulk(t.Bytes)
	case engine.ReplyArray, engine.ReplySet:
		return elements(t.Int, 0)
	case engine.ReplyMap, engine.ReplyPairs:
		return elements(2*t.Int, 0)
	case engine.ReplyKeyed:
		return elements(t.Int, 2)
	case engine.ReplyError:
		return append(append(append(dst, '-'), oneLine(restText(t.Err))...), "\r\n"...)
	}
	return append(dst, "$-1\r\n"...)
}

func appendRESPLine(dst []byte, kind byte, n int64) []byte {
	return append(strconv.AppendInt(append(dst, kind), n, 10), "\r\n"...)
}

// oneLine is a text without line ends, which would end an error early.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if slices.Contains([]rune("\r\n"), r) {
			return ' '
		}
		return r
	}, s)
}
