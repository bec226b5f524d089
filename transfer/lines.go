package transfer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/larder-cache/larder/engine/rdb"
	"github.com/larder-cache/larder/internal/fault"
)

// JSON lines have a key on each line: docs/guides/import-export.md explains them. A text is a string, or {"base64": "…"} where
// it is not UTF-8 or has control characters. Members come in this order, those in brackets only where they have something to say:
//
//	{["db": 3,] "key": text, "type": name, ["expires_at": milliseconds since 1970,] …, "value": …}
//
// The value of each type, and what stands before it:
//
//	string       text; "content_type", "flags" before it
//	list, set    [text, …]
//	hash         [[field, value], [field, value, deadline], …]
//	zset         [[member, score], …]; a score is a number, "inf" or "-inf"
//	leaderboard  the same, the first to come first; "ties", "keep", "keep_order" before it
//	stream       {"entries": [[id, [name, value, …]], …], "last_id": id, "max_deleted_id": id, "entries_added": n, "groups": [group, …]}
//	json         the document
//	session      the data; "user", "idle", "idle_expires_at" before it
//	others       null; "dump", base64 of what RESTORE takes, before it
//
// A group is {"name": text, "last_id": id, "entries_read": n or null, "pending": [[id, delivered at, how often], …],
// "consumers": [{"name": text, "seen_at": at, "active_at": at, "pending": [id, …]}, …]}.
const (
	typeLeaderboard = "leaderboard"
	typeJSON        = "json"
	typeSession     = "session"
)

// Detect tells what a file is by its beginning, of which it consumes nothing.
func Detect(r *bufio.Reader) (format string, err error) {
	head, err := r.Peek(6)
	if err != nil && (err != io.EOF || len(head) == 0) {
		return "", unexpected(err)
	}
	switch {
	case bytes.HasPrefix(head, []byte("REDIS")), bytes.HasPrefix(head, []byte("VALKEY")):
		return "rdb", nil
	case head[0] == '{' || head[0] == '\n':
		return "jsonl", nil
	case head[0] == '*' || head[0] == '#':
		return "commands", nil
	}
	return "", fault.About(fault.InvalidArgument, "transfer.detect", "body", "this is no RDB file, no JSON lines and no commands: it begins with %q", head)
}

// A lineReader reads JSON lines, each value as it comes.
type lineReader struct {
	*Loader
	target Asker
	d      *jsontext.Decoder
}

// A bounded reader gives no more than what one text may take beyond what has been understood.
type bounded struct {
	r     io.Reader
	n     int64
	limit int64
	done  func() int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.n-b.done() > b.limit {
		return 0, fault.About(fault.TooLarge, "transfer.lines", "body", "at byte %d: a text or document of more than %d bytes", b.n, b.limit)
	}
	n, err := b.r.Read(p)
	b.n += int64(n)
	return n, err
}

// LoadLines loads JSON lines. The report is of what was done, also when there is an error.
func LoadLines(ctx context.Context, r io.Reader, target Asker, o Options) (*Report, error) {
	source := &bounded{r: r, limit: 2*o.MaxValue + 1<<20}
	d := jsontext.NewDecoder(source, jsontext.AllowDuplicateNames(true))
	source.done = d.InputOffset
	l := &lineReader{Loader: NewLoader(ctx, target, o, d.InputOffset), target: target, d: d}
	l.Report.Format = "jsonl"
	for {
		if d.PeekKind() == 0 { // the end, or no JSON: the token tells
			_, err := d.ReadToken()
			flushed := l.Flush()
			if err == io.EOF {
				err = flushed
			}
			l.Report.Bytes = d.InputOffset()
			return &l.Report, l.wrong(err)
		}
		if err := l.line(); err != nil {
			if flushed := l.Flush(); flushed != nil {
				err = flushed
			}
			l.Report.Bytes = d.InputOffset()
			return &l.Report, l.wrong(err)
		}
	}
}

var errLine = errors.New("not as JSON lines are written")

func (l *lineReader) bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errLine, fmt.Sprintf(format, args...))
}

// wrong says that the lines are, where that is what an error is about.
func (l *lineReader) wrong(err error) error {
	var syntax *jsontext.SyntacticError
	if err != nil && (errors.As(err, &syntax) || errors.Is(err, errLine) || errors.Is(err, io.ErrUnexpectedEOF)) && fault.From(err).Kind == fault.Internal {
		return fault.About(fault.InvalidArgument, "transfer.lines", "body", "at byte %d: %v", l.d.InputOffset(), err)
	}
	return err
}

