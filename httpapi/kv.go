package httpapi

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

func (a *API) kvRoutes() []route {
	const all, one = "/v1/caches/:cache/kv", "/v1/caches/:cache/kv/:key"
	return []route{
		{method: http.MethodGet, path: all, serve: (*exchange).listKeys},
		{method: http.MethodDelete, path: all, serve: (*exchange).deleteKeys},
		{method: http.MethodGet, path: one, serve: (*exchange).getKV},
		{method: http.MethodHead, path: one, serve: (*exchange).getKV},
		{method: http.MethodPut, path: one, serve: (*exchange).putKV},
		{method: http.MethodDelete, path: one, serve: (*exchange).deleteKV},
		{method: http.MethodPost, path: one + "/append", serve: (*exchange).appendKV},
		{method: http.MethodGet, path: one + "/ttl", serve: (*exchange).getTTL},
		{method: http.MethodPut, path: one + "/ttl", serve: (*exchange).setTTL},
		{method: http.MethodDelete, path: one + "/ttl", serve: (*exchange).deleteTTL},
	}
}

var (
	cmdKVGet       = engine.MustLookup("KV.GET")
	cmdKVSet       = engine.MustLookup("KV.SET")
	cmdKVAppend    = engine.MustLookup("KV.APPEND")
	cmdKVDel       = engine.MustLookup("KV.DEL")
	cmdKVScan      = engine.MustLookup("KV.SCAN")
	cmdKVDelPrefix = engine.MustLookup("KV.DELPREFIX")
	cmdPTTL        = engine.MustLookup("PTTL")
	cmdPExpire     = engine.MustLookup("PEXPIRE")
	cmdPersist     = engine.MustLookup("PERSIST")
)

var errNoKey = fault.New(fault.NotFound, "kv", "there is no such key, or it has expired")

// getKV serves GET and HEAD /v1/caches/:cache/kv/:key.
//
// @Summary     Read a value
// @Description The bytes as they were stored, with their content type.
// @Tags        kv
// @Produce     octet-stream
// @Param       If-Match header string false "only if the value still has this ETag" maxlength(2048)
// @Param       If-None-Match header string false "304 if the value still has this ETag" maxlength(2048)
// @Param       Range header string false "a part: bytes=0-99, bytes=100-, bytes=-100" maxlength(64)
// @Success     200 {string} string "the value"
// @Success     206 {string} string "a part of the value"
// @Success     304 "the value still has this ETag"
// @Failure     default {object} Problem
// @Header      200,206,304 {string} ETag "the version of the value"
// @Header      200,206,304 {integer} X-Larder-TTL-Ms "how long it still lives, in milliseconds; absent when it does not expire"
// @Header      200,206,304 {integer} X-Larder-Flags "memcached's flags; absent when they are 0"
// @Header      206 {string} Content-Range "which part of how many bytes"
// @Router      /v1/caches/{cache}/kv/{key} [get]
// @Router      /v1/caches/{cache}/kv/{key} [head]
func (x *exchange) getKV() error {
	key, err := x.pathBytes("key")
	if err != nil {
		return err
	}
	if err := x.query().end(); err != nil {
		return err
	}
	r := x.Request()
	span, ranged := byteRange{}, false
	condition := r.Header["If-Range"]
	if r.Method == http.MethodGet {
		span, ranged = rangeOf(r.Header)
	}
	switch {
	case r.Method == http.MethodHead:
		x.add(cmdKVGet, key, []byte("META"))
	case ranged && len(condition) == 0:
		x.add(cmdKVGet, key, []byte("RANGE"), integer(span.first), integer(span.last))
	default: // under an If-Range the whole value, so that the tag and the bytes are of one moment
		x.add(cmdKVGet, key)
	}
	c, err := x.doWhole()
	if err != nil {
		return err
	}
	if c.Next().Kind != engine.ReplyArray {
		return errNoKey
	}
	version, ttl, contentType, size := c.Next().Int, c.Next().Int, c.Next().Bytes, c.Next().Int
	data, flags := c.Next().Bytes, c.Next().Int
	etag := etagOf(uint64(version))
	if tags := r.Header["If-Match"]; len(tags) > 0 && !matches(tags, etag, false) {
		return fault.About(fault.PreconditionFailed, "kv.get", "If-Match", "precondition failed: the value has another version")
	}
	h := x.Response().Header()
	noStore(h)
	x.header("Etag", etag)
	if ttl >= 0 {
		x.header("X-Larder-Ttl-Ms", strconv.FormatInt(ttl, 10))
	}
	if flags != 0 {
		x.header("X-Larder-Flags", strconv.FormatInt(flags, 10))
	}
	if tags := r.Header["If-None-Match"]; len(tags) > 0 && matches(tags, etag, true) {
		x.Response().WriteHeader(http.StatusNotModified)
		return nil
	}
	if len(condition) > 0 && (len(condition) > 1 || condition[0] != etag) {
		ranged = false
	}
	status := http.StatusOK
	if ranged {
		first, last, ok := span.in(size)
		if !ok {
			h["Content-Range"] = []string{"bytes */" + strconv.FormatInt(size, 10)}
			return fault.About(fault.RangeUnsatisfiable, "kv.get", "Range", "the value has %d bytes, and none of them is in the range %.100q", size, r.Header.Get("Range"))
		}
		if len(condition) > 0 {
			data = data[first : last+1]
		}
		h["Content-Range"] = []string{"bytes " + strconv.FormatInt(first, 10) + "-" + strconv.FormatInt(last, 10) + "/" + strconv.FormatInt(size, 10)}
		status, size = http.StatusPartialContent, int64(len(data))
	}
	if len(contentType) == 0 || string(contentType) == octetStream[0] {
		h["Content-Type"] = octetStream
	} else {
		x.header("Content-Type", string(contentType))
	}
	if ranged || r.Method == http.MethodHead { // every GET would pay for it, and those who ask look here
		h["Accept-Ranges"] = rangeUnits
	}
	x.header("Content-Length", strconv.FormatInt(size, 10))
	x.Response().WriteHeader(status)
	return x.write(data)
}

