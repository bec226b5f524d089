package larder

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// PresignLife is how long a presigned password lets in.
const PresignLife = 15 * time.Minute

// PresignPassword makes a password for the Redis and memcached protocols that opens one cache from a moment on, for
// PresignLife. It is made here: the server is not asked, and the API key goes nowhere. A connection that it let in lasts
// twelve hours at most, unless it logs in anew. The user to log in with is the cache.
//
// The password is the query of an AWS signature of version 4 for the service "larder", so that the signers of AWS SDKs make
// it as well: the access key is the API key's id, and the secret is the SHA-256 of the API key's text in hexadecimal.
func PresignPassword(apiKey, cache string, from time.Time) (string, error) {
	parts := strings.Split(apiKey, "_")
	if len(parts) != 4 || parts[0] != "lk" || len(parts[2]) != 12 {
		return "", fmt.Errorf("larder: presign: this is no API key: only keys sign, tokens do not")
	}
	if cache == "" || strings.ContainsAny(cache, "/?#:@% .") {
		return "", fmt.Errorf("larder: presign: %q is no name of a cache", cache)
	}
	const service, region = "larder", "larder" // any region will do
	id, digest := parts[2], sha256.Sum256([]byte(apiKey))
	at := from.UTC().Format("20060102T150405Z")
	scope := at[:8] + "/" + region + "/" + service + "/aws4_request"
	query := url.Values{
		"Action": {"connect"}, "User": {id}, "X-Amz-Algorithm": {"AWS4-HMAC-SHA256"}, "X-Amz-Credential": {id + "/" + scope},
		"X-Amz-Date": {at}, "X-Amz-Expires": {fmt.Sprint(int(PresignLife / time.Second))}, "X-Amz-SignedHeaders": {"host"},
	}.Encode()
	nothing := sha256.Sum256(nil)
	request := sha256.Sum256([]byte("GET\n/\n" + query + "\nhost:" + cache + "\n\nhost\n" + hex.EncodeToString(nothing[:])))
	key := []byte("AWS4" + hex.EncodeToString(digest[:]))
	for _, text := range []string{at[:8], region, service, "aws4_request", "AWS4-HMAC-SHA256\n" + at + "\n" + scope + "\n" + hex.EncodeToString(request[:])} {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		key = h.Sum(nil)
	}
	return cache + "/?" + query + "&X-Amz-Signature=" + hex.EncodeToString(key), nil
}
