// Package fault is the one list of what can go wrong, and of how each protocol says it.
//
// An error carries a Kind to branch on, a message for the client and a cause for our own log. The table in
// this file gives every Kind its HTTP status and stable code, its Redis prefix and its memcached line; no
// other place maps errors, so a new kind is one new row.
//
// A message says what was wrong, with which argument, and what the limit is. It never holds a secret, and it
// never tells a caller without permission whether something exists.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what sort of thing went wrong. The zero Kind is Internal: an error nobody classified is our bug.
type Kind uint8

// The kinds. Their HTTP, Redis and memcached faces stand in table below.
const (
	Internal           Kind = iota // a bug of ours; the message is not shown
	InvalidArgument                // malformed, unknown, missing or contradictory input
	OutOfRange                     // an argument beyond its bounds
	NotFound                       // no such key, cache, member, route
	WrongType                      // the key holds another type of value
	Overflow                       // the result would leave the bounds of the stored number
	Conflict                       // it exists already, or was changed meanwhile
	Aborted                        // an atomic batch in which another operation failed
	PreconditionFailed             // If-Match, If-None-Match and their like
	Unauthenticated                // no credential, or not a valid one
	Denied                         // the credential may not do this
	Throttled                      // over a request or bandwidth limit; retry later
	OutOfMemory                    // the cache is full and its policy does not evict
	TooLarge                       // a body, value, key or argument over its limit
	KeyReused                      // an idempotency key that belongs to another request
	MethodNotAllowed               // the route exists, the method does not
	UnsupportedMedia               // a content type or encoding we do not read
	RangeUnsatisfiable             // a Range header outside the value
	Timeout                        // the client took too long to send, or its deadline passed before we began
	Unavailable                    // cannot be served now; nothing was changed
	OutcomeUnknown                 // a write that may or may not have happened
	NotSupported                   // a known command or option that Larder does not offer
	NoCredentials                  // a command before login
	CrossSlot                      // what is done in one step has keys in several slots, and the cache has several slot ranges
	numKinds
)

// A Face is how a kind looks from outside.
type Face struct {
	Code      string // stable, snake_case: HTTP's "code" member, metrics' label
	Title     string // RFC 9457 title: the kind in a few words, the same for every error of the kind
	Status    int    // HTTP status
	Redis     string // first word of a Redis error
	Memcached string // memcached's line, up to its message: "SERVER_ERROR", "CLIENT_ERROR", "NOT_FOUND"
}

var table = [numKinds]Face{
	Internal:           {"internal", "Internal error", 500, "ERR", "SERVER_ERROR"},
	InvalidArgument:    {"invalid_argument", "Invalid argument", 400, "ERR", "CLIENT_ERROR"},
	OutOfRange:         {"out_of_range", "Out of range", 400, "ERR", "CLIENT_ERROR"},
	NotFound:           {"not_found", "Not found", 404, "ERR", "NOT_FOUND"},
	WrongType:          {"wrong_type", "Wrong type", 409, "WRONGTYPE", "CLIENT_ERROR"},
	Overflow:           {"overflow", "Overflow", 409, "ERR", "CLIENT_ERROR"},
	Conflict:           {"conflict", "Conflict", 409, "ERR", "EXISTS"},
	Aborted:            {"aborted", "Aborted", 409, "EXECABORT", "SERVER_ERROR"},
	PreconditionFailed: {"precondition_failed", "Precondition failed", 412, "ERR", "EXISTS"},
	Unauthenticated:    {"unauthenticated", "Unauthenticated", 401, "WRONGPASS", "CLIENT_ERROR"},
	Denied:             {"denied", "Permission denied", 403, "NOPERM", "CLIENT_ERROR"},
	Throttled:          {"throttled", "Too many requests", 429, "ERR", "SERVER_ERROR"},
	OutOfMemory:        {"out_of_memory", "Cache is full", 507, "OOM", "SERVER_ERROR"},
	TooLarge:           {"too_large", "Too large", 413, "ERR", "SERVER_ERROR"},
	KeyReused:          {"idempotency_key_reused", "Idempotency key reused", 422, "ERR", "CLIENT_ERROR"},
	MethodNotAllowed:   {"method_not_allowed", "Method not allowed", 405, "ERR", "ERROR"},
	UnsupportedMedia:   {"unsupported_media_type", "Unsupported media type", 415, "ERR", "CLIENT_ERROR"},
	RangeUnsatisfiable: {"range_not_satisfiable", "Range not satisfiable", 416, "ERR", "CLIENT_ERROR"},
	Timeout:            {"timeout", "Timeout", 408, "ERR", "SERVER_ERROR"},
	Unavailable:        {"unavailable", "Unavailable", 503, "TRYAGAIN", "SERVER_ERROR"},
	OutcomeUnknown:     {"outcome_unknown", "Outcome unknown", 504, "UNKNOWN", "SERVER_ERROR"},
	NotSupported:       {"not_supported", "Not supported", 501, "ERR", "ERROR"},
	NoCredentials:      {"unauthenticated", "Unauthenticated", 401, "NOAUTH", "CLIENT_ERROR"},
	CrossSlot:          {"cross_slot", "Keys in different slots", 409, "CROSSSLOT", "CLIENT_ERROR"},
}