var (
	octetStream = []string{"application/octet-stream"}
	rangeUnits  = []string{"bytes"}
)

// putKV serves PUT /v1/caches/:cache/kv/:key.
//
// @Summary     Store a value
// @Description Any bytes, with the Content-Type of the request.
// @Tags        kv
// @Accept      octet-stream
// @Param       ttl query string false "how long it lives: 1500ms, 90s, 15m, 24h, 7d; the cache's default without it" maxlength(32)
// @Param       flags query int false "memcached's flags, which stay with the value" minimum(0) maximum(4294967295) default(0) format(int64)
// @Param       If-Match header string false "only if the value still has this ETag; * only if there is one" maxlength(2048)
// @Param       If-None-Match header string false "* only if there is no value yet" Enums(*)
// @Param       value body string true "the value"
// @Success     201 "it is new"
// @Success     204 "it replaced another"
// @Failure     default {object} Problem
// @Header      201,204 {string} ETag "the version of the value"
// @Router      /v1/caches/{cache}/kv/{key} [put]
func (x *exchange) putKV() error {
	key, err := x.pathBytes("key")
	if err != nil {
		return err
	}
	q := x.query()
	ttl, timed := q.duration("ttl")
	flags := q.number("flags", 0, 0, math.MaxUint32)
	if err := q.end(); err != nil {
		return err
	}
	contentType, err := contentTypeOf(x.Request().Header)
	if err != nil {
		return err
	}
	conditions, err := conditionsOf(x.Request().Header)
	if err != nil {
		return err
	}
	body, err := x.readValue(cmdKVSet, key)
	if err != nil {
		return err
	}
	x.add(cmdKVSet, putArgs(key, body, contentType, flags, Duration{ttl, timed}, conditions)...)
	c, err := x.do()
	if err != nil {
		return err
	}
	put, err := readPutKV(&c)
	if err != nil {
		return err
	}
	x.Response().Header()["Etag"] = []string{put.ETag}
	if put.Created {
		x.Response().Header()["Content-Length"] = []string{"0"}
		x.Response().WriteHeader(http.StatusCreated)
		return nil
	}
	return x.noContent()
}

