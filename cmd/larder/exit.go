package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
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

// exitStatus says how a command that ended with err ends the process.
func exitStatus(err error) int {
	var usage *usageError
	var setting *settingError
	var silent silentError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &silent):
		return int(silent)
	case errors.As(err, &usage), errors.As(err, &setting):
		return exitUsage
	}
	return exitFailed
}

// A usageError says that a command was called wrongly.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func misuse(format string, args ...any) error { return &usageError{fmt.Errorf(format, args...)} }

// A silentError ends the process with a status; what there is to say has been printed.
type silentError int

func (e silentError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// oneLine is an error's text without line breaks, so that one line of a log holds it.
func oneLine(err error) string {
	return strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
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