// begin reads the token that begins an object or an array.
func (l *lineReader) begin(kind jsontext.Kind) error {
	t, err := l.d.ReadToken()
	if err == nil && t.Kind() != kind {
		err = l.bad("a %v stands where a %v is expected", t.Kind(), kind)
	}
	return err
}

// each reads the elements of an array.
func (l *lineReader) each(element func() error) error {
	if err := l.begin('['); err != nil {
		return err
	}
	for l.d.PeekKind() != ']' {
		if err := element(); err != nil {
			return err
		}
	}
	_, err := l.d.ReadToken()
	return err
}

// members reads the members of an object.
func (l *lineReader) members(member func(name string) error) error {
	if err := l.begin('{'); err != nil {
		return err
	}
	for l.d.PeekKind() != '}' {
		t, err := l.d.ReadToken()
		if err != nil {
			return err
		}
		if err := member(t.String()); err != nil {
			return err
		}
	}
	_, err := l.d.ReadToken()
	return err
}

// text reads a text.
func (l *lineReader) text() (b []byte, err error) {
	if l.d.PeekKind() == '{' {
		err = l.members(func(name string) error {
			if name != "base64" {
				return l.bad("no text has a member %.40q", name)
			}
			s, err := l.word()
			if err == nil {
				if b, err = base64.StdEncoding.DecodeString(s); err != nil {
					err = l.bad("%v", err)
				}
			}
			return err
		})
		return b, err
	}
	s, err := l.word()
	return []byte(s), err
}

func (l *lineReader) word() (string, error) {
	t, err := l.d.ReadToken()
	if err == nil && t.Kind() != '"' {
		err = l.bad("a %v stands where a string is expected", t.Kind())
	}
	if err != nil {
		return "", err
	}
	return t.String(), nil
}

// number reads a whole number; null is -1.
func (l *lineReader) number() (int64, error) {
	t, err := l.d.ReadToken()
	if err != nil {
		return 0, err
	}
	if t.Kind() == 'n' {
		return -1, nil
	}
	n, err := strconv.ParseInt(t.String(), 10, 64)
	if t.Kind() != '0' || err != nil {
		return 0, l.bad("%.40q stands where a whole number is expected", t.String())
	}
	return n, nil
}

func (l *lineReader) score() (float64, error) {
	t, err := l.d.ReadToken()
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(t.String(), 64)
	if err != nil || math.IsNaN(f) || t.Kind() != '0' && !math.IsInf(f, 0) {
		return 0, l.bad("%.40q is no score", t.String())
	}
	return f, nil
}

// id reads the id of an entry.
func (l *lineReader) id() (id rdb.StreamID, err error) {
	s, err := l.word()
	if err != nil {
		return id, err
	}
	ms, seq, ok := strings.Cut(s, "-")
	if id.Ms, err = strconv.ParseUint(ms, 10, 64); err == nil {
		id.Seq, err = strconv.ParseUint(seq, 10, 64)
	}
	if err != nil || !ok {
		return id, l.bad("%.40q is no id of an entry", s)
	}
	return id, nil
}

// A lineHead is what stands before a value.
type lineHead struct {
	db          int64
	key         []byte
	kind        string
	expireAt    int64
	contentType string
	flags       int64
	ties        string
	keep        int64
	keepOrder   string
	user        []byte
	idle        int64
	idleAt      int64
	dump        []byte
}

// line reads a line. Members that are not known are passed over.
func (l *lineReader) line() error {
	h := lineHead{}
	over := false
	err := l.members(func(name string) (err error) {
		if over && name == "value" {
			return l.bad("a line has two values")
		}
		switch name {
		case "db":
			h.db, err = l.number()
		case "key":
			h.key, err = l.text()
		case "type":
			h.kind, err = l.word()
		case "expires_at":
			h.expireAt, err = l.number()
		case "content_type":
			h.contentType, err = l.word()
		case "flags":
			h.flags, err = l.number()
		case "ties":
			h.ties, err = l.word()
		case "keep":
			h.keep, err = l.number()
		case "keep_order":
			h.keepOrder, err = l.word()
		case "user":
			h.user, err = l.text()
		case "idle":
			h.idle, err = l.number()
		case "idle_expires_at":
			h.idleAt, err = l.number()
		case "dump":
			var s string
			if s, err = l.word(); err == nil {
				if h.dump, err = base64.StdEncoding.DecodeString(s); err != nil {
					err = l.bad("%v", err)
				}
			}
		case "value":
			over = true
			err = l.valueOf(&h)
		default:
			err = l.d.SkipValue()
		}
		return err
	})
	if err == nil && !over {
		err = l.bad("a line has no value")
	}
	return err
}

