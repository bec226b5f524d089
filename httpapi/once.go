package httpapi

import (
	"crypto/sha256"
	"encoding/binary"
	"net/http"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// maxIdempotencyKey bounds the Idempotency-Key header, in bytes.
const maxIdempotencyKey = 255

// once makes the request take effect once if the client sent an Idempotency-Key. The key belongs to the
// principal; what it was used for is the method, the path with its query, the conditions and the body.
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
	who := x.who()
	x.request.Once = &engine.Once{
		Key:         digest(string(who.TenantID), who.ID, keys[0]),
		Fingerprint: digest(r.Method, r.URL.EscapedPath(), r.URL.RawQuery, r.Header.Get("If-Match"), r.Header.Get("If-None-Match"), string(x.body)),
	}
	return nil
}

// digest is a fingerprint of parts, each with its length.
func digest(parts ...string) (sum [16]byte) {
	h := sha256.New()
	for _, p := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		h.Write([]byte(p))
	}
	copy(sum[:], h.Sum(nil))
	return sum
}
