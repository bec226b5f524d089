package httpapi

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"
	"strings"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// maxIdempotencyKey bounds the Idempotency-Key header, in bytes.
const maxIdempotencyKey = 255

// once makes the request take effect once if the client sent an Idempotency-Key. The key belongs to the
// principal; what it was used for is the method, the path with its query, the headers that matter and the
// body. A request that takes several steps is remembered step by step: when it is repeated, those that were
// done answer again, and the rest is done.
func (x *exchange) once() error {
	x.request.Once = nil
	r := x.Request()
	keys := r.Header["Idempotency-Key"]
	if len(keys) == 0 || r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	if len(keys) > 1 || len(keys[0]) == 0 || len(keys[0]) > maxIdempotencyKey {
		return fault.About(fault.InvalidArgument, "httpapi.once", "Idempotency-Key", "Idempotency-Key is sent once and has 1 to %d bytes", maxIdempotencyKey)
	}
	h, who := r.Header, x.who()
	x.request.Once = &engine.Once{
		Key: digest([]byte(who.TenantID), []byte(who.ID), []byte(keys[0]), integer(int64(x.steps))),
		Fingerprint: digest([]byte(r.Method), []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery),
			joined(h["If-Match"]), joined(h["If-None-Match"]), joined(h["Content-Type"]), x.body),
	}
	return nil
}

func joined(values []string) []byte { return []byte(strings.Join(values, ",")) }

// digest is a fingerprint of parts, each with its length.
func digest(parts ...[]byte) (sum [16]byte) {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write(p)
	}
	copy(sum[:], h.Sum(nil))
	return sum
}

// unkeyed refuses an Idempotency-Key where nothing would heed it: what manages is not remembered, and a client
// that believes so would make two keys where it wants one.
func (x *exchange) unkeyed(row route) error {
	if r := x.Request(); row.manage && r.Method != http.MethodGet && len(r.Header["Idempotency-Key"]) > 0 {
		return fault.About(fault.InvalidArgument, "httpapi.once", "Idempotency-Key", "management takes no Idempotency-Key: look before you try again")
	}
	return nil
}