var lineKinds = map[string]rdb.Kind{"string": rdb.String, "list": rdb.List, "set": rdb.Set, "zset": rdb.SortedSet, "hash": rdb.Hash, "stream": rdb.Stream}

// valueOf reads a value, and stores it.
func (l *lineReader) valueOf(h *lineHead) error {
	if h.kind == "" || h.key == nil || h.db < 0 || h.expireAt < 0 {
		return l.bad("key and type stand before the value, and db and expires_at are not negative")
	}
	kind, plain := lineKinds[h.kind]
	p, wanted := l.value(uint64(h.db), h.key, h.expireAt, kind)
	if !wanted {
		return l.d.SkipValue()
	}
	own := owner{h.key, kind, l.offset()}
	switch {
	case h.dump != nil:
		if err := l.d.SkipValue(); err != nil {
			return err
		}
		c := Command{[]byte("RESTORE"), h.key, strconv.AppendInt(nil, h.expireAt, 10), h.dump, []byte("ABSTTL")}
		if l.o.Mode == Replace {
			c = append(c, []byte("REPLACE"))
		}
		return l.other(h, own, c)
	case h.kind == "string" && (h.contentType != "" || h.flags != 0):
		return l.tagged(h, own)
	case plain:
		if err := l.tell(kind, p); err != nil {
			return err
		}
		return p.finish()
	case h.kind == typeJSON:
		v, err := l.d.ReadValue()
		if err != nil {
			return err
		}
		c := Command{[]byte("JSON.SET"), h.key, []byte("$"), bytes.Clone(v)}
		if h.expireAt > 0 {
			return l.own(h, own, c, command("PEXPIREAT", string(h.key), strconv.FormatInt(h.expireAt, 10)))
		}
		return l.own(h, own, c)
	case h.kind == typeSession:
		return l.session(h, own)
	case h.kind == typeLeaderboard:
		return l.leaderboard(h, own)
	}
	l.Report.skip(fmt.Sprintf("a value of the type %.40s, which has no dump", h.kind), string(h.key), own.at)
	return l.d.SkipValue()
}

// tell reads a value of a type that Redis has.
func (l *lineReader) tell(kind rdb.Kind, p rdb.Sink) error {
	switch kind {
	case rdb.String:
		text, err := l.text()
		if err != nil {
			return err
		}
		return p.String(text)
	case rdb.List, rdb.Set:
		return l.some(func() error {
			text, err := l.text()
			if err != nil {
				return err
			}
			return p.Element(text)
		})
	case rdb.SortedSet:
		return l.some(func() error { return l.member(p.Member) })
	case rdb.Hash:
		return l.some(func() error { return l.field(p) })
	}
	return l.stream(p)
}

// some is each for an array that is not empty.
func (l *lineReader) some(element func() error) error {
	n := 0
	err := l.each(func() error { n++; return element() })
	if err == nil && n == 0 {
		err = l.bad("an empty collection")
	}
	return err
}

// row reads an array of what its parts read; those after must may be missing.
func (l *lineReader) row(must int, parts ...func() error) error {
	n := 0
	err := l.each(func() error {
		if n == len(parts) {
			return l.bad("an array of more than %d elements", len(parts))
		}
		n++
		return parts[n-1]()
	})
	if err == nil && n < must {
		err = l.bad("an array of %d elements, which should have %d", n, must)
	}
	return err
}

func (l *lineReader) member(put func([]byte, float64) error) error {
	var name []byte
	var score float64
	err := l.row(2, func() (err error) { name, err = l.text(); return err }, func() (err error) { score, err = l.score(); return err })
	if err != nil {
		return err
	}
	return put(name, score)
}