// putArgs are a value with its circumstances as KV.SET takes them.
func putArgs(key, value []byte, contentType string, flags int64, ttl Duration, conditions [][]byte) [][]byte {
	args := [][]byte{key, value}
	if contentType != "" {
		args = append(args, []byte("TYPE"), []byte(contentType))
	}
	if flags != 0 {
		args = append(args, []byte("FLAGS"), integer(flags))
	}
	if ttl.Set {
		args = append(args, []byte("PX"), integer(ttl.Ms))
	}
	return append(args, conditions...)
}

// PutResult says what became of a value that was put.
type PutResult struct {
	Created bool   `json:"created" example:"true"` // false when it replaced another
	ETag    string `json:"etag" example:"\"dq1x0k3f2a\""`
}

// readPutKV reads the answer of KV.SET.
func readPutKV(c *engine.Cursor) (PutResult, error) {
	if t := c.Next(); t.Kind == engine.ReplyError {
		return PutResult{}, t.Err
	}
	return PutResult{Created: c.Next().Int == 1, ETag: etagOf(uint64(c.Next().Int))}, nil
}

// readValue reads a body that is a value or a part of one, for a command on a key. What can be refused without
// it has been. How long a value may be is for those to know who may write it.
func (x *exchange) readValue(c *engine.Command, key []byte) ([]byte, error) {
	if err := x.api.Gateway.Admit(&x.caller); err != nil {
		return nil, err
	}
	body, err := x.readBody(x.api.Gateway.MaxValue(&x.caller, x.cache()))
	if fault.Is(err, fault.TooLarge) {
		if refused := x.api.Gateway.Refusal(&x.caller, x.cache(), engine.Call{Command: c, Args: [][]byte{c.NameArg(), key, nil}}); refused != nil {
			x.charge() // as for a refusal by the cache itself
			return nil, refused
		}
	}
	return body, err
}

// contentTypeOf is the content type to keep with a value, empty for none.
func contentTypeOf(h http.Header) (string, error) {
	switch values := h["Content-Type"]; len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], checkContentType("Content-Type", values[0])
	default:
		return "", fault.About(fault.InvalidArgument, "kv.put", "Content-Type", "Content-Type is sent %d times", len(values))
	}
}

// checkContentType refuses what could not be kept and sent back as it is.
func checkContentType(at, s string) error {
	if len(s) > engine.MaxContentType {
		return fault.About(fault.TooLarge, "kv.put", at, "%s has at most %d bytes, this one has %d", at, engine.MaxContentType, len(s))
	}
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return fault.About(fault.InvalidArgument, "kv.put", at, "%s is printable ASCII; byte %d is %#02x", at, i, s[i])
		}
	}
	return nil
}

// AppendResult says what became of a value that was appended to.
type AppendResult struct {
	Size    int64  `json:"size" minimum:"0" example:"11"` // bytes of the whole value
	Created bool   `json:"created" example:"false"`       // true when there was none before
	ETag    string `json:"etag" example:"\"dq1x0k3f2a\""`
}

// readAppended reads the answer of KV.APPEND.
func readAppended(c *engine.Cursor) (AppendResult, error) {
	if t := c.Next(); t.Kind == engine.ReplyError {
		return AppendResult{}, t.Err
	}
	created, version, size := c.Next().Int, c.Next().Int, c.Next().Int
	return AppendResult{Size: size, Created: created == 1, ETag: etagOf(uint64(version))}, nil
}

// checkAppend refuses the one condition that KV.APPEND does not know.
func checkAppend(at string, conditions [][]byte) error {
	if len(conditions) == 1 {
		return fault.About(fault.InvalidArgument, "kv.append", at, "an append takes %s with tags, not with *", at)
	}
	return nil
}

