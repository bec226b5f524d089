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
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	key, err := idempotencyKey(r)
	if err != nil || key == "" {
		return err
	}
	who := x.who()
	x.request.Once = &engine.Once{
		Key:         digest([]byte(who.TenantID), []byte(who.ID), []byte(key), integer(int64(x.steps))),
		Fingerprint: x.fingerprint(),
	}
	return nil
}

// idempotencyKey is the key that the client sent; empty if it sent none.
func idempotencyKey(r *http.Request) (string, error) {
	keys := r.Header["Idempotency-Key"]
	if len(keys) == 0 {
		return "", nil
	}
	if len(keys) > 1 || len(keys[0]) == 0 || len(keys[0]) > maxIdempotencyKey {
		return "", fault.About(fault.InvalidArgument, "httpapi.once", "Idempotency-Key", "Idempotency-Key is sent once and has 1 to %d bytes", maxIdempotencyKey)
	}
	return keys[0], nil
}

// fingerprint tells requests apart whose body was read, as far as they ask for different things.
func (x *exchange) fingerprint() [16]byte {
	r := x.Request()
	h := r.Header
	return digest([]byte(r.Method), []byte(r.URL.EscapedPath()), []byte(r.URL.RawQuery),
		joined(h["If-Match"]), joined(h["If-None-Match"]), joined(h["Content-Type"]), x.body)
}

// errKeyReused is what the engine says as well, of data.
var errKeyReused = fault.New(fault.KeyReused, "httpapi.once", "this idempotency key was used for another request within the last %d hours", int(engine.OnceWindow.Hours()))

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
