package transfer

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/larder-cache/larder/engine"
	"github.com/larder-cache/larder/engine/rdb"
	"github.com/larder-cache/larder/internal/fault"
)

// Bounds of what is sent at once, and of how long a target may have no time.
const (
	batchCommands = 256
	batchBytes    = 256 << 10

	hopeless = 1000 // keys of which none could be stored

	patience    = 2 * time.Minute
	firstPause  = 50 * time.Millisecond
	longestWait = 5 * time.Second
)

// A Loader stores values in a target: small ones in batches, large ones piece by piece. What it has stored stays, whatever
// becomes of the rest.
type Loader struct {
	Report Report

	ctx    context.Context
	target Target
	o      Options
	offset func() int64 // in the source, for reports
	db     int
	batch  []Command
	owners []owner // of the batch's commands
	size   int
}

// An owner is the value that a command stores.
type owner struct {
	key  []byte
	kind rdb.Kind
	at   int64
}

// NewLoader makes a loader. offset tells how far the source is read.
func NewLoader(ctx context.Context, target Target, o Options, offset func() int64) *Loader {
	return &Loader{Report: Report{ByType: map[string]int64{}, Skipped: []Skipped{}}, ctx: ctx, target: target, o: o, offset: offset}
}

// value begins a value that is wanted, and tells whether it is: then end ends it.
func (l *Loader) value(db uint64, key []byte, expireAt int64, kind rdb.Kind) (p *pieces, wanted bool) {
	switch {
	case !l.o.wants(db, key):
		l.Report.Filtered++
	case expireAt != 0 && expireAt <= l.o.Now().UnixMilli():
		l.Report.Expired++
	case db >= engine.Databases:
		l.Report.skip(fmt.Sprintf("a database beyond %d", engine.Databases-1), string(key), l.offset())
	case len(key) == 0:
		l.Report.skip("an empty key", "", l.offset())
	case len(key) > engine.MaxKey:
		l.Report.skip(fmt.Sprintf("a key of more than %d bytes", engine.MaxKey), string(key), l.offset())
	default:
		if expireAt != 0 {
			expireAt = later(expireAt, l.o.PutOff)
		}
		own := owner{key, kind, l.offset()}
		p = &pieces{key: key, expireAt: expireAt, replace: l.o.Mode == Replace, kind: kind}
		dead := false
		p.send = func(first, last bool, commands ...Command) error {
			if dead {
				return nil
			}
			done, err := l.piece(int(db), own, first, last, commands)
			dead = !done
			return err
		}
		return p, true
	}
	return nil, false
}

// piece sends commands of a value, and reports whether it goes on with the next.
func (l *Loader) piece(db int, own owner, first, last bool, commands []Command) (goOn bool, err error) {
	if first && last {
		return true, l.queue(db, own, commands[0])
	}
	if err := l.Flush(); err != nil {
		return false, err
	}
	for len(commands) > 0 {
		n := min(len(commands), batchCommands)
		results, err := l.do(db, commands[:n], false)
		if err != nil {
			return false, err
		}
		for _, failure := range results {
			if failure == nil {
				continue
			}
			if !first { // what is there of the value is not the value
				if _, err := l.do(db, []Command{{[]byte("DEL"), own.key}}, false); err != nil {
					return false, err
				}
			}
			return false, l.settle(own, failure)
		}
		commands = commands[n:]
	}
	if last {
		return true, l.settle(own, nil)
	}
	l.told()
	return true, nil
}

// queue puts a command that stores a whole value into the batch.
func (l *Loader) queue(db int, own owner, c Command) error {
	size := c.size()
	if db != l.db || len(l.batch) >= batchCommands || len(l.batch) > 0 && l.size+size > batchBytes {
		if err := l.Flush(); err != nil {
			return err
		}
	}
	l.db, l.size = db, l.size+size
	l.batch, l.owners = append(l.batch, c), append(l.owners, own)
	return nil
}

// Flush sends the batch.
func (l *Loader) Flush() error {
	if len(l.batch) == 0 {
		return nil
	}
	results, err := l.do(l.db, l.batch, false)
	if err != nil {
		return err
	}
	for i, failure := range results {
		if err := l.settle(l.owners[i], failure); err != nil {
			return err
		}
	}
	clear(l.batch)
	l.batch, l.owners, l.size = l.batch[:0], l.owners[:0], 0
	l.told()
	return nil
}

func (l *Loader) told() {
	if l.o.Told != nil {
		l.o.Told(Progress{Keys: l.Report.Keys, Bytes: l.offset()})
	}
}

// settle counts what became of a value. An error ends the import.
func (l *Loader) settle(own owner, failure error) error {
	if failure == nil {
		l.Report.counted(kindNames[own.kind])
		return nil
	}
	e := fault.From(failure)
	switch {
	case e.Kind == fault.Denied && l.Report.Keys == 0 && l.Report.Left() > hopeless: // not a single key may be stored
		return e
	case e.Prefix == "BUSYKEY" && l.o.Mode == Skip:
		l.Report.skip("the key exists", string(own.key), own.at)
	case e.Prefix == "BUSYKEY":
		return fault.About(fault.Conflict, "transfer.load", "key", "at byte %d: the key %.200q exists already: say whether such keys are to be replaced or skipped", own.at, own.key)
	case e.Kind == fault.Denied:
		l.Report.skip(l.Report.deny(e), string(own.key), own.at)
	case e.Kind == fault.TooLarge || e.Kind == fault.InvalidArgument || e.Kind == fault.NotSupported || e.Kind == fault.WrongType || e.Kind == fault.Conflict:
		l.Report.skip(e.Message, string(own.key), own.at)
	default:
		at := *e
		at.Message = fmt.Sprintf("at byte %d, at the key %.200q: %s", own.at, own.key, e.Message)
		return &at
	}
	return nil
}

// do has commands carried out, and waits while the target has no time for them.
func (l *Loader) do(db int, commands []Command, whole bool) ([]error, error) {
	return persist(l.ctx, func() ([]error, error) { return l.target.Do(l.ctx, db, commands, whole) })
}

// persist tries again while nothing was done because there was no time or no way.
func persist(ctx context.Context, do func() ([]error, error)) ([]error, error) {
	for began, pause := time.Now(), firstPause; ; pause = min(2*pause, longestWait) {
		results, err := do()
		e := fault.From(err)
		if err == nil || e.Kind != fault.Throttled && e.Kind != fault.Unavailable || time.Since(began) > patience {
			return results, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(max(pause, min(e.RetryAfter, longestWait))):
		}
	}
}

// function loads a library, or a script of an old file.
func (l *Loader) function(what string, c Command) error {
	if err := l.Flush(); err != nil {
		return err
	}
	results, err := l.do(0, []Command{c}, false)
	if err != nil {
		return err
	}
	if results[0] != nil {
		l.Report.skip(what+" that does not load: "+fault.From(results[0]).Message, "", l.offset())
		return nil
	}
	l.Report.Functions++
	return nil
}

// later puts a deadline off.
func later(at, by int64) int64 { return min(at, math.MaxInt64-by) + by }