func (l *lineReader) field(p rdb.Sink) error {
	var name, value []byte
	var at int64
	err := l.row(2, func() (err error) { name, err = l.text(); return err }, func() (err error) { value, err = l.text(); return err }, func() (err error) { at, err = l.number(); return err })
	if err != nil {
		return err
	}
	if at < 0 {
		return l.bad("deadline %d of a field", at)
	}
	return p.Field(name, value, at)
}

func (l *lineReader) stream(p rdb.Sink) error {
	marks := rdb.StreamMarks{Counted: true}
	told := false
	err := l.members(func(name string) (err error) {
		if told && name != "groups" {
			return l.bad("the member %.40q stands behind the groups", name)
		}
		switch name {
		case "entries":
			return l.each(func() error { return l.entry(p) })
		case "last_id":
			marks.Last, err = l.id()
		case "max_deleted_id":
			marks.Deleted, err = l.id()
		case "entries_added":
			var n int64
			n, err = l.number()
			marks.Added = uint64(n)
		case "groups":
			told = true
			if err := p.Stream(marks); err != nil {
				return err
			}
			return l.each(func() error { return l.group(p) })
		default:
			err = l.d.SkipValue()
		}
		return err
	})
	if err == nil && !told {
		err = p.Stream(marks)
	}
	return err
}

func (l *lineReader) entry(p rdb.Sink) error {
	var id rdb.StreamID
	var fields [][]byte
	err := l.row(2, func() (err error) { id, err = l.id(); return err }, func() error {
		return l.some(func() error {
			text, err := l.text()
			fields = append(fields, text)
			return err
		})
	})
	if err == nil && len(fields)%2 != 0 {
		err = l.bad("an entry has a name without a value")
	}
	if err != nil {
		return err
	}
	return p.Entry(id, fields)
}