// appendKV serves POST /v1/caches/:cache/kv/:key/append. The value keeps its content type and its TTL.
//
// @Summary     Append to a value
// @Description It keeps its content type and its TTL. Where there is none, it is made.
// @Tags        kv
// @Accept      octet-stream
// @Param       If-Match header string false "only if the value still has this ETag" maxlength(2048)
// @Param       value body string true "what to append"
// @Success     200 {object} AppendResult
// @Success     201 {object} AppendResult
// @Failure     default {object} Problem
// @Header      200,201 {string} ETag "the version of the value"
// @Router      /v1/caches/{cache}/kv/{key}/append [post]
func (x *exchange) appendKV() error {
	key, conditions, err := x.changeKV()
	if err != nil {
		return err
	}
	if err := checkAppend("If-Match", conditions); err != nil {
		return err
	}
	body, err := x.readValue(cmdKVAppend, key)
	if err != nil {
		return err
	}
	x.add(cmdKVAppend, append([][]byte{key, body}, conditions...)...)
	c, err := x.do()
	if err != nil {
		return err
	}
	appended, err := readAppended(&c)
	if err != nil {
		return err
	}
	x.Response().Header()["Etag"] = []string{appended.ETag}
	if appended.Created {
		return x.json(http.StatusCreated, appended)
	}
	return x.json(http.StatusOK, appended)
}

// changeKV reads what the requests that change the value of a key have in common.
func (x *exchange) changeKV() (key []byte, conditions [][]byte, err error) {
	if key, err = x.pathBytes("key"); err != nil {
		return nil, nil, err
	}
	if err := x.query().end(); err != nil {
		return nil, nil, err
	}
	h := x.Request().Header
	if len(h["If-None-Match"]) > 0 {
		return nil, nil, fault.About(fault.InvalidArgument, "kv.conditions", "If-None-Match", "If-None-Match is for GET, HEAD and PUT; use If-Match")
	}
	conditions, err = tagsOf("If-Match", h["If-Match"])
	return key, conditions, err
}

// deleteArgs are a deletion as KV.DEL takes it. A key that does not exist answers 404 whatever the condition
// is, as RFC 9110 wants of requests that would fail without it; so If-Match: * asks for nothing.
func deleteArgs(key []byte, conditions [][]byte) [][]byte {
	if len(conditions) == 1 {
		conditions = nil
	}
	return append([][]byte{key}, conditions...)
}

// deleteKV serves DELETE /v1/caches/:cache/kv/:key.
//
// @Summary     Delete a key
// @Description Of any type, unless If-Match names the version of a value.
// @Tags        kv
// @Param       If-Match header string false "only if the value still has this ETag" maxlength(2048)
// @Success     204 "deleted"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/kv/{key} [delete]
func (x *exchange) deleteKV() error {
	key, conditions, err := x.changeKV()
	if err != nil {
		return err
	}
	x.add(cmdKVDel, deleteArgs(key, conditions)...)
	return x.noContentUnlessZero(errNoKey)
}

// KeyTTL is how long a key still lives.
type KeyTTL struct {
	TTLMs *int64    `json:"ttl_ms" minimum:"0" example:"29500"`         // null when it does not expire
	TTL   *Duration `json:"ttl" swaggertype:"string" example:"29500ms"` // the same with its unit
}

// keyTTL is a TTL as PTTL tells it: -1 for ever.
func keyTTL(ms int64) KeyTTL {
	if ms < 0 {
		return KeyTTL{}
	}
	return KeyTTL{&ms, &Duration{ms, true}}
}

// readTTL reads the answer of PTTL.
func readTTL(c *engine.Cursor) (KeyTTL, error) {
	switch t := c.Next(); {
	case t.Kind == engine.ReplyError:
		return KeyTTL{}, t.Err
	case t.Int == -2:
		return KeyTTL{}, errNoKey
	default:
		return keyTTL(t.Int), nil
	}
}

// getTTL serves GET /v1/caches/:cache/kv/:key/ttl.
//
// @Summary     How long a key still lives
// @Tags        kv
// @Success     200 {object} KeyTTL
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/kv/{key}/ttl [get]
func (x *exchange) getTTL() error {
	key, err := x.keyAlone()
	if err != nil {
		return err
	}
	x.add(cmdPTTL, key)
	return x.answerTTL(readTTL)
}

// keyAlone reads the key of a route without parameters.
func (x *exchange) keyAlone() ([]byte, error) {
	key, err := x.pathBytes("key")
	if err != nil {
		return nil, err
	}
	return key, x.query().end()
}

