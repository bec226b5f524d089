package transfer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ErrNoReplica says that a source lets nobody be its replica: then its keys have to be read one by one.
var ErrNoReplica = errors.New("the source takes no replica")

// A Migration brings what a running server holds into a target, and then what is written there.
type Migration struct {
	Source *Source
	Target Target
	Log    func(format string, args ...any) // tells people what is going on
	Told   func(Moved)                      // hears how far it is, often
	Limit  int64                            // bytes in one text of a value

	moved   atomic.Pointer[Moved]
	follows atomic.Int32 // how writes come over at present
}

// How writes come over.
const (
	followsNot int32 = iota
	followsAsReplica
	followsByScan
)

// settleTimeout bounds how long the target may be behind the source.
const settleTimeout = 2 * time.Minute

// settle waits until all has been repeated that the source has written by now, where that can be told.
func (m *Migration) settle(ctx context.Context, source *asked) error {
	if m.follows.Load() != followsAsReplica {
		return nil
	}
	text, err := source.info("replication", "master_repl_offset")
	if err != nil {
		return err
	}
	goal, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return nil // it does not say
	}
	for began := time.Now(); m.Now().Offset < goal; {
		if time.Since(began) > settleTimeout {
			return fmt.Errorf("the target is %d bytes behind the source for %v", goal-m.Now().Offset, settleTimeout)
		}
		if err := sleep(ctx, lingering/2); err != nil {
			return err
		}
	}
	return nil
}

// Moved is how far a migration is.
type Moved struct {
	Phase    string `json:"phase"`    // copying or following
	Keys     int64  `json:"keys"`     // that were copied
	Bytes    int64  `json:"bytes"`    // of the first copy
	Total    int64  `json:"total"`    // bytes of it, 0 if that is not known
	Commands int64  `json:"commands"` // that were repeated since
	Offset   int64  `json:"offset"`   // in the source's stream of writes
	Behind   int64  `json:"behind"`   // bytes of that stream that have not been repeated, when it was last looked
}

func (m *Migration) tell(change func(*Moved)) {
	now := Moved{}
	if p := m.moved.Load(); p != nil {
		now = *p
	}
	change(&now)
	m.moved.Store(&now)
	if m.Told != nil {
		m.Told(now)
	}
}

// Now is how far the migration is.
func (m *Migration) Now() Moved {
	if p := m.moved.Load(); p != nil {
		return *p
	}
	return Moved{}
}

func (m *Migration) options() Options {
	o := Options{Mode: Replace, MaxValue: m.Limit, Now: time.Now, PutOff: putOff}
	if m.Source.DB >= 0 {
		o.DBs = []int{m.Source.DB}
	}
	return o
}

// putOff is by how many milliseconds the deadlines of keys are put off while a source is followed. Like any replica, the target
// is told by the source when a key is gone; should it be behind, a key must not have gone by itself whose life is prolonged by
// what is still to come.
const putOff = 30_000

// Replicate acts as a replica of the source: first a copy of all it holds, then every write in its order. caughtUp is called
// once, when the copy is there and all has been repeated that was written until then. It returns when ctx ends, or when
// something goes wrong; ErrNoReplica is only returned before anything has been done.
func (m *Migration) Replicate(ctx context.Context, report *Report, caughtUp func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c, err := m.Source.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, args := range [][]string{{"REPLCONF", "listening-port", "0"}, {"REPLCONF", "capa", "eof", "capa", "psync2"}} {
		if _, err := c.do(args...); err != nil && !isAnswer(err) {
			return err
		}
	}
	said, err := c.do("PSYNC", "?", "-1")
	if isAnswer(err) {
		return fmt.Errorf("%w: %w", ErrNoReplica, err)
	}
	if err != nil {
		return err
	}
	word, _ := said.([]byte)
	fields := strings.Fields(string(word))
	if len(fields) != 3 || fields[0] != "FULLRESYNC" {
		return fmt.Errorf("%w: PSYNC answers %.100q", ErrNoReplica, word)
	}
	offset, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil {
		return fmt.Errorf("PSYNC answers %.100q", word)
	}
	m.Log("The source sends a copy of all it holds.")
	rest, err := m.copy(ctx, c, report)
	if err != nil {
		return fmt.Errorf("the copy: %w", err)
	}
	m.follows.Store(followsAsReplica)
	defer m.follows.Store(followsNot)
	m.Log("The copy is there: %d keys. Now what was written meanwhile, and what is going to be.", report.Keys)
	return m.follow(ctx, c, io.MultiReader(bytes.NewReader(rest), c.r), offset, report, caughtUp)
}

func isAnswer(err error) bool {
	var e ServerError
	return errors.As(err, &e)
}

// copy reads the RDB file that begins a replication, and returns what was read behind it.
func (m *Migration) copy(ctx context.Context, c *conn, report *Report) (rest []byte, err error) {
	var head string
	for head == "" { // while the file is made, there are signs of life
		if head, err = c.line(); err != nil {
			return nil, err
		}
	}
	if head[0] != '$' {
		return nil, fmt.Errorf("the source sends %.100q in the place of a file", head)
	}
	o := m.options()
	total := int64(0)
	o.Told = func(p Progress) {
		m.tell(func(now *Moved) { now.Phase, now.Keys, now.Bytes, now.Total = "copying", p.Keys, p.Bytes, total })
	}
	mark, toMark := strings.CutPrefix(head, "$EOF:")
	if toMark && len(mark) != 40 {
		return nil, fmt.Errorf("the source sends %.100q in the place of a file", head)
	}
	file := io.Reader(c.r)
	if !toMark {
		if total, err = strconv.ParseInt(head[1:], 10, 64); err != nil || total < 0 {
			return nil, fmt.Errorf("the source sends %.100q in the place of a file", head)
		}
		file = io.LimitReader(c.r, total)
	}
	made, rest, err := LoadRDB(ctx, file, m.Target, o)
	if made != nil {
		*report = *made
	}
	if err != nil {
		return nil, err
	}
	if !toMark {
		if len(rest) > 0 || report.Bytes != total {
			return nil, errors.New("the file is shorter than was said")
		}
		return nil, nil
	}
	behind := io.MultiReader(bytes.NewReader(rest), c.r)
	end := make([]byte, len(mark))
	if _, err := io.ReadFull(behind, end); err != nil {
		return nil, err
	}
	if subtle.ConstantTimeCompare(end, []byte(mark)) != 1 {
		return nil, errors.New("the file does not end with the mark that was announced")
	}
	return rest[min(len(rest), len(mark)):], nil
}

