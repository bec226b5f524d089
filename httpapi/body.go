package httpapi

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/internal/fault"
)

// Bounds of request bodies.
const (
	maxJSONBody  = 10 << 20 // bytes
	maxJSONDepth = 64
	maxJSONItems = 100_000           // members and elements together
	maxManyItems = 10 * maxJSONItems // the same where a request may hold maxBatch operations
	minBodyRate  = 1 << 10           // bytes a second that a large body, or the reader of a large answer, must keep up
	bodyPiece    = 32 << 10          // bytes for which that rate is watched
	pieceTimeout = bodyPiece / minBodyRate * time.Second
)

// curlDefault is what curl -d says when it is not told better. It is read as JSON too: forms mean nothing here,
// and no browser sends one along with a credential.
const curlDefault = "application/x-www-form-urlencoded"

// readBody reads the whole body, at most limit bytes. Memory grows with what arrives, not with what the
// client announces, and a client that trickles is cut off. The result is valid until the exchange ends.
func (x *exchange) readBody(limit int64) ([]byte, error) {
	r := x.Request()
	if r.Header.Get("Content-Encoding") != "" && r.Header.Get("Content-Encoding") != "identity" {
		return nil, fault.About(fault.UnsupportedMedia, "httpapi.body", "Content-Encoding", "bodies are taken as they are, not compressed")
	}
	if r.ContentLength > limit {
		return nil, tooLarge(limit)
	}
	if n := r.ContentLength; n >= 0 && n <= bodyPiece { // comes within the time of the request, or not at all
		x.body = slices.Grow(x.body[:0], int(n))[:n]
		_, err := io.ReadFull(r.Body, x.body)
		return x.body, bodyError(err)
	}
	buf := bytes.NewBuffer(x.body[:0])
	if n := r.ContentLength; n > 0 {
		buf.Grow(int(min(n, maxKept)) + bytes.MinRead)
	}
	slow := http.NewResponseController(x.Response().Writer)
	for {
		n, err := io.CopyN(buf, r.Body, min(bodyPiece, limit+1-int64(buf.Len())))
		x.body = buf.Bytes()
		switch {
		case int64(buf.Len()) > limit:
			return nil, tooLarge(limit)
		case err == io.EOF:
			return x.body, nil
		case err != nil:
			return nil, bodyError(err)
		case n == bodyPiece: // a writer without deadlines is a test's
			_ = slow.SetReadDeadline(time.Now().Add(pieceTimeout))
			_ = slow.SetWriteDeadline(time.Now().Add(pieceTimeout + requestTimeout))
		}
	}
}

// bodyError is what reading a body failed with, in our words.
func bodyError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fault.About(fault.Timeout, "httpapi.body", "body", "the body came too slowly: less than %d bytes a second", minBodyRate)
	}
	return fault.Wrap(fault.InvalidArgument, "httpapi.body", err, "the body broke off")
}

// maxDrain is how much of a body that is refused is read all the same, in bytes.
const maxDrain = 64 << 20

// drain reads what is left of the body of a request that is refused. Many clients send all they have before
// they read: where the server stops reading, they find a broken connection in the place of the answer. Who
// asks first (Expect: 100-continue) has sent nothing yet, and a body announced to be longer is not worth it.
func drain(r *http.Request) {
	if r.Body != nil && r.ProtoMajor == 1 && len(r.Header["Expect"]) == 0 && r.ContentLength <= maxDrain {
		_, _ = io.CopyN(io.Discard, r.Body, maxDrain)
	}
}

func tooLarge(limit int64) error {
	return fault.About(fault.TooLarge, "httpapi.body", "body", "max request size exceeded. Limit: %d bytes", limit)
}

// write sends a value. A client that reads a large one slowly has the time that a slow sender has.
func (x *exchange) write(data []byte) error {
	if len(data) == 0 {
		return nil
	}
	const piece = 256 << 10
	w := x.Response()
	if len(data) > piece {
		slow := http.NewResponseController(w.Writer)
		for ; len(data) > piece; data = data[piece:] {
			_ = slow.SetWriteDeadline(time.Now().Add(piece / minBodyRate * time.Second))
			if _, err := w.Write(data[:piece]); err != nil {
				return err
			}
		}
	}
	_, err := w.Write(data)
	return err
}

// decode reads a JSON body into v, strictly: UTF-8, no member twice, none that v does not have, none in
// another letter case, nothing behind the value, bounded depth and number of elements. An empty body leaves v
// as it is, for requests whose members are all optional.
func (x *exchange) decode(v any) error { return x.decodeItems(v, maxJSONItems) }

// decodeMany is decode for requests that may hold maxBatch operations.
func (x *exchange) decodeMany(v any) error { return x.decodeItems(v, maxManyItems) }

func (x *exchange) decodeItems(v any, items int) error {
	if t := x.Request().Header.Get("Content-Type"); t != "" {
		media, _, err := mime.ParseMediaType(t)
		if err != nil || (media != "application/json" && !strings.HasSuffix(media, "+json") && media != curlDefault) {
			return fault.About(fault.UnsupportedMedia, "httpapi.decode", "Content-Type", "the body must be application/json, not %.100q", t)
		}
	}
	body, err := x.readBody(maxJSONBody)
	if err != nil || len(body) == 0 {
		return err
	}
	return decodeBounded(body, v, items)
}

