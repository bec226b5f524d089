package transfer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/larder-cache/larder/internal/fault"
)

// Bounds of a command that is read.
const (
	maxCommandArgs = 1 << 20
	maxCommandMore = 64 << 20 // bytes in all arguments beyond the longest value
	maxLine        = 64 << 10
)

// A commandReader reads commands as clients send them and as servers replicate and log them.
type commandReader struct {
	r      *bufio.Reader
	limit  int64 // bytes in one argument
	offset int64
}

var errCommands = errors.New("these are no commands as Redis clients send them")

func (c *commandReader) bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errCommands, fmt.Sprintf(format, args...))
}

// next reads a command; io.EOF is the end between two.
func (c *commandReader) next() (Command, error) {
	for {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		switch {
		case len(line) == 0 || line[0] == '#': // a sign of life, or a note of a server's log
		case line[0] == '*':
			return c.array(line[1:])
		default:
			var args Command
			for _, f := range bytes.Fields(line) {
				args = append(args, bytes.Clone(f))
			}
			if len(args) > 0 {
				return args, nil
			}
		}
	}
}

// line reads a line without its end.
func (c *commandReader) line() ([]byte, error) {
	line, err := c.r.ReadSlice('\n')
	c.offset += int64(len(line))
	switch {
	case err == io.EOF && len(line) == 0:
		return nil, io.EOF
	case err == io.EOF:
		return nil, io.ErrUnexpectedEOF
	case err == bufio.ErrBufferFull:
		return nil, c.bad("a line of more than %d bytes", c.r.Size())
	case err != nil:
		return nil, err
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (c *commandReader) array(count []byte) (Command, error) {
	n, err := strconv.ParseInt(string(count), 10, 64)
	if err != nil || n < 1 || n > maxCommandArgs {
		return nil, c.bad("a command of %.20q arguments", count)
	}
	var args Command
	total := int64(0)
	for range n {
		line, err := c.line()
		if err != nil {
			return nil, unexpected(err)
		}
		size, err := strconv.ParseInt(strings.TrimPrefix(string(line), "$"), 10, 64)
		if err != nil || line[0] != '$' || size < 0 {
			return nil, c.bad("an argument begins with %.20q", line)
		}
		if total += size; size > c.limit || total > c.limit+maxCommandMore {
			return nil, fault.About(fault.TooLarge, "transfer.commands", "body", "at byte %d: an argument has at most %d bytes, a command %d", c.offset, c.limit, c.limit+maxCommandMore)
		}
		arg, err := c.bytes(size + 2)
		if err != nil {
			return nil, err
		}
		if string(arg[size:]) != "\r\n" {
			return nil, c.bad("an argument of %d bytes is longer", size)
		}
		args = append(args, arg[:size:size])
	}
	return args, nil
}

// bytes reads n bytes, and allocates as they come.
func (c *commandReader) bytes(n int64) ([]byte, error) {
	if n <= maxLine {
		b := make([]byte, n)
		got, err := io.ReadFull(c.r, b)
		c.offset += int64(got)
		return b, unexpected(err)
	}
	var b bytes.Buffer
	got, err := io.CopyN(&b, c.r, n)
	c.offset += got
	return b.Bytes(), unexpected(err)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A CommandError says what became of a command.
type CommandError struct {
	Index   int64  `json:"index" example:"17"` // of the command, from 0
	Code    string `json:"code" example:"conflict"`
	Prefix  string `json:"prefix,omitempty" example:"BUSYKEY"` // of the error, where it is not the code's
	Message string `json:"message" example:"Target key name already exists."`
}

// maxErrors is how many of them a report has.
const maxErrors = 1000

// A replayer carries commands out as they come.
type replayer struct {
	*Loader
	errors []CommandError
	index  int64 // of the next command
	from   int64 // of the batch's first
	whole  bool  // the batch is a transaction
}

// LoadCommands carries out commands as clients send them: what is between MULTI and EXEC is done as a whole. A file of Redis's
// log of commands may begin with an RDB file. The end may be missing between two commands, and not inside of one.
func LoadCommands(ctx context.Context, r io.Reader, target Target, o Options) (*Report, []CommandError, error) {
	read := &commandReader{r: bufio.NewReaderSize(r, maxLine), limit: o.MaxValue}
	p := &replayer{Loader: NewLoader(ctx, target, o, func() int64 { return read.offset })}
	p.Report.Format = "commands"
	for {
		c, err := read.next()
		if err == nil {
			err = p.take(c)
		}
		if err == nil {
			continue
		}
		if err == io.EOF && p.whole {
			p.batch, err = nil, fault.About(fault.InvalidArgument, "transfer.commands", "body", "at byte %d: the commands end inside of a transaction, which was not carried out", read.offset)
		}
		if err == io.EOF || errors.Is(err, errCommands) || err == io.ErrUnexpectedEOF { // what stands before is right
			if flushed := p.flush(); flushed != nil {
				err = flushed
			}
		}
		if p.Report.Bytes = read.offset; err == io.EOF {
			return &p.Report, p.errors, nil
		}
		if errors.Is(err, errCommands) || err == io.ErrUnexpectedEOF {
			err = fault.About(fault.InvalidArgument, "transfer.commands", "body", "at byte %d: %v", read.offset, err)
		}
		return &p.Report, p.errors, err
	}
}

// take takes the next command.
func (p *replayer) take(c Command) error {
	p.index++
	switch name := strings.ToUpper(string(c[0])); {
	case name == "MULTI" && len(c) == 1 && !p.whole:
		if err := p.flush(); err != nil {
			return err
		}
		p.whole, p.from = true, p.index
		return nil
	case name == "EXEC" && len(c) == 1 && p.whole:
		err := p.flush()
		p.whole, p.from = false, p.index
		return err
	case name == "SELECT" && len(c) == 2:
		if err := p.flush(); err != nil {
			return err
		}
		db, err := strconv.ParseUint(string(c[1]), 10, 31)
		if err != nil {
			return p.bad("no database %.20q", c[1])
		}
		p.db, p.from = int(db), p.index
		return nil
	}
	if len(p.batch) == 0 && !p.whole {
		p.from = p.index - 1
	}
	p.batch, p.size = append(p.batch, c), p.size+c.size()
	const longest = 64 << 20
	if p.whole && (len(p.batch) > maxCommandArgs || p.size > longest+int(p.o.MaxValue)) {
		return fault.About(fault.TooLarge, "transfer.commands", "body", "at byte %d: a transaction has at most %d commands and %d bytes", p.offset(), maxCommandArgs, longest)
	}
	if !p.whole && (len(p.batch) >= batchCommands || p.size >= batchBytes) {
		return p.flush()
	}
	return nil
}

func (p *replayer) bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errCommands, fmt.Sprintf(format, args...))
}

// flush carries out what has come.
func (p *replayer) flush() error {
	if len(p.batch) == 0 {
		return nil
	}
	results, err := p.do(p.db, p.batch, p.whole)
	if e := fault.From(err); err != nil && p.whole && e.Kind != fault.Internal && e.Kind != fault.OutcomeUnknown {
		p.failed(p.from, p.batch[0], e)
		results, err = nil, nil
	}
	if err != nil {
		return err
	}
	for i, failure := range results {
		if failure != nil {
			p.failed(p.from+int64(i), p.batch[i], fault.From(failure))
		} else {
			p.Report.Commands++
		}
	}
	clear(p.batch)
	p.batch, p.size = p.batch[:0], 0
	p.from = p.index
	p.told()
	return nil
}

func (p *replayer) failed(index int64, c Command, e *fault.Error) {
	reason := e.Message
	if e.Kind == fault.Denied {
		reason = p.Report.deny(e)
	}
	p.Report.skip(reason, fmt.Sprintf("command %d, %.40s", index, c[0]), p.offset())
	if len(p.errors) < maxErrors {
		p.errors = append(p.errors, CommandError{index, e.Kind.String(), e.Prefix, e.Message})
	}
}