// headed reads an object with members that are told at once, and others with rows behind: tell is called before the first row, or at
// the end. member reads a member, or returns what reads each of its rows.
func (l *lineReader) headed(tell func() error, member func(name string) (row func() error, err error)) error {
	told := false
	once := func() error {
		if told {
			return nil
		}
		told = true
		return tell()
	}
	err := l.members(func(name string) error {
		row, err := member(name)
		if err == nil && row != nil {
			if err = once(); err == nil {
				err = l.each(row)
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	return once()
}

func (l *lineReader) group(p rdb.Sink) error {
	var name []byte
	var last rdb.StreamID
	read := int64(-1)
	return l.headed(func() error { return p.Group(name, last, read) }, func(member string) (row func() error, err error) {
		switch member {
		case "name":
			name, err = l.text()
		case "last_id":
			last, err = l.id()
		case "entries_read":
			read, err = l.number()
		case "pending":
			row = func() error { return l.pending(p) }
		case "consumers":
			row = func() error { return l.consumer(p) }
		default:
			err = l.d.SkipValue()
		}
		return row, err
	})
}

func (l *lineReader) pending(p rdb.Sink) error {
	var id rdb.StreamID
	var at, times int64
	err := l.row(3, func() (err error) { id, err = l.id(); return err }, func() (err error) { at, err = l.number(); return err }, func() (err error) { times, err = l.number(); return err })
	if err == nil && (at < 0 || times < 0) {
		err = l.bad("an entry pending since %d, delivered %d times", at, times)
	}
	if err != nil {
		return err
	}
	return p.Pending(id, at, uint64(times))
}

func (l *lineReader) consumer(p rdb.Sink) error {
	var name []byte
	seen, active := int64(0), int64(-1)
	owed := func() error {
		id, err := l.id()
		if err != nil {
			return err
		}
		return p.Owed(id)
	}
	return l.headed(func() error { return p.Consumer(name, seen, active) }, func(member string) (row func() error, err error) {
		switch member {
		case "name":
			name, err = l.text()
		case "seen_at":
			seen, err = l.number()
		case "active_at":
			active, err = l.number()
		case "pending":
			row = owed
		default:
			err = l.d.SkipValue()
		}
		return row, err
	})
}

// tagged stores a string with what Redis's strings do not have.
func (l *lineReader) tagged(h *lineHead, own owner) error {
	text, err := l.text()
	if err != nil {
		return err
	}
	c := Command{[]byte("KV.SET"), h.key, text}
	if h.contentType != "" {
		c = append(c, []byte("TYPE"), []byte(h.contentType))
	}
	if h.flags != 0 {
		c = append(c, []byte("FLAGS"), strconv.AppendInt(nil, h.flags, 10))
	}
	if h.expireAt > 0 {
		c = append(c, []byte("PXAT"), strconv.AppendInt(nil, h.expireAt, 10))
	}
	return l.own(h, own, c)
}

func (l *lineReader) session(h *lineHead, own owner) error {
	v, err := l.d.ReadValue()
	if err != nil {
		return err
	}
	c := Command{[]byte("SESSION.CREATE"), h.key, bytes.Clone(v)}
	if len(h.user) > 0 {
		c = append(c, []byte("USER"), h.user)
	}
	now := l.o.Now().UnixMilli()
	if h.idle > 0 {
		if h.idleAt <= now {
			l.Report.Expired++
			return nil
		}
		c = append(c, []byte("IDLE"), strconv.AppendInt(nil, h.idle, 10))
	}
	if h.expireAt > 0 {
		c = append(c, []byte("TTL"), strconv.AppendInt(nil, h.expireAt-now, 10))
	}
	l.Report.note("sessions begin anew: their idle time counts from the import")
	return l.own(h, own, c)
}

func (l *lineReader) leaderboard(h *lineHead, own owner) error {
	c := Command{[]byte("LEADERBOARD.CREATE"), h.key}
	if h.ties != "" {
		c = append(c, []byte("TIES"), []byte(h.ties))
	}
	if h.expireAt > 0 {
		c = append(c, []byte("PX"), strconv.AppendInt(nil, h.expireAt-l.o.Now().UnixMilli(), 10))
	}
	if h.keep > 0 {
		c = append(c, []byte("KEEP"), strconv.AppendInt(nil, h.keep, 10), []byte(h.keepOrder))
	}
	all := []Command{c}
	done := true
	put := Command(nil)
	err := l.each(func() error {
		return l.member(func(name []byte, score float64) error {
			if put == nil {
				put = Command{[]byte("LEADERBOARD.PUT"), h.key, []byte("SET")}
			}
			put = append(put, strconv.AppendFloat(nil, score, 'g', -1, 64), name)
			if len(put) < 2000 {
				return nil
			}
			all, put = append(all, put), nil
			if !done {
				all = nil
				return nil
			}
			var err error
			done, err = l.several(h, own, all)
			all = []Command{}
			return err
		})
	})
	if err != nil || !done {
		return err
	}
	if put != nil {
		all = append(all, put)
	}
	if done, err = l.several(h, own, all); err != nil || !done {
		return err
	}
	l.Report.counted(h.kind)
	return nil
}

// own stores a value of a type of our own with commands.
func (l *lineReader) own(h *lineHead, own owner, commands ...Command) error {
	done, err := l.several(h, own, commands)
	if done && err == nil {
		l.Report.counted(h.kind)
	}
	return err
}

// several carries out commands that store a value. The first is the one that makes it: before it, what is there is removed
// or reason not to go on.
func (l *lineReader) several(h *lineHead, own owner, commands []Command) (done bool, err error) {
	if err := l.Flush(); err != nil {
		return false, err
	}
	if len(commands) == 0 {
		return true, nil
	}
	if name := string(commands[0][0]); name != "LEADERBOARD.PUT" {
		clear := Command{[]byte("DEL"), h.key}
		if l.o.Mode != Replace {
			exists, err := l.target.Exists(l.ctx, int(h.db), h.key)
			if err != nil {
				return false, err
			}
			if exists {
				return false, l.settle(own, errBusy)
			}
		} else {
			commands = append([]Command{clear}, commands...)
		}
	}
	results, err := l.do(int(h.db), commands, false)
	if err != nil {
		return false, err
	}
	for _, failure := range results {
		if failure != nil {
			return false, l.settle(own, failure)
		}
	}
	return true, nil
}

var errBusy = &fault.Error{Kind: fault.Conflict, Prefix: "BUSYKEY", Message: "Target key name already exists."}

// other stores a value by one command.
func (l *lineReader) other(h *lineHead, own owner, c Command) error {
	if err := l.Flush(); err != nil {
		return err
	}
	results, err := l.do(int(h.db), []Command{c}, false)
	if err != nil {
		return err
	}
	if results[0] != nil {
		return l.settle(own, results[0])
	}
	l.Report.counted(h.kind)
	return nil
}
