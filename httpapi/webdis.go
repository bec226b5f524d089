package httpapi

import (
	"crypto/md5"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// Webdis's dialect: one command in a path, an ending that says how the answer is written, and an ETag for those who
// ask again. It is for applications and scripts that have it already; rest.go has the dialect for new ones.

func (a *API) webdisRoutes() []route {
	const base = "/v1/caches/:cache/webdis"
	return []route{
		{method: http.MethodGet, path: base + "/*", rest: true, serve: (*exchange).webdisPath},
		{method: http.MethodPut, path: base + "/*", rest: true, serve: (*exchange).webdisPath},
		{method: http.MethodPost, path: base, rest: true, serve: (*exchange).webdisBody},
	}
}

// webdisContent are the endings of paths and what they make of the answer. Those of Webdis that a browser would run or
// render as a page are left out: whoever may write a value could then act in the place of whoever looks at it.
var webdisContent = map[string]string{
	"json": "application/json", "raw": "binary/octet-stream", "bin": "binary/octet-stream", "txt": "text/plain",
	"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg",
}

// webdisPath serves GET and PUT /v1/caches/:cache/webdis/*.
//
// @Summary     Do the command of the path, as Webdis has it
// @Description The command's name and its arguments, percent-encoded, between slashes, and an ending: .json (the default), .raw, .txt, .bin, .png or .jpg. With PUT the body is the last argument. A number before the name selects a database.
// @Tags        rest
// @Param       If-None-Match header string false "304 if the answer still has this ETag" maxlength(2048)
// @Success     200 {object} object
// @Success     304 "the answer still has this ETag"
// @Failure     default {object} RestError
// @Header      200 {string} ETag "a digest of the answer"
// @Router      /v1/caches/{cache}/webdis/{command} [get]
// @Router      /v1/caches/{cache}/webdis/{command} [put]
func (x *exchange) webdisPath() error {
	var last []byte
	if x.Request().Method == http.MethodPut {
		body, err := x.readCommands()
		if err != nil {
			return err
		}
		last = body
	}
	return x.webdis(x.Param("*"), x.Request().URL.RawPath != "", last)
}

// webdisBody serves POST /v1/caches/:cache/webdis.
//
// @Summary     Do the command of the body, as Webdis has it
// @Description What would stand in the path of a GET.
// @Tags        rest
// @Accept      plain
// @Param       request body string true "the command" maxlength(10485760)
// @Success     200 {object} object
// @Failure     default {object} RestError
// @Router      /v1/caches/{cache}/webdis [post]
func (x *exchange) webdisBody() error {
	body, err := x.readCommands()
	if err != nil {
		return err
	}
	return x.webdis(string(body), true, nil)
}

// webdis does the command of a path. encoded says whether the path is as it was sent; last is one more argument.
func (x *exchange) webdis(path string, encoded bool, last []byte) error {
	x.request.Refuse = refuseRest
	path, ending := webdisEnding(path)
	if first, rest, ok := strings.Cut(path, "/"); ok && strings.Trim(first, "0123456789") == "" {
		db, err := strconv.Atoi(first)
		if err != nil || db >= engine.Databases {
			return fault.About(fault.OutOfRange, "webdis", "path", "DB index is out of range")
		}
		x.request.DB, path = db, rest
	}
	if path == "" {
		return errForbidden
	}
	unescape := plusIsSpace
	if encoded {
		unescape = url.QueryUnescape // here a plus sign is a space in a path, too
	}
	if err := x.addParts(path, unescape); err != nil {
		return err
	}
	if len(last) > 0 {
		x.args = append(x.args, last)
	}
	x.addRest(x.args)
	if err := x.ask(&engine.Bounded{Recording: &x.reply, Max: maxReplies}); err != nil {
		return err
	}
	c := x.reply.Cursor()
	first := c.Next()
	switch {
	case first.Kind == engine.ReplyError && first.Err.Kind == fault.Denied:
		return first.Err
	case ending == "json":
		return x.writeWebdis(ending, x.webdisJSON())
	case ending == "raw":
		c = x.reply.Cursor()
		return x.writeWebdis(ending, appendRESP2(nil, &c))
	case first.Kind == engine.ReplyNull || first.Kind == engine.ReplyNullArray:
		return fault.New(fault.NotFound, "webdis", "no such key")
	}
	c = x.reply.Cursor()
	return x.writeWebdis(ending, appendPlain(nil, &c, false))
}

func plusIsSpace(s string) (string, error) { return strings.ReplaceAll(s, "+", " "), nil }

var errForbidden = fault.New(fault.Denied, "webdis", "there is no command in the path")

// webdisEnding takes the ending that says how the answer is written off a path. Others belong to the last argument.
func webdisEnding(path string) (rest, ending string) {
	if dot := strings.LastIndexByte(path, '.'); dot > strings.LastIndexByte(path, '/') {
		if _, ok := webdisContent[path[dot+1:]]; ok {
			return path[:dot], path[dot+1:]
		}
	}
	return path, "json"
}

// writeWebdis answers with a body, unless the client has it.
func (x *exchange) writeWebdis(ending string, body []byte) error {
	sum := md5.Sum(body) // no secret: it tells answers apart, and clients may have kept Webdis's
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	x.header("Etag", etag)
	if tags := x.Request().Header["If-None-Match"]; len(tags) > 0 && matches(tags, etag, true) {
		x.Response().WriteHeader(http.StatusNotModified)
		return nil
	}
	return x.writeRest(http.StatusOK, []string{webdisContent[ending]}, body)
}

// webdisJSON is the reply as {"GET": …}, under the name that the client wrote: [true, "OK"] for a status word, [false,
// "ERR …"] for an error, an object for HGETALL.
func (x *exchange) webdisJSON() []byte {
	c := x.reply.Cursor()
	first := c
	name := x.calls[0].Args[0]
	out := append(appendJSONText([]byte{'{'}, string(name)), ':')
	switch t := first.Next(); t.Kind {
	case engine.ReplyStatus:
		out = append(appendJSONText(append(out, "[true,"...), string(t.Bytes)), ']')
	case engine.ReplyError:
		out = append(appendJSONText(append(out, "[false,"...), restText(t.Err)), ']')
	default:
		out = appendWebdisJSON(out, &c, strings.EqualFold(string(name), "HGETALL"))
	}
	return append(out, '}')
}

// appendWebdisJSON appends one value, in the shapes of RESP2; a list of pairs as an object if it says so.
func appendWebdisJSON(dst []byte, c *engine.Cursor, object bool) []byte {
	list := func(n int64, element func()) []byte {
		dst = append(dst, '[')
		for i := range n {
			if i > 0 {
				dst = append(dst, ',')
			}
			element()
		}
		return append(dst, ']')
	}
	value := func() { dst = appendWebdisJSON(dst, c, false) }
	switch t := c.Next(); t.Kind {
	case engine.ReplyTrue:
		return append(dst, '1')
	case engine.ReplyFalse:
		return append(dst, '0')
	case engine.ReplyInt:
		return strconv.AppendInt(dst, t.Int, 10)
	case engine.ReplyDouble:
		var room [32]byte
		return appendJSONText(dst, string(engine.AppendDouble(room[:0], t.Float)))
	case engine.ReplyStatus, engine.ReplyBulk:
		return appendJSONBytes(dst, t.Bytes, len(dst)+6*len(t.Bytes))
	case engine.ReplyError:
		return appendJSONText(dst, restText(t.Err))
	case engine.ReplyArray, engine.ReplySet:
		return list(t.Int, value)
	case engine.ReplyKeyed:
		return list(t.Int, func() { list(2, value) })
	case engine.ReplyMap, engine.ReplyPairs:
		if !object {
			return list(2*t.Int, value)
		}
		dst = append(dst, '{')
		for i := range t.Int {
			if i > 0 {
				dst = append(dst, ',')
			}
			value()
			dst = append(dst, ':')
			value()
		}
		return append(dst, '}')
	}
	return append(dst, "null"...)
}

// appendPlain appends a reply as the endings for one value have it: a string and an integer as they are, a status word
// and an error with their sign, of a list the strings one behind the other.
func appendPlain(dst []byte, c *engine.Cursor, listed bool) []byte {
	n := int64(0)
	switch t := c.Next(); t.Kind {
	case engine.ReplyBulk:
		return append(dst, t.Bytes...)
	case engine.ReplyDouble:
		return engine.AppendDouble(dst, t.Float)
	case engine.ReplyInt:
		if !listed {
			return strconv.AppendInt(dst, t.Int, 10)
		}
	case engine.ReplyStatus:
		if !listed {
			return append(append(dst, '+'), t.Bytes...)
		}
	case engine.ReplyError:
		if !listed {
			return append(append(dst, '-'), restText(t.Err)...)
		}
	case engine.ReplyArray, engine.ReplySet:
		n = t.Int
	case engine.ReplyMap, engine.ReplyPairs, engine.ReplyKeyed:
		n = 2 * t.Int
	}
	for range n {
		dst = appendPlain(dst, c, true)
	}
	return dst
}
