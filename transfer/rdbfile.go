package transfer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/larder-cache/larder/engine/rdb"
	"github.com/larder-cache/larder/internal/fault"
)

// maxPack is how long a text may be that is no element but a run of them, as servers pack them, in bytes.
const maxPack = 16 << 20

// LoadRDB loads an RDB file, and returns what follows it. The report is of what was done, also when there is an error.
func LoadRDB(ctx context.Context, r io.Reader, target Target, o Options) (*Report, []byte, error) {
	f, err := rdb.NewFile(r, rdb.Limits{Text: max(o.MaxValue, maxPack), Total: math.MaxInt64, Elements: math.MaxInt64})
	if err != nil {
		return nil, nil, damaged(err)
	}
	l := NewLoader(ctx, target, o, f.Offset)
	l.Report.Format, l.Report.Source = "rdb", fmt.Sprintf("RDB version %d", f.Version())
	for {
		err := l.record(f)
		if err == io.EOF {
			err = l.Flush()
			l.Report.Bytes = f.Offset()
			return &l.Report, f.Rest(), err
		}
		if err != nil {
			if flushed := l.Flush(); flushed != nil && !errors.As(err, new(*rdb.FileError)) {
				err = flushed
			}
			l.Report.Bytes = f.Offset()
			return &l.Report, nil, damaged(err)
		}
	}
}

// damaged says that a file is not right, where that is what an error is about.
func damaged(err error) error {
	var at *rdb.FileError
	if !errors.As(err, &at) {
		return err
	}
	for _, known := range []error{rdb.ErrFormat, rdb.ErrChecksum, rdb.ErrTooLarge} {
		if errors.Is(err, known) {
			return fault.About(fault.InvalidArgument, "transfer.rdb", "body", "the RDB file is damaged, or of a kind that is not known, at byte %d: %v", at.Offset, at.Err)
		}
	}
	return at.Err
}

// record loads what comes next.
func (l *Loader) record(f *rdb.File) error {
	r, err := f.Next()
	if err != nil {
		return err
	}
	switch r.Kind {
	case rdb.RecordAux:
		switch string(r.Key) {
		case "redis-ver":
			l.Report.Source = fmt.Sprintf("redis %.40s, %s", r.Text, l.Report.Source)
		case "valkey-ver":
			l.Report.Source = fmt.Sprintf("valkey %.40s, %s", r.Text, l.Report.Source)
		case "lua":
			return l.function("a script", Command{[]byte("SCRIPT"), []byte("LOAD"), r.Text})
		}
		return nil
	case rdb.RecordFunction:
		c := Command{[]byte("FUNCTION"), []byte("LOAD")}
		if l.o.Mode == Replace {
			c = append(c, []byte("REPLACE"))
		}
		return l.function("a library of functions", append(c, r.Text))
	case rdb.RecordModule:
		if l.o.wants(r.DB, r.Key) {
			l.Report.skip(fmt.Sprintf("the value of a module, %s", r.Text), string(r.Key), l.offset())
		} else {
			l.Report.Filtered++
		}
		return nil
	case rdb.RecordModuleAux:
		l.Report.note(fmt.Sprintf("what the module %s keeps beside its values was passed over", r.Text))
		return nil
	}
	at := f.Offset()
	p, wanted := l.value(r.DB, r.Key, r.ExpireAt, r.Type.Kind())
	if !wanted {
		return nil
	}
	switch err := f.Value(p); {
	case errors.Is(err, rdb.ErrTooLarge) && !errors.As(err, new(*rdb.FileError)):
		l.Report.skip(fmt.Sprintf("a text of more than %d bytes in the value", l.o.MaxValue), string(r.Key), at)
		return l.abandon(p, int(r.DB))
	case err != nil:
		return err
	}
	return p.finish()
}

// abandon removes what is stored of a value that turned out to be too large.
func (l *Loader) abandon(p *pieces, db int) error {
	if !p.begun {
		return nil
	}
	_, err := l.do(db, []Command{{[]byte("DEL"), p.key}}, false)
	return err
}

// LoadDatabase loads an RDB file and the commands that follow it, if any do: so Redis's append-only file may be written.
func LoadDatabase(ctx context.Context, r io.Reader, target Target, o Options) (*Report, []CommandError, error) {
	report, rest, err := LoadRDB(ctx, r, target, o)
	if err != nil {
		return report, nil, err
	}
	behind := bufio.NewReader(io.MultiReader(bytes.NewReader(rest), r))
	if _, err := behind.Peek(1); err == io.EOF {
		return report, nil, nil
	}
	more, failures, err := LoadCommands(ctx, behind, target, o)
	report.Commands, report.Bytes = more.Commands, report.Bytes+more.Bytes
	report.Skipped = append(report.Skipped, more.Skipped...)
	return report, failures, err
}