func (x *exchange) answerTTL(read func(*engine.Cursor) (KeyTTL, error)) error {
	c, err := x.do()
	if err != nil {
		return err
	}
	ttl, err := read(&c)
	if err != nil {
		return err
	}
	return x.json(http.StatusOK, ttl)
}

// SetTTLRequest says how long a key lives from now on.
type SetTTLRequest struct {
	TTL Duration `json:"ttl" swaggertype:"string" example:"30s"`
	If  string   `json:"if,omitempty" enums:"nx,xx,gt,lt" example:"gt"` // only if it has no TTL, if it has one, if this one ends later, if this one ends earlier (for ever is latest)
}

// add asks PEXPIRE and, where its answer would leave open whether the key or the condition is wanting, PTTL.
func (r *SetTTLRequest) add(x *exchange, key []byte) error {
	if !r.TTL.Set {
		return fault.About(fault.InvalidArgument, "kv.ttl", "ttl", "ttl is missing; to let the key live for ever, use DELETE")
	}
	switch r.If {
	case "":
		x.add(cmdPExpire, key, integer(r.TTL.Ms))
	case "nx", "xx", "gt", "lt":
		x.add(cmdPExpire, key, integer(r.TTL.Ms), []byte(r.If))
		x.add(cmdPTTL, key)
	default:
		return fault.About(fault.InvalidArgument, "kv.ttl", "if", "if is nx, xx, gt or lt, not %.100q", r.If)
	}
	return nil
}

// read reads the answers. A caller that may set the TTL but not read it is not told whether the key exists.
func (r *SetTTLRequest) read(c *engine.Cursor) (KeyTTL, error) {
	switch t := c.Next(); {
	case t.Kind == engine.ReplyError:
		return KeyTTL{}, t.Err
	case t.Int == 1:
		return keyTTL(r.TTL.Ms), nil
	case r.If == "":
		return KeyTTL{}, errNoKey
	}
	if t := c.Next(); t.Kind == engine.ReplyInt && t.Int == -2 {
		return KeyTTL{}, errNoKey
	}
	return KeyTTL{}, fault.About(fault.PreconditionFailed, "kv.ttl", "if", "precondition failed: the TTL that the key has does not allow if=%s", r.If)
}

// setTTL serves PUT /v1/caches/:cache/kv/:key/ttl. What it takes may stand in the body or in the query.
//
// @Summary     Give a key a deadline
// @Description What it takes may stand in the body or in the query.
// @Tags        kv
// @Param       ttl query string false "how long it lives from now on" maxlength(32)
// @Param       if query string false "only if it has no TTL, if it has one, if this one ends later, if this one ends earlier" Enums(nx, xx, gt, lt)
// @Param       request body SetTTLRequest false "how long it lives from now on"
// @Success     200 {object} KeyTTL
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/kv/{key}/ttl [put]
func (x *exchange) setTTL() error {
	key, err := x.pathBytes("key")
	if err != nil {
		return err
	}
	q := x.query()
	ttl, timed := q.duration("ttl")
	condition, conditional := q.get("if")
	if err := q.end(); err != nil {
		return err
	}
	var req SetTTLRequest
	if err := x.decode(&req); err != nil {
		return err
	}
	switch {
	case timed && req.TTL.Set:
		return fault.About(fault.InvalidArgument, "kv.ttl", "ttl", "ttl stands in the body and in the query")
	case conditional && req.If != "":
		return fault.About(fault.InvalidArgument, "kv.ttl", "if", "if stands in the body and in the query")
	case timed:
		req.TTL = Duration{ttl, true}
	}
	if conditional {
		if req.If = condition; condition == "" {
			return fault.About(fault.InvalidArgument, "kv.ttl", "if", "if is nx, xx, gt or lt, not empty")
		}
	}
	if err := req.add(x, key); err != nil {
		return err
	}
	return x.answerTTL(req.read)
}

// readPersisted reads the answers of PERSIST and, for a key that had no TTL to lose, of PTTL.
func readPersisted(c *engine.Cursor) (KeyTTL, error) {
	t, left := c.Next(), c.Next()
	switch {
	case t.Kind == engine.ReplyError:
		return KeyTTL{}, t.Err
	case t.Int == 0 && (left.Kind != engine.ReplyInt || left.Int == -2):
		return KeyTTL{}, errNoKey
	}
	return KeyTTL{}, nil
}

