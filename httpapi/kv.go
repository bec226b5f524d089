package httpapi

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

func (a *API) kvRoutes() []route {
	const one = "/v1/caches/:cache/kv/:key"
	return []route{
		{method: http.MethodGet, path: one, serve: (*exchange).getKV},
		{method: http.MethodHead, path: one, serve: (*exchange).getKV},
		{method: http.MethodPut, path: one, serve: (*exchange).putKV},
		{method: http.MethodDelete, path: one, serve: (*exchange).deleteKV},
	}
}

var (
	cmdKVGet = engine.MustLookup("KV.GET")
	cmdKVSet = engine.MustLookup("KV.SET")
	cmdKVDel = engine.MustLookup("KV.DEL")
)

// maxContentType bounds the Content-Type that is kept with a value, in bytes.
const maxContentType = 255

// getKV serves GET and HEAD /v1/caches/:cache/kv/:key.
func (x *exchange) getKV() error {
	key, err := x.pathBytes("key")
	if err != nil {
		return err
	}
	if err := x.query().end(); err != nil {
		return err
	}
	r := x.Request()
	span, ranged := "", false
	switch {
	case r.Method == http.MethodHead:
		x.add(cmdKVGet, key, []byte("META"))
	default:
		if span, ranged = wantedRange(r.Header); !ranged {
			x.add(cmdKVGet, key)
			break
		}
		first, last, ok := parseRange(span)
		if ranged = ok; !ok { // several ranges, or none that we understand: the whole value answers, as RFC 9110 allows
			x.add(cmdKVGet, key)
			break
		}
		x.add(cmdKVGet, key, []byte("RANGE"), strconv.AppendInt(nil, first, 10), strconv.AppendInt(nil, last, 10))
	}
	c, err := x.do()
	if err != nil {
		return err
	}
	if c.Next().Kind != engine.ReplyArray {
		return fault.New(fault.NotFound, "kv.get", "there is no such key, or it has expired")
	}
	version, ttl, contentType, size := c.Next().Int, c.Next().Int, c.Next().Bytes, c.Next().Int
	data := c.Next().Bytes
	h := x.Response().Header()
	etag := etagOf(uint64(version))
	h["Etag"] = []string{etag}
	h["Accept-Ranges"] = []string{"bytes"}
	noStore(h)
	if ttl >= 0 {
		h["X-Larder-Ttl-Ms"] = []string{strconv.FormatInt(ttl, 10)}
	}
	if match := r.Header["If-None-Match"]; len(match) > 0 && matches(match, etag) {
		x.Response().WriteHeader(http.StatusNotModified)
		return nil
	}
	if len(contentType) == 0 {
		h["Content-Type"] = octetStream
	} else {
		h["Content-Type"] = []string{string(contentType)}
	}
	status := http.StatusOK
	if ranged {
		first, last, _ := parseRange(span)
		first, last, ok := resolveRange(first, last, size)
		if !ok {
			h["Content-Range"] = []string{"bytes */" + strconv.FormatInt(size, 10)}
			return fault.About(fault.RangeUnsatisfiable, "kv.get", "Range", "the value has %d bytes; the range %.100q begins beyond them", size, span)
		}
		h["Content-Range"] = []string{"bytes " + strconv.FormatInt(first, 10) + "-" + strconv.FormatInt(last, 10) + "/" + strconv.FormatInt(size, 10)}
		status, size = http.StatusPartialContent, int64(len(data))
	}
	h["Content-Length"] = []string{strconv.FormatInt(size, 10)}
	x.Response().WriteHeader(status)
	_, err = x.Response().Write(data)
	return err
}

var octetStream = []string{"application/octet-stream"}

// putKV serves PUT /v1/caches/:cache/kv/:key.
func (x *exchange) putKV() error {
	key, err := x.pathBytes("key")
	if err != nil {
		return err
	}
	q := x.query()
	ttl, timed := q.duration("ttl")
	if err := q.end(); err != nil {
		return err
	}
	r := x.Request()
	contentType := r.Header.Get("Content-Type")
	if len(contentType) > maxContentType {
		return fault.About(fault.TooLarge, "kv.put", "Content-Type", "a content type has at most %d bytes, this one has %d", maxContentType, len(contentType))
	}
	conditions, err := conditionsOf(r.Header)
	if err != nil {
		return err
	}
	if err := x.api.Gateway.Admit(&x.caller); err != nil {
		return err
	}
	body, err := x.readBody(x.api.Gateway.MaxValue(&x.caller, x.cache()))
	if err != nil {
		return err
	}
	args := [][]byte{key, body}
	if contentType != "" {
		args = append(args, []byte("TYPE"), []byte(contentType))
	}
	if timed {
		args = append(args, []byte("PX"), strconv.AppendInt(nil, ttl, 10))
	}
	x.add(cmdKVSet, append(args, conditions...)...)
	c, err := x.do()
	if err != nil {
		return err
	}
	c.Next()
	created, version := c.Next().Int, c.Next().Int
	x.Response().Header()["Etag"] = []string{etagOf(uint64(version))}
	if created == 1 {
		x.Response().WriteHeader(http.StatusCreated)
		return nil
	}
	return x.noContent()
}

