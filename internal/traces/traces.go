// Package traces reads recorded requests of caches and makes synthetic ones, so that eviction policies can be
// compared by the share of requests that they answer.
//
// A Trace holds requests as small integers: the distinct keys numbered in the order of their first request.
// All items count as equal in size. Start with Read; synthetic.go holds the patterns that are made up.
package traces

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
)

// A Trace is a sequence of requests.
type Trace struct {
	Name     string
	Requests []uint32 // of keys 0 to Distinct-1
	Distinct int
}

// A Format says how a file spells requests.
type Format string

// The formats, one request or one run of requests on a line.
const (
	ARC  Format = "arc"  // "first count ignored ignored": count requests of consecutive blocks, as in the traces of the ARC paper
	Keys Format = "keys" // one key, any text
)

// Formats lists the formats' names.
func Formats() []string { return []string{string(ARC), string(Keys)} }

// Bounds of what Read accepts: a file is from outside, and ours is the memory.
const (
	MaxLine     = 64 << 10 // bytes in a line
	MaxRun      = 1 << 20  // blocks in one line of an ARC trace
	MaxRequests = 1 << 30
)

// Open reads the trace in a file, "-" being in, whether it is gzipped or not.
func Open(name string, in io.Reader, format Format) (*Trace, error) {
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	t, err := Read(in, format)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t.Name = name
	return t, nil
}

// Read reads a trace, whether it is gzipped or not. Errors name the line.
func Read(r io.Reader, format Format) (*Trace, error) {
	if format != ARC && format != Keys {
		return nil, fmt.Errorf("no trace format %q; there are %v", format, Formats())
	}
	in := bufio.NewReaderSize(r, 64<<10)
	if magic, err := in.Peek(2); err == nil && magic[0] == 0x1f && magic[1] == 0x8b {
		unzipped, err := gzip.NewReader(in)
		if err != nil {
			return nil, err
		}
		in = bufio.NewReaderSize(unzipped, 64<<10)
	}
	t := &Trace{}
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 4096), MaxLine)
	line := 0
	numbers := map[uint64]uint32{} // by block
	names := map[string]uint32{}   // by key
	for lines.Scan() {
		line++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		if format == Keys {
			id, ok := names[string(text)]
			if !ok {
				id = uint32(len(names))
				names[string(text)] = id
			}
			t.Requests = append(t.Requests, id)
		} else {
			first, count, err := parseRun(text)
			if err != nil {
				return nil, fmt.Errorf("line %d: %w", line, err)
			}
			for b := first; b < first+count; b++ {
				id, ok := numbers[b]
				if !ok {
					id = uint32(len(numbers))
					numbers[b] = id
				}
				t.Requests = append(t.Requests, id)
			}
		}
		if len(t.Requests) > MaxRequests {
			return nil, fmt.Errorf("line %d: more than %d requests", line, MaxRequests)
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		return nil, fmt.Errorf("line %d: longer than %d bytes", line+1, MaxLine)
	} else if err != nil {
		return nil, fmt.Errorf("after line %d: %w", line, err)
	}
	if len(t.Requests) == 0 {
		return nil, errors.New("no requests in it")
	}
	t.Distinct = len(numbers) + len(names)
	return t, nil
}

// parseRun parses a line of an ARC trace.
func parseRun(text []byte) (first, count uint64, err error) {
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0, 0, fmt.Errorf("%.60q is not \"first count …\"", text)
	}
	if first, err = strconv.ParseUint(string(fields[0]), 10, 64); err != nil {
		return 0, 0, fmt.Errorf("%.60q is no block number", fields[0])
	}
	if count, err = strconv.ParseUint(string(fields[1]), 10, 64); err != nil || count > MaxRun || first > math.MaxUint64-count {
		return 0, 0, fmt.Errorf("%.60q is no number of blocks up to %d", fields[1], MaxRun)
	}
	return first, count, nil
}