// deleteTTL serves DELETE /v1/caches/:cache/kv/:key/ttl: the key lives until it is removed.
//
// @Summary     Let a key live for ever
// @Tags        kv
// @Success     204 "it has no deadline any more"
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/kv/{key}/ttl [delete]
func (x *exchange) deleteTTL() error {
	key, err := x.keyAlone()
	if err != nil {
		return err
	}
	x.add(cmdPersist, key)
	x.add(cmdPTTL, key)
	c, err := x.do()
	if err != nil {
		return err
	}
	if _, err := readPersisted(&c); err != nil {
		return err
	}
	return x.noContent()
}

// KeyEntry is a key in a list.
type KeyEntry struct {
	Key   Bytes  `json:"key" swaggertype:"string" example:"user:42"`
	Type  string `json:"type" enums:"string,hash,list,set,zset,stream,session,MBbloom--,MBbloomCF,CMSk-TYPE,TopK-TYPE,TDIS-TYPE,ReJSON-RL" example:"string"`
	TTLMs *int64 `json:"ttl_ms" minimum:"0" example:"29500"` // null when it does not expire
	Size  int64  `json:"size" minimum:"0" example:"11"`      // bytes of a string, a session's data or a JSON document; elements of the others
}

// KeyPage is a page of keys in no particular order.
type KeyPage struct {
	Keys       []KeyEntry `json:"keys"`                             // may be fewer than limit, even none, before the end
	NextCursor string     `json:"next_cursor" example:"1x4kq02m8z"` // empty at the end
}

// scanSteps bounds how many steps one page takes when nothing matches; each visits at most engine.MaxScanCount
// items.
const scanSteps = 10

// listKeys serves GET /v1/caches/:cache/kv. The guarantee is that of Redis's SCAN: a key that exists from the
// first page to the last is listed, and may be listed twice.
//
// @Summary     List keys
// @Description In no particular order. A key that exists from the first page to the last is listed; it may be listed twice.
// @Tags        kv
// @Param       prefix query string false "only keys that begin so" maxlength(32768)
// @Param       match query string false "only keys that match a pattern with * ? [a-z]" maxlength(1024)
// @Param       type query string false "only keys of this type" Enums(string, hash, list, set, zset, stream, session, MBbloom--, MBbloomCF, CMSk-TYPE, TopK-TYPE, TDIS-TYPE, ReJSON-RL)
// @Param       cursor query string false "next_cursor of the page before" maxlength(13)
// @Param       limit query int false "how many a page should hold" minimum(1) maximum(1000) default(100)
// @Success     200 {object} KeyPage
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/kv [get]
func (x *exchange) listKeys() error {
	q := x.query()
	prefix, match := q.text("prefix", ""), q.text("match", "")
	kind := q.one("type", append([]string{""}, engine.Types()...)...)
	limit := q.limit()
	at, err := parseKeyCursor(q.text("cursor", ""))
	q.fail(err)
	if err := q.end(); err != nil {
		return err
	}
	options := [][]byte{[]byte("COUNT"), integer(limit)}
	for _, o := range [][2]string{{"PREFIX", prefix}, {"MATCH", match}, {"TYPE", kind}} {
		if o[1] != "" {
			options = append(options, []byte(o[0]), []byte(o[1]))
		}
	}
	page := KeyPage{}
	for step := 0; step < scanSteps && len(page.Keys) == 0; step++ {
		x.restart()
		x.add(cmdKVScan, append([][]byte{at}, options...)...)
		c, err := x.do()
		if err != nil && step > 0 {
			break // what was passed over so far need not be visited again
		}
		if err != nil {
			return renamed(err, scanNames)
		}
		c.Next()
		at = []byte(string(c.Next().Bytes))
		for range c.Next().Int / 4 {
			page.Keys = append(page.Keys, KeyEntry{Key: c.Next().Bytes, Type: string(c.Next().Bytes), TTLMs: ttlOrNull(c.Next().Int), Size: c.Next().Int})
		}
		if string(at) == "0" {
			break
		}
	}
	page.NextCursor = formatKeyCursor(at)
	return x.json(http.StatusOK, page)
}