// noBody refuses a body that says anything: what it asks for would be left out.
func (x *exchange) noBody() error { return x.decode(&struct{}{}) }

func decodeBounded(body []byte, v any, items int) error {
	if err := checkShape(body, items); err != nil {
		return err
	}
	err := json.Unmarshal(body, v, json.RejectUnknownMembers(true))
	if err == nil {
		if _, any := v.(*jsontext.Value); !any && jsontext.Value(body).Kind() == 'n' { // which would leave v as it is
			return fault.About(fault.InvalidArgument, "httpapi.decode", "body", "body: a JSON null does not fit: want an object")
		}
		return nil
	}
	var known *fault.Error
	if errors.As(err, &known) { // a type of ours refused its text
		return known
	}
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &semantic):
		at := argument(semantic.JSONPointer)
		if errors.Is(err, json.ErrUnknownName) {
			return fault.About(fault.InvalidArgument, "httpapi.decode", at, "there is no member %q here", at)
		}
		want := "another type"
		if semantic.GoType != nil {
			want = jsonType(semantic.GoType.Kind().String())
		}
		return fault.About(fault.InvalidArgument, "httpapi.decode", at, "%s: a JSON %s does not fit: want %s", at, kindOf(semantic.JSONKind), want)
	case errors.As(err, &syntactic):
		return fault.About(fault.InvalidArgument, "httpapi.decode", "body", "the body is not proper JSON: %s at byte %d", reason(syntactic), syntactic.ByteOffset)
	}
	return fault.Wrap(fault.InvalidArgument, "httpapi.decode", err, "the body is not what this route takes")
}

func reason(e *jsontext.SyntacticError) string {
	if e.Err == nil {
		return "a syntax error"
	}
	return strings.TrimPrefix(e.Err.Error(), "jsontext: ")
}

// argument names a member the way people do: a.b[2].
func argument(p jsontext.Pointer) string {
	var b strings.Builder
	for token := range p.Tokens() {
		if _, err := strconv.Atoi(token); err == nil {
			b.WriteString("[" + token + "]")
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(token)
	}
	if b.Len() == 0 {
		return "body"
	}
	return b.String()
}

func kindOf(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "boolean"
	case '"':
		return "string"
	case '0':
		return "number"
	case '{':
		return "object"
	case '[':
		return "array"
	}
	return "value"
}

func jsonType(goKind string) string {
	switch {
	case strings.HasPrefix(goKind, "int"):
		return "a whole number of 64 bits"
	case strings.HasPrefix(goKind, "uint"):
		return "a whole number, not negative"
	case strings.HasPrefix(goKind, "float"):
		return "a number"
	case goKind == "struct", goKind == "map":
		return "an object"
	case goKind == "slice", goKind == "array":
		return "an array"
	case goKind == "bool":
		return "true or false"
	}
	return "a " + goKind
}

// checkShape bounds a text's depth and number of elements before it is decoded. It looks only at structure
// and leaves every other error to the decoder.
func checkShape(text []byte, maxItems int) error {
	depth, items := 0, 1
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			items++
			if depth++; depth > maxJSONDepth {
				return fault.About(fault.InvalidArgument, "httpapi.decode", "body", "JSON nested deeper than %d levels", maxJSONDepth)
			}
		case c == '}' || c == ']':
			depth--
		case c == ',':
			items++
		}
		if items > maxItems {
			return fault.About(fault.InvalidArgument, "httpapi.decode", "body", "JSON with more than %d elements", maxItems)
		}
	}
	return nil
}

// encoding is how every answer is written. The types given to it cannot fail.
var encoding = json.JoinOptions(json.Deterministic(true), jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true), json.FormatNilSliceAsNull(false))

// encode writes v as JSON.
func encode(v any) []byte {
	b, err := json.Marshal(v, encoding)
	if err != nil {
		panic("httpapi: " + err.Error())
	}
	return append(b, '\n')
}

// largeReply is how many bytes of replies are turned into JSON as it is sent and not before: it may become six
// times as long.
const largeReply = 1 << 20

// json answers with status and v.
func (x *exchange) json(status int, v any) error {
	h := x.Response().Header()
	noStore(h)
	h["Content-Type"] = []string{"application/json"}
	if x.reply.Len() > largeReply {
		x.Response().WriteHeader(status)
		w := bufio.NewWriterSize(pieces{x}, bodyPiece)
		if err := json.MarshalWrite(w, v, encoding); err != nil {
			return err // the client's connection: it is too late for another answer
		}
		if err := w.WriteByte('\n'); err != nil {
			return err
		}
		return w.Flush()
	}
	body := encode(v)
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	x.Response().WriteHeader(status)
	return x.write(body)
}

// pieces sends what is written to it piece by piece, each with the time that a slow reader has.
type pieces struct{ x *exchange }

func (p pieces) Write(data []byte) (int, error) {
	slow := http.NewResponseController(p.x.Response().Writer)
	_ = slow.SetWriteDeadline(time.Now().Add(pieceTimeout))
	if err := p.x.write(data); err != nil {
		return 0, err
	}
	return len(data), nil
}