// How often the source hears how far we are, and how long commands wait to be sent together.
const (
	ackEvery  = time.Second
	lingering = 20 * time.Millisecond
)

// follow repeats the source's writes.
func (m *Migration) follow(ctx context.Context, c *conn, r io.Reader, offset int64, report *Report, caughtUp func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	read := &commandReader{r: bufio.NewReaderSize(r, maxLine), limit: max(m.Limit, 64<<20)}
	o := m.options()
	p := &replayer{Loader: NewLoader(ctx, m.Target, o, func() int64 { return offset + read.offset })}
	p.Report = *report
	defer func() { *report = p.Report }()
	var done atomic.Int64 // offset up to which all has been repeated
	done.Store(offset)
	go func() {
		for sleep(ctx, ackEvery) == nil {
			if c.send(command("REPLCONF", "ACK", strconv.FormatInt(done.Load(), 10))) != nil {
				return // the reader finds out
			}
		}
	}()
	if err := c.send(command("REPLCONF", "ACK", strconv.FormatInt(offset, 10))); err != nil {
		return err
	}
	goal, goals := int64(-1), make(chan int64, 1)
	go m.watch(ctx, goals)
	incoming := make(chan replicated, 16)
	go func() { receive(ctx, read, incoming) }()
	wake := time.NewTicker(lingering)
	defer wake.Stop()
	last := offset
	flush := func() error {
		if p.whole { // until its end has come
			return nil
		}
		if err := p.flush(); err != nil {
			return err
		}
		done.Store(last)
		m.tell(func(now *Moved) {
			now.Phase, now.Keys, now.Commands, now.Offset = "following", p.Report.Keys, p.Report.Commands, last
			now.Behind = max(goal-last, 0)
		})
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case goal = <-goals:
		case <-wake.C:
			if err := flush(); err != nil {
				return err
			}
			if goal >= 0 && last >= goal && !p.whole && caughtUp != nil {
				caughtUp()
				caughtUp = nil
			}
		case in := <-incoming:
			if in.err != nil {
				return errors.Join(in.err, flush())
			}
			if err := m.repeat(c, p, in.command, offset+in.end); err != nil {
				return err
			}
			last = offset + in.end
		}
	}
}

// replicated is a command of the source's stream, which ends at a place of it.
type replicated struct {
	command Command
	end     int64
	err     error
}

func receive(ctx context.Context, read *commandReader, to chan<- replicated) {
	for {
		c, err := read.next()
		select {
		case to <- replicated{c, read.offset, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// repeat has a command of the source's stream carried out.
func (m *Migration) repeat(c *conn, p *replayer, cmd Command, end int64) error {
	switch name := strings.ToUpper(string(cmd[0])); name {
	case "PING":
		return nil
	case "REPLCONF":
		if len(cmd) > 1 && strings.EqualFold(string(cmd[1]), "GETACK") {
			return c.send(command("REPLCONF", "ACK", strconv.FormatInt(end, 10)))
		}
		return nil
	case "PUBLISH", "SPUBLISH", "SCRIPT": // whoever listens, listens there
		return nil
	case "SELECT", "MULTI", "EXEC":
	case "PEXPIREAT", "RESTORE", "SET":
		prolong(name, cmd)
		fallthrough
	default:
		if m.Source.DB >= 0 && p.db != m.Source.DB {
			return nil
		}
	}
	return p.take(cmd)
}

// prolong puts the deadline off that a command gives a key.
func prolong(name string, cmd Command) {
	at := 0
	switch {
	case name == "PEXPIREAT" && len(cmd) > 2:
		at = 2
	case name == "RESTORE" && len(cmd) > 4 && string(cmd[2]) != "0":
		for _, option := range cmd[4:] {
			if strings.EqualFold(string(option), "ABSTTL") {
				at = 2
			}
		}
	case name == "SET":
		for i := 3; i+1 < len(cmd); i++ {
			if strings.EqualFold(string(cmd[i]), "PXAT") {
				at = i + 1
			}
		}
	}
	if n, err := strconv.ParseInt(string(cmd[at]), 10, 64); at > 0 && err == nil && n > 0 {
		cmd[at] = strconv.AppendInt(nil, later(n, putOff), 10)
	}
}

// watch tells now and then how far the source's stream is; 0 when it does not say.
func (m *Migration) watch(ctx context.Context, goals chan<- int64) {
	c, err := m.Source.dial(ctx)
	if err == nil {
		defer c.Close()
	}
	for {
		goal := int64(0)
		if err == nil {
			var text string
			if text, err = c.info("replication", "master_repl_offset"); err == nil {
				goal, _ = strconv.ParseInt(text, 10, 64)
			}
		}
		select {
		case goals <- goal:
		case <-ctx.Done():
			return
		}
		if err != nil || sleep(ctx, ackEvery) != nil {
			return
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