// scanNames says what the arguments of KV.SCAN are called here.
var scanNames = map[string]string{"COUNT": "limit", "PREFIX": "prefix", "MATCH": "match", "TYPE": "type", "pattern": "match"}

// renamed gives the argument at fault the name that this route has for it.
func renamed(err error, names map[string]string) error {
	e := *fault.From(err)
	if name, ok := names[e.Argument]; ok {
		e.Argument = name
	}
	return &e
}

// parseKeyCursor turns a cursor of ours into the engine's; the beginning of both is empty and 0.
func parseKeyCursor(s string) ([]byte, error) {
	if s == "" {
		return []byte("0"), nil
	}
	n, err := strconv.ParseUint(s, 36, 64)
	if err != nil || n == 0 || strconv.FormatUint(n, 36) != s {
		return nil, fault.About(fault.InvalidArgument, "kv.list", "cursor", "cursor must be the next_cursor of the page before")
	}
	return strconv.AppendUint(nil, n, 10), nil
}

// formatKeyCursor is the reverse.
func formatKeyCursor(at []byte) string {
	n, err := strconv.ParseUint(string(at), 10, 64)
	if err != nil || n == 0 {
		return ""
	}
	return strconv.FormatUint(n, 36)
}

// DeletedKeys says how many keys were removed.
type DeletedKeys struct {
	Deleted    int64  `json:"deleted" minimum:"0" example:"1500"`
	NextCursor string `json:"next_cursor,omitempty" example:""` // only when there was not time enough: where to go on
}

// prefixBudget is how long a deletion by prefix goes on before it answers, well within requestTimeout.
const prefixBudget = 20 * time.Second

// deleteKeys serves DELETE /v1/caches/:cache/kv: removes all keys with a prefix, in steps that let others in
// between. Keys that are written meanwhile may stay.
//
// @Summary     Delete all keys with a prefix
// @Description In steps that let others in between; keys written meanwhile may stay. Where next_cursor is not empty there was not time enough: ask again with it.
// @Tags        kv
// @Param       prefix query string true "keys that begin so" minlength(1) maxlength(32768) example(user:)
// @Param       cursor query string false "next_cursor of the answer before" maxlength(13)
// @Success     200 {object} DeletedKeys
// @Failure     default {object} Problem
// @Router      /v1/caches/{cache}/kv [delete]
func (x *exchange) deleteKeys() error {
	q := x.query()
	prefix := q.text("prefix", "")
	at, err := parseKeyCursor(q.text("cursor", ""))
	q.fail(err)
	if err := q.end(); err != nil {
		return err
	}
	switch {
	case prefix == "":
		return fault.About(fault.InvalidArgument, "kv.delete", "prefix", "prefix is missing or empty; to remove all keys, flush the cache")
	case len(prefix) > engine.MaxKey:
		return fault.About(fault.TooLarge, "kv.delete", "prefix", "prefix has at most %d bytes, as a key, not %d", engine.MaxKey, len(prefix))
	}
	var deleted DeletedKeys
	for {
		x.restart()
		x.add(cmdKVDelPrefix, at, []byte(prefix))
		c, err := x.do()
		if err != nil && x.steps > 1 {
			break // what is done is told, and where to go on
		}
		if err != nil {
			return err
		}
		c.Next()
		at = []byte(string(c.Next().Bytes))
		deleted.Deleted += c.Next().Int
		if string(at) == "0" || time.Since(x.began) > prefixBudget {
			break
		}
	}
	deleted.NextCursor = formatKeyCursor(at)
	return x.json(http.StatusOK, deleted)
}

// etagOf writes a version as a strong entity tag.
func etagOf(version uint64) string {
	var b [24]byte
	return string(append(strconv.AppendUint(append(b[:0], '"'), version, 36), '"'))
}

// parseETag reads one strong entity tag of ours. A tag that cannot be ours has version 0, which matches
// nothing.
func parseETag(s string) (version uint64) {
	if len(s) < 3 {
		return 0
	}
	version, err := strconv.ParseUint(s[1:len(s)-1], 36, 64)
	if err != nil || version > math.MaxInt64 || etagOf(version) != s {
		return 0
	}
	return version
}

