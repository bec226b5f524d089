// Package logs makes the process's logger: text for people, JSON for machines, and never in the way.
//
// Lines go through a bounded queue to a writer goroutine, so that a blocked terminal, pipe or disk holds up
// nobody; lines that find the queue full are dropped and counted, and the count is logged when there is room
// again.
package logs

import (
	"io"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// queueLength is how many lines may wait for the writer.
const queueLength = 4096

// A Writer is an io.Writer that never blocks.
type Writer struct {
	to      io.Writer
	lines   chan []byte
	dropped atomic.Int64 // lines, since the last one was written
	done    chan struct{}
	once    sync.Once
}

// allDropped counts the lines that were dropped in this process.
var allDropped atomic.Int64

// Dropped is how many lines of this process were dropped because the log was blocked.
func Dropped() int64 { return allDropped.Load() }

// NewWriter starts the goroutine that writes to to.
func NewWriter(to io.Writer) *Writer {
	w := &Writer{to: to, lines: make(chan []byte, queueLength), done: make(chan struct{})}
	go w.run()
	return w
}

func (w *Writer) run() {
	defer close(w.done)
	for line := range w.lines {
		if n := w.dropped.Swap(0); n > 0 {
			_, _ = io.WriteString(w.to, "larder: "+strconv.FormatInt(n, 10)+" log lines were dropped because the log was blocked\n")
		}
		_, _ = w.to.Write(line)
	}
}

// Write queues a copy of line, or drops it. It never fails.
func (w *Writer) Write(line []byte) (int, error) {
	select {
	case w.lines <- append([]byte(nil), line...):
	default:
		w.dropped.Add(1)
		allDropped.Add(1)
	}
	return len(line), nil
}

// closeTime is how long the end of a process waits for a log that is blocked.
const closeTime = 2 * time.Second

// Close writes what is queued and ends the goroutine, or leaves both behind when the log does not take it within closeTime:
// somebody waits for the process to end. Nothing may be written later.
func (w *Writer) Close() {
	w.once.Do(func() { close(w.lines) })
	select {
	case <-w.done:
	case <-time.After(closeTime):
	}
}

// Formats lists the formats that New knows; auto means text where standard error, which the lines of a process go
// to, is a terminal, and JSON elsewhere.
var Formats = []string{"auto", "text", "json"}

// New makes a logger that writes to w in a format, from a level on.
func New(w io.Writer, format string, level slog.Level) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if format == "auto" {
		format = "json"
		if info, err := os.Stderr.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			format = "text"
		}
	}
	if format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
