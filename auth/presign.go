package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// The bounds of a presigned password (specification A41).
const (
	PresignedLife = 15 * time.Minute // in which it lets in
	PresignedStay = 12 * time.Hour   // of a connection that it let in, until the client logs in anew

	maxPresigned     = 2048 // bytes
	presignedService = "larder"
	presignedDate    = "20060102T150405Z"
)

// MethodPresigned is how a caller proved who it is that came with a presigned password.
const MethodPresigned = "presigned"

// A presigned password is a request to connect, signed by the holder of an API key who keeps the key to itself: the query of
// an AWS signature of version 4, without its scheme. Its secret is the SHA-256 of the key's text in hexadecimal, which is
// what we have of a key, and its service is "larder". So the signers of AWS SDKs make such passwords, as for ElastiCache:
//
//	main/?Action=connect&User=<key id>&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=<key id>/20261127/eu1/larder/aws4_request
//	    &X-Amz-Date=20261127T080000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=<64 hexadecimal digits>
//
// It opens one cache as one key, as often as it is shown while it lives.
type presigned struct {
	cache, key string
	date       string // of the scope
	region     string
	at         time.Time
	life       time.Duration
	canonical  string // what was signed, but for the algorithm's name
	signature  [sha256.Size]byte
}

// looksPresigned tells a presigned password from other credentials, none of which has a slash.
func looksPresigned(text string) bool { return strings.Contains(text, "/?") }

var errPresigned = refuse(Malformed, "presigned: not of the form cache/?query with Action, User and X-Amz-…, each once")

// parsePresigned reads a presigned password. Nothing in it is known to be true yet.
func parsePresigned(text string) (*presigned, error) {
	host, query, ok := strings.Cut(text, "/?")
	if len(text) > maxPresigned || !ok || !validName(host) || strings.Contains(host, ".") {
		return nil, errPresigned
	}
	values, err := url.ParseQuery(query)
	if err != nil || len(values) != 8 {
		return nil, errPresigned
	}
	one := func(name string) string {
		if v := values[name]; len(v) == 1 {
			return v[0]
		}
		return ""
	}
	if one("Action") != "connect" || one("X-Amz-Algorithm") != "AWS4-HMAC-SHA256" || one("X-Amz-SignedHeaders") != "host" {
		return nil, errPresigned
	}
	p := &presigned{cache: host}
	scope := strings.Split(one("X-Amz-Credential"), "/")
	if len(scope) != 5 || scope[3] != presignedService || scope[4] != "aws4_request" || len(scope[2]) < 1 || len(scope[2]) > 64 {
		return nil, refuse(Malformed, "presigned: the credential is not id/date/region/larder/aws4_request")
	}
	p.key, p.date, p.region = scope[0], scope[1], scope[2]
	if len(p.key) != keyIDLen || !alphanumeric(p.key) || one("User") != p.key {
		return nil, refuse(Malformed, "presigned: the user is not the key that signs")
	}
	date := one("X-Amz-Date")
	if p.at, err = time.Parse(presignedDate, date); err != nil || !strings.HasPrefix(date, p.date+"T") {
		return nil, refuse(Malformed, "presigned: the date is not that of the credential")
	}
	seconds, err := strconv.Atoi(one("X-Amz-Expires"))
	if err != nil || seconds < 1 || seconds > int(PresignedLife/time.Second) {
		return nil, refuse(LivesTooLong, "presigned: it expires after less than 1 or more than 900 seconds")
	}
	p.life = time.Duration(seconds) * time.Second
	if n, err := hex.Decode(p.signature[:], []byte(one("X-Amz-Signature"))); err != nil || n != len(p.signature) {
		return nil, refuse(Malformed, "presigned: the signature is not 64 hexadecimal digits")
	}
	delete(values, "X-Amz-Signature")
	p.canonical = "GET\n/\n" + strings.ReplaceAll(values.Encode(), "+", "%20") + "\nhost:" + host + "\n\nhost\n" + emptyDigest
	return p, nil
}

// emptyDigest is the SHA-256 of nothing, which is what the signed request has for a body.
const emptyDigest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

// fits reports whether the holder of a key signed it. With a nil digest, the caller's way to say that there is no such key,
// it does the same work.
func (p *presigned) fits(stored *Digest) bool {
	secret, known := &nobody, stored != nil
	if known {
		secret = stored
	}
	sum := sha256.Sum256([]byte(p.canonical))
	key := []byte("AWS4" + hex.EncodeToString(secret[:]))
	for _, part := range []string{p.date, p.region, presignedService, "aws4_request"} {
		key = sign(key, part)
	}
	scope := p.date + "/" + p.region + "/" + presignedService + "/aws4_request"
	want := sign(key, "AWS4-HMAC-SHA256\n"+p.at.Format(presignedDate)+"\n"+scope+"\n"+hex.EncodeToString(sum[:]))
	return hmac.Equal(want, p.signature[:]) && known
}

func sign(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// lives says why a presigned password does not let in at this moment, or nil.
func (p *presigned) lives(now time.Time) error {
	switch {
	case now.Before(p.at.Add(-MaxLeeway)):
		return refuse(NotYetValid, "presigned: signed in the future")
	case !now.Before(p.at.Add(p.life)):
		return refuse(Expired, "presigned: signed too long ago")
	}
	return nil
}

// presignedPrincipal makes the principal of a connection that a presigned password lets in, now.
func (s *Store) presignedPrincipal(signed *presigned, now time.Time) (*Principal, error) {
	var stored *Digest
	key, ok := s.key(signed.key)
	if ok {
		stored = &key.digest
	}
	if !signed.fits(stored) {
		return nil, refuse(BadSignature, "presigned: no such key, or not signed by it")
	}
	if err := signed.lives(now); err != nil {
		return nil, err
	}
	p, err := s.keyPrincipal(signed.key, key.digest, now)
	if err != nil {
		return nil, err
	}
	p.visit(MethodPresigned, now.Add(PresignedStay))
	return p, nil
}