// Face returns how k looks from outside.
func (k Kind) Face() Face {
	if k >= numKinds {
		k = Internal
	}
	return table[k]
}

func (k Kind) String() string { return k.Face().Code }

// Kinds lists every kind, for tests and for the reference page.
func Kinds() []Kind {
	kinds := make([]Kind, numKinds)
	for i := range kinds {
		kinds[i] = Kind(i)
	}
	return kinds
}

// An Error is one failure.
type Error struct {
	Kind       Kind
	Op         string        // where it failed, "counter.add"; for our log
	Message    string        // for the client
	Argument   string        // the argument at fault, in the client's own words; may be empty
	Prefix     string        // a Redis error prefix that differs from the kind's ("BUSYGROUP"), or Bare; usually empty
	RetryAfter time.Duration // for Throttled and Unavailable: when a retry makes sense; zero means unsaid
	Err        error         // the cause, for our log only
}

// Bare in the place of a prefix says that Redis's error has none: its message stands alone, as many of its modules' do.
const Bare = "-"

// New makes an error of kind, with op for the log and a message for the client.
func New(kind Kind, op, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Message: fmt.Sprintf(format, args...)}
}

// About makes an error that names the argument at fault.
func About(kind Kind, op, argument, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Argument: argument, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an error with a cause, which stays in our log.
func Wrap(kind Kind, op string, cause error, format string, args ...any) *Error {
	return &Error{Kind: kind, Op: op, Message: fmt.Sprintf(format, args...), Err: cause}
}

// Error is for logs; clients get Message through their protocol's face.
func (e *Error) Error() string {
	s := e.Kind.String()
	if e.Op != "" {
		s = e.Op + ": " + s
	}
	if e.Message != "" {
		s += ": " + e.Message
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Redis is the error as a Redis client reads it, without the leading "-".
func (e *Error) Redis() string {
	prefix := e.Prefix
	if prefix == "" {
		prefix = e.Kind.Face().Redis
	}
	switch {
	case e.Kind == Internal:
		return prefix + " internal error"
	case prefix == Bare:
		return e.Message
	}
	if e.Message == "" && e.Prefix != "" { // a script's own error may be one word
		return prefix
	}
	return prefix + " " + e.Message
}

// From returns err as an *Error; what nobody classified becomes Internal with err as its cause. From(nil) is nil.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Message: "internal error", Err: err}
}

// KindOf returns the kind of err, Internal when nobody classified it.
func KindOf(err error) Kind { return From(err).Kind }

// Is reports whether err is an error of kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
