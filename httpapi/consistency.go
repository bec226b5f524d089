package httpapi

import (
	"strconv"
	"strings"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/internal/fault"
)

// How current the answers to reads are is said in a header, or in the query of routes that read theirs; else it is the
// cache's default. The answer says in the same header what it was, where that was asked or is not linearizable.
const (
	consistencyHeader = "X-Larder-Consistency"
	consistencyQuery  = "consistency"
)

// parseConsistency reads the name of a level.
func parseConsistency(argument, name string) (engine.Consistency, error) {
	level, ok := engine.ParseConsistency(name)
	if !ok {
		return 0, fault.About(fault.InvalidArgument, "httpapi.consistency", argument, "%s is one of %s, not %.100q", argument, strings.Join(engine.Consistencies(), ", "), name)
	}
	return level, nil
}

// wanted is how current the request wants its reads to be: the query outweighs the header.
func (x *exchange) wanted() (engine.Consistency, error) {
	headers := x.Request().Header[consistencyHeader]
	switch {
	case x.level != engine.DefaultConsistency || len(headers) == 0:
		return x.level, nil
	case len(headers) > 1:
		return 0, fault.About(fault.InvalidArgument, "httpapi.consistency", consistencyHeader, "%s is given %d times", consistencyHeader, len(headers))
	}
	return parseConsistency(consistencyHeader, headers[0])
}

// tellConsistency says what the answer is.
func (x *exchange) tellConsistency() {
	r := &x.request
	x.was, x.age = max(x.was, r.Was), max(x.age, r.AgeMs)
	if x.was == engine.DefaultConsistency && r.Consistency == engine.DefaultConsistency {
		return
	}
	x.header(consistencyHeader, string(appendConsistency(nil, x.was, x.age)))
}

// appendConsistency writes what an answer was, as a structured field: a token, and for a replica's its age in seconds.
func appendConsistency(dst []byte, was engine.Consistency, ageMs int64) []byte {
	dst = append(dst, max(was, engine.Linearizable).String()...)
	if was == engine.Eventual {
		dst = append(dst, "; age="...)
		dst = strconv.AppendFloat(dst, float64(ageMs)/1000, 'f', 3, 64)
	}
	return dst
}
