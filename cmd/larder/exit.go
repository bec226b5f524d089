package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	larder "github.com/larder-cache/larder/sdk"
)

// The exit statuses. `larder help` documents them.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3
	exitDenied   = 4
	exitConflict = 5
)

// statusOf says how the process ends after an answer of the server that says no. Codes that are not here end
// it with exitFailed.
var statusOf = map[error]int{
	larder.ErrInvalidArgument:    exitUsage,
	larder.ErrOutOfRange:         exitUsage,
	larder.ErrNotFound:           exitNotFound,
	larder.ErrUnauthenticated:    exitDenied,
	larder.ErrDenied:             exitDenied,
	larder.ErrConflict:           exitConflict,
	larder.ErrPreconditionFailed: exitConflict,
	larder.ErrWrongType:          exitConflict,
}

// exitStatus says how a command that ended with err ends the process.
func exitStatus(err error) int {
	var usage *usageError
	var setting *settingError
	var status *statusError
	var answer *larder.Error
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &status):
		return status.status
	case errors.As(err, &usage), errors.As(err, &setting):
		return exitUsage
	case errors.As(err, &answer):
		if s, ok := statusOf[answer.Code]; ok {
			return s
		}
	}
	return exitFailed
}

// A usageError says that a command was called wrongly.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func misuse(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// A statusError ends the process with a status. Its err is nil if what there is to say has been printed.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *statusError) Unwrap() error { return e.err }

// complaint is an error as people read it: one line, which begins with who says it, once.
func complaint(err error) string {
	parts := strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' })
	text := strings.TrimPrefix(strings.Join(parts, "; "), "larder: ")
	if text == "" {
		return ""
	}
	return "larder: " + text + "\n"
}

// trimLines is help's text as written in a raw string that begins on a line of its own.
func trimLines(s string) string { return strings.TrimSpace(s) }

// writeJSON prints v for programs.
func writeJSON(out io.Writer, v any) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