// matches reports whether the tags of a header name etag. If-None-Match compares weakly, as RFC 9110 wants it,
// If-Match strongly.
func matches(headers []string, etag string, weakly bool) bool {
	for _, h := range headers {
		for tag := range strings.SplitSeq(h, ",") {
			tag = strings.TrimSpace(tag)
			if weakly {
				tag = strings.TrimPrefix(tag, "W/")
			}
			if tag == "*" || tag == etag {
				return true
			}
		}
	}
	return false
}

// conditionsOf turns If-Match and If-None-Match of a write into a command's options.
func conditionsOf(h http.Header) ([][]byte, error) {
	return conditions("If-Match", h["If-Match"], "If-None-Match", h["If-None-Match"])
}

// conditions are those of the headers or members match and none, as options of a command.
func conditions(match string, tags []string, none string, nones []string) ([][]byte, error) {
	if len(nones) > 0 {
		if len(nones) > 1 || strings.TrimSpace(nones[0]) != "*" {
			return nil, fault.About(fault.InvalidArgument, "httpapi.conditions", none, "a write takes %s: * only", none)
		}
		if len(tags) > 0 {
			return nil, fault.About(fault.InvalidArgument, "httpapi.conditions", none, "%s: * and %s exclude each other", none, match)
		}
		return [][]byte{[]byte("IFNONE")}, nil
	}
	return tagsOf(match, tags)
}

// maxTags bounds how many entity tags a condition names.
const maxTags = 64

// tagsOf are the tags of an If-Match as options of a command, IFANY alone for *.
func tagsOf(at string, headers []string) (options [][]byte, err error) {
	tags, any := 0, false
	for _, header := range headers {
		for tag := range strings.SplitSeq(header, ",") {
			if tags++; tags > maxTags {
				return nil, fault.About(fault.InvalidArgument, "httpapi.conditions", at, "%s holds at most %d tags", at, maxTags)
			}
			tag = strings.TrimSpace(tag)
			any = any || tag == "*"
			options = append(options, []byte("IFMATCH"), strconv.AppendUint(nil, parseETag(tag), 10))
		}
	}
	switch {
	case any && tags > 1:
		return nil, fault.About(fault.InvalidArgument, "httpapi.conditions", at, "%s is * alone, or a list of tags", at)
	case any:
		return [][]byte{[]byte("IFANY")}, nil
	}
	return options, nil
}

// A byteRange is one range of a Range header: the first and the last byte, or, when first is negative, the
// last -first bytes.
type byteRange struct{ first, last int64 }

// rangeOf returns the Range header if it is one range that we understand. Anything else is passed over, as
// RFC 9110 allows, and the whole value answers.
func rangeOf(h http.Header) (byteRange, bool) {
	if r := h["Range"]; len(r) == 1 {
		return parseRange(r[0])
	}
	return byteRange{}, false
}

func parseRange(s string) (r byteRange, ok bool) {
	unit, spec, _ := strings.Cut(s, "=")
	from, to, dash := strings.Cut(strings.TrimSpace(spec), "-")
	if !strings.EqualFold(unit, "bytes") || !dash {
		return r, false
	}
	if from == "" {
		n, ok := parsePosition(to)
		if n == 0 { // no byte of any value
			return byteRange{math.MaxInt64, math.MaxInt64}, ok
		}
		return byteRange{-n, -1}, ok
	}
	if r.first, ok = parsePosition(from); !ok {
		return r, false
	}
	if r.last = math.MaxInt64; to != "" {
		r.last, ok = parsePosition(to)
	}
	return r, ok && r.last >= r.first
}

// parsePosition reads digits; a number beyond 64 bits is as far as any.
func parsePosition(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return math.MaxInt64, true
	}
	return n, true
}

// in turns a range into positions in a value of size bytes; not ok when it has no byte of it.
func (r byteRange) in(size int64) (first, last int64, ok bool) {
	first, last = r.first, min(r.last, size-1)
	if first < 0 {
		first, last = max(0, size+first), size-1
	}
	return first, last, first <= last
}