// deleteKV serves DELETE /v1/caches/:cache/kv/:key.
func (x *exchange) deleteKV() error {
	key, err := x.pathBytes("key")
	if err != nil {
		return err
	}
	if err := x.query().end(); err != nil {
		return err
	}
	conditions, err := conditionsOf(x.Request().Header)
	if err != nil {
		return err
	}
	x.add(cmdKVDel, append([][]byte{key}, conditions...)...)
	c, err := x.do()
	if err != nil {
		return err
	}
	if c.Next().Int == 0 {
		return fault.New(fault.NotFound, "kv.delete", "there is no such key, or it has expired")
	}
	return x.noContent()
}

// etagOf writes a version as a strong entity tag.
func etagOf(version uint64) string {
	var b [24]byte
	return string(append(strconv.AppendUint(append(b[:0], '"'), version, 36), '"'))
}

// parseETag reads one strong entity tag of ours. A tag that cannot be ours has version 0, which matches
// nothing.
func parseETag(s string) (version uint64) {
	if len(s) < 3 || s[0] != '"' || s[len(s)-1] != '"' {
		return 0
	}
	version, err := strconv.ParseUint(s[1:len(s)-1], 36, 64)
	if err != nil {
		return 0
	}
	return version
}

// matches reports whether the tags of an If-None-Match header name etag. The comparison is weak, as RFC 9110
// wants it here.
func matches(headers []string, etag string) bool {
	for _, h := range headers {
		for tag := range strings.SplitSeq(h, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == "*" || tag == etag {
				return true
			}
		}
	}
	return false
}

// conditionsOf turns If-Match and If-None-Match of a write into a command's options.
func conditionsOf(h http.Header) (options [][]byte, err error) {
	if none := h["If-None-Match"]; len(none) > 0 {
		if len(none) > 1 || strings.TrimSpace(none[0]) != "*" {
			return nil, fault.About(fault.InvalidArgument, "httpapi.conditions", "If-None-Match", "a write takes If-None-Match: * only")
		}
		options = append(options, []byte("IFNONE"))
	}
	tags := 0
	for _, header := range h["If-Match"] {
		for tag := range strings.SplitSeq(header, ",") {
			if tags++; tags > 64 {
				return nil, fault.About(fault.InvalidArgument, "httpapi.conditions", "If-Match", "If-Match holds at most 64 tags")
			}
			if tag = strings.TrimSpace(tag); tag == "*" {
				options = append(options, []byte("IFANY"))
				continue
			}
			options = append(options, []byte("IFMATCH"), strconv.AppendUint(nil, parseETag(tag), 10))
		}
	}
	return options, nil
}

// wantedRange returns the Range header if it is to be honoured: a range under an If-Range is not, because it
// would need a second look at the value.
func wantedRange(h http.Header) (string, bool) {
	r := h["Range"]
	if len(r) != 1 || len(h["If-Range"]) > 0 {
		return "", false
	}
	return r[0], true
}

// parseRange reads a Range of one part as first and last byte, counted from the end when negative.
func parseRange(s string) (first, last int64, ok bool) {
	spec, found := strings.CutPrefix(s, "bytes=")
	from, to, dash := strings.Cut(strings.TrimSpace(spec), "-")
	if !found || !dash || strings.Contains(to, ",") {
		return 0, 0, false
	}
	number := func(t string) (int64, bool) {
		n, err := strconv.ParseInt(t, 10, 64)
		return n, err == nil && n >= 0 && t[0] != '+'
	}
	if from == "" {
		n, ok := number(to)
		return -n, -1, ok
	}
	if first, ok = number(from); !ok {
		return 0, 0, false
	}
	if to == "" {
		return first, -1, true
	}
	last, ok = number(to)
	return first, last, ok && last >= first
}

// resolveRange turns what parseRange read into positions in a value of size bytes; not ok when no byte is in
// it.
func resolveRange(first, last, size int64) (from, to int64, ok bool) {
	if first < 0 {
		first = max(0, size+first)
	} else if last < 0 {
		last = size - 1
	}
	if last < 0 || last >= size {
		last = size - 1
	}
	return first, last, first <= last && first < size
}
